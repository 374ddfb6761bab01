//! A segment that is proposed to the device.

use super::send_buffer::Unit;
use crate::reasons::ResetReason;
use crate::tcp::seq::Seq;
use crate::wire::{Flags, Segment};

/// A segment to be sent: its header, and which bytes of the send buffer it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The header; `payload_len` is the length of the whole, also of a super-segment.
    pub segment: Segment,
    /// The MSS to cut a super-segment to; none if the segment is not longer than that.
    pub gso_size: Option<u16>,
    kind: Kind,
}

/// What a segment is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Kind {
    /// Sequence space `start..end` for the first time, with `mss` bytes to a segment: more than the
    /// connection's MSS in a probe of the path's MTU only.
    New { start: Seq, end: Seq, mss: usize, unit: Unit },
    /// Sequence space that was lost.
    Again { start: Seq, end: Seq, mss: usize },
    /// The last segment again, as a probe.
    Tail { start: Seq, end: Seq, mss: usize },
    /// No sequence space: an acknowledgment.
    Ack,
    /// A probe without text.
    Probe,
    /// A reset.
    Reset(ResetReason),
    /// The SYN-ACK of a connection that Fast Open made.
    SynAck,
}

impl Transmit {
    /// One segment.
    #[inline]
    pub(in crate::tcp) fn new(kind: Kind, segment: Segment) -> Self {
        Self { segment, gso_size: None, kind }
    }

    /// Makes a segment that is longer than `mss` a super-segment. As in Linux it ends in PSH, so that
    /// the receiver does not wait to join it with what may follow.
    pub(in crate::tcp) fn cut_to(&mut self, mss: usize) {
        if self.segment.payload_len > mss {
            self.gso_size = Some(mss as u16);
            self.segment.flags = self.segment.flags.with(Flags::PSH);
        }
    }

    /// How many segments it is on the wire.
    pub fn segments(&self) -> usize {
        self.gso_size.map_or(1, |size| self.segment.payload_len.div_ceil(usize::from(size)))
    }

    /// The first `count` segments of a super-segment, fewer than all: what a device took of it.
    pub(crate) fn first(&self, count: usize) -> Self {
        debug_assert!((1..self.segments()).contains(&count), "{count} of {}", self.segments());
        let len = count * usize::from(self.gso_size.unwrap_or_default());
        let mut first = self.clone();
        first.segment.payload_len = len;
        first.segment.flags = first.segment.flags.without(Flags::FIN.with(Flags::PSH));
        first.gso_size = self.gso_size.filter(|_| count > 1);
        if let Kind::New { start, end, .. } | Kind::Again { start, end, .. } | Kind::Tail { start, end, .. } =
            &mut first.kind
        {
            *end = *start + len;
        }
        first
    }

    pub(in crate::tcp) fn kind(&self) -> Kind {
        self.kind
    }

    /// The position of the first byte of the payload, if it carries any.
    pub(in crate::tcp) fn payload_start(&self) -> Option<Seq> {
        match self.kind {
            Kind::New { start, .. } | Kind::Again { start, .. } | Kind::Tail { start, .. } => Some(start),
            Kind::Ack | Kind::Probe | Kind::Reset(_) | Kind::SynAck => None,
        }
    }

    /// Why it is sent, if it is a reset.
    pub fn reset_reason(&self) -> Option<ResetReason> {
        match self.kind {
            Kind::Reset(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether it was sent before.
    pub fn is_again(&self) -> bool {
        matches!(self.kind, Kind::Again { .. } | Kind::Tail { .. })
    }

    /// Whether this is new data without a FIN that is less than a device takes at once, of which `max_payload` bytes are
    /// the most, or less than a segment.
    pub(in crate::tcp) fn is_partial(&self, max_payload: usize) -> bool {
        match self.kind {
            Kind::New { mss, .. } => {
                let whole = (max_payload / mss * mss).max(mss);
                (1..whole).contains(&self.segment.payload_len) && !self.segment.is_fin()
            }
            _ => false,
        }
    }
}
