//! The path to the peer: what is known of it before a connection begins, and what a connection finds
//! out: its round-trip time, how much it takes and how fast, and how large packets may be.

mod known;
mod pacing;
mod packet_size;
mod state;

pub use known::{MtuReport, Path, PathMetrics};

pub(super) use known::payload_of;
pub(super) use packet_size::ProbeFate;
pub(super) use state::{Departure, PathSetup, PathState};
