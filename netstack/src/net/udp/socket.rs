//! [`UdpSocket`].

mod messages;
mod options;
mod receiving;
mod sending;

use crate::net::core::Endpoint;
use crate::net::lookup::{ToSocketAddrs, none_worked, resolve};
use crate::net::options::ip::socket_family;
use crate::net::readiness::{Registration, Seen};
use crate::net::stack::Stack;
use crate::stack::{Core, Udp, UdpCell, UnboundUdp};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{Interest, Ready};

/// A UDP socket.
///
/// All methods take `&self`: put the socket into an [`Arc`] to send and receive in several tasks.
///
/// # Examples
/// One to many: each datagram names its receiver.
///
/// ```
/// use netstack::net::UdpSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// # stack.scope(async {
/// let server = UdpSocket::bind("127.0.0.1:0").await?;
/// let client = UdpSocket::bind("127.0.0.1:0").await?;
/// client.send_to(b"hello", server.local_addr()?).await?;
/// let mut buf = [0; 1500];
/// let (len, peer) = server.recv_from(&mut buf).await?;
/// assert_eq!(&buf[..len], b"hello");
/// assert_eq!(peer, client.local_addr()?);
/// # std::io::Result::Ok(())
/// # }).await
/// # }
/// ```
///
/// One to one: a connected socket gets nothing but what its peer sends.
///
/// ```
/// use netstack::net::UdpSocket;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// # stack.scope(async {
/// let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
/// a.connect(b.local_addr()?).await?;
/// b.connect(a.local_addr()?).await?;
/// a.send(b"ping").await?;
/// let mut buf = [0; 4];
/// assert_eq!(b.recv(&mut buf).await?, 4);
/// # std::io::Result::Ok(())
/// # }).await
/// # }
/// ```
///
/// # File descriptors
/// There are none, so `from_std`, `into_std`, `AsFd` and `AsRawFd` are left out. Options are set by methods, or with
/// [`SockRef`](crate::net::SockRef) where code uses `socket2`; options that have to be set before binding, with
/// [`UnboundUdpSocket`](super::UnboundUdpSocket). [`UdpSocket::recv_msg`] and [`UdpSocket::send_msg`] do what
/// `recvmsg(2)` and `sendmsg(2)` are used for.
pub struct UdpSocket {
    endpoint: Arc<UdpEndpoint>,
}

/// What the handle shares with its stack.
struct UdpEndpoint {
    stack: Stack,
    cell: Arc<UdpCell>,
    registration: Arc<Registration>,
}

impl Endpoint for UdpEndpoint {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn close(&self) {
        self.stack.engine().with_udp(self.stack.now(), |udp, turn| udp.close(turn, &self.cell));
    }
}

impl Drop for UdpEndpoint {
    fn drop(&mut self) {
        self.stack.core().forget(self.cell.id());
        self.close();
    }
}

// See `Stack`.
impl std::panic::UnwindSafe for UdpSocket {}
impl std::panic::RefUnwindSafe for UdpSocket {}

