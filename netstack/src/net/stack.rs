//! [`Stack`]: a handle to one TCP/IP stack and its driver.

use crate::config::Config;
use crate::config::FastOpenKeys;
use crate::net::clock::{self, Clock};
use crate::net::driver;
use crate::net::lookup::{self, ToSocketAddrs};
use crate::net::reactor::Wakeups;
use crate::net::readiness::Registration;
use crate::net::tcp::{TcpListener, TcpSocket, TcpStream};
use crate::stack::{Counters, Destination, Engine, EngineSetup, FastOpenCache, Interface, give_back};
use crate::sync::{Mutex, Rank};
use crate::tcp::{CongestionControl, CongestionError, CongestionRegistry, CongestionStart};
use crate::time::{Duration, Instant};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use tokio::runtime::Handle;

/// How often a stack that is ending looks whether it is done.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// Who drives a stack: who waits for its devices and its deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Driver {
    /// Tasks on the tokio runtime in which the stack is built. Its clock is the stack's clock, so a
    /// paused runtime makes a stack in virtual time. When the runtime ends, so does the stack.
    #[default]
    Tokio,
    /// A thread of its own, independent of every runtime.
    Thread,
}

/// How far a stack's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    Open,
    /// No new sockets, no new data; what was accepted is still being sent.
    Draining,
    Stopped,
}

/// The error of a socket whose stack is over. It has the text of the one that tokio's sockets give
/// when their runtime is gone, so that [`tokio::runtime::is_rt_shutdown_err`] knows it.
pub(crate) fn gone() -> io::Error {
    io::Error::other("A Tokio 1.x context was found, but it is being shutdown.")
}

/// A socket as its stack sees it when the stack ends.
pub(crate) trait Endpoint: Send + Sync {
    /// Where its waits are to be ended.
    fn registration(&self) -> &Registration;
    /// Closes it as the drop of its last handle would; only the first call counts.
    fn close(&self);
}

/// What the handles, the sockets and the driver of one stack share.
pub(crate) struct Core {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Clock,
    pub(crate) wakeups: Arc<Wakeups>,
    pub(crate) exit_drain: Duration,
    name: String,
    phase: AtomicU8,
    /// When the last handle went, once it did.
    abandoned: OnceLock<Instant>,
    sockets: Mutex<HashMap<u64, Weak<dyn Endpoint>>>,
    next_socket: AtomicU64,
    /// The driver's thread, or the one that drains after the driver's runtime ended.
    pub(crate) thread: Mutex<Option<JoinHandle<()>>>,
    pub(crate) drain_started: AtomicBool,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("name", &self.name).field("phase", &self.phase()).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Open,
            1 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    /// Fails if the stack takes no new sockets.
    pub(crate) fn ensure_open(&self) -> io::Result<()> {
        if self.phase() == Phase::Open { Ok(()) } else { Err(gone()) }
    }

