//! The Fast Open option (RFC 7413).

use crate::config::{COOKIE_LEN, FastOpenFormatError};
use std::fmt;
use std::str::FromStr;

/// A cookie: 4 to 16 bytes, an even number of them (RFC 7413 §4.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FastOpenCookie {
    len: u8,
    /// Zero from `len` on.
    bytes: [u8; 16],
}

impl FastOpenCookie {
    /// A cookie with these bytes; `None` if the length is invalid.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if !COOKIE_LEN.contains(&bytes.len()) || !bytes.len().is_multiple_of(2) {
            return None;
        }
        let mut padded = [0; 16];
        padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Some(Self { len: bytes.len() as u8, bytes: padded })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether both are equal, compared in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        let differing =
            self.bytes.iter().zip(&other.bytes).fold(self.len ^ other.len, |d, (a, b)| d | (a ^ b));
        differing == 0
    }
}

impl fmt::Debug for FastOpenCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Two hexadecimal digits per byte.
impl fmt::Display for FastOpenCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for FastOpenCookie {
    type Err = FastOpenFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() / 2 > *COOKIE_LEN.end() || !digits.len().is_multiple_of(2) {
            return Err(FastOpenFormatError);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let bytes: Option<arrayvec::ArrayVec<u8, 16>> = digits
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?))
            .collect();
        bytes.and_then(|bytes| Self::new(&bytes)).ok_or(FastOpenFormatError)
    }
}

/// The Fast Open option of a SYN or SYN-ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastOpenOption {
    /// The cookie; `None` requests one.
    pub cookie: Option<FastOpenCookie>,
    /// Whether the shared experimental option 254 with the magic number of Fast Open is used (RFC
    /// 6994), as before kind 34 was assigned.
    pub experimental: bool,
}

impl FastOpenOption {
    /// The request for a cookie.
    pub const REQUEST: Self = Self { cookie: None, experimental: false };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_cookies() {
        for text in ["", "00", "0102030", "010203", "0102030405", "zz020304", &"00".repeat(18), "é1020304"] {
            assert_eq!(text.parse::<FastOpenCookie>(), Err(FastOpenFormatError), "{text}");
        }
    }
}
