//! The lookup of the connection, TIME-WAIT entry or listener for the addresses of a segment.

use super::cell::Cell;
use super::listening::{Listener, Overflow, Place};
use crate::ip::PacketOptions;
use crate::memory::{Memory, block, table_entry};
use crate::stack::crowd::{Crowd, Member, Wanted};
use crate::stack::deadlines::Timer;
use crate::stack::flow::{FlowKey, QueueId, give_back};
use crate::stack::keyed::{ByPort, Keyed};
use crate::stack::ports::Binding;
use crate::sync::{Published, Rank, RwLock, Snapshot};
use crate::tcp::TimeWait;
use crate::time::Instant;
use std::cmp::Ordering as CmpOrdering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// What a flow takes in the table, in bytes.
const FLOW: usize = table_entry(size_of::<(FlowKey, Flow)>());

/// What the entry of a TIME-WAIT takes beside that.
const TIME_WAIT: usize = block(size_of::<TimeWaitEntry>()) + block(size_of::<FlowKey>());

/// Shards of the table. Enough that the queues of a device rarely meet in one.
const SHARDS: usize = 64;

/// A connection that left only its TIME-WAIT state.
#[derive(Debug)]
pub(crate) struct TimeWaitEntry {
    pub(crate) record: TimeWait,
    pub(crate) timer: Timer,
    /// Keeps the port in use, so that a plain bind to it fails as long as the state lasts.
    #[expect(dead_code, reason = "held for what its drop does")]
    pub(crate) binding: Option<Binding>,
    pub(crate) queue: QueueId,
    /// How its answers are sent: as the connection's packets, but for the time to live.
    pub(crate) packets: PacketOptions,
    /// When it last changed or answered.
    pub(crate) latest: Instant,
}

/// What the addresses and ports of a connection lead to.
#[derive(Debug)]
pub(crate) enum Flow {
    Cell(Arc<Cell>),
    /// Half open: the entry is in this listener's SYN queue, even if a listener that came later to a
    /// group would be chosen for the flow now. Where it is in there.
    HalfOpen(Arc<Listener>, Place),
    TimeWait(Box<TimeWaitEntry>),
}

type Table = HashMap<FlowKey, Flow, Keyed>;

/// A part of the table of flows.
#[derive(Debug)]
struct Shard {
    table: RwLock<Table>,
    memory: Arc<Memory>,
    /// How many flows are in it, written under the lock. With none there is nothing to lock for.
    len: AtomicUsize,
}

impl Shard {
    fn new(keyed: Keyed, memory: Arc<Memory>) -> Self {
        let table = RwLock::new(Rank::Demux, HashMap::with_hasher(keyed));
        Self { table, memory, len: AtomicUsize::new(0) }
    }

    /// Calls `change` with the table under its lock. What is removed is to be dropped after that: it may
    /// be the last reference.
    fn change<R>(&self, change: impl FnOnce(&mut Table) -> R) -> R {
        let mut table = self.table.write();
        let before = table.len();
        let result = change(&mut table);
        match table.len().cmp(&before) {
            CmpOrdering::Greater => self.memory.charge(FLOW),
            CmpOrdering::Less => self.memory.release(FLOW),
            CmpOrdering::Equal => {}
        }
        // Release: who learns of the flow otherwise, by a packet of it, finds it.
        self.len.store(table.len(), Ordering::Release);
        result
    }
}

/// The listeners of one stack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners {
    by_port: HashMap<u16, Crowd<Arc<Listener>>, ByPort>,
    /// Who takes what no listener does: one for each interface at most, and one for all of them.
    forwarders: Vec<Arc<Listener>>,
    /// The loopback interface, whose packets a forwarder of all interfaces does not take.
    loopback: Option<u16>,
}

/// The tables of one stack.
#[derive(Debug)]
pub(crate) struct Demux {
    shards: Box<[Shard]>,
    /// Looked at for every segment of no flow, of which a flood consists.
    listeners: Published<Listeners>,
    keyed: Keyed,
    memory: Arc<Memory>,
    cells: AtomicUsize,
    time_waits: AtomicUsize,
}

