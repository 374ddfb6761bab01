//! What tests look at beside what the stack sees.

use super::Connection;
use crate::tcp::receive::Receiver;
use crate::tcp::recovery::Recovery;
use crate::tcp::send::Sender;
use crate::tcp::timers::Timer;

impl Connection {
    pub(in crate::tcp) fn sender(&self) -> &Sender {
        &self.snd
    }

    pub(in crate::tcp) fn receiver(&self) -> &Receiver {
        &self.rcv
    }

    pub(in crate::tcp) fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    pub(in crate::tcp) fn is_armed(&self, timer: Timer) -> bool {
        self.timers.is_set(timer)
    }

    /// Whether what is to be sent waits for a time that pacing has set.
    pub(in crate::tcp) fn waits_for_pacing(&self) -> bool {
        self.path.deadline().is_some()
    }

    pub(in crate::tcp) fn uses_timestamps(&self) -> bool {
        self.ts.is_some()
    }

    /// Whether a user who was refused room was not notified of the room there is.
    pub(in crate::tcp) fn owes_room(&self) -> bool {
        self.snd.wants_room() && self.snd.is_writable(self.notsent_lowat())
    }
}
