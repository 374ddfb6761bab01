//! The stack without I/O: construction, and what the driver calls.

use super::cell::{Cell, Phase};
use super::counters::{Counters, Live};
use super::deadlines::{Deadlines, Target};
use super::demux::Demux;
use super::destinations::Destinations;
use super::effects::{DriverHook, Effects};
use super::fast_open::FastOpenState;
use super::fast_open_cache::FastOpenCache;
use super::flow::{FlowKey, QueueId};
use super::iface::{Interface, is_unicast};
use super::ports::Ports;
use super::routes::{Links, Routes};
use crate::buffer::Pool;
use crate::config::Config;
use crate::device::{Capabilities, Device, Loopback};
use crate::error::Failure;
use crate::icmp::RateLimit;
use crate::ip::{OwnAddresses, Reassembly, ReassemblyConfig};
use crate::readiness::Events;
use crate::sync::{Mutex, Published, Rank, Snapshot};
use crate::tcp::{CongestionChoice, CongestionRegistry, IsnGenerator, SynCookies};
use crate::time::Instant;
use crate::wire::SeqNum;
use rand::rngs::OsRng;
use rand::{RngCore, SeedableRng, TryRngCore};
use rand_chacha::ChaCha12Rng;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Room for deadlines that is kept from one call to the next.
const DUE_KEPT: usize = 32;
/// Deadlines served in one call. The rest is due at once again; packets get their turn in between.
const DUE_AT_ONCE: usize = 1024;

/// The MTU of the loopback interface: as much as an IP packet can be. Linux has one byte more.
const LOOPBACK_MTU: usize = 65_535;

/// Cells that wait for one queue of a device.
type PendingCells = Mutex<VecDeque<Arc<Cell>>>;

/// An interface in use.
struct Attached {
    name: String,
    device: Arc<dyn Device>,
    capabilities: Capabilities,
    /// The number of its first queue in [`Engine::queues`].
    first_queue: usize,
    /// Set once the device is gone.
    failure: OnceLock<Failure>,
}

/// A TCP/IP stack without I/O, clock or threads: it is told the time with each call.
///
/// A driver hands packets to [`Engine::on_packet`], ends each batch with [`Engine::end_batch`],
/// calls [`Engine::on_timer`] at [`Engine::next_deadline`] and [`Engine::on_writable`] when a device
/// that was full takes packets again, and lets [`Effects::deliver`] do what is left after each.
/// Applications call the rest, from any thread; those calls transmit inline.
pub struct Engine {
    config: Arc<Config>,
    interfaces: Vec<Attached>,
    queues: Vec<QueueId>,
    own_addresses: OwnAddresses,
    loopback: Option<u16>,
    routes: Routes,
    demux: Demux,
    ports: Arc<Ports>,
    deadlines: Deadlines,
    /// By queue number.
    pending: Vec<PendingCells>,
    reassembly: Mutex<Reassembly>,
    destinations: Mutex<Destinations>,
    /// Counts up when what is known of some path changed.
    path_changes: AtomicU32,
    icmp_limit: Mutex<RateLimit>,
    reset_limit: Mutex<RateLimit>,
    /// No reset may be sent before, in nanoseconds: spares a flood the lock.
    resets_from: AtomicU64,
    cookies: Published<SynCookies>,
    isn: IsnGenerator,
    random: Mutex<ChaCha12Rng>,
    counters: Live,
    next_id: AtomicU64,
    orphans: AtomicUsize,
    hook: OnceLock<Arc<dyn DriverHook>>,
    /// Set once the stack was shut down.
    failure: OnceLock<Failure>,
    pool: Arc<Pool>,
    fast_open: FastOpenState,
    /// That of new sockets.
    congestion: CongestionChoice,
}

/// What a stack is given beside its settings and interfaces.
#[derive(Clone, Debug, Default)]
pub struct EngineSetup {
    /// Where the stack looks for Fast Open cookies, which other stacks may use too. Default none: it has
    /// a cache of its own.
    pub fast_open_cache: Option<Arc<FastOpenCache>>,
    /// The congestion controls that sockets can choose from, and [`Config::congestion`] can name.
    /// Default the built-in ones.
    pub congestion: CongestionRegistry,
}

