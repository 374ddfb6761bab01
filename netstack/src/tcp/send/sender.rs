//! The sending half of a connection: SND.UNA, SND.NXT, the peer's window, what waits to be sent, and
//! when a small segment may go.

use super::send_buffer::SendBuffer;
use crate::buffer::Pool;
use crate::config::Config;
use crate::tcp::seq::Seq;
use crate::tcp::window::WindowScale;
use crate::time::{Duration, Instant};
use std::io::IoSlice;
use std::sync::Arc;

/// The longest super-segment, in bytes of payload: what one IP packet can carry, less the room that
/// Linux keeps for headers.
pub(in crate::tcp) const MAX_RECORD: usize = 65_215;

/// Peers that never offered more than this are sent to in whole windows, others in halves
/// (`TCP_MSS_DEFAULT` in Linux's `tcp_bound_to_half_wnd`).
const SMALL_WINDOW: usize = 536;

/// What auto-tuning takes a segment in flight to cost beside its payload: headers and
/// `skb_shared_info`, which come to the next power of two with it, and the `sk_buff`.
const SEGMENT_COST: usize = 640;
const SEGMENT_BUFFER: usize = 256;

/// Segments that the buffer has room for at least, where auto-tuning sizes it (`TCP_INIT_CWND`).
const MIN_TUNED_SEGMENTS: usize = 10;

/// The send variables of RFC 9293 §3.3.1.
#[derive(Debug)]
pub(in crate::tcp) struct Sender {
    /// SND.UNA: the first byte that is not acknowledged.
    pub(in crate::tcp) snd_una: Seq,
    /// SND.NXT: the next byte to send for the first time.
    pub(in crate::tcp) snd_nxt: Seq,
    /// SND.WND: the window that the peer offers from SND.UNA on, in bytes.
    pub(in crate::tcp) snd_wnd: usize,
    /// SND.WL1: the sequence number of the segment that last updated the window.
    wl1: Seq,
    /// The largest window that the peer ever offered, in bytes.
    pub(in crate::tcp) max_wnd: usize,
    /// The peer's window scale.
    scale: WindowScale,
    /// Eff.snd.MSS: payload bytes of a full segment with the usual options.
    pub(in crate::tcp) mss: usize,
    /// What the user wrote and the peer has not acknowledged.
    pub(in crate::tcp) buffer: SendBuffer,
    /// Position of our FIN, once it is queued.
    pub(in crate::tcp) fin: Option<Seq>,
    /// The end of the last partial segment that was sent (Minshall's Nagle: `snd_sml` in Linux).
    last_small: Seq,
    /// When data was last sent.
    pub(in crate::tcp) last_sent: Instant,
    /// When the congestion window was last reduced for a pause: once for each.
    pub(in crate::tcp) restarted: Instant,
    /// Upper limit of what the buffer costs, in bytes (`sk_sndbuf`).
    limit: usize,
    /// Whether `SO_SNDBUF` fixed the limit.
    locked: bool,
    /// Upper limit of what auto-tuning gives.
    max_limit: usize,
    /// Whether the user was told that there is no room (`SOCK_NOSPACE`).
    pub(in crate::tcp) wants_room: bool,
    /// The end of what was last written with PSH (`pushed_seq`).
    pushed: Seq,
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
pub(in crate::tcp) struct SenderSetup {
    /// Our first byte after the SYN.
    pub(in crate::tcp) snd_una: Seq,
    /// The position after the peer's SYN.
    pub(in crate::tcp) wl1: Seq,
    /// The window that the peer's handshake segment offers, in bytes.
    pub(in crate::tcp) snd_wnd: usize,
    /// The peer's window scale, or none.
    pub(in crate::tcp) scale: WindowScale,
    /// Eff.snd.MSS in bytes.
    pub(in crate::tcp) mss: usize,
    /// `SO_SNDBUF` in bytes, as the user set it.
    pub(in crate::tcp) buffer_size: Option<usize>,
}

impl Sender {
    pub(in crate::tcp) fn new(now: Instant, setup: SenderSetup, config: &Config, pool: &Arc<Pool>) -> Self {
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
            limit: buffer_size.map_or(config.send_buffer_initial, doubled),
            locked: buffer_size.is_some(),
            max_limit: config.send_buffer_max,
            wants_room: false,
            pushed: snd_una,
            usage: WindowUsage { limited: false, max_in_flight: 0, round_end: snd_una, used: 0, since: now },
        }
    }

