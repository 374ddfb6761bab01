//! Options of the IP layer.

use crate::config::MtuDiscover;
use crate::error::os;
use crate::stack::{Core, Family, IpSocket};
use std::io;
use std::net::SocketAddr;

/// The two bits of a traffic class that are ECN's (RFC 3168 §5), which an application does not set.
const ECN_BITS: u8 = 3;

/// A time to live from the `u32` that `tokio::net` takes.
pub(crate) fn ttl_from(ttl: u32) -> io::Result<u8> {
    u8::try_from(ttl).ok().filter(|ttl| *ttl > 0).ok_or_else(|| os(libc::EINVAL))
}

/// A traffic class, without the bits of ECN, from the `u32` that `tokio::net` takes.
pub(crate) fn traffic_class_from(class: u32) -> io::Result<u8> {
    u8::try_from(class).map(|class| class & !ECN_BITS).map_err(|_| os(libc::EINVAL))
}

/// The family of a socket for `addr`.
pub(crate) fn socket_family(addr: SocketAddr) -> Family {
    if addr.is_ipv4() { Family::V4 } else { Family::V6 }
}

/// The family of the packets that go to `peer`: IPv4 for an IPv4-mapped address.
pub(crate) fn wire_family(peer: SocketAddr) -> Family {
    match peer {
        SocketAddr::V4(_) => Family::V4,
        SocketAddr::V6(peer) if peer.ip().to_ipv4_mapped().is_some() => Family::V4,
        SocketAddr::V6(_) => Family::V6,
    }
}

/// A socket with an option for path MTU discovery.
pub(crate) trait HasMtuDiscover {
    fn mtu_discovery(&self) -> MtuDiscover;
    fn set_mtu_discovery(&self, mode: MtuDiscover);
}

/// Declares the option of [`HasMtuDiscover`].
macro_rules! mtu_discover_option {
    ($socket:ty) => {
        /// Path MTU discovery.
        impl $socket {
            /// `IP_MTU_DISCOVER`, or `IPV6_MTU_DISCOVER`. Default
            /// [`Config::mtu_discover`](crate::config::Config::mtu_discover).
            pub fn mtu_discover(&self) -> std::io::Result<$crate::config::MtuDiscover> {
                Ok($crate::net::options::ip::HasMtuDiscover::mtu_discovery(self))
            }

            /// Sets `IP_MTU_DISCOVER` and `IPV6_MTU_DISCOVER`: whether routers may fragment
            /// packets, and whether ICMP messages reduce the size of packets. It takes effect at
            /// once.
            pub fn set_mtu_discover(&self, mtu_discover: $crate::config::MtuDiscover) -> std::io::Result<()> {
                $crate::net::options::ip::HasMtuDiscover::set_mtu_discovery(self, mtu_discover);
                Ok(())
            }
        }
    };
}
pub(crate) use mtu_discover_option;

/// Whether a socket may use the addresses of other hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForeignAddresses {
    /// `IP_FREEBIND`, `IPV6_FREEBIND`.
    Freebind,
    /// `IP_TRANSPARENT`, `IPV6_TRANSPARENT`.
    Transparent,
}

/// A socket with the options that let it use the addresses of other hosts. Each option is one for both
/// families, as in Linux.
pub(crate) trait HasForeignAddresses {
    fn socket_family(&self) -> Family;
    fn foreign_addresses(&self, option: ForeignAddresses) -> bool;
    fn set_foreign_addresses(&self, option: ForeignAddresses, on: bool);

    fn foreign_addresses_v6(&self, option: ForeignAddresses) -> io::Result<bool> {
        match self.socket_family() {
            Family::V4 => Err(os(libc::EOPNOTSUPP)),
            Family::V6 => Ok(self.foreign_addresses(option)),
        }
    }

    fn set_foreign_addresses_v6(&self, option: ForeignAddresses, on: bool) -> io::Result<()> {
        match self.socket_family() {
            Family::V4 => Err(os(libc::ENOPROTOOPT)),
            Family::V6 => {
                self.set_foreign_addresses(option, on);
                Ok(())
            }
        }
    }
}

