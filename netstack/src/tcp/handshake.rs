//! Opening a connection: what SYNs offer, what both ends agree on, and the active side of the
//! handshake. The passive side is in [`syn_queue`](super::syn_queue).

use super::connection::{Connection, Established};
use super::error::TcpError;
use super::options::SocketOptions;
use super::path::Path;
use super::receiver::window_limit;
use super::segment::{Flags, Options, Segment, Timestamps};
use super::seq::SeqNum;
use super::state::{Input, State};
use super::timestamps::{TimestampState, clock};
use super::window::WindowScale;
use crate::buffer::{Chunk, Pool};
use crate::config::Config;
use crate::time::{Duration, Instant};
use std::sync::Arc;

/// What our SYN or SYN-ACK offers.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) path: Path,
    /// The MSS that we advertise.
    pub(super) advertised_mss: usize,
    /// The window of the SYN, in bytes. It is never scaled (RFC 7323 §2.2).
    pub(super) window: usize,
    scale: Option<WindowScale>,
    sack: bool,
    timestamps: bool,
    /// Offset of our timestamp clock.
    ts_offset: u32,
    min_mss: usize,
}

impl Offer {
    pub(super) fn new(path: Path, options: &SocketOptions, ts_offset: u32, config: &Config) -> Self {
        let limit = options.max_segment_size.map_or(usize::MAX, usize::from);
        let advertised_mss = path.max_segment().min(limit);
        let size = options.recv_buffer_size.unwrap_or(config.recv_buffer_initial);
        let clamp = options.window_clamp.unwrap_or(usize::MAX);
        let most = window_limit(size).min(clamp).min(usize::from(u16::MAX));
        // Whole segments, as Linux offers: a partial one could never be used.
        let window = if most > advertised_mss { most / advertised_mss * advertised_mss } else { most };
        let largest = options.recv_buffer_size.unwrap_or(config.recv_buffer_max).min(clamp);
        Self {
            path,
            advertised_mss,
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
    pub(super) fn syn(&self, now: Instant, iss: SeqNum) -> Segment {
        self.segment(iss, SeqNum::default(), Flags::SYN, self.options(now, None))
    }

    /// The SYN-ACK that answers a SYN with the number `irs` and the options `syn`.
    pub(super) fn syn_ack(&self, now: Instant, iss: SeqNum, irs: SeqNum, syn: &Options) -> Segment {
        self.segment(iss, irs + 1, Flags::SYN.with(Flags::ACK), self.options(now, Some(syn)))
    }

    /// An acknowledgment while nothing but SYNs has passed; `theirs` are the options of the peer's SYN.
    pub(super) fn acknowledgment(&self, now: Instant, iss: SeqNum, irs: SeqNum, theirs: &Options) -> Segment {
        let agreed = self.agree(now, theirs);
        let timestamps = agreed.ts.map(|ts| ts.option(now));
        let window = agreed.our_scale.to_wire(self.window);
        let options = Options { timestamps, ..Options::default() };
        Segment { window, ..self.segment(iss + 1, irs + 1, Flags::ACK, options) }
    }

    /// A reset that answers a SYN with the number `irs`.
    pub(super) fn reset(&self, seq: SeqNum, irs: SeqNum) -> Segment {
        let flags = Flags::RST.with(Flags::ACK);
        Segment { window: 0, ..self.segment(seq, irs + 1, flags, Options::default()) }
    }

    fn segment(&self, seq: SeqNum, ack: SeqNum, flags: Flags, options: Options) -> Segment {
        let window = u16::try_from(self.window).unwrap_or(u16::MAX);
        Segment { seq, ack, flags, window, urgent: 0, options, payload_len: 0, gso_size: None }
    }

    /// What holds once the peer's SYN or SYN-ACK with `theirs` is known.
    pub(super) fn agree(&self, now: Instant, theirs: &Options) -> Negotiated {
        let scales = self.scale.zip(theirs.window_scale);
        let peer_mss = usize::from(theirs.mss.unwrap_or_else(|| self.path.default_mss()));
        let ts = theirs
            .timestamps
            .filter(|_| self.timestamps)
            .map(|ts| TimestampState::new(now, self.ts_offset, ts.tsval));
        Negotiated {
            // RFC 9293 MUST-16, and Linux's floor against peers that would have us send a header
            // for every few bytes (tcp_min_snd_mss).
            max_segment: peer_mss.min(self.advertised_mss).max(self.min_mss),
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
pub(super) struct Negotiated {
    /// The largest segment to send, without regard to options.
    pub(super) max_segment: usize,
    /// The MSS that we advertised.
    pub(super) advertised_mss: usize,
    pub(super) our_scale: WindowScale,
    pub(super) peer_scale: WindowScale,
    pub(super) sack: bool,
    pub(super) ts: Option<TimestampState>,
}

/// An active open: SYN-SENT, and SYN-RECEIVED after a simultaneous open.
#[derive(Debug)]
pub struct Opening {
    state: State,
    /// Our initial sequence number.
    iss: SeqNum,
    offer: Offer,
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
    /// It goes on, and this segment must be sent.
    Reply(Segment),
    /// It failed.
    Failed(TcpError),
    /// The connection stands. Ask [`Connection::poll_transmit`]: the handshake's last segment is owed.
    Established(Box<Connection>),
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
            options,
            config: Arc::clone(config),
            pool: Arc::clone(pool),
            peer: None,
            due: true,
            timeouts: 0,
            sent_at: now,
            deadline: now + config.rto_initial,
        }
    }

    /// SYN-SENT or SYN-RECEIVED.
    pub fn state(&self) -> State {
        self.state
    }

    /// When [`Opening::on_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.deadline)
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
            None => self.offer.syn(now, self.iss),
            Some(peer) => self.offer.syn_ack(now, self.iss, peer.irs, &peer.options),
        })
    }

