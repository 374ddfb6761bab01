//! The Fast Open connections of a listener whose handshake is not complete, and the decision about
//! a SYN.

use crate::sync::{Mutex, Rank};
use crate::tcp::PassiveEnd;
use crate::time::{Duration, Instant};
use crate::wire::FastOpenOption;
use std::collections::VecDeque;
use std::sync::Arc;

/// How long a connection that was reset goes on counting against its listener's limit (RFC 7413
/// §5.1; the time is Linux's).
const RESET_COUNTS_FOR: Duration = Duration::from_secs(60);

/// The connections of one listener that wait for their third segment (RFC 7413 §5.1).
#[derive(Debug)]
pub(crate) struct FastOpenQueue(Mutex<Unfinished>);

#[derive(Debug, Default)]
struct Unfinished {
    /// Those that wait, and those in `resets`.
    count: usize,
    /// Until when connections count that their peer has reset. An attacker with forged
    /// addresses causes such resets: the victim never sent a SYN.
    resets: VecDeque<Instant>,
}

impl FastOpenQueue {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Rank::Leaf, Unfinished::default())))
    }

    /// Connections that count.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().count
    }

    /// Whether one more may be opened where `limit` may wait. What counts for a reset that is long
    /// ago gives up its place, one for each SYN.
    pub(super) fn has_room(&self, now: Instant, limit: usize) -> bool {
        let mut unfinished = self.0.lock();
        if unfinished.count < limit {
            return true;
        }
        let expired = unfinished.resets.front().is_some_and(|until| *until <= now);
        if expired {
            unfinished.resets.pop_front();
            unfinished.count -= 1;
        }
        expired
    }

    pub(crate) fn enter(&self) {
        self.0.lock().count += 1;
    }

    pub(crate) fn leave(&self, now: Instant, end: PassiveEnd) {
        let mut unfinished = self.0.lock();
        match end {
            PassiveEnd::Done => unfinished.count -= 1,
            PassiveEnd::Reset => unfinished.resets.push_back(now + RESET_COUNTS_FOR),
        }
    }
}

/// What to do with a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FastOpenVerdict {
    /// An ordinary handshake, with this option in the first SYN-ACK.
    Ordinary(Option<FastOpenOption>),
    /// A connection at once, with this option in the first SYN-ACK.
    Open(Option<FastOpenOption>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1000)
    }

    #[test]
    fn the_limit_counts_those_that_wait_and_resets_for_a_minute() {
        let queue = FastOpenQueue::new();
        for _ in 0..3 {
            assert!(queue.has_room(at(0), 3));
            queue.enter();
        }
        assert!(!queue.has_room(at(0), 3));
        queue.leave(at(1), PassiveEnd::Done);
        queue.leave(at(2), PassiveEnd::Reset);
        assert_eq!(queue.len(), 2);
        assert!(queue.has_room(at(2), 3));
        queue.enter();
        assert!(!queue.has_room(at(61), 3));
        assert!(queue.has_room(at(62), 3), "the reset is a minute ago");
        queue.enter();
        assert!(!queue.has_room(at(1000), 3), "the others wait");
    }
}
