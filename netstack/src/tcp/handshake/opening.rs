//! The active side of the handshake. The passive side is in [`syn_queue`](super::syn_queue).

use super::established::Established;
use super::fast_open::{FastOpenNotes, FastOpenReport, SynDataFate};
use super::offer::Offer;
use super::syn_data::{FastOpenAttempt, SynData};
use super::syn_queue::{CrossedSyns, SynEntry};
use crate::buffer::{Chunk, Pool};
use crate::config::Config;
use crate::memory::block;
use crate::reasons::{DropReason, EndReason, ResetReason};
use crate::tcp::answer_limit::AnswerLimit;
use crate::tcp::backoff::{backed_off, modelled_time};
use crate::tcp::connection::{Connection, SynDataSent};
use crate::tcp::ecn::{Ask, EcnState};
use crate::tcp::error::TcpError;
use crate::tcp::options::SocketOptions;
use crate::tcp::path::{Path, payload_of};
use crate::tcp::receive::FirstAck;
use crate::tcp::reset::{Reset, reset_of_handshake};
use crate::tcp::setup::Setup;
use crate::tcp::state::{Input, State};
use crate::time::{Duration, Instant};
use crate::wire::{Options, Segment, SeqNum};
use std::io::IoSlice;
use std::net::Shutdown;
use std::sync::Arc;

/// When a SYN is sent again that met an old connection (TCP_TIMEOUT_MIN: two ticks of Linux's clock).
const SOON: Duration = Duration::from_millis(2);

/// An active open: SYN-SENT, and SYN-RECEIVED after a simultaneous open.
#[derive(Debug)]
pub struct Opening {
    state: State,
    /// Our initial sequence number.
    iss: SeqNum,
    offer: Offer,
    /// What the SYN asks for.
    ecn: Ask,
    options: SocketOptions,
    config: Arc<Config>,
    /// Memory for what the connection will send.
    pool: Arc<Pool>,
    /// The peer's SYN, once it came without an acknowledgment of ours.
    peer: Option<PeerSyn>,
    due: Due,
    /// Time-outs so far.
    timeouts: u32,
    /// Answers to stray segments.
    answers: AnswerLimit,
    /// When the SYN was first sent.
    sent_at: Instant,
    deadline: Instant,
    /// Fast Open, if it was asked for.
    fast_open: Option<Box<SynData>>,
    /// What the user asked of the connection before it stood.
    after: After,
}

/// What must be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// The SYN, or the SYN-ACK if SYNs have crossed.
    Syn,
    /// An acknowledgment of the peer's SYN, in answer to what is out of place.
    Ack,
}

/// Calls of the user that wait for the connection.
#[derive(Clone, Copy, Debug, Default)]
struct After {
    shut_read: bool,
    shut_write: bool,
    close: bool,
    writer_waits: bool,
}

/// What to remember of the peer's SYN.
#[derive(Debug)]
struct PeerSyn {
    irs: SeqNum,
    options: Options,
    /// The window that it offers, in bytes.
    window: usize,
}

/// What a segment did to an [`Opening`].
#[derive(Debug)]
pub enum OpeningStep {
    /// It goes on. Ask [`Opening::poll_transmit`]: the other end's SYN wants an answer.
    Stay,
    /// It goes on. The segment is dropped, for this reason.
    Ignore(DropReason),
    /// It goes on. The segment is dropped, and this reset must be sent in answer.
    Reset(Reset),
    /// It failed, since the other end refused it.
    Refused,
    /// It failed, since the other end, which had begun to connect as well, gave up.
    ResetByPeer,
    /// The connection stands. Ask [`Connection::poll_transmit`]: the handshake's last segment is owed.
    /// Where Fast Open was tried, what it found out.
    Established(Box<Connection>, Option<FastOpenReport>),
}

impl Opening {
    /// Offers a window of `bytes` at most, before the SYN is sent.
    pub fn limit_window(&mut self, bytes: usize) {
        self.offer.limit_window(bytes);
    }

    /// Its memory, in bytes.
    pub fn memory(&self) -> usize {
        block(size_of::<Self>()) + self.fast_open.as_ref().map_or(0, |syn_data| syn_data.memory())
    }

