//! Memory that several queues share.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A limit for the memory that several queues keep in use together.
#[derive(Debug)]
pub struct Budget {
    /// In bytes.
    used: AtomicUsize,
    /// In bytes.
    limit: usize,
}

impl Budget {
    /// A budget of `limit` bytes, none of which is used.
    pub const fn new(limit: usize) -> Self {
        Self { used: AtomicUsize::new(0), limit }
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Uses so many bytes more; false if there are not so many.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::{Pushed, ReceiveQueue};
    use super::super::value::tests::datagram;
    use super::*;
    use std::sync::Arc;

    #[test]
    fn queues_of_one_budget_keep_no_more_than_it_has() {
        let one = datagram(1, &[0; 100]).memory();
        let budget = Arc::new(Budget::new(3 * one));
        let queue = || ReceiveQueue::within(2 * one, Arc::clone(&budget));
        let (mut first, mut second, mut third) = (queue(), queue(), queue());
        // Whether it is the first in its queue; none if there is no room.
        let push = |queue: &mut ReceiveQueue| match queue.push(datagram(1, &[0; 100])) {
            Pushed::Queued { first, .. } => Some(first),
            Pushed::Dropped | Pushed::NoMemory => None,
        };
        assert_eq!([push(&mut first), push(&mut first)], [Some(true), Some(false)]);
        assert_eq!(push(&mut first), None, "its own limit");
        assert_eq!(push(&mut second), Some(true));
        assert_eq!(push(&mut third), None, "although it is empty");
        assert_eq!((budget.used(), third.memory(), third.dropped()), (3 * one, 0, 1));
        drop(first.pop());
        assert_eq!(push(&mut third), Some(true));
        let taken = first.take();
        assert_eq!((first.memory(), budget.used()), (0, 3 * one), "what was taken out is still there");
        drop(taken);
        assert_eq!(push(&mut first), Some(true), "of the same budget as before");
        drop((first, second, third));
        assert_eq!(budget.used(), 0);
    }
}
