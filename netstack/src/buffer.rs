//! Packet buffers: pooled, owned by one holder at a time, and handed from the device to the reader
//! without a copy.

use crate::memory::{Memory, block};
use crate::sync::{Mutex, Rank};
use std::fmt;
use std::sync::Arc;

/// The maximum number of payload pieces in a packet. One call of writev(2) gathers them after the
/// headers.
pub const MAX_PIECES: usize = 16;

/// Bytes in the largest IP packet; a super-segment with its headers is one.
pub const PACKET_SIZE: usize = 65_535;

/// Bytes that a device may put in front of a packet: see [`PacketBuf::skip`].
pub const FRONT: usize = 64;

/// Bytes in the largest pooled buffer: the largest packet and what a device puts in front of it, or a typical
/// large write of an application.
pub const BUFFER_SIZE: usize = 65_536 + FRONT;

/// Bytes in the smallest pooled buffer: a packet of an Ethernet.
const SMALLEST: usize = 2 * 1024;

/// Size classes of a pool: powers of two from [`SMALLEST`] on, and [`BUFFER_SIZE`].
const CLASSES: usize = (BUFFER_SIZE / SMALLEST).ilog2() as usize + 1;

/// The bytes of unused large buffers that a pool keeps in any case: about one full receive window. It is less where
/// the memory of the stack is less.
const KEPT_LARGE: usize = 8 << 20;

/// A pool keeps as many more as were in use at once lately, since many streams take and give back that many again
/// and again, and to allocate them each time costs page faults: up to this many times what it keeps in any case.
const MOST_KEPT: usize = 4;

/// Buffers that come back until a class forgets an eighth of how many were in use at once.
const FORGET_AFTER: u32 = 1024;

/// The same of each smaller class.
const KEPT_SMALL: usize = 1 << 20;

/// A pool of buffers, for packets received and for data to be sent.
///
/// A buffer returns to its pool when its [`PacketBuf`] or [`Chunk`] is dropped. The pool never
/// refuses: an empty pool allocates, a full one frees, and so does one of a stack that is short of memory.
pub struct Pool {
    /// By size.
    classes: [Mutex<Class>; CLASSES],
    /// Unused buffers of each class that are kept in any case.
    kept: [usize; CLASSES],
    /// What was allocated and not freed, used or not, is counted here.
    memory: Arc<Memory>,
    /// Buffers that are in use.
    #[cfg(feature = "simulation")]
    in_use: std::sync::atomic::AtomicUsize,
}

/// The buffers of one size.
#[derive(Default)]
struct Class {
    free: Vec<Box<[u8]>>,
    /// Buffers that are in use.
    used: usize,
    /// The most that were at once, lately.
    most_used: usize,
    /// Buffers that came back since that was last lowered.
    returns: u32,
}

impl Class {
    #[inline]
    fn take(&mut self) -> Option<Box<[u8]>> {
        self.used += 1;
        self.most_used = self.most_used.max(self.used);
        self.free.pop()
    }

    /// Takes a buffer back. Gives it back itself if there are enough, where `kept` are in any case.
    #[inline]
    fn put(&mut self, data: Box<[u8]>, kept: usize) -> Option<Box<[u8]>> {
        self.used = self.used.saturating_sub(1);
        self.returns += 1;
        if self.returns == FORGET_AFTER {
            self.returns = 0;
            self.most_used -= self.most_used / 8;
        }
        let wanted = || self.most_used.saturating_sub(self.used).min(kept * MOST_KEPT);
        if self.free.len() < kept || self.free.len() < wanted() {
            self.free.push(data);
            None
        } else {
            Some(data)
        }
    }
}

impl Pool {
    /// An empty pool that belongs to no stack.
    pub fn new() -> Arc<Self> {
        Self::within(Memory::unlimited())
    }

    /// An empty pool that counts in `memory`.
    pub fn within(memory: Arc<Memory>) -> Arc<Self> {
        Arc::new(Self {
            classes: std::array::from_fn(|_| Mutex::new(Rank::Pool, Class::default())),
            kept: std::array::from_fn(|class| kept(class, &memory)),
            memory,
            #[cfg(feature = "simulation")]
            in_use: std::sync::atomic::AtomicUsize::new(0),
        })
    }

