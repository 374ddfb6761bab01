//! Whether a queue is looked at once more before its task waits for it.

use crate::time::{Duration, Instant};

/// How many looks in a row may find the queue empty before the look after each batch stops.
const MAX_EMPTY: u8 = 4;
/// Batches after which that look is tried again once it has stopped.
const RETRY_EVERY: u8 = 64;
/// Batches of one packet that are received without a look for more, until there is one again.
const MAX_ALONE: u8 = 16;
/// The looks of one spell of busy polling at most: where time stands still, it would have no end.
const MAX_LOOKS: u32 = 100_000;

/// What is known of how looking at a queue again went.
#[derive(Debug)]
pub(super) struct Polling {
    /// [`Config::busy_poll`](crate::Config::busy_poll).
    busy_poll: Duration,
    /// Whether it pays: the last packet before this one was no longer ago than that.
    pays: bool,
    /// When the last packet came.
    last: Instant,
    /// Looks since then.
    looks: u32,
    /// Looks after a batch in a row that found the queue empty, up to [`MAX_EMPTY`].
    empty: u8,
    /// Batches with packets in them, modulo [`RETRY_EVERY`].
    batches: u8,
    /// The last poll received packets and came back without waiting, to look for more.
    looked: bool,
    /// The last poll waited.
    waited: bool,
    /// Batches that are still to be of one packet, since one after which the queue was empty was.
    alone: u8,
}

impl Polling {
    pub(super) fn new(busy_poll: Duration) -> Self {
        Self {
            busy_poll,
            pays: false,
            last: Instant::ZERO,
            looks: 0,
            empty: 0,
            batches: 0,
            looked: false,
            waited: true,
            alone: 0,
        }
    }

    /// The task waits now.
    pub(super) fn on_wait(&mut self) {
        self.waited = true;
    }

    /// Whether to receive one packet only: after a wait, and as long as there is one at a time. Then somebody waits for
    /// the answer, which would have to wait itself for a look that finds nothing.
    pub(super) fn takes_one(&mut self) -> bool {
        let alone = self.alone > 0;
        self.alone = self.alone.saturating_sub(1);
        std::mem::take(&mut self.waited) || alone
    }

    /// A batch that was to be of several packets had this many, after which the queue was empty.
    pub(super) fn on_drained(&mut self, packets: usize) {
        match packets {
            0 => {}
            1 => self.alone = MAX_ALONE,
            _ => self.alone = 0,
        }
    }

    /// Nobody waits for an answer: the transfer is a bulk one, or who looks writes.
    pub(super) fn takes_several(&mut self) {
        (self.alone, self.waited) = (0, false);
    }

    /// Whether to look at the queue again before waiting for it, after a look that ended at `now` and found
    /// this many packets. It learns from each look, also where the answer does not count.
    pub(super) fn looks_again(&mut self, now: Instant, packets: usize) -> bool {
        // Both learn, whichever says so.
        let more = self.is_under_load(packets);
        self.is_busy(now, packets) || more
    }

    /// Under load the next packets are there before the wait would have begun, and the round trip through the
    /// selector is saved.
    fn is_under_load(&mut self, packets: usize) -> bool {
        let received = packets > 0;
        if self.looked {
            self.empty = if received { 0 } else { (self.empty + 1).min(MAX_EMPTY) };
        }
        if received {
            self.batches = (self.batches + 1) % RETRY_EVERY;
        }
        self.looked = received && (self.empty < MAX_EMPTY || self.batches == 0);
        self.looked
    }

    /// Busy polling, as long as the packets come close enough to one another.
    fn is_busy(&mut self, now: Instant, packets: usize) -> bool {
        if self.busy_poll.is_zero() {
            return false;
        }
        let since = now - self.last;
        if packets > 0 {
            self.pays = since <= self.busy_poll;
            (self.last, self.looks) = (now, 0);
        } else if since > self.busy_poll {
            self.pays = false;
        }
        self.looks += 1;
        self.pays && self.looks < MAX_LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_micros(50);

    fn at(micros: u64) -> Instant {
        Instant::from_micros(1_000_000 + micros)
    }

    #[test]
    fn one_more_look_after_each_batch_until_four_in_a_row_are_in_vain() {
        let mut polling = Polling::new(Duration::ZERO);
        assert!(!polling.looks_again(at(0), 0));
        for _ in 0..MAX_EMPTY {
            assert!(polling.looks_again(at(0), 1));
            assert!(!polling.looks_again(at(0), 0));
        }
        let later: Vec<bool> = (0..2 * RETRY_EVERY).map(|_| polling.looks_again(at(0), 1)).collect();
        // The one that is tried finds something, so that each after it looks again.
        let first = later.iter().position(|looks| *looks).unwrap();
        assert!(first > 32 && later[first..].iter().all(|looks| *looks), "{first}");
    }

    #[test]
    fn busy_polling_lasts_as_long_as_it_is_told_after_packets_that_come_close() {
        let mut polling = Polling::new(LIMIT);
        polling.empty = MAX_EMPTY;
        assert!(!polling.looks_again(at(0), 1), "nothing came before it");
        assert!(polling.looks_again(at(40), 1));
        for micros in 41..=90 {
            assert!(polling.looks_again(at(micros), 0), "{micros}");
        }
        assert!(!polling.looks_again(at(91), 0));
        assert!(!polling.looks_again(at(150), 1), "what comes seldom is waited for");
        assert!(polling.looks_again(at(200), 1), "and what comes often again is not");
    }

    #[test]
    fn busy_polling_ends_where_time_stands_still() {
        let mut polling = Polling::new(LIMIT);
        let _ = polling.looks_again(at(0), 1);
        assert!(polling.looks_again(at(0), 1));
        let looks = (0..2 * MAX_LOOKS).take_while(|_| polling.looks_again(at(0), 0)).count();
        assert!(looks < MAX_LOOKS as usize, "{looks}");
    }

    #[test]
    fn it_is_off_by_default() {
        let mut polling = Polling::new(crate::Config::default().busy_poll);
        polling.empty = MAX_EMPTY;
        assert!((0..60).all(|_| !polling.looks_again(at(0), 1)));
    }

    #[test]
    fn after_a_wait_one_packet_is_received() {
        let mut polling = Polling::new(LIMIT);
        assert!(polling.takes_one() && !polling.takes_one());
        polling.on_wait();
        assert!(polling.takes_one() && !polling.takes_one());
        polling.on_wait();
        polling.takes_several();
        assert!(!polling.takes_one());
    }

    #[test]
    fn packets_that_come_one_at_a_time_are_received_so() {
        let mut polling = Polling::new(LIMIT);
        polling.takes_several();
        polling.on_drained(2);
        assert!(!polling.takes_one());
        polling.on_drained(1);
        for _ in 0..MAX_ALONE {
            assert!(polling.takes_one());
        }
        assert!(!polling.takes_one(), "now and then it is seen whether there are more");
        polling.on_drained(1);
        polling.on_drained(0);
        assert!(polling.takes_one(), "an empty queue says nothing of it");
        polling.on_drained(2);
        assert!(!polling.takes_one());
    }
}
