//! BBR version 3 (draft-ietf-ccwg-bbr).
//!
//! BBR does not wait for losses to learn what the path takes. It measures the rate at which data is
//! delivered and the smallest round trip, sends at that rate, and keeps about their product in flight.
//! From time to time it probes for more, and for a shorter round trip:
//!
//! ```text
//! Startup -> Drain -> ProbeBW: DOWN -> CRUISE -> REFILL -> UP -> DOWN ...
//!                     and from anywhere ProbeRTT, for 200 ms every 5 s
//! ```
//!
//! Losses bound the model: at long term (`inflight_longterm`) what was too much while it probed, at
//! short term (`bw_shortterm`, `inflight_shortterm`) what is delivered while something is being lost.
//! Names are the draft's. All arithmetic is on integers, rates are in bytes a second, and the only
//! randomness is the seed that the controller is given.
//!
//! Files: the model of the path is in `model.rs`, its maxima in `filters.rs`, what is measured of
//! congestion in `signals.rs` and the response to it in `response.rs`, the states in `startup.rs`,
//! `probe_bw.rs` and `probe_rtt.rs`; what leads from the model to the window and the pacing rate is here.

mod filters;
mod model;
mod probe_bw;
mod probe_rtt;
mod response;
mod signals;
mod startup;
#[cfg(test)]
mod tests;

use super::{AckSample, CongestionControl, CongestionStart};
use crate::tcp::{LossSample, RateSample};
use crate::time::{Duration, Instant};
use filters::{scale, volume};
use model::Model;
use probe_bw::Probing;
use probe_rtt::MinRtt;
use signals::{Signals, Undo};
use startup::FullBw;

/// No bound.
const INFINITE: u64 = u64::MAX;

/// BBR.MinPipeCwnd in segments: two on the way and acknowledgments of two.
const MIN_PIPE_SEGMENTS: u64 = 4;

/// 100 - BBR.PacingMarginPercent.
const PACING_MARGIN: u64 = 99;

/// C.send_quantum is what leaves in this time, at most [`MAX_QUANTUM`] and at least two segments.
const QUANTUM: Duration = Duration::from_millis(1);
const MAX_QUANTUM: u64 = 64 * 1024;

/// BBR.state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Startup,
    Drain,
    ProbeBwDown,
    ProbeBwCruise,
    ProbeBwRefill,
    ProbeBwUp,
    ProbeRtt,
}

impl State {
    /// BBR.pacing_gain in percent.
    fn pacing_gain(self) -> u64 {
        match self {
            // 4 ln 2: the least that doubles the rate of sending in a round trip.
            Self::Startup => 277,
            Self::Drain => 50,
            Self::ProbeBwDown => 90,
            Self::ProbeBwCruise | Self::ProbeBwRefill | Self::ProbeRtt => 100,
            Self::ProbeBwUp => 125,
        }
    }

    /// BBR.cwnd_gain in percent.
    fn cwnd_gain(self) -> u64 {
        match self {
            Self::ProbeBwUp => 225,
            Self::ProbeRtt => 50,
            _ => 200,
        }
    }

    /// IsInAProbeBWState.
    fn is_probe_bw(self) -> bool {
        matches!(self, Self::ProbeBwDown | Self::ProbeBwCruise | Self::ProbeBwRefill | Self::ProbeBwUp)
    }

    /// IsProbingBW: the states that look for more bandwidth.
    fn is_probing(self) -> bool {
        matches!(self, Self::Startup | Self::ProbeBwRefill | Self::ProbeBwUp)
    }
}

/// Packet-timed round trips: each ends when something is acknowledged that was sent after it began.
#[derive(Debug, Default)]
struct Round {
    /// BBR.round_count.
    count: u64,
    /// BBR.round_start: this acknowledgment began a round.
    start: bool,
    /// BBR.next_round_delivered.
    next_delivered: u64,
    /// When it began.
    began: Instant,
}

/// Whether what began at `began` has lasted for about a round trip. On a path that reorders, what
/// overtakes the rest ends the draft's rounds early: three of them without growth are then less than
/// the two round trips in which growth would show, and Startup and probes end for nothing.
fn is_round_trip(began: Instant, ack: &AckSample) -> bool {
    ack.now - began >= ack.srtt / 4 * 3
}

/// BBR's state. Volumes are in bytes.
#[derive(Debug)]
pub(super) struct Bbr {
    state: State,
    cwnd: u64,
    /// BBR.prior_cwnd: the window before recovery or ProbeRTT.
    prior_cwnd: u64,
    initial_cwnd: u64,
    mss: u64,
    /// C.pacing_rate in bytes a second.
    pacing_rate: u64,
    /// Whether a round trip was known when the pacing rate was last made up.
    rate_from_rtt: bool,
    /// InLossRecovery.
    in_recovery: bool,
    /// The time, and C.delivered, of the last event.
    now: Instant,
    delivered: u64,
    round: Round,
    model: Model,
    signals: Signals,
    full_bw: FullBw,
    probing: Probing,
    min_rtt: MinRtt,
}

