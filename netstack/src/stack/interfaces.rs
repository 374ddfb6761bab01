//! The interfaces of a running stack: devices, their queues and their failures.

use super::flow::QueueId;
use super::iface::Interface;
use super::ip_route::IpRoute;
use super::routes::Links;
use crate::device::{Capabilities, Device, Loopback};
use crate::error::Failure;
use crate::ip::{Addresses, Cidr};
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The MTU of the loopback interface: as much as an IP packet can be. Linux has one byte more.
const LOOPBACK_MTU: usize = 65_535;

/// All interfaces of one stack.
pub(super) struct Interfaces {
    attached: Vec<Attached>,
    /// The queues of all interfaces, by their number.
    queues: Vec<QueueId>,
    /// The interface whose device was gone first.
    first_failed: OnceLock<u16>,
}

/// An interface in use.
struct Attached {
    name: String,
    device: Arc<dyn Device>,
    capabilities: Capabilities,
    /// The number of its first queue in [`Interfaces::queues`].
    first_queue: usize,
    /// Bytes of the longest packet; no IP packet is longer than its length field can say.
    mtu: AtomicUsize,
    /// It was taken down.
    down: AtomicBool,
    /// Set once the device is gone.
    failure: OnceLock<Failure>,
}

/// Adds the loopback interface after the others: the one with the name `lo`, if there is one.
pub(super) fn with_loopback(mut interfaces: Vec<Interface>) -> Vec<Interface> {
    let given = interfaces.iter().position(|interface| interface.name.as_deref() == Some("lo"));
    let interface = match given {
        Some(index) => interfaces.remove(index),
        None => Interface::new(Arc::new(Loopback::new(LOOPBACK_MTU))).name("lo"),
    };
    interfaces.push(interface.address("127.0.0.1/8").address("::1/128"));
    interfaces
}

impl Interfaces {
    /// Takes these interfaces into use.
    pub(super) fn new(interfaces: Vec<Interface>) -> Self {
        let mut queues = Vec::new();
        let mut attached = Vec::new();
        for (index, interface) in interfaces.into_iter().enumerate() {
            let capabilities = interface.device.capabilities();
            attached.push(Attached {
                name: name_of(&interface, index),
                capabilities,
                first_queue: queues.len(),
                mtu: AtomicUsize::new(capabilities.mtu.min(usize::from(u16::MAX))),
                down: AtomicBool::new(false),
                failure: OnceLock::new(),
                device: interface.device,
            });
            let of_device = 0..capabilities.queues.max(1) as u16;
            queues.extend(of_device.map(|queue| QueueId { interface: index as u16, queue }));
        }
        Self { attached, queues, first_failed: OnceLock::new() }
    }

    fn get(&self, interface: u16) -> &Attached {
        &self.attached[usize::from(interface)]
    }

    pub(super) fn device(&self, interface: u16) -> &Arc<dyn Device> {
        &self.get(interface).device
    }

    pub(super) fn name(&self, interface: u16) -> &str {
        &self.get(interface).name
    }

    pub(super) fn index(&self, name: &str) -> Option<u16> {
        self.attached.iter().position(|interface| interface.name == name).map(|at| at as u16)
    }

    pub(super) fn queues(&self) -> &[QueueId] {
        &self.queues
    }

    pub(super) fn queue_number(&self, queue: QueueId) -> usize {
        self.get(queue.interface).first_queue + usize::from(queue.queue)
    }

    pub(super) fn capabilities(&self, interface: u16) -> &Capabilities {
        &self.get(interface).capabilities
    }

    pub(super) fn mtu(&self, interface: u16) -> usize {
        self.get(interface).mtu.load(Ordering::Relaxed)
    }

    pub(super) fn set_mtu(&self, interface: u16, mtu: usize) {
        self.get(interface).mtu.store(mtu, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_down(&self, interface: u16) -> bool {
        self.get(interface).down.load(Ordering::Relaxed)
    }

    pub(super) fn set_down(&self, interface: u16, down: bool) {
        self.get(interface).down.store(down, Ordering::Relaxed);
    }

    pub(super) fn len(&self) -> u16 {
        self.attached.len() as u16
    }

    pub(super) fn failure(&self, interface: u16) -> Option<&Failure> {
        self.get(interface).failure.get()
    }

    /// Notes that the device of an interface is gone. The first cause stays; false if there is one.
    pub(super) fn fail(&self, interface: u16, cause: &Failure) -> bool {
        let news = self.get(interface).failure.set(cause.clone()).is_ok();
        if news {
            self.first_failed.get_or_init(|| interface);
        }
        news
    }

    /// The interface whose device was gone first, and why.
    pub(super) fn first_failure(&self) -> Option<(&str, &Failure)> {
        let first = *self.first_failed.get()?;
        Some((self.name(first), self.failure(first)?))
    }
}

/// Whose each address is on these interfaces, the last of which may be loopback.
pub(super) fn addresses_of(interfaces: &[Links], loopback: Option<u16>) -> Addresses {
    let own = Addresses::new(interfaces.iter().map(|links| &links.addresses), loopback);
    let with_any_ip = |own: Addresses, (index, links): (u16, &Links)| own.with_any_ip(index, &links.any_ip);
    (0..).zip(interfaces).fold(own, with_any_ip)
}

/// Refuses interfaces that cannot work: the first mistake, in words.
pub(super) fn check(interfaces: &[Interface], own: &Addresses) -> io::Result<()> {
    let mut names = HashSet::new();
    let mut addresses = HashSet::new();
    for (index, interface) in interfaces.iter().enumerate() {
        if let Some(error) = &interface.error {
            return Err(invalid(error));
        }
        if !names.insert(name_of(interface, index)) {
            return Err(invalid(&format!("two interfaces are called `{}`", name_of(interface, index))));
        }
        for cidr in &interface.addresses {
            if own.owner(cidr.address()).is_none() {
                return Err(invalid(&format!("{cidr} is not the address of a host")));
            }
            if !addresses.insert(cidr.address()) {
                return Err(invalid(&format!("two interfaces, or one twice, have the address {cidr}")));
            }
        }
        interface.check_gateways(&name_of(interface, index), own).map_err(|error| invalid(&error))?;
        let mtu = interface.device.capabilities().mtu;
        // RFC 791 §3.1: a host takes packets of 68 bytes; RFC 8200 §5: links of IPv6 carry 1280.
        let networks = || interface.addresses.iter().chain(&interface.any_ip);
        let floor = if networks().any(|cidr| cidr.address().is_ipv6()) { 1280 } else { 68 };
        if mtu < floor {
            let name = name_of(interface, index);
            return Err(invalid(&format!("the MTU of `{name}` is {mtu}, under the {floor} that IP needs")));
        }
    }
    Ok(())
}

fn name_of(interface: &Interface, index: usize) -> String {
    interface.name.clone().unwrap_or_else(|| format!("net{index}"))
}

pub(super) fn links_of(interface: &Interface) -> Links {
    Links {
        addresses: interface.addresses.clone(),
        any_ip: interface.any_ip.clone(),
        routes: interface.gateways.iter().map(|gateway| default_route(*gateway)).collect(),
        down: false,
    }
}

/// The default route of the family of `gateway`.
pub(super) fn default_route(gateway: IpAddr) -> IpRoute {
    let all = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let all = Cidr::new(all, 0).expect("no prefix is too long by zero bits");
    IpRoute { gateway: Some(gateway), ..IpRoute::to(all) }
}

fn invalid(error: &dyn fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error.to_string())
}
