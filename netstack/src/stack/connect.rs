//! Opening connections: connect, listen, accept.

use super::cell::{Cell, CellParts, Phase};
use super::demux::Flow;
use super::effects::{Effects, Observer};
use super::engine::Engine;
use super::flow::{FlowKey, QueueId};
use super::listener::{Listener, ListenerParts};
use super::ports::{Binding, Claim};
use super::routes::Route;
use super::socket::Unconnected;
use crate::config::{FastOpenMode, TimeWaitReuse};
use crate::error::{Failure, os};
use crate::tcp::Opening;
use crate::time::Instant;
use crate::wire::SeqNum;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Times that connect looks for a port when another thread took the one that it had found.
const CONNECT_RACES: usize = 8;

/// Domains of the keyed hash.
const PORT_HASH: u8 = 1;

/// Who chose the port that a connection begins from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PortChoice {
    /// The user, with bind.
    Bound,
    /// The stack.
    Automatic,
}

/// Whether a connection can have a place in the table.
enum Place {
    Free,
    /// By taking over a TIME-WAIT entry, with this initial sequence number.
    Recycled(SeqNum),
    Taken,
}

/// Where a connection goes, before its port is known.
struct Target {
    route: Route,
    remote: IpAddr,
    remote_port: u16,
    mapped: bool,
}

