//! Sending: the calls of applications, and what waits for a device.

use super::Udp;
use super::cell::{State, UdpCell};
use super::on_datagram::with_scope;
use super::outgoing::Outgoing;
use super::routing::outgoing_of;
use super::transmission::Transmission;
use super::way::Way;
use crate::datagram::{Datagram, Origin};
use crate::device::TxPacket;
use crate::error::os;
use crate::ip::AddressKind;
use crate::readiness::Events;
use crate::stack::core::Core;
use crate::stack::egress::{Sent, send_packet};
use crate::stack::flow::QueueId;
use crate::stack::turn::Turn;
use crate::stack::unsent::Packet;
use crate::udp::Ends;
use crate::wire::Gso;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

impl Udp {
    /// Sends a datagram, or several of one length. Gives the number of bytes, which is all of them.
    ///
    /// # Errors
    /// `WouldBlock` if the send buffer is full; the pending error of the socket, once; `EDESTADDRREQ` without
    /// a destination; `EMSGSIZE` if it is too long; `EACCES` for a broadcast address without `SO_BROADCAST`;
    /// `EINVAL` for port 0, a source that is not the stack's, or a bad segment size; `EAFNOSUPPORT`;
    /// `ENETUNREACH`; the error of the device.
    pub fn send(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<UdpCell>,
        message: &Transmission<'_>,
    ) -> io::Result<usize> {
        turn.core.check_alive()?;
        let mut looped = None;
        cell.hold(|state| {
            if let Some(error) = state.take_error() {
                return Err(error);
            }
            if !state.is_open() {
                return Err(state.closed());
            }
            let mut last = outgoing_of(turn, state, message)?;
            let outgoing = &mut last.outgoing;
            outgoing.check(message)?;
            if !outgoing.kind.is_one_host() {
                looped = looped_back(turn.core, state, outgoing, message);
            }
            // With a time to live of zero, what is for a group does not leave the stack.
            let sent = if outgoing.kind != AddressKind::Multicast || outgoing.ip.hop_limit > 0 {
                self.transmit(turn, cell, state, outgoing, message)
            } else {
                Ok(())
            };
            state.keep_last_outgoing(last);
            sent?;
            if let Some(flow) = state.flow_mut() {
                flow.on_sent(turn.now);
            }
            Ok(())
        })?;
        if let Some((ends, datagram)) = looped {
            self.deliver_to_all(turn, &ends, datagram);
        }
        Ok(message.contents.len())
    }

    /// As [`Udp::send`], on a way that is known, from any port.
    pub(super) fn send_on(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<UdpCell>,
        way: &Way,
        src_port: u16,
        message: &Transmission<'_>,
    ) -> io::Result<usize> {
        turn.core.check_alive()?;
        cell.hold(|state| {
            if !state.is_open() {
                return Err(state.closed());
            }
            let packets = &state.ip().packets;
            let mut outgoing = Outgoing::new(turn, packets, state.options(), way, src_port)?.marked(message);
            outgoing.check(message)?;
            self.transmit(turn, cell, state, &mut outgoing, message)
        })?;
        Ok(message.contents.len())
    }

    /// Sends each datagram of a call. What a device does not take waits in the send buffer.
    #[inline(always)]
    fn transmit(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<UdpCell>,
        state: &mut State,
        outgoing: &mut Outgoing,
        message: &Transmission<'_>,
    ) -> io::Result<()> {
        if state.unsent().is_some_and(|unsent| !unsent.is_empty()) {
            self.flush_unsent(turn, state)?;
        }
        match message.segment_size {
            None => self.transmit_one(turn, state, outgoing, message.contents, None)?,
            Some(size) => self.transmit_several(turn, state, outgoing, message, size)?,
        }
        self.wait_if_unsent(turn, cell, state);
        Ok(())
    }

