//! Explicit congestion notification: routers mark packets instead of dropping them (RFC 3168), and the
//! receiver says how many were marked (AccECN, RFC 9768).
//!
//! The handshake agrees on one of the two, or on neither: [`Ask`] is what our SYN says, [`Grant`] what a
//! listener answers to one, and [`EcnState`] what a connection then has, which has two halves. As
//! receiver it looks at the ECN field of what arrives and says which segments want an acknowledgment at
//! once; as sender it reads what the peer reports and says whether to slow down. The settings are
//! Linux's `tcp_ecn` and its relatives.

mod accurate;

use crate::wire::AccEcn;
use crate::wire::Ecn;
use accurate::{Accurate, initial_option};

use crate::config::{Config, EcnNegotiation, EcnOption};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Segment};

/// What a connection agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EcnMode {
    /// Nothing: congestion shows as loss.
    #[default]
    Off,
    /// RFC 3168: one echo for each round trip.
    Classic,
    /// RFC 9768: counters.
    Accurate,
}

/// What our SYN asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask(EcnMode);

impl Ask {
    /// What `tcp_ecn` says for active opens.
    pub(super) fn new(config: &Config) -> Self {
        Self(match config.ecn {
            EcnNegotiation::Classic | EcnNegotiation::ClassicAcceptAccurate => EcnMode::Classic,
            EcnNegotiation::Accurate => EcnMode::Accurate,
            EcnNegotiation::Off | EcnNegotiation::Accept | EcnNegotiation::AcceptAccurate => EcnMode::Off,
        })
    }

    /// The flags of a SYN that asks (RFC 3168 §6.1.1, RFC 9768 §3.1.1).
    pub(super) fn flags(self) -> Flags {
        match self.0 {
            EcnMode::Off => Flags::default(),
            EcnMode::Classic => Flags::ECE.with(Flags::CWR),
            EcnMode::Accurate => Flags::from_ace(7),
        }
    }

    /// What the SYN-ACK that answers it means (RFC 3168 §6.1.1, RFC 9768 §3.1.2).
    pub(super) fn on_syn_ack(self, syn_ack: &Segment, config: &Config) -> Option<Box<EcnState>> {
        let mode = match (self.0, syn_ack.flags.ace()) {
            (EcnMode::Off, _) => return None,
            // ECE alone; with AE too it is the nonce of RFC 3540, which says no more than that.
            (_, 0b001 | 0b101) => Mode::Classic(Classic::default()),
            // All three: a server, or something before it, that returns flags it does not know.
            (_, 0b000 | 0b111) | (EcnMode::Classic, _) => return None,
            (EcnMode::Accurate, _) => Mode::Accurate(Accurate::of_client(syn_ack, config)),
        };
        Some(Box::new(EcnState { mode, seen: false }))
    }
}

/// What a listener grants the sender of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Grant {
    #[default]
    Nothing,
    Classic,
    /// With the ECN field that the SYN had, which the answer repeats, and whether to offer the option.
    Accurate {
        syn: Ecn,
        option: bool,
    },
}

impl Grant {
    pub(super) fn new(syn: &Segment, config: &Config) -> Self {
        let asked = syn.flags.ace();
        if config.ecn.accepts_accurate() && !matches!(asked, 0b000 | 0b011) {
            // RFC 9768 §3.1.3: combinations that mean nothing yet are granted like the one that does.
            return Self::Accurate { syn: syn.ecn, option: config.ecn_option != EcnOption::Never };
        }
        // tcp_ecn_create_request in Linux: a classic SYN has no ECT (RFC 3168 §6.1.1). One that does is
        // granted nothing, unless AE shows that it asks for more than that.
        let sound = syn.ecn == Ecn::NotEct || syn.flags.contains(Flags::AE);
        let classic =
            syn.flags.contains(Flags::ECE.with(Flags::CWR)) && config.ecn != EcnNegotiation::Off && sound;
        if classic { Self::Classic } else { Self::Nothing }
    }

    /// What can be granted where nothing is kept but a cookie: RFC 3168 at most, and only if the
    /// timestamp can carry it, as in Linux.
    pub(super) fn in_cookie(self, with_timestamp: bool) -> Self {
        if self == Self::Nothing || !with_timestamp { Self::Nothing } else { Self::Classic }
    }

    /// What a cookie that came back says was granted.
    pub(super) fn from_cookie(granted: bool, config: &Config) -> Self {
        if granted && config.ecn != EcnNegotiation::Off { Self::Classic } else { Self::Nothing }
    }

    /// Completes a SYN-ACK.
    pub(super) fn apply(self, syn_ack: &mut Segment) {
        match self {
            Self::Nothing => {}
            Self::Classic => syn_ack.flags = syn_ack.flags.with(Flags::ECE),
            Self::Accurate { syn, option } => {
                syn_ack.flags = syn_ack.flags.with(Flags::from_ace(accurate::reflect(syn)));
                syn_ack.options.acc_ecn = option.then(initial_option);
            }
        }
    }

    /// The state of the connection, `ack` being the segment that completed the handshake.
    pub(super) fn on_ack(self, ack: &Segment, config: &Config) -> Option<Box<EcnState>> {
        let mode = match self {
            Self::Nothing => return None,
            Self::Classic => Mode::Classic(Classic::default()),
            Self::Accurate { .. } => Mode::Accurate(Accurate::of_server(ack, config)),
        };
        Some(Box::new(EcnState { mode, seen: false }))
    }
}

/// ECN of a connection that agreed on it.
#[derive(Debug)]
pub(super) struct EcnState {
    mode: Mode,
    /// Whether anything came that was marked as capable.
    seen: bool,
}

