//! Packet buffers: pooled, owned by one holder at a time, and handed from the device to the reader
//! without a copy.

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

/// The bytes of unused large buffers that a pool keeps: about one full receive window.
const KEPT_LARGE: usize = 8 << 20;

/// The same of each smaller class.
const KEPT_SMALL: usize = 1 << 20;

/// A pool of buffers, for packets received and for data to be sent.
///
/// A buffer returns to its pool when its [`PacketBuf`] or [`Chunk`] is dropped. The pool never
/// refuses: an empty pool allocates, a full one frees.
pub struct Pool {
    /// By size class.
    free: [Mutex<Vec<Box<[u8]>>>; CLASSES],
    /// Buffers that are in use.
    #[cfg(feature = "simulation")]
    in_use: std::sync::atomic::AtomicUsize,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            free: std::array::from_fn(|_| Mutex::new(Rank::Pool, Vec::new())),
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
        let class = class_for(len);
        let Some(free) = self.free.get(class) else {
            return PacketBuf::unpooled(vec![0; len].into_boxed_slice());
        };
        let data = free.lock().pop();
        let data = data.unwrap_or_else(|| vec![0; size_of_class(class)].into_boxed_slice());
        #[cfg(feature = "simulation")]
        self.in_use.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        PacketBuf { memory: Memory { data, pool: Some(Arc::clone(self)) }, start: 0 }
    }

    /// Frees unused buffers, for when they will not be needed soon.
    pub fn trim(&self) {
        for free in &self.free {
            let unused = std::mem::take(&mut *free.lock());
            drop(unused);
        }
    }

    /// How many buffers are in use.
    #[cfg(feature = "simulation")]
    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn put(&self, data: Box<[u8]>) {
        #[cfg(feature = "simulation")]
        self.in_use.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        let class = class_for(data.len());
        let kept = if class + 1 == CLASSES { KEPT_LARGE } else { KEPT_SMALL };
        let mut free = self.free[class].lock();
        if free.len() < kept / size_of_class(class) {
            free.push(data);
        }
    }
}

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
        let free: Vec<_> = self.free.iter().map(|free| free.lock().len()).collect();
        f.debug_struct("Pool").field("free", &free).finish()
    }
}

/// The memory of a buffer, which goes back to its pool.
struct Memory {
    data: Box<[u8]>,
    pool: Option<Arc<Pool>>,
}

impl Drop for Memory {
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
    memory: Memory,
    /// What is in front of the packet.
    start: u32,
}

impl PacketBuf {
    /// A buffer of its own, in no pool, holding a copy of `bytes`.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self::unpooled(bytes.into())
    }

    /// The same without a copy.
    pub(crate) fn unpooled(data: Box<[u8]>) -> Self {
        Self { memory: Memory { data, pool: None }, start: 0 }
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
        self.start = 0;
    }

    /// How many bytes the buffer holds memory for.
    pub fn capacity(&self) -> usize {
        self.memory.data.len()
    }

    /// The bytes `start..end` of [`PacketBuf::bytes`] as a chunk that owns the buffer.
    ///
    /// # Panics
    /// If the range is not inside the buffer.
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
    memory: Memory,
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

    /// An empty chunk of its own with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        PacketBuf::unpooled(vec![0; capacity].into_boxed_slice()).into_chunk(0, 0)
    }

    /// An empty chunk with room for `capacity` bytes or more, from this chunk's pool if it is of one.
    pub fn another(&self, capacity: usize) -> Self {
        match &self.memory.pool {
            Some(pool) => pool.take_for(capacity).into_chunk(0, 0),
            None => Self::with_capacity(capacity),
        }
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

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unused buffers of a pool, by size class.
    fn free(pool: &Pool) -> Vec<usize> {
        pool.free.iter().map(|free| free.lock().len()).collect()
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
        assert!(pool.free.iter().all(|free| free.lock().capacity() == 0));
    }

    #[test]
    fn the_pool_keeps_a_bounded_number() {
        let pool = Pool::new();
        let all: Vec<_> = (0..KEPT_LARGE / BUFFER_SIZE + 5).map(|_| pool.take()).collect();
        drop(all);
        let all: Vec<_> = (0..KEPT_SMALL / SMALLEST + 5).map(|_| pool.take_for(1)).collect();
        drop(all);
        assert_eq!(free(&pool), [512, 0, 0, 0, 0, KEPT_LARGE / BUFFER_SIZE]);
    }
}
