//! Received ICMP errors.
//!
//! The transport decides whether to accept one (RFC 5927), because it knows its connections and
//! which sequence numbers are in flight.

use super::kind;
use crate::wire::{IcmpMessage, IpHeader, Quoted, parse_icmp, parse_quoted};
use std::net::IpAddr;

/// An ICMP error about a packet that this host is said to have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// The reporter: a router or the destination.
    pub from: IpAddr,
    /// What is reported.
    pub kind: IcmpErrorKind,
    /// The packet it is about.
    pub quoted: Quoted,
}

/// What an ICMP error reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpErrorKind {
    /// The destination cannot be reached. The code is that of the quoted packet's family.
    DestinationUnreachable {
        /// RFC 792, RFC 1122 §3.2.2.1 or RFC 4443 §3.1.
        code: u8,
    },
    /// An IPv4 router would have had to fragment the packet.
    FragmentationNeeded {
        /// MTU of the next hop, not checked against any minimum; 0 from routers older than RFC 1191.
        mtu: u16,
    },
    /// A packet is longer than the MTU of some link on an IPv6 path.
    PacketTooBig {
        /// MTU of that link, not checked against any minimum.
        mtu: u32,
    },
    /// The hop limit reached zero on the way, or fragments were missing.
    TimeExceeded {
        /// 0 for hop limit, 1 for fragment reassembly.
        code: u8,
    },
    /// The reporter does not accept a field of the header.
    ParameterProblem {
        /// RFC 792, RFC 1122 §3.2.2.5 or RFC 4443 §3.4.
        code: u8,
        /// Offset of the field in the quoted packet.
        pointer: u32,
    },
}

impl IcmpErrorKind {
    /// The error number that a datagram socket reports for it, if it is final: if it says that the next
    /// datagram will not arrive either (`icmp_err_convert` in Linux, and `tab_unreach` for IPv6). An error
    /// that may pass, and one that only asks for smaller packets, has none.
    pub const fn final_errno(self, ipv6: bool) -> Option<i32> {
        match self {
            Self::DestinationUnreachable { code } if ipv6 => match code {
                1 | 5 | 6 => Some(libc::EACCES),
                4 => Some(libc::ECONNREFUSED),
                0 | 2 | 3 => None,
                _ => Some(libc::EPROTO),
            },
            Self::DestinationUnreachable { code } => match code {
                2 => Some(libc::ENOPROTOOPT),
                3 => Some(libc::ECONNREFUSED),
                6 | 9 => Some(libc::ENETUNREACH),
                7 => Some(crate::error::EHOSTDOWN),
                8 => Some(crate::error::ENONET),
                10 | 13 | 14 | 15 => Some(libc::EHOSTUNREACH),
                _ => None,
            },
            Self::ParameterProblem { .. } => Some(libc::EPROTO),
            Self::TimeExceeded { .. } | Self::FragmentationNeeded { .. } | Self::PacketTooBig { .. } => None,
        }
    }
}

/// Reads `packet` as an ICMP error, if it is one, its checksum is correct and it quotes enough of
/// the packet. Source quench (RFC 6633) and redirects are ignored.
pub fn parse_error(header: &IpHeader, packet: &[u8]) -> Option<IcmpError> {
    let message = parse_icmp(header, packet)?;
    let kind = if header.src.is_ipv4() { kind_v4(&message)? } else { kind_v6(&message)? };
    let quoted = parse_quoted(message.body)?;
    // An error has the address family of the packet that it is about.
    if quoted.src.is_ipv4() != header.src.is_ipv4() {
        return None;
    }
    Some(IcmpError { from: header.src, kind, quoted })
}

fn kind_v4(message: &IcmpMessage<'_>) -> Option<IcmpErrorKind> {
    /// RFC 1191 §4.
    const FRAGMENTATION_NEEDED: u8 = 4;
    let IcmpMessage { kind, code, word: [pointer, _, high, low], body: _ } = *message;
    Some(match kind {
        kind::v4::UNREACHABLE if code == FRAGMENTATION_NEEDED => {
            IcmpErrorKind::FragmentationNeeded { mtu: u16::from_be_bytes([high, low]) }
        }
        kind::v4::UNREACHABLE => IcmpErrorKind::DestinationUnreachable { code },
        kind::v4::TIME_EXCEEDED => IcmpErrorKind::TimeExceeded { code },
        kind::v4::PARAMETER_PROBLEM => IcmpErrorKind::ParameterProblem { code, pointer: pointer.into() },
        _ => return None,
    })
}

fn kind_v6(message: &IcmpMessage<'_>) -> Option<IcmpErrorKind> {
    let IcmpMessage { kind, code, word, body: _ } = *message;
    let value = u32::from_be_bytes(word);
    Some(match kind {
        kind::v6::UNREACHABLE => IcmpErrorKind::DestinationUnreachable { code },
        kind::v6::PACKET_TOO_BIG => IcmpErrorKind::PacketTooBig { mtu: value },
        kind::v6::TIME_EXCEEDED => IcmpErrorKind::TimeExceeded { code },
        kind::v6::PARAMETER_PROBLEM => IcmpErrorKind::ParameterProblem { code, pointer: value },
        _ => return None,
    })
}
