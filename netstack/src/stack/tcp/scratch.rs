//! What TCP keeps for the packets of one batch.

use super::cell::Cell;
use super::coalesce::Joined;
use super::demux::Listeners;
use super::listening::Listener;
use super::next::Next;
use crate::buffer::PacketBuf;
use crate::device::RxMeta;
use crate::ip::Cast;
use crate::reasons::DropReason;
use crate::stack::admission::Admission;
use crate::stack::core::Core;
use crate::stack::counters::TcpCounters;
use crate::stack::flow::{FlowKey, QueueId};
use crate::sync::Snapshot;
use crate::tcp::SynCookies;
use crate::wire::Ends;
use std::sync::{Arc, Weak};

/// What TCP keeps for the packets of one batch. The driver of a queue holds on to it, so that its memory
/// is used again.
#[derive(Default)]
pub(in crate::stack) struct Scratch {
    /// Connections that got segments since the end of the last batch.
    dirty: Vec<Arc<Cell>>,
    /// Those of the last batch whose acknowledgments an answer may carry.
    held_back: Vec<Arc<Cell>>,
    /// Whether acknowledgments may be held back until the next batch.
    pub(in crate::stack) answers_first: bool,
    /// The flow of the last segment. Most segments are of the same flow as the one before.
    latest: Option<Latest>,
    /// Segments that were joined, and wait for more of them.
    pub(super) joined: Option<Joined>,
    /// The listeners.
    pub(super) listeners: Snapshot<Listeners>,
    /// The secrets of SYN cookies.
    pub(super) cookies: Snapshot<SynCookies>,
    pub(super) failed_cookies: FailedCookies,
    pub(super) in_segments: u64,
    /// Segments for nobody that were not answered, since they are resets or since there were too many.
    pub(super) strays: u64,
    pub(super) resets_limited: u64,
}

/// The flow of the last segment.
struct Latest {
    key: FlowKey,
    /// What its packets are known by.
    ends: Ends,
    /// What the table of flows said of it, if that was asked. It does not keep the connection from being dropped.
    cell: Weak<Cell>,
}

impl Scratch {
    /// Reads a packet, if it is one of the flow of the last segment with nothing unusual about it: nearly all packets
    /// are. Then all is known of it that [`ingress::receive`](crate::stack::ingress::receive) would find out.
    #[inline]
    pub(in crate::stack) fn next_of_flow(
        &self,
        core: &Core,
        admission: &Admission,
        from: QueueId,
        packet: &PacketBuf,
        meta: &RxMeta,
    ) -> Option<Next> {
        let Latest { key, ends, .. } = self.latest.as_ref()?;
        let &RxMeta { len, checksum_verified, gso_size } = meta;
        let (mut segment, ip) = ends.read(packet.bytes().get(..len)?, checksum_verified)?;
        segment.gso_size = gso_size;
        let changes = core.addresses().changes();
        // What was found of the first segments counts for those that are joined to them.
        let admitted = self.joined.as_ref().is_some_and(|joined| joined.from == from)
            || admission.of(from.interface, key, changes) == Some(Cast::Unicast);
        (admitted && !core.is_down(from.interface)).then_some(Next { from, ip, segment, len })
    }

    /// The flow of the last segment.
    #[inline]
    pub(super) fn flow(&self) -> Option<FlowKey> {
        self.latest.as_ref().map(|latest| latest.key)
    }

    /// The connection of that flow.
    #[inline]
    pub(super) fn latest_cell(&self) -> Option<Arc<Cell>> {
        self.latest.as_ref()?.cell.upgrade().filter(|cell| cell.is_listed())
    }

    /// A segment of this flow has come.
    pub(super) fn turn_to(&mut self, key: &FlowKey) {
        if self.latest.as_ref().is_none_or(|latest| latest.key != *key) {
            self.latest = Some(Latest { key: *key, ends: key.ends(), cell: Weak::new() });
        }
    }

    /// The connection got a segment: it is settled at the end of the batch.
    #[inline]
    pub(super) fn mark(&mut self, cell: &Arc<Cell>) {
        if cell.mark_dirty() {
            self.dirty.push(Arc::clone(cell));
        }
    }

    /// The connection of `key`, if the segment before was of it too.
    #[inline]
    pub(super) fn same_again(&self, key: &FlowKey) -> Option<Arc<Cell>> {
        if self.latest.as_ref()?.key == *key { self.latest_cell() } else { None }
    }

    /// The table of flows has `cell` for `key`.
    pub(super) fn found(&mut self, key: &FlowKey, cell: &Arc<Cell>) {
        self.turn_to(key);
        if let Some(latest) = &mut self.latest {
            latest.cell = Arc::downgrade(cell);
        }
    }

    /// Whether connections got segments.
    #[inline]
    pub(super) fn has_marked(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Calls `settle` for each connection that got segments, which says whether it holds back an acknowledgment.
    #[inline]
    pub(super) fn drain(&mut self, mut settle: impl FnMut(&Arc<Cell>) -> bool) {
        let Self { dirty, held_back, .. } = self;
        let mut settle = |cell: Arc<Cell>| {
            if settle(&cell) {
                held_back.push(cell);
            }
        };
        // Mostly there is one.
        if dirty.len() == 1 {
            dirty.pop().into_iter().for_each(&mut settle);
        } else {
            dirty.drain(..).for_each(&mut settle);
        }
    }

    /// Whether connections hold back acknowledgments.
    pub(in crate::stack) fn has_held_back(&self) -> bool {
        !self.held_back.is_empty()
    }

    /// Calls `settle` for each connection that has held back an acknowledgment.
    #[inline]
    pub(super) fn drain_held_back(&mut self, settle: impl FnMut(&Arc<Cell>)) {
        if self.has_held_back() {
            self.held_back.iter().for_each(settle);
            self.held_back.clear();
        }
    }

    /// Counts what the batch counted, and lets go of the listeners: one that is closed while nothing comes
    /// in is not kept.
    pub(in crate::stack) fn release(&mut self, core: &Core, counters: &TcpCounters) {
        self.listeners = Snapshot::default();
        counters.tcp_in_segments.drain_from(&mut self.in_segments);
        if self.strays | self.resets_limited != 0 {
            core.counters().add_drops(DropReason::NoSocket, std::mem::take(&mut self.strays));
            core.counters().add_drops(DropReason::RstRatelimit, self.resets_limited);
            counters.tcp_resets_limited.drain_from(&mut self.resets_limited);
        }
        self.failed_cookies.count(counters);
    }
}

/// Acknowledgments that were no SYN cookie, for the listener that got the last of them. A flood goes to one,
/// and so counts them all at once.
#[derive(Debug, Default)]
pub(super) struct FailedCookies {
    listener: Option<Arc<Listener>>,
    count: u64,
}

impl FailedCookies {
    /// Notes one. Call it with no lock held.
    #[inline]
    pub(super) fn note(&mut self, listener: &Arc<Listener>, stack: &TcpCounters) {
        if !self.listener.as_ref().is_some_and(|last| Arc::ptr_eq(last, listener)) {
            self.turn_to(listener, stack);
        }
        self.count += 1;
    }

    #[cold]
    fn turn_to(&mut self, listener: &Arc<Listener>, stack: &TcpCounters) {
        self.count(stack);
        self.listener = Some(Arc::clone(listener));
    }

    /// Counts what was noted.
    fn count(&mut self, stack: &TcpCounters) {
        let Some(listener) = self.listener.take() else { return };
        let count = std::mem::take(&mut self.count);
        listener.cookies_failed(count);
        stack.syncookies_failed.add(count);
    }
}
