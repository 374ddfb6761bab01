//! Bytes that the user wrote and the peer has not acknowledged, and the records that they form.
//!
//! A record is what Linux has a socket buffer for: bytes that were written one after the other and may
//! share a super-segment. Where a record ends decides which segments carry PSH, what `MSG_EOR` keeps
//! apart, and how much the queue is taken to cost.

#[cfg(any(test, feature = "simulation"))]
mod check;

use crate::buffer::{Chunk, FRONT, MAX_PIECES, Pool};
use crate::tcp::seq::Seq;
use arrayvec::ArrayVec;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

/// From this many bytes on in the queue, blocks are whole pooled buffers; below it they fit what is
/// written, so that small messages do not pin large buffers while they wait for acknowledgment.
const BULK: usize = 32 * 1024;

/// What the memory around a record's bytes counts for, in bytes: the empty buffer of Linux on 64 bits
/// (`sk_buff`, the room for headers and `skb_shared_info`), which `SO_SNDBUF` pays for as well.
const RECORD_COST: usize = 1280;

/// Places that an empty queue keeps.
const KEPT: usize = 8;

/// A piece that its owner shares is queued as it is from this many bytes on. Of smaller ones a super-segment could
/// not have enough, and to keep each would take more memory than it has bytes.
const SHARE: usize = 2 * 1024;

/// A queue of blocks. A block never moves while the connection is locked, so transmission borrows from it.
#[derive(Debug)]
pub(super) struct SendBuffer {
    blocks: VecDeque<Block>,
    /// The records, in order, without a gap. The first `sent` of them were sent.
    records: VecDeque<Record>,
    sent: usize,
    /// Records of the queue that [`Record::sealed`] says may not be joined with what follows.
    sealed: usize,
    /// Bytes of the blocks that are with their owner: no pool counts them.
    shared: usize,
    /// Position of the first byte that is still here: SND.UNA, but for SYN and FIN.
    start: Seq,
    /// Position after the last byte.
    end: Seq,
    /// Where large blocks come from and go to: the allocator would give their memory back to the
    /// operating system each time, and page faults would cost more than the copy.
    pool: Arc<Pool>,
}

/// The memory of a queue in which nothing is.
#[derive(Debug, Default)]
pub(in crate::tcp) struct SendPlaces {
    blocks: VecDeque<Block>,
    records: VecDeque<Record>,
}

#[derive(Debug)]
struct Block {
    /// Position of the first byte.
    start: Seq,
    data: Data,
}

/// Where the bytes of a block are.
#[derive(Debug)]
enum Data {
    /// In a buffer that more may be copied to.
    Copied(Chunk),
    /// With their owner, who has shared them.
    Shared(Bytes),
}

impl Data {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Copied(chunk) => chunk.as_slice(),
            Self::Shared(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Copied(chunk) => chunk.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Position after the last byte.
    end: Seq,
    /// Whether the segment that carries the last byte has PSH.
    push: bool,
    /// Whether no segment may carry the last byte and what follows (`MSG_EOR`).
    sealed: bool,
    /// Whether this is the part that was sent of what was one record with the next.
    cut: bool,
}

/// The first record that was not sent, or what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) struct Unsent {
    /// Bytes.
    pub(in crate::tcp) len: usize,
    /// Whether its last segment has PSH.
    pub(in crate::tcp) push: bool,
    /// Whether nothing may join it any more (`MSG_EOR`).
    pub(in crate::tcp) sealed: bool,
    /// Whether no other record follows, so that more may join it.
    pub(in crate::tcp) last: bool,
}

/// What is given to the device at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Unit {
    /// One segment.
    Segment,
    /// As many segments as it takes.
    SuperSegment,
}

impl SendBuffer {
    /// Empty; the first byte written will have position `start`.
    pub(super) fn new(start: Seq, pool: Arc<Pool>) -> Self {
        let (blocks, records) = (VecDeque::new(), VecDeque::new());
        Self { blocks, records, sent: 0, sealed: 0, shared: 0, start, end: start, pool }
    }

