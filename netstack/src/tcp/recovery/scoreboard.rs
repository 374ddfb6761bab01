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
#[cfg(test)]
mod tests;

use crate::memory::tree;
use crate::tcp::delivery_rate::{DeliveryRate, LossSample, RateSample, Stamp};
use crate::tcp::seq::Seq;
use crate::time::{Duration, Instant};
use std::collections::{BTreeMap, BTreeSet};

/// Ticks by which a timestamp may be older than the latest and is still accepted by Linux (`TCP_PAWS_WINDOW`).
const PAWS_TICKS: u64 = 1;

/// Bytes in flight for each record that there may be: a record takes about 160 bytes of memory.
const BYTES_PER_RECORD: usize = 512;

/// Records that there may be in any window.
const RECORDS_AT_LEAST: usize = 512;

/// The ranges in flight.
#[derive(Debug, Default)]
pub(in crate::tcp) struct Scoreboard {
    /// The records by their first sequence number.
    records: BTreeMap<Seq, Record>,
    /// Records in flight, the longest-sent first.
    by_time: BTreeSet<(Instant, Seq)>,
    /// Records that are lost and were not retransmitted since.
    lost: BTreeSet<Seq>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    /// The sequence number after the last.
    end: Seq,
    /// When it was last sent.
    sent_at: Instant,
    /// Where its first segment began, and the MSS that it was sent with, in bytes: its inner borders
    /// are whole segments from there, also when a peer acknowledged a part of the first.
    base: Seq,
    mss: usize,
    /// How often it was sent again.
    retransmissions: u32,
    /// Whether what is in flight is the repair of a loss. The tail loss probe repeats something that is
    /// not thought to be lost.
    repair: bool,
    fate: Fate,
    /// What was delivered when it was last sent.
    stamp: Stamp,
}

impl Record {
    fn border_at_or_after(&self, at: Seq) -> Seq {
        self.base + at.since(self.base).div_ceil(self.mss) * self.mss
    }

    fn border_at_or_before(&self, at: Seq) -> Seq {
        self.base + at.since(self.base) / self.mss * self.mss
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

/// A delivered transmission, as RACK and the RTT estimator look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    pub(super) sent_at: Instant,
    pub(super) end: Seq,
    pub(super) retransmitted: bool,
}

/// What an acknowledgment did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Bytes newly acknowledged or SACKed.
    pub(super) delivered: usize,
    /// Bytes newly acknowledged cumulatively.
    pub(super) acked: usize,
    /// Bytes newly SACKed.
    pub(super) sacked: usize,
    /// The most recently sent of what was delivered.
    pub(super) newest: Option<Delivered>,
    /// What RACK takes from it.
    pub(super) rack: RackSample,
    /// When that was sent, and what was delivered by then.
    pub(super) newest_stamp: Option<(Instant, Stamp)>,
    /// When the first and the last of what was acknowledged and sent only once were sent.
    pub(super) clean_acked: Option<(Instant, Instant)>,
    /// The same of what was SACKed.
    pub(super) clean_sacked: Option<(Instant, Instant)>,
    /// The lowest position of what was delivered and sent only once, and when that was: its original
    /// arrived.
    pub(super) lowest_original: Option<(Seq, Instant)>,
    /// Whether something that was sent more than once was acknowledged: what lies behind it may
    /// have waited for the repair, and its age is no round trip (Karn's rule as Linux applies it).
    pub(super) repaired: bool,
}

/// What of an acknowledgment RACK can use (RFC 8985 §6.2 step 2).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RackSample {
    now: Instant,
    /// A retransmission that seems to have come back sooner is the original, come late.
    min_rtt: Duration,
    /// When the segment was sent that the timestamp's echo is of, to the clock's tick: a retransmission
    /// that left later is not what arrived.
    echo: Option<Instant>,
    /// The most recently sent.
    pub(super) newest: Option<Delivered>,
    /// Round-trip times of the last acknowledged and the last SACKed, in the order of sequence.
    acked_rtt: Option<Duration>,
    sacked_rtt: Option<Duration>,
}

