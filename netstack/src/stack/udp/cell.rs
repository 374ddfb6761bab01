//! A UDP socket behind its lock.
//!
//! The driver holds the lock to put a datagram into the queue, and an application to take one out or to
//! send. Both do so for the time of one copy at most, so there is no backlog as TCP has it.

use super::flow::{FlowEnd, FlowPart};
use super::outgoing::LastOutgoing;
use super::place::Place;
use crate::datagram::ReceiveQueue;
use crate::error::{Failure, os};
use crate::ip::PacketOptions;
use crate::stack::core::Core;
use crate::stack::flow::{Family, present};
use crate::stack::hooks::{Observer, Subject};
use crate::stack::ports::Binding;
use crate::stack::socket::{IpOptions, IpSocket};
use crate::stack::socket_info::SocketInfo;
use crate::stack::unsent::Unsent;
use crate::sync::{Mutex, Rank};
use crate::udp::{Filter, UdpOptions};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

/// A UDP socket.
pub struct UdpCell {
    id: u64,
    /// Set when the application gets the socket, which for a flow is when it is accepted.
    observer: OnceLock<Arc<dyn Observer>>,
    state: Mutex<State>,
}

/// What a socket is made of.
pub(super) struct Parts {
    pub(super) id: u64,
    pub(super) ip: IpSocket,
    pub(super) options: UdpOptions,
    pub(super) received: ReceiveQueue,
    pub(super) send_buffer: usize,
    /// Of a flow of a forwarder.
    pub(super) flow: Option<Box<FlowPart>>,
}

/// The peer that a socket is connected to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// As on the wire.
    pub(super) address: SocketAddr,
    /// The interface that leads to it.
    pub(super) interface: u16,
    /// The address that packets to it come from.
    pub(super) source: IpAddr,
}

/// A group that a socket has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) group: IpAddr,
    pub(super) interface: u16,
}

/// The state of a socket: what the lock guards.
pub(super) struct State {
    ip: IpSocket,
    options: UdpOptions,
    peer: Option<Box<Peer>>,
    /// None once anything has changed that it depends on.
    last_outgoing: Option<Box<LastOutgoing>>,
    pub(super) received: ReceiveQueue,
    /// Made when the socket first needs any of it.
    rare: Option<Box<Rare>>,
    /// In bytes; 4 GiB at most.
    send_buffer: u32,
    is_open: bool,
}

/// What most sockets have nothing of at most times: the state of one that is idle is small without it.
#[derive(Debug, Default)]
pub(super) struct Rare {
    /// Datagrams that a device did not take.
    pub(super) unsent: Unsent,
    /// `SO_ERROR`.
    error: Option<Failure>,
    /// The groups that the socket has joined.
    pub(super) memberships: Vec<Membership>,
    /// The interfaces that packets to groups leave through, over IPv4 and IPv6.
    group_interface: [Option<u16>; 2],
    /// If it is a flow of a forwarder.
    flow: Option<Box<FlowPart>>,
}

/// What a socket had that was closed, to be dropped without its lock.
pub(super) struct Closed {
    pub(super) memberships: Vec<Membership>,
    _received: ReceiveQueue,
    _binding: Option<Binding>,
}

