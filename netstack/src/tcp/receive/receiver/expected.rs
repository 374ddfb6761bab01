//! The text that is expected: the next in order, with nothing queued behind it.

use super::{Echo, Receiver};
use crate::buffer::Chunk;
use crate::tcp::seq::Seq;
use crate::time::{Duration, Instant};

impl Receiver {
    /// Whether `len` bytes at `seq` are the next in order and in the window, and nothing is to be considered but that.
    #[inline]
    pub(in crate::tcp) fn expects(&self, seq: Seq, len: usize) -> bool {
        self.is_next(seq, len) && !self.space.is_pressed()
    }

    /// Takes text that it [expects](Self::expects), and decides when to acknowledge it. The rest of what comes with
    /// it was told before. What is left of the chunk is its buffer, if the text was copied.
    #[inline]
    pub(in crate::tcp) fn on_expected_text(
        &mut self,
        now: Instant,
        chunk: &mut Chunk,
        srtt: Option<Duration>,
        rto: impl FnOnce() -> Duration,
    ) {
        self.accept(chunk);
        self.tuning.on_data(now, self.rcv_nxt, self.right_edge);
        self.ack.on_data(now, rto, self.wnd(), self.rcv_mss);
        let full = self.full_segments_unacked();
        self.ack.schedule(now, full, srtt);
    }

    /// Whether a segment with `len` bytes of text that echoes `tsecr` is one to measure by.
    #[inline]
    pub(in crate::tcp) fn wants_echo(&self, len: usize, tsecr: u32) -> bool {
        len >= self.rcv_mss && self.tuning.wants_echo(tsecr)
    }

    /// A segment with `len` bytes of text echoed a timestamp.
    pub(in crate::tcp) fn on_echo(&mut self, len: usize, echo: Echo) {
        if len >= self.rcv_mss {
            self.tuning.on_echo(echo.tsecr, echo.rtt);
        }
    }
}
