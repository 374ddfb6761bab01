//! Loss recovery: what is lost, what to send again, and what that means for the window.
//!
//! With SACK, losses are found by time ([`rack`]); without it, by three duplicate acknowledgments
//! (RFC 5681, RFC 6582). [`prr`] paces what recovery lets out. The retransmission time-out
//! ([`rtt`]) is the last resort.

mod prr;
mod rack;
mod rtt;
mod scoreboard;

pub use rtt::RttEstimator;
pub(super) use scoreboard::Scoreboard;

use super::congestion::{AckSample, CongestionControl};
use super::delivery_rate::RateSample;
use super::seq::Seq;
use crate::time::{Duration, Instant};
use prr::{Prr, PrrInput};
use rack::Rack;
use scoreboard::Progress;

/// Duplicate acknowledgments that mean a loss where there is no SACK (RFC 5681 §3.2).
const DUP_ACK_THRESHOLD: u32 = 3;

/// Where loss recovery stands; `ca_state` of `TCP_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nothing unusual.
    #[default]
    Open,
    /// Something was received out of order; nothing is lost yet.
    Disorder,
    /// The peer reported marks (RFC 3168): the window goes down without a loss.
    Cwr,
    /// Fast recovery.
    Recovery,
    /// After a retransmission time-out.
    Loss,
}

/// Loss recovery of one connection.
#[derive(Debug)]
pub(super) struct Recovery {
    /// What is in flight.
    pub(super) board: Scoreboard,
    phase: Phase,
    /// RecoveryPoint of RFC 6675, `recover` of RFC 6582: SND.NXT when the phase began.
    recovery_point: Option<Seq>,
    /// Duplicate acknowledgments in a row.
    dup_acks: u32,
    /// Whether SACK was negotiated.
    sack: bool,
    rack: Rack,
    prr: Prr,
    /// When to look for losses again.
    pub(super) reorder_timer: Option<Instant>,
    /// Expirations of the retransmission timer in a row.
    pub(super) timeouts: u32,
    /// When the first of the present series of retransmissions left.
    pub(super) retrans_stamp: Option<Instant>,
    /// Where a probe of the path's MTU begins that is in flight. If nothing but the probe is lost, this
    /// becomes none, and no congestion is assumed (RFC 4821 §7.6.2).
    pub(super) mtu_probe: Option<Seq>,
    /// Counters for `TCP_INFO`.
    pub(super) counters: RecoveryCounters,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecoveryCounters {
    /// Segments that were retransmitted.
    pub(super) total_retrans: u64,
    /// Bytes that were retransmitted.
    pub(super) bytes_retrans: u64,
    /// DSACK blocks that came.
    pub(super) dsack_dups: u64,
    /// Times that reordering was seen.
    pub(super) reord_seen: u64,
}

/// An acceptable acknowledgment.
#[derive(Debug)]
pub(super) struct AckInput<'a> {
    pub(super) now: Instant,
    /// SEG.ACK, which is between SND.UNA and SND.NXT.
    pub(super) una: Seq,
    /// Whether it is above SND.UNA.
    pub(super) advances: bool,
    pub(super) snd_nxt: Seq,
    /// SACK blocks, in the order of the wire, DSACKs included.
    pub(super) blocks: &'a [(Seq, Seq)],
    /// Whether it is a duplicate as RFC 5681 §2 defines it.
    pub(super) duplicate: bool,
    /// The round-trip time that the echoed timestamp gives.
    pub(super) echoed_rtt: Option<Duration>,
    pub(super) cwnd_limited: bool,
    /// Whether the connection is paced.
    pub(super) paced: bool,
    pub(super) mss: usize,
}

