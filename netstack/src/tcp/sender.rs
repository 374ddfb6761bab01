//! The sending half of a connection: SND.UNA, SND.NXT, the peer's window, what waits to be sent, and
//! when a small segment may go.

use super::send_buffer::SendBuffer;
use super::seq::Seq;
use super::window::WindowScale;
use crate::buffer::Pool;
use crate::config::Config;
use crate::time::{Duration, Instant};
use std::sync::Arc;

/// The send variables of RFC 9293 §3.3.1.
#[derive(Debug)]
pub(super) struct Sender {
    /// SND.UNA: the first byte that is not acknowledged.
    pub(super) snd_una: Seq,
    /// SND.NXT: the next byte to send for the first time.
    pub(super) snd_nxt: Seq,
    /// SND.WND: the window that the peer offers from SND.UNA on, in bytes.
    pub(super) snd_wnd: usize,
    /// SND.WL1: the sequence number of the segment that last updated the window.
    wl1: Seq,
    /// The largest window that the peer ever offered, in bytes.
    pub(super) max_wnd: usize,
    /// The peer's window scale.
    scale: WindowScale,
    /// Eff.snd.MSS: payload bytes of a full segment with the usual options.
    pub(super) mss: usize,
    /// What the user wrote and the peer has not acknowledged.
    pub(super) buffer: SendBuffer,
    /// Position of our FIN, once it is queued.
    pub(super) fin: Option<Seq>,
    /// The end of the last partial segment that was sent (Minshall's Nagle: `snd_sml` in Linux).
    last_small: Seq,
    /// When data was last sent.
    pub(super) last_sent: Instant,
    /// When the congestion window was last reduced for a pause: once for each.
    pub(super) restarted: Instant,
    /// Upper limit of the buffer in bytes.
    limit: usize,
    /// Whether `SO_SNDBUF` fixed the limit.
    locked: bool,
    /// Upper limit of what auto-tuning gives.
    max_limit: usize,
    /// Whether the user was told that there is no room.
    pub(super) wants_room: bool,
    usage: WindowUsage,
}

/// How much of the congestion window is used: a window that is not used must not grow (RFC 7661's
/// concern, in the form of Linux's `tcp_cwnd_validate`).
#[derive(Debug)]
struct WindowUsage {
    /// Whether the window held back the sender in this round trip.
    limited: bool,
    /// The most that was in flight in this round trip, in bytes.
    max_in_flight: usize,
    /// The round trip ends when this is acknowledged.
    round_end: Seq,
    /// The most that was in flight since `since`, in bytes (`snd_cwnd_used` in Linux).
    used: usize,
    /// When the window last was in full use, or was reduced because it was not (`snd_cwnd_stamp`).
    since: Instant,
}

/// What a connection knows of sending when it begins.
#[derive(Debug)]
pub(super) struct SenderSetup {
    /// Our first byte after the SYN.
    pub(super) snd_una: Seq,
    /// The position after the peer's SYN.
    pub(super) wl1: Seq,
    /// The window that the peer's handshake segment offers, in bytes.
    pub(super) snd_wnd: usize,
    /// The peer's window scale, or none.
    pub(super) scale: WindowScale,
    /// Eff.snd.MSS in bytes.
    pub(super) mss: usize,
    /// `SO_SNDBUF` in bytes.
    pub(super) buffer_size: Option<usize>,
}

impl Sender {
    pub(super) fn new(now: Instant, setup: SenderSetup, config: &Config, pool: &Arc<Pool>) -> Self {
        let SenderSetup { snd_una, wl1, snd_wnd, scale, mss, buffer_size } = setup;
        Self {
            snd_una,
            snd_nxt: snd_una,
            snd_wnd,
            wl1,
            max_wnd: snd_wnd,
            scale,
            mss,
            buffer: SendBuffer::new(snd_una, Arc::clone(pool)),
            fin: None,
            last_small: snd_una,
            last_sent: now,
            restarted: now,
            limit: buffer_size.unwrap_or(config.send_buffer_initial),
            locked: buffer_size.is_some(),
            max_limit: config.send_buffer_max,
            wants_room: false,
            usage: WindowUsage { limited: false, max_in_flight: 0, round_end: snd_una, used: 0, since: now },
        }
    }

