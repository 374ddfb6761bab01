//! Packets that a hostile peer makes, into a stack with live connections.

use crate::packets::{self, Ends, mend_ip_header, pick};
use crate::world::{Card, Host, START, address, span};
use arbitrary::{Result, Unstructured};
use netstack::Config;
use netstack::config::{EcnNegotiation, FastOpenMode, SynCookieMode};
use netstack::device::RxMeta;
use netstack::ip::fragment;
use netstack::stack::{Cell, Listener};
use netstack::time::Instant;
use netstack::wire::{
    AccEcn, Ecn, FastOpenCookie, FastOpenOption, Flags, IcmpMessage, Options, SackBlock, Segment, SeqNum,
    Timestamps,
};
use std::net::Shutdown;
use std::sync::Arc;

/// Packets and bytes that a stack may send for one event; a window of data can be due at once.
const MOST_PACKETS: usize = 8_000;

/// Ports of the peer from which flows to the listener come.
const FLOWS: u8 = 4;

/// Segments, other packets, calls and time.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    // Input that is too short is no case.
    let _ = case(&mut u);
}

/// A flow as the peer sees it: the numbers that matter to who gets a segment.
#[derive(Clone, Debug)]
struct Flow {
    ends: Ends,
    /// What the stack expects next, and the window that it offers.
    rcv_nxt: SeqNum,
    window: u32,
    snd_una: SeqNum,
    snd_nxt: SeqNum,
    /// The last timestamp of the stack.
    tsval: Option<u32>,
    cookie: Option<FastOpenCookie>,
    /// The first byte that an application may read, for each SYN of the peer.
    firsts: Vec<SeqNum>,
}

/// A connection of the stack, and what its application may read next: there is more than one possibility
/// where the peer has sent more than one SYN from a port.
struct Open {
    cell: Arc<Cell>,
    next: Vec<SeqNum>,
}

struct Case {
    host: Host,
    listener: Arc<Listener>,
    flows: Vec<Flow>,
    open: Vec<Open>,
    closed: Vec<Arc<Cell>>,
    now: Instant,
    /// Initial numbers are not answered with SYN cookies: what is read can be foretold.
    exact: bool,
    full: bool,
}

/// What the peer's byte at a position of its sequence space is: every segment agrees with every other.
fn byte(seq: SeqNum) -> u8 {
    (seq.raw().wrapping_mul(2_654_435_761) >> 24) as u8
}

fn case(u: &mut Unstructured<'_>) -> Result<()> {
    let mut case = Case::new(u)?;
    while !u.is_empty() {
        case.step(u)?;
        case.look();
    }
    case.finish();
    Ok(())
}

