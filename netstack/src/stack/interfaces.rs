//! The interfaces of a running stack: devices, their queues and their failures.

use super::flow::QueueId;
use super::iface::Interface;
use super::ip_route::IpRoute;
use super::routes::Links;
use crate::device::{Capabilities, Device, Loopback};
use crate::error::{Failure, os};
use crate::ip::{Addresses, Cidr};
use crate::sync::{Growing, Rank, RwLock};
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The MTU of the loopback interface: as much as an IP packet can be. Linux has one byte more.
const LOOPBACK_MTU: usize = 65_535;

/// Interfaces that a stack has in its life, at most: the number of one that was removed is not given to another,
/// so that no socket is limited to an interface that it was not meant for.
pub(super) const MAX_INTERFACES: usize = Growing::<Attached>::MAX_ADDED;

/// All interfaces of one stack.
pub(super) struct Interfaces {
    attached: Growing<Attached>,
    /// The queues of all interfaces, by their number.
    queues: Growing<QueueId>,
    /// The interface whose device was gone first.
    first_failed: OnceLock<u16>,
}

/// An interface in use.
pub(super) struct Attached {
    name: String,
    device: Held,
    capabilities: Capabilities,
    /// The number of its first queue in [`Interfaces::queues`].
    first_queue: usize,
    /// Bytes of the longest packet; no IP packet is longer than its length field can say.
    mtu: AtomicUsize,
    /// It was taken down, or removed.
    down: AtomicBool,
    removed: AtomicBool,
    /// Set once the device is gone.
    failure: OnceLock<Failure>,
}

/// The device of an interface.
enum Held {
    /// From the beginning of the stack to its end: nothing is locked to look at it.
    Given(Arc<dyn Device>),
    /// Of an interface that was added, until it is removed.
    Added(RwLock<Option<Arc<dyn Device>>>),
}

impl Attached {
    fn new(name: String, device: Held, capabilities: Capabilities, first_queue: usize) -> Self {
        Self {
            name,
            device,
            capabilities,
            first_queue,
            mtu: AtomicUsize::new(capabilities.mtu.min(usize::from(u16::MAX))),
            down: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Calls `f` with the device, which calls no waker. None if the interface was removed and was not there from
    /// the beginning.
    #[inline]
    pub(super) fn with_device<R>(&self, f: impl FnOnce(&dyn Device) -> R) -> Option<R> {
        match &self.device {
            Held::Given(device) => Some(f(device.as_ref())),
            Held::Added(device) => device.read().as_deref().map(f),
        }
    }

    /// The number of one of its queues in [`Interfaces::queues`].
    #[inline]
    pub(super) fn number_of(&self, queue: QueueId) -> usize {
        self.first_queue + usize::from(queue.queue)
    }
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
            let name = name_of(&interface, index);
            attached.push(Attached::new(name, Held::Given(interface.device), capabilities, queues.len()));
            let of_device = 0..capabilities.queues.max(1) as u16;
            queues.extend(of_device.map(|queue| QueueId { interface: index as u16, queue }));
        }
        let (attached, queues) = (Growing::new(attached), Growing::new(queues));
        Self { attached, queues, first_failed: OnceLock::new() }
    }

    /// Takes one more into use. The caller adds one at a time, and none that does not fit.
    pub(super) fn attach(&self, name: String, device: Arc<dyn Device>) {
        let capabilities = device.capabilities();
        let (interface, first_queue) = (self.len(), self.queues.len());
        for queue in 0..capabilities.queues.max(1) as u16 {
            self.queues.push(QueueId { interface, queue });
        }
        let device = Held::Added(RwLock::new(Rank::Attachment, Some(device)));
        self.attached.push(Attached::new(name, device, capabilities, first_queue));
    }

    /// Whether there is room for one more with so many queues.
    pub(super) fn has_room_for(&self, queues: usize) -> bool {
        let room = |len: usize, more: usize| len + more <= MAX_INTERFACES;
        room(self.attached.len(), 1) && room(self.queues.len(), queues.max(1))
    }

    #[inline]
    pub(super) fn get(&self, interface: u16) -> &Attached {
        self.attached.get(interface.into()).expect("interfaces keep their numbers")
    }

    /// The device; none if the interface was removed and was not there from the beginning.
    pub(super) fn device(&self, interface: u16) -> Option<Arc<dyn Device>> {
        match &self.get(interface).device {
            Held::Given(device) => Some(Arc::clone(device)),
            Held::Added(device) => device.read().clone(),
        }
    }

    /// Calls `f` with the device, with no lock held. As [`Interfaces::device`] otherwise.
    pub(super) fn visit_device<R>(&self, interface: u16, f: impl FnOnce(&dyn Device) -> R) -> Option<R> {
        match &self.get(interface).device {
            Held::Given(device) => Some(f(device.as_ref())),
            Held::Added(_) => self.device(interface).map(|device| f(device.as_ref())),
        }
    }

