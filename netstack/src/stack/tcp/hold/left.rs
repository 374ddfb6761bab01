//! What other threads have left to the one that holds a connection and sends.

use super::{Held, Progress};
use crate::stack::tcp::cell::{Left, Tail};

/// Times that a holder does what was left to it meanwhile, some super-segments each time. Its application has waited
/// for long enough then.
const ROUNDS: usize = 4;

impl Held<'_, '_> {
    /// Does what other threads have left while this one was sending.
    #[inline]
    pub(super) fn do_what_was_left(&mut self, progress: Progress) -> Progress {
        match self.cell.end_sending() {
            None => progress,
            Some(left) => self.do_left(left),
        }
    }

    #[cold]
    fn do_left(&mut self, mut left: Left) -> Progress {
        for _ in 0..ROUNDS {
            self.take(left);
            self.drain_backlog();
            let progress = self.settle();
            self.state.weigh();
            match self.cell.end_sending() {
                None => return progress,
                Some(more) => left = more,
            }
        }
        self.take(left | self.cell.end_sending_anyway());
        self.drain_backlog();
        if self.state.attached {
            // Its turn settles it.
            self.wait_for_queue();
        }
        Progress::More
    }

    fn take(&mut self, left: Left) {
        if left.contains(Left::BATCH) {
            // What is pushed before the mark is cleared is drained after it.
            self.cell.clear_dirty();
            self.state.held_back = false;
        }
        if left.contains(Left::TURN) {
            self.take_turn();
        }
        if left.contains(Left::DEADLINE) {
            self.on_deadline();
        }
    }

    /// It is the connection's turn among those that wait for the device.
    pub(super) fn take_turn(&mut self) {
        self.state.waiting = None;
        self.state.held_back = false;
        self.state.tail = if self.cell.take_writes_on() { Tail::Stays } else { Tail::Leaves };
    }
}
