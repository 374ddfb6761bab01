//! [`UnboundUdpSocket`].

use super::socket::UdpSocket;
use crate::error::os;
use crate::net::stack::Stack;
use crate::stack::{Family, UnboundUdp};
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// A UDP socket that is not bound yet, for the options that have to be set before.
///
/// # Examples
/// Two sockets that share a port:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// use netstack::net::udp::UnboundUdpSocket;
///
/// let open = || {
///     let mut socket = UnboundUdpSocket::new_v4_on(&stack)?;
///     socket.set_reuse_port(true);
///     socket.bind("127.0.0.1:5000".parse().unwrap())
/// };
/// let (first, second) = (open()?, open()?);
/// assert_eq!(first.local_addr()?, second.local_addr()?);
/// # Ok(())
/// # }
/// ```
pub struct UnboundUdpSocket {
    stack: Stack,
    socket: UnboundUdp,
}

impl UnboundUdpSocket {
    /// A new IPv4 socket of the current stack ([`Stack::current`]).
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if there is no current stack.
    pub fn new_v4() -> io::Result<Self> {
        Self::new_v4_on(&Stack::current()?)
    }

    /// A new IPv6 socket of the current stack ([`Stack::current`]). It takes IPv4 as well, unless
    /// [`UnboundUdpSocket::set_only_v6`] is set.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if there is no current stack.
    pub fn new_v6() -> io::Result<Self> {
        Self::new_v6_on(&Stack::current()?)
    }

    /// A new IPv4 socket of `stack`.
    ///
    /// # Errors
    /// If the stack has ended.
    pub fn new_v4_on(stack: &Stack) -> io::Result<Self> {
        Self::new(stack, Family::V4)
    }

    /// A new IPv6 socket of `stack`.
    ///
    /// # Errors
    /// If the stack has ended.
    pub fn new_v6_on(stack: &Stack) -> io::Result<Self> {
        Self::new(stack, Family::V6)
    }

    fn new(stack: &Stack, family: Family) -> io::Result<Self> {
        stack.core().ensure_open()?;
        let socket = UnboundUdp::new(stack.engine().core(), family);
        Ok(Self { stack: stack.clone(), socket })
    }

    /// Sets `SO_REUSEADDR`: sockets that all have it set may be bound to one port. What is for one of them goes
    /// to the one that was bound last; what is for a group or for all hosts goes to all of them. Default false.
    pub fn set_reuse_address(&mut self, reuse: bool) {
        self.socket.ip.set_reuse_address(reuse);
    }

    /// Sets `SO_REUSEPORT`: sockets that all have it set may be bound to one port, and datagrams are spread over
    /// them by the hash of their addresses and ports. Default false.
    pub fn set_reuse_port(&mut self, reuse: bool) {
        self.socket.ip.set_reuse_port(reuse);
    }

    /// Sets `IPV6_V6ONLY`: whether the socket is restricted to IPv6. Default false.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_only_v6(&mut self, only: bool) -> io::Result<()> {
        self.socket.ip.set_only_v6(only)
    }

    /// Sets `IP_FREEBIND`: binding accepts the address of another host, or one that the stack will have later.
    /// It is not needed for the addresses of [`Interface::any_ip`](crate::Interface::any_ip). Over IPv4, sending
    /// from such an address also needs [`UnboundUdpSocket::set_ip_transparent_v4`]. Default false.
    pub fn set_freebind_v4(&mut self, freebind: bool) {
        self.socket.ip.freebind = freebind;
    }

    /// Sets `IPV6_FREEBIND`, which is one option with `IP_FREEBIND`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_freebind_v6(&mut self, freebind: bool) -> io::Result<()> {
        self.ensure_v6()?;
        self.set_freebind_v4(freebind);
        Ok(())
    }

    /// Sets `IP_TRANSPARENT`: binding, connecting and sending accept the address of another host as the local
    /// address. Default false.
    pub fn set_ip_transparent_v4(&mut self, transparent: bool) {
        self.socket.ip.transparent = transparent;
    }

    /// Sets `IPV6_TRANSPARENT`, which is one option with `IP_TRANSPARENT`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_ip_transparent_v6(&mut self, transparent: bool) -> io::Result<()> {
        self.ensure_v6()?;
        self.set_ip_transparent_v4(transparent);
        Ok(())
    }

    fn ensure_v6(&self) -> io::Result<()> {
        if self.socket.ip.family() == Family::V6 { Ok(()) } else { Err(os(libc::ENOPROTOOPT)) }
    }

    /// Binds the socket to an interface of its stack (`SO_BINDTODEVICE`). `None` removes the binding.
    ///
    /// # Errors
    /// `ENODEV` if there is no interface of this name.
    pub fn bind_device(&mut self, interface: Option<&str>) -> io::Result<()> {
        self.socket.ip.bind_device(self.stack.engine().core(), interface)
    }

    /// Binds the socket to an address of its stack, or to a group. Port 0 selects a free port.
    ///
    /// # Errors
    /// `EADDRINUSE`; `EADDRNOTAVAIL` if the stack does not have the address; `EAFNOSUPPORT` for an address of
    /// the other family; `EINVAL` for a link-local address without a scope.
    pub fn bind(self, addr: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::from_unbound(&self.stack, self.socket, addr)
    }
}

impl fmt::Debug for UnboundUdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnboundUdpSocket").field("stack", &self.stack.name()).finish_non_exhaustive()
    }
}
