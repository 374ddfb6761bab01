//! CUBIC congestion control (RFC 9438).
//!
//! After a loss the window returns to where it was along a cubic function of time: fast at first, slow
//! around the old maximum, then faster and faster. All arithmetic is on integers, in bytes and
//! microseconds, so that a simulation gives the same window on every machine.

use super::{AckSample, CongestionControl, Undo};
use crate::time::{Duration, Instant};

/// The constant C = 0.4 segments per cubed second, as a fraction (RFC 9438 §5).
const C: (u128, u128) = (4, 10);

/// The factor β = 0.7 by which a loss reduces the window, as a fraction (RFC 9438 §4.6).
const BETA: (usize, usize) = (7, 10);

/// α = 3 (1 - β) / (1 + β): what Reno must add per window to have the same average with this β
/// (RFC 9438 §4.3).
const ALPHA: (u128, u128) = (9, 17);

/// Cubed microseconds in a cubed second.
const CUBED: u128 = 1_000_000_000_000_000_000;

/// No deadline is further away than this many microseconds, about 12 days: its cube fits.
const FAR: i128 = 1 << 40;

/// CUBIC's state. Windows are in bytes.
#[derive(Debug)]
pub struct Cubic {
    cwnd: usize,
    ssthresh: usize,
    mss: usize,
    /// W_max: the window at the last loss, or somewhat less where it had shrunk since the one before.
    w_max: usize,
    /// cwnd_prior: the window at the last loss.
    cwnd_prior: usize,
    /// This stage of congestion avoidance.
    epoch: Option<Epoch>,
    /// Since when the application, and not the window, limits what is sent.
    limited_since: Option<Instant>,
    /// From before the last reduction.
    undo: Option<Before>,
}

/// What RFC 9438 §4.9.2 restores after a reduction that was a mistake.
#[derive(Debug)]
struct Before {
    window: Undo,
    w_max: usize,
    cwnd_prior: usize,
    epoch: Option<Epoch>,
}

/// One stage of congestion avoidance: from one loss to the next.
#[derive(Debug)]
struct Epoch {
    /// When it began, moved on by the time in which the application limited us (RFC 9438 §5.8).
    start: Instant,
    /// K in microseconds: when the window is back at `w_max`.
    k: i128,
    /// W_max of this stage.
    w_max: usize,
    /// W_est: the window that Reno would have.
    w_est: usize,
    /// Parts of a byte that are not in `cwnd` and in `w_est` yet, times `cwnd`.
    cwnd_rest: u128,
    est_rest: u128,
}

impl Cubic {
    /// A controller with a window of `initial_window` bytes.
    pub fn new(mss: usize, initial_window: usize) -> Self {
        Self {
            cwnd: initial_window.max(mss),
            ssthresh: usize::MAX,
            mss,
            w_max: 0,
            cwnd_prior: 0,
            epoch: None,
            limited_since: None,
            undo: None,
        }
    }

    /// RFC 9438 §4.6 and §4.7.
    fn reduce(&mut self, in_flight: usize) {
        self.undo = Some(Before {
            window: Undo { cwnd: self.cwnd, ssthresh: self.ssthresh },
            w_max: self.w_max,
            cwnd_prior: self.cwnd_prior,
            epoch: self.epoch.take(),
        });
        // Fast convergence: a flow that lost again before it was back at its maximum makes room.
        self.w_max =
            if self.cwnd < self.w_max { self.cwnd / (2 * BETA.1) * (BETA.1 + BETA.0) } else { self.cwnd };
        self.cwnd_prior = self.cwnd;
        self.ssthresh = (in_flight / BETA.1 * BETA.0).max(2 * self.mss);
    }

    fn begin_epoch(&self, now: Instant) -> Epoch {
        let (k, w_max) = if self.cwnd < self.w_max {
            let missing = (self.w_max - self.cwnd) as u128;
            let cube = missing * C.1 * CUBED / (C.0 * self.mss as u128);
            (cube_root(cube) as i128, self.w_max)
        } else {
            (0, self.cwnd)
        };
        Epoch { start: now, k, w_max, w_est: self.cwnd, cwnd_rest: 0, est_rest: 0 }
    }

