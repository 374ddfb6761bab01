//! [`PingSocket`] and [`RawSocket`].

use crate::error::os;
use crate::net::core::Endpoint;
use crate::net::options::ip::ttl_from;
use crate::net::options::tcp::{recv_buffer_from, send_buffer_from};
use crate::net::readiness::{Direction, Registration, Seen};
use crate::net::stack::Stack;
use crate::stack::{RawCell, RawKind};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{Interest, ReadBuf, Ready};

/// What a receiver waits for: a message, or an error.
const RECEIVE: Interest = Interest::READABLE.add(Interest::ERROR);

/// What a handle shares with its stack.
struct RawEndpoint {
    stack: Stack,
    cell: Arc<RawCell>,
    registration: Arc<Registration>,
    id: u64,
}

impl RawEndpoint {
    fn open(stack: &Stack, kind: RawKind, addr: SocketAddr) -> io::Result<Arc<Self>> {
        let core = stack.core();
        core.ensure_open()?;
        let registration = Arc::new(Registration::for_datagrams());
        let observer = Arc::clone(&registration) as _;
        let cell = core.engine.raw().open(core.engine.core(), kind, addr, observer)?;
        let id = core.next_id();
        let endpoint = Arc::new(Self { stack: stack.clone(), cell, registration, id });
        core.remember(id, &endpoint);
        Ok(endpoint)
    }

    fn send(&self, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<usize> {
        self.stack.engine().with_raw(self.stack.now(), |raw, turn| raw.send(turn, &self.cell, bytes, to))
    }

    fn recv(&self, buf: &mut [u8]) -> io::Result<(usize, IpAddr)> {
        let engine = self.stack.engine();
        let (sender, len) = engine.raw().recv(engine.core(), &self.cell, buf)?;
        Ok((len, sender.ip()))
    }
}

impl Endpoint for RawEndpoint {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn close(&self) {
        self.stack.engine().raw().close(&self.cell);
    }
}

impl Drop for RawEndpoint {
    fn drop(&mut self) {
        self.stack.core().forget(self.id);
        self.close();
    }
}

/// A socket for ICMP echo: "ping".
///
/// # Examples
/// ```
/// use netstack::net::PingSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// let socket = PingSocket::bind_on(&stack, "127.0.0.1:0".parse().unwrap())?;
/// // Type 8 is an echo request; then code, checksum, identifier and sequence number.
/// socket.send_to(&[8, 0, 0, 0, 0, 0, 0, 1, b'h', b'i'], "127.0.0.1".parse().unwrap()).await?;
/// let mut buf = [0; 1500];
/// let (len, from) = socket.recv_from(&mut buf).await?;
/// assert_eq!((buf[0], &buf[6..len]), (0, &b"\0\x01hi"[..]));
/// assert!(from.is_loopback());
/// # Ok(())
/// # }
/// ```
pub struct PingSocket {
    endpoint: Arc<RawEndpoint>,
}

/// A socket for whole IP packets of a protocol.
///
/// # Examples
/// ```
/// use netstack::net::RawSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// const EXPERIMENT: u8 = 253;
/// let socket = RawSocket::bind_on(&stack, EXPERIMENT, "0.0.0.0".parse().unwrap())?;
/// // An IPv4 header; the stack fills in the length, the source and the checksum.
/// let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, EXPERIMENT, 0, 0, 0, 0, 0, 0, 127, 0, 0, 1];
/// packet.extend(b"payload");
/// socket.send(&packet).await?;
/// let mut buf = [0; 1500];
/// let (len, _) = socket.recv_from(&mut buf).await?;
/// assert_eq!(&buf[20..len], b"payload");
/// # Ok(())
/// # }
/// ```
pub struct RawSocket {
    endpoint: Arc<RawEndpoint>,
    protocol: u8,
}

impl PingSocket {
    /// A socket of the current stack ([`Stack::current`]) with an address to send from, or the unspecified one
    /// of a family. The port is the identifier of its requests; 0 selects a free one.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if there is no current stack; `EADDRNOTAVAIL`, `EADDRINUSE`.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        Self::bind_on(&Stack::current()?, addr)
    }

