//! A ping or raw socket behind its lock.

use crate::datagram::ReceiveQueue;
use crate::error::{Failure, os};
use crate::stack::core::Core;
use crate::stack::flow::Family;
use crate::stack::hooks::{Observer, Subject};
use crate::stack::socket::IpSocket;
use crate::stack::socket_info::SocketInfo;
use crate::stack::unsent::Unsent;
use crate::sync::{Mutex, Rank};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawKind {
    /// Echo requests, and the replies to them.
    Ping,
    /// Whole packets of the protocol with this number.
    Packets(u8),
}

/// A ping or raw socket.
pub struct RawCell {
    kind: RawKind,
    observer: Arc<dyn Observer>,
    state: Mutex<State>,
}

/// The state of a socket: what the lock guards.
pub(super) struct State {
    pub(super) ip: IpSocket,
    /// The address that it is bound to, or the unspecified one.
    pub(super) local: IpAddr,
    pub(super) peer: Option<SocketAddr>,
    /// `SO_BROADCAST`.
    pub(super) broadcast: bool,
    pub(super) received: ReceiveQueue,
    pub(super) unsent: Unsent,
    pub(super) send_buffer: usize,
    /// `SO_ERROR`.
    pub(super) error: Option<Failure>,
    pub(super) is_open: bool,
}

impl RawCell {
    pub(super) fn new(
        core: &Core,
        kind: RawKind,
        ip: IpSocket,
        local: IpAddr,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let config = core.config();
        let state = State {
            ip,
            local,
            peer: None,
            broadcast: false,
            received: ReceiveQueue::new(config.datagram_recv_buffer),
            unsent: Unsent::default(),
            send_buffer: config.datagram_send_buffer,
            error: None,
            is_open: true,
        };
        Self { kind, observer, state: Mutex::new(Rank::Cell, state) }
    }

    /// What the socket is for.
    pub fn kind(&self) -> RawKind {
        self.kind
    }

    /// Calls `f` with the state, under the lock.
    pub(super) fn hold<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.state.lock())
    }

    /// The address that the socket is bound to. The port of a ping socket is its identifier.
    pub fn local_addr(&self) -> SocketAddr {
        self.hold(|state| SocketAddr::new(state.local, state.identifier()))
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// `ENOTCONN` if it is not connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.hold(|state| state.peer).ok_or_else(|| os(libc::ENOTCONN))
    }

    /// `IP_TTL` or the hop limit.
    pub fn ttl(&self) -> u8 {
        self.hold(|state| state.ip.packets.ttl)
    }

    /// Sets `IP_TTL` or the hop limit.
    pub fn set_ttl(&self, ttl: u8) {
        self.hold(|state| (state.ip.packets.ttl, state.ip.packets.hops) = (ttl, ttl));
    }

    /// Sets `SO_BROADCAST`.
    pub fn set_broadcast(&self, on: bool) {
        self.hold(|state| state.broadcast = on);
    }

    /// Binds the socket to the interface `name` (`SO_BINDTODEVICE`), or removes the binding.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface.
    pub fn bind_device(&self, core: &Core, name: Option<&str>) -> io::Result<()> {
        self.hold(|state| state.ip.bind_device(core, name))
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

    /// Packets that the receive buffer had no room for.
    pub fn dropped(&self) -> u64 {
        self.hold(|state| state.received.dropped())
    }

    /// What there is to say of the socket in a list of all.
    pub(super) fn info(&self) -> SocketInfo {
        self.hold(|state| {
            let (name, port) = match self.kind {
                RawKind::Ping => ("ping", state.identifier()),
                RawKind::Packets(protocol) => ("raw", protocol.into()),
            };
            let local = SocketAddr::new(state.local, port);
            SocketInfo {
                recv_queue: state.received.memory(),
                send_queue: state.unsent.bytes(),
                dropped: state.received.dropped(),
                ..SocketInfo::of_datagrams(name, local, state.peer)
            }
        })
    }

    /// `SO_ERROR`: the error that was not reported yet. Taking it clears it.
    pub fn take_error(&self) -> Option<io::Error> {
        self.hold(State::take_error)
    }
}

impl State {
    /// The identifier of a ping socket.
    pub(super) fn identifier(&self) -> u16 {
        self.ip.binding().map_or(0, |binding| binding.port())
    }

    /// The error that was not reported yet.
    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take().map(|error| io::Error::from(&error))
    }

    /// Whether the socket takes what is sent from `remote` to `local` and comes in on an interface.
    pub(super) fn takes(&self, local: IpAddr, remote: IpAddr, interface: u16) -> bool {
        let family = match self.ip.family() {
            Family::V4 => local.is_ipv4(),
            Family::V6 => local.is_ipv6(),
        };
        family
            && (self.local.is_unspecified() || self.local == local)
            && self.peer.is_none_or(|peer| peer.ip() == remote)
            && self.ip.interface().is_none_or(|bound| bound == interface)
    }
}

impl Subject for RawCell {
    fn observer(&self) -> Option<&dyn Observer> {
        Some(&*self.observer)
    }
}

impl fmt::Debug for RawCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawCell").field("kind", &self.kind).finish_non_exhaustive()
    }
}
