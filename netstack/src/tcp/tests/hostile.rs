//! Arbitrary segments, calls and times, against what must hold whatever happens.

use super::pair::config;
use crate::buffer::{Chunk, Pool};
use crate::config::{Config, EcnNegotiation, MtuProbing};
use crate::tcp::timers::Timer;
use crate::tcp::{
    Connection, MtuReport, Opening, OpeningStep, Path, SendFlags, Setup, SocketOptions, State, SynEntry,
    SynParts, SynRetries, SynStep, SynTimeout,
};
use crate::time::{Duration, Instant};
use crate::wire::{AccEcn, Ecn, Flags, Options, SackBlock, Segment, SeqNum, Timestamps};
use proptest::prelude::*;
use std::io::{IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::sync::Arc;

const ISS: u32 = u32::MAX - 3_000;
const IRS: u32 = u32::MAX - 50_000;

/// What the peer's byte at `position` after its SYN is: every segment agrees with every other.
fn byte(position: u32) -> u8 {
    (position.wrapping_mul(2_654_435_761) >> 24) as u8
}

/// One step: what to do, and numbers to do it with.
type Op = (u8, u8, u8, u8, u8, u32);

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(any::<Op>(), 1..150)
}

fn pick<T: Copy>(from: &[T], by: u8) -> T {
    from[usize::from(by) % from.len()]
}

fn flags(by: u8, any: u32) -> Flags {
    let ack = Flags::ACK;
    match by % 16 {
        0..=8 => ack,
        9 | 10 => ack.with(Flags::FIN),
        11 => ack.with(Flags::PSH).with(Flags::URG),
        12 => Flags::RST,
        13 => Flags::SYN,
        14 => Flags::SYN.with(ack),
        _ => Flags::from_bits(any as u16),
    }
}

/// Where the segment is put: the numbers that matter to the one who gets it.
struct Landmarks {
    rcv_nxt: SeqNum,
    rcv_wnd: u32,
    snd_una: SeqNum,
    snd_nxt: SeqNum,
    ts: bool,
}

fn segment(op: Op, now: Instant, at: &Landmarks) -> (Segment, Chunk) {
    let (_, a, b, c, d, any) = op;
    let wnd = at.rcv_wnd;
    let offsets =
        [0, 0, 0, 0, 0, 1, 1u32.wrapping_neg(), 1000, wnd, wnd.wrapping_sub(1), wnd + 1, 1 << 31, any];
    let near = [0, any % 3_000, (any % 3_000).wrapping_neg(), any % wnd.max(1)];
    let seq = at.rcv_nxt + if a < 128 { pick(&offsets, a) } else { pick(&near, a) };
    let flight = at.snd_nxt - at.snd_una;
    let acks =
        [flight, flight, flight, 0, 0, any % flight.max(1), flight + 1, 1u32.wrapping_neg(), any, 1 << 31];
    let ack = at.snd_una + pick(&acks, b);
    let len = pick(&[0usize, 0, 0, 1, 1, 7, 536, 1448, 1460, 3_000, 64_000], c);
    let window = pick(&[0, 1, 100, 1_000, 5_000, u16::MAX, u16::MAX, any as u16], d);
    let mut options = Options::default();
    let tsval = now.as_millis() as u32;
    options.timestamps = match (at.ts, any % 16) {
        (false, _) | (true, 0) => None,
        (true, 1) => Some(Timestamps { tsval: tsval.wrapping_sub(1_000_000), tsecr: any }),
        (true, 2) => Some(Timestamps { tsval, tsecr: any }),
        (true, _) => Some(Timestamps { tsval, tsecr: tsval.wrapping_sub(20) }),
    };
    let mut blocks = any >> 8;
    for _ in 0..d % 5 {
        blocks = blocks.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let start =
            at.snd_una + pick(&[0, blocks % (flight + 2), 1u32.wrapping_neg(), blocks], (blocks >> 8) as u8);
        let end = start + pick(&[1, 48, 1448, 4 * 1448, blocks, 0], (blocks >> 16) as u8);
        let _ = options.sack.try_push(SackBlock { start, end });
    }
    // Marks and reports of marks, true or not.
    let flags = flags(d.wrapping_add(c), any).with(Flags::from_ace((any >> 5) as u8));
    let fields = [any & 0xff_ffff, (any >> 7) & 0xff_ffff, any >> 8].into_iter().take(usize::from(a % 4));
    options.acc_ecn =
        (any % 8 == 3).then(|| AccEcn { ect1_first: b.is_multiple_of(2), fields: fields.collect() });
    if flags.contains(Flags::SYN) {
        options.mss = pick(&[None, Some(0), Some(1), Some(48), Some(1460), Some(u16::MAX)], c);
        options.window_scale = pick(&[None, Some(0), Some(7), Some(14), Some(255)], b);
        options.sack_permitted = c % 2 == 0;
    }
    let first = seq + u32::from(flags.contains(Flags::SYN));
    let bytes: Vec<u8> = (0..len as u32).map(|i| byte(first + i - SeqNum::new(IRS + 1))).collect();
    // Some of them sit in large buffers, as from a device.
    let payload = if any % 2 == 0 {
        Chunk::copy_from(&bytes)
    } else {
        let mut packet = Pool::new().take();
        packet.bytes_mut()[40..40 + len].copy_from_slice(&bytes);
        packet.into_chunk(40, 40 + len)
    };
    let gso_size = (len > 1460 && any % 4 != 0).then_some(pick(&[1448, 1, 536, 65_535], a));
    let segment = Segment {
        seq,
        ack,
        flags,
        window,
        urgent: any as u16,
        options,
        ecn: Ecn::from_bits((any >> 3) as u8),
        payload_len: len,
        gso_size,
    };
    (segment, payload)
}

