//! A connection behind its lock.
//!
//! Two threads can compete for the lock: the application's task and the reactor. A segment that
//! arrives while the connection is locked goes to the backlog (Linux's `sk_backlog`), which the
//! holder of the lock processes before it unlocks. A segment that arrives after the holder's last
//! check is not lost: the thread that pushes it also puts the cell on its list of dirty cells, and
//! processes the backlog under the lock when its batch ends.

mod backlog;
mod opened;
mod rest;
mod sending;
mod tail;

pub(super) use backlog::BACKLOG;
pub(super) use sending::Left;
pub(crate) use tail::Tail;

use self::backlog::Backlog;
use self::opened::Opened;
use self::sending::Sending;
use super::connected::Connected;
use super::fast_open_queue::FastOpenQueue;
use super::spares::Spares;
use super::watch::Watch;
use crate::error::{Failure, os};
use crate::ip::PacketOptions;
use crate::memory::{Charge, Memory, block};
use crate::readiness::Events;
use crate::reasons::EndReason;
use crate::stack::deadlines::Timer;
use crate::stack::flow::{FlowKey, QueueId};
use crate::stack::hooks::{Observer, Subject};
use crate::stack::ports::Binding;
use crate::stack::socket::{BoundInterface, IpOptions};
use crate::stack::waiting::Place;
use crate::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::tcp::{Connection, Opening, QuietAck, SocketOptions, State};
use crate::time::Instant;
use crate::trace::{About, History};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

/// What a cell takes beside its connection, in bytes: itself, with the counts of its references, and what the facade
/// has for it, which is who waits.
const CELL: usize = block(size_of::<Cell>() + 16) + 160;

/// A connection, which streams hold and the table of flows refers to.
pub struct Cell {
    id: u64,
    key: FlowKey,
    /// An IPv6 socket with IPv4 addresses.
    mapped: bool,
    /// The flow label of IPv6 packets (RFC 6437).
    flow_label: u32,
    state: Mutex<SocketState>,
    backlog: Backlog,
    /// The cell is on some reactor's list of cells that got segments.
    dirty: AtomicBool,
    /// The application has let others have their turn and goes on writing in its next one.
    writes_on: AtomicBool,
    /// What is left to the holder of the lock while it sends.
    sending: Sending,
    /// The table of flows leads here, or is about to: what [`SocketState::attached`] says, for who has not locked it.
    listed: AtomicBool,
    observer: OnceLock<Arc<dyn Observer>>,
    /// The queue on which the connection transmits: that of its interface on which segments arrive. The
    /// interface is the one that the route leads through, for good.
    queue: AtomicU32,
    packets: SharedPackets,
    /// `SO_BINDTODEVICE`.
    interface: BoundInterface,
    /// The identification of the next IPv4 packet that may be fragmented.
    ident: AtomicU16,
    opened: Opened,
}

/// When a connection last looked its path up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathLook {
    /// The stack's count of changes to its paths at that time.
    pub(crate) seen: u32,
    /// When to look again whatever the count: the path's MTU expires.
    pub(crate) expires: Instant,
}

impl PathLook {
    /// Whether to look again, `now` and with this count of changes.
    #[inline]
    pub(super) fn is_out_of_date(&self, changes: u32, now: Instant) -> bool {
        self.seen != changes || self.expires <= now
    }
}

/// The state of the socket: what the lock guards.
// More than 16 fields: the places of a connection in the tables of the stack, each of which it leaves alone.
#[derive(Debug)]
pub(crate) struct SocketState {
    pub(crate) stage: Stage,
    pub(crate) timer: Timer,
    pub(super) bound: Bound,
    /// The table of flows leads here, or is about to.
    pub(crate) attached: bool,
    /// The cell's place on the list of those that wait for the device, while it is there.
    pub(crate) waiting: Option<Place>,
    pub(crate) tail: Tail,
    pub(crate) path: PathLook,
    /// Bytes sent since the lock was taken.
    pub(crate) sent_in_hold: usize,
    /// The application dropped its handle.
    pub(crate) orphan: bool,
    /// It counts among those that have something to deliver.
    pub(super) delivers: bool,
    /// When the connection began on this side.
    pub(crate) began: Instant,
    /// When it was last held.
    pub(crate) latest: Instant,
    /// Why the connection ended, if it has.
    pub(crate) end: Option<EndReason>,
    /// What is noted of what happens.
    pub(super) watch: Watch,
    /// Where the connection counts while it waits for the third segment of a Fast Open handshake.
    pub(crate) fast_open: Option<Arc<FastOpenQueue>>,
    /// The memory of the connection.
    charge: Charge,
    /// Memory of its queues, as it is in that.
    queues: usize,
    /// The connection was told of memory pressure, and not yet of its end.
    pub(super) pressed: bool,
    /// An acknowledgment waits for the next batch, since an answer may carry it.
    pub(super) held_back: bool,
    /// Acknowledgments that the connection was not told of yet, if the last thing that came was one that says nothing
    /// new: one like it is for nobody to look at.
    quiet: Option<Quiet>,
    /// What is used again when the connection is put to rest and woken.
    spares: Arc<Spares>,
}

