//! Pacing: when the next segment may leave, where a rate is to be kept.
//!
//! A pure function of time: each segment moves the moment of the next one by its length at the rate
//! of that time. Nothing is queued; what may not leave yet is simply not proposed, and the moment is
//! one of the connection's deadlines. A timer that rings late, by a millisecond for example, is made up
//! for: what should have left in between leaves at once, so that the rate holds on a coarse timer.

use crate::tcp::connection::Connection;
use crate::time::{Duration, Instant};

/// Lateness of a timer that is made up for. What is lost beyond it is lost: a burst would follow.
const SLACK: Duration = Duration::from_millis(2);

/// The first segments leave together: the initial window is a burst that every path must bear
/// (RFC 6928), and Linux's fq does not pace it either.
const UNPACED_SEGMENTS: u64 = 10;

/// Bytes that one call to the device may carry are those of this time at the rate
/// (`sk_pacing_shift` in Linux is about the same).
const QUANTUM: Duration = Duration::from_millis(1);

/// The part of a quantum that does not follow from the rate halves with each of these in the shortest
/// round trip: 2^9 microseconds, as in Linux.
const NEAR: Duration = Duration::from_micros(512);

/// The largest quantum in bytes.
const MAX_QUANTUM: u64 = 64 * 1024;

/// The state of one connection.
#[derive(Debug)]
pub(in crate::tcp) struct Pacer {
    /// When the next segment may leave.
    next: Instant,
    /// Something waits for that moment.
    waiting: bool,
    /// Something waited since the connection last had nothing to send: being late is the timer's
    /// fault and not the application's.
    behind: bool,
}

impl Pacer {
    pub(in crate::tcp) fn new(now: Instant) -> Self {
        Self { next: now, waiting: false, behind: false }
    }

    /// Whether a segment may leave now. If not, it waits.
    pub(in crate::tcp) fn allows(&mut self, now: Instant) -> bool {
        self.waiting = now < self.next;
        self.behind |= self.waiting;
        !self.waiting
    }

    /// A segment of `bytes` left; `rate` is in bytes a second.
    pub(in crate::tcp) fn on_sent(&mut self, now: Instant, bytes: usize, rate: u64) {
        let earliest = if self.behind {
            Instant::from_nanos(now.as_nanos().saturating_sub(SLACK.as_nanos() as u64))
        } else {
            now
        };
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(rate.max(1));
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.next = self.next.max(earliest) + Duration::from_nanos(nanos);
    }

    /// Somebody asks for what there is to send.
    pub(in crate::tcp) fn ask(&mut self) {
        self.waiting = false;
    }

    /// There is nothing to send. Unless that is for the pacer's sake, time that passes now is nobody's
    /// lateness.
    pub(in crate::tcp) fn nothing_sent(&mut self) {
        self.behind &= self.waiting;
    }

    /// When to ask again for what there is to send.
    pub(in crate::tcp) fn deadline(&self) -> Option<Instant> {
        self.waiting.then_some(self.next)
    }

    /// Nothing waits any more.
    pub(in crate::tcp) fn stop(&mut self) {
        self.waiting = false;
    }
}

impl Connection {
    /// The rate that the connection keeps to, in bytes a second, if it is paced: because its
    /// congestion control asks for it, `SO_MAX_PACING_RATE` is set, or [`Config::pacing`].
    ///
    /// [`Config::pacing`]: crate::config::Config::pacing
    pub(in crate::tcp) fn enforced_rate(&self) -> Option<u64> {
        let limit = self.options.max_pacing_rate;
        match self.cc.pacing_rate() {
            Some(rate) => Some(rate.min(limit.unwrap_or(u64::MAX))),
            None if limit.is_some() || self.config.pacing => Some(self.pacing_rate()),
            None => None,
        }
    }

    /// The rate at which the connection is paced, or would be if it were, in bytes a second:
    /// `u64::MAX` if there is no limit yet (`tcp_update_pacing_rate` in Linux).
    pub(in crate::tcp) fn pacing_rate(&self) -> u64 {
        let limit = self.options.max_pacing_rate.unwrap_or(u64::MAX);
        self.cc.pacing_rate().unwrap_or_else(|| self.rate_of_window()).min(limit)
    }

