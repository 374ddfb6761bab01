//! ProbeBW, the steady state: a cycle of sending less, sending what fits, and probing for more.

use super::filters::scale;
use super::{AckSample, Bbr, INFINITE, RateSample, State};
use crate::time::{Duration, Instant};

/// BBR.Headroom in percent: what is left free of the bound at long term.
const HEADROOM: u64 = 15;

/// Rounds after which to probe at the latest, so that flows of Reno and CUBIC find time to grow.
const RENO_ROUNDS: u64 = 63;

/// The clock time between probes: this, and up to [`PROBE_WAIT_SPREAD`] more by chance, so that flows
/// do not probe together.
const PROBE_WAIT: Duration = Duration::from_secs(2);
const PROBE_WAIT_SPREAD: Duration = Duration::from_secs(1);

/// Doublings of the slope of the bound in one probe at most.
const MAX_UP_ROUNDS: u32 = 30;

/// BBR.ack_phase: which part of a probe for bandwidth is being acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckPhase {
    Init,
    Refilling,
    ProbeStarting,
    ProbeFeedback,
    ProbeStopping,
}

/// The state of the cycle.
#[derive(Debug)]
pub(super) struct Probing {
    pub(super) ack_phase: AckPhase,
    /// BBR.is_bw_probe_sample: acknowledgments are of what was sent while probing.
    pub(super) is_sample: bool,
    /// BBR.bw_probe_up_acked in bytes.
    up_acked: u64,
    /// BBR.probe_up_acked_per_inc in bytes.
    acked_per_increment: u64,
    /// BBR.bw_probe_up_rounds.
    up_rounds: u32,
    pub(super) rounds_since_probe_up: u64,
    /// BBR.bw_probe_wait.
    wait: Duration,
    cycle_stamp: Instant,
    /// BBR.prev_probe_too_high.
    pub(super) too_high: bool,
    /// BBR.prev_probe_precautionary.
    precautionary: bool,
    /// The state of the generator that spreads probes over time.
    random: u64,
}

impl Probing {
    pub(super) fn new(now: Instant, seed: u64) -> Self {
        Self {
            ack_phase: AckPhase::Init,
            is_sample: false,
            up_acked: 0,
            acked_per_increment: INFINITE,
            up_rounds: 0,
            rounds_since_probe_up: 0,
            wait: PROBE_WAIT,
            cycle_stamp: now,
            too_high: false,
            precautionary: false,
            random: seed,
        }
    }

    /// A number below `bound`: a step of SplitMix64.
    pub(super) fn random_below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

impl Bbr {
    /// StartProbeBW_DOWN; also EnterProbeBW.
    pub(super) fn start_probe_bw_down(&mut self) {
        self.signals.reset();
        self.probing.acked_per_increment = INFINITE;
        self.pick_probe_wait();
        self.probing.cycle_stamp = self.now;
        self.probing.ack_phase = AckPhase::ProbeStopping;
        self.start_round();
        self.state = State::ProbeBwDown;
    }

    /// StartProbeBW_CRUISE.
    pub(super) fn start_probe_bw_cruise(&mut self) {
        self.state = State::ProbeBwCruise;
    }

    /// StartProbeBW_REFILL.
    pub(super) fn start_probe_bw_refill(&mut self) {
        self.model.reset_short_term();
        self.probing.up_rounds = 0;
        self.probing.up_acked = 0;
        self.probing.precautionary = false;
        self.probing.ack_phase = AckPhase::Refilling;
        self.start_round();
        self.state = State::ProbeBwRefill;
    }

    /// StartProbeBW_UP.
    fn start_probe_bw_up(&mut self, rs: &RateSample) {
        self.probing.ack_phase = AckPhase::ProbeStarting;
        self.start_round();
        self.full_bw.reset(rs.rate());
        self.state = State::ProbeBwUp;
        self.raise_inflight_longterm_slope();
    }

    /// PickProbeWait.
    fn pick_probe_wait(&mut self) {
        self.probing.rounds_since_probe_up = self.probing.random_below(2);
        let spread = self.probing.random_below(PROBE_WAIT_SPREAD.as_nanos() as u64);
        self.probing.wait = PROBE_WAIT + Duration::from_nanos(spread);
    }

