//! What travels with datagrams: the values of [`UdpSocket::recv_msg`](super::UdpSocket::recv_msg) and
//! [`UdpSocket::send_msg`](super::UdpSocket::send_msg).

use crate::wire::Ecn;
use std::net::{IpAddr, SocketAddr};

/// The ECN field of a packet whose transport is ECN-capable (RFC 3168 §5), as in `quinn-udp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EcnCodepoint {
    /// ECT(0).
    Ect0 = 0b10,
    /// ECT(1).
    Ect1 = 0b01,
    /// Congestion experienced.
    Ce = 0b11,
}

impl EcnCodepoint {
    /// From the lower two bits of a traffic class; none if the transport is not ECN-capable.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits & 3 {
            0b10 => Some(Self::Ect0),
            0b01 => Some(Self::Ect1),
            0b11 => Some(Self::Ce),
            _ => None,
        }
    }

    /// The field.
    pub(super) const fn field(codepoint: Option<Self>) -> Ecn {
        match codepoint {
            Some(codepoint) => Ecn::from_bits(codepoint as u8),
            None => Ecn::NotEct,
        }
    }
}

/// What came with datagrams that were received into one buffer. The fields are those of `quinn-udp` 0.5 and 0.6, but for
/// `timestamp`: a stack does not know what time of day it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecvMeta {
    /// The sender.
    pub addr: SocketAddr,
    /// Bytes in the buffer.
    pub len: usize,
    /// Bytes of each datagram in the buffer; the last may be shorter. It equals `len` if there is one.
    pub stride: usize,
    /// The ECN field.
    pub ecn: Option<EcnCodepoint>,
    /// The address that they were sent to.
    pub dst_ip: Option<IpAddr>,
    /// The number of the interface that they came in on, which counts from one.
    pub interface_index: Option<u32>,
    /// The whole traffic class, or type of service over IPv4, if the socket asks for it
    /// ([`UdpSocket::set_recv_tos_v4`](super::UdpSocket::set_recv_tos_v4),
    /// [`UdpSocket::set_recv_tclass_v6`](super::UdpSocket::set_recv_tclass_v6)).
    pub traffic_class: Option<u8>,
}

impl Default for RecvMeta {
    /// Nothing, from nowhere: to be filled in.
    fn default() -> Self {
        let addr = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 0], 0));
        Self { addr, len: 0, stride: 0, ecn: None, dst_ip: None, interface_index: None, traffic_class: None }
    }
}

/// Datagrams to send in one call. The fields are those of `quinn-udp`.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// The receiver.
    pub destination: SocketAddr,
    /// The ECN field.
    pub ecn: Option<EcnCodepoint>,
    /// The payload, or the payloads of several datagrams, one behind the other.
    pub contents: &'a [u8],
    /// Bytes of each datagram but the last, if `contents` are several.
    pub segment_size: Option<usize>,
    /// The address to send from. `None`: that of the socket, or of the interface.
    pub src_ip: Option<IpAddr>,
}
