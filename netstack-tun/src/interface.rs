//! The kernel's network interfaces: up and down, MTU, addresses, routes, veth pairs.
//!
//! Everything acts on the network namespace of the calling thread, through rtnetlink: no `ip`
//! command is run. It needs CAP_NET_ADMIN there, which root of a user namespace has over the
//! network namespaces made in it (see [`crate::netns`]).
//!
//! The errors of all functions name the interface and the operation. The kind is
//! [`io::ErrorKind::NotFound`] if there is no such interface, [`io::ErrorKind::PermissionDenied`]
//! without the capability, [`io::ErrorKind::AlreadyExists`] if the object to create exists, and
//! [`io::ErrorKind::InvalidInput`] for a name that no interface can have.

use crate::cidr::Cidr;
use crate::netlink::{Request, attributes};
use crate::sys::MAX_NAME;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// `VETH_INFO_PEER` of Linux's `veth.h`.
const VETH_INFO_PEER: u16 = 1;
/// Length of `struct ifinfomsg`.
const IFINFOMSG_LEN: usize = 16;

/// How often [`settle`] looks, and how long it waits in between: a second in all.
const SETTLE_ATTEMPTS: u32 = 1_000;
const SETTLE_INTERVAL: Duration = Duration::from_millis(1);

/// The kernel's description of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Its number in its namespace, at least 1.
    pub index: u32,
    /// Whether it is up, administratively.
    pub up: bool,
    /// The largest IP packet that it carries, in bytes.
    pub mtu: u32,
    /// Maximum number of packets in its transmit queue; for a TUN device, in the ring of each
    /// queue.
    pub tx_queue_len: u32,
    /// The kind of a virtual interface: `tun` (TAP devices too), `veth`, ...
    pub kind: Option<String>,
}

/// Describes the interface `name`.
///
/// # Errors
/// See the [module](self).
pub fn get(name: &str) -> io::Result<Interface> {
    let context = |err| explain(err, name, "looking it up");
    check_name(name)?;
    let mut found = None;
    Request::new(libc::RTM_GETLINK, 0, &ifinfomsg(0, 0, 0))
        .string(libc::IFLA_IFNAME, name)
        .query(|message| found = found.take().or_else(|| parse(message)))
        .map_err(context)?;
    found.ok_or_else(|| context(io::Error::from_raw_os_error(libc::ENODEV)))
}

/// Whether there is an interface `name`.
///
/// # Errors
/// See the [module](self).
pub fn exists(name: &str) -> io::Result<bool> {
    match get(name) {
        Ok(_) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err),
    }
}

/// The number of the interface `name`.
///
/// # Errors
/// See the [module](self).
pub fn index(name: &str) -> io::Result<u32> {
    get(name).map(|interface| interface.index)
}

/// Brings `name` up.
///
/// # Errors
/// See the [module](self).
pub fn up(name: &str) -> io::Result<()> {
    change(name, "bringing it up", libc::IFF_UP as u32, |request| request)
}

/// Takes `name` down.
///
/// # Errors
/// See the [module](self).
pub fn down(name: &str) -> io::Result<()> {
    let index = index(name)?;
    Request::new(libc::RTM_NEWLINK, 0, &ifinfomsg(index, 0, libc::IFF_UP as u32))
        .send()
        .map_err(|err| explain(err, name, "taking it down"))
}

/// Sets the MTU of `name` in bytes.
///
/// # Errors
/// See the [module](self).
pub fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let what = format!("setting its MTU to {mtu}");
    change(name, &what, 0, |request| request.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes()))
}

/// Sets the length of the transmit queue of `name` in packets.
///
/// # Errors
/// See the [module](self).
pub fn set_tx_queue_len(name: &str, packets: u32) -> io::Result<()> {
    let what = format!("setting its transmit queue length to {packets}");
    change(name, &what, 0, |request| request.attribute(libc::IFLA_TXQLEN, &packets.to_ne_bytes()))
}

/// Gives `name` the address `cidr`, without duplicate address detection.
///
/// The address is usable when this returns, if the interface is up. If it is down, the kernel
/// routes to an IPv6 address only some time after it has come up, so bring it up first.
///
/// # Errors
/// See the [module](self); [`io::ErrorKind::TimedOut`] if the kernel does not route to the address
/// within a second.
pub fn add_address(name: &str, cidr: Cidr) -> io::Result<()> {
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let add = || {
        let interface = get(name)?;
        address(libc::RTM_NEWADDR, create, interface.index, cidr)?;
        if interface.up { settle(interface.index, cidr.address()) } else { Ok(()) }
    };
    add().map_err(|err| explain(err, name, &format!("adding the address {cidr}")))
}

/// Takes the address `cidr` from `name`.
///
/// # Errors
/// See the [module](self).
pub fn remove_address(name: &str, cidr: Cidr) -> io::Result<()> {
    address(libc::RTM_DELADDR, 0, index(name)?, cidr)
        .map_err(|err| explain(err, name, &format!("removing the address {cidr}")))
}

