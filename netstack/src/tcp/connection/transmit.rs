//! What to send now.
//!
//! [`Connection::poll_transmit`] proposes a segment and changes nothing that a segment shows;
//! [`Connection::on_transmitted`] commits it once the device has taken it. So a full device costs
//! nothing: the same question gets the same answer later.

use super::Connection;
use super::liveness::Probe;
use super::path::MtuProbe;
use crate::buffer::MAX_PIECES;
use crate::tcp::ecn::Text;
use crate::tcp::receive::Due;
use crate::tcp::send::{Held, Kind, Limits, Span, Transmit, Unit};
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::Flags;
use arrayvec::ArrayVec;

/// How much a segment may carry.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Payload bytes of a full segment.
    mss: usize,
    /// The most that the device takes at once of new data, and of what is sent again.
    max_new: usize,
    max_again: usize,
}

/// A segment with text or a FIN that is to be sent. It is made once it is certain: a [`Transmit`] is too large to be
/// handed on for nothing.
#[derive(Clone, Copy, Debug)]
struct Plan {
    kind: Kind,
    span: Span,
    /// The size of the segments to cut it into, if it is longer than that.
    cut: Option<usize>,
    /// Whether it carries PSH in any case.
    push: bool,
}

impl Plan {
    /// One segment.
    fn whole(kind: Kind, span: Span) -> Self {
        Self { kind, span, cut: None, push: false }
    }
}

impl Connection {
    /// The next segment to send, or none. `max_payload` is the most that one segment may carry: up
    /// to 64 KiB where the device cuts segments, otherwise 0, which means one MSS.
    pub fn poll_transmit(&mut self, now: Instant, max_payload: usize) -> Option<Transmit> {
        if self.has_nothing_to_send() { None } else { self.next_transmit(now, max_payload) }
    }

    /// Whether there is nothing to send, as most often: when a segment has arrived, and when one was sent.
    #[inline]
    pub fn has_nothing_to_send(&mut self) -> bool {
        let nothing = self.has_no_data_to_send()
            && self.rcv.ack_due() != Due::Now
            && self.outcome.reset().is_none()
            && self.passive.is_none();
        if nothing && self.state != State::Closed {
            self.path.on_asked();
            self.path.on_nothing_sent();
        }
        nothing
    }

    /// Whether there is nothing to send but an acknowledgment of a small request, which is due at once since the
    /// connection is young: the application's answer, if it comes at once, can carry it.
    #[inline(never)]
    pub fn may_answer(&self) -> bool {
        self.state == State::Established
            && self.has_no_data_to_send()
            && self.rcv.ack_may_ride()
            && self.outcome.reset().is_none()
            && self.passive.is_none()
    }

    fn next_transmit(&mut self, now: Instant, max_payload: usize) -> Option<Transmit> {
        if let Some(reset) = self.outcome.reset() {
            return Some(Transmit::new(Kind::Reset(reset.reason), reset.segment.clone()));
        }
        if self.state == State::Closed {
            // The last acknowledgment of LAST-ACK's peer needs no answer.
            return None;
        }
        if let Some(segment) = self.next_syn_ack(now) {
            return Some(Transmit::new(Kind::SynAck, segment));
        }
        self.path.on_asked();
        if self.has_no_data_to_send() {
            self.path.on_nothing_sent();
            return self.next_ack(now);
        }
        let mss = self.current_mss(now);
        let max = self.path.quantum(max_payload.max(mss), mss, self.recovery.outstanding());
        let alone = |new_data| self.ecn.as_ref().is_some_and(|ecn| ecn.one_by_one(new_data));
        let sizes = Sizes {
            mss,
            max_new: if alone(true) { mss } else { max },
            max_again: if alone(false) { mss } else { max },
        };
        if let Some(plan) = self.next_data(now, sizes) {
            return Some(self.planned(now, &plan));
        }
        self.path.on_nothing_sent();
        if self.liveness.probe().is_some_and(|probe| probe != Probe::Tail) {
            return Some(self.probe_segment(now));
        }
        self.next_ack(now)
    }

