//! Opening a connection: what SYNs offer, what both ends agree on, and the active side of the
//! handshake. The passive side is in [`syn_queue`](super::syn_queue).

use super::fast_open::{FastOpenReport, SynDataFate};
use super::syn_data::{FastOpenAttempt, SynData};
use crate::buffer::{Chunk, Pool};
use crate::config::Config;
use crate::tcp::connection::{Connection, Established};
use crate::tcp::ecn::Ask;
use crate::tcp::error::TcpError;
use crate::tcp::options::SocketOptions;
use crate::tcp::path::{Path, payload_of};
use crate::tcp::receive::window_limit;
use crate::tcp::state::{Input, State};
use crate::tcp::timestamps::{TimestampState, clock};
use crate::tcp::window::WindowScale;
use crate::time::{Duration, Instant};
use crate::wire::{Ecn, Flags, Options, Segment, SeqNum, Timestamps};
use std::io::IoSlice;
use std::net::Shutdown;
use std::sync::Arc;

/// What our SYN or SYN-ACK offers.
#[derive(Clone, Debug)]
pub(in crate::tcp) struct Offer {
    pub(in crate::tcp) path: Path,
    /// The MSS that we advertise.
    pub(in crate::tcp) advertised_mss: usize,
    /// The largest segment to send, whatever the peer takes: what the interface and the user allow.
    limit: usize,
    /// The window of the SYN, in bytes. It is never scaled (RFC 7323 §2.2).
    pub(in crate::tcp) window: usize,
    scale: Option<WindowScale>,
    sack: bool,
    timestamps: bool,
    /// Offset of our timestamp clock.
    ts_offset: u32,
    min_mss: usize,
}

impl Offer {
    pub(in crate::tcp) fn new(path: Path, options: &SocketOptions, ts_offset: u32, config: &Config) -> Self {
        let limit = options.max_segment_size.map_or(usize::MAX, usize::from);
        let advertised_mss = path.advertised_mss().min(limit);
        let size = options.recv_buffer_size.unwrap_or(config.recv_buffer_initial);
        let clamp = options.window_clamp.unwrap_or(usize::MAX);
        let most = window_limit(size).min(clamp).min(usize::from(u16::MAX));
        // Whole segments, as Linux offers: a partial one could never be used.
        let window = if most > advertised_mss { most / advertised_mss * advertised_mss } else { most };
        let largest = options.recv_buffer_size.unwrap_or(config.recv_buffer_max).min(clamp);
        Self {
            path,
            advertised_mss,
            limit: path.max_segment().min(limit),
            window,
            scale: config.window_scaling.then(|| WindowScale::for_window(largest)),
            sack: config.sack,
            timestamps: config.timestamps,
            ts_offset,
            min_mss: config.min_snd_mss as usize,
        }
    }

    /// The options of a SYN, or of the SYN-ACK that answers `syn`: there, only what the SYN offered
    /// (RFC 7323 §2.2 and §3.2, RFC 2018 §2).
    fn options(&self, now: Instant, syn: Option<&Options>) -> Options {
        let theirs = |offered: fn(&Options) -> bool| syn.is_none_or(offered);
        let echo = syn.and_then(|syn| syn.timestamps).map_or(0, |ts| ts.tsval);
        let timestamps = self.timestamps && theirs(|syn| syn.timestamps.is_some());
        Options {
            mss: Some(self.advertised_mss as u16),
            window_scale: self
                .scale
                .filter(|_| theirs(|syn| syn.window_scale.is_some()))
                .map(WindowScale::shift),
            sack_permitted: self.sack && theirs(|syn| syn.sack_permitted),
            timestamps: timestamps.then(|| Timestamps { tsval: clock(now, self.ts_offset), tsecr: echo }),
            ..Options::default()
        }
    }

    /// A SYN.
    pub(in crate::tcp) fn syn(&self, now: Instant, iss: SeqNum) -> Segment {
        self.segment(iss, SeqNum::default(), Flags::SYN, self.options(now, None))
    }