impl Case {
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let [a, b]: [u8; 2] = u.arbitrary()?;
        let cookies = pick(&[SynCookieMode::Off, SynCookieMode::Overflow, SynCookieMode::Always], a);
        let config = Config::default().with(|config| {
            config.syncookies = cookies;
            config.sack = b & 1 == 0;
            config.timestamps = b & 2 == 0;
            config.window_scaling = b & 4 == 0;
            config.ecn = pick(&EcnNegotiation::ALL, b >> 3);
            config.max_syn_backlog = 8;
            config.fastopen = FastOpenMode::from_bits(0x603);
        });
        let card = Card { mtu: 1500, offloads: a & 0x80 != 0 };
        let host = Host::new(0, card, config);
        let listener = host.listen(START, 80, 4);
        let flows = (0..FLOWS).map(|n| Flow::new(n, n & 1 != 0)).collect();
        let exact = cookies == SynCookieMode::Off;
        let mut case = Self {
            host,
            listener,
            flows,
            open: Vec::new(),
            closed: Vec::new(),
            now: START,
            exact,
            full: false,
        };
        // One that is established, and one that waits for the answer of the peer.
        case.handshake(0);
        case.connect(0);
        Ok(case)
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let [what, which, by]: [u8; 3] = u.arbitrary()?;
        match what % 32 {
            0..=11 => self.segment(u, which)?,
            12 | 13 => self.handshake(which),
            14 => self.raw(u)?,
            15 => self.message(u, which)?,
            16 | 17 => self.pass(self.now + span(by)),
            18 | 19 => {
                let next = self.host.engine().next_deadline();
                self.pass(next.map_or(self.now, |at| at.max(self.now)));
            }
            20..=22 => self.write(which, pick(&[1, 100, 1448, 20_000, 200_000], by)),
            23..=25 => self.read(which, pick(&[1, 100, 5_000, 1 << 18], by)),
            26 => self.change(which, by),
            27 => self.accept(),
            28 => self.connect(which),
            29 => self.set_options(which, by),
            30 => self.in_fragments(u, which)?,
            _ => {
                self.full = by & 1 != 0;
                let (now, full) = (self.now, self.full);
                self.host.set_full(now, full);
            }
        }
        Ok(())
    }

    /// Looks at what the stack sent, and at what has to hold at any time.
    fn look(&mut self) {
        let sent = self.host.take_sent();
        assert!(sent.len() <= MOST_PACKETS, "{} packets for one event", sent.len());
        for packet in sent {
            let Some(sent) = packet.segment() else { continue };
            let from = (sent.ip.src, sent.ports.0);
            let to = (sent.ip.dst, sent.ports.1);
            let ends = Ends { src: to, dst: from };
            let flow = match self.flows.iter_mut().position(|flow| flow.ends == ends) {
                Some(at) => &mut self.flows[at],
                None if sent.segment.is_syn() => {
                    self.flows.push(Flow::between(ends));
                    self.flows.last_mut().expect("it was pushed just now")
                }
                None => continue,
            };
            flow.sees(&sent.segment);
        }
        self.host.fire(self.now);
        let (engine, tcp) = (self.host.engine(), self.host.engine().tcp());
        assert!(engine.next_deadline().is_none_or(|at| at > self.now));
        assert!(self.listener.accept_queue_len() <= 5 && self.listener.syn_queue_len() <= 9);
        for Open { cell, .. } in &self.open {
            assert!(tcp.unread(cell) <= 6 << 20);
        }
        // Those of the application, those that wait for it, and orphans.
        assert!(tcp.connections() <= 64 + 5 + tcp.orphans());
    }

    fn receive(&mut self, packet: &[u8], goes_on: bool) {
        self.host.receive(self.now, packet, RxMeta { len: packet.len(), ..RxMeta::default() });
        if !goes_on {
            self.host.end_batch(self.now);
        }
    }

    fn segment(&mut self, u: &mut Unstructured<'_>, which: u8) -> Result<()> {
        let at = usize::from(which) % self.flows.len();
        let flow = &mut self.flows[at];
        let (segment, payload) = flow.segment(u, self.now)?;
        flow.sent(&segment);
        let packet = packets::tcp(flow.ends, &segment, &payload);
        let shape: u8 = u.arbitrary()?;
        let meta = RxMeta {
            len: packet.len(),
            checksum_verified: shape & 1 != 0,
            gso_size: (payload.len() > 1460 && shape & 2 != 0)
                .then_some(pick(&[1448, 1, 536, 65_535], shape)),
        };
        self.host.receive(self.now, &packet, meta);
        if shape & 4 == 0 {
            self.host.end_batch(self.now);
        }
        Ok(())
    }

    /// The same in fragments, one of which may be missing.
    fn in_fragments(&mut self, u: &mut Unstructured<'_>, which: u8) -> Result<()> {
        let at = usize::from(which) % self.flows.len();
        let flow = &mut self.flows[at];
        let (segment, payload) = flow.segment(u, self.now)?;
        flow.sent(&segment);
        let packet = packets::tcp(flow.ends, &segment, &payload);
        let mtu = u.int_in_range(68..=1_500)?;
        let missing = u.arbitrary::<u8>()?;
        let mut pieces = Vec::new();
        fragment(&packet, mtu, u.arbitrary()?, |piece| pieces.push(piece.to_vec()));
        for (n, piece) in pieces.iter().enumerate() {
            if missing & 7 != 0 || n != usize::from(missing >> 3) {
                self.receive(piece, true);
            }
        }
        self.host.end_batch(self.now);
        Ok(())
    }

    /// A SYN, and the third segment if there is an answer.
    fn handshake(&mut self, which: u8) {
        let which = usize::from(which % FLOWS);
        let flow = &self.flows[which];
        let options = Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { tsval: self.now.as_millis() as u32, tsecr: 0 }),
            fast_open: Some(FastOpenOption { cookie: flow.cookie, experimental: false }),
            ..Options::default()
        };
        let syn = Segment { window: 64_000, options, ..Segment::new(Flags::SYN, flow.isn(), SeqNum::new(0)) };
        let packet = packets::tcp(flow.ends, &syn, &[]);
        self.flows[which].sent(&syn);
        self.receive(&packet, false);
        self.look();
        let flow = &self.flows[which];
        let options = Options { timestamps: flow.timestamps(self.now), ..Options::default() };
        let ack =
            Segment { window: 1_000, options, ..Segment::new(Flags::ACK, flow.isn() + 1, flow.snd_nxt) };
        let packet = packets::tcp(flow.ends, &ack, &[]);
        self.receive(&packet, false);
        self.accept();
    }

    /// Bytes that are hardly a packet.
    fn raw(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let len = u.int_in_range(0..=120)?;
        let mut packet = u.bytes(len.min(u.len()))?.to_vec();
        if u.arbitrary()? {
            mend_ip_header(&mut packet);
        }
        self.receive(&packet, false);
        Ok(())
    }

    /// An ICMP message that quotes a segment of the stack, or something like one.
    fn message(&mut self, u: &mut Unstructured<'_>, which: u8) -> Result<()> {
        let flow = &self.flows[usize::from(which) % self.flows.len()];
        let [kind, code, by]: [u8; 3] = u.arbitrary()?;
        let word: [u8; 4] = u.arbitrary()?;
        let v4 = flow.ends.src.0.is_ipv4();
        let kinds: [u8; 5] = if v4 { [3, 3, 11, 12, kind] } else { [1, 2, 2, 3, kind] };
        let seq = pick(&[flow.snd_una, flow.snd_una, flow.snd_nxt, flow.snd_una + 1, SeqNum::new(0)], by);
        let quoted = Segment::new(Flags::ACK, seq, flow.rcv_nxt);
        let back = Ends { src: flow.ends.dst, dst: flow.ends.src };
        let mut body = packets::tcp(back, &quoted, &[]);
        body.truncate(body.len().saturating_sub(usize::from(by >> 4)));
        let message = IcmpMessage { kind: pick(&kinds, kind), code, word, body: &body };
        let packet = packets::icmp(flow.ends.src.0, flow.ends.dst.0, &message);
        self.receive(&packet, false);
        Ok(())
    }

    fn pass(&mut self, now: Instant) {
        self.now = now;
        self.host.fire(now);
    }

    fn chosen(&mut self, which: u8) -> Option<&mut Open> {
        let len = self.open.len().max(1);
        self.open.get_mut(usize::from(which) % len)
    }

    fn write(&mut self, which: u8, len: usize) {
        let now = self.now;
        if let Some(cell) = self.chosen(which).map(|open| Arc::clone(&open.cell)) {
            let _ = self.host.write(now, &cell, &vec![7; len]);
        }
    }

    fn read(&mut self, which: u8, max: usize) {
        let (now, exact) = (self.now, self.exact);
        let Some(cell) = self.chosen(which).map(|open| Arc::clone(&open.cell)) else { return };
        let Ok(bytes) = self.host.read(now, &cell, max) else { return };
        let Some(Open { next, .. }) = self.chosen(which).filter(|open| !open.next.is_empty()) else { return };
        let fits = |from: &SeqNum| bytes.iter().zip(0..).all(|(got, n)| *got == byte(*from + n));
        next.retain(fits);
        assert!(!exact || !next.is_empty(), "wrong bytes");
        next.iter_mut().for_each(|next| *next = *next + bytes.len() as u32);
    }

    fn accept(&mut self) {
        if self.open.len() >= 32 {
            return;
        }
        if let Some(cell) = self.host.accept(self.now, &self.listener) {
            let Ok(remote) = cell.peer_addr() else {
                return self.open.push(Open { cell, next: Vec::new() });
            };
            let remote = (remote.ip().to_canonical(), remote.port());
            let flow = self.flows.iter().find(|flow| flow.ends.src == remote);
            let next = flow.map_or_else(Vec::new, |flow| flow.firsts.clone());
            self.open.push(Open { cell, next });
        }
    }

    fn connect(&mut self, which: u8) {
        if self.open.len() >= 32 {
            return;
        }
        let to = (address(1, which & 1 != 0), 443);
        if let Ok(cell) = self.host.connect(self.now, to.into()) {
            self.open.push(Open { cell, next: Vec::new() });
        }
    }

    /// Shuts down, closes or aborts.
    fn change(&mut self, which: u8, by: u8) {
        let now = self.now;
        let Some(cell) = self.chosen(which).map(|open| Arc::clone(&open.cell)) else { return };
        let how = pick(&[Shutdown::Write, Shutdown::Read, Shutdown::Both], by);
        let ends = self.host.engine().with_tcp(now, |tcp, turn| match by % 5 {
            0..=2 => {
                let _ = tcp.shutdown(turn, &cell, how);
                false
            }
            3 => {
                tcp.close(turn, &cell);
                true
            }
            _ => {
                tcp.abort(turn, &cell);
                tcp.close(turn, &cell);
                true
            }
        });
        if ends {
            self.open.retain(|open| !Arc::ptr_eq(&open.cell, &cell));
            self.closed.push(cell);
        }
    }

    fn set_options(&mut self, which: u8, by: u8) {
        let now = self.now;
        let Some(cell) = self.chosen(which).map(|open| Arc::clone(&open.cell)) else { return };
        self.host.engine().with_tcp(now, |tcp, turn| {
            tcp.with_options(turn, &cell, |options| match by % 8 {
                0 => options.nodelay = !options.nodelay,
                1 => options.cork = !options.cork,
                2 => options.keepalive = !options.keepalive,
                3 => options.notsent_lowat = Some(1),
                4 => options.recv_buffer_size = Some(2_304),
                5 => options.send_buffer_size = Some(4_608),
                6 => options.window_clamp = Some(1_152),
                _ => options.linger = Some(netstack::time::Duration::ZERO),
            });
        });
    }

    /// The application lets go of everything, and the peer is silent: nothing is left in the end.
    fn finish(mut self) {
        let now = self.now;
        self.host.end_batch(now);
        self.host.set_full(now, false);
        let open = std::mem::take(&mut self.open).into_iter().map(|open| open.cell);
        for cell in open.chain(std::iter::from_fn(|| self.host.accept(now, &self.listener))) {
            self.close(&cell);
            self.closed.push(cell);
        }
        self.host.engine().with_tcp(now, |tcp, turn| tcp.close_listener(turn, &self.listener));
        let Self { mut host, listener, closed, .. } = self;
        drop(listener);
        host.wind_down(now, &closed);
    }

    fn close(&self, cell: &Arc<Cell>) {
        self.host.engine().with_tcp(self.now, |tcp, turn| tcp.close(turn, cell));
    }
}

