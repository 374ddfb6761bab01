//! Reno congestion control (RFC 5681) with appropriate byte counting (RFC 3465).

use super::{AckSample, CongestionControl, Undo};
use crate::time::{Duration, Instant};

/// Reno's state.
#[derive(Debug)]
pub struct NewReno {
    /// Congestion window in bytes, at least `mss`.
    cwnd: usize,
    /// Slow start threshold in bytes.
    ssthresh: usize,
    /// Bytes acknowledged since the window last grew in congestion avoidance.
    bytes_acked: usize,
    /// Sender maximum segment size in bytes.
    mss: usize,
    /// From before the last reduction.
    undo: Option<Undo>,
}

impl NewReno {
    /// A controller with a window of `initial_window` bytes.
    pub fn new(mss: usize, initial_window: usize) -> Self {
        Self { cwnd: initial_window.max(mss), ssthresh: usize::MAX, bytes_acked: 0, mss, undo: None }
    }

    /// RFC 5681 §3.1 equation 4.
    fn halve(&mut self, in_flight: usize) {
        self.undo = Some(Undo { cwnd: self.cwnd, ssthresh: self.ssthresh });
        self.ssthresh = (in_flight / 2).max(2 * self.mss);
        self.bytes_acked = 0;
    }
}

impl CongestionControl for NewReno {
    fn cwnd(&self) -> usize {
        self.cwnd
    }

    fn ssthresh(&self) -> usize {
        self.ssthresh
    }

    fn on_ack(&mut self, ack: &AckSample) {
        if !ack.cwnd_limited {
            return;
        }
        let mut acked = ack.delivered;
        if self.cwnd < self.ssthresh {
            // Slow start grows by what was acknowledged, however many ACKs said it: neither a
            // stretch ACK loses growth nor does ACK division win any (RFC 3465).
            let growth = acked.min(self.ssthresh - self.cwnd);
            self.cwnd += growth;
            acked -= growth;
        }
        if acked > 0 && self.cwnd >= self.ssthresh {
            self.bytes_acked += acked;
            while self.bytes_acked >= self.cwnd {
                self.bytes_acked -= self.cwnd;
                self.cwnd += self.mss;
            }
        }
    }

    fn on_congestion(&mut self, _now: Instant, in_flight: usize) {
        self.halve(in_flight);
    }

    fn on_timeout(&mut self, _now: Instant, in_flight: usize, first: bool) {
        if first {
            self.halve(in_flight);
        }
        self.cwnd = self.mss;
    }

    fn on_undo(&mut self) {
        if let Some(before) = self.undo.take() {
            self.cwnd = self.cwnd.max(before.cwnd);
            self.ssthresh = self.ssthresh.max(before.ssthresh);
        }
    }

    fn set_cwnd(&mut self, bytes: usize) {
        self.cwnd = bytes.max(self.mss);
    }

    fn on_idle(&mut self, idle: Duration, rto: Duration, restart_window: usize) {
        super::restart_after_idle(&mut self.cwnd, &mut self.ssthresh, idle, rto, restart_window, self.mss);
    }

    fn on_mss_change(&mut self, mss: usize) {
        self.cwnd = (self.cwnd / self.mss).max(1) * mss;
        self.mss = mss;
        self.undo = None;
    }

    fn name(&self) -> &'static str {
        "reno"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(delivered: usize) -> AckSample {
        super::super::testing::ack(Instant::ZERO, delivered)
    }

    #[test]
    fn slow_start_doubles_in_a_round_trip() {
        let mut cc = NewReno::new(1000, 10_000);
        for _ in 0..5 {
            cc.on_ack(&ack(2000));
        }
        assert_eq!(cc.cwnd(), 20_000);
    }

    #[test]
    fn avoidance_adds_one_segment_in_a_round_trip() {
        let mut cc = NewReno::new(1000, 20_000);
        cc.on_congestion(Instant::ZERO, 20_000);
        cc.set_cwnd(cc.ssthresh());
        assert_eq!(cc.cwnd(), 10_000);
        for _ in 0..10 {
            cc.on_ack(&ack(1000));
        }
        assert_eq!(cc.cwnd(), 11_000);
    }

    #[test]
    fn ack_division_wins_nothing() {
        let mut cc = NewReno::new(1000, 10_000);
        for _ in 0..1000 {
            cc.on_ack(&ack(1));
        }
        assert_eq!(cc.cwnd(), 11_000);
    }

    #[test]
    fn the_window_does_not_grow_while_the_application_limits() {
        let mut cc = NewReno::new(1000, 10_000);
        cc.on_ack(&AckSample { cwnd_limited: false, ..ack(5000) });
        assert_eq!(cc.cwnd(), 10_000);
    }

    #[test]
    fn a_second_timeout_keeps_the_threshold() {
        let mut cc = NewReno::new(1000, 40_000);
        cc.on_timeout(Instant::ZERO, 40_000, true);
        assert_eq!((cc.cwnd(), cc.ssthresh()), (1000, 20_000));
        cc.on_timeout(Instant::ZERO, 1000, false);
        assert_eq!((cc.cwnd(), cc.ssthresh()), (1000, 20_000));
    }

    #[test]
    fn idleness_halves_per_rto_down_to_the_restart_window() {
        let mut cc = NewReno::new(1000, 80_000);
        let rto = Duration::from_millis(200);
        cc.on_idle(Duration::from_millis(500), rto, 10_000);
        assert_eq!(cc.cwnd(), 20_000);
        cc.on_idle(Duration::from_secs(60), rto, 10_000);
        assert_eq!(cc.cwnd(), 10_000);
    }

    #[test]
    fn a_smaller_mss_keeps_the_number_of_segments() {
        let mut cc = NewReno::new(1000, 10_000);
        cc.on_mss_change(500);
        assert_eq!(cc.cwnd(), 5000);
    }
}
