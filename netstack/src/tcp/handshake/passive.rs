//! Fast Open from the server's side (RFC 7413 §4.2.2): a connection that exists from the SYN on,
//! because the SYN brought a good cookie. It is in SYN-RECEIVED, its user may read what the SYN
//! carried and answer it, and what is left of the handshake goes on beside that.

use super::syn_queue::{SynEntry, SynRetries, SynStep, SynTimeout};
use crate::config::Config;
use crate::tcp::ecn::{EcnState, SecondSyn};
use crate::time::{Duration, Instant};
use crate::wire::{FastOpenOption, Segment, SeqNum};

/// What a connection in SYN-RECEIVED needs for its handshake.
#[derive(Debug)]
pub(in crate::tcp) struct PassiveOpen {
    /// The SYN-ACK and its time-outs.
    entry: SynEntry,
    /// What the SYN-ACK acknowledges: the SYN and its data.
    ack: SeqNum,
    /// A fresh cookie for the first SYN-ACK, if the client's was an old one.
    option: Option<FastOpenOption>,
    /// Whether the SYN-ACK must be sent.
    due: bool,
    /// Whether a user holds the connection.
    accepted: bool,
    /// The third segment has come: this is only kept until the stack has taken note of it.
    over: bool,
}

/// How the wait for the third segment of a Fast Open handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassiveEnd {
    /// It came, or the connection was closed on this side or timed out.
    Done,
    /// The peer reset the connection, which a user held already. Forgers of addresses cause such
    /// resets (RFC 7413 §5.1).
    Reset,
}

/// What the third segment of the handshake brought.
#[derive(Debug)]
pub(in crate::tcp) struct ThirdSegment {
    /// ECN, if both ends agreed on it.
    pub(in crate::tcp) ecn: Option<Box<EcnState>>,
    /// How long the answer to the SYN-ACK took, if Karn's rule lets us use it.
    pub(in crate::tcp) rtt: Option<Duration>,
}

/// What a time-out of the SYN-ACK means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum PassiveTimeout {
    /// Nothing yet.
    Wait,
    /// It must be sent again.
    Retransmit {
        /// How often it timed out.
        timeouts: u32,
    },
    /// The peer does not answer.
    GiveUp,
}

impl PassiveOpen {
    /// Waits for the answer to the SYN-ACK of `entry`, which acknowledges everything before `ack` and
    /// carries `option`.
    pub(in crate::tcp) fn new(entry: SynEntry, ack: SeqNum, option: Option<FastOpenOption>) -> Box<Self> {
        Box::new(Self { entry, ack, option, due: true, accepted: false, over: false })
    }

    /// Whether the third segment has not come.
    pub(in crate::tcp) fn is_open(&self) -> bool {
        !self.over
    }

    /// Whether a user holds the connection.
    pub(in crate::tcp) fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// A user holds the connection now.
    pub(in crate::tcp) fn on_accepted(&mut self) {
        self.accepted = true;
    }

    /// How the wait ended that is over; `by_reset` says that the peer reset the connection.
    pub(in crate::tcp) fn end(&self, by_reset: bool) -> PassiveEnd {
        if !self.over && self.accepted && by_reset { PassiveEnd::Reset } else { PassiveEnd::Done }
    }

    /// The SYN-ACK, if it must be sent.
    pub(in crate::tcp) fn next_syn_ack(&self, now: Instant) -> Option<Segment> {
        if !self.due || self.over {
            return None;
        }
        let mut segment = self.entry.syn_ack(now);
        segment.ack = self.ack;
        segment.options.fast_open = self.option;
        if self.option.is_some() {
            // Both do not fit.
            segment.options.acc_ecn = None;
        }
        Some(segment)
    }

    /// The SYN-ACK was sent.
    pub(in crate::tcp) fn on_transmitted(&mut self) {
        self.due = false;
        // What is sent again carries no option (RFC 7413 §4.2.2).
        self.option = None;
    }

    /// The SYN came once more: its data is here already. Says whether it asks for the same.
    pub(in crate::tcp) fn on_syn(&mut self, now: Instant, seg: &Segment, config: &Config) -> SecondSyn {
        let step = self.entry.on_segment(now, seg, retries(config), config);
        self.due |= matches!(step, SynStep::Repeat(_));
        if step == SynStep::Abort { SecondSyn::Contradiction } else { SecondSyn::Answer }
    }

    /// When the SYN-ACK must be sent again.
    pub(in crate::tcp) fn deadline(&self) -> Option<Instant> {
        (!self.over).then(|| self.entry.deadline())
    }

    /// The SYN-ACK was not answered in time.
    pub(in crate::tcp) fn on_timeout(&mut self, now: Instant, config: &Config) -> PassiveTimeout {
        match self.entry.on_timeout(now, retries(config), config) {
            SynTimeout::Nothing | SynTimeout::Wait => PassiveTimeout::Wait,
            SynTimeout::GiveUp => PassiveTimeout::GiveUp,
            SynTimeout::Retransmit(_) => {
                self.due = true;
                PassiveTimeout::Retransmit { timeouts: self.entry.timeouts() }
            }
        }
    }

    /// The third segment came, and acknowledges the SYN-ACK.
    pub(in crate::tcp) fn on_third_segment(
        &mut self,
        now: Instant,
        seg: &Segment,
        config: &Config,
    ) -> ThirdSegment {
        self.over = true;
        self.due = false;
        ThirdSegment { ecn: self.entry.ecn().on_ack(seg, config), rtt: self.entry.rtt(now) }
    }

    /// Whether `seq` is of the SYN-ACK, or of what follows it up to `snd_nxt`, and the third segment is
    /// not here.
    pub(in crate::tcp) fn covers(&self, seq: SeqNum, snd_nxt: SeqNum) -> bool {
        let iss = self.entry.iss();
        !self.over && seq - iss < snd_nxt - iss
    }
}

/// One retransmission more than usual, as in Linux: a user may depend on the connection already.
fn retries(config: &Config) -> SynRetries {
    SynRetries { limit: config.synack_retries + 1, defer_accept: 0 }
}
