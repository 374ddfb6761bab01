//! What the user does with a connection.

use super::Connection;
use crate::buffer::Chunk;
use crate::config::Config;
use crate::readiness::Events;
use crate::tcp::error::TcpError;
use crate::tcp::options::SocketOptions;
use crate::tcp::send::{SendFlags, Source, Write, Written};
use crate::tcp::state::State;
use crate::tcp::timers::Timer;
use crate::time::Instant;
use std::io::{IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::sync::Arc;

impl Connection {
    /// What poll(2) would say now.
    pub fn readiness(&self) -> Events {
        let mut ready = Events::NONE;
        let dead = self.state == State::Closed;
        if self.outcome.error().is_some() {
            ready |= Events::ERROR | Events::READABLE | Events::WRITABLE;
        }
        let read_closed = self.read_closed();
        if self.rcv.unread() > 0 || read_closed {
            ready |= Events::READABLE;
        }
        if read_closed {
            ready |= Events::READ_CLOSED;
        }
        if self.both_closed() {
            ready |= Events::WRITE_CLOSED;
        }
        if !self.state.can_send() || dead || self.snd.is_writable(self.notsent_lowat()) {
            ready |= Events::WRITABLE;
        }
        if dead {
            ready |= Events::HANGUP;
        }
        ready
    }

    /// Takes the pending error (`SO_ERROR`).
    pub fn take_error(&mut self) -> Option<TcpError> {
        self.outcome.take_error()
    }

    /// Moves received bytes into `bufs`, filled in order. Zero means the end of the stream.
    ///
    /// # Errors
    /// [`TcpError::WouldBlock`] if nothing is here yet; once, the error that ended the connection.
    pub fn read(&mut self, now: Instant, bufs: &mut [IoSliceMut<'_>]) -> Result<usize, TcpError> {
        if self.rcv.unread() == 0 {
            return self.nothing_to_read();
        }
        Ok(self.rcv.read(now, bufs, self.state.can_receive()))
    }

    /// Copies received bytes and leaves them queued (`MSG_PEEK`).
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn peek(&mut self, bufs: &mut [IoSliceMut<'_>]) -> Result<usize, TcpError> {
        if self.rcv.unread() == 0 {
            return self.nothing_to_read();
        }
        Ok(self.rcv.peek(bufs))
    }

    /// Takes the first received chunk without a copy; none means the end of the stream.
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn read_chunk(&mut self, now: Instant) -> Result<Option<Chunk>, TcpError> {
        match self.rcv.read_chunk(now, self.state.can_receive()) {
            Some(chunk) => Ok(Some(chunk)),
            None => self.nothing_to_read().map(|_| None),
        }
    }

    /// Queues bytes from `bufs`, in order, and returns how many there was room for; without sending in
    /// between, so that for a large write [`Connection::write_record`] finds room for more. `more` says
    /// that more data follows at once (`MSG_MORE`).
    ///
    /// # Errors
    /// As [`Connection::write_record`].
    pub fn write(&mut self, now: Instant, bufs: &[IoSlice<'_>], more: bool) -> Result<usize, TcpError> {
        let (flags, mut done) = (SendFlags { more, ..SendFlags::NONE }, 0);
        loop {
            let written = self.write_record(now, bufs, done, flags)?;
            done += written.bytes;
            if !written.go_on {
                return Ok(done);
            }
        }
    }

    /// Queues bytes from `bufs`, in order, from byte `done` on, as many as one record takes.
    ///
    /// What was queued is sent before the next record is begun: so that a record begins where the last
    /// transmission ended, and `TCP_NOTSENT_LOWAT` counts what could not be sent. A record that was begun
    /// is always filled, so that a write may exceed both limits by as much (as in Linux's `tcp_sendmsg`).
    ///
    /// # Errors
    /// [`TcpError::WouldBlock`] if there is no room; the error that ended the connection, once;
    /// [`TcpError::BrokenPipe`] after that, and after our FIN. Only if `done` is zero.
    pub fn write_record(
        &mut self,
        now: Instant,
        bufs: &[IoSlice<'_>],
        done: usize,
        flags: SendFlags,
    ) -> Result<Written, TcpError> {
        self.write_record_from(now, Source::Slices(bufs), done, flags)
    }

    /// [`Connection::write_record`] of bytes that may be shared.
    pub(crate) fn write_record_from(
        &mut self,
        now: Instant,
        source: Source<'_>,
        done: usize,
        flags: SendFlags,
    ) -> Result<Written, TcpError> {
        if done == 0 {
            if let Some(error) = self.outcome.take_error() {
                return Err(error);
            }
            if !self.state.can_send() {
                return Err(TcpError::BrokenPipe);
            }
        }
        let wanted = source.len().saturating_sub(done);
        if wanted == 0 {
            return Ok(Written { bytes: 0, go_on: false });
        }
        if done == 0 {
            self.note_app_limited();
        }
        let (mss, notsent_lowat) = (self.current_mss(now), self.notsent_lowat());
        let write = Write { done, wanted, flags, mss, notsent_lowat };
        self.snd.write(now, source, &write).ok_or(TcpError::WouldBlock)
    }

    /// Sends what is queued, whatever Nagle's algorithm, `TCP_CORK` and `MSG_MORE` say: what setting
    /// `TCP_NODELAY` does, even if it was set before.
    pub fn push(&mut self) {
        self.snd.force();
    }

    /// Shuts one or both directions down (RFC 9293 §3.6, shutdown(2)). Shutting reading down sends
    /// nothing.
    ///
    /// # Errors
    /// [`TcpError::NotConnected`] if the connection is over, also in TIME-WAIT.
    pub fn shutdown(&mut self, how: Shutdown) -> Result<(), TcpError> {
        // As in Linux, where TIME-WAIT no longer belongs to the socket.
        if matches!(self.state, State::Closed | State::TimeWait) {
            return Err(TcpError::NotConnected);
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.user.read_shut = true;
            self.outcome.notify(Events::READABLE | Events::READ_CLOSED);
            self.notify_if_both_closed();
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.queue_fin();
        }
        Ok(())
    }

    /// The options.
    pub fn options(&self) -> &SocketOptions {
        &self.options
    }

    /// Replaces the options, and does what the new values ask for at once. What a running
    /// connection cannot change ([`SocketOptions::max_segment_size`],
    /// [`SocketOptions::syn_retries`]) is kept for reading only.
    pub fn set_options(&mut self, now: Instant, options: SocketOptions) {
        let old = std::mem::replace(&mut self.options, options);
        if let Some(size) = self.options.send_buffer_size
            && old.send_buffer_size != Some(size)
        {
            self.snd.set_limit(size);
        }
        if let Some(size) = self.options.recv_buffer_size
            && old.recv_buffer_size != Some(size)
        {
            self.rcv.set_buffer_size(size);
        }
        if self.options.nodelay && !old.nodelay {
            // As in Linux: what is queued goes out at once, even corked.
            self.push();
        }
        if old.window_clamp != self.options.window_clamp {
            self.rcv.set_clamp(self.options.window_clamp);
        }
        self.path.set_max_rate(self.options.max_pacing_rate);
        if old.congestion != self.options.congestion {
            let (mss, sack, seed) = (self.snd.mss(), self.recovery.has_sack(), self.seed());
            self.path.change_congestion(now, &self.options, mss, sack, seed);
        }
        let keepalive_changed = old.keepalive != self.options.keepalive
            || old.keepalive_time != self.options.keepalive_time
            || old.keepalive_interval != self.options.keepalive_interval;
        if keepalive_changed {
            self.liveness.restart_keepalive();
            self.timers.stop(Timer::Keepalive);
            self.arm_keepalive(now);
        }
        self.notice_room();
    }

    /// Goes on with other settings, as far as they are looked at while a connection stands: what it was opened
    /// with, and what its options say, stays.
    #[doc(hidden)]
    pub fn set_config(&mut self, config: &Arc<Config>) {
        self.config = Arc::clone(config);
        self.path.set_config(Arc::clone(config));
        if let Some(ecn) = &mut self.ecn {
            ecn.set_config(config);
        }
    }

    /// `TCP_QUICKACK`: acknowledge at once, or wait for company. Not permanent (tcp(7)).
    pub fn set_quickack(&mut self, on: bool) {
        self.rcv.set_quickack(on);
    }

    /// Whether segments are acknowledged at once at the moment.
    pub fn quickack(&self) -> bool {
        self.rcv.quickack()
    }

    /// What the send queue counts for against `SO_SNDBUF`, in bytes (`SK_MEMINFO_WMEM_QUEUED`).
    pub fn send_queue_cost(&self) -> usize {
        self.snd.queue_cost()
    }

    /// Bytes that were written and never sent (`SIOCOUTQNSD`).
    pub fn unsent(&self) -> usize {
        self.snd.unsent()
    }

    /// Bytes that were written and are not acknowledged.
    pub fn queued(&self) -> usize {
        self.snd.queued()
    }

    /// Bytes that were written and are not acknowledged (`SIOCOUTQ`), the FIN included.
    pub fn unacked(&self) -> usize {
        let fin_out = self.snd.fin_unacked() && self.state.fin_outstanding();
        self.snd.queued() + usize::from(fin_out)
    }

    /// Bytes that can be read (`SIOCINQ`).
    pub fn unread(&self) -> usize {
        self.rcv.unread()
    }

    fn nothing_to_read(&mut self) -> Result<usize, TcpError> {
        // What the peer sent ended with its FIN; a reset that came after it is for the writer
        // (SOCK_DONE in Linux's tcp_recvmsg).
        if self.rcv.fin_taken() {
            return Ok(0);
        }
        if let Some(error) = self.outcome.take_error() {
            return Err(error);
        }
        if self.read_closed() { Ok(0) } else { Err(TcpError::WouldBlock) }
    }
}
