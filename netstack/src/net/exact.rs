//! Paused time that is exact to the nanosecond.
//!
//! The timers of tokio are as fine as a millisecond, and a runtime whose time is paused jumps from one to the next.
//! [`drive`] keeps the deadlines of stacks, which are finer: whenever the runtime has nothing left to do, it looks for the
//! next one. If that is before the end of the current millisecond, no timer of tokio can come before it: it lets the
//! time pass by as much and wakes the stack. Else it lets tokio jump, no further than to the millisecond with the
//! deadline in it.

use crate::net::core::Core;
use crate::net::idle::{Idle, next_deadline};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// A tick of tokio's timers.
const TICK: Duration = Duration::from_millis(1);

thread_local! {
    /// The stacks of the runtime that [`drive`] runs on this thread, if it does.
    static STACKS: RefCell<Option<Vec<Weak<Core>>>> = const { RefCell::new(None) };
}

/// Notes a stack that was built on this thread.
pub(crate) fn note(core: &Arc<Core>) {
    STACKS.with_borrow_mut(|stacks| {
        if let Some(stacks) = stacks {
            stacks.retain(|stack| stack.strong_count() > 0);
            stacks.push(Arc::downgrade(core));
        }
    });
}

/// Lets the time of the runtime here pass: `tokio::time::advance`, which this crate does not have by itself.
pub type Advance = dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()>>>;

/// How often a deadline is served that stays where it is. Then it is left to tokio's timers.
const MOST_TIMES: u32 = 16;

/// Runs `body` as the future that a runtime of one thread blocks on, whose time is paused and whose `on_thread_park`
/// calls [`Idle::on_park`].
pub(crate) async fn drive<F: Future>(body: F, idle: &Idle, advance: &Advance) -> F::Output {
    let _noting = Noting::begin();
    let begin = Instant::now();
    let ticks = |at: Instant| (at - begin).as_nanos() / TICK.as_nanos();
    let tick = |ticks: u128| TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
    let mut body = pin!(body);
    let mut alarm = None;
    let (mut served, mut times) = (begin, 0);
    loop {
        let output = poll_fn(|cx| {
            if let Poll::Ready(output) = body.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if alarm.as_mut().is_some_and(|alarm: &mut Pin<Box<Sleep>>| alarm.as_mut().poll(cx).is_ready()) {
                alarm = None;
            }
            idle.poll_rest(cx).map(|()| None)
        });
        if let Some(output) = output.await {
            return output;
        }
        alarm = None;
        let now = Instant::now();
        let stacks: Vec<_> = stacks()
            .into_iter()
            .filter_map(|core| Some((core.clock.to_tokio(next_deadline(&core)?), core)))
            .collect();
        let is_left = |at: &Instant| *at > served || times < MOST_TIMES;
        let next = stacks.iter().map(|(at, _)| *at).filter(is_left).min();
        match next {
            Some(next) if ticks(next) <= ticks(now) => {
                times = if next > served { 1 } else { times + 1 };
                served = served.max(next);
                if next > now {
                    advance(next - now).await;
                }
                stacks.iter().filter(|(at, _)| *at <= next).for_each(|(_, core)| core.wakeups.all());
            }
            // tokio jumps by whole milliseconds, so it has to begin with one.
            _ if begin + tick(ticks(now)) < now => advance(begin + tick(ticks(now) + 1) - now).await,
            Some(next) => {
                alarm = Some(Box::pin(sleep_until(begin + tick(ticks(next)))));
                idle.jump();
            }
            None => idle.jump(),
        }
    }
}

/// While it lives, stacks that are built on this thread are noted.
struct Noting {
    before: Option<Vec<Weak<Core>>>,
}

impl Noting {
    fn begin() -> Self {
        Self { before: STACKS.replace(Some(Vec::new())) }
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        STACKS.set(self.before.take());
    }
}

fn stacks() -> Vec<Arc<Core>> {
    STACKS.with_borrow(|stacks| stacks.iter().flatten().filter_map(Weak::upgrade).collect())
}
