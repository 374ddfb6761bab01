//! The sockets that wait for room in a queue of a device.

use crate::sync::{Mutex, Rank};
use std::collections::VecDeque;

/// The sockets of one protocol that wait, by the number of the queue, those that have waited longest
/// first.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    queues: Vec<Mutex<VecDeque<T>>>,
}

impl<T> Waiting<T> {
    /// Nobody waits for any of so many queues.
    pub(super) fn new(queues: usize) -> Self {
        Self { queues: (0..queues).map(|_| Mutex::new(Rank::Leaf, VecDeque::new())).collect() }
    }

    /// One more waits.
    pub(super) fn join(&self, queue: usize, one: T) {
        self.queues[queue].lock().push_back(one);
    }

    /// How many wait.
    pub(super) fn len(&self, queue: usize) -> usize {
        self.queues[queue].lock().len()
    }

    /// Whether nobody waits for any queue.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.lock().is_empty())
    }

    /// The one that has waited longest.
    pub(super) fn next(&self, queue: usize) -> Option<T> {
        self.queues[queue].lock().pop_front()
    }
}
