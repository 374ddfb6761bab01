//! What is measured of congestion: losses and ECN marks by rounds.

use super::filters::scale;
use super::{AckSample, Bbr, INFINITE, RateSample, State, is_round_trip};
use crate::time::Instant;

/// BBR.LossThresh as a fraction: 2 %.
pub(super) const LOSS_THRESH: (u64, u64) = (1, 50);

/// BBR.Beta in percent.
pub(super) const BETA: u64 = 70;

/// What the last round trip said.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// C.has_selective_acks.
    pub(super) sack: bool,
    /// BBR.bw_latest: the best rate of this round, in bytes a second.
    bw_latest: u64,
    /// BBR.inflight_latest: the most delivered in one round trip, in bytes.
    pub(super) inflight_latest: u64,
    /// BBR.is_loss_in_round.
    pub(super) is_loss_in_round: bool,
    /// BBR.loss_round_delivered: where the round ends in which losses are counted.
    pub(super) loss_round_delivered: u64,
    /// When it began.
    pub(super) loss_round_began: Instant,
    /// BBR.loss_round_start: this acknowledgment ended it.
    pub(super) loss_round_start: bool,
    /// Ranges found lost in it.
    pub(super) losses_in_round: u32,
    /// Bytes found lost and delivered of late: a round counts for three quarters of the next one.
    pub(super) lost: u64,
    taken: u64,
    /// C.delivered when the round began.
    round_delivered: u64,
    /// An ECN mark came in this round.
    pub(super) marked: bool,
    /// What was sent before so much was delivered was sent in Drain or ProbeRTT, on purpose more slowly
    /// than the path takes: its rate says nothing of what is safe.
    pub(super) held_back: u64,
    pub(super) undo: Undo,
}

/// What a recovery that proves spurious restores: the state from before its first loss.
#[derive(Debug, Default)]
pub(super) struct Undo {
    pub(super) saved: bool,
    /// BBR.undo_state.
    pub(super) state: Option<State>,
    pub(super) bw_shortterm: u64,
    pub(super) inflight_shortterm: u64,
    pub(super) inflight_longterm: u64,
}

impl Signals {
    pub(super) fn new(sack: bool) -> Self {
        Self { sack, ..Self::default() }
    }

    /// ResetCongestionSignals.
    pub(super) fn reset(&mut self) {
        self.is_loss_in_round = false;
        self.bw_latest = 0;
        self.inflight_latest = 0;
    }
}

impl Bbr {
    /// UpdateLatestDeliverySignals.
    pub(super) fn update_latest_delivery_signals(&mut self, ack: &AckSample, rs: &RateSample) {
        let signals = &mut self.signals;
        signals.bw_latest = signals.bw_latest.max(rs.rate());
        signals.inflight_latest = signals.inflight_latest.max(rs.delivered);
        signals.loss_round_start = rs.prior_delivered >= signals.loss_round_delivered
            && is_round_trip(signals.loss_round_began, ack);
        if signals.loss_round_start {
            signals.loss_round_delivered = self.delivered;
            signals.loss_round_began = self.now;
        }
    }

    /// AdvanceLatestDeliverySignals.
    pub(super) fn advance_latest_delivery_signals(&mut self, rs: &RateSample) {
        if self.signals.loss_round_start {
            self.signals.bw_latest = rs.rate();
            self.signals.inflight_latest = rs.delivered;
        }
    }

    /// UpdateCongestionSignals.
    pub(super) fn update_congestion_signals(&mut self, ack: &AckSample, rs: &RateSample) {
        self.update_max_bw(ack, rs);
        if self.signals.loss_round_start {
            let signals = &mut self.signals;
            signals.taken += self.delivered.saturating_sub(signals.round_delivered);
            signals.round_delivered = self.delivered;
            if rs.prior_delivered >= signals.held_back {
                self.adapt_lower_bounds();
            }
            let signals = &mut self.signals;
            signals.is_loss_in_round = false;
            signals.marked = false;
            signals.lost = signals.lost / 4 * 3;
            signals.taken = signals.taken / 4 * 3;
        }
    }

    /// `bytes` of what was found lost were not.
    pub(super) fn forgive(&mut self, bytes: usize) {
        self.signals.lost = self.signals.lost.saturating_sub(bytes as u64);
    }

    /// Whether more was lost in the last few rounds than a path may lose at random.
    ///
    /// The draft responds to any loss where it does not probe, and where it does, to 2 % of what was
    /// in flight with one packet. It wants to bear a loss of 1 % in each round trip (§5.3.3.8), and
    /// yet the rate then falls by that 1 % in each of the tens of rounds between two probes, and a
    /// few losses that chance brings together end a probe and bound what is in flight for the next
    /// cycle: 78 % of a link of 100 Mbit/s over 50 ms is what remains. So the threshold counts in both
    /// cases, and for a few rounds together, which even chance out.
    pub(super) fn is_congested(&self) -> bool {
        let signals = &self.signals;
        let taken = signals.taken + self.delivered.saturating_sub(signals.round_delivered);
        signals.marked || self.is_inflight_too_high(signals.lost, taken + signals.lost)
    }

    /// AdaptLowerBoundsFromCongestion: once in a round with losses, down to what is delivered.
    fn adapt_lower_bounds(&mut self) {
        if self.state.is_probing() || !self.signals.is_loss_in_round || !self.is_congested() {
            return;
        }
        let (model, signals) = (&mut self.model, &self.signals);
        // InitLowerBounds
        if model.bw_shortterm == INFINITE {
            model.bw_shortterm = model.max_bw.get();
        }
        if model.inflight_shortterm == INFINITE {
            model.inflight_shortterm = self.cwnd;
        }
        // LossLowerBounds
        model.bw_shortterm = signals.bw_latest.max(scale(model.bw_shortterm, BETA, 100));
        model.inflight_shortterm = signals.inflight_latest.max(scale(model.inflight_shortterm, BETA, 100));
    }

    /// IsInflightTooHigh: more was lost than a path that is not overloaded loses.
    pub(super) fn is_inflight_too_high(&self, lost: u64, tx_in_flight: u64) -> bool {
        lost > scale(tx_in_flight, LOSS_THRESH.0, LOSS_THRESH.1) || (lost > 0 && !self.signals.sack)
    }
}
