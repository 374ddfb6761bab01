//! The interface between the engine and a protocol, and the order in which protocols are served.

use super::turn::Turn;
use crate::error::Failure;
use crate::time::Instant;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A protocol that lives in a stack. The engine asks all of them for the same things.
pub(super) trait Guest {
    /// The earliest deadline.
    fn next_deadline(&self) -> Option<Instant>;

    /// Does what is due now. May be called early or late.
    fn on_timer(&self, turn: &mut Turn<'_>);

    /// The queue with this number takes packets again: the sockets that wait for it send. Says whether
    /// it still takes some after that.
    fn on_writable(&self, turn: &mut Turn<'_>, queue_number: usize) -> bool;

    /// Whether sockets wait until the queue with this number takes packets.
    fn has_waiting(&self, queue_number: usize) -> bool;

    /// Whether nothing that was written on any socket is still to be delivered.
    fn is_drained(&self) -> bool;

    /// The device of an interface is gone: every socket of it fails with `cause`.
    fn fail_interface(&self, turn: &mut Turn<'_>, interface: u16, cause: &Failure);

    /// There are so many queues now, before any of the new ones is used.
    fn add_queues(&self, queues: usize);

    /// An interface was removed: the sockets that can use no other fail with `cause`.
    fn remove_interface(&self, turn: &mut Turn<'_>, interface: u16, cause: &Failure);

    /// The stack is shut down: every socket fails with `cause`.
    fn fail_all(&self, turn: &mut Turn<'_>, cause: &Failure);
}

/// Whose turn it is to be asked first, so that no protocol can keep the others from a device that takes
/// few packets.
#[derive(Debug, Default)]
pub(super) struct Rotation(AtomicUsize);

impl Rotation {
    /// All guests, each time beginning with the next one.
    pub(super) fn of<'g, const N: usize>(
        &self,
        guests: [&'g dyn Guest; N],
    ) -> impl Iterator<Item = &'g dyn Guest> {
        let first = self.0.fetch_add(1, Ordering::Relaxed);
        (0..N).map(move |n| guests[first.wrapping_add(n) % N])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbered(u64);

    impl Guest for Numbered {
        fn next_deadline(&self) -> Option<Instant> {
            Some(Instant::from_millis(self.0))
        }
        fn on_timer(&self, _: &mut Turn<'_>) {}
        fn on_writable(&self, _: &mut Turn<'_>, _: usize) -> bool {
            true
        }
        fn has_waiting(&self, _: usize) -> bool {
            false
        }
        fn is_drained(&self) -> bool {
            true
        }
        fn fail_interface(&self, _: &mut Turn<'_>, _: u16, _: &Failure) {}
        fn add_queues(&self, _: usize) {}
        fn remove_interface(&self, _: &mut Turn<'_>, _: u16, _: &Failure) {}
        fn fail_all(&self, _: &mut Turn<'_>, _: &Failure) {}
    }

    #[test]
    fn each_guest_is_first_in_its_turn_and_all_are_asked() {
        let rotation = Rotation::default();
        let guests = [Numbered(0), Numbered(1), Numbered(2)];
        let order = || -> Vec<u64> {
            let all = rotation.of([&guests[0] as &dyn Guest, &guests[1], &guests[2]]);
            all.filter_map(|guest| guest.next_deadline()).map(|at| at.as_millis()).collect()
        };
        assert_eq!([order(), order(), order(), order()], [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }
}
