//! The way of a datagram is found once, and again after each change of what it depends on.

use super::*;
use crate::config::{Config, MtuDiscover};
use crate::ip::Cidr;
use crate::stack::testing::{Cable, Passing, too_big};
use crate::stack::{Batch, Engine, Interface, IpRoute};
use std::net::IpAddr;

/// A host that is 10.0.0.1 on its first cable, which has the default route, and 192.0.2.1 on its second.
struct Host {
    net: Net,
    cables: Vec<Arc<Cable>>,
}

/// Where the default route leads.
const PEER: &str = "198.51.100.9:9";
const PEER_V6: &str = "[2001:db8::9]:9";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn route(to: &str) -> IpRoute {
    IpRoute::new(to).unwrap()
}

impl Host {
    fn new() -> Self {
        let cables: Vec<_> = (0..2).map(|_| Cable::new(LinkSpec::default())).collect();
        let [first, second] = [0, 1].map(|cable| Interface::new(cables[cable].end(0)));
        let interfaces = vec![
            first.address("10.0.0.1/24").gateway("10.0.0.9").address("fd00::1/64").gateway("fd00::9"),
            second.address("192.0.2.1/24").address("fd01::1/64"),
        ];
        let config = Config { seed: Some(1), ..Config::default() };
        let mut net = Net::alone(0, Vec::new());
        net.replace_host(0, Engine::new(config, interfaces).unwrap(), Batch::new());
        Self { net, cables }
    }

    fn engine(&self) -> &Engine {
        self.net.engine(0)
    }

    fn bind(&self, to: &str) -> Udp {
        bind(&self.net, 0, to)
    }

    /// Sends a datagram. Gives the cables that its packets left through, and the packets.
    fn send(&self, socket: &Udp, len: usize, to: &str) -> io::Result<Vec<(usize, Passing)>> {
        socket.send_to(&self.net, &vec![7; len], to)?;
        Ok(self.sent())
    }

    fn sent(&self) -> Vec<(usize, Passing)> {
        let packets =
            |(at, cable): (usize, &Arc<Cable>)| cable.take_trace().into_iter().map(move |p| (at, p));
        self.cables.iter().enumerate().flat_map(packets).collect()
    }

    /// Where the one packet of a short datagram leaves, and its source.
    #[track_caller]
    fn way(&self, socket: &Udp, to: &str) -> (usize, IpAddr) {
        let sent = self.send(socket, 10, to).unwrap();
        assert_eq!(sent.len(), 1);
        (sent[0].0, sent[0].1.ip.src)
    }
}

#[test]
fn a_route_that_is_added_or_removed_changes_the_way() {
    let host = Host::new();
    let core = host.engine().core();
    for (peer, to, home, other) in
        [(PEER, "198.51.100.0/24", "10.0.0.1", "192.0.2.1"), (PEER_V6, "2001:db8::/32", "fd00::1", "fd01::1")]
    {
        let socket = host.bind("[::]:0");
        for _ in 0..2 {
            assert_eq!(host.way(&socket, peer), (0, ip(home)));
        }
        core.add_route(1, route(to)).unwrap();
        assert_eq!(host.way(&socket, peer), (1, ip(other)));
        assert_eq!(host.way(&socket, peer), (1, ip(other)));
        core.remove_route(1, &route(to)).unwrap();
        assert_eq!(host.way(&socket, peer), (0, ip(home)));
        core.set_down(0, true).unwrap();
        assert_eq!(errno(host.send(&socket, 10, peer)), Some(libc::ENETUNREACH));
        core.set_down(0, false).unwrap();
        assert_eq!(host.way(&socket, peer), (0, ip(home)));
    }
}

#[test]
fn an_address_that_is_added_or_removed_changes_the_source() {
    let host = Host::new();
    let core = host.engine().core();
    let (any, bound) = (host.bind("0.0.0.0:0"), host.bind("10.0.0.1:0"));
    for socket in [&any, &bound] {
        assert_eq!(host.way(socket, PEER), (0, ip("10.0.0.1")));
    }
    core.add_address(0, "203.0.113.1/24".parse::<Cidr>().unwrap()).unwrap();
    core.remove_address(0, ip("10.0.0.1")).unwrap();
    assert_eq!(host.way(&any, PEER), (0, ip("203.0.113.1")));
    assert_eq!(errno(host.send(&bound, 10, PEER)), Some(libc::ENETUNREACH), "it is not the stack's any more");
    // What was another host becomes the stack itself.
    core.add_address(1, "198.51.100.9/32".parse::<Cidr>().unwrap()).unwrap();
    assert!(host.send(&any, 10, PEER).unwrap().is_empty(), "it went through loopback");
}

