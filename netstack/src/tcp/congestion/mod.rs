//! Congestion control: how much may be in flight.
//!
//! An algorithm does window arithmetic and nothing else: which bytes are lost, and when to
//! retransmit them, is for [`recovery`](super::recovery). Windows are in bytes.

mod bbr;
mod cubic;
mod hystart;
mod new_reno;
mod window;

use crate::config::{CongestionAlgorithm, Hystart};
pub use bbr::Bbr;
pub use cubic::Cubic;
pub use new_reno::NewReno;

use super::delivery_rate::{LossSample, RateSample};
use super::seq::Seq;
use crate::time::{Duration, Instant};
use std::fmt;

/// The controller of an algorithm, which begins with what `start` says.
pub(crate) fn start(algorithm: CongestionAlgorithm, start: &Start) -> Box<dyn CongestionControl> {
    match algorithm {
        CongestionAlgorithm::Cubic => Box::new(Cubic::new(start)),
        CongestionAlgorithm::NewReno => Box::new(NewReno::new(start)),
        CongestionAlgorithm::Bbr => Box::new(Bbr::new(start)),
    }
}

/// What a controller begins with: a new connection's values, or those of the controller before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) now: Instant,
    /// Sender maximum segment size in bytes.
    pub(crate) mss: usize,
    /// The congestion window in bytes.
    pub(crate) cwnd: usize,
    /// The slow start threshold in bytes; `usize::MAX` if nothing is known.
    pub(crate) ssthresh: usize,
    pub(crate) hystart: Hystart,
    /// The smoothed round-trip time; zero if it is not known.
    pub(crate) srtt: Duration,
    /// Whether the peer tells what it received out of order.
    pub(crate) sack: bool,
    /// Where chance is to come from.
    pub(crate) seed: u64,
}

/// What an acknowledgment says that congestion control may want to know.
#[derive(Clone, Copy, Debug)]
pub struct AckSample {
    /// When it arrived.
    pub now: Instant,
    /// Bytes newly acknowledged or SACKed.
    pub delivered: usize,
    /// Bytes that the peer received twice: what was sent again in vain.
    pub duplicates: usize,
    /// The round trip of the newest data that it acknowledges, if that was sent only once; on a path
    /// that reorders, if it came in order, too, since what overtakes the rest is faster than the path.
    pub rtt: Option<Duration>,
    /// Whether the path was ever seen to reorder.
    pub reorders: bool,
    /// Smoothed round-trip time.
    pub srtt: Duration,
    /// The smallest round-trip time.
    pub min_rtt: Duration,
    /// SND.UNA.
    pub una: Seq,
    /// SND.NXT.
    pub snd_nxt: Seq,
    /// Bytes still in the network.
    pub in_flight: usize,
    /// Bytes delivered since the connection began.
    pub total_delivered: u64,
    /// The delivery rate, if something was delivered.
    pub rate: Option<RateSample>,
    /// Whether the connection is paced.
    pub paced: bool,
    /// Whether the window held the sender back since the last acknowledgment; if it did not, the
    /// window must not grow (RFC 9293 §3.8.2 by way of RFC 7661).
    pub cwnd_limited: bool,
}

/// An algorithm's state for one connection.
pub trait CongestionControl: Send + fmt::Debug {
    /// The congestion window in bytes, at least one MSS.
    fn cwnd(&self) -> usize;

    /// The slow start threshold in bytes; `usize::MAX` until the first congestion.
    fn ssthresh(&self) -> usize;

    /// New data is about to be sent while `in_flight` bytes are in the network; `app_limited` says
    /// that the application and not the window was what limited the connection.
    fn on_send(&mut self, _now: Instant, _in_flight: usize, _app_limited: bool) {}

    /// Data was acknowledged outside fast recovery.
    fn on_ack(&mut self, ack: &AckSample);

    /// A range was found lost. [`CongestionControl::on_congestion`] or
    /// [`CongestionControl::on_timeout`] follows if that begins a recovery.
    fn on_loss(&mut self, _now: Instant, _loss: &LossSample) {}

