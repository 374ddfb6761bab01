//! The sending half of a connection: SND.UNA, SND.NXT, the peer's window, and what waits to be sent.

mod rest;
mod sizing;
mod writing;

pub(in crate::tcp) use sizing::{Held, Limits, Span};
pub(crate) use writing::Source;
pub(in crate::tcp) use writing::Write;
pub use writing::Written;

use writing::Writing;

use super::chrono::{Chrono, Holds, Times};
use super::peer_window::PeerWindow;
use super::send_buffer::{SendBuffer, SendPlaces, Unit};
use super::space::{RoomNews, SendSpace};
use super::window_usage::WindowUsage;
use crate::buffer::{MAX_PIECES, Pool};
use crate::config::Config;
use crate::tcp::seq::Seq;
use crate::tcp::window::WindowScale;
use crate::time::{Duration, Instant};
use crate::wire::SeqNum;
use arrayvec::ArrayVec;
use std::sync::Arc;

/// The longest super-segment, in bytes of payload: what one IP packet can carry, less the room that
/// Linux keeps for headers.
const MAX_RECORD: usize = 65_215;

/// The send variables of RFC 9293 §3.3.1, and what was written.
#[derive(Debug)]
pub(in crate::tcp) struct Sender {
    /// SND.UNA: the first byte that is not acknowledged.
    snd_una: Seq,
    /// SND.NXT: the next byte to send for the first time.
    snd_nxt: Seq,
    window: PeerWindow,
    /// Eff.snd.MSS: payload bytes of a full segment with the usual options.
    mss: usize,
    /// What the user wrote and the peer has not acknowledged.
    buffer: SendBuffer,
    /// Position of our FIN, once it is queued.
    fin: Option<Seq>,
    /// The end of the last partial segment that was sent (Minshall's Nagle: `snd_sml` in Linux).
    last_small: Seq,
    /// When data was last sent.
    last_sent: Instant,
    /// The end of what was last written with PSH (`pushed_seq`).
    pushed: Seq,
    /// How much may be written.
    space: SendSpace,
    /// How much of the congestion window is used.
    usage: WindowUsage,
    /// Whether the user is in the middle of writing.
    writing: Writing,
    /// Whether what is queued must go now, corked or not (`TCP_NODELAY` was set).
    forced: bool,
    /// What the time is spent on.
    chrono: Chrono,
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

/// How the last segment of what was sent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum LastSegment {
    /// It is a full one.
    Full,
    /// It is less than that.
    Partial,
}

impl Sender {
    pub(in crate::tcp) fn new(now: Instant, setup: SenderSetup, config: &Config, pool: &Arc<Pool>) -> Self {
        let SenderSetup { snd_una, wl1, snd_wnd, scale, mss, buffer_size } = setup;
        Self {
            snd_una,
            snd_nxt: snd_una,
            window: PeerWindow::new(snd_wnd, wl1, scale),
            mss,
            buffer: SendBuffer::new(snd_una, Arc::clone(pool)),
            fin: None,
            last_small: snd_una,
            last_sent: now,
            pushed: snd_una,
            space: SendSpace::new(buffer_size, config),
            usage: WindowUsage::new(now, snd_una),
            writing: Writing::No,
            forced: false,
            chrono: Chrono::default(),
        }
    }

    /// Memory of the queues themselves, in bytes: buffers count in their pool.
    #[inline]
    pub(in crate::tcp) fn places(&self) -> usize {
        self.buffer.places()
    }

    /// SND.UNA.
    pub(in crate::tcp) fn una(&self) -> Seq {
        self.snd_una
    }

    /// SND.NXT.
    pub(in crate::tcp) fn nxt(&self) -> Seq {
        self.snd_nxt
    }

    /// SND.WND in bytes.
    pub(in crate::tcp) fn wnd(&self) -> usize {
        self.window.wnd()
    }

    /// The largest window that the peer ever offered, in bytes.
    pub(in crate::tcp) fn max_wnd(&self) -> usize {
        self.window.max_wnd()
    }

    /// The peer's window scale.
    pub(in crate::tcp) fn scale(&self) -> WindowScale {
        self.window.scale()
    }

    /// The first position beyond the peer's window.
    pub(in crate::tcp) fn window_end(&self) -> Seq {
        self.snd_una + self.window.wnd()
    }

    /// Eff.snd.MSS in bytes.
    pub(in crate::tcp) fn mss(&self) -> usize {
        self.mss
    }

    pub(in crate::tcp) fn set_mss(&mut self, mss: usize) {
        self.mss = mss;
    }

