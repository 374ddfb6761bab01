//! The smallest round trip, and ProbeRTT, which empties the path for a moment to see it.

use super::probe_bw::AckPhase;
use super::{AckSample, Bbr, State};
use crate::tcp::congestion::reordering_onset::ReorderingOnset;
use crate::time::{Duration, Instant};

/// BBR.MinRTTFilterLen.
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);

/// BBR.ProbeRTTInterval.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// BBR.ProbeRTTDuration.
const PROBE_DURATION: Duration = Duration::from_millis(200);

/// The filter and the schedule of ProbeRTT.
#[derive(Debug)]
pub(super) struct MinRtt {
    /// BBR.min_rtt, with the time of its sample.
    min_rtt: Option<Duration>,
    stamp: Instant,
    /// BBR.probe_rtt_min_delay: the smallest of the last [`PROBE_INTERVAL`], with its time.
    probe_min: Option<Duration>,
    probe_stamp: Instant,
    /// BBR.probe_rtt_expired.
    expired: bool,
    /// BBR.probe_rtt_done_stamp.
    done_stamp: Option<Instant>,
    /// BBR.probe_rtt_round_done.
    round_done: bool,
    reordering: ReorderingOnset,
    /// BBR.idle_restart.
    pub(super) idle_restart: bool,
}

impl MinRtt {
    pub(super) fn new(now: Instant, srtt: Duration) -> Self {
        Self {
            min_rtt: (!srtt.is_zero()).then_some(srtt),
            stamp: now,
            probe_min: None,
            probe_stamp: now,
            expired: false,
            done_stamp: None,
            round_done: false,
            reordering: ReorderingOnset::default(),
            idle_restart: false,
        }
    }

    /// BBR.min_rtt; none before the first sample.
    pub(super) fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt
    }
}

impl Bbr {
    /// UpdateMinRTT.
    pub(super) fn update_min_rtt(&mut self, ack: &AckSample) {
        let filter = &mut self.min_rtt;
        if filter.reordering.begins(ack) {
            filter.min_rtt = Some(ack.srtt);
            filter.probe_min = filter.min_rtt;
        }
        filter.expired = ack.now > filter.probe_stamp + PROBE_INTERVAL;
        if let Some(rtt) = ack.rtt
            && (filter.expired || filter.probe_min.is_none_or(|min| rtt < min))
        {
            filter.probe_min = Some(rtt);
            filter.probe_stamp = ack.now;
        }
        let min_rtt_expired = ack.now > filter.stamp + MIN_RTT_WINDOW;
        if let Some(least) = filter.probe_min
            && (min_rtt_expired || filter.min_rtt.is_none_or(|min| least < min))
        {
            filter.min_rtt = Some(least);
            filter.stamp = filter.probe_stamp;
        }
    }

    /// CheckProbeRTT.
    pub(super) fn check_probe_rtt(&mut self, ack: &AckSample) {
        if self.state != State::ProbeRtt && self.min_rtt.expired && !self.min_rtt.idle_restart {
            self.save_cwnd();
            self.state = State::ProbeRtt;
            self.min_rtt.done_stamp = None;
            if self.probing.ack_phase == AckPhase::ProbeFeedback {
                // The probe that is broken off here has measured the path, so it counts as a cycle.
                // In the draft none does as long as ProbeRTT comes before the end of each, and
                // where a link with a long queue becomes much slower, that is for ever.
                self.model.max_bw.advance();
            }
            self.probing.ack_phase = AckPhase::ProbeStopping;
            self.start_round();
        }
        if self.state == State::ProbeRtt {
            self.handle_probe_rtt(ack);
        }
        if ack.delivered > 0 {
            self.min_rtt.idle_restart = false;
        }
    }

    /// HandleProbeRTT. That samples are marked as limited is the caller's part
    /// ([`CongestionControl::holds_back`](super::CongestionControl::holds_back)).
    fn handle_probe_rtt(&mut self, ack: &AckSample) {
        if self.min_rtt.done_stamp.is_none() {
            if ack.in_flight as u64 <= self.probe_rtt_cwnd() {
                self.min_rtt.done_stamp = Some(ack.now + PROBE_DURATION);
                self.min_rtt.round_done = false;
                self.start_round();
            }
            return;
        }
        self.min_rtt.round_done |= self.round.start;
        if self.min_rtt.round_done {
            self.check_probe_rtt_done();
        }
    }

    /// CheckProbeRTTDone.
    pub(super) fn check_probe_rtt_done(&mut self) {
        if self.min_rtt.done_stamp.is_some_and(|done| self.now > done) {
            // The next one is due an interval from now.
            self.min_rtt.probe_stamp = self.now;
            self.restore_cwnd();
            self.exit_probe_rtt();
        }
    }

    /// ExitProbeRTT.
    fn exit_probe_rtt(&mut self) {
        self.model.reset_short_term();
        self.signals.held_back = self.delivered;
        if self.full_bw.reached {
            self.start_probe_bw_down();
            self.start_probe_bw_cruise();
        } else {
            self.enter_startup();
        }
    }

    /// ProbeRTTCwnd.
    pub(super) fn probe_rtt_cwnd(&self) -> u64 {
        self.bdp_multiple(self.model.bw(), State::ProbeRtt.cwnd_gain()).max(self.min_pipe_cwnd())
    }
}
