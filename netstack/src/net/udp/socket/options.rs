//! Options of a UDP socket.

use super::UdpSocket;
use crate::config::MtuDiscover;
use crate::error::os;
use crate::net::options::ip::{
    ForeignAddresses, HasForeignAddresses, HasMtuDiscover, foreign_address_options, mtu_discover_option,
    ttl_from,
};
use crate::net::options::tcp::{recv_buffer_from, send_buffer_from};
use crate::stack::Family;
use crate::udp::UdpOptions;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Options of the IP layer.
impl UdpSocket {
    /// `IP_TTL`, of packets over IPv4 to single hosts. Default 64.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.options().ttl.into())
    }

    /// Sets `IP_TTL`.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = ttl_from(ttl)?;
        self.change(|options| options.ttl = ttl)
    }

    /// `IPV6_UNICAST_HOPS`, of packets over IPv6 to single hosts. Default 64.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn unicast_hops_v6(&self) -> io::Result<u32> {
        self.ensure_v6(libc::ENOPROTOOPT)?;
        Ok(self.options().hops.into())
    }

    /// Sets `IPV6_UNICAST_HOPS`.
    ///
    /// # Errors
    /// `EINVAL` if it is more than 255; `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_unicast_hops_v6(&self, hops: u32) -> io::Result<()> {
        self.ensure_v6(libc::ENOPROTOOPT)?;
        let hops = byte_from(hops)?;
        self.change(|options| options.hops = hops)
    }

    /// `IP_TOS`. Default 0.
    pub fn tos_v4(&self) -> io::Result<u32> {
        Ok(self.options().tos.into())
    }

    /// Sets `IP_TOS` of datagrams over IPv4: all eight bits, those of ECN included. As in Linux, the lowest byte
    /// counts.
    pub fn set_tos_v4(&self, tos: u32) -> io::Result<()> {
        self.change(|options| options.tos = tos as u8)
    }

    /// The former name of [`tos_v4`](Self::tos_v4).
    #[deprecated = "use `tos_v4`"]
    #[doc(hidden)]
    pub fn tos(&self) -> io::Result<u32> {
        self.tos_v4()
    }

    /// The former name of [`set_tos_v4`](Self::set_tos_v4).
    #[deprecated = "use `set_tos_v4`"]
    #[doc(hidden)]
    pub fn set_tos(&self, tos: u32) -> io::Result<()> {
        self.set_tos_v4(tos)
    }

    /// `IPV6_TCLASS`. Default 0.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for an IPv4 socket.
    pub fn tclass_v6(&self) -> io::Result<u32> {
        self.ensure_v6(libc::EOPNOTSUPP)?;
        Ok(self.options().tclass.into())
    }

    /// Sets `IPV6_TCLASS` of datagrams over IPv6: all eight bits, those of ECN included.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for an IPv4 socket, `EINVAL` if the value does not fit into a byte.
    pub fn set_tclass_v6(&self, tclass: u32) -> io::Result<()> {
        self.ensure_v6(libc::EOPNOTSUPP)?;
        let tclass = byte_from(tclass)?;
        self.change(|options| options.tclass = tclass)
    }

    /// The name of the interface that the socket is bound to (`SO_BINDTODEVICE`).
    pub fn device(&self) -> io::Result<Option<Vec<u8>>> {
        let index = self.endpoint.cell.device();
        Ok(index.map(|index| self.core().interface_name(index).as_bytes().to_vec()))
    }

    /// Binds the socket to an interface of its stack (`SO_BINDTODEVICE`): it sends through that one, and gets
    /// only what comes in on it. `None` or an empty name removes the binding.
    ///
    /// # Errors
    /// `ENODEV` if there is no interface of this name.
    pub fn bind_device(&self, interface: Option<&[u8]>) -> io::Result<()> {
        let name = interface.map(std::str::from_utf8).transpose().map_err(|_| os(libc::ENODEV))?;
        self.udp().bind_device(self.core(), &self.endpoint.cell, name)
    }

    /// `IPV6_V6ONLY`.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn only_v6(&self) -> io::Result<bool> {
        self.ensure_v6(libc::ENOPROTOOPT)?;
        Ok(self.endpoint.cell.only_v6())
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

    /// Sets `IP_MULTICAST_TTL`. With 0, what is sent to a group stays in the stack.
    ///
    /// # Errors
    /// `EINVAL` if it is more than 255.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        let ttl = byte_from(ttl)?;
        self.change(|options| options.multicast_ttl = ttl)
    }

    /// `IPV6_MULTICAST_LOOP`. Default true.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn multicast_loop_v6(&self) -> io::Result<bool> {
        self.ensure_v6(libc::ENOPROTOOPT)?;
        Ok(self.options().multicast_loop_v6)
    }

    /// Sets `IPV6_MULTICAST_LOOP`: whether members in this stack get what the socket sends to their group.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> {
        self.ensure_v6(libc::ENOPROTOOPT)?;
        self.change(|options| options.multicast_loop_v6 = on)
    }

    /// `IPV6_MULTICAST_HOPS`. Default 1.
    ///
    /// # Errors
    /// `ENOPROTOOPT` for an IPv4 socket.
    pub fn multicast_hops_v6(&self) -> io::Result<u32> {
        self.ensure_v6(libc::ENOPROTOOPT)?;
        Ok(self.options().multicast_hops.into())
    }

    /// Sets `IPV6_MULTICAST_HOPS`. With 0, what is sent to a group stays in the stack.
    ///
    /// # Errors
    /// `EINVAL` if it is more than 255; `ENOPROTOOPT` for an IPv4 socket.
    pub fn set_multicast_hops_v6(&self, hops: u32) -> io::Result<()> {
        self.ensure_v6(libc::ENOPROTOOPT)?;
        let hops = byte_from(hops)?;
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

    /// The owner that the application has given the socket. Default 0, none.
    pub fn owner(&self) -> io::Result<u32> {
        Ok(self.options().owner)
    }

    /// Says whose socket it is, by a number that means something to the application: a client of a proxy, a
    /// container, a VM. The rows of [`Stack::sockets`](crate::Stack::sockets) show it.
    pub fn set_owner(&self, owner: u32) -> io::Result<()> {
        self.change(|options| options.owner = owner)
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

    fn ensure_v6(&self, errno: i32) -> io::Result<()> {
        if self.endpoint.cell.family() == Family::V6 { Ok(()) } else { Err(os(errno)) }
    }
}

impl HasMtuDiscover for UdpSocket {
    fn mtu_discovery(&self) -> MtuDiscover {
        self.options().mtu_discover
    }

    fn set_mtu_discovery(&self, mode: MtuDiscover) {
        self.endpoint.cell.with_options(|options| options.mtu_discover = mode);
    }
}

mtu_discover_option!(UdpSocket);

impl HasForeignAddresses for UdpSocket {
    fn socket_family(&self) -> Family {
        self.endpoint.cell.family()
    }

    fn foreign_addresses(&self, option: ForeignAddresses) -> bool {
        match option {
            ForeignAddresses::Freebind => self.endpoint.cell.freebind(),
            ForeignAddresses::Transparent => self.endpoint.cell.transparent(),
        }
    }

    fn set_foreign_addresses(&self, option: ForeignAddresses, on: bool) {
        match option {
            ForeignAddresses::Freebind => self.endpoint.cell.set_freebind(on),
            ForeignAddresses::Transparent => self.endpoint.cell.set_transparent(on),
        }
    }
}

foreign_address_options!(
    UdpSocket,
    "To set it before binding, use [`UnboundUdpSocket`](crate::net::udp::UnboundUdpSocket)."
);

fn byte_from(value: u32) -> io::Result<u8> {
    u8::try_from(value).map_err(|_| os(libc::EINVAL))
}
