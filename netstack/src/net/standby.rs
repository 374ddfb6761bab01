//! Who keeps a stack's deadlines while the thread of its runtime is blocked.
//!
//! Delayed acknowledgments, retransmissions and the delay of a link are the business of tasks of the reactor.
//! Where those have no turn, the thread of exact wake-ups (`net/timer.rs`) does what is overdue. It looks seldom:
//! some milliseconds after something that has a deadline has happened, and then some milliseconds after the
//! deadline that is next. So a stack that is idle costs nothing, and one that is busy at most a hundred looks a second.

use crate::net::clock;
use crate::net::timer::WakeUp;
use crate::sync::{Mutex, Rank};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// How late the reactor may be with a deadline before the standby keeps it. A runtime whose thread is only busy
/// comes to it before.
pub(super) const GRACE: Duration = Duration::from_millis(5);
/// When the standby looks after something has happened.
const LOOK: Duration = Duration::from_millis(10);
/// In [`Standby::at`]: it does not look.
const NEVER: u64 = u64::MAX;

/// What has deadlines.
pub(crate) trait Overdue: Send + Sync {
    /// Does what is overdue by [`GRACE`], and says when the next deadline is, on the monotonic clock.
    fn keep_overdue(&self) -> Option<Instant>;
    /// It panicked.
    fn give_up(&self);
}

/// Looks after the deadlines of one stack.
pub(crate) struct Standby {
    stack: Weak<dyn Overdue>,
    /// When it looks next, in nanoseconds since `origin`.
    at: AtomicU64,
    origin: Instant,
    wake_up: Mutex<Option<WakeUp>>,
}

impl Standby {
    pub(super) fn new(stack: Weak<dyn Overdue>) -> Arc<Self> {
        let (at, wake_up) = (AtomicU64::new(NEVER), Mutex::new(Rank::Readiness, None));
        Arc::new(Self { stack, at, origin: clock::monotonic(), wake_up })
    }

    /// There is a deadline, which may be near.
    pub(super) fn soon(self: &Arc<Self>) {
        self.look_by(clock::monotonic() + LOOK);
    }

    /// Looks at `at` at the latest.
    fn look_by(self: &Arc<Self>, at: Instant) {
        let nanos = at.saturating_duration_since(self.origin).as_nanos() as u64;
        // As a rule it looks by then anyway.
        if self.at.load(Ordering::Acquire) <= nanos {
            return;
        }
        self.at.fetch_min(nanos, Ordering::AcqRel);
        loop {
            let nanos = self.at.load(Ordering::Acquire);
            if nanos == NEVER {
                return;
            }
            let wake_up =
                WakeUp::at(self.origin + Duration::from_nanos(nanos), &Waker::from(Arc::clone(self)));
            let old = std::mem::replace(&mut *self.wake_up.lock(), wake_up);
            drop(old);
            // Somebody who wants an earlier look may have been overtaken.
            if self.at.load(Ordering::Acquire) >= nanos {
                return;
            }
        }
    }
}

impl Wake for Standby {
    /// In the thread of exact wake-ups, which other stacks need.
    fn wake(self: Arc<Self>) {
        self.at.store(NEVER, Ordering::Release);
        let Some(stack) = self.stack.upgrade() else { return };
        match catch_unwind(AssertUnwindSafe(|| stack.keep_overdue())) {
            Ok(None) => {}
            Ok(Some(next)) => self.look_by((next + GRACE).max(clock::monotonic() + LOOK)),
            Err(_) => stack.give_up(),
        }
    }
}

impl std::fmt::Debug for Standby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standby").field("at", &self.at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A stack that is late, and says when it was looked at.
    struct Late {
        looked: Mutex<Sender<Instant>>,
        next: Mutex<Vec<Duration>>,
        panics: bool,
        given_up: Mutex<Option<Sender<()>>>,
    }

    impl Overdue for Late {
        fn keep_overdue(&self) -> Option<Instant> {
            let now = clock::monotonic();
            self.looked.lock().send(now).unwrap();
            assert!(!self.panics, "this panic is part of the test");
            self.next.lock().pop().map(|after| now + after)
        }

        fn give_up(&self) {
            self.given_up.lock().take().unwrap().send(()).unwrap();
        }
    }

    fn late(next: &[u64], panics: bool) -> (Arc<Late>, Arc<Standby>, Receiver<Instant>, Receiver<()>) {
        let ((looked, looks), (given_up, is_given_up)) = (channel(), channel());
        let next = next.iter().rev().map(|millis| Duration::from_millis(*millis)).collect();
        let stack = Arc::new(Late {
            looked: Mutex::new(Rank::Leaf, looked),
            next: Mutex::new(Rank::Leaf, next),
            panics,
            given_up: Mutex::new(Rank::Leaf, Some(given_up)),
        });
        let weak: Weak<Late> = Arc::downgrade(&stack);
        let standby = Standby::new(weak);
        (stack, standby, looks, is_given_up)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn it_looks_soon_and_after_the_next_deadline_until_there_is_none() {
        let (_stack, standby, looks, _) = late(&[0, 30], false);
        let start = clock::monotonic();
        standby.soon();
        let at: Vec<Duration> = (0..3).map(|_| looks.recv_timeout(LONG).unwrap() - start).collect();
        assert!(at[0] >= LOOK, "{at:?}");
        assert!(at[1] >= at[0] + LOOK, "a deadline that has passed is not looked at all the time: {at:?}");
        assert!(at[2] >= at[1] + Duration::from_millis(30) + GRACE, "{at:?}");
        assert!(looks.recv_timeout(3 * LOOK).is_err(), "nothing is left to look for");
    }

    #[test]
    fn whatever_happens_it_looks_once() {
        let (_stack, standby, looks, _) = late(&[], false);
        for _ in 0..100 {
            standby.soon();
        }
        looks.recv_timeout(LONG).unwrap();
        assert!(looks.recv_timeout(3 * LOOK).is_err());
    }

    #[test]
    fn a_near_deadline_comes_before_one_that_is_far() {
        let (_stack, standby, looks, _) = late(&[3_600_000], false);
        standby.soon();
        looks.recv_timeout(LONG).unwrap();
        standby.soon();
        looks.recv_timeout(LONG).expect("it does not wait for an hour");
    }

    #[test]
    fn a_panic_ends_the_stack_and_not_the_thread() {
        let (_stack, standby, looks, is_given_up) = late(&[], true);
        standby.soon();
        is_given_up.recv_timeout(LONG).unwrap();
        drop(looks);
        let (_other, standby, looks, _) = late(&[], false);
        standby.soon();
        looks.recv_timeout(LONG).unwrap();
    }

    #[test]
    fn it_keeps_no_stack_alive() {
        let (stack, standby, looks, _) = late(&[], false);
        drop(stack);
        standby.soon();
        assert!(looks.recv_timeout(3 * LOOK).is_err());
    }
}
