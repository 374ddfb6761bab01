//! From a packet to its IP header, past the extension headers.

use super::extensions::{Problem, walk_extensions};
use super::ip::{IpError, IpHeader, parse_fixed_ipv6, parse_ipv4};

/// Reads the IP header of `packet` and finds the payload.
///
/// # Errors
/// If the packet has to be dropped as malformed.
pub fn parse_ip(packet: &[u8]) -> Result<IpHeader, IpError> {
    match packet.first().ok_or(IpError::Truncated)? >> 4 {
        4 => parse_ipv4(packet),
        6 => {
            let mut header = parse_fixed_ipv6(packet)?;
            walk_extensions(packet, &mut header).map_err(|refusal| refusal.error)?;
            Ok(header)
        }
        _ => Err(IpError::Version),
    }
}

/// Finds why the extension headers of an IPv6 packet cannot be processed, if its sender is to be told. Gives
/// the packet's header too, as far as an answer needs it.
pub fn extension_problem(packet: &[u8]) -> Option<(IpHeader, Problem)> {
    if packet.first()? >> 4 != 6 {
        return None;
    }
    let mut header = parse_fixed_ipv6(packet).ok()?;
    let refusal = walk_extensions(packet, &mut header).err()?;
    Some((header, refusal.problem?))
}
