//! Sockets that end because their interface was removed.

use super::Tcp;
use super::hold::End;
use crate::error::Failure;
use crate::readiness::Events;
use crate::reasons::EndReason;
use crate::stack::turn::Turn;

impl Tcp {
    /// An interface was removed: its connections and the listeners that are limited to it fail with `cause`. In
    /// Linux they would find no route until their time is over.
    ///
    /// A listener at an address, or at all addresses, stays, since the address may come back on another interface.
    pub(super) fn remove_sockets_of(&self, turn: &mut Turn<'_>, interface: u16, cause: &Failure) {
        for listener in self.demux.all_listeners() {
            if listener.interface() == Some(interface) {
                // Those that wait to be accepted are connections of the interface.
                drop(self.empty_listener(turn, &listener, cause.clone()));
                turn.out.notify(listener, Events::READABLE | Events::ERROR);
            }
        }
        for cell in self.demux.all_cells() {
            if cell.queue().interface == interface {
                let fail =
                    self.hold(turn, &cell, End::Settle, |held| held.fail(cause, EndReason::DeviceGone));
                drop(fail);
            }
        }
        for number in turn.core.interfaces().queue_numbers(interface) {
            while let Some(cell) = self.waiting.next(number) {
                drop(cell);
            }
        }
    }
}
