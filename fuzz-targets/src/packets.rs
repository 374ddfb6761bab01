//! Packets that are made for a target, and the check of those that a stack sends.

use netstack::device::TxPacket;
use netstack::wire::{
    ChecksumMode, HeaderBuf, IPV4_HEADER_LEN, IcmpMessage, IpMeta, Segment, TcpDatagram, UdpDatagram,
    checksum, emit_icmp, emit_tcp, emit_udp, parse_ip, parse_tcp, protocol, tcp_checksum_ok,
};
use std::net::IpAddr;

/// One of several, as a byte of the input says.
pub(crate) fn pick<T: Copy>(from: &[T], by: u8) -> T {
    from[usize::from(by) % from.len()]
}

/// Where a packet comes from and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) src: (IpAddr, u16),
    pub(crate) dst: (IpAddr, u16),
}

/// A TCP packet with correct checksums.
pub(crate) fn tcp(ends: Ends, segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let ip = IpMeta { traffic_class: segment.ecn.bits(), ..IpMeta::new(ends.src.0, ends.dst.0, 64) };
    let pieces: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
    let datagram =
        TcpDatagram { ip: &ip, src_port: ends.src.1, dst_port: ends.dst.1, segment, payload: pieces };
    let mut headers = HeaderBuf::new();
    emit_tcp(&mut headers, &datagram, ChecksumMode::Full);
    [headers.as_slice(), payload].concat()
}

/// A UDP packet with correct checksums.
pub(crate) fn udp(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let ip = IpMeta::new(ends.src.0, ends.dst.0, 64);
    let datagram = UdpDatagram { ip: &ip, src_port: ends.src.1, dst_port: ends.dst.1, payload };
    let mut headers = HeaderBuf::new();
    emit_udp(&mut headers, &datagram, ChecksumMode::Full);
    [headers.as_slice(), payload].concat()
}

/// An ICMP packet with correct checksums.
pub(crate) fn icmp(src: IpAddr, dst: IpAddr, message: &IcmpMessage<'_>) -> Vec<u8> {
    let mut packet = Vec::new();
    emit_icmp(&mut packet, &IpMeta::new(src, dst, 64), message);
    packet
}

/// Makes the length and the checksum of an IPv4 header what they should be, or the length of an IPv6
/// header: what else is in `packet` would seldom be looked at.
pub(crate) fn mend_ip_header(packet: &mut [u8]) {
    let len = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    match packet.first().map(|byte| byte >> 4) {
        Some(4) if packet.len() >= IPV4_HEADER_LEN => {
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet[10..12].fill(0);
            let header_len = (usize::from(packet[0] & 15) * 4).clamp(IPV4_HEADER_LEN, packet.len());
            let sum = checksum(&packet[..header_len]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        Some(6) if packet.len() >= 40 => packet[4..6].copy_from_slice(&(len - 40).to_be_bytes()),
        _ => {}
    }
}

/// What a stack may send on a device with this MTU.
///
/// # Panics
/// If the packet is malformed or too long.
pub(crate) fn check_sent(packet: &TxPacket<'_>, mtu: usize) {
    let mut bytes = vec![0; packet.len()];
    packet.copy_to(&mut bytes);
    let ip = parse_ip(&bytes).expect("a sound IP header");
    assert_eq!(ip.payload.end, bytes.len(), "the length field is right");
    match packet.gso {
        None => assert!(bytes.len() <= mtu, "{} bytes on a device of {mtu}", bytes.len()),
        Some(gso) => {
            assert!(packet.checksum.is_some() && gso.size > 0, "{gso:?}");
            assert!(usize::from(gso.header_len) + usize::from(gso.size) <= mtu, "{gso:?} on {mtu}");
        }
    }
    assert!(packet.payload.iter().all(|piece| !piece.is_empty()), "an empty piece");
    if ip.fragment.is_some() || ip.protocol != protocol::TCP {
        return;
    }
    let transport = &bytes[ip.payload.clone()];
    parse_tcp(transport).expect("a sound TCP header");
    match packet.checksum {
        Some(offload) => assert_eq!(usize::from(offload.start), ip.payload.start),
        None => assert!(tcp_checksum_ok(ip.src, ip.dst, transport), "a wrong checksum"),
    }
}
