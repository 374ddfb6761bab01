//! Ping and raw sockets.
//!
//! [`PingSocket`] sends ICMP echo requests and receives the replies, as Linux's unprivileged ICMP socket
//! (`SOCK_DGRAM` with `IPPROTO_ICMP` or `IPPROTO_ICMPV6`): messages begin with the ICMP header, and the stack
//! fills in the identifier and the checksum. [`RawSocket`] receives a copy of each packet of a protocol, from its
//! IP header on, and sends packets that the application makes, as with `IP_HDRINCL`. It does not see TCP, whose
//! path is not to be slowed down; a [`PcapTap`](crate::device::PcapTap) does.

mod socket;

pub use socket::{PingSocket, RawSocket};
