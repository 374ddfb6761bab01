//! The work that a turn leaves until no lock is held.

use super::core::Core;
use super::flow::QueueId;
use super::hooks::Subject;
use crate::buffer::{BUFFER_SIZE, Chunk, PacketBuf, Pool};
use crate::device::Device;
#[cfg(unix)]
use crate::device::Readiness;
use crate::error::Failure;
use crate::readiness::Events;
use crate::time::Instant;
use crate::trace::TraceEvent;
use std::fmt;
use std::sync::Arc;

/// Sets of queues, by their number in [`Core::queues`] modulo 64. To do a thing for a queue too
/// many is harmless, and stacks of more than 64 queues are not common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueSet(u64);

impl QueueSet {
    pub(crate) fn insert(&mut self, number: usize) {
        self.0 |= 1 << (number % 64);
    }

    fn remove(&mut self, number: usize) {
        self.0 &= !(1 << (number % 64));
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The only one of the first 64 queues that is in the set.
    #[inline]
    fn only(self) -> Option<usize> {
        self.0.is_power_of_two().then_some(self.0.trailing_zeros() as usize)
    }

    /// The numbers in the set, of `count` queues.
    fn numbers(self, count: usize) -> impl Iterator<Item = usize> {
        // Of each 64 queues, what is left of the set. As a rule there are no more, and one of them is in it.
        let (mut first, mut rest) = (0, self.0);
        std::iter::from_fn(move || {
            if rest == 0 {
                (first, rest) = (first + 64, self.0);
            }
            let number = first + rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            (number < count && !self.is_empty()).then_some(number)
        })
    }
}

/// A device that failed while it transmitted.
#[derive(Debug)]
pub(super) struct DeviceFailure {
    pub(super) at: Instant,
    pub(super) interface: u16,
    pub(super) cause: Failure,
}

/// What a turn left to do once no lock is held: devices to flush, observers to call, the driver to
/// wake, somebody to be told what happened.
#[derive(Default)]
pub(super) struct Effects {
    flush: QueueSet,
    waiting: QueueSet,
    deadline_moved: bool,
    notices: Vec<(Arc<dyn Subject>, Events)>,
    /// What most turns have nothing of.
    rare: Option<Box<Rare>>,
    /// The buffer of a packet that was consumed, for the next packet: this saves the way to the pool
    /// and back. One without bytes was taken.
    spare: Option<PacketBuf>,
    /// A receive queue was filled by more than half: who reads it should have a turn.
    pub(super) crowded: bool,
    /// Who answers what came goes first: an acknowledgment that an answer may carry waits for the next batch.
    pub(super) answers_first: bool,
    /// The connection that is held has such an acknowledgment.
    pub(super) held_back: bool,
    pub(super) in_packets: u64,
    out_packets: u64,
}

/// What most turns have nothing of: a turn for each call of an application is small without it.
#[derive(Default)]
struct Rare {
    failed: Option<DeviceFailure>,
    /// The interfaces whose sockets were failed.
    failed_interfaces: Vec<u16>,
    /// What happened, where somebody wants to know.
    trace: Vec<TraceEvent>,
}

impl Effects {
    /// Keeps the buffer of a packet for the next one.
    #[inline]
    pub(super) fn recycle(&mut self, mut packet: PacketBuf) {
        packet.reset();
        self.spare = Some(packet);
    }

    /// Keeps the buffer of a payload that was copied, if the largest packet fits into it.
    #[inline]
    pub(super) fn recycle_copied(&mut self, payload: Chunk) {
        if payload.capacity() >= BUFFER_SIZE {
            self.recycle(payload.into_buffer());
        }
    }

    /// A buffer for the next packet: that of the last one if nobody holds on to it.
    // Taken out of the `Option`, it would be moved in parts: see `PacketBuf::reset`.
    #[inline]
    pub(super) fn next_buffer(&mut self, pool: &Arc<Pool>) -> PacketBuf {
        match &mut self.spare {
            Some(spare) if spare.capacity() > 0 => std::mem::take(spare),
            _ => pool.take(),
        }
    }

    /// The buffer of the last packet, if nobody holds on to it.
    #[inline]
    pub(super) fn take_spare(&mut self) -> Option<PacketBuf> {
        self.spare.take().filter(|spare| spare.capacity() > 0)
    }

    pub(super) fn transmitted(&mut self, queue_number: usize) {
        self.flush.insert(queue_number);
        self.out_packets += 1;
    }

    /// Somebody waits until the queue takes packets.
    pub(super) fn waits(&mut self, queue_number: usize) {
        self.waiting.insert(queue_number);
    }

    /// The driver need not be told who waits for this queue: it has just served them, and looks itself.
    pub(super) fn served(&mut self, queue_number: usize) {
        self.waiting.remove(queue_number);
    }

    pub(super) fn deadline_moved(&mut self, moved: bool) {
        self.deadline_moved |= moved;
    }

    /// Lets the observer of `subject` know.
    pub(super) fn notify(&mut self, subject: Arc<dyn Subject>, events: Events) {
        self.notices.push((subject, events));
    }

    /// Notes what happened, for who is told of that.
    #[cold]
    pub(super) fn trace(&mut self, event: TraceEvent) {
        self.rare().trace.push(event);
    }

    pub(super) fn device_failed(&mut self, failure: DeviceFailure) {
        self.rare().failed.get_or_insert(failure);
    }

