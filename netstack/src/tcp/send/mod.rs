//! The sending half of a connection: what was written and waits, how much of it the next segment
//! carries, how large packets may be, and when one may leave.

mod chrono;
mod pacing;
mod pmtu;
mod send_buffer;
mod send_flags;
mod sender;
mod sizing;

pub use send_flags::SendFlags;

pub(super) use chrono::{Chrono, Holds};
pub(super) use pacing::Pacer;
pub(super) use pmtu::{MtuProbe, PacketSize};
pub(super) use sender::{Sender, SenderSetup};
pub(super) use sizing::Limits;
