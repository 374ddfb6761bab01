//! What a socket sets for the packets that it sends.

use crate::wire::IpMeta;
use std::net::IpAddr;

/// What a socket sets for the packets that it sends. One for IPv6 has the options of both families, since it
/// may send over both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketOptions {
    /// `IP_TTL`: the time to live over IPv4, 1 to 255. Default [`Config::default_ttl`](crate::Config::default_ttl).
    pub ttl: u8,
    /// `IPV6_UNICAST_HOPS`: the hop limit over IPv6. Default
    /// [`Config::default_ttl`](crate::Config::default_ttl).
    pub hops: u8,
    /// `IP_TOS`, over IPv4. The two lower bits are those of ECN, which TCP sets itself. Default 0.
    pub tos: u8,
    /// `IPV6_TCLASS`, over IPv6. Default 0.
    pub tclass: u8,
    /// `SO_MARK`: a number that the device gets with each packet
    /// ([`TxPacket::mark`](crate::device::TxPacket::mark)). Default 0.
    pub mark: u32,
    /// `SO_PRIORITY`: the device gets it with each packet
    /// ([`TxPacket::priority`](crate::device::TxPacket::priority)). Default 0.
    pub priority: u32,
}

/// The bits of ECN in a traffic class (RFC 3168 §5).
const ECN_BITS: u8 = 3;

/// The bits of `IP_TOS` that the priority follows from (`IPTOS_TOS_MASK`).
const TOS_BITS: u8 = 0x1e;

impl PacketOptions {
    /// The defaults, with this time to live and hop limit.
    pub const fn new(ttl: u8) -> Self {
        Self { ttl, hops: ttl, tos: 0, tclass: 0, mark: 0, priority: 0 }
    }

    /// Sets `IP_TOS`. The priority follows from it, if it is another one than before (ip_sock_set_tos in Linux).
    pub fn set_tos(&mut self, tos: u8) {
        if self.tos != tos {
            self.tos = tos;
            self.priority = priority_of(tos);
        }
    }

    /// Without the bits that ECN has: those of TCP, which sets them itself.
    #[must_use]
    pub const fn without_ecn(self) -> Self {
        Self { tos: self.tos & !ECN_BITS, tclass: self.tclass & !ECN_BITS, ..self }
    }

    /// The header of a packet to a single host.
    #[inline]
    pub fn header(&self, src: IpAddr, dst: IpAddr) -> IpMeta {
        let (hop_limit, traffic_class) =
            if dst.is_ipv4() { (self.ttl, self.tos) } else { (self.hops, self.tclass) };
        IpMeta { traffic_class, ..IpMeta::new(src, dst, hop_limit) }
    }
}

/// The priority that belongs to a type of service (`rt_tos2priority` in Linux).
fn priority_of(tos: u8) -> u32 {
    // TC_PRIO_BESTEFFORT, TC_PRIO_BULK, TC_PRIO_INTERACTIVE and TC_PRIO_INTERACTIVE_BULK, by the bits "minimize
    // delay" and "maximize throughput".
    match (tos & TOS_BITS) >> 3 {
        0 => 0,
        1 => 2,
        2 => 6,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asked of Linux 6.18, for each even value.
    #[test]
    fn the_priority_follows_from_the_type_of_service() {
        let of = |tos| {
            let mut options = PacketOptions::new(64);
            options.set_tos(tos);
            options.priority
        };
        for tos in 0..=u8::MAX {
            assert_eq!(of(tos), [0, 2, 6, 4][usize::from(tos % 32 / 8)], "{tos:#x}");
        }
        let mut options = PacketOptions { priority: 5, tos: 8, ..PacketOptions::new(64) };
        options.set_tos(8);
        assert_eq!(options.priority, 5, "nothing has changed");
        options.set_tos(16);
        assert_eq!(options.priority, 6);
    }

    #[test]
    fn the_family_on_the_wire_decides_which_options_count() {
        let options = PacketOptions { ttl: 1, hops: 2, tos: 0xb9, tclass: 0x2a, ..PacketOptions::new(64) };
        let header = |text: &str| options.header(text.parse().unwrap(), text.parse().unwrap());
        let v4 = header("10.0.0.1");
        assert_eq!((v4.hop_limit, v4.traffic_class), (1, 0xb9));
        let v6 = header("fe80::1");
        assert_eq!((v6.hop_limit, v6.traffic_class), (2, 0x2a));
        let without = options.without_ecn();
        assert_eq!((without.tos, without.tclass), (0xb8, 0x28));
    }
}
