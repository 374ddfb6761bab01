//! What the stack remembers of the hosts that it talked to: the MTU of the path, and what
//! connections measured (Linux keeps the first with its routes and the rest in `tcp_metrics`).
//!
//! The table is bounded and costs nothing to hold on to: it has buckets of a few entries, chosen by a
//! keyed hash, and a bucket that is full forgets the entry that was not used for longest. So a peer
//! with many addresses makes the stack forget, and never remember more than it may; and whose entries
//! it makes it forget is not for it to choose.

use super::cell::{Cell, Phase};
use super::demux::{Flow, Keyed};
use super::effects::Effects;
use super::engine::Engine;
use super::flow::FlowKey;
use crate::config::Config;
use crate::tcp::{Connection, Path, PathMetrics};
use crate::time::{Duration, Instant};
use crate::wire::SeqNum;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Entries of a bucket. A lookup compares so many addresses at most.
const WAYS: usize = 8;

/// How long measurements count (`TCP_METRICS_TIMEOUT` in Linux).
const METRICS_AGE: Duration = Duration::from_secs(3600);

/// IPv6 links carry at least this much (RFC 8200 §5), so no path says less.
const IPV6_MIN_MTU: usize = 1280;

/// What is remembered of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Destination {
    /// The host.
    pub address: IpAddr,
    /// The MTU of the path, in bytes, if it was found to be less than the interface's.
    pub mtu: Option<PathMtu>,
    /// What connections measured.
    pub metrics: PathMetrics,
    /// When something was last learned or looked up.
    pub used: Instant,
}

/// The MTU of a path that ICMP told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// The largest packet that passes, in bytes.
    pub bytes: usize,
    /// A router claimed an MTU below [`Config::min_pmtu`]: no path is made smaller than that, and
    /// packets are sent without DF instead, so that they can be fragmented (as in Linux).
    pub locked: bool,
    /// When it counts no more and larger packets are tried again (RFC 1191 §6.3).
    pub expires: Instant,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Destinations {
    keyed: Keyed,
    capacity: usize,
    mtu_expires: Duration,
    min_pmtu: usize,
    /// Made with the first entry.
    buckets: Vec<Vec<Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    destination: Destination,
    /// When the metrics were last written.
    measured: Instant,
}

impl Destinations {
    pub(crate) fn new(config: &Config, keyed: Keyed) -> Self {
        Self {
            keyed,
            capacity: config.max_destinations as usize,
            mtu_expires: config.mtu_expires,
            min_pmtu: config.min_pmtu as usize,
            buckets: Vec::new(),
        }
    }

    fn bucket(&self, address: IpAddr) -> usize {
        (self.keyed.of(&address) % self.buckets.len().max(1) as u64) as usize
    }

    /// What is known of `address`; what is too old counts as not known.
    pub(crate) fn get(&mut self, now: Instant, address: IpAddr) -> Option<Destination> {
        let bucket = self.bucket(address);
        let entry = self.buckets.get_mut(bucket)?.iter_mut().find(|e| e.destination.address == address)?;
        entry.destination.used = entry.destination.used.max(now);
        Some(entry.at(now))
    }

    /// The entry of `address`, made if there is none. None if the table may hold nothing.
    fn entry(&mut self, now: Instant, address: IpAddr) -> Option<&mut Entry> {
        if self.buckets.is_empty() {
            self.buckets = vec![Vec::new(); self.capacity.div_ceil(WAYS)];
        }
        let at = self.bucket(address);
        let (ways, bucket) = (WAYS.min(self.capacity), self.buckets.get_mut(at)?);
        let index = match bucket.iter().position(|entry| entry.destination.address == address) {
            Some(index) => index,
            None => {
                let entry = Entry::new(now, address);
                if bucket.len() < ways {
                    bucket.push(entry);
                    bucket.len() - 1
                } else {
                    let (oldest, slot) =
                        bucket.iter_mut().enumerate().min_by_key(|(_, entry)| entry.destination.used)?;
                    *slot = entry;
                    oldest
                }
            }
        };
        bucket[index].destination.used = now;
        Some(&mut bucket[index])
    }

    /// A router said that only packets of `claimed` bytes pass on the way to `address`, where ours had
    /// up to `current`. Gives the path's MTU if it is smaller now.
    ///
    /// The caller has made sure that the message answers a packet of ours (RFC 8201 §4).
    pub(crate) fn on_packet_too_big(
        &mut self,
        now: Instant,
        address: IpAddr,
        claimed: usize,
        current: usize,
    ) -> Option<PathMtu> {
        let (bytes, locked) = match address {
            // RFC 8201 §4: discarded. No IPv6 link is that small, and nothing fragments on the way.
            IpAddr::V6(_) if claimed < IPV6_MIN_MTU => return None,
            IpAddr::V6(_) => (claimed, false),
            // Linux's floor (min_pmtu) in place of the 68 bytes of RFC 1191: a forged message cannot
            // make us send crumbs. A router that does not say the size (RFC 1191 §5) gets the same.
            IpAddr::V4(_) if claimed < self.min_pmtu => (current.min(self.min_pmtu), true),
            IpAddr::V4(_) => (claimed, false),
        };
        // RFC 1191 §3: it never raises the estimate.
        if bytes > current || (bytes == current && !locked) {
            return None;
        }
        let expires = now + self.mtu_expires;
        let mtu = PathMtu { bytes, locked, expires };
        if let Some(entry) = self.entry(now, address) {
            entry.destination.mtu = Some(mtu);
        }
        Some(mtu)
    }

