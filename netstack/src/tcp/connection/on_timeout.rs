//! Time passes: the timers of a connection and what they do.

use super::Connection;
use super::liveness::{Probe, Silence, WindowProbeLimits};
use crate::reasons::{EndReason, ResetReason};
use crate::tcp::backoff::{MODEL_RTO, modelled_time};
use crate::tcp::state::State;
use crate::tcp::timers::Timer;
use crate::time::{Duration, Instant};
use crate::trace::{TimerKind, TimerSet};

/// Time-outs in a row that are not doubled at most (`TCP_THIN_LINEAR_RETRIES`).
const THIN_LINEAR_RETRIES: u32 = 6;

/// Packets in flight from which on a stream is not thin (tcp_stream_is_thin in Linux).
const THIN_PACKETS: usize = 4;

impl Connection {
    /// Does what is due at `now`, and says for which timers. Harmless if nothing is.
    pub fn on_timeout(&mut self, now: Instant) -> TimerSet {
        let mut expired = TimerSet::default();
        if self.rcv.on_ack_timeout(now, self.path.rto()) {
            expired.insert(TimerKind::DelayedAck);
        }
        if self.syn_ack_deadline().is_some_and(|at| at <= now) {
            expired.insert(TimerKind::Handshake);
            self.on_syn_ack_timeout(now);
        }
        if self.recovery.reorder_deadline().is_some_and(|at| at <= now) {
            expired.insert(TimerKind::Reorder);
            self.on_reorder_timeout(now);
        }
        while let Some(timer) = self.timers.expire(now) {
            expired.insert(timer.kind());
            match timer {
                Timer::Retransmit => self.on_retransmit_timeout(now),
                Timer::TailLoss => self.on_tail_loss_timeout(now),
                Timer::Persist => self.on_persist_timeout(now),
                Timer::Keepalive => self.on_keepalive_timeout(now),
                Timer::Orphan => self.on_orphan_timeout(now),
            }
        }
        expired
    }

    /// What RACK found while it waited does not come any more (RFC 8985 §6.3).
    fn on_reorder_timeout(&mut self, now: Instant) {
        let state = self.recovery.state();
        let (rtt, cc) = self.path.for_recovery();
        self.recovery.on_reorder_timeout(now, self.snd.nxt(), rtt, cc);
        self.note_reduction(state);
        self.stop_tail_timer_unless_open();
        self.follow_mtu_probe();
    }

    /// RFC 8985 §7.3: at most one probe for the tail of a flight.
    fn on_tail_loss_timeout(&mut self, now: Instant) {
        if self.recovery.wants_probe() {
            self.liveness.ask(Probe::Tail);
            self.rearm_retransmit(now);
        }
    }

    /// RFC 6298 §5.4 to 5.6.
    fn on_retransmit_timeout(&mut self, now: Instant) {
        if self.recovery.outstanding() == 0 {
            return;
        }
        let given_up = self.has_given_up(now);
        self.fast_open.on_timeout(self.recovery.timeouts(), given_up);
        if given_up {
            self.give_up(self.or_user_timeout(EndReason::RetransmissionTimeout));
            return;
        }
        self.note_app_limited();
        self.forget_mtu_probe();
        if self.has_waited(now, self.config.retries1) {
            self.on_black_hole(now);
        }
        let state = self.recovery.state();
        let (una, nxt, mss) = (self.snd.una(), self.snd.nxt(), self.snd.mss());
        let (_, cc) = self.path.for_recovery();
        self.recovery.on_timeout(now, una, nxt, mss, cc);
        self.note_reduction(state);
        self.timers.stop(Timer::TailLoss);
        self.liveness.cancel(Probe::Tail);
        self.recovery.begin_retransmitting(now);
        if self.has_linear_timeouts() {
            self.path.reset_backoff();
        } else {
            self.path.back_off();
        }
        self.rearm_retransmit(now);
    }

    /// A stream with little in flight has no fast retransmit, and a flow of that size is no danger to the network: the
    /// time-out stays as it is for a while (tcp_retransmit_timer in Linux).
    fn has_linear_timeouts(&self) -> bool {
        self.options.thin_linear_timeouts
            && self.state == State::Established
            && self.recovery.timeouts() <= THIN_LINEAR_RETRIES
            && self.recovery.packets_out(THIN_PACKETS) < THIN_PACKETS
    }

