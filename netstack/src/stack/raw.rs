//! ICMP and raw sockets in the stack.
//!
//! A ping socket sends echo requests with an identifier of its own and gets the replies to them. A socket for
//! packets gets a copy of each whole packet of its protocol, besides what the stack does with it.

mod calls;
mod cell;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]
mod on_packet;
mod send;

pub use cell::{RawCell, RawKind};

use super::core::Core;
use super::flow::Family;
use super::guest::Guest;
use super::hooks::Observer;
use super::ports::Ports;
use super::socket::{IpSocket, SocketKind};
use super::socket_info::SocketInfo;
use super::turn::Turn;
use super::waiting::Waiting;
use crate::error::{Failure, os};
use crate::readiness::Events;
use crate::sync::{Rank, RwLock};
use crate::time::Instant;
use crate::wire::protocol;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ping and raw sockets. It uses its own tables and the [`Core`] of the [`Turn`], and nothing else.
///
/// The calls of applications are its public methods. [`Engine::with_raw`](super::Engine::with_raw) gives
/// them a turn, and does the work that they leave.
pub struct Raw {
    sockets: RwLock<Vec<Arc<RawCell>>>,
    /// How many sockets there are, to be read without the lock.
    count: AtomicUsize,
    /// The identifiers of ping sockets, which are chosen as ports are.
    identifiers: Arc<Ports>,
    /// Sockets with packets that a queue of a device did not take.
    waiting: Waiting<Arc<RawCell>>,
}

impl Raw {
    pub(super) fn new(core: &Core) -> Self {
        Self {
            sockets: RwLock::new(Rank::Demux, Vec::new()),
            count: AtomicUsize::new(0),
            identifiers: Ports::new(core.config().port_range.clone()),
            waiting: Waiting::new(core.interfaces().queue_count()),
        }
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// All sockets, as rows of a list.
    pub fn socket_infos(&self) -> Vec<SocketInfo> {
        self.all().iter().map(|cell| cell.info()).collect()
    }

    /// Opens a socket. A ping socket has the port of `address` as its identifier, or a free one for port 0; a
    /// socket for packets has no port.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if the stack does not have the address, `EADDRINUSE` for an identifier in use;
    /// `EPROTONOSUPPORT` for packets of TCP, which the stack does not copy.
    pub fn open(
        &self,
        core: &Core,
        kind: RawKind,
        address: SocketAddr,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Arc<RawCell>> {
        if kind == RawKind::Packets(protocol::TCP) {
            return Err(os(libc::EPROTONOSUPPORT));
        }
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let mut ip = IpSocket::new(core, family);
        if family == Family::V6 {
            ip.set_only_v6(true)?;
        }
        match kind {
            RawKind::Ping => ip.bind(core, &self.identifiers, address, SocketKind::Datagrams)?,
            RawKind::Packets(_) => {
                core.check_alive()?;
                let own = core.addresses().classify(address.ip(), None).is_local();
                if !own && !address.ip().is_unspecified() {
                    return Err(os(libc::EADDRNOTAVAIL));
                }
            }
        }
        let cell = Arc::new(RawCell::new(core, kind, ip, address.ip(), observer));
        self.sockets.write().push(Arc::clone(&cell));
        self.count.fetch_add(1, Ordering::Release);
        Ok(cell)
    }

    /// Closes a socket. What was not read is discarded; what was sent and waits for a device is still sent.
    pub fn close(&self, cell: &Arc<RawCell>) {
        if !cell.hold(|state| std::mem::take(&mut state.is_open)) {
            return;
        }
        self.sockets.write().retain(|other| !Arc::ptr_eq(other, cell));
        self.count.fetch_sub(1, Ordering::Release);
        let closed = cell.hold(|state| (state.received.take(), state.ip.take_binding()));
        drop(closed);
    }

    fn all(&self) -> Vec<Arc<RawCell>> {
        self.sockets.read().clone()
    }
}

impl Guest for Raw {
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn on_timer(&self, _turn: &mut Turn<'_>) {}

    fn on_writable(&self, turn: &mut Turn<'_>, queue_number: usize) -> bool {
        self.serve_waiting(turn, queue_number)
    }

    fn has_waiting(&self, queue_number: usize) -> bool {
        self.waiting.len(queue_number) > 0
    }

    fn is_drained(&self) -> bool {
        self.waiting.is_empty()
    }

    fn fail_interface(&self, turn: &mut Turn<'_>, interface: u16, cause: &Failure) {
        self.give_up(turn.core, interface);
        for cell in self.all() {
            let concerns = cell.hold(|state| {
                let owner = turn.core.addresses().owner(state.local);
                let concerns = state.ip.interface().or(owner) == Some(interface);
                if concerns {
                    state.error = Some(cause.clone());
                }
                concerns
            });
            if concerns {
                turn.out.notify(cell, Events::ERROR);
            }
        }
    }

    fn add_queues(&self, queues: usize) {
        self.waiting.grow(queues);
    }

    fn remove_interface(&self, turn: &mut Turn<'_>, interface: u16, cause: &Failure) {
        self.give_up(turn.core, interface);
        for cell in self.all() {
            let concerns = cell.hold(|state| {
                let concerns = state.ip.interface() == Some(interface);
                if concerns {
                    state.error = Some(cause.clone());
                }
                concerns
            });
            if concerns {
                turn.out.notify(cell, Events::ERROR);
            }
        }
    }

    fn fail_all(&self, turn: &mut Turn<'_>, cause: &Failure) {
        for interface in turn.core.interfaces().numbers() {
            self.give_up(turn.core, interface);
        }
        for cell in self.all() {
            cell.hold(|state| state.error = Some(cause.clone()));
            turn.out.notify(cell, Events::ERROR | Events::HANGUP);
        }
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").field("sockets", &self.sockets()).finish_non_exhaustive()
    }
}
