//! The virtio-net header that precedes each packet of a TUN device with `IFF_VNET_HDR`: `struct
//! virtio_net_hdr` of Linux's `virtio_net.h`, in its legacy form of 10 bytes in native byte order.

use netstack::device::{RxMeta, TxPacket};
use std::io;

/// Bytes of the header.
pub(crate) const HEADER_LEN: usize = 10;

/// The checksum from `csum_start` on is to be completed.
const F_NEEDS_CSUM: u8 = 1;
/// The checksum was verified.
const F_DATA_VALID: u8 = 2;

#[cfg(test)]
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
/// UDP over either version of IP, divided into datagrams and not into fragments.
const GSO_UDP_L4: u8 = 5;
/// Can be combined with each GSO type: the packet has CWR set.
const GSO_ECN: u8 = 0x80;

/// The header for a packet to send.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for a super-segment whose checksum is complete (the kernel has to
/// write one for each segment) or that is neither IPv4 nor IPv6.
pub(crate) fn encode(packet: &TxPacket<'_>) -> io::Result<[u8; HEADER_LEN]> {
    let mut header = [0; HEADER_LEN];
    let Some(checksum) = packet.checksum else {
        if packet.gso.is_some() {
            return Err(invalid("a super-segment needs its checksum left to the TUN device"));
        }
        return Ok(header);
    };
    header[0] = F_NEEDS_CSUM;
    header[6..8].copy_from_slice(&checksum.start.to_ne_bytes());
    header[8..10].copy_from_slice(&checksum.offset.to_ne_bytes());
    if let Some(gso) = packet.gso {
        header[1] = match packet.header.first().map(|byte| byte >> 4) {
            Some(4 | 6) if checksum.is_udp() => GSO_UDP_L4,
            Some(4) => GSO_TCPV4,
            Some(6) => GSO_TCPV6,
            _ => return Err(invalid("a super-segment that is neither IPv4 nor IPv6")),
        };
        // With the header length, the kernel puts only the header into the linear part of its
        // buffer, and the payload into pages, so that it need not allocate 64 KiB in one piece.
        header[2..4].copy_from_slice(&gso.header_len.to_ne_bytes());
        header[4..6].copy_from_slice(&gso.size.to_ne_bytes());
    }
    Ok(header)
}

/// The metadata of a received packet of `len` bytes from its header.
pub(crate) fn decode(header: &[u8; HEADER_LEN], len: usize) -> RxMeta {
    let &[flags, gso_type, _, _, size0, size1, ..] = header;
    let gso_size = match gso_type & !GSO_ECN {
        GSO_TCPV4 | GSO_TCPV6 | GSO_UDP_L4 => {
            Some(u16::from_ne_bytes([size0, size1])).filter(|&size| size > 0)
        }
        // The kernel segments other kinds itself unless TUNSETOFFLOAD enables them.
        _ => None,
    };
    RxMeta { len, checksum_verified: flags & (F_NEEDS_CSUM | F_DATA_VALID) != 0, gso_size }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netstack::wire::{ChecksumOffload, Gso};

    const V4: [u8; 40] = {
        let mut header = [0; 40];
        header[0] = 0x45;
        header
    };

    fn packet(checksum: bool, gso: bool) -> TxPacket<'static> {
        TxPacket {
            header: &V4,
            checksum: checksum.then_some(ChecksumOffload { start: 20, offset: 16 }),
            gso: gso.then_some(Gso { size: 1460, header_len: 40 }),
            ..TxPacket::default()
        }
    }

    #[test]
    fn a_plain_packet_has_an_empty_header() {
        assert_eq!(encode(&packet(false, false)).unwrap(), [0; HEADER_LEN]);
    }

    #[test]
    fn a_super_segment_says_where_to_cut_and_to_sum() {
        let [flags, kind, rest @ ..] = encode(&packet(true, true)).unwrap();
        assert_eq!((flags, kind), (F_NEEDS_CSUM, GSO_TCPV4));
        let fields: Vec<u16> =
            rest.chunks(2).map(|pair| u16::from_ne_bytes(pair.try_into().unwrap())).collect();
        assert_eq!(fields, [40, 1460, 20, 16]);
    }

    #[test]
    fn the_version_of_a_super_segment_is_that_of_its_header() {
        let v6 = [0x60; 60];
        let packet6 = TxPacket { header: &v6, ..packet(true, true) };
        assert_eq!(encode(&packet6).unwrap()[1], GSO_TCPV6);
        let bad = TxPacket { header: &[], ..packet6 };
        assert_eq!(encode(&bad).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn datagrams_are_told_from_segments_by_their_checksum() {
        for header in [&V4[..28], &[0x60; 48]] {
            let checksum = Some(ChecksumOffload { start: header.len() as u16 - 8, offset: 6 });
            let gso = Some(Gso { size: 1200, header_len: header.len() as u16 });
            let datagrams = TxPacket { header, checksum, gso, ..TxPacket::default() };
            assert_eq!(encode(&datagrams).unwrap()[1], GSO_UDP_L4);
        }
    }

    #[test]
    fn a_super_segment_with_a_complete_checksum_is_refused() {
        assert_eq!(encode(&packet(false, true)).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn received_headers() {
        let meta = |flags, kind, size: u16| {
            let [s0, s1] = size.to_ne_bytes();
            decode(&[flags, kind, 0, 0, s0, s1, 0, 0, 0, 0], 99)
        };
        let expect = |checksum_verified, gso_size| RxMeta { len: 99, checksum_verified, gso_size };
        assert_eq!(meta(0, GSO_NONE, 0), expect(false, None));
        assert_eq!(meta(F_DATA_VALID, GSO_NONE, 7), expect(true, None));
        assert_eq!(meta(F_NEEDS_CSUM, GSO_TCPV4, 1448), expect(true, Some(1448)));
        assert_eq!(meta(F_NEEDS_CSUM, GSO_TCPV6 | GSO_ECN, 1428), expect(true, Some(1428)));
        assert_eq!(meta(F_NEEDS_CSUM, GSO_TCPV4, 0), expect(true, None));
        assert_eq!(meta(F_NEEDS_CSUM, GSO_UDP_L4, 1400), expect(true, Some(1400)));
        assert_eq!(meta(0, 3, 1400), expect(false, None), "UDP in fragments is not enabled");
    }
}
