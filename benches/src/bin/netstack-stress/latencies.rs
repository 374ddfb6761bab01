//! How long things took.

use std::time::Duration;

/// Times in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What so many percent of them are not above; zero of none.
    pub(crate) fn percentile(&mut self, percent: f64) -> Duration {
        self.0.sort_unstable();
        let at = (self.0.len() as f64 * percent / 100.0) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}
