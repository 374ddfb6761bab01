//! The queue of a socket's datagrams that were not read yet.

use super::budget::Budget;
use super::value::{Datagram, Origin};
use crate::memory::{Charge, vec_entry};
use std::collections::VecDeque;
use std::sync::Arc;

/// Places for datagrams that an empty queue keeps until somebody finds that it is empty.
const KEPT: usize = 64;

/// The datagrams of a socket that were not read yet, in the order of their arrival. The memory that they
/// keep in use, and not only their payload, is bounded (`SO_RCVBUF`).
#[derive(Debug)]
pub struct ReceiveQueue {
    /// Made by the first datagram, and given back by [`ReceiveQueue::trim`]: most sockets wait for something.
    waiting: Option<Box<Waiting>>,
    /// What it shares with others, if anything.
    budget: Option<Arc<Budget>>,
    /// In bytes; 4 GiB at most.
    limit: u32,
    dropped: u32,
}

/// What was not read yet.
#[derive(Debug, Default)]
struct Waiting {
    datagrams: VecDeque<Datagram>,
    /// What they keep in use, in bytes.
    memory: usize,
    /// Their places, in the account of the buffers. None before the first datagram, and for those of no stack.
    charge: Option<Charge>,
}

impl Waiting {
    /// Counts the places.
    fn weigh(&mut self) {
        if let Some(charge) = &mut self.charge {
            charge.set(self.datagrams.len() * vec_entry(size_of::<Datagram>()));
        }
    }
}

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the queue.
    Queued {
        /// The queue was empty before.
        first: bool,
        /// It fills more than half of the queue, which it did not before: who reads should have a turn
        /// before more is received, or some of that may be lost.
        half_full: bool,
    },
    /// There was no room for it.
    Dropped,
    /// There was no memory for it: the stack is under pressure.
    NoMemory,
}

/// Datagrams of one sender that were read into one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// Bytes in the buffer.
    pub len: usize,
    /// Bytes of each datagram but the last.
    pub stride: usize,
}

impl ReceiveQueue {
    /// An empty queue for datagrams of `limit` bytes of memory.
    pub const fn new(limit: usize) -> Self {
        Self { waiting: None, budget: None, limit: in_32_bits(limit), dropped: 0 }
    }

    /// As [`ReceiveQueue::new`], and what all queues of `budget` keep in use is limited by it.
    pub const fn within(limit: usize, budget: Arc<Budget>) -> Self {
        Self { waiting: None, budget: Some(budget), limit: in_32_bits(limit), dropped: 0 }
    }

