//! What wakes the reactor's tasks.

use super::event::NetworkEvent;
use super::standby::{Overdue, Standby};
use crate::device::Signal;
use crate::stack::{DriverHook, QueueId};
use crate::sync::Growing;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use tokio::sync::{Notify, broadcast};

/// Changes that are kept for who is slow to look at them.
const CHANGES: usize = 1024;

/// The signals of a stack's reactor: one for the deadlines, one for each device queue.
///
/// The engine raises them (this is its [`DriverHook`]), and so does the code that ends the stack.
#[derive(Debug)]
pub(crate) struct Wakeups {
    deadline: Signal,
    queues: Growing<QueueWakeup>,
    /// Who waits for the failure of an interface.
    failures: Notify,
    /// Who wants to know what changes.
    changes: broadcast::Sender<Change>,
    /// Who keeps deadlines when the reactor does not; none in paused time.
    standby: OnceLock<Arc<Standby>>,
}

/// What happened to an interface.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// The device of the interface with this number is gone.
    Failed(u16),
    /// The application changed something.
    Made(NetworkEvent),
}

#[derive(Debug)]
struct QueueWakeup {
    id: QueueId,
    signal: Signal,
    /// The device failed, or the interface was removed: the queue's task has ended, or does.
    dead: AtomicBool,
    /// A [`Turn`].
    turn: AtomicU8,
    /// Serves the queue in the thread that wakes it, where that is possible.
    inline: OnceLock<Waker>,
    /// Receives in the thread that sends, where that is of use.
    looks: OnceLock<Arc<dyn Look>>,
    /// Bytes that applications have written since the last look at what was received.
    written: AtomicUsize,
}

/// Looks at what a queue has received, in the thread that calls.
pub(crate) trait Look: Send + Sync + Debug {
    /// Processes what there is, up to a batch. Nothing, if another thread does so now.
    fn look(&self);
}

/// Bytes that applications write to a queue before it is looked at, if the reactor does not come before.
///
/// Every task that can write has its turn before the reactor has its own. With many of them, the acknowledgments
/// that arrive meanwhile would wait for all that they write, and so would the memory that those free: it would be out of
/// the cache when it is written again.
const WRITTEN_PER_LOOK: usize = 128 << 10;

/// Whether the task of a queue has its turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Turn {
    /// It has.
    Came,
    /// Something was left to it, and it has not come yet.
    Deferred,
    /// It had not come when the standby looked.
    Late,
    /// It has not come for so long that others do what there is to do.
    Missed,
}

impl Wakeups {
    pub(crate) fn new(queues: impl Iterator<Item = QueueId>) -> Self {
        let (changes, _) = broadcast::channel(CHANGES);
        let queues = Growing::new(queues.map(QueueWakeup::new).collect());
        Self { deadline: Signal::new(), queues, failures: Notify::new(), changes, standby: OnceLock::new() }
    }

    /// Adds a queue, and gives its index. None if there are too many.
    pub(crate) fn add(&self, id: QueueId) -> Option<usize> {
        self.queues.push(QueueWakeup::new(id))
    }

    /// Ends the tasks of the queues of an interface.
    pub(crate) fn end(&self, interface: u16) {
        for queue in self.queues.iter().filter(|queue| queue.id.interface == interface) {
            queue.dead.store(true, Ordering::Release);
            queue.signal.raise_readable();
        }
    }

    fn queue(&self, index: usize) -> &QueueWakeup {
        self.queues.get(index).expect("a task has the index of its queue")
    }

    /// Wakes every task of the stack.
    pub(crate) fn all(&self) {
        self.deadline.raise_readable();
        self.queues.iter().for_each(|queue| queue.signal.raise_readable());
    }

    /// From now on, somebody keeps the deadlines of `stack` when the reactor does not.
    pub(crate) fn set_standby(&self, stack: Weak<dyn Overdue>) {
        self.standby.get_or_init(|| Standby::new(stack));
    }

    /// A device, or the engine, has a deadline.
    pub(crate) fn has_deadline(&self) {
        if let Some(standby) = self.standby.get() {
            standby.soon();
        }
    }

