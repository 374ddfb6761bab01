//! The classification of addresses: own, accepted for others, broadcast, multicast, foreign, or of no
//! host.

use super::cidr::Cidr;
use crate::sync::{Rank, RwLock};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

/// Up to so many addresses are compared one by one, which is faster than a search among few.
const SCANNED: usize = 16;

/// What an address means to a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// An address of the stack, and the number of the interface that has it. All of 127.0.0.0/8 and
    /// ::1 are addresses of the loopback interface, where there is one.
    Own(u16),
    /// An address in a prefix of [`Interface::any_ip`](crate::Interface::any_ip): what arrives for it is
    /// the stack's, and sockets can be bound to it. As a destination of the stack's own packets it is
    /// some other host.
    AnyIp,
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
        matches!(self, Self::Own(_) | Self::AnyIp | Self::Foreign)
    }

    /// Whether sockets can be bound to the address and send from it.
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Own(_) | Self::AnyIp)
    }
}

/// The addresses of a stack: the one answer to the question whether an address is the stack's.
///
/// They seldom change. Until they do, no lock is taken to look at them.
#[derive(Debug)]
pub struct Addresses {
    initial: Tables,
    /// How often they were changed: `current` counts from the first time on.
    changes: AtomicU64,
    current: RwLock<Tables>,
    loopback: Option<u16>,
}

/// The addresses at one time.
#[derive(Clone, Debug, Default)]
struct Tables {
    v4: Known<Ipv4Addr>,
    v6: Known<Ipv6Addr>,
    any_v4: Ranges<u32>,
    any_v6: Ranges<u128>,
    /// The number of the loopback interface.
    loopback: Option<u16>,
}

/// Each address once, with what it means.
#[derive(Clone, Debug)]
struct Known<A> {
    /// Up to [`SCANNED`] entries have the addresses of the stack before the broadcast addresses of its
    /// networks, since most packets are for one of them.
    entries: Vec<(A, AddressKind)>,
    /// Where more entries are found: the place of an entry in `entries` or [`EMPTY`], at the hash of its
    /// address or at the next free slot after that. A power of two, and at least twice as many as entries.
    ///
    /// The hash has no key. Who sends packets chooses what is looked for, but not what is in the table.
    slots: Vec<u32>,
}

/// A slot of no entry.
const EMPTY: u32 = u32::MAX;

/// An address as a key of [`Known`].
trait Hashed: Ord + Copy {
    /// The more significant bits are the better ones.
    fn hash(self) -> u64;
}

/// 2^64 divided by the golden ratio: addresses in sequence come to slots far from one another.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hashed for Ipv4Addr {
    #[inline(always)]
    fn hash(self) -> u64 {
        u64::from(self.to_bits()).wrapping_mul(GOLDEN)
    }
}

impl Hashed for Ipv6Addr {
    #[inline(always)]
    fn hash(self) -> u64 {
        let bits = self.to_bits();
        ((bits >> 64) as u64)
            .wrapping_mul(GOLDEN)
            .rotate_left(32)
            .wrapping_add(bits as u64)
            .wrapping_mul(GOLDEN)
    }
}

impl<A> Default for Known<A> {
    fn default() -> Self {
        Self { entries: Vec::new(), slots: Vec::new() }
    }
}

impl<A: Hashed> Known<A> {
    /// Of what is in `entries` twice, the first counts.
    fn new(entries: Vec<(A, AddressKind)>) -> Self {
        if entries.len() <= SCANNED {
            return Self { entries, slots: Vec::new() };
        }
        let mut known = Self { slots: vec![EMPTY; (2 * entries.len()).next_power_of_two()], entries };
        for (at, &(address, _)) in (0..).zip(&known.entries) {
            let slot = known.slot(address);
            if let Some(slot) = known.slots.get_mut(slot).filter(|slot| **slot == EMPTY) {
                *slot = at;
            }
        }
        known
    }

    #[inline(always)]
    fn get(&self, address: A) -> Option<AddressKind> {
        if !self.slots.is_empty() {
            return self.search(address);
        }
        for &(known, kind) in &self.entries {
            if known == address {
                return Some(kind);
            }
        }
        None
    }

    #[inline(never)]
    fn search(&self, address: A) -> Option<AddressKind> {
        let slot = *self.slots.get(self.slot(address))?;
        self.entries.get(slot as usize).map(|(_, kind)| *kind)
    }

