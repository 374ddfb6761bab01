//! Holding a connection: the only way to lock it.
//!
//! A change of a connection causes further work: segments to send, a deadline to arm, an observer
//! to notify, a table entry to remove. So only [`Tcp::hold`] and its counterpart for segments lock
//! a cell. Both process the segments that arrived while it was locked, and settle before they
//! unlock.

mod deadline;
mod icmp;
mod left;
mod memory;
mod plain;
mod process;
mod settle;
mod transmit;

use plain::{Short, take_expected};

use super::Tcp;
use super::cell::{Cell, Left, SocketState, Stage};
use super::coalesce::Joined;
use super::next::Plain;
use super::scratch::Scratch;
use super::stray::Stray;
use crate::buffer::Chunk;
use crate::readiness::Events;
use crate::reasons::DropReason;
use crate::stack::flow::QueueId;
use crate::stack::turn::Turn;
use crate::sync::MutexGuard;
use crate::tcp::QuietAck;
use crate::trace::EventKind;
use crate::wire::PlainSegment;
use std::sync::Arc;

/// A locked connection, and what is at hand while it is.
pub(super) struct Held<'h, 't> {
    pub(super) tcp: &'h Tcp,
    pub(super) turn: &'h mut Turn<'t>,
    pub(super) cell: &'h Arc<Cell>,
    pub(super) state: MutexGuard<'h, SocketState>,
}

/// When a connection is settled.
pub(super) enum End<'s> {
    /// Before it is unlocked.
    Settle,
    /// The same after a call of the application. What its queues take is counted with the next segment, which
    /// what was sent brings.
    Call,
    /// At the end of the batch, once for all segments in it.
    AfterBatch(&'s mut Scratch),
}

/// How far a connection came with what it has to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is left that may be sent now.
    Done,
    /// The bound on one hold of the lock was reached, or the rest waits for the end of the batch.
    More,
    /// The device is full.
    Full,
}

impl Tcp {
    /// Locks a connection and calls `f` with it, after the segments that wait for it and before what it
    /// has to send. Nothing is settled if `f` panics.
    pub(super) fn hold<R>(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<Cell>,
        end: End<'_>,
        f: impl FnOnce(&mut Held<'_, '_>) -> R,
    ) -> (R, Progress) {
        let state = cell.lock_to_hold();
        Held { tcp: self, turn, cell, state }.run(end, f)
    }

    /// Settles a connection at the end of a batch in which it got segments, or leaves that to who sends. Says whether
    /// it holds back an acknowledgment ([`Effects::answers_first`](crate::stack::effects::Effects::answers_first)).
    pub(super) fn settle_after_batch(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>) -> bool {
        let Some(state) = cell.lock_or_leave(Left::BATCH) else { return false };
        let mut held = Held { tcp: self, turn: &mut *turn, cell, state };
        held.state.held_back = false;
        if held.settles_plainly() {
            return false;
        }
        held.turn.out.held_back = false;
        // What is pushed before the mark is cleared is drained after it.
        held.run(End::Settle, |held| held.cell.clear_dirty());
        turn.out.held_back
    }

    /// Gives a segment to a connection, now or, if somebody holds it, when they let go.
    pub(super) fn on_cell_segment(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        cell: &Arc<Cell>,
        stray: &Stray<'_>,
        mut payload: Chunk,
    ) {
        let taken = PlainSegment::of(stray.segment).is_some_and(|segment| {
            let plain = Plain { from: stray.from, segment: &segment };
            self.on_cell_expected(turn, scratch, cell, &plain, &mut payload)
        });
        if !taken {
            self.on_cell_unexpected(turn, scratch, cell, stray, payload);
        }
    }

    /// The same with a segment that may be any.
    pub(super) fn on_cell_unexpected(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        cell: &Arc<Cell>,
        stray: &Stray<'_>,
        payload: Chunk,
    ) {
        let Stray { from, segment, .. } = *stray;
        match cell.try_lock_to_hold() {
            Some(state) => {
                let held = Held { tcp: self, turn, cell, state };
                held.run(End::AfterBatch(scratch), |held| held.on_segment_from(from, segment, payload));
                return;
            }
            None if cell.push_backlog(from, segment.clone(), payload) => self.counters.backlog_queued.bump(),
            None => {
                self.counters.backlog_drops.bump();
                turn.dropped(DropReason::SocketBacklog, || cell.about());
            }
        }
        scratch.mark(cell);
    }

