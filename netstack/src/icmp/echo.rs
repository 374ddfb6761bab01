//! Echo: "ping".

use super::kind;
use crate::wire::{IcmpMessage, IpHeader, IpMeta, emit_icmp, parse_icmp};
use std::net::IpAddr;

/// An echo request. The reply goes from `dst` to `src`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoRequest<'a> {
    /// The sender of the request.
    pub src: IpAddr,
    /// The host that the request is for.
    pub dst: IpAddr,
    /// The code, which says nothing and is returned, as Linux does.
    pub code: u8,
    /// Identifier and sequence number as received.
    pub id: [u8; 4],
    /// Data to be returned.
    pub data: &'a [u8],
}

/// Reads `packet` as an echo request, if it is one and its checksum is correct. Requests to
/// broadcast and multicast addresses are for the caller to ignore, as Linux does.
pub fn parse_echo_request<'a>(header: &IpHeader, packet: &'a [u8]) -> Option<EchoRequest<'a>> {
    let message = parse_icmp(header, packet)?;
    let expected = if header.src.is_ipv4() { kind::v4::ECHO_REQUEST } else { kind::v6::ECHO_REQUEST };
    if message.kind != expected {
        return None;
    }
    Some(EchoRequest {
        src: header.src,
        dst: header.dst,
        code: message.code,
        id: message.word,
        data: message.body,
    })
}

/// Whether a message is the reply to an echo request.
pub fn is_echo_reply(header: &IpHeader, message: &IcmpMessage<'_>) -> bool {
    let expected = if header.src.is_ipv4() { kind::v4::ECHO_REPLY } else { kind::v6::ECHO_REPLY };
    message.kind == expected
}

/// Whether a message of this type is an echo request.
pub const fn is_echo_request(ipv6: bool, kind: u8) -> bool {
    kind == if ipv6 { kind::v6::ECHO_REQUEST } else { kind::v4::ECHO_REQUEST }
}

/// Replaces the contents of `to` with the reply to an echo request. `ip` gives hop limit, traffic
/// class and identification; the addresses are those of the request, exchanged (RFC 1122 §3.2.2.6,
/// RFC 4443 §4.2).
pub fn emit_echo_reply(to: &mut Vec<u8>, request: &EchoRequest<'_>, ip: &IpMeta) {
    let kind = if request.src.is_ipv4() { kind::v4::ECHO_REPLY } else { kind::v6::ECHO_REPLY };
    let ip = IpMeta { src: request.dst, dst: request.src, ..*ip };
    emit_icmp(to, &ip, &IcmpMessage { kind, code: request.code, word: request.id, body: request.data });
}
