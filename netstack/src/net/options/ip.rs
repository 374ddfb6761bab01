//! Options of the IP layer, and those of the socket layer that sockets of all protocols have.
//!
//! Errors are those of Linux: an option of IPv6 is `EOPNOTSUPP` to read and `ENOPROTOOPT` to set on an IPv4 socket.

use crate::config::MtuDiscover;
use crate::error::os;
use crate::ip::PacketOptions;
use crate::stack::{Family, IpOptions};
use std::io;
use std::net::SocketAddr;

/// The two bits of a traffic class that are ECN's (RFC 3168 §5), which an application does not set for TCP.
const ECN_BITS: u8 = 3;

/// What Linux sees as −1, which sets the default.
const DEFAULT: u32 = u32::MAX;

/// A time to live from the `u32` that `tokio::net` takes.
pub(crate) fn ttl_from(ttl: u32, default: u8) -> io::Result<u8> {
    byte_from(ttl, default).ok().filter(|ttl| *ttl > 0).ok_or_else(|| os(libc::EINVAL))
}

/// An option of one byte from the `u32` that `socket2` takes.
pub(crate) fn byte_from(value: u32, default: u8) -> io::Result<u8> {
    if value == DEFAULT { Ok(default) } else { u8::try_from(value).map_err(|_| os(libc::EINVAL)) }
}

/// The family of a socket for `addr`.
pub(crate) fn socket_family(addr: SocketAddr) -> Family {
    if addr.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// Whether a socket may use the addresses of other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForeignAddresses {
    /// `IP_FREEBIND`, `IPV6_FREEBIND`.
    Freebind,
    /// `IP_TRANSPARENT`, `IPV6_TRANSPARENT`.
    Transparent,
}

/// An option that is more than a value: what depends on it has to change with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IpChange<'a> {
    ReuseAddress(bool),
    ReusePort(bool),
    OnlyV6(bool),
    /// The name of the interface.
    Device(Option<&'a str>),
    MtuDiscover(MtuDiscover),
    /// Each is one option for both families, as in Linux.
    Foreign(ForeignAddresses, bool),
    Owner(u32),
}

/// What there is to read of a socket's options of the IP layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IpValues {
    pub(crate) ip: IpOptions,
    pub(crate) mtu_discover: MtuDiscover,
    pub(crate) freebind: bool,
    pub(crate) transparent: bool,
    pub(crate) owner: u32,
}