    /// Keeps an acknowledgment back that says nothing new, again, if nobody holds its connection. Says whether it did.
    #[inline]
    pub(super) fn keeps_quiet(
        &self,
        turn: &mut Turn<'_>,
        cell: &Cell,
        from: QueueId,
        ack: &QuietAck,
    ) -> bool {
        let Some(mut state) = cell.try_lock_to_hold() else { return false };
        if turn.core.memory().is_pressed() || cell.has_backlog() || !state.keeps_quiet(ack) {
            return false;
        }
        turn.not_before(&mut state.latest);
        cell.arrived_on(from);
        true
    }

    /// Gives a plain segment to a connection, if nobody holds it and it is one that is expected. Says whether it was.
    /// What is left of its payload then is the buffer, if the text was copied.
    pub(super) fn on_cell_expected(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        cell: &Arc<Cell>,
        plain: &Plain<'_>,
        payload: &mut Chunk,
    ) -> bool {
        let Plain { from, segment } = *plain;
        let Some(mut state) = cell.try_lock_to_hold() else { return false };
        let follows = match take_expected(turn, cell, &mut state, segment, payload) {
            Short::Quiet => false,
            Short::Taken => true,
            Short::Not => return false,
        };
        drop(state);
        cell.arrived_on(from);
        if follows {
            scratch.mark(cell);
        }
        true
    }

    /// Gives joined segments to a connection, if nobody holds it and it takes them as one. Else returns them.
    pub(super) fn on_cell_joined(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        cell: &Arc<Cell>,
        joined: Joined,
    ) -> Option<Joined> {
        let Joined { from, segment, .. } = joined;
        let Some(state) = cell.try_lock_to_hold() else { return Some(joined) };
        let held = Held { tcp: self, turn, cell, state };
        let (left, _) = held.run(End::AfterBatch(scratch), |held| {
            let takes = match &held.state.stage {
                Stage::Connected(connection) => connection.takes_joined(&segment),
                Stage::Opening(_) | Stage::Over(_) => false,
            };
            if !takes {
                return Some(joined);
            }
            held.on_segment_from(from, &segment.to_segment(), joined.payload);
            None
        });
        left
    }

    /// The deadline of a connection has come.
    pub(super) fn on_cell_deadline(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>) {
        // Who sends serves it.
        let Some(state) = cell.lock_or_leave(Left::DEADLINE) else { return };
        Held { tcp: self, turn: &mut *turn, cell, state }.run(End::Settle, Held::on_deadline);
        self.rest_if_due(turn, cell);
    }

    /// The queue with this number takes packets again: the connections that wait for it send. Says
    /// whether it still takes some after that.
    pub(super) fn serve_waiting(&self, turn: &mut Turn<'_>, queue_number: usize) -> bool {
        // Those that join meanwhile, having used up their turn, come after those that wait.
        for _ in 0..self.waiting.len(queue_number) {
            let Some(cell) = self.waiting.next(queue_number) else { break };
            // Who sends goes on.
            let Some(state) = cell.lock_or_leave(Left::TURN) else { continue };
            let held = Held { tcp: self, turn, cell: &cell, state };
            let ((), progress) = held.run(End::Settle, Held::take_turn);
            if progress == Progress::Full {
                return false;
            }
        }
        true
    }
}

impl Held<'_, '_> {
    fn run<R>(mut self, end: End<'_>, f: impl FnOnce(&mut Self) -> R) -> (R, Progress) {
        self.state.disturb();
        self.turn.not_before(&mut self.state.latest);
        self.follow_memory();
        self.drain_backlog();
        let result = f(&mut self);
        let progress = match end {
            End::Settle | End::Call => {
                self.drain_backlog();
                let progress = self.settle();
                match end {
                    End::Call => self.state.weigh_if_new(),
                    _ => self.state.weigh(),
                }
                progress
            }
            End::AfterBatch(scratch) => {
                scratch.mark(self.cell);
                Progress::More
            }
        };
        let progress = if self.cell.is_sending() { self.do_what_was_left(progress) } else { progress };
        (result, progress)
    }

    /// Notes an event for the connection's history, and for who is told of everything.
    #[inline]
    pub(super) fn note(&mut self, kind: impl FnOnce() -> EventKind) {
        if self.state.watch.is_on() {
            self.put_note(kind);
        }
    }

    /// Out of the way of what nobody wants to know of.
    #[cold]
    #[inline(never)]
    fn put_note(&mut self, kind: impl FnOnce() -> EventKind) {
        self.state.watch.note(self.turn, || self.cell.about(), kind());
    }

    /// Lets the connection's observer know.
    fn notify(&mut self, events: Events) {
        let cell = Arc::clone(self.cell);
        self.turn.out.notify(cell, events);
    }
}
