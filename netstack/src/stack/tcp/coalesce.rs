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

use super::stray::Stray;
use crate::buffer::Chunk;
use crate::device::RxMeta;
use crate::stack::flow::{FlowKey, QueueId};
use crate::wire::{Flags, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader, Segment, SeqNum, repeats};

/// Payload below which a segment does not wait for others: a small one is a message, and no part of a stream.
const LEAST: usize = 256;

/// Bytes of the largest super-segment, with room for headers in its buffer.
const MOST: usize = 65_535 - 256;

/// Segments that were joined to one, which waits for the next.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) from: QueueId,
    pub(super) key: FlowKey,
    pub(super) segment: Segment,
    pub(super) payload: Chunk,
    hop_limit: u8,
    traffic_class: u8,
    /// Bytes of the headers in front of the payload, in its buffer; zero if others are between them.
    headers: usize,
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
    pub(super) fn may_begin_with(segment: &Segment) -> bool {
        // One with PSH ends what its sender had to send.
        segment.payload_len >= LEAST
            && segment.gso_size.is_none()
            && segment.flags.without(ACE) == Flags::ACK
            && segment.options.has_only_timestamps()
    }

    /// The first segment, whose payload is `payload`, after a TCP header of so many bytes.
    pub(super) fn new(stray: &Stray<'_>, header: &IpHeader, tcp_header: usize, payload: Chunk) -> Self {
        let Stray { from, key, segment } = *stray;
        let ip_header = header.payload.start;
        let plain = ip_header == if header.src.is_ipv4() { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN };
        Self {
            headers: if plain { ip_header + tcp_header } else { 0 },
            from,
            key: *key,
            hop_limit: header.hop_limit,
            traffic_class: header.traffic_class,
            size: segment.payload_len,
            next: segment.seq + segment.payload_len as u32,
            tsval: segment.options.timestamps.map_or(0, |option| option.tsval),
            segment: segment.clone(),
            payload,
        }
    }

    /// Whether a segment carries on where the last one ended, and differs in nothing that matters.
    #[inline]
    pub(super) fn takes(&self, stray: &Stray<'_>, header: &IpHeader) -> bool {
        let Stray { from, key, segment } = *stray;
        let first = &self.segment;
        let timestamps = match (first.options.timestamps, segment.options.timestamps) {
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
            && (header.hop_limit, header.traffic_class) == (self.hop_limit, self.traffic_class)
            && from == self.from
            && *key == self.key
            && segment.options.has_only_timestamps()
            && self.has_room_for(segment.payload_len)
    }

    /// Joins a packet that [`takes`](Self::takes) would take, if a look at its bytes shows that its headers are those
    /// of the first segment again: nothing else needs to be known of it. None if it is another one; else whether one
    /// more may follow.
    #[inline]
    pub(super) fn append_packet(&mut self, from: QueueId, packet: &[u8], meta: &RxMeta) -> Option<bool> {
        if self.headers == 0 || from != self.from || meta.gso_size.is_some() {
            return None;
        }
        let again = repeats(self.payload.before(self.headers)?, packet, meta.checksum_verified)?;
        let text = packet.get(self.headers..)?;
        let takes = again.seq == self.next
            && again.tsval.wrapping_sub(self.tsval) as i32 >= 0
            && again.flags.without(Flags::PSH) == self.segment.flags
            && (1..=self.size).contains(&text.len())
            && self.has_room_for(text.len());
        takes.then(|| self.append(again.flags, again.tsval, text))
    }

    fn has_room_for(&self, len: usize) -> bool {
        len <= self.payload.spare().min(MOST - self.payload.len().min(MOST))
    }

    /// Joins a segment that it [`takes`](Self::takes), with its payload `text`. False if no other may follow.
    #[inline]
    pub(super) fn append(&mut self, flags: Flags, tsval: u32, text: &[u8]) -> bool {
        let appended = self.payload.append(text);
        debug_assert_eq!(appended, text.len());
        self.next = self.next + text.len() as u32;
        self.tsval = tsval;
        self.segment.payload_len += text.len();
        self.segment.gso_size = Some(self.size as u16);
        self.segment.flags = self.segment.flags.with(flags);
        text.len() == self.size && !flags.contains(Flags::PSH)
    }

    /// Whether nothing was joined to the first segment.
    pub(super) fn is_single(&self) -> bool {
        self.segment.gso_size.is_none()
    }

    /// The segments one by one, but for their timestamps, which are those of the first.
    pub(super) fn into_segments(self) -> Vec<(Segment, Chunk)> {
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
            let one = Segment { seq, flags, payload_len: text.len(), gso_size: None, ..segment.clone() };
            segments.push((one, payload.copy_of(text)));
            rest = after;
        }
        segments
    }
}

/// The flags in which AccECN counts. Those of classic ECN are the same.
const ACE: Flags = Flags::from_ace(7);
