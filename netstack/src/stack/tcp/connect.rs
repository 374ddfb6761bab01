//! Opening connections: connect.

use super::cell::{Cell, CellParts, Stage};
use super::demux::Flow;
use super::hold::End;
use super::socket::Unconnected;
use super::{Tcp, flow_label};
use crate::config::TimeWaitReuse;
use crate::error::os;
use crate::stack::flow::{Family, FlowKey};
use crate::stack::hooks::Observer;
use crate::stack::ports::{Binding, Chance, Claim};
use crate::stack::routes::Route;
use crate::stack::turn::Turn;
use crate::tcp::{Opening, Setup};
use crate::time::Duration;
use crate::trace::{Call, EventKind};
use crate::wire::SeqNum;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// Times that connect looks for a port when another thread took the one that it had found.
const CONNECT_RACES: usize = 8;

/// Domains of the keyed hash.
const PORT_HASH: u8 = 1;

/// After this time the choice of ports for a destination starts somewhere else (EPHEMERAL_PORT_SHUFFLE_PERIOD in
/// Linux).
const PORT_PERIOD: Duration = Duration::from_secs(10);

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

impl Tcp {
    /// Starts to connect: a SYN is sent. [`Events::WRITABLE`](crate::readiness::Events) signals
    /// that the attempt has ended, and [`Cell::connect_result`] returns the result.
    ///
    /// # Errors
    /// Those that Linux's connect(2) returns at once: `EAFNOSUPPORT`, `ENETUNREACH`,
    /// `EADDRNOTAVAIL` if no port is free, `ECONNREFUSED` for port 0, `ENFILE` at the limit of
    /// connections; the error of the device, if it has failed.
    pub fn connect(
        &self,
        turn: &mut Turn<'_>,
        mut socket: Unconnected,
        remote: SocketAddr,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Arc<Cell>> {
        turn.core.check_alive()?;
        // Binding may have been before the option.
        socket.ip.transparent = socket.options.transparent;
        socket.options.bring_into_range();
        let target = resolve(turn, &socket, remote)?;
        if self.is_full(turn.core) {
            return Err(os(libc::ENFILE));
        }
        let mut bound = socket.ip.take_binding();
        for _ in 0..CONNECT_RACES {
            let was_bound = bound.is_some();
            let binding = match bound.take() {
                Some(binding) => binding,
                None => self.port_for(turn, &socket, &target)?,
            };
            let key = target.key(binding.port());
            let choice = if was_bound { PortChoice::Bound } else { PortChoice::Automatic };
            let iss = match self.place(turn, &key, &target.route, choice) {
                Place::Free => self.isn.isn(turn.now, &key),
                Place::Recycled(iss) => iss,
                Place::Taken if was_bound => return Err(os(libc::EADDRNOTAVAIL)),
                Place::Taken => continue,
            };
            let cell = self.opening_cell(turn, &socket, &target, binding, iss);
            cell.set_observer(Arc::clone(&observer));
            match self.demux.insert(key, Arc::clone(&cell)) {
                Ok(previous) => {
                    if let Some(mut entry) = previous {
                        self.counters.time_wait_recycled.bump();
                        self.deadlines.disarm(&mut entry.timer);
                    }
                    self.counters.active_opens.bump();
                    // Settling sends the SYN.
                    self.hold(turn, &cell, End::Settle, |held| held.note(|| EventKind::Call(Call::Connect)));
                    return Ok(cell);
                }
                Err(()) if was_bound => return Err(os(libc::EADDRNOTAVAIL)),
                Err(()) => {}
            }
        }
        Err(os(libc::EADDRNOTAVAIL))
    }

    /// Chooses a port for a socket that is not bound.
    fn port_for(&self, turn: &Turn<'_>, socket: &Unconnected, target: &Target) -> io::Result<Binding> {
        let options = socket.ip.options();
        let claim = Claim {
            address: target.route.source,
            dual_stack: false,
            interface: options.interface,
            reuse_address: options.reuse_address,
            reuse_port: options.reuse_port,
            listening: false,
            by_connect: true,
        };
        let period = turn.now.as_nanos() / PORT_PERIOD.as_nanos() as u64;
        let flow = (PORT_HASH, period, target.route.source, target.remote, target.remote_port);
        let chance = Chance { hash: turn.core.keyed().of(&flow), noise: turn.core.random() };
        let is_free = |port| {
            let place = self.place(turn, &target.key(port), &target.route, PortChoice::Automatic);
            !matches!(place, Place::Taken)
        };
        self.ports.connect(chance, claim, is_free).map_err(|_| os(libc::EADDRNOTAVAIL))
    }

    fn place(&self, turn: &Turn<'_>, key: &FlowKey, route: &Route, choice: PortChoice) -> Place {
        let reuse = match turn.core.config().tw_reuse {
            TimeWaitReuse::Off => false,
            TimeWaitReuse::All => true,
            TimeWaitReuse::Loopback => turn.core.is_loopback(route.interface),
        };
        self.demux.with_flow(key, |flow| match flow {
            None => Place::Free,
            // Who chose the port knows what he does: tcp_twsk_unique of Linux asks for timestamps then,
            // and for nothing else.
            Some(Flow::TimeWait(entry)) if choice == PortChoice::Bound => {
                entry.record.reuse_by_choice().map_or(Place::Taken, Place::Recycled)
            }
            Some(Flow::TimeWait(entry)) if reuse => {
                entry.record.reuse(turn.now).map_or(Place::Taken, Place::Recycled)
            }
            Some(_) => Place::Taken,
        })
    }

    fn opening_cell(
        &self,
        turn: &Turn<'_>,
        socket: &Unconnected,
        target: &Target,
        binding: Binding,
        iss: SeqNum,
    ) -> Arc<Cell> {
        let (core, key, interface) = (turn.core, target.key(binding.port()), target.route.interface);
        let path = self.path(turn, interface, key.remote());
        let ts_offset = self.timestamp_offset(&key);
        let setup = Setup { options: &socket.options, config: core.config(), pool: core.pool() };
        let mut opening = Opening::new(turn.now, iss, ts_offset, path, setup);
        opening.limit_window(core.memory().allowance());
        let opening = match self.fast_open_attempt(turn, &socket.options, &key) {
            Some(attempt) => opening.with_fast_open(attempt),
            None => opening,
        };
        Cell::new(CellParts {
            id: core.new_id(),
            key,
            mapped: target.mapped,
            flow_label: flow_label(core, &key),
            queue: core.queue_of(interface, key.spread()),
            ip: socket.ip.options(),
            stage: Stage::Opening(Box::new(opening)),
            binding: Some(binding),
            fast_open: None,
            now: turn.now,
            traced: core.trace().is_some(),
            memory: core.memory(),
            spares: &self.spares,
        })
    }
}

/// Where connecting to `remote` leads.
fn resolve(turn: &Turn<'_>, socket: &Unconnected, remote: SocketAddr) -> io::Result<Target> {
    let Some((mut ip, mapped)) = socket.ip.wire_address(remote.ip()) else {
        // A mapped address and IPV6_V6ONLY: tcp_v6_connect in Linux.
        let same_family = remote.is_ipv6() && socket.ip.family() == Family::V6;
        return Err(os(if same_family { libc::ENETUNREACH } else { libc::EAFNOSUPPORT }));
    };
    let source = socket.ip.binding().map(|binding| binding.claim().address);
    let source = source.map(|address| socket.ip.usable_source(turn.core, address)).transpose()?.flatten();
    if let Some(source) = source.filter(|source| source.is_ipv4() != ip.is_ipv4()) {
        return Err(os(if source.is_ipv4() { libc::EAFNOSUPPORT } else { libc::ENETUNREACH }));
    }
    // A group has no route for a connection, with or without a scope.
    if !ip.is_multicast() && socket.ip.lacks_scope(remote) {
        return Err(os(libc::EINVAL));
    }
    if ip.is_unspecified() {
        // Linux: to oneself, at the address that the socket is bound to if it is.
        ip = source.unwrap_or(match ip {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let route = turn.core.routes().lookup(turn.core.addresses(), ip, source, socket.ip.interface());
    let removed = socket.ip.interface().is_some_and(|interface| turn.core.is_removed(interface));
    let route = route.ok_or_else(|| os(if removed { libc::ENODEV } else { libc::ENETUNREACH }))?;
    if let Some(failure) = turn.core.interface_failure(route.interface) {
        return Err(failure.into());
    }
    // Nobody can listen on port 0.
    if remote.port() == 0 {
        return Err(os(libc::ECONNREFUSED));
    }
    Ok(Target { route, remote: ip, remote_port: remote.port(), mapped })
}

impl Target {
    fn key(&self, local_port: u16) -> FlowKey {
        FlowKey::new(&self.route.source, local_port, &self.remote, self.remote_port)
    }
}
