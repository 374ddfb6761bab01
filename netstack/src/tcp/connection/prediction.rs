//! The segment that is expected, taken the short way (the header prediction of Van Jacobson, and the fast path of
//! `tcp_rcv_established` in Linux).
//!
//! One kind is the next in order, at which most of the steps of RFC 9293 find nothing: the flags, the window, the
//! reset, the SYN, the FIN. [`Connection::on_segment`] asks [`Connection::is_expected`] first, and what is left
//! of the steps is in `take_expected`.
//!
//! The other kind is the acknowledgment that says nothing new, which comes to a connection with nothing in flight: the
//! answer to a keep-alive probe, a window that was offered before, an acknowledgment that another one has overtaken.
//! All that the steps do with it comes to the few lines of [`Connection::on_quiet_acks`]; and nothing follows from
//! it, so that the connection need not be asked for segments, events and deadlines.
//!
//! Tests give the same segments to two connections, to one of them only the long way, and compare all of their
//! states.

use super::Connection;
use crate::buffer::Chunk;
use crate::readiness::Events;
use crate::tcp::receive::{Due, Echo};
use crate::tcp::recovery::{CongestionState, PlainAck, Rearm};
use crate::tcp::seq::Seq;
use crate::tcp::state::State;
use crate::tcp::timers::Timer;
use crate::time::Instant;
use crate::wire::{Flags, PlainSegment, SeqNum};

impl Connection {
    /// Whether a segment is the next in order on a connection that is established, with nothing said of it but what
    /// `take_expected` looks at.
    #[inline]
    pub fn is_expected(&self, now: Instant, seg: &PlainSegment) -> bool {
        let plain = seg.flags.without(Flags::PSH) == Flags::ACK
            && self.state == State::Established
            && self.ecn.is_none()
            && self.passive.is_none();
        let in_time = match (&self.ts, seg.timestamps) {
            (Some(ts), Some(option)) => !ts.is_late(now, option.tsval),
            _ => true,
        };
        let (una, seq) = (self.snd.una(), self.rcv.nxt().nearest(seg.seq));
        let ack = una.nearest(seg.ack);
        plain && in_time && una <= ack && ack <= self.snd.nxt() && self.rcv.expects(seq, seg.payload_len)
    }

    /// Takes a segment that [is expected](Self::is_expected).
    #[inline]
    pub(super) fn take_expected(&mut self, now: Instant, seg: &PlainSegment, payload: &mut Chunk) {
        let (una, seq) = (self.snd.una(), self.rcv.nxt());
        let ack = una.nearest(seg.ack);
        self.liveness.on_received(now);
        self.update_timestamp(now, seg.timestamps, seq);
        let no_news = ack == una
            && self.recovery.outstanding() == 0
            && self.recovery.state() == CongestionState::Open
            && self.snd.wnd() > 0
            && !self.recovery.has_mtu_probe();
        if no_news {
            self.snd.update_window(seq, ack, seg.window);
            self.timers.stop(Timer::TailLoss);
            self.follow_mtu_probe();
            self.liveness.on_answer();
            self.snd.after_ack(now, 0);
        } else if ack > una && self.recovery.takes_plain_ack() {
            self.take_plain_ack(now, seg, seq, ack);
        } else {
            self.take_ack(now, &seg.to_segment(), seq, ack);
        }
        if !payload.is_empty() {
            self.take_expected_text(now, seg, payload);
        }
    }

    /// As `take_ack`, for an acknowledgment of what was sent once, without ECN and while nothing is missing.
    fn take_plain_ack(&mut self, now: Instant, seg: &PlainSegment, seq: Seq, ack: Seq) {
        let (una, window_before) = (self.snd.una(), self.snd.wnd());
        self.snd.update_window(seq, ack, seg.window);
        let (cwnd_limited, paced) = (self.is_cwnd_limited(), self.is_paced());
        self.note_app_limited();
        let (snd_nxt, mss) = (self.snd.nxt(), self.snd.mss());
        let plain = PlainAck { now, una: ack, snd_nxt, mss, cwnd_limited, paced };
        let (rtt, cc) = self.path.for_recovery();
        self.recovery.on_plain_ack(&plain, rtt, cc);
        self.counters.bytes_acked += ack.since(una) as u64;
        self.snd.on_ack(ack);
        self.outcome.set_soft_error(None);
        self.rearm_after_ack(now, Rearm::Yes);
        self.follow_mtu_probe();
        self.after_answer(window_before);
        self.snd.after_ack(now, self.recovery.outstanding());
    }

    /// Takes the text of such a segment.
    fn take_expected_text(&mut self, now: Instant, seg: &PlainSegment, payload: &mut Chunk) {
        let len = payload.len();
        self.counters.data_segs_in += seg.on_wire() as u64;
        self.counters.bytes_received += len as u64;
        self.rcv.learn_mss(len, seg.gso_size, seg.flags.contains(Flags::PSH));
        if let (Some(ts), Some(option)) = (&self.ts, seg.timestamps)
            && self.rcv.wants_echo(len, option.tsecr)
            && let Some(rtt) = ts.rtt(now, option.tsecr)
        {
            self.rcv.on_echo(len, Echo { tsecr: option.tsecr, rtt });
        }
        let path = &self.path;
        self.rcv.on_expected_text(now, payload, path.srtt(), || path.rto());
        self.outcome.notify(Events::READABLE);
    }

    /// Whether a segment without text is an acknowledgment from which nothing follows but what
    /// [`Connection::on_quiet_acks`] does.
    pub fn is_quiet_ack(&self, now: Instant, seg: &PlainSegment) -> bool {
        let una = self.snd.una();
        let expected = seg.flags == Flags::ACK
            && seg.payload_len == 0
            && self.state == State::Established
            && seg.seq == self.rcv.nxt().wire()
            && seg.ack == una.wire();
        let alone = self.ecn.is_none() && self.passive.is_none();
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
        let in_time = match (&self.ts, seg.timestamps) {
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

/// An acknowledgment that said nothing new to a connection with nothing in flight. As long as nothing else happens to
/// the connection, one like it says nothing new either, and can be kept back: what it changes is known when somebody
/// looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietAck {
    seq: SeqNum,
    ack: SeqNum,
    window: u16,
    tsval: Option<u32>,
}

impl QuietAck {
    /// What a segment says, if it is no more than an acknowledgment.
    #[inline]
    pub fn of(seg: &PlainSegment) -> Option<Self> {
        let tsval = seg.timestamps.map(|option| option.tsval);
        let bare = seg.flags == Flags::ACK && seg.payload_len == 0;
        bare.then_some(Self { seq: seg.seq, ack: seg.ack, window: seg.window, tsval })
    }

    /// Whether an acknowledgment says no more than this one, and is not older. Then it takes the place of this one.
    #[inline]
    pub fn is_followed_by(&mut self, later: &Self) -> bool {
        let in_time = match (self.tsval, later.tsval) {
            (Some(last), Some(tsval)) => tsval.wrapping_sub(last) as i32 >= 0,
            (None, None) => true,
            _ => false,
        };
        let follows = (later.seq, later.ack, later.window) == (self.seq, self.ack, self.window) && in_time;
        if follows {
            self.tsval = later.tsval;
        }
        follows
    }
}
