//! Interfaces that change while the stack runs, and who is told of that.

use super::driver;
use super::event::NetworkEvent;
use super::stack::Stack;
use super::wakeups::Change;
use crate::error::os;
use crate::ip::Cidr;
use crate::stack::{Interface, InterfaceInfo, IpRoute};
use std::fmt;
use std::io;
use std::net::IpAddr;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// A handle to an interface of a stack, to change it: [`Stack::interface`].
///
/// Changes take effect at once. Connections stay as they are: if their address is not the stack's any
/// more, or the interface is down, they end when their time is over, as in Linux.
///
/// # Examples
/// ```
/// use netstack::device::{Pair, PairConfig};
/// use netstack::{Interface, IpRoute, Stack};
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let (device, _far) = Pair::new(PairConfig::default());
/// let stack = Stack::builder().interface(Interface::new(Arc::new(device)).name("net0")).build()?;
/// let net0 = stack.interface("net0")?;
/// net0.add_address("10.0.0.2/24")?;
/// net0.set_gateway("10.0.0.1")?;
/// net0.add_route(IpRoute::new("198.51.100.0/24")?.gateway("10.0.0.9")?.metric(10))?;
/// net0.set_mtu(1400)?;
/// let routes: Vec<_> = stack.routes().iter().map(ToString::to_string).collect();
/// assert_eq!(routes[0], "10.0.0.0/24 src 10.0.0.2 dev net0");
/// assert_eq!(routes[1], "default via 10.0.0.1 dev net0");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct InterfaceHandle {
    stack: Stack,
    index: u16,
}

