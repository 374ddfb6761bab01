//! [`SockRef`].

use crate::config::Config;
use crate::error::os;
use crate::ip::PacketOptions;
use crate::net::options::fast_open::fast_open_options;
use crate::net::options::ip::{HasIpOptions, IpChange, IpValues, ip_options};
use crate::net::options::tcp::{
    ConnectionOptions, HasTcpOptions, Progress, linger_option, recv_buffer_of, send_buffer_of,
    set_recv_buffer_of, set_send_buffer_of, tcp_options,
};
use crate::net::tcp::{TcpListener, TcpSocket, TcpStream};
use crate::net::udp::UdpSocket;
use crate::stack::{Family, Transmission};
use crate::tcp::SocketOptions;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};

/// The options of any TCP or UDP socket, with the names and types of `socket2::SockRef`.
///
/// A real `socket2::SockRef` needs a file descriptor, and there is none. What code does with one works with this
/// after a change of the path it is imported from. Addresses are those of `std`.
///
/// A socket that does not have an option says `ENOPROTOOPT` when it is set. Linux accepts some options of datagrams
/// on TCP sockets, and the other way round, without any effect.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// use netstack::net::SockRef;
///
/// let socket = stack.tcp_socket_v4()?;
/// SockRef::from(&socket).set_tcp_nodelay(true)?;
/// assert!(socket.nodelay()?);
///
/// let socket = stack.udp_socket("127.0.0.1:0").await?;
/// SockRef::from(&socket).set_recv_buffer_size(1 << 20)?;
/// assert_eq!(socket.recv_buffer_size()?, 2 << 20);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SockRef<'a>(Socket<'a>);

#[derive(Clone, Copy, Debug)]
enum Socket<'a> {
    Stream(&'a TcpStream),
    Listener(&'a TcpListener),
    Unconnected(&'a TcpSocket),
    Udp(&'a UdpSocket),
}

impl<'a> From<&'a TcpStream> for SockRef<'a> {
    fn from(stream: &'a TcpStream) -> Self {
        Self(Socket::Stream(stream))
    }
}

impl<'a> From<&'a TcpListener> for SockRef<'a> {
    fn from(listener: &'a TcpListener) -> Self {
        Self(Socket::Listener(listener))
    }
}

impl<'a> From<&'a TcpSocket> for SockRef<'a> {
    fn from(socket: &'a TcpSocket) -> Self {
        Self(Socket::Unconnected(socket))
    }
}

impl<'a> From<&'a UdpSocket> for SockRef<'a> {
    fn from(socket: &'a UdpSocket) -> Self {
        Self(Socket::Udp(socket))
    }
}

/// Calls a method that all sockets have.
macro_rules! each {
    ($self:ident, $socket:ident => $call:expr) => {
        match &$self.0 {
            Socket::Stream($socket) => $call,
            Socket::Listener($socket) => $call,
            Socket::Unconnected($socket) => $call,
            Socket::Udp($socket) => $call,
        }
    };
}

/// Addresses, errors, and the end of a connection.
impl SockRef<'_> {
    /// The local address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        each!(self, socket => socket.local_addr())
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// `ENOTCONN` if the socket is not connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Socket::Stream(stream) => stream.peer_addr(),
            Socket::Udp(socket) => socket.peer_addr(),
            Socket::Listener(_) | Socket::Unconnected(_) => Err(os(libc::ENOTCONN)),
        }
    }

    /// `SO_ERROR`: the error that has not been reported yet, if there is one. Taking it clears it.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        each!(self, socket => socket.take_error())
    }

    /// Shuts down one direction of a TCP connection, or both, as shutdown(2) does. Nothing is sent for
    /// [`Shutdown::Read`].
    ///
    /// # Errors
    /// `ENOTCONN` if there is no connection; `EOPNOTSUPP` for a UDP socket that is connected.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match &self.0 {
            Socket::Stream(stream) => stream.shutdown_directions(how),
            Socket::Udp(socket) => socket.peer_addr().and(Err(os(libc::EOPNOTSUPP))),
            Socket::Listener(_) | Socket::Unconnected(_) => Err(os(libc::ENOTCONN)),
        }
    }

    /// `SO_ACCEPTCONN`: whether the socket listens.
    pub fn is_listener(&self) -> io::Result<bool> {
        Ok(matches!(self.0, Socket::Listener(_)))
    }
}

