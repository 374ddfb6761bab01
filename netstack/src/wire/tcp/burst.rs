//! The segments of a super-segment for a device that does not cut: one header for all of them.

#![cfg_attr(
    not(test),
    expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "it changes headers that `emit_tcp` has written, at the places where that wrote them"
    )
)]

use super::emit::{ChecksumMode, TcpDatagram, emit_tcp};
use super::header::CHECKSUM_OFFSET;
use crate::wire::checksum::{ChecksumOffload, pseudo_header};
use crate::wire::header::HeaderBuf;
use crate::wire::ip::{IPV6_HEADER_LEN, fill_ipv4_checksum, ip_header_len};
use crate::wire::{Flags, protocol};
use std::net::IpAddr;

/// The headers of the segments of a super-segment, one after the other. They are written once; from one to the
/// next only lengths, numbers, flags and checksums change. As with a network card CWR stays with the first
/// segment, FIN and PSH with the last.
#[derive(Debug)]
pub struct Burst {
    header: HeaderBuf,
    ip_len: usize,
    src: IpAddr,
    dst: IpAddr,
    /// Of the first segment; `None` where identifications do not count, because nobody may fragment.
    ident: Option<u16>,
    seq: u32,
    flags: Flags,
    checksum: ChecksumMode,
    /// Payload bytes of a segment, and of all together.
    size: usize,
    total: usize,
}

impl Burst {
    /// The headers of the segments of `datagram`, which carry `size` bytes of payload each, and the last what
    /// is left.
    ///
    /// # Panics
    /// As [`emit_tcp`]; if `size` is 0.
    pub fn new(datagram: &TcpDatagram<'_>, size: usize, checksum: ChecksumMode) -> Self {
        assert!(size > 0, "segments without payload are no burst");
        let TcpDatagram { ip, segment, .. } = *datagram;
        let mut header = HeaderBuf::new();
        // The sum over the payload is taken of each segment.
        emit_tcp(&mut header, datagram, ChecksumMode::Offload);
        Self {
            header,
            ip_len: ip_header_len(&ip.dst),
            src: ip.src,
            dst: ip.dst,
            ident: (!ip.dont_fragment).then_some(ip.ident),
            seq: segment.seq.raw(),
            flags: segment.flags,
            checksum,
            size,
            total: segment.payload_len,
        }
    }

    /// How many segments there are.
    pub fn count(&self) -> usize {
        self.total.div_ceil(self.size).max(1)
    }

    /// Payload bytes of the segment with the number `n`.
    pub fn payload_len(&self, n: usize) -> usize {
        self.total.saturating_sub(n * self.size).min(self.size)
    }

    /// The headers of the segment with the number `n`, whose payload is `payload`.
    pub fn segment(&mut self, n: usize, payload: &[&[u8]]) -> (&[u8], Option<ChecksumOffload>) {
        let (last, len) = (n + 1 == self.count(), self.payload_len(n));
        let mut flags = self.flags;
        if n > 0 {
            flags = flags.without(Flags::CWR);
        }
        if !last {
            flags = flags.without(Flags::FIN.with(Flags::PSH));
        }
        let (ip, tcp) = self.header.bytes_mut().split_at_mut(self.ip_len);
        let tcp_len = tcp.len() + len;
        match self.dst {
            IpAddr::V4(_) => {
                ip[2..4].copy_from_slice(&((self.ip_len + tcp_len) as u16).to_be_bytes());
                if let Some(ident) = self.ident {
                    ip[4..6].copy_from_slice(&ident.wrapping_add(n as u16).to_be_bytes());
                }
                fill_ipv4_checksum(ip);
            }
            IpAddr::V6(_) => {
                let len = self.ip_len - IPV6_HEADER_LEN + tcp_len;
                ip[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            }
        }
        tcp[4..8].copy_from_slice(&self.seq.wrapping_add((n * self.size) as u32).to_be_bytes());
        tcp[13] = flags.bits() as u8;
        let mut sum = pseudo_header(self.src, self.dst, protocol::TCP, tcp_len);
        let (field, offload) = match self.checksum {
            ChecksumMode::Offload => {
                let offload = ChecksumOffload { start: self.ip_len as u16, offset: CHECKSUM_OFFSET as u16 };
                (sum.partial(), Some(offload))
            }
            ChecksumMode::Full => {
                tcp[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].fill(0);
                sum.add(tcp);
                payload.iter().for_each(|piece| sum.add(piece));
                (sum.finish(), None)
            }
        };
        tcp[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&field.to_be_bytes());
        (&self.header, offload)
    }
}
