//! What leaves: packets, and ICMP messages.

use super::core::Core;
use super::effects::DeviceFailure;
use super::flow::{QueueId, WayBack};
use super::turn::{Arrival, Turn};
use crate::device::TxPacket;
use crate::error::Failure;
use crate::icmp::{Undelivered, Unreachable, emit_unreachable};
use crate::reasons::DropReason;
use crate::trace::About;
use crate::wire::{ChecksumMode, IpHeader, IpMeta};
use std::io;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    /// The queue is full; the device says when it is not.
    Full,
    /// The device is gone.
    Failed,
}

/// Sends a packet.
pub(super) fn send_packet(turn: &mut Turn<'_>, queue: QueueId, packet: &TxPacket<'_>) -> Sent {
    match turn.core.device(queue.interface).transmit(turn.now, queue.queue.into(), packet) {
        Ok(()) => {
            turn.out.transmitted(turn.core.queue_number(queue));
            Sent::Yes
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            turn.core.counters().device_full.bump();
            Sent::Full
        }
        Err(error) => {
            let (at, interface) = (turn.now, queue.interface);
            turn.out.device_failed(DeviceFailure { at, interface, cause: Failure::from(&error) });
            Sent::Failed
        }
    }
}

/// Sends an ICMP message, a whole packet. If the device does not take it, it is lost, as it might be on
/// the way.
pub(super) fn send_icmp(turn: &mut Turn<'_>, queue: QueueId, packet: &[u8]) {
    turn.core.counters().icmp_out.bump();
    send_packet(turn, queue, &TxPacket { header: packet, payload: &[], checksum: None, gso: None });
}

/// Sends an ICMP error, within the stack's limit for those.
pub(super) fn send_icmp_error(turn: &mut Turn<'_>, queue: QueueId, packet: &[u8]) {
    if turn.core.icmp_limit().lock().allow(turn.now) {
        send_icmp(turn, queue, packet);
    } else {
        turn.core.counters().icmp_rate_limited.bump();
        turn.dropped(DropReason::IcmpRatelimit, || About::NOTHING);
    }
}

/// Tells the sender of a packet that it could not be delivered, if such a packet may be answered.
pub(super) fn send_unreachable(turn: &mut Turn<'_>, arrival: &Arrival<'_>, reason: Unreachable) {
    let Arrival { header, cast, bytes, .. } = arrival;
    let mut message = Vec::new();
    let ip = IpMeta::new(header.dst, header.src, turn.core.config().default_ttl);
    let bytes = &bytes.bytes()[..header.payload.end];
    let undelivered = Undelivered { header, bytes, cast: *cast };
    if emit_unreachable(&mut message, reason, &undelivered, turn.core.addresses(), &ip) {
        let queue = way_back(turn.core, arrival);
        send_icmp_error(turn, queue, &message);
    }
}

/// The queue that leads back to the sender of a datagram.
pub(super) fn way_back(core: &Core, arrival: &Arrival<'_>) -> QueueId {
    let IpHeader { src: remote, dst: local, .. } = *arrival.header;
    core.way_back(arrival.from, &WayBack { local, remote, bound: None, spread: 0 })
}

/// Who computes checksums for what leaves through `interface`.
pub(super) fn checksum_mode(core: &Core, interface: u16) -> ChecksumMode {
    if core.capabilities(interface).checksum_offload { ChecksumMode::Offload } else { ChecksumMode::Full }
}
