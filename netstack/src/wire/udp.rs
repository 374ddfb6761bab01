//! UDP headers (RFC 768, RFC 8200 §8.1).

use super::checksum::{Checksum, ChecksumOffload, ipv4_sum, pseudo_header, transport_checksum_ok};
use super::header::HeaderBuf;
use super::ip::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpMeta, emit_ip, ip_header_len};
use super::protocol;
use super::tcp::ChecksumMode;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

/// Bytes of a UDP header.
pub const UDP_HEADER_LEN: usize = 8;

/// Where in the header the checksum is.
pub(super) const CHECKSUM_OFFSET: usize = 6;

/// The fields of a UDP header, without the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpHeader {
    /// Source port; 0 if the sender expects no answer.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes of payload.
    pub payload_len: usize,
}

/// Why a UDP datagram is malformed. Such datagrams are dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpHeaderError {
    /// Shorter than a header.
    Truncated,
    /// The length field is smaller than the header or larger than the packet.
    Length,
}

impl fmt::Display for UdpHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "datagram shorter than a UDP header",
            Self::Length => "bad UDP length",
        })
    }
}

impl std::error::Error for UdpHeaderError {}

/// Reads the UDP header at the front of `bytes`, which is the payload of an IP packet. The datagram's
/// payload follows after [`UDP_HEADER_LEN`] bytes, and what is behind that is padding.
///
/// # Errors
/// If the datagram has to be dropped as malformed. That includes a length of 0, which only a jumbogram
/// may have (RFC 2675 §4).
pub fn parse_udp(bytes: &[u8]) -> Result<UdpHeader, UdpHeaderError> {
    let &[s1, s0, d1, d0, l1, l0, _, _] = bytes.first_chunk().ok_or(UdpHeaderError::Truncated)?;
    let len = usize::from(u16::from_be_bytes([l1, l0]));
    let payload_len = len.checked_sub(UDP_HEADER_LEN).filter(|_| len <= bytes.len());
    Ok(UdpHeader {
        src_port: u16::from_be_bytes([s1, s0]),
        dst_port: u16::from_be_bytes([d1, d0]),
        payload_len: payload_len.ok_or(UdpHeaderError::Length)?,
    })
}

/// Whether the checksum of a UDP datagram, which has no padding behind it, is correct. Over IPv4 it may
/// be left out (RFC 768); over IPv6 it may not (RFC 8200 §8.1).
#[inline]
pub fn udp_checksum_ok(src: IpAddr, dst: IpAddr, bytes: &[u8]) -> bool {
    match bytes.get(CHECKSUM_OFFSET..UDP_HEADER_LEN) {
        Some([0, 0]) => src.is_ipv4(),
        Some(_) => transport_checksum_ok(src, dst, protocol::UDP, bytes),
        None => false,
    }
}

/// A datagram to send, with all fields of its packet's headers.
#[derive(Clone, Copy, Debug)]
pub struct UdpDatagram<'a> {
    /// The IP header.
    pub ip: &'a IpMeta,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The payload.
    pub payload: &'a [u8],
}

/// Writes the IP and UDP headers of a datagram. The result is for
/// [`TxPacket::checksum`](crate::device::TxPacket::checksum).
///
/// # Panics
/// If the addresses are of different families or the packet is longer than 64 KiB.
pub fn emit_udp(
    buf: &mut HeaderBuf,
    datagram: &UdpDatagram<'_>,
    checksum: ChecksumMode,
) -> Option<ChecksumOffload> {
    let UdpDatagram { ip, src_port, dst_port, payload } = *datagram;
    let mut headers = UdpHeaders::new(ip, src_port, dst_port);
    let offload = headers.fill(payload, ip.ident, checksum);
    buf.reset(headers.len()).copy_from_slice(&headers);
    offload
}

