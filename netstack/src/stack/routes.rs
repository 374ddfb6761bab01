//! The routes of packets, and the selection of source addresses.

use super::ip_route::IpRoute;
use crate::ip::{AddressKind, Addresses, Cidr};
use crate::sync::{Mutex, Rank, RwLock};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) interface: u16,
    /// The address of the stack to use as the source.
    pub(crate) source: IpAddr,
}

/// The interface that a packet leaves through, and the one whose addresses it may come from.
#[derive(Clone, Copy)]
struct Ends {
    egress: u16,
    sender: u16,
}

/// What the table of routes has of an interface.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) any_ip: Vec<Cidr>,
    /// Those besides the networks of its addresses.
    pub(crate) routes: Vec<IpRoute>,
    /// It was taken down: nothing leads through it.
    pub(crate) down: bool,
}

impl Links {
    /// All routes: first to the networks of the addresses.
    pub(crate) fn all_routes(&self) -> impl Iterator<Item = IpRoute> {
        let network = |cidr: &Cidr| IpRoute { source: Some(cidr.address()), ..IpRoute::to(*cidr) };
        self.addresses.iter().map(network).chain(self.routes.iter().copied())
    }
}

/// The routes of one stack.
#[derive(Debug)]
pub(crate) struct Routes {
    table: RwLock<Table>,
    /// Held while somebody changes them.
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Table {
    links: Vec<Links>,
    /// By family, the longest prefixes first.
    v4: Vec<Level>,
    v6: Vec<Level>,
}

/// The routes of one prefix length, by their network.
#[derive(Debug)]
struct Level {
    prefix: u8,
    /// Those of a network are in the order in which they are tried.
    routes: BTreeMap<IpAddr, Vec<Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    interface: u16,
    metric: u32,
    source: Option<IpAddr>,
}

impl Table {
    fn new(links: Vec<Links>) -> Self {
        let mut table = Self { links, ..Self::default() };
        let links = std::mem::take(&mut table.links);
        let up = || (0u16..).zip(&links).filter(|(_, links)| !links.down);
        // Networks come before other routes of the same prefix.
        for (interface, links) in up() {
            links.addresses.iter().for_each(|cidr| table.insert(interface, &IpRoute::to(*cidr)));
        }
        for (interface, links) in up() {
            links.routes.iter().for_each(|route| table.insert(interface, route));
        }
        for level in table.v4.iter_mut().chain(&mut table.v6) {
            level.routes.values_mut().for_each(|entries| entries.sort_by_key(|entry| entry.metric));
        }
        Self { links, ..table }
    }

    fn insert(&mut self, interface: u16, route: &IpRoute) {
        let (network, prefix) = (route.destination.network(), route.destination.prefix());
        let levels = if network.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let at = levels.partition_point(|level| level.prefix > prefix);
        if levels.get(at).is_none_or(|level| level.prefix != prefix) {
            levels.insert(at, Level { prefix, routes: BTreeMap::new() });
        }
        let entry = Entry { interface, metric: route.metric, source: route.source };
        levels[at].routes.entry(network).or_default().push(entry);
    }

    /// The route to another host: of the longest prefix, and among those of the lowest metric.
    fn egress(&self, remote: IpAddr, interface: Option<u16>) -> Option<Entry> {
        let levels = if remote.is_ipv4() { &self.v4 } else { &self.v6 };
        levels.iter().find_map(|level| {
            let network = Cidr::new(remote, level.prefix).ok()?.network();
            let allowed = |entry: &&Entry| interface.is_none_or(|bound| bound == entry.interface);
            level.routes.get(&network)?.iter().find(allowed).copied()
        })
    }

    /// The interface to which `remote` is the broadcast address of a network.
    fn of_network(&self, remote: IpAddr) -> Option<u16> {
        let broadcast = |cidr: &Cidr| cidr.broadcast().is_some_and(|all| IpAddr::V4(all) == remote);
        let mut links = (0u16..).zip(&self.links);
        links.find(|(_, links)| links.addresses.iter().any(broadcast)).map(|(index, _)| index)
    }

    /// The interface for what is for no network in particular: the one with the default route, else the
    /// first that has an address of the family and is not loopback, else loopback.
    fn default_for(&self, loopback: Option<u16>, v4: bool) -> Option<u16> {
        let levels = if v4 { &self.v4 } else { &self.v6 };
        let by_default = levels.last().filter(|level| level.prefix == 0).and_then(|level| {
            let entries = level.routes.values().next()?;
            Some(entries.first()?.interface)
        });
        let has_address = |links: &Links| links.addresses.iter().any(|cidr| cidr.address().is_ipv4() == v4);
        let usable = || (0u16..).zip(&self.links).filter(|(_, links)| !links.down && has_address(links));
        let outer = || usable().find(|(index, _)| Some(*index) != loopback).map(|(index, _)| index);
        by_default.or_else(outer).or_else(|| usable().next().map(|(index, _)| index))
    }