    /// When data was last sent.
    pub(in crate::tcp) fn last_sent(&self) -> Instant {
        self.last_sent
    }

    /// Whether `seq` was sent and is not acknowledged.
    pub(in crate::tcp) fn is_in_flight(&self, seq: SeqNum) -> bool {
        let seq = self.snd_una.nearest(seq);
        self.snd_una <= seq && seq < self.snd_nxt
    }

    /// A segment at `seq` with an acceptable acknowledgment of `ack` carries the window `field`
    /// (RFC 9293 §3.10.7.4). Says whether that is news, which a duplicate acknowledgment never brings
    /// (FLAG_WIN_UPDATE in Linux): also the same window again, of newer data.
    pub(in crate::tcp) fn update_window(&mut self, seq: Seq, ack: Seq, field: u16) -> bool {
        self.window.update(seq, field, ack > self.snd_una)
    }

    /// Whether it would be.
    pub(in crate::tcp) fn has_window_news(&self, seq: Seq, ack: Seq, field: u16) -> bool {
        self.window.is_news(seq, field, ack > self.snd_una)
    }

    /// Bytes that were never sent.
    pub(in crate::tcp) fn unsent(&self) -> usize {
        self.buffer.end().since(self.snd_nxt)
    }

    /// Whether anything, data or a FIN, was never sent.
    pub(in crate::tcp) fn has_unsent(&self) -> bool {
        self.unsent() > 0 || self.fin.is_some_and(|fin| fin >= self.snd_nxt)
    }

    /// Bytes that were written and are not acknowledged.
    pub(in crate::tcp) fn queued(&self) -> usize {
        self.buffer.len()
    }

    /// What the queue counts for against `SO_SNDBUF`, in bytes.
    pub(in crate::tcp) fn queue_cost(&self) -> usize {
        self.buffer.cost()
    }

