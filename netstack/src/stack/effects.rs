//! What a call of the engine leaves to do once no lock is held.

use super::cell::Cell;
use super::counters::Live;
use super::deadlines::Target;
use super::demux::Listeners;
use super::engine::Engine;
use super::flow::QueueId;
use super::listener::Listener;
use super::pending::PendingSyn;
use crate::buffer::PacketBuf;
use crate::error::Failure;
use crate::readiness::Events;
use crate::sync::Snapshot;
use crate::tcp::SynCookies;
use std::fmt;
use std::sync::Arc;

/// Who is told when something happens to a socket. Called with no lock held.
pub trait Observer: Send + Sync {
    /// Something happened: edges, not levels.
    fn on_ready(&self, ready: Events);
}

/// What sleeps until the next deadline, and waits for devices to become writable. Called with no
/// lock held.
pub trait DriverHook: Send + Sync {
    /// The earliest deadline is now before what [`Engine::next_deadline`] said last.
    fn deadline_moved(&self);
    /// A connection waits until `queue` takes packets: call [`Engine::on_writable`] when it does.
    fn pending(&self, queue: QueueId);
}

/// Sets of queues, by their number in [`Engine::queues`] modulo 64. To do a thing for a queue too
/// many is harmless, and stacks of more than 64 queues are not common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueSet(u64);

impl QueueSet {
    pub(crate) fn insert(&mut self, number: usize) {
        self.0 |= 1 << (number % 64);
    }

    fn contains(self, number: usize) -> bool {
        self.0 & 1 << (number % 64) != 0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Whose observer to call.
#[derive(Debug)]
enum Subject {
    Cell(Arc<Cell>),
    Listener(Arc<Listener>),
    Pending(Arc<PendingSyn>),
}

/// Acknowledgments that were no SYN cookie, for the listener that got the last of them. A flood goes to one,
/// and so counts them all at once.
#[derive(Debug, Default)]
pub(crate) struct FailedCookies {
    listener: Option<Arc<Listener>>,
    count: u64,
}

impl FailedCookies {
    /// Notes one. Call it with no lock held.
    #[inline]
    pub(crate) fn note(&mut self, listener: &Arc<Listener>, stack: &Live) {
        if !self.listener.as_ref().is_some_and(|last| Arc::ptr_eq(last, listener)) {
            self.turn_to(listener, stack);
        }
        self.count += 1;
    }

    #[cold]
    fn turn_to(&mut self, listener: &Arc<Listener>, stack: &Live) {
        self.count(stack);
        self.listener = Some(Arc::clone(listener));
    }

    /// Counts what was noted.
    pub(super) fn count(&mut self, stack: &Live) {
        let Some(listener) = self.listener.take() else { return };
        let count = std::mem::take(&mut self.count);
        listener.cookies_failed(count);
        stack.syncookies_failed.add(count);
    }
}

/// What a call of the engine left to do once no lock is held: devices to flush, observers to call,
/// the driver to wake. Meant to be used again and again, so that its memory is.
#[derive(Default)]
pub struct Effects {
    flush: QueueSet,
    pending: QueueSet,
    deadline_moved: bool,
    notices: Vec<(Subject, Events)>,
    /// Connections that got segments since the last [`Engine::end_batch`].
    pub(crate) dirty: Vec<Arc<Cell>>,
    /// Room for the deadlines that are due.
    pub(crate) due: Vec<Target>,
    /// A device that failed while it transmitted.
    failed: Option<(QueueId, Failure)>,
    /// A buffer whose packet needed no longer life, for the next packet: this saves the way to the
    /// pool and back.
    spare: Option<PacketBuf>,
    /// The listeners, for the packets of one batch.
    pub(crate) listeners: Snapshot<Listeners>,
    /// The secrets of SYN cookies.
    pub(crate) cookies: Snapshot<SynCookies>,
    pub(crate) failed_cookies: FailedCookies,
    pub(crate) in_packets: u64,
    pub(crate) in_segments: u64,
    pub(crate) out_packets: u64,
    pub(crate) resets_limited: u64,
}

impl Effects {
    /// Nothing to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the buffer of a packet for [`Effects::take_spare`].
    pub(crate) fn recycle(&mut self, packet: PacketBuf) {
        self.spare = Some(packet);
    }

    /// The buffer of the last packet, if nobody holds on to it.
    pub fn take_spare(&mut self) -> Option<PacketBuf> {
        self.spare.take()
    }

    pub(crate) fn transmitted(&mut self, queue_number: usize) {
        self.flush.insert(queue_number);
        self.out_packets += 1;
    }

    pub(crate) fn joined_pending(&mut self, queue_number: usize) {
        self.pending.insert(queue_number);
    }

    pub(crate) fn deadline_moved(&mut self, moved: bool) {
        self.deadline_moved |= moved;
    }

    pub(crate) fn notify(&mut self, cell: &Arc<Cell>, events: Events) {
        self.notices.push((Subject::Cell(Arc::clone(cell)), events));
    }

    pub(crate) fn notify_listener(&mut self, listener: &Arc<Listener>, events: Events) {
        self.notices.push((Subject::Listener(Arc::clone(listener)), events));
    }

    pub(crate) fn notify_pending(&mut self, pending: &Arc<PendingSyn>, events: Events) {
        self.notices.push((Subject::Pending(Arc::clone(pending)), events));
    }

    pub(crate) fn device_failed(&mut self, queue: QueueId, failure: Failure) {
        self.failed.get_or_insert((queue, failure));
    }

    /// Does what is left to do: flushes devices, tells the driver, calls observers, in this order.
    /// Call it with no lock held.
    pub fn deliver(&mut self, engine: &Engine) {
        // A listener that is closed while nothing comes in is not kept.
        self.listeners = Snapshot::default();
        if let Some((queue, failure)) = self.failed.take() {
            engine.fail_interface(queue.interface, &failure, self);
        }
        let (flush, pending) = (std::mem::take(&mut self.flush), std::mem::take(&mut self.pending));
        if !flush.is_empty() {
            for (_, queue) in engine.numbered_queues().filter(|(number, _)| flush.contains(*number)) {
                engine.device(queue.interface).flush(queue.queue.into());
            }
        }
        let deadline_moved = std::mem::take(&mut self.deadline_moved);
        if let Some(hook) = engine.hook().filter(|_| deadline_moved || !pending.is_empty()) {
            if deadline_moved {
                hook.deadline_moved();
            }
            engine
                .numbered_queues()
                .filter(|(number, queue)| pending.contains(*number) && engine.has_pending(*queue))
                .for_each(|(_, queue)| hook.pending(queue));
        }
        engine.count(self);
        for (subject, events) in self.notices.drain(..) {
            let observer = match &subject {
                Subject::Cell(cell) => cell.observer(),
                Subject::Listener(listener) => listener.observer(),
                Subject::Pending(pending) => pending.observer(),
            };
            if let Some(observer) = observer {
                observer.on_ready(events);
            }
        }
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effects")
            .field("flush", &self.flush)
            .field("notices", &self.notices.len())
            .field("dirty", &self.dirty.len())
            .finish_non_exhaustive()
    }
}
