//! What was sent and what became of it: one record for each range of sequence space in flight.
//!
//! Records cover SND.UNA to SND.NXT without gaps. A record is a range that was sent at one moment,
//! up to a super-segment and more; SACK blocks split it, but only at multiples of the MSS from its
//! start (as Linux does), so that a hostile peer cannot shred the window into bytes. Runs of SACKed
//! records grow together. Every operation costs O(log n), amortised over the records it changes.
//!
//! A peer with an MSS of 48 bytes could still make a record of every 36 of them (CVE-2019-11478). So there is a limit
//! to the records of a window ([`Scoreboard::is_shredded`]), which no peer with an ordinary MSS comes to. At the
//! limit SACK blocks count only as far as they cover whole records, and what is sent again joins what was sent
//! again before it: coarser, and still right.

#[cfg(any(test, feature = "simulation"))]
mod check;
mod plain;
mod progress;
#[cfg(test)]
mod tests;

pub(super) use plain::PlainlyAcked;
pub(super) use progress::{Delivered, Progress, RackSample};

use progress::By;

use crate::memory::{block, tree};
use crate::tcp::compact::{Compact, Reader, Writer};
use crate::tcp::delivery_rate::{DeliveryRate, LossSample, RateSample, Stamp};
use crate::tcp::seq::Seq;
use crate::time::{Duration, Instant};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Ticks by which a timestamp may be older than the latest and is still accepted by Linux (`TCP_PAWS_WINDOW`).
const PAWS_TICKS: u64 = 1;

/// Bytes in flight for each record that there may be: a record takes about 160 bytes of memory.
const BYTES_PER_RECORD: usize = 512;

/// Records that there may be in any window.
const RECORDS_AT_LEAST: usize = 512;

/// Places for records that an empty table keeps until it is trimmed.
const KEPT: usize = 4;

/// The ranges in flight.
#[derive(Debug, Default)]
pub(in crate::tcp) struct Scoreboard {
    /// What was sent last, once each, and of which nothing is known since: as long as nothing is missing, all there
    /// is. By their first sequence number, which is also the order in which they left. What asks for more than the
    /// two ends of it has it put in order with the rest first, by [`Scoreboard::file`].
    fresh: VecDeque<(Seq, Record)>,
    /// The records before those. None while there are none, as mostly.
    filed: Option<Box<Filed>>,
    /// Bytes in all records.
    outstanding: usize,
    /// Bytes in SACKed records.
    sacked: usize,
    /// The end of the highest range that was ever SACKed; means nothing while none is.
    highest_sacked: Option<Seq>,
    /// Bytes in lost records.
    lost_bytes: usize,
    /// Bytes in records that are in flight again because they were lost.
    retransmitted: usize,
    /// How fast it is delivered.
    rate: DeliveryRate,
    /// What was found lost since the last [`Scoreboard::take_losses`].
    losses: Vec<LossSample>,
    /// Records that were inserted so far: what the work of an acknowledgment is measured by.
    #[cfg(test)]
    inserted: usize,
}

/// The memory of a table in which nothing is.
#[derive(Debug, Default)]
pub(in crate::tcp) struct BoardPlaces(VecDeque<(Seq, Record)>);

impl Scoreboard {
    /// Whether there are no records, and nothing waits to be told.
    pub(super) fn is_at_rest(&self) -> bool {
        self.fresh.is_empty() && self.filed.is_none() && self.losses.is_empty()
    }
}

impl Compact for Scoreboard {
    /// The rest of an empty one.
    fn write(&self, to: &mut Writer) {
        let Self {
            fresh,
            filed,
            outstanding,
            sacked,
            highest_sacked,
            lost_bytes,
            retransmitted,
            rate,
            losses,
            #[cfg(test)]
            inserted,
        } = self;
        debug_assert!(fresh.is_empty() && filed.is_none() && losses.is_empty());
        debug_assert_eq!((*outstanding, *sacked, *lost_bytes, *retransmitted), (0, 0, 0, 0));
        highest_sacked.write(to);
        rate.write(to);
        #[cfg(test)]
        inserted.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        let (highest_sacked, rate) = Compact::read(from);
        Self {
            highest_sacked,
            rate,
            #[cfg(test)]
            inserted: Compact::read(from),
            ..Self::default()
        }
    }
}

