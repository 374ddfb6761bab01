//! [`Core`]: what the handles, the sockets and the driver of one stack share.

use crate::net::clock::Clock;
use crate::net::error::Cause;
use crate::net::readiness::Registration;
use crate::net::resolver::Resolver;
use crate::net::standby::{GRACE, Overdue};
use crate::net::wakeups::Wakeups;
use crate::stack::{Batch, Engine, give_back};
use crate::sync::{Mutex, Rank};
use crate::time::{Duration, Instant};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use tokio::runtime::Handle;

/// How often a stack that is ending looks whether it is done.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// The phases of a stack's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Lifecycle {
    Open,
    /// No new sockets, no new data; what was accepted is still being sent.
    Draining,
    Stopped,
}

/// A socket as its stack sees it when the stack ends.
pub(crate) trait Endpoint: Send + Sync {
    /// Through which its waits are ended.
    fn registration(&self) -> &Registration;
    /// Closes it as the drop of its last handle would; only the first call counts.
    fn close(&self);
    /// Begins to end it because the runtime of the stack did, while its handles live.
    fn runtime_ended(&self) {
        self.close();
    }
    /// Ends it: what was accepted is delivered, or time is up. Says whether that sent a reset.
    fn runtime_is_over(&self) -> bool {
        false
    }
}

/// Where a driver's tasks run.
#[derive(Clone, Debug)]
pub(crate) enum Spawner {
    /// On a runtime of the application.
    Runtime {
        handle: Handle,
        /// Whether what was accepted is still sent when the runtime ends.
        drains: bool,
    },
    /// On the runtime of a thread of its own.
    Thread(Handle),
}

/// What the handles, the sockets and the driver of one stack share.
pub(crate) struct Core {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Clock,
    pub(crate) wakeups: Arc<Wakeups>,
    name: String,
    resolver: Resolver,
    lifecycle: AtomicU8,
    /// When the last handle was dropped, once it was.
    abandoned: OnceLock<Instant>,
    endpoints: Mutex<HashMap<u64, Weak<dyn Endpoint>>>,
    /// The driver's thread, or the one that drains after the driver's runtime ended.
    pub(crate) thread: Mutex<Option<JoinHandle<()>>>,
    pub(crate) drain_started: AtomicBool,
    /// Why the stack is over, once it is.
    cause: OnceLock<Cause>,
    /// Where the tasks of interfaces that are added run, once the driver has started.
    pub(crate) spawner: OnceLock<Spawner>,
    /// Held by everything that drives the stack, until it has let go of its devices.
    running: Arc<()>,
}

/// Held by a task or a thread that drives a stack. It is dropped after all that the task has of the stack.
#[derive(Debug)]
pub(crate) struct Running {
    _count: Arc<()>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("name", &self.name)
            .field("lifecycle", &self.lifecycle())
            .finish_non_exhaustive()
    }
}

