//! UDP.

use super::mode::Mode;
use crate::net::lookup::{ToSocketAddrs, none_worked, resolve_blocking};
use crate::net::park::block_on;
use crate::net::stack::Stack;
use crate::net::udp as asynchronous;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A UDP socket: `std::net::UdpSocket`.
pub struct UdpSocket {
    shared: Arc<Socket>,
}

struct Socket {
    socket: asynchronous::UdpSocket,
    mode: Mode,
}

/// Constructors, addresses, and how it blocks.
impl UdpSocket {
    /// Binds a socket to `addr` on the current stack. If it resolves to several addresses, they are tried in turn.
    ///
    /// # Errors
    /// As [`net::UdpSocket::bind`](crate::net::UdpSocket::bind).
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::bind_on(&Stack::current()?, addr)
    }

    /// Like [`UdpSocket::bind`], on `stack`.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub fn bind_on<A: ToSocketAddrs>(stack: &Stack, addr: A) -> io::Result<Self> {
        let addresses = resolve_blocking(stack.core().resolver(), addr.to_target())?;
        let binding = asynchronous::UdpSocket::bind_on(stack, &addresses[..]);
        block_on(binding, None).expect("it waits without a limit").map(Self::from)
    }

    /// The socket itself, with all its options.
    pub fn get_ref(&self) -> &asynchronous::UdpSocket {
        &self.shared.socket
    }

    /// Another handle to the same socket.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { shared: Arc::clone(&self.shared) })
    }

    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.socket.local_addr()
    }

    /// The address of the peer that the socket is connected to.
    ///
    /// # Errors
    /// `ENOTCONN` if it is not connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.shared.socket.peer_addr()
    }

    /// Connects the socket to `addr`: it is the default receiver, and nothing else is received from now on.
    ///
    /// # Errors
    /// As [`net::UdpSocket::connect`](crate::net::UdpSocket::connect).
    pub fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        let addresses = self.resolve(addr)?;
        let connecting = self.shared.socket.connect(&addresses[..]);
        block_on(connecting, None).expect("it waits without a limit")
    }

    /// Sets for how long receiving blocks at most, for all clones. Then it fails with
    /// [`io::ErrorKind::WouldBlock`]. Default none.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if it is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.mode.read.set(timeout)
    }

    /// As [`UdpSocket::set_read_timeout`], for sending.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if it is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.mode.write.set(timeout)
    }

    /// For how long receiving blocks.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.shared.mode.read.get())
    }

    /// For how long sending blocks.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.shared.mode.write.get())
    }

    /// Sets whether operations fail with [`io::ErrorKind::WouldBlock`] instead of blocking, for all clones. Default
    /// false.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.shared.mode.set_nonblocking(nonblocking);
        Ok(())
    }

    fn resolve<A: ToSocketAddrs>(&self, addr: A) -> io::Result<Vec<SocketAddr>> {
        resolve_blocking(self.shared.socket.stack().core().resolver(), addr.to_target())
    }
}

