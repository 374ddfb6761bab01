//! The receiving half of a connection: RCV.NXT, the window, what waits for the reader, and the
//! acknowledgments that are owed.

mod acks;
#[cfg(any(test, feature = "simulation"))]
mod check;
mod expected;
mod pressure;
mod reading;
#[cfg(test)]
mod tests;
mod window;

pub(in crate::tcp) use acks::FirstAck;
#[cfg(any(test, feature = "simulation"))]
pub use check::Holdings;

use super::ack::AckPolicy;
use super::assembler::Assembler;
use super::recv_buffer::{RecvBuffer, RecvPlaces};
use super::right_sizing::RightSizing;
use super::space::RecvSpace;
use crate::buffer::Chunk;
use crate::config::Config;
use crate::reasons::DropReason;
use crate::tcp::compact::compact;
use crate::tcp::seq::Seq;
use crate::tcp::window::WindowScale;
use crate::time::{Duration, Instant};
use crate::wire::{MAX_SACK_BLOCKS, SackBlock};
use arrayvec::ArrayVec;

/// The receive variables of RFC 9293 §3.3.1, and what was received.
#[derive(Debug)]
pub(in crate::tcp) struct Receiver {
    /// RCV.NXT: the next byte expected.
    rcv_nxt: Seq,
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
    buffer: RecvBuffer,
    /// Data beyond a hole.
    assembler: Assembler,
    /// The peer's FIN, if it is known.
    fin: Option<Fin>,
    /// A duplicate to report once (RFC 2883).
    duplicate: Option<(Seq, Seq)>,
    /// Whether SACK was negotiated.
    sack: bool,
    /// How large the window may be.
    space: RecvSpace,
    /// The largest payload of one segment seen lately: what "full-sized" means to the peer.
    rcv_mss: usize,
    /// The MSS that we advertised.
    advertised_mss: usize,
    /// When and how to acknowledge.
    ack: AckPolicy,
    tuning: RightSizing,
    /// Whether the user will read no more; what arrives is dropped.
    discard: bool,
}

compact!(Receiver {
    rcv_nxt,
    right_edge,
    last_ack_sent,
    opening,
    scale,
    buffer,
    assembler,
    fin,
    duplicate,
    sack,
    space,
    rcv_mss,
    advertised_mss,
    ack,
    tuning,
    discard,
});

/// A FIN of the peer. It counts once the stream comes to it; until then it may turn out to be misplaced.
#[derive(Clone, Copy, Debug)]
struct Fin {
    /// Where the run of text begins that it ends; its own position if there is none. Text that covers all
    /// of that, and goes on, takes the FIN's place.
    start: Seq,
    at: Seq,
    /// Whether nothing was queued since it came.
    latest: bool,
}

compact!(Fin { start, at, latest });

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

/// What comes with a segment's text.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct TextMeta {
    /// Payload bytes of each segment that went into a super-segment, if this is one.
    pub(in crate::tcp) gso_size: Option<u16>,
    /// Whether the segment has PSH.
    pub(in crate::tcp) push: bool,
    /// The timestamp that it echoes.
    pub(in crate::tcp) echo: Option<Echo>,
    /// The retransmission time-out: the longest gap between segments that is no pause.
    pub(in crate::tcp) rto: Duration,
    /// The smoothed round-trip time, which no acknowledgment is delayed for longer than.
    pub(in crate::tcp) srtt: Option<Duration>,
}

/// A timestamp that the peer echoes.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Echo {
    pub(in crate::tcp) tsecr: u32,
    /// How long ago we sent it.
    pub(in crate::tcp) rtt: Duration,
}

/// What a segment's text was to the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Received {
    /// Nothing new: all of it was here, or outside of the window.
    Dropped(DropReason),
    /// It could be read at once.
    InOrder,
    /// It is queued beyond a hole.
    OutOfOrder,
}

impl Receiver {
    /// Whether everything was read and acknowledged, and nothing is missing.
    pub(in crate::tcp) fn is_at_rest(&self) -> bool {
        self.buffer.is_empty()
            && self.assembler.is_empty()
            && self.fin.is_none()
            && self.duplicate.is_none()
            && self.ack.due() == super::Due::No
            && !self.discard
    }

