//! [`Stack`]: a handle to one TCP/IP stack.

pub(crate) mod ambient;
pub(crate) mod builder;
mod machine;

use crate::config::FastOpenKeys;
use crate::memory::MemoryUse;
use crate::net::core::{CHECK_INTERVAL, Core, Lifecycle};
use crate::net::driver::{self, Driver};
use crate::net::error::Cause;
use crate::stack::{ConnectionEnd, Counters, Destination, Engine, FastOpenCache};
use crate::time::{Duration, Instant};
use std::fmt;
use std::io;
use std::sync::Arc;

/// For how long [`Stack::shutdown`] waits for the driver's tasks to end.
const DRIVER_END: Duration = Duration::from_secs(1);

/// A TCP/IP stack.
///
/// This is a handle. Cloning it is cheap, and all clones refer to the same stack. A socket holds a
/// handle too. When the last handle and the last socket have been dropped, the stack delivers the
/// data that was written, for at most [`Config::exit_drain`](crate::Config::exit_drain), and ends.
/// [`Stack::shutdown`] ends it earlier.
///
/// # Which stack a socket belongs to
/// `stack.connect`, `stack.listen`, [`TcpStream::connect_on`](crate::net::TcpStream::connect_on)
/// and similar constructors name their stack. The constructors that `tokio::net` has too use the
/// current stack, which is the first of these:
///
/// 1. the stack of [`Stack::scope`] around the future, or of [`Stack::enter`] on the thread;
/// 2. the stack of [`Stack::bind_runtime`] for the runtime that the code runs on;
/// 3. the stack of [`Stack::install`] for the process.
///
/// Without a current stack, they fail with an error of kind
/// [`Unsupported`](std::io::ErrorKind::Unsupported). They never fall back to the kernel's sockets.
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

/// An interface whose device is gone: what [`Stack::failed`] returns.
#[derive(Debug)]
#[non_exhaustive]
pub struct InterfaceFailure {
    /// The name of the interface.
    pub interface: String,
    /// What its device failed with.
    pub error: io::Error,
}

impl fmt::Display for InterfaceFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface `{}` failed: {}", self.interface, self.error)
    }
}

impl std::error::Error for InterfaceFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A handle that does not keep its stack.
#[cfg(feature = "hickory-0_26")]
pub(crate) struct WeakStack(std::sync::Weak<Owner>);

