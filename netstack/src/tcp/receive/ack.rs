//! When to acknowledge: at once, or a little later in the hope of company (RFC 9293 §3.8.6.3).
//!
//! The rules are Linux's. A connection starts in *quick* mode, in which a few segments are
//! acknowledged at once so that the peer's slow start is not held up. It becomes *interactive*
//! ("pingpong") when the user answers what came: then the answer carries the acknowledgment. The
//! delay follows the gaps between segments, between 40 and 200 ms.

use crate::config::Config;
use crate::tcp::answer_limit::AnswerLimit;
use crate::tcp::compact::{Compact, Reader, Writer, compact};
use crate::time::{Duration, Instant, nanos};

/// Segments acknowledged at once in quick mode, at most.
const MAX_QUICK_ACKS: u32 = 16;

/// The longest delay (RFC 9293 §3.8.6.3, MUST-59: less than half a second), in nanoseconds.
const MOST_DELAY: u64 = 500_000_000;

/// Whether an acknowledgment is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Due {
    /// None is.
    No,
    /// One is, not later than this.
    At(Instant),
    /// One is, with the next opportunity to send.
    Now,
}

/// How many segments came that the peer is not likely to follow up soon: small ones, or full ones
/// with PSH (`ICSK_ACK_PUSHED` and `ICSK_ACK_PUSHED2` in Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushed {
    No,
    Once,
    Again,
}

impl Compact for Due {
    fn write(&self, to: &mut Writer) {
        let at = match self {
            Self::No => None,
            Self::Now => Some(None),
            Self::At(at) => Some(Some(*at)),
        };
        at.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        match Compact::read(from) {
            None => Self::No,
            Some(None) => Self::Now,
            Some(Some(at)) => Self::At(at),
        }
    }
}

compact!(
    enum Pushed {
        No,
        Once,
        Again,
    }
);

/// The policy's state.
#[derive(Debug)]
pub(super) struct AckPolicy {
    due: Due,
    /// Whether the acknowledgment that is due must not be merged with the next segment's.
    urgent: bool,
    /// Acknowledgments left to send at once.
    quick: u32,
    /// Whether the user answers what comes in.
    pingpong: bool,
    /// Segments that seem to end what the peer had to say, since the last acknowledgment.
    pushed: Pushed,
    /// The delay, once the gap between segments was seen.
    ato: Duration,
    /// When data last came.
    last_data: Option<Instant>,
    min: Duration,
    max: Duration,
    /// Challenge ACKs (RFC 5961 §7).
    challenges: AnswerLimit,
}

compact!(AckPolicy { due, urgent, quick, pingpong, pushed, ato, last_data, min, max, challenges });