    /// The SYN-ACK that answers a SYN with the number `irs` and the options `syn`.
    pub(in crate::tcp) fn syn_ack(&self, now: Instant, iss: SeqNum, irs: SeqNum, syn: &Options) -> Segment {
        self.segment(iss, irs + 1, Flags::SYN.with(Flags::ACK), self.options(now, Some(syn)))
    }

    /// An acknowledgment while nothing but SYNs has passed; `theirs` are the options of the peer's SYN.
    pub(in crate::tcp) fn acknowledgment(
        &self,
        now: Instant,
        iss: SeqNum,
        irs: SeqNum,
        theirs: &Options,
    ) -> Segment {
        let agreed = self.agree(now, theirs);
        let timestamps = agreed.ts.map(|ts| ts.option(now));
        let window = agreed.our_scale.to_wire(self.window);
        let options = Options { timestamps, ..Options::default() };
        Segment { window, ..self.segment(iss + 1, irs + 1, Flags::ACK, options) }
    }

    /// A reset that answers a SYN with the number `irs`.
    pub(in crate::tcp) fn reset(&self, seq: SeqNum, irs: SeqNum) -> Segment {
        let flags = Flags::RST.with(Flags::ACK);
        Segment { window: 0, ..self.segment(seq, irs + 1, flags, Options::default()) }
    }

    fn segment(&self, seq: SeqNum, ack: SeqNum, flags: Flags, options: Options) -> Segment {
        let window = u16::try_from(self.window).unwrap_or(u16::MAX);
        Segment {
            seq,
            ack,
            flags,
            window,
            urgent: 0,
            options,
            ecn: Ecn::NotEct,
            payload_len: 0,
            gso_size: None,
        }
    }

    /// What holds once the peer's SYN or SYN-ACK with `theirs` is known.
    pub(in crate::tcp) fn agree(&self, now: Instant, theirs: &Options) -> Negotiated {
        let scales = self.scale.zip(theirs.window_scale);
        let peer_mss = usize::from(theirs.mss.unwrap_or_else(|| self.path.default_mss()));
        let ts = theirs
            .timestamps
            .filter(|_| self.timestamps)
            .map(|ts| TimestampState::new(now, self.ts_offset, ts.tsval));
        Negotiated {
            // RFC 9293 MUST-16, and Linux's floor against peers that would have us send a header
            // for every few bytes (tcp_min_snd_mss).
            max_segment: peer_mss.min(self.limit).max(self.min_mss),
            advertised_mss: self.advertised_mss,
            our_scale: scales.map_or(WindowScale::NONE, |(ours, _)| ours),
            peer_scale: scales.map_or(WindowScale::NONE, |(_, theirs)| WindowScale::from_option(theirs)),
            sack: self.sack && theirs.sack_permitted,
            ts,
        }
    }
}

/// What both ends agreed on.
#[derive(Clone, Debug)]
pub(in crate::tcp) struct Negotiated {
    /// The largest segment to send, without regard to options.
    pub(in crate::tcp) max_segment: usize,
    /// The MSS that we advertised.
    pub(in crate::tcp) advertised_mss: usize,
    pub(in crate::tcp) our_scale: WindowScale,
    pub(in crate::tcp) peer_scale: WindowScale,
    pub(in crate::tcp) sack: bool,
    pub(in crate::tcp) ts: Option<TimestampState>,
}

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
    /// Whether a SYN or SYN-ACK must be sent.
    due: bool,
    /// Time-outs so far.
    timeouts: u32,
    /// When the SYN was first sent.
    sent_at: Instant,
    deadline: Instant,
    /// Fast Open, if it was asked for.
    fast_open: Option<Box<SynData>>,
    /// What the user asked of the connection before it stood.
    after: After,
}

/// Calls of the user that wait for the connection.
#[derive(Clone, Copy, Debug, Default)]
struct After {
    shut_read: bool,
    shut_write: bool,
    close: bool,
    writer_waits: bool,
}

