//! The packets of a stream, whose headers repeat those of the one before but for a few fields.

use super::checksum::{Checksum, ipv4_checksum};
use super::tcp::{Flags, SeqNum, TCP_HEADER_LEN};
use super::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, protocol};

/// What a segment has of its own whose headers repeat those of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repetition {
    pub(crate) seq: SeqNum,
    pub(crate) flags: Flags,
    /// Zero without timestamps.
    pub(crate) tsval: u32,
}

/// Whether a TCP packet, from its IP header to its last byte, repeats `headers`, the IP and TCP header of a packet that
/// was found valid: both are between the same ends, with the same traffic class, hop limit, acknowledgment and window,
/// and both have the usual timestamps, with the same echo, or no options. Nothing is said of the sequence number, the
/// flags, the time and the length.
///
/// The packet is then valid, too: whole, no fragment, with correct checksums, if that of TCP is not `verified` already.
#[inline]
pub(crate) fn repeats(headers: &[u8], packet: &[u8], verified: bool) -> Option<Repetition> {
    match headers.first()? >> 4 {
        4 => {
            let (first, first_tcp) = headers.split_first_chunk()?;
            let (ip, tcp) = packet.split_first_chunk()?;
            let addresses = repeats_ipv4(first, ip, packet.len())?;
            repeats_tcp(first_tcp, tcp, (!verified).then_some(addresses))
        }
        6 => {
            let (first, first_tcp) = headers.split_first_chunk()?;
            let (ip, tcp) = packet.split_first_chunk()?;
            let addresses = repeats_ipv6(first, ip, packet.len())?;
            repeats_tcp(first_tcp, tcp, (!verified).then_some(addresses))
        }
        _ => None,
    }
}

/// The addresses of the packet, if its IP header repeats the first one.
#[inline]
fn repeats_ipv4<'p>(
    first: &[u8; IPV4_HEADER_LEN],
    ip: &'p [u8; IPV4_HEADER_LEN],
    len: usize,
) -> Option<&'p [u8]> {
    let &[version, class, _, _, _, _, _, _, hops, number, _, _, ref first_addresses @ ..] = first;
    let &[a, b, c, d, _, _, fragment, offset, e, f, _, _, ref addresses @ ..] = ip;
    let repeats = [a, b, e, f] == [version, class, hops, number]
        && (version, number) == (0x45, protocol::TCP)
        && addresses == first_addresses
        && usize::from(u16::from_be_bytes([c, d])) == len
        // Neither a part of a datagram nor followed by one.
        && (fragment & 0x3f) | offset == 0
        && ipv4_checksum(ip) == 0;
    repeats.then_some(addresses)
}

/// As [`repeats_ipv4`]. The flow label is nobody's to look at.
#[inline]
fn repeats_ipv6<'p>(
    first: &[u8; IPV6_HEADER_LEN],
    ip: &'p [u8; IPV6_HEADER_LEN],
    len: usize,
) -> Option<&'p [u8]> {
    const LABEL: u8 = 0x0f;
    let &[version, class, _, _, _, _, next, hops, ref first_addresses @ ..] = first;
    let &[a, b, _, _, c, d, e, f, ref addresses @ ..] = ip;
    let repeats = [a, b | LABEL, e, f] == [version, class | LABEL, next, hops]
        && next == protocol::TCP
        && addresses == first_addresses
        && usize::from(u16::from_be_bytes([c, d])).checked_add(IPV6_HEADER_LEN) == Some(len);
    repeats.then_some(addresses)
}

/// The same for a TCP segment, whose checksum is verified if the addresses for it are given.
#[inline]
fn repeats_tcp(first: &[u8], tcp: &[u8], addresses: Option<&[u8]>) -> Option<Repetition> {
    let (fixed, first_options) = first.split_first_chunk::<TCP_HEADER_LEN>()?;
    let &[p, q, r, s, _, _, _, _, first_ack @ .., length, _, v, w, _, _, _, _] = fixed;
    let first_ends = ([p, q, r, s], [v, w]);
    let (fixed, after) = tcp.split_first_chunk::<TCP_HEADER_LEN>()?;
    let &[p, q, r, s, a, b, c, d, ack @ .., offset, flags, v, w, _, _, _, _] = fixed;
    let options = after.get(..first_options.len())?;
    let same = ([p, q, r, s], [v, w]) == first_ends
        && ack == first_ack
        && offset >> 4 == length >> 4
        && usize::from(offset >> 4).checked_mul(4) == Some(first.len());
    let tsval = repeats_timestamps(first_options, options).filter(|_| same)?;
    if let Some(addresses) = addresses {
        let mut sum = Checksum::new();
        sum.add(addresses);
        sum.add_field(u16::try_from(tcp.len()).ok()?);
        sum.add_field(protocol::TCP.into());
        sum.add(tcp);
        if sum.finish() != 0 {
            return None;
        }
    }
    let seq = SeqNum::new(u32::from_be_bytes([a, b, c, d]));
    Some(Repetition { seq, flags: Flags::from_bits(u16::from_be_bytes([offset, flags])), tsval })
}

