//! What wakes the reactor's tasks.

use super::event::NetworkEvent;
use super::standby::{Overdue, Standby};
use crate::device::Signal;
use crate::stack::{DriverHook, QueueId};
use crate::sync::Growing;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
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

    /// Wakes who serves the queue at `index`.
    pub(crate) fn wake(&self, index: usize) {
        self.queue(index).signal.raise_readable();
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
        Self { id, signal: Signal::new(), dead: AtomicBool::new(false) }
    }
}

impl DriverHook for Wakeups {
    fn deadline_moved(&self) {
        self.deadline.raise_readable();
        self.has_deadline();
    }

    fn waiting(&self, id: QueueId) {
        if let Some(queue) = self.queues.iter().find(|queue| queue.id == id) {
            queue.signal.raise_readable();
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
        let mut cx = Context::from_waker(std::task::Waker::noop());
        wakeups.waiting(ids[1]);
        assert!(wakeups.poll_queue(0, &mut cx).is_pending());
        assert!(wakeups.poll_queue(1, &mut cx).is_ready());
        wakeups.mark_dead(0);
        assert_eq!(wakeups.live().collect::<Vec<_>>(), [1]);
    }
}
