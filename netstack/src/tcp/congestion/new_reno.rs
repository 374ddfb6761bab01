//! Reno congestion control (RFC 5681) with appropriate byte counting (RFC 3465).

use super::window::Window;
use super::window_based::{Rules, WindowBased};
use super::{AckSample, CongestionStart};
use crate::tcp::compact::{Compact, Reader, Writer};

/// Reno's rules, which have no state beside the window.
#[derive(Debug)]
pub(super) struct NewReno;

impl NewReno {
    /// A controller that starts with the window of `start`.
    pub(super) fn start(start: &CongestionStart) -> WindowBased<Self> {
        WindowBased::new(start, Self)
    }
}

impl Compact for NewReno {
    fn write(&self, _: &mut Writer) {}

    fn read(_: &mut Reader<'_>) -> Self {
        Self
    }
}

impl Rules for NewReno {
    type Saved = ();

    fn on_ack(&mut self, window: &mut Window, ack: &AckSample) {
        if !ack.cwnd_limited {
            return;
        }
        let mut acked = ack.delivered;
        if window.in_slow_start() {
            acked = window.slow_start(acked);
        }
        if acked > 0 {
            // One segment more for each window acknowledged.
            window.avoid(acked, window.cwnd);
        }
    }

    /// RFC 5681 §3.1 equation 4.
    fn reduce(&mut self, window: &mut Window) {
        window.reduce(1, 2);
    }

    fn restore(&mut self, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::super::{CongestionControl, testing};
    use super::*;
    use crate::time::Instant;

    fn reno(cwnd: usize) -> WindowBased<NewReno> {
        NewReno::start(&testing::start(cwnd))
    }

    fn ack(delivered: usize) -> AckSample {
        AckSample::new(Instant::ZERO, delivered)
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
    fn a_spurious_reduction_is_undone_once() {
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
