//! Pacing: when the next segment may leave, where a rate is to be kept.
//!
//! A pure function of time: each segment moves the moment of the next one by its length at the rate
//! of that time. Nothing is queued; what may not leave yet is simply not proposed, and the moment is
//! one of the connection's deadlines. A timer that rings late, by a millisecond for example, is made up
//! for: what should have left in between leaves at once, so that the rate holds on a coarse timer.

use crate::tcp::compact::compact;
use crate::time::{Duration, Instant};

/// Lateness of a timer that is made up for. What is lost beyond it is lost: a burst would follow.
const SLACK: Duration = Duration::from_millis(2);

/// `bytes` × 10⁹ / `by`: the nanoseconds that they take, if `by` is bytes a second, and bytes a second, if `by`
/// is the nanoseconds that they take.
pub(super) fn seconds_of(bytes: u64, by: u64) -> u64 {
    const NANOS: u64 = 1_000_000_000;
    // A division of 128 bits is many times slower than one of 64, and seldom needed.
    match bytes.checked_mul(NANOS) {
        Some(product) => product / by,
        None => u64::try_from(u128::from(bytes) * u128::from(NANOS) / u128::from(by)).unwrap_or(u64::MAX),
    }
}

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

compact!(Pacer { next, waiting, behind });

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
        self.next = self.next.max(earliest) + Duration::from_nanos(seconds_of(bytes as u64, rate.max(1)));
    }

    /// The connection is asked for what there is to send.
    pub(in crate::tcp) fn ask(&mut self) {
        self.waiting = false;
    }

    /// There is nothing to send. Unless the pacer is the reason, time that passes now does not count
    /// as lateness.
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
