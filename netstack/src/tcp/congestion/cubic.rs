//! CUBIC congestion control (RFC 9438), with Linux's arithmetic.
//!
//! After a loss the window returns to where it was along a cubic function of time: fast at first, slow
//! around the old maximum, then faster and faster. All arithmetic is on integers: windows in whole
//! segments, as the RFC and Linux have them, and time in 1/1024 s.
//!
//! Where the RFC and Linux differ, this is Linux: the curve is evaluated one smallest round trip
//! ahead and not one smoothed one; the estimate of Reno's window keeps its slope when it passes the
//! window of the last loss (RFC 9438 §4.3 lets it become Reno's own); and before the first loss the
//! window grows by a twentieth in a round trip at least, since the curve says nothing yet.

use super::hystart::Detector;
use super::reordering_onset::ReorderingOnset;
use super::window::Window;
use super::window_based::{Rules, WindowBased};
use super::{AckSample, CongestionStart};
use crate::tcp::compact::compact;
use crate::time::{Duration, Instant};

/// The constant C = 0.4 segments per cubed second (RFC 9438 §5), in 1/1024 as Linux has it.
const C: u128 = 410;

/// Fraction bits of [`C`], and of time.
const FRACTION: u32 = 10;

/// The factor β = 0.7 by which a loss reduces the window (RFC 9438 §4.6), in 1/1024 as Linux has it.
const BETA: usize = 717;
const BETA_SCALE: usize = 1024;

/// Windows that must be acknowledged for Reno's window to grow by one segment with this β: 1/α,
/// where α = 3 (1 - β) / (1 + β) (RFC 9438 §4.3), in eighths.
const RENO_WINDOWS: u64 = (8 * (BETA_SCALE + BETA) / 3 / (BETA_SCALE - BETA)) as u64;

/// Segments that must be acknowledged for one more at most before the first loss: 5 % in a round trip.
const INITIAL_COUNT: u64 = 20;

/// The curve is evaluated again after this long, or when the window has changed: what it gives in
/// between would be the same, or be due to a burst of acknowledgments alone (Linux: HZ / 32). On paths
/// that are shorter than that, after a round trip: Linux keeps what it found for hundreds of them.
const EVALUATION_INTERVAL: Duration = Duration::from_micros(31_250);

/// No time matters that is further away than this, about 12 days in 1/1024 s: its cube fits.
const FAR: u64 = 1 << 30;

/// After a loss, delays are those of recovery for this long, and say nothing.
const UNSETTLED: Duration = Duration::from_secs(1);

/// CUBIC's state beside the window.
#[derive(Debug)]
pub(super) struct Cubic {
    /// W_max in segments: the window at the last loss, or somewhat less where it had shrunk since
    /// the one before; 0 before the first.
    w_max: u64,
    /// This stage of congestion avoidance, which many connections never come to.
    epoch: Option<Box<Epoch>>,
    pub(super) hystart: Detector,
    /// The smallest round trip since the last time-out.
    delay_min: Option<Duration>,
    reordering: ReorderingOnset,
    /// Since when the application, and not the window, limits what is sent.
    limited_since: Option<Instant>,
    /// When something was last sent.
    last_sent: Instant,
}

compact!(Cubic { w_max, epoch, hystart, delay_min, reordering, limited_since, last_sent });

/// One stage of congestion avoidance: from one loss to the next. Windows are in segments.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Epoch {
    /// When it began, moved on by the time in which the application limited us (RFC 9438 §4.2).
    start: Instant,
    /// K: when the window is back at `origin`, in 1/1024 s.
    k: u64,
    /// The plateau of the curve.
    origin: u64,
    /// W_est: the window that Reno would have.
    w_est: u64,
    /// Bytes acknowledged that `w_est` has not grown for yet.
    acked: u64,
    /// What the curve gave last.
    last: Option<Evaluation>,
}

compact!(Epoch { start, k, origin, w_est, acked, last });

/// What the curve gave: segments to be acknowledged for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Evaluation {
    at: Instant,
    /// For a window of so many segments.
    cwnd: u64,
    count: u64,
}