    /// A buffer of [`BUFFER_SIZE`] bytes with unspecified contents.
    pub fn take(self: &Arc<Self>) -> PacketBuf {
        self.take_for(BUFFER_SIZE)
    }

    /// A buffer of at least `len` bytes, and less than twice as many if they are more than two KiB, with
    /// unspecified contents.
    pub fn take_for(self: &Arc<Self>, len: usize) -> PacketBuf {
        let number = class_for(len);
        let Some(class) = self.classes.get(number) else { return self.allocate(len) };
        let data = class.lock().take();
        match data {
            Some(data) => self.given(data),
            None => self.allocate(size_of_class(number)),
        }
    }

    /// A buffer of `len` bytes or a few more, with unspecified contents: for what may stay for long.
    pub fn take_exact(self: &Arc<Self>, len: usize) -> PacketBuf {
        self.allocate(len.next_multiple_of(EXACT_STEP))
    }

    /// A copy of `bytes` in a buffer of their size.
    pub fn copy_of(self: &Arc<Self>, bytes: &[u8]) -> Chunk {
        let mut copy = self.take_exact(bytes.len()).into_chunk(0, 0);
        copy.append(bytes);
        copy
    }

    /// A buffer of memory that was allocated elsewhere. It counts from now on.
    pub fn adopt(self: &Arc<Self>, data: Box<[u8]>) -> PacketBuf {
        self.memory.charge(block(data.len()));
        self.given(data)
    }

    /// What the pool counts in.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Frees unused buffers, for when they will not be needed soon.
    pub fn trim(&self) {
        for class in &self.classes {
            let unused = {
                let mut class = class.lock();
                class.most_used = class.used;
                std::mem::take(&mut class.free)
            };
            unused.iter().for_each(|data| self.memory.release(block(data.len())));
            drop(unused);
        }
    }

    /// Bytes of unused buffers.
    pub fn cached(&self) -> usize {
        let classes = self.classes.iter().enumerate();
        classes.map(|(number, class)| class.lock().free.len() * block(size_of_class(number))).sum()
    }

    #[cold]
    fn allocate(self: &Arc<Self>, len: usize) -> PacketBuf {
        self.memory.charge(block(len));
        self.given(vec![0; len].into_boxed_slice())
    }

    #[inline(always)]
    fn given(self: &Arc<Self>, data: Box<[u8]>) -> PacketBuf {
        #[cfg(feature = "simulation")]
        self.in_use.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        PacketBuf { memory: Storage { data, pool: Some(Arc::clone(self)) }, start: 0 }
    }

    /// How many buffers are in use.
    #[cfg(feature = "simulation")]
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn put(&self, data: Box<[u8]>) {
        #[cfg(feature = "simulation")]
        self.in_use.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        let number = class_for(data.len());
        let surplus = match self.classes.get(number) {
            Some(class) if data.len() == size_of_class(number) => {
                // Short of memory, none is kept.
                let kept = if self.memory.is_pressed() { 0 } else { self.kept[number] };
                class.lock().put(data, kept)
            }
            _ => Some(data),
        };
        if let Some(data) = surplus {
            self.give_back(data);
        }
    }

    #[cold]
    fn give_back(&self, data: Box<[u8]>) {
        let len = data.len();
        drop(data);
        self.memory.release(block(len));
    }
}

/// Unused buffers of a class that are kept.
fn kept(class: usize, memory: &Memory) -> usize {
    let part = memory.budget().low / 32;
    let bytes = if class + 1 == CLASSES { KEPT_LARGE.min(4 * part) } else { KEPT_SMALL.min(part) };
    bytes / size_of_class(class)
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.trim();
    }
}

/// Steps of the sizes of buffers that are of no class.
const EXACT_STEP: usize = 64;

/// The smallest size class for `len` bytes. There is none for more than [`BUFFER_SIZE`].
fn class_for(len: usize) -> usize {
    let class = (len.saturating_sub(1) / SMALLEST).checked_ilog2().map_or(0, |n| n as usize + 1);
    if len <= BUFFER_SIZE { class.min(CLASSES - 1) } else { class }
}

/// Bytes of each buffer of a class.
const fn size_of_class(class: usize) -> usize {
    if class + 1 == CLASSES { BUFFER_SIZE } else { SMALLEST << class }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free: Vec<_> = self.classes.iter().map(|class| class.lock().free.len()).collect();
        f.debug_struct("Pool").field("free", &free).finish()
    }
}

