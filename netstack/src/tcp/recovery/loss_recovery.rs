//! The state of loss recovery, and what changes it beside acknowledgments: time, and what is sent.
//! Acknowledgments are in [`on_ack`].

mod on_ack;
mod on_plain_ack;

pub(in crate::tcp) use on_ack::{AckInput, Rearm};
pub(in crate::tcp) use on_plain_ack::PlainAck;

use super::prr::{Prr, PrrInput};
use super::rack::{PathView, Rack};
use super::reordering::Reordering;
use super::rtt::RttEstimator;
use super::scoreboard::{BoardPlaces, Scoreboard};
use super::state::CongestionState;
use super::timeouts::Timeouts;
use super::tlp::TailProbe;
use super::undo::Undo;
use crate::config::Config;
use crate::tcp::compact::compact;
use crate::tcp::congestion::CongestionControl;
use crate::tcp::seq::Seq;
use crate::time::Instant;

/// Whether a time-out may have been spurious (RFC 5682 §3.1, the SACK-enhanced form of Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Frto {
    /// It was not, or there is no way to find out.
    #[default]
    Off,
    /// The next acknowledgment will show; steps 1 and 2.
    Undecided,
    /// New data is sent before more is repaired; step 2b. It stays new once some of it left.
    NewData,
}

compact!(
    enum Frto {
        Off,
        Undecided,
        NewData,
    }
);

/// Loss recovery of one connection.
#[derive(Debug)]
pub(in crate::tcp) struct Recovery {
    /// What is in flight.
    board: Scoreboard,
    state: CongestionState,
    /// RecoveryPoint of RFC 6675, `recover` of RFC 6582, `high_seq` in Linux: SND.NXT when the state
    /// was entered.
    recovery_point: Seq,
    /// Without SACK: segments that duplicate acknowledgments say have left the network.
    dup_acks: u32,
    /// Whether SACK was negotiated.
    sack: bool,
    rack: Rack,
    prr: Prr,
    reordering: Reordering,
    tail: TailProbe,
    undo: Undo,
    frto: Frto,
    /// When to look for losses again.
    reorder_timer: Option<Instant>,
    timeouts: Timeouts,
    /// When the first retransmission of this recovery left: an echo of an earlier timestamp is of an
    /// original.
    first_retransmission: Option<Instant>,
    /// Where a probe of the path's MTU begins that is in flight. If nothing but the probe is lost, this
    /// becomes none, and no congestion is assumed (RFC 4821 §7.6.2).
    mtu_probe: Option<Seq>,
    /// Counters for `TCP_INFO`.
    counters: RecoveryCounters,
}

compact!(Recovery {
    board,
    state,
    recovery_point,
    dup_acks,
    sack,
    rack,
    prr,
    reordering,
    tail,
    undo,
    frto,
    reorder_timer,
    timeouts,
    first_retransmission,
    mtu_probe,
    counters,
});

/// What happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tcp) struct RecoveryCounters {
    /// Segments that were retransmitted.
    pub(in crate::tcp) total_retrans: u64,
    /// Bytes that were retransmitted.
    pub(in crate::tcp) bytes_retrans: u64,
    /// Segments that the peer reported as duplicates.
    pub(in crate::tcp) dsack_dups: u64,
}

impl Recovery {
    /// Whether nothing is in flight.
    pub(in crate::tcp) fn is_at_rest(&self) -> bool {
        self.board.is_at_rest() && self.reorder_timer.is_none() && self.mtu_probe.is_none()
    }
}

compact!(RecoveryCounters { total_retrans, bytes_retrans, dsack_dups });

impl Recovery {
    /// Nothing is in flight; the next byte to be sent is at `snd_nxt`.
    pub(in crate::tcp) fn new(sack: bool, snd_nxt: Seq) -> Self {
        Self {
            board: Scoreboard::default(),
            state: CongestionState::Open,
            recovery_point: snd_nxt,
            dup_acks: 0,
            sack,
            rack: Rack::default(),
            prr: Prr::default(),
            reordering: Reordering::default(),
            tail: TailProbe::default(),
            undo: Undo::default(),
            frto: Frto::Off,
            reorder_timer: None,
            timeouts: Timeouts::default(),
            first_retransmission: None,
            mtu_probe: None,
            counters: RecoveryCounters::default(),
        }
    }

    /// Whether SACK was negotiated.
    pub(in crate::tcp) fn has_sack(&self) -> bool {
        self.sack
    }

    pub(in crate::tcp) fn state(&self) -> CongestionState {
        self.state
    }

