//! A route, as an application gives and sees it.

use crate::ip::Cidr;
use std::fmt;
use std::io;
use std::net::IpAddr;

/// A route through an interface, as `ip route` has them.
///
/// ```
/// use netstack::IpRoute;
///
/// # fn main() -> std::io::Result<()> {
/// let route = IpRoute::new("198.51.100.0/24")?.gateway("10.0.0.1")?.metric(100);
/// assert_eq!(route.to_string(), "198.51.100.0/24 via 10.0.0.1 metric 100");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct IpRoute {
    /// The network that it leads to; `0.0.0.0/0` and `::/0` are the default routes.
    pub destination: Cidr,
    /// The next hop, which is for people to see: see [`Interface::gateway`](crate::Interface::gateway).
    pub gateway: Option<IpAddr>,
    /// Among routes of the same prefix length, the one with the lowest metric is taken. Default 0.
    pub metric: u32,
    /// The source address of those that are not bound to one. Default none: the stack chooses among the
    /// addresses of the interface (RFC 6724).
    pub source: Option<IpAddr>,
}

impl IpRoute {
    /// A route to a network, such as `198.51.100.0/24`.
    ///
    /// # Errors
    /// Of kind `InvalidInput` if that is no network.
    pub fn new(destination: &str) -> io::Result<Self> {
        Ok(Self::to(destination.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?))
    }

    /// A route to a network.
    pub const fn to(destination: Cidr) -> Self {
        Self { destination, gateway: None, metric: 0, source: None }
    }

    /// Sets the next hop.
    ///
    /// # Errors
    /// Of kind `InvalidInput` if that is no address of the same family.
    pub fn gateway(self, gateway: &str) -> io::Result<Self> {
        Ok(Self { gateway: Some(self.address(gateway)?), ..self })
    }

    /// Sets the metric.
    #[must_use]
    pub const fn metric(self, metric: u32) -> Self {
        Self { metric, ..self }
    }

    /// Sets the source address.
    ///
    /// # Errors
    /// Of kind `InvalidInput` if that is no address of the same family.
    pub fn source(self, source: &str) -> io::Result<Self> {
        Ok(Self { source: Some(self.address(source)?), ..self })
    }

    fn address(&self, text: &str) -> io::Result<IpAddr> {
        let address = text.parse().ok();
        let same = |address: &IpAddr| address.is_ipv4() == self.destination.address().is_ipv4();
        address.filter(same).ok_or_else(|| {
            let text = format!("`{text}` is no address of the family of {}", self.destination);
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })
    }
}

impl fmt::Display for IpRoute {
    /// As `ip route` prints it, without the device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.destination.prefix() {
            0 => f.write_str("default")?,
            prefix => write!(f, "{}/{prefix}", self.destination.network())?,
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if self.metric > 0 {
            write!(f, " metric {}", self.metric)?;
        }
        self.source.map_or(Ok(()), |source| write!(f, " src {source}"))
    }
}