/// Records of which something may be known.
#[derive(Debug, Default)]
struct Filed {
    /// By their first sequence number.
    records: BTreeMap<Seq, Record>,
    /// Those of them that are in flight, the longest-sent first.
    by_time: BTreeSet<(Instant, Seq)>,
    /// Those that are lost and were not retransmitted since.
    lost: BTreeSet<Seq>,
}

/// No records.
static NOTHING: Filed = Filed { records: BTreeMap::new(), by_time: BTreeSet::new(), lost: BTreeSet::new() };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    /// The sequence number after the last.
    end: Seq,
    /// When it was last sent.
    sent_at: Instant,
    /// Where its first segment began, and the MSS that it was sent with, in bytes: its inner borders
    /// are whole segments from there, also when a peer acknowledged a part of the first.
    base: Seq,
    mss: u32,
    /// How often it was sent again, or more often than can be counted.
    retransmissions: u16,
    /// Whether what is in flight is the repair of a loss. The tail loss probe repeats something that is
    /// not thought to be lost.
    repair: bool,
    fate: Fate,
    /// What was delivered when it was last sent.
    stamp: Stamp,
}

impl Record {
    fn mss(&self) -> usize {
        self.mss as usize
    }

    fn border_at_or_after(&self, at: Seq) -> Seq {
        self.base + at.since(self.base).div_ceil(self.mss()) * self.mss()
    }

    fn border_at_or_before(&self, at: Seq) -> Seq {
        self.base + at.since(self.base) / self.mss() * self.mss()
    }

    /// This SACKed record and the one behind it in one.
    fn join(&self, next: &Self) -> Self {
        Self { end: next.end, retransmissions: self.retransmissions.max(next.retransmissions), ..*self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    InFlight,
    Sacked,
    Lost,
}

/// What is sent again, in segments of `mss` bytes.
struct Again {
    start: Seq,
    end: Seq,
    mss: usize,
    /// Whether it repairs a loss.
    repair: bool,
}

/// The first range in flight.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Head {
    /// When it was last sent.
    pub(in crate::tcp) sent_at: Instant,
    /// Whether it was ever sent again.
    pub(super) retransmitted: bool,
    /// Whether the peer SACKed it, which makes no sense of what is next to be acknowledged: it has
    /// dropped it (RFC 2018 §8).
    pub(super) sacked: bool,
}

/// What RACK found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Bytes newly marked.
    pub(super) lost: usize,
    /// Whether retransmissions are among them.
    pub(super) again: bool,
    /// When all will be due that is not marked yet although something sent later was delivered.
    pub(super) next: Option<Instant>,
}

impl Scoreboard {
    /// Bytes between SND.UNA and SND.NXT.
    pub(in crate::tcp) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Its memory, in bytes.
    #[inline]
    pub(in crate::tcp) fn places(&self) -> usize {
        // Asked for after every segment, and mostly this is all.
        let fresh = block(self.fresh.capacity() * size_of::<(Seq, Record)>());
        if self.filed.is_none() { fresh } else { fresh + self.filed_places() }
    }

    /// The records that are not fresh.
    #[inline]
    fn filed(&self) -> &Filed {
        self.filed.as_deref().unwrap_or(&NOTHING)
    }

    #[cold]
    fn filed_places(&self) -> usize {
        block(size_of::<Filed>())
            + tree(self.filed().records.len(), size_of::<(Seq, Record)>())
            + tree(self.filed().by_time.len(), size_of::<(Instant, Seq)>())
            + tree(self.filed().lost.len(), size_of::<Seq>())
    }

    /// Bytes that are thought to be in the network (RFC 6675's pipe).
    pub(in crate::tcp) fn pipe(&self) -> usize {
        self.outstanding - self.sacked - self.lost_bytes
    }