    fn avoid_congestion(&mut self, ack: &AckSample, acked: usize) {
        let mut epoch = self.epoch.take().unwrap_or_else(|| self.begin_epoch(ack.now));
        if let Some(since) = self.limited_since.take() {
            epoch.start += ack.now - since.max(epoch.start);
        }
        let t = (ack.now - epoch.start).as_micros() as i128;
        let (cwnd, mss, acked) = (self.cwnd as u128, self.mss as u128, acked as u128);
        // RFC 9438 §4.3: the region in which Reno would be faster.
        let (num, den) = if epoch.w_est >= self.cwnd_prior { (1, 1) } else { ALPHA };
        epoch.est_rest += num * acked * mss;
        epoch.w_est += take_whole(&mut epoch.est_rest, den * cwnd);
        if epoch.at(t, self.mss) < epoch.w_est {
            self.cwnd = self.cwnd.max(epoch.w_est);
            self.epoch = Some(epoch);
            return;
        }
        // §4.4 and §4.5: towards where the window should be a round trip from now.
        let target = epoch.at(t + ack.srtt.as_micros() as i128, self.mss);
        let target = target.clamp(self.cwnd, self.cwnd + self.cwnd / 2);
        epoch.cwnd_rest += (target - self.cwnd) as u128 * acked;
        self.cwnd += take_whole(&mut epoch.cwnd_rest, cwnd);
        self.epoch = Some(epoch);
    }
}

impl Epoch {
    /// W_cubic(t) = C (t - K)^3 + W_max in bytes (RFC 9438 §4.2).
    fn at(&self, t: i128, mss: usize) -> usize {
        let distance = (t - self.k).clamp(-FAR, FAR);
        let cube = (distance * distance * distance).unsigned_abs();
        // In two steps: the product of all would not fit for distances of days.
        let bytes = (cube / 1_000_000 * C.0 * mss as u128 / (C.1 * (CUBED / 1_000_000))) as usize;
        if distance < 0 { self.w_max.saturating_sub(bytes) } else { self.w_max.saturating_add(bytes) }
    }
}

/// Takes the whole multiples of `unit` out of `rest`.
fn take_whole(rest: &mut u128, unit: u128) -> usize {
    let whole = *rest / unit.max(1);
    *rest %= unit.max(1);
    whole as usize
}

/// The integer cube root, rounded down.
fn cube_root(n: u128) -> u128 {
    let (mut low, mut high) = (0u128, 1u128 << 42);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if middle * middle * middle <= n { low = middle } else { high = middle - 1 }
    }
    low
}

impl CongestionControl for Cubic {
    fn cwnd(&self) -> usize {
        self.cwnd
    }

    fn ssthresh(&self) -> usize {
        self.ssthresh
    }

    fn on_ack(&mut self, ack: &AckSample) {
        if !ack.cwnd_limited {
            self.limited_since.get_or_insert(ack.now);
            return;
        }
        let mut acked = ack.delivered;
        if self.cwnd < self.ssthresh {
            let growth = acked.min(self.ssthresh - self.cwnd);
            self.cwnd += growth;
            acked -= growth;
        }
        if acked > 0 && self.cwnd >= self.ssthresh {
            self.avoid_congestion(ack, acked);
        }
    }

    fn on_congestion(&mut self, _now: Instant, in_flight: usize) {
        self.reduce(in_flight);
    }

    fn on_timeout(&mut self, _now: Instant, in_flight: usize, first: bool) {
        if first {
            self.reduce(in_flight);
        }
        // RFC 9438 §4.8: the first stage after a time-out starts from where slow start ends.
        self.w_max = 0;
        self.epoch = None;
        self.cwnd = self.mss;
    }

    fn on_undo(&mut self) {
        if let Some(Before { window, w_max, cwnd_prior, epoch }) = self.undo.take() {
            self.cwnd = self.cwnd.max(window.cwnd);
            self.ssthresh = self.ssthresh.max(window.ssthresh);
            self.w_max = w_max;
            self.cwnd_prior = cwnd_prior;
            self.epoch = epoch;
        }
    }

    fn set_cwnd(&mut self, bytes: usize) {
        self.cwnd = bytes.max(self.mss);
    }

    fn on_idle(&mut self, idle: Duration, rto: Duration, restart_window: usize) {
        super::restart_after_idle(&mut self.cwnd, &mut self.ssthresh, idle, rto, restart_window, self.mss);
        self.epoch = None;
    }