impl Demux {
    pub(crate) fn new(keyed: Keyed, loopback: Option<u16>, memory: &Arc<Memory>) -> Self {
        let listeners = Listeners { loopback, ..Listeners::default() };
        Self {
            shards: (0..SHARDS).map(|_| Shard::new(keyed.clone(), Arc::clone(memory))).collect(),
            listeners: Published::new(Rank::Ports, listeners),
            keyed,
            memory: Arc::clone(memory),
            cells: AtomicUsize::new(0),
            time_waits: AtomicUsize::new(0),
        }
    }

    fn shard(&self, key: &FlowKey) -> &Shard {
        &self.shards[key.spread() % SHARDS]
    }

    /// Connections, those that nobody holds any more included.
    pub(crate) fn cells(&self) -> usize {
        self.cells.load(Ordering::Relaxed)
    }

    /// TIME-WAIT entries.
    pub(crate) fn time_waits(&self) -> usize {
        self.time_waits.load(Ordering::Relaxed)
    }

    /// Calls `f` with what `key` leads to, under the shard's lock, shared.
    #[inline]
    pub(crate) fn with_flow<R>(&self, key: &FlowKey, f: impl FnOnce(Option<&Flow>) -> R) -> R {
        let shard = self.shard(key);
        if shard.len.load(Ordering::Acquire) == 0 {
            return f(None);
        }
        f(shard.table.read().get(key))
    }

    /// Calls `f` with the TIME-WAIT entry of `key`, under the shard's lock.
    pub(crate) fn with_time_wait<R>(
        &self,
        key: &FlowKey,
        f: impl FnOnce(&mut TimeWaitEntry) -> R,
    ) -> Option<R> {
        match self.shard(key).table.write().get_mut(key) {
            Some(Flow::TimeWait(entry)) => Some(f(entry)),
            _ => None,
        }
    }

