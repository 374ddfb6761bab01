//! An acknowledgment in loss recovery: what it delivers, what it shows to be lost or not to be lost
//! after all, and where the window goes. The order of the steps is that of Linux's `tcp_ack`.

use super::{Frto, PlainAck, Recovery};
use crate::tcp::congestion::{AckSample, CongestionControl};
use crate::tcp::delivery_rate::RateSample;
use crate::tcp::recovery::prr::PrrInput;
use crate::tcp::recovery::reordering::DUP_ACK_THRESHOLD;
use crate::tcp::recovery::rtt::RttEstimator;
use crate::tcp::recovery::scoreboard::Progress;
use crate::tcp::recovery::state::CongestionState;
use crate::tcp::recovery::tlp::ProbeAnswer;
use crate::tcp::seq::Seq;
use crate::time::{Duration, Instant};

/// An acceptable acknowledgment.
#[derive(Debug)]
pub(in crate::tcp) struct AckInput<'a> {
    pub(in crate::tcp) now: Instant,
    /// SEG.ACK, which is between SND.UNA and SND.NXT.
    pub(in crate::tcp) una: Seq,
    /// SND.UNA before it.
    pub(in crate::tcp) prior_una: Seq,
    pub(in crate::tcp) snd_nxt: Seq,
    /// SACK blocks, in the order of the wire, DSACKs included.
    pub(in crate::tcp) blocks: &'a [(Seq, Seq)],
    /// Whether it is nothing but an acknowledgment, of what was acknowledged before: no text, no FIN,
    /// no news of the window (RFC 5681 §2).
    pub(in crate::tcp) duplicate: bool,
    /// The round-trip time that the echoed timestamp gives.
    pub(in crate::tcp) echoed_rtt: Option<Duration>,
    /// When the segment was sent that the echo is of, to the tick of the timestamp clock.
    pub(in crate::tcp) echo_sent_at: Option<Instant>,
    /// Whether there is new data that the peer's window lets out.
    pub(in crate::tcp) has_new_data: bool,
    pub(in crate::tcp) cwnd_limited: bool,
    /// Whether the connection is paced.
    pub(in crate::tcp) paced: bool,
    /// The largest window that the peer ever offered, in bytes.
    pub(in crate::tcp) max_wnd: usize,
    pub(in crate::tcp) mss: usize,
}

impl AckInput<'_> {
    fn advances(&self) -> bool {
        self.una > self.prior_una
    }

    /// What a plain one has, too.
    fn plain(&self) -> PlainAck {
        let &Self { now, una, snd_nxt, mss, cwnd_limited, paced, .. } = self;
        PlainAck { now, una, snd_nxt, mss, cwnd_limited, paced }
    }
}

/// What becomes of the retransmission timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum Rearm {
    /// It goes on.
    No,
    /// It starts anew (RFC 6298 §5.3).
    Yes,
    /// The peer seems to have dropped what it had SACKed: it expires after this, soon.
    Soon(Duration),
}

/// What shows that a reduction of the window was spurious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spurious {
    /// The original of what was sent again arrived: nothing is lost.
    LateOriginal,
    /// The recovery is over, and what ended it shows that it was not needed.
    Repaired,
    /// The peer reports all that was sent again as duplicates.
    Duplicates,
}

/// What the steps learn from each other.
#[derive(Debug, Default)]
struct Report {
    progress: Progress,
    /// Whether a DSACK came that is plausible.
    dsack: bool,
    /// Whether it was of the tail loss probe.
    probe_dsacked: bool,
    /// Bytes that it reports.
    duplicates: usize,
    /// Whether it counts as a duplicate acknowledgment.
    dup_ack: bool,
    /// Bytes delivered, for the window: without SACK, what duplicates let guess.
    delivered: usize,
    /// Whether something that was sent later than all that is newly delivered had arrived before: it was
    /// overtaken, and is not what overtook the rest.
    overtaken: bool,
    /// Whether the original of something came that recovery thinks may be lost (F-RTO).
    original_arrived: bool,
    /// Bytes newly found lost.
    lost: usize,
    /// Whether a retransmission is among them.
    lost_again: bool,
}

