//! Headers written are headers read, and nothing that comes in makes the parser panic.

use super::*;
use crate::wire::{
    AccEcn, FastOpenCookie, FastOpenOption, Flags, Options, SackBlock, Segment, SeqNum, Timestamps,
};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn meta(v6: bool) -> IpMeta {
    let (src, dst): (IpAddr, IpAddr) = if v6 {
        ("fd00::1".parse().unwrap(), "2001:db8::99".parse().unwrap())
    } else {
        (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(192, 0, 2, 200).into())
    };
    IpMeta {
        src,
        dst,
        hop_limit: 61,
        traffic_class: 0b1010_1101,
        dont_fragment: true,
        ident: 0xbeef,
        flow_label: 0x12345,
    }
}

fn bare(flags: Flags) -> Segment {
    Segment { window: 512, ..Segment::new(flags, SeqNum::new(0x8000_0001), SeqNum::new(0xffff_fff0)) }
}

/// The whole packet of a segment whose payload comes in pieces.
fn packet(ip: &IpMeta, segment: &Segment, pieces: &[&[u8]]) -> Vec<u8> {
    let mut buf = HeaderBuf::new();
    assert_eq!(
        emit_tcp(
            &mut buf,
            &TcpDatagram { ip, src_port: 4000, dst_port: 80, segment, payload: pieces },
            ChecksumMode::Full
        ),
        None
    );
    [buf.as_slice(), &pieces.concat()].concat()
}

prop_compose! {
    fn block()(start: u32, len in 1u32..1 << 20) -> SackBlock {
        SackBlock { start: SeqNum::new(start), end: SeqNum::new(start.wrapping_add(len)) }
    }
}

fn fast_open() -> impl Strategy<Value = FastOpenOption> {
    let cookie = prop::option::of((2usize..=8, any::<[u8; 16]>()));
    (cookie, any::<bool>()).prop_map(|(cookie, experimental)| FastOpenOption {
        cookie: cookie.map(|(half, bytes)| FastOpenCookie::new(&bytes[..2 * half]).unwrap()),
        experimental,
    })
}

prop_compose! {
    /// Options that a segment with these flags may carry and that fit.
    fn options(syn: bool)(
        mss in prop::option::of(1u16..),
        window_scale in prop::option::of(any::<u8>()),
        sack_permitted: bool,
        timestamps in prop::option::of((any::<u32>(), any::<u32>())),
        sack in prop::collection::vec(block(), 0..=4),
        fast_open in prop::option::of(fast_open()),
        acc_ecn in prop::option::of((any::<bool>(), prop::collection::vec(0u32..1 << 24, 0..=3))),
    ) -> Options {
        let acc_ecn = acc_ecn.map(|(ect1_first, fields)| AccEcn { ect1_first, fields: fields.into_iter().collect() });
        let taken = if timestamps.is_some() { 12 } else { 0 } + acc_ecn.as_ref().map_or(0, AccEcn::len_on_wire);
        let room = (MAX_TCP_OPTIONS - taken - 4) / 8;
        Options {
            mss: mss.filter(|_| syn),
            window_scale: window_scale.filter(|_| syn),
            sack_permitted: sack_permitted && syn,
            timestamps: timestamps.map(|(tsval, tsecr)| Timestamps { tsval, tsecr }),
            sack: if syn { Default::default() } else { sack.into_iter().take(room).collect() },
            fast_open: fast_open.filter(|_| syn && acc_ecn.is_none()),
            acc_ecn,
        }
    }
}

fn segment() -> impl Strategy<Value = Segment> {
    (0u16..1 << 9).prop_flat_map(|bits| {
        let flags = Flags::from_bits(bits);
        (any::<[u32; 2]>(), any::<[u16; 2]>(), options(flags.contains(Flags::SYN))).prop_map(
            move |([seq, ack], [window, urgent], options)| Segment {
                window,
                urgent,
                options,
                ..Segment::new(flags, SeqNum::new(seq), SeqNum::new(ack))
            },
        )
    })
}