    /// Everything that waits; the queue is empty after that.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let (budget, limit, dropped) = (self.budget.clone(), self.limit, self.dropped);
        std::mem::replace(self, Self { waiting: None, budget, limit, dropped })
    }

    /// The limit, in bytes of memory.
    pub const fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Changes the limit. What is in the queue stays.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = in_32_bits(limit);
    }

    /// The memory that the queue keeps in use, in bytes.
    pub fn memory(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.memory)
    }

    /// Datagrams that there was no room for, since the queue was made (`SO_RXQ_OVFL`).
    pub const fn dropped(&self) -> u64 {
        self.dropped as u64
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.as_ref().is_none_or(|waiting| waiting.datagrams.is_empty())
    }

    /// The datagram that is read next.
    pub fn front(&self) -> Option<&Datagram> {
        self.waiting.as_ref()?.datagrams.front()
    }

    /// Gives back the memory of an empty queue. To be called when somebody wanted to read and found nothing,
    /// who now waits: who keeps up with what arrives does not find that for each datagram.
    pub fn trim(&mut self) {
        if self.is_empty() {
            self.waiting = None;
        }
    }

    /// Appends a datagram, if there is room. An empty queue has room for any one, unless the queues of its
    /// budget have none.
    pub fn push(&mut self, datagram: Datagram) -> Pushed {
        let datagram = datagram.compact();
        let memory = datagram.memory();
        let waiting = self.waiting.get_or_insert_default();
        let (first, kept, limit) = (waiting.datagrams.is_empty(), waiting.memory, self.limit as usize);
        let allowance = datagram.payload.memory().map_or(usize::MAX, |memory| memory.allowance());
        let fits = first || kept + memory <= limit;
        if fits && !first && kept + memory > allowance {
            self.dropped = self.dropped.saturating_add(1);
            return Pushed::NoMemory;
        }
        if !fits || !self.budget.as_ref().is_none_or(|budget| budget.take(memory)) {
            self.dropped = self.dropped.saturating_add(1);
            return Pushed::Dropped;
        }
        let half = limit / 2;
        let half_full = kept <= half && kept + memory > half;
        waiting.memory += memory;
        if waiting.charge.is_none() {
            waiting.charge = datagram.payload.memory().map(|memory| Charge::new(memory, 0));
        }
        waiting.datagrams.push_back(datagram);
        waiting.weigh();
        Pushed::Queued { first, half_full }
    }

    /// Takes one datagram, also of several that came as one.
    pub fn pop(&mut self) -> Option<Datagram> {
        let waiting = self.waiting.as_mut()?;
        if let Some(first) = waiting.datagrams.front_mut()?.split_first() {
            return Some(first);
        }
        self.pop_whole()
    }

    /// Takes what came as one.
    pub fn pop_whole(&mut self) -> Option<Datagram> {
        let waiting = self.waiting.as_mut()?;
        let datagram = waiting.datagrams.pop_front()?;
        waiting.memory -= datagram.memory();
        waiting.weigh();
        if let Some(budget) = &self.budget {
            budget.give_back(datagram.memory());
        }
        if waiting.datagrams.is_empty() {
            waiting.datagrams.shrink_to(KEPT);
        }
        Some(datagram)
    }

    /// Copies one datagram to `to`, as much of it as fits; the rest of it is lost. Gives where it is from,
    /// and how many bytes were copied.
    pub fn read(&mut self, to: &mut [u8]) -> Option<(Origin, usize)> {
        let waiting = self.waiting.as_mut()?;
        let front = waiting.datagrams.front_mut()?;
        let (origin, first) = (front.origin, front.first_len());
        let len = first.min(to.len());
        to[..len].copy_from_slice(&front.payload.as_slice()[..len]);
        if first < front.payload.len() {
            front.payload.advance(first);
        } else {
            drop(self.pop_whole());
        }
        Some((origin, len))
    }

    /// Copies as much of what came as one to `to` as fits, in whole datagrams; or of the first what fits, if it does
    /// not fit whole, and the rest of it is lost.
    fn read_several(&mut self, to: &mut [u8]) -> Option<(Origin, usize)> {
        let front = self.waiting.as_mut()?.datagrams.front_mut()?;
        let (first, all) = (front.first_len(), front.payload.len());
        let fits = if all <= to.len() { all } else { to.len() - to.len() % first.max(1) };
        if fits <= first {
            return self.read(to);
        }
        to[..fits].copy_from_slice(&front.payload.as_slice()[..fits]);
        let origin = front.origin;
        if fits < all {
            front.payload.advance(fits);
        } else {
            drop(self.pop_whole());
        }
        Some((origin, fits))
    }

    /// Copies datagrams to `to`, one behind the other: as many as fit, as long as they are alike and of
    /// one length; the last may be shorter. If not even the first fits, it is cut off.
    pub fn gather(&mut self, to: &mut [u8]) -> Option<(Origin, Gathered)> {
        let stride = self.front()?.first_len();
        let (origin, mut len) = self.read_several(to)?;
        // An empty one, or one that was cut off, is alone.
        while stride > 0
            && len.is_multiple_of(stride)
            && len > 0
            && let Some(next) = self.front()
            && next.origin.is_alike(&origin)
            && (1..=stride).contains(&next.first_len())
            && next.first_len() <= to.len() - len
        {
            // After a shorter one comes none.
            let to = &mut to[len..];
            len += if next.first_len() == stride { self.read_several(to)? } else { self.read(to)? }.1;
        }
        Some((origin, Gathered { len, stride: stride.min(to.len()) }))
    }
}

impl Drop for ReceiveQueue {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.give_back(self.memory());
        }
    }
}

const fn in_32_bits(limit: usize) -> u32 {
    if limit > u32::MAX as usize { u32::MAX } else { limit as u32 }
}

#[cfg(test)]
mod tests {
    use super::super::value::tests::datagram;
    use super::*;
    use crate::buffer::Pool;
    use proptest::prelude::*;

    fn queue_of(datagrams: impl IntoIterator<Item = Datagram>) -> ReceiveQueue {
        let mut queue = ReceiveQueue::new(1 << 20);
        for datagram in datagrams {
            assert_ne!(queue.push(datagram), Pushed::Dropped);
        }
        queue
    }

    fn several(port: u16, size: u16, payload: &[u8]) -> Datagram {
        Datagram { segment_size: Some(size), ..datagram(port, payload) }
    }

    #[test]
    fn datagrams_come_out_one_by_one_in_order() {
        let mut queue = queue_of([datagram(1, b"one"), several(2, 2, b"abcde"), datagram(3, b"")]);
        let mut to = [0; 8];
        let mut read = Vec::new();
        while let Some((origin, len)) = queue.read(&mut to) {
            read.push((origin.source.port(), to[..len].to_vec()));
        }
        let text = |port, text: &str| (port, text.as_bytes().to_vec());
        assert_eq!(read, [text(1, "one"), text(2, "ab"), text(2, "cd"), text(2, "e"), text(3, "")]);
        assert_eq!(queue.memory(), 0);
    }