/// Acknowledgments that say nothing new.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    /// What the last one was like.
    last: QuietAck,
    /// How many the connection was not told of. The last of them came when the connection was last held.
    kept: u32,
}

/// No memory of queues: that of the whole connection is to be counted again.
const UNCOUNTED: usize = usize::MAX;

/// The port, and what binding it has said of the socket.
#[derive(Debug)]
pub(super) struct Bound {
    /// Given up when the connection leaves the table.
    pub(super) binding: Option<Binding>,
    reuse_address: bool,
    reuse_port: bool,
    only_v6: bool,
}

impl SocketState {
    /// Keeps an acknowledgment back if it says nothing new, again. Says whether it does; then it came at the time
    /// [`SocketState::latest`], which the caller sets.
    #[inline]
    pub(super) fn keeps_quiet(&mut self, ack: &QuietAck) -> bool {
        let Some(quiet) = &mut self.quiet else { return false };
        let keeps = quiet.kept < u32::MAX && quiet.last.is_followed_by(ack);
        quiet.kept += u32::from(keeps);
        keeps
    }

    /// The connection took an acknowledgment that says nothing new: others like it may be kept back.
    pub(super) fn expect_quiet(&mut self, ack: QuietAck) {
        self.quiet = Some(Quiet { last: ack, kept: 0 });
    }

    /// Tells the connection of what was kept back. To be called before anything else happens to it, or is asked.
    #[inline]
    pub(super) fn tell_kept(&mut self) {
        if let Some(quiet) = &mut self.quiet
            && quiet.kept > 0
            && let Stage::Connected(connection) = &mut self.stage
        {
            connection.on_quiet_acks(self.latest, &quiet.last, std::mem::take(&mut quiet.kept));
        }
    }

    /// Something happens to the connection. What is kept back comes first.
    #[inline]
    pub(super) fn disturb(&mut self) {
        self.tell_kept();
        self.quiet = None;
    }

    /// Whether a segment is nothing but the connection's own affair: it is in the table, its memory is counted, and
    /// nobody notes what happens to it.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.attached
            && !self.watch.is_on()
            && !self.pressed
            && self.fast_open.is_none()
            && self.queues != UNCOUNTED
    }

    /// Counts the connection's memory, if it has changed.
    #[inline]
    pub(super) fn weigh(&mut self) {
        let queues = match &self.stage {
            Stage::Connected(connection) => connection.queue_memory(),
            Stage::Opening(_) | Stage::Over(_) => 0,
        };
        if queues != self.queues {
            if self.queues == UNCOUNTED {
                self.weigh_all();
            } else {
                self.charge.set(self.charge.bytes() + queues - self.queues);
            }
            self.queues = queues;
        }
    }

    /// Counts the connection's memory if it is not counted at all.
    #[inline]
    pub(super) fn weigh_if_new(&mut self) {
        if self.queues == UNCOUNTED {
            self.weigh();
        }
    }

    #[cold]
    fn weigh_all(&mut self) {
        let of = |connection: &Connection| connection.fixed_memory() + connection.queue_memory();
        let stage = match &self.stage {
            Stage::Opening(opening) => opening.memory(),
            Stage::Connected(connection) => connection.fixed_memory() + connection.queue_memory(),
            Stage::Over(over) => over.unread.as_deref().map_or(0, of),
        };
        self.charge.set(CELL + stage + self.watch.memory());
    }

    /// The stage was replaced by another.
    pub(super) fn on_new_stage(&mut self) {
        self.queues = UNCOUNTED;
    }

    /// Whether something was written that is not sent or not acknowledged, and may still be.
    pub(super) fn has_undelivered(&self) -> bool {
        self.attached
            && match &self.stage {
                Stage::Connected(connection) => connection.unsent() != 0 || connection.unacked() != 0,
                Stage::Opening(opening) => opening.has_data(),
                Stage::Over(_) => false,
            }
    }

    /// Why the connection ended, if it has.
    pub(super) fn end_reason(&self) -> Option<EndReason> {
        match &self.stage {
            Stage::Connected(connection) => self.end.or_else(|| connection.end()),
            Stage::Opening(_) | Stage::Over(_) => self.end,
        }
    }
}