/// The headers of datagrams that are alike but for the payload: what is the same in all is written and summed
/// once.
#[derive(Clone, Debug)]
pub struct UdpHeaders {
    bytes: [u8; IPV6_HEADER_LEN + UDP_HEADER_LEN],
    is_ipv4: bool,
    /// Of the IPv4 header without length, identification and checksum.
    ip_sum: Checksum,
    /// Of the pseudo-header without length.
    pseudo: Checksum,
}

#[cfg_attr(
    not(test),
    expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "it writes fields at fixed places of an array that has them"
    )
)]
impl UdpHeaders {
    /// Headers that [`UdpHeaders::fill`] makes those of a datagram.
    ///
    /// # Panics
    /// If the addresses are of different families.
    pub fn new(ip: &IpMeta, src_port: u16, dst_port: u16) -> Self {
        let mut bytes = [0; IPV6_HEADER_LEN + UDP_HEADER_LEN];
        let ip_len = ip_header_len(&ip.dst);
        emit_ip(&mut bytes[..ip_len], ip, protocol::UDP, 0);
        let is_ipv4 = ip.dst.is_ipv4();
        let mut ip_sum = Checksum::new();
        if is_ipv4 {
            bytes[2..6].fill(0);
            bytes[10..12].fill(0);
            ip_sum = bytes.first_chunk().map_or(ip_sum, ipv4_sum);
        }
        bytes[ip_len..][..2].copy_from_slice(&src_port.to_be_bytes());
        bytes[ip_len..][2..4].copy_from_slice(&dst_port.to_be_bytes());
        Self { bytes, is_ipv4, ip_sum, pseudo: pseudo_header(ip.src, ip.dst, protocol::UDP, 0) }
    }

    /// Writes what depends on the payload. The identification is that of an IPv4 packet. The result is for
    /// [`TxPacket::checksum`](crate::device::TxPacket::checksum).
    ///
    /// # Panics
    /// If the packet is longer than 64 KiB.
    #[inline]
    pub fn fill(&mut self, payload: &[u8], ident: u16, checksum: ChecksumMode) -> Option<ChecksumOffload> {
        let len = UDP_HEADER_LEN + payload.len();
        let udp_len = u16::try_from(len).expect("a datagram under 64 KiB");
        let ip_len = self.ip_len();
        if self.is_ipv4 {
            let total = u16::try_from(len + IPV4_HEADER_LEN).expect("an IPv4 packet under 64 KiB");
            let mut sum = self.ip_sum;
            sum.add_field(total);
            sum.add_field(ident);
            self.bytes[2..4].copy_from_slice(&total.to_be_bytes());
            self.bytes[4..6].copy_from_slice(&ident.to_be_bytes());
            self.bytes[10..12].copy_from_slice(&sum.finish().to_be_bytes());
        } else {
            self.bytes[4..6].copy_from_slice(&udp_len.to_be_bytes());
        }
        let udp = &mut self.bytes[ip_len..ip_len + UDP_HEADER_LEN];
        udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
        let mut sum = self.pseudo;
        sum.add_field(udp_len);
        let (field, offload) = match checksum {
            ChecksumMode::Offload => {
                let offload = ChecksumOffload { start: ip_len as u16, offset: CHECKSUM_OFFSET as u16 };
                (sum.partial(), Some(offload))
            }
            ChecksumMode::Full => {
                sum.add(&udp[..CHECKSUM_OFFSET]);
                sum.add(payload);
                // RFC 768: zero means that there is no checksum, and all ones is the same sum.
                (Some(sum.finish()).filter(|sum| *sum != 0).unwrap_or(u16::MAX), None)
            }
        };
        udp[CHECKSUM_OFFSET..].copy_from_slice(&field.to_be_bytes());
        offload
    }

    #[inline]
    fn ip_len(&self) -> usize {
        if self.is_ipv4 { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN }
    }
}

impl Deref for UdpHeaders {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.ip_len().saturating_add(UDP_HEADER_LEN)).unwrap_or_default()
    }
}