proptest! {
    #[test]
    fn what_is_emitted_is_parsed(
        v6: bool,
        mut segment in segment(),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..4),
        padding in 0usize..5,
    ) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        segment.payload_len = pieces.iter().map(|piece| piece.len()).sum();
        let meta = meta(v6);
        let mut bytes = packet(&meta, &segment, &pieces);
        let len = bytes.len();
        bytes.resize(len + padding, 0xaa);

        let ip = parse_ip(&bytes).unwrap();
        prop_assert_eq!((ip.src, ip.dst, ip.protocol), (meta.src, meta.dst, protocol::TCP));
        prop_assert_eq!((ip.hop_limit, ip.traffic_class, ip.fragment), (61, 0b1010_1101, None));
        prop_assert_eq!(ip.payload.end, len);
        let tcp = &bytes[ip.payload];
        prop_assert!(tcp_checksum_ok(meta.src, meta.dst, tcp));
        prop_assert_eq!(parse_ports(tcp), Some((4000, 80)));
        let (parsed, data) = parse_tcp(tcp).unwrap();
        prop_assert_eq!(data, TCP_HEADER_LEN + options_len(&segment.options));
        prop_assert_eq!(&tcp[data..], pieces.concat());
        prop_assert_eq!(parsed, segment);
    }

    #[test]
    fn options_always_fit(mut a in options(true), b in options(false)) {
        a.sack = b.sack;
        let len = options_len(&a);
        prop_assert!(len <= MAX_TCP_OPTIONS && len.is_multiple_of(4), "{len}");
        let segment = Segment { options: a, ..bare(Flags::SYN) };
        prop_assert_eq!(packet(&meta(false), &segment, &[]).len(), 40 + len);
    }

    #[test]
    fn cuts_and_flips_never_panic(
        v6: bool,
        segment in segment(),
        cut in 0usize..140,
        flips in prop::collection::vec((0usize..140, 0u8..8), 0..6),
    ) {
        let mut bytes = packet(&meta(v6), &segment, &[]);
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        bytes.truncate(cut);
        if let Ok(ip) = parse_ip(&bytes) {
            let _ = parse_tcp(&bytes[ip.payload]);
        }
        let _ = parse_tcp(&bytes);
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), v6: bool, next in 0u8..64) {
        let _ = (parse_ip(&bytes), parse_tcp(&bytes));
        if let [first, .., _] = &mut bytes[..] {
            *first = if v6 { 0x60 } else { 0x45 };
        }
        if bytes.len() > 6 && v6 {
            let payload_len = bytes.len().saturating_sub(40) as u16;
            bytes[4..6].copy_from_slice(&payload_len.to_be_bytes());
            bytes[6] = next;
        }
        let _ = parse_ip(&bytes);
    }

    #[test]
    fn a_flipped_bit_fails_the_checksum(v6: bool, segment in segment(), at: prop::sample::Index, bit in 0u8..8) {
        let meta = meta(v6);
        let bytes = packet(&meta, &segment, &[]);
        let mut tcp = bytes[ip_header_len(&meta.dst)..].to_vec();
        *at.get_mut(&mut tcp) ^= 1 << bit;
        prop_assert!(!tcp_checksum_ok(meta.src, meta.dst, &tcp));
    }
}

/// The whole packet of a UDP datagram.
fn udp_packet(ip: &IpMeta, payload: &[u8], mode: ChecksumMode) -> Vec<u8> {
    let mut buf = HeaderBuf::new();
    let checksum = emit_udp(&mut buf, &UdpDatagram { ip, src_port: 4000, dst_port: 53, payload }, mode);
    assert_eq!(checksum.is_some(), mode == ChecksumMode::Offload);
    [buf.as_slice(), payload].concat()
}

