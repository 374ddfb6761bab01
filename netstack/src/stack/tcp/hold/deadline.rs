//! What a held connection does at its deadline.

use super::Held;
use crate::stack::tcp::cell::Stage;
use crate::tcp::TcpError;
use crate::trace::{EventKind, TimerKind};

impl Held<'_, '_> {
    /// The connection's deadline has come, or one that has been moved since.
    pub(super) fn on_deadline(&mut self) {
        let now = self.turn.now;
        self.state.timer.fired();
        if !self.state.attached {
            return;
        }
        let rests = !self.turn.core.memory().is_pressed() && self.state.rests_at(now).is_some();
        match &mut self.state.stage {
            Stage::Connected(connection) => {
                // There is a deadline some time after the last segment, whether anything is due or not any more. One
                // that is put to rest soon leaves the memory of its queues to another one.
                if !rests {
                    connection.trim();
                }
                if connection.poll_timeout().is_some_and(|at| at <= now) {
                    let expired = connection.on_timeout(now);
                    expired.iter().for_each(|timer| self.note(|| EventKind::Timer(timer)));
                }
            }
            Stage::Opening(opening) if opening.poll_timeout().is_some_and(|at| at <= now) => {
                let end = opening.on_timeout(now);
                if end.is_some() {
                    self.tcp.on_fast_open_failure(now, self.cell.key(), opening);
                }
                self.note(|| EventKind::Timer(TimerKind::Handshake));
                if let Some(end) = end {
                    self.fail_opening(TcpError::TimedOut, end);
                }
            }
            Stage::Opening(_) | Stage::Over(_) => {}
        }
    }
}