/// How far the connection has come.
pub(crate) enum Stage {
    /// SYN sent.
    Opening(Box<Opening>),
    /// Established, and everything after.
    Connected(Connected),
    /// It failed to open, or was cut off by something other than TCP.
    Over(Box<Over>),
}

/// The remains of a connection that did not end the TCP way.
#[derive(Debug)]
pub(crate) struct Over {
    pub(crate) cause: Failure,
    /// `SO_ERROR`: the cause was not reported yet.
    pub(crate) unreported: bool,
    /// Reported again and again: the stack is gone.
    pub(crate) for_good: bool,
    /// What was received and acknowledged before the end: it can still be read.
    pub(crate) unread: Option<Box<Connection>>,
    /// The options of the connection, which can still be asked for.
    pub(crate) options: Box<SocketOptions>,
}

impl Stage {
    /// The options.
    pub(crate) fn options(&self) -> &SocketOptions {
        match self {
            Self::Opening(opening) => opening.options(),
            Self::Connected(connection) => connection.options(),
            Self::Over(over) => &over.options,
        }
    }
}

impl Over {
    /// The error, if it was not reported yet.
    pub(crate) fn take(&mut self) -> Option<io::Error> {
        let report = std::mem::replace(&mut self.unreported, self.for_good);
        report.then(|| (&self.cause).into())
    }
}

/// What is set for the packets of a connection, where who sends one reads it without a lock.
#[derive(Debug)]
struct SharedPackets {
    /// Time to live, hop limit, type of service, traffic class.
    header: AtomicU32,
    mark: AtomicU32,
    priority: AtomicU32,
}

impl SharedPackets {
    fn new(packets: PacketOptions) -> Self {
        let shared = Self { header: AtomicU32::new(0), mark: AtomicU32::new(0), priority: AtomicU32::new(0) };
        shared.set(packets);
        shared
    }

    #[inline]
    fn get(&self) -> PacketOptions {
        let [ttl, hops, tos, tclass] = self.header.load(Ordering::Relaxed).to_ne_bytes();
        let (mark, priority) = (self.mark.load(Ordering::Relaxed), self.priority.load(Ordering::Relaxed));
        PacketOptions { ttl, hops, tos, tclass, mark, priority }
    }

    fn set(&self, packets: PacketOptions) {
        let PacketOptions { ttl, hops, tos, tclass, mark, priority } = packets;
        self.header.store(u32::from_ne_bytes([ttl, hops, tos, tclass]), Ordering::Relaxed);
        self.mark.store(mark, Ordering::Relaxed);
        self.priority.store(priority, Ordering::Relaxed);
    }
}

/// What a new cell is made of.
pub(crate) struct CellParts<'a> {
    pub(crate) id: u64,
    pub(crate) key: FlowKey,
    pub(crate) mapped: bool,
    pub(crate) flow_label: u32,
    pub(crate) queue: QueueId,
    pub(crate) ip: IpOptions,
    pub(crate) stage: Stage,
    pub(crate) binding: Option<Binding>,
    pub(crate) fast_open: Option<Arc<FastOpenQueue>>,
    /// The time.
    pub(crate) now: Instant,
    /// Whether somebody is told of everything that happens.
    pub(crate) traced: bool,
    /// Where its memory counts.
    pub(crate) memory: &'a Arc<Memory>,
    /// What is used again when it is put to rest and woken.
    pub(crate) spares: &'a Arc<Spares>,
}