compact!(Evaluation { at, cwnd, count });

/// What RFC 9438 §4.9 restores after a spurious reduction, beside the window. Linux restores the window
/// and lets the curve begin anew.
#[derive(Debug)]
pub(super) struct Saved {
    w_max: u64,
    epoch: Option<Box<Epoch>>,
}

compact!(Saved { w_max, epoch });

impl Cubic {
    /// A controller that starts with the window of `start`.
    pub(super) fn start(start: &CongestionStart) -> WindowBased<Self> {
        let rules = Self {
            w_max: 0,
            epoch: None,
            hystart: Detector::new(start.hystart),
            delay_min: None,
            reordering: ReorderingOnset::default(),
            limited_since: None,
            last_sent: start.now,
        };
        WindowBased::new(start, rules)
    }

    /// The smallest round trip, and whether slow start should end.
    fn measure(&mut self, window: &mut Window, ack: &AckSample) {
        if self.reordering.begins(ack) {
            // Beside the round trip of what overtook the rest, every other one looks like a queue.
            self.delay_min = None;
        }
        let settled = self.epoch.as_ref().is_none_or(|epoch| ack.now - epoch.start >= UNSETTLED);
        let Some(rtt) = ack.rtt.filter(|_| settled) else { return };
        let rtt = rtt.max(Duration::from_micros(1));
        let delay_min = self.delay_min.map_or(rtt, |min| min.min(rtt));
        self.delay_min = Some(delay_min);
        if window.in_slow_start() && self.hystart.on_rtt(ack, rtt, delay_min, window) {
            window.ssthresh = window.cwnd;
        }
    }

    /// RFC 9438 §4.2 to §4.5.
    fn avoid_congestion(&mut self, window: &mut Window, ack: &AckSample, acked: usize) {
        let cwnd = window.segments();
        let begin = || Box::new(Epoch::begin(ack.now, cwnd, self.w_max));
        let mut epoch = self.epoch.take().unwrap_or_else(begin);
        epoch.acked += acked as u64;
        if let Some(since) = self.limited_since.take() {
            epoch.start += ack.now - since.max(epoch.start);
        }
        // The smallest round trip is not known for a second after a loss on a path that reorders, which may
        // be until the next loss.
        let interval = self.delay_min.unwrap_or(ack.srtt).min(EVALUATION_INTERVAL);
        let recent = |last: &Evaluation| last.cwnd == cwnd && ack.now - last.at <= interval;
        let count = match epoch.last.filter(recent) {
            Some(last) => last.count,
            None => {
                let t = in_1024ths((ack.now - epoch.start) + self.delay_min.unwrap_or_default());
                let count = epoch.count(t, cwnd, self.w_max == 0, window.mss);
                epoch.last = Some(Evaluation { at: ack.now, cwnd, count });
                count
            }
        };
        self.epoch = Some(epoch);
        window.avoid(acked, count as usize * window.mss);
    }
}

impl Rules for Cubic {
    type Saved = Saved;

    fn on_send(&mut self, now: Instant, in_flight: usize) {
        // A pause is no part of the curve's time (bictcp_cwnd_event in Linux).
        if in_flight == 0
            && let Some(epoch) = &mut self.epoch
        {
            epoch.start = (epoch.start + (now - self.last_sent)).min(now);
        }
        self.last_sent = now;
    }

    fn on_ack(&mut self, window: &mut Window, ack: &AckSample) {
        self.measure(window, ack);
        if !ack.cwnd_limited {
            self.limited_since.get_or_insert(ack.now);
            return;
        }
        let mut acked = ack.delivered;
        if window.in_slow_start() {
            acked = window.slow_start(self.hystart.growth(ack, window.mss));
        }
        if acked > 0 {
            self.avoid_congestion(window, ack, acked);
        }
    }

    /// RFC 9438 §4.6 and §4.7.
    fn reduce(&mut self, window: &mut Window) -> Saved {
        let saved = Saved { w_max: self.w_max, epoch: self.epoch.take() };
        let cwnd = window.segments();
        // Fast convergence: a flow that lost again before it was back at its maximum makes room.
        self.w_max = if cwnd < self.w_max {
            cwnd * (BETA_SCALE + BETA) as u64 / (2 * BETA_SCALE as u64)
        } else {
            cwnd
        };
        window.reduce(BETA, BETA_SCALE);
        saved
    }

