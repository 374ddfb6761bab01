//! The receiving half of a connection: RCV.NXT, the window, what waits for the reader, and the
//! acknowledgments that are owed.

use super::ack::AckPolicy;
use super::assembler::Assembler;
use super::recv_buffer::RecvBuffer;
use super::right_sizing::RightSizing;
use crate::buffer::Chunk;
use crate::config::Config;
use crate::tcp::seq::Seq;
use crate::tcp::window::WindowScale;
use crate::time::{Duration, Instant};
use crate::wire::{MAX_SACK_BLOCKS, SackBlock};
use arrayvec::ArrayVec;

/// The receive variables of RFC 9293 §3.3.1.
#[derive(Debug)]
pub(in crate::tcp) struct Receiver {
    /// RCV.NXT: the next byte expected.
    pub(in crate::tcp) rcv_nxt: Seq,
    /// The furthest right edge ever offered. Anything before it is in the window, whatever the
    /// last acknowledgment said (RFC 7323 §2.4), and the edge never moves left (RFC 9293 SHLD-14).
    right_edge: Seq,
    /// RCV.NXT of the last acknowledgment that was sent.
    last_ack_sent: Seq,
    /// Whether a SYN-ACK was that.
    opening: bool,
    /// Our window scale.
    scale: WindowScale,
    /// In-order data for the reader.
    pub(in crate::tcp) buffer: RecvBuffer,
    /// Data beyond a hole.
    assembler: Assembler,
    /// Position of the peer's FIN, if it is known.
    fin: Option<Seq>,
    /// A duplicate to report once (RFC 2883).
    duplicate: Option<(Seq, Seq)>,
    /// Whether SACK was negotiated.
    sack: bool,
    /// Upper limit of the window in bytes: half of the receive buffer, as in Linux with its
    /// `tcp_adv_win_scale` of 1.
    limit: usize,
    /// What auto-tuning may raise `limit` to.
    max_limit: usize,
    /// Whether `SO_RCVBUF` fixed the size.
    locked: bool,
    /// `TCP_WINDOW_CLAMP`.
    clamp: usize,
    /// The largest payload of one segment seen lately: what "full-sized" means to the peer.
    rcv_mss: usize,
    /// The MSS that we advertised.
    advertised_mss: usize,
    /// When and how to acknowledge.
    pub(in crate::tcp) ack: AckPolicy,
    tuning: RightSizing,
    /// Whether the user will read no more; what arrives is dropped.
    discard: bool,
}

/// What a connection knows of receiving when it begins.
#[derive(Debug)]
pub(in crate::tcp) struct ReceiverSetup {
    /// The position after the peer's SYN.
    pub(in crate::tcp) rcv_nxt: Seq,
    /// Our window scale, or none.
    pub(in crate::tcp) scale: WindowScale,
    /// The window that our SYN or SYN-ACK offered, in bytes.
    pub(in crate::tcp) offered: usize,
    /// Whether SACK was negotiated.
    pub(in crate::tcp) sack: bool,
    /// The MSS that we advertised.
    pub(in crate::tcp) advertised_mss: usize,
    /// `SO_RCVBUF` in bytes.
    pub(in crate::tcp) buffer_size: Option<usize>,
    /// `TCP_WINDOW_CLAMP` in bytes.
    pub(in crate::tcp) clamp: Option<usize>,
    /// The handshake's round-trip time, if it was measured.
    pub(in crate::tcp) rtt: Option<Duration>,
}

/// What a segment's text was to the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Received {
    /// Nothing new: all of it was here, or outside of the window.
    Old,
    /// It could be read at once.
    InOrder,
    /// It is queued beyond a hole.
    OutOfOrder,
}

/// Window limit in bytes for a receive buffer of `size` bytes.
pub(in crate::tcp) fn window_limit(size: usize) -> usize {
    (size / 2).max(1)
}

