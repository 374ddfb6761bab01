//! The packets between two ends that are known: most packets, and what is left to look at in most of them.

use super::checksum::{Checksum, ipv4_checksum};
use super::{Ecn, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader, PlainSegment, TCP_HEADER_LEN, protocol};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The two ends of a flow, as its packets have them one after the other: addresses, then ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    V4([u8; 12]),
    V6([u8; 36]),
}

/// What an IP header says beside addresses and lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpFields {
    pub(crate) hop_limit: u8,
    pub(crate) traffic_class: u8,
}

impl From<&IpHeader> for IpFields {
    fn from(header: &IpHeader) -> Self {
        Self { hop_limit: header.hop_limit, traffic_class: header.traffic_class }
    }
}

impl Ends {
    /// The ends of packets from `src` to `dst`, which are of one family.
    pub(crate) fn new(src: SocketAddr, dst: SocketAddr) -> Self {
        let mut ports = [0; 4];
        ports[..2].copy_from_slice(&src.port().to_be_bytes());
        ports[2..].copy_from_slice(&dst.port().to_be_bytes());
        if let (IpAddr::V4(src), IpAddr::V4(dst)) = (src.ip(), dst.ip()) {
            let mut bytes = [0; 12];
            bytes[..4].copy_from_slice(&src.octets());
            bytes[4..8].copy_from_slice(&dst.octets());
            bytes[8..].copy_from_slice(&ports);
            return Self::V4(bytes);
        }
        let mut bytes = [0; 36];
        bytes[..16].copy_from_slice(&octets(src.ip()));
        bytes[16..32].copy_from_slice(&octets(dst.ip()));
        bytes[32..].copy_from_slice(&ports);
        Self::V6(bytes)
    }

    /// Reads a packet, if it is a TCP segment between these ends with nothing unusual about it: whole, no fragment,
    /// without IP options or extension headers, with a plain TCP header, and with correct checksums, if that of TCP is
    /// not `verified` already. Any other packet has to be [parsed](super::parse_ip) to know what it is.
    #[inline]
    pub(crate) fn read(&self, packet: &[u8], verified: bool) -> Option<(PlainSegment, IpFields)> {
        let (tcp, ip) = match self {
            Self::V4(ends) => {
                // Asked once for both headers.
                let headers: &[u8; IPV4_HEADER_LEN + TCP_HEADER_LEN] = packet.first_chunk()?;
                let (header, _) = headers.split_first_chunk::<IPV4_HEADER_LEN>()?;
                let (&[first, second, third, ..], []) = header.as_chunks::<4>() else { return None };
                let [_, traffic_class, ..] = first;
                let [hop_limit, number, ..] = third;
                let [first, second] = [first, second].map(u32::from_be_bytes);
                let tcp = packet.get(IPV4_HEADER_LEN..)?;
                let usual = headers.get(IPV4_HEADER_LEN - 8..IPV4_HEADER_LEN + PORTS)? == ends
                    // Version, header length, total length.
                    && (first & 0xff00_ffff) as usize == 0x4500_0000 | packet.len()
                    // Neither a part of a datagram nor followed by one.
                    && second & 0x3fff == 0
                    && number == protocol::TCP
                    && ipv4_checksum(header) == 0;
                if !usual || !(verified || checksum_ok(&ends[..8], tcp)) {
                    return None;
                }
                (tcp, IpFields { hop_limit, traffic_class })
            }
            Self::V6(ends) => {
                let (header, tcp) = packet.split_first_chunk::<IPV6_HEADER_LEN>()?;
                // Nobody looks at the flow label.
                let &[version, class, _, _, a, b, next, hop_limit, ..] = header;
                let usual = packet.get(IPV6_HEADER_LEN - 32..IPV6_HEADER_LEN + PORTS)? == ends
                    && (version >> 4, next) == (6, protocol::TCP)
                    && usize::from(u16::from_be_bytes([a, b])) == tcp.len();
                if !usual || !(verified || checksum_ok(&ends[..32], tcp)) {
                    return None;
                }
                (tcp, IpFields { hop_limit, traffic_class: version << 4 | class >> 4 })
            }
        };
        let mut segment = PlainSegment::read(tcp)?;
        segment.ecn = Ecn::from_bits(ip.traffic_class);
        Some((segment, ip))
    }
}

/// Whether the checksum of a segment between these addresses, header and payload, is correct.
fn checksum_ok(addresses: &[u8], tcp: &[u8]) -> bool {
    let mut sum = Checksum::new();
    sum.add(addresses);
    // A packet is no longer than its field can say.
    sum.add_field(tcp.len() as u16);
    sum.add_field(protocol::TCP.into());
    sum.add(tcp);
    sum.finish() == 0
}