    pub(in crate::tcp) fn new(now: Instant, setup: ReceiverSetup, config: &Config) -> Self {
        let ReceiverSetup { rcv_nxt, scale, offered, sack, advertised_mss, buffer_size, clamp, rtt } = setup;
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
            space: RecvSpace::new(buffer_size, clamp, config),
            rcv_mss: 536.min(advertised_mss),
            advertised_mss,
            ack: AckPolicy::new(config),
            tuning: RightSizing::new(now, rcv_nxt, offered, advertised_mss, rtt),
            discard: false,
        }
    }

    /// Memory of the queues themselves, in bytes: buffers count in their pool.
    #[inline]
    pub(in crate::tcp) fn places(&self) -> usize {
        self.buffer.places() + self.assembler.places()
    }

    /// Takes its memory, if nothing is in it.
    pub(in crate::tcp) fn take_places(&mut self) -> RecvPlaces {
        self.buffer.take_places()
    }

    /// Uses this memory, if there is none.
    pub(in crate::tcp) fn use_places(&mut self, places: RecvPlaces) {
        self.buffer.use_places(places);
    }

    /// RCV.NXT.
    pub(in crate::tcp) fn nxt(&self) -> Seq {
        self.rcv_nxt
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

    /// The largest payload of one segment seen lately.
    pub(in crate::tcp) fn rcv_mss(&self) -> usize {
        self.rcv_mss
    }

    /// Whether something of `start..end` was not received yet.
    pub(in crate::tcp) fn lacks(&self, start: Seq, end: Seq) -> bool {
        end > self.rcv_nxt && self.assembler.lacks(start.max(self.rcv_nxt), end)
    }

    /// Whether `len` bytes at `seq` are the next in order, with nothing queued behind them, and within the window.
    pub(in crate::tcp) fn is_next(&self, seq: Seq, len: usize) -> bool {
        seq == self.rcv_nxt && self.assembler.is_empty() && self.fin.is_none() && seq + len <= self.right_edge
    }

    /// Takes the text at `seq`, and decides when to acknowledge it.
    pub(in crate::tcp) fn on_text(
        &mut self,
        now: Instant,
        seq: Seq,
        chunk: Chunk,
        meta: &TextMeta,
    ) -> Received {
        let len = chunk.len();
        self.learn_mss(len, meta.gso_size, meta.push);
        if let Some(echo) = meta.echo {
            self.on_echo(len, echo);
        }
        let had_hole = !self.assembler.is_empty();
        let received = self.on_data(now, seq, chunk);
        let (window, mss) = (self.wnd(), self.rcv_mss);
        match received {
            Received::Dropped(_) => self.ack.now_urgently(),
            Received::OutOfOrder => {
                // RFC 5681 §4.2: at once, and each on its own.
                self.ack.on_data(now, || meta.rto, window, mss);
                self.ack.now_urgently();
            }
            Received::InOrder => {
                self.ack.on_data(now, || meta.rto, window, mss);
                if self.duplicate.is_some() && had_hole {
                    // The acknowledgment of another segment might have to report another duplicate.
                    self.ack.now_urgently();
                } else if had_hole {
                    self.ack.now();
                } else {
                    let full = self.full_segments_unacked();
                    self.ack.schedule(now, full, meta.srtt);
                }
            }
        }
        received
    }

    /// Text came that was all received before: our acknowledgment was lost.
    pub(in crate::tcp) fn on_old_text(&mut self, seq: Seq, len: usize) {
        self.report_duplicate(seq, seq + len);
        self.ack.now_urgently();
    }

    /// The peer's SYN came a second time, and Linux says so.
    pub(in crate::tcp) fn on_old_syn(&mut self) {
        self.report_duplicate(self.rcv_nxt - 1, self.rcv_nxt);
        self.ack.now_urgently();
    }

    /// A segment, with text from `start` on, ends with a FIN at `at`; to be told before the text. A FIN in
    /// the middle of queued text is dropped with its segment, as everything that is there already, and of
    /// two the earlier one counts (as in Linux, where a FIN is queued like a byte).
    pub(in crate::tcp) fn expect_fin(&mut self, start: Seq, at: Seq) {
        if at < self.rcv_nxt || self.fin.is_some_and(|fin| fin.at <= at) {
            return;
        }
        let run = self.assembler.ending_after(start);
        if start > self.rcv_nxt && run.is_some_and(|(_, end)| at < end) {
            self.report_duplicate(start, at + 1);
            return;
        }
        self.fin = Some(Fin { start: run.map_or(start, |(run_start, _)| run_start), at, latest: true });
    }

    /// Acknowledges a FIN at `at`, at the end of a segment from `start` on, that is not the next in order, where
    /// a first one is `expected`.
    pub(in crate::tcp) fn on_fin(&mut self, start: Seq, at: Seq, expected: bool) {
        if at < self.rcv_nxt {
            // It was taken before: our acknowledgment was lost.
            self.on_old_text(start, at.since(start) + 1);
        } else if expected && at > self.rcv_nxt {
            self.ack.now_urgently();
        }
    }

    /// Takes the FIN if everything before it has arrived.
    pub(in crate::tcp) fn take_fin(&mut self) -> bool {
        if self.fin.is_none_or(|fin| fin.at != self.rcv_nxt) {
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
        self.fin.is_some_and(|fin| fin.at < self.rcv_nxt)
    }

    /// Whether the peer's FIN was received and something before it was not.
    pub(in crate::tcp) fn fin_is_ahead(&self) -> bool {
        self.fin.is_some_and(|fin| fin.at > self.rcv_nxt)
    }

    /// The right edge of the highest SACK block, at which Linux accepts a reset too.
    pub(in crate::tcp) fn sack_edge(&self) -> Option<Seq> {
        let fin = self.queued_fin().map(|fin| fin.at + 1);
        self.assembler.highest().max(fin).filter(|_| self.sack)
    }

    /// The FIN that waits for the text before it.
    fn queued_fin(&self) -> Option<Fin> {
        self.fin.filter(|fin| fin.at > self.rcv_nxt)
    }

    /// The user reads no more: what waits is dropped and what comes is acknowledged and dropped.
    pub(in crate::tcp) fn discard(&mut self) {
        self.discard = true;
        self.buffer.clear();
    }

    /// The SACK blocks of the next acknowledgment: a duplicate first (RFC 2883 §4).
    pub(in crate::tcp) fn sack_blocks(&self, max: usize) -> ArrayVec<SackBlock, MAX_SACK_BLOCKS> {
        // Asked for each segment that leaves, and mostly nothing is missing.
        if !self.has_sack_blocks() {
            return ArrayVec::new();
        }
        let Some((start, end)) = self.duplicate else { return self.queued_blocks(max) };
        let mut blocks = ArrayVec::new();
        blocks.push(SackBlock { start: start.wire(), end: end.wire() });
        // A duplicate of queued data is followed by the run that holds it.
        let around = self.assembler.containing(start).filter(|_| start >= self.rcv_nxt);
        if let Some((start, end)) = around {
            blocks.push(self.block_of(start, end));
        }
        for block in self.queued_blocks(max) {
            if blocks.len() < max && !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        blocks.truncate(max);
        blocks
    }

    /// Whether there is something to report by SACK blocks.
    #[inline]
    pub(in crate::tcp) fn has_sack_blocks(&self) -> bool {
        self.sack && (self.duplicate.is_some() || !self.assembler.is_empty() || self.queued_fin().is_some())
    }

    /// The SACK blocks of what is queued. A FIN counts like a byte, as in Linux: it is the end of the run
    /// that it follows, or a block of its own.
    fn queued_blocks(&self, max: usize) -> ArrayVec<SackBlock, MAX_SACK_BLOCKS> {
        let runs = self.assembler.latest_runs(max);
        let alone = self.queued_fin().filter(|fin| self.assembler.ending_after(fin.at).is_none());
        let mut blocks: ArrayVec<_, MAX_SACK_BLOCKS> =
            runs.iter().map(|(start, end)| self.block_of(*start, *end)).collect();
        let max = max.min(MAX_SACK_BLOCKS);
        match alone {
            Some(fin) if fin.latest && max > 0 => {
                blocks.truncate(max - 1);
                blocks.insert(0, self.block_of(fin.at, fin.at));
            }
            Some(fin) if blocks.len() < max => blocks.push(self.block_of(fin.at, fin.at)),
            _ => {}
        }
        blocks
    }

    fn block_of(&self, start: Seq, end: Seq) -> SackBlock {
        let with_fin = self.queued_fin().is_some_and(|fin| fin.at == end);
        SackBlock { start: start.wire(), end: (end + usize::from(with_fin)).wire() }
    }

    /// The MSS that we advertised.
    pub(in crate::tcp) fn advertised_mss(&self) -> usize {
        self.advertised_mss
    }

    /// The receiver's estimate of the round-trip time (`rcv_rtt` of `TCP_INFO`).
    pub(in crate::tcp) fn rtt(&self) -> Duration {
        self.tuning.rtt()
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

    /// Takes a segment's text. What the window does not cover is cut off.
    fn on_data(&mut self, now: Instant, seq: Seq, mut chunk: Chunk) -> Received {
        let end = seq + chunk.len();
        if end <= self.rcv_nxt {
            self.report_duplicate(seq, end);
            return Received::Dropped(DropReason::TcpOldData);
        }
        if seq < self.rcv_nxt {
            self.report_duplicate(seq, self.rcv_nxt);
            chunk.advance(self.rcv_nxt.since(seq));
        }
        let seq = seq.max(self.rcv_nxt);
        chunk.truncate(self.right_edge.since(seq));
        if chunk.is_empty() {
            return Received::Dropped(DropReason::TcpOverwindow);
        }
        self.drop_covered_fin(seq, seq + chunk.len());
        if seq > self.rcv_nxt {
            let all = Some((seq, seq + chunk.len()));
            let memory = self.space.limit().saturating_mul(4).min(self.out_of_order_room());
            let inserted = self.assembler.insert(seq, chunk, memory);
            if let Some(fin) = &mut self.fin {
                fin.latest = false;
            }
            if let Some((start, end)) = inserted.duplicate {
                self.report_duplicate(start, end);
            }
            return if inserted.new_bytes > 0 {
                Received::OutOfOrder
            } else if inserted.duplicate == all {
                Received::Dropped(DropReason::TcpOfomerge)
            } else {
                Received::Dropped(DropReason::TcpOfoDrop)
            };
        }
        if let Some((start, end)) = self.assembler.first_before(seq + chunk.len()) {
            self.report_more(start, end);
        }
        if self.space.is_pressed() && !self.discard {
            if !self.accept_within(chunk) {
                return Received::Dropped(DropReason::ProtoMem);
            }
        } else if self.assembler.is_empty() {
            self.accept(&mut chunk);
        } else {
            self.accept_beside_queued(chunk);
        }
        if !self.assembler.is_empty() {
            self.drain_assembler();
        }
        self.tuning.on_data(now, self.rcv_nxt, self.right_edge);
        Received::InOrder
    }

    /// Takes text that begins at RCV.NXT. Where it reaches into text that is queued, that is the first copy, and
    /// wins: nobody changes what was received by sending it again.
    fn accept_beside_queued(&mut self, mut chunk: Chunk) {
        while let Some((queued, _)) = self.assembler.first_before(self.rcv_nxt + chunk.len()) {
            let begin = self.rcv_nxt;
            let new = chunk.as_slice().get(..queued.since(begin)).unwrap_or_default();
            if !new.is_empty() {
                self.accept(&mut chunk.copy_of(new));
            }
            self.drain_assembler();
            let taken = self.rcv_nxt.since(begin);
            if taken >= chunk.len() {
                return;
            }
            if taken == 0 {
                break;
            }
            chunk.advance(taken);
        }
        self.accept(&mut chunk);
    }

    /// Takes text that begins at RCV.NXT. What is left of the chunk is its buffer, if it was copied.
    #[inline]
    fn accept(&mut self, chunk: &mut Chunk) {
        self.rcv_nxt += chunk.len();
        if !self.discard {
            self.buffer.push(chunk);
        }
    }

    /// Under memory pressure: takes what there is room for, up to what is queued. The rest was not acknowledged, and
    /// comes again. Says whether that was anything.
    #[cold]
    fn accept_within(&mut self, mut chunk: Chunk) -> bool {
        let len = chunk.len();
        if let Some((queued, _)) = self.assembler.first_before(self.rcv_nxt + len) {
            chunk.truncate(queued.since(self.rcv_nxt));
        }
        let taken = self.buffer.push_within(&chunk, self.space.allowance());
        self.rcv_nxt += taken;
        if taken < len {
            self.ack.now();
        }
        taken > 0
    }

    /// Moves what is not behind a hole any more to the reader's queue.
    fn drain_assembler(&mut self) {
        self.assembler.drop_before(self.rcv_nxt);
        let end = self.fin.map(|fin| fin.at);
        while end != Some(self.rcv_nxt)
            && let Some(mut chunk) = self.assembler.pop_at(self.rcv_nxt)
        {
            if let Some(end) = end {
                chunk.truncate(end.since(self.rcv_nxt));
            }
            self.accept(&mut chunk);
        }
    }

    /// Text covers `start..end`: a FIN that was queued within it was misplaced, if the text covers its
    /// segment whole or comes in order.
    fn drop_covered_fin(&mut self, start: Seq, end: Seq) {
        let in_order = start == self.rcv_nxt;
        let covered = |fin: &mut Fin| fin.at < end && (in_order || start <= fin.start);
        self.fin.take_if(covered);
    }

    /// The range `start..end` came a second time. If a duplicate is to be reported already, there is room
    /// for this one only where it continues the other (`tcp_dsack_extend` in Linux).
    fn report_more(&mut self, start: Seq, end: Seq) {
        match &mut self.duplicate {
            Some((_, reported)) if *reported == start => *reported = end,
            Some(_) => {}
            None => self.report_duplicate(start, end),
        }
    }

    /// The range `start..end` came a second time: the next acknowledgment says so (RFC 2883).
    fn report_duplicate(&mut self, start: Seq, end: Seq) {
        if self.sack {
            self.duplicate = Some((start, end));
        }
    }
}
