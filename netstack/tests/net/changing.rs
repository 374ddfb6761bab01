//! Interfaces that change while the stack runs, and lists of what there is, in virtual time.

use crate::common::linked;
use netstack::device::{Pair, PairConfig};
use netstack::net::NetworkEvent;
use netstack::{Interface, IpRoute, Stack};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const LINK: &str = "delay=10ms";

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[tokio::test(start_paused = true)]
async fn addresses_come_and_go() {
    let (client, server) = linked(LINK);
    let net0 = server.interface("net0").unwrap();
    let listener = server.listen("0.0.0.0:80").await.unwrap();
    let second = Duration::from_secs(1);
    assert!(timeout(second, client.connect("10.0.0.9:80")).await.is_err(), "nobody has it");
    net0.add_address("10.0.0.9/24").unwrap();
    let stream = client.connect("10.0.0.9:80").await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    assert_eq!(accepted.local_addr().unwrap(), "10.0.0.9:80".parse().unwrap());
    assert_eq!(errno(net0.add_address("10.0.0.9/24")), Some(libc::EEXIST));
    assert_eq!(net0.add_address("224.0.0.1/24").unwrap_err().kind(), ErrorKind::InvalidInput);
    net0.remove_address("10.0.0.9".parse().unwrap()).unwrap();
    assert_eq!(errno(net0.remove_address("10.0.0.9".parse().unwrap())), Some(libc::EADDRNOTAVAIL));
    assert!(timeout(second, client.connect("10.0.0.9:80")).await.is_err(), "nobody has it any more");
    assert!(client.connect("10.0.0.2:80").await.is_ok(), "the other is still there");
    assert_eq!(errno(server.listen("10.0.0.9:81").await), Some(libc::EADDRNOTAVAIL));
    drop((stream, accepted));
}

