//! Which packets may come in at all.

use super::cidr::Cidr;
use crate::wire::IpHeader;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The stack's own loopback.
    Loopback,
    /// A device with somebody else behind it.
    Outside,
}

/// To how many a packet is addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// To us alone: any own address will do, whatever the interface (the weak host model of RFC 1122
    /// §3.3.4.2, as in Linux).
    Unicast,
    /// To a multicast group.
    Multicast,
    /// To all of a network.
    Broadcast,
}

/// Why a packet may not come in. All of them are dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Martian {
    /// The source cannot be one host: unspecified, multicast or broadcast (RFC 1122 §3.2.1.3,
    /// RFC 4291 §2.5.2 and §2.7).
    Source,
    /// The source is one of our own addresses, yet the packet comes from outside.
    OwnSource,
    /// A loopback address from outside (RFC 1122 §3.2.1.3 (g), RFC 4291 §2.5.3).
    Loopback,
    /// The destination is no address to send to: unspecified or of network 0.
    Destination,
    /// An IPv4 address dressed up as one of IPv6. Linux drops them, since they may pass filters
    /// that look at IPv4 addresses only.
    MappedAddress,
    /// The destination is somebody else: we forward nothing.
    NotOurs,
}

/// The addresses of a stack, sorted by what is asked about them for every packet.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses {
    /// Each address once, those of ours first: most packets are for one of them.
    v4: Vec<(Ipv4Addr, Cast)>,
    v6: Vec<Ipv6Addr>,
}

impl OwnAddresses {
    /// What an IPv4 address means that is our own or a broadcast address in a network of ours.
    fn cast(&self, address: Ipv4Addr) -> Option<Cast> {
        self.v4.iter().find(|(own, _)| *own == address).map(|(_, cast)| *cast)
    }
}

impl FromIterator<Cidr> for OwnAddresses {
    fn from_iter<I: IntoIterator<Item = Cidr>>(cidrs: I) -> Self {
        let (mut own, mut broadcasts) = (Self::default(), vec![Ipv4Addr::BROADCAST]);
        for cidr in cidrs {
            broadcasts.extend(cidr.broadcast());
            match cidr.address() {
                IpAddr::V4(address) => own.v4.push((address, Cast::Unicast)),
                IpAddr::V6(address) => own.v6.push(address),
            }
        }
        // What is an address of ours and means all of a network means all.
        own.v4.retain(|(address, _)| !broadcasts.contains(address));
        own.v4.extend(broadcasts.into_iter().map(|address| (address, Cast::Broadcast)));
        own
    }
}

/// Checks the addresses of a packet against those of the stack.
///
/// # Errors
/// If the packet has to be dropped.
#[inline]
pub fn validate(header: &IpHeader, origin: Origin, own: &OwnAddresses) -> Result<Cast, Martian> {
    match (header.src, header.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => validate_v4(src, dst, origin, own),
        (IpAddr::V6(src), IpAddr::V6(dst)) => validate_v6(src, dst, origin, own),
        // The parser gives both of one family.
        _ => Err(Martian::Source),
    }
}

fn validate_v4(src: Ipv4Addr, dst: Ipv4Addr, origin: Origin, own: &OwnAddresses) -> Result<Cast, Martian> {
    let source = own.cast(src);
    if in_network_zero(src) || src.is_multicast() || source == Some(Cast::Broadcast) {
        return Err(Martian::Source);
    }
    if in_network_zero(dst) {
        return Err(Martian::Destination);
    }
    if origin == Origin::Outside {
        if src.is_loopback() || dst.is_loopback() {
            return Err(Martian::Loopback);
        }
        if source.is_some() {
            return Err(Martian::OwnSource);
        }
    }
    match own.cast(dst) {
        Some(cast) => Ok(cast),
        None if dst.is_multicast() => Ok(Cast::Multicast),
        // All of 127.0.0.0/8 is our own.
        None if dst.is_loopback() => Ok(Cast::Unicast),
        None => Err(Martian::NotOurs),
    }
}

