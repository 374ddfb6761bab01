//! The window arithmetic that Reno and CUBIC share.

use super::CongestionStart;
use crate::tcp::compact::compact;
use crate::time::Duration;

/// A congestion window with its threshold.
#[derive(Debug)]
pub(super) struct Window {
    /// The congestion window in bytes, at least `mss`.
    pub(super) cwnd: usize,
    /// The slow start threshold in bytes.
    pub(super) ssthresh: usize,
    /// Sender maximum segment size in bytes.
    pub(super) mss: usize,
    /// Bytes acknowledged in congestion avoidance that the window has not grown for yet
    /// (`snd_cwnd_cnt` in Linux).
    credit: usize,
}

compact!(Window { cwnd, ssthresh, mss, credit });

/// A window and its threshold in bytes, from before a reduction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    cwnd: usize,
    ssthresh: usize,
}

compact!(Before { cwnd, ssthresh });

impl Window {
    pub(super) fn new(start: &CongestionStart) -> Self {
        let &CongestionStart { mss, cwnd, ssthresh, .. } = start;
        Self { cwnd: cwnd.max(mss), ssthresh, mss, credit: 0 }
    }

    /// The window in whole segments.
    pub(super) fn segments(&self) -> u64 {
        (self.cwnd / self.mss) as u64
    }

    pub(super) fn in_slow_start(&self) -> bool {
        self.cwnd < self.ssthresh
    }

    /// Slow start: grows by what was acknowledged, however many ACKs said it, so that neither a
    /// stretch ACK loses growth nor ACK division wins any (RFC 3465). Returns the bytes that the
    /// threshold left over.
    pub(super) fn slow_start(&mut self, acked: usize) -> usize {
        let growth = acked.min(self.ssthresh.saturating_sub(self.cwnd));
        self.cwnd += growth;
        acked - growth
    }

    /// Congestion avoidance: one segment more for every `per_segment` bytes acknowledged
    /// (`tcp_cong_avoid_ai` in Linux).
    pub(super) fn avoid(&mut self, acked: usize, per_segment: usize) {
        let per_segment = per_segment.max(1);
        // Credit that was gathered at a slower rate buys one segment, not many.
        if self.credit >= per_segment {
            self.credit = 0;
            self.cwnd += self.mss;
        }
        self.credit += acked;
        self.cwnd += self.credit / per_segment * self.mss;
        self.credit %= per_segment;
    }

    /// Sets the threshold to `num / den` of the window in whole segments, two at least.
    ///
    /// RFC 5681 §3.1 takes the fraction of what is in flight. Linux takes it of the window, which it
    /// keeps from growing, and decays, while it is not in use.
    pub(super) fn reduce(&mut self, num: usize, den: usize) {
        let segments = self.cwnd / self.mss * num / den;
        self.ssthresh = segments.max(2) * self.mss;
        self.credit = 0;
    }

    pub(super) fn before(&self) -> Before {
        Before { cwnd: self.cwnd, ssthresh: self.ssthresh }
    }

    /// Takes back what happened since `before`.
    pub(super) fn undo(&mut self, before: Before) {
        self.cwnd = self.cwnd.max(before.cwnd);
        self.ssthresh = self.ssthresh.max(before.ssthresh);
    }

    pub(super) fn set(&mut self, cwnd: usize) {
        self.cwnd = cwnd.max(self.mss);
    }

    /// The threshold that is remembered when the window shrinks for want of use: three quarters of
    /// the window at least (`tcp_current_ssthresh` in Linux).
    fn remember(&mut self) {
        let segments = self.cwnd / self.mss;
        self.ssthresh = self.ssthresh.max((segments / 2 + segments / 4) * self.mss);
    }

    /// After a pause: halved once for each RTO of idleness, down to the restart window, where
    /// RFC 5681 §4.1 goes at once (`tcp_cwnd_restart` in Linux).
    pub(super) fn restart(&mut self, idle: Duration, rto: Duration, restart_window: usize) {
        self.remember();
        let floor = restart_window.min(self.cwnd);
        let mut left = idle;
        while left > rto && self.cwnd > floor {
            left -= rto;
            self.cwnd = self.cwnd / self.mss / 2 * self.mss;
        }
        self.set(self.cwnd.max(floor));
    }

    /// Only `used` bytes of the window were used for a whole RTO: half of the rest is given up
    /// (RFC 2861, `tcp_cwnd_application_limited` in Linux).
    pub(super) fn decay(&mut self, used: usize) {
        if used < self.cwnd {
            self.remember();
            self.set((self.cwnd / self.mss + used / self.mss) / 2 * self.mss);
        }
    }

    /// The window and the threshold keep their number of segments (RFC 5681 §3.1).
    pub(super) fn on_mss_change(&mut self, mss: usize) {
        self.cwnd = (self.cwnd / self.mss).max(1) * mss;
        if self.ssthresh != usize::MAX {
            self.ssthresh = (self.ssthresh / self.mss).max(2) * mss;
        }
        self.credit = 0;
        self.mss = mss;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(cwnd: usize, ssthresh: usize) -> Window {
        Window { cwnd, ssthresh, mss: 1000, credit: 0 }
    }

    #[test]
    fn slow_start_ends_at_the_threshold() {
        let mut w = window(10_000, 12_000);
        assert_eq!((w.slow_start(5000), w.cwnd), (3000, 12_000));
    }

    #[test]
    fn credit_of_a_slower_time_buys_one_segment() {
        let mut w = window(10_000, 0);
        w.avoid(9_999, 10_000);
        assert_eq!(w.cwnd, 10_000);
        w.avoid(1, 100);
        assert_eq!(w.cwnd, 11_000);
    }

    #[test]
    fn idleness_halves_per_rto_down_to_the_restart_window() {
        let mut w = window(80_000, usize::MAX);
        let rto = Duration::from_millis(200);
        w.restart(Duration::from_millis(500), rto, 10_000);
        assert_eq!((w.cwnd, w.ssthresh), (20_000, usize::MAX));
        w.ssthresh = 5_000;
        w.restart(Duration::from_secs(60), rto, 10_000);
        assert_eq!((w.cwnd, w.ssthresh), (10_000, 15_000));
    }

    #[test]
    fn what_is_not_used_is_given_up_by_halves() {
        let mut w = window(50_000, 30_000);
        w.decay(10_000);
        assert_eq!((w.cwnd, w.ssthresh), (30_000, 37_000));
        w.decay(40_000);
        assert_eq!(w.cwnd, 30_000);
    }

    #[test]
    fn a_smaller_mss_keeps_the_number_of_segments() {
        let mut w = window(10_000, 20_000);
        w.on_mss_change(500);
        assert_eq!((w.cwnd, w.ssthresh), (5_000, 10_000));
    }

    #[test]
    fn a_reduction_is_of_whole_segments_and_leaves_two() {
        let mut w = window(11_500, usize::MAX);
        w.reduce(1, 2);
        assert_eq!(w.ssthresh, 5_000);
        w.cwnd = 2_000;
        w.reduce(7, 10);
        assert_eq!(w.ssthresh, 2_000);
    }
}
