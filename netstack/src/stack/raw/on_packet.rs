//! Packets on their way in to ping and raw sockets.

use super::Raw;
use super::cell::{RawCell, RawKind};
use crate::datagram::{Datagram, Origin, Pushed};
use crate::error::Failure;
use crate::icmp::{IcmpError, is_echo_reply};
use crate::readiness::Events;
use crate::reasons::DropReason;
use crate::stack::turn::{Arrival, Turn};
use crate::trace::About;
use crate::wire::parse_icmp;
use std::net::SocketAddr;
use std::sync::Arc;

impl Raw {
    /// A packet arrived: each socket for packets of its protocol gets a copy. Says whether there is one.
    pub(in crate::stack) fn on_packet(&self, turn: &mut Turn<'_>, arrival: &Arrival<'_>) -> bool {
        if self.sockets() == 0 {
            return false;
        }
        let header = arrival.header;
        let packet = arrival.bytes.bytes().get(..header.payload.end).unwrap_or_default();
        let kind = RawKind::Packets(header.protocol);
        let takers: Vec<_> = self.all().into_iter().filter(|cell| cell.kind() == kind).collect();
        let mut taken = false;
        for cell in takers {
            taken |= enqueue(turn, &cell, arrival, packet, |_| true);
        }
        taken
    }

    /// An echo reply is for the ping socket with its identifier. Says whether there is one.
    pub(in crate::stack) fn on_echo_reply(&self, turn: &mut Turn<'_>, arrival: &Arrival<'_>) -> bool {
        if self.sockets() == 0 {
            return false;
        }
        let header = arrival.header;
        let packet = arrival.bytes.bytes().get(..header.payload.end).unwrap_or_default();
        let Some(message) = parse_icmp(header, packet).filter(|message| is_echo_reply(header, message))
        else {
            return false;
        };
        let identifier = u16::from_be_bytes([message.word[0], message.word[1]]);
        let bytes = packet.get(header.payload.clone()).unwrap_or_default();
        let takers: Vec<_> = self.all().into_iter().filter(|cell| cell.kind() == RawKind::Ping).collect();
        takers.iter().any(|cell| enqueue(turn, cell, arrival, bytes, |own| own == identifier))
    }

    /// An ICMP error quotes an echo request: the connected ping socket that sent it is told, if it is final.
    pub(in crate::stack) fn on_icmp_error(&self, turn: &mut Turn<'_>, interface: u16, error: &IcmpError) {
        let quoted = &error.quoted;
        let errno = error.kind.final_errno(quoted.src.is_ipv6());
        let (Some(identifier), Some(errno)) = (quoted.echo_id, errno) else {
            let about = || About::hosts(quoted.src, quoted.dst);
            return turn.dropped(DropReason::IcmpUnhandled, about);
        };
        for cell in self.all() {
            let told = cell.hold(|state| {
                let told = cell.kind() == RawKind::Ping
                    && state.identifier() == identifier
                    && state.peer.is_some()
                    && state.takes(quoted.src, quoted.dst, interface);
                if told {
                    state.error = Some(Failure::os(errno));
                }
                told
            });
            if told {
                turn.out.notify(Arc::clone(&cell) as _, Events::ERROR);
            }
        }
    }
}

/// Puts a copy of `bytes` into the queue of a socket, if it takes what arrived and its identifier is
/// `wanted`.
fn enqueue(
    turn: &mut Turn<'_>,
    cell: &Arc<RawCell>,
    arrival: &Arrival<'_>,
    bytes: &[u8],
    wanted: impl FnOnce(u16) -> bool,
) -> bool {
    let header = arrival.header;
    let interface = arrival.from.interface;
    let pool = turn.core.pool();
    let pushed = cell.hold(|state| {
        let takes =
            state.is_open && state.takes(header.dst, header.src, interface) && wanted(state.identifier());
        takes.then(|| {
            let origin = Origin {
                source: SocketAddr::new(header.src, 0),
                destination: header.dst,
                interface,
                traffic_class: header.traffic_class,
                hop_limit: header.hop_limit,
            };
            state.received.push(Datagram { origin, segment_size: None, payload: pool.copy_of(bytes) })
        })
    });
    match pushed {
        None => return false,
        Some(Pushed::Queued { first, half_full }) => {
            turn.out.crowded |= half_full;
            if first {
                turn.out.notify(Arc::clone(cell) as _, Events::READABLE);
            }
        }
        Some(Pushed::Dropped) => {
            turn.dropped(DropReason::SocketRcvbuff, || About::hosts(header.dst, header.src));
        }
        Some(Pushed::NoMemory) => turn.dropped(DropReason::ProtoMem, || About::hosts(header.dst, header.src)),
    }
    true
}