impl Bbr {
    /// OnInit.
    pub(super) fn new(start: &CongestionStart) -> Self {
        let mut bbr = Self {
            state: State::Startup,
            cwnd: start.cwnd as u64,
            prior_cwnd: 0,
            initial_cwnd: start.cwnd as u64,
            mss: start.mss as u64,
            pacing_rate: 0,
            rate_from_rtt: false,
            in_recovery: false,
            now: start.now,
            delivered: 0,
            round: Round::default(),
            model: Model::new(start.now),
            signals: Signals::new(start.sack),
            full_bw: FullBw::default(),
            probing: Probing::new(start.now, start.seed),
            min_rtt: MinRtt::new(start.now, start.srtt),
        };
        bbr.init_pacing_rate(start.srtt);
        bbr
    }

    /// InitPacingRate: without a measurement, the initial window in a round trip, or in a millisecond
    /// if that is not known either.
    fn init_pacing_rate(&mut self, srtt: Duration) {
        self.rate_from_rtt = !srtt.is_zero();
        let rtt = if self.rate_from_rtt { srtt } else { Duration::from_millis(1) };
        let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
        let nominal = scale(self.initial_cwnd, 1_000_000_000, nanos);
        self.pacing_rate = scale(nominal, State::Startup.pacing_gain(), 100);
    }

    /// UpdateModelAndState, with the rate sample of an acknowledgment of data.
    fn update_model(&mut self, ack: &AckSample, rs: &RateSample) {
        self.update_latest_delivery_signals(ack, rs);
        self.update_congestion_signals(ack, rs);
        self.update_ack_aggregation(ack);
        self.check_full_bw_reached(rs);
        self.check_startup_done(rs);
        self.check_drain_done(ack);
        self.update_probe_bw_cycle_phase(ack, rs);
    }

    /// UpdateRound.
    fn update_round(&mut self, ack: &AckSample, rs: &RateSample) {
        self.round.start =
            rs.prior_delivered >= self.round.next_delivered && is_round_trip(self.round.began, ack);
        if self.round.start {
            self.start_round();
            self.round.count += 1;
            self.probing.rounds_since_probe_up += 1;
        }
    }

    /// StartRound.
    fn start_round(&mut self) {
        self.round.next_delivered = self.delivered;
        self.round.began = self.now;
    }

    /// BBR.min_pipe_cwnd in bytes.
    fn min_pipe_cwnd(&self) -> u64 {
        MIN_PIPE_SEGMENTS * self.mss
    }

    /// BDPMultiple, of the rate `bw`, with a gain in percent.
    fn bdp_multiple(&self, bw: u64, gain: u64) -> u64 {
        match self.min_rtt.min_rtt() {
            Some(min_rtt) => scale(volume(bw, min_rtt), gain, 100),
            None => self.initial_cwnd,
        }
    }

    /// QuantizationBudget: room for what offloads, delayed acknowledgments and small paths need.
    fn quantization_budget(&self, inflight: u64) -> u64 {
        let offload_budget = 3 * self.send_quantum();
        let cap = inflight.max(offload_budget).max(self.min_pipe_cwnd());
        if self.state == State::ProbeBwUp { cap.saturating_add(2 * self.mss) } else { cap }
    }

    /// Inflight: what fills the path at the rate `bw` times a gain in percent.
    fn inflight(&self, bw: u64, gain: u64) -> u64 {
        self.quantization_budget(self.bdp_multiple(bw, gain))
    }

    /// SetSendQuantum.
    fn send_quantum(&self) -> u64 {
        volume(self.pacing_rate, QUANTUM).min(MAX_QUANTUM).max(2 * self.mss)
    }

    /// SetPacingRateWithGain: before the path was ever full the rate only rises, since a lower one may
    /// only say that the application had little to send.
    fn set_pacing_rate_with_gain(&mut self, gain: u64) {
        let rate = scale(self.model.bw(), gain * PACING_MARGIN, 100 * 100);
        if self.full_bw.reached || rate > self.pacing_rate {
            // A rate of zero would never learn better.
            self.pacing_rate = rate.max(self.mss);
        }
    }

