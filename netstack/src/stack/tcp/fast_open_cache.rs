//! The information that clients keep about servers with Fast Open (RFC 7413 §4.1.3).

use crate::stack::flow::FlowKey;
use crate::sync::{Mutex, Rank};
use crate::tcp::{FastOpenReport, SynDataFate};
use crate::time::{Duration, Instant};
use crate::wire::FastOpenOption;
use arrayvec::ArrayVec;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// Failures in a row after which Fast Open pauses for a server. One may be an ordinary loss.
const TOLERATED_FAILURES: u32 = 1;

/// The first pause; it doubles with each failure (as in Linux while it paused for one server alone).
const PAUSE: Duration = Duration::from_secs(240);

/// Doublings at most: the longest pause is about four hours.
const MAX_DOUBLINGS: u32 = 6;

/// Ports of one server that failures are remembered of.
const MAX_FAILING_PORTS: usize = 4;

/// A bounded cache of Fast Open cookies, MSS values and failures for each server. Entries expire.
///
/// Several stacks can share a cache if they have the same addresses, because a cookie is bound to
/// the address of the client too. A program can save the cache across restarts; see
/// [`FastOpenCache::export`].
#[derive(Debug)]
pub struct FastOpenCache {
    table: Mutex<Table>,
    /// Servers at most.
    capacity: usize,
    /// After this time a cookie is not used any more.
    max_age: Duration,
}

/// What a cookie belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Addresses {
    client: IpAddr,
    server: IpAddr,
}

impl Addresses {
    /// Those of a connection of ours to a server.
    fn of(flow: &FlowKey) -> Self {
        Self { client: flow.local(), server: flow.remote() }
    }
}

#[derive(Debug, Default)]
struct Table {
    servers: HashMap<Addresses, Server>,
    /// The servers by their last use.
    by_use: BTreeMap<u64, Addresses>,
    uses: u64,
    /// The latest time that was heard of.
    latest: Instant,
}

#[derive(Debug)]
struct Server {
    cookie: Option<FastOpenOption>,
    mss: Option<u16>,
    /// When the cookie, or if there is none the MSS, was learnt.
    learnt: Instant,
    /// Which form of the option to ask with.
    form: Form,
    failures: ArrayVec<Failures, MAX_FAILING_PORTS>,
    /// Its key in `by_use`.
    used: u64,
}

/// Linux's `try_exp`: a server that ignores the option is asked once more with the experimental one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Standard,
    Experimental,
    StandardForGood,
}

/// Failures in a row of one port (RFC 7413 §4.1.3.1).
#[derive(Clone, Copy, Debug)]
struct Failures {
    port: u16,
    count: u32,
    last: Instant,
}

/// What is known of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Its cookie.
    Cookie { option: FastOpenOption, mss: Option<u16> },
    /// No cookie; perhaps its MSS.
    Nothing { experimental: bool, mss: Option<u16> },
    /// Fast Open failed there lately.
    Paused,
}

/// The entry of one server, for export and import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastOpenEntry {
    /// The address of the client.
    pub client: IpAddr,
    /// The address of the server.
    pub server: IpAddr,
    /// The cookie of the server, in the option format in which it was received.
    pub cookie: FastOpenOption,
    /// The last MSS that the server advertised, in bytes.
    pub mss: Option<u16>,
    /// The age of the cookie.
    pub age: Duration,
}

impl FastOpenCache {
    /// An empty cache for `capacity` servers, whose cookies expire after `max_age`.
    pub fn new(capacity: usize, max_age: Duration) -> Arc<Self> {
        Arc::new(Self { table: Mutex::new(Rank::Leaf, Table::default()), capacity, max_age })
    }

