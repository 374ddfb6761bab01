//! Validation of the addresses of received packets.

use super::addresses::{AddressKind, Addresses};
use crate::reasons::DropReason;
use crate::wire::IpHeader;
use std::net::IpAddr;

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The stack's own loopback.
    Loopback,
    /// The interface of this number, with other hosts behind it.
    Outside(u16),
}

/// The kind of destination of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// To this host alone. Every address of the stack is accepted on every interface (the weak host
    /// model of RFC 1122 §3.3.4.2, as in Linux), and those in the prefixes of
    /// [`Interface::any_ip`](crate::Interface::any_ip) on that interface.
    Unicast,
    /// To a multicast group.
    Multicast,
    /// To all of a network.
    Broadcast,
}

/// Why a packet is rejected. Such packets are dropped silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Martian {
    /// The source cannot be one host: unspecified, multicast or broadcast (RFC 1122 §3.2.1.3,
    /// RFC 4291 §2.5.2 and §2.7).
    Source,
    /// The source is an address of this stack, or the destination itself, but the packet comes from
    /// outside.
    OwnSource,
    /// A loopback address from outside (RFC 1122 §3.2.1.3 (g), RFC 4291 §2.5.3).
    Loopback,
    /// The destination is not a valid one: unspecified or of network 0.
    Destination,
    /// An IPv4-mapped IPv6 address. Linux drops such packets, because they can bypass filters that
    /// check IPv4 addresses only.
    MappedAddress,
    /// The destination is another host, and the stack does not forward.
    NotOurs,
}

impl From<Martian> for DropReason {
    fn from(martian: Martian) -> Self {
        match martian {
            Martian::Source => Self::IpInvalidSource,
            Martian::OwnSource => Self::IpLocalSource,
            Martian::Loopback => Self::IpLocalnet,
            Martian::Destination => Self::IpInvalidDest,
            Martian::MappedAddress => Self::MappedAddress,
            Martian::NotOurs => Self::OtherHost,
        }
    }
}

/// Checks the addresses of a packet against those of the stack.
///
/// # Errors
/// If the packet has to be dropped.
// It runs for every packet, and what else calls it is cold.
#[inline(always)]
pub fn validate(header: &IpHeader, origin: Origin, addresses: &Addresses) -> Result<Cast, Martian> {
    let (src, dst) = (header.src, header.dst);
    // What comes from inside this stack sent, from any of its addresses to any.
    let (outside, interface) = match origin {
        Origin::Outside(interface) => (true, Some(interface)),
        Origin::Loopback => (false, None),
    };
    match addresses.classify(src, interface) {
        // With 0.0.0.0/0 for any-IP, all others are in it.
        AddressKind::Foreign | AddressKind::AnyIp => {}
        AddressKind::Own(_) if !outside => {}
        AddressKind::Own(_) if src.is_loopback() => return Err(Martian::Loopback),
        AddressKind::Own(_) => return Err(Martian::OwnSource),
        AddressKind::Broadcast | AddressKind::Multicast => return Err(Martian::Source),
        AddressKind::NoHost => return Err(no_host(src).unwrap_or(Martian::Source)),
    }
    if outside && dst.is_loopback() {
        return Err(Martian::Loopback);
    }
    match addresses.classify(dst, interface) {
        AddressKind::Own(_) => Ok(Cast::Unicast),
        // The answer would be to ourselves.
        AddressKind::AnyIp if outside && src == dst => Err(Martian::OwnSource),
        AddressKind::AnyIp => Ok(Cast::Unicast),
        AddressKind::Broadcast => Ok(Cast::Broadcast),
        AddressKind::Multicast => Ok(Cast::Multicast),
        AddressKind::NoHost => Err(no_host(dst).unwrap_or(Martian::Destination)),
        AddressKind::Foreign => Err(Martian::NotOurs),
    }
}

