//! [`TcpListener`].

pub(super) mod incoming;

use super::stream::TcpStream;
use crate::config::Config;
use crate::error::os;
use crate::ip::PacketOptions;
use crate::net::core::Endpoint;
use crate::net::lookup::{ToSocketAddrs, none_worked, resolve};
use crate::net::options::fast_open::fast_open_options;
use crate::net::options::ip::{HasIpOptions, IpChange, IpValues, ip_options, socket_family};
use crate::net::options::tcp::{
    HasTcpOptions, Progress, buffer_options, change_value, ip_values, linger_option, tcp_options,
};
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
///
/// # File descriptors
/// There are none, so `from_std`, `into_std`, `AsFd` and `AsRawFd` are left out. Options are set by methods, or with
/// [`SockRef`](crate::net::SockRef) where code uses `socket2`. To hand connections to what listens in the kernel,
/// connect to it and copy both ways (`tokio::io::copy_bidirectional`).
pub struct TcpListener {
    endpoint: Arc<ListenerEndpoint>,
}

/// What the handle shares with its stack.
struct ListenerEndpoint {
    id: u64,
    stack: Stack,
    listener: Arc<Listener>,
    registration: Arc<Registration>,
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

    /// Waits until there may be a connection to accept.
    pub(in crate::net) async fn readable(&self) -> io::Result<()> {
        self.endpoint.registration.ready(Interest::READABLE).await.map(drop)
    }

    /// Like [`TcpListener::accept`], without waiting.
    pub(in crate::net) fn try_accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.endpoint.registration.try_io(Interest::READABLE, || self.accept_now())
    }

    fn accept_now(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let stack = &self.endpoint.stack;
        let (cell, peer) =
            stack.engine().with_tcp(stack.now(), |tcp, turn| tcp.accept(turn, &self.endpoint.listener))?;
        Ok((TcpStream::accepted(stack, cell), peer))
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

    /// `IP_TTL`, of packets over IPv4. Default 64.
    pub fn ttl(&self) -> io::Result<u32> {
        self.ttl_v4()
    }

    /// Sets `IP_TTL`. Connections that are accepted later inherit it.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.set_ttl_v4(ttl)
    }

    /// `SO_ERROR`. A listener has none: [`TcpListener::accept`] reports what has failed.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
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
            socket.ip.set_reuse_address(true);
            core.engine.tcp().bind(core.engine.core(), &mut socket, addr)?;
            Self::start(stack, socket, BACKLOG, policy)
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
        socket: Unconnected,
        backlog: u32,
        policy: SynPolicy,
    ) -> io::Result<Self> {
        let core = stack.core();
        core.ensure_open()?;
        Self::with_listener(stack, |observer| match policy {
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
        Self::with_listener(stack, |observer| {
            stack
                .engine()
                .with_tcp(stack.now(), |tcp, turn| tcp.forward(turn, socket, max_in_flight, observer))
        })
    }

    /// Takes the listener that `start` makes for an observer.
    fn with_listener(
        stack: &Stack,
        start: impl FnOnce(Arc<dyn Observer>) -> io::Result<Arc<Listener>>,
    ) -> io::Result<Self> {
        let core = stack.core();
        let registration = Arc::new(Registration::new());
        let listener = start(Arc::clone(&registration) as _)?;
        let id = core.next_id();
        let endpoint = Arc::new(ListenerEndpoint { id, stack: stack.clone(), listener, registration });
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
}

impl HasIpOptions for TcpListener {
    fn family(&self) -> Family {
        socket_family(self.endpoint.listener.local_addr())
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn values(&self) -> IpValues {
        let listener = &self.endpoint.listener;
        ip_values(listener.ip_options(), &listener.options())
    }

    fn change_packets(&self, change: impl FnOnce(&mut PacketOptions)) {
        self.endpoint.listener.change_packets(change);
    }

    fn change_ip(&self, change: IpChange<'_>) -> io::Result<()> {
        let Some(change) = change_value(self, change)? else { return Ok(()) };
        let ListenerEndpoint { stack, listener, .. } = &*self.endpoint;
        if listener.is_forwarder() {
            // It claims no port, and its interface is what it was started for.
            return Err(os(libc::EINVAL));
        }
        match change {
            IpChange::ReuseAddress(on) => listener.set_reuse_address(on),
            IpChange::ReusePort(on) => listener.set_reuse_port(on),
            IpChange::OnlyV6(_) => return Err(os(libc::EINVAL)),
            IpChange::Device(name) => {
                let engine = stack.engine();
                engine.tcp().bind_listener_device(engine.core(), listener, name)?;
            }
            IpChange::MtuDiscover(_) | IpChange::Foreign(..) | IpChange::Owner(_) => {}
        }
        Ok(())
    }

    fn interface_name(&self, interface: u16) -> Vec<u8> {
        self.endpoint.stack.engine().core().interface_name(interface).as_bytes().to_vec()
    }

    fn default_ttl(&self) -> u8 {
        self.endpoint.stack.engine().core().config().default_ttl
    }

    fn path_mtu(&self) -> Option<usize> {
        None
    }
}

impl HasTcpOptions for TcpListener {
    fn config(&self) -> &Config {
        self.endpoint.stack.engine().core().config()
    }

    fn options(&self) -> io::Result<SocketOptions> {
        Ok(self.endpoint.listener.options())
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> io::Result<R> {
        Ok(self.endpoint.listener.with_options(change))
    }

    fn progress(&self) -> Progress {
        Progress::Listening
    }
}

/// What is a listener but for what it accepts: it has the options of one.
pub(super) trait Listens {
    fn listener(&self) -> &TcpListener;
}

impl<T: Listens> HasIpOptions for T {
    fn family(&self) -> Family {
        self.listener().family()
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn values(&self) -> IpValues {
        self.listener().values()
    }

    fn change_packets(&self, change: impl FnOnce(&mut PacketOptions)) {
        self.listener().change_packets(change);
    }

    fn change_ip(&self, change: IpChange<'_>) -> io::Result<()> {
        self.listener().change_ip(change)
    }

    fn interface_name(&self, interface: u16) -> Vec<u8> {
        self.listener().interface_name(interface)
    }

    fn default_ttl(&self) -> u8 {
        self.listener().default_ttl()
    }

    fn path_mtu(&self) -> Option<usize> {
        None
    }
}

impl<T: Listens> HasTcpOptions for T {
    fn config(&self) -> &Config {
        self.listener().config()
    }

    fn options(&self) -> io::Result<SocketOptions> {
        self.listener().options()
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> io::Result<R> {
        self.listener().change(change)
    }

    fn progress(&self) -> Progress {
        Progress::Listening
    }
}

ip_options!(TcpListener, "Connections that are accepted later inherit it.");
tcp_options!(TcpListener);
buffer_options!(TcpListener);
linger_option!(TcpListener);
fast_open_options!(TcpListener);

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("addr", &self.endpoint.listener.local_addr())
            .field("id", &self.endpoint.id)
            .field("stack", &self.endpoint.stack.name())
            .finish()
    }
}
