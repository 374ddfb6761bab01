//! What segments do to a held connection, and how one ends in another way than TCP's.

use super::Held;
use crate::buffer::Chunk;
use crate::error::Failure;
use crate::readiness::Events;
use crate::reasons::{DropReason, EndReason, ResetReason};
use crate::stack::flow::QueueId;
use crate::stack::tcp::cell::{BACKLOG, Over, Stage};
use crate::stack::tcp::reset::Receiver;
use crate::tcp::{OpeningStep, Reset, TcpError};
use crate::trace::EventKind;
use crate::wire::Segment;

impl Held<'_, '_> {
    /// Processes the segments that came while the cell was locked; if they come faster than that,
    /// the rest waits for the end of the batch.
    pub(super) fn drain_backlog(&mut self) {
        for _ in 0..BACKLOG {
            let Some((from, segment, payload)) = self.cell.pop_backlog() else { return };
            self.on_segment_from(from, &segment, payload);
        }
    }

    /// Gives a segment to the connection, which came in on the queue `from`.
    pub(super) fn on_segment_from(&mut self, from: QueueId, segment: &Segment, payload: Chunk) {
        if self.on_segment(segment, payload).is_none() {
            self.cell.arrived_on(from);
        }
    }

    /// Gives a segment to the connection. Says why, if it or its text was of no use.
    pub(in crate::stack::tcp) fn on_segment(
        &mut self,
        segment: &Segment,
        payload: Chunk,
    ) -> Option<DropReason> {
        // The connection left the table while the segment was on its way here. If it still matters
        // to anyone, it comes again.
        if !self.state.attached {
            return Some(self.dropped(DropReason::TcpClose));
        }
        self.note(|| EventKind::SegmentIn(segment.into()));
        match &mut self.state.stage {
            Stage::Connected(connection) => {
                let dropped = connection.on_segment(self.turn.now, segment, payload);
                let urgent = connection.ack_urgent();
                if let Some(reason) = dropped {
                    self.dropped(reason);
                    self.charge(segment);
                }
                if urgent {
                    let _ = self.transmit();
                }
                dropped
            }
            Stage::Opening(opening) => {
                let step = opening.on_segment(self.turn.now, segment, payload);
                let dropped = self.on_opening_step(step);
                if dropped.is_some() {
                    self.charge(segment);
                }
                dropped
            }
            Stage::Over(_) => Some(self.dropped(DropReason::TcpClose)),
        }
    }

    /// A segment, or its text, is dropped.
    #[cold]
    fn dropped(&mut self, reason: DropReason) -> DropReason {
        self.turn.core.counters().add_drops(reason, 1);
        if reason == DropReason::ProtoMem {
            self.tcp.counters.rcv_pruned.bump();
        }
        self.note(|| EventKind::Dropped(reason));
        reason
    }

    fn charge(&self, segment: &Segment) {
        self.tcp.charge_out_of_place(self.turn, self.cell.queue().interface, segment);
    }

    /// Says why, if the segment was of no use.
    fn on_opening_step(&mut self, step: OpeningStep) -> Option<DropReason> {
        match step {
            // What it owes, a SYN-ACK if the SYNs crossed, follows at the end of the batch.
            OpeningStep::Stay => {}
            OpeningStep::Ignore(reason) => return Some(self.dropped(reason)),
            OpeningStep::Reset(reset) => {
                let reason = reset.reason.drop_reason().map(|reason| self.dropped(reason));
                self.send_reset(&reset);
                return reason;
            }
            OpeningStep::Refused => self.fail_opening(TcpError::Refused, EndReason::Refused),
            OpeningStep::ResetByPeer => self.fail_opening(TcpError::Reset, EndReason::ResetByPeer),
            OpeningStep::Established(connection, report) => {
                if let Some(report) = report {
                    self.tcp.on_fast_open_report(self.turn.now, self.cell.key(), &report);
                }
                self.state.stage = Stage::Connected(connection.into());
                self.state.on_new_stage();
                self.notify(Events::WRITABLE);
            }
        }
        None
    }

    /// Connecting failed.
    pub(in crate::stack::tcp) fn fail_opening(&mut self, error: TcpError, end: EndReason) {
        self.tcp.counters.attempt_fails.bump();
        drop(self.cut_off(error.into(), false, end));
    }

    /// Ends a connection in another way than TCP's: nothing is sent. Returns what it was, to be dropped
    /// once nothing is locked.
    pub(in crate::stack::tcp) fn cut_off(&mut self, cause: Failure, for_good: bool, end: EndReason) -> Stage {
        self.state.end.get_or_insert(end);
        self.retire();
        self.notify(
            Events::READABLE
                | Events::WRITABLE
                | Events::READ_CLOSED
                | Events::WRITE_CLOSED
                | Events::ERROR
                | Events::HANGUP,
        );
        self.state.on_new_stage();
        let options = Box::new(self.state.stage.options().clone());
        let over = Over { cause, unreported: true, for_good, unread: None, options };
        std::mem::replace(&mut self.state.stage, Stage::Over(Box::new(over)))
    }

    /// Gives up connecting. In SYN-SENT that is silent, as in Linux; a peer that sent a SYN of its
    /// own is sent a reset.
    pub(in crate::stack::tcp) fn drop_opening(&mut self) -> Stage {
        if let Stage::Opening(opening) = &mut self.state.stage
            && let Some(segment) = opening.reset()
        {
            self.send_reset(&Reset { segment, reason: ResetReason::TcpState });
        }
        self.cut_off(TcpError::Aborted.into(), false, EndReason::Abandoned)
    }

    fn send_reset(&mut self, reset: &Reset) {
        let cell = self.cell;
        let to = Receiver { queue: cell.queue(), key: cell.key(), packets: cell.packets() };
        self.tcp.send_reset(self.turn, &to, &reset.segment, reset.reason);
    }

    /// Cuts a connection off: the device is gone, or the stack was shut down, which makes every later
    /// call fail, too. Returns what is to be dropped once nothing is locked.
    pub(in crate::stack::tcp) fn fail(&mut self, cause: &Failure, end: EndReason) -> Option<Stage> {
        let for_good = end == EndReason::StackShutDown;
        let replaced = self.cut_off(cause.clone(), for_good, end);
        match (replaced, &mut self.state.stage) {
            // What was acknowledged was promised: the application may read it.
            (Stage::Connected(connection), Stage::Over(over)) if connection.unread() > 0 => {
                over.unread = connection.into_awake();
                None
            }
            (replaced, _) => Some(replaced),
        }
    }
}
