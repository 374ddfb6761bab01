//! Readiness of a socket: the bits that poll(2) and epoll(7) know.

use std::ops::{BitOr, BitOrAssign};

/// A set of readiness states of a socket, as edges or as levels: what happened since the last report,
/// or what poll(2) would report now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Events(u16);

impl Events {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Data, end of stream or an error can be read.
    pub const READABLE: Self = Self(1);
    /// There is room to write, or a write would fail at once.
    pub const WRITABLE: Self = Self(1 << 1);
    /// The peer will send no more.
    pub const READ_CLOSED: Self = Self(1 << 2);
    /// Nothing more can be sent, and the peer will send no more: poll(2) has no flag for the first alone.
    pub const WRITE_CLOSED: Self = Self(1 << 3);
    /// An error is pending.
    pub const ERROR: Self = Self(1 << 4);
    /// The connection is over in both directions (`EPOLLHUP`).
    pub const HANGUP: Self = Self(1 << 5);

    /// Whether all of `other` are in the set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in the set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The bits, for an atomic word.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// From [`Events::bits`].
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

impl BitOr for Events {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