    /// A segment at `seq` with an acceptable acknowledgment of `ack` carries the window `field`
    /// (RFC 9293 §3.10.7.4). Says whether the window changed.
    pub(super) fn update_window(&mut self, seq: Seq, ack: Seq, field: u16) -> bool {
        let window = self.scale.from_wire(field);
        // Linux's condition: newer by acknowledgment or by sequence number; of two with equal
        // numbers the one that opens the window, or closes it entirely.
        let newer = ack > self.snd_una
            || seq > self.wl1
            || (seq == self.wl1 && (window > self.snd_wnd || window == 0));
        if !newer {
            return false;
        }
        self.wl1 = seq;
        self.max_wnd = self.max_wnd.max(window);
        std::mem::replace(&mut self.snd_wnd, window) != window
    }

    /// The window that `field` means.
    pub(super) fn window_of(&self, field: u16) -> usize {
        self.scale.from_wire(field)
    }

    /// The peer's window scale.
    pub(super) fn scale(&self) -> WindowScale {
        self.scale
    }

    /// The first position beyond the peer's window.
    pub(super) fn window_end(&self) -> Seq {
        self.snd_una + self.snd_wnd
    }

    /// Bytes that were never sent.
    pub(super) fn unsent(&self) -> usize {
        self.buffer.end().since(self.snd_nxt)
    }

