//! Memory that several queues share.

use std::sync::Arc;
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
    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The memory that one queue keeps in use. Dropping it gives it back to the budget.
#[derive(Debug)]
pub(super) struct Held {
    bytes: usize,
    budget: Option<Arc<Budget>>,
}

impl Held {
    /// None so far; of a budget, if there is one.
    pub(super) const fn new(budget: Option<Arc<Budget>>) -> Self {
        Self { bytes: 0, budget }
    }

    /// None so far, of the same budget.
    pub(super) fn another(&self) -> Self {
        Self::new(self.budget.clone())
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps so many bytes more; false if the budget does not have them.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let taken = self.budget.as_ref().is_none_or(|budget| budget.take(bytes));
        self.bytes += if taken { bytes } else { 0 };
        taken
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if let Some(budget) = &self.budget {
            budget.give_back(bytes);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::{Pushed, ReceiveQueue};
    use super::super::value::tests::datagram;
    use super::*;

    #[test]
    fn queues_of_one_budget_keep_no_more_than_it_has() {
        let one = datagram(1, &[0; 100]).memory();
        let budget = Arc::new(Budget::new(3 * one));
        let queue = || ReceiveQueue::within(2 * one, Arc::clone(&budget));
        let (mut first, mut second, mut third) = (queue(), queue(), queue());
        let push = |queue: &mut ReceiveQueue| queue.push(datagram(1, &[0; 100]));
        assert_eq!([push(&mut first), push(&mut first)], [Pushed::First, Pushed::Behind]);
        assert_eq!(push(&mut first), Pushed::Dropped, "its own limit");
        assert_eq!(push(&mut second), Pushed::First);
        assert_eq!(push(&mut third), Pushed::Dropped, "although it is empty");
        assert_eq!((budget.used(), third.memory(), third.dropped()), (3 * one, 0, 1));
        drop(first.pop());
        assert_eq!(push(&mut third), Pushed::First);
        let taken = first.take();
        assert_eq!((first.memory(), budget.used()), (0, 3 * one), "what was taken out is still there");
        drop(taken);
        assert_eq!(push(&mut first), Pushed::First, "of the same budget as before");
        drop((first, second, third));
        assert_eq!(budget.used(), 0);
    }
}
