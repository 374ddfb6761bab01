//! A segment arrives: RFC 9293 §3.10.7.4, step by step, one function a step.

use super::{Connection, DONE, NEXT, Step, dropped};
use crate::buffer::Chunk;
use crate::reasons::{DropReason, EndReason, ResetReason};
use crate::tcp::error::TcpError;
use crate::tcp::reset::Reset;
use crate::tcp::seq::Seq;
use crate::tcp::state::State;
use crate::time::{Duration, Instant};
use crate::wire::{PlainSegment, Segment};

impl Connection {
    /// Processes a segment whose addresses, ports and checksum are this connection's. Says why it, or
    /// its text, was dropped, if it was.
    pub fn on_segment(&mut self, now: Instant, seg: &Segment, mut payload: Chunk) -> Option<DropReason> {
        debug_assert_eq!(seg.payload_len, payload.len());
        match PlainSegment::of(seg) {
            Some(plain) if self.is_expected(now, &plain) => {
                self.on_expected(now, &plain, &mut payload);
                None
            }
            _ => self.on_unexpected(now, seg, payload),
        }
    }

    /// The same for a segment that [is expected](Self::is_expected). What is left of its payload is the buffer, if the
    /// text was copied.
    pub fn on_expected(&mut self, now: Instant, seg: &PlainSegment, payload: &mut Chunk) {
        self.counters.segs_in += seg.on_wire() as u64;
        self.take_expected(now, seg, payload);
        self.after_segment(now);
    }

    /// The same, step by step.
    pub(in crate::tcp) fn on_unexpected(
        &mut self,
        now: Instant,
        seg: &Segment,
        payload: Chunk,
    ) -> Option<DropReason> {
        if self.state == State::Closed {
            self.outcome.set_reset(Reset::answer(seg, ResetReason::TcpClose));
            return Some(DropReason::TcpClose);
        }
        self.counters.segs_in += seg.on_wire() as u64;
        let step = self.take_steps(now, seg, payload);
        self.after_segment(now);
        step.break_value().flatten()
    }

    /// Whether an acknowledgment is owed that the next segment's must not swallow: send it before
    /// the next segment is processed.
    pub fn ack_urgent(&self) -> bool {
        self.rcv.ack_is_urgent() || self.outcome.reset().is_some()
    }

    /// The steps. Their order and their numbers are RFC 9293's.
    fn take_steps(&mut self, now: Instant, seg: &Segment, payload: Chunk) -> Step {
        let seq = self.rcv.nxt().nearest(seg.seq);
        Self::check_flags(seg)?;
        self.check_paws(now, seg, seq)?;
        self.check_sequence(now, seg, seq)?; //        first
        self.check_reset(now, seg, seq)?; //           second
        //                                             third: security compartments are not used
        self.check_syn(now, seg)?; //                  fourth
        self.note_ecn(seg);
        self.check_third_segment(now, seg)?; //        fifth, in SYN-RECEIVED
        self.check_ack(now, seg, seq)?; //             fifth
        //                                             sixth: URG. The urgent byte stays in the stream,
        //                                             as RFC 6093 §6 recommends
        let useless = self.take_text(now, seg, seq, payload)?; // seventh
        self.check_fin(now, seg, seq)?; //             eighth
        useless.map_or(NEXT, dropped)
    }

    /// What has neither ACK nor SYN nor RST is of no use wherever it is. As in Linux nothing is said to it, where
    /// RFC 9293 §3.10.7.4 would acknowledge it first if it lies outside of the window.
    fn check_flags(seg: &Segment) -> Step {
        if seg.is_ack() || seg.is_syn() || seg.is_rst() { NEXT } else { dropped(DropReason::TcpFlags) }
    }

    /// RFC 7323 §5.3 R1: a segment whose timestamp is older than the latest is an old duplicate. A
    /// reset is exempt (§5.2).
    fn check_paws(&mut self, now: Instant, seg: &Segment, seq: Seq) -> Step {
        let (Some(ts), Some(option)) = (self.ts, seg.options.timestamps) else {
            // A segment without the option is let through, as Linux does; RFC 7323 §3.2 would drop
            // it, but there are middleboxes that strip options.
            return NEXT;
        };
        if seg.is_rst()
            || !ts.is_late(now, option.tsval)
            || self.was_overtaken(seg, seq, ts.lag(option.tsval))
        {
            return NEXT;
        }
        self.counters.paws_drops += u64::from(self.rcv.lacks(seq, seq + seg.payload_len));
        // Acknowledgments overtake each other, and an answer to those would be a duplicate acknowledgment.
        let overtaken = seg.is_ack() && seg.is_empty() && seq < self.rcv.nxt();
        if seg.is_syn() {
            self.challenge(now, seg);
        } else if !overtaken {
            self.answer_unacceptable(now, seg, seq);
        }
        dropped(DropReason::TcpRfc7323Paws)
    }