#[test]
fn an_interface_that_is_added_and_removed_takes_its_routes_with_it() {
    let mut host = Host::new();
    let socket = host.bind("0.0.0.0:0");
    let near = "203.0.113.9:9";
    assert_eq!(host.way(&socket, near), (0, ip("10.0.0.1")));
    let cable = Cable::new(LinkSpec::default());
    let added = Interface::new(cable.end(0)).address("203.0.113.1/24");
    host.cables.push(cable);
    let interface = host.engine().add_interface(added).unwrap();
    assert_eq!(host.way(&socket, near), (2, ip("203.0.113.1")));
    host.engine().remove_interface(host.net.now, interface).unwrap();
    assert_eq!(host.way(&socket, near), (0, ip("10.0.0.1")));
}

#[test]
fn a_device_that_fails_is_an_error_of_every_datagram() {
    let host = Host::new();
    let socket = host.bind("0.0.0.0:0");
    host.way(&socket, PEER);
    let queue = crate::stack::QueueId { interface: 0, queue: 0 };
    let broken = io::Error::from_raw_os_error(libc::EIO);
    host.engine().on_device_error(host.net.now, queue, &broken, &mut Batch::new());
    for _ in 0..2 {
        assert_eq!(errno(host.send(&socket, 10, PEER)), Some(libc::EIO));
    }
}

/// The numbers of packets that datagrams of 1400 bytes are sent in.
#[track_caller]
fn packets(host: &Host, socket: &Udp) -> usize {
    host.send(socket, 1400, PEER).unwrap().len()
}

#[test]
fn the_mtu_of_a_path_counts_from_when_it_is_learned_until_it_expires() {
    let mut host = Host::new();
    let socket = host.bind("0.0.0.0:0");
    let report = |host: &mut Host, sent: &Passing| {
        host.cables[0].inject(host.net.now, 0, &too_big(&sent.bytes, 1280));
        host.net.settle();
        host.sent();
    };
    let sent = host.send(&socket, 1400, PEER).unwrap();
    assert_eq!(sent.len(), 1);
    report(&mut host, &sent[0].1);
    assert_eq!([packets(&host, &socket), packets(&host, &socket)], [2, 2]);
    let expires = host.engine().core().config().mtu_expires;
    host.net.run_for(expires);
    assert_eq!(packets(&host, &socket), 1, "larger packets are tried again");
    report(&mut host, &sent[0].1);
    assert_eq!(packets(&host, &socket), 2);
    host.engine().forget_destinations();
    assert_eq!(packets(&host, &socket), 1);
    host.engine().core().set_mtu(0, 1000).unwrap_err();
    host.engine().core().set_mtu(0, 1280).unwrap();
    assert_eq!(packets(&host, &socket), 2, "the MTU of the interface");
}

#[test]
fn options_take_effect_with_the_next_datagram() {
    let host = Host::new();
    let socket = host.bind("0.0.0.0:0");
    let options = |change: fn(&mut crate::udp::UdpOptions)| socket.cell.with_options(change);
    let header = |sent: Vec<(usize, Passing)>| {
        let bytes = &sent[0].1.bytes;
        (bytes[1], bytes[8], bytes[6] & 0x40 != 0)
    };
    let send = || header(host.send(&socket, 10, PEER).unwrap());
    assert_eq!(send(), (0, 64, true));
    socket.cell.change_packets(|packets| (packets.tos, packets.ttl) = (0xb8, 9));
    assert_eq!(send(), (0xb8, 9, true));
    options(|options| options.mtu_discover = MtuDiscover::Dont);
    assert_eq!(send(), (0xb8, 9, false));
    assert_eq!(host.send(&socket, 1480, PEER).unwrap().len(), 2);
    options(|options| options.mtu_discover = MtuDiscover::Do);
    assert_eq!(errno(host.send(&socket, 1480, PEER)), Some(libc::EMSGSIZE));
    options(|options| options.broadcast = true);
    let all = "10.0.0.255:9";
    assert_eq!(host.way(&socket, all), (0, ip("10.0.0.1")));
    options(|options| options.broadcast = false);
    assert_eq!(errno(host.send(&socket, 10, all)), Some(libc::EACCES));
}