/// Receiving and sending at once, without a look at the readiness that the socket keeps: what the closure of
/// `async_io` and `try_io` can be made of.
impl SockRef<'_> {
    /// Receives what there is, as recv(2): bytes of a stream, or a datagram. Gives the number of bytes that were
    /// written to the front of `buf`.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is nothing; `ENOTCONN` if the socket is neither a connection nor UDP;
    /// as [`TcpStream::try_read`] and [`UdpSocket::try_recv`].
    ///
    /// # Examples
    /// ```
    /// use netstack::net::SockRef;
    /// use std::mem::MaybeUninit;
    /// use tokio::io::{AsyncWriteExt, Interest};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// # let listener = stack.listen("127.0.0.1:8080").await?;
    /// # let stream = stack.connect("127.0.0.1:8080").await?;
    /// # listener.accept().await?.0.write_all(b"hi").await?;
    /// let mut buf = [MaybeUninit::uninit(); 16];
    /// let len = stream.async_io(Interest::READABLE, || SockRef::from(&stream).recv(&mut buf)).await?;
    /// assert_eq!(len, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn recv(&self, buf: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        self.received(buf, Take::Remove)
    }

    /// As [`SockRef::recv`], and leaves it there.
    ///
    /// # Errors
    /// As [`SockRef::recv`].
    pub fn peek(&self, buf: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        self.received(buf, Take::Peek)
    }

    /// Sends what there is room for, as send(2): bytes of a stream, or a datagram to the peer.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no room; `EPIPE` if the socket is neither a connection nor UDP; as
    /// [`TcpStream::try_write`] and [`UdpSocket::try_send`].
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Socket::Stream(stream) => stream.write_now(&[IoSlice::new(buf)]),
            Socket::Udp(socket) => socket.send_now(&Transmission::new(buf)),
            Socket::Listener(_) | Socket::Unconnected(_) => Err(os(libc::EPIPE)),
        }
    }

    fn received(&self, buf: &mut [MaybeUninit<u8>], take: Take) -> io::Result<usize> {
        // A datagram is cut off by the buffer, and no more is read of a stream than there is.
        let most = match &self.0 {
            Socket::Stream(stream) => stream.unread().max(1),
            Socket::Udp(_) => usize::from(u16::MAX),
            Socket::Listener(_) | Socket::Unconnected(_) => return Err(os(libc::ENOTCONN)),
        };
        let mut bytes = vec![0; buf.len().min(most)];
        let len = match (&self.0, take) {
            (Socket::Stream(stream), Take::Remove) => stream.read_now(&mut [IoSliceMut::new(&mut bytes)])?,
            (Socket::Stream(stream), Take::Peek) => stream.peek_now(&mut bytes)?,
            (Socket::Udp(socket), Take::Remove) => socket.recv_now(&mut bytes)?.0,
            (Socket::Udp(socket), Take::Peek) => socket.peek_now(&mut bytes)?.0,
            (Socket::Listener(_) | Socket::Unconnected(_), _) => 0,
        };
        for (to, byte) in buf.iter_mut().zip(&bytes[..len]) {
            to.write(*byte);
        }
        Ok(len)
    }
}

/// What becomes of what is received.
#[derive(Clone, Copy, Debug)]
enum Take {
    Remove,
    Peek,
}

/// Buffers.
impl SockRef<'_> {
    /// `SO_SNDBUF`: twice the value that was set, as on Linux, or what the buffer begins with.
    pub fn send_buffer_size(&self) -> io::Result<usize> {
        match &self.0 {
            Socket::Udp(socket) => socket.send_buffer_size(),
            _ => send_buffer_of(self),
        }
        .map(|size| size as usize)
    }

    /// Sets `SO_SNDBUF`, within the limits of the stack. The buffer of a TCP socket then keeps its size.
    pub fn set_send_buffer_size(&self, size: usize) -> io::Result<()> {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        match &self.0 {
            Socket::Udp(socket) => socket.set_send_buffer_size(size),
            _ => set_send_buffer_of(self, size),
        }
    }

    /// `SO_RCVBUF`: twice the value that was set, as on Linux, or what the buffer begins with.
    pub fn recv_buffer_size(&self) -> io::Result<usize> {
        match &self.0 {
            Socket::Udp(socket) => socket.recv_buffer_size(),
            _ => recv_buffer_of(self),
        }
        .map(|size| size as usize)
    }

    /// Sets `SO_RCVBUF`, within the limits of the stack. The buffer of a TCP socket then keeps its size.
    pub fn set_recv_buffer_size(&self, size: usize) -> io::Result<()> {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        match &self.0 {
            Socket::Udp(socket) => socket.set_recv_buffer_size(size),
            _ => set_recv_buffer_of(self, size),
        }
    }
}