    /// SACKed bytes.
    pub(in crate::tcp) fn sacked(&self) -> usize {
        self.sacked
    }

    /// Lost bytes that were not retransmitted yet.
    pub(in crate::tcp) fn lost(&self) -> usize {
        self.lost_bytes
    }

    /// Bytes in flight that are retransmissions.
    pub(in crate::tcp) fn retransmitted(&self) -> usize {
        self.retransmitted
    }

    /// How fast what was sent is delivered.
    pub(in crate::tcp) fn rate(&self) -> &DeliveryRate {
        &self.rate
    }

    /// From now on, until what is in flight is acknowledged, the delivery rate does not show the
    /// path's; `pipe` bytes are in the network.
    pub(super) fn mark_app_limited(&mut self, pipe: usize) {
        self.rate.mark_app_limited(pipe);
    }

    /// The delivery rate that an acknowledgment which made this progress shows, if it shows one.
    pub(super) fn sample_rate(
        &mut self,
        now: Instant,
        progress: &Progress,
        min_rtt: Duration,
    ) -> Option<RateSample> {
        self.rate.sample(now, progress.delivered, progress.newest_stamp, min_rtt)
    }

    /// The MSS that the first range in flight was sent with, or 0.
    pub(super) fn mss(&self) -> usize {
        self.front().map_or(0, |(_, record)| record.mss())
    }

    /// The first record.
    #[inline]
    fn front(&self) -> Option<(Seq, &Record)> {
        match self.filed.as_ref().and_then(|filed| filed.records.first_key_value()) {
            Some((start, record)) => Some((*start, record)),
            None => self.fresh.front().map(|(start, record)| (*start, record)),
        }
    }

    /// All records, in order.
    fn all(&self) -> impl Iterator<Item = (Seq, &Record)> {
        let filed = self.filed().records.iter().map(|(start, record)| (*start, record));
        filed.chain(self.fresh.iter().map(|(start, record)| (*start, record)))
    }

    /// How many records there are.
    fn count(&self) -> usize {
        self.filed.as_ref().map_or(0, |filed| filed.records.len()) + self.fresh.len()
    }

    /// Puts what was sent last in order with the rest. Each record is put there once.
    fn file(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        for (start, record) in std::mem::take(&mut self.fresh) {
            self.insert(start, record);
        }
    }

    /// The first range.
    pub(in crate::tcp) fn head(&self) -> Option<Head> {
        let (_, record) = self.front()?;
        Some(Head {
            sent_at: record.sent_at,
            retransmitted: record.retransmissions > 0,
            sacked: record.fate == Fate::Sacked,
        })
    }

    /// Whether a retransmission is in flight, or the head was ever sent again
    /// (`tcp_any_retrans_done` in Linux).
    pub(super) fn any_retransmitted(&self) -> bool {
        self.retransmitted > 0 || self.head().is_some_and(|head| head.retransmitted)
    }

    /// Packets that are not acknowledged, as far as there are fewer than `limit`.
    pub(super) fn packets_out(&self, limit: usize) -> usize {
        let packets = |(start, record): (Seq, &Record)| record.end.since(start).div_ceil(record.mss().max(1));
        self.all().take(limit).map(packets).sum::<usize>().min(limit)
    }

    /// Whether exactly one segment is in flight.
    pub(super) fn is_one_segment(&self) -> bool {
        self.count() == 1 && self.outstanding <= self.mss()
    }

    /// The last segment, with the FIN if that was sent, if it is in flight. `data_end` is where data
    /// ends.
    pub(in crate::tcp) fn last_segment(&self, data_end: Seq) -> Option<(Seq, Seq)> {
        let (start, record) = match self.fresh.back() {
            Some((start, record)) => (*start, record),
            None => self.filed().records.last_key_value().map(|(start, record)| (*start, record))?,
        };
        if record.fate != Fate::InFlight {
            return None;
        }
        let end = record.end.min(data_end);
        let last = if end > start { record.border_at_or_before(end - 1).max(start) } else { start };
        Some((last, record.end))
    }

