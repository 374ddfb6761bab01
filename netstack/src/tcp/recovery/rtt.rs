//! Round-trip time and the retransmission time-out (RFC 6298).

use crate::config::Config;
use crate::tcp::compact::compact;
use crate::time::{Duration, Instant, nanos};

/// The estimator. Times are kept in nanoseconds.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    /// Smoothed round-trip time; none before the first sample.
    srtt: Option<Duration>,
    /// Round-trip time variation.
    rttvar: Duration,
    /// The smallest recent sample.
    min_rtt: RecentMin,
    /// The latest sample.
    latest: Duration,
    /// RTO without back-off.
    rto: Duration,
    /// Doublings applied to the RTO.
    backoff: u32,
    rto_min: Duration,
    rto_max: Duration,
}

compact!(RttEstimator { srtt, rttvar, min_rtt, latest, rto, backoff, rto_min, rto_max });

impl RttEstimator {
    /// No sample yet: the RTO is [`Config::rto_initial`] (RFC 6298 §2.1).
    pub fn new(config: &Config) -> Self {
        Self {
            srtt: None,
            rttvar: Duration::ZERO,
            min_rtt: RecentMin::new(config.min_rtt_window),
            latest: Duration::ZERO,
            rto: config.rto_initial,
            backoff: 0,
            rto_min: config.rto_min,
            rto_max: config.rto_max,
        }
    }

    /// A measured round trip of data that was sent once (Karn's rule is the caller's to keep, or
    /// timestamps vouch for it). `samples_per_window` weakens the gains when there are many (RFC 7323 §4.2).
    pub fn on_sample(&mut self, now: Instant, rtt: Duration, samples_per_window: u32) {
        self.on_newest(now, rtt);
        match self.srtt {
            None => {
                self.srtt = Some(rtt);
                self.rttvar = rtt / 2;
            }
            Some(srtt) => {
                let samples = u64::from(samples_per_window.max(1));
                let (mean, rtt) = (nanos(srtt), nanos(rtt));
                // RFC 6298 §2.3: the variation first, with the old mean. Beta is 1/4, and alpha 1/8.
                self.rttvar = toward(nanos(self.rttvar), mean.abs_diff(rtt), 4 * samples);
                self.srtt = Some(toward(mean, rtt, 8 * samples));
            }
        }
        // Linux never lets the variation term fall below its RTO minimum, which makes the RTO at
        // least SRTT + 200 ms; RFC 6298 §2.4 asks for a floor of 1 s.
        let least = nanos(self.rto_min);
        let variation = nanos(self.rttvar).saturating_mul(4).max(least);
        let rto = nanos(self.srtt.unwrap_or_default()).saturating_add(variation);
        self.rto = Duration::from_nanos(rto.clamp(least, nanos(self.rto_max)));
        self.backoff = 0;
    }

    /// The round trip of the newest segment that an acknowledgment is of. The mean goes by the oldest,
    /// because a timer must wait for delayed acknowledgments; the path itself took no longer than this.
    pub fn on_newest(&mut self, now: Instant, rtt: Duration) {
        self.latest = rtt;
        self.min_rtt.add(now, rtt);
    }

    /// The time-out with its back-off.
    pub fn rto(&self) -> Duration {
        if self.backoff == 0 {
            return self.rto.min(self.rto_max);
        }
        let factor = 1u32.checked_shl(self.backoff).unwrap_or(u32::MAX);
        self.rto.saturating_mul(factor).min(self.rto_max)
    }

    /// The time-out without its back-off.
    pub fn base_rto(&self) -> Duration {
        self.rto
    }

    /// The timer expired: the next time-out is twice as long (RFC 6298 §5.5).
    pub fn back_off(&mut self) {
        self.backoff = (self.backoff + 1).min(31);
    }

    /// Data was acknowledged: the next time-out is not backed off any more (as in Linux; RFC 6298
    /// keeps the back-off until a fresh sample).
    pub fn reset_backoff(&mut self) {
        self.backoff = 0;
    }

    /// RFC 6298 §5.7: where the SYN timed out, data starts with an RTO of 3 s at least.
    pub fn after_syn_timeout(&mut self) {
        self.rto = self.rto.max(Duration::from_secs(3)).min(self.rto_max);
    }

    /// Earlier connections to the same host measured `rtt`. A handshake's small packets may be faster
    /// than data will be, so a longer time from memory makes the first time-out of data longer; the
    /// first sample of data takes its place (`tcp_init_metrics` in Linux).
    pub fn seed(&mut self, rtt: Duration) {
        if self.srtt.is_none_or(|srtt| rtt > srtt) {
            self.rto = (rtt + (2 * rtt).max(self.rto_min)).clamp(self.rto_min, self.rto_max);
        }
    }

    /// Doublings at the moment.
    pub fn backoff(&self) -> u32 {
        self.backoff
    }

