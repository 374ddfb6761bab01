//! The segment that nearly all segments are.

use super::header::{TCP_HEADER_LEN, USUAL_TIMESTAMPS};
use super::segment::{Flags, Options, Segment, Timestamps, on_wire};
use super::seq::SeqNum;
use crate::wire::Ecn;

/// A segment without options but timestamps, and without an urgent pointer: few enough values to be passed on. Each is
/// what it is in a [`Segment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainSegment {
    /// Sequence number of the first byte.
    pub seq: SeqNum,
    /// Acknowledgment number.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// The window field, not scaled.
    pub window: u16,
    /// The ECN field of the IP header.
    pub ecn: Ecn,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// Payload bytes.
    pub payload_len: usize,
    /// Payload bytes of each segment that went into a super-segment, if this is one.
    pub gso_size: Option<u16>,
}

impl PlainSegment {
    /// Reads a segment from its header and payload, if its header is laid out in the usual way: either there are no
    /// options, or the timestamps of RFC 7323 appendix A. Of the IP header and the device it knows nothing.
    #[inline(always)]
    pub(in crate::wire) fn read(tcp: &[u8]) -> Option<Self> {
        let (fixed, after) = tcp.split_first_chunk::<TCP_HEADER_LEN>()?;
        let (&[_, seq, ack, control, [_, _, urgent @ ..]], []) = fixed.as_chunks::<4>() else { return None };
        let [offset, flags, high, low] = control;
        let (timestamps, payload_len) = if offset >> 4 == 8 {
            let (options, payload) = after.split_first_chunk::<12>()?;
            let (&[kind, tsval, tsecr], []) = options.as_chunks::<4>() else { return None };
            if kind != USUAL_TIMESTAMPS {
                return None;
            }
            let [tsval, tsecr] = [tsval, tsecr].map(u32::from_be_bytes);
            (Some(Timestamps { tsval, tsecr }), payload.len())
        } else if offset >> 4 == 5 {
            (None, after.len())
        } else {
            return None;
        };
        if urgent != [0, 0] {
            return None;
        }
        Some(Self {
            seq: SeqNum::new(u32::from_be_bytes(seq)),
            ack: SeqNum::new(u32::from_be_bytes(ack)),
            flags: Flags::from_bits(u16::from_be_bytes([offset, flags])),
            window: u16::from_be_bytes([high, low]),
            ecn: Ecn::NotEct,
            timestamps,
            payload_len,
            gso_size: None,
        })
    }

    /// A segment, if it is a plain one.
    pub fn of(segment: &Segment) -> Option<Self> {
        let &Segment { seq, ack, flags, window, urgent, ref options, ecn, payload_len, gso_size } = segment;
        let plain = urgent == 0 && options.has_only_timestamps();
        let timestamps = options.timestamps;
        plain.then_some(Self { seq, ack, flags, window, ecn, timestamps, payload_len, gso_size })
    }

    /// The same with all that other segments have.
    pub fn to_segment(self) -> Segment {
        let Self { seq, ack, flags, window, ecn, timestamps, payload_len, gso_size } = self;
        let options = Options { timestamps, ..Options::default() };
        Segment { seq, ack, flags, window, urgent: 0, options, ecn, payload_len, gso_size }
    }

    /// How many segments were on the wire: more than one for a super-segment.
    #[inline]
    pub fn on_wire(&self) -> usize {
        on_wire(self.payload_len, self.gso_size)
    }
}
