//! TCP headers: [`Segment`] is one as a value, `header.rs` reads its bytes and `emit.rs` writes them.

mod burst;
mod emit;
mod fast_open;
mod header;
mod plain;
mod segment;
mod seq;

pub use burst::Burst;
pub use emit::{ChecksumMode, TcpDatagram, emit_tcp, options_len};
pub use fast_open::{FastOpenCookie, FastOpenOption};
pub(super) use header::CHECKSUM_OFFSET;
pub use header::{MAX_TCP_OPTIONS, TCP_HEADER_LEN, TcpHeaderError, parse_ports, parse_tcp, tcp_checksum_ok};
pub use plain::PlainSegment;
pub use segment::{Flags, MAX_SACK_BLOCKS, Options, SackBlock, Segment, Timestamps};
pub use seq::SeqNum;
