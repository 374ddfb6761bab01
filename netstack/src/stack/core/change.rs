//! Interfaces that change: their addresses, routes and MTU, and whether they are up.

use super::Core;
use crate::error::{Failure, os};
use crate::ip::{AddressKind, Addresses, Cidr};
use crate::stack::iface::Interface;
use crate::stack::interfaces::{addresses_of, check_added, default_route, links_of, name_of};
use crate::stack::ip_route::IpRoute;
use crate::stack::routes::Links;
use std::fmt;
use std::io;
use std::net::IpAddr;

/// Smallest MTUs: a host takes IPv4 packets of 68 bytes (RFC 791 §3.1), and links of IPv6 carry 1280
/// (RFC 8200 §5).
const MIN_MTU_V4: usize = 68;
const MIN_MTU_V6: usize = 1280;

/// An interface at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InterfaceInfo {
    /// Its name.
    pub name: String,
    /// Its number in the stack.
    pub index: u16,
    /// Whether it is up: it was not taken down, and its device works.
    pub up: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// The longest packet, in bytes.
    pub mtu: usize,
    /// Its addresses.
    pub addresses: Vec<Cidr>,
    /// The prefixes that it accepts packets for ([`Interface::any_ip`](crate::Interface::any_ip)).
    pub any_ip: Vec<Cidr>,
    /// What its device failed with, if it is gone.
    pub failure: Option<String>,
}

impl fmt::Display for InterfaceInfo {
    /// In two lines, much as `ip addr` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.up { "UP" } else { "DOWN" };
        let kind = if self.loopback { "LOOPBACK," } else { "" };
        writeln!(f, "{}: {}: <{kind}{state}> mtu {}", self.index, self.name, self.mtu)?;
        f.write_str("   ")?;
        self.addresses.iter().try_for_each(|cidr| write!(f, " {cidr}"))?;
        self.any_ip.iter().try_for_each(|prefix| write!(f, " any {prefix}"))?;
        self.failure.as_ref().map_or(Ok(()), |failure| write!(f, " failed: {failure}"))
    }
}

/// A route and the interface that it leads through.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteInfo {
    /// The name of the interface.
    pub interface: String,
    /// The route.
    pub route: IpRoute,
}

impl fmt::Display for RouteInfo {
    /// As `ip route` prints it, but for the place of the device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {}", self.route, self.interface)
    }
}

/// What can be changed of an interface while the stack runs. Connections stay as they are: if their address
/// is not the stack's any more, or the interface is down, they end when their time is over, as in Linux.
impl Core {
    /// What an interface is at the moment.
    pub fn interface_info(&self, interface: u16) -> InterfaceInfo {
        let links = self.routes().links().swap_remove(interface.into());
        let failure = self.interface_failure(interface).map(|failure| io::Error::from(failure).to_string());
        InterfaceInfo {
            name: self.interface_name(interface).to_owned(),
            index: interface,
            up: !links.down && failure.is_none(),
            loopback: self.is_loopback(interface),
            mtu: self.mtu(interface),
            addresses: links.addresses,
            any_ip: links.any_ip,
            failure,
        }
    }

    /// All interfaces, in the order of their numbers.
    pub fn all_interfaces(&self) -> Vec<InterfaceInfo> {
        self.interfaces().numbers().map(|interface| self.interface_info(interface)).collect()
    }

    /// The routes that count: those of interfaces that are up.
    pub fn all_routes(&self) -> Vec<RouteInfo> {
        let links = self.routes().links();
        let up = (0u16..).zip(&links).filter(|(_, links)| !links.down);
        up.flat_map(|(interface, links)| {
            let name = self.interface_name(interface);
            links.all_routes().map(move |route| RouteInfo { interface: name.to_owned(), route })
        })
        .collect()
    }

