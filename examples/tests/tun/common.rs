//! Code that the tests share: sizes, families, and the two sides of a TUN device.

use netstack::device::{Device, Link, LinkConfig};
use netstack::{Config, Interface, Stack};
use netstack_tun::{Tun, TunConfig};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The kernel's addresses and the stack's, IPv4 and IPv6.
pub(crate) const KERNEL: [&str; 2] = ["10.9.0.1", "fd09::1"];
pub(crate) const STACK: [&str; 2] = ["10.9.0.2", "fd09::2"];
pub(crate) const PREFIX: [&str; 2] = ["24", "64"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(crate) fn kernel(self) -> IpAddr {
        KERNEL[self as usize].parse().unwrap()
    }

    pub(crate) fn stack(self) -> IpAddr {
        STACK[self as usize].parse().unwrap()
    }
}

/// How the TUN device is opened, and what is in front of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path {
    pub(crate) offload: bool,
    /// As in `--impair`; empty for none.
    pub(crate) impair: &'static str,
}

pub(crate) const OFFLOAD: Path = Path { offload: true, impair: "" };
pub(crate) const PLAIN: Path = Path { offload: false, impair: "" };

/// A stack behind a new TUN device, in the namespace of this process and on the current runtime.
pub(crate) fn stack(path: Path, config: Config) -> io::Result<Stack> {
    let mut tun = TunConfig::new("tun0").offload(path.offload);
    for (address, prefix) in KERNEL.iter().zip(PREFIX) {
        tun = tun.address(format!("{address}/{prefix}"))?;
    }
    let mut device: Arc<dyn Device> = Arc::new(Tun::open(&tun)?);
    if !path.impair.is_empty() {
        let config: LinkConfig = path.impair.parse().unwrap();
        device = Arc::new(Link::new(device, config.clone(), config));
    }
    let mut interface = Interface::new(device);
    for (address, prefix) in STACK.iter().zip(PREFIX) {
        interface = interface.address(&format!("{address}/{prefix}"));
    }
    Stack::builder().interface(interface).config(config).build()
}

/// A size from the environment, for longer runs than the usual ones.
pub(crate) fn size(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().expect("the variable is a number"))
}

/// What each direction of a transfer carries, in bytes: `NETSTACK_TEST_MIB`, 8 if unset.
pub(crate) fn transfer_len() -> u64 {
    size("NETSTACK_TEST_MIB", 8) << 20
}

/// What a test may take that moves `len` bytes a few times over: at least 20 MB/s all in all.
pub(crate) fn time_limit(len: u64) -> Duration {
    Duration::from_secs(120 + len / 20_000_000)
}

/// A runtime on this thread alone.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub(crate) fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}