#[tokio::test(start_paused = true)]
async fn a_listener_bound_in_advance_works_once_its_address_is_there() {
    let (client, server) = linked(LINK);
    let socket = server.tcp_socket_v4().unwrap();
    socket.set_freebind_v4(true).unwrap();
    socket.bind("10.0.0.9:80".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    assert!(listener.freebind_v4().unwrap());
    server.interface("net0").unwrap().add_address("10.0.0.9/24").unwrap();
    client.connect("10.0.0.9:80").await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    assert!(accepted.freebind_v4().unwrap(), "inherited");
}

#[tokio::test(start_paused = true)]
async fn prefixes_of_any_ip_come_and_go() {
    let (client, server) = linked(LINK);
    let client_net0 = client.interface("net0").unwrap();
    client_net0.add_route(IpRoute::new("198.18.0.0/15").unwrap()).unwrap();
    let net0 = server.interface("net0").unwrap();
    let _listener = server.listen("0.0.0.0:80").await.unwrap();
    net0.add_any_ip("198.18.0.0/15").unwrap();
    assert_eq!(errno(net0.add_any_ip("198.18.0.0/15")), Some(libc::EEXIST));
    client.connect("198.19.0.7:80").await.unwrap();
    net0.remove_any_ip("198.18.0.0/15").unwrap();
    assert!(timeout(Duration::from_secs(1), client.connect("198.19.0.7:80")).await.is_err());
    client_net0.remove_route(&IpRoute::new("198.18.0.0/15").unwrap()).unwrap();
    assert_eq!(errno(client.connect("198.19.0.7:80").await), Some(libc::ENETUNREACH));
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_is_down_carries_nothing_and_connections_wait() {
    let (client, server) = linked(LINK);
    let listener = server.listen("10.0.0.2:80").await.unwrap();
    let mut stream = client.connect("10.0.0.2:80").await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    let net0 = client.interface("net0").unwrap();
    net0.set_down().unwrap();
    assert!(!net0.info().up);
    assert_eq!(errno(client.connect("10.0.0.2:80").await), Some(libc::ENETUNREACH));
    stream.write_all(b"waits").await.unwrap();
    let mut read = [0; 5];
    assert!(timeout(Duration::from_secs(2), accepted.read_exact(&mut read)).await.is_err());
    net0.set_up().unwrap();
    timeout(Duration::from_secs(10), accepted.read_exact(&mut read)).await.unwrap().unwrap();
    assert_eq!(&read, b"waits");
    client.connect("10.0.0.2:80").await.unwrap();
    assert_eq!(errno(client.interface("lo").unwrap().set_down()), Some(libc::EOPNOTSUPP));
    assert_eq!(errno(client.interface("net7").map(drop)), Some(libc::ENODEV));
}

#[tokio::test(start_paused = true)]
async fn connections_follow_the_mtu() {
    let (client, server) = linked(LINK);
    let listener = server.listen("10.0.0.2:80").await.unwrap();
    let mut stream = client.connect("10.0.0.2:80").await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    assert_eq!(stream.tcp_info().unwrap().pmtu, 1500);
    let net0 = client.interface("net0").unwrap();
    let bytes: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    for mtu in [1000, 1400, 1500] {
        net0.set_mtu(mtu).unwrap();
        let mut read = vec![0; bytes.len()];
        let (sent, received) = tokio::join!(stream.write_all(&bytes), accepted.read_exact(&mut read));
        sent.unwrap();
        received.unwrap();
        assert!(read == bytes);
        assert_eq!(stream.tcp_info().unwrap().pmtu, mtu);
    }
    net0.set_mtu(900).unwrap();
    let late = client.connect("10.0.0.2:80").await.unwrap();
    assert_eq!(late.tcp_info().unwrap().pmtu, 900);
    for mtu in [67, 1501] {
        assert_eq!(errno(net0.set_mtu(mtu)), Some(libc::EINVAL), "{mtu}");
    }
    assert_eq!(net0.add_address("fd00::1/64").unwrap_err().kind(), ErrorKind::InvalidInput, "under 1280");
}

#[tokio::test(start_paused = true)]
async fn everything_is_listed_and_every_change_is_told() {
    let (device, far) = Pair::new(PairConfig::default());
    let stack = Stack::builder().interface(Interface::new(Arc::new(device)).name("net0")).build().unwrap();
    let mut monitor = stack.monitor();
    let net0 = stack.interface("net0").unwrap();
    net0.add_address("10.0.0.2/24").unwrap();
    net0.set_gateway("10.0.0.1").unwrap();
    net0.set_gateway("10.0.0.3").unwrap();
    let route = IpRoute::new("198.51.100.0/24").unwrap().gateway("10.0.0.9").unwrap().metric(10);
    net0.add_route(route).unwrap();
    assert_eq!(errno(net0.add_route(route)), Some(libc::EEXIST));
    net0.set_mtu(1400).unwrap();
    let routes: Vec<_> = stack.routes().iter().map(ToString::to_string).collect();
    assert_eq!(
        routes[..3],
        [
            "10.0.0.0/24 src 10.0.0.2 dev net0",
            "default via 10.0.0.3 dev net0",
            "198.51.100.0/24 via 10.0.0.9 metric 10 dev net0"
        ]
    );
    let interfaces = stack.interfaces();
    assert_eq!(interfaces[0].to_string(), "0: net0: <UP> mtu 1400\n    10.0.0.2/24");
    assert_eq!(interfaces[1].to_string(), "1: lo: <LOOPBACK,UP> mtu 65535\n    127.0.0.1/8 ::1/128");
    net0.set_down().unwrap();
    net0.set_up().unwrap();
    net0.remove_route(&route).unwrap();
    net0.remove_address("10.0.0.2".parse().unwrap()).unwrap();
    drop(far);
    let expected = [
        "net0: inet 10.0.0.2/24",
        "default via 10.0.0.1 dev net0",
        "Deleted default via 10.0.0.1 dev net0",
        "default via 10.0.0.3 dev net0",
        "198.51.100.0/24 via 10.0.0.9 metric 10 dev net0",
        "net0: mtu 1400",
        "net0: state DOWN",
        "net0: state UP",
        "Deleted 198.51.100.0/24 via 10.0.0.9 metric 10 dev net0",
        "Deleted net0: inet 10.0.0.2/24",
    ];
    for expected in expected {
        assert_eq!(monitor.next().await.to_string(), expected);
    }
    assert!(
        matches!(monitor.next().await, NetworkEvent::DeviceFailed { interface, .. } if interface == "net0")
    );
    assert!(!net0.info().up && net0.info().failure.is_some());
}

#[tokio::test(start_paused = true)]
async fn sockets_are_listed_as_by_ss() {
    let (client, server) = linked(LINK);
    let listener = server.listen("10.0.0.2:80").await.unwrap();
    listener.set_owner(7).unwrap();
    let mut stream = client.connect("10.0.0.2:80").await.unwrap();
    let (accepted, peer) = listener.accept().await.unwrap();
    assert_eq!(server.sockets().iter().map(|row| row.owner).collect::<Vec<_>>(), [7, 7]);
    accepted.set_owner(8).unwrap();
    assert_eq!(server.sockets().iter().map(|row| row.owner).collect::<Vec<_>>(), [7, 8]);
    stream.write_all(b"unread").await.unwrap();
    tokio::time::sleep(Duration::from_millis(15)).await;
    let rows = server.sockets();
    let seen: Vec<_> =
        rows.iter().map(|row| (row.state, row.recv_queue, row.send_queue, row.remote)).collect();
    assert_eq!(seen, [("LISTEN", 0, 4096, None), ("ESTAB", 6, 0, Some(peer))]);
    let transfer = rows[1].transfer.as_ref().unwrap();
    assert_eq!((transfer.congestion.as_str(), transfer.mss), ("cubic", 1448));
    let text = client.sockets()[0].to_string();
    assert!(text.starts_with("tcp   ESTAB      0      6 "), "{text}");
    assert!(text.contains("10.0.0.2:80 timer:(on,") && text.contains("\n\t cubic rto:"), "{text}");
    drop(accepted);
    stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    drop(stream);
    let mut second = client.connect("10.0.0.2:80").await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    second.shutdown().await.unwrap();
    drop(accepted);
    second.read_to_end(&mut Vec::new()).await.unwrap();
    drop(second);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let rows = client.sockets();
    assert_eq!(rows.iter().map(|row| row.state).collect::<Vec<_>>(), ["TIME-WAIT"]);
    assert_eq!(rows[0].timer.unwrap().name, "timewait");
}
