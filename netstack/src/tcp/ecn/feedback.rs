//! What the two halves of ECN exchange with the rest of a connection.

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

/// What an acknowledgment did, for those who count.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Feedback {
    /// Bytes newly acknowledged or SACKed.
    pub(in crate::tcp) delivered: usize,
    pub(in crate::tcp) mss: usize,
}
