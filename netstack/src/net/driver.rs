//! The driver of a stack: where its reactor tasks run, and how they end.
//!
//! Data that was accepted must survive the end of the runtime, and of `main`. A runtime that ends
//! drops its tasks. When a reactor task is dropped before it ends, a thread of its own closes the
//! stack's sockets and drives the stack until every byte is acknowledged, and the end of the runtime
//! waits for that thread. `Config::exit_drain` bounds all of it.

use crate::device::{Device, Readiness};
use crate::net::clock;
use crate::net::core::{CHECK_INTERVAL, Core, Lifecycle, Running, Spawner};
use crate::net::error::Cause;
use crate::net::reactor::{DeadlineTask, QueueTask};
use crate::sync::{Mutex, Rank};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak, mpsc};
use std::task::{Context, Poll};
use tokio::runtime::{Builder, Handle, Id, Runtime};

/// The driver of a stack, which waits for its devices and deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Driver {
    /// Tasks on the tokio runtime in which the stack is built. The stack uses the clock of the
    /// runtime, so that it runs in virtual time if the runtime's time is paused. The stack ends
    /// when the runtime ends.
    ///
    /// While all threads of the runtime are blocked, by a `join` or a computation, the stack goes on over
    /// loopback and over devices in memory, and keeps its deadlines, some milliseconds late. Over a device with a descriptor, such as
    /// TUN, it receives when a thread of the runtime has time again. In paused time it waits for the runtime in any case.
    #[default]
    Tokio,
    /// A dedicated thread, independent of any runtime and of what blocks it. The stack uses the monotonic clock, also where the
    /// time of the runtime around it is paused.
    Thread,
}

/// Whether any queue of `device` is waited for by a file descriptor.
pub(crate) fn waits_on_fd(device: &dyn Device) -> bool {
    (0..device.capabilities().queues).any(|queue| !matches!(device.readiness(queue), Readiness::Signal(_)))
}

/// The stacks that runtimes drive. When a runtime ends, all of its stacks are drained at the same
/// time: two of them may be each other's peers.
static DRIVEN: Mutex<Vec<(Id, Weak<Core>)>> = Mutex::new(Rank::Leaf, Vec::new());

/// Starts the reactor as tasks of the current runtime.
pub(crate) fn start_tasks(core: &Arc<Core>) -> io::Result<()> {
    let handle = Handle::current();
    // All or none: a failure leaves nothing running.
    let queues = queue_tasks(core)?;
    {
        let mut driven = DRIVEN.lock();
        driven.retain(|(_, core)| core.strong_count() > 0);
        driven.push((handle.id(), Arc::downgrade(core)));
    }
    // Paused time belongs to a test whose peers are in the same stopped time: no peer would answer.
    let drains = !clock::is_paused();
    core.spawner.get_or_init(|| Spawner::Runtime { handle: handle.clone(), drains });
    if core.clock.runs() {
        let stack: Weak<Core> = Arc::downgrade(core);
        core.wakeups.set_standby(stack);
    }
    for task in queues {
        task.let_writers_look();
        drive(core, &handle, drains, task);
    }
    drive(core, &handle, drains, DeadlineTask::new(Arc::clone(core)));
    Ok(())
}

/// Starts one task of the reactor on a runtime of the application.
fn drive(
    core: &Arc<Core>,
    handle: &Handle,
    drains: bool,
    task: impl Future<Output = ()> + Unpin + Send + 'static,
) {
    let guard = EndGuard { core: Arc::clone(core), handle: handle.clone(), drains, finished: false };
    handle.spawn(Driven { task, guard, _running: core.running() });
}

