//! A segment arrives: RFC 9293 §3.10.7.4, step by step, one function a step.

use crate::buffer::Chunk;
use crate::readiness::Events;
use crate::tcp::connection::{Connection, Room, Writing};
use crate::tcp::ecn::{AckNeed, Feedback};
use crate::tcp::error::TcpError;
use crate::tcp::receive::Received;
use crate::tcp::recovery::{AckInput, Phase, Rearm};
use crate::tcp::send::Holds;
use crate::tcp::seq::Seq;
use crate::tcp::state::{Input, State};
use crate::tcp::timers::Timer;
use crate::time::Instant;
use crate::wire::{Flags, MAX_SACK_BLOCKS, Segment, SeqNum};
use arrayvec::ArrayVec;
use std::ops::ControlFlow;

/// Whether to go on with the next step.
pub(in crate::tcp) type Step = ControlFlow<()>;

pub(in crate::tcp) const NEXT: Step = ControlFlow::Continue(());
pub(in crate::tcp) const DONE: Step = ControlFlow::Break(());

impl Connection {
    /// Processes a segment whose addresses, ports and checksum are this connection's.
    pub fn on_segment(&mut self, now: Instant, seg: &Segment, payload: Chunk) {
        if self.state == State::Closed {
            self.reset = seg.reset_for_unknown();
            return;
        }
        debug_assert_eq!(seg.payload_len, payload.len());
        self.counters.segs_in += 1;
        let _ = self.process(now, seg, payload);
        self.after_segment(now);
    }

    /// The steps. Their order and their numbers are RFC 9293's.
    fn process(&mut self, now: Instant, seg: &Segment, payload: Chunk) -> Step {
        let seq = self.rcv.rcv_nxt.nearest(seg.seq);
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
        self.take_text(now, seg, seq, payload)?; //    seventh
        self.check_fin(now, seg, seq) //               eighth
    }

    /// RFC 7323 §5.3 R1: a segment whose timestamp is older than the latest is an old duplicate. A
    /// reset is exempt (§5.2).
    fn check_paws(&mut self, now: Instant, seg: &Segment, seq: Seq) -> Step {
        let (Some(ts), Some(option)) = (self.ts, seg.options.timestamps) else {
            // A segment without the option is let through, as Linux does; RFC 7323 §3.2 would drop
            // it, but there are middleboxes that strip options.
            return NEXT;
        };
        if seg.is_rst() || !ts.is_old(now, option.tsval) {
            return NEXT;
        }
        self.counters.paws_drops += u64::from(self.rcv.lacks(seq, seq + seg.payload_len));
        self.challenge(now, seg);
        DONE
    }

    /// First: whether the segment touches the window.
    fn check_sequence(&mut self, now: Instant, seg: &Segment, seq: Seq) -> Step {
        if self.rcv.acceptable(seq, seg.len()) {
            return NEXT;
        }
        if seg.is_rst() {
            if self.resets(seq) {
                self.on_reset();
            }
            return DONE;
        }
        if seg.is_syn() {
            // RFC 5961 §4.2: wherever it is.
            self.challenge(now, seg);
            return DONE;
        }
        // A retransmission shows that our acknowledgment was lost; a keep-alive or window probe
        // asks for one. Text that was all received before is a duplicate to report.
        if seg.payload_len > 0 && seq + seg.payload_len <= self.rcv.rcv_nxt {
            self.rcv.report_duplicate(seq, seq + seg.payload_len);
            self.rcv.ack.now_urgently();
            return DONE;
        }
        self.answer_out_of_window(now, seg);
        DONE
    }

    /// An acknowledgment for a segment outside of the window; those without data are limited, so
    /// that two ends that disagree do not answer each other for ever (Linux's
    /// `tcp_invalid_ratelimit`).
    fn answer_out_of_window(&mut self, now: Instant, seg: &Segment) {
        if seg.payload_len > 0 || seg.is_fin() {
            self.rcv.ack.now_urgently();
        } else {
            self.challenge(now, seg);
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
        } else {
            // A reset out of order before any data came: something on the way may have answered for
            // the peer (Linux pauses Fast Open then).
            self.fast_open.suspicion |= self.state == State::Established && self.heard_nothing();
            self.challenge(now, seg);
        }
        DONE
    }

    /// Whether a reset at `seq` counts: at RCV.NXT, and where Linux accepts it too: one before
    /// RCV.NXT once the peer's FIN was taken (its sender may not know that we have it), and at the
    /// right edge of what was SACKed.
    fn resets(&self, seq: Seq) -> bool {
        let fin_taken = matches!(self.state, State::CloseWait | State::LastAck | State::Closing);
        seq == self.rcv.rcv_nxt
            || (fin_taken && seq + 1 == self.rcv.rcv_nxt)
            || self.rcv.sack_edge() == Some(seq)
    }

