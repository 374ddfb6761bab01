//! Bytes that arrived out of order (RFC 9293 SHLD-31), and the SACK blocks that describe them.

#[cfg(any(test, feature = "simulation"))]
mod check;

use super::recv_buffer::{CHUNK_OVERHEAD, worth_keeping};
use crate::buffer::Chunk;
use crate::memory::tree;
use crate::tcp::compact::{Compact, Reader, Writer};
use crate::tcp::seq::Seq;
use crate::wire::MAX_SACK_BLOCKS;
use arrayvec::ArrayVec;
use std::collections::BTreeMap;

/// Holes that one segment fills at most. What comes behind them counts as not received, and comes again. A
/// super-segment of 64 KiB is 45 segments of an ordinary size; one that lies over thousands of holes is made up to
/// cost time.
const MOST_HOLES: usize = 64;

/// Out-of-order data. The first copy of a byte wins; a later one is dropped.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// Start of each queued chunk. Chunks do not overlap.
    data: BTreeMap<Seq, Chunk>,
    /// Start and end of each run of queued bytes. Runs neither overlap nor touch: looking for
    /// holes costs one look per run, however many chunks make it up.
    runs: BTreeMap<Seq, Seq>,
    /// A position inside each of the runs that changed last, latest first (RFC 2018 §4).
    recent: ArrayVec<Seq, MAX_SACK_BLOCKS>,
    /// Memory held, in bytes.
    truesize: usize,
    /// Queued bytes.
    len: usize,
}

type Holes = ArrayVec<(Seq, Seq), MOST_HOLES>;

/// What became of a chunk that was given to the assembler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inserted {
    /// Bytes that were new.
    pub new_bytes: usize,
    /// The first run of bytes that were here already: what a DSACK reports (RFC 2883 §4).
    pub duplicate: Option<(Seq, Seq)>,
}

impl Compact for Assembler {
    /// The rest of an empty one.
    fn write(&self, to: &mut Writer) {
        let Self { data, runs, recent, truesize, len } = self;
        debug_assert!(data.is_empty() && runs.is_empty() && (*truesize, *len) == (0, 0));
        recent.len().write(to);
        recent.iter().for_each(|position| position.write(to));
    }

    fn read(from: &mut Reader<'_>) -> Self {
        let recent = (0..usize::read(from)).take(MAX_SACK_BLOCKS).map(|_| Seq::read(from)).collect();
        Self { recent, ..Self::default() }
    }
}

impl Assembler {
    /// Whether nothing is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Queued bytes.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Memory of the maps, in bytes: the chunks count in their pool.
    #[inline]
    pub(super) fn places(&self) -> usize {
        if self.data.is_empty() { 0 } else { self.larger_places() }
    }

    #[cold]
    fn larger_places(&self) -> usize {
        tree(self.data.len(), size_of::<(Seq, Chunk)>()) + tree(self.runs.len(), size_of::<(Seq, Seq)>())
    }

    /// Gives up what is furthest behind the first hole until no more than `limit` bytes of memory are held, and
    /// returns how many bytes of data that were (`tcp_prune_ofo_queue` in Linux). SACK is advisory: the sender
    /// has kept them (RFC 2018 §8).
    pub(super) fn prune(&mut self, limit: usize) -> usize {
        let before = self.len;
        while self.truesize > limit
            && let Some((start, chunk)) = self.data.pop_last()
        {
            self.truesize -= chunk.capacity() + CHUNK_OVERHEAD;
            self.len -= chunk.len();
            let (run_start, _) = self.runs.pop_last().expect("a run ends where the last chunk does");
            if run_start < start {
                self.runs.insert(run_start, start);
            }
        }
        before - self.len
    }