/// The time of a segment whose options repeat the first ones: timestamps as in RFC 7323 appendix A, or none.
#[inline]
fn repeats_timestamps(first: &[u8], options: &[u8]) -> Option<u32> {
    match (first, options) {
        ([], []) => Some(0),
        (&[1, 1, 8, 10, _, _, _, _, ref first_echo @ ..], &[1, 1, 8, 10, a, b, c, d, ref echo @ ..]) => {
            (echo.len() == 4 && echo == first_echo).then(|| u32::from_be_bytes([a, b, c, d]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        ChecksumMode, HeaderBuf, IpMeta, Options, Segment, TcpDatagram, Timestamps, emit_tcp, parse_ip,
        parse_ports, parse_tcp, tcp_checksum_ok,
    };
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn packet(
        v6: bool,
        timestamps: Option<Timestamps>,
        seq: u32,
        push: bool,
        text: &[u8],
    ) -> (usize, Vec<u8>) {
        let [src, dst]: [IpAddr; 2] = if v6 {
            ["fd00::1", "fd00::2"].map(|text| text.parse().unwrap())
        } else {
            ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap())
        };
        let flags = if push { Flags::ACK.with(Flags::PSH) } else { Flags::ACK };
        let segment = Segment {
            seq: SeqNum::new(seq),
            ack: SeqNum::new(7),
            flags,
            window: 500,
            urgent: 0,
            options: Options { timestamps, ..Options::default() },
            ecn: crate::wire::Ecn::NotEct,
            payload_len: text.len(),
            gso_size: None,
        };
        let mut header = HeaderBuf::new();
        let (ip, payload) = (IpMeta::new(src, dst, 64), [text]);
        let datagram =
            TcpDatagram { ip: &ip, src_port: 80, dst_port: 4000, segment: &segment, payload: &payload };
        emit_tcp(&mut header, &datagram, ChecksumMode::Full);
        (header.len(), [&header[..], text].concat())
    }

    fn times(tsval: u32) -> Timestamps {
        Timestamps { tsval, tsecr: 3 }
    }

    #[test]
    fn the_next_packet_of_a_stream_repeats_the_headers() {
        for v6 in [false, true] {
            for timestamps in [false, true] {
                let of = |tsval| timestamps.then_some(times(tsval));
                let (headers, first) = packet(v6, of(1), 100, false, &[1; 1000]);
                let (_, next) = packet(v6, of(2), 1100, true, &[2; 999]);
                let expected = Repetition {
                    seq: SeqNum::new(1100),
                    flags: Flags::ACK.with(Flags::PSH),
                    tsval: of(2).map_or(0, |option| option.tsval),
                };
                assert_eq!(repeats(&first[..headers], &next, false), Some(expected), "{v6} {timestamps}");
                let mut broken = next;
                *broken.last_mut().unwrap() ^= 1;
                assert_eq!(repeats(&first[..headers], &broken, false), None);
                assert_eq!(repeats(&first[..headers], &broken, true), Some(expected), "it was verified");
            }
        }
    }

    proptest! {
        /// Whatever is taken for a repetition is one by the long way, too.
        #[test]
        fn a_repetition_is_a_valid_packet_with_the_same_headers(
            v6: bool,
            timestamps: bool,
            verified: bool,
            changes in proptest::collection::vec((0usize..80, any::<u8>()), 0..3),
            mend: bool,
            cut in 0usize..4,
        ) {
            let of = |tsval| timestamps.then_some(times(tsval));
            let (headers, first) = packet(v6, of(1), 100, false, &[1; 40]);
            let (_, mut next) = packet(v6, of(2), 140, false, &[2; 33]);
            for (place, byte) in changes {
                if let Some(at) = next.get_mut(place) {
                    *at = byte;
                }
            }
            if mend && !v6 && next.len() > 20 {
                // So that not every change is found by the checksum of the IP header.
                next[10..12].fill(0);
                let sum = crate::wire::checksum(&next[..20]);
                next[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            next.truncate(next.len() - cut);
            if let Some(found) = repeats(&first[..headers], &next, verified) {
                let (one, ip) = (parse_ip(&first).unwrap(), parse_ip(&next).unwrap());
                prop_assert_eq!(ip.payload.end, next.len());
                prop_assert_eq!(ip.payload.start, one.payload.start);
                prop_assert_eq!((ip.src, ip.dst, ip.protocol), (one.src, one.dst, one.protocol));
                prop_assert_eq!((ip.hop_limit, ip.traffic_class), (one.hop_limit, one.traffic_class));
                prop_assert_eq!(ip.fragment, None);
                let (bytes, first) = (&next[ip.payload.clone()], &first[one.payload]);
                prop_assert!(verified || tcp_checksum_ok(ip.src, ip.dst, bytes));
                prop_assert_eq!(parse_ports(bytes), parse_ports(first));
                let (segment, data) = parse_tcp(bytes).unwrap();
                let (first, _) = parse_tcp(first).unwrap();
                prop_assert_eq!(ip.payload.start + data, headers);
                prop_assert_eq!((segment.ack, segment.window), (first.ack, first.window));
                prop_assert!(segment.options.has_only_timestamps());
                let echo = |of: &Segment| of.options.timestamps.map(|option| option.tsecr);
                prop_assert_eq!(echo(&segment), echo(&first));
                let tsval = segment.options.timestamps.map_or(0, |option| option.tsval);
                prop_assert_eq!(found, Repetition { seq: segment.seq, flags: segment.flags, tsval });
            }
        }
    }
}