proptest! {
    #[test]
    fn datagrams_written_are_datagrams_read(
        v6: bool,
        offload: bool,
        payload in prop::collection::vec(any::<u8>(), 0..300),
        padding in 0usize..5,
    ) {
        let meta = meta(v6);
        let mode = if offload { ChecksumMode::Offload } else { ChecksumMode::Full };
        let mut bytes = udp_packet(&meta, &payload, mode);
        complete_checksum(&mut bytes);
        let len = bytes.len();
        bytes.resize(len + padding, 0xaa);
        let ip = parse_ip(&bytes).unwrap();
        prop_assert_eq!((ip.protocol, ip.payload.end), (protocol::UDP, len));
        let udp = &bytes[ip.payload];
        prop_assert!(udp_checksum_ok(meta.src, meta.dst, udp));
        let header = UdpHeader { src_port: 4000, dst_port: 53, payload_len: payload.len() };
        prop_assert_eq!(parse_udp(udp), Ok(header));
        prop_assert_eq!(&udp[UDP_HEADER_LEN..], payload);
    }

    #[test]
    fn headers_that_are_filled_again_are_those_of_the_next_datagram(
        v6: bool,
        payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..80), any::<u16>()), 1..6),
    ) {
        let meta = meta(v6);
        let mut headers = UdpHeaders::new(&meta, 4000, 53);
        for (payload, ident) in payloads {
            for mode in [ChecksumMode::Full, ChecksumMode::Offload] {
                let checksum = headers.fill(&payload, ident, mode);
                prop_assert_eq!(checksum.is_some(), mode == ChecksumMode::Offload);
                let ip = IpMeta { ident, ..meta };
                prop_assert_eq!([&headers[..], &payload].concat(), udp_packet(&ip, &payload, mode));
            }
        }
    }

    #[test]
    fn a_flipped_bit_fails_the_checksum_of_a_datagram(
        v6: bool,
        payload in prop::collection::vec(any::<u8>(), 0..60),
        at: prop::sample::Index,
        bit in 0u8..8,
    ) {
        let meta = meta(v6);
        let mut udp = udp_packet(&meta, &payload, ChecksumMode::Full)[ip_header_len(&meta.dst)..].to_vec();
        *at.get_mut(&mut udp) ^= 1 << bit;
        // One flip in four hundred thousand makes the field zero, which says that there is no checksum.
        prop_assume!(udp[6..8] != [0, 0]);
        prop_assert!(!udp_checksum_ok(meta.src, meta.dst, &udp));
    }

    #[test]
    fn no_datagram_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let length = parse_udp(&bytes).map(|header| header.payload_len);
        prop_assert!(length.is_err() || length.unwrap() + UDP_HEADER_LEN <= bytes.len());
        let _ = udp_checksum_ok(meta(false).src, meta(false).dst, &bytes);
    }
}

#[test]
fn bad_lengths_of_datagrams_are_errors() {
    let good = udp_packet(&meta(false), b"abc", ChecksumMode::Full)[IPV4_HEADER_LEN..].to_vec();
    assert_eq!(parse_udp(&good[..7]), Err(UdpHeaderError::Truncated));
    for (length, expected) in [
        (0, Err(UdpHeaderError::Length)),
        (7, Err(UdpHeaderError::Length)),
        (8, Ok(0)),
        (11, Ok(3)),
        (12, Err(UdpHeaderError::Length)),
    ] {
        let mut bytes = good.clone();
        bytes[5] = length;
        assert_eq!(parse_udp(&bytes).map(|header| header.payload_len), expected, "{length}");
    }
}

#[test]
fn a_checksum_of_zero_is_sent_as_ones_and_zero_means_none_over_ipv4_only() {
    for v6 in [false, true] {
        let meta = meta(v6);
        let header = ip_header_len(&meta.dst);
        // The payload that brings the sum to zero: the checksum of the datagram with zeros there.
        let sum = udp_packet(&meta, &[0, 0], ChecksumMode::Full)[header + 6..header + 8].to_vec();
        let packet = udp_packet(&meta, &sum, ChecksumMode::Full);
        assert_eq!(packet[header + 6..header + 8], [0xff, 0xff]);
        assert!(udp_checksum_ok(meta.src, meta.dst, &packet[header..]));
        let mut without = packet[header..].to_vec();
        without[6..8].fill(0);
        assert_eq!(udp_checksum_ok(meta.src, meta.dst, &without), !v6);
    }
}

#[test]
fn an_offloaded_checksum_completes_to_the_full_one() {
    for v6 in [false, true] {
        let (ip, mut segment) = (meta(v6), bare(Flags::ACK));
        segment.payload_len = 5;
        let pieces: [&[u8]; 2] = [b"abc", b"de"];
        let full = packet(&ip, &segment, &pieces);
        let mut buf = HeaderBuf::new();
        let offload = emit_tcp(
            &mut buf,
            &TcpDatagram { ip: &ip, src_port: 4000, dst_port: 80, segment: &segment, payload: &pieces },
            ChecksumMode::Offload,
        )
        .unwrap();
        let mut bytes = [buf.as_slice(), b"abcde"].concat();
        let start = usize::from(offload.start);
        let at = start + usize::from(offload.offset);
        let sum = checksum(&bytes[start..]);
        bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(bytes, full);
    }
}

