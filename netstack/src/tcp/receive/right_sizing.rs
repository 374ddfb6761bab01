//! Auto-tuning of the receive window ("dynamic right-sizing"): twice what the reader takes in a round
//! trip, so that a sender whose window doubles is never held back by ours.

use crate::tcp::compact::compact;
use crate::tcp::seq::Seq;
use crate::time::{Duration, Instant};

/// The shortest round trip that auto-tuning reckons with: on a local path a single super-segment may
/// be a whole window, and says nothing of the time in between. (Linux's estimate comes from
/// timestamps there, whose tick is a millisecond as well.)
const SHORTEST_ROUND: Duration = Duration::from_millis(1);

/// The round trip before anything was measured.
const UNKNOWN_ROUND: Duration = Duration::from_millis(100);

/// Segments that a sender begins with (RFC 6928). A reader that takes more in a round trip shows that
/// the sender's window grows. To wait until the first window was read whole, in the very round trip in
/// which it was offered, would not help: the sender fills it with whole segments, and never quite.
const FIRST_FLIGHT: usize = 10;

/// What auto-tuning knows.
#[derive(Debug)]
pub(super) struct RightSizing {
    /// Position of the reader when this round trip began.
    start: Seq,
    /// When it began.
    at: Instant,
    /// Bytes read in the busiest round trip so far.
    space: usize,
    /// Estimated round-trip time as the receiver sees it.
    rtt: Duration,
    /// When data passes this position, a window's worth has come since `rtt_at`.
    rtt_edge: Seq,
    rtt_at: Instant,
    /// The last echo that was a sample: each tick of our clock is one.
    tsecr: u32,
    advertised_mss: usize,
}

compact!(RightSizing { start, at, space, rtt, rtt_edge, rtt_at, tsecr, advertised_mss });

impl RightSizing {
    /// The state of a connection that begins: the peer was offered `offered` bytes from `rcv_nxt` on,
    /// and the handshake took `rtt`, if that was measured.
    pub(super) fn new(
        now: Instant,
        rcv_nxt: Seq,
        offered: usize,
        advertised_mss: usize,
        rtt: Option<Duration>,
    ) -> Self {
        Self {
            start: rcv_nxt,
            at: now,
            space: offered.min(FIRST_FLIGHT * advertised_mss),
            rtt: rtt.unwrap_or(UNKNOWN_ROUND).max(SHORTEST_ROUND),
            rtt_edge: rcv_nxt + offered,
            rtt_at: now,
            tsecr: 0,
            advertised_mss,
        }
    }

    /// Data came in order, up to `rcv_nxt`; the peer may send up to `right_edge`. A window's worth of
    /// data takes a round trip at least.
    pub(super) fn on_data(&mut self, now: Instant, rcv_nxt: Seq, right_edge: Seq) {
        if rcv_nxt < self.rtt_edge {
            return;
        }
        let sample = now - self.rtt_at;
        if !sample.is_zero() {
            self.rtt = self.rtt.min(sample).max(SHORTEST_ROUND);
        }
        self.rtt_edge = right_edge.max(rcv_nxt + 1);
        self.rtt_at = now;
    }

    /// Whether the echo of `tsecr` would be a sample.
    pub(super) fn wants_echo(&self, tsecr: u32) -> bool {
        tsecr != self.tsecr
    }

    /// A full segment echoed `tsecr`, a timestamp that we sent `rtt` ago. Unlike the time that a
    /// window takes this follows a path that becomes slower (Linux's `tcp_rcv_rtt_measure_ts`), as
    /// every path does whose queue fills.
    pub(super) fn on_echo(&mut self, tsecr: u32, rtt: Duration) {
        if self.wants_echo(tsecr) {
            self.tsecr = tsecr;
            self.rtt = (self.rtt * 7 / 8 + rtt / 8).max(SHORTEST_ROUND);
        }
    }

    /// The reader is at `position`. Once in a round trip: the window that would suit what it took, in
    /// bytes, if that was more than ever before.
    pub(super) fn on_read(&mut self, now: Instant, position: Seq) -> Option<usize> {
        if now - self.at < self.rtt {
            return None;
        }
        let copied = position.since(self.start);
        let space = self.space;
        self.start = position;
        self.at = now;
        if copied <= space {
            return None;
        }
        self.space = copied;
        // Room for the growth that was seen (Linux's tcp_rcv_space_adjust).
        let wanted = 2 * copied + 16 * self.advertised_mss;
        let growth = wanted.saturating_mul(copied - space) / space.max(1);
        Some(wanted.saturating_add(2 * growth))
    }

    /// Bytes that the reader took in the busiest round trip (`rcv_space` of `TCP_INFO`).
    pub(super) fn space(&self) -> usize {
        self.space
    }

    /// The estimate of the round-trip time (`rcv_rtt` of `TCP_INFO`).
    pub(super) fn rtt(&self) -> Duration {
        self.rtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SeqNum;

    const RTT: Duration = Duration::from_millis(20);

    fn base() -> Seq {
        Seq::initial(SeqNum::new(1))
    }

    fn sizing() -> RightSizing {
        RightSizing::new(Instant::ZERO, base(), 65_535, 1460, Some(RTT))
    }

    #[test]
    fn a_window_that_whole_segments_do_not_quite_fill_still_grows() {
        let mut sizing = sizing();
        // 45 segments of 1,448 bytes are all that fits, in every round trip.
        let wanted = sizing.on_read(Instant::ZERO + RTT, base() + 45 * 1448);
        assert!(wanted.is_some_and(|wanted| wanted > 2 * 65_160), "{wanted:?}");
    }

    #[test]
    fn a_reader_that_takes_no_more_than_before_asks_for_nothing() {
        let mut sizing = sizing();
        assert!(sizing.on_read(Instant::ZERO + RTT, base() + 30_000).is_some());
        assert_eq!(sizing.on_read(Instant::ZERO + RTT * 3 / 2, base() + 60_000), None, "not a round trip");
        assert_eq!(sizing.on_read(Instant::ZERO + 2 * RTT, base() + 60_000), None);
        assert_eq!(sizing.space(), 30_000);
    }

    #[test]
    fn echoes_follow_a_queue_that_fills_and_count_once_a_tick() {
        let mut sizing = sizing();
        sizing.on_echo(7, 5 * RTT);
        sizing.on_echo(7, 5 * RTT);
        assert_eq!(sizing.rtt(), RTT * 12 / 8);
        for tick in 8..60 {
            sizing.on_echo(tick, 5 * RTT);
        }
        assert!(sizing.rtt() > RTT * 49 / 10, "{:?}", sizing.rtt());
    }
}
