//! What the tests of algorithms begin with.

use super::CongestionStart;
use crate::time::Instant;

pub(super) const MSS: usize = 1000;

/// A connection with a window of `cwnd` bytes that has met no congestion.
pub(super) fn start(cwnd: usize) -> CongestionStart {
    CongestionStart { cwnd, seed: 1, ..CongestionStart::new(Instant::ZERO, MSS) }
}
