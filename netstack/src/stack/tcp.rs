//! TCP in the stack: its tables, its sockets, and the path of a segment through them.
//!
//! A segment comes in through [`Tcp::on_segment`], finds its connection in `demux`, and is
//! processed under the lock of its `cell`; what the connection then has to send leaves by
//! `hold/transmit`. Applications take the same lock from above, through `connect` and `calls`, and
//! transmit inline. `hold` is the only way to lock a connection, and `listening` handles
//! connections before they are established.

mod calls;
mod cell;
mod coalesce;
mod connect;
mod connected;
mod deadline;
mod demux;
mod ends;
mod failure;
mod fast_open;
mod fast_open_cache;
mod fast_open_queue;
mod hold;
mod icmp;
#[cfg(feature = "simulation")]
mod inspect;
mod listening;
mod metrics;
mod next;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]
mod on_segment;
mod removal;
mod reset;
mod rest;
mod rows;
mod scratch;
mod send;
mod socket;
mod spares;
mod stray;
mod sweep;
mod time_wait;
mod watch;

#[cfg(test)]
mod tests;

pub use cell::Cell;
pub use ends::ConnectionEnd;
pub use fast_open_cache::{FastOpenCache, FastOpenEntry};
#[cfg(feature = "simulation")]
pub use inspect::Inspection;
pub use listening::{Listener, ListenerCounters, ListenerQueues, PendingSyn, Rejection};
pub use metrics::Destination;
pub(super) use scratch::Scratch;
pub use socket::Unconnected;

use self::deadline::Deadline;
use self::demux::Demux;
use self::ends::RecentEnds;
use self::fast_open::FastOpenState;
use self::metrics::Metrics;
use self::reset::ResetLimit;
use self::spares::Spares;
use self::sweep::Sweep;
use super::core::Core;
use super::counters::TcpCounters;
use super::deadlines::Deadlines;
use super::flow::FlowKey;
use super::guest::Guest;
use super::ports::Ports;
use super::turn::Turn;
use super::waiting::Waiting;
use crate::error::Failure;
use crate::sync::{Published, Rank};
use crate::tcp::{CongestionChoice, CongestionRegistry, IsnGenerator, Path, SynCookies};
use crate::time::Instant;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// TCP: connections, listeners and their state. It uses its own tables and the [`Core`] of the
/// [`Turn`], and nothing else.
///
/// The calls of applications are its public methods. [`Engine::with_tcp`](super::Engine::with_tcp)
/// gives them a turn, and does the work that they leave.
pub struct Tcp {
    demux: Demux,
    ports: Arc<Ports>,
    deadlines: Deadlines<Deadline>,
    /// Connections that wait for a queue of a device.
    waiting: Waiting<Arc<Cell>>,
    cookies: Published<SynCookies>,
    isn: IsnGenerator,
    reset_limit: ResetLimit,
    /// Connections that no application holds any more.
    orphans: AtomicUsize,
    /// Connections with something to deliver: a driver that ends asks for it again and again.
    undelivered: AtomicUsize,
    fast_open: FastOpenState,
    /// That of new sockets, which also leads to the others that the stack knows.
    congestion: CongestionChoice,
    metrics: Metrics,
    ends: RecentEnds,
    sweep: Sweep,
    spares: Arc<Spares>,
    counters: TcpCounters,
}

impl Tcp {
    /// # Errors
    /// Of kind `InvalidInput` if [`Config::congestion`](crate::config::Config::congestion) is not in
    /// `congestion`.
    pub(super) fn new(
        core: &Core,
        cache: Option<Arc<FastOpenCache>>,
        congestion: &CongestionRegistry,
    ) -> io::Result<Self> {
        let config = core.config();
        let congestion = congestion
            .choose(config.congestion.as_str())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let isn = IsnGenerator::new(&core.secret::<32>());
        Ok(Self {
            demux: Demux::new(core.keyed().clone(), core.addresses().loopback(), core.memory()),
            ports: Ports::new(config.port_range.clone()),
            deadlines: Deadlines::new(core.memory()),
            waiting: Waiting::new(core.interfaces().queue_count()),
            cookies: Published::new(Rank::Leaf, SynCookies::new()),
            isn,
            reset_limit: ResetLimit::new(config, core.keyed()),
            orphans: AtomicUsize::new(0),
            undelivered: AtomicUsize::new(0),
            fast_open: FastOpenState::new(config, cache, || core.secret()),
            congestion,
            metrics: Metrics::new(config, core.keyed().clone()),
            ends: RecentEnds::new(),
            sweep: Sweep::new(),
            spares: Spares::new(core.memory()),
            counters: TcpCounters::default(),
        })
    }

    pub(super) fn counters(&self) -> &TcpCounters {
        &self.counters
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What is known of the way to `remote` through `interface`.
    fn path(&self, turn: &Turn<'_>, interface: u16, remote: IpAddr) -> Path {
        let path = Path::new(turn.core.mtu(interface), remote.is_ipv6());
        let known = turn.core.paths().mtu(turn.now, remote);
        Path {
            pmtu: known.map_or(path.mtu, |known| known.bytes.min(path.mtu)),
            fragments: known.is_some_and(|known| known.locked),
            metrics: self.metrics.get(turn.now, remote),
            ..path
        }
    }

    fn timestamp_offset(&self, key: &FlowKey) -> u32 {
        self.isn.timestamp_offset(&key.hosts())
    }

    /// How many deadlines are armed.
    #[cfg(test)]
    pub(super) fn armed_deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// Memory that is kept for connections that are woken, and for those that are put to rest.
    #[cfg(test)]
    pub(super) fn kept_spares(&self) -> (usize, usize) {
        self.spares.kept()
    }

    /// The state of the TIME-WAIT entry that took the place of a connection.
    #[cfg(test)]
    pub(super) fn time_wait_state(&self, cell: &Cell) -> Option<crate::tcp::State> {
        self.demux.with_time_wait(cell.key(), |entry| entry.record.state())
    }

    /// Whether there are as many connections as there may be.
    fn is_full(&self, core: &Core) -> bool {
        self.demux.cells() >= core.config().max_connections as usize
    }
}

impl Guest for Tcp {
    fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    fn on_timer(&self, turn: &mut Turn<'_>) {
        self.serve_deadlines(turn);
    }

    fn on_writable(&self, turn: &mut Turn<'_>, queue_number: usize) -> bool {
        self.serve_waiting(turn, queue_number)
    }

    fn has_waiting(&self, queue_number: usize) -> bool {
        self.waiting.len(queue_number) > 0
    }

    fn is_drained(&self) -> bool {
        self.has_delivered_all()
    }

    fn fail_interface(&self, turn: &mut Turn<'_>, interface: u16, cause: &Failure) {
        self.fail_sockets_of(turn, interface, cause);
    }

    fn add_queues(&self, queues: usize) {
        self.waiting.grow(queues);
    }

    fn remove_interface(&self, turn: &mut Turn<'_>, interface: u16, cause: &Failure) {
        self.remove_sockets_of(turn, interface, cause);
    }

    fn fail_all(&self, turn: &mut Turn<'_>, cause: &Failure) {
        self.fail_sockets(turn, cause);
    }
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp")
            .field("connections", &self.demux.cells())
            .field("time_waits", &self.demux.time_waits())
            .finish_non_exhaustive()
    }
}

/// The flow label of a flow's IPv6 packets: uniform, and not to be predicted from outside (RFC 6437
/// §3).
fn flow_label(core: &Core, key: &FlowKey) -> u32 {
    if key.is_ipv6() { (core.keyed().of(key) >> 40) as u32 & 0xf_ffff } else { 0 }
}
