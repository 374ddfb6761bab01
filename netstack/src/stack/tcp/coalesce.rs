//! Joining the segments of a batch that follow each other in one flow, before TCP sees them: generic receive
//! offload (GRO).
//!
//! A connection then does its work once for up to 45 segments. It is the work of a device or of the kernel below
//! a TUN device with offloads; here it is done for devices that deliver segment by segment. What a join may hide
//! is nothing that anybody asks for: only text that carries on where the last one ended is joined, with the same
//! acknowledgment, window, flags, ECN field, hop limit and options, and of timestamps the first one counts, as it
//! does where the segments come one by one (RFC 7323 §4.3). The rules are those of `tcp_gro_receive` in Linux, which
//! wants equal timestamps, too. A connection that has to say something of each, because they are not the next in
//! order, gets them one by one all the same.

use super::next::Next;
use crate::buffer::Chunk;
use crate::stack::flow::QueueId;
use crate::wire::{Flags, IpFields, PlainSegment, SeqNum};

/// Payload below which a segment does not wait for others: a small one is a message, and no part of a stream.
const LEAST: usize = 256;

/// Bytes of the largest super-segment, with room for headers in its buffer.
const MOST: usize = 65_535 - 256;

/// Segments that were joined to one, which waits for the next.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) from: QueueId,
    pub(super) segment: PlainSegment,
    pub(super) payload: Chunk,
    ip: IpFields,
    /// Payload of each segment but the last.
    size: usize,
    /// The number after the last byte.
    next: SeqNum,
    /// The latest timestamp.
    tsval: u32,
}

impl Joined {
    /// Whether others may be joined to a segment.
    #[inline]
    pub(super) fn may_begin_with(segment: &PlainSegment) -> bool {
        // One with PSH ends what its sender had to send.
        segment.payload_len >= LEAST && segment.gso_size.is_none() && segment.flags.without(ACE) == Flags::ACK
    }

    /// The first segment, whose payload is `payload`.
    pub(super) fn new(from: QueueId, segment: &PlainSegment, ip: IpFields, payload: Chunk) -> Self {
        Self {
            from,
            ip,
            size: segment.payload_len,
            next: segment.seq + segment.payload_len as u32,
            tsval: segment.timestamps.map_or(0, |option| option.tsval),
            segment: *segment,
            payload,
        }
    }

    /// Whether a segment of the same flow carries on where the last one ended, and differs in nothing that matters.
    #[inline]
    fn takes(&self, next: &Next) -> bool {
        let (first, segment) = (&self.segment, &next.segment);
        let timestamps = match (first.timestamps, segment.timestamps) {
            (None, None) => true,
            (Some(of_first), Some(option)) => {
                of_first.tsecr == option.tsecr && option.tsval.wrapping_sub(self.tsval) as i32 >= 0
            }
            _ => false,
        };
        segment.seq == self.next
            && timestamps
            && (1..=self.size).contains(&segment.payload_len)
            && segment.gso_size.is_none()
            && segment.flags.without(Flags::PSH) == first.flags
            && (segment.ack, segment.window) == (first.ack, first.window)
            && (next.ip, next.from) == (self.ip, self.from)
            && self.has_room_for(segment.payload_len)
    }

    fn has_room_for(&self, len: usize) -> bool {
        len <= self.payload.spare().min(MOST - self.payload.len().min(MOST))
    }

    /// Joins a segment of the same flow with its payload, if it carries on where the last one ended and differs in
    /// nothing that matters. None if it does not; else whether one more may follow.
    #[inline]
    pub(super) fn append(&mut self, next: &Next, payload: &[u8]) -> Option<bool> {
        if !self.takes(next) {
            return None;
        }
        let segment = &next.segment;
        let len = self.payload.append(payload);
        debug_assert_eq!(len, segment.payload_len);
        self.next = self.next + len as u32;
        self.tsval = segment.timestamps.map_or(0, |option| option.tsval);
        self.segment.payload_len += len;
        self.segment.gso_size = Some(self.size as u16);
        self.segment.flags = self.segment.flags.with(segment.flags);
        Some(len == self.size && !segment.flags.contains(Flags::PSH))
    }

    /// Whether nothing was joined to the first segment.
    pub(super) fn is_single(&self) -> bool {
        self.segment.gso_size.is_none()
    }

    /// The segments one by one, but for their timestamps, which are those of the first.
    pub(super) fn into_segments(self) -> Vec<(PlainSegment, Chunk)> {
        let Self { segment, payload, size, .. } = self;
        if segment.gso_size.is_none() {
            return vec![(segment, payload)];
        }
        let mut rest = payload.as_slice();
        let mut segments = Vec::with_capacity(segment.on_wire());
        while !rest.is_empty() {
            let (text, after) = rest.split_at(size.min(rest.len()));
            let passed = payload.len() - rest.len();
            let flags = if after.is_empty() { segment.flags } else { segment.flags.without(Flags::PSH) };
            let seq = segment.seq + passed as u32;
            let one = PlainSegment { seq, flags, payload_len: text.len(), gso_size: None, ..segment };
            segments.push((one, payload.copy_of(text)));
            rest = after;
        }
        segments
    }
}

/// The flags in which AccECN counts. Those of classic ECN are the same.
const ACE: Flags = Flags::from_ace(7);
