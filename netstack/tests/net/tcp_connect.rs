//! Connecting.

use crate::common::{linked, poll_once, stack};
use netstack::device::{Link, LinkConfig, Loopback};
use netstack::net::TcpStream;
use netstack::{Interface, Stack};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn nobody_listens() {
    let stack = stack();
    for addr in ["127.0.0.1:9", "[::1]:9", "127.0.0.1:0"] {
        let error = stack.connect(addr).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED), "{addr}");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(stack.connections(), 0);
}

#[tokio::test]
async fn there_is_no_way() {
    let stack = stack();
    let error = stack.connect("192.0.2.1:80").await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENETUNREACH));
}

#[tokio::test]
async fn addresses_are_tried_in_turn() {
    let stack = stack();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let closed: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let stream = stack.connect(&[closed, addr][..]).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addr);
    assert_eq!(stack.connect(&[closed][..]).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let none: &[SocketAddr] = &[];
    assert_eq!(stack.connect(none).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn localhost_needs_no_resolver() {
    let stack = stack();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = stack.connect(format!("localhost:{port}")).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
}

#[tokio::test]
async fn any_means_loopback() {
    let stack = stack();
    let listener = stack.listen("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = stack.connect(("0.0.0.0", port)).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().to_string(), format!("127.0.0.1:{port}"));
}

#[tokio::test(start_paused = true)]
async fn a_loopback_can_have_a_device_of_ones_own() {
    let slow: LinkConfig = "delay=50ms".parse().unwrap();
    let device = Link::new(Arc::new(Loopback::new(1500)), LinkConfig::default(), slow);
    let stack = Stack::builder().interface(Interface::new(Arc::new(device)).name("lo")).build().unwrap();
    let listener = stack.listen("[::]:80").await.unwrap();
    for addr in ["127.0.0.1:80", "[::1]:80"] {
        let begin = tokio::time::Instant::now();
        let stream = stack.connect(addr).await.unwrap();
        let took = begin.elapsed();
        // tokio's timers round each of the two ways up to a millisecond.
        assert!((100..=102).contains(&took.as_millis()), "{addr}: {took:?}");
        assert_eq!(stream.tcp_mss().unwrap() as usize + if addr.starts_with('[') { 72 } else { 52 }, 1500);
        listener.accept().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn connecting_takes_one_round_trip_of_virtual_time() {
    let (left, right) = linked("delay=50ms");
    let listener = left.listen("10.0.0.1:80").await.unwrap();
    let begin = tokio::time::Instant::now();
    let mut stream = right.connect("10.0.0.1:80").await.unwrap();
    let took = begin.elapsed();
    // tokio's timers round each of the two ways up to a millisecond.
    assert!((100..=102).contains(&took.as_millis()), "{took:?}");
    let (mut server, _) = listener.accept().await.unwrap();
    let begin = tokio::time::Instant::now();
    stream.write_all(b"x").await.unwrap();
    server.read_u8().await.unwrap();
    let took = begin.elapsed();
    assert!((50..=51).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_times_out() {
    let (_left, right) = linked("loss=100%");
    let begin = tokio::time::Instant::now();
    let error = right.connect("10.0.0.1:80").await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
    // Four retransmissions a second apart (`syn_linear_timeouts`), six (`syn_retries`) that come at 5, 7, 11,
    // 19, 35 and 67 s, and 64 s for the last answer.
    assert_eq!(begin.elapsed(), Duration::from_secs(131));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_leaves_nothing() {
    let (left, right) = linked("delay=50ms");
    let listener = left.listen("10.0.0.1:80").await.unwrap();
    let mut connect = Box::pin(TcpStream::connect_on(&right, "10.0.0.1:80"));
    assert!(poll_once(|cx| connect.as_mut().poll(cx)).is_pending());
    assert_eq!(right.connections(), 1);
    drop(connect);
    assert_eq!(right.connections(), 0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(listener.accept_queue_len(), 0, "the late SYN-ACK was answered with a reset");
}

#[tokio::test]
async fn nothing_happens_before_the_first_poll() {
    let stack = stack();
    let future = stack.connect("127.0.0.1:9");
    drop(future);
    assert_eq!(stack.connections(), 0);
}

#[tokio::test]
async fn a_socket_keeps_its_options_and_its_port() {
    let stack = stack();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let socket = stack.tcp_socket_v4().unwrap();
    assert_eq!(socket.local_addr().unwrap(), "0.0.0.0:0".parse().unwrap());
    socket.set_nodelay(true).unwrap();
    socket.set_ttl_v4(7).unwrap();
    socket.bind("127.0.0.1:4321".parse().unwrap()).unwrap();
    assert_eq!(socket.bind("127.0.0.1:1".parse().unwrap()).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    assert_eq!(stream.local_addr().unwrap(), "127.0.0.1:4321".parse().unwrap());
    assert!(stream.nodelay().unwrap());
    assert_eq!(stream.ttl().unwrap(), 7);
}

#[tokio::test]
async fn families_do_not_mix() {
    let stack = stack();
    let v6 = "[::1]:80".parse().unwrap();
    assert_eq!(stack.tcp_socket_v4().unwrap().bind(v6).unwrap_err().raw_os_error(), Some(libc::EAFNOSUPPORT));
    let error = stack.tcp_socket_v4().unwrap().connect(v6).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EAFNOSUPPORT));
}

#[tokio::test]
async fn localhost_is_what_the_host_says() {
    let theirs: Vec<_> = tokio::net::lookup_host("localhost:80").await.unwrap().collect();
    let ours: Vec<_> = netstack::net::lookup_host("localhost:80").await.unwrap().collect();
    assert_eq!(ours, theirs);
}

#[tokio::test(start_paused = true)]
async fn localhost_is_the_same_everywhere_in_paused_time() {
    let ours: Vec<_> = netstack::net::lookup_host("localhost:80").await.unwrap().collect();
    assert_eq!(ours, ["127.0.0.1:80".parse().unwrap(), "[::1]:80".parse().unwrap()]);
}
