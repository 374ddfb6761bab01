//! What a write may ask for beyond its bytes.

/// Flags of one write, as send(2) has them.
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
    /// `MSG_MORE`: more data follows at once. A partial segment waits for it, until the next write
    /// without this flag, the next acknowledgment or 200 ms, and does not carry PSH.
    pub more: bool,
    /// `MSG_EOR`: the last byte ends a record. No segment carries it together with bytes of later
    /// writes, not even when it is sent again. Does not count if only a part was written.
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