fn validate_v6(src: Ipv6Addr, dst: Ipv6Addr, origin: Origin, own: &OwnAddresses) -> Result<Cast, Martian> {
    if src.to_ipv4_mapped().is_some() || dst.to_ipv4_mapped().is_some() {
        return Err(Martian::MappedAddress);
    }
    if src.is_multicast() || src.is_unspecified() {
        return Err(Martian::Source);
    }
    if dst.is_unspecified() {
        return Err(Martian::Destination);
    }
    if origin == Origin::Outside {
        if src.is_loopback() || dst.is_loopback() {
            return Err(Martian::Loopback);
        }
        if own.v6.contains(&src) {
            return Err(Martian::OwnSource);
        }
    }
    if dst.is_multicast() {
        Ok(Cast::Multicast)
    } else if own.v6.contains(&dst) || dst.is_loopback() {
        Ok(Cast::Unicast)
    } else {
        Err(Martian::NotOurs)
    }
}

/// RFC 1122 §3.2.1.3 (a) and (b): "this host", used before a host knows its address.
const fn in_network_zero(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(src: &str, dst: &str, origin: Origin) -> Result<Cast, Martian> {
        let header = IpHeader {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            protocol: 6,
            hop_limit: 64,
            traffic_class: 0,
            fragment: None,
            payload: 0..0,
        };
        let own = ["10.0.0.2/24", "fd00::2/64"].map(|cidr| cidr.parse().unwrap()).into_iter().collect();
        validate(&header, origin, &own)
    }

    #[test]
    fn addresses_from_outside() {
        use Martian::*;
        let cases = [
            ("10.0.0.1", "10.0.0.2", Ok(Cast::Unicast)),
            ("240.0.0.1", "10.0.0.2", Ok(Cast::Unicast)),
            ("10.0.0.1", "10.0.0.255", Ok(Cast::Broadcast)),
            ("10.0.0.1", "255.255.255.255", Ok(Cast::Broadcast)),
            ("10.0.0.1", "224.0.0.1", Ok(Cast::Multicast)),
            ("fd00::1", "fd00::2", Ok(Cast::Unicast)),
            ("fd00::1", "ff02::1", Ok(Cast::Multicast)),
            ("0.0.0.0", "10.0.0.2", Err(Source)),
            ("0.1.2.3", "10.0.0.2", Err(Source)),
            ("224.0.0.1", "10.0.0.2", Err(Source)),
            ("255.255.255.255", "10.0.0.2", Err(Source)),
            ("10.0.0.255", "10.0.0.2", Err(Source)),
            ("::", "fd00::2", Err(Source)),
            ("ff02::1", "fd00::2", Err(Source)),
            ("10.0.0.1", "0.0.0.0", Err(Destination)),
            ("fd00::1", "::", Err(Destination)),
            ("127.0.0.1", "10.0.0.2", Err(Loopback)),
            ("10.0.0.1", "127.0.0.1", Err(Loopback)),
            ("::1", "fd00::2", Err(Loopback)),
            ("fd00::1", "::1", Err(Loopback)),
            ("10.0.0.2", "10.0.0.2", Err(OwnSource)),
            ("fd00::2", "fd00::2", Err(OwnSource)),
            ("::ffff:10.0.0.1", "fd00::2", Err(MappedAddress)),
            ("fd00::1", "::ffff:10.0.0.2", Err(MappedAddress)),
            ("10.0.0.1", "10.0.0.3", Err(NotOurs)),
            ("10.0.0.1", "240.0.0.1", Err(NotOurs)),
            ("fd00::1", "fd00::3", Err(NotOurs)),
        ];
        for (src, dst, expected) in cases {
            assert_eq!(check(src, dst, Origin::Outside), expected, "{src} to {dst}");
        }
    }

    #[test]
    fn an_own_address_that_is_a_broadcast_address_means_all() {
        let own: OwnAddresses =
            ["10.0.0.255/8", "10.0.0.2/24"].map(|cidr| cidr.parse().unwrap()).into_iter().collect();
        let cast = |address: &str| own.cast(address.parse().unwrap());
        assert_eq!(cast("10.0.0.255"), Some(Cast::Broadcast));
        assert_eq!(cast("10.0.0.2"), Some(Cast::Unicast));
        assert_eq!(cast("10.255.255.255"), Some(Cast::Broadcast));
        assert_eq!(cast("10.0.0.3"), None);
    }

    #[test]
    fn loopback_may_carry_loopback_and_our_own_addresses() {
        for (src, dst) in [("127.0.0.1", "127.3.4.5"), ("::1", "::1"), ("10.0.0.2", "10.0.0.2")] {
            assert_eq!(check(src, dst, Origin::Loopback), Ok(Cast::Unicast));
        }
        assert_eq!(check("0.0.0.0", "127.0.0.1", Origin::Loopback), Err(Martian::Source));
    }
}
