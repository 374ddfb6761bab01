//! Holes that other stacks had, by their names, tried on this one.
//!
//! Each test says what was removed to see it fail.

#[path = "robustness/lab.rs"]
mod lab;

use lab::{Lab, Numbers, Peer, SECOND, SERVER, tcp, udp};
use netstack::config::ReversePath;
use netstack::tcp::State;
use netstack::time::Duration;
use netstack::wire::{Flags, Options, SackBlock, Segment, SeqNum};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

fn tiny_mss(mss: u16) -> Options {
    Options { mss: Some(mss), sack_permitted: true, window_scale: Some(7), ..Options::default() }
}

/// A connection to a peer with a tiny MSS, and at least `bytes` in flight. The last is where they end.
fn tiny_in_flight(mss: u16, bytes: u32) -> (Lab, Arc<netstack::stack::Listener>, Peer, SeqNum) {
    let mut lab = Lab::new(|config| {
        config.initial_window = 1024;
        (config.send_buffer_initial, config.send_buffer_max) = (8 << 20, 8 << 20);
    });
    let listener = lab.listen(80, 64);
    let (mut peer, cell) = Peer::hostile(80).offering(tiny_mss(mss)).established(&mut lab, &listener);
    for _ in 0..100 {
        while lab.write(&cell, &[7; 16 << 10]).is_ok() {}
        lab.set_full(false);
        let end = lab.segments().last().map(|segment| segment.seq + segment.payload_len as u32);
        let end = end.expect("something is sent");
        if end - peer.rcv_nxt >= bytes {
            lab.pass(Duration::from_millis(5));
            return (lab, listener, peer, end);
        }
        peer.rcv_nxt = end;
        lab.pass(Duration::from_millis(5));
        lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    }
    panic!("the window does not grow");
}

fn sack(peer: &Peer, blocks: &[(u32, u32)]) -> Vec<u8> {
    let mut segment = peer.segment(Flags::ACK);
    let block =
        |(start, end): &(u32, u32)| SackBlock { start: peer.rcv_nxt + *start, end: peer.rcv_nxt + *end };
    segment.options.sack = blocks.iter().map(block).collect();
    peer.packet(&segment, &[])
}

/// "SACK Panic": runs of SACKed tiny segments were merged until a 16-bit count of segments overflowed.
/// There is no guard to remove: positions have 64 bits, and nothing counts segments in 16. Planted instead: bytes of a
/// SACKed range that are cut to 16 bits (`Scoreboard::insert`).
#[test]
fn cve_2019_11477_sack_panic() {
    let (mut lab, listener, mut peer, end) = tiny_in_flight(48, 400_000);
    let flight = end - peer.rcv_nxt;
    // Every second segment, then the ones between: one run of more than 65,535 / 8 segments.
    for n in 0..flight / 96 {
        lab.give(&sack(&peer, &[(96 * n + 48, 96 * n + 96)]));
    }
    for n in 1..flight / 96 {
        lab.give(&sack(&peer, &[(96 * n, 96 * n + 96), (48, 96 * n)]));
    }
    lab.give(&sack(&peer, &[(48, flight)]));
    lab.engine.inspect(lab.now).expect("a consistent stack");
    lab.sent();
    peer.rcv_nxt = end;
    lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    assert!(!lab.segments().is_empty(), "it goes on");
    lab.legit_echo(&listener);
}

/// "SACK Slowness": a retransmission queue that was shredded into tiny pieces.
/// Removed: `Scoreboard::is_shredded` (there are 4,100 records then).
#[test]
fn cve_2019_11478_sack_slowness() {
    let (mut lab, listener, peer, end) = tiny_in_flight(48, 400_000);
    let flight = end - peer.rcv_nxt;
    for n in 0..flight / 96 {
        lab.give(&sack(&peer, &[(96 * n + 48, 96 * n + 96)]));
    }
    let records = lab.engine.inspect(lab.now).expect("a consistent stack").records;
    assert!(records <= 2_000, "{records} records for {flight} bytes");
    lab.sent();
    lab.legit_echo(&listener);
}

/// "Excess resource consumption due to low MSS": one byte of payload for 40 of headers.
/// Removed: the floor `min_snd_mss` in `Offer`.
#[test]
fn cve_2019_11479_low_mss() {
    for mss in [0, 1, 8, 47] {
        let (mut lab, listener, peer, _) = tiny_in_flight(mss, 10_000);
        lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
        lab.pass(SECOND);
        let again: Vec<_> = lab.segments().iter().map(|segment| segment.payload_len).collect();
        assert!(!again.is_empty() && again.iter().all(|len| *len >= 48), "MSS {mss}: {again:?}");
        lab.legit_echo(&listener);
    }
}

