//! Bytes that arrived in order and wait for the reader.

use crate::buffer::Chunk;
use crate::tcp::compact::{Compact, Reader, Writer};
use std::collections::VecDeque;
use std::io::IoSliceMut;

/// A payload of at least this share of its memory is kept where it is; a smaller one is copied, so
/// that no byte waits in a buffer more than four times its size.
const KEEP_SHARE: usize = 4;

/// Memory that a queued chunk costs beside its buffer: its place in the queue, allocation headers.
pub(super) const CHUNK_OVERHEAD: usize = 128;

/// A payload up to this many bytes is copied wherever the last chunk has room for it: kept, it would
/// end that chunk, and large chunks that hold little would pile up between such payloads.
const SMALL: usize = 2 * 1024;

/// Size of the buffers that small payloads are copied into, in bytes, once more than one waits.
const TAIL: usize = 16 * 1024;

/// Size of the first such buffer: most small messages are read before the next one comes.
const FIRST_TAIL: usize = 2 * 1024;

/// Places that an empty queue keeps.
const KEPT: usize = 8;

/// A queue of chunks.
#[derive(Debug, Default)]
pub(super) struct RecvBuffer {
    chunks: VecDeque<Chunk>,
    /// Unread bytes.
    len: usize,
    /// Memory of the chunks, in bytes.
    memory: usize,
}

/// The memory of a queue in which nothing is.
#[derive(Debug, Default)]
pub(in crate::tcp) struct RecvPlaces(VecDeque<Chunk>);

/// Whether a chunk uses enough of its buffer to be kept.
pub(super) fn worth_keeping(chunk: &Chunk) -> bool {
    chunk.len() * KEEP_SHARE >= chunk.capacity() + CHUNK_OVERHEAD
}

impl Compact for RecvBuffer {
    /// Nothing: a connection at rest has read everything.
    fn write(&self, _: &mut Writer) {
        let Self { chunks, len, memory } = self;
        debug_assert!(chunks.is_empty() && (*len, *memory) == (0, 0));
    }

    fn read(_: &mut Reader<'_>) -> Self {
        Self::default()
    }
}

impl RecvBuffer {
    /// Unread bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a payload: the chunk itself where it is large, a copy in the last chunk otherwise. Then the chunk is
    /// left to its owner, who has another use for its buffer.
    pub(super) fn push(&mut self, chunk: &mut Chunk) {
        self.len += chunk.len();
        let joins =
            chunk.len() <= SMALL && self.chunks.back().is_some_and(|tail| tail.spare() >= chunk.len());
        if worth_keeping(chunk) && !joins {
            self.put(std::mem::replace(chunk, Chunk::empty()));
            return;
        }
        let mut rest = chunk.as_slice();
        if let Some(tail) = self.chunks.back_mut() {
            let n = tail.append(rest);
            rest = rest.get(n..).unwrap_or_default();
        }
        if !rest.is_empty() {
            let size = if self.chunks.is_empty() { FIRST_TAIL } else { TAIL };
            let mut tail = chunk.another(size.max(rest.len()));
            tail.append(rest);
            self.put(tail);
        }
    }

    /// Appends as much of a payload as `limit` bytes of memory allow, in buffers of its size, and returns how
    /// many bytes that were.
    pub(super) fn push_within(&mut self, chunk: &Chunk, limit: usize) -> usize {
        let bytes = chunk.as_slice();
        let mut taken = self.chunks.back_mut().map_or(0, |tail| tail.append(bytes));
        let room = limit.saturating_sub(self.memory + CHUNK_OVERHEAD);
        let rest = bytes.get(taken..).unwrap_or_default();
        let rest = rest.get(..room).unwrap_or(rest);
        if !rest.is_empty() {
            self.put(chunk.copy_of(rest));
            taken += rest.len();
        }
        self.len += taken;
        taken
    }

