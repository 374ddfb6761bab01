//! Sockets that end because their device is gone or their stack is shut down.

use super::Tcp;
use super::cell::{Cell, Stage};
use super::hold::End;
use crate::error::Failure;
use crate::readiness::Events;
use crate::reasons::{EndReason, ResetReason};
use crate::stack::turn::Turn;
use std::sync::Arc;

impl Tcp {
    /// The device of an interface is gone: every socket of it fails with `cause`.
    pub(super) fn fail_sockets_of(&self, turn: &mut Turn<'_>, interface: u16, cause: &Failure) {
        for listener in self.demux.all_listeners() {
            if listener.cut_off(turn.core).is_some() {
                let waiting = self.empty_listener(turn, &listener, cause.clone());
                // Those that came in another way can still be accepted.
                listener.keep(waiting.into_iter().filter(|cell| cell.queue().interface != interface));
                turn.out.notify(listener, Events::READABLE | Events::ERROR);
            }
        }
        for cell in self.demux.all_cells() {
            if cell.queue().interface == interface {
                self.fail_cell(turn, &cell, cause, EndReason::DeviceGone);
            }
        }
    }

    /// The stack is shut down: every connection is reset.
    pub(super) fn fail_sockets(&self, turn: &mut Turn<'_>, cause: &Failure) {
        let mut cells = Vec::new();
        for listener in self.demux.all_listeners() {
            cells.extend(self.empty_listener(turn, &listener, cause.clone()));
            turn.out.notify(listener, Events::READABLE | Events::ERROR);
        }
        cells.extend(self.demux.all_cells());
        for cell in cells {
            self.hold(turn, &cell, End::Settle, |held| {
                let now = held.turn.now;
                if let Stage::Connected(connection) = &mut held.state.stage {
                    connection.reset(now, ResetReason::StackShutDown);
                }
            });
            self.fail_cell(turn, &cell, cause, EndReason::StackShutDown);
        }
    }

    fn fail_cell(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>, cause: &Failure, end: EndReason) {
        let (replaced, _) = self.hold(turn, cell, End::Settle, |held| held.fail(cause, end));
        drop(replaced);
    }
}