/// Who is beside a host on one of its networks finds out what it does through its tunnel, by packets to the tunnel's
/// address that come in on the other interface: they are answered differently if there is a connection.
/// Removed: `rp_filter` (off, which is the default as in Linux, and then the answers differ).
#[test]
fn cve_2019_14899_inferring_tunneled_connections() {
    let answers = |rp_filter| {
        // The tunnel is interface 0; what the test injects comes in on interface 1.
        let mut lab = Lab::with_second_interface(|config| config.rp_filter = rp_filter, "192.168.1.2/24");
        let server = SocketAddr::new(Ipv4Addr::new(10, 80, 0, 1).into(), 443);
        let cell = lab.connect(server).expect("a port");
        let syn = lab.segments().remove(0);
        let port = cell.local_addr().port();
        let source = (Ipv4Addr::new(10, 80, 0, 1), 443);
        let mut peer = Peer::new(source, port, SeqNum::new(77));
        let mut syn_ack = Segment::new(Flags::SYN.with(Flags::ACK), peer.isn, syn.seq + 1);
        syn_ack.window = 60_000;
        lab.give(&peer.packet(&syn_ack, &[]));
        assert_eq!(cell.state(), State::Established);
        peer.snd_nxt = peer.isn + 1;
        lab.sent();
        // The attacker asks for this port, and for one that nobody has.
        [port, port ^ 1].map(|port| {
            let mut probe = Segment::new(Flags::SYN.with(Flags::ACK), SeqNum::new(5), SeqNum::new(6));
            probe.window = 1_000;
            let packet = tcp((source.0.into(), source.1), (SERVER.into(), port), &probe, &[]);
            lab.give_on(1, &packet);
            lab.sent_by_all().len()
        })
    };
    assert_eq!(answers(ReversePath::Strict), [0, 0]);
    assert_ne!(answers(ReversePath::Off), [0, 0], "so it is the filter");
}

/// Source ports from 256 places that moved on by one: a host was recognised by those that its destinations shared.
/// Removed: 256 places for 65,536 (`ports.rs`), a step of one, or a hash without a key.
#[test]
fn cve_2022_32296_source_ports_tell_of_other_connections() {
    let lab = Lab::new(|_| ());
    let connect = |host: u32| {
        let to = SocketAddr::new(Ipv4Addr::from_bits(0x0a10_0000 + host).into(), 443);
        let cell = lab.connect(to).expect("a port");
        lab.close(&cell);
        lab.sent();
        i32::from(cell.local_addr().port())
    };
    // The observer's own host is contacted before and after 20 connections to another.
    let mut moved = 0;
    let mut steps = std::collections::BTreeSet::new();
    for pair in 0..3_000 {
        let before = connect(2 * pair);
        for _ in 0..20 {
            connect(2 * pair + 1);
        }
        let step = (connect(2 * pair) - before).rem_euclid(28_232);
        moved += u32::from(step > 16);
        steps.insert(step);
    }
    // With 256 places there would be twelve.
    assert!(moved <= 2, "{moved} of 3000 pairs of hosts share a place");
    assert!(steps.len() >= 8, "{steps:?}");
}

/// How many resets an attacker gets for 10,000 segments of its own, after `spoofed` in the name of a peer.
fn resets_seen(seed: u64, exists: bool, spoofed: u32) -> usize {
    let mut lab = Lab::new(|config| config.seed = Some(seed));
    let listener = lab.listen(80, 8);
    let peer = Peer::new((Ipv4Addr::new(10, 81, 0, 1), 5_555), 80, SeqNum::new(1));
    let (peer, _cell) = peer.established(&mut lab, &listener);
    let port = if exists { peer.source.1 } else { 5_556 };
    let from = Peer { source: (peer.source.0, port), ..peer };
    for n in 0..spoofed {
        let guess = Segment::new(Flags::ACK, SeqNum::new(n.wrapping_mul(1_000_003)), SeqNum::new(n ^ 77));
        lab.give_in_batch(&from.packet(&guess, &[]));
    }
    lab.end_batch();
    lab.sent();
    let own = Peer::hostile(81);
    let stray = own.packet(&Segment::new(Flags::ACK, SeqNum::new(5), SeqNum::new(6)), &[]);
    (0..20_000).for_each(|_| lab.give_in_batch(&stray));
    lab.end_batch();
    lab.sent().len()
}