    /// Sends what waits. Fails with `WouldBlock` if that leaves no room for more.
    #[cold]
    fn flush_unsent(&self, turn: &mut Turn<'_>, state: &mut State) -> io::Result<()> {
        let limit = state.send_buffer().min(turn.core.memory().allowance());
        if let Some(unsent) = state.unsent()
            && !unsent.flush(turn)
            && unsent.bytes() >= limit
        {
            unsent.refused = true;
            self.counters.udp_sndbuf_errors.bump();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    #[inline(always)]
    fn transmit_one(
        &self,
        turn: &mut Turn<'_>,
        state: &mut State,
        outgoing: &mut Outgoing,
        payload: &[u8],
        gso: Option<Gso>,
    ) -> io::Result<()> {
        let queue = outgoing.queue;
        outgoing.emit(turn, payload, gso, |turn, packet| put(turn, queue, state, packet))?;
        self.counters.udp_out_datagrams.bump();
        Ok(())
    }

    /// Several datagrams of `size` bytes: in one packet if the device divides it.
    #[inline(never)]
    fn transmit_several(
        &self,
        turn: &mut Turn<'_>,
        state: &mut State,
        outgoing: &mut Outgoing,
        message: &Transmission<'_>,
        size: usize,
    ) -> io::Result<()> {
        if let Some(gso) = outgoing.gso(turn.core, message) {
            return self.transmit_one(turn, state, outgoing, message.contents, Some(gso));
        }
        let mut pieces = message.contents.chunks(size.max(1));
        // An empty datagram is one, too.
        let first = pieces.next().unwrap_or_default();
        for payload in std::iter::once(first).chain(pieces) {
            self.transmit_one(turn, state, outgoing, payload, None)?;
        }
        Ok(())
    }

    /// Puts a socket on the list of those that wait for a device, if it has to.
    #[inline]
    fn wait_if_unsent(&self, turn: &mut Turn<'_>, cell: &Arc<UdpCell>, state: &mut State) {
        let Some(unsent) = state.unsent() else { return };
        let Some(queue) = unsent.queue() else { return };
        if !std::mem::replace(&mut unsent.is_listed, true) {
            let number = turn.core.queue_number(queue);
            self.waiting.join(number, Arc::clone(cell));
            turn.out.waits(number);
        }
    }

    /// A queue takes packets again: each socket that waits for it sends. Says whether the queue still takes
    /// some after that.
    pub(super) fn serve_waiting(&self, turn: &mut Turn<'_>, queue_number: usize) -> bool {
        // Once for each: who comes back waits behind the others.
        for _ in 0..self.waiting.len(queue_number) {
            let Some(cell) = self.waiting.next(queue_number) else { break };
            let (done, has_room) = cell.hold(|state| {
                let limit = state.send_buffer().min(turn.core.memory().allowance());
                let Some(unsent) = state.unsent() else { return (true, false) };
                unsent.is_listed = false;
                let done = unsent.flush(turn);
                // As Linux's sock_writeable: not for each packet.
                let has_room = unsent.refused && unsent.bytes() <= limit / 2;
                unsent.refused &= !has_room;
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
                    if let Some(unsent) = state.unsent() {
                        unsent.is_listed = false;
                        unsent.clear();
                    }
                });
            }
        }
    }
}

/// Gives a packet to the device, or appends it to what waits.
#[inline]
fn put(turn: &mut Turn<'_>, queue: QueueId, state: &mut State, packet: &TxPacket<'_>) -> io::Result<()> {
    if state.unsent().is_none_or(|unsent| unsent.is_empty()) {
        match send_packet(turn, queue, packet) {
            Sent::Yes => return Ok(()),
            Sent::Full => {}
            Sent::Failed => return Err(os(libc::ENETDOWN)),
        }
    }
    state.rare_mut().unsent.push(Packet::copy_of(packet, queue, turn.core.pool()));
    Ok(())
}

/// What a socket sends to a group or to all hosts of a link comes back to the sockets of the stack that take
/// it, unless it leaves through loopback, which brings it back anyway.
fn looped_back(
    core: &Core,
    state: &State,
    outgoing: &Outgoing,
    message: &Transmission<'_>,
) -> Option<(Ends, Datagram)> {
    let Outgoing { kind, ip, src_port, dst_port, queue, .. } = outgoing;
    let (group, interface) = (ip.dst, queue.interface);
    let wanted = match kind {
        AddressKind::Broadcast => true,
        AddressKind::Multicast => {
            let options = state.options();
            let on = if group.is_ipv4() { options.multicast_loop_v4 } else { options.multicast_loop_v6 };
            on && core.groups().is_member(group, interface)
        }
        AddressKind::Own(_) | AddressKind::AnyIp | AddressKind::Foreign | AddressKind::NoHost => false,
    };
    let leaves = ip.hop_limit > 0;
    if !wanted || core.is_loopback(interface) && leaves {
        return None;
    }
    let end = |ip, port| with_scope(SocketAddr::new(ip, port), interface);
    let source = end(ip.src, *src_port);
    let ends = Ends { local: end(group, *dst_port), remote: source, interface };
    let origin = Origin {
        source,
        destination: group,
        interface,
        traffic_class: ip.traffic_class,
        hop_limit: ip.hop_limit,
    };
    let size = message.segment_size.filter(|size| *size < message.contents.len());
    let segment_size = size.and_then(|size| u16::try_from(size).ok());
    Some((ends, Datagram { origin, segment_size, payload: core.pool().copy_of(message.contents) }))
}
