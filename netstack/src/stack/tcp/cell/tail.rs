//! The end of what was written.

/// What becomes of the end of what was written, if it is less than the device takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// It waits for its turn, if much was sent before it while the lock was held.
    Waits,
    /// It has its turn.
    Leaves,
    /// It has its turn, but its writer is about to go on: it waits for the next one.
    Stays,
}
