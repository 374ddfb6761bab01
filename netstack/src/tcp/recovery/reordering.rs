//! How far a path reorders: in Linux's `tcpi_reordering`, which begins as the three duplicate
//! acknowledgments of RFC 5681 §3.2 and grows with what is seen.

use super::scoreboard::Scoreboard;
use crate::tcp::seq::Seq;

/// The degree of a path on which nothing was seen: duplicate acknowledgments that mean a loss.
pub(super) const DUP_ACK_THRESHOLD: u32 = 3;

/// The highest degree (`tcp_max_reordering`).
const MAX_DEGREE: u32 = 300;

/// The degree, in segments.
#[derive(Debug)]
pub(in crate::tcp) struct Reordering {
    degree: u32,
    /// Times that reordering was seen.
    seen: u64,
}

impl Default for Reordering {
    fn default() -> Self {
        Self { degree: DUP_ACK_THRESHOLD, seen: 0 }
    }
}

impl Reordering {
    pub(in crate::tcp) fn degree(&self) -> u32 {
        self.degree
    }

    pub(in crate::tcp) fn seen(&self) -> u64 {
        self.seen
    }

    /// The original of what begins at `low` arrived after something up to `high` had (RFC 8985 §6.2
    /// step 3). `mss` is the bytes of a segment.
    pub(super) fn on_late_original(&mut self, low: Seq, high: Seq, mss: usize) {
        if low >= high {
            return;
        }
        self.seen += 1;
        self.raise(high.since(low).div_ceil(mss.max(1)));
    }

    /// More duplicate acknowledgments came than segments can be missing: what they counted as
    /// delivered had been in flight all the time, `segments` of it.
    pub(super) fn on_too_many_duplicates(&mut self, segments: usize) {
        self.seen += 1;
        self.raise(segments);
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

    #[test]
    fn the_degree_is_the_distance_in_segments_and_bounded() {
        let seq = |n: usize| Seq::initial(SeqNum::new(1)) + n;
        let mut reordering = Reordering::default();
        reordering.on_late_original(seq(1000), seq(3000), 1000);
        assert_eq!((reordering.degree(), reordering.seen()), (3, 1));
        reordering.on_late_original(seq(1000), seq(6500), 1000);
        assert_eq!((reordering.degree(), reordering.seen()), (6, 2));
        reordering.on_late_original(seq(9000), seq(9000), 1000);
        assert_eq!(reordering.seen(), 2, "in order");
        reordering.on_late_original(seq(0), seq(9_000_000), 1000);
        assert_eq!(reordering.degree(), 300);
    }
}