impl Receiver {
    pub(in crate::tcp) fn new(now: Instant, setup: ReceiverSetup, config: &Config) -> Self {
        let ReceiverSetup { rcv_nxt, scale, offered, sack, advertised_mss, buffer_size, clamp, rtt } = setup;
        let limit = window_limit(buffer_size.unwrap_or(config.recv_buffer_initial));
        Self {
            rcv_nxt,
            right_edge: rcv_nxt + offered,
            last_ack_sent: rcv_nxt,
            opening: false,
            scale,
            buffer: RecvBuffer::default(),
            assembler: Assembler::default(),
            fin: None,
            duplicate: None,
            sack,
            limit,
            max_limit: window_limit(config.recv_buffer_max).max(limit),
            locked: buffer_size.is_some(),
            clamp: clamp.unwrap_or(usize::MAX),
            rcv_mss: 536.min(advertised_mss),
            advertised_mss,
            ack: AckPolicy::new(config),
            tuning: RightSizing::new(now, rcv_nxt, offered, advertised_mss, rtt),
            discard: false,
        }
    }

    /// RCV.WND: how much the peer may still send, as far as it was ever told.
    pub(in crate::tcp) fn rcv_wnd(&self) -> usize {
        self.right_edge.since(self.rcv_nxt)
    }

    /// RFC 9293 §3.10.7.4, first check: whether a segment of `len` bytes of sequence space at
    /// `seq` touches the window.
    ///
    /// As in Linux the window reaches from the last acknowledgment that was sent to the right edge,
    /// both included: a segment whose text is then cut off entirely still brings its acknowledgment,
    /// which two ends with closed windows need to get out of it (RFC 9293 MUST-66).
    pub(in crate::tcp) fn acceptable(&self, seq: Seq, len: usize) -> bool {
        seq + len >= self.last_ack_sent && seq <= self.right_edge
    }

    /// Learns the size of full segments: a super-segment says it, a plain one is one. And from a
    /// segment that is not full, or has PSH, that the peer pauses (Linux's `tcp_measure_rcv_mss`).
    pub(in crate::tcp) fn learn_mss(&mut self, payload_len: usize, gso_size: Option<u16>, push: bool) {
        let len = gso_size.map_or(payload_len, usize::from).min(self.advertised_mss);
        if len < self.rcv_mss {
            self.ack.on_small_segment();
            return;
        }
        self.rcv_mss = len;
        if push {
            self.ack.on_full_push();
        }
    }

    pub(in crate::tcp) fn rcv_mss(&self) -> usize {
        self.rcv_mss
    }

    /// Whether something of `start..end` was not received yet.
    pub(in crate::tcp) fn lacks(&self, start: Seq, end: Seq) -> bool {
        end > self.rcv_nxt && self.assembler.lacks(start.max(self.rcv_nxt), end)
    }

    /// Takes a segment's text. What the window does not cover is cut off.
    pub(in crate::tcp) fn on_data(&mut self, now: Instant, seq: Seq, mut chunk: Chunk) -> Received {
        let end = seq + chunk.len();
        if end <= self.rcv_nxt {
            self.report_duplicate(seq, end);
            return Received::Old;
        }
        if seq < self.rcv_nxt {
            self.report_duplicate(seq, self.rcv_nxt);
            chunk.advance(self.rcv_nxt.since(seq));
        }
        let seq = seq.max(self.rcv_nxt);
        let mut room = self.right_edge.since(seq);
        if let Some(fin) = self.fin {
            room = room.min(fin.since(seq));
        }
        chunk.truncate(room);
        if chunk.is_empty() {
            return Received::Old;
        }
        if seq > self.rcv_nxt {
            let memory = self.limit.saturating_mul(4);
            let inserted = self.assembler.insert(seq, chunk, memory);
            if let Some((start, end)) = inserted.duplicate {
                self.report_duplicate(start, end);
            }
            return if inserted.new_bytes > 0 { Received::OutOfOrder } else { Received::Old };
        }
        self.accept(chunk);
        if !self.assembler.is_empty() {
            self.drain_assembler();
        }
        self.tuning.on_data(now, self.rcv_nxt, self.right_edge);
        Received::InOrder
    }

    fn accept(&mut self, chunk: Chunk) {
        self.rcv_nxt += chunk.len();
        if !self.discard {
            self.buffer.push(chunk);
        }
    }

    /// Moves what is not behind a hole any more to the reader's queue. First copy wins: a segment
    /// that reached into queued data has already been taken, so the queued copy of that part goes.
    fn drain_assembler(&mut self) {
        self.assembler.drop_before(self.rcv_nxt);
        while let Some(chunk) = self.assembler.pop_at(self.rcv_nxt) {
            self.accept(chunk);
        }
    }

