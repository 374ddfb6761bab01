//! [`TcpListener`].

pub(super) mod incoming;

use super::stream::TcpStream;
use crate::config::Config;
use crate::net::core::Endpoint;
use crate::net::lookup::{ToSocketAddrs, none_worked, resolve};
use crate::net::options::fast_open::fast_open_server_options;
use crate::net::options::ip::{IpOptions, socket_family, ttl_from};
use crate::net::options::tcp::{HasTcpOptions, tcp_options};
use crate::net::readiness::{Direction, Registration};
use crate::net::stack::Stack;
use crate::stack::{Family, Listener, ListenerQueues, Observer, Unconnected};
use crate::tcp::SocketOptions;
use incoming::Incoming;
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
    endpoint: Arc<ListenerEndpoint>,
}

/// What the handle shares with its stack.
struct ListenerEndpoint {
    id: u64,
    stack: Stack,
    listener: Arc<Listener>,
    registration: Arc<Registration>,
    /// `IP_TOS` of an IPv6 socket, for the connections over IPv4 that it accepts.
    mapped_tos: Option<u8>,
}

impl Endpoint for ListenerEndpoint {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn close(&self) {
        self.stack.engine().with_tcp(self.stack.now(), |tcp, turn| tcp.close_listener(turn, &self.listener));
    }
}

impl Drop for ListenerEndpoint {
    fn drop(&mut self) {
        self.stack.core().forget(self.id);
        self.close();
    }
}

// See `Stack`.
impl std::panic::UnwindSafe for TcpListener {}
impl std::panic::RefUnwindSafe for TcpListener {}

impl TcpListener {
    /// Listens on `addr`, with `SO_REUSEADDR` set, on the current stack ([`Stack::current`]). If
    /// `addr` resolves to several addresses, they are tried in turn until one succeeds. Port 0
    /// selects a free port.
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

    /// Like [`TcpListener::bind`], on `stack`.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub async fn bind_on<A: ToSocketAddrs>(stack: &Stack, addr: A) -> io::Result<Self> {
        Self::bind_first(stack, addr, SynPolicy::Answer).await
    }

    /// Waits for a connection and returns it with the address of the peer.
    ///
    /// If the peer has reset the connection in the meantime, the first read returns the error.
    ///
    /// # Errors
    /// If the stack has ended, or if the device of the interface has failed.
    ///
    /// # Cancel safety
    /// Cancel safe: no connection is lost if the future is dropped.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.endpoint.registration.async_io(Interest::READABLE, || self.accept_now()).await
    }

    /// The poll form of [`TcpListener::accept`]. Only the task of the latest call is woken.
    ///
    /// # Errors
    /// As [`TcpListener::accept`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        self.endpoint.registration.poll_io(cx, Direction::Read, |_| self.accept_now())
    }

    /// The connections of this listener, as a stream that never ends. [`TcpListenerStream`] is one that owns its
    /// listener.
    ///
    /// [`TcpListenerStream`]: crate::net::TcpListenerStream
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming::of(self)
    }

    fn accept_now(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let stack = &self.endpoint.stack;
        let (cell, peer) =
            stack.engine().with_tcp(stack.now(), |tcp, turn| tcp.accept(turn, &self.endpoint.listener))?;
        Ok((TcpStream::accepted(stack, cell, self.endpoint.mapped_tos), peer))
    }

    /// The address and port that the listener is bound to.
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
        Ok(self.endpoint.listener.local_addr())
    }

    /// `IP_TTL`. Default 64.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.endpoint.listener.ttl().into())
    }

    /// Sets `IP_TTL`. Connections that are accepted later inherit it.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.endpoint.listener.set_ttl(ttl_from(ttl)?);
        Ok(())
    }

    /// The number of connections that wait for [`TcpListener::accept`]: the Recv-Q of `ss -lnt`.
    pub fn accept_queue_len(&self) -> usize {
        self.endpoint.listener.accept_queue_len()
    }

    /// The number of connections that Fast Open has opened and whose handshake is not complete,
    /// including those that the client reset in that state within the last minute.
    pub fn fast_open_queue_len(&self) -> usize {
        self.endpoint.listener.fast_open_queue_len()
    }

    /// The number of connections whose handshake is not complete.
    pub fn syn_queue_len(&self) -> usize {
        self.endpoint.listener.syn_queue_len()
    }

    /// Both queues of the listener, as `ss -lnt` shows them, and its counters, as `netstat -s` shows
    /// them. All values are of the same moment.
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
        self.endpoint.listener.queues()
    }

    /// The stack that this socket belongs to.
    pub fn stack(&self) -> &Stack {
        &self.endpoint.stack
    }
}