    /// Waits for the next call of [`DriverHook::deadline_moved`].
    pub(crate) fn poll_deadline(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.deadline.poll_readable(cx)
    }

    /// Waits for the next wake-up of the queue at `index`.
    pub(crate) fn poll_queue(&self, index: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.queue(index).signal.poll_readable(cx)
    }

    /// The queue at `index` can be served by any thread, with `inline`.
    pub(crate) fn set_inline(&self, index: usize, inline: &Waker) {
        self.queue(index).inline.get_or_init(|| inline.clone());
    }

    /// The task of the queue at `index` has its turn.
    pub(crate) fn came(&self, index: usize) {
        let queue = self.queue(index);
        if !queue.is(Turn::Came) {
            queue.set(Turn::Came);
        }
    }

    /// Something is there for the task of the queue at `index`. Says whether it is left to the task; else
    /// the task has missed its turn.
    pub(crate) fn defer(&self, index: usize) -> bool {
        self.defer_to(self.queue(index))
    }

    fn defer_to(&self, queue: &QueueWakeup) -> bool {
        if queue.is(Turn::Came) {
            queue.set(Turn::Deferred);
            self.has_deadline();
        }
        !queue.is(Turn::Missed)
    }

    /// Serves the queue at `index` in this thread if its task has not come for what was left to it since the last
    /// call. Says whether to call again.
    pub(crate) fn serve_missed(&self, index: usize) -> bool {
        let queue = self.queue(index);
        let late = queue.inline.get().filter(|_| queue.is(Turn::Late));
        if let Some(inline) = late {
            queue.set(Turn::Missed);
            inline.wake_by_ref();
        } else if queue.is(Turn::Deferred) {
            queue.set(Turn::Late);
        }
        queue.is(Turn::Late)
    }

    /// Wakes who serves the queue at `index`.
    pub(crate) fn wake(&self, index: usize) {
        self.queue(index).signal.raise_readable();
    }

    /// Who writes much to the queue at `index` looks for what it has received, through `looks`.
    pub(crate) fn set_looks(&self, index: usize, looks: Arc<dyn Look>) {
        self.queue(index).looks.get_or_init(|| looks);
    }

    /// Whether who writes to a queue looks for what it has received.
    pub(crate) fn has_looks(&self, id: QueueId) -> bool {
        self.find(id).is_some_and(|queue| queue.looks.get().is_some())
    }

    /// An application has written so many bytes to a queue. If that makes it enough, what the queue has received is
    /// processed here and now.
    pub(crate) fn wrote(&self, id: QueueId, bytes: usize) {
        let Some(queue) = self.find(id) else { return };
        let Some(looks) = queue.looks.get() else { return };
        if queue.written.fetch_add(bytes, Ordering::Relaxed) + bytes > WRITTEN_PER_LOOK {
            queue.written.store(0, Ordering::Relaxed);
            looks.look();
        }
    }

    /// The queue at `index` was looked at.
    pub(crate) fn looked(&self, index: usize) {
        self.queue(index).written.store(0, Ordering::Relaxed);
    }

    fn find(&self, id: QueueId) -> Option<&QueueWakeup> {
        self.queues.iter().find(|queue| queue.id == id)
    }

    /// Forgets a wake-up of the queue at `index`, if there was one.
    pub(crate) fn take_queue(&self, index: usize) {
        self.queue(index).signal.take_readable();
    }

    /// Who waits for the failure of an interface.
    pub(crate) fn failures(&self) -> &Notify {
        &self.failures
    }

    /// Tells those who want to know. Nobody may.
    pub(crate) fn announce(&self, change: Change) {
        let _ = self.changes.send(change);
    }

    /// What changes from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// The queue at `index` of the stack's list.
    pub(crate) fn queue_id(&self, index: usize) -> QueueId {
        self.queue(index).id
    }

    /// Whether the queue at `index` was taken out of [`Wakeups::live`].
    pub(crate) fn is_dead(&self, index: usize) -> bool {
        self.queue(index).dead.load(Ordering::Acquire)
    }

    /// The indices of the queues whose device works.
    pub(crate) fn live(&self) -> impl Iterator<Item = usize> {
        (0..self.queues.len()).filter(|index| !self.is_dead(*index))
    }