    /// Whether `at` belongs to a range that was sent more than once. None of those is fresh.
    pub(super) fn was_retransmitted(&self, at: Seq) -> bool {
        self.covering(at).is_some_and(|(_, record)| record.retransmissions > 0)
    }

    /// New data `start..end` was sent.
    #[inline]
    pub(super) fn on_sent(&mut self, now: Instant, start: Seq, end: Seq, mss: usize) {
        let len = end.since(start);
        let stamp = self.rate.stamp(now, self.outstanding, self.pipe() + len);
        self.outstanding += len;
        // What leaves in one burst of full segments is one record: fewer to keep, and the borders
        // stay at multiples of the MSS.
        let last = match self.fresh.back_mut() {
            Some((_, record)) => Some(record),
            None => self.filed.as_mut().and_then(|filed| filed.records.values_mut().next_back()),
        };
        if let Some(record) = last {
            let joins = record.end == start
                && record.fate == Fate::InFlight
                && record.sent_at == now
                && record.retransmissions == 0
                && record.mss() == mss
                && record.end.since(record.base).is_multiple_of(mss);
            if joins {
                record.end = end;
                record.stamp.extend_to(&stamp);
                return;
            }
        }
        let (mss, fate) = (mss.max(1) as u32, Fate::InFlight);
        let record =
            Record { end, sent_at: now, base: start, mss, retransmissions: 0, repair: false, fate, stamp };
        self.fresh.push_back((start, record));
    }

    /// `start..end` was sent again, in segments of `mss` bytes.
    pub(super) fn on_repaired(&mut self, now: Instant, start: Seq, end: Seq, mss: usize) {
        self.on_sent_again(now, Again { start, end, mss, repair: true });
    }

    /// `start..end`, which is not thought to be lost, was sent again.
    pub(super) fn on_probed(&mut self, now: Instant, start: Seq, end: Seq, mss: usize) {
        self.on_sent_again(now, Again { start, end, mss, repair: false });
    }

    fn on_sent_again(&mut self, now: Instant, sent: Again) {
        let Again { start, end, mss, repair } = sent;
        self.file();
        self.split(start);
        self.split(end);
        let keys: Vec<Seq> = self.filed().records.range(start..end).map(|(key, _)| *key).collect();
        for key in keys {
            let mut record = self.remove(key);
            if record.fate != Fate::Sacked {
                record.fate = Fate::InFlight;
                record.sent_at = now;
                record.retransmissions = record.retransmissions.saturating_add(1);
                record.repair = repair;
                record.base = start;
                record.mss = mss.max(1) as u32;
                // It is not counted as lost any more, so the pipe holds it.
                record.stamp = self.rate.stamp(now, self.outstanding, self.pipe());
            }
            self.insert_repaired(key, record);
        }
    }

    /// Inserts what was sent again. In a window of too many records it joins what was sent again before it, as if
    /// that had left now: it is found lost later, and not too early.
    fn insert_repaired(&mut self, start: Seq, record: Record) {
        if self.is_shredded()
            && record.fate == Fate::InFlight
            && let Some((&before, previous)) = self.filed().records.range(..start).next_back()
            && previous.end == start
            && previous.fate == Fate::InFlight
            && previous.repair == record.repair
            && previous.retransmissions > 0
            && previous.mss == record.mss
            && start.since(previous.base).is_multiple_of(record.mss())
        {
            let previous = self.remove(before);
            let retransmissions = previous.retransmissions.max(record.retransmissions);
            let joined = Record { base: previous.base, retransmissions, ..record };
            self.insert(before, joined);
        } else {
            self.insert(start, record);
        }
    }

    /// Whether there are as many records as there may be.
    fn is_shredded(&self) -> bool {
        self.count() >= RECORDS_AT_LEAST.max(self.outstanding / BYTES_PER_RECORD)
    }