    fn on_reset(&mut self) {
        let error = match self.state {
            // The peer closed and then reset: what it sent was read or can be; writing fails.
            State::CloseWait => TcpError::BrokenPipe,
            _ => TcpError::Reset,
        };
        self.error_was_reset = true;
        self.enter_closed(Some(error));
    }

    /// Fourth: SYN. In a synchronised state it may be an old duplicate or a peer that has rebooted;
    /// a challenge ACK tells the two apart (RFC 5961 §4.2).
    fn check_syn(&mut self, now: Instant, seg: &Segment) -> Step {
        if !seg.is_syn() {
            return NEXT;
        }
        self.challenge(now, seg);
        DONE
    }

    /// Takes the segment's ECN field into account, for what acknowledgments will say of it.
    fn note_ecn(&mut self, seg: &Segment) {
        let Some(ecn) = &mut self.ecn else { return };
        match ecn.on_received(seg) {
            AckNeed::None => {}
            AckNeed::Quick => self.rcv.ack.enter_quick_for(2),
            AckNeed::Now => self.rcv.ack.now(),
            AckNeed::Alone => self.rcv.ack.now_urgently(),
        }
    }

    /// What the peer reports of marks on our packets: congestion, to which we answer once for each
    /// window (RFC 3168 §6.1.2).
    fn follow_marks(&mut self, now: Instant, seg: &Segment, ack: Seq) {
        let Some(ecn) = &mut self.ecn else { return };
        let mss = self.snd.mss;
        // What is SACKed counts once it is acknowledged: few packets, rather than too many marks.
        let sacked = if seg.options.sack.is_empty() { 0 } else { mss };
        let delivered = ack.since(self.snd.snd_una) + sacked;
        if ecn.on_feedback(seg, Feedback { delivered, mss }) {
            self.recovery.on_ecn(now, self.snd.snd_nxt, self.cc.as_mut());
        }
    }

    /// If recovery has come from `before` to a phase that begins with a reduction of the window, the
    /// peer will hear of it (RFC 3168 §6.1.2).
    pub(in crate::tcp) fn note_reduction(&mut self, before: Phase) {
        let now = self.recovery.phase();
        let reduced = matches!(now, Phase::Cwr | Phase::Recovery | Phase::Loss) && now != before;
        if let Some(ecn) = &mut self.ecn
            && reduced
        {
            ecn.on_reduced();
        }
    }

    /// Fifth: ACK.
    fn check_ack(&mut self, now: Instant, seg: &Segment, seq: Seq) -> Step {
        if !seg.is_ack() {
            return DONE;
        }
        let ack = self.snd.snd_una.nearest(seg.ack);
        if ack > self.snd.snd_nxt {
            // Something that was never sent is acknowledged. RFC 5961 §5.2 asks for a challenge ACK;
            // Linux drops it in silence while the connection is established.
            if self.state != State::Established {
                self.challenge(now, seg);
            }
            return DONE;
        }
        if ack + self.snd.max_wnd < self.snd.snd_una {
            self.challenge(now, seg);
            return DONE;
        }
        // Life is what is acceptable: neither an old duplicate nor a forgery keeps a dead peer alive
        // (`rcv_tstamp` in Linux).
        self.last_received = now;
        self.update_timestamp(now, seg, seq);
        self.process_ack(now, seg, seq, ack);
        self.follow_fin_ack(now)
    }

    /// RFC 7323 §4.3: TS.Recent follows segments that cover the last acknowledgment sent. It moves
    /// only once the acknowledgment was found acceptable.
    fn update_timestamp(&mut self, now: Instant, seg: &Segment, seq: Seq) {
        if let (Some(ts), Some(option)) = (&mut self.ts, seg.options.timestamps)
            && seq <= self.rcv.last_ack_sent()
        {
            ts.update(now, option.tsval);
        }
    }

