//! How messages go: the interface that they leave through, their addresses on the wire, and what follows from that.

use super::cell::State;
use super::on_datagram::with_scope;
use super::outgoing::{LastOutgoing, Outgoing};
use super::transmission::Transmission;
use super::way::{Target, Way};
use crate::error::os;
use crate::ip::AddressKind;
use crate::stack::core::Core;
use crate::stack::flow::Family;
use crate::stack::socket::is_on_link;
use crate::stack::turn::Turn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How a message of a socket goes. As the last one, if it is to the same destination and nothing has changed since.
/// The caller gives it back ([`State::keep_last_outgoing`]).
///
/// # Errors
/// As [`Udp::send`](super::Udp::send), where they do not depend on the length.
#[inline]
pub(super) fn outgoing_of(
    turn: &Turn<'_>,
    state: &mut State,
    message: &Transmission<'_>,
) -> io::Result<Box<LastOutgoing>> {
    match state.take_last_outgoing() {
        Some(last) if last.holds(turn, message) => Ok(last),
        _ => find_outgoing(turn, state, message).map(Box::new),
    }
}

/// The same without the last one.
#[inline(never)]
fn find_outgoing(turn: &Turn<'_>, state: &State, message: &Transmission<'_>) -> io::Result<LastOutgoing> {
    // Before anything is looked at: what changes meanwhile is then noticed by the next message.
    let version = turn.core.way_version();
    let way = way_of(turn.core, state, message)?;
    let outgoing = Outgoing::new(turn, &state.ip().packets, state.options(), &way, state.port())?;
    let Transmission { destination, source, ecn, .. } = *message;
    Ok(LastOutgoing { destination, source, ecn, version, outgoing: outgoing.marked(message) })
}

/// The way of a message of a socket.
fn way_of(core: &Core, state: &State, message: &Transmission<'_>) -> io::Result<Way> {
    match (message.destination, state.peer()) {
        (None, None) => Err(os(libc::EDESTADDRREQ)),
        (None, Some(peer)) if message.source.is_none() => Ok(Way {
            interface: peer.interface,
            source: peer.source,
            remote: peer.address,
            kind: core.addresses().classify(peer.address.ip(), Some(peer.interface)),
        }),
        (None, Some(peer)) => {
            find_way(core, state, &Target { address: peer.address, source: message.source })
        }
        (Some(address), _) if address.port() == 0 => Err(os(libc::EINVAL)),
        (Some(address), _) => find_way(core, state, &Target { address, source: message.source }),
    }
}

/// The way from a socket to an address.
pub(super) fn find_way(core: &Core, state: &State, target: &Target) -> io::Result<Way> {
    let ip = on_wire(state, target.address)?;
    let source = match target.source {
        None => state.source(core)?,
        Some(source) if source.is_unspecified() => state.source(core)?,
        Some(source) => Some(given_source(core, state, source.to_canonical(), ip)?),
    };
    match source {
        // A socket for IPv6 that is bound or connected over IPv4 (ip6_dst_lookup_tail in Linux).
        Some(IpAddr::V4(_)) if ip.is_ipv6() => return Err(os(libc::EAFNOSUPPORT)),
        Some(IpAddr::V6(_)) if ip.is_ipv4() => return Err(os(libc::ENETUNREACH)),
        _ => {}
    }
    let ip = if ip.is_unspecified() { to_oneself(ip, source) } else { ip };
    let kind = core.addresses().classify(ip, state.ip().interface());
    if kind == AddressKind::Broadcast && !state.options().broadcast {
        return Err(os(libc::EACCES));
    }
    let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
    let by_group = (kind == AddressKind::Multicast).then(|| state.group_interface(family)).flatten();
    let interface = state.ip().interface().or(scope(core, target.address)?).or(by_group);
    let route = core.routes().lookup_any(core.addresses(), ip, source, interface);
    let route = route.ok_or_else(|| {
        if interface.is_some_and(|interface| core.is_removed(interface)) {
            return os(libc::ENODEV);
        }
        // A loopback address does not leave the host: EINVAL, as in Linux.
        os(if source.is_some_and(|source| source.is_loopback()) { libc::EINVAL } else { libc::ENETUNREACH })
    })?;
    let remote = SocketAddr::new(ip, target.address.port());
    let remote = with_scope(remote, route.interface);
    Ok(Way { interface: route.interface, source: route.source, remote, kind })
}

