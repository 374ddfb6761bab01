//! A TCP segment as a value: header fields and options, without its bytes.

use crate::trace::SegmentInfo;
use crate::wire::{AccEcn, Ecn, FastOpenOption, SeqNum};
use arrayvec::ArrayVec;
use std::fmt;

/// The control bits (RFC 9293 §3.1, RFC 9768 §2.1).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u16);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push: the sender has no more data at the moment.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment field is valid.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is valid.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);
    /// Accurate ECN (RFC 9768).
    pub const AE: Self = Self(0x100);

    /// From the nine lowest bits of the header's 16 that begin with the data offset.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & 0x1ff)
    }

    /// The nine lowest bits of the header's 16 that begin with the data offset.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// AE, CWR and ECE as a number, the ACE field of RFC 9768.
    pub const fn ace(self) -> u8 {
        (self.0 >> 6) as u8 & 7
    }

    /// AE, CWR and ECE from a number.
    pub const fn from_ace(ace: u8) -> Self {
        Self((ace as u16 & 7) << 6)
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These bits but for those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::SYN, "SYN"),
            (Self::FIN, "FIN"),
            (Self::RST, "RST"),
            (Self::PSH, "PSH"),
            (Self::ACK, "ACK"),
            (Self::URG, "URG"),
            (Self::ECE, "ECE"),
            (Self::CWR, "CWR"),
            (Self::AE, "AE"),
        ];
        let mut first = true;
        for (flag, name) in names {
            if self.contains(flag) {
                f.write_str(if first { "" } else { "," })?;
                f.write_str(name)?;
                first = false;
            }
        }
        Ok(())
    }
}

/// The timestamps option (RFC 7323 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamps {
    /// The sender's clock.
    pub tsval: u32,
    /// The clock value that the sender echoes; zero without ACK.
    pub tsecr: u32,
}

/// One SACK block: `start` is the first byte received, `end` the one after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SackBlock {
    /// First sequence number of the block.
    pub start: SeqNum,
    /// The sequence number after the block.
    pub end: SeqNum,
}

/// The maximum number of SACK blocks in a segment (RFC 2018 §3); three if there are timestamps.
pub const MAX_SACK_BLOCKS: usize = 4;

/// The options of one segment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// Maximum segment size, SYN only.
    pub mss: Option<u16>,
    /// Window scale shift as received, not limited to 14, SYN only.
    pub window_scale: Option<u8>,
    /// SACK permitted, SYN only.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks, in the order of the wire.
    pub sack: ArrayVec<SackBlock, MAX_SACK_BLOCKS>,
    /// Fast Open, SYN only.
    pub fast_open: Option<FastOpenOption>,
    /// AccECN's counters.
    pub acc_ecn: Option<AccEcn>,
}

impl Options {
    /// Whether there is nothing beside timestamps, as in nearly every segment.
    #[inline]
    pub fn has_only_timestamps(&self) -> bool {
        self.sack.is_empty()
            && self.acc_ecn.is_none()
            && self.mss.is_none()
            && self.window_scale.is_none()
            && self.fast_open.is_none()
            && !self.sack_permitted
    }
}

/// A segment's header fields. The length of the payload is in `payload_len`; its bytes are passed
/// separately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number of the first byte, or of the SYN.
    pub seq: SeqNum,
    /// Acknowledgment number; meaningless without [`Flags::ACK`].
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// The window field, not scaled.
    pub window: u16,
    /// Urgent pointer; meaningless without [`Flags::URG`].
    pub urgent: u16,
    /// Options.
    pub options: Options,
    /// The ECN field of the IP header. A device that joins segments joins those of one kind.
    pub ecn: Ecn,
    /// Payload bytes.
    pub payload_len: usize,
    /// Payload bytes of each segment that went into a super-segment, if this is one. Only what is
    /// received carries it here.
    pub gso_size: Option<u16>,
}

impl From<&Segment> for SegmentInfo {
    fn from(segment: &Segment) -> Self {
        let Segment { flags, seq, ack, window, payload_len, .. } = segment;
        let len = u32::try_from(*payload_len).unwrap_or(u32::MAX);
        Self::new(flags.bits(), seq.raw(), ack.raw()).with(*window, len)
    }
}

impl Segment {
    /// A segment with these fields, and without window, options and payload.
    pub fn new(flags: Flags, seq: SeqNum, ack: SeqNum) -> Self {
        Self {
            seq,
            ack,
            flags,
            window: 0,
            urgent: 0,
            options: Options::default(),
            ecn: Ecn::NotEct,
            payload_len: 0,
            gso_size: None,
        }
    }

    /// Whether the ACK bit is set.
    pub fn is_ack(&self) -> bool {
        self.flags.contains(Flags::ACK)
    }

    /// Whether the SYN bit is set.
    pub fn is_syn(&self) -> bool {
        self.flags.contains(Flags::SYN)
    }

    /// Whether the FIN bit is set.
    pub fn is_fin(&self) -> bool {
        self.flags.contains(Flags::FIN)
    }

    /// Whether the RST bit is set.
    pub fn is_rst(&self) -> bool {
        self.flags.contains(Flags::RST)
    }

    /// SEG.LEN of RFC 9293: payload bytes, plus one each for SYN and FIN.
    pub fn len(&self) -> usize {
        let controls = usize::from(self.is_syn()).wrapping_add(usize::from(self.is_fin()));
        // A payload is at most 64 KiB long.
        self.payload_len.wrapping_add(controls)
    }

    /// How many segments were on the wire: more than one for a super-segment.
    pub fn on_wire(&self) -> usize {
        on_wire(self.payload_len, self.gso_size)
    }

    /// Whether the segment takes no sequence space.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Of how many segments with `gso_size` bytes each a super-segment was made.
#[inline]
pub(super) fn on_wire(payload_len: usize, gso_size: Option<u16>) -> usize {
    gso_size.map_or(1, |size| payload_len.div_ceil(usize::from(size.max(1))).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_by_name() {
        assert_eq!(format!("{:?}", Flags::SYN.with(Flags::ACK)), "SYN,ACK");
    }
}
