//! Receiving: from a packet to a datagram for this stack.

use super::admission::Admission;
use super::core::Core;
use super::echo;
use super::egress::{send_icmp, send_parameter_problem, way_back};
use super::flow::{FlowKey, QueueId};
use super::turn::{Arrival, Turn};
use crate::buffer::PacketBuf;
use crate::config::{EchoPolicy, ReversePath};
use crate::device::RxMeta;
use crate::icmp::{EchoRequest, IcmpError, Undelivered, emit_echo_reply, parse_echo_request, parse_error};
use crate::ip::{AddressKind, Cast, OptionsV4, Origin, check_options_v4, validate};
use crate::reasons::DropReason;
use crate::trace::{About, EventKind};
use crate::wire::{
    IPV4_HEADER_LEN, IPV6_HEADER_LEN, IpHeader, IpMeta, Problem, extension_problem, parse_icmp, parse_ip,
};
use std::net::IpAddr;

/// A packet as a device gave it.
pub(super) struct Packet {
    pub(super) from: QueueId,
    pub(super) buf: PacketBuf,
    pub(super) meta: RxMeta,
}

/// Validates a packet that arrived, joins fragments, and hands each datagram to
/// `deliver`. Whatever the packet is, it is consumed.
#[inline]
pub(super) fn receive(
    turn: &mut Turn<'_>,
    admission: &mut Admission,
    packet: Packet,
    deliver: impl FnOnce(&mut Turn<'_>, Arrival<'_>),
) {
    let Packet { from, buf: packet, meta } = packet;
    turn.out.in_packets += 1;
    if turn.core.is_down(from.interface) {
        return turn.dropped(DropReason::InterfaceDown, || About::NOTHING);
    }
    let Some(bytes) = packet.bytes().get(..meta.len) else {
        return drop_unread(turn, DropReason::PktTooSmall);
    };
    let parsed = parse_ip(bytes);
    let header = match &parsed {
        Ok(header) => header,
        Err(error) => {
            answer_unread(turn, from, bytes);
            return drop_unread(turn, DropReason::from(*error));
        }
    };
    let hosts = FlowKey::new(&header.dst, 0, &header.src, 0);
    let cast = match admit_again(turn.core, admission, from, &hosts, header) {
        Ok(cast) => cast,
        Err(reason) => {
            turn.core.counters().in_address_errors.bump();
            turn.dropped(reason, || About::hosts(header.dst, header.src));
            return;
        }
    };
    if header.src.is_ipv4()
        && header.payload.start > IPV4_HEADER_LEN
        && !options_pass(turn, from, &Undelivered { header, bytes, cast })
    {
        return;
    }
    let whole;
    let (header, bytes, meta) = if header.fragment.is_none() {
        (header, packet, meta)
    } else {
        let Some(datagram) = reassemble(turn, from, header, bytes) else { return };
        whole = datagram.header;
        (&whole, datagram.bytes, datagram.meta)
    };
    // In one place, so that it can be inlined.
    deliver(turn, Arrival { from, header, hosts, cast, bytes, meta });
}

/// As [`admit`], which is asked only if the addresses are not those of the packet before.
#[inline(always)]
fn admit_again(
    core: &Core,
    admission: &mut Admission,
    from: QueueId,
    hosts: &FlowKey,
    header: &IpHeader,
) -> Result<Cast, DropReason> {
    let changes = core.addresses().changes();
    if let Some(cast) = admission.of(from.interface, hosts, changes) {
        return Ok(cast);
    }
    let cast = admit(core, from, header)?;
    // Routes have no count of changes.
    if core.config().rp_filter == ReversePath::Off {
        admission.note(from.interface, hosts, changes, cast);
    }
    Ok(cast)
}

/// Whether a packet may come in with these addresses on this interface, and to how many it is addressed.
///
/// # Errors
/// If it is dropped.
#[inline(never)]
fn admit(core: &Core, from: QueueId, header: &IpHeader) -> Result<Cast, DropReason> {
    let inside = core.is_loopback(from.interface);
    let origin = if inside { Origin::Loopback } else { Origin::Outside(from.interface) };
    // RFC 1122 §3.2.1.3.
    let cast = validate(header, origin, core.addresses())?;
    match core.config().rp_filter {
        ReversePath::Off => Ok(cast),
        mode if inside || has_reverse_path(core, from.interface, header.src, mode) => Ok(cast),
        _ => Err(DropReason::IpRpfilter),
    }
}

/// RFC 3704 §2.2 and §2.4, as `__fib_validate_source` in Linux.
fn has_reverse_path(core: &Core, interface: u16, source: IpAddr, mode: ReversePath) -> bool {
    // A link-local address is on every link.
    if matches!(source, IpAddr::V6(source) if source.is_unicast_link_local()) {
        return true;
    }
    let route = core.routes().lookup(core.addresses(), source, None, None);
    route.is_some_and(|route| mode == ReversePath::Loose || route.interface == interface)
}

/// A datagram that fragments were joined to.
struct Reassembled {
    header: IpHeader,
    bytes: PacketBuf,
    meta: RxMeta,
}

/// Looks at the options of an IPv4 packet. False if it is dropped for them.
#[cold]
fn options_pass(turn: &mut Turn<'_>, from: QueueId, packet: &Undelivered<'_>) -> bool {
    let Undelivered { header, bytes, .. } = *packet;
    let found = check_options_v4(bytes.get(IPV4_HEADER_LEN..header.payload.start).unwrap_or_default());
    if found == OptionsV4::Harmless {
        return true;
    }
    turn.core.counters().in_header_errors.bump();
    turn.dropped(DropReason::IpInhdr, || About::hosts(header.dst, header.src));
    if let OptionsV4::Broken(problem) = found {
        let packet = Undelivered { bytes: bytes.get(..header.payload.end).unwrap_or_default(), ..*packet };
        send_parameter_problem(turn, from, &packet, problem);
    }
    false
}

