//! The clock of a stack.
//!
//! It is fixed when the stack is built: that of the driver's runtime, if a test could pause it, or the monotonic clock
//! of the operating system. This is the one place that reads a clock.

use crate::time::{Duration, Instant};
use std::any::TypeId;
use std::sync::OnceLock;
use tokio::runtime::{Handle, Id, RuntimeFlavor};

/// How far in the future a timer is set for a deadline that no clock can express.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

#[derive(Debug)]
pub(crate) struct Clock {
    source: Source,
    /// Where the clock of a runtime that is gone went on as the monotonic clock.
    detached: OnceLock<(Instant, std::time::Instant)>,
}

#[derive(Debug)]
enum Source {
    Monotonic {
        origin: std::time::Instant,
    },
    /// Only a current-thread runtime can be paused; its time is what `tokio::time` says inside it.
    Runtime {
        origin: tokio::time::Instant,
        handle: Handle,
        id: Id,
        /// The clock was running when the stack was built.
        runs: bool,
    },
}

/// The monotonic clock of the operating system.
#[expect(clippy::disallowed_methods, reason = "the stack's clock is read here and nowhere else")]
pub(crate) fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}

fn nanos(since: Duration) -> Instant {
    Instant::ZERO + since
}

impl Clock {
    /// The monotonic clock, from now on.
    pub(crate) fn monotonic() -> Self {
        Self { source: Source::Monotonic { origin: monotonic() }, detached: OnceLock::new() }
    }

    /// The clock of `handle`'s runtime, from now on.
    pub(crate) fn of_runtime(handle: &Handle) -> Self {
        // Then tokio's time is the monotonic one, which costs less to read.
        if handle.runtime_flavor() == RuntimeFlavor::MultiThread || !can_pause() {
            return Self::monotonic();
        }
        let _inside = handle.enter();
        let origin = tokio::time::Instant::now();
        let runs = !is_paused();
        let source = Source::Runtime { origin, handle: handle.clone(), id: handle.id(), runs };
        Self { source, detached: OnceLock::new() }
    }

    /// The time.
    pub(crate) fn now(&self) -> Instant {
        match &self.source {
            Source::Monotonic { origin } => nanos(monotonic().saturating_duration_since(*origin)),
            Source::Runtime { origin, handle, id, .. } => {
                if let Some((at, since)) = self.detached.get() {
                    return *at + monotonic().saturating_duration_since(*since);
                }
                // `tokio::time` answers for the runtime that this thread is in, and a socket may be
                // used from any.
                let elsewhere = Handle::try_current().map_or(true, |current| current.id() != *id);
                let _inside = elsewhere.then(|| handle.enter());
                nanos(tokio::time::Instant::now().saturating_duration_since(*origin))
            }
        }
    }

    /// `at` on the clock of `tokio::time`.
    pub(crate) fn to_tokio(&self, at: Instant) -> tokio::time::Instant {
        let (base, from) = match (&self.source, self.detached.get()) {
            (Source::Monotonic { origin }, _) => (tokio::time::Instant::from_std(*origin), Instant::ZERO),
            (Source::Runtime { .. }, Some((at, since))) => (tokio::time::Instant::from_std(*since), *at),
            (Source::Runtime { origin, .. }, None) => (*origin, Instant::ZERO),
        };
        base.checked_add((at - from).min(FAR)).unwrap_or(base)
    }

    /// Whether it was running when the stack was built, so that it is not that of a test with paused time.
    pub(crate) fn runs(&self) -> bool {
        match &self.source {
            Source::Monotonic { .. } => true,
            Source::Runtime { runs, .. } => *runs || self.detached.get().is_some(),
        }
    }

    /// `at` on the monotonic clock, or none if the runtime's clock was paused when the stack was built.
    pub(crate) fn to_monotonic(&self, at: Instant) -> Option<std::time::Instant> {
        // A clock of tokio that was never paused is the monotonic one. Where a test pauses it later, this
        // is only a time at which a task is woken for nothing.
        self.runs().then(|| self.to_tokio(at).into_std())
    }

    /// Goes on as the monotonic clock: the runtime's clock may stand still once the runtime is gone.
    pub(crate) fn detach(&self) {
        let now = self.now();
        self.detached.get_or_init(|| (now, monotonic()));
    }
}

/// What `pause` means where tokio has no such function.
#[derive(Debug)]
struct NotThere;

const fn pause() -> NotThere {
    NotThere
}

/// What `pause` means here, in any case.
const NO_PAUSE: fn() -> NotThere = pause;

/// Whether the time of a runtime can be paused: whether tokio is built with its feature `test-util`.
///
/// A crate cannot ask for the features of another. But with that one there is a function `pause`, and a name that
/// is imported into a block, even by `*`, comes before the same name around the block.
#[cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "no other import works with and without the name")
)]
fn can_pause() -> bool {
    // From the root, where no other import can lead.
    use ::tokio::time::*;
    fn differ<A: 'static, B: 'static>(_: fn() -> A, _: fn() -> B) -> bool {
        TypeId::of::<A>() != TypeId::of::<B>()
    }
    // An item that is always there, so that the import is in use.
    let _: fn() -> Instant = Instant::now;
    differ(pause, NO_PAUSE)
}

/// Whether the time of the runtime that this thread is in stands still.
///
/// tokio does not say, so compare: its clock is paused if it does not move while the monotonic one
/// does.
pub(crate) fn is_paused() -> bool {
    if !can_pause() {
        return false;
    }
    let before = tokio::time::Instant::now();
    let start = monotonic();
    while monotonic().saturating_duration_since(start) < Duration::from_micros(1) {
        std::hint::spin_loop();
    }
    tokio::time::Instant::now() == before
}

/// Whether the runtime that this thread is in has timers.
///
/// tokio does not say, so try: it panics where there are none, and its panic hook prints what it is
/// about. The caller fails.
pub(crate) fn has_timers() -> bool {
    std::panic::catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn paused_time_is_the_stacks_time_on_every_thread() {
        assert!(is_paused());
        let clock = std::sync::Arc::new(Clock::of_runtime(&Handle::current()));
        assert_eq!(clock.now(), Instant::ZERO);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now().as_millis(), 3_600_000);
        let other = std::sync::Arc::clone(&clock);
        let seen = std::thread::spawn(move || other.now()).join().unwrap();
        assert_eq!(seen.as_millis(), 3_600_000);
        assert_eq!(clock.to_tokio(clock.now()), tokio::time::Instant::now());
    }

    #[test]
    fn this_build_of_tokio_can_pause_time() {
        assert!(can_pause(), "the tests are built with the feature test-util");
    }

    #[tokio::test]
    async fn time_that_is_paused_later_is_the_stacks_time_too() {
        let clock = Clock::of_runtime(&Handle::current());
        tokio::time::pause();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!((clock.now() - before).as_secs(), 3600);
    }

    #[tokio::test]
    async fn running_time_is_not_paused_and_detaching_does_not_jump() {
        assert!(!is_paused());
        let clock = Clock::of_runtime(&Handle::current());
        let before = clock.now();
        clock.detach();
        let after = clock.now();
        assert!(before <= after && after - before < Duration::from_secs(60));
        let _ = clock.to_tokio(Instant::FAR_FUTURE);
    }
}