#[test]
fn options_lie_as_linux_lays_them() {
    let layout = |options: Options| {
        let segment = Segment { options, ..bare(Flags::SYN) };
        let bytes = packet(&meta(false), &segment, &[]);
        bytes[IPV4_HEADER_LEN + TCP_HEADER_LEN..].to_vec()
    };
    let timestamps = Some(Timestamps { tsval: 0x01020304, tsecr: 0 });
    let syn = Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps,
        ..Options::default()
    };
    assert_eq!(
        layout(syn.clone()),
        [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7],
        "MSS, SACK permitted with timestamps, window scale"
    );
    assert_eq!(
        layout(Options { timestamps: None, ..syn }),
        [2, 4, 0x05, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7],
        "without timestamps"
    );
    let only = Options { timestamps, ..Options::default() };
    assert_eq!(layout(only), [1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0]);
}

#[test]
fn the_last_sack_block_makes_room_for_timestamps() {
    let block = |n: u32| SackBlock { start: SeqNum::new(n), end: SeqNum::new(n + 1) };
    let options = Options { sack: (0..4).map(block).collect(), ..Options::default() };
    assert_eq!(options_len(&options), 36);
    let segment = Segment { options, ..bare(Flags::ACK) };
    let bytes = packet(&meta(true), &segment, &[]);
    assert_eq!(parse_tcp(&bytes[40..]).unwrap().0, segment, "four blocks without timestamps");

    let timestamps = Some(Timestamps { tsval: 1, tsecr: 2 });
    let segment = Segment { options: Options { timestamps, ..segment.options }, ..bare(Flags::ACK) };
    let bytes = packet(&meta(true), &segment, &[]);
    let (parsed, data) = parse_tcp(&bytes[40..]).unwrap();
    assert_eq!((data, parsed.options.sack.len()), (TCP_HEADER_LEN + 40, 3));
    assert_eq!(parsed.options.sack[..], segment.options.sack[..3]);
}

/// A header with these raw option bytes, padded to a multiple of four with END.
fn with_options(flags: Flags, raw: &[u8]) -> Options {
    let mut bytes = packet(&meta(false), &bare(flags), &[])[IPV4_HEADER_LEN..].to_vec();
    bytes.extend_from_slice(raw);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes[12] = (bytes.len() as u8 / 4) << 4;
    parse_tcp(&bytes).unwrap().0.options
}

#[test]
fn bad_options_end_the_options_and_unknown_ones_are_skipped() {
    let mss = [2, 4, 5, 180];
    let with_mss = Options { mss: Some(1460), ..Options::default() };
    let cases: [(&str, &[u8], bool); 8] = [
        ("length 0", &[99, 0], false),
        ("length 1", &[99, 1], false),
        ("past the end", &[99, 40], false),
        ("end of options", &[0, 0, 0, 0], false),
        ("unknown", &[99, 4, 1, 2], true),
        ("unknown without body", &[254, 2], true),
        ("window scale of a wrong length", &[3, 4, 7, 7], true),
        ("SACK of a wrong length", &[5, 9, 1, 2, 3, 4, 5, 6, 7], true),
    ];
    for (name, bytes, skipped) in cases {
        let after = with_options(Flags::SYN, &[bytes, &mss].concat());
        assert_eq!(after.mss.is_some(), skipped, "{name}");
        assert_eq!(with_options(Flags::SYN, &[&mss[..], bytes].concat()), with_mss, "{name}, after the MSS");
    }
    assert_eq!(with_options(Flags::SYN, &[1, 1, 1, 2]), Options::default(), "no length byte");
    assert_eq!(with_options(Flags::SYN, &[2, 4, 0, 0]).mss, None, "an MSS of zero");
    assert_eq!(with_options(Flags::ACK, &[2, 4, 5, 180, 3, 3, 7, 4, 2]), Options::default(), "without SYN");
}

