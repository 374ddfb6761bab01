//! The common part of the sockets of all protocols, with Linux's rules for binding.

use super::core::Core;
use super::flow::{Family, present};
use super::ports::{Binding, Claim, PortError, Ports};
use crate::error::os;
use crate::ip::AddressKind;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The IP part of a socket. Dropping it releases its port.
#[derive(Debug)]
pub struct IpSocket {
    /// `SO_REUSEADDR`. Applies when binding. Default off.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`. Applies when binding. Default off.
    pub reuse_port: bool,
    /// `IP_TTL`, or the hop limit.
    pub ttl: u8,
    /// `IP_TOS` or `IPV6_TCLASS`; the two ECN bits are not used. Default 0.
    pub traffic_class: u8,
    /// `IP_FREEBIND`: it can be bound to the address of another host. Default off.
    pub freebind: bool,
    /// `IP_TRANSPARENT`: it can be bound to the address of another host and send from it. Default off.
    pub transparent: bool,
    family: Family,
    only_v6: bool,
    interface: Option<u16>,
    binding: Option<Binding>,
    /// Bound to an IPv4-mapped address.
    mapped: bool,
}

impl IpSocket {
    /// A socket with default options.
    pub fn new(core: &Core, family: Family) -> Self {
        Self {
            reuse_address: false,
            reuse_port: false,
            ttl: core.config().default_ttl,
            traffic_class: 0,
            freebind: false,
            transparent: false,
            family,
            only_v6: false,
            interface: None,
            binding: None,
            mapped: false,
        }
    }

    /// The address family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// `IPV6_V6ONLY`.
    pub fn only_v6(&self) -> bool {
        self.only_v6
    }