impl UdpCell {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { id, ip, options, received, send_buffer, flow } = parts;
        let rare = flow.map(|flow| Box::new(Rare { flow: Some(flow), ..Rare::default() }));
        let send_buffer = in_32_bits(send_buffer);
        let (peer, last_outgoing) = (None, None);
        let state = State { ip, options, peer, last_outgoing, received, rare, send_buffer, is_open: true };
        Self { id, observer: OnceLock::new(), state: Mutex::new(Rank::Cell, state) }
    }

    /// Sets who is told what happens. Only the first call has an effect.
    pub(super) fn observe(&self, observer: Arc<dyn Observer>) {
        self.observer.get_or_init(|| observer);
    }

    /// A number that nothing else of the stack has.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Calls `f` with the state, under the lock.
    #[inline]
    pub(super) fn hold<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock())
    }

    /// The address that the socket is bound to. Once it is connected, the address that it sends from.
    pub fn local_addr(&self) -> SocketAddr {
        self.hold(|state| state.local_addr())
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// `ENOTCONN` if it is not connected, or to port 0 (inet_getname in Linux).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.hold(|state| {
            let peer = state.peer.as_ref().filter(|peer| peer.address.port() > 0);
            let peer = peer.ok_or_else(|| os(libc::ENOTCONN))?;
            Ok(state.presented(peer.address))
        })
    }

    /// The address family.
    pub fn family(&self) -> Family {
        self.hold(|state| state.ip.family())
    }

    /// The options.
    pub fn options(&self) -> UdpOptions {
        self.hold(|state| state.options)
    }

    /// Changes options, which take effect with the next datagram.
    pub fn with_options<R>(&self, change: impl FnOnce(&mut UdpOptions) -> R) -> R {
        self.hold(|state| change(state.options_mut()))
    }

    /// The limit of the receive buffer, in bytes of memory.
    pub fn recv_buffer(&self) -> usize {
        self.hold(|state| state.received.limit())
    }

    /// Changes the limit of the receive buffer, in bytes of memory.
    pub fn set_recv_buffer(&self, limit: usize) {
        self.hold(|state| state.received.set_limit(limit));
    }

    /// The limit of the send buffer, in bytes.
    pub fn send_buffer(&self) -> usize {
        self.hold(|state| state.send_buffer())
    }

    /// Changes the limit of the send buffer, in bytes.
    pub fn set_send_buffer(&self, limit: usize) {
        self.hold(|state| state.send_buffer = in_32_bits(limit));
    }

    /// The memory that unread datagrams keep in use, in bytes.
    pub fn unread(&self) -> usize {
        self.hold(|state| state.received.memory())
    }

    /// Bytes of the datagram that is read next.
    pub fn next_len(&self) -> Option<usize> {
        self.hold(|state| Some(state.received.front()?.first_len()))
    }

    /// The options of the IP layer.
    pub fn ip_options(&self) -> IpOptions {
        self.hold(|state| state.ip.options())
    }

    /// Changes what is set for packets, with effect from the next one on.
    pub fn change_packets(&self, change: impl FnOnce(&mut PacketOptions)) {
        self.hold(|state| change(&mut state.ip_mut().packets));
    }

    /// Sets `IPV6_V6ONLY`.
    ///
    /// # Errors
    /// As [`IpSocket::set_only_v6`].
    pub fn set_only_v6(&self, only: bool) -> io::Result<()> {
        self.hold(|state| state.ip_mut().set_only_v6(only))
    }

    /// Datagrams that the receive buffer had no room for (`SO_RXQ_OVFL`).
    pub fn dropped(&self) -> u64 {
        self.hold(|state| state.received.dropped())
    }

    /// What there is to say of the socket in a list of all.
    pub(super) fn info(&self) -> SocketInfo {
        self.hold(|state| {
            let remote = state.peer.as_ref().map(|peer| state.presented(peer.address));
            SocketInfo {
                recv_queue: state.received.memory(),
                send_queue: state.rare().map_or(0, |rare| rare.unsent.bytes()),
                dropped: state.received.dropped(),
                owner: state.options.owner,
                ..SocketInfo::of_datagrams("udp", state.local_addr(), remote)
            }
        })
    }

    /// `SO_ERROR`: the error that was not reported yet. Taking it clears it.
    pub fn take_error(&self) -> Option<io::Error> {
        self.hold(State::take_error)
    }

    /// `IP_FREEBIND`, which has an effect on binding and on [`Transmission::source`](super::Transmission).
    pub fn freebind(&self) -> bool {
        self.hold(|state| state.ip.freebind)
    }

    /// Sets `IP_FREEBIND`.
    pub fn set_freebind(&self, on: bool) {
        self.hold(|state| state.ip_mut().freebind = on);
    }

    /// `IP_TRANSPARENT`.
    pub fn transparent(&self) -> bool {
        self.hold(|state| state.ip.transparent)
    }

    /// Sets `IP_TRANSPARENT`, with effect from the next datagram on.
    pub fn set_transparent(&self, on: bool) {
        self.hold(|state| state.ip_mut().transparent = on);
    }
}

