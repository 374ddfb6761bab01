//! Time passes: the timers of a connection and what they do.

use crate::tcp::connection::{Connection, Probe};
use crate::tcp::error::TcpError;
use crate::tcp::handshake::is_suspicious;
use crate::tcp::receive::Due;
use crate::tcp::recovery::{Rearm, TailProbe};
use crate::tcp::state::State;
use crate::tcp::timers::Timer;
use crate::time::{Duration, Instant};

/// Retransmissions that the time model doubles for before it goes on in steps of the RTO's maximum:
/// log2 of 120 s by 200 ms.
fn doublings(rto_min: Duration, rto_max: Duration) -> u32 {
    let ratio = rto_max.as_nanos() / rto_min.as_nanos().max(1);
    (ratio.max(1) as u64).ilog2()
}

/// How long `retries` retransmissions take if the RTO is the smallest possible: Linux gives up by
/// this time and not by the count, so that a long RTO does not mean waiting for hours.
pub(in crate::tcp) fn modelled_time(retries: u32, rto_min: Duration, rto_max: Duration) -> Duration {
    let threshold = doublings(rto_min, rto_max);
    let doubled = |n: u32| rto_min.saturating_mul((2u32 << n.min(30)) - 1);
    if retries <= threshold {
        doubled(retries)
    } else {
        doubled(threshold) + rto_max.saturating_mul(retries - threshold)
    }
}

