//! Fast Open in the stack (RFC 7413): the validity of cookies, the limit on connections of a
//! listener that wait for their third segment, and pauses after failures. The cookies that clients
//! have of servers are in [`fast_open_cache`](super::fast_open_cache).

use super::Tcp;
use super::cell::{Cell, SocketState, Stage};
use super::fast_open_cache::{FastOpenCache, Known};
use super::fast_open_queue::{FastOpenQueue, FastOpenVerdict};
use crate::config::{Config, FastOpenKey, FastOpenKeys, FastOpenMode};
use crate::stack::core::Core;
use crate::stack::flow::FlowKey;
use crate::stack::turn::Turn;
use crate::sync::{Mutex, Rank};
use crate::tcp::{
    CookieCheck, CookieInput, FastOpenAttempt, FastOpenReport, Opening, PassiveEnd, SocketOptions,
    SynDataFate,
};
use crate::time::{Duration, Instant};
use crate::wire::{FastOpenOption, Segment};
use std::sync::Arc;

/// Doublings of the pause at most, as in Linux.
const MAX_DOUBLINGS: u32 = 6;

/// What a stack keeps for Fast Open.
#[derive(Debug)]
pub(crate) struct FastOpenState {
    keys: Mutex<FastOpenKeys>,
    black_hole: Mutex<BlackHole>,
    pub(super) cache: Arc<FastOpenCache>,
    /// When this stack began, by the clock of the cache.
    epoch: Instant,
}

impl FastOpenState {
    /// `random` makes a key where the configuration has none; without a `cache` there is an own one.
    pub(super) fn new(
        config: &Config,
        cache: Option<Arc<FastOpenCache>>,
        random: impl FnOnce() -> [u8; 16],
    ) -> Self {
        let keys = config.fastopen_key.unwrap_or_else(|| FastOpenKeys::new(FastOpenKey::new(random())));
        let cache = cache.unwrap_or_else(|| {
            FastOpenCache::new(config.fastopen_cache_size as usize, config.fastopen_cache_age)
        });
        Self {
            keys: Mutex::new(Rank::Leaf, keys),
            black_hole: Mutex::new(Rank::Leaf, BlackHole::default()),
            epoch: cache.epoch(),
            cache,
        }
    }

    /// The time by the clock of the cache.
    fn shared(&self, now: Instant) -> Instant {
        self.epoch + (now - Instant::ZERO)
    }
}

/// A SYN that may use Fast Open.
#[derive(Clone, Copy, Debug)]
pub(super) struct SynOffer<'a> {
    pub(super) key: &'a FlowKey,
    pub(super) syn: &'a Segment,
    /// The MSS that the SYN-ACK offers, in bytes.
    pub(super) mss: usize,
}

/// Fast Open of active opens is paused for all destinations after something on the way swallowed
/// what follows a SYN with data: each time for twice as long
/// (`tcp_fastopen_blackhole_timeout_sec` in Linux).
#[derive(Debug, Default)]
pub(crate) struct BlackHole {
    /// Times that it was detected since it last worked.
    times: u32,
    since: Instant,
    /// Cells with a greater number are of after the latest detection.
    cells: u64,
}

impl BlackHole {
    fn is_paused(&self, now: Instant, timeout: Duration) -> bool {
        let doublings = self.times.saturating_sub(1).min(MAX_DOUBLINGS);
        self.times > 0 && now < self.since + timeout.saturating_mul(1 << doublings)
    }

    fn detect(&mut self, now: Instant, cells: u64) {
        self.times = self.times.saturating_add(1);
        self.since = now;
        self.cells = cells;
    }

    /// Fast Open worked for a cell. If it was tried after the latest pause, there is no black hole any
    /// more (`syn_fastopen_ch` in Linux); an older connection says nothing of that.
    fn works(&mut self, cell: u64) {
        if cell > self.cells {
            self.times = 0;
        }
    }
}

impl Tcp {
    /// The keys with which cookies of this stack are generated and checked, for listeners without
    /// their own keys.
    pub fn fast_open_keys(&self) -> FastOpenKeys {
        *self.fast_open.keys.lock()
    }

    /// Replaces the keys. To replace a key, make the new one the primary key and keep the previous
    /// one as the backup key for a while: [`FastOpenKeys::rotated`].
    pub fn set_fast_open_keys(&self, keys: FastOpenKeys) {
        *self.fast_open.keys.lock() = keys;
    }

    /// Judges a SYN for a listener with `options` (tcp_try_fastopen in Linux).
    pub(super) fn judge_syn(
        &self,
        turn: &Turn<'_>,
        queue: &FastOpenQueue,
        options: &SocketOptions,
        offer: &SynOffer<'_>,
    ) -> FastOpenVerdict {
        let SynOffer { key, syn, mss } = *offer;
        let ordinary = FastOpenVerdict::Ordinary(None);
        let (config, counters) = (turn.core.config(), &self.counters);
        let mode = config.fastopen;
        let offered = syn.options.fast_open;
        if offered.is_some_and(|option| option.cookie.is_none()) {
            counters.fast_open_cookie_requests.bump();
        }
        let offers = offered.is_some() || syn.payload_len > 0;
        if !offers || options.fastopen_queue == 0 || !mode.contains(FastOpenMode::SERVER) {
            return ordinary;
        }
        if !queue.has_room(turn.now, options.fastopen_queue as usize) {
            counters.fast_open_listen_overflows.bump();
            return ordinary;
        }
        // A client that knows our MSS, as it must to have a cookie, does not send more.
        if syn.payload_len > mss {
            counters.fast_open_passive_fails.bump();
            return ordinary;
        }
        if options.fastopen_no_cookie || mode.contains(FastOpenMode::SERVER_NO_COOKIE) {
            return FastOpenVerdict::Open(None);
        }
        let Some(FastOpenOption { cookie, experimental }) = offered else { return ordinary };
        let keys = options.fastopen_key.as_deref().map_or_else(|| self.fast_open_keys(), |keys| *keys);
        let len = config.fastopen_cookie_len.into();
        let input = CookieInput { client: key.remote(), server: key.local(), len };
        let answer = |cookie| Some(FastOpenOption { cookie: Some(cookie), experimental });
        let Some(cookie) = cookie else {
            return FastOpenVerdict::Ordinary(answer(input.cookie(&keys.primary)));
        };
        match input.check(&keys, &cookie) {
            CookieCheck::Valid => FastOpenVerdict::Open(None),
            CookieCheck::Outdated(fresh) => {
                counters.fast_open_passive_alt_key.bump();
                FastOpenVerdict::Open(answer(fresh))
            }
            CookieCheck::Invalid(fresh) => {
                counters.fast_open_passive_fails.bump();
                FastOpenVerdict::Ordinary(answer(fresh))
            }
        }
    }

