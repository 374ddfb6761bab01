//! BBR's model of the path: the rate, and how much in flight it takes.

use super::filters::{CycleMax, WindowedMax, volume};
use super::{AckSample, Bbr, INFINITE, RateSample};
use crate::time::Instant;

/// BBR.ExtraAckedFilterLen in round trips.
const EXTRA_ACKED_ROUNDS: u64 = 10;

/// The model. Volumes are in bytes, rates in bytes a second.
#[derive(Debug)]
pub(super) struct Model {
    /// BBR.max_bw_filter.
    pub(super) max_bw: CycleMax,
    /// BBR.bw_shortterm: the rate that is safe while something is being lost.
    pub(super) bw_shortterm: u64,
    /// BBR.inflight_longterm: more than this was too much when bandwidth was last probed for.
    pub(super) inflight_longterm: u64,
    /// BBR.inflight_shortterm: what is safe in flight while something is being lost.
    pub(super) inflight_shortterm: u64,
    pub(super) aggregation: Aggregation,
}

impl Model {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            max_bw: CycleMax::default(),
            bw_shortterm: INFINITE,
            inflight_longterm: INFINITE,
            inflight_shortterm: INFINITE,
            aggregation: Aggregation::new(now),
        }
    }

    /// BBR.bw (BoundBWForModel).
    pub(super) fn bw(&self) -> u64 {
        self.max_bw.get().min(self.bw_shortterm)
    }

    /// ResetShortTermModel.
    pub(super) fn reset_short_term(&mut self) {
        self.bw_shortterm = INFINITE;
        self.inflight_shortterm = INFINITE;
    }
}

/// How much more than the rate explains is acknowledged at a time: paths, offloads and receivers
/// gather acknowledgments.
#[derive(Debug)]
pub(super) struct Aggregation {
    /// BBR.extra_acked_interval_start.
    start: Instant,
    /// BBR.extra_acked_delivered.
    delivered: u64,
    /// BBR.extra_acked_filter.
    filter: WindowedMax,
}

impl Aggregation {
    fn new(now: Instant) -> Self {
        Self { start: now, delivered: 0, filter: WindowedMax::default() }
    }

    /// Sending begins after a pause.
    pub(super) fn restart(&mut self, now: Instant) {
        self.start = now;
    }

    /// BBR.extra_acked.
    pub(super) fn extra(&self) -> u64 {
        self.filter.get()
    }
}

impl Bbr {
    /// UpdateMaxBw.
    pub(super) fn update_max_bw(&mut self, ack: &AckSample, rs: &RateSample) {
        self.update_round(ack, rs);
        let rate = rs.rate();
        // What the application limited says nothing, unless it is more than was thought possible.
        if rate > 0 && (rate >= self.model.max_bw.get() || !rs.app_limited) {
            self.model.max_bw.update(rate);
        }
    }

    /// UpdateACKAggregation.
    pub(super) fn update_ack_aggregation(&mut self, ack: &AckSample) {
        let bw = self.model.bw();
        let aggregation = &mut self.model.aggregation;
        let mut expected = volume(bw, ack.now - aggregation.start);
        if aggregation.delivered <= expected {
            // The burst of acknowledgments is over.
            aggregation.delivered = 0;
            aggregation.start = ack.now;
            expected = 0;
        }
        aggregation.delivered += ack.delivered as u64;
        let extra = (aggregation.delivered - expected.min(aggregation.delivered)).min(self.cwnd);
        let rounds = if self.full_bw.reached { EXTRA_ACKED_ROUNDS } else { 1 };
        aggregation.filter.update(rounds, self.round.count, extra);
    }
}
