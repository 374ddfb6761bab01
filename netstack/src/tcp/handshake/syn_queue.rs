//! The passive side of the handshake: one small entry for each connection that is half open, so that
//! a flood of SYNs costs entries and never connections (RFC 4987 §3.5), or, with
//! [cookies](super::syn_cookie), nothing at all.

use super::established::Established;
use super::fast_open::FastOpenNotes;
use super::offer::Offer;
use super::syn_cookie::{Carried, SynCookies, carries_ecn, numbers, recovered};
use crate::config::Config;
use crate::reasons::DropReason;
use crate::tcp::answer_limit::AnswerLimit;
use crate::tcp::backoff::backed_off;
use crate::tcp::ecn::{Grant, SecondSyn};
use crate::tcp::options::SocketOptions;
use crate::tcp::path::Path;
use crate::tcp::reset::reset_of_handshake;
use crate::time::{Duration, Instant};
use crate::wire::{Options, Segment, SeqNum, Timestamps};
use std::hash::Hash;

/// A connection in SYN-RECEIVED that a listener waits for.
#[derive(Clone, Debug)]
pub struct SynEntry {
    /// Our initial sequence number.
    iss: SeqNum,
    /// The peer's.
    irs: SeqNum,
    /// What its SYN offered.
    theirs: Offered,
    /// What our SYN-ACK offers.
    offer: Offer,
    ecn: Grant,
    /// Time-outs so far.
    timeouts: u8,
    /// When the first SYN-ACK was sent; in the far future if that is not known.
    sent_at: Instant,
    /// When the last one was sent.
    last_sent_at: Instant,
    deadline: Instant,
    /// Answers to stray segments.
    answers: AnswerLimit,
    /// Whether the peer has acknowledged our SYN, and waits for us rather than we for it.
    acked: bool,
    /// Whether somebody has to decide before anything is answered.
    held: bool,
}

/// What a SYN offered, as far as it matters after the SYN-ACK: options have much else.
#[derive(Clone, Copy, Debug)]
struct Offered {
    mss: Option<u16>,
    window_scale: Option<u8>,
    sack_permitted: bool,
    timestamps: Option<Timestamps>,
}

impl Offered {
    fn of(syn: &Options) -> Self {
        let Options { mss, window_scale, sack_permitted, timestamps, .. } = *syn;
        Self { mss, window_scale, sack_permitted, timestamps }
    }

    fn options(self) -> Options {
        let Self { mss, window_scale, sack_permitted, timestamps } = self;
        Options { mss, window_scale, sack_permitted, timestamps, ..Options::default() }
    }
}

/// What a new [`SynEntry`] is made for, and with.
#[derive(Clone, Copy, Debug)]
pub struct SynParts<'a> {
    /// The offset of our timestamp clock.
    pub ts_offset: u32,
    /// The way to the peer.
    pub path: Path,
    /// The listener's options.
    pub options: &'a SocketOptions,
    /// The stack's settings.
    pub config: &'a Config,
}

/// What both ends of a simultaneous open have said.
#[derive(Debug)]
pub(super) struct CrossedSyns {
    pub(super) iss: SeqNum,
    pub(super) irs: SeqNum,
    /// What the peer's SYN offered.
    pub(super) theirs: Options,
    pub(super) offer: Offer,
    /// Time-outs so far.
    pub(super) timeouts: u32,
    /// When our SYN was sent.
    pub(super) sent_at: Instant,
    pub(super) deadline: Instant,
}

/// How often a listener at the moment repeats what its half-open connections do not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynRetries {
    /// Retransmissions of the SYN-ACK after which an entry is forgotten.
    pub limit: u32,
    /// `TCP_DEFER_ACCEPT` in retransmissions: until then the peer's bare acknowledgment is not enough.
    pub defer_accept: u8,
}

impl SynRetries {
    /// Those of a listener with room, and without `TCP_DEFER_ACCEPT`.
    pub fn new(config: &Config) -> Self {
        Self { limit: config.synack_retries, defer_accept: 0 }
    }
}

