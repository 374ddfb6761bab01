//! How many ICMP errors leave a stack.

use super::hosts::Hosts;
use super::keyed::Keyed;
use crate::config::Config;
use crate::icmp::{HostLimit, RateLimit};
use crate::time::Instant;
use std::net::IpAddr;

/// Hosts whose share is known. Who is not known has a full one.
const HOSTS: usize = 1024;

/// The limits of ICMP errors: of all, and of those to one host.
#[derive(Debug)]
pub(super) struct IcmpLimit {
    total: RateLimit,
    hosts: Hosts<HostLimit>,
}

/// Who wants an error to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A packet that the stack cannot deliver: a host may get only some.
    Packet,
    /// The application, which has decided about each.
    Application,
}

impl IcmpLimit {
    pub(super) fn new(config: &Config, keyed: &Keyed) -> Self {
        let total = RateLimit::new(config.icmp_burst, config.icmp_rate, keyed.key_for("ICMP limit"));
        Self { total, hosts: Hosts::new(HOSTS, keyed.clone()) }
    }

    /// Whether an error may be sent to `to`. If so, it counts as sent.
    pub(super) fn allow(&mut self, now: Instant, to: IpAddr, cause: Cause, config: &Config) -> bool {
        // A flood with many sources leaves the hosts alone: what they are given is the total's.
        self.total.has_credit(now) && self.host_may(now, to, cause, config) && self.total.allow(now)
    }

    fn host_may(&mut self, now: Instant, to: IpAddr, cause: Cause, config: &Config) -> bool {
        let interval = config.icmp_host_interval;
        if cause == Cause::Application || interval.is_zero() {
            return true;
        }
        let known = self.hosts.get(now, to).map(|host| host.value);
        let mut host = known.unwrap_or_else(|| HostLimit::new(now, interval));
        let allowed = host.allow(now, interval);
        self.hosts.insert(now, to, host);
        allowed
    }
}
