//! The wakers of an in-memory device queue.

use crate::sync::{Mutex, Rank};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

/// Two events, readable and writable, with one waiter each.
///
/// An event without a waiter is kept, and reported to the next poll.
#[derive(Debug)]
pub struct Signal {
    readable: Event,
    writable: Event,
}

#[derive(Debug)]
struct Event {
    raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Event {
    fn new() -> Self {
        Self { raised: AtomicBool::new(false), waker: Mutex::new(Rank::Readiness, None) }
    }

    fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            let waker = self.waker.lock().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.raised.swap(false, Ordering::AcqRel) {
            return Poll::Ready(());
        }
        let mine = cx.waker().clone();
        let old = self.waker.lock().replace(mine);
        drop(old);
        // An event raised between the two lines above found no waker.
        if self.raised.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Default for Signal {
    fn default() -> Self {
        Self::new()
    }
}

impl Signal {
    /// A signal without events and waiters.
    pub fn new() -> Self {
        Self { readable: Event::new(), writable: Event::new() }
    }

    /// Signals that the queue may have become readable. This calls a waker, so no lock may be held.
    pub fn raise_readable(&self) {
        self.readable.raise();
    }

    /// Signals that the queue may have become writable. This calls a waker, so no lock may be held.
    pub fn raise_writable(&self) {
        self.writable.raise();
    }

    /// Consumes a readable event, or waits for one. Only the waker of the latest call is kept.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.readable.poll(cx)
    }

    /// Consumes a writable event, or waits for one. Only the waker of the latest call is kept.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.writable.poll(cx)
    }
}