    /// The segment of a plan.
    fn planned(&self, now: Instant, plan: &Plan) -> Transmit {
        let mut transmit = self.data_segment(now, plan.kind, plan.span);
        if let Some(mss) = plan.cut {
            transmit.cut_to(mss);
        }
        if plan.push {
            transmit.segment.flags = transmit.segment.flags.with(Flags::PSH);
        }
        transmit
    }

    /// Whether at most an acknowledgment is left to send, as most often when a segment has arrived or was sent.
    fn has_no_data_to_send(&self) -> bool {
        !self.snd.has_unsent()
            && self.liveness.probe().is_none()
            && self.recovery.board().next_lost().is_none()
    }

    /// Whether `transmit` is the end of what was written, but for less than a segment, and less than a device that takes
    /// `max_payload` bytes at most, or else a segment, could be given at once: what is written next can join it.
    pub fn is_tail(&self, transmit: &Transmit, max_payload: usize) -> bool {
        let rest = self.snd.unsent().saturating_sub(transmit.segment.payload_len);
        transmit.is_partial(max_payload) && rest < self.snd.mss()
    }

    /// Whether nothing is left to send but new data for less than a segment: the [tail](Self::is_tail) of what was
    /// written, if it may be sent at all.
    #[inline]
    pub fn has_only_tail(&self, now: Instant) -> bool {
        (1..self.current_mss(now)).contains(&self.snd.unsent())
            && !self.snd.fin_unacked()
            && self.liveness.probe().is_none()
            && self.recovery.board().next_lost().is_none()
            && self.rcv.ack_due() != Due::Now
            && self.outcome.reset().is_none()
            && self.passive.is_none()
    }