/// Options of datagrams.
///
/// # Errors
/// Of a TCP socket `EOPNOTSUPP` to read and `ENOPROTOOPT` to set.
impl SockRef<'_> {
    /// `SO_BROADCAST`. Default false.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.readable()?.broadcast()
    }

    /// Sets `SO_BROADCAST`: see [`UdpSocket::set_broadcast`].
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.settable()?.set_broadcast(broadcast)
    }

    /// `IP_RECVTOS`. Default false.
    pub fn recv_tos_v4(&self) -> io::Result<bool> {
        self.readable()?.recv_tos_v4()
    }

    /// Sets `IP_RECVTOS`: see [`UdpSocket::set_recv_tos_v4`].
    pub fn set_recv_tos_v4(&self, recv_tos: bool) -> io::Result<()> {
        self.settable()?.set_recv_tos_v4(recv_tos)
    }

    /// `IPV6_RECVTCLASS`. Default false.
    pub fn recv_tclass_v6(&self) -> io::Result<bool> {
        self.readable()?.recv_tclass_v6()
    }

    /// Sets `IPV6_RECVTCLASS`: see [`UdpSocket::set_recv_tclass_v6`].
    pub fn set_recv_tclass_v6(&self, recv_tclass: bool) -> io::Result<()> {
        self.settable()?.set_recv_tclass_v6(recv_tclass)
    }

    /// `IP_MULTICAST_LOOP`. Default true.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.readable()?.multicast_loop_v4()
    }

    /// Sets `IP_MULTICAST_LOOP`: see [`UdpSocket::set_multicast_loop_v4`].
    pub fn set_multicast_loop_v4(&self, loop_v4: bool) -> io::Result<()> {
        self.settable()?.set_multicast_loop_v4(loop_v4)
    }

    /// `IPV6_MULTICAST_LOOP`. Default true.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.readable()?.multicast_loop_v6()
    }

    /// Sets `IPV6_MULTICAST_LOOP`: see [`UdpSocket::set_multicast_loop_v6`].
    pub fn set_multicast_loop_v6(&self, loop_v6: bool) -> io::Result<()> {
        self.settable()?.set_multicast_loop_v6(loop_v6)
    }

    /// `IP_MULTICAST_TTL`. Default 1.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        self.readable()?.multicast_ttl_v4()
    }

    /// Sets `IP_MULTICAST_TTL`: see [`UdpSocket::set_multicast_ttl_v4`].
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.settable()?.set_multicast_ttl_v4(ttl)
    }

    /// `IPV6_MULTICAST_HOPS`. Default 1.
    pub fn multicast_hops_v6(&self) -> io::Result<u32> {
        self.readable()?.multicast_hops_v6()
    }

    /// Sets `IPV6_MULTICAST_HOPS`: see [`UdpSocket::set_multicast_hops_v6`].
    pub fn set_multicast_hops_v6(&self, hops: u32) -> io::Result<()> {
        self.settable()?.set_multicast_hops_v6(hops)
    }

    /// `IP_MULTICAST_IF`.
    pub fn multicast_if_v4(&self) -> io::Result<Ipv4Addr> {
        self.readable()?.multicast_if_v4()
    }

    /// Sets `IP_MULTICAST_IF`: see [`UdpSocket::set_multicast_if_v4`].
    pub fn set_multicast_if_v4(&self, interface: &Ipv4Addr) -> io::Result<()> {
        self.settable()?.set_multicast_if_v4(interface)
    }

    /// `IPV6_MULTICAST_IF`.
    pub fn multicast_if_v6(&self) -> io::Result<u32> {
        self.readable()?.multicast_if_v6()
    }

    /// Sets `IPV6_MULTICAST_IF`: see [`UdpSocket::set_multicast_if_v6`].
    pub fn set_multicast_if_v6(&self, interface: u32) -> io::Result<()> {
        self.settable()?.set_multicast_if_v6(interface)
    }

    /// Joins an IPv4 group: see [`UdpSocket::join_multicast_v4`].
    pub fn join_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.settable()?.join_multicast_v4(*multiaddr, *interface)
    }

    /// Leaves an IPv4 group: see [`UdpSocket::leave_multicast_v4`].
    pub fn leave_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.settable()?.leave_multicast_v4(*multiaddr, *interface)
    }

    /// Joins an IPv6 group: see [`UdpSocket::join_multicast_v6`].
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.settable()?.join_multicast_v6(multiaddr, interface)
    }

    /// Leaves an IPv6 group: see [`UdpSocket::leave_multicast_v6`].
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.settable()?.leave_multicast_v6(multiaddr, interface)
    }

    /// The socket, to read an option of datagrams.
    fn readable(&self) -> io::Result<&UdpSocket> {
        self.datagrams(libc::EOPNOTSUPP)
    }

    /// The socket, to set an option of datagrams.
    fn settable(&self) -> io::Result<&UdpSocket> {
        self.datagrams(libc::ENOPROTOOPT)
    }

    fn datagrams(&self, errno: i32) -> io::Result<&UdpSocket> {
        match &self.0 {
            Socket::Udp(socket) => Ok(socket),
            Socket::Stream(_) | Socket::Listener(_) | Socket::Unconnected(_) => Err(os(errno)),
        }
    }
}

