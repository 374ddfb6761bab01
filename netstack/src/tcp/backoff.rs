//! How long retransmissions take whose time-outs double.

use crate::config::Config;
use crate::time::Duration;

/// The time to wait after the `n`th time-out of a SYN or SYN-ACK: doubled each time.
pub(super) fn backed_off(config: &Config, n: u32) -> Duration {
    let factor = 1u32.checked_shl(n).unwrap_or(u32::MAX);
    config.rto_initial.saturating_mul(factor).min(config.rto_max)
}

/// The first RTO of the model for a connection (TCP_RTO_MIN in Linux's `retransmits_timed_out`). It does not
/// depend on the lower bound of the RTO that is set: with one of 5 ms an orphan would have 2.6 s instead of the
/// 100 s of RFC 9293 §3.8.3 (SHLD-11), and a path would be taken for a black hole after 75 ms.
pub(super) const MODEL_RTO: Duration = Duration::from_millis(200);

/// How long `retries` retransmissions take if the first comes after `first`: Linux gives up by this time and not
/// by the count, so that a long RTO does not mean waiting for hours.
pub(super) fn modelled_time(retries: u32, first: Duration, rto_max: Duration) -> Duration {
    let threshold = doublings(first, rto_max);
    let doubled = |n: u32| first.saturating_mul((2u32 << n.min(30)) - 1);
    if retries <= threshold {
        doubled(retries)
    } else {
        doubled(threshold) + rto_max.saturating_mul(retries - threshold)
    }
}

/// Retransmissions that the time model doubles for before it goes on in steps of the RTO's maximum:
/// log2 of 120 s by 200 ms.
fn doublings(first: Duration, rto_max: Duration) -> u32 {
    let ratio = rto_max.as_nanos() / first.as_nanos().max(1);
    (ratio.max(1) as u64).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_linuxs() {
        let model = |retries| modelled_time(retries, MODEL_RTO, Duration::from_secs(120)).as_millis();
        // LINUX: 3 s, 12.6 s, 102.2 s, 204.6 s, 324.6 s, 924.6 s.
        assert_eq!([3, 5, 8, 9, 10, 15].map(model), [3_000, 12_600, 102_200, 204_600, 324_600, 924_600]);
    }
}
