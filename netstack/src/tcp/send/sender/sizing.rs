//! How much of what was written goes into the next segment: what the windows leave, what Nagle's
//! algorithm holds back, and how large a super-segment should be (Linux's `tcp_write_xmit`).

use super::writing::Writing;
use super::{Holds, MAX_RECORD, Sender};
use crate::config::Config;
use crate::tcp::options::SocketOptions;
use crate::tcp::path::PathState;
use crate::tcp::recovery::{CongestionState, Recovery};
use crate::tcp::send::send_buffer::Unsent;
use crate::tcp::seq::Seq;
use crate::time::{Duration, Instant};

/// How long a super-segment waits to grow, at most.
const MAX_DEFERRAL: Duration = Duration::from_millis(1);

/// Segments that may wait to grow where no share of the window is asked for (`tcp_max_tso_deferred_mss`).
const DEFERRED_SEGMENTS: usize = 3;

/// What limits the next segment.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Limits<'a> {
    pub(in crate::tcp) now: Instant,
    /// Payload bytes of a full segment with the options that it would carry now.
    pub(in crate::tcp) mss: usize,
    /// The most that the device takes at once, in bytes: `mss` if it does not cut super-segments.
    pub(in crate::tcp) max: usize,
    /// Whether a probe of the window is due, which may carry text.
    pub(in crate::tcp) probing: bool,
    pub(in crate::tcp) recovery: &'a Recovery,
    pub(in crate::tcp) path: &'a PathState,
    pub(in crate::tcp) options: &'a SocketOptions,
    pub(in crate::tcp) config: &'a Config,
}

impl Limits<'_> {
    /// What is left of the congestion window, in bytes, if `pipe` bytes are in the network.
    fn room(&self, pipe: usize) -> usize {
        self.path.cwnd().saturating_sub(pipe)
    }
}

/// Why new data does not go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Held {
    /// For the congestion window.
    ByCwnd,
    /// For the peer's window.
    ByPeerWindow,
    /// More may join it.
    ToGrow,
}

/// A range of what was written, and perhaps our FIN behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) struct Span {
    pub(in crate::tcp) start: Seq,
    /// Bytes.
    pub(in crate::tcp) len: usize,
    pub(in crate::tcp) with_fin: bool,
}

impl Span {
    /// The sequence number after it.
    pub(in crate::tcp) fn end(&self) -> Seq {
        self.start + self.len + usize::from(self.with_fin)
    }
}

/// New data that may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) struct NewData {
    pub(in crate::tcp) span: Span,
    /// Whether Linux would have sent more as one super-segment, which ends here in a full segment: the
    /// end of what a device that takes a segment at a time is given at once.
    pub(in crate::tcp) ends_burst: bool,
}

impl Sender {
    /// The new data that may go now: as much as the windows, the Nagle algorithm and the device allow.
    /// Some must be unsent.
    #[inline]
    pub(in crate::tcp) fn next_new(&self, limits: &Limits<'_>) -> Result<NewData, Held> {
        let record = self.buffer.unsent().expect("bytes that were not sent belong to a record");
        let &Limits { mss, max, recovery, .. } = limits;
        let start = self.snd_nxt;
        let window = self.window_end().since(start);
        let pipe = recovery.pipe(self.mss);
        let room = limits.room(pipe);
        let len = self.next_size(record, limits, Room { window, congestion: room, pipe })?;
        let len = self.buffer.contiguous(start, len);
        let with_fin = self.fin == Some(start + len) && window > len;
        let rest = window.min(room).min(record.len).saturating_sub(len);
        // A rest that is not held back would have been part of it.
        let tail = rest > 0 && rest == window.min(record.len) - len && !self.holds_partial(limits);
        let ends_burst = max == mss && record.len > mss && rest < mss && !tail;
        Ok(NewData { span: Span { start, len, with_fin }, ends_burst })
    }

    /// [`Sender::next_new`] found that new data is `held` back, or is not.
    pub(in crate::tcp) fn note_held(&mut self, now: Instant, held: Option<Held>) {
        if held == Some(Held::ByPeerWindow) {
            self.chrono.start(now, Holds::PeerWindow);
        } else {
            self.chrono.stop(now, Holds::PeerWindow, false);
        }
    }

    /// Our FIN, if all data before it was sent and the peer's window takes it. It takes one position in
    /// that window, and none of the congestion window.
    pub(in crate::tcp) fn next_fin(&self) -> Option<Span> {
        let start = self.snd_nxt;
        (self.window_end() > start).then_some(Span { start, len: 0, with_fin: true })
    }

    /// What to send again of `start..end`, which is lost; none if it must wait for a window.
    pub(in crate::tcp) fn next_lost(&self, start: Seq, end: Seq, limits: &Limits<'_>) -> Option<Span> {
        let &Limits { mss, max, recovery, .. } = limits;
        let pipe = recovery.pipe(self.mss);
        let room = limits.room(pipe);
        if room < mss && pipe > 0 {
            return None;
        }
        // RFC 7323 §2.4: a retransmission must fit the latest window, unless it is the head, which
        // also serves as a probe (RFC 9293 SHLD-16).
        let window = self.window_end().since(start);
        if window == 0 && start != self.snd_una {
            return None;
        }
        let data_end = end.min(self.buffer.end());
        let most = room.max(mss).min(window.max(mss)).min(max) / mss * mss;
        let len = data_end.since(start).min(most);
        let len = self.buffer.resend_end(start, start + len, mss).since(start);
        let len = self.buffer.contiguous(start, len);
        let with_fin = self.fin.is_some_and(|fin| fin < end && start + len == fin);
        (len > 0 || with_fin).then_some(Span { start, len, with_fin })
    }

