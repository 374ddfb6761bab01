//! TCP Fast Open (RFC 7413): cookies and the keys behind them, and what a connection remembers of it.
//!
//! The client's side of the handshake is in `handshake.rs`, the server's in `passive_open.rs`. Which
//! cookie belongs to which server, and how many connections may wait for their third segment, is the
//! stack's to know.

use siphasher::sip::SipHasher24;
use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;
use std::str::FromStr;

/// Bytes of a cookie, at least and at most (RFC 7413 §4.1.1).
pub const COOKIE_LEN: std::ops::RangeInclusive<usize> = 4..=16;

/// A cookie: 4 to 16 bytes, an even number of them (RFC 7413 §4.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FastOpenCookie {
    len: u8,
    /// Zero from `len` on.
    bytes: [u8; 16],
}

impl FastOpenCookie {
    /// The cookie with these bytes; none if there cannot be one of this length.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        if !COOKIE_LEN.contains(&bytes.len()) || !bytes.len().is_multiple_of(2) {
            return None;
        }
        let mut padded = [0; 16];
        padded[..bytes.len()].copy_from_slice(bytes);
        Some(Self { len: bytes.len() as u8, bytes: padded })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether both are the same, found out in a time that does not tell how much of them is.
    fn matches(&self, other: &Self) -> bool {
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

/// Two hexadecimal digits a byte.
impl fmt::Display for FastOpenCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for FastOpenCookie {
    type Err = FastOpenFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() > 2 * COOKIE_LEN.end() || !digits.len().is_multiple_of(2) {
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

/// A text is not a Fast Open cookie or key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastOpenFormatError;

impl fmt::Display for FastOpenFormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a Fast Open cookie or key")
    }
}

impl std::error::Error for FastOpenFormatError {}

/// The Fast Open option of a SYN or SYN-ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastOpenOption {
    /// The cookie; none asks for one.
    pub cookie: Option<FastOpenCookie>,
    /// Whether it goes as the shared experimental option 254 with the magic number of Fast Open
    /// (RFC 6994), which was used before kind 34 was assigned.
    pub experimental: bool,
}

impl FastOpenOption {
    /// Asks for a cookie.
    pub const REQUEST: Self = Self { cookie: None, experimental: false };
}

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

    /// The cookie of `len` bytes for a client. Of 8 bytes it is the one that Linux computes, from
    /// the addresses as they stand in the SYN's IP header, so hosts of one service, some of which
    /// run on a kernel, can share a key (RFC 7413 §4.1.2). A shorter one is the front of that, and a
    /// longer one goes on with a hash of its own.
    ///
    /// # Panics
    /// If there is no cookie of this length.
    pub fn cookie(&self, client: IpAddr, server: IpAddr, len: usize) -> FastOpenCookie {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        for address in [client, server] {
            match address {
                IpAddr::V4(address) => hasher.write(&address.octets()),
                IpAddr::V6(address) => hasher.write(&address.octets()),
            }
        }
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&hasher.finish().to_le_bytes());
        if len > 8 {
            hasher.write(&[0xff]);
            bytes[8..].copy_from_slice(&hasher.finish().to_le_bytes());
        }
        FastOpenCookie::new(&bytes[..len]).expect("an even length between 4 and 16")
    }
}

impl fmt::Debug for FastOpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FastOpenKey(secret)")
    }
}

/// In the form of `net.ipv4.tcp_fastopen_key`: four numbers of 32 bits, each of which stands for
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
            let word = words.next().and_then(|word| u32::from_str_radix(word, 16).ok());
            *place = word.ok_or(FastOpenFormatError)?.to_le_bytes();
        }
        if words.next().is_none() { Ok(Self(bytes)) } else { Err(FastOpenFormatError) }
    }
}