    /// A number for a new socket of this stack.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_socket.fetch_add(1, Ordering::Relaxed)
    }

    /// Remembers a socket, so that it ends when the stack does.
    pub(crate) fn remember<E: Endpoint + 'static>(&self, id: u64, endpoint: &Arc<E>) {
        let weak: Weak<E> = Arc::downgrade(endpoint);
        self.sockets.lock().insert(id, weak);
        if self.phase() != Phase::Open {
            endpoint.registration().shut_down();
        }
    }

    /// Forgets a socket that closed by itself.
    pub(crate) fn forget(&self, id: u64) {
        let forgotten = {
            let mut sockets = self.sockets.lock();
            let forgotten = sockets.remove(&id);
            give_back(&mut sockets);
            forgotten
        };
        drop(forgotten);
    }

    /// The sockets there are. Collected first, because dropping the last handle of one comes back
    /// for the lock.
    fn sockets(&self) -> Vec<Arc<dyn Endpoint>> {
        self.sockets.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Takes no new sockets and no new data, and closes the sockets there are as if their handles
    /// had been dropped. What was written is still sent.
    pub(crate) fn start_closing(&self) {
        self.phase.fetch_max(Phase::Draining as u8, Ordering::AcqRel);
        for socket in self.sockets() {
            socket.registration().shut_down();
            socket.close();
        }
    }

    /// Ends everything at once.
    pub(crate) fn stop(&self) {
        if self.phase.swap(Phase::Stopped as u8, Ordering::AcqRel) == Phase::Stopped as u8 {
            return;
        }
        for socket in self.sockets() {
            socket.registration().shut_down();
        }
        self.engine.fail_all(self.now(), &gone());
        self.wakeups.all();
    }

    /// Says that no handle is left.
    fn abandon(&self) {
        self.abandoned.get_or_init(|| self.now());
        self.wakeups.all();
    }

    /// Stops if nobody owns the stack and nothing is left to do, or left time to do it in. Whether
    /// the stack is stopped.
    pub(crate) fn finish_if_abandoned(&self, now: Instant) -> bool {
        let over = |since: &Instant| self.engine.connections() == 0 || now >= *since + self.exit_drain;
        if self.abandoned.get().is_some_and(over) {
            self.stop();
        }
        self.phase() == Phase::Stopped
    }

    /// When [`Core::finish_if_abandoned`] should be called again, if it should.
    pub(crate) fn next_check(&self, now: Instant) -> Option<Instant> {
        self.abandoned.get().map(|_| now + CHECK_INTERVAL)
    }
}

/// What keeps a stack owned: its handles and its sockets. The driver only keeps the [`Core`].
#[derive(Debug)]
struct Owner {
    core: Arc<Core>,
    driver: Driver,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.core.abandon();
        if self.driver == Driver::Thread {
            driver::outlive(&self.core);
        }
    }
}

/// A TCP/IP stack.
///
/// A handle: cloning is cheap, and all clones are the same stack. A socket holds its stack, so a
/// stack lives until its last handle and its last socket are gone; then it sends what it accepted
/// ([`Config::exit_drain`] bounds that) and ends. [`Stack::shutdown`] ends it earlier.
///
/// # Which stack a socket belongs to
/// `stack.connect`, `stack.listen`, [`TcpStream::connect_on`] and the like say so. The constructors
/// that `tokio::net` has too look for a stack around them. In this order the first one counts:
///
/// 1. [`Stack::scope`] around the future, or [`Stack::enter`] on the thread,
/// 2. [`Stack::bind_runtime`] for the runtime that the code runs on,
/// 3. [`Stack::install`] for the process,
///
/// and without any there is an error of kind [`io::ErrorKind::Unsupported`]; nothing ever falls
/// back to the kernel's sockets in silence.
///
/// # Examples
/// ```
/// use netstack::Stack;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let stack = Stack::builder().build()?;
/// let listener = stack.listen("127.0.0.1:0").await?;
/// let mut client = stack.connect(listener.local_addr()?).await?;
/// let (mut server, _) = listener.accept().await?;
/// client.write_all(b"hello").await?;
/// let mut buf = [0; 5];
/// server.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Stack {
    owner: Arc<Owner>,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("name", &self.name()).finish_non_exhaustive()
    }
}

// A panic in a task leaves no half-made state behind the stack's locks: they do not poison, and
// the core's methods do not panic.
impl std::panic::UnwindSafe for Stack {}
impl std::panic::RefUnwindSafe for Stack {}

impl Stack {
    /// A stack to be configured. Without any more, it has a loopback interface and nothing else.
    pub fn builder() -> StackBuilder {
        StackBuilder {
            name: "netstack".to_owned(),
            interfaces: Vec::new(),
            config: Config::default(),
            driver: Driver::default(),
            fast_open_cache: None,
            congestion: Ok(CongestionRegistry::default()),
        }
    }

    /// The name given to [`StackBuilder::name`].
    pub fn name(&self) -> &str {
        &self.owner.core.name
    }

