//! Scripts from seeds.

use crate::peer::{EARLY, HOLE, MSS, States};
use crate::script::{AckAnchor, Echo, Odd, Piece, Script, SeqAnchor, Stamp};
use crate::segment::{ACK, CWR, ECE, FIN, Fault, PSH, RESERVED, RST, SYN, URG};
use crate::system::Settings;

/// A generator of numbers (SplitMix64): the same for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True once in `n`.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// The script of a seed. The states take turns, so that a few seeds show all of them.
pub(crate) fn script(seed: u64) -> Script {
    let mut random = Random(seed);
    let state = States::ALL[(seed % States::ALL.len() as u64) as usize];
    let settings = settings(&mut random, state);
    let count = random.pick(&[1, 1, 1, 2, 2, 3]);
    let odd = (0..count).map(|_| odd(&mut random, state)).collect();
    Script { settings, state, odd }
}

fn settings(random: &mut Random, state: States) -> Settings {
    let full = random.one_in(2);
    Settings {
        ipv6: random.one_in(3),
        timestamps: full || random.one_in(2),
        sack: full || random.one_in(2),
        window_scaling: full || random.one_in(2),
        ecn: random.pick(&[0, 1, 2, 2]),
        cookies: matches!(state, States::Listen | States::SynReceived) && random.one_in(3),
        limited: random.one_in(4),
        receive_buffer: (state == States::ClosedWindow).then_some(4096),
    }
}

fn odd(random: &mut Random, state: States) -> Odd {
    let mut odd = Odd::new(flags(random, state));
    // Most segments are odd in one thing and not in all.
    if !random.one_in(3) {
        odd.seq = sequence(random);
    }
    odd.ack = if random.one_in(2) { (AckAnchor::Nxt, 0) } else { acknowledgment(random) };
    if random.one_in(2) {
        odd.len = random.pick(&[1, 1, 2, 10, 100, 300, MSS.into(), MSS.into(), 1400, 3000]);
        odd.forged = random.one_in(4);
    }
    odd.window = random.pick(&[0x1000, 0x1000, 0x1000, 0, 1, 0xffff]);
    if odd.flags & URG != 0 || random.one_in(20) {
        odd.urgent = random.pick(&[0, 1, 2, 100, 0xffff]);
    }
    if random.one_in(4) {
        odd.stamp = stamp(random);
    }
    if odd.flags & SYN != 0 && !random.one_in(4) {
        odd.pieces.push(Piece::Raw(syn_options(random)));
    }
    if random.one_in(5) {
        odd.pieces.push(piece(random));
    }
    if random.one_in(8) {
        odd.ecn = random.pick(&[1, 2, 3]);
    }
    if random.one_in(30) {
        odd.fault = fault(random);
    }
    if matches!(odd.fault, Fault::Offset(_)) {
        // Else the host's own clock would become payload.
        odd.stamp = Stamp::Missing;
    }
    odd
}

fn flags(random: &mut Random, state: States) -> u16 {
    // Where a segment of a certain kind is awaited, it comes more often.
    let awaited = match state {
        States::Listen => SYN,
        States::SynSent => SYN | ACK,
        _ => ACK,
    };
    let mut flags = match random.below(20) {
        0..=4 => awaited,
        5..=6 => ACK,
        7..=8 => ACK | PSH,
        9..=10 => ACK | FIN,
        11 => SYN,
        12 => SYN | ACK,
        13 => RST,
        14 => RST | ACK,
        15 => random.pick(&[0, FIN, PSH, URG]),
        16 => ACK | URG,
        17 => {
            random.pick(&[SYN | FIN, SYN | RST, RST | FIN, SYN | FIN | ACK, SYN | RST | ACK, RST | FIN | ACK])
        }
        18 => random.below(64) as u16,
        _ => random.below(0x200) as u16,
    };
    if random.one_in(10) {
        flags |= random.pick(&[ECE, CWR, ECE | CWR]);
    }
    if random.one_in(40) {
        flags |= random.next() as u16 & RESERVED;
    }
    flags
}

