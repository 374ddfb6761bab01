//! The settings of a TUN device.

use crate::cidr::Cidr;
use crate::interface;
use std::io;
use std::path::PathBuf;

/// `MAX_TAP_QUEUES` of Linux's `tun.c`.
const MAX_QUEUES: usize = 256;

/// How to open a [`Tun`](crate::Tun).
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use netstack_tun::TunConfig;
///
/// let config = TunConfig::new("tun0").address("10.9.0.1/24")?.address("fd09::1/64")?.mtu(1500);
/// # let _ = config;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunConfig {
    /// The name of the interface, which is created if it does not exist. A name with `%d` (the
    /// default is `tun%d`) is completed by the kernel with the first free number.
    pub name: String,
    /// Number of queues, 1 (the default) to 256. Each is a file descriptor of its own; the kernel
    /// sends a flow to the queue on which it was last written.
    ///
    /// An existing device must have been created for several queues (`multi_queue`) if this is more
    /// than 1.
    pub queues: usize,
    /// Whether checksums and the segmentation of TCP super-segments of up to 64 KiB are left to the
    /// device, in both directions, and that of UDP where the kernel can do it. On by default.
    pub offload: bool,
    /// The MTU in bytes. `None` (the default) does not change it: a new device has 1500.
    pub mtu: Option<u32>,
    /// Addresses of the kernel's side, not of the stack's. None by default.
    pub addresses: Vec<Cidr>,
    /// Maximum number of packets for the stack in each queue. The kernel drops packets that do not
    /// fit.
    ///
    /// `None` (the default) is [`DEFAULT_TX_QUEUE_LEN`](Self::DEFAULT_TX_QUEUE_LEN) on a new device
    /// and does not change an existing one.
    pub tx_queue_len: Option<u32>,
    /// The network namespace that the interface is in, as a path: `/run/netns/NAME` of `ip netns`, or
    /// `/proc/PID/ns/net` of a process, such as the first of a container. The stack remains in the
    /// namespace of this process. `None` (the default) is the namespace of the thread.
    pub namespace: Option<PathBuf>,
}

impl TunConfig {
    /// The queue length of devices that are created here.
    ///
    /// The kernel's default is 500 packets, which a window of 1 MiB overruns if segments are not
    /// combined: without offloads, throughput drops to a hundredth. 10,000 packets hold 15 MB.
    pub const DEFAULT_TX_QUEUE_LEN: u32 = 10_000;

    /// The defaults, for the interface `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds an address of the kernel's side, such as `10.9.0.1/24` or `fd09::1/64`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if `cidr` is not an address with a prefix length.
    pub fn address(mut self, cidr: impl AsRef<str>) -> io::Result<Self> {
        self.addresses.push(cidr.as_ref().parse()?);
        Ok(self)
    }

    /// Sets [`mtu`](Self#structfield.mtu).
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(mtu);
        self
    }

    /// Sets [`offload`](Self#structfield.offload).
    #[must_use]
    pub fn offload(mut self, offload: bool) -> Self {
        self.offload = offload;
        self
    }

    /// Sets [`queues`](Self#structfield.queues).
    #[must_use]
    pub fn queues(mut self, queues: usize) -> Self {
        self.queues = queues;
        self
    }

    /// Sets [`tx_queue_len`](Self#structfield.tx_queue_len).
    #[must_use]
    pub fn tx_queue_len(mut self, packets: u32) -> Self {
        self.tx_queue_len = Some(packets);
        self
    }

    /// Sets [`namespace`](Self#structfield.namespace). To enter it takes CAP_SYS_ADMIN there.
    #[must_use]
    pub fn namespace(mut self, path: impl Into<PathBuf>) -> Self {
        self.namespace = Some(path.into());
        self
    }

    /// Checks what can be checked without a device.
    pub(crate) fn check(&self) -> io::Result<()> {
        interface::check_name(&self.name)?;
        if !(1..=MAX_QUEUES).contains(&self.queues) {
            let text = format!("a TUN device has 1 to {MAX_QUEUES} queues, not {}", self.queues);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(())
    }
}

impl Default for TunConfig {
    fn default() -> Self {
        Self {
            name: "tun%d".to_owned(),
            queues: 1,
            offload: true,
            mtu: None,
            addresses: Vec::new(),
            tx_queue_len: None,
            namespace: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_names_and_queues() {
        TunConfig::default().check().unwrap();
        for config in [
            TunConfig::new(""),
            TunConfig::new("a-name-of-16-byt"),
            TunConfig::default().queues(0),
            TunConfig::default().queues(257),
        ] {
            assert_eq!(config.check().unwrap_err().kind(), io::ErrorKind::InvalidInput, "{config:?}");
        }
        assert!(TunConfig::default().address("10.0.0.1/99").is_err());
    }
}
