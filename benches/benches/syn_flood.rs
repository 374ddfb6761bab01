//! The cost of a flood: one SYN, which is answered with a cookie or stored, and one acknowledgment
//! with an invalid cookie.
//!
//! The last is free for an attacker, so it is compared with its parts, which are measured in the
//! same run: the headers must be read, the checksum checked, and the cookie takes one keyed hash.
//! `NETSTACK_BENCH_CHECK=1` makes it an error if the whole is more than 1.5 times the sum. Buffers
//! are filled before the clock starts, because receiving is the work of the device, and neither of
//! the stack nor of a part. The parts are the functions that the stack calls, over packets that are
//! in the caches to the same extent.

use criterion::{Criterion, criterion_group};
use netstack::buffer::PacketBuf;
use netstack::config::SynCookieMode;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use netstack::readiness::Events;
use netstack::stack::{Batch, Engine, Family, Observer, QueueId, Unconnected};
use netstack::tcp::SynCookies;
use netstack::time::Instant;
use netstack::wire::{
    ChecksumMode, Flags, HeaderBuf, IpMeta, Options, Segment, SeqNum, TcpDatagram, emit_tcp, parse_ip,
    parse_tcp, tcp_checksum_ok,
};
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
/// Sources of a flood.
const SOURCES: u32 = 64 * BATCH as u32;
/// Half-open connections of a stack that is not idle.
const HALF_OPEN: u32 = 1000;
/// How much the whole may cost, in percent of the sum.
const LIMIT: u128 = 150;
const QUEUE: QueueId = QueueId { interface: 0, queue: 0 };
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Accepts all packets and discards them.
struct Sink(Signal);

impl Device for Sink {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: 1500,
            queues: 1,
            checksum_offload: false,
            segmentation_offload: false,
            udp_segmentation_offload: false,
            point_to_point: true,
        }
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

/// The packets of a flood, each from its own source. They are made beforehand, and used again if
/// more are needed.
struct Flood(Vec<Vec<u8>>);

impl Flood {
    /// From sources with consecutive numbers from `first` on.
    fn new(first: u32, flags: Flags) -> Self {
        Self((first..first + SOURCES).map(|number| packet(number, flags)).collect())
    }
}

/// A stack with a listener on port 80.
struct Victim {
    engine: Arc<Engine>,
    out: Batch,
    now: Instant,
    /// Room for one batch.
    received: Vec<(PacketBuf, RxMeta)>,
    spare: Vec<PacketBuf>,
}

impl Victim {
    fn new(backlog: u32, change: impl FnOnce(&mut Config)) -> io::Result<Self> {
        let config = Config::default().with(|config| config.seed = Some(1)).with(change);
        let interface = Interface::new(Arc::new(Sink(Signal::new()))).address("10.0.0.1/8");
        let engine = Engine::new(config, vec![interface])?;
        let mut socket = Unconnected::new(engine.core(), engine.tcp(), Family::V4);
        engine.tcp().bind(engine.core(), &mut socket, SocketAddr::new(SERVER.into(), 80))?;
        // The table of listeners keeps it.
        engine.with_tcp(Instant::ZERO, |tcp, turn| tcp.listen(turn, socket, backlog, Arc::new(Nobody)))?;
        let spare = (0..BATCH).map(|_| engine.core().pool().take()).collect();
        let received = Vec::with_capacity(BATCH);
        Ok(Self { engine, out: Batch::new(), now: Instant::from_millis(1_000_000), received, spare })
    }

    /// Passes a batch to the stack, and returns how long that took.
    fn batch(&mut self, packets: &[Vec<u8>]) -> Duration {
        // Receiving is the work of the device, and neither of the stack nor one of the parts.
        for packet in packets {
            let mut buf = self.spare.pop().unwrap_or_else(|| self.engine.core().pool().take());
            buf.bytes_mut()[..packet.len()].copy_from_slice(packet);
            self.received.push((buf, RxMeta { len: packet.len(), ..RxMeta::default() }));
        }
        let start = clock::now();
        for (buf, meta) in self.received.drain(..) {
            self.engine.on_packet(self.now, QUEUE, buf, meta, &mut self.out);
            // As in a driver: the buffer of a packet that was not kept is used for another one.
            if let Some(spare) = self.out.take_spare() {
                self.spare.push(spare);
            }
        }
        self.engine.end_batch(self.now, &mut self.out);
        let took = start.elapsed();
        self.out.deliver(&self.engine);
        took
    }

    /// The time of `count` packets in batches.
    fn flood(&mut self, flood: &Flood, count: u64) -> Duration {
        let batches = count.div_ceil(BATCH as u64);
        let took: Duration =
            flood.0.chunks(BATCH).cycle().take(batches as usize).map(|packets| self.batch(packets)).sum();
        // Whole batches, scaled to `count` packets.
        Duration::from_nanos(
            (took.as_nanos() * u128::from(count) / u128::from(batches * BATCH as u64)) as u64,
        )
    }
}