/// Who answers a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SynPolicy {
    /// The stack, at once.
    Answer,
    /// The stack, once the application has accepted the client.
    Hold,
}

/// What [`PendingListener`](super::PendingListener) and [`TcpSocket`](super::TcpSocket) share with it.
impl TcpListener {
    /// Binds to the first of the addresses that works, with `SO_REUSEADDR` as tokio does, and listens.
    pub(super) async fn bind_first<A: ToSocketAddrs>(
        stack: &Stack,
        addr: A,
        policy: SynPolicy,
    ) -> io::Result<Self> {
        let bound = |addr: SocketAddr| {
            let core = stack.core();
            core.ensure_open()?;
            let mut socket = Unconnected::new(core.engine.core(), core.engine.tcp(), socket_family(addr));
            socket.ip.reuse_address = true;
            core.engine.tcp().bind(core.engine.core(), &mut socket, addr)?;
            Self::start(stack, socket, &IpOptions::default(), BACKLOG, policy)
        };
        let (target, mut last) = (addr.to_target(), None);
        for addr in resolve(stack.core().resolver(), target).await? {
            match bound(addr) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        Err(none_worked(last))
    }

    /// Makes `socket` listen.
    pub(super) fn start(
        stack: &Stack,
        mut socket: Unconnected,
        ip: &IpOptions,
        backlog: u32,
        policy: SynPolicy,
    ) -> io::Result<Self> {
        let core = stack.core();
        core.ensure_open()?;
        let family = socket.ip.family();
        socket.ip.traffic_class = ip.traffic_class(family);
        let mapped_tos = (family == Family::V6).then(|| ip.traffic_class(Family::V4));
        Self::with_listener(stack, mapped_tos, |observer| match policy {
            SynPolicy::Answer => {
                core.engine.with_tcp(core.now(), |tcp, turn| tcp.listen(turn, socket, backlog, observer))
            }
            SynPolicy::Hold => core
                .engine
                .with_tcp(core.now(), |tcp, turn| tcp.listen_pending(turn, socket, backlog, observer)),
        })
    }

    /// Starts a forwarder, which is like a listener but for what it accepts.
    pub(super) fn forward(stack: &Stack, socket: Unconnected, max_in_flight: usize) -> io::Result<Self> {
        Self::with_listener(stack, None, |observer| {
            stack
                .engine()
                .with_tcp(stack.now(), |tcp, turn| tcp.forward(turn, socket, max_in_flight, observer))
        })
    }

    /// Takes the listener that `start` makes for an observer.
    fn with_listener(
        stack: &Stack,
        mapped_tos: Option<u8>,
        start: impl FnOnce(Arc<dyn Observer>) -> io::Result<Arc<Listener>>,
    ) -> io::Result<Self> {
        let core = stack.core();
        let registration = Arc::new(Registration::new());
        let listener = start(Arc::clone(&registration) as _)?;
        let id = core.next_id();
        let endpoint =
            Arc::new(ListenerEndpoint { id, stack: stack.clone(), listener, registration, mapped_tos });
        core.remember(id, &endpoint);
        Ok(Self { endpoint })
    }

    pub(super) fn registration(&self) -> &Registration {
        &self.endpoint.registration
    }

    /// Whether the stack is over, so that nothing is accepted any more.
    #[cfg(feature = "axum-0_8")]
    pub(in crate::net) fn is_over(&self) -> bool {
        self.registration().is_over()
    }

    pub(super) fn engine_listener(&self) -> &Arc<Listener> {
        &self.endpoint.listener
    }

    pub(super) fn mapped_tos(&self) -> Option<u8> {
        self.endpoint.mapped_tos
    }
}

impl HasTcpOptions for TcpListener {
    fn config(&self) -> &Config {
        self.endpoint.stack.engine().core().config()
    }

    fn family(&self) -> Family {
        socket_family(self.endpoint.listener.local_addr())
    }

    fn options(&self) -> SocketOptions {
        self.endpoint.listener.options()
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> R {
        self.endpoint.listener.with_options(change)
    }
}

tcp_options!(TcpListener);
fast_open_server_options!(TcpListener);

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("addr", &self.endpoint.listener.local_addr())
            .field("id", &self.endpoint.id)
            .field("stack", &self.endpoint.stack.name())
            .finish()
    }
}