    /// Enters a connection. A TIME-WAIT entry makes way for it and is returned.
    ///
    /// # Errors
    /// If a connection has the place.
    pub(crate) fn insert(&self, key: FlowKey, cell: Arc<Cell>) -> Result<Option<Box<TimeWaitEntry>>, ()> {
        let previous = self.shard(&key).change(|table| match table.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Flow::Cell(cell));
                Ok(None)
            }
            Entry::Occupied(mut entry) => match entry.get() {
                Flow::Cell(_) => Err(()),
                Flow::TimeWait(_) | Flow::HalfOpen(..) => Ok(Some(entry.insert(Flow::Cell(cell)))),
            },
        })?;
        self.cells.fetch_add(1, Ordering::Relaxed);
        match previous {
            Some(Flow::TimeWait(entry)) => {
                self.forget_time_wait();
                Ok(Some(entry))
            }
            Some(Flow::HalfOpen(..)) | None => Ok(None),
            Some(Flow::Cell(_)) => unreachable!("a connection is not replaced"),
        }
    }

    /// Where a flow that is half open is in the queue of this listener.
    pub(crate) fn half_open(&self, key: &FlowKey, listener: &Arc<Listener>) -> Option<Place> {
        self.with_flow(key, |flow| match flow {
            Some(Flow::HalfOpen(holder, place)) if Arc::ptr_eq(holder, listener) => Some(*place),
            _ => None,
        })
    }

    /// Notes that a flow is half open at a listener. False if it leads elsewhere already.
    pub(crate) fn insert_half_open(&self, key: FlowKey, listener: Arc<Listener>, place: Place) -> bool {
        self.shard(&key).change(|table| match table.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Flow::HalfOpen(listener, place));
                true
            }
            Entry::Occupied(_) => false,
        })
    }

    /// Forgets that a flow is half open. It may be a connection by now, which stays.
    pub(crate) fn remove_half_open(&self, key: &FlowKey) {
        let removed = self.remove_if(key, |flow| matches!(flow, Flow::HalfOpen(..)));
        drop(removed);
    }

    /// Puts a TIME-WAIT entry in the place of the connection `cell`. Gives it back if that
    /// connection does not have the place.
    pub(crate) fn insert_time_wait(
        &self,
        cell: &Arc<Cell>,
        entry: Box<TimeWaitEntry>,
    ) -> Result<(), Box<TimeWaitEntry>> {
        let key = cell.key();
        let replaced = self.shard(key).change(|table| match table.get_mut(key) {
            Some(flow) if flow.is(cell) => {
                cell.unlist();
                Ok(std::mem::replace(flow, Flow::TimeWait(entry)))
            }
            _ => Err(entry),
        })?;
        self.cells.fetch_sub(1, Ordering::Relaxed);
        self.time_waits.fetch_add(1, Ordering::Relaxed);
        self.memory.charge(TIME_WAIT);
        drop(replaced);
        Ok(())
    }

    /// Removes the connection `cell`.
    pub(crate) fn remove(&self, cell: &Arc<Cell>) {
        // While the table is locked, so that nobody finds another one at its place before that.
        let is_it = |flow: &mut Flow| {
            let is_it = flow.is(cell);
            if is_it {
                cell.unlist();
            }
            is_it
        };
        if self.remove_if(cell.key(), is_it).is_some() {
            self.cells.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Removes the TIME-WAIT entry of `key` if `over` says so.
    pub(crate) fn remove_time_wait(
        &self,
        key: &FlowKey,
        over: impl FnOnce(&mut TimeWaitEntry) -> bool,
    ) -> Option<Box<TimeWaitEntry>> {
        let removed = self.remove_if(key, |flow| match flow {
            Flow::TimeWait(entry) => over(entry),
            _ => false,
        });
        match removed {
            Some(Flow::TimeWait(entry)) => {
                self.forget_time_wait();
                Some(entry)
            }
            _ => None,
        }
    }

    /// There is a TIME-WAIT entry less.
    fn forget_time_wait(&self) {
        self.time_waits.fetch_sub(1, Ordering::Relaxed);
        self.memory.release(TIME_WAIT);
    }

    /// Removes what `key` leads to if `condition` holds for it.
    fn remove_if(&self, key: &FlowKey, condition: impl FnOnce(&mut Flow) -> bool) -> Option<Flow> {
        self.shard(key).change(|table| {
            let removed = if table.get_mut(key).is_some_and(condition) { table.remove(key) } else { None };
            give_back(table);
            removed
        })
    }

    /// Shards of the table.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The connections of a shard, in the order in which they began.
    pub(crate) fn cells_of(&self, shard: usize) -> Vec<Weak<Cell>> {
        let table = self.shards[shard].table.read();
        let mut cells: Vec<_> = table.values().filter_map(Flow::cell).collect();
        cells.sort_by_key(|cell| cell.id());
        cells.into_iter().map(Arc::downgrade).collect()
    }

    /// All connections at the moment, those of later shards possibly later.
    pub(crate) fn all_cells(&self) -> Vec<Arc<Cell>> {
        let mut cells = Vec::with_capacity(self.cells());
        for shard in &self.shards {
            cells.extend(shard.table.read().values().filter_map(|flow| match flow {
                Flow::Cell(cell) => Some(Arc::clone(cell)),
                Flow::TimeWait(_) | Flow::HalfOpen(..) => None,
            }));
        }
        cells.sort_by_key(|cell| cell.id());
        cells
    }

    /// How many flows are half open, as the table has it; or what does not agree.
    #[cfg(feature = "simulation")]
    pub(crate) fn check(&self) -> Result<usize, String> {
        let (mut cells, mut half_open, mut time_waits) = (0, 0, 0);
        for shard in &self.shards {
            for flow in shard.table.read().values() {
                match flow {
                    Flow::Cell(_) => cells += 1,
                    Flow::HalfOpen(..) => half_open += 1,
                    Flow::TimeWait(_) => time_waits += 1,
                }
            }
        }
        if (cells, time_waits) == (self.cells(), self.time_waits()) {
            return Ok(half_open);
        }
        let counted = (self.cells(), self.time_waits());
        Err(format!("connections and TIME-WAITs are {:?}, and counted as {counted:?}", (cells, time_waits)))
    }

    /// All TIME-WAIT entries, and when each is over, in the order of their ends.
    pub(crate) fn all_time_waits(&self) -> Vec<(FlowKey, Instant)> {
        let mut all = Vec::with_capacity(self.time_waits());
        for shard in &self.shards {
            all.extend(shard.table.read().iter().filter_map(|(key, flow)| match flow {
                Flow::TimeWait(entry) => Some((*key, entry.record.deadline())),
                Flow::Cell(_) | Flow::HalfOpen(..) => None,
            }));
        }
        all.sort_by_key(|(key, at)| (*at, key.local_addr(false), key.remote_addr(false)));
        all
    }

    /// Enters a listener.
    pub(crate) fn insert_listener(&self, listener: Arc<Listener>) {
        self.listeners.change(|listeners| {
            listeners.by_port.entry(listener.port()).or_default().push(listener, &self.keyed);
        });
    }

    /// Moves a listener of a port to where it belongs after `change`.
    pub(crate) fn move_listener(&self, listener: &Arc<Listener>, change: impl FnOnce()) {
        self.listeners.change(|listeners| {
            let group = listeners.by_port.entry(listener.port()).or_default();
            group.remove(&listener.bound(), |other| Arc::ptr_eq(other, listener));
            change();
            group.push(Arc::clone(listener), &self.keyed);
        });
    }

    /// Enters a forwarder.
    ///
    /// # Errors
    /// If there is one of the same interface.
    pub(crate) fn insert_forwarder(&self, forwarder: Arc<Listener>) -> Result<(), ()> {
        self.listeners.change(|listeners| {
            let interface = forwarder.interface();
            if listeners.forwarders.iter().any(|other| other.interface() == interface) {
                return Err(());
            }
            listeners.forwarders.push(forwarder);
            Ok(())
        })
    }

    /// The record of cookies that the listeners of a port share.
    pub(crate) fn overflow(&self, port: u16) -> Arc<Overflow> {
        let listeners = self.listeners.current();
        let first = listeners.by_port.get(&port).and_then(|group| group.iter().next());
        first.map(|listener| Arc::clone(listener.overflow())).unwrap_or_default()
    }

    /// Removes a listener.
    pub(crate) fn remove_listener(&self, listener: &Arc<Listener>) {
        // The caller has a reference, so that none is the last one under the lock.
        self.listeners.change(|listeners| {
            listeners.forwarders.retain(|other| !Arc::ptr_eq(other, listener));
            let Some(group) = listeners.by_port.get_mut(&listener.port()) else { return };
            if group.remove(&listener.bound(), |other| Arc::ptr_eq(other, listener)) {
                listeners.by_port.remove(&listener.port());
            }
        });
    }

    /// The listener for a segment that came in on `interface`: the one bound to its address, else to
    /// any address of the family, else to any address at all (a dual-stack socket), else the forwarder.
    /// Among equals, which only `SO_REUSEPORT` allows, the flow's hash decides.
    #[inline]
    pub(crate) fn listener<'a>(
        &self,
        key: &FlowKey,
        interface: u16,
        seen: &'a mut Snapshot<Listeners>,
    ) -> Option<&'a Arc<Listener>> {
        let listeners = self.listeners.read(seen);
        let found = listeners.by_port.get(&key.local_port).and_then(|group| match group.only() {
            Some(only) => only.takes(key.local(), interface).then_some(only),
            None => self.listener_of(group, key, interface),
        });
        if found.is_none() && !listeners.forwarders.is_empty() {
            return listeners.forwarder(interface);
        }
        found
    }

    /// The listener for a segment among those of its port. Most ports have one, and are spared this.
    #[inline(never)]
    fn listener_of<'a>(
        &self,
        group: &'a Crowd<Arc<Listener>>,
        key: &FlowKey,
        interface: u16,
    ) -> Option<&'a Arc<Listener>> {
        let wanted = Wanted { local: key.local(), remote: (key.remote(), key.remote_port), interface };
        group.find(&wanted, || self.keyed.of(key))
    }

    /// All listeners.
    pub(crate) fn all_listeners(&self) -> Vec<Arc<Listener>> {
        let listeners = self.listeners.current();
        let of_ports = listeners.by_port.values().flat_map(Crowd::iter);
        let mut all: Vec<_> = of_ports.chain(&listeners.forwarders).map(Arc::clone).collect();
        all.sort_by_key(|listener| listener.id());
        all
    }
}

impl Listeners {
    /// The forwarder for what came in on `interface`.
    #[inline(never)]
    fn forwarder(&self, interface: u16) -> Option<&Arc<Listener>> {
        let of = |interface| self.forwarders.iter().find(|one| one.interface() == interface);
        of(Some(interface)).or_else(|| if self.loopback == Some(interface) { None } else { of(None) })
    }
}

impl Flow {
    /// The connection, if it leads to one.
    pub(crate) fn cell(&self) -> Option<&Arc<Cell>> {
        match self {
            Self::Cell(cell) => Some(cell),
            Self::TimeWait(_) | Self::HalfOpen(..) => None,
        }
    }

    fn is(&self, cell: &Arc<Cell>) -> bool {
        matches!(self, Self::Cell(other) if Arc::ptr_eq(other, cell))
    }
}