/// Routes packets for the network `to` out of the interface `name`: to the router `gateway`, or
/// directly to their destinations.
///
/// # Errors
/// See the [module](self); [`io::ErrorKind::InvalidInput`] if `to` and `gateway` are of different
/// families.
pub fn add_route(to: Cidr, gateway: Option<IpAddr>, name: &str) -> io::Result<()> {
    let what = format!("adding the route to {to}");
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != to.address().is_ipv4()) {
        let err = io::Error::new(io::ErrorKind::InvalidInput, "the gateway is of another family");
        return Err(explain(err, name, &what));
    }
    let index = index(name)?;
    // In Linux, IPv4 routes without a gateway must have link scope.
    let scope = if gateway.is_none() { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
    let rtmsg = [
        family(to.address()),
        to.prefix_len(),
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        scope,
        libc::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    let mut request = Request::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &rtmsg)
        .attribute(libc::RTA_DST, &network(to))
        .attribute(libc::RTA_OIF, &index.to_ne_bytes());
    if let Some(gateway) = gateway {
        request = request.attribute(libc::RTA_GATEWAY, &octets(gateway));
    }
    request.send().map_err(|err| explain(err, name, &what))
}

/// Creates two interfaces connected by a virtual cable, both down.
///
/// # Errors
/// See the [module](self).
pub fn veth_pair(name: &str, peer: &str) -> io::Result<()> {
    check_name(name)?;
    check_name(peer)?;
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    Request::new(libc::RTM_NEWLINK, create, &ifinfomsg(0, 0, 0))
        .string(libc::IFLA_IFNAME, name)
        .nest(libc::IFLA_LINKINFO, |info| {
            info.string(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |mut other| {
                    other.push(&ifinfomsg(0, 0, 0));
                    other.string(libc::IFLA_IFNAME, peer)
                })
            })
        })
        .send()
        .map_err(|err| explain(err, name, &format!("creating it and {peer} as a veth pair")))
}

/// Moves `name` to the network namespace that `namespace` refers to: a
/// [`Namespace`](crate::netns::Namespace) or an open `/proc/PID/ns/net`.
///
/// The kernel brings the interface down and removes its addresses.
///
/// # Errors
/// See the [module](self).
pub fn move_to(name: &str, namespace: impl AsFd) -> io::Result<()> {
    let fd = namespace.as_fd().as_raw_fd();
    change(name, "moving it to another namespace", 0, |request| {
        request.attribute(libc::IFLA_NET_NS_FD, &fd.to_ne_bytes())
    })
}

/// Deletes the interface `name`. Deleting one end of a veth pair deletes the other too.
///
/// # Errors
/// See the [module](self).
pub fn delete(name: &str) -> io::Result<()> {
    let index = index(name)?;
    Request::new(libc::RTM_DELLINK, 0, &ifinfomsg(index, 0, 0))
        .send()
        .map_err(|err| explain(err, name, "deleting it"))
}