impl Connection {
    /// Does what is due at `now`. Harmless if nothing is.
    pub fn on_timeout(&mut self, now: Instant) {
        if let Due::At(at) = self.rcv.ack.due()
            && at <= now
        {
            self.rcv.ack.on_timeout(self.rtt.rto());
        }
        if self.syn_ack_deadline().is_some_and(|at| at <= now) {
            self.on_syn_ack_timeout(now);
        }
        if self.recovery.reorder_timer.is_some_and(|at| at <= now) {
            let snd_nxt = self.snd.snd_nxt;
            let phase = self.recovery.phase();
            self.recovery.on_reorder_timeout(now, snd_nxt, &self.rtt, self.cc.as_mut());
            self.note_reduction(phase);
            self.stop_tail_timer_unless_open();
            self.follow_mtu_probe();
        }
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Retransmit => self.on_retransmit_timeout(now),
                Timer::TailLoss => self.on_tail_loss_timeout(now),
                Timer::Persist => self.on_persist_timeout(now),
                Timer::Keepalive => self.on_keepalive_timeout(now),
                Timer::Orphan => self.on_orphan_timeout(now),
            }
        }
    }

    /// Starts the retransmission timer anew, or stops it if nothing is in flight (RFC 6298 §5.1 to
    /// 5.3).
    pub(in crate::tcp) fn rearm_retransmit(&mut self, now: Instant) {
        // Until a Fast Open handshake is over, the SYN-ACK is what is sent again.
        if self.recovery.board.outstanding() == 0 || self.is_opening() {
            self.timers.stop(Timer::Retransmit);
            return;
        }
        let rto = self.clamp_to_user_timeout(now, self.rtt.rto());
        self.timers.set(Timer::Retransmit, now + rto);
    }

    /// What an acknowledgment says of the timers of what is in flight.
    pub(in crate::tcp) fn rearm_after_ack(&mut self, now: Instant, rearm: Rearm) {
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
    pub(in crate::tcp) fn arm_tail_timer(&mut self, now: Instant) {
        // Before the handshake is over the answer to it brings the news.
        if !self.config.early_retrans || !self.recovery.may_probe() || self.is_opening() {
            self.timers.stop(Timer::TailLoss);
            return;
        }
        let board = &self.recovery.board;
        let mut pto = TailProbe::timeout(&self.rtt, board.is_one_segment(), &self.config);
        // Not later than the retransmission timer would expire for the head.
        if let Some(head) = board.head() {
            let rto = (head.sent_at + self.rtt.rto()) - now;
            if rto > Duration::ZERO {
                pto = pto.min(rto);
            }
        }
        self.timers.set(Timer::TailLoss, now + pto);
    }

    /// RACK and the retransmission timer take over as soon as something is missing.
    fn stop_tail_timer_unless_open(&mut self) {
        if !self.recovery.may_probe() {
            self.timers.stop(Timer::TailLoss);
        }
    }

    /// RFC 8985 §7.3: at most one probe for the tail of a flight.
    fn on_tail_loss_timeout(&mut self, now: Instant) {
        if self.recovery.may_probe() && !self.recovery.tail.is_out() {
            self.probe = Some(Probe::Tail);
            self.rearm_retransmit(now);
        }
    }

    /// TCP_USER_TIMEOUT is kept to the millisecond: the last time-out is shortened to meet it.
    fn clamp_to_user_timeout(&self, now: Instant, rto: Duration) -> Duration {
        let (Some(limit), Some(since)) = (self.options.user_timeout, self.recovery.retrans_stamp) else {
            return rto;
        };
        let left = limit.saturating_sub(now - since);
        rto.min(left.max(Duration::from_millis(1)))
    }

    /// RFC 6298 §5.4 to 5.6.
    fn on_retransmit_timeout(&mut self, now: Instant) {
        if self.recovery.board.outstanding() == 0 {
            return;
        }
        let given_up = self.has_given_up(now);
        // Something on the way may let SYNs with data pass and nothing after them.
        let suspicious = self.fast_open.active && is_suspicious(self.recovery.timeouts, given_up);
        self.fast_open.suspicion |= suspicious;
        if given_up {
            let error = self.soft_error.unwrap_or(TcpError::TimedOut);
            self.enter_closed(Some(error));
            return;
        }
        self.note_app_limited();
        self.forget_mtu_probe();
        if self.has_waited(now, self.config.retries1) {
            self.on_black_hole(now);
        }
        let (snd_una, snd_nxt, phase) = (self.snd.snd_una, self.snd.snd_nxt, self.recovery.phase());
        self.recovery.on_timeout(now, snd_una, snd_nxt, self.snd.mss, self.cc.as_mut());
        self.note_reduction(phase);
        self.timers.stop(Timer::TailLoss);
        if self.probe == Some(Probe::Tail) {
            self.probe = None;
        }
        // The series begins with the first retransmission even if the device cannot take it now.
        self.recovery.retrans_stamp.get_or_insert(now);
        self.rtt.back_off();
        self.rearm_retransmit(now);
    }

    /// R2 of RFC 9293 §3.8.3, as time since the first retransmission.
    fn has_given_up(&self, now: Instant) -> bool {
        let Some(since) = self.recovery.retrans_stamp.filter(|_| self.recovery.timeouts > 0) else {
            return false;
        };
        let waited = now - since;
        if let Some(limit) = self.options.user_timeout {
            return waited >= limit;
        }
        if self.snd.snd_wnd == 0 && !self.orphan {
            // The peer took back a window that was in use. What is sent again serves as a probe, so
            // that only silence ends it (RFC 9293 §3.8.6.1; tcp_retransmit_timer in Linux).
            return now - self.last_received > 2 * self.config.rto_max;
        }
        waited >= self.give_up_after()
    }

    /// Whether data has been sent again for as long as `retries` retransmissions take (R1 of RFC 9293
    /// §3.8.3 with `retries1`).
    fn has_waited(&self, now: Instant, retries: u32) -> bool {
        let since = self.recovery.retrans_stamp.filter(|_| self.recovery.timeouts > 0);
        let time = modelled_time(retries, self.config.rto_min, self.config.rto_max);
        since.is_some_and(|since| now - since >= time)
    }

    fn give_up_after(&self) -> Duration {
        modelled_time(self.retries(), self.config.rto_min, self.config.rto_max)
    }

    /// How often to try. Nobody waits for an orphan: it is given up sooner, and at once when its RTO
    /// has reached the maximum (Linux's tcp_orphan_retries).
    fn retries(&self) -> u32 {
        if !self.orphan {
            self.config.retries2
        } else if self.rtt.rto() < self.config.rto_max {
            self.config.orphan_retries
        } else {
            0
        }
    }

    /// The window has been closed, or a partial segment held back, for a whole time-out (RFC 9293
    /// §3.8.6.1). The interval doubles, and probing goes on for as long as it is answered.
    fn on_persist_timeout(&mut self, now: Instant) {
        if !self.snd.has_unsent() || self.recovery.board.outstanding() > 0 {
            return;
        }
        let since = *self.persist_since.get_or_insert(now);
        let waited = now - since;
        // Answers keep probing alive for ever, unless the user set a bound (tcp(7)) or is gone: then
        // it ends when the interval has reached its maximum (Linux's tcp_probe_timer).
        let at_maximum = self.rtt.rto() >= self.config.rto_max;
        let given_up = self.options.user_timeout.is_some_and(|limit| waited >= limit)
            || (self.orphan && at_maximum)
            || self.persist_count >= self.retries();
        if given_up {
            let error = self.soft_error.unwrap_or(TcpError::TimedOut);
            self.enter_closed(Some(error));
            return;
        }
        self.probe = Some(Probe::Window);
        self.persist_count += 1;
        self.rtt.back_off();
        let mut interval = self.rtt.rto();
        if let Some(limit) = self.options.user_timeout {
            interval = interval.min(limit.saturating_sub(waited).max(Duration::from_millis(1)));
        }
        self.timers.set(Timer::Persist, now + interval);
    }

    /// Arms the keep-alive timer from when the peer was last heard of.
    pub(in crate::tcp) fn arm_keepalive(&mut self, now: Instant) {
        if !self.options.keepalive || !self.state.is_synchronized() || self.state == State::TimeWait {
            return;
        }
        let interval = if self.keepalive_count == 0 {
            self.options.keepalive_time
        } else {
            self.options.keepalive_interval
        };
        let from = if self.keepalive_count == 0 { self.last_received } else { now };
        self.timers.set(Timer::Keepalive, from + interval);
    }

    /// RFC 9293 §3.8.4. A probe only goes out while nothing waits for an acknowledgment: those
    /// timers find a dead peer sooner.
    fn on_keepalive_timeout(&mut self, now: Instant) {
        if !self.options.keepalive {
            return;
        }
        let idle = now - self.last_received;
        if self.recovery.board.outstanding() > 0
            || self.snd.has_unsent()
            || idle < self.options.keepalive_time
        {
            self.keepalive_count = 0;
            self.timers.set(
                Timer::Keepalive,
                (self.last_received + self.options.keepalive_time).max(now + Duration::from_millis(1)),
            );
            return;
        }
        let dead = match self.options.user_timeout {
            // TCP_USER_TIMEOUT replaces the count (tcp(7)).
            Some(limit) => self.keepalive_count > 0 && idle >= limit,
            None => self.keepalive_count >= self.options.keepalive_retries,
        };
        if dead {
            self.reset = Some(self.reset_segment(now));
            let error = self.soft_error.unwrap_or(TcpError::TimedOut);
            self.enter_closed(Some(error));
            return;
        }
        self.keepalive_count += 1;
        self.probe = Some(Probe::Keepalive);
        self.arm_keepalive(now);
    }

    /// SO_LINGER ran out with something still unacknowledged: what is left is dropped.
    fn on_orphan_timeout(&mut self, now: Instant) {
        if self.state.fin_outstanding() {
            self.abort(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_linuxs() {
        let model = |retries| {
            modelled_time(retries, Duration::from_millis(200), Duration::from_secs(120)).as_millis()
        };
        // LINUX: 3 s, 12.6 s, 102.2 s, 204.6 s, 324.6 s, 924.6 s.
        assert_eq!([3, 5, 8, 9, 10, 15].map(model), [3_000, 12_600, 102_200, 204_600, 324_600, 924_600]);
    }
}
