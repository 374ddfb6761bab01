//! What the handshake says of ECN: ours when we open, the peer's when we listen.

use super::accurate::{Accurate, initial_option, reflect};
use super::state::{EcnMode, EcnState};
use crate::config::{Config, EcnNegotiation, EcnOption};
use crate::wire::{Ecn, Flags, Segment};

/// What our SYN asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) struct Ask(EcnMode);

impl Ask {
    /// What `tcp_ecn` says for active opens.
    pub(in crate::tcp) fn new(config: &Config) -> Self {
        Self(match config.ecn {
            EcnNegotiation::Classic | EcnNegotiation::ClassicAcceptAccurate => EcnMode::Classic,
            EcnNegotiation::Accurate => EcnMode::Accurate,
            EcnNegotiation::Off | EcnNegotiation::Accept | EcnNegotiation::AcceptAccurate => EcnMode::Off,
        })
    }

    /// The flags of a SYN that asks (RFC 3168 §6.1.1, RFC 9768 §3.1.1).
    pub(in crate::tcp) fn flags(self) -> Flags {
        match self.0 {
            EcnMode::Off => Flags::default(),
            EcnMode::Classic => Flags::ECE.with(Flags::CWR),
            EcnMode::Accurate => Flags::from_ace(7),
        }
    }

    /// Whether a SYN that was sent again after this many time-outs still asks. Something on the way may
    /// swallow SYNs that do (RFC 3168 §6.1.1.1); for AccECN it is tried once more, since congestion is the
    /// likelier cause (RFC 9768 §3.1.4.1).
    pub(in crate::tcp) fn survives(self, timeouts: u32, config: &Config) -> bool {
        let tries = if self.0 == EcnMode::Accurate { 2 } else { 1 };
        timeouts < tries || !config.ecn_fallback
    }

    /// What the SYN-ACK that answers it means (RFC 3168 §6.1.1, RFC 9768 §3.1.2).
    pub(in crate::tcp) fn on_syn_ack(self, syn_ack: &Segment, config: &Config) -> Option<Box<EcnState>> {
        match (self.0, syn_ack.flags.ace()) {
            (EcnMode::Off, _) => None,
            // ECE alone; with AE too it is, to who did not ask for more, the nonce of RFC 3540, which says
            // no more than that. Otherwise it is reserved, and means AccECN (RFC 9768 §3.1.3).
            (_, 0b001) | (EcnMode::Classic, 0b101) => Some(EcnState::classic()),
            // All three: a server, or something before it, that returns flags it does not know.
            (_, 0b000 | 0b111) | (EcnMode::Classic, _) => None,
            (EcnMode::Accurate, _) => Some(EcnState::accurate(Accurate::of_client(syn_ack, config))),
        }
    }
}

/// What a listener grants the sender of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(in crate::tcp) enum Grant {
    #[default]
    Nothing,
    Classic,
    /// With the ECN field that the SYN had, which the answer repeats, and whether to offer the option.
    Accurate {
        syn: Ecn,
        option: bool,
        /// Whether a SYN or a SYN-ACK of this handshake was without the three bits: the client may not be
        /// in the mode, and ECT is over for this side (RFC 9768 §3.1.5).
        plain: bool,
        /// Whether the SYN-ACK still has them.
        bits: bool,
    },
}

/// What another SYN of the same handshake says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum SecondSyn {
    /// Something that can be answered.
    Answer,
    /// RFC 3168 where AccECN was asked for before, or the other way round: neither side could know which of
    /// the two the other means (RFC 9768 §3.1.5).
    Contradiction,
}

impl Grant {
    pub(in crate::tcp) fn new(syn: &Segment, config: &Config) -> Self {
        let asked = syn.flags.ace();
        if config.ecn.accepts_accurate() && !matches!(asked, 0b000 | 0b011) {
            // RFC 9768 §3.1.3: combinations that mean nothing yet are granted like the one that does.
            let option = config.ecn_option != EcnOption::Never;
            return Self::Accurate { syn: syn.ecn, option, plain: false, bits: true };
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
    pub(in crate::tcp) fn in_cookie(self, with_timestamp: bool) -> Self {
        if self == Self::Nothing || !with_timestamp { Self::Nothing } else { Self::Classic }
    }

    /// What a cookie that came back says was granted.
    pub(in crate::tcp) fn from_cookie(granted: bool, config: &Config) -> Self {
        if granted && config.ecn != EcnNegotiation::Off { Self::Classic } else { Self::Nothing }
    }

    /// The SYN came again. What was granted stays; the answer goes without the option, which may be what
    /// kept the first from arriving (RFC 9768 §3.1.5 and §3.2.3.2.2).
    pub(in crate::tcp) fn on_second_syn(&mut self, second: &Segment, config: &Config) -> SecondSyn {
        let asked = second.flags.ace();
        match self {
            Self::Accurate { .. } if asked == 0b011 => return SecondSyn::Contradiction,
            Self::Classic if config.ecn.accepts_accurate() && !matches!(asked, 0b000 | 0b011) => {
                return SecondSyn::Contradiction;
            }
            Self::Accurate { syn, option, plain, .. } => {
                *syn = second.ecn;
                *option &= !config.ecn_fallback;
                *plain |= asked == 0;
            }
            Self::Nothing | Self::Classic => {}
        }
        SecondSyn::Answer
    }

    /// The SYN-ACK was not answered in time, for the time of this number: the option goes first, the bits
    /// next (RFC 9768 §3.2.3.2.2).
    pub(in crate::tcp) fn on_timeout(&mut self, timeouts: u32, config: &Config) {
        if let Self::Accurate { option, plain, bits, .. } = self
            && config.ecn_fallback
        {
            *option = false;
            *bits &= timeouts < 2;
            *plain |= !*bits;
        }
    }

    /// Completes a SYN-ACK.
    pub(in crate::tcp) fn apply(self, syn_ack: &mut Segment) {
        match self {
            Self::Nothing => {}
            Self::Classic => syn_ack.flags = syn_ack.flags.with(Flags::ECE),
            Self::Accurate { bits: false, .. } => {}
            Self::Accurate { syn, option, .. } => {
                syn_ack.flags = syn_ack.flags.with(Flags::from_ace(reflect(syn)));
                syn_ack.options.acc_ecn = option.then(initial_option);
            }
        }
    }

    /// The state of the connection, `ack` being the segment that completed the handshake.
    pub(in crate::tcp) fn on_ack(self, ack: &Segment, config: &Config) -> Option<Box<EcnState>> {
        match self {
            Self::Nothing => None,
            Self::Classic => Some(EcnState::classic()),
            Self::Accurate { plain, .. } => Some(EcnState::accurate(Accurate::of_server(ack, plain, config))),
        }
    }
}
