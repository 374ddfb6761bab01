//! What to send now.
//!
//! [`Connection::poll_transmit`] proposes a segment and changes nothing;
//! [`Connection::on_transmitted`] commits it once the device has taken it. So a full device costs
//! nothing: the same question gets the same answer later.

use crate::buffer::MAX_PIECES;
use crate::tcp::connection::{Connection, Probe, Room};
use crate::tcp::recovery::Phase;
use crate::tcp::send::{Holds, Limits, MtuProbe};
use crate::tcp::seq::Seq;
use crate::tcp::state::State;
use crate::tcp::timers::Timer;
use crate::tcp::timestamps::TIMESTAMPS_LEN;
use crate::time::Instant;
use crate::wire::{AccEcn, Ecn, Flags, Options, Segment};
use arrayvec::ArrayVec;

/// Bytes of options for each SACK block, and for the option itself with its padding.
const SACK_BLOCK_LEN: usize = 8;
const SACK_BASE_LEN: usize = 4;

/// Bytes of options in a TCP header at most.
const MAX_OPTIONS: usize = 40;

/// A segment to be sent: its header, and which bytes of the send buffer it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The header; `payload_len` is the length of the whole, also of a super-segment.
    pub segment: Segment,
    /// The MSS to cut a super-segment to; none if the segment is not longer than that.
    pub gso_size: Option<u16>,
    kind: Kind,
}

impl Transmit {
    /// Makes a segment that is longer than `mss` a super-segment. As in Linux it ends in PSH, so that
    /// the receiver does not wait to join it with what may follow.
    fn cut_to(&mut self, mss: usize) {
        if self.segment.payload_len > mss {
            self.gso_size = Some(mss as u16);
            self.segment.flags = self.segment.flags.with(Flags::PSH);
        }
    }

