//! What a connection with something to send spends its time on, for `TCP_INFO`.

use crate::tcp::compact::compact;
use crate::time::{Duration, Instant};

/// What holds the sender back. The order is that of precedence, as in Linux: a later one displaces an
/// earlier one that holds at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tcp) enum Holds {
    /// There is nothing to send, and everything was acknowledged.
    #[default]
    Nothing,
    /// The network: data is on its way, or waits for the congestion window.
    Network,
    /// The peer's window.
    PeerWindow,
    /// `SO_SNDBUF`: all was sent, and the user may not write more.
    SendBuffer,
}

compact!(
    enum Holds {
        Nothing,
        Network,
        PeerWindow,
        SendBuffer,
    }
);

/// The stopwatch (Linux's `tcp_chrono`).
#[derive(Debug, Default)]
pub(in crate::tcp) struct Chrono {
    now: Holds,
    since: Instant,
    /// Nanoseconds.
    network: u64,
    peer_window: u64,
    send_buffer: u64,
}

compact!(Chrono { now, since, network, peer_window, send_buffer });

/// The times so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) struct Times {
    /// There was something to send, or on its way.
    pub(in crate::tcp) busy: Duration,
    /// The peer's window held it back.
    pub(in crate::tcp) peer_window: Duration,
    /// The send buffer was too small.
    pub(in crate::tcp) send_buffer: Duration,
}

impl Chrono {
    /// `holds` holds from `now` on, unless something of higher precedence does.
    pub(in crate::tcp) fn start(&mut self, now: Instant, holds: Holds) {
        if holds > self.now {
            self.turn(now, holds);
        }
    }

    /// `holds` holds no longer. `idle` says that nothing is left to send or to be acknowledged.
    pub(in crate::tcp) fn stop(&mut self, now: Instant, holds: Holds, idle: bool) {
        if self.now == Holds::Nothing {
            return;
        }
        if idle {
            self.turn(now, Holds::Nothing);
        } else if self.now == holds {
            self.turn(now, Holds::Network);
        }
    }

    fn turn(&mut self, now: Instant, next: Holds) {
        let spent = now.as_nanos().saturating_sub(self.since.as_nanos());
        match self.now {
            Holds::Nothing => {}
            Holds::Network => self.network += spent,
            Holds::PeerWindow => self.peer_window += spent,
            Holds::SendBuffer => self.send_buffer += spent,
        }
        (self.now, self.since) = (next, now);
    }

    /// The times until `now`.
    pub(in crate::tcp) fn times(&self, now: Instant) -> Times {
        let of = |holds, spent| {
            let spent = Duration::from_nanos(spent);
            if self.now == holds { spent + (now - self.since) } else { spent }
        };
        let network = of(Holds::Network, self.network);
        let peer_window = of(Holds::PeerWindow, self.peer_window);
        let send_buffer = of(Holds::SendBuffer, self.send_buffer);
        Times { busy: network + peer_window + send_buffer, peer_window, send_buffer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_precedence_is_counted_and_all_is_busy() {
        let at = Instant::from_millis;
        let ms = Duration::from_millis;
        let mut chrono = Chrono::default();
        chrono.stop(at(5), Holds::PeerWindow, false);
        chrono.start(at(10), Holds::Network);
        chrono.start(at(30), Holds::PeerWindow);
        chrono.start(at(40), Holds::Network);
        chrono.stop(at(60), Holds::SendBuffer, false);
        chrono.stop(at(70), Holds::PeerWindow, false);
        chrono.start(at(75), Holds::SendBuffer);
        let expected = Times { busy: ms(70), peer_window: ms(40), send_buffer: ms(5) };
        assert_eq!(chrono.times(at(80)), expected);
        chrono.stop(at(80), Holds::Network, true);
        assert_eq!(chrono.times(at(1000)), expected, "an idle connection is not busy");
    }
}
