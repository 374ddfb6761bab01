//! When to leave slow start before it loses a window: HyStart.
//!
//! Doubling until something is lost costs half a window of losses. Two signs show earlier that the
//! path is full: its queue grows, so that round trips take longer; and acknowledgments, which arrive
//! at the rate of the path, fill the round trip.

use super::AckSample;
use super::window::Window;
use crate::config::Hystart;
use crate::tcp::Seq;
use crate::tcp::compact::compact;
use crate::time::{Duration, Instant};

/// Smaller windows are left alone: a few segments say little (`hystart_low_window`).
const LOW_WINDOW: u64 = 16;

/// Acknowledgments that are closer together belong to one train (`hystart_ack_delta_us`).
const TRAIN_GAP: Duration = Duration::from_millis(2);

/// Round-trip samples of a round that are needed: 8 in both.
const SAMPLES: u32 = 8;

/// How much longer a round trip must be, at least and at most: an eighth in between.
const DELAY_MIN: Duration = Duration::from_millis(4);
const DELAY_MAX: Duration = Duration::from_millis(16);

/// RFC 9406 §4.3: the growth of slow start divided by this is that of conservative slow start.
const CSS_GROWTH_DIVISOR: usize = 4;

/// RFC 9406 §4.3: segments that one acknowledgment may let slow start grow by, where nothing paces the
/// burst that follows.
const MAX_GROWTH: usize = 8;

/// RFC 9406 §4.3: the rounds of conservative slow start.
const CSS_ROUNDS: u32 = 5;

/// The detector of one connection.
#[derive(Debug)]
pub(super) struct Detector {
    kind: Hystart,
    /// Slow start was ended, or is not to be watched.
    found: bool,
    /// The round ends when something beyond this is acknowledged.
    round_end: Option<Seq>,
    round_start: Instant,
    /// The last acknowledgment of the train.
    last_ack: Instant,
    /// The smallest round trip of this round, and how many samples there were.
    round_rtt: Option<Duration>,
    samples: u32,
    /// HyStart++: the smallest round trip of the round before.
    last_round_rtt: Option<Duration>,
    /// Conservative slow start.
    css: Option<Css>,
}

compact!(
    enum Hystart {
        Linux,
        Rfc9406,
        Off,
    }
);

compact!(Detector { kind, found, round_end, round_start, last_ack, round_rtt, samples, last_round_rtt, css });

/// Conservative slow start (RFC 9406 §4.2).
#[derive(Debug)]
struct Css {
    /// cssBaselineMinRtt: below this the delay that led here was noise.
    baseline: Duration,
    rounds: u32,
}

compact!(Css { baseline, rounds });

impl Detector {
    pub(super) fn new(kind: Hystart) -> Self {
        Self {
            kind,
            found: kind == Hystart::Off,
            round_end: None,
            round_start: Instant::ZERO,
            last_ack: Instant::ZERO,
            round_rtt: None,
            samples: 0,
            last_round_rtt: None,
            css: None,
        }
    }

    /// Slow start begins anew, after a time-out. RFC 9406 §4.3 is for the first one only; Linux
    /// looks again.
    pub(super) fn restart(&mut self) {
        let again = self.kind == Hystart::Linux;
        *self = Self { found: !again, ..Self::new(self.kind) };
    }

    /// How many of the bytes that `ack` acknowledges slow start grows by.
    pub(super) fn growth(&self, ack: &AckSample, mss: usize) -> usize {
        let plain = self.kind != Hystart::Rfc9406 || ack.paced || self.found;
        let acked = if plain { ack.delivered } else { ack.delivered.min(MAX_GROWTH * mss) };
        if self.css.is_some() { acked / CSS_GROWTH_DIVISOR } else { acked }
    }

