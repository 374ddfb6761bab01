//! How often stray segments are answered.

use crate::tcp::compact::compact;
use crate::time::{Duration, Instant};

/// Limits the answers of one connection, or of what stands for one, to segments that are out of place
/// (RFC 5961 §7; Linux's `tcp_invalid_ratelimit`). Unlike a limit for the whole host it reveals nothing of
/// other connections to an attacker, and two ends that disagree do not answer each other for ever.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnswerLimit {
    /// When the last answer was sent.
    last: Option<Instant>,
}

compact!(AnswerLimit { last });

impl AnswerLimit {
    /// Whether the last answer is at least `interval` old.
    pub(super) fn allows(self, now: Instant, interval: Duration) -> bool {
        self.last.is_none_or(|last| now - last >= interval)
    }

    /// An answer is sent.
    pub(super) fn on_answer(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// Takes an answer, if the last one is at least `interval` old.
    pub(super) fn take(&mut self, now: Instant, interval: Duration) -> bool {
        let allowed = self.allows(now, interval);
        if allowed {
            self.on_answer(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_followed_by_silence() {
        let interval = Duration::from_millis(500);
        let mut limit = AnswerLimit::default();
        assert!(limit.take(Instant::ZERO, interval));
        assert!(!limit.take(Instant::from_millis(499), interval));
        limit.on_answer(Instant::from_millis(400));
        assert!(!limit.take(Instant::from_millis(500), interval));
        assert!(limit.take(Instant::from_millis(900), interval));
    }
}
