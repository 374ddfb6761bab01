//! Explicit congestion notification in headers: the field of the IP header (RFC 3168), and the option
//! of AccECN (RFC 9768).

use arrayvec::ArrayVec;

/// The ECN field of an IP header (RFC 3168 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Ecn {
    /// Not ECN-capable: routers drop packets instead of marking them.
    #[default]
    NotEct = 0,
    /// ECN-capable, for a transport with more precise feedback (L4S, RFC 9331).
    Ect1 = 1,
    /// ECN-capable.
    Ect0 = 2,
    /// Congestion experienced: a router marked the packet.
    Ce = 3,
}

impl Ecn {
    /// From the lower two bits of a traffic class.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The lower two bits of a traffic class.
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

/// The AccECN option: counters of the bytes received with each ECN field, 24 bits each (§3.2.3).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AccEcn {
    /// Whether ECT(1) comes first: kind 174. Otherwise ECT(0) does: kind 172. CE is always the second.
    pub ect1_first: bool,
    /// The counters that are present, in the order of the wire.
    pub fields: ArrayVec<u32, 3>,
}

impl AccEcn {
    /// Bytes of the option in a header, padding included.
    pub fn len_on_wire(&self) -> usize {
        self.fields.len().saturating_mul(3).saturating_add(2).next_multiple_of(4)
    }

    /// The counter of bytes in packets with a CE mark, if it is present.
    pub fn ce(&self) -> Option<u32> {
        self.fields.get(1).copied()
    }
}
