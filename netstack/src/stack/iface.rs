//! Network interfaces: a device with addresses.

use crate::device::Device;
use crate::ip::Cidr;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A device, the addresses that the stack has on it, and where packets for the rest of the world go.
///
/// Texts that cannot be read are reported when the stack is built.
pub struct Interface {
    pub(crate) name: Option<String>,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) gateways: Vec<IpAddr>,
    /// The first text that could not be read.
    pub(crate) error: Option<String>,
}

impl Interface {
    /// An interface without addresses.
    pub fn new(device: Arc<dyn Device>) -> Self {
        Self { name: None, device, addresses: Vec::new(), gateways: Vec::new(), error: None }
    }

    /// Names the interface. Default: `net` and its number.
    ///
    /// `lo` is the name of the loopback interface: an interface with this name takes its place and
    /// gets its addresses. Its device must give back what it gets, as [`Loopback`] does; a
    /// [`PcapTap`] or a [`Link`] in front of that captures or hinders what a stack sends to itself.
    ///
    /// [`Loopback`]: crate::device::Loopback
    /// [`PcapTap`]: crate::device::PcapTap
    /// [`Link`]: crate::device::Link
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds an address of the stack, such as `10.0.0.2/24`. The addresses of its network are reached
    /// through this interface.
    #[must_use]
    pub fn address(mut self, cidr: &str) -> Self {
        match cidr.parse() {
            Ok(cidr) => self.addresses.push(cidr),
            Err(error) => self.refuse(&error),
        }
        self
    }

    /// Makes this interface the way to all addresses of the family of `gateway` that are in no
    /// network of the stack. Packets carry no link-layer address, so the gateway's own address does
    /// not appear in them.
    #[must_use]
    pub fn gateway(mut self, gateway: &str) -> Self {
        match gateway.parse() {
            Ok(gateway) => self.gateways.push(gateway),
            Err(_) => self.refuse(&format!("`{gateway}` is not an IP address")),
        }
        self
    }

    fn refuse(&mut self, error: &dyn fmt::Display) {
        self.error.get_or_insert_with(|| error.to_string());
    }
}

impl fmt::Debug for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interface")
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .field("gateways", &self.gateways)
            .finish_non_exhaustive()
    }
}
