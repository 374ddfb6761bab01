//! ECN of a connection that agreed on it: what it says of marks that came, and what it reads of those
//! that the peer reports.

use super::accurate::{Accurate, ByteCounters};
use super::feedback::{AckNeed, Feedback, OptionRoom, Text};
use crate::config::Config;
use crate::time::{Duration, Instant};
use crate::wire::{AccEcn, Ecn, Flags, Segment};

/// The ECN mode that a connection negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EcnMode {
    /// None: only losses indicate congestion.
    #[default]
    Off,
    /// RFC 3168: one echo for each round trip.
    Classic,
    /// RFC 9768: counters.
    Accurate,
}

/// ECN of a connection that agreed on it.
#[derive(Debug)]
pub(in crate::tcp) struct EcnState {
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

impl EcnState {
    /// RFC 3168 was agreed on.
    pub(super) fn classic() -> Box<Self> {
        Box::new(Self { mode: Mode::Classic(Classic::default()), seen: false })
    }

    /// RFC 9768 was agreed on.
    pub(super) fn accurate(accurate: Accurate) -> Box<Self> {
        Box::new(Self { mode: Mode::Accurate(accurate), seen: false })
    }

    pub(in crate::tcp) fn mode(&self) -> EcnMode {
        match self.mode {
            Mode::Classic(_) => EcnMode::Classic,
            Mode::Accurate(_) => EcnMode::Accurate,
        }
    }

    /// The settings were changed.
    pub(in crate::tcp) fn set_config(&mut self, config: &Config) {
        if let Mode::Accurate(accurate) = &mut self.mode {
            accurate.set_config(config);
        }
    }

    /// Whether anything came that was marked as capable (`TCPI_OPT_ECN_SEEN`).
    pub(in crate::tcp) fn seen(&self) -> bool {
        self.seen
    }

    /// CE marks that the peer reported so far: packets with AccECN, none otherwise.
    pub(in crate::tcp) fn delivered_ce(&self) -> u32 {
        match &self.mode {
            Mode::Classic(_) => 0,
            Mode::Accurate(accurate) => accurate.delivered_ce(),
        }
    }

    /// CE marks that came: packets with AccECN, none otherwise.
    pub(in crate::tcp) fn received_ce(&self) -> u32 {
        match &self.mode {
            Mode::Classic(_) => 0,
            Mode::Accurate(accurate) => accurate.received_ce(),
        }
    }

    /// Bytes that the peer reported by the field that they came with, and those that came here.
    pub(in crate::tcp) fn bytes(&self) -> (ByteCounters, ByteCounters) {
        match &self.mode {
            Mode::Classic(_) => Default::default(),
            Mode::Accurate(accurate) => accurate.bytes(),
        }
    }

    /// Whether `seg` is the SYN-ACK again, and what acknowledges it has to tell its ECN field.
    pub(in crate::tcp) fn repeats_syn_ack(&self, seg: &Segment) -> bool {
        matches!(&self.mode, Mode::Accurate(accurate) if accurate.repeats_syn_ack(seg))
    }

    /// The SYN-ACK came again, and is acknowledged next.
    pub(in crate::tcp) fn on_syn_ack(&mut self, syn_ack: &Segment) {
        if let Mode::Accurate(accurate) = &mut self.mode {
            accurate.take_syn_ack(syn_ack);
        }
    }

    /// A segment of the connection arrived.
    pub(in crate::tcp) fn on_received(&mut self, seg: &Segment) -> AckNeed {
        let seen_before = self.seen;
        self.seen |= seg.ecn != Ecn::NotEct && (seg.payload_len > 0 || self.mode() == EcnMode::Accurate);
        match &mut self.mode {
            Mode::Classic(_) if seg.payload_len == 0 => AckNeed::None,
            Mode::Classic(classic) => classic.on_data(seg, seen_before),
            Mode::Accurate(accurate) => accurate.on_received(seg),
        }
    }

    /// An acceptable acknowledgment arrived. Whether it reports marks that were not known yet.
    pub(in crate::tcp) fn on_feedback(&mut self, seg: &Segment, feedback: Feedback) -> bool {
        match &mut self.mode {
            Mode::Classic(_) => seg.flags.contains(Flags::ECE),
            Mode::Accurate(accurate) => accurate.on_feedback(seg, feedback),
        }
    }

    /// The congestion window was reduced, for whatever reason (RFC 3168 §6.1.2).
    pub(in crate::tcp) fn on_reduced(&mut self) {
        if let Mode::Classic(classic) = &mut self.mode {
            classic.queue_cwr = true;
        }
    }

    /// The flags of the next segment.
    pub(in crate::tcp) fn flags(&self, text: Text) -> Flags {
        match &self.mode {
            Mode::Classic(classic) => {
                let echo = if classic.demand_cwr { Flags::ECE } else { Flags::default() };
                if classic.queue_cwr && text == Text::New { echo.with(Flags::CWR) } else { echo }
            }
            Mode::Accurate(accurate) => Flags::from_ace(accurate.ace(text)),
        }
    }

    /// The ECN field of the next segment: only new data is capable, and nothing else that is sent
    /// (acknowledgments, retransmissions, probes; RFC 3168 §6.1.4 to 6.1.6), unless it is to be as in Linux.
    pub(in crate::tcp) fn field(&self, text: Text) -> Ecn {
        let capable = match &self.mode {
            Mode::Classic(_) => text == Text::New,
            Mode::Accurate(accurate) => accurate.sends_ect(text),
        };
        if capable { Ecn::Ect0 } else { Ecn::NotEct }
    }

    /// Whether `new_data` must leave as one segment: a device that cuts super-segments leaves CWR to the
    /// first only (RFC 3168 §6.1.2 wants it in one; as a digit of a counter it would be lost in the
    /// others).
    pub(in crate::tcp) fn one_by_one(&self, new_data: bool) -> bool {
        self.flags(if new_data { Text::New } else { Text::Again }).contains(Flags::CWR)
    }

    /// The option of the next segment.
    pub(in crate::tcp) fn option(&self, now: Instant, srtt: Duration, room: OptionRoom) -> Option<AccEcn> {
        match &self.mode {
            Mode::Classic(_) => None,
            Mode::Accurate(accurate) => accurate.option(now, srtt, room),
        }
    }

    /// A segment with these flags was sent.
    pub(in crate::tcp) fn on_sent(&mut self, now: Instant, segment: &Segment) {
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
