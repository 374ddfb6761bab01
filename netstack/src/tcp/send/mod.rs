//! The sending half of a connection: what was written and waits, and how much of it the next segment
//! carries.

mod chrono;
mod peer_window;
mod send_buffer;
mod send_flags;
mod sender;
mod space;
mod transmit;
mod window_usage;

pub use send_flags::SendFlags;
pub(crate) use sender::Source;
pub use sender::Written;
pub use transmit::Transmit;

pub(super) use send_buffer::{SendPlaces, Unit};
pub(super) use sender::{Held, LastSegment, Limits, Sender, SenderSetup, Span, Write};
pub(super) use space::RoomNews;
pub(super) use transmit::Kind;
