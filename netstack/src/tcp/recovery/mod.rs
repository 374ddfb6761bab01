//! Loss recovery: what is lost, what to send again, and what that means for the window.
//!
//! With SACK, losses are found by time ([`rack`]), and a probe finds out about a flight's last
//! segments ([`tlp`]); without it, by three duplicate acknowledgments (RFC 5681, RFC 6582). [`prr`]
//! paces what recovery lets out. The retransmission time-out ([`rtt`]) is the last resort. What
//! proves to have been spurious is undone ([`undo`], and F-RTO in [`loss_recovery`]).

mod loss_recovery;
mod prr;
mod rack;
mod reordering;
mod rtt;
mod scoreboard;
mod state;
mod timeouts;
mod tlp;
mod undo;

pub use rtt::RttEstimator;
pub use state::CongestionState;

pub(super) use loss_recovery::{AckInput, PlainAck, Rearm, Recovery};
pub(super) use scoreboard::BoardPlaces;
