//! The deadlines of one protocol: those of its sockets, and of everything else that waits for a
//! time.
//!
//! A binary heap with the position of each entry, so that an owner has at most one entry and can
//! move or remove it. Updates are lazy: a deadline that moves later is not changed, fires early,
//! and is armed again then, so that the segments of a busy connection do not touch the heap.

use crate::memory::{Charge, Memory, vec_entry};
use crate::sync::{Mutex, Rank};
use crate::time::Instant;
use std::sync::Arc;

/// Room for deadlines that are due, kept from one call to the next.
const DUE_KEPT: usize = 32;

/// An owner's handle to its entry. Dropping it without [`Deadlines::disarm`] leaves an entry that
/// fires once, in vain.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    armed: Option<Armed>,
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    at: Instant,
    slot: u32,
    entry: u64,
}

impl Timer {
    /// Whether the entry, if there is one, would fire only after `at`.
    pub(crate) fn misses(&self, at: Instant) -> bool {
        self.armed.is_none_or(|armed| at < armed.at)
    }

    /// Whether there is an entry.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.is_some()
    }

    /// The entry fired: it is not in the heap any more.
    pub(crate) fn fired(&mut self) {
        self.armed = None;
    }
}

#[derive(Debug)]
struct Slot<T> {
    /// The number of the entry that uses the slot, so that a handle to an earlier one is known.
    entry: u64,
    /// Where in the heap the entry is.
    position: u32,
    target: Option<T>,
}

/// Entries that there stays room for in any case.
const KEPT: usize = 64;

#[derive(Debug)]
struct Heap<T> {
    /// Time and slot, the earliest first.
    entries: Vec<(Instant, u32)>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// Entries made so far.
    made: u64,
    /// Room for what is due.
    due: Vec<T>,
    /// What [`Deadlines::next`] said last, or what was passed on since.
    announced: Instant,
    /// The memory of all this.
    charge: Charge,
}

/// All deadlines of one stack.
#[derive(Debug)]
pub(crate) struct Deadlines<T> {
    heap: Mutex<Heap<T>>,
}

impl<T> Deadlines<T> {
    pub(crate) fn new(memory: &Arc<Memory>) -> Self {
        let heap = Heap {
            entries: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            made: 0,
            due: Vec::new(),
            announced: Instant::FAR_FUTURE,
            charge: Charge::new(memory, 0),
        };
        Self { heap: Mutex::new(Rank::Deadlines, heap) }
    }

    /// Makes the timer fire at `at` the latest. Says whether that is earlier than what the
    /// sleeping task was told.
    #[must_use]
    pub(crate) fn arm(&self, timer: &mut Timer, at: Instant, target: impl FnOnce() -> T) -> bool {
        if !timer.misses(at) {
            return false;
        }
        let mut heap = self.heap.lock();
        let current = timer.armed.filter(|armed| heap.is_current(*armed));
        let armed = match current {
            Some(armed) => {
                heap.move_earlier(armed.slot, at);
                Armed { at, ..armed }
            }
            None => heap.insert(at, target()),
        };
        timer.armed = Some(armed);
        let moved = at < heap.announced;
        if moved {
            heap.announced = at;
        }
        moved
    }

    /// Removes the timer's entry, if it has one.
    pub(crate) fn disarm(&self, timer: &mut Timer) {
        if let Some(armed) = timer.armed.take() {
            let mut heap = self.heap.lock();
            if heap.is_current(armed) {
                heap.remove(armed.slot);
            }
        }
    }

    /// Removes what is due at `now`, at most `max` entries, and calls `serve` for each, the earliest
    /// first, with no lock held.
    pub(crate) fn serve_due(&self, now: Instant, max: usize, serve: impl FnMut(T)) {
        let mut due = {
            let mut heap = self.heap.lock();
            let mut due = std::mem::take(&mut heap.due);
            while due.len() < max
                && let Some(&(at, slot)) = heap.entries.first()
                && at <= now
            {
                due.extend(heap.remove(slot));
            }
            due
        };
        due.drain(..).for_each(serve);
        // A rush of deadlines does not leave its room behind.
        due.shrink_to(DUE_KEPT);
        if due.capacity() > 0 {
            self.heap.lock().due = due;
        }
    }

    /// The earliest deadline. From now on [`Deadlines::arm`] reports what is earlier than that.
    pub(crate) fn next(&self) -> Option<Instant> {
        let mut heap = self.heap.lock();
        let next = heap.entries.first().map(|(at, _)| *at);
        heap.announced = next.unwrap_or(Instant::FAR_FUTURE);
        next
    }