#[cfg(feature = "hickory-0_26")]
impl WeakStack {
    /// The stack, if somebody has a handle or a socket.
    pub(crate) fn upgrade(&self) -> Option<Stack> {
        Some(Stack { owner: self.0.upgrade()? })
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
            driver::drain_on_drop(&self.core);
        }
    }
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
    /// The name given to [`StackBuilder::name`](builder::StackBuilder::name).
    pub fn name(&self) -> &str {
        self.owner.core.name()
    }

    #[cfg(feature = "hickory-0_26")]
    pub(crate) fn downgrade(&self) -> WeakStack {
        WeakStack(Arc::downgrade(&self.owner))
    }

    /// The counters of the stack, as `netstat -s` shows them.
    pub fn counters(&self) -> Counters {
        self.owner.core.engine.counters()
    }

    /// What the stack holds in memory, and what it may hold ([`Config::memory`](crate::Config::memory)): buffers,
    /// connections and their tables, half-open connections, fragments, and the queues of all sockets.
    ///
    /// # Examples
    /// ```
    /// # use netstack::config::MemoryBudget;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let config = netstack::Config::default().with(|c| c.memory = Some(MemoryBudget::new(64 << 20)));
    /// let stack = netstack::Stack::builder().config(config).build()?;
    /// let memory = stack.memory();
    /// assert!(!memory.pressed && memory.used < memory.budget.pressure);
    /// # Ok(())
    /// # }
    /// ```
    pub fn memory(&self) -> MemoryUse {
        self.engine().core().memory_use()
    }

    /// The number of connections, including orphans (connections that no application holds any
    /// more) and excluding those in TIME-WAIT.
    pub fn connections(&self) -> usize {
        self.owner.core.engine.tcp().connections()
    }

    /// How the last 256 connections ended, the latest last: addresses, times, counters, and the reason.
    ///
    /// # Examples
    /// ```
    /// use netstack::reasons::EndReason;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let stack = netstack::Stack::builder().build()?;
    /// assert!(stack.connect("127.0.0.1:9").await.is_err());
    /// let last = *stack.recent_ends().last().unwrap();
    /// assert_eq!(last.reason, EndReason::Refused);
    /// println!("{last}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn recent_ends(&self) -> Vec<ConnectionEnd> {
        self.engine().recent_ends()
    }

    /// The number of connections in TIME-WAIT.
    pub fn time_waits(&self) -> usize {
        self.owner.core.engine.tcp().time_waits()
    }

    /// The metrics of the hosts that the stack has communicated with, in no particular order: path
    /// MTUs and measurements, as `ip tcp_metrics show` and `ip route get` show them on Linux.
    pub fn destinations(&self) -> Vec<Destination> {
        self.engine().destinations(self.now())
    }

    /// Clears the metrics that [`Stack::destinations`] returns (`ip tcp_metrics flush`). Open
    /// connections keep their path MTU until it expires.
    pub fn forget_destinations(&self) {
        self.engine().forget_destinations();
    }

    /// Waits for at most `limit` until all written data has been acknowledged by the peers. Returns
    /// whether it was.
    ///
    /// # Cancel safety
    /// Waiting has no effect of its own.
    pub async fn drain(&self, limit: Duration) -> bool {
        let over = |core: &Core| core.lifecycle() == Lifecycle::Stopped;
        self.wait_until(limit, |core| core.engine.is_drained() || over(core)).await;
        self.engine().is_drained()
    }

    /// Shuts the stack down gracefully: closes all sockets, waits until the connections have ended
    /// or `limit` has passed and their last packets have left a [`Link`](crate::device::Link), resets the
    /// remaining connections, and stops the driver. When it returns, the driver has let go of the devices,
    /// which are free once the last handle of the stack and its last socket have been dropped.
    ///
    /// Pending and later operations on the stack's sockets fail with an error that says so.
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the sockets are closed, and the driver
    /// continues until the last handle is dropped.
    pub async fn shutdown(&self, limit: Duration) {
        self.owner.core.start_closing(Cause::ShutDown);
        self.wait_until(limit, |core| core.is_done() || core.lifecycle() == Lifecycle::Stopped).await;
        self.owner.core.stop(Cause::ShutDown);
        // A runtime that nobody runs does not let its tasks end.
        self.wait_until(DRIVER_END, |core| !core.is_driven()).await;
    }

    /// Waits until the device of an interface is gone, and says which and why: a TUN device that was
    /// deleted, a [`Pair`](crate::device::Pair) whose other end was dropped. Every socket of the interface
    /// has its error then. If several are gone, it is the first. It waits for ever if none is.
    ///
    /// # Cancel safety
    /// Waiting has no effect of its own.
    pub async fn failed(&self) -> InterfaceFailure {
        let core = &self.owner.core;
        loop {
            let mut told = std::pin::pin!(core.wakeups.failures().notified());
            // From here on nothing is missed.
            told.as_mut().enable();
            if let Some((interface, error)) = core.engine.core().first_failure() {
                return InterfaceFailure { interface: interface.to_owned(), error };
            }
            told.await;
        }
    }

    /// The cache of Fast Open cookies that clients of this stack use.
    pub fn fast_open_cache(&self) -> &Arc<FastOpenCache> {
        self.engine().tcp().fast_open_cache()
    }

    /// The keys with which listeners generate and check Fast Open cookies.
    pub fn fast_open_keys(&self) -> FastOpenKeys {
        self.engine().tcp().fast_open_keys()
    }

    /// Replaces the keys of Fast Open cookies. Cookies of the previous key remain valid while it is
    /// the backup key; see [`FastOpenKeys::rotated`].
    pub fn set_fast_open_keys(&self, keys: FastOpenKeys) {
        self.engine().tcp().set_fast_open_keys(keys);
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.owner.core
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.owner.core.engine
    }

    /// The stack without I/O behind this handle, for simulations.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn engine_to_inspect(&self) -> Arc<Engine> {
        Arc::clone(&self.owner.core.engine)
    }

    pub(crate) fn now(&self) -> Instant {
        self.owner.core.now()
    }

    /// Waits until `done`, for at most `limit`. Whether it is done.
    async fn wait_until(&self, limit: Duration, done: impl Fn(&Core) -> bool) -> bool {
        let core = &self.owner.core;
        match self.owner.driver {
            Driver::Tokio => {
                let wait = async {
                    while !done(core) {
                        tokio::time::sleep(CHECK_INTERVAL).await;
                    }
                };
                let _ = tokio::time::timeout(limit, wait).await;
            }
            // The thread goes on in real time, whatever the time of the runtime here does.
            Driver::Thread => {
                let end = core.now() + limit;
                while !done(core) && core.now() < end {
                    let wait = tokio::task::spawn_blocking(|| std::thread::park_timeout(CHECK_INTERVAL));
                    if wait.await.is_err() {
                        // The runtime here ends.
                        break;
                    }
                }
            }
        }
        done(core)
    }
}
