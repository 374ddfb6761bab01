//! How much of the congestion window is used.

use crate::tcp::compact::compact;
use crate::tcp::seq::Seq;
use crate::time::{Duration, Instant};

/// A window that is not used must not grow (RFC 7661's concern, in the form of Linux's
/// `tcp_cwnd_validate`).
#[derive(Debug)]
pub(super) struct WindowUsage {
    /// Whether the window held back the sender in this round trip.
    limited: bool,
    /// The most that was in flight in this round trip, in bytes.
    max_in_flight: usize,
    /// The round trip ends when this is acknowledged.
    round_end: Seq,
    /// The most that was in flight since `since`, in bytes (`snd_cwnd_used` in Linux).
    used: usize,
    /// When the window last was in full use, or was reduced because it was not (`snd_cwnd_stamp`).
    since: Instant,
    /// When the window was last reduced for a pause: once for each.
    restarted: Instant,
}

compact!(WindowUsage { limited, max_in_flight, round_end, used, since, restarted });

impl WindowUsage {
    pub(super) fn new(now: Instant, snd_una: Seq) -> Self {
        Self { limited: false, max_in_flight: 0, round_end: snd_una, used: 0, since: now, restarted: now }
    }

    /// After an attempt to send between `una` and `nxt`: whether the window held something back.
    pub(super) fn note(&mut self, una: Seq, nxt: Seq, in_flight: usize, limited: bool) {
        let round_over = una >= self.round_end;
        if round_over || limited || (!self.limited && in_flight > self.max_in_flight) {
            self.limited = limited;
            self.max_in_flight = in_flight;
            self.round_end = nxt;
        }
    }

    /// How much of the window was used, once that was less than all of it for the time `rto`. Each time
    /// only once.
    pub(super) fn unused_for(&mut self, now: Instant, rto: Duration, full: bool) -> Option<usize> {
        if full {
            self.used = 0;
            self.since = now;
            return None;
        }
        self.used = self.used.max(self.max_in_flight);
        if now - self.since < rto {
            return None;
        }
        self.since = now;
        Some(std::mem::take(&mut self.used))
    }

    /// The window was reduced after a pause: what was used before it does not count.
    pub(super) fn restart(&mut self, now: Instant) {
        self.restarted = now;
        self.used = 0;
        self.since = now;
    }

    /// When the window was last reduced for a pause.
    pub(super) fn restarted(&self) -> Instant {
        self.restarted
    }

    /// Whether the window limits the sender; below `slow_start_until`, half of it in use is enough.
    pub(super) fn is_limited(&self, cwnd: usize, slow_start_until: usize) -> bool {
        self.limited || (cwnd < slow_start_until && cwnd < 2 * self.max_in_flight)
    }
}