    /// Memory held, in bytes.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn truesize(&self) -> usize {
        self.truesize
    }

    /// Whether a byte of `start..end` is not queued.
    pub(super) fn lacks(&self, start: Seq, end: Seq) -> bool {
        // Runs do not touch: at most one of them can cover all of it.
        start < end && self.run_at(start).is_none_or(|(_, run_end)| run_end < end)
    }

    /// The first part of what is before `end` and queued.
    pub(super) fn first_before(&self, end: Seq) -> Option<(Seq, Seq)> {
        let (&start, &run_end) = self.runs.first_key_value()?;
        (start < end).then(|| (start, end.min(run_end)))
    }

    /// The run that holds `position` or ends there.
    pub(super) fn ending_after(&self, position: Seq) -> Option<(Seq, Seq)> {
        let (&start, &end) = self.runs.range(..=position).next_back()?;
        (position <= end).then_some((start, end))
    }

    /// The end of the highest run.
    pub(super) fn highest(&self) -> Option<Seq> {
        self.runs.last_key_value().map(|(_, end)| *end)
    }

    /// Queues `chunk`, whose first byte has position `start`; `limit` bounds the memory held.
    ///
    /// Data that would cross the limit is dropped, as the sender must be ready for: SACK is
    /// advisory only once data is acknowledged cumulatively, so nothing already queued is dropped.
    pub(super) fn insert(&mut self, start: Seq, chunk: Chunk, limit: usize) -> Inserted {
        let end = start + chunk.len();
        let mut result = Inserted { new_bytes: 0, duplicate: None };
        let holes = self.holes(start, end, &mut result.duplicate);
        let Some(&(first, _)) = holes.first() else {
            self.touch(start);
            return result;
        };
        match holes.as_slice() {
            [(hole_start, hole_end)] => {
                let mut chunk = chunk;
                chunk.advance(hole_start.since(start));
                chunk.truncate(hole_end.since(*hole_start));
                result.new_bytes += self.store(*hole_start, chunk, limit);
            }
            holes => {
                for (hole_start, hole_end) in holes {
                    let within = hole_start.since(start)..hole_end.since(start);
                    let bytes = chunk.as_slice().get(within).unwrap_or_default();
                    let stored = self.store(*hole_start, chunk.copy_of(bytes), limit);
                    if stored == 0 {
                        break;
                    }
                    result.new_bytes += stored;
                }
            }
        }
        if result.new_bytes > 0 {
            self.touch(start.max(first));
        }
        result
    }

    /// The first parts of `start..end` that are not queued, in order, and the first part that is.
    fn holes(&self, start: Seq, end: Seq, duplicate: &mut Option<(Seq, Seq)>) -> Holes {
        let mut holes = Holes::new();
        let mut at = start;
        let before = self.runs.range(..=start).next_back();
        for (&run_start, &run_end) in before.into_iter().chain(self.runs.range(start..end)) {
            if run_end <= at || run_start >= end {
                continue;
            }
            duplicate.get_or_insert((run_start.max(start), run_end.min(end)));
            if run_start > at {
                holes.push((at, run_start));
                if holes.is_full() {
                    return holes;
                }
            }
            at = run_end;
        }
        if at < end {
            holes.push((at, end));
        }
        holes
    }

    /// Queues a chunk that fills part of one hole. Returns its length, or 0 if there is no memory.
    fn store(&mut self, start: Seq, chunk: Chunk, limit: usize) -> usize {
        let len = chunk.len();
        let end = start + len;
        if !self.append_to_previous(start, &chunk) {
            let chunk = if worth_keeping(&chunk) { chunk } else { chunk.compacted() };
            let cost = chunk.capacity() + CHUNK_OVERHEAD;
            if self.truesize + cost > limit {
                return 0;
            }
            self.truesize += cost;
            self.data.insert(start, chunk);
        }
        self.len += len;
        let mut run = (start, end);
        if let Some((&before, &before_end)) = self.runs.range(..start).next_back()
            && before_end == start
        {
            run.0 = before;
        }
        if let Some(after_end) = self.runs.remove(&end) {
            run.1 = after_end;
        }
        self.runs.insert(run.0, run.1);
        len
    }

    /// Copies a small chunk into the room behind the one that it follows.
    fn append_to_previous(&mut self, start: Seq, chunk: &Chunk) -> bool {
        let Some((&before, previous)) = self.data.range_mut(..start).next_back() else { return false };
        before + previous.len() == start
            && previous.spare() >= chunk.len()
            && previous.append(chunk.as_slice()) == chunk.len()
    }

    /// Remembers that the run at `position` was reported last.
    fn touch(&mut self, position: Seq) {
        let Some(run) = self.run_at(position) else { return };
        let runs = &self.runs;
        self.recent.retain(|p| !(run.0 <= *p && *p < run.1) && run_at(runs, *p).is_some());
        if self.recent.is_full() {
            self.recent.pop();
        }
        self.recent.insert(0, run.0);
    }

    fn run_at(&self, position: Seq) -> Option<(Seq, Seq)> {
        run_at(&self.runs, position)
    }

    /// Takes the chunk that begins at `next`, if there is one. Call it until there is none.
    pub(super) fn pop_at(&mut self, next: Seq) -> Option<Chunk> {
        let entry = self.data.first_entry()?;
        if *entry.key() != next {
            return None;
        }
        let chunk = entry.remove();
        self.truesize -= chunk.capacity() + CHUNK_OVERHEAD;
        self.len -= chunk.len();
        let end = next + chunk.len();
        let run_end = self.runs.remove(&next).expect("a run begins where the first chunk does");
        if run_end > end {
            self.runs.insert(end, run_end);
        }
        Some(chunk)
    }

    /// Drops what is before `next`: bytes that arrived in order after all.
    pub(super) fn drop_before(&mut self, next: Seq) {
        while let Some(entry) = self.data.first_entry() {
            let start = *entry.key();
            if start >= next {
                break;
            }
            let mut chunk = entry.remove();
            let end = start + chunk.len();
            self.truesize -= chunk.capacity() + CHUNK_OVERHEAD;
            self.len -= chunk.len();
            let run_end = self.runs.remove(&start).expect("a run begins where the first chunk does");
            if end > next {
                chunk.advance(next.since(start));
                self.truesize += chunk.capacity() + CHUNK_OVERHEAD;
                self.len += chunk.len();
                self.data.insert(next, chunk);
                self.runs.insert(next, run_end);
            } else if run_end > end {
                self.runs.insert(end, run_end);
            }
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The runs that SACK blocks report: the one that changed last first, then those before it, then the
    /// lowest ones (RFC 2018 §4).
    pub(super) fn latest_runs(&self, max: usize) -> ArrayVec<(Seq, Seq), MAX_SACK_BLOCKS> {
        let mut latest = ArrayVec::new();
        let known = self.recent.iter().filter_map(|position| self.run_at(*position));
        let lowest = self.runs.iter().map(|(start, end)| (*start, *end)).take(MAX_SACK_BLOCKS);
        for run in known.chain(lowest) {
            if latest.len() == max.min(MAX_SACK_BLOCKS) {
                break;
            }
            if !latest.contains(&run) {
                latest.push(run);
            }
        }
        latest
    }

    /// The run that holds `position`, if it is queued.
    pub(super) fn containing(&self, position: Seq) -> Option<(Seq, Seq)> {
        self.run_at(position)
    }
}

fn run_at(runs: &BTreeMap<Seq, Seq>, position: Seq) -> Option<(Seq, Seq)> {
    let (&start, &end) = runs.range(..=position).next_back()?;
    (position < end).then_some((start, end))
}

#[cfg(test)]
mod tests;