    /// Takes one more interface into use, and gives its number. `grow` is told how many queues there are then,
    /// before any packet can use them.
    ///
    /// # Errors
    /// `EEXIST` if the stack has an interface of this name or one of the addresses; `ENOSPC` if it had too many
    /// interfaces in its life; of kind `InvalidInput` as for an interface that a stack is built with.
    pub(in crate::stack) fn add_interface(
        &self,
        interface: Interface,
        grow: impl FnOnce(usize),
    ) -> io::Result<u16> {
        let index = self.routes().change(|all| {
            let queues = interface.device.capabilities().queues;
            let index = u16::try_from(all.len()).map_err(|_| os(libc::ENOSPC))?;
            if !self.interfaces().has_room_for(queues) {
                return Err(os(libc::ENOSPC));
            }
            let name = name_of(&interface, index.into());
            // The loopback interface is there from the beginning, or never.
            if name == "lo" || self.interface_index(&name).is_some() {
                return Err(os(libc::EEXIST));
            }
            all.push(links_of(&interface));
            let addresses = addresses_of(all, self.addresses().loopback());
            check_added(&interface, &name, self.addresses(), &addresses)?;
            self.interfaces().attach(name, interface.device);
            grow(self.interfaces().queue_count());
            self.addresses().replace(addresses);
            Ok(index)
        })?;
        self.links_changed();
        Ok(index)
    }

    /// Takes an interface out of use: no route leads through it, and nothing is received or sent.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for the loopback interface; `ENODEV` if it was removed before.
    pub(in crate::stack) fn remove_interface(&self, interface: u16, cause: &Failure) -> io::Result<()> {
        if self.is_loopback(interface) {
            return Err(os(libc::EOPNOTSUPP));
        }
        self.change_links(interface, |links| {
            *links = Links { down: true, ..Links::default() };
            self.interfaces().set_cause(interface, cause);
            self.interfaces().set_removed(interface);
            Ok(())
        })
    }

    /// Adds an address.
    ///
    /// # Errors
    /// `EEXIST` if the stack has it; of kind `InvalidInput` if it is no address of a host, or an IPv6 address
    /// and the MTU is under 1280.
    pub fn add_address(&self, interface: u16, cidr: Cidr) -> io::Result<()> {
        let alone = Addresses::new([[cidr]], None);
        if alone.owner(cidr.address()).is_none() {
            return Err(invalid(&format!("{cidr} is not the address of a host")));
        }
        if cidr.address().is_ipv6() && self.mtu(interface) < MIN_MTU_V6 {
            return Err(invalid(&format!("the MTU is under the {MIN_MTU_V6} that IPv6 needs")));
        }
        self.change_links(interface, |links| {
            if matches!(self.addresses().classify(cidr.address(), None), AddressKind::Own(_)) {
                return Err(os(libc::EEXIST));
            }
            links.addresses.push(cidr);
            Ok(())
        })
    }

    /// Removes an address, and with it the route to its network.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if the interface does not have it.
    pub fn remove_address(&self, interface: u16, address: IpAddr) -> io::Result<Cidr> {
        self.change_links(interface, |links| {
            let at = links.addresses.iter().position(|cidr| cidr.address() == address);
            Ok(links.addresses.remove(at.ok_or_else(|| os(libc::EADDRNOTAVAIL))?))
        })
    }

    /// Accepts packets for another prefix ([`Interface::any_ip`](crate::Interface::any_ip)).
    ///
    /// # Errors
    /// `EEXIST` if it does already; of kind `InvalidInput` if the prefix has no host.
    pub fn add_any_ip(&self, interface: u16, prefix: Cidr) -> io::Result<()> {
        if Addresses::names_no_host(&prefix) {
            return Err(invalid(&format!("{prefix} has no address of a host")));
        }
        self.change_links(interface, |links| {
            if links.any_ip.contains(&prefix) {
                return Err(os(libc::EEXIST));
            }
            links.any_ip.push(prefix);
            Ok(())
        })
    }

