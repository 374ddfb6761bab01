//! A recorded packet as the ladder shows it and as claims check it: numbers relative to the initial
//! sequence numbers, the window in bytes, and options as text.

use super::Side;
use super::connections::{Connections, SPAN};
use super::recording::Packet;
use netstack::wire::{
    Flags, Segment, SeqNum, TCP_HEADER_LEN, parse_ip, parse_tcp, protocol, tcp_checksum_ok,
};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

/// A segment of the scene.
#[derive(Clone, Debug)]
pub struct Seg {
    /// The side that sent it, or appears to have sent it.
    pub from: Side,
    /// When it left, since the beginning of the scene.
    pub sent: Duration,
    /// When it arrived, if it did.
    pub arrived: Option<Duration>,
    /// The wire lost it.
    pub lost: bool,
    /// The experiment put it on the wire.
    pub forged: bool,
    /// Its addresses and ports.
    pub src: SocketAddr,
    /// Where it goes.
    pub dst: SocketAddr,
    /// The connection that it belongs to, counted from 0 in the order in which they began.
    pub connection: usize,
    /// Sequence number, relative to the sender's initial one.
    pub seq: u32,
    /// Acknowledgment number, relative to the other side's initial sequence number; 0 without ACK.
    pub ack: u32,
    /// Whether `seq` and `ack` count from the numbers of an earlier connection of the same pair.
    pub old: (bool, bool),
    /// The window in bytes, scaled as negotiated.
    pub window: u32,
    /// The header as it is on the wire.
    pub header: Segment,
    /// The payload.
    pub payload: Vec<u8>,
    /// Whether the TCP checksum is correct.
    pub checksum_ok: bool,
    /// The options as text.
    pub options: String,
}

impl Seg {
    /// Payload bytes.
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Whether there is no payload.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    /// Whether these are its flags, ignoring PSH.
    pub fn is(&self, flags: &str) -> bool {
        self.flags() == flags
    }

    /// The flags that matter to the numbers, in the order SYN, FIN, RST, ACK: `SYN,ACK`.
    pub fn flags(&self) -> String {
        let bits = self.header.flags.bits() & !Flags::PSH.bits();
        format!("{:?}", Flags::from_bits(bits))
    }

    /// Flags and relative numbers, as the texts of the tour write them: `FIN,ACK 20/1`.
    pub fn numbers(&self) -> String {
        format!("{} {}/{}", self.flags(), self.seq, self.ack)
    }
}

/// The label of the segment's arrow.
impl fmt::Display for Seg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let old = |old| if old { "old " } else { "" };
        write!(f, "{:?} seq {}{}", self.header.flags, old(self.old.0), self.seq)?;
        if !self.is_empty() {
            write!(f, ":{} ({})", self.seq.wrapping_add(self.len() as u32), self.len())?;
        }
        if self.header.is_ack() {
            write!(f, " ack {}{}", old(self.old.1), self.ack)?;
        }
        if !self.header.is_rst() {
            write!(f, " win {}", self.window)?;
        }
        if !self.options.is_empty() {
            write!(f, " <{}>", self.options)?;
        }
        if !self.checksum_ok {
            f.write_str(" BAD CHECKSUM")?;
        }
        Ok(())
    }
}

/// The segments of a scene in the order in which they left.
#[derive(Clone, Debug, Default)]
pub struct Segs(Vec<Seg>);

impl Deref for Segs {
    type Target = [Seg];
    fn deref(&self) -> &[Seg] {
        &self.0
    }
}

impl Segs {
    /// Those that `side` sent, and no forged ones.
    pub fn from(&self, side: Side) -> Self {
        Self(self.0.iter().filter(|seg| seg.from == side && !seg.forged).cloned().collect())
    }

    /// Those that left at `time` or later.
    pub fn since(&self, time: Duration) -> Self {
        Self(self.0.iter().filter(|seg| seg.sent >= time).cloned().collect())
    }

    /// Those from the segment with this index on.
    pub fn since_index(&self, index: usize) -> Self {
        Self(self.0.iter().skip(index).cloned().collect())
    }

    /// Those for which `keep` holds.
    pub fn filter(&self, keep: impl Fn(&Seg) -> bool) -> Self {
        Self(self.0.iter().filter(|seg| keep(seg)).cloned().collect())
    }

