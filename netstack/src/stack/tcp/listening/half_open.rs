//! Connections of which only the SYN is known.

use super::pending_syn::PendingSyn;
use crate::config::Config;
use crate::memory::{Charge, Memory, block, vec_entry};
use crate::stack::deadlines::Timer;
use crate::stack::flow::{FlowKey, QueueId};
use crate::tcp::SynEntry;
use std::sync::Arc;

/// What a half-open connection takes beside its place in the table of flows and its deadline, in bytes.
const ENTRY: usize = block(size_of::<HalfOpen>()) + vec_entry(size_of::<Option<Box<HalfOpen>>>());

/// Places that there stays room for in any case.
const KEPT: usize = 64;

/// Where a half-open connection is in its queue. The table of flows leads there: a table of the queue's own would
/// cost a flood as much memory again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stack::tcp) struct Place(u32);

/// The half-open connections of one listener.
#[derive(Debug)]
pub(super) struct SynQueue {
    places: Vec<Option<Box<HalfOpen>>>,
    /// Places that are free.
    free: Vec<u32>,
    len: usize,
    /// Entries whose SYN-ACK has not timed out yet.
    pub(super) young: usize,
    charge: Charge,
}

/// A connection of which only the SYN is known.
#[derive(Debug)]
pub(super) struct HalfOpen {
    pub(super) key: FlowKey,
    pub(super) entry: SynEntry,
    pub(super) timer: Timer,
    pub(super) queue: QueueId,
    /// Where its end is noted, if the application decides.
    pub(super) pending: Option<Arc<PendingSyn>>,
}

impl SynQueue {
    pub(super) fn new(memory: &Arc<Memory>) -> Self {
        Self { places: Vec::new(), free: Vec::new(), len: 0, young: 0, charge: Charge::new(memory, 0) }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn young(&self) -> usize {
        self.young
    }

    /// How often a SYN-ACK is sent again at the moment. Half of the room is kept for young entries:
    /// the more old ones there are, the fewer chances they get (reqsk_timer_handler in Linux).
    pub(super) fn retries(&self, backlog: usize, config: &Config) -> u32 {
        let mut retries = config.synack_retries;
        if 2 * self.len() > backlog.max(8) {
            let mut young = 2 * self.young;
            while retries > 2 && self.len() >= young {
                retries -= 1;
                young *= 2;
            }
        }
        retries
    }

    /// Where the next one is put.
    pub(super) fn next_place(&self) -> Place {
        Place(self.free.last().copied().unwrap_or(self.places.len() as u32))
    }

    /// Whether this one is at a place.
    pub(super) fn holds(&self, place: Place, key: &FlowKey) -> bool {
        let there = self.places.get(place.0 as usize).and_then(Option::as_ref);
        there.is_some_and(|half_open| half_open.key == *key)
    }

    /// The one at a place.
    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut HalfOpen> {
        self.places.get_mut(place.0 as usize)?.as_deref_mut()
    }

    /// Puts one at the place that [`SynQueue::next_place`] said.
    pub(super) fn insert(&mut self, half_open: HalfOpen) -> &mut HalfOpen {
        self.young += usize::from(half_open.entry.is_young());
        self.len += 1;
        self.charge.set(self.len * ENTRY);
        let at = self.free.pop().map_or(self.places.len(), |at| at as usize);
        if at == self.places.len() {
            self.places.push(None);
        }
        self.places[at].insert(Box::new(half_open))
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<HalfOpen> {
        let half_open = self.places.get_mut(place.0 as usize)?.take()?;
        self.young -= usize::from(half_open.entry.is_young());
        self.len -= 1;
        self.charge.set(self.len * ENTRY);
        self.free.push(place.0);
        self.give_back();
        Some(*half_open)
    }

    /// Empties the queue.
    pub(super) fn drain(&mut self) -> Vec<HalfOpen> {
        let all = std::mem::take(&mut self.places).into_iter().flatten().map(|half_open| *half_open);
        let all = all.collect();
        self.free = Vec::new();
        (self.len, self.young) = (0, 0);
        self.charge.set(0);
        all
    }

    /// After a flood, gives the memory back of what is free at the end.
    fn give_back(&mut self) {
        if self.places.len() <= KEPT || self.len >= self.places.len() / 4 {
            return;
        }
        let used = self.places.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if used < self.places.len() {
            self.places.truncate(used);
            self.free.retain(|at| (*at as usize) < used);
            self.places.shrink_to(KEPT.max(2 * used));
            self.free.shrink_to(KEPT.max(2 * used));
        }
    }
}