    /// An active open with the initial sequence number `iss`, and `ts_offset` as the offset of our
    /// timestamp clock.
    pub fn new(now: Instant, iss: SeqNum, ts_offset: u32, path: Path, setup: Setup<'_>) -> Self {
        let Setup { options, config, pool } = setup;
        Self {
            state: State::SynSent,
            iss,
            offer: Offer::new(path, options, ts_offset, None, config),
            ecn: Ask::new(config),
            options: options.clone(),
            config: Arc::clone(config),
            pool: Arc::clone(pool),
            peer: None,
            due: Due::Syn,
            answers: AnswerLimit::default(),
            timeouts: 0,
            sent_at: now,
            deadline: now + config.rto_initial,
            fast_open: None,
            after: After::default(),
        }
    }

    /// Uses Fast Open. Call it before the first [`Opening::poll_transmit`].
    #[must_use]
    pub fn with_fast_open(mut self, attempt: FastOpenAttempt) -> Self {
        let path = self.offer.path();
        let limit = payload_of(path.pmtu, path.ipv6).min(self.offer.advertised_mss());
        let syn_data = SynData::new(attempt, limit);
        self.due = if syn_data.is_waiting() { Due::Nothing } else { Due::Syn };
        self.fast_open = Some(Box::new(syn_data));
        self
    }

    /// Whether no SYN was sent yet, since the first write is to leave with it.
    pub fn is_deferred(&self) -> bool {
        self.fast_open.as_ref().is_some_and(|syn_data| syn_data.is_waiting())
    }

