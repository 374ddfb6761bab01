//! A UDP socket behind its lock.
//!
//! The driver holds the lock to put a datagram into the queue, and an application to take one out or to
//! send. Both do so for the time of one copy at most, so there is no backlog as TCP has it.

use super::flow::{FlowEnd, FlowPart};
use super::place::Place;
use crate::datagram::ReceiveQueue;
use crate::error::{Failure, os};
use crate::stack::core::Core;
use crate::stack::flow::{Family, present};
use crate::stack::hooks::{Observer, Subject};
use crate::stack::ports::Binding;
use crate::stack::socket::IpSocket;
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
    pub(super) ip: IpSocket,
    pub(super) options: UdpOptions,
    /// The interfaces that packets to groups leave through, over IPv4 and IPv6.
    pub(super) multicast_interface: [Option<u16>; 2],
    pub(super) peer: Option<Box<Peer>>,
    pub(super) received: ReceiveQueue,
    /// Made when a device does not take a datagram.
    pub(super) unsent: Option<Box<Unsent>>,
    pub(super) send_buffer: usize,
    /// `SO_ERROR`.
    error: Option<Box<Failure>>,
    pub(super) memberships: Vec<Membership>,
    /// If it is a flow of a forwarder.
    pub(super) flow: Option<Box<FlowPart>>,
    is_open: bool,
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
        let state = State {
            ip,
            options,
            multicast_interface: [None; 2],
            peer: None,
            received,
            unsent: None,
            send_buffer,
            error: None,
            memberships: Vec::new(),
            flow,
            is_open: true,
        };
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
    /// `ENOTCONN` if it is not connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.hold(|state| {
            let peer = state.peer.as_ref().ok_or_else(|| os(libc::ENOTCONN))?;
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
        self.hold(|state| change(&mut state.options))
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
        self.hold(|state| state.send_buffer)
    }

    /// Changes the limit of the send buffer, in bytes.
    pub fn set_send_buffer(&self, limit: usize) {
        self.hold(|state| state.send_buffer = limit);
    }

    /// The memory that unread datagrams keep in use, in bytes.
    pub fn unread(&self) -> usize {
        self.hold(|state| state.received.memory())
    }

    /// Bytes of the datagram that is read next.
    pub fn next_len(&self) -> Option<usize> {
        self.hold(|state| Some(state.received.front()?.first_len()))
    }

    /// The interface that the socket is bound to (`SO_BINDTODEVICE`).
    pub fn device(&self) -> Option<u16> {
        self.hold(|state| state.ip.interface())
    }

    /// Datagrams that the receive buffer had no room for (`SO_RXQ_OVFL`).
    pub fn dropped(&self) -> u64 {
        self.hold(|state| state.received.dropped())
    }

    /// `SO_ERROR`: the error that was not reported yet. Taking it clears it.
    pub fn take_error(&self) -> Option<io::Error> {
        self.hold(State::take_error)
    }

    /// `IPV6_V6ONLY`.
    pub fn only_v6(&self) -> bool {
        self.hold(|state| state.ip.only_v6())
    }
}

impl State {
    /// Whether the socket was not closed.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The port that the socket sends from.
    pub(super) fn port(&self) -> u16 {
        match &self.flow {
            Some(flow) => flow.local.port(),
            None => self.ip.binding().map_or(0, |binding| binding.port()),
        }
    }

    /// The address that the socket is bound to, as on the wire.
    pub(super) fn bound(&self) -> IpAddr {
        if let Some(flow) = &self.flow {
            return flow.local.ip();
        }
        self.ip.binding().map_or_else(|| self.ip.family().unspecified(), |binding| binding.claim().address)
    }

    /// The address that the socket sends from, if it is one of the stack.
    pub(super) fn source(&self, core: &Core) -> Option<IpAddr> {
        let source = self.peer.as_ref().map_or_else(|| self.bound(), |peer| peer.source);
        // A group is no source, and neither is the unspecified address.
        let interface = self.ip.interface();
        Some(source).filter(|source| core.addresses().classify(*source, interface).is_local())
    }

    fn local_addr(&self) -> SocketAddr {
        match &self.peer {
            Some(peer) if self.bound().is_unspecified() => {
                self.presented(SocketAddr::new(peer.source, self.port()))
            }
            _ => self.flow.as_ref().map_or_else(|| self.ip.local_addr(), |flow| flow.local),
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
                peer: self.peer.as_ref().map(|peer| peer.address),
                interface: self.ip.interface(),
                reuse_port: self.ip.reuse_port,
            },
        }
    }

    /// Notes an error, to be reported once.
    pub(super) fn fail(&mut self, error: Failure) {
        self.error = Some(Box::new(error));
    }

    /// The error that was not reported yet.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take().map(|error| io::Error::from(&*error))
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
        if let Some(flow) = &mut self.flow {
            flow.close(end);
        }
        Some(place)
    }

    /// What calls on a socket that is not open fail with.
    pub(super) fn closed(&self) -> io::Error {
        let end = self.flow.as_ref().and_then(|flow| flow.end());
        os(end.map_or(libc::EBADF, FlowEnd::errno))
    }

    /// Whether it is a flow that can end to make room for another.
    pub(super) fn may_be_evicted(&self) -> bool {
        self.is_open && self.flow.as_ref().is_some_and(|flow| !flow.is_assured())
    }

    /// What a closed socket had.
    pub(super) fn take_all(&mut self) -> Closed {
        let received = std::mem::replace(&mut self.received, ReceiveQueue::new(0));
        Closed {
            memberships: std::mem::take(&mut self.memberships),
            _received: received,
            _binding: self.ip.take_binding(),
        }
    }
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
