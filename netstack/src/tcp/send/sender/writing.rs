//! Writing: how much of it there is room for, and where records end.

use super::{Holds, MAX_RECORD, RoomNews, Sender};
use crate::tcp::compact::compact;
use crate::tcp::send::send_flags::SendFlags;
use crate::time::Instant;
use bytes::Bytes;
use std::io::IoSlice;

/// Peers that never offered more than this are sent to in whole windows, others in halves
/// (`TCP_MSS_DEFAULT` in Linux's `tcp_bound_to_half_wnd`).
const SMALL_WINDOW: usize = 536;

/// Whether more data is about to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// Nobody said so.
    No,
    /// A record is full, and the call that writes goes on.
    Filled,
    /// The user said so (`MSG_MORE`).
    More,
}

compact!(
    enum Writing {
        No,
        Filled,
        More,
    }
);

/// What a call of [`Connection::write_record`](crate::tcp::Connection::write_record) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes that were taken.
    pub bytes: usize,
    /// Whether there may be room for more once what was taken is sent: transmit, and go on with the
    /// rest.
    pub go_on: bool,
}

/// Where the bytes of a write are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// To be copied.
    Slices(&'a [IoSlice<'a>]),
    /// To be shared until they are acknowledged.
    Shared(&'a [Bytes]),
}

impl Source<'_> {
    /// Bytes.
    pub(in crate::tcp) fn len(self) -> usize {
        match self {
            Self::Slices(bufs) => bufs.iter().map(|buf| buf.len()).sum(),
            Self::Shared(pieces) => pieces.iter().map(Bytes::len).sum(),
        }
    }
}

/// A part of a write.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Write {
    /// Bytes of the call that were taken before.
    pub(in crate::tcp) done: usize,
    /// Bytes that are left.
    pub(in crate::tcp) wanted: usize,
    pub(in crate::tcp) flags: SendFlags,
    /// Payload bytes of a full segment that would be sent now.
    pub(in crate::tcp) mss: usize,
    /// `TCP_NOTSENT_LOWAT` in bytes.
    pub(in crate::tcp) notsent_lowat: usize,
}

impl Sender {
    /// Queues what fits into one record. None if there is no room at all.
    #[inline]
    pub(in crate::tcp) fn write(
        &mut self,
        now: Instant,
        source: Source<'_>,
        write: &Write,
    ) -> Option<Written> {
        let flags = write.flags;
        let bytes = self.fill_record(source, write);
        self.writing = if flags.more { Writing::More } else { Writing::No };
        if bytes == 0 {
            self.space.set_wanted(true);
            if write.done == 0 {
                return None;
            }
            // What follows is not going to follow at once.
            self.writing = Writing::No;
            self.push();
            return Some(Written { bytes: 0, go_on: false });
        }
        self.forced = false;
        self.chrono.start(now, Holds::Network);
        if bytes < write.wanted {
            self.writing = Writing::Filled;
            if self.push_is_due() {
                self.push();
            }
            return Some(Written { bytes, go_on: true });
        }
        if !flags.more || self.push_is_due() {
            self.push();
        }
        if flags.end_of_record {
            self.buffer.seal();
        }
        Some(Written { bytes, go_on: false })
    }

    /// Queues `data` that was written before the connection stood, and may have left with our SYN.
    pub(in crate::tcp) fn queue_syn_data(&mut self, data: &[u8]) {
        self.buffer.open_record();
        self.buffer.write(&[IoSlice::new(data)], 0, usize::MAX);
        self.push();
    }

    /// Sends what is queued, whatever Nagle's algorithm, `TCP_CORK` and `MSG_MORE` say.
    pub(in crate::tcp) fn force(&mut self) {
        self.forced = self.unsent() > 0;
    }

    /// Whether poll(2) says that the socket is writable: a third of the buffer is free, and what is
    /// unsent is below half of the low-water mark (Linux's `sk_stream_is_writeable`).
    pub(in crate::tcp) fn is_writable(&self, notsent_lowat: usize) -> bool {
        self.space.is_writable(self.buffer.cost()) && self.unsent().saturating_mul(2) < notsent_lowat
    }

    /// Whether a user waits for room.
    pub(in crate::tcp) fn wants_room(&self) -> bool {
        self.space.is_wanted()
    }

    /// Whether nothing happened that may have made room, since somebody asked.
    pub(in crate::tcp) fn is_room_settled(&self) -> bool {
        self.space.news() == RoomNews::None
    }

