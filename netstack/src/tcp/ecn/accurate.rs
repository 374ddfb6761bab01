//! AccECN: both ends count what arrived with which ECN field, and report the counts to each other, modulo 8 in
//! three header bits of every segment (ACE) and in bytes, modulo 2²⁴, in an option (RFC 9768).

use super::feedback::{AckNeed, Feedback, OptionRoom, Text};
use crate::config::{Config, EcnOption};
use crate::time::{Duration, Instant};
use crate::wire::{AccEcn, Ecn, Segment, SeqNum};
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

/// SACK blocks that the option leaves room for.
const BLOCKS_BEFORE_OPTION: usize = 2;

/// Packets that the ACE field can count without doubt.
const ACE_RANGE: u32 = 7;

/// The counters of bytes, in the order of the codes of the IP field less one: ECT(1), ECT(0), CE.
pub(in crate::tcp) type ByteCounters = [u32; 3];

/// The fields of an option that begins with ECT(1), and of one that begins with ECT(0), as indices of
/// [`ByteCounters`].
const ECT1_FIRST: [usize; 3] = [0, 2, 1];
const ECT0_FIRST: [usize; 3] = [1, 2, 0];

/// What a counter starts from in the option.
const fn initial(counter: usize) -> u32 {
    if counter == 2 { 0 } else { EB_INIT }
}

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

/// Both halves of a connection with AccECN: what it reports, and what is reported to it.
// More than 16 fields: the two halves share what the handshake and the settings decide for both.
#[derive(Debug)]
pub(super) struct Accurate {
    /// Packets that came with a CE mark.
    received_ce: u32,
    /// Those that no acknowledgment has reported yet.
    pending_ce: u32,
    /// Payload bytes that came with ECT(1), ECT(0) and CE.
    received_bytes: ByteCounters,
    /// Which of these grew since the last option.
    changed: [bool; 3],
    /// The ECN field of the last packet.
    last: Ecn,
    /// What the acknowledgment of the SYN-ACK has in place of a count.
    reflection: Option<u8>,
    /// The numbers of the SYN-ACK that this side accepted, if it is the client.
    syn_ack: Option<(SeqNum, SeqNum)>,
    /// Whether a SYN-ACK came with CE: only one counts.
    marked_syn_ack: bool,
    /// `tcp_ecn_option`, and whether the peer showed that the option passes.
    option: EcnOption,
    option_passes: bool,
    beacon: u32,
    /// `ecn_like_linux`.
    like_linux: bool,
    /// Segments that must carry the option.
    demand: u8,
    /// When a segment last carried the option.
    option_sent: Option<Instant>,
    /// CE marks that the peer reported, in packets.
    delivered_ce: u32,
    /// Bytes that the peer reported.
    delivered_bytes: ByteCounters,
    /// Marks that were reported since its counter of CE bytes last was, and packets acknowledged.
    marks_unexplained: u32,
    packets_unexplained: u32,
    /// The latest timestamp of an acknowledgment, and the bits of that which ended the handshake.
    newest: Option<u32>,
    first_ace: u8,
    /// Whether the first ACE field after the handshake was looked at.
    checked: bool,
    /// Packets that an acknowledgment covers on average, in units of 2⁻⁶.
    stretch: u32,
    /// The path clears or changes what ECN needs: our packets go without.
    broken: bool,
    /// The three bits are cleared on the way: what they say of marks is not believed.
    deaf: bool,
}

impl Accurate {
    /// `tcp_ecn_option` and `tcp_ecn_option_beacon` were changed.
    pub(super) fn set_config(&mut self, config: &Config) {
        self.option = config.ecn_option;
        self.beacon = config.ecn_option_beacon;
    }