impl Cell {
    pub(crate) fn new(parts: CellParts<'_>) -> Arc<Self> {
        let CellParts {
            id,
            key,
            mapped,
            flow_label,
            queue,
            ip,
            stage,
            binding,
            fast_open,
            now: began,
            traced,
            memory,
            spares,
        } = parts;
        let history = stage.options().history;
        let opened = match stage {
            Stage::Opening(_) => Opened::Actively,
            _ if fast_open.is_some() => Opened::ByFastOpen,
            _ => Opened::Passively,
        };
        let state = SocketState {
            stage,
            timer: Timer::default(),
            bound: Bound {
                binding,
                reuse_address: ip.reuse_address,
                reuse_port: ip.reuse_port,
                only_v6: ip.only_v6,
            },
            attached: true,
            waiting: None,
            tail: Tail::Waits,
            path: PathLook { seen: 0, expires: Instant::ZERO },
            sent_in_hold: 0,
            orphan: false,
            delivers: false,
            began,
            latest: began,
            end: None,
            watch: Watch::new(history, traced),
            fast_open,
            charge: Charge::of_socket(memory, 0),
            queues: UNCOUNTED,
            pressed: false,
            held_back: false,
            quiet: None,
            spares: Arc::clone(spares),
        };
        Arc::new(Self {
            id,
            key,
            mapped,
            flow_label,
            state: Mutex::new(Rank::Cell, state),
            backlog: Backlog::new(),
            dirty: AtomicBool::new(false),
            writes_on: AtomicBool::new(false),
            sending: Sending::new(),
            listed: AtomicBool::new(true),
            observer: OnceLock::new(),
            queue: AtomicU32::new(queue.bits()),
            packets: SharedPackets::new(ip.packets.without_ecn()),
            interface: BoundInterface::new(ip.interface),
            ident: AtomicU16::new(key.spread() as u16),
            opened,
        })
    }

    /// A number that is unique among all connections of the stack.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The local address and port.
    pub fn local_addr(&self) -> SocketAddr {
        self.key.local_addr(self.mapped)
    }