    /// Whether a tail loss probe may be sent: with SACK, while nothing unusual is known of what is in
    /// flight (RFC 8985 §7.2).
    pub(in crate::tcp) fn may_probe(&self) -> bool {
        let nothing_missing = matches!(self.state, CongestionState::Open | CongestionState::Cwr);
        self.sack && nothing_missing && self.board.outstanding() > 0
    }

    /// Whether a tail loss probe may be sent and none is out.
    pub(in crate::tcp) fn wants_probe(&self) -> bool {
        self.may_probe() && !self.tail.is_out()
    }

    /// When a tail loss probe is sent if no acknowledgment comes (RFC 8985 §7.2): not later than the
    /// retransmission timer would expire for the head.
    #[inline]
    pub(in crate::tcp) fn probe_at(&self, now: Instant, rtt: &RttEstimator, config: &Config) -> Instant {
        let probe = now + TailProbe::timeout(rtt, self.board.is_one_segment(), config);
        let repair = self.board.head().map(|head| head.sent_at + rtt.rto());
        repair.filter(|at| *at > now).map_or(probe, |at| probe.min(at))
    }

    /// Takes its memory, if nothing is in it.
    pub(in crate::tcp) fn take_places(&mut self) -> BoardPlaces {
        self.board.take_places()
    }

    /// Uses this memory, if there is none.
    pub(in crate::tcp) fn use_places(&mut self, places: BoardPlaces) {
        self.board.use_places(places);
    }

    /// What is in flight, and what became of it.
    pub(in crate::tcp) fn board(&self) -> &Scoreboard {
        &self.board
    }

    /// Bytes between SND.UNA and SND.NXT.
    pub(in crate::tcp) fn outstanding(&self) -> usize {
        self.board.outstanding()
    }

    /// Packets that are not acknowledged, as far as there are fewer than `limit`.
    pub(in crate::tcp) fn packets_out(&self, limit: usize) -> usize {
        self.board.packets_out(limit)
    }

    /// Marks what is in flight as sent by an application that had no more: `pipe` bytes are in the
    /// network.
    pub(in crate::tcp) fn mark_app_limited(&mut self, pipe: usize) {
        self.board.mark_app_limited(pipe);
    }

    /// When to look for losses again.
    pub(in crate::tcp) fn reorder_deadline(&self) -> Option<Instant> {
        self.reorder_timer
    }

    /// Expirations of the retransmission timer in a row.
    pub(in crate::tcp) fn timeouts(&self) -> u32 {
        self.timeouts.count()
    }

    /// When the first retransmission left since the peer last acknowledged something.
    pub(in crate::tcp) fn retrans_stamp(&self) -> Option<Instant> {
        self.timeouts.retrans_stamp()
    }

    /// Something is due to be sent again: the time in which the peer must acknowledge something begins,
    /// even if the device cannot take it now.
    pub(in crate::tcp) fn begin_retransmitting(&mut self, now: Instant) {
        self.timeouts.on_retransmitted(now);
    }

    /// How far the path reorders.
    pub(in crate::tcp) fn reordering(&self) -> &Reordering {
        &self.reordering
    }

    pub(in crate::tcp) fn counters(&self) -> &RecoveryCounters {
        &self.counters
    }

    /// New data that was sent up to `end` serves as a tail loss probe.
    pub(in crate::tcp) fn on_probe_sent(&mut self, end: Seq) {
        self.tail.on_sent(end, false);
    }

    /// What is sent now from `start` on probes the path's MTU.
    pub(in crate::tcp) fn on_mtu_probe_sent(&mut self, start: Seq) {
        self.mtu_probe = Some(start);
    }

    /// Whether a probe of the path's MTU is in flight that may still arrive, as far as is known.
    pub(in crate::tcp) fn has_mtu_probe(&self) -> bool {
        self.mtu_probe.is_some()
    }

    /// There is no probe of the path's MTU any more.
    pub(in crate::tcp) fn forget_mtu_probe(&mut self) {
        self.mtu_probe = None;
    }

    /// Bytes thought to be in the network. Without SACK, each duplicate acknowledgment says that a
    /// segment has left it (RFC 5681 §3.2).
    pub(in crate::tcp) fn pipe(&self, mss: usize) -> usize {
        let pipe = self.board.pipe();
        if self.sack { pipe } else { pipe.saturating_sub(self.dup_acks as usize * mss) }
    }

    /// Whether new data goes before what is thought to be lost, `snd_nxt` being the next of it: F-RTO
    /// finds out with two new segments whether it is lost at all.
    pub(in crate::tcp) fn prefers_new_data(&self) -> bool {
        self.frto == Frto::NewData
    }

