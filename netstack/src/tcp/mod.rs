//! The transmission control protocol, without I/O.

mod segment;
mod seq;

pub use segment::{Flags, MAX_SACK_BLOCKS, Options, SackBlock, Segment, Timestamps};
pub use seq::{Seq, SeqNum};
