//! Delivery rate samples: how fast the path delivered the data.
//!
//! Each range in flight remembers what had been delivered when it left ([`Stamp`]). Its
//! acknowledgment then says how much was delivered in between and in what time, which is a sample of
//! the path's rate unless the application did not fill the path (draft-ietf-ccwg-bbr §4.1, before
//! that draft-cheng-iccrg-delivery-rate-estimation). The names are the draft's.

use crate::tcp::compact::compact;
use crate::time::{Duration, Instant, nanos};

/// The state of a connection: the variables `C.` of the draft.
#[derive(Debug, Default)]
pub(super) struct DeliveryRate {
    /// C.delivered: bytes ever acknowledged or SACKed.
    delivered: u64,
    /// C.delivered_time: when that last changed, or when sending began after a pause.
    delivered_time: Instant,
    /// C.first_send_time: when the range that was last seen delivered had been sent.
    first_sent_time: Instant,
    /// C.lost: bytes ever marked as lost.
    lost: u64,
    /// C.app_limited: the value of `delivered` up to which samples say what the application wrote and
    /// not what the path takes; 0 if there is no such range.
    app_limited: u64,
    /// The sample that `TCP_INFO` shows: bytes, time, and whether the application was the limit.
    shown: (u64, Duration, bool),
}

compact!(DeliveryRate { delivered, delivered_time, first_sent_time, lost, app_limited, shown });

/// What a range in flight remembers: the variables `P.` of the draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    delivered: u64,
    delivered_time: Instant,
    first_sent_time: Instant,
    lost: u64,
    /// P.tx_in_flight: bytes in flight once the last byte of the range had left.
    in_flight: u32,
    app_limited: bool,
}

impl Stamp {
    /// More was sent with the range, and has the stamp `last`.
    pub(super) fn extend_to(&mut self, last: &Self) {
        self.in_flight = last.in_flight;
    }

    /// The last `bytes` of the range are not of it any more: it was in flight before they were.
    pub(super) fn cut(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}

/// The delivery rate sample of one acknowledgment: the variables `RS.` of the draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateSample {
    /// Bytes delivered since the newest of the acknowledged ranges was sent.
    pub delivered: u64,
    /// The time that took: of sending or of being acknowledged, the longer.
    pub interval: Duration,
    /// Bytes that had been delivered in all when that range was sent.
    pub prior_delivered: u64,
    /// Bytes in flight when it was sent, itself included.
    pub tx_in_flight: usize,
    /// Bytes found lost since it was sent.
    pub lost: u64,
    /// Whether the application and not the path may have set the rate.
    pub app_limited: bool,
}

impl RateSample {
    /// `delivered` bytes in `interval`, of which nothing else is known: for tests of algorithms.
    pub fn new(delivered: u64, interval: Duration) -> Self {
        Self { delivered, interval, prior_delivered: 0, tx_in_flight: 0, lost: 0, app_limited: false }
    }

    /// Bytes per second.
    pub fn rate(&self) -> u64 {
        per_second(self.delivered, self.interval)
    }
}

/// A range that was found lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LossSample {
    /// Its length in bytes.
    pub bytes: usize,
    /// Bytes in flight when it was sent, itself included.
    pub tx_in_flight: usize,
    /// Bytes found lost since it was sent, itself included.
    pub lost: u64,
    /// Whether it was sent while the application did not fill the path.
    pub app_limited: bool,
    /// Bytes delivered in all when the loss was found.
    pub delivered: u64,
}

impl LossSample {
    /// The first loss of a connection, of `bytes` with nothing else in flight: for tests of algorithms.
    pub fn new(bytes: usize) -> Self {
        Self { bytes, tx_in_flight: bytes, lost: bytes as u64, app_limited: false, delivered: 0 }
    }
}

impl DeliveryRate {
    /// Something is about to be sent while `outstanding` bytes are not acknowledged; with it,
    /// `in_flight` bytes will be in the network.
    pub(super) fn stamp(&mut self, now: Instant, outstanding: usize, in_flight: usize) -> Stamp {
        if outstanding == 0 {
            // After a pause the interval begins now: what was not sent took no time.
            self.first_sent_time = now;
            self.delivered_time = now;
        }
        Stamp {
            delivered: self.delivered,
            delivered_time: self.delivered_time,
            first_sent_time: self.first_sent_time,
            lost: self.lost,
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
            app_limited: self.app_limited != 0,
        }
    }

    /// `bytes` were acknowledged or SACKed for the first time, and the newest of them was sent at
    /// `sent_at` with `stamp`. There is no sample if the interval is shorter than the smallest round
    /// trip, as when the original of what was sent again is acknowledged: neither is its rate that of
    /// the path, nor did a round trip pass (`tcp_rate_gen` in Linux).
    pub(super) fn sample(
        &mut self,
        now: Instant,
        bytes: usize,
        newest: Option<(Instant, Stamp)>,
        min_rtt: Duration,
    ) -> Option<RateSample> {
        if bytes > 0 {
            self.delivered += bytes as u64;
            self.delivered_time = now;
        }
        if self.app_limited != 0 && self.delivered > self.app_limited {
            self.app_limited = 0;
        }
        let (sent_at, stamp) = newest?;
        self.first_sent_time = sent_at;
        let interval = sent_at.nanos_since(stamp.first_sent_time).max(now.nanos_since(stamp.delivered_time));
        if interval < nanos(min_rtt) || interval == 0 {
            return None;
        }
        let interval = Duration::from_nanos(interval);
        let sample = RateSample {
            delivered: self.delivered - stamp.delivered,
            interval,
            prior_delivered: stamp.delivered,
            tx_in_flight: stamp.in_flight as usize,
            lost: self.lost - stamp.lost,
            app_limited: stamp.app_limited,
        };
        self.show(&sample);
        Some(sample)
    }