#[derive(Debug)]
enum Mode {
    Classic(Classic),
    Accurate(Accurate),
}

/// RFC 3168.
#[derive(Debug, Default)]
struct Classic {
    /// A mark came: every acknowledgment says so until the sender answers with CWR (§6.1.3).
    demand_cwr: bool,
    /// The window was reduced: the next new data says so (§6.1.2).
    queue_cwr: bool,
}

/// What an arriving segment asks of the acknowledgments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckNeed {
    /// Nothing special.
    None,
    /// This one and the next few at once: the sender's window may be too small for delays.
    Quick,
    /// At once, with others of the batch.
    Now,
    /// At once and on its own: the next segment's would hide it.
    Alone,
}

/// What an acknowledgment did, for those who count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feedback {
    /// Bytes newly acknowledged or SACKed.
    pub(super) delivered: usize,
    pub(super) mss: usize,
}

impl EcnState {
    pub(super) fn mode(&self) -> EcnMode {
        match self.mode {
            Mode::Classic(_) => EcnMode::Classic,
            Mode::Accurate(_) => EcnMode::Accurate,
        }
    }

    /// Whether anything came that was marked as capable (`TCPI_OPT_ECN_SEEN`).
    pub(super) fn seen(&self) -> bool {
        self.seen
    }

    /// CE marks that the peer reported so far: packets with AccECN, none otherwise.
    pub(super) fn delivered_ce(&self) -> u32 {
        match &self.mode {
            Mode::Classic(_) => 0,
            Mode::Accurate(accurate) => accurate.delivered_ce(),
        }
    }

    /// CE marks that came: packets with AccECN, none otherwise.
    pub(super) fn received_ce(&self) -> u32 {
        match &self.mode {
            Mode::Classic(_) => 0,
            Mode::Accurate(accurate) => accurate.received_ce(),
        }
    }

    /// A segment of the connection arrived.
    pub(super) fn on_received(&mut self, seg: &Segment) -> AckNeed {
        let seen_before = self.seen;
        self.seen |= seg.ecn != Ecn::NotEct && (seg.payload_len > 0 || self.mode() == EcnMode::Accurate);
        match &mut self.mode {
            Mode::Classic(_) if seg.payload_len == 0 => AckNeed::None,
            Mode::Classic(classic) => classic.on_data(seg, seen_before),
            Mode::Accurate(accurate) => accurate.on_received(seg),
        }
    }

    /// An acceptable acknowledgment arrived. Whether it reports marks that were not known yet.
    pub(super) fn on_feedback(&mut self, seg: &Segment, feedback: Feedback) -> bool {
        match &mut self.mode {
            Mode::Classic(_) => seg.flags.contains(Flags::ECE),
            Mode::Accurate(accurate) => accurate.on_feedback(seg, feedback),
        }
    }

    /// The congestion window was reduced, for whatever reason (RFC 3168 §6.1.2).
    pub(super) fn on_reduced(&mut self) {
        if let Mode::Classic(classic) = &mut self.mode {
            classic.queue_cwr = true;
        }
    }

    /// The flags of the next segment; `new_data` if it carries text for the first time.
    pub(super) fn flags(&self, new_data: bool) -> Flags {
        match &self.mode {
            Mode::Classic(classic) => {
                let echo = if classic.demand_cwr { Flags::ECE } else { Flags::default() };
                if classic.queue_cwr && new_data { echo.with(Flags::CWR) } else { echo }
            }
            Mode::Accurate(accurate) => Flags::from_ace(accurate.ace()),
        }
    }

    /// The ECN field of new data. Everything else that is sent (acknowledgments, retransmissions,
    /// probes) has none (RFC 3168 §6.1.4 to 6.1.6).
    pub(super) fn field(&self) -> Ecn {
        match &self.mode {
            Mode::Accurate(accurate) if !accurate.sends_ect() => Ecn::NotEct,
            _ => Ecn::Ect0,
        }
    }

    /// Whether `new_data` must leave as one segment: a device that cuts super-segments leaves CWR to the
    /// first only (RFC 3168 §6.1.2 wants it in one; as a digit of a counter it would be lost in the
    /// others).
    pub(super) fn one_by_one(&self, new_data: bool) -> bool {
        self.flags(new_data).contains(Flags::CWR)
    }

    /// The option of the next segment; `crowded` if SACK blocks need the room.
    pub(super) fn option(&self, now: Instant, srtt: Duration, crowded: bool) -> Option<AccEcn> {
        match &self.mode {
            Mode::Classic(_) => None,
            Mode::Accurate(accurate) => accurate.option(now, srtt, crowded),
        }
    }

    /// A segment with these flags was sent.
    pub(super) fn on_sent(&mut self, now: Instant, segment: &Segment) {
        match &mut self.mode {
            Mode::Classic(classic) => classic.queue_cwr &= !segment.flags.contains(Flags::CWR),
            Mode::Accurate(accurate) => accurate.on_sent(now, segment.options.acc_ecn.is_some()),
        }
    }
}

impl Classic {
    /// `tcp_data_ecn_check` and `tcp_ecn_accept_cwr` in Linux.
    fn on_data(&mut self, seg: &Segment, seen: bool) -> AckNeed {
        let mut need = AckNeed::None;
        if seg.flags.contains(Flags::CWR) {
            self.demand_cwr = false;
            // Its window may be a single segment now.
            need = AckNeed::Now;
        }
        match seg.ecn {
            Ecn::Ce if !self.demand_cwr => {
                self.demand_cwr = true;
                AckNeed::Quick
            }
            // Without ECT where there was some before: probably a retransmission.
            Ecn::NotEct if seen && need == AckNeed::None => AckNeed::Quick,
            _ => need,
        }
    }
}
