//! AccECN: both ends count what arrived with which ECN field, and report the counts to each other, modulo 8 in
//! three header bits of every segment (ACE) and in bytes, modulo 2²⁴, in an option (RFC 9768).

use super::feedback::{AckNeed, Feedback};
use crate::config::{Config, EcnOption};
use crate::time::{Duration, Instant};
use crate::wire::{AccEcn, Ecn, Segment};
use arrayvec::ArrayVec;

/// What the ACE field starts from (§3.2.1), so that one which a middlebox cleared shows.
const CEP_INIT: u32 = 5;

/// What the counters of ECT(0) and ECT(1) bytes start from in the option (§3.2.1).
const EB_INIT: u32 = 1;

/// The range of a counter in the option.
const EB_MASK: u32 = 0xff_ffff;

/// Packets with a CE mark after which an acknowledgment must not wait any longer: with new data, and
/// without (§3.2.2.5.1).
const INCREMENT_WITH_DATA: u32 = 2;
const INCREMENT_WITHOUT_DATA: u32 = 3;

/// Bytes after which a counter is reported whatever else is, lest it wrap unseen (§3.2.3.3; Linux's
/// number).
const REPORT_EVERY: u32 = 1 << 22;

/// Acknowledgments of more packets than this on average are no sign of lost ones (ACK_COMP_THRESH in
/// Linux); how the average is kept.
const STRETCHED: u32 = 4;
const STRETCH_FRACTION: u32 = 6;
const STRETCH_WEIGHT: u32 = 6;

/// What the option of a SYN-ACK reports: that nothing came yet.
pub(super) fn initial_option() -> AccEcn {
    AccEcn { ect1_first: true, fields: ArrayVec::from([EB_INIT, 0, EB_INIT]) }
}

/// How a SYN-ACK, and the acknowledgment of it, say which ECN field the packet before had (tables 2
/// and 3).
pub(super) const fn reflect(field: Ecn) -> u8 {
    match field {
        Ecn::NotEct => 0b010,
        Ecn::Ect1 => 0b011,
        Ecn::Ect0 => 0b100,
        Ecn::Ce => 0b110,
    }
}

#[derive(Debug)]
pub(super) struct Accurate {
    /// Packets that came with a CE mark.
    received_ce: u32,
    /// Those that no acknowledgment has reported yet.
    pending_ce: u32,
    /// Payload bytes that came with ECT(1), ECT(0) and CE.
    received_bytes: [u32; 3],
    /// The ECN field of the last packet.
    last: Ecn,
    /// What the acknowledgment of the SYN-ACK has in place of a count.
    reflection: Option<u8>,
    /// `tcp_ecn_option`, and whether the peer showed that the option passes.
    option: EcnOption,
    option_passes: bool,
    beacon: u32,
    /// Segments that must carry the option.
    demand: u8,
    /// When a segment last carried the option.
    option_sent: Option<Instant>,
    /// CE marks that the peer reported, in packets.
    delivered_ce: u32,
    /// The peer's counter of CE bytes when it was last reported.
    ce_bytes: u32,
    /// Whether the first ACE field after the handshake was looked at.
    checked: bool,
    /// Packets that an acknowledgment covers on average, in units of 2⁻⁶.
    stretch: u32,
    /// The path clears or changes what ECN needs: our packets go without.
    broken: bool,
}

impl Accurate {
    fn new(first: &Segment, config: &Config) -> Self {
        Self {
            received_ce: 0,
            pending_ce: 0,
            received_bytes: [0; 3],
            last: first.ecn,
            reflection: None,
            option: config.ecn_option,
            option_passes: first.options.acc_ecn.is_some(),
            beacon: config.ecn_option_beacon,
            demand: 2,
            option_sent: None,
            delivered_ce: 0,
            ce_bytes: first.options.acc_ecn.as_ref().and_then(AccEcn::ce).unwrap_or(0),
            checked: false,
            stretch: 0,
            broken: false,
        }
    }

    /// The client's, from the SYN-ACK. Our SYN had no ECN field; one that says otherwise shows that
    /// something on the way writes there (§3.2.2.3).
    pub(super) fn of_client(syn_ack: &Segment, config: &Config) -> Self {
        let mut state = Self::new(syn_ack, config);
        state.count(syn_ack);
        state.reflection = Some(reflect(syn_ack.ecn));
        state.broken = syn_ack.flags.ace() != reflect(Ecn::NotEct);
        state
    }

    /// The server's, from the acknowledgment of its SYN-ACK, which had no ECN field either. Data may
    /// come in its place; that has a count (table 4).
    pub(super) fn of_server(ack: &Segment, config: &Config) -> Self {
        let mut state = Self::new(ack, config);
        if ack.payload_len == 0 {
            match ack.flags.ace() {
                0b000 | 0b011 | 0b100 => state.broken = true,
                0b110 => {
                    state.broken = true;
                    state.delivered_ce = 1;
                }
                _ => {}
            }
            state.checked = ack.flags.ace() == 0;
        }
        state
    }

    pub(super) fn delivered_ce(&self) -> u32 {
        self.delivered_ce
    }

    pub(super) fn received_ce(&self) -> u32 {
        self.received_ce
    }

    pub(super) fn sends_ect(&self) -> bool {
        !self.broken
    }

    fn count(&mut self, seg: &Segment) {
        if seg.ecn == Ecn::Ce {
            let packets = seg.gso_size.map_or(1, |size| seg.payload_len.div_ceil(usize::from(size.max(1))));
            self.received_ce = self.received_ce.wrapping_add(packets.max(1) as u32);
            self.pending_ce += packets.max(1) as u32;
        }
        if seg.ecn != Ecn::NotEct && seg.payload_len > 0 {
            let bytes = &mut self.received_bytes[usize::from(seg.ecn.bits()) - 1];
            let before = *bytes / REPORT_EVERY;
            *bytes = bytes.wrapping_add(seg.payload_len as u32);
            if *bytes / REPORT_EVERY != before {
                self.demand = self.demand.max(1);
            }
        }
    }

