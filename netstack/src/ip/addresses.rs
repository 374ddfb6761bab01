//! The classification of addresses: own, broadcast, multicast, foreign, or of no host.

use super::cidr::Cidr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address means to a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// An address of the stack, and the number of the interface that has it. All of 127.0.0.0/8 and
    /// ::1 are addresses of the loopback interface, where there is one.
    Own(u16),
    /// All hosts of a network of the stack, or 255.255.255.255.
    Broadcast,
    /// A multicast group.
    Multicast,
    /// No host: 0.0.0.0/8, which means "this network" (RFC 1122 §3.2.1.3), the unspecified address
    /// of IPv6, an IPv4 address mapped into IPv6, which must not appear in a packet, and a loopback
    /// address if the stack has no loopback interface.
    NoHost,
    /// Some other host. 240.0.0.0/4 (class E) are hosts, as in Linux.
    Foreign,
}

impl AddressKind {
    /// Whether it is the address of one host, this or another: it may be the source of a packet and
    /// the destination of a connection.
    pub const fn is_one_host(self) -> bool {
        matches!(self, Self::Own(_) | Self::Foreign)
    }
}

/// The addresses of a stack: the one answer to the question whether an address is the stack's.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Each address once. Those of the stack come before the broadcast addresses of its networks,
    /// since most packets are for one of them.
    v4: Vec<(Ipv4Addr, AddressKind)>,
    v6: Vec<(Ipv6Addr, AddressKind)>,
    /// The number of the loopback interface.
    loopback: Option<u16>,
}

impl Addresses {
    /// The addresses of all interfaces, which are numbered in order, and the number of the one that
    /// is loopback.
    ///
    /// An address that means more than one host or none does not become the stack's own.
    pub fn new(interfaces: impl IntoIterator<Item: AsRef<[Cidr]>>, loopback: Option<u16>) -> Self {
        let mut addresses = Self { loopback, ..Self::default() };
        let mut broadcasts = vec![Ipv4Addr::BROADCAST];
        for (interface, cidrs) in (0..).zip(interfaces) {
            for cidr in cidrs.as_ref() {
                broadcasts.extend(cidr.broadcast());
                let own = AddressKind::Own(interface);
                match cidr.address() {
                    IpAddr::V4(address) if addresses.general_v4(address).is_one_host() => {
                        addresses.v4.push((address, own));
                    }
                    IpAddr::V6(address) if addresses.general_v6(address).is_one_host() => {
                        addresses.v6.push((address, own));
                    }
                    _ => {}
                }
            }
        }
        addresses.v4.retain(|(address, _)| !broadcasts.contains(address));
        addresses.v4.extend(broadcasts.into_iter().map(|address| (address, AddressKind::Broadcast)));
        addresses
    }

    /// What `address` means. This is called twice for every packet, and a call would cost as much as the
    /// answer.
    #[inline(always)]
    pub fn classify(&self, address: IpAddr) -> AddressKind {
        match address {
            IpAddr::V4(address) => {
                for &(known, kind) in &self.v4 {
                    if known == address {
                        return kind;
                    }
                }
                self.general_v4(address)
            }
            IpAddr::V6(address) => {
                for &(known, kind) in &self.v6 {
                    if known == address {
                        return kind;
                    }
                }
                self.general_v6(address)
            }
        }
    }

    /// The number of the interface that has `address`, if it is the stack's own.
    pub fn owner(&self, address: IpAddr) -> Option<u16> {
        match self.classify(address) {
            AddressKind::Own(interface) => Some(interface),
            _ => None,
        }
    }

    /// The number of the loopback interface, if there is one.
    pub const fn loopback(&self) -> Option<u16> {
        self.loopback
    }

    /// What an IPv4 address means that no interface has.
    #[inline]
    fn general_v4(&self, address: Ipv4Addr) -> AddressKind {
        match address.octets()[0] {
            0 => AddressKind::NoHost,
            127 => self.loopback_kind(),
            224..=239 => AddressKind::Multicast,
            _ => AddressKind::Foreign,
        }
    }

    /// What an IPv6 address means that no interface has.
    #[inline]
    fn general_v6(&self, address: Ipv6Addr) -> AddressKind {
        if address.is_multicast() {
            AddressKind::Multicast
        } else if address.is_loopback() {
            self.loopback_kind()
        } else if address.is_unspecified() || address.to_ipv4_mapped().is_some() {
            AddressKind::NoHost
        } else {
            AddressKind::Foreign
        }
    }

