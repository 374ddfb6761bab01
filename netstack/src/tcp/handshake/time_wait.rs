//! What is left of a connection after its end: a record that answers the peer's last segments and
//! keeps old ones from a new connection (RFC 9293 §3.6.1).

use crate::config::Config;
use crate::reasons::{DropReason, ResetReason};
use crate::tcp::answer_limit::AnswerLimit;
use crate::tcp::reset::Reset;
use crate::tcp::state::State;
use crate::tcp::timestamps::TimestampState;
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Segment, SeqNum};

/// How much the initial sequence number of a connection that takes the record's place lies above the
/// last one used: beyond any window without scaling (as in Linux).
const REOPEN_GAP: u32 = 65_535 + 2;

/// Timestamps must have ticked this long before an active open may take the record's place.
const REUSE_DELAY: Duration = Duration::from_secs(1);

/// A connection in TIME-WAIT, or in FIN-WAIT-2 without a user.
#[derive(Clone, Debug)]
pub struct TimeWait {
    /// TIME-WAIT or FIN-WAIT-2.
    state: State,
    rcv_nxt: SeqNum,
    snd_nxt: SeqNum,
    /// The window last offered, in bytes, and as it was on the wire.
    rcv_wnd: u32,
    window_field: u16,
    ts: Option<TimestampState>,
    /// Length of TIME-WAIT.
    length: Duration,
    deadline: Instant,
    answers: AnswerLimit,
    answer_interval: Duration,
}

/// What a connection hands over at its end.
#[derive(Debug)]
pub(in crate::tcp) struct TimeWaitSetup {
    /// TIME-WAIT or FIN-WAIT-2.
    pub(in crate::tcp) state: State,
    pub(in crate::tcp) rcv_nxt: SeqNum,
    pub(in crate::tcp) snd_nxt: SeqNum,
    /// The window last offered, in bytes.
    pub(in crate::tcp) rcv_wnd: u32,
    /// The window field of the next segment.
    pub(in crate::tcp) window_field: u16,
    pub(in crate::tcp) ts: Option<TimestampState>,
    /// `TCP_LINGER2`.
    pub(in crate::tcp) linger2: Option<Duration>,
    /// The retransmission time-out.
    pub(in crate::tcp) rto: Duration,
}

/// What a segment did to a [`TimeWait`] record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeWaitStep {
    /// Nothing: it is dropped, for this reason.
    Ignore(DropReason),
    /// It is dropped, for this reason, and this segment must be sent in answer.
    Answer(Segment, DropReason),
    /// This segment must be sent: it acknowledges the peer's FIN.
    Acknowledge(Segment),
    /// Send this reset and remove the record.
    Reset(Reset),
    /// Remove the record.
    Remove,
    /// A SYN opens a new connection: remove the record and give the SYN to the listener, whose
    /// answer should use this initial sequence number.
    Reopen {
        /// Above every number of the old connection.
        iss: SeqNum,
    },
}

impl TimeWait {
    pub(in crate::tcp) fn new(now: Instant, setup: TimeWaitSetup, config: &Config) -> Self {
        let TimeWaitSetup { state, rcv_nxt, snd_nxt, rcv_wnd, window_field, ts, linger2, rto } = setup;
        let length = config.time_wait;
        let stay = match state {
            // tcp_fin_time in Linux: the peer's FIN may have to be sent more than once.
            State::FinWait2 => linger2.unwrap_or(config.fin_timeout).max(rto * 7 / 2),
            _ => length,
        };
        Self {
            state,
            rcv_nxt,
            snd_nxt,
            rcv_wnd,
            window_field,
            ts,
            length,
            deadline: now + stay,
            answers: AnswerLimit::default(),
            answer_interval: config.challenge_ack_interval,
        }
    }

    /// TIME-WAIT or FIN-WAIT-2.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the record is to be removed.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The initial sequence number with which an active open to the same place may take the record
    /// over (`tcp_tw_reuse`): only timestamps that have moved on prove that nothing old can be
    /// mistaken (RFC 6191 §4).
    pub fn reuse(&self, now: Instant) -> Option<SeqNum> {
        let (_, recent_at) = self.ts?.recent();
        let proved = self.state == State::TimeWait && now - recent_at > REUSE_DELAY;
        proved.then(|| self.snd_nxt + REOPEN_GAP)
    }

    /// The same for a user who has bound the port himself. Timestamps distinguish old segments from new ones
    /// without any wait, and neither `tcp_tw_reuse` nor its second counts (as in Linux).
    pub fn reuse_by_choice(&self) -> Option<SeqNum> {
        self.ts.map(|_| self.snd_nxt + REOPEN_GAP)
    }

    /// A segment came for the old connection.
    pub fn on_segment(&mut self, now: Instant, seg: &Segment) -> TimeWaitStep {
        let tsval = seg.options.timestamps.map(|ts| ts.tsval);
        let old = self.ts.zip(tsval).is_some_and(|(ts, tsval)| ts.is_old(now, tsval));
        if self.state == State::FinWait2 {
            self.in_fin_wait2(now, seg, old)
        } else {
            self.in_time_wait(now, seg, old)
        }
    }