impl Engine {
    /// A stack with these interfaces, and a loopback interface after them unless the configuration
    /// says otherwise. One with the name `lo` is that loopback interface.
    ///
    /// # Errors
    /// Of kind `InvalidInput` if a setting or an address makes no sense; any error of the operating
    /// system's random source.
    pub fn new(config: Config, interfaces: Vec<Interface>) -> io::Result<Arc<Self>> {
        Self::with_setup(config, interfaces, EngineSetup::default())
    }

    /// As [`Engine::new`], with what `setup` says.
    ///
    /// # Errors
    /// As [`Engine::new`]; of kind `InvalidInput`, too, if [`Config::congestion`] is not in the registry.
    pub fn with_setup(
        config: Config,
        interfaces: Vec<Interface>,
        setup: EngineSetup,
    ) -> io::Result<Arc<Self>> {
        config.validate().map_err(|error| invalid(&error))?;
        let EngineSetup { fast_open_cache: cache, congestion } = setup;
        let congestion = congestion.choose(config.congestion.as_str()).map_err(|error| invalid(&error))?;
        let mut random = seeded(config.seed)?;
        let mut interfaces = interfaces;
        if config.loopback {
            let given = interfaces.iter().position(|interface| interface.name.as_deref() == Some("lo"));
            let interface = match given {
                Some(index) => interfaces.remove(index),
                None => Interface::new(Arc::new(Loopback::new(LOOPBACK_MTU))).name("lo"),
            };
            interfaces.push(interface.address("127.0.0.1/8").address("::1/128"));
        }
        let loopback = config.loopback.then(|| interfaces.len() as u16 - 1);
        check_interfaces(&interfaces)?;
        let own_addresses = interfaces.iter().flat_map(|interface| interface.addresses.clone()).collect();
        let links = interfaces.iter().map(links_of).collect();
        let (interfaces, queues) = attach(interfaces);
        let mut secret = |len: usize| {
            let mut bytes = vec![0; len];
            random.fill_bytes(&mut bytes);
            bytes
        };
        let demux_key = secret(16).try_into().expect("16 bytes were asked for");
        let isn_secret: [u8; 32] = secret(32).try_into().expect("32 bytes were asked for");
        let fast_open_key = || secret(16).try_into().expect("16 bytes were asked for");
        let fast_open = FastOpenState::new(&config, cache, fast_open_key);
        let demux = Demux::new(demux_key);
        Ok(Arc::new(Self {
            routes: Routes::new(links, loopback),
            destinations: Mutex::new(Rank::Leaf, Destinations::new(&config, demux.keyed())),
            path_changes: AtomicU32::new(0),
            demux,
            ports: Ports::new(config.port_range.clone()),
            deadlines: Deadlines::new(),
            pending: queues.iter().map(|_| Mutex::new(Rank::Leaf, VecDeque::new())).collect(),
            reassembly: Mutex::new(Rank::Leaf, Reassembly::new(ReassemblyConfig::default())),
            icmp_limit: Mutex::new(Rank::Leaf, RateLimit::new(config.icmp_burst, config.icmp_rate)),
            reset_limit: Mutex::new(Rank::Leaf, RateLimit::new(config.reset_burst, config.reset_rate)),
            resets_from: AtomicU64::new(0),
            cookies: Published::new(Rank::Leaf, SynCookies::new()),
            isn: IsnGenerator::new(&isn_secret),
            random: Mutex::new(Rank::Leaf, random),
            counters: Live::default(),
            next_id: AtomicU64::new(0),
            orphans: AtomicUsize::new(0),
            hook: OnceLock::new(),
            failure: OnceLock::new(),
            pool: Pool::new(),
            fast_open,
            congestion,
            config: Arc::new(config),
            interfaces,
            queues,
            own_addresses,
            loopback,
        }))
    }

    /// The settings.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The congestion control of new sockets, which also leads to the others that the stack knows.
    pub fn congestion(&self) -> &CongestionChoice {
        &self.congestion
    }

    /// All queues of all interfaces. A driver serves each.
    pub fn queues(&self) -> &[QueueId] {
        &self.queues
    }

    /// The device of an interface.
    ///
    /// # Panics
    /// If there is no such interface.
    pub fn device(&self, interface: u16) -> &Arc<dyn Device> {
        &self.interfaces[usize::from(interface)].device
    }

    /// The name of an interface.
    ///
    /// # Panics
    /// If there is no such interface.
    pub fn interface_name(&self, interface: u16) -> &str {
        &self.interfaces[usize::from(interface)].name
    }

