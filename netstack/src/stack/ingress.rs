//! What arrives: from a packet to a datagram that is ours.

use super::egress::send_icmp;
use super::flow::QueueId;
use super::turn::{Arrival, Turn};
use crate::buffer::PacketBuf;
use crate::device::RxMeta;
use crate::icmp::{IcmpError, emit_echo_reply, parse_echo_request, parse_error};
use crate::ip::{Cast, Origin, validate};
use crate::wire::{IpMeta, parse_ip};

/// Validates a packet that arrived on the queue `from`, joins fragments, and hands each datagram to
/// `deliver`. Whatever the packet is, it is consumed.
#[inline]
pub(super) fn receive(
    turn: &mut Turn<'_>,
    from: QueueId,
    packet: PacketBuf,
    meta: RxMeta,
    deliver: impl FnOnce(&mut Turn<'_>, Arrival<'_>),
) {
    turn.out.in_packets += 1;
    let counters = turn.core.counters();
    let Some(bytes) = packet.bytes().get(..meta.len) else {
        counters.in_header_errors.bump();
        return;
    };
    let parsed = parse_ip(bytes);
    let Ok(header) = &parsed else {
        counters.in_header_errors.bump();
        return;
    };
    let inside = turn.core.is_loopback(from.interface);
    let origin = if inside { Origin::Loopback } else { Origin::Outside };
    // RFC 1122 §3.2.1.3.
    let Ok(cast) = validate(header, origin, turn.core.addresses()) else {
        counters.in_address_errors.bump();
        return;
    };
    if header.fragment.is_none() {
        deliver(turn, Arrival { from, header, cast, bytes: packet, meta });
        return;
    }
    let Some(whole) = turn.core.reassembly().lock().insert(turn.now, header, bytes) else { return };
    // What the device says of one fragment does not hold for the datagram.
    let meta = RxMeta { len: whole.capacity(), ..RxMeta::default() };
    let parsed = parse_ip(whole.bytes());
    let Ok(header) = &parsed else { return };
    counters.reassembled.bump();
    deliver(turn, Arrival { from, header, cast, bytes: whole, meta });
}

/// Answers an echo request. Of an ICMP error gives what it says, for the protocol that it is about.
pub(super) fn on_icmp(turn: &mut Turn<'_>, arrival: &Arrival<'_>) -> Option<IcmpError> {
    turn.core.counters().icmp_in.bump();
    let header = arrival.header;
    let bytes = &arrival.bytes.bytes()[..header.payload.end];
    if let Some(request) = parse_echo_request(header, bytes) {
        // RFC 1122 §3.2.2.6 lets a host ignore requests to groups, as Linux does.
        if arrival.cast == Cast::Unicast {
            let mut reply = Vec::new();
            let ip = IpMeta::new(header.dst, header.src, turn.core.config().default_ttl);
            emit_echo_reply(&mut reply, &request, &ip);
            send_icmp(turn, arrival.from, &reply);
        }
        return None;
    }
    parse_error(header, bytes)
}
