//! A segment of the same flow as the one before.

use crate::stack::flow::QueueId;
use crate::wire::{IpFields, PlainSegment};

/// A segment of the same flow as the one before, as it came.
pub(in crate::stack) struct Next {
    pub(super) from: QueueId,
    pub(super) ip: IpFields,
    pub(super) segment: PlainSegment,
    /// The length of its packet.
    pub(super) len: usize,
}

/// A plain segment on its way to its connection, with where it came from.
pub(super) struct Plain<'a> {
    pub(super) from: QueueId,
    pub(super) segment: &'a PlainSegment,
}
