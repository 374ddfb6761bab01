//! Segments that arrive while a connection is locked.

use super::Cell;
use crate::buffer::Chunk;
use crate::stack::flow::QueueId;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, Rank};
use crate::wire::Segment;
use std::collections::VecDeque;

/// Segments that wait for a cell's lock at most. They keep their packet buffers, so this is up to
/// 16 MiB for the moment that an application holds the lock; four super-segments leave the device in
/// that time, and a fast network without offloads delivers about a hundred packets.
pub(in crate::stack::tcp) const BACKLOG: usize = 256;

/// Places that an empty backlog keeps.
const KEPT: usize = 4;

/// Segments that wait for who holds the lock, and where they came in.
pub(super) struct Backlog {
    /// Made when the first segment comes while the cell is locked.
    segments: Mutex<Option<Box<Segments>>>,
    /// How many there are, to be read without the lock.
    len: AtomicUsize,
}

type Segments = VecDeque<(QueueId, Segment, Chunk)>;

impl Backlog {
    pub(super) const fn new() -> Self {
        Self { segments: Mutex::new(Rank::Backlog, None), len: AtomicUsize::new(0) }
    }
}

impl Cell {
    /// Leaves a segment for the holder of the lock; false if there are too many. The caller then
    /// puts the cell on its list of dirty cells: the holder may have looked for the last time.
    pub(crate) fn push_backlog(&self, from: QueueId, segment: Segment, payload: Chunk) -> bool {
        let mut segments = self.backlog.segments.lock();
        let segments = segments.get_or_insert_default();
        if segments.len() >= BACKLOG {
            return false;
        }
        segments.push_back((from, segment, payload));
        self.backlog.len.store(segments.len(), Ordering::Release);
        true
    }

    /// The oldest segment that arrived while the cell was locked.
    #[inline]
    pub(crate) fn pop_backlog(&self) -> Option<(QueueId, Segment, Chunk)> {
        if self.has_backlog() { self.pop_from_backlog() } else { None }
    }

    /// Whether segments arrived while the cell was locked.
    #[inline]
    pub(in crate::stack::tcp) fn has_backlog(&self) -> bool {
        self.backlog.len.load(Ordering::Acquire) != 0
    }

    #[cold]
    fn pop_from_backlog(&self) -> Option<(QueueId, Segment, Chunk)> {
        let mut segments = self.backlog.segments.lock();
        let segments = segments.as_mut()?;
        let popped = segments.pop_front();
        self.backlog.len.store(segments.len(), Ordering::Release);
        if segments.is_empty() {
            segments.shrink_to(KEPT);
        }
        popped
    }

    /// How many segments wait for the holder of the lock.
    #[cfg(feature = "simulation")]
    pub(in crate::stack::tcp) fn backlog_len(&self) -> usize {
        self.backlog.segments.lock().as_ref().map_or(0, |segments| segments.len())
    }

    /// Gives back the memory of an empty backlog.
    pub(in crate::stack::tcp) fn trim_backlog(&self) {
        self.backlog.segments.lock().take_if(|segments| segments.is_empty());
    }
}
