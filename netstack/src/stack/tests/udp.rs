//! UDP between two engines.

mod errors;
pub(in crate::stack::tests) mod forwarding;
mod groups;
mod hostile;
mod races;
mod robustness;
mod sizes;
mod waiting;
mod ways;

use super::{SECOND, to_host_1};
use crate::datagram::Origin;
use crate::readiness::Events;
use crate::reasons::DropReason;
use crate::stack::testing::{LinkSpec, Net, Recorder, address};
use crate::stack::{Family, Transmission, UdpCell, UnboundUdp};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// A socket and the host that it is on.
#[derive(Clone)]
struct Udp {
    host: usize,
    cell: Arc<UdpCell>,
    events: Arc<Recorder>,
}

fn net() -> Net {
    Net::pair(7, LinkSpec::default())
}

/// A socket that is bound to an address.
fn bind(net: &Net, host: usize, to: &str) -> Udp {
    bind_with(net, host, to, |_| ()).unwrap()
}

fn bind_with(net: &Net, host: usize, to: &str, change: impl FnOnce(&mut UnboundUdp)) -> io::Result<Udp> {
    let to: SocketAddr = to.parse().unwrap();
    let engine = net.engine(host);
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut socket = UnboundUdp::new(engine.core(), family);
    change(&mut socket);
    let events = Arc::new(Recorder::default());
    let cell = engine.udp().bind(engine.core(), socket, to, Arc::clone(&events) as _)?;
    Ok(Udp { host, cell, events })
}

impl Udp {
    fn connect(&self, net: &Net, to: &str) -> io::Result<()> {
        let engine = net.engine(self.host);
        engine.udp().connect(engine.core(), &self.cell, to.parse().unwrap())
    }

    fn transmit(&self, net: &Net, message: &Transmission<'_>) -> io::Result<usize> {
        net.engine(self.host).with_udp(net.now, |udp, turn| udp.send(turn, &self.cell, message))
    }

    /// Sends to the peer.
    fn send(&self, net: &Net, payload: &[u8]) -> io::Result<usize> {
        self.transmit(net, &Transmission::new(payload))
    }

    fn send_to(&self, net: &Net, payload: &[u8], to: &str) -> io::Result<usize> {
        let destination = Some(to.parse().unwrap());
        self.transmit(net, &Transmission { destination, ..Transmission::new(payload) })
    }

    /// The next datagram and its sender.
    fn recv(&self, net: &Net) -> io::Result<(String, Vec<u8>)> {
        let engine = net.engine(self.host);
        let mut to = vec![0; 70_000];
        let (sender, len) = engine.udp().recv(engine.core(), &self.cell, &mut to)?;
        to.truncate(len);
        Ok((sender.to_string(), to))
    }

    /// The payloads of all datagrams that wait.
    fn recv_all(&self, net: &Net) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.recv(net).ok()).map(|(_, payload)| payload).collect()
    }

    /// Where the next datagram is from.
    fn origin(&self, net: &Net) -> Origin {
        let engine = net.engine(self.host);
        engine.udp().take(engine.core(), &self.cell).unwrap().1.origin
    }

    fn close(&self, net: &Net) {
        net.engine(self.host).with_udp(net.now, |udp, turn| udp.close(turn, &self.cell));
    }
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

#[test]
fn datagrams_arrive_whole_and_with_their_sender() {
    for offloads in [false, true] {
        let mut net = Net::pair(7, LinkSpec { offloads, ..LinkSpec::default() });
        for (wildcard, host, shown) in [
            ("0.0.0.0:53", "10.0.0.2:53", "10.0.0.1:4000"),
            ("[::]:54", "[fd00::2]:54", "[fd00::1]:4000"),
            ("[::]:55", "10.0.0.2:55", "[::ffff:10.0.0.1]:4000"),
        ] {
            let server = bind(&net, 1, wildcard);
            let client = bind(&net, 0, if host.starts_with('[') { "[::]:4000" } else { "0.0.0.0:4000" });
            for payload in [&b"hello"[..], b"", &[7; 1472]] {
                assert_eq!(client.send_to(&net, payload, host).unwrap(), payload.len());
                net.run_for(SECOND);
                assert_eq!(server.events.take(), Events::READABLE, "{host}");
                let (sender, received) = server.recv(&net).unwrap();
                assert_eq!((&sender[..], &received[..]), (shown, payload), "{host}");
                assert_eq!(kind(server.recv(&net)), io::ErrorKind::WouldBlock);
                // And back to where it is from.
                server.send_to(&net, b"answer", &sender).unwrap();
                net.run_for(SECOND);
                assert_eq!(client.recv_all(&net), [b"answer".to_vec()]);
            }
            client.close(&net);
        }
    }
}