    fn process_ack(&mut self, now: Instant, seg: &Segment, seq: Seq, ack: Seq) {
        let una = self.snd.snd_una;
        let advances = ack > una;
        let window_before = self.snd.snd_wnd;
        let window_news = ack >= una && self.snd.update_window(seq, ack, seg.window);
        // RFC 5681 §2: a duplicate acknowledgment has no text, no SYN or FIN, the number of the one
        // before and no news of the window. As in Linux, a window that shrank is no news.
        let duplicate = ack == una && seg.is_empty() && !window_news;
        let blocks: ArrayVec<(Seq, Seq), MAX_SACK_BLOCKS> =
            seg.options.sack.iter().map(|block| (una.nearest(block.start), una.nearest(block.end))).collect();
        let echo = self.ts.zip(seg.options.timestamps);
        let input = AckInput {
            now,
            una: ack.max(una),
            prior_una: una,
            snd_nxt: self.snd.snd_nxt,
            blocks: &blocks,
            duplicate,
            echoed_rtt: echo.and_then(|(ts, option)| ts.rtt(now, option.tsecr)),
            echo_sent_at: echo.and_then(|(ts, option)| ts.echo_sent_at(now, option.tsecr)),
            has_new_data: self.snd.unsent() > 0 && self.snd.window_end() > self.snd.snd_nxt,
            max_wnd: self.snd.max_wnd,
            cwnd_limited: self.is_cwnd_limited(),
            paced: self.enforced_rate().is_some(),
            mss: self.snd.mss,
        };
        let phase = self.recovery.phase();
        self.follow_marks(now, seg, input.una);
        let mut rearm = Rearm::No;
        // A DSACK tells something also when everything is acknowledged.
        if advances || self.recovery.board.outstanding() > 0 || !blocks.is_empty() {
            self.note_app_limited();
            rearm = self.recovery.on_ack(&input, &mut self.rtt, self.cc.as_mut());
        }
        if advances {
            self.counters.bytes_acked += ack.since(una) as u64;
            self.snd.on_ack(ack);
            self.soft_error = None;
        }
        self.note_reduction(phase);
        self.rearm_after_ack(now, rearm);
        self.follow_mtu_probe();
        // Any acknowledgment shows that the peer lives and that a closed window is meant.
        self.keepalive_count = 0;
        self.persist_count = 0;
        if self.snd.snd_wnd > 0 && window_before == 0 {
            self.persist_since = None;
            self.timers.stop(Timer::Persist);
            self.rtt.reset_backoff();
        }
        if self.recovery.board.outstanding() == 0 && !self.snd.has_unsent() {
            self.chrono.stop(now, Holds::Network, true);
        }
        self.writing = Writing::No;
        self.room = Room::Acked;
    }

    /// A user waits for room: the buffer may be too small for the congestion window, unless the window
    /// was filled all the same (`tcp_should_expand_sndbuf`).
    pub(in crate::tcp) fn grow_send_buffer(&mut self) {
        let cwnd = self.cc.cwnd();
        if self.snd.wants_room && self.recovery.pipe(self.snd.mss) + self.snd.mss <= cwnd {
            self.snd.tune(cwnd);
        }
    }

    /// Tells the user who was refused room that there is some now (`tcp_check_space`).
    pub(in crate::tcp) fn notice_room(&mut self) {
        if self.snd.wants_room && self.snd.is_writable(self.notsent_lowat()) {
            self.snd.wants_room = false;
            self.events |= Events::WRITABLE;
            let now = self.last_received.max(self.snd.last_sent);
            let idle = self.recovery.board.outstanding() == 0 && !self.snd.has_unsent();
            self.chrono.stop(now, Holds::SendBuffer, idle);
        }
    }

    /// What the acknowledgment of our FIN changes, in the states that wait for it.
    fn follow_fin_ack(&mut self, now: Instant) -> Step {
        if !self.snd.fin_acked() {
            return NEXT;
        }
        let Some(next) = self.state.next(Input::AckOfFin) else { return NEXT };
        self.state = next;
        match next {
            State::FinWait2 if self.orphan => {
                self.timers.stop(Timer::Orphan);
                self.wait_for_fin(now);
                NEXT
            }
            State::TimeWait => {
                self.enter_time_wait();
                NEXT
            }
            State::Closed => {
                self.enter_closed(None);
                DONE
            }
            _ => NEXT,
        }
    }