    /// Where large blocks come from.
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Whether it is as a new one that begins at its end.
    pub(super) fn is_at_rest(&self) -> bool {
        let Self { blocks, records, sent, sealed, shared, start, end, pool: _ } = self;
        blocks.is_empty() && records.is_empty() && (*sent, *sealed, *shared) == (0, 0, 0) && start == end
    }

    /// Bytes held.
    pub(super) fn len(&self) -> usize {
        self.end.since(self.start)
    }

    /// Position after the last byte.
    pub(super) fn end(&self) -> Seq {
        self.end
    }

    /// What the queue counts for against `SO_SNDBUF`, in bytes.
    pub(super) fn cost(&self) -> usize {
        self.len() + self.records.len() * RECORD_COST
    }

    /// Bytes that may join the last record, which grows to `goal` bytes. None if it was sent or sealed.
    pub(super) fn tail_room(&self, goal: usize) -> usize {
        match self.records.back() {
            Some(record) if self.sent < self.records.len() && !record.sealed => {
                goal.saturating_sub(record.end.since(self.start_of(self.records.len() - 1)))
            }
            _ => 0,
        }
    }

    /// Begins a record behind all others.
    pub(super) fn open_record(&mut self) {
        self.records.push_back(Record { end: self.end, push: false, sealed: false, cut: false });
    }