impl Recovery {
    /// An acknowledgment came. Updates the estimator, finds losses, moves the window.
    pub(in crate::tcp) fn on_ack(
        &mut self,
        ack: &AckInput<'_>,
        rtt: &mut RttEstimator,
        cc: &mut dyn CongestionControl,
    ) -> Rearm {
        let min_rtt = rtt.min_rtt().unwrap_or_default();
        let progress = Progress::new(ack.now, min_rtt, ack.echo_sent_at.filter(|_| ack.advances()));
        let mut report = Report { progress, ..Report::default() };
        if ack.advances() {
            self.timeouts.on_progress();
        }
        self.take_delivered(ack, &mut report);
        let sampled = self.sample_rtt(ack, &report.progress, rtt);
        self.rack.update_window(ack.una, ack.snd_nxt, report.dsack && self.widens(&report));
        self.follow_probe(ack, &report, cc);
        let rearm = self.rearm(ack, &report, sampled, rtt);
        let dubious = ack.duplicate
            || report.progress.sacked > 0
            || report.dsack
            || self.state != CongestionState::Open;
        if dubious && !matches!(rearm, Rearm::Soon(_)) {
            self.follow_state(ack, &mut report, rtt, cc);
        }
        self.report_losses(ack.now, cc);
        self.move_window(ack, &report, rtt, cc);
        rearm
    }

    /// Applies the cumulative acknowledgment and the SACK blocks to the scoreboard.
    fn take_delivered(&mut self, ack: &AckInput<'_>, report: &mut Report) {
        let highest_before = self.board.highest_sacked();
        let dsack = self.take_dsack(ack, report);
        self.board.on_ack(ack.una, &mut report.progress);
        for &(start, end) in &ack.blocks[usize::from(dsack)..] {
            // Blocks below SND.UNA are stale, and blocks of what was never sent are lies.
            if start < end && start >= ack.una && end <= ack.snd_nxt {
                self.board.on_sack(start, end, &mut report.progress);
            }
        }
        let progress = &report.progress;
        report.delivered += progress.delivered;
        report.overtaken =
            progress.newest.zip(highest_before).is_some_and(|(newest, high)| newest.end <= high);
        report.dup_ack = ack.duplicate && !report.dsack;
        if let Some((low, sent_at)) = progress.lowest_original {
            report.original_arrived = low < self.recovery_point && (self.sack || !progress.repaired);
            // RFC 8985 §6.2 step 3: the first transmission of something below what was already SACKed
            // arrived after it. After a time-out originals show nothing new once that stands.
            let meaningful = self.state != CongestionState::Loss || self.undo.is_open();
            if let Some(before) = highest_before.filter(|before| low < *before && meaningful) {
                let high = self.board.highest_sacked().unwrap_or(ack.una).max(before);
                self.reordering.on_late_original(ack.now, low, high, ack.mss);
                self.rack.on_late_original(ack.now - sent_at);
            }
        }
        if !self.sack && ack.advances() {
            // One acknowledgment stands for the hole, the duplicates before for what lay behind it.
            let acked = progress.acked.div_ceil(ack.mss.max(1)) as u32;
            let new = acked.saturating_sub(self.dup_acks).max(1);
            report.delivered = progress.acked.min(new as usize * ack.mss);
            self.dup_acks = self.dup_acks.saturating_sub(acked.saturating_sub(1));
            self.limit_dup_acks(ack.mss, acked);
        }
    }

    /// RFC 2883 §5: the first block is a duplicate if it is below the acknowledgment, or inside of
    /// the second block. Says whether it is.
    fn take_dsack(&mut self, ack: &AckInput<'_>, report: &mut Report) -> bool {
        let Some(&(start, end)) = ack.blocks.first() else { return false };
        let inside = ack.blocks.get(1).is_some_and(|second| second.0 <= start && end <= second.1);
        if start >= ack.una && !inside {
            return false;
        }
        let len = end.since(start);
        if len == 0 || len > ack.max_wnd {
            return true;
        }
        let segments = len.div_ceil(ack.mss.max(1)) as u32;
        report.probe_dsacked = segments == 1 && self.tail.ends_at(end);
        self.counters.dsack_dups += u64::from(segments);
        // More duplicates than were ever sent again: the network copies, or the peer lies.
        if self.counters.dsack_dups > self.counters.total_retrans {
            return true;
        }
        report.dsack = true;
        report.duplicates = len;
        report.delivered += len;
        let known = end <= ack.prior_una || self.board.was_retransmitted(start);
        if known {
            self.undo.on_duplicates(end, segments);
            if !report.probe_dsacked && self.state != CongestionState::Loss {
                self.reordering.on_duplicates(ack.now, self.counters.dsack_dups);
            }
        }
        true
    }