impl RackSample {
    fn add(&mut self, delivered: Delivered, by: By) {
        let rtt = self.now - delivered.sent_at;
        let tick = Instant::from_millis(delivered.sent_at.as_millis());
        let original_came = rtt < self.min_rtt || self.echo.is_some_and(|echo| echo < tick);
        if delivered.retransmitted && original_came {
            return;
        }
        match by {
            By::Ack => self.acked_rtt = Some(rtt),
            By::Sack => self.sacked_rtt = Some(rtt),
        }
        if self.newest.is_none_or(|n| (n.sent_at, n.end) < (delivered.sent_at, delivered.end)) {
            self.newest = Some(delivered);
        }
    }

    /// RACK.rtt: as in Linux, and in the RFC's pseudocode, of what is looked at last, which is the last
    /// acknowledged. So a hole that was filled late gives what is still missing as much time.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.acked_rtt.or(self.sacked_rtt)
    }
}

/// How something was delivered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Ack,
    Sack,
}

impl Progress {
    /// For an acknowledgment that comes at `now` on a path whose smallest round-trip time is `min_rtt`,
    /// and echoes the timestamp of what was sent at `echo`.
    pub(super) fn new(now: Instant, min_rtt: Duration, echo: Option<Instant>) -> Self {
        Self { rack: RackSample { now, min_rtt, echo, ..RackSample::default() }, ..Self::default() }
    }