    /// A segment of new data, whatever the congestion window and the Nagle algorithm say, if there is
    /// some and the peer's window takes it.
    pub(in crate::tcp) fn next_probe(&self, mss: usize) -> Option<Span> {
        let start = self.snd_nxt;
        let window = self.window_end().since(start);
        let len = self.buffer.unsent().map_or(0, |record| record.len.min(mss));
        let len = self.buffer.contiguous(start, len);
        let with_fin = self.fin == Some(start + len) && window > len;
        (len > 0 && len <= window).then_some(Span { start, len, with_fin })
    }

    /// The last segment that was sent, if it is in flight.
    pub(in crate::tcp) fn last_segment(&self, mss: usize, recovery: &Recovery) -> Option<Span> {
        let (start, end) = recovery.board().last_segment(self.buffer.end())?;
        let data_end = end.min(self.buffer.end());
        let len = self.buffer.contiguous(start, data_end.since(start).min(mss));
        let with_fin = end > data_end && start + len == data_end;
        Some(Span { start, len, with_fin })
    }

    /// Whether `len` bytes can go in one segment, and be followed at once by so much that there are
    /// `needed` in all.
    pub(in crate::tcp) fn has_for_mtu_probe(&self, len: usize, needed: usize) -> bool {
        let start = self.snd_nxt;
        self.unsent() >= needed
            && self.window_end().since(start) >= needed
            && self.buffer.contiguous(start, len) >= len
            && self.buffer.sealed_end(start, start + len) >= start + len
    }

    /// Bytes of `record`, the first that was not sent, that may go now.
    #[inline]
    fn next_size(&self, record: Unsent, limits: &Limits<'_>, room: Room) -> Result<usize, Held> {
        let &Limits { mss, max, probing, .. } = limits;
        let Room { window, congestion, pipe } = room;
        let one = mss.min(record.len);
        // RFC 9293 §3.8.6.2.1: a whole segment fits, or half of the largest window that there ever was,
        // for peers whose window is smaller than their MSS; or there was a time-out.
        let fits = window >= one || (window > 0 && (probing || window >= self.window.max_wnd() / 2));
        if congestion < one && pipe > 0 {
            return Err(Held::ByCwnd);
        }
        if !fits {
            return Err(Held::ByPeerWindow);
        }
        let needed = record.len.min(window);
        if max == mss || record.len <= mss {
            let len = needed.min(mss);
            let partial = len < mss && len == record.len && record.last && !probing;
            return if partial && self.holds_partial(limits) { Err(Held::ToGrow) } else { Ok(len) };
        }
        let autosized = limits.path.quantum(MAX_RECORD, mss, limits.recovery.outstanding()) / mss * mss;
        if let Some(held) = self.defers(record, limits, room, autosized) {
            return Err(held);
        }
        // tcp_cwnd_test: half of the window at most, so that there are two on their way.
        let half = (limits.path.cwnd() / 2).max(mss);
        let most = autosized.min(congestion).min(half).min(max).max(mss) / mss * mss;
        if most <= needed {
            return Ok(most);
        }
        let partial = needed % mss;
        let held =
            partial > 0 && needed > mss && (record.last || needed < record.len) && self.holds_partial(limits);
        Ok(if held { needed - partial } else { needed })
    }

    /// Whether a partial segment at the end of what was written must wait: for more data if the user
    /// announced some, otherwise by Minshall's variant of Nagle's algorithm (RFC 9293 §3.7.4). The last
    /// segment before a FIN never waits.
    fn holds_partial(&self, limits: &Limits<'_>) -> bool {
        if self.forced || self.fin.is_some() {
            return false;
        }
        let &Limits { options, recovery, .. } = limits;
        options.cork
            || self.writing == Writing::More
            || (!options.nodelay && recovery.outstanding() > 0 && self.nagle_holds())
    }

    /// Minshall's variant of the Nagle algorithm (RFC 9293 §3.7.4, as Linux does it): a partial
    /// segment waits only while an earlier partial one is not acknowledged.
    pub(super) fn nagle_holds(&self) -> bool {
        self.last_small > self.snd_una && self.last_small <= self.snd_nxt
    }

    /// Whether a super-segment waits for the windows to open further, so that it is worth its cost
    /// (`tcp_tso_should_defer`): only while an acknowledgment is about to come, which will ask again.
    fn defers(&self, record: Unsent, limits: &Limits<'_>, room: Room, autosized: usize) -> Option<Held> {
        let &Limits { now, mss, recovery, path, config, .. } = limits;
        let Room { window, congestion, .. } = room;
        let calm = matches!(recovery.state(), CongestionState::Open | CongestionState::Disorder);
        // In the middle of a write, and after a pause, what is there goes at once.
        if !calm || self.writing == Writing::Filled || now - self.last_sent > MAX_DEFERRAL {
            return None;
        }
        let limit = window.min(congestion);
        if limit >= autosized || (!record.last && limit >= record.len) {
            return None;
        }
        let worth = match config.tso_win_divisor {
            0 => limit > DEFERRED_SEGMENTS * mss,
            share => limit >= self.window.wnd().min(path.cwnd()) / share as usize,
        };
        if worth {
            return None;
        }
        let (oldest, srtt) = (recovery.board().head()?, path.srtt()?);
        if oldest.sent_at + srtt > now + (srtt / 2).min(MAX_DEFERRAL) {
            return None;
        }
        if congestion < window && congestion <= record.len {
            return Some(Held::ByCwnd);
        }
        if congestion >= window && window <= record.len {
            return Some(Held::ByPeerWindow);
        }
        (!record.sealed && self.fin.is_none()).then_some(Held::ToGrow)
    }
}

/// What the windows leave, in bytes.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// Of the peer's.
    window: usize,
    /// Of the congestion window.
    congestion: usize,
    /// What is in the network.
    pipe: usize,
}
