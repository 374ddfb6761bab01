//! Sending echo requests and whole packets.

use super::Raw;
use super::cell::{RawCell, RawKind, State};
use crate::device::TxPacket;
use crate::error::os;
use crate::icmp::is_echo_request;
use crate::ip::AddressKind;
use crate::readiness::Events;
use crate::stack::core::Core;
use crate::stack::egress::{Sent, cut, send_packet};
use crate::stack::flow::{Family, QueueId};
use crate::stack::routes::Route;
use crate::stack::turn::Turn;
use crate::stack::unsent::Packet;
use crate::wire::{
    ICMP_HEADER_LEN, IPV4_HEADER_LEN, IPV6_HEADER_LEN, IcmpMessage, IpMeta, checksum, emit_icmp, parse_ip,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The longest packet, as its length field can say.
const MAX_LEN: usize = u16::MAX as usize;

impl Raw {
    /// Sends what a socket is for: an ICMP echo request, whose identifier and checksum are filled in; or a whole
    /// IP packet, whose lengths, checksum and, if they are zero, source and identification are. A packet goes to
    /// its own destination.
    ///
    /// # Errors
    /// `WouldBlock` if the send buffer is full; the pending error of the socket, once; `EDESTADDRREQ` if a ping
    /// socket has no destination; `EINVAL` for what is no echo request or no IP packet of the family; `EMSGSIZE`
    /// if it is too long; `EACCES` for a broadcast address without `SO_BROADCAST`; `EAFNOSUPPORT`;
    /// `ENETUNREACH`; the error of the device.
    pub fn send(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<RawCell>,
        bytes: &[u8],
        to: Option<SocketAddr>,
    ) -> io::Result<usize> {
        turn.core.check_alive()?;
        cell.hold(|state| {
            if let Some(error) = state.take_error() {
                return Err(error);
            }
            if !state.is_open {
                return Err(os(libc::EBADF));
            }
            let (route, packet) = match cell.kind() {
                RawKind::Ping => {
                    let to = to.or(state.peer).ok_or_else(|| os(libc::EDESTADDRREQ))?;
                    echo_request(turn.core, state, bytes, to.ip())?
                }
                RawKind::Packets(_) => whole_packet(turn.core, state, bytes)?,
            };
            if let Some(failure) = turn.core.interface_failure(route.interface) {
                return Err(failure.into());
            }
            let mtu = turn.core.mtu(route.interface);
            if packet.len() > mtu && matches!(cell.kind(), RawKind::Packets(_)) {
                return Err(os(libc::EMSGSIZE));
            }
            let full = !state.unsent.flush(turn) && state.unsent.bytes() >= state.send_buffer;
            if full {
                state.unsent.refused = true;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let queue = turn.core.queue_of(route.interface, 0);
            let mut sent = Ok(());
            if packet.len() <= mtu {
                sent = put(turn, state, queue, &packet);
            } else {
                cut(turn.core, &packet, mtu, |fragment| {
                    if sent.is_ok() {
                        sent = put(turn, state, queue, fragment);
                    }
                });
            }
            self.wait_if_unsent(turn, cell, state);
            sent.map(|()| bytes.len())
        })
    }

    /// Puts a socket on the list of those that wait for a device, if it has to.
    fn wait_if_unsent(&self, turn: &mut Turn<'_>, cell: &Arc<RawCell>, state: &mut State) {
        let Some(queue) = state.unsent.queue() else { return };
        if !std::mem::replace(&mut state.unsent.is_listed, true) {
            let number = turn.core.queue_number(queue);
            self.waiting.join(number, Arc::clone(cell));
            turn.out.waits(number);
        }
    }

    /// A queue takes packets again: each socket that waits for it sends. Says whether the queue still takes
    /// some after that.
    pub(super) fn serve_waiting(&self, turn: &mut Turn<'_>, queue_number: usize) -> bool {
        for _ in 0..self.waiting.len(queue_number) {
            let Some(cell) = self.waiting.next(queue_number) else { break };
            let (done, has_room) = cell.hold(|state| {
                state.unsent.is_listed = false;
                let done = state.unsent.flush(turn);
                let has_room = state.unsent.refused && state.unsent.bytes() <= state.send_buffer / 2;
                state.unsent.refused &= !has_room;
                self.wait_if_unsent(turn, &cell, state);
                (done, has_room)
            });
            if has_room {
                turn.out.notify(cell, Events::WRITABLE);
            }
            if !done {
                return false;
            }
        }
        true
    }

    /// Discards what waits for the queues of an interface.
    pub(super) fn give_up(&self, core: &Core, interface: u16) {
        for number in core.interfaces().queue_numbers(interface) {
            while let Some(cell) = self.waiting.next(number) {
                cell.hold(|state| {
                    state.unsent.is_listed = false;
                    state.unsent.clear();
                });
            }
        }
    }
}

/// Gives a packet to the device, or appends it to what waits.
fn put(turn: &mut Turn<'_>, state: &mut State, queue: QueueId, packet: &[u8]) -> io::Result<()> {
    let packet = TxPacket { header: packet, payload: &[], checksum: None, gso: None };
    if state.unsent.is_empty() {
        match send_packet(turn, queue, &packet) {
            Sent::Yes => return Ok(()),
            Sent::Full => {}
            Sent::Failed => return Err(os(libc::ENETDOWN)),
        }
    }
    state.unsent.push(Packet::copy_of(&packet, queue, turn.core.pool()));
    Ok(())
}

/// The way to a destination, from the address of the socket or from `source`.
fn way(core: &Core, state: &State, to: IpAddr, source: Option<IpAddr>) -> io::Result<Route> {
    if to.is_ipv4() != (state.ip.family() == Family::V4) {
        return Err(os(libc::EAFNOSUPPORT));
    }
    if core.addresses().classify(to, state.ip.interface()) == AddressKind::Broadcast && !state.broadcast {
        return Err(os(libc::EACCES));
    }
    let is_local = |local: &IpAddr| core.addresses().classify(*local, state.ip.interface()).is_local();
    let own = Some(state.local).filter(is_local);
    let route = core.routes().lookup_any(core.addresses(), to, source.or(own), state.ip.interface());
    let removed = state.ip.interface().is_some_and(|interface| core.is_removed(interface));
    route.ok_or_else(|| os(if removed { libc::ENODEV } else { libc::ENETUNREACH }))
}

/// The packet of an echo request.
fn echo_request(core: &Core, state: &State, message: &[u8], to: IpAddr) -> io::Result<(Route, Vec<u8>)> {
    let to = match to {
        IpAddr::V4(to) if to.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(to) if to.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        to => to,
    };
    let route = way(core, state, to, None)?;
    let Some((&[kind, code, _, _, _, _, s1, s0], body)) = message.split_first_chunk::<ICMP_HEADER_LEN>()
    else {
        return Err(os(libc::EINVAL));
    };
    if !is_echo_request(to.is_ipv6(), kind) || code != 0 {
        return Err(os(libc::EINVAL));
    }
    if IPV4_HEADER_LEN + message.len() > MAX_LEN {
        return Err(os(libc::EMSGSIZE));
    }
    let [i1, i0] = state.identifier().to_be_bytes();
    let ip = IpMeta {
        dont_fragment: false,
        ident: core.random() as u16,
        ..IpMeta::new(route.source, to, state.ip.ttl)
    };
    let mut packet = Vec::new();
    emit_icmp(&mut packet, &ip, &IcmpMessage { kind, code, word: [i1, i0, s1, s0], body });
    Ok((route, packet))
}

/// A whole packet, with what the stack fills in (`IP_HDRINCL`).
fn whole_packet(core: &Core, state: &State, bytes: &[u8]) -> io::Result<(Route, Vec<u8>)> {
    let mut packet = bytes.to_vec();
    if packet.len() > MAX_LEN {
        return Err(os(libc::EMSGSIZE));
    }
    let invalid = || os(libc::EINVAL);
    let v4 = state.ip.family() == Family::V4;
    let fixed = if v4 { IPV4_HEADER_LEN } else { IPV6_HEADER_LEN };
    let version = packet.first().map(|first| first >> 4);
    if packet.len() < fixed || version != Some(if v4 { 4 } else { 6 }) {
        return Err(invalid());
    }
    let header_len = if v4 { usize::from(packet[0] & 15) * 4 } else { IPV6_HEADER_LEN };
    if header_len < fixed || header_len > packet.len() {
        return Err(invalid());
    }
    let (src, dst) = if v4 { (12..16, 16..20) } else { (8..24, 24..40) };
    let address = |bytes: &[u8]| match <[u8; 4]>::try_from(bytes) {
        Ok(bytes) => Some(IpAddr::from(bytes)),
        Err(_) => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    };
    let to = address(&packet[dst]).ok_or_else(invalid)?;
    let from = address(&packet[src.clone()]).ok_or_else(invalid)?;
    let given = Some(from).filter(|from| !from.is_unspecified());
    let route = way(core, state, to, given)?;
    if given.is_none() {
        match route.source {
            IpAddr::V4(source) => packet[src].copy_from_slice(&source.octets()),
            IpAddr::V6(source) => packet[src].copy_from_slice(&source.octets()),
        }
    }
    if v4 {
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        if packet[4..6] == [0, 0] {
            packet[4..6].copy_from_slice(&(core.random() as u16).to_be_bytes());
        }
        packet[10..12].fill(0);
        let sum = checksum(&packet[..header_len]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        let len = (packet.len() - IPV6_HEADER_LEN) as u16;
        packet[4..6].copy_from_slice(&len.to_be_bytes());
    }
    parse_ip(&packet).map_err(|_| invalid())?;
    Ok((route, packet))
}
