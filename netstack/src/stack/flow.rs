//! The names of things: flows, queues, address families.

use std::collections::HashMap;
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

/// The address family of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6, and IPv4 in the form of mapped addresses unless `only_v6` is set.
    V6,
}

impl Family {
    /// The address that means any, in this family.
    pub const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// The two ends of a connection, as on the wire: never an IPv4-mapped address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowKey {
    pub(crate) local: IpAddr,
    pub(crate) local_port: u16,
    pub(crate) remote: IpAddr,
    pub(crate) remote_port: u16,
}

impl FlowKey {
    pub(crate) fn is_ipv6(&self) -> bool {
        self.local.is_ipv6()
    }

    /// The local end as a socket shows it.
    pub(crate) fn local_addr(&self, mapped: bool) -> SocketAddr {
        SocketAddr::new(present(self.local, mapped), self.local_port)
    }

    /// The remote end as a socket shows it.
    pub(crate) fn remote_addr(&self, mapped: bool) -> SocketAddr {
        SocketAddr::new(present(self.remote, mapped), self.remote_port)
    }

    /// A number for spreading flows over shards. Not secret: whoever aims at one shard finds that
    /// the table inside is keyed.
    pub(crate) fn spread(&self) -> usize {
        let ports = u32::from(self.local_port) << 16 | u32::from(self.remote_port);
        (ports.wrapping_mul(0x9e37_79b1) >> 16) as usize
    }
}

impl Hash for FlowKey {
    /// One write of all bytes, which a keyed hash takes much faster than a write per field.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0; 36];
        let len = match (self.local, self.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                bytes[4..8].copy_from_slice(&local.octets());
                bytes[8..12].copy_from_slice(&remote.octets());
                12
            }
            (local, remote) => {
                bytes[4..20].copy_from_slice(&octets(local));
                bytes[20..36].copy_from_slice(&octets(remote));
                36
            }
        };
        bytes[..2].copy_from_slice(&self.local_port.to_be_bytes());
        bytes[2..4].copy_from_slice(&self.remote_port.to_be_bytes());
        state.write(&bytes[..len]);
    }
}

/// An address as 16 bytes, IPv4 in the mapped form.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
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
        let key = FlowKey {
            local: "10.0.0.1".parse().unwrap(),
            local_port: 80,
            remote: "10.0.0.2".parse().unwrap(),
            remote_port: 4000,
        };
        let others = [
            FlowKey { local_port: 81, ..key },
            FlowKey { remote_port: 81, ..key },
            FlowKey { local: key.remote, remote: key.local, ..key },
            FlowKey { local: "::1".parse().unwrap(), remote: "::2".parse().unwrap(), ..key },
        ];
        assert!(others.iter().all(|other| build.hash_one(other) != build.hash_one(key)));
    }
}
