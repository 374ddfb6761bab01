//! The sockets of one port, and which of them a packet is for.
//!
//! Most ports have one socket, some a few. But with `SO_REUSEPORT`, or with an address for each, a port can have
//! thousands, and a packet is not compared with them all: those that are bound to the same are a group, of which a number
//! is one step away, and where there are many groups those that a packet can be for are looked up.

use super::flow::{push_exact, retain_exact};
use super::keyed::Keyed;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Groups up to which looking at each is fastest.
const FEW: usize = 8;

/// What a socket is bound to, beside its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bound {
    /// The address, or the unspecified one of its family.
    pub(super) address: IpAddr,
    /// Who it is connected to.
    pub(super) peer: Option<(IpAddr, u16)>,
    /// `SO_BINDTODEVICE`.
    pub(super) interface: Option<u16>,
}

/// A socket of a port.
pub(super) trait Member {
    fn bound(&self) -> Bound;
    /// For `::`: IPv4 as well.
    fn dual_stack(&self) -> bool;
    /// Packets are spread over those that share their place by `SO_REUSEPORT`.
    fn reuse_port(&self) -> bool;
}

/// A packet, as far as it decides who gets it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) local: IpAddr,
    /// Who sent it.
    pub(super) remote: (IpAddr, u16),
    pub(super) interface: u16,
}

/// How closely a place fits; the highest gets the packet (`compute_score` in Linux). An address counts most, then the
/// peer, then the interface.
type Score = (u8, bool, bool);

impl Bound {
    fn score(&self, wanted: &Wanted) -> Option<Score> {
        let address = if self.address == wanted.local {
            2
        } else if !self.address.is_unspecified() {
            return None;
        } else if self.address.is_ipv4() == wanted.local.is_ipv4() {
            1
        } else if self.is_mapped(wanted) {
            0
        } else {
            return None;
        };
        let fits = self.interface.is_none_or(|bound| bound == wanted.interface)
            && self.peer.is_none_or(|peer| peer == wanted.remote);
        fits.then_some((address, self.peer.is_some(), self.interface.is_some()))
    }

    /// Whether the packet would be one of IPv4 for a socket of IPv6.
    fn is_mapped(&self, wanted: &Wanted) -> bool {
        self.address.is_ipv6() && wanted.local.is_ipv4()
    }
}

impl Wanted {
    /// The places that fit, the closest first.
    fn places(&self) -> impl Iterator<Item = Bound> {
        let Self { local, remote, interface } = *self;
        let any = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        // IPv6 has no way to a socket of IPv4.
        let addresses = if local.is_ipv4() { [local, any[0], any[1]] } else { [local, any[1], any[1]] };
        addresses.into_iter().flat_map(move |address| {
            [Some(remote), None].into_iter().flat_map(move |peer| {
                [Some(interface), None].into_iter().map(move |interface| Bound { address, peer, interface })
            })
        })
    }
}

/// The sockets of one place, in the order in which they came.
#[derive(Clone, Debug)]
struct Group<T> {
    place: Bound,
    members: Box<[T]>,
    /// How many of them take IPv4 as well, and how many share by `SO_REUSEPORT`: as a rule all or none.
    dual_stack: usize,
    reuse_port: usize,
}

impl<T: Member> Group<T> {
    fn new(member: T) -> Self {
        let mut group = Self { place: member.bound(), members: Box::default(), dual_stack: 0, reuse_port: 0 };
        group.push(member);
        group
    }

    fn push(&mut self, member: T) {
        self.dual_stack += usize::from(member.dual_stack());
        self.reuse_port += usize::from(member.reuse_port());
        push_exact(&mut self.members, member);
    }

    /// Gives how many are left.
    fn remove(&mut self, is: impl Fn(&T) -> bool) -> usize {
        let (dual_stack, reuse_port) = (&mut self.dual_stack, &mut self.reuse_port);
        retain_exact(&mut self.members, |member| {
            let goes = is(member);
            *dual_stack -= usize::from(goes && member.dual_stack());
            *reuse_port -= usize::from(goes && member.reuse_port());
            !goes
        })
    }