    /// Whether anything, data or a FIN, was never sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent() > 0 || self.fin.is_some_and(|fin| fin >= self.snd_nxt)
    }

    /// Queues our FIN behind what was written.
    pub(super) fn queue_fin(&mut self) {
        if self.fin.is_none() {
            self.fin = Some(self.buffer.end());
        }
    }

    /// Everything up to `una` was acknowledged.
    pub(super) fn on_ack(&mut self, una: Seq) {
        self.snd_una = una;
        self.buffer.release(una);
    }

    /// Whether our FIN was sent, and with it all that was written.
    pub(super) fn fin_sent(&self) -> bool {
        self.fin.is_some_and(|fin| self.snd_nxt > fin)
    }

    /// Whether our FIN was acknowledged.
    pub(super) fn fin_acked(&self) -> bool {
        self.fin.is_some_and(|fin| self.snd_una > fin)
    }

    /// Minshall's variant of the Nagle algorithm (RFC 9293 §3.7.4, as Linux does it): a partial
    /// segment waits only while an earlier partial one is not acknowledged.
    pub(super) fn nagle_holds(&self) -> bool {
        self.last_small > self.snd_una && self.last_small <= self.snd_nxt
    }

    /// New data up to `end` was sent; `partial` if the last segment of it was not full.
    pub(super) fn on_sent(&mut self, now: Instant, end: Seq, partial: bool) {
        self.snd_nxt = end;
        self.last_sent = now;
        if partial {
            self.last_small = end;
        }
    }

    /// Bytes that may be written now.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.buffer.len())
    }

    /// Whether poll(2) says that the socket is writable: a third of the buffer is free (Linux's
    /// `sk_stream_is_writeable`), and not too much is unsent.
    pub(super) fn is_writable(&self, notsent_lowat: usize) -> bool {
        self.room() >= self.buffer.len() / 2 && self.room() > 0 && self.unsent() < notsent_lowat
    }

    /// The congestion window is `cwnd`: twice as much may be buffered, so that there is always
    /// something to send while the user is being woken.
    pub(super) fn tune(&mut self, cwnd: usize) {
        if !self.locked {
            let wanted = cwnd.saturating_mul(2).min(self.max_limit);
            self.limit = self.limit.max(wanted);
        }
    }

    /// `SO_SNDBUF` was set.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.locked = true;
        self.limit = limit;
    }

    /// After an attempt to send: whether the congestion window held something back.
    pub(super) fn note_window_usage(&mut self, in_flight: usize, limited: bool) {
        let usage = &mut self.usage;
        let round_over = self.snd_una >= usage.round_end;
        if round_over || limited || (!usage.limited && in_flight > usage.max_in_flight) {
            usage.limited = limited;
            usage.max_in_flight = in_flight;
            usage.round_end = self.snd_nxt;
        }
    }

    /// How much of the window was used, once that was less than all of it for the time `rto`
    /// (`tcp_cwnd_validate` in Linux). Each time only once.
    pub(super) fn unused_for(&mut self, now: Instant, rto: Duration, full: bool) -> Option<usize> {
        let usage = &mut self.usage;
        if full {
            usage.used = 0;
            usage.since = now;
            return None;
        }
        usage.used = usage.used.max(usage.max_in_flight);
        if now - usage.since < rto {
            return None;
        }
        usage.since = now;
        Some(std::mem::take(&mut usage.used))
    }

    /// The window was reduced after a pause: what was used before it does not count.
    pub(super) fn restart_usage(&mut self, now: Instant) {
        self.restarted = now;
        self.usage.used = 0;
        self.usage.since = now;
    }

    /// Whether the congestion window limits the sender; in slow start, half of it in use is enough.
    pub(super) fn is_cwnd_limited(&self, cwnd: usize, ssthresh: usize) -> bool {
        self.usage.limited || (cwnd < ssthresh && cwnd < 2 * self.usage.max_in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::seq::SeqNum;
    use std::io::IoSlice;

    fn sender() -> Sender {
        let setup = SenderSetup {
            snd_una: seq(0),
            wl1: seq(0),
            snd_wnd: 10_000,
            scale: WindowScale::NONE,
            mss: 1000,
            buffer_size: Some(9_000),
        };
        Sender::new(Instant::ZERO, setup, &Config::default(), &Pool::new())
    }

    fn seq(n: usize) -> Seq {
        Seq::initial(SeqNum::new(1)) + n
    }

    #[test]
    fn an_old_segment_does_not_move_the_window() {
        let mut s = sender();
        assert!(s.update_window(seq(5), seq(0), 8_000));
        assert!(!s.update_window(seq(4), seq(0), 9_000));
        assert!(!s.update_window(seq(5), seq(0), 7_000), "the same numbers: reordered, or shrunk");
        assert!(s.update_window(seq(5), seq(0), 9_000));
        assert!(s.update_window(seq(5), seq(0), 0));
        assert_eq!((s.snd_wnd, s.max_wnd), (0, 10_000));
    }

    #[test]
    fn nagle_holds_a_second_partial_segment_only() {
        let mut s = sender();
        s.on_sent(Instant::ZERO, seq(1000), false);
        assert!(!s.nagle_holds(), "full segments hold nothing back");
        s.on_sent(Instant::ZERO, seq(1100), true);
        assert!(s.nagle_holds());
        s.on_ack(seq(1100));
        assert!(!s.nagle_holds());
    }

    #[test]
    fn writable_with_a_third_free() {
        let mut s = sender();
        s.buffer.write(&[IoSlice::new(&[0; 6_000])], usize::MAX);
        assert!(s.is_writable(usize::MAX));
        assert!(!s.is_writable(6_000), "TCP_NOTSENT_LOWAT");
        s.buffer.write(&[IoSlice::new(&[0; 1])], usize::MAX);
        assert!(!s.is_writable(usize::MAX));
        assert_eq!(s.room(), 2_999);
    }

    #[test]
    fn the_window_counts_as_used_when_it_held_back() {
        let mut s = sender();
        s.note_window_usage(4_000, false);
        assert!(!s.is_cwnd_limited(10_000, 5_000));
        assert!(!s.is_cwnd_limited(10_000, usize::MAX), "less than half is used in slow start");
        assert!(s.is_cwnd_limited(7_000, usize::MAX));
        s.note_window_usage(10_000, true);
        assert!(s.is_cwnd_limited(10_000, 5_000));
    }
}
