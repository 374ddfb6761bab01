//! What a segment carries: steps seven and eight of RFC 9293 §3.10.7.4.

use super::{Connection, NEXT, Step, dropped};
use crate::buffer::Chunk;
use crate::readiness::Events;
use crate::reasons::{DropReason, EndReason, ResetReason};
use crate::tcp::error::TcpError;
use crate::tcp::receive::{Echo, Received, TextMeta};
use crate::tcp::reset::Reset;
use crate::tcp::seq::Seq;
use crate::tcp::state::{Input, State};
use crate::time::Instant;
use crate::wire::{Flags, PlainSegment, Segment};

impl Connection {
    /// Seventh: the segment's text. If it goes on, why the text is dropped, if it is.
    pub(super) fn take_text(
        &mut self,
        now: Instant,
        seg: &Segment,
        seq: Seq,
        payload: Chunk,
    ) -> Step<Option<DropReason>> {
        if seg.is_fin() && self.state.can_receive() {
            self.rcv.expect_fin(seq, seq + payload.len());
        }
        if payload.is_empty() {
            return Step::Continue(None);
        }
        let before = self.rcv.nxt();
        if !self.state.can_receive() {
            // After the peer's FIN there is no text (RFC 9293 §3.10.7.4). What comes from before it asks
            // for an acknowledgment all the same, as a keep-alive probe with a byte of garbage does.
            let old = seq + payload.len() <= before;
            if seq < before {
                self.rcv.on_old_text(seq, payload.len().min(before.since(seq)));
            }
            let reason = if old { DropReason::TcpOldData } else { DropReason::TcpOverwindow };
            return Step::Continue(Some(reason));
        }
        let closing = matches!(self.state, State::FinWait1 | State::FinWait2);
        if closing && self.user.read_shut && seq + payload.len() > before {
            return self.abort_on_text(seg);
        }
        self.counters.data_segs_in += seg.on_wire() as u64;
        let meta = TextMeta {
            gso_size: seg.gso_size,
            push: seg.flags.contains(Flags::PSH),
            echo: self.ts.zip(seg.options.timestamps).and_then(|(ts, option)| {
                let tsecr = option.tsecr;
                ts.rtt(now, tsecr).map(|rtt| Echo { tsecr, rtt })
            }),
            rto: self.path.rto(),
            srtt: self.path.srtt(),
        };
        match self.rcv.on_text(now, seq, payload, &meta) {
            Received::InOrder => {
                self.counters.bytes_received += self.rcv.nxt().since(before) as u64;
                self.outcome.notify(Events::READABLE);
            }
            Received::OutOfOrder => {}
            Received::Dropped(reason) => return Step::Continue(Some(reason)),
        }
        Step::Continue(None)
    }

    /// Whether several segments that the stack has joined can be taken as one: they carry what comes next, nothing
    /// is missing, and all of it is in the window.
    pub fn takes_joined(&self, seg: &PlainSegment) -> bool {
        let seq = self.rcv.nxt().nearest(seg.seq);
        self.state.can_receive() && self.rcv.is_next(seq, seg.payload_len)
    }

    /// Ends the connection, since nobody will ever read what `seg` carries (RFC 9293 §3.6.1; Linux's
    /// TCPAbortOnData).
    pub(super) fn abort_on_text<T>(&mut self, seg: &Segment) -> Step<T> {
        let reason = ResetReason::TcpAbortOnData;
        self.outcome.set_reset(Reset::answer(seg, reason));
        self.enter_closed(EndReason::by_reset(reason), Some(TcpError::Reset));
        dropped(DropReason::TcpAbortOnData)
    }

    /// Eighth: FIN, once everything before it has arrived.
    pub(super) fn check_fin(&mut self, now: Instant, seg: &Segment, seq: Seq) -> Step {
        if seg.is_fin() {
            self.rcv.on_fin(seq, seq + seg.payload_len, self.state.can_receive());
        }
        if !self.state.can_receive() || !self.rcv.take_fin() {
            return NEXT;
        }
        let Some(next) = self.state.next(Input::Fin) else { return NEXT };
        self.state = next;
        self.outcome.notify(Events::READABLE | Events::READ_CLOSED);
        self.notify_if_both_closed();
        // The acknowledgment may ride on our own FIN or answer, if one can follow.
        self.rcv.acknowledge_fin(now, next != State::CloseWait, self.path.srtt());
        if next == State::TimeWait {
            self.enter_time_wait();
        }
        NEXT
    }
}