    /// FIN-WAIT-2 without a user: the peer's FIN is expected, and data would never be read.
    fn in_fin_wait2(&mut self, now: Instant, seg: &Segment, old: bool) -> TimeWaitStep {
        if old {
            return self.answer(now, seg, DropReason::TcpRfc7323Paws);
        }
        if !self.in_window(seg) {
            return self.answer(now, seg, DropReason::TcpInvalidSequence);
        }
        if seg.is_rst() {
            return TimeWaitStep::Remove;
        }
        let reset = || {
            let reset = Reset::answer(seg, ResetReason::TcpTimewaitSocket);
            reset.map_or(TimeWaitStep::Remove, TimeWaitStep::Reset)
        };
        if seg.is_syn() && !seg.seq.before(self.rcv_nxt) {
            return reset();
        }
        let end = seg.seq + seg.len() as u32;
        if !seg.is_ack() || !end.after(self.rcv_nxt) || seg.is_empty() {
            return TimeWaitStep::Ignore(DropReason::TcpTimewait);
        }
        if !seg.is_fin() || end != self.rcv_nxt + 1 {
            return reset();
        }
        self.state = State::TimeWait;
        self.rcv_nxt = end;
        self.update_timestamp(now, seg);
        self.deadline = now + self.length;
        TimeWaitStep::Acknowledge(self.ack(now))
    }

    fn in_time_wait(&mut self, now: Instant, seg: &Segment, old: bool) -> TimeWaitStep {
        let exact = seg.seq == self.rcv_nxt;
        if !old && exact && (seg.is_empty() || seg.is_rst()) {
            if seg.is_rst() {
                // tcp_rfc1337 = 0, as in Linux: the peer's reset at the very number counts.
                return TimeWaitStep::Remove;
            }
            self.update_timestamp(now, seg);
            self.deadline = now + self.length;
            return TimeWaitStep::Ignore(DropReason::TcpTimewait);
        }
        if self.may_reopen(seg, old) {
            return TimeWaitStep::Reopen { iss: self.snd_nxt + REOPEN_GAP };
        }
        if seg.is_rst() {
            return TimeWaitStep::Ignore(DropReason::TcpReset);
        }
        // RFC 9293 §3.10.7.4: a retransmitted FIN is acknowledged and begins the 2 MSL anew. A segment without
        // ACK is acknowledged too, but does not lengthen anything: it may be the SYN of a new connection
        // with a lower number, whose sender resets the old one once it sees our acknowledgment.
        if old || seg.is_ack() {
            self.deadline = now + self.length;
        }
        self.answer(now, seg, if old { DropReason::TcpRfc7323Paws } else { DropReason::TcpTimewait })
    }

    /// Whether a SYN may open a new connection (RFC 6191 §2, RFC 9293 MAY-2): it must be newer than
    /// everything of the old one, by sequence number or by timestamp.
    fn may_reopen(&self, seg: &Segment, old: bool) -> bool {
        let plain_syn = seg.is_syn() && !seg.is_rst() && !seg.is_ack();
        let newer_time = self
            .ts
            .zip(seg.options.timestamps)
            .is_some_and(|(ts, option)| (option.tsval.wrapping_sub(ts.recent().0) as i32) > 0);
        plain_syn && !old && (seg.seq.after(self.rcv_nxt) || newer_time)
    }

    fn in_window(&self, seg: &Segment) -> bool {
        let end = seg.seq + seg.len() as u32;
        let window_end = self.rcv_nxt + self.rcv_wnd;
        seg.seq == self.rcv_nxt
            || (end.after(self.rcv_nxt) && seg.seq.before(window_end))
            || (seg.seq == window_end && seg.is_empty())
    }

    fn update_timestamp(&mut self, now: Instant, seg: &Segment) {
        if let (Some(ts), Some(option)) = (&mut self.ts, seg.options.timestamps) {
            ts.update(now, option.tsval);
        }
    }

    /// An acknowledgment for a segment that is out of place. Data and a FIN always get one, as they are
    /// not the answer to an answer; others within the limit (`tcp_oow_rate_limited` in Linux).
    fn answer(&mut self, now: Instant, seg: &Segment, reason: DropReason) -> TimeWaitStep {
        let unlimited = !seg.is_empty() && !seg.is_syn();
        if !unlimited && !self.answers.take(now, self.answer_interval) {
            return TimeWaitStep::Ignore(reason);
        }
        TimeWaitStep::Answer(self.ack(now), reason)
    }

    fn ack(&self, now: Instant) -> Segment {
        let mut ack = Segment::new(Flags::ACK, self.snd_nxt, self.rcv_nxt);
        ack.window = self.window_field;
        ack.options.timestamps = self.ts.map(|ts| ts.option(now));
        ack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        assert!(size_of::<TimeWait>() <= 128, "{}", size_of::<TimeWait>());
    }
}