/// Bytes of the two ports at the front of a TCP header.
const PORTS: usize = 4;

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => Ipv6Addr::octets(&address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        ChecksumMode, Flags, HeaderBuf, IpMeta, Options, Segment, SeqNum, TcpDatagram, Timestamps, checksum,
        emit_tcp, parse_ip, parse_ports, parse_tcp, tcp_checksum_ok,
    };
    use proptest::prelude::*;

    const PORTS: (u16, u16) = (80, 4000);

    fn ends(v6: bool) -> Ends {
        let [src, dst]: [IpAddr; 2] = hosts(v6);
        Ends::new(SocketAddr::new(src, PORTS.0), SocketAddr::new(dst, PORTS.1))
    }

    fn hosts(v6: bool) -> [IpAddr; 2] {
        let hosts = if v6 { ["fd00::1", "fd00::2"] } else { ["10.0.0.1", "10.0.0.2"] };
        hosts.map(|text| text.parse().unwrap())
    }

    fn packet(v6: bool, timestamps: bool, traffic_class: u8, text: &[u8]) -> Vec<u8> {
        let [src, dst] = hosts(v6);
        let timestamps = timestamps.then_some(Timestamps { tsval: 9, tsecr: 3 });
        let segment = Segment {
            window: 500,
            payload_len: text.len(),
            options: Options { timestamps, ..Options::default() },
            ..Segment::new(Flags::ACK.with(Flags::PSH), SeqNum::new(100), SeqNum::new(7))
        };
        let mut header = HeaderBuf::new();
        let ip = IpMeta { traffic_class, ..IpMeta::new(src, dst, 64) };
        let pieces: &[&[u8]] = if text.is_empty() { &[] } else { &[text] };
        let (src_port, dst_port) = PORTS;
        let datagram = TcpDatagram { ip: &ip, src_port, dst_port, segment: &segment, payload: pieces };
        emit_tcp(&mut header, &datagram, ChecksumMode::Full);
        [&header[..], text].concat()
    }

    /// What the long way finds, if it is a valid segment between these ends.
    fn parsed(v6: bool, packet: &[u8], verified: bool) -> Option<(Segment, IpFields)> {
        let header = parse_ip(packet).ok()?;
        let bytes = &packet[header.payload.clone()];
        let valid = [header.src, header.dst] == hosts(v6)
            && header.protocol == protocol::TCP
            && header.fragment.is_none()
            && parse_ports(bytes) == Some(PORTS)
            && (verified || tcp_checksum_ok(header.src, header.dst, bytes));
        let (segment, _) = parse_tcp(bytes).ok().filter(|_| valid)?;
        Some((Segment { ecn: Ecn::from_bits(header.traffic_class), ..segment }, IpFields::from(&header)))
    }

    #[test]
    fn the_usual_packets_are_read_at_a_glance() {
        for v6 in [false, true] {
            for timestamps in [false, true] {
                for text in [&b""[..], b"x", &[7; 1400]] {
                    let packet = packet(v6, timestamps, 0xa3, text);
                    let (segment, ip) = ends(v6).read(&packet, false).expect("a usual packet");
                    assert_eq!(Some((segment.to_segment(), ip)), parsed(v6, &packet, false));
                    assert_eq!((ip.traffic_class, segment.ecn), (0xa3, Ecn::Ce));
                    // The lower byte of the acknowledgment number.
                    let mut broken = packet;
                    broken[if v6 { 51 } else { 31 }] ^= 1;
                    assert_eq!(ends(v6).read(&broken, false), None);
                    assert!(ends(v6).read(&broken, true).is_some(), "it was verified");
                }
            }
        }
    }

    proptest! {
        /// Whatever is read at a glance is by the long way the same.
        #[test]
        fn nothing_is_read_that_parsing_does_not_find(
            v6: bool,
            timestamps: bool,
            verified: bool,
            changes in proptest::collection::vec((0usize..100, any::<u8>()), 0..3),
            mend: bool,
            cut in 0usize..50,
        ) {
            let mut packet = packet(v6, timestamps, 0, &[2; 33]);
            for (place, byte) in changes {
                if let Some(at) = packet.get_mut(place) {
                    *at = byte;
                }
            }
            if mend && !v6 {
                // So that not every change is found by the checksum of the IP header.
                packet[10..12].fill(0);
                let sum = checksum(&packet[..20]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            packet.truncate(packet.len() - cut.saturating_sub(40));
            let read = ends(v6).read(&packet, verified).map(|(segment, ip)| (segment.to_segment(), ip));
            if read.is_some() {
                prop_assert_eq!(read, parsed(v6, &packet, verified));
            }
        }
    }
}
