//! What was sent: the second half of transmission.

use super::Connection;
use super::liveness::Probe;
use crate::tcp::path::Departure;
use crate::tcp::send::{Kind, LastSegment, Transmit, Unit};
use crate::tcp::seq::Seq;
use crate::tcp::timers::Timer;
use crate::time::Instant;
use crate::wire::AccEcn;

/// A range of sequence space that was sent, in segments of `mss` bytes.
#[derive(Clone, Copy, Debug)]
struct Range {
    start: Seq,
    end: Seq,
    mss: usize,
}

impl Connection {
    /// The device took `transmit`, which [`Connection::poll_transmit`] proposed just now.
    pub fn on_transmitted(&mut self, now: Instant, transmit: &Transmit) {
        self.counters.segs_out += transmit.segments() as u64;
        match transmit.kind() {
            Kind::Reset(_) => {
                self.outcome.set_reset(None);
                return;
            }
            Kind::SynAck => {
                self.on_syn_ack_transmitted(&transmit.segment);
                return;
            }
            Kind::Ack => {}
            Kind::Probe => {
                // The peer does not accept it, only answers: its acknowledgment does not count as
                // sent. The window that it offers is kept, though.
                self.liveness.cancel_any();
                self.rcv.on_window_sent(transmit.segment.window);
                return;
            }
            Kind::New { start, end, mss, unit } => {
                self.on_new_sent(now, transmit, Range { start, end, mss }, unit);
            }
            Kind::Again { start, end, mss } => {
                self.on_repair_sent(now, transmit, Range { start, end, mss });
            }
            Kind::Tail { start, end, mss } => {
                self.recovery.on_probe_repeated(now, start, end, mss);
                self.snd.on_sent_again(now);
                self.counters.on_data_sent(transmit.segment.payload_len, transmit.segments());
                self.on_tail_probe_sent(now);
            }
        }
        if transmit.segment.payload_len > 0 {
            self.path.on_departure(
                now,
                Departure {
                    bytes: transmit.segment.payload_len,
                    total: self.counters.bytes_sent,
                    mss: self.snd.mss(),
                    outstanding: self.recovery.outstanding(),
                },
            );
            self.rcv.on_data_sent(now);
        }
        if let Some(ecn) = &mut self.ecn {
            ecn.on_sent(now, &transmit.segment);
        }
        self.rcv.on_ack_sent(transmit.segment.window);
        if transmit.kind() != Kind::Ack {
            let mss = self.snd.mss();
            let limited = self.recovery.pipe(mss) + mss > self.path.cwnd();
            self.validate_cwnd(now, limited);
            if !limited {
                self.snd.note_buffer_limit(now);
            }
        }
    }

    fn on_new_sent(&mut self, now: Instant, transmit: &Transmit, sent: Range, unit: Unit) {
        let Range { start, end, mss } = sent;
        let len = transmit.segment.payload_len;
        let last = if len.is_multiple_of(mss) { LastSegment::Full } else { LastSegment::Partial };
        self.note_send(now);
        self.recovery.on_sent(now, start, end, mss);
        let overhead = transmit.segment.options.acc_ecn.as_ref().map_or(0, AccEcn::len_on_wire);
        if mss + overhead > self.snd.mss() {
            self.on_mtu_probe_sent(start, end, overhead);
        }
        self.snd.on_sent(now, end, last, unit);
        self.counters.on_data_sent(len, transmit.segments());
        self.timers.stop(Timer::Persist);
        self.liveness.on_data_sent();
        if self.liveness.probe() == Some(Probe::Tail) {
            self.recovery.on_probe_sent(end);
            self.on_tail_probe_sent(now);
        } else {
            self.arm_tail_timer(now);
        }
        if !self.timers.is_set(Timer::Retransmit) {
            self.rearm_retransmit(now);
        }
    }

    fn on_repair_sent(&mut self, now: Instant, transmit: &Transmit, sent: Range) {
        let Range { start, end, mss } = sent;
        self.note_send(now);
        self.recovery.on_retransmitted(now, start, end, mss);
        self.snd.on_sent_again(now);
        self.counters.on_data_sent(transmit.segment.payload_len, transmit.segments());
        // A head that is sent again has a whole time-out to be acknowledged, as in Linux.
        if start == self.snd.una() || !self.timers.is_set(Timer::Retransmit) {
            self.rearm_retransmit(now);
        }
    }

    /// Reports what is in the network to congestion control before something is sent.
    fn note_send(&mut self, now: Instant) {
        let board = self.recovery.board();
        self.path.on_send(now, board.pipe(), board.rate().is_app_limited());
    }

    /// The probe has the time of a retransmission to be answered.
    fn on_tail_probe_sent(&mut self, now: Instant) {
        self.liveness.cancel_any();
        self.timers.stop(Timer::TailLoss);
        self.rearm_retransmit(now);
    }
}