impl HasIpOptions for SockRef<'_> {
    fn family(&self) -> Family {
        each!(self, socket => HasIpOptions::family(*socket))
    }

    fn is_stream(&self) -> bool {
        each!(self, socket => socket.is_stream())
    }

    fn values(&self) -> IpValues {
        each!(self, socket => socket.values())
    }

    fn change_packets(&self, change: impl FnOnce(&mut PacketOptions)) {
        each!(self, socket => socket.change_packets(change));
    }

    fn change_ip(&self, change: IpChange<'_>) -> io::Result<()> {
        each!(self, socket => socket.change_ip(change))
    }

    fn interface_name(&self, interface: u16) -> Vec<u8> {
        each!(self, socket => socket.interface_name(interface))
    }

    fn default_ttl(&self) -> u8 {
        each!(self, socket => socket.default_ttl())
    }

    fn path_mtu(&self) -> Option<usize> {
        each!(self, socket => socket.path_mtu())
    }
}

impl HasTcpOptions for SockRef<'_> {
    fn config(&self) -> &Config {
        match &self.0 {
            Socket::Stream(socket) => socket.config(),
            Socket::Listener(socket) => socket.config(),
            Socket::Unconnected(socket) => socket.config(),
            Socket::Udp(socket) => socket.stack().engine().core().config(),
        }
    }

    fn options(&self) -> io::Result<SocketOptions> {
        match &self.0 {
            Socket::Stream(socket) => socket.options(),
            Socket::Listener(socket) => socket.options(),
            Socket::Unconnected(socket) => socket.options(),
            // As Linux, which finds no such protocol over IPv4 and no such option over IPv6.
            Socket::Udp(socket) => Err(os(match HasIpOptions::family(*socket) {
                Family::V4 => libc::EOPNOTSUPP,
                Family::V6 => libc::ENOPROTOOPT,
            })),
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> io::Result<R> {
        match &self.0 {
            Socket::Stream(socket) => socket.change(change),
            Socket::Listener(socket) => socket.change(change),
            Socket::Unconnected(socket) => socket.change(change),
            Socket::Udp(_) => Err(os(libc::ENOPROTOOPT)),
        }
    }

    fn progress(&self) -> Progress {
        match &self.0 {
            Socket::Stream(_) => Progress::Connected,
            Socket::Listener(_) => Progress::Listening,
            Socket::Unconnected(_) | Socket::Udp(_) => Progress::Unconnected,
        }
    }

    fn connection(&self) -> Option<&dyn ConnectionOptions> {
        match &self.0 {
            Socket::Stream(stream) => stream.connection(),
            Socket::Listener(_) | Socket::Unconnected(_) | Socket::Udp(_) => None,
        }
    }
}

ip_options!(SockRef<'_>, "");
tcp_options!(SockRef<'_>);
linger_option!(SockRef<'_>);
fast_open_options!(SockRef<'_>);
