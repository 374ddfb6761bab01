//! The state of loss recovery, and what changes it beside acknowledgments: time, and what is sent.
//! Acknowledgments are in [`on_ack`].

mod on_ack;

pub(in crate::tcp) use on_ack::{AckInput, Rearm};

use super::prr::{Prr, PrrInput};
use super::rack::{PathView, Rack};
use super::reordering::Reordering;
use super::rtt::RttEstimator;
use super::scoreboard::Scoreboard;
use super::state::Phase;
use super::tlp::TailProbe;
use super::undo::Undo;
use crate::tcp::congestion::CongestionControl;
use crate::tcp::seq::Seq;
use crate::time::Instant;

/// Whether a time-out may have been a mistake (RFC 5682 §3.1, the SACK-enhanced form of Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Frto {
    /// It was not, or nobody asks.
    #[default]
    Off,
    /// What the next acknowledgment says will show; step 1 and 2.
    Asking,
    /// New data is sent before more is repaired; step 2b. It stays new once some of it left.
    NewData,
}

/// Loss recovery of one connection.
#[derive(Debug)]
pub(in crate::tcp) struct Recovery {
    /// What is in flight.
    pub(in crate::tcp) board: Scoreboard,
    phase: Phase,
    /// RecoveryPoint of RFC 6675, `recover` of RFC 6582, `high_seq` in Linux: SND.NXT when the phase
    /// began.
    recovery_point: Seq,
    /// Without SACK: segments that duplicate acknowledgments say have left the network.
    dup_acks: u32,
    /// Whether SACK was negotiated.
    sack: bool,
    rack: Rack,
    prr: Prr,
    pub(in crate::tcp) reordering: Reordering,
    pub(in crate::tcp) tail: TailProbe,
    undo: Undo,
    frto: Frto,
    /// When to look for losses again.
    pub(in crate::tcp) reorder_timer: Option<Instant>,
    /// Expirations of the retransmission timer in a row.
    pub(in crate::tcp) timeouts: u32,
    /// When the first retransmission of this recovery left: an echo of an earlier timestamp is of an
    /// original.
    first_retransmission: Option<Instant>,
    /// When the first retransmission left since the peer last acknowledged something.
    pub(in crate::tcp) retrans_stamp: Option<Instant>,
    /// Where a probe of the path's MTU begins that is in flight. If nothing but the probe is lost, this
    /// becomes none, and no congestion is assumed (RFC 4821 §7.6.2).
    pub(in crate::tcp) mtu_probe: Option<Seq>,
    /// Counters for `TCP_INFO`.
    pub(in crate::tcp) counters: RecoveryCounters,
}

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
    /// Nothing is in flight; the next byte to be sent is at `snd_nxt`.
    pub(in crate::tcp) fn new(sack: bool, snd_nxt: Seq) -> Self {
        Self {
            board: Scoreboard::default(),
            phase: Phase::Open,
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
            timeouts: 0,
            first_retransmission: None,
            retrans_stamp: None,
            mtu_probe: None,
            counters: RecoveryCounters::default(),
        }
    }

    /// Whether SACK was negotiated.
    pub(in crate::tcp) fn has_sack(&self) -> bool {
        self.sack
    }

    pub(in crate::tcp) fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether a tail loss probe may be sent: with SACK, while nothing unusual is known of what is in
    /// flight (RFC 8985 §7.2).
    pub(in crate::tcp) fn may_probe(&self) -> bool {
        let phase = matches!(self.phase, Phase::Open | Phase::Cwr);
        self.sack && phase && self.board.outstanding() > 0
    }

    /// Bytes thought to be in the network. Without SACK, each duplicate acknowledgment says that a
    /// segment has left it (RFC 5681 §3.2).
    pub(in crate::tcp) fn pipe(&self, mss: usize) -> usize {
        let pipe = self.board.pipe();
        if self.sack { pipe } else { pipe.saturating_sub(self.dup_acks as usize * mss) }
    }

    /// Whether new data goes before what is thought to be lost, `snd_nxt` being the next of it: F-RTO
    /// asks with two new segments whether it is lost at all.
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
        self.tell_losses(now, cc);
        if found.lost > 0 && !forgiven && self.phase != Phase::Recovery {
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
        let calm = matches!(self.phase, Phase::Open | Phase::Disorder);
        let repairing = matches!(self.phase, Phase::Recovery | Phase::Loss);
        // The threshold is set once for what was in flight when the series of losses began.
        let first =
            calm || self.recovery_point <= snd_una || (self.phase == Phase::Loss && self.timeouts == 0);
        if calm {
            self.reordering.on_timeout(&self.board);
        }
        let until = if self.sack {
            Instant::from_nanos(now.as_nanos().saturating_sub(self.rack.patience().as_nanos() as u64))
        } else {
            now
        };
        self.board.on_timeout(until);
        if first {
            self.begin_undo(snd_una);
        }
        self.tell_losses(now, cc);
        cc.on_timeout(now, first);
        // What was sent just now may still arrive; the window has room for the head beside it.
        cc.set_cwnd(self.board.pipe() + mss);
        // RFC 5682 §2.1 step 1: not if something was sent again before the time-out.
        self.frto = if !repairing || self.timeouts > 0 { Frto::Asking } else { Frto::Off };
        self.phase = Phase::Loss;
        self.recovery_point = snd_nxt;
        self.dup_acks = 0;
        self.tail.forget();
        self.timeouts += 1;
        self.reorder_timer = None;
    }

    /// Segments longer than `mss` do not pass the path, a router said: those in flight were dropped,
    /// and go again in shorter ones. The congestion window stays as it is, since nothing says that the
    /// path is congested (RFC 8201 §5.4); the phase keeps duplicate acknowledgments of what did arrive
    /// from meaning anything else (`tcp_simple_retransmit` in Linux).
    pub(in crate::tcp) fn on_mtu_reduced(&mut self, mss: usize, snd_nxt: Seq) {
        if self.board.mark_longer_than(mss) > 0 && self.phase != Phase::Loss {
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
        self.phase = Phase::Loss;
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
            // There was no room for new data: nothing can be told apart any more.
            self.frto = Frto::Off;
        }
        self.retrans_stamp.get_or_insert(now);
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
    pub(in crate::tcp) fn on_sent(&mut self, now: Instant, start: Seq, end: Seq, mss: usize) {
        self.board.on_sent(now, start, end, mss);
        if matches!(self.phase, Phase::Recovery | Phase::Cwr) {
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
    /// congestion control hears nothing (RFC 4821 §7.6.2). As in Linux the probe must be what the peer
    /// waits for, and everything else in order.
    fn forgives_probe(&mut self, snd_nxt: Seq) -> bool {
        let calm = matches!(self.phase, Phase::Open | Phase::Disorder);
        let forgiven = calm && self.mtu_probe.is_some() && self.mtu_probe == self.board.first();
        if forgiven {
            self.mtu_probe = None;
            self.board.take_losses();
            self.repair_without_blame(snd_nxt);
        }
        forgiven
    }

    /// Congestion control hears of each range that was found lost.
    fn tell_losses(&mut self, now: Instant, cc: &mut dyn CongestionControl) {
        for loss in self.board.take_losses() {
            cc.on_loss(now, &loss);
        }
    }

    fn path_view(&self, rtt: &RttEstimator) -> PathView {
        let recovering = matches!(self.phase, Phase::Recovery | Phase::Loss);
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
        let reduced = std::mem::replace(&mut self.phase, Phase::Recovery) == Phase::Cwr;
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
        if matches!(self.phase, Phase::Open | Phase::Disorder) {
            self.phase = Phase::Cwr;
            self.recovery_point = snd_nxt;
            self.prr = Prr::start(cc.cwnd());
            cc.on_ecn(now);
        }
    }
}
