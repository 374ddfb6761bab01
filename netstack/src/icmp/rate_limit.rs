//! A limit on the rate of answers, whose level outsiders cannot tell.

use crate::time::{Duration, Instant};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// One answer, in the units of `RateLimit::credit`.
const ANSWER: i64 = 1_000_000_000;
/// An answer costs one of so many prices, from 0 to 2 answers: one on average.
const PRICES: u64 = 3;
/// Prices that one number from the generator gives: 3^40 is just below 2^64.
const DRAWS: u8 = 40;

/// A token bucket: `per_second` answers in the long run, and `burst` at once after a pause
/// (RFC 4443 §2.4 (f)), on average.
///
/// A limit that everybody shares is a side channel: who knows how much is left can tell whether packets that
/// were sent in the name of others were answered, and so which ports are open and which connections exist
/// (CVE-2016-5696, CVE-2020-25705). So an answer costs nothing, one answer or two, at random, as in Linux
/// (`icmp_global_allow`).
#[derive(Clone)]
pub struct RateLimit {
    burst: u32,
    per_second: u32,
    /// Answers that may be given now, in billionths. Less than none after one that cost more than there was:
    /// otherwise the last ones would be too cheap.
    credit: i64,
    last: Instant,
    prices: Prices,
}

impl RateLimit {
    /// A full bucket. What an answer costs cannot be predicted without `key`.
    pub const fn new(burst: u32, per_second: u32, key: [u8; 16]) -> Self {
        let prices = Prices { key, count: 0, number: 0, left: 0 };
        Self { burst, per_second, credit: burst as i64 * ANSWER, last: Instant::ZERO, prices }
    }

    /// Whether an answer may be given now. If so, it counts as given.
    pub fn allow(&mut self, now: Instant) -> bool {
        let allowed = self.has_credit(now);
        if allowed {
            self.credit -= self.prices.draw() as i64 * ANSWER;
        }
        allowed
    }

    /// Whether an answer might be given now.
    pub fn has_credit(&mut self, now: Instant) -> bool {
        let elapsed = i64::try_from((now - self.last).as_nanos()).unwrap_or(i64::MAX);
        self.last = self.last.max(now);
        let earned = elapsed.saturating_mul(i64::from(self.per_second));
        self.credit = self.credit.saturating_add(earned).min(i64::from(self.burst) * ANSWER);
        self.credit >= ANSWER
    }

    /// When the next answer may be given at the earliest.
    pub fn next(&self) -> Instant {
        let missing = (ANSWER - self.credit).max(0) as u64;
        match missing.checked_div(self.per_second.into()) {
            Some(nanos) if self.burst > 0 => self.last + Duration::from_nanos(nanos),
            _ => Instant::FAR_FUTURE,
        }
    }
}

impl std::fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { burst, per_second, .. } = self;
        f.debug_struct("RateLimit")
            .field("burst", burst)
            .field("per_second", per_second)
            .finish_non_exhaustive()
    }
}

/// What answers cost, from a keyed hash of their count.
#[derive(Clone)]
struct Prices {
    key: [u8; 16],
    count: u64,
    /// What is left of the last number, in base [`PRICES`], and for how many draws.
    number: u64,
    left: u8,
}

impl Prices {
    fn draw(&mut self) -> u64 {
        if self.left == 0 {
            let mut hasher = SipHasher13::new_with_key(&self.key);
            hasher.write_u64(self.count);
            self.count = self.count.wrapping_add(1);
            self.number = hasher.finish();
            self.left = DRAWS;
        }
        let price = self.number % PRICES;
        self.number /= PRICES;
        self.left -= 1;
        price
    }
}

/// How many answers one host gets: one in each interval, and [`HostLimit::BURST`] after a pause
/// (`icmp_ratelimit` in Linux, `inet_peer_xrlim_allow`). So what is sent in the name of one host, to see
/// whether it is answered, takes little from what all hosts share.
#[derive(Clone, Copy, Debug)]
pub struct HostLimit {
    /// What may be spent now: an answer costs an interval.
    tokens: Duration,
    last: Instant,
}

impl HostLimit {
    /// Answers at once after a pause (`XRLIM_BURST_FACTOR`).
    pub const BURST: u32 = 6;

