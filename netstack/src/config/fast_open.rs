//! The keys of Fast Open cookies.

use super::numbers::hex_digits;
use std::fmt;
use std::str::FromStr;

/// The permitted lengths of a cookie in bytes (RFC 7413 §4.1.1).
pub const COOKIE_LEN: std::ops::RangeInclusive<usize> = 4..=16;

/// The error of parsing a Fast Open cookie or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastOpenFormatError;

impl fmt::Display for FastOpenFormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a Fast Open cookie or key")
    }
}

impl std::error::Error for FastOpenFormatError {}

/// A server's secret, 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FastOpenKey([u8; 16]);

impl FastOpenKey {
    /// The key with these bytes, in the order of `TCP_FASTOPEN_KEY`.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for FastOpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FastOpenKey(secret)")
    }
}

/// In the form of `net.ipv4.tcp_fastopen_key`: four 32-bit numbers, each of which represents four
/// bytes in little-endian order.
impl fmt::Display for FastOpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.0.as_chunks::<4>().0.iter().enumerate() {
            let dash = if i == 0 { "" } else { "-" };
            write!(f, "{dash}{:08x}", u32::from_le_bytes(*word))?;
        }
        Ok(())
    }
}

impl FromStr for FastOpenKey {
    type Err = FastOpenFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 16];
        let mut words = text.trim().split('-');
        for place in bytes.as_chunks_mut::<4>().0 {
            let word = words.next().and_then(hex_digits);
            *place = word.ok_or(FastOpenFormatError)?.to_le_bytes();
        }
        if words.next().is_none() { Ok(Self(bytes)) } else { Err(FastOpenFormatError) }
    }
}

/// The keys of a server. Cookies are generated with the primary key, and cookies of the backup key
/// are accepted too, so that a key can be replaced without full handshakes for all clients (RFC
/// 7413 §4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastOpenKeys {
    /// Generates and checks cookies.
    pub primary: FastOpenKey,
    /// Its cookies are accepted and replaced by new ones in the SYN-ACK.
    pub backup: Option<FastOpenKey>,
}

impl FastOpenKeys {
    /// Keys with a primary key and no backup key.
    pub const fn new(primary: FastOpenKey) -> Self {
        Self { primary, backup: None }
    }

    /// Makes `primary` the primary key, and the previous primary key the backup key.
    #[must_use]
    pub const fn rotated(self, primary: FastOpenKey) -> Self {
        Self { primary, backup: Some(self.primary) }
    }
}

/// The primary key, followed by a comma and the backup key if there is one.
impl fmt::Display for FastOpenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.primary)?;
        self.backup.map_or(Ok(()), |backup| write!(f, ",{backup}"))
    }
}

impl FromStr for FastOpenKeys {
    type Err = FastOpenFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(',') {
            None => Ok(Self::new(text.parse()?)),
            Some((primary, backup)) => Ok(Self { primary: primary.parse()?, backup: Some(backup.parse()?) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_keys() {
        for text in ["", "1-2-3", "1-2-3-4-5", "1-2-3-100000000", "1-2-3-g", "1-2-3-4,", "1-2-3-+4"] {
            assert_eq!(text.parse::<FastOpenKeys>(), Err(FastOpenFormatError), "{text}");
        }
        assert_eq!("0-0-0-1".parse::<FastOpenKey>().unwrap().as_bytes()[12..], [1, 0, 0, 0]);
    }
}