    /// The range `start..end` came a second time: the next acknowledgment says so (RFC 2883).
    pub(in crate::tcp) fn report_duplicate(&mut self, start: Seq, end: Seq) {
        if self.sack {
            self.duplicate = Some((start, end));
        }
    }

    /// Whether bytes beyond a hole wait.
    pub(in crate::tcp) fn has_hole(&self) -> bool {
        !self.assembler.is_empty()
    }

    /// The peer's FIN is at `seq`. The first one counts.
    pub(in crate::tcp) fn on_fin(&mut self, seq: Seq) {
        if self.fin.is_none() && seq >= self.rcv_nxt {
            self.fin = Some(seq);
        }
    }

    /// Takes the FIN if everything before it has arrived.
    pub(in crate::tcp) fn take_fin(&mut self) -> bool {
        if self.fin != Some(self.rcv_nxt) {
            return false;
        }
        self.rcv_nxt += 1;
        // The right edge may have been exactly at the FIN.
        self.right_edge = self.right_edge.max(self.rcv_nxt);
        self.assembler.clear();
        true
    }

    /// Whether the peer's FIN, and all before it, was received.
    pub(in crate::tcp) fn fin_taken(&self) -> bool {
        self.fin.is_some_and(|fin| fin < self.rcv_nxt)
    }

    /// Whether the peer's FIN was received and something before it was not.
    pub(in crate::tcp) fn fin_is_ahead(&self) -> bool {
        self.fin.is_some_and(|fin| fin > self.rcv_nxt)
    }

    /// The right edge of the latest SACK block, at which Linux accepts a reset too.
    pub(in crate::tcp) fn sack_edge(&self) -> Option<Seq> {
        self.assembler.highest().filter(|_| self.sack)
    }

    /// The user reads no more: what waits is dropped and what comes is acknowledged and dropped.
    pub(in crate::tcp) fn discard(&mut self) {
        self.discard = true;
        self.buffer.clear();
    }

