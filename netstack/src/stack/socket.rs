//! The common part of the sockets of all protocols, with Linux's rules for binding.

use super::core::Core;
use super::flow::{Family, present};
use super::ports::{Binding, Claim, PortError, Ports};
use crate::error::os;
use crate::ip::{AddressKind, PacketOptions};
use crate::sync::atomic::{AtomicU32, Ordering};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// The options of the IP layer that a socket keeps when it has connected or listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpOptions {
    /// What is set for the packets that it sends.
    pub packets: PacketOptions,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `IPV6_V6ONLY`.
    pub only_v6: bool,
    /// The index of the interface that the socket is bound to (`SO_BINDTODEVICE`).
    pub interface: Option<u16>,
}

/// The interface that a socket is bound to, for those who look at it without the lock of the socket.
#[derive(Debug)]
pub(super) struct BoundInterface(AtomicU32);

impl BoundInterface {
    /// What stands for no interface: numbers of interfaces have 16 bits.
    const NONE: u32 = u32::MAX;

    pub(super) fn new(interface: Option<u16>) -> Self {
        Self(AtomicU32::new(Self::bits(interface)))
    }

    #[inline]
    pub(super) fn get(&self) -> Option<u16> {
        u16::try_from(self.0.load(Ordering::Relaxed)).ok()
    }

    pub(super) fn set(&self, interface: Option<u16>) {
        self.0.store(Self::bits(interface), Ordering::Relaxed);
    }

    /// Whether what comes in on `interface` is for the socket.
    #[inline]
    pub(super) fn takes_from(&self, interface: u16) -> bool {
        let bound = self.0.load(Ordering::Relaxed);
        bound == Self::NONE || bound == u32::from(interface)
    }

    fn bits(interface: Option<u16>) -> u32 {
        interface.map_or(Self::NONE, u32::from)
    }
}

/// The IP part of a socket. Dropping it releases its port.
#[derive(Debug)]
pub struct IpSocket {
    reuse_address: bool,
    reuse_port: bool,
    /// What is set for the packets that it sends.
    pub packets: PacketOptions,
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
            packets: PacketOptions::new(core.config().default_ttl),
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

    /// The options.
    pub fn options(&self) -> IpOptions {
        let Self { packets, reuse_address, reuse_port, only_v6, interface, .. } = *self;
        IpOptions { packets, reuse_address, reuse_port, only_v6, interface }
    }

    /// Sets `SO_REUSEADDR`: sockets that all have it share a port as long as none of them listens. Of a socket that
    /// is bound, it decides about those that are bound later. Default off.
    pub fn set_reuse_address(&mut self, reuse: bool) {
        self.reuse_address = reuse;
        if let Some(binding) = &mut self.binding {
            binding.set_reuse_address(reuse);
        }
    }

    /// Sets `SO_REUSEPORT`: sockets that all have it share a port. Of a socket that is bound, it decides about
    /// those that are bound later. Default off.
    pub fn set_reuse_port(&mut self, reuse: bool) {
        self.reuse_port = reuse;
        if let Some(binding) = &mut self.binding {
            binding.set_reuse_port(reuse);
        }
    }

    /// `IPV6_V6ONLY`. On once the socket is bound to an IPv6 address that is neither unspecified nor IPv4-mapped.
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
        self.limit_to(interface_of(core, name)?);
        Ok(())
    }

    /// Binds the socket to the interface with this number, or to none.
    pub(super) fn limit_to(&mut self, interface: Option<u16>) {
        self.interface = interface;
        if let Some(binding) = &mut self.binding {
            binding.limit_to(interface);
        }
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
        // __inet6_bind in Linux.
        self.only_v6 |= ip.is_ipv6() && !ip.is_unspecified();
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
            SocketAddr::V6(v6) => is_on_link(*v6.ip()) && v6.scope_id() == 0 && self.interface.is_none(),
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

/// Whether an address means something on one link only (`__ipv6_addr_needs_scope_id` in Linux).
pub(super) fn is_on_link(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local() || matches!(address.segments()[0] & 0xff0f, 0xff01 | 0xff02)
}

/// The interface `name`; none without a name.
///
/// # Errors
/// `ENODEV` if there is no such interface.
pub(super) fn interface_of(core: &Core, name: Option<&str>) -> io::Result<Option<u16>> {
    match name {
        None | Some("") => Ok(None),
        Some(name) => core.interface_index(name).map(Some).ok_or_else(|| os(libc::ENODEV)),
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