    /// Opens a connection on this stack: [`TcpStream::connect_on`].
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub async fn connect<A: ToSocketAddrs>(&self, addr: A) -> io::Result<TcpStream> {
        TcpStream::connect_on(self, addr).await
    }

    /// Listens on this stack: [`TcpListener::bind_on`].
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub async fn listen<A: ToSocketAddrs>(&self, addr: A) -> io::Result<TcpListener> {
        TcpListener::bind_on(self, addr).await
    }

    /// A new IPv4 socket of this stack: [`TcpSocket::new_v4_on`].
    ///
    /// # Errors
    /// If the stack is over.
    pub fn tcp_socket_v4(&self) -> io::Result<TcpSocket> {
        TcpSocket::new_v4_on(self)
    }

    /// A new IPv6 socket of this stack: [`TcpSocket::new_v6_on`].
    ///
    /// # Errors
    /// If the stack is over.
    pub fn tcp_socket_v6(&self) -> io::Result<TcpSocket> {
        TcpSocket::new_v6_on(self)
    }

    /// Resolves a name as the sockets of this stack do: by the resolver of the host.
    ///
    /// # Errors
    /// As [`lookup_host`](crate::net::lookup_host).
    pub async fn lookup_host<T: ToSocketAddrs>(
        &self,
        host: T,
    ) -> io::Result<impl Iterator<Item = SocketAddr>> {
        Ok(lookup::resolve(&host).await?.into_iter())
    }

    /// What the stack has counted, as `netstat -s` would show it.
    pub fn counters(&self) -> Counters {
        self.owner.core.engine.counters()
    }

    /// Connections that exist, also those that no application holds any more. TIME-WAIT does not
    /// count.
    pub fn connections(&self) -> usize {
        self.owner.core.engine.connections()
    }

    /// Connections in TIME-WAIT.
    pub fn time_waits(&self) -> usize {
        self.owner.core.engine.time_waits()
    }

    /// What the stack remembers of the hosts that it talked to, in no order: path MTUs and
    /// measurements, as `ip tcp_metrics show` and `ip route get` tell in Linux.
    pub fn destinations(&self) -> Vec<Destination> {
        self.engine().destinations(self.now())
    }

    /// Forgets what [`Stack::destinations`] shows (`ip tcp_metrics flush`). Running connections keep
    /// the path MTU that they found until it expires.
    pub fn forget_destinations(&self) {
        self.engine().forget_destinations();
    }

    /// Waits until every byte that was written has been acknowledged by its peer, for at most
    /// `limit`. Whether that came to pass.
    ///
    /// # Cancel safety
    /// Waiting has no effect of its own.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.wait_until(limit, Engine::is_drained).await
    }

    /// Ends the stack in order: closes every socket, waits until the connections are over or `limit`
    /// has passed, resets what is left, and stops the driver.
    ///
    /// Waits on the stack's sockets, and every later use of them, fail with an error for which
    /// [`tokio::runtime::is_rt_shutdown_err`] is true.
    ///
    /// # Cancel safety
    /// If it is dropped before it completes, the sockets are closed, and the driver goes on until
    /// the last handle is gone.
    pub async fn shutdown(&self, limit: Duration) {
        self.owner.core.start_closing();
        self.wait_until(limit, |engine| engine.connections() == 0).await;
        self.owner.core.stop();
    }

    async fn wait_until(&self, limit: Duration, done: impl Fn(&Engine) -> bool) -> bool {
        let core = &self.owner.core;
        let wait = async {
            while !done(&core.engine) && core.phase() != Phase::Stopped {
                tokio::time::sleep(CHECK_INTERVAL).await;
            }
        };
        let _ = tokio::time::timeout(limit, wait).await;
        done(&core.engine)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.owner.core
    }

    /// What clients of this stack know of servers for Fast Open.
    pub fn fast_open_cache(&self) -> &Arc<FastOpenCache> {
        self.engine().fast_open_cache()
    }

    /// The keys that Fast Open cookies are made and checked with.
    pub fn fast_open_keys(&self) -> FastOpenKeys {
        self.engine().fast_open_keys()
    }

    /// Replaces the keys of Fast Open cookies. Cookies of the former key are good as long as it is the
    /// backup key: [`FastOpenKeys::rotated`].
    pub fn set_fast_open_keys(&self, keys: FastOpenKeys) {
        self.engine().set_fast_open_keys(keys);
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.owner.core.engine
    }

    pub(crate) fn now(&self) -> Instant {
        self.owner.core.now()
    }
}

