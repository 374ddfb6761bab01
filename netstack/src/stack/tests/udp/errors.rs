//! What sending and ICMP errors say.

use super::*;
use crate::icmp::IcmpErrorKind;
use crate::stack::testing::icmp_about;

#[test]
fn a_closed_port_refuses_a_connected_socket_once() {
    let mut net = net();
    for (local, peer) in
        [("0.0.0.0:4000", "10.0.0.2:9"), ("[::]:4001", "[fd00::2]:9"), ("[::]:4002", "10.0.0.2:9")]
    {
        let client = bind(&net, 0, local);
        client.connect(&net, peer).unwrap();
        client.send(&net, b"x").unwrap();
        net.run_for(SECOND);
        assert_eq!(client.events.take(), Events::ERROR, "{peer}");
        assert_eq!(kind(client.recv(&net)), io::ErrorKind::ConnectionRefused, "{peer}");
        assert_eq!(kind(client.recv(&net)), io::ErrorKind::WouldBlock, "once");
        client.send(&net, b"x").unwrap();
        net.run_for(SECOND);
        let _ = net.cable.take_trace();
        assert_eq!(kind(client.send(&net, b"not sent")), io::ErrorKind::ConnectionRefused);
        assert!(net.cable.take_trace().is_empty());
        client.send(&net, b"x").unwrap();
        net.run_for(SECOND);
        assert_eq!(client.cell.take_error().unwrap().kind(), io::ErrorKind::ConnectionRefused);
        assert!(client.cell.take_error().is_none());
        // Once it is not sent to the peer alone, nobody could say what the error is about.
        let loose = bind(&net, 0, "[::]:0");
        loose.send_to(&net, b"x", peer).unwrap();
        net.run_for(SECOND);
        assert_eq!((loose.events.take(), kind(loose.recv(&net))), (Events::NONE, io::ErrorKind::WouldBlock));
    }
    assert_eq!(net.engine(1).counters().udp_no_ports, 12);
}

#[test]
fn the_error_numbers_are_those_of_linux() {
    let v4 = |kind, code| (false, kind, code);
    let v6 = |kind, code| (true, kind, code);
    for ((ipv6, kind, code), expected) in [
        (v4(3, 0), None),
        (v4(3, 1), None),
        (v4(3, 2), Some(libc::ENOPROTOOPT)),
        (v4(3, 3), Some(libc::ECONNREFUSED)),
        (v4(3, 5), None),
        (v4(3, 6), Some(libc::ENETUNREACH)),
        (v4(3, 7), Some(libc::EHOSTDOWN)),
        (v4(3, 8), Some(libc::ENONET)),
        (v4(3, 10), Some(libc::EHOSTUNREACH)),
        (v4(3, 13), Some(libc::EHOSTUNREACH)),
        (v4(3, 16), None),
        (v4(11, 0), None),
        (v4(12, 0), Some(libc::EPROTO)),
        (v6(1, 0), None),
        (v6(1, 1), Some(libc::EACCES)),
        (v6(1, 3), None),
        (v6(1, 4), Some(libc::ECONNREFUSED)),
        (v6(1, 6), Some(libc::EACCES)),
        (v6(3, 0), None),
        (v6(4, 1), Some(libc::EPROTO)),
    ] {
        let mut net = net();
        let (local, peer) = if ipv6 { ("[::]:4000", "[fd00::2]:9") } else { ("0.0.0.0:4000", "10.0.0.2:9") };
        let _server = bind(&net, 1, if ipv6 { "[::]:9" } else { "0.0.0.0:9" });
        let client = bind(&net, 0, local);
        client.connect(&net, peer).unwrap();
        client.send(&net, b"x").unwrap();
        let sent = net.cable.take_trace().remove(0);
        net.cable.inject(net.now, 0, &icmp_about(&sent.bytes, (kind, code), 0));
        net.settle();
        let error = client.cell.take_error().and_then(|error| error.raw_os_error());
        assert_eq!(error, expected, "IPv6 {ipv6}, type {kind}, code {code}");
    }
    let none = IcmpErrorKind::FragmentationNeeded { mtu: 1 }.final_errno(false);
    assert_eq!(none, None);
}

#[test]
fn an_icmp_error_about_nobodys_datagram_is_counted() {
    let mut net = net();
    let client = bind(&net, 0, "0.0.0.0:4000");
    client.connect(&net, "10.0.0.2:9").unwrap();
    client.send(&net, b"x").unwrap();
    let mut other = net.cable.take_trace().remove(0).bytes;
    // Its destination port is another one.
    other[23] ^= 1;
    net.cable.inject(net.now, 0, &icmp_about(&other, (3, 3), 0));
    net.settle();
    assert!(client.cell.take_error().is_none());
    assert_eq!(net.engine(0).counters().udp_icmp_unmatched, 1);
}

