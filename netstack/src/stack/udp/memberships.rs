//! The groups of a socket.

use super::Udp;
use super::cell::{Membership, UdpCell};
use super::routing::interface_of;
use crate::error::os;
use crate::stack::core::Core;
use crate::stack::flow::Family;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Groups that a socket may join (`igmp_max_memberships`).
const MAX_MEMBERSHIPS: usize = 20;

impl Udp {
    /// Joins an IPv4 group, on the interface with an address of the stack, or on the one that leads to the
    /// group for the unspecified address.
    ///
    /// # Errors
    /// `EINVAL` if it is no group; `ENODEV` if no interface has the address; `EADDRINUSE` if the socket has
    /// joined it; `ENOBUFS` if it has joined as many as it may.
    pub fn join_v4(&self, core: &Core, cell: &UdpCell, group: Ipv4Addr, on: Ipv4Addr) -> io::Result<()> {
        let interface = interface_v4(core, group.into(), on)?;
        join(core, cell, Membership { group: group.into(), interface })
    }

    /// Joins an IPv6 group, on the interface with a number that counts from one, or on the one that leads to
    /// the group for 0.
    ///
    /// # Errors
    /// As [`Udp::join_v4`]; `ENOPROTOOPT` for an IPv4 socket.
    pub fn join_v6(&self, core: &Core, cell: &UdpCell, group: Ipv6Addr, on: u32) -> io::Result<()> {
        ensure_v6(cell)?;
        let interface = interface_v6(core, group.into(), on)?;
        join(core, cell, Membership { group: group.into(), interface })
    }

    /// Leaves an IPv4 group.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if the socket has not joined it.
    pub fn leave_v4(&self, core: &Core, cell: &UdpCell, group: Ipv4Addr, on: Ipv4Addr) -> io::Result<()> {
        let on = if on.is_unspecified() { None } else { Some(interface_v4(core, group.into(), on)?) };
        leave(core, cell, group.into(), on)
    }

    /// Leaves an IPv6 group.
    ///
    /// # Errors
    /// As [`Udp::leave_v4`]; `ENOPROTOOPT` for an IPv4 socket.
    pub fn leave_v6(&self, core: &Core, cell: &UdpCell, group: Ipv6Addr, on: u32) -> io::Result<()> {
        ensure_v6(cell)?;
        let on = if on == 0 { None } else { Some(interface_v6(core, group.into(), on)?) };
        leave(core, cell, group.into(), on)
    }

    /// Sets the interface that packets to IPv4 groups leave through (`IP_MULTICAST_IF`), by an address of
    /// it. The unspecified address removes the setting.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if no interface has the address.
    pub fn set_multicast_if_v4(&self, core: &Core, cell: &UdpCell, on: Ipv4Addr) -> io::Result<()> {
        let interface = if on.is_unspecified() {
            None
        } else {
            Some(core.addresses().owner(on.into()).ok_or_else(|| os(libc::EADDRNOTAVAIL))?)
        };
        cell.hold(|state| state.set_group_interface(Family::V4, interface));
        Ok(())
    }

    /// Sets the interface that packets to IPv6 groups leave through (`IPV6_MULTICAST_IF`), by its number,
    /// which counts from one. 0 removes the setting.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface; `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_multicast_if_v6(&self, core: &Core, cell: &UdpCell, on: u32) -> io::Result<()> {
        ensure_v6(cell)?;
        let interface = if on == 0 { None } else { Some(interface_of(core, on)?) };
        cell.hold(|state| state.set_group_interface(Family::V6, interface));
        Ok(())
    }

    /// The interface of [`Udp::set_multicast_if_v6`]; 0 if it is not set.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn multicast_if_v6(&self, cell: &UdpCell) -> io::Result<u32> {
        ensure_v6(cell)?;
        Ok(cell.hold(|state| state.group_interface(Family::V6)).map_or(0, |index| u32::from(index) + 1))
    }

    /// An address of the interface of [`Udp::set_multicast_if_v4`]; the unspecified one if it is not set.
    pub fn multicast_if_v4(&self, core: &Core, cell: &UdpCell) -> Ipv4Addr {
        let interface = cell.hold(|state| state.group_interface(Family::V4));
        let first = interface.and_then(|interface| core.routes().first_v4(interface));
        first.unwrap_or(Ipv4Addr::UNSPECIFIED)
    }
}

/// Fails unless it is an IPv6 socket.
pub(super) fn ensure_v6(cell: &UdpCell) -> io::Result<()> {
    if cell.family() == Family::V6 { Ok(()) } else { Err(os(libc::ENOPROTOOPT)) }
}

fn interface_v4(core: &Core, group: IpAddr, on: Ipv4Addr) -> io::Result<u16> {
    if on.is_unspecified() {
        return by_route(core, group);
    }
    if !group.is_multicast() {
        return Err(os(libc::EINVAL));
    }
    core.addresses().owner(on.into()).ok_or_else(|| os(libc::ENODEV))
}

fn interface_v6(core: &Core, group: IpAddr, on: u32) -> io::Result<u16> {
    if !group.is_multicast() {
        return Err(os(libc::EINVAL));
    }
    if on == 0 { by_route(core, group) } else { interface_of(core, on) }
}

/// The interface that leads to a group.
fn by_route(core: &Core, group: IpAddr) -> io::Result<u16> {
    if !group.is_multicast() {
        return Err(os(libc::EINVAL));
    }
    let route = core.routes().lookup_any(core.addresses(), group, None, None);
    route.map(|route| route.interface).ok_or_else(|| os(libc::ENODEV))
}

fn join(core: &Core, cell: &UdpCell, membership: Membership) -> io::Result<()> {
    cell.hold(|state| {
        if !state.is_open() {
            return Err(os(libc::EBADF));
        }
        if state.memberships().contains(&membership) {
            return Err(os(libc::EADDRINUSE));
        }
        if state.memberships().len() >= MAX_MEMBERSHIPS {
            return Err(os(libc::ENOBUFS));
        }
        state.rare_mut().memberships.push(membership);
        core.groups().join(membership.group, membership.interface);
        Ok(())
    })
}

/// Leaves a group on one interface, or on any.
fn leave(core: &Core, cell: &UdpCell, group: IpAddr, on: Option<u16>) -> io::Result<()> {
    cell.hold(|state| {
        let is_it = |one: &Membership| one.group == group && on.is_none_or(|on| on == one.interface);
        let at = state.memberships().iter().position(is_it).ok_or_else(|| os(libc::EADDRNOTAVAIL))?;
        let membership = state.rare_mut().memberships.swap_remove(at);
        core.groups().leave(membership.group, membership.interface);
        Ok(())
    })
}
