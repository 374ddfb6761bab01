//! The metrics that connections have measured for hosts: `tcp_metrics` of Linux.

use crate::config::Config;
use crate::stack::hosts::Hosts;
use crate::stack::keyed::Keyed;
use crate::stack::paths::PathMtu;
use crate::sync::{Mutex, Rank};
use crate::tcp::PathMetrics;
use crate::time::{Duration, Instant};
use std::net::IpAddr;

/// How long measurements count (`TCP_METRICS_TIMEOUT` in Linux).
const METRICS_AGE: Duration = Duration::from_secs(3600);

/// The metrics of one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Destination {
    /// The address of the destination.
    pub address: IpAddr,
    /// The MTU of the path, if it is smaller than that of the interface.
    pub mtu: Option<PathMtu>,
    /// The measurements of earlier connections.
    pub metrics: PathMetrics,
    /// When something was last learned or looked up.
    pub used: Instant,
}

impl Destination {
    pub(in crate::stack) fn new(address: IpAddr, used: Instant) -> Self {
        Self { address, mtu: None, metrics: PathMetrics::default(), used }
    }
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    metrics: PathMetrics,
    at: Instant,
}

/// The measurements of one stack.
#[derive(Debug)]
pub(in crate::stack) struct Metrics {
    table: Mutex<Hosts<Measured>>,
    /// Nothing is to be remembered (`tcp_no_metrics_save`).
    off: bool,
}

impl Metrics {
    pub(in crate::stack) fn new(config: &Config, keyed: Keyed) -> Self {
        let table = Hosts::new(config.max_destinations as usize, keyed);
        Self { table: Mutex::new(Rank::Leaf, table), off: config.no_metrics_save }
    }

    /// What connections to `address` measured; what is too old counts as not known.
    pub(in crate::stack) fn get(&self, now: Instant, address: IpAddr) -> PathMetrics {
        let known = self.table.lock().get(now, address);
        known.map_or_else(PathMetrics::default, |known| known.value.at(now))
    }

    /// Replaces what is known from connections to `address` by what `update` makes of it.
    pub(in crate::stack) fn learn(
        &self,
        now: Instant,
        address: IpAddr,
        update: impl FnOnce(PathMetrics) -> PathMetrics,
    ) {
        if self.off {
            return;
        }
        let mut table = self.table.lock();
        let known = table.get(now, address).map(|known| known.value.at(now));
        let metrics = update(known.unwrap_or_default());
        // A connection that measured nothing is no reason to make an entry.
        if known.is_some() || metrics != PathMetrics::default() {
            table.insert(now, address, Measured { metrics, at: now });
        }
    }

    /// All hosts of which something is known, in no order, with when each was last used.
    pub(in crate::stack) fn all(&self, now: Instant) -> Vec<(IpAddr, PathMetrics, Instant)> {
        let table = self.table.lock();
        let known = table.iter().map(|host| (host.address, host.value.at(now), host.used));
        known.filter(|(_, metrics, _)| *metrics != PathMetrics::default()).collect()
    }

    /// Forgets everything.
    pub(in crate::stack) fn clear(&self) {
        self.table.lock().clear();
    }
}

impl Measured {
    /// What counts at `now`.
    fn at(&self, now: Instant) -> PathMetrics {
        if now - self.at <= METRICS_AGE { self.metrics } else { PathMetrics::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_millis(1_000_000);

    fn host(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn measurements_are_forgotten_after_an_hour() {
        let table = Metrics::new(&Config::default(), Keyed::new([7; 16]));
        let measured = |known| PathMetrics { rtt: Some(Duration::from_millis(10)), ..known };
        table.learn(START, host(1), measured);
        assert_eq!(table.get(START + METRICS_AGE, host(1)).rtt, Some(Duration::from_millis(10)));
        let late = START + METRICS_AGE + Duration::from_millis(1);
        assert_eq!(table.get(late, host(1)), PathMetrics::default());
        table.learn(late, host(2), |known| known);
        assert!(table.all(START).iter().all(|(address, ..)| *address != host(2)), "nothing was learned");
    }

    #[test]
    fn nothing_is_remembered_if_that_is_off() {
        let config = Config { no_metrics_save: true, ..Config::default() };
        let table = Metrics::new(&config, Keyed::new([7; 16]));
        table.learn(START, host(1), |known| PathMetrics { rtt: Some(Duration::from_millis(10)), ..known });
        assert!(table.all(START).is_empty());
    }
}