    fn on_timeout(&mut self) {
        // RFC 9438 §4.8: the first stage after a time-out starts from where slow start ends. As in
        // Linux the path is measured anew.
        self.w_max = 0;
        self.epoch = None;
        self.delay_min = None;
        self.hystart.restart();
    }

    fn restore(&mut self, Saved { w_max, epoch }: Saved) {
        self.w_max = w_max;
        self.epoch = epoch;
    }
}

impl Epoch {
    /// A stage that begins with a window of `cwnd` segments.
    fn begin(now: Instant, cwnd: u64, w_max: u64) -> Self {
        let missing = w_max.saturating_sub(cwnd);
        // K = cbrt((W_max - cwnd) / C): the fraction bits of C and those of the cubed time.
        let k = cube_root((u128::from(missing) << (4 * FRACTION)) / C);
        Self { start: now, k, origin: w_max.max(cwnd), w_est: cwnd, acked: 0, last: None }
    }

    /// Segments to be acknowledged for the window of `cwnd` to grow by one, `t` after the beginning.
    fn count(&mut self, t: u64, cwnd: u64, before_first_loss: bool, mss: usize) -> u64 {
        let target = self.at(t);
        let mut count = if target > cwnd { cwnd / (target - cwnd) } else { 100 * cwnd };
        if before_first_loss {
            count = count.min(INITIAL_COUNT);
        }
        let reno = self.reno(cwnd, mss);
        if reno > cwnd {
            // The region in which Reno would be faster (§4.3).
            count = count.min(cwnd / (reno - cwnd));
        }
        // §4.4: at most half a window more in a round trip.
        count.max(2)
    }

    /// W_cubic(t) = C (t - K)^3 + W_max (RFC 9438 §4.2).
    fn at(&self, t: u64) -> u64 {
        let distance = u128::from(t.abs_diff(self.k).min(FAR));
        let segments = ((C * distance.pow(3)) >> (4 * FRACTION)) as u64;
        if t < self.k { self.origin.saturating_sub(segments) } else { self.origin + segments }
    }

    /// W_est, after what was acknowledged.
    fn reno(&mut self, cwnd: u64, mss: usize) -> u64 {
        let per_segment = (cwnd * RENO_WINDOWS / 8 * mss as u64).max(1);
        self.w_est += self.acked / per_segment;
        self.acked %= per_segment;
        self.w_est
    }
}

/// A duration in 1/1024 s.
fn in_1024ths(time: Duration) -> u64 {
    (time.as_nanos() * (1 << FRACTION) / 1_000_000_000).min(u128::from(FAR)) as u64
}

/// The integer cube root, rounded down; of anything above 2^90 that of 2^90.
fn cube_root(n: u128) -> u64 {
    let (mut low, mut high) = (0u128, u128::from(FAR));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if middle.pow(3) <= n { low = middle } else { high = middle - 1 }
    }
    low as u64
}

#[cfg(test)]
mod tests {
    use super::super::{CongestionControl, testing};
    use super::*;

    const MSS: usize = testing::MSS;
    const RTT: Duration = Duration::from_millis(50);

    fn cubic(cwnd: usize) -> WindowBased<Cubic> {
        Cubic::start(&testing::start(cwnd))
    }

    fn ack(now: Instant, delivered: usize) -> AckSample {
        AckSample { rtt: Some(RTT), srtt: RTT, min_rtt: RTT, ..AckSample::new(now, delivered) }
    }

    /// Acknowledges a window in every round trip for `time`.
    fn run(cc: &mut WindowBased<Cubic>, now: &mut Instant, time: Duration) {
        let end = *now + time;
        while *now < end {
            *now += RTT;
            let mut left = cc.cwnd();
            while left > 0 {
                let delivered = left.min(2 * MSS);
                left -= delivered;
                cc.on_ack(&ack(*now, delivered));
            }
        }
    }

