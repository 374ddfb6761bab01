//! The state that all protocols of a stack share. It does not depend on any of them.

pub(super) mod change;

use super::counters::StackCounters;
use super::echo_queue::EchoQueue;
use super::flow::{QueueId, WayBack};
use super::groups::Groups;
use super::hooks::DriverHook;
use super::icmp_limit::IcmpLimit;
use super::iface::Interface;
use super::interfaces::{self, Interfaces};
use super::keyed::Keyed;
use super::paths::Paths;
use super::routes::{Links, Routes};
use crate::buffer::Pool;
use crate::config::{Config, MemoryBudget};
use crate::device::{Capabilities, Device};
use crate::error::{Failure, os};
use crate::ip::{Addresses, Reassembly, ReassemblyConfig};
use crate::memory::{Memory, MemoryUse};
use crate::sync::{Mutex, Rank};
use crate::trace::Trace;
use rand::rngs::OsRng;
use rand::{RngCore, SeedableRng, TryRngCore};
use rand_chacha::ChaCha12Rng;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A count of the changes that the way of a packet can depend on. What was found while it was one number holds as
/// long as it is (`rt_genid` in Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WayVersion {
    links: u32,
    path_mtus: u32,
}

/// The state that all protocols of a stack share: its settings, interfaces, addresses and routes,
/// path MTUs, buffers, the random generator, and the driver.
// More than 16 fields: each is a part that has a type of its own, and no two are used together.
pub struct Core {
    config: Arc<Config>,
    interfaces: Interfaces,
    addresses: Addresses,
    routes: Routes,
    paths: Paths,
    /// Counts up after each change of addresses, routes or interfaces.
    link_changes: AtomicU32,
    groups: Groups,
    reassembly: Mutex<Reassembly>,
    icmp_limit: Mutex<IcmpLimit>,
    /// Where echo requests to the addresses of others go, if the application answers them.
    echo: Mutex<Option<Arc<EchoQueue>>>,
    pool: Arc<Pool>,
    keyed: Keyed,
    random: Mutex<ChaCha12Rng>,
    next_id: AtomicU64,
    counters: StackCounters,
    hook: OnceLock<Arc<dyn DriverHook>>,
    /// Who is told of everything that happens.
    trace: Option<Arc<dyn Trace>>,
    /// Set once the stack was shut down.
    failure: OnceLock<Failure>,
}

impl Core {
    /// A core with these interfaces, and a loopback interface after them unless the configuration
    /// says otherwise.
    ///
    /// # Errors
    /// Of kind `InvalidInput` if a setting or an address makes no sense; any error of the operating
    /// system's random source.
    pub(super) fn new(
        config: Config,
        given: Vec<Interface>,
        trace: Option<Arc<dyn Trace>>,
    ) -> io::Result<Self> {
        config.validate().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let random = Mutex::new(Rank::Leaf, seeded(config.seed)?);
        let given = if config.loopback { interfaces::with_loopback(given) } else { given };
        let loopback = config.loopback.then(|| given.len() as u16 - 1);
        let links: Vec<_> = given.iter().map(interfaces::links_of).collect();
        let addresses = interfaces::addresses_of(&links, loopback);
        interfaces::check(&given, &addresses)?;
        let interfaces = Interfaces::new(given);
        let keyed = Keyed::new(secret(&random));
        let memory = Memory::new(config.memory.unwrap_or(MemoryBudget::DEFAULT), config.memory_share);
        let pool = Pool::within(memory);
        let icmp_limit = IcmpLimit::new(&config, &keyed);
        Ok(Self {
            addresses,
            routes: Routes::new(links),
            interfaces,
            paths: Paths::new(&config, keyed.clone()),
            link_changes: AtomicU32::new(0),
            groups: Groups::new(),
            reassembly: Mutex::new(Rank::Leaf, Reassembly::new(ReassemblyConfig::default(), &pool)),
            icmp_limit: Mutex::new(Rank::Leaf, icmp_limit),
            echo: Mutex::new(Rank::Leaf, None),
            pool,
            keyed,
            random,
            next_id: AtomicU64::new(0),
            counters: StackCounters::default(),
            hook: OnceLock::new(),
            trace,
            failure: OnceLock::new(),
            config: Arc::new(config),
        })
    }