/// Constructors, addresses, errors.
impl UdpSocket {
    /// Binds a socket to `addr` on the current stack ([`Stack::current`]). If `addr` resolves to several
    /// addresses, they are tried in turn until one succeeds. Port 0 selects a free port. A socket that is bound
    /// to `[::]` takes IPv4 as well.
    ///
    /// # Errors
    /// - [`io::ErrorKind::Unsupported`] if there is no current stack.
    /// - `EADDRINUSE`, `EADDRNOTAVAIL`.
    /// - [`io::ErrorKind::InvalidInput`] if `addr` cannot be resolved to any address.
    ///
    /// There are no privileged ports.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::bind_on(&Stack::current()?, addr).await
    }

    /// Like [`UdpSocket::bind`], on `stack`.
    ///
    /// # Errors
    /// As [`UdpSocket::bind`].
    pub async fn bind_on<A: ToSocketAddrs>(stack: &Stack, addr: A) -> io::Result<Self> {
        let (target, mut last) = (addr.to_target(), None);
        for addr in resolve(stack.core().resolver(), target).await? {
            let socket = UnboundUdp::new(stack.engine().core(), socket_family(addr));
            match Self::from_unbound(stack, socket, addr) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = Some(error),
            }
        }
        Err(none_worked(last))
    }

    pub(super) fn from_unbound(stack: &Stack, socket: UnboundUdp, addr: SocketAddr) -> io::Result<Self> {
        let core = stack.core();
        core.ensure_open()?;
        let registration = Arc::new(Registration::for_datagrams());
        let observer = Arc::clone(&registration) as _;
        let cell = core.engine.udp().bind(core.engine.core(), socket, addr, observer)?;
        Ok(Self::from_cell(stack, cell, registration))
    }

    /// The handle of a socket whose observer is `registration`.
    pub(super) fn from_cell(stack: &Stack, cell: Arc<UdpCell>, registration: Arc<Registration>) -> Self {
        let core = stack.core();
        let endpoint = Arc::new(UdpEndpoint { stack: stack.clone(), cell, registration });
        core.remember(endpoint.cell.id(), &endpoint);
        Self { endpoint }
    }

    pub(super) fn cell(&self) -> &Arc<UdpCell> {
        &self.endpoint.cell
    }

    /// The stack that this socket belongs to.
    pub fn stack(&self) -> &Stack {
        &self.endpoint.stack
    }

    /// The address that the socket is bound to. A wildcard address becomes the address that the socket sends
    /// from once it is connected.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// let socket = stack.udp_socket("0.0.0.0:5000").await?;
    /// assert_eq!(socket.local_addr()?, "0.0.0.0:5000".parse().unwrap());
    /// socket.connect("127.0.0.1:53").await?;
    /// assert_eq!(socket.local_addr()?, "127.0.0.1:5000".parse().unwrap());
    /// # Ok(())
    /// # }
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.endpoint.cell.local_addr())
    }

    /// The address of the peer that the socket is connected to.
    ///
    /// # Errors
    /// `ENOTCONN` if it is not connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.cell.peer_addr()
    }

    /// Connects the socket to `addr`, or to another peer than before: it is the default receiver, and nothing
    /// else is received from now on. If `addr` resolves to several addresses, they are tried in turn until one
    /// succeeds. Nothing is sent, and what was received before can still be read.
    ///
    /// # Errors
    /// - `ENETUNREACH`; `EAFNOSUPPORT` for an address of the other family; `EACCES` for a broadcast address
    ///   without [`UdpSocket::set_broadcast`].
    /// - [`io::ErrorKind::InvalidInput`] if `addr` cannot be resolved to any address.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has not connected the socket.
    pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<()> {
        let (target, mut last) = (addr.to_target(), None);
        for addr in resolve(self.endpoint.stack.core().resolver(), target).await? {
            match self.udp().connect(self.core(), &self.endpoint.cell, addr) {
                Ok(()) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        Err(none_worked(last))
    }

    /// `SO_ERROR`: the error that has not been reported yet, if there is one. Taking it clears it.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// let socket = stack.udp_socket("127.0.0.1:0").await?;
    /// assert!(socket.take_error()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.endpoint.cell.take_error())
    }

    /// Datagrams that the receive buffer had no room for (`SO_RXQ_OVFL`).
    pub fn dropped(&self) -> u64 {
        self.endpoint.cell.dropped()
    }

    fn udp(&self) -> &Udp {
        self.endpoint.stack.engine().udp()
    }

    fn core(&self) -> &Core {
        self.endpoint.stack.engine().core()
    }

    fn registration(&self) -> &Registration {
        &self.endpoint.registration
    }
}

/// Readiness.
impl UdpSocket {
    /// Waits until the socket is in one of the states of `interest`. If it has left the state when an operation
    /// is tried, the operation fails with [`io::ErrorKind::WouldBlock`], and the next call waits again.
    ///
    /// Readiness is kept until an operation fails with [`io::ErrorKind::WouldBlock`]. An error counts as
    /// readable and writable.
    ///
    /// # Errors
    /// If the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.registration().ready(interest).await.map(Seen::ready)
    }

    /// Waits until there is a datagram to receive, or an error. Equivalent to [`UdpSocket::ready`] with
    /// [`Interest::READABLE`].
    ///
    /// # Errors
    /// If the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(Interest::READABLE).await.map(drop)
    }

    /// Waits until a datagram can be sent. Equivalent to [`UdpSocket::ready`] with [`Interest::WRITABLE`].
    ///
    /// # Errors
    /// If the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(Interest::WRITABLE).await.map(drop)
    }

    /// Calls `f` if the socket is in one of the states of `interest`, and forgets that it is if `f` fails with
    /// [`io::ErrorKind::WouldBlock`]. `f` can try operations of this socket other than the `try_` methods,
    /// which would find the flag by themselves; there is no descriptor to call the system with.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the socket is in no such state; the error of `f`.
    pub fn try_io<R>(&self, interest: Interest, f: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.registration().try_io(interest, f)
    }

    /// Waits for one of the states of `interest` and calls `f`, until `f` does not fail with
    /// [`io::ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// The error of `f`; an error if the stack has ended.
    pub async fn async_io<R>(&self, interest: Interest, f: impl FnMut() -> io::Result<R>) -> io::Result<R> {
        self.registration().async_io(interest, f).await
    }
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("UdpSocket");
        debug.field("addr", &self.endpoint.cell.local_addr());
        if let Ok(peer) = self.peer_addr() {
            debug.field("peer", &peer);
        }
        debug.field("id", &self.endpoint.cell.id()).field("stack", &self.endpoint.stack.name()).finish()
    }
}
