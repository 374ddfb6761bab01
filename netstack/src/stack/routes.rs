//! The routes of packets, and the selection of source addresses.

use crate::ip::{AddressKind, Addresses, Cidr};
use std::net::{IpAddr, Ipv6Addr};

/// The way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) interface: u16,
    /// The address of the stack to use as the source.
    pub(crate) source: IpAddr,
}

/// What an interface adds to the table of routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) default_v4: bool,
    pub(crate) default_v6: bool,
}

/// The routes of one stack. They do not change while it runs.
#[derive(Debug)]
pub(crate) struct Routes {
    links: Vec<Links>,
}

impl Routes {
    /// The routes of all interfaces, in order.
    pub(crate) fn new(links: Vec<Links>) -> Self {
        Self { links }
    }

    /// The addresses of an interface.
    pub(crate) fn addresses(&self, interface: u16) -> &[Cidr] {
        &self.links[usize::from(interface)].addresses
    }

    /// The numbers of all interfaces.
    pub(crate) fn interfaces(&self) -> std::ops::Range<u16> {
        0..self.links.len() as u16
    }

    /// The way to `remote`, from `source` if the socket is bound to an address, through `interface`
    /// if it is bound to a device. None if there is none (`ENETUNREACH`).
    pub(crate) fn lookup(
        &self,
        addresses: &Addresses,
        remote: IpAddr,
        source: Option<IpAddr>,
        interface: Option<u16>,
    ) -> Option<Route> {
        let allowed = |index: u16| interface.is_none_or(|bound| bound == index);
        let loopback = addresses.loopback();
        let (egress, sender) = match addresses.classify(remote, interface) {
            // To an own address from the same one; Linux answers 127.0.0.1 for all of 127.0.0.0/8.
            AddressKind::Own(owner) => {
                let inside = |loopback: &u16| allowed(owner) || allowed(*loopback);
                (loopback.filter(inside)?, owner)
            }
            // Any-IP is about what arrives: to such an address a packet leaves as to any other.
            AddressKind::Foreign | AddressKind::AnyIp => {
                let egress = self.egress(remote, interface)?;
                (egress, egress)
            }
            AddressKind::Broadcast | AddressKind::Multicast | AddressKind::NoHost => return None,
        };
        let source = match source {
            Some(source) => source,
            None => self.source(sender, remote)?,
        };
        // RFC 1122 §3.2.1.3 (g), RFC 4291 §2.5.3: loopback addresses do not leave the host.
        if source.is_loopback() && Some(egress) != loopback {
            return None;
        }
        Some(Route { interface: egress, source })
    }

    /// The interface that leads to another host.
    fn egress(&self, remote: IpAddr, interface: Option<u16>) -> Option<u16> {
        let allowed = |index: u16| interface.is_none_or(|bound| bound == index);
        let links = || (0u16..).zip(&self.links).filter(|(index, _)| allowed(*index));
        let on_link = links()
            .flat_map(|(index, links)| links.addresses.iter().map(move |cidr| (index, cidr)))
            .filter(|(_, cidr)| cidr.contains(remote))
            // The first of the longest: max_by_key would take the last.
            .min_by_key(|(_, cidr)| u8::MAX - cidr.prefix());
        let is_default = |links: &Links| if remote.is_ipv4() { links.default_v4 } else { links.default_v6 };
        on_link
            .map(|(index, _)| index)
            .or_else(|| links().find(|(_, links)| is_default(links)).map(|(index, _)| index))
    }

    /// The address of an interface to send from: `remote` itself if the interface has it, one in its
    /// network if there is, else the one with the longest common prefix (RFC 6724 §5, rules 1, 2 and
    /// 8), else the first.
    fn source(&self, interface: u16, remote: IpAddr) -> Option<IpAddr> {
        let addresses = &self.links[usize::from(interface)].addresses;
        let candidates = addresses.iter().filter(|cidr| cidr.address().is_ipv4() == remote.is_ipv4());
        candidates
            .min_by_key(|cidr| {
                let scope_differs = scope(cidr.address()) != scope(remote);
                (scope_differs, !cidr.contains(remote), 128 - common_prefix(cidr.address(), remote))
            })
            .map(|cidr| cidr.address())
    }
}

