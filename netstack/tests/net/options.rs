//! Options under the names of tokio and socket2.

use crate::common::{connected, stack};
use netstack::net::TcpSocket;
use netstack::net::tcp::TcpKeepalive;
use netstack::{Config, SockRef, Stack};
use std::io::ErrorKind;
use std::time::Duration;

#[tokio::test]
async fn defaults_are_those_of_linux() {
    let stack = stack();
    let socket = stack.tcp_socket_v6().unwrap();
    assert!(!socket.nodelay().unwrap() && !socket.keepalive().unwrap() && !socket.reuseaddr().unwrap());
    assert!(!socket.reuseport().unwrap() && !socket.only_v6().unwrap() && !socket.tcp_cork().unwrap());
    assert_eq!(socket.linger().unwrap(), None);
    assert_eq!((socket.tos_v4().unwrap(), socket.tclass_v6().unwrap()), (0, 0));
    assert_eq!(socket.device().unwrap(), None);
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7200));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(75));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 9);
    assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    assert_eq!(socket.tcp_notsent_lowat().unwrap(), 0);
    assert_eq!(socket.send_buffer_size().unwrap(), 16384);
    assert_eq!(socket.recv_buffer_size().unwrap(), 131_072);
    assert!(socket.take_error().unwrap().is_none());
}

#[tokio::test]
async fn buffer_sizes_read_back_doubled_and_clamped() {
    let stack = stack();
    let socket = stack.tcp_socket_v4().unwrap();
    socket.set_send_buffer_size(100_000).unwrap();
    socket.set_recv_buffer_size(100_000).unwrap();
    assert_eq!(socket.send_buffer_size().unwrap(), 200_000);
    assert_eq!(socket.recv_buffer_size().unwrap(), 200_000);
    socket.set_send_buffer_size(0).unwrap();
    socket.set_recv_buffer_size(0).unwrap();
    assert_eq!(socket.send_buffer_size().unwrap(), 4608);
    assert_eq!(socket.recv_buffer_size().unwrap(), 2304);
    socket.set_send_buffer_size(u32::MAX).unwrap();
    assert_eq!(socket.send_buffer_size().unwrap(), 8 << 20);
}

