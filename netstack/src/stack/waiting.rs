//! The sockets that wait for room in a queue of a device.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Growing, Mutex, Rank};
use std::collections::BTreeMap;

/// The sockets of one protocol that wait, by the number of the queue, those that have waited longest
/// first.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    queues: Growing<Queue<T>>,
}

#[derive(Debug)]
struct Queue<T> {
    /// How many wait, to be read without the lock: a driver asks in each of its turns. Who joins meanwhile tells it.
    count: AtomicUsize,
    line: Mutex<Line<T>>,
}

impl<T> Queue<T> {
    /// Nobody waits.
    fn new() -> Self {
        let line = Line { places: BTreeMap::new(), next: 0 };
        Self { count: AtomicUsize::new(0), line: Mutex::new(Rank::Leaf, line) }
    }

    /// Changes who waits.
    fn change<R>(&self, change: impl FnOnce(&mut Line<T>) -> R) -> R {
        let mut line = self.line.lock();
        let result = change(&mut line);
        self.count.store(line.places.len(), Ordering::Release);
        result
    }
}

/// The sockets that wait for one queue.
#[derive(Debug)]
struct Line<T> {
    /// In the order in which they joined.
    places: BTreeMap<Place, T>,
    next: u64,
}

/// A place among those that wait for one queue, by which its holder can leave. It is never given again.
///
/// The queue is in the upper bits: meanwhile the holder may have come to send on another one. The rest counts who joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

impl Place {
    /// Enough for a million that join each second, for half a year; and for a million queues.
    const COUNT_BITS: u32 = 44;

    fn new(queue: usize, count: u64) -> Self {
        Self((queue as u64) << Self::COUNT_BITS | count & ((1 << Self::COUNT_BITS) - 1))
    }

    fn queue(self) -> usize {
        (self.0 >> Self::COUNT_BITS) as usize
    }
}

impl<T> Waiting<T> {
    /// Nobody waits for any of so many queues.
    pub(super) fn new(queues: usize) -> Self {
        Self { queues: Growing::new((0..queues).map(|_| Queue::new()).collect()) }
    }

    /// There are so many queues now. The caller adds interfaces one at a time.
    pub(super) fn grow(&self, queues: usize) {
        while self.queues.len() < queues {
            self.queues.push(Queue::new());
        }
    }

    #[inline]
    fn of(&self, queue: usize) -> &Queue<T> {
        self.queues.get(queue).expect("there is a list for each queue before it is used")
    }

    /// One more waits.
    pub(super) fn join(&self, queue: usize, one: T) -> Place {
        self.of(queue).change(|line| {
            let place = Place::new(queue, line.next);
            line.next += 1;
            line.places.insert(place, one);
            place
        })
    }

    /// The one at a place does not wait any more, if it still does.
    pub(super) fn leave(&self, place: Place) {
        let left = self.of(place.queue()).change(|line| line.places.remove(&place));
        // What it holds may lock something, so not under the lock.
        drop(left);
    }

    /// How many wait.
    #[inline]
    pub(super) fn len(&self, queue: usize) -> usize {
        self.of(queue).count.load(Ordering::Acquire)
    }

    /// Whether nobody waits for any queue.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.count.load(Ordering::Acquire) == 0)
    }

    /// The one that has waited longest.
    pub(super) fn next(&self, queue: usize) -> Option<T> {
        let queue = self.of(queue);
        if queue.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        Some(queue.change(|line| line.places.pop_first())?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::Waiting;

    #[test]
    fn who_leaves_is_passed_over_and_the_order_stays() {
        let waiting = Waiting::new(2);
        let places = ["a", "b", "c"].map(|one| waiting.join(1, one));
        waiting.leave(places[1]);
        assert_eq!((waiting.len(0), waiting.len(1)), (0, 2));
        assert_eq!(waiting.next(1), Some("a"));
        waiting.join(1, "d");
        waiting.leave(places[0]);
        assert_eq!([waiting.next(1), waiting.next(1), waiting.next(1)], [Some("c"), Some("d"), None]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn who_leaves_a_queue_leaves_the_others_of_another_alone() {
        let waiting = Waiting::new(3);
        let [first, second] = [1, 2].map(|queue| waiting.join(queue, queue));
        assert_ne!(first, second);
        waiting.leave(second);
        assert_eq!((waiting.next(1), waiting.next(2)), (Some(1), None));
    }
}