    /// Whether a DSACK is a reason for a wider reordering window: not if it reports the tail loss probe, which
    /// asks for it, nor on a path that never reordered.
    fn widens(&self, report: &Report) -> bool {
        self.reordering.seen() > 0 && !report.probe_dsacked
    }

    /// Feeds the estimators. Says whether there was a sample.
    fn sample_rtt(&mut self, ack: &AckInput<'_>, progress: &Progress, rtt: &mut RttEstimator) -> bool {
        // Karn's rule: what was sent once; or what the peer's echo vouches for (RFC 7323 §4.1).
        let acked = progress.clean_acked.filter(|_| !progress.repaired);
        let clean = acked.or(progress.clean_sacked).map(|(first, _)| ack.now - first);
        // The echo of something old measures, beside the path, how often the acknowledgment of it
        // was lost. Linux takes it as it is, and a few lost ACKs on a bad path then mean an RTO of
        // minutes; a bound still lets the RTO grow as fast as a path can that really became slower.
        let echoed = ack.echoed_rtt.filter(|_| ack.advances()).map(|echo| echo.min(2 * rtt.base_rto()));
        let sample = clean.or(echoed);
        if let Some(sample) = sample {
            let per_window = (self.board.outstanding() / (2 * ack.mss.max(1))) as u32;
            rtt.on_sample(ack.now, sample, per_window.clamp(1, 16));
        }
        if clean.is_some()
            && let Some((_, last)) = progress.clean_sacked.or(acked)
        {
            rtt.on_newest(ack.now, ack.now - last);
        }
        if self.sack {
            self.rack.on_delivered(&progress.rack);
        }
        sample.is_some()
    }

    /// RFC 6298 §5.3, and Linux's exceptions.
    fn rearm(&self, ack: &AckInput<'_>, report: &Report, sampled: bool, rtt: &RttEstimator) -> Rearm {
        let Some(head) = self.board.head() else { return Rearm::Yes };
        if ack.advances() {
            // The peer acknowledged up to what it had SACKed and not beyond: it has dropped that
            // (RFC 2018 §8). Unless it thinks better of it soon, all of it is sent again.
            if head.sacked {
                let soon = (rtt.srtt().unwrap_or_default() / 2).max(Duration::from_millis(10));
                return Rearm::Soon(soon);
            }
            return Rearm::Yes;
        }
        // What is SACKed shows that the path works; but not beyond what was sent before the head,
        // or a head that is lost again and again would never time out.
        let older = report.progress.clean_sacked.is_some_and(|(first, _)| first < head.sent_at);
        if sampled && older { Rearm::Yes } else { Rearm::No }
    }

    /// RFC 8985 §7.4.2: a loss that the probe repaired reduces the window like any other.
    fn follow_probe(&mut self, ack: &AckInput<'_>, report: &Report, cc: &mut dyn CongestionControl) {
        let answer = ProbeAnswer {
            una: ack.una,
            dsacked: report.probe_dsacked,
            pure_duplicate: ack.duplicate && report.progress.sacked == 0,
        };
        if self.tail.repaired_a_loss(answer) {
            cc.on_congestion(ack.now);
            end_reduction(cc);
            self.try_keep_open(ack.snd_nxt);
        }
    }

    /// Everything but the plain acknowledgment of what went well (`tcp_fastretrans_alert`).
    fn follow_state(
        &mut self,
        ack: &AckInput<'_>,
        report: &mut Report,
        rtt: &RttEstimator,
        cc: &mut dyn CongestionControl,
    ) {
        if self.state == CongestionState::Open {
            self.first_retransmission = None;
        } else if self.state == CongestionState::Cwr && ack.una > self.recovery_point {
            // Linux waits for something beyond the point, so that CWR has arrived by then.
            end_reduction(cc);
            self.reopen(cc);
        } else if self.state == CongestionState::Recovery && ack.una >= self.recovery_point {
            self.dup_acks = 0;
            if self.finish_recovery(ack, cc) {
                return;
            }
            // RFC 6937 §3: recovery ends with the window at its new size, unless it was spurious.
            if self.undo.is_open() {
                end_reduction(cc);
            }
        }
        let look_further = match self.state {
            CongestionState::Recovery => self.in_recovery(ack, report, rtt, cc),
            CongestionState::Loss => self.in_loss(ack, report, rtt, cc),
            CongestionState::Open | CongestionState::Disorder | CongestionState::Cwr => {
                if !self.sack {
                    if ack.advances() {
                        self.dup_acks = 0;
                    }
                    self.add_dup_ack(ack, report);
                }
                if self.state != CongestionState::Cwr {
                    self.try_undo_dsack(cc);
                }
                self.detect(ack, report, rtt);
                true
            }
        };
        if !look_further {
            return;
        }
        if self.board.lost() > 0 {
            if self.forgives_probe(ack.snd_nxt) {
                return;
            }
            self.enter_recovery(ack.now, ack.snd_nxt, cc);
        } else {
            if !self.board.any_retransmitted() {
                self.first_retransmission = None;
            }
            if self.state != CongestionState::Cwr {
                self.try_keep_open(ack.snd_nxt);
            }
        }
    }

