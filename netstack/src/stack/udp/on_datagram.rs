//! A datagram on its way in: from its bytes to the queues of the sockets that it is for.

use super::Udp;
use super::cell::{Membership, UdpCell};
use super::flow::Quote;
use super::flows::First;
use crate::datagram::{Datagram, Origin};
use crate::icmp::Unreachable;
use crate::ip::Cast;
use crate::reasons::DropReason;
use crate::stack::egress::send_unreachable;
use crate::stack::turn::{Arrival, Turn};
use crate::trace::About;
use crate::udp::Ends;
use crate::wire::{IpHeader, UDP_HEADER_LEN, UdpHeader, parse_udp, udp_checksum_ok};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// How often the socket of a datagram is looked for. One that another thread closes meanwhile is not found again.
const LOOKS: usize = 3;

impl Udp {
    /// A UDP datagram arrived.
    pub(in crate::stack) fn on_datagram(&self, turn: &mut Turn<'_>, arrival: Arrival<'_>) {
        let Arrival { from, header, cast, bytes: ref packet, meta, .. } = arrival;
        let bytes = packet.bytes().get(header.payload.clone()).unwrap_or_default();
        let Ok(UdpHeader { src_port, dst_port, payload_len }) = parse_udp(bytes) else {
            return self.drop_broken(turn, header, DropReason::PktTooSmall);
        };
        let bytes = bytes.get(..UDP_HEADER_LEN + payload_len).unwrap_or_default();
        if !meta.checksum_verified && !udp_checksum_ok(header.src, header.dst, bytes) {
            self.counters.udp_in_csum_errors.bump();
            return self.drop_broken(turn, header, DropReason::UdpCsum);
        }
        let ends = Ends {
            local: SocketAddr::new(header.dst, dst_port),
            remote: with_scope(SocketAddr::new(header.src, src_port), from.interface),
            interface: from.interface,
        };
        if cast == Cast::Unicast {
            return self.deliver_to_one(turn, arrival, &ends, payload_len);
        }
        if cast == Cast::Multicast && !turn.core.groups().is_member(header.dst, from.interface) {
            return turn.dropped(DropReason::NoSocket, || About::ends(ends.local, ends.remote));
        }
        self.deliver_to_all(turn, &ends, datagram(arrival, &ends, payload_len));
    }

    /// Gives a datagram to the socket that it is for, or to a forwarder.
    #[inline]
    fn deliver_to_one(&self, turn: &mut Turn<'_>, arrival: Arrival<'_>, ends: &Ends, payload_len: usize) {
        let mut arrival = Some(arrival);
        for _ in 0..LOOKS {
            let Some(cell) = self.table.find(ends) else { break };
            let take = || arrival.take().map(|arrival| datagram(arrival, ends, payload_len));
            if self.enqueue(turn, &cell, take, None) {
                return;
            }
        }
        let Some(arrival) = arrival else { return };
        if let Some(forwarder) = self.forwarder_of(turn.core, ends) {
            let (from, quote) = (arrival.from, Quote::of(arrival.header, arrival.bytes.bytes()));
            let first = First { from, quote, datagram: datagram(arrival, ends, payload_len) };
            return self.take_unclaimed(turn, &forwarder, ends, first);
        }
        self.counters.udp_no_ports.bump();
        turn.dropped(DropReason::NoSocket, || About::ends(ends.local, ends.remote));
        send_unreachable(turn, &arrival, Unreachable::Port);
    }

    /// A datagram that cannot be read.
    #[cold]
    fn drop_broken(&self, turn: &mut Turn<'_>, header: &IpHeader, reason: DropReason) {
        self.counters.udp_in_errors.bump();
        turn.dropped(reason, || About::hosts(header.dst, header.src));
    }

    /// Gives a datagram for a group or for all hosts to every socket that takes it.
    pub(super) fn deliver_to_all(&self, turn: &mut Turn<'_>, ends: &Ends, datagram: Datagram) {
        let mut takers = self.table.find_all(ends);
        let group = ends.local.ip();
        let member = group.is_multicast().then_some(Membership { group, interface: ends.interface });
        let Some(last) = takers.pop() else {
            return turn.dropped(DropReason::NoSocket, || About::ends(ends.local, ends.remote));
        };
        for cell in takers {
            self.enqueue_for_group(turn, &cell, datagram.copy(), member);
        }
        self.enqueue_for_group(turn, &last, datagram, member);
    }

    fn enqueue_for_group(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<UdpCell>,
        datagram: Datagram,
        member: Option<Membership>,
    ) {
        let Origin { source, destination, .. } = datagram.origin;
        if !self.enqueue(turn, cell, || Some(datagram), member) {
            turn.dropped(DropReason::NoSocket, || About::hosts(destination, source.ip()));
        }
    }
}

/// What arrived, without its headers.
fn datagram(arrival: Arrival<'_>, ends: &Ends, payload_len: usize) -> Datagram {
    let Arrival { from, header, bytes, meta, .. } = arrival;
    let start = header.payload.start + UDP_HEADER_LEN;
    let segment_size = meta.gso_size.filter(|size| usize::from(*size) < payload_len);
    Datagram {
        origin: Origin {
            source: ends.remote,
            destination: header.dst,
            interface: from.interface,
            traffic_class: header.traffic_class,
            hop_limit: header.hop_limit,
        },
        segment_size,
        payload: bytes.into_chunk(start, start + payload_len),
    }
}

/// A link-local address with the interface that it is on, counted from one as in Linux.
pub(super) fn with_scope(address: SocketAddr, interface: u16) -> SocketAddr {
    match (address, address.ip()) {
        (SocketAddr::V6(mut v6), IpAddr::V6(ip)) if ip.is_unicast_link_local() => {
            v6.set_scope_id(u32::from(interface) + 1);
            v6.into()
        }
        _ => address,
    }
}
