//! What a flood costs: one SYN, answered with a cookie or remembered, and one acknowledgment that
//! claims to bring a cookie back and does not.
//!
//! The last is what an attacker gets for free, so it is held against its parts, measured in the same
//! run: the headers must be read, the checksum checked, and the claim takes one keyed hash.
//! `NETSTACK_BENCH_CHECK=1` makes it an error if the whole is more than 1.5 times the sum.

use criterion::{Criterion, criterion_group};
use netstack::buffer::PacketBuf;
use netstack::config::SynCookieMode;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use netstack::stack::{Effects, Engine, Family, Observer, QueueId, Unconnected};
use netstack::tcp::{Ecn, Events, Flags, Options, Segment, SeqNum, SynCookies};
use netstack::time::Instant;
use netstack::wire::{ChecksumMode, HeaderBuf, IpMeta, emit_tcp, parse_ip, parse_tcp, tcp_checksum_ok};
use netstack::{Config, Interface};
use netstack_benches::clock;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Packets of one batch, as a driver takes them from its device.
const BATCH: usize = 64;
/// How much the whole may cost, in parts of the sum, in hundredths.
const LIMIT: u128 = 150;
const QUEUE: QueueId = QueueId { interface: 0, queue: 0 };
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Takes everything and keeps nothing.
struct Sink(Signal);

impl Device for Sink {
    fn capabilities(&self) -> Capabilities {
        Capabilities { mtu: 1500, queues: 1, checksum_offload: false, segmentation_offload: false }
    }

    fn receive(&self, _: Instant, _: usize, _: &mut PacketBuf) -> io::Result<RxMeta> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn transmit(&self, _: Instant, _: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        black_box(packet.header);
        Ok(())
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Signal(&self.0)
    }
}

struct Nobody;

impl Observer for Nobody {
    fn on_ready(&self, _: Events) {}
}

/// A stack with a listener on port 80.
struct Victim {
    engine: Arc<Engine>,
    out: Effects,
    now: Instant,
}

impl Victim {
    fn new(change: impl FnOnce(&mut Config)) -> io::Result<Self> {
        let mut config = Config { seed: Some(1), ..Config::default() };
        change(&mut config);
        let interface = Interface::new(Arc::new(Sink(Signal::new()))).address("10.0.0.1/8");
        let engine = Engine::new(config, vec![interface])?;
        let mut socket = Unconnected::new(&engine, Family::V4);
        socket.bind(&engine, SocketAddr::new(SERVER.into(), 80))?;
        // The table of listeners keeps it.
        engine.listen(socket, 4096, Arc::new(Nobody))?;
        Ok(Self { engine, out: Effects::new(), now: Instant::from_millis(1_000_000) })
    }

    /// Gives a batch to the stack, and says how long that took.
    fn batch(&mut self, packets: &[Vec<u8>]) -> Duration {
        let mut spare = None;
        let start = clock::now();
        for packet in packets {
            // As a driver does: the buffer of a packet that nobody keeps is that of the next one.
            let mut buf = spare.take().unwrap_or_else(|| self.engine.pool().take());
            buf.bytes_mut()[..packet.len()].copy_from_slice(packet);
            let meta = RxMeta { len: packet.len(), ..RxMeta::default() };
            self.engine.on_packet(self.now, QUEUE, buf, meta, &mut self.out);
            spare = self.out.take_spare();
        }
        self.engine.end_batch(self.now, QUEUE, &mut self.out);
        let took = start.elapsed();
        self.out.deliver(&self.engine);
        took
    }

    /// The time of `count` packets in batches, each from a source of its own.
    fn flood(&mut self, count: u64, flags: Flags) -> Duration {
        let mut took = Duration::ZERO;
        for batch in 0..count.div_ceil(BATCH as u64) {
            let packets: Vec<_> =
                (0..BATCH).map(|n| packet(batch as u32 * BATCH as u32 + n as u32, flags)).collect();
            took += self.batch(&packets);
        }
        // Whole batches: as much as `count` packets take.
        took * count as u32 / (count.div_ceil(BATCH as u64) * BATCH as u64) as u32
    }
}

/// A segment from the source `number`.
fn packet(number: u32, flags: Flags) -> Vec<u8> {
    let segment = Segment {
        seq: SeqNum::new(number.wrapping_mul(2_654_435_761)),
        ack: SeqNum::new(number.wrapping_mul(40_503)),
        flags,
        window: 64_240,
        urgent: 0,
        options: Options { mss: flags.contains(Flags::SYN).then_some(1460), ..Options::default() },
        payload_len: 0,
        gso_size: None,
        ecn: Ecn::NotEct,
    };
    let src = Ipv4Addr::from_bits(0x0a80_0000 | number & 0x3f_ffff);
    let meta = IpMeta {
        src: src.into(),
        dst: SERVER.into(),
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: true,
        ident: 0,
        flow_label: 0,
    };
    let mut header = HeaderBuf::new();
    emit_tcp(&mut header, &meta, 1024 + number as u16 % 60_000, 80, &segment, &[], ChecksumMode::Full);
    header.to_vec()
}