/// Declares the options of [`HasForeignAddresses`]. The second argument is what there is to say of them for
/// the type.
macro_rules! foreign_address_options {
    ($socket:ty, $remark:literal) => {
        /// Addresses of other hosts.
        impl $socket {
            /// `IP_FREEBIND`. Default false.
            #[doc = $remark]
            pub fn freebind_v4(&self) -> std::io::Result<bool> {
                use $crate::net::options::ip::{ForeignAddresses, HasForeignAddresses};
                Ok(HasForeignAddresses::foreign_addresses(self, ForeignAddresses::Freebind))
            }

            /// Sets `IP_FREEBIND`: binding accepts the address of another host, or one that the stack
            /// will have later. It has no effect on what is bound already, and is not needed for the
            /// addresses of [`Interface::any_ip`](crate::Interface::any_ip).
            ///
            /// Over IPv4, connecting or sending from such an address also needs
            /// [`set_ip_transparent_v4`](Self::set_ip_transparent_v4), and fails with `ENETUNREACH`
            /// otherwise, as in Linux.
            pub fn set_freebind_v4(&self, freebind: bool) -> std::io::Result<()> {
                use $crate::net::options::ip::{ForeignAddresses, HasForeignAddresses};
                HasForeignAddresses::set_foreign_addresses(self, ForeignAddresses::Freebind, freebind);
                Ok(())
            }

            /// `IPV6_FREEBIND`, which is one option with [`freebind_v4`](Self::freebind_v4).
            ///
            /// # Errors
            /// `EOPNOTSUPP` for an IPv4 socket.
            pub fn freebind_v6(&self) -> std::io::Result<bool> {
                use $crate::net::options::ip::{ForeignAddresses, HasForeignAddresses};
                HasForeignAddresses::foreign_addresses_v6(self, ForeignAddresses::Freebind)
            }

            /// Sets `IPV6_FREEBIND`, which is one option with
            /// [`set_freebind_v4`](Self::set_freebind_v4).
            ///
            /// # Errors
            /// `ENOPROTOOPT` for an IPv4 socket.
            pub fn set_freebind_v6(&self, freebind: bool) -> std::io::Result<()> {
                use $crate::net::options::ip::{ForeignAddresses, HasForeignAddresses};
                HasForeignAddresses::set_foreign_addresses_v6(self, ForeignAddresses::Freebind, freebind)
            }

            /// `IP_TRANSPARENT`. Default false.
            #[doc = $remark]
            pub fn ip_transparent_v4(&self) -> std::io::Result<bool> {
                use $crate::net::options::ip::{ForeignAddresses, HasForeignAddresses};
                Ok(HasForeignAddresses::foreign_addresses(self, ForeignAddresses::Transparent))
            }

            /// Sets `IP_TRANSPARENT`: binding, connecting and sending accept the address of another host as
            /// the local address. Answers reach the socket if an interface accepts that address
            /// ([`Interface::any_ip`](crate::Interface::any_ip)). No privilege is needed.
            pub fn set_ip_transparent_v4(&self, transparent: bool) -> std::io::Result<()> {
                use $crate::net::options::ip::{ForeignAddresses, HasForeignAddresses};
                HasForeignAddresses::set_foreign_addresses(self, ForeignAddresses::Transparent, transparent);
                Ok(())
            }

            /// `IPV6_TRANSPARENT`, which is one option with
            /// [`ip_transparent_v4`](Self::ip_transparent_v4).
            ///
            /// # Errors
            /// `EOPNOTSUPP` for an IPv4 socket.
            pub fn ip_transparent_v6(&self) -> std::io::Result<bool> {
                use $crate::net::options::ip::{ForeignAddresses, HasForeignAddresses};
                HasForeignAddresses::foreign_addresses_v6(self, ForeignAddresses::Transparent)
            }

            /// Sets `IPV6_TRANSPARENT`, which is one option with
            /// [`set_ip_transparent_v4`](Self::set_ip_transparent_v4).
            ///
            /// # Errors
            /// `ENOPROTOOPT` for an IPv4 socket.
            pub fn set_ip_transparent_v6(&self, transparent: bool) -> std::io::Result<()> {
                use $crate::net::options::ip::{ForeignAddresses, HasForeignAddresses};
                HasForeignAddresses::set_foreign_addresses_v6(
                    self,
                    ForeignAddresses::Transparent,
                    transparent,
                )
            }
        }
    };
}
pub(crate) use foreign_address_options;