    /// The number of servers in the cache.
    pub fn len(&self) -> usize {
        self.table.lock().servers.len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all entries.
    pub fn clear(&self) {
        let mut table = self.table.lock();
        *table = Table { latest: table.latest, ..Table::default() };
    }

    /// All cookies, the least recently used first. Save them to have them after a restart. Keep
    /// them secret: with them, Fast Open can be used in the name of this client.
    pub fn export(&self) -> Vec<FastOpenEntry> {
        let table = self.table.lock();
        let entry = |key: &Addresses| {
            let server = &table.servers[key];
            server.cookie.map(|cookie| FastOpenEntry {
                client: key.client,
                server: key.server,
                cookie,
                mss: server.mss,
                age: table.latest - server.learnt,
            })
        };
        table.by_use.values().filter_map(entry).filter(|entry| entry.age < self.max_age).collect()
    }

    /// Adds cookies, for example those of an export. Expired entries and entries without a cookie
    /// are skipped. Existing entries of the same servers are replaced.
    pub fn import(&self, entries: impl IntoIterator<Item = FastOpenEntry>) {
        let mut table = self.table.lock();
        // So that there is a past in which cookies can have been learnt.
        table.latest = table.latest.max(Instant::ZERO + self.max_age);
        for FastOpenEntry { client, server, cookie, mss, age } in entries {
            if age >= self.max_age || cookie.cookie.is_none() {
                continue;
            }
            let learnt =
                Instant::from_nanos((table.latest - Instant::ZERO).saturating_sub(age).as_nanos() as u64);
            let place = table.server(Addresses { client, server }, self.capacity);
            (place.cookie, place.mss, place.learnt) = (Some(cookie), mss, learnt);
        }
    }

    /// The time of this cache at which a stack starts to use it: the clocks of stacks start at
    /// different moments.
    pub(crate) fn epoch(&self) -> Instant {
        self.table.lock().latest
    }

    pub(crate) fn lookup(&self, now: Instant, flow: &FlowKey) -> Known {
        let mut table = self.table.lock();
        table.latest = table.latest.max(now);
        let key = Addresses::of(flow);
        if !table.servers.contains_key(&key) {
            return Known::Nothing { experimental: false, mss: None };
        }
        let server = table.server(key, self.capacity);
        if server.failures.iter().any(|failures| failures.port == flow.remote_port && failures.is_paused(now))
        {
            return Known::Paused;
        }
        let mss = server.mss;
        match server.cookie.filter(|_| now - server.learnt < self.max_age) {
            Some(option) => Known::Cookie { option, mss },
            None => Known::Nothing { experimental: server.form == Form::Experimental, mss },
        }
    }

    /// A server answered.
    pub(crate) fn learn(&self, now: Instant, flow: &FlowKey, report: &FastOpenReport) {
        let mut table = self.table.lock();
        table.latest = table.latest.max(now);
        let server = table.server(Addresses::of(flow), self.capacity);
        server.mss = report.mss.or(server.mss);
        if report.cookie.is_some() {
            // RFC 7413 §4.2.1: the newest one counts.
            server.cookie = report.cookie;
            server.learnt = now;
        } else if let Some(experimental) = report.ignored.filter(|_| server.cookie.is_none()) {
            server.form = match server.form {
                _ if experimental => Form::StandardForGood,
                Form::Standard => Form::Experimental,
                form => form,
            };
        }
        match report.data {
            // With a new cookie, the former one was just old.
            SynDataFate::Refused if report.cookie.is_some() => {}
            SynDataFate::None | SynDataFate::Partial => {}
            SynDataFate::Acked => server.failures.retain(|failures| failures.port != flow.remote_port),
            SynDataFate::Refused | SynDataFate::Lost => server.fail(now, flow.remote_port),
        }
    }

    /// A server did not answer.
    pub(crate) fn fail(&self, now: Instant, flow: &FlowKey) {
        let mut table = self.table.lock();
        table.latest = table.latest.max(now);
        table.server(Addresses::of(flow), self.capacity).fail(now, flow.remote_port);
    }
}

impl Table {
    /// The entry of a server, which is in use now. A new one takes the place of the one that was not
    /// used for longest if there are `capacity`.
    fn server(&mut self, key: Addresses, capacity: usize) -> &mut Server {
        self.uses += 1;
        let used = self.uses;
        if let Some(server) = self.servers.get(&key) {
            self.by_use.remove(&server.used);
        } else if self.servers.len() >= capacity.max(1)
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.servers.remove(&oldest);
        }
        self.by_use.insert(used, key);
        let server = self.servers.entry(key).or_insert_with(Server::new);
        server.used = used;
        server
    }
}

impl Server {
    fn new() -> Self {
        Self {
            cookie: None,
            mss: None,
            learnt: Instant::ZERO,
            form: Form::Standard,
            failures: ArrayVec::new(),
            used: 0,
        }
    }

    fn fail(&mut self, now: Instant, port: u16) {
        if let Some(failures) = self.failures.iter_mut().find(|failures| failures.port == port) {
            failures.count = failures.count.saturating_add(1);
            failures.last = now;
            return;
        }
        if self.failures.is_full() {
            self.failures.remove(0);
        }
        self.failures.push(Failures { port, count: 1, last: now });
    }
}

impl Failures {
    fn is_paused(&self, now: Instant) -> bool {
        let doublings = self.count.saturating_sub(TOLERATED_FAILURES + 1).min(MAX_DOUBLINGS);
        self.count > TOLERATED_FAILURES && now < self.last + PAUSE * (1 << doublings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::FastOpenCookie;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1000)
    }

    fn flow(server: u8, port: u16) -> FlowKey {
        let address = |last| IpAddr::from([10, 0, 0, last]);
        FlowKey::new(&address(1), 9, &address(server), port)
    }

    fn option(byte: u8) -> FastOpenOption {
        FastOpenOption { cookie: FastOpenCookie::new(&[byte; 8]), experimental: false }
    }

    fn report(cookie: Option<FastOpenOption>, data: SynDataFate) -> FastOpenReport {
        FastOpenReport { mss: Some(1460), cookie, ignored: None, data }
    }

