//! Network interfaces: a device with addresses.

use crate::device::Device;
use crate::ip::{AddressKind, Addresses, Cidr};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A network interface: a device, the addresses of the stack on it, and the gateways behind it.
///
/// An invalid address or gateway is an error when the stack is built.
///
/// ```
/// use netstack::device::{Pair, PairConfig};
/// use netstack::stack::Engine;
/// use netstack::{Config, Interface};
/// use std::sync::Arc;
///
/// # fn main() -> std::io::Result<()> {
/// let (near, _far) = Pair::new(PairConfig::default());
/// let interface = Interface::new(Arc::new(near))
///     .name("net0")
///     .address("10.0.0.2/24")
///     .address("fd00::2/64")
///     .gateway("10.0.0.1");
/// // `Stack::builder().interface(interface)` takes it just so.
/// let engine = Engine::new(Config::default(), vec![interface])?;
/// assert_eq!(engine.core().interface_index("net0"), Some(0));
///
/// let (near, _far) = Pair::new(PairConfig::default());
/// let misspelled = Interface::new(Arc::new(near)).address("10.0.0.300/24");
/// let error = Engine::new(Config::default(), vec![misspelled]).unwrap_err();
/// assert_eq!(error.to_string(), "'10.0.0.300' is not an IP address");
/// # Ok(())
/// # }
/// ```
pub struct Interface {
    pub(crate) name: Option<String>,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) any_ip: Vec<Cidr>,
    pub(crate) gateways: Vec<IpAddr>,
    /// The first text that could not be read.
    pub(crate) error: Option<String>,
}

impl Interface {
    /// An interface without addresses.
    pub fn new(device: Arc<dyn Device>) -> Self {
        let (addresses, any_ip, gateways) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: None, device, addresses, any_ip, gateways, error: None }
    }

    /// Sets the name of the interface. Default: `net` followed by its number.
    ///
    /// `lo` is the name of the loopback interface: an interface with this name replaces it and gets
    /// its addresses. Its device must return every packet that it is sent, as [`Loopback`] does. A
    /// [`PcapTap`] or a [`Link`] in front of a `Loopback` captures or impairs the packets that a
    /// stack sends to itself.
    ///
    /// [`Loopback`]: crate::device::Loopback
    /// [`PcapTap`]: crate::device::PcapTap
    /// [`Link`]: crate::device::Link
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Adds an address of the stack with its prefix length, such as `10.0.0.2/24`. Other addresses
    /// in this network are reached through this interface.
    #[must_use]
    pub fn address(mut self, cidr: &str) -> Self {
        match cidr.parse() {
            Ok(cidr) => self.addresses.push(cidr),
            Err(error) => self.refuse(&error),
        }
        self
    }

    /// Accepts packets for every host in `prefix`, such as `198.18.0.0/15`, that arrive on this
    /// interface, as if each address were the stack's own. `0.0.0.0/0` and `::/0` are all addresses. It
    /// can be called several times.
    ///
    /// Sockets can be bound to these addresses and send from them, and a listener on the unspecified
    /// address accepts connections to all of them: [`TcpStream::local_addr`] says which it was. With
    /// [`Stack::tcp_forwarder`], an application also decides about those to ports that have no listener.
    ///
    /// Groups, broadcast addresses of the stack's networks and loopback addresses stay what they are, and a
    /// packet whose source is its destination, or an address of the stack, is dropped. It is about what
    /// arrives: to a host in `prefix`, the stack's own packets leave as to any other. There has to be a
    /// route by which answers reach those who send to these addresses; without one, they leave through the
    /// interface on which the packet came.
    ///
    /// Linux calls this AnyIP (`ip route add local 198.18.0.0/15 dev lo`), gVisor promiscuous mode and
    /// spoofing.
    ///
    /// [`TcpStream::local_addr`]: crate::net::TcpStream::local_addr
    /// [`Stack::tcp_forwarder`]: crate::Stack::tcp_forwarder
    #[doc(alias = "promiscuous")]
    #[doc(alias = "spoofing")]
    #[doc(alias = "AnyIP")]
    #[must_use]
    pub fn any_ip(mut self, prefix: &str) -> Self {
        match prefix.parse() {
            Ok(prefix) if Addresses::names_no_host(&prefix) => {
                self.refuse(&format!("{prefix} has no address of a host"));
            }
            Ok(prefix) => self.any_ip.push(prefix),
            Err(error) => self.refuse(&error),
        }
        self
    }

    /// Makes this interface the default route for the family of `gateway`: packets for addresses in
    /// no network of the stack leave through it.
    ///
    /// On a point-to-point device ([`Capabilities::point_to_point`]), as all devices of this crate
    /// and the TUN device are, that is all: the other end accepts every packet, the address of the
    /// gateway is not used, and it need not be in a network of the interface. On any other device
    /// the gateway has to be another host in a network of the interface, or have a link-local
    /// address, so that the device can resolve it; otherwise building the stack fails.
    ///
    /// [`Capabilities::point_to_point`]: crate::device::Capabilities::point_to_point
    #[must_use]
    pub fn gateway(mut self, gateway: &str) -> Self {
        match gateway.parse() {
            Ok(gateway) => self.gateways.push(gateway),
            Err(_) => self.refuse(&format!("`{gateway}` is not an IP address")),
        }
        self
    }

    /// Refuses, in words, a gateway that the device could not find. `name` is what the interface is
    /// called in the stack.
    pub(crate) fn check_gateways(&self, name: &str, addresses: &Addresses) -> Result<(), String> {
        if self.device.capabilities().point_to_point {
            return Ok(());
        }
        for &gateway in &self.gateways {
            if !matches!(addresses.classify(gateway, None), AddressKind::Foreign | AddressKind::AnyIp) {
                return Err(format!("the gateway {gateway} of `{name}` is not the address of another host"));
            }
            // RFC 4861 §5.1: link-local addresses are on every link.
            let link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
            if !link_local && !self.addresses.iter().any(|cidr| cidr.contains(gateway)) {
                return Err(format!(
                    "the gateway {gateway} is in no network of `{name}`: give the interface an address \
                     in the network of the gateway"
                ));
            }
        }
        Ok(())
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
            .field("any_ip", &self.any_ip)
            .field("gateways", &self.gateways)
            .finish_non_exhaustive()
    }
}
