//! When the timers of a connection expire.

use super::Connection;
use crate::tcp::recovery::Rearm;
use crate::tcp::state::State;
use crate::tcp::timers::Timer;
use crate::time::{Duration, Instant};

impl Connection {
    /// Starts the retransmission timer anew, or stops it if nothing is in flight (RFC 6298 §5.1 to
    /// 5.3).
    pub(super) fn rearm_retransmit(&mut self, now: Instant) {
        // Until a Fast Open handshake is over, the SYN-ACK is what is sent again.
        if self.recovery.outstanding() == 0 || self.is_opening() {
            self.timers.stop(Timer::Retransmit);
            return;
        }
        let rto = self.clamp_to_user_timeout(now, self.path.rto());
        self.timers.set(Timer::Retransmit, now + rto);
    }

    /// What an acknowledgment says of the timers of what is in flight.
    pub(super) fn rearm_after_ack(&mut self, now: Instant, rearm: Rearm) {
        match rearm {
            Rearm::No => self.stop_tail_timer_unless_open(),
            Rearm::Yes => {
                self.rearm_retransmit(now);
                self.arm_tail_timer(now);
            }
            Rearm::Soon(after) => {
                self.timers.set(Timer::Retransmit, now + after);
                self.timers.stop(Timer::TailLoss);
            }
        }
    }

    /// Arms the timer of the tail loss probe, where one is allowed (RFC 8985 §7.2): after new data and
    /// after an acknowledgment that leaves something in flight.
    pub(super) fn arm_tail_timer(&mut self, now: Instant) {
        // Before the handshake is over the answer to it brings the news.
        if !self.config.early_retrans || !self.recovery.may_probe() || self.is_opening() {
            self.timers.stop(Timer::TailLoss);
            return;
        }
        let at = self.recovery.probe_at(now, self.path.rtt(), &self.config);
        self.timers.set(Timer::TailLoss, at);
    }

    /// RACK and the retransmission timer take over as soon as something is missing.
    pub(super) fn stop_tail_timer_unless_open(&mut self) {
        if !self.recovery.may_probe() {
            self.timers.stop(Timer::TailLoss);
        }
    }

    /// Nothing is in flight and what waits may not go: only a probe will find out when it may.
    pub(super) fn persist_if_stuck(&mut self, now: Instant) {
        // Where the handshake is not over, the answer to the SYN-ACK brings a window.
        let stuck =
            self.recovery.outstanding() == 0 && !self.timers.is_set(Timer::Persist) && !self.is_opening();
        if stuck && self.liveness.probe().is_none() {
            self.timers.set(Timer::Persist, now + self.path.rto());
        }
    }

    /// The window was probed, as has been done for the time `waited`: when to do so again.
    pub(super) fn arm_persist(&mut self, now: Instant, waited: Duration) {
        let mut interval = self.path.rto();
        if let Some(limit) = self.options.user_timeout {
            interval = interval.min(limit.saturating_sub(waited).max(Duration::from_millis(1)));
        }
        self.timers.set(Timer::Persist, now + interval);
    }

    /// Arms the keep-alive timer from when something last came from the peer.
    pub(super) fn arm_keepalive(&mut self, now: Instant) {
        if !self.options.keepalive || !self.state.is_synchronized() || self.state == State::TimeWait {
            return;
        }
        let at = self.liveness.keepalive_deadline(now, &self.options);
        self.timers.set(Timer::Keepalive, at);
    }

    /// TCP_USER_TIMEOUT is kept to the millisecond: the last time-out is shortened to meet it.
    fn clamp_to_user_timeout(&self, now: Instant, rto: Duration) -> Duration {
        let (Some(limit), Some(since)) = (self.options.user_timeout, self.recovery.retrans_stamp()) else {
            return rto;
        };
        let left = limit.saturating_sub(now - since);
        rto.min(left.max(Duration::from_millis(1)))
    }
}
