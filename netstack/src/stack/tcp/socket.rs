//! A TCP socket before it connects or listens.

use super::Tcp;
use crate::stack::core::Core;
use crate::stack::flow::Family;
use crate::stack::socket::{IpSocket, SocketKind};
use crate::tcp::SocketOptions;
use std::io;
use std::net::SocketAddr;

/// A socket that is neither connected nor listening yet. Dropping it releases its port.
#[derive(Debug)]
pub struct Unconnected {
    /// The part that the sockets of all protocols have.
    pub ip: IpSocket,
    /// The options that the connection, or those that the listener accepts, start with.
    pub options: SocketOptions,
}

impl Unconnected {
    /// A socket with default options.
    pub fn new(core: &Core, tcp: &Tcp, family: Family) -> Self {
        let options = SocketOptions::with_congestion(core.config(), tcp.congestion.clone());
        Self { ip: IpSocket::new(core, family), options }
    }
}

impl Tcp {
    /// Binds a socket: reserves the port, or a free ephemeral port for port 0.
    ///
    /// # Errors
    /// `EINVAL` if it is bound already, `EAFNOSUPPORT` for an address of the other family,
    /// `EADDRNOTAVAIL` if the stack does not have the address and neither [`SocketOptions::freebind`] nor
    /// [`SocketOptions::transparent`] is set, `EADDRINUSE`.
    pub fn bind(&self, core: &Core, socket: &mut Unconnected, address: SocketAddr) -> io::Result<()> {
        socket.ip.freebind = socket.options.freebind;
        socket.ip.transparent = socket.options.transparent;
        socket.ip.bind(core, &self.ports, address, SocketKind::Stream)
    }
}
