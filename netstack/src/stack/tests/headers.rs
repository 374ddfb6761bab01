//! Options and extension headers that keep a packet from being delivered, and what its sender is told.

use crate::device::Device;
use crate::stack::testing::{Cable, LinkSpec, Net, address};
use crate::stack::{Family, Interface};
use crate::wire::{IcmpMessage, IpMeta, checksum, emit_icmp, emit_ip, parse_icmp, parse_ip};
use std::sync::Arc;

/// What host 1 answers to `packet`: type, code, the word of the ICMP header, and what follows it.
fn answer(packet: &[u8]) -> Option<(u8, u8, u32, Vec<u8>)> {
    let cable = Cable::new(LinkSpec::default());
    let interface = Interface::new(cable.end(1)).address("10.0.0.2/24").address("fd00::2/64");
    let mut net = Net::alone(220, vec![interface]);
    let device: Arc<dyn Device> = cable.end(0);
    cable.inject(net.now, 1, packet);
    net.settle();
    net.now += LinkSpec::default().delay;
    let mut buf = net.engine(0).core().pool().take();
    let meta = device.receive(net.now, 0, &mut buf).ok()?;
    let bytes = &buf.bytes()[..meta.len];
    let header = parse_ip(bytes).unwrap();
    let message = parse_icmp(&header, bytes).expect("an ICMP message");
    Some((message.kind, message.code, u32::from_be_bytes(message.word), message.body.to_vec()))
}

/// An echo request from host 0 to host 1.
fn ping(family: Family, code: u8) -> Vec<u8> {
    let kind = if family == Family::V4 { 8 } else { 128 };
    let meta = IpMeta::new(address(0, family), address(1, family), 64);
    let mut packet = Vec::new();
    emit_icmp(&mut packet, &meta, &IcmpMessage { kind, code, word: [1, 2, 3, 4], body: b"ping" });
    packet
}

/// The same with these IPv4 options.
fn with_options(options: &[u8]) -> Vec<u8> {
    let ping = ping(Family::V4, 0);
    let mut packet = [&ping[..20], options, &ping[20..]].concat();
    let len = packet.len() as u16;
    packet[0] = 0x40 | (5 + options.len() / 4) as u8;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20 + options.len()]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// An IPv6 packet to host 1, or to a group, with an extension header in front of nothing.
fn with_extension(next: u8, extension: &[u8], to_group: bool) -> Vec<u8> {
    let to = if to_group { "ff02::1".parse().unwrap() } else { address(1, Family::V6) };
    let mut packet = vec![0; 40];
    emit_ip(&mut packet, &IpMeta::new(address(0, Family::V6), to, 64), next, extension.len());
    packet.extend(extension);
    packet
}

#[test]
fn an_echo_request_is_answered_whatever_its_code() {
    for (family, kind) in [(Family::V4, 0), (Family::V6, 129)] {
        for code in [0, 1, 255] {
            let reply = answer(&ping(family, code)).expect("a reply");
            assert_eq!(reply, (kind, code, 0x0102_0304, b"ping".to_vec()));
        }
    }
}

#[test]
fn nothing_is_said_about_a_packet_without_next_header() {
    assert_eq!(answer(&with_extension(59, &[], false)), None);
    assert_eq!(answer(&with_extension(60, &[59, 0, 1, 4, 0, 0, 0, 0], false)), None, "behind options");
    assert!(answer(&with_extension(253, &[0; 8], false)).is_some(), "as about an unknown protocol");
}

