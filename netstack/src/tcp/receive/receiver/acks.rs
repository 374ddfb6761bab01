//! The acknowledgments that are owed.

use super::{AckPolicy, Receiver};
use crate::config::Config;
use crate::tcp::ecn::AckNeed;
use crate::tcp::receive::ack::Due;
use crate::time::{Duration, Instant};

/// How the acknowledgment of the peer's SYN may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum FirstAck {
    /// At once.
    AtOnce,
    /// With data that is to follow.
    WithData,
    /// With what somebody waits to write.
    WithAnswer,
}

impl Receiver {
    /// Whether an acknowledgment is owed, and by when.
    pub(in crate::tcp) fn ack_due(&self) -> Due {
        self.ack.due()
    }

    /// Whether the acknowledgment must leave before the next segment is processed.
    pub(in crate::tcp) fn ack_is_urgent(&self) -> bool {
        self.ack.urgent()
    }

    /// Whether the acknowledgment that is due at once may ride on an answer that comes at once, too.
    pub(in crate::tcp) fn ack_may_ride(&self) -> bool {
        self.ack.may_ride() && self.assembler.is_empty() && !self.full_segments_unacked()
    }

    /// The delay of acknowledgments.
    pub(in crate::tcp) fn ato(&self) -> Duration {
        self.ack.ato()
    }

    /// When data last came.
    pub(in crate::tcp) fn last_data(&self) -> Option<Instant> {
        self.ack.last_data()
    }

    /// Something came that must be acknowledged at once, and on its own.
    pub(in crate::tcp) fn acknowledge_alone(&mut self) {
        self.ack.now_urgently();
    }

    /// Sends a challenge ACK, at most one in each `interval` (RFC 5961 §7).
    pub(in crate::tcp) fn challenge(&mut self, now: Instant, interval: Duration) {
        self.ack.challenge(now, interval);
    }

    /// Acknowledges the peer's SYN.
    pub(in crate::tcp) fn acknowledge_syn(&mut self, now: Instant, how: FirstAck) {
        match how {
            FirstAck::AtOnce => self.ack.now_urgently(),
            FirstAck::WithData => self.ack.delay(now),
            FirstAck::WithAnswer => self.ack.delay_for_answer(now),
        }
    }

    /// Acknowledges the peer's FIN, at once or with what the user may send when notified of it. As in Linux
    /// at once, too, if segments were to be acknowledged at once anyway.
    pub(in crate::tcp) fn acknowledge_fin(&mut self, now: Instant, at_once: bool, srtt: Option<Duration>) {
        let quick = self.ack.due() == Due::Now;
        self.ack.enter_pingpong();
        if quick || at_once {
            self.ack.now();
        } else {
            self.ack.schedule(now, false, srtt);
        }
    }

    /// An arriving segment's ECN field wants to be reported.
    pub(in crate::tcp) fn on_marks(&mut self, need: AckNeed) {
        match need {
            AckNeed::None => {}
            AckNeed::Quick => self.ack.enter_quick_for(2),
            AckNeed::Now => self.ack.now(),
            AckNeed::Alone => self.ack.now_urgently(),
        }
    }

    /// The delay of an owed acknowledgment may be over. Says whether it is.
    pub(in crate::tcp) fn on_ack_timeout(&mut self, now: Instant, rto: Duration) -> bool {
        let over = matches!(self.ack.due(), Due::At(at) if at <= now);
        if over {
            self.ack.on_timeout(rto);
        }
        over
    }

    /// Data was sent, perhaps in answer to what came.
    pub(in crate::tcp) fn on_data_sent(&mut self, now: Instant) {
        self.ack.on_data_sent(now);
    }

    /// The connection is over: nothing is owed.
    pub(in crate::tcp) fn cancel_ack(&mut self) {
        self.ack.cancel();
    }

    /// `TCP_QUICKACK` was set or cleared.
    pub(in crate::tcp) fn set_quickack(&mut self, on: bool) {
        self.ack.set_quick(on);
    }

    /// Whether segments are acknowledged at once.
    pub(in crate::tcp) fn quickack(&self) -> bool {
        self.ack.quick_mode()
    }

    /// The rhythm of acknowledgments is learnt from what follows (as in Linux after a SYN's data).
    pub(in crate::tcp) fn restart_acks(&mut self, config: &Config) {
        self.ack = AckPolicy::new(config);
    }
}