    /// The slot of `address`, or the one where it would be. Half of them are free.
    #[inline(always)]
    #[cfg_attr(
        not(test),
        expect(clippy::indexing_slicing, reason = "shift and mask are those of the number of slots")
    )]
    fn slot(&self, address: A) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (address.hash() >> (self.slots.len().leading_zeros() + 1)) as usize;
        while self.entries.get(self.slots[slot] as usize).is_some_and(|(known, _)| *known != address) {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

/// The prefixes whose addresses count as the stack's, as ranges of addresses.
#[derive(Clone, Debug)]
struct Ranges<A> {
    /// Sorted and disjoint for each interface. Those of no interface are those of all together.
    ranges: Vec<(Option<u16>, A, A)>,
}

impl<A> Default for Ranges<A> {
    fn default() -> Self {
        Self { ranges: Vec::new() }
    }
}

impl<A: Ord + Copy> Ranges<A> {
    /// Adds the prefix from `first` to `last`; [`Ranges::arrange`] has to follow.
    fn push(&mut self, interface: u16, first: A, last: A) {
        self.ranges.extend([(None, first, last), (Some(interface), first, last)]);
    }

    fn arrange(&mut self) {
        self.ranges.sort_by_key(|(of, first, last)| (*of, *first, Reverse(*last)));
        // Two prefixes are disjoint, or one contains the other, which then comes after it.
        self.ranges.dedup_by(|next, before| next.0 == before.0 && next.2 <= before.2);
    }

    #[inline(never)]
    fn contains(&self, interface: Option<u16>, address: A) -> bool {
        let after = self.ranges.partition_point(|(of, first, _)| (*of, *first) <= (interface, address));
        let Some((of, _, last)) = after.checked_sub(1).and_then(|at| self.ranges.get(at).copied()) else {
            return false;
        };
        of == interface && address <= last
    }

    fn has(&self, interface: u16) -> bool {
        self.ranges.iter().any(|(of, ..)| *of == Some(interface))
    }
}

impl Addresses {
    /// The addresses of all interfaces, which are numbered in order, and the number of the one that
    /// is loopback.
    ///
    /// An address that means more than one host or none does not become the stack's own.
    pub fn new(interfaces: impl IntoIterator<Item: AsRef<[Cidr]>>, loopback: Option<u16>) -> Self {
        let mut addresses = Tables { loopback, ..Tables::default() };
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut broadcasts = BTreeSet::from([Ipv4Addr::BROADCAST]);
        for (interface, cidrs) in (0..).zip(interfaces) {
            for cidr in cidrs.as_ref() {
                broadcasts.extend(cidr.broadcast());
                let own = AddressKind::Own(interface);
                match cidr.address() {
                    IpAddr::V4(address) if addresses.general_v4(address).is_one_host() => {
                        v4.push((address, own));
                    }
                    IpAddr::V6(address) if addresses.general_v6(address).is_one_host() => {
                        v6.push((address, own));
                    }
                    _ => {}
                }
            }
        }
        v4.retain(|(address, _)| !broadcasts.contains(address));
        v4.extend(broadcasts.into_iter().map(|address| (address, AddressKind::Broadcast)));
        (addresses.v4, addresses.v6) = (Known::new(v4), Known::new(v6));
        let current = RwLock::new(Rank::Leaf, Tables::default());
        Self { initial: addresses, changes: AtomicU64::new(0), current, loopback }
    }

    /// Puts others in their place.
    pub fn replace(&self, others: Self) {
        let before = std::mem::replace(&mut *self.current.write(), others.initial);
        self.changes.fetch_add(1, Ordering::Release);
        drop(before);
    }

    /// Also accepts, on an interface, all unicast addresses in `prefixes`.
    #[must_use]
    pub fn with_any_ip(mut self, interface: u16, prefixes: &[Cidr]) -> Self {
        for prefix in prefixes {
            match (prefix.network(), prefix.last()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    self.initial.any_v4.push(interface, first.to_bits(), last.to_bits());
                }
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    self.initial.any_v6.push(interface, first.to_bits(), last.to_bits());
                }
                _ => unreachable!("the addresses of a prefix are of one family"),
            }
        }
        self.initial.any_v4.arrange();
        self.initial.any_v6.arrange();
        self
    }

    /// What `address` means on `interface`: to a packet that arrived there, or to a socket that is
    /// limited to it. Without an interface, what it means on any of them.
    ///
    /// This is called twice for every packet, and a call would cost as much as the answer.
    #[inline(always)]
    pub fn classify(&self, address: IpAddr, interface: Option<u16>) -> AddressKind {
        if self.changes() > 0 {
            return self.classify_anew(address, interface);
        }
        self.initial.classify(address, interface)
    }

    #[inline(never)]
    fn classify_anew(&self, address: IpAddr, interface: Option<u16>) -> AddressKind {
        self.current.read().classify(address, interface)
    }

    /// How often the addresses were changed so far: what was said of one counts until this is another number.
    #[inline(always)]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The number of the interface that has `address`, if it is the stack's own.
    pub fn owner(&self, address: IpAddr) -> Option<u16> {
        match self.classify(address, None) {
            AddressKind::Own(interface) => Some(interface),
            _ => None,
        }
    }

    /// Whether `interface` accepts addresses of the family of `address` that are not the stack's own.
    pub fn accepts_any_ip(&self, interface: u16, address: IpAddr) -> bool {
        let has = |tables: &Tables| match address {
            IpAddr::V4(_) => tables.any_v4.has(interface),
            IpAddr::V6(_) => tables.any_v6.has(interface),
        };
        if self.changes() > 0 { has(&self.current.read()) } else { has(&self.initial) }
    }

    /// The number of the loopback interface, if there is one.
    pub const fn loopback(&self) -> Option<u16> {
        self.loopback
    }

    /// Whether a prefix has no address of a host at all.
    pub fn names_no_host(prefix: &Cidr) -> bool {
        let alone = Tables::default();
        let [first, last] = [prefix.network(), prefix.last()].map(|end| alone.classify(end, None));
        first == last && !first.is_one_host()
    }
}

