//! The rate at which a path is sent to.

use super::PathState;
use crate::tcp::path::pacing::seconds_of;
use crate::time::{Duration, Instant};

/// The first segments leave together: the initial window is a burst that every path must bear
/// (RFC 6928), and Linux's fq does not pace it either.
const UNPACED_SEGMENTS: u64 = 10;

/// Bytes that one call to the device may carry are those of a millisecond at the rate (`sk_pacing_shift` in
/// Linux is about the same).
const QUANTA_PER_SECOND: u64 = 1_000;

/// The part of a quantum that does not follow from the rate halves with each of these in the shortest
/// round trip: 2^9 microseconds, as in Linux.
const NEAR: Duration = Duration::from_micros(512);

/// The largest quantum in bytes.
const MAX_QUANTUM: u64 = 64 * 1024;

/// A window that opens by more than this at once, in bytes, is spread over a round trip: one
/// super-segment is what Linux sends without a pause anyway.
const SPREAD_FROM: usize = 64 * 1024;

/// Round trips shorter than this are not worth it: timers ring once in a millisecond.
const SPREAD_RTT: Duration = Duration::from_millis(5);

/// A data segment that left.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct Departure {
    /// Its payload.
    pub(in crate::tcp) bytes: usize,
    /// Bytes that left in all, with it.
    pub(in crate::tcp) total: u64,
    pub(in crate::tcp) mss: usize,
    /// Bytes that are not acknowledged, with it.
    pub(in crate::tcp) outstanding: usize,
}

impl PathState {
    /// `SO_MAX_PACING_RATE` was set, in bytes a second.
    pub(in crate::tcp) fn set_max_rate(&mut self, rate: Option<u64>) {
        self.max_rate = rate;
    }

    /// The rate that the connection keeps to, in bytes a second, if it is paced: because its
    /// congestion control asks for it, `SO_MAX_PACING_RATE` is set, or [`Config::pacing`].
    ///
    /// [`Config::pacing`]: crate::config::Config::pacing
    #[inline]
    pub(in crate::tcp) fn enforced_rate(&self, outstanding: usize) -> Option<u64> {
        let rate = self.cc.pacing_rate();
        // Asked several times for each segment, and mostly this is all.
        if rate.is_none() && self.max_rate.is_none() && self.spread_until.is_none() && !self.config.pacing {
            return None;
        }
        self.rate_to_keep(rate, outstanding)
    }

    #[inline(never)]
    fn rate_to_keep(&self, rate: Option<u64>, outstanding: usize) -> Option<u64> {
        match rate {
            Some(rate) => Some(rate.min(self.max_rate.unwrap_or(u64::MAX))),
            None if self.max_rate.is_some() || self.config.pacing => Some(self.pacing_rate(outstanding)),
            // Behind a hole more may be outstanding than the window, most of it SACKed.
            None if self.spread_until.is_some() => Some(self.pacing_rate(0)),
            None => None,
        }
    }

    /// An acknowledgment came in recovery, or ended it, and `pipe` bytes are in the network. Where the window has
    /// room for much more, as when a hole is filled behind which the peer's window was used up, what fills it is
    /// paced for a round trip, and does not leave as one burst, for which a queue of a round trip may have no
    /// room (RFC 6582 §3.2 step 3). Linux leaves that to the queueing discipline fq.
    pub(in crate::tcp) fn on_recovering(&mut self, now: Instant, pipe: usize) {
        let srtt = self.rtt.srtt().unwrap_or_default();
        if self.cc.cwnd().saturating_sub(pipe) > SPREAD_FROM && srtt >= SPREAD_RTT {
            self.spread_until = Some(now + srtt);
        }
    }

