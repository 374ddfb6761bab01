//! The timestamps option of one connection (RFC 7323).

use crate::tcp::compact::compact;
use crate::time::{Duration, Instant};
use crate::wire::Timestamps;

/// After this long without a segment, TS.Recent says nothing any more (RFC 7323 §5.5).
const RECENT_LIFETIME: Duration = Duration::from_secs(24 * 24 * 3600);

/// Bytes of the option with its padding.
pub(super) const TIMESTAMPS_LEN: usize = 12;

/// The state of the option where it was negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimestampState {
    /// Added to our clock, so that it reveals nothing of the host's (RFC 7323 §7).
    offset: u32,
    /// TS.Recent.
    recent: u32,
    /// When TS.Recent was set.
    recent_at: Instant,
}

compact!(TimestampState { offset, recent, recent_at });

/// Our timestamp clock: a tick each millisecond, as in Linux.
pub(super) fn clock(now: Instant, offset: u32) -> u32 {
    (now.as_millis() as u32).wrapping_add(offset)
}

impl TimestampState {
    /// The option was seen with the value `recent`.
    pub(super) fn new(now: Instant, offset: u32, recent: u32) -> Self {
        Self { offset, recent, recent_at: now }
    }

    /// The option of a segment sent now.
    pub(super) fn option(&self, now: Instant) -> Timestamps {
        Timestamps { tsval: clock(now, self.offset), tsecr: self.recent }
    }

    /// Whether `tsval` is from before TS.Recent (RFC 7323 §5.3 R1).
    pub(super) fn is_old(&self, now: Instant, tsval: u32) -> bool {
        (tsval.wrapping_sub(self.recent) as i32) < 0 && now - self.recent_at < RECENT_LIFETIME
    }

    /// The same for a segment of a connection: as in Linux one tick is forgiven (TCP_PAWS_WINDOW).
    pub(super) fn is_late(&self, now: Instant, tsval: u32) -> bool {
        (self.recent.wrapping_sub(tsval) as i32) > 1 && now - self.recent_at < RECENT_LIFETIME
    }

    /// How much older than TS.Recent a timestamp is that [is old](Self::is_old), if the peer's clock ticks
    /// like ours.
    pub(super) fn lag(&self, tsval: u32) -> Duration {
        Duration::from_millis(self.recent.wrapping_sub(tsval).into())
    }

    /// An acceptable segment that covers the last acknowledgment carried `tsval`.
    pub(super) fn update(&mut self, now: Instant, tsval: u32) {
        if (tsval.wrapping_sub(self.recent) as i32) >= 0 || now - self.recent_at >= RECENT_LIFETIME {
            self.recent = tsval;
            self.recent_at = now;
        }
    }

    /// The round trip that an echo stands for. The clock's tick limits it: an echo of this very
    /// tick took less than a millisecond.
    pub(super) fn rtt(&self, now: Instant, tsecr: u32) -> Option<Duration> {
        let ticks = clock(now, self.offset).wrapping_sub(tsecr);
        // Zero is no echo, and a peer that makes echoes up must not give us a time of weeks.
        (tsecr != 0 && ticks < 1 << 24).then(|| Duration::from_millis(u64::from(ticks).max(1)))
    }

    /// When the segment was sent whose timestamp is echoed, to the clock's tick.
    pub(super) fn echo_sent_at(&self, now: Instant, tsecr: u32) -> Option<Instant> {
        let ticks = clock(now, self.offset).wrapping_sub(tsecr);
        (tsecr != 0 && ticks < 1 << 24)
            .then(|| Instant::from_millis(now.as_millis().saturating_sub(u64::from(ticks))))
    }

    /// TS.Recent and when it was set.
    pub(super) fn recent(&self) -> (u32, Instant) {
        (self.recent, self.recent_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_is_judged_over_the_wrap_and_expires() {
        let ts = TimestampState::new(Instant::ZERO, 0, 5);
        assert!(ts.is_old(Instant::ZERO, u32::MAX));
        assert!(!ts.is_old(Instant::ZERO, 5) && !ts.is_old(Instant::ZERO, 6));
        assert!(!ts.is_old(Instant::ZERO + RECENT_LIFETIME, 4));
    }

    #[test]
    fn echoes_measure_and_nonsense_does_not() {
        let ts = TimestampState::new(Instant::ZERO, u32::MAX - 3, 1);
        let now = Instant::from_millis(50);
        assert_eq!(
            ts.rtt(now, clock(Instant::from_millis(30), u32::MAX - 3)),
            Some(Duration::from_millis(20))
        );
        assert_eq!(ts.rtt(now, 0), None);
        assert_eq!(ts.rtt(now, clock(now, u32::MAX - 3) + 1), None, "an echo from the future");
    }
}
