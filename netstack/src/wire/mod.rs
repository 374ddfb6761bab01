//! Headers on the wire: the values of their fields, and bytes to values and back.
//!
//! The only module that names `smoltcp`, whose packet views give access to the fixed header fields.
//! Options, extension headers and checksums are handled here: a TCP header may carry four SACK
//! blocks, and checksums are summed over payload in pieces.
//!
//! No function here panics on input from a peer, allocates, or loops for longer than the length of
//! the header.

// What peers send is read here: nothing of it panics, by construction. Tests may.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects))]

mod checksum;
mod ecn;
mod ends;
mod extensions;
mod header;
mod icmp;
mod ip;
mod offload;
mod parse;
pub mod protocol;
mod tcp;
mod udp;

pub use checksum::{Checksum, ChecksumOffload, checksum, pseudo_header, transport_checksum_ok};
pub use ecn::{AccEcn, Ecn};
pub(crate) use ends::{Ends, IpFields};
pub use extensions::Problem;
pub use header::HeaderBuf;
pub use icmp::{ICMP_HEADER_LEN, IcmpMessage, Quoted, emit_icmp, parse_icmp, parse_quoted, protocol_offset};
pub use ip::{Fragment, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpError, IpHeader, IpMeta, emit_ip, ip_header_len};
pub use offload::{Gso, complete_checksum, mark_congestion, split_super_segment};
pub use parse::{extension_problem, parse_ip};
pub use tcp::{
    Burst, ChecksumMode, FastOpenCookie, FastOpenOption, Flags, MAX_SACK_BLOCKS, MAX_TCP_OPTIONS, Options,
    PlainSegment, SackBlock, Segment, SeqNum, TCP_HEADER_LEN, TcpDatagram, TcpHeaderError, Timestamps,
    emit_tcp, options_len, parse_ports, parse_tcp, tcp_checksum_ok,
};
pub use udp::{
    UDP_HEADER_LEN, UdpDatagram, UdpHeader, UdpHeaderError, UdpHeaders, emit_udp, parse_udp, udp_checksum_ok,
};

#[cfg(test)]
mod tests;
