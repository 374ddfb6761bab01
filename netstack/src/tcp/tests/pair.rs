//! Two ends of a connection, a seeded wire between them, and a clock that jumps.

use crate::buffer::{Chunk, Pool};
use crate::config::Config;
use crate::readiness::Events;
use crate::tcp::{
    Connection, Opening, OpeningStep, Path, QuietAck, Setup, SocketOptions, SynEntry, SynParts, SynRetries,
    SynStep, Transmit,
};
use crate::time::{Duration, Instant};
use crate::wire::{Ecn, Flags, PlainSegment, Segment, SeqNum};
use arrayvec::ArrayVec;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

/// What the wire does to each packet, in each direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub(super) delay: Duration,
    pub(super) loss: f64,
    /// Share of packets that take three times the delay.
    pub(super) reorder: f64,
    pub(super) duplicate: f64,
    /// Bytes of payload and headers that it carries in a second, in each direction; 0: any number.
    pub(super) rate: u64,
    /// Bytes that wait for a wire with a rate at most; what comes on top is dropped.
    pub(super) queue: usize,
    /// Share of packets capable of ECN that are marked.
    pub(super) mark: f64,
    /// Super-segments up to this many bytes of payload; 0: each packet is one segment.
    pub(super) offload: usize,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(10),
            loss: 0.0,
            reorder: 0.0,
            duplicate: 0.0,
            rate: 0,
            queue: usize::MAX,
            mark: 0.0,
            offload: 0,
        }
    }
}

/// One end.
#[derive(Debug)]
pub(super) struct End {
    pub(super) conn: Box<Connection>,
    /// Every segment that this end sent, with the time.
    pub(super) log: Vec<(Instant, Segment)>,
}

/// Both ends and what is between them.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
    pub(super) wire: Wire,
    /// Whether packets towards an end are all dropped.
    pub(super) cut: [bool; 2],
    pub(super) loss_to: [f64; 2],
    /// Packets that each end sends and that are dropped, by their place in its log.
    pub(super) drop_nth: [Vec<usize>; 2],
    /// Until when the wire is busy with what each end sent, if it has a rate.
    busy_until: [Instant; 2],
    /// Packets that did not fit into the queue.
    pub(super) overflows: usize,
    /// Packets that were marked.
    pub(super) marked: usize,
    /// How many acknowledgments were taken quietly, if any may be.
    pub(super) predicted: Option<usize>,
    /// Whether all segments are taken step by step.
    pub(super) step_by_step: bool,
    /// Segments that were expected, and those that acknowledged what was sent once while nothing was missing.
    pub(super) expected: usize,
    pub(super) plain_acks: usize,
    /// Segments that were seen to be the end of what was written before they were made.
    pub(super) tails: usize,
    in_flight: BTreeMap<(Instant, u64), (usize, Segment, Vec<u8>)>,
    order: u64,
    rng: ChaCha8Rng,
}

pub(super) fn config() -> Arc<Config> {
    Arc::new(Config::default())
}

pub(super) const ISS: [u32; 2] = [u32::MAX - 10_000, 7_000];

impl Pair {
    /// Two ends that are connected, the first one actively. The handshake is not impaired.
    pub(super) fn connect(wire: Wire, seed: u64) -> Self {
        Self::connect_with(wire, seed, &config(), &config())
    }

    pub(super) fn connect_with(wire: Wire, seed: u64, a: &Arc<Config>, b: &Arc<Config>) -> Self {
        Self::connect_over(Path::new(1500, false), wire, seed, a, b)
    }