    /// The route from `source`, or else from the best address of an interface.
    fn finish(
        &self,
        loopback: Option<u16>,
        remote: IpAddr,
        source: Option<IpAddr>,
        ends: Ends,
    ) -> Option<Route> {
        let source = match source {
            Some(source) => source,
            None => self.source(ends.sender, remote)?,
        };
        // RFC 1122 §3.2.1.3 (g), RFC 4291 §2.5.3: loopback addresses do not leave the host.
        if source.is_loopback() && Some(ends.egress) != loopback {
            return None;
        }
        Some(Route { interface: ends.egress, source })
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

impl Routes {
    /// The routes of all interfaces, in order.
    pub(crate) fn new(links: Vec<Links>) -> Self {
        let changing = Mutex::new(Rank::Socket, ());
        Self { table: RwLock::new(Rank::Leaf, Table::new(links)), changing }
    }

    /// What all interfaces have, in order.
    pub(crate) fn links(&self) -> Vec<Links> {
        self.table.read().links.clone()
    }

    /// Changes what the interfaces have, one change at a time.
    ///
    /// # Errors
    /// Those of `change`, and nothing has changed then.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Vec<Links>) -> io::Result<R>) -> io::Result<R> {
        let _one_at_a_time = self.changing.lock();
        let mut links = self.links();
        let result = change(&mut links)?;
        let after = Table::new(links);
        let before = std::mem::replace(&mut *self.table.write(), after);
        drop(before);
        Ok(result)
    }

    /// Whether an interface has an address for which `is` holds.
    pub(crate) fn any_address(&self, interface: u16, is: impl Fn(&Cidr) -> bool) -> bool {
        self.table.read().links[usize::from(interface)].addresses.iter().any(is)
    }

    /// The first IPv4 address of an interface.
    pub(crate) fn first_v4(&self, interface: u16) -> Option<Ipv4Addr> {
        let table = self.table.read();
        let mut addresses = table.links[usize::from(interface)].addresses.iter();
        addresses.find_map(|cidr| match cidr.address() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
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
        let kind = addresses.classify(remote, interface);
        let table = self.table.read();
        let mut hint = None;
        let (egress, sender) = match kind {
            // To an own address from the same one; Linux answers 127.0.0.1 for all of 127.0.0.0/8.
            AddressKind::Own(owner) => {
                let inside = |loopback: &u16| allowed(owner) || allowed(*loopback);
                (loopback.filter(inside)?, owner)
            }
            // Any-IP is about what arrives: to such an address a packet leaves as to any other.
            AddressKind::Foreign | AddressKind::AnyIp => {
                let entry = table.egress(remote, interface)?;
                hint = entry.source;
                (entry.interface, entry.interface)
            }
            AddressKind::Broadcast | AddressKind::Multicast | AddressKind::NoHost => return None,
        };
        table.finish(loopback, remote, source.or(hint), Ends { egress, sender })
    }

    /// As [`Routes::lookup`], to groups and broadcast addresses as well.
    ///
    /// What is for a group or for all hosts of a link leaves through the interface of `source`, or the one
    /// with the default route, or else through the first one.
    pub(crate) fn lookup_any(
        &self,
        addresses: &Addresses,
        remote: IpAddr,
        source: Option<IpAddr>,
        interface: Option<u16>,
    ) -> Option<Route> {
        let kind = addresses.classify(remote, interface);
        if !matches!(kind, AddressKind::Multicast | AddressKind::Broadcast) {
            return self.lookup(addresses, remote, source, interface);
        }
        let by_source = source.and_then(|source| addresses.owner(source));
        let loopback = addresses.loopback();
        let table = self.table.read();
        let of_network = if kind == AddressKind::Broadcast { table.of_network(remote) } else { None };
        let egress = match (interface, of_network) {
            (Some(bound), Some(index)) => Some(bound).filter(|bound| *bound == index)?,
            (Some(bound), None) => bound,
            (None, Some(index)) => index,
            (None, None) => by_source.or_else(|| table.default_for(loopback, remote.is_ipv4()))?,
        };
        if table.links.get(usize::from(egress))?.down {
            return None;
        }
        table.finish(loopback, remote, source, Ends { egress, sender: egress })
    }
}

/// Whether an address is link-local, loopback or neither, as a number.
fn scope(address: IpAddr) -> u8 {
    match address {
        IpAddr::V6(Ipv6Addr::LOCALHOST) => 0,
        IpAddr::V6(address) if address.is_unicast_link_local() => 1,
        // RFC 6724 §3.1: a group of this scope is reached from such an address.
        IpAddr::V6(address) if address.segments()[0] & 0xff0f == 0xff02 => 1,
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
        let routes = ["0.0.0.0/0", "::/0"].iter().map(|text| IpRoute::to(text.parse().unwrap()));
        Links { addresses, routes: routes.filter(|_| default).collect(), ..Links::default() }
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
    fn groups_and_broadcasts_choose_an_interface() {
        let (addresses, routes) = three_interfaces();
        for (remote, source, device, expected) in [
            ("239.1.2.3", None, None, Some((1, "192.0.2.2"))),
            ("239.1.2.3", Some("10.0.0.2"), None, Some((0, "10.0.0.2"))),
            ("239.1.2.3", None, Some(0), Some((0, "10.0.0.2"))),
            ("239.1.2.3", None, Some(2), Some((2, "127.0.0.1"))),
            ("239.1.2.3", Some("127.0.0.1"), Some(0), None),
            ("255.255.255.255", None, None, Some((1, "192.0.2.2"))),
            ("255.255.255.255", None, Some(0), Some((0, "10.0.0.2"))),
            ("10.0.0.255", None, None, Some((0, "10.0.0.2"))),
            ("192.0.2.255", None, None, Some((1, "192.0.2.2"))),
            ("192.0.2.255", None, Some(0), None),
            ("127.255.255.255", None, None, Some((2, "127.0.0.1"))),
            ("ff02::1", None, Some(0), Some((0, "fe80::2"))),
            ("ff05::1", None, Some(0), Some((0, "fd00:1::2"))),
            ("ff05::1", None, None, Some((1, "2001:db8::2"))),
            ("8.8.8.8", None, None, Some((1, "10.0.0.130"))),
            ("0.0.0.0", None, None, None),
        ] {
            let route = routes.lookup_any(&addresses, ip(remote), source.map(ip), device);
            let expected = expected.map(|(interface, source)| Route { interface, source: ip(source) });
            assert_eq!(route, expected, "{remote} from {source:?} by {device:?}");
        }
        let (addresses, alone) = stack(vec![links(&["127.0.0.1/8", "::1/128"], false)], Some(0));
        let route = alone.lookup_any(&addresses, ip("239.1.2.3"), None, None);
        assert_eq!(route, Some(Route { interface: 0, source: ip("127.0.0.1") }), "there is no other");
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

    #[test]
    fn the_longest_prefix_wins_and_then_the_lowest_metric() {
        let (_, routes) = three_interfaces();
        let route = |text: &str, metric| IpRoute { metric, ..IpRoute::to(text.parse().unwrap()) };
        let mut links = routes.links();
        links[0].routes = vec![
            route("198.51.100.0/24", 20),
            route("0.0.0.0/0", 10),
            IpRoute { source: Some(ip("10.0.0.2")), ..route("203.0.113.0/24", 0) },
        ];
        links[1].routes =
            vec![route("198.51.100.0/24", 10), route("198.51.100.128/25", 50), route("0.0.0.0/0", 5)];
        links[2].routes = vec![route("198.18.0.0/15", 0)];
        let (addresses, routes) = stack(links, Some(2));
        let way = |remote: &str, device| {
            let found = routes.lookup(&addresses, ip(remote), None, device)?;
            Some((found.interface, found.source))
        };
        for (remote, device, expected) in [
            ("198.51.100.1", None, Some((1, "192.0.2.2"))),
            ("198.51.100.1", Some(0), Some((0, "10.0.0.2"))),
            ("198.51.100.200", None, Some((1, "192.0.2.2"))),
            ("198.51.100.200", Some(0), Some((0, "10.0.0.2"))),
            ("8.8.8.8", None, Some((1, "10.0.0.130"))),
            ("8.8.8.8", Some(0), Some((0, "10.0.0.2"))),
            ("203.0.113.9", None, Some((0, "10.0.0.2"))),
            // As `ip route add local` does: to oneself.
            ("198.18.0.1", None, Some((2, "127.0.0.1"))),
            ("2600::1", None, None),
        ] {
            let expected = expected.map(|(interface, source)| (interface, ip(source)));
            assert_eq!(way(remote, device), expected, "{remote} by {device:?}");
        }
        let down = routes.change(|links| {
            links[1].down = true;
            Ok(())
        });
        down.unwrap();
        assert_eq!(way("192.0.2.9", None), Some((0, ip("10.0.0.2"))), "by the other default route");
        assert_eq!(way("198.51.100.200", Some(1)), None);
    }
}
