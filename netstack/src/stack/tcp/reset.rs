//! Resets: every RST that belongs to no running connection is sent here.

use super::Tcp;
use super::scratch::Scratch;
use super::send::Marks;
use crate::config::Config;
use crate::icmp::RateLimit;
use crate::stack::flow::{FlowKey, QueueId};
use crate::stack::turn::Turn;
use crate::sync::{Mutex, Rank};
use crate::tcp::reset_for_unknown;
use crate::time::Instant;
use crate::wire::Segment;
use std::sync::atomic::{AtomicU64, Ordering};

/// The limit of resets for segments that belong to no connection.
#[derive(Debug)]
pub(super) struct ResetLimit {
    limit: Mutex<RateLimit>,
    /// No reset may be sent before, in nanoseconds: spares a flood the lock.
    from: AtomicU64,
}

impl ResetLimit {
    pub(super) fn new(config: &Config) -> Self {
        let limit = RateLimit::new(config.reset_burst, config.reset_rate);
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

/// A segment that belongs to no connection.
pub(super) struct Stray<'a> {
    pub(super) from: QueueId,
    pub(super) key: &'a FlowKey,
    pub(super) segment: &'a Segment,
}

impl Tcp {
    /// Answers a segment that belongs to no connection with a reset (RFC 9293 §3.10.7.1), within the
    /// limit that keeps a flood from being answered by one.
    #[inline]
    pub(super) fn reset_stray(&self, turn: &mut Turn<'_>, scratch: &mut Scratch, stray: &Stray<'_>) {
        if stray.segment.is_rst() {
            return;
        }
        if !turn.core.is_loopback(stray.from.interface) && !self.reset_limit.allow(turn.now) {
            scratch.resets_limited += 1;
            return;
        }
        self.answer_stray(turn, stray);
    }

    #[inline(never)]
    fn answer_stray(&self, turn: &mut Turn<'_>, stray: &Stray<'_>) {
        if let Some(reset) = reset_for_unknown(stray.segment) {
            let marks = Marks::default_of(turn.core);
            self.send_reset(turn, stray.from, stray.key, marks, &reset);
        }
    }

    /// Sends a reset for a connection that is not, or not yet.
    pub(super) fn send_reset(
        &self,
        turn: &mut Turn<'_>,
        queue: QueueId,
        key: &FlowKey,
        marks: Marks,
        reset: &Segment,
    ) {
        self.counters.tcp_out_resets.bump();
        self.send_segment(turn, queue, key, marks, reset);
    }
}