impl Recovery {
    pub(super) fn new(sack: bool) -> Self {
        Self {
            board: Scoreboard::default(),
            phase: Phase::Open,
            recovery_point: None,
            dup_acks: 0,
            sack,
            rack: Rack::default(),
            prr: Prr::default(),
            reorder_timer: None,
            timeouts: 0,
            retrans_stamp: None,
            mtu_probe: None,
            counters: RecoveryCounters::default(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// Bytes thought to be in the network. Without SACK, each duplicate acknowledgment says that a
    /// segment has left it (RFC 5681 §3.2).
    pub(super) fn pipe(&self, mss: usize) -> usize {
        let pipe = self.board.pipe();
        if self.sack { pipe } else { pipe.saturating_sub(self.dup_acks as usize * mss) }
    }

    /// An acknowledgment came. Updates the estimator, finds losses, moves the window.
    pub(super) fn on_ack(
        &mut self,
        ack: &AckInput<'_>,
        rtt: &mut RttEstimator,
        cc: &mut dyn CongestionControl,
    ) {
        let flight = self.board.outstanding();
        let progress = self.take_delivered(ack);
        self.sample_rtt(ack, &progress, rtt);
        if ack.advances {
            self.dup_acks = 0;
            self.timeouts = 0;
            // What is given up is a peer that acknowledges nothing: each progress begins the time
            // anew, however long the repair of all that was lost takes.
            self.retrans_stamp = None;
            rtt.reset_backoff();
        } else if ack.duplicate {
            // An attacker who makes up duplicates wins no more than there was (RFC 5681 §3.2).
            let most = (flight / ack.mss.max(1)) as u32;
            self.dup_acks = (self.dup_acks + 1).min(most);
        }
        let found = self.detect(ack.now, rtt);
        let lost = if found > 0 && self.forgives_probe() { 0 } else { found };
        self.tell_losses(ack.now, cc);
        self.follow_phase(ack, lost, flight, cc);
        self.move_window(ack, &progress, lost, rtt, cc);
        if self.phase == Phase::Open && self.board.retransmitted() == 0 {
            self.retrans_stamp = None;
        }
    }

    /// Applies the cumulative acknowledgment and the SACK blocks to the scoreboard.
    fn take_delivered(&mut self, ack: &AckInput<'_>) -> Progress {
        let mut progress = Progress::default();
        let highest_before = self.board.highest_sacked();
        self.board.on_ack(ack.una, &mut progress);
        for (index, &(start, end)) in ack.blocks.iter().enumerate() {
            if index == 0 && self.is_dsack(ack, start, end) {
                self.counters.dsack_dups += 1;
                continue;
            }
            // Blocks below SND.UNA are stale, and blocks of what was never sent are lies.
            if start < end && start >= ack.una && end <= ack.snd_nxt {
                self.board.on_sack(start, end, &mut progress);
            }
        }
        // RFC 8985 §6.2 step 3: the first transmission of something below what was already SACKed
        // arrived after it.
        let reordered = highest_before
            .is_some_and(|highest| progress.newest.is_some_and(|n| !n.retransmitted && n.end < highest));
        if reordered {
            self.counters.reord_seen += 1;
            self.rack.on_reordering();
        }
        progress
    }

    /// RFC 2883 §5: the first block is a duplicate if it is below the acknowledgment, or inside of
    /// the second block.
    fn is_dsack(&self, ack: &AckInput<'_>, start: Seq, end: Seq) -> bool {
        let inside = ack.blocks.get(1).is_some_and(|second| second.0 <= start && end <= second.1);
        start < ack.una || inside
    }

    fn sample_rtt(&mut self, ack: &AckInput<'_>, progress: &Progress, rtt: &mut RttEstimator) {
        // Karn's rule: what was sent once; or what the peer's echo vouches for (RFC 7323 §4.1).
        let clean = progress.oldest_clean.filter(|_| !progress.repaired).map(|sent_at| ack.now - sent_at);
        // The echo of something old measures, beside the path, how often the acknowledgment of it
        // was lost. Linux takes it as it is, and a few lost ACKs on a bad path then mean an RTO of
        // minutes; a bound still lets the RTO grow as fast as a path can that really became slower.
        let echoed = ack.echoed_rtt.filter(|_| ack.advances).map(|echo| echo.min(2 * rtt.base_rto()));
        let sample = clean.or(echoed);
        if let Some(sample) = sample {
            let per_window = (self.board.outstanding() / (2 * ack.mss.max(1))) as u32;
            rtt.on_sample(sample, per_window.clamp(1, 16));
        }
        if let Some(newest) = progress.newest {
            self.rack.on_delivered(ack.now, newest, rtt.min_rtt().unwrap_or_default());
        }
    }

    /// Whether what was found lost is a probe of the path's MTU, in which case the probe is over, and
    /// congestion control hears nothing (RFC 4821 §7.6.2). As in Linux the probe must be what the peer
    /// waits for, and everything else in order.
    fn forgives_probe(&mut self) -> bool {
        let calm = matches!(self.phase, Phase::Open | Phase::Disorder);
        let forgiven = calm && self.mtu_probe.is_some() && self.mtu_probe == self.board.first();
        if forgiven {
            self.mtu_probe = None;
            self.board.take_losses();
        }
        forgiven
    }

    /// Congestion control hears of each range that was found lost.
    fn tell_losses(&mut self, now: Instant, cc: &mut dyn CongestionControl) {
        for loss in self.board.take_losses() {
            cc.on_loss(now, &loss);
        }
    }

    /// Looks for losses and sets the timer for those that are not certain yet.
    fn detect(&mut self, now: Instant, rtt: &RttEstimator) -> usize {
        if !self.sack {
            return 0;
        }
        let recovering = matches!(self.phase, Phase::Recovery | Phase::Loss);
        let eager = recovering || self.board.sacked() >= 3 * self.board_mss();
        let min_rtt = rtt.min_rtt().unwrap_or_default();
        let srtt = rtt.srtt().unwrap_or_default();
        let (lost, next) = self.rack.detect(now, &mut self.board, eager, min_rtt, srtt);
        self.reorder_timer = next;
        lost
    }

    fn board_mss(&self) -> usize {
        self.board.mss().max(1)
    }

    fn follow_phase(
        &mut self,
        ack: &AckInput<'_>,
        lost: usize,
        flight: usize,
        cc: &mut dyn CongestionControl,
    ) {
        let past_point = self.recovery_point.is_none_or(|point| ack.una >= point);
        match self.phase {
            Phase::Open | Phase::Disorder | Phase::Cwr => {
                let reno_loss = !self.sack
                    && self.dup_acks >= DUP_ACK_THRESHOLD
                    // RFC 6582 §4: an acknowledgment not above `recover` may be an echo of
                    // retransmissions that were not needed.
                    && (self.phase == Phase::Cwr || self.recovery_point.is_none_or(|point| ack.una > point));
                if reno_loss {
                    self.board.mark_head_lost(ack.mss);
                }
                if lost > 0 || (reno_loss && !self.forgives_probe()) {
                    self.enter_recovery(ack.now, ack.snd_nxt, flight, cc);
                } else if self.phase == Phase::Cwr {
                    // Linux waits for something beyond the point, so that CWR has arrived by then.
                    if self.recovery_point.is_none_or(|point| ack.una > point) {
                        if !cc.controls_window() {
                            cc.set_cwnd(cc.ssthresh());
                        }
                        self.leave(cc);
                    }
                } else {
                    let calm = self.board.sacked() == 0 && self.dup_acks == 0;
                    self.phase = if calm { Phase::Open } else { Phase::Disorder };
                }
            }
            Phase::Recovery if past_point => {
                // RFC 6937 §3: recovery ends with the window at its new size.
                if !cc.controls_window() {
                    cc.set_cwnd(cc.ssthresh());
                }
                self.leave(cc);
            }
            Phase::Recovery => {
                // A partial acknowledgment without SACK points at the next hole (RFC 6582 §3.2).
                if !self.sack && ack.advances {
                    self.board.mark_head_lost(ack.mss);
                }
            }
            Phase::Loss => {
                if past_point {
                    self.leave(cc);
                }
            }
        }
    }

    fn leave(&mut self, cc: &mut dyn CongestionControl) {
        cc.on_recovered();
        self.phase = Phase::Open;
        if self.sack {
            self.recovery_point = None;
        }
    }

    fn enter_recovery(&mut self, now: Instant, snd_nxt: Seq, flight: usize, cc: &mut dyn CongestionControl) {
        let reduced = std::mem::replace(&mut self.phase, Phase::Recovery) == Phase::Cwr;
        self.recovery_point = Some(snd_nxt);
        // A loss where marks have reduced the window already is the same congestion (RFC 3168 §6.1.2).
        if !reduced {
            cc.on_congestion(now);
            self.prr = Prr::start(flight);
        }
    }

    /// The peer reported marks. Once for each window, and not while a loss is being answered, the
    /// window goes down to its new threshold as in recovery, with nothing to be sent again (RFC 3168
    /// §6.1.2; `tcp_enter_cwr` in Linux).
    pub(super) fn on_ecn(&mut self, now: Instant, snd_nxt: Seq, cc: &mut dyn CongestionControl) {
        if matches!(self.phase, Phase::Open | Phase::Disorder) {
            self.phase = Phase::Cwr;
            self.recovery_point = Some(snd_nxt);
            cc.on_ecn(now);
            self.prr = Prr::start(self.board.outstanding());
        }
    }

    fn move_window(
        &mut self,
        ack: &AckInput<'_>,
        progress: &Progress,
        lost: usize,
        rtt: &RttEstimator,
        cc: &mut dyn CongestionControl,
    ) {
        let rate = self.board.rate.sample(
            ack.now,
            progress.delivered,
            progress.newest_stamp,
            rtt.min_rtt().unwrap_or_default(),
        );
        if cc.controls_window() {
            cc.on_ack(&self.ack_sample(ack, progress, progress.delivered, rate, rtt));
            if cc.holds_back() {
                self.board.rate.mark_app_limited(self.board.pipe());
            }
        } else if matches!(self.phase, Phase::Recovery | Phase::Cwr) {
            let delivered = if self.sack || progress.delivered > 0 {
                progress.delivered
            } else {
                // Each duplicate acknowledgment stands for a delivered segment.
                ack.mss * usize::from(ack.duplicate)
            };
            let input = PrrInput {
                delivered,
                pipe: self.pipe(ack.mss),
                ssthresh: cc.ssthresh(),
                good_progress: ack.advances && lost == 0,
                mss: ack.mss,
            };
            let cwnd = self.prr.cwnd(input);
            cc.set_cwnd(cwnd);
        } else if progress.acked > 0 {
            // What was SACKed before has been counted.
            let delivered = progress.acked.min(progress.delivered);
            cc.on_ack(&self.ack_sample(ack, progress, delivered, rate, rtt));
        }
    }

    fn ack_sample(
        &self,
        ack: &AckInput<'_>,
        progress: &Progress,
        delivered: usize,
        rate: Option<RateSample>,
        rtt: &RttEstimator,
    ) -> AckSample {
        AckSample {
            now: ack.now,
            delivered,
            // Of what was sent once, the newest: what an older one waited for is not the path.
            rtt: progress
                .newest
                .filter(|newest| !newest.retransmitted)
                .map(|newest| ack.now - newest.sent_at),
            srtt: rtt.srtt().unwrap_or_default(),
            min_rtt: rtt.min_rtt().unwrap_or_default(),
            una: ack.una,
            snd_nxt: ack.snd_nxt,
            in_flight: self.pipe(ack.mss),
            total_delivered: self.board.rate.delivered(),
            rate,
            paced: ack.paced,
            cwnd_limited: ack.cwnd_limited || self.phase == Phase::Loss,
        }
    }

    /// What RACK waited for did not come.
    pub(super) fn on_reorder_timeout(
        &mut self,
        now: Instant,
        snd_nxt: Seq,
        rtt: &RttEstimator,
        cc: &mut dyn CongestionControl,
    ) {
        let flight = self.board.outstanding();
        let lost = self.detect(now, rtt);
        let lost = if lost > 0 && self.forgives_probe() { 0 } else { lost };
        self.tell_losses(now, cc);
        if lost > 0 && matches!(self.phase, Phase::Open | Phase::Disorder | Phase::Cwr) {
            self.enter_recovery(now, snd_nxt, flight, cc);
            if !cc.controls_window() {
                cc.set_cwnd(self.board.pipe() + self.board_mss());
            }
        }
    }

    /// The retransmission timer expired (RFC 6298 §5, RFC 5681 §3.1).
    pub(super) fn on_timeout(
        &mut self,
        now: Instant,
        snd_nxt: Seq,
        mss: usize,
        cc: &mut dyn CongestionControl,
    ) {
        // The threshold is set once for what was in flight when the series of losses began.
        let first = match self.phase {
            Phase::Open | Phase::Disorder => true,
            Phase::Recovery | Phase::Cwr => false,
            Phase::Loss => self.timeouts == 0,
        };
        let until = if self.sack {
            Instant::from_nanos(now.as_nanos().saturating_sub(self.rack.patience().as_nanos() as u64))
        } else {
            now
        };
        self.board.on_timeout(until);
        self.tell_losses(now, cc);
        cc.on_timeout(now, first);
        // What was sent just now may still arrive; the window has room for the head beside it.
        cc.set_cwnd(self.board.pipe() + mss);
        self.phase = Phase::Loss;
        self.recovery_point = Some(snd_nxt);
        self.dup_acks = 0;
        self.timeouts += 1;
        self.reorder_timer = None;
    }

    /// Segments longer than `mss` do not pass the path, a router said: those in flight were dropped,
    /// and go again in shorter ones. The congestion window stays as it is, since nothing says that the
    /// path is congested (RFC 8201 §5.4); the phase keeps duplicate acknowledgments of what did arrive
    /// from meaning anything else (`tcp_simple_retransmit` in Linux).
    pub(super) fn on_mtu_reduced(&mut self, mss: usize, snd_nxt: Seq) {
        if self.board.mark_longer_than(mss) > 0 && self.phase != Phase::Loss {
            self.phase = Phase::Loss;
            self.recovery_point = Some(snd_nxt);
            self.dup_acks = 0;
        }
    }

    /// The peer did not take data that left with our SYN: what is in flight goes again, for a reason
    /// that is not congestion.
    pub(super) fn on_refused(&mut self, now: Instant, snd_nxt: Seq) {
        self.board.on_timeout(now);
        self.phase = Phase::Loss;
        self.recovery_point = Some(snd_nxt);
    }

    /// A range was sent again, in `segments` segments.
    pub(super) fn on_retransmitted(&mut self, now: Instant, start: Seq, end: Seq, segments: usize) {
        self.board.on_retransmitted(now, start, end);
        self.counters.total_retrans += segments as u64;
        self.counters.bytes_retrans += end.since(start) as u64;
        self.retrans_stamp.get_or_insert(now);
        self.prr.on_sent(end.since(start));
    }

    /// New data was sent.
    pub(super) fn on_sent(&mut self, now: Instant, start: Seq, end: Seq, mss: usize) {
        self.board.on_sent(now, start, end, mss);
        if matches!(self.phase, Phase::Recovery | Phase::Cwr) {
            self.prr.on_sent(end.since(start));
        }
    }

    /// Drops what is in flight: the connection is over.
    pub(super) fn clear(&mut self) {
        self.board.clear();
        self.reorder_timer = None;
    }
}