/// A limit of challenge ACKs that all connections shared told whether one exists. Here they are limited for each; and
/// the limit of resets, which is one for all, is taken from alike whether a segment found a connection or not.
/// Removed: `charge_out_of_place` (the first assertion), the random prices of `RateLimit` (the second).
#[test]
fn cve_2016_5696_a_shared_limit_tells_of_connections() {
    let seen =
        |exists, spoofed| (0..12).map(move |seed| resets_seen(seed, exists, spoofed)).collect::<Vec<_>>();
    let mean = |seen: &[usize]| seen.iter().sum::<usize>() as f64 / seen.len() as f64;
    // Half of the limit, in the name of the peer: with a connection or without, the same is left.
    let (with, without) = (seen(true, 5_000), seen(false, 5_000));
    // One standard deviation of a mean of twelve is about 24.
    assert!((mean(&with) - mean(&without)).abs() < 150.0, "{with:?} with a connection, {without:?} without");
    // And what is left says little of a hundred segments, even if it were counted.
    let (some, none) = (seen(false, 100), seen(false, 0));
    let (low, high) = (none.iter().min(), some.iter().max());
    assert!(low < high, "{none:?} before, {some:?} after a hundred");
    // The channel itself: challenge ACKs of one connection take nothing from those of another.
    let mut lab = Lab::new(|_| ());
    let listener = lab.listen(80, 8);
    let (one, _one) = Peer::hostile(80).established(&mut lab, &listener);
    let other = Peer::new((Ipv4Addr::new(10, 81, 0, 2), 9), 80, SeqNum::new(1));
    let (other, _other) = other.established(&mut lab, &listener);
    for _ in 0..1_000 {
        one.probe(&mut lab, Flags::SYN, |_| ());
        lab.pass(Duration::from_millis(1));
    }
    assert_eq!(other.probe(&mut lab, Flags::SYN, |_| ()).len(), 1);
}

/// "SegmentSmack": tiny segments out of order made every later one cost more.
/// Removed: `MOST_HOLES` of the assembler.
#[test]
fn cve_2018_5390_segment_smack() {
    let mut lab = Lab::new(|config| config.recv_buffer_initial = 4 << 20);
    let listener = lab.listen(80, 8);
    let (mut peer, cell) = Peer::hostile(80).offering(tiny_mss(1460)).established(&mut lab, &listener);
    for n in 0..15_000 {
        let packet =
            peer.packet(&Segment { seq: peer.snd_nxt + 2 + 2 * n, ..peer.segment(Flags::ACK) }, b"x");
        lab.give_in_batch(&packet);
    }
    lab.end_batch();
    lab.sent();
    // One segment over all holes: the block that reports it says how many it has filled.
    let first = peer.snd_nxt + 1;
    let answers = peer.say_at(&mut lab, first, &vec![b'y'; 30_000]);
    // The first block is of what it has sent twice.
    let blocks = answers.last().map(|segment| segment.options.sack.clone()).unwrap_or_default();
    let longest = blocks.iter().map(|block| block.end - block.start).max().expect("a block");
    assert!((2..=200).contains(&longest), "{longest} bytes at once");
    let held = lab.engine.inspect(lab.now).expect("a consistent stack").receive_memory;
    assert!(held <= 8 << 20, "{held} bytes held");
    lab.legit_echo(&listener);
    // In order it is all read, and the first copy of each byte is the one that counts.
    peer.say(&mut lab, b"z");
    let mut read = lab.read(&cell);
    for _ in 0..400 {
        let next = Peer { snd_nxt: peer.snd_nxt + (read.len() as u32 - 1), ..peer.clone() };
        next.say_at(&mut lab, next.snd_nxt, &vec![b'y'; 30_000]);
        read.extend(lab.read(&cell));
    }
    assert_eq!(read[..4], *b"zyxy");
}