impl Core {
    /// An open stack around `engine`, whose wake-ups go to [`Core::wakeups`] from now on.
    pub(crate) fn new(engine: Arc<Engine>, clock: Clock, name: String, resolver: Resolver) -> Self {
        let wakeups = Arc::new(Wakeups::new(engine.core().queues()));
        engine.core().set_driver_hook(Arc::clone(&wakeups) as _);
        Self {
            engine,
            clock,
            wakeups,
            name,
            resolver,
            lifecycle: AtomicU8::new(Lifecycle::Open as u8),
            abandoned: OnceLock::new(),
            endpoints: Mutex::new(Rank::Leaf, HashMap::new()),
            thread: Mutex::new(Rank::Leaf, None),
            drain_started: AtomicBool::new(false),
            cause: OnceLock::new(),
            spawner: OnceLock::new(),
            running: Arc::new(()),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Who turns the names that sockets are given into addresses.
    pub(crate) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// For how long data that was accepted is still sent after the last handle was dropped, or the
    /// runtime ended.
    pub(crate) fn exit_drain(&self) -> Duration {
        self.engine.core().config().exit_drain
    }

    pub(crate) fn lifecycle(&self) -> Lifecycle {
        match self.lifecycle.load(Ordering::Acquire) {
            0 => Lifecycle::Open,
            1 => Lifecycle::Draining,
            _ => Lifecycle::Stopped,
        }
    }

    /// Fails if the stack takes no new sockets.
    pub(crate) fn ensure_open(&self) -> io::Result<()> {
        if self.lifecycle() == Lifecycle::Open { Ok(()) } else { Err(self.cause().error()) }
    }

    /// Why the stack is over, which it is.
    fn cause(&self) -> Cause {
        self.cause.get().copied().unwrap_or(Cause::ShutDown)
    }

    /// For something that drives the stack.
    pub(crate) fn running(&self) -> Running {
        Running { _count: Arc::clone(&self.running) }
    }

    /// Whether a task or a thread drives the stack.
    pub(crate) fn is_driven(&self) -> bool {
        Arc::strong_count(&self.running) > 1
    }

    /// Whether no connection is left, no datagram waits for a device, and nothing of theirs is in a device that
    /// only the driver gets out.
    pub(crate) fn is_done(&self) -> bool {
        let engine = &self.engine;
        engine.tcp().connections() == 0 && engine.is_drained() && !self.is_transmitting()
    }

    /// Whether a device has packets that only the driver gets out.
    pub(crate) fn is_transmitting(&self) -> bool {
        self.wakeups.live().any(|index| {
            let interface = self.wakeups.queue_id(index).interface;
            self.engine.core().device(interface).is_some_and(|device| device.is_transmitting())
        })
    }

    /// A number for a new socket of this stack. Sockets of UDP have that of their cell instead.
    pub(crate) fn next_id(&self) -> u64 {
        self.engine.core().new_id()
    }

    /// Remembers a socket, so that it ends when the stack does.
    pub(crate) fn remember<E: Endpoint + 'static>(&self, id: u64, endpoint: &Arc<E>) {
        let weak: Weak<E> = Arc::downgrade(endpoint);
        self.endpoints.lock().insert(id, weak);
        if self.lifecycle() != Lifecycle::Open {
            endpoint.registration().shut_down(self.cause());
        }
    }

    /// Forgets a socket that closed by itself.
    pub(crate) fn forget(&self, id: u64) {
        let forgotten = {
            let mut endpoints = self.endpoints.lock();
            let forgotten = endpoints.remove(&id);
            give_back(&mut endpoints);
            forgotten
        };
        drop(forgotten);
    }

    /// The sockets there are, in the order in which they were made. Collected first, because dropping
    /// the last handle of one comes back for the lock.
    fn endpoints(&self) -> Vec<Arc<dyn Endpoint>> {
        let known = |(id, endpoint): (&u64, &Weak<dyn Endpoint>)| Some((*id, endpoint.upgrade()?));
        let mut endpoints: Vec<_> = self.endpoints.lock().iter().filter_map(known).collect();
        endpoints.sort_unstable_by_key(|(id, _)| *id);
        endpoints.into_iter().map(|(_, endpoint)| endpoint).collect()
    }

    /// Takes no new sockets and no new data, and closes the sockets there are as if their handles
    /// had been dropped. What was written is still sent.
    pub(crate) fn start_closing(&self, cause: Cause) {
        let cause = *self.cause.get_or_init(|| cause);
        self.lifecycle.fetch_max(Lifecycle::Draining as u8, Ordering::AcqRel);
        let endpoints = self.endpoints();
        // All of them first: what one sends as it ends reaches another of this stack at once, over loopback.
        endpoints.iter().for_each(|endpoint| endpoint.registration().shut_down(cause));
        for endpoint in endpoints {
            match cause {
                Cause::RuntimeEnded => endpoint.runtime_ended(),
                Cause::ShutDown => endpoint.close(),
            }
        }
    }

    /// Ends the sockets that still have something to read after the end of the runtime, once what they
    /// accepted is delivered. Says whether there were any.
    pub(crate) fn reset_unread(&self) -> bool {
        let reset = self.endpoints().iter().filter(|endpoint| endpoint.runtime_is_over()).count();
        reset > 0
    }

    /// Ends everything at once.
    pub(crate) fn stop(&self, cause: Cause) {
        let cause = *self.cause.get_or_init(|| cause);
        if self.lifecycle.swap(Lifecycle::Stopped as u8, Ordering::AcqRel) == Lifecycle::Stopped as u8 {
            return;
        }
        for endpoint in self.endpoints() {
            endpoint.registration().shut_down(cause);
        }
        self.engine.fail_all(self.now(), &cause.error());
        self.wakeups.all();
    }

    /// Notes that the last handle was dropped.
    pub(crate) fn abandon(&self) {
        self.abandoned.get_or_init(|| self.now());
        self.wakeups.all();
    }

    /// Stops an abandoned stack once its connections are over or [`Core::exit_drain`] has passed.
    /// Whether the stack is stopped.
    pub(crate) fn finish_if_abandoned(&self, now: Instant) -> bool {
        let over = |since: &Instant| self.is_done() || now >= *since + self.exit_drain();
        if self.abandoned.get().is_some_and(over) {
            self.stop(Cause::ShutDown);
        }
        self.lifecycle() == Lifecycle::Stopped
    }

    /// When [`Core::finish_if_abandoned`] should be called again, if it should.
    pub(crate) fn next_check(&self, now: Instant) -> Option<Instant> {
        self.abandoned.get().map(|_| now + CHECK_INTERVAL)
    }
}

impl Overdue for Core {
    fn keep_overdue(&self) -> Option<std::time::Instant> {
        if self.lifecycle() == Lifecycle::Stopped {
            return None;
        }
        let now = self.now();
        let overdue = |at: &Instant| *at + GRACE <= now;
        if self.engine.next_deadline().as_ref().is_some_and(overdue) {
            let mut batch = Batch::new();
            self.engine.on_timer(now, &mut batch);
            batch.deliver(&self.engine);
        }
        let mut next = self.engine.next_deadline();
        for index in self.wakeups.live() {
            let interface = self.wakeups.queue_id(index).interface;
            let Some(device) = self.engine.core().device(interface) else { continue };
            if device.next_deadline().as_ref().is_some_and(overdue) {
                device.on_deadline(now);
                // What it made ready is received by a task, or in this thread if that can be.
                self.wakeups.wake(index);
                self.wakeups.defer(index);
            }
            if self.wakeups.serve_missed(index) {
                next = Some(now);
            }
            next = next.into_iter().chain(device.next_deadline()).min();
        }
        self.clock.to_monotonic(next?)
    }

    fn give_up(&self) {
        self.stop(Cause::RuntimeEnded);
    }
}
