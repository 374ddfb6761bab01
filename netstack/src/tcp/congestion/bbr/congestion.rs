//! The response to losses and ECN marks.

use super::filters::scale;
use super::{AckSample, Bbr, INFINITE, LossSample, RateSample, State, is_round_trip};
use crate::time::Instant;

/// BBR.LossThresh as a fraction: 2 %.
const LOSS_THRESH: (u64, u64) = (1, 50);

/// BBR.Beta in percent.
const BETA: u64 = 70;

/// What the last round trip said.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// BBR.bw_latest: the best rate of this round, in bytes a second.
    bw_latest: u64,
    /// BBR.inflight_latest: the most delivered in one round trip, in bytes.
    pub(super) inflight_latest: u64,
    /// BBR.is_loss_in_round.
    is_loss_in_round: bool,
    /// BBR.loss_round_delivered: where the round that losses are looked at ends.
    loss_round_delivered: u64,
    /// When it began.
    loss_round_began: Instant,
    /// BBR.loss_round_start: this acknowledgment ended it.
    pub(super) loss_round_start: bool,
    /// Ranges found lost in it.
    pub(super) losses_in_round: u32,
    /// Bytes found lost and delivered of late: a round counts for three quarters of the next one.
    lost: u64,
    taken: u64,
    /// C.delivered when the round began.
    round_delivered: u64,
    /// An ECN mark came in this round.
    marked: bool,
    /// What was sent before so much was delivered was sent in Drain or ProbeRTT, on purpose more slowly
    /// than the path takes: its rate says nothing of what is safe.
    pub(super) held_back: u64,
    pub(super) undo: Undo,
}

/// What a recovery that proves spurious restores: the state from before its first loss.
#[derive(Debug, Default)]
pub(super) struct Undo {
    saved: bool,
    /// BBR.undo_state.
    pub(super) state: Option<State>,
    bw_shortterm: u64,
    inflight_shortterm: u64,
    inflight_longterm: u64,
}

impl Signals {
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

    /// So much of what was found lost was not.
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

    /// NoteLoss.
    fn note_loss(&mut self) {
        if !self.signals.is_loss_in_round {
            self.signals.loss_round_delivered = self.delivered;
            self.signals.loss_round_began = self.now;
            self.save_state_upon_loss();
        }
        self.signals.is_loss_in_round = true;
    }

    /// HandleLostPacket.
    pub(super) fn handle_lost(&mut self, loss: &LossSample) {
        self.note_loss();
        self.signals.losses_in_round += 1;
        self.signals.lost += loss.bytes as u64;
        let in_flight = loss.tx_in_flight as u64;
        let too_high = self.is_inflight_too_high(loss.lost, in_flight) && self.is_congested();
        if self.probing.is_sample && too_high {
            self.handle_inflight_too_high(inflight_at_loss(loss), loss.app_limited);
        }
    }

    /// IsInflightTooHigh: more was lost than a path that is not overloaded loses.
    pub(super) fn is_inflight_too_high(&self, lost: u64, tx_in_flight: u64) -> bool {
        lost > scale(tx_in_flight, LOSS_THRESH.0, LOSS_THRESH.1) || (lost > 0 && !self.sack)
    }

    /// HandleInflightTooHigh.
    fn handle_inflight_too_high(&mut self, tx_in_flight: u64, app_limited: bool) {
        self.probing.too_high = true;
        // One response to each probe.
        self.probing.is_sample = false;
        if !app_limited {
            let floor = scale(self.target_inflight(), BETA, 100);
            self.model.inflight_longterm = tx_in_flight.max(floor);
        }
        if self.state == State::ProbeBwUp {
            self.signals.undo.state = Some(State::ProbeBwUp);
            self.start_probe_bw_down();
        }
    }

    /// The draft leaves the response to ECN open, but that a mark must count as congestion. It is
    /// that to a round with losses, and it ends a probe: a mark means a queue, which is what probes
    /// look for.
    pub(super) fn handle_ecn(&mut self) {
        self.note_loss();
        self.signals.marked = true;
        match self.state {
            State::Startup => self.startup_is_too_fast(),
            _ if self.probing.is_sample => {
                let in_flight = self.signals.inflight_latest;
                self.handle_inflight_too_high(in_flight, false);
            }
            _ => {}
        }
    }

    /// SaveStateUponLoss. The draft saves in each round with losses anew, and so restores what the first
    /// rounds of a spurious recovery have made of the state.
    pub(super) fn save_state_upon_loss(&mut self) {
        self.save_cwnd();
        if self.signals.undo.saved {
            return;
        }
        let model = &self.model;
        self.signals.undo = Undo {
            saved: true,
            state: None,
            bw_shortterm: model.bw_shortterm,
            inflight_shortterm: model.inflight_shortterm,
            inflight_longterm: model.inflight_longterm,
        };
    }

    /// HandleSpuriousLossDetection.
    pub(super) fn handle_spurious_loss(&mut self) {
        self.restore_cwnd();
        self.signals.is_loss_in_round = false;
        self.full_bw.reset(0);
        let Undo { saved, state, bw_shortterm, inflight_shortterm, inflight_longterm } =
            std::mem::take(&mut self.signals.undo);
        if !saved {
            return;
        }
        let model = &mut self.model;
        model.bw_shortterm = model.bw_shortterm.max(bw_shortterm);
        model.inflight_shortterm = model.inflight_shortterm.max(inflight_shortterm);
        model.inflight_longterm = model.inflight_longterm.max(inflight_longterm);
        match state {
            Some(State::Startup) if self.state != State::Startup => {
                self.full_bw.reached = false;
                if self.state != State::ProbeRtt {
                    self.enter_startup();
                }
            }
            Some(State::ProbeBwUp) if !matches!(self.state, State::ProbeBwUp | State::ProbeRtt) => {
                self.start_probe_bw_refill();
            }
            _ => {}
        }
    }
}

/// InflightAtLoss: how much was in flight when the losses passed the threshold, which may have been
/// in the middle of a burst.
pub(super) fn inflight_at_loss(loss: &LossSample) -> u64 {
    let size = loss.bytes as u64;
    let inflight_prev = (loss.tx_in_flight as u64).saturating_sub(size);
    let lost_prev = loss.lost.saturating_sub(size);
    // (thresh * inflight_prev - lost_prev) / (1 - thresh)
    let (num, den) = LOSS_THRESH;
    let prefix =
        num.saturating_mul(inflight_prev).saturating_sub(den.saturating_mul(lost_prev)) / (den - num);
    inflight_prev.saturating_add(prefix)
}
