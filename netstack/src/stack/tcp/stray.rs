//! A segment on its way to whom it is for.

use crate::stack::flow::{FlowKey, QueueId};
use crate::wire::Segment;

/// A segment, with where it came from: mostly one that belongs to no connection.
pub(super) struct Stray<'a> {
    pub(super) from: QueueId,
    pub(super) key: &'a FlowKey,
    pub(super) segment: &'a Segment,
}