    /// The limit of a host that got no answer yet.
    pub fn new(now: Instant, interval: Duration) -> Self {
        Self { tokens: interval.saturating_mul(Self::BURST), last: now }
    }

    /// Whether an answer may be given now. If so, it counts as given.
    pub fn allow(&mut self, now: Instant, interval: Duration) -> bool {
        let full = interval.saturating_mul(Self::BURST);
        self.tokens = self.tokens.saturating_add(now - self.last).min(full);
        self.last = self.last.max(now);
        let rest = self.tokens.checked_sub(interval);
        self.tokens = rest.unwrap_or(self.tokens);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(burst: u32, per_second: u32) -> RateLimit {
        RateLimit::new(burst, per_second, [7; 16])
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut limit = limit(5_000, 10_000);
        let start = Instant::from_millis(1_000);
        let count = (0..20_000).filter(|_| limit.allow(start)).count();
        assert!((4_750..5_250).contains(&count), "{count} of a burst of 5000");
        let second = (1..=10_000u64).map(|n| start + Duration::from_nanos(n * 100_000));
        let count: usize = second.map(|now| (0..5).filter(|_| limit.allow(now)).count()).sum();
        assert!((9_600..10_400).contains(&count), "{count} in a second of 10000");
        let idle = Instant::from_millis(1_000_000);
        let count = (0..20_000).filter(|_| limit.allow(idle)).count();
        assert!((4_750..5_250).contains(&count), "{count}: a pause fills no more than the burst");
        assert!(!limit.allow(start), "an earlier time earns nothing");
        assert!(!limit.allow(idle));
        assert!(limit.allow(Instant::FAR_FUTURE));
    }

    #[test]
    fn zero_means_never() {
        let mut never = limit(0, 0);
        assert!(!never.allow(Instant::FAR_FUTURE));
        assert_eq!(never.next(), Instant::FAR_FUTURE);
        let mut no_burst = limit(0, 1000);
        assert!(!no_burst.allow(Instant::FAR_FUTURE));
        assert_eq!(no_burst.next(), Instant::FAR_FUTURE);
    }

    #[test]
    fn the_next_answer_is_foretold() {
        let mut limit = limit(1, 4);
        let start = Instant::from_millis(1_000);
        while limit.allow(start) {}
        let next = limit.next();
        // The last one cost one or two.
        let wait = (next - start).as_millis() as u64;
        assert!([250, 500].contains(&wait), "{wait}");
        assert!(!limit.clone().allow(start + Duration::from_millis(wait - 1)));
        assert!(limit.allow(next));
    }

    #[test]
    fn what_is_left_does_not_say_what_others_took() {
        // One who sees how many of 50 answers are left, after somebody may have taken one more.
        let left = |seed: u8, taken: u32| {
            let mut limit = RateLimit::new(50, 0, [seed; 16]);
            for _ in 0..taken {
                limit.allow(Instant::ZERO);
            }
            (0..200).filter(|_| limit.allow(Instant::ZERO)).count()
        };
        let without: Vec<_> = (0..200).map(|seed| left(seed, 20)).collect();
        let with: Vec<_> = (0..200).map(|seed| left(seed, 21)).collect();
        // The best guess is whether it is below the mean.
        let right = without.iter().filter(|left| **left >= 30).count()
            + with.iter().filter(|left| **left < 30).count();
        assert!((150..=260).contains(&right), "{right} of 400 guesses are right");
        let distinct: std::collections::BTreeSet<_> = without.iter().collect();
        assert!(distinct.len() >= 15, "{distinct:?}");
    }

    #[test]
    fn one_host_gets_six_and_then_one_each_interval() {
        let (start, interval) = (Instant::from_millis(1_000), Duration::from_secs(1));
        let mut host = HostLimit::new(start, interval);
        assert_eq!((0..20).filter(|_| host.allow(start, interval)).count(), 6);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!((0..=5_000).filter(|ms| host.allow(at(*ms), interval)).count(), 5);
        assert_eq!((0..20).filter(|_| host.allow(at(100_000), interval)).count(), 6);
        assert!((0..20).all(|_| host.allow(start, Duration::ZERO)), "no interval, no limit");
    }
}
