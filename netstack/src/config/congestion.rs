//! Congestion control by name.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The name of a congestion control algorithm, as `TCP_CONGESTION` takes it: 1 to 15 printable ASCII
/// characters without spaces. Linux's `TCP_CA_NAME_MAX` is 16, the NUL at the end included.
///
/// A name says nothing about whether a stack has an algorithm of that name. The names of those that
/// every stack has are constants here.
///
/// # Example
/// ```
/// use netstack::config::{Config, CongestionName};
///
/// let congestion = "reno".parse()?;
/// let config = Config::default().with(|config| config.congestion = congestion);
/// assert_eq!(config.congestion, CongestionName::RENO);
/// assert_eq!(config.congestion, "reno");
/// # Ok::<_, netstack::config::CongestionNameError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CongestionName {
    /// Padded with zeros.
    bytes: [u8; Self::MAX_LEN],
    /// 1 to `MAX_LEN`.
    len: u8,
}

impl CongestionName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 15;

    /// CUBIC (RFC 9438), the default.
    pub const CUBIC: Self = Self::literal("cubic");
    /// Reno (RFC 5681) with appropriate byte counting (RFC 3465).
    pub const RENO: Self = Self::literal("reno");
    /// BBR version 3 (draft-ietf-ccwg-bbr), which paces.
    pub const BBR: Self = Self::literal("bbr");

    /// The algorithms that every stack has.
    pub const BUILT_IN: [Self; 3] = [Self::CUBIC, Self::RENO, Self::BBR];

    /// A name, from its text.
    ///
    /// # Errors
    /// If the text is empty, longer than [`CongestionName::MAX_LEN`], or has anything but printable
    /// ASCII characters in it, or a space.
    pub const fn new(name: &str) -> Result<Self, CongestionNameError> {
        let text = name.as_bytes();
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(CongestionNameError(()));
        }
        let mut bytes = [0; Self::MAX_LEN];
        let mut at = 0;
        while at < text.len() {
            if !text[at].is_ascii_graphic() {
                return Err(CongestionNameError(()));
            }
            bytes[at] = text[at];
            at += 1;
        }
        Ok(Self { bytes, len: text.len() as u8 })
    }

    /// The algorithm called `name`, if every stack has it.
    pub fn built_in(name: &str) -> Option<Self> {
        Self::BUILT_IN.into_iter().find(|known| *known == name)
    }

    const fn literal(name: &str) -> Self {
        match Self::new(name) {
            Ok(name) => name,
            Err(_) => panic!("not a name of a congestion control"),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("a name is ASCII")
    }
}

impl FromStr for CongestionName {
    type Err = CongestionNameError;

    fn from_str(name: &str) -> Result<Self, CongestionNameError> {
        Self::new(name)
    }
}

impl fmt::Display for CongestionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CongestionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl PartialEq<str> for CongestionName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for CongestionName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// A text that cannot be the name of a congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CongestionNameError(());

impl fmt::Display for CongestionNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a congestion control is 1 to 15 printable ASCII characters without spaces")
    }
}

impl Error for CongestionNameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_text() {
        for text in ["cubic", "x", "fifteen_letters"] {
            let name: CongestionName = text.parse().unwrap();
            assert_eq!((name.as_str(), name.to_string().as_str()), (text, text));
            assert_eq!(name, text);
        }
        assert_eq!(["bbr", "vegas"].map(CongestionName::built_in), [Some(CongestionName::BBR), None]);
        assert_eq!(format!("{:<6}|{:?}", CongestionName::BBR, CongestionName::BBR), "bbr   |\"bbr\"");
    }

    #[test]
    fn what_the_kernel_could_not_list_is_no_name() {
        for text in ["", "sixteen_letters_", "two words", "nul\0", "tab\t", "größe"] {
            assert_eq!(text.parse::<CongestionName>(), Err(CongestionNameError(())), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_small() {
        assert_eq!(size_of::<CongestionName>(), 16);
    }
}
