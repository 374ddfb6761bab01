//! The MTUs of paths, as ICMP reported them. Linux keeps them with its routes.

use super::hosts::Hosts;
use super::keyed::Keyed;
use crate::config::Config;
use crate::sync::{Mutex, Rank};
use crate::time::{Duration, Instant};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

/// IPv6 links carry at least this much (RFC 8200 §5), so no path says less.
pub(super) const IPV6_MIN_MTU: usize = 1280;

/// The MTU of a path that ICMP reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// The MTU in bytes.
    pub bytes: usize,
    /// Whether a router reported an MTU below [`Config::min_pmtu`]. The MTU is then `min_pmtu`, and
    /// packets are sent without DF, so that they can be fragmented (as in Linux).
    pub locked: bool,
    /// The time at which the entry expires and larger packets are tried again (RFC 1191 §6.3).
    pub expires: Instant,
}

/// The paths of one stack.
#[derive(Debug)]
pub(super) struct Paths {
    table: Mutex<Hosts<PathMtu>>,
    /// Counts up when an MTU changed.
    changes: AtomicU32,
    mtu_expires: Duration,
    min_pmtu: usize,
}

impl Paths {
    pub(super) fn new(config: &Config, keyed: Keyed) -> Self {
        Self {
            table: Mutex::new(Rank::Leaf, Hosts::new(config.max_destinations as usize, keyed)),
            changes: AtomicU32::new(0),
            mtu_expires: config.mtu_expires,
            min_pmtu: config.min_pmtu as usize,
        }
    }

    /// How often an MTU has changed so far. A connection that has seen another number looks its path up again.
    pub(super) fn changes(&self) -> u32 {
        // Acquire: who sees the number of a change finds it in the table.
        self.changes.load(Ordering::Acquire)
    }

    /// The MTU of an interface has changed: every connection looks its path up again.
    pub(super) fn interface_changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The MTU of the path to `address`, if it is known to be less than the interface's.
    pub(super) fn mtu(&self, now: Instant, address: IpAddr) -> Option<PathMtu> {
        let known = self.table.lock().get(now, address)?.value;
        (now < known.expires).then_some(known)
    }

    /// A router said that only packets of `claimed` bytes pass on the way to `address`, where ours had
    /// up to `current`. Gives the path's MTU if it is smaller now.
    ///
    /// The caller has made sure that the message answers a packet of ours (RFC 8201 §4).
    pub(super) fn on_packet_too_big(
        &self,
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
        let mtu = PathMtu { bytes, locked, expires: now + self.mtu_expires };
        self.table.lock().insert(now, address, mtu);
        self.changes.fetch_add(1, Ordering::Release);
        Some(mtu)
    }

    /// All paths whose MTU is known, in no order, with when each was last used.
    pub(super) fn all(&self, now: Instant) -> Vec<(IpAddr, PathMtu, Instant)> {
        let table = self.table.lock();
        let known = table.iter().filter(|host| now < host.value.expires);
        known.map(|host| (host.address, host.value, host.used)).collect()
    }

    /// Forgets all MTUs.
    pub(super) fn clear(&self) {
        self.table.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_millis(1_000_000);

    fn paths(capacity: u32) -> Paths {
        Paths::new(&Config { max_destinations: capacity, ..Config::default() }, Keyed::new([7; 16]))
    }

    fn host(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn an_mtu_goes_down_never_up_and_expires() {
        let paths = paths(64);
        let told = paths.on_packet_too_big(START, host(1), 1400, 1500).unwrap();
        assert_eq!((told.bytes, told.locked), (1400, false));
        assert_eq!(paths.on_packet_too_big(START, host(1), 1450, 1400), None, "RFC 1191 section 3");
        assert_eq!(paths.on_packet_too_big(START, host(1), 1400, 1400), None);
        assert_eq!(paths.changes(), 1);
        assert_eq!(paths.mtu(START, host(1)), Some(told));
        let late = START + Duration::from_secs(600);
        assert_eq!(paths.mtu(late, host(1)), None);
        assert!(paths.all(late).is_empty());
    }

    #[test]
    fn no_router_makes_a_path_smaller_than_the_floor() {
        let paths = paths(64);
        for claimed in [0, 67, 68, 551] {
            let told = paths.on_packet_too_big(START, host(claimed), claimed as usize, 1500).unwrap();
            assert_eq!((told.bytes, told.locked), (552, true), "{claimed}");
        }
        let told = paths.on_packet_too_big(START, host(9), 100, 300).unwrap();
        assert_eq!((told.bytes, told.locked), (300, true), "a small path stays, and may fragment");
        let v6 = "2001:db8::1".parse().unwrap();
        for claimed in [0, 1279] {
            assert_eq!(paths.on_packet_too_big(START, v6, claimed, 1500), None, "{claimed}");
        }
        assert_eq!(paths.on_packet_too_big(START, v6, 1280, 1500).unwrap().bytes, 1280);
    }

    #[test]
    fn a_table_of_no_size_tells_its_connection_and_remembers_nothing() {
        let paths = paths(0);
        assert!(paths.on_packet_too_big(START, host(1), 1400, 1500).is_some());
        assert!(paths.mtu(START, host(1)).is_none());
    }
}