    fn on_mss_change(&mut self, mss: usize) {
        self.cwnd = (self.cwnd / self.mss).max(1) * mss;
        self.mss = mss;
        self.epoch = None;
        self.undo = None;
    }

    fn name(&self) -> &'static str {
        "cubic"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;
    const RTT: Duration = Duration::from_millis(50);

    /// Acknowledges a window in every round trip for `time`.
    fn run(cc: &mut Cubic, now: &mut Instant, time: Duration) {
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

    fn ack(now: Instant, delivered: usize) -> AckSample {
        AckSample { srtt: RTT, min_rtt: RTT, ..super::super::testing::ack(now, delivered) }
    }

    fn after_loss(window: usize) -> Cubic {
        let mut cc = Cubic::new(MSS, window);
        cc.on_congestion(Instant::ZERO, window);
        cc.set_cwnd(cc.ssthresh());
        cc
    }

    #[test]
    fn a_loss_takes_three_tenths() {
        let cc = after_loss(1_000_000);
        assert_eq!((cc.cwnd(), cc.w_max), (700_000, 1_000_000));
    }

    #[test]
    fn the_window_is_back_after_k_and_flat_around_it() {
        let mut cc = after_loss(1_000_000);
        let mut now = Instant::ZERO;
        // K = cbrt(300 / 0.4) s = 9.09 s.
        run(&mut cc, &mut now, Duration::from_millis(9_090));
        assert!((980_000..=1_005_000).contains(&cc.cwnd()), "{}", cc.cwnd());
        let at_k = cc.cwnd();
        run(&mut cc, &mut now, Duration::from_secs(1));
        assert!(cc.cwnd() - at_k < 12_000, "the plateau: {} then {}", at_k, cc.cwnd());
        run(&mut cc, &mut now, Duration::from_secs(8));
        assert!(cc.cwnd() > 1_200_000, "then it probes: {}", cc.cwnd());
    }

    #[test]
    fn a_small_window_is_at_least_as_fast_as_reno() {
        let mut cc = after_loss(20_000);
        let mut now = Instant::ZERO;
        run(&mut cc, &mut now, 40 * RTT);
        // Reno with this beta adds 9/17 of a segment per round trip up to the old window.
        assert!(cc.cwnd() >= 14_000 + 40 * MSS * 9 / 17 / 2, "{}", cc.cwnd());
    }

    #[test]
    fn a_second_loss_below_the_maximum_makes_room() {
        let mut cc = after_loss(1_000_000);
        cc.on_congestion(Instant::ZERO, 700_000);
        assert_eq!(cc.w_max, 700_000 / 20 * 17);
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
    fn a_timeout_begins_with_one_segment_and_no_maximum() {
        let mut cc = Cubic::new(MSS, 100_000);
        cc.on_timeout(Instant::ZERO, 100_000, true);
        assert_eq!((cc.cwnd(), cc.ssthresh(), cc.w_max), (MSS, 70_000, 0));
    }

    #[test]
    fn a_mistaken_reduction_is_undone_with_its_curve() {
        let mut cc = after_loss(1_000_000);
        let mut now = Instant::ZERO;
        run(&mut cc, &mut now, Duration::from_secs(3));
        let before = (cc.cwnd(), cc.ssthresh(), cc.w_max);
        cc.on_timeout(now, cc.cwnd(), true);
        assert_eq!((cc.cwnd(), cc.w_max), (MSS, 0));
        cc.on_undo();
        assert_eq!((cc.cwnd(), cc.ssthresh(), cc.w_max), before);
        assert_eq!(cc.epoch.as_ref().map(|epoch| epoch.w_max), Some(1_000_000));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let epoch =
            Epoch { start: Instant::ZERO, k: FAR, w_max: usize::MAX, w_est: 0, cwnd_rest: 0, est_rest: 0 };
        epoch.at(0, 65_535);
        epoch.at(i128::from(u64::MAX), 65_535);
        assert_eq!(cube_root(u128::from(u64::MAX)), 2_642_245);
        assert_eq!([0, 1, 7, 8, 26, 27].map(cube_root), [0, 1, 1, 2, 2, 3]);
    }
}
