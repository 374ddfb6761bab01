//! Segments of a batch that are joined before TCP sees them: nobody outside can tell.

use super::SECOND;
use crate::config::EcnNegotiation;
use crate::stack::testing::{LinkSpec, Net, Passing, Socket, Verdict};
use crate::tcp::TcpInfo;
use crate::time::{Duration, Instant};
use crate::wire::{ChecksumMode, Flags, HeaderBuf, IpMeta, Segment, SeqNum, TcpDatagram, emit_tcp};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// One host that receives from a test, which takes the place of its peer.
struct Victim {
    net: Net,
    socket: Socket,
    /// The peer's last segment.
    model: Passing,
    /// What it has acknowledged.
    acknowledged: SeqNum,
    /// Segments with text that it got, and those with marks and their bytes.
    counts: [u64; 3],
}

/// What a segment of a batch is like.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Bytes after the beginning of the stream.
    offset: usize,
    len: usize,
    push: bool,
    ecn: u8,
    /// Milliseconds after the handshake, by the peer's clock.
    tsval: u32,
    window: u16,
}

/// What comes out at the end of a batch.
#[derive(Debug)]
struct Outcome {
    read: Vec<u8>,
    acknowledged: SeqNum,
    /// What the last segment reports as received.
    sacked: BTreeSet<(u32, u32)>,
    /// What was reported as received twice, in any of the segments.
    duplicates: Vec<(u32, u32)>,
    segments: u64,
    acks: usize,
    timing: Timing,
}

/// What depends on when something is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timing {
    /// Segments with text, and those with marks and their bytes. One that was acknowledged before is not
    /// acceptable, and does not count.
    counts: [u64; 3],
    window: Option<u16>,
    flags: Option<Flags>,
    echoed: Option<u32>,
    deadline: Option<Instant>,
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        let answer = |of: &Self| (of.acknowledged, of.segments, of.timing);
        answer(self) == answer(other)
            && (&self.sacked, &self.duplicates) == (&other.sacked, &other.duplicates)
    }
}

fn text(at: usize) -> u8 {
    (at * 7 + at / 251) as u8
}

impl Victim {
    fn new(seed: u64, ecn: bool, gro: bool) -> Self {
        let mut net = Net::pair_with(seed, LinkSpec::default(), |_, config| {
            config.gro = gro;
            if ecn {
                config.ecn = EcnNegotiation::Accurate;
            }
        });
        let (socket, peer) = net.connected();
        net.run_for(SECOND);
        let model = net.cable.take_trace().into_iter().rfind(|passing| passing.from == 0);
        let mut model = model.expect("the handshake");
        // The server is the victim: it got the last segment of the handshake from host 0.
        model.tcp.as_mut().expect("a TCP segment").3.clear();
        drop(socket);
        net.cable.set_filter(|_| Verdict::Drop);
        let acknowledged = SeqNum::new(0);
        Self { net, socket: peer, model, acknowledged, counts: [0; 3] }
    }

    fn packet(&self, plan: &Plan) -> Vec<u8> {
        let (src_port, dst_port, model, _) = self.model.tcp.as_ref().expect("a TCP segment");
        let payload: Vec<u8> = (plan.offset..plan.offset + plan.len).map(text).collect();
        let mut segment = Segment { payload_len: payload.len(), window: plan.window, ..model.clone() };
        segment.seq = segment.seq + plan.offset as u32;
        segment.options.acc_ecn = None;
        if plan.push {
            segment.flags = segment.flags.with(Flags::PSH);
        }
        if let Some(option) = &mut segment.options.timestamps {
            option.tsval = option.tsval.wrapping_add(plan.tsval);
        }
        let ip = IpMeta { traffic_class: plan.ecn, ..IpMeta::new(self.model.ip.src, self.model.ip.dst, 64) };
        let mut header = HeaderBuf::new();
        let pieces: &[&[u8]] = if payload.is_empty() { &[] } else { &[&payload] };
        let datagram = TcpDatagram {
            ip: &ip,
            src_port: *src_port,
            dst_port: *dst_port,
            segment: &segment,
            payload: pieces,
        };
        emit_tcp(&mut header, &datagram, ChecksumMode::Full);
        [&header[..], &payload].concat()
    }

    fn info(&self) -> TcpInfo {
        let engine = self.net.engine(1);
        engine.with_tcp(self.net.now, |tcp, turn| tcp.info(turn, &self.socket.cell)).expect("a connection")
    }

    fn receive(&mut self, batch: &[Plan], reads: bool) -> Outcome {
        for plan in batch {
            self.net.cable.inject(self.net.now, 1, &self.packet(plan));
        }
        self.net.settle();
        let read = if reads { self.net.read_available(&self.socket).0 } else { Vec::new() };
        let info = self.info();
        let sent: Vec<Passing> =
            self.net.cable.take_trace().into_iter().filter(|passing| passing.from == 1).collect();
        let (mut sacked, mut duplicates) = (BTreeSet::new(), BTreeSet::new());
        for passing in &sent {
            let segment = passing.segment();
            sacked.clear();
            for (n, block) in segment.options.sack.iter().enumerate() {
                let second = segment.options.sack.get(1);
                let inside = second
                    .is_some_and(|second| !block.start.before(second.start) && !second.end.before(block.end));
                if n == 0 && (block.start.before(segment.ack) || inside) {
                    duplicates.extend(block.start.raw()..block.end.raw());
                } else {
                    sacked.insert((block.start.raw(), block.end.raw()));
                }
            }
        }
        let last = sent.last().map(Passing::segment);
        self.acknowledged = last.map_or(self.acknowledged, |segment| segment.ack);
        let counts = [info.data_segs_in, info.received_ce.into(), info.received_ce_bytes.into()];
        let outcome = Outcome {
            read,
            acknowledged: self.acknowledged,
            sacked,
            duplicates: runs(&duplicates),
            segments: info.segs_in,
            acks: sent.len(),
            timing: Timing {
                counts: std::array::from_fn(|n| counts[n] - self.counts[n]),
                window: last.map(|segment| segment.window),
                flags: last.map(|segment| segment.flags),
                echoed: last.and_then(|segment| segment.options.timestamps).map(|option| option.tsecr),
                deadline: self.socket.cell.poll_timeout(),
            },
        };
        self.counts = counts;
        outcome
    }