#[test]
fn a_host_talks_to_itself() {
    let mut net = net();
    for (bound, to) in [
        ("127.0.0.1:9", "127.0.0.1:9"),
        ("0.0.0.0:10", "10.0.0.1:10"),
        ("[::1]:11", "[::1]:11"),
        ("[::]:12", "[::]:12"),
    ] {
        let socket = bind(&net, 0, bound);
        socket.send_to(&net, b"me", to).unwrap();
        net.settle();
        assert_eq!(socket.recv_all(&net), [b"me".to_vec()], "{to}");
    }
    assert_eq!(net.cable.take_trace().len(), 0, "nothing leaves the host");
}

#[test]
fn the_closest_socket_gets_a_datagram() {
    let mut net = net();
    let reuse = |socket: &mut UnboundUdp| socket.ip.set_reuse_address(true);
    let wildcard = bind_with(&net, 1, "[::]:53", reuse).unwrap();
    let any_v4 = bind_with(&net, 1, "0.0.0.0:53", reuse).unwrap();
    let bound = bind_with(&net, 1, "10.0.0.2:53", reuse).unwrap();
    let connected = bind_with(&net, 1, "0.0.0.0:53", reuse).unwrap();
    connected.connect(&net, "10.0.0.1:4000").unwrap();
    let later = bind_with(&net, 1, "10.0.0.2:53", reuse).unwrap();
    let client = bind(&net, 0, "0.0.0.0:4000");
    let stranger = bind(&net, 0, "0.0.0.0:4001");
    let v6 = bind(&net, 0, "[::]:4002");
    client.send_to(&net, b"peer", "10.0.0.2:53").unwrap();
    stranger.send_to(&net, b"bound last", "10.0.0.2:53").unwrap();
    v6.send_to(&net, b"only one", "[fd00::2]:53").unwrap();
    net.run_for(SECOND);
    assert_eq!(later.recv_all(&net), [b"bound last".to_vec()]);
    later.close(&net);
    stranger.send_to(&net, b"next", "10.0.0.2:53").unwrap();
    net.run_for(SECOND);
    bound.close(&net);
    stranger.send_to(&net, b"family", "10.0.0.2:53").unwrap();
    net.run_for(SECOND);
    any_v4.close(&net);
    stranger.send_to(&net, b"dual", "10.0.0.2:53").unwrap();
    net.run_for(SECOND);
    assert_eq!(connected.recv_all(&net), [b"peer".to_vec()]);
    assert_eq!(wildcard.recv_all(&net), [b"only one".to_vec(), b"dual".to_vec()]);
}

#[test]
fn a_connected_socket_hears_its_peer_only_and_keeps_what_came_before() {
    let mut net = net();
    let socket = bind(&net, 1, "0.0.0.0:53");
    let [peer, other] = ["0.0.0.0:4000", "0.0.0.0:4001"].map(|local| bind(&net, 0, local));
    other.send_to(&net, b"early", "10.0.0.2:53").unwrap();
    net.run_for(SECOND);
    assert_eq!(kind(socket.cell.peer_addr().map(drop)), io::ErrorKind::NotConnected);
    socket.connect(&net, "10.0.0.1:4000").unwrap();
    assert_eq!(socket.cell.peer_addr().unwrap().to_string(), "10.0.0.1:4000");
    assert_eq!(socket.cell.local_addr().to_string(), "10.0.0.2:53", "the wildcard became concrete");
    other.send_to(&net, b"filtered", "10.0.0.2:53").unwrap();
    peer.send_to(&net, b"peer", "10.0.0.2:53").unwrap();
    net.run_for(SECOND);
    assert_eq!(socket.recv_all(&net), [b"early".to_vec(), b"peer".to_vec()]);
    assert_eq!(net.engine(1).counters().udp_no_ports, 1);
    // Another peer.
    socket.connect(&net, "10.0.0.1:4001").unwrap();
    other.send_to(&net, b"now", "10.0.0.2:53").unwrap();
    socket.send(&net, b"to the new one").unwrap();
    net.run_for(SECOND);
    assert_eq!(socket.recv_all(&net), [b"now".to_vec()]);
    assert_eq!(other.recv_all(&net), [b"to the new one".to_vec()]);
}