    /// Flags and numbers of each with its sender: `> SYN 0/0`, `< SYN,ACK 0/1`.
    pub fn numbers(&self) -> Vec<String> {
        let line = |seg: &Seg| {
            let arrow = if seg.from == Side::Left { '>' } else { '<' };
            let len = if seg.is_empty() { String::new() } else { format!(" {} B", seg.len()) };
            format!("{arrow} {}{len}", seg.numbers())
        };
        self.0.iter().map(line).collect()
    }
}

/// The bases of relative numbers, for one direction of one pair of addresses.
#[derive(Default)]
struct Bases {
    /// Initial sequence numbers, the latest last.
    isns: Vec<SeqNum>,
}

impl Bases {
    /// `number` relative to the latest base that it can belong to, and whether that is an old one.
    fn relative(&self, number: SeqNum) -> (u32, bool) {
        for (age, base) in self.isns.iter().rev().enumerate() {
            let distance = number - *base;
            if distance < SPAN {
                return (distance, age > 0);
            }
        }
        (number.raw(), false)
    }
}

/// What was on the wire.
pub(super) struct Traffic {
    pub(super) segs: Segs,
    /// From the index of each packet to its segment.
    pub(super) by_packet: HashMap<usize, usize>,
    pub(super) connections: Connections,
}

/// Reads the recorded packets. Packets other than TCP are ignored.
pub(super) fn read(packets: &[Packet]) -> Traffic {
    let mut reader = Reader::default();
    let mut segs = Vec::new();
    let mut by_packet = HashMap::new();
    for (number, packet) in packets.iter().enumerate() {
        if let Some(seg) = reader.read(packet) {
            by_packet.insert(number, segs.len());
            segs.push(seg);
        }
    }
    Traffic { segs: Segs(segs), by_packet, connections: reader.connections }
}

/// One direction of a connection. On a loopback both sides may have the same addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Direction {
    from: Side,
    src: SocketAddr,
    dst: SocketAddr,
}

#[derive(Default)]
struct Reader {
    connections: Connections,
    bases: HashMap<Direction, Bases>,
    /// The shift that a SYN offered, by direction.
    shifts: HashMap<Direction, Option<u8>>,
    /// The first timestamp of each direction.
    clocks: HashMap<Direction, u32>,
}