    /// Fast recovery goes on. Says whether it is over and another one may begin.
    fn in_recovery(
        &mut self,
        ack: &AckInput<'_>,
        report: &mut Report,
        rtt: &RttEstimator,
        cc: &mut dyn CongestionControl,
    ) -> bool {
        if !ack.advances() {
            if !self.sack {
                self.add_dup_ack(ack, report);
            }
        } else if self.undo.is_open() && self.original_came(ack) {
            // The hole was filled by what was late and not by what was sent again.
            if self.sack {
                let high = self.board.highest_sacked().unwrap_or(ack.una);
                self.reordering.on_late_original(ack.now, ack.prior_una, high, ack.mss);
            }
            if self.board.retransmitted() > 0 {
                // What is still out may show more; until then nothing more is sent again.
                return false;
            }
            if !self.board.any_retransmitted() {
                self.first_retransmission = None;
            }
            self.undo_reduction(cc, Spurious::LateOriginal);
            self.try_keep_open(ack.snd_nxt);
        }
        if self.try_undo_dsack(cc) {
            self.try_keep_open(ack.snd_nxt);
        }
        self.detect(ack, report, rtt);
        self.state != CongestionState::Recovery && self.board.lost() > 0
    }

    /// After a time-out (`tcp_process_loss`). Says whether to look at what was found lost.
    fn in_loss(
        &mut self,
        ack: &AckInput<'_>,
        report: &mut Report,
        rtt: &RttEstimator,
        cc: &mut dyn CongestionControl,
    ) -> bool {
        self.repair_after_timeout(ack, report, cc);
        self.detect(ack, report, rtt);
        // A retransmission that is lost again is congestion again.
        self.state == CongestionState::Open || report.lost_again
    }

    fn repair_after_timeout(
        &mut self,
        ack: &AckInput<'_>,
        report: &mut Report,
        cc: &mut dyn CongestionControl,
    ) {
        let recovered = ack.una >= self.recovery_point;
        if ack.advances() && self.may_undo(ack) {
            self.undo_timeout(ack, cc, self.sack);
            return;
        }
        if self.frto != Frto::Off {
            // RFC 5682 §3.1 step 3b: something that was sent only once arrived, so the time-out was
            // spurious.
            if report.original_arrived {
                self.undo_timeout(ack, cc, true);
                return;
            }
            if ack.snd_nxt > self.recovery_point {
                // Step 3a: new data arrived, and what was thought to be lost did not.
                if report.progress.sacked > 0 || report.dup_ack {
                    self.frto = Frto::Off;
                }
            } else if ack.advances() && !recovered {
                // Step 2b: new data will show.
                self.recovery_point = ack.snd_nxt;
                self.frto = if ack.has_new_data { Frto::NewData } else { Frto::Off };
                if ack.has_new_data {
                    return;
                }
            }
            if self.frto == Frto::NewData {
                self.frto = Frto::Undecided;
            }
        }
        if recovered {
            self.finish_recovery(ack, cc);
        } else if !self.sack {
            if ack.snd_nxt > self.recovery_point && report.dup_ack {
                self.add_dup_ack(ack, report);
            } else if ack.advances() {
                self.dup_acks = 0;
            }
        }
    }

    /// All that was in flight when the state was entered is acknowledged. Says whether it must be
    /// kept all the same: without SACK, duplicates of what was sent again would look like losses until
    /// something beyond is acknowledged (RFC 6582 §4).
    fn finish_recovery(&mut self, ack: &AckInput<'_>, cc: &mut dyn CongestionControl) -> bool {
        if self.may_undo(ack) {
            self.undo_reduction(cc, Spurious::Repaired);
        } else {
            self.rack.on_recovered();
        }
        if self.must_not_reopen(ack.una) {
            return true;
        }
        self.reopen(cc);
        false
    }

