//! A limit on the rate of answers.

use crate::time::{Duration, Instant};

/// One answer, in the units of `RateLimit::credit`.
const ANSWER: u64 = 1_000_000_000;

/// A token bucket: `per_second` answers in the long run, and `burst` at once after a pause
/// (RFC 4443 §2.4 (f)).
#[derive(Clone, Debug)]
pub struct RateLimit {
    burst: u32,
    per_second: u32,
    /// Answers that may be given now, in billionths.
    credit: u64,
    last: Instant,
}

impl RateLimit {
    /// A full bucket.
    pub const fn new(burst: u32, per_second: u32) -> Self {
        Self { burst, per_second, credit: burst as u64 * ANSWER, last: Instant::ZERO }
    }

    /// Whether an answer may be given now. If so, it counts as given.
    pub fn allow(&mut self, now: Instant) -> bool {
        let elapsed = (now - self.last).as_nanos() as u64;
        self.last = self.last.max(now);
        let earned = elapsed.saturating_mul(u64::from(self.per_second));
        self.credit = self.credit.saturating_add(earned).min(u64::from(self.burst) * ANSWER);
        let allowed = self.credit >= ANSWER;
        if allowed {
            self.credit -= ANSWER;
        }
        allowed
    }

    /// When the next answer may be given at the earliest.
    pub fn next(&self) -> Instant {
        match (ANSWER.saturating_sub(self.credit)).checked_div(u64::from(self.per_second)) {
            Some(nanos) => self.last + Duration::from_nanos(nanos),
            None => Instant::FAR_FUTURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut limit = RateLimit::new(5, 10);
        let start = Instant::from_millis(1_000);
        assert_eq!((0..20).filter(|_| limit.allow(start)).count(), 5);
        let second = (1..=1_000).filter(|ms| limit.allow(Instant::from_millis(1_000 + ms))).count();
        assert_eq!(second, 10);
        let idle = Instant::from_millis(1_000_000);
        assert_eq!((0..20).filter(|_| limit.allow(idle)).count(), 5, "a pause fills no more than the burst");
        assert!(!limit.allow(start), "an earlier time earns nothing");
        assert!(!limit.allow(idle));
        assert!(limit.allow(Instant::FAR_FUTURE));
    }

    #[test]
    fn zero_means_never() {
        let mut limit = RateLimit::new(0, 0);
        assert!(!limit.allow(Instant::FAR_FUTURE));
        assert_eq!(limit.next(), Instant::FAR_FUTURE);
    }

    #[test]
    fn the_next_answer_is_foretold() {
        let mut limit = RateLimit::new(1, 4);
        let start = Instant::from_millis(1_000);
        assert!(limit.allow(start));
        let next = limit.next();
        assert_eq!(next, Instant::from_millis(1_250));
        assert!(!limit.clone().allow(Instant::from_millis(1_249)));
        assert!(limit.allow(next));
    }
}