/// Around an edge, or far from it. No distance is about that between two edges.
fn offset(random: &mut Random) -> i64 {
    let size = random.pick(&[0, 0, 1, 1, 1, 2, 10, 100, 300, MSS.into(), 1400]);
    let far = random.pick(&[0x8000, 0x2_0000, 1 << 20, 1 << 30, (1 << 31) - 1, 1 << 31]);
    let offset = if random.one_in(6) { far } else { size };
    if random.one_in(2) { offset } else { -offset }
}

fn sequence(random: &mut Random) -> (SeqAnchor, i64) {
    let anchor = random.pick(&[
        SeqAnchor::Nxt,
        SeqAnchor::Nxt,
        SeqAnchor::Nxt,
        SeqAnchor::WindowEnd,
        SeqAnchor::WindowEnd,
        SeqAnchor::Irs,
    ]);
    let early = [i64::from(HOLE), i64::from(HOLE) + EARLY as i64];
    if anchor == SeqAnchor::Nxt && random.one_in(6) {
        return (anchor, random.pick(&early) + random.pick(&[-1, 0, 1]));
    }
    (anchor, offset(random))
}

fn acknowledgment(random: &mut Random) -> (AckAnchor, i64) {
    let anchor =
        random.pick(&[AckAnchor::Una, AckAnchor::Una, AckAnchor::Nxt, AckAnchor::Nxt, AckAnchor::Iss]);
    if random.one_in(12) {
        return (AckAnchor::Zero, 0);
    }
    (anchor, offset(random))
}

fn stamp(random: &mut Random) -> Stamp {
    if random.one_in(4) {
        return Stamp::Missing;
    }
    let ahead = random.pick(&[
        0,
        0,
        0,
        1,
        -1,
        -100,
        -101,
        -102,
        -110,
        -111,
        -112,
        -120,
        -1000,
        i32::MAX,
        i32::MIN,
        -0x1000_0000,
    ]);
    let echo = random.pick(&[
        Echo::Last(0),
        Echo::Last(0),
        Echo::Last(1),
        Echo::Last(-1),
        Echo::Last(-100_000),
        Echo::Last(i32::MAX),
        Echo::Number(0),
        Echo::Number(1),
    ]);
    Stamp::Odd(ahead, echo)
}

/// What a SYN offers, in any combination.
fn syn_options(random: &mut Random) -> Vec<u8> {
    let mut options = Vec::new();
    let pieces: [&[u8]; 8] = [
        &[2, 4, 0x05, 0xb4],
        &[2, 4, 0, 0],
        &[2, 4, 0, 40],
        &[2, 4, 0xff, 0xff],
        &[1, 1, 4, 2],
        &[1, 3, 3, 7],
        &[1, 3, 3, 15],
        &[1, 1, 8, 10, 0x10, 0, 0, 200, 0, 0, 0, 0],
    ];
    for _ in 0..random.below(5) {
        options.extend(random.pick(&pieces));
    }
    options
}

fn piece(random: &mut Random) -> Piece {
    if random.one_in(2) {
        let block = |random: &mut Random| {
            let edges = [0, 1, 100, 500, 1000, 1500, 1501, -1, -500, 1 << 20, 1 << 31];
            let start = random.pick(&edges);
            let len = random.pick(&[0, 1, 100, 500, 1000, 1500, -1, -100, 1 << 31]);
            (start, start + len)
        };
        return Piece::Sack((0..=random.below(3)).map(|_| block(random)).collect());
    }
    let broken: [&[u8]; 16] = [
        &[2, 0],
        &[2, 1],
        &[8, 10, 0],
        &[8, 40],
        &[3],
        &[30, 0],
        &[30, 200],
        &[99, 2],
        &[254, 4, 1, 2],
        &[253, 12, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 7, 8],
        &[34, 2],
        &[34, 10, 1, 2, 3, 4, 5, 6, 7, 8],
        &[19, 18, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        &[5, 2],
        &[5, 9, 0, 0, 0, 0, 0, 0, 0],
        &[0, 8, 10, 1, 1, 1, 1, 1],
    ];
    Piece::Raw(random.pick(&broken).to_vec())
}

fn fault(random: &mut Random) -> Fault {
    match random.below(3) {
        0 => Fault::Checksum,
        1 => Fault::Offset(random.pick(&[0, 4, 5, 6, 10, 15])),
        _ => Fault::Cut(random.pick(&[0, 1, 4, 8, 12, 16, 19, 20, 24])),
    }
}
