//! Finds runs that do not end, by the processor time of their thread.
//!
//! A busy loop that calls a device is found by counting. One that does not is found here: the runtime is
//! told to give up, so that the failure is reported as any other. A loop that gives nobody a turn ends the
//! process, once its seed was printed.

use crate::idle::Idle;
use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, Once, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;

/// Processor time of one run after which it is told to end, and after which the process ends.
const MOST: Duration = Duration::from_secs(60);
const FAR_TOO_MUCH: Duration = Duration::from_secs(120);

struct Run {
    seed: u64,
    /// The file that has the processor time of the thread.
    times: Option<String>,
    began: Duration,
    machines: Vec<Weak<Idle>>,
}

static RUNS: Mutex<Option<HashMap<ThreadId, Run>>> = Mutex::new(None);

fn runs() -> MutexGuard<'static, Option<HashMap<ThreadId, Run>>> {
    RUNS.lock().expect("no panic under this lock")
}

/// Processor time of a thread, where the system tells.
fn processor_time(times: Option<&String>) -> Duration {
    let text = times.and_then(|path| fs::read_to_string(path).ok());
    let nanos = text.and_then(|text| text.split_whitespace().next()?.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// This thread runs a seed from now on.
pub(crate) fn begin(seed: u64) {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| drop(thread::spawn(watch)));
    let thread = fs::read_link("/proc/thread-self").ok();
    let times = thread.map(|thread| format!("/proc/{}/schedstat", thread.display()));
    let began = processor_time(times.as_ref());
    let run = Run { seed, times, began, machines: Vec::new() };
    runs().get_or_insert_default().insert(thread::current().id(), run);
}

/// A machine of this thread's run is switched on.
pub(crate) fn watch_over(idle: &Arc<Idle>) {
    if let Some(run) = runs().get_or_insert_default().get_mut(&thread::current().id()) {
        run.machines.retain(|machine| machine.strong_count() > 0);
        run.machines.push(Arc::downgrade(idle));
    }
}

/// This thread's run is over.
pub(crate) fn end() {
    runs().get_or_insert_default().remove(&thread::current().id());
}

fn watch() {
    loop {
        thread::park_timeout(Duration::from_secs(1));
        for run in runs().get_or_insert_default().values() {
            let took = processor_time(run.times.as_ref()).saturating_sub(run.began);
            if took > FAR_TOO_MUCH {
                eprintln!("seed {} gives nobody a turn: the process ends", run.seed);
                std::process::abort();
            }
            if took > MOST {
                run.machines.iter().filter_map(Weak::upgrade).for_each(|idle| idle.interrupt());
            }
        }
    }
}