    /// SetCwnd.
    fn set_window(&mut self, ack: &AckSample) {
        let acked = ack.delivered as u64;
        let target = self.bdp_multiple(self.model.bw(), self.state.cwnd_gain());
        let max_inflight = self.quantization_budget(target.saturating_add(self.model.aggregation.extra()));
        if self.full_bw.reached {
            self.cwnd = (self.cwnd + acked).min(max_inflight);
        } else if self.cwnd < max_inflight || self.delivered < self.initial_cwnd {
            self.cwnd += acked;
        }
        self.cwnd = self.cwnd.max(self.min_pipe_cwnd());
        if self.state == State::ProbeRtt {
            self.cwnd = self.cwnd.min(self.probe_rtt_cwnd());
        }
        self.bound_cwnd_for_model();
    }

    /// BoundCwndForModel.
    fn bound_cwnd_for_model(&mut self) {
        let cap = match self.state {
            State::ProbeBwCruise | State::ProbeRtt => self.inflight_with_headroom(),
            state if state.is_probe_bw() => self.model.inflight_longterm,
            _ => INFINITE,
        };
        let cap = cap.min(self.model.inflight_shortterm).max(self.min_pipe_cwnd());
        self.cwnd = self.cwnd.min(cap);
    }

    /// SaveCwnd: the window that neither recovery nor ProbeRTT has touched.
    fn save_cwnd(&mut self) {
        let untouched = !self.in_recovery && self.state != State::ProbeRtt;
        self.prior_cwnd = if untouched { self.cwnd } else { self.prior_cwnd.max(self.cwnd) };
    }

    /// RestoreCwnd.
    fn restore_cwnd(&mut self) {
        self.cwnd = self.cwnd.max(self.prior_cwnd);
    }
}

impl CongestionControl for Bbr {
    fn cwnd(&self) -> usize {
        usize::try_from(self.cwnd).unwrap_or(usize::MAX)
    }

    fn ssthresh(&self) -> usize {
        usize::MAX
    }

    /// OnTransmit.
    fn on_send(&mut self, now: Instant, in_flight: usize, app_limited: bool) {
        self.now = now;
        if in_flight > 0 || !app_limited {
            return;
        }
        // HandleRestartFromIdle
        self.min_rtt.idle_restart = true;
        self.model.aggregation.restart(now);
        if self.state.is_probe_bw() {
            self.set_pacing_rate_with_gain(100);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done();
        }
    }

    /// UpdateOnACK.
    fn on_ack(&mut self, ack: &AckSample) {
        self.now = ack.now;
        self.delivered = ack.total_delivered;
        if !self.rate_from_rtt && !ack.srtt.is_zero() {
            self.init_pacing_rate(ack.srtt);
        }
        self.round.start = false;
        self.forgive(ack.duplicates);
        if let Some(rs) = &ack.rate {
            self.update_model(ack, rs);
        }
        self.update_min_rtt(ack);
        self.check_probe_rtt(ack);
        if let Some(rs) = &ack.rate {
            self.advance_latest_delivery_signals(rs);
        }
        self.set_pacing_rate_with_gain(self.state.pacing_gain());
        self.set_window(ack);
    }

    /// HandleLostPacket.
    fn on_loss(&mut self, now: Instant, loss: &LossSample) {
        self.now = now;
        self.delivered = loss.delivered;
        self.handle_lost(loss);
    }

    fn on_ecn(&mut self, now: Instant) {
        self.now = now;
        self.handle_ecn();
    }

    /// OnEnterFastRecovery.
    fn on_congestion(&mut self, now: Instant) {
        self.now = now;
        self.save_cwnd();
        self.save_state_upon_loss();
        self.in_recovery = true;
    }

    /// OnEnterRTO. The caller sets the window to what is in flight and one segment.
    fn on_timeout(&mut self, now: Instant, _first: bool) {
        self.on_congestion(now);
    }

    fn on_recovered(&mut self) {
        self.signals.undo = Undo::default();
        if std::mem::take(&mut self.in_recovery) {
            self.restore_cwnd();
        }
    }

    fn on_undo(&mut self) {
        self.in_recovery = false;
        self.handle_spurious_loss();
    }

    fn controls_window(&self) -> bool {
        true
    }

    fn holds_back(&self) -> bool {
        self.state == State::ProbeRtt
    }

    fn set_cwnd(&mut self, bytes: usize) {
        self.cwnd = (bytes as u64).max(self.mss);
    }

    /// The model knows the path; a pause does not change it.
    fn on_idle(&mut self, _idle: Duration, _rto: Duration, _restart_window: usize) {}

    fn on_unused(&mut self, _used: usize) {}

    fn on_mss_change(&mut self, mss: usize) {
        self.mss = mss as u64;
        self.cwnd = self.cwnd.max(self.mss);
    }

    fn pacing_rate(&self) -> Option<u64> {
        Some(self.pacing_rate)
    }
}