/// Checks that an interface can have this name.
pub(crate) fn check_name(name: &str) -> io::Result<()> {
    // The conditions are those of Linux's `dev_valid_name`.
    let why = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > MAX_NAME {
        format!("is longer than {MAX_NAME} bytes")
    } else if name == "." || name == ".." {
        "is reserved".to_owned()
    } else if name.bytes().any(|b| b == 0 || b == b'/' || b == b':' || b.is_ascii_whitespace() || b == 0x0b) {
        "has a character that names of interfaces must not have".to_owned()
    } else {
        return Ok(());
    };
    let text = format!("the name {name:?} of a network interface {why}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// Sets `flags` and whatever `build` adds.
fn change(name: &str, what: &str, flags: u32, build: impl FnOnce(Request) -> Request) -> io::Result<()> {
    let index = index(name)?;
    build(Request::new(libc::RTM_NEWLINK, 0, &ifinfomsg(index, flags, flags)))
        .send()
        .map_err(|err| explain(err, name, what))
}

fn address(kind: u16, flags: i32, index: u32, cidr: Cidr) -> io::Result<()> {
    // Duplicate address detection takes a second, during which nothing can be bound to the address.
    let address_flags = libc::IFA_F_NODAD as u8;
    let mut ifaddrmsg =
        [family(cidr.address()), cidr.prefix_len(), address_flags, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    ifaddrmsg[4..].copy_from_slice(&index.to_ne_bytes());
    let bytes = octets(cidr.address());
    Request::new(kind, flags, &ifaddrmsg)
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes)
        .send()
}

/// Waits until the kernel accepts packets for `address`. Linux acknowledges an IPv6 address before
/// that: a worker adds its local route (`addrconf_dad_completed`), in a millisecond or so.
fn settle(index: u32, address: IpAddr) -> io::Result<()> {
    let IpAddr::V6(v6) = address else { return Ok(()) };
    for _ in 0..SETTLE_ATTEMPTS {
        if is_local(index, v6)? {
            return Ok(());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "set-up, on the caller's thread: no runtime is there to wait on"
        )]
        std::thread::sleep(SETTLE_INTERVAL);
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not route to it"))
}

/// Whether the route to `address` is the kernel itself.
fn is_local(index: u32, address: Ipv6Addr) -> io::Result<bool> {
    let rtmsg = [libc::AF_INET6 as u8, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut request = Request::new(libc::RTM_GETROUTE, 0, &rtmsg).attribute(libc::RTA_DST, &address.octets());
    if address.is_unicast_link_local() {
        request = request.attribute(libc::RTA_OIF, &index.to_ne_bytes());
    }
    let mut local = false;
    match request.query(|message| local |= message.get(7) == Some(&libc::RTN_LOCAL)) {
        Ok(()) => Ok(local),
        // Without even a route to its network.
        Err(err) if err.raw_os_error() == Some(libc::ENETUNREACH) => Ok(false),
        Err(err) => Err(err),
    }
}

fn parse(message: &[u8]) -> Option<Interface> {
    let (head, rest) = message.split_first_chunk::<IFINFOMSG_LEN>()?;
    let word = |bytes: &[u8]| Some(u32::from_ne_bytes(*bytes.first_chunk()?));
    let mut interface = Interface {
        index: word(&head[4..])?,
        up: word(&head[8..])? & libc::IFF_UP as u32 != 0,
        mtu: 0,
        tx_queue_len: 0,
        kind: None,
    };
    for (kind, value) in attributes(rest) {
        match kind {
            libc::IFLA_MTU => interface.mtu = word(value)?,
            libc::IFLA_TXQLEN => interface.tx_queue_len = word(value)?,
            libc::IFLA_LINKINFO => {
                interface.kind = attributes(value)
                    .find(|&(kind, _)| kind == libc::IFLA_INFO_KIND)
                    .map(|(_, name)| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
            }
            _ => {}
        }
    }
    Some(interface)
}

/// `struct ifinfomsg`: family, padding, type, index, flags, mask of the flags to change.
fn ifinfomsg(index: u32, flags: u32, change: u32) -> [u8; IFINFOMSG_LEN] {
    let mut bytes = [0; IFINFOMSG_LEN];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..].copy_from_slice(&change.to_ne_bytes());
    bytes
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address with the bits after the prefix cleared: the kernel refuses a route to 10.0.0.1/24.
fn network(cidr: Cidr) -> Vec<u8> {
    let mut bytes = octets(cidr.address());
    for (byte, start) in bytes.iter_mut().zip((0u32..).step_by(8)) {
        let kept = u32::from(cidr.prefix_len()).saturating_sub(start).min(8);
        *byte &= !(0xff_u8.checked_shr(kept).unwrap_or(0));
    }
    bytes
}

/// Adds the operation to an error, and gives it a kind that a caller can handle.
fn explain(err: io::Error, name: &str, what: &str) -> io::Error {
    let (kind, why) = match err.raw_os_error() {
        Some(libc::ENODEV) => (io::ErrorKind::NotFound, "there is no such interface".to_owned()),
        Some(libc::EPERM) => (err.kind(), "this needs CAP_NET_ADMIN in the network namespace".to_owned()),
        Some(libc::EACCES | libc::EOPNOTSUPP) if what.contains(':') => {
            (io::ErrorKind::Unsupported, format!("{err} (is IPv6 disabled?)"))
        }
        _ => (err.kind(), err.to_string()),
    };
    io::Error::new(kind, format!("network interface {name}: {what}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["tun0", "a", "fifteen-bytes-x", "tun%d", "eth0.100"] {
            check_name(name).unwrap();
        }
        for name in ["", ".", "..", "sixteen-bytes-xx", "a/b", "a b", "a:b", "a\0b", "a\n"] {
            assert_eq!(check_name(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }

    #[test]
    fn the_network_of_an_address() {
        for (cidr, expect) in [
            ("10.9.8.7/32", [10, 9, 8, 7]),
            ("10.9.8.7/24", [10, 9, 8, 0]),
            ("10.9.255.7/20", [10, 9, 240, 0]),
            ("10.9.8.7/0", [0, 0, 0, 0]),
        ] {
            assert_eq!(network(cidr.parse().unwrap()), expect, "{cidr}");
        }
        let v6 = network("fd00:1:2:3::1/48".parse().unwrap());
        assert_eq!(v6[..8], [0xfd, 0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn the_loopback_interface_is_there_and_others_are_not() {
        let lo = get("lo").unwrap();
        assert_eq!((lo.index, lo.mtu), (1, 65_536));
        assert!(!exists("nothing-here").unwrap());
        let err = index("nothing-here").unwrap_err();
        assert_eq!(
            err.to_string(),
            "network interface nothing-here: looking it up: there is no such interface"
        );
    }
}
