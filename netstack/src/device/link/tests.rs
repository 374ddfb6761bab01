use super::*;
use crate::wire::{
    ChecksumMode, ChecksumOffload, Flags, Gso, HeaderBuf, IpMeta, Segment, SeqNum, TcpDatagram, emit_tcp,
    parse_ip, parse_tcp, tcp_checksum_ok, transport_checksum_ok,
};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};

fn config(text: &str) -> LinkConfig {
    text.parse().unwrap()
}

fn meta(v6: bool) -> IpMeta {
    let (src, dst): (IpAddr, IpAddr) = if v6 {
        ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap())
    } else {
        ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
    };
    IpMeta { src, dst, hop_limit: 64, traffic_class: 2, dont_fragment: true, ident: 1, flow_label: 0 }
}

/// Headers of a segment with sequence number `seq`.
fn headers(v6: bool, seq: u32, payload: &[u8], mode: ChecksumMode) -> (HeaderBuf, Option<ChecksumOffload>) {
    let segment = Segment {
        window: 100,
        payload_len: payload.len(),
        ..Segment::new(Flags::ACK.with(Flags::PSH), SeqNum::new(seq), SeqNum::new(0))
    };
    let mut buf = HeaderBuf::new();
    let offload = emit_tcp(
        &mut buf,
        &TcpDatagram { ip: &meta(v6), src_port: 1, dst_port: 2, segment: &segment, payload: &[payload] },
        mode,
    );
    (buf, offload)
}

/// Sends a packet of `len` bytes numbered `seq`.
fn send(device: &dyn Device, now: Instant, seq: u32, len: usize) -> io::Result<()> {
    let payload = vec![0x5a; len - 40];
    let (header, _) = headers(false, seq, &payload, ChecksumMode::Full);
    device.transmit(now, 0, &TxPacket { header: &header, payload: &[&payload], ..TxPacket::default() })
}

fn receive(device: &dyn Device, now: Instant) -> io::Result<(Vec<u8>, RxMeta)> {
    // Exchanged for the packet's own buffer.
    let mut buf = PacketBuf::copy_from(&[]);
    let meta = device.receive(now, 0, &mut buf)?;
    Ok((buf.bytes()[..meta.len].to_vec(), meta))
}

fn number(packet: &[u8]) -> u32 {
    u32::from_be_bytes([packet[24], packet[25], packet[26], packet[27]])
}

/// Everything that arrives at `b`, with its time, as `a`'s deadlines pass.
fn drain(a: &dyn Device, b: &dyn Device) -> Vec<(Instant, Vec<u8>)> {
    a.flush(0);
    let mut now = Instant::ZERO;
    let mut all = Vec::new();
    loop {
        while let Ok((packet, _)) = receive(b, now) {
            all.push((now, packet));
        }
        let Some(next) = a.next_deadline().into_iter().chain(b.next_deadline()).min() else { return all };
        assert!(next >= now, "time went back");
        now = next;
        a.on_deadline(now);
        b.on_deadline(now);
    }
}

/// Sends `count` packets of 100 bytes at once over a link impaired by `text`; gives the numbers of
/// those that arrive, in order, and the counters.
fn numbers_after(text: &str, count: u32) -> (Vec<u32>, LinkStats) {
    let (a, b) = Link::pair(config(&format!("{text},limit=1000000")), LinkConfig::default());
    let mut arrived = Vec::new();
    // Built once: a new number alone makes the next packet, with a wrong checksum.
    let (header, _) = headers(false, 0, &[0; 60], ChecksumMode::Full);
    let mut header = header.to_vec();
    for start in (0..count).step_by(10_000) {
        for seq in start..count.min(start + 10_000) {
            header[24..28].copy_from_slice(&seq.to_be_bytes());
            let packet = TxPacket { header: &header, payload: &[&[0; 60]], ..TxPacket::default() };
            a.transmit(Instant::ZERO, 0, &packet).unwrap();
        }
        arrived.extend(drain(&a, &b).iter().map(|(_, packet)| number(packet)));
    }
    (arrived, a.egress_stats())
}

fn assert_share(count: u64, of: u64, expected: f64) {
    let share = count as f64 / of as f64;
    // Five standard deviations.
    let bound = 5.0 * (expected * (1.0 - expected) / of as f64).sqrt();
    assert!((share - expected).abs() <= bound, "{share} instead of {expected} +- {bound}");
}