    /// The index of the interface called `name`.
    pub fn interface_index(&self, name: &str) -> Option<u16> {
        self.interfaces.iter().position(|interface| interface.name == name).map(|at| at as u16)
    }

    /// Where receive buffers come from.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Names who sleeps until the next deadline. The first one stays.
    pub fn set_driver_hook(&self, hook: Arc<dyn DriverHook>) {
        let set = self.hook.set(hook);
        debug_assert!(set.is_ok(), "a stack has one driver");
    }

    /// All packets that there were are delivered: connections answer now, and those who wait are
    /// told by [`Effects::deliver`].
    pub fn end_batch(&self, now: Instant, from: QueueId, out: &mut Effects) {
        let _ = from;
        let mut dirty = std::mem::take(&mut out.dirty);
        for cell in dirty.drain(..) {
            let mut inner = cell.lock();
            cell.clear_dirty();
            self.drain_backlog(now, &cell, &mut inner, out);
            self.settle(now, &cell, &mut inner, out);
        }
        // So that the list keeps its memory.
        out.dirty = dirty;
    }

    /// Does what is due at `now`. May be called early or late.
    pub fn on_timer(&self, now: Instant, out: &mut Effects) {
        let mut due = std::mem::take(&mut out.due);
        self.deadlines.pop_due(now, DUE_AT_ONCE, &mut due);
        for target in due.drain(..) {
            match target {
                Target::Cell(cell) => {
                    if let Some(cell) = cell.upgrade() {
                        self.on_cell_deadline(now, &cell, out);
                    }
                }
                Target::HalfOpen(listener, key) => {
                    if let Some(listener) = listener.upgrade() {
                        self.on_half_open_deadline(now, &listener, &key, out);
                    }
                }
                Target::TimeWait(key) => self.on_time_wait_deadline(now, &key, out),
            }
        }
        // A rush of deadlines does not leave its room behind.
        due.shrink_to(DUE_KEPT);
        out.due = due;
        self.reassembly.lock().expire(now);
    }

    fn on_cell_deadline(&self, now: Instant, cell: &Arc<Cell>, out: &mut Effects) {
        self.with_cell(now, cell, out, |inner, out| {
            inner.timer.fired();
            if !inner.attached {
                return;
            }
            match &mut inner.phase {
                Phase::Connected(connection) => {
                    if connection.poll_timeout().is_some_and(|at| at <= now) {
                        connection.on_timeout(now);
                    }
                }
                Phase::Opening(opening) => {
                    if opening.poll_timeout().is_some_and(|at| at <= now)
                        && let Some(error) = opening.on_timeout(now)
                    {
                        self.on_fast_open_failure(now, cell.key(), opening);
                        self.fail_opening(cell, inner, error, out);
                    }
                }
                Phase::Over(_) => {}
            }
        });
    }

    /// The earliest deadline of the stack's own. Those of devices are the driver's to ask for.
    pub fn next_deadline(&self) -> Option<Instant> {
        let fragments = self.reassembly.lock().next_deadline();
        [self.deadlines.next(), fragments].into_iter().flatten().min()
    }

    /// The device takes packets of `queue` again: the connections that wait for it send.
    pub fn on_writable(&self, now: Instant, queue: QueueId, out: &mut Effects) {
        let pending = self.pending(self.queue_number(queue));
        // Those that join meanwhile, having used up their turn, come after those that wait.
        let waiting = pending.lock().len();
        for _ in 0..waiting {
            let Some(cell) = pending.lock().pop_front() else { return };
            let full = {
                let mut inner = cell.lock();
                inner.pending = false;
                self.drain_backlog(now, &cell, &mut inner, out);
                inner.served = true;
                let full = self.settle(now, &cell, &mut inner, out);
                inner.served = false;
                full
            };
            if full {
                return;
            }
        }
    }

    /// Whether connections wait until `queue` takes packets.
    pub fn has_pending(&self, queue: QueueId) -> bool {
        !self.pending(self.queue_number(queue)).lock().is_empty()
    }

    /// The device is unusable: every socket of its interface fails with `error`.
    pub fn on_device_error(&self, queue: QueueId, error: &io::Error, out: &mut Effects) {
        self.fail_interface(queue.interface, &Failure::from(error), out);
    }

