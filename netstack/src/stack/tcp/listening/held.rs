//! A locked listener, and what segments, time, ICMP and the application do to its half-open connections
//! (tcp_conn_request, tcp_check_req and reqsk_timer_handler in Linux).

mod cookies;
mod decide;
mod handshake;
mod syn;

use super::half_open::{HalfOpen, Place};
use super::listener::{Listener, ListenerState, Tally};
use super::pending_syn::PendingSyn;
use crate::buffer::Chunk;
use crate::readiness::Events;
use crate::reasons::{DropReason, ResetReason};
use crate::stack::flow::{FlowKey, QueueId};
use crate::stack::tcp::cell::{Cell, CellParts, Stage};
use crate::stack::tcp::deadline::Deadline;
use crate::stack::tcp::fast_open_queue::FastOpenQueue;
use crate::stack::tcp::hold::End;
use crate::stack::tcp::{Tcp, flow_label};
use crate::stack::turn::Turn;
use crate::sync::MutexGuard;
use crate::tcp::{Connection, SynParts, TcpError};
use crate::wire::{FastOpenOption, Segment, SeqNum};
use std::sync::Arc;

/// A segment for a listener, with where it came from or is answered.
#[derive(Clone, Copy)]
pub(in crate::stack::tcp) struct Received<'a> {
    pub(in crate::stack::tcp) key: FlowKey,
    pub(in crate::stack::tcp) queue: QueueId,
    pub(in crate::stack::tcp) segment: &'a Segment,
    /// The initial sequence number to use, if the SYN took over a TIME-WAIT entry.
    pub(in crate::stack::tcp) iss: Option<SeqNum>,
}

/// What is to do for a segment once the listener has looked at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stack::tcp) enum Verdict {
    Done,
    /// It was of no use.
    Dropped(DropReason),
    /// Answer as for a segment of no connection (RFC 9293 §3.10.7.2).
    Reset(ResetReason),
}

/// The segment that completed a handshake.
struct Third<'a> {
    segment: &'a Segment,
    payload: Chunk,
}

/// A locked listener, and what is at hand while it is.
struct HeldListener<'h, 't> {
    tcp: &'h Tcp,
    turn: &'h mut Turn<'t>,
    listener: &'h Arc<Listener>,
    state: MutexGuard<'h, ListenerState>,
}

impl<'h, 't> HeldListener<'h, 't> {
    fn new(tcp: &'h Tcp, turn: &'h mut Turn<'t>, listener: &'h Arc<Listener>) -> Self {
        let mut state = listener.lock();
        turn.not_before(&mut state.latest);
        Self { tcp, turn, listener, state }
    }

    fn count(&mut self, tally: Tally) {
        tally.count(&mut self.state.counters, &self.tcp.counters);
    }

