//! [`TcpListener`].

use super::options::HasOptions;
use super::stream::TcpStream;
use crate::config::Config;
use crate::error::os;
use crate::net::lookup::{ToSocketAddrs, none_worked, resolve};
use crate::net::readiness::{Direction, Registration};
use crate::net::stack::{Endpoint, Stack};
use crate::net::tcp::TcpSocket;
use crate::stack::{Engine, Listener, ListenerQueues, Observer};
use crate::tcp::SocketOptions;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::Interest;

/// The backlog of [`TcpListener::bind`]; `Config::somaxconn` bounds it.
const BACKLOG: u32 = 4096;

/// A TCP socket that listens for connections.
///
/// # Examples
/// ```
/// use netstack::net::TcpListener;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// # stack.scope(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// # let client = listener.stack().connect(listener.local_addr()?).await?;
/// let (stream, peer) = listener.accept().await?;
/// println!("{peer} has connected");
/// # drop((stream, client));
/// # std::io::Result::Ok(())
/// # }).await
/// # }
/// ```
pub struct TcpListener {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    stack: Stack,
    listener: Arc<Listener>,
    registration: Arc<Registration>,
    /// `IP_TOS` of connections over IPv4 of an IPv6 socket, if it was set.
    mapped_tos: Option<u8>,
}

impl Endpoint for Inner {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn close(&self) {
        self.stack.engine().close_listener(self.stack.now(), &self.listener);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stack.core().forget(self.id);
        self.close();
    }
}

// See `Stack`.
impl std::panic::UnwindSafe for TcpListener {}
impl std::panic::RefUnwindSafe for TcpListener {}

/// Binds to the first of the addresses that works, with `SO_REUSEADDR` as tokio does, and listens.
pub(super) async fn listen_first<A: ToSocketAddrs, L>(
    stack: &Stack,
    addr: A,
    listen: impl Fn(TcpSocket) -> io::Result<L>,
) -> io::Result<L> {
    let bound = |addr| {
        let socket = TcpSocket::for_addr_on(stack, addr)?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        listen(socket)
    };
    let mut last = None;
    for addr in resolve(&addr).await? {
        match bound(addr) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    Err(none_worked(last))
}

impl TcpListener {
    /// Listens on `addr`, with `SO_REUSEADDR` set, on the stack of this place. Of several addresses
    /// the first that works counts. Port 0 picks a free one.
    ///
    /// # Errors
    /// - [`io::ErrorKind::Unsupported`] if there is no stack here.
    /// - `EADDRINUSE`, `EADDRNOTAVAIL`.
    /// - [`io::ErrorKind::InvalidInput`] if `addr` cannot be resolved to any address.
    ///
    /// There are no privileged ports.
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::bind_on(&Stack::current()?, addr).await
    }

    /// Listens on `addr` on `stack`; otherwise as [`TcpListener::bind`].
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub async fn bind_on<A: ToSocketAddrs>(stack: &Stack, addr: A) -> io::Result<Self> {
        listen_first(stack, addr, |socket| socket.listen(BACKLOG)).await
    }

    /// `listen` is [`Engine::listen`] or its variant.
    pub(super) fn from_socket(
        stack: &Stack,
        mapped_tos: Option<u8>,
        listen: impl FnOnce(&Engine, Arc<dyn Observer>) -> io::Result<Arc<Listener>>,
    ) -> io::Result<Self> {
        let core = stack.core();
        core.ensure_open()?;
        let registration = Arc::new(Registration::new());
        let listener = listen(&core.engine, Arc::clone(&registration) as _)?;
        let id = core.next_id();
        let inner = Arc::new(Inner { id, stack: stack.clone(), listener, registration, mapped_tos });
        core.remember(id, &inner);
        Ok(Self { inner })
    }

    /// Waits for a connection and returns it with the address of the peer.
    ///
    /// The peer may have reset the connection already; then the first read says so.
    ///
    /// # Errors
    /// If the stack is over, or the interface's device failed.
    ///
    /// # Cancel safety
    /// Cancel safe: no connection is lost if the future is dropped.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.inner.registration.async_io(Interest::READABLE, || self.accept_now()).await
    }

    /// The poll form of [`TcpListener::accept`]. Only the task of the latest call is woken.
    ///
    /// # Errors
    /// As [`TcpListener::accept`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.inner.registration.poll_io(cx, Direction::Read, |_| self.accept_now())
    }

    fn accept_now(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let stack = &self.inner.stack;
        let (cell, peer) = stack.engine().accept(&self.inner.listener)?;
        let over_v4 = matches!(peer, SocketAddr::V6(peer) if peer.ip().to_ipv4_mapped().is_some());
        if let Some(tos) = self.inner.mapped_tos.filter(|_| over_v4) {
            cell.set_traffic_class(tos);
        }
        Ok((TcpStream::accepted(stack, cell), peer))
    }

    /// The address that it listens on, with the port that was chosen.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// let listener = stack.listen("127.0.0.1:8080").await?;
    /// assert_eq!(listener.local_addr()?, "127.0.0.1:8080".parse().unwrap());
    /// # Ok(())
    /// # }
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.listener.local_addr())
    }

    /// `IP_TTL`. Default 64.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.inner.listener.ttl().into())
    }

    /// Sets `IP_TTL`; connections that are accepted later inherit it.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.inner.listener.set_ttl(ttl_from(ttl)?);
        Ok(())
    }

    /// Connections that wait for [`TcpListener::accept`]: the Recv-Q of `ss -lnt`.
    pub fn accept_queue_len(&self) -> usize {
        self.inner.listener.accept_queue_len()
    }

    /// Connections that Fast Open has made and whose handshake is not complete, and those that the
    /// client has reset in that time and that count for a minute.
    pub fn fast_open_queue_len(&self) -> usize {
        self.inner.listener.fast_open_queue_len()
    }

    /// Connections whose handshake is not complete.
    pub fn syn_queue_len(&self) -> usize {
        self.inner.listener.syn_queue_len()
    }

    /// Both queues of the listener, as `ss -lnt` shows them, and what it has counted, as `netstat -s`
    /// does: all of one moment.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// let listener = stack.listen("127.0.0.1:0").await?;
    /// let client = stack.connect(listener.local_addr()?).await?;
    /// let queues = listener.queues();
    /// assert_eq!((queues.accept_queue, queues.backlog, queues.syn_queue), (1, 4096, 0));
    /// assert_eq!(queues.counters.passive_opens, 1);
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    pub fn queues(&self) -> ListenerQueues {
        self.inner.listener.queues()
    }

    /// The stack that this socket belongs to.
    pub fn stack(&self) -> &Stack {
        &self.inner.stack
    }

    pub(super) fn registration(&self) -> &Registration {
        &self.inner.registration
    }

    pub(super) fn engine_listener(&self) -> &Arc<Listener> {
        &self.inner.listener
    }

    pub(super) fn mapped_tos(&self) -> Option<u8> {
        self.inner.mapped_tos
    }
}

/// A time to live from the `u32` that `tokio::net` takes.
pub(super) fn ttl_from(ttl: u32) -> io::Result<u8> {
    u8::try_from(ttl).ok().filter(|ttl| *ttl > 0).ok_or_else(|| os(libc::EINVAL))
}

impl HasOptions for TcpListener {
    fn config(&self) -> &Config {
        self.inner.stack.engine().config()
    }

    fn options(&self) -> SocketOptions {
        self.inner.listener.options()
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> R {
        self.inner.listener.with_options(change)
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("addr", &self.inner.listener.local_addr())
            .field("id", &self.inner.id)
            .field("stack", &self.inner.stack.name())
            .finish()
    }
}
