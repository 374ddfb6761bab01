//! The response to losses and ECN marks.

use super::filters::scale;
use super::signals::{BETA, LOSS_THRESH, Undo};
use super::{Bbr, LossSample, State};

impl Bbr {
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
