//! Forwarders, and the flows that wait for their applications.

use super::cell::UdpCell;
use super::flow::FlowCount;
use crate::datagram::Budget;
use crate::error::{Failure, os};
use crate::stack::core::Core;
use crate::stack::hooks::{Observer, Subject};
use crate::sync::{Mutex, Rank, RwLock};
use crate::time::Duration;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// The settings of a forwarder.
#[derive(Clone, Copy, Debug)]
pub struct UdpForwarding {
    /// The number of the interface whose datagrams are forwarded; none for all but loopback.
    pub interface: Option<u16>,
    /// Flows at most, at least 1.
    pub max_flows: usize,
    /// Flows at most that wait to be accepted, at least 1.
    pub max_pending: usize,
    /// Bytes of memory for the datagrams of one flow that were not read.
    pub flow_buffer: usize,
    /// Bytes of memory for those of all flows.
    pub total_buffer: usize,
    /// For how long a flow lives on which nothing is sent or received.
    pub idle_timeout: Duration,
}

/// What there is to say of a forwarder at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpForwarderStats {
    /// Open flows, including those that wait to be accepted.
    pub flows: usize,
    /// Flows that wait to be accepted.
    pub pending: usize,
    /// The memory, in bytes, of datagrams that were not read.
    pub unread: usize,
    /// First datagrams of a flow that there was no room for, so far.
    pub dropped: u64,
    /// Flows that ended because nothing was sent or received, so far.
    pub timed_out: u64,
    /// Flows that ended to make room for others, so far.
    pub evicted: u64,
}

/// A forwarder: what it may use, and the flows that it made.
pub struct UdpForwarderCell {
    pub(super) settings: UdpForwarding,
    observer: Arc<dyn Observer>,
    pub(super) count: Arc<FlowCount>,
    pub(super) budget: Arc<Budget>,
    /// Sends what is not of a flow.
    pub(super) sender: Arc<UdpCell>,
    pub(super) flows: Mutex<Flows>,
}

/// The flows of a forwarder, as far as it has something to do for them.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// Those that nobody has accepted, the oldest first; some may have ended.
    pub(super) pending: VecDeque<Arc<UdpCell>>,
    /// Those that were accepted and were not assured then, the oldest first. Some may have ended.
    young: VecDeque<Weak<UdpCell>>,
    pub(super) is_open: bool,
}

impl UdpForwarderCell {
    pub(super) fn new(
        settings: UdpForwarding,
        observer: Arc<dyn Observer>,
        sender: impl FnOnce(Arc<dyn Observer>) -> UdpCell,
    ) -> Self {
        Self {
            settings,
            count: Arc::default(),
            budget: Arc::new(Budget::new(settings.total_buffer)),
            sender: Arc::new(sender(Arc::clone(&observer))),
            observer,
            flows: Mutex::new(Rank::Listener, Flows { is_open: true, ..Flows::default() }),
        }
    }

    /// Its flows and counters.
    pub fn stats(&self) -> UdpForwarderStats {
        let pending = self.flows.lock().pending.len();
        let FlowCount { open, ended_pending, dropped, timed_out, evicted } = &*self.count;
        UdpForwarderStats {
            flows: open.load(Ordering::Relaxed),
            pending: pending.saturating_sub(ended_pending.load(Ordering::Relaxed)),
            unread: self.budget.used(),
            dropped: dropped.load(Ordering::Relaxed),
            timed_out: timed_out.load(Ordering::Relaxed),
            evicted: evicted.load(Ordering::Relaxed),
        }
    }

    /// How many flows it remembers that may have to make room.
    #[cfg(test)]
    pub(in crate::stack) fn remembered(&self) -> usize {
        self.flows.lock().young.len()
    }

    /// Whether it takes what comes in on an interface.
    fn takes(&self, core: &Core, interface: u16) -> bool {
        self.settings.interface.map_or(!core.is_loopback(interface), |bound| bound == interface)
    }

    /// Why nothing reaches it any more: every interface that it takes something of is gone, or the one that it is
    /// limited to was removed.
    pub(super) fn cut_off<'c>(&self, core: &'c Core) -> Option<&'c Failure> {
        // One that was removed counts only for who is limited to it: others may be added.
        if let Some(bound) = self.settings.interface.filter(|bound| core.is_removed(*bound)) {
            return core.interface_failure(bound);
        }
        let mut cause = None;
        for interface in core.interfaces().numbers().filter(|interface| self.takes(core, *interface)) {
            cause = Some(core.interface_failure(interface)?);
        }
        cause
    }
}

impl Flows {
    /// Remembers a flow that was accepted, and may have to make room for others.
    ///
    /// `spent` gets cells that are to be dropped without the lock: such a drop may be that of a waker.
    pub(super) fn enter_young(&mut self, cell: &Arc<UdpCell>, open: usize, spent: &mut Vec<Arc<UdpCell>>) {
        // Most end by themselves: what is left of them is cleared once it is more than what is not.
        if self.young.len() >= 2 * open.max(32) {
            self.young.retain(|cell| {
                let Some(cell) = cell.upgrade() else { return false };
                let stays = cell.hold(|state| state.may_be_evicted());
                spent.push(cell);
                stays
            });
        }
        self.young.push_back(Arc::downgrade(cell));
    }

    /// Takes the oldest flow that can make room for another. `spent` is that of [`Flows::enter_young`].
    pub(super) fn next_to_evict(&mut self, spent: &mut Vec<Arc<UdpCell>>) -> Option<Arc<UdpCell>> {
        while let Some(oldest) = self.young.pop_front() {
            let Some(cell) = oldest.upgrade() else { continue };
            if cell.hold(|state| state.may_be_evicted()) {
                return Some(cell);
            }
            spent.push(cell);
        }
        None
    }
}

impl Subject for UdpForwarderCell {
    fn observer(&self) -> Option<&dyn Observer> {
        Some(&*self.observer)
    }
}

impl fmt::Debug for UdpForwarderCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpForwarderCell").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The forwarders of a stack: one for each interface at most, and one for all.
#[derive(Debug)]
pub(super) struct Forwarders(RwLock<Vec<Arc<UdpForwarderCell>>>);

impl Forwarders {
    pub(super) fn new() -> Self {
        Self(RwLock::new(Rank::Leaf, Vec::new()))
    }

    /// Adds one.
    ///
    /// # Errors
    /// `EADDRINUSE` if there is another for the same interface.
    pub(super) fn enter(&self, forwarder: Arc<UdpForwarderCell>) -> io::Result<()> {
        let mut all = self.0.write();
        let interface = forwarder.settings.interface;
        if all.iter().any(|other| other.settings.interface == interface) {
            return Err(os(libc::EADDRINUSE));
        }
        all.push(forwarder);
        Ok(())
    }

    /// Removes one. The caller has a reference, so that this is not the last.
    pub(super) fn leave(&self, forwarder: &Arc<UdpForwarderCell>) {
        self.0.write().retain(|other| !Arc::ptr_eq(other, forwarder));
    }

    /// The forwarder of what came in on an interface: its own before that of all.
    pub(super) fn of(&self, core: &Core, interface: u16) -> Option<Arc<UdpForwarderCell>> {
        let all = self.0.read();
        let taking = all.iter().filter(|forwarder| forwarder.takes(core, interface));
        taking.max_by_key(|forwarder| forwarder.settings.interface.is_some()).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<UdpForwarderCell>> {
        self.0.read().clone()
    }
}
