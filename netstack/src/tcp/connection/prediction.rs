//! The segment that is expected, taken the short way (the header prediction of Van Jacobson, and the fast path of
//! `tcp_rcv_established` in Linux).
//!
//! Here it is the acknowledgment that says nothing new, which comes to a connection that is at rest: the answer to
//! a keep-alive probe, a window that was offered before, an acknowledgment that another one has overtaken. What
//! [`Connection::on_segment`] does with it, step by step, comes to the few lines of
//! [`Connection::on_quiet_acks`]; and nothing follows from it, so that the connection need not be asked for segments,
//! events and deadlines. A test gives the same segments to two connections, to one of them only the long way, and
//! compares all of their states.

use super::Connection;
use crate::tcp::receive::Due;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::{Flags, Segment, SeqNum};

impl Connection {
    /// Whether a segment without text is an acknowledgment from which nothing follows but what
    /// [`Connection::on_quiet_acks`] does.
    pub fn is_quiet_ack(&self, now: Instant, seg: &Segment) -> bool {
        let una = self.snd.una();
        let expected = seg.flags == Flags::ACK
            && seg.payload_len == 0
            && self.state == State::Established
            && seg.seq == self.rcv.nxt().wire()
            && seg.ack == una.wire();
        let alone = seg.options.sack.is_empty() && self.ecn.is_none() && self.passive.is_none();
        let at_rest = self.recovery.outstanding() == 0
            && !self.snd.has_unsent()
            && !self.snd.wants_room()
            && self.snd.is_room_settled()
            && self.snd.wnd() > 0
            && self.snd.offers_same(seg.window)
            && self.liveness.probe().is_none()
            && !self.recovery.has_mtu_probe()
            && self.rcv.ack_due() != Due::Now
            && self.outcome.is_silent();
        let in_time = match (&self.ts, seg.options.timestamps) {
            (Some(ts), Some(option)) => !ts.is_late(now, option.tsval),
            _ => true,
        };
        expected && alone && at_rest && in_time
    }

    /// Takes acknowledgments that [are quiet](Self::is_quiet_ack): so many, all alike but for their timestamps,
    /// of which `last` came at `now`.
    pub fn on_quiet_acks(&mut self, now: Instant, last: &QuietAck, count: u32) {
        self.counters.segs_in += u64::from(count);
        self.liveness.on_received(now);
        self.liveness.on_answer();
        if self.rcv.nxt() <= self.rcv.last_ack_sent()
            && let (Some(ts), Some(tsval)) = (&mut self.ts, last.tsval)
        {
            ts.update(now, tsval);
        }
        self.snd.on_quiet_ack(now, self.rcv.nxt(), last.window);
        if self.options.keepalive {
            self.arm_keepalive(now);
        }
    }
}

/// An acknowledgment that said nothing new to a connection at rest. As long as nothing else happens to the connection,
/// one like it says nothing new either, and can be kept back: what it changes is known when somebody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietAck {
    seq: SeqNum,
    ack: SeqNum,
    window: u16,
    tsval: Option<u32>,
}

impl QuietAck {
    /// The numbers of an acknowledgment.
    pub fn of(seg: &Segment) -> Self {
        let tsval = seg.options.timestamps.map(|option| option.tsval);
        Self { seq: seg.seq, ack: seg.ack, window: seg.window, tsval }
    }

    /// Whether a segment is such an acknowledgment again, and not older.
    #[inline]
    pub fn is_again(&self, seg: &Segment) -> bool {
        let in_time = match (self.tsval, seg.options.timestamps) {
            (Some(last), Some(option)) => option.tsval.wrapping_sub(last) as i32 >= 0,
            (None, None) => true,
            _ => false,
        };
        in_time
            && seg.flags == Flags::ACK
            && seg.payload_len == 0
            && (seg.seq, seg.ack, seg.window) == (self.seq, self.ack, self.window)
            && seg.options.sack.is_empty()
    }
}
