//! Startup, which doubles the rate in each round trip until the path is full, and Drain, which empties
//! the queue that this left.

use super::filters::scale;
use super::{AckSample, Bbr, RateSample, State};

/// Rounds without much growth that mean a full path.
const PLATEAU_ROUNDS: u32 = 3;

/// BBRStartupFullLossCnt: ranges lost in a round that end Startup.
const FULL_LOSSES: u32 = 6;

/// Rounds that Drain lasts at most.
const DRAIN_ROUNDS: u64 = 3;

/// The search for a plateau of the delivery rate.
#[derive(Debug, Default)]
pub(super) struct FullBw {
    /// BBR.full_bw: the rate that growth is measured from.
    pub(super) bw: u64,
    /// BBR.full_bw_count: rounds without growth.
    count: u32,
    /// BBR.full_bw_now: the plateau was found in this search.
    pub(super) now: bool,
    /// BBR.full_bw_reached: it was found ever.
    pub(super) reached: bool,
    /// BBR.drain_start_round.
    drain_start: u64,
}

impl FullBw {
    /// ResetFullBW, and the search begins from the rate `bw`.
    pub(super) fn reset(&mut self, bw: u64) {
        self.bw = bw;
        self.count = 0;
        self.now = false;
    }
}

impl Bbr {
    /// EnterStartup.
    pub(super) fn enter_startup(&mut self) {
        self.state = State::Startup;
    }

    /// CheckFullBWReached. Any sample shows growth, and not only the one with which a round begins: where
    /// a path reorders, that is often of what overtook the rest, and no measure of a round.
    pub(super) fn check_full_bw_reached(&mut self, rs: &RateSample) {
        let full = &mut self.full_bw;
        if full.now || rs.app_limited {
            return;
        }
        let rate = rs.rate();
        if rate >= scale(full.bw, 125, 100) && rate > 0 {
            full.reset(rate);
            return;
        }
        if !self.round.start {
            return;
        }
        full.count += 1;
        full.now = full.count >= PLATEAU_ROUNDS;
        full.reached |= full.now;
    }

    /// CheckStartupDone.
    pub(super) fn check_startup_done(&mut self, rs: &RateSample) {
        if self.state == State::Startup {
            self.check_startup_high_loss(rs);
        }
        if self.state == State::Startup && self.full_bw.reached {
            self.enter_drain();
        }
    }

    /// CheckStartupHighLoss: once recovery has lasted for a round, and many ranges were lost in it.
    fn check_startup_high_loss(&mut self, rs: &RateSample) {
        let round_over = self.signals.loss_round_start;
        let many = self.signals.losses_in_round >= FULL_LOSSES || !self.signals.sack;
        let too_high = self.is_inflight_too_high(rs.lost, rs.tx_in_flight as u64);
        if round_over && self.in_recovery && many && too_high && self.is_congested() {
            self.startup_is_too_fast();
        }
        if round_over {
            self.signals.losses_in_round = 0;
        }
    }

    /// What was in flight was too much, and a safe bound is what was delivered in a round.
    pub(super) fn startup_is_too_fast(&mut self) {
        self.signals.undo.state = Some(State::Startup);
        self.full_bw.reached = true;
        let bdp = self.bdp_multiple(self.model.bw(), 100);
        self.model.inflight_longterm = bdp.max(self.signals.inflight_latest);
    }

    fn enter_drain(&mut self) {
        self.state = State::Drain;
        self.full_bw.drain_start = self.round.count;
    }

    /// CheckDrainDone.
    pub(super) fn check_drain_done(&mut self, ack: &AckSample) {
        if self.state != State::Drain {
            return;
        }
        let drained = ack.in_flight as u64 <= self.inflight(self.model.bw(), 100);
        if drained || self.round.count > self.full_bw.drain_start + DRAIN_ROUNDS {
            self.signals.held_back = self.delivered;
            self.start_probe_bw_down();
        }
    }
}
