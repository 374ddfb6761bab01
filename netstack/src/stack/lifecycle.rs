//! What happens around each use of a connection: effects are gathered, deadlines armed, and a
//! connection that is over leaves the tables.

use super::cell::{Cell, CellParts, Inner, Over, Phase};
use super::deadlines::{Target, Timer};
use super::demux::Parked;
use super::effects::Effects;
use super::egress::Progress;
use super::engine::Engine;
use super::fast_open::FastOpenQueue;
use super::flow::{FlowKey, QueueId};
use super::ports::Binding;
use crate::buffer::Chunk;
use crate::error::Failure;
use crate::readiness::Events;
use crate::tcp::{Completion, Connection, SocketOptions};
use crate::time::Instant;
use crate::wire::Segment;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A connection that a listener made.
pub(crate) struct Accepted {
    pub(crate) key: FlowKey,
    pub(crate) mapped: bool,
    pub(crate) queue: QueueId,
    pub(crate) ttl: u8,
    pub(crate) traffic_class: u8,
    pub(crate) connection: Box<Connection>,
    pub(crate) binding: Binding,
    pub(crate) options: SocketOptions,
    /// Where it counts if its handshake is not over.
    pub(crate) fast_open: Option<Arc<FastOpenQueue>>,
}

impl Engine {
    /// Calls `f` with the locked connection, after the segments that wait for it and before what
    /// it has to send.
    pub(super) fn with_cell<R>(
        &self,
        now: Instant,
        cell: &Arc<Cell>,
        out: &mut Effects,
        f: impl FnOnce(&mut Inner, &mut Effects) -> R,
    ) -> R {
        let mut inner = cell.lock();
        self.drain_backlog(now, cell, &mut inner, out);
        let result = f(&mut inner, out);
        self.drain_backlog(now, cell, &mut inner, out);
        self.settle(now, cell, &mut inner, out);
        result
    }

    /// The last thing before a cell is unlocked: sends what there is to send, tells whoever waits,
    /// takes a connection that is over out of the tables, and arms its deadline. Says whether the
    /// device is full.
    pub(super) fn settle(
        &self,
        now: Instant,
        cell: &Arc<Cell>,
        inner: &mut Inner,
        out: &mut Effects,
    ) -> bool {
        let progress = self.transmit(now, cell, inner, out);
        inner.sent_in_hold = 0;
        let events = match &mut inner.phase {
            Phase::Connected(connection) => connection.take_events(),
            Phase::Opening(_) | Phase::Over(_) => Events::NONE,
        };
        self.settle_fast_open(now, inner);
        // The last acknowledgment or reset goes first.
        if progress == Progress::Done {
            self.remove_completed(now, cell, inner, out);
        }
        if !events.is_empty() && !inner.orphan {
            out.notify(cell, events);
        }
        let deadline = match &inner.phase {
            _ if !inner.attached => None,
            Phase::Connected(connection) => connection.poll_timeout(),
            Phase::Opening(opening) => opening.poll_timeout(),
            Phase::Over(_) => None,
        };
        if let Some(at) = deadline {
            let target = || Target::Cell(Arc::downgrade(cell));
            out.deadline_moved(self.deadlines().arm(&mut inner.timer, at, target));
        }
        progress == Progress::Full
    }

    /// Takes a connection that is over out of the tables, or leaves a TIME-WAIT record there.
    fn remove_completed(&self, now: Instant, cell: &Arc<Cell>, inner: &mut Inner, out: &mut Effects) {
        let Phase::Connected(connection) = &inner.phase else { return };
        match connection.completion() {
            Completion::Running => {}
            Completion::TimeWait => self.park(now, cell, inner, out),
            Completion::Closed => {
                if inner.attached && connection.ended_in_order() {
                    self.save_metrics(now, cell.key().remote(), connection);
                }
                self.retire(cell, inner);
            }
        }
    }

    /// Takes a connection out of the tables: nothing more is sent or accepted for it. Whoever holds
    /// it can still read.
    pub(super) fn retire(&self, cell: &Arc<Cell>, inner: &mut Inner) {
        if std::mem::replace(&mut inner.attached, false) {
            self.demux().remove(cell);
            self.detached(cell, inner);
        }
    }

