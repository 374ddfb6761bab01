//! Addresses with a prefix length.

use crate::config::digits;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address and the prefix length of its network, written as `10.0.0.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    /// At most 32 for IPv4 and 128 for IPv6.
    prefix: u8,
}

impl Cidr {
    /// `address` in a network with a prefix of `prefix` bits.
    ///
    /// # Errors
    /// If `prefix` is larger than the number of bits of the address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, ParseCidrError> {
        if prefix > bits(&address) {
            return Err(ParseCidrError::Prefix(prefix.to_string(), bits(&address)));
        }
        Ok(Self { address, prefix })
    }

    /// The network that consists of `address` alone.
    pub const fn host(address: IpAddr) -> Self {
        Self { address, prefix: bits(&address) }
    }

    /// The address, host bits included.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits of the network's prefix.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether `address` is in the network. An address of the other family never is.
    pub fn contains(&self, address: IpAddr) -> bool {
        // Families first: a prefix of one may be longer than an address of the other.
        self.address.is_ipv4() == address.is_ipv4() && self.network() == Self { address, ..*self }.network()
    }

    /// The network's first address.
    pub fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & self.mask_v4()).into(),
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask).into()
            }
        }
    }

    /// The network's last address.
    pub fn last(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() | !self.mask_v4()).into(),
            IpAddr::V6(address) => {
                let hosts = u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() | hosts).into()
            }
        }
    }

    /// The network's broadcast address. IPv6 has none, and neither do networks of one or two
    /// addresses (RFC 3021).
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) if self.prefix < 31 => {
                Some(Ipv4Addr::from_bits(address.to_bits() | !self.mask_v4()))
            }
            _ => None,
        }
    }

    fn mask_v4(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }
}

const fn bits(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let Some((address, prefix)) = text.split_once('/') else {
            return Err(match text.parse::<IpAddr>() {
                Ok(_) => ParseCidrError::NoPrefix(text.to_owned()),
                Err(_) => ParseCidrError::Address(text.to_owned()),
            });
        };
        let address: IpAddr = address.parse().map_err(|_| ParseCidrError::Address(address.to_owned()))?;
        let bad_prefix = || ParseCidrError::Prefix(prefix.to_owned(), bits(&address));
        Self::new(address, digits(prefix).ok_or_else(bad_prefix)?)
    }
}

/// The error of parsing or creating a [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseCidrError {
    /// The address is invalid.
    Address(String),
    /// The prefix length is missing.
    NoPrefix(String),
    /// The prefix length is not a number from zero to the given maximum.
    Prefix(String, u8),
}

impl fmt::Display for ParseCidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) => write!(f, "'{text}' is not an IP address"),
            Self::NoPrefix(text) => write!(f, "'{text}' lacks its prefix length (as in {text}/24)"),
            Self::Prefix(text, max) => write!(f, "prefix length '{text}' is not from 0 to {max}"),
        }
    }
}

impl std::error::Error for ParseCidrError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn parsed_as_printed() {
        for text in ["10.0.0.2/24", "0.0.0.0/0", "fd00::1/64", "::/0", "::1/128"] {
            assert_eq!(cidr(text).to_string(), text);
        }
    }

    #[test]
    fn errors_name_the_bad_part() {
        let error = |text: &str| text.parse::<Cidr>().unwrap_err().to_string();
        assert_eq!(error("10.0.0/24"), "'10.0.0' is not an IP address");
        assert_eq!(error("10.0.0.2"), "'10.0.0.2' lacks its prefix length (as in 10.0.0.2/24)");
        assert_eq!(error("rubbish"), "'rubbish' is not an IP address");
        for bad in ["33", "+8", "", "-1", "999", "8 "] {
            assert_eq!(
                error(&format!("10.0.0.2/{bad}")),
                format!("prefix length '{bad}' is not from 0 to 32")
            );
        }
        assert_eq!(error("::1/129"), "prefix length '129' is not from 0 to 128");
    }

    #[test]
    fn networks_contain_their_addresses_only() {
        assert!(cidr("10.0.0.2/24").contains(address("10.0.0.255")));
        assert!(!cidr("10.0.0.2/24").contains(address("10.0.1.0")));
        assert!(cidr("0.0.0.0/0").contains(address("255.1.2.3")));
        assert!(!cidr("0.0.0.0/0").contains(address("::")), "the other family");
        assert!(!cidr("::/0").contains(address("0.0.0.0")), "the other family");
        assert!(cidr("fd00::1/64").contains(address("fd00::ffff")));
        assert!(!cidr("fd00::1/128").contains(address("fd00::2")));
        assert!(!cidr("fd00::1/64").contains(address("10.0.0.1")), "64 bits are more than IPv4 has");
        assert_eq!(cidr("fd00::1:2:3:4/64").network(), address("fd00::"));
        assert_eq!(Cidr::host(address("10.0.0.2")).network(), address("10.0.0.2"));
    }

    #[test]
    fn small_networks_have_no_broadcast_address() {
        assert_eq!(cidr("10.0.0.2/24").broadcast(), Some(Ipv4Addr::new(10, 0, 0, 255)));
        assert_eq!(cidr("10.0.0.2/0").broadcast(), Some(Ipv4Addr::BROADCAST));
        assert_eq!(cidr("10.0.0.2/31").broadcast(), None);
        assert_eq!(cidr("fd00::1/64").broadcast(), None);
    }
}