    /// Everything before `una` is acknowledged.
    pub(super) fn on_ack(&mut self, una: Seq, progress: &mut Progress) {
        while let Some((&start, _)) = self.filed().records.first_key_value() {
            if start >= una {
                break;
            }
            let record = self.remove(start);
            self.saw_acked(start, una, &record, progress);
            if record.end > una {
                self.insert(una, record);
                break;
            }
        }
        while let Some(&(start, record)) = self.fresh.front() {
            if start >= una {
                break;
            }
            self.saw_acked(start, una, &record, progress);
            if record.end > una {
                if let Some((start, _)) = self.fresh.front_mut() {
                    *start = una;
                }
                break;
            }
            self.fresh.pop_front();
        }
        if self.fresh.is_empty() && self.fresh.capacity() > KEPT {
            self.fresh.shrink_to(KEPT);
        }
        // A tree that has become empty keeps a node.
        self.filed.take_if(|filed| filed.records.is_empty());
    }

    /// The record from `start` on is acknowledged up to `una`, or whole.
    #[inline]
    fn saw_acked(&mut self, start: Seq, una: Seq, record: &Record, progress: &mut Progress) {
        let end = record.end.min(una);
        let len = end.since(start);
        self.outstanding -= len;
        progress.acked += len;
        progress.repaired |= record.retransmissions > 0;
        if record.fate != Fate::Sacked {
            progress.delivered += len;
            progress.saw(start, &Record { end, ..*record }, By::Ack);
        }
    }

    /// Takes the memory of the table, if nothing is in it.
    pub(super) fn take_places(&mut self) -> BoardPlaces {
        if self.fresh.is_empty() {
            BoardPlaces(std::mem::take(&mut self.fresh))
        } else {
            BoardPlaces::default()
        }
    }

    /// Uses this memory, if there is none.
    pub(super) fn use_places(&mut self, BoardPlaces(fresh): BoardPlaces) {
        if self.fresh.capacity() == 0 {
            self.fresh = fresh;
        }
    }

    /// The peer reports `start..end` as received. Both must lie within what was sent.
    pub(super) fn on_sack(&mut self, start: Seq, end: Seq, progress: &mut Progress) {
        self.file();
        let start = self.border_at_or_after(start);
        let end = self.border_at_or_before(end);
        if start >= end {
            return;
        }
        if self.covering(start).is_some_and(|(_, record)| record.fate == Fate::Sacked && record.end >= end) {
            return;
        }
        let (start, end) = if self.is_shredded() { self.whole_records(start, end) } else { (start, end) };
        if start >= end {
            return;
        }
        self.split(start);
        self.split(end);
        let keys: Vec<Seq> = self.filed().records.range(start..end).map(|(key, _)| *key).collect();
        let mut run: Option<(Seq, Record)> = None;
        for key in keys {
            let mut record = self.remove(key);
            if record.fate != Fate::Sacked {
                let len = record.end.since(key);
                progress.sacked += len;
                progress.delivered += len;
                progress.saw(key, &record, By::Sack);
                record.fate = Fate::Sacked;
            }
            run = Some(match run {
                Some((first, joined)) => (first, joined.join(&record)),
                None => (key, record),
            });
        }
        self.highest_sacked = self.highest_sacked.max(Some(end));
        if let Some((first, record)) = run {
            self.insert_sacked_run(first, record);
        }
    }

    /// Inserts a SACKed record, joined with SACKed neighbours.
    fn insert_sacked_run(&mut self, mut start: Seq, mut record: Record) {
        let before = self.filed().records.range(..start).next_back().map(|(key, before)| (*key, *before));
        if let Some((key, before)) = before
            && before.fate == Fate::Sacked
            && before.end == start
        {
            self.remove(key);
            record = before.join(&record);
            start = key;
        }
        if self.filed().records.get(&record.end).is_some_and(|after| after.fate == Fate::Sacked) {
            record = record.join(&self.remove(record.end));
        }
        self.insert(start, record);
    }