    /// A round trip of `rtt` was measured in slow start, and `delay_min` is the smallest. Says
    /// whether slow start ends.
    pub(super) fn on_rtt(
        &mut self,
        ack: &AckSample,
        rtt: Duration,
        delay_min: Duration,
        window: &Window,
    ) -> bool {
        if self.found {
            return false;
        }
        if self.round_end.is_none_or(|end| ack.una > end) {
            self.begin_round(ack);
        }
        self.found = match self.kind {
            Hystart::Linux => {
                window.segments() >= LOW_WINDOW
                    && (self.train_is_long(ack, delay_min, window) | self.delay_grew(rtt, delay_min))
            }
            Hystart::Rfc9406 => self.css_is_over(rtt),
            Hystart::Off => true,
        };
        if self.found {
            self.css = None;
        }
        self.found
    }

    fn begin_round(&mut self, ack: &AckSample) {
        self.round_end = Some(ack.snd_nxt);
        self.round_start = ack.now;
        self.last_ack = ack.now;
        self.last_round_rtt = self.round_rtt.take();
        self.samples = 0;
        if let Some(css) = &mut self.css {
            css.rounds += 1;
        }
    }

    /// Acknowledgments have come without a gap since the round began, for so long that the path
    /// must be full.
    fn train_is_long(&mut self, ack: &AckSample, delay_min: Duration, window: &Window) -> bool {
        if ack.now - self.last_ack > TRAIN_GAP {
            return false;
        }
        self.last_ack = ack.now;
        // Super-segments and their acknowledgments come in lumps: hystart_ack_delay allows for four
        // of 64 KiB, and a millisecond at most.
        let lumps = match 2 * window.cwnd as u128 {
            0 => Duration::ZERO,
            per_srtt => {
                let nanos = 4 * 65_536 * ack.srtt.as_nanos() / per_srtt;
                Duration::from_nanos(nanos.min(1_000_000) as u64)
            }
        };
        let threshold = delay_min + lumps;
        // Paced segments fill half of the round trip by themselves.
        let threshold = if ack.paced { threshold } else { threshold / 2 };
        ack.now - self.round_start > threshold
    }

    /// The first samples of the round are all longer than a round trip used to be.
    fn delay_grew(&mut self, rtt: Duration, delay_min: Duration) -> bool {
        let shortest = self.round_rtt.map_or(rtt, |least| least.min(rtt));
        self.round_rtt = Some(shortest);
        if self.samples < SAMPLES {
            self.samples += 1;
            return false;
        }
        shortest > delay_min + threshold(delay_min)
    }

    /// RFC 9406 §4.2.
    fn css_is_over(&mut self, rtt: Duration) -> bool {
        let shortest = self.round_rtt.map_or(rtt, |least| least.min(rtt));
        self.round_rtt = Some(shortest);
        self.samples += 1;
        let enough = self.samples >= SAMPLES;
        match &self.css {
            None => {
                let grew = self.last_round_rtt.is_some_and(|last| shortest >= last + threshold(last));
                if enough && grew {
                    self.css = Some(Css { baseline: shortest, rounds: 0 });
                }
                false
            }
            Some(css) if css.rounds >= CSS_ROUNDS => true,
            Some(css) => {
                if enough && shortest < css.baseline {
                    self.css = None;
                }
                false
            }
        }
    }
}