    #[test]
    fn what_does_not_fit_the_buffer_is_lost() {
        let mut queue = queue_of([several(1, 5, b"abcdefgh"), datagram(2, b"next")]);
        let mut to = [0; 3];
        let mut read = || queue.read(&mut to).map(|(_, len)| to[..len].to_vec());
        assert_eq!(
            [read(), read(), read(), read()],
            [Some(b"abc".to_vec()), Some(b"fgh".to_vec()), Some(b"nex".to_vec()), None]
        );
    }

    #[test]
    fn those_alike_are_read_together() {
        let marked = |port, payload| {
            let mut marked = datagram(port, payload);
            marked.origin.traffic_class = 3;
            marked
        };
        let mut queue = queue_of([
            several(1, 3, b"abcdef"),
            datagram(1, b"ghi"),
            datagram(1, b"j"),
            datagram(1, b"klm"),
            marked(1, b"nop"),
            datagram(2, b"qrs"),
            datagram(2, b"tuvw"),
            datagram(2, b""),
            datagram(2, b"x"),
        ]);
        let mut to = [0; 64];
        let mut read = Vec::new();
        while let Some((origin, Gathered { len, stride })) = queue.gather(&mut to) {
            read.push((origin.source.port(), stride, std::str::from_utf8(&to[..len]).unwrap().to_owned()));
        }
        let read: Vec<_> = read.iter().map(|(port, stride, text)| (*port, *stride, &text[..])).collect();
        assert_eq!(
            read,
            [
                (1, 3, "abcdefghij"),
                (1, 3, "klm"),
                (1, 3, "nop"),
                (2, 3, "qrs"),
                (2, 4, "tuvw"),
                (2, 0, ""),
                (2, 1, "x"),
            ]
        );
    }

    #[test]
    fn as_many_are_read_together_as_fit_whole() {
        let mut queue = queue_of([several(1, 3, b"abcdefgh"), datagram(1, b"ijk")]);
        let mut to = [0; 7];
        let mut gather = || queue.gather(&mut to).map(|(_, gathered)| gathered);
        assert_eq!(gather(), Some(Gathered { len: 6, stride: 3 }));
        assert_eq!(
            gather(),
            Some(Gathered { len: 2, stride: 2 }),
            "the rest of several counts by its length, and what follows is longer"
        );
        assert_eq!(gather(), Some(Gathered { len: 3, stride: 3 }));
        assert_eq!(gather(), None);
        let mut queue = queue_of([datagram(1, b"abcdefgh"), datagram(1, b"ijk")]);
        let mut to = [0; 5];
        assert_eq!(queue.gather(&mut to).unwrap().1, Gathered { len: 5, stride: 5 }, "cut off and alone");
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_counts_it() {
        let one = datagram(1, &[0; 100]).memory();
        let mut queue = ReceiveQueue::new(10 * one);
        let pushed: Vec<_> = (0..12).map(|_| queue.push(datagram(1, &[0; 100]))).collect();
        let queued = |at| Pushed::Queued { first: at == 0, half_full: at == 5 };
        assert!((0..10).all(|at| pushed[at] == queued(at)), "{pushed:?}");
        assert_eq!(pushed[10..], [Pushed::Dropped; 2]);
        assert_eq!((queue.dropped(), queue.memory()), (2, 10 * one));
        queue.pop().unwrap();
        assert_eq!(queue.push(datagram(1, &[0; 100])), Pushed::Queued { first: false, half_full: false });
    }

    #[test]
    fn an_empty_queue_takes_any_datagram() {
        let mut queue = ReceiveQueue::new(10);
        assert_eq!(queue.push(datagram(1, &[0; 60_000])), Pushed::Queued { first: true, half_full: true });
        assert_eq!(queue.push(datagram(1, b"")), Pushed::Dropped);
    }

    proptest! {
        #[test]
        fn memory_is_what_is_kept_and_stays_within_the_limit(
            steps in prop::collection::vec((0usize..20_000, 0u16..3000, 0u8..4), 0..200),
        ) {
            const LIMIT: usize = 100_000;
            let pool = Pool::new();
            let mut queue = ReceiveQueue::new(LIMIT);
            let mut to = vec![0; 3000];
            for (len, size, what) in steps {
                match what {
                    0 | 1 => {
                        let payload = pool.take().into_chunk(0, len);
                        let segment_size = Some(size).filter(|size| *size > 0);
                        queue.push(Datagram { payload, segment_size, ..datagram(1, b"") });
                    }
                    2 => drop(queue.pop()),
                    _ => drop(queue.gather(&mut to)),
                }
                let datagrams = || queue.waiting.iter().flat_map(|waiting| &waiting.datagrams);
                let kept: usize = datagrams().map(Datagram::memory).sum();
                prop_assert_eq!(queue.memory(), kept);
                prop_assert!(kept <= LIMIT || datagrams().count() == 1);
            }
            while queue.pop().is_some() {
                queue.trim();
            }
            prop_assert_eq!(queue.memory(), 0);
            queue.trim();
            prop_assert!(queue.waiting.is_none());
        }
    }
}