#[test]
fn ipv4_source_routes_are_dropped_and_broken_options_reported() {
    // A record route, a timestamp and a router alert that are as they should be, and one unknown.
    for options in [
        &[7, 7, 4, 0, 0, 0, 0, 0][..],
        &[68, 8, 5, 0, 0, 0, 0, 0],
        &[148, 4, 0, 0],
        &[148, 4, 0, 1],
        &[1, 1, 30, 3, 9, 0, 0, 0],
        // Full ones, and a count of overflows that nobody keeps; a security label of another kind.
        &[7, 7, 8, 0, 0, 0, 0, 0],
        &[68, 8, 9, 0xf3, 0, 0, 0, 0],
        &[68, 8, 5, 2, 0, 0, 0, 0],
        &[130, 3, 0, 0],
        &[0, 7, 1, 1],
    ] {
        assert!(answer(&with_options(options)).is_some_and(|reply| reply.0 == 0), "{options:?}");
    }
    for route in [131, 137] {
        let packet = with_options(&[route, 7, 8, 10, 0, 0, 9, 0]);
        assert_eq!(answer(&packet), None, "a source route, complete or not");
    }
    for (options, pointer) in [
        // Longer than the header, no length, a length under two.
        (&[7, 9, 4, 0, 0, 0, 0, 0][..], 20),
        (&[1, 1, 1, 7], 23),
        (&[30, 1, 0, 0], 20),
        // Their own lengths and pointers.
        (&[131, 2, 0, 0], 21),
        (&[131, 7, 3, 10, 0, 0, 9, 0], 22),
        (&[7, 2, 0, 0], 21),
        (&[7, 7, 3, 0, 0, 0, 0, 0], 22),
        (&[7, 7, 6, 0, 0, 0, 0, 0], 22),
        (&[68, 3, 5, 0], 21),
        (&[68, 8, 4, 0, 0, 0, 0, 0], 22),
        (&[68, 8, 9, 0xf0, 0, 0, 0, 0], 23),
        (&[68, 8, 6, 0, 0, 0, 0, 0], 22),
        (&[68, 8, 5, 1, 0, 0, 0, 0], 22),
        (&[68, 8, 5, 3, 0, 0, 0, 0], 22),
        (&[148, 3, 0, 0], 21),
        // Labels of CIPSO, of no domain that is known.
        (&[134, 3, 0, 0], 21),
        (&[134, 8, 0, 0, 0, 5, 1, 2], 22),
        // Twice.
        (&[7, 3, 4, 7, 3, 4, 0, 0], 23),
        (&[131, 3, 4, 137, 3, 4, 0, 0], 23),
        (&[131, 3, 4, 137, 2, 4, 0, 0], 24),
        (&[68, 4, 5, 2, 68, 4, 5, 2], 24),
    ] {
        let packet = with_options(options);
        let (kind, code, word, quoted) = answer(&packet).unwrap_or_else(|| panic!("{options:?}"));
        assert_eq!((kind, code, word), (12, 0, pointer << 24), "{options:?}");
        assert_eq!(quoted, packet);
    }
}

#[test]
fn ipv6_options_and_routing_headers_that_ask_for_an_answer_get_it() {
    for next in [0, 60] {
        for (option, to_group, answered) in [
            (0b0001_1110, false, None),
            (0b0101_1110, false, None),
            (0b1001_1110, false, Some(44)),
            (0b1101_1110, false, Some(44)),
            (0b1001_1110, true, Some(44)),
            (0b1101_1110, true, None),
        ] {
            // Two bytes of padding come first.
            let packet = with_extension(next, &[59, 0, 1, 0, option, 2, 0, 0], to_group);
            let said = answer(&packet);
            let expected = answered.map(|pointer| (4, 2, pointer, packet));
            assert_eq!(said, expected, "option {option:#x}, to a group: {to_group}");
        }
    }
    for routing in [0, 1, 2, 5, 77] {
        let packet = with_extension(43, &[59, 0, routing, 1, 0, 0, 0, 0], false);
        assert_eq!(answer(&packet), Some((4, 0, 42, packet)), "routing header of type {routing}");
        let packet = with_extension(43, &[59, 0, routing, 0, 0, 0, 0, 0], false);
        assert_eq!(answer(&packet), None, "no segments left");
    }
    let packet = with_extension(60, &[0, 0, 1, 4, 0, 0, 0, 0, 59, 0, 1, 4, 0, 0, 0, 0], false);
    assert_eq!(answer(&packet), Some((4, 1, 40, packet)), "hop-by-hop options that are not the first header");
}