/// The keys of a server: cookies are made with the first one, and those made with the second one
/// are still good. So a key can be replaced without sending every client through a full handshake
/// (RFC 7413 §4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastOpenKeys {
    /// Makes cookies.
    pub primary: FastOpenKey,
    /// Its cookies are accepted, and replaced in the SYN-ACK.
    pub backup: Option<FastOpenKey>,
}

/// What a cookie is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieCheck {
    /// The primary key made it.
    Valid,
    /// The backup key made it. The client should get this one instead.
    Outdated(FastOpenCookie),
    /// Neither did. The client should get this one instead.
    Invalid(FastOpenCookie),
}

impl FastOpenKeys {
    /// A primary key alone.
    pub const fn new(primary: FastOpenKey) -> Self {
        Self { primary, backup: None }
    }

    /// Makes `primary` the primary key, and the former one the backup.
    #[must_use]
    pub const fn rotated(self, primary: FastOpenKey) -> Self {
        Self { primary, backup: Some(self.primary) }
    }

    /// Judges the cookie that `client` sent, where cookies have `len` bytes.
    pub fn check(&self, client: IpAddr, server: IpAddr, cookie: &FastOpenCookie, len: usize) -> CookieCheck {
        let fresh = self.primary.cookie(client, server, len);
        if fresh.matches(cookie) {
            return CookieCheck::Valid;
        }
        match self.backup {
            Some(backup) if backup.cookie(client, server, len).matches(cookie) => {
                CookieCheck::Outdated(fresh)
            }
            _ => CookieCheck::Invalid(fresh),
        }
    }
}

/// The primary key, and behind a comma the backup key.
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

/// Why a client's data was not accepted with its SYN (`tcpi_fastopen_client_fail`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FastOpenFail {
    /// Nothing failed, or nothing was tried (`TFO_STATUS_UNSPEC`).
    #[default]
    None,
    /// There was no cookie, or Fast Open was paused (`TFO_COOKIE_UNAVAILABLE`).
    CookieUnavailable,
    /// The SYN-ACK did not acknowledge all of the data (`TFO_DATA_NOT_ACKED`).
    DataNotAcked,
    /// The SYN had to be sent again, and the SYN-ACK did not acknowledge all of the data
    /// (`TFO_SYN_RETRANSMITTED`).
    SynRetransmitted,
}

/// What a connection remembers of its Fast Open.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FastOpenNotes {
    /// Our SYN carried the option or data (`syn_fastopen` in Linux).
    pub(super) active: bool,
    /// All the data of a SYN, ours or the peer's, was accepted (`TCPI_OPT_SYN_DATA`).
    pub(super) syn_data_acked: bool,
    pub(super) client_fail: FastOpenFail,
    /// Something on the way seems to swallow what follows a SYN with data, and nobody was told yet.
    pub(super) suspicion: bool,
}

/// What an active open with Fast Open found out about the server, for the cache of cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastOpenReport {
    /// The MSS that the server offers, in bytes.
    pub mss: Option<u16>,
    /// Its cookie, with the form of the option that it came in, if we had asked for one.
    pub cookie: Option<FastOpenOption>,
    /// A cookie was asked for in this form of the option, and none came: `true` for the
    /// experimental one.
    pub ignored: Option<bool>,
    /// What became of the SYN's data.
    pub data: SynDataFate,
}

