//! Resets: every RST that belongs to no running connection is sent here.

use super::Tcp;
use super::scratch::Scratch;
use super::send::Marks;
use super::stray::Stray;
use crate::config::Config;
use crate::icmp::RateLimit;
use crate::reasons::{DropReason, ResetReason};
use crate::stack::flow::{FlowKey, QueueId};
use crate::stack::keyed::Keyed;
use crate::stack::turn::Turn;
use crate::sync::{Mutex, Rank};
use crate::tcp::reset_for_unknown;
use crate::time::Instant;
use crate::trace::EventKind;
use crate::wire::Segment;
use std::sync::atomic::{AtomicU64, Ordering};

/// The limit of resets for segments that belong to no connection.
///
/// It is one for all, so that a flood from many sources is not answered by one, and says nothing of connections:
/// what a reset costs is drawn at random, and a segment that a flow finds out of place pays, too
/// ([`Tcp::charge_out_of_place`]). Otherwise somebody who sends segments in the name of a peer, and then some of his
/// own, could tell by the resets that he gets whether the peer has a connection (the channel of CVE-2016-5696).
#[derive(Debug)]
pub(super) struct ResetLimit {
    limit: Mutex<RateLimit>,
    /// No reset may be sent before, in nanoseconds: spares a flood the lock.
    from: AtomicU64,
}

impl ResetLimit {
    pub(super) fn new(config: &Config, keyed: &Keyed) -> Self {
        let limit = RateLimit::new(config.reset_burst, config.reset_rate, keyed.key_for("reset limit"));
        Self { limit: Mutex::new(Rank::Leaf, limit), from: AtomicU64::new(0) }
    }

    /// Whether a reset may be sent; takes the right to it.
    #[inline]
    fn allow(&self, now: Instant) -> bool {
        now >= Instant::from_nanos(self.from.load(Ordering::Relaxed)) && self.take(now)
    }

    #[inline(never)]
    fn take(&self, now: Instant) -> bool {
        let mut limit = self.limit.lock();
        let allowed = limit.allow(now);
        if !allowed {
            self.from.store(limit.next().as_nanos(), Ordering::Relaxed);
        }
        allowed
    }
}

/// Whom a reset is for, and on which way.
pub(super) struct Receiver<'a> {
    pub(super) queue: QueueId,
    pub(super) key: &'a FlowKey,
    pub(super) marks: Marks,
}

impl Tcp {
    /// A flow dropped a segment as out of place. Without the flow it would have been reset: it takes as much
    /// from the limit, whether the flow answered it or not.
    #[cold]
    pub(super) fn charge_out_of_place(&self, turn: &Turn<'_>, interface: u16, segment: &Segment) {
        if !segment.is_rst() && !turn.core.is_loopback(interface) {
            self.reset_limit.allow(turn.now);
        }
    }

    /// Answers a segment that belongs to no connection with a reset (RFC 9293 §3.10.7.1), within the
    /// limit that keeps a flood from being answered by one.
    #[inline(always)]
    pub(super) fn reset_stray(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        stray: &Stray<'_>,
        reason: ResetReason,
    ) {
        if stray.segment.is_rst() {
            scratch.strays += 1;
            turn.trace(|| stray.key.about(), || EventKind::Dropped(DropReason::NoSocket));
            return;
        }
        if !turn.core.is_loopback(stray.from.interface) && !self.reset_limit.allow(turn.now) {
            scratch.resets_limited += 1;
            turn.trace(|| stray.key.about(), || EventKind::Dropped(DropReason::RstRatelimit));
            return;
        }
        // A listener's answers leave through the interface that it is bound to.
        let listener = self.demux.listener(stray.key, stray.from.interface, &mut scratch.listeners);
        let bound = listener.and_then(|listener| listener.interface());
        self.answer_stray(turn, stray, bound, reason);
    }

    #[inline(never)]
    fn answer_stray(&self, turn: &mut Turn<'_>, stray: &Stray<'_>, bound: Option<u16>, reason: ResetReason) {
        if let Some(dropped) = reason.drop_reason() {
            turn.dropped(dropped, || stray.key.about());
        }
        if let Some(reset) = reset_for_unknown(stray.segment) {
            let queue = turn.core.way_back(stray.from, &stray.key.way_back(bound));
            let to = Receiver { queue, key: stray.key, marks: Marks::default_of(turn.core) };
            self.send_reset(turn, &to, &reset, reason);
        }
    }

    /// Sends a reset for a connection that is not, or not yet.
    pub(super) fn send_reset(
        &self,
        turn: &mut Turn<'_>,
        to: &Receiver<'_>,
        reset: &Segment,
        reason: ResetReason,
    ) {
        self.counters.count_reset(reason);
        turn.trace(|| to.key.about(), || EventKind::Reset(reason));
        self.send_segment(turn, to.queue, to.key, to.marks, reset);
    }
}
