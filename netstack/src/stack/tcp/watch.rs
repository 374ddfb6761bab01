//! What is noted of a connection: in its history, and for who is told of everything.

use crate::memory::block;
use crate::reasons::EndReason;
use crate::stack::turn::Turn;
use crate::trace::{About, EventKind, History, Ring, Windows};

/// What a connection keeps to note what happens to it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Whether there is anything to note an event for: what is asked for each segment.
    on: bool,
    /// Events in the history at most.
    limit: u32,
    /// None before the first event.
    ring: Option<Box<Ring>>,
    /// As they were noted last.
    windows: Windows,
}

impl Watch {
    /// A history of at most `limit` events, beside who is told of everything if the stack is `traced`.
    pub(super) fn new(limit: u32, traced: bool) -> Self {
        Self { on: traced || limit > 0, limit, ..Self::default() }
    }

    /// Changes the limit of the history.
    pub(super) fn set_limit(&mut self, limit: u32, traced: bool) {
        (self.on, self.limit) = (traced || limit > 0, limit);
        match &mut self.ring {
            Some(ring) if limit > 0 => ring.limit_to(limit),
            ring => *ring = None,
        }
    }

    /// Whether anybody wants to know of an event.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Notes an event. To be called if [`Watch::is_on`] alone, since making an event takes time.
    #[cold]
    pub(super) fn note(&mut self, turn: &mut Turn<'_>, about: impl FnOnce() -> About, kind: EventKind) {
        if self.limit > 0 {
            self.ring.get_or_insert_default().push(turn.now, kind, self.limit);
        }
        turn.trace(about, || kind);
    }

    /// Notes windows, if they have changed.
    #[cold]
    pub(super) fn note_windows(
        &mut self,
        turn: &mut Turn<'_>,
        about: impl FnOnce() -> About,
        windows: Windows,
    ) {
        if self.windows != windows {
            self.windows = windows;
            self.note(turn, about, EventKind::Window(windows));
        }
    }

    /// The history so far.
    pub(super) fn history(&self, about: About, end: Option<EndReason>) -> History {
        self.ring
            .as_ref()
            .map_or_else(|| Ring::default().history(about, end), |ring| ring.history(about, end))
    }

    /// Memory of the history, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.ring.as_ref().map_or(0, |ring| block(size_of_val(&**ring)) + ring.memory())
    }

    /// Whether memory was allocated for a history.
    #[cfg(test)]
    pub(super) fn has_memory(&self) -> bool {
        self.ring.is_some()
    }
}
