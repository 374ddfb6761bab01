//! Locks with ranks.
//!
//! A thread may take a lock only if its rank is higher than the ranks of all locks that it holds;
//! debug builds assert it. The ranks are the one place where the order of locks is written down.

mod growing;

pub(crate) use growing::Growing;

use self::atomic::{AtomicU64, Ordering};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// What locks and the atomic variables beside them are made of. `.ci/shuttle` runs tests with those of the
/// crate shuttle, which decides at each of them which thread goes on.
#[cfg(not(all(test, netstack_shuttle)))]
mod primitive {
    pub(super) use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub(crate) use std::sync::atomic;
}
#[cfg(all(test, netstack_shuttle))]
mod primitive;

pub(crate) use primitive::atomic;

/// The ranks, lowest (taken first) to highest (taken last).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// A socket of the application that neither connects nor listens yet: binding locks the ports.
    Socket = 1,
    /// A listener: its SYN queue and accept queue.
    Listener,
    /// A connection (`stack::cell`).
    Cell,
    /// Segments that arrived while a cell was locked.
    Backlog,
    /// Bound ports and listeners by address.
    Ports,
    /// One shard of the table of connections.
    Demux,
    /// Who has a turn under memory pressure.
    Sweep,
    /// Deadlines of all connections.
    Deadlines,
    /// The device of an interface that was added to a running stack, while it transmits.
    Attachment,
    /// A device's own state.
    Device,
    /// State of a device behind another device (a link around a pair, say).
    InnerDevice,
    /// A pool of packet buffers.
    Pool,
    /// A random generator, a counter: nothing is locked inside.
    Leaf,
    /// Wakers of a socket.
    Readiness,
}

#[cfg(debug_assertions)]
mod held {
    use super::Rank;
    use std::cell::Cell;

    #[cfg(not(all(test, netstack_shuttle)))]
    thread_local! {
        /// One bit for each rank that this thread holds.
        static HELD: Cell<u32> = const { Cell::new(0) };
    }
    #[cfg(all(test, netstack_shuttle))]
    shuttle::thread_local! {
        static HELD: Cell<u32> = Cell::new(0);
    }

    pub(super) fn take(rank: Rank) {
        let bit = 1u32 << rank as u8;
        HELD.with(|held| {
            assert!(
                held.get() < bit,
                "lock of rank {rank:?} taken under a lock of the same or a higher rank"
            );
            held.set(held.get() | bit);
        });
    }

    pub(super) fn give(rank: Rank) {
        HELD.with(|held| held.set(held.get() & !(1u32 << rank as u8)));
    }
}

#[cfg(not(debug_assertions))]
mod held {
    use super::Rank;
    pub(super) fn take(_: Rank) {}
    pub(super) fn give(_: Rank) {}
}

/// A mutex with a rank. It does not poison: a panic in one task must not end the stack.
#[derive(Debug)]
pub struct Mutex<T> {
    rank: Rank,
    inner: primitive::Mutex<T>,
}

impl<T> Mutex<T> {
    /// A new, unlocked mutex.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: primitive::Mutex::new(value) }
    }

    /// The value, which nobody else can have locked.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }

    /// Waits for the lock.
    ///
    /// # Panics
    /// In debug builds, if the thread holds a lock of the same or a higher rank.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        held::take(self.rank);
        MutexGuard { rank: self.rank, guard: self.inner.lock() }
    }

    /// Takes the lock if it is free.
    ///
    /// # Panics
    /// In debug builds, if the thread holds a lock of the same or a higher rank.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = self.inner.try_lock()?;
        held::take(self.rank);
        Some(MutexGuard { rank: self.rank, guard })
    }
}

/// A locked [`Mutex`].
///
/// It is not [`Send`], so no lock is ever held across an await in a future that must be.
#[derive(Debug)]
pub struct MutexGuard<'a, T> {
    rank: Rank,
    guard: primitive::MutexGuard<'a, T>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        held::give(self.rank);
    }
}

/// A readers-writer lock with a rank, under the same rule as [`Mutex`].
#[derive(Debug)]
pub struct RwLock<T> {
    rank: Rank,
    inner: primitive::RwLock<T>,
}

impl<T> RwLock<T> {
    /// A new, unlocked lock.
    pub const fn new(rank: Rank, value: T) -> Self {
        Self { rank, inner: primitive::RwLock::new(value) }
    }

    /// Waits for the lock, shared with other readers.
    ///
    /// # Panics
    /// In debug builds, if the thread holds a lock of the same or a higher rank.
    pub fn read(&self) -> ReadGuard<'_, T> {
        held::take(self.rank);
        ReadGuard { rank: self.rank, guard: self.inner.read() }
    }

    /// Waits for the lock, alone.
    ///
    /// # Panics
    /// In debug builds, if the thread holds a lock of the same or a higher rank.
    pub fn write(&self) -> WriteGuard<'_, T> {
        held::take(self.rank);
        WriteGuard { rank: self.rank, guard: self.inner.write() }
    }
}