    /// Acknowledgments at once when the ECN field changes, and when marks gather (§3.2.2.5.1). Two of
    /// them carry the option, so that the second shows what the field was in between.
    pub(super) fn on_received(&mut self, seg: &Segment) -> AckNeed {
        if seg.options.acc_ecn.is_some() {
            self.option_passes = true;
        }
        // Pure acknowledgments have no ECN field; they do not come between two of data.
        if seg.ecn == Ecn::NotEct && seg.payload_len == 0 {
            return AckNeed::None;
        }
        self.count(seg);
        let edge = std::mem::replace(&mut self.last, seg.ecn) != seg.ecn;
        if edge || seg.ecn == Ecn::Ce {
            self.demand = 2;
        }
        let data = seg.payload_len > 0;
        let limit = if data { INCREMENT_WITH_DATA } else { INCREMENT_WITHOUT_DATA };
        if (edge && data) || self.pending_ce >= limit { AckNeed::Alone } else { AckNeed::None }
    }

    /// The ACE field of the next segment.
    pub(super) fn ace(&self) -> u8 {
        self.reflection.unwrap_or((self.received_ce.wrapping_add(CEP_INIT) & 7) as u8)
    }

    /// The option: if it is always sent in every segment, else when something changed and a few
    /// times a round trip.
    pub(super) fn option(&self, now: Instant, srtt: Duration, crowded: bool) -> Option<AccEcn> {
        if self.option == EcnOption::Never || !self.option_passes {
            return None;
        }
        let wanted = match (self.demand > 0, crowded) {
            (true, _) => true,
            // What is missing matters more.
            (false, true) => false,
            (false, false) => self.option == EcnOption::Always || self.beacon_due(now, srtt),
        };
        if !wanted {
            return None;
        }
        let [ect1, ect0, ce] = self.received_bytes;
        let ect1 = ect1.wrapping_add(EB_INIT) & EB_MASK;
        let ect0 = ect0.wrapping_add(EB_INIT) & EB_MASK;
        let ce = ce & EB_MASK;
        // Counters at the end that never moved are left out (§3.2.3).
        let (ect1_first, fields) = match self.received_bytes {
            [0, 0, 0] => (false, [ect0].into_iter().collect()),
            [0, _, _] => (false, [ect0, ce].into_iter().collect()),
            [_, 0, _] => (true, [ect1, ce].into_iter().collect()),
            _ => (true, ArrayVec::from([ect1, ce, ect0])),
        };
        Some(AccEcn { ect1_first, fields })
    }

    fn beacon_due(&self, now: Instant, srtt: Duration) -> bool {
        self.option_sent.is_none_or(|sent| (now - sent) * self.beacon >= srtt)
    }

    pub(super) fn on_sent(&mut self, now: Instant, with_option: bool) {
        self.reflection = None;
        self.pending_ce = 0;
        if with_option {
            self.demand = self.demand.saturating_sub(1);
            self.option_sent = Some(now);
        }
    }

    /// How many marks an acknowledgment reports: at least what the three bits say; where it covers so
    /// many packets that they may have wrapped, the option decides, and without one the worst is assumed
    /// (§3.2.2.5.2 and appendix A.2, the way Linux decides). Whether there are any.
    pub(super) fn on_feedback(&mut self, seg: &Segment, feedback: Feedback) -> bool {
        let Feedback { delivered, mss } = feedback;
        if delivered == 0 {
            // Reordered, or nothing that was marked can be behind it.
            return false;
        }
        if !std::mem::replace(&mut self.checked, true) && seg.flags.ace() == 0 {
            // §3.2.2.4: something on the way clears the bits; what they say is worth nothing.
            self.broken = true;
        }
        if self.broken && self.delivered_ce == 0 && seg.flags.ace() == 0 {
            return false;
        }
        let ce_bytes = self.take_ce_bytes(seg);
        let reported = u32::from(seg.flags.ace()).wrapping_sub(CEP_INIT);
        let delta = reported.wrapping_sub(self.delivered_ce) & 7;
        let packets = delivered.div_ceil(mss.max(1)) as u32;
        let marks = if packets <= 7 {
            delta
        } else {
            let worst = packets - (packets.wrapping_sub(delta) & 7);
            match ce_bytes {
                Some(bytes) => {
                    // The number nearest to what the bytes say that ends in the same three bits.
                    let about = (bytes as usize).div_ceil(mss.max(1)) as u32;
                    let wraps = (about.saturating_sub(delta) + 4) / 8;
                    (delta + 8 * wraps).min(worst)
                }
                // A peer, or something between, that always joins acknowledgments.
                None if self.stretch >> STRETCH_FRACTION > STRETCHED => delta,
                None => worst,
            }
        };
        let fraction = packets.min(0xffff) << STRETCH_FRACTION;
        self.stretch = self.stretch - (self.stretch >> STRETCH_WEIGHT) + (fraction >> STRETCH_WEIGHT);
        self.delivered_ce = self.delivered_ce.wrapping_add(marks);
        marks > 0
    }

    /// How much the peer's counter of CE bytes grew, if it was reported.
    fn take_ce_bytes(&mut self, seg: &Segment) -> Option<u32> {
        let reported = seg.options.acc_ecn.as_ref()?.ce()?;
        let grown = reported.wrapping_sub(self.ce_bytes) & EB_MASK;
        // Backwards: an old segment.
        if grown >= 1 << 23 {
            return None;
        }
        self.ce_bytes = reported;
        Some(grown)
    }
}