    /// Accepts no packets for a prefix any more.
    ///
    /// # Errors
    /// `ESRCH` if it did not.
    pub fn remove_any_ip(&self, interface: u16, prefix: Cidr) -> io::Result<()> {
        self.change_links(interface, |links| {
            let at = links.any_ip.iter().position(|other| *other == prefix);
            links.any_ip.remove(at.ok_or_else(|| os(libc::ESRCH))?);
            Ok(())
        })
    }

    /// Adds a route.
    ///
    /// # Errors
    /// `EEXIST` if there is one to the same network with the same metric through the interface; of kind
    /// `InvalidInput` if its source is not an address of the stack, as in Linux.
    pub fn add_route(&self, interface: u16, route: IpRoute) -> io::Result<()> {
        if let Some(source) = route.source.filter(|source| self.addresses().owner(*source).is_none()) {
            return Err(invalid(&format!("the source {source} is not an address of the stack")));
        }
        self.change_links(interface, |links| {
            if links.routes.iter().any(|other| is_same(other, &route)) {
                return Err(os(libc::EEXIST));
            }
            links.routes.push(route);
            Ok(())
        })
    }

    /// Removes the route to the same network with the same metric.
    ///
    /// # Errors
    /// `ESRCH` if there is none.
    pub fn remove_route(&self, interface: u16, route: &IpRoute) -> io::Result<IpRoute> {
        self.change_links(interface, |links| {
            let at = links.routes.iter().position(|other| is_same(other, route));
            Ok(links.routes.remove(at.ok_or_else(|| os(libc::ESRCH))?))
        })
    }

    /// Puts the default route through `gateway` in the place of the one of metric 0 that its family has
    /// through this interface. Gives both, the new one first.
    ///
    /// # Errors
    /// None that would not be those of the stack's end.
    pub fn set_gateway(&self, interface: u16, gateway: IpAddr) -> io::Result<(IpRoute, Option<IpRoute>)> {
        let route = default_route(gateway);
        self.change_links(interface, |links| {
            let at = links.routes.iter().position(|other| is_same(other, &route));
            let before = at.map(|at| links.routes.remove(at));
            links.routes.push(route);
            Ok((route, before))
        })
    }

    /// Sets the MTU in bytes. New connections start from it, and open ones follow with their next segment.
    ///
    /// # Errors
    /// `EINVAL` if it is more than the device takes, or less than IP needs: 68 bytes, or 1280 if the interface
    /// has an IPv6 address.
    pub fn set_mtu(&self, interface: u16, mtu: usize) -> io::Result<()> {
        let most = self.capabilities(interface).mtu.min(usize::from(u16::MAX));
        self.change_links(interface, |links| {
            let mut networks = links.addresses.iter().chain(&links.any_ip);
            let least = if networks.any(|cidr| cidr.address().is_ipv6()) { MIN_MTU_V6 } else { MIN_MTU_V4 };
            if !(least..=most).contains(&mtu) {
                return Err(os(libc::EINVAL));
            }
            self.interfaces().set_mtu(interface, mtu);
            Ok(())
        })?;
        self.paths().interface_changed();
        Ok(())
    }

    /// Takes the interface down, or brings it up. While it is down nothing is received through it or sent,
    /// and no route leads through it.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for the loopback interface.
    pub fn set_down(&self, interface: u16, down: bool) -> io::Result<()> {
        if self.is_loopback(interface) {
            return Err(os(libc::EOPNOTSUPP));
        }
        self.change_links(interface, |links| {
            links.down = down;
            self.interfaces().set_down(interface, down);
            Ok(())
        })
    }
}

/// Whether two routes cannot be in one table.
fn is_same(one: &IpRoute, other: &IpRoute) -> bool {
    let key = |route: &IpRoute| (route.destination.network(), route.destination.prefix(), route.metric);
    key(one) == key(other)
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.to_owned())
}