    const fn loopback_kind(&self) -> AddressKind {
        match self.loopback {
            Some(interface) => AddressKind::Own(interface),
            None => AddressKind::NoHost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AddressKind::*;
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A stack with these addresses on interface 0, others on interface 1 and, if asked for, loopback.
    fn addresses(first: &[&str], second: &[&str], loopback: bool) -> Addresses {
        let lo: &[&str] = if loopback { &["127.0.0.1/8", "::1/128"] } else { &[] };
        let cidrs = [first, second, lo].map(|texts| {
            let cidrs = texts.iter().map(|text| text.parse().unwrap());
            cidrs.collect::<Vec<Cidr>>()
        });
        Addresses::new(cidrs, loopback.then_some(2))
    }

    #[test]
    fn every_address_means_one_thing() {
        let own = addresses(&["10.0.0.2/24", "fd00::2/64"], &["192.0.2.2/31", "198.51.100.2/25"], true);
        for (address, kind) in [
            ("10.0.0.2", Own(0)),
            ("192.0.2.2", Own(1)),
            ("198.51.100.2", Own(1)),
            ("127.0.0.1", Own(2)),
            ("127.3.4.5", Own(2)),
            ("10.0.0.255", Broadcast),
            ("198.51.100.127", Broadcast),
            ("127.255.255.255", Broadcast),
            ("255.255.255.255", Broadcast),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("0.0.0.0", NoHost),
            ("0.255.1.2", NoHost),
            ("10.0.0.0", Foreign),
            ("10.0.0.3", Foreign),
            ("192.0.2.3", Foreign),
            ("198.51.100.255", Foreign),
            ("223.255.255.255", Foreign),
            ("240.0.0.1", Foreign),
            ("255.255.255.254", Foreign),
            ("fd00::2", Own(0)),
            ("::1", Own(2)),
            ("ff02::1", Multicast),
            ("::", NoHost),
            ("::ffff:10.0.0.2", NoHost),
            ("::ffff:8.8.8.8", NoHost),
            ("fd00::3", Foreign),
            ("fe80::1", Foreign),
            ("::2", Foreign),
        ] {
            assert_eq!(own.classify(ip(address)), kind, "{address}");
            let owner = if let Own(interface) = kind { Some(interface) } else { None };
            assert_eq!(own.owner(ip(address)), owner, "{address}");
            assert_eq!(kind.is_one_host(), owner.is_some() || kind == Foreign, "{address}");
        }
    }

    #[test]
    fn loopback_addresses_name_nobody_without_a_loopback_interface() {
        let own = addresses(&["10.0.0.2/24", "127.0.0.5/8"], &["::1/128"], false);
        assert_eq!(own.loopback(), None);
        for address in ["127.0.0.1", "127.0.0.5", "::1"] {
            assert_eq!(own.classify(ip(address)), NoHost, "{address}");
        }
        // With one, another interface may have an address of that network.
        let own = addresses(&["127.0.0.5/8"], &[], true);
        assert_eq!(own.classify(ip("127.0.0.5")), Own(0));
        assert_eq!(own.classify(ip("127.0.0.6")), Own(2));
    }

    #[test]
    fn an_own_address_that_is_a_broadcast_address_means_all() {
        let own = addresses(&["10.0.0.255/8", "10.0.0.2/24"], &["192.0.2.255/24"], true);
        for (address, kind) in [
            ("10.0.0.255", Broadcast),
            ("10.0.0.2", Own(0)),
            ("10.255.255.255", Broadcast),
            ("10.0.0.3", Foreign),
            ("192.0.2.255", Broadcast),
        ] {
            assert_eq!(own.classify(ip(address)), kind, "{address}");
        }
    }

    #[test]
    fn what_is_no_host_does_not_become_an_own_address() {
        let own = addresses(&["224.0.0.1/24", "0.0.0.1/8"], &["ff02::1/64", "::ffff:1.2.3.4/128"], true);
        for (address, kind) in [
            ("224.0.0.1", Multicast),
            ("0.0.0.1", NoHost),
            ("ff02::1", Multicast),
            ("::ffff:1.2.3.4", NoHost),
        ] {
            assert_eq!(own.classify(ip(address)), kind, "{address}");
        }
    }
}
