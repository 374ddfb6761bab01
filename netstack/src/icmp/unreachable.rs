//! ICMP errors to send.

use super::kind;
use crate::ip::{Addresses, Cast};
use crate::wire::{
    ICMP_HEADER_LEN, IcmpMessage, IpHeader, IpMeta, Problem, emit_icmp, ip_header_len, protocol,
    protocol_offset,
};
use std::net::IpAddr;

/// The reason for an ICMP error "destination unreachable".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The port has no listener.
    Port,
    /// The protocol is not supported.
    Protocol,
    /// The network cannot be reached, or there is no route to it.
    Network,
    /// The host cannot be reached.
    Host,
    /// A policy prohibits the communication.
    Prohibited,
}

/// A packet that could not be delivered.
#[derive(Clone, Copy, Debug)]
pub struct Undelivered<'a> {
    /// Its IP header.
    pub header: &'a IpHeader,
    /// The packet itself, or as much of its front as may be quoted.
    pub bytes: &'a [u8],
    /// The result of its validation.
    pub cast: Cast,
}

/// Replaces the contents of `to` with the error that informs the sender of `packet` that it could
/// not be delivered. `addresses` are those of the stack. `ip` gives hop limit, traffic class and
/// identification; the addresses are those of the packet, exchanged.
///
/// Returns false, and writes nothing, if no error may be sent about such a packet (RFC 1122 §3.2.2,
/// RFC 4443 §2.4 (e)). The caller limits the rate.
pub fn emit_unreachable(
    to: &mut Vec<u8>,
    reason: Unreachable,
    packet: &Undelivered<'_>,
    addresses: &Addresses,
    ip: &IpMeta,
) -> bool {
    let Undelivered { header, bytes, .. } = *packet;
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
            (kind::v6::PARAMETER_PROBLEM, 1, protocol_offset(header, bytes) as u32)
        }
    };
    may_answer(packet, addresses) && {
        emit_about(to, &IcmpMessage { kind, code, word: word.to_be_bytes(), body: &[] }, packet, ip);
        true
    }
}

/// As [`emit_unreachable`], that a field of the packet keeps it from being delivered: "parameter problem"
/// (RFC 792, RFC 4443 §3.4).
pub fn emit_parameter_problem(
    to: &mut Vec<u8>,
    problem: Problem,
    packet: &Undelivered<'_>,
    addresses: &Addresses,
    ip: &IpMeta,
) -> bool {
    let Problem { code, pointer, .. } = problem;
    // In IPv4 the pointer is the first byte of the word.
    let (kind, word) = match packet.header.src {
        IpAddr::V4(_) => (kind::v4::PARAMETER_PROBLEM, pointer << 24),
        IpAddr::V6(_) => (kind::v6::PARAMETER_PROBLEM, pointer),
    };
    may_answer(packet, addresses) && {
        emit_about(to, &IcmpMessage { kind, code, word: word.to_be_bytes(), body: &[] }, packet, ip);
        true
    }
}

/// An error about a packet, which it quotes.
fn emit_about(to: &mut Vec<u8>, error: &IcmpMessage<'_>, packet: &Undelivered<'_>, ip: &IpMeta) {
    let Undelivered { header, bytes, .. } = *packet;
    // As much as is certain to arrive: RFC 1812 §4.3.2.3, RFC 4443 §2.4 (c).
    let longest = if header.src.is_ipv4() { 576 } else { 1280 };
    let room = longest - ip_header_len(&header.src) - ICMP_HEADER_LEN;
    let whole = &bytes[..header.payload.end.min(bytes.len())];
    let body = &whole[..whole.len().min(room)];
    let ip = IpMeta { src: header.dst, dst: header.src, ..*ip };
    emit_icmp(to, &ip, &IcmpMessage { body, ..*error });
}

fn may_answer(packet: &Undelivered<'_>, addresses: &Addresses) -> bool {
    let Undelivered { header, bytes, cast } = *packet;
    // About what was for one host only, and the first fragment of a datagram.
    if cast != Cast::Unicast || header.fragment.is_some_and(|fragment| fragment.offset != 0) {
        return false;
    }
    // To a source that is one host only.
    if !addresses.classify(header.src, None).is_one_host() {
        return false;
    }
    // Never about an ICMP error; where the type is cut off it might be one.
    let kind = bytes.get(header.payload.start).copied();
    match header.protocol {
        protocol::ICMP if header.src.is_ipv4() => kind.is_some_and(|kind| !is_error_v4(kind)),
        protocol::ICMPV6 => kind.is_some_and(|kind| kind >= 128 && kind != kind::v6::REDIRECT),
        _ => true,
    }
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
