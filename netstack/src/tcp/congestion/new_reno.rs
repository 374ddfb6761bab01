//! Reno congestion control (RFC 5681) with appropriate byte counting (RFC 3465).

use super::window::{Before, Window};
use super::{AckSample, CongestionControl, Start};
use crate::time::{Duration, Instant};

/// Reno's state.
#[derive(Debug)]
pub struct NewReno {
    window: Window,
    /// From before the last reduction.
    undo: Option<Before>,
}

impl NewReno {
    /// A controller that starts with the window of `start`.
    pub(super) fn new(start: &Start) -> Self {
        Self { window: Window::new(start), undo: None }
    }

    /// RFC 5681 §3.1 equation 4.
    fn halve(&mut self) {
        self.undo = Some(self.window.before());
        self.window.reduce(1, 2);
    }
}

impl CongestionControl for NewReno {
    fn cwnd(&self) -> usize {
        self.window.cwnd
    }

    fn ssthresh(&self) -> usize {
        self.window.ssthresh
    }

    fn on_ack(&mut self, ack: &AckSample) {
        if !ack.cwnd_limited {
            return;
        }
        let mut acked = ack.delivered;
        if self.window.in_slow_start() {
            acked = self.window.slow_start(acked);
        }
        if acked > 0 {
            // One segment more for each window acknowledged.
            self.window.avoid(acked, self.window.cwnd);
        }
    }

    fn on_congestion(&mut self, _now: Instant) {
        self.halve();
    }

    fn on_timeout(&mut self, _now: Instant, first: bool) {
        if first {
            self.halve();
        }
        self.window.set(0);
    }

    fn on_undo(&mut self) {
        if let Some(before) = self.undo.take() {
            self.window.undo(before);
        }
    }

    fn set_cwnd(&mut self, bytes: usize) {
        self.window.set(bytes);
    }

    fn on_idle(&mut self, idle: Duration, rto: Duration, restart_window: usize) {
        self.window.restart(idle, rto, restart_window);
    }

    fn on_unused(&mut self, used: usize) {
        self.window.decay(used);
    }

    fn on_mss_change(&mut self, mss: usize) {
        self.window.on_mss_change(mss);
        self.undo = None;
    }

    fn name(&self) -> &'static str {
        "reno"
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn reno(cwnd: usize) -> NewReno {
        NewReno::new(&testing::start(cwnd))
    }

    fn ack(delivered: usize) -> AckSample {
        testing::ack(Instant::ZERO, delivered)
    }

    #[test]
    fn slow_start_doubles_in_a_round_trip() {
        let mut cc = reno(10_000);
        for _ in 0..5 {
            cc.on_ack(&ack(2000));
        }
        assert_eq!(cc.cwnd(), 20_000);
    }

    #[test]
    fn avoidance_adds_one_segment_in_a_round_trip() {
        let mut cc = reno(20_000);
        cc.on_congestion(Instant::ZERO);
        cc.set_cwnd(cc.ssthresh());
        assert_eq!(cc.cwnd(), 10_000);
        for _ in 0..10 {
            cc.on_ack(&ack(1000));
        }
        assert_eq!(cc.cwnd(), 11_000);
    }

    #[test]
    fn ack_division_wins_nothing() {
        let mut cc = reno(10_000);
        for _ in 0..1000 {
            cc.on_ack(&ack(1));
        }
        assert_eq!(cc.cwnd(), 11_000);
    }

    #[test]
    fn the_window_does_not_grow_while_the_application_limits() {
        let mut cc = reno(10_000);
        cc.on_ack(&AckSample { cwnd_limited: false, ..ack(5000) });
        assert_eq!(cc.cwnd(), 10_000);
    }

    #[test]
    fn a_second_timeout_keeps_the_threshold() {
        let mut cc = reno(40_000);
        cc.on_timeout(Instant::ZERO, true);
        assert_eq!((cc.cwnd(), cc.ssthresh()), (1000, 20_000));
        cc.on_timeout(Instant::ZERO, false);
        assert_eq!((cc.cwnd(), cc.ssthresh()), (1000, 20_000));
    }

    #[test]
    fn a_mistaken_reduction_is_undone_once() {
        let mut cc = reno(20_000);
        cc.on_congestion(Instant::ZERO);
        cc.set_cwnd(cc.ssthresh());
        assert_eq!((cc.cwnd(), cc.ssthresh()), (10_000, 10_000));
        cc.on_undo();
        assert_eq!((cc.cwnd(), cc.ssthresh()), (20_000, usize::MAX));
        cc.set_cwnd(5_000);
        cc.on_undo();
        assert_eq!(cc.cwnd(), 5_000);
    }
}