/// Datagrams.
impl UdpSocket {
    /// Receives a datagram, and says who sent it. What does not fit into `buf` is lost.
    ///
    /// # Errors
    /// As [`net::UdpSocket::recv_from`](crate::net::UdpSocket::recv_from).
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.reading(|socket| socket.try_recv_from(buf))
    }

    /// As [`UdpSocket::recv_from`], and leaves the datagram.
    ///
    /// # Errors
    /// As [`UdpSocket::recv_from`].
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.reading(|socket| socket.try_peek_from(buf))
    }

    /// Receives a datagram.
    ///
    /// # Errors
    /// As [`net::UdpSocket::recv`](crate::net::UdpSocket::recv).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.reading(|socket| socket.try_recv(buf))
    }

    /// As [`UdpSocket::recv`], and leaves the datagram.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.reading(|socket| socket.try_peek(buf))
    }

    /// Sends a datagram to the first address that `addr` resolves to.
    ///
    /// # Errors
    /// As [`net::UdpSocket::send_to`](crate::net::UdpSocket::send_to).
    pub fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let target = self.resolve(addr)?.first().copied().ok_or_else(|| none_worked(None))?;
        self.writing(|socket| socket.try_send_to(buf, target))
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    /// As [`net::UdpSocket::send`](crate::net::UdpSocket::send).
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.writing(|socket| socket.try_send(buf))
    }

    fn reading<R>(
        &self,
        mut attempt: impl FnMut(&asynchronous::UdpSocket) -> io::Result<R>,
    ) -> io::Result<R> {
        let Socket { socket, mode } = &*self.shared;
        mode.block(&mode.read, || socket.readable(), || attempt(socket))
    }

    fn writing<R>(
        &self,
        mut attempt: impl FnMut(&asynchronous::UdpSocket) -> io::Result<R>,
    ) -> io::Result<R> {
        let Socket { socket, mode } = &*self.shared;
        mode.block(&mode.write, || socket.writable(), || attempt(socket))
    }
}

/// Options that `std` has. The others are at [`UdpSocket::get_ref`].
impl UdpSocket {
    /// `SO_BROADCAST`. Default false.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.shared.socket.broadcast()
    }

    /// Sets `SO_BROADCAST`.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.shared.socket.set_broadcast(on)
    }

    /// `IP_TTL`. Default 64.
    pub fn ttl(&self) -> io::Result<u32> {
        self.shared.socket.ttl()
    }

    /// Sets `IP_TTL`.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.shared.socket.set_ttl(ttl)
    }

    /// `IP_MULTICAST_LOOP`. Default true.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.shared.socket.multicast_loop_v4()
    }

    /// Sets `IP_MULTICAST_LOOP`.
    pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()> {
        self.shared.socket.set_multicast_loop_v4(on)
    }

    /// `IP_MULTICAST_TTL`. Default 1.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.shared.socket.multicast_ttl_v4()
    }

    /// Sets `IP_MULTICAST_TTL`.
    ///
    /// # Errors
    /// `EINVAL` if it is more than 255.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.shared.socket.set_multicast_ttl_v4(ttl)
    }

    /// `IPV6_MULTICAST_LOOP`. Default true.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.shared.socket.multicast_loop_v6()
    }

    /// Sets `IPV6_MULTICAST_LOOP`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> {
        self.shared.socket.set_multicast_loop_v6(on)
    }

    /// Joins a group: `IP_ADD_MEMBERSHIP`.
    ///
    /// # Errors
    /// As [`net::UdpSocket::join_multicast_v4`](crate::net::UdpSocket::join_multicast_v4).
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.shared.socket.join_multicast_v4(*group, *interface)
    }

    /// Leaves a group: `IP_DROP_MEMBERSHIP`.
    ///
    /// # Errors
    /// As [`net::UdpSocket::leave_multicast_v4`](crate::net::UdpSocket::leave_multicast_v4).
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.shared.socket.leave_multicast_v4(*group, *interface)
    }

    /// Joins a group: `IPV6_ADD_MEMBERSHIP`.
    ///
    /// # Errors
    /// As [`net::UdpSocket::join_multicast_v6`](crate::net::UdpSocket::join_multicast_v6).
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.shared.socket.join_multicast_v6(group, interface)
    }

    /// Leaves a group: `IPV6_DROP_MEMBERSHIP`.
    ///
    /// # Errors
    /// As [`net::UdpSocket::leave_multicast_v6`](crate::net::UdpSocket::leave_multicast_v6).
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.shared.socket.leave_multicast_v6(group, interface)
    }

    /// `SO_ERROR`: the error that has not been reported yet, if there is one. Taking it clears it.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.shared.socket.take_error()
    }
}

impl From<asynchronous::UdpSocket> for UdpSocket {
    fn from(socket: asynchronous::UdpSocket) -> Self {
        Self { shared: Arc::new(Socket { socket, mode: Mode::default() }) }
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.socket.fmt(f)
    }
}