    pub(super) fn fail_interface(&self, interface: u16, failure: &Failure, out: &mut Effects) {
        if self.interfaces[usize::from(interface)].failure.set(failure.clone()).is_err() {
            return;
        }
        for listener in self.demux.all_listeners() {
            if self.routes.owner(listener.address()) == Some(interface) {
                for cell in self.empty_listener(&listener, Some(failure.clone()), out) {
                    self.fail_cell(&cell, failure, false, out);
                }
                out.notify_listener(&listener, Events::READABLE | Events::ERROR);
            }
        }
        for cell in self.demux.all_cells() {
            if cell.queue().interface == interface {
                self.fail_cell(&cell, failure, false, out);
            }
        }
    }

    /// What went on since the stack was built.
    pub fn counters(&self) -> Counters {
        self.counters.snapshot()
    }

    pub(super) fn counters_live(&self) -> &Live {
        &self.counters
    }

    /// Adds what a batch has counted.
    pub(super) fn count(&self, out: &mut Effects) {
        for (counter, count) in [
            (&self.counters.in_receives, &mut out.in_packets),
            (&self.counters.tcp_in_segments, &mut out.in_segments),
            (&self.counters.out_packets, &mut out.out_packets),
            (&self.counters.tcp_resets_limited, &mut out.resets_limited),
        ] {
            if *count > 0 {
                counter.add(std::mem::take(count));
            }
        }
        out.failed_cookies.count(&self.counters);
    }

    pub(super) fn hook(&self) -> Option<&dyn DriverHook> {
        self.hook.get().map(|hook| &**hook)
    }

    pub(super) fn numbered_queues(&self) -> impl Iterator<Item = (usize, QueueId)> {
        self.queues.iter().copied().enumerate()
    }

    pub(super) fn queue_number(&self, queue: QueueId) -> usize {
        self.interfaces[usize::from(queue.interface)].first_queue + usize::from(queue.queue)
    }

    pub(super) fn pending(&self, number: usize) -> &PendingCells {
        &self.pending[number]
    }

    pub(super) fn capabilities(&self, interface: u16) -> &Capabilities {
        &self.interfaces[usize::from(interface)].capabilities
    }

    /// The largest packet that leaves through an interface; no IP packet is longer than its length
    /// field can say.
    pub(super) fn mtu(&self, interface: u16) -> usize {
        self.capabilities(interface).mtu.min(usize::from(u16::MAX))
    }

    /// The failure of an interface whose device is gone.
    pub(super) fn interface_failure(&self, interface: u16) -> Option<&Failure> {
        self.interfaces[usize::from(interface)].failure.get()
    }

    pub(super) fn is_loopback(&self, interface: u16) -> bool {
        self.loopback == Some(interface)
    }

    pub(super) fn own_addresses(&self) -> &OwnAddresses {
        &self.own_addresses
    }

    pub(super) fn fast_open_state(&self) -> &FastOpenState {
        &self.fast_open
    }

    pub(super) fn routes(&self) -> &Routes {
        &self.routes
    }

    pub(super) fn demux(&self) -> &Demux {
        &self.demux
    }

    pub(super) fn ports(&self) -> &Arc<Ports> {
        &self.ports
    }

    pub(super) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    pub(super) fn reassembly(&self) -> &Mutex<Reassembly> {
        &self.reassembly
    }

    pub(super) fn known_destinations(&self) -> &Mutex<Destinations> {
        &self.destinations
    }

    pub(super) fn path_changes(&self) -> &AtomicU32 {
        &self.path_changes
    }

    pub(super) fn icmp_limit(&self) -> &Mutex<RateLimit> {
        &self.icmp_limit
    }

    /// Whether a reset may be sent for a segment of no connection; takes the right to it.
    #[inline]
    pub(super) fn may_reset(&self, now: Instant) -> bool {
        now >= Instant::from_nanos(self.resets_from.load(Ordering::Relaxed)) && self.take_reset(now)
    }

    #[inline(never)]
    fn take_reset(&self, now: Instant) -> bool {
        let mut limit = self.reset_limit.lock();
        let allowed = limit.allow(now);
        if !allowed {
            self.resets_from.store(limit.next().as_nanos(), Ordering::Relaxed);
        }
        allowed
    }

    /// The SYN cookies, to check one with.
    pub(super) fn cookies(&self) -> &Published<SynCookies> {
        &self.cookies
    }