impl Reader {
    fn read(&mut self, packet: &Packet) -> Option<Seg> {
        let ip = parse_ip(&packet.bytes).ok()?;
        if ip.protocol != protocol::TCP {
            return None;
        }
        let bytes = &packet.bytes[ip.payload.clone()];
        let (header, data) = parse_tcp(bytes).ok()?;
        let [src_port, dst_port] = [0, 2].map(|at| u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        let (src, dst) = (SocketAddr::new(ip.src, src_port), SocketAddr::new(ip.dst, dst_port));
        // On a loopback one host is both sides, and a socket may even be its own peer.
        let self_connected = src == dst;
        let to = if self_connected { packet.from } else { packet.from.other() };
        let here = Direction { from: packet.from, src, dst };
        let there = Direction { from: to, src: dst, dst: src };

        let connection = self.connections.of(src, dst, &header, packet.forged);
        self.learn(here, &header);
        let (seq, seq_old) = self.relative(here, header.seq);
        let (ack, ack_old) = if header.is_ack() { self.relative(there, header.ack) } else { (0, false) };
        Some(Seg {
            from: packet.from,
            sent: packet.sent,
            arrived: packet.arrived,
            lost: packet.lost,
            forged: packet.forged,
            src,
            dst,
            connection,
            seq,
            ack,
            old: (seq_old, ack_old),
            window: self.window(here, there, &header),
            options: self.options(here, there, &header, &bytes[TCP_HEADER_LEN..data]),
            payload: bytes[data..].to_vec(),
            checksum_ok: tcp_checksum_ok(ip.src, ip.dst, bytes),
            header,
        })
    }

    /// Takes the initial number of a sender from a SYN, or from the first segment if there is no
    /// SYN.
    fn learn(&mut self, here: Direction, header: &Segment) {
        let bases = self.bases.entry(here).or_default();
        let begins = header.is_syn() && bases.isns.last() != Some(&header.seq);
        // A reset with the number 0 answers a SYN and has no numbers of its own.
        let stray = header.is_rst() && header.seq.raw() == 0;
        if begins || (bases.isns.is_empty() && !stray) {
            bases.isns.push(header.seq);
        }
        if header.is_syn() {
            self.shifts.insert(here, header.options.window_scale);
        }
        if let Some(timestamps) = header.options.timestamps {
            self.clocks.entry(here).or_insert(timestamps.tsval);
        }
    }

    fn relative(&self, direction: Direction, number: SeqNum) -> (u32, bool) {
        self.bases.get(&direction).map_or((number.raw(), false), |bases| bases.relative(number))
    }

    /// RFC 7323 §2.2: the window of a SYN is never scaled, and scaling takes both sides.
    fn window(&self, here: Direction, there: Direction, header: &Segment) -> u32 {
        let shift = |direction| self.shifts.get(&direction).copied().flatten();
        let scale = match (shift(here), shift(there)) {
            (Some(mine), Some(_)) if !header.is_syn() => mine.min(14),
            _ => 0,
        };
        u32::from(header.window) << scale
    }

    fn options(&self, here: Direction, there: Direction, header: &Segment, bytes: &[u8]) -> String {
        let mut words = Vec::new();
        for (kind, body) in options(bytes) {
            let word = match (kind, body) {
                (2, &[a, b]) => format!("mss {}", u16::from_be_bytes([a, b])),
                (3, &[shift]) => format!("ws {shift}"),
                (4, []) => "sackOK".to_owned(),
                (5, blocks) => self.sack(there, blocks),
                (8, body) if body.len() == 8 => self.timestamps(here, there, header),
                (34, []) => "TFO cookie request".to_owned(),
                (34, cookie) => {
                    let hex: String = cookie.iter().map(|byte| format!("{byte:02x}")).collect();
                    format!("TFO cookie {hex}")
                }
                (kind, body) => format!("option {kind} of {} B", body.len() + 2),
            };
            words.push(word);
        }
        words.join(", ")
    }

    fn sack(&self, there: Direction, blocks: &[u8]) -> String {
        let number = |bytes: &[u8]| {
            let raw = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            self.relative(there, SeqNum::new(raw)).0
        };
        let (blocks, _) = blocks.as_chunks::<8>();
        let blocks: Vec<_> =
            blocks.iter().map(|block| format!("{}:{}", number(&block[..4]), number(&block[4..]))).collect();
        format!("sack {}", blocks.join(" "))
    }

    /// Relative to the first timestamp of each side, in milliseconds as both stacks count them.
    fn timestamps(&self, here: Direction, there: Direction, header: &Segment) -> String {
        let Some(timestamps) = header.options.timestamps else { return "TS".to_owned() };
        let since = |direction, value: u32| {
            let base = self.clocks.get(&direction).copied();
            // A difference can be negative: an old duplicate's, for one.
            base.map_or(i64::from(value), |base| i64::from(value.wrapping_sub(base) as i32))
        };
        let echo = match timestamps.tsecr {
            // RFC 7323 §3.2: without ACK, nothing is echoed.
            0 => "-".to_owned(),
            echo => since(there, echo).to_string(),
        };
        format!("TS {}/{echo}", since(here, timestamps.tsval))
    }
}

/// The options in a header without NOPs, up to the first invalid one.
fn options(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let Some((&kind, rest)) = bytes.split_first() {
        match kind {
            0 => break,
            1 => bytes = rest,
            _ => {
                let len = rest.first().copied().unwrap_or(0).into();
                if len < 2 || len > bytes.len() {
                    break;
                }
                found.push((kind, &bytes[2..len]));
                bytes = &bytes[len..];
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_walked_and_nonsense_ends_them() {
        let bytes = [2, 4, 5, 0xb4, 1, 3, 3, 7, 34, 2, 0, 9];
        assert_eq!(options(&bytes), [(2, &[5, 0xb4][..]), (3, &[7][..]), (34, &[][..])]);
        assert_eq!(options(&[2, 40, 0]), []);
        assert_eq!(options(&[8]), []);
    }

    #[test]
    fn a_number_of_the_connection_before_is_told_from_one_of_this() {
        let bases = Bases { isns: vec![SeqNum::new(u32::MAX), SeqNum::new(1_000_000)] };
        assert_eq!(bases.relative(SeqNum::new(1_000_020)), (20, false));
        assert_eq!(bases.relative(SeqNum::new(5)), (6, true), "over the wrap");
        assert_eq!(Bases::default().relative(SeqNum::new(5)), (5, false));
    }
}