#[test]
fn fast_open_lies_behind_all_other_options() {
    let layout = |fast_open: FastOpenOption, syn: Options| {
        let options = Options { fast_open: Some(fast_open), ..syn };
        let bytes = packet(&meta(false), &Segment { options, ..bare(Flags::SYN) }, &[]);
        bytes[IPV4_HEADER_LEN + TCP_HEADER_LEN..].to_vec()
    };
    let mss = Options { mss: Some(1460), ..Options::default() };
    let cookie = |len: usize| FastOpenCookie::new(&[0xc0; 16][..len]);
    let option = |cookie, experimental| FastOpenOption { cookie, experimental };
    assert_eq!(layout(FastOpenOption::REQUEST, mss.clone()), [2, 4, 5, 180, 34, 2, 1, 1]);
    let c = 0xc0;
    assert_eq!(layout(option(cookie(4), false), mss.clone()), [2, 4, 5, 180, 34, 6, c, c, c, c, 1, 1]);
    assert_eq!(layout(option(cookie(6), false), mss.clone()), [2, 4, 5, 180, 34, 8, c, c, c, c, c, c]);
    assert_eq!(layout(option(None, true), mss.clone()), [2, 4, 5, 180, 254, 4, 0xf9, 0x89]);
    assert_eq!(layout(option(cookie(4), true), mss), [2, 4, 5, 180, 254, 8, 0xf9, 0x89, c, c, c, c]);
    // All that a SYN of ours carries, and the longest cookie: the header is full.
    let full = Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { tsval: 1, tsecr: 0 }),
        ..Options::default()
    };
    assert_eq!(layout(option(cookie(16), false), full.clone()).len(), MAX_TCP_OPTIONS);
    assert_eq!(layout(option(cookie(16), true), full).len(), MAX_TCP_OPTIONS);
    let block = |n: u32| SackBlock { start: SeqNum::new(n), end: SeqNum::new(n + 1) };
    let crowded = Options { sack: (0..3).map(block).collect(), ..Options::default() };
    assert_eq!(layout(option(cookie(16), false), crowded).len(), 28, "left out where there is no room");
}

#[test]
fn fast_open_options_that_count_as_not_there() {
    let cookie: Vec<u8> = (0..20).collect();
    for len in 0..=18 {
        let plain = [&[34, 2 + len as u8], &cookie[..len]].concat();
        let old = [&[254, 4 + len as u8, 0xf9, 0x89], &cookie[..len]].concat();
        for (bytes, experimental) in [(&plain, false), (&old, true)] {
            let expected = match FastOpenCookie::new(&cookie[..len]) {
                None if len > 0 => None,
                cookie => Some(FastOpenOption { cookie, experimental }),
            };
            assert_eq!(with_options(Flags::SYN, bytes).fast_open, expected, "{len} bytes");
            assert_eq!(with_options(Flags::ACK, bytes).fast_open, None, "in a segment without SYN");
        }
    }
    assert_eq!(
        with_options(Flags::SYN, &[254, 8, 0xf9, 0x88, 1, 2, 3, 4]).fast_open,
        None,
        "another experiment"
    );
    let twice = [34, 6, 1, 1, 1, 1, 34, 6, 2, 2, 2, 2];
    let last = with_options(Flags::SYN, &twice).fast_open.and_then(|option| option.cookie);
    assert_eq!(last, FastOpenCookie::new(&[2; 4]), "the last one counts");
}

#[test]
fn a_bad_data_offset_is_an_error() {
    let mut bytes = packet(&meta(false), &bare(Flags::ACK), &[])[IPV4_HEADER_LEN..].to_vec();
    for (offset, error) in [(0, true), (4, true), (5, false), (6, true), (15, true)] {
        bytes[12] = offset << 4;
        assert_eq!(parse_tcp(&bytes) == Err(TcpHeaderError::DataOffset), error, "{offset}");
    }
    assert_eq!(parse_tcp(&bytes[..19]), Err(TcpHeaderError::Truncated));
}

#[test]
fn bad_ip_headers_say_what_is_wrong() {
    let good = packet(&meta(false), &bare(Flags::ACK), &[]);
    let bad = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        parse_ip(&bytes).unwrap_err()
    };
    assert_eq!(parse_ip(&[]), Err(IpError::Truncated));
    assert_eq!(parse_ip(&good[..19]), Err(IpError::Truncated));
    assert_eq!(parse_ip(&good[..39]), Err(IpError::TotalLength));
    assert_eq!(bad(0, 0x55), IpError::Version);
    assert_eq!(bad(0, 0x44), IpError::HeaderLength);
    assert_eq!(bad(0, 0x4f), IpError::HeaderLength);
    assert_eq!(bad(3, 19), IpError::TotalLength);
    assert_eq!(bad(8, 1), IpError::Checksum);
}

