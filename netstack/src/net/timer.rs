//! Wake-ups at a time that is exact to some tens of microseconds.
//!
//! The timers of tokio round up to a millisecond, because `epoll_wait` does. One thread of the process
//! does better: it parks until the earliest of all deadlines and wakes the tasks that wait for it. A
//! descriptor for each stack (timerfd) would save one of two context switches, but thousands of stacks
//! would use up the descriptors of a process, and a runtime may be built without I/O.
//!
//! The thread is started for the first deadline and parks without a timeout while there is none.

use crate::net::clock;
use crate::sync::{Mutex, Rank};
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::task::Waker;
use std::thread::Thread;
use std::time::{Duration, Instant};

/// The thread sleeps for this long after it has woken somebody, so that a link at a high rate does not
/// have a wake-up for each of its packets. It is half of the lateness that is promised.
const SPACING: Duration = Duration::from_micros(50);

/// A deadline and who waits for it. Each number is used once.
type Key = (Instant, u64);

#[derive(Debug)]
struct Waiting {
    by_time: BTreeMap<Key, Waker>,
    next_number: u64,
    /// When the thread looks at the deadlines next; none if it waits to be unparked.
    looks_at: Option<Instant>,
    /// It does not look before this.
    rests_until: Option<Instant>,
}

static WAITING: Mutex<Waiting> = Mutex::new(
    Rank::Leaf,
    Waiting { by_time: BTreeMap::new(), next_number: 0, looks_at: None, rests_until: None },
);

impl Waiting {
    /// Makes the thread look at `at`. Returns whether it has to be unparked for that: it has not if it
    /// looks by then anyway.
    fn look_at(&mut self, at: Instant) -> bool {
        let at = self.rests_until.map_or(at, |rest| at.max(rest));
        let earlier = self.looks_at.is_none_or(|looks_at| at < looks_at);
        if earlier {
            self.looks_at = Some(at);
        }
        earlier
    }

    /// Moves what is due to `due`, and returns when to look again.
    fn take_due(&mut self, now: Instant, due: &mut Vec<Waker>) -> Option<Instant> {
        if self.rests_until.is_none_or(|rest| rest <= now) {
            while let Some(first) = self.by_time.first_entry()
                && first.key().0 <= now
            {
                due.push(first.remove());
            }
            self.rests_until = (!due.is_empty()).then(|| now + SPACING);
        }
        self.looks_at = None;
        if let Some(&(at, _)) = self.by_time.keys().next() {
            self.look_at(at);
        }
        self.looks_at
    }
}

/// The thread; none if it could not be started.
static THREAD: OnceLock<Option<Thread>> = OnceLock::new();

/// A wake-up of one task at one time, until it is dropped.
#[derive(Debug)]
pub(crate) struct WakeUp {
    key: Key,
    waker: Waker,
}

impl WakeUp {
    /// Wakes `waker` at `at` or shortly after, and never before. Returns none if the system refuses a
    /// thread.
    pub(crate) fn at(at: Instant, waker: &Waker) -> Option<Self> {
        let thread = THREAD.get_or_init(start).as_ref()?;
        let kept = waker.clone();
        let (key, earlier) = {
            let mut waiting = WAITING.lock();
            let key = (at, waiting.next_number);
            waiting.next_number += 1;
            waiting.by_time.insert(key, kept);
            (key, waiting.look_at(at))
        };
        if earlier {
            thread.unpark();
        }
        Some(Self { key, waker: waker.clone() })
    }

    /// Whether this is the wake-up of `waker` at `at`, past or to come.
    pub(crate) fn is(&self, at: Instant, waker: &Waker) -> bool {
        self.key.0 == at && self.waker.will_wake(waker)
    }
}

impl Drop for WakeUp {
    fn drop(&mut self) {
        let waker = WAITING.lock().by_time.remove(&self.key);
        drop(waker);
    }
}

fn start() -> Option<Thread> {
    let thread = std::thread::Builder::new().name("netstack-timer".to_owned()).spawn(run);
    thread.ok().map(|thread| thread.thread().clone())
}

/// The thread.
fn run() {
    reduce_slack();
    let mut due = Vec::new();
    loop {
        let next = WAITING.lock().take_due(clock::monotonic(), &mut due);
        due.drain(..).for_each(Waker::wake);
        // A deadline that was added since, and is earlier, has unparked this thread: then neither waits.
        match next {
            Some(at) => std::thread::park_timeout(at.saturating_duration_since(clock::monotonic())),
            None => std::thread::park(),
        }
    }
}

