//! Time and the two threads of packetdrill.
//!
//! The main thread plays the script. A second thread makes the calls that block according to the
//! script, one at a time, while main continues. Time passes only in calls of the table: when main
//! sleeps, reads the time or waits for a packet. After each step of the clock a blocked call is
//! retried at that time. If it returns, the clock stops until its thread has read the time, because
//! packetdrill compares that with the expected end of the call.
//!
//! If main only waits for the call, the thread of the call moves the clock itself.

use crate::world::World;
use crate::{Call, Errno};
use netstack::time::{Duration, Instant};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;

/// Real time after which a thread stops waiting for the other one. This happens only if the tool is
/// stopped.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);

/// Real time without a call of main after which it may be waiting for the blocked call. packetdrill
/// gives up after one second.
const QUIET: Duration = Duration::from_millis(20);

/// Steps that the clock may take at one moment: a deadline that never passes is a bug of the stack.
const STEPS_AT_ONCE: u32 = 100_000;

/// The number of futex(2), as `/proc/self/task/N/syscall` shows it.
const FUTEX: &str = "202 ";

static ADAPTER: OnceLock<Adapter> = OnceLock::new();

/// The state of the blocked call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    None,
    /// Asleep until something happens.
    Waiting,
    /// Woken to retry.
    Trying,
    /// It has its result, and its thread has not read the time yet.
    Leaving,
}

/// The world behind its lock.
pub struct Adapter {
    shared: Mutex<Shared>,
    changed: Condvar,
    main: ThreadId,
}

/// What the lock guards.
pub struct Shared {
    /// The stack and the files.
    pub world: World,
    waiter: Waiter,
    /// Calls of the main thread so far.
    calls: u64,
    /// A blocked call has its result, and its thread may not have reported it to packetdrill yet.
    returned: bool,
}

/// For how long a call may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// It does not block.
    Never,
    /// For at most this long.
    For(Duration),
    /// Until it has a result.
    Forever,
}

/// The lock, held.
pub type Guard = MutexGuard<'static, Shared>;