#[test]
fn options_of_ipv4_are_skipped() {
    // RFC 9293 MUST-50: router alert, and one that nobody knows.
    let plain = packet(&meta(false), &bare(Flags::ACK), &[]);
    let mut bytes = plain[..20].to_vec();
    bytes.extend([0x94, 4, 0, 0, 0x9e, 3, 7, 0]);
    bytes.extend(&plain[20..]);
    bytes[0] = 0x47;
    bytes[3] += 8;
    bytes[10..12].copy_from_slice(&[0, 0]);
    let sum = checksum(&bytes[..28]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    let ip = parse_ip(&bytes).unwrap();
    assert_eq!(bytes[ip.payload], plain[20..]);
}

fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; IPV6_HEADER_LEN];
    let ip = IpMeta { src: Ipv6Addr::LOCALHOST.into(), dst: Ipv6Addr::LOCALHOST.into(), ..meta(true) };
    emit_ip(&mut bytes, &ip, next, payload.len());
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn extension_headers_are_walked() {
    let hop = [60, 0, 5, 2, 0, 0, 0, 0];
    let destination = [43, 0, 1, 4, 0, 0, 0, 0];
    let routing = [44, 0, 77, 0, 0, 0, 0, 0];
    let atomic = [6, 0, 0, 0, 0, 0, 0, 9];
    let bytes = ipv6(0, &[&hop[..], &destination, &routing, &atomic, b"tcp"].concat());
    let ip = parse_ip(&bytes).unwrap();
    assert_eq!((ip.protocol, ip.fragment, &bytes[ip.payload]), (6, None, &b"tcp"[..]));

    let fragment = [60, 0, 0x05, 0xb1, 0, 0, 1, 2];
    let bytes = ipv6(44, &[&fragment[..], b"not an option"].concat());
    let ip = parse_ip(&bytes).unwrap();
    assert_eq!(ip.fragment, Some(Fragment { id: 0x102, offset: 0x5b0, more: true }));
    assert_eq!((ip.protocol, &bytes[ip.payload]), (60, &b"not an option"[..]));
}

#[test]
fn bad_extension_headers_are_errors() {
    let cases: [(&str, u8, &[u8], IpError); 8] = [
        ("segments left", 43, &[6, 0, 0, 1, 0, 0, 0, 0], IpError::SourceRoute),
        ("cut", 60, &[6, 0, 1, 4, 0, 0, 0], IpError::ExtensionHeader),
        ("overrun", 60, &[6, 1, 1, 4, 0, 0, 0, 0], IpError::ExtensionHeader),
        ("option overrun", 60, &[6, 0, 1, 5, 0, 0, 0, 0], IpError::ExtensionHeader),
        ("jumbo payload", 0, &[6, 0, 0xc2, 4, 0, 1, 0, 0], IpError::ExtensionHeader),
        (
            "hop-by-hop second",
            60,
            &[0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0],
            IpError::ExtensionHeader,
        ),
        ("fragment cut", 44, &[6, 0, 0, 0], IpError::ExtensionHeader),
        ("nothing", 0, &[], IpError::ExtensionHeader),
    ];
    for (name, next, payload, error) in cases {
        assert_eq!(parse_ip(&ipv6(next, payload)), Err(error), "{name}");
    }
    let many = [60, 0, 1, 4, 0, 0, 0, 0].repeat(100);
    assert_eq!(parse_ip(&ipv6(60, &many)), Err(IpError::ExtensionHeader));
}

#[test]
#[should_panic(expected = "a packet from")]
fn families_may_not_be_mixed() {
    let ip = IpMeta { src: Ipv4Addr::LOCALHOST.into(), ..meta(true) };
    packet(&ip, &bare(Flags::ACK), &[]);
}