    /// Marks what RACK finds lost: ranges in flight that were sent before the latest delivered one
    /// and are older than `window` (RFC 8985 §6.2 step 5). As there, one timer waits for all that is
    /// not certain yet.
    pub(super) fn mark_lost_before(&mut self, now: Instant, rack: Delivered, window: Duration) -> Losses {
        self.file();
        let mut found = Losses::default();
        let before = |(sent_at, end)| (sent_at, end) < (rack.sent_at, rack.end);
        while let Some(&(sent_at, start)) = self.filed().by_time.first() {
            let record = self.filed().records[&start];
            if !before((sent_at, record.end)) {
                break;
            }
            if sent_at + window > now {
                // Those that were sent at the very time of `rack` are distinguished by their positions.
                let last = self.filed().by_time.range(..(rack.sent_at, rack.end)).next_back();
                found.next = last.map(|&(sent_at, _)| sent_at + window);
                break;
            }
            found.again |= record.repair;
            found.lost += self.set_lost(start);
        }
        found
    }

    /// Marks what is in flight and left more than a tick of the timestamp clock before `echo`. Returns the bytes
    /// marked, and whether retransmissions are among them.
    pub(super) fn mark_refused(&mut self, echo: Instant) -> (usize, bool) {
        self.file();
        let (mut marked, mut again) = (0, false);
        while let Some(&(sent_at, start)) = self.filed().by_time.first()
            && sent_at.as_millis() + PAWS_TICKS < echo.as_millis()
        {
            again |= self.filed().records[&start].repair;
            marked += self.set_lost(start);
        }
        (marked, again)
    }

    /// What was marked lost is not: it may still be on its way (Linux's `tcp_undo_cwnd_reduction`).
    pub(super) fn forgive_lost(&mut self) {
        while let Some(&start) = self.filed().lost.first() {
            let mut record = self.remove(start);
            record.fate = Fate::InFlight;
            self.insert(start, record);
        }
    }

    /// Marks the first `len` bytes that are not acknowledged as lost.
    pub(super) fn mark_head_lost(&mut self, len: usize) -> usize {
        self.file();
        let Some((&start, record)) = self.filed().records.first_key_value() else { return 0 };
        if record.fate != Fate::InFlight {
            return 0;
        }
        self.split(start + len);
        self.set_lost(start)
    }

    /// The retransmission timer expired: everything sent at or before `until` is lost, and the
    /// first range whatever its age (RFC 8985 §6.3). A peer that SACKed the first byte and did not
    /// acknowledge it has reneged: its SACKs mean nothing then (RFC 2018 §8).
    pub(super) fn on_timeout(&mut self, until: Instant) {
        self.file();
        let reneged = self.filed().records.first_key_value().is_some_and(|(_, r)| r.fate == Fate::Sacked);
        if reneged {
            self.highest_sacked = None;
            let sacked: Vec<Seq> = self
                .filed()
                .records
                .iter()
                .filter(|(_, r)| r.fate == Fate::Sacked)
                .map(|(key, _)| *key)
                .collect();
            for key in sacked {
                let mut record = self.remove(key);
                record.fate = Fate::Lost;
                self.insert(key, record);
            }
        }
        while let Some(&(sent_at, start)) = self.filed().by_time.first() {
            if sent_at > until {
                break;
            }
            self.set_lost(start);
        }
        let head = self.filed().records.first_key_value().map(|(key, record)| (*key, record.fate));
        if let Some((start, Fate::InFlight)) = head {
            self.set_lost(start);
        }
    }

    /// Marks what is in flight in segments longer than `mss` as lost, to be sent again in shorter ones;
    /// [`Scoreboard::take_losses`] does not report it. Returns the bytes marked.
    pub(super) fn mark_longer_than(&mut self, mss: usize) -> usize {
        self.file();
        let long: Vec<(Seq, Record)> = self
            .filed()
            .records
            .iter()
            .filter(|(_, record)| record.mss() > mss && record.fate == Fate::InFlight)
            .map(|(start, record)| (*start, *record))
            .collect();
        let mut marked = 0;
        let reported = self.losses.len();
        for (start, record) in long {
            // The last segment of a range may be short enough.
            let last = record.border_at_or_before(record.end);
            let cut = if record.end.since(last) > mss { record.end } else { last };
            if cut > start {
                self.split(cut);
                marked += self.set_lost(start);
            }
        }
        self.losses.truncate(reported);
        marked
    }