impl Flow {
    /// One of the flows to the listener.
    fn new(number: u8, v6: bool) -> Self {
        let src = (address(1, v6), 4_000 + u16::from(number));
        Self::between(Ends { src, dst: (address(0, v6), 80) })
    }

    fn between(ends: Ends) -> Self {
        let zero = SeqNum::new(0);
        Self {
            ends,
            rcv_nxt: zero,
            window: 64_240,
            snd_una: zero,
            snd_nxt: zero,
            tsval: None,
            cookie: None,
            firsts: Vec::new(),
        }
    }

    /// The peer's initial sequence number: close before the wrap.
    fn isn(&self) -> SeqNum {
        SeqNum::new(u32::MAX - 3_000 - u32::from(self.ends.src.1))
    }

    fn timestamps(&self, now: Instant) -> Option<Timestamps> {
        self.tsval.map(|tsecr| Timestamps { tsval: now.as_millis() as u32, tsecr })
    }

    /// The peer sent this.
    fn sent(&mut self, segment: &Segment) {
        let first = segment.seq + 1;
        if segment.is_syn() && !self.firsts.contains(&first) {
            self.firsts.push(first);
        }
    }

    /// The stack sent this.
    fn sees(&mut self, segment: &Segment) {
        if segment.is_rst() {
            return;
        }
        let end = segment.seq + segment.len() as u32;
        if segment.is_syn() {
            (self.snd_una, self.snd_nxt) = (segment.seq, end);
            self.cookie = segment.options.fast_open.and_then(|option| option.cookie).or(self.cookie);
        } else if end.after(self.snd_nxt) {
            self.snd_nxt = end;
        }
        if segment.is_ack() {
            self.rcv_nxt = segment.ack;
            self.window = u32::from(segment.window) << 7;
        }
        self.tsval = segment.options.timestamps.map(|timestamps| timestamps.tsval);
    }

