//! Sending: the way of a datagram, and its packets.

use super::Udp;
use super::cell::{State, UdpCell};
use super::on_datagram::with_scope;
use crate::buffer::Chunk;
use crate::config::MtuDiscover;
use crate::datagram::{Datagram, Origin};
use crate::device::TxPacket;
use crate::error::os;
use crate::ip::AddressKind;
use crate::readiness::Events;
use crate::stack::core::Core;
use crate::stack::egress::{Sent, checksum_mode, cut, send_packet};
use crate::stack::flow::{Family, FlowKey, QueueId};
use crate::stack::turn::Turn;
use crate::stack::unsent::Packet;
use crate::udp::Ends;
use crate::wire::{
    ChecksumMode, Ecn, Gso, HeaderBuf, IpMeta, UDP_HEADER_LEN, UdpDatagram, emit_udp, ip_header_len,
};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The most payload that one call sends: what a UDP header can count.
const MAX_LEN: usize = u16::MAX as usize;

/// A datagram to send, or several of one length.
#[derive(Clone, Copy, Debug)]
pub struct Transmission<'a> {
    /// The payload, or the payloads of several datagrams, one behind the other.
    pub contents: &'a [u8],
    /// Where to. Default: the peer that the socket is connected to.
    pub destination: Option<SocketAddr>,
    /// The address of the stack to send from. Default: that of the socket, or of the interface.
    pub source: Option<IpAddr>,
    /// The ECN field. Default: the lower two bits of `IP_TOS` or `IPV6_TCLASS`.
    pub ecn: Option<Ecn>,
    /// Bytes of each datagram but the last, if `contents` are several (`UDP_SEGMENT`).
    pub segment_size: Option<usize>,
}

impl<'a> Transmission<'a> {
    /// The most datagrams that one call sends, as in Linux before 6.9 (`UDP_MAX_SEGMENTS`).
    pub const MAX_SEGMENTS: usize = 64;

    /// One datagram to the peer that the socket is connected to.
    pub const fn new(contents: &'a [u8]) -> Self {
        Self { contents, destination: None, source: None, ecn: None, segment_size: None }
    }
}

/// The way of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) interface: u16,
    pub(super) source: IpAddr,
    /// As on the wire.
    pub(super) remote: SocketAddr,
    pub(super) kind: AddressKind,
}

/// Where a datagram goes, as far as the caller says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// The address to send from.
    pub(super) source: Option<IpAddr>,
}

