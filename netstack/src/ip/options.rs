//! What in the options of an IPv4 header keeps a packet from being delivered.

use crate::wire::{IPV4_HEADER_LEN, Problem};

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
    pub(super) const CIPSO: u8 = 134;
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
        let rest = options.get(at..).unwrap_or_default();
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
    let (length, byte) = (option.len(), |at: usize| option.get(at).copied().unwrap_or(0));
    let kind = byte(0);
    let (least, first) = match class(kind) {
        kind::LOOSE_SOURCE_ROUTE | kind::RECORD_ROUTE => (3, 4),
        kind::TIMESTAMP => (4, 5),
        kind::ROUTER_ALERT => return (length < 4).then_some(1),
        // Long enough for a label or not, none is of a domain that we know (cipso_v4_validate).
        kind::CIPSO => return Some(if length < 8 { 1 } else { 2 }),
        _ => return None,
    };
    // For source routes Linux looks at what is said before it looks how often it is said.
    let is_route = class(kind) == kind::LOOSE_SOURCE_ROUTE;
    if again && !is_route {
        return Some(0);
    }
    if length < least {
        return Some(1);
    }
    let next = usize::from(byte(2));
    if next < first {
        return Some(2);
    }
    if is_route {
        return again.then_some(0);
    }
    // Where there is room for another entry there is room for all of it; a timestamp may have an address.
    let with_address = kind == kind::TIMESTAMP && matches!(byte(3) & 15, 1 | 3);
    let entry = if with_address { 7 } else { 3 };
    if next <= length {
        return (next + entry > length).then_some(2);
    }
    // A count of overflows that is full.
    let full = kind == kind::TIMESTAMP && byte(3) & 15 != 3 && byte(3) >> 4 == 15;
    full.then_some(3)
}
