//! Connections of which only the SYN is known.

use super::pending_syn::PendingSyn;
use crate::config::Config;
use crate::stack::deadlines::Timer;
use crate::stack::flow::{FlowKey, QueueId, give_back};
use crate::stack::keyed::Keyed;
use crate::tcp::SynEntry;
use std::collections::HashMap;
use std::sync::Arc;

/// The half-open connections of one listener.
#[derive(Debug)]
pub(super) struct SynQueue {
    pub(super) entries: HashMap<FlowKey, HalfOpen, Keyed>,
    /// Entries whose SYN-ACK has not timed out yet.
    pub(super) young: usize,
}

/// A connection of which only the SYN is known.
#[derive(Debug)]
pub(super) struct HalfOpen {
    pub(super) entry: SynEntry,
    pub(super) timer: Timer,
    pub(super) queue: QueueId,
    /// Where its end is noted, if the application decides.
    pub(super) pending: Option<Arc<PendingSyn>>,
}

impl SynQueue {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { entries: HashMap::with_hasher(keyed), young: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
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

    pub(super) fn insert(&mut self, key: FlowKey, half_open: HalfOpen) {
        self.young += usize::from(half_open.entry.is_young());
        self.entries.insert(key, half_open);
    }

    pub(super) fn remove(&mut self, key: &FlowKey) -> Option<HalfOpen> {
        let half_open = self.entries.remove(key)?;
        self.young -= usize::from(half_open.entry.is_young());
        give_back(&mut self.entries);
        Some(half_open)
    }

    /// Empties the queue.
    pub(super) fn drain(&mut self) -> Vec<(FlowKey, HalfOpen)> {
        self.young = 0;
        let entries = self.entries.drain().collect();
        give_back(&mut self.entries);
        entries
    }
}
