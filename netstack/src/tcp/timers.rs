//! The timers of a connection: a table, indexed by what they are for.

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
#[derive(Debug, Default)]
pub(super) struct Timers {
    deadlines: [Option<Instant>; COUNT],
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.deadlines[timer as usize] = Some(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.deadlines[timer as usize] = None;
    }

    pub(super) fn stop_all(&mut self) {
        self.deadlines = [None; COUNT];
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.deadlines[timer as usize].is_some()
    }

    /// The timer that is due first, and when.
    pub(super) fn first(&self) -> Option<(TimerKind, Instant)> {
        let set = ALL.into_iter().filter_map(|timer| Some((timer.kind(), self.deadlines[timer as usize]?)));
        set.min_by_key(|(_, at)| *at)
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Takes one timer that is due, if there is one.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Timer> {
        let due =
            ALL.into_iter().find(|timer| self.deadlines[*timer as usize].is_some_and(|at| at <= now))?;
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
        assert_eq!(timers.next(), Some(Instant::from_millis(5)));
        assert_eq!(timers.expire(Instant::from_millis(4)), None);
        assert_eq!(timers.expire(Instant::from_millis(5)), Some(Timer::Keepalive));
        assert_eq!(timers.expire(Instant::from_millis(5)), None);
        assert!(timers.is_set(Timer::Retransmit));
    }
}
