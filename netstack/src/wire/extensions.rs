//! IPv6 extension headers (RFC 8200 §4), looked at as Linux looks at them (net/ipv6/exthdrs.c).

use super::ip::{Fragment, IpError, IpHeader};
use std::ops::Range;

/// Extension headers that a packet may have. RFC 8200 §4.1 lets a sender repeat destination options
/// only, so at most six are useful; more are an attack on the parser.
const MAX_EXTENSIONS: usize = 8;

/// Options that one header may have beside padding (`max_hbh_opts_number`, `max_dst_opts_number`).
const MAX_OPTIONS: usize = 8;

/// Bytes of padding that may follow one another: more would align nothing (RFC 4942 §2.1.9.5).
const MAX_PADDING: usize = 7;

/// Offset of the first next-header field.
const NEXT_HEADER_AT: usize = 6;

/// Next-header values of extension headers.
pub(super) mod extension {
    pub(in crate::wire) const HOP_BY_HOP: u8 = 0;
    pub(in crate::wire) const ROUTING: u8 = 43;
    pub(in crate::wire) const FRAGMENT: u8 = 44;
    pub(in crate::wire) const DESTINATION: u8 = 60;
}

/// Types of options.
mod option {
    pub(super) const PAD_1: u8 = 0;
    pub(super) const PAD_N: u8 = 1;
    pub(super) const ROUTER_ALERT: u8 = 5;
    pub(super) const CALIPSO: u8 = 7;
    pub(super) const IOAM: u8 = 0x31;
    pub(super) const JUMBO: u8 = 0xc2;
}

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

impl Problem {
    fn new(code: u8, at: usize) -> Self {
        Self { code, pointer: at as u32, even_to_groups: false }
    }
}

/// Why a packet is dropped for its extension headers, and what its sender is told, if it is told anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: IpError,
    pub(super) problem: Option<Problem>,
}

impl Refusal {
    const SILENT: Self = Self { error: IpError::ExtensionHeader, problem: None };

    fn told(problem: Problem) -> Self {
        Self { error: IpError::ExtensionHeader, problem: Some(problem) }
    }
}

/// Moves `header` past the extension headers, or to the fragment's data.
pub(super) fn walk_extensions(packet: &[u8], header: &mut IpHeader) -> Result<(), Refusal> {
    let mut next_at = NEXT_HEADER_AT;
    for count in 0..=MAX_EXTENSIONS {
        let start = header.payload.start;
        let at = packet.get(header.payload.clone()).ok_or(Refusal::SILENT)?;
        let length = match header.protocol {
            // RFC 8200 §4.1: hop-by-hop options come first or not at all. Elsewhere nobody knows them.
            extension::HOP_BY_HOP if count > 0 => return Err(Refusal::told(Problem::new(1, next_at))),
            extension::HOP_BY_HOP | extension::DESTINATION => {
                let length = extension_len(at)?;
                check_options(
                    header.protocol,
                    packet,
                    start.saturating_add(2)..start.saturating_add(length),
                )?;
                length
            }
            extension::ROUTING => {
                let length = extension_len(at)?;
                check_routing(at, start, header)?;
                length
            }
            extension::FRAGMENT => {
                let fixed: &[u8; 8] = at.first_chunk().ok_or(Refusal::SILENT)?;
                let field = u16::from_be_bytes([fixed[2], fixed[3]]);
                let (offset, more) = (field & !7, field & 1 == 1);
                if more || offset != 0 {
                    let id = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
                    header.fragment = Some(Fragment { id, offset, more });
                }
                8
            }
            _ => return Ok(()),
        };
        header.protocol = *at.first().ok_or(Refusal::SILENT)?;
        next_at = start;
        header.payload.start = start.saturating_add(length);
        if header.fragment.is_some() {
            return Ok(());
        }
    }
    Err(Refusal::SILENT)
}

/// The length of the extension header at the front of `at`, all of which is there.
fn extension_len(at: &[u8]) -> Result<usize, Refusal> {
    let units = *at.get(1).ok_or(Refusal::SILENT)?;
    let length = usize::from(units).saturating_add(1).saturating_mul(8);
    if length > at.len() { Err(Refusal::SILENT) } else { Ok(length) }
}