/// An IPv6 ping to host 1 behind an extension header.
fn ping_behind(next: u8, extension: &[u8]) -> Vec<u8> {
    let ping = ping(Family::V6, 0);
    with_extension(next, &[extension, &ping[40..]].concat(), false)
}

#[test]
fn ipv6_headers_are_judged_as_by_linux() {
    // Asked of Linux 6.18. None: nothing is said; Some(None): the ping is answered; or code and pointer of a
    // parameter problem. These six bytes are the options.
    type Verdict = Option<Option<(u8, u32)>>;
    let cases: [(&str, [u8; 6], [Verdict; 2]); 16] = [
        ("padding", [0; 6], [Some(None); 2]),
        ("padding with a message", [1, 4, 0, 0, 0, 1], [None; 2]),
        ("padding that is too long", [1, 5, 0, 0, 0, 0], [None; 2]),
        ("an unknown option that is too long", [0x1e, 5, 0, 0, 0, 0], [None; 2]),
        ("one that would be answered", [0x9e, 5, 0, 0, 0, 0], [None; 2]),
        ("router alert", [5, 2, 0, 0, 1, 0], [Some(None); 2]),
        ("router alert of one byte", [5, 1, 0, 1, 1, 0], [None, Some(None)]),
        ("a jumbogram that is none", [0xc2, 4, 0, 0, 0, 100], [Some(Some((0, 44))), Some(Some((2, 42)))]),
        ("a jumbogram with two lengths", [0xc2, 4, 0, 2, 0, 100], [Some(Some((0, 42))), Some(Some((2, 42)))]),
        ("a jumbogram with a short length", [0xc2, 3, 0, 0, 0, 0], [None, Some(Some((2, 42)))]),
        ("home address", [0xc9, 4, 0, 0, 0, 0], [Some(Some((2, 42))); 2]),
        ("CALIPSO", [7, 4, 0, 0, 0, 0], [None, Some(None)]),
        ("IOAM out of place", [0x31, 4, 0, 0, 0, 0], [None, Some(None)]),
        ("tunnel limit", [4, 1, 0, 1, 1, 0], [Some(None); 2]),
        ("unknown, to be skipped", [0x1e, 4, 0, 0, 0, 0], [Some(None); 2]),
        ("unknown, to be dropped", [0x5e, 4, 0, 0, 0, 0], [None; 2]),
    ];
    let judged = |packet: &[u8]| -> Verdict {
        answer(packet).map(|(kind, code, word, _)| (kind == 4).then_some((code, word)))
    };
    for (what, options, expected) in cases {
        let seen = [0, 60].map(|next| judged(&ping_behind(next, &[&[58, 0], &options[..]].concat())));
        assert_eq!(seen, expected, "{what}");
    }
    for next in [0, 60] {
        let nine = [&[58, 2][..], &[0x1e, 0].repeat(9), &[1, 2, 0, 0]].concat();
        assert_eq!(judged(&ping_behind(next, &nine)), None, "nine options");
        let eight = [&[58, 2][..], &[0x1e, 0].repeat(8), &[1, 4, 0, 0, 0, 0]].concat();
        assert_eq!(judged(&ping_behind(next, &eight)), Some(None), "eight options");
        let padded = [58, 1, 1, 6, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(judged(&ping_behind(next, &padded)), None, "more padding than aligns");
    }
    for (routing, segments_left, expected) in [
        (0, 0, Some(None)),
        (0, 1, Some(Some((0, 42)))),
        (2, 0, Some(None)),
        (77, 3, Some(Some((0, 42)))),
        // RPL and segment routing, which have to be switched on.
        (3, 0, None),
        (3, 1, None),
        (4, 0, None),
        (4, 1, None),
    ] {
        let packet = ping_behind(43, &[58, 0, routing, segments_left, 0, 0, 0, 0]);
        assert_eq!(judged(&packet), expected, "routing header of type {routing}, {segments_left} left");
    }
    let packet = with_extension(43, &[59, 0, 0, 1, 0, 0, 0, 0], true);
    assert_eq!(answer(&packet), None, "a routing header to a group");
}
