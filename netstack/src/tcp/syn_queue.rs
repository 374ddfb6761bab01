//! The passive side of the handshake: one small entry for each connection that is half open, so that
//! a flood of SYNs costs entries and never connections (RFC 4987 §3.5).

use super::connection::{Connection, Established};
use super::handshake::{Offer, backed_off};
use super::options::SocketOptions;
use super::path::Path;
use super::segment::{Options, Segment};
use super::seq::SeqNum;
use crate::buffer::Pool;
use crate::config::Config;
use crate::time::Instant;
use std::sync::Arc;

/// A connection in SYN-RECEIVED that a listener waits for.
#[derive(Clone, Debug)]
pub struct SynEntry {
    /// Our initial sequence number.
    iss: SeqNum,
    /// The peer's.
    irs: SeqNum,
    /// What its SYN offered.
    theirs: Options,
    /// What our SYN-ACK offers.
    offer: Offer,
    /// Time-outs so far.
    timeouts: u32,
    retries: u32,
    /// When the first SYN-ACK was sent.
    sent_at: Instant,
    deadline: Instant,
    /// When a stray segment was last answered.
    last_answer: Option<Instant>,
}

/// What a segment did to a [`SynEntry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SynStep {
    /// Nothing.
    Ignore,
    /// This segment must be sent.
    Reply(Segment),
    /// The peer gave up: remove the entry.
    Remove,
    /// The handshake is complete: [`SynEntry::establish`] makes the connection.
    Establish,
}

/// What a time-out did to a [`SynEntry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SynTimeout {
    /// It was not due yet.
    Nothing,
    /// Send this SYN-ACK again.
    Retransmit(Segment),
    /// The peer does not answer: remove the entry.
    GiveUp,
}

impl SynEntry {
    /// The entry for a SYN that came to a listener with `options`.
    pub fn new(
        now: Instant,
        syn: &Segment,
        iss: SeqNum,
        ts_offset: u32,
        path: Path,
        options: &SocketOptions,
        config: &Config,
    ) -> Self {
        Self {
            iss,
            irs: syn.seq,
            theirs: syn.options.clone(),
            offer: Offer::new(path, options, ts_offset, config),
            timeouts: 0,
            retries: config.synack_retries,
            sent_at: now,
            deadline: now + config.rto_initial,
            last_answer: None,
        }
    }

    /// The SYN-ACK.
    pub fn syn_ack(&self, now: Instant) -> Segment {
        self.offer.syn_ack(now, self.iss, self.irs, &self.theirs)
    }

    /// When [`SynEntry::on_timeout`] has something to do.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// No answer came in time.
    pub fn on_timeout(&mut self, now: Instant, config: &Config) -> SynTimeout {
        if now < self.deadline {
            return SynTimeout::Nothing;
        }
        if self.timeouts >= self.retries {
            return SynTimeout::GiveUp;
        }
        self.timeouts += 1;
        self.deadline = now + backed_off(config, self.timeouts);
        SynTimeout::Retransmit(self.syn_ack(now))
    }

    /// A segment came for the entry (RFC 9293 §3.10.7.4 as far as SYN-RECEIVED goes).
    pub fn on_segment(&mut self, now: Instant, seg: &Segment, config: &Config) -> SynStep {
        let rcv_nxt = self.irs + 1;
        if seg.is_syn() && !seg.is_ack() && !seg.is_rst() {
            // Either our SYN-ACK was lost or is slow, or it is another SYN, to which RFC 5961 §4.2
            // applies in SYN-RECEIVED as well: the SYN-ACK answers both.
            return self.answer(now, config);
        }
        if seg.is_rst() {
            // RFC 5961 §3.2; nothing was received, so only one number is right.
            return if seg.seq == rcv_nxt { SynStep::Remove } else { SynStep::Ignore };
        }
        if self.is_old(now, seg) {
            return self.answer(now, config);
        }
        if !seg.is_ack() {
            return SynStep::Ignore;
        }
        if seg.ack != self.iss + 1 || seg.is_syn() {
            return seg.reset_for_unknown().map_or(SynStep::Ignore, SynStep::Reply);
        }
        let in_window = !seg.seq.before(rcv_nxt) && seg.seq - rcv_nxt <= self.offer.window as u32;
        if !in_window {
            return self.answer(now, config);
        }
        SynStep::Establish
    }

    /// PAWS against the SYN's own timestamp (RFC 7323 §5.3).
    fn is_old(&self, now: Instant, seg: &Segment) -> bool {
        let ts = self.offer.agree(now, &self.theirs).ts;
        ts.zip(seg.options.timestamps).is_some_and(|(ts, option)| ts.is_old(now, option.tsval))
    }

    /// The SYN-ACK again, which also serves as the acknowledgment that a stray segment gets; within
    /// the limit for such answers.
    fn answer(&mut self, now: Instant, config: &Config) -> SynStep {
        if self.last_answer.is_some_and(|last| now - last < config.challenge_ack_interval) {
            return SynStep::Ignore;
        }
        self.last_answer = Some(now);
        SynStep::Reply(self.syn_ack(now))
    }

    /// The connection, after [`SynStep::Establish`] for `seg`. The caller gives the same segment to
    /// [`Connection::on_segment`] next: it may carry data, a FIN, and a newer window.
    pub fn establish(
        &self,
        now: Instant,
        seg: &Segment,
        options: &SocketOptions,
        config: &Arc<Config>,
        pool: &Arc<Pool>,
    ) -> Box<Connection> {
        let negotiated = self.offer.agree(now, &self.theirs);
        let from = Established {
            iss: self.iss,
            irs: self.irs,
            path: self.offer.path,
            snd_wnd: negotiated.peer_scale.from_wire(seg.window),
            negotiated,
            offered: self.offer.window,
            rtt: (self.timeouts == 0).then(|| now - self.sent_at),
            syn_was_lost: self.timeouts > 0,
        };
        Connection::new(now, from, options.clone(), config, pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<SynEntry>() <= 512, "{}", size_of::<SynEntry>());
    }
}
