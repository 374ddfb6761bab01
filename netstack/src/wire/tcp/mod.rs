//! TCP headers: [`Segment`] is one as a value, `header.rs` reads and writes its bytes.

mod burst;
mod fast_open;
mod header;
mod segment;
mod seq;

pub use burst::Burst;
pub use fast_open::{FastOpenCookie, FastOpenOption};
pub(super) use header::CHECKSUM_OFFSET;
pub use header::{
    ChecksumMode, MAX_TCP_OPTIONS, TCP_HEADER_LEN, TcpDatagram, TcpHeaderError, emit_tcp, options_len,
    parse_ports, parse_tcp, tcp_checksum_ok,
};
pub use segment::{Flags, MAX_SACK_BLOCKS, Options, SackBlock, Segment, Timestamps};
pub use seq::SeqNum;