    /// Whether the timer has an entry that fires at `at` the latest.
    #[cfg(feature = "simulation")]
    pub(crate) fn covers(&self, timer: &Timer, at: Instant) -> bool {
        let heap = self.heap.lock();
        timer.armed.is_some_and(|armed| armed.at <= at && heap.is_current(armed))
    }

    /// How many entries there are.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn len(&self) -> usize {
        self.heap.lock().entries.len()
    }
}

impl<T> Heap<T> {
    fn is_current(&self, armed: Armed) -> bool {
        let slot = self.slots.get(armed.slot as usize);
        slot.is_some_and(|slot| slot.entry == armed.entry && slot.target.is_some())
    }

    fn insert(&mut self, at: Instant, target: T) -> Armed {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { entry: 0, position: 0, target: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.target = Some(target);
        self.made += 1;
        slot.entry = self.made;
        self.entries.push((at, index));
        self.sift_up(self.entries.len() - 1);
        self.weigh();
        Armed { at, slot: index, entry: self.made }
    }

    /// Counts the memory of the entries.
    fn weigh(&mut self) {
        let entry = vec_entry(size_of::<(Instant, u32)>() + size_of::<Slot<T>>());
        self.charge.set(self.entries.len() * entry);
    }

    /// After a rush, gives the memory back of what is free at the end.
    fn give_back(&mut self) {
        if self.slots.len() <= KEPT || self.entries.len() >= self.slots.len() / 4 {
            return;
        }
        let used = self.slots.iter().rposition(|slot| slot.target.is_some()).map_or(0, |last| last + 1);
        if used < self.slots.len() {
            // Handles to what was there are of no entry: their numbers are not given again.
            self.slots.truncate(used);
            self.free.retain(|index| (*index as usize) < used);
            self.slots.shrink_to(KEPT.max(2 * used));
            self.free.shrink_to(KEPT.max(2 * used));
            self.entries.shrink_to(KEPT.max(2 * used));
        }
    }

    fn move_earlier(&mut self, slot: u32, at: Instant) {
        let position = self.slots[slot as usize].position as usize;
        self.entries[position].0 = at;
        self.sift_up(position);
    }

    fn remove(&mut self, index: u32) -> Option<T> {
        let slot = &mut self.slots[index as usize];
        let position = slot.position as usize;
        let target = slot.target.take();
        self.free.push(index);
        self.entries.swap_remove(position);
        if position < self.entries.len() {
            self.sift_down(position);
            self.sift_up(position);
        }
        self.give_back();
        self.weigh();
        target
    }

    /// Moves the entry at `position` towards the root until its parent is not later. Also writes
    /// the entry's position down.
    fn sift_up(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.entries[parent].0 <= self.entries[position].0 {
                break;
            }
            self.entries.swap(parent, position);
            self.note_position(position);
            position = parent;
        }
        self.note_position(position);
    }

    fn sift_down(&mut self, mut position: usize) {
        loop {
            let left = 2 * position + 1;
            let right = left + 1;
            let Some(mut child) = self.entries.get(left).map(|_| left) else { break };
            if self.entries.get(right).is_some_and(|entry| entry.0 < self.entries[left].0) {
                child = right;
            }
            if self.entries[position].0 <= self.entries[child].0 {
                break;
            }
            self.entries.swap(child, position);
            self.note_position(position);
            position = child;
        }
        self.note_position(position);
    }