    /// A segment near the landmarks.
    fn segment(&self, u: &mut Unstructured<'_>, now: Instant) -> Result<(Segment, Vec<u8>)> {
        let [a, b, c, d, e]: [u8; 5] = u.arbitrary()?;
        let any: u32 = u.arbitrary()?;
        let flags = match d % 16 {
            0..=8 => Flags::ACK,
            9 | 10 => Flags::ACK.with(Flags::FIN),
            11 => Flags::ACK.with(Flags::PSH).with(Flags::URG),
            12 => Flags::RST,
            13 => Flags::SYN,
            14 => Flags::SYN.with(Flags::ACK),
            _ => Flags::from_bits(any as u16),
        };
        let wnd = self.window;
        let offsets = [0, 0, 0, 0, 1, 1u32.wrapping_neg(), 1_000, wnd, wnd.wrapping_sub(1), 1 << 31, any];
        let near = [0, any % 3_000, (any % 3_000).wrapping_neg(), any % wnd.max(1)];
        let mut seq = self.rcv_nxt + if a < 128 { pick(&offsets, a) } else { pick(&near, a) };
        if flags.contains(Flags::SYN) && a % 4 != 0 {
            seq = self.isn();
        }
        let flight = self.snd_nxt - self.snd_una;
        let acks = [flight, flight, flight, 0, any % flight.max(1), flight + 1, any, 1 << 31];
        let ack = self.snd_una + pick(&acks, b);
        let len = pick(&[0usize, 0, 0, 1, 1, 7, 536, 1_448, 1_460, 3_000, 20_000], c);
        let options = self.options(u, Numbers { now, by: e, any, flags })?;
        let first = seq + u32::from(flags.contains(Flags::SYN));
        let payload = (0..len as u32).map(|i| byte(first + i)).collect();
        let window = pick(&[0, 1, 100, 1_000, 5_000, u16::MAX, u16::MAX, any as u16], d >> 4);
        let ecn = Ecn::from_bits((any >> 3) as u8);
        let urgent = any as u16;
        let rest = Segment::new(flags, seq, ack);
        Ok((Segment { window, urgent, options, ecn, payload_len: len, ..rest }, payload))
    }