    /// Replaces what is known from connections to `address` by what `update` makes of it.
    pub(crate) fn learn(
        &mut self,
        now: Instant,
        address: IpAddr,
        update: impl FnOnce(PathMetrics) -> PathMetrics,
    ) {
        let known = self.get(now, address).map(|known| known.metrics);
        let metrics = update(known.unwrap_or_default());
        // A connection that measured nothing is no reason to make an entry.
        if known.is_none() && metrics == PathMetrics::default() {
            return;
        }
        if let Some(entry) = self.entry(now, address) {
            entry.destination.metrics = metrics;
            entry.measured = now;
        }
    }

    /// All entries that still say something, in no order.
    pub(crate) fn all(&self, now: Instant) -> Vec<Destination> {
        let entries = self.buckets.iter().flatten().map(|entry| entry.at(now));
        entries.filter(|known| known.mtu.is_some() || known.metrics != PathMetrics::default()).collect()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.buckets = Vec::new();
    }
}

impl Entry {
    fn new(now: Instant, address: IpAddr) -> Self {
        let destination = Destination { address, mtu: None, metrics: PathMetrics::default(), used: now };
        Self { destination, measured: now }
    }

    /// What counts at `now`.
    fn at(&self, now: Instant) -> Destination {
        let Self { destination, measured } = *self;
        let metrics =
            if now - measured <= METRICS_AGE { destination.metrics } else { PathMetrics::default() };
        Destination { mtu: destination.mtu.filter(|mtu| now < mtu.expires), metrics, ..destination }
    }
}

impl Engine {
    /// What the stack remembers of the hosts that it talked to, in no order: `ip tcp_metrics show`
    /// and the path MTUs of `ip route get`.
    pub fn destinations(&self, now: Instant) -> Vec<Destination> {
        self.known_destinations().lock().all(now)
    }

    /// What the stack remembers of one host.
    pub fn destination(&self, now: Instant, address: IpAddr) -> Option<Destination> {
        self.known_destinations().lock().get(now, address)
    }

    /// Forgets what connections measured and the MTUs of all paths. Running connections keep theirs
    /// until they expire.
    pub fn forget_destinations(&self) {
        self.known_destinations().lock().clear();
    }

    /// What is known of the way to `remote` through `interface`.
    pub(super) fn path(&self, now: Instant, interface: u16, remote: IpAddr) -> Path {
        let path = Path::new(self.mtu(interface), remote.is_ipv6());
        match self.known_destinations().lock().get(now, remote) {
            None => path,
            Some(known) => Path {
                pmtu: known.mtu.map_or(path.mtu, |mtu| mtu.bytes.min(path.mtu)),
                fragments: known.mtu.is_some_and(|mtu| mtu.locked),
                metrics: known.metrics,
                ..path
            },
        }
    }

    /// Tells a connection what is known of its path, and says when to ask again at the latest. What it
    /// was told itself counts until `expires`, also if the table had no room to remember it.
    pub(super) fn refresh_path(
        &self,
        now: Instant,
        cell: &Cell,
        connection: &mut Connection,
        expires: Instant,
    ) -> Instant {
        let mtu = self.mtu(cell.queue().interface);
        match self.destination(now, cell.key().remote()).and_then(|known| known.mtu) {
            Some(known) => {
                connection.on_path_mtu(known.bytes.min(mtu), known.locked, false);
                known.expires
            }
            None if expires > now => expires,
            None => {
                connection.on_path_mtu(mtu, false, false);
                Instant::FAR_FUTURE
            }
        }
    }

