//! Chance from a seed: the same on every machine and in every release.

use std::ops::RangeInclusive;

/// A generator (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

/// Mixes the bits of a number.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Rng {
    /// The generator of one part of what a seed stands for. Parts do not disturb one another.
    pub(crate) fn new(seed: u64, part: u64) -> Self {
        Self(mix(seed ^ mix(part.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `n`, or 0 if that is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }

    pub(crate) fn range(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// A number of the range; each of its orders of magnitude is as likely as the others.
    pub(crate) fn scale(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = (range.start().max(&1).ilog2(), range.end().max(&1).ilog2());
        let top = 1u64 << self.range(low.into()..=high.into());
        (top + self.below(top)).clamp(*range.start(), *range.end())
    }

    /// True in so many of a thousand cases.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
