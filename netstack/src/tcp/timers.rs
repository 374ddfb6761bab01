//! The timers of a connection: a table, indexed by what they are for.

use crate::tcp::compact::compact;
use crate::time::Instant;
use crate::trace::TimerKind;

/// What a timer is for. Delayed acknowledgments and RACK keep theirs with their state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Timer {
    /// Data or a FIN is not acknowledged (RFC 6298).
    Retransmit,
    /// The last segments of a flight are not acknowledged (RFC 8985 §7.2).
    TailLoss,
    /// Data waits and nothing is in flight: the window is closed, or a partial segment is held
    /// back (RFC 9293 §3.8.6.1).
    Persist,
    /// The peer has been silent (RFC 9293 §3.8.4).
    Keepalive,
    /// An orphan waits for the peer's FIN, or a lingering close for its acknowledgment.
    Orphan,
}

impl Timer {
    /// What it is called outside.
    pub(super) fn kind(self) -> TimerKind {
        match self {
            Self::Retransmit => TimerKind::Retransmit,
            Self::TailLoss => TimerKind::TailLoss,
            Self::Persist => TimerKind::Persist,
            Self::Keepalive => TimerKind::Keepalive,
            Self::Orphan => TimerKind::Linger,
        }
    }
}

/// Number of timers.
const COUNT: usize = 5;

/// All timers, in the order in which they are looked at when several are due.
/// The tail loss probe is first: it puts the retransmission timer off (RFC 8985 §7.3).
const ALL: [Timer; COUNT] =
    [Timer::TailLoss, Timer::Retransmit, Timer::Persist, Timer::Keepalive, Timer::Orphan];

/// The table.
#[derive(Debug)]
pub(super) struct Timers {
    /// [`OFF`] where a timer is stopped.
    deadlines: [Instant; COUNT],
}

compact!(Timers { deadlines });

/// The deadline of a timer that is stopped: the earliest of all is found without a branch.
const OFF: Instant = Instant::FAR_FUTURE;

impl Default for Timers {
    fn default() -> Self {
        Self { deadlines: [OFF; COUNT] }
    }
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.deadlines[timer as usize] = at;
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = OFF;
    }

    pub(super) fn stop_all(&mut self) {
        self.deadlines = [OFF; COUNT];
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize] != OFF
    }

    /// Whether no timer but that of keep-alive is set.
    pub(super) fn waits_for_keepalive_only(&self) -> bool {
        ALL.into_iter().all(|timer| timer == Timer::Keepalive || !self.is_set(timer))
    }

    /// The timer that is due first, and when.
    pub(super) fn first(&self) -> Option<(TimerKind, Instant)> {
        let first = ALL.into_iter().min_by_key(|timer| self.deadlines[*timer as usize])?;
        self.is_set(first).then(|| (first.kind(), self.deadlines[first as usize]))
    }

    /// The earliest deadline, or [`Instant::FAR_FUTURE`].
    pub(super) fn next(&self) -> Instant {
        self.deadlines.iter().copied().fold(OFF, Instant::min)
    }

    /// Takes one timer that is due, if there is one.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Timer> {
        let due =
            ALL.into_iter().find(|timer| self.is_set(*timer) && self.deadlines[*timer as usize] <= now)?;
        self.stop(due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_expire_once_and_not_early() {
        let mut timers = Timers::default();
        timers.set(Timer::Keepalive, Instant::from_millis(5));
        timers.set(Timer::Retransmit, Instant::from_millis(9));
        assert_eq!(timers.next(), Instant::from_millis(5));
        assert_eq!(timers.expire(Instant::from_millis(4)), None);
        assert_eq!(timers.expire(Instant::from_millis(5)), Some(Timer::Keepalive));
        assert_eq!(timers.expire(Instant::from_millis(5)), None);
        assert!(timers.is_set(Timer::Retransmit));
    }
}
