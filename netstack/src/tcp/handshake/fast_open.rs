//! TCP Fast Open (RFC 7413): cookies and the keys behind them, and what a connection remembers of it.
//!
//! The client's side of the handshake is in `opening.rs` and `syn_data.rs`, the server's in `passive.rs`. Which
//! cookie belongs to which server, and how many connections may wait for their third segment, is the
//! stack's to know.

use crate::config::{FastOpenKey, FastOpenKeys};
use crate::tcp::compact::compact;
use crate::wire::{FastOpenCookie, FastOpenOption};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::net::IpAddr;

/// Time-outs in a row that make Fast Open suspect (tcp_fastopen_active_detect_blackhole in Linux).
const SUSPICIOUS_TIMEOUTS: u32 = 2;

/// The result of checking a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieCheck {
    /// It was generated with the primary key.
    Valid,
    /// It was generated with the backup key. The client should get this cookie instead.
    Outdated(FastOpenCookie),
    /// It was generated with neither key. The client should get this cookie instead.
    Invalid(FastOpenCookie),
}

/// The input of a cookie in addition to the key (RFC 7413 §4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieInput {
    /// Source address of the SYN, as it stands in its IP header.
    pub client: IpAddr,
    /// Destination address of the SYN.
    pub server: IpAddr,
    /// Bytes of the cookie: an even number from 4 to 16.
    pub len: usize,
}

impl CookieInput {
    /// The cookie that `key` makes. One of 8 bytes is the one that Linux computes, so hosts of one
    /// service, some of which run on a kernel, can share a key (RFC 7413 §4.1.2). A shorter one is a
    /// prefix of it, and a longer one is continued with a hash of its own.
    ///
    /// # Panics
    /// If there is no cookie of this length.
    pub fn cookie(&self, key: &FastOpenKey) -> FastOpenCookie {
        let mut hasher = SipHasher24::new_with_key(key.as_bytes());
        for address in [self.client, self.server] {
            match address {
                IpAddr::V4(address) => hasher.write(&address.octets()),
                IpAddr::V6(address) => hasher.write(&address.octets()),
            }
        }
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&hasher.finish().to_le_bytes());
        if self.len > 8 {
            hasher.write(&[0xff]);
            bytes[8..].copy_from_slice(&hasher.finish().to_le_bytes());
        }
        FastOpenCookie::new(&bytes[..self.len]).expect("an even length between 4 and 16")
    }

    /// Checks the cookie that the client sent to a server with `keys`.
    pub fn check(&self, keys: &FastOpenKeys, cookie: &FastOpenCookie) -> CookieCheck {
        let fresh = self.cookie(&keys.primary);
        if fresh.matches(cookie) {
            return CookieCheck::Valid;
        }
        match keys.backup {
            Some(backup) if self.cookie(&backup).matches(cookie) => CookieCheck::Outdated(fresh),
            _ => CookieCheck::Invalid(fresh),
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
    /// The SYN had to be retransmitted, and the SYN-ACK did not acknowledge all of the data
    /// (`TFO_SYN_RETRANSMITTED`).
    SynRetransmitted,
}

compact!(
    enum FastOpenFail {
        None,
        CookieUnavailable,
        DataNotAcked,
        SynRetransmitted,
    }
);

/// What a connection remembers of its Fast Open.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tcp) struct FastOpenNotes {
    /// Our SYN carried the option or data (`syn_fastopen` in Linux).
    pub(super) active: bool,
    /// All the data of a SYN, ours or the peer's, was accepted (`TCPI_OPT_SYN_DATA`).
    pub(super) syn_data_acked: bool,
    pub(super) client_fail: FastOpenFail,
    /// Something on the way seems to swallow what follows a SYN with data, which was not reported yet.
    pub(super) suspicion: bool,
}

compact!(FastOpenNotes { active, syn_data_acked, client_fail, suspicion });

impl FastOpenNotes {
    /// Whether Fast Open was used for a SYN of ours.
    pub(in crate::tcp) fn is_active(&self) -> bool {
        self.active
    }

    /// Whether all the data of a SYN, ours or the peer's, was accepted.
    pub(in crate::tcp) fn syn_data_acked(&self) -> bool {
        self.syn_data_acked
    }

    /// The peer's SYN brought data.
    pub(in crate::tcp) fn on_syn_data_received(&mut self) {
        self.syn_data_acked = true;
    }

