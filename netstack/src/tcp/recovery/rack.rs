//! RACK: finding losses by time (RFC 8985).

use super::scoreboard::{Delivered, Scoreboard};
use crate::time::{Duration, Instant};

/// The variables of RFC 8985 §5.2.
#[derive(Debug, Default)]
pub(in crate::tcp) struct Rack {
    /// RACK.xmit_ts and RACK.end_seq: the most recently sent range that is known delivered.
    latest: Option<Delivered>,
    /// RACK.rtt: its round-trip time.
    rtt: Duration,
    /// Whether reordering was seen.
    reordering: bool,
}

impl Rack {
    /// Takes note of a delivered range (RFC 8985 §6.2 step 2).
    pub(in crate::tcp) fn on_delivered(&mut self, now: Instant, delivered: Delivered, min_rtt: Duration) {
        let rtt = now - delivered.sent_at;
        // A retransmission acknowledged in less than a round trip: the acknowledgment is for the
        // original, and says nothing of when it was sent.
        if delivered.retransmitted && rtt < min_rtt {
            return;
        }
        self.rtt = rtt;
        if self.latest.is_none_or(|l| (l.sent_at, l.end) < (delivered.sent_at, delivered.end)) {
            self.latest = Some(delivered);
        }
    }

    /// Reordering was seen: what is late may still come.
    pub(in crate::tcp) fn on_reordering(&mut self) {
        self.reordering = true;
    }

    /// RACK.reo_wnd (RFC 8985 §6.2 step 4): no tolerance while reordering was never seen and either
    /// recovery is on or three segments are SACKed; a quarter of the smallest round trip otherwise.
    fn reordering_window(&self, eager: bool, min_rtt: Duration, srtt: Duration) -> Duration {
        if !self.reordering && eager { Duration::ZERO } else { (min_rtt / 4).min(srtt) }
    }

    /// Marks what is lost. Returns the number of bytes, and when to look again.
    pub(in crate::tcp) fn detect(
        &self,
        now: Instant,
        board: &mut Scoreboard,
        eager: bool,
        min_rtt: Duration,
        srtt: Duration,
    ) -> (usize, Option<Instant>) {
        let Some(latest) = self.latest else { return (0, None) };
        let window = self.rtt + self.reordering_window(eager, min_rtt, srtt);
        board.mark_lost_before(now, latest, window)
    }

    /// How long a range may be out when the retransmission timer expires and not count as lost.
    pub(in crate::tcp) fn patience(&self) -> Duration {
        self.rtt
    }
}