    fn known(byte: u8) -> Known {
        Known::Cookie { option: option(byte), mss: Some(1460) }
    }

    #[test]
    fn the_newest_cookie_counts_until_it_is_old() {
        let cache = FastOpenCache::new(8, DAY);
        let key = flow(2, 80);
        assert_eq!(cache.lookup(at(0), &key), Known::Nothing { experimental: false, mss: None });
        cache.learn(at(1), &key, &report(Some(option(1)), SynDataFate::None));
        cache.learn(at(2), &key, &report(Some(option(2)), SynDataFate::None));
        cache.learn(at(3), &key, &report(None, SynDataFate::Acked));
        assert_eq!(cache.lookup(at(4), &flow(2, 443)), known(2), "for all ports");
        assert_eq!(cache.lookup(at(86_401), &key), known(2));
        assert_eq!(cache.lookup(at(86_402), &key), Known::Nothing { experimental: false, mss: Some(1460) });
    }

    #[test]
    fn it_is_bounded_and_forgets_what_was_not_used_for_longest() {
        let cache = FastOpenCache::new(3, DAY);
        for server in 1..=3 {
            cache.learn(at(0), &flow(server, 80), &report(Some(option(server)), SynDataFate::None));
        }
        assert_eq!(cache.lookup(at(1), &flow(1, 80)), known(1));
        for server in 4..=200 {
            cache.learn(at(2), &flow(server, 80), &report(Some(option(server)), SynDataFate::None));
            assert_eq!(cache.len(), 3);
            assert_eq!(cache.lookup(at(2), &flow(1, 80)), known(1), "it is in use");
        }
        assert!(matches!(cache.lookup(at(2), &flow(2, 80)), Known::Nothing { .. }));
        let table = cache.table.lock();
        assert_eq!((table.servers.len(), table.by_use.len()), (3, 3));
    }

    #[test]
    fn failures_pause_one_port_for_longer_each_time_and_a_success_ends_them() {
        let cache = FastOpenCache::new(8, DAY);
        let key = flow(2, 80);
        let paused = |at, key: &FlowKey| cache.lookup(at, key) == Known::Paused;
        cache.learn(at(0), &key, &report(Some(option(1)), SynDataFate::None));
        cache.fail(at(0), &key);
        assert!(!paused(at(0), &key), "one may be a loss");
        let mut now = 0;
        for expected in [240, 480, 960] {
            cache.learn(at(now), &key, &report(None, SynDataFate::Lost));
            assert!(paused(at(now + expected - 1), &key) && !paused(at(now + expected), &key));
            assert!(!paused(at(now), &flow(2, 443)), "another service may be without the middlebox");
            now += expected;
        }
        cache.learn(at(now), &key, &report(None, SynDataFate::Acked));
        cache.learn(at(now), &key, &report(None, SynDataFate::Refused));
        assert!(!paused(at(now), &key), "they count in a row");
        for port in 0..1000 {
            cache.fail(at(now), &flow(2, port));
        }
        assert_eq!(cache.table.lock().servers[&Addresses::of(&key)].failures.len(), MAX_FAILING_PORTS);
    }

    #[test]
    fn a_server_that_ignores_the_option_is_asked_once_with_the_old_one() {
        let cache = FastOpenCache::new(8, DAY);
        let key = flow(2, 80);
        for experimental in [false, true, false, false] {
            let Known::Nothing { experimental: form, .. } = cache.lookup(at(0), &key) else { panic!() };
            assert_eq!(form, experimental);
            let ignored = FastOpenReport { ignored: Some(form), ..report(None, SynDataFate::None) };
            cache.learn(at(0), &key, &ignored);
        }
    }

    #[test]
    fn an_export_survives_and_ages() {
        let cache = FastOpenCache::new(8, DAY);
        for server in 1..=3 {
            let now = at(40_000 * u64::from(server));
            cache.learn(now, &flow(server, 80), &report(Some(option(server)), SynDataFate::None));
        }
        let _ = cache.lookup(at(130_000), &flow(9, 80));
        let entries = cache.export();
        let ages: Vec<_> = entries.iter().map(|entry| (entry.server, entry.age.as_secs())).collect();
        assert_eq!(
            ages,
            [(flow(2, 0).remote(), 50_000), (flow(3, 0).remote(), 10_000)],
            "the first is too old"
        );
        let other = FastOpenCache::new(8, DAY);
        other.import(entries.clone());
        assert_eq!(other.export(), entries);
        // A stack whose clock starts at zero.
        let epoch = other.epoch();
        assert_eq!(other.lookup(epoch, &flow(2, 80)), known(2));
        assert!(matches!(
            other.lookup(epoch + Duration::from_secs(36_400), &flow(2, 80)),
            Known::Nothing { .. }
        ));
        assert_eq!(other.lookup(epoch + Duration::from_secs(36_400), &flow(3, 80)), known(3));
    }
}