    /// The member for a packet: the last one, or if that shares by `SO_REUSEPORT` one of those, by the hash of the
    /// flow. Groups whose members differ are looked through; they are made by an application that wants them.
    fn choose(&self, wanted: &Wanted, hash: impl FnOnce() -> u64) -> Option<&T> {
        let mapped = self.place.is_mapped(wanted);
        let all = self.members.len();
        let uniform = (!mapped || self.dual_stack == all) && self.reuse_port == all;
        if uniform {
            let chosen = if all == 1 { 0 } else { (hash() % all.max(1) as u64) as usize };
            return self.members.get(chosen);
        }
        let takers = || self.members.iter().filter(|member| !mapped || member.dual_stack());
        let last = takers().next_back()?;
        if !last.reuse_port() {
            return Some(last);
        }
        let sharers = || takers().filter(|member| member.reuse_port());
        sharers().nth((hash() % sharers().count().max(1) as u64) as usize)
    }
}

/// The sockets of one port. None is there until the first is entered.
#[derive(Clone, Debug)]
pub(super) struct Crowd<T>(Option<Members<T>>);

#[derive(Clone, Debug)]
enum Members<T> {
    /// As most ports have: in as little memory as it takes.
    One(Box<T>),
    More(Box<Groups<T>>),
}

#[derive(Clone, Debug)]
enum Groups<T> {
    Few(Box<[Group<T>]>),
    Many(Table<T>),
}

/// Many groups, by what their sockets are bound to.
#[derive(Clone, Debug)]
struct Table<T>(HashMap<Bound, Group<T>, Keyed>);

impl<T> Default for Crowd<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Member> Crowd<T> {
    /// Enters a socket. `keyed` is for the table of those that become many.
    pub(super) fn push(&mut self, member: T, keyed: &Keyed) {
        self.0 = Some(match self.0.take() {
            None => Members::One(Box::new(member)),
            Some(Members::One(first)) => {
                let mut groups = Groups::Few(Box::new([Group::new(*first)]));
                groups.push(member, keyed);
                Members::More(Box::new(groups))
            }
            Some(Members::More(mut groups)) => {
                groups.push(member, keyed);
                Members::More(groups)
            }
        });
    }

    /// Removes the socket that is bound to `place` and that `is` knows. Says whether none is left.
    pub(super) fn remove(&mut self, place: &Bound, is: impl Fn(&T) -> bool) -> bool {
        let is_empty = match &mut self.0 {
            None => true,
            Some(Members::One(member)) => member.bound() == *place && is(member),
            Some(Members::More(groups)) => groups.remove(place, is),
        };
        if is_empty {
            self.0 = None;
        }
        is_empty
    }

    /// The only socket, if there is one only.
    #[inline]
    pub(super) fn only(&self) -> Option<&T> {
        match &self.0 {
            Some(Members::One(member)) => Some(member),
            Some(Members::More(groups)) => groups.only(),
            None => None,
        }
    }

    /// The socket for a packet: the one that fits most closely. Among equals, the hash of the flow decides if
    /// they share their port by `SO_REUSEPORT`; otherwise it is the one that was bound last, as in Linux.
    pub(super) fn find(&self, wanted: &Wanted, hash: impl FnOnce() -> u64) -> Option<&T> {
        match self.0.as_ref()? {
            Members::One(member) => {
                let place = member.bound();
                let takes = !place.is_mapped(wanted) || member.dual_stack();
                (takes && place.score(wanted).is_some()).then_some(member)
            }
            Members::More(groups) => groups.find(wanted, hash),
        }
    }

    /// All sockets.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, more) = match &self.0 {
            Some(Members::One(member)) => (Some(&**member), None),
            Some(Members::More(groups)) => (None, Some(groups)),
            None => (None, None),
        };
        one.into_iter().chain(more.into_iter().flat_map(|groups| groups.iter()))
    }
}