/// The packets of one call: what is the same in all of them.
struct Outgoing<'a> {
    way: &'a Way,
    ip: IpMeta,
    src_port: u16,
    queue: QueueId,
    mode: MtuDiscover,
    /// The most bytes that a packet has without being fragmented.
    mtu: usize,
    /// A router asked for packets that may be fragmented.
    locked: bool,
}

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
        let looped = cell.hold(|state| {
            if let Some(error) = state.take_error() {
                return Err(error);
            }
            if !state.is_open() {
                return Err(state.closed());
            }
            let way = way_of(turn.core, state, message)?;
            if let Some(failure) = turn.core.interface_failure(way.interface) {
                return Err(failure.into());
            }
            let outgoing = Outgoing::new(turn, state, &way, state.port(), message);
            outgoing.check(message)?;
            let looped = looped(turn.core, state, &outgoing, message);
            // With a time to live of zero, what is for a group does not leave the stack.
            if way.kind != AddressKind::Multicast || outgoing.ip.hop_limit > 0 {
                self.transmit(turn, cell, state, &outgoing, message)?;
            }
            if let Some(flow) = state.flow_mut() {
                flow.on_sent(turn.now);
            }
            Ok(looped)
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
            if let Some(failure) = turn.core.interface_failure(way.interface) {
                return Err(failure.into());
            }
            let outgoing = Outgoing::new(turn, state, way, src_port, message);
            outgoing.check(message)?;
            self.transmit(turn, cell, state, &outgoing, message)
        })?;
        Ok(message.contents.len())
    }

    /// Sends each datagram of a call. What a device does not take waits in the send buffer.
    fn transmit(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<UdpCell>,
        state: &mut State,
        outgoing: &Outgoing<'_>,
        message: &Transmission<'_>,
    ) -> io::Result<()> {
        let limit = state.send_buffer();
        if let Some(unsent) = state.unsent().filter(|unsent| !unsent.is_empty())
            && !unsent.flush(turn)
            && unsent.bytes() >= limit
        {
            unsent.refused = true;
            self.counters.udp_sndbuf_errors.bump();
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let whole = outgoing.gso(turn.core, message);
        if let Some(gso) = whole {
            outgoing.emit(turn, state, message.contents, Some(gso))?;
            self.counters.udp_out_datagrams.bump();
            self.wait_if_unsent(turn, cell, state);
            return Ok(());
        }
        let size = message.segment_size.unwrap_or(usize::MAX).max(1);
        let mut pieces = message.contents.chunks(size);
        // An empty datagram is one, too.
        let first = pieces.next().unwrap_or_default();
        for payload in std::iter::once(first).chain(pieces) {
            outgoing.emit(turn, state, payload, None)?;
            self.counters.udp_out_datagrams.bump();
        }
        self.wait_if_unsent(turn, cell, state);
        Ok(())
    }

    /// Puts a socket on the list of those that wait for a device, if it has to.
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
                let limit = state.send_buffer();
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

impl<'a> Outgoing<'a> {
    fn new(turn: &Turn<'_>, state: &State, way: &'a Way, src_port: u16, message: &Transmission<'_>) -> Self {
        let (core, options) = (turn.core, &state.options);
        let group = way.kind == AddressKind::Multicast;
        let (hop_limit, class) = match (way.remote, group) {
            (SocketAddr::V4(_), false) => (options.ttl, options.tos),
            (SocketAddr::V4(_), true) => (options.multicast_ttl, options.tos),
            (SocketAddr::V6(_), false) => (options.hops, options.tclass),
            (SocketAddr::V6(_), true) => (options.multicast_hops, options.tclass),
        };
        let traffic_class = message.ecn.map_or(class, |ecn| class & !3 | ecn.bits());
        let flow = FlowKey::new(&way.source, src_port, &way.remote.ip(), way.remote.port());
        let flow_label = if flow.is_ipv6() { (core.keyed().of(&flow) >> 40) as u32 & 0xf_ffff } else { 0 };
        let ip = IpMeta { traffic_class, flow_label, ..IpMeta::new(way.source, way.remote.ip(), hop_limit) };
        let mode = options.mtu_discover;
        let link = core.mtu(way.interface);
        // Nothing is looked up while no router has said anything.
        let known = (mode.uses_path() && core.paths().changes() > 0)
            .then(|| core.paths().mtu(turn.now, way.remote.ip()))
            .flatten();
        Self {
            way,
            ip,
            src_port,
            queue: core.queue_of(way.interface, flow.spread()),
            mode,
            mtu: known.map_or(link, |known| known.bytes.min(link)),
            locked: known.is_some_and(|known| known.locked),
        }
    }

    fn headers_len(&self) -> usize {
        ip_header_len(&self.ip.dst) + UDP_HEADER_LEN
    }

    /// Refuses what cannot be sent.
    fn check(&self, message: &Transmission<'_>) -> io::Result<()> {
        let len = message.contents.len();
        let longest = message.segment_size.map_or(len, |size| size.min(len));
        // What the length field of the header counts: of IPv4 all, of IPv6 what follows the header.
        let counted = if self.way.remote.is_ipv4() { self.headers_len() } else { UDP_HEADER_LEN };
        let max = if self.mode.fragments() { MAX_LEN - counted } else { self.mtu - self.headers_len() };
        if len > MAX_LEN || longest > max.min(MAX_LEN - counted) {
            return Err(os(libc::EMSGSIZE));
        }
        let Some(size) = message.segment_size else { return Ok(()) };
        // As udp_send_skb in Linux: datagrams that are cut are not fragmented.
        if size == 0 || len.div_ceil(size) > Transmission::MAX_SEGMENTS {
            return Err(os(libc::EINVAL));
        }
        if len > size && size + self.headers_len() > self.mtu {
            return Err(os(libc::EMSGSIZE));
        }
        Ok(())
    }

    /// How the device divides the datagrams of a call, if there are several and it can.
    fn gso(&self, core: &Core, message: &Transmission<'_>) -> Option<Gso> {
        let size = message.segment_size.filter(|size| *size < message.contents.len())?;
        let able = core.capabilities(self.way.interface).udp_segmentation_offload;
        let fits = self.headers_len() + message.contents.len() <= MAX_LEN;
        let size = u16::try_from(size).ok()?;
        (able && fits).then_some(Gso { size, header_len: self.headers_len() as u16 })
    }

    /// Sends one datagram, in fragments if it has to be, or several that the device divides; or appends it to
    /// what waits.
    fn emit(
        &self,
        turn: &mut Turn<'_>,
        state: &mut State,
        payload: &[u8],
        gso: Option<Gso>,
    ) -> io::Result<()> {
        let fits = gso.is_some() || self.headers_len() + payload.len() <= self.mtu;
        let dont_fragment = match self.mode {
            MtuDiscover::Do | MtuDiscover::Probe => true,
            MtuDiscover::Want => fits && !self.locked,
            MtuDiscover::Dont | MtuDiscover::Interface | MtuDiscover::Omit => false,
        };
        // RFC 6864 §4: what may be fragmented is told apart by its identification.
        let ident = if dont_fragment || self.way.remote.is_ipv6() { 0 } else { turn.core.random() as u16 };
        let ip = IpMeta { dont_fragment, ident, ..self.ip };
        let mode = if fits { checksum_mode(turn.core, self.way.interface) } else { ChecksumMode::Full };
        let mut header = HeaderBuf::new();
        let datagram =
            UdpDatagram { ip: &ip, src_port: self.src_port, dst_port: self.way.remote.port(), payload };
        let checksum = emit_udp(&mut header, &datagram, mode);
        if fits {
            let payload: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
            return put(turn, self.queue, state, &TxPacket { header: &header, payload, checksum, gso });
        }
        let whole = [&header[..], payload].concat();
        let mut sent = Ok(());
        cut(turn.core, &whole, self.mtu, |fragment| {
            if sent.is_ok() {
                let packet = TxPacket { header: fragment, payload: &[], checksum: None, gso: None };
                sent = put(turn, self.queue, state, &packet);
            }
        });
        sent
    }
}

/// Gives a packet to the device, or appends it to what waits.
fn put(turn: &mut Turn<'_>, queue: QueueId, state: &mut State, packet: &TxPacket<'_>) -> io::Result<()> {
    if state.unsent().is_none_or(|unsent| unsent.is_empty()) {
        match send_packet(turn, queue, packet) {
            Sent::Yes => return Ok(()),
            Sent::Full => {}
            Sent::Failed => return Err(os(libc::ENETDOWN)),
        }
    }
    state.rare_mut().unsent.push(Packet::copy_of(packet, queue));
    Ok(())
}

/// The way of a message of a socket.
fn way_of(core: &Core, state: &State, message: &Transmission<'_>) -> io::Result<Way> {
    match (message.destination, &state.peer) {
        (None, None) => Err(os(libc::EDESTADDRREQ)),
        (None, Some(peer)) if message.source.is_none() => Ok(Way {
            interface: peer.interface,
            source: peer.source,
            remote: peer.address,
            kind: core.addresses().classify(peer.address.ip(), Some(peer.interface)),
        }),
        (None, Some(peer)) => {
            find_way(core, state, &Target { address: peer.address, source: message.source })
        }
        (Some(address), _) if address.port() == 0 => Err(os(libc::EINVAL)),
        (Some(address), _) => find_way(core, state, &Target { address, source: message.source }),
    }
}

/// The way from a socket to an address.
pub(super) fn find_way(core: &Core, state: &State, target: &Target) -> io::Result<Way> {
    let ip = on_wire(state, target.address)?;
    let source = match target.source {
        None => state.source(core)?,
        Some(source) if source.is_unspecified() => state.source(core)?,
        Some(source) => Some(given_source(core, state, source.to_canonical(), ip)?),
    };
    if source.is_some_and(|source| source.is_ipv4() != ip.is_ipv4()) {
        return Err(os(libc::ENETUNREACH));
    }
    let ip = if ip.is_unspecified() { to_oneself(ip, source) } else { ip };
    let kind = core.addresses().classify(ip, state.ip.interface());
    if kind == AddressKind::Broadcast && !state.options.broadcast {
        return Err(os(libc::EACCES));
    }
    let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
    let by_group = (kind == AddressKind::Multicast).then(|| state.group_interface(family)).flatten();
    let interface = state.ip.interface().or(scope(core, target.address)?).or(by_group);
    let route = core.routes().lookup_any(core.addresses(), ip, source, interface);
    let route = route.ok_or_else(|| {
        if interface.is_some_and(|interface| core.is_removed(interface)) {
            return os(libc::ENODEV);
        }
        // A loopback address does not leave the host: EINVAL, as in Linux.
        os(if source.is_some_and(|source| source.is_loopback()) { libc::EINVAL } else { libc::ENETUNREACH })
    })?;
    let remote = SocketAddr::new(ip, target.address.port());
    let remote = with_scope(remote, route.interface);
    Ok(Way { interface: route.interface, source: route.source, remote, kind })
}

/// The source that a message names (`IP_PKTINFO`, `IPV6_PKTINFO`): of the family of its destination, and an
/// address of the stack or, as for binding, of another host.
fn given_source(core: &Core, state: &State, source: IpAddr, to: IpAddr) -> io::Result<IpAddr> {
    let kind = core.addresses().classify(source, state.ip.interface());
    // ip6_datagram_send_ctl in Linux. Over IPv4 it is the look-up of the route that refuses it.
    let permitted = source.is_ipv4() || kind.is_local() || state.ip.freebind || state.ip.transparent;
    if source.is_ipv4() != to.is_ipv4() || !permitted {
        return Err(os(libc::EINVAL));
    }
    state.ip.usable_source(core, source)?.ok_or_else(|| os(libc::EINVAL))
}

/// The way between two addresses, neither of which has to be the stack's.
pub(super) fn way_between(
    core: &Core,
    bound: Option<u16>,
    from: SocketAddr,
    to: SocketAddr,
) -> io::Result<Way> {
    let (source, ip) = (from.ip().to_canonical(), to.ip().to_canonical());
    let is_one_host = |address| core.addresses().classify(address, bound).is_one_host();
    // A loopback address does not leave the host.
    let leaves = source.is_loopback() && !ip.is_loopback();
    let no_ports = from.port() == 0 || to.port() == 0;
    if no_ports || source.is_ipv4() != ip.is_ipv4() || !is_one_host(source) || leaves {
        return Err(os(libc::EINVAL));
    }
    let kind = core.addresses().classify(ip, bound);
    if !kind.is_one_host() {
        return Err(os(if ip.is_unspecified() { libc::EINVAL } else { libc::EACCES }));
    }
    let interface = bound.or(scope(core, to)?);
    let route = core.routes().lookup(core.addresses(), ip, Some(source), interface);
    let route = route.ok_or_else(|| os(libc::ENETUNREACH))?;
    let remote = with_scope(SocketAddr::new(ip, to.port()), route.interface);
    Ok(Way { interface: route.interface, source, remote, kind })
}

/// An address as on the wire, if the socket can send to it. An IPv6 socket takes IPv4 addresses in either
/// form, unless it is limited to IPv6.
fn on_wire(state: &State, address: SocketAddr) -> io::Result<IpAddr> {
    let ip = address.ip().to_canonical();
    match (state.ip.family(), address, ip) {
        (Family::V4, SocketAddr::V6(_), _) => Err(os(libc::EAFNOSUPPORT)),
        (Family::V6, _, IpAddr::V4(_)) if state.ip.only_v6() => Err(os(libc::ENETUNREACH)),
        _ => Ok(ip),
    }
}

/// What the unspecified address means as a destination: the stack itself, at the address of the socket.
fn to_oneself(unspecified: IpAddr, source: Option<IpAddr>) -> IpAddr {
    source.unwrap_or(match unspecified {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    })
}

/// The interface that an address names, if it is one that means something on one link only.
pub(super) fn scope(core: &Core, address: SocketAddr) -> io::Result<Option<u16>> {
    let SocketAddr::V6(v6) = address else { return Ok(None) };
    let ip = v6.ip();
    let on_link = ip.is_unicast_link_local() || matches!(ip.segments()[0] & 0xff0f, 0xff01 | 0xff02);
    if !on_link || v6.scope_id() == 0 {
        return Ok(None);
    }
    interface_of(core, v6.scope_id()).map(Some)
}

/// The interface with a number that counts from one.
pub(super) fn interface_of(core: &Core, number: u32) -> io::Result<u16> {
    let index = number.checked_sub(1).and_then(|index| u16::try_from(index).ok());
    index
        .filter(|index| core.interfaces().numbers().any(|other| other == *index))
        .ok_or_else(|| os(libc::ENODEV))
}

/// What a socket sends to a group or to all hosts of a link comes back to the sockets of the stack that take
/// it, unless it leaves through loopback, which brings it back anyway.
fn looped(
    core: &Core,
    state: &State,
    outgoing: &Outgoing<'_>,
    message: &Transmission<'_>,
) -> Option<(Ends, Datagram)> {
    let Outgoing { way, ip, src_port, .. } = outgoing;
    let group = way.remote.ip();
    let wanted = match way.kind {
        AddressKind::Broadcast => true,
        AddressKind::Multicast => {
            let options = &state.options;
            let on = if group.is_ipv4() { options.multicast_loop_v4 } else { options.multicast_loop_v6 };
            on && core.groups().is_member(group, way.interface)
        }
        AddressKind::Own(_) | AddressKind::AnyIp | AddressKind::Foreign | AddressKind::NoHost => false,
    };
    let leaves = ip.hop_limit > 0;
    if !wanted || core.is_loopback(way.interface) && leaves {
        return None;
    }
    let source = with_scope(SocketAddr::new(way.source, *src_port), way.interface);
    let ends = Ends { local: way.remote, remote: source, interface: way.interface };
    let origin = Origin {
        source,
        destination: group,
        interface: way.interface,
        traffic_class: ip.traffic_class,
        hop_limit: ip.hop_limit,
    };
    let size = message.segment_size.filter(|size| *size < message.contents.len());
    let segment_size = size.and_then(|size| u16::try_from(size).ok());
    Some((ends, Datagram { origin, segment_size, payload: Chunk::copy_from(message.contents) }))
}