    /// The first write of a deferred open: says how much of it leaves with the SYN. The rest is for
    /// the connection.
    ///
    /// # Errors
    /// [`TcpError::WouldBlock`] once a SYN was sent.
    pub fn write(&mut self, now: Instant, bufs: &[IoSlice<'_>]) -> Result<usize, TcpError> {
        match &mut self.fast_open {
            _ if self.after.shut_write => Err(TcpError::BrokenPipe),
            Some(syn_data) if syn_data.is_waiting() => {
                let n = syn_data.write(bufs);
                self.start(now);
                Ok(n)
            }
            _ => Err(TcpError::WouldBlock),
        }
    }

    /// Shuts down what is not there yet, as soon as it is: once the peer has sent its SYN, and for users
    /// of Fast Open, to whom a connection seems to stand before it does. False otherwise: in SYN-SENT
    /// a shutdown ends the attempt (inet_shutdown in Linux).
    pub fn shutdown(&mut self, now: Instant, how: Shutdown) -> bool {
        if self.fast_open.is_none() && self.state == State::SynSent {
            return false;
        }
        self.after.shut_read |= matches!(how, Shutdown::Read | Shutdown::Both);
        self.after.shut_write |= matches!(how, Shutdown::Write | Shutdown::Both);
        if self.after.shut_write {
            self.go(now);
        }
        true
    }

    /// Somebody waits to write more than the SYN holds: what it writes can carry the acknowledgment that
    /// completes the handshake (`sk_write_pending` in Linux).
    pub fn expect_write(&mut self) {
        self.after.writer_waits = self.has_data();
    }

    /// A router could not forward our SYN for its length: `mtu` is what it takes. The SYN goes again
    /// without data at once (tcp_simple_retransmit in Linux), and the peer need not try what will
    /// not come back. Says whether the message is genuine: it must quote the SYN.
    pub fn on_packet_too_big(&mut self, seq: SeqNum, mtu: usize) -> bool {
        let carried = self.fast_open.as_ref().is_some_and(|syn_data| syn_data.sent() > 0);
        let genuine = seq == self.iss && carried && self.state == State::SynSent;
        let smaller = genuine && self.offer.on_packet_too_big(mtu);
        if smaller {
            self.due = Due::Syn;
        }
        smaller
    }

    /// Closes the connection as soon as it stands: the last handle is gone, and there is data to
    /// deliver.
    pub fn close(&mut self) {
        self.after.close = true;
    }

    /// Closes a simultaneous open that has no data to deliver: the connection that sends its FIN at once,
    /// while what is left of the handshake goes on beside it (RFC 9293 §3.10.4). None before the peer's
    /// SYN came, of which a connection could be made.
    pub fn close_in_syn_received(&self, now: Instant) -> Option<Box<Connection>> {
        let peer = self.peer.as_ref()?;
        let entry = SynEntry::of_crossed_syns(CrossedSyns {
            iss: self.iss,
            irs: peer.irs,
            theirs: peer.options.clone(),
            offer: self.offer.clone(),
            timeouts: self.timeouts,
            sent_at: self.sent_at,
            deadline: self.deadline,
        });
        let setup = Setup { options: &self.options, config: &self.config, pool: &self.pool };
        let mut connection = Connection::in_syn_received(now, entry, peer.window, setup);
        if self.due != Due::Syn {
            connection.on_syn_ack_sent();
        }
        connection.close(now);
        Some(connection)
    }

    /// Does what the user asked for meanwhile.
    fn catch_up(&self, now: Instant, connection: &mut Connection) {
        let After { shut_read, shut_write, close, writer_waits: _ } = self.after;
        for (asked, how) in [(shut_read, Shutdown::Read), (shut_write, Shutdown::Write)] {
            if asked {
                // It was established just now; if its first segment has ended it, there is nothing to do.
                let _ = connection.shutdown(how);
            }
        }
        if close {
            connection.close(now);
        }
    }

    /// Sends the SYN of a deferred open without waiting for data any longer. Nothing happens if a
    /// SYN was sent already.
    pub fn go(&mut self, now: Instant) {
        if let Some(syn_data) = self.fast_open.as_mut().filter(|syn_data| syn_data.is_waiting()) {
            syn_data.go();
            self.start(now);
        }
    }

    /// Whether a SYN with Fast Open was sent.
    pub fn used_fast_open(&self) -> bool {
        self.fast_open.as_ref().is_some_and(|syn_data| syn_data.is_gone())
    }

    /// Whether data was written that the connection will have to deliver.
    pub fn has_data(&self) -> bool {
        self.fast_open.as_ref().is_some_and(|syn_data| !syn_data.data().is_empty())
    }

    fn start(&mut self, now: Instant) {
        self.due = Due::Syn;
        self.sent_at = now;
        self.deadline = now + self.config.rto_initial;
    }

    /// Takes the suspicion that something on the way swallows SYNs for their Fast Open.
    pub fn take_fast_open_suspicion(&mut self) -> bool {
        self.fast_open.as_mut().is_some_and(|syn_data| syn_data.take_suspicion())
    }

    /// SYN-SENT or SYN-RECEIVED.
    pub fn state(&self) -> State {
        self.state
    }

    /// When [`Opening::on_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_deferred()).then_some(self.deadline)
    }

    /// The options, which the connection will inherit.
    pub fn options(&self) -> &SocketOptions {
        &self.options
    }

    /// The options, to be changed. What a SYN has offered stays offered.
    pub fn options_mut(&mut self) -> &mut SocketOptions {
        &mut self.options
    }

    /// The SYN or SYN-ACK that is due, or an acknowledgment. Call [`Opening::on_transmitted`] once it is sent.
    pub fn poll_transmit(&self, now: Instant) -> Option<Segment> {
        Some(match (self.due, &self.peer) {
            (Due::Nothing, _) => return None,
            (_, None) => {
                let mut syn = self.offer.syn(now, self.iss);
                syn.options.fast_open = self.fast_open.as_ref().and_then(|syn_data| syn_data.option());
                syn.payload_len = self.payload().len();
                if self.ecn.survives(self.timeouts, &self.config) {
                    syn.flags = syn.flags.with(self.ecn.flags());
                }
                syn
            }
            // RFC 7413 §4.2.2 leaves data out where SYNs cross; so does Linux.
            (Due::Syn, Some(peer)) => self.offer.syn_ack(now, self.iss, peer.irs, &peer.options),
            (Due::Ack, Some(peer)) => self.offer.acknowledgment(now, self.iss, peer.irs, &peer.options),
        })
    }

