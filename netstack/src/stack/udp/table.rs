//! The table of sockets: which one a datagram is for.
//!
//! Sockets that are connected from one address are found by both ends at once, the others by their port:
//! a server may have many of the first kind on one port, and has few of the second.

use super::cell::UdpCell;
use super::place::Place;
use crate::stack::crowd::{Bound, Crowd, Member, Wanted};
use crate::stack::flow::{FlowKey, give_back};
use crate::stack::keyed::Keyed;
use crate::sync::{Rank, RwLock};
use crate::udp::{Ends, Filter};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shards of the table, by local port.
const SHARDS: usize = 64;

#[derive(Debug)]
struct Entry {
    filter: Filter,
    cell: Arc<UdpCell>,
}

impl Member for Entry {
    fn bound(&self) -> Bound {
        bound_of(&self.filter)
    }

    fn dual_stack(&self) -> bool {
        self.filter.dual_stack
    }

    fn reuse_port(&self) -> bool {
        self.filter.reuse_port
    }
}

#[derive(Debug)]
struct Shard {
    connected: HashMap<FlowKey, Crowd<Entry>, Keyed>,
    bound: HashMap<u16, Crowd<Entry>, Keyed>,
}

/// The sockets of one stack.
#[derive(Debug)]
pub(super) struct Table {
    shards: Box<[RwLock<Shard>]>,
    keyed: Keyed,
    len: AtomicUsize,
}

impl Table {
    pub(super) fn new(keyed: Keyed) -> Self {
        let shard = || Shard {
            connected: HashMap::with_hasher(keyed.clone()),
            bound: HashMap::with_hasher(keyed.clone()),
        };
        let shards = (0..SHARDS).map(|_| RwLock::new(Rank::Demux, shard())).collect();
        Self { shards, keyed, len: AtomicUsize::new(0) }
    }

    fn shard(&self, port: u16) -> &RwLock<Shard> {
        &self.shards[usize::from(port) % SHARDS]
    }

    /// How many sockets there are.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Enters a socket.
    pub(super) fn enter(&self, cell: &Arc<UdpCell>, place: Place) {
        self.shard(place.port).write().enter(place, Arc::clone(cell));
        self.len.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes a socket. The caller has a reference, so that none is the last one under the lock.
    pub(super) fn leave(&self, cell: &Arc<UdpCell>, place: &Place) {
        self.shard(place.port).write().leave(place, cell);
        self.len.fetch_sub(1, Ordering::Relaxed);
    }

    /// Moves a socket to another place of the same port, in one step: it is always in one of the two.
    pub(super) fn move_to(&self, cell: &Arc<UdpCell>, from: &Place, to: Place) {
        let mut shard = self.shard(from.port).write();
        shard.leave(from, cell);
        shard.enter(to, Arc::clone(cell));
    }

    /// The socket for a datagram to one host: the one that fits most closely. Among equals, the hash of the
    /// flow decides if they share their port by `SO_REUSEPORT`; otherwise it is the one that was bound last,
    /// as in Linux.
    #[inline]
    pub(super) fn find(&self, ends: &Ends) -> Option<Arc<UdpCell>> {
        let Ends { local, remote, .. } = *ends;
        let flow = FlowKey::new(&local.ip(), local.port(), &remote.ip(), remote.port());
        let shard = self.shard(local.port()).read();
        if !shard.connected.is_empty()
            && let Some(found) = shard.connected.get(&flow).and_then(|equals| self.best(equals, ends, &flow))
        {
            return Some(found);
        }
        self.best(shard.bound.get(&local.port())?, ends, &flow)
    }

    fn best(&self, entries: &Crowd<Entry>, ends: &Ends, flow: &FlowKey) -> Option<Arc<UdpCell>> {
        if let Some(only) = entries.only() {
            return only.filter.takes(ends).then(|| Arc::clone(&only.cell));
        }
        let Ends { local, remote, interface } = *ends;
        let wanted = Wanted { local: local.ip(), remote: (remote.ip(), remote.port()), interface };
        let found = entries.find(&wanted, || self.keyed.of(flow))?;
        Some(Arc::clone(&found.cell))
    }

    /// The sockets for a datagram to a group or to all hosts: all that take it.
    pub(super) fn find_all(&self, ends: &Ends) -> Vec<Arc<UdpCell>> {
        let shard = self.shard(ends.local.port()).read();
        let entries = shard.bound.get(&ends.local.port()).into_iter().flat_map(Crowd::iter);
        let takers = entries.filter(|entry| entry.filter.takes(ends));
        takers.map(|entry| Arc::clone(&entry.cell)).collect()
    }

    /// All sockets, in the order in which they were made.
    pub(super) fn all(&self) -> Vec<Arc<UdpCell>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = shard.read();
            let entries = shard.connected.values().chain(shard.bound.values()).flat_map(Crowd::iter);
            all.extend(entries.map(|entry| Arc::clone(&entry.cell)));
        }
        all.sort_by_key(|cell| cell.id());
        all
    }
}

impl Shard {
    fn enter(&mut self, place: Place, cell: Arc<UdpCell>) {
        let entry = Entry { filter: place.filter, cell };
        match place.flow() {
            Some(flow) => insert(&mut self.connected, flow, entry),
            None => insert(&mut self.bound, place.port, entry),
        }
    }

    fn leave(&mut self, place: &Place, cell: &Arc<UdpCell>) {
        match place.flow() {
            Some(flow) => remove(&mut self.connected, &flow, place, cell),
            None => remove(&mut self.bound, &place.port, place, cell),
        }
    }
}

/// What a socket with this filter is bound to.
fn bound_of(filter: &Filter) -> Bound {
    Bound { address: filter.local, peer: filter.peer, interface: filter.interface }
}

fn insert<K: Eq + Hash>(table: &mut HashMap<K, Crowd<Entry>, Keyed>, key: K, entry: Entry) {
    let keyed = table.hasher().clone();
    table.entry(key).or_default().push(entry, &keyed);
}

fn remove<K: Eq + Hash>(
    table: &mut HashMap<K, Crowd<Entry>, Keyed>,
    key: &K,
    place: &Place,
    cell: &Arc<UdpCell>,
) {
    let Some(entries) = table.get_mut(key) else { return };
    if entries.remove(&bound_of(&place.filter), |entry| Arc::ptr_eq(&entry.cell, cell)) {
        table.remove(key);
        give_back(table);
    }
}