/// A segment from the source `number`.
fn packet(number: u32, flags: Flags) -> Vec<u8> {
    let segment = Segment {
        window: 64_240,
        options: Options { mss: flags.contains(Flags::SYN).then_some(1460), ..Options::default() },
        ..Segment::new(
            flags,
            SeqNum::new(number.wrapping_mul(2_654_435_761)),
            SeqNum::new(number.wrapping_mul(40_503)),
        )
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
    emit_tcp(
        &mut header,
        &TcpDatagram {
            ip: &meta,
            src_port: 1024 + number as u16 % 60_000,
            dst_port: 80,
            segment: &segment,
            payload: &[],
        },
        ChecksumMode::Full,
    );
    header.to_vec()
}

/// A victim that has just sent cookies, so that stray acknowledgments are checked, and the flood of
/// them. Each is looked up among `half_open` connections first, if there are any.
fn under_attack(half_open: u32) -> io::Result<(Victim, Flood)> {
    let mut victim = Victim::new(half_open.saturating_sub(1), |config| {
        config.syncookies = if half_open == 0 { SynCookieMode::Always } else { SynCookieMode::Overflow };
        // The answers are a separate cost, which the limit on resets bounds.
        (config.reset_burst, config.reset_rate) = (0, 0);
    })?;
    victim.flood(&Flood::new(0, Flags::SYN), u64::from(SOURCES));
    if victim.engine.counters().syncookies_sent != u64::from(SOURCES - half_open) {
        return Err(io::Error::other("not every SYN but the first is answered with a cookie"));
    }
    let flood = Flood::new(SOURCES, Flags::ACK);
    victim.flood(&flood, u64::from(SOURCES));
    if victim.engine.counters().syncookies_failed != u64::from(SOURCES) {
        return Err(io::Error::other("forged cookies are not checked"));
    }
    Ok((victim, flood))
}

/// The parts that cannot be avoided.
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

    /// One SipHash over the input of a cookie: addresses, ports and a sequence number.
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
    let syns = Flood::new(0, Flags::SYN);
    let (mut victim, acks) = under_attack(0).expect("a stack");
    group.bench_function("forged-cookie-ack", |b| b.iter_custom(|n| victim.flood(&acks, n)));
    group.bench_function("syn-cookie", |b| b.iter_custom(|n| victim.flood(&syns, n)));
    let (mut busy, acks) = under_attack(HALF_OPEN).expect("a stack");
    group.bench_function("forged-cookie-ack-busy", |b| b.iter_custom(|n| busy.flood(&acks, n)));
    let mut closed =
        Victim::new(HALF_OPEN, |config| config.syncookies = SynCookieMode::Off).expect("a stack");
    closed.flood(&Flood::new(SOURCES, Flags::SYN), u64::from(SOURCES));
    group.bench_function("syn-dropped", |b| b.iter_custom(|n| closed.flood(&syns, n)));
    let parts = Parts::new();
    group.bench_function("parts/parse", |b| b.iter_custom(|n| parts.parse(n)));
    group.bench_function("parts/checksum", |b| b.iter_custom(|n| parts.checksum(n)));
    group.bench_function("parts/siphash", |b| b.iter_custom(|n| parts.hash(n)));
}

/// The best of several interleaved rounds, so that other work of the machine disturbs all equally.
fn compare() -> io::Result<bool> {
    const ROUNDS: usize = 200;
    const PACKETS: u64 = SOURCES as u64;
    let (mut victim, acks) = under_attack(0)?;
    let (mut busy, busy_acks) = under_attack(HALF_OPEN)?;
    let parts = Parts::new();
    let mut best = [Duration::MAX; 5];
    for _ in 0..ROUNDS {
        let times = [
            victim.flood(&acks, PACKETS),
            parts.parse(PACKETS),
            parts.checksum(PACKETS),
            parts.hash(PACKETS),
            busy.flood(&busy_acks, PACKETS),
        ];
        for (best, time) in best.iter_mut().zip(times) {
            *best = time.min(*best);
        }
    }
    let [whole, parse, checksum, hash, busy] = best.map(|time| time.as_nanos() * 10 / u128::from(PACKETS));
    let sum = parse + checksum + hash;
    let show = |tenths: u128| format!("{}.{} ns", tenths / 10, tenths % 10);
    let times = |tenths: u128| format!("{}.{:02} times", tenths / sum, tenths * 100 / sum % 100);
    println!(
        "a forged-cookie ACK costs {}; parse {} + checksum {} + one SipHash {} = {}; {} the sum",
        show(whole),
        show(parse),
        show(checksum),
        show(hash),
        show(sum),
        times(whole),
    );
    println!(
        "with {HALF_OPEN} half-open connections, among which it is looked for: {}; {}",
        show(busy),
        times(busy)
    );
    Ok(whole * 100 <= sum * LIMIT)
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