    /// Like [`PingSocket::bind`], on `stack`.
    ///
    /// # Errors
    /// As [`PingSocket::bind`].
    pub fn bind_on(stack: &Stack, addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { endpoint: RawEndpoint::open(stack, RawKind::Ping, addr)? })
    }

    /// The address to send from, and the identifier as the port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.endpoint.cell.local_addr())
    }

    /// Sends an echo request to the peer that the socket is connected to: a message from its ICMP header on, type
    /// 8 for IPv4 and 128 for IPv6. Returns its length.
    ///
    /// # Errors
    /// `EINVAL` if it is no echo request; `EDESTADDRREQ` if the socket is not connected; an ICMP error about an
    /// earlier request; `EMSGSIZE`; `ENETUNREACH`.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has sent nothing.
    pub async fn send(&self, message: &[u8]) -> io::Result<usize> {
        let endpoint = &self.endpoint;
        endpoint.registration.async_io(Interest::WRITABLE, || endpoint.send(message, None)).await
    }

    /// Sends an echo request to `target`. Returns its length.
    ///
    /// # Errors
    /// As [`PingSocket::send`]; `EAFNOSUPPORT` for an address of the other family; `EACCES` for a broadcast
    /// address without [`PingSocket::set_broadcast`].
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has sent nothing.
    pub async fn send_to(&self, message: &[u8], target: IpAddr) -> io::Result<usize> {
        let (endpoint, to) = (&self.endpoint, Some(SocketAddr::new(target, 0)));
        endpoint.registration.async_io(Interest::WRITABLE, || endpoint.send(message, to)).await
    }

    /// Like [`PingSocket::send_to`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no room in the send buffer; as [`PingSocket::send_to`].
    pub fn try_send_to(&self, message: &[u8], target: IpAddr) -> io::Result<usize> {
        let (endpoint, to) = (&self.endpoint, Some(SocketAddr::new(target, 0)));
        endpoint.registration.try_io(Interest::WRITABLE, || endpoint.send(message, to))
    }

    /// Sets `SO_BROADCAST`: whether the socket may send to broadcast addresses. Default false.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.endpoint.cell.set_broadcast(on);
        Ok(())
    }
}

impl RawSocket {
    /// A socket of the current stack ([`Stack::current`]) for the packets of a protocol: all of a family for the
    /// unspecified address, or those to one address of the stack.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if there is no current stack; `EADDRNOTAVAIL`; `EPROTONOSUPPORT` for TCP.
    pub fn bind(protocol: u8, addr: IpAddr) -> io::Result<Self> {
        Self::bind_on(&Stack::current()?, protocol, addr)
    }

    /// Like [`RawSocket::bind`], on `stack`.
    ///
    /// # Errors
    /// As [`RawSocket::bind`].
    pub fn bind_on(stack: &Stack, protocol: u8, addr: IpAddr) -> io::Result<Self> {
        let kind = RawKind::Packets(protocol);
        Ok(Self { endpoint: RawEndpoint::open(stack, kind, SocketAddr::new(addr, 0))?, protocol })
    }

    /// The number of the protocol.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Sends a whole packet to the destination in its header, and returns its length. The stack fills in lengths
    /// and the checksum of an IPv4 header, and the source and the identification if they are zero. The protocol
    /// need not be that of the socket.
    ///
    /// # Errors
    /// `EINVAL` if it is no packet of the family; `EMSGSIZE` if it is longer than the MTU; `ENETUNREACH`.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has sent nothing.
    pub async fn send(&self, packet: &[u8]) -> io::Result<usize> {
        let endpoint = &self.endpoint;
        endpoint.registration.async_io(Interest::WRITABLE, || endpoint.send(packet, None)).await
    }

    /// Like [`RawSocket::send`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no room in the send buffer; as [`RawSocket::send`].
    pub fn try_send(&self, packet: &[u8]) -> io::Result<usize> {
        let endpoint = &self.endpoint;
        endpoint.registration.try_io(Interest::WRITABLE, || endpoint.send(packet, None))
    }
}

