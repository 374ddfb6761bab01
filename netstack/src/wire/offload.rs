//! The offloads of a device in software: completing checksums and dividing super-segments.

#![cfg_attr(
    not(test),
    expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "devices in software call it with packets of the stack; all lengths were checked by `parse_ip`, and the fuzz target `wire` holds it"
    )
)]

use super::checksum::pseudo_header;
use super::ip::{IpHeader, fill_ipv4_checksum};
use super::parse::parse_ip;
use super::protocol;
use super::tcp::{CHECKSUM_OFFSET, TCP_HEADER_LEN};
use super::udp::{CHECKSUM_OFFSET as UDP_CHECKSUM_OFFSET, UDP_HEADER_LEN};
use crate::wire::Flags;
use std::net::IpAddr;

/// How a super-segment of TCP, or a super-datagram of UDP, is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gso {
    /// Payload bytes of each segment or datagram except the last one (of TCP, the MSS).
    pub size: u16,
    /// Bytes of the IP and transport headers together.
    pub header_len: u16,
}

/// Computes the TCP or UDP checksum of `packet` and writes it, whatever was there. Does nothing to
/// a packet of another protocol, a fragment, a UDP datagram without checksum or a malformed packet.
pub fn complete_checksum(packet: &mut [u8]) {
    let Ok(header) = parse_ip(packet) else { return };
    if header.fragment.is_some() {
        return;
    }
    let offset = match header.protocol {
        protocol::TCP => CHECKSUM_OFFSET,
        protocol::UDP => UDP_CHECKSUM_OFFSET,
        _ => return,
    };
    let udp = header.protocol == protocol::UDP;
    let transport = &mut packet[header.payload.clone()];
    match transport.get(offset..offset + 2) {
        None => return,
        Some([0, 0]) if udp => return,
        Some(_) => {}
    }
    fill_checksum(&header, offset, transport);
}

fn fill_checksum(header: &IpHeader, offset: usize, transport: &mut [u8]) {
    transport[offset..offset + 2].fill(0);
    let mut sum = pseudo_header(header.src, header.dst, header.protocol, transport.len());
    sum.add(transport);
    let sum = sum.finish();
    // RFC 768: a sum of zero is sent as all ones.
    let field = if sum == 0 && header.protocol == protocol::UDP { u16::MAX } else { sum };
    transport[offset..offset + 2].copy_from_slice(&field.to_be_bytes());
}

/// Divides a TCP super-segment into packets with `gso_size` bytes of payload each, the last with
/// the rest, as a network card does: sequence numbers and IPv4 identifications count on, CWR stays
/// with the first, FIN and PSH with the last, lengths and checksums are complete. Several UDP datagrams that
/// are one packet are divided likewise. Each is passed to `out`.
///
/// Returns false, and passes nothing, if `packet` is not a valid TCP segment or UDP datagram.
pub fn split_super_segment(packet: &[u8], gso_size: usize, out: &mut dyn FnMut(&[u8])) -> bool {
    let Ok(ip) = parse_ip(packet) else { return false };
    if ip.fragment.is_some() || gso_size == 0 {
        return false;
    }
    match ip.protocol {
        protocol::TCP => split_tcp(packet, &ip, gso_size, out),
        protocol::UDP => split_udp(packet, &ip, gso_size, out),
        _ => false,
    }
}

fn split_udp(packet: &[u8], ip: &IpHeader, gso_size: usize, out: &mut dyn FnMut(&[u8])) -> bool {
    let Some((header, payload)) = packet[ip.payload.clone()].split_at_checked(UDP_HEADER_LEN) else {
        return false;
    };
    let mut datagram = Vec::with_capacity(ip.payload.start + UDP_HEADER_LEN + gso_size.min(payload.len()));
    // An empty datagram is one, too.
    let mut pieces = payload.chunks(gso_size);
    let first = pieces.next().unwrap_or_default();
    for (n, piece) in std::iter::once(first).chain(pieces).enumerate() {
        datagram.clear();
        datagram.extend_from_slice(&packet[..ip.payload.start]);
        datagram.extend_from_slice(header);
        datagram.extend_from_slice(piece);
        resize_ip(ip, &mut datagram, n as u16);
        let udp = &mut datagram[ip.payload.start..];
        let len = udp.len() as u16;
        udp[4..6].copy_from_slice(&len.to_be_bytes());
        fill_checksum(ip, UDP_CHECKSUM_OFFSET, udp);
        out(&datagram);
    }
    true
}

fn split_tcp(packet: &[u8], ip: &IpHeader, gso_size: usize, out: &mut dyn FnMut(&[u8])) -> bool {
    let transport = &packet[ip.payload.clone()];
    if transport.len() < TCP_HEADER_LEN {
        return false;
    }
    let tcp_len = usize::from(transport[12] >> 4) * 4;
    if tcp_len < TCP_HEADER_LEN || tcp_len > transport.len() {
        return false;
    }
    let (tcp_header, payload) = transport.split_at(tcp_len);
    let first_seq = u32::from_be_bytes([tcp_header[4], tcp_header[5], tcp_header[6], tcp_header[7]]);
    let flags = tcp_header[13];
    let mut segment = Vec::with_capacity(ip.payload.start + tcp_len + gso_size.min(payload.len()));
    let count = payload.len().div_ceil(gso_size).max(1);
    for n in 0..count {
        let start = n * gso_size;
        let piece = &payload[start..payload.len().min(start + gso_size)];
        segment.clear();
        segment.extend_from_slice(&packet[..ip.payload.start + tcp_len]);
        segment.extend_from_slice(piece);
        resize_ip(ip, &mut segment, n as u16);
        let tcp = &mut segment[ip.payload.start..];
        tcp[4..8].copy_from_slice(&first_seq.wrapping_add(start as u32).to_be_bytes());
        let mut flags = flags;
        if n > 0 {
            flags &= !(Flags::CWR.bits() as u8);
        }
        if n + 1 < count {
            flags &= !(Flags::FIN.with(Flags::PSH).bits() as u8);
        }
        tcp[13] = flags;
        fill_checksum(ip, CHECKSUM_OFFSET, tcp);
        out(&segment);
    }
    true
}

/// Corrects the IP header of `packet`, the `n`th cut from a longer one.
fn resize_ip(ip: &IpHeader, packet: &mut [u8], n: u16) {
    match ip.src {
        IpAddr::V4(_) => {
            let len = packet.len() as u16;
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            let ident = u16::from_be_bytes([packet[4], packet[5]]).wrapping_add(n);
            packet[4..6].copy_from_slice(&ident.to_be_bytes());
            fill_ipv4_checksum(&mut packet[..ip.payload.start]);
        }
        IpAddr::V6(_) => {
            let len = (packet.len() - super::ip::IPV6_HEADER_LEN) as u16;
            packet[4..6].copy_from_slice(&len.to_be_bytes());
        }
    }
}

/// Marks a packet CE, if its transport is ECN-capable (RFC 3168 §5). Returns whether it is marked
/// now.
pub fn mark_congestion(packet: &mut [u8]) -> bool {
    const CE: u8 = 3;
    let Ok(ip) = parse_ip(packet) else { return false };
    if ip.ecn() == 0 {
        return false;
    }
    match ip.src {
        IpAddr::V4(_) => {
            packet[1] |= CE;
            let header_len = usize::from(packet[0] & 15) * 4;
            fill_ipv4_checksum(&mut packet[..header_len]);
        }
        // The traffic class lies across the first two bytes.
        IpAddr::V6(_) => packet[1] |= CE << 4,
    }
    true
}
