//! ICMP errors to send.

use super::kind;
use crate::ip::Cast;
use crate::wire::{
    ICMP_HEADER_LEN, IcmpMessage, IpHeader, IpMeta, emit_icmp, ip_header_len, protocol, protocol_offset,
};
use std::net::IpAddr;

/// What could not be reached here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Nobody listens on the port.
    Port,
    /// Nobody handles the protocol.
    Protocol,
    /// The network, or no route leads there.
    Network,
    /// The host.
    Host,
    /// A policy forbids it.
    Prohibited,
}

/// Replaces what is in `to` by the error that tells the sender of `packet`, of which `header` was
/// read, that it could not be delivered. `cast` is what validation of the packet gave. `ip` gives
/// hop limit, traffic class and identification; the addresses are those of the packet, exchanged.
///
/// Returns false, and writes nothing, if no error may be sent about such a packet (RFC 1122 §3.2.2,
/// RFC 4443 §2.4 (e)). The caller limits the rate.
pub fn emit_unreachable(
    to: &mut Vec<u8>,
    reason: Unreachable,
    header: &IpHeader,
    packet: &[u8],
    cast: Cast,
    ip: &IpMeta,
) -> bool {
    if cast != Cast::Unicast || !may_answer(header, packet) {
        return false;
    }
    let (kind, code, word) = match (header.src, reason) {
        (IpAddr::V4(_), Unreachable::Protocol) => (kind::v4::UNREACHABLE, 2, 0),
        (IpAddr::V4(_), Unreachable::Port) => (kind::v4::UNREACHABLE, 3, 0),
        // RFC 792, and RFC 1812 §5.2.7.1 for what is prohibited.
        (IpAddr::V4(_), Unreachable::Network) => (kind::v4::UNREACHABLE, 0, 0),
        (IpAddr::V4(_), Unreachable::Host) => (kind::v4::UNREACHABLE, 1, 0),
        (IpAddr::V4(_), Unreachable::Prohibited) => (kind::v4::UNREACHABLE, 13, 0),
        // RFC 4443 §3.1.
        (IpAddr::V6(_), Unreachable::Network) => (kind::v6::UNREACHABLE, 0, 0),
        (IpAddr::V6(_), Unreachable::Prohibited) => (kind::v6::UNREACHABLE, 1, 0),
        (IpAddr::V6(_), Unreachable::Host) => (kind::v6::UNREACHABLE, 3, 0),
        (IpAddr::V6(_), Unreachable::Port) => (kind::v6::UNREACHABLE, 4, 0),
        // RFC 4443 §3.4: an unrecognized next header, and where it is.
        (IpAddr::V6(_), Unreachable::Protocol) => {
            (kind::v6::PARAMETER_PROBLEM, 1, protocol_offset(header, packet) as u32)
        }
    };
    // As much as surely arrives: RFC 1812 §4.3.2.3, RFC 4443 §2.4 (c).
    let longest = if header.src.is_ipv4() { 576 } else { 1280 };
    let room = longest - ip_header_len(&header.src) - ICMP_HEADER_LEN;
    let packet = &packet[..header.payload.end.min(packet.len())];
    let body = &packet[..packet.len().min(room)];
    let ip = IpMeta { src: header.dst, dst: header.src, ..*ip };
    emit_icmp(to, &ip, &IcmpMessage { kind, code, word: word.to_be_bytes(), body });
    true
}

fn may_answer(header: &IpHeader, packet: &[u8]) -> bool {
    // About the first fragment of a datagram only.
    if header.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return false;
    }
    // To a source that is one host only.
    let one_host = match header.src {
        IpAddr::V4(src) => !(src.octets()[0] == 0 || src.is_multicast() || src.octets()[0] >= 240),
        IpAddr::V6(src) => !(src.is_unspecified() || src.is_multicast()),
    };
    // Never about an ICMP error; where the type is cut off it might be one.
    let kind = packet.get(header.payload.start).copied();
    let about_error = match header.protocol {
        protocol::ICMP if header.src.is_ipv4() => kind.is_none_or(is_error_v4),
        protocol::ICMPV6 => kind.is_none_or(|kind| kind < 128 || kind == kind::v6::REDIRECT),
        _ => false,
    };
    one_host && !about_error
}

const fn is_error_v4(kind: u8) -> bool {
    matches!(
        kind,
        kind::v4::UNREACHABLE
            | kind::v4::SOURCE_QUENCH
            | kind::v4::REDIRECT
            | kind::v4::TIME_EXCEEDED
            | kind::v4::PARAMETER_PROBLEM
    )
}
