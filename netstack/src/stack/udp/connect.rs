//! Connecting: the peer that a socket sends to, and from whom alone it receives.

use super::Udp;
use super::cell::{Peer, UdpCell};
use super::routing::find_way;
use super::way::Target;
use crate::error::os;
use crate::stack::core::Core;
use crate::stack::flow::Family;
use crate::stack::socket::IpSocket;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

impl Udp {
    /// Connects a socket to a peer, or to another peer. Nothing is sent. From now on it gets only what the
    /// peer sends, and ICMP errors; what waits to be read stays.
    ///
    /// # Errors
    /// `EAFNOSUPPORT`, `ENETUNREACH`; `EACCES` for a broadcast address without `SO_BROADCAST`; `EINVAL` for a
    /// link-local address without a scope; the error of the device.
    pub fn connect(&self, core: &Core, cell: &Arc<UdpCell>, address: SocketAddr) -> io::Result<()> {
        core.check_alive()?;
        cell.hold(|state| {
            if !state.is_open() {
                return Err(os(libc::EBADF));
            }
            let by_group = address.ip().is_multicast() && state.group_interface(Family::V6).is_some();
            if state.ip().lacks_scope(address) && !by_group {
                return Err(os(libc::EINVAL));
            }
            let way = find_way(core, state, &Target { address, source: None })?;
            if let Some(failure) = core.interface_failure(way.interface) {
                return Err(failure.into());
            }
            let from = state.place();
            let peer = Peer { address: way.remote, interface: way.interface, source: way.source };
            state.set_peer(peer);
            self.table.move_to(cell, &from, state.place());
            Ok(())
        })
    }

    /// Binds a socket to the interface `name` (`SO_BINDTODEVICE`), or removes the binding.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface.
    pub fn bind_device(&self, core: &Core, cell: &Arc<UdpCell>, name: Option<&str>) -> io::Result<()> {
        self.change_place(cell, |ip| ip.bind_device(core, name))
    }

    /// Sets `SO_REUSEADDR`, for sockets that are bound to the port later.
    pub fn set_reuse_address(&self, cell: &Arc<UdpCell>, reuse: bool) {
        self.change_place(cell, |ip| ip.set_reuse_address(reuse));
    }

    /// Sets `SO_REUSEPORT`, for sockets that are bound to the port later, and for whether the datagrams of those that
    /// share it are spread over them.
    pub fn set_reuse_port(&self, cell: &Arc<UdpCell>, reuse: bool) {
        self.change_place(cell, |ip| ip.set_reuse_port(reuse));
    }

    /// Changes something on which the place of a socket in the table depends.
    fn change_place<R>(&self, cell: &Arc<UdpCell>, change: impl FnOnce(&mut IpSocket) -> R) -> R {
        cell.hold(|state| {
            let from = state.place();
            let changed = change(state.ip_mut());
            if state.is_open() {
                self.table.move_to(cell, &from, state.place());
            }
            changed
        })
    }
}
