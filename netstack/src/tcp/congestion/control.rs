//! The interface between a connection and its congestion control.

use crate::config::Hystart;
use crate::tcp::{LossSample, RateSample, Seq};
use crate::time::{Duration, Instant};
use crate::wire::SeqNum;
use std::any::Any;
use std::fmt;

/// The congestion control of one connection: how much may be in flight, and how fast it is sent.
///
/// Windows are in bytes. The connection reads [`cwnd`](Self::cwnd), [`ssthresh`](Self::ssthresh) and
/// [`pacing_rate`](Self::pacing_rate) whenever it may send, and calls the other methods when something
/// happens. All calls come with the connection locked: an implementation computes and returns. It must
/// not block or call into the stack, and it has no clock: the time is an argument.
///
/// A stack makes one controller for each connection, through the factory that is registered with
/// `StackBuilder::congestion_control` or [`CongestionRegistry::register`].
///
/// # Order of calls
/// - The factory is called when the handshake is over, or when the application changes the algorithm of
///   a connection.
/// - [`on_send`](Self::on_send) comes before each transmission of data.
/// - For each acknowledgment: [`on_congestion`](Self::on_congestion) if it shows that something was lost and
///   that begins a recovery, or [`on_ecn`](Self::on_ecn) if it reports marks; [`on_loss`](Self::on_loss)
///   for each range that was lost; then [`on_ack`](Self::on_ack). A timer finds losses, too (RFC 8985
///   §6.3): `on_loss` comes before `on_congestion` then, and there is no `on_ack`.
/// - While a recovery lasts, [`set_cwnd`](Self::set_cwnd) moves the window from what it was to the
///   new threshold by proportional rate reduction (RFC 6937), and `on_ack` is not called. At the
///   end comes [`on_recovered`](Self::on_recovered), and the window is set to
///   [`ssthresh`](Self::ssthresh). An algorithm that [controls its window](Self::controls_window)
///   gets `on_ack` throughout instead, and `set_cwnd` only after a timeout.
/// - When the retransmission timer expires: `on_loss` for everything that is now considered lost,
///   [`on_timeout`](Self::on_timeout), and `set_cwnd` with what may still be in the network and one
///   segment. `on_ack` goes on, so that the window grows by slow start.
/// - [`on_undo`](Self::on_undo) if a reduction proves to have been spurious.
///
/// # Example
/// A window that never changes, as on a path whose capacity is known:
///
/// ```
/// use netstack::tcp::{AckSample, CongestionControl, CongestionStart};
/// use netstack::time::Instant;
///
/// #[derive(Debug)]
/// struct Fixed {
///     window: usize,
///     /// What recovery from a time-out has made of the window.
///     cwnd: usize,
///     mss: usize,
/// }
///
/// impl CongestionControl for Fixed {
///     fn cwnd(&self) -> usize {
///         self.cwnd
///     }
///     fn ssthresh(&self) -> usize {
///         self.window
///     }
///     fn set_cwnd(&mut self, bytes: usize) {
///         self.cwnd = bytes.clamp(self.mss, self.window.max(self.mss));
///     }
///     fn on_ack(&mut self, ack: &AckSample) {
///         self.set_cwnd(self.cwnd + ack.delivered);
///     }
///     fn on_congestion(&mut self, _now: Instant) {}
///     fn on_timeout(&mut self, _now: Instant, _first: bool) {}
///     fn on_mss_change(&mut self, mss: usize) {
///         self.mss = mss;
///     }
/// }
///
/// let mut cc = Fixed { window: 64 << 10, cwnd: 64 << 10, mss: 1448 };
/// cc.set_cwnd(0);
/// assert_eq!(cc.cwnd(), 1448);
/// cc.on_ack(&AckSample::new(Instant::from_millis(10), 2896));
/// assert_eq!(cc.cwnd(), 4344);
/// ```
///
/// [`CongestionRegistry::register`]: super::CongestionRegistry::register
pub trait CongestionControl: Send + fmt::Debug {
    /// The algorithm itself, if it is one of those that this crate keeps in fewer bytes while a connection is at rest.
    #[doc(hidden)]
    fn built_in(&self) -> Option<&dyn Any> {
        None
    }

    /// The congestion window in bytes, at least one MSS at all times. What counts against it is what
    /// was sent and neither acknowledged nor SACKed nor found lost.
    fn cwnd(&self) -> usize;

    /// The slow start threshold in bytes, at least one MSS; `usize::MAX` until the first congestion, and
    /// always for an algorithm that has none. This is where recovery leads the window unless the
    /// algorithm [controls it](Self::controls_window), so it must be finite from
    /// [`on_congestion`](Self::on_congestion) on.
    fn ssthresh(&self) -> usize;