impl Adapter {
    /// Puts the world in place. Called on the main thread, once: packetdrill plays one script.
    pub fn install(world: World) -> &'static Self {
        ADAPTER.get_or_init(|| Self {
            shared: Mutex::new(Shared { world, waiter: Waiter::None, calls: 0, returned: false }),
            changed: Condvar::new(),
            main: std::thread::current().id(),
        })
    }

    /// The world, once there is one.
    pub fn get() -> Option<&'static Self> {
        ADAPTER.get()
    }

    fn on_main(&self) -> bool {
        std::thread::current().id() == self.main
    }

    /// The lock, when no call is returning.
    pub fn lock(&'static self) -> Guard {
        let mut guard = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if self.on_main() {
            guard.calls += 1;
            guard = self.hold(guard);
            guard.world.follow_variables();
        }
        guard
    }

    fn sleep(&'static self, guard: Guard, limit: Duration) -> (Guard, bool) {
        let (guard, result) = self.changed.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner);
        (guard, result.timed_out())
    }

    /// Waits until the blocked call is asleep, or has ended.
    fn hold(&'static self, mut guard: Guard) -> Guard {
        while matches!(guard.waiter, Waiter::Trying | Waiter::Leaving) {
            let timed_out;
            (guard, timed_out) = self.sleep(guard, GIVE_UP_AFTER);
            if timed_out {
                guard.waiter = Waiter::None;
            }
        }
        guard
    }

    /// Something happened: the blocked call is retried now.
    fn retry(&'static self, mut guard: Guard) -> Guard {
        if self.on_main() && guard.waiter == Waiter::Waiting {
            guard.waiter = Waiter::Trying;
            self.changed.notify_all();
            guard = self.hold(guard);
        }
        guard
    }

    /// Moves the clock to `to`, with a stop at each deadline.
    pub fn advance(&'static self, mut guard: Guard, to: Instant) -> Guard {
        for _ in 0..STEPS_AT_ONCE {
            let Some(at) = guard.world.next_deadline().filter(|at| *at <= to) else { break };
            guard.world.move_to(at);
            guard = self.retry(guard);
        }
        guard.world.move_to(to);
        guard
    }

    /// Moves the clock to the next deadline, but not beyond `limit`. Returns false if there is
    /// neither.
    fn step(&'static self, mut guard: Guard, limit: Option<Instant>) -> (Guard, bool) {
        let next = [guard.world.next_deadline(), limit].into_iter().flatten().min();
        let Some(at) = next else { return (guard, false) };
        guard.world.move_to(at);
        (self.retry(guard), true)
    }

    /// A packet from the script.
    ///
    /// # Errors
    /// As [`World::inject`].
    pub fn inject(&'static self, packet: &[u8]) -> Call<()> {
        let mut guard = self.lock();
        guard.world.inject(packet)?;
        drop(self.retry(guard));
        Ok(())
    }

    /// The next packet that the stack sends, however long that takes; none if it will not send any.
    pub fn next_packet(&'static self) -> Option<crate::device::Sent> {
        let mut guard = self.lock();
        for _ in 0..STEPS_AT_ONCE {
            if let Some(sent) = guard.world.take_sent() {
                return Some(sent);
            }
            let moved;
            (guard, moved) = self.step(guard, None);
            if !moved {
                break;
            }
        }
        None
    }

    /// The time. It advances by a microsecond with each call, because packetdrill waits for its
    /// first event by polling the time.
    pub fn time(&'static self) -> Instant {
        let mut guard = self.lock();
        if guard.waiter == Waiter::Leaving {
            guard.waiter = Waiter::None;
            guard.returned = true;
            self.changed.notify_all();
            return guard.world.now();
        }
        let to = guard.world.now() + Duration::from_micros(1);
        self.advance(guard, to).world.now()
    }

    /// Lets `duration` pass.
    pub fn pass(&'static self, duration: Duration) {
        let guard = self.lock();
        let to = guard.world.now() + duration;
        let mut guard = self.advance(guard, to);
        // While main sleeps, the thread of a call takes packetdrill's lock and records the result
        // of the call. Virtual sleep is too short for that.
        if self.on_main() && std::mem::take(&mut guard.returned) {
            drop(self.sleep(guard, QUIET));
        }
    }

    /// Makes a call: tries `attempt` until it returns something, for as long as `blocking` permits.
    ///
    /// # Errors
    /// Those of `attempt`; `EAGAIN` when the time has passed, or when nothing can happen any more.
    pub fn call<R>(
        &'static self,
        blocking: impl FnOnce(&mut World) -> Call<Blocking>,
        mut attempt: impl FnMut(&mut World) -> Call<Option<R>>,
    ) -> Call<R> {
        let mut guard = self.lock();
        let limit = match blocking(&mut guard.world)? {
            Blocking::Never => Some(guard.world.now()),
            Blocking::For(time) => Some(guard.world.now() + time),
            Blocking::Forever => None,
        };
        let result = loop {
            match attempt(&mut guard.world) {
                Ok(Some(result)) => break Ok(result),
                Err(errno) => break Err(errno),
                Ok(None) if limit.is_some_and(|limit| limit <= guard.world.now()) => {
                    break Err(Errno(libc::EAGAIN));
                }
                Ok(None) => {}
            }
            let moved;
            (guard, moved) = if self.on_main() { self.step(guard, limit) } else { self.wait(guard, limit) };
            if !moved {
                break Err(Errno(libc::EAGAIN));
            }
        };
        if !self.on_main() {
            guard.waiter = Waiter::Leaving;
            self.changed.notify_all();
        }
        result
    }

    /// Sleeps until main signals that something happened, or moves the clock if main waits for this
    /// thread.
    fn wait(&'static self, mut guard: Guard, limit: Option<Instant>) -> (Guard, bool) {
        guard.waiter = Waiter::Waiting;
        self.changed.notify_all();
        loop {
            let calls = guard.calls;
            let timed_out;
            (guard, timed_out) = self.sleep(guard, QUIET);
            if guard.waiter != Waiter::Waiting {
                return (guard, true);
            }
            if timed_out && guard.calls == calls {
                // Without the lock: main waiting for the lock would look like main waiting for this
                // call.
                drop(guard);
                let idle = main_sleeps();
                guard = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                if idle && guard.calls == calls && guard.waiter == Waiter::Waiting {
                    let moved;
                    (guard, moved) = self.step(guard, limit);
                    if moved {
                        return (guard, true);
                    }
                }
            }
        }
    }
}

/// Whether the main thread waits for another one.
fn main_sleeps() -> bool {
    let path = format!("/proc/self/task/{}/syscall", std::process::id());
    match std::fs::read_to_string(path) {
        Ok(text) => text.starts_with(FUTEX),
        // Without permission to read it, 20 ms without a call are taken as waiting.
        Err(_) => true,
    }
}
