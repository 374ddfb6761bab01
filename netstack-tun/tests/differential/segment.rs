//! TCP segments in IP packets: what the peer sends, with whatever is wrong with it, and what the host answers.

use crate::system::Flow;
use std::fmt;
use std::net::IpAddr;

pub(crate) const FIN: u16 = 0x001;
pub(crate) const SYN: u16 = 0x002;
pub(crate) const RST: u16 = 0x004;
pub(crate) const PSH: u16 = 0x008;
pub(crate) const ACK: u16 = 0x010;
pub(crate) const URG: u16 = 0x020;
pub(crate) const ECE: u16 = 0x040;
pub(crate) const CWR: u16 = 0x080;
pub(crate) const AE: u16 = 0x100;
/// The bits between the data offset and AE, which nobody has defined.
pub(crate) const RESERVED: u16 = 0xe00;

/// The most bytes that the options of a segment have.
pub(crate) const OPTIONS: usize = 40;

const TCP: u8 = 6;
const HEADER: usize = 20;

/// What is wrong with the form of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Nothing,
    /// One bit of the checksum.
    Checksum,
    /// The data offset, in words.
    Offset(u8),
    /// The packet ends after so many bytes of the segment, and its IP header says so.
    Cut(usize),
}

/// A segment to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// The twelve bits after the data offset.
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    /// At most 40 bytes; padded with zeros.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    /// The ECN field of the IP header.
    pub(crate) ecn: u8,
    pub(crate) fault: Fault,
}

impl Outgoing {
    /// Sequence numbers that it takes.
    pub(crate) fn len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0)
    }

    /// Whether an option has a length that cannot be.
    pub(crate) fn has_broken_options(&self) -> bool {
        let mut rest = &self.options[..];
        while let Some((&kind, after)) = rest.split_first() {
            match (kind, after.first()) {
                (0, _) => return false,
                (1, _) => rest = after,
                (_, Some(&len)) if (2..=rest.len()).contains(&len.into()) => rest = &rest[len.into()..],
                _ => return true,
            }
        }
        matches!(self.fault, Fault::Offset(_))
    }

    /// The packet.
    pub(crate) fn packet(&self, flow: &Flow) -> Vec<u8> {
        let mut options = self.options.clone();
        options.truncate(OPTIONS);
        options.resize(options.len().next_multiple_of(4), 0);
        let words = match self.fault {
            Fault::Offset(words) => u16::from(words),
            _ => ((HEADER + options.len()) / 4) as u16,
        };
        let mut tcp = Vec::new();
        tcp.extend(flow.peer.port().to_be_bytes());
        tcp.extend(flow.host.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend((words << 12 | (self.flags & 0xfff)).to_be_bytes());
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0, 0]);
        tcp.extend(self.urgent.to_be_bytes());
        tcp.extend(options);
        tcp.extend(&self.payload);
        if let Fault::Cut(len) = self.fault {
            tcp.truncate(len);
        }
        let mut checksum = !sum(&[&pseudo_header(flow.peer.ip(), flow.host.ip(), tcp.len()), &tcp]);
        if self.fault == Fault::Checksum {
            checksum ^= 0x0400;
        }
        if let Some(field) = tcp.get_mut(16..18) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
        let mut packet = ip_header(flow.peer.ip(), flow.host.ip(), tcp.len(), self.ecn);
        packet.extend(tcp);
        packet
    }
}

/// A packet of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Tcp(Segment),
    /// Something else: its bytes.
    Other(Vec<u8>),
}

/// A segment of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    /// Kinds and bodies, in order; NOPs and the end have no body.
    pub(crate) options: Vec<(u8, Vec<u8>)>,
    pub(crate) payload: Vec<u8>,
    pub(crate) ip: IpFields,
}

/// What the IP header of a packet of the host says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IpFields {
    pub(crate) traffic_class: u8,
    pub(crate) hop_limit: u8,
    pub(crate) dont_fragment: bool,
}

impl Segment {
    pub(crate) fn is(&self, flags: u16) -> bool {
        self.flags & flags == flags
    }

    /// Sequence numbers that it takes.
    pub(crate) fn len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.is(SYN)) + u32::from(self.is(FIN))
    }

    /// The body of an option.
    pub(crate) fn option(&self, kind: u8) -> Option<&[u8]> {
        self.options.iter().find(|(of, _)| *of == kind).map(|(_, body)| &body[..])
    }

    /// The timestamps.
    pub(crate) fn timestamps(&self) -> Option<(u32, u32)> {
        let body = self.option(8)?;
        let word = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"));
        Some((word(0), word(4)))
    }
}

