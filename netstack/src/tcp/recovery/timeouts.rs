//! Time-outs in a row, and how long the peer has been sent to again without acknowledging anything.

use crate::tcp::compact::compact;
use crate::time::Instant;

/// A series of time-outs: it ends with whatever the peer acknowledges.
#[derive(Debug, Default)]
pub(super) struct Timeouts {
    /// Expirations of the retransmission timer in a row.
    count: u32,
    /// When the first retransmission left since the peer last acknowledged something (`retrans_stamp`
    /// in Linux).
    retrans_stamp: Option<Instant>,
}

compact!(Timeouts { count, retrans_stamp });

impl Timeouts {
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn retrans_stamp(&self) -> Option<Instant> {
        self.retrans_stamp
    }

    /// The timer expired.
    pub(super) fn on_timeout(&mut self) {
        self.count += 1;
    }

    /// Something is sent again.
    pub(super) fn on_retransmitted(&mut self, now: Instant) {
        self.retrans_stamp.get_or_insert(now);
    }

    /// The peer acknowledged something. What is given up is a peer that acknowledges nothing: each
    /// progress begins the time anew, however long the repair of all that was lost takes.
    pub(super) fn on_progress(&mut self) {
        *self = Self::default();
    }

    /// The time-outs were spurious.
    pub(super) fn on_undo(&mut self) {
        self.count = 0;
    }
}