/// A super-segment with its checksum left to the device.
fn super_segment(v6: bool, flags: Flags, payload: &[u8]) -> Vec<u8> {
    let options = Options { timestamps: Some(Timestamps { tsval: 1, tsecr: 2 }), ..Options::default() };
    let segment =
        Segment { options, payload_len: payload.len(), seq: SeqNum::new(u32::MAX - 99), ..bare(flags) };
    let mut buf = HeaderBuf::new();
    let ip = IpMeta { dont_fragment: true, ident: u16::MAX, ..meta(v6) };
    emit_tcp(
        &mut buf,
        &TcpDatagram { ip: &ip, src_port: 4000, dst_port: 80, segment: &segment, payload: &[payload] },
        ChecksumMode::Offload,
    );
    [buf.as_slice(), payload].concat()
}

#[test]
fn a_super_segment_is_cut_as_a_network_card_does() {
    let flags = Flags::ACK.with(Flags::PSH).with(Flags::FIN).with(Flags::CWR).with(Flags::ECE);
    for v6 in [false, true] {
        let payload: Vec<u8> = (0..250).collect();
        let whole = super_segment(v6, flags, &payload);
        let mut pieces = Vec::new();
        assert!(split_super_segment(&whole, 100, &mut |packet| pieces.push(packet.to_vec())));
        assert_eq!(pieces.len(), 3);
        let mut joined = Vec::new();
        for (n, packet) in pieces.iter().enumerate() {
            let ip = parse_ip(packet).expect("a right IPv4 checksum");
            assert_eq!(ip.payload.end, packet.len());
            if !v6 {
                assert_eq!(u16::from_be_bytes([packet[4], packet[5]]), u16::MAX.wrapping_add(n as u16));
            }
            let tcp = &packet[ip.payload];
            assert!(tcp_checksum_ok(ip.src, ip.dst, tcp));
            let (segment, data) = parse_tcp(tcp).unwrap();
            assert_eq!(segment.seq, SeqNum::new(u32::MAX - 99) + 100 * n as u32);
            assert!(
                segment.flags.contains(Flags::ACK.with(Flags::ECE)) && segment.options.timestamps.is_some()
            );
            assert_eq!(segment.flags.contains(Flags::CWR), n == 0, "CWR on the first");
            assert_eq!(segment.is_fin(), n == 2, "FIN on the last");
            assert_eq!(segment.flags.contains(Flags::PSH), n == 2, "PSH on the last");
            joined.extend_from_slice(&tcp[data..]);
        }
        assert_eq!(joined, payload);
    }
}

#[test]
fn the_segments_of_a_burst_are_those_of_a_network_card() {
    let flags = Flags::ACK.with(Flags::PSH).with(Flags::FIN).with(Flags::CWR).with(Flags::ECE);
    let payload: Vec<u8> = (0..250).collect();
    for (v6, dont_fragment, mode) in [
        (false, false, ChecksumMode::Full),
        (false, true, ChecksumMode::Full),
        (true, true, ChecksumMode::Full),
        (false, false, ChecksumMode::Offload),
        (true, true, ChecksumMode::Offload),
    ] {
        let options = Options { timestamps: Some(Timestamps { tsval: 1, tsecr: 2 }), ..Options::default() };
        let seq = SeqNum::new(u32::MAX - 99);
        let segment = Segment { options, payload_len: payload.len(), seq, ..bare(flags) };
        let ident = if dont_fragment { 0 } else { u16::MAX };
        let ip = IpMeta { dont_fragment, ident, ..meta(v6) };
        let pieces: &[&[u8]] = &[&payload];
        let datagram =
            TcpDatagram { ip: &ip, src_port: 4000, dst_port: 80, segment: &segment, payload: pieces };
        let mut header = HeaderBuf::new();
        emit_tcp(&mut header, &datagram, ChecksumMode::Offload);
        let mut expected = Vec::new();
        split_super_segment(&[&header[..], &payload].concat(), 100, &mut |packet| {
            expected.push(packet.to_vec())
        });
        let mut burst = Burst::new(&datagram, 100, mode);
        assert_eq!(burst.count(), 3);
        let mut start = 0;
        let cut: Vec<_> = (0..3)
            .map(|n| {
                let text = &payload[start..start + burst.payload_len(n)];
                start += text.len();
                // In two pieces, the first of an odd length.
                let (front, back) = text.split_at(33);
                let (header, offload) = burst.segment(n, &[front, back]);
                let mut packet = [header, text].concat();
                if offload.is_some() {
                    complete_checksum(&mut packet);
                }
                packet
            })
            .collect();
        if dont_fragment && !v6 {
            // Nobody may fragment it, so that its identification says nothing (RFC 6864 §4.1).
            for packet in &cut {
                assert_eq!(packet[4..6], [0, 0]);
                assert!(parse_ip(packet).is_ok(), "a right IPv4 checksum");
            }
            let of_tcp =
                |packets: &[Vec<u8>]| packets.iter().map(|packet| packet[20..].to_vec()).collect::<Vec<_>>();
            assert_eq!(of_tcp(&cut), of_tcp(&expected));
        } else {
            assert_eq!(cut, expected);
        }
    }
}