    /// The settings.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// All queues of all interfaces. A driver serves each.
    pub fn queues(&self) -> impl Iterator<Item = QueueId> {
        self.interfaces.queues()
    }

    /// The device of an interface; none if it was added to a running stack and was removed.
    ///
    /// # Panics
    /// If there is no such interface.
    pub fn device(&self, interface: u16) -> Option<Arc<dyn Device>> {
        self.interfaces.device(interface)
    }

    /// The name of an interface.
    ///
    /// # Panics
    /// If there is no such interface.
    pub fn interface_name(&self, interface: u16) -> &str {
        self.interfaces.name(interface)
    }

    /// The index of the interface called `name`.
    pub fn interface_index(&self, name: &str) -> Option<u16> {
        self.interfaces.index(name)
    }

    /// The pool of receive buffers.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The account of the stack's memory.
    #[inline]
    pub fn memory(&self) -> &Arc<Memory> {
        self.pool.memory()
    }

    /// What the stack holds in memory.
    pub fn memory_use(&self) -> MemoryUse {
        let (memory, cached) = (self.memory(), self.pool.cached());
        MemoryUse {
            used: memory.used().saturating_sub(cached),
            cached,
            pressed: memory.is_pressed(),
            budget: memory.budget(),
        }
    }

    /// Sets the driver that sleeps until the next deadline. Only the first call has an effect.
    pub fn set_driver_hook(&self, hook: Arc<dyn DriverHook>) {
        let set = self.hook.set(hook);
        debug_assert!(set.is_ok(), "a stack has one driver");
    }

    pub(super) fn hook(&self) -> Option<&dyn DriverHook> {
        self.hook.get().map(|hook| &**hook)
    }

    pub(super) fn queue_number(&self, queue: QueueId) -> usize {
        self.interfaces.queue_number(queue)
    }

    pub(super) fn capabilities(&self, interface: u16) -> &Capabilities {
        self.interfaces.capabilities(interface)
    }

    /// The largest packet that leaves through an interface; no IP packet is longer than its length
    /// field can say.
    pub(super) fn mtu(&self, interface: u16) -> usize {
        self.interfaces.mtu(interface)
    }

    /// Whether an interface was taken down.
    #[inline]
    pub(super) fn is_down(&self, interface: u16) -> bool {
        self.interfaces.is_down(interface)
    }

    pub(super) fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Changes the addresses and routes of an interface, one change at a time.
    ///
    /// # Errors
    /// Those of `change`, and nothing has changed then; `ENODEV` if the interface was removed.
    pub(super) fn change_links<R>(
        &self,
        interface: u16,
        change: impl FnOnce(&mut Links) -> io::Result<R>,
    ) -> io::Result<R> {
        let result = self.routes.change(|all| {
            if self.interfaces.is_removed(interface) {
                return Err(os(libc::ENODEV));
            }
            let result = change(&mut all[usize::from(interface)])?;
            self.addresses.replace(interfaces::addresses_of(all, self.addresses.loopback()));
            Ok(result)
        })?;
        self.links_changed();
        Ok(result)
    }

    /// The version of what the ways of packets depend on, to be read before any of that is looked at.
    #[inline]
    pub(super) fn way_version(&self) -> WayVersion {
        // Acquire: who sees the number of a change finds what was changed.
        WayVersion { links: self.link_changes.load(Ordering::Acquire), path_mtus: self.paths.changes() }
    }

    /// Addresses, routes or interfaces have changed, which others can see by now.
    fn links_changed(&self) {
        self.link_changes.fetch_add(1, Ordering::Release);
    }

    /// Whether an interface was removed.
    pub(super) fn is_removed(&self, interface: u16) -> bool {
        self.interfaces.is_removed(interface)
    }

    /// The failure of an interface whose device is gone, or that was removed.
    pub(super) fn interface_failure(&self, interface: u16) -> Option<&Failure> {
        self.interfaces.failure(interface)
    }

