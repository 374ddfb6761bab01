//! What the two halves of ECN exchange with the rest of a connection.

/// Bytes of options for each SACK block, and for the option itself with its padding.
pub(in crate::tcp) const SACK_BLOCK_LEN: usize = 8;
pub(in crate::tcp) const SACK_BASE_LEN: usize = 4;

/// What an arriving segment asks of the acknowledgments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum AckNeed {
    /// Nothing special.
    None,
    /// This one and the next few at once: the sender's window may be too small for delays.
    Quick,
    /// At once, with others of the batch.
    Now,
    /// At once and on its own: the next segment's would hide it.
    Alone,
}

/// What text a segment carries that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Text {
    /// None: an acknowledgment or a probe.
    None,
    /// Text that was sent before, or a FIN.
    Again,
    /// New text.
    New,
}

/// The room for options in a segment.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct OptionRoom {
    /// Bytes that SACK blocks and AccECN's option may take together.
    pub(in crate::tcp) free: usize,
    /// SACK blocks that there are to send.
    pub(in crate::tcp) blocks: usize,
}

impl OptionRoom {
    /// Bytes that so many SACK blocks leave.
    pub(super) fn beside(self, blocks: usize) -> usize {
        let sack = if blocks == 0 { 0 } else { SACK_BASE_LEN + SACK_BLOCK_LEN * blocks };
        self.free.saturating_sub(sack)
    }
}

/// What an acknowledgment did, for those who count.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Feedback {
    /// Bytes newly acknowledged or SACKed.
    pub(in crate::tcp) delivered: usize,
    pub(in crate::tcp) mss: usize,
}