/// When a SYN is sent again that met an old connection (TCP_TIMEOUT_MIN: two ticks of Linux's clock).
const SOON: Duration = Duration::from_millis(2);

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
    /// It goes on, and this segment must be sent.
    Reply(Segment),
    /// It failed.
    Failed(TcpError),
    /// The connection stands. Ask [`Connection::poll_transmit`]: the handshake's last segment is owed.
    /// Where Fast Open was tried, what it found out.
    Established(Box<Connection>, Option<FastOpenReport>),
}

impl Opening {
    /// An active open with the initial sequence number `iss`; `pool` is where the connection's send
    /// buffer will take its memory from.
    pub fn new(
        now: Instant,
        iss: SeqNum,
        ts_offset: u32,
        path: Path,
        options: SocketOptions,
        config: &Arc<Config>,
        pool: &Arc<Pool>,
    ) -> Self {
        Self {
            state: State::SynSent,
            iss,
            offer: Offer::new(path, &options, ts_offset, config),
            ecn: Ask::new(config),
            options,
            config: Arc::clone(config),
            pool: Arc::clone(pool),
            peer: None,
            due: true,
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
        let path = &self.offer.path;
        let limit = payload_of(path.pmtu, path.ipv6).min(self.offer.advertised_mss);
        let syn_data = SynData::new(attempt, limit);
        self.due = !syn_data.is_waiting();
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

    /// Shuts down what is not there yet, as soon as it is: for users of Fast Open, to whom a
    /// connection seems to stand before it does.
    ///
    /// # Errors
    /// [`TcpError::WouldBlock`] without Fast Open.
    pub fn shutdown(&mut self, now: Instant, how: Shutdown) -> Result<(), TcpError> {
        if self.fast_open.is_none() {
            return Err(TcpError::WouldBlock);
        }
        self.after.shut_read |= matches!(how, Shutdown::Read | Shutdown::Both);
        self.after.shut_write |= matches!(how, Shutdown::Write | Shutdown::Both);
        if self.after.shut_write {
            self.go(now);
        }
        Ok(())
    }

    /// Somebody waits to write more than the SYN holds: what it writes can carry the acknowledgment that
    /// completes the handshake (`sk_write_pending` in Linux).
    pub fn expect_write(&mut self) {
        self.after.writer_waits = self.has_data();
    }

    /// A router could not forward our SYN for its length: `mtu` is what it takes. The SYN goes again
    /// without data at once (tcp_simple_retransmit in Linux), and the peer need not try what will
    /// not come back. Says whether the message is believed: it must quote the SYN.
    pub fn on_packet_too_big(&mut self, seq: SeqNum, mtu: usize) -> bool {
        let carried = self.fast_open.as_ref().is_some_and(|syn_data| syn_data.sent() > 0);
        if seq != self.iss || !carried || self.state != State::SynSent || mtu >= self.offer.path.pmtu {
            return false;
        }
        self.offer.path.pmtu = mtu;
        self.offer.advertised_mss = self.offer.advertised_mss.min(payload_of(mtu, self.offer.path.ipv6));
        self.due = true;
        true
    }

    /// Closes the connection as soon as it stands: the last handle is gone, and there is data to
    /// deliver.
    pub fn close(&mut self) {
        self.after.close = true;
    }

    /// Does what the user asked for meanwhile.
    fn catch_up(&self, now: Instant, connection: &mut Connection) {
        let After { shut_read, shut_write, close, writer_waits: _ } = self.after;
        for (asked, how) in [(shut_read, Shutdown::Read), (shut_write, Shutdown::Write)] {
            if asked {
                // It was established just now; if its first segment has ended it, there is nothing to do.
                let _ = connection.shutdown(now, how);
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
        self.due = true;
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

    /// The SYN or SYN-ACK that is due, if one is. Call [`Opening::on_transmitted`] once it is sent.
    pub fn poll_transmit(&self, now: Instant) -> Option<Segment> {
        self.due.then(|| match &self.peer {
            None => {
                let mut syn = self.offer.syn(now, self.iss);
                syn.options.fast_open = self.fast_open.as_ref().and_then(|syn_data| syn_data.option());
                syn.payload_len = self.payload().len();
                // RFC 3168 §6.1.1.1: something on the way may swallow SYNs that ask.
                if self.timeouts == 0 || !self.config.ecn_fallback {
                    syn.flags = syn.flags.with(self.ecn.flags());
                }
                syn
            }
            // RFC 7413 §4.2.2 leaves data out where SYNs cross; so does Linux.
            Some(peer) => self.offer.syn_ack(now, self.iss, peer.irs, &peer.options),
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
        self.due = false;
        if let Some(syn_data) = &mut self.fast_open {
            syn_data.on_transmitted();
        }
    }

    /// No answer came in time: the SYN is sent again, up to `TCP_SYNCNT` times.
    pub fn on_timeout(&mut self, now: Instant) -> Option<TcpError> {
        if now < self.deadline || self.is_deferred() {
            return None;
        }
        let waited = now - self.sent_at;
        let last = self.timeouts >= self.options.syn_retries
            || self.options.user_timeout.is_some_and(|limit| waited >= limit);
        if let Some(syn_data) = &mut self.fast_open {
            syn_data.on_timeout(self.timeouts, last);
        }
        if last {
            return Some(TcpError::TimedOut);
        }
        self.timeouts += 1;
        self.deadline = now + backed_off(&self.config, self.timeouts);
        self.due = true;
        None
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
            _ if self.is_deferred() => OpeningStep::Stay,
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
        let Some(Timestamps { tsecr, .. }) = seg.options.timestamps.filter(|ts| ts.tsecr != 0) else {
            return false;
        };
        let (first, last) = (clock(self.sent_at, self.offer.ts_offset), clock(now, self.offer.ts_offset));
        self.offer.timestamps && tsecr.wrapping_sub(first) > last.wrapping_sub(first)
    }

    fn in_syn_sent(&mut self, now: Instant, seg: &Segment, payload: Chunk) -> OpeningStep {
        // First: ACK, of the SYN and as much of its data as the peer likes. An answer to somebody
        // else's SYN shows by its echo, too (PAWSActiveRejected in Linux).
        let acked = self.acked_by(seg).filter(|_| !self.echoes_nonsense(now, seg));
        if seg.is_ack() && acked.is_none() {
            // It speaks of an old connection that our answer ends there. The SYN that it ignored is
            // worth another try at once, as in Linux, if this is the first time.
            if self.timeouts == 0 && self.acked_by(seg).is_none() {
                self.deadline = self.deadline.min(now + SOON);
            }
            return match seg.reset_for_unknown() {
                Some(reset) => OpeningStep::Reply(reset),
                None => OpeningStep::Stay,
            };
        }
        // Second: RST; it counts only with the acknowledgment (RFC 5961 §3.2).
        if seg.is_rst() {
            return if acked.is_some() { OpeningStep::Failed(TcpError::Refused) } else { OpeningStep::Stay };
        }
        // Fourth: SYN.
        if !seg.is_syn() {
            return OpeningStep::Stay;
        }
        let peer = PeerSyn { irs: seg.seq, options: seg.options.clone(), window: usize::from(seg.window) };
        if let Some(acked) = acked {
            self.state = self.state.next(Input::SynAck).expect("SYN-SENT takes a SYN-ACK");
            let (mut connection, report) = self.establish(now, &peer, peer.window, acked);
            connection.ecn = self.ecn.on_syn_ack(seg, &self.config);
            if report.is_some_and(|report| matches!(report.data, SynDataFate::None | SynDataFate::Acked)) {
                connection.take_syn_text(now, seg, payload);
            }
            if self.after.writer_waits {
                connection.rcv.ack.delay_for_answer(now);
            } else if self.options.defer_accept > 0 && seg.len() == 1 {
                // Data is to follow that can carry it, and a listener that defers as well would drop
                // a bare one (tcp_rcv_synsent_state_process in Linux).
                connection.rcv.ack.delay(now);
            } else {
                connection.rcv.ack.now_urgently();
            }
            self.catch_up(now, &mut connection);
            return OpeningStep::Established(connection, report);
        }
        // Both ends opened at once: answer SYN with SYN-ACK.
        self.state = self.state.next(Input::Syn).expect("SYN-SENT takes a SYN");
        self.peer = Some(peer);
        self.due = true;
        self.timeouts = 0;
        self.deadline = now + self.config.rto_initial;
        OpeningStep::Stay
    }

    fn in_syn_received(&mut self, now: Instant, seg: &Segment, payload: Chunk) -> OpeningStep {
        let Some(peer) = self.peer.take() else { return OpeningStep::Stay };
        let rcv_nxt = peer.irs + 1;
        let in_window = !seg.seq.before(rcv_nxt) && seg.seq - rcv_nxt <= self.offer.window as u32;
        let acked = self.acked_by(seg);
        if seg.is_rst() {
            let exact = seg.seq == rcv_nxt;
            self.peer = Some(peer);
            return if exact { OpeningStep::Failed(TcpError::Refused) } else { OpeningStep::Stay };
        }
        // The other end's SYN-ACK repeats its SYN: its number is one before the window.
        let crossing_syn_ack = seg.is_syn() && seg.seq == peer.irs && acked.is_some();
        if !crossing_syn_ack && (seg.is_syn() || !in_window) {
            self.peer = Some(peer);
            self.due = true;
            return OpeningStep::Stay;
        }
        let Some(acked) = acked else {
            self.peer = Some(peer);
            return match seg.reset_for_unknown() {
                Some(reset) if seg.is_ack() => OpeningStep::Reply(reset),
                _ => OpeningStep::Stay,
            };
        };
        self.state = self.state.next(Input::AckOfSyn).expect("SYN-RECEIVED takes the ACK of its SYN");
        let window = if crossing_syn_ack {
            usize::from(seg.window)
        } else {
            self.offer.agree(now, &peer.options).peer_scale.from_wire(seg.window)
        };
        let (mut connection, mut report) = self.establish(now, &peer, window, acked);
        if crossing_syn_ack {
            // Its SYN came a second time, and Linux says so.
            let syn = connection.rcv.rcv_nxt - 1;
            connection.rcv.report_duplicate(syn, syn + 1);
            connection.rcv.ack.now_urgently();
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

    /// The connection, and what Fast Open found out. The answer acknowledges `acked` bytes of the
    /// SYN's data.
    fn establish(
        &self,
        now: Instant,
        peer: &PeerSyn,
        snd_wnd: usize,
        acked: usize,
    ) -> (Box<Connection>, Option<FastOpenReport>) {
        let lost = self.timeouts > 0;
        let from = Established {
            iss: self.iss,
            irs: peer.irs,
            path: self.offer.path,
            negotiated: self.offer.agree(now, &peer.options),
            snd_wnd,
            offered: self.offer.window,
            rtt: (!lost).then(|| now - self.sent_at),
            syn_timeouts: self.timeouts,
        };
        let mut connection = Connection::new(now, from, self.options.clone(), &self.config, &self.pool);
        let report = self.fast_open.as_ref().map(|syn_data| {
            connection.fast_open = syn_data.notes(acked, lost);
            connection.take_syn_data(now, syn_data.data(), syn_data.sent(), acked);
            syn_data.report(&peer.options, acked, lost)
        });
        (connection, report)
    }

    /// The reset that tells the other end of a simultaneous open that we gave up; in SYN-SENT
    /// nobody needs to be told.
    pub fn reset(&self) -> Option<Segment> {
        self.peer.as_ref().map(|peer| self.offer.reset(self.iss + 1, peer.irs))
    }
}

/// The time to wait after the `n`th time-out of a SYN or SYN-ACK: doubled each time.
pub(in crate::tcp) fn backed_off(config: &Config, n: u32) -> Duration {
    let factor = 1u32.checked_shl(n).unwrap_or(u32::MAX);
    config.rto_initial.saturating_mul(factor).min(config.rto_max)
}
