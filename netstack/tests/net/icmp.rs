//! Ping and raw sockets.

use crate::common::{linked, stack};
use netstack::net::{PingSocket, RawSocket};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{Interest, ReadBuf};
use tokio::time::{Instant, timeout};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

/// An echo request.
fn request(v6: bool, sequence: u8, data: &[u8]) -> Vec<u8> {
    [&[if v6 { 128 } else { 8 }, 0, 0, 0, 0xde, 0xad, 0, sequence], data].concat()
}

/// An IPv4 packet whose header the stack completes.
fn packet(protocol: u8, to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let [a, b, c, d] = to;
    [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 0, 0, 0, 0, a, b, c, d], payload].concat()
}

#[tokio::test(start_paused = true)]
async fn a_ping_comes_back_with_its_sequence_number_and_data() {
    let (left, _right) = linked("delay=20ms");
    let mut buf = [0; 4000];
    let ping = PingSocket::bind_on(&left, addr("0.0.0.0:0")).unwrap();
    let other = PingSocket::bind_on(&left, addr("0.0.0.0:0")).unwrap();
    let identifier = ping.local_addr().unwrap().port();
    assert_ne!(identifier, other.local_addr().unwrap().port());
    for data in [&b"data"[..], b"", &[7; 3000]] {
        let start = Instant::now();
        let message = request(false, 9, data);
        assert_eq!(ping.send_to(&message, ip("10.0.0.2")).await.unwrap(), message.len());
        let (len, from) = ping.recv_from(&mut buf).await.unwrap();
        assert!((40..=44).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        assert_eq!((len, from), (message.len(), ip("10.0.0.2")));
        assert_eq!((buf[0], buf[1]), (0, 0), "an echo reply");
        assert_eq!(buf[4..6], identifier.to_be_bytes());
        assert_eq!((buf[7], &buf[8..len]), (9, data));
    }
    assert_eq!(other.try_recv_from(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(
        errno(PingSocket::bind_on(&left, addr(&format!("0.0.0.0:{identifier}")))),
        Some(libc::EADDRINUSE)
    );
}

#[tokio::test(start_paused = true)]
async fn pings_over_ipv6_and_to_oneself() {
    let stack = stack();
    for (bound, to, v6) in
        [("127.0.0.1:7", "127.0.0.1", false), ("[::]:7", "::1", true), ("[::1]:8", "::", true)]
    {
        let ping = PingSocket::bind_on(&stack, addr(bound)).unwrap();
        ping.send_to(&request(v6, 1, b"x"), ip(to)).await.unwrap();
        let mut buf = [0; 100];
        let mut filled = ReadBuf::new(&mut buf);
        let from = std::future::poll_fn(|cx| ping.poll_recv_from(cx, &mut filled)).await.unwrap();
        assert!(from.is_loopback());
        assert_eq!(filled.filled().len(), 9);
    }
}

#[tokio::test(start_paused = true)]
async fn buffers_have_the_size_that_they_are_given() {
    let stack = stack();
    let ping = PingSocket::bind_on(&stack, addr("127.0.0.1:0")).unwrap();
    let raw = RawSocket::bind_on(&stack, 253, ip("0.0.0.0")).unwrap();
    assert_eq!((ping.recv_buffer_size().unwrap(), raw.send_buffer_size().unwrap()), (212_992, 212_992));
    ping.set_recv_buffer_size(3000).unwrap();
    ping.set_send_buffer_size(50_000).unwrap();
    raw.set_recv_buffer_size(100_000).unwrap();
    raw.set_send_buffer_size(50_000).unwrap();
    assert_eq!((ping.recv_buffer_size().unwrap(), ping.send_buffer_size().unwrap()), (6000, 100_000));
    assert_eq!((raw.recv_buffer_size().unwrap(), raw.send_buffer_size().unwrap()), (200_000, 100_000));
    for n in 0..50 {
        ping.send_to(&request(false, n, &[7; 500]), ip("127.0.0.1")).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (mut buf, mut received) = ([0; 600], 0);
    while ping.try_recv_from(&mut buf).is_ok() {
        received += 1;
    }
    assert!((5..=11).contains(&received), "{received} of 508 bytes in 6,000 bytes of memory");
    assert_eq!(ping.dropped(), 50 - received);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_echo_request_is_refused() {
    let stack = stack();
    let ping = PingSocket::bind_on(&stack, addr("0.0.0.0:0")).unwrap();
    let localhost = ip("127.0.0.1");
    let reply = [0, 0, 0, 0, 0, 0, 0, 1];
    let with_code = [8, 1, 0, 0, 0, 0, 0, 1];
    for message in [&reply[..], &with_code, &[8; 7], &request(true, 1, b"")] {
        assert_eq!(errno(ping.send_to(message, localhost).await), Some(libc::EINVAL), "{message:?}");
    }
    let message = request(false, 1, b"");
    assert_eq!(errno(ping.send(&message).await), Some(libc::EDESTADDRREQ));
    assert_eq!(errno(ping.send_to(&message, ip("::1")).await), Some(libc::EAFNOSUPPORT));
    assert_eq!(errno(ping.send_to(&message, ip("10.0.0.1")).await), Some(libc::ENETUNREACH));
    assert_eq!(errno(ping.send_to(&message, ip("255.255.255.255")).await), Some(libc::EACCES));
    assert_eq!(errno(ping.send_to(&request(false, 1, &[0; 65_508]), localhost).await), Some(libc::EMSGSIZE));
    ping.connect(localhost).unwrap();
    assert_eq!(ping.peer_addr().unwrap(), localhost);
    ping.send(&message).await.unwrap();
    assert!(ping.ready(Interest::READABLE).await.unwrap().is_readable());
    assert!(ping.take_error().unwrap().is_none());
    assert!(format!("{ping:?}").starts_with("PingSocket { addr: 0.0.0.0:"), "{ping:?}");
}

#[tokio::test(start_paused = true)]
async fn a_raw_socket_sees_packets_of_its_protocol_and_nobody_says_unreachable() {
    let (left, right) = linked("delay=1ms");
    let sender = RawSocket::bind_on(&left, 253, ip("0.0.0.0")).unwrap();
    let message = packet(253, [10, 0, 0, 2], b"payload");
    sender.send(&message).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(right.counters().in_unknown_protocols, 1, "nobody wants it");
    assert_eq!(right.counters().icmp_out, 1);
    let receivers = [(); 2].map(|()| RawSocket::bind_on(&right, 253, ip("0.0.0.0")).unwrap());
    let others = [RawSocket::bind_on(&right, 254, ip("0.0.0.0")), RawSocket::bind_on(&right, 253, ip("::"))];
    sender.send(&message).await.unwrap();
    let mut buf = [0; 100];
    for receiver in &receivers {
        let (len, from) = receiver.recv_from(&mut buf).await.unwrap();
        assert_eq!((len, from), (27, ip("10.0.0.1")));
        assert_eq!((buf[0], buf[3], buf[9], &buf[20..27]), (0x45, 27, 253, &b"payload"[..]));
        assert_eq!(buf[12..20], [10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(netstack::wire::checksum(&buf[..20]), 0, "the stack completes the header");
    }
    for other in others {
        assert_eq!(other.unwrap().try_recv_from(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(right.counters().icmp_out, 1);
}

#[tokio::test(start_paused = true)]
async fn a_raw_socket_gets_copies_of_udp_and_icmp() {
    let (left, right) = linked("delay=1ms");
    let (udp, icmp) = (
        RawSocket::bind_on(&right, 17, ip("10.0.0.2")).unwrap(),
        RawSocket::bind_on(&right, 1, ip("0.0.0.0")).unwrap(),
    );
    let server = right.udp_socket("10.0.0.2:53").await.unwrap();
    let client = left.udp_socket("10.0.0.1:4000").await.unwrap();
    client.send_to(b"x", "10.0.0.2:53").await.unwrap();
    let mut buf = [0; 100];
    assert_eq!(server.recv(&mut buf).await.unwrap(), 1);
    assert_eq!(udp.recv_from(&mut buf).await.unwrap(), (29, ip("10.0.0.1")));
    let ping = PingSocket::bind_on(&left, addr("0.0.0.0:0")).unwrap();
    ping.send_to(&request(false, 1, b""), ip("10.0.0.2")).await.unwrap();
    assert_eq!(ping.recv_from(&mut buf).await.unwrap().0, 8, "answered by the stack");
    assert_eq!(icmp.recv_from(&mut buf).await.unwrap(), (28, ip("10.0.0.1")));
    // A connected one hears its peer only.
    icmp.connect(ip("10.0.0.9")).unwrap();
    ping.send_to(&request(false, 2, b""), ip("10.0.0.2")).await.unwrap();
    ping.recv_from(&mut buf).await.unwrap();
    assert!(timeout(Duration::from_secs(1), icmp.recv_from(&mut buf)).await.is_err());
    assert_eq!(errno(RawSocket::bind_on(&left, 6, ip("0.0.0.0"))), Some(libc::EPROTONOSUPPORT));
    assert_eq!(errno(RawSocket::bind_on(&left, 17, ip("10.0.0.7"))), Some(libc::EADDRNOTAVAIL));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_packet_is_refused() {
    let stack = stack();
    let v4 = RawSocket::bind_on(&stack, 253, ip("0.0.0.0")).unwrap();
    let v6 = RawSocket::bind_on(&stack, 253, ip("::")).unwrap();
    let good = packet(253, [127, 0, 0, 1], b"x");
    for bad in [&good[..19], &[], &[0x65; 40], &[0x4f; 20]] {
        assert_eq!(errno(v4.send(bad).await), Some(libc::EINVAL), "{bad:?}");
    }
    assert_eq!(errno(v6.send(&good).await), Some(libc::EINVAL), "of the other family");
    assert_eq!(errno(v4.send(&packet(253, [10, 0, 0, 1], b"x")).await), Some(libc::ENETUNREACH));
    assert_eq!(errno(v4.send(&packet(253, [127, 0, 0, 1], &[0; 65_516])).await), Some(libc::EMSGSIZE));
    let mut six = vec![0x60, 0, 0, 0, 0, 0, 253, 64];
    six.extend([0; 16]);
    six.extend("::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    six.extend(b"x");
    v6.try_send(&six).unwrap();
    let mut buf = [0; 100];
    let (len, from) = v6.recv_from(&mut buf).await.unwrap();
    assert_eq!((len, from, buf[5], buf[40]), (41, ip("::1"), 1, b'x'));
    assert_eq!((v6.protocol(), v6.dropped()), (253, 0));
}

#[tokio::test(start_paused = true)]
async fn an_icmp_error_is_for_the_connected_socket_that_pinged() {
    let (left, right) = linked("delay=1ms");
    let ping = PingSocket::bind_on(&left, addr("0.0.0.0:0")).unwrap();
    ping.connect(ip("10.0.0.2")).unwrap();
    let liar = RawSocket::bind_on(&right, 1, ip("0.0.0.0")).unwrap();
    ping.send(&request(false, 1, b"")).await.unwrap();
    let mut buf = [0; 100];
    let (len, _) = liar.recv_from(&mut buf).await.unwrap();
    ping.recv_from(&mut [0; 100]).await.unwrap();
    // "Host administratively prohibited", about the request.
    let mut error = [&[3, 10, 0, 0, 0, 0, 0, 0], &buf[..len]].concat();
    let sum = netstack::wire::checksum(&error);
    error[2..4].copy_from_slice(&sum.to_be_bytes());
    liar.send(&packet(1, [10, 0, 0, 1], &error)).await.unwrap();
    let told = ping.recv_from(&mut [0; 100]).await;
    assert_eq!(errno(told), Some(libc::EHOSTUNREACH));
    assert!(timeout(Duration::from_secs(1), ping.recv_from(&mut [0; 100])).await.is_err(), "once");
}