/// How much longer a round trip than `rtt` means a queue.
fn threshold(rtt: Duration) -> Duration {
    (rtt / 8).clamp(DELAY_MIN, DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::cubic::Cubic;
    use super::super::window_based::WindowBased;
    use super::super::{CongestionControl, CongestionStart, testing};
    use super::*;

    const MSS: usize = testing::MSS;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// A connection in slow start whose rounds are played to it.
    struct Play {
        cc: WindowBased<Cubic>,
        now: Instant,
        una: Seq,
    }

    impl Play {
        fn new(kind: Hystart) -> Self {
            let una = AckSample::new(Instant::ZERO, 0).una;
            let start = CongestionStart { hystart: kind, ..testing::start(20 * MSS) };
            Self { cc: Cubic::start(&start), now: Instant::from_millis(100), una }
        }

        /// A window is acknowledged, with round trips of `rtt` and `gap` between acknowledgments of
        /// two segments.
        fn round(&mut self, rtt: Duration, gap: Duration) -> &mut Self {
            self.now += rtt;
            let acks = self.cc.cwnd() / MSS / 2;
            let window_end = self.una + self.cc.cwnd();
            for i in 0..acks {
                self.una += 2 * MSS;
                // By then the answer to the acknowledgments so far has been sent.
                let snd_nxt = window_end + 2 * MSS * i;
                self.cc.on_ack(&AckSample {
                    rtt: Some(rtt),
                    srtt: rtt,
                    min_rtt: rtt,
                    una: self.una,
                    snd_nxt,
                    ..AckSample::new(self.now, 2 * MSS)
                });
                self.now += gap;
            }
            self
        }

        fn in_slow_start(&self) -> bool {
            self.cc.ssthresh() == usize::MAX
        }
    }

    #[test]
    fn equal_round_trips_leave_slow_start_alone() {
        for kind in [Hystart::Linux, Hystart::Rfc9406, Hystart::Off] {
            let mut play = Play::new(kind);
            for _ in 0..5 {
                play.round(ms(50), Duration::ZERO);
            }
            assert!(play.in_slow_start(), "{kind:?}");
            assert_eq!(play.cc.cwnd(), (20 * MSS) << 5, "{kind:?}");
        }
    }

    #[test]
    fn a_growing_delay_ends_slow_start_at_once_or_slows_it_down() {
        let mut linux = Play::new(Hystart::Linux);
        linux.round(ms(50), Duration::ZERO).round(ms(58), Duration::ZERO);
        assert!(!linux.in_slow_start());
        let mut rfc = Play::new(Hystart::Rfc9406);
        rfc.round(ms(50), Duration::ZERO);
        let before = rfc.cc.cwnd();
        rfc.round(ms(58), Duration::ZERO);
        assert!(rfc.in_slow_start());
        assert!(rfc.cc.cwnd() < before * 2, "it is slower now");
        for _ in 0..4 {
            rfc.round(ms(58), Duration::ZERO);
            assert!(rfc.in_slow_start());
        }
        rfc.round(ms(58), Duration::ZERO);
        assert!(!rfc.in_slow_start(), "five rounds of it end slow start");
        let mut off = Play::new(Hystart::Off);
        off.round(ms(50), Duration::ZERO).round(ms(100), Duration::ZERO);
        assert!(off.in_slow_start());
    }

    #[test]
    fn noise_is_forgiven_by_hystart_plus_plus() {
        let mut play = Play::new(Hystart::Rfc9406);
        play.round(ms(50), Duration::ZERO).round(ms(58), Duration::ZERO);
        assert!(play.cc.rules.hystart.css.is_some());
        play.round(ms(50), Duration::ZERO);
        assert!(play.cc.rules.hystart.css.is_none());
        for _ in 0..6 {
            play.round(ms(50), Duration::ZERO);
        }
        assert!(play.in_slow_start());
    }

    #[test]
    fn a_long_train_of_acknowledgments_ends_slow_start() {
        let mut play = Play::new(Hystart::Linux);
        // 20 acknowledgments, 1 ms apart: 20 ms of 50.
        play.round(ms(50), ms(1)).cc.window.cwnd = 40 * MSS;
        assert!(play.in_slow_start());
        play.round(ms(50), ms(1));
        assert!(play.in_slow_start(), "20 ms are less than half");
        play.cc.window.cwnd = 80 * MSS;
        play.round(ms(50), ms(1));
        assert!(!play.in_slow_start(), "40 ms are more");
    }

    #[test]
    fn few_segments_say_nothing() {
        let mut play = Play::new(Hystart::Linux);
        play.cc.window.cwnd = 6 * MSS;
        play.round(ms(50), Duration::ZERO);
        play.cc.window.cwnd = 6 * MSS;
        play.round(ms(100), Duration::ZERO);
        assert!(play.in_slow_start());
    }
}