    /// The sockets of an interface were failed: the driver is told.
    pub(super) fn interface_failed(&mut self, interface: u16) {
        self.rare().failed_interfaces.push(interface);
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whether packets were transmitted since the last delivery.
    pub(super) fn has_transmitted(&self) -> bool {
        self.out_packets > 0
    }

    /// The first device that failed in this turn.
    pub(super) fn take_failed(&mut self) -> Option<DeviceFailure> {
        self.rare.as_mut()?.failed.take()
    }

    /// Does what is left to do: flushes devices, notifies the driver, calls observers, in this order.
    /// `has_waiting` says whether somebody still waits for a queue. Call it with no lock held.
    #[inline]
    pub(super) fn deliver(&mut self, core: &Core, has_waiting: impl Fn(usize) -> bool) {
        core.counters().count_packets(&mut self.in_packets, &mut self.out_packets);
        let flush = std::mem::take(&mut self.flush);
        // Most turns leave nothing but packets in one queue.
        if let Some(number) = flush.only()
            && core.interfaces().queue_count() <= 64
        {
            flush_queue(core, number);
        } else if !flush.is_empty() {
            flush.numbers(core.interfaces().queue_count()).for_each(|number| flush_queue(core, number));
        }
        if self.deadline_moved || !self.waiting.is_empty() {
            self.tell_driver(core, has_waiting);
        }
        if let Some(rare) = &mut self.rare {
            rare.tell(core);
        }
        if !self.notices.is_empty() {
            self.notify_observers();
        }
    }

    #[inline(never)]
    fn tell_driver(&mut self, core: &Core, has_waiting: impl Fn(usize) -> bool) {
        let (waiting, moved) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.deadline_moved));
        let Some(hook) = core.hook() else { return };
        if moved {
            hook.deadline_moved();
        }
        let interfaces = core.interfaces();
        for number in waiting.numbers(interfaces.queue_count()) {
            if let Some(queue) = interfaces.queue(number)
                && has_waiting(number)
            {
                hook.waiting(queue);
            }
        }
    }

    #[inline(never)]
    fn notify_observers(&mut self) {
        let tell = |(subject, events): (Arc<dyn Subject>, Events)| {
            if let Some(observer) = subject.observer() {
                observer.on_ready(events);
            }
        };
        // Mostly there is one.
        if self.notices.len() == 1 {
            self.notices.pop().into_iter().for_each(tell);
        } else {
            self.notices.drain(..).for_each(tell);
        }
    }
}

impl Rare {
    #[cold]
    fn tell(&mut self, core: &Core) {
        for interface in self.failed_interfaces.drain(..) {
            if let Some(hook) = core.hook() {
                hook.interface_failed(interface);
            }
        }
        if let Some(trace) = core.trace() {
            self.trace.drain(..).for_each(|event| trace.event(&event));
        }
    }
}

/// Flushes a device, and tells the driver if it keeps packets all the same.
#[inline]
fn flush_queue(core: &Core, number: usize) {
    let interfaces = core.interfaces();
    let Some(queue) = interfaces.queue(number) else { return };
    let holds_back = interfaces.visit_device(queue.interface, |device| {
        device.flush(queue.queue.into());
        holds_back(device, queue)
    });
    if holds_back == Some(true)
        && let Some(hook) = core.hook()
    {
        hook.waiting(queue);
    }
}

/// Whether the device keeps packets until a deadline of its own that its driver does not know of: a link
/// over a device that is waited for by a descriptor has no signal to raise.
fn holds_back(device: &dyn Device, queue: QueueId) -> bool {
    #[cfg(unix)]
    if device.is_transmitting() {
        return matches!(device.readiness(queue.queue.into()), Readiness::Fd(_));
    }
    let _ = (device, queue);
    false
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Effects")
            .field("flush", &self.flush)
            .field("notices", &self.notices.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_queues_that_share_the_bit_of_one_in_it() {
        let set = |numbers: &[usize]| {
            let mut set = QueueSet::default();
            numbers.iter().for_each(|number| set.insert(*number));
            move |count| set.numbers(count).collect::<Vec<_>>()
        };
        assert_eq!([set(&[])(0), set(&[])(300), set(&[3])(3)], [[0; 0]; 3]);
        assert_eq!([set(&[0])(2), set(&[1])(64)], [[0], [1]]);
        assert_eq!(set(&[63, 0])(64), [0, 63]);
        assert_eq!(set(&[1, 66])(131), [1, 2, 65, 66, 129, 130]);
    }

    /// A device that puts something in front of each packet uses the same buffer again and again.
    #[test]
    fn a_buffer_that_is_used_again_is_whole() {
        let mut effects = Effects::default();
        let mut packet = PacketBuf::copy_from(&[0; 100]);
        for _ in 0..3 {
            packet.skip(60);
            effects.recycle(packet);
            packet = effects.take_spare().unwrap();
        }
        assert_eq!(packet.bytes().len(), 100);
    }

    /// A copy of a part of a packet has a buffer of its own size.
    #[test]
    fn a_buffer_that_is_too_small_for_a_packet_is_not_used_again() {
        let mut effects = Effects::default();
        let pool = Pool::new();
        let packet = pool.take().into_chunk(40, 140);
        effects.recycle_copied(packet.compacted());
        assert!(effects.take_spare().is_none());
        effects.recycle_copied(packet);
        let spare = effects.take_spare().expect("a whole buffer");
        assert_eq!(spare.bytes().len(), BUFFER_SIZE);
    }
}