    /// Whether retransmissions wait for what F-RTO's new data bring back.
    pub(in crate::tcp) fn waits_for_new_data(&self, snd_nxt: Seq) -> bool {
        self.frto == Frto::NewData && snd_nxt > self.recovery_point
    }

    fn board_mss(&self) -> usize {
        self.board.mss().max(1)
    }

    /// What RACK found while it waited does not come any more.
    pub(in crate::tcp) fn on_reorder_timeout(
        &mut self,
        now: Instant,
        snd_nxt: Seq,
        rtt: &RttEstimator,
        cc: &mut dyn CongestionControl,
    ) {
        let path = self.path_view(rtt);
        let found = self.rack.look(now, &mut self.board, path);
        self.reorder_timer = found.next;
        let forgiven = found.lost > 0 && self.forgives_probe(snd_nxt);
        self.report_losses(now, cc);
        if found.lost > 0 && !forgiven && self.state != CongestionState::Recovery {
            self.enter_recovery(now, snd_nxt, cc);
            if !cc.controls_window() {
                let mss = self.board_mss();
                // As if one segment had been delivered: something must ask for the window.
                let cwnd = self.prr.cwnd(PrrInput {
                    delivered: mss,
                    pipe: self.pipe(mss),
                    ssthresh: cc.ssthresh(),
                    safe: false,
                    mss,
                });
                cc.set_cwnd(cwnd);
            }
        }
    }

    /// The retransmission timer expired (RFC 6298 §5, RFC 5681 §3.1).
    pub(in crate::tcp) fn on_timeout(
        &mut self,
        now: Instant,
        snd_una: Seq,
        snd_nxt: Seq,
        mss: usize,
        cc: &mut dyn CongestionControl,
    ) {
        let calm = matches!(self.state, CongestionState::Open | CongestionState::Disorder);
        let repairing = matches!(self.state, CongestionState::Recovery | CongestionState::Loss);
        // The threshold is set once for what was in flight when the series of losses began.
        let first = calm
            || self.recovery_point <= snd_una
            || (self.state == CongestionState::Loss && self.timeouts.count() == 0);
        if calm {
            self.reordering.on_timeout(&self.board);
        }
        let until = if self.sack {
            Instant::from_nanos(now.as_nanos().saturating_sub(self.rack.age_at_timeout().as_nanos() as u64))
        } else {
            now
        };
        self.board.on_timeout(until);
        if first {
            self.begin_undo(snd_una);
        }
        self.report_losses(now, cc);
        cc.on_timeout(now, first);
        // What was sent just now may still arrive; the window has room for the head beside it.
        cc.set_cwnd(self.board.pipe() + mss);
        // RFC 5682 §2.1 step 1: not if something was sent again before the time-out.
        self.frto = if !repairing || self.timeouts.count() > 0 { Frto::Undecided } else { Frto::Off };
        self.state = CongestionState::Loss;
        self.recovery_point = snd_nxt;
        self.dup_acks = 0;
        self.tail.forget();
        self.timeouts.on_timeout();
        self.reorder_timer = None;
    }

    /// Segments longer than `mss` do not pass the path, a router said: those in flight were dropped,
    /// and go again in shorter ones. The congestion window stays as it is, since nothing says that the
    /// path is congested (RFC 8201 §5.4); the state keeps duplicate acknowledgments of what did arrive
    /// from meaning anything else (`tcp_simple_retransmit` in Linux).
    pub(in crate::tcp) fn on_mtu_reduced(&mut self, mss: usize, snd_nxt: Seq) {
        if self.board.mark_longer_than(mss) > 0 && self.state != CongestionState::Loss {
            self.repair_without_blame(snd_nxt);
        }
    }

    /// The peer did not take data that left with our SYN: what is in flight goes again, for a reason
    /// that is not congestion.
    pub(in crate::tcp) fn on_refused(&mut self, now: Instant, snd_nxt: Seq) {
        self.board.on_timeout(now);
        self.repair_without_blame(snd_nxt);
    }

    /// What is lost is sent again, and nothing follows from it for the window.
    fn repair_without_blame(&mut self, snd_nxt: Seq) {
        self.state = CongestionState::Loss;
        self.recovery_point = snd_nxt;
        self.dup_acks = 0;
        self.undo.forget();
        self.frto = Frto::Off;
        self.tail.forget();
    }

    fn begin_undo(&mut self, snd_una: Seq) {
        let out = self.board.retransmitted().div_ceil(self.board_mss()) as u32;
        let out = out.max(u32::from(self.tail.is_retransmission_out()));
        self.undo.begin(snd_una, out);
    }

