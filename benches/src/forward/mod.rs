//! A proxy on different stacks: kernel clients in one network namespace, kernel servers in another, and the proxy
//! between them, which connects to where a client's connection was sent.
//!
//! ```text
//! lab      the namespaces, their links and the servers      serve   one contender, as a process
//! splice   kernel sockets on both sides                     nat     datagrams of clients without flows
//! pasta    a program that is installed or not
//! ```

mod lab;
pub(crate) mod nat;
mod pasta;
mod serve;
mod splice;

pub use lab::Lab;
pub use serve::{Options, run};

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Bytes of each of the two buffers of a peer's connection: those of netstack's proxy.
const PEER_BUFFER: usize = 64 << 10;

/// What answers the clients of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// netstack, as the example `tun2socks` uses it.
    Netstack,
    /// Kernel sockets, over a veth pair instead of a TUN device.
    Splice,
    /// netstack-smoltcp.
    NetstackSmoltcp,
    /// ipstack.
    Ipstack,
    /// tcp_ip.
    TcpIp,
    /// pasta, of the passt project, where it is installed: what rootless containers have.
    Pasta,
}

/// A contender: a stack and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Forwarder {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// Its stack.
    pub kind: Kind,
    /// Whether its TUN device leaves checksums and segmentation to the kernel.
    pub offload: bool,
    /// The MTU of its device, in bytes, if it is not that of the others.
    pub mtu: Option<u32>,
}

impl Forwarder {
    /// All of them. Those of the peers are what their documentation has: netstack-smoltcp's example with offloads
    /// and its README's MTU of 9,000, ipstack's example with 65,535, and everybody with the MTU of the others.
    /// tcp_ip's documentation has no large MTU; with one it is compared with netstack in the same place. pasta's own
    /// default is 65,520; it has a TAP device without offloads.
    pub const ALL: [Self; 13] = [
        Self::new("splice", Kind::Splice, true, None),
        Self::new("netstack", Kind::Netstack, true, None),
        Self::new("netstack-plain", Kind::Netstack, false, None),
        Self::new("netstack-65535", Kind::Netstack, false, Some(65_535)),
        Self::new("netstack-smoltcp-offload", Kind::NetstackSmoltcp, true, None),
        Self::new("netstack-smoltcp-9000", Kind::NetstackSmoltcp, false, Some(9000)),
        Self::new("netstack-smoltcp", Kind::NetstackSmoltcp, false, None),
        Self::new("ipstack-65535", Kind::Ipstack, false, Some(65_535)),
        Self::new("ipstack", Kind::Ipstack, false, None),
        Self::new("tcp_ip-65535", Kind::TcpIp, false, Some(65_535)),
        Self::new("tcp_ip", Kind::TcpIp, false, None),
        Self::new("pasta-65520", Kind::Pasta, false, Some(65_520)),
        Self::new("pasta", Kind::Pasta, false, None),
    ];

    const fn new(name: &'static str, kind: Kind, offload: bool, mtu: Option<u32>) -> Self {
        Self { name, kind, offload, mtu }
    }

    /// Whether this program was built with it, or it is installed.
    pub fn is_there(self) -> bool {
        match self.kind {
            Kind::Netstack | Kind::Splice => true,
            Kind::NetstackSmoltcp | Kind::Ipstack | Kind::TcpIp => cfg!(feature = "peers"),
            Kind::Pasta => pasta::is_installed(),
        }
    }

    /// Whether its process can say how much of its heap is in use.
    pub const fn knows_its_heap(self) -> bool {
        !matches!(self.kind, Kind::Pasta)
    }

    /// Bytes of the buffers that a connection has all the time for its two copies.
    pub const fn copy_buffers(self) -> usize {
        match self.kind {
            // They have them only while they copy. What pasta has is not known.
            Kind::Netstack | Kind::Splice | Kind::Pasta => 0,
            Kind::NetstackSmoltcp | Kind::Ipstack | Kind::TcpIp => 2 * PEER_BUFFER,
        }
    }

    /// Where its clients connect to in order to reach the server.
    pub const fn address(self) -> Ipv4Addr {
        match self.kind {
            // A kernel has no listener for all addresses without firewall rules, which would cost something.
            Kind::Splice => lab::GATEWAY,
            Kind::Netstack | Kind::NetstackSmoltcp | Kind::Ipstack | Kind::TcpIp | Kind::Pasta => lab::SERVER,
        }
    }
}

impl fmt::Display for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl FromStr for Forwarder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|forwarder| forwarder.name == text).ok_or_else(|| {
            let names = Self::ALL.map(|forwarder| forwarder.name).join(", ");
            format!("no contender `{text}`: choose from {names}")
        })?;
        match known.kind {
            _ if known.is_there() => Ok(known),
            Kind::Pasta => Err("there is no program `pasta` here".to_owned()),
            _ => Err(format!("`{text}` takes a program that was built with `--features peers`")),
        }
    }
}
