//! What an acknowledgment delivers, as those see it who learn from it.

use super::Record;
use crate::tcp::compact::compact;
use crate::tcp::delivery_rate::Stamp;
use crate::tcp::seq::Seq;
use crate::time::{Duration, Instant};

/// A delivered transmission, as RACK and the RTT estimator look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp::recovery) struct Delivered {
    pub(in crate::tcp::recovery) sent_at: Instant,
    pub(in crate::tcp::recovery) end: Seq,
    pub(in crate::tcp::recovery) retransmitted: bool,
}

compact!(Delivered { sent_at, end, retransmitted });

/// What an acknowledgment did.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tcp::recovery) struct Progress {
    /// Bytes newly acknowledged or SACKed.
    pub(in crate::tcp::recovery) delivered: usize,
    /// Bytes newly acknowledged cumulatively.
    pub(in crate::tcp::recovery) acked: usize,
    /// Bytes newly SACKed.
    pub(in crate::tcp::recovery) sacked: usize,
    /// The most recently sent of what was delivered.
    pub(in crate::tcp::recovery) newest: Option<Delivered>,
    /// What RACK takes from it.
    pub(in crate::tcp::recovery) rack: RackSample,
    /// When that was sent, and what was delivered by then.
    pub(in crate::tcp::recovery) newest_stamp: Option<(Instant, Stamp)>,
    /// When the first and the last of what was acknowledged and sent only once were sent.
    pub(in crate::tcp::recovery) clean_acked: Option<(Instant, Instant)>,
    /// The same of what was SACKed.
    pub(in crate::tcp::recovery) clean_sacked: Option<(Instant, Instant)>,
    /// The lowest position of what was delivered and sent only once, and when that was: its original
    /// arrived.
    pub(in crate::tcp::recovery) lowest_original: Option<(Seq, Instant)>,
    /// Whether something that was sent more than once was acknowledged: what lies behind it may
    /// have waited for the repair, and its age is no round trip (Karn's rule as Linux applies it).
    pub(in crate::tcp::recovery) repaired: bool,
}

/// What of an acknowledgment RACK can use (RFC 8985 §6.2 step 2).
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tcp::recovery) struct RackSample {
    now: Instant,
    /// A retransmission that seems to have come back sooner is the original, come late.
    min_rtt: Duration,
    /// When the segment was sent that the timestamp's echo is of, to the clock's tick: a retransmission
    /// that left later is not what arrived.
    echo: Option<Instant>,
    /// The most recently sent.
    pub(in crate::tcp::recovery) newest: Option<Delivered>,
    /// Round-trip times of the last acknowledged and the last SACKed, in the order of sequence.
    acked_rtt: Option<Duration>,
    sacked_rtt: Option<Duration>,
}

impl RackSample {
    fn add(&mut self, delivered: Delivered, by: By) {
        let rtt = self.now - delivered.sent_at;
        let tick = Instant::from_millis(delivered.sent_at.as_millis());
        let original_came = rtt < self.min_rtt || self.echo.is_some_and(|echo| echo < tick);
        if delivered.retransmitted && original_came {
            return;
        }
        match by {
            By::Ack => self.acked_rtt = Some(rtt),
            By::Sack => self.sacked_rtt = Some(rtt),
        }
        if self.newest.is_none_or(|n| (n.sent_at, n.end) < (delivered.sent_at, delivered.end)) {
            self.newest = Some(delivered);
        }
    }

    /// RACK.rtt: as in Linux, and in the RFC's pseudocode, of what is looked at last, which is the last
    /// acknowledged. So a hole that was filled late gives what is still missing as much time.
    pub(in crate::tcp::recovery) fn rtt(&self) -> Option<Duration> {
        self.acked_rtt.or(self.sacked_rtt)
    }
}

/// How something was delivered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Ack,
    Sack,
}

impl Progress {
    /// For an acknowledgment that comes at `now` on a path whose smallest round-trip time is `min_rtt`,
    /// and echoes the timestamp of what was sent at `echo`.
    pub(in crate::tcp::recovery) fn new(now: Instant, min_rtt: Duration, echo: Option<Instant>) -> Self {
        Self { rack: RackSample { now, min_rtt, echo, ..RackSample::default() }, ..Self::default() }
    }

    /// The range from `start` on, described by `record`, is delivered.
    pub(super) fn saw(&mut self, start: Seq, record: &Record, by: By) {
        let delivered =
            Delivered { sent_at: record.sent_at, end: record.end, retransmitted: record.retransmissions > 0 };
        if self.newest.is_none_or(|n| (n.sent_at, n.end) < (delivered.sent_at, delivered.end)) {
            self.newest = Some(delivered);
            self.newest_stamp = Some((record.sent_at, record.stamp));
        }
        self.rack.add(delivered, by);
        if record.retransmissions > 0 {
            return;
        }
        let clean = if by == By::Ack { &mut self.clean_acked } else { &mut self.clean_sacked };
        let (first, last) = clean.get_or_insert((record.sent_at, record.sent_at));
        *first = (*first).min(record.sent_at);
        *last = (*last).max(record.sent_at);
        let original = (start, record.sent_at);
        self.lowest_original = Some(self.lowest_original.map_or(original, |lowest| lowest.min(original)));
    }
}
