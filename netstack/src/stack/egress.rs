//! Sending: packets, and ICMP messages.

use super::core::Core;
use super::effects::DeviceFailure;
use super::flow::{QueueId, WayBack};
use super::icmp_limit::Cause;
use super::turn::{Arrival, Turn};
use crate::device::{TxPacket, is_loss};
use crate::error::Failure;
use crate::icmp::{Undelivered, Unreachable, emit_parameter_problem, emit_unreachable};
use crate::ip::{Cast, fragment};
use crate::reasons::DropReason;
use crate::trace::About;
use crate::wire::{ChecksumMode, ICMP_HEADER_LEN, IpHeader, IpMeta, Problem, ip_header_len};
use std::io;
use std::net::IpAddr;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The device has it, or it is lost, as it might be on the way.
    Yes,
    /// The queue is full; the device says when it is not.
    Full,
    /// The device is gone.
    Failed,
}

/// MTU below which a segment can be too long by its headers alone: 60 bytes of TCP after 40 of IPv6.
const ALL_HEADERS: usize = 100;

/// Sends a packet.
#[inline]
pub(super) fn send_packet(turn: &mut Turn<'_>, queue: QueueId, packet: &TxPacket<'_>) -> Sent {
    let link = turn.core.interfaces().get(queue.interface);
    if link.is_down() {
        turn.dropped(DropReason::InterfaceDown, || About::NOTHING);
        return Sent::Yes;
    }
    if packet.len_on_wire() > link.mtu() {
        return too_long(turn, queue);
    }
    let now = turn.now;
    match link.with_device(|device| device.transmit(now, queue.queue.into(), packet)) {
        Some(Ok(())) => {
            turn.out.transmitted(link.number_of(queue));
            Sent::Yes
        }
        Some(Err(error)) => not_transmitted(turn, queue, &error),
        // It was removed a moment ago.
        None => {
            turn.dropped(DropReason::InterfaceDown, || About::NOTHING);
            Sent::Yes
        }
    }
}

/// What became of a packet that its device did not take.
#[cold]
fn not_transmitted(turn: &mut Turn<'_>, queue: QueueId, error: &io::Error) -> Sent {
    if error.kind() == io::ErrorKind::WouldBlock {
        turn.core.counters().device_full.bump();
        return Sent::Full;
    }
    if is_loss(error) {
        turn.dropped(DropReason::DeviceLoss, || About::NOTHING);
        return Sent::Yes;
    }
    let (at, interface) = (turn.now, queue.interface);
    turn.out.device_failed(DeviceFailure { at, interface, cause: Failure::from(error) });
    Sent::Failed
}

/// A packet that its device could not take. Senders respect the MTU, but headers alone may be
/// too long for the smallest.
#[cold]
fn too_long(turn: &mut Turn<'_>, queue: QueueId) -> Sent {
    let mtu = turn.core.mtu(queue.interface);
    // Another thread may have changed the MTU since the packet was made.
    let changed = mtu != turn.core.capabilities(queue.interface).mtu.min(usize::from(u16::MAX));
    debug_assert!(mtu < ALL_HEADERS || changed, "a packet that is longer than the MTU, {mtu}");
    turn.dropped(DropReason::PktTooBig, || About::NOTHING);
    Sent::Yes
}

/// Sends an ICMP message, a whole packet, in fragments if it is longer than the MTU. What the device does
/// not take is lost, as it might be on the way.
pub(super) fn send_icmp(turn: &mut Turn<'_>, queue: QueueId, packet: &[u8]) {
    turn.core.counters().icmp_out.bump();
    let mtu = turn.core.mtu(queue.interface);
    let core = turn.core;
    let mut send = |header: &[u8]| {
        send_packet(turn, queue, &TxPacket { header, ..TxPacket::default() });
    };
    if packet.len() <= mtu {
        send(packet);
    } else {
        cut(core, packet, mtu, send);
    }
}

