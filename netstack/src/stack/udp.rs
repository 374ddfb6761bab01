//! UDP in the stack: its sockets, and the way of a datagram to them.
//!
//! A datagram comes in through [`Udp::on_datagram`], finds its socket in `table`, and waits in the socket's
//! queue until it is read. Applications send inline, through `send`; what a device does not take waits in
//! `unsent`. `cell` is the only file that locks a socket. What no socket takes may be for a `forwarder`, and
//! `forward` makes sockets of it.

mod calls;
mod cell;
mod connect;
mod enqueue;
mod flow;
mod flows;
mod forward;
mod forwarder;
mod icmp;
#[cfg(feature = "simulation")]
mod inspect;
mod memberships;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]
mod on_datagram;
mod outgoing;
mod place;
mod routing;
mod send;
mod table;
mod transmission;
mod way;

pub use calls::UdpReceived;
pub use cell::UdpCell;
pub use forwarder::{UdpForwarderCell, UdpForwarderStats, UdpForwarding};
#[cfg(feature = "simulation")]
pub use inspect::UdpInspection;
pub use transmission::Transmission;

use self::cell::{Closed, Parts, State};
use self::forwarder::Forwarders;
use self::place::Place;
use self::table::Table;
use super::core::Core;
use super::counters::UdpCounters;
use super::deadlines::Deadlines;
use super::flow::Family;
use super::guest::Guest;
use super::hooks::Observer;
use super::ports::Ports;
use super::socket::{IpSocket, SocketKind};
use super::socket_info::SocketInfo;
use super::turn::Turn;
use super::waiting::Waiting;
use crate::datagram::ReceiveQueue;
use crate::error::Failure;
use crate::readiness::Events;
use crate::time::Instant;
use crate::udp::UdpOptions;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// UDP: sockets and their state. It uses its own tables and the [`Core`] of the [`Turn`], and nothing else.
///
/// The calls of applications are its public methods. [`Engine::with_udp`](super::Engine::with_udp) gives
/// them a turn, and does the work that they leave.
pub struct Udp {
    table: Table,
    ports: Arc<Ports>,
    /// Sockets with datagrams that a queue of a device did not take.
    waiting: Waiting<Arc<UdpCell>>,
    forwarders: Forwarders,
    /// When flows have been idle for too long.
    deadlines: Deadlines<Arc<UdpCell>>,
    counters: UdpCounters,
}

/// A UDP socket before it is bound.
#[derive(Debug)]
pub struct UnboundUdp {
    /// The part that the sockets of all protocols have.
    pub ip: IpSocket,
    /// The options that it starts with.
    pub options: UdpOptions,
    /// The limit of the receive buffer, in bytes of memory.
    pub recv_buffer: usize,
    /// The limit of the send buffer, in bytes.
    pub send_buffer: usize,
}

impl UnboundUdp {
    /// A socket with default options.
    pub fn new(core: &Core, family: Family) -> Self {
        let config = core.config();
        Self {
            ip: IpSocket::new(core, family),
            options: UdpOptions::new(config),
            recv_buffer: config.datagram_recv_buffer,
            send_buffer: config.datagram_send_buffer,
        }
    }
}

impl Udp {
    pub(super) fn new(core: &Core) -> Self {
        Self {
            table: Table::new(core.keyed().clone()),
            ports: Ports::new(core.config().port_range.clone()),
            waiting: Waiting::new(core.interfaces().queue_count()),
            forwarders: Forwarders::new(),
            deadlines: Deadlines::new(core.memory()),
            counters: UdpCounters::default(),
        }
    }

