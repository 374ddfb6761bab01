//! When SYN cookies were last sent.

use crate::tcp::COOKIE_LIFETIME;
use crate::time::Instant;
use std::sync::atomic::{AtomicU64, Ordering};

/// When listeners of one port last sent a SYN cookie. They share it, because in a group of
/// `SO_REUSEPORT` the acknowledgment may come to another one than the SYN.
#[derive(Debug, Default)]
pub(crate) struct Overflow {
    /// Nanoseconds on the stack's clock, plus one; zero is never.
    last: AtomicU64,
}

impl Overflow {
    pub(super) fn note(&self, now: Instant) {
        self.last.store(now.as_nanos() + 1, Ordering::Relaxed);
    }

    /// Whether a cookie may still come back (tcp_synq_no_recent_overflow in Linux). Otherwise
    /// acknowledgments from nowhere need not even be looked at.
    pub(super) fn is_recent(&self, now: Instant) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && now - Instant::from_nanos(last - 1) <= COOKIE_LIFETIME
    }
}
