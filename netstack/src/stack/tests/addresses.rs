//! Which addresses are the stack's own, and what follows from that.

use super::to_host_1;
use crate::buffer::PacketBuf;
use crate::config::Config;
use crate::device::{Capabilities, Device, Loopback, Readiness, RxMeta, TxPacket};
use crate::icmp::Unreachable;
use crate::stack::testing::{LinkSpec, Net, Passing, Recorder, address};
use crate::stack::{Engine, Family, Interface, Rejection};
use crate::time::Instant;
use crate::wire::{
    ChecksumMode, Flags, HeaderBuf, IpMeta, Segment, SeqNum, TcpDatagram, emit_ip, emit_tcp, protocol,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A SYN for port 80 of host 1.
fn syn(from: &str) -> Vec<u8> {
    let segment = Segment { window: 1000, ..Segment::new(Flags::SYN, SeqNum::new(1000), SeqNum::new(0)) };
    let meta = IpMeta::new(ip(from), to_host_1(80).ip(), 64);
    let mut packet = HeaderBuf::new();
    emit_tcp(
        &mut packet,
        &TcpDatagram { ip: &meta, src_port: 5000, dst_port: 80, segment: &segment, payload: &[] },
        ChecksumMode::Full,
    );
    packet.to_vec()
}

/// A UDP datagram for a port of host 1 where nobody listens.
fn datagram(from: &str) -> Vec<u8> {
    let body = [0x10, 0, 0, 53, 0, 8, 0, 0];
    let mut packet = vec![0; 20];
    emit_ip(&mut packet, &IpMeta::new(ip(from), to_host_1(53).ip(), 64), protocol::UDP, body.len());
    packet.extend(body);
    packet
}

/// What host 1 sends when `packet` arrives there.
fn answers(net: &mut Net, packet: &[u8]) -> Vec<Passing> {
    net.cable.inject(net.now, 1, packet);
    net.settle();
    net.cable.take_trace()
}

/// TCP takes connections from 240.0.0.0/4, so their refusal must reach it, too.
#[test]
fn a_client_of_class_e_is_told_that_it_was_turned_away() {
    let mut net = Net::pair(120, LinkSpec::default());
    let mut socket = net.socket(1, Family::V4);
    net.engine(1).tcp().bind(net.engine(1).core(), &mut socket, to_host_1(80)).unwrap();
    let listener = net
        .engine(1)
        .with_tcp(net.now, |tcp, turn| tcp.listen_pending(turn, socket, 8, Arc::new(Recorder::default())))
        .unwrap();
    assert!(answers(&mut net, &syn("240.0.0.1")).is_empty(), "the application decides");
    let pending = net.engine(1).tcp().accept_pending(&listener).unwrap();
    net.engine(1).with_tcp(net.now, |tcp, turn| {
        tcp.reject_pending(turn, &pending, Rejection::Unreachable(Unreachable::Host))
    });
    let sent = net.cable.take_trace();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].ip.protocol, sent[0].ip.dst), (protocol::ICMP, ip("240.0.0.1")));
}

#[test]
fn icmp_errors_go_to_hosts_and_never_to_groups() {
    let mut net = Net::pair(121, LinkSpec::default());
    for from in ["10.0.0.9", "192.0.2.1", "240.0.0.1"] {
        let sent = answers(&mut net, &datagram(from));
        assert_eq!(sent.len(), 1, "{from}");
        assert_eq!((sent[0].ip.protocol, sent[0].ip.dst), (protocol::ICMP, ip(from)));
    }
    for from in ["10.0.0.255", "255.255.255.255", "224.0.0.1", "0.0.0.0", "0.1.2.3", "127.255.255.255"] {
        assert!(answers(&mut net, &datagram(from)).is_empty(), "{from}");
    }
}