/// The IP options that a socket keeps until it has a peer: the peer's family determines which of
/// the two traffic classes is used.
#[derive(Clone, Debug, Default)]
pub(crate) struct IpOptions {
    /// `IP_TOS`, which on an IPv6 socket counts for IPv4-mapped peers only.
    tos: u8,
    /// `IPV6_TCLASS`.
    tclass: u8,
    /// The name of the interface that the socket is bound to.
    device: Option<Vec<u8>>,
}

impl IpOptions {
    /// The traffic class of packets of `family`.
    pub(crate) fn traffic_class(&self, family: Family) -> u8 {
        match family {
            Family::V4 => self.tos,
            Family::V6 => self.tclass,
        }
    }

    pub(crate) fn tos(&self) -> u32 {
        self.tos.into()
    }

    /// As Linux, takes the lowest byte of what it is given.
    pub(crate) fn set_tos(&mut self, tos: u32) {
        self.tos = tos as u8 & !ECN_BITS;
    }

    pub(crate) fn tclass(&self, socket: &IpSocket) -> io::Result<u32> {
        ensure_v6(socket, libc::EOPNOTSUPP)?;
        Ok(self.tclass.into())
    }

    pub(crate) fn set_tclass(&mut self, socket: &IpSocket, tclass: u32) -> io::Result<()> {
        ensure_v6(socket, libc::EOPNOTSUPP)?;
        self.tclass = traffic_class_from(tclass)?;
        Ok(())
    }

    pub(crate) fn device(&self) -> Option<Vec<u8>> {
        self.device.clone()
    }

    pub(crate) fn bind_device(
        &mut self,
        core: &Core,
        socket: &mut IpSocket,
        interface: Option<&[u8]>,
    ) -> io::Result<()> {
        let name = interface.filter(|name| !name.is_empty());
        let text = name.map(std::str::from_utf8).transpose().map_err(|_| os(libc::ENODEV))?;
        socket.bind_device(core, text)?;
        self.device = name.map(<[u8]>::to_vec);
        Ok(())
    }
}

/// Whether `socket` refuses IPv4.
pub(crate) fn only_v6(socket: &IpSocket) -> io::Result<bool> {
    ensure_v6(socket, libc::ENOPROTOOPT)?;
    Ok(socket.only_v6())
}

fn ensure_v6(socket: &IpSocket, errno: i32) -> io::Result<()> {
    match socket.family() {
        Family::V4 => Err(os(errno)),
        Family::V6 => Ok(()),
    }
}

/// A socket that is not connected, and its IP options.
pub(crate) trait HasIpOptions {
    fn with_ip<R>(&self, access: impl FnOnce(&Core, &mut IpSocket, &mut IpOptions) -> R) -> R;
}

