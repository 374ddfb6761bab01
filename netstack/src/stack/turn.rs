//! One turn of the stack: the values that functions pass on.

use super::core::Core;
use super::effects::Effects;
use super::flow::{FlowKey, QueueId};
use crate::buffer::PacketBuf;
use crate::device::RxMeta;
use crate::ip::Cast;
use crate::reasons::DropReason;
use crate::time::Instant;
use crate::trace::{About, EventKind, TraceEvent};
use crate::wire::IpHeader;
use std::fmt;

/// The context in which a packet, a deadline or a call is processed: the stack's core, the time,
/// and the work to do when no lock is held.
pub struct Turn<'a> {
    pub(super) core: &'a Core,
    pub(super) now: Instant,
    pub(super) out: &'a mut Effects,
}

impl<'a> Turn<'a> {
    pub(super) fn new(core: &'a Core, now: Instant, out: &'a mut Effects) -> Self {
        Self { core, now, out }
    }

    /// Makes the time of this turn no earlier than `latest`, the last at which something was done to what is now
    /// locked, and that the same.
    ///
    /// A turn has the time at which its thread looked at the clock. A thread that then waits for the lock, or
    /// for the processor, comes behind one that looked later. To a connection time would go back: the peer drops
    /// a segment whose timestamp is older than that of the one before (PAWS). Linux looks at the clock with the
    /// socket locked (`tcp_mstamp_refresh`).
    #[inline]
    pub(super) fn not_before(&mut self, latest: &mut Instant) {
        self.now = self.now.max(*latest);
        *latest = self.now;
    }

    /// Something happened to whom `about` says, which somebody may want to know.
    #[inline]
    pub(super) fn trace(&mut self, about: impl FnOnce() -> About, kind: impl FnOnce() -> EventKind) {
        if self.core.trace().is_some() {
            self.put_event(about, kind);
        }
    }

    /// Out of the way of what is not traced.
    #[cold]
    #[inline(never)]
    fn put_event(&mut self, about: impl FnOnce() -> About, kind: impl FnOnce() -> EventKind) {
        self.out.trace(TraceEvent::new(self.now, about(), kind()));
    }

    /// A packet is dropped.
    #[inline]
    pub(super) fn dropped(&mut self, reason: DropReason, about: impl FnOnce() -> About) {
        self.core.counters().add_drops(reason, 1);
        self.trace(about, || EventKind::Dropped(reason));
    }
}

impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("now", &self.now).field("out", &self.out).finish_non_exhaustive()
    }
}

/// A whole datagram that passed validation, on its way to its protocol.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    /// The queue that it came in on.
    pub(super) from: QueueId,
    pub(super) header: &'a IpHeader,
    /// Its destination and its source, as the local and the remote end of a flow without ports.
    pub(super) hosts: FlowKey,
    /// To how many it is addressed.
    pub(super) cast: Cast,
    /// The packet; the header says which of its bytes are the payload.
    pub(super) bytes: PacketBuf,
    /// What the device says of it.
    pub(super) meta: RxMeta,
}