#[tokio::test]
async fn what_is_set_reads_back_on_a_connection() {
    let (_stack, client, _server) = connected().await;
    let socket = SockRef::from(&client);
    socket.set_tcp_nodelay(true).unwrap();
    assert!(client.nodelay().unwrap() && socket.tcp_nodelay().unwrap());
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(1));
    client.set_tcp_keepalive(&keepalive.with_retries(2)).unwrap();
    assert!(client.keepalive().unwrap());
    assert_eq!(client.tcp_keepalive_retries().unwrap(), 2);
    client.set_tcp_user_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(client.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
    socket.set_linger(Some(Duration::from_secs(3))).unwrap();
    assert_eq!(client.linger().unwrap(), Some(Duration::from_secs(3)));
    client.set_tos_v4(0xb9).unwrap();
    assert_eq!(client.tos_v4().unwrap(), 0xb8, "ECN belongs to TCP");
    client.set_tos_v4(0x1fc).unwrap();
    assert_eq!(client.tos_v4().unwrap(), 0xfc, "the lowest byte counts");
    assert_eq!(client.set_tclass_v6(0).unwrap_err().raw_os_error(), Some(libc::ENOPROTOOPT));
    assert_eq!(client.tcp_linger2().unwrap(), None);
    client.set_tcp_linger2(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(client.tcp_linger2().unwrap(), Some(Duration::from_secs(5)));
    client.set_tcp_linger2(Some(Duration::from_secs(121))).unwrap();
    assert_eq!(client.tcp_linger2().unwrap(), Some(Duration::from_secs(120)), "as in Linux");
    client.set_tcp_notsent_lowat(1000).unwrap();
    assert_eq!(client.tcp_notsent_lowat().unwrap(), 1000);
    client.set_tcp_notsent_lowat(0).unwrap();
    assert_eq!(client.tcp_notsent_lowat().unwrap(), 0, "the setting of the stack");
    client.set_quickack(true).unwrap();
    assert!(client.quickack().unwrap());
    client.set_ttl(3).unwrap();
    assert_eq!(client.ttl().unwrap(), 3);
    assert_eq!(client.set_ttl(0).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn values_that_make_no_sense_are_refused() {
    let stack = stack();
    let socket = stack.tcp_socket_v4().unwrap();
    let einval = Some(libc::EINVAL);
    let keepalive = |keepalive| socket.set_tcp_keepalive(&keepalive).unwrap_err().raw_os_error();
    assert_eq!(keepalive(TcpKeepalive::new().with_time(Duration::ZERO)), einval);
    assert_eq!(keepalive(TcpKeepalive::new().with_interval(Duration::from_secs(40_000))), einval);
    assert_eq!(keepalive(TcpKeepalive::new().with_retries(128)), einval);
    assert!(!socket.keepalive().unwrap());
    assert_eq!(socket.set_tcp_mss(10).unwrap_err().raw_os_error(), einval);
    let error = socket.set_tcp_congestion(b"tahoe").unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::NotFound, Some(libc::ENOENT)));
    assert_eq!(socket.bind_device(Some(b"nope")).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    assert_eq!(socket.tclass_v6().unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    assert_eq!(socket.set_tclass_v6(0).unwrap_err().raw_os_error(), Some(libc::ENOPROTOOPT));
    assert_eq!(socket.only_v6().unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
}

#[tokio::test]
async fn the_congestion_control_has_a_name() {
    let (_stack, client, _server) = connected().await;
    let name = client.tcp_congestion().unwrap();
    client.set_tcp_congestion(&name).unwrap();
    client.set_tcp_congestion(b"reno").unwrap();
    assert_eq!(client.tcp_congestion().unwrap(), b"reno");
}

#[tokio::test]
async fn the_mss_is_limited_before_connecting() {
    let stack = stack();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let socket = stack.tcp_socket_v4().unwrap();
    socket.set_tcp_mss(1000).unwrap();
    let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    assert!(client.tcp_mss().unwrap() <= 1000);
    assert!(server.tcp_mss().unwrap() <= 1000, "the peer was told");
    assert_eq!(client.tcp_info().unwrap().state.name(), "ESTABLISHED");
}

#[tokio::test]
async fn debug_names_the_addresses_and_the_stack() {
    let (stack, client, server) = connected().await;
    let text = format!("{client:?}");
    assert!(text.contains(&client.local_addr().unwrap().to_string()), "{text}");
    assert!(text.contains(&server.local_addr().unwrap().to_string()), "{text}");
    assert!(text.contains("netstack"), "{text}");
    assert!(format!("{:?}", stack.tcp_socket_v4().unwrap()).starts_with("TcpSocket"));
    assert!(format!("{stack:?}").contains("netstack"));
}

#[tokio::test]
async fn the_order_of_config_and_loopback_does_not_matter() {
    for stack in [
        Stack::builder().loopback(false).config(Config::default()).build().unwrap(),
        Stack::builder().config(Config::default()).loopback(false).build().unwrap(),
    ] {
        assert!(stack.listen("127.0.0.1:0").await.is_err());
    }
    let without = Config::default().with(|config| config.loopback = false);
    assert!(Stack::builder().config(without).build().unwrap().listen("127.0.0.1:0").await.is_err());
}

/// What Linux says, asked with `connect` and `bind` of the same addresses.
#[tokio::test]
async fn addresses_that_cannot_be_used_have_the_error_numbers_of_linux() {
    let stack = stack();
    let v6 = || stack.tcp_socket_v6().unwrap();
    let parse = |text: &str| text.parse::<std::net::SocketAddr>().unwrap();
    let bind = |socket: &TcpSocket, text: &str| {
        socket.bind(parse(text)).map_or_else(|error| error.raw_os_error().unwrap(), |()| 0)
    };
    for (text, number) in [
        ("127.0.0.1:0", libc::EAFNOSUPPORT),
        ("[fe80::1]:0", libc::EINVAL),
        ("[ff02::1]:0", libc::EINVAL),
        ("[ff0e::1]:0", libc::EINVAL),
        ("[2001:db8::1]:0", libc::EADDRNOTAVAIL),
        ("[::ffff:192.0.2.1]:0", libc::EADDRNOTAVAIL),
        ("[::ffff:224.0.0.1]:0", 0),
    ] {
        assert_eq!(bind(&v6(), text), number, "bind {text}");
    }
    let only = v6();
    only.set_only_v6(true).unwrap();
    assert_eq!(bind(&only, "[::ffff:127.0.0.1]:0"), libc::EINVAL);
    for (text, number) in [
        ("224.0.0.1:0", 0),
        ("239.1.2.3:0", 0),
        ("255.255.255.255:0", 0),
        ("127.255.255.255:0", 0),
        ("0.0.0.1:0", libc::EADDRNOTAVAIL),
        ("240.0.0.1:0", libc::EADDRNOTAVAIL),
        ("192.0.2.1:0", libc::EADDRNOTAVAIL),
        ("[::1]:0", libc::EAFNOSUPPORT),
    ] {
        assert_eq!(bind(&stack.tcp_socket_v4().unwrap(), text), number, "bind {text}");
    }
    for (bound, text, number) in [
        (None, "127.0.0.1:80", libc::EAFNOSUPPORT),
        (None, "[fe80::1]:80", libc::EINVAL),
        (None, "[ff02::1]:80", libc::ENETUNREACH),
        (Some("[::1]:0"), "[::ffff:127.0.0.1]:80", libc::ENETUNREACH),
        (Some("[::ffff:127.0.0.1]:0"), "[::1]:80", libc::EAFNOSUPPORT),
    ] {
        let socket = v6();
        if let Some(bound) = bound {
            assert_eq!(bind(&socket, bound), 0);
        }
        let error = socket.connect(parse(text)).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(number), "connect {bound:?} to {text}");
    }
    // A group is no source: the connection takes the address of its route.
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let socket = stack.tcp_socket_v4().unwrap();
    assert_eq!(bind(&socket, "224.0.0.1:0"), 0);
    let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    assert_eq!(stream.local_addr().unwrap().ip().to_string(), "127.0.0.1");
}

/// One option for both families, which a listener's connections inherit; the errors are those of Linux.
#[tokio::test]
async fn foreign_addresses_are_an_option_of_every_socket() {
    let stack = stack();
    let socket = stack.tcp_socket_v6().unwrap();
    assert!(!socket.freebind_v4().unwrap() && !socket.ip_transparent_v6().unwrap());
    socket.set_freebind_v6(true).unwrap();
    SockRef::from(&socket).set_ip_transparent_v4(true).unwrap();
    assert!(socket.freebind_v4().unwrap() && socket.freebind_v6().unwrap());
    assert!(socket.ip_transparent_v4().unwrap() && socket.ip_transparent_v6().unwrap());
    socket.bind("[::1]:0".parse().unwrap()).unwrap();
    let listener = socket.listen(8).unwrap();
    SockRef::from(&listener).set_freebind_v6(false).unwrap();
    assert!(!listener.freebind_v4().unwrap() && listener.ip_transparent_v6().unwrap());
    let client = stack.connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    assert!(!accepted.freebind_v6().unwrap() && accepted.ip_transparent_v6().unwrap(), "inherited");
    assert!(!client.ip_transparent_v4().unwrap());
    client.set_ip_transparent_v4(true).unwrap();
    assert!(SockRef::from(&client).ip_transparent_v6().unwrap());
    let v4 = stack.tcp_socket_v4().unwrap();
    assert_eq!(v4.set_freebind_v6(true).unwrap_err().raw_os_error(), Some(libc::ENOPROTOOPT));
    assert_eq!(v4.set_ip_transparent_v6(true).unwrap_err().raw_os_error(), Some(libc::ENOPROTOOPT));
    assert_eq!(v4.freebind_v6().unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
    assert_eq!(v4.ip_transparent_v6().unwrap_err().raw_os_error(), Some(libc::EOPNOTSUPP));
}

/// The option takes effect: an address of another host can be bound to.
#[tokio::test]
async fn foreign_addresses_can_be_bound_to_with_the_option() {
    let stack = stack();
    let to = "192.0.2.1:80".parse().unwrap();
    let bind = |change: &dyn Fn(&TcpSocket)| {
        let socket = stack.tcp_socket_v4().unwrap();
        change(&socket);
        socket.bind(to).map_err(|error| error.raw_os_error())
    };
    assert_eq!(bind(&|_| ()), Err(Some(libc::EADDRNOTAVAIL)));
    assert_eq!(bind(&|socket| socket.set_freebind_v4(true).unwrap()), Ok(()));
    assert_eq!(bind(&|socket| socket.set_ip_transparent_v4(true).unwrap()), Ok(()));
}
