//! When a connection is put to rest, and woken.

use super::{SocketState, Stage};
use crate::tcp::Connection;
use crate::time::{Duration, Instant};

/// How long nothing happens before a connection is put to rest. Each time costs about as much as three round trips,
/// which is little to one that says something every few seconds.
const REST_AFTER: Duration = Duration::from_secs(5);

impl SocketState {
    /// When it is time to look whether the connection can be put to rest, if nothing is going on now.
    pub(in crate::stack::tcp) fn rests_at(&self, now: Instant) -> Option<Instant> {
        let at = self.connection_to_rest()?.at_rest_since()? + REST_AFTER;
        // Something other than a segment has just happened.
        Some(if at > now { at } else { now + REST_AFTER })
    }

    /// The connection, if nothing has happened to it for long enough.
    pub(in crate::stack::tcp) fn due_to_rest(&self, now: Instant) -> Option<&Connection> {
        self.connection_to_rest()
            .filter(|connection| connection.at_rest_since().is_some_and(|since| since + REST_AFTER <= now))
    }

    fn connection_to_rest(&self) -> Option<&Connection> {
        let is_free = self.attached && !self.orphan && self.waiting.is_none() && self.fast_open.is_none();
        match &self.stage {
            Stage::Connected(connection) if is_free => connection.if_awake(),
            _ => None,
        }
    }

    /// Sees that resting does not change the connection.
    #[cfg(any(test, feature = "simulation"))]
    pub(in crate::stack::tcp) fn check_rest(&mut self) {
        self.disturb();
        if let Stage::Connected(connection) = &mut self.stage {
            connection.check_rest();
        }
    }

    /// Puts the connection to rest. It [may be](Self::due_to_rest).
    pub(in crate::stack::tcp) fn rest(&mut self) {
        self.disturb();
        if let Stage::Connected(connection) = &mut self.stage {
            connection.rest(&self.spares);
        }
        self.on_new_stage();
        self.weigh();
    }

    /// Wakes the connection. Says whether it was at rest.
    #[inline]
    pub(in crate::stack::tcp) fn wake(&mut self) -> bool {
        match &mut self.stage {
            Stage::Connected(connection) if connection.is_at_rest() => {
                connection.wake(&self.spares);
                self.on_new_stage();
                true
            }
            _ => false,
        }
    }
}