    /// Sets the window, to one MSS if `bytes` is less. Recovery calls this on its way to the threshold,
    /// and after [`on_timeout`](Self::on_timeout) with what an algorithm of any kind starts from.
    fn set_cwnd(&mut self, bytes: usize);

    /// Data was acknowledged or SACKed outside fast recovery; for an algorithm that
    /// [controls its window](Self::controls_window) in recovery, too, and then also if an
    /// acknowledgment delivered nothing. This is where the window grows.
    fn on_ack(&mut self, ack: &AckSample);

    /// Congestion was found: a loss, or an ECN mark unless [`on_ecn`](Self::on_ecn) handles those. Comes
    /// once for all that is lost of one window of data. Sets the threshold; the window follows through
    /// [`set_cwnd`](Self::set_cwnd) as recovery goes on.
    fn on_congestion(&mut self, now: Instant);

    /// The retransmission timer expired. `first` is false if it expired for the same data before: the
    /// threshold is kept then (RFC 5681 §3.1). [`set_cwnd`](Self::set_cwnd) follows.
    fn on_timeout(&mut self, now: Instant, first: bool);

    /// The MSS of the path is `mss` bytes from now on. A window that holds segments should keep their
    /// number (RFC 5681 §3.1); if the MSS grew, [`set_cwnd`](Self::set_cwnd) follows, since the window
    /// must not grow in bytes (RFC 4821 §4).
    fn on_mss_change(&mut self, mss: usize);

    /// The last [`on_congestion`](Self::on_congestion) or [`on_timeout`](Self::on_timeout) was spurious:
    /// nothing was lost. The window and the threshold should be at least what they were before
    /// (RFC 4015 §3.2, `undo_cwnd` in Linux). Comes at most once for each, and may come after neither.
    ///
    /// By default the reduction stands.
    fn on_undo(&mut self) {}

    /// The peer reports a CE mark (RFC 3168 §6.1.2), at most once for each window of data. As after a
    /// loss, the window follows the threshold through [`set_cwnd`](Self::set_cwnd).
    ///
    /// By default a mark is the same as a loss.
    fn on_ecn(&mut self, now: Instant) {
        self.on_congestion(now);
    }

    /// Data is about to be sent, for the first time or again, while `in_flight` bytes are in the network;
    /// `app_limited` says that what is in flight was limited by the application and not by the window.
    ///
    /// By default nothing happens.
    fn on_send(&mut self, now: Instant, in_flight: usize, app_limited: bool) {
        let _ = (now, in_flight, app_limited);
    }

    /// A range was found lost. If that begins a recovery, [`on_congestion`](Self::on_congestion) comes before
    /// or after it, [`on_timeout`](Self::on_timeout) after it.
    ///
    /// By default nothing happens.
    fn on_loss(&mut self, now: Instant, loss: &LossSample) {
        let _ = (now, loss);
    }

    /// Everything that was in flight when recovery began has been acknowledged.
    ///
    /// By default nothing happens.
    fn on_recovered(&mut self) {}

    /// Data is about to be sent after a pause of `idle`, which is longer than the retransmission
    /// time-out `rto`. `restart_window` is the initial window in bytes. Does not come where
    /// [`Config::slow_start_after_idle`](crate::config::Config::slow_start_after_idle) is off, or if the
    /// algorithm [controls its window](Self::controls_window).
    ///
    /// By default the window is the restart window at most (RFC 5681 §4.1).
    fn on_idle(&mut self, idle: Duration, rto: Duration, restart_window: usize) {
        let _ = (idle, rto);
        self.set_cwnd(self.cwnd().min(restart_window));
    }

    /// For a whole retransmission time-out `used` bytes of the window at most were in use, or the initial
    /// window if that is more. Comes under the same conditions as [`on_idle`](Self::on_idle).
    ///
    /// By default half of what was not used is given up (RFC 2861, which RFC 7661 §4.4 followed).
    fn on_unused(&mut self, used: usize) {
        let cwnd = self.cwnd();
        if used < cwnd {
            self.set_cwnd(cwnd.midpoint(used));
        }
    }

    /// The rate at which to pace, in bytes a second, if the algorithm wants to be paced. Must not be zero.
    ///
    /// By default a connection is paced only if [`Config::pacing`](crate::config::Config::pacing) or
    /// `SO_MAX_PACING_RATE` says so, at a rate that follows from the window and the round-trip time.
    fn pacing_rate(&self) -> Option<u64> {
        None
    }

    /// Whether the algorithm sets its window by itself, in recovery too: then
    /// [`on_ack`](Self::on_ack) comes for every acknowledgment, and [`set_cwnd`](Self::set_cwnd) only
    /// after a time-out and a change of the MSS (`cong_control` in Linux). Must not change.
    ///
    /// By default it does not.
    fn controls_window(&self) -> bool {
        false
    }

