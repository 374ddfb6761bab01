//! The maxima over windows that BBR's model is made of.

use crate::time::Duration;

/// The largest value of the last so many rounds, within a third of the window: three maxima of ever
/// younger parts of it are kept, as Kathleen Nichols showed (`lib/win_minmax.c` in Linux).
#[derive(Debug, Default)]
pub(super) struct WindowedMax {
    /// The best of the window, of what came after it, and of what came after that.
    best: [(u64, u64); 3],
}

impl WindowedMax {
    /// Takes in `value` of the round `round` and forgets what is older than `window` rounds.
    pub(super) fn update(&mut self, window: u64, round: u64, value: u64) {
        let new = (round, value);
        let [first, second, third] = &mut self.best;
        if value >= first.1 || round - third.0 > window {
            self.best = [new; 3];
            return;
        }
        if value >= second.1 {
            (*second, *third) = (new, new);
        } else if value >= third.1 {
            *third = new;
        }
        if round - first.0 > window {
            // The best has gone: its successors move up, twice if the second is as old.
            (*first, *second, *third) = (*second, *third, new);
            if round - first.0 > window {
                (*first, *second) = (*second, *third);
            }
        } else if second.0 == first.0 && round - second.0 > window / 4 {
            (*second, *third) = (new, new);
        } else if third.0 == second.0 && round - third.0 > window / 2 {
            *third = new;
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.best[0].1
    }
}

/// BBR.max_bw_filter: the largest rate of this cycle of probing and of the one before.
#[derive(Debug, Default)]
pub(super) struct CycleMax {
    this: u64,
    before: u64,
}

impl CycleMax {
    pub(super) fn update(&mut self, rate: u64) {
        self.this = self.this.max(rate);
    }

    /// A cycle is over. One in which nothing was measured does not count.
    pub(super) fn advance(&mut self) {
        if self.this > 0 {
            self.before = std::mem::take(&mut self.this);
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.this.max(self.before)
    }
}

/// `a * num / den`, as large as it may be.
pub(super) fn scale(a: u64, num: u64, den: u64) -> u64 {
    u64::try_from(u128::from(a) * u128::from(num) / u128::from(den.max(1))).unwrap_or(u64::MAX)
}

/// The bytes that `rate` bytes a second are in `time`.
pub(super) fn volume(rate: u64, time: Duration) -> u64 {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    scale(rate, nanos, 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windowed_maximum_is_never_below_the_true_one_of_a_third_and_forgets() {
        let mut filter = WindowedMax::default();
        let values: Vec<u64> = (0..300).map(|i| (i * 7_919 + 13) % 1_000).collect();
        for (round, &value) in values.iter().enumerate() {
            filter.update(10, round as u64, value);
            let window = &values[round.saturating_sub(10)..=round];
            assert!(filter.get() <= *window.iter().max().unwrap(), "round {round}: something old");
            assert!(filter.get() >= *window[window.len() / 2..].iter().min().unwrap());
            assert!(filter.get() >= value);
        }
    }

    #[test]
    fn a_peak_is_remembered_for_two_cycles() {
        let mut filter = CycleMax::default();
        filter.update(100);
        filter.advance();
        filter.update(50);
        assert_eq!(filter.get(), 100);
        filter.advance();
        assert_eq!(filter.get(), 50);
        filter.advance();
        assert_eq!(filter.get(), 50, "an empty cycle takes nothing away");
    }

    #[test]
    fn products_saturate() {
        assert_eq!(scale(u64::MAX, 3, 2), u64::MAX);
        assert_eq!(volume(u64::MAX, Duration::MAX), u64::MAX);
        assert_eq!(volume(1_000_000, Duration::from_millis(50)), 50_000);
    }
}
