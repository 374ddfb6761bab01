//! UDP sockets.
//!
//! [`UdpSocket`] is that of `tokio::net`, with the same methods, errors and cancel safety. There are no
//! conversions from and to file descriptors, because there are no file descriptors. There are additional
//! constructors that take a stack, the options that `socket2` has, and [`UdpSocket::recv_msg`], [`UdpSocket::recv_chunk`] and
//! [`UdpSocket::send_msg`], which receive and send several datagrams in one call.
//!
//! # Memory
//! A socket keeps what it receives until it is read, up to `SO_RCVBUF`
//! ([`UdpSocket::set_recv_buffer_size`]). The limit is one of memory: a datagram counts with the buffer that
//! holds it. What does not fit is dropped and counted ([`UdpSocket::dropped`]). What a device does not take
//! waits in the socket, up to `SO_SNDBUF`, and sending waits while that is full.
//!
//! # Errors
//! A connected socket reports ICMP errors that are final, such as "port unreachable" (`ECONNREFUSED`), once:
//! by the next call that sends or receives, or by [`UdpSocket::take_error`]. A socket that is not connected
//! reports none. Both is as in Linux.
//!
//! # Fragments and the path MTU
//! A datagram that is longer than the MTU of its path is sent in fragments, unless
//! [`UdpSocket::set_mtu_discover`] forbids that: then sending it fails with `EMSGSIZE`. The path MTUs that
//! ICMP reports are those of the stack, so that TCP and UDP learn from one another.
//!
//! # Groups
//! Interfaces are named by their address, or by their number, which counts from one in the order in which
//! they were given to the stack; the loopback interface is the last. No IGMP or MLD message is sent for a
//! membership: what is at the other end of a device has to know what to send.

mod forwarder;
mod msg;
mod socket;
mod unbound;

pub use crate::stack::UdpForwarderStats;
pub use forwarder::{UdpFlow, UdpForwarder, UdpForwarderConfig};
pub use msg::{EcnCodepoint, RecvMeta, Transmit};
pub use socket::UdpSocket;
pub use unbound::UnboundUdpSocket;
