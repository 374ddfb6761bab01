//! The paths between hosts, and what is wrong with them.

use super::seed::mix;
use super::sink::{Inbox, Sink};
use crate::device::{Device, Link, LinkConfig, LinkStats, PcapTap, TxPacket, destination};
use crate::sync::{Mutex, Rank};
use crate::time::{Duration, Instant};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The paths between the hosts of a [`Net`](super::Net): a handle, which the software of hosts may have too.
///
/// Each pair of hosts has two paths, one for each direction, with a [`LinkConfig`] of its own.
///
/// # Panics
/// The methods panic if there is no host of a name.
#[derive(Clone)]
pub struct Links {
    pub(super) shared: Arc<Shared>,
}

/// What the net, its links and its hosts share.
pub(super) struct Shared {
    pub(super) seed: u64,
    /// Nanoseconds since the net began.
    now: AtomicU64,
    state: Mutex<State>,
    capture: Option<PcapTap>,
}

struct State {
    hosts: Vec<Host>,
    by_address: BTreeMap<IpAddr, usize>,
    default: LinkConfig,
    paths: BTreeMap<Ends, Path>,
}

struct Host {
    name: String,
    inbox: Option<Arc<Inbox>>,
}

/// The numbers of two hosts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ends {
    from: usize,
    to: usize,
}

/// From one host to another.
struct Path {
    config: LinkConfig,
    link: Arc<Link>,
    sink: Arc<Sink>,
    /// What is sent is lost.
    cut: bool,
    /// What was sent since it is held.
    held: Option<Vec<Vec<u8>>>,
    /// Packets that were sent while it was cut.
    lost: u64,
}

impl Shared {
    pub(super) fn new(seed: u64, default: LinkConfig, capture: Option<PcapTap>) -> Self {
        let state = State { hosts: Vec::new(), by_address: BTreeMap::new(), default, paths: BTreeMap::new() };
        Self { seed, now: AtomicU64::new(0), state: Mutex::new(Rank::Device, state), capture }
    }

    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn instant(&self) -> Instant {
        Instant::from_nanos(self.now())
    }

    /// Adds a host that is off, and gives its number.
    pub(super) fn add(&self, name: &str, addresses: &[IpAddr]) -> io::Result<usize> {
        let taken = |text: String| Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        let mut state = self.state.lock();
        if state.hosts.iter().any(|host| host.name.eq_ignore_ascii_case(name)) {
            return taken(format!("a host is called `{name}`"));
        }
        if let Some(address) = addresses.iter().find(|address| state.by_address.contains_key(address)) {
            return taken(format!("a host has the address {address}"));
        }
        let number = state.hosts.len();
        state.hosts.push(Host { name: name.to_owned(), inbox: None });
        state.by_address.extend(addresses.iter().map(|address| (*address, number)));
        Ok(number)
    }

    /// The host is on, with this inbox, or off.
    pub(super) fn set_inbox(&self, host: usize, inbox: Option<Arc<Inbox>>) {
        let sinks: Vec<_> = {
            let mut state = self.state.lock();
            state.hosts[host].inbox.clone_from(&inbox);
            let to_host = state.paths.iter().filter(|(ends, _)| ends.to == host);
            to_host.map(|(_, path)| Arc::clone(&path.sink)).collect()
        };
        sinks.iter().for_each(|sink| sink.inbox.lock().clone_from(&inbox));
    }

    /// A host sends a packet.
    pub(super) fn send(&self, from: usize, packet: &TxPacket<'_>) {
        if let Some(capture) = &self.capture {
            // An error of the writer ends the capture, and `Net::shutdown` says so.
            let _ = capture.transmit(self.instant(), 0, packet);
        }
        let Some(to) = destination(packet.header) else { return };
        let links: Vec<_> = {
            let mut state = self.state.lock();
            let receivers = state.receivers(from, to);
            receivers.into_iter().filter_map(|to| state.enter(self.seed, Ends { from, to }, packet)).collect()
        };
        for link in links {
            self.transmit(&link, packet);
        }
    }

    fn transmit(&self, link: &Link, packet: &TxPacket<'_>) {
        // A packet that cannot be delivered is lost.
        let _ = link.transmit(self.instant(), 0, packet);
        link.flush(0);
    }

    fn links(&self) -> Vec<Arc<Link>> {
        self.state.lock().paths.values().map(|path| Arc::clone(&path.link)).collect()
    }

    /// When a packet arrives next.
    pub(super) fn next_arrival(&self) -> Option<u64> {
        self.links().iter().filter_map(|link| link.next_deadline()).map(Instant::as_nanos).min()
    }

    /// Lets time pass, and the packets arrive that are due.
    pub(super) fn advance(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
        let now = self.instant();
        for link in self.links() {
            if link.next_deadline().is_some_and(|at| at <= now) {
                link.on_deadline(now);
            }
        }
    }

    /// The error that ended the capture, if one did.
    pub(super) fn capture_error(&self) -> Option<io::Error> {
        self.capture.as_ref().and_then(PcapTap::error)
    }
}

impl State {
    fn number(&self, name: &str) -> usize {
        let found = self.hosts.iter().position(|host| host.name.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| panic!("there is no host `{name}`"))
    }

