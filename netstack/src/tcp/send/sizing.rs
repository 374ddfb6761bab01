//! How much of what was written goes into the next segment: what the windows leave, what Nagle's
//! algorithm holds back, and how large a super-segment should be (Linux's `tcp_write_xmit`).

use super::chrono::Holds;
use super::send_buffer::Unsent;
use super::sender::MAX_RECORD;
use crate::tcp::connection::{Connection, Probe, Writing};
use crate::tcp::recovery::Phase;
use crate::time::{Duration, Instant};

/// What limits the next segment.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Limits {
    pub(in crate::tcp) now: Instant,
    /// Payload bytes of a full segment.
    pub(in crate::tcp) mss: usize,
    /// The most that the device takes at once, in bytes: `mss` if it does not cut super-segments.
    pub(in crate::tcp) max: usize,
    /// What is left of the peer's window, in bytes.
    pub(in crate::tcp) window: usize,
    /// What is left of the congestion window, in bytes.
    pub(in crate::tcp) room: usize,
}

/// How long a super-segment waits to grow, at most.
const MAX_DEFERRAL: Duration = Duration::from_millis(1);

/// Segments that may wait to grow where no share of the window is asked for (`tcp_max_tso_deferred_mss`).
const DEFERRED_SEGMENTS: usize = 3;

impl Connection {
    /// Bytes of `record`, the first that was not sent, that may go now; none if they must wait.
    pub(in crate::tcp) fn next_size(&mut self, record: Unsent, limits: &Limits) -> Option<usize> {
        let Limits { now, mss, max, window, room } = *limits;
        let pipe = self.recovery.pipe(self.snd.mss);
        let one = mss.min(record.len);
        let probing = self.probe == Some(Probe::Window);
        // RFC 9293 §3.8.6.2.1: a whole segment fits, or half of the largest window that there ever was,
        // for peers whose window is smaller than their MSS; or there was a time-out.
        let fits = window >= one || (window > 0 && (probing || window >= self.snd.max_wnd / 2));
        let filled = room < one && pipe > 0;
        if fits || filled {
            self.chrono.stop(now, Holds::PeerWindow, false);
        } else {
            self.chrono.start(now, Holds::PeerWindow);
        }
        if filled {
            self.validate_cwnd(now, true);
        }
        if filled || !fits {
            return None;
        }
        let needed = record.len.min(window);
        if max == mss || record.len <= mss {
            let len = needed.min(mss);
            let held = len < mss && len == record.len && record.last && !probing && self.holds_partial();
            return (!held).then_some(len);
        }
        let autosized = self.quantum(MAX_RECORD, mss) / mss * mss;
        if self.defers(record, limits, autosized) {
            return None;
        }
        // tcp_cwnd_test: half of the window at most, so that there are two on their way.
        let half = (self.cc.cwnd() / 2).max(mss);
        let most = autosized.min(room).min(half).min(max).max(mss) / mss * mss;
        if most <= needed {
            return Some(most);
        }
        let partial = needed % mss;
        let held =
            partial > 0 && needed > mss && (record.last || needed < record.len) && self.holds_partial();
        Some(if held { needed - partial } else { needed })
    }

    /// Whether a partial segment at the end of what was written must wait: for more data if the user
    /// announced some, otherwise by Minshall's variant of Nagle's algorithm (RFC 9293 §3.7.4). The last
    /// segment before a FIN never waits.
    fn holds_partial(&self) -> bool {
        if self.push || self.snd.fin.is_some() {
            return false;
        }
        self.options.cork
            || self.writing == Writing::More
            || (!self.options.nodelay && self.recovery.board.outstanding() > 0 && self.snd.nagle_holds())
    }

    /// Whether a super-segment waits for the windows to open further, so that it is worth its cost
    /// (`tcp_tso_should_defer`): only while an acknowledgment is about to come, which will ask again.
    fn defers(&mut self, record: Unsent, limits: &Limits, autosized: usize) -> bool {
        let Limits { now, mss, window, room, .. } = *limits;
        let calm = matches!(self.recovery.phase(), Phase::Open | Phase::Disorder);
        // In the middle of a write, and after a pause, what is there goes at once.
        if !calm || self.writing == Writing::Filled || now - self.snd.last_sent > MAX_DEFERRAL {
            return false;
        }
        let limit = window.min(room);
        if limit >= autosized || (!record.last && limit >= record.len) {
            return false;
        }
        let worth = match self.config.tso_win_divisor {
            0 => limit > DEFERRED_SEGMENTS * mss,
            share => limit >= self.snd.snd_wnd.min(self.cc.cwnd()) / share as usize,
        };
        let (false, Some(oldest), Some(srtt)) = (worth, self.recovery.board.head(), self.rtt.srtt()) else {
            return false;
        };
        if oldest.sent_at + srtt > now + (srtt / 2).min(MAX_DEFERRAL) {
            return false;
        }
        let closed = if room < window { room <= record.len } else { window <= record.len };
        if closed {
            if room < window {
                self.validate_cwnd(now, true);
            } else {
                self.chrono.start(now, Holds::PeerWindow);
            }
            return true;
        }
        !record.sealed && self.snd.fin.is_none()
    }
}
