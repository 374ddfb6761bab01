//! The short ways through a held connection, for what happens all the time and concerns nobody else: a segment that
//! is the next in order, and a batch at whose end nothing is to be sent.
//!
//! Each does what [`Held::run`] and [`Held::settle`] do, as far as there is anything to do. The conditions come
//! first; where one does not hold, the long way follows, and does again the little that was done.

use super::Held;
use crate::buffer::Chunk;
use crate::readiness::Events;
use crate::stack::tcp::cell::{Cell, SocketState, Stage, Tail};
use crate::stack::turn::Turn;
use crate::tcp::{Completion, QuietAck};
use crate::wire::PlainSegment;

/// What became of a segment on the short way.
pub(super) enum Short {
    /// The connection took it, and nothing follows: it need not be settled, now or at the end of the batch.
    Quiet,
    /// The connection took it.
    Taken,
    /// It is not for the short way.
    Not,
}

/// Gives a segment to a locked connection, if it is one that is expected. What is left of its payload then is the
/// buffer, if the text was copied.
#[inline]
pub(super) fn take_expected(
    turn: &mut Turn<'_>,
    cell: &Cell,
    state: &mut SocketState,
    segment: &PlainSegment,
    payload: &mut Chunk,
) -> Short {
    if turn.core.memory().is_pressed() || cell.has_backlog() {
        return Short::Not;
    }
    // One after the other, they are for the cell alone.
    let ack = QuietAck::of(segment);
    if let Some(ack) = &ack
        && state.keeps_quiet(ack)
    {
        turn.not_before(&mut state.latest);
        return Short::Quiet;
    }
    state.disturb();
    let plain = state.is_plain();
    let now = turn.now.max(state.latest);
    let Stage::Connected(connection) = &mut state.stage else { return Short::Not };
    if !plain {
        return Short::Not;
    }
    if let Some(ack) = ack
        && connection.is_quiet_ack(now, segment)
    {
        turn.not_before(&mut state.latest);
        connection.on_quiet_acks(turn.now, &ack, 1);
        state.expect_quiet(ack);
        return Short::Quiet;
    }
    if connection.is_expected(now, segment) && !connection.ack_urgent() {
        turn.not_before(&mut state.latest);
        connection.on_expected(turn.now, segment, payload);
        return Short::Taken;
    }
    Short::Not
}

impl Held<'_, '_> {
    /// Settles the connection if there is nothing to send, and nothing to do beside what every segment brings. Says
    /// whether that is so.
    #[inline]
    pub(super) fn settles_plainly(&mut self) -> bool {
        let Self { tcp: _, turn, cell, state } = self;
        if turn.core.memory().is_pressed() || !state.is_plain() {
            return false;
        }
        state.disturb();
        turn.not_before(&mut state.latest);
        // What is pushed before the mark is cleared is seen after it.
        cell.clear_dirty();
        let path_is_known = !state.path.is_out_of_date(turn.core.paths().changes(), turn.now);
        let Stage::Connected(connection) = &mut state.stage else { return false };
        let nothing_to_do = path_is_known
            && !cell.has_backlog()
            && connection.completion() == Completion::Running
            && connection.has_nothing_to_send();
        if !nothing_to_do {
            return false;
        }
        let events = connection.take_events();
        (state.sent_in_hold, state.tail) = (0, Tail::Waits);
        self.tcp.settle_fast_open(self.turn, &mut self.state);
        self.count_undelivered();
        if events != Events::NONE && !self.state.orphan {
            self.notify(events);
        }
        self.arm();
        self.state.weigh();
        true
    }
}