    /// The segment as it is answered: with the queue that leads back to its sender.
    fn to_answer<'a>(&self, received: &Received<'a>) -> Received<'a> {
        let way = received.key.way_back(self.listener.interface());
        Received { queue: self.turn.core.way_back(received.queue, &way), ..*received }
    }

    /// What a half-open connection starts from; it is answered on the queue of `received`.
    fn syn_parts(&self, received: &Received<'_>) -> SynParts<'_> {
        SynParts {
            ts_offset: self.tcp.timestamp_offset(&received.key),
            path: self.tcp.path(self.turn, received.queue.interface, received.key.remote()),
            options: &self.state.options,
            config: self.turn.core.config(),
        }
    }

    /// Sends a segment without payload with the listener's marks.
    fn send(&mut self, queue: QueueId, key: &FlowKey, segment: &Segment) {
        let packets = self.state.ip.packets;
        self.tcp.send_segment(self.turn, queue, key, packets, segment);
    }

    /// Enters a half-open connection, which the table of flows leads to already.
    fn insert_half_open(&mut self, half_open: HalfOpen) {
        let place = self.state.syn_queue.next_place();
        let half_open = self.state.syn_queue.insert(half_open);
        arm(self.tcp, self.turn, self.listener, place, half_open);
    }

    /// Where a half-open connection is in the SYN queue.
    fn place_of(&self, key: &FlowKey) -> Option<Place> {
        let place = self.tcp.demux.half_open(key, self.listener)?;
        // A flow whose connection could not be made may still lead to a place that is another's by now.
        self.state.syn_queue.holds(place, key).then_some(place)
    }

    /// Takes a half-open connection out of the SYN queue.
    fn take_half_open(&mut self, key: &FlowKey) -> Option<HalfOpen> {
        let place = self.place_of(key)?;
        let mut half_open = self.state.syn_queue.remove(place)?;
        self.tcp.deadlines.disarm(&mut half_open.timer);
        self.tcp.demux.remove_half_open(key);
        if let Some(pending) = &half_open.pending {
            self.withdraw(pending);
        }
        Some(half_open)
    }

    /// A SYN is not to be decided about any more.
    fn withdraw(&mut self, pending: &Arc<PendingSyn>) {
        self.state.pending.retain(|other| !Arc::ptr_eq(other, pending));
    }

    /// Forgets a half-open connection, which ended with `error` for the task that waits for it.
    fn drop_half_open(&mut self, key: &FlowKey, error: TcpError) {
        if let Some(pending) = self.take_half_open(key).and_then(|half_open| half_open.pending) {
            pending.over(error.into(), self.turn.out);
        }
    }

    /// The cell of a connection that this listener made, in no table yet; none once it is closed.
    fn child(
        &self,
        key: FlowKey,
        queue: QueueId,
        connection: Box<Connection>,
        fast_open: Option<Arc<FastOpenQueue>>,
    ) -> Option<Arc<Cell>> {
        let binding = self.state.place.as_ref()?.child(key.local());
        let mut ip = self.state.ip;
        // sk_clone in Linux: the mark is inherited, the priority is not.
        ip.packets.priority = 0;
        Some(Cell::new(CellParts {
            id: self.turn.core.new_id(),
            key,
            mapped: self.listener.maps(&key),
            flow_label: flow_label(self.turn.core, &key),
            queue,
            ip,
            stage: Stage::Connected(connection.into()),
            binding,
            fast_open,
            now: self.turn.now,
            traced: self.turn.core.trace().is_some(),
            memory: self.turn.core.memory(),
            spares: &self.tcp.spares,
        }))
    }

    /// Enters a connection that the listener made into the table and gives it the segment that completed
    /// the handshake, if it is complete. False if its place is taken.
    fn adopt(&mut self, cell: &Arc<Cell>, third: Option<Third<'_>>) -> bool {
        let Ok(previous) = self.tcp.demux.insert(*cell.key(), Arc::clone(cell)) else { return false };
        if let Some(mut entry) = previous {
            self.tcp.deadlines.disarm(&mut entry.timer);
        }
        self.tcp.hold(self.turn, cell, End::Settle, |held| {
            if let Some(Third { segment, payload }) = third {
                held.on_segment(segment, payload);
            }
        });
        true
    }

    /// There is no memory for another connection: what asks for one is dropped, and comes again.
    #[cold]
    fn drop_for_memory(&mut self) -> Verdict {
        self.tcp.counters.syn_memory_drops.bump();
        // It may be all that comes.
        self.tcp.begin_sweep(self.turn);
        self.count(Tally::Drop);
        Verdict::Dropped(DropReason::ProtoMem)
    }

    /// Puts a connection into the accept queue.
    fn enqueue(&mut self, cell: Arc<Cell>) {
        self.state.accept_queue.push_back(cell);
        self.notify();
    }

    /// Lets the listener's observer know that something waits.
    fn notify(&mut self) {
        let listener = Arc::clone(self.listener);
        self.turn.out.notify(listener, Events::READABLE);
    }
}

/// Arms the deadline of a half-open connection.
fn arm(tcp: &Tcp, turn: &mut Turn<'_>, listener: &Arc<Listener>, place: Place, half_open: &mut HalfOpen) {
    let target = || Deadline::HalfOpen(Arc::downgrade(listener), place);
    let at = half_open.entry.deadline();
    turn.out.deadline_moved(tcp.deadlines.arm(&mut half_open.timer, at, target));
}

/// A SYN-ACK with the answer of Fast Open. It is in the first one only (RFC 7413 §4.2.1).
fn with_cookie(mut syn_ack: Segment, option: Option<FastOpenOption>) -> Segment {
    syn_ack.options.fast_open = option;
    if option.is_some() {
        // Both do not fit.
        syn_ack.options.acc_ecn = None;
    }
    syn_ack
}