/// Declares what both sockets have.
macro_rules! common {
    ($socket:ident) => {
        // See `Stack`.
        impl std::panic::UnwindSafe for $socket {}
        impl std::panic::RefUnwindSafe for $socket {}

        /// Receiving, readiness and options.
        impl $socket {
            /// The stack that this socket belongs to.
            pub fn stack(&self) -> &Stack {
                &self.endpoint.stack
            }

            /// Connects the socket to `peer`: it gets only what that one sends.
            ///
            /// # Errors
            /// `EAFNOSUPPORT` for an address of the other family.
            pub fn connect(&self, peer: IpAddr) -> io::Result<()> {
                let engine = self.endpoint.stack.engine();
                engine.raw().connect(engine.core(), &self.endpoint.cell, SocketAddr::new(peer, 0))
            }

            /// The address of the peer.
            ///
            /// # Errors
            /// `ENOTCONN` if the socket is not connected.
            pub fn peer_addr(&self) -> io::Result<IpAddr> {
                self.endpoint.cell.peer_addr().map(|peer| peer.ip())
            }

            /// Receives a message and returns its length and the sender. What does not fit into `buf` is lost.
            ///
            /// # Errors
            /// Of a connected socket, an ICMP error, once; the error of the device; an error if the stack has
            /// ended.
            ///
            /// # Cancel safety
            /// Cancel safe: no message is lost if the future is dropped.
            pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, IpAddr)> {
                self.endpoint.registration.async_io(RECEIVE, || self.endpoint.recv(buf)).await
            }

            /// Like `recv_from`, without waiting.
            ///
            /// # Errors
            /// [`io::ErrorKind::WouldBlock`] if there is none; as `recv_from`.
            pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, IpAddr)> {
                self.endpoint.registration.try_io(Interest::READABLE, || self.endpoint.recv(buf))
            }

            /// The poll form of `recv_from`, which appends to `buf`. Only the task of the latest call is woken.
            ///
            /// # Errors
            /// As `recv_from`.
            pub fn poll_recv_from(
                &self,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<IpAddr>> {
                let engine = self.endpoint.stack.engine();
                let take = || engine.raw().take(engine.core(), &self.endpoint.cell);
                let taken = ready!(self.endpoint.registration.poll_io(cx, Direction::Read, |_| take()));
                Poll::Ready(taken.map(|(sender, message)| {
                    let message = message.as_slice();
                    buf.put_slice(&message[..message.len().min(buf.remaining())]);
                    sender.ip()
                }))
            }

            /// Waits until the socket is in one of the states of `interest`.
            ///
            /// # Errors
            /// If the stack has ended.
            ///
            /// # Cancel safety
            /// Cancel safe.
            pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
                self.endpoint.registration.ready(interest).await.map(Seen::ready)
            }

            /// `IP_TTL`, or the hop limit. Default 64.
            pub fn ttl(&self) -> io::Result<u32> {
                Ok(self.endpoint.cell.ttl().into())
            }

            /// Sets `IP_TTL`, or the hop limit, of what the stack makes the header of.
            ///
            /// # Errors
            /// `EINVAL` if it is not 1 to 255.
            pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
                let default = self.endpoint.stack.engine().core().config().default_ttl;
                self.endpoint.cell.set_ttl(ttl_from(ttl, default)?);
                Ok(())
            }

            /// Binds the socket to an interface of its stack (`SO_BINDTODEVICE`). `None` or an empty name removes
            /// the binding.
            ///
            /// # Errors
            /// `ENODEV` if there is no interface of this name.
            pub fn bind_device(&self, interface: Option<&[u8]>) -> io::Result<()> {
                let name = interface.map(std::str::from_utf8).transpose().map_err(|_| os(libc::ENODEV))?;
                self.endpoint.cell.bind_device(self.endpoint.stack.engine().core(), name)
            }

            /// `SO_RCVBUF` in bytes of memory: twice what was set, as Linux reports it, or
            /// [`Config::datagram_recv_buffer`](crate::Config::datagram_recv_buffer).
            pub fn recv_buffer_size(&self) -> io::Result<u32> {
                Ok(u32::try_from(self.endpoint.cell.recv_buffer()).unwrap_or(u32::MAX))
            }

            /// Sets `SO_RCVBUF`, doubled as in Linux: how much memory messages may take that were not read
            /// yet.
            pub fn set_recv_buffer_size(&self, size: u32) -> io::Result<()> {
                let config = self.endpoint.stack.engine().core().config();
                self.endpoint.cell.set_recv_buffer(2 * recv_buffer_from(size, config));
                Ok(())
            }

            /// `SO_SNDBUF` in bytes: twice what was set, as Linux reports it, or
            /// [`Config::datagram_send_buffer`](crate::Config::datagram_send_buffer).
            pub fn send_buffer_size(&self) -> io::Result<u32> {
                Ok(u32::try_from(self.endpoint.cell.send_buffer()).unwrap_or(u32::MAX))
            }

            /// Sets `SO_SNDBUF`, doubled as in Linux: how much may wait for a device.
            pub fn set_send_buffer_size(&self, size: u32) -> io::Result<()> {
                let config = self.endpoint.stack.engine().core().config();
                self.endpoint.cell.set_send_buffer(2 * send_buffer_from(size, config));
                Ok(())
            }

            /// Messages that the receive buffer had no room for.
            pub fn dropped(&self) -> u64 {
                self.endpoint.cell.dropped()
            }

            /// `SO_ERROR`: the error that has not been reported yet. Taking it clears it.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                Ok(self.endpoint.cell.take_error())
            }
        }

        impl fmt::Debug for $socket {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($socket))
                    .field("addr", &self.endpoint.cell.local_addr())
                    .field("kind", &self.endpoint.cell.kind())
                    .field("stack", &self.endpoint.stack.name())
                    .finish()
            }
        }
    };
}

common!(PingSocket);
common!(RawSocket);
