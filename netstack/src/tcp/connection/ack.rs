//! What a segment acknowledges: step five of RFC 9293 §3.10.7.4.

use super::{Connection, DONE, NEXT, Step, dropped};
use crate::reasons::{DropReason, EndReason};
use crate::tcp::ecn::Feedback;
use crate::tcp::recovery::{AckInput, Rearm};
use crate::tcp::seq::Seq;
use crate::tcp::state::{Input, State};
use crate::tcp::timers::Timer;
use crate::time::Instant;
use crate::wire::{MAX_SACK_BLOCKS, SackBlock, Segment, Timestamps};
use arrayvec::ArrayVec;

/// How far an acknowledgment goes.
struct Acked {
    /// SND.UNA before it.
    from: Seq,
    to: Seq,
    /// As [`AckInput::duplicate`].
    duplicate: bool,
    /// Whether the congestion window limits what is sent, and whether the connection is paced.
    limits: (bool, bool),
}

impl Connection {
    /// Fifth: ACK.
    pub(super) fn check_ack(&mut self, now: Instant, seg: &Segment, seq: Seq) -> Step {
        if !seg.is_ack() {
            return dropped(DropReason::TcpFlags);
        }
        let ack = self.snd.una().nearest(seg.ack);
        if ack > self.snd.nxt() {
            // Something that was never sent is acknowledged (RFC 5961 §5.2, MUST).
            self.rcv.challenge(now, self.config.challenge_ack_interval);
            return dropped(DropReason::TcpAckUnsentData);
        }
        // The same section's lower limit is MAX.SND.WND below SND.UNA. As in Linux it is not below what was
        // acknowledged so far either: before that nothing was ever sent ("ghost ACKs").
        let reach = self.snd.max_wnd().min(usize::try_from(self.counters.bytes_acked).unwrap_or(usize::MAX));
        if ack + reach < self.snd.una() {
            self.rcv.challenge(now, self.config.challenge_ack_interval);
            return dropped(DropReason::TcpTooOldAck);
        }
        self.liveness.on_received(now);
        if ack >= self.snd.una() {
            self.update_timestamp(now, seg.options.timestamps, seq);
        }
        self.take_ack(now, seg, seq, ack);
        self.follow_fin_ack(now, seg, seq)
    }

    /// RFC 7323 §4.3: TS.Recent follows segments that cover the last acknowledgment sent. It moves
    /// only once the acknowledgment was found acceptable, and as in Linux not old.
    pub(super) fn update_timestamp(&mut self, now: Instant, option: Option<Timestamps>, seq: Seq) {
        if let (Some(ts), Some(option)) = (&mut self.ts, option)
            && seq <= self.rcv.last_ack_sent()
        {
            ts.update(now, option.tsval);
        }
    }

    pub(super) fn take_ack(&mut self, now: Instant, seg: &Segment, seq: Seq, ack: Seq) {
        let una = self.snd.una();
        let advances = ack > una;
        let window_before = self.snd.wnd();
        let window_news = ack >= una && self.snd.update_window(seq, ack, seg.window);
        // RFC 5681 §2: a duplicate acknowledgment has no text, no SYN or FIN, the number of the one
        // before and no news of the window. As in Linux, a window that shrank is no news.
        let duplicate = ack == una && seg.is_empty() && !window_news;
        let state = self.recovery.state();
        let acked = ack.max(una);
        let mut rearm = Rearm::No;
        // A DSACK reports something also when everything is acknowledged.
        if advances || self.recovery.outstanding() > 0 || !seg.options.sack.is_empty() {
            let limits = (self.is_cwnd_limited(), self.is_paced());
            self.follow_marks(now, seg, acked);
            self.note_app_limited();
            rearm = self.recover(now, seg, Acked { from: una, to: acked, duplicate, limits });
        } else {
            self.follow_marks(now, seg, acked);
        }
        if advances {
            self.counters.bytes_acked += ack.since(una) as u64;
            self.snd.on_ack(ack);
            self.outcome.set_soft_error(None);
        }
        self.note_reduction(state);
        self.note_recovering(now, state);
        self.rearm_after_ack(now, rearm);
        self.follow_mtu_probe();
        self.after_answer(window_before);
        self.snd.after_ack(now, self.recovery.outstanding());
    }

    /// The peer answered, which offered a window of `window_before` bytes until then.
    #[inline]
    pub(super) fn after_answer(&mut self, window_before: usize) {
        self.liveness.on_answer();
        if self.snd.wnd() > 0 && window_before == 0 {
            self.liveness.on_window_open();
            self.timers.stop(Timer::Persist);
            self.path.reset_backoff();
        }
    }

    /// Asks loss recovery what an acknowledgment means.
    fn recover(&mut self, now: Instant, seg: &Segment, acked: Acked) -> Rearm {
        let Acked { from, to, duplicate, limits: (cwnd_limited, paced) } = acked;
        let near = |block: &SackBlock| (from.nearest(block.start), from.nearest(block.end));
        let blocks: ArrayVec<(Seq, Seq), MAX_SACK_BLOCKS> = seg.options.sack.iter().map(near).collect();
        let echo = self.ts.zip(seg.options.timestamps);
        let input = AckInput {
            now,
            una: to,
            prior_una: from,
            snd_nxt: self.snd.nxt(),
            blocks: &blocks,
            duplicate,
            echoed_rtt: echo.and_then(|(ts, option)| ts.rtt(now, option.tsecr)),
            echo_sent_at: echo.and_then(|(ts, option)| ts.echo_sent_at(now, option.tsecr)),
            has_new_data: self.snd.unsent() > 0 && self.snd.window_end() > self.snd.nxt(),
            max_wnd: self.snd.max_wnd(),
            cwnd_limited,
            paced,
            mss: self.snd.mss(),
        };
        let (rtt, cc) = self.path.for_recovery();
        self.recovery.on_ack(&input, rtt, cc)
    }

    /// What the peer reports of marks on our packets: congestion, to which we answer once for each
    /// window (RFC 3168 §6.1.2).
    fn follow_marks(&mut self, now: Instant, seg: &Segment, ack: Seq) {
        let Some(ecn) = &mut self.ecn else { return };
        let mss = self.snd.mss();
        // What is SACKed counts once it is acknowledged: few packets, rather than too many marks.
        let sacked = if seg.options.sack.is_empty() { 0 } else { mss };
        let delivered = ack.since(self.snd.una()) + sacked;
        if ecn.on_feedback(seg, Feedback { delivered, mss }) {
            let (_, cc) = self.path.for_recovery();
            self.recovery.on_ecn(now, self.snd.nxt(), cc);
        }
    }

    /// What the acknowledgment of our FIN changes, in the states that wait for it.
    fn follow_fin_ack(&mut self, now: Instant, seg: &Segment, seq: Seq) -> Step {
        if !self.snd.fin_acked() {
            return NEXT;
        }
        let Some(next) = self.state.next(Input::AckOfFin) else { return NEXT };
        self.state = next;
        match next {
            // There is text that nobody will read (RFC 9293 §3.6.1), perhaps on its way before a FIN.
            State::FinWait2
                if self.user.orphan && !seg.is_empty() && seq + seg.payload_len > self.rcv.nxt() =>
            {
                self.abort_on_text(seg)
            }
            State::FinWait2 if self.user.orphan => {
                self.timers.stop(Timer::Orphan);
                self.wait_for_fin(now);
                NEXT
            }
            State::TimeWait => {
                self.enter_time_wait();
                NEXT
            }
            State::Closed => {
                self.enter_closed(EndReason::Finished, None);
                DONE
            }
            _ => NEXT,
        }
    }
}
