//! What holds of a connection between any two things that happen to it, for tests and simulations.

use super::Connection;
use crate::tcp::receive::Holdings;
use crate::tcp::seq::Seq;
use crate::tcp::state::State;
use crate::tcp::timers::Timer;
use crate::time::Instant;

impl Connection {
    /// The ranges that the connection takes for received by its peer and not acknowledged, by the numbers
    /// of the wire.
    pub fn sacked_ranges(&self) -> Vec<(u32, u32)> {
        let wire = |(start, end): (Seq, Seq)| (start.wire().raw(), end.wire().raw());
        self.recovery.board().sacked_ranges().map(wire).collect()
    }

    /// Ranges in flight that are told apart.
    pub fn records(&self) -> usize {
        self.recovery.board().records()
    }

    /// Checks the connection when everything that may be sent at `now` has been sent.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check(&self, now: Instant) -> Result<Holdings, String> {
        let (una, nxt) = (self.snd.una(), self.snd.nxt());
        let holdings = self.rcv.check()?;
        if self.state == State::Closed {
            return match self.poll_timeout() {
                None => Ok(holdings),
                Some(at) => Err(format!("a closed connection has a deadline at {at:?}")),
            };
        }
        self.snd.check()?;
        self.recovery.board().check(una, nxt)?;
        let in_flight = nxt.since(una);
        if in_flight > 0 && !self.timers.is_set(Timer::Retransmit) && !self.is_opening() {
            return Err(format!("{in_flight} bytes are in flight and no timer watches over them"));
        }
        if self.snd.has_unsent() && self.poll_timeout().is_none() {
            return Err("something is unsent and nothing will send it".to_owned());
        }
        if self.poll_timeout().is_some_and(|at| at <= now) {
            return Err(format!("what is due at {:?} was not done", self.poll_timeout()));
        }
        if self.snd.wants_room() && self.snd.is_writable(self.notsent_lowat()) && self.state.can_send() {
            return Err("a writer waits for room, and was not told of the room that there is".to_owned());
        }
        Ok(Holdings { queued: self.snd.queued(), ..holdings })
    }
}
