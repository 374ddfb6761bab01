//! A list that grows while others read it.

use super::{Mutex, Rank};
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Places of the first part that is added; each further part has twice as many.
const FIRST: usize = 8;
/// Parts that are added at most.
const PARTS: usize = 9;

/// A list to which things are added at the end, and from which nothing is removed. Looking at what is in it takes
/// no lock, and costs the same as for a vector if it was there from the beginning.
pub(crate) struct Growing<T> {
    initial: Vec<T>,
    parts: [OnceLock<Box<[OnceLock<T>]>>; PARTS],
    len: AtomicUsize,
    growing: Mutex<()>,
}

impl<T> Growing<T> {
    /// How much can be added at most.
    pub(crate) const MAX_ADDED: usize = FIRST * ((1 << PARTS) - 1);

    /// A list with these things.
    pub(crate) fn new(initial: Vec<T>) -> Self {
        let len = AtomicUsize::new(initial.len());
        Self { initial, parts: [const { OnceLock::new() }; PARTS], len, growing: Mutex::new(Rank::Leaf, ()) }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// The one at `index`, if there are so many.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.initial.get(index).or_else(|| self.added(index))
    }

    #[inline(never)]
    fn added(&self, index: usize) -> Option<&T> {
        let (part, at) = place(index - self.initial.len());
        self.parts.get(part)?.get()?[at].get()
    }

    /// Adds one, and gives its index. None if there are too many.
    pub(crate) fn push(&self, one: T) -> Option<usize> {
        let _one_at_a_time = self.growing.lock();
        let index = self.len();
        let (part, at) = place(index - self.initial.len());
        let places = || (0..FIRST << part).map(|_| OnceLock::new()).collect();
        let taken = self.parts.get(part)?.get_or_init(places)[at].set(one).is_err();
        debug_assert!(!taken, "places are taken in order");
        self.len.store(index + 1, Ordering::Release);
        Some(index)
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// The part that has what was added as number `n`, and where in it.
fn place(n: usize) -> (usize, usize) {
    let part = (n / FIRST + 1).ilog2() as usize;
    (part, n - FIRST * ((1 << part) - 1))
}

impl<T: fmt::Debug> fmt::Debug for Growing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_stays_where_it_is() {
        for initial in [0, 3] {
            let list = Growing::new((0..initial).collect::<Vec<usize>>());
            let first = list.get(0).map(std::ptr::from_ref);
            for n in initial..initial + Growing::<usize>::MAX_ADDED {
                assert_eq!((list.get(n), list.push(n)), (None, Some(n)));
            }
            assert_eq!(list.push(0), None, "it is full");
            assert!(list.iter().copied().eq(0..initial + Growing::<usize>::MAX_ADDED));
            assert_eq!(list.len(), list.iter().count());
            assert!(initial == 0 || list.get(0).map(std::ptr::from_ref) == first);
        }
    }

    #[test]
    fn many_threads_add_and_read() {
        let list = Growing::new(vec![0]);
        std::thread::scope(|scope| {
            for n in 1..5 {
                let list = &list;
                scope.spawn(move || {
                    for _ in 0..200 {
                        let index = list.push(n).unwrap();
                        assert_eq!(list.get(index), Some(&n));
                        assert!(list.iter().all(|n| *n < 5));
                    }
                });
            }
        });
        assert_eq!((list.len(), list.iter().sum::<i32>()), (801, 200 * (1 + 2 + 3 + 4)));
    }
}
