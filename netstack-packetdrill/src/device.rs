//! The device that keeps the packets that the stack sends, with their time, until packetdrill reads
//! them.

use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use netstack::sync::{Mutex, Rank};
use netstack::time::Instant;
use netstack::wire::{complete_checksum, split_super_segment};
use std::collections::VecDeque;
use std::io;

/// A packet that the stack sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The time.
    pub at: Instant,
    /// The whole IP packet.
    pub bytes: Vec<u8>,
}

/// Records every packet as on a wire: segments of one MSS with both checksums. With `offloads` it
/// lets the stack send super-segments, and divides them itself.
#[derive(Debug)]
pub struct Recorder {
    mtu: usize,
    offloads: bool,
    sent: Mutex<VecDeque<Sent>>,
    signal: Signal,
}

impl Recorder {
    /// A recorder with this MTU in bytes.
    pub fn new(mtu: usize, offloads: bool) -> Self {
        Self { mtu, offloads, sent: Mutex::new(Rank::Device, VecDeque::new()), signal: Signal::new() }
    }

    /// Takes the oldest packet.
    pub fn pop(&self) -> Option<Sent> {
        self.sent.lock().pop_front()
    }

    /// Takes all packets.
    pub fn drain(&self) -> Vec<Sent> {
        self.sent.lock().drain(..).collect()
    }
}

impl Device for Recorder {
    fn capabilities(&self) -> Capabilities {
        let offloads = self.offloads;
        Capabilities {
            mtu: self.mtu,
            queues: 1,
            checksum_offload: offloads,
            segmentation_offload: offloads,
            udp_segmentation_offload: offloads,
            point_to_point: true,
        }
    }

    fn receive(&self, _now: Instant, _queue: usize, _buf: &mut PacketBuf) -> io::Result<RxMeta> {
        // Incoming packets are passed to the engine directly.
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn transmit(&self, now: Instant, _queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        let mut bytes = vec![0; packet.len()];
        packet.copy_to(&mut bytes);
        let mut sent = self.sent.lock();
        match packet.gso {
            Some(gso) => {
                let mut keep = |bytes: &[u8]| sent.push_back(Sent { at: now, bytes: bytes.to_vec() });
                let whole = split_super_segment(&bytes, gso.size.into(), &mut keep);
                debug_assert!(whole, "the stack sends sound segments");
            }
            None => {
                if packet.checksum.is_some() {
                    complete_checksum(&mut bytes);
                }
                sent.push_back(Sent { at: now, bytes });
            }
        }
        Ok(())
    }

    fn readiness(&self, _queue: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }
}

/// A packet in one line, for messages.
pub fn describe(packet: &[u8]) -> String {
    let hex = packet.iter().take(80).map(|byte| format!("{byte:02x}")).collect::<String>();
    let Some(tcp) = tcp_of(packet) else { return format!("{} bytes {hex}", packet.len()) };
    let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    let flags: String = ["FIN ", "SYN ", "RST ", "PSH ", "ACK ", "URG ", "ECE ", "CWR "]
        .iter()
        .enumerate()
        .filter(|(bit, _)| tcp[13] & 1 << bit != 0)
        .map(|(_, name)| *name)
        .collect();
    let payload = tcp.len() - usize::from(tcp[12] >> 4) * 4;
    format!("{flags}seq {} ack {} payload {payload} {hex}", word(4), word(8))
}

/// The sequence space of a segment, and its acknowledgment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The ports, of the source and of the destination.
    pub ports: (u16, u16),
    /// The first sequence number.
    pub start: u32,
    /// The sequence number after the last, SYN and FIN counted.
    pub end: u32,
    /// The acknowledgment number, if there is one.
    pub ack: Option<u32>,
    /// Whether it is a reset, or opens a connection.
    pub resets_or_opens: bool,
}

impl Space {
    /// That of a packet; none if it is not TCP.
    pub fn of(packet: &[u8]) -> Option<Self> {
        const FIN: u8 = 1;
        const SYN: u8 = 2;
        const RST: u8 = 4;
        const ACK: u8 = 16;
        let tcp = tcp_of(packet)?;
        let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let flags = tcp[13];
        let payload = tcp.len() - usize::from(tcp[12] >> 4) * 4;
        let len = payload as u32 + u32::from(flags & FIN != 0) + u32::from(flags & SYN != 0);
        Some(Self {
            ports: (port(0), port(2)),
            start: word(4),
            end: word(4).wrapping_add(len),
            ack: (flags & ACK != 0).then(|| word(8)),
            resets_or_opens: flags & (RST | SYN) != 0,
        })
    }

    /// Whether it is an acknowledgment and nothing else.
    pub fn is_pure_ack(&self) -> bool {
        self.start == self.end && !self.resets_or_opens && self.ack.is_some()
    }
}

/// Whether sequence number `a` is not behind `b`.
pub fn reaches(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() >= 0
}

fn tcp_of(packet: &[u8]) -> Option<&[u8]> {
    let (header, protocol) = match packet.first()? >> 4 {
        4 => (usize::from(packet[0] & 15) * 4, *packet.get(9)?),
        6 => (40, *packet.get(6)?),
        _ => return None,
    };
    let tcp = packet.get(header..)?;
    let whole = tcp.len() >= 20 && usize::from(tcp[12] >> 4) * 4 <= tcp.len();
    (protocol == 6 && whole).then_some(tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet with this offset, these flags and this many bytes of payload.
    fn packet(offset: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut packet = vec![0; 20 + usize::from(offset) * 4 + payload];
        (packet[0], packet[9]) = (0x45, 6);
        (packet[32], packet[33]) = (offset << 4, flags);
        packet
    }

    #[test]
    fn an_acknowledgment_takes_no_sequence_numbers() {
        for (packet, pure) in [
            (packet(5, 0x10, 0), Some(true)),
            (packet(8, 0x10, 0), Some(true)),
            (packet(5, 0x10, 1), Some(false)),
            (packet(5, 0x11, 0), Some(false)),
            (packet(5, 0x14, 0), Some(false)),
            (packet(15, 0x10, 0)[..60].to_vec(), None),
            (Vec::new(), None),
        ] {
            assert_eq!(Space::of(&packet).map(|space| space.is_pure_ack()), pure);
        }
        assert_eq!(Space::of(&packet(5, 0x11, 10)).unwrap().end, 11, "a FIN takes one");
    }

    #[test]
    fn packets_are_kept_with_their_time() {
        let recorder = Recorder::new(1500, false);
        let sent = TxPacket { header: &[1, 2], payload: &[&[3], &[4]], ..TxPacket::default() };
        recorder.transmit(Instant::from_micros(7), 0, &sent).unwrap();
        assert_eq!(recorder.pop(), Some(Sent { at: Instant::from_micros(7), bytes: vec![1, 2, 3, 4] }));
        assert_eq!(recorder.pop(), None);
    }
}
