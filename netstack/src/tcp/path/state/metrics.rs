//! What a connection leaves behind for the next one on the same path.

use super::PathState;
use crate::tcp::path::known::PathMetrics;
use crate::tcp::recovery::CongestionState;

impl PathState {
    /// What to remember of the path when a connection ends in order, with segments of `mss` bytes and
    /// in this `state`, `known` being what earlier ones left (`tcp_update_metrics` in Linux).
    pub(in crate::tcp) fn metrics(
        &self,
        known: PathMetrics,
        mss: usize,
        state: CongestionState,
    ) -> PathMetrics {
        let Some(srtt) = self.rtt.srtt().filter(|_| self.rtt.backoff() == 0) else {
            // It ended without a measurement, or while nothing came back: what was known may be why.
            return PathMetrics { rtt: None, ..known };
        };
        // A longer round trip counts at once, so that the next connection's first time-out is long
        // enough; a shorter one moves the memory by an eighth of the difference.
        let old = known.rtt.unwrap_or_default();
        let rtt = if srtt >= old { srtt } else { old - (old - srtt) / 8 };
        let deviation = (old.abs_diff(srtt) / 2).max(self.rtt.rttvar());
        let old_var = known.rttvar.unwrap_or_default();
        let rttvar = if deviation >= old_var { deviation } else { old_var - (old_var - deviation) / 4 };
        let segments = |bytes: usize| u32::try_from(bytes / mss.max(1)).unwrap_or(u32::MAX);
        let (cwnd, ssthresh) = (segments(self.cc.cwnd()), self.cc.ssthresh());
        let saves = !self.config.no_ssthresh_metrics_save;
        let mut metrics = PathMetrics { rtt: Some(rtt), rttvar: Some(rttvar), ..known };
        if ssthresh == usize::MAX {
            // Still in its first slow start: all that is known is that so much went well.
            metrics.cwnd = Some(known.cwnd.unwrap_or(0).max(cwnd));
            metrics.ssthresh = known.ssthresh.map(|old| old.max(cwnd / 2));
        } else if self.cc.cwnd() >= ssthresh && state == CongestionState::Open {
            // In congestion avoidance the window is what the path carries.
            metrics.cwnd = Some(known.cwnd.map_or(cwnd, |old| old.midpoint(cwnd)));
            metrics.ssthresh = Some(segments(ssthresh).max(cwnd / 2));
        } else {
            // The window is on its way somewhere; the threshold says where.
            let ssthresh = segments(ssthresh);
            metrics.cwnd = Some(known.cwnd.map_or(ssthresh, |old| old.midpoint(ssthresh)));
            metrics.ssthresh = known.ssthresh.map(|old| old.max(ssthresh));
        }
        metrics.ssthresh = metrics.ssthresh.filter(|_| saves);
        metrics
    }
}