/// Builds a [`Stack`].
///
/// # Examples
/// ```
/// use netstack::{Interface, Stack};
/// use netstack::device::{Pair, PairConfig};
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (left, right) = Pair::new(PairConfig::default());
/// let left = Interface::new(Arc::new(left)).address("10.0.0.1/24");
/// let right = Interface::new(Arc::new(right)).address("10.0.0.2/24");
/// let server = Stack::builder().interface(left).build()?;
/// let client = Stack::builder().interface(right).build()?;
/// let listener = server.listen("10.0.0.1:80").await?;
/// let stream = client.connect("10.0.0.1:80").await?;
/// let (_, peer) = listener.accept().await?;
/// assert_eq!(peer, stream.local_addr()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct StackBuilder {
    name: String,
    interfaces: Vec<Interface>,
    config: Config,
    driver: Driver,
    fast_open_cache: Option<Arc<FastOpenCache>>,
    /// The first registration that failed stays until `build` returns it.
    congestion: Result<CongestionRegistry, CongestionError>,
}

impl StackBuilder {
    /// A name for messages and for the driver's thread. Default `netstack`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds an interface. The loopback interface comes by itself.
    pub fn interface(mut self, interface: Interface) -> Self {
        self.interfaces.push(interface);
        self
    }

    /// Whether there is a loopback interface, with 127.0.0.0/8 and ::1. Default on.
    pub fn loopback(mut self, on: bool) -> Self {
        self.config.loopback = on;
        self
    }

    /// Replaces all settings, [`StackBuilder::loopback`] included.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Who drives the stack. Default [`Driver::Tokio`].
    pub fn driver(mut self, driver: Driver) -> Self {
        self.driver = driver;
        self
    }

    /// Where clients look for Fast Open cookies. Stacks with the same addresses may share a cache;
    /// without this, each has its own.
    pub fn fast_open_cache(mut self, cache: Arc<FastOpenCache>) -> Self {
        self.fast_open_cache = Some(cache);
        self
    }

