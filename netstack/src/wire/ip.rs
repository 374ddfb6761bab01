//! IPv4 and IPv6 headers.

use super::checksum::{checksum, ipv4_checksum};
use crate::reasons::DropReason;
use smoltcp::wire::{Ipv4Packet, Ipv6Packet};
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER_LEN: usize = 20;
/// Bytes of the fixed IPv6 header.
pub const IPV6_HEADER_LEN: usize = 40;

/// The fields of an IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpHeader {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// The protocol of the payload, past IPv6 extension headers. In a fragment of IPv6 it is the
    /// first header of the datagram's fragmentable part, which may be another extension header.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub traffic_class: u8,
    /// Set if the packet is a fragment. An IPv6 "atomic fragment" is none (RFC 6946).
    pub fragment: Option<Fragment>,
    /// Where in the packet the payload is. What follows it is padding.
    pub payload: Range<usize>,
}

impl IpHeader {
    /// The ECN field (RFC 3168 §5): 0 not capable, 1 and 2 capable, 3 congestion experienced.
    pub const fn ecn(&self) -> u8 {
        self.traffic_class & 3
    }
}

/// The position of a fragment in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The datagram's identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Bytes of the datagram's payload before this fragment, a multiple of 8 under 64 KiB.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
}

/// Why a packet is malformed. Such packets are dropped silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpError {
    /// Shorter than its headers.
    Truncated,
    /// Neither version 4 nor 6.
    Version,
    /// An IPv4 header length under 20 bytes or past the end.
    HeaderLength,
    /// The IPv4 header's checksum is wrong (RFC 1122 §3.2.1.2).
    Checksum,
    /// The length field is smaller than the headers or larger than the packet.
    TotalLength,
    /// IPv6 extension headers that are too many, out of place or overrun the packet, or an option
    /// whose type says that a host that does not know it discards the packet (RFC 8200 §4.2).
    ExtensionHeader,
    /// An IPv6 routing header with segments left (RFC 8200 §4.4, RFC 5095).
    SourceRoute,
}

impl fmt::Display for IpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "packet shorter than its headers",
            Self::Version => "neither IPv4 nor IPv6",
            Self::HeaderLength => "bad IPv4 header length",
            Self::Checksum => "bad IPv4 header checksum",
            Self::TotalLength => "bad length field",
            Self::ExtensionHeader => "bad IPv6 extension header",
            Self::SourceRoute => "routing header with segments left",
        })
    }
}

impl std::error::Error for IpError {}

impl From<IpError> for DropReason {
    fn from(error: IpError) -> Self {
        match error {
            IpError::Truncated => Self::PktTooSmall,
            IpError::Version | IpError::HeaderLength | IpError::TotalLength | IpError::SourceRoute => {
                Self::IpInhdr
            }
            IpError::Checksum => Self::IpCsum,
            IpError::ExtensionHeader => Self::Ipv6BadExthdr,
        }
    }
}

/// An IPv4 header.
#[inline]
pub(super) fn parse_ipv4(packet: &[u8]) -> Result<IpHeader, IpError> {
    let fixed: &[u8; IPV4_HEADER_LEN] = packet.first_chunk().ok_or(IpError::Truncated)?;
    // The accessors check the length that they are given: here that of an array.
    let ip = Ipv4Packet::new_unchecked(fixed);
    let header_len = usize::from(ip.header_len());
    let total_len = usize::from(ip.total_len());
    // Hardly any header has options.
    let options = header_len != IPV4_HEADER_LEN;
    if options && (header_len < IPV4_HEADER_LEN || header_len > packet.len()) {
        return Err(IpError::HeaderLength);
    }
    if total_len < header_len || total_len > packet.len() {
        return Err(IpError::TotalLength);
    }
    let sum =
        if options { checksum(packet.get(..header_len).unwrap_or_default()) } else { ipv4_checksum(fixed) };
    if sum != 0 {
        return Err(IpError::Checksum);
    }
    let (offset, more) = (ip.frag_offset(), ip.more_frags());
    let fragment = (more || offset != 0).then(|| Fragment { id: ip.ident().into(), offset, more });
    Ok(IpHeader {
        src: ip.src_addr().into(),
        dst: ip.dst_addr().into(),
        protocol: fixed[9],
        hop_limit: ip.hop_limit(),
        traffic_class: fixed[1],
        fragment,
        payload: header_len..total_len,
    })
}

