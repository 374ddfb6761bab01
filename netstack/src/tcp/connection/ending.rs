//! The end of a connection.

use super::{Completion, Connection};
use crate::readiness::Events;
use crate::reasons::{EndReason, ResetReason};
use crate::tcp::error::TcpError;
use crate::tcp::handshake::{TimeWait, TimeWaitSetup};
use crate::tcp::reset::{Reset, reset_of_connection};
use crate::tcp::state::{Input, State};
use crate::tcp::timers::Timer;
use crate::time::{Duration, Instant};

impl Connection {
    /// The last handle is gone. What was written is still delivered, and then a FIN; unless bytes
    /// are here that nobody will read, or `SO_LINGER` is zero: then the peer gets a reset at once
    /// (RFC 9293 SHLD-3, RFC 2525 §2.17).
    pub fn close(&mut self, now: Instant) {
        self.user.orphan = true;
        if self.state == State::Closed {
            return;
        }
        let unread = self.rcv.unread() > 0;
        if unread || self.options.linger == Some(Duration::ZERO) {
            self.rcv.discard();
            match self.state {
                // The peer needs no notice any more.
                State::TimeWait => {}
                // RFC 9293 §3.10.5: both sides have said that they are done, and the peer has all.
                State::Closing | State::LastAck if !unread && self.snd.fin_sent() => {
                    self.enter_closed(EndReason::Finished, None);
                }
                _ if unread => self.reset(now, ResetReason::TcpAbortOnClose),
                _ => self.reset(now, ResetReason::TcpAbortOnLinger),
            }
            return;
        }
        self.user.read_shut = true;
        self.rcv.discard();
        self.queue_fin();
        if let Some(linger) = self.options.linger {
            // SO_LINGER bounds the background close here, since no call of ours ever blocks.
            self.timers.set(Timer::Orphan, now + linger);
        }
        if self.state == State::FinWait2 {
            self.wait_for_fin(now);
        }
    }

    /// The user ends the connection with a reset; nothing more is delivered (tcp_disconnect in Linux).
    pub fn abort(&mut self, now: Instant) {
        let closed = matches!(self.state, State::Closing | State::LastAck);
        self.reset(now, if closed { ResetReason::TcpDisconnectWithData } else { ResetReason::TcpState });
    }

    /// Ends the connection with a reset for this reason; nothing more is delivered.
    pub fn reset(&mut self, now: Instant, reason: ResetReason) {
        if self.state == State::Closed {
            return;
        }
        let known_to_peer = self.state.is_synchronized() || self.state == State::SynReceived;
        if known_to_peer && self.state != State::TimeWait {
            self.send_reset(now, reason);
        }
        self.enter_closed(EndReason::by_reset(reason), None);
    }

    /// Why the connection ended; none as long as it runs. A connection that leaves no more than a
    /// [`TimeWait`] record has ended, too.
    pub fn end(&self) -> Option<EndReason> {
        self.outcome.end()
    }

    /// Whether the connection is over because both ends closed it.
    pub fn ended_in_order(&self) -> bool {
        self.state == State::Closed && self.rcv.fin_taken() && self.outcome.error().is_none()
    }

    /// The record that takes the connection's place at [`Completion::TimeWait`]: in TIME-WAIT, and in
    /// FIN-WAIT-2 where no user is left.
    pub fn time_wait(&self, now: Instant) -> TimeWait {
        let setup = TimeWaitSetup {
            state: self.state,
            rcv_nxt: self.rcv.nxt().wire(),
            snd_nxt: self.snd.nxt().wire(),
            rcv_wnd: self.rcv.wnd() as u32,
            window_field: self.rcv.window_field(),
            ts: self.ts,
            linger2: self.options.linger2,
            rto: self.path.rto(),
        };
        TimeWait::new(now, setup, &self.config)
    }

    /// The user writes no more: our FIN follows what was written.
    pub(super) fn queue_fin(&mut self) {
        if let Some(next) = self.state.next(Input::Close) {
            self.snd.queue_fin();
            self.state = next;
            self.outcome.notify(Events::WRITABLE);
            self.notify_if_both_closed();
        }
    }

    /// Whether a read finds the end of the stream once the queue is empty.
    pub(super) fn read_closed(&self) -> bool {
        self.user.read_shut || !self.state.can_receive()
    }

    /// Whether neither direction carries anything for the user any more: poll(2) says `POLLHUP` then, and
    /// not while one direction is open (tcp_poll in Linux).
    pub(super) fn both_closed(&self) -> bool {
        !self.state.can_send() && self.read_closed()
    }

    /// Tells of that, when one of the directions was closed.
    pub(super) fn notify_if_both_closed(&mut self) {
        if self.both_closed() {
            self.outcome.notify(Events::WRITE_CLOSED | Events::WRITABLE);
        }
    }

    /// In FIN-WAIT-2 without a user: a record waits for the peer's FIN, unless `TCP_LINGER2` is zero.
    pub(super) fn wait_for_fin(&mut self, now: Instant) {
        if self.options.linger2 == Some(Duration::ZERO) {
            self.reset(now, ResetReason::TcpAbortOnLinger);
        } else {
            self.leave_record();
        }
    }

    /// Ends the connection on the peer's side.
    pub(super) fn send_reset(&mut self, now: Instant, reason: ResetReason) {
        let timestamps = self.ts.map(|ts| ts.option(now));
        let segment = reset_of_connection(self.snd.reset_seq(), self.rcv.nxt().wire(), timestamps);
        self.outcome.set_reset(Some(Reset { segment, reason }));
    }

    /// The peer has not answered for too long.
    pub(super) fn give_up(&mut self, end: EndReason) {
        self.enter_closed(end, Some(self.outcome.cause_of_timeout()));
    }

    /// The connection is over; the user is told of an `error` if it is not his own doing.
    pub(super) fn enter_closed(&mut self, end: EndReason, error: Option<TcpError>) {
        self.outcome.end_for(end);
        if let Some(next) = self.state.next(Input::Abort) {
            self.state = next;
            self.suspect_lone_fin();
        }
        if let Some(error) = error {
            self.outcome.fail(error);
        }
        self.timers.stop_all();
        self.path.stop_pacing();
        self.rcv.cancel_ack();
        self.recovery.clear();
        self.snd.clear();
        self.liveness.cancel_any();
        self.outcome.complete(Completion::Closed);
        self.outcome.notify(
            Events::HANGUP | Events::READABLE | Events::WRITABLE | Events::READ_CLOSED | Events::WRITE_CLOSED,
        );
    }

    pub(super) fn enter_time_wait(&mut self) {
        self.leave_record();
        self.outcome.notify(Events::READABLE | Events::WRITABLE | Events::READ_CLOSED | Events::WRITE_CLOSED);
    }

    /// Whether Fast Open was used for a SYN of ours, and no data ever came back.
    pub(super) fn heard_nothing(&self) -> bool {
        self.fast_open.is_active() && self.counters.data_segs_in == 0
    }

    /// Nothing is left to do but to answer the peer's stray segments.
    fn leave_record(&mut self) {
        self.suspect_lone_fin();
        self.timers.stop_all();
        self.outcome.end_for(EndReason::Finished);
        self.outcome.complete(Completion::TimeWait);
    }

    /// The connection ends. If all that came was a FIN with something missing before it, something on
    /// the way swallowed the answer (tcp_fastopen_active_disable_ofo_check in Linux).
    fn suspect_lone_fin(&mut self) {
        if self.heard_nothing() && self.rcv.fin_is_ahead() {
            self.fast_open.suspect();
        }
    }
}