/// A connection, and what was seen of it.
struct Watched {
    conn: Box<Connection>,
    now: Instant,
    /// Bytes that were read.
    position: u32,
    /// The furthest right edge that a segment offered.
    edge: Option<SeqNum>,
    dead: bool,
}

impl Watched {
    fn new(conn: Box<Connection>, now: Instant) -> Self {
        Self { conn, now, position: 0, edge: None, dead: false }
    }

    fn landmarks(&self) -> Landmarks {
        Landmarks {
            rcv_nxt: self.conn.receiver().nxt().wire(),
            rcv_wnd: self.conn.receiver().wnd() as u32,
            snd_una: self.conn.sender().una().wire(),
            snd_nxt: self.conn.sender().nxt().wire(),
            ts: self.conn.uses_timestamps(),
        }
    }

    fn apply(&mut self, op: Op) {
        let (what, a, b, _, _, any) = op;
        let edge_before = self.conn.receiver().nxt() + self.conn.receiver().wnd();
        match what % 32 {
            13 => {
                let mtu = pick(&[0, 68, 552, 1280, 1400, 1500, 65_535], a);
                let known = MtuReport { bytes: mtu, fragments: b % 4 == 0 };
                if b % 2 == 0 {
                    self.conn.on_packet_too_big(known);
                } else {
                    self.conn.on_path_mtu(known);
                }
            }
            0..=12 => {
                let (segment, payload) = segment(op, self.now, &self.landmarks());
                self.conn.on_segment(self.now, &segment, payload);
                if a % 2 == 0 && !self.conn.ack_urgent() {
                    // The batch goes on.
                    return;
                }
            }
            14..=16 => {
                self.now += Duration::from_micros(u64::from(pick(&[1, 100, 40_000, 1_000_000, any], a)));
                self.conn.on_timeout(self.now);
            }
            17 | 18 => {
                if let Some(at) = self.conn.poll_timeout() {
                    self.now = self.now.max(at);
                    self.conn.on_timeout(self.now);
                }
            }
            19..=22 => {
                let len = pick(&[1, 100, 1448, 20_000, 300_000], a);
                let flags = SendFlags { more: b % 8 == 0, end_of_record: b % 8 == 1 };
                let _ = self.conn.write_record(self.now, &[IoSlice::new(&vec![7; len])], 0, flags);
            }
            23..=26 => self.read(pick(&[1, 100, 5_000, 1 << 20], a)),
            27 if a % 4 == 0 => {
                let how = pick(&[Shutdown::Write, Shutdown::Read, Shutdown::Both], b);
                let _ = self.conn.shutdown(how);
            }
            28 if a % 8 == 0 => self.conn.close(self.now),
            29 => self.set_options(op),
            30 if a % 16 == 0 => self.conn.abort(self.now),
            _ => self.conn.set_quickack(a % 2 == 0),
        }
        assert!(
            self.conn.receiver().nxt() + self.conn.receiver().wnd() >= edge_before,
            "the right edge moved left"
        );
        let device_is_full = a > 250;
        if !device_is_full {
            self.drain(pick(&[0, 0, 20_000, 65_000], b));
            self.check();
        }
    }