    /// Whether this is new data that is less than a full segment, and no FIN.
    pub fn is_tail(&self) -> bool {
        match self.kind {
            Kind::New { mss, .. } => (1..mss).contains(&self.segment.payload_len) && !self.segment.is_fin(),
            _ => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Sequence space `start..end` for the first time, with `mss` bytes to a segment: more than the
    /// connection's MSS in a probe of the path's MTU only.
    New { start: Seq, end: Seq, mss: usize, one_by_one: bool },
    /// Sequence space that was lost.
    Again { start: Seq, end: Seq, mss: usize },
    /// The last segment again, as a probe.
    Tail { start: Seq, end: Seq, mss: usize },
    /// No sequence space: an acknowledgment.
    Ack,
    /// A probe without text.
    Probe,
    /// A reset.
    Reset,
    /// The SYN-ACK of a connection that Fast Open made.
    SynAck,
}

impl Connection {
    /// The next segment to send, or none. `max_payload` is the most that one segment may carry: up
    /// to 64 KiB where the device cuts segments, otherwise 0, which means one MSS.
    pub fn poll_transmit(&mut self, now: Instant, max_payload: usize) -> Option<Transmit> {
        if let Some(reset) = &self.reset {
            return Some(Transmit { segment: reset.clone(), gso_size: None, kind: Kind::Reset });
        }
        if self.state == State::Closed {
            // The last acknowledgment of LAST-ACK's peer needs no answer.
            return None;
        }
        if let Some(segment) = self.next_syn_ack(now) {
            return Some(Transmit { segment, gso_size: None, kind: Kind::SynAck });
        }
        let mss = self.current_mss(now);
        let max = self.quantum(max_payload.max(mss), mss);
        let alone = |new_data| self.ecn.as_ref().is_some_and(|ecn| ecn.one_by_one(new_data));
        let (max_again, max_new) =
            (if alone(false) { mss } else { max }, if alone(true) { mss } else { max });
        self.pacer.ask();
        let data = self.next_data(now, mss, max_again, max_new);
        if data.is_none() {
            self.pacer.nothing_sent();
        }
        data.or_else(|| self.next_probe(now)).or_else(|| self.next_ack(now))
    }

    /// What was lost goes first, and as long as it waits for the window nothing new goes: there would
    /// be room only for less than a segment of it. But for F-RTO, which asks with new data whether
    /// anything is lost (RFC 5682 §2.1 step 2b).
    fn next_data(&mut self, now: Instant, mss: usize, max_again: usize, max_new: usize) -> Option<Transmit> {
        if self.probe == Some(Probe::Tail) {
            if self.recovery.may_probe()
                && let Some(probe) = self.next_tail_probe(now, mss)
            {
                return Some(probe);
            }
            // An acknowledgment came while the device was full.
            self.probe = None;
        }
        if self.recovery.board.next_lost().is_none() {
            return self.next_new(now, mss, max_new);
        }
        if self.recovery.prefers_new_data()
            && let Some(new) = self.next_new(now, mss, max_new)
        {
            return Some(new);
        }
        if self.recovery.waits_for_new_data(self.snd.snd_nxt) {
            return None;
        }
        self.next_retransmission(now, mss, max_again)
    }

    /// The tail loss probe: a segment of new data if there is some, whatever the congestion window
    /// and the Nagle algorithm say; or else the last segment again (RFC 8985 §7.3).
    fn next_tail_probe(&mut self, now: Instant, mss: usize) -> Option<Transmit> {
        let start = self.snd.snd_nxt;
        let window = self.snd.window_end().since(start);
        let len = self.snd.buffer.unsent().map_or(0, |record| record.len.min(mss));
        let len = self.snd.buffer.contiguous(start, len);
        if len > 0 && len <= window {
            let with_fin = self.snd.fin == Some(start + len) && window > len;
            let kind = Kind::New { start, end: start + len + usize::from(with_fin), mss, one_by_one: true };
            return Some(self.data_segment(now, kind, start, len, with_fin));
        }
        let (start, end) = self.recovery.board.last_segment(self.snd.buffer.end())?;
        let data_end = end.min(self.snd.buffer.end());
        let len = self.snd.buffer.contiguous(start, data_end.since(start).min(mss));
        let with_fin = end > data_end && start + len == data_end;
        let kind = Kind::Tail { start, end: start + len + usize::from(with_fin), mss };
        Some(self.data_segment(now, kind, start, len, with_fin))
    }

    /// The payload of `transmit`, in pieces.
    pub fn payload<'a>(&'a self, transmit: &Transmit, pieces: &mut ArrayVec<&'a [u8], MAX_PIECES>) {
        if let Kind::New { start, .. } | Kind::Again { start, .. } | Kind::Tail { start, .. } = transmit.kind
        {
            self.snd.buffer.slices(start, start + transmit.segment.payload_len, pieces);
        }
    }

    /// The device took `transmit`, which [`Connection::poll_transmit`] proposed just now.
    pub fn on_transmitted(&mut self, now: Instant, transmit: &Transmit) {
        self.counters.segs_out += 1;
        match transmit.kind {
            Kind::Reset => {
                self.reset = None;
                return;
            }
            Kind::SynAck => {
                self.on_syn_ack_transmitted(&transmit.segment);
                return;
            }
            Kind::Ack => {}
            Kind::Probe => {
                // The peer does not accept it, only answers: its acknowledgment does not count as
                // told. The window that it offers is kept, though.
                self.probe = None;
                self.rcv.on_window_sent(transmit.segment.window);
                return;
            }
            Kind::New { start, end, mss, one_by_one } => {
                let payload_end = start + transmit.segment.payload_len;
                let partial = !payload_end.since(start).is_multiple_of(mss);
                self.cc.on_send(now, self.recovery.board.pipe(), self.recovery.board.rate.is_app_limited());
                self.recovery.on_sent(now, start, end, mss);
                let overhead = transmit.segment.options.acc_ecn.as_ref().map_or(0, AccEcn::len_on_wire);
                if mss + overhead > self.snd.mss {
                    self.on_mtu_probe_sent(start, end, overhead);
                }
                self.snd.on_sent(now, end, partial, one_by_one);
                self.count_data(transmit);
                self.timers.stop(Timer::Persist);
                self.persist_since = None;
                if self.probe == Some(Probe::Window) {
                    self.probe = None;
                }
                if self.probe == Some(Probe::Tail) {
                    self.recovery.tail.on_sent(end, false);
                    self.on_tail_probe_sent(now);
                } else {
                    self.arm_tail_timer(now);
                }
                if !self.timers.is_set(Timer::Retransmit) {
                    self.rearm_retransmit(now);
                }
                // Less is unsent now, which TCP_NOTSENT_LOWAT may have waited for.
                self.room = self.room.max(Room::Sent);
            }
            Kind::Again { start, end, mss } => {
                self.cc.on_send(now, self.recovery.board.pipe(), self.recovery.board.rate.is_app_limited());
                self.recovery.on_retransmitted(now, start, end, mss);
                self.snd.last_sent = now;
                self.count_data(transmit);
                // A head that is sent again has a whole time-out to be acknowledged, as in Linux.
                if start == self.snd.snd_una || !self.timers.is_set(Timer::Retransmit) {
                    self.rearm_retransmit(now);
                }
            }
            Kind::Tail { start, end, mss } => {
                self.recovery.on_probe_repeated(now, start, end, mss);
                self.snd.last_sent = now;
                self.count_data(transmit);
                self.on_tail_probe_sent(now);
            }
        }
        if transmit.segment.payload_len > 0 {
            self.pace(now, transmit.segment.payload_len);
            self.rcv.ack.on_data_sent(now);
        }
        if let Some(ecn) = &mut self.ecn {
            ecn.on_sent(now, &transmit.segment);
        }
        self.rcv.on_ack_sent(transmit.segment.window);
        if transmit.kind != Kind::Ack {
            let in_flight = self.recovery.pipe(self.snd.mss);
            let limited = in_flight + self.snd.mss > self.cc.cwnd();
            self.validate_cwnd(now, limited);
            if self.snd.wants_room && !limited && !self.snd.has_unsent() {
                // tcp_cwnd_validate in Linux.
                self.chrono.start(now, Holds::SendBuffer);
            }
        }
    }

    /// Congestion window validation, as Linux does it (`tcp_cwnd_validate`): a window that is not
    /// used must not grow, and shrinks when it was not used for an RTO. `limited` says that it holds
    /// something back now.
    pub(in crate::tcp) fn validate_cwnd(&mut self, now: Instant, limited: bool) {
        self.snd.note_window_usage(self.recovery.board.outstanding(), limited);
        let full = self.is_cwnd_limited();
        let Some(used) = self.snd.unused_for(now, self.rtt.rto(), full) else { return };
        let by_choice = self.recovery.phase() == Phase::Open && !self.snd.wants_room;
        if by_choice && self.config.slow_start_after_idle && !self.cc.controls_window() {
            self.cc.on_unused(used.max(self.initial_window()));
        }
    }

    /// Whether the congestion window limits what is sent, so that it may grow.
    pub(in crate::tcp) fn is_cwnd_limited(&self) -> bool {
        // Slow start is for those whose window others move.
        let ssthresh = if self.cc.controls_window() { 0 } else { self.cc.ssthresh() };
        self.snd.is_cwnd_limited(self.cc.cwnd(), ssthresh)
    }

    /// The initial window in bytes (RFC 6928).
    fn initial_window(&self) -> usize {
        self.config.initial_window as usize * self.snd.mss
    }

    /// The probe has the time of a retransmission to be answered.
    fn on_tail_probe_sent(&mut self, now: Instant) {
        self.probe = None;
        self.timers.stop(Timer::TailLoss);
        self.rearm_retransmit(now);
    }

    fn count_data(&mut self, transmit: &Transmit) {
        self.counters.data_segs_out += 1;
        self.counters.bytes_sent += transmit.segment.payload_len as u64;
    }

    /// Payload bytes of a full segment with the options that it would carry now: SACK blocks take
    /// room (RFC 9293 MUST-16).
    pub(in crate::tcp) fn current_mss(&self, now: Instant) -> usize {
        let acc_ecn = self.acc_ecn(now).as_ref().map_or(0, AccEcn::len_on_wire);
        let blocks = self.rcv.sack_blocks(self.max_sack_blocks(acc_ecn)).len();
        let sack = if blocks == 0 { 0 } else { SACK_BASE_LEN + SACK_BLOCK_LEN * blocks };
        // Even with the smallest MSS that is allowed, 48, something is left.
        self.snd.mss.saturating_sub(sack + acc_ecn).max(8)
    }

    fn max_sack_blocks(&self, acc_ecn: usize) -> usize {
        let taken = if self.ts.is_some() { TIMESTAMPS_LEN } else { 0 };
        (MAX_OPTIONS - taken - acc_ecn - SACK_BASE_LEN) / SACK_BLOCK_LEN
    }

    /// AccECN's option, if the next segment is to carry it.
    pub(in crate::tcp) fn acc_ecn(&self, now: Instant) -> Option<AccEcn> {
        let ecn = self.ecn.as_ref()?;
        let crowded = !self.rcv.sack_blocks(1).is_empty();
        ecn.option(now, self.rtt.srtt().unwrap_or_default(), crowded)
    }

    /// A lost range, first lost first. Recovery decided what is lost; the window decides how much
    /// of it may go.
    fn next_retransmission(&mut self, now: Instant, mss: usize, max: usize) -> Option<Transmit> {
        let (start, end) = self.recovery.board.next_lost()?;
        let pipe = self.recovery.pipe(self.snd.mss);
        let room = self.cc.cwnd().saturating_sub(pipe);
        if room < mss && pipe > 0 {
            return None;
        }
        // RFC 7323 §2.4: a retransmission must fit the latest window, unless it is the head, which
        // also serves as a probe (RFC 9293 SHLD-16).
        let window = self.snd.window_end().since(start);
        if window == 0 && start != self.snd.snd_una {
            return None;
        }
        let data_end = end.min(self.snd.buffer.end());
        let most = room.max(mss).min(window.max(mss)).min(max) / mss * mss;
        let len = data_end.since(start).min(most);
        let len = self.snd.buffer.resend_end(start, start + len, mss).since(start);
        let len = self.snd.buffer.contiguous(start, len);
        let with_fin = self.snd.fin.is_some_and(|fin| fin < end && start + len == fin);
        if (len == 0 && !with_fin) || !self.pacing_allows(now) {
            return None;
        }
        let range_end = start + len + usize::from(with_fin);
        let kind = Kind::Again { start, end: range_end, mss };
        let mut transmit = self.data_segment(now, kind, start, len, with_fin);
        transmit.cut_to(mss);
        Some(transmit)
    }

    /// New data, as much in one segment as the windows, the Nagle algorithm and the device allow; or
    /// our FIN.
    fn next_new(&mut self, now: Instant, mss: usize, max: usize) -> Option<Transmit> {
        if !self.snd.has_unsent() {
            return None;
        }
        let start = self.snd.snd_nxt;
        let unsent = self.snd.unsent();
        let window = self.snd.window_end().since(start);
        if window > 0 {
            self.restart_after_idle(now);
        }
        if unsent == 0 {
            // A FIN takes one position in the window, and none of cwnd.
            if window == 0 {
                self.persist_if_stuck(now);
                return None;
            }
            let kind = Kind::New { start, end: start + 1, mss, one_by_one: false };
            return Some(self.data_segment(now, kind, start, 0, true));
        }
        match self.mtu_probe(now) {
            MtuProbe::No => {}
            MtuProbe::Wait => return None,
            MtuProbe::Send(probe) => return Some(*probe),
        }
        let pipe = self.recovery.pipe(self.snd.mss);
        let room = self.cc.cwnd().saturating_sub(pipe);
        let record = self.snd.buffer.unsent().expect("bytes that were not sent belong to a record");
        let limits = Limits { now, mss, max, window, room };
        let Some(len) = self.next_size(record, &limits) else {
            self.persist_if_stuck(now);
            return None;
        };
        let len = self.snd.buffer.contiguous(start, len);
        if !self.pacing_allows(now) {
            return None;
        }
        let with_fin = self.snd.fin == Some(start + len) && window > len;
        let end = start + len + usize::from(with_fin);
        let kind = Kind::New { start, end, mss, one_by_one: max == mss };
        let mut transmit = self.data_segment(now, kind, start, len, with_fin);
        transmit.cut_to(mss);
        let rest = window.min(room).min(record.len) - len;
        let forced = self.probe == Some(Probe::Window);
        if forced || (max == mss && record.len > mss && rest < mss) {
            // The end of what Linux would send as one super-segment.
            transmit.segment.flags = transmit.segment.flags.with(Flags::PSH);
        }
        Some(transmit)
    }

    /// RFC 5681 §4.1: after a pause longer than the RTO, the window says nothing of the path.
    fn restart_after_idle(&mut self, now: Instant) {
        let idle = now - self.snd.last_sent.max(self.snd.restarted);
        let rto = self.rtt.rto();
        let paused = self.recovery.board.outstanding() == 0 && idle > rto && self.counters.data_segs_out > 0;
        if paused && self.config.slow_start_after_idle && !self.cc.controls_window() {
            let restart = self.initial_window();
            self.cc.on_idle(idle, rto, restart);
            self.snd.restart_usage(now);
        }
    }

    /// Nothing is in flight and what waits may not go: only a probe will find out when it may.
    fn persist_if_stuck(&mut self, now: Instant) {
        // Where the handshake is not over, the answer to the SYN-ACK brings a window.
        let stuck = self.recovery.board.outstanding() == 0
            && !self.timers.is_set(Timer::Persist)
            && !self.is_opening();
        if stuck && self.probe.is_none() {
            self.timers.set(Timer::Persist, now + self.rtt.rto());
        }
    }

    /// A probe that a timer asked for: a segment that the peer must answer because it lies before
    /// its window (RFC 1122 §4.2.3.6). A window probe that may carry text has become new data above.
    fn next_probe(&self, now: Instant) -> Option<Transmit> {
        self.probe.filter(|probe| *probe != Probe::Tail)?;
        let mut segment = self.header(now, self.snd.snd_una - 1, Flags::ACK);
        segment.options.sack.clear();
        Some(Transmit { segment, gso_size: None, kind: Kind::Probe })
    }

    fn next_ack(&self, now: Instant) -> Option<Transmit> {
        if self.rcv.ack.due() != crate::tcp::receive::Due::Now {
            return None;
        }
        let segment = self.header(now, self.snd.snd_nxt, Flags::ACK);
        Some(Transmit { segment, gso_size: None, kind: Kind::Ack })
    }

    fn data_segment(&self, now: Instant, kind: Kind, start: Seq, len: usize, with_fin: bool) -> Transmit {
        let mut flags = Flags::ACK;
        if with_fin {
            flags = flags.with(Flags::FIN);
        }
        if len > 0 && self.snd.buffer.is_pushed(start + len) {
            flags = flags.with(Flags::PSH);
        }
        let mut segment = self.header(now, start, flags);
        segment.payload_len = len;
        if let (Some(ecn), Kind::New { .. }, true) = (&self.ecn, kind, len > 0) {
            segment.flags = segment.flags.with(ecn.flags(true));
            segment.ecn = ecn.field();
        }
        Transmit { segment, gso_size: None, kind }
    }

    /// One segment of `len` bytes, more than the MSS.
    pub(in crate::tcp) fn mtu_probe_segment(&self, now: Instant, start: Seq, len: usize) -> Transmit {
        let kind = Kind::New { start, end: start + len, mss: len, one_by_one: false };
        self.data_segment(now, kind, start, len, false)
    }

    fn header(&self, now: Instant, seq: Seq, mut flags: Flags) -> Segment {
        let acc_ecn = self.acc_ecn(now);
        let blocks = self.max_sack_blocks(acc_ecn.as_ref().map_or(0, AccEcn::len_on_wire));
        if let Some(ecn) = &self.ecn {
            flags = flags.with(ecn.flags(false));
        }
        Segment {
            seq: seq.wire(),
            ack: self.rcv.rcv_nxt.wire(),
            flags,
            window: self.rcv.window_field(),
            urgent: 0,
            options: Options {
                timestamps: self.ts.map(|ts| ts.option(now)),
                sack: self.rcv.sack_blocks(blocks),
                acc_ecn,
                ..Options::default()
            },
            ecn: Ecn::NotEct,
            payload_len: 0,
            gso_size: None,
        }
    }
}
