//! The flags of a write.

/// Flags of a write, as in send(2).
///
/// # Examples
/// ```
/// use netstack::tcp::SendFlags;
///
/// let header = SendFlags::MORE;
/// let body = SendFlags { end_of_record: true, ..SendFlags::default() };
/// assert!(header.more && !body.more);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendFlags {
    /// `MSG_MORE`: more data follows. A partial segment waits until the next write without this
    /// flag or the next acknowledgment, for at most 200 ms, and does not have PSH set.
    pub more: bool,
    /// `MSG_EOR`: the last byte ends a record. No segment contains it together with bytes of later
    /// writes, not even in a retransmission. The flag has no effect if only part of the data was
    /// written.
    pub end_of_record: bool,
}

impl SendFlags {
    /// No flag.
    pub const NONE: Self = Self { more: false, end_of_record: false };
    /// `MSG_MORE` alone.
    pub const MORE: Self = Self { more: true, end_of_record: false };
    /// `MSG_EOR` alone.
    pub const END_OF_RECORD: Self = Self { more: false, end_of_record: true };
}