    /// Sets `IPV6_V6ONLY`.
    ///
    /// # Errors
    /// `EINVAL` once bound; `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_only_v6(&mut self, only: bool) -> io::Result<()> {
        match self.family {
            Family::V4 => Err(os(libc::ENOPROTOOPT)),
            Family::V6 if self.binding.is_some() => Err(os(libc::EINVAL)),
            Family::V6 => {
                self.only_v6 = only;
                Ok(())
            }
        }
    }

    /// The index of the interface that the socket is bound to (`SO_BINDTODEVICE`).
    pub fn interface(&self) -> Option<u16> {
        self.interface
    }

    /// Binds the socket to the interface `name`, or removes the binding.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface.
    pub fn bind_device(&mut self, core: &Core, name: Option<&str>) -> io::Result<()> {
        self.interface = match name {
            None | Some("") => None,
            Some(name) => Some(core.interface_index(name).ok_or_else(|| os(libc::ENODEV))?),
        };
        Ok(())
    }

    /// Binds the socket to the interface with this number, or to none.
    pub(super) fn limit_to(&mut self, interface: Option<u16>) {
        self.interface = interface;
    }

    /// Binds the socket: reserves the port, or one of the automatic ones for port 0.
    ///
    /// # Errors
    /// `EINVAL` if it is bound already, for a stream to an IPv6 group and for a link-local address without a
    /// scope, `EAFNOSUPPORT` for an address of the other family, `EADDRNOTAVAIL` for an address that is not
    /// the stack's unless [`IpSocket::freebind`] or [`IpSocket::transparent`] is set, `EADDRINUSE`.
    pub(super) fn bind(
        &mut self,
        core: &Core,
        ports: &Arc<Ports>,
        address: SocketAddr,
        kind: SocketKind,
    ) -> io::Result<()> {
        core.check_alive()?;
        if self.binding.is_some() {
            return Err(os(libc::EINVAL));
        }
        let (ip, mapped) = self.wire_address(address.ip()).ok_or_else(|| {
            // IPV6_V6ONLY refuses a mapped address in another way than a foreign family.
            let same_family = address.is_ipv6() && self.family == Family::V6;
            os(if same_family { libc::EINVAL } else { libc::EAFNOSUPPORT })
        })?;
        if self.lacks_scope(address) {
            return Err(os(libc::EINVAL));
        }
        self.check_bindable(core, ip, kind)?;
        let claim = Claim {
            address: ip,
            dual_stack: ip.is_ipv6() && ip.is_unspecified() && !self.only_v6,
            interface: self.interface,
            reuse_address: self.reuse_address,
            reuse_port: self.reuse_port,
            listening: false,
            by_connect: false,
        };
        let binding = match address.port() {
            0 => ports.bind_any(core.random(), claim),
            port => ports.bind(port, claim),
        };
        // bind(2): EADDRINUSE also if all automatic ports are.
        self.binding = Some(binding.map_err(|error| match error {
            PortError::InUse | PortError::Exhausted => os(libc::EADDRINUSE),
        })?);
        self.mapped = mapped;
        Ok(())
    }

    /// The address that the socket is bound to; the unspecified address with port 0 if it is not
    /// bound.
    pub fn local_addr(&self) -> SocketAddr {
        match &self.binding {
            Some(binding) => SocketAddr::new(present(binding.claim().address, self.mapped), binding.port()),
            None => SocketAddr::new(self.family.unspecified(), 0),
        }
    }

    /// Whether the socket can be bound to `address`, as inet_bind and inet6_bind in Linux decide: over IPv4
    /// to groups too, from which a stream gets nothing and which are no source.
    fn check_bindable(&self, core: &Core, address: IpAddr, kind: SocketKind) -> io::Result<()> {
        match (address, core.addresses().classify(address, self.interface)) {
            (IpAddr::V6(_), AddressKind::Multicast) if kind == SocketKind::Datagrams => Ok(()),
            (IpAddr::V6(_), AddressKind::Multicast) => Err(os(libc::EINVAL)),
            (IpAddr::V4(_), AddressKind::Multicast | AddressKind::Broadcast) => Ok(()),
            (_, kind) if kind.is_local() || self.freebind || self.transparent => Ok(()),
            _ if address.is_unspecified() => Ok(()),
            _ => Err(os(libc::EADDRNOTAVAIL)),
        }
    }

    /// An address that the socket is bound to, as the source of packets; none if another has to be chosen,
    /// because a group is no source, and neither is the unspecified address.
    ///
    /// # Errors
    /// `ENETUNREACH` for an IPv4 address that the stack does not have, unless [`IpSocket::transparent`] is
    /// set: binding with `IP_FREEBIND` is not enough to send (ip_route_output_key_hash_rcu in Linux). `EINVAL`
    /// for an address of no host.
    pub(super) fn usable_source(&self, core: &Core, address: IpAddr) -> io::Result<Option<IpAddr>> {
        match core.addresses().classify(address, self.interface) {
            kind if kind.is_local() => Ok(Some(address)),
            AddressKind::Multicast | AddressKind::Broadcast => Ok(None),
            _ if address.is_unspecified() => Ok(None),
            // It was bound to the address of another host; or the address was removed.
            _ if address.is_ipv4() && !self.transparent => Err(os(libc::ENETUNREACH)),
            AddressKind::NoHost => Err(os(libc::EINVAL)),
            _ => Ok(Some(address)),
        }
    }

    /// An address as it is on the wire, and whether it is one that this socket shows in the mapped
    /// form; none if the socket cannot have it.
    pub(crate) fn wire_address(&self, address: IpAddr) -> Option<(IpAddr, bool)> {
        match (self.family, address) {
            (Family::V4, IpAddr::V4(_)) => Some((address, false)),
            (Family::V6, IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
                Some(_) if self.only_v6 => None,
                Some(v4) => Some((v4.into(), true)),
                None => Some((address, false)),
            },
            (Family::V4, IpAddr::V6(_)) | (Family::V6, IpAddr::V4(_)) => None,
        }
    }

    /// Whether `address` means something on one link only, and nobody says on which.
    pub(super) fn lacks_scope(&self, address: SocketAddr) -> bool {
        match address {
            SocketAddr::V6(v6) => {
                v6.ip().is_unicast_link_local() && v6.scope_id() == 0 && self.interface.is_none()
            }
            SocketAddr::V4(_) => false,
        }
    }

    pub(crate) fn is_mapped(&self) -> bool {
        self.mapped
    }

    pub(crate) fn take_binding(&mut self) -> Option<Binding> {
        self.binding.take()
    }

    pub(crate) fn binding(&self) -> Option<&Binding> {
        self.binding.as_ref()
    }
}

/// What a socket carries (`SOCK_STREAM` or `SOCK_DGRAM`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketKind {
    /// A stream, between two hosts.
    Stream,
    /// Datagrams, also to and from groups.
    Datagrams,
}