    fn must_not_reopen(&mut self, una: Seq) -> bool {
        if self.sack || una != self.recovery_point {
            return false;
        }
        if !self.board.any_retransmitted() {
            self.first_retransmission = None;
        }
        true
    }

    fn reopen(&mut self, cc: &mut dyn CongestionControl) {
        self.state = CongestionState::Open;
        self.frto = Frto::Off;
        cc.on_recovered();
    }

    /// The time-out was spurious: as `reopen` says, as if nothing had been.
    fn undo_timeout(&mut self, ack: &AckInput<'_>, cc: &mut dyn CongestionControl, reopen: bool) {
        self.undo_reduction(cc, Spurious::LateOriginal);
        self.timeouts.on_undo();
        if !self.must_not_reopen(ack.una) && reopen {
            self.reopen(cc);
        }
    }

    /// Whether an original arrived although it was sent again: the echo is of before the first
    /// retransmission (Eifel, RFC 3522), or there was none yet.
    fn original_came(&self, ack: &AckInput<'_>) -> bool {
        match self.first_retransmission {
            Some(at) => {
                let tick = Instant::from_millis(at.as_millis());
                ack.echo_sent_at.is_some_and(|echo| echo < tick)
            }
            None => true,
        }
    }

    fn may_undo(&self, ack: &AckInput<'_>) -> bool {
        self.undo.is_open() && (self.undo.all_were_duplicates() || self.original_came(ack))
    }

    /// All that was sent again came twice.
    fn try_undo_dsack(&mut self, cc: &mut dyn CongestionControl) -> bool {
        let needless = self.undo.all_were_duplicates();
        if needless {
            self.undo_reduction(cc, Spurious::Duplicates);
        }
        needless
    }

    /// Takes the reduction back (RFC 4015 §3.2).
    fn undo_reduction(&mut self, cc: &mut dyn CongestionControl, spurious: Spurious) {
        if spurious == Spurious::LateOriginal {
            self.board.forgive_lost();
        }
        cc.on_undo();
        self.undo.forget();
        self.rack.on_undo(spurious == Spurious::Duplicates);
    }

    /// Open if nothing is missing, else Disorder (`tcp_try_keep_open`).
    fn try_keep_open(&mut self, snd_nxt: Seq) {
        let left = self.board.sacked() > 0 || self.board.lost() > 0 || self.dup_acks > 0;
        let calm = !left && !self.board.any_retransmitted();
        let state = if calm { CongestionState::Open } else { CongestionState::Disorder };
        if self.state != state {
            self.state = state;
            self.recovery_point = snd_nxt;
        }
    }

    /// Looks for losses.
    fn detect(&mut self, ack: &AckInput<'_>, report: &mut Report, rtt: &RttEstimator) {
        if self.board.outstanding() == 0 {
            self.reorder_timer = None;
        } else if self.sack {
            self.find_refused(ack, report);
            let path = self.path_view(rtt);
            if let Some(found) = self.rack.detect(ack.now, &mut self.board, path) {
                self.reorder_timer = found.next;
                report.lost += found.lost;
                report.lost_again |= found.again;
            }
        } else {
            self.detect_without_sack(ack, report);
        }
    }

    /// A retransmission filled the first hole, and overtook what had left before it: the peer refuses all of
    /// that when it comes, because its timestamps are older than the one that it echoes now (PAWS, RFC 7323
    /// §5.3). It is repaired at once. Found later, when this recovery is over, it would look like
    /// another congestion.
    fn find_refused(&mut self, ack: &AckInput<'_>, report: &mut Report) {
        let recovering = matches!(self.state, CongestionState::Recovery | CongestionState::Loss);
        if recovering
            && report.progress.repaired
            && let Some(echo) = ack.echo_sent_at.filter(|_| ack.advances())
        {
            let (lost, again) = self.board.mark_refused(echo);
            report.lost += lost;
            report.lost_again |= again;
        }
    }