    pub(super) fn counters(&self) -> &UdpCounters {
        &self.counters
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> usize {
        self.table.len()
    }

    /// All sockets, as rows of a list.
    pub fn socket_infos(&self) -> Vec<SocketInfo> {
        self.table.all().iter().map(|cell| cell.info()).collect()
    }

    /// Ports in use.
    pub fn ports_in_use(&self) -> usize {
        self.ports.len()
    }

    /// Binds a socket, which then gets what is sent to `address`: reserves the port, or a free ephemeral
    /// port for port 0.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` for an address of the other family, `EADDRNOTAVAIL` if the stack does not have the
    /// address, `EADDRINUSE`.
    pub fn bind(
        &self,
        core: &Core,
        mut socket: UnboundUdp,
        address: SocketAddr,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Arc<UdpCell>> {
        socket.ip.bind(core, &self.ports, address, SocketKind::Datagrams)?;
        let UnboundUdp { ip, options, recv_buffer, send_buffer } = socket;
        let received = ReceiveQueue::new(recv_buffer);
        let parts = Parts { id: core.new_id(), ip, options, received, send_buffer, flow: None };
        let cell = Arc::new(UdpCell::new(parts));
        cell.observe(observer);
        cell.hold(|state| self.table.enter(&cell, state.place()));
        Ok(cell)
    }

    /// Closes a socket: its port is free at once, and what was not read is discarded. What was sent and
    /// waits for a device is still sent.
    pub fn close(&self, turn: &mut Turn<'_>, cell: &Arc<UdpCell>) {
        let Some(closed) = cell.hold(|state| self.close_held(cell, state)) else { return };
        for membership in &closed.memberships {
            turn.core.groups().leave(membership.group, membership.interface);
        }
    }

    /// Closes a socket that is held, unless it is closed. What it had is to be dropped when it is not held any more.
    fn close_held(&self, cell: &Arc<UdpCell>, state: &mut State) -> Option<Closed> {
        let place = state.close()?;
        self.leave(cell, state, &place);
        Some(state.take_all())
    }

    /// Takes a socket that was closed out of the tables.
    fn leave(&self, cell: &Arc<UdpCell>, state: &mut State, place: &Place) {
        self.table.leave(cell, place);
        if let Some(flow) = state.flow_mut() {
            self.deadlines.disarm(&mut flow.timer);
        }
    }
}

impl Guest for Udp {
    fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    fn on_timer(&self, turn: &mut Turn<'_>) {
        self.end_idle_flows(turn);
    }

    fn on_writable(&self, turn: &mut Turn<'_>, queue_number: usize) -> bool {
        self.serve_waiting(turn, queue_number)
    }

    fn has_waiting(&self, queue_number: usize) -> bool {
        self.waiting.len(queue_number) > 0
    }

    fn is_drained(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A socket that is bound to an address of the interface, or to the interface, gets the error. One that
    /// is bound to neither may use another interface, and gets it when it sends through this one.
    fn fail_interface(&self, turn: &mut Turn<'_>, interface: u16, cause: &Failure) {
        self.give_up(turn.core, interface);
        for cell in self.table.all() {
            let concerns = cell.hold(|state| {
                let concerns = state.uses_only(turn.core, interface);
                if concerns {
                    state.fail(cause.clone());
                }
                concerns
            });
            if concerns {
                turn.out.notify(cell, Events::ERROR);
            }
        }
        for forwarder in self.forwarders.all() {
            if forwarder.cut_off(turn.core).is_some() {
                turn.out.notify(forwarder, Events::READABLE | Events::ERROR);
            }
        }
    }

    fn add_queues(&self, queues: usize) {
        self.waiting.grow(queues);
    }

    /// A socket that is bound to the interface, or connected through it, gets the error. One that is bound to an
    /// address of it stays, as in Linux: the address may come back on another interface.
    fn remove_interface(&self, turn: &mut Turn<'_>, interface: u16, cause: &Failure) {
        self.give_up(turn.core, interface);
        for cell in self.table.all() {
            let concerns = cell.hold(|state| {
                let by_peer = state.peer().map(|peer| peer.interface);
                let concerns = state.ip().interface().or(by_peer) == Some(interface);
                if concerns {
                    state.fail(cause.clone());
                }
                concerns
            });
            if concerns {
                turn.out.notify(cell, Events::ERROR);
            }
        }
        for forwarder in self.forwarders.all() {
            if forwarder.cut_off(turn.core).is_some() {
                turn.out.notify(forwarder, Events::READABLE | Events::ERROR);
            }
        }
    }

    fn fail_all(&self, turn: &mut Turn<'_>, cause: &Failure) {
        for interface in turn.core.interfaces().numbers() {
            self.give_up(turn.core, interface);
        }
        for cell in self.table.all() {
            cell.hold(|state| state.fail(cause.clone()));
            turn.out.notify(cell, Events::ERROR | Events::HANGUP);
        }
        for forwarder in self.forwarders.all() {
            turn.out.notify(forwarder, Events::ERROR | Events::HANGUP);
        }
    }
}

impl fmt::Debug for Udp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Udp").field("sockets", &self.sockets()).finish_non_exhaustive()
    }
}
