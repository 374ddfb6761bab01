//! Bytes into every parser of headers, and what the parsers say held against one another.

use crate::packets::mend_ip_header;
use netstack::buffer::PACKET_SIZE;
use netstack::icmp::{parse_echo_request, parse_error};
use netstack::ip::check_options_v4;
use netstack::wire::{
    ChecksumMode, HeaderBuf, IPV4_HEADER_LEN, IpHeader, IpMeta, TcpDatagram, complete_checksum, emit_tcp,
    extension_problem, ip_header_len, mark_congestion, parse_icmp, parse_ip, parse_ports, parse_quoted,
    parse_tcp, protocol, protocol_offset, split_super_segment, tcp_checksum_ok,
};

/// The first byte says how much of the header is made right, the rest is the packet.
pub fn run(data: &[u8]) {
    let Some((&mode, packet)) = data.split_first() else { return };
    let mut packet = packet[..packet.len().min(PACKET_SIZE)].to_vec();
    let _ = parse_quoted(&packet);
    let _ = parse_ports(&packet);
    let _ = parse_tcp(&packet);
    if let Some((header, problem)) = extension_problem(&packet) {
        assert!((problem.pointer as usize) < packet.len() && header.payload.end <= packet.len());
    }
    if mode & 1 == 0 {
        mend_ip_header(&mut packet);
    }
    let Ok(header) = parse_ip(&packet) else {
        let before = packet.clone();
        complete_checksum(&mut packet);
        assert!(!mark_congestion(&mut packet) && packet == before, "a broken packet is changed");
        assert!(!split_super_segment(&packet, 100, &mut |_| panic!("a broken packet is cut")));
        return;
    };
    check_header(&header, &packet);
    if mode & 2 == 0 {
        complete_checksum(&mut packet);
        assert_eq!(parse_ip(&packet).as_ref(), Ok(&header), "only the checksum is changed");
    }
    check_icmp(&header, &packet);
    check_tcp(&header, &packet);
    check_cuts(&header, &packet, 1 + usize::from(mode) * 7);
    let marked = mark_congestion(&mut packet);
    let now = parse_ip(&packet).expect("a marked packet is still sound");
    assert_eq!(marked, header.ecn() != 0);
    assert_eq!(now.ecn(), if marked { 3 } else { 0 });
    assert_eq!((now.src, now.dst, now.payload), (header.src, header.dst, header.payload));
}

fn check_header(header: &IpHeader, packet: &[u8]) {
    assert!(header.payload.start <= header.payload.end && header.payload.end <= packet.len());
    assert!(header.payload.start >= ip_header_len(&header.dst));
    assert_eq!(header.src.is_ipv4(), header.dst.is_ipv4());
    assert_eq!(packet[protocol_offset(header, packet)], header.protocol, "where the protocol's number is");
    if let Some(fragment) = header.fragment {
        assert!(fragment.offset.is_multiple_of(8) && (fragment.more || fragment.offset != 0));
    }
    if header.src.is_ipv4() {
        let _ = check_options_v4(&packet[IPV4_HEADER_LEN..header.payload.start]);
    }
}

fn check_icmp(header: &IpHeader, packet: &[u8]) {
    let message = parse_icmp(header, packet);
    let error = parse_error(header, packet);
    let echo = parse_echo_request(header, packet);
    assert!(message.is_some() || (error.is_none() && echo.is_none()));
    assert!(error.is_none() || echo.is_none(), "both a request and an error");
    if let Some(error) = error {
        assert_eq!(error.quoted.src.is_ipv4(), header.src.is_ipv4());
    }
}

/// A segment that was read is written and read again.
fn check_tcp(header: &IpHeader, packet: &[u8]) {
    if header.protocol != protocol::TCP || header.fragment.is_some() {
        return;
    }
    let transport = &packet[header.payload.clone()];
    let Ok((segment, at)) = parse_tcp(transport) else { return };
    assert_eq!(segment.payload_len, transport.len() - at);
    let _ = tcp_checksum_ok(header.src, header.dst, transport);
    let ip = IpMeta { traffic_class: header.traffic_class, ..IpMeta::new(header.src, header.dst, 9) };
    let (src_port, dst_port) = parse_ports(transport).expect("a whole header has ports");
    let payload = &transport[at..];
    // With all its padding an option may take more room than it did.
    if payload.len() > PACKET_SIZE - 100 {
        return;
    }
    let pieces: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
    let datagram = TcpDatagram { ip: &ip, src_port, dst_port, segment: &segment, payload: pieces };
    let mut headers = HeaderBuf::new();
    emit_tcp(&mut headers, &datagram, ChecksumMode::Full);
    let again = [headers.as_slice(), payload].concat();
    let ip = parse_ip(&again).expect("what is written can be read");
    let transport = &again[ip.payload];
    assert!(tcp_checksum_ok(header.src, header.dst, transport));
    let (mut parsed, at) = parse_tcp(transport).expect("what is written can be read");
    assert_eq!(&transport[at..], payload);
    // What need not fit is looked at by the target `options`.
    parsed.options = segment.options.clone();
    assert_eq!(parsed, segment);
}

/// The pieces of a super-segment are sound, and are the whole.
fn check_cuts(header: &IpHeader, packet: &[u8], size: usize) {
    let mut pieces = Vec::new();
    let cut = split_super_segment(packet, size, &mut |piece| pieces.push(piece.to_vec()));
    assert_eq!(cut, !pieces.is_empty());
    if !cut {
        return;
    }
    if header.protocol == protocol::UDP {
        return check_datagrams(header, packet, size, &pieces);
    }
    let (whole, at) = parse_tcp(&packet[header.payload.clone()]).expect("only a segment is cut");
    let mut joined = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let ip = parse_ip(piece).expect("a piece is a packet");
        assert_eq!((ip.src, ip.dst, ip.protocol), (header.src, header.dst, protocol::TCP));
        assert_eq!(ip.payload.end, piece.len());
        let transport = &piece[ip.payload];
        assert!(tcp_checksum_ok(ip.src, ip.dst, transport));
        let (segment, at) = parse_tcp(transport).expect("a piece is a segment");
        assert_eq!(segment.seq, whole.seq + joined.len() as u32);
        assert!(segment.payload_len == size || n + 1 == pieces.len());
        assert_eq!(segment.is_fin(), whole.is_fin() && n + 1 == pieces.len());
        joined.extend_from_slice(&transport[at..]);
    }
    assert_eq!(joined, packet[header.payload.clone()][at..]);
}

/// Datagrams that were one packet have its ports, and together its payload.
fn check_datagrams(header: &IpHeader, packet: &[u8], size: usize, pieces: &[Vec<u8>]) {
    let whole = &packet[header.payload.clone()];
    let mut joined = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let ip = parse_ip(piece).expect("a piece is a packet");
        assert_eq!((ip.src, ip.dst, ip.protocol), (header.src, header.dst, protocol::UDP));
        assert_eq!(ip.payload.end, piece.len());
        let datagram = &piece[ip.payload];
        assert_eq!(datagram[..4], whole[..4], "the ports");
        assert_eq!(usize::from(u16::from_be_bytes([datagram[4], datagram[5]])), datagram.len());
        assert!(datagram.len() == 8 + size || n + 1 == pieces.len());
        joined.extend_from_slice(&datagram[8..]);
    }
    assert_eq!(joined, whole[8..]);
}
