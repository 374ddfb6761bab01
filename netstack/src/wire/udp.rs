//! UDP headers (RFC 768, RFC 8200 §8.1).

use super::checksum::{ChecksumOffload, pseudo_header, transport_checksum_ok};
use super::header::HeaderBuf;
use super::ip::{IpMeta, emit_ip, ip_header_len};
use super::protocol;
use super::tcp::ChecksumMode;
use std::fmt;
use std::net::IpAddr;

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
#[cfg_attr(
    not(test),
    expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "it writes into a buffer that it has made for what it writes"
    )
)]
pub fn emit_udp(
    buf: &mut HeaderBuf,
    datagram: &UdpDatagram<'_>,
    checksum: ChecksumMode,
) -> Option<ChecksumOffload> {
    let UdpDatagram { ip, src_port, dst_port, payload } = *datagram;
    let ip_len = ip_header_len(&ip.dst);
    let udp_len = UDP_HEADER_LEN + payload.len();
    let header = buf.reset(ip_len + UDP_HEADER_LEN);
    let (ip_header, udp) = header.split_at_mut(ip_len);
    emit_ip(ip_header, ip, protocol::UDP, udp_len);
    udp[..2].copy_from_slice(&src_port.to_be_bytes());
    udp[2..4].copy_from_slice(&dst_port.to_be_bytes());
    // `emit_ip` has checked that it fits.
    udp[4..6].copy_from_slice(&(udp_len as u16).to_be_bytes());
    let mut sum = pseudo_header(ip.src, ip.dst, protocol::UDP, udp_len);
    let (field, offload) = match checksum {
        ChecksumMode::Offload => {
            let offload = ChecksumOffload { start: ip_len as u16, offset: CHECKSUM_OFFSET as u16 };
            (sum.partial(), Some(offload))
        }
        ChecksumMode::Full => {
            sum.add(udp);
            sum.add(payload);
            // RFC 768: zero means that there is no checksum, and all ones is the same sum.
            (Some(sum.finish()).filter(|sum| *sum != 0).unwrap_or(u16::MAX), None)
        }
    };
    udp[CHECKSUM_OFFSET..].copy_from_slice(&field.to_be_bytes());
    offload
}