    /// Whether the algorithm sends less than it thinks that the path takes at the moment. Rate samples of
    /// what it sends are then marked as limited by the application, since they do not measure the path. Is
    /// read after [`on_ack`](Self::on_ack) if the algorithm [controls its window](Self::controls_window).
    ///
    /// By default it does not.
    fn holds_back(&self) -> bool {
        false
    }
}

/// The initial values of a controller: those of a new connection, or those of the previous
/// controller.
///
/// # Example
/// For tests of an algorithm:
///
/// ```
/// use netstack::tcp::CongestionStart;
/// use netstack::time::{Duration, Instant};
///
/// let mut start = CongestionStart::new(Instant::ZERO, 1448);
/// assert_eq!((start.cwnd, start.ssthresh), (14_480, usize::MAX));
/// start.srtt = Duration::from_millis(20);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CongestionStart {
    /// The time.
    pub now: Instant,
    /// Sender maximum segment size in bytes: the payload of a full segment.
    pub mss: usize,
    /// The congestion window in bytes, at least one MSS: the initial window of a new connection.
    pub cwnd: usize,
    /// The slow start threshold in bytes; `usize::MAX` if nothing is known.
    pub ssthresh: usize,
    /// The smoothed round-trip time; zero if none has been measured.
    pub srtt: Duration,
    /// Whether SACK was negotiated. Without it, what is lost and what is in flight are guesses.
    pub sack: bool,
    /// How slow start may end before the first loss ([`Config::hystart`](crate::config::Config::hystart)).
    pub hystart: Hystart,
    /// A seed for an algorithm that needs random numbers. Connections seldom have the same; with the same
    /// [`Config::seed`](crate::config::Config::seed) it is the same in each run.
    pub seed: u64,
}

impl CongestionStart {
    /// A new connection with SACK and an initial window of ten segments (RFC 6928), of which nothing else
    /// is known.
    pub fn new(now: Instant, mss: usize) -> Self {
        Self {
            now,
            mss,
            cwnd: 10 * mss,
            ssthresh: usize::MAX,
            srtt: Duration::ZERO,
            sack: true,
            hystart: Hystart::default(),
            seed: 0,
        }
    }
}

/// The information that an acknowledgment gives to congestion control.
///
/// # Example
/// For tests of an algorithm:
///
/// ```
/// use netstack::tcp::{AckSample, RateSample};
/// use netstack::time::{Duration, Instant};
///
/// let mut ack = AckSample::new(Instant::from_millis(50), 2896);
/// ack.rtt = Some(Duration::from_millis(50));
/// ack.rate = Some(RateSample::new(10_000, Duration::from_millis(50)));
/// assert!(ack.cwnd_limited && ack.rate.is_some_and(|sample| sample.rate() == 200_000));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AckSample {
    /// When it arrived.
    pub now: Instant,
    /// Bytes newly acknowledged or SACKed.
    pub delivered: usize,
    /// Bytes that the peer reports as received twice (RFC 2883): the bytes of spurious
    /// retransmissions.
    pub duplicates: usize,
    /// The round-trip time of the newest data that it acknowledges, if that was sent only once; on a path
    /// that reorders, only if that came in order, and while it reorders only if something overtook that,
    /// since what overtakes the rest is faster than the path.
    pub rtt: Option<Duration>,
    /// Whether the path was ever seen to reorder.
    pub reorders: bool,
    /// Smoothed round-trip time; zero if none has been measured.
    pub srtt: Duration,
    /// The smallest round-trip time of the last [`Config::min_rtt_window`]; zero if none has been
    /// measured.
    ///
    /// [`Config::min_rtt_window`]: crate::config::Config::min_rtt_window
    pub min_rtt: Duration,
    /// SND.UNA, after it.
    pub una: Seq,
    /// SND.NXT.
    pub snd_nxt: Seq,
    /// Bytes still in the network.
    pub in_flight: usize,
    /// Bytes delivered since the connection began.
    pub total_delivered: u64,
    /// The delivery rate, if something was delivered and the interval is long enough to tell.
    pub rate: Option<RateSample>,
    /// Whether the connection is paced.
    pub paced: bool,
    /// Whether the window limited the sender since the last acknowledgment. If it did not, the window must
    /// not grow: it was not tested (RFC 7661 §4.3).
    pub cwnd_limited: bool,
}

impl AckSample {
    /// An acknowledgment of `delivered` bytes on a connection that uses its window and of which nothing
    /// else is known.
    pub fn new(now: Instant, delivered: usize) -> Self {
        let una = Seq::initial(SeqNum::new(0));
        Self {
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
            total_delivered: delivered as u64,
            rate: None,
            paced: false,
            cwnd_limited: true,
        }
    }
}