    fn receivers(&self, from: usize, to: IpAddr) -> Vec<usize> {
        if to.is_multicast() || to == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return (0..self.hosts.len()).filter(|host| *host != from).collect();
        }
        self.by_address.get(&to).copied().filter(|host| *host != from).into_iter().collect()
    }

    fn path(&mut self, seed: u64, ends: Ends) -> &mut Path {
        let Self { hosts, default, paths, .. } = self;
        paths.entry(ends).or_insert_with(|| {
            let sink = Arc::new(Sink::new(hosts[ends.to].inbox.clone()));
            let egress = seeded(default, seed, ends);
            let link = Arc::new(Link::new(Arc::clone(&sink) as _, LinkConfig::default(), egress));
            Path { config: default.clone(), link, sink, cut: false, held: None, lost: 0 }
        })
    }

    /// A packet enters a path: the link that it goes on to, unless it is lost or held.
    fn enter(&mut self, seed: u64, ends: Ends, packet: &TxPacket<'_>) -> Option<Arc<Link>> {
        let path = self.path(seed, ends);
        if path.cut {
            path.lost += 1;
            return None;
        }
        if let Some(held) = &mut path.held {
            let mut bytes = vec![0; packet.len()];
            packet.copy_to(&mut bytes);
            held.push(bytes);
            return None;
        }
        Some(Arc::clone(&path.link))
    }
}

/// The impairments of a path, with chance of its own.
fn seeded(config: &LinkConfig, seed: u64, ends: Ends) -> LinkConfig {
    LinkConfig { seed: mix(seed, &[config.seed, ends.from as u64, ends.to as u64]), ..config.clone() }
}

impl Links {
    /// Cuts the paths between two hosts in both directions: what is sent from now on is lost, until
    /// [`Links::repair`]. Packets in transit still arrive.
    pub fn partition(&self, a: &str, b: &str) {
        self.partition_oneway(a, b);
        self.partition_oneway(b, a);
    }

    /// Cuts the path from one host to another, and not the way back.
    pub fn partition_oneway(&self, from: &str, to: &str) {
        self.on_path(from, to, |_, path| path.cut = true);
    }

    /// Ends [`Links::partition`], in both directions.
    pub fn repair(&self, a: &str, b: &str) {
        self.repair_oneway(a, b);
        self.repair_oneway(b, a);
    }

    /// Ends [`Links::partition`] and [`Links::partition_oneway`] for one direction.
    pub fn repair_oneway(&self, from: &str, to: &str) {
        self.on_path(from, to, |_, path| path.cut = false);
    }

    /// Holds what two hosts send each other from now on, until [`Links::release`].
    pub fn hold(&self, a: &str, b: &str) {
        for (from, to) in [(a, b), (b, a)] {
            self.on_path(from, to, |_, path| path.held = Some(path.held.take().unwrap_or_default()));
        }
    }

    /// Ends [`Links::hold`]: what was held goes on its way now, in the order in which it was sent.
    pub fn release(&self, a: &str, b: &str) {
        for (from, to) in [(a, b), (b, a)] {
            let (link, held) = self.on_path(from, to, |_, path| (Arc::clone(&path.link), path.held.take()));
            for bytes in held.into_iter().flatten() {
                let packet = TxPacket {
                    header: &bytes,
                    payload: &[],
                    checksum: None,
                    gso: None,
                    mark: 0,
                    priority: 0,
                };
                self.shared.transmit(&link, &packet);
            }
        }
    }

    /// Changes the impairments between two hosts, in both directions, for packets that are sent from now on.
    pub fn set_link(&self, a: &str, b: &str, config: &LinkConfig) {
        self.set_link_oneway(a, b, config);
        self.set_link_oneway(b, a, config);
    }

    /// Changes the impairments from one host to another, for packets that are sent from now on.
    pub fn set_link_oneway(&self, from: &str, to: &str, config: &LinkConfig) {
        let (link, egress) = self.on_path(from, to, |ends, path| {
            path.config = config.clone();
            (Arc::clone(&path.link), seeded(config, self.shared.seed, ends))
        });
        link.set_egress(egress);
    }

    /// The impairments from one host to another.
    pub fn link(&self, from: &str, to: &str) -> LinkConfig {
        self.on_path(from, to, |_, path| path.config.clone())
    }

    /// What became of the packets from one host to another. Those that a partition lost count as lost.
    pub fn stats(&self, from: &str, to: &str) -> LinkStats {
        let (link, cut) = self.on_path(from, to, |_, path| (Arc::clone(&path.link), path.lost));
        let stats = link.egress_stats();
        LinkStats { packets: stats.packets + cut, lost: stats.lost + cut, ..stats }
    }

    /// The time since the net began.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.shared.now())
    }

    /// Looks at a path, or changes it. No link is touched in here, since that is locked by itself.
    fn on_path<R>(&self, from: &str, to: &str, f: impl FnOnce(Ends, &mut Path) -> R) -> R {
        let mut state = self.shared.state.lock();
        let ends = Ends { from: state.number(from), to: state.number(to) };
        assert!(ends.from != ends.to, "a path leads from one host to another");
        f(ends, state.path(self.shared.seed, ends))
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("elapsed", &self.elapsed()).finish_non_exhaustive()
    }
}