/// What a segment did to a [`SynEntry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SynStep {
    /// Nothing: it is dropped, for this reason.
    Ignore(DropReason),
    /// Nothing, because a stray segment was answered a moment ago.
    Skip,
    /// The acknowledgment of our SYN came without data, which the listener wants to see first.
    Defer,
    /// The SYN came again: the SYN-ACK must be sent again.
    Repeat(Segment),
    /// It is dropped, for this reason, and this acknowledgment must be sent in answer.
    Acknowledge(Segment, DropReason),
    /// The segment must be answered as one of no connection (RFC 9293 §3.10.7.2).
    Reset,
    /// The same, and the entry must be removed: the peer contradicts itself.
    Abort,
    /// The peer gave up: remove the entry.
    Remove,
    /// The handshake is complete: [`Connection::accept`](crate::tcp::Connection::accept) makes the
    /// connection.
    Establish,
}

/// What a time-out did to a [`SynEntry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SynTimeout {
    /// It was not due yet.
    Nothing,
    /// Time passed, and there is nothing to send.
    Wait,
    /// Send this SYN-ACK again.
    Retransmit(Segment),
    /// The peer does not answer: remove the entry.
    GiveUp,
}

impl SynEntry {
    /// The entry for a SYN, to be answered with the initial sequence number `iss`.
    pub fn new(now: Instant, syn: &Segment, iss: SeqNum, parts: SynParts<'_>) -> Self {
        Self { ecn: Grant::new(syn, parts.config), ..Self::with(now, iss, syn.seq, &syn.options, parts) }
    }

    /// Without ECN.
    fn with(now: Instant, iss: SeqNum, irs: SeqNum, theirs: &Options, parts: SynParts<'_>) -> Self {
        let SynParts { ts_offset, path, options, config } = parts;
        Self {
            iss,
            irs,
            offer: Offer::new(path, options, ts_offset, Some(theirs), config),
            theirs: Offered::of(theirs),
            ecn: Grant::Nothing,
            timeouts: 0,
            sent_at: now,
            last_sent_at: now,
            deadline: now + config.rto_initial,
            answers: AnswerLimit::default(),
            acked: false,
            held: false,
        }
    }

    /// The entry of a simultaneous open: no listener waits for it.
    pub(super) fn of_crossed_syns(crossed: CrossedSyns) -> Self {
        let CrossedSyns { iss, irs, theirs, offer, timeouts, sent_at, deadline } = crossed;
        Self {
            iss,
            irs,
            theirs: Offered::of(&theirs),
            offer,
            ecn: Grant::Nothing,
            timeouts: u8::try_from(timeouts).unwrap_or(u8::MAX),
            sent_at,
            last_sent_at: sent_at,
            deadline,
            answers: AnswerLimit::default(),
            acked: false,
            held: false,
        }
    }

    /// The SYN-ACK that answers a SYN with a cookie; none if `cookies` lacks a secret. Nothing is to
    /// be kept of it.
    pub fn cookie_syn_ack(
        now: Instant,
        flow: &impl Hash,
        syn: &Segment,
        cookies: &SynCookies,
        parts: SynParts<'_>,
    ) -> Option<Segment> {
        let mss = syn.options.mss.unwrap_or_else(|| parts.path.default_mss());
        let iss = cookies.make(now, flow, syn.seq, mss, parts.path.ipv6)?;
        let mut theirs = syn.options.clone();
        if theirs.timestamps.is_none() || !parts.config.timestamps {
            // There is nothing for them to ride in (tcp_clear_options in Linux).
            theirs = Options { mss: theirs.mss, ..Options::default() };
        }
        // A cookie has one bit for ECN, and in it what is short of AccECN.
        let ecn = Grant::new(syn, parts.config).in_cookie(theirs.timestamps.is_some());
        let carried = Carried::of(&theirs, ecn != Grant::Nothing);
        let mut syn_ack = Self { ecn, ..Self::with(now, iss, syn.seq, &theirs, parts) }.syn_ack(now);
        if let Some(ours) = &mut syn_ack.options.timestamps {
            let clock = ours.tsval.wrapping_sub(parts.ts_offset);
            ours.tsval = carried.stamp(clock).wrapping_add(parts.ts_offset);
        }
        Some(syn_ack)
    }