    /// A segment at `seq` with an acceptable acknowledgment of `ack` carries the window `field`
    /// (RFC 9293 §3.10.7.4). Says whether that is news, which a duplicate acknowledgment never brings
    /// (FLAG_WIN_UPDATE in Linux): also the same window again, of newer data.
    pub(in crate::tcp) fn update_window(&mut self, seq: Seq, ack: Seq, field: u16) -> bool {
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
        self.snd_wnd = window;
        true
    }

    /// The peer's window scale.
    pub(in crate::tcp) fn scale(&self) -> WindowScale {
        self.scale
    }

    /// The first position beyond the peer's window.
    pub(in crate::tcp) fn window_end(&self) -> Seq {
        self.snd_una + self.snd_wnd
    }

    /// Bytes that were never sent.
    pub(in crate::tcp) fn unsent(&self) -> usize {
        self.buffer.end().since(self.snd_nxt)
    }

    /// Whether anything, data or a FIN, was never sent.
    pub(in crate::tcp) fn has_unsent(&self) -> bool {
        self.unsent() > 0 || self.fin.is_some_and(|fin| fin >= self.snd_nxt)
    }

    /// Queues our FIN behind what was written.
    pub(in crate::tcp) fn queue_fin(&mut self) {
        if self.fin.is_none() {
            self.fin = Some(self.buffer.end());
        }
    }

    /// Everything up to `una` was acknowledged.
    pub(in crate::tcp) fn on_ack(&mut self, una: Seq) {
        self.snd_una = una;
        self.buffer.release(una);
    }

    /// Whether our FIN was sent, and with it all that was written.
    pub(in crate::tcp) fn fin_sent(&self) -> bool {
        self.fin.is_some_and(|fin| self.snd_nxt > fin)
    }

    /// Whether our FIN was acknowledged.
    pub(in crate::tcp) fn fin_acked(&self) -> bool {
        self.fin.is_some_and(|fin| self.snd_una > fin)
    }

    /// Minshall's variant of the Nagle algorithm (RFC 9293 §3.7.4, as Linux does it): a partial
    /// segment waits only while an earlier partial one is not acknowledged.
    pub(in crate::tcp) fn nagle_holds(&self) -> bool {
        self.last_small > self.snd_una && self.last_small <= self.snd_nxt
    }

    /// New data up to `end` was sent; `partial` if the last segment of it was not full, `one_by_one` if
    /// the device takes no super-segments.
    pub(in crate::tcp) fn on_sent(&mut self, now: Instant, end: Seq, partial: bool, one_by_one: bool) {
        self.snd_nxt = end;
        self.last_sent = now;
        self.buffer.on_sent(end.min(self.buffer.end()), one_by_one);
        if partial {
            self.last_small = end;
        }
    }

    /// Bytes that one record should hold: whole segments of `mss` bytes, as many as a super-segment
    /// takes and not more than half of the peer's window, so that it need not wait for all of it.
    fn record_goal(&self, mss: usize) -> usize {
        let half = if self.max_wnd > SMALL_WINDOW { self.max_wnd / 2 } else { self.max_wnd };
        (half.min(MAX_RECORD) / mss * mss).max(mss)
    }

    /// Whether the user may begin another record: the buffer is not used up, and less than
    /// `notsent_lowat` bytes wait to be sent. A record that was begun may be filled, so both limits are
    /// exceeded by one record at most (Linux's `sk_stream_memory_free`).
    fn has_room(&self, notsent_lowat: usize) -> bool {
        self.buffer.cost() < self.limit && self.unsent() < notsent_lowat
    }

