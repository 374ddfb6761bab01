//! Packets of a socket for datagrams that a device did not take yet.

use super::egress::{Sent, send_packet};
use super::flow::QueueId;
use super::turn::Turn;
use crate::buffer::{Chunk, Pool};
use crate::device::TxPacket;
use crate::wire::{ChecksumOffload, Gso};
use std::collections::VecDeque;
use std::sync::Arc;

/// A packet that waits for a device.
#[derive(Debug)]
pub(super) struct Packet {
    queue: QueueId,
    /// The whole packet.
    bytes: Chunk,
    /// Bytes of its headers.
    header_len: usize,
    checksum: Option<ChecksumOffload>,
    gso: Option<Gso>,
}

impl Packet {
    /// A copy, to be sent on `queue`.
    pub(super) fn copy_of(packet: &TxPacket<'_>, queue: QueueId, pool: &Arc<Pool>) -> Self {
        let mut bytes = pool.take_exact(packet.len());
        packet.copy_to(bytes.bytes_mut());
        let TxPacket { header, checksum, gso, .. } = *packet;
        let bytes = bytes.into_chunk(0, packet.len());
        Self { queue, bytes, header_len: header.len(), checksum, gso }
    }
}

/// The packets of a socket that wait for a device, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    packets: VecDeque<Packet>,
    bytes: usize,
    /// The socket is on the list of those that wait.
    pub(super) is_listed: bool,
    /// A datagram was refused since there was no room: who waits for some is to be told.
    pub(super) refused: bool,
}

impl Unsent {
    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// The queue that the first packet waits for.
    pub(super) fn queue(&self) -> Option<QueueId> {
        self.packets.front().map(|packet| packet.queue)
    }

    /// Appends a packet.
    pub(super) fn push(&mut self, packet: Packet) {
        self.bytes += packet.bytes.len();
        self.packets.push_back(packet);
    }

    /// Sends what the devices take. False if one is full.
    pub(super) fn flush(&mut self, turn: &mut Turn<'_>) -> bool {
        while let Some(packet) = self.packets.front() {
            if transmit(turn, packet) == Sent::Full {
                return false;
            }
            self.bytes -= packet.bytes.len();
            self.packets.pop_front();
        }
        // Most sockets wait for a device for a short time, and some once.
        self.packets = VecDeque::new();
        true
    }

    /// Discards everything.
    pub(super) fn clear(&mut self) {
        self.packets = VecDeque::new();
        self.bytes = 0;
    }
}

fn transmit(turn: &mut Turn<'_>, packet: &Packet) -> Sent {
    let (header, payload) = packet.bytes.as_slice().split_at(packet.header_len);
    let payload: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
    let Packet { queue, checksum, gso, .. } = *packet;
    send_packet(turn, queue, &TxPacket { header, payload, checksum, gso })
}
