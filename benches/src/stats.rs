//! Medians and percentiles.

use std::time::Duration;

/// The median of `values`; for an even number of them, the mean of the two in the middle. NaN if
/// there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (len, middle) if len % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        (_, middle) => sorted[middle],
    }
}

/// What several rounds have found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Their median.
    pub median: f64,
    /// The least of them.
    pub min: f64,
    /// The most of them.
    pub max: f64,
}

impl Spread {
    /// Of `values`; none if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let min = values.iter().copied().reduce(f64::min)?;
        let max = values.iter().copied().reduce(f64::max)?;
        Some(Self { median: median(values), min, max })
    }
}

/// The durations of a number of operations.
#[derive(Clone, Debug)]
pub struct Latencies {
    sorted: Vec<Duration>,
}

impl Latencies {
    /// From the durations in any order.
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { sorted: times }
    }

    /// The time below which `fraction` of the operations are, in microseconds. NaN if there are
    /// none.
    pub fn percentile(&self, fraction: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1);
        let at = ((self.sorted.len() as f64 * fraction) as usize).min(last);
        self.sorted.get(at).map_or(f64::NAN, |time| time.as_nanos() as f64 / 1e3)
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_spread_is_of_all_values() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.5]), Some(Spread { median: 2.5, min: 1.0, max: 3.0 }));
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = Latencies::new((1..=1000).rev().map(Duration::from_micros).collect());
        assert_eq!(times.percentile(0.5), 501.0);
        assert_eq!(times.percentile(0.999), 1000.0);
        assert_eq!(times.percentile(1.0), 1000.0);
        assert!(Latencies::new(Vec::new()).percentile(0.5).is_nan());
    }
}