    /// The range from `start` on, described by `record`, is delivered.
    fn saw(&mut self, start: Seq, record: &Record, by: By) {
        let delivered =
            Delivered { sent_at: record.sent_at, end: record.end, retransmitted: record.retransmissions > 0 };
        if self.newest.is_none_or(|n| (n.sent_at, n.end) < (delivered.sent_at, delivered.end)) {
            self.newest = Some(delivered);
            self.newest_stamp = Some((record.sent_at, record.stamp));
        }
        self.rack.add(delivered, by);
        if record.retransmissions > 0 {
            return;
        }
        let clean = if by == By::Ack { &mut self.clean_acked } else { &mut self.clean_sacked };
        let (first, last) = clean.get_or_insert((record.sent_at, record.sent_at));
        *first = (*first).min(record.sent_at);
        *last = (*last).max(record.sent_at);
        let original = (start, record.sent_at);
        self.lowest_original = Some(self.lowest_original.map_or(original, |lowest| lowest.min(original)));
    }
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
        match self.records.len() {
            0 => 0,
            // Asked for after every segment, and mostly this is all.
            1..=11 => const { tree(1, size_of::<(Seq, Record)>()) + tree(1, size_of::<(Instant, Seq)>()) },
            records => self.larger_places(records),
        }
    }

    #[cold]
    fn larger_places(&self, records: usize) -> usize {
        tree(records, size_of::<(Seq, Record)>())
            + tree(self.by_time.len(), size_of::<(Instant, Seq)>())
            + tree(self.lost.len(), size_of::<Seq>())
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
        self.records.first_key_value().map_or(0, |(_, record)| record.mss)
    }

    /// The first range.
    pub(in crate::tcp) fn head(&self) -> Option<Head> {
        let (_, record) = self.records.first_key_value()?;
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

    /// Whether exactly one segment is in flight.
    pub(super) fn is_one_segment(&self) -> bool {
        self.records.len() == 1 && self.outstanding <= self.mss()
    }

    /// The last segment, with the FIN if that was sent, if it is in flight. `data_end` is where data
    /// ends.
    pub(in crate::tcp) fn last_segment(&self, data_end: Seq) -> Option<(Seq, Seq)> {
        let (&start, record) = self.records.last_key_value()?;
        if record.fate != Fate::InFlight {
            return None;
        }
        let end = record.end.min(data_end);
        let last = if end > start { record.border_at_or_before(end - 1).max(start) } else { start };
        Some((last, record.end))
    }

    /// Whether `at` belongs to a range that was sent more than once.
    pub(super) fn was_retransmitted(&self, at: Seq) -> bool {
        self.covering(at).is_some_and(|(_, record)| record.retransmissions > 0)
    }

    /// New data `start..end` was sent.
    pub(super) fn on_sent(&mut self, now: Instant, start: Seq, end: Seq, mss: usize) {
        let len = end.since(start);
        let stamp = self.rate.stamp(now, self.outstanding, self.pipe() + len);
        self.outstanding += len;
        // What leaves in one burst of full segments is one record: fewer to keep, and the borders
        // stay at multiples of the MSS.
        if let Some(mut last) = self.records.last_entry() {
            let record = last.get_mut();
            let joins = record.end == start
                && record.fate == Fate::InFlight
                && record.sent_at == now
                && record.retransmissions == 0
                && record.mss == mss
                && record.end.since(record.base).is_multiple_of(mss);
            if joins {
                record.end = end;
                record.stamp.extend_to(&stamp);
                return;
            }
        }
        let (mss, fate) = (mss.max(1), Fate::InFlight);
        let record =
            Record { end, sent_at: now, base: start, mss, retransmissions: 0, repair: false, fate, stamp };
        self.insert(start, record);
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
        self.split(start);
        self.split(end);
        let keys: Vec<Seq> = self.records.range(start..end).map(|(key, _)| *key).collect();
        for key in keys {
            let mut record = self.remove(key);
            if record.fate != Fate::Sacked {
                record.fate = Fate::InFlight;
                record.sent_at = now;
                record.retransmissions += 1;
                record.repair = repair;
                record.base = start;
                record.mss = mss.max(1);
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
            && let Some((&before, previous)) = self.records.range(..start).next_back()
            && previous.end == start
            && previous.fate == Fate::InFlight
            && previous.repair == record.repair
            && previous.retransmissions > 0
            && previous.mss == record.mss
            && start.since(previous.base).is_multiple_of(record.mss)
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
        self.records.len() >= RECORDS_AT_LEAST.max(self.outstanding / BYTES_PER_RECORD)
    }

    /// Everything before `una` is acknowledged.
    pub(super) fn on_ack(&mut self, una: Seq, progress: &mut Progress) {
        while let Some((&start, _)) = self.records.first_key_value() {
            if start >= una {
                break;
            }
            let record = self.remove(start);
            let end = record.end.min(una);
            let len = end.since(start);
            self.outstanding -= len;
            progress.acked += len;
            progress.repaired |= record.retransmissions > 0;
            if record.fate != Fate::Sacked {
                progress.delivered += len;
                progress.saw(start, &Record { end, ..record }, By::Ack);
            }
            if record.end > una {
                self.insert(una, record);
                break;
            }
        }
    }

    /// The peer reports `start..end` as received. Both must lie within what was sent.
    pub(super) fn on_sack(&mut self, start: Seq, end: Seq, progress: &mut Progress) {
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
        let keys: Vec<Seq> = self.records.range(start..end).map(|(key, _)| *key).collect();
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
        let before = self.records.range(..start).next_back().map(|(key, before)| (*key, *before));
        if let Some((key, before)) = before
            && before.fate == Fate::Sacked
            && before.end == start
        {
            self.remove(key);
            record = before.join(&record);
            start = key;
        }
        if self.records.get(&record.end).is_some_and(|after| after.fate == Fate::Sacked) {
            record = record.join(&self.remove(record.end));
        }
        self.insert(start, record);
    }

    /// Marks what RACK finds lost: ranges in flight that were sent before the latest delivered one
    /// and are older than `window` (RFC 8985 §6.2 step 5). As there, one timer waits for all that is
    /// not certain yet.
    pub(super) fn mark_lost_before(&mut self, now: Instant, rack: Delivered, window: Duration) -> Losses {
        let mut found = Losses::default();
        let before = |(sent_at, end)| (sent_at, end) < (rack.sent_at, rack.end);
        while let Some(&(sent_at, start)) = self.by_time.first() {
            let record = self.records[&start];
            if !before((sent_at, record.end)) {
                break;
            }
            if sent_at + window > now {
                // Those that were sent at the very time of `rack` are distinguished by their positions.
                let last = self.by_time.range(..(rack.sent_at, rack.end)).next_back();
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
        let (mut marked, mut again) = (0, false);
        while let Some(&(sent_at, start)) = self.by_time.first()
            && sent_at.as_millis() + PAWS_TICKS < echo.as_millis()
        {
            again |= self.records[&start].repair;
            marked += self.set_lost(start);
        }
        (marked, again)
    }

    /// What was marked lost is not: it may still be on its way (Linux's `tcp_undo_cwnd_reduction`).
    pub(super) fn forgive_lost(&mut self) {
        while let Some(&start) = self.lost.first() {
            let mut record = self.remove(start);
            record.fate = Fate::InFlight;
            self.insert(start, record);
        }
    }

    /// Marks the first `len` bytes that are not acknowledged as lost.
    pub(super) fn mark_head_lost(&mut self, len: usize) -> usize {
        let Some((&start, record)) = self.records.first_key_value() else { return 0 };
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
        let reneged = self.records.first_key_value().is_some_and(|(_, r)| r.fate == Fate::Sacked);
        if reneged {
            self.highest_sacked = None;
            let sacked: Vec<Seq> =
                self.records.iter().filter(|(_, r)| r.fate == Fate::Sacked).map(|(key, _)| *key).collect();
            for key in sacked {
                let mut record = self.remove(key);
                record.fate = Fate::Lost;
                self.insert(key, record);
            }
        }
        while let Some(&(sent_at, start)) = self.by_time.first() {
            if sent_at > until {
                break;
            }
            self.set_lost(start);
        }
        let head = self.records.first_key_value().map(|(key, record)| (*key, record.fate));
        if let Some((start, Fate::InFlight)) = head {
            self.set_lost(start);
        }
    }

    /// Marks what is in flight in segments longer than `mss` as lost, to be sent again in shorter ones;
    /// [`Scoreboard::take_losses`] does not report it. Returns the bytes marked.
    pub(super) fn mark_longer_than(&mut self, mss: usize) -> usize {
        let long: Vec<(Seq, Record)> = self
            .records
            .iter()
            .filter(|(_, record)| record.mss > mss && record.fate == Fate::InFlight)
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
        self.records.first_key_value().map(|(start, _)| *start)
    }

    /// The first lost range.
    pub(in crate::tcp) fn next_lost(&self) -> Option<(Seq, Seq)> {
        let start = *self.lost.first()?;
        Some((start, self.records[&start].end))
    }

    /// The sequence number after the highest that is SACKed.
    pub(super) fn highest_sacked(&self) -> Option<Seq> {
        self.highest_sacked.filter(|_| self.sacked > 0)
    }

    /// Drops everything: the connection is over.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
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
        let len = record.end.since(start);
        match record.fate {
            Fate::InFlight => {
                self.by_time.insert((record.sent_at, start));
                if record.repair {
                    self.retransmitted += len;
                }
            }
            Fate::Sacked => self.sacked += len,
            Fate::Lost => {
                self.lost.insert(start);
                self.lost_bytes += len;
            }
        }
        self.records.insert(start, record);
    }

    fn remove(&mut self, start: Seq) -> Record {
        let record = self.records.remove(&start).expect("a record begins here");
        let len = record.end.since(start);
        match record.fate {
            Fate::InFlight => {
                self.by_time.remove(&(record.sent_at, start));
                if record.repair {
                    self.retransmitted -= len;
                }
            }
            Fate::Sacked => self.sacked -= len,
            Fate::Lost => {
                self.lost.remove(&start);
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

    /// The record that holds `at`.
    fn covering(&self, at: Seq) -> Option<(Seq, Record)> {
        let (&start, &record) = self.records.range(..=at).next_back()?;
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