    /// A range was sent again, in segments of `mss` bytes.
    pub(in crate::tcp) fn on_retransmitted(&mut self, now: Instant, start: Seq, end: Seq, mss: usize) {
        let segments = end.since(start).div_ceil(mss) as u32;
        self.count_retransmission(start, end, segments);
        self.board.on_repaired(now, start, end, mss);
        self.first_retransmission.get_or_insert(now);
        self.undo.on_retransmitted(segments);
        if self.frto == Frto::NewData {
            // There was no room for new data: nothing can be distinguished any more.
            self.frto = Frto::Off;
        }
        self.timeouts.on_retransmitted(now);
        self.prr.on_sent(end.since(start));
    }

    /// The last segment was sent again, as a probe.
    pub(in crate::tcp) fn on_probe_repeated(&mut self, now: Instant, start: Seq, end: Seq, mss: usize) {
        self.count_retransmission(start, end, 1);
        self.board.on_probed(now, start, end, mss);
        self.tail.on_sent(end, true);
    }

    fn count_retransmission(&mut self, start: Seq, end: Seq, segments: u32) {
        self.counters.total_retrans += u64::from(segments);
        self.counters.bytes_retrans += end.since(start) as u64;
    }

    /// New data was sent.
    #[inline]
    pub(in crate::tcp) fn on_sent(&mut self, now: Instant, start: Seq, end: Seq, mss: usize) {
        self.board.on_sent(now, start, end, mss);
        if matches!(self.state, CongestionState::Recovery | CongestionState::Cwr) {
            self.prr.on_sent(end.since(start));
        }
    }

    /// Drops what is in flight: the connection is over.
    pub(in crate::tcp) fn clear(&mut self) {
        self.board.clear();
        self.reorder_timer = None;
        self.tail.forget();
    }

    /// Whether what was found lost is a probe of the path's MTU, in which case the probe is over, and
    /// nothing is reported to congestion control (RFC 4821 §7.6.2). As in Linux the probe must be what the peer
    /// waits for, and everything else in order.
    fn forgives_probe(&mut self, snd_nxt: Seq) -> bool {
        let calm = matches!(self.state, CongestionState::Open | CongestionState::Disorder);
        let forgiven = calm && self.mtu_probe.is_some() && self.mtu_probe == self.board.first();
        if forgiven {
            self.mtu_probe = None;
            self.board.take_losses();
            self.repair_without_blame(snd_nxt);
        }
        forgiven
    }

    /// Reports each range that was found lost to congestion control.
    fn report_losses(&mut self, now: Instant, cc: &mut dyn CongestionControl) {
        if self.board.has_losses() {
            self.board.take_losses().for_each(|loss| cc.on_loss(now, &loss));
        }
    }

    fn path_view(&self, rtt: &RttEstimator) -> PathView {
        let recovering = matches!(self.state, CongestionState::Recovery | CongestionState::Loss);
        let many_sacked = self.board.sacked() >= self.reordering.degree() as usize * self.board_mss();
        PathView {
            min_rtt: rtt.min_rtt().unwrap_or_default(),
            srtt: rtt.srtt().unwrap_or_default(),
            reordering_seen: self.reordering.seen() > 0,
            eager: recovering || many_sacked,
        }
    }

    fn enter_recovery(&mut self, now: Instant, snd_nxt: Seq, cc: &mut dyn CongestionControl) {
        if !self.board.any_retransmitted() {
            self.first_retransmission = None;
        }
        self.begin_undo(snd_nxt - self.board.outstanding());
        self.tail.forget();
        self.frto = Frto::Off;
        let reduced = std::mem::replace(&mut self.state, CongestionState::Recovery) == CongestionState::Cwr;
        self.recovery_point = snd_nxt;
        if reduced {
            // A loss where marks have reduced the window already is the same congestion (RFC 3168
            // §6.1.2), and what marks said is never taken back.
            self.undo.forget();
        } else {
            self.prr = Prr::start(cc.cwnd());
            cc.on_congestion(now);
        }
    }

    /// The peer reported marks. Once for each window, and not while a loss is being answered, the
    /// window goes down to its new threshold as in recovery, with nothing to be sent again (RFC 3168
    /// §6.1.2; `tcp_enter_cwr` in Linux).
    pub(in crate::tcp) fn on_ecn(&mut self, now: Instant, snd_nxt: Seq, cc: &mut dyn CongestionControl) {
        self.undo.forget();
        if matches!(self.state, CongestionState::Open | CongestionState::Disorder) {
            self.state = CongestionState::Cwr;
            self.recovery_point = snd_nxt;
            self.prr = Prr::start(cc.cwnd());
            cc.on_ecn(now);
        }
    }
}