    fn set_options(&mut self, (_, a, b, c, d, any): Op) {
        let mut options = self.conn.options().clone();
        match a % 9 {
            0 => options.nodelay = !options.nodelay,
            1 => options.cork = !options.cork,
            2 => options.keepalive = !options.keepalive,
            3 => options.notsent_lowat = pick(&[None, Some(1), Some(1_000)], b),
            4 => options.recv_buffer_size = Some(pick(&[2_304, 10_000, 500_000], b)),
            5 => options.send_buffer_size = Some(pick(&[4_608, 10_000, 500_000], c)),
            6 => options.window_clamp = pick(&[None, Some(1_152), Some(30_000)], d),
            7 => options.thin_linear_timeouts = !options.thin_linear_timeouts,
            _ => options.user_timeout = Some(Duration::from_millis(u64::from(any % 100_000 + 1))),
        }
        self.conn.set_options(self.now, options);
    }

    fn read(&mut self, max: usize) {
        let mut to = vec![0; max];
        let n = self.conn.read(self.now, &mut [IoSliceMut::new(&mut to)]).unwrap_or(0);
        for got in &to[..n] {
            assert_eq!(*got, byte(self.position), "at {}", self.position);
            self.position = self.position.wrapping_add(1);
        }
    }

    /// Sends all there is to send.
    fn drain(&mut self, max_payload: usize) {
        for turn in 0.. {
            let Some(t) = self.conn.poll_transmit(self.now, max_payload) else { break };
            assert!(turn < 20_000, "sends for ever: {t:?}");
            let mut pieces = arrayvec::ArrayVec::new();
            self.conn.payload(&t, &mut pieces);
            assert_eq!(pieces.iter().map(|p| p.len()).sum::<usize>(), t.segment.payload_len);
            drop(pieces);
            assert!(t.segment.payload_len <= max_payload.max(1460));
            assert!(t.gso_size.is_none_or(|size| usize::from(size) < t.segment.payload_len));
            if !t.segment.is_rst() {
                let scale = self.conn.receiver().scale();
                let edge = t.segment.ack + scale.from_wire(t.segment.window) as u32;
                let furthest = self.edge.get_or_insert(edge);
                // RFC 7323 §2.4: by less than the scale's granularity it may.
                let back = *furthest - edge;
                assert!(
                    !edge.before(*furthest) || (back as usize) < scale.granularity(),
                    "moved left by {back}"
                );
                if edge.after(*furthest) {
                    *furthest = edge;
                }
            }
            self.conn.on_transmitted(self.now, &t);
        }
    }