    /// Registers a congestion control algorithm by name, for [`Config::congestion`] and
    /// `set_tcp_congestion` to choose. `cubic`, `reno` and `bbr` are built in.
    ///
    /// `factory` makes the state of the algorithm for one connection. It is called with the connection
    /// locked, and must not block or call into the stack.
    ///
    /// # Examples
    /// A congestion control that does nothing but keep at most 32 KiB in flight:
    ///
    /// ```
    /// use netstack::tcp::{AckSample, CongestionControl, CongestionStart};
    /// use netstack::time::Instant;
    /// use netstack::{Config, Stack};
    ///
    /// #[derive(Debug)]
    /// struct Fixed(usize);
    ///
    /// impl CongestionControl for Fixed {
    ///     fn cwnd(&self) -> usize {
    ///         self.0
    ///     }
    ///     fn ssthresh(&self) -> usize {
    ///         32 << 10
    ///     }
    ///     fn set_cwnd(&mut self, bytes: usize) {
    ///         self.0 = bytes.clamp(1448, 32 << 10);
    ///     }
    ///     fn on_ack(&mut self, ack: &AckSample) {
    ///         self.set_cwnd(self.0 + ack.delivered);
    ///     }
    ///     fn on_congestion(&mut self, _now: Instant) {}
    ///     fn on_timeout(&mut self, _now: Instant, _first: bool) {}
    ///     fn on_mss_change(&mut self, _mss: usize) {}
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let stack = Stack::builder()
    ///     .congestion_control("fixed", |_: &CongestionStart| Box::new(Fixed(32 << 10)))
    ///     .config(Config { congestion: "fixed".parse()?, ..Config::default() })
    ///     .build()?;
    /// let listener = stack.listen("127.0.0.1:0").await?;
    /// let client = stack.connect(listener.local_addr()?).await?;
    /// assert_eq!(client.tcp_congestion()?, b"fixed");
    /// assert_eq!(client.tcp_info()?.snd_cwnd, 32 << 10);
    /// client.set_tcp_congestion(b"cubic")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn congestion_control(
        mut self,
        name: &str,
        factory: impl Fn(&CongestionStart) -> Box<dyn CongestionControl> + Send + Sync + 'static,
    ) -> Self {
        if let Ok(registry) = &mut self.congestion
            && let Err(error) = registry.register(name, factory)
        {
            self.congestion = Err(error);
        }
        self
    }

    /// Builds the stack and starts its driver.
    ///
    /// # Errors
    /// - [`io::ErrorKind::Unsupported`]: [`Driver::Tokio`] outside of a tokio runtime; or a device
    ///   that waits on a file descriptor, or [`Driver::Thread`], while the time of the runtime around
    ///   is paused: they cannot follow virtual time.
    /// - [`io::ErrorKind::InvalidInput`]: an address, a gateway or a setting that makes no sense; a congestion
    ///   control that is registered by a name that is no name or is taken, or a [`Config::congestion`]
    ///   that is not registered.
    /// - What the operating system says when the driver's thread cannot be started.
    ///
    /// # Panics
    /// If the runtime was built without its time driver, or without its I/O driver and there is a
    /// device that needs it.
    pub fn build(self) -> io::Result<Stack> {
        let Self { name, interfaces, config, driver, fast_open_cache, congestion } = self;
        let congestion = congestion.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let runtime = Handle::try_current().ok();
        check_clock(driver, runtime.as_ref(), &interfaces)?;
        let exit_drain = config.exit_drain;
        let engine = Engine::with_setup(config, interfaces, EngineSetup { fast_open_cache, congestion })?;
        let clock = match (driver, &runtime) {
            (Driver::Tokio, Some(runtime)) => Clock::of_runtime(runtime),
            _ => Clock::monotonic(),
        };
        let wakeups = Wakeups::new(engine.queues());
        engine.set_driver_hook(Arc::clone(&wakeups) as _);
        let core = Arc::new(Core {
            engine,
            clock,
            wakeups,
            exit_drain,
            name,
            phase: AtomicU8::new(Phase::Open as u8),
            abandoned: OnceLock::new(),
            sockets: Mutex::new(Rank::Leaf, HashMap::new()),
            next_socket: AtomicU64::new(1),
            thread: Mutex::new(Rank::Leaf, None),
            drain_started: AtomicBool::new(false),
        });
        match driver {
            Driver::Tokio => driver::start_tasks(&core)?,
            Driver::Thread => driver::start_thread(&core)?,
        }
        Ok(Stack { owner: Arc::new(Owner { core, driver }) })
    }
}

/// Refuses what cannot follow the clock that the stack would have.
fn check_clock(driver: Driver, runtime: Option<&Handle>, interfaces: &[Interface]) -> io::Result<()> {
    let unsupported = |text: &str| Err(io::Error::new(io::ErrorKind::Unsupported, text.to_owned()));
    if driver == Driver::Tokio && runtime.is_none() {
        return unsupported("no tokio runtime here: build the stack inside one, or choose Driver::Thread");
    }
    if runtime.is_none() || !clock::is_paused() {
        return Ok(());
    }
    if driver == Driver::Thread {
        return unsupported(
            "the runtime's time is paused, which Driver::Thread cannot follow: use Driver::Tokio",
        );
    }
    if interfaces.iter().any(|interface| driver::waits_on_fd(interface.device.as_ref())) {
        return unsupported(
            "the runtime's time is paused, which a device with a file descriptor cannot follow: use an in-memory device",
        );
    }
    Ok(())
}
