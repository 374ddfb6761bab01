//! Options of a UDP socket.

use super::UdpSocket;
use crate::ip::PacketOptions;
use crate::net::options::ip::{
    ForeignAddresses, HasIpOptions, IpChange, IpValues, byte_from, former_names_of_tos, ip_options,
};
use crate::net::options::tcp::{recv_buffer_from, send_buffer_from};
use crate::stack::Family;
use crate::udp::UdpOptions;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The names of tokio, and what is told of what is received.
impl UdpSocket {
    /// `IP_TTL`, of packets over IPv4 to single hosts. Default 64.
    pub fn ttl(&self) -> io::Result<u32> {
        self.ttl_v4()
    }

    /// Sets `IP_TTL`.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.set_ttl_v4(ttl)
    }

    /// `IP_RECVTOS`. Default false.
    pub fn recv_tos_v4(&self) -> io::Result<bool> {
        Ok(self.options().recv_tos)
    }

    /// Sets `IP_RECVTOS`: whether [`RecvMeta::traffic_class`](crate::net::udp::RecvMeta::traffic_class) tells the
    /// type of service of what comes over IPv4. The ECN field is always told.
    pub fn set_recv_tos_v4(&self, recv_tos: bool) -> io::Result<()> {
        self.change(|options| options.recv_tos = recv_tos)
    }

    /// `IPV6_RECVTCLASS`. Default false.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for an IPv4 socket.
    pub fn recv_tclass_v6(&self) -> io::Result<bool> {
        self.readable_v6()?;
        Ok(self.options().recv_tclass)
    }

    /// Sets `IPV6_RECVTCLASS`: whether [`RecvMeta::traffic_class`](crate::net::udp::RecvMeta::traffic_class) tells the
    /// traffic class of what comes over IPv6. The ECN field is always told.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_recv_tclass_v6(&self, recv_tclass: bool) -> io::Result<()> {
        self.settable_v6()?;
        self.change(|options| options.recv_tclass = recv_tclass)
    }
}

/// Buffers.
impl UdpSocket {
    /// `SO_RCVBUF` in bytes of memory: twice what was set, as Linux reports it, or
    /// [`Config::datagram_recv_buffer`](crate::Config::datagram_recv_buffer).
    pub fn recv_buffer_size(&self) -> io::Result<u32> {
        Ok(u32::try_from(self.endpoint.cell.recv_buffer()).unwrap_or(u32::MAX))
    }

    /// Sets `SO_RCVBUF`. Linux doubles it, since what holds a datagram takes memory as well, and so does this;
    /// the limit then is one of memory.
    pub fn set_recv_buffer_size(&self, size: u32) -> io::Result<()> {
        self.endpoint.cell.set_recv_buffer(2 * recv_buffer_from(size, self.core().config()));
        Ok(())
    }

    /// `SO_SNDBUF` in bytes: twice what was set, as Linux reports it, or
    /// [`Config::datagram_send_buffer`](crate::Config::datagram_send_buffer).
    pub fn send_buffer_size(&self) -> io::Result<u32> {
        Ok(u32::try_from(self.endpoint.cell.send_buffer()).unwrap_or(u32::MAX))
    }

    /// Sets `SO_SNDBUF`: how much may wait for a device, doubled as in Linux.
    pub fn set_send_buffer_size(&self, size: u32) -> io::Result<()> {
        self.endpoint.cell.set_send_buffer(2 * send_buffer_from(size, self.core().config()));
        Ok(())
    }
}

/// Broadcast and multicast.
impl UdpSocket {
    /// `SO_BROADCAST`. Default false.
    pub fn broadcast(&self) -> io::Result<bool> {
        Ok(self.options().broadcast)
    }

