//! The segment that is expected, taken the short way (the header prediction of Van Jacobson, and the fast path of
//! `tcp_rcv_established` in Linux).
//!
//! Here it is the acknowledgment that says nothing new, which comes to a connection that is at rest: the answer to
//! a keep-alive probe, a window that was offered before, an acknowledgment that another one has overtaken. What
//! [`Connection::on_segment`] does with it, step by step, comes to the few lines of
//! [`Connection::on_quiet_ack`]; and nothing follows from it, so that the connection need not be asked for segments,
//! events and deadlines. A test gives the same segments to two connections, to one of them only the long way, and
//! compares all of their states.

use super::Connection;
use crate::tcp::receive::Due;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::{Flags, Segment};

impl Connection {
    /// Whether a segment without text is an acknowledgment from which nothing follows but what
    /// [`Connection::on_quiet_ack`] does.
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

    /// Takes an acknowledgment that [is quiet](Self::is_quiet_ack).
    pub fn on_quiet_ack(&mut self, now: Instant, seg: &Segment) {
        self.counters.segs_in += 1;
        self.liveness.on_received(now);
        self.liveness.on_answer();
        if self.rcv.nxt() <= self.rcv.last_ack_sent()
            && let (Some(ts), Some(option)) = (&mut self.ts, seg.options.timestamps)
        {
            ts.update(now, option.tsval);
        }
        self.snd.on_quiet_ack(now, self.rcv.nxt(), seg.window);
        if self.options.keepalive {
            self.arm_keepalive(now);
        }
    }
}
