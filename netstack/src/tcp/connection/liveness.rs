//! Whether the peer lives: when something last came from it, and the probes that ask.

use crate::reasons::EndReason;
use crate::tcp::compact::compact;
use crate::tcp::options::SocketOptions;
use crate::time::{Duration, Instant};

/// What is known of the peer's life.
#[derive(Debug)]
pub(super) struct Liveness {
    /// When something acceptable was last received.
    last_received: Instant,
    /// A probe that must be sent.
    probe: Option<Probe>,
    /// Window probes that were not answered (RFC 9293 §3.8.6.1).
    window_probes: u32,
    /// When the first window probe since the window closed was due.
    window_probes_since: Option<Instant>,
    /// Keep-alive probes that were not answered.
    keepalive_probes: u32,
}

compact!(Liveness { last_received, probe, window_probes, window_probes_since, keepalive_probes });

/// Which probe to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// The window is closed, or a partial segment was held back too long.
    Window,
    /// The peer has been silent.
    Keepalive,
    /// The last segments of a flight may be lost (RFC 8985 §7.3).
    Tail,
}

compact!(
    enum Probe {
        Window,
        Keepalive,
        Tail,
    }
);

/// How long to probe a closed window.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowProbeLimits {
    /// `TCP_USER_TIMEOUT`.
    pub(super) user_timeout: Option<Duration>,
    /// Whether this is the last probe in any case.
    pub(super) last: bool,
    /// Probes that may stay without an answer.
    pub(super) retries: u32,
    /// How long the peer must have been silent at least.
    pub(super) silence: Duration,
}

/// What a silence of the peer calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Another look at this time.
    Wait(Instant),
    /// A keep-alive probe.
    Probe,
    /// The peer is dead.
    Dead,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last_received: now,
            probe: None,
            window_probes: 0,
            window_probes_since: None,
            keepalive_probes: 0,
        }
    }

    /// When something acceptable was last received.
    pub(super) fn last_received(&self) -> Instant {
        self.last_received
    }

    /// Something acceptable was received. Neither an old duplicate nor a forgery keeps a dead peer alive
    /// (`rcv_tstamp` in Linux).
    pub(super) fn on_received(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// An acknowledgment came: it shows that the peer lives and that a closed window is meant.
    pub(super) fn on_answer(&mut self) {
        self.keepalive_probes = 0;
        self.window_probes = 0;
    }

    /// The peer's window is open again.
    pub(super) fn on_window_open(&mut self) {
        self.window_probes_since = None;
    }

    /// New data was sent: the window is open, and a probe of it has become data.
    pub(super) fn on_data_sent(&mut self) {
        self.on_window_open();
        self.cancel(Probe::Window);
    }

    /// Probes that were not answered, for `TCP_INFO`.
    pub(super) fn unanswered(&self) -> u32 {
        self.window_probes.max(self.keepalive_probes)
    }

    /// The probe that must be sent.
    pub(super) fn probe(&self) -> Option<Probe> {
        self.probe
    }

    /// A probe must be sent.
    pub(super) fn ask(&mut self, probe: Probe) {
        self.probe = Some(probe);
    }

    /// This probe need not be sent any more.
    pub(super) fn cancel(&mut self, probe: Probe) {
        if self.probe == Some(probe) {
            self.probe = None;
        }
    }

    /// No probe need be sent any more.
    pub(super) fn cancel_any(&mut self) {
        self.probe = None;
    }

    /// The window has been closed for the time of a probe. Asks for one, and says for how long there
    /// have been probes.
    ///
    /// # Errors
    /// Why the connection ends, if there were enough.
    pub(super) fn on_window_closed(
        &mut self,
        now: Instant,
        limits: &WindowProbeLimits,
    ) -> Result<Duration, EndReason> {
        let waited = now - *self.window_probes_since.get_or_insert(now);
        if limits.user_timeout.is_some_and(|limit| waited >= limit) {
            return Err(EndReason::UserTimeout);
        }
        let silent = now - self.last_received >= limits.silence;
        if limits.last || (self.window_probes >= limits.retries && silent) {
            return Err(EndReason::ProbeTimeout);
        }
        self.probe = Some(Probe::Window);
        self.window_probes += 1;
        Ok(waited)
    }

    /// When the peer's silence is to be looked at, from now on.
    pub(super) fn keepalive_deadline(&self, now: Instant, options: &SocketOptions) -> Instant {
        if self.keepalive_probes == 0 {
            self.last_received + options.keepalive_time
        } else {
            now + options.keepalive_interval
        }
    }

    /// The options of keep-alive have changed.
    pub(super) fn restart_keepalive(&mut self) {
        self.keepalive_probes = 0;
    }

    /// The keep-alive timer expired (RFC 9293 §3.8.4). A probe only goes out while nothing waits for an
    /// acknowledgment, which `waiting` says: other timers find a dead peer sooner then.
    pub(super) fn on_silence(&mut self, now: Instant, options: &SocketOptions, waiting: bool) -> Silence {
        let idle = now - self.last_received;
        if waiting || idle < options.keepalive_time {
            self.keepalive_probes = 0;
            // Where something waits, the whole time once more (tcp_keepalive_timer in Linux): the peer may have
            // been silent for longer than that.
            let since = if waiting { now } else { self.last_received };
            return Silence::Wait((since + options.keepalive_time).max(now + Duration::from_millis(1)));
        }
        let dead = match options.user_timeout {
            // TCP_USER_TIMEOUT replaces the count (tcp(7)).
            Some(limit) => self.keepalive_probes > 0 && idle >= limit,
            None => self.keepalive_probes >= options.keepalive_retries,
        };
        if dead {
            return Silence::Dead;
        }
        self.keepalive_probes += 1;
        self.probe = Some(Probe::Keepalive);
        Silence::Probe
    }
}