    /// The first position that is not acknowledged, if something is in flight.
    pub(super) fn first(&self) -> Option<Seq> {
        self.front().map(|(start, _)| start)
    }

    /// The first lost range.
    pub(in crate::tcp) fn next_lost(&self) -> Option<(Seq, Seq)> {
        let filed = self.filed.as_ref()?;
        let start = *filed.lost.first()?;
        Some((start, filed.records[&start].end))
    }

    /// The sequence number after the highest that is SACKed.
    pub(super) fn highest_sacked(&self) -> Option<Seq> {
        self.highest_sacked.filter(|_| self.sacked > 0)
    }

    /// Drops everything: the connection is over.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether something was found lost since the last call of [`Scoreboard::take_losses`].
    pub(super) fn has_losses(&self) -> bool {
        !self.losses.is_empty()
    }

    /// What was found lost since the last call, in the order in which it was found.
    pub(super) fn take_losses(&mut self) -> std::vec::Drain<'_, LossSample> {
        self.losses.drain(..)
    }

    fn set_lost(&mut self, start: Seq) -> usize {
        let mut record = self.remove(start);
        record.fate = Fate::Lost;
        record.repair = false;
        self.insert(start, record);
        let len = record.end.since(start);
        self.losses.push(self.rate.on_lost(len, &record.stamp));
        len
    }

    fn insert(&mut self, start: Seq, record: Record) {
        #[cfg(test)]
        {
            self.inserted += 1;
        }
        let filed = self.filed.get_or_insert_default();
        let len = record.end.since(start);
        match record.fate {
            Fate::InFlight => {
                filed.by_time.insert((record.sent_at, start));
                if record.repair {
                    self.retransmitted += len;
                }
            }
            Fate::Sacked => self.sacked += len,
            Fate::Lost => {
                filed.lost.insert(start);
                self.lost_bytes += len;
            }
        }
        filed.records.insert(start, record);
    }

    fn remove(&mut self, start: Seq) -> Record {
        let filed = self.filed.get_or_insert_default();
        let record = filed.records.remove(&start).expect("a record begins here");
        let len = record.end.since(start);
        match record.fate {
            Fate::InFlight => {
                filed.by_time.remove(&(record.sent_at, start));
                if record.repair {
                    self.retransmitted -= len;
                }
            }
            Fate::Sacked => self.sacked -= len,
            Fate::Lost => {
                filed.lost.remove(&start);
                self.lost_bytes -= len;
            }
        }
        record
    }

    /// Makes `at` the border of two records, if it lies inside one.
    fn split(&mut self, at: Seq) {
        let Some((start, record)) = self.covering(at) else { return };
        if start == at {
            return;
        }
        self.remove(start);
        let mut front = Record { end: at, ..record };
        front.stamp.cut(record.end.since(at));
        self.insert(start, front);
        self.insert(at, record);
    }

    /// The record that holds `at`, of those that are not fresh.
    fn covering(&self, at: Seq) -> Option<(Seq, Record)> {
        let (&start, &record) = self.filed().records.range(..=at).next_back()?;
        (at < record.end).then_some((start, record))
    }

    /// What of `start..end` is made up of whole records.
    fn whole_records(&self, start: Seq, end: Seq) -> (Seq, Seq) {
        let first = match self.covering(start) {
            Some((first, record)) if first < start => record.end,
            _ => start,
        };
        (first, self.covering(end).map_or(end, |(last, _)| last))
    }

    fn border_at_or_after(&self, at: Seq) -> Seq {
        let Some((start, record)) = self.covering(at) else { return at };
        if at == start { at } else { record.border_at_or_after(at).min(record.end) }
    }

    fn border_at_or_before(&self, at: Seq) -> Seq {
        let Some((start, record)) = self.covering(at) else { return at };
        record.border_at_or_before(at).max(start)
    }
}
