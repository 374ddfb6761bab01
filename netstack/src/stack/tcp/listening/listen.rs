//! The calls of applications on a listener.

use super::listener::{Listener, ListenerParts, Place, SynPolicy};
use super::pending_syn::PendingSyn;
use crate::config::FastOpenMode;
use crate::error::{Failure, os};
use crate::reasons::ResetReason;
use crate::stack::core::Core;
use crate::stack::hooks::Observer;
use crate::stack::socket::interface_of;
use crate::stack::tcp::cell::{Cell, Stage};
use crate::stack::tcp::hold::End;
use crate::stack::tcp::{Tcp, Unconnected};
use crate::stack::turn::Turn;
use crate::tcp::TcpError;
use crate::trace::{Call, EventKind};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Room in the accept queue that is kept while it is empty.
const KEPT: usize = 16;

impl Tcp {
    /// Starts listening. An unbound socket gets a free port.
    ///
    /// # Errors
    /// `EADDRINUSE` if the port is taken by another listener; what the device failed with, if no other
    /// leads to the socket.
    pub fn listen(
        &self,
        turn: &mut Turn<'_>,
        socket: Unconnected,
        backlog: u32,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Arc<Listener>> {
        self.start_listening(turn, socket, backlog, observer, SynPolicy::Answer)
    }

    /// Starts listening, and lets the application decide about each SYN: [`Tcp::accept_pending`].
    ///
    /// # Errors
    /// As [`Tcp::listen`].
    pub fn listen_pending(
        &self,
        turn: &mut Turn<'_>,
        socket: Unconnected,
        backlog: u32,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Arc<Listener>> {
        self.start_listening(turn, socket, backlog, observer, SynPolicy::Hold)
    }

    fn start_listening(
        &self,
        turn: &mut Turn<'_>,
        mut socket: Unconnected,
        backlog: u32,
        observer: Arc<dyn Observer>,
        syn_policy: SynPolicy,
    ) -> io::Result<Arc<Listener>> {
        let (core, config) = (turn.core, turn.core.config());
        core.check_alive()?;
        if socket.ip.binding().is_none() {
            let any = SocketAddr::new(socket.ip.family().unspecified(), 0);
            self.bind(core, &mut socket, any)?;
        }
        let backlog = backlog.min(config.somaxconn);
        socket.options.bring_into_range();
        let everywhere = FastOpenMode::SERVER.with(FastOpenMode::SERVER_ALL);
        if socket.options.fastopen_queue == 0 && config.fastopen.contains(everywhere) {
            socket.options.fastopen_queue = backlog;
        }
        let mapped = socket.ip.is_mapped();
        let mut binding = socket.ip.take_binding().ok_or_else(|| os(libc::EADDRINUSE))?;
        binding.listen().map_err(|_| os(libc::EADDRINUSE))?;
        let overflow = self.demux.overflow(binding.port());
        let listener = Listener::new(ListenerParts {
            id: core.new_id(),
            mapped,
            options: socket.options.clone(),
            ip: socket.ip.options(),
            backlog: backlog as usize,
            syn_policy,
            place: Place::Port(binding),
            observer,
            memory: Arc::clone(core.memory()),
            overflow,
        });
        if let Some(failure) = listener.cut_off(core) {
            return Err(failure.into());
        }
        self.demux.insert_listener(Arc::clone(&listener));
        Ok(listener)
    }

    /// Limits a listener to what comes in on the interface `name` (`SO_BINDTODEVICE`), or removes the limit.
    /// Connections that it has made are not affected.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface.
    pub fn bind_listener_device(
        &self,
        core: &Core,
        listener: &Arc<Listener>,
        name: Option<&str>,
    ) -> io::Result<()> {
        listener.limit_to(interface_of(core, name)?, |change| self.demux.move_listener(listener, change));
        Ok(())
    }

    /// Starts to forward: the application decides about each SYN for which there is no listener, whatever
    /// its address and port are ([`Tcp::accept_pending`]). Connections begin with the options of
    /// `socket`; if it is limited to an interface, only SYNs from there are forwarded, and otherwise
    /// those of all interfaces but loopback. At most `max_in_flight` SYNs wait for a decision, or for the
    /// end of their handshake after it.
    ///
    /// # Errors
    /// `EADDRINUSE` if another forwarder has the interface, or also takes all of them; what the device
    /// failed with.
    pub fn forward(
        &self,
        turn: &mut Turn<'_>,
        mut socket: Unconnected,
        max_in_flight: usize,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Arc<Listener>> {
        let core = turn.core;
        core.check_alive()?;
        socket.options.bring_into_range();
        let listener = Listener::new(ListenerParts {
            id: core.new_id(),
            mapped: false,
            options: socket.options,
            ip: socket.ip.options(),
            // As a backlog, one more than which fits.
            backlog: max_in_flight.saturating_sub(1),
            syn_policy: SynPolicy::Hold,
            place: Place::Forwarder { interface: socket.ip.interface() },
            observer,
            memory: Arc::clone(core.memory()),
            overflow: Arc::default(),
        });
        if let Some(failure) = listener.cut_off(core) {
            return Err(failure.into());
        }
        self.demux.insert_forwarder(Arc::clone(&listener)).map_err(|()| os(libc::EADDRINUSE))?;
        Ok(listener)
    }

    /// Takes the connection that has waited longest. Set its observer, and then check its
    /// [`Cell::readiness`], because data may have arrived already.
    ///
    /// # Errors
    /// `WouldBlock` if none waits; the error of the interface or the stack, if it has failed.
    pub fn accept(
        &self,
        turn: &mut Turn<'_>,
        listener: &Arc<Listener>,
    ) -> io::Result<(Arc<Cell>, SocketAddr)> {
        let cell = pop_accept_queue(listener)?;
        if cell.is_by_fast_open() || cell.is_watched() {
            self.hold(turn, &cell, End::Settle, |held| {
                held.note(|| EventKind::Call(Call::Accept));
                if let Stage::Connected(connection) = &mut held.state.stage {
                    connection.on_accepted();
                }
            });
        }
        let peer = cell.remote_addr();
        Ok((cell, peer))
    }

    /// Takes the SYN that has waited longest for a decision.
    ///
    /// # Errors
    /// `WouldBlock` if none waits; the error of the interface or the stack, if it has failed.
    pub fn accept_pending(&self, listener: &Listener) -> io::Result<Arc<PendingSyn>> {
        let mut state = listener.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.into());
        }
        state.pending.pop_front().ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Stops listening: the port is free at once, connections that were not accepted are reset, and
    /// half-open ones are dropped (inet_csk_listen_stop in Linux).
    pub fn close_listener(&self, turn: &mut Turn<'_>, listener: &Arc<Listener>) {
        for cell in self.empty_listener(turn, listener, Failure::os(libc::EINVAL)) {
            self.reset(turn, &cell, Some(ResetReason::ListenerClosed));
        }
    }

    /// Ends a listener: frees the port, forgets half-open connections, and returns those that wait
    /// for accept, to be reset.
    pub(in crate::stack::tcp) fn empty_listener(
        &self,
        turn: &mut Turn<'_>,
        listener: &Arc<Listener>,
        cause: Failure,
    ) -> VecDeque<Arc<Cell>> {
        self.demux.remove_listener(listener);
        let mut state = listener.lock();
        state.place = None;
        state.failure = Some(cause);
        for mut half_open in state.syn_queue.drain() {
            self.deadlines.disarm(&mut half_open.timer);
            self.demux.remove_half_open(&half_open.key);
            if let Some(pending) = half_open.pending {
                pending.over(TcpError::Aborted.into(), turn.out);
            }
        }
        state.pending = VecDeque::new();
        std::mem::take(&mut state.accept_queue)
    }
}

/// Takes the connection that has waited longest.
fn pop_accept_queue(listener: &Listener) -> io::Result<Arc<Cell>> {
    let mut state = listener.lock();
    let first = state.accept_queue.pop_front();
    if let (None, Some(failure)) = (&first, &state.failure) {
        return Err(failure.into());
    }
    if state.accept_queue.is_empty() {
        state.accept_queue.shrink_to(KEPT);
    }
    first.ok_or_else(|| io::ErrorKind::WouldBlock.into())
}
