//! RACK: finding losses by time (RFC 8985).

use super::scoreboard::{Delivered, Losses, RackSample, Scoreboard};
use crate::tcp::compact::compact;
use crate::tcp::seq::Seq;
use crate::time::{Duration, Instant};

/// Recoveries in which a wider reordering window is kept without another reason for it (RFC 8985
/// §6.2 step 4).
const PERSISTENCE: u32 = 16;

/// The widest reordering window, in quarters of the smallest round-trip time, as in Linux.
const MAX_STEPS: u32 = 255;

/// The window exceeds what was seen by this part of it.
const LATE_MARGIN: u32 = 8;

/// The variables of RFC 8985 §5.2.
#[derive(Debug)]
pub(super) struct Rack {
    /// RACK.xmit_ts and RACK.end_seq: the most recently sent range that is known delivered.
    latest: Option<Delivered>,
    /// RACK.rtt: its round-trip time.
    rtt: Duration,
    /// Whether something was delivered since losses were last looked for: nothing else makes one
    /// certain, but for time.
    advanced: bool,
    /// RACK.reo_wnd_mult: width of the reordering window in quarters of the smallest round-trip time.
    steps: u32,
    /// RACK.reo_wnd_persist: recoveries until the window is narrow again.
    persist: u32,
    /// RACK.dsack_round: the window was widened; not again before this is acknowledged.
    widened_until: Option<Seq>,
    /// How late originals came in the current and in the last [`PERSISTENCE`] recoveries, at most.
    latest_originals: [Duration; 2],
    /// Recoveries until the older of the two is forgotten.
    remember: u32,
}

compact!(Rack { latest, rtt, advanced, steps, persist, widened_until, latest_originals, remember });

impl Default for Rack {
    fn default() -> Self {
        Self {
            latest: None,
            rtt: Duration::ZERO,
            advanced: false,
            steps: 1,
            persist: 0,
            widened_until: None,
            latest_originals: [Duration::ZERO; 2],
            remember: PERSISTENCE,
        }
    }
}

/// What is known of the path besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathView {
    /// The smallest recent round-trip time.
    pub(super) min_rtt: Duration,
    /// The smoothed one.
    pub(super) srtt: Duration,
    /// Whether reordering was ever seen.
    pub(super) reordering_seen: bool,
    /// Whether a path that never reordered has no reordering window: in recovery, or when as much was
    /// SACKed as three duplicate acknowledgments stand for.
    pub(super) eager: bool,
}

impl Rack {
    /// Takes note of what was delivered (RFC 8985 §6.2 step 2).
    pub(super) fn on_delivered(&mut self, sample: &RackSample) {
        let (Some(rtt), Some(newest)) = (sample.rtt(), sample.newest) else { return };
        self.advanced = true;
        self.rtt = rtt;
        if self.latest.is_none_or(|l| (l.sent_at, l.end) < (newest.sent_at, newest.end)) {
            self.latest = Some(newest);
        }
    }

    /// The same of what was sent once, up to `end` and last at `sent_at`, and took `rtt`.
    #[inline]
    pub(super) fn on_newest_delivered(&mut self, rtt: Duration, sent_at: Instant, end: Seq) {
        self.advanced = true;
        self.rtt = rtt;
        if self.latest.is_none_or(|l| (l.sent_at, l.end) < (sent_at, end)) {
            self.latest = Some(Delivered { sent_at, end, retransmitted: false });
        }
    }

    /// RFC 8985 §6.2 step 4: a DSACK says that a retransmission was spurious, so the window grows
    /// by a step, once in a round trip; it is narrow again after [`PERSISTENCE`] recoveries in which
    /// none came.
    pub(super) fn update_window(&mut self, una: Seq, snd_nxt: Seq, dsack: bool) {
        if self.widened_until.is_some_and(|until| una >= until) {
            self.widened_until = None;
        }
        if dsack && self.widened_until.is_none() {
            self.widened_until = Some(snd_nxt);
            self.steps = (self.steps + 1).min(MAX_STEPS);
            self.persist = PERSISTENCE;
        } else if self.persist == 0 {
            self.steps = 1;
        }
    }

    /// Something that was overtaken arrived `age` after it was sent, without having been sent again:
    /// the reordering window must cover what it was late by.
    ///
    /// RFC 8985 and Linux learn it from DSACKs alone, a quarter of a round trip for each round with a
    /// spurious retransmission, and forget it all after 16 recoveries. On a path that loses
    /// and reorders, these are over in a second, and each time some windows of data are sent twice.
    pub(super) fn on_late_original(&mut self, age: Duration) {
        let late = age.saturating_sub(self.rtt);
        self.latest_originals[0] = self.latest_originals[0].max(late);
    }