impl AckPolicy {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            due: Due::No,
            urgent: false,
            quick: 0,
            pingpong: false,
            pushed: Pushed::No,
            // Nothing is known of the peer before its first data: no delay (as in Linux).
            ato: Duration::ZERO,
            last_data: None,
            min: config.delayed_ack_min,
            max: config.delayed_ack_max,
            challenges: AnswerLimit::default(),
        }
    }

    pub(super) fn due(&self) -> Due {
        self.due
    }

    /// Whether the acknowledgment must leave before the next segment is processed: each of these
    /// reports something of its own to the peer, and merging them would hide losses from it.
    pub(super) fn urgent(&self) -> bool {
        self.urgent
    }

    pub(super) fn ato(&self) -> Duration {
        self.ato
    }

    /// Whether segments are acknowledged at once (what `TCP_QUICKACK` reads).
    pub(super) fn quick_mode(&self) -> bool {
        !self.pingpong
    }

    /// Whether what is due at once is so only because the connection is young, and answers a peer that seems to have
    /// said what it had to say: an answer of the user, if there is one, may carry it.
    pub(super) fn may_ride(&self) -> bool {
        self.due == Due::Now && !self.urgent && self.quick > 0 && !self.pingpong && self.pushed != Pushed::No
    }

    /// An acknowledgment must be sent now; merged with others of the batch.
    pub(super) fn now(&mut self) {
        self.due = Due::Now;
    }

    /// An acknowledgment must be sent now, on its own.
    pub(super) fn now_urgently(&mut self) {
        self.due = Due::Now;
        self.urgent = true;
    }

    /// Sends a challenge ACK, at most one in each `interval`.
    pub(super) fn challenge(&mut self, now: Instant, interval: Duration) {
        if self.challenges.take(now, interval) {
            self.now_urgently();
        }
    }

    /// An acknowledgment is owed that may wait for company as long as any may.
    pub(super) fn delay(&mut self, now: Instant) {
        self.due = Due::At(now + self.max);
    }

    /// An acknowledgment is owed that an answer is about to carry: somebody waits to write it.
    pub(super) fn delay_for_answer(&mut self, now: Instant) {
        self.delay(now);
        self.ato = self.min;
        self.last_data = Some(now);
    }

    /// Nothing is owed any more.
    pub(super) fn cancel(&mut self) {
        self.due = Due::No;
        self.urgent = false;
    }

    /// Enters quick mode for the next `segments`.
    pub(super) fn enter_quick_for(&mut self, segments: u32) {
        self.pingpong = false;
        self.ato = self.min;
        self.quick = self.quick.max(segments);
    }

    fn grant(&mut self, window: usize, mss: usize) {
        let half = (window / (2 * mss.max(1))).min(MAX_QUICK_ACKS as usize) as u32;
        self.quick = self.quick.max(if half == 0 { 2 } else { half });
    }

    /// The peer's FIN came: Linux turns to delayed acknowledgments then, so that the user's own
    /// FIN can carry it.
    pub(super) fn enter_pingpong(&mut self) {
        self.pingpong = true;
    }

    /// `TCP_QUICKACK` was set or cleared.
    pub(super) fn set_quick(&mut self, on: bool) {
        if on {
            self.pingpong = false;
            if self.due != Due::No {
                self.now();
            }
        } else {
            self.pingpong = true;
        }
    }

    /// Data came in order or not: learns the gap between segments. The time-out is asked for where it matters.
    pub(super) fn on_data(
        &mut self,
        now: Instant,
        rto: impl FnOnce() -> Duration,
        window: usize,
        mss: usize,
    ) {
        match self.last_data {
            None => {
                // The user may have asked for delayed acknowledgments: tcp_event_data_recv in Linux leaves that.
                self.ato = self.min;
                self.grant(window, mss);
            }
            Some(last) => {
                let (gap, ato, min) = (now.nanos_since(last), nanos(self.ato), nanos(self.min));
                if gap <= min / 2 {
                    self.ato = Duration::from_nanos(ato / 2 + min / 2);
                } else if gap < ato {
                    self.ato = Duration::from_nanos(ato / 2 + gap).min(rto());
                } else if gap > nanos(rto()) {
                    // The peer may have fallen back to a small window and slow-start again.
                    self.grant(window, mss);
                }
            }
        }
        self.last_data = Some(now);
    }

    /// A segment smaller than a full one came: the peer had no more to send.
    pub(super) fn on_small_segment(&mut self) {
        self.pushed = if self.pushed == Pushed::No { Pushed::Once } else { Pushed::Again };
    }

    /// A full segment with PSH came: the end of what the peer wrote, which may wait for us.
    pub(super) fn on_full_push(&mut self) {
        if self.pushed == Pushed::No {
            self.pushed = Pushed::Once;
        }
    }

    /// The user has read all there was. If the peer seems to have no more, and no answer is to be
    /// expected or it paused twice, there is nothing left to wait for (Linux's `tcp_cleanup_rbuf`).
    pub(super) fn on_all_read(&mut self) {
        let over = match self.pushed {
            Pushed::No => false,
            Pushed::Once => !self.pingpong,
            Pushed::Again => true,
        };
        if over && self.due != Due::No {
            self.now();
        }
    }

    /// In-order data wants an acknowledgment: `full_segments` says that more than one full-sized
    /// segment is not acknowledged and that the window can move on (RFC 9293 SHLD-19).
    pub(super) fn schedule(&mut self, now: Instant, full_segments: bool, srtt: Option<Duration>) {
        if full_segments || (self.quick > 0 && !self.pingpong) {
            self.now();
            return;
        }
        let (mut delay, min) = (nanos(self.ato), nanos(self.min));
        if delay > min {
            let max = nanos(self.max);
            let mut ceiling = if self.pingpong { max } else { max.max(MOST_DELAY) };
            if let Some(srtt) = srtt {
                ceiling = ceiling.min(nanos(srtt).max(min));
            }
            delay = delay.min(ceiling);
        }
        let at = now.plus_nanos(delay.min(MOST_DELAY));
        self.due = match self.due {
            Due::No => Due::At(at),
            Due::At(earlier) => Due::At(earlier.min(at)),
            Due::Now => Due::Now,
        };
    }

    /// The delay of an owed acknowledgment is over.
    pub(super) fn on_timeout(&mut self, rto: Duration) {
        if self.pingpong {
            // The user did not answer in time after all.
            self.pingpong = false;
            self.ato = self.min;
        } else {
            self.ato = (self.ato * 2).min(rto);
        }
        self.now();
    }

    /// A segment with an acknowledgment was sent.
    pub(super) fn on_sent(&mut self) {
        if self.due != Due::No && self.quick > 0 {
            self.quick -= 1;
            if self.quick == 0 {
                self.ato = self.min;
            }
        }
        self.due = Due::No;
        self.urgent = false;
        self.pushed = Pushed::No;
    }

    /// Data was sent: an answer, if data came not long ago.
    pub(super) fn on_data_sent(&mut self, now: Instant) {
        if self.last_data.is_some_and(|last| now - last < self.ato) {
            self.pingpong = true;
        }
    }

    /// Room in the window is short: quick acknowledgments would only invite more.
    pub(super) fn end_quick(&mut self) {
        self.quick = 0;
    }

    pub(super) fn last_data(&self) -> Option<Instant> {
        self.last_data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTO: Duration = Duration::from_millis(201);

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn policy_after(quick: u32) -> AckPolicy {
        let mut policy = AckPolicy::new(&Config::default());
        policy.on_data(at(0), || RTO, 65_535, 1460);
        for _ in 0..quick {
            policy.schedule(at(0), false, None);
            assert_eq!(policy.due(), Due::Now);
            policy.on_sent();
        }
        policy
    }

    #[test]
    fn the_first_sixteen_segments_are_acknowledged_at_once() {
        let mut policy = policy_after(16);
        policy.schedule(at(0), false, None);
        assert_eq!(policy.due(), Due::At(at(40)));
    }

    #[test]
    fn an_answer_ends_quick_mode_and_a_delay_that_ran_out_begins_it_again() {
        let mut policy = policy_after(1);
        policy.on_data_sent(at(1));
        policy.schedule(at(2), false, None);
        assert_eq!(policy.due(), Due::At(at(42)), "the answer may carry the next one");
        policy.on_timeout(RTO);
        assert_eq!(policy.due(), Due::Now);
        policy.on_sent();
        policy.schedule(at(50), false, None);
        assert_eq!(policy.due(), Due::Now);
    }

    #[test]
    fn two_full_segments_are_acknowledged_at_once() {
        let mut policy = policy_after(16);
        policy.schedule(at(0), true, None);
        assert_eq!(policy.due(), Due::Now);
    }

    #[test]
    fn a_reader_that_keeps_up_acknowledges_the_second_small_segment() {
        let mut policy = policy_after(1);
        policy.on_data_sent(at(1));
        policy.on_small_segment();
        policy.schedule(at(2), false, None);
        policy.on_all_read();
        assert_eq!(policy.due(), Due::At(at(42)), "an answer may come to the first");
        policy.on_small_segment();
        policy.schedule(at(12), false, None);
        policy.on_all_read();
        assert_eq!(policy.due(), Due::Now);
        policy.on_sent();
        policy.on_full_push();
        policy.on_full_push();
        policy.schedule(at(13), false, None);
        policy.on_all_read();
        assert!(matches!(policy.due(), Due::At(_)), "a full segment counts once");
    }

    #[test]
    fn nothing_waits_for_a_user_who_never_answers() {
        let mut policy = policy_after(16);
        policy.schedule(at(0), false, None);
        policy.on_all_read();
        assert_eq!(policy.due(), Due::At(at(40)), "there may be more of it");
        policy.on_small_segment();
        policy.on_all_read();
        assert_eq!(policy.due(), Due::Now);
    }

    #[test]
    fn quickack_flushes_what_is_owed() {
        let mut policy = policy_after(16);
        policy.schedule(at(0), false, None);
        policy.set_quick(true);
        assert_eq!(policy.due(), Due::Now);
    }

    #[test]
    fn a_small_window_grants_two() {
        let mut policy = AckPolicy::new(&Config::default());
        policy.on_data(at(0), || RTO, 1000, 1460);
        assert_eq!(policy.quick, 2);
    }
}
