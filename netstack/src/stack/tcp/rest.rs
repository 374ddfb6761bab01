//! Connections at rest: while nothing happens to a connection it is kept in a third of the memory, its cell included.
//!
//! Who locks a cell finds its connection awake, so the rest of the stack knows nothing of this. A deadline some time
//! after the last segment puts it to rest, and the next one who locks the cell wakes it. Who only looks at it puts it
//! to rest again.

use super::Tcp;
use super::cell::Cell;
use super::deadline::Deadline;
use crate::stack::turn::Turn;
use std::sync::Arc;

impl Tcp {
    /// Puts a connection to rest, if nothing has happened to it for long enough. Does nothing if somebody holds it.
    pub(super) fn rest_if_due(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>) {
        let Some(mut state) = cell.try_lock_to_rest() else { return };
        let Some(connection) = state.due_to_rest(turn.now) else { return };
        // No deadline wakes it but its own.
        let keepalive = connection.poll_timeout();
        self.deadlines.disarm(&mut state.timer);
        if let Some(at) = keepalive {
            let target = || Deadline::Cell(Arc::downgrade(cell));
            turn.out.deadline_moved(self.deadlines.arm(&mut state.timer, at, target));
        }
        #[cfg(any(test, feature = "simulation"))]
        state.check_rest();
        state.rest();
        drop(state);
        cell.trim_backlog();
    }
}