    fn after_loss(window: usize) -> WindowBased<Cubic> {
        let mut cc = cubic(window);
        cc.on_congestion(Instant::ZERO);
        cc.set_cwnd(cc.ssthresh());
        cc
    }

    #[test]
    fn the_round_trip_of_what_overtook_the_rest_is_no_sign_of_a_queue() {
        let slow_start_lasts = |reorders| {
            let mut cc = cubic(20 * MSS);
            let first = AckSample { rtt: Some(Duration::from_millis(25)), ..ack(Instant::ZERO, MSS) };
            cc.on_ack(&first);
            // The next round.
            let (una, snd_nxt) = (first.una + MSS, first.una + 100 * MSS);
            for i in 0..20 {
                let now = Instant::from_millis(100 + 10 * i);
                let rtt = Some(Duration::from_millis(50));
                cc.on_ack(&AckSample { rtt, reorders, una, snd_nxt, ..ack(now, MSS) });
            }
            cc.ssthresh() == usize::MAX
        };
        assert!(slow_start_lasts(true));
        assert!(!slow_start_lasts(false), "where nothing overtakes, it is one");
    }

    #[test]
    fn a_loss_takes_three_tenths() {
        let cc = after_loss(1_000_000);
        assert_eq!((cc.cwnd(), cc.rules.w_max), (700_000, 1_000));
    }

    #[test]
    fn the_window_follows_the_curve() {
        let mut cc = after_loss(1_000_000);
        let mut now = Instant::ZERO;
        run(&mut cc, &mut now, RTT);
        // From then on W(t) = 0.4 (t - K)^3 + 1000 with K = cbrt(300 / 0.4) s = 9.09 s, one round
        // trip ahead.
        for second in 1..16 {
            run(&mut cc, &mut now, Duration::from_secs(1));
            let t = f64::from(second) - 9.086;
            let expected = 0.4 * t.powi(3) + 1000.0;
            let got = cc.cwnd() as f64 / MSS as f64;
            assert!((got - expected).abs() < 0.02 * expected, "after {second} s: {got}, not {expected}");
        }
    }

    #[test]
    fn the_window_is_back_after_k_and_flat_around_it() {
        let mut cc = after_loss(1_000_000);
        let mut now = Instant::ZERO;
        run(&mut cc, &mut now, Duration::from_millis(9_090));
        assert!((980_000..=1_005_000).contains(&cc.cwnd()), "{}", cc.cwnd());
        let at_k = cc.cwnd();
        run(&mut cc, &mut now, Duration::from_secs(1));
        assert!(cc.cwnd() - at_k < 12_000, "the plateau: {} then {}", at_k, cc.cwnd());
        run(&mut cc, &mut now, Duration::from_secs(8));
        assert!(cc.cwnd() > 1_200_000, "then it probes: {}", cc.cwnd());
    }

    #[test]
    fn a_small_window_grows_like_reno() {
        let mut cc = after_loss(20_000);
        let mut now = Instant::ZERO;
        run(&mut cc, &mut now, 40 * RTT);
        // Reno with this beta adds 8/15 of a segment in a round trip, beginning at 14.
        assert!((33_000..=36_000).contains(&cc.cwnd()), "{}", cc.cwnd());
    }

    #[test]
    fn a_burst_of_acknowledgments_evaluates_the_curve_once() {
        let mut cc = cubic(10_000);
        cc.on_timeout(Instant::ZERO, true);
        cc.set_cwnd(cc.ssthresh());
        let mut now = Instant::from_millis(10);
        for _ in 0..16 {
            cc.on_ack(&ack(now, MSS));
        }
        assert_eq!(cc.cwnd(), 7_000, "Reno would have grown after 13");
        now += EVALUATION_INTERVAL + Duration::from_millis(1);
        cc.on_ack(&ack(now, MSS));
        assert_eq!(cc.cwnd(), 8_000);
    }