/// Makes an IPv4 header right after a change.
fn mended(mut packet: Vec<u8>, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    change(&mut packet);
    packet[10..12].fill(0);
    let sum = netstack::wire::checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Lengths of IPv4 and its options that lie (CVE-2020-13984, -13987, -17442 and their kin).
/// Removed: the comparison of the total length with the packet's in `wire::parse_ip`.
#[test]
fn amnesia_33_lengths_that_lie() {
    let mut lab = Lab::new(|_| ());
    let listener = lab.listen(80, 8);
    let _socket = lab.bind_udp(53);
    let datagrams = |lab: &Lab| lab.counters().udp_in_datagrams;
    let from = (Ipv4Addr::new(10, 82, 0, 1).into(), 9);
    let datagram = udp(from, (SERVER.into(), 53), &[7; 100]);
    for total in [0u16, 1, 19, 20, 27, 129, 1_000, u16::MAX] {
        lab.give(&mended(datagram.clone(), |packet| packet[2..4].copy_from_slice(&total.to_be_bytes())));
    }
    for words in [0u8, 1, 4, 6, 15] {
        lab.give(&mended(datagram.clone(), |packet| packet[0] = 0x40 | words));
    }
    for udp_len in [0u16, 1, 7, 109, u16::MAX] {
        let mut packet = datagram.clone();
        packet[24..26].copy_from_slice(&udp_len.to_be_bytes());
        packet[26..28].fill(0);
        lab.give(&packet);
    }
    assert_eq!(datagrams(&lab), 0, "none of them was the datagram that it said");
    lab.give(&datagram);
    assert_eq!(datagrams(&lab), 1);
    lab.sent();
    lab.legit_echo(&listener);
}

/// The urgent pointer behind the segment (CVE-2020-17437), and options of TCP that end in the middle (CVE-2020-13988,
/// CVE-2020-24337: an option of length 0 made a loop without end).
/// Removed: the check of an option's length in `wire/tcp/header.rs` (an endless loop).
#[test]
fn amnesia_33_urgent_pointers_and_options() {
    let mut lab = Lab::new(|_| ());
    let listener = lab.listen(80, 64);
    let (peer, cell) = Peer::hostile(80).established(&mut lab, &listener);
    for urgent in [0, 1, 3, 4, 5, 1_000, u16::MAX] {
        let mut segment = peer.segment(Flags::ACK.with(Flags::URG));
        segment.urgent = urgent;
        lab.give(&peer.packet(&segment, b""));
        lab.give(&peer.packet(&segment, b"text"));
    }
    assert_eq!(lab.read(&cell), b"text");
    let mut numbers = Numbers(33);
    for kind in 0..=255u8 {
        for len in [0u8, 1, 2, 3, 39, 40, 41, 255] {
            let mut syn = Peer::hostile(80).syn();
            // Behind the MSS there is room for none: make some.
            syn.truncate(40);
            syn.extend([kind, len, numbers.next() as u8, 1]);
            syn[32] = 6 << 4;
            let syn = mended(syn, |packet| packet[2..4].copy_from_slice(&44u16.to_be_bytes()));
            let buf = with_tcp_checksum(syn);
            lab.give(&buf);
        }
    }
    lab.sent();
    lab.legit_echo(&listener);
}

fn with_tcp_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    packet[36..38].fill(0);
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend((packet.len() as u16 - 20).to_be_bytes());
    pseudo.extend(&packet[20..]);
    let sum = netstack::wire::checksum(&pseudo);
    packet[36..38].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Extension headers of IPv6 and ICMPv6 messages that are too short (CVE-2020-13985, -13986, -25110 to -25112), and a
/// chain of headers without end.
/// Removed: the check of an extension header's length in `wire/extensions.rs`.
#[test]
fn amnesia_33_ipv6_headers() {
    let mut lab =
        Lab::with_interface(1500, |_| (), |interface| interface.address("fd00::1/64")).expect("a stack");
    let listener = lab.listen(80, 8);
    let mut numbers = Numbers(6);
    let mut header = vec![0x60, 0, 0, 0, 0, 0, 0, 64];
    header.extend("fd00::2".parse::<std::net::Ipv6Addr>().expect("an address").octets());
    header.extend("fd00::1".parse::<std::net::Ipv6Addr>().expect("an address").octets());
    for round in 0..60_000 {
        let len = numbers.below(64) as usize;
        let mut packet = header.clone();
        packet[6] = [0, 43, 44, 50, 51, 58, 59, 60, 135, 6, 17][round % 11];
        packet[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        for n in 0..len {
            let next = [0u8, 43, 44, 58, 60, 6, 17][numbers.below(7) as usize];
            packet.push(if n % 8 == 0 { next } else { numbers.next() as u8 & numbers.next() as u8 });
        }
        lab.give(&packet);
    }
    lab.sent();
    lab.legit_echo(&listener);
}

/// Initial numbers that a host chose without enough chance (CVE-2020-13986's sibling -17439, -17470, and NUMBER:JACK).
/// Removed: the key of `IsnGenerator`.
#[test]
fn amnesia_33_predictable_numbers() {
    let first = |seed| {
        let lab = Lab::new(|config| config.seed = seed);
        let to: SocketAddr = "10.83.0.1:443".parse().expect("an address");
        let _cell = lab.connect(to).expect("a port");
        lab.segments()[0].seq.raw()
    };
    let of_seeds: std::collections::BTreeSet<u32> = (0..50).map(|seed| first(Some(seed))).collect();
    assert_eq!(of_seeds.len(), 50);
    let of_systems: std::collections::BTreeSet<u32> = (0..20).map(|_| first(None)).collect();
    assert_eq!(of_systems.len(), 20, "each stack has a secret of its own");
}