/// Whether an address is link-local, loopback or neither, as a number.
fn scope(address: IpAddr) -> u8 {
    match address {
        IpAddr::V6(Ipv6Addr::LOCALHOST) => 0,
        IpAddr::V6(address) if address.is_unicast_link_local() => 1,
        _ => 2,
    }
}

fn common_prefix(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn links(addresses: &[&str], default: bool) -> Links {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Links { addresses, default_v4: default, default_v6: default }
    }

    /// The addresses and routes of interfaces, the last of which may be loopback.
    fn stack(table: Vec<Links>, loopback: Option<u16>) -> (Addresses, Routes) {
        let addresses = Addresses::new(table.iter().map(|links| &links.addresses), loopback);
        (addresses, Routes::new(table))
    }

    /// Two networks, the second with the default routes, and loopback.
    fn three_interfaces() -> (Addresses, Routes) {
        let table = vec![
            links(&["10.0.0.2/24", "fd00:1::2/64", "fe80::2/64"], false),
            links(&["10.0.0.130/25", "192.0.2.2/24", "2001:db8::2/64"], true),
            links(&["127.0.0.1/8", "::1/128"], false),
        ];
        stack(table, Some(2))
    }

    #[test]
    fn destinations_choose_interface_and_source() {
        let (addresses, routes) = three_interfaces();
        for (remote, interface, source) in [
            ("10.0.0.1", 0, "10.0.0.2"),
            ("10.0.0.129", 1, "10.0.0.130"),
            ("192.0.2.9", 1, "192.0.2.2"),
            ("8.8.8.8", 1, "10.0.0.130"),
            ("198.51.100.1", 1, "192.0.2.2"),
            ("fd00:1::9", 0, "fd00:1::2"),
            ("fe80::9", 0, "fe80::2"),
            ("2600::1", 1, "2001:db8::2"),
            ("240.0.0.1", 1, "192.0.2.2"),
            ("127.3.4.5", 2, "127.0.0.1"),
            ("127.0.0.1", 2, "127.0.0.1"),
            ("::1", 2, "::1"),
            ("10.0.0.2", 2, "10.0.0.2"),
            ("2001:db8::2", 2, "2001:db8::2"),
        ] {
            let route = Route { interface, source: ip(source) };
            assert_eq!(routes.lookup(&addresses, ip(remote), None, None), Some(route), "{remote}");
        }
    }

    #[test]
    fn some_destinations_have_no_route() {
        let (addresses, routes) = three_interfaces();
        for remote in
            ["224.0.0.1", "255.255.255.255", "10.0.0.255", "127.255.255.255", "ff02::1", "0.1.2.3", "::"]
        {
            assert_eq!(routes.lookup(&addresses, ip(remote), None, None), None, "{remote}");
        }
        assert_eq!(routes.lookup(&addresses, ip("8.8.8.8"), None, Some(0)), None, "no default route there");
        assert_eq!(
            routes.lookup(&addresses, ip("10.0.0.9"), Some(ip("127.0.0.1")), None),
            None,
            "loopback stays inside"
        );
        let (addresses, alone) = stack(vec![links(&["10.0.0.2/24"], true)], None);
        for remote in ["10.0.0.2", "127.0.0.1", "::1"] {
            assert_eq!(alone.lookup(&addresses, ip(remote), None, None), None, "{remote}: no loopback");
        }
    }

    #[test]
    fn own_addresses_are_reached_inside_by_sockets_of_either_device() {
        let (addresses, routes) = three_interfaces();
        for (remote, device, reached) in [
            ("10.0.0.2", 0, true),
            ("10.0.0.2", 1, false),
            ("10.0.0.2", 2, true),
            ("127.3.4.5", 0, false),
            ("127.3.4.5", 2, true),
        ] {
            let route = routes.lookup(&addresses, ip(remote), None, Some(device));
            assert_eq!(route.map(|route| route.interface), reached.then_some(2), "{remote} by {device}");
        }
    }
}