    /// UpdateProbeBWCyclePhase.
    pub(super) fn update_probe_bw_cycle_phase(&mut self, ack: &AckSample, rs: &RateSample) {
        if !self.full_bw.reached || self.adapt_long_term_model(ack, rs) {
            return;
        }
        match self.state {
            State::ProbeBwDown => {
                if !self.probe_if_it_is_time() && self.is_time_to_cruise(ack) {
                    self.start_probe_bw_cruise();
                }
            }
            State::ProbeBwCruise => {
                self.probe_if_it_is_time();
            }
            State::ProbeBwRefill => {
                // After one round that filled the path.
                if self.round.start {
                    self.probing.is_sample = true;
                    self.start_probe_bw_up(rs);
                }
            }
            State::ProbeBwUp => {
                if self.is_time_to_go_down(ack, rs) {
                    self.probing.too_high = false;
                    self.start_probe_bw_down();
                }
            }
            State::Startup | State::Drain | State::ProbeRtt => {}
        }
    }

    /// IsTimeToProbeBW.
    fn probe_if_it_is_time(&mut self) -> bool {
        let waited = self.now > self.probing.cycle_stamp + self.probing.wait;
        let reno_rounds = (self.target_inflight() / self.mss).min(RENO_ROUNDS);
        let due = waited || self.probing.rounds_since_probe_up >= reno_rounds;
        if due {
            self.start_probe_bw_refill();
        }
        due
    }

    /// IsTimeToCruise.
    fn is_time_to_cruise(&self, ack: &AckSample) -> bool {
        let in_flight = ack.in_flight as u64;
        in_flight <= self.inflight_with_headroom() && in_flight <= self.inflight(self.model.max_bw.get(), 100)
    }

    /// IsTimeToGoDown.
    fn is_time_to_go_down(&mut self, ack: &AckSample, rs: &RateSample) -> bool {
        if self.probing.too_high && ack.in_flight as u64 >= self.model.inflight_longterm {
            // The last probe was too high: stop here for a moment, and look at what it did.
            self.probing.precautionary = true;
            return true;
        }
        if ack.cwnd_limited && self.cwnd >= self.model.inflight_longterm {
            // The bound and not the path is the limit: growth is looked for from here on.
            self.full_bw.reset(rs.rate());
            return false;
        }
        self.full_bw.now
    }

    /// TargetInflight.
    pub(super) fn target_inflight(&self) -> u64 {
        self.bdp_multiple(self.model.bw(), 100).min(self.cwnd)
    }

    /// InflightWithHeadroom.
    pub(super) fn inflight_with_headroom(&self) -> u64 {
        let bound = self.model.inflight_longterm;
        if bound == INFINITE {
            return INFINITE;
        }
        let headroom = scale(bound, HEADROOM, 100).max(self.mss);
        bound.saturating_sub(headroom).max(self.min_pipe_cwnd())
    }

    /// RaiseInflightLongtermSlope: twice as fast in each round of a probe.
    fn raise_inflight_longterm_slope(&mut self) {
        let growth = 1u64 << self.probing.up_rounds;
        self.probing.up_rounds = (self.probing.up_rounds + 1).min(MAX_UP_ROUNDS);
        self.probing.acked_per_increment = (self.cwnd / growth).max(self.mss);
    }

    /// ProbeInflightLongtermUpward.
    fn probe_inflight_longterm_upward(&mut self, ack: &AckSample) {
        if !ack.cwnd_limited || self.cwnd < self.model.inflight_longterm {
            return;
        }
        self.probing.up_acked += ack.delivered as u64;
        let increments = self.probing.up_acked / self.probing.acked_per_increment;
        self.probing.up_acked %= self.probing.acked_per_increment;
        self.model.inflight_longterm = self.model.inflight_longterm.saturating_add(increments * self.mss);
        if self.round.start {
            self.raise_inflight_longterm_slope();
        }
    }

    /// AdaptLongTermModel. Says whether it changed the state.
    fn adapt_long_term_model(&mut self, ack: &AckSample, rs: &RateSample) -> bool {
        if self.probing.ack_phase == AckPhase::ProbeStarting && self.round.start {
            self.probing.ack_phase = AckPhase::ProbeFeedback;
        }
        if self.probing.ack_phase == AckPhase::ProbeStopping && self.round.start {
            // The last samples of the probe are in.
            self.probing.is_sample = false;
            self.probing.ack_phase = AckPhase::Init;
            if self.state.is_probe_bw() {
                if !rs.app_limited {
                    self.model.max_bw.advance();
                }
                if self.probing.precautionary && !self.probing.too_high {
                    // What was tried with precaution did no harm: go on.
                    self.start_probe_bw_refill();
                    return true;
                }
            }
        }
        if !self.is_inflight_too_high(rs.lost, rs.tx_in_flight as u64)
            && self.model.inflight_longterm != INFINITE
        {
            self.model.inflight_longterm = self.model.inflight_longterm.max(rs.tx_in_flight as u64);
            if self.state == State::ProbeBwUp {
                self.probe_inflight_longterm_upward(ack);
            }
        }
        false
    }
}
