//! A connection from ESTABLISHED on: the struct, and what the user does with it.
//!
//! Segments come in through [`on_segment`], time through [`on_timeout`], and segments leave through
//! [`transmit`]; each of those files is one `impl Connection`.

mod on_segment;
mod on_timeout;
mod transmit;

pub(super) use on_segment::{DONE, NEXT, Step};
pub use transmit::Transmit;

use crate::buffer::{Chunk, Pool};
use crate::config::Config;
use crate::readiness::Events;
use crate::tcp::congestion::{CongestionControl, CongestionStart};
use crate::tcp::ecn::EcnState;
use crate::tcp::error::TcpError;
use crate::tcp::handshake::{FastOpenNotes, Negotiated, PassiveOpen, TimeWait};
use crate::tcp::options::SocketOptions;
use crate::tcp::path::Path;
use crate::tcp::receive::{Receiver, ReceiverSetup};
use crate::tcp::recovery::{Recovery, RttEstimator};
use crate::tcp::send::{Chrono, Holds, Pacer, PacketSize, SendFlags, Sender, SenderSetup};
use crate::tcp::seq::Seq;
use crate::tcp::state::{Input, State};
use crate::tcp::timers::{Timer, Timers};
use crate::tcp::timestamps::{TIMESTAMPS_LEN, TimestampState};
use crate::time::{Duration, Instant};
use crate::wire::{Ecn, Flags, Options, Segment, SeqNum};
use std::io::{IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::sync::Arc;

/// A TCP connection that completed its handshake.
///
/// The methods fall into groups. *In*: [`on_segment`](Self::on_segment),
/// [`on_timeout`](Self::on_timeout), [`on_icmp_error`](Self::on_icmp_error). *Out*:
/// [`poll_transmit`](Self::poll_transmit) with [`on_transmitted`](Self::on_transmitted),
/// [`poll_timeout`](Self::poll_timeout), [`take_events`](Self::take_events). *User*:
/// [`read`](Self::read), [`write`](Self::write), [`shutdown`](Self::shutdown),
/// [`close`](Self::close), [`abort`](Self::abort). After any of the first and the last group, call
/// those of the second until they have no more to say.
#[derive(Debug)]
pub struct Connection {
    pub(super) state: State,
    pub(super) config: Arc<Config>,
    pub(super) options: SocketOptions,
    pub(super) snd: Sender,
    pub(super) rcv: Receiver,
    /// How large packets may be.
    pub(super) size: PacketSize,
    pub(super) rtt: RttEstimator,
    pub(super) recovery: Recovery,
    pub(super) cc: Box<dyn CongestionControl>,
    pub(super) timers: Timers,
    pub(super) pacer: Pacer,
    /// The timestamps option, where it was negotiated.
    pub(super) ts: Option<TimestampState>,
    /// ECN, where it was negotiated.
    pub(super) ecn: Option<Box<EcnState>>,
    /// Edges for [`Connection::take_events`].
    pub(super) events: Events,
    pub(super) completion: Completion,
    /// SO_ERROR: reported once.
    pub(super) error: Option<TcpError>,
    /// What ICMP said while the connection lived: the reason given if it times out (`sk_err_soft`).
    pub(super) soft_error: Option<TcpError>,
    /// A reset that must still be sent.
    pub(super) reset: Option<Segment>,
    /// A probe of the window or of the peer's life that must be sent.
    pub(super) probe: Option<Probe>,
    /// Window probes that were not answered (RFC 9293 §3.8.6.1).
    pub(super) persist_count: u32,
    /// When the first window probe since the window closed was due.
    pub(super) persist_since: Option<Instant>,
    /// Keep-alive probes that were not answered.
    pub(super) keepalive_count: u32,
    /// When the handshake was completed.
    pub(super) created: Instant,
    /// When something was last received.
    pub(super) last_received: Instant,
    /// When a challenge ACK was last sent (RFC 5961 §7).
    pub(super) last_challenge: Option<Instant>,
    /// Whether the user shut reading down.
    pub(super) read_shut: bool,
    /// Whether no user holds the connection any more.
    pub(super) orphan: bool,
    /// Whether the user is in the middle of writing.
    pub(super) writing: Writing,
    /// Whether what is queued must go now, corked or not (`TCP_NODELAY` was set).
    pub(super) push: bool,
    /// Whether something happened that may have made room for a user who waits for it.
    pub(super) room: Room,
    /// What the time is spent on.
    pub(super) chrono: Chrono,
    pub(super) counters: Counters,
    /// The handshake, where Fast Open made the connection before it was over.
    pub(super) passive: Option<Box<PassiveOpen>>,
    pub(super) fast_open: FastOpenNotes,
    /// Whether a reset of the peer ended the connection.
    pub(super) error_was_reset: bool,
}

/// How much of a connection is still needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Completion {
    /// All of it.
    Running,
    /// No more than a [`TimeWait`] record.
    TimeWait,
    /// Nothing: no segment will be sent or accepted for it.
    Closed,
}

