//! Whether and for how long a socket blocks.

use crate::net::park::block_on;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What the clones of a socket share, as `SO_RCVTIMEO`, `SO_SNDTIMEO` and `O_NONBLOCK`.
#[derive(Debug, Default)]
pub(super) struct Mode {
    pub(super) read: Limit,
    pub(super) write: Limit,
    nonblocking: AtomicBool,
}

/// For how long an operation blocks, in nanoseconds. 0: until it is done.
#[derive(Debug, Default)]
pub(super) struct Limit(AtomicU64);

impl Limit {
    pub(super) fn get(&self) -> Option<Duration> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Zero is an error, as in `std`.
    pub(super) fn set(&self, limit: Option<Duration>) -> io::Result<()> {
        if limit.is_some_and(|limit| limit.is_zero()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
        }
        let nanos = limit.map_or(0, |limit| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        self.0.store(nanos, Ordering::Relaxed);
        Ok(())
    }
}

impl Mode {
    pub(super) fn set_nonblocking(&self, nonblocking: bool) {
        self.nonblocking.store(nonblocking, Ordering::Relaxed);
    }

    /// Attempts until the outcome is not "would block", which it is in the end if the socket does not block or
    /// the limit has passed. `ready` waits until an attempt may find something.
    pub(super) fn block<R, W: Future<Output = io::Result<()>>>(
        &self,
        limit: &Limit,
        ready: impl Fn() -> W,
        mut attempt: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        let would_block = |outcome: &io::Result<R>| matches!(outcome, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        let first = attempt();
        if !would_block(&first) || self.nonblocking.load(Ordering::Relaxed) {
            return first;
        }
        let repeated = async {
            loop {
                ready().await?;
                let outcome = attempt();
                if !would_block(&outcome) {
                    return outcome;
                }
            }
        };
        block_on(repeated, limit.get()).unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }
}