/// The memory of a buffer, which goes back to its pool.
struct Storage {
    data: Box<[u8]>,
    pool: Option<Arc<Pool>>,
}

impl Drop for Storage {
    // Most dropped chunks are the empty payload of an acknowledgment.
    #[inline]
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put(std::mem::take(&mut self.data));
        }
    }
}

/// One packet buffer, owned.
pub struct PacketBuf {
    memory: Storage,
    /// What is in front of the packet.
    start: u32,
}

/// A buffer without bytes or memory.
impl Default for PacketBuf {
    #[inline]
    fn default() -> Self {
        Self::unpooled(Box::default())
    }
}

impl PacketBuf {
    /// A buffer of its own, in no pool, holding a copy of `bytes`.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self::unpooled(bytes.into())
    }

    /// The same without a copy.
    pub(crate) fn unpooled(data: Box<[u8]>) -> Self {
        Self { memory: Storage { data, pool: None }, start: 0 }
    }

    /// All bytes of the buffer, used or not, from where the packet begins.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.memory.data[self.start as usize..]
    }

    /// The same, to be written.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory.data[self.start as usize..]
    }

    /// Leaves out the first `n` bytes: the packet begins after them. So a device reads a header of its own and
    /// the packet in one piece, which costs the system less than two.
    ///
    /// # Panics
    /// If there are fewer than `n`.
    pub fn skip(&mut self, n: usize) {
        assert!(n <= self.bytes().len(), "a packet that begins after the end of its buffer");
        self.start += n as u32;
    }

    /// Takes back what [`PacketBuf::skip`] did: the buffer is for another packet.
    #[inline]
    pub fn reset(&mut self) {
        // Not written for nothing: a processor cannot load as a whole what it has just written in parts, and would wait
        // until everything written before, such as a packet that was copied, is in its cache.
        if self.start != 0 {
            self.begin_at_front();
        }
    }

    #[inline(never)]
    fn begin_at_front(&mut self) {
        self.start = 0;
    }

    /// How many bytes the buffer holds memory for.
    pub fn capacity(&self) -> usize {
        self.memory.data.len()
    }

    /// Exchanges the contents, and their memory, with another buffer. Each stays one of its own pool.
    pub fn exchange(&mut self, other: &mut Self) {
        let (len, other_len) = (self.capacity(), other.capacity());
        std::mem::swap(&mut self.memory.data, &mut other.memory.data);
        std::mem::swap(&mut self.start, &mut other.start);
        if len != other_len {
            self.recount(len);
            other.recount(other_len);
        }
    }

    /// The buffer had `before` bytes until now.
    fn recount(&self, before: usize) {
        if let Some(pool) = &self.memory.pool {
            pool.memory.charge(block(self.capacity()));
            pool.memory.release(block(before));
        }
    }

    /// The bytes `start..end` of [`PacketBuf::bytes`] as a chunk that owns the buffer.
    ///
    /// # Panics
    /// If the range is not inside the buffer.
    #[inline]
    pub fn into_chunk(self, start: usize, end: usize) -> Chunk {
        assert!(start <= end && end <= self.bytes().len(), "chunk {start}..{end} outside its buffer");
        let front = self.start;
        Chunk { memory: self.memory, start: front + start as u32, end: front + end as u32 }
    }
}

impl fmt::Debug for PacketBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketBuf")
            .field("capacity", &self.capacity())
            .field("pooled", &self.memory.pool.is_some())
            .finish()
    }
}

/// A range of a packet buffer, owning the buffer.
pub struct Chunk {
    memory: Storage,
    start: u32,
    end: u32,
}

impl Chunk {
    /// A chunk of its own holding a copy of `bytes`.
    pub fn copy_from(bytes: &[u8]) -> Self {
        PacketBuf::copy_from(bytes).into_chunk(0, bytes.len())
    }

    /// A chunk without bytes or memory.
    pub fn empty() -> Self {
        Self::copy_from(&[])
    }

    /// The buffer that the chunk owns, for another packet.
    #[inline]
    pub(crate) fn into_buffer(self) -> PacketBuf {
        PacketBuf { memory: self.memory, start: 0 }
    }