    fn options(&self, u: &mut Unstructured<'_>, numbers: Numbers) -> Result<Options> {
        let Numbers { now, by, any, flags } = numbers;
        let timestamps = match by % 8 {
            0 => None,
            1 => Some(Timestamps { tsval: any, tsecr: any }),
            _ => self.timestamps(now),
        };
        let mut options = Options { timestamps, ..Options::default() };
        let flight = self.snd_nxt - self.snd_una;
        for _ in 0..(by >> 3) % 5 {
            let at: u32 = u.arbitrary()?;
            let start = self.snd_una + pick(&[0, at % (flight + 2), 1u32.wrapping_neg(), at], at as u8);
            let end = start + pick(&[1, 48, 1_448, 4 * 1_448, at, 0], (at >> 8) as u8);
            options.sack.push(SackBlock { start, end });
        }
        if by & 0x40 != 0 {
            let fields = (0..by % 4).map(|n| (any >> n) & 0xff_ffff).collect();
            options.acc_ecn = Some(AccEcn { ect1_first: by & 0x80 != 0, fields });
        }
        if flags.contains(Flags::SYN) {
            options.mss = pick(&[None, Some(1), Some(48), Some(1_460), Some(u16::MAX)], by);
            options.window_scale = pick(&[None, Some(0), Some(7), Some(14), Some(255)], by >> 2);
            options.sack_permitted = by & 1 == 0;
            options.acc_ecn = None;
            options.sack.clear();
            let cookie = if by & 2 == 0 { self.cookie } else { FastOpenCookie::new(&any.to_be_bytes()) };
            options.fast_open = (by & 4 == 0).then_some(FastOpenOption { cookie, experimental: by & 8 != 0 });
        }
        Ok(options)
    }
}

/// What options are made of.
struct Numbers {
    now: Instant,
    by: u8,
    any: u32,
    flags: Flags,
}
