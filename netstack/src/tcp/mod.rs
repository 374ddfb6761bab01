//! The transmission control protocol, without I/O: no clock, no randomness, no socket, no waker.
//! The same inputs give the same outputs, bit for bit.
//!
//! # Who calls what
//! The stack finds the connection of a segment and calls [`Connection::on_segment`]; the steps of
//! RFC 9293 §3.10.7.4 are in `on_segment.rs`, in their order. They update the receiving half
//! (`receiver.rs`, which owns the reader's queue and decides when to acknowledge in `ack.rs`) and the
//! sending half (`sender.rs`, with `recovery/` for what is in flight and `congestion/` for how much
//! may be). Then the stack asks [`Connection::poll_transmit`] what to send (`transmit.rs`) and when
//! to call [`Connection::on_timeout`] (`on_timeout.rs`).
//!
//! A connection in its handshake is another type: [`Opening`] on the active side (`handshake.rs`),
//! [`SynEntry`] on the passive side (`syn_queue.rs`). After its end it is a [`TimeWait`] record.
//!
//! # States
//! Every transition goes through the table in `state.rs`; this is the table, and a test compares
//! the two. `Abort` leads from everywhere to CLOSED.
//!
//! ```text
//! CLOSED        PassiveOpen -> LISTEN, ActiveOpen -> SYN-SENT
//! LISTEN        Syn -> SYN-RECEIVED, Close -> CLOSED
//! SYN-SENT      Syn -> SYN-RECEIVED, SynAck -> ESTABLISHED, Close -> CLOSED
//! SYN-RECEIVED  AckOfSyn -> ESTABLISHED, Close -> FIN-WAIT-1
//! ESTABLISHED   Close -> FIN-WAIT-1, Fin -> CLOSE-WAIT
//! FIN-WAIT-1    AckOfFin -> FIN-WAIT-2, Fin -> CLOSING
//! FIN-WAIT-2    Fin -> TIME-WAIT
//! CLOSE-WAIT    Close -> LAST-ACK
//! CLOSING       AckOfFin -> TIME-WAIT
//! LAST-ACK      AckOfFin -> CLOSED
//! TIME-WAIT     TimeWaitOver -> CLOSED
//! ```

mod ack;
mod assembler;
mod chrono;
mod congestion;
mod connection;
mod delivery_rate;
mod ecn;
mod error;
mod fast_open;
mod handshake;
mod info;
mod isn;
mod on_segment;
mod on_timeout;
mod options;
mod pacing;
mod passive_open;
mod path;
mod pmtu;
mod receiver;
mod recovery;
mod recv_buffer;
mod right_sizing;
mod send_buffer;
mod send_flags;
mod sender;
mod seq;
mod sizing;
mod state;
mod syn_cookie;
mod syn_data;
mod syn_queue;
mod time_wait;
mod timers;
mod timestamps;
mod transmit;
mod window;

#[cfg(test)]
mod tests;

pub use congestion::{
    AckSample, CongestionChoice, CongestionControl, CongestionError, CongestionRegistry, CongestionStart,
};
pub use connection::{Completion, Connection, Written};
pub use delivery_rate::{LossSample, RateSample};
pub use ecn::EcnMode;
pub use error::TcpError;
pub use fast_open::{CookieCheck, CookieInput, FastOpenFail, FastOpenReport, SynDataFate};
pub use handshake::{Opening, OpeningStep};
pub use info::TcpInfo;
pub use isn::IsnGenerator;
pub use options::SocketOptions;
pub use passive_open::PassiveEnd;
pub use path::{Path, PathMetrics};
pub use recovery::{Phase, RttEstimator};
pub use send_flags::SendFlags;
pub use seq::Seq;
pub use state::{Input, State};
pub use syn_cookie::{COOKIE_LIFETIME, SynCookies};
pub use syn_data::FastOpenAttempt;
pub use syn_queue::{Patience, SynEntry, SynParts, SynStep, SynTimeout};
pub use time_wait::{TimeWait, TimeWaitStep};
pub use transmit::Transmit;
pub use window::WindowScale;
