//! Whose deadlines TCP has.

use super::cell::Cell;
use super::listening::Listener;
use crate::stack::flow::FlowKey;
use std::sync::Weak;

/// Whose deadline it is.
#[derive(Clone, Debug)]
pub(super) enum Deadline {
    Cell(Weak<Cell>),
    HalfOpen(Weak<Listener>, FlowKey),
    TimeWait(FlowKey),
}
