//! The contenders, and their addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// What carries the connections at the measured end. The other end is always the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contender {
    /// The [bare limit](crate::limit) over TUN.
    Limit,
    /// netstack over TUN, with tokio.
    Netstack,
    /// The kernel over a veth pair in a namespace of its own, through tokio.
    Veth,
    /// The kernel over its loopback interface, through tokio.
    Loopback,
}

impl Contender {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Limit, Self::Netstack, Self::Veth, Self::Loopback];

    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Netstack => "netstack",
            Self::Veth => "veth",
            Self::Loopback => "loopback",
        }
    }

    /// The address of the end that is measured.
    pub const fn address(self) -> Ipv4Addr {
        match self {
            Self::Limit => Ipv4Addr::new(10, 9, 1, 2),
            Self::Netstack => Ipv4Addr::new(10, 9, 2, 2),
            Self::Veth => Ipv4Addr::new(10, 9, 3, 2),
            Self::Loopback => Ipv4Addr::LOCALHOST,
        }
    }

    /// The address of the kernel's end, in a network of 24 bits.
    pub const fn kernel_address(self) -> Ipv4Addr {
        match self {
            Self::Limit => Ipv4Addr::new(10, 9, 1, 1),
            Self::Netstack => Ipv4Addr::new(10, 9, 2, 1),
            Self::Veth => Ipv4Addr::new(10, 9, 3, 1),
            Self::Loopback => Ipv4Addr::LOCALHOST,
        }
    }

    /// The name of its TUN device, if it has one.
    pub const fn tun(self) -> Option<&'static str> {
        match self {
            Self::Limit => Some("limit0"),
            Self::Netstack => Some("netstack0"),
            Self::Veth | Self::Loopback => None,
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Contender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|contender| contender.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no contender `{text}`: choose from {names}")
        })
    }
}