    /// RFC 5681 §3.2 and RFC 6582 §3.2: the third duplicate, and in recovery a partial
    /// acknowledgment, point at the head.
    fn detect_without_sack(&mut self, ack: &AckInput<'_>, report: &mut Report) {
        let found = match self.state {
            CongestionState::Open | CongestionState::Disorder | CongestionState::Cwr => {
                self.dup_acks >= self.reordering.degree()
            }
            CongestionState::Recovery => ack.advances(),
            CongestionState::Loss => false,
        };
        if found {
            report.lost += self.board.mark_head_lost(ack.mss);
        }
    }

    /// Without SACK each duplicate says that a segment has left the network.
    fn add_dup_ack(&mut self, ack: &AckInput<'_>, report: &mut Report) {
        if !report.dup_ack {
            return;
        }
        let before = self.dup_acks;
        self.dup_acks += 1;
        self.limit_dup_acks(ack.mss, 0);
        report.delivered += self.dup_acks.saturating_sub(before) as usize * ack.mss;
    }

    /// There cannot be more behind a hole than is in flight, however many duplicates an attacker
    /// makes up (RFC 5681 §3.2). More of them mean that the path reorders; `acked` segments were
    /// acknowledged with it.
    fn limit_dup_acks(&mut self, mss: usize, acked: u32) {
        let mss = mss.max(1);
        let segments = self.board.outstanding().div_ceil(mss) as u32;
        let holes = (self.board.lost().div_ceil(mss) as u32).max(1).min(segments);
        if self.dup_acks + holes > segments {
            self.dup_acks = segments - holes;
            self.reordering.on_too_many_duplicates((segments + acked) as usize);
        }
    }

    fn move_window(
        &mut self,
        ack: &AckInput<'_>,
        report: &Report,
        rtt: &RttEstimator,
        cc: &mut dyn CongestionControl,
    ) {
        let progress = &report.progress;
        let rate = self.board.sample_rate(ack.now, progress, rtt.min_rtt().unwrap_or_default());
        // A path that reorders SACKs most of what goes well before it is acknowledged
        // (`tcp_may_raise_cwnd`).
        let reorders = self.reordering.degree() > DUP_ACK_THRESHOLD;
        let forward =
            if reorders { progress.delivered > 0 || progress.acked > 0 } else { progress.acked > 0 };
        if cc.controls_window() {
            cc.on_ack(&self.ack_sample(ack, report, progress.delivered, rate, rtt));
            if cc.holds_back() {
                self.board.mark_app_limited(self.board.pipe());
            }
        } else if matches!(self.state, CongestionState::Recovery | CongestionState::Cwr) {
            if report.delivered > 0 {
                let input = PrrInput {
                    delivered: report.delivered,
                    pipe: self.pipe(ack.mss),
                    ssthresh: cc.ssthresh(),
                    safe: ack.advances() && report.lost == 0,
                    mss: ack.mss,
                };
                let cwnd = self.prr.cwnd(input);
                cc.set_cwnd(cwnd);
            }
        } else if forward {
            cc.on_ack(&self.ack_sample(ack, report, report.delivered, rate, rtt));
        }
    }

    fn ack_sample(
        &self,
        ack: &AckInput<'_>,
        report: &Report,
        delivered: usize,
        rate: Option<RateSample>,
        rtt: &RttEstimator,
    ) -> AckSample {
        let sample = self.sample_of(&ack.plain(), rtt);
        // Of what was sent once, the newest: what an older one waited for is not the path.
        let newest = report.progress.newest.filter(|newest| !newest.retransmitted);
        // What overtakes the rest when nothing is missing in front of it comes in order, too. While the
        // path reorders, only what was itself overtaken is sure to have come the whole way.
        let doubtful = self.reordering.is_recent(ack.now, 2 * sample.srtt);
        let rtt = newest
            .filter(|newest| !sample.reorders || (newest.end <= ack.una && (!doubtful || report.overtaken)))
            .map(|newest| ack.now - newest.sent_at);
        let cwnd_limited = ack.cwnd_limited || self.state == CongestionState::Loss;
        AckSample { delivered, duplicates: report.duplicates, rtt, rate, cwnd_limited, ..sample }
    }
}

/// The window comes to its new size at the end of a reduction. There is none if a mistake was found and the
/// threshold is where it was before the first loss (`tcp_end_cwnd_reduction` in Linux).
fn end_reduction(cc: &mut dyn CongestionControl) {
    if !cc.controls_window() && cc.ssthresh() != usize::MAX {
        cc.set_cwnd(cc.ssthresh());
    }
}
