//! The sockets that wait for room in a queue of a device.

use crate::sync::{Growing, Mutex, Rank};
use std::collections::VecDeque;

/// The sockets of one protocol that wait, by the number of the queue, those that have waited longest
/// first.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    queues: Growing<Mutex<VecDeque<T>>>,
}

impl<T> Waiting<T> {
    /// Nobody waits for any of so many queues.
    pub(super) fn new(queues: usize) -> Self {
        Self { queues: Growing::new((0..queues).map(|_| nobody()).collect()) }
    }

    /// There are so many queues now. The caller adds interfaces one at a time.
    pub(super) fn grow(&self, queues: usize) {
        while self.queues.len() < queues {
            self.queues.push(nobody());
        }
    }

    fn of(&self, queue: usize) -> &Mutex<VecDeque<T>> {
        self.queues.get(queue).expect("there is a list for each queue before it is used")
    }

    /// One more waits.
    pub(super) fn join(&self, queue: usize, one: T) {
        self.of(queue).lock().push_back(one);
    }

    /// How many wait.
    pub(super) fn len(&self, queue: usize) -> usize {
        self.of(queue).lock().len()
    }

    /// Whether nobody waits for any queue.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.lock().is_empty())
    }

    /// The one that has waited longest.
    pub(super) fn next(&self, queue: usize) -> Option<T> {
        self.of(queue).lock().pop_front()
    }
}

fn nobody<T>() -> Mutex<VecDeque<T>> {
    Mutex::new(Rank::Leaf, VecDeque::new())
}