impl<T: Member> Groups<T> {
    fn push(&mut self, member: T, keyed: &Keyed) {
        let place = member.bound();
        match self {
            Self::Few(groups) => match groups.iter().position(|group| group.place == place) {
                Some(at) => groups[at].push(member),
                None if groups.len() < FEW => push_exact(groups, Group::new(member)),
                None => {
                    let mut many = HashMap::with_hasher(keyed.clone());
                    many.extend(std::mem::take(groups).into_iter().map(|group| (group.place, group)));
                    many.insert(place, Group::new(member));
                    *self = Self::Many(Table(many));
                }
            },
            Self::Many(table) => match table.0.get_mut(&place) {
                Some(group) => group.push(member),
                None => drop(table.0.insert(place, Group::new(member))),
            },
        }
    }

    fn remove(&mut self, place: &Bound, is: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Few(groups) => {
                let Some(group) = groups.iter_mut().find(|group| group.place == *place) else {
                    return groups.is_empty();
                };
                group.remove(is) == 0 && retain_exact(groups, |group| !group.members.is_empty()) == 0
            }
            Self::Many(table) => {
                if table.0.get_mut(place).is_some_and(|group| group.remove(is) == 0) {
                    table.0.remove(place);
                }
                table.0.is_empty()
            }
        }
    }

    fn only(&self) -> Option<&T> {
        match self {
            Self::Few(groups) => match &groups[..] {
                [Group { members, .. }] if members.len() == 1 => members.first(),
                _ => None,
            },
            Self::Many(_) => None,
        }
    }

    fn find(&self, wanted: &Wanted, hash: impl FnOnce() -> u64) -> Option<&T> {
        let takes = |group: &Group<T>| !group.place.is_mapped(wanted) || group.dual_stack > 0;
        let group = match self {
            Self::Few(groups) => {
                let scored = groups.iter().filter(|group| takes(group));
                let scored = scored.filter_map(|group| Some((group.place.score(wanted)?, group)));
                scored.max_by_key(|(score, _)| *score).map(|(_, group)| group)?
            }
            Self::Many(table) => {
                wanted.places().find_map(|place| table.0.get(&place).filter(|group| takes(group)))?
            }
        };
        group.choose(wanted, hash)
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        let (few, many) = match self {
            Self::Few(groups) => (Some(groups.iter()), None),
            Self::Many(table) => (None, Some(table.0.values())),
        };
        let groups = few.into_iter().flatten().chain(many.into_iter().flatten());
        groups.flat_map(|group| group.members.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    thread_local! {
        /// How often a socket was looked at.
        static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Socket {
        number: usize,
        place: Bound,
        dual_stack: bool,
        reuse_port: bool,
    }

    impl Member for Socket {
        fn bound(&self) -> Bound {
            LOOKS.set(LOOKS.get() + 1);
            self.place
        }
        fn dual_stack(&self) -> bool {
            LOOKS.set(LOOKS.get() + 1);
            self.dual_stack
        }
        fn reuse_port(&self) -> bool {
            LOOKS.set(LOOKS.get() + 1);
            self.reuse_port
        }
    }

    const ADDRESSES: [&str; 6] = ["10.0.0.1", "10.0.0.2", "0.0.0.0", "fd00::1", "fd00::2", "::"];

    fn peer(n: u8) -> (IpAddr, u16) {
        ([10, 9, 9, n].into(), 99)
    }

    fn any_socket() -> impl Strategy<Value = Socket> {
        let peer = prop::option::weighted(0.3, (0u8..2).prop_map(peer));
        let interface = prop::option::weighted(0.3, 0u16..2);
        (prop::sample::select(ADDRESSES.to_vec()), peer, interface, any::<[bool; 2]>()).prop_map(
            |(address, peer, interface, [dual_stack, reuse_port])| Socket {
                number: 0,
                place: Bound { address: address.parse().unwrap(), peer, interface },
                dual_stack: dual_stack && address == "::",
                reuse_port,
            },
        )
    }

    /// All that the packet could be for, by looking at each: those that fit most closely.
    fn candidates(sockets: &[Socket], wanted: &Wanted) -> Vec<usize> {
        let fits = |socket: &&Socket| !socket.place.is_mapped(wanted) || socket.dual_stack;
        let score = |socket: &Socket| socket.place.score(wanted);
        let best = sockets.iter().filter(fits).filter_map(score).max();
        let equals: Vec<_> =
            sockets.iter().filter(fits).filter(|socket| best.is_some() && score(socket) == best).collect();
        match equals.last() {
            Some(last) if !last.reuse_port => vec![last.number],
            _ => equals.iter().filter(|socket| socket.reuse_port).map(|socket| socket.number).collect(),
        }
    }

    proptest! {
        #[test]
        fn a_packet_finds_who_looking_at_each_socket_finds(
            steps in prop::collection::vec((any_socket(), any::<bool>(), any::<prop::sample::Index>()), 1..60),
            hash in any::<u64>(),
        ) {
            let keyed = Keyed::new([3; 16]);
            let (mut crowd, mut model) = (Crowd::default(), Vec::<Socket>::new());
            for (number, (socket, leaves, index)) in steps.into_iter().enumerate() {
                if leaves && !model.is_empty() {
                    let gone = model.remove(index.index(model.len()));
                    let empty = crowd.remove(&gone.place, |other: &Socket| other.number == gone.number);
                    prop_assert_eq!(empty, model.is_empty());
                } else {
                    let socket = Socket { number, ..socket };
                    crowd.push(socket, &keyed);
                    model.push(socket);
                }
                let mut all: Vec<_> = crowd.iter().map(|socket| socket.number).collect();
                all.sort_unstable();
                prop_assert!(all.iter().eq(model.iter().map(|socket| &socket.number)));
                for local in ADDRESSES {
                    for interface in 0..3 {
                        let local: IpAddr = local.parse().unwrap();
                        let wanted = Wanted { local, remote: peer(0), interface };
                        let wanted_by = candidates(&model, &wanted);
                        match crowd.find(&wanted, || hash) {
                            Some(found) => {
                                let chosen = wanted_by.get((hash % wanted_by.len().max(1) as u64) as usize);
                                prop_assert_eq!(Some(&found.number), chosen);
                            }
                            None => prop_assert!(wanted_by.is_empty()),
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_closest_fit_has_the_highest_score() {
        let place = |address: &str| Bound { address: address.parse().unwrap(), peer: None, interface: None };
        let (peer, interface) = (Some(peer(0)), Some(0));
        let in_order = [
            place("::"),
            place("0.0.0.0"),
            Bound { interface, ..place("0.0.0.0") },
            Bound { peer, ..place("0.0.0.0") },
            place("10.0.0.2"),
            Bound { interface, ..place("10.0.0.2") },
            Bound { peer, ..place("10.0.0.2") },
            Bound { peer, interface, ..place("10.0.0.2") },
        ];
        let wanted = Wanted { local: "10.0.0.2".parse().unwrap(), remote: self::peer(0), interface: 0 };
        let scores = in_order.map(|place| place.score(&wanted).unwrap());
        assert!(scores.is_sorted_by(|a, b| a < b), "{scores:?}");
        let places: Vec<_> = wanted.places().map(|place| place.score(&wanted).unwrap()).collect();
        assert!(places.is_sorted_by(|a, b| a >= b), "{places:?}");
    }

    #[test]
    fn who_looks_for_a_socket_looks_at_none_whatever_their_number() {
        let keyed = Keyed::new([3; 16]);
        let wanted = |local: &str| Wanted { local: local.parse().unwrap(), remote: peer(0), interface: 0 };
        for shared in [true, false] {
            let mut crowd = Crowd::default();
            for number in 0..5_000u16 {
                let [high, low] = number.to_be_bytes();
                let address = if shared { [10, 0, 0, 1] } else { [10, 0, high, low] };
                let place = Bound { address: address.into(), peer: None, interface: None };
                crowd.push(
                    Socket { number: number.into(), place, dual_stack: false, reuse_port: shared },
                    &keyed,
                );
            }
            LOOKS.set(0);
            for hash in 0..100 {
                let found = crowd.find(&wanted("10.0.0.1"), || hash).unwrap();
                assert_eq!(found.number, if shared { hash as usize } else { 1 });
            }
            assert!(LOOKS.get() <= 300, "{} looks for 100 packets", LOOKS.get());
        }
    }
}
