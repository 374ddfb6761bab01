use super::*;
use crate::ip::{Addresses, Cast, Cidr};
use crate::wire::{
    ChecksumMode, Flags, Fragment, HeaderBuf, IcmpMessage, IpHeader, IpMeta, Segment, SeqNum, TcpDatagram,
    emit_icmp, emit_tcp, parse_icmp, parse_ip, protocol,
};
use proptest::prelude::*;

fn meta(v6: bool) -> IpMeta {
    let (src, dst) = if v6 { ("fd00::1", "fd00::2") } else { ("10.0.0.1", "10.0.0.2") };
    IpMeta { ident: 5, ..IpMeta::new(src.parse().unwrap(), dst.parse().unwrap(), 64) }
}

fn icmp(v6: bool, kind: u8, code: u8, word: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    emit_icmp(&mut packet, &meta(v6), &IcmpMessage { kind, code, word: word.to_be_bytes(), body });
    packet
}

/// A segment of ours, from the second address to the first, as an error about it quotes it.
fn ours(v6: bool) -> Vec<u8> {
    let ip = meta(v6);
    let segment = Segment { window: 1, ..Segment::new(Flags::ACK, SeqNum::new(0x0102_0304), SeqNum::new(0)) };
    let mut buf = HeaderBuf::new();
    let ip = IpMeta { src: ip.dst, dst: ip.src, ..ip };
    emit_tcp(
        &mut buf,
        &TcpDatagram { ip: &ip, src_port: 1000, dst_port: 80, segment: &segment, payload: &[] },
        ChecksumMode::Full,
    );
    buf.to_vec()
}

#[test]
fn an_echo_is_answered_with_its_data() {
    for (v6, request, reply) in [(false, 8, 0), (true, 128, 129)] {
        let packet = icmp(v6, request, 0, 0xaabb_0102, b"odd");
        let header = parse_ip(&packet).unwrap();
        let echo = parse_echo_request(&header, &packet).unwrap();
        assert_eq!((echo.id, echo.data), ([0xaa, 0xbb, 1, 2], &b"odd"[..]));
        let mut answer = vec![9; 3];
        emit_echo_reply(&mut answer, &echo, &meta(v6));
        let back = parse_ip(&answer).unwrap();
        assert_eq!((back.src, back.dst), (header.dst, header.src));
        let message = parse_icmp(&back, &answer).expect("a right checksum");
        assert_eq!((message.kind, message.word, message.body), (reply, echo.id, echo.data));
        assert_eq!(parse_echo_request(&back, &answer), None, "a reply is no request");
    }
}

#[test]
fn a_bad_checksum_or_a_fragment_is_no_message() {
    for (v6, request) in [(false, 8), (true, 128)] {
        let mut packet = icmp(v6, request, 0, 1, b"data");
        let mut header = parse_ip(&packet).unwrap();
        header.fragment = Some(Fragment { id: 1, offset: 0, more: true });
        assert_eq!(parse_echo_request(&header, &packet), None);
        header.fragment = None;
        assert!(parse_echo_request(&header, &packet).is_some());
        *packet.last_mut().unwrap() ^= 1;
        assert_eq!(parse_echo_request(&header, &packet), None);
    }
}

