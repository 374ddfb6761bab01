//! The model of one direction: whether and when each packet arrives, and the statistics.

use super::config::LinkConfig;
use crate::buffer::PacketBuf;
use crate::device::RxMeta;
use crate::time::{Duration, Instant};
use crate::wire::mark_congestion;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, VecDeque};

/// A burst of losses ends after a pause of this length, because what disturbs a link for a few
/// packets lasts for milliseconds. A model that counts packets alone would also lose the probes
/// that a sender sends minutes later. The pause is shorter than any retransmission timeout.
const BURST_PAUSE: Duration = Duration::from_millis(100);

/// Statistics of one direction of a [`Link`](super::Link).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LinkStats {
    /// Packets that entered, after segmentation.
    pub packets: u64,
    /// Packets that arrived at the other end, including duplicates.
    pub delivered: u64,
    /// Packets lost at random or in an outage.
    pub lost: u64,
    /// Packets that were duplicated.
    pub duplicated: u64,
    /// Packets that were sent without delay, and so reordered.
    pub reordered: u64,
    /// Packets with an inverted bit.
    pub corrupted: u64,
    /// Packets that did not fit the queue or the limit.
    pub queue_drops: u64,
    /// Packets that were marked CE.
    pub marked: u64,
}

/// A packet of the wire in a buffer that begins with it.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) bytes: PacketBuf,
    pub(super) meta: RxMeta,
}

#[derive(Debug)]
pub(super) struct Direction {
    pub(super) config: LinkConfig,
    pub(super) stats: LinkStats,
    /// Which of the streams of the seed; the two directions take different ones.
    stream: u64,
    rng: ChaCha8Rng,
    /// Whether the Gilbert model is in its bad state.
    in_burst: bool,
    /// When the last packet entered.
    entered: Instant,
    /// When the last packet that was queued has been put on the wire.
    busy_until: Instant,
    /// What the division by the rate left over, in billionths of a bit: a rate is exact in the long
    /// run.
    carry: u64,
    /// The latest arrival of a packet that was not reordered.
    last_due: Instant,
    /// Packets in transit by the time of their arrival, each with its device queue and a number of
    /// its own.
    in_flight: BTreeMap<(Instant, u64), (usize, Packet)>,
    next_number: u64,
    /// Packets in transit, and those that have arrived and were not taken.
    held: usize,
    /// Packets that have arrived, by device queue.
    ready: Vec<VecDeque<Packet>>,
}

impl Direction {
    pub(super) fn new(config: LinkConfig, stream: u64, queues: usize) -> Self {
        Self {
            rng: generator(config.seed, stream),
            config,
            stats: LinkStats::default(),
            stream,
            in_burst: false,
            entered: Instant::ZERO,
            busy_until: Instant::ZERO,
            carry: 0,
            last_due: Instant::ZERO,
            in_flight: BTreeMap::new(),
            next_number: 0,
            held: 0,
            ready: (0..queues).map(|_| VecDeque::new()).collect(),
        }
    }

    /// Changes the impairments of packets that enter from now on. The generator goes on unless the
    /// seed is another.
    pub(super) fn set_config(&mut self, config: LinkConfig) {
        if config.seed != self.config.seed {
            self.rng = generator(config.seed, self.stream);
        }
        self.config = config;
    }

    /// Whether packets can bypass the model: it changes nothing, and no earlier packet is in it.
    pub(super) fn is_clear(&self) -> bool {
        self.config.is_perfect() && self.held == 0
    }

    /// A packet enters. The order of impairments is that of the path: the sender's network (loss,
    /// duplication), the queue in front of the slow link, the link itself, the way after it.
    pub(super) fn enter(&mut self, now: Instant, queue: usize, packet: Packet) {
        self.stats.packets += 1;
        if self.config.down || self.is_lost(now) {
            self.stats.lost += 1;
            return;
        }
        if self.chance(self.config.duplicate) {
            self.stats.duplicated += 1;
            let bytes = PacketBuf::copy_from(&packet.bytes.bytes()[..packet.meta.len]);
            self.enqueue(now, queue, Packet { bytes, meta: packet.meta });
        }
        self.enqueue(now, queue, packet);
    }