#[test]
fn sockets_that_share_a_port_share_its_flows() {
    let mut net = net();
    let share = |socket: &mut UnboundUdp| socket.ip.set_reuse_port(true);
    let group: Vec<_> = (0..4).map(|_| bind_with(&net, 1, "0.0.0.0:53", share).unwrap()).collect();
    assert!(bind_with(&net, 1, "0.0.0.0:53", |_| ()).is_err(), "without SO_REUSEPORT");
    let client = |port: u16| bind(&net, 0, &format!("0.0.0.0:{port}"));
    let clients: Vec<_> = (5000..5064).map(client).collect();
    for _ in 0..3 {
        clients.iter().for_each(|client| {
            client.send_to(&net, b"x", "10.0.0.2:53").unwrap();
        });
        net.run_for(SECOND);
    }
    let mut total = 0;
    for socket in &group {
        let senders: Vec<_> =
            std::iter::from_fn(|| socket.recv(&net).ok()).map(|(sender, _)| sender).collect();
        let distinct: std::collections::BTreeSet<_> = senders.iter().collect();
        assert_eq!(senders.len(), 3 * distinct.len(), "a flow stays with one socket");
        assert!(distinct.len() > 4, "{} flows", distinct.len());
        total += distinct.len();
    }
    assert_eq!(total, 64);
}

#[test]
fn ports_are_claimed_as_by_linux() {
    let net = net();
    let first = bind(&net, 0, "10.0.0.1:53");
    assert_eq!(kind(bind_with(&net, 0, "10.0.0.1:53", |_| ()).map(drop)), io::ErrorKind::AddrInUse);
    assert_eq!(kind(bind_with(&net, 0, "[::]:53", |_| ()).map(drop)), io::ErrorKind::AddrInUse, "dual stack");
    bind_with(&net, 0, "[::]:53", |socket| socket.ip.set_only_v6(true).unwrap()).unwrap();
    bind(&net, 0, "127.0.0.1:53");
    assert_eq!(kind(bind_with(&net, 0, "10.0.0.7:53", |_| ()).map(drop)), io::ErrorKind::AddrNotAvailable);
    let any = bind(&net, 0, "0.0.0.0:0");
    assert!((32_768..=60_999).contains(&any.cell.local_addr().port()));
    first.close(&net);
    bind(&net, 0, "10.0.0.1:53");
    // TCP has ports of its own.
    let mut tcp = net.socket(0, Family::V4);
    net.engine(0).tcp().bind(net.engine(0).core(), &mut tcp, "10.0.0.1:53".parse().unwrap()).unwrap();
}

#[test]
fn closed_sockets_leave_nothing_behind() {
    let mut net = net();
    let sockets: Vec<_> = (0..100).map(|_| bind(&net, 0, "[::]:0")).collect();
    for (n, socket) in sockets.iter().enumerate() {
        if n % 2 == 0 {
            socket.connect(&net, "10.0.0.2:9").unwrap();
        }
        let engine = net.engine(0);
        engine
            .udp()
            .join_v4(engine.core(), &socket.cell, [239, 1, 2, 3].into(), [0, 0, 0, 0].into())
            .unwrap();
    }
    assert_eq!((net.engine(0).udp().sockets(), net.engine(0).udp().ports_in_use()), (100, 100));
    sockets.iter().for_each(|socket| socket.close(&net));
    sockets.iter().for_each(|socket| socket.close(&net));
    assert_eq!((net.engine(0).udp().sockets(), net.engine(0).udp().ports_in_use()), (0, 0));
    assert!(!net.engine(0).core().groups().is_member([239, 1, 2, 3].into(), 0));
    net.settle();
    assert_eq!(errno(sockets[0].recv(&net)), Some(libc::EBADF));
}

