//! Identifiers: flows, queues, address families.

use crate::trace::About;
use crate::wire::Ends;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One queue of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId {
    /// Index of the interface in the stack.
    pub interface: u16,
    /// Index of the queue in the interface's device.
    pub queue: u16,
}

impl QueueId {
    pub(crate) const fn bits(self) -> u32 {
        (self.interface as u32) << 16 | self.queue as u32
    }

    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self { interface: (bits >> 16) as u16, queue: bits as u16 }
    }
}

/// Who is answered, and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct WayBack {
    pub(super) local: IpAddr,
    pub(super) remote: IpAddr,
    /// The interface that the socket is limited to.
    pub(super) bound: Option<u16>,
    /// A number that spreads flows over the queues of a device.
    pub(super) spread: usize,
}

/// The address family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6, and IPv4 in the form of mapped addresses unless `only_v6` is set.
    V6,
}

impl Family {
    /// The unspecified address of this family.
    pub const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// The two ends of a connection, as on the wire: never an IPv4-mapped address.
///
/// One is made, hashed and compared for every segment, which an `IpAddr` makes slow: of its 17 bytes an
/// IPv4 address fills five, and what was stored in pieces is loaded as a whole only once it has left the
/// processor's store buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowKey {
    local: Address,
    remote: Address,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
}

/// The upper and lower half of an IPv6 address, or of an IPv4 address in the mapped form.
#[derive(Clone, Copy)]
pub(super) struct Address([u64; 2]);

/// In halves, as they were stored.
impl PartialEq for Address {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let (Self([upper, lower]), Self([other_upper, other_lower])) = (self, other);
        (upper ^ other_upper) | (lower ^ other_lower) == 0
    }
}

impl Eq for Address {}

impl Hash for Address {
    /// One write, as for a [`FlowKey`].
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.v4() {
            Some(bits) => state.write(&bits.to_be_bytes()),
            None => state.write(&self.bits().to_be_bytes()),
        }
    }
}

/// What is in front of the 32 bits of a mapped address.
const MAPPED: [u64; 2] = [0, 0xffff];

impl Address {
    /// By reference, so that no more is loaded of an address than its family has.
    pub(super) fn new(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self([MAPPED[0], MAPPED[1] << 32 | u64::from(address.to_bits())]),
            IpAddr::V6(address) => Self(halves(address).into()),
        }
    }

    fn ip(self) -> IpAddr {
        match self.v4() {
            Some(bits) => Ipv4Addr::from_bits(bits).into(),
            None => Ipv6Addr::from_bits(self.bits()).into(),
        }
    }

    fn v4(self) -> Option<u32> {
        let Self([upper, lower]) = self;
        ([upper, lower >> 32] == MAPPED).then_some(lower as u32)
    }

    fn bits(self) -> u128 {
        let Self([upper, lower]) = self;
        u128::from(upper) << 64 | u128::from(lower)
    }
}

/// A function of its own, or the compiler has eight bytes loaded before it looks whether there are so many.
#[inline(never)]
fn halves(address: &Ipv6Addr) -> (u64, u64) {
    let bits = address.to_bits();
    ((bits >> 64) as u64, bits as u64)
}

impl FlowKey {
    #[inline]
    pub(crate) fn new(local: &IpAddr, local_port: u16, remote: &IpAddr, remote_port: u16) -> Self {
        Self { local: Address::new(local), remote: Address::new(remote), local_port, remote_port }
    }

    pub(crate) fn local(&self) -> IpAddr {
        self.local.ip()
    }

    pub(crate) fn remote(&self) -> IpAddr {
        self.remote.ip()
    }

    /// The two hosts, whatever their ports.
    pub(super) fn hosts(&self) -> Self {
        self.with_ports(0, 0)
    }

    /// The same hosts, with these ports.
    #[inline]
    pub(super) fn with_ports(&self, local_port: u16, remote_port: u16) -> Self {
        Self { local_port, remote_port, ..*self }
    }

    /// Whether both are between the same hosts.
    #[inline]
    pub(super) fn has_hosts_of(&self, other: &Self) -> bool {
        self.local == other.local && self.remote == other.remote
    }

    /// The two ends, as the packets have them that arrive.
    pub(super) fn ends(&self) -> Ends {
        Ends::new(self.remote_addr(false), self.local_addr(false))
    }

    pub(crate) fn is_ipv6(&self) -> bool {
        self.local.v4().is_none()
    }

    /// The local end as a socket shows it.
    pub(crate) fn local_addr(&self, mapped: bool) -> SocketAddr {
        SocketAddr::new(present(self.local(), mapped), self.local_port)
    }

