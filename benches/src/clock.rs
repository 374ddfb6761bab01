//! The clock of the benches, which measure real time.

use std::time::{Duration, Instant};

/// The time for devices that do not use it.
pub const EPOCH: netstack::time::Instant = netstack::time::Instant::ZERO;

/// The time.
#[expect(clippy::disallowed_methods, reason = "what is measured here is real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Does nothing for `time`.
#[expect(clippy::disallowed_methods, reason = "for threads that belong to no runtime")]
pub fn sleep(time: Duration) {
    std::thread::sleep(time);
}