    /// The entry that a cookie stands for. `ack` brought it back, and [`SynCookies::check`] found it
    /// good and the peer's `mss` in it. It is complete at once:
    /// [`Connection::accept`](crate::tcp::Connection::accept) is next.
    pub fn from_cookie(now: Instant, ack: &Segment, mss: u16, parts: SynParts<'_>) -> Self {
        let (irs, iss) = numbers(ack);
        let echo = ack.options.timestamps.filter(|_| parts.config.timestamps);
        let theirs = recovered(mss, echo, parts.ts_offset);
        // When the SYN-ACK left is not known: no sample of the round trip.
        let ecn = Grant::from_cookie(carries_ecn(echo, parts.ts_offset), parts.config);
        Self { sent_at: Instant::FAR_FUTURE, ecn, ..Self::with(now, iss, irs, &theirs, parts) }
    }

    /// Offers a window of `bytes` at most, before the SYN-ACK is sent.
    pub fn limit_window(&mut self, bytes: usize) {
        self.offer.limit_window(bytes);
    }

    /// What was granted to the peer about ECN.
    pub(super) fn ecn(&self) -> Grant {
        self.ecn
    }

    /// Our initial sequence number.
    pub fn iss(&self) -> SeqNum {
        self.iss
    }

    /// When the first SYN-ACK was sent, if that is known.
    fn first_sent_at(&self) -> Option<Instant> {
        Some(self.sent_at).filter(|at| *at != Instant::FAR_FUTURE)
    }

    /// Whether no time-out has passed yet.
    pub fn is_young(&self) -> bool {
        self.timeouts == 0
    }

    /// The SYN-ACK.
    pub fn syn_ack(&self, now: Instant) -> Segment {
        let mut syn_ack = self.offer.syn_ack(now, self.iss, self.irs, &self.theirs.options());
        self.ecn.apply(&mut syn_ack);
        syn_ack
    }

    /// The reset with which we refuse the connection: as for a SYN to a port without a listener, or
    /// after a SYN-ACK in its sequence.
    pub fn reset(&self) -> Segment {
        let seq = if self.held { SeqNum::default() } else { self.iss + 1 };
        reset_of_handshake(seq, self.irs)
    }

    /// Answers nothing until [`SynEntry::release`], and until `deadline` at most: the peer repeats its
    /// SYN meanwhile.
    pub fn hold(&mut self, deadline: Instant) {
        self.held = true;
        self.deadline = deadline;
    }

    /// Goes on with the handshake after [`SynEntry::hold`]: the SYN-ACK.
    pub fn release(&mut self, now: Instant, config: &Config) -> Segment {
        self.held = false;
        self.sent_at = now;
        self.last_sent_at = now;
        self.deadline = now + config.rto_initial;
        self.syn_ack(now)
    }

    /// The MSS that the SYN-ACK offers, in bytes.
    pub fn advertised_mss(&self) -> usize {
        self.offer.advertised_mss()
    }

    /// The handshake's round-trip time if it ends now and Karn's rule lets us use it.
    pub(super) fn rtt(&self, now: Instant) -> Option<Duration> {
        self.first_sent_at().filter(|_| self.timeouts == 0).map(|sent_at| now - sent_at)
    }

    /// Time-outs so far.
    pub(super) fn timeouts(&self) -> u32 {
        self.timeouts.into()
    }

    /// When [`SynEntry::on_timeout`] has something to do.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// No answer came in time (reqsk_timer_handler and syn_ack_recalc in Linux).
    pub fn on_timeout(&mut self, now: Instant, retries: SynRetries, config: &Config) -> SynTimeout {
        if now < self.deadline {
            return SynTimeout::Nothing;
        }
        let defer = u32::from(retries.defer_accept);
        let deferring = self.acked && defer > 0;
        let timeouts = self.timeouts();
        if self.held || (timeouts >= retries.limit && !(deferring && timeouts < defer)) {
            return SynTimeout::GiveUp;
        }
        // Who has acknowledged the SYN-ACK and is to send data need not be asked again, but once,
        // before the time for it is over: the answer is then enough.
        let resend = !deferring || timeouts + 1 >= defer;
        self.timeouts = self.timeouts.saturating_add(1);
        self.deadline = now + backed_off(config, self.timeouts());
        if !resend {
            return SynTimeout::Wait;
        }
        self.ecn.on_timeout(self.timeouts(), config);
        self.last_sent_at = now;
        SynTimeout::Retransmit(self.syn_ack(now))
    }