/// A socket, and its options of the IP layer.
pub(crate) trait HasIpOptions {
    fn family(&self) -> Family;
    /// Whether TCP sets the bits of ECN.
    fn is_stream(&self) -> bool;
    fn values(&self) -> IpValues;
    fn change_packets(&self, change: impl FnOnce(&mut PacketOptions));
    fn change_ip(&self, change: IpChange<'_>) -> io::Result<()>;
    /// The name of the interface with this number.
    fn interface_name(&self, interface: u16) -> Vec<u8>;
    /// The MTU of the path to the peer, in bytes; none without a peer.
    fn path_mtu(&self) -> Option<usize>;
    /// The time to live and hop limit of the stack.
    fn default_ttl(&self) -> u8;

    /// Whether an option of IPv6 can be read.
    fn readable_v6(&self) -> io::Result<()> {
        if self.family() == Family::V6 { Ok(()) } else { Err(os(libc::EOPNOTSUPP)) }
    }

    /// Whether an option of IPv6 can be set.
    fn settable_v6(&self) -> io::Result<()> {
        if self.family() == Family::V6 { Ok(()) } else { Err(os(libc::ENOPROTOOPT)) }
    }

    fn foreign_addresses(&self, option: ForeignAddresses) -> bool {
        let values = self.values();
        match option {
            ForeignAddresses::Freebind => values.freebind,
            ForeignAddresses::Transparent => values.transparent,
        }
    }

    fn set_ttl_to(&self, ttl: u32) -> io::Result<()> {
        let ttl = ttl_from(ttl, self.default_ttl())?;
        self.change_packets(|packets| packets.ttl = ttl);
        Ok(())
    }

    /// As Linux, takes the lowest byte of what it is given.
    fn set_tos_to(&self, tos: u32) {
        let tos = tos as u8;
        let tos = if self.is_stream() { tos & !ECN_BITS } else { tos };
        self.change_packets(|packets| packets.set_tos(tos));
    }

    fn set_hops_to(&self, hops: u32) -> io::Result<()> {
        self.settable_v6()?;
        let hops = byte_from(hops, self.default_ttl())?;
        self.change_packets(|packets| packets.hops = hops);
        Ok(())
    }

    fn set_tclass_to(&self, tclass: u32) -> io::Result<()> {
        self.settable_v6()?;
        let tclass = byte_from(tclass, 0)?;
        self.change_packets(|packets| packets.tclass = tclass);
        Ok(())
    }

    fn device_name(&self) -> Option<Vec<u8>> {
        self.values().ip.interface.map(|interface| self.interface_name(interface))
    }

    fn bind_to_device(&self, interface: Option<&[u8]>) -> io::Result<()> {
        let name = interface.map(std::str::from_utf8).transpose().map_err(|_| os(libc::ENODEV))?;
        self.change_ip(IpChange::Device(name.filter(|name| !name.is_empty())))
    }

    fn mtu(&self) -> io::Result<u32> {
        let mtu = self.path_mtu().ok_or_else(|| os(libc::ENOTCONN))?;
        Ok(u32::try_from(mtu).unwrap_or(u32::MAX))
    }
}

/// Declares the options of [`HasIpOptions`]. The second argument is what there is to say of inheriting them.
macro_rules! ip_options {
    ($socket:ty, $inherited:literal) => {
        /// Options of the IP layer.
        impl $socket {
            /// `IP_TTL`, of packets over IPv4. Default 64.
            pub fn ttl_v4(&self) -> std::io::Result<u32> {
                Ok($crate::net::options::ip::HasIpOptions::values(self).ip.packets.ttl.into())
            }

            /// Sets `IP_TTL`, of packets over IPv4 to single hosts. `u32::MAX` sets the default, as −1 does in Linux.
            #[doc = $inherited]
            ///
            /// # Errors
            /// `EINVAL` if it is not 1 to 255.
            pub fn set_ttl_v4(&self, ttl: u32) -> std::io::Result<()> {
                $crate::net::options::ip::HasIpOptions::set_ttl_to(self, ttl)
            }

            /// `IPV6_UNICAST_HOPS`, of packets over IPv6. Default 64.
            ///
            /// # Errors
            /// `EOPNOTSUPP` for an IPv4 socket.
            pub fn unicast_hops_v6(&self) -> std::io::Result<u32> {
                use $crate::net::options::ip::HasIpOptions;
                self.readable_v6()?;
                Ok(self.values().ip.packets.hops.into())
            }

            /// Sets `IPV6_UNICAST_HOPS`, of packets over IPv6 to single hosts. `u32::MAX` sets the default, as −1 does
            /// in Linux.
            #[doc = $inherited]
            ///
            /// # Errors
            /// `ENOPROTOOPT` for an IPv4 socket, `EINVAL` if it is more than 255.
            pub fn set_unicast_hops_v6(&self, hops: u32) -> std::io::Result<()> {
                $crate::net::options::ip::HasIpOptions::set_hops_to(self, hops)
            }

            /// `IP_TOS`, of packets over IPv4. Default 0.
            pub fn tos_v4(&self) -> std::io::Result<u32> {
                Ok($crate::net::options::ip::HasIpOptions::values(self).ip.packets.tos.into())
            }

            /// Sets `IP_TOS`, of packets over IPv4. As in Linux, the lowest byte counts, and
            /// [`priority`](Self::priority) follows from it. A TCP socket ignores the two bits of ECN, which TCP
            /// sets; UDP sends all eight.
            #[doc = $inherited]
            pub fn set_tos_v4(&self, tos: u32) -> std::io::Result<()> {
                $crate::net::options::ip::HasIpOptions::set_tos_to(self, tos);
                Ok(())
            }

            /// `IPV6_TCLASS`, of packets over IPv6. Default 0.
            ///
            /// # Errors
            /// `EOPNOTSUPP` for an IPv4 socket.
            pub fn tclass_v6(&self) -> std::io::Result<u32> {
                use $crate::net::options::ip::HasIpOptions;
                self.readable_v6()?;
                Ok(self.values().ip.packets.tclass.into())
            }

            /// Sets `IPV6_TCLASS`, of packets over IPv6. A TCP socket ignores the two bits of ECN, which TCP
            /// sets; UDP sends all eight.
            #[doc = $inherited]
            ///
            /// # Errors
            /// `ENOPROTOOPT` for an IPv4 socket, `EINVAL` if the value does not fit into a byte.
            pub fn set_tclass_v6(&self, tclass: u32) -> std::io::Result<()> {
                $crate::net::options::ip::HasIpOptions::set_tclass_to(self, tclass)
            }

            /// `SO_MARK`. Default 0.
            pub fn mark(&self) -> std::io::Result<u32> {
                Ok($crate::net::options::ip::HasIpOptions::values(self).ip.packets.mark)
            }

            /// Sets `SO_MARK`: a number that the device gets with each packet of the socket
            /// ([`TxPacket::mark`](crate::device::TxPacket::mark)). No privilege is needed.
            #[doc = $inherited]
            pub fn set_mark(&self, mark: u32) -> std::io::Result<()> {
                $crate::net::options::ip::HasIpOptions::change_packets(self, |packets| packets.mark = mark);
                Ok(())
            }

            /// `SO_PRIORITY`. Default 0.
            pub fn priority(&self) -> std::io::Result<u32> {
                Ok($crate::net::options::ip::HasIpOptions::values(self).ip.packets.priority)
            }

            /// Sets `SO_PRIORITY`: the device gets it with each packet of the socket
            /// ([`TxPacket::priority`](crate::device::TxPacket::priority)). [`set_tos_v4`](Self::set_tos_v4)
            /// sets it as well. No privilege is needed. What a listener accepts begins with 0, as in Linux.
            pub fn set_priority(&self, priority: u32) -> std::io::Result<()> {
                use $crate::net::options::ip::HasIpOptions;
                self.change_packets(|packets| packets.priority = priority);
                Ok(())
            }

            /// `SO_REUSEADDR`. Default false.
            pub fn reuse_address(&self) -> std::io::Result<bool> {
                Ok($crate::net::options::ip::HasIpOptions::values(self).ip.reuse_address)
            }

            /// Sets `SO_REUSEADDR`: sockets that all have it set may be bound to one port, TCP sockets as long as
            /// none of them listens. Of a socket that is bound, it decides about those that are bound later.
            #[doc = $inherited]
            pub fn set_reuse_address(&self, reuse: bool) -> std::io::Result<()> {
                use $crate::net::options::ip::{HasIpOptions, IpChange};
                self.change_ip(IpChange::ReuseAddress(reuse))
            }

            /// `SO_REUSEPORT`. Default false.
            pub fn reuse_port(&self) -> std::io::Result<bool> {
                Ok($crate::net::options::ip::HasIpOptions::values(self).ip.reuse_port)
            }

            /// Sets `SO_REUSEPORT`: sockets that all have it set may be bound to one port, and connections or
            /// datagrams are spread over them. Of a socket that is bound, it decides about those that are bound
            /// later.
            #[doc = $inherited]
            pub fn set_reuse_port(&self, reuse: bool) -> std::io::Result<()> {
                use $crate::net::options::ip::{HasIpOptions, IpChange};
                self.change_ip(IpChange::ReusePort(reuse))
            }

            /// `IPV6_V6ONLY`. Default false; true once the socket is bound to an IPv6 address that is neither
            /// unspecified nor IPv4-mapped.
            ///
            /// # Errors
            /// `EOPNOTSUPP` for an IPv4 socket.
            pub fn only_v6(&self) -> std::io::Result<bool> {
                use $crate::net::options::ip::HasIpOptions;
                self.readable_v6()?;
                Ok(self.values().ip.only_v6)
            }

            /// Sets `IPV6_V6ONLY`: whether the socket is restricted to IPv6, and rejects IPv4-mapped addresses.
            ///
            /// # Errors
            /// `ENOPROTOOPT` for an IPv4 socket, `EINVAL` if the socket is bound.
            pub fn set_only_v6(&self, only: bool) -> std::io::Result<()> {
                use $crate::net::options::ip::{HasIpOptions, IpChange};
                self.settable_v6()?;
                self.change_ip(IpChange::OnlyV6(only))
            }

            /// The name of the interface that the socket is bound to (`SO_BINDTODEVICE`).
            pub fn device(&self) -> std::io::Result<Option<Vec<u8>>> {
                Ok($crate::net::options::ip::HasIpOptions::device_name(self))
            }

            /// Binds the socket to an interface of its stack (`SO_BINDTODEVICE`): it sends through that one, and
            /// gets only what comes in on it. `None` or an empty name removes the binding; a connection then
            /// stays on its way.
            #[doc = $inherited]
            ///
            /// # Errors
            /// `ENODEV` if there is no interface of this name.
            pub fn bind_device(&self, interface: Option<&[u8]>) -> std::io::Result<()> {
                $crate::net::options::ip::HasIpOptions::bind_to_device(self, interface)
            }

            /// `IP_MTU`, or `IPV6_MTU`: the MTU that is known of the path to the peer, in bytes.
            ///
            /// # Errors
            /// `ENOTCONN` if the socket is not connected.
            pub fn ip_mtu(&self) -> std::io::Result<u32> {
                $crate::net::options::ip::HasIpOptions::mtu(self)
            }

            /// `IP_MTU_DISCOVER`, or `IPV6_MTU_DISCOVER`. Default
            /// [`Config::mtu_discover`](crate::config::Config::mtu_discover).
            pub fn mtu_discover(&self) -> std::io::Result<$crate::config::MtuDiscover> {
                Ok($crate::net::options::ip::HasIpOptions::values(self).mtu_discover)
            }

            /// Sets `IP_MTU_DISCOVER` and `IPV6_MTU_DISCOVER`: whether routers may fragment packets, and whether
            /// ICMP messages reduce the size of packets. It takes effect at once.
            #[doc = $inherited]
            pub fn set_mtu_discover(&self, mtu_discover: $crate::config::MtuDiscover) -> std::io::Result<()> {
                use $crate::net::options::ip::{HasIpOptions, IpChange};
                self.change_ip(IpChange::MtuDiscover(mtu_discover))
            }

            /// The owner that the application has given the socket. Default 0, none.
            pub fn owner(&self) -> std::io::Result<u32> {
                Ok($crate::net::options::ip::HasIpOptions::values(self).owner)
            }

            /// Says whose socket it is, by a number that means something to the application: a client of a proxy,
            /// a container, a VM. The rows of [`Stack::sockets`](crate::Stack::sockets) show it.
            #[doc = $inherited]
            pub fn set_owner(&self, owner: u32) -> std::io::Result<()> {
                use $crate::net::options::ip::{HasIpOptions, IpChange};
                self.change_ip(IpChange::Owner(owner))
            }
        }

        /// Addresses of other hosts.
        impl $socket {
            /// `IP_FREEBIND`. Default false.
            pub fn freebind_v4(&self) -> std::io::Result<bool> {
                use $crate::net::options::ip::{ForeignAddresses, HasIpOptions};
                Ok(self.foreign_addresses(ForeignAddresses::Freebind))
            }

            /// Sets `IP_FREEBIND`: binding accepts the address of another host, or one that the stack
            /// will have later. It has no effect on what is bound already, and is not needed for the
            /// addresses of [`Interface::any_ip`](crate::Interface::any_ip).
            ///
            /// Over IPv4, connecting or sending from such an address also needs
            /// [`set_ip_transparent_v4`](Self::set_ip_transparent_v4), and fails with `ENETUNREACH`
            /// otherwise, as in Linux.
            pub fn set_freebind_v4(&self, freebind: bool) -> std::io::Result<()> {
                use $crate::net::options::ip::{ForeignAddresses, HasIpOptions, IpChange};
                self.change_ip(IpChange::Foreign(ForeignAddresses::Freebind, freebind))
            }

            /// `IPV6_FREEBIND`, which is one option with [`freebind_v4`](Self::freebind_v4).
            ///
            /// # Errors
            /// `EOPNOTSUPP` for an IPv4 socket.
            pub fn freebind_v6(&self) -> std::io::Result<bool> {
                use $crate::net::options::ip::HasIpOptions;
                self.readable_v6()?;
                self.freebind_v4()
            }

            /// Sets `IPV6_FREEBIND`, which is one option with
            /// [`set_freebind_v4`](Self::set_freebind_v4).
            ///
            /// # Errors
            /// `ENOPROTOOPT` for an IPv4 socket.
            pub fn set_freebind_v6(&self, freebind: bool) -> std::io::Result<()> {
                use $crate::net::options::ip::HasIpOptions;
                self.settable_v6()?;
                self.set_freebind_v4(freebind)
            }

            /// `IP_TRANSPARENT`. Default false.
            pub fn ip_transparent_v4(&self) -> std::io::Result<bool> {
                use $crate::net::options::ip::{ForeignAddresses, HasIpOptions};
                Ok(self.foreign_addresses(ForeignAddresses::Transparent))
            }

            /// Sets `IP_TRANSPARENT`: binding, connecting and sending accept the address of another host as
            /// the local address. Answers reach the socket if an interface accepts that address
            /// ([`Interface::any_ip`](crate::Interface::any_ip)). No privilege is needed.
            #[doc = $inherited]
            pub fn set_ip_transparent_v4(&self, transparent: bool) -> std::io::Result<()> {
                use $crate::net::options::ip::{ForeignAddresses, HasIpOptions, IpChange};
                self.change_ip(IpChange::Foreign(ForeignAddresses::Transparent, transparent))
            }

            /// `IPV6_TRANSPARENT`, which is one option with
            /// [`ip_transparent_v4`](Self::ip_transparent_v4).
            ///
            /// # Errors
            /// `EOPNOTSUPP` for an IPv4 socket.
            pub fn ip_transparent_v6(&self) -> std::io::Result<bool> {
                use $crate::net::options::ip::HasIpOptions;
                self.readable_v6()?;
                self.ip_transparent_v4()
            }

            /// Sets `IPV6_TRANSPARENT`, which is one option with
            /// [`set_ip_transparent_v4`](Self::set_ip_transparent_v4).
            ///
            /// # Errors
            /// `ENOPROTOOPT` for an IPv4 socket.
            pub fn set_ip_transparent_v6(&self, transparent: bool) -> std::io::Result<()> {
                use $crate::net::options::ip::HasIpOptions;
                self.settable_v6()?;
                self.set_ip_transparent_v4(transparent)
            }
        }
    };
}
pub(crate) use ip_options;

/// Declares the names that tokio's sockets had for two of these options.
macro_rules! former_names_of_tos {
    ($socket:ty) => {
        impl $socket {
            /// The former name of [`tos_v4`](Self::tos_v4).
            #[deprecated = "use `tos_v4`"]
            #[doc(hidden)]
            pub fn tos(&self) -> std::io::Result<u32> {
                self.tos_v4()
            }

            /// The former name of [`set_tos_v4`](Self::set_tos_v4).
            #[deprecated = "use `set_tos_v4`"]
            #[doc(hidden)]
            pub fn set_tos(&self, tos: u32) -> std::io::Result<()> {
                self.set_tos_v4(tos)
            }
        }
    };
}
pub(crate) use former_names_of_tos;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_as_by_setsockopt() {
        assert_eq!([1, 255, u32::MAX].map(|ttl| ttl_from(ttl, 64).unwrap()), [1, 255, 64]);
        assert!([0, 256, u32::MAX - 1].iter().all(|ttl| ttl_from(*ttl, 64).is_err()));
        assert_eq!([0, 255, u32::MAX].map(|byte| byte_from(byte, 1).unwrap()), [0, 255, 1]);
        assert!(byte_from(256, 1).is_err());
    }
}