    /// Whether something happened since the last call that may have made room.
    pub(in crate::tcp) fn take_room_news(&mut self) -> RoomNews {
        self.space.take_news()
    }

    /// Whether there is room now for a user who was refused it: once (`tcp_check_space`). The last
    /// segment came at `last_received`, and `outstanding` bytes are in flight.
    pub(in crate::tcp) fn take_room(
        &mut self,
        last_received: Instant,
        outstanding: usize,
        notsent_lowat: usize,
    ) -> bool {
        let made = self.space.is_wanted() && self.is_writable(notsent_lowat);
        if made {
            self.space.set_wanted(false);
            let now = last_received.max(self.last_sent);
            let idle = self.is_idle(outstanding);
            self.chrono.stop(now, Holds::SendBuffer, idle);
        }
        made
    }

    /// A user waits for room: the buffer may be too small for the congestion window of `cwnd` bytes,
    /// unless the window is filled all the same (`tcp_should_expand_sndbuf`).
    pub(in crate::tcp) fn grow(&mut self, cwnd: usize, pipe: usize) {
        if self.space.is_wanted() && pipe + self.mss <= cwnd {
            self.tune(cwnd);
        }
    }

    /// The most that may be unsent, in bytes, beside `TCP_NOTSENT_LOWAT`.
    pub(in crate::tcp) fn unsent_share(&self) -> usize {
        self.space.unsent_share()
    }

    /// So much may be unsent from now on, in bytes. What is queued stays.
    pub(in crate::tcp) fn set_unsent_share(&mut self, share: usize) {
        self.space.set_unsent_share(share);
    }

    /// Under memory pressure the queue may hold so much, in bytes. What is in it stays.
    pub(in crate::tcp) fn set_allowance(&mut self, allowance: usize) {
        self.space.set_allowance(allowance);
    }

    /// Copies what uses little of its buffers, and returns how many those were.
    pub(in crate::tcp) fn compact(&mut self) -> usize {
        self.buffer.compact()
    }

    /// Sizes the buffer for a congestion window of `cwnd` bytes.
    pub(in crate::tcp) fn tune(&mut self, cwnd: usize) {
        self.space.tune(cwnd, self.mss);
    }

    /// `SO_SNDBUF` was set to `size`.
    pub(in crate::tcp) fn set_limit(&mut self, size: usize) {
        self.space.set_limit(size);
    }

    /// Fills the last record, or begins one if that is full. Zero if there is no room for one.
    fn fill_record(&mut self, source: Source<'_>, write: &Write) -> usize {
        let goal = self.record_goal(write.mss);
        let mut room = self.buffer.tail_room(goal);
        if room == 0 {
            if !self.has_room(write.notsent_lowat) {
                return 0;
            }
            self.buffer.open_record();
            room = goal;
        }
        match source {
            Source::Slices(bufs) => self.buffer.write(bufs, write.done, room),
            Source::Shared(pieces) => self.buffer.share(pieces, write.done, room),
        }
    }

    /// Bytes that one record should hold: whole segments of `mss` bytes, as many as a super-segment
    /// takes and not more than half of the peer's window, so that it need not wait for all of it.
    fn record_goal(&self, mss: usize) -> usize {
        let max_wnd = self.window.max_wnd();
        let half = if max_wnd > SMALL_WINDOW { max_wnd / 2 } else { max_wnd };
        (half.min(MAX_RECORD) / mss * mss).max(mss).min(self.space.allowance())
    }

    /// Whether the user may begin another record: the buffer is not used up, and less than
    /// `notsent_lowat` bytes wait to be sent. A record that was begun may be filled, so both limits are
    /// exceeded by one record at most (Linux's `sk_stream_memory_free`).
    fn has_room(&self, notsent_lowat: usize) -> bool {
        self.space.has_room(self.buffer.cost()) && self.unsent() < notsent_lowat
    }

    /// Whether half of the peer's largest window was written without a PSH: then the next one is due
    /// (Linux's `forced_push`).
    fn push_is_due(&self) -> bool {
        self.buffer.end() > self.pushed + self.window.max_wnd() / 2
    }

    /// What was written until now ends in PSH (RFC 9293 §3.9.1.2).
    fn push(&mut self) {
        self.pushed = self.buffer.end();
        self.buffer.push();
    }
}
