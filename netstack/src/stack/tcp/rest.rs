//! Connections at rest: while nothing happens to a connection it is kept in a tenth of the memory.
//!
//! Who locks a cell finds its connection awake, so the rest of the stack knows nothing of this. A deadline some time
//! after the last segment puts it to rest, and the next one who locks the cell wakes it; both take about as long as a
//! segment. What only looks at it puts it to rest again.

use super::Tcp;
use super::cell::{Cell, SocketState, Stage};
use super::deadline::Deadline;
use crate::memory::block;
use crate::stack::turn::Turn;
use crate::tcp::{Connection, Resting};
use crate::time::{Duration, Instant};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// How long nothing happens before a connection is put to rest. Each time costs about as much as two segments, which
/// is nothing to one that says something every few seconds.
const REST_AFTER: Duration = Duration::from_secs(5);

/// Why a connection is there.
const AWAKE: &str = "who locks a cell wakes its connection";

/// A connection, awake or at rest: one of the two is there.
pub(crate) struct Connected {
    /// In a cell that is locked.
    awake: Option<Box<Connection>>,
    /// Between two that lock the cell.
    at_rest: Option<Box<Resting>>,
}

impl Connected {
    /// Puts it to rest.
    fn rest(&mut self) {
        self.at_rest = self.awake.take().map(|connection| Box::new(connection.rest()));
    }

    /// Whether it is at rest.
    #[inline]
    pub(super) fn is_at_rest(&self) -> bool {
        self.at_rest.is_some()
    }

    /// Wakes it.
    fn wake(&mut self) {
        if let Some(resting) = self.at_rest.take() {
            self.awake = Some(resting.wake());
        }
    }

    /// The connection, of a cell that is locked.
    pub(super) fn into_awake(self) -> Option<Box<Connection>> {
        self.awake
    }

    /// Memory of the connection itself, in bytes.
    pub(super) fn fixed_memory(&self) -> usize {
        let awake = self.awake.as_ref().map_or(0, |connection| connection.fixed_memory());
        let at_rest =
            self.at_rest.as_ref().map_or(0, |resting| block(size_of::<Resting>()) + resting.memory());
        awake + at_rest
    }

    /// Memory of its queues and tables, in bytes. There is none at rest.
    #[inline]
    pub(super) fn queue_memory(&self) -> usize {
        self.awake.as_ref().map_or(0, |connection| connection.queue_memory())
    }
}

impl From<Box<Connection>> for Connected {
    fn from(connection: Box<Connection>) -> Self {
        Self { awake: Some(connection), at_rest: None }
    }
}

impl Deref for Connected {
    type Target = Connection;

    #[inline]
    fn deref(&self) -> &Connection {
        self.awake.as_ref().expect(AWAKE)
    }
}

impl DerefMut for Connected {
    #[inline]
    fn deref_mut(&mut self) -> &mut Connection {
        self.awake.as_mut().expect(AWAKE)
    }
}

impl SocketState {
    /// When it is time to look whether the connection can be put to rest, if nothing is going on now.
    pub(super) fn rests_at(&self, now: Instant) -> Option<Instant> {
        let at = self.connection_to_rest()?.at_rest_since()? + REST_AFTER;
        // Something other than a segment has just happened.
        Some(if at > now { at } else { now + REST_AFTER })
    }

    /// The connection, if nothing has happened to it for long enough.
    pub(super) fn due_to_rest(&self, now: Instant) -> Option<&Connection> {
        self.connection_to_rest()
            .filter(|connection| connection.at_rest_since().is_some_and(|since| since + REST_AFTER <= now))
    }

    fn connection_to_rest(&self) -> Option<&Connection> {
        let is_free = self.attached && !self.orphan && self.waiting.is_none() && self.fast_open.is_none();
        match &self.stage {
            Stage::Connected(connection) if is_free => connection.awake.as_deref(),
            _ => None,
        }
    }

    /// Puts the connection to rest. It [may be](Self::due_to_rest).
    pub(super) fn rest(&mut self) {
        self.disturb();
        if let Stage::Connected(connection) = &mut self.stage {
            connection.rest();
        }
        self.on_new_stage();
        self.weigh();
    }

    /// Wakes the connection. Says whether it was at rest.
    #[inline]
    pub(super) fn wake(&mut self) -> bool {
        match &mut self.stage {
            Stage::Connected(connection) if connection.is_at_rest() => {
                connection.wake();
                self.on_new_stage();
                true
            }
            _ => false,
        }
    }
}

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
        state.rest();
        drop(state);
        cell.trim_backlog();
    }
}