/// The source that a message names (`IP_PKTINFO`, `IPV6_PKTINFO`): of the family of its destination, and an
/// address of the stack or, as for binding, of another host.
fn given_source(core: &Core, state: &State, source: IpAddr, to: IpAddr) -> io::Result<IpAddr> {
    let kind = core.addresses().classify(source, state.ip().interface());
    // ip6_datagram_send_ctl in Linux. Over IPv4 it is the look-up of the route that refuses it.
    let permitted = source.is_ipv4() || kind.is_local() || state.ip().freebind || state.ip().transparent;
    if source.is_ipv4() != to.is_ipv4() || !permitted {
        return Err(os(libc::EINVAL));
    }
    state.ip().usable_source(core, source)?.ok_or_else(|| os(libc::EINVAL))
}

/// The way between two addresses, neither of which has to be the stack's.
pub(super) fn way_between(
    core: &Core,
    bound: Option<u16>,
    from: SocketAddr,
    to: SocketAddr,
) -> io::Result<Way> {
    let (source, ip) = (from.ip().to_canonical(), to.ip().to_canonical());
    let is_one_host = |address| core.addresses().classify(address, bound).is_one_host();
    // A loopback address does not leave the host.
    let leaves = source.is_loopback() && !ip.is_loopback();
    let no_ports = from.port() == 0 || to.port() == 0;
    if no_ports || source.is_ipv4() != ip.is_ipv4() || !is_one_host(source) || leaves {
        return Err(os(libc::EINVAL));
    }
    let kind = core.addresses().classify(ip, bound);
    if !kind.is_one_host() {
        return Err(os(if ip.is_unspecified() { libc::EINVAL } else { libc::EACCES }));
    }
    let interface = bound.or(scope(core, to)?);
    let route = core.routes().lookup(core.addresses(), ip, Some(source), interface);
    let route = route.ok_or_else(|| os(libc::ENETUNREACH))?;
    let remote = with_scope(SocketAddr::new(ip, to.port()), route.interface);
    Ok(Way { interface: route.interface, source, remote, kind })
}

/// An address as on the wire, if the socket can send to it. An IPv6 socket takes IPv4 addresses in either
/// form, unless it is limited to IPv6.
fn on_wire(state: &State, address: SocketAddr) -> io::Result<IpAddr> {
    let ip = address.ip().to_canonical();
    match (state.ip().family(), address, ip) {
        (Family::V4, SocketAddr::V6(_), _) => Err(os(libc::EAFNOSUPPORT)),
        (Family::V6, _, IpAddr::V4(_)) if state.ip().only_v6() => Err(os(libc::ENETUNREACH)),
        _ => Ok(ip),
    }
}

/// What the unspecified address means as a destination: the stack itself, at the address of the socket.
fn to_oneself(unspecified: IpAddr, source: Option<IpAddr>) -> IpAddr {
    source.unwrap_or(match unspecified {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    })
}

/// The interface that an address names, if it is one that means something on one link only.
pub(super) fn scope(core: &Core, address: SocketAddr) -> io::Result<Option<u16>> {
    let SocketAddr::V6(v6) = address else { return Ok(None) };
    if !is_on_link(*v6.ip()) || v6.scope_id() == 0 {
        return Ok(None);
    }
    interface_of(core, v6.scope_id()).map(Some)
}

/// The interface with a number that counts from one.
pub(super) fn interface_of(core: &Core, number: u32) -> io::Result<u16> {
    let index = number.checked_sub(1).and_then(|index| u16::try_from(index).ok());
    index
        .filter(|index| core.interfaces().numbers().any(|other| other == *index))
        .ok_or_else(|| os(libc::ENODEV))
}