/// What became of data in a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynDataFate {
    /// The SYN carried none.
    None,
    /// All of it was acknowledged.
    Acked,
    /// Some of it was: whatever is on the way lets it pass.
    Partial,
    /// None of it was.
    Refused,
    /// The SYN had to be sent again, and not all of the data was acknowledged: the SYN with data was
    /// lost, or dropped for its data.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "a0bf63f7-ed803d81-cd641d30-cebc4a90";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn cookies_are_those_of_the_kernel() {
        let key: FastOpenKey = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        // Published with packetdrill's scripts, which pass on Linux.
        for (client, server, cookie) in [
            ("10.248.0.2", "192.168.0.2", "00abaaabe8e954c2"),
            ("10.248.0.3", "192.168.0.2", "1313a2da994a0951"),
            ("10.248.0.3", "192.168.0.3", "76d2c1c530f51f79"),
        ] {
            assert_eq!(key.cookie(address(client), address(server), 8).to_string(), cookie);
        }
        let key: FastOpenKey = "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4".parse().unwrap();
        let cookie = key.cookie(address("fd3d:fa7b:d17d::1"), address("fd3d:a0b:17d6::1"), 8);
        assert_eq!(cookie.to_string(), "c1d1e9742a47a9bc");
    }

    #[test]
    fn every_length_has_its_cookie_and_each_belongs_to_two_addresses() {
        let key = FastOpenKey::new([7; 16]);
        let (client, server) = (address("10.0.0.1"), address("10.0.0.2"));
        let longest = key.cookie(client, server, 16);
        for len in COOKIE_LEN.step_by(2) {
            let cookie = key.cookie(client, server, len);
            assert_eq!(cookie.as_bytes(), &longest.as_bytes()[..len]);
            assert_eq!(cookie.to_string().parse(), Ok(cookie));
        }
        assert_ne!(key.cookie(server, client, 8), key.cookie(client, server, 8));
        assert_ne!(longest.as_bytes()[..8], longest.as_bytes()[8..]);
    }

    #[test]
    fn a_replaced_key_is_good_until_the_next_one() {
        let [a, b, c] = [1, 2, 3].map(|byte| FastOpenKey::new([byte; 16]));
        let (client, server) = (address("2001:db8::1"), address("2001:db8::2"));
        let cookie = a.cookie(client, server, 8);
        let keys = FastOpenKeys::new(a);
        assert_eq!(keys.check(client, server, &cookie, 8), CookieCheck::Valid);
        let keys = keys.rotated(b);
        let fresh = b.cookie(client, server, 8);
        assert_eq!(keys.check(client, server, &cookie, 8), CookieCheck::Outdated(fresh));
        let keys = keys.rotated(c);
        let fresh = c.cookie(client, server, 8);
        assert_eq!(keys.check(client, server, &cookie, 8), CookieCheck::Invalid(fresh));
        assert_eq!(keys.to_string().parse(), Ok(keys));
    }

    #[test]
    fn forged_cookies_do_not_pass() {
        let keys = FastOpenKeys::new(FastOpenKey::new([9; 16]));
        let (client, server) = (address("10.0.0.1"), address("10.0.0.2"));
        let good = keys.primary.cookie(client, server, 8);
        let valid = |cookie: &FastOpenCookie, client| {
            matches!(keys.check(client, server, cookie, 8), CookieCheck::Valid)
        };
        assert!(valid(&good, client));
        assert!(!valid(&good, address("10.0.0.3")), "of another client");
        for bit in 0..64 {
            let mut bytes: [u8; 8] = good.as_bytes().try_into().unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!valid(&FastOpenCookie::new(&bytes).unwrap(), client), "bit {bit}");
        }
        for len in [4, 6, 10, 16] {
            assert!(!valid(&keys.primary.cookie(client, server, len), client), "{len} bytes");
        }
    }

    #[test]
    fn texts_that_are_no_cookies_or_keys() {
        for text in ["", "00", "0102030", "010203", "0102030405", "zz020304", &"00".repeat(18), "é1020304"] {
            assert_eq!(text.parse::<FastOpenCookie>(), Err(FastOpenFormatError), "{text}");
        }
        for text in ["", "1-2-3", "1-2-3-4-5", "1-2-3-100000000", "1-2-3-g", "1-2-3-4,"] {
            assert_eq!(text.parse::<FastOpenKeys>(), Err(FastOpenFormatError), "{text}");
        }
        assert_eq!("0-0-0-1".parse::<FastOpenKey>().unwrap().as_bytes()[12..], [1, 0, 0, 0]);
    }
}