#[test]
fn errors_are_read_with_what_they_quote() {
    use IcmpErrorKind::*;
    let cases = [
        (false, 3, 1, 0, DestinationUnreachable { code: 1 }),
        (false, 3, 4, 1400, FragmentationNeeded { mtu: 1400 }),
        (false, 11, 1, 0, TimeExceeded { code: 1 }),
        (false, 12, 0, 9 << 24, ParameterProblem { code: 0, pointer: 9 }),
        (true, 1, 4, 0, DestinationUnreachable { code: 4 }),
        (true, 2, 0, 1280, PacketTooBig { mtu: 1280 }),
        (true, 3, 0, 0, TimeExceeded { code: 0 }),
        (true, 4, 1, 6, ParameterProblem { code: 1, pointer: 6 }),
    ];
    for (v6, kind, code, word, expected) in cases {
        let quote = ours(v6);
        let enough = if v6 { 48 } else { 28 };
        let packet = icmp(v6, kind, code, word, &quote[..enough]);
        let error = parse_error(&parse_ip(&packet).unwrap(), &packet).unwrap();
        assert_eq!((error.kind, error.from), (expected, meta(v6).src));
        let Quoted { src, dst, protocol, ports, seq, echo_id } = error.quoted;
        assert_eq!(echo_id, None);
        assert_eq!((src, dst, protocol), (meta(v6).dst, meta(v6).src, 6));
        assert_eq!((ports, seq), (Some((1000, 80)), Some(SeqNum::new(0x0102_0304))));
    }
    let packet = icmp(false, 4, 0, 0, &ours(false));
    assert_eq!(parse_error(&parse_ip(&packet).unwrap(), &packet), None, "source quench (RFC 6633)");
    let packet = icmp(false, 3, 1, 0, &ours(true));
    assert_eq!(parse_error(&parse_ip(&packet).unwrap(), &packet), None, "families mixed");
    let mut later_fragment = ours(false);
    later_fragment[7] = 1;
    let packet = icmp(false, 3, 1, 0, &later_fragment);
    assert_eq!(parse_error(&parse_ip(&packet).unwrap(), &packet), None, "no ports in a later fragment");
}

/// The error that a stack with the first address of each family sends about a packet that it was
/// given by validation with `cast`.
fn unreachable(reason: Unreachable, packet: &[u8], cast: Cast) -> Option<Vec<u8>> {
    let header = parse_ip(packet).unwrap();
    unreachable_about(reason, &Undelivered { header: &header, bytes: packet, cast })
}

fn unreachable_about(reason: Unreachable, packet: &Undelivered<'_>) -> Option<Vec<u8>> {
    let own: [Cidr; 2] = ["10.0.0.1/24", "fd00::1/64"].map(|cidr| cidr.parse().unwrap());
    let addresses = Addresses::new([own], None);
    let mut to = Vec::new();
    let ip = meta(packet.header.src.is_ipv6());
    emit_unreachable(&mut to, reason, packet, &addresses, &ip).then_some(to)
}

#[test]
fn every_unreachable_quotes_the_packet() {
    for (v6, reason, kind, code, word) in [
        (false, Unreachable::Port, 3, 3, 0),
        (false, Unreachable::Protocol, 3, 2, 0),
        (true, Unreachable::Port, 1, 4, 0),
        (true, Unreachable::Protocol, 4, 1, 6),
        (false, Unreachable::Network, 3, 0, 0),
        (false, Unreachable::Host, 3, 1, 0),
        (false, Unreachable::Prohibited, 3, 13, 0),
        (true, Unreachable::Network, 1, 0, 0),
        (true, Unreachable::Host, 1, 3, 0),
        (true, Unreachable::Prohibited, 1, 1, 0),
    ] {
        let offender = ours(v6);
        let answer = unreachable(reason, &offender, Cast::Unicast).unwrap();
        let header = parse_ip(&answer).unwrap();
        let message = parse_icmp(&header, &answer).unwrap();
        assert_eq!((message.kind, message.code, message.body), (kind, code, &offender[..]));
        assert_eq!(u32::from_be_bytes(message.word), word);
        assert_eq!((header.src, header.dst), (meta(v6).src, meta(v6).dst));
    }
}