    /// The rate at which the connection is paced, or would be if it were, in bytes a second:
    /// `u64::MAX` if there is no limit yet (`tcp_update_pacing_rate` in Linux).
    pub(in crate::tcp) fn pacing_rate(&self, outstanding: usize) -> u64 {
        let limit = self.max_rate.unwrap_or(u64::MAX);
        self.cc.pacing_rate().unwrap_or_else(|| self.rate_of_window(outstanding)).min(limit)
    }

    /// Somewhat more than a window in a round trip, so that pacing does not keep the window from
    /// being used and from growing.
    fn rate_of_window(&self, outstanding: usize) -> u64 {
        let nanos = self.rtt.srtt().unwrap_or_default().as_nanos() as u64;
        if nanos == 0 {
            return u64::MAX;
        }
        let (cwnd, ssthresh) = (self.cc.cwnd(), self.cc.ssthresh());
        let percent =
            if cwnd < ssthresh / 2 { self.config.pacing_ss_ratio } else { self.config.pacing_ca_ratio };
        let window = u128::from(percent) * cwnd.max(outstanding) as u128 / 100;
        seconds_of(u64::try_from(window).unwrap_or(u64::MAX), nanos)
    }

    /// The most that one super-segment may carry, out of `max` bytes: what leaves in about a
    /// millisecond, and [`Config::min_tso_segs`] at least (Linux's `tcp_tso_autosize`). It would arrive
    /// in front of a slow link as one burst, for which a short queue has no room.
    ///
    /// A path within the machine room is spared that: there a burst is gone as soon as it is there,
    /// and each call to the device costs. The longer the shortest round trip, the less is added
    /// (`tcp_tso_rtt_log` in Linux). Not so where the rate is kept to: there it is all that counts.
    ///
    /// [`Config::min_tso_segs`]: crate::config::Config::min_tso_segs
    pub(in crate::tcp) fn quantum(&self, max: usize, mss: usize, outstanding: usize) -> usize {
        if max <= mss {
            return max;
        }
        let rate = self.enforced_rate(outstanding);
        let near = match (rate, self.rtt.min_rtt()) {
            (None, Some(min_rtt)) => {
                let halvings = min_rtt.as_nanos() as u64 / NEAR.as_nanos() as u64;
                u32::try_from(halvings).ok().and_then(|n| MAX_QUANTUM.checked_shr(n)).unwrap_or(0)
            }
            _ => 0,
        };
        if near as usize >= max {
            return max;
        }
        let rate = rate.unwrap_or_else(|| self.pacing_rate(outstanding));
        let of_rate = (rate / QUANTA_PER_SECOND).min(MAX_QUANTUM) as usize;
        let least = self.config.min_tso_segs as usize * mss;
        max.min((of_rate + near as usize).max(least)).max(mss)
    }

    /// The connection is asked for what there is to send.
    pub(in crate::tcp) fn on_asked(&mut self) {
        self.pacer.ask();
    }

    /// There is nothing to send.
    pub(in crate::tcp) fn on_nothing_sent(&mut self) {
        self.pacer.nothing_sent();
    }

    /// Whether pacing lets a segment leave now. If not, the connection waits for the time.
    pub(in crate::tcp) fn allows(&mut self, now: Instant, outstanding: usize) -> bool {
        self.spread_until = self.spread_until.filter(|&until| now < until);
        self.enforced_rate(outstanding).is_none() || self.pacer.allows(now)
    }

    /// A data segment left.
    pub(in crate::tcp) fn on_departure(&mut self, now: Instant, sent: Departure) {
        let burst = UNPACED_SEGMENTS * sent.mss as u64;
        if let Some(rate) = self.enforced_rate(sent.outstanding).filter(|_| sent.total > burst) {
            self.pacer.on_sent(now, sent.bytes, rate);
        }
    }

    /// When to ask again for what there is to send.
    pub(in crate::tcp) fn deadline(&self) -> Option<Instant> {
        self.pacer.deadline()
    }

    /// The connection is over.
    pub(in crate::tcp) fn stop_pacing(&mut self) {
        self.pacer.stop();
    }
}