#[test]
fn without_impairments_packets_pass_whole() {
    let (a, b) = Link::pair(LinkConfig::default(), LinkConfig::default());
    let payload = [1; 3000];
    let (header, checksum) = headers(false, 0, &payload, ChecksumMode::Offload);
    let gso = Some(Gso { size: 1000, header_len: 40 });
    a.transmit(
        Instant::ZERO,
        0,
        &TxPacket { header: &header, payload: &[&payload], checksum, gso, ..TxPacket::default() },
    )
    .unwrap();
    let mut buf = Pool::new().take();
    let meta = b.receive(Instant::ZERO, 0, &mut buf).unwrap();
    assert_eq!(meta, RxMeta { len: 3040, checksum_verified: true, gso_size: Some(1000) });
}

#[test]
fn a_delay_is_exact() {
    let (a, b) = Link::pair(config("delay=20ms"), LinkConfig::default());
    let start = Instant::from_millis(7);
    send(&a, start, 1, 100).unwrap();
    a.flush(0);
    let due = start + Duration::from_millis(20);
    assert_eq!(a.next_deadline(), Some(due));
    let early = Instant::from_nanos(due.as_nanos() - 1);
    a.on_deadline(early);
    assert_eq!(receive(&b, early).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    a.on_deadline(due);
    assert!(receive(&b, due).is_ok());
    assert_eq!(a.next_deadline(), None);
}

#[test]
fn a_rate_is_exact() {
    // 7 Mbit/s does not divide a second's nanoseconds.
    let (a, b) = Link::pair(config("rate=7mbit,queue=10mb"), LinkConfig::default());
    for seq in 0..1000 {
        send(&a, Instant::ZERO, seq, 1500).unwrap();
    }
    let arrived = drain(&a, &b);
    assert_eq!(arrived.len(), 1000);
    for (n, (at, _)) in arrived.iter().enumerate() {
        let exact = (n as u64 + 1) * 1500 * 8 * 1_000_000_000 / 7_000_000;
        assert_eq!(at.as_nanos(), exact, "packet {n}");
    }
    // An idle link has saved nothing up.
    let later = Instant::from_millis(60_000);
    send(&a, later, 1, 1500).unwrap();
    assert_eq!(a.next_deadline(), Some(later + Duration::from_nanos(1500 * 8 * 1000 / 7)));
}

#[test]
fn the_queue_in_front_of_a_rate_drops_its_tail() {
    let (a, b) = Link::pair(config("rate=12mbit,queue=15000b"), LinkConfig::default());
    for seq in 0..100 {
        send(&a, Instant::ZERO, seq, 1500).unwrap();
    }
    assert_eq!(a.egress_stats().queue_drops, 90);
    // Two milliseconds put two packets on the wire and make room for two.
    for seq in 100..105 {
        send(&a, Instant::from_millis(2), seq, 1500).unwrap();
    }
    let numbers: Vec<u32> = drain(&a, &b).iter().map(|(_, packet)| number(packet)).collect();
    assert_eq!(numbers, (0..10).chain(100..102).collect::<Vec<_>>());
}

#[test]
fn a_packet_larger_than_the_queue_passes_an_idle_link() {
    let (a, b) = Link::pair(config("rate=1mbit,queue=100b"), LinkConfig::default());
    send(&a, Instant::ZERO, 1, 1500).unwrap();
    assert_eq!(drain(&a, &b).len(), 1);
}

#[test]
fn a_long_queue_marks_congestion() {
    let (a, b) = Link::pair(config("rate=12mbit,ecn=3000b"), LinkConfig::default());
    for seq in 0..10 {
        send(&a, Instant::ZERO, seq, 1500).unwrap();
    }
    let arrived = drain(&a, &b);
    let marks: Vec<bool> = arrived.iter().map(|(_, packet)| parse_ip(packet).unwrap().ecn() == 3).collect();
    assert_eq!(marks, (0..10).map(|n| n > 2).collect::<Vec<_>>());
    assert_eq!(a.egress_stats().marked, 7);
}

#[test]
fn a_share_of_capable_packets_is_marked_and_a_part_of_a_super_segment_on_its_own() {
    let (a, b) = Link::pair(config("mark=25%,seed=3"), LinkConfig::default());
    let payload = vec![1; 40_000];
    let (header, checksum) = headers(false, 0, &payload, ChecksumMode::Offload);
    let gso = Some(Gso { size: 1000, header_len: header.len() as u16 });
    a.transmit(
        Instant::ZERO,
        0,
        &TxPacket { header: &header, payload: &[&payload], checksum, gso, ..TxPacket::default() },
    )
    .unwrap();
    let arrived = drain(&a, &b);
    let marks = arrived.iter().filter(|(_, packet)| parse_ip(packet).unwrap().ecn() == 3).count();
    assert_eq!(arrived.len(), 40, "cut, so that each is marked or not");
    assert_eq!(a.egress_stats().marked, marks as u64);
    assert!((4..=16).contains(&marks), "{marks}");
    assert!(arrived.iter().all(|(_, packet)| tcp_checksum_ok(
        meta(false).src,
        meta(false).dst,
        &packet[20..]
    )));
}

#[test]
fn losses_are_the_share_that_was_asked_for() {
    for (text, share) in [("loss=1%", 0.01), ("loss=30%", 0.3)] {
        let (arrived, stats) = numbers_after(text, 100_000);
        assert_eq!((stats.packets, stats.lost), (100_000, 100_000 - arrived.len() as u64));
        assert_share(stats.lost, stats.packets, share);
        assert!(arrived.is_sorted());
    }
    assert_eq!(numbers_after("loss=100%", 100).0, []);
}

#[test]
fn bursts_have_their_mean_length_and_lose_the_same_share() {
    let (arrived, stats) = numbers_after("loss=5%,burst=4,seed=3", 200_000);
    let share = stats.lost as f64 / stats.packets as f64;
    assert!((share - 0.05).abs() < 0.006, "{share}");
    let gaps = arrived.windows(2).filter(|pair| pair[1] - pair[0] > 1).count();
    let mean = stats.lost as f64 / gaps as f64;
    assert!((mean - 4.0).abs() < 0.3, "{mean}");
}

#[test]
fn duplicates_are_the_share_that_was_asked_for() {
    let (arrived, stats) = numbers_after("duplicate=10%", 100_000);
    assert_eq!(arrived.len() as u64, 100_000 + stats.duplicated);
    assert_share(stats.duplicated, stats.packets, 0.1);
    assert!(arrived.is_sorted());
}

#[test]
fn reordered_packets_overtake_and_jitter_alone_does_not() {
    let (arrived, stats) = numbers_after("delay=20ms,reorder=5%", 100_000);
    assert_eq!(arrived.len(), 100_000);
    assert_share(stats.reordered, stats.packets, 0.05);
    assert!(!arrived.is_sorted());

    let (a, b) = Link::pair(config("delay=20ms,jitter=5ms"), LinkConfig::default());
    let mut travel = Vec::new();
    for micros in 0..1_100_000 {
        let now = Instant::from_micros(micros);
        if micros % 1000 == 0 && micros < 1_000_000 {
            send(&a, now, micros as u32, 100).unwrap();
        }
        if a.next_deadline().is_some_and(|deadline| deadline <= now) {
            a.on_deadline(now);
        }
        while let Ok((packet, _)) = receive(&b, now) {
            travel.push((number(&packet), micros - u64::from(number(&packet))));
        }
    }
    assert_eq!(travel.len(), 1000);
    assert!(travel.is_sorted_by_key(|(number, _)| *number));
    let travel: Vec<u64> = travel.into_iter().map(|(_, time)| time).collect();
    assert!(travel.iter().all(|time| (15_000..=25_001).contains(time)));
    assert!(travel.iter().any(|time| *time < 18_000) && travel.iter().any(|time| *time > 22_000));
}

#[test]
fn corruption_inverts_one_bit() {
    let (a, b) = Link::pair(config("corrupt=100%"), LinkConfig::default());
    for seq in 0..200 {
        send(&a, Instant::ZERO, seq, 100).unwrap();
    }
    for (seq, (_, packet)) in drain(&a, &b).into_iter().enumerate() {
        let (header, _) = headers(false, seq as u32, &[0x5a; 60], ChecksumMode::Full);
        let good = [header.as_slice(), &[0x5a; 60]].concat();
        let bits: u32 = good.iter().zip(&packet).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(bits, 1);
    }
    let (_, stats) = numbers_after("corrupt=1%", 100_000);
    assert_share(stats.corrupted, stats.packets, 0.01);
}

#[test]
fn a_seed_decides_everything() {
    let text = "delay=5ms,jitter=2ms,loss=5%,burst=2,reorder=5%,duplicate=5%,corrupt=5%,rate=50mbit";
    let trace = |seed: u64| {
        let (a, b) = Link::pair(config(&format!("{text},seed={seed}")), LinkConfig::default());
        for seq in 0..500 {
            send(&a, Instant::from_micros(seq.into()), seq, 200).unwrap();
        }
        (drain(&a, &b), a.egress_stats())
    };
    assert_eq!(trace(1), trace(1));
    assert_ne!(trace(1).0, trace(2).0);
}

#[test]
fn directions_with_the_same_seed_differ() {
    let (a, b) = Link::pair(config("loss=50%"), config("loss=50%"));
    for seq in 0..100 {
        send(&a, Instant::ZERO, seq, 100).unwrap();
        send(&b, Instant::ZERO, seq, 100).unwrap();
    }
    let numbers = |arrived: Vec<(Instant, Vec<u8>)>| -> Vec<u32> {
        arrived.iter().map(|(_, packet)| number(packet)).collect()
    };
    assert_ne!(numbers(drain(&a, &b)), numbers(drain(&b, &a)));
}

#[test]
fn super_segments_are_cut_on_their_way_out_and_in() {
    for v6 in [false, true] {
        for inward in [false, true] {
            let (a, b) = Pair::new(PairConfig::default());
            let (a, b): (Arc<dyn Device>, Arc<dyn Device>) = (Arc::new(a), Arc::new(b));
            let delay = config("delay=1ms");
            let (a, b): (Arc<dyn Device>, Arc<dyn Device>) = if inward {
                (a, Arc::new(Link::new(b, delay, LinkConfig::default())))
            } else {
                (Arc::new(Link::new(a, LinkConfig::default(), delay)), b)
            };
            let payload: Vec<u8> = (0..3500u32).map(|n| n as u8).collect();
            let (header, checksum) = headers(v6, 500, &payload, ChecksumMode::Offload);
            let gso = Some(Gso { size: 1000, header_len: header.len() as u16 });
            let (front, back) = payload.split_at(1001);
            let packet =
                TxPacket { header: &header, payload: &[front, back], checksum, gso, ..TxPacket::default() };
            a.transmit(Instant::ZERO, 0, &packet).unwrap();
            let arrived = drain(&*a, &*b);
            assert_eq!(arrived.len(), 4);
            let mut joined = Vec::new();
            for (n, (at, packet)) in arrived.iter().enumerate() {
                assert_eq!(*at, Instant::from_millis(1));
                let ip = parse_ip(packet).unwrap();
                assert_eq!(ip.payload.end, packet.len());
                let tcp = &packet[ip.payload];
                assert!(tcp_checksum_ok(ip.src, ip.dst, tcp));
                let (segment, data) = parse_tcp(tcp).unwrap();
                assert_eq!(segment.seq, SeqNum::new(500 + 1000 * n as u32));
                assert_eq!(segment.flags.contains(Flags::PSH), n == 3);
                joined.extend_from_slice(&tcp[data..]);
            }
            assert_eq!(joined, payload);
        }
    }
}

#[test]
fn a_corrupted_packet_is_no_longer_vouched_for() {
    let (a, b) = Pair::new(PairConfig::default());
    let b = Link::new(Arc::new(b), config("corrupt=100%"), LinkConfig::default());
    let payload = [7; 1000];
    let mut bad = 0;
    for seq in 0..100 {
        let (header, checksum) = headers(false, seq, &payload, ChecksumMode::Offload);
        let packet =
            TxPacket { header: &header, payload: &[&payload], checksum, gso: None, ..TxPacket::default() };
        a.transmit(Instant::ZERO, 0, &packet).unwrap();
        let (packet, meta) = receive(&b, Instant::ZERO).unwrap();
        assert!(!meta.checksum_verified);
        bad += match parse_ip(&packet) {
            Ok(ip) => usize::from(!transport_checksum_ok(ip.src, ip.dst, ip.protocol, &packet[ip.payload])),
            Err(_) => 1,
        };
    }
    // What inverts a bit of TTL or the like goes unnoticed only past the IPv4 header's checksum.
    assert_eq!(bad, 100);
}

#[test]
fn a_checksum_left_to_the_device_is_complete_after_the_link() {
    let (a, b) = Pair::new(PairConfig::default());
    let b = Link::new(Arc::new(b), config("delay=1ms"), LinkConfig::default());
    let (header, checksum) = headers(true, 1, b"odd", ChecksumMode::Offload);
    let packet = TxPacket { header: &header, payload: &[b"odd"], checksum, gso: None, ..TxPacket::default() };
    a.transmit(Instant::ZERO, 0, &packet).unwrap();
    let arrived = drain(&a, &b);
    let ip = parse_ip(&arrived[0].1).unwrap();
    assert!(tcp_checksum_ok(ip.src, ip.dst, &arrived[0].1[ip.payload]));
}

/// Somewhere to send to that is interrupted in the middle of it, as by another thread.
#[derive(Default)]
struct Interrupted {
    link: std::sync::OnceLock<std::sync::Weak<Link>>,
    sent: parking_lot::Mutex<Vec<u32>>,
    signal: crate::device::Signal,
}

impl Device for Interrupted {
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

    fn receive(&self, _now: Instant, _queue: usize, _buf: &mut PacketBuf) -> io::Result<RxMeta> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn transmit(&self, now: Instant, _queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        if let Some(link) = self.link.get().and_then(std::sync::Weak::upgrade) {
            link.on_deadline(now);
            link.flush(0);
        }
        self.sent.lock().push(number(packet.header));
        Ok(())
    }

    fn readiness(&self, _queue: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }
}

#[test]
fn only_one_at_a_time_moves_packets_on() {
    let inner = Arc::new(Interrupted::default());
    let dyn_inner: Arc<dyn Device> = Arc::clone(&inner) as Arc<dyn Device>;
    let link = Arc::new(Link::new(dyn_inner, LinkConfig::default(), config("delay=1ms")));
    inner.link.set(Arc::downgrade(&link)).unwrap();
    for seq in 0..5 {
        send(&*link, Instant::ZERO, seq, 100).unwrap();
    }
    link.on_deadline(Instant::from_millis(1));
    assert_eq!(*inner.sent.lock(), [0, 1, 2, 3, 4]);
}

#[test]
fn received_packets_wait_although_nobody_calls_on_time() {
    let (a, b) = Pair::new(PairConfig::default());
    let b = Link::new(Arc::new(b), config("delay=10ms"), LinkConfig::default());
    send(&a, Instant::ZERO, 1, 100).unwrap();
    assert!(receive(&b, Instant::ZERO).is_err());
    assert_eq!(b.next_deadline(), Some(Instant::from_millis(10)));
    assert!(receive(&b, Instant::from_millis(9)).is_err());
    assert!(receive(&b, Instant::from_millis(500)).is_ok(), "late and without on_deadline");
    assert_eq!(b.next_deadline(), None);
}

#[test]
fn what_is_under_way_arrives_after_the_other_end_is_gone() {
    let (a, b) = Pair::new(PairConfig::default());
    let b = Link::new(Arc::new(b), config("delay=10ms"), LinkConfig::default());
    send(&a, Instant::ZERO, 1, 100).unwrap();
    drop(a);
    assert_eq!(receive(&b, Instant::ZERO).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(receive(&b, Instant::ZERO).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(receive(&b, Instant::from_millis(10)).is_ok());
    assert_eq!(receive(&b, Instant::from_millis(10)).unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(send(&b, Instant::ZERO, 1, 100).unwrap_err().kind(), io::ErrorKind::NotConnected);
}

#[test]
fn an_outage_begins_and_ends() {
    let (a, b) = Link::pair(config("delay=1ms"), LinkConfig::default());
    send(&a, Instant::ZERO, 1, 100).unwrap();
    a.set_down(true);
    send(&a, Instant::ZERO, 2, 100).unwrap();
    a.set_down(false);
    send(&a, Instant::ZERO, 3, 100).unwrap();
    let numbers: Vec<u32> = drain(&a, &b).iter().map(|(_, packet)| number(packet)).collect();
    assert_eq!(numbers, [1, 3]);
    a.set_egress(config("delay=3ms"));
    send(&a, Instant::from_millis(5), 4, 100).unwrap();
    assert_eq!(a.next_deadline(), Some(Instant::from_millis(8)));
}

#[test]
fn a_full_inner_device_holds_packets_back_but_loses_none() {
    let cable = PairConfig { queue: 3, ..PairConfig::default() };
    let (a, b) = Link::pair_over(cable, config("delay=1ms,limit=50"), LinkConfig::default());
    for seq in 0..60 {
        send(&a, Instant::ZERO, seq, 100).unwrap();
    }
    assert_eq!(a.egress_stats().queue_drops, 10);
    // Three cross, and the others wait for the device, which counts towards the limit.
    a.on_deadline(Instant::from_millis(1));
    for seq in 60..70 {
        send(&a, Instant::ZERO, seq, 100).unwrap();
    }
    assert_eq!(a.egress_stats().queue_drops, 17);
    let arrived = drain(&a, &b);
    let numbers: Vec<u32> = arrived.iter().map(|(_, packet)| number(packet)).collect();
    assert_eq!(numbers, (0..50).chain(60..63).collect::<Vec<_>>());
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn reactors_are_woken_for_deadlines_and_for_packets() {
    let (a, b) = Link::pair(config("delay=1ms"), LinkConfig::default());
    let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
    for (device, count) in [&a, &b].into_iter().zip(&counts) {
        let waker = Waker::from(Arc::clone(count));
        let Readiness::Signal(signal) = device.readiness(0) else { unreachable!() };
        assert!(signal.poll_readable(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(device.next_deadline(), None);
    }
    let woken = || [0, 1].map(|n: usize| counts[n].0.load(Ordering::Relaxed));
    send(&a, Instant::ZERO, 1, 100).unwrap();
    assert_eq!(woken(), [0, 0]);
    a.flush(0);
    assert_eq!(woken()[0], 1, "the sender's reactor has a deadline to keep");
    assert_eq!(a.next_deadline(), Some(Instant::from_millis(1)));
    let waker = Waker::from(Arc::clone(&counts[1]));
    let Readiness::Signal(signal) = b.readiness(0) else { unreachable!() };
    while signal.poll_readable(&mut Context::from_waker(&waker)).is_ready() {}
    let before = woken()[1];
    a.on_deadline(Instant::from_millis(1));
    assert_eq!(woken()[1], before + 1, "the receiver's reactor has a packet");
}

#[test]
fn links_stack() {
    let (a, b) = Link::pair(config("delay=1ms"), LinkConfig::default());
    let a = Link::new(Arc::new(a), LinkConfig::default(), config("delay=2ms"));
    send(&a, Instant::ZERO, 1, 100).unwrap();
    assert_eq!(drain(&a, &b)[0].0, Instant::from_millis(3));
}

#[test]
fn threads_that_send_and_keep_deadlines_at_once_reorder_nothing() {
    const COUNT: u32 = 5_000;
    let cable = PairConfig { queue: 64, ..PairConfig::default() };
    let (a, b) = Link::pair_over(cable, config("delay=1us"), LinkConfig::default());
    let clock = std::sync::atomic::AtomicU64::new(0);
    // Every look at the clock moves it on.
    let now = || Instant::from_nanos(clock.fetch_add(100, Ordering::Relaxed));
    let mut expected = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 0..COUNT {
                send(&a, now(), seq, 100).unwrap();
                a.flush(0);
            }
        });
        while expected < COUNT {
            assert!(now() < Instant::from_millis(6_000), "stalled");
            if a.next_deadline().is_some() {
                a.on_deadline(now());
            }
            while let Ok((packet, _)) = receive(&b, now()) {
                assert_eq!(number(&packet), expected);
                expected += 1;
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(a.egress_stats().delivered, COUNT.into());
}

#[test]
fn extreme_impairments_do_not_panic() {
    let extreme = LinkConfig {
        delay: Duration::MAX,
        jitter: Duration::MAX,
        loss: f64::NAN,
        burst: Some(0.0),
        reorder: 2.0,
        duplicate: -1.0,
        corrupt: f64::INFINITY,
        rate: Some(0),
        queue: usize::MAX,
        limit: 0,
        ..LinkConfig::default()
    };
    for rate in [Some(0), Some(1), Some(u64::MAX)] {
        for limit in [0, 10] {
            let config = LinkConfig { rate, limit, ..extreme.clone() };
            let (a, _b) = Link::pair(config, LinkConfig::default());
            for seq in 0..10 {
                send(&a, Instant::from_nanos(u64::MAX / 2), seq, 1500).unwrap();
            }
            a.on_deadline(Instant::FAR_FUTURE);
        }
    }
}