    /// A segment came for the entry (RFC 9293 §3.10.7.4 as far as SYN-RECEIVED goes, in the order of
    /// tcp_check_req in Linux).
    pub fn on_segment(
        &mut self,
        now: Instant,
        seg: &Segment,
        retries: SynRetries,
        config: &Config,
    ) -> SynStep {
        if self.held {
            return self.while_held(seg);
        }
        let rcv_nxt = self.irs + 1;
        let old = self.is_old(now, seg);
        if seg.is_syn() && !seg.is_ack() && !seg.is_rst() && seg.seq == self.irs && !old {
            if self.ecn.on_second_syn(seg, config) == SecondSyn::Contradiction {
                return SynStep::Abort;
            }
            // Our SYN-ACK was lost or is slow. The time-out starts again, but is not shorter for it.
            return self.answer(now, seg, config, |entry| {
                entry.deadline = now + backed_off(config, entry.timeouts());
                entry.last_sent_at = now;
                SynStep::Repeat(entry.syn_ack(now))
            });
        }
        // A reset counts by its sequence number (RFC 9293 §3.10.7.4, second).
        if seg.is_ack() && !seg.is_rst() && seg.ack != self.iss + 1 {
            return SynStep::Reset;
        }
        // First: sequence number, PAWS, and whether an echo is of a timestamp that we sent.
        let forged = self.echoes_nonsense(seg);
        if old || forged || !self.in_window(seg) {
            let reason = match (old, forged) {
                (true, _) => DropReason::TcpRfc7323Paws,
                (_, true) => DropReason::TcpRfc7323Tsecr,
                _ => DropReason::TcpOverwindow,
            };
            return if seg.is_rst() {
                SynStep::Ignore(DropReason::TcpReset)
            } else {
                self.challenge(now, seg, config, reason)
            };
        }
        if let (Some(recent), Some(ts)) = (&mut self.theirs.timestamps, seg.options.timestamps)
            && !rcv_nxt.before(seg.seq)
        {
            recent.tsval = ts.tsval;
        }
        // Second: RST. RFC 5961 §3.2: elsewhere in the window than at RCV.NXT it may be forged. Linux
        // takes any RST in the window here.
        if seg.is_rst() {
            return if seg.seq == rcv_nxt {
                SynStep::Remove
            } else {
                self.challenge(now, seg, config, DropReason::TcpReset)
            };
        }
        // Fourth: SYN. RFC 5961 §4.2; Linux resets the entry.
        if seg.is_syn() && seg.seq != self.irs {
            return self.challenge(now, seg, config, DropReason::TcpInvalidSyn);
        }
        if !seg.is_ack() {
            return SynStep::Ignore(DropReason::TcpFlags);
        }
        let bare = seg.seq + seg.len() as u32 == rcv_nxt;
        if bare && self.timeouts < retries.defer_accept {
            self.acked = true;
            return SynStep::Defer;
        }
        SynStep::Establish
    }

    /// While somebody decides, repeated SYNs are absorbed.
    fn while_held(&mut self, seg: &Segment) -> SynStep {
        if seg.is_rst() {
            return if seg.seq == self.irs + 1 {
                SynStep::Remove
            } else {
                SynStep::Ignore(DropReason::TcpReset)
            };
        }
        if seg.is_syn() && !seg.is_ack() && seg.seq == self.irs {
            // The answer will echo the latest time: it says nothing of the wait.
            if let (Some(recent), Some(ts)) = (&mut self.theirs.timestamps, seg.options.timestamps) {
                recent.tsval = ts.tsval;
            }
        }
        SynStep::Ignore(DropReason::SynHeld)
    }

