//! Taking a reduction of the window back when nothing was lost (RFC 3522, RFC 3708, RFC 4015).
//!
//! A retransmission was needless if the acknowledgment that covers it echoes a timestamp from before
//! it left (Eifel), or if the peer reports everything that was sent again as a duplicate (DSACK).

use crate::tcp::compact::compact;
use crate::tcp::seq::Seq;

/// What is known of the last reduction.
#[derive(Debug, Default)]
pub(super) struct Undo {
    /// SND.UNA when the window was reduced; none if there is nothing to undo.
    marker: Option<Seq>,
    /// Segments sent again since and not reported as duplicates; none before the first.
    retransmitted: Option<u32>,
}

compact!(Undo { marker, retransmitted });

impl Undo {
    /// The window is reduced; `in_flight` retransmissions of before are still out, and may come back
    /// as duplicates.
    pub(super) fn begin(&mut self, una: Seq, in_flight: u32) {
        self.marker = Some(una);
        self.retransmitted = (in_flight > 0).then_some(in_flight);
    }

    /// There is nothing to undo any more.
    pub(super) fn forget(&mut self) {
        self.marker = None;
    }

    /// Whether there is something to undo.
    pub(super) fn is_open(&self) -> bool {
        self.marker.is_some()
    }

    /// Segments were sent again.
    pub(super) fn on_retransmitted(&mut self, segments: u32) {
        *self.retransmitted.get_or_insert(0) += segments;
    }

    /// The peer reported `segments` ending at `end` as duplicates.
    pub(super) fn on_duplicates(&mut self, end: Seq, segments: u32) {
        if let (Some(marker), Some(left)) = (self.marker, &mut self.retransmitted)
            && end > marker
        {
            *left = left.saturating_sub(segments);
        }
    }

    /// Whether all that was sent again since the reduction was needless.
    pub(super) fn all_were_duplicates(&self) -> bool {
        self.marker.is_some() && self.retransmitted == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SeqNum;

    fn seq(n: usize) -> Seq {
        Seq::initial(SeqNum::new(1)) + n
    }

    #[test]
    fn nothing_is_undone_before_something_was_sent_again() {
        let mut undo = Undo::default();
        undo.begin(seq(10), 0);
        assert!(undo.is_open() && !undo.all_were_duplicates());
        undo.on_retransmitted(2);
        undo.on_duplicates(seq(20), 1);
        assert!(!undo.all_were_duplicates());
        undo.on_duplicates(seq(9), 1);
        assert!(!undo.all_were_duplicates(), "of a time before the reduction");
        undo.on_duplicates(seq(30), 5);
        assert!(undo.all_were_duplicates());
        undo.forget();
        assert!(!undo.all_were_duplicates());
    }

    #[test]
    fn what_was_out_before_counts() {
        let mut undo = Undo::default();
        undo.begin(seq(0), 3);
        undo.on_duplicates(seq(5), 2);
        undo.on_retransmitted(1);
        undo.on_duplicates(seq(6), 1);
        assert!(!undo.all_were_duplicates());
        undo.on_duplicates(seq(7), 1);
        assert!(undo.all_were_duplicates());
    }
}