impl Incoming {
    /// Reads a packet.
    ///
    /// # Panics
    /// If it is TCP and not sound.
    pub(crate) fn parse(packet: &[u8]) -> Self {
        let (header, protocol, from, to, ip) = match packet[0] >> 4 {
            4 => (
                usize::from(packet[0] & 15) * 4,
                packet[9],
                v4(&packet[12..16]),
                v4(&packet[16..20]),
                IpFields {
                    traffic_class: packet[1],
                    hop_limit: packet[8],
                    dont_fragment: packet[6] & 0x40 != 0,
                },
            ),
            _ => (
                40,
                packet[6],
                v6(&packet[8..24]),
                v6(&packet[24..40]),
                IpFields {
                    traffic_class: packet[0] << 4 | packet[1] >> 4,
                    hop_limit: packet[7],
                    dont_fragment: true,
                },
            ),
        };
        if protocol != TCP {
            return Self::Other(packet[header..].to_vec());
        }
        let tcp = &packet[header..];
        assert_eq!(sum(&[&pseudo_header(from, to, tcp.len()), tcp]), 0xffff, "the host's checksum is wrong");
        let short = |at: usize| u16::from_be_bytes(tcp[at..at + 2].try_into().expect("two bytes"));
        let word = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().expect("four bytes"));
        let data = usize::from(tcp[12] >> 4) * 4;
        Self::Tcp(Segment {
            flags: short(12) & 0xfff,
            seq: word(4),
            ack: word(8),
            window: short(14),
            urgent: short(18),
            options: options(&tcp[HEADER..data]),
            payload: tcp[data..].to_vec(),
            ip,
        })
    }
}

fn options(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut options = Vec::new();
    while let Some((&kind, rest)) = bytes.split_first() {
        if kind < 2 {
            options.push((kind, Vec::new()));
            bytes = rest;
            continue;
        }
        let len = usize::from(rest[0]);
        options.push((kind, bytes[2..len].to_vec()));
        bytes = &bytes[len..];
    }
    options
}

/// Flags by their names.
pub(crate) struct Names(pub(crate) u16);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (SYN, "SYN"),
            (FIN, "FIN"),
            (RST, "RST"),
            (PSH, "PSH"),
            (ACK, "ACK"),
            (URG, "URG"),
            (ECE, "ECE"),
            (CWR, "CWR"),
            (AE, "AE"),
            (0x200, "R9"),
            (0x400, "R10"),
            (0x800, "R11"),
        ];
        let set: Vec<&str> =
            names.iter().filter(|(flag, _)| self.0 & flag != 0).map(|(_, name)| *name).collect();
        f.pad(&if set.is_empty() { "-".to_owned() } else { set.join("|") })
    }
}

/// The Internet checksum (RFC 1071), not complemented.
fn sum(pieces: &[&[u8]]) -> u16 {
    let mut total: u64 = 0;
    for piece in pieces {
        for pair in piece.chunks(2) {
            total += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn v4(bytes: &[u8]) -> IpAddr {
    <[u8; 4]>::try_from(bytes).expect("four bytes").into()
}

fn v6(bytes: &[u8]) -> IpAddr {
    <[u8; 16]>::try_from(bytes).expect("sixteen bytes").into()
}

fn pseudo_header(from: IpAddr, to: IpAddr, len: usize) -> Vec<u8> {
    [&octets(from)[..], &octets(to), &(len as u32).to_be_bytes(), &[0, 0, 0, TCP]].concat()
}

/// An IP header for `len` bytes.
fn ip_header(from: IpAddr, to: IpAddr, len: usize, ecn: u8) -> Vec<u8> {
    if from.is_ipv4() {
        let total = (len + 20) as u16;
        let mut header = vec![0x45, ecn, 0, 0, 0, 0, 0x40, 0, 64, TCP, 0, 0];
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header.extend(octets(from));
        header.extend(octets(to));
        let checksum = !sum(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    } else {
        let mut header = vec![0x60, ecn << 4, 0, 0, 0, 0, TCP, 64];
        header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        header.extend(octets(from));
        header.extend(octets(to));
        header
    }
}