    /// As in Linux's tcp_rate_gen: a sample that the application limited is only shown if it is at
    /// least as fast.
    fn show(&mut self, sample: &RateSample) {
        if !sample.app_limited || self.is_as_fast(sample) {
            self.shown = (sample.delivered, sample.interval, sample.app_limited);
        }
    }

    /// Whether the rate of a sample is that of the one that is shown, or more. Products take no division.
    fn is_as_fast(&self, sample: &RateSample) -> bool {
        let (bytes, time, _) = self.shown;
        let product = |bytes: u64, time: Duration| u128::from(bytes) * u128::from(nanos(time));
        time.is_zero() || product(sample.delivered, time) >= product(bytes, sample.interval)
    }

    /// A range of `bytes` was found lost.
    pub(super) fn on_lost(&mut self, bytes: usize, stamp: &Stamp) -> LossSample {
        self.lost += bytes as u64;
        LossSample {
            bytes,
            tx_in_flight: stamp.in_flight as usize,
            lost: self.lost - stamp.lost,
            app_limited: stamp.app_limited,
            delivered: self.delivered,
        }
    }

    /// From now on, until what is in flight is acknowledged, samples do not show the path's rate.
    pub(super) fn mark_app_limited(&mut self, in_flight: usize) {
        self.app_limited = (self.delivered + in_flight as u64).max(1);
    }

    /// Bytes ever delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Bytes a second, for `TCP_INFO`; 0 before the first sample.
    pub(super) fn shown_rate(&self) -> u64 {
        per_second(self.shown.0, self.shown.1)
    }

    /// Whether the application limited what is shown.
    pub(super) fn shown_app_limited(&self) -> bool {
        self.shown.2
    }

    /// Whether the application limits the connection now.
    pub(super) fn is_app_limited(&self) -> bool {
        self.app_limited != 0
    }
}

/// `bytes` in `time`, as bytes a second.
fn per_second(bytes: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos();
    if nanos == 0 {
        return 0;
    }
    u64::try_from(u128::from(bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    const RTT: Duration = Duration::from_millis(100);

    #[test]
    fn a_paced_flight_measures_the_rate_of_its_acknowledgments() {
        let mut rate = DeliveryRate::default();
        // Twenty ranges of 1,000 bytes, one each 10 ms; acknowledged 100 ms later one by one.
        let stamps: Vec<_> = (0..10).map(|i| (at(i * 10), rate.stamp(at(i * 10), 0, 1000))).collect();
        let first = rate.sample(at(100), 1000, Some(stamps[0]), RTT).unwrap();
        assert_eq!((first.delivered, first.rate()), (1000, 10_000), "one range in a round trip");
        // In the steady state ten ranges are delivered in a round trip.
        let mut last = first;
        let mut flight: Vec<_> = stamps[1..].to_vec();
        for i in 11..40 {
            let now = at(i * 10);
            flight.push((now, rate.stamp(now, 9000, 10_000)));
            last = rate.sample(now, 1000, Some(flight.remove(0)), RTT).unwrap();
        }
        assert_eq!(last.rate(), 100_000);
        assert_eq!(rate.shown_rate(), 100_000);
    }

    #[test]
    fn compressed_acknowledgments_do_not_raise_the_rate_above_that_of_sending() {
        let mut rate = DeliveryRate::default();
        rate.sample(at(0), 5000, None, RTT);
        let stamps: Vec<_> =
            (0..10).map(|i| (at(i * 10), rate.stamp(at(i * 10), 1000 * i as usize, 1000))).collect();
        // All ten are acknowledged within a millisecond.
        let sample = rate.sample(at(191), 10_000, Some(stamps[9]), RTT).unwrap();
        assert_eq!(sample.interval, Duration::from_millis(191));
        assert!(sample.rate() < 100_000);
    }

    #[test]
    fn what_the_application_limited_is_marked_until_it_is_delivered() {
        let mut rate = DeliveryRate::default();
        rate.mark_app_limited(2000);
        let stamp = rate.stamp(at(0), 0, 1000);
        assert!(rate.sample(at(100), 2000, Some((at(0), stamp)), RTT).unwrap().app_limited);
        assert!(rate.is_app_limited(), "delivered is not beyond the mark");
        rate.sample(at(101), 1, None, RTT);
        assert!(!rate.is_app_limited());
        assert!(!rate.stamp(at(102), 0, 1000).app_limited);
    }

    #[test]
    fn an_interval_shorter_than_a_round_trip_tells_nothing() {
        let mut rate = DeliveryRate::default();
        let stamp = rate.stamp(at(0), 0, 1000);
        assert_eq!(rate.sample(at(5), 1000, Some((at(0), stamp)), RTT), None);
        assert_eq!((rate.delivered(), rate.shown_rate()), (1000, 0));
    }

    #[test]
    fn losses_since_the_transmission_are_counted() {
        let mut rate = DeliveryRate::default();
        let first = rate.stamp(at(0), 0, 1000);
        let loss = rate.on_lost(1000, &first);
        assert_eq!((loss.lost, loss.tx_in_flight), (1000, 1000));
        let second = rate.stamp(at(1), 1000, 1500);
        rate.on_lost(500, &second);
        let sample = rate.sample(at(200), 10, Some((at(0), first)), RTT).unwrap();
        assert_eq!(sample.lost, 1500);
        let sample = rate.sample(at(200), 10, Some((at(1), second)), RTT).unwrap();
        assert_eq!(sample.lost, 500);
    }
}
