//! A bounded table of information about hosts.
//!
//! It has buckets of a few entries, selected by a keyed hash, and a full bucket drops its least
//! recently used entry. So a peer with many addresses can make the stack drop entries, but it can
//! neither exceed the limit nor select which entries are dropped.

use super::flow::Address;
use super::keyed::Keyed;
use crate::time::Instant;
use std::net::IpAddr;

/// Entries of a bucket. A lookup compares so many addresses at most.
const WAYS: usize = 8;

/// What is known of hosts, by address.
#[derive(Debug)]
pub(super) struct Hosts<V> {
    keyed: Keyed,
    capacity: usize,
    /// Made with the first entry.
    buckets: Vec<Vec<Host<V>>>,
}

/// What is known of one host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host<V> {
    pub(super) address: IpAddr,
    /// The time of the last update or lookup.
    pub(super) used: Instant,
    pub(super) value: V,
}

impl<V: Copy> Hosts<V> {
    pub(super) fn new(capacity: usize, keyed: Keyed) -> Self {
        Self { keyed, capacity, buckets: Vec::new() }
    }

    fn bucket(&self, address: IpAddr) -> usize {
        (self.keyed.of(&Address::new(&address)) % self.buckets.len().max(1) as u64) as usize
    }

    /// What is known of `address`.
    pub(super) fn get(&mut self, now: Instant, address: IpAddr) -> Option<Host<V>> {
        let bucket = self.bucket(address);
        let host = self.buckets.get_mut(bucket)?.iter_mut().find(|host| host.address == address)?;
        host.used = host.used.max(now);
        Some(*host)
    }

    /// Remembers `value` of `address`, unless the table may hold nothing.
    pub(super) fn insert(&mut self, now: Instant, address: IpAddr, value: V) {
        if self.buckets.is_empty() {
            self.buckets = vec![Vec::new(); self.capacity.div_ceil(WAYS)];
        }
        let at = self.bucket(address);
        let (ways, Some(bucket)) = (WAYS.min(self.capacity), self.buckets.get_mut(at)) else { return };
        let host = Host { address, used: now, value };
        if let Some(known) = bucket.iter_mut().find(|known| known.address == address) {
            *known = host;
        } else if bucket.len() < ways {
            bucket.push(host);
        } else if let Some(oldest) = bucket.iter_mut().min_by_key(|known| known.used) {
            *oldest = host;
        }
    }

    /// All entries, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Host<V>> {
        self.buckets.iter().flatten()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.buckets = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    const START: Instant = Instant::from_millis(1_000_000);

    fn host(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn the_table_is_bounded_and_forgets_what_was_not_used_longest() {
        let mut table = Hosts::new(8, Keyed::new([7; 16]));
        for n in 0..8 {
            table.insert(START + Duration::from_millis(n.into()), host(n), n);
        }
        assert!(table.get(START + Duration::from_secs(1), host(0)).is_some());
        table.insert(START + Duration::from_secs(2), host(8), 8);
        let now = START + Duration::from_secs(3);
        assert!(table.get(now, host(0)).is_some(), "it was looked up");
        assert!(table.get(now, host(1)).is_none());
        for n in 0..100_000 {
            table.insert(now, host(n), n);
        }
        assert_eq!(table.iter().count(), 8);
    }

    #[test]
    fn a_table_of_no_size_remembers_nothing() {
        let mut table = Hosts::new(0, Keyed::new([7; 16]));
        table.insert(START, host(1), ());
        assert!(table.get(START, host(1)).is_none());
    }
}