    /// The remote end as a socket shows it.
    pub(crate) fn remote_addr(&self, mapped: bool) -> SocketAddr {
        SocketAddr::new(present(self.remote(), mapped), self.remote_port)
    }

    /// The two ends, for who is told what happens to them.
    pub(crate) fn about(&self) -> About {
        About::ends(self.local_addr(false), self.remote_addr(false))
    }

    /// Those who exchange the packets of the flow, as who answers and who is answered.
    pub(super) fn way_back(&self, bound: Option<u16>) -> WayBack {
        WayBack { local: self.local(), remote: self.remote(), bound, spread: self.spread() }
    }

    /// A number for spreading flows over shards. Not secret: an attacker who aims at one shard
    /// still meets a keyed table inside.
    pub(crate) fn spread(&self) -> usize {
        let ports = u32::from(self.local_port) << 16 | u32::from(self.remote_port);
        (ports.wrapping_mul(0x9e37_79b1) >> 16) as usize
    }
}

impl Hash for FlowKey {
    /// One write of all bytes, which a keyed hash takes much faster than a write per field.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ports = u32::from(self.local_port) << 16 | u32::from(self.remote_port);
        match (self.local.v4(), self.remote.v4()) {
            (Some(local), Some(remote)) => {
                let mut bytes = [0; 12];
                bytes[..8].copy_from_slice(&(u64::from(ports) << 32 | u64::from(local)).to_be_bytes());
                bytes[8..].copy_from_slice(&remote.to_be_bytes());
                state.write(&bytes);
            }
            _ => {
                let mut bytes = [0; 36];
                bytes[..4].copy_from_slice(&ports.to_be_bytes());
                bytes[4..20].copy_from_slice(&self.local.bits().to_be_bytes());
                bytes[20..].copy_from_slice(&self.remote.bits().to_be_bytes());
                state.write(&bytes);
            }
        }
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.local_addr(false), self.remote_addr(false))
    }
}

/// An address as a socket shows it: an IPv6 socket shows IPv4 addresses in the mapped form.
pub(crate) fn present(address: IpAddr, mapped: bool) -> IpAddr {
    match address {
        IpAddr::V4(address) if mapped => IpAddr::V6(address.to_ipv6_mapped()),
        address => address,
    }
}

/// Gives back most of a table's memory once little of it is in use, and all of it once nothing is.
/// Amortised over the removals that emptied the table, it costs a constant.
pub(crate) fn give_back<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    if table.is_empty() || table.len() < table.capacity() / 8 {
        table.shrink_to(2 * table.len());
    }
}

/// Appends to a slice that has no room to spare. For lists that have one entry as a rule, of which there are
/// many: a vector would take another word for each, and room for four.
pub(crate) fn push_exact<T>(list: &mut Box<[T]>, entry: T) {
    let mut entries = std::mem::take(list).into_vec();
    entries.reserve_exact(1);
    entries.push(entry);
    *list = entries.into_boxed_slice();
}

/// Keeps those entries of a slice without room to spare that are `wanted`, in their order, and gives their
/// number.
pub(crate) fn retain_exact<T>(list: &mut Box<[T]>, wanted: impl FnMut(&T) -> bool) -> usize {
    let mut entries = std::mem::take(list).into_vec();
    entries.retain(wanted);
    *list = entries.into_boxed_slice();
    list.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_ids_survive_their_bits() {
        let id = QueueId { interface: 7, queue: 65_535 };
        assert_eq!(QueueId::from_bits(id.bits()), id);
    }

    #[test]
    fn flows_that_differ_in_one_field_hash_apart() {
        use std::hash::BuildHasher;
        let build = std::hash::RandomState::new();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let key = FlowKey::new(&ip("10.0.0.1"), 80, &ip("10.0.0.2"), 4000);
        let others = [
            FlowKey { local_port: 81, ..key },
            FlowKey { remote_port: 81, ..key },
            FlowKey { local: key.remote, remote: key.local, ..key },
            FlowKey::new(&ip("::1"), 80, &ip("::2"), 4000),
            FlowKey::new(&ip("::10.0.0.1"), 80, &ip("::10.0.0.2"), 4000),
        ];
        assert!(others.iter().all(|other| build.hash_one(other) != build.hash_one(key)));
    }

    #[test]
    fn a_flow_gives_its_ends_back() {
        for (local, remote) in [("10.0.0.1", "255.255.255.255"), ("fe80::1", "2001:db8::ffff:7")] {
            let (local, remote): (IpAddr, IpAddr) = (local.parse().unwrap(), remote.parse().unwrap());
            let key = FlowKey::new(&local, 1, &remote, 2);
            assert_eq!((key.local(), key.remote()), (local, remote));
            assert_eq!(key.is_ipv6(), local.is_ipv6());
        }
    }
}
