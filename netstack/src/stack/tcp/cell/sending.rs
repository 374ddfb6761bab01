//! What other threads leave to the one that holds a connection and sends.
//!
//! To copy what an application writes, and to give packets to a device, takes microseconds: far longer than anything
//! else that is done under the lock of a connection. Another thread that only wants it to be settled once more does not
//! wait for that. It leaves a mark, and the one that sends does it before it unlocks. Every other hold is short, and is
//! waited for.

use super::{Cell, SocketState};
use crate::sync::MutexGuard;
use crate::sync::atomic::{AtomicU8, Ordering};
use std::ops::BitOr;

/// What there is to be done for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stack::tcp) struct Left(u8);

impl Left {
    /// A batch has ended in which it got segments.
    pub(in crate::stack::tcp) const BATCH: Self = Self(1);
    /// It has its turn among those that wait for the device.
    pub(in crate::stack::tcp) const TURN: Self = Self(2);
    /// Its deadline has come.
    pub(in crate::stack::tcp) const DEADLINE: Self = Self(4);

    pub(in crate::stack::tcp) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Left {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Whether the holder of a cell's lock sends, and what was left to it.
#[derive(Debug)]
pub(super) struct Sending(AtomicU8);

/// The holder sends. Only it sets and clears this bit.
const SENDS: u8 = 1 << 7;

impl Sending {
    pub(super) const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    /// The holder begins. What is left from now on is left to it.
    #[inline]
    pub(super) fn begin(&self) {
        // Nobody else writes before there is the bit.
        if !self.is_begun() {
            self.0.store(SENDS, Ordering::Relaxed);
        }
    }

    /// Whether the holder, who asks, has begun.
    #[inline]
    pub(super) fn is_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed) & SENDS != 0
    }

    /// The holder ends, if nothing was left to it. Else it goes on with what is returned.
    #[inline]
    pub(super) fn end(&self) -> Option<Left> {
        match self.0.compare_exchange(SENDS, 0, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => None,
            Err(_) => Some(Left(self.0.swap(SENDS, Ordering::AcqRel) & !SENDS)),
        }
    }

    /// The holder ends in any case, and has to find another for what is returned.
    #[cold]
    pub(super) fn end_anyway(&self) -> Left {
        Left(self.0.swap(0, Ordering::AcqRel) & !SENDS)
    }

    /// Leaves something to the holder. False if it does not send.
    #[cold]
    pub(super) fn leave(&self, what: Left) -> bool {
        let add = |seen: u8| (seen & SENDS != 0).then_some(seen | what.0);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, add).is_ok()
    }
}

impl Cell {
    /// Locks the cell for `hold`, unless somebody sends, to whom `what` is left.
    #[inline]
    pub(in crate::stack::tcp) fn lock_or_leave(&self, what: Left) -> Option<MutexGuard<'_, SocketState>> {
        // First, since a thread that has panicked while it sent has not said that it ended.
        self.try_lock_to_hold().or_else(|| self.leave_or_wait(what))
    }

    #[cold]
    #[inline(never)]
    fn leave_or_wait(&self, what: Left) -> Option<MutexGuard<'_, SocketState>> {
        if self.sending.leave(what) { None } else { Some(self.lock_to_hold()) }
    }

    /// The holder sends: others leave to it what they have.
    #[inline]
    pub(in crate::stack) fn begin_sending(&self) {
        self.sending.begin();
    }

    /// Whether the holder has sent, and not looked for what was left to it.
    #[inline]
    pub(in crate::stack::tcp) fn is_sending(&self) -> bool {
        self.sending.is_begun()
    }

    /// The holder has sent. What was left to it, if anything was; then it is still to end.
    #[inline]
    pub(in crate::stack::tcp) fn end_sending(&self) -> Option<Left> {
        self.sending.end()
    }

    /// The holder has sent, and leaves what was left to it to others.
    pub(in crate::stack::tcp) fn end_sending_anyway(&self) -> Left {
        self.sending.end_anyway()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_while_somebody_sends_is_found_at_the_end() {
        let sending = Sending::new();
        assert!(!sending.leave(Left::BATCH), "nobody sends");
        sending.begin();
        assert!(sending.leave(Left::BATCH) && sending.leave(Left::TURN));
        sending.begin();
        assert_eq!(sending.end(), Some(Left::BATCH | Left::TURN), "beginning again loses nothing");
        assert!(sending.is_begun() && sending.leave(Left::TURN), "until it has ended, more may come");
        assert_eq!(sending.end(), Some(Left::TURN));
        assert_eq!(sending.end(), None);
        assert!(!sending.leave(Left::BATCH));
        sending.begin();
        assert!(sending.leave(Left::BATCH));
        assert_eq!(sending.end_anyway(), Left::BATCH);
        assert!(!sending.is_begun() && !sending.leave(Left::TURN));
        assert!(Left::BATCH.contains(Left::BATCH) && !Left::BATCH.contains(Left::TURN));
    }
}