    fn new(first: &Segment, config: &Config) -> Self {
        let mut state = Self {
            received_ce: 0,
            pending_ce: 0,
            received_bytes: [0; 3],
            changed: [false; 3],
            last: first.ecn,
            reflection: None,
            syn_ack: None,
            marked_syn_ack: false,
            option: config.ecn_option,
            option_passes: first.options.acc_ecn.is_some(),
            beacon: config.ecn_option_beacon,
            like_linux: config.ecn_like_linux,
            demand: 2,
            option_sent: None,
            delivered_ce: 0,
            delivered_bytes: [0; 3],
            marks_unexplained: 0,
            packets_unexplained: 0,
            newest: first.options.timestamps.map(|ts| ts.tsval),
            first_ace: first.flags.ace(),
            checked: false,
            stretch: 0,
            broken: false,
            deaf: false,
        };
        state.take_bytes(first);
        state
    }

    /// The client's, from the SYN-ACK. Our SYN had no ECN field; one that says otherwise shows that
    /// something on the way writes there (§3.2.2.3).
    pub(super) fn of_client(syn_ack: &Segment, config: &Config) -> Self {
        let mut state = Self::new(syn_ack, config);
        state.syn_ack = Some((syn_ack.seq, syn_ack.ack));
        state.take_syn_ack(syn_ack);
        // 101 is reserved, and says nothing of the SYN's field (§3.1.3).
        state.broken = config.ecn_fallback && !matches!(syn_ack.flags.ace(), 0b010 | 0b101);
        state
    }

    /// Whether `seg` is the SYN-ACK again that this side accepted.
    pub(super) fn repeats_syn_ack(&self, seg: &Segment) -> bool {
        seg.is_syn() && seg.is_ack() && self.syn_ack == Some((seg.seq, seg.ack))
    }

    /// A SYN-ACK is acknowledged in the encoding of the handshake, for the field of the latest (§3.1.5).
    pub(super) fn take_syn_ack(&mut self, syn_ack: &Segment) {
        self.reflection = Some(reflect(syn_ack.ecn));
        if syn_ack.ecn == Ecn::Ce && !std::mem::replace(&mut self.marked_syn_ack, true) {
            // No more than once however many come (§3.2.2.2).
            self.received_ce = self.received_ce.wrapping_add(1);
            self.pending_ce += 1;
        }
    }

    /// The server's, from the acknowledgment of its SYN-ACK, which had no ECN field either. Data may
    /// come in its place; that has a count (table 4). `plain` says that a SYN or SYN-ACK went without the
    /// three bits: no ECT then (§3.1.5).
    pub(super) fn of_server(ack: &Segment, plain: bool, config: &Config) -> Self {
        let mut state = Self::new(ack, config);
        state.broken = plain;
        if ack.payload_len == 0 {
            match ack.flags.ace() {
                0b000 => {
                    // Note 1: neither ECT nor an answer to marks; it goes on reporting them.
                    state.broken = true;
                    state.deaf = true;
                }
                field @ (0b011 | 0b100 | 0b110) => {
                    state.broken |= config.ecn_fallback;
                    state.delivered_ce = u32::from(field == 0b110);
                }
                _ => {}
            }
        }
        state
    }

    pub(super) fn delivered_ce(&self) -> u32 {
        self.delivered_ce
    }

    pub(super) fn received_ce(&self) -> u32 {
        self.received_ce
    }

    /// Bytes that the peer reported, and those that came.
    pub(super) fn bytes(&self) -> (ByteCounters, ByteCounters) {
        (self.delivered_bytes, self.received_bytes)
    }

    /// Whether a segment is marked as capable of ECN.
    pub(super) fn sends_ect(&self, text: Text) -> bool {
        !self.broken && (self.like_linux || text == Text::New)
    }

