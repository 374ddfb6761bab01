//! The primitives of shuttle, with the methods of parking_lot's that are used.

pub(crate) use shuttle::sync::atomic;
pub(super) use shuttle::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

/// A mutex that does not poison.
#[derive(Debug)]
pub(super) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(super) fn into_inner(self) -> T {
        self.0.into_inner().expect("a test that panics has failed")
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("a test that panics has failed")
    }

    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// A readers-writer lock that does not poison.
#[derive(Debug)]
pub(super) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(shuttle::sync::RwLock::new(value))
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().expect("a test that panics has failed")
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().expect("a test that panics has failed")
    }
}
