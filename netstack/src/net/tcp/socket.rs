//! [`TcpSocket`].

use super::listener::{TcpListener, ttl_from};
use super::options::HasOptions;
use super::pending::PendingListener;
use super::stream::TcpStream;
use crate::config::Config;
use crate::error::os;
use crate::net::stack::Stack;
use crate::stack::{Engine, Family, Listener, Observer, Unconnected};
use crate::sync::{Mutex, Rank};
use crate::tcp::SocketOptions;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// A TCP socket that is neither connected nor listening yet: to be configured first.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// # let listener = stack.listen("127.0.0.1:0").await?;
/// # let addr = listener.local_addr()?;
/// let socket = stack.tcp_socket_v4()?;
/// socket.set_nodelay(true)?;
/// socket.bind("127.0.0.1:0".parse().unwrap())?;
/// let stream = socket.connect(addr).await?;
/// assert!(stream.nodelay()?);
/// # Ok(())
/// # }
/// ```
pub struct TcpSocket {
    stack: Stack,
    /// Ranks as a listener, which it may become: binding locks the ports.
    inner: Mutex<Inner>,
}

struct Inner {
    socket: Unconnected,
    /// `IP_TOS`, which on an IPv6 socket counts for IPv4-mapped peers only.
    tos: u8,
    /// `IPV6_TCLASS`.
    tclass: u8,
    device: Option<Vec<u8>>,
}

// See `Stack`.
impl std::panic::UnwindSafe for TcpSocket {}
impl std::panic::RefUnwindSafe for TcpSocket {}

impl TcpSocket {
    /// A new IPv4 socket of the stack of this place.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if there is none.
    pub fn new_v4() -> io::Result<Self> {
        Self::new_v4_on(&Stack::current()?)
    }

    /// A new IPv6 socket of the stack of this place. It also takes IPv4 addresses in the mapped
    /// form, unless [`TcpSocket::set_only_v6`] says otherwise.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if there is none.
    pub fn new_v6() -> io::Result<Self> {
        Self::new_v6_on(&Stack::current()?)
    }

    /// A new IPv4 socket of `stack`.
    ///
    /// # Errors
    /// If the stack is over.
    pub fn new_v4_on(stack: &Stack) -> io::Result<Self> {
        Self::new(stack, Family::V4)
    }

    /// A new IPv6 socket of `stack`.
    ///
    /// # Errors
    /// If the stack is over.
    pub fn new_v6_on(stack: &Stack) -> io::Result<Self> {
        Self::new(stack, Family::V6)
    }

    pub(super) fn for_addr_on(stack: &Stack, addr: SocketAddr) -> io::Result<Self> {
        Self::new(stack, if addr.is_ipv4() { Family::V4 } else { Family::V6 })
    }

    fn new(stack: &Stack, family: Family) -> io::Result<Self> {
        stack.core().ensure_open()?;
        let socket = Unconnected::new(stack.engine(), family);
        let inner = Inner { socket, tos: 0, tclass: 0, device: None };
        Ok(Self { stack: stack.clone(), inner: Mutex::new(Rank::Listener, inner) })
    }