    /// The connection is complete and cannot be taken now: the peer's next segment, or its answer to
    /// the repeated SYN-ACK, gives it another chance.
    pub fn postpone(&mut self) {
        self.acked = true;
    }

    /// Whether some of the segment lies in the window that the SYN-ACK offered (RFC 9293 §3.10.7.4).
    fn in_window(&self, seg: &Segment) -> bool {
        let (rcv_nxt, window) = (self.irs + 1, self.offer.window() as u32);
        let end = seg.seq + seg.len() as u32;
        if seg.seq.before(rcv_nxt) {
            return rcv_nxt.before(end);
        }
        seg.seq - rcv_nxt < window || (seg.seq == rcv_nxt + window && seg.is_empty())
    }

    /// PAWS against the latest timestamp (RFC 7323 §5.3).
    fn is_old(&self, now: Instant, seg: &Segment) -> bool {
        let ts = self.offer.agree(now, &self.theirs.options()).ts;
        ts.zip(seg.options.timestamps).is_some_and(|(ts, option)| ts.is_old(now, option.tsval))
    }

    /// Whether the echo in `seg` is of a timestamp that none of our SYN-ACKs carried (`tsecr_reject` in
    /// Linux's tcp_check_req). Zero is no echo.
    fn echoes_nonsense(&self, seg: &Segment) -> bool {
        let (Some(first), Some(_)) = (self.first_sent_at(), self.theirs.timestamps) else { return false };
        let echo = seg.options.timestamps.filter(|ts| ts.tsecr != 0);
        echo.is_some_and(|ts| !self.offer.echoes(ts.tsecr, first, self.last_sent_at))
    }

    /// An acknowledgment that says what we expect (RFC 5961 §7 limits it).
    fn challenge(&mut self, now: Instant, seg: &Segment, config: &Config, reason: DropReason) -> SynStep {
        self.answer(now, seg, config, |entry| {
            let ack = entry.offer.acknowledgment(now, entry.iss, entry.irs, &entry.theirs.options());
            SynStep::Acknowledge(ack, reason)
        })
    }

    /// Answers a stray segment unless one was answered a moment ago. What carries text or a FIN is answered
    /// always, as it is no answer to an answer (tcp_oow_rate_limited in Linux).
    fn answer(
        &mut self,
        now: Instant,
        seg: &Segment,
        config: &Config,
        with: impl FnOnce(&mut Self) -> SynStep,
    ) -> SynStep {
        let unlimited = !seg.is_empty() && !seg.is_syn();
        if unlimited || self.answers.take(now, config.challenge_ack_interval) {
            with(self)
        } else {
            SynStep::Skip
        }
    }

    /// What the handshake found out, after [`SynStep::Establish`] for `seg`.
    pub(in crate::tcp) fn established(&self, now: Instant, seg: &Segment, config: &Config) -> Established {
        // Karn: which of several SYN-ACKs was acknowledged is not known; nor, once the peer's
        // acknowledgment was put off, how long it took.
        let certain = self.timeouts == 0 && !self.acked;
        let negotiated = self.offer.agree(now, &self.theirs.options());
        Established {
            snd_wnd: negotiated.peer_scale.from_wire(seg.window),
            negotiated,
            rtt: self.first_sent_at().filter(|_| certain).map(|sent_at| now - sent_at),
            syn_timeouts: if self.acked { 0 } else { self.timeouts() },
            ecn: self.ecn.on_ack(seg, config),
            ..self.established_by_syn(now, 0)
        }
    }

    /// What is known once the SYN was received, which offers a window of `snd_wnd` bytes. That is never
    /// scaled (RFC 7323 §2.2).
    pub(in crate::tcp) fn established_by_syn(&self, now: Instant, snd_wnd: usize) -> Established {
        Established {
            iss: self.iss,
            irs: self.irs,
            path: self.offer.path(),
            negotiated: self.offer.agree(now, &self.theirs.options()),
            snd_wnd,
            offered: self.offer.window(),
            rtt: None,
            syn_timeouts: 0,
            ecn: None,
            fast_open: FastOpenNotes::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<SynEntry>() <= 144, "{}", size_of::<SynEntry>());
    }
}