/// An [`RwLock`] locked for reading.
#[derive(Debug)]
pub struct ReadGuard<'a, T> {
    rank: Rank,
    guard: primitive::RwLockReadGuard<'a, T>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        held::give(self.rank);
    }
}

/// An [`RwLock`] locked for writing.
#[derive(Debug)]
pub struct WriteGuard<'a, T> {
    rank: Rank,
    guard: primitive::RwLockWriteGuard<'a, T>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        held::give(self.rank);
    }
}

/// A value that is read for every packet and rarely changed. A reader that keeps a [`Snapshot`] of
/// it takes the lock only after a change.
#[derive(Debug)]
pub struct Published<T> {
    /// Counts the changes, from one on. Written under the lock.
    version: AtomicU64,
    current: Mutex<Arc<T>>,
}

/// What a reader of a [`Published`] value has seen last, if anything.
#[derive(Debug)]
pub struct Snapshot<T> {
    /// Zero without a value.
    version: u64,
    value: Option<Arc<T>>,
}

impl<T: Clone> Published<T> {
    /// A value, and the rank of its lock.
    pub fn new(rank: Rank, value: T) -> Self {
        Self { version: AtomicU64::new(1), current: Mutex::new(rank, Arc::new(value)) }
    }

    /// Changes the value, or a copy of it if a snapshot holds it. Nothing may be dropped in
    /// `change` that must not be under a lock.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut current = self.current.lock();
        let result = change(Arc::make_mut(&mut current));
        self.version.fetch_add(1, Ordering::Release);
        result
    }

    /// The current value, for a single read.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.lock())
    }

    /// The current value. Later reads with the same snapshot cost no more than a comparison.
    #[inline]
    pub fn read<'a>(&self, snapshot: &'a mut Snapshot<T>) -> &'a T {
        // Acquire: a reader that sees an effect of a change, and so this number, finds the change
        // in the value.
        if snapshot.version != self.version.load(Ordering::Acquire) {
            self.renew(snapshot);
        }
        snapshot.value.as_deref().expect("a snapshot with a version has a value")
    }

    #[cold]
    fn renew(&self, snapshot: &mut Snapshot<T>) {
        let current = self.current.lock();
        let (version, value) = (self.version.load(Ordering::Relaxed), Arc::clone(&current));
        drop(current);
        *snapshot = Snapshot { version, value: Some(value) };
    }
}

impl<T> Default for Snapshot<T> {
    /// Nothing seen yet.
    fn default() -> Self {
        Self { version: 0, value: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_see_every_change() {
        let published = Published::new(Rank::Leaf, vec![1]);
        let mut snapshot = Snapshot::default();
        assert_eq!(published.read(&mut snapshot), &[1]);
        published.change(|value| value.push(2));
        let mut other = Snapshot::default();
        assert_eq!(published.read(&mut other), &[1, 2]);
        assert_eq!(published.read(&mut snapshot), &[1, 2]);
        assert_eq!(*published.current(), [1, 2]);
    }

    #[test]
    fn a_snapshot_that_is_up_to_date_takes_no_lock() {
        let published = Published::new(Rank::Leaf, 7);
        let mut snapshot = Snapshot::default();
        published.read(&mut snapshot);
        let _locked = published.current.lock();
        assert_eq!(*published.read(&mut snapshot), 7);
    }

    #[test]
    fn a_value_that_nobody_looks_at_is_changed_in_place() {
        let published = Published::new(Rank::Leaf, Box::new(1));
        let mut snapshot = Snapshot::default();
        let place = |published: &Published<Box<u32>>| &raw const **published.current();
        let first = place(&published);
        published.change(|value| **value = 2);
        assert_eq!(place(&published), first);
        let seen = Arc::clone(&published.current());
        published.change(|value| **value = 3);
        assert_eq!((**seen, **published.read(&mut snapshot)), (2, 3));
    }

    #[test]
    fn ranks_in_order_are_fine() {
        let (cell, pool) = (Mutex::new(Rank::Cell, 1), Mutex::new(Rank::Pool, 2));
        let a = cell.lock();
        let b = pool.lock();
        assert_eq!(*a + *b, 3);
        assert!(pool.inner.try_lock().is_none());
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "taken under a lock")]
    fn ranks_out_of_order_are_caught() {
        let (cell, pool) = (Mutex::new(Rank::Cell, 1), Mutex::new(Rank::Pool, 2));
        let _b = pool.lock();
        let _a = cell.lock();
    }
}
