//! What a stack holds in memory, in bytes, and what follows from how much that is.
//!
//! Everything that can become large is counted where its memory is taken from the allocator and given back to
//! it: buffers by their [`Pool`](crate::buffer::Pool), everything else by a [`Charge`]. So a buffer that goes
//! from hand to hand, or to its pool and back, is not counted again.

use crate::config::MemoryBudget;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Under pressure, what is left of the budget is shared by so many times the sockets that there are: those that
/// come later are left some, too.
const ROOM_FOR_LATER: usize = 8;

/// The account of a stack's memory.
#[derive(Debug)]
pub struct Memory {
    budget: MemoryBudget,
    /// What a connection is granted in each direction, in bytes.
    share: usize,
    used: AtomicUsize,
    /// Sockets that have a share.
    sockets: AtomicUsize,
    /// Pressure has begun, and has not ended.
    pressed: AtomicBool,
    /// How often it has begun.
    pressures: AtomicU64,
}

/// What a stack holds in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Bytes in use.
    pub used: usize,
    /// Bytes of buffers that nobody uses, and that are kept for the next packets.
    pub cached: usize,
    /// Whether the stack is under pressure: it has held more than [`MemoryBudget::pressure`], and not yet
    /// less than [`MemoryBudget::low`] again.
    pub pressed: bool,
    /// The limits.
    pub budget: MemoryBudget,
}

impl Memory {
    /// An account of which nothing is used.
    pub fn new(budget: MemoryBudget, share: usize) -> Arc<Self> {
        Arc::new(Self {
            budget,
            share,
            used: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            pressed: AtomicBool::new(false),
            pressures: AtomicU64::new(0),
        })
    }

    /// An account without a limit, for what belongs to no stack.
    pub fn unlimited() -> Arc<Self> {
        Self::new(MemoryBudget::UNLIMITED, usize::MAX)
    }

    /// The limits.
    pub fn budget(&self) -> MemoryBudget {
        self.budget
    }

    /// What a connection is granted in each direction, whatever the others hold, in bytes.
    pub fn share(&self) -> usize {
        self.share
    }

    /// Bytes that were taken from the allocator, and not given back.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether the stack is under pressure.
    #[inline]
    pub fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// Whether as much is used as may be.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.is_pressed() && self.used() >= self.budget.high
    }

    /// How often pressure has begun.
    pub fn pressures(&self) -> u64 {
        self.pressures.load(Ordering::Relaxed)
    }

    /// What each socket may hold in each direction, in bytes. Under no pressure that is for other limits to
    /// say.
    #[inline]
    pub fn allowance(&self) -> usize {
        if self.is_pressed() { self.part_of_the_rest() } else { usize::MAX }
    }

    #[cold]
    fn part_of_the_rest(&self) -> usize {
        let left = self.budget.high.saturating_sub(self.used());
        let sockets = self.sockets.load(Ordering::Relaxed).max(1);
        self.share.max(left / ROOM_FOR_LATER / sockets)
    }

    /// So many bytes were taken from the allocator.
    #[inline]
    pub fn charge(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).wrapping_add(bytes);
        if used > self.budget.pressure {
            self.press();
        }
    }

    /// So many bytes were given back to the allocator.
    #[inline]
    pub fn release(&self, bytes: usize) {
        let used = self.used.fetch_sub(bytes, Ordering::Relaxed).wrapping_sub(bytes);
        if used < self.budget.low && self.is_pressed() {
            self.relieve();
        }
    }

    /// Whether pressure has ended. Two threads at once may leave it on although little is used.
    pub fn review(&self) -> bool {
        if self.is_pressed() && self.used() < self.budget.low {
            self.relieve();
        }
        !self.is_pressed()
    }

    #[cold]
    fn press(&self) {
        if !self.pressed.swap(true, Ordering::Relaxed) {
            self.pressures.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cold]
    fn relieve(&self) {
        self.pressed.store(false, Ordering::Relaxed);
    }
}

/// A part of the account, which is given back when it is dropped.
#[derive(Debug)]
pub struct Charge {
    memory: Arc<Memory>,
    bytes: usize,
    /// Whether it is that of a socket, which has a share.
    is_socket: bool,
}

