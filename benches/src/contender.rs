//! The contenders, and the devices that they run on.

use crate::serve::RuntimeKind;
use std::fmt;
use std::str::FromStr;

/// What carries the connections at the measured end. The other end is always the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contender {
    /// The [bare limit](crate::limit) over TUN.
    Limit,
    /// The bare limit with one copy between the packets and an application's buffer.
    LimitCopy,
    /// The bare limit in a task of tokio.
    LimitTokio,
    /// netstack over TUN, with tokio.
    Netstack,
    /// The same with reads and writes of owned buffers.
    NetstackBytes,
    /// The kernel over a veth pair in a namespace of its own, through tokio.
    KernelVeth,
    /// The kernel over its loopback interface, through tokio.
    KernelLoopback,
    /// smoltcp over TUN, in a loop of its own.
    Smoltcp,
    /// ipstack over TUN, with tokio.
    Ipstack,
    /// netstack-smoltcp over TUN, with tokio.
    NetstackSmoltcp,
    /// tcp_ip over TUN, with tokio.
    TcpIp,
}

/// What connects a contender with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Medium {
    /// A TUN device in the namespace of the clients.
    Tun,
    /// A veth pair to a namespace of its own.
    Veth,
    /// The loopback interface of the namespace of the clients.
    Loopback,
}

impl Contender {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 11] = [
        Self::Limit,
        Self::LimitCopy,
        Self::LimitTokio,
        Self::Netstack,
        Self::NetstackBytes,
        Self::KernelVeth,
        Self::KernelLoopback,
        Self::Smoltcp,
        Self::Ipstack,
        Self::NetstackSmoltcp,
        Self::TcpIp,
    ];

    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::LimitCopy => "limit-copy",
            Self::LimitTokio => "limit-tokio",
            Self::Netstack => "netstack",
            Self::NetstackBytes => "netstack-bytes",
            Self::KernelVeth => "kernel-veth",
            Self::KernelLoopback => "kernel-loopback",
            Self::Smoltcp => "smoltcp",
            Self::Ipstack => "ipstack",
            Self::NetstackSmoltcp => "netstack-smoltcp",
            Self::TcpIp => "tcp_ip",
        }
    }

    /// Whether this program was built with it.
    pub const fn is_built(self) -> bool {
        cfg!(feature = "peers") || !matches!(self, Self::Ipstack | Self::NetstackSmoltcp | Self::TcpIp)
    }

    /// What connects it with the kernel.
    pub const fn medium(self) -> Medium {
        match self {
            Self::KernelVeth => Medium::Veth,
            Self::KernelLoopback => Medium::Loopback,
            Self::Limit
            | Self::LimitCopy
            | Self::LimitTokio
            | Self::Netstack
            | Self::NetstackBytes
            | Self::Smoltcp
            | Self::Ipstack
            | Self::NetstackSmoltcp
            | Self::TcpIp => Medium::Tun,
        }
    }

    /// Whether it is the kernel itself.
    pub const fn is_kernel(self) -> bool {
        !matches!(self.medium(), Medium::Tun)
    }

    /// Whether its TUN device may have a virtio header. The others get one without, whatever is wanted.
    pub const fn has_offloads(self) -> bool {
        !matches!(self, Self::Ipstack | Self::TcpIp)
    }

    /// Whether several queues make a difference to it that is possible. The kernel's interfaces here have none to
    /// choose, and the peers use one.
    pub const fn has_queues(self) -> bool {
        !self.is_peer()
    }

    /// Whether it is another stack.
    const fn is_peer(self) -> bool {
        matches!(self, Self::Smoltcp | Self::Ipstack | Self::NetstackSmoltcp | Self::TcpIp)
    }

    /// Whether it differs from another contender in nothing but the sources of streams and the sinks of all.
    pub const fn is_for_bulk(self) -> bool {
        matches!(self, Self::NetstackBytes)
    }

    /// Whether it has sockets of UDP, or what counts as such.
    pub const fn has_datagrams(self) -> bool {
        !self.is_peer()
    }

    /// The runtime that it has if none is asked for: that of its examples, and two workers for two queues.
    pub const fn runtime(self, queues: usize) -> RuntimeKind {
        match self {
            Self::Ipstack | Self::NetstackSmoltcp | Self::TcpIp => RuntimeKind::Multi,
            Self::Netstack | Self::NetstackBytes if queues > 1 => RuntimeKind::Multi,
            _ => RuntimeKind::Current,
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
        let known = Self::ALL.into_iter().find(|contender| contender.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no contender `{text}`: choose from {names}")
        })?;
        if known.is_built() {
            Ok(known)
        } else {
            Err(format!("`{text}` takes a program that was built with `--features peers`"))
        }
    }
}

/// The settings of the interface between a contender and the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nic {
    /// MTU in bytes. That of a loopback interface stays as it is.
    pub mtu: u32,
    /// Whether checksums and segmentation are left to a TUN device. A veth pair always has its offloads.
    pub offload: bool,
    /// Queues of a TUN device.
    pub queues: usize,
}

impl Default for Nic {
    /// An MTU of 1,500 with offloads, and one queue.
    fn default() -> Self {
        Self { mtu: 1500, offload: true, queues: 1 }
    }
}

/// Written behind the MTU, says that there are offloads.
const OFFLOAD: &str = "+offload";
/// What IPv4 requires of a link, less which nothing here works.
const MIN_MTU: u32 = 576;

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.mtu, if self.offload { OFFLOAD } else { "" })
    }
}

impl FromStr for Nic {
    type Err = String;

    /// `1500+offload` or `65535`, with one queue.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mtu, offload) = text.strip_suffix(OFFLOAD).map_or((text, false), |mtu| (mtu, true));
        let mtu = mtu.parse().ok().filter(|mtu| (MIN_MTU..=65_535).contains(mtu));
        let mtu = mtu.ok_or_else(|| format!("`{text}` is not an MTU, or one followed by `{OFFLOAD}`"))?;
        Ok(Self { mtu, offload, queues: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for contender in Contender::ALL.into_iter().filter(|contender| contender.is_built()) {
            assert_eq!(contender.name().parse(), Ok(contender));
        }
        assert!("lwip".parse::<Contender>().is_err());
    }

    #[test]
    fn interfaces_are_read_as_they_are_written() {
        for text in ["1500+offload", "1500", "65535"] {
            assert_eq!(text.parse::<Nic>().expect(text).to_string(), text);
        }
        for text in ["", "+offload", "100", "65536", "1500+gso"] {
            assert!(text.parse::<Nic>().is_err(), "{text}");
        }
    }
}