#[test]
fn what_the_reader_leaves_is_bounded_and_what_is_dropped_is_counted() {
    let mut net = net();
    let slow = bind_with(&net, 1, "0.0.0.0:53", |socket| socket.recv_buffer = 64 << 10).unwrap();
    let client = bind(&net, 0, "0.0.0.0:4000");
    for n in 0..1000u32 {
        client.send_to(&net, &n.to_be_bytes(), "10.0.0.2:53").unwrap();
        if n % 100 == 0 {
            net.run_for(SECOND);
        }
        assert!(slow.cell.unread() <= 64 << 10);
    }
    net.run_for(SECOND);
    let counters = net.engine(1).counters();
    let received = slow.recv_all(&net);
    assert_eq!(received.len() as u64 + slow.cell.dropped(), 1000);
    assert!(received.iter().enumerate().all(|(n, payload)| *payload == (n as u32).to_be_bytes()), "in order");
    assert_eq!(counters.udp_rcvbuf_errors, slow.cell.dropped());
    assert_eq!(counters.drops(DropReason::SocketRcvbuff), slow.cell.dropped());
    assert!(received.len() > 100 && slow.cell.dropped() > 100, "{}", received.len());
    assert_eq!(slow.events.calls(), 1, "told once, since it has not read");
    client.send_to(&net, b"again", "10.0.0.2:53").unwrap();
    net.run_for(SECOND);
    assert_eq!((slow.events.calls(), slow.recv_all(&net).len()), (2, 1));
}

#[test]
fn headers_say_what_the_socket_was_set_to() {
    let mut net = net();
    let receiver = bind(&net, 1, "[::]:53");
    let sender = bind(&net, 0, "[::]:4000");
    sender.cell.change_packets(|packets| {
        (packets.ttl, packets.tos) = (9, 0b1010_0010);
        (packets.hops, packets.tclass) = (11, 0b0101_0001);
    });
    sender.send_to(&net, b"v4", "10.0.0.2:53").unwrap();
    sender.send_to(&net, b"v6", "[fd00::2]:53").unwrap();
    let ecn = Some(crate::wire::Ecn::Ce);
    let destination = Some("[fd00::2]:53".parse().unwrap());
    sender.transmit(&net, &Transmission { ecn, destination, ..Transmission::new(b"marked") }).unwrap();
    net.run_for(SECOND);
    for (destination, hop_limit, traffic_class) in
        [("::ffff:10.0.0.2", 9, 0b1010_0010), ("fd00::2", 11, 0b0101_0001), ("fd00::2", 11, 0b0101_0011)]
    {
        let origin = receiver.origin(&net);
        assert_eq!((origin.hop_limit, origin.traffic_class, origin.interface), (hop_limit, traffic_class, 0));
        assert_eq!(origin.destination.to_canonical().to_string(), destination.trim_start_matches("::ffff:"));
    }
    let labels: Vec<_> = net
        .cable
        .take_trace()
        .iter()
        .filter(|passing| passing.ip.src.is_ipv6())
        .map(|passing| u32::from_be_bytes(passing.bytes[..4].try_into().unwrap()) & 0xf_ffff)
        .collect();
    assert!(labels[0] != 0 && labels[0] == labels[1], "RFC 6437: one label for a flow");
}

#[test]
fn a_datagram_leaves_from_the_address_that_is_asked_for() {
    let mut net = net();
    let receiver = bind(&net, 1, "0.0.0.0:53");
    let sender = bind(&net, 0, "0.0.0.0:4000");
    let from = |source: &str| Transmission {
        source: Some(source.parse().unwrap()),
        destination: Some(to_host_1(53)),
        ..Transmission::new(b"x")
    };
    sender.transmit(&net, &from("10.0.0.1")).unwrap();
    sender.transmit(&net, &from("0.0.0.0")).unwrap();
    for (source, error) in [
        ("10.0.0.9", libc::ENETUNREACH),
        ("224.0.0.9", libc::EINVAL),
        ("fd00::1", libc::EINVAL),
        ("127.0.0.1", libc::EINVAL),
    ] {
        assert_eq!(errno(sender.transmit(&net, &from(source))), Some(error), "{source}");
    }
    net.run_for(SECOND);
    let senders: Vec<_> = std::iter::from_fn(|| receiver.recv(&net).ok()).map(|(sender, _)| sender).collect();
    assert_eq!(senders, ["10.0.0.1:4000"; 2]);
}