    /// Takes an interface out of use. Its number and its name, for who still asks, stay.
    pub(super) fn set_removed(&self, interface: u16) {
        self.set_down(interface, true);
        self.get(interface).removed.store(true, Ordering::Release);
    }

    /// Lets go of the device of an interface that was removed.
    pub(super) fn detach(&self, interface: u16) -> Option<Arc<dyn Device>> {
        match &self.get(interface).device {
            Held::Given(_) => None,
            Held::Added(device) => device.write().take(),
        }
    }

    pub(super) fn is_removed(&self, interface: u16) -> bool {
        self.get(interface).is_removed()
    }

    pub(super) fn name(&self, interface: u16) -> &str {
        &self.get(interface).name
    }

    pub(super) fn index(&self, name: &str) -> Option<u16> {
        let has_name = |interface: &Attached| interface.name == name && !interface.is_removed();
        self.attached.iter().position(has_name).map(|at| at as u16)
    }

    /// The queues of all interfaces that were not removed.
    pub(super) fn queues(&self) -> impl Iterator<Item = QueueId> {
        self.queues.iter().copied().filter(|queue| !self.is_removed(queue.interface))
    }

    /// The queue with this number.
    pub(super) fn queue(&self, number: usize) -> Option<QueueId> {
        self.queues.get(number).copied()
    }

    /// How many queues there are and were.
    pub(super) fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// The numbers of the queues of an interface.
    pub(super) fn queue_numbers(&self, interface: u16) -> std::ops::Range<usize> {
        let Attached { first_queue, capabilities, .. } = self.get(interface);
        *first_queue..first_queue + capabilities.queues.max(1)
    }

    pub(super) fn queue_number(&self, queue: QueueId) -> usize {
        self.get(queue.interface).number_of(queue)
    }

    pub(super) fn capabilities(&self, interface: u16) -> &Capabilities {
        &self.get(interface).capabilities
    }

    pub(super) fn mtu(&self, interface: u16) -> usize {
        self.get(interface).mtu()
    }

    pub(super) fn set_mtu(&self, interface: u16, mtu: usize) {
        self.get(interface).mtu.store(mtu, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn is_down(&self, interface: u16) -> bool {
        self.get(interface).is_down()
    }

    pub(super) fn set_down(&self, interface: u16, down: bool) {
        self.get(interface).down.store(down, Ordering::Relaxed);
    }

    fn len(&self) -> u16 {
        self.attached.len() as u16
    }

    /// The numbers of those that were not removed.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u16> {
        (0..self.len()).filter(|interface| !self.is_removed(*interface))
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

    /// The interface with this number was removed. What its sockets are told from now on is `cause`.
    pub(super) fn set_cause(&self, interface: u16, cause: &Failure) {
        // One whose device was gone before keeps that cause.
        self.get(interface).failure.get_or_init(|| cause.clone());
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
        check_link(interface, &name_of(interface, index), own)?;
    }
    Ok(())
}

/// Refuses an interface that cannot be added to others. `before` are the addresses without it, and `own` those with
/// it.
pub(super) fn check_added(
    interface: &Interface,
    name: &str,
    before: &Addresses,
    own: &Addresses,
) -> io::Result<()> {
    if let Some(error) = &interface.error {
        return Err(invalid(error));
    }
    let mut addresses = HashSet::new();
    for cidr in &interface.addresses {
        if before.owner(cidr.address()).is_some() || !addresses.insert(cidr.address()) {
            return Err(os(libc::EEXIST));
        }
        if own.owner(cidr.address()).is_none() {
            return Err(invalid(&format!("{cidr} is not the address of a host")));
        }
    }
    check_link(interface, name, own)
}

/// Refuses gateways that the device could not find, and an MTU that is too small.
fn check_link(interface: &Interface, name: &str, own: &Addresses) -> io::Result<()> {
    interface.check_gateways(name, own).map_err(|error| invalid(&error))?;
    let mtu = interface.device.capabilities().mtu;
    // RFC 791 §3.1: a host takes packets of 68 bytes; RFC 8200 §5: links of IPv6 carry 1280.
    let networks = || interface.addresses.iter().chain(&interface.any_ip);
    let floor = if networks().any(|cidr| cidr.address().is_ipv6()) { 1280 } else { 68 };
    if mtu < floor {
        return Err(invalid(&format!("the MTU of `{name}` is {mtu}, under the {floor} that IP needs")));
    }
    Ok(())
}

pub(super) fn name_of(interface: &Interface, index: usize) -> String {
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