    fn note_position(&mut self, position: usize) {
        let slot = self.entries[position].1;
        self.slots[slot as usize].position = position as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pop(deadlines: &Deadlines<usize>, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        deadlines.serve_due(now, usize::MAX, |number| due.push(number));
        due
    }

    #[test]
    fn a_later_deadline_leaves_the_entry_and_an_earlier_one_moves_it() {
        let deadlines = Deadlines::new(&Memory::unlimited());
        let mut timer = Timer::default();
        let at = Instant::from_millis;
        assert!(deadlines.arm(&mut timer, at(50), || 1));
        assert!(!deadlines.arm(&mut timer, at(90), || 1));
        assert_eq!(deadlines.next(), Some(at(50)));
        assert!(deadlines.arm(&mut timer, at(20), || 1));
        assert_eq!((deadlines.len(), deadlines.next()), (1, Some(at(20))));
        assert!(pop(&deadlines, at(20)).contains(&1));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn only_an_earlier_deadline_than_the_announced_one_is_reported_and_once() {
        let deadlines = Deadlines::new(&Memory::unlimited());
        let mut timers: Vec<_> = (0..4).map(|_| Timer::default()).collect();
        let mut arm = |n: usize, ms| deadlines.arm(&mut timers[n], Instant::from_millis(ms), || n);
        assert!(arm(0, 50));
        assert!(!arm(1, 60));
        assert!(!arm(2, 50));
        assert!(arm(3, 40));
        assert_eq!(deadlines.next(), Some(Instant::from_millis(40)));
    }

    #[test]
    fn a_handle_to_an_entry_that_fired_does_not_touch_its_successor() {
        let deadlines = Deadlines::new(&Memory::unlimited());
        let (mut first, mut second) = (Timer::default(), Timer::default());
        let _ = deadlines.arm(&mut first, Instant::from_millis(1), || 1);
        assert_eq!(pop(&deadlines, Instant::from_millis(1)), [1]);
        let _ = deadlines.arm(&mut second, Instant::from_millis(5), || 2);
        deadlines.disarm(&mut first);
        assert_eq!(pop(&deadlines, Instant::from_millis(5)), [2]);
    }

    proptest! {
        #[test]
        fn fires_in_order_whatever_was_armed_moved_and_removed(
            steps in prop::collection::vec((0usize..40, 0u64..1000, any::<bool>()), 0..300)
        ) {
            let deadlines = Deadlines::new(&Memory::unlimited());
            let mut timers: Vec<_> = (0..40).map(|_| Timer::default()).collect();
            let mut model = [None; 40];
            for (n, at, arm) in steps {
                if arm {
                    let at = Instant::from_millis(at);
                    let _ = deadlines.arm(&mut timers[n], at, || n);
                    model[n] = Some(model[n].map_or(at, |old: Instant| old.min(at)));
                } else {
                    deadlines.disarm(&mut timers[n]);
                    model[n] = None;
                }
                prop_assert_eq!(deadlines.len(), model.iter().flatten().count());
                prop_assert_eq!(deadlines.next(), model.iter().flatten().min().copied());
            }
            let fired = pop(&deadlines, Instant::FAR_FUTURE);
            prop_assert!(fired.is_sorted_by_key(|n| model[*n].unwrap()));
            prop_assert_eq!(fired.len(), model.iter().flatten().count());
        }

        /// As a driver uses it: it asks for the next deadline, sleeps, serves some of what is due, and is told of
        /// what became earlier.
        #[test]
        fn a_driver_serves_what_is_due_and_is_told_of_what_is_earlier(
            steps in prop::collection::vec((0u8..6, 0usize..20, 0u64..100), 0..200)
        ) {
            let deadlines = Deadlines::new(&Memory::unlimited());
            let mut timers: Vec<_> = (0..20).map(|_| Timer::default()).collect();
            let mut model = [None::<Instant>; 20];
            let (mut clock, mut announced) = (0, Instant::FAR_FUTURE);
            for (what, n, amount) in steps {
                match what {
                    0..=2 => {
                        let at = Instant::from_millis(clock + amount);
                        let moves = model[n].is_none_or(|old| at < old);
                        let told = deadlines.arm(&mut timers[n], at, || n);
                        prop_assert_eq!(told, moves && at < announced);
                        if moves {
                            (model[n], announced) = (Some(at), announced.min(at));
                        }
                    }
                    3 => {
                        deadlines.disarm(&mut timers[n]);
                        model[n] = None;
                    }
                    4 => {
                        clock += amount / 2;
                        let (now, mut served) = (Instant::from_millis(clock), Vec::new());
                        deadlines.serve_due(now, n, |one| served.push(one));
                        let due = model.iter().flatten().filter(|at| **at <= now).count();
                        prop_assert_eq!(served.len(), due.min(n));
                        for one in served {
                            // The earliest first.
                            prop_assert_eq!(model[one], model.iter().flatten().min().copied());
                            timers[one].fired();
                            model[one] = None;
                        }
                    }
                    _ => {
                        let next = model.iter().flatten().min().copied();
                        prop_assert_eq!(deadlines.next(), next);
                        announced = next.unwrap_or(Instant::FAR_FUTURE);
                    }
                }
                prop_assert_eq!(deadlines.len(), model.iter().flatten().count());
            }
        }
    }
}