/// Tells the sender of a packet that cannot be read why, where that is asked for.
#[cold]
fn answer_unread(turn: &mut Turn<'_>, from: QueueId, bytes: &[u8]) {
    let Some((header, problem)) = extension_problem(bytes) else { return };
    if let Ok(cast) = admit(turn.core, from, &header) {
        let bytes = bytes.get(..header.payload.end).unwrap_or_default();
        send_parameter_problem(turn, from, &Undelivered { header: &header, bytes, cast }, problem);
    }
}

/// A packet whose IP header makes no sense.
#[cold]
fn drop_unread(turn: &mut Turn<'_>, reason: DropReason) {
    turn.core.counters().in_header_errors.bump();
    turn.dropped(reason, || About::NOTHING);
}

/// Takes a fragment, and gives the datagram that it completes.
#[cold]
fn reassemble(turn: &mut Turn<'_>, from: QueueId, header: &IpHeader, bytes: &[u8]) -> Option<Reassembled> {
    let (inserted, moved) = {
        let mut store = turn.core.reassembly().lock();
        let before = store.next_deadline();
        let inserted = store.insert(turn.now, header, bytes);
        let after = store.next_deadline();
        (inserted, after.is_some_and(|at| before.is_none_or(|before| at < before)))
    };
    turn.out.deadline_moved(moved);
    drop_incomplete(turn, DropReason::FragReasmTimeout, inserted.expired);
    drop_incomplete(turn, DropReason::FragMemory, inserted.evicted);
    let bytes = match inserted.outcome {
        Ok(whole) => whole?,
        Err(reason) => {
            turn.dropped(reason, || About::hosts(header.dst, header.src));
            return None;
        }
    };
    // What the device says of one fragment does not hold for the datagram.
    let meta = RxMeta { len: bytes.capacity(), ..RxMeta::default() };
    let header = match parse_ip(bytes.bytes()) {
        Ok(header) => header,
        Err(error) => {
            answer_unread(turn, from, bytes.bytes());
            drop_unread(turn, DropReason::from(error));
            return None;
        }
    };
    if header.fragment.is_some() {
        // A fragment of a fragment: ipv6_frag_rcv in Linux tells its sender, and does not look further.
        if let Ok(cast) = admit(turn.core, from, &header) {
            let problem = Problem { code: 0, pointer: IPV6_HEADER_LEN as u32, even_to_groups: false };
            let bytes = bytes.bytes().get(..header.payload.end).unwrap_or_default();
            send_parameter_problem(turn, from, &Undelivered { header: &header, bytes, cast }, problem);
        }
        drop_unread(turn, DropReason::FragInvalid);
        return None;
    }
    turn.core.counters().reassembled.bump();
    Some(Reassembled { header, bytes, meta })
}

/// Incomplete datagrams are given up, each of which counts as one packet.
pub(super) fn drop_incomplete(turn: &mut Turn<'_>, reason: DropReason, count: usize) {
    if count > 0 {
        turn.core.counters().add_drops(reason, count as u64);
        turn.trace(|| About::NOTHING, || EventKind::Dropped(reason));
    }
}

/// Answers an echo request. Of an ICMP error gives what it says, for the protocol that it is about.
pub(super) fn on_icmp(turn: &mut Turn<'_>, arrival: &Arrival<'_>) -> Option<IcmpError> {
    turn.core.counters().icmp_in.bump();
    let header = arrival.header;
    let bytes = arrival.bytes.bytes().get(..header.payload.end).unwrap_or_default();
    if let Some(request) = parse_echo_request(header, bytes) {
        // RFC 1122 §3.2.2.6 lets a host ignore requests to groups, as Linux does.
        let outcome = match arrival.cast {
            Cast::Unicast => on_echo_request(turn, arrival, &request),
            Cast::Multicast | Cast::Broadcast => Err(DropReason::NotUnicast),
        };
        if let Err(reason) = outcome {
            turn.dropped(reason, || About::hosts(header.dst, header.src));
        }
        return None;
    }
    let error = parse_error(header, bytes);
    if error.is_none() {
        let sound = parse_icmp(header, bytes).is_some();
        let reason = if sound { DropReason::IcmpUnhandled } else { DropReason::IcmpCsum };
        turn.dropped(reason, || About::hosts(header.dst, header.src));
    }
    error
}

/// Answers an echo request, or leaves it to the application.
///
/// # Errors
/// If the request is dropped.
fn on_echo_request(
    turn: &mut Turn<'_>,
    arrival: &Arrival<'_>,
    request: &EchoRequest<'_>,
) -> Result<(), DropReason> {
    let (core, header) = (turn.core, arrival.header);
    let policy = match core.addresses().classify(header.dst, Some(arrival.from.interface)) {
        AddressKind::AnyIp => core.config().any_ip_echo,
        _ => EchoPolicy::Reply,
    };
    match policy {
        EchoPolicy::Reply => {
            let mut reply = Vec::new();
            emit_echo_reply(
                &mut reply,
                request,
                &IpMeta::new(header.dst, header.src, core.config().default_ttl),
            );
            let queue = way_back(core, arrival);
            send_icmp(turn, queue, &reply);
            Ok(())
        }
        EchoPolicy::Ignore => Err(DropReason::EchoIgnored),
        EchoPolicy::Forward => echo::leave(turn, arrival),
    }
}
