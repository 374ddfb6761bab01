//! Sequence numbers: the 32 bits on the wire, and the 64 bits that the core counts in.
//!
//! On the wire a sequence number wraps every 4 GiB, so it has no order, only a distance
//! (RFC 9293 §3.4). A connection therefore *unwraps* each number that it receives next to one that
//! it knows, and keeps 64-bit positions, which are totally ordered, can be keys of ordered maps and
//! never wrap. The low 32 bits of a [`Seq`] are its number on the wire.

use crate::wire::SeqNum;
use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// An unwrapped sequence number: a position in one direction of one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

/// Added to every initial sequence number, so that positions slightly before it exist.
const ORIGIN: u64 = 1 << 32;

impl Seq {
    /// The position of an initial sequence number.
    pub const fn initial(isn: SeqNum) -> Self {
        Self(ORIGIN + isn.raw() as u64)
    }

    /// The position nearest to `self` whose number on the wire is `wire`.
    pub const fn nearest(self, wire: SeqNum) -> Self {
        let distance = wire.raw().wrapping_sub(self.0 as u32) as i32;
        Self(self.0.wrapping_add_signed(distance as i64))
    }

    /// The number on the wire.
    pub const fn wire(self) -> SeqNum {
        SeqNum::new(self.0 as u32)
    }

    /// All 64 bits.
    pub(super) const fn raw(self) -> u64 {
        self.0
    }

    /// The position with these bits.
    pub(super) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Bytes from `earlier` to `self`, or zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> usize {
        self.0.saturating_sub(earlier.0) as usize
    }
}

impl Add<usize> for Seq {
    type Output = Self;
    fn add(self, by: usize) -> Self {
        Self(self.0.wrapping_add(by as u64))
    }
}

impl AddAssign<usize> for Seq {
    fn add_assign(&mut self, by: usize) {
        *self = *self + by;
    }
}

impl Sub<usize> for Seq {
    type Output = Self;
    fn sub(self, by: usize) -> Self {
        Self(self.0.wrapping_sub(by as u64))
    }
}

impl Sub for Seq {
    type Output = i64;
    /// Signed distance in bytes.
    fn sub(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wire_numbers_compare_across_the_wrap() {
        let (a, b) = (SeqNum::new(u32::MAX - 1), SeqNum::new(3));
        assert!(a.before(b) && b.after(a) && !a.after(b));
        assert_eq!(b - a, 5);
    }

    #[test]
    fn unwrapping_goes_both_ways_over_the_wrap() {
        let base = Seq::initial(SeqNum::new(u32::MAX));
        assert_eq!(base.nearest(SeqNum::new(0)) - base, 1);
        assert_eq!(base.nearest(SeqNum::new(u32::MAX - 9)) - base, -9);
        assert_eq!(
            Seq::initial(SeqNum::new(0)).nearest(SeqNum::new(u32::MAX)) - Seq::initial(SeqNum::new(0)),
            -1
        );
    }

    proptest! {
        #[test]
        fn nearest_inverts_wire(isn: u32, forward in 0u64..1 << 40, off in -(1i64 << 31) + 1..(1i64 << 31) - 1) {
            let base = Seq::initial(SeqNum::new(isn)) + forward as usize;
            let other = Seq(base.0.wrapping_add_signed(off));
            prop_assert_eq!(base.nearest(other.wire()), other);
        }
    }
}
