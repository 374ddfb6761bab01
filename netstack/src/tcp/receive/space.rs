//! How large the receive window may be (`SO_RCVBUF`, `TCP_WINDOW_CLAMP`).

use crate::config::Config;

/// The limits of the window, in bytes.
#[derive(Debug)]
pub(super) struct RecvSpace {
    /// Upper limit of the window: half of the receive buffer, as in Linux with its
    /// `tcp_adv_win_scale` of 1.
    limit: usize,
    /// What auto-tuning may raise `limit` to.
    max_limit: usize,
    /// Whether `SO_RCVBUF` fixed the size.
    locked: bool,
    /// `TCP_WINDOW_CLAMP`.
    clamp: usize,
}

/// Window limit in bytes for a receive buffer of `size` bytes.
pub(in crate::tcp) fn window_limit(size: usize) -> usize {
    (size / 2).max(1)
}

impl RecvSpace {
    /// `size` is `SO_RCVBUF`, and `clamp` is `TCP_WINDOW_CLAMP`.
    pub(super) fn new(size: Option<usize>, clamp: Option<usize>, config: &Config) -> Self {
        let limit = window_limit(size.unwrap_or(config.recv_buffer_initial));
        Self {
            limit,
            max_limit: window_limit(config.recv_buffer_max).max(limit),
            locked: size.is_some(),
            clamp: clamp.unwrap_or(usize::MAX),
        }
    }

    /// The limit of what is queued.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The largest window.
    pub(super) fn most(&self) -> usize {
        self.limit.min(self.clamp)
    }

    /// A window of `wanted` bytes would suit the reader.
    pub(super) fn tune(&mut self, wanted: usize) {
        if !self.locked {
            self.limit = wanted.clamp(self.limit, self.max_limit);
        }
    }

    /// `SO_RCVBUF` was set.
    pub(super) fn set_size(&mut self, size: usize) {
        self.locked = true;
        self.limit = window_limit(size);
    }

    /// `TCP_WINDOW_CLAMP` was set.
    pub(super) fn set_clamp(&mut self, clamp: Option<usize>) {
        self.clamp = clamp.unwrap_or(usize::MAX);
    }
}
