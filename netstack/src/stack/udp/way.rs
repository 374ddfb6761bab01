//! The way of a datagram, as a value.

use crate::ip::AddressKind;
use std::net::{IpAddr, SocketAddr};

/// The way of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) interface: u16,
    pub(super) source: IpAddr,
    /// As on the wire.
    pub(super) remote: SocketAddr,
    pub(super) kind: AddressKind,
}

/// Where a datagram goes, as far as the caller says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// The address to send from.
    pub(super) source: Option<IpAddr>,
}