    /// What holds between any two things that happen.
    fn check(&mut self) {
        let conn = &mut self.conn;
        assert!(conn.sender().una() <= conn.sender().nxt());
        conn.take_events();
        let in_flight = conn.sender().nxt().since(conn.sender().una());
        if conn.state() == State::Closed {
            assert_eq!(conn.poll_timeout(), None, "a timer without a connection");
            self.dead = true;
            return;
        }
        assert_eq!(conn.recovery().outstanding(), in_flight);
        if in_flight > 0 {
            assert!(conn.is_armed(Timer::Retransmit), "in flight and no timer");
        } else if conn.sender().has_unsent() {
            // A whole window may be acknowledged at once while what follows is paced.
            let waits = conn.is_armed(Timer::Persist) || conn.waits_for_pacing();
            assert!(waits, "waits for nothing: {:?}", conn.sender());
        }
        assert!(!(conn.owes_room() && conn.state().can_send()), "a writer was not notified");
        assert!(conn.unread() <= 4 << 20, "{} bytes wait for the reader", conn.unread());
        if let Some(at) = conn.poll_timeout().filter(|at| *at <= self.now) {
            conn.on_timeout(self.now);
            self.drain(0);
            let next = self.conn.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "due at {at:?} and still at {next:?}");
        }
    }
}

fn mixed_config(bits: u8) -> Arc<Config> {
    Arc::new(Config {
        sack: bits & 1 == 0,
        timestamps: bits & 2 == 0,
        window_scaling: bits & 4 == 0,
        ecn: EcnNegotiation::ALL[usize::from(bits % 6)],
        mtu_probing: MtuProbing::ALL[usize::from(bits % 3)],
        recv_buffer_max: if bits & 8 == 0 { 6 << 20 } else { 1 << 30 },
        ..(*config()).clone()
    })
}

fn syn(bits: u8) -> Segment {
    let options = Options {
        mss: pick(&[Some(1460), Some(1460), Some(1), None], bits >> 4),
        window_scale: pick(&[Some(7), Some(0), Some(200), None], bits >> 5),
        sack_permitted: true,
        timestamps: Some(Timestamps { tsval: 5_000, tsecr: 0 }),
        ..Options::default()
    };
    Segment {
        window: u16::from(bits) * 256,
        options,
        ..Segment::new(Flags::SYN.with(Flags::from_ace(bits / 3)), SeqNum::new(IRS), SeqNum::default())
    }
}

const PATH: Path = Path::new(1500, false);

fn start() -> Instant {
    Instant::from_millis(5_000)
}

fn landmarks_of_handshake(ts: bool) -> Landmarks {
    let iss = SeqNum::new(ISS);
    Landmarks { rcv_nxt: SeqNum::new(IRS + 1), rcv_wnd: 64_240, snd_una: iss, snd_nxt: iss + 1, ts }
}

/// What the steps do to a connection that an acknowledgment has made.
fn applied_to_a_connection(bits: u8, ops: Vec<Op>) -> Watched {
    let config = mixed_config(bits);
    let options = SocketOptions::new(&config);
    let parts = SynParts { ts_offset: 0, path: PATH, options: &options, config: &config };
    let entry = SynEntry::new(start(), &syn(bits), SeqNum::new(ISS), parts);
    let mut ack = syn(bits);
    (ack.seq, ack.ack, ack.flags) = (SeqNum::new(IRS + 1), SeqNum::new(ISS + 1), Flags::ACK);
    let now = start() + Duration::from_millis(20);
    let setup = Setup { options: &options, config: &config, pool: &Pool::new() };
    let mut watched = Watched::new(Connection::accept(now, &entry, &ack, setup), now);
    for op in ops {
        watched.apply(op);
        if watched.dead {
            break;
        }
    }
    watched
}