    /// Somewhat more than a window in a round trip, so that pacing does not keep the window from
    /// being used and from growing.
    fn rate_of_window(&self) -> u64 {
        let nanos = self.rtt.srtt().unwrap_or_default().as_nanos();
        if nanos == 0 {
            return u64::MAX;
        }
        let (cwnd, ssthresh) = (self.cc.cwnd(), self.cc.ssthresh());
        let percent =
            if cwnd < ssthresh / 2 { self.config.pacing_ss_ratio } else { self.config.pacing_ca_ratio };
        let window = cwnd.max(self.recovery.board.outstanding()) as u128;
        let rate = window * u128::from(percent) / 100 * 1_000_000_000 / nanos;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// Whether pacing lets a segment leave now. If not, the connection waits for the time.
    pub(in crate::tcp) fn pacing_allows(&mut self, now: Instant) -> bool {
        self.enforced_rate().is_none() || self.pacer.allows(now)
    }

    /// The most that one super-segment may carry, out of `max` bytes: what leaves in about a
    /// millisecond, and [`Config::min_tso_segs`] at least (Linux's `tcp_tso_autosize`). It would arrive in front of a
    /// slow link as one burst, for which a short queue has no room.
    ///
    /// A path within the machine room is spared that: there a burst is gone as soon as it is there,
    /// and each call to the device costs. The longer the shortest round trip, the less is added
    /// (`tcp_tso_rtt_log` in Linux). Not so where the rate is kept to: there it is all that counts.
    ///
    /// [`Config::min_tso_segs`]: crate::config::Config::min_tso_segs
    pub(in crate::tcp) fn quantum(&self, max: usize, mss: usize) -> usize {
        if max <= mss {
            return max;
        }
        let rate = self.enforced_rate();
        let of_rate = u128::from(rate.unwrap_or_else(|| self.pacing_rate())) * QUANTUM.as_nanos();
        let of_rate = (of_rate / 1_000_000_000).min(u128::from(MAX_QUANTUM)) as usize;
        let near = match (rate, self.rtt.min_rtt()) {
            (None, Some(min_rtt)) => {
                let halvings = min_rtt.as_nanos() / NEAR.as_nanos();
                u32::try_from(halvings).ok().and_then(|n| MAX_QUANTUM.checked_shr(n)).unwrap_or(0)
            }
            _ => 0,
        };
        let least = self.config.min_tso_segs as usize * mss;
        max.min((of_rate + near as usize).max(least)).max(mss)
    }

    /// A data segment of `bytes` left.
    pub(in crate::tcp) fn pace(&mut self, now: Instant, bytes: usize) {
        let burst = UNPACED_SEGMENTS * self.snd.mss as u64;
        if let Some(rate) = self.enforced_rate().filter(|_| self.counters.bytes_sent > burst) {
            self.pacer.on_sent(now, bytes, rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(n: u64) -> Instant {
        Instant::from_micros(1_000_000 + n)
    }

    /// Sends 1,000 bytes whenever that is allowed, at 10 MB/s, with a timer that rings only at
    /// multiples of `tick`; returns the times.
    fn send(tick: u64, count: usize) -> Vec<u64> {
        let mut pacer = Pacer::new(us(0));
        let mut now = 0;
        let mut sent = Vec::new();
        while sent.len() < count {
            pacer.ask();
            if pacer.allows(us(now)) {
                pacer.on_sent(us(now), 1000, 10_000_000);
                sent.push(now);
            } else {
                let due = (pacer.deadline().unwrap() - us(0)).as_micros() as u64;
                now = due.div_ceil(tick) * tick;
            }
        }
        sent
    }

    #[test]
    fn an_exact_timer_gives_equal_gaps() {
        let times = send(1, 50);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 100), "{times:?}");
    }

    #[test]
    fn the_rate_holds_on_a_timer_of_a_millisecond() {
        let times = send(1000, 1001);
        assert_eq!(*times.last().unwrap(), 100_000, "1000 segments in 100 ms");
        for pair in times.chunk_by(|a, b| a == b) {
            assert!(pair.len() <= 10, "a burst of {}", pair.len());
        }
    }

    #[test]
    fn a_pause_earns_no_burst() {
        let mut pacer = Pacer::new(us(0));
        pacer.on_sent(us(0), 1000, 10_000_000);
        assert!(!pacer.allows(us(50)));
        assert!(pacer.allows(us(100)));
        pacer.on_sent(us(100), 1000, 10_000_000);
        pacer.ask();
        pacer.nothing_sent();
        assert!(pacer.allows(us(5_000)));
        pacer.on_sent(us(5_000), 1000, 10_000_000);
        assert!(!pacer.allows(us(5_000)), "the pause is not made up for");
    }

    #[test]
    fn extreme_rates_do_not_overflow() {
        let mut pacer = Pacer::new(us(0));
        pacer.on_sent(us(0), usize::MAX, 0);
        assert!(!pacer.allows(us(1)));
        let mut pacer = Pacer::new(us(0));
        pacer.on_sent(us(0), 65_536, u64::MAX);
        assert!(pacer.allows(us(0)));
    }
}
