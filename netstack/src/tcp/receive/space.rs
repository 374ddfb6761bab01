//! How large the receive window may be (`SO_RCVBUF`, `TCP_WINDOW_CLAMP`).

use crate::config::Config;
use crate::tcp::compact::compact;

/// The limits of the window, in bytes.
#[derive(Debug)]
pub(super) struct RecvSpace {
    /// Upper limit of the window: half of the memory of the receive buffer, as Linux assumes
    /// (`TCP_DEFAULT_SCALING_RATIO`).
    limit: usize,
    /// What auto-tuning may raise `limit` to.
    max_limit: usize,
    /// Whether `SO_RCVBUF` fixed the size.
    locked: bool,
    /// `TCP_WINDOW_CLAMP`.
    clamp: usize,
    /// How much memory may be held, in bytes: less than all of it under memory pressure only.
    allowance: usize,
}

compact!(RecvSpace { limit, max_limit, locked, clamp, allowance });

/// Window limit in bytes of a receive buffer, where `SO_RCVBUF` is `set`, or else its memory is
/// `automatic` bytes. The memory is twice what was set (socket(7)), and the window is half of the memory.
pub(in crate::tcp) fn window_limit(set: Option<usize>, automatic: usize) -> usize {
    set.unwrap_or(automatic / 2).max(1)
}

impl RecvSpace {
    /// `size` is `SO_RCVBUF`, and `clamp` is `TCP_WINDOW_CLAMP`.
    pub(super) fn new(size: Option<usize>, clamp: Option<usize>, config: &Config) -> Self {
        let limit = window_limit(size, config.recv_buffer_initial);
        Self {
            limit,
            max_limit: window_limit(None, config.recv_buffer_max).max(limit),
            locked: size.is_some(),
            clamp: clamp.unwrap_or(usize::MAX),
            allowance: usize::MAX,
        }
    }

    /// The limit of what is queued.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The largest window.
    pub(super) fn most(&self) -> usize {
        self.limit.min(self.clamp).min(self.allowance)
    }

    /// What may be held at the moment, in bytes of memory.
    #[inline]
    pub(super) fn allowance(&self) -> usize {
        self.allowance
    }

    /// Whether that is limited by memory pressure.
    #[inline]
    pub(super) fn is_pressed(&self) -> bool {
        self.allowance != usize::MAX
    }

    /// So much may be held from now on. Says whether that is more than before.
    pub(super) fn set_allowance(&mut self, allowance: usize) -> bool {
        std::mem::replace(&mut self.allowance, allowance) < allowance
    }

    /// A window of `wanted` bytes would suit the reader. Under memory pressure nothing grows, as in Linux.
    pub(super) fn tune(&mut self, wanted: usize) {
        if !self.locked && !self.is_pressed() {
            self.limit = wanted.clamp(self.limit, self.max_limit);
        }
    }

    /// `SO_RCVBUF` was set.
    pub(super) fn set_size(&mut self, size: usize) {
        self.locked = true;
        self.limit = window_limit(Some(size), 0);
    }

    /// `TCP_WINDOW_CLAMP` was set.
    pub(super) fn set_clamp(&mut self, clamp: Option<usize>) {
        self.clamp = clamp.unwrap_or(usize::MAX);
    }
}