    /// `SO_REUSEADDR`. Default false.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn reuseaddr(&self) -> io::Result<bool> {
        Ok(self.inner.lock().socket.reuse_address)
    }

    /// Sets `SO_REUSEADDR`: lets [`TcpSocket::bind`] take a port on which connections are in
    /// TIME-WAIT, but not one on which somebody listens.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn set_reuseaddr(&self, reuseaddr: bool) -> io::Result<()> {
        self.inner.lock().socket.reuse_address = reuseaddr;
        Ok(())
    }

    /// `SO_REUSEPORT`. Default false.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn reuseport(&self) -> io::Result<bool> {
        Ok(self.inner.lock().socket.reuse_port)
    }

    /// Sets `SO_REUSEPORT`: sockets that all set it may listen on one port; connections are spread
    /// over them.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn set_reuseport(&self, reuseport: bool) -> io::Result<()> {
        self.inner.lock().socket.reuse_port = reuseport;
        Ok(())
    }

    /// `SO_REUSEADDR` under the name of socket2.
    ///
    /// # Errors
    /// None.
    pub fn reuse_address(&self) -> io::Result<bool> {
        self.reuseaddr()
    }

    /// Sets `SO_REUSEADDR` under the name of socket2.
    ///
    /// # Errors
    /// None.
    pub fn set_reuse_address(&self, reuse: bool) -> io::Result<()> {
        self.set_reuseaddr(reuse)
    }

    /// `SO_REUSEPORT` under the name of socket2.
    ///
    /// # Errors
    /// None.
    pub fn reuse_port(&self) -> io::Result<bool> {
        self.reuseport()
    }

    /// Sets `SO_REUSEPORT` under the name of socket2.
    ///
    /// # Errors
    /// None.
    pub fn set_reuse_port(&self, reuse: bool) -> io::Result<()> {
        self.set_reuseport(reuse)
    }

    /// `IPV6_V6ONLY`. Default false.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn only_v6(&self) -> io::Result<bool> {
        let inner = self.inner.lock();
        match inner.socket.family() {
            Family::V4 => Err(os(libc::ENOPROTOOPT)),
            Family::V6 => Ok(inner.socket.only_v6()),
        }
    }

    /// Sets `IPV6_V6ONLY`: whether the socket refuses IPv4.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket, `EINVAL` once it is bound.
    pub fn set_only_v6(&self, only: bool) -> io::Result<()> {
        self.inner.lock().socket.set_only_v6(only)
    }

    /// `IP_TTL`. Default 64.
    ///
    /// # Errors
    /// None.
    pub fn ttl_v4(&self) -> io::Result<u32> {
        Ok(self.inner.lock().socket.ttl.into())
    }

    /// Sets `IP_TTL`.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.inner.lock().socket.ttl = ttl_from(ttl)?;
        Ok(())
    }

    /// `IP_TOS`. Default 0.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn tos_v4(&self) -> io::Result<u32> {
        Ok(self.inner.lock().tos.into())
    }

    /// Sets `IP_TOS` of what is sent over IPv4. The two bits of ECN belong to TCP and are ignored.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn set_tos_v4(&self, tos: u32) -> io::Result<()> {
        self.inner.lock().tos = tos as u8 & !3;
        Ok(())
    }

    /// The former name of [`TcpSocket::tos_v4`].
    ///
    /// # Errors
    /// None.
    #[deprecated = "use `tos_v4`"]
    #[doc(hidden)]
    pub fn tos(&self) -> io::Result<u32> {
        self.tos_v4()
    }

    /// The former name of [`TcpSocket::set_tos_v4`].
    ///
    /// # Errors
    /// None.
    #[deprecated = "use `set_tos_v4`"]
    #[doc(hidden)]
    pub fn set_tos(&self, tos: u32) -> io::Result<()> {
        self.set_tos_v4(tos)
    }

    /// `IPV6_TCLASS`. Default 0.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for an IPv4 socket.
    pub fn tclass_v6(&self) -> io::Result<u32> {
        let inner = self.inner.lock();
        match inner.socket.family() {
            Family::V4 => Err(os(libc::EOPNOTSUPP)),
            Family::V6 => Ok(inner.tclass.into()),
        }
    }

    /// Sets `IPV6_TCLASS`.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for an IPv4 socket, `EINVAL` if it does not fit a byte.
    pub fn set_tclass_v6(&self, tclass: u32) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if inner.socket.family() == Family::V4 {
            return Err(os(libc::EOPNOTSUPP));
        }
        inner.tclass = u8::try_from(tclass).map_err(|_| os(libc::EINVAL))? & !3;
        Ok(())
    }

    /// The name of the interface that the socket is limited to (`SO_BINDTODEVICE`).
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn device(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.inner.lock().device.clone())
    }

    /// Limits the socket to an interface of its stack; none, or an empty name, lifts the limit.
    ///
    /// # Errors
    /// `ENODEV` if there is no interface of this name.
    pub fn bind_device(&self, interface: Option<&[u8]>) -> io::Result<()> {
        let name = interface.filter(|name| !name.is_empty());
        let text = name.map(std::str::from_utf8).transpose().map_err(|_| os(libc::ENODEV))?;
        let mut inner = self.inner.lock();
        inner.socket.bind_device(self.stack.engine(), text)?;
        inner.device = name.map(<[u8]>::to_vec);
        Ok(())
    }

    /// The address that the socket is bound to; the unspecified address with port 0 before.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.lock().socket.local_addr())
    }

    /// `SO_ERROR`, which an unconnected socket never has.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    /// Binds the socket to an address of its stack; port 0 picks a free one.
    ///
    /// # Errors
    /// `EADDRINUSE`; `EADDRNOTAVAIL` for an address that is not the stack's; `EINVAL` if it is bound
    /// already; `EAFNOSUPPORT` for an address of the other family.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        self.inner.lock().socket.bind(self.stack.engine(), addr)
    }

    /// Connects to `addr`. The stream keeps the options of the socket.
    ///
    /// # Errors
    /// As [`TcpStream::connect`]; and `EAFNOSUPPORT` for an address of the other family.
    ///
    /// # Cancel safety
    /// Dropping the future gives up and closes the socket.
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        let Self { stack, inner } = self;
        let Inner { mut socket, tos, tclass, .. } = inner.into_inner();
        let over_v4 = match addr {
            SocketAddr::V4(_) => true,
            SocketAddr::V6(addr) => addr.ip().to_ipv4_mapped().is_some(),
        };
        socket.traffic_class = if over_v4 { tos } else { tclass };
        TcpStream::connect_socket(&stack, socket, addr).await
    }

    /// Listens. An unbound socket gets a free port. Of the connections that are established,
    /// `backlog + 1` wait for accept at most.
    ///
    /// # Errors
    /// `EADDRINUSE` if somebody else listens on the port; if the stack is over.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// let socket = stack.tcp_socket_v6()?;
    /// socket.bind("[::1]:7000".parse().unwrap())?;
    /// let listener = socket.listen(128)?;
    /// assert_eq!(listener.local_addr()?.port(), 7000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.listen_by(|engine, socket, observer| engine.listen(socket, backlog, observer))
    }

    /// Listens, and lets the application decide about each SYN before it is answered. `backlog + 1`
    /// clients wait for a decision, or after it for the end of their handshake, at most.
    ///
    /// # Errors
    /// As [`TcpSocket::listen`].
    pub fn listen_pending(self, backlog: u32) -> io::Result<PendingListener> {
        let listen = |engine: &Engine, socket, observer| engine.listen_pending(socket, backlog, observer);
        self.listen_by(listen).map(PendingListener::new)
    }

    fn listen_by(
        self,
        listen: impl FnOnce(&Engine, Unconnected, Arc<dyn Observer>) -> io::Result<Arc<Listener>>,
    ) -> io::Result<TcpListener> {
        let Self { stack, inner } = self;
        let Inner { mut socket, tos, tclass, .. } = inner.into_inner();
        let v6 = socket.family() == Family::V6;
        socket.traffic_class = if v6 { tclass } else { tos };
        TcpListener::from_socket(&stack, v6.then_some(tos), |engine, observer| {
            listen(engine, socket, observer)
        })
    }

    /// The stack that this socket belongs to.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }
}

impl HasOptions for TcpSocket {
    fn config(&self) -> &Config {
        self.stack.engine().config()
    }

    fn options(&self) -> SocketOptions {
        self.inner.lock().socket.options.clone()
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> R {
        change(&mut self.inner.lock().socket.options)
    }
}

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpSocket")
            .field("addr", &self.inner.lock().socket.local_addr())
            .field("stack", &self.stack.name())
            .finish()
    }
}