    /// Smoothed round-trip time.
    pub fn srtt(&self) -> Option<Duration> {
        self.srtt
    }

    /// Round-trip time variation.
    pub fn rttvar(&self) -> Duration {
        self.rttvar
    }

    /// The smallest sample of the last [`Config::min_rtt_window`], or of half of it if there were none
    /// smaller: a path that has become longer is not judged by what it was.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt.get()
    }

    /// The latest sample.
    pub fn latest(&self) -> Duration {
        self.latest
    }
}

/// The mean `old` after one more sample, which has a weight of 1 in `of`; all in nanoseconds.
#[inline]
fn toward(old: u64, sample: u64, of: u64) -> Duration {
    Duration::from_nanos(if sample >= old { old + (sample - old) / of } else { old - (old - sample) / of })
}

/// The smallest of the samples of a window of time, which is kept in two halves.
#[derive(Clone, Debug)]
struct RecentMin {
    half: Duration,
    /// When the present half began.
    began: Instant,
    present: Option<Duration>,
    previous: Option<Duration>,
}

compact!(RecentMin { half, began, present, previous });

impl RecentMin {
    fn new(window: Duration) -> Self {
        Self { half: window / 2, began: Instant::ZERO, present: None, previous: None }
    }

    fn add(&mut self, now: Instant, sample: Duration) {
        let (age, half) = (now.nanos_since(self.began), nanos(self.half));
        if self.present.is_none() || age >= half {
            self.previous = self.present.take().filter(|_| age < half.saturating_mul(2));
            self.began = now;
        }
        self.present = Some(self.present.map_or(sample, |min| min.min(sample)));
    }

    fn get(&self) -> Option<Duration> {
        match (self.present, self.previous) {
            (Some(present), Some(previous)) => Some(present.min(previous)),
            (present, previous) => present.or(previous),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_first_sample_sets_mean_and_half_of_it_as_variation() {
        let mut rtt = RttEstimator::new(&Config::default());
        assert_eq!(rtt.rto(), ms(1000));
        rtt.on_sample(Instant::ZERO, ms(100), 1);
        assert_eq!((rtt.srtt(), rtt.rttvar()), (Some(ms(100)), ms(50)));
        assert_eq!(rtt.rto(), ms(300), "the mean and four times the variation");
    }

    #[test]
    fn the_variation_term_has_linuxs_floor() {
        let mut rtt = RttEstimator::new(&Config::default());
        for _ in 0..200 {
            rtt.on_sample(Instant::ZERO, ms(1), 1);
        }
        assert_eq!(rtt.rto(), ms(201));
    }

    #[test]
    fn back_off_doubles_up_to_the_ceiling_and_a_sample_ends_it() {
        let mut rtt = RttEstimator::new(&Config::default());
        rtt.on_sample(Instant::ZERO, ms(1), 1);
        let mut seen = Vec::new();
        for _ in 0..12 {
            rtt.back_off();
            seen.push(rtt.rto().as_millis());
        }
        assert_eq!(&seen[..3], &[402, 804, 1608]);
        assert_eq!(seen[11], 120_000);
        rtt.on_sample(Instant::ZERO, ms(1), 1);
        assert!(rtt.rto() < ms(210));
    }

    #[test]
    fn what_earlier_connections_measured_makes_the_first_time_out_longer_and_never_shorter() {
        let mut rtt = RttEstimator::new(&Config::default());
        rtt.on_sample(Instant::ZERO, Duration::from_millis(20), 1);
        rtt.seed(Duration::from_millis(10));
        assert_eq!(rtt.rto(), Duration::from_millis(220));
        rtt.seed(Duration::from_millis(300));
        assert_eq!(rtt.rto(), Duration::from_millis(900), "SRTT + 2 SRTT, as tcp_init_metrics does");
        rtt.on_sample(Instant::ZERO, Duration::from_millis(20), 1);
        assert_eq!(rtt.rto(), Duration::from_millis(220));
    }

    #[test]
    fn the_smallest_round_trip_is_forgotten_after_a_while() {
        let mut rtt = RttEstimator::new(&Config::default());
        rtt.on_sample(Instant::ZERO, ms(10), 1);
        rtt.on_newest(Instant::ZERO, ms(8));
        for second in 1..=299 {
            rtt.on_sample(Instant::from_millis(1000 * second), ms(40), 1);
            assert_eq!(rtt.min_rtt(), Some(ms(8)), "after {second} s");
        }
        rtt.on_sample(Instant::from_millis(300_000), ms(40), 1);
        assert_eq!(rtt.min_rtt(), Some(ms(40)));
        rtt.on_sample(Instant::from_millis(900_000), ms(50), 1);
        assert_eq!(rtt.min_rtt(), Some(ms(50)), "after a long silence nothing older counts");
    }
}
