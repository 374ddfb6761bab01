//! [`StackBuilder`].

use super::{Owner, Stack, machine};
use crate::config::Config;
use crate::net::clock::{self, Clock};
use crate::net::core::Core;
use crate::net::driver::{self, Driver};
#[cfg(feature = "macros")]
use crate::net::exact;
use crate::net::resolver::Resolver;
use crate::stack::{Engine, EngineSetup, FastOpenCache, Interface};
use crate::tcp::{CongestionControl, CongestionError, CongestionRegistry, CongestionStart};
use crate::trace::Trace;
use std::fmt;
use std::io;
use std::sync::Arc;
use tokio::runtime::Handle;

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
#[must_use = "a builder does nothing until `build` is called"]
pub struct StackBuilder {
    name: String,
    interfaces: Vec<Interface>,
    config: Config,
    /// What [`StackBuilder::loopback`] set.
    loopback: Option<bool>,
    driver: Driver,
    fast_open_cache: Option<Arc<FastOpenCache>>,
    /// The first registration that failed stays until `build` returns it.
    congestion: Result<CongestionRegistry, CongestionError>,
    trace: Option<Arc<dyn Trace>>,
    resolver: Resolver,
    #[cfg(feature = "hickory-0_26")]
    built: Vec<WhenBuilt>,
}

/// Called with the stack once there is one.
#[cfg(feature = "hickory-0_26")]
type WhenBuilt = Box<dyn FnOnce(&Stack) + Send + Sync>;

impl fmt::Debug for StackBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            interfaces,
            config,
            loopback,
            driver,
            fast_open_cache,
            congestion,
            trace,
            resolver,
            #[cfg(feature = "hickory-0_26")]
                built: _,
        } = self;
        f.debug_struct("StackBuilder")
            .field("name", name)
            .field("interfaces", interfaces)
            .field("config", config)
            .field("loopback", loopback)
            .field("driver", driver)
            .field("fast_open_cache", fast_open_cache)
            .field("congestion", congestion)
            .field("trace", &trace.is_some())
            .field("resolver", resolver)
            .finish()
    }
}

impl Stack {
    /// Returns a builder. By default, the stack has a loopback interface and no other interfaces.
    pub fn builder() -> StackBuilder {
        StackBuilder {
            name: "netstack".to_owned(),
            interfaces: Vec::new(),
            config: Config::default(),
            loopback: None,
            driver: Driver::default(),
            fast_open_cache: None,
            congestion: Ok(CongestionRegistry::default()),
            trace: None,
            resolver: Resolver::Host,
            #[cfg(feature = "hickory-0_26")]
            built: Vec::new(),
        }
    }
}

impl StackBuilder {
    /// Sets the name, which appears in messages and as the name of the driver's thread. Default
    /// `netstack`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds an interface. The loopback interface is added automatically.
    pub fn interface(mut self, interface: Interface) -> Self {
        self.interfaces.push(interface);
        self
    }

    /// Sets whether the stack has a loopback interface with 127.0.0.0/8 and ::1, whatever
    /// [`Config::loopback`] says. Default true.
    pub fn loopback(mut self, on: bool) -> Self {
        self.loopback = Some(on);
        self
    }

    /// Replaces all settings except those that the builder has methods for.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets the driver. Default [`Driver::Tokio`].
    pub fn driver(mut self, driver: Driver) -> Self {
        self.driver = driver;
        self
    }

    /// Sets the cache of Fast Open cookies for clients. Stacks with the same addresses can share a
    /// cache. By default, each stack has its own.
    pub fn fast_open_cache(mut self, cache: Arc<FastOpenCache>) -> Self {
        self.fast_open_cache = Some(cache);
        self
    }

    /// Who is told of everything that happens in the stack: segments, timers, calls, drops with their
    /// reasons. Default none, which costs nothing.
    ///
    /// With the feature `tracing`, `netstack::trace::Tracing` hands it on to the crate of that name.
    ///
    /// # Examples
    /// ```
    /// use netstack::Stack;
    /// use netstack::trace::{EventKind, Trace, TraceEvent};
    /// use std::sync::Arc;
    ///
    /// struct Drops;
    ///
    /// impl Trace for Drops {
    ///     fn event(&self, event: &TraceEvent) {
    ///         if let EventKind::Dropped(reason) = event.kind {
    ///             eprintln!("{:?}: {reason}", event.about.remote);
    ///         }
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let stack = Stack::builder().trace(Arc::new(Drops)).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn trace(mut self, trace: Arc<dyn Trace>) -> Self {
        self.trace = Some(trace);
        self
    }

