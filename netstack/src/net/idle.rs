//! Knowing when a runtime has nothing left to do, and what it waits for.

use crate::net::core::Core;
use crate::time::Instant;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// How often a runtime is about to wait before it has nothing left to do: the first time, timers may have become due.
const RESTS: u32 = 2;

/// Tells when a runtime of one thread has nothing left to do.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    root: Mutex<Option<Waker>>,
    /// Times in a row that it was about to wait.
    rests: AtomicU32,
    /// It may wait, and let its time jump.
    jumps: AtomicBool,
}

impl Idle {
    /// For the runtime's `on_thread_park`.
    pub(crate) fn on_park(&self) {
        if self.jumps.swap(false, Ordering::Relaxed) {
            return;
        }
        self.rests.fetch_add(1, Ordering::Relaxed);
        // Woken in here, the runtime does not wait, and its time does not pass.
        let waker = self.root.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until no task of the runtime is ready and no timer is due, as the future that the runtime blocks on.
    pub(crate) fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.rests.load(Ordering::Relaxed) >= RESTS {
            self.busy();
            return Poll::Ready(());
        }
        *self.root.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        Poll::Pending
    }

    /// There is something to do.
    pub(crate) fn busy(&self) {
        self.rests.store(0, Ordering::Relaxed);
    }

    /// Lets the runtime wait once.
    #[cfg(feature = "macros")]
    pub(crate) fn jump(&self) {
        self.jumps.store(true, Ordering::Relaxed);
    }
}

/// The next deadline of a stack, or of one of its devices, by its own clock.
pub(crate) fn next_deadline(core: &Core) -> Option<Instant> {
    let engine = &core.engine;
    let devices = core.wakeups.live().filter_map(|index| {
        let id = core.wakeups.queue_id(index);
        // The task of its first queue serves a device.
        (id.queue == 0).then(|| engine.core().device(id.interface)?.next_deadline()).flatten()
    });
    engine.next_deadline().into_iter().chain(devices).min()
}
