//! Knowing when a runtime has nothing left to do, without letting its time pass.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

/// What the runtime of a host and what drives it have in common.
#[derive(Default)]
pub(crate) struct Idle {
    root: Mutex<Option<Waker>>,
    idle: AtomicBool,
    /// The host does not come to rest.
    stuck: AtomicBool,
    /// How often the runtime had nothing left to do.
    rests: AtomicU64,
}

impl Idle {
    /// The runtime is about to wait: the task that waits for that is woken. Called before each wait.
    pub(crate) fn on_park(&self) {
        self.idle.store(true, Ordering::Relaxed);
        self.rests.fetch_add(1, Ordering::Relaxed);
        self.wake();
    }

    /// Ends [`Idle::rest`] whatever the host does.
    pub(crate) fn interrupt(&self) {
        self.stuck.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        let waker = self.root.lock().expect("no panic under this lock").take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until no task of the runtime is ready, as the future that the runtime blocks on. Twice: the
    /// first time, timers may have become due meanwhile. Returns false if that never happens.
    pub(crate) async fn rest(self: &Arc<Self>) -> bool {
        for _ in 0..2 {
            self.idle.store(false, Ordering::Relaxed);
            poll_fn(|cx| {
                let over = self.idle.load(Ordering::Relaxed) || self.stuck.load(Ordering::Relaxed);
                if over {
                    return Poll::Ready(());
                }
                *self.root.lock().expect("no panic under this lock") = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }
        !self.stuck.load(Ordering::Relaxed)
    }
}