/// Serves the queues of an interface that was added to the running stack.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] if the device waits on a file descriptor and the time of the stack is paused; the
/// system's, and none of the queues is served then.
pub(crate) fn start_queues(core: &Arc<Core>, interface: u16) -> io::Result<()> {
    let engine_core = core.engine.core();
    let too_many = || crate::error::os(libc::ENOSPC);
    let ids = engine_core.queues().filter(|id| id.interface == interface);
    let indices: Vec<_> =
        ids.map(|id| core.wakeups.add(id).ok_or_else(too_many)).collect::<Result<_, _>>()?;
    let Some(spawner) = core.spawner.get() else {
        return Err(io::Error::other("the driver of the stack has not started"));
    };
    let (Spawner::Runtime { handle, .. } | Spawner::Thread(handle)) = spawner;
    let _inside = handle.enter();
    let device = engine_core.device(interface);
    if matches!(spawner, Spawner::Runtime { drains: false, .. })
        && device.is_some_and(|device| waits_on_fd(device.as_ref()))
    {
        let text = "the runtime's time is paused, which a device with a file descriptor cannot follow";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let queues: Vec<_> =
        indices.into_iter().map(|index| QueueTask::new(Arc::clone(core), index)).collect::<Result<_, _>>()?;
    for task in queues {
        match spawner {
            Spawner::Runtime { drains, .. } => {
                task.let_writers_look();
                drive(core, handle, *drains, task);
            }
            Spawner::Thread(handle) => drop(handle.spawn(task)),
        }
    }
    Ok(())
}

fn queue_tasks(core: &Arc<Core>) -> io::Result<Vec<QueueTask>> {
    core.wakeups.live().map(|index| QueueTask::new(Arc::clone(core), index)).collect()
}

/// A reactor task, and the guard that acts if it is dropped before it ends.
struct Driven<T> {
    /// Dropped first: it holds what the current runtime knows of the device.
    task: T,
    guard: EndGuard,
    /// Dropped last.
    _running: Running,
}

impl<T: Future<Output = ()> + Unpin> Future for Driven<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let outcome = Pin::new(&mut self.task).poll(cx);
        self.guard.finished |= outcome.is_ready();
        outcome
    }
}

struct EndGuard {
    core: Arc<Core>,
    handle: Handle,
    drains: bool,
    finished: bool,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if std::thread::panicking() || !self.drains {
            self.core.start_closing(Cause::RuntimeEnded);
            self.core.reset_unread();
            self.core.stop(Cause::RuntimeEnded);
            return;
        }
        let runtime = self.handle.id();
        let driven: Vec<_> = {
            let mut all = DRIVEN.lock();
            let mine =
                all.iter().filter(|(id, _)| *id == runtime).filter_map(|(_, core)| core.upgrade()).collect();
            all.retain(|(id, _)| *id != runtime);
            mine
        };
        driven.iter().for_each(start_drain);
        start_drain(&self.core);
        let thread = self.core.thread.lock().take();
        if let Some(thread) = thread {
            wait_in(&self.handle, move || {
                // A panic there was reported there.
                let _ = thread.join();
            });
        }
    }
}

/// Makes the end of the runtime behind `handle` wait for `wait`. If possible that does not block the
/// thread that drops the runtime's tasks: a runtime waits for the blocking calls that have begun.
fn wait_in(handle: &Handle, wait: impl FnOnce() + Send + 'static) {
    struct OnDrop<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for OnDrop<F> {
        fn drop(&mut self) {
            if let Some(wait) = self.0.take() {
                wait();
            }
        }
    }
    // If the runtime refuses, it drops the closure, which then waits on this thread.
    let wait = OnDrop(Some(wait));
    drop(handle.spawn_blocking(move || drop(wait)));
}

/// Closes the sockets of a stack whose runtime has ended, and drives it on a thread of its own until
/// what was accepted is acknowledged. Only the first call does anything.
fn start_drain(core: &Arc<Core>) {
    if core.drain_started.swap(true, Ordering::AcqRel) || core.lifecycle() == Lifecycle::Stopped {
        return;
    }
    core.clock.detach();
    core.start_closing(Cause::RuntimeEnded);
    let transmits = || core.reset_unread() && core.is_transmitting();
    if core.engine.is_drained() && !transmits() {
        core.stop(Cause::RuntimeEnded);
        return;
    }
    let mine = Arc::clone(core);
    match std::thread::Builder::new().name("netstack-drain".to_owned()).spawn(move || drain(&mine)) {
        Ok(thread) => *core.thread.lock() = Some(thread),
        // Nothing can be done for the data without a thread.
        Err(_) => core.stop(Cause::RuntimeEnded),
    }
}