    /// R2 of RFC 9293 §3.8.3, as time since the first retransmission.
    fn has_given_up(&self, now: Instant) -> bool {
        let Some(since) = self.recovery.retrans_stamp().filter(|_| self.recovery.timeouts() > 0) else {
            return false;
        };
        let waited = now - since;
        if let Some(limit) = self.options.user_timeout {
            return waited >= limit;
        }
        if self.snd.wnd() == 0 && !self.user.orphan {
            // The peer took back a window that was in use. What is sent again serves as a probe, so
            // that only silence ends it (RFC 9293 §3.8.6.1; tcp_retransmit_timer in Linux).
            return now - self.liveness.last_received() > 2 * self.config.rto_max;
        }
        waited >= self.give_up_after()
    }

    /// Whether data has been sent again for as long as `retries` retransmissions take (R1 of RFC 9293
    /// §3.8.3 with `retries1`).
    fn has_waited(&self, now: Instant, retries: u32) -> bool {
        let since = self.recovery.retrans_stamp().filter(|_| self.recovery.timeouts() > 0);
        let time = modelled_time(retries, MODEL_RTO, self.config.rto_max);
        since.is_some_and(|since| now - since >= time)
    }

    fn give_up_after(&self) -> Duration {
        modelled_time(self.retries(), MODEL_RTO, self.config.rto_max)
    }

    /// How often to try. Nobody waits for an orphan: it is given up sooner, and at once when its RTO
    /// has reached the maximum (Linux's tcp_orphan_retries).
    fn retries(&self) -> u32 {
        if !self.user.orphan {
            self.config.retries2
        } else if self.path.rto() < self.config.rto_max {
            self.config.orphan_retries
        } else {
            0
        }
    }

    /// The window has been closed, or a partial segment held back, for a whole time-out (RFC 9293
    /// §3.8.6.1). The interval doubles, and probing goes on for as long as it is answered.
    fn on_persist_timeout(&mut self, now: Instant) {
        if !self.snd.has_unsent() || self.recovery.outstanding() > 0 {
            return;
        }
        // Answers keep probing alive for ever, unless the user set a bound (tcp(7)) or is gone: then
        // it ends when the interval has reached its maximum (Linux's tcp_probe_timer).
        let at_maximum = self.path.rto() >= self.config.rto_max;
        let limits = WindowProbeLimits {
            user_timeout: self.options.user_timeout,
            last: self.user.orphan && at_maximum,
            retries: self.retries(),
            // Linux counts probes only. With a small lower bound of the RTO they are over in seconds. With the
            // usual one the time is over anyway: not all of it, as the last answer came after its timer began.
            silence: modelled_time(self.retries(), MODEL_RTO, self.config.rto_max) * 3 / 4,
        };
        match self.liveness.on_window_closed(now, &limits) {
            Ok(waited) => {
                self.path.back_off();
                self.arm_persist(now, waited);
            }
            Err(end) => self.give_up(end),
        }
    }

    fn on_keepalive_timeout(&mut self, now: Instant) {
        if !self.options.keepalive {
            return;
        }
        let waiting = self.recovery.outstanding() > 0 || self.snd.has_unsent();
        match self.liveness.on_silence(now, &self.options, waiting) {
            Silence::Wait(until) => self.timers.set(Timer::Keepalive, until),
            Silence::Probe => self.arm_keepalive(now),
            Silence::Dead => {
                self.send_reset(now, ResetReason::TcpKeepaliveTimeout);
                self.give_up(self.or_user_timeout(EndReason::KeepaliveTimeout));
            }
        }
    }

    /// `TCP_USER_TIMEOUT` replaces what else ends a connection by time (tcp(7)).
    fn or_user_timeout(&self, end: EndReason) -> EndReason {
        if self.options.user_timeout.is_some() { EndReason::UserTimeout } else { end }
    }

    /// SO_LINGER ran out with something still unacknowledged: what is left is dropped.
    fn on_orphan_timeout(&mut self, now: Instant) {
        if self.state.fin_outstanding() {
            self.reset(now, ResetReason::TcpAbortOnLinger);
        }
    }
}