    /// Queues from `bufs`, from byte `skip` on, what fits into the last record, or into a new one if
    /// that is full. Zero if there is no room for one.
    pub(in crate::tcp) fn write(
        &mut self,
        bufs: &[IoSlice<'_>],
        skip: usize,
        mss: usize,
        notsent_lowat: usize,
    ) -> usize {
        let goal = self.record_goal(mss);
        let mut room = self.buffer.tail_room(goal);
        if room == 0 {
            if !self.has_room(notsent_lowat) {
                return 0;
            }
            self.buffer.open_record();
            room = goal;
        }
        self.buffer.write(bufs, skip, room)
    }

    /// Whether half of the peer's largest window was written without a PSH: then the next one is due
    /// (Linux's `forced_push`).
    pub(in crate::tcp) fn push_is_due(&self) -> bool {
        self.buffer.end() > self.pushed + self.max_wnd / 2
    }

    /// What was written until now ends in PSH (RFC 9293 §3.9.1.2).
    pub(in crate::tcp) fn push(&mut self) {
        self.pushed = self.buffer.end();
        self.buffer.push();
    }

    /// Whether poll(2) says that the socket is writable: a third of the buffer is free, and what is
    /// unsent is below half of the low-water mark (Linux's `sk_stream_is_writeable`).
    pub(in crate::tcp) fn is_writable(&self, notsent_lowat: usize) -> bool {
        let cost = self.buffer.cost();
        let room = self.limit.saturating_sub(cost);
        room > 0 && room >= cost / 2 && self.unsent().saturating_mul(2) < notsent_lowat
    }

    /// The congestion window is `cwnd` bytes: twice as many segments may be buffered, so that there is
    /// always something to send while the user is being woken. Each counts for the memory that it
    /// would take if it were written on its own (Linux's `tcp_sndbuf_expand`).
    pub(in crate::tcp) fn tune(&mut self, cwnd: usize) {
        if !self.locked {
            let segment = (self.mss + SEGMENT_COST).next_power_of_two() + SEGMENT_BUFFER;
            let segments = (cwnd / self.mss).max(MIN_TUNED_SEGMENTS);
            let wanted = segments.saturating_mul(2 * segment).min(self.max_limit);
            self.limit = self.limit.max(wanted);
        }
    }

    /// `SO_SNDBUF` was set to `size`.
    pub(in crate::tcp) fn set_limit(&mut self, size: usize) {
        self.locked = true;
        self.limit = doubled(size);
    }

    /// After an attempt to send: whether the congestion window held something back.
    pub(in crate::tcp) fn note_window_usage(&mut self, in_flight: usize, limited: bool) {
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
    pub(in crate::tcp) fn unused_for(&mut self, now: Instant, rto: Duration, full: bool) -> Option<usize> {
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
    pub(in crate::tcp) fn restart_usage(&mut self, now: Instant) {
        self.restarted = now;
        self.usage.used = 0;
        self.usage.since = now;
    }

    /// Whether the congestion window limits the sender; in slow start, half of it in use is enough.
    pub(in crate::tcp) fn is_cwnd_limited(&self, cwnd: usize, ssthresh: usize) -> bool {
        self.usage.limited || (cwnd < ssthresh && cwnd < 2 * self.usage.max_in_flight)
    }
}

/// `SO_SNDBUF` allows for twice what the user set, since the memory around the data counts as well
/// (socket(7)).
fn doubled(size: usize) -> usize {
    size.saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SeqNum;

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
        s.on_sent(Instant::ZERO, seq(1000), false, false);
        assert!(!s.nagle_holds(), "full segments hold nothing back");
        s.on_sent(Instant::ZERO, seq(1100), true, false);
        assert!(s.nagle_holds());
        s.on_ack(seq(1100));
        assert!(!s.nagle_holds());
    }

    #[test]
    fn writable_with_a_third_free() {
        let mut s = sender();
        // 18,000 may be used; a record counts for 1280 more than it holds.
        s.buffer.open_record();
        s.buffer.write(&[IoSlice::new(&[0; 10_720])], 0, usize::MAX);
        assert!(s.is_writable(usize::MAX));
        assert!(!s.is_writable(21_440), "TCP_NOTSENT_LOWAT counts half");
        assert!(s.is_writable(21_441));
        s.buffer.write(&[IoSlice::new(&[0; 2])], 0, usize::MAX);
        assert!(!s.is_writable(usize::MAX));
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