fn drain(core: &Arc<Core>) {
    let _stop = StopOnDrop(Arc::clone(core));
    let Ok(runtime) = own_runtime() else { return };
    runtime.block_on(async {
        let Ok(queues) = queue_tasks(core) else { return };
        for task in queues {
            tokio::spawn(at_each_check(task));
        }
        let deadlines = tokio::spawn(at_each_check(DeadlineTask::new(Arc::clone(core))));
        let drained = async {
            while !core.engine.is_drained() {
                tokio::time::sleep(CHECK_INTERVAL).await;
            }
        };
        // A peer that does not acknowledge in time is given up.
        let begin = core.now();
        let _ = tokio::time::timeout(core.exit_drain(), drained).await;
        let reset = core.reset_unread();
        // A reset may have to wait in a link.
        while reset && core.is_transmitting() && core.now() < begin + core.exit_drain() {
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
        deadlines.abort();
    });
}

/// Runs `task` and gives it a turn every [`CHECK_INTERVAL`]: a task that the old runtime has not dropped yet, or a
/// thread that serves a queue, may have taken an event or the place of who waits for it.
async fn at_each_check(mut task: impl Future<Output = ()> + Unpin) {
    let mut check = tokio::time::interval(CHECK_INTERVAL);
    std::future::poll_fn(|cx| {
        while check.poll_tick(cx).is_ready() {}
        Pin::new(&mut task).poll(cx)
    })
    .await;
}

/// A runtime for a thread that drives one stack.
fn own_runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Stops the stack when its driver's thread ends, by a panic too.
struct StopOnDrop(Arc<Core>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop(Cause::RuntimeEnded);
    }
}

/// Starts the reactor on a thread of its own.
pub(crate) fn start_thread(core: &Arc<Core>) -> io::Result<()> {
    let (started, outcome) = mpsc::channel();
    let (mine, running) = (Arc::clone(core), core.running());
    let thread = std::thread::Builder::new().name("netstack".to_owned()).spawn(move || {
        // Dropped last: the devices are free then.
        let _running = running;
        let _stop = StopOnDrop(Arc::clone(&mine));
        let runtime = match own_runtime() {
            Ok(runtime) => runtime,
            Err(error) => {
                // `start_thread` waits for this.
                let _ = started.send(Err(error));
                return;
            }
        };
        runtime.block_on(async {
            match queue_tasks(&mine) {
                Ok(queues) => {
                    mine.spawner.get_or_init(|| Spawner::Thread(Handle::current()));
                    queues.into_iter().for_each(|task| drop(tokio::spawn(task)));
                    let _ = started.send(Ok(()));
                    DeadlineTask::new(mine).await;
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        });
    })?;
    *core.thread.lock() = Some(thread);
    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the driver's thread ended")))?;
    if let Ok(handle) = Handle::try_current() {
        guard_runtime(core, &handle);
    }
    Ok(())
}

/// Makes the end of `handle`'s runtime, which usually is the end of `main`, wait until what was
/// accepted is acknowledged.
fn guard_runtime(core: &Arc<Core>, handle: &Handle) {
    struct Guard {
        core: Weak<Core>,
        handle: Handle,
    }
    impl Drop for Guard {
        fn drop(&mut self) {
            let Some(core) = self.core.upgrade() else { return };
            if !core.engine.is_drained() {
                wait_in(&self.handle, move || wait_until_drained(&core));
            }
        }
    }
    let guard = Guard { core: Arc::downgrade(core), handle: handle.clone() };
    handle.spawn(async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    });
}

fn wait_until_drained(core: &Core) {
    let deadline = core.now() + core.exit_drain();
    while !core.engine.is_drained() && core.lifecycle() != Lifecycle::Stopped && core.now() < deadline {
        std::thread::park_timeout(CHECK_INTERVAL);
    }
}

/// Called when the last handle of a stack with a thread of its own is dropped: waits until what was
/// accepted is acknowledged. Inside a runtime, the end of the runtime waits instead of the caller.
pub(crate) fn drain_on_drop(core: &Arc<Core>) {
    if let Ok(handle) = Handle::try_current() {
        guard_runtime(core, &handle);
        return;
    }
    let thread = core.thread.lock().take();
    if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
        // A panic there was reported there.
        let _ = thread.join();
    }
}