/// A victim that has sent cookies a moment ago, so that acknowledgments from nowhere are checked.
fn under_attack() -> io::Result<Victim> {
    let mut victim = Victim::new(|config| {
        config.syncookies = SynCookieMode::Always;
        // The answers are another cost, which the limit on resets bounds.
        (config.reset_burst, config.reset_rate) = (0, 0);
    })?;
    victim.flood(BATCH as u64, Flags::SYN);
    let failed = victim.engine.counters().syncookies_failed;
    victim.flood(BATCH as u64, Flags::ACK);
    if victim.engine.counters().syncookies_failed != failed + BATCH as u64 {
        return Err(io::Error::other("forged cookies are not checked"));
    }
    Ok(victim)
}

/// The parts that cannot be saved.
struct Parts {
    packets: Vec<Vec<u8>>,
    cookies: SynCookies,
    now: Instant,
}

impl Parts {
    fn new() -> Self {
        let now = Instant::from_millis(1_000_000);
        let mut cookies = SynCookies::new();
        cookies.set_secret(now, [7; 16]);
        Self { packets: (0..BATCH as u32).map(|number| packet(number, Flags::ACK)).collect(), cookies, now }
    }

    fn each(&self, count: u64, mut part: impl FnMut(&[u8])) -> Duration {
        let start = clock::now();
        for number in 0..count {
            part(black_box(&self.packets[number as usize % BATCH]));
        }
        start.elapsed()
    }

    fn parse(&self, count: u64) -> Duration {
        self.each(count, |packet| {
            let header = parse_ip(packet).expect("it is sound");
            black_box(parse_tcp(&packet[header.payload.clone()]).expect("it is sound"));
            black_box(header);
        })
    }

    fn checksum(&self, count: u64) -> Duration {
        let (src, dst) = (IpAddr::from(Ipv4Addr::new(10, 128, 0, 0)), IpAddr::from(SERVER));
        self.each(count, |packet| {
            black_box(tcp_checksum_ok(src, dst, &packet[20..]));
        })
    }

    /// One SipHash over what a cookie is about: addresses, ports and a sequence number.
    fn hash(&self, count: u64) -> Duration {
        self.each(count, |packet| {
            let flow: [u8; 12] = packet[12..24].try_into().expect("a slice of 12 bytes");
            black_box(self.cookies.make(self.now, &Flow(flow), SeqNum::new(7), 1460, false));
        })
    }
}

/// Hashed in one write, as the stack hashes its flows.
struct Flow([u8; 12]);

impl std::hash::Hash for Flow {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

fn floods(c: &mut Criterion) {
    let mut group = c.benchmark_group("syn_flood");
    let mut victim = under_attack().expect("a stack");
    group.bench_function("forged-cookie-ack", |b| b.iter_custom(|n| victim.flood(n, Flags::ACK)));
    group.bench_function("syn-cookie", |b| b.iter_custom(|n| victim.flood(n, Flags::SYN)));
    let mut closed = Victim::new(|config| config.syncookies = SynCookieMode::Off).expect("a stack");
    closed.flood(8192, Flags::SYN);
    group.bench_function("syn-dropped", |b| b.iter_custom(|n| closed.flood(n, Flags::SYN)));
    let parts = Parts::new();
    group.bench_function("parts/parse", |b| b.iter_custom(|n| parts.parse(n)));
    group.bench_function("parts/checksum", |b| b.iter_custom(|n| parts.checksum(n)));
    group.bench_function("parts/siphash", |b| b.iter_custom(|n| parts.hash(n)));
}

/// The best of several rounds that take turns, so that a machine with other work to do disturbs all
/// alike.
fn compare() -> io::Result<bool> {
    const ROUNDS: usize = 200;
    const PACKETS: u64 = 64 * BATCH as u64;
    let mut victim = under_attack()?;
    let parts = Parts::new();
    let mut best = [Duration::MAX; 4];
    for _ in 0..ROUNDS {
        let times = [
            victim.flood(PACKETS, Flags::ACK),
            parts.parse(PACKETS),
            parts.checksum(PACKETS),
            parts.hash(PACKETS),
        ];
        for (best, time) in best.iter_mut().zip(times) {
            *best = time.min(*best);
        }
    }
    let nanos = best.map(|time| time.as_nanos() * 10 / u128::from(PACKETS));
    let sum: u128 = nanos[1..].iter().sum();
    let show = |tenths: u128| format!("{}.{} ns", tenths / 10, tenths % 10);
    println!(
        "a forged-cookie ACK costs {}; parse {} + checksum {} + one SipHash {} = {}; {}.{:02} times the sum",
        show(nanos[0]),
        show(nanos[1]),
        show(nanos[2]),
        show(nanos[3]),
        show(sum),
        nanos[0] / sum,
        nanos[0] * 100 / sum % 100,
    );
    Ok(nanos[0] * 100 <= sum * LIMIT)
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = config(); targets = floods }

fn main() -> ExitCode {
    benches();
    Criterion::default().configure_from_args().final_summary();
    let check = std::env::var_os("NETSTACK_BENCH_CHECK").is_some_and(|value| value == "1");
    match compare() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) if !check => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("syn_flood: more than {}.{:02} times the sum of its parts", LIMIT / 100, LIMIT % 100);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("syn_flood: {error}");
            ExitCode::FAILURE
        }
    }
}