    /// The cache of Fast Open cookies.
    pub fn fast_open_cache(&self) -> &Arc<FastOpenCache> {
        &self.fast_open.cache
    }

    /// How an active open to a server uses Fast Open; none for an ordinary handshake.
    pub(super) fn fast_open_attempt(
        &self,
        turn: &Turn<'_>,
        options: &SocketOptions,
        key: &FlowKey,
    ) -> Option<FastOpenAttempt> {
        let mode = turn.core.config().fastopen;
        if !options.fastopen_connect || !mode.contains(FastOpenMode::CLIENT) {
            return None;
        }
        let state = &self.fast_open;
        if state.black_hole.lock().is_paused(turn.now, turn.core.config().fastopen_blackhole_timeout) {
            return None;
        }
        let known = state.cache.lookup(state.shared(turn.now), key);
        let no_cookie = options.fastopen_no_cookie || mode.contains(FastOpenMode::CLIENT_NO_COOKIE);
        match known {
            Known::Paused => None,
            Known::Nothing { mss, .. } | Known::Cookie { mss, .. } if no_cookie => {
                Some(FastOpenAttempt::Data { option: None, mss })
            }
            Known::Cookie { option, mss } => Some(FastOpenAttempt::Data { option: Some(option), mss }),
            Known::Nothing { experimental, .. } => Some(FastOpenAttempt::Request { experimental }),
        }
    }

    /// An active open with Fast Open was answered.
    pub(super) fn on_fast_open_report(&self, now: Instant, key: &FlowKey, report: &FastOpenReport) {
        let state = &self.fast_open;
        state.cache.learn(state.shared(now), key, report);
        match report.data {
            SynDataFate::None => {}
            SynDataFate::Acked => self.counters.fast_open_active.bump(),
            SynDataFate::Partial | SynDataFate::Refused | SynDataFate::Lost => {
                self.counters.fast_open_active_fails.bump();
            }
        }
    }

    /// An active open ends without an answer.
    pub(super) fn on_fast_open_failure(&self, now: Instant, key: &FlowKey, opening: &Opening) {
        if opening.used_fast_open() {
            let state = &self.fast_open;
            state.cache.fail(state.shared(now), key);
        }
    }

    /// What Fast Open has to say of a connection each time it is unlocked: that its handshake is
    /// over, or that something on the way swallows it.
    #[inline(always)]
    pub(super) fn settle_fast_open(&self, turn: &Turn<'_>, socket: &mut SocketState) {
        let (end, suspicion) = match &mut socket.stage {
            Stage::Connected(connection) => {
                let end = socket.fast_open.as_ref().and_then(|_| connection.take_passive_end());
                (end, connection.take_fast_open_suspicion())
            }
            Stage::Opening(opening) => (None, opening.take_fast_open_suspicion()),
            Stage::Over(_) => (None, false),
        };
        if let Some(end) = end
            && let Some(queue) = socket.fast_open.take()
        {
            queue.leave(turn.now, end);
        }
        if suspicion && !turn.core.config().fastopen_blackhole_timeout.is_zero() {
            let cells = turn.core.new_id();
            self.fast_open.black_hole.lock().detect(turn.now, cells);
            self.counters.fast_open_blackhole.bump();
        }
    }

    /// A connection leaves the table: it counts for no listener any more, and if Fast Open worked
    /// for it, a pause that is over has no successor.
    pub(super) fn detach_fast_open(&self, core: &Core, cell: &Cell, socket: &mut SocketState) {
        if let Some(queue) = socket.fast_open.take() {
            queue.leave(Instant::ZERO, PassiveEnd::Done);
        }
        let Stage::Connected(connection) = &socket.stage else { return };
        if connection.fast_open_worked() && !core.is_loopback(cell.queue().interface) {
            self.fast_open.black_hole.lock().works(cell.id());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::from_millis(secs * 1000)
    }

    #[test]
    fn the_pause_doubles_up_to_64_times() {
        let hour = Duration::from_secs(3600);
        let mut hole = BlackHole::default();
        assert!(!hole.is_paused(at(0), hour));
        for expected in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
            hole.detect(at(5), 0);
            assert!(hole.is_paused(at(5 + expected * 3600 - 1), hour));
            assert!(!hole.is_paused(at(5 + expected * 3600), hour));
        }
        assert!(!hole.is_paused(at(5), Duration::ZERO), "off");
        hole.detect(at(9), 7);
        hole.works(7);
        assert!(hole.is_paused(at(9), hour), "it was there before");
        hole.works(8);
        assert!(!hole.is_paused(at(9), hour));
    }
}