/// Asks Linux to end the waits of this thread when they are over, and not within the following 50 µs
/// (`PR_SET_TIMERSLACK`, proc_pid_timerslack_ns(5)). Where that is not possible they end later.
fn reduce_slack() {
    #[cfg(target_os = "linux")]
    if let Ok(task) = std::fs::read_link("/proc/thread-self")
        && let Some(thread) = task.file_name()
    {
        let _ = std::fs::write(std::path::Path::new("/proc").join(thread).join("timerslack_ns"), "1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Deadlines, and what the thread would do at the time that the test says.
    struct Table {
        start: Instant,
        waiting: Waiting,
        count: Arc<Count>,
    }

    impl Table {
        fn new() -> Self {
            let waiting =
                Waiting { by_time: BTreeMap::new(), next_number: 0, looks_at: None, rests_until: None };
            Self { start: clock::monotonic(), waiting, count: Arc::default() }
        }

        fn us(&self, micros: u64) -> Instant {
            self.start + Duration::from_micros(micros)
        }

        /// Whether the thread has to be unparked for it.
        fn add(&mut self, micros: u64) -> bool {
            let at = self.us(micros);
            let number = self.waiting.next_number;
            self.waiting.next_number += 1;
            self.waiting.by_time.insert((at, number), Waker::from(Arc::clone(&self.count)));
            self.waiting.look_at(at)
        }

        /// The thread looks: how many it wakes, and when it looks again.
        fn look(&mut self, micros: u64) -> (usize, Option<u64>) {
            let mut due = Vec::new();
            let next = self.waiting.take_due(self.us(micros), &mut due);
            (due.len(), next.map(|at| (at - self.start).as_micros() as u64))
        }
    }

    #[test]
    fn the_thread_looks_when_the_first_is_due_and_rests_afterwards() {
        let mut table = Table::new();
        assert_eq!(table.look(0), (0, None), "it waits to be unparked");
        assert!(table.add(1000));
        assert!(!table.add(2000), "a later one is found in time");
        assert_eq!(table.look(1), (0, Some(1000)));
        assert!(table.add(500), "an earlier one is not");
        assert_eq!(table.look(2), (0, Some(500)));
        assert_eq!(table.look(499), (0, Some(500)), "never early");
        assert_eq!(table.look(510), (1, Some(1000)));
        assert!(table.add(520));
        assert_eq!(table.look(530), (0, Some(560)), "not before it has rested");
        assert!(!table.add(535), "it looks by the earliest that it could");
        assert_eq!(table.look(560), (2, Some(1000)), "together");
        assert_eq!(table.look(1005), (1, Some(2000)));
        assert_eq!(table.look(2000), (1, None));
    }

    #[test]
    fn none_is_lost_in_any_order() {
        let mut table = Table::new();
        let (mut now, mut added, mut woken) = (0, 0, 0);
        let mut looks_at = None;
        let mut random = 1_u64;
        while added < 5_000 || woken < added {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            now += random >> 58;
            let unparked = added < 5_000 && {
                added += 1;
                table.add(now + (random >> 40) % 700)
            };
            // The thread runs when it is unparked or its time is over, and never otherwise.
            if unparked || looks_at.is_some_and(|at| at <= now) {
                let (count, next) = table.look(now);
                woken += count;
                looks_at = next;
            }
            let late =
                table.waiting.by_time.keys().filter(|(at, _)| *at + 2 * SPACING < table.us(now)).count();
            assert!(late == 0 || looks_at.is_some_and(|at| at <= now + 50), "{late} are forgotten at {now}");
            assert!(now < 10_000_000, "{woken} of {added} were woken");
        }
    }

    #[test]
    fn a_wake_up_comes_once_and_none_after_it_was_dropped() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let soon = clock::monotonic() + Duration::from_millis(2);
        let kept = WakeUp::at(soon, &waker).unwrap();
        assert!(kept.is(soon, &waker) && !kept.is(soon, Waker::noop()));
        drop(WakeUp::at(soon, &waker));
        let far = WakeUp::at(soon + Duration::from_secs(3600), &waker).unwrap();
        let limit = soon + Duration::from_secs(20);
        while count.0.load(Ordering::Relaxed) == 0 && clock::monotonic() < limit {
            assert!(Arc::strong_count(&count) >= 3);
            std::thread::yield_now();
        }
        assert!(clock::monotonic() >= soon);
        std::thread::park_timeout(Duration::from_millis(5));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        drop((kept, far, waker));
        assert_eq!(Arc::strong_count(&count), 1, "nothing keeps the waker");
    }
}