    /// The payload of `transmit`, in pieces.
    pub fn payload<'a>(&'a self, transmit: &Transmit, pieces: &mut ArrayVec<&'a [u8], MAX_PIECES>) {
        if let Some(start) = transmit.payload_start() {
            self.snd.slices(start, start + transmit.segment.payload_len, pieces);
        }
    }

    /// What was lost goes first, and as long as it waits for the window nothing new goes: there would
    /// be room only for less than a segment of it. But for F-RTO, which asks with new data whether
    /// anything is lost (RFC 5682 §2.1 step 2b).
    fn next_data(&mut self, now: Instant, sizes: Sizes) -> Option<Plan> {
        if self.liveness.probe() == Some(Probe::Tail) {
            if self.recovery.may_probe()
                && let Some(probe) = self.next_tail_probe(sizes.mss)
            {
                return Some(probe);
            }
            // An acknowledgment came while the device was full.
            self.liveness.cancel(Probe::Tail);
        }
        if self.recovery.board().next_lost().is_none() {
            return self.next_new(now, sizes);
        }
        if self.recovery.prefers_new_data()
            && let Some(new) = self.next_new(now, sizes)
        {
            return Some(new);
        }
        if self.recovery.waits_for_new_data(self.snd.nxt()) {
            return None;
        }
        self.next_retransmission(now, sizes)
    }

    /// The tail loss probe: a segment of new data if there is some, or else the last segment again
    /// (RFC 8985 §7.3).
    fn next_tail_probe(&mut self, mss: usize) -> Option<Plan> {
        if let Some(span) = self.snd.next_probe(mss) {
            let kind = Kind::New { start: span.start, end: span.end(), mss, unit: Unit::Segment };
            return Some(Plan::whole(kind, span));
        }
        let span = self.snd.last_segment(mss, &self.recovery)?;
        let kind = Kind::Tail { start: span.start, end: span.end(), mss };
        Some(Plan::whole(kind, span))
    }

    /// A lost range, first lost first. Recovery decided what is lost; the window decides how much
    /// of it may go.
    fn next_retransmission(&mut self, now: Instant, sizes: Sizes) -> Option<Plan> {
        let (start, end) = self.recovery.board().next_lost()?;
        let mss = sizes.mss;
        let span = self.snd.next_lost(start, end, &self.limits(now, mss, sizes.max_again))?;
        if !self.pacing_allows(now) {
            return None;
        }
        let kind = Kind::Again { start: span.start, end: span.end(), mss };
        Some(Plan { kind, span, cut: Some(mss), push: false })
    }

    /// New data, as much in one segment as the windows, the Nagle algorithm and the device allow; or
    /// our FIN.
    fn next_new(&mut self, now: Instant, sizes: Sizes) -> Option<Plan> {
        if !self.snd.has_unsent() {
            return None;
        }
        let Sizes { mss, max_new: max, .. } = sizes;
        if self.snd.window_end() > self.snd.nxt() {
            self.restart_after_idle(now);
        }
        if self.snd.unsent() == 0 {
            return self.next_fin(now, mss);
        }
        match self.next_mtu_probe(now) {
            MtuProbe::No => {}
            MtuProbe::Wait => return None,
            MtuProbe::Send(len) => return Some(self.mtu_probe_segment(len)),
        }
        let new = self.snd.next_new(&self.limits(now, mss, max));
        self.snd.note_held(now, new.err());
        let new = match new {
            Ok(new) => new,
            Err(held) => {
                if held == Held::ByCwnd {
                    self.validate_cwnd(now, true);
                }
                self.persist_if_stuck(now);
                return None;
            }
        };
        if !self.pacing_allows(now) {
            return None;
        }
        let span = new.span;
        let unit = if max == mss { Unit::Segment } else { Unit::SuperSegment };
        let kind = Kind::New { start: span.start, end: span.end(), mss, unit };
        let push = self.is_window_probe_due() || new.ends_burst;
        Some(Plan { kind, span, cut: Some(mss), push })
    }

    /// Our FIN on its own.
    fn next_fin(&mut self, now: Instant, mss: usize) -> Option<Plan> {
        let Some(span) = self.snd.next_fin() else {
            self.persist_if_stuck(now);
            return None;
        };
        let kind = Kind::New { start: span.start, end: span.end(), mss, unit: Unit::SuperSegment };
        Some(Plan::whole(kind, span))
    }

    /// One segment of `len` bytes, more than the MSS.
    fn mtu_probe_segment(&self, len: usize) -> Plan {
        let span = Span { start: self.snd.nxt(), len, with_fin: false };
        let kind = Kind::New { start: span.start, end: span.end(), mss: len, unit: Unit::SuperSegment };
        Plan::whole(kind, span)
    }

    /// A probe that a timer asked for: a segment that the peer must answer because it lies before
    /// its window (RFC 1122 §4.2.3.6). A window probe that may carry text has become new data above.
    fn probe_segment(&self, now: Instant) -> Transmit {
        let mut segment = self.header(now, self.snd.una() - 1, Flags::ACK, Text::None);
        segment.options.sack.clear();
        Transmit::new(Kind::Probe, segment)
    }

    fn next_ack(&self, now: Instant) -> Option<Transmit> {
        if self.rcv.ack_due() != Due::Now {
            return None;
        }
        let seq = self.snd.ack_seq(self.rcv.window_unit());
        Some(Transmit::new(Kind::Ack, self.header(now, seq, Flags::ACK, Text::None)))
    }

    /// Whether the segments leave at a rate, now.
    pub fn is_paced(&self) -> bool {
        self.path.enforced_rate(self.recovery.outstanding()).is_some()
    }

    /// Whether pacing lets a segment leave now.
    fn pacing_allows(&mut self, now: Instant) -> bool {
        self.path.allows(now, self.recovery.outstanding())
    }

    /// Whether a probe of the peer's window is due, which may carry text.
    fn is_window_probe_due(&self) -> bool {
        self.liveness.probe() == Some(Probe::Window)
    }

    /// What limits the next segment, of which the device takes `max` bytes.
    fn limits(&self, now: Instant, mss: usize, max: usize) -> Limits<'_> {
        Limits {
            now,
            mss,
            max,
            probing: self.is_window_probe_due(),
            recovery: &self.recovery,
            path: &self.path,
            options: &self.options,
            config: &self.config,
        }
    }
}