    /// Leaves no more than a TIME-WAIT record in the table.
    fn park(&self, now: Instant, cell: &Arc<Cell>, inner: &mut Inner, out: &mut Effects) {
        let Phase::Connected(connection) = &mut inner.phase else { return };
        if !inner.attached {
            return;
        }
        self.save_metrics(now, cell.key().remote(), connection);
        if self.demux().time_waits() >= self.config().max_time_wait as usize {
            // tcp_time_wait in Linux: the state is skipped.
            self.counters_live().time_wait_overflow.bump();
            self.retire(cell, inner);
            return;
        }
        let parked = Parked {
            record: connection.time_wait(now),
            timer: Timer::default(),
            binding: inner.binding.take(),
            queue: cell.queue(),
        };
        inner.attached = false;
        if self.demux().park(cell, Box::new(parked)).is_ok() {
            self.counters_live().time_waited.bump();
            self.rearm_time_wait(cell.key(), out);
        }
        self.detached(cell, inner);
    }

    /// Gives up what a connection holds while it is in the table.
    fn detached(&self, cell: &Cell, inner: &mut Inner) {
        self.detach_fast_open(cell, inner);
        self.disarm(&mut inner.timer);
        inner.binding = None;
        if inner.orphan {
            self.orphan_count().fetch_sub(1, Ordering::Relaxed);
        }
        self.trim_if_idle();
    }

    /// A stack without connections holds no buffers for them.
    pub(crate) fn trim_if_idle(&self) {
        if self.demux().cells() == 0 {
            self.pool().trim();
        }
    }

    pub(super) fn rearm_time_wait(&self, key: &FlowKey, out: &mut Effects) {
        self.demux().with_time_wait(key, |parked| {
            let at = parked.record.deadline();
            out.deadline_moved(self.deadlines().arm(&mut parked.timer, at, || Target::TimeWait(*key)));
        });
    }

    /// The deadline of a TIME-WAIT entry. It may have been extended since it was armed.
    pub(super) fn on_time_wait_deadline(&self, now: Instant, key: &FlowKey, out: &mut Effects) {
        let over = self.demux().remove_time_wait(key, |parked| {
            parked.timer.fired();
            parked.record.deadline() <= now
        });
        if over.is_none() {
            self.rearm_time_wait(key, out);
        }
    }

    /// Ends a TIME-WAIT entry before its time.
    pub(super) fn end_time_wait(&self, key: &FlowKey) {
        if let Some(mut parked) = self.demux().remove_time_wait(key, |_| true) {
            self.disarm(&mut parked.timer);
        }
    }

    pub(super) fn disarm(&self, timer: &mut Timer) {
        self.deadlines().disarm(timer);
    }

    /// The cell of a connection that a listener made, in no table yet.
    pub(super) fn accepted_cell(&self, accepted: Accepted) -> Arc<Cell> {
        let Accepted { key, mapped, queue, ttl, traffic_class, connection, binding, options, fast_open } =
            accepted;
        Cell::new(CellParts {
            id: self.new_id(),
            key,
            mapped,
            flow_label: self.flow_label(&key),
            queue,
            ttl,
            traffic_class,
            phase: Phase::Connected(connection),
            binding: Some(binding),
            options,
            fast_open,
        })
    }

    /// Enters a connection that a listener made into the table and gives it `first`, the segment that
    /// completed the handshake, if it is complete. False if its place is taken.
    pub(super) fn adopt(
        &self,
        now: Instant,
        cell: &Arc<Cell>,
        first: Option<(&Segment, Chunk)>,
        out: &mut Effects,
    ) -> bool {
        match self.demux().insert(*cell.key(), Arc::clone(cell)) {
            Err(()) => false,
            Ok(previous) => {
                if let Some(mut parked) = previous {
                    self.disarm(&mut parked.timer);
                }
                self.with_cell(now, cell, out, |inner, out| {
                    if let Some((segment, payload)) = first {
                        self.process(now, cell, inner, segment, payload, out);
                    }
                });
                true
            }
        }
    }

    /// The flow label of a connection's IPv6 packets: uniform, and not to be predicted from outside
    /// (RFC 6437 §3).
    pub(super) fn flow_label(&self, key: &FlowKey) -> u32 {
        if key.is_ipv6() { (self.demux().keyed().of(key) >> 40) as u32 & 0xf_ffff } else { 0 }
    }

    /// Cuts a connection off: the device is gone or the stack was shut down. `for_good` makes every
    /// later call fail, too.
    pub(super) fn fail_cell(&self, cell: &Arc<Cell>, failure: &Failure, for_good: bool, out: &mut Effects) {
        let replaced = {
            let mut inner = cell.lock();
            let over = Phase::Over(Over::new(failure.clone(), for_good));
            match (self.cut_off(cell, &mut inner, over, out), &mut inner.phase) {
                // What was acknowledged was promised: the application may read it.
                (Phase::Connected(connection), Phase::Over(over)) if connection.unread() > 0 && !for_good => {
                    over.unread = Some(connection);
                    None
                }
                (replaced, _) => Some(replaced),
            }
        };
        drop(replaced);
    }
}
