//! Bytes that the user wrote and the peer has not acknowledged.

use super::seq::Seq;
use crate::device::MAX_PIECES;
use arrayvec::ArrayVec;
use std::collections::VecDeque;
use std::io::IoSlice;

/// The largest block, in bytes: one super-segment's worth.
const MAX_BLOCK: usize = 64 * 1024;

/// The smallest block, in bytes.
const MIN_BLOCK: usize = 2 * 1024;

/// Emptied blocks that are kept for the next write.
const SPARE_BLOCKS: usize = 2;

/// A queue of blocks. A block never moves, so transmission borrows from it.
#[derive(Debug)]
pub(super) struct SendBuffer {
    blocks: VecDeque<Block>,
    /// Position of the first byte that is still here: SND.UNA, but for SYN and FIN.
    start: Seq,
    /// Position after the last byte.
    end: Seq,
    /// Memory of emptied blocks.
    spare: ArrayVec<Vec<u8>, SPARE_BLOCKS>,
}

#[derive(Debug)]
struct Block {
    /// Position of the first byte.
    start: Seq,
    data: Vec<u8>,
}

impl SendBuffer {
    /// Empty; the first byte written will have position `start`.
    pub(super) fn new(start: Seq) -> Self {
        Self { blocks: VecDeque::new(), start, end: start, spare: ArrayVec::new() }
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.end.since(self.start)
    }

    /// Position after the last byte.
    pub(super) fn end(&self) -> Seq {
        self.end
    }

    /// Copies from `bufs` in order, at most `max` bytes, and returns how many.
    pub(super) fn write(&mut self, bufs: &[IoSlice<'_>], max: usize) -> usize {
        let wanted = bufs.iter().map(|buf| buf.len()).sum::<usize>().min(max);
        let mut left = wanted;
        for buf in bufs {
            let mut from = &buf[..buf.len().min(left)];
            left -= from.len();
            while !from.is_empty() {
                let room = self.blocks.back().map_or(0, |block| block.data.capacity() - block.data.len());
                if room == 0 {
                    self.add_block(from.len() + left);
                    continue;
                }
                let n = room.min(from.len());
                let block = self.blocks.back_mut().expect("a block with room");
                block.data.extend_from_slice(&from[..n]);
                self.end += n;
                from = &from[n..];
            }
        }
        wanted
    }

    fn add_block(&mut self, wanted: usize) {
        // The first block fits what is written; a queue that keeps growing gets large blocks.
        let floor = if self.blocks.is_empty() { MIN_BLOCK } else { 8 * MIN_BLOCK };
        let capacity = wanted.clamp(floor, MAX_BLOCK);
        let fits = self.spare.iter().position(|spare| spare.capacity() >= capacity);
        let data = match fits {
            Some(i) => self.spare.swap_remove(i),
            None => Vec::with_capacity(capacity),
        };
        self.blocks.push_back(Block { start: self.end, data });
    }

    /// Everything before `una` was acknowledged.
    pub(super) fn release(&mut self, una: Seq) {
        self.start = self.start.max(una.min(self.end));
        while let Some(block) = self.blocks.front() {
            if block.start + block.data.len() > self.start {
                break;
            }
            let mut data = self.blocks.pop_front().expect("looked at it").data;
            data.clear();
            if !self.spare.is_full() {
                self.spare.push(data);
            }
        }
        if self.blocks.is_empty() {
            // An idle connection holds no more than the next small message needs.
            self.spare.retain(|spare| spare.capacity() <= 2 * MIN_BLOCK);
            self.spare.truncate(1);
        }
    }

    /// How many of the bytes from `from` on fit into [`MAX_PIECES`] pieces, at most `max`.
    pub(super) fn contiguous(&self, from: Seq, max: usize) -> usize {
        let first = self.block_of(from);
        let last = self.blocks.range(first..).take(MAX_PIECES).next_back();
        last.map_or(0, |block| (block.start + block.data.len()).since(from)).min(max)
    }

    /// The bytes from `from` to `to`, in pieces.
    ///
    /// # Panics
    /// If they are not all here or do not fit into [`MAX_PIECES`] pieces.
    pub(super) fn slices<'a>(&'a self, from: Seq, to: Seq, pieces: &mut ArrayVec<&'a [u8], MAX_PIECES>) {
        assert!(self.start <= from && to <= self.end, "bytes that are not in the send buffer");
        let mut at = from;
        for block in self.blocks.range(self.block_of(from)..) {
            if at >= to {
                break;
            }
            let offset = at.since(block.start);
            let n = to.since(at).min(block.data.len() - offset);
            pieces.push(&block.data[offset..offset + n]);
            at += n;
        }
    }

    /// Index of the block that holds `position`.
    fn block_of(&self, position: Seq) -> usize {
        self.blocks.partition_point(|block| block.start <= position).saturating_sub(1)
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.spare.clear();
        self.start = self.end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::seq::SeqNum;
    use proptest::prelude::*;

    fn start() -> Seq {
        Seq::initial(SeqNum::new(u32::MAX - 1000))
    }

    fn collect(buffer: &SendBuffer, from: Seq, to: Seq) -> Vec<u8> {
        let mut pieces = ArrayVec::new();
        buffer.slices(from, to, &mut pieces);
        pieces.concat()
    }

    #[test]
    fn a_gathered_write_is_cut_at_the_limit() {
        let mut buffer = SendBuffer::new(start());
        let wrote = buffer.write(&[IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defg")], 5);
        assert_eq!(wrote, 5);
        assert_eq!(collect(&buffer, start(), start() + 5), b"abcde");
    }

    #[test]
    fn small_writes_share_a_block_and_memory_is_used_again() {
        let mut buffer = SendBuffer::new(start());
        for _ in 0..1000 {
            buffer.write(&[IoSlice::new(b"x")], usize::MAX);
        }
        assert_eq!(buffer.blocks.len(), 1);
        buffer.release(start() + 1000);
        assert!(buffer.len() == 0 && buffer.blocks.is_empty());
        assert_eq!(buffer.spare.len(), 1);
        buffer.write(&[IoSlice::new(b"y")], usize::MAX);
        assert!(buffer.spare.is_empty());
    }

    #[test]
    fn an_idle_buffer_holds_nothing_large() {
        let mut buffer = SendBuffer::new(start());
        buffer.write(&[IoSlice::new(&[1; 100_000])], usize::MAX);
        buffer.release(start() + 100_000);
        assert!(buffer.blocks.is_empty() && buffer.spare.is_empty());
    }

    proptest! {
        #[test]
        fn it_is_a_byte_queue(steps in prop::collection::vec((1usize..9000, 0usize..9000, 0usize..5000), 1..60)) {
            let mut buffer = SendBuffer::new(start());
            let mut model: Vec<u8> = Vec::new();
            let mut base = 0;
            for (i, (write, release, look)) in steps.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..write).map(|b| (b ^ i) as u8).collect();
                prop_assert_eq!(buffer.write(&[IoSlice::new(&bytes)], usize::MAX), write);
                model.extend(&bytes);
                let release = release.min(model.len());
                buffer.release(start() + base + release);
                model.drain(..release);
                base += release;
                prop_assert_eq!(buffer.len(), model.len());
                let from = look.min(model.len());
                let n = buffer.contiguous(start() + base + from, model.len() - from);
                let got = collect(&buffer, start() + base + from, start() + base + from + n);
                prop_assert_eq!(&got[..], &model[from..from + n]);
            }
        }
    }
}
