//! The rows R13 to R16 of the requirements on robustness, for datagrams: ICMP errors, fragments, addresses
//! that cannot be, and broken packets. In each of them a well-behaved client goes on.

use super::hostile::{datagram, give};
use super::*;
use crate::ip::fragment;
use crate::stack::testing::{icmp_about, too_big};
use crate::wire::{ChecksumMode, HeaderBuf, IpMeta, UdpDatagram, checksum, emit_udp};
use std::net::IpAddr;

/// Sends a datagram that host 1 echoes, and says whether it came back.
fn is_served(net: &mut Net, server: &Udp, client: &Udp, to: &str) -> bool {
    let begin = net.now;
    client.send_to(net, b"legit", to).unwrap();
    net.run_for(SECOND / 10);
    while let Ok((from, payload)) = server.recv(net) {
        server.send_to(net, &payload, &from).unwrap();
    }
    net.run_for(SECOND / 10);
    client.recv_all(net).iter().any(|payload| payload == b"legit") && net.now - begin < SECOND
}

/// Completes the checksums of a datagram, whatever was done to it.
fn with_checksums(mut packet: Vec<u8>) -> Vec<u8> {
    let v4 = packet[0] >> 4 == 4;
    let (header, addresses) = if v4 { (20, 12..20) } else { (40, 8..40) };
    if v4 {
        packet[10..12].fill(0);
        let sum = checksum(&packet[..header]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    if packet.len() >= header + 8 {
        packet[header + 6..header + 8].fill(0);
        let len = (packet.len() - header) as u32;
        let pseudo = [&packet[addresses], &len.to_be_bytes(), &[0, 0, 0, 17], &packet[header..]].concat();
        let sum = checksum(&pseudo);
        packet[header + 6..header + 8].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// R13: errors are believed if they quote what a socket sent, never below the floors, and answers have a limit.
#[test]
fn icmp_errors_are_for_who_sent_what_they_quote() {
    let mut net = net();
    let (server, client) = (bind(&net, 1, "0.0.0.0:53"), bind(&net, 0, "0.0.0.0:4000"));
    let connected = bind(&net, 0, "0.0.0.0:4001");
    connected.connect(&net, "10.0.0.2:53").unwrap();
    connected.send(&net, &[7; 1400]).unwrap();
    let sent = net.cable.take_trace().remove(0).bytes;
    let with_port = |port: u16, at: usize| {
        let mut other = sent.clone();
        other[at..at + 2].copy_from_slice(&port.to_be_bytes());
        other
    };
    // From another port than any socket has, or to one that this socket does not talk to.
    for forged in [with_port(4999, 20), with_port(54, 22)] {
        for (kind, code, word) in [(3, 3, 0), (3, 13, 0), (3, 4, 600), (12, 0, 0)] {
            net.cable.inject(net.now, 0, &icmp_about(&forged, (kind, code), word));
        }
        net.settle();
    }
    assert!(net.engine(0).destinations(net.now).is_empty() && connected.cell.take_error().is_none());
    assert_eq!(net.engine(0).counters().udp_icmp_unmatched, 8);
    // Redirects and source quench say nothing to a host that has one router (RFC 6633).
    for (kind, code) in [(5, 0), (5, 1), (4, 0)] {
        net.cable.inject(net.now, 0, &icmp_about(&sent, (kind, code), 0x0a00_0009));
    }
    // MTUs below the floor.
    for claimed in [0, 1, 67] {
        net.cable.inject(net.now, 0, &too_big(&sent, claimed));
    }
    net.settle();
    let known = net.engine(0).destinations(net.now);
    assert_eq!(known.iter().map(|known| known.mtu.unwrap().bytes).collect::<Vec<_>>(), [552]);
    assert_eq!(connected.cell.take_error().and_then(|error| error.raw_os_error()), Some(libc::EMSGSIZE));
    for n in 0..5000 {
        net.cable.inject(net.now, 0, &icmp_about(&sent, (3, (n % 14) as u8), 0));
    }
    net.settle();
    let _ = connected.cell.take_error();
    assert!(is_served(&mut net, &server, &client, "10.0.0.2:53"));
    assert_eq!(net.engine(0).counters().icmp_out, 0, "an error is not answered");
}

/// R14: what is incomplete takes bounded memory for a bounded time, and an overlap drops the datagram.
#[test]
fn fragments_are_bounded_and_may_not_overlap() {
    for v6 in [false, true] {
        let mut net = net();
        let (server, client) = (bind(&net, 1, "[::]:53"), bind(&net, 0, "[::]:4000"));
        let to = if v6 { "[fd00::2]:53" } else { "10.0.0.2:53" };
        let fragments = |payload: &[u8], id: u16, mtu: usize| {
            let mut whole = datagram(v6, payload);
            if !v6 {
                whole[4..6].copy_from_slice(&id.to_be_bytes());
            }
            let mut all = Vec::new();
            fragment(&whole, mtu, id.into(), |piece| all.push(piece.to_vec()));
            all
        };
        let pattern: Vec<u8> = (0..4000u32).map(|n| (n % 251) as u8).collect();
        // The smallest that there can be, in reverse, and none missing.
        let headers = if v6 { 48 } else { 20 };
        fragments(&pattern[..100], 1, headers + 8).iter().rev().for_each(|piece| give(&mut net, piece));
        assert_eq!(server.recv_all(&net), [&pattern[..100]]);
        // Those of another size for one datagram overlap the others.
        let (large, small) = (fragments(&pattern, 2, 1500), fragments(&pattern, 2, 600));
        for piece in [&large[0], &small[1], &large[1], &large[2], &small[0]] {
            give(&mut net, piece);
        }
        large.iter().for_each(|piece| give(&mut net, piece));
        assert!(server.recv_all(&net).is_empty(), "RFC 5722");
        assert!(net.engine(1).counters().drops(DropReason::FragOverlap) > 0);
        // Past 64 KiB.
        let mut far = fragments(&pattern, 3, 1500).remove(1);
        let at = if v6 { 42 } else { 6 };
        let offset: u16 = if v6 { 0xfff9 } else { 0x3fff };
        far[at..at + 2].copy_from_slice(&offset.to_be_bytes());
        give(&mut net, &with_header_checksum(far));
        assert!(net.engine(1).counters().drops(DropReason::FragInvalid) > 0);
        // Thousands of identifiers, of which none is ever complete.
        let memory = |net: &Net| net.engine(1).core().reassembly().lock().memory();
        for id in 10..8010 {
            net.cable.inject(net.now, 1, &fragments(&pattern, id, 1500)[usize::from(id % 2)]);
        }
        net.settle();
        assert!((1 << 20..=4 << 20).contains(&memory(&net)), "{}", memory(&net));
        assert!(net.engine(1).counters().drops(DropReason::FragMemory) > 4000);
        assert!(is_served(&mut net, &server, &client, to));
        net.run_for(61 * SECOND);
        assert_eq!(memory(&net), 0, "given up in time");
        assert!(is_served(&mut net, &server, &client, to));
    }
}

/// Completes the checksum of the header of IPv4.
fn with_header_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// R15: what claims to be from or to an address that cannot be is dropped in silence.
#[test]
fn impossible_addresses_get_no_answer() {
    let mut net = net();
    let server = bind(&net, 1, "[::]:53");
    let (own_v4, own_v6) = (address(1, Family::V4), address(1, Family::V6));
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut pairs = Vec::new();
    for src in ["10.0.0.2", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.0.0.255", "0.0.0.0"] {
        pairs.push((ip(src), own_v4));
    }
    for src in ["fd00::2", "::1", "ff02::1", "::", "::ffff:10.0.0.1"] {
        pairs.push((ip(src), own_v6));
    }
    for dst in ["127.0.0.1", "10.0.0.77", "0.0.0.0", "240.0.0.1"] {
        pairs.push((ip("10.0.0.9"), ip(dst)));
    }
    for dst in ["::1", "fd00::77", "::", "::ffff:10.0.0.2"] {
        pairs.push((ip("fd00::9"), ip(dst)));
    }
    for (src, dst) in pairs {
        // To a socket, from its own port as well (LAND), and to a port that is closed.
        for dst_port in [53, 54] {
            let meta = IpMeta::new(src, dst, 64);
            let mut header = HeaderBuf::new();
            let datagram = UdpDatagram { ip: &meta, src_port: 53, dst_port, payload: b"x" };
            emit_udp(&mut header, &datagram, ChecksumMode::Full);
            give(&mut net, &[&header[..], b"x"].concat());
            assert!(server.recv(&net).is_err(), "{src} to {dst}");
        }
    }
    // To a group and to all hosts there is no answer either.
    for dst in ["224.0.0.1", "10.0.0.255", "255.255.255.255"] {
        let meta = IpMeta::new(ip("10.0.0.9"), ip(dst), 64);
        let mut header = HeaderBuf::new();
        let datagram = UdpDatagram { ip: &meta, src_port: 7, dst_port: 54, payload: b"x" };
        emit_udp(&mut header, &datagram, ChecksumMode::Full);
        give(&mut net, &[&header[..], b"x"].concat());
    }
    assert_eq!(net.engine(1).counters().out_packets, 0);
}

/// R16: cut off at each byte and flipped at each bit, with and without right checksums.
#[test]
fn broken_packets_do_no_harm() {
    for v6 in [false, true] {
        let mut net = net();
        let server = bind_with(&net, 1, "[::]:53", |socket| socket.recv_buffer = 16 << 10).unwrap();
        let client = bind(&net, 0, "[::]:4000");
        let whole = datagram(v6, b"payload");
        let header = if v6 { 40 } else { 20 };
        for len in 1..whole.len() {
            give(&mut net, &whole[..len]);
            if len >= header {
                // The IP header says that this is all of it.
                let mut cut = whole[..len].to_vec();
                let (at, total) = if v6 { (4, len - 40) } else { (2, len) };
                cut[at..at + 2].copy_from_slice(&(total as u16).to_be_bytes());
                give(&mut net, &with_checksums(cut));
            }
        }
        assert!(server.recv(&net).is_err(), "nothing of a datagram that is cut off");
        let before = net.engine(1).counters();
        for bit in 8 * header..8 * whole.len() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            give(&mut net, &flipped);
        }
        let after = net.engine(1).counters();
        assert!(server.recv(&net).is_err() && after.icmp_out == before.icmp_out, "a bad checksum is silent");
        for bit in 0..8 * whole.len() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            give(&mut net, &flipped);
            if (flipped[0] >> 4 == 4) != v6 && flipped.len() >= header {
                give(&mut net, &with_checksums(flipped));
            }
            assert!(server.cell.unread() <= 16 << 10);
            for received in server.recv_all(&net) {
                assert!(received.len() <= whole.len() - header - 8);
            }
        }
        assert!(net.engine(1).core().reassembly().lock().memory() <= 1 << 16);
        let to = if v6 { "[fd00::2]:53" } else { "10.0.0.2:53" };
        assert!(is_served(&mut net, &server, &client, to));
    }
}