    /// Sets `SO_BROADCAST`: whether the socket may send to broadcast addresses.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.change(|options| options.broadcast = on)
    }

    /// `IP_MULTICAST_LOOP`. Default true.
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        Ok(self.options().multicast_loop_v4)
    }

    /// Sets `IP_MULTICAST_LOOP`: whether members in this stack get what the socket sends to their group.
    pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()> {
        self.change(|options| options.multicast_loop_v4 = on)
    }

    /// `IP_MULTICAST_TTL`. Default 1.
    pub fn multicast_ttl_v4(&self) -> io::Result<u32> {
        Ok(self.options().multicast_ttl.into())
    }

    /// Sets `IP_MULTICAST_TTL`. With 0, what is sent to a group stays in the stack. `u32::MAX` sets the default, as
    /// −1 does in Linux.
    ///
    /// # Errors
    /// `EINVAL` if it is more than 255.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        let ttl = byte_from(ttl, 1)?;
        self.change(|options| options.multicast_ttl = ttl)
    }

    /// `IPV6_MULTICAST_LOOP`. Default true.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for an IPv4 socket.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.readable_v6()?;
        Ok(self.options().multicast_loop_v6)
    }

    /// Sets `IPV6_MULTICAST_LOOP`: whether members in this stack get what the socket sends to their group.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> {
        self.settable_v6()?;
        self.change(|options| options.multicast_loop_v6 = on)
    }

    /// `IPV6_MULTICAST_HOPS`. Default 1.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for an IPv4 socket.
    pub fn multicast_hops_v6(&self) -> io::Result<u32> {
        self.readable_v6()?;
        Ok(self.options().multicast_hops.into())
    }

    /// Sets `IPV6_MULTICAST_HOPS`. With 0, what is sent to a group stays in the stack. `u32::MAX` sets the default, as
    /// −1 does in Linux.
    ///
    /// # Errors
    /// `EINVAL` if it is more than 255; `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_multicast_hops_v6(&self, hops: u32) -> io::Result<()> {
        self.settable_v6()?;
        let hops = byte_from(hops, 1)?;
        self.change(|options| options.multicast_hops = hops)
    }

    /// `IP_MULTICAST_IF`: an address of the interface; 0.0.0.0 if it is not set.
    pub fn multicast_if_v4(&self) -> io::Result<Ipv4Addr> {
        Ok(self.udp().multicast_if_v4(self.core(), &self.endpoint.cell))
    }

    /// Sets `IP_MULTICAST_IF`: what is sent to IPv4 groups leaves through the interface with this address.
    /// 0.0.0.0 removes the setting.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if no interface has the address.
    pub fn set_multicast_if_v4(&self, interface: &Ipv4Addr) -> io::Result<()> {
        self.udp().set_multicast_if_v4(self.core(), &self.endpoint.cell, *interface)
    }

    /// `IPV6_MULTICAST_IF`: the number of the interface; 0 if it is not set.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn multicast_if_v6(&self) -> io::Result<u32> {
        self.udp().multicast_if_v6(&self.endpoint.cell)
    }

    /// Sets `IPV6_MULTICAST_IF`: what is sent to IPv6 groups leaves through the interface with this number. 0
    /// removes the setting.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface; `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_multicast_if_v6(&self, interface: u32) -> io::Result<()> {
        self.udp().set_multicast_if_v6(self.core(), &self.endpoint.cell, interface)
    }

    /// `IP_MULTICAST_ALL` and `IPV6_MULTICAST_ALL`. Default true.
    pub fn multicast_all(&self) -> io::Result<bool> {
        Ok(self.options().multicast_all)
    }

    /// Sets `IP_MULTICAST_ALL` and `IPV6_MULTICAST_ALL`: whether the socket gets what is sent to groups that only
    /// others in this stack have joined.
    pub fn set_multicast_all(&self, all: bool) -> io::Result<()> {
        self.change(|options| options.multicast_all = all)
    }

    /// Joins an IPv4 group on the interface with the address `interface`, or on the one that leads to groups if
    /// that is 0.0.0.0.
    ///
    /// # Errors
    /// `EINVAL` if it is no group; `ENODEV` if no interface has the address; `EADDRINUSE` if the socket has
    /// joined it; `ENOBUFS` if it has joined 20 groups.
    pub fn join_multicast_v4(&self, multiaddr: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.udp().join_v4(self.core(), &self.endpoint.cell, multiaddr, interface)
    }

    /// Joins an IPv6 group on the interface with the number `interface`, or on the one that leads to groups if
    /// that is 0.
    ///
    /// # Errors
    /// As [`UdpSocket::join_multicast_v4`]; `ENOPROTOOPT` for an IPv4 socket.
    pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.udp().join_v6(self.core(), &self.endpoint.cell, *multiaddr, interface)
    }

    /// Leaves an IPv4 group.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if the socket has not joined it.
    pub fn leave_multicast_v4(&self, multiaddr: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.udp().leave_v4(self.core(), &self.endpoint.cell, multiaddr, interface)
    }

    /// Leaves an IPv6 group.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if the socket has not joined it; `ENOPROTOOPT` for an IPv4 socket.
    pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.udp().leave_v6(self.core(), &self.endpoint.cell, *multiaddr, interface)
    }

    fn options(&self) -> UdpOptions {
        self.endpoint.cell.options()
    }

    fn change(&self, change: impl FnOnce(&mut UdpOptions)) -> io::Result<()> {
        self.endpoint.cell.with_options(change);
        Ok(())
    }
}

impl HasIpOptions for UdpSocket {
    fn family(&self) -> Family {
        self.endpoint.cell.family()
    }

    fn is_stream(&self) -> bool {
        false
    }

    fn values(&self) -> IpValues {
        let cell = &self.endpoint.cell;
        let UdpOptions { mtu_discover, owner, .. } = cell.options();
        let (freebind, transparent) = (cell.freebind(), cell.transparent());
        IpValues { ip: cell.ip_options(), mtu_discover, freebind, transparent, owner }
    }

    fn change_packets(&self, change: impl FnOnce(&mut PacketOptions)) {
        self.endpoint.cell.change_packets(change);
    }

    fn change_ip(&self, change: IpChange<'_>) -> io::Result<()> {
        let cell = &self.endpoint.cell;
        match change {
            IpChange::ReuseAddress(on) => self.udp().set_reuse_address(cell, on),
            IpChange::ReusePort(on) => self.udp().set_reuse_port(cell, on),
            IpChange::OnlyV6(on) => cell.set_only_v6(on)?,
            IpChange::Device(name) => self.udp().bind_device(self.core(), cell, name)?,
            IpChange::MtuDiscover(mode) => cell.with_options(|options| options.mtu_discover = mode),
            IpChange::Foreign(ForeignAddresses::Freebind, on) => cell.set_freebind(on),
            IpChange::Foreign(ForeignAddresses::Transparent, on) => cell.set_transparent(on),
            IpChange::Owner(owner) => cell.with_options(|options| options.owner = owner),
        }
        Ok(())
    }

    fn interface_name(&self, interface: u16) -> Vec<u8> {
        self.core().interface_name(interface).as_bytes().to_vec()
    }

    fn default_ttl(&self) -> u8 {
        self.core().config().default_ttl
    }

    fn path_mtu(&self) -> Option<usize> {
        let stack = &self.endpoint.stack;
        stack.engine().with_udp(stack.now(), |udp, turn| udp.path_mtu(turn, &self.endpoint.cell))
    }
}

ip_options!(
    UdpSocket,
    "To set it before binding, use [`UnboundUdpSocket`](crate::net::udp::UnboundUdpSocket)."
);
former_names_of_tos!(UdpSocket);
