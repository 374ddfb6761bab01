//! Reading packets, without the code that is tested: the witness must not make the same mistakes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A TCP segment in its packet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    flags: u8,
    /// Not scaled.
    pub(crate) window: u16,
    pub(crate) scale: Option<u8>,
    pub(crate) sack: Vec<(u32, u32)>,
    /// Where in the packet the payload is.
    pub(crate) payload_at: usize,
    pub(crate) payload_len: usize,
}

/// A TCP segment and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) segment: Segment,
}

impl std::ops::Deref for Packet {
    type Target = Segment;
    fn deref(&self) -> &Segment {
        &self.segment
    }
}

/// A UDP datagram and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// Where in the packet the payload is.
    pub(crate) payload: std::ops::Range<usize>,
}

impl Datagram {
    /// Reads a UDP packet. None of anything else, and none of fragments.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        const UDP: u8 = 17;
        let (from, to, payload, protocol) = ip(bytes)?;
        let udp = bytes.get(payload.clone())?;
        if protocol != UDP || udp.len() < 8 {
            return None;
        }
        let (source, destination) = (be16(udp, 0)?, be16(udp, 2)?);
        Some(Self {
            from: SocketAddr::new(from, source),
            to: SocketAddr::new(to, destination),
            payload: payload.start + 8..payload.end,
        })
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Addresses, where the payload is, and its protocol. None of what is fragmented or malformed.
pub(crate) fn ip(bytes: &[u8]) -> Option<(IpAddr, IpAddr, std::ops::Range<usize>, u8)> {
    match bytes.first()? >> 4 {
        4 => {
            let start = usize::from(bytes[0] & 15) * 4;
            let len = usize::from(be16(bytes, 2)?);
            if be16(bytes, 6)? & 0x3fff != 0 || len > bytes.len() || start > len {
                return None;
            }
            let address = |at: usize| Ipv4Addr::from(be32(bytes, at).unwrap_or(0));
            bytes.get(..20)?;
            Some((address(12).into(), address(16).into(), start..len, bytes[9]))
        }
        6 => {
            let len = 40 + usize::from(be16(bytes, 4)?);
            let octets = |at: usize| <[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok();
            let (from, to) = (Ipv6Addr::from(octets(8)?), Ipv6Addr::from(octets(24)?));
            (len <= bytes.len()).then(|| (from.into(), to.into(), 40..len, bytes[6]))
        }
        _ => None,
    }
}

/// The addresses of any packet, of a fragment too.
pub(crate) fn addresses(bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match bytes.first()? >> 4 {
        4 => {
            let address = |at| Some(IpAddr::from(Ipv4Addr::from(be32(bytes, at)?)));
            Some((address(12)?, address(16)?))
        }
        _ => ip(bytes).map(|(from, to, ..)| (from, to)),
    }
}

/// Whether it is a fragment of an IPv4 packet.
pub(crate) fn is_fragment(bytes: &[u8]) -> bool {
    bytes[0] >> 4 == 4 && be16(bytes, 6).is_some_and(|field| field & 0x3fff != 0)
}

/// Whether it is a fragment of an IPv6 packet.
pub(crate) fn is_fragment_v6(bytes: &[u8]) -> bool {
    bytes[0] >> 4 == 6 && bytes.get(6) == Some(&44)
}

/// The sum of RFC 1071, not complemented.
fn sum(bytes: &[u8]) -> u64 {
    let (pairs, last) = bytes.as_chunks::<2>();
    let pairs: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    pairs + last.first().map_or(0, |byte| u64::from(*byte) << 8)
}

fn is_all_ones(mut sum: u64) -> bool {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

/// Whether the checksums of a TCP or UDP packet are right.
pub(crate) fn checksums_hold(bytes: &[u8]) -> bool {
    let Some((from, to, payload, protocol)) = ip(bytes) else { return false };
    let (header_holds, addresses) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            (is_all_ones(sum(&bytes[..payload.start])), sum(&from.octets()) + sum(&to.octets()))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => (true, sum(&from.octets()) + sum(&to.octets())),
        _ => return false,
    };
    let pseudo = addresses + u64::from(protocol) + payload.len() as u64;
    header_holds && is_all_ones(pseudo + sum(&bytes[payload]))
}

impl Segment {
    pub(crate) fn is_syn(&self) -> bool {
        self.flags & 2 != 0
    }

    pub(crate) fn is_fin(&self) -> bool {
        self.flags & 1 != 0
    }

    pub(crate) fn is_rst(&self) -> bool {
        self.flags & 4 != 0
    }

    pub(crate) fn is_ack(&self) -> bool {
        self.flags & 16 != 0
    }

    /// Sequence numbers that it takes.
    pub(crate) fn len(&self) -> u32 {
        self.payload_len as u32 + u32::from(self.is_syn()) + u32::from(self.is_fin())
    }
}

impl Packet {
    /// Reads a TCP packet. None of anything else.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        const TCP: u8 = 6;
        let (from, to, payload, protocol) = ip(bytes)?;
        let tcp = bytes.get(payload.clone())?;
        if protocol != TCP || tcp.len() < 20 {
            return None;
        }
        let header_len = usize::from(tcp[12] >> 4) * 4;
        let mut options = tcp.get(20..header_len)?;
        let mut segment = Segment {
            seq: be32(tcp, 4)?,
            ack: be32(tcp, 8)?,
            flags: tcp[13],
            window: be16(tcp, 14)?,
            payload_at: payload.start + header_len,
            payload_len: tcp.len() - header_len,
            ..Segment::default()
        };
        while let [kind, rest @ ..] = options {
            match kind {
                0 => break,
                1 => options = rest,
                _ => {
                    let len = usize::from(*rest.first()?);
                    let value = options.get(2..len)?;
                    match kind {
                        3 => segment.scale = value.first().copied(),
                        5 => {
                            let blocks = value.as_chunks::<8>().0.iter();
                            segment.sack =
                                blocks.filter_map(|block| Some((be32(block, 0)?, be32(block, 4)?))).collect();
                        }
                        _ => {}
                    }
                    options = options.get(len..)?;
                }
            }
        }
        Some(Self {
            from: SocketAddr::new(from, be16(tcp, 0)?),
            to: SocketAddr::new(to, be16(tcp, 2)?),
            segment,
        })
    }
}