    /// The SACK blocks of the next acknowledgment: a duplicate first (RFC 2883 §4).
    pub(in crate::tcp) fn sack_blocks(&self, max: usize) -> ArrayVec<SackBlock, MAX_SACK_BLOCKS> {
        if !self.sack {
            return ArrayVec::new();
        }
        let Some((start, end)) = self.duplicate else { return self.assembler.blocks(max) };
        let mut blocks = ArrayVec::new();
        blocks.push(SackBlock { start: start.wire(), end: end.wire() });
        // A duplicate of queued data is followed by the run that holds it.
        let around = self.assembler.containing(start).filter(|_| start >= self.rcv_nxt);
        if let Some((start, end)) = around {
            blocks.push(SackBlock { start: start.wire(), end: end.wire() });
        }
        for block in self.assembler.blocks(max) {
            if blocks.len() < max && !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        blocks
    }

    /// The largest window, in bytes.
    fn most(&self) -> usize {
        // More than the window field can say would never be offered.
        self.limit.min(self.clamp).min(self.scale.from_wire(u16::MAX))
    }

    /// Room that the reader left, in bytes.
    fn free(&self) -> usize {
        self.most().saturating_sub(self.buffer.len())
    }

    /// The window to offer now, in bytes. It moves its right edge never to the left, and to the
    /// right only by a useful amount (RFC 9293 §3.8.6.2.2).
    pub(in crate::tcp) fn select_window(&self) -> usize {
        self.useful_room().max(self.rcv_wnd())
    }

    /// Room for the peer, or nothing if it is too little to be worth a segment.
    fn useful_room(&self) -> usize {
        let free = self.free();
        let useful = self.rcv_mss.min(self.most() / 2).max(self.most() / 16);
        if free < useful { 0 } else { free }
    }

    /// The window field of the next segment. Call [`Receiver::on_ack_sent`] when it is sent.
    pub(in crate::tcp) fn window_field(&self) -> u16 {
        let window = self.select_window();
        let field = self.scale.to_wire(window);
        let offered = self.scale.from_wire(field);
        // What was offered must stay offered, and what is open must not be scaled away, so an odd
        // rest is rounded up (as in Linux); the right edge is where this field says it is.
        let odd = offered < self.rcv_wnd() || (offered == 0 && window > 0);
        // Each rounding moves the edge to the right. Were it done whether or not there is room, a
        // peer that sends less than the granularity at a time would never see the window close.
        // RFC 7323 §2.4 lets the window seem to shrink by that much; what comes is still taken.
        let room = offered < self.free();
        if odd && room && field < u16::MAX { field + 1 } else { field }
    }

    /// A segment with `field` as its window was sent: what it offers stays offered.
    pub(in crate::tcp) fn on_window_sent(&mut self, field: u16) {
        self.right_edge = self.right_edge.max(self.rcv_nxt + self.scale.from_wire(field));
    }

    /// An acknowledgment with `field` as its window was sent.
    pub(in crate::tcp) fn on_ack_sent(&mut self, field: u16) {
        self.on_window_sent(field);
        self.opening = false;
        self.last_ack_sent = self.rcv_nxt;
        self.duplicate = None;
        self.ack.on_sent();
        if self.free() < self.most() / 2 {
            self.ack.end_quick();
        }
    }

    /// A SYN-ACK that offers `window` bytes was sent. That is never scaled (RFC 7323 §2.2).
    pub(in crate::tcp) fn on_syn_ack_sent(&mut self, window: usize) {
        self.right_edge = self.right_edge.max(self.rcv_nxt + window);
        self.last_ack_sent = self.rcv_nxt;
        self.opening = true;
        self.ack.cancel();
    }

    pub(in crate::tcp) fn last_ack_sent(&self) -> Seq {
        self.last_ack_sent
    }

    /// Whether more than one full segment is unacknowledged and the window can follow.
    pub(in crate::tcp) fn full_segments_unacked(&self) -> bool {
        self.rcv_nxt.since(self.last_ack_sent) > self.rcv_mss
            && (self.useful_room() >= self.rcv_wnd() || self.buffer.is_empty())
    }

    /// The user read `n` bytes. Says whether the window must be announced now.
    pub(in crate::tcp) fn on_read(&mut self, now: Instant, n: usize) -> bool {
        let wanted = self.tuning.on_read(now, self.read_position());
        if let Some(wanted) = wanted.filter(|_| !self.locked) {
            self.limit = wanted.clamp(self.limit, self.max_limit);
        }
        // Beside a SYN-ACK's window the full one is large: nothing to tell before data comes for it.
        if n == 0 || self.fin.is_some() || self.opening {
            return false;
        }
        // Linux: announce when the window at least doubles by it.
        let current = self.rcv_wnd();
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

    /// A full segment echoed a timestamp that we sent `rtt` ago.
    pub(in crate::tcp) fn on_echo(&mut self, payload_len: usize, tsecr: u32, rtt: Duration) {
        if payload_len >= self.rcv_mss {
            self.tuning.on_echo(tsecr, rtt);
        }
    }

    /// `SO_RCVBUF` was set.
    pub(in crate::tcp) fn set_buffer_size(&mut self, size: usize) {
        self.locked = true;
        self.limit = window_limit(size);
    }

    /// `TCP_WINDOW_CLAMP` was set.
    pub(in crate::tcp) fn set_clamp(&mut self, clamp: Option<usize>) {
        self.clamp = clamp.unwrap_or(usize::MAX);
    }

    /// Our window scale.
    #[cfg(test)]
    pub(in crate::tcp) fn scale(&self) -> WindowScale {
        self.scale
    }

    /// The MSS that we advertised.
    pub(in crate::tcp) fn advertised_mss(&self) -> usize {
        self.advertised_mss
    }

    /// The limit of the window, in bytes.
    pub(in crate::tcp) fn limit(&self) -> usize {
        self.limit
    }

    /// Bytes that the reader took in the busiest round trip (`rcv_space` of `TCP_INFO`).
    pub(in crate::tcp) fn space(&self) -> usize {
        self.tuning.space()
    }

    /// The receiver's estimate of the round-trip time (`rcv_rtt` of `TCP_INFO`).
    pub(in crate::tcp) fn rtt(&self) -> Duration {
        self.tuning.rtt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SeqNum;
    use std::io::IoSliceMut;

    const MSS: usize = 1000;

    fn receiver(window: usize) -> Receiver {
        let setup = ReceiverSetup {
            rcv_nxt: base(),
            scale: WindowScale::NONE,
            offered: window,
            sack: true,
            advertised_mss: MSS,
            buffer_size: Some(2 * window),
            clamp: None,
            rtt: Some(Duration::from_millis(10)),
        };
        Receiver::new(Instant::ZERO, setup, &Config::default())
    }

    fn base() -> Seq {
        Seq::initial(SeqNum::new(5))
    }

    fn data(r: &mut Receiver, at: usize, len: usize) -> Received {
        r.on_data(Instant::ZERO, base() + at, Chunk::copy_from(&vec![at as u8; len]))
    }

    fn read(r: &mut Receiver, n: usize) -> bool {
        let mut to = vec![0; n];
        let n = r.buffer.read(&mut [IoSliceMut::new(&mut to)]);
        r.on_read(Instant::ZERO, n)
    }

    #[test]
    fn segments_that_touch_the_window_are_acceptable() {
        let mut r = receiver(10_000);
        let b = base();
        assert!(r.acceptable(b, 0) && r.acceptable(b + 10_000, 0) && !r.acceptable(b + 10_001, 0));
        assert!(!r.acceptable(b - 1, 0), "a keep-alive probe is not acceptable, so it is answered");
        assert!(r.acceptable(b - 5, 6) && !r.acceptable(b - 6, 5));
        data(&mut r, 0, 10_000);
        r.on_ack_sent(0);
        assert_eq!(r.rcv_wnd(), 0);
        assert!(r.acceptable(b + 10_000, 1), "a window probe: its acknowledgment counts");
        assert_eq!(data(&mut r, 10_000, 1), Received::Old, "its text does not");
        assert!(!r.acceptable(b + 10_001, 1));
    }

    /// Takes `len` bytes at `at` and acknowledges them.
    fn take(r: &mut Receiver, at: usize, len: usize) {
        data(r, at, len);
        r.on_ack_sent(r.window_field());
    }

    #[test]
    fn small_segments_close_a_scaled_window_too() {
        for shift in [7, 14] {
            let mut r = receiver(60_000);
            r.scale = WindowScale::from_option(shift);
            r.set_buffer_size(120_000);
            let granularity = r.scale.granularity();
            for len in [1, 100, 127, 1000] {
                for _ in 0..1_000 {
                    let at = r.rcv_nxt.since(base());
                    take(&mut r, at, len);
                }
            }
            assert!(r.buffer.len() < 60_000 + granularity, "scale {shift}: {} bytes", r.buffer.len());
            assert!(r.buffer.len() > 60_000 - granularity, "scale {shift}: {} bytes", r.buffer.len());
        }
    }

    #[test]
    fn a_clamped_window_opens_again() {
        let mut r = receiver(64_000);
        r.set_clamp(Some(1_152));
        for i in 0..64 {
            take(&mut r, i * 1000, 1000);
            read(&mut r, 1000);
        }
        assert!(r.rcv_wnd() <= 1_152 && r.select_window() == 1_152, "{}", r.select_window());
    }

    #[test]
    fn a_window_smaller_than_the_scale_can_say_is_not_scaled_away() {
        let mut r = receiver(2_000);
        r.scale = WindowScale::from_option(14);
        take(&mut r, 0, 2_000);
        assert_eq!(r.window_field(), 0);
        read(&mut r, 2_000);
        assert_eq!(r.window_field(), 1);
    }

    #[test]
    fn a_reader_that_is_behind_is_not_acknowledged_for_at_once() {
        let mut r = receiver(10_000);
        data(&mut r, 0, 2_000);
        assert!(r.full_segments_unacked(), "the window can move on");
        r.on_ack_sent(r.window_field());
        data(&mut r, 2_000, 7_500);
        assert!(!r.full_segments_unacked(), "there is no room to tell of");
    }

    #[test]
    fn a_hole_is_filled_and_all_becomes_readable() {
        let mut r = receiver(10_000);
        assert_eq!(data(&mut r, 2000, 1000), Received::OutOfOrder);
        assert_eq!(data(&mut r, 0, 1000), Received::InOrder);
        assert_eq!(r.buffer.len(), 1000);
        assert_eq!(data(&mut r, 500, 2000), Received::InOrder, "both ends overlap");
        assert_eq!(r.buffer.len(), 3000);
        assert!(!r.has_hole());
    }

    #[test]
    fn duplicates_are_reported_once_and_first() {
        let mut r = receiver(10_000);
        data(&mut r, 0, 1000);
        data(&mut r, 2000, 1000);
        assert_eq!(data(&mut r, 200, 300), Received::Old);
        let blocks = r.sack_blocks(3);
        assert_eq!(blocks[0].start, (base() + 200).wire());
        assert_eq!(blocks[0].end, (base() + 500).wire());
        assert_eq!(blocks[1].start, (base() + 2000).wire());
        r.on_ack_sent(r.window_field());
        assert_eq!(r.sack_blocks(3).len(), 1);
    }

    #[test]
    fn a_duplicate_of_queued_data_names_its_run_second() {
        let mut r = receiver(10_000);
        data(&mut r, 2000, 1000);
        data(&mut r, 5000, 1000);
        data(&mut r, 2500, 100);
        let blocks = r.sack_blocks(3);
        assert_eq!(blocks[0].start, (base() + 2500).wire());
        assert_eq!(blocks[1].start, (base() + 2000).wire());
        assert_eq!(blocks[2].start, (base() + 5000).wire());
    }

    #[test]
    fn data_beyond_the_window_is_cut_off() {
        let mut r = receiver(1500);
        data(&mut r, 0, 1000);
        data(&mut r, 1000, 1000);
        assert_eq!(r.buffer.len(), 1500);
        assert_eq!(data(&mut r, 1500, 10), Received::Old);
    }

    #[test]
    fn the_fin_waits_for_what_is_before_it_and_nothing_comes_after() {
        let mut r = receiver(10_000);
        r.on_fin(base() + 1000);
        assert!(!r.take_fin());
        data(&mut r, 1000, 500);
        assert!(!r.has_hole(), "data after the FIN is dropped");
        data(&mut r, 0, 1000);
        assert!(r.take_fin());
        assert_eq!(r.rcv_nxt, base() + 1001);
    }

    #[test]
    fn the_right_edge_never_moves_left_and_moves_right_by_a_useful_amount() {
        let mut r = receiver(10_000);
        data(&mut r, 0, 9_900);
        assert_eq!(r.window_field(), 100, "what was offered stays offered");
        r.on_ack_sent(100);
        read(&mut r, 100);
        assert_eq!(r.window_field(), 100, "100 bytes more are not worth a move");
        assert!(read(&mut r, 2_000), "the reader made room: announce it");
        assert_eq!(r.window_field(), 2_200);
    }

    #[test]
    fn the_window_grows_on_a_path_where_one_packet_is_a_whole_window() {
        let setup = ReceiverSetup {
            rcv_nxt: base(),
            scale: WindowScale::from_option(7),
            offered: 64_240,
            sack: true,
            advertised_mss: 1460,
            buffer_size: None,
            clamp: None,
            rtt: Some(Duration::ZERO),
        };
        let mut r = Receiver::new(Instant::ZERO, setup, &Config::default());
        // 60 kB every 20 us, read in halves as it comes.
        for i in 1..2_000u64 {
            let now = Instant::from_micros(20 * i);
            let at = r.rcv_nxt;
            r.on_data(now, at, Chunk::copy_from(&vec![0; 60_000.min(r.rcv_wnd())]));
            for _ in 0..2 {
                let n = r.buffer.len() / 2;
                r.buffer.read(&mut [IoSliceMut::new(&mut vec![0; n])]);
                r.on_read(now, n);
            }
            r.buffer.clear();
            r.on_ack_sent(r.window_field());
        }
        assert!(r.limit() > 1 << 20, "{}", r.limit());
    }

    #[test]
    fn the_window_follows_what_the_reader_takes() {
        let setup = ReceiverSetup {
            rcv_nxt: base(),
            scale: WindowScale::from_option(7),
            offered: 65_535,
            sack: true,
            advertised_mss: 1460,
            buffer_size: None,
            clamp: None,
            rtt: Some(Duration::from_millis(10)),
        };
        let config = Config::default();
        let mut r = Receiver::new(Instant::ZERO, setup, &config);
        let mut now = Instant::ZERO;
        for _ in 0..40 {
            now += Duration::from_millis(10);
            let n = r.rcv_wnd();
            let at = r.rcv_nxt;
            r.on_data(now, at, Chunk::copy_from(&vec![0; n]));
            r.buffer.clear();
            r.on_read(now, n);
            r.on_ack_sent(r.window_field());
        }
        assert_eq!(r.limit(), config.recv_buffer_max / 2);
    }
}
