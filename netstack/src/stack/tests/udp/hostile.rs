//! Input that nobody sends by mistake.

use super::*;
use crate::stack::testing::too_big;
use crate::wire::{ChecksumMode, HeaderBuf, IpMeta, UdpDatagram, emit_udp};
use proptest::prelude::*;

/// A datagram from a stranger to port 53 of host 1.
pub(super) fn datagram(v6: bool, payload: &[u8]) -> Vec<u8> {
    let family = if v6 { Family::V6 } else { Family::V4 };
    let src = if v6 { "fd00::9".parse().unwrap() } else { "10.0.0.9".parse().unwrap() };
    let ip = IpMeta::new(src, address(1, family), 64);
    let mut header = HeaderBuf::new();
    emit_udp(&mut header, &UdpDatagram { ip: &ip, src_port: 7, dst_port: 53, payload }, ChecksumMode::Full);
    [&header[..], payload].concat()
}

pub(super) fn give(net: &mut Net, packet: &[u8]) {
    net.cable.inject(net.now, 1, packet);
    net.settle();
}

#[test]
fn damaged_datagrams_are_dropped_in_silence() {
    for v6 in [false, true] {
        let mut net = net();
        let server = bind(&net, 1, "[::]:53");
        let header = if v6 { 40 } else { 20 };
        let good = datagram(v6, b"payload");
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let mut long = good.clone();
        long[header + 5] += 1;
        let mut short = good.clone();
        short[header + 5] = 7;
        for (packet, reason) in [
            (flipped, DropReason::UdpCsum),
            (long, DropReason::PktTooSmall),
            (short, DropReason::PktTooSmall),
        ] {
            let before = net.engine(1).counters().drops(reason);
            give(&mut net, &packet);
            assert_eq!(net.engine(1).counters().drops(reason), before + 1);
        }
        let mut without = good.clone();
        without[header + 6..header + 8].fill(0);
        give(&mut net, &without);
        let expected: &[&[u8]] = if v6 { &[] } else { &[b"payload"] };
        assert_eq!(server.recv_all(&net), expected, "RFC 8200 section 8.1: IPv6 needs a checksum");
        give(&mut net, &good);
        assert_eq!(server.recv_all(&net), [b"payload".to_vec()]);
        assert_eq!(net.engine(1).counters().icmp_out, 0);
        assert!(net.engine(1).counters().udp_in_errors >= 3);
    }
}

#[test]
fn a_length_smaller_than_the_packet_cuts_it_off() {
    let mut net = net();
    let server = bind(&net, 1, "0.0.0.0:53");
    // RFC 768: the length is that of the datagram; what is behind it is padding.
    let mut padded = datagram(false, b"payload");
    padded.extend([0xaa; 9]);
    let len = padded.len() as u16;
    padded[2..4].copy_from_slice(&len.to_be_bytes());
    padded[10..12].fill(0);
    let sum = crate::wire::checksum(&padded[..20]);
    padded[10..12].copy_from_slice(&sum.to_be_bytes());
    give(&mut net, &padded);
    assert_eq!(server.recv_all(&net), [b"payload".to_vec()]);
}

#[test]
fn impossible_sources_reach_no_socket() {
    // LAND, and addresses that are no host's.
    let mut net = net();
    let server = bind(&net, 1, "0.0.0.0:53");
    for src in ["10.0.0.2", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.0.0.255", "0.0.0.0"] {
        let ip = IpMeta::new(src.parse().unwrap(), address(1, Family::V4), 64);
        let mut header = HeaderBuf::new();
        emit_udp(
            &mut header,
            &UdpDatagram { ip: &ip, src_port: 53, dst_port: 53, payload: b"x" },
            ChecksumMode::Full,
        );
        give(&mut net, &[&header[..], b"x"].concat());
    }
    assert!(server.recv(&net).is_err());
    assert_eq!(net.engine(1).counters().out_packets, 0);
}