    /// What is acknowledged once nothing waits any more, if that is more.
    fn acknowledged_later(&mut self) -> Option<SeqNum> {
        self.net.run_for(SECOND / 2);
        let sent = self.net.cable.take_trace();
        self.acknowledged = sent.iter().rfind(|passing| passing.from == 1)?.segment().ack;
        Some(self.acknowledged)
    }
}

/// The ranges of numbers in a set.
fn runs(set: &BTreeSet<u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in set {
        match runs.last_mut() {
            Some((_, end)) if *end == *number => *end += 1,
            _ => runs.push((*number, number + 1)),
        }
    }
    runs
}

/// A batch that mostly goes on where the last one ended. What was lost is in `holes`, and comes again.
fn batch(rng: &mut ChaCha8Rng, next: &mut usize, tsval: &mut u32, holes: &mut Vec<Plan>) -> Vec<Plan> {
    let mut plans = Vec::new();
    if rng.random_ratio(1, 2) {
        plans.extend(holes.drain(..).map(|plan| Plan { tsval: *tsval, ..plan }));
    }
    let window = if rng.random_ratio(1, 8) { 600 } else { 500 };
    for _ in 0..rng.random_range(1..20) {
        let len = match rng.random_range(0..10) {
            0 => rng.random_range(1..1448),
            1 => 300,
            _ => 1448,
        };
        *tsval += u32::from(rng.random_ratio(1, 10));
        let plan = Plan {
            offset: *next,
            len,
            push: rng.random_ratio(1, 12),
            ecn: if rng.random_ratio(1, 10) { 3 } else { 2 },
            tsval: *tsval,
            window: if rng.random_ratio(1, 30) { 700 } else { window },
        };
        match rng.random_range(0..60) {
            // It is lost.
            0 => holes.push(plan),
            // It, or what was before it, comes again.
            1 => plans.extend([plan, Plan { ecn: 2, ..plan }]),
            2 => {
                let back = rng.random_range(0..5_000).min(*next);
                plans.push(Plan { offset: *next - back, ecn: 2, ..plan });
                continue;
            }
            _ => plans.push(plan),
        }
        *next = (*next).max(plan.offset + len);
    }
    if rng.random_ratio(1, 6) {
        plans.shuffle(rng);
    }
    plans
}

#[test]
fn joined_segments_get_the_answers_of_single_ones() {
    for seed in 0..150 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ecn = seed % 3 == 0;
        let mut victims = [true, false].map(|gro| Victim::new(seed, ecn, gro));
        let (mut next, mut tsval, mut holes) = (0, 0, Vec::new());
        for number in 0..25 {
            let plans = batch(&mut rng, &mut next, &mut tsval, &mut holes);
            let reads = rng.random_ratio(3, 4);
            let pause = Duration::from_millis(rng.random_range(0..80));
            let [joined, single] = &mut victims;
            let outcomes = [joined.receive(&plans, reads), single.receive(&plans, reads)];
            let [mut joined, mut single] = outcomes;
            if joined.acks.max(single.acks) > 1 {
                // Something was acknowledged at once, and what is joined to it with it. What follows it alone
                // waits for company, so that all must be acknowledged only once that is over.
                for (victim, outcome) in victims.iter_mut().zip([&mut joined, &mut single]) {
                    outcome.acknowledged = victim.acknowledged_later().unwrap_or(outcome.acknowledged);
                }
                joined.timing = single.timing;
            }
            // A window that was offered at another moment is rounded from another edge on.
            if let (Some(a), Some(b)) = (joined.timing.window, single.timing.window)
                && a.abs_diff(b) <= 1
            {
                joined.timing.window = single.timing.window;
            }
            assert!(joined.read == single.read, "seed {seed}, batch {number}: {plans:#?}");
            (joined.read, single.read) = (Vec::new(), Vec::new());
            assert_eq!(joined, single, "seed {seed}, batch {number}: {plans:#?}");
            victims.iter_mut().for_each(|victim| victim.net.run_for(pause));
        }
    }
}

#[test]
fn a_stream_that_arrives_in_batches_is_taken_in_super_segments() {
    let mut victim = Victim::new(1, false, true);
    let plan = Plan { offset: 0, len: 1448, push: false, ecn: 0, tsval: 0, window: 500 };
    let plans: Vec<Plan> = (0..16).map(|n| Plan { offset: n * 1448, ..plan }).collect();
    let before = victim.info();
    let outcome = victim.receive(&plans, false);
    assert_eq!(outcome.segments - before.segs_in, 16, "each counts");
    let chunk =
        victim.net.engine(1).with_tcp(victim.net.now, |tcp, turn| tcp.read_chunk(turn, &victim.socket.cell));
    let chunk = chunk.expect("it can be read").expect("it has not ended");
    assert_eq!(chunk.len(), 16 * 1448, "in one piece");
}
