//! Connections of which only the TIME-WAIT state is left.

use super::Tcp;
use super::deadline::Deadline;
use super::reset::Receiver;
use super::scratch::Scratch;
use super::stray::Stray;
use crate::reasons::ResetReason;
use crate::stack::core::Core;
use crate::stack::flow::FlowKey;
use crate::stack::turn::Turn;
use crate::tcp::TimeWaitStep;
use crate::wire::SeqNum;

impl Tcp {
    /// A segment for a TIME-WAIT entry. If it opens a new connection, gives the initial sequence
    /// number for it; the entry is gone then.
    pub(super) fn on_time_wait_segment(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        stray: &Stray<'_>,
    ) -> Option<SeqNum> {
        let Stray { from, key, segment } = *stray;
        let (step, queue, packets) = self.demux.with_time_wait(key, |entry| {
            turn.not_before(&mut entry.latest);
            let step = entry.record.on_segment(turn.now, segment);
            let acceptable = matches!(step, TimeWaitStep::Acknowledge(_));
            // As a connection: it stays with its interface (`Cell::arrived_on`).
            if acceptable && from.interface == entry.queue.interface {
                entry.queue = from;
            }
            (step, entry.queue, entry.packets)
        })?;
        let to = Receiver { queue, key, packets };
        match step {
            TimeWaitStep::Ignore(reason) => {
                self.charge_out_of_place(turn, from.interface, segment);
                turn.dropped(reason, || key.about());
                None
            }
            TimeWaitStep::Answer(ack, reason) => {
                self.charge_out_of_place(turn, from.interface, segment);
                turn.dropped(reason, || key.about());
                self.send_segment(turn, queue, key, to.packets, &ack);
                self.arm_time_wait(turn, key);
                None
            }
            TimeWaitStep::Acknowledge(ack) => {
                self.send_segment(turn, queue, key, to.packets, &ack);
                // The FIN that FIN-WAIT-2 waited for may have brought the end nearer.
                self.arm_time_wait(turn, key);
                None
            }
            TimeWaitStep::Remove => {
                self.end_time_wait(key);
                None
            }
            TimeWaitStep::Reset(reset) => {
                self.end_time_wait(key);
                if let Some(reason) = reset.reason.drop_reason() {
                    turn.dropped(reason, || key.about());
                }
                self.send_reset(turn, &to, &reset.segment, reset.reason);
                None
            }
            // RFC 9293 §3.6.1: only a listener accepts it. Without one the SYN is refused, and the
            // entry keeps its time.
            TimeWaitStep::Reopen { iss } => {
                if self.demux.listener(key, from.interface, &mut scratch.listeners).is_some() {
                    self.end_time_wait(key);
                    return Some(iss);
                }
                self.reset_stray(turn, scratch, stray, ResetReason::NoSocket);
                None
            }
        }
    }

    pub(super) fn arm_time_wait(&self, turn: &mut Turn<'_>, key: &FlowKey) {
        self.demux.with_time_wait(key, |entry| {
            let at = entry.record.deadline();
            let moved = self.deadlines.arm(&mut entry.timer, at, || Deadline::TimeWait(Box::new(*key)));
            turn.out.deadline_moved(moved);
        });
    }

    /// The deadline of a TIME-WAIT entry. It may have been extended since it was armed.
    pub(super) fn on_time_wait_deadline(&self, turn: &mut Turn<'_>, key: &FlowKey) {
        let over = self.demux.remove_time_wait(key, |entry| {
            entry.timer.fired();
            entry.record.deadline() <= turn.now
        });
        if over.is_none() {
            self.arm_time_wait(turn, key);
        }
    }

    /// Ends a TIME-WAIT entry before its time.
    fn end_time_wait(&self, key: &FlowKey) {
        if let Some(mut entry) = self.demux.remove_time_wait(key, |_| true) {
            self.deadlines.disarm(&mut entry.timer);
        }
    }

    /// A stack without connections holds no memory for them.
    pub(in crate::stack) fn trim_if_idle(&self, core: &Core) {
        if self.demux.cells() == 0 {
            core.pool().trim();
            self.spares.trim();
        }
    }
}