    /// Replaces chunks that use little of their memory by copies, and returns how many those were.
    pub(super) fn compact(&mut self) -> usize {
        let mut replaced = 0;
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.is_sparse()) {
            let copy = chunk.compacted();
            self.memory = self.memory - chunk.capacity() + copy.capacity();
            *chunk = copy;
            replaced += 1;
        }
        replaced
    }

    fn put(&mut self, chunk: Chunk) {
        self.memory += chunk.capacity() + CHUNK_OVERHEAD;
        self.chunks.push_back(chunk);
    }

    /// Takes the first chunk.
    fn take_front(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.memory -= chunk.capacity() + CHUNK_OVERHEAD;
        if self.chunks.is_empty() && self.chunks.capacity() > KEPT {
            self.chunks.shrink_to(KEPT);
        }
        Some(chunk)
    }

    /// Moves bytes into `bufs`, filled in order, and returns how many.
    pub(super) fn read(&mut self, bufs: &mut [IoSliceMut<'_>]) -> usize {
        let mut total = 0;
        for buf in bufs {
            let mut to = &mut buf[..];
            while !to.is_empty() {
                let Some(chunk) = self.chunks.front_mut() else { break };
                let n = chunk.len().min(to.len());
                let (front, back) = to.split_at_mut(n);
                front.copy_from_slice(chunk.as_slice().split_at(n).0);
                to = back;
                chunk.advance(n);
                total += n;
                if chunk.is_empty() {
                    self.take_front();
                }
            }
        }
        self.len -= total;
        total
    }

    /// Copies bytes into `bufs` and leaves them here.
    pub(super) fn peek(&self, bufs: &mut [IoSliceMut<'_>]) -> usize {
        let mut total = 0;
        let mut chunks = self.chunks.iter();
        let mut from: &[u8] = &[];
        for buf in bufs {
            let mut to = &mut buf[..];
            while !to.is_empty() {
                if from.is_empty() {
                    let Some(chunk) = chunks.next() else { return total };
                    from = chunk.as_slice();
                }
                let n = from.len().min(to.len());
                let (front, back) = to.split_at_mut(n);
                let (copied, left) = from.split_at(n);
                front.copy_from_slice(copied);
                (from, to) = (left, back);
                total += n;
            }
        }
        total
    }

    /// Takes the first chunk whole.
    pub(super) fn pop_chunk(&mut self) -> Option<Chunk> {
        let chunk = self.take_front()?;
        self.len -= chunk.len();
        Some(chunk)
    }

    /// Memory held, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Memory of the queue itself, in bytes: the chunks count in their pool.
    #[inline]
    pub(super) fn places(&self) -> usize {
        self.chunks.capacity() * size_of::<Chunk>()
    }

    /// Checks that what is counted is there.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn check(&self) -> Result<(), String> {
        let len: usize = self.chunks.iter().map(Chunk::len).sum();
        let memory: usize = self.chunks.iter().map(|chunk| chunk.capacity() + CHUNK_OVERHEAD).sum();
        if (len, memory) == (self.len, self.memory) {
            return Ok(());
        }
        Err(format!("{len} unread bytes in {memory} count as {} in {}", self.len, self.memory))
    }

    /// Takes the memory of the queue itself, if nothing is in it.
    pub(super) fn take_places(&mut self) -> RecvPlaces {
        if self.chunks.is_empty() {
            RecvPlaces(std::mem::take(&mut self.chunks))
        } else {
            RecvPlaces::default()
        }
    }

    /// Uses this memory, if there is none.
    pub(super) fn use_places(&mut self, RecvPlaces(chunks): RecvPlaces) {
        if self.chunks.capacity() == 0 {
            self.chunks = chunks;
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{PacketBuf, Pool};
    use proptest::prelude::*;

    fn read(buffer: &mut RecvBuffer, n: usize) -> Vec<u8> {
        let mut to = vec![0; n];
        let (a, b) = to.split_at_mut(n / 3);
        let got = buffer.read(&mut [IoSliceMut::new(a), IoSliceMut::new(b)]);
        to.truncate(got);
        to
    }

    #[test]
    fn bytes_come_out_in_order_over_chunk_borders() {
        let mut buffer = RecvBuffer::default();
        let sent: Vec<u8> = (0..50_000u32).map(|i| (i * 7) as u8).collect();
        for piece in sent.chunks(1371) {
            buffer.push(&mut Chunk::copy_from(piece));
        }
        assert_eq!(buffer.len(), sent.len());
        let mut peeked = vec![0; 4000];
        assert_eq!(buffer.peek(&mut [IoSliceMut::new(&mut peeked)]), 4000);
        assert_eq!(peeked, sent[..4000]);
        let mut got = Vec::new();
        while !buffer.is_empty() {
            got.extend(read(&mut buffer, 999));
        }
        assert_eq!(got, sent);
    }

    #[test]
    fn within_a_limit_as_much_is_taken_as_there_is_memory_for() {
        let pool = Pool::new();
        let mut buffer = RecvBuffer::default();
        let payload = |len: usize| pool.take().into_chunk(40, 40 + len);
        assert_eq!(buffer.push_within(&payload(1000), 4096), 1000);
        assert_eq!(buffer.push_within(&payload(60_000), 4096), 4096 - 1024 - 2 * CHUNK_OVERHEAD + 24);
        assert_eq!(buffer.push_within(&payload(100), 4096), 0);
        assert!(buffer.memory() <= 4096 + 64, "{}", buffer.memory());
        buffer.check().unwrap();
        let all = buffer.len();
        assert_eq!(read(&mut buffer, 10_000).len(), all);
        assert_eq!((buffer.memory(), buffer.push_within(&payload(1), 1)), (0, 0), "not even a byte");
    }

    #[test]
    fn compacting_leaves_the_bytes_and_gives_the_memory_back() {
        let pool = Pool::new();
        let mut buffer = RecvBuffer::default();
        let sent: Vec<u8> = (0..5000u32).map(|n| n as u8).collect();
        for piece in sent.chunks(1000) {
            let mut packet = pool.take();
            packet.bytes_mut()[..piece.len()].copy_from_slice(piece);
            buffer.push(&mut packet.into_chunk(0, piece.len()));
        }
        read(&mut buffer, 100);
        let before = buffer.memory();
        assert!(buffer.compact() > 0 && buffer.memory() < before / 2, "{} of {before}", buffer.memory());
        assert_eq!(buffer.compact(), 0, "once is enough");
        buffer.check().unwrap();
        assert_eq!(read(&mut buffer, 10_000), sent[100..]);
    }

    #[test]
    fn a_small_payload_does_not_pin_a_large_buffer() {
        let pool = Pool::new();
        let mut buffer = RecvBuffer::default();
        for _ in 0..100 {
            buffer.push(&mut pool.take().into_chunk(40, 41));
        }
        let held: usize = buffer.chunks.iter().map(Chunk::capacity).sum();
        assert!(held <= FIRST_TAIL, "{held} bytes held for 100");
    }

    /// Payloads in buffers of their own size, as from devices that copy.
    #[test]
    fn memory_follows_the_payload_whatever_its_pieces() {
        for sizes in [&[1][..], &[1, 64], &[14], &[1, 200], &[1, 1460], &[1, 2_049]] {
            let mut buffer = RecvBuffer::default();
            while buffer.len() < 200_000 {
                for size in sizes {
                    buffer.push(&mut PacketBuf::copy_from(&vec![0; 40 + size]).into_chunk(40, 40 + size));
                }
            }
            let held: usize = buffer.chunks.iter().map(|chunk| chunk.capacity() + CHUNK_OVERHEAD).sum();
            assert!(held <= 10 * buffer.len(), "pieces of {sizes:?}: {held} held for {}", buffer.len());
        }
    }

    #[test]
    fn a_large_payload_is_not_copied() {
        let mut packet = Pool::new().take();
        packet.bytes_mut().fill(3);
        let address = packet.bytes().as_ptr();
        let mut buffer = RecvBuffer::default();
        buffer.push(&mut packet.into_chunk(0, 60_000));
        assert_eq!(buffer.chunks[0].as_slice().as_ptr(), address);
    }

    proptest! {
        #[test]
        fn it_is_a_byte_queue(steps in prop::collection::vec((0u8..8, 1usize..5_000, any::<bool>()), 1..80)) {
            let pool = Pool::new();
            let (mut buffer, mut model) = (RecvBuffer::default(), VecDeque::<u8>::new());
            let mut next = 0u8;
            for (what, n, pooled) in steps {
                match what {
                    0..=3 => {
                        let bytes: Vec<u8> = (0..n).map(|i| next.wrapping_add((i % 251) as u8)).collect();
                        next = next.wrapping_add(91);
                        model.extend(&bytes);
                        buffer.push(&mut if pooled {
                            let mut packet = pool.take();
                            packet.bytes_mut()[40..40 + n].copy_from_slice(&bytes);
                            packet.into_chunk(40, 40 + n)
                        } else {
                            Chunk::copy_from(&bytes)
                        });
                    }
                    4 | 5 => {
                        let wanted: Vec<u8> = model.drain(..n.min(model.len())).collect();
                        prop_assert_eq!(read(&mut buffer, n), wanted);
                    }
                    6 => {
                        let mut to = vec![0; n];
                        let (a, b) = to.split_at_mut(n / 3);
                        let got = buffer.peek(&mut [IoSliceMut::new(a), IoSliceMut::new(b)]);
                        prop_assert!(to[..got].iter().eq(model.iter().take(n)));
                    }
                    _ => {
                        let chunk = buffer.pop_chunk();
                        prop_assert_eq!(chunk.is_some(), !model.is_empty());
                        let bytes = chunk.as_ref().map_or(&[][..], Chunk::as_slice);
                        prop_assert!(bytes.iter().copied().eq(model.drain(..bytes.len())));
                    }
                }
                prop_assert_eq!((buffer.len(), buffer.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}