    /// The SYN cookies, with a secret to make one with.
    pub(super) fn fresh_cookies<'a>(
        &self,
        now: Instant,
        seen: &'a mut Snapshot<SynCookies>,
    ) -> &'a SynCookies {
        if self.cookies.read(seen).wants_secret(now) {
            let mut secret = [0; 16];
            self.random.lock().fill_bytes(&mut secret);
            self.cookies.change(|cookies| {
                // Another queue may have been faster, and what its secret made must stay good.
                if cookies.wants_secret(now) {
                    cookies.set_secret(now, secret);
                }
            });
        }
        self.cookies.read(seen)
    }

    pub(super) fn isn(&self, now: Instant, key: &FlowKey) -> SeqNum {
        self.isn.isn(now, key)
    }

    pub(super) fn timestamp_offset(&self, key: &FlowKey) -> u32 {
        self.isn.timestamp_offset(&(key.local(), key.remote()))
    }

    pub(super) fn random(&self) -> u64 {
        self.random.lock().next_u64()
    }

    pub(super) fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn orphan_count(&self) -> &AtomicUsize {
        &self.orphans
    }

    pub(super) fn failure(&self) -> &OnceLock<Failure> {
        &self.failure
    }

    /// Whether there are as many connections as there may be.
    pub(super) fn is_full(&self) -> bool {
        self.demux.cells() >= self.config.max_connections as usize
    }

    /// Refuses calls once the stack was shut down.
    pub(super) fn check_alive(&self) -> io::Result<()> {
        self.failure.get().map_or(Ok(()), |failure| Err(failure.into()))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("addresses", &self.own_addresses)
            .field("connections", &self.demux.cells())
            .field("time_waits", &self.demux.time_waits())
            .finish_non_exhaustive()
    }
}

fn invalid(error: &dyn fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
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

/// Refuses interfaces that cannot work: the first mistake, in words.
fn check_interfaces(interfaces: &[Interface]) -> io::Result<()> {
    let mut names = HashSet::new();
    let mut addresses = HashSet::new();
    for (index, interface) in interfaces.iter().enumerate() {
        if let Some(error) = &interface.error {
            return Err(invalid(error));
        }
        if !names.insert(name_of(interface, index)) {
            return Err(invalid(&format!("two interfaces are called `{}`", name_of(interface, index))));
        }
        for cidr in &interface.addresses {
            if !is_unicast(cidr.address()) {
                return Err(invalid(&format!("{cidr} is not the address of a host")));
            }
            if !addresses.insert(cidr.address()) {
                return Err(invalid(&format!("two interfaces, or one twice, have the address {cidr}")));
            }
        }
        let mtu = interface.device.capabilities().mtu;
        // RFC 791 §3.1: a host takes packets of 68 bytes; RFC 8200 §5: links of IPv6 carry 1280.
        let floor = if interface.addresses.iter().any(|cidr| cidr.address().is_ipv6()) { 1280 } else { 68 };
        if mtu < floor {
            let name = name_of(interface, index);
            return Err(invalid(&format!("the MTU of `{name}` is {mtu}, under the {floor} that IP needs")));
        }
    }
    Ok(())
}

fn name_of(interface: &Interface, index: usize) -> String {
    interface.name.clone().unwrap_or_else(|| format!("net{index}"))
}

fn links_of(interface: &Interface) -> Links {
    Links {
        addresses: interface.addresses.clone(),
        default_v4: interface.gateways.iter().any(|gateway| gateway.is_ipv4()),
        default_v6: interface.gateways.iter().any(|gateway| gateway.is_ipv6()),
    }
}

/// Numbers the queues of all interfaces.
fn attach(interfaces: Vec<Interface>) -> (Vec<Attached>, Vec<QueueId>) {
    let mut queues = Vec::new();
    let mut attached = Vec::new();
    for (index, interface) in interfaces.into_iter().enumerate() {
        let capabilities = interface.device.capabilities();
        attached.push(Attached {
            name: name_of(&interface, index),
            capabilities,
            first_queue: queues.len(),
            failure: OnceLock::new(),
            device: interface.device,
        });
        let of_device = 0..capabilities.queues.max(1) as u16;
        queues.extend(of_device.map(|queue| QueueId { interface: index as u16, queue }));
    }
    (attached, queues)
}
