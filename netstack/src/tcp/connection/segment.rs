//! The segments of a connection: header and options.

use super::Connection;
use crate::tcp::ecn::{OptionRoom, SACK_BASE_LEN, SACK_BLOCK_LEN, Text};
use crate::tcp::send::{Kind, Span, Transmit};
use crate::tcp::seq::Seq;
use crate::tcp::timestamps::TIMESTAMPS_LEN;
use crate::time::Instant;
use crate::wire::{AccEcn, Ecn, Flags, Segment};

/// Bytes of options in a TCP header at most.
const MAX_OPTIONS: usize = 40;

/// Bytes of text that a segment has room for, whatever its options are.
const MIN_TEXT: usize = 8;

impl Connection {
    /// Payload bytes of a full segment with the options that it would carry now: SACK blocks take
    /// room (RFC 9293 MUST-16).
    #[inline]
    pub(super) fn current_mss(&self, now: Instant) -> usize {
        if !self.has_further_options() {
            return self.snd.mss();
        }
        let acc_ecn = self.acc_ecn(now).as_ref().map_or(0, AccEcn::len_on_wire);
        let blocks = self.rcv.sack_blocks(self.max_sack_blocks(acc_ecn)).len();
        let sack = if blocks == 0 { 0 } else { SACK_BASE_LEN + SACK_BLOCK_LEN * blocks };
        self.snd.mss().saturating_sub(sack + acc_ecn).max(MIN_TEXT)
    }

    /// Whether a segment may carry more options now than every segment does. Asked several times for each, and
    /// mostly not so.
    #[inline]
    fn has_further_options(&self) -> bool {
        self.ecn.is_some() || self.rcv.has_sack_blocks()
    }

    /// AccECN's option, if the next segment is to carry it.
    pub(super) fn acc_ecn(&self, now: Instant) -> Option<AccEcn> {
        let ecn = self.ecn.as_ref()?;
        let blocks = self.rcv.sack_blocks(self.max_sack_blocks(0)).len();
        let taken = if self.ts.is_some() { TIMESTAMPS_LEN } else { 0 };
        let room = OptionRoom { free: MAX_OPTIONS - taken, blocks };
        ecn.option(now, self.path.srtt().unwrap_or_default(), room)
    }

    /// A segment with `span` of what was written.
    pub(super) fn data_segment(&self, now: Instant, kind: Kind, span: Span) -> Transmit {
        let Span { start, len, with_fin } = span;
        let mut flags = Flags::ACK;
        if with_fin {
            flags = flags.with(Flags::FIN);
        }
        if len > 0 && self.snd.is_pushed(start + len) {
            flags = flags.with(Flags::PSH);
        }
        let new = len > 0 && matches!(kind, Kind::New { .. });
        let text = if new { Text::New } else { Text::Again };
        // Filled in where it is: it is too large to be moved for nothing.
        let mut transmit = Transmit::new(kind, self.blank(start, flags));
        self.fill(now, &mut transmit.segment, text);
        transmit.segment.payload_len = len;
        transmit
    }

    /// A segment at `seq`, which is to carry `text`.
    pub(super) fn header(&self, now: Instant, seq: Seq, flags: Flags, text: Text) -> Segment {
        let mut segment = self.blank(seq, flags);
        self.fill(now, &mut segment, text);
        segment
    }

    #[inline]
    fn blank(&self, seq: Seq, flags: Flags) -> Segment {
        Segment::new(flags, seq.wire(), self.rcv.nxt().wire())
    }

    /// Fills in what every segment has.
    fn fill(&self, now: Instant, segment: &mut Segment, text: Text) {
        if let Some(ecn) = &self.ecn {
            segment.flags = segment.flags.with(ecn.flags(text));
        }
        segment.window = self.rcv.window_field();
        segment.options.timestamps = self.ts.map(|ts| ts.option(now));
        if self.has_further_options() {
            let acc_ecn = self.acc_ecn(now);
            let blocks = self.max_sack_blocks(acc_ecn.as_ref().map_or(0, AccEcn::len_on_wire));
            segment.ecn = self.ecn.as_ref().map_or(Ecn::NotEct, |ecn| ecn.field(text));
            segment.options.sack = self.rcv.sack_blocks(blocks);
            segment.options.acc_ecn = acc_ecn;
        }
    }

    fn max_sack_blocks(&self, acc_ecn: usize) -> usize {
        let taken = if self.ts.is_some() { TIMESTAMPS_LEN } else { 0 };
        let room = MAX_OPTIONS - taken - acc_ecn - SACK_BASE_LEN;
        // Asked several times for each segment, and mostly there are none.
        if !self.rcv.has_sack_blocks() {
            return room / SACK_BLOCK_LEN;
        }
        // On a link whose packets are hardly longer than headers, text has precedence.
        let beside_text = self.snd.mss().saturating_sub(MIN_TEXT + acc_ecn + SACK_BASE_LEN);
        room.min(beside_text) / SACK_BLOCK_LEN
    }
}