    /// Why data was not accepted with our SYN.
    pub(in crate::tcp) fn client_fail(&self) -> FastOpenFail {
        self.client_fail
    }

    /// Something on the way seems to swallow what follows a SYN with data.
    pub(in crate::tcp) fn suspect(&mut self) {
        self.suspicion = true;
    }

    /// The retransmission timer expired, after `before` other time-outs in a row; `last` if this ends
    /// the connection. Something on the way may let SYNs with data pass and nothing after them.
    pub(in crate::tcp) fn on_timeout(&mut self, before: u32, last: bool) {
        self.suspicion |= self.active && is_suspicious(before, last);
    }

    /// Takes the suspicion that something on the way swallows what follows a SYN with data.
    pub(in crate::tcp) fn take_suspicion(&mut self) -> bool {
        std::mem::take(&mut self.suspicion)
    }
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

/// Whether a time-out after `before` others in a row, which is the `last` one or not, makes Fast Open
/// suspect: Linux is conservative and waits for the third, or for the end of the connection.
pub(super) fn is_suspicious(before: u32, last: bool) -> bool {
    before == SUSPICIOUS_TIMEOUTS || (before < SUSPICIOUS_TIMEOUTS && last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::COOKIE_LEN;

    const KEY: &str = "a0bf63f7-ed803d81-cd641d30-cebc4a90";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn input(client: &str, server: &str, len: usize) -> CookieInput {
        CookieInput { client: address(client), server: address(server), len }
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
            assert_eq!(input(client, server, 8).cookie(&key).to_string(), cookie);
        }
        let key: FastOpenKey = "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4".parse().unwrap();
        let cookie = input("fd3d:fa7b:d17d::1", "fd3d:a0b:17d6::1", 8).cookie(&key);
        assert_eq!(cookie.to_string(), "c1d1e9742a47a9bc");
    }

    #[test]
    fn every_length_has_its_cookie_and_each_belongs_to_two_addresses() {
        let key = FastOpenKey::new([7; 16]);
        let of = |client, server, len| input(client, server, len).cookie(&key);
        let (client, server) = ("10.0.0.1", "10.0.0.2");
        let longest = of(client, server, 16);
        for len in COOKIE_LEN.step_by(2) {
            let cookie = of(client, server, len);
            assert_eq!(cookie.as_bytes(), &longest.as_bytes()[..len]);
            assert_eq!(cookie.to_string().parse(), Ok(cookie));
        }
        assert_ne!(of(server, client, 8), of(client, server, 8));
        assert_ne!(longest.as_bytes()[..8], longest.as_bytes()[8..]);
    }

    #[test]
    fn a_replaced_key_is_good_until_the_next_one() {
        let [a, b, c] = [1, 2, 3].map(|byte| FastOpenKey::new([byte; 16]));
        let input = input("2001:db8::1", "2001:db8::2", 8);
        let cookie = input.cookie(&a);
        let keys = FastOpenKeys::new(a);
        assert_eq!(input.check(&keys, &cookie), CookieCheck::Valid);
        let keys = keys.rotated(b);
        let fresh = input.cookie(&b);
        assert_eq!(input.check(&keys, &cookie), CookieCheck::Outdated(fresh));
        let keys = keys.rotated(c);
        let fresh = input.cookie(&c);
        assert_eq!(input.check(&keys, &cookie), CookieCheck::Invalid(fresh));
        assert_eq!(keys.to_string().parse(), Ok(keys));
    }

    #[test]
    fn forged_cookies_do_not_pass() {
        let keys = FastOpenKeys::new(FastOpenKey::new([9; 16]));
        let own = input("10.0.0.1", "10.0.0.2", 8);
        let good = own.cookie(&keys.primary);
        let valid =
            |cookie: &FastOpenCookie, input: CookieInput| input.check(&keys, cookie) == CookieCheck::Valid;
        assert!(valid(&good, own));
        assert!(!valid(&good, input("10.0.0.3", "10.0.0.2", 8)), "of another client");
        for bit in 0..64 {
            let mut bytes: [u8; 8] = good.as_bytes().try_into().unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!valid(&FastOpenCookie::new(&bytes).unwrap(), own), "bit {bit}");
        }
        for len in [4, 6, 10, 16] {
            assert!(!valid(&CookieInput { len, ..own }.cookie(&keys.primary), own), "{len} bytes");
        }
    }
}
