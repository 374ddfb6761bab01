//! ICMP messages and the packets that they quote.

use super::checksum::{checksum, transport_checksum_ok};
use super::extensions::{extension, walk_extensions};
use super::ip::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader, IpMeta, emit_ip, ip_header_len};
use super::tcp::parse_ports;
use super::{protocol, pseudo_header};
use crate::wire::SeqNum;
use smoltcp::wire::{Ipv4Packet, Ipv6Packet};
use std::net::IpAddr;

/// Bytes of an ICMP header in both families.
pub const ICMP_HEADER_LEN: usize = 8;

/// An ICMP message of either family. The numbers of types and codes differ between the families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpMessage<'a> {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The second word of the header, whose meaning depends on the type.
    pub word: [u8; 4],
    /// What follows the header.
    pub body: &'a [u8],
}

/// Reads the ICMP message in `packet`, whose IP header is `header`. None if it is a fragment, of
/// another protocol, too short or its checksum is wrong.
pub fn parse_icmp<'a>(header: &IpHeader, packet: &'a [u8]) -> Option<IcmpMessage<'a>> {
    let bytes = packet.get(header.payload.clone())?;
    let sound = match header.src {
        IpAddr::V4(_) => header.protocol == protocol::ICMP && checksum(bytes) == 0,
        IpAddr::V6(_) => {
            header.protocol == protocol::ICMPV6
                && transport_checksum_ok(header.src, header.dst, protocol::ICMPV6, bytes)
        }
    };
    if !sound || header.fragment.is_some() {
        return None;
    }
    let (&[kind, code, _, _, a, b, c, d], body) = bytes.split_first_chunk()?;
    Some(IcmpMessage { kind, code, word: [a, b, c, d], body })
}

/// Replaces the contents of `to` with the packet of an ICMP message.
///
/// # Panics
/// If the addresses are of different families or the packet is longer than 64 KiB.
#[cfg_attr(
    not(test),
    expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "it writes into a buffer that it has made for what it writes"
    )
)]
pub fn emit_icmp(to: &mut Vec<u8>, ip: &IpMeta, message: &IcmpMessage<'_>) {
    let IcmpMessage { kind, code, word: [a, b, c, d], body } = *message;
    let ip_len = ip_header_len(&ip.dst);
    let icmp_len = ICMP_HEADER_LEN + body.len();
    to.clear();
    to.resize(ip_len, 0);
    to.extend_from_slice(&[kind, code, 0, 0, a, b, c, d]);
    to.extend_from_slice(body);
    let sum = match ip.dst {
        IpAddr::V4(_) => {
            emit_ip(&mut to[..ip_len], ip, protocol::ICMP, icmp_len);
            checksum(&to[ip_len..])
        }
        IpAddr::V6(_) => {
            emit_ip(&mut to[..ip_len], ip, protocol::ICMPV6, icmp_len);
            let mut sum = pseudo_header(ip.src, ip.dst, protocol::ICMPV6, icmp_len);
            sum.add(&to[ip_len..]);
            sum.finish()
        }
    };
    to[ip_len + 2..ip_len + 4].copy_from_slice(&sum.to_be_bytes());
}

/// The front of a packet that an ICMP error is about: one that this host sent, according to the
/// reporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Its source address, one of ours if the error is meant for us.
    pub src: IpAddr,
    /// Its destination address.
    pub dst: IpAddr,
    /// Its protocol, past extension headers.
    pub protocol: u8,
    /// Source and destination port, if it is TCP or UDP.
    pub ports: Option<(u16, u16)>,
    /// Sequence number, if it is TCP.
    pub seq: Option<SeqNum>,
    /// Identifier, if it is an ICMP echo request.
    pub echo_id: Option<u16>,
}

/// Reads what an ICMP error quotes, of which the end is usually missing. None if the addresses are
/// not all there, or if it is a fragment other than the first, which says nothing of its transport.
pub fn parse_quoted(bytes: &[u8]) -> Option<Quoted> {
    let header = match bytes.first()? >> 4 {
        4 => {
            let fixed: &[u8; IPV4_HEADER_LEN] = bytes.first_chunk()?;
            // Routers change the header before they quote it: its checksum means nothing.
            let ip = Ipv4Packet::new_unchecked(bytes);
            let start = usize::from(ip.header_len());
            if start < IPV4_HEADER_LEN || start > bytes.len() || ip.frag_offset() != 0 {
                return None;
            }
            quoted_header(ip.src_addr().into(), ip.dst_addr().into(), fixed[9], start..bytes.len())
        }
        6 => {
            let fixed: &[u8; IPV6_HEADER_LEN] = bytes.first_chunk()?;
            let ip = Ipv6Packet::new_unchecked(bytes);
            let payload = IPV6_HEADER_LEN..bytes.len();
            let mut header = quoted_header(ip.src_addr().into(), ip.dst_addr().into(), fixed[6], payload);
            walk_extensions(bytes, &mut header).ok()?;
            if header.fragment.is_some_and(|fragment| fragment.offset != 0) {
                return None;
            }
            header
        }
        _ => return None,
    };
    let transport = bytes.get(header.payload)?;
    let has_ports = matches!(header.protocol, protocol::TCP | protocol::UDP);
    let seq = match transport.get(4..8) {
        Some(&[a, b, c, d]) if header.protocol == protocol::TCP => {
            Some(SeqNum::new(u32::from_be_bytes([a, b, c, d])))
        }
        _ => None,
    };
    let echo_id = match (header.protocol, transport.get(..6)) {
        (protocol::ICMP, Some(&[8, _, _, _, a, b])) | (protocol::ICMPV6, Some(&[128, _, _, _, a, b])) => {
            Some(u16::from_be_bytes([a, b]))
        }
        _ => None,
    };
    Some(Quoted {
        src: header.src,
        dst: header.dst,
        protocol: header.protocol,
        ports: if has_ports { parse_ports(transport) } else { None },
        seq,
        echo_id,
    })
}

fn quoted_header(src: IpAddr, dst: IpAddr, protocol: u8, payload: std::ops::Range<usize>) -> IpHeader {
    IpHeader { src, dst, protocol, hop_limit: 0, traffic_class: 0, fragment: None, payload }
}

/// The offset in `packet`, whose IP header is `header`, of the protocol number of its payload.
pub fn protocol_offset(header: &IpHeader, packet: &[u8]) -> usize {
    if header.src.is_ipv4() {
        return 9;
    }
    let (mut field, mut at) = (6, IPV6_HEADER_LEN);
    while at < header.payload.start {
        // RFC 8200 §4.5: a fragment header has no length, and what is in its place is ignored.
        let units = if packet.get(field) == Some(&extension::FRAGMENT) {
            None
        } else {
            packet.get(at.saturating_add(1))
        };
        field = at;
        let units = units.map_or(0, |&units| usize::from(units));
        at = at.saturating_add(units.saturating_add(1).saturating_mul(8));
    }
    field
}
