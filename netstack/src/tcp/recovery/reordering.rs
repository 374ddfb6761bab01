//! How far a path reorders: in Linux's `tcpi_reordering`, which begins as the three duplicate
//! acknowledgments of RFC 5681 §3.2 and grows with what is seen.

use super::scoreboard::Scoreboard;
use crate::tcp::compact::compact;
use crate::tcp::seq::Seq;
use crate::time::{Duration, Instant};

/// The degree of a path on which nothing was seen: duplicate acknowledgments that mean a loss.
pub(super) const DUP_ACK_THRESHOLD: u32 = 3;

/// The highest degree (`tcp_max_reordering`).
const MAX_DEGREE: u32 = 300;

/// Segments that the peer must have received twice before that counts as reordering.
const DUPLICATES: u64 = 3;

/// The degree, in segments.
#[derive(Debug)]
pub(in crate::tcp) struct Reordering {
    degree: u32,
    /// Times that reordering was seen.
    seen: u64,
    /// When it was seen last.
    last: Instant,
}

compact!(Reordering { degree, seen, last });

impl Default for Reordering {
    fn default() -> Self {
        Self { degree: DUP_ACK_THRESHOLD, seen: 0, last: Instant::ZERO }
    }
}

impl Reordering {
    pub(in crate::tcp) fn degree(&self) -> u32 {
        self.degree
    }

    pub(in crate::tcp) fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether it was seen in the last `time`.
    pub(super) fn is_recent(&self, now: Instant, time: Duration) -> bool {
        self.seen > 0 && now - self.last <= time
    }

    /// The original of what begins at `low` arrived after something up to `high` had (RFC 8985 §6.2
    /// step 3). `mss` is the bytes of a segment.
    pub(super) fn on_late_original(&mut self, now: Instant, low: Seq, high: Seq, mss: usize) {
        if low >= high {
            return;
        }
        self.seen += 1;
        self.last = now;
        self.raise(high.since(low).div_ceil(mss.max(1)));
    }

    /// More duplicate acknowledgments came than segments can be missing: what they counted as
    /// delivered had been in flight all the time, `segments` of it.
    pub(super) fn on_too_many_duplicates(&mut self, segments: usize) {
        self.seen += 1;
        self.raise(segments);
    }

    /// The peer reports that it received `total` segments twice so far, all of which were found lost.
    ///
    /// RFC 8985 and Linux look at originals that were not sent again, or that an echoed timestamp
    /// distinguishes from their copies. Where a round trip is shorter than the timestamp clock's tick,
    /// and every segment that is overtaken is sent again at once, neither ever shows anything.
    pub(super) fn on_duplicates(&mut self, now: Instant, total: u64) {
        if self.seen == 0 && total >= DUPLICATES {
            self.seen = 1;
            self.last = now;
        }
    }

    fn raise(&mut self, segments: usize) {
        self.degree = self.degree.max(u32::try_from(segments).unwrap_or(MAX_DEGREE).min(MAX_DEGREE));
    }

    /// The retransmission timer expired although as much was SACKed as should have shown the loss:
    /// the degree was too high.
    pub(super) fn on_timeout(&mut self, board: &Scoreboard) {
        if board.sacked() >= DUP_ACK_THRESHOLD as usize * board.mss().max(1) {
            self.degree = self.degree.min(DUP_ACK_THRESHOLD);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SeqNum;

    const NOW: Instant = Instant::from_millis(1_000);

    #[test]
    fn segments_that_came_twice_show_it_where_nothing_else_does() {
        let mut reordering = Reordering::default();
        reordering.on_duplicates(NOW, 2);
        assert_eq!(reordering.seen(), 0);
        reordering.on_duplicates(NOW, 3);
        reordering.on_duplicates(NOW, 4);
        assert_eq!((reordering.degree(), reordering.seen()), (3, 1), "they do not say how far");
    }

    #[test]
    fn what_was_long_ago_is_not_recent() {
        let mut reordering = Reordering::default();
        let time = Duration::from_millis(20);
        assert!(!reordering.is_recent(Instant::ZERO, time));
        reordering.on_too_many_duplicates(5);
        assert!(!reordering.is_recent(NOW, time));
        let seq = |n: usize| Seq::initial(SeqNum::new(1)) + n;
        reordering.on_late_original(NOW, seq(0), seq(1), 1);
        assert!(reordering.is_recent(NOW + time, time));
        assert!(!reordering.is_recent(NOW + time + Duration::from_nanos(1), time));
    }

    #[test]
    fn the_degree_is_the_distance_in_segments_and_bounded() {
        let seq = |n: usize| Seq::initial(SeqNum::new(1)) + n;
        let mut reordering = Reordering::default();
        reordering.on_late_original(NOW, seq(1000), seq(3000), 1000);
        assert_eq!((reordering.degree(), reordering.seen()), (3, 1));
        reordering.on_late_original(NOW, seq(1000), seq(6500), 1000);
        assert_eq!((reordering.degree(), reordering.seen()), (6, 2));
        reordering.on_late_original(NOW, seq(9000), seq(9000), 1000);
        assert_eq!(reordering.seen(), 2, "in order");
        reordering.on_late_original(NOW, seq(0), seq(9_000_000), 1000);
        assert_eq!(reordering.degree(), 300);
    }
}