    /// The name of the interface whose device was gone first, and why.
    pub fn first_failure(&self) -> Option<(&str, io::Error)> {
        self.interfaces.first_failure().map(|(name, failure)| (name, failure.into()))
    }

    /// Notes that the device of an interface is gone. False if that was known.
    pub(super) fn fail_interface(&self, interface: u16, cause: &Failure) -> bool {
        let news = self.interfaces.fail(interface, cause);
        self.links_changed();
        news
    }

    pub(super) fn is_loopback(&self, interface: u16) -> bool {
        self.addresses.loopback() == Some(interface)
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The queue that answers leave on for what came in on `from`: one of the interface that the route to
    /// `remote` leads through, or of the one that the socket is bound to. It is `from` itself if that is
    /// the interface, since devices steer a flow to the queue on which it was last written; `spread`
    /// chooses another interface's.
    pub(super) fn way_back(&self, from: QueueId, way: &WayBack) -> QueueId {
        let WayBack { local, remote, bound, spread } = *way;
        // RFC 4007 §9: a link-local address means somebody on the link of arrival.
        let on_link = matches!(remote, IpAddr::V6(remote) if remote.is_unicast_link_local());
        let bound = bound.or(on_link.then_some(from.interface));
        // Who sent it is in this stack, whatever address it has.
        if self.is_loopback(from.interface) {
            return from;
        }
        match self.routes.lookup(&self.addresses, remote, Some(local), bound) {
            Some(route) if route.interface != from.interface => self.queue_of(route.interface, spread),
            // Without a route the queue of arrival is used: the sender can be reached through it.
            Some(_) | None => from,
        }
    }

    /// One of the queues of an interface, chosen by `spread`.
    pub(super) fn queue_of(&self, interface: u16, spread: usize) -> QueueId {
        let queues = self.capabilities(interface).queues.max(1);
        QueueId { interface, queue: (spread % queues) as u16 }
    }

    pub(super) fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Forgets the MTUs of all paths.
    pub(super) fn forget_paths(&self) {
        self.paths.clear();
        // A path that was forgotten counts as changed, but not for connections, which keep its MTU.
        self.links_changed();
    }

    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    pub(super) fn reassembly(&self) -> &Mutex<Reassembly> {
        &self.reassembly
    }

    pub(super) fn icmp_limit(&self) -> &Mutex<IcmpLimit> {
        &self.icmp_limit
    }

    /// Where echo requests to the addresses of others go, if the application answers them.
    pub(super) fn echo(&self) -> &Mutex<Option<Arc<EchoQueue>>> {
        &self.echo
    }

    pub(super) fn keyed(&self) -> &Keyed {
        &self.keyed
    }

    /// Who is told of everything that happens; none by default.
    #[inline]
    pub(super) fn trace(&self) -> Option<&dyn Trace> {
        self.trace.as_deref()
    }

    pub(super) fn counters(&self) -> &StackCounters {
        &self.counters
    }

    /// A random number.
    pub(super) fn random(&self) -> u64 {
        self.random.lock().next_u64()
    }

    /// Random bytes, for a key.
    pub(super) fn secret<const N: usize>(&self) -> [u8; N] {
        secret(&self.random)
    }

    /// A number that nothing else of the stack has or had.
    pub(crate) fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// The stack is shut down: every call from now on fails with `failure`. False if it was already.
    pub(super) fn shut_down(&self, failure: &Failure) -> bool {
        self.failure.set(failure.clone()).is_ok()
    }

    /// Refuses calls once the stack was shut down.
    pub(super) fn check_alive(&self) -> io::Result<()> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.into()))
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

fn secret<const N: usize>(random: &Mutex<ChaCha12Rng>) -> [u8; N] {
    let mut bytes = [0; N];
    random.lock().fill_bytes(&mut bytes);
    bytes
}

/// The generator of everything random.
fn seeded(seed: Option<u64>) -> io::Result<ChaCha12Rng> {
    match seed {
        Some(seed) => Ok(ChaCha12Rng::seed_from_u64(seed)),
        None => {
            let mut seed = [0; 32];
            OsRng.try_fill_bytes(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
            Ok(ChaCha12Rng::from_seed(seed))
        }
    }
}