impl Engine {
    /// Starts to connect: a SYN is sent. [`Events::WRITABLE`](crate::readiness::Events) says that the
    /// attempt ended, and [`Cell::connect_result`] how.
    ///
    /// # Errors
    /// Those that Linux's connect(2) gives at once: `EAFNOSUPPORT`, `ENETUNREACH`, `EADDRNOTAVAIL` if
    /// no port is free, `ECONNREFUSED` for port 0, `ENFILE` at the limit of connections; what the
    /// device failed with, if it did.
    pub fn connect(
        &self,
        now: Instant,
        mut socket: Unconnected,
        remote: SocketAddr,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Arc<Cell>> {
        self.check_alive()?;
        let target = self.resolve(&socket, remote)?;
        if self.is_full() {
            return Err(os(libc::ENFILE));
        }
        let mut bound = socket.take_binding();
        for _ in 0..CONNECT_RACES {
            let was_bound = bound.is_some();
            let binding = match bound.take() {
                Some(binding) => binding,
                None => self.port_for(now, &socket, &target)?,
            };
            let key = target.key(binding.port());
            let choice = if was_bound { PortChoice::Bound } else { PortChoice::Automatic };
            let iss = match self.place(now, &key, &target.route, choice) {
                Place::Free => self.isn(now, &key),
                Place::Recycled(iss) => iss,
                Place::Taken if was_bound => return Err(os(libc::EADDRNOTAVAIL)),
                Place::Taken => continue,
            };
            let cell = self.opening_cell(now, &socket, &target, key, iss, binding);
            cell.set_observer(Arc::clone(&observer));
            match self.demux().insert(key, Arc::clone(&cell)) {
                Ok(previous) => {
                    if let Some(mut parked) = previous {
                        self.counters_live().time_wait_recycled.bump();
                        self.disarm(&mut parked.timer);
                    }
                    self.counters_live().active_opens.bump();
                    let mut out = Effects::new();
                    // Settling sends the SYN.
                    self.with_cell(now, &cell, &mut out, |_, _| ());
                    out.deliver(self);
                    return Ok(cell);
                }
                Err(()) if was_bound => return Err(os(libc::EADDRNOTAVAIL)),
                Err(()) => {}
            }
        }
        Err(os(libc::EADDRNOTAVAIL))
    }

    /// Where connecting to `remote` leads.
    fn resolve(&self, socket: &Unconnected, remote: SocketAddr) -> io::Result<Target> {
        let Some((mut ip, mapped)) = socket.wire_address(remote.ip()) else {
            // A mapped address and IPV6_V6ONLY: tcp_v6_connect in Linux.
            let same_family = remote.is_ipv6() && socket.family() == super::flow::Family::V6;
            return Err(os(if same_family { libc::ENETUNREACH } else { libc::EAFNOSUPPORT }));
        };
        let source = socket.binding().map(|binding| binding.claim().address);
        let source = source.filter(|address| !address.is_unspecified());
        if source.is_some_and(|source| source.is_ipv4() != ip.is_ipv4()) {
            return Err(os(libc::EINVAL));
        }
        if ip.is_unspecified() {
            // Linux: to oneself, at the address that the socket is bound to if it is.
            ip = source.unwrap_or(match ip {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        let route = self.routes().lookup(self.addresses(), ip, source, socket.interface());
        let route = route.ok_or_else(|| os(libc::ENETUNREACH))?;
        if let Some(failure) = self.interface_failure(route.interface) {
            return Err(failure.into());
        }
        // Nobody can listen on port 0.
        if remote.port() == 0 {
            return Err(os(libc::ECONNREFUSED));
        }
        Ok(Target { route, remote: ip, remote_port: remote.port(), mapped })
    }

    /// Chooses a port for a socket that is not bound.
    fn port_for(&self, now: Instant, socket: &Unconnected, target: &Target) -> io::Result<Binding> {
        let claim = Claim {
            address: target.route.source,
            dual_stack: false,
            interface: socket.interface(),
            reuse_address: socket.reuse_address,
            reuse_port: socket.reuse_port,
            listening: false,
            by_connect: true,
        };
        let hash = self.demux().hash(PORT_HASH, target.route.source, target.remote, target.remote_port);
        let is_free = |port| {
            let place = self.place(now, &target.key(port), &target.route, PortChoice::Automatic);
            !matches!(place, Place::Taken)
        };
        self.ports().connect(hash, claim, is_free).map_err(|_| os(libc::EADDRNOTAVAIL))
    }

    fn place(&self, now: Instant, key: &FlowKey, route: &Route, choice: PortChoice) -> Place {
        let reuse = match self.config().tw_reuse {
            TimeWaitReuse::Off => false,
            TimeWaitReuse::All => true,
            TimeWaitReuse::Loopback => self.is_loopback(route.interface),
        };
        self.demux().with_flow(key, |flow| match flow {
            None => Place::Free,
            // Who chose the port knows what he does: tcp_twsk_unique of Linux asks for timestamps then,
            // and for nothing else.
            Some(Flow::TimeWait(parked)) if choice == PortChoice::Bound => {
                parked.record.reuse_by_choice().map_or(Place::Taken, Place::Recycled)
            }
            Some(Flow::TimeWait(parked)) if reuse => {
                parked.record.reuse(now).map_or(Place::Taken, Place::Recycled)
            }
            Some(_) => Place::Taken,
        })
    }

    fn opening_cell(
        &self,
        now: Instant,
        socket: &Unconnected,
        target: &Target,
        key: FlowKey,
        iss: SeqNum,
        binding: Binding,
    ) -> Arc<Cell> {
        let interface = target.route.interface;
        let path = self.path(now, interface, key.remote());
        let ts_offset = self.timestamp_offset(&key);
        let opening =
            Opening::new(now, iss, ts_offset, path, socket.options.clone(), self.config(), self.pool());
        let opening = match self.fast_open_attempt(now, &socket.options, &key) {
            Some(attempt) => opening.with_fast_open(attempt),
            None => opening,
        };
        let queues = self.capabilities(interface).queues.max(1);
        Cell::new(CellParts {
            id: self.new_id(),
            key,
            mapped: target.mapped,
            flow_label: self.flow_label(&key),
            queue: QueueId { interface, queue: (key.spread() % queues) as u16 },
            ttl: socket.ttl,
            traffic_class: socket.traffic_class & !3,
            phase: Phase::Opening(Box::new(opening)),
            binding: Some(binding),
            options: socket.options.clone(),
            fast_open: None,
        })
    }

    /// Listens. An unbound socket gets a port of its own.
    ///
    /// # Errors
    /// `EADDRINUSE` if the port is taken by another listener.
    pub fn listen(
        &self,
        socket: Unconnected,
        backlog: u32,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Arc<Listener>> {
        self.start_listening(socket, backlog, observer, false)
    }

    /// Listens, and leaves it to the application to decide about each SYN:
    /// [`Engine::accept_pending`].
    ///
    /// # Errors
    /// As [`Engine::listen`].
    pub fn listen_pending(
        &self,
        socket: Unconnected,
        backlog: u32,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Arc<Listener>> {
        self.start_listening(socket, backlog, observer, true)
    }

    fn start_listening(
        &self,
        mut socket: Unconnected,
        backlog: u32,
        observer: Arc<dyn Observer>,
        asks: bool,
    ) -> io::Result<Arc<Listener>> {
        self.check_alive()?;
        if socket.binding().is_none() {
            let any = SocketAddr::new(socket.family().unspecified(), 0);
            socket.bind(self, any)?;
        }
        let backlog = backlog.min(self.config().somaxconn);
        let everywhere = FastOpenMode::SERVER.with(FastOpenMode::SERVER_ALL);
        if socket.options.fastopen_queue == 0 && self.config().fastopen.contains(everywhere) {
            socket.options.fastopen_queue = backlog;
        }
        let mapped = socket.is_mapped();
        let mut binding = socket.take_binding().ok_or_else(|| os(libc::EADDRINUSE))?;
        binding.listen().map_err(|_| os(libc::EADDRINUSE))?;
        let overflow = self.demux().overflow(binding.port());
        let listener = Listener::new(ListenerParts {
            id: self.new_id(),
            mapped,
            options: socket.options.clone(),
            ttl: socket.ttl,
            traffic_class: socket.traffic_class & !3,
            backlog: backlog as usize,
            asks,
            binding,
            observer,
            keyed: self.demux().keyed(),
            overflow,
        });
        self.demux().insert_listener(Arc::clone(&listener));
        Ok(listener)
    }

    /// Takes the connection that has waited longest. Give it an observer, and then look at its
    /// [`Cell::readiness`]: data may be there already.
    ///
    /// # Errors
    /// `WouldBlock` if none waits; what the interface or the stack failed with.
    pub fn accept(&self, listener: &Arc<Listener>) -> io::Result<(Arc<Cell>, SocketAddr)> {
        match self.pop_accept_queue(listener) {
            Ok(Some(cell)) => {
                let peer = cell.remote_addr();
                if cell.is_by_fast_open()
                    && let Phase::Connected(connection) = &mut cell.lock().phase
                {
                    connection.on_accepted();
                }
                Ok((cell, peer))
            }
            Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
            Err(failure) => Err((&failure).into()),
        }
    }

    /// Stops listening: the port is free at once, connections that nobody accepted are reset, and
    /// half-open ones are forgotten (inet_csk_listen_stop in Linux).
    pub fn close_listener(&self, now: Instant, listener: &Arc<Listener>) {
        let gone = Failure::Os(libc::EINVAL);
        let mut out = Effects::new();
        for cell in self.empty_listener(listener, Some(gone), &mut out) {
            self.abort(now, &cell);
        }
        out.deliver(self);
    }
}

impl Target {
    fn key(&self, local_port: u16) -> FlowKey {
        FlowKey::new(&self.route.source, local_port, &self.remote, self.remote_port)
    }
}