/// Looks at the routing header in `at`, which is at `start` of the packet. RFC 8200 §4.4: it is ignored if
/// no segments are left, and we forward nothing.
fn check_routing(at: &[u8], start: usize, header: &IpHeader) -> Result<(), Refusal> {
    const RPL: u8 = 3;
    const SEGMENT_ROUTING: u8 = 4;
    let &[_, _, kind, segments_left] = at.first_chunk().ok_or(Refusal::SILENT)?;
    let silent = Refusal { error: IpError::SourceRoute, problem: None };
    // Linux takes the two at interfaces alone that were told to (`rpl_seg_enabled`, `seg6_enabled`), and at
    // others says nothing, however many segments are left.
    if header.dst.is_multicast() || matches!(kind, RPL | SEGMENT_ROUTING) {
        return Err(silent);
    }
    if segments_left != 0 {
        return Err(Refusal { problem: Some(Problem::new(0, start.saturating_add(2))), ..silent });
    }
    Ok(())
}

/// Walks hop-by-hop or destination options. None that we know needs anything from a host.
fn check_options(header: u8, packet: &[u8], options: Range<usize>) -> Result<(), Refusal> {
    let (mut at, end) = (options.start, options.end);
    let (mut padding, mut count) = (0, 0_usize);
    while at < end {
        let rest = packet.get(at..end).ok_or(Refusal::SILENT)?;
        let (kind, length) = match *rest {
            [option::PAD_1, ..] => (option::PAD_1, 1),
            [kind, length, ..] => (kind, usize::from(length).saturating_add(2)),
            _ => return Err(Refusal::SILENT),
        };
        let option = rest.get(..length).ok_or(Refusal::SILENT)?;
        if matches!(kind, option::PAD_1 | option::PAD_N) {
            padding = length.saturating_add(padding);
            if padding > MAX_PADDING || option.iter().skip(2).any(|&byte| byte != 0) {
                return Err(Refusal::SILENT);
            }
        } else {
            padding = 0;
            count = count.saturating_add(1);
            if count > MAX_OPTIONS {
                return Err(Refusal::SILENT);
            }
            if header == extension::HOP_BY_HOP {
                check_hop_by_hop(option, at, packet)?;
            } else {
                check_unknown(kind, at)?;
            }
        }
        at = at.saturating_add(length);
    }
    Ok(())
}

/// Looks at a hop-by-hop option that is at `at` of the packet.
fn check_hop_by_hop(option: &[u8], at: usize, packet: &[u8]) -> Result<(), Refusal> {
    let sound = |sound: bool| if sound { Ok(()) } else { Err(Refusal::SILENT) };
    let &[kind, _, ref value @ ..] = option else { return Err(Refusal::SILENT) };
    match (kind, value) {
        (option::ROUTER_ALERT, value) => sound(value.len() == 2),
        // RFC 5570: no label is of a domain that we know.
        (option::CALIPSO, _) => Err(Refusal::SILENT),
        // RFC 9486: ignored, if it is where it may be.
        (option::IOAM, _) => sound(at.is_multiple_of(4)),
        // RFC 2675 §3.
        (option::JUMBO, &[a, b, c, d]) if at % 4 == 2 => {
            let field = if u32::from_be_bytes([a, b, c, d]) <= u32::from(u16::MAX) {
                at.saturating_add(2)
            } else if packet.get(4..NEXT_HEADER_AT).is_some_and(|length| length != [0, 0]) {
                at
            } else {
                // There are no jumbograms here.
                return Err(Refusal::SILENT);
            };
            Err(Refusal::told(Problem::new(0, field)))
        }
        (option::JUMBO, _) => Err(Refusal::SILENT),
        (kind, _) => check_unknown(kind, at),
    }
}

/// RFC 8200 §4.2: the two highest bits of an option's type say what is to be done by those who do not know
/// it.
fn check_unknown(kind: u8, at: usize) -> Result<(), Refusal> {
    match kind >> 6 {
        0 => Ok(()),
        1 => Err(Refusal::SILENT),
        bits => Err(Refusal::told(Problem { even_to_groups: bits == 2, ..Problem::new(2, at) })),
    }
}