    /// The data of the segment that is due.
    pub fn payload(&self) -> &[u8] {
        match &self.fast_open {
            Some(syn_data) if self.peer.is_none() => syn_data.payload(),
            _ => &[],
        }
    }

    /// The segment that was due is sent.
    pub fn on_transmitted(&mut self) {
        self.due = Due::Nothing;
        if let Some(syn_data) = &mut self.fast_open {
            syn_data.on_transmitted();
        }
    }

    /// No answer came in time: the SYN is sent again, or it is over, for the reason that is returned.
    pub fn on_timeout(&mut self, now: Instant) -> Option<EndReason> {
        if now < self.deadline || self.is_deferred() {
            return None;
        }
        let waited = now - self.sent_at;
        let too_long = self.options.user_timeout.is_some_and(|limit| waited >= limit);
        let last = self.gives_up(waited) || too_long;
        if let Some(syn_data) = &mut self.fast_open {
            syn_data.on_timeout(self.timeouts, last);
        }
        if last {
            return Some(if too_long { EndReason::UserTimeout } else { EndReason::ConnectTimeout });
        }
        self.timeouts += 1;
        // As in Linux, for a SYN only: a SYN-ACK backs off from the first time-out.
        let linear = if self.state == State::SynSent { self.config.syn_linear_timeouts } else { 0 };
        self.deadline = now + backed_off(&self.config, self.timeouts.saturating_sub(linear));
        self.due = Due::Syn;
        None
    }

    /// Whether this time-out is the last, if the first SYN was sent `waited` ago. For a SYN, `TCP_SYNCNT` is a
    /// time: that which so many retransmissions take if they back off from the first one on, whether they
    /// do or not (`retransmits_timed_out` in Linux).
    fn gives_up(&self, waited: Duration) -> bool {
        let retries = self.options.syn_retries;
        if self.state == State::SynSent {
            let limit = modelled_time(retries, self.config.rto_initial, self.config.rto_max);
            self.timeouts > 0 && waited >= limit
        } else {
            self.timeouts >= retries
        }
    }

    /// An ICMP error quoted a segment of ours with the sequence number `seq`. While no connection
    /// stands it ends the attempt, as in Linux (RFC 5461 §4.1 describes why hosts do); if it is about
    /// our SYN and not forged by someone who does not see it (RFC 5927 §4.1).
    pub fn on_icmp_error(&mut self, seq: SeqNum, error: TcpError) -> Option<TcpError> {
        (seq == self.iss).then_some(error)
    }

    /// A segment came for this open (RFC 9293 §3.10.7.3).
    pub fn on_segment(&mut self, now: Instant, seg: &Segment, payload: Chunk) -> OpeningStep {
        match self.state {
            State::SynReceived => self.in_syn_received(now, seg, payload),
            _ if self.is_deferred() => OpeningStep::Ignore(DropReason::TcpClose),
            _ => self.in_syn_sent(now, seg, payload),
        }
    }

    /// Bytes of our SYN's data that `seg` acknowledges, if it acknowledges the SYN.
    fn acked_by(&self, seg: &Segment) -> Option<usize> {
        let sent = self.fast_open.as_ref().map_or(0, |syn_data| syn_data.sent());
        let acked = (seg.ack - (self.iss + 1)) as usize;
        (seg.is_ack() && acked <= sent).then_some(acked)
    }

    /// Whether the echo in `seg` is of a timestamp that none of our SYNs carried.
    fn echoes_nonsense(&self, now: Instant, seg: &Segment) -> bool {
        let echo = seg.options.timestamps.filter(|ts| ts.tsecr != 0);
        echo.is_some_and(|ts| !self.offer.echoes(ts.tsecr, self.sent_at, now))
    }