#[test]
fn a_flood_to_closed_ports_is_answered_at_the_limit() {
    let mut net = Net::pair_with(12, LinkSpec::default(), |_, config| {
        config.icmp_host_interval = std::time::Duration::ZERO
    });
    for n in 0..5000u16 {
        let mut packet = datagram(false, b"");
        // Another port each time, without a checksum.
        packet[22..24].copy_from_slice(&(1000 + n).to_be_bytes());
        packet[26..28].fill(0);
        net.cable.inject(net.now, 1, &packet);
    }
    net.settle();
    let counters = net.engine(1).counters();
    assert_eq!(counters.udp_no_ports, 5000);
    assert!(
        (30..=70).contains(&counters.icmp_out),
        "{}: about the burst of Config::icmp_burst",
        counters.icmp_out
    );
    assert_eq!(counters.icmp_out + counters.icmp_rate_limited, 5000);
}

/// A fragment that nothing follows, each of another datagram.
fn lone_fragment(n: u16) -> Vec<u8> {
    let mut packet = datagram(false, &[7; 1400]);
    packet[4..6].copy_from_slice(&n.to_be_bytes());
    packet[6..8].copy_from_slice(&0x2000u16.to_be_bytes());
    packet[10..12].fill(0);
    let sum = crate::wire::checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A datagram to a port that nobody has.
fn to_closed_port(n: u16) -> Vec<u8> {
    let mut packet = datagram(false, b"");
    packet[22..24].copy_from_slice(&(1000 + n % 50_000).to_be_bytes());
    packet[26..28].fill(0);
    packet
}

#[test]
fn a_tcp_client_is_served_beside_a_flood() {
    type Flood = fn(u16) -> Vec<u8>;
    let floods: [(&str, Flood); 3] = [
        ("to closed ports", to_closed_port),
        ("to a socket that nobody reads", |_| datagram(false, &[7; 1400])),
        ("of fragments", lone_fragment),
    ];
    for (name, packet) in floods {
        let mut net = net();
        let unread = bind_with(&net, 1, "0.0.0.0:53", |socket| socket.recv_buffer = 64 << 10).unwrap();
        let listener = net.listen(1, 80, 8);
        let client = net.connect(0, to_host_1(80)).unwrap();
        let (start, mut server, mut sent, mut flood) = (net.now, None, false, 0u16);
        loop {
            for _ in 0..200 {
                flood = flood.wrapping_add(1);
                net.cable.inject(net.now, 1, &packet(flood));
            }
            net.run_for(SECOND / 1000);
            assert!(net.now - start < SECOND, "{name}");
            assert!(unread.cell.unread() <= 64 << 10, "{name}");
            assert!(net.engine(1).core().reassembly().lock().memory() <= 4 << 20, "{name}");
            server = server.or_else(|| net.accept(1, &listener).ok());
            sent = sent || net.write(&client, b"x").is_ok();
            if let Some(server) = &server
                && net.read(server).is_ok()
            {
                net.write(server, b"y").unwrap();
            }
            if net.read(&client).is_ok() {
                break;
            }
        }
        let counters = net.engine(1).counters();
        let counted =
            counters.udp_no_ports + counters.udp_rcvbuf_errors + counters.drops(DropReason::FragMemory);
        assert!(counted > 1000, "{name}: {counted}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_arrives_nothing_panics_and_queues_stay_bounded(
        packets in prop::collection::vec(
            (any::<bool>(), prop::collection::vec(any::<u8>(), 0..80), 0usize..128,
             prop::collection::vec((0usize..128, any::<u8>()), 0..4), any::<u16>()),
            1..60,
        ),
    ) {
        let mut net = net();
        let server = bind_with(&net, 1, "[::]:53", |socket| socket.recv_buffer = 4096).unwrap();
        let peer = bind(&net, 1, "0.0.0.0:54");
        peer.connect(&net, "10.0.0.9:7").unwrap();
        for (v6, payload, cut, flips, claimed) in packets {
            let whole = datagram(v6, &payload);
            let mut packet = whole.clone();
            for (at, value) in flips {
                let at = at % packet.len();
                packet[at] = value;
            }
            packet.truncate(cut.max(1));
            net.cable.inject(net.now, 1, &packet);
            net.cable.inject(net.now, 1, &too_big(&whole, claimed.into()));
            peer.send(&net, &payload).ok();
            net.run_for(SECOND / 1000);
            let unread = server.cell.unread();
            prop_assert!(unread <= 4096, "{unread}");
        }
        let _ = server.recv_all(&net);
        prop_assert_eq!(server.cell.unread(), 0);
        // It still works.
        give(&mut net, &datagram(false, b"end"));
        prop_assert_eq!(server.recv_all(&net), vec![b"end".to_vec()]);
    }
}
