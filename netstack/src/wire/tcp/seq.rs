//! Sequence numbers as the wire carries them.

use std::fmt;
use std::ops::{Add, Sub};

/// A sequence number as the wire carries it. It has no order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(u32);

impl SeqNum {
    /// From the header's field.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The header's field.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Whether `self` comes before `other`, both taken to be less than 2^31 apart.
    pub const fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether `self` comes after `other`, both taken to be less than 2^31 apart.
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;
    fn add(self, by: u32) -> Self {
        Self(self.0.wrapping_add(by))
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;
    fn sub(self, by: u32) -> Self {
        Self(self.0.wrapping_sub(by))
    }
}

impl Sub for SeqNum {
    type Output = u32;
    /// The distance from `earlier` forward to `self`.
    fn sub(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