    fn in_syn_sent(&mut self, now: Instant, seg: &Segment, payload: Chunk) -> OpeningStep {
        // First: ACK, of the SYN and as much of its data as the peer likes. An answer to somebody
        // else's SYN shows by its echo, too (PAWSActiveRejected in Linux).
        let acked = self.acked_by(seg).filter(|_| !self.echoes_nonsense(now, seg));
        if seg.is_ack() && acked.is_none() {
            // It is of an old connection, which our answer ends there. The SYN that it ignored is
            // worth another try at once, as in Linux, if this is the first time.
            let of_old_one = self.acked_by(seg).is_none();
            if self.timeouts == 0 && of_old_one {
                self.deadline = self.deadline.min(now + SOON);
            }
            let reason =
                if of_old_one { ResetReason::TcpInvalidAckSequence } else { ResetReason::TcpRfc7323Paws };
            return self.reset_for(seg, reason);
        }
        // Second: RST; it counts only with the acknowledgment (RFC 5961 §3.2).
        if seg.is_rst() {
            let counts = acked.is_some();
            return if counts { OpeningStep::Refused } else { OpeningStep::Ignore(DropReason::TcpReset) };
        }
        // Fourth: SYN.
        if !seg.is_syn() {
            return OpeningStep::Ignore(DropReason::TcpFlags);
        }
        let peer = PeerSyn { irs: seg.seq, options: seg.options.clone(), window: usize::from(seg.window) };
        if let Some(acked) = acked {
            self.state = self.state.next(Input::SynAck).expect("SYN-SENT takes a SYN-ACK");
            let ecn = self.ecn.on_syn_ack(seg, &self.config);
            let (mut connection, report) = self.establish(now, &peer, peer.window, acked, ecn);
            if report.is_some_and(|report| matches!(report.data, SynDataFate::None | SynDataFate::Acked)) {
                connection.take_syn_text(now, seg, payload);
            }
            connection.acknowledge_syn(now, self.first_ack(seg));
            self.catch_up(now, &mut connection);
            return OpeningStep::Established(connection, report);
        }
        // Both ends opened at once: answer SYN with SYN-ACK.
        self.state = self.state.next(Input::Syn).expect("SYN-SENT takes a SYN");
        self.peer = Some(peer);
        self.due = Due::Syn;
        self.timeouts = 0;
        self.deadline = now + self.config.rto_initial;
        OpeningStep::Stay
    }

    /// The answer to a segment that is not of this open.
    fn reset_for(&self, seg: &Segment, reason: ResetReason) -> OpeningStep {
        let reset = Reset::answer(seg, reason);
        reset.map_or(OpeningStep::Ignore(DropReason::TcpReset), OpeningStep::Reset)
    }

    /// How to acknowledge the SYN-ACK in `seg`.
    fn first_ack(&self, seg: &Segment) -> FirstAck {
        if self.after.writer_waits {
            FirstAck::WithAnswer
        } else if self.options.defer_accept > 0 && seg.len() == 1 {
            // Data is to follow that can carry it, and a listener that defers as well would drop
            // a bare one (tcp_rcv_synsent_state_process in Linux).
            FirstAck::WithData
        } else {
            FirstAck::AtOnce
        }
    }

