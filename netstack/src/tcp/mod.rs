//! The transmission control protocol, without I/O: no clock, no randomness, no socket, no waker.
//! The same inputs give the same outputs, bit for bit.
//!
//! # Who calls what
//! The stack finds the connection of a segment and calls [`Connection::on_segment`]; the steps of
//! RFC 9293 §3.10.7.4 are in `connection/on_segment.rs`, in their order. They update the receiving half
//! (`receive/`, which owns the reader's queue and decides when to acknowledge) and the sending half
//! (`send/`, with `recovery/` for what is in flight and `congestion/` for how much may be). Then the
//! stack asks [`Connection::poll_transmit`] what to send (`connection/transmit.rs`) and when to call
//! [`Connection::on_timeout`] (`connection/on_timeout.rs`).
//!
//! A connection in its handshake is another type (`handshake/`): [`Opening`] on the active side,
//! [`SynEntry`] on the passive side. After its end it is a [`TimeWait`] record.
//!
//! # Rooms
//! A room has types that own their fields, and methods by which the others ask and notify them. From the
//! ground up: `ecn/`; `receive/`, which reports the marks that ECN counts; `congestion/`, window
//! arithmetic behind a trait; `recovery/`, which moves that window; `path/`, which holds it together with
//! the round-trip time, the rate and the packet size; `send/`, which asks `path/` and `recovery/` how much
//! may leave; `handshake/`; and `connection/`, which is made of parts from all of them, and whose files
//! pass on what happens from one part to the others. An [`Opening`] makes a [`Connection`] and is above
//! it; all else in `handshake/` is below.
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

mod answer_limit;
mod backoff;
mod compact;
mod congestion;
mod connection;
mod delivery_rate;
mod ecn;
mod error;
mod handshake;
mod info;
mod options;
mod path;
mod receive;
mod recovery;
mod reset;
mod send;
mod seq;
mod setup;
mod state;
mod timers;
mod timestamps;
mod window;

#[cfg(test)]
mod tests;

pub use congestion::{
    AckSample, CongestionChoice, CongestionControl, CongestionError, CongestionRegistry, CongestionStart,
};
pub use connection::{
    Completion, Connection, FastOpenSyn, Pruned, QuietAck, Resting, SpareConnection, SpareResting,
};
pub use delivery_rate::{LossSample, RateSample};
pub use ecn::EcnMode;
pub use error::TcpError;
pub use handshake::{
    COOKIE_LIFETIME, CookieCheck, CookieInput, FastOpenAttempt, FastOpenFail, FastOpenReport, IsnGenerator,
    Opening, OpeningStep, PassiveEnd, SynCookies, SynDataFate, SynEntry, SynParts, SynRetries, SynStep,
    SynTimeout, TimeWait, TimeWaitStep,
};
pub use info::TcpInfo;
pub use options::SocketOptions;
pub use path::{MtuReport, Path, PathMetrics};
#[cfg(any(test, feature = "simulation"))]
pub use receive::Holdings;
pub use recovery::{CongestionState, RttEstimator};
pub use reset::Reset;
pub(crate) use reset::reset_for_unknown;
pub(crate) use send::Source;
pub use send::{SendFlags, Transmit, Written};
pub use seq::Seq;
pub use setup::Setup;
pub use state::{Input, State};
pub use window::WindowScale;