    /// Copies from `bufs` in order, from byte `skip` on and at most `max` bytes, to the end of the last
    /// record, or to a new one if that was sent, and returns how many.
    pub(super) fn write(&mut self, bufs: &[IoSlice<'_>], skip: usize, max: usize) -> usize {
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let wanted = total.saturating_sub(skip).min(max);
        let (mut skip, mut left) = (skip, wanted);
        for buf in bufs {
            let from = &buf[skip.min(buf.len())..];
            skip -= buf.len() - from.len();
            let from = &from[..from.len().min(left)];
            left -= from.len();
            self.copy(from, left);
        }
        self.extend_record(wanted);
        wanted
    }

    /// As [`SendBuffer::write`], of pieces that are shared and not copied, but for small ones.
    pub(super) fn share(&mut self, pieces: &[Bytes], skip: usize, max: usize) -> usize {
        let total: usize = pieces.iter().map(Bytes::len).sum();
        let wanted = total.saturating_sub(skip).min(max);
        let (mut skip, mut left) = (skip, wanted);
        for piece in pieces {
            let begin = skip.min(piece.len());
            skip -= begin;
            let end = begin + (piece.len() - begin).min(left);
            left -= end - begin;
            if end - begin < SHARE {
                self.copy(&piece[begin..end], left);
                continue;
            }
            self.shared += end - begin;
            self.blocks.push_back(Block { start: self.end, data: Data::Shared(piece.slice(begin..end)) });
            self.end += end - begin;
        }
        self.extend_record(wanted);
        wanted
    }

    /// Copies bytes to the end. Some more are going to follow.
    fn copy(&mut self, mut from: &[u8], more: usize) {
        while !from.is_empty() {
            let room = |block: &&mut Block| matches!(&block.data, Data::Copied(chunk) if chunk.spare() > 0);
            if self.blocks.back_mut().filter(room).is_none() {
                self.add_block(from.len() + more);
            }
            let Some(Block { data: Data::Copied(chunk), .. }) = self.blocks.back_mut() else {
                unreachable!("a block with room")
            };
            let n = chunk.append(from);
            self.end += n;
            from = &from[n..];
        }
    }

    /// Makes what was appended a part of the last record, or of a new one if that was sent.
    fn extend_record(&mut self, appended: usize) {
        if appended > 0 && self.sent == self.records.len() {
            self.open_record();
        }
        if let Some(record) = self.records.back_mut() {
            record.end = self.end;
        }
    }

    /// The last record ends in PSH if it is still to be sent.
    pub(super) fn push(&mut self) {
        if self.sent < self.records.len()
            && let Some(record) = self.records.back_mut()
        {
            record.push = true;
        }
    }

    /// Nothing joins the last record any more.
    pub(super) fn seal(&mut self) {
        if let Some(record) = self.records.back_mut()
            && !std::mem::replace(&mut record.sealed, true)
        {
            self.sealed += 1;
        }
    }

    /// The first record that was not sent.
    pub(super) fn unsent(&self) -> Option<Unsent> {
        let record = self.records.get(self.sent)?;
        Some(Unsent {
            len: record.end.since(self.start_of(self.sent)),
            push: record.push,
            sealed: record.sealed,
            last: self.sent + 1 == self.records.len(),
        })
    }

    /// Everything before `to` was sent. A record of which a part was sent becomes two, unless the
    /// device takes no more than a segment at a time: then its parts join again as they are sent, so
    /// that the record counts once.
    pub(super) fn on_sent(&mut self, to: Seq, unit: Unit) {
        let join = unit == Unit::Segment;
        while let Some(record) = self.records.get(self.sent) {
            let whole = record.end <= to;
            let begun = self.sent.checked_sub(1).filter(|before| join && self.records[*before].cut);
            match begun {
                Some(before) if whole => drop(self.records.remove(before)),
                Some(before) => self.records[before].end = self.records[before].end.max(to),
                None if whole => self.sent += 1,
                None if self.start_of(self.sent) < to => {
                    let front = Record { end: to, push: false, sealed: false, cut: true };
                    self.records.insert(self.sent, front);
                    self.sent += 1;
                }
                None => {}
            }
            if !whole {
                break;
            }
        }
    }

    /// How far a segment with bytes from `from` on may reach that is sent again, `to` at most: to the
    /// end of the record that it was a part of, as it was sent; or, if that is less than `mss` bytes,
    /// over as many records as it can take whole (RFC 9293 §3.8.1; `tcp_retrans_try_collapse`).
    pub(super) fn resend_end(&self, from: Seq, to: Seq, mss: usize) -> Seq {
        let first = self.records.partition_point(|record| record.end <= from);
        let mut end = from;
        for record in self.records.range(first..) {
            if end > from && record.end.since(from) > mss {
                break;
            }
            end = record.end;
            if record.sealed || end >= to {
                break;
            }
        }
        end.min(to)
    }

    /// The first seal from `from` on, if it is before `to`: no segment reaches beyond it.
    pub(super) fn sealed_end(&self, from: Seq, to: Seq) -> Seq {
        if self.sealed == 0 {
            return to;
        }
        let first = self.records.partition_point(|record| record.end <= from);
        let seal = self.records.range(first..).take_while(|record| record.end < to).find(|r| r.sealed);
        seal.map_or(to, |record| record.end)
    }

    /// Whether a segment that ends at `end` carries PSH.
    pub(super) fn is_pushed(&self, end: Seq) -> bool {
        let at = match self.records.len() {
            1 => 0,
            _ => self.records.partition_point(|record| record.end < end),
        };
        self.records.get(at).is_some_and(|record| record.end == end && record.push)
    }

    /// Position of the first byte of a record.
    fn start_of(&self, index: usize) -> Seq {
        index.checked_sub(1).map_or(self.start, |before| self.records[before].end.max(self.start))
    }

    fn add_block(&mut self, wanted: usize) {
        let data = if self.len() + wanted < BULK {
            self.pool.take_for(wanted).into_chunk(0, 0)
        } else {
            // Of 64 KiB, so that each of many writes of that size has a block of its own.
            self.pool.take().into_chunk(FRONT, FRONT)
        };
        self.blocks.push_back(Block { start: self.end, data: Data::Copied(data) });
    }

    /// Memory of the queues themselves, in bytes, and of the blocks that do not count in their pool.
    #[inline]
    pub(super) fn places(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>()
            + self.records.capacity() * size_of::<Record>()
            + self.shared
    }

    /// Replaces blocks that use little of their memory by copies of what is not acknowledged, and returns how
    /// many those were.
    pub(super) fn compact(&mut self) -> usize {
        let mut replaced = 0;
        for block in &mut self.blocks {
            // What is shared is its owner's memory, and stays.
            let Data::Copied(data) = &mut block.data else { continue };
            if block.start < self.start {
                data.advance(self.start.since(block.start));
                block.start = self.start;
            }
            if data.is_sparse() {
                *data = data.compacted();
                replaced += 1;
            }
        }
        replaced
    }

    /// Everything before `una` was acknowledged.
    pub(super) fn release(&mut self, una: Seq) {
        self.start = self.start.max(una.min(self.end));
        while let Some(block) = self.blocks.front() {
            if block.start + block.data.len() > self.start {
                break;
            }
            if let Some(Block { data: Data::Shared(bytes), .. }) = self.blocks.pop_front() {
                self.shared -= bytes.len();
            }
        }
        while let Some(record) = self.records.front()
            && record.end <= self.start
        {
            self.sealed -= usize::from(record.sealed);
            self.sent = self.sent.saturating_sub(1);
            self.records.pop_front();
        }
        if self.blocks.is_empty() && self.blocks.capacity().max(self.records.capacity()) > KEPT {
            self.blocks.shrink_to(KEPT);
            self.records.shrink_to(KEPT);
        }
    }

    /// Takes the memory of the queue itself, if nothing is in it.
    pub(super) fn take_places(&mut self) -> SendPlaces {
        if !self.blocks.is_empty() || !self.records.is_empty() {
            return SendPlaces::default();
        }
        SendPlaces { blocks: std::mem::take(&mut self.blocks), records: std::mem::take(&mut self.records) }
    }

    /// Uses this memory, if there is none.
    pub(super) fn use_places(&mut self, places: SendPlaces) {
        if self.blocks.capacity() + self.records.capacity() == 0 {
            (self.blocks, self.records) = (places.blocks, places.records);
        }
    }

    /// How many of the bytes from `from` on fit into [`MAX_PIECES`] pieces, at most `max`.
    pub(super) fn contiguous(&self, from: Seq, max: usize) -> usize {
        let first = self.block_of(from);
        let last = self.blocks.get((first + MAX_PIECES).min(self.blocks.len()).wrapping_sub(1));
        last.map_or(0, |block| (block.start + block.data.len()).since(from)).min(max)
    }

    /// The bytes from `from` to `to`, in pieces.
    ///
    /// # Panics
    /// If they are not all here or do not fit into [`MAX_PIECES`] pieces.
    pub(super) fn slices<'a>(&'a self, from: Seq, to: Seq, pieces: &mut ArrayVec<&'a [u8], MAX_PIECES>) {
        assert!(self.start <= from && to <= self.end, "bytes that are not in the send buffer");
        let (mut at, mut next) = (from, self.block_of(from));
        while at < to
            && let Some(block) = self.blocks.get(next)
        {
            let offset = at.since(block.start);
            let n = to.since(at).min(block.data.len() - offset);
            pieces.push(&block.data.as_slice()[offset..offset + n]);
            (at, next) = (at + n, next + 1);
        }
    }

