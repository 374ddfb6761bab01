//! The acknowledgment of what was sent once, of which nothing is known since.

use super::{KEPT, Scoreboard};
use crate::tcp::delivery_rate::{RateSample, Stamp};
use crate::tcp::seq::Seq;
use crate::time::{Duration, Instant};

/// What such an acknowledgment delivered.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp::recovery) struct PlainlyAcked {
    /// Bytes.
    pub(in crate::tcp::recovery) bytes: usize,
    /// When the first of it was sent, and the last.
    pub(in crate::tcp::recovery) first: Instant,
    pub(in crate::tcp::recovery) last: Instant,
    /// What was delivered when the last was sent.
    stamp: Stamp,
}

impl Scoreboard {
    /// Whether nothing is in flight but what was sent once, with no news of any of it.
    #[inline]
    pub(in crate::tcp::recovery) fn is_fresh(&self) -> bool {
        self.filed.is_none() && !self.fresh.is_empty() && self.losses.is_empty()
    }

    /// As [`Scoreboard::on_ack`] of a part of what [is fresh](Self::is_fresh). None if it is of nothing.
    #[inline]
    pub(in crate::tcp::recovery) fn on_plain_ack(&mut self, una: Seq) -> Option<PlainlyAcked> {
        let mut acked: Option<PlainlyAcked> = None;
        while let Some((start, record)) = self.fresh.front_mut().filter(|(start, _)| *start < una) {
            let bytes = record.end.min(una).since(*start);
            let before = acked.map_or((0, record.sent_at), |acked| (acked.bytes, acked.first));
            let (last, stamp) = (record.sent_at, record.stamp);
            acked = Some(PlainlyAcked { bytes: before.0 + bytes, first: before.1, last, stamp });
            if record.end > una {
                *start = una;
                break;
            }
            self.fresh.pop_front();
        }
        if self.fresh.is_empty() && self.fresh.capacity() > KEPT {
            self.fresh.shrink_to(KEPT);
        }
        self.outstanding -= acked.map_or(0, |acked| acked.bytes);
        acked
    }

    /// As [`Scoreboard::sample_rate`].
    #[inline]
    pub(in crate::tcp::recovery) fn sample_plain_rate(
        &mut self,
        now: Instant,
        acked: &PlainlyAcked,
        min_rtt: Duration,
    ) -> Option<RateSample> {
        self.rate.sample(now, acked.bytes, Some((acked.last, acked.stamp)), min_rtt)
    }
}