#[test]
fn the_interface_of_a_socket_or_of_its_groups_changes_the_way() {
    let host = Host::new();
    let (udp, core) = (host.engine().udp(), host.engine().core());
    let socket = host.bind("0.0.0.0:0");
    core.add_route(1, IpRoute { metric: 5, ..route("0.0.0.0/0") }).unwrap();
    assert_eq!(host.way(&socket, PEER), (0, ip("10.0.0.1")));
    udp.bind_device(core, &socket.cell, Some("net1")).unwrap();
    assert_eq!(host.way(&socket, PEER), (1, ip("192.0.2.1")));
    udp.bind_device(core, &socket.cell, None).unwrap();
    assert_eq!(host.way(&socket, PEER), (0, ip("10.0.0.1")));
    let group = "239.1.2.3:9";
    assert_eq!(host.way(&socket, group).0, 0);
    udp.set_multicast_if_v4(core, &socket.cell, [192, 0, 2, 1].into()).unwrap();
    assert_eq!(host.way(&socket, group).0, 1);
}

#[test]
fn a_peer_and_a_foreign_source_change_the_way() {
    let host = Host::new();
    let core = host.engine().core();
    let socket = host.bind("0.0.0.0:0");
    core.add_route(1, IpRoute { metric: 5, ..route("0.0.0.0/0") }).unwrap();
    assert_eq!(host.way(&socket, PEER), (0, ip("10.0.0.1")));
    socket.connect(&host.net, "192.0.2.9:9").unwrap();
    assert_eq!(host.way(&socket, PEER).1, ip("192.0.2.1"), "the source is that of the connection");
    let to_peer = |payload: &[u8]| {
        socket.send(&host.net, payload).unwrap();
        host.sent().iter().map(|(cable, passing)| (*cable, passing.ip.dst)).collect::<Vec<_>>()
    };
    assert_eq!([to_peer(b"1"), to_peer(b"2")], [[(1, ip("192.0.2.9"))], [(1, ip("192.0.2.9"))]]);
    let other = host.bind("0.0.0.0:0");
    other.connect(&host.net, "10.0.0.9:9").unwrap();
    other.send(&host.net, b"1").unwrap();
    other.connect(&host.net, "10.0.0.8:9").unwrap();
    host.sent();
    other.send(&host.net, b"2").unwrap();
    assert_eq!(host.sent()[0].1.ip.dst, ip("10.0.0.8"));
    let change = |socket: &mut UnboundUdp| socket.ip.transparent = true;
    let foreign = bind_with(&host.net, 0, "203.0.113.7:0", change).unwrap();
    assert_eq!(host.way(&foreign, PEER), (0, ip("203.0.113.7")));
    foreign.cell.set_transparent(false);
    assert_eq!(errno(host.send(&foreign, 10, PEER)), Some(libc::ENETUNREACH));
}

#[test]
fn what_a_message_says_of_itself_is_not_taken_from_the_last_one() {
    use crate::wire::Ecn;
    let host = Host::new();
    let socket = host.bind("0.0.0.0:0");
    host.engine().core().add_address(0, "10.0.0.77/24".parse::<Cidr>().unwrap()).unwrap();
    let send = |source: Option<&str>, ecn| {
        let message = Transmission {
            destination: Some(PEER.parse().unwrap()),
            source: source.map(ip),
            ecn,
            ..Transmission::new(b"x")
        };
        socket.transmit(&host.net, &message).unwrap();
        let header = host.sent().remove(0).1.ip;
        (header.src, header.traffic_class)
    };
    assert_eq!(send(None, None), (ip("10.0.0.1"), 0));
    assert_eq!(send(None, Some(Ecn::Ect0)), (ip("10.0.0.1"), 2));
    assert_eq!(send(Some("10.0.0.77"), Some(Ecn::Ect1)), (ip("10.0.0.77"), 1));
    assert_eq!(send(None, None), (ip("10.0.0.1"), 0));
    let to = |to: &str| host.send(&socket, 1, to).unwrap()[0].1.bytes[20..24].to_vec();
    let [one, other] = [to("198.51.100.9:9"), to("198.51.100.9:10")];
    assert_eq!((&one[..2], &one[2..], &other[2..]), (&other[..2], &[0, 9][..], &[0, 10][..]));
}
