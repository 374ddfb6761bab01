//! A connection in its cell, awake or at rest.

use super::spares::Spares;
use crate::memory::block;
use crate::tcp::{Connection, Resting};
use std::ops::{Deref, DerefMut};

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
    pub(super) fn rest(&mut self, spares: &Spares) {
        self.at_rest = self.awake.take().map(|connection| spares.rest(connection));
    }

    /// Puts it to rest, wakes it, and sees that it is the same.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn check_rest(&mut self) {
        self.awake = self.awake.take().map(|connection| connection.rest_and_wake());
    }

    /// Whether it is at rest.
    #[inline]
    pub(super) fn is_at_rest(&self) -> bool {
        self.at_rest.is_some()
    }

    /// Wakes it.
    pub(super) fn wake(&mut self, spares: &Spares) {
        if let Some(resting) = self.at_rest.take() {
            self.awake = Some(spares.wake(resting));
        }
    }

    /// The connection, unless it is at rest.
    pub(super) fn if_awake(&self) -> Option<&Connection> {
        self.awake.as_deref()
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
