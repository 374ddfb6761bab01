//! Which datagrams a socket takes.

use std::net::{IpAddr, SocketAddr};

/// The two ends of a datagram, as on the wire, and where it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where it was sent to.
    pub local: SocketAddr,
    /// The sender.
    pub remote: SocketAddr,
    /// The index of the interface.
    pub interface: u16,
}

/// What a socket takes: where it is bound to, and who it is connected to. The port is not part of it;
/// sockets are found by their port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The address that it is bound to, as on the wire, or the unspecified one of its family.
    pub local: IpAddr,
    /// For `::`: IPv4 as well.
    pub dual_stack: bool,
    /// Address and port of the peer that it is connected to, as on the wire. Scopes are not compared: a
    /// link-local peer is one by its interface.
    pub peer: Option<(IpAddr, u16)>,
    /// The interface that it is bound to (`SO_BINDTODEVICE`).
    pub interface: Option<u16>,
    /// It shares its port by `SO_REUSEPORT`: datagrams are spread over such sockets.
    pub reuse_port: bool,
}

impl Filter {
    /// Whether the filter takes a datagram.
    pub fn takes(&self, ends: &Ends) -> bool {
        let Ends { local, remote, interface } = *ends;
        let any = || {
            let same_family = self.local.is_ipv4() == local.is_ipv4();
            self.local.is_unspecified() && (same_family || self.dual_stack && local.is_ipv4())
        };
        let fits = self.local == local.ip() || any();
        fits && self.interface.is_none_or(|bound| bound == interface) && self.is_from_peer(remote)
    }

    /// Whether a datagram from `remote` passes the filter that connecting set.
    fn is_from_peer(&self, remote: SocketAddr) -> bool {
        self.peer.is_none_or(|peer| peer == (remote.ip(), remote.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(local: &str, remote: &str, interface: u16) -> Ends {
        Ends { local: local.parse().unwrap(), remote: remote.parse().unwrap(), interface }
    }

    fn bound(local: &str) -> Filter {
        let local: IpAddr = local.parse().unwrap();
        Filter { local, dual_stack: false, peer: None, interface: None, reuse_port: false }
    }

    fn dual() -> Filter {
        Filter { dual_stack: true, ..bound("::") }
    }

    #[test]
    fn an_address_takes_what_is_sent_to_it() {
        let v4 = ends("10.0.0.2:5", "10.0.0.1:9", 0);
        let v6 = ends("[fd00::2]:5", "[fd00::1]:9", 0);
        for (filter, takes_v4, takes_v6) in [
            (bound("10.0.0.2"), true, false),
            (bound("10.0.0.3"), false, false),
            (bound("0.0.0.0"), true, false),
            (bound("fd00::2"), false, true),
            (bound("::"), false, true),
            (dual(), true, true),
        ] {
            let takes = [v4, v6].map(|ends| filter.takes(&ends));
            assert_eq!(takes, [takes_v4, takes_v6], "{filter:?}");
        }
    }

    #[test]
    fn a_connected_socket_takes_what_its_peer_sends() {
        let filter = Filter { peer: Some(("10.0.0.1".parse().unwrap(), 9)), ..bound("10.0.0.2") };
        for (remote, takes) in [("10.0.0.1:9", true), ("10.0.0.1:8", false), ("10.0.0.3:9", false)] {
            assert_eq!(filter.takes(&ends("10.0.0.2:5", remote, 0)), takes, "{remote}");
        }
    }

    #[test]
    fn an_interface_takes_what_comes_in_on_it() {
        let filter = Filter { interface: Some(1), ..bound("0.0.0.0") };
        for (interface, takes) in [(0, false), (1, true)] {
            let ends = ends("10.0.0.2:5", "10.0.0.1:9", interface);
            assert_eq!(filter.takes(&ends), takes, "{interface}");
        }
    }
}