#[test]
fn sending_fails_as_by_linux() {
    let net = net();
    let v4 = bind(&net, 0, "0.0.0.0:0");
    let v6 = bind(&net, 0, "[::]:0");
    let only_v6 = bind_with(&net, 0, "[::]:0", |socket| socket.ip.set_only_v6(true).unwrap()).unwrap();
    let bound_v6 = bind(&net, 0, "[fd00::1]:0");
    let inside = bind(&net, 0, "127.0.0.1:0");
    for (socket, to, error) in [
        (&v4, "10.0.0.2:0", libc::EINVAL),
        (&v4, "[fd00::2]:9", libc::EAFNOSUPPORT),
        (&v4, "8.8.8.8:9", libc::ENETUNREACH),
        (&v4, "10.0.0.255:9", libc::EACCES),
        (&v4, "255.255.255.255:9", libc::EACCES),
        (&v6, "[::ffff:10.0.0.255]:9", libc::EACCES),
        (&v6, "[2001:db8::1]:9", libc::ENETUNREACH),
        (&only_v6, "[::ffff:10.0.0.2]:9", libc::ENETUNREACH),
        (&bound_v6, "10.0.0.2:9", libc::ENETUNREACH),
        (&inside, "10.0.0.2:9", libc::EINVAL),
    ] {
        assert_eq!(errno(socket.send_to(&net, b"x", to)), Some(error), "{to}");
    }
    assert_eq!(errno(v4.send(&net, b"x")), Some(libc::EDESTADDRREQ));
    for (socket, to, error) in [
        (&v4, "[fd00::2]:9", libc::EAFNOSUPPORT),
        (&v4, "8.8.8.8:9", libc::ENETUNREACH),
        (&v4, "10.0.0.255:9", libc::EACCES),
    ] {
        assert_eq!(errno(socket.connect(&net, to)), Some(error), "{to}");
    }
    // Once it is connected over IPv4, a socket of IPv6 sends from an address of IPv4.
    let mapped = bind(&net, 0, "[::]:0");
    mapped.connect(&net, "10.0.0.2:9").unwrap();
    assert_eq!(errno(mapped.connect(&net, "[fd00::2]:9")), Some(libc::EAFNOSUPPORT));
    assert_eq!(errno(mapped.send_to(&net, b"x", "[fd00::2]:9")), Some(libc::EAFNOSUPPORT));
    // One that is connected to port 0 has no peer to speak of.
    mapped.connect(&net, "10.0.0.2:0").unwrap();
    assert_eq!(errno(mapped.cell.peer_addr()), Some(libc::ENOTCONN));
    mapped.send(&net, b"x").unwrap();
    net.cable.take_trace();
    // A group of one link is none without the link.
    for group in ["[ff02::77]:0", "[ff01::77]:0", "[fe80::1]:0"] {
        assert_eq!(errno(bind_with(&net, 0, group, |_| ()).map(drop)), Some(libc::EINVAL), "{group}");
    }
    assert_eq!(errno(v6.connect(&net, "[ff02::77]:9")), Some(libc::EINVAL));
    // An IPv6 socket takes an IPv4 address in either form.
    v6.send_to(&net, b"x", "10.0.0.2:9").unwrap();
    v6.send_to(&net, b"x", "[::ffff:10.0.0.2]:9").unwrap();
    let senders: Vec<_> = net.cable.take_trace().iter().map(|passing| passing.ip.src.to_string()).collect();
    assert_eq!(senders, ["10.0.0.1"; 2]);
}

#[test]
fn the_end_of_a_device_is_an_error_for_who_can_use_no_other() {
    let mut net = net();
    let bound = bind(&net, 0, "10.0.0.1:1");
    let connected = bind(&net, 0, "0.0.0.0:2");
    connected.connect(&net, "10.0.0.2:9").unwrap();
    let loose = bind(&net, 0, "0.0.0.0:3");
    net.cable.pull();
    net.settle();
    for socket in [&bound, &connected] {
        assert_eq!(socket.events.take(), Events::ERROR);
        assert_eq!(kind(socket.recv(&net)), io::ErrorKind::NotConnected);
    }
    assert_eq!(kind(loose.recv(&net)), io::ErrorKind::WouldBlock);
    assert_eq!(kind(loose.send_to(&net, b"x", "10.0.0.2:9")), io::ErrorKind::NotConnected);
    loose.send_to(&net, b"x", "127.0.0.1:3").unwrap();
    net.settle();
    assert_eq!(loose.recv_all(&net), [b"x".to_vec()]);
}

#[test]
fn a_stack_that_is_shut_down_refuses_every_call() {
    let net = net();
    let socket = bind(&net, 0, "0.0.0.0:1");
    net.engine(0).fail_all(net.now, &io::Error::other("over"));
    assert!(socket.events.take().contains(Events::ERROR));
    for outcome in
        [socket.recv(&net).map(drop), socket.send(&net, b"x").map(drop), socket.connect(&net, "10.0.0.2:9")]
    {
        assert_eq!(outcome.unwrap_err().to_string(), "over");
    }
    assert!(bind_with(&net, 0, "0.0.0.0:2", |_| ()).is_err());
}