    /// A router says that a packet with the sequence number `seq` is longer than the `claimed` bytes
    /// that it can forward (RFC 1191 §3, RFC 8201 §4). Believed only if that packet is in flight.
    pub(super) fn on_packet_too_big(
        &self,
        now: Instant,
        key: &FlowKey,
        seq: SeqNum,
        claimed: usize,
        out: &mut Effects,
    ) {
        let cell = self.demux().with_flow(key, |flow| match flow {
            Some(Flow::Cell(cell)) => Some(Arc::clone(cell)),
            _ => None,
        });
        let Some(cell) = cell else { return };
        self.with_cell(now, &cell, out, |inner, _| {
            let connection = match &mut inner.phase {
                Phase::Connected(connection) => connection,
                // What a handshake sends fits every path, but for a SYN with data. Nothing is learnt
                // from messages about it, which are easy to forge.
                Phase::Opening(opening) => {
                    let floor = if key.is_ipv6() { IPV6_MIN_MTU } else { self.config().min_pmtu as usize };
                    opening.on_packet_too_big(seq, claimed.max(floor));
                    return;
                }
                Phase::Over(_) => return,
            };
            if !connection.is_in_flight(seq) {
                self.counters_live().icmp_out_of_window.bump();
                return;
            }
            if !connection.options().mtu_discover.follows_icmp() {
                return;
            }
            let path = self.path(now, cell.queue().interface, key.remote());
            let current = path.pmtu.min(connection.path_mtu());
            let told =
                self.known_destinations().lock().on_packet_too_big(now, key.remote(), claimed, current);
            // If another connection was told before, this one hears of it now.
            let pmtu = told.map_or(path.pmtu, |told| told.bytes);
            let fragments = told.map_or(path.fragments, |told| told.locked);
            connection.on_path_mtu(pmtu, fragments, true);
            if let Some(told) = told {
                // Other connections to the host look the path up before they send again.
                self.path_changes().fetch_add(1, Ordering::Relaxed);
                inner.path_expires = told.expires;
            }
        });
    }

    /// Remembers what a connection measured, when it ends.
    pub(super) fn save_metrics(&self, now: Instant, remote: IpAddr, connection: &Connection) {
        if !self.config().no_metrics_save {
            self.known_destinations().lock().learn(now, remote, |known| connection.metrics(known));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_millis(1_000_000);

    fn table(capacity: u32) -> Destinations {
        let config = Config { max_destinations: capacity, ..Config::default() };
        Destinations::new(&config, Keyed::new([7; 16]))
    }

    fn host(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    fn v6() -> IpAddr {
        "2001:db8::1".parse().unwrap()
    }

    fn measured(ms: u64) -> impl FnOnce(PathMetrics) -> PathMetrics {
        move |known| PathMetrics { rtt: Some(Duration::from_millis(ms)), ..known }
    }

    #[test]
    fn an_mtu_goes_down_never_up_and_expires() {
        let mut table = table(64);
        let told = table.on_packet_too_big(START, host(1), 1400, 1500).unwrap();
        assert_eq!((told.bytes, told.locked), (1400, false));
        assert_eq!(table.on_packet_too_big(START, host(1), 1450, 1400), None, "RFC 1191 section 3");
        assert_eq!(table.on_packet_too_big(START, host(1), 1400, 1400), None);
        assert_eq!(table.get(START, host(1)).unwrap().mtu, Some(told));
        let late = START + Duration::from_secs(600);
        assert_eq!(table.get(late, host(1)).unwrap().mtu, None);
        assert!(table.all(late).is_empty());
    }

    #[test]
    fn no_router_makes_a_path_smaller_than_the_floor() {
        let mut table = table(64);
        for claimed in [0, 67, 68, 551] {
            let told = table.on_packet_too_big(START, host(claimed), claimed as usize, 1500).unwrap();
            assert_eq!((told.bytes, told.locked), (552, true), "{claimed}");
        }
        let told = table.on_packet_too_big(START, host(9), 100, 300).unwrap();
        assert_eq!((told.bytes, told.locked), (300, true), "a small path stays, and may fragment");
        for claimed in [0, 1279] {
            assert_eq!(table.on_packet_too_big(START, v6(), claimed, 1500), None, "{claimed}");
        }
        assert_eq!(table.on_packet_too_big(START, v6(), 1280, 1500).unwrap().bytes, 1280);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_what_was_not_used_longest() {
        let mut table = table(8);
        for n in 0..8 {
            table.learn(START + Duration::from_millis(n.into()), host(n), measured(10));
        }
        assert!(table.get(START + Duration::from_secs(1), host(0)).is_some());
        table.learn(START + Duration::from_secs(2), host(8), measured(10));
        let now = START + Duration::from_secs(3);
        assert!(table.get(now, host(0)).is_some(), "it was looked up");
        assert!(table.get(now, host(1)).is_none());
        for n in 0..100_000 {
            table.learn(now, host(n), measured(10));
        }
        assert_eq!(table.all(now).len(), 8);
    }

    #[test]
    fn measurements_are_forgotten_after_an_hour() {
        let mut table = table(64);
        table.learn(START, host(1), measured(10));
        assert_eq!(
            table.get(START + METRICS_AGE, host(1)).unwrap().metrics.rtt,
            Some(Duration::from_millis(10))
        );
        let late = START + METRICS_AGE + Duration::from_millis(1);
        assert_eq!(table.get(late, host(1)).unwrap().metrics, PathMetrics::default());
        table.learn(late, host(2), |known| known);
        assert!(table.get(late, host(2)).is_none(), "nothing learned makes no entry");
    }

    #[test]
    fn a_table_of_no_size_remembers_nothing() {
        let mut table = table(0);
        table.learn(START, host(1), measured(10));
        assert!(table.on_packet_too_big(START, host(1), 1400, 1500).is_some(), "its connection hears it");
        assert!(table.get(START, host(1)).is_none());
    }
}