    /// Index of the block that holds `position`.
    fn block_of(&self, position: Seq) -> usize {
        // Mostly what was written last is asked for.
        if self.blocks.back().is_some_and(|block| block.start <= position) {
            return self.blocks.len() - 1;
        }
        self.blocks.partition_point(|block| block.start <= position).saturating_sub(1)
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.records.clear();
        (self.sent, self.sealed, self.shared) = (0, 0, 0);
        self.start = self.end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SeqNum;
    use proptest::prelude::*;

    fn start() -> Seq {
        Seq::initial(SeqNum::new(u32::MAX - 1000))
    }

    /// Memory of a block that was copied.
    fn capacity(data: &Data) -> usize {
        match data {
            Data::Copied(chunk) => chunk.capacity(),
            Data::Shared(_) => 0,
        }
    }

    fn collect(buffer: &SendBuffer, from: Seq, to: Seq) -> Vec<u8> {
        let mut pieces = ArrayVec::new();
        buffer.slices(from, to, &mut pieces);
        pieces.concat()
    }

    #[test]
    fn a_large_piece_is_shared_and_a_small_one_copied() {
        let mut buffer = SendBuffer::new(start(), Pool::new());
        let large = Bytes::from(vec![1; 2 * SHARE]);
        let small = Bytes::from(vec![2; SHARE - 1]);
        let all = [small.clone(), large.clone(), small];
        // Cut within the large piece, as a record is.
        assert_eq!(buffer.share(&all, 0, 2 * SHARE), 2 * SHARE);
        assert_eq!(buffer.share(&all, 2 * SHARE, usize::MAX), 2 * SHARE - 2);
        drop(all);
        let mut expected = vec![2; SHARE - 1];
        expected.extend(vec![1; 2 * SHARE]);
        expected.extend(vec![2; SHARE - 1]);
        assert!(collect(&buffer, start(), start() + expected.len()) == expected);
        assert_eq!(buffer.blocks[1].data.as_slice().as_ptr(), large.as_ptr());
        assert!(!large.is_unique());
        buffer.compact();
        assert_eq!(buffer.blocks[1].data.as_slice().as_ptr(), large.as_ptr(), "what is shared stays");
        buffer.release(start() + expected.len());
        assert!(large.is_unique());
    }

    #[test]
    fn a_gathered_write_is_cut_at_the_limit() {
        let mut buffer = SendBuffer::new(start(), Pool::new());
        let wrote = buffer.write(&[IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defg")], 0, 5);
        assert_eq!(wrote, 5);
        assert_eq!(collect(&buffer, start(), start() + 5), b"abcde");
    }

    #[test]
    fn compacting_leaves_what_is_not_acknowledged() {
        let mut buffer = SendBuffer::new(start(), Pool::new());
        let sent: Vec<u8> = (0..150_000u32).map(|n| (n % 251) as u8).collect();
        buffer.write(&[IoSlice::new(&sent)], 0, usize::MAX);
        buffer.release(start() + 60_000);
        let memory =
            |buffer: &SendBuffer| buffer.blocks.iter().map(|block| capacity(&block.data)).sum::<usize>();
        let before = memory(&buffer);
        assert!(buffer.compact() > 0 && memory(&buffer) < before, "{} of {before}", memory(&buffer));
        buffer.write(&[IoSlice::new(&sent[..100])], 0, usize::MAX);
        let (from, to) = (start() + 60_000, start() + 150_100);
        assert_eq!(collect(&buffer, from, to), [&sent[60_000..], &sent[..100]].concat());
        buffer.release(start() + 150_100);
        assert!(buffer.blocks.is_empty() && buffer.records.is_empty());
    }

    #[test]
    fn small_writes_share_a_block() {
        let mut buffer = SendBuffer::new(start(), Pool::new());
        for _ in 0..1000 {
            buffer.write(&[IoSlice::new(b"x")], 0, usize::MAX);
        }
        assert_eq!(buffer.blocks.len(), 1);
        buffer.release(start() + 1000);
        assert!(buffer.len() == 0 && buffer.blocks.is_empty());
        assert_eq!(buffer.start, start() + 1000);
    }

    #[test]
    fn large_blocks_come_from_the_pool_and_go_back() {
        let mut buffer = SendBuffer::new(start(), Pool::new());
        buffer.write(&[IoSlice::new(&[1; 100_000])], 0, usize::MAX);
        let address = buffer.blocks[0].data.as_slice().as_ptr();
        buffer.release(start() + 100_000);
        assert!(buffer.blocks.is_empty(), "an idle connection holds nothing");
        let mut taken = vec![buffer.pool.take(), buffer.pool.take()];
        assert!(taken.iter().any(|block| block.bytes()[FRONT..].as_ptr() == address));
        taken.clear();
    }

    /// A buffer with records of these lengths, none of them sent.
    fn records(lengths: &[usize]) -> SendBuffer {
        let mut buffer = SendBuffer::new(start(), Pool::new());
        for len in lengths {
            buffer.open_record();
            buffer.write(&[IoSlice::new(&vec![1; *len])], 0, usize::MAX);
        }
        buffer
    }

    #[test]
    fn a_record_that_was_begun_is_two_or_counts_once_again_when_it_is_sent() {
        for (unit, pieces) in [(Unit::SuperSegment, [2, 3, 3]), (Unit::Segment, [2, 2, 1])] {
            let mut buffer = records(&[3000]);
            for (end, pieces) in [1000, 2000, 3000].into_iter().zip(pieces) {
                buffer.on_sent(start() + end, unit);
                assert_eq!(buffer.records.len(), pieces);
            }
            assert_eq!(buffer.unsent(), None);
            assert_eq!(buffer.cost(), 3000 + pieces[2] * RECORD_COST);
            buffer.write(&[IoSlice::new(&[1; 5])], 0, usize::MAX);
            assert_eq!(buffer.unsent().map(|unsent| unsent.len), Some(5), "nothing joins what was sent");
        }
        let mut buffer = records(&[1000, 3000]);
        buffer.on_sent(start() + 1000, Unit::Segment);
        buffer.on_sent(start() + 2000, Unit::Segment);
        assert_eq!(buffer.records.len(), 3, "what was a record stays one");
        buffer.push();
        assert_eq!(buffer.unsent(), Some(Unsent { len: 2000, push: true, sealed: false, last: true }));
        buffer.release(start() + 1500);
        assert_eq!((buffer.sent, buffer.tail_room(2500)), (1, 500));
    }

    #[test]
    fn a_segment_that_is_sent_again_is_a_part_of_what_was_sent() {
        let mut buffer = records(&[2000, 300, 300, 500]);
        let at = |n| start() + n;
        let end = |buffer: &SendBuffer, from, mss| buffer.resend_end(at(from), at(3100), mss).since(start());
        assert_eq!(end(&buffer, 0, 1000), 2000);
        assert_eq!(end(&buffer, 1500, 1000), 2300, "what fits whole is joined");
        assert_eq!(end(&buffer, 2000, 1000), 2600);
        assert_eq!(end(&buffer, 2000, 2000), 3100);
        assert_eq!(end(&buffer, 2000, 100), 2300);
        buffer.records[1].sealed = true;
        buffer.sealed = 1;
        assert_eq!(end(&buffer, 2000, 1000), 2300);
        assert_eq!(buffer.sealed_end(at(0), at(3100)), at(2300));
        assert_eq!(buffer.sealed_end(at(0), at(2300)), at(2300));
        buffer.release(at(2300));
        assert_eq!(buffer.sealed, 0);
    }

    proptest! {
        #[test]
        fn it_is_a_byte_queue(steps in prop::collection::vec((1usize..9000, 0usize..9000, 0usize..5000), 1..60)) {
            let mut buffer = SendBuffer::new(start(), Pool::new());
            let mut model: Vec<u8> = Vec::new();
            let mut base = 0;
            for (i, (write, release, look)) in steps.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..write).map(|b| (b ^ i) as u8).collect();
                prop_assert_eq!(buffer.write(&[IoSlice::new(&bytes)], 0, usize::MAX), write);
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