    /// Everything that was lost when recovery began is repaired.
    fn on_recovered(&mut self) {}

    /// Congestion was found: a loss, or an ECN mark. Sets the threshold; the window follows through
    /// [`CongestionControl::set_cwnd`] as recovery goes on.
    fn on_congestion(&mut self, now: Instant);

    /// The peer reports a CE mark (RFC 3168 §6.1.2): once for each window of data. As after a loss the
    /// window follows the new threshold through [`CongestionControl::set_cwnd`].
    fn on_ecn(&mut self, now: Instant) {
        self.on_congestion(now);
    }

    /// The last [`CongestionControl::on_congestion`] or [`CongestionControl::on_timeout`] was a
    /// mistake: nothing was lost. The window and the threshold are at least what they were before
    /// (RFC 4015 §3.2, `undo_cwnd` in Linux). Nothing happens if there is nothing to undo.
    fn on_undo(&mut self);

    /// Whether the algorithm sets its window by itself, in recovery too: then recovery calls
    /// [`CongestionControl::on_ack`] for every acknowledgment and leaves
    /// [`CongestionControl::set_cwnd`] alone (`cong_control` in Linux).
    fn controls_window(&self) -> bool {
        false
    }

    /// The retransmission timer expired. `first` is false if it expired for the same data before
    /// (RFC 5681 §3.1: the threshold is kept then).
    fn on_timeout(&mut self, now: Instant, first: bool);

    /// Whether the algorithm sends less than it thinks the path takes, so that rate samples tell
    /// nothing of the path.
    fn holds_back(&self) -> bool {
        false
    }

    /// Fast recovery moves the window; after a time-out all algorithms start from the given one.
    fn set_cwnd(&mut self, bytes: usize);

    /// The connection was idle for `idle`, which is longer than `rto` (RFC 5681 §4.1).
    fn on_idle(&mut self, idle: Duration, rto: Duration, restart_window: usize);

    /// For a whole RTO at most `used` bytes of the window, or the initial window, were in use
    /// (RFC 7661 §4.4, which Linux follows in the form of RFC 2861).
    fn on_unused(&mut self, used: usize);

    /// The MSS changed: the window keeps its number of segments (RFC 5681 §3.1).
    fn on_mss_change(&mut self, mss: usize);

    /// The rate at which to pace, in bytes a second, if the algorithm wants pacing.
    fn pacing_rate(&self) -> Option<u64> {
        None
    }

    /// The name that `TCP_CONGESTION` uses.
    fn name(&self) -> &'static str;
}

#[cfg(test)]
mod testing {
    //! Acknowledgments for the tests of algorithms.

    use super::{AckSample, Start};
    use crate::config::Hystart;
    use crate::tcp::seq::Seq;
    use crate::time::{Duration, Instant};
    use crate::wire::SeqNum;

    pub(super) const MSS: usize = 1000;

    /// A connection with a window of `cwnd` bytes that has met no congestion.
    pub(super) fn start(cwnd: usize) -> Start {
        let (now, hystart) = (Instant::ZERO, Hystart::default());
        let (srtt, sack, seed) = (Duration::ZERO, true, 1);
        Start { now, mss: MSS, cwnd, ssthresh: usize::MAX, hystart, srtt, sack, seed }
    }

    /// An acknowledgment of `delivered` bytes that the window had held back.
    pub(super) fn ack(now: Instant, delivered: usize) -> AckSample {
        let una = Seq::initial(SeqNum::new(0));
        AckSample {
            now,
            delivered,
            duplicates: 0,
            rtt: None,
            reorders: false,
            srtt: Duration::ZERO,
            min_rtt: Duration::ZERO,
            una,
            snd_nxt: una,
            in_flight: 0,
            total_delivered: 0,
            rate: None,
            paced: false,
            cwnd_limited: true,
        }
    }
}
