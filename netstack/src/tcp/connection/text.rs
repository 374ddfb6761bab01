//! What a segment carries: steps seven and eight of RFC 9293 §3.10.7.4.

use super::{Connection, DONE, NEXT, Step};
use crate::buffer::Chunk;
use crate::readiness::Events;
use crate::tcp::error::TcpError;
use crate::tcp::receive::{Echo, Received, TextMeta};
use crate::tcp::reset::reset_for_unknown;
use crate::tcp::seq::Seq;
use crate::tcp::state::{Input, State};
use crate::time::Instant;
use crate::wire::{Flags, Segment};

impl Connection {
    /// Seventh: the segment's text.
    pub(super) fn take_text(&mut self, now: Instant, seg: &Segment, seq: Seq, payload: Chunk) -> Step {
        if payload.is_empty() {
            return NEXT;
        }
        if !self.state.can_receive() {
            // After the peer's FIN there is no text.
            return NEXT;
        }
        let before = self.rcv.nxt();
        let closing = matches!(self.state, State::FinWait1 | State::FinWait2);
        if closing && self.user.read_shut && seq + payload.len() > before {
            // Nobody will ever read it (RFC 9293 §3.6.1; Linux's TCPAbortOnData).
            self.outcome.set_reset(reset_for_unknown(seg));
            self.enter_closed(Some(TcpError::Reset));
            return DONE;
        }
        self.counters.data_segs_in += 1;
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
        if self.rcv.on_text(now, seq, payload, &meta) == Received::InOrder {
            self.counters.bytes_received += self.rcv.nxt().since(before) as u64;
            self.outcome.notify(Events::READABLE);
        }
        NEXT
    }

    /// Eighth: FIN, once everything before it has arrived.
    pub(super) fn check_fin(&mut self, now: Instant, seg: &Segment, seq: Seq) -> Step {
        if seg.is_fin() {
            self.rcv.on_fin(seq + seg.payload_len, self.state.can_receive());
        }
        if !self.state.can_receive() || !self.rcv.take_fin() {
            return NEXT;
        }
        let Some(next) = self.state.next(Input::Fin) else { return NEXT };
        self.state = next;
        self.outcome.notify(Events::READABLE | Events::READ_CLOSED);
        // The acknowledgment may ride on our own FIN or answer, if one can follow.
        self.rcv.acknowledge_fin(now, next != State::CloseWait, self.path.srtt());
        if next == State::TimeWait {
            self.enter_time_wait();
        }
        NEXT
    }
}