    /// Whether a segment whose timestamp is `lag` older than the latest is an acknowledgment that others have
    /// overtaken, and no old duplicate: it is at RCV.NXT, says nothing new, and is not late by more than a
    /// retransmission time-out and a fifth (tcp_disordered_ack in Linux).
    fn was_overtaken(&self, seg: &Segment, seq: Seq, lag: Duration) -> bool {
        let (una, ack) = (self.snd.una(), self.snd.una().nearest(seg.ack));
        seg.is_ack()
            && seg.is_empty()
            && (seq, ack) == (self.rcv.nxt(), una)
            && !self.snd.has_window_news(seq, ack, seg.window)
            && lag <= self.path.rto() * 6 / 5
    }

    /// First: whether the segment touches the window.
    fn check_sequence(&mut self, now: Instant, seg: &Segment, seq: Seq) -> Step {
        if self.rcv.acceptable(seq, seg.len()) {
            return NEXT;
        }
        if seg.is_rst() {
            if !self.resets(seq) {
                return dropped(DropReason::TcpReset);
            }
            self.on_reset();
            return DONE;
        }
        if seg.is_syn() {
            // RFC 5961 §4.2: wherever it is.
            self.challenge(now, seg);
            return dropped(DropReason::TcpInvalidSyn);
        }
        self.answer_unacceptable(now, seg, seq);
        dropped(if seg.payload_len > 0 && seq + seg.payload_len <= self.rcv.nxt() {
            DropReason::TcpOldData
        } else if seq < self.rcv.nxt() {
            DropReason::TcpOldSequence
        } else if seg.payload_len > 0 {
            DropReason::TcpOverwindow
        } else {
            DropReason::TcpInvalidSequence
        })
    }

    /// The acknowledgment for a segment that is not acceptable. A retransmission shows that ours was lost: what
    /// it repeats is a duplicate to report. A keep-alive or window probe asks for one. Answers to those without
    /// text and FIN are limited, so that two ends that disagree do not answer each other for ever (Linux's
    /// `tcp_invalid_ratelimit`).
    fn answer_unacceptable(&mut self, now: Instant, seg: &Segment, seq: Seq) {
        if seg.is_empty() {
            self.challenge(now, seg);
        } else if seq < self.rcv.nxt() {
            self.rcv.on_old_text(seq, seg.len().min(self.rcv.nxt().since(seq)));
        } else {
            self.rcv.acknowledge_alone();
        }
    }

    /// Second: RST. Only one at exactly RCV.NXT resets; another in the window is challenged, so that
    /// guessing the window is not enough (RFC 5961 §3.2).
    fn check_reset(&mut self, now: Instant, seg: &Segment, seq: Seq) -> Step {
        if !seg.is_rst() {
            return NEXT;
        }
        if self.resets(seq) {
            self.on_reset();
            return DONE;
        }
        // A reset out of order before any data came: something on the way may have answered for the
        // peer (Linux pauses Fast Open then).
        if self.state == State::Established && self.heard_nothing() {
            self.fast_open.suspect();
        }
        self.challenge(now, seg);
        dropped(DropReason::TcpReset)
    }

    /// Whether a reset at `seq` counts: at RCV.NXT, and where Linux accepts it too: one before
    /// RCV.NXT once the peer's FIN was taken (its sender may not know that we have it), and at the
    /// right edge of what was SACKed.
    fn resets(&self, seq: Seq) -> bool {
        let fin_taken = matches!(self.state, State::CloseWait | State::LastAck | State::Closing);
        seq == self.rcv.nxt() || (fin_taken && seq + 1 == self.rcv.nxt()) || self.rcv.sack_edge() == Some(seq)
    }

    fn on_reset(&mut self) {
        let error = match self.state {
            // The peer closed and then reset: what it sent was read or can be; writing fails.
            State::CloseWait => TcpError::BrokenPipe,
            _ => TcpError::Reset,
        };
        self.enter_closed(EndReason::ResetByPeer, Some(error));
    }

    /// Fourth: SYN. In a synchronised state it may be an old duplicate or a peer that has rebooted;
    /// a challenge ACK distinguishes the two (RFC 5961 §4.2).
    fn check_syn(&mut self, now: Instant, seg: &Segment) -> Step {
        if !seg.is_syn() {
            return NEXT;
        }
        self.challenge(now, seg);
        dropped(DropReason::TcpInvalidSyn)
    }

    /// Takes the segment's ECN field into account, for what acknowledgments will say of it.
    fn note_ecn(&mut self, seg: &Segment) {
        if let Some(ecn) = &mut self.ecn {
            self.rcv.on_marks(ecn.on_received(seg));
        }
    }

    fn after_segment(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        if self.options.keepalive && self.liveness.last_received() == now {
            self.arm_keepalive(now);
        }
    }
}
