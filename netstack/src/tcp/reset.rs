//! Every reset that TCP sends.

use crate::reasons::ResetReason;
use crate::wire::{Flags, Segment, SeqNum, Timestamps};

/// A reset to be sent, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The segment.
    pub segment: Segment,
    /// Why it is sent.
    pub reason: ResetReason,
}

impl Reset {
    /// The answer to a segment that a connection cannot take; none if that is itself a reset.
    pub(super) fn answer(segment: &Segment, reason: ResetReason) -> Option<Self> {
        reset_for_unknown(segment).map(|segment| Self { segment, reason })
    }
}

/// The reset that answers `segment` where no connection is, or none that it could be of (RFC 9293
/// §3.10.7.1); none if the segment is itself a reset.
pub(crate) fn reset_for_unknown(segment: &Segment) -> Option<Segment> {
    if segment.is_rst() {
        return None;
    }
    let (seq, ack, flags) = if segment.is_ack() {
        (segment.ack, SeqNum::default(), Flags::RST)
    } else {
        (SeqNum::default(), segment.seq + segment.len() as u32, Flags::RST.with(Flags::ACK))
    };
    Some(Segment::new(flags, seq, ack))
}

/// The reset that ends a connection on the peer's side: `seq` is in the peer's window, and `ack` is
/// RCV.NXT.
pub(super) fn reset_of_connection(seq: SeqNum, ack: SeqNum, timestamps: Option<Timestamps>) -> Segment {
    let mut reset = Segment::new(Flags::RST.with(Flags::ACK), seq, ack);
    reset.options.timestamps = timestamps;
    reset
}

/// The reset that refuses a connection to the sender of a SYN with the number `irs`.
pub(super) fn reset_of_handshake(seq: SeqNum, irs: SeqNum) -> Segment {
    Segment::new(Flags::RST.with(Flags::ACK), seq, irs + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(flags: Flags) -> Segment {
        Segment { window: 1, payload_len: 3, ..Segment::new(flags, SeqNum::new(u32::MAX), SeqNum::new(77)) }
    }

    #[test]
    fn a_reset_takes_its_numbers_from_the_offender() {
        let reset = reset_for_unknown(&segment(Flags::ACK)).unwrap();
        assert_eq!((reset.seq, reset.flags), (SeqNum::new(77), Flags::RST));
        let reset = reset_for_unknown(&segment(Flags::SYN)).unwrap();
        assert_eq!((reset.seq, reset.ack), (SeqNum::new(0), SeqNum::new(3)), "SYN and 3 bytes over the wrap");
        assert!(reset.flags.contains(Flags::ACK));
        assert_eq!(reset_for_unknown(&segment(Flags::RST)), None);
    }
}