impl Charge {
    /// Charges `bytes`.
    pub fn new(memory: &Arc<Memory>, bytes: usize) -> Self {
        memory.charge(bytes);
        Self { memory: Arc::clone(memory), bytes, is_socket: false }
    }

    /// Charges `bytes` for a socket.
    pub fn of_socket(memory: &Arc<Memory>, bytes: usize) -> Self {
        memory.sockets.fetch_add(1, Ordering::Relaxed);
        let mut charge = Self::new(memory, bytes);
        charge.is_socket = true;
        charge
    }

    /// Bytes charged.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was charged is `bytes` from now on.
    #[inline]
    pub fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.change(bytes);
        }
    }

    #[inline(never)]
    fn change(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.memory.charge(bytes - self.bytes);
        } else {
            self.memory.release(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.release(self.bytes);
        }
        if self.is_socket {
            self.memory.sockets.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What an allocator takes for a block of `len` bytes, as that of glibc does it: its own word, and steps of 16.
pub const fn block(len: usize) -> usize {
    if len == 0 {
        return 0;
    }
    let taken = (len + 8).next_multiple_of(16);
    if taken < 32 { 32 } else { taken }
}

/// What an entry of `entry` bytes takes in a hash table of `std`, on average: between seven sixteenths and seven
/// eighths of the places are in use, and each has another byte. What tables are counted for is that of their
/// entries, so that what is counted does not depend on how large they once were.
pub const fn table_entry(entry: usize) -> usize {
    (entry + 1) * 13 / 8
}

/// What an entry of `entry` bytes takes in a vector that grows by doubling, on average.
pub const fn vec_entry(entry: usize) -> usize {
    entry * 11 / 8
}

/// What a `BTreeMap` or `BTreeSet` of `len` entries of `entry` bytes takes: as a rule seven are in a leaf that has
/// room for eleven, and there is one leaf at least.
#[inline]
pub const fn tree(len: usize, entry: usize) -> usize {
    if len == 0 { 0 } else { larger_tree(len, entry) }
}

const fn larger_tree(len: usize, entry: usize) -> usize {
    let leaf = block(11 * entry + 16);
    if len <= 11 { leaf } else { len * (leaf / 7 + (leaf + 12 * size_of::<usize>()) / 49) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Arc<Memory> {
        Memory::new(MemoryBudget { low: 100, pressure: 200, high: 1000 }, 10)
    }

    #[test]
    fn pressure_begins_above_one_limit_and_ends_below_another() {
        let memory = account();
        memory.charge(200);
        assert!(!memory.is_pressed());
        let mut more = Charge::new(&memory, 1);
        assert!(memory.is_pressed() && !memory.is_full());
        assert_eq!((memory.used(), memory.pressures()), (201, 1));
        more.set(800);
        assert!(memory.is_full());
        more.set(0);
        memory.release(100);
        assert!(memory.is_pressed(), "{} bytes are not below the lower limit", memory.used());
        memory.release(1);
        assert!(!memory.is_pressed() && memory.review());
    }

    #[test]
    fn what_is_left_is_shared_and_the_share_is_always_granted() {
        let memory = account();
        let socket = || Charge::of_socket(&memory, 0);
        let mut sockets = vec![socket()];
        assert_eq!(memory.allowance(), usize::MAX);
        memory.charge(201);
        assert_eq!(memory.allowance(), 799 / 8);
        sockets.extend((0..8).map(|_| socket()));
        assert_eq!(memory.allowance(), 11, "a ninth of an eighth");
        sockets.push(socket());
        assert_eq!(memory.allowance(), 10, "and never less than the share");
        sockets.clear();
        memory.charge(5000);
        assert_eq!((memory.allowance(), memory.is_full()), (10, true));
    }

    #[test]
    fn a_charge_ends_with_its_owner() {
        let memory = account();
        let mut charge = Charge::new(&memory, 50);
        charge.set(150);
        charge.set(70);
        assert_eq!((memory.used(), charge.bytes()), (70, 70));
        drop(charge);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn what_blocks_take() {
        assert_eq!([block(0), block(1), block(24), block(25), block(65_536)], [0, 32, 32, 48, 65_552]);
    }
}
