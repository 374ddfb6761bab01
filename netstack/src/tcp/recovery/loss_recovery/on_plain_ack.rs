//! An acknowledgment of what was sent once, while nothing is missing: what [`Recovery::on_ack`] comes to then.

use super::Recovery;
use crate::tcp::congestion::{AckSample, CongestionControl};
use crate::tcp::recovery::rtt::RttEstimator;
use crate::tcp::recovery::scoreboard::PlainlyAcked;
use crate::tcp::recovery::state::CongestionState;
use crate::tcp::seq::Seq;
use crate::time::Instant;

/// An acknowledgment without SACK blocks that acknowledges something.
#[derive(Debug)]
pub(in crate::tcp) struct PlainAck {
    pub(in crate::tcp) now: Instant,
    /// SEG.ACK, which is after SND.UNA and not after SND.NXT.
    pub(in crate::tcp) una: Seq,
    pub(in crate::tcp) snd_nxt: Seq,
    pub(in crate::tcp) mss: usize,
    pub(in crate::tcp) cwnd_limited: bool,
    /// Whether the connection is paced.
    pub(in crate::tcp) paced: bool,
}

impl Recovery {
    /// Whether an acknowledgment without SACK blocks is for [`Recovery::on_plain_ack`].
    #[inline]
    pub(in crate::tcp) fn takes_plain_ack(&self) -> bool {
        self.sack && self.state == CongestionState::Open && self.board.is_fresh() && !self.tail.is_out()
    }

    /// A plain acknowledgment came. The caller restarts the retransmission timer.
    pub(in crate::tcp) fn on_plain_ack(
        &mut self,
        ack: &PlainAck,
        rtt: &mut RttEstimator,
        cc: &mut dyn CongestionControl,
    ) {
        self.timeouts.on_progress();
        let Some(acked) = self.board.on_plain_ack(ack.una) else { return };
        let newest = ack.now - acked.last;
        let oldest = if acked.first == acked.last { newest } else { ack.now - acked.first };
        // Most windows are of fewer segments than two samples take: no division.
        let (outstanding, of_sample) = (self.board.outstanding(), 2 * ack.mss.max(1));
        let per_window = if outstanding < 2 * of_sample { 1 } else { (outstanding / of_sample).min(16) };
        rtt.on_sample(ack.now, oldest, per_window as u32);
        if acked.first != acked.last {
            rtt.on_newest(ack.now, newest);
        }
        self.rack.on_newest_delivered(newest, acked.last, ack.una);
        self.rack.update_window(ack.una, ack.snd_nxt, false);
        let sample = self.plain_sample(ack, &acked, rtt);
        cc.on_ack(&sample);
        if cc.controls_window() && cc.holds_back() {
            self.board.mark_app_limited(self.board.pipe());
        }
    }

    fn plain_sample(&mut self, ack: &PlainAck, acked: &PlainlyAcked, rtt: &RttEstimator) -> AckSample {
        let rate = self.board.sample_plain_rate(ack.now, acked, rtt.min_rtt().unwrap_or_default());
        let sample = self.sample_of(ack, rtt);
        // While the path reorders, what came in order need not have come the whole way.
        let doubtful = sample.reorders && self.reordering.is_recent(ack.now, 2 * sample.srtt);
        let rtt = (!doubtful).then(|| ack.now - acked.last);
        AckSample { delivered: acked.bytes, rtt, rate, ..sample }
    }

    /// What every acknowledgment says to congestion control, but not yet what it delivers and measures.
    #[inline]
    pub(super) fn sample_of(&self, ack: &PlainAck, rtt: &RttEstimator) -> AckSample {
        AckSample {
            now: ack.now,
            delivered: 0,
            duplicates: 0,
            rtt: None,
            reorders: self.reordering.seen() > 0,
            srtt: rtt.srtt().unwrap_or_default(),
            min_rtt: rtt.min_rtt().unwrap_or_default(),
            una: ack.una,
            snd_nxt: ack.snd_nxt,
            in_flight: self.pipe(ack.mss),
            total_delivered: self.board.rate().delivered(),
            rate: None,
            paced: ack.paced,
            cwnd_limited: ack.cwnd_limited,
        }
    }
}