impl InterfaceHandle {
    /// The interface `name` of `stack`.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn of(stack: &Stack, name: &str) -> io::Result<Self> {
        let index = stack.engine().core().interface_index(name);
        let index = index.ok_or_else(|| os(libc::ENODEV))?;
        Ok(Self { stack: stack.clone(), index })
    }

    /// Takes one more interface into use on the running `stack`: [`Stack::add_interface`].
    ///
    /// # Errors
    /// As [`Stack::add_interface`].
    pub fn add_to(stack: &Stack, interface: Interface) -> io::Result<Self> {
        let core = stack.core();
        core.ensure_open()?;
        let index = core.engine.add_interface(interface)?;
        let added = Self { stack: stack.clone(), index };
        if let Err(error) = driver::start_queues(core, index) {
            added.take_out()?;
            return Err(error);
        }
        added.announce(NetworkEvent::InterfaceAdded { interface: added.name().to_owned() });
        Ok(added)
    }

    /// Removes the interface from its stack, for good: nothing is received through it or sent, and its addresses
    /// and routes are gone. Another of the same name can be added.
    ///
    /// - Its connections, and the sockets and listeners that are bound to it (`bind_device`), fail with `ENODEV`,
    ///   and so do new calls of such sockets. In Linux, connections would go on trying until their time is over.
    /// - Sockets that are bound to one of its addresses or to none stay, as in Linux: the address may come back on
    ///   another interface.
    ///
    /// The device is dropped as soon as the tasks that served it have ended; that of an interface that the stack was
    /// built with, when the stack ends.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for the loopback interface; `ENODEV` if it was removed before.
    pub fn remove(&self) -> io::Result<()> {
        self.take_out()?;
        self.announce(NetworkEvent::InterfaceRemoved { interface: self.name().to_owned() });
        Ok(())
    }

    fn take_out(&self) -> io::Result<()> {
        let core = self.stack.core();
        core.engine.remove_interface(core.now(), self.index)?;
        core.wakeups.end(self.index);
        Ok(())
    }

    /// The name of the interface.
    pub fn name(&self) -> &str {
        self.core().interface_name(self.index)
    }

    /// Its addresses, MTU and state.
    pub fn info(&self) -> InterfaceInfo {
        self.core().interface_info(self.index)
    }

    /// Adds an address with its prefix length, such as `10.0.0.2/24`.
    ///
    /// # Errors
    /// `EEXIST` if the stack has it; [`io::ErrorKind::InvalidInput`] if it is no address of a host, or an IPv6
    /// address and the MTU is under 1280.
    pub fn add_address(&self, cidr: &str) -> io::Result<()> {
        let address = parse(cidr)?;
        self.core().add_address(self.index, address)?;
        self.announce(NetworkEvent::AddressAdded { interface: self.name().to_owned(), address });
        Ok(())
    }

    /// Removes an address, and with it the route to its network.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if the interface does not have it.
    pub fn remove_address(&self, address: IpAddr) -> io::Result<()> {
        let address = self.core().remove_address(self.index, address)?;
        self.announce(NetworkEvent::AddressRemoved { interface: self.name().to_owned(), address });
        Ok(())
    }

    /// Accepts packets for another prefix, as [`Interface::any_ip`](crate::Interface::any_ip) does.
    ///
    /// # Errors
    /// `EEXIST` if it does already; [`io::ErrorKind::InvalidInput`] if the prefix has no host.
    pub fn add_any_ip(&self, prefix: &str) -> io::Result<()> {
        let prefix = parse(prefix)?;
        self.core().add_any_ip(self.index, prefix)?;
        self.announce(NetworkEvent::AnyIpAdded { interface: self.name().to_owned(), prefix });
        Ok(())
    }

    /// Accepts no packets for a prefix any more.
    ///
    /// # Errors
    /// `ESRCH` if it did not; [`io::ErrorKind::InvalidInput`] if it is no prefix.
    pub fn remove_any_ip(&self, prefix: &str) -> io::Result<()> {
        let prefix = parse(prefix)?;
        self.core().remove_any_ip(self.index, prefix)?;
        self.announce(NetworkEvent::AnyIpRemoved { interface: self.name().to_owned(), prefix });
        Ok(())
    }

    /// Adds a route through the interface.
    ///
    /// # Errors
    /// `EEXIST` if there is one to the same network with the same metric through the interface;
    /// [`io::ErrorKind::InvalidInput`] if its source is not an address of the stack.
    pub fn add_route(&self, route: IpRoute) -> io::Result<()> {
        self.core().add_route(self.index, route)?;
        self.announce(NetworkEvent::RouteAdded { interface: self.name().to_owned(), route });
        Ok(())
    }

    /// Removes the route to the same network with the same metric. The routes to the networks of addresses
    /// go with the addresses.
    ///
    /// # Errors
    /// `ESRCH` if there is none.
    pub fn remove_route(&self, route: &IpRoute) -> io::Result<()> {
        let route = self.core().remove_route(self.index, route)?;
        self.announce(NetworkEvent::RouteRemoved { interface: self.name().to_owned(), route });
        Ok(())
    }

    /// Makes `gateway` the next hop of the default route through the interface, for its family.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if it is no IP address.
    pub fn set_gateway(&self, gateway: &str) -> io::Result<()> {
        let gateway = gateway.parse().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("`{gateway}` is not an IP address"))
        })?;
        let (route, before) = self.core().set_gateway(self.index, gateway)?;
        let interface = || self.name().to_owned();
        if let Some(route) = before {
            self.announce(NetworkEvent::RouteRemoved { interface: interface(), route });
        }
        self.announce(NetworkEvent::RouteAdded { interface: interface(), route });
        Ok(())
    }

    /// Sets the MTU in bytes. New connections start from it, and open ones follow with their next segment.
    ///
    /// # Errors
    /// `EINVAL` if it is more than the device takes, or less than IP needs: 68 bytes, or 1280 if the interface
    /// has an IPv6 address.
    pub fn set_mtu(&self, mtu: usize) -> io::Result<()> {
        self.core().set_mtu(self.index, mtu)?;
        self.announce(NetworkEvent::MtuChanged { interface: self.name().to_owned(), mtu });
        Ok(())
    }

    /// Takes the interface down: nothing is received through it or sent, and no route leads through it.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for the loopback interface.
    pub fn set_down(&self) -> io::Result<()> {
        self.core().set_down(self.index, true)?;
        self.announce(NetworkEvent::InterfaceDown { interface: self.name().to_owned() });
        Ok(())
    }

    /// Brings the interface up again.
    ///
    /// # Errors
    /// As [`InterfaceHandle::set_down`].
    pub fn set_up(&self) -> io::Result<()> {
        self.core().set_down(self.index, false)?;
        self.announce(NetworkEvent::InterfaceUp { interface: self.name().to_owned() });
        Ok(())
    }

    fn core(&self) -> &crate::stack::Core {
        self.stack.engine().core()
    }

    fn announce(&self, event: NetworkEvent) {
        self.stack.core().wakeups.announce(Change::Made(event));
    }
}

impl fmt::Debug for InterfaceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InterfaceHandle").field(&self.info()).finish()
    }
}

fn parse(text: &str) -> io::Result<Cidr> {
    text.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// What happens to the interfaces of a stack, as `ip monitor` shows it: [`Stack::monitor`].
pub struct Monitor {
    stack: Stack,
    changes: Receiver<Change>,
}

impl Monitor {
    /// Watches the interfaces of `stack` from now on.
    pub fn of(stack: &Stack) -> Self {
        Self { stack: stack.clone(), changes: stack.core().wakeups.changes() }
    }

    /// Waits until something happens.
    ///
    /// # Cancel safety
    /// Cancel safe: no event is lost if the future is dropped.
    pub async fn next(&mut self) -> NetworkEvent {
        match self.changes.recv().await {
            Ok(Change::Made(event)) => event,
            Ok(Change::Failed(index)) => {
                let InterfaceInfo { name, failure, .. } = self.stack.engine().core().interface_info(index);
                NetworkEvent::DeviceFailed { interface: name, error: failure.unwrap_or_default() }
            }
            Err(RecvError::Lagged(events)) => NetworkEvent::Missed(events),
            // The stack, which has the sender, lives as long as this.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("stack", &self.stack).finish_non_exhaustive()
    }
}
