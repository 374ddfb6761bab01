//! Whose deadlines TCP has.

use super::cell::Cell;
use super::listening::{Listener, Place};
use crate::stack::flow::FlowKey;
use std::sync::Weak;

/// Whose deadline it is.
#[derive(Clone, Debug)]
pub(super) enum Deadline {
    Cell(Weak<Cell>),
    HalfOpen(Weak<Listener>, Place),
    /// Of the connections under memory pressure.
    Sweep,
    /// In a box, since a flood makes deadlines of the others.
    TimeWait(Box<FlowKey>),
}