    fn in_syn_received(&mut self, now: Instant, seg: &Segment, payload: Chunk) -> OpeningStep {
        let Some(peer) = &self.peer else { return OpeningStep::Stay };
        let rcv_nxt = peer.irs + 1;
        // As in Linux both ends of the window are in it (see `Receiver::acceptable`).
        let in_window = !(seg.seq + seg.len() as u32).before(rcv_nxt)
            && !(rcv_nxt + self.offer.window() as u32).before(seg.seq);
        let acked = self.acked_by(seg);
        if seg.is_rst() {
            return if seg.seq == rcv_nxt {
                OpeningStep::ResetByPeer
            } else if in_window {
                // RFC 5961 §3.2.
                self.challenge(now, seg, DropReason::TcpReset)
            } else {
                OpeningStep::Ignore(DropReason::TcpReset)
            };
        }
        if !seg.is_syn() && !seg.is_ack() {
            return OpeningStep::Ignore(DropReason::TcpFlags);
        }
        // The other end's SYN-ACK repeats its SYN: its number is one before the window.
        let crossing_syn_ack = seg.is_syn() && seg.seq == peer.irs && acked.is_some();
        if seg.is_syn() && seg.seq == peer.irs && !crossing_syn_ack {
            // Our SYN-ACK was lost or is slow.
            self.due = Due::Syn;
            return OpeningStep::Stay;
        }
        let ts = self.offer.agree(now, &peer.options).ts;
        let old = ts.zip(seg.options.timestamps).is_some_and(|(ts, option)| ts.is_late(now, option.tsval));
        if old && seg.is_ack() && seg.is_empty() && seg.seq.before(rcv_nxt) {
            // As for a connection: it was overtaken, and wants no answer.
            return OpeningStep::Ignore(DropReason::TcpRfc7323Paws);
        }
        if old {
            return self.challenge(now, seg, DropReason::TcpRfc7323Paws);
        }
        if !crossing_syn_ack && (seg.is_syn() || !in_window) {
            // RFC 9293 §3.10.7.4, RFC 5961 §4.2.
            let reason =
                if seg.is_syn() { DropReason::TcpInvalidSyn } else { DropReason::TcpInvalidSequence };
            return self.challenge(now, seg, reason);
        }
        let Some(acked) = acked else {
            return self.reset_for(seg, ResetReason::TcpInvalidAckSequence);
        };
        self.state = self.state.next(Input::AckOfSyn).expect("SYN-RECEIVED takes the ACK of its SYN");
        let window = if crossing_syn_ack {
            usize::from(seg.window)
        } else {
            self.offer.agree(now, &peer.options).peer_scale.from_wire(seg.window)
        };
        let (mut connection, mut report) = self.establish(now, peer, window, acked, None);
        if crossing_syn_ack {
            connection.on_old_syn();
            // The SYN-ACK is the answer to our SYN, the SYN was none.
            if let (Some(report), Some(syn_data)) = (&mut report, &self.fast_open) {
                *report = syn_data.report(&seg.options, acked, self.timeouts > 0);
            }
        } else {
            connection.on_segment(now, seg, payload);
        }
        self.catch_up(now, &mut connection);
        OpeningStep::Established(connection, report)
    }

    /// Answers what is out of place, with the limit of tcp_oow_rate_limited in Linux (RFC 5961 §7).
    fn challenge(&mut self, now: Instant, seg: &Segment, reason: DropReason) -> OpeningStep {
        let unlimited = !seg.is_empty() && !seg.is_syn() && !seg.is_rst();
        let answer = unlimited || self.answers.take(now, self.config.challenge_ack_interval);
        if answer && self.due == Due::Nothing {
            self.due = Due::Ack;
        }
        OpeningStep::Ignore(reason)
    }

    /// The connection, and what Fast Open found out. The answer acknowledges `acked` bytes of the
    /// SYN's data.
    fn establish(
        &self,
        now: Instant,
        peer: &PeerSyn,
        snd_wnd: usize,
        acked: usize,
        ecn: Option<Box<EcnState>>,
    ) -> (Box<Connection>, Option<FastOpenReport>) {
        let lost = self.timeouts > 0;
        let syn_data = self.fast_open.as_ref();
        let from = Established {
            iss: self.iss,
            irs: peer.irs,
            path: self.offer.path(),
            negotiated: self.offer.agree(now, &peer.options),
            snd_wnd,
            offered: self.offer.window(),
            rtt: (!lost).then(|| now - self.sent_at),
            syn_timeouts: self.timeouts,
            ecn,
            fast_open: syn_data.map_or(FastOpenNotes::default(), |syn_data| syn_data.notes(acked, lost)),
        };
        let setup = Setup { options: &self.options, config: &self.config, pool: &self.pool };
        let mut connection = Connection::new(now, from, setup);
        connection.count_acked_syn();
        let report = syn_data.map(|syn_data| {
            let (data, sent) = (syn_data.data(), syn_data.sent());
            connection.take_syn_data(now, SynDataSent { data, sent, acked });
            syn_data.report(&peer.options, acked, lost)
        });
        (connection, report)
    }

    /// The reset that ends a simultaneous open at the other end when we give up; in SYN-SENT none is
    /// needed.
    pub fn reset(&self) -> Option<Segment> {
        self.peer.as_ref().map(|peer| reset_of_handshake(self.iss + 1, peer.irs))
    }
}