#[test]
fn the_pointer_goes_to_the_last_extension_header() {
    let mut packet = ours(true);
    packet[6] = 60;
    let tcp = packet.split_off(40);
    packet.extend([60, 0, 1, 4, 0, 0, 0, 0, 99, 1, 0x1e, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    packet.extend(&tcp);
    let len = (packet.len() - 40) as u16;
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    assert_eq!(parse_ip(&packet).unwrap().protocol, 99);
    let answer = unreachable(Unreachable::Protocol, &packet, Cast::Unicast).unwrap();
    let message = parse_icmp(&parse_ip(&answer).unwrap(), &answer).unwrap();
    assert_eq!(u32::from_be_bytes(message.word), 48);
}

#[test]
fn the_pointer_passes_a_fragment_header_whatever_is_in_its_reserved_byte() {
    let mut packet = ours(true);
    packet[6] = 44;
    let tcp = packet.split_off(40);
    // RFC 8200 §4.5: the second byte is ignored, also where it would be a length in another header.
    packet.extend([60, 1, 0, 0, 0, 0, 0, 7, 99, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    packet.extend(&tcp);
    let len = (packet.len() - 40) as u16;
    packet[4..6].copy_from_slice(&len.to_be_bytes());
    assert_eq!(parse_ip(&packet).unwrap().protocol, 99);
    let answer = unreachable(Unreachable::Protocol, &packet, Cast::Unicast).unwrap();
    let message = parse_icmp(&parse_ip(&answer).unwrap(), &answer).unwrap();
    assert_eq!(u32::from_be_bytes(message.word), 48);
}

#[test]
fn a_quote_is_cut_to_what_surely_arrives() {
    for (v6, kind, longest) in [(false, 8, 576), (true, 128, 1280)] {
        let offender = icmp(v6, kind, 0, 0, &[7; 3000]);
        let answer = unreachable(Unreachable::Protocol, &offender, Cast::Unicast).unwrap();
        assert_eq!(answer.len(), longest);
        assert!(parse_icmp(&parse_ip(&answer).unwrap(), &answer).is_some());
    }
}

#[test]
fn no_error_about_what_must_not_be_answered() {
    assert_eq!(unreachable(Unreachable::Port, &ours(false), Cast::Broadcast), None);
    assert_eq!(unreachable(Unreachable::Port, &ours(true), Cast::Multicast), None);
    for kind in [3, 4, 5, 11, 12] {
        assert_eq!(unreachable(Unreachable::Protocol, &icmp(false, kind, 0, 0, &[]), Cast::Unicast), None);
    }
    for kind in [1, 2, 3, 4, 127, 137] {
        assert_eq!(unreachable(Unreachable::Protocol, &icmp(true, kind, 0, 0, &[]), Cast::Unicast), None);
    }
    let mut header = parse_ip(&ours(false)).unwrap();
    header.fragment = Some(Fragment { id: 1, offset: 8, more: false });
    let fragment = Undelivered { header: &header, bytes: &ours(false), cast: Cast::Unicast };
    assert_eq!(unreachable_about(Unreachable::Port, &fragment), None);
}

#[test]
fn errors_go_to_single_hosts_only() {
    for (src, host) in [
        ("10.0.0.9", true),
        ("8.8.8.8", true),
        ("240.0.0.1", true),
        ("255.255.255.254", true),
        ("10.0.0.1", true),
        ("0.0.0.0", false),
        ("0.1.2.3", false),
        ("224.0.0.1", false),
        ("10.0.0.255", false),
        ("255.255.255.255", false),
        ("127.0.0.1", false),
        ("fd00::9", true),
        ("fe80::9", true),
        ("::", false),
        ("ff02::1", false),
        ("::ffff:10.0.0.9", false),
    ] {
        let header = IpHeader {
            src: src.parse().unwrap(),
            dst: if src.contains(':') { "fd00::1".parse().unwrap() } else { "10.0.0.1".parse().unwrap() },
            protocol: protocol::UDP,
            hop_limit: 1,
            traffic_class: 0,
            fragment: None,
            payload: 0..0,
        };
        let packet = Undelivered { header: &header, bytes: &[], cast: Cast::Unicast };
        let sent = unreachable_about(Unreachable::Port, &packet);
        assert_eq!(sent.map(|sent| parse_ip(&sent).unwrap().dst), host.then_some(header.src), "{src}");
    }
}

proptest! {
    #[test]
    fn nothing_received_panics(v6: bool, kind: u8, code: u8, word: u32, body in prop::collection::vec(any::<u8>(), 0..90), version in 3u8..8) {
        let mut body = body;
        if let Some(first) = body.first_mut() {
            *first = version << 4 | (*first & 15);
        }
        let packet = icmp(v6, kind, code, word, &body);
        let header = parse_ip(&packet).unwrap();
        let _ = (parse_error(&header, &packet), parse_echo_request(&header, &packet));
        for cut in 0..packet.len().min(12) {
            let mut header = header.clone();
            header.payload.end -= cut.min(header.payload.len());
            let _ = (parse_error(&header, &packet), parse_echo_request(&header, &packet));
            unreachable(Unreachable::Protocol, &packet, Cast::Unicast);
        }
    }
}