/// Cuts a packet into fragments of at most `mtu` bytes, and hands each to `send`.
pub(super) fn cut(core: &Core, packet: &[u8], mtu: usize, send: impl FnMut(&[u8])) {
    core.counters().fragmented.bump();
    fragment(packet, mtu, core.random() as u32, send);
}

/// Sends an ICMP error to `to`, within the stack's limits for those.
pub(super) fn send_icmp_error(turn: &mut Turn<'_>, queue: QueueId, to: IpAddr, packet: &[u8], cause: Cause) {
    let core = turn.core;
    // The host itself is no stranger, as in Linux (icmpv4_xrlim_allow).
    let cause = if core.is_loopback(queue.interface) { Cause::Application } else { cause };
    if core.icmp_limit().lock().allow(turn.now, to, cause, core.config()) {
        send_icmp(turn, queue, packet);
    } else {
        turn.core.counters().icmp_rate_limited.bump();
        turn.dropped(DropReason::IcmpRatelimit, || About::NOTHING);
    }
}

/// Tells the sender of a packet that it could not be delivered, if such a packet may be answered.
pub(super) fn send_unreachable(turn: &mut Turn<'_>, arrival: &Arrival<'_>, reason: Unreachable) {
    let Arrival { header, cast, bytes, .. } = arrival;
    let queue = way_back(turn.core, arrival);
    let bytes = &bytes.bytes()[..header.payload.end];
    let packet = Undelivered { header, bytes, cast: *cast };
    send_unreachable_about(turn, queue, reason, &packet, Cause::Packet);
}

/// As [`send_unreachable`], on `queue`, about a packet that is no arrival any more.
pub(super) fn send_unreachable_about(
    turn: &mut Turn<'_>,
    queue: QueueId,
    reason: Unreachable,
    packet: &Undelivered<'_>,
    cause: Cause,
) {
    let header = packet.header;
    let mut message = Vec::new();
    let ip = IpMeta::new(header.dst, header.src, turn.core.config().default_ttl);
    let room = quote_room(turn.core, queue, header);
    let bytes = &packet.bytes[..packet.bytes.len().min(room)];
    let undelivered = Undelivered { bytes, ..*packet };
    if emit_unreachable(&mut message, reason, &undelivered, turn.core.addresses(), &ip) {
        send_icmp_error(turn, queue, header.src, &message, cause);
    }
}

/// Tells the sender of a packet which field keeps it from being delivered, if such a packet may be
/// answered.
pub(super) fn send_parameter_problem(
    turn: &mut Turn<'_>,
    from: QueueId,
    packet: &Undelivered<'_>,
    problem: Problem,
) {
    let (core, header) = (turn.core, packet.header);
    let (mut cast, mut local) = (packet.cast, header.dst);
    if cast == Cast::Multicast && problem.even_to_groups {
        // It comes from an address of ours, not from the group.
        let route = core.routes().lookup(core.addresses(), header.src, None, Some(from.interface));
        let Some(route) = route else { return };
        (cast, local) = (Cast::Unicast, route.source);
    }
    let queue = core.way_back(from, &WayBack { local, remote: header.src, bound: None, spread: 0 });
    let bytes = &packet.bytes[..packet.bytes.len().min(quote_room(core, queue, header))];
    let header = IpHeader { dst: local, ..header.clone() };
    let undelivered = Undelivered { header: &header, bytes, cast };
    let mut message = Vec::new();
    let ip = IpMeta::new(local, header.src, core.config().default_ttl);
    if emit_parameter_problem(&mut message, problem, &undelivered, core.addresses(), &ip) {
        send_icmp_error(turn, queue, header.src, &message, Cause::Packet);
    }
}

/// How much of a packet fits an ICMP error about it that leaves on `queue`.
pub(super) fn quote_room(core: &Core, queue: QueueId, header: &IpHeader) -> usize {
    core.mtu(queue.interface).saturating_sub(ip_header_len(&header.src) + ICMP_HEADER_LEN)
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