    /// The address and port of the peer.
    ///
    /// # Errors
    /// `ENOTCONN` after the connection has ended, as in getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        let connected = self
            .look_connected(|connection| !matches!(connection.state(), State::Closed | State::TimeWait))
            .unwrap_or(false);
        if connected { Ok(self.key.remote_addr(self.mapped)) } else { Err(os(libc::ENOTCONN)) }
    }

    /// `SO_ORIGINAL_DST`: the address that the one who opened the connection sent its SYN to. Nothing on the way
    /// rewrites addresses, so it is that of the peer, or the local one.
    pub fn original_dst(&self) -> SocketAddr {
        if self.opened == Opened::Actively { self.key.remote_addr(false) } else { self.key.local_addr(false) }
    }

    /// The current readiness, as poll(2) reports it.
    pub fn readiness(&self) -> Events {
        self.look(|state| match &state.stage {
            // The first write sends the SYN.
            Stage::Opening(opening) if opening.is_deferred() => Events::WRITABLE,
            Stage::Opening(_) => Events::NONE,
            Stage::Connected(connection) => connection.readiness(),
            Stage::Over(over) => {
                let ended = Events::READABLE | Events::WRITABLE | Events::READ_CLOSED | Events::WRITE_CLOSED;
                if over.unreported { ended | Events::ERROR } else { ended }
            }
        })
    }

    /// The result of connecting; none while it is in progress. With `TCP_FASTOPEN_CONNECT` it is
    /// success while the SYN waits for the first write.
    pub fn connect_result(&self) -> Option<io::Result<()>> {
        self.look(|state| match &state.stage {
            Stage::Opening(opening) => opening.is_deferred().then_some(Ok(())),
            Stage::Connected(_) => Some(Ok(())),
            Stage::Over(over) => Some(Err((&over.cause).into())),
        })
    }

    /// Sets the observer, which is notified of events. Only the first call has an effect. Earlier
    /// events are in [`Cell::readiness`].
    pub fn set_observer(&self, observer: Arc<dyn Observer>) {
        // A later observer is a mistake of the caller, not worth a panic in release builds.
        let set = self.observer.set(observer);
        debug_assert!(set.is_ok(), "a connection has one observer");
    }

    /// The state of the connection.
    pub fn state(&self) -> State {
        self.look(|state| match &state.stage {
            Stage::Opening(opening) => opening.state(),
            Stage::Connected(connection) => connection.state(),
            Stage::Over(_) => State::Closed,
        })
    }

    /// Why the connection ended; none as long as it has not.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.look(SocketState::end_reason)
    }

    /// What the connection has noted of what happened to it, and why it ended.
    pub fn history(&self) -> History {
        self.look(|state| state.watch.history(self.about(), state.end_reason()))
    }

    /// The options of the IP layer.
    pub fn ip_options(&self) -> IpOptions {
        self.look(|state| IpOptions {
            packets: self.packets(),
            reuse_address: state.bound.reuse_address,
            reuse_port: state.bound.reuse_port,
            only_v6: state.bound.only_v6,
            interface: self.interface.get(),
        })
    }

    /// Changes what is set for packets, with effect from the next one on. The bits of ECN are TCP's.
    pub fn change_packets(&self, change: impl FnOnce(&mut PacketOptions)) {
        // One change at a time.
        let _state = self.state.lock();
        let mut packets = self.packets();
        change(&mut packets);
        self.packets.set(packets.without_ecn());
    }

    /// Sets `SO_REUSEADDR`, for sockets that are bound to the port later.
    pub fn set_reuse_address(&self, reuse: bool) {
        let bound = &mut self.state.lock().bound;
        bound.reuse_address = reuse;
        if let Some(binding) = &mut bound.binding {
            binding.set_reuse_address(reuse);
        }
    }

    /// Sets `SO_REUSEPORT`, for sockets that are bound to the port later.
    pub fn set_reuse_port(&self, reuse: bool) {
        let bound = &mut self.state.lock().bound;
        bound.reuse_port = reuse;
        if let Some(binding) = &mut bound.binding {
            binding.set_reuse_port(reuse);
        }
    }

    /// Whether no SYN was sent yet: it waits for the first write (`TCP_FASTOPEN_CONNECT`).
    pub fn is_deferred(&self) -> bool {
        matches!(&self.state.lock().stage, Stage::Opening(opening) if opening.is_deferred())
    }

    /// Whether anybody wants to know what happens to the connection.
    pub(super) fn is_watched(&self) -> bool {
        self.look(|state| state.watch.is_on())
    }

    pub(crate) fn is_by_fast_open(&self) -> bool {
        self.opened == Opened::ByFastOpen
    }

    pub(crate) fn key(&self) -> &FlowKey {
        &self.key
    }

    pub(crate) fn remote_addr(&self) -> SocketAddr {
        self.key.remote_addr(self.mapped)
    }

    /// The connection, for who is told what happens to it.
    pub(super) fn about(&self) -> About {
        About::ends(self.local_addr(), self.remote_addr()).connection(self.id)
    }

    /// What is set for packets.
    #[inline]
    pub(super) fn packets(&self) -> PacketOptions {
        self.packets.get()
    }

    /// Whether segments that come in on this interface are for the connection.
    #[inline]
    pub(super) fn takes_from(&self, interface: u16) -> bool {
        self.interface.takes_from(interface)
    }

    /// Limits the connection to an interface, and sends on this queue of it.
    pub(super) fn limit_to(&self, interface: Option<u16>, queue: Option<QueueId>) {
        self.interface.set(interface);
        if let Some(queue) = queue {
            self.queue.store(queue.bits(), Ordering::Relaxed);
        }
    }

    pub(crate) fn flow_label(&self) -> u32 {
        self.flow_label
    }

    /// Identifications for `count` IPv4 packets in a row, the first of which is returned (RFC 6864
    /// §4.2: those of packets that may be fragmented differ).
    pub(crate) fn take_ident(&self, count: u16) -> u16 {
        self.ident.fetch_add(count, Ordering::Relaxed)
    }

    pub(crate) fn queue(&self) -> QueueId {
        QueueId::from_bits(self.queue.load(Ordering::Relaxed))
    }

    /// Remembers where an acceptable segment arrived: that is where the connection transmits, since
    /// devices steer a flow to the queue on which it was last written. What arrives on another interface
    /// says nothing of the way to the peer.
    pub(crate) fn arrived_on(&self, queue: QueueId) {
        let current = self.queue();
        if current != queue && current.interface == queue.interface {
            self.queue.store(queue.bits(), Ordering::Relaxed);
        }
    }

    /// Locks the cell, and wakes the connection.
    fn lock(&self) -> MutexGuard<'_, SocketState> {
        let mut state = self.state.lock();
        state.wake();
        state
    }

    /// Locks the cell as it is, if it is free and no segment waits for who unlocks it.
    pub(super) fn try_lock_to_rest(&self) -> Option<MutexGuard<'_, SocketState>> {
        let state = self.state.try_lock()?;
        (!self.has_backlog()).then_some(state)
    }

    /// Whether the connection is at rest.
    pub(in crate::stack) fn is_at_rest(&self) -> bool {
        matches!(&self.state.lock().stage, Stage::Connected(connection) if connection.is_at_rest())
    }

    /// Locks the cell, waiting for it. For `hold` alone, because a changed connection must be settled.
    pub(super) fn lock_to_hold(&self) -> MutexGuard<'_, SocketState> {
        self.lock()
    }

    /// Locks the cell if it is free. For `hold` alone.
    #[inline]
    pub(super) fn try_lock_to_hold(&self) -> Option<MutexGuard<'_, SocketState>> {
        let mut state = self.state.try_lock()?;
        state.wake();
        Some(state)
    }

    /// Locks the cell as an application does that holds it for long.
    #[cfg(test)]
    pub(in crate::stack) fn lock_for_test(&self) -> MutexGuard<'_, SocketState> {
        self.lock()
    }

    /// What the connection waits for.
    #[cfg(test)]
    pub(in crate::stack) fn poll_timeout(&self) -> Option<Instant> {
        self.look_connected(Connection::poll_timeout).flatten()
    }

    /// Memory of its queues, in bytes.
    #[cfg(test)]
    pub(in crate::stack) fn queue_memory(&self) -> usize {
        self.look_connected(Connection::queue_memory).unwrap_or_default()
    }

    /// Whether memory was allocated for a history.
    #[cfg(test)]
    pub(in crate::stack) fn has_history_memory(&self) -> bool {
        self.look(|state| state.watch.has_memory())
    }

    /// Looks at the connection, which changes nothing and so leaves nothing to settle.
    pub(super) fn look<R>(&self, f: impl FnOnce(&SocketState) -> R) -> R {
        let mut state = self.state.lock();
        let was_at_rest = state.wake();
        state.tell_kept();
        let result = f(&state);
        if was_at_rest {
            state.rest();
        }
        result
    }

    /// Looks at the connection; none before it is established, and if it never was.
    pub(super) fn look_connected<R>(&self, f: impl FnOnce(&Connection) -> R) -> Option<R> {
        self.look(|state| match &state.stage {
            Stage::Connected(connection) => Some(f(connection)),
            Stage::Opening(_) | Stage::Over(_) => None,
        })
    }

    /// Whether the table of flows leads here.
    #[inline]
    pub(super) fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    /// The table of flows does not lead here any more.
    pub(super) fn unlist(&self) {
        self.listed.store(false, Ordering::Release);
    }

    /// Marks the cell as one that got segments; true if it was not marked yet.
    pub(crate) fn mark_dirty(&self) -> bool {
        // Release: who clears the mark sees what was pushed before.
        !self.dirty.swap(true, Ordering::AcqRel)
    }

    /// The application lets others have their turn and will write more in its next one.
    pub fn writes_on(&self) {
        self.writes_on.store(true, Ordering::Release);
    }

    /// Whether the application said so since the last call.
    pub(super) fn take_writes_on(&self) -> bool {
        self.writes_on.load(Ordering::Relaxed) && self.writes_on.swap(false, Ordering::AcqRel)
    }

    /// Clears the mark, before the backlog is drained for it.
    pub(crate) fn clear_dirty(&self) {
        self.dirty.swap(false, Ordering::AcqRel);
    }
}

impl Subject for Cell {
    fn observer(&self) -> Option<&dyn Observer> {
        self.observer.get().map(|observer| &**observer)
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening(opening) => f.write_str(opening.state().name()),
            Self::Connected(connection) => f.write_str(connection.state().name()),
            Self::Over(over) => over.fmt(f),
        }
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell")
            .field("id", &self.id)
            .field("local", &self.local_addr())
            .field("remote", &self.remote_addr())
            .finish_non_exhaustive()
    }
}