    /// The bytes from `start` to `end`, in pieces.
    ///
    /// # Panics
    /// If they are not all here or do not fit into [`MAX_PIECES`] pieces.
    pub(in crate::tcp) fn slices<'a>(
        &'a self,
        start: Seq,
        end: Seq,
        pieces: &mut ArrayVec<&'a [u8], MAX_PIECES>,
    ) {
        self.buffer.slices(start, end, pieces);
    }

    /// Whether a segment that ends at `end` carries PSH.
    pub(in crate::tcp) fn is_pushed(&self, end: Seq) -> bool {
        self.buffer.is_pushed(end)
    }

    /// Queues our FIN behind what was written.
    pub(in crate::tcp) fn queue_fin(&mut self) {
        if self.fin.is_none() {
            self.fin = Some(self.buffer.end());
        }
        self.writing = Writing::No;
    }

    /// Whether our FIN was sent, and with it all that was written.
    pub(in crate::tcp) fn fin_sent(&self) -> bool {
        self.fin.is_some_and(|fin| self.snd_nxt > fin)
    }

    /// Whether our FIN was acknowledged.
    pub(in crate::tcp) fn fin_acked(&self) -> bool {
        self.fin.is_some_and(|fin| self.snd_una > fin)
    }

    /// Whether our FIN is queued or sent, and not acknowledged.
    pub(in crate::tcp) fn fin_unacked(&self) -> bool {
        self.fin.is_some_and(|fin| self.snd_una <= fin)
    }

    /// Everything up to `una` was acknowledged.
    pub(in crate::tcp) fn on_ack(&mut self, una: Seq) {
        self.snd_una = una;
        self.buffer.release(una);
    }

    /// An acceptable acknowledgment was taken into account, and leaves `outstanding` bytes in flight.
    pub(in crate::tcp) fn after_ack(&mut self, now: Instant, outstanding: usize) {
        if self.is_idle(outstanding) {
            self.chrono.stop(now, Holds::Network, true);
        }
        self.writing = Writing::No;
        self.space.note(RoomNews::Acked);
    }

    /// Takes its memory, if nothing is in it.
    pub(in crate::tcp) fn take_places(&mut self) -> SendPlaces {
        self.buffer.take_places()
    }

    /// Uses this memory, if there is none.
    pub(in crate::tcp) fn use_places(&mut self, places: SendPlaces) {
        self.buffer.use_places(places);
    }

    /// Whether the window `field` is the one that the peer offers already.
    pub(in crate::tcp) fn offers_same(&self, field: u16) -> bool {
        self.window.scale().from_wire(field) == self.window.wnd()
    }

    /// A segment at `seq` acknowledged nothing new while nothing was in flight, to be sent or waited for, and
    /// carries the window `field`, which is [the same](Self::offers_same).
    pub(in crate::tcp) fn on_quiet_ack(&mut self, now: Instant, seq: Seq, field: u16) {
        self.window.update(seq, field, false);
        self.chrono.stop(now, Holds::Network, true);
        self.writing = Writing::No;
    }

    /// New data up to `end` was sent, in `unit`s.
    pub(in crate::tcp) fn on_sent(&mut self, now: Instant, end: Seq, last: LastSegment, unit: Unit) {
        self.snd_nxt = end;
        self.last_sent = now;
        self.buffer.on_sent(end.min(self.buffer.end()), unit);
        if last == LastSegment::Partial {
            self.last_small = end;
        }
        // Less is unsent now, which TCP_NOTSENT_LOWAT may have waited for.
        self.space.note(RoomNews::Sent);
    }

    /// Something was sent again.
    pub(in crate::tcp) fn on_sent_again(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// A segment left, and nothing of what is written waits for the congestion window: if a user waits
    /// to write more, it is for `SO_SNDBUF` (`tcp_cwnd_validate` in Linux).
    pub(in crate::tcp) fn note_buffer_limit(&mut self, now: Instant) {
        if self.space.is_wanted() && !self.has_unsent() {
            self.chrono.start(now, Holds::SendBuffer);
        }
    }

    /// After an attempt to send: whether the congestion window held something back.
    pub(in crate::tcp) fn note_window_usage(&mut self, in_flight: usize, limited: bool) {
        self.usage.note(self.snd_una, self.snd_nxt, in_flight, limited);
    }

    /// How much of the congestion window was used, once that was less than all of it for the time `rto`
    /// (`tcp_cwnd_validate` in Linux). Each time only once.
    pub(in crate::tcp) fn unused_for(&mut self, now: Instant, rto: Duration, full: bool) -> Option<usize> {
        self.usage.unused_for(now, rto, full)
    }

    /// For how long nothing was sent, since the last reduction for a pause at most.
    pub(in crate::tcp) fn idle_for(&self, now: Instant) -> Duration {
        now - self.last_sent.max(self.usage.restarted())
    }

    /// The congestion window was reduced after a pause: what was used before it does not count.
    pub(in crate::tcp) fn restart_usage(&mut self, now: Instant) {
        self.usage.restart(now);
    }

    /// Whether the congestion window limits the sender; below `slow_start_until`, half of it in use is
    /// enough.
    pub(in crate::tcp) fn is_cwnd_limited(&self, cwnd: usize, slow_start_until: usize) -> bool {
        self.usage.is_limited(cwnd, slow_start_until)
    }

    /// The number of an acknowledgment that the peer will accept: SND.NXT, or the end of its window, if that has
    /// shrunk by more than `rounding` bytes below it (tcp_acceptable_seq in Linux).
    pub(in crate::tcp) fn ack_seq(&self, rounding: usize) -> Seq {
        let acceptable = self.snd_nxt.min(self.window_end().max(self.snd_una));
        if self.snd_nxt.since(acceptable) < rounding { self.snd_nxt } else { acceptable }
    }

    /// The number of a reset that the peer will accept.
    pub(in crate::tcp) fn reset_seq(&self) -> SeqNum {
        self.snd_nxt.min(self.window_end().max(self.snd_una)).wire()
    }

    /// What the time until `now` was spent on.
    pub(in crate::tcp) fn times(&self, now: Instant) -> Times {
        self.chrono.times(now)
    }

    /// Checks that what was written and not acknowledged is all here.
    #[cfg(any(test, feature = "simulation"))]
    pub(in crate::tcp) fn check(&self) -> Result<(), String> {
        if self.snd_una > self.snd_nxt {
            return Err(format!("SND.UNA is {:?}, and SND.NXT {:?}", self.snd_una, self.snd_nxt));
        }
        self.buffer.check(self.snd_nxt)
    }

    /// The connection is over: nothing more is sent.
    pub(in crate::tcp) fn clear(&mut self) {
        self.buffer.clear();
        self.fin = None;
    }

    /// Whether nothing is left to send or to be acknowledged.
    fn is_idle(&self, outstanding: usize) -> bool {
        outstanding == 0 && !self.has_unsent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!((s.wnd(), s.max_wnd()), (0, 10_000));
    }

    #[test]
    fn nagle_holds_a_second_partial_segment_only() {
        let mut s = sender();
        s.on_sent(Instant::ZERO, seq(1000), LastSegment::Full, Unit::SuperSegment);
        assert!(!s.nagle_holds(), "full segments hold nothing back");
        s.on_sent(Instant::ZERO, seq(1100), LastSegment::Partial, Unit::SuperSegment);
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