    /// Seventh: the segment's text.
    pub(in crate::tcp) fn take_text(
        &mut self,
        now: Instant,
        seg: &Segment,
        seq: Seq,
        payload: Chunk,
    ) -> Step {
        if payload.is_empty() {
            return NEXT;
        }
        if !self.state.can_receive() {
            // After the peer's FIN there is no text.
            return NEXT;
        }
        let end = seq + payload.len();
        let closing = matches!(self.state, State::FinWait1 | State::FinWait2);
        if closing && self.read_shut && end > self.rcv.rcv_nxt {
            // Nobody will ever read it (RFC 9293 §3.6.1; Linux's TCPAbortOnData).
            self.reset = seg.reset_for_unknown();
            self.enter_closed(Some(TcpError::Reset));
            return DONE;
        }
        self.counters.data_segs_in += 1;
        self.rcv.learn_mss(payload.len(), seg.gso_size, seg.flags.contains(Flags::PSH));
        if let (Some(ts), Some(option)) = (self.ts, seg.options.timestamps)
            && let Some(rtt) = ts.rtt(now, option.tsecr)
        {
            self.rcv.on_echo(payload.len(), option.tsecr, rtt);
        }
        let before = self.rcv.rcv_nxt;
        let had_hole = self.rcv.has_hole();
        let received = self.rcv.on_data(now, seq, payload);
        let window = self.rcv.rcv_wnd();
        let mss = self.rcv.rcv_mss();
        match received {
            Received::Old => self.rcv.ack.now_urgently(),
            Received::OutOfOrder => {
                // RFC 5681 §4.2: at once, and each on its own.
                self.rcv.ack.on_data(now, self.rtt.rto(), window, mss);
                self.rcv.ack.now_urgently();
            }
            Received::InOrder => {
                self.counters.bytes_received += self.rcv.rcv_nxt.since(before) as u64;
                self.events |= Events::READABLE;
                self.rcv.ack.on_data(now, self.rtt.rto(), window, mss);
                if had_hole {
                    self.rcv.ack.now();
                } else {
                    let full = self.rcv.full_segments_unacked();
                    self.rcv.ack.schedule(now, full, self.rtt.srtt());
                }
            }
        }
        NEXT
    }

    /// Eighth: FIN, once everything before it has arrived.
    pub(in crate::tcp) fn check_fin(&mut self, now: Instant, seg: &Segment, seq: Seq) -> Step {
        if seg.is_fin() {
            let fin = seq + seg.payload_len;
            if fin < self.rcv.rcv_nxt {
                // A retransmitted FIN: our acknowledgment was lost.
                self.rcv.ack.now_urgently();
            } else if self.state.can_receive() {
                self.rcv.on_fin(fin);
                if fin > self.rcv.rcv_nxt {
                    self.rcv.ack.now_urgently();
                }
            }
        }
        if !self.state.can_receive() || !self.rcv.take_fin() {
            return NEXT;
        }
        let Some(next) = self.state.next(Input::Fin) else { return NEXT };
        self.state = next;
        self.events |= Events::READABLE | Events::READ_CLOSED;
        // As in Linux: the acknowledgment may ride on our own FIN or answer, unless segments were
        // to be acknowledged at once anyway.
        let quick = self.rcv.ack.due() == crate::tcp::receive::Due::Now;
        self.rcv.ack.enter_pingpong();
        if quick || next != State::CloseWait {
            self.rcv.ack.now();
        } else {
            self.rcv.ack.schedule(now, false, self.rtt.srtt());
        }
        if next == State::TimeWait {
            self.enter_time_wait();
        }
        NEXT
    }

    fn enter_time_wait(&mut self) {
        self.leave_record();
        self.events |= Events::READABLE | Events::WRITABLE | Events::READ_CLOSED;
    }

    /// Sends a challenge ACK, at most one in each interval (RFC 5961 §7; Linux's limit per socket,
    /// which unlike a global one tells an attacker nothing).
    fn challenge(&mut self, now: Instant, seg: &Segment) {
        if self.is_opening() && seg.is_syn() && !seg.is_ack() {
            self.answer_syn(now, seg);
            return;
        }
        if seg.payload_len > 0 && !seg.is_syn() && !seg.is_rst() {
            // An answer to data is an ordinary acknowledgment.
            self.rcv.ack.now_urgently();
            return;
        }
        let due = self.last_challenge.is_none_or(|last| now - last >= self.config.challenge_ack_interval);
        if due {
            self.last_challenge = Some(now);
            self.rcv.ack.now_urgently();
        }
    }

    /// Whether an ICMP error that quotes `seq` may be genuine: something that carried it is on its way.
    pub fn expects_icmp(&self, seq: SeqNum) -> bool {
        self.is_in_flight(seq) || self.is_of_opening(seq)
    }

    /// An ICMP error quoted a segment of this connection with the sequence number `seq`.
    ///
    /// An error about something that is not in flight is forged or stale (RFC 5927 §4.1). In a
    /// synchronised state no error ends the connection (§5.2): it is remembered, and reported if the
    /// connection times out.
    pub fn on_icmp_error(&mut self, seq: SeqNum, error: TcpError) {
        if self.ends_by_icmp(seq) {
            self.enter_closed(Some(error));
            return;
        }
        if self.is_in_flight(seq) {
            self.soft_error = Some(error);
        }
    }

    /// Whether an acknowledgment is owed that the next segment's must not swallow: send it before
    /// the next segment is processed.
    pub fn ack_urgent(&self) -> bool {
        self.rcv.ack.urgent() || self.reset.is_some()
    }

    fn after_segment(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        if self.options.keepalive && self.last_received == now {
            self.arm_keepalive(now);
        }
    }
}
