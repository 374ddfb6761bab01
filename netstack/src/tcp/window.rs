//! The window scale: windows on the wire are 16 bits, windows in the core are bytes.

use super::compact::{Compact, Reader, Writer};

/// The largest shift (RFC 7323 §2.3).
const MAX_SHIFT: u8 = 14;

/// A window scale shift, at most 14.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct WindowScale(u8);

impl Compact for WindowScale {
    fn write(&self, to: &mut Writer) {
        self.0.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        Self(Compact::read(from))
    }
}

impl WindowScale {
    /// No scaling.
    pub const NONE: Self = Self(0);

    /// From an option: a shift above 14 counts as 14 (RFC 7323 §2.3).
    pub fn from_option(shift: u8) -> Self {
        Self(shift.min(MAX_SHIFT))
    }

    /// The smallest scale that can express a window of `bytes`.
    pub fn for_window(bytes: usize) -> Self {
        let mut shift = 0;
        while shift < MAX_SHIFT && (bytes >> shift) > usize::from(u16::MAX) {
            shift += 1;
        }
        Self(shift)
    }

    /// The shift.
    pub fn shift(self) -> u8 {
        self.0
    }

    /// The window field for a window of `bytes`; rounded down, so that no more is promised.
    pub fn to_wire(self, bytes: usize) -> u16 {
        u16::try_from(bytes >> self.0).unwrap_or(u16::MAX)
    }

    /// The window in bytes that a window field means.
    pub fn from_wire(self, field: u16) -> usize {
        usize::from(field) << self.0
    }

    /// The least number of bytes by which a scaled window can move.
    pub fn granularity(self) -> usize {
        1 << self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_cover_their_window() {
        assert_eq!(WindowScale::for_window(65_535).shift(), 0);
        assert_eq!(WindowScale::for_window(65_536).shift(), 1);
        assert_eq!(WindowScale::for_window(6 << 20).shift(), 7, "Linux's scale for its former 6 MiB");
        assert_eq!(WindowScale::for_window(32 << 20).shift(), 10, "Linux's scale for its 32 MiB");
        assert_eq!(WindowScale::for_window(usize::MAX).shift(), 14);
        assert_eq!(WindowScale::from_option(200).shift(), 14);
    }

    #[test]
    fn the_wire_never_promises_more() {
        let scale = WindowScale::from_option(7);
        assert_eq!(scale.from_wire(scale.to_wire(1_000)), 896);
        assert_eq!(scale.to_wire(usize::MAX), u16::MAX);
    }
}