/// Whether more data is about to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// Nobody said so.
    No,
    /// A record is full, and the call that writes goes on.
    Filled,
    /// The user said so (`MSG_MORE`).
    More,
}

/// What may have made room in the send buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Room {
    /// Nothing.
    AsBefore,
    /// Less is unsent.
    Sent,
    /// An acknowledgment came.
    Acked,
}

/// What a call of [`Connection::write_record`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes that were taken.
    pub bytes: usize,
    /// Whether there may be room for more once what was taken is sent: transmit, and go on with the
    /// rest.
    pub go_on: bool,
}

/// Which probe to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// The window is closed, or a partial segment was held back too long.
    Window,
    /// The peer has been silent.
    Keepalive,
    /// The last segments of a flight may be lost (RFC 8985 §7.3).
    Tail,
}

/// What happened so far, for `TCP_INFO`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) segs_in: u64,
    pub(super) segs_out: u64,
    pub(super) data_segs_in: u64,
    pub(super) paws_drops: u64,
    pub(super) data_segs_out: u64,
    pub(super) bytes_acked: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
}

/// What a handshake found out: everything that a connection starts from.
#[derive(Debug)]
pub(super) struct Established {
    /// Our initial sequence number.
    pub(super) iss: SeqNum,
    /// The peer's.
    pub(super) irs: SeqNum,
    /// The way to the peer.
    pub(super) path: Path,
    pub(super) negotiated: Negotiated,
    /// The window that the peer's last handshake segment offers, in bytes.
    pub(super) snd_wnd: usize,
    /// The window that we offered, in bytes.
    pub(super) offered: usize,
    /// The handshake's round-trip time, if Karn's rule lets us use it.
    pub(super) rtt: Option<Duration>,
    /// How often our SYN or SYN-ACK had to be sent again.
    pub(super) syn_timeouts: u32,
}