    /// An empty chunk of its own with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        PacketBuf::unpooled(vec![0; capacity].into_boxed_slice()).into_chunk(0, 0)
    }

    /// An empty chunk with room for `capacity` bytes or more, from this chunk's pool if it is of one.
    #[inline]
    pub fn another(&self, capacity: usize) -> Self {
        match &self.memory.pool {
            Some(pool) => pool.take_for(capacity).into_chunk(0, 0),
            None => Self::with_capacity(capacity),
        }
    }

    /// A copy in a buffer of its size, from this chunk's pool if it is of one.
    pub fn compacted(&self) -> Self {
        self.copy_of(self.as_slice())
    }

    /// A copy of `bytes` in a buffer of their size, from this chunk's pool if it is of one.
    pub fn copy_of(&self, bytes: &[u8]) -> Self {
        match &self.memory.pool {
            Some(pool) => pool.copy_of(bytes),
            None => Self::copy_from(bytes),
        }
    }

    /// The account in which its memory counts; none if it is of no pool.
    pub fn memory(&self) -> Option<&Arc<Memory>> {
        self.memory.pool.as_ref().map(|pool| pool.memory())
    }

    /// Bytes that [`Chunk::append`] has room for.
    pub fn spare(&self) -> usize {
        self.memory.data.len() - self.end as usize
    }

    /// Appends as much of `bytes` as the buffer has room for, and returns how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let end = self.end as usize;
        let n = bytes.len().min(self.memory.data.len() - end);
        self.memory.data[end..end + n].copy_from_slice(&bytes[..n]);
        self.end += n as u32;
        n
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.memory.data[self.start as usize..self.end as usize]
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether less than half of its memory is its bytes.
    pub fn is_sparse(&self) -> bool {
        2 * self.len().next_multiple_of(EXACT_STEP) < self.capacity()
    }

    /// Memory that the chunk keeps alive, in bytes: its "truesize".
    pub fn capacity(&self) -> usize {
        self.memory.data.len()
    }

    /// Removes the first `n` bytes from the range.
    ///
    /// # Panics
    /// If there are fewer than `n`.
    pub fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "advance past the end of a chunk");
        self.start += n as u32;
    }

    /// Keeps the first `n` bytes; does nothing if there are not more.
    pub fn truncate(&mut self, n: usize) {
        if n < self.len() {
            self.end = self.start + n as u32;
        }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MemoryBudget;

    /// Unused buffers of a pool, by size class.
    fn free(pool: &Pool) -> Vec<usize> {
        pool.classes.iter().map(|class| class.lock().free.len()).collect()
    }

    #[test]
    fn a_buffer_returns_to_its_pool_and_is_used_again() {
        let pool = Pool::new();
        let mut buf = pool.take();
        buf.bytes_mut()[..3].copy_from_slice(b"abc");
        let mut chunk = buf.into_chunk(0, 3);
        chunk.advance(1);
        chunk.truncate(1);
        assert_eq!(chunk.as_slice(), b"b");
        assert_eq!(free(&pool), [0, 0, 0, 0, 0, 0]);
        let small = chunk.another(100);
        drop(chunk);
        assert_eq!(free(&pool), [0, 0, 0, 0, 0, 1]);
        drop(small);
        assert_eq!(free(&pool), [1, 0, 0, 0, 0, 1]);
        let _again = pool.take();
        assert_eq!(free(&pool), [1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_buffer_is_of_the_smallest_class_that_does() {
        let pool = Pool::new();
        for (len, capacity) in [
            (0, 2048),
            (1, 2048),
            (2048, 2048),
            (2049, 4096),
            (6145, 8192),
            (16_385, 32_768),
            (32_768, 32_768),
            (32_769, BUFFER_SIZE),
            (65_536, BUFFER_SIZE),
            (BUFFER_SIZE, BUFFER_SIZE),
        ] {
            assert_eq!(pool.take_for(len).capacity(), capacity, "{len}");
        }
        let large = pool.take_for(BUFFER_SIZE + 1);
        assert_eq!(large.capacity(), BUFFER_SIZE + 1, "more than any class has");
        drop(large);
        assert_eq!(free(&pool), [1, 1, 1, 0, 1, 1], "each was used again, and the large one was freed");
    }

    #[test]
    fn a_packet_begins_after_what_its_device_put_in_front_of_it() {
        let pool = Pool::new();
        let mut buf = pool.take_for(SMALLEST);
        buf.bytes_mut()[..6].copy_from_slice(b"..abcd");
        buf.skip(2);
        assert_eq!(&buf.bytes()[..4], b"abcd");
        assert_eq!((buf.bytes().len(), buf.capacity()), (SMALLEST - 2, SMALLEST));
        let mut chunk = buf.into_chunk(1, 4);
        assert_eq!((chunk.as_slice(), chunk.spare()), (b"bcd".as_slice(), SMALLEST - 6));
        assert_eq!(chunk.append(b"e"), 1);
        assert_eq!(chunk.as_slice(), b"bcde");
        drop(chunk);
        assert_eq!(pool.take_for(SMALLEST).bytes().len(), SMALLEST, "a buffer that is used again is whole");
    }

    #[test]
    fn trimming_frees_what_is_unused() {
        let pool = Pool::new();
        drop([pool.take(), pool.take(), pool.take_for(1)]);
        pool.trim();
        assert!(pool.classes.iter().all(|class| class.lock().free.capacity() == 0));
    }

    #[test]
    fn what_is_allocated_is_counted_until_it_is_freed() {
        let memory = Memory::new(MemoryBudget { low: 1 << 20, pressure: 2 << 20, high: 4 << 20 }, 4096);
        let pool = Pool::within(Arc::clone(&memory));
        let (large, small) = (pool.take(), pool.copy_of(b"abc"));
        assert_eq!(memory.used(), block(BUFFER_SIZE) + block(64));
        assert_eq!((small.as_slice(), small.spare()), (&b"abc"[..], 61));
        drop((large, small));
        assert_eq!((memory.used(), pool.cached()), (block(BUFFER_SIZE), block(BUFFER_SIZE)), "one is kept");
        drop(pool.take());
        assert_eq!(memory.used(), block(BUFFER_SIZE), "and used again");
        let many: Vec<_> = (0..32).map(|_| pool.take()).collect();
        assert!(memory.is_pressed());
        drop(many);
        assert!(pool.cached() <= 256 * 1024 + 1024 && !memory.is_pressed(), "a quarter of low: {pool:?}");
        pool.trim();
        assert_eq!((memory.used(), pool.cached()), (0, 0));
    }

    #[test]
    fn buffers_that_exchange_their_memory_stay_in_their_pools() {
        let (one, other) = (Memory::unlimited(), Memory::unlimited());
        let mut large = Pool::within(Arc::clone(&one)).take();
        let mut small = Pool::within(Arc::clone(&other)).take_exact(64);
        large.exchange(&mut small);
        assert_eq!((large.capacity(), one.used(), other.used()), (64, block(64), block(BUFFER_SIZE)));
        drop((large, small));
        assert_eq!((one.used(), other.used()), (0, 0), "with their pools");
    }

    #[test]
    fn the_pool_keeps_what_was_in_use_at_once_and_not_more_than_a_bound() {
        let pool = Pool::new();
        let kept = KEPT_LARGE / BUFFER_SIZE;
        let take = |count: usize| drop((0..count).map(|_| pool.take()).collect::<Vec<_>>());
        take(kept - 1);
        assert_eq!(free(&pool)[5], kept - 1);
        take(2 * kept);
        assert_eq!(free(&pool)[5], 2 * kept, "as many are taken again, perhaps");
        take((MOST_KEPT + 1) * kept);
        assert_eq!(free(&pool)[5], MOST_KEPT * kept, "the bound");
        let all: Vec<_> = (0..KEPT_SMALL / SMALLEST + 5).map(|_| pool.take_for(1)).collect();
        drop(all);
        assert_eq!(free(&pool)[0], 517);
    }

    #[test]
    fn what_is_not_in_use_at_once_any_more_is_given_back() {
        let pool = Pool::new();
        let kept = KEPT_LARGE / BUFFER_SIZE;
        drop((0..4 * kept).map(|_| pool.take()).collect::<Vec<_>>());
        assert_eq!(free(&pool)[5], 4 * kept);
        for _ in 0..FORGET_AFTER * 32 {
            drop(pool.take());
        }
        assert_eq!(free(&pool)[5], kept, "one is in use at a time");
    }
}