#[test]
fn datagrams_that_are_one_packet_are_cut_as_a_network_card_does() {
    for v6 in [false, true] {
        let payload: Vec<u8> = (0..250).collect();
        let ip = IpMeta { ident: u16::MAX, ..meta(v6) };
        let whole = udp_packet(&ip, &payload, ChecksumMode::Offload);
        let mut joined = Vec::new();
        let mut idents = Vec::new();
        assert!(split_super_segment(&whole, 100, &mut |packet| {
            let ip = parse_ip(packet).expect("a right IPv4 checksum");
            idents.push(u16::from_be_bytes([packet[4], packet[5]]));
            let udp = &packet[ip.payload];
            assert!(udp_checksum_ok(ip.src, ip.dst, udp));
            let header = parse_udp(udp).unwrap();
            assert_eq!((header.src_port, header.dst_port), (4000, 53));
            assert_eq!(header.payload_len + UDP_HEADER_LEN, udp.len());
            joined.push(udp[UDP_HEADER_LEN..].to_vec());
        }));
        assert_eq!(joined.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
        assert_eq!(joined.concat(), payload);
        if !v6 {
            assert_eq!(idents, [u16::MAX, 0, 1]);
        }
        assert!(!split_super_segment(&whole[..ip_header_len(&ip.dst) + 7], 100, &mut |_| panic!("cut")));
    }
}

#[test]
fn what_is_no_tcp_segment_is_not_cut() {
    let mut packet = super_segment(false, Flags::ACK, b"payload");
    let none = |packet: &[u8], size| split_super_segment(packet, size, &mut |_| panic!("cut"));
    assert!(!none(&packet, 0));
    assert!(!none(&packet[..30], 4));
    packet[32] = 0xf0;
    assert!(!none(&packet, 4), "data offset past the end");
}

#[test]
fn a_partial_checksum_is_completed() {
    for v6 in [false, true] {
        let mut packet = super_segment(v6, Flags::ACK, b"odd");
        complete_checksum(&mut packet);
        let ip = parse_ip(&packet).unwrap();
        assert!(tcp_checksum_ok(ip.src, ip.dst, &packet[ip.payload]));
    }
}

#[test]
fn congestion_is_marked_where_the_transport_is_capable() {
    for v6 in [false, true] {
        let mut packet = super_segment(v6, Flags::ACK, &[]);
        assert!(mark_congestion(&mut packet));
        let ip = parse_ip(&packet).expect("a right IPv4 checksum");
        assert_eq!(ip.traffic_class, 0b1010_1111);

        let mut bytes = vec![0; ip_header_len(&ip.dst)];
        emit_ip(&mut bytes, &IpMeta { traffic_class: 0b1000, ..meta(v6) }, protocol::TCP, 0);
        assert!(!mark_congestion(&mut bytes));
        assert_eq!(parse_ip(&bytes).unwrap().ecn(), 0);
    }
}

#[test]
fn an_accecn_option_of_another_length_is_used_by_whole_fields() {
    // RFC 9768 section 3.2.3: lengths 3, 7, 10, 12 and 15.
    for (body, fields) in [(1, 0), (5, 1), (8, 2), (10, 3), (13, 3)] {
        let mut header = [0; 40];
        header[12] = 10 << 4;
        header[20] = 172;
        header[21] = 2 + body;
        header[22..22 + usize::from(body)].fill(1);
        let option = parse_tcp(&header).unwrap().0.options.acc_ecn.expect("it is there");
        assert_eq!(option.fields.as_slice(), &[0x01_0101; 3][..fields], "{body} bytes");
    }
}