    /// Sets who turns names into addresses, for every function of this stack's sockets that takes a name.
    /// Default [`Resolver::Host`].
    pub fn resolver(mut self, resolver: Resolver) -> Self {
        self.resolver = resolver;
        self
    }

    /// Registers a congestion control algorithm by name, so that [`Config::congestion`] and
    /// `set_tcp_congestion` can select it. `cubic`, `reno` and `bbr` are built in.
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
    /// let fixed = "fixed".parse()?;
    /// let stack = Stack::builder()
    ///     .congestion_control("fixed", |_: &CongestionStart| Box::new(Fixed(32 << 10)))
    ///     .config(Config::default().with(|config| config.congestion = fixed))
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
    /// - [`io::ErrorKind::Unsupported`] if [`Driver::Tokio`] is used outside a tokio runtime, or in one
    ///   that was built without its time driver; or if the time of the current runtime is paused and a
    ///   device waits on a file descriptor, because that cannot use virtual time.
    /// - [`io::ErrorKind::InvalidInput`] if an address, a gateway or a setting is invalid, if a
    ///   congestion control is registered by a name that is invalid or taken, or if
    ///   [`Config::congestion`] is not registered.
    /// - The error of the operating system if the driver's thread cannot be started.
    ///
    /// # Panics
    /// If the runtime was built without the I/O driver that a device needs.
    pub fn build(self) -> io::Result<Stack> {
        let Self {
            name,
            interfaces,
            mut config,
            loopback,
            driver,
            fast_open_cache,
            congestion,
            trace,
            resolver,
            #[cfg(feature = "hickory-0_26")]
            built,
        } = self;
        config.loopback = loopback.unwrap_or(config.loopback);
        config.memory = config.memory.or_else(|| Some(machine::budget()));
        let congestion = congestion.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let runtime = Handle::try_current().ok();
        check_clock(driver, runtime.as_ref(), &interfaces)?;
        let engine =
            Engine::with_setup(config, interfaces, EngineSetup { fast_open_cache, congestion, trace })?;
        let clock = match (driver, &runtime) {
            (Driver::Tokio, Some(runtime)) => Clock::of_runtime(runtime),
            _ => Clock::monotonic(),
        };
        let core = Arc::new(Core::new(engine, clock, name, resolver));
        #[cfg(feature = "macros")]
        if driver == Driver::Tokio {
            exact::note(&core);
        }
        match driver {
            Driver::Tokio => driver::start_tasks(&core)?,
            Driver::Thread => driver::start_thread(&core)?,
        }
        let stack = Stack { owner: Arc::new(Owner { core, driver }) };
        #[cfg(feature = "hickory-0_26")]
        built.into_iter().for_each(|call| call(&stack));
        Ok(stack)
    }

    /// Has `call` called with the stack once it is built.
    #[cfg(feature = "hickory-0_26")]
    pub(crate) fn when_built(mut self, call: impl FnOnce(&Stack) + Send + Sync + 'static) -> Self {
        self.built.push(Box::new(call));
        self
    }
}

/// Refuses what cannot follow the clock that the stack would have.
fn check_clock(driver: Driver, runtime: Option<&Handle>, interfaces: &[Interface]) -> io::Result<()> {
    let unsupported = |text: &str| Err(io::Error::new(io::ErrorKind::Unsupported, text.to_owned()));
    if driver == Driver::Tokio && runtime.is_none() {
        return unsupported("no tokio runtime here: build the stack inside one, or choose Driver::Thread");
    }
    if driver == Driver::Tokio && !clock::has_timers() {
        return unsupported(
            "the tokio runtime here has no timers: build it with enable_time, or choose Driver::Thread",
        );
    }
    if runtime.is_none() || !clock::is_paused() {
        return Ok(());
    }
    if interfaces.iter().any(|interface| driver::waits_on_fd(interface.device.as_ref())) {
        return unsupported(
            "the runtime's time is paused, which a device with a file descriptor cannot follow: use an in-memory device",
        );
    }
    Ok(())
}