#[test]
fn sockets_are_bound_to_own_addresses_and_over_ipv4_to_groups() {
    let net = Net::pair(122, LinkSpec::default());
    let bind = |family, address: &str| {
        let address = SocketAddr::new(ip(address), 80);
        net.engine(1)
            .tcp()
            .bind(net.engine(1).core(), &mut net.socket(1, family), address)
            .map_err(|error| error.raw_os_error().unwrap())
    };
    let groups = ["10.0.0.255", "255.255.255.255", "127.255.255.255", "224.0.0.1"];
    for own in ["10.0.0.2", "127.0.0.1", "127.3.4.5", "0.0.0.0"].into_iter().chain(groups) {
        assert_eq!(bind(Family::V4, own), Ok(()), "{own}");
    }
    for other in ["10.0.0.1", "0.0.0.1", "240.0.0.1"] {
        assert_eq!(bind(Family::V4, other), Err(libc::EADDRNOTAVAIL), "{other}");
    }
    for own in ["fd00::2", "::1", "::", "::ffff:10.0.0.2"] {
        assert_eq!(bind(Family::V6, own), Ok(()), "{own}");
    }
    for other in ["fd00::1", "::ffff:10.0.0.1"] {
        assert_eq!(bind(Family::V6, other), Err(libc::EADDRNOTAVAIL), "{other}");
    }
    for other in ["ff02::1", "ff0e::1", "fe80::1"] {
        assert_eq!(bind(Family::V6, other), Err(libc::EINVAL), "{other}");
    }
}

/// A device that has to find its neighbours.
struct Ethernet(Loopback);

impl Device for Ethernet {
    fn capabilities(&self) -> Capabilities {
        Capabilities { mtu: 1500, point_to_point: false, ..self.0.capabilities() }
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        self.0.receive(now, queue, buf)
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        self.0.transmit(now, queue, packet)
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        self.0.readiness(queue)
    }
}

fn build(device: Arc<dyn Device>, addresses: &[&str], gateway: &str) -> Result<Arc<Engine>, String> {
    let interface = Interface::new(device).name("eth0").gateway(gateway);
    let interface = addresses.iter().fold(interface, |interface, cidr| interface.address(cidr));
    Engine::new(Config::default(), vec![interface]).map_err(|error| {
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        error.to_string()
    })
}

#[test]
fn a_gateway_is_on_the_link_unless_the_link_has_one_other_end_only() {
    let ethernet =
        |addresses: &[&str], gateway| build(Arc::new(Ethernet(Loopback::new(1500))), addresses, gateway);
    let own = ["10.0.0.2/24", "fd00::2/64"];
    for gateway in ["10.0.0.1", "fd00::1", "fe80::1"] {
        assert!(ethernet(&own, gateway).is_ok(), "{gateway}");
    }
    for (gateway, expected) in [
        ("192.0.2.1", "the gateway 192.0.2.1 is in no network of `eth0`: give the interface an address"),
        ("127.0.0.1", "the gateway 127.0.0.1 of `eth0` is not the address of another host"),
        ("fd01::1", "the gateway fd01::1 is in no network of `eth0`: give the interface an address"),
        ("10.0.0.2", "the gateway 10.0.0.2 of `eth0` is not the address of another host"),
        ("10.0.0.255", "the gateway 10.0.0.255 of `eth0` is not the address of another host"),
        ("0.0.0.0", "the gateway 0.0.0.0 of `eth0` is not the address of another host"),
    ] {
        let error = ethernet(&own, gateway).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
    // A network of some other interface is not enough.
    let other = Interface::new(Arc::new(Loopback::new(1500))).address("192.0.2.2/24");
    let one =
        Interface::new(Arc::new(Ethernet(Loopback::new(1500)))).address("10.0.0.2/24").gateway("192.0.2.1");
    let error = Engine::new(Config::default(), vec![other, one]).unwrap_err().to_string();
    assert!(error.contains("in no network of `net1`"), "{error}");
}

#[test]
fn any_gateway_makes_a_point_to_point_device_the_default_route() {
    let engine = build(Arc::new(Loopback::new(1500)), &["10.0.0.2/32"], "192.0.2.1").unwrap();
    let route = |to| engine.core().routes().lookup(engine.core().addresses(), ip(to), None, None);
    let found = route("8.8.8.8").expect("the default route");
    assert_eq!((found.interface, found.source), (0, address(1, Family::V4)));
    assert_eq!(route("2600::1"), None, "no gateway of that family");
}

#[test]
fn interfaces_have_addresses_of_one_host() {
    for cidr in ["10.0.0.255/24", "224.0.0.1/24", "0.0.0.1/8", "255.255.255.255/32", "ff02::1/64", "::/64"] {
        let error = build(Arc::new(Loopback::new(1500)), &[cidr], "10.0.0.1").unwrap_err();
        assert_eq!(error, format!("{cidr} is not the address of a host"));
    }
    let error = build(Arc::new(Loopback::new(1500)), &["::ffff:10.0.0.2/128"], "10.0.0.1").unwrap_err();
    assert!(error.ends_with("is not the address of a host"), "{error}");
    assert!(build(Arc::new(Loopback::new(1500)), &["240.0.0.1/24"], "10.0.0.1").is_ok());
}
