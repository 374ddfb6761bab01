//! [`Alarm`]: the timer of a reactor task.

use crate::net::clock::Clock;
use crate::net::timer::WakeUp;
use crate::time::{Duration, Instant};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A deadline that is nearer than this is kept exactly where [`Precision::Near`] is asked for. To a later
/// one the millisecond that tokio adds makes little difference.
const NEAR: Duration = Duration::from_millis(2);

/// How exactly a deadline is kept while time is real. In paused time all of them are rounded up to a
/// millisecond, by tokio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// To some tens of microseconds.
    Exact,
    /// The same for a deadline that is near. A later one is rounded up to a millisecond.
    Near,
    /// Rounded up to a millisecond.
    Millisecond,
}

/// A timer that is armed for one point at a time.
#[derive(Debug)]
pub(crate) struct Alarm {
    precision: Precision,
    /// In real time it comes after `wake_up`, and counts only where there is none.
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
    at: Option<Instant>,
    wake_up: Option<WakeUp>,
}

impl Alarm {
    /// A timer that is not armed.
    pub(crate) fn new(precision: Precision) -> Self {
        Self { precision, sleep: None, at: None, wake_up: None }
    }

    /// Arms the timer for `at`, of which the task is woken. Ready if it is known to be past; the caller
    /// looks at the clock first.
    pub(crate) fn poll(&mut self, clock: &Clock, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if self.at != Some(at) {
                    sleep.as_mut().reset(clock.to_tokio(at));
                }
                sleep
            }
            None => self.sleep.insert(Box::pin(tokio::time::sleep_until(clock.to_tokio(at)))),
        };
        self.at = Some(at);
        let due = sleep.as_mut().poll(cx);
        if due.is_ready() {
            (self.at, self.wake_up) = (None, None);
        } else {
            self.wake_exactly(clock, at, cx);
        }
        due
    }

    fn wake_exactly(&mut self, clock: &Clock, at: Instant, cx: &Context<'_>) {
        let exactly = match self.precision {
            Precision::Exact => true,
            Precision::Near => at.saturating_since(clock.now()) <= NEAR,
            Precision::Millisecond => false,
        };
        let at = if exactly { clock.to_monotonic(at) } else { None };
        let waker = cx.waker();
        if !at.is_some_and(|at| self.wake_up.as_ref().is_some_and(|wake_up| wake_up.is(at, waker))) {
            self.wake_up = at.and_then(|at| WakeUp::at(at, waker));
        }
    }
}