impl Connection {
    pub(super) fn new(
        now: Instant,
        from: Established,
        options: SocketOptions,
        config: &Arc<Config>,
        pool: &Arc<Pool>,
    ) -> Box<Self> {
        let Established { iss, irs, path, negotiated, snd_wnd, offered, rtt: measured, syn_timeouts } = from;
        let snd_una = Seq::initial(iss) + 1;
        let rcv_nxt = Seq::initial(irs) + 1;
        let options_len = if negotiated.ts.is_some() { TIMESTAMPS_LEN } else { 0 };
        // A socket that does not follow ICMP does not follow what others were told either.
        let pmtu = if options.mtu_discover.follows_icmp() { path.pmtu } else { path.mtu };
        let size = PacketSize::new(now, Path { pmtu, ..path }, negotiated.max_segment, options_len, config);
        let mss = size.mss();
        let snd = SenderSetup {
            snd_una,
            wl1: rcv_nxt,
            snd_wnd,
            scale: negotiated.peer_scale,
            mss,
            buffer_size: options.send_buffer_size,
        };
        let rcv = ReceiverSetup {
            rcv_nxt,
            scale: negotiated.our_scale,
            offered,
            sack: negotiated.sack,
            advertised_mss: negotiated.advertised_mss,
            buffer_size: options.recv_buffer_size,
            clamp: options.window_clamp,
            rtt: measured,
        };
        let mut rtt = RttEstimator::new(config);
        if let Some(sample) = measured {
            rtt.on_sample(now, sample, 1);
        } else if syn_timeouts > 0 {
            rtt.after_syn_timeout();
        }
        if let Some(known) = path.metrics.rtt {
            rtt.seed(known);
        }
        // RFC 6928 §2; after a loss RFC 5681 §3.1 starts with one segment, Linux too once the SYN
        // was lost more than once, and leaves a single loss unpunished.
        let start = CongestionStart {
            now,
            mss,
            cwnd: if syn_timeouts > 1 { mss } else { config.initial_window as usize * mss },
            // Where earlier connections to the host had to slow down (`tcp_init_metrics` in Linux).
            ssthresh: path.metrics.ssthresh.map_or(usize::MAX, |segments| segments as usize * mss),
            hystart: config.hystart,
            srtt: rtt.srtt().unwrap_or_default(),
            sack: negotiated.sack,
            seed: seed(snd_una, rcv_nxt),
        };
        let mut connection = Box::new(Self {
            state: State::Established,
            config: Arc::clone(config),
            snd: Sender::new(now, snd, config, pool),
            rcv: Receiver::new(now, rcv, config),
            size,
            rtt,
            recovery: Recovery::new(negotiated.sack, snd_una),
            cc: options.congestion.start(&start),
            timers: Timers::default(),
            pacer: Pacer::new(now),
            ts: negotiated.ts,
            ecn: None,
            events: Events::WRITABLE,
            completion: Completion::Running,
            error: None,
            soft_error: None,
            reset: None,
            probe: None,
            persist_count: 0,
            persist_since: None,
            keepalive_count: 0,
            created: now,
            last_received: now,
            last_challenge: None,
            read_shut: false,
            orphan: false,
            writing: Writing::No,
            push: false,
            room: Room::AsBefore,
            chrono: Chrono::default(),
            counters: Counters::default(),
            passive: None,
            fast_open: FastOpenNotes::default(),
            error_was_reset: false,
            options,
        });
        let cwnd = connection.cc.cwnd();
        connection.snd.tune(cwnd);
        connection.arm_keepalive(now);
        connection
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The earliest time at which [`Connection::on_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ack = match self.rcv.ack.due() {
            crate::tcp::receive::Due::At(at) => Some(at),
            _ => None,
        };
        let timers = [self.timers.next(), ack, self.recovery.reorder_timer, self.pacer.deadline()];
        timers.into_iter().chain([self.syn_ack_deadline()]).flatten().min()
    }

    /// What happened since the last call. To be asked after [`Connection::poll_transmit`].
    pub fn take_events(&mut self) -> Events {
        match std::mem::replace(&mut self.room, Room::AsBefore) {
            Room::AsBefore => {}
            Room::Sent => self.notice_room(),
            Room::Acked => {
                self.grow_send_buffer();
                self.notice_room();
            }
        }
        std::mem::take(&mut self.events)
    }

    /// What poll(2) would say now.
    pub fn readiness(&self) -> Events {
        let mut ready = Events::NONE;
        let dead = self.state == State::Closed;
        if self.error.is_some() {
            ready |= Events::ERROR | Events::READABLE | Events::WRITABLE;
        }
        let read_closed = self.read_closed();
        if !self.rcv.buffer.is_empty() || read_closed {
            ready |= Events::READABLE;
        }
        if read_closed {
            ready |= Events::READ_CLOSED;
        }
        let write_closed = !self.state.can_send();
        if write_closed {
            ready |= Events::WRITE_CLOSED;
        }
        if write_closed || dead || self.snd.is_writable(self.notsent_lowat()) {
            ready |= Events::WRITABLE;
        }
        if dead {
            ready |= Events::HANGUP;
        }
        ready
    }

    /// Whether a read finds the end of the stream once the queue is empty.
    fn read_closed(&self) -> bool {
        self.read_shut || !self.state.can_receive()
    }

    /// Takes the pending error (`SO_ERROR`).
    pub fn take_error(&mut self) -> Option<TcpError> {
        self.error.take()
    }

    /// Moves received bytes into `bufs`, filled in order. Zero means the end of the stream.
    ///
    /// # Errors
    /// [`TcpError::WouldBlock`] if nothing is here yet; once, the error that ended the connection.
    pub fn read(&mut self, now: Instant, bufs: &mut [IoSliceMut<'_>]) -> Result<usize, TcpError> {
        let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
        if self.rcv.buffer.is_empty() {
            return self.nothing_to_read();
        }
        let n = self.rcv.buffer.read(bufs);
        debug_assert!(n > 0 || wanted == 0);
        self.after_read(now, n);
        Ok(n)
    }

    /// Copies received bytes and leaves them queued (`MSG_PEEK`).
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn peek(&mut self, bufs: &mut [IoSliceMut<'_>]) -> Result<usize, TcpError> {
        if self.rcv.buffer.is_empty() {
            return self.nothing_to_read();
        }
        Ok(self.rcv.buffer.peek(bufs))
    }

    /// Takes the first received chunk without a copy; none means the end of the stream.
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub fn read_chunk(&mut self, now: Instant) -> Result<Option<Chunk>, TcpError> {
        let Some(chunk) = self.rcv.buffer.pop_chunk() else {
            return self.nothing_to_read().map(|_| None);
        };
        self.after_read(now, chunk.len());
        Ok(Some(chunk))
    }

    fn nothing_to_read(&mut self) -> Result<usize, TcpError> {
        // What the peer sent ended with its FIN; a reset that came after it is for the writer
        // (SOCK_DONE in Linux's tcp_recvmsg).
        if self.rcv.fin_taken() {
            return Ok(0);
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.read_closed() { Ok(0) } else { Err(TcpError::WouldBlock) }
    }

    /// Reading makes room: the peer must hear of it, and an acknowledgment that waited for the user
    /// to answer need wait no longer once all was read (Linux's `tcp_cleanup_rbuf`).
    fn after_read(&mut self, now: Instant, n: usize) {
        let announce = self.rcv.on_read(now, n);
        let owed = self.rcv.ack.due() != crate::tcp::receive::Due::No;
        let unacked = self.rcv.rcv_nxt.since(self.rcv.last_ack_sent());
        let overdue = owed && unacked > self.rcv.rcv_mss();
        if (announce || overdue) && self.state.can_receive() {
            self.rcv.ack.now();
        }
        if n > 0 && self.rcv.buffer.is_empty() {
            self.rcv.ack.on_all_read();
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
        if done == 0 {
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            if !self.state.can_send() {
                return Err(TcpError::BrokenPipe);
            }
        }
        let wanted = bufs.iter().map(|buf| buf.len()).sum::<usize>().saturating_sub(done);
        if wanted == 0 {
            return Ok(Written { bytes: 0, go_on: false });
        }
        if done == 0 {
            self.note_app_limited();
        }
        let (mss, lowat) = (self.current_mss(now), self.notsent_lowat());
        let bytes = self.snd.write(bufs, done, mss, lowat);
        self.writing = if flags.more { Writing::More } else { Writing::No };
        if bytes == 0 {
            self.snd.wants_room = true;
            if done == 0 {
                return Err(TcpError::WouldBlock);
            }
            // What follows is not going to follow at once.
            self.writing = Writing::No;
            self.snd.push();
            return Ok(Written { bytes: 0, go_on: false });
        }
        self.push = false;
        self.chrono.start(now, Holds::Network);
        if bytes < wanted {
            self.writing = Writing::Filled;
            if self.snd.push_is_due() {
                self.snd.push();
            }
            return Ok(Written { bytes, go_on: true });
        }
        if !flags.more || self.snd.push_is_due() {
            self.snd.push();
        }
        if flags.end_of_record {
            self.snd.buffer.seal();
        }
        Ok(Written { bytes, go_on: false })
    }

    /// `TCP_NOTSENT_LOWAT` as it counts, in bytes.
    pub(super) fn notsent_lowat(&self) -> usize {
        self.options.notsent_lowat.unwrap_or(self.config.notsent_lowat)
    }

    /// Sends what is queued, whatever Nagle's algorithm, `TCP_CORK` and `MSG_MORE` say: what setting
    /// `TCP_NODELAY` does, even if it was set before.
    pub fn push(&mut self) {
        self.push = self.snd.unsent() > 0;
    }

    /// Marks what is in flight if there was room for more and nothing to send: its acknowledgments
    /// will not tell the path's rate (draft-ietf-ccwg-bbr §4.1.1.3). To be asked before something
    /// changes what there is to send.
    pub(super) fn note_app_limited(&mut self) {
        let pipe = self.recovery.pipe(self.snd.mss);
        let idle = self.snd.unsent() < self.snd.mss && self.recovery.board.lost() == 0;
        if idle && pipe < self.cc.cwnd() {
            self.recovery.board.rate.mark_app_limited(pipe);
        }
    }

    /// Shuts one or both directions down (RFC 9293 §3.6, shutdown(2)). Shutting reading down sends
    /// nothing.
    ///
    /// # Errors
    /// [`TcpError::NotConnected`] if the connection is over, also in TIME-WAIT.
    pub fn shutdown(&mut self, _now: Instant, how: Shutdown) -> Result<(), TcpError> {
        // As in Linux, where TIME-WAIT no longer belongs to the socket.
        if matches!(self.state, State::Closed | State::TimeWait) {
            return Err(TcpError::NotConnected);
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.read_shut = true;
            self.events |= Events::READABLE | Events::READ_CLOSED;
        }
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            self.queue_fin();
        }
        Ok(())
    }

    fn queue_fin(&mut self) {
        if let Some(next) = self.state.next(Input::Close) {
            self.snd.queue_fin();
            self.state = next;
            self.writing = Writing::No;
            self.events |= Events::WRITE_CLOSED | Events::WRITABLE;
        }
    }

    /// The last handle is gone. What was written is still delivered, and then a FIN; unless bytes
    /// are here that nobody will read, or `SO_LINGER` is zero: then the peer gets a reset at once
    /// (RFC 9293 SHLD-3, RFC 2525 §2.17).
    pub fn close(&mut self, now: Instant) {
        self.orphan = true;
        if self.state == State::Closed {
            return;
        }
        let unread = !self.rcv.buffer.is_empty();
        if unread || self.options.linger == Some(Duration::ZERO) {
            self.rcv.discard();
            match self.state {
                // There is nobody left to tell.
                State::TimeWait => {}
                // RFC 9293 §3.10.5: both sides have said that they are done, and the peer has all.
                State::Closing | State::LastAck if !unread && self.snd.fin_sent() => self.enter_closed(None),
                _ => self.abort(now),
            }
            return;
        }
        self.read_shut = true;
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

    /// In FIN-WAIT-2 without a user: a record waits for the peer's FIN, unless `TCP_LINGER2` is zero.
    pub(super) fn wait_for_fin(&mut self, now: Instant) {
        if self.options.linger2 == Some(Duration::ZERO) {
            self.abort(now);
        } else {
            self.leave_record();
        }
    }

    /// Ends the connection with a reset; nothing more is delivered.
    pub fn abort(&mut self, now: Instant) {
        if self.state == State::Closed {
            return;
        }
        let known_to_peer = self.state.is_synchronized() || self.state == State::SynReceived;
        if known_to_peer && self.state != State::TimeWait {
            self.reset = Some(self.reset_segment(now));
        }
        self.enter_closed(None);
    }

    /// The reset that ends this connection on the peer's side.
    pub(super) fn reset_segment(&self, now: Instant) -> Segment {
        Segment {
            seq: self.snd.snd_nxt.min(self.snd.window_end().max(self.snd.snd_una)).wire(),
            ack: self.rcv.rcv_nxt.wire(),
            flags: Flags::RST.with(Flags::ACK),
            window: 0,
            urgent: 0,
            options: Options { timestamps: self.ts.map(|ts| ts.option(now)), ..Options::default() },
            ecn: Ecn::NotEct,
            payload_len: 0,
            gso_size: None,
        }
    }

    /// The connection is over, because of `error` if it is not the user's own doing.
    pub(super) fn enter_closed(&mut self, error: Option<TcpError>) {
        if let Some(next) = self.state.next(Input::Abort) {
            self.state = next;
            self.suspect_lone_fin();
        }
        if error.is_some() {
            self.error = error;
            self.events |= Events::ERROR;
        }
        self.timers.stop_all();
        self.pacer.stop();
        self.rcv.ack.cancel();
        self.recovery.clear();
        self.snd.buffer.clear();
        self.snd.fin = None;
        self.probe = None;
        self.completion = Completion::Closed;
        self.events |=
            Events::HANGUP | Events::READABLE | Events::WRITABLE | Events::READ_CLOSED | Events::WRITE_CLOSED;
    }

    /// Nothing is left to do but to answer the peer's stray segments.
    pub(super) fn leave_record(&mut self) {
        self.suspect_lone_fin();
        self.timers.stop_all();
        self.completion = self.completion.max(Completion::TimeWait);
    }

    /// How much of the connection the stack still needs, once what is left to send has been sent.
    pub fn completion(&self) -> Completion {
        self.completion
    }

    /// The record that takes the connection's place at [`Completion::TimeWait`]: in TIME-WAIT, and in
    /// FIN-WAIT-2 where no user is left.
    pub fn time_wait(&self, now: Instant) -> TimeWait {
        TimeWait::of(self, now)
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
        if old.congestion != self.options.congestion {
            self.change_congestion(now);
        }
        let keepalive_changed = old.keepalive != self.options.keepalive
            || old.keepalive_time != self.options.keepalive_time
            || old.keepalive_interval != self.options.keepalive_interval;
        if keepalive_changed {
            self.keepalive_count = 0;
            self.timers.stop(Timer::Keepalive);
            self.arm_keepalive(now);
        }
        self.notice_room();
    }

    /// Another algorithm takes over the window and the threshold as they are.
    fn change_congestion(&mut self, now: Instant) {
        let start = CongestionStart {
            now,
            mss: self.snd.mss,
            cwnd: self.cc.cwnd(),
            ssthresh: self.cc.ssthresh(),
            hystart: self.config.hystart,
            srtt: self.rtt.srtt().unwrap_or_default(),
            sack: self.recovery.has_sack(),
            seed: seed(self.snd.snd_una, self.rcv.rcv_nxt),
        };
        self.cc = self.options.congestion.start(&start);
    }

    /// `TCP_QUICKACK`: acknowledge at once, or wait for company. Not permanent (tcp(7)).
    pub fn set_quickack(&mut self, on: bool) {
        self.rcv.ack.set_quick(on);
    }

    /// Whether segments are acknowledged at once at the moment.
    pub fn quickack(&self) -> bool {
        self.rcv.ack.quick_mode()
    }

    /// What the send queue counts for against `SO_SNDBUF`, in bytes (`SK_MEMINFO_WMEM_QUEUED`).
    pub fn send_queue_cost(&self) -> usize {
        self.snd.buffer.cost()
    }

    /// Bytes that were written and never sent (`SIOCOUTQNSD`).
    pub fn unsent(&self) -> usize {
        self.snd.unsent()
    }

    /// Bytes that were written and are not acknowledged (`SIOCOUTQ`), the FIN included.
    pub fn unacked(&self) -> usize {
        let fin_out = self.snd.fin.is_some() && !self.snd.fin_acked() && self.state.fin_outstanding();
        self.snd.buffer.len() + usize::from(fin_out)
    }

    /// Bytes that can be read (`SIOCINQ`).
    pub fn unread(&self) -> usize {
        self.rcv.buffer.len()
    }

    /// Whether no user holds the connection.
    pub fn is_orphan(&self) -> bool {
        self.orphan
    }
}

/// Chance for congestion control. The numbers that both ends chose at random are all that is needed:
/// two connections seldom have the same, and nobody gains by guessing when a probe begins.
fn seed(una: Seq, rcv_nxt: Seq) -> u64 {
    (u64::from(una.wire().raw()) << 32) | u64::from(rcv_nxt.wire().raw())
}