/// The fixed header of an IPv6 packet, which may be followed by extension headers.
pub(super) fn parse_fixed_ipv6(packet: &[u8]) -> Result<IpHeader, IpError> {
    let fixed: &[u8; IPV6_HEADER_LEN] = packet.first_chunk().ok_or(IpError::Truncated)?;
    let ip = Ipv6Packet::new_unchecked(packet);
    let total_len = ip.total_len();
    if total_len > packet.len() {
        return Err(IpError::TotalLength);
    }
    Ok(IpHeader {
        src: ip.src_addr().into(),
        dst: ip.dst_addr().into(),
        protocol: fixed[6],
        hop_limit: ip.hop_limit(),
        traffic_class: ip.traffic_class(),
        fragment: None,
        payload: IPV6_HEADER_LEN..total_len,
    })
}

/// The IP header of a packet to send, without its lengths and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpMeta {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub traffic_class: u8,
    /// Whether routers must not fragment an IPv4 packet (DF). IPv6 packets never are.
    pub dont_fragment: bool,
    /// IPv4 identification; meaningless with `dont_fragment` (RFC 6864 §4.1). Each segment cut from
    /// a super-segment takes the next one.
    pub ident: u16,
    /// IPv6 flow label, 20 bits.
    pub flow_label: u32,
}

impl IpMeta {
    /// A packet that must not be fragmented, with traffic class and flow label 0.
    pub const fn new(src: IpAddr, dst: IpAddr, hop_limit: u8) -> Self {
        Self { src, dst, hop_limit, traffic_class: 0, dont_fragment: true, ident: 0, flow_label: 0 }
    }
}

/// Bytes of the IP header that [`emit_ip`] writes for a packet to `dst`.
pub const fn ip_header_len(dst: &IpAddr) -> usize {
    match dst {
        IpAddr::V4(_) => IPV4_HEADER_LEN,
        IpAddr::V6(_) => IPV6_HEADER_LEN,
    }
}

/// Writes an IP header in front of `payload_len` bytes of `protocol`, to `to`, which is exactly as
/// long as the header. The header checksum of IPv4 is filled in.
///
/// # Panics
/// If the addresses are of different families, if `to` is too short, or if the length does not fit
/// its field.
pub fn emit_ip(to: &mut [u8], meta: &IpMeta, protocol: u8, payload_len: usize) {
    match (meta.src, meta.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total = u16::try_from(payload_len.saturating_add(IPV4_HEADER_LEN))
                .expect("an IPv4 packet under 64 KiB");
            let mut ip = Ipv4Packet::new_unchecked(to);
            ip.set_version(4);
            ip.set_header_len(IPV4_HEADER_LEN as u8);
            ip.set_dscp(meta.traffic_class >> 2);
            ip.set_ecn(meta.traffic_class & 3);
            ip.set_total_len(total);
            ip.set_ident(meta.ident);
            ip.clear_flags();
            ip.set_dont_frag(meta.dont_fragment);
            ip.set_hop_limit(meta.hop_limit);
            ip.set_next_header(protocol.into());
            ip.set_src_addr(src);
            ip.set_dst_addr(dst);
            ip.set_checksum(0);
            let header = ip.into_inner().first_chunk_mut().expect("a buffer of the length of the header");
            let sum = ipv4_checksum(header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut ip = Ipv6Packet::new_unchecked(to);
            ip.set_version(6);
            ip.set_traffic_class(meta.traffic_class);
            ip.set_flow_label(meta.flow_label & 0xf_ffff);
            ip.set_payload_len(u16::try_from(payload_len).expect("an IPv6 payload under 64 KiB"));
            ip.set_next_header(protocol.into());
            ip.set_hop_limit(meta.hop_limit);
            ip.set_src_addr(src);
            ip.set_dst_addr(dst);
        }
        (src, dst) => panic!("a packet from {src} to {dst}"),
    }
}

/// Computes the checksum of an IPv4 header and writes it, whatever was there.
pub(super) fn fill_ipv4_checksum(header: &mut [u8]) {
    let put = |header: &mut [u8], sum: u16| {
        if let Some(field) = header.get_mut(10..12) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
    };
    put(header, 0);
    let sum = match (&*header).try_into() {
        Ok(fixed) => ipv4_checksum(fixed),
        Err(_) => checksum(header),
    };
    put(header, sum);
}
