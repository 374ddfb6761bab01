//! What in the options of a header keeps a packet from being delivered.

use crate::wire::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader};
use std::net::{IpAddr, Ipv6Addr};

/// A field for which a packet is not delivered, and which its sender is told of by an ICMP error "parameter
/// problem".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The code of the error.
    pub code: u8,
    /// The offset of the field in the packet.
    pub pointer: u32,
    /// Whether the sender is told even if the packet was for a multicast group (RFC 4443 §2.4 (e.3)).
    pub even_to_groups: bool,
}

/// What the options of an IPv4 packet say that has some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionsV4 {
    /// Nothing that a host has to do anything about.
    Harmless,
    /// The packet has a source route. Linux drops those by default, and says nothing (RFC 7126 §4.3).
    SourceRoute,
    /// They are broken.
    Broken(Problem),
}

mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NO_OPERATION: u8 = 1;
    pub(super) const RECORD_ROUTE: u8 = 7;
    pub(super) const TIMESTAMP: u8 = 68;
    pub(super) const LOOSE_SOURCE_ROUTE: u8 = 131;
    pub(super) const STRICT_SOURCE_ROUTE: u8 = 137;
    pub(super) const ROUTER_ALERT: u8 = 148;
}

/// Looks at the options of an IPv4 packet as Linux does (`__ip_options_compile`). `options` is what follows
/// the fixed header, up to the payload.
pub fn check_options_v4(options: &[u8]) -> OptionsV4 {
    let mut seen = Vec::new();
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        match kind {
            kind::END => break,
            kind::NO_OPERATION => {
                at += 1;
                continue;
            }
            _ => {}
        }
        let rest = &options[at..];
        let length = rest.get(1).map_or(0, |&length| usize::from(length));
        let fault = match rest.get(..length).filter(|option| option.len() >= 2) {
            None => Some(0),
            Some(option) => fault_in(option, seen.contains(&class(kind))),
        };
        if let Some(offset) = fault {
            let pointer = (IPV4_HEADER_LEN + at + offset) as u32;
            return OptionsV4::Broken(Problem { code: 0, pointer, even_to_groups: false });
        }
        seen.push(class(kind));
        at += length;
    }
    if seen.contains(&kind::LOOSE_SOURCE_ROUTE) { OptionsV4::SourceRoute } else { OptionsV4::Harmless }
}

/// The kind that may be there once: there are two of source routes.
fn class(kind: u8) -> u8 {
    if kind == kind::STRICT_SOURCE_ROUTE { kind::LOOSE_SOURCE_ROUTE } else { kind }
}

/// The offset of what is wrong in one option, whose length is that which it says.
fn fault_in(option: &[u8], again: bool) -> Option<usize> {
    let length = option.len();
    let (least, first) = match class(option[0]) {
        kind::LOOSE_SOURCE_ROUTE | kind::RECORD_ROUTE => (3, 4),
        kind::TIMESTAMP => (4, 5),
        kind::ROUTER_ALERT => return (length < 4).then_some(1),
        _ => return None,
    };
    // For source routes Linux looks at what is said before it looks how often it is said.
    let is_route = class(option[0]) == kind::LOOSE_SOURCE_ROUTE;
    if again && !is_route {
        return Some(0);
    }
    if length < least {
        return Some(1);
    }
    let next = usize::from(option[2]);
    if next < first {
        return Some(2);
    }
    if is_route {
        return again.then_some(0);
    }
    // Where there is room for another entry there is room for all of it; a timestamp may have an address.
    let with_address = option[0] == kind::TIMESTAMP && matches!(option[3] & 15, 1 | 3);
    let entry = if with_address { 7 } else { 3 };
    if next <= length {
        return (next + entry > length).then_some(2);
    }
    // A count of overflows that is full.
    let full = option[0] == kind::TIMESTAMP && option[3] & 15 != 3 && option[3] >> 4 == 15;
    full.then_some(3)
}

/// Finds why the extension headers of an IPv6 packet cannot be processed, if its sender is to be told: an
/// option whose type says so (RFC 8200 §4.2), or a routing header with segments left (§4.4). Gives the
/// packet's header too, as far as an answer needs it.
pub fn extension_problem(packet: &[u8]) -> Option<(IpHeader, Problem)> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let fixed = packet.first_chunk::<IPV6_HEADER_LEN>().filter(|fixed| fixed[0] >> 4 == 6)?;
    let total = IPV6_HEADER_LEN + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let packet = packet.get(..total)?;
    let address = |at: usize| {
        let bytes: [u8; 16] = fixed[at..at + 16].try_into().expect("sixteen bytes");
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    let (mut next, mut at) = (fixed[6], IPV6_HEADER_LEN);
    let problem = loop {
        let header = &packet[at..];
        let length = (usize::from(*header.get(1)?) + 1) * 8;
        let header = header.get(..length)?;
        match next {
            HOP_BY_HOP | DESTINATION => {
                if let Some((offset, kind)) = refused_option(&header[2..]) {
                    // 01 means to say nothing, 11 to say nothing about what was for a group.
                    let even_to_groups = kind >> 6 == 2;
                    let pointer = (at + 2 + offset) as u32;
                    break (kind >> 6 != 1).then_some(Problem { code: 2, pointer, even_to_groups })?;
                }
            }
            ROUTING if header[3] != 0 => {
                break Problem { code: 0, pointer: (at + 2) as u32, even_to_groups: false };
            }
            ROUTING => {}
            _ => return None,
        }
        next = header[0];
        at += length;
    };
    let header = IpHeader {
        src: address(8),
        dst: address(24),
        protocol: next,
        hop_limit: fixed[7],
        traffic_class: 0,
        fragment: None,
        payload: at..total,
    };
    Some((header, problem))
}

/// The first option that a host that does not know it must not skip: where and of what type.
fn refused_option(options: &[u8]) -> Option<(usize, u8)> {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        if kind >> 6 != 0 {
            return Some((at, kind));
        }
        at += if kind == 0 { 1 } else { 2 + usize::from(*options.get(at + 1)?) };
    }
    None
}