    /// The same over a path of which the ends know something.
    pub(super) fn connect_over(path: Path, wire: Wire, seed: u64, a: &Arc<Config>, b: &Arc<Config>) -> Self {
        let mut now = Instant::from_millis(1_000);
        let mut opening = Opening::new(
            now,
            SeqNum::new(ISS[0]),
            11,
            path,
            Setup { options: &SocketOptions::new(a), config: a, pool: &Pool::new() },
        );
        let syn = opening.poll_transmit(now).expect("a SYN");
        opening.on_transmitted();
        let mut log = [vec![(now, syn.clone())], Vec::new()];
        now += wire.delay;
        let options = SocketOptions::new(b);
        let mut entry = SynEntry::new(
            now,
            &syn,
            SeqNum::new(ISS[1]),
            SynParts { ts_offset: 22, path, options: &options, config: b },
        );
        let syn_ack = entry.syn_ack(now);
        log[1].push((now, syn_ack.clone()));
        now += wire.delay;
        let OpeningStep::Established(mut active, _) = opening.on_segment(now, &syn_ack, Chunk::empty())
        else {
            panic!("the SYN-ACK was not accepted");
        };
        let ack = active.poll_transmit(now, 0).expect("the handshake's third segment");
        active.on_transmitted(now, &ack);
        log[0].push((now, ack.segment.clone()));
        now += wire.delay;
        assert_eq!(entry.on_segment(now, &ack.segment, SynRetries::new(b), b), SynStep::Establish);
        let mut passive = Connection::accept(
            now,
            &entry,
            &ack.segment,
            Setup { options: &options, config: b, pool: &Pool::new() },
        );
        passive.on_segment(now, &ack.segment, Chunk::empty());
        let [log_a, log_b] = log;
        Self {
            now,
            ends: [End { conn: active, log: log_a }, End { conn: passive, log: log_b }],
            wire,
            cut: [false; 2],
            loss_to: [wire.loss; 2],
            drop_nth: [Vec::new(), Vec::new()],
            busy_until: [Instant::ZERO; 2],
            overflows: 0,
            marked: 0,
            predicted: None,
            step_by_step: false,
            expected: 0,
            plain_acks: 0,
            tails: 0,
            in_flight: BTreeMap::new(),
            order: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    pub(super) fn conn(&mut self, end: usize) -> &mut Connection {
        &mut self.ends[end].conn
    }

    pub(super) fn write(&mut self, end: usize, bytes: &[u8]) -> usize {
        let now = self.now;
        let n = self.conn(end).write(now, &[IoSlice::new(bytes)], false).unwrap_or(0);
        self.pump();
        n
    }

    pub(super) fn read(&mut self, end: usize, max: usize) -> Vec<u8> {
        let mut to = vec![0; max.min(self.conn(end).unread().max(1))];
        let now = self.now;
        let n = self.conn(end).read(now, &mut [IoSliceMut::new(&mut to)]).unwrap_or(0);
        to.truncate(n);
        self.pump();
        to
    }

    /// Reads everything that has arrived at `end`, and returns how much that was.
    pub(super) fn discard(&mut self, end: usize) -> usize {
        let now = self.now;
        let mut count = 0;
        while let Ok(Some(chunk)) = self.conn(end).read_chunk(now) {
            count += chunk.len();
        }
        self.pump();
        count
    }

    /// Sends everything that both ends want to send now.
    pub(super) fn pump(&mut self) {
        for end in 0..2 {
            let mut burst = 0;
            loop {
                let conn = &mut self.ends[end].conn;
                let only_tail = conn.has_only_tail(self.now);
                let transmit = conn.poll_transmit(self.now, self.wire.offload);
                let is_tail = |transmit| conn.is_tail(transmit, self.wire.offload);
                assert!(!only_tail || transmit.as_ref().is_none_or(is_tail), "{transmit:?} is no tail");
                self.tails += usize::from(only_tail && transmit.is_some());
                let Some(t) = transmit else { break };
                self.transmit(end, &t);
                burst += 1;
                assert!(burst < 100_000, "end {end} sends for ever: {t:?}");
            }
        }
    }

    fn transmit(&mut self, end: usize, t: &Transmit) {
        let mut pieces = ArrayVec::new();
        self.ends[end].conn.payload(t, &mut pieces);
        let bytes = pieces.concat();
        drop(pieces);
        assert_eq!(bytes.len(), t.segment.payload_len);
        self.ends[end].conn.on_transmitted(self.now, t);
        self.put(end, t.segment.clone(), bytes);
    }

    /// Puts a segment of `end` on the wire.
    pub(super) fn put(&mut self, end: usize, mut segment: Segment, bytes: Vec<u8>) {
        let nth = self.ends[end].log.len();
        self.ends[end].log.push((self.now, segment.clone()));
        let lost = self.rng.random_bool(self.loss_to[1 - end]);
        if lost || self.cut[1 - end] || self.drop_nth[end].contains(&nth) {
            return;
        }
        let capable = segment.ecn != Ecn::NotEct;
        if capable && self.wire.mark > 0.0 && self.rng.random_bool(self.wire.mark) {
            segment.ecn = Ecn::Ce;
            self.marked += 1;
        }
        let Some(left) = self.serialise(end, bytes.len() + 52) else { return };
        let slow = self.rng.random_bool(self.wire.reorder);
        let copies = 1 + usize::from(self.rng.random_bool(self.wire.duplicate));
        for _ in 0..copies {
            let due = left + if slow { self.wire.delay * 3 } else { self.wire.delay };
            self.order += 1;
            self.in_flight.insert((due, self.order), (1 - end, segment.clone(), bytes.clone()));
        }
    }

    /// When a packet of `len` bytes has left for the wire; none if the queue is full.
    fn serialise(&mut self, end: usize, len: usize) -> Option<Instant> {
        if self.wire.rate == 0 {
            return Some(self.now);
        }
        let nanos = |bytes: u64| Duration::from_nanos(bytes * 1_000_000_000 / self.wire.rate);
        let begin = self.busy_until[end].max(self.now);
        let most = u64::try_from(self.wire.queue).unwrap_or(u64::MAX).min(u64::MAX / 2_000_000_000);
        if begin - self.now > nanos(most) {
            self.overflows += 1;
            return None;
        }
        self.busy_until[end] = begin + nanos(len as u64);
        Some(self.busy_until[end])
    }

    /// When the next arrival or time-out is.
    pub(super) fn next_event(&self) -> Option<Instant> {
        let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
        arrival.into_iter().chain(self.ends.iter().filter_map(|end| end.conn.poll_timeout())).min()
    }

    /// Lets the next thing happen: an arrival or a time-out. False if nothing ever will.
    pub(super) fn step(&mut self) -> bool {
        self.pump();
        let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
        let timeouts = self.ends.iter().filter_map(|end| end.conn.poll_timeout()).min();
        let Some(next) = arrival.into_iter().chain(timeouts).min() else { return false };
        self.now = self.now.max(next);
        while let Some(entry) = self.in_flight.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (to, segment, bytes) = entry.remove();
            let plain = PlainSegment::of(&segment);
            if let Some(plain) = &plain
                && self.predicted.is_some()
                && self.ends[to].conn.is_quiet_ack(self.now, plain)
            {
                self.predicted = self.predicted.map(|count| count + 1);
                self.take_quietly(to, plain);
                continue;
            }
            let (conn, text) = (&mut self.ends[to].conn, Chunk::copy_from(&bytes));
            let expected = plain.is_some_and(|plain| conn.is_expected(self.now, &plain));
            self.expected += usize::from(expected);
            let advances = segment.ack != conn.sender().una().wire();
            self.plain_acks += usize::from(expected && advances && conn.recovery().takes_plain_ack());
            if self.step_by_step {
                conn.on_unexpected(self.now, &segment, text);
            } else {
                conn.on_segment(self.now, &segment, text);
            }
            if self.ends[to].conn.ack_urgent() {
                self.pump();
            }
        }
        for end in &mut self.ends {
            end.conn.on_timeout(self.now);
        }
        self.pump();
        true
    }

    /// Changes the next segment that will arrive, if there is one.
    pub(super) fn change_next(&mut self, change: impl FnOnce(&mut Segment)) {
        if let Some((_, segment, _)) = self.in_flight.values_mut().next() {
            change(segment);
        }
    }

    /// Takes a segment the short way, and makes sure that nothing follows from it.
    fn take_quietly(&mut self, to: usize, segment: &PlainSegment) {
        let (now, conn) = (self.now, &mut self.ends[to].conn);
        conn.on_quiet_acks(now, &QuietAck::of(segment).unwrap(), 1);
        let taken = format!("{conn:?}");
        assert_eq!(conn.poll_transmit(now, self.wire.offload), None, "after {segment:?}");
        assert_eq!(conn.take_events(), Events::NONE, "after {segment:?}");
        assert_eq!(format!("{conn:?}"), taken, "settling changes nothing");
    }

    /// Lets time pass up to `until`.
    pub(super) fn run_until(&mut self, until: Instant) {
        loop {
            self.pump();
            let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
            let timeouts = self.ends.iter().filter_map(|end| end.conn.poll_timeout()).min();
            match arrival.into_iter().chain(timeouts).min() {
                Some(next) if next <= until => {
                    self.step();
                }
                _ => break,
            }
        }
        self.now = until;
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Sends `bytes` from `end` to the other, which reads at once, and returns what it read. Gives up
    /// after `limit` of virtual time.
    pub(super) fn transfer(&mut self, end: usize, bytes: &[u8], limit: Duration) -> Vec<u8> {
        let deadline = self.now + limit;
        let (mut sent, mut got) = (0, Vec::with_capacity(bytes.len()));
        while got.len() < bytes.len() {
            if sent < bytes.len() {
                sent += self.write(end, &bytes[sent..]);
            }
            got.extend(self.read(1 - end, 1 << 20));
            if got.len() < bytes.len() && (!self.step() || self.now > deadline) {
                break;
            }
        }
        got
    }

    /// Flags and relative numbers of what `end` sent from the `from`th segment on: one line each.
    pub(super) fn sent(&self, end: usize, from: usize) -> Vec<String> {
        let own = SeqNum::new(ISS[end]);
        let peer = SeqNum::new(ISS[1 - end]);
        self.ends[end].log[from..]
            .iter()
            .map(|(_, s)| {
                let ack = if s.flags.contains(Flags::ACK) { (s.ack - peer).to_string() } else { "-".into() };
                format!("{:?} {}/{} len {}", s.flags, s.seq - own, ack, s.payload_len)
            })
            .collect()
    }
}

/// Bytes that no shift or repetition of themselves resembles.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(42);
    (0..len).map(|_| rng.random()).collect()
}