impl Tables {
    #[inline(always)]
    fn classify(&self, address: IpAddr, interface: Option<u16>) -> AddressKind {
        match address {
            IpAddr::V4(address) => {
                let kind = self.v4.get(address).unwrap_or_else(|| self.general_v4(address));
                if kind == AddressKind::Foreign && !self.any_v4.ranges.is_empty() {
                    return accepted(self.any_v4.contains(interface, address.to_bits()));
                }
                kind
            }
            IpAddr::V6(address) => {
                let kind = self.v6.get(address).unwrap_or_else(|| self.general_v6(address));
                if kind == AddressKind::Foreign && !self.any_v6.ranges.is_empty() {
                    return accepted(self.any_v6.contains(interface, address.to_bits()));
                }
                kind
            }
        }
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

const fn accepted(accepted: bool) -> AddressKind {
    if accepted { AddressKind::AnyIp } else { AddressKind::Foreign }
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
            assert_eq!(own.classify(ip(address), None), kind, "{address}");
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
            assert_eq!(own.classify(ip(address), None), NoHost, "{address}");
        }
        // With one, another interface may have an address of that network.
        let own = addresses(&["127.0.0.5/8"], &[], true);
        assert_eq!(own.classify(ip("127.0.0.5"), None), Own(0));
        assert_eq!(own.classify(ip("127.0.0.6"), None), Own(2));
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
            assert_eq!(own.classify(ip(address), None), kind, "{address}");
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
            assert_eq!(own.classify(ip(address), None), kind, "{address}");
        }
    }

    #[test]
    fn any_ip_takes_hosts_and_nothing_else() {
        let all: Vec<Cidr> = ["0.0.0.0/0", "::/0"].map(|text| text.parse().unwrap()).into();
        let own = addresses(&["10.0.0.2/24", "fd00::2/64"], &["192.0.2.2/24"], true).with_any_ip(0, &all);
        for (address, on_0, on_1) in [
            ("8.8.8.8", AnyIp, Foreign),
            ("10.0.0.3", AnyIp, Foreign),
            ("10.0.0.0", AnyIp, Foreign),
            ("240.0.0.1", AnyIp, Foreign),
            ("2001:db8::1", AnyIp, Foreign),
            ("fe80::1", AnyIp, Foreign),
            ("10.0.0.2", Own(0), Own(0)),
            ("192.0.2.2", Own(1), Own(1)),
            ("fd00::2", Own(0), Own(0)),
            ("127.0.0.1", Own(2), Own(2)),
            ("::1", Own(2), Own(2)),
            ("10.0.0.255", Broadcast, Broadcast),
            ("192.0.2.255", Broadcast, Broadcast),
            ("255.255.255.255", Broadcast, Broadcast),
            ("224.0.0.1", Multicast, Multicast),
            ("ff02::1", Multicast, Multicast),
            ("0.0.0.0", NoHost, NoHost),
            ("0.1.2.3", NoHost, NoHost),
            ("::", NoHost, NoHost),
            ("::ffff:8.8.8.8", NoHost, NoHost),
        ] {
            assert_eq!(own.classify(ip(address), Some(0)), on_0, "{address}");
            assert_eq!(own.classify(ip(address), Some(1)), on_1, "{address}");
            assert_eq!(own.classify(ip(address), None), on_0, "{address}");
        }
        assert!(own.accepts_any_ip(0, ip("::1")) && !own.accepts_any_ip(1, ip("::1")));
    }

    #[test]
    fn prefixes_of_any_ip_may_contain_one_another_and_are_each_of_an_interface() {
        let cidrs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Cidr>>();
        let own = addresses(&[], &[], false)
            .with_any_ip(0, &cidrs(&["198.18.5.0/24", "198.18.0.0/15", "203.0.113.7/32", "198.18.5.0/24"]))
            .with_any_ip(1, &cidrs(&["198.19.0.0/16", "2001:db8::/32"]));
        for (address, on_0, on_1, on_any) in [
            ("198.17.255.255", Foreign, Foreign, Foreign),
            ("198.18.0.0", AnyIp, Foreign, AnyIp),
            ("198.18.5.77", AnyIp, Foreign, AnyIp),
            ("198.18.6.0", AnyIp, Foreign, AnyIp),
            ("198.19.255.255", AnyIp, AnyIp, AnyIp),
            ("198.20.0.0", Foreign, Foreign, Foreign),
            ("203.0.113.6", Foreign, Foreign, Foreign),
            ("203.0.113.7", AnyIp, Foreign, AnyIp),
            ("203.0.113.8", Foreign, Foreign, Foreign),
            ("2001:db8:ffff::1", Foreign, AnyIp, AnyIp),
            ("2001:db9::", Foreign, Foreign, Foreign),
        ] {
            let found = [Some(0), Some(1), None].map(|interface| own.classify(ip(address), interface));
            assert_eq!(found, [on_0, on_1, on_any], "{address}");
        }
    }

    #[test]
    fn a_prefix_without_hosts_is_known_as_such() {
        for (prefix, none) in [
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("198.18.0.0/15", false),
            ("240.0.0.0/4", false),
            ("224.0.0.0/4", true),
            ("239.1.2.3/32", true),
            ("127.0.0.0/8", true),
            ("0.0.0.0/8", true),
            ("ff00::/8", true),
            ("::1/128", true),
            ("::ffff:0:0/96", true),
        ] {
            assert_eq!(Addresses::names_no_host(&prefix.parse().unwrap()), none, "{prefix}");
        }
    }

    /// Each of many addresses is found, and what a search does among many it does among few.
    #[test]
    fn many_addresses_mean_the_same_as_few() {
        let of = |count: u32| -> Vec<Cidr> {
            let address = |n| Ipv4Addr::from_bits(0x0a00_0001 + 7 * n);
            let cidr = |n| Cidr::new(address(n).into(), if n % 2 == 0 { 32 } else { 24 }).unwrap();
            (0..count).map(cidr).collect()
        };
        for count in [1, 14, 15, 16, 17, 300] {
            let cidrs = of(count);
            let own = Addresses::new([&cidrs], None);
            let broadcasts: Vec<_> = cidrs.iter().filter_map(Cidr::broadcast).collect();
            for bits in 0x0a00_0000..0x0a00_0000 + 8 * count + 256 {
                let address = Ipv4Addr::from_bits(bits);
                let has = cidrs.iter().any(|cidr| cidr.address() == address);
                let expected = match () {
                    () if broadcasts.contains(&address) => Broadcast,
                    () if has => Own(0),
                    () => Foreign,
                };
                assert_eq!(own.classify(address.into(), None), expected, "{address} of {count}");
            }
        }
    }

    /// However many there are, and in whatever order, few slots are looked at to find one.
    #[test]
    fn a_search_among_many_addresses_is_short() {
        let v4 = |step: u32| (0..60_000).map(move |n| Ipv4Addr::from_bits(0x0a00_0000 + step * n));
        let v6 = |shift: u32| (0..60_000u128).map(move |n| Ipv6Addr::from_bits(0xfd << 120 | n << shift));
        for step in [1, 2, 7, 256, 65_536] {
            assert!(longest(v4(step)) <= 16, "{step}: {}", longest(v4(step)));
        }
        for shift in [0, 8, 16, 48, 64, 80] {
            assert!(longest(v6(shift)) <= 32, "{shift}: {}", longest(v6(shift)));
        }
    }

    /// The longest way from the slot where an address would be to the one where it is.
    fn longest<A: Hashed>(addresses: impl Iterator<Item = A>) -> usize {
        let known = Known::new(addresses.map(|address| (address, Own(0))).collect());
        let slots = known.slots.len();
        let way = |&(address, _): &(A, AddressKind)| {
            let home = (address.hash() >> (slots.leading_zeros() + 1)) as usize;
            assert_eq!(known.get(address), Some(Own(0)));
            (known.slot(address) + slots - home) % slots
        };
        known.entries.iter().map(way).max().unwrap()
    }

    #[test]
    fn addresses_change() {
        let own = addresses(&["10.0.0.2/24"], &[], true);
        own.replace(addresses(&["192.0.2.2/24"], &[], true).with_any_ip(0, &["8.0.0.0/8".parse().unwrap()]));
        for (address, kind) in [
            ("10.0.0.2", Foreign),
            ("10.0.0.255", Foreign),
            ("192.0.2.2", Own(0)),
            ("192.0.2.255", Broadcast),
            ("8.8.8.8", AnyIp),
            ("127.0.0.1", Own(2)),
        ] {
            assert_eq!(own.classify(ip(address), Some(0)), kind, "{address}");
        }
        assert!(own.accepts_any_ip(0, ip("8.8.8.8")));
    }
}