/// As sendto(2), sendmsg(2) and connect(2) of Linux 6.18 answer.
#[test]
fn foreign_sources_need_freebind_or_transparent() {
    let mut net = net();
    for (bound, to, source, options, expected) in [
        ("8.8.8.8:0", "10.0.0.2:53", None, (true, false), Some(libc::ENETUNREACH)),
        ("8.8.8.8:0", "10.0.0.2:53", None, (false, true), None),
        ("[2001:db8::1]:0", "[fd00::2]:53", None, (true, false), None),
        ("[2001:db8::1]:0", "[fd00::2]:53", None, (false, true), None),
        ("0.0.0.0:0", "10.0.0.2:53", Some("8.8.8.8"), (false, false), Some(libc::ENETUNREACH)),
        ("0.0.0.0:0", "10.0.0.2:53", Some("8.8.8.8"), (true, false), Some(libc::ENETUNREACH)),
        ("0.0.0.0:0", "10.0.0.2:53", Some("8.8.8.8"), (false, true), None),
        ("[::]:0", "[fd00::2]:53", Some("2001:db8::1"), (false, false), Some(libc::EINVAL)),
        ("[::]:0", "[fd00::2]:53", Some("2001:db8::1"), (true, false), None),
        ("[::]:0", "[fd00::2]:53", Some("2001:db8::1"), (false, true), None),
    ] {
        let socket = bind_with(&net, 0, bound, |socket| {
            (socket.ip.freebind, socket.ip.transparent) = options;
        });
        let socket = socket.unwrap();
        let source: Option<std::net::IpAddr> = source.map(|source| source.parse().unwrap());
        let destination = Some(to.parse().unwrap());
        let _ = net.cable.take_trace();
        let sent = socket.transmit(&net, &Transmission { destination, source, ..Transmission::new(b"x") });
        assert_eq!(sent.as_ref().err().and_then(io::Error::raw_os_error), expected, "{bound}, {source:?}");
        net.settle();
        let bound: SocketAddr = bound.parse().unwrap();
        let left = net.cable.take_trace().first().map(|packet| packet.ip.src);
        assert_eq!(left, expected.is_none().then_some(source.unwrap_or(bound.ip())));
        if source.is_none() {
            let connected = socket.connect(&net, to);
            assert_eq!(connected.err().and_then(|error| error.raw_os_error()), expected, "{bound}");
        }
        // What it is connected from stays, as the route of the kernel does.
        socket.cell.set_transparent(false);
        assert_eq!(
            source.is_some() || socket.send(&net, b"x").is_err(),
            source.is_some() || expected.is_some()
        );
        socket.close(&net);
    }
}

#[test]
fn link_local_peers_are_named_with_their_interface() {
    let mut net = Net::pair(7, LinkSpec::default());
    let with_link_local = |net: &Net, host: usize| {
        let device = net.cable.end(host);
        let interface = crate::Interface::new(device)
            .address(&format!("{}/64", address(host, Family::V6)))
            .address(&format!("fe80::{}/64", host + 1));
        crate::stack::Engine::new(crate::Config::default(), vec![interface]).unwrap()
    };
    for host in [0, 1] {
        let engine = with_link_local(&net, host);
        net.replace_host(host, engine, crate::stack::Batch::new());
    }
    let server = bind(&net, 1, "[::]:53");
    let client = bind(&net, 0, "[::]:4000");
    assert_eq!(errno(client.connect(&net, "[fe80::2]:53")), Some(libc::EINVAL), "on which link?");
    assert_eq!(errno(client.connect(&net, "[fe80::2%9]:53")), Some(libc::ENODEV));
    client.connect(&net, "[fe80::2%1]:53").unwrap();
    client.send(&net, b"x").unwrap();
    net.run_for(SECOND);
    let (sender, _) = server.recv(&net).unwrap();
    assert_eq!(sender, "[fe80::1%1]:4000");
    server.send_to(&net, b"y", &sender).unwrap();
    net.run_for(SECOND);
    assert_eq!(client.recv(&net).unwrap(), ("[fe80::2%1]:53".to_owned(), b"y".to_vec()));
}
