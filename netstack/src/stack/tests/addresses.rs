//! Which addresses are the stack's own, and what follows from that.

use super::to_host_1;
use crate::config::Config;
use crate::device::{Device, Loopback};
use crate::icmp::Unreachable;
use crate::stack::testing::{LinkSpec, Net, Passing, Recorder};
use crate::stack::{Engine, Family, Interface, Rejection};
use crate::wire::{
    ChecksumMode, Ecn, Flags, HeaderBuf, IpMeta, Options, Segment, SeqNum, emit_ip, emit_tcp, protocol,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A SYN for port 80 of host 1.
fn syn(from: &str) -> Vec<u8> {
    let segment = Segment {
        seq: SeqNum::new(1000),
        ack: SeqNum::new(0),
        flags: Flags::SYN,
        window: 1000,
        urgent: 0,
        options: Options::default(),
        ecn: Ecn::NotEct,
        payload_len: 0,
        gso_size: None,
    };
    let meta = IpMeta::new(ip(from), to_host_1(80).ip(), 64);
    let mut packet = HeaderBuf::new();
    emit_tcp(&mut packet, &meta, 5000, 80, &segment, &[], ChecksumMode::Full);
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
    socket.bind(net.engine(1), to_host_1(80)).unwrap();
    let listener = net.engine(1).listen_pending(socket, 8, Arc::new(Recorder::default())).unwrap();
    assert!(answers(&mut net, &syn("240.0.0.1")).is_empty(), "the application decides");
    let pending = net.engine(1).accept_pending(&listener).unwrap();
    net.engine(1).reject_pending(net.now, &pending, Rejection::Unreachable(Unreachable::Host));
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
fn sockets_are_bound_to_own_addresses_only() {
    let net = Net::pair(122, LinkSpec::default());
    let bind = |family, address: &str| {
        let address = SocketAddr::new(ip(address), 80);
        net.socket(1, family).bind(net.engine(1), address).map_err(|error| error.raw_os_error().unwrap())
    };
    for own in ["10.0.0.2", "127.0.0.1", "127.3.4.5", "0.0.0.0"] {
        assert_eq!(bind(Family::V4, own), Ok(()), "{own}");
    }
    for other in
        ["10.0.0.1", "10.0.0.255", "255.255.255.255", "127.255.255.255", "224.0.0.1", "0.0.0.1", "240.0.0.1"]
    {
        assert_eq!(bind(Family::V4, other), Err(libc::EADDRNOTAVAIL), "{other}");
    }
    for own in ["fd00::2", "::1", "::", "::ffff:10.0.0.2"] {
        assert_eq!(bind(Family::V6, own), Ok(()), "{own}");
    }
    for other in ["fd00::1", "ff02::1", "::ffff:10.0.0.1"] {
        assert_eq!(bind(Family::V6, other), Err(libc::EADDRNOTAVAIL), "{other}");
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
fn interfaces_have_addresses_of_one_host() {
    for cidr in ["10.0.0.255/24", "224.0.0.1/24", "0.0.0.1/8", "255.255.255.255/32", "ff02::1/64", "::/64"] {
        let error = build(Arc::new(Loopback::new(1500)), &[cidr], "10.0.0.1").unwrap_err();
        assert_eq!(error, format!("{cidr} is not the address of a host"));
    }
    let error = build(Arc::new(Loopback::new(1500)), &["::ffff:10.0.0.2/128"], "10.0.0.1").unwrap_err();
    assert!(error.ends_with("is not the address of a host"), "{error}");
    assert!(build(Arc::new(Loopback::new(1500)), &["240.0.0.1/24"], "10.0.0.1").is_ok());
}