    /// The segment that was due is sent.
    pub fn on_transmitted(&mut self) {
        self.due = false;
    }

    /// No answer came in time: the SYN is sent again, up to `TCP_SYNCNT` times.
    pub fn on_timeout(&mut self, now: Instant) -> Option<TcpError> {
        if now < self.deadline {
            return None;
        }
        if self.timeouts >= self.options.syn_retries {
            return Some(TcpError::TimedOut);
        }
        if let Some(limit) = self.options.user_timeout
            && now - self.sent_at >= limit
        {
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
            _ => self.in_syn_sent(now, seg),
        }
    }

    fn in_syn_sent(&mut self, now: Instant, seg: &Segment) -> OpeningStep {
        // First: ACK. Our SYN carries no data, so only one number is right.
        let acks_syn = seg.is_ack() && seg.ack == self.iss + 1;
        if seg.is_ack() && !acks_syn {
            return match seg.reset_for_unknown() {
                Some(reset) => OpeningStep::Reply(reset),
                None => OpeningStep::Stay,
            };
        }
        // Second: RST; it counts only with the acknowledgment (RFC 5961 §3.2).
        if seg.is_rst() {
            return if acks_syn { OpeningStep::Failed(TcpError::Refused) } else { OpeningStep::Stay };
        }
        // Fourth: SYN.
        if !seg.is_syn() {
            return OpeningStep::Stay;
        }
        let peer = PeerSyn { irs: seg.seq, options: seg.options.clone(), window: usize::from(seg.window) };
        if acks_syn {
            self.state = self.state.next(Input::SynAck).expect("SYN-SENT takes a SYN-ACK");
            let mut connection = self.establish(now, &peer, peer.window);
            if self.options.defer_accept > 0 {
                // Data is to follow that can carry it, and a listener that defers as well would drop
                // a bare one (tcp_rcv_synsent_state_process in Linux).
                connection.rcv.ack.delay(now);
            } else {
                connection.rcv.ack.now_urgently();
            }
            return OpeningStep::Established(connection);
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
        let acks_syn = seg.is_ack() && seg.ack == self.iss + 1;
        if seg.is_rst() {
            let exact = seg.seq == rcv_nxt;
            self.peer = Some(peer);
            return if exact { OpeningStep::Failed(TcpError::Refused) } else { OpeningStep::Stay };
        }
        // The other end's SYN-ACK repeats its SYN: its number is one before the window.
        let crossing_syn_ack = seg.is_syn() && seg.seq == peer.irs && acks_syn;
        if !crossing_syn_ack && (seg.is_syn() || !in_window) {
            self.peer = Some(peer);
            self.due = true;
            return OpeningStep::Stay;
        }
        if !acks_syn {
            self.peer = Some(peer);
            return match seg.reset_for_unknown() {
                Some(reset) if seg.is_ack() => OpeningStep::Reply(reset),
                _ => OpeningStep::Stay,
            };
        }
        self.state = self.state.next(Input::AckOfSyn).expect("SYN-RECEIVED takes the ACK of its SYN");
        let window = if crossing_syn_ack {
            usize::from(seg.window)
        } else {
            self.offer.agree(now, &peer.options).peer_scale.from_wire(seg.window)
        };
        let mut connection = self.establish(now, &peer, window);
        if crossing_syn_ack {
            connection.rcv.ack.now_urgently();
        } else {
            connection.on_segment(now, seg, payload);
        }
        OpeningStep::Established(connection)
    }

    fn establish(&self, now: Instant, peer: &PeerSyn, snd_wnd: usize) -> Box<Connection> {
        let from = Established {
            iss: self.iss,
            irs: peer.irs,
            path: self.offer.path,
            negotiated: self.offer.agree(now, &peer.options),
            snd_wnd,
            offered: self.offer.window,
            rtt: (self.timeouts == 0).then(|| now - self.sent_at),
            syn_was_lost: self.timeouts > 0,
        };
        Connection::new(now, from, self.options.clone(), &self.config, &self.pool)
    }

    /// The reset that tells the other end of a simultaneous open that we gave up; in SYN-SENT
    /// nobody needs to be told.
    pub fn reset(&self) -> Option<Segment> {
        self.peer.as_ref().map(|peer| self.offer.reset(self.iss + 1, peer.irs))
    }
}

/// The time to wait after the `n`th time-out of a SYN or SYN-ACK: doubled each time.
pub(super) fn backed_off(config: &Config, n: u32) -> Duration {
    let factor = 1u32.checked_shl(n).unwrap_or(u32::MAX);
    config.rto_initial.saturating_mul(factor).min(config.rto_max)
}