/// Declares the options of [`HasIpOptions`].
macro_rules! ip_options {
    ($socket:ty) => {
        /// Options of the IP layer.
        impl $socket {
            /// `SO_REUSEADDR`. Default false.
            pub fn reuseaddr(&self) -> std::io::Result<bool> {
                self.with_ip(|_, socket, _| Ok(socket.reuse_address))
            }

            /// Sets `SO_REUSEADDR`: lets [`bind`](Self::bind) use a port with connections in
            /// TIME-WAIT, but not one that has a listener.
            pub fn set_reuseaddr(&self, reuseaddr: bool) -> std::io::Result<()> {
                self.with_ip(|_, socket, _| socket.reuse_address = reuseaddr);
                Ok(())
            }

            /// `SO_REUSEPORT`. Default false.
            pub fn reuseport(&self) -> std::io::Result<bool> {
                self.with_ip(|_, socket, _| Ok(socket.reuse_port))
            }

            /// Sets `SO_REUSEPORT`. Sockets that all have it set can listen on the same port, and
            /// connections are distributed among them.
            pub fn set_reuseport(&self, reuseport: bool) -> std::io::Result<()> {
                self.with_ip(|_, socket, _| socket.reuse_port = reuseport);
                Ok(())
            }

            /// `SO_REUSEADDR`, with the name of socket2.
            pub fn reuse_address(&self) -> std::io::Result<bool> {
                self.reuseaddr()
            }

            /// Sets `SO_REUSEADDR`, with the name of socket2.
            pub fn set_reuse_address(&self, reuse: bool) -> std::io::Result<()> {
                self.set_reuseaddr(reuse)
            }

            /// `SO_REUSEPORT`, with the name of socket2.
            pub fn reuse_port(&self) -> std::io::Result<bool> {
                self.reuseport()
            }

            /// Sets `SO_REUSEPORT`, with the name of socket2.
            pub fn set_reuse_port(&self, reuse: bool) -> std::io::Result<()> {
                self.set_reuseport(reuse)
            }

            /// `IPV6_V6ONLY`. Default false.
            ///
            /// # Errors
            /// `ENOPROTOOPT` for an IPv4 socket.
            pub fn only_v6(&self) -> std::io::Result<bool> {
                self.with_ip(|_, socket, _| $crate::net::options::ip::only_v6(socket))
            }

            /// Sets `IPV6_V6ONLY`: whether the socket is restricted to IPv6, and rejects
            /// IPv4-mapped addresses.
            ///
            /// # Errors
            /// `ENOPROTOOPT` for an IPv4 socket, `EINVAL` if the socket is bound.
            pub fn set_only_v6(&self, only: bool) -> std::io::Result<()> {
                self.with_ip(|_, socket, _| socket.set_only_v6(only))
            }

            /// `IP_TTL`. Default 64.
            pub fn ttl_v4(&self) -> std::io::Result<u32> {
                self.with_ip(|_, socket, _| Ok(socket.ttl.into()))
            }

            /// Sets `IP_TTL`.
            ///
            /// # Errors
            /// `EINVAL` if it is not 1 to 255.
            pub fn set_ttl_v4(&self, ttl: u32) -> std::io::Result<()> {
                let ttl = $crate::net::options::ip::ttl_from(ttl)?;
                self.with_ip(|_, socket, _| socket.ttl = ttl);
                Ok(())
            }

            /// `IP_TOS`. Default 0.
            pub fn tos_v4(&self) -> std::io::Result<u32> {
                self.with_ip(|_, _, ip| Ok(ip.tos()))
            }

            /// Sets `IP_TOS` of packets that are sent over IPv4. The two ECN bits are set by the
            /// stack and are ignored here.
            pub fn set_tos_v4(&self, tos: u32) -> std::io::Result<()> {
                self.with_ip(|_, _, ip| ip.set_tos(tos));
                Ok(())
            }

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

            /// `IPV6_TCLASS`. Default 0.
            ///
            /// # Errors
            /// `EOPNOTSUPP` for an IPv4 socket.
            pub fn tclass_v6(&self) -> std::io::Result<u32> {
                self.with_ip(|_, socket, ip| ip.tclass(socket))
            }

            /// Sets `IPV6_TCLASS`. The two ECN bits are set by the stack and are ignored here.
            ///
            /// # Errors
            /// `EOPNOTSUPP` for an IPv4 socket, `EINVAL` if the value does not fit into a byte.
            pub fn set_tclass_v6(&self, tclass: u32) -> std::io::Result<()> {
                self.with_ip(|_, socket, ip| ip.set_tclass(socket, tclass))
            }

            /// The name of the interface that the socket is bound to (`SO_BINDTODEVICE`).
            pub fn device(&self) -> std::io::Result<Option<Vec<u8>>> {
                self.with_ip(|_, _, ip| Ok(ip.device()))
            }

            /// Binds the socket to an interface of its stack (`SO_BINDTODEVICE`). `None` or an
            /// empty name removes the binding.
            ///
            /// # Errors
            /// `ENODEV` if there is no interface of this name.
            pub fn bind_device(&self, interface: Option<&[u8]>) -> std::io::Result<()> {
                self.with_ip(|core, socket, ip| ip.bind_device(core, socket, interface))
            }
        }
    };
}
pub(crate) use ip_options;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_as_by_setsockopt() {
        assert_eq!(ttl_from(255).unwrap(), 255);
        assert!([0, 256].map(ttl_from).iter().all(Result::is_err));
        assert_eq!(traffic_class_from(0xff).unwrap(), 0xfc);
        assert!(traffic_class_from(256).is_err());
    }

    #[test]
    fn the_family_on_the_wire_decides_which_class_counts() {
        let mut options = IpOptions::default();
        options.set_tos(0x1b9);
        let class = |peer: &str| options.traffic_class(wire_family(peer.parse().unwrap()));
        assert_eq!(
            [class("10.0.0.1:80"), class("[::ffff:10.0.0.1]:80"), class("[fe80::1]:80")],
            [0xb8, 0xb8, 0]
        );
    }
}
