//! Addresses with a prefix length.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;

/// An address with the prefix length of its network: `10.9.0.1/24`, `fd00::1/64`.
///
/// Without a length it denotes a single address: `10.9.0.1` is `10.9.0.1/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix_len: u8,
}

impl Cidr {
    /// `address` in a network whose prefix has `prefix_len` bits.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if `prefix_len` is more than the address has bits.
    pub fn new(address: IpAddr, prefix_len: u8) -> io::Result<Self> {
        if prefix_len > bits(address) {
            let text = format!("{address}/{prefix_len}: the prefix is longer than {} bits", bits(address));
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Self { address, prefix_len })
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits of the network's prefix.
    pub fn prefix_len(&self) -> u8 {
        self.prefix_len
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl FromStr for Cidr {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let bad = || {
            let text = format!("`{text}` is not an address with a prefix length, such as 10.9.0.1/24");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        let (address, prefix_len) = match text.split_once('/') {
            Some((address, prefix_len)) => (address, Some(prefix_len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix_len = match prefix_len {
            // `parse` alone would take "+8".
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| bad())?
            }
            Some(_) => return Err(bad()),
            None => bits(address),
        };
        Self::new(address, prefix_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_both_families() {
        for text in ["10.9.0.1/24", "0.0.0.0/0", "fd00::1/64", "::/0"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        assert_eq!("10.9.0.1".parse::<Cidr>().unwrap().prefix_len(), 32);
        assert_eq!("::1".parse::<Cidr>().unwrap().prefix_len(), 128);
    }

    #[test]
    fn refuses_what_is_no_address_with_a_prefix() {
        for text in [
            "",
            "/",
            "10.9.0.1/",
            "10.9.0/24",
            "10.9.0.1/33",
            "fd00::1/129",
            "1.2.3.4/-1",
            "1.2.3.4/+8",
            "x/8",
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap_err().kind(), io::ErrorKind::InvalidInput, "{text}");
        }
    }
}
