//! Reading, and the room that it makes.

use super::Receiver;
use crate::buffer::Chunk;
use crate::tcp::receive::ack::Due;
use crate::tcp::seq::Seq;
use crate::time::Instant;
use std::io::IoSliceMut;

impl Receiver {
    /// Bytes that can be read.
    pub(in crate::tcp) fn unread(&self) -> usize {
        self.buffer.len()
    }

    /// Moves received bytes into `bufs`, filled in order, and returns how many. `expects_more` says that
    /// the peer may send more.
    pub(in crate::tcp) fn read(
        &mut self,
        now: Instant,
        bufs: &mut [IoSliceMut<'_>],
        expects_more: bool,
    ) -> usize {
        let n = self.buffer.read(bufs);
        self.after_read(now, n, expects_more);
        n
    }

    /// Copies received bytes into `bufs` and leaves them queued.
    pub(in crate::tcp) fn peek(&self, bufs: &mut [IoSliceMut<'_>]) -> usize {
        self.buffer.peek(bufs)
    }

    /// Takes the first chunk whole, as [`Receiver::read`] does.
    pub(in crate::tcp) fn read_chunk(&mut self, now: Instant, expects_more: bool) -> Option<Chunk> {
        let chunk = self.buffer.pop_chunk()?;
        self.after_read(now, chunk.len(), expects_more);
        Some(chunk)
    }

    /// Bytes that the reader took in the busiest round trip (`rcv_space` of `TCP_INFO`).
    pub(in crate::tcp) fn space(&self) -> usize {
        self.tuning.space()
    }

    /// Reading makes room: the peer must be notified, and an acknowledgment that waited for the user
    /// to answer need wait no longer once all was read (Linux's `tcp_cleanup_rbuf`).
    fn after_read(&mut self, now: Instant, n: usize, expects_more: bool) {
        let announce = self.on_read(now, n);
        let owed = self.ack.due() != Due::No;
        let overdue = owed && self.rcv_nxt.since(self.last_ack_sent) > self.rcv_mss;
        if (announce || overdue) && expects_more {
            self.ack.now();
        }
        if n > 0 && self.buffer.is_empty() {
            self.ack.on_all_read();
        }
    }

    /// The user read `n` bytes. Says whether the window must be announced now.
    pub(super) fn on_read(&mut self, now: Instant, n: usize) -> bool {
        if let Some(wanted) = self.tuning.on_read(now, self.read_position()) {
            self.space.tune(wanted);
        }
        n > 0 && self.announces_more()
    }

    /// Whether there is room enough for more to say so at once.
    pub(super) fn announces_more(&self) -> bool {
        // Beside a SYN-ACK's window the full one is large: nothing to announce before data comes for it.
        if self.fin.is_some() || self.opening {
            return false;
        }
        // Linux: announce when the window at least doubles by it.
        let current = self.wnd();
        if 2 * current > self.most() {
            return false;
        }
        let new = self.select_window();
        new > current && new >= 2 * current
    }

    /// Position of the reader.
    fn read_position(&self) -> Seq {
        self.rcv_nxt - (self.buffer.len() + usize::from(self.fin_taken()))
    }
}
