//! A set of positions, as ranges.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(super) fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        if let Some((&before, &until)) = self.0.range(..=start).next_back()
            && until >= start
        {
            (start, end) = (before, end.max(until));
        }
        while let Some((&next, &until)) = self.0.range(start..=end).next() {
            self.0.remove(&next);
            end = end.max(until);
        }
        self.0.insert(start, end);
    }

    /// The first position that is missing.
    pub(super) fn contiguous(&self) -> u64 {
        self.0.get(&0).copied().unwrap_or(0)
    }

    pub(super) fn contains(&self, start: u64, end: u64) -> bool {
        start >= end || self.0.range(..=start).next_back().is_some_and(|(_, until)| *until >= end)
    }
}

#[test]
fn ranges_grow_together() {
    let mut ranges = Ranges::default();
    ranges.insert(5, 10);
    assert_eq!(ranges.contiguous(), 0);
    ranges.insert(0, 3);
    assert_eq!(ranges.contiguous(), 3);
    assert!(ranges.contains(6, 10) && !ranges.contains(2, 6));
    ranges.insert(3, 6);
    assert_eq!(ranges.contiguous(), 10);
    ranges.insert(20, 30);
    ranges.insert(12, 25);
    assert!(ranges.contains(12, 30));
    ranges.insert(0, 40);
    assert_eq!(ranges.0.len(), 1);
}
