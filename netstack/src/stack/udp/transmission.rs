//! What an application sends in one call.

use crate::wire::Ecn;
use std::net::{IpAddr, SocketAddr};

/// A datagram to send, or several of one length.
#[derive(Clone, Copy, Debug)]
pub struct Transmission<'a> {
    /// The payload, or the payloads of several datagrams, one behind the other.
    pub contents: &'a [u8],
    /// Where to. Default: the peer that the socket is connected to.
    pub destination: Option<SocketAddr>,
    /// The address of the stack to send from. Default: that of the socket, or of the interface.
    pub source: Option<IpAddr>,
    /// The ECN field. Default: the lower two bits of `IP_TOS` or `IPV6_TCLASS`.
    pub ecn: Option<Ecn>,
    /// Bytes of each datagram but the last, if `contents` are several (`UDP_SEGMENT`).
    pub segment_size: Option<usize>,
}

impl<'a> Transmission<'a> {
    /// The most datagrams that one call sends, as in Linux before 6.9 (`UDP_MAX_SEGMENTS`).
    pub const MAX_SEGMENTS: usize = 64;

    /// One datagram to the peer that the socket is connected to.
    pub const fn new(contents: &'a [u8]) -> Self {
        Self { contents, destination: None, source: None, ecn: None, segment_size: None }
    }
}