    /// Takes the queue at `index` out of [`Wakeups::live`]: its device failed.
    pub(crate) fn mark_dead(&self, index: usize) {
        self.queue(index).dead.store(true, Ordering::Release);
    }
}

impl QueueWakeup {
    fn new(id: QueueId) -> Self {
        let turn = AtomicU8::new(Turn::Came as u8);
        let (signal, dead, written) = (Signal::new(), AtomicBool::new(false), AtomicUsize::new(0));
        Self { id, signal, dead, turn, inline: OnceLock::new(), looks: OnceLock::new(), written }
    }

    fn is(&self, turn: Turn) -> bool {
        self.turn.load(Ordering::Acquire) == turn as u8
    }

    fn set(&self, turn: Turn) {
        self.turn.store(turn as u8, Ordering::Release);
    }
}

impl DriverHook for Wakeups {
    fn deadline_moved(&self) {
        self.deadline.raise_readable();
        self.has_deadline();
    }

    fn waiting(&self, id: QueueId) {
        let Some(queue) = self.find(id) else { return };
        match queue.inline.get() {
            Some(inline) if !self.defer_to(queue) => inline.wake_by_ref(),
            _ => queue.signal.raise_readable(),
        }
    }

    fn interface_failed(&self, interface: u16) {
        self.failures.notify_waiters();
        self.announce(Change::Failed(interface));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_reaches_its_own_queue_only() {
        let ids = [QueueId { interface: 0, queue: 0 }, QueueId { interface: 0, queue: 1 }];
        let wakeups = Wakeups::new(ids.into_iter());
        let mut cx = Context::from_waker(Waker::noop());
        wakeups.waiting(ids[1]);
        assert!(wakeups.poll_queue(0, &mut cx).is_pending());
        assert!(wakeups.poll_queue(1, &mut cx).is_ready());
        wakeups.mark_dead(0);
        assert_eq!(wakeups.live().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_is_left_to_a_task_that_does_not_come_is_done_elsewhere() {
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let id = QueueId { interface: 0, queue: 0 };
        let wakeups = Wakeups::new(std::iter::once(id));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        wakeups.set_inline(0, &Waker::from(Arc::clone(&count)));
        let served = || count.0.load(Ordering::Relaxed);
        assert!(!wakeups.serve_missed(0), "nothing was left to it");
        // A task that comes in time keeps the queue.
        assert!(wakeups.defer(0) && wakeups.serve_missed(0));
        wakeups.came(0);
        assert!(!wakeups.serve_missed(0) && served() == 0);
        // One that has not come by the second look does not.
        assert!(wakeups.defer(0) && wakeups.serve_missed(0) && wakeups.defer(0));
        assert!(!wakeups.serve_missed(0) && served() == 1);
        assert!(!wakeups.defer(0), "and what comes is not left to it any more");
        wakeups.waiting(id);
        assert_eq!(served(), 2);
        // Until it comes.
        wakeups.came(0);
        wakeups.waiting(id);
        assert!(served() == 2 && wakeups.defer(0));
    }

    #[test]
    fn who_writes_much_looks_at_what_was_received() {
        #[derive(Debug, Default)]
        struct Count(AtomicUsize);
        impl Look for Count {
            fn look(&self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let id = QueueId { interface: 0, queue: 0 };
        let wakeups = Wakeups::new(std::iter::once(id));
        wakeups.wrote(id, 10 * WRITTEN_PER_LOOK);
        let count = Arc::new(Count::default());
        assert!(!wakeups.has_looks(id));
        wakeups.set_looks(0, Arc::clone(&count) as _);
        let looks = || count.0.load(Ordering::Relaxed);
        wakeups.wrote(id, WRITTEN_PER_LOOK);
        assert!(wakeups.has_looks(id) && looks() == 0, "what was written before counts for nobody");
        wakeups.wrote(id, 1);
        assert_eq!(looks(), 1);
        wakeups.wrote(id, WRITTEN_PER_LOOK);
        wakeups.looked(0);
        wakeups.wrote(id, WRITTEN_PER_LOOK);
        assert_eq!(looks(), 1, "the reactor came in between");
        wakeups.wrote(id, 1);
        assert_eq!(looks(), 2);
    }
}