/// What is wrong with an address that names no host, if it says more than that.
#[cold]
fn no_host(address: IpAddr) -> Option<Martian> {
    if address.is_loopback() {
        return Some(Martian::Loopback);
    }
    (address.to_canonical() != address).then_some(Martian::MappedAddress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ip::Cidr;

    /// What a stack with a loopback interface, or without, says of a packet.
    fn check(src: &str, dst: &str, origin: Origin, loopback: bool) -> Result<Cast, Martian> {
        validate(&header(src, dst), origin, &addresses(loopback))
    }

    fn header(src: &str, dst: &str) -> IpHeader {
        IpHeader {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            protocol: 6,
            hop_limit: 64,
            traffic_class: 0,
            fragment: None,
            payload: 0..0,
        }
    }

    fn addresses(loopback: bool) -> Addresses {
        let outer: [Cidr; 2] = ["10.0.0.2/24", "fd00::2/64"].map(|cidr| cidr.parse().unwrap());
        let inner: [Cidr; 2] = ["127.0.0.1/8", "::1/128"].map(|cidr| cidr.parse().unwrap());
        match loopback {
            true => Addresses::new([outer, inner], Some(1)),
            false => Addresses::new([outer], None),
        }
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
            ("10.0.0.1", "127.3.4.5", Err(Loopback)),
            ("10.0.0.1", "127.255.255.255", Err(Loopback)),
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
            for loopback in [true, false] {
                let found = check(src, dst, Origin::Outside(0), loopback);
                assert_eq!(found, expected, "{src} to {dst}, loopback: {loopback}");
            }
        }
    }

    #[test]
    fn loopback_may_carry_loopback_and_our_own_addresses() {
        for (src, dst) in [("127.0.0.1", "127.3.4.5"), ("::1", "::1"), ("10.0.0.2", "10.0.0.2")] {
            assert_eq!(check(src, dst, Origin::Loopback, true), Ok(Cast::Unicast));
        }
        assert_eq!(check("0.0.0.0", "127.0.0.1", Origin::Loopback, true), Err(Martian::Source));
    }

    /// What is dropped without any-IP for what it is, and not for whom it is, is dropped with it.
    #[test]
    fn any_ip_adds_hosts_as_destinations_and_takes_no_rule_away() {
        use Martian::*;
        let all: [Cidr; 2] = ["0.0.0.0/0", "::/0"].map(|cidr| cidr.parse().unwrap());
        for (src, dst, on_0, on_2) in [
            ("10.0.0.1", "10.0.0.2", Ok(Cast::Unicast), Ok(Cast::Unicast)),
            ("10.0.0.1", "8.8.8.8", Ok(Cast::Unicast), Err(NotOurs)),
            ("10.0.0.1", "10.0.0.3", Ok(Cast::Unicast), Err(NotOurs)),
            ("fd00::1", "2001:db8::1", Ok(Cast::Unicast), Err(NotOurs)),
            ("8.8.8.8", "8.8.8.8", Err(OwnSource), Err(NotOurs)),
            ("2001:db8::1", "2001:db8::1", Err(OwnSource), Err(NotOurs)),
            ("10.0.0.2", "8.8.8.8", Err(OwnSource), Err(OwnSource)),
            ("fd00::2", "2001:db8::1", Err(OwnSource), Err(OwnSource)),
            ("127.0.0.1", "8.8.8.8", Err(Loopback), Err(Loopback)),
            ("10.0.0.1", "127.0.0.1", Err(Loopback), Err(Loopback)),
            ("::1", "2001:db8::1", Err(Loopback), Err(Loopback)),
            ("224.0.0.1", "8.8.8.8", Err(Source), Err(Source)),
            ("255.255.255.255", "8.8.8.8", Err(Source), Err(Source)),
            ("10.0.0.255", "8.8.8.8", Err(Source), Err(Source)),
            ("0.0.0.0", "8.8.8.8", Err(Source), Err(Source)),
            ("::", "2001:db8::1", Err(Source), Err(Source)),
            ("10.0.0.1", "10.0.0.255", Ok(Cast::Broadcast), Ok(Cast::Broadcast)),
            ("10.0.0.1", "255.255.255.255", Ok(Cast::Broadcast), Ok(Cast::Broadcast)),
            ("10.0.0.1", "224.0.0.1", Ok(Cast::Multicast), Ok(Cast::Multicast)),
            ("fd00::1", "ff02::1", Ok(Cast::Multicast), Ok(Cast::Multicast)),
            ("10.0.0.1", "0.0.0.0", Err(Destination), Err(Destination)),
            ("10.0.0.1", "0.1.2.3", Err(Destination), Err(Destination)),
            ("fd00::1", "::ffff:8.8.8.8", Err(MappedAddress), Err(MappedAddress)),
            ("::ffff:8.8.8.8", "2001:db8::1", Err(MappedAddress), Err(MappedAddress)),
        ] {
            let own = addresses(true).with_any_ip(0, &all);
            for (interface, expected) in [(0, on_0), (2, on_2)] {
                let found = validate(&header(src, dst), Origin::Outside(interface), &own);
                assert_eq!(found, expected, "{src} to {dst} on {interface}");
            }
        }
    }

    #[test]
    fn what_this_stack_sends_to_itself_may_use_any_of_its_addresses() {
        let prefix: Cidr = "198.18.0.0/15".parse().unwrap();
        let own = addresses(true).with_any_ip(0, &[prefix]);
        for (src, dst, expected) in [
            ("198.18.0.1", "10.0.0.2", Ok(Cast::Unicast)),
            ("10.0.0.2", "198.18.0.1", Ok(Cast::Unicast)),
            ("10.0.0.2", "198.17.0.1", Err(Martian::NotOurs)),
        ] {
            assert_eq!(validate(&header(src, dst), Origin::Loopback, &own), expected, "{src} to {dst}");
        }
    }
}