impl State {
    /// Whether the socket was not closed.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// What it has in common with sockets of other protocols.
    pub(super) fn ip(&self) -> &IpSocket {
        &self.ip
    }

    /// As [`State::ip`], to be changed.
    pub(super) fn ip_mut(&mut self) -> &mut IpSocket {
        self.last_outgoing = None;
        &mut self.ip
    }

    /// The options.
    pub(super) fn options(&self) -> &UdpOptions {
        &self.options
    }

    /// The options, to be changed.
    pub(super) fn options_mut(&mut self) -> &mut UdpOptions {
        self.last_outgoing = None;
        &mut self.options
    }

    /// The peer that the socket is connected to.
    pub(super) fn peer(&self) -> Option<&Peer> {
        self.peer.as_deref()
    }

    /// Connects the socket.
    pub(super) fn set_peer(&mut self, peer: Peer) {
        self.last_outgoing = None;
        self.peer = Some(Box::new(peer));
    }

    /// How the last message went, if that is kept. Who takes it gives it back.
    pub(super) fn take_last_outgoing(&mut self) -> Option<Box<LastOutgoing>> {
        self.last_outgoing.take()
    }

    /// Keeps how a message went.
    pub(super) fn keep_last_outgoing(&mut self, last: Box<LastOutgoing>) {
        self.last_outgoing = Some(last);
    }

    /// Gives back memory that a socket needs only while it is in use: a task is about to wait.
    pub(super) fn trim(&mut self) {
        self.received.trim();
        self.last_outgoing = None;
    }

    /// The port that the socket sends from.
    pub(super) fn port(&self) -> u16 {
        match self.flow() {
            Some(flow) => flow.local.port(),
            None => self.ip.binding().map_or(0, |binding| binding.port()),
        }
    }

    /// The address that the socket is bound to, as on the wire.
    pub(super) fn bound(&self) -> IpAddr {
        if let Some(flow) = self.flow() {
            return flow.local.ip();
        }
        self.ip.binding().map_or_else(|| self.ip.family().unspecified(), |binding| binding.claim().address)
    }

    /// The address that the socket sends from; none if another has to be chosen.
    ///
    /// # Errors
    /// As [`IpSocket::usable_source`].
    pub(super) fn source(&self, core: &Core) -> io::Result<Option<IpAddr>> {
        let source = self.peer.as_ref().map_or_else(|| self.bound(), |peer| peer.source);
        self.ip.usable_source(core, source)
    }

    fn local_addr(&self) -> SocketAddr {
        match &self.peer {
            Some(peer) if self.bound().is_unspecified() => {
                self.presented(SocketAddr::new(peer.source, self.port()))
            }
            _ => self.flow().map_or_else(|| self.ip.local_addr(), |flow| flow.local),
        }
    }

    /// An address as the socket shows it.
    pub(super) fn presented(&self, address: SocketAddr) -> SocketAddr {
        present_to(self.ip.family(), address)
    }

    /// Where in the table the socket is.
    pub(super) fn place(&self) -> Place {
        let claim = self.ip.binding().map(|binding| *binding.claim());
        let bound = self.bound();
        let local = match &self.peer {
            Some(peer) if bound.is_unspecified() => peer.source,
            _ => bound,
        };
        Place {
            port: self.port(),
            filter: Filter {
                local,
                dual_stack: local.is_unspecified() && claim.is_some_and(|claim| claim.dual_stack),
                peer: self.peer.as_ref().map(|peer| (peer.address.ip(), peer.address.port())),
                interface: self.ip.interface(),
                reuse_port: self.ip.options().reuse_port,
            },
        }
    }

    /// The limit of the send buffer, in bytes.
    pub(super) fn send_buffer(&self) -> usize {
        self.send_buffer as usize
    }

