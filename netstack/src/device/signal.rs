//! The wakers of an in-memory device queue.

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, Rank};
use std::task::{Context, Poll, Waker};

/// Two events, readable and writable, with one waiter each.
///
/// An event without a waiter is kept, and reported to the next poll.
#[derive(Debug)]
pub struct Signal {
    readable: Event,
    writable: Event,
    inline: bool,
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
        Self { readable: Event::new(), writable: Event::new(), inline: false }
    }

    /// As [`Signal::new`], for a device whose packets may be received in the very call that raises an event. The
    /// stack that has the device then needs no task for that, and works while the thread of its runtime
    /// is blocked. It calls the device from within the call, so nothing of the device's own may be locked.
    pub fn inline() -> Self {
        Self { inline: true, ..Self::new() }
    }

    /// Whether it was made by [`Signal::inline`].
    pub fn is_inline(&self) -> bool {
        self.inline
    }

    /// Consumes a readable event, if there is one.
    pub fn take_readable(&self) -> bool {
        self.readable.raised.swap(false, Ordering::AcqRel)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    /// Miri and ThreadSanitizer run this.
    #[test]
    fn threads_lose_no_event() {
        const ITEMS: usize = if cfg!(miri) { 8 } else { 10_000 };
        let (signal, items) = (Signal::new(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ITEMS {
                        items.fetch_add(1, Ordering::Relaxed);
                        signal.raise_readable();
                    }
                });
            }
            let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
            let mut taken = 0;
            while taken < 2 * ITEMS {
                taken += items.swap(0, Ordering::Relaxed);
                if taken < 2 * ITEMS && signal.poll_readable(&mut Context::from_waker(&waker)).is_pending() {
                    std::thread::park();
                }
            }
        });
    }
}