    #[test]
    fn a_short_path_that_reorders_and_loses_grows_like_reno() {
        const SHORT: Duration = Duration::from_micros(100);
        let mut cc = cubic(20 * MSS);
        let mut now = Instant::from_millis(10);
        let sample =
            |now| AckSample { rtt: Some(SHORT), srtt: SHORT, min_rtt: SHORT, ..AckSample::new(now, MSS) };
        cc.on_congestion(now);
        cc.set_cwnd(cc.ssthresh());
        cc.on_ack(&sample(now));
        cc.on_ack(&AckSample { reorders: true, ..sample(now) });
        // 200 round trips of some 14 segments, in which Reno with this beta adds a hundred segments.
        for acks in 1..=200 * 20 {
            now += SHORT / 20;
            cc.on_ack(&sample(now));
            // The curve alone, as it was at first, would take 1,400 acknowledgments for one segment.
            assert!(acks < 1_000 || cc.cwnd() > 17 * MSS, "{} after {acks} acknowledgments", cc.cwnd());
        }
        assert!(cc.cwnd() >= 40 * MSS, "{} after 20 ms", cc.cwnd());
    }

    #[test]
    fn a_second_loss_below_the_maximum_makes_room() {
        let mut cc = after_loss(1_000_000);
        cc.on_congestion(Instant::ZERO);
        assert_eq!(cc.rules.w_max, 700 * 1741 / 2048);
    }

    #[test]
    fn before_the_first_loss_it_grows_by_a_twentieth_in_a_round_trip() {
        let mut cc = cubic(100_000);
        cc.window.ssthresh = 100_000;
        let mut now = Instant::ZERO;
        run(&mut cc, &mut now, RTT);
        assert_eq!(cc.cwnd(), 105_000);
    }

    #[test]
    fn time_in_which_the_application_limits_does_not_count() {
        let mut cc = after_loss(1_000_000);
        let mut now = Instant::ZERO;
        run(&mut cc, &mut now, Duration::from_secs(2));
        let before = cc.cwnd();
        cc.on_ack(&AckSample { cwnd_limited: false, ..ack(now, MSS) });
        now += Duration::from_secs(3600);
        run(&mut cc, &mut now, RTT);
        assert!(cc.cwnd() < before + 30 * MSS, "{before} then {}", cc.cwnd());
    }

    #[test]
    fn nor_does_a_pause() {
        let mut cc = after_loss(1_000_000);
        let mut now = Instant::ZERO;
        run(&mut cc, &mut now, Duration::from_secs(2));
        cc.on_send(now, 1, false);
        let before = cc.cwnd();
        now += Duration::from_secs(3600);
        cc.on_send(now, 0, false);
        run(&mut cc, &mut now, RTT);
        assert!(cc.cwnd() < before + 30 * MSS, "{before} then {}", cc.cwnd());
    }

    #[test]
    fn a_timeout_begins_with_one_segment_and_no_maximum() {
        let mut cc = cubic(100_000);
        cc.on_timeout(Instant::ZERO, true);
        assert_eq!((cc.cwnd(), cc.ssthresh(), cc.rules.w_max), (MSS, 70_000, 0));
    }

    #[test]
    fn a_spurious_reduction_is_undone_with_its_curve() {
        let mut cc = after_loss(1_000_000);
        let mut now = Instant::ZERO;
        run(&mut cc, &mut now, Duration::from_secs(3));
        let before = (cc.cwnd(), cc.ssthresh(), cc.rules.w_max, cc.rules.epoch.clone());
        cc.on_timeout(now, true);
        assert_eq!((cc.cwnd(), cc.rules.w_max), (MSS, 0));
        cc.on_undo();
        assert_eq!((cc.cwnd(), cc.ssthresh(), cc.rules.w_max, cc.rules.epoch.clone()), before);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let epoch =
            Epoch { start: Instant::ZERO, k: FAR, origin: u64::MAX >> 1, w_est: 0, acked: 0, last: None };
        epoch.at(0);
        epoch.at(FAR);
        Epoch::begin(Instant::ZERO, 0, 1 << 40).at(in_1024ths(Duration::MAX));
        assert_eq!(cube_root(u128::from(u64::MAX)), 2_642_245);
        assert_eq!([0, 1, 7, 8, 26, 27].map(cube_root), [0, 1, 1, 2, 2, 3]);
    }
}