    /// A recovery ended, and nothing showed it to be spurious.
    pub(super) fn on_recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        self.remember -= 1;
        if self.remember == 0 {
            self.remember = PERSISTENCE;
            self.latest_originals = [Duration::ZERO, self.latest_originals[0]];
        }
    }

    /// A reduction was undone. Losses must be looked for anew, since marks were taken back.
    pub(super) fn on_undo(&mut self, by_dsack: bool) {
        self.advanced = true;
        if by_dsack {
            self.persist = (self.persist + 1).min(PERSISTENCE);
        }
    }

    /// RACK.reo_wnd (RFC 8985 §6.2 step 4).
    fn reordering_window(&self, path: PathView) -> Duration {
        if !path.reordering_seen && path.eager {
            return Duration::ZERO;
        }
        let [current, last] = self.latest_originals;
        let late = current.max(last);
        (path.min_rtt / 4 * self.steps).max(late + late / LATE_MARGIN).min(path.srtt)
    }

    /// Marks what is lost after an acknowledgment, if that delivered something.
    pub(super) fn detect(&mut self, now: Instant, board: &mut Scoreboard, path: PathView) -> Option<Losses> {
        std::mem::take(&mut self.advanced).then(|| self.look(now, board, path))
    }

    /// Marks what is lost.
    pub(super) fn look(&self, now: Instant, board: &mut Scoreboard, path: PathView) -> Losses {
        let Some(latest) = self.latest else { return Losses::default() };
        board.mark_lost_before(now, latest, self.rtt + self.reordering_window(path))
    }

    /// How long a range may be out when the retransmission timer expires and not count as lost
    /// (RFC 8985 §6.3).
    pub(super) fn age_at_timeout(&self) -> Duration {
        self.rtt
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SeqNum;

    fn seq(n: usize) -> Seq {
        Seq::initial(SeqNum::new(1)) + n
    }

    fn path(reordering_seen: bool, eager: bool) -> PathView {
        let (min_rtt, srtt) = (Duration::from_millis(40), Duration::from_millis(50));
        PathView { min_rtt, srtt, reordering_seen, eager }
    }

    #[test]
    fn the_window_is_nothing_only_on_paths_that_never_reordered() {
        let rack = Rack::default();
        let ms = |path| rack.reordering_window(path).as_millis();
        assert_eq!(ms(path(false, true)), 0);
        assert_eq!([path(false, false), path(true, false), path(true, true)].map(ms), [10; 3]);
    }

    #[test]
    fn duplicates_widen_the_window_once_in_a_round_trip_up_to_a_smoothed_one() {
        let mut rack = Rack::default();
        rack.update_window(seq(0), seq(100), true);
        rack.update_window(seq(50), seq(150), true);
        assert_eq!(rack.reordering_window(path(true, true)).as_millis(), 20, "the same round trip");
        rack.update_window(seq(100), seq(200), true);
        assert_eq!(rack.reordering_window(path(true, true)).as_millis(), 30);
        for i in 2..400 {
            rack.update_window(seq(100 * i), seq(100 * (i + 1)), true);
        }
        assert_eq!(rack.reordering_window(path(true, true)).as_millis(), 50);
        assert_eq!(rack.steps, MAX_STEPS);
    }

    #[test]
    fn the_window_covers_how_late_originals_came_for_two_times_sixteen_recoveries() {
        let mut rack = Rack { rtt: Duration::from_millis(25), ..Rack::default() };
        rack.on_late_original(Duration::from_millis(41));
        rack.on_late_original(Duration::from_millis(30));
        let ms = |rack: &Rack| rack.reordering_window(path(true, true)).as_millis();
        assert_eq!(ms(&rack), 18, "16 ms, and an eighth of it");
        for _ in 0..31 {
            rack.on_recovered();
        }
        assert_eq!(ms(&rack), 18);
        rack.on_recovered();
        assert_eq!(ms(&rack), 10, "forgotten");
        rack.on_late_original(Duration::from_secs(9));
        assert_eq!(ms(&rack), 50, "never more than a round trip");
    }

    #[test]
    fn a_wide_window_lasts_for_sixteen_recoveries() {
        let mut rack = Rack::default();
        rack.update_window(seq(0), seq(100), true);
        for _ in 0..15 {
            rack.on_recovered();
            rack.update_window(seq(200), seq(300), false);
        }
        assert_eq!(rack.steps, 2);
        rack.on_recovered();
        rack.update_window(seq(200), seq(300), false);
        assert_eq!(rack.steps, 1);
    }
}