#[test]
fn what_is_paced_after_a_recovery_waits_with_nothing_in_flight() {
    let ops = vec![
        (0, 165, 0, 0, 1, 0),
        (13, 178, 0, 0, 0, 0),
        (51, 39, 0, 0, 0, 0),
        (160, 91, 30, 15, 17, 0),
        (19, 55, 0, 0, 0, 0),
        (160, 29, 10, 22, 90, 0),
        (78, 2, 0, 0, 0, 0),
        (206, 3, 0, 0, 0, 0),
        (96, 187, 10, 205, 83, 0),
        (19, 0, 0, 0, 0, 0),
        (19, 0, 0, 0, 0, 0),
        (32, 187, 60, 0, 17, 0),
    ];
    let mut watched = applied_to_a_connection(194, ops);
    assert!(watched.conn.sender().has_unsent() && watched.conn.waits_for_pacing());
    let due = watched.conn.poll_timeout().expect("a time to send");
    assert!(due < watched.now + Duration::from_millis(100), "{due:?} at {:?}", watched.now);
    watched.now = due;
    watched.conn.on_timeout(due);
    watched.drain(0);
    assert!(watched.conn.sender().nxt() > watched.conn.sender().una());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_a_connection(bits: u8, ops in ops()) {
        applied_to_a_connection(bits, ops);
    }

    #[test]
    fn nothing_breaks_an_opening(bits: u8, ops in ops()) {
        let config = mixed_config(bits);
        let mut now = start();
        let mut opening = Opening::new(now, SeqNum::new(ISS), 0, PATH, Setup { options: &SocketOptions::new(&config), config: &config, pool: &Pool::new() });
        let mut ops = ops.into_iter();
        while let Some(op) = ops.next() {
            if opening.poll_transmit(now).is_some() {
                opening.on_transmitted();
            }
            if op.0 % 4 == 0 {
                now = now.max(opening.poll_timeout().expect("an opening waits for something"));
                if opening.on_timeout(now).is_some() {
                    return Ok(());
                }
                prop_assert!(opening.poll_timeout().is_none_or(|at| at > now));
                continue;
            }
            let (mut segment, payload) = segment(op, now, &landmarks_of_handshake(bits & 2 == 0));
            if segment.is_syn() {
                segment.seq = SeqNum::new(IRS);
            }
            match opening.on_segment(now, &segment, payload) {
                OpeningStep::Stay | OpeningStep::Ignore(_) | OpeningStep::Reset(_) => {}
                OpeningStep::Refused | OpeningStep::ResetByPeer => return Ok(()),
                OpeningStep::Established(conn, _) => {
                    let mut watched = Watched::new(conn, now);
                    for op in ops.by_ref() {
                        watched.apply(op);
                        if watched.dead {
                            break;
                        }
                    }
                    return Ok(());
                }
            }
        }
    }

    #[test]
    fn nothing_breaks_a_syn_entry(bits: u8, ops in ops()) {
        let config = mixed_config(bits);
        let options = SocketOptions::new(&config);
        let mut now = start();
        let mut entry = SynEntry::new(now, &syn(bits), SeqNum::new(ISS), SynParts { ts_offset: 0, path: PATH, options: &options, config: &config });
        let mut ops = ops.into_iter();
        while let Some(op) = ops.next() {
            if op.0 % 4 == 0 {
                now = now.max(entry.deadline());
                if entry.on_timeout(now, SynRetries::new(&config), &config) == SynTimeout::GiveUp {
                    return Ok(());
                }
                prop_assert!(entry.deadline() > now);
                continue;
            }
            let (segment, payload) = segment(op, now, &landmarks_of_handshake(bits & 2 == 0));
            match entry.on_segment(now, &segment, SynRetries::new(&config), &config) {
                SynStep::Ignore(_)
                | SynStep::Skip
                | SynStep::Defer
                | SynStep::Repeat(_)
                | SynStep::Acknowledge(..)
                | SynStep::Reset => {}
                SynStep::Remove | SynStep::Abort => return Ok(()),
                SynStep::Establish => {
                    let mut watched = Watched::new(Connection::accept(now, &entry, &segment, Setup { options: &options, config: &config, pool: &Pool::new() }), now);
                    watched.conn.on_segment(now, &segment, payload);
                    watched.drain(0);
                    for op in ops.by_ref() {
                        watched.apply(op);
                        if watched.dead {
                            break;
                        }
                    }
                    return Ok(());
                }
            }
        }
    }
}