    fn count(&mut self, seg: &Segment) {
        if seg.ecn == Ecn::Ce {
            let packets = seg.on_wire();
            self.received_ce = self.received_ce.wrapping_add(packets.max(1) as u32);
            self.pending_ce += packets.max(1) as u32;
        }
        if seg.ecn != Ecn::NotEct && seg.payload_len > 0 {
            let counter = usize::from(seg.ecn.bits()) - 1;
            self.changed[counter] = true;
            let bytes = &mut self.received_bytes[counter];
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

    /// The ACE field of the next segment. Data has a count also in the handshake (§3.2.2.1).
    pub(super) fn ace(&self, text: Text) -> u8 {
        self.reflection
            .filter(|_| text == Text::None)
            .unwrap_or((self.received_ce.wrapping_add(CEP_INIT) & 7) as u8)
    }

    /// The option: if it is always sent in every segment, else when something changed and a few
    /// times a round trip. Losses are the more urgent news: two SACK blocks go before it (§3.2.3.3).
    pub(super) fn option(&self, now: Instant, srtt: Duration, room: OptionRoom) -> Option<AccEcn> {
        if self.option == EcnOption::Never || !self.option_passes {
            return None;
        }
        let wanted = match (self.demand > 0, room.blocks > 0) {
            (true, _) => true,
            // What is missing matters more.
            (false, true) if !self.like_linux => false,
            (false, true) => self.option == EcnOption::Always || self.beacon_due(now, srtt),
            (false, false) => self.option == EcnOption::Always || self.beacon_due(now, srtt),
        };
        let least = room.blocks.min(BLOCKS_BEFORE_OPTION);
        if self.like_linux {
            return if wanted { self.linux_option(room, least) } else { None };
        }
        // Counters at the end that never moved are left out, and where there is no room for the others those
        // that did not move since the last option, but no other (§3.2.3.3).
        let moved = self.received_bytes.map(|bytes| bytes > 0);
        let fitting = || [moved, self.changed].map(|needed| self.trimmed(needed)).into_iter();
        if wanted { fitting().find(|option| option.len_on_wire() <= room.beside(least)) } else { None }
    }

    /// As tcp_options_fit_accecn does in Linux: ECT(1) first, all counters that fit, and fewer SACK blocks
    /// where those that changed would not.
    fn linux_option(&self, room: OptionRoom, least: usize) -> Option<AccEcn> {
        let required = (1..=3).rev().find(|len| self.changed[ECT1_FIRST[len - 1]]).unwrap_or(0);
        let fewest = if required == 0 { room.blocks } else { least };
        let options = (fewest..=room.blocks).rev().flat_map(|blocks| {
            let fields = (required.max(1)..=3).rev().map(|len| self.with_fields(true, len));
            fields.map(move |option| (option, room.beside(blocks)))
        });
        options.into_iter().find_map(|(option, free)| (option.len_on_wire() <= free).then_some(option))
    }

    /// The shortest option with the counters that are needed.
    fn trimmed(&self, needed: [bool; 3]) -> AccEcn {
        let (ect1_first, len) = match needed {
            [false, false, false] => (false, 1),
            [false, _, _] => (false, 2),
            [true, false, _] => (true, 2),
            [true, true, _] => (true, 3),
        };
        self.with_fields(ect1_first, len)
    }

    fn with_fields(&self, ect1_first: bool, len: usize) -> AccEcn {
        let order = if ect1_first { ECT1_FIRST } else { ECT0_FIRST };
        let field = |counter: usize| self.received_bytes[counter].wrapping_add(initial(counter)) & EB_MASK;
        AccEcn { ect1_first, fields: order.into_iter().take(len).map(field).collect() }
    }

    fn beacon_due(&self, now: Instant, srtt: Duration) -> bool {
        self.option_sent.is_none_or(|sent| (now - sent) * self.beacon >= srtt)
    }

    pub(super) fn on_sent(&mut self, now: Instant, with_option: bool) {
        self.reflection = None;
        self.pending_ce = 0;
        if with_option {
            self.changed = [false; 3];
            self.demand = self.demand.saturating_sub(1);
            self.option_sent = Some(now);
        }
    }

    /// How many marks an acknowledgment reports: at least what the three bits say; where it covers so
    /// many packets that they may have wrapped, the option decides, and without one the worst is assumed
    /// (§3.2.2.5.2 and appendix A.2, the way Linux decides). Whether there are any.
    pub(super) fn on_feedback(&mut self, seg: &Segment, feedback: Feedback) -> bool {
        let Feedback { delivered, mss } = feedback;
        let newer = self.is_newer(seg);
        if self.deaf || (delivered == 0 && !newer) {
            // Nothing that can be believed; or superseded, for what the numbers and timestamps tell.
            return false;
        }
        if delivered > 0 && !std::mem::replace(&mut self.checked, true) && seg.flags.ace() == 0 {
            // §3.2.2.4: something on the way clears the bits; what they say is worth nothing.
            self.broken = true;
            self.deaf = true;
            return false;
        }
        let ce_bytes = self.take_bytes(seg);
        let packets = delivered.div_ceil(mss.max(1)) as u32;
        self.note_stretch(packets);
        let marks = self.marks(seg, packets, ce_bytes, mss);
        self.delivered_ce = self.delivered_ce.wrapping_add(marks);
        self.check_consistency(packets, marks, ce_bytes);
        marks > 0
    }

    /// Whether the timestamp shows that an acknowledgment is later than those before (appendix A.1). The end
    /// of the handshake does not count when it comes again: its bits are no counter.
    fn is_newer(&mut self, seg: &Segment) -> bool {
        let Some(ts) = seg.options.timestamps else { return false };
        let last = self.newest.replace(ts.tsval);
        let later = last.is_some_and(|last| (ts.tsval.wrapping_sub(last) as i32) > 0);
        if !later && last.is_some() {
            self.newest = last;
        }
        later && (self.checked || seg.flags.ace() != self.first_ace)
    }

    /// How many packets an acknowledgment of so many bytes reports as marked.
    fn marks(&self, seg: &Segment, packets: u32, ce_bytes: Option<u32>, mss: usize) -> u32 {
        let reported = u32::from(seg.flags.ace()).wrapping_sub(CEP_INIT);
        let delta = reported.wrapping_sub(self.delivered_ce) & 7;
        if packets <= ACE_RANGE {
            return delta;
        }
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
    }

    /// Keeps the average of the packets that an acknowledgment covers. It begins with the first.
    fn note_stretch(&mut self, packets: u32) {
        let sample = packets.min(0xffff) << STRETCH_FRACTION;
        self.stretch = if self.stretch == 0 {
            sample
        } else {
            self.stretch - (self.stretch >> STRETCH_WEIGHT) + (sample >> STRETCH_WEIGHT)
        };
    }

    /// Bytes that came with a mark where no packet did, by counters that cannot have wrapped, show that
    /// something on the way changes what the peer reports (§3.2.3.2.5): no ECT any more.
    fn check_consistency(&mut self, packets: u32, marks: u32, ce_bytes: Option<u32>) {
        self.marks_unexplained = self.marks_unexplained.saturating_add(marks);
        self.packets_unexplained = self.packets_unexplained.saturating_add(packets);
        let Some(bytes) = ce_bytes else { return };
        if bytes > 0 && self.marks_unexplained == 0 && self.packets_unexplained <= ACE_RANGE {
            self.broken = true;
        }
        (self.marks_unexplained, self.packets_unexplained) = (0, 0);
    }

    /// Takes the peer's counters of bytes: how much that of CE grew, if it was reported.
    fn take_bytes(&mut self, seg: &Segment) -> Option<u32> {
        let option = seg.options.acc_ecn.as_ref()?;
        let order = if option.ect1_first { ECT1_FIRST } else { ECT0_FIRST };
        let mut ce = None;
        for (counter, reported) in order.into_iter().zip(&option.fields) {
            let known = &mut self.delivered_bytes[counter];
            let grown = reported.wrapping_sub(initial(counter)).wrapping_sub(*known) & EB_MASK;
            // Backwards: an old segment, or one whose counters were cleared.
            if grown < 1 << 23 {
                *known = known.wrapping_add(grown);
                ce = if counter == 2 { Some(grown) } else { ce };
            }
        }
        ce
    }
}