    /// The part of the state that most sockets do not have.
    pub(super) fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    /// As [`State::rare`], made if there is none.
    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// What the socket has as a flow of a forwarder, if it is one.
    pub(super) fn flow(&self) -> Option<&FlowPart> {
        self.rare()?.flow.as_deref()
    }

    /// As [`State::flow`], to be changed.
    pub(super) fn flow_mut(&mut self) -> Option<&mut FlowPart> {
        self.rare.as_mut()?.flow.as_deref_mut()
    }

    /// The datagrams that wait for a device, if any ever did.
    pub(super) fn unsent(&mut self) -> Option<&mut Unsent> {
        self.rare.as_mut().map(|rare| &mut rare.unsent)
    }

    /// The groups that the socket has joined.
    pub(super) fn memberships(&self) -> &[Membership] {
        self.rare().map_or(&[], |rare| &rare.memberships)
    }

    /// The interface that packets to groups of a family leave through, if one was chosen.
    pub(super) fn group_interface(&self, family: Family) -> Option<u16> {
        self.rare()?.group_interface[family as usize]
    }

    /// Chooses the interface that packets to groups of a family leave through, or leaves it to the routes.
    pub(super) fn set_group_interface(&mut self, family: Family, interface: Option<u16>) {
        self.last_outgoing = None;
        self.rare_mut().group_interface[family as usize] = interface;
    }

    /// Notes an error, to be reported once.
    pub(super) fn fail(&mut self, error: Failure) {
        self.rare_mut().error = Some(error);
    }

    /// The error that was not reported yet.
    #[inline]
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        let error = self.rare.as_mut()?.error.take()?;
        Some(io::Error::from(&error))
    }

    /// Whether the socket can use no interface but this one.
    pub(super) fn uses_only(&self, core: &Core, interface: u16) -> bool {
        let by_address = core.addresses().owner(self.bound());
        let by_peer = self.peer.as_ref().map(|peer| peer.interface);
        let only = self.ip.interface().or(by_peer).or(by_address);
        only == Some(interface)
    }

    /// Closes the socket. None if it is closed already; else where it is in the table.
    pub(super) fn close(&mut self) -> Option<Place> {
        self.close_as(None)
    }

    /// Closes a flow that the application has not ended.
    pub(super) fn end_flow(&mut self, end: FlowEnd) -> Option<Place> {
        self.close_as(Some(end))
    }

    fn close_as(&mut self, end: Option<FlowEnd>) -> Option<Place> {
        let place = std::mem::take(&mut self.is_open).then(|| self.place())?;
        if let Some(flow) = self.flow_mut() {
            flow.close(end);
        }
        Some(place)
    }

    /// What calls on a socket that is not open fail with.
    pub(super) fn closed(&self) -> io::Error {
        let end = self.flow().and_then(|flow| flow.end());
        os(end.map_or(libc::EBADF, FlowEnd::errno))
    }

    /// Whether it is a flow that can end to make room for another.
    pub(super) fn may_be_evicted(&self) -> bool {
        self.is_open && self.flow().is_some_and(|flow| !flow.is_assured())
    }

    /// What a closed socket had.
    pub(super) fn take_all(&mut self) -> Closed {
        let received = std::mem::replace(&mut self.received, ReceiveQueue::new(0));
        Closed {
            memberships: self
                .rare
                .as_mut()
                .map(|rare| std::mem::take(&mut rare.memberships))
                .unwrap_or_default(),
            _received: received,
            _binding: self.ip_mut().take_binding(),
        }
    }
}

fn in_32_bits(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// An address as a socket of this family shows it: an IPv6 socket shows IPv4 addresses in the mapped form.
pub(super) fn present_to(family: Family, address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => SocketAddr::new(present(address.ip(), family == Family::V6), address.port()),
        SocketAddr::V6(_) => address,
    }
}

impl Subject for UdpCell {
    fn observer(&self) -> Option<&dyn Observer> {
        self.observer.get().map(|observer| &**observer)
    }
}

impl fmt::Debug for UdpCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpCell").field("id", &self.id).finish_non_exhaustive()
    }
}