    fn enqueue(&mut self, now: Instant, queue: usize, mut packet: Packet) {
        let waiting = self.backlog(now);
        let full = waiting > 0 && waiting + packet.meta.len > self.config.queue;
        if full || self.held >= self.config.limit {
            self.stats.queue_drops += 1;
            return;
        }
        let congested = self.config.ecn.is_some_and(|threshold| waiting > threshold);
        // A random number is drawn for every packet, so that other impairments do not depend on its
        // kind.
        let marked = self.chance(self.config.mark);
        let bytes = &mut packet.bytes.bytes_mut()[..packet.meta.len];
        if (marked || congested) && mark_congestion(bytes) {
            self.stats.marked += 1;
        }
        if !bytes.is_empty() && self.chance(self.config.corrupt) {
            let bit = self.rng.random_range(0..bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            packet.meta.checksum_verified = false;
            self.stats.corrupted += 1;
        }
        let sent = self.serialise(now, packet.meta.len);
        let due = if self.chance(self.config.reorder) {
            self.stats.reordered += 1;
            sent
        } else {
            let due = (sent + self.travel_time()).max(self.last_due);
            self.last_due = due;
            due
        };
        self.in_flight.insert((due, self.next_number), (queue, packet));
        self.next_number += 1;
        self.held += 1;
    }

    fn rate(&self) -> Option<u64> {
        self.config.rate.filter(|rate| *rate > 0)
    }

    /// Bytes that wait to be put on the wire.
    fn backlog(&self, now: Instant) -> usize {
        let Some(rate) = self.rate() else { return 0 };
        let nanos = (self.busy_until - now).as_nanos();
        (nanos * u128::from(rate) / 8_000_000_000) as usize
    }

    /// When a packet of `len` bytes has left, if it waits for those before it.
    fn serialise(&mut self, now: Instant, len: usize) -> Instant {
        let Some(rate) = self.rate() else { return now };
        if self.busy_until < now {
            self.busy_until = now;
            self.carry = 0;
        }
        // The carry is below the rate, except after the rate was changed.
        let work = len as u64 * 8 * 1_000_000_000 + self.carry.min(rate);
        self.busy_until += Duration::from_nanos(work / rate);
        self.carry = work % rate;
        self.busy_until
    }

    fn travel_time(&mut self) -> Duration {
        let LinkConfig { delay, jitter, .. } = self.config;
        if jitter.is_zero() {
            return delay;
        }
        let span = (jitter.as_nanos() as u64).saturating_mul(2);
        let late = Duration::from_nanos(self.rng.random_range(0..=span));
        delay.saturating_add(late).saturating_sub(jitter)
    }

    fn is_lost(&mut self, now: Instant) -> bool {
        let loss = self.config.loss;
        let Some(burst) = self.config.burst else { return self.chance(loss) };
        let paused = now - std::mem::replace(&mut self.entered, now) > BURST_PAUSE;
        self.in_burst &= !paused;
        // Gilbert: all is lost in the bad state, which lasts `burst` packets on average; it begins
        // as often as makes the share of lost packets `loss`.
        let leave = 1.0 / burst.max(1.0);
        let begin = (leave * loss / (1.0 - loss).max(f64::MIN_POSITIVE)).min(1.0);
        self.in_burst = if self.in_burst { !self.chance(leave) } else { self.chance(begin) };
        self.in_burst
    }

    fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.random_bool(share.min(1.0))
    }

    /// Lets packets arrive that are due.
    pub(super) fn advance(&mut self, now: Instant) {
        while let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= now
        {
            let (queue, packet) = entry.remove();
            self.ready[queue].push_back(packet);
        }
    }

    /// When the next packet arrives.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.in_flight.first_key_value().map(|(&(due, _), _)| due)
    }

    /// Whether a packet has arrived and was not taken.
    pub(super) fn has_ready(&self) -> bool {
        self.ready.iter().any(|ready| !ready.is_empty())
    }

    /// Takes a packet that has arrived.
    pub(super) fn take(&mut self, queue: usize) -> Option<Packet> {
        let packet = self.ready.get_mut(queue)?.pop_front()?;
        self.stats.delivered += 1;
        self.held -= 1;
        Some(packet)
    }

    /// Gives back a packet that was taken and could not be used yet.
    pub(super) fn untake(&mut self, queue: usize, packet: Packet) {
        self.stats.delivered -= 1;
        self.held += 1;
        self.ready[queue].push_front(packet);
    }
}

fn generator(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}
