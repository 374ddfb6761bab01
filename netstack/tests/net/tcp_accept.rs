//! Listening and accepting.

use crate::common::{join, linked, poll_once, stack};
use netstack::net::{TcpListener, TcpStream};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn every_way_to_write_an_address_works() {
    let stack = stack();
    let literal: SocketAddr = "127.0.0.1:0".parse().unwrap();
    stack
        .scope(async {
            for listener in [
                TcpListener::bind(literal).await,
                TcpListener::bind("127.0.0.1:0").await,
                TcpListener::bind(("127.0.0.1", 0)).await,
                TcpListener::bind("localhost:0").await,
                TcpListener::bind(&[literal, literal][..]).await,
                TcpListener::bind("[::1]:0").await,
            ] {
                let listener = listener.unwrap();
                assert_ne!(listener.local_addr().unwrap().port(), 0);
                let (mut client, mut server) = join(listener.stack(), &listener).await;
                client.write_all(b"x").await.unwrap();
                assert_eq!(server.read_u8().await.unwrap(), b'x');
            }
        })
        .await;
}

#[tokio::test]
async fn the_first_address_that_works_counts() {
    let stack = stack();
    let taken = stack.listen("127.0.0.1:4000").await.unwrap();
    let addrs: Vec<SocketAddr> = ["127.0.0.1:4000", "127.0.0.1:4001"].map(|a| a.parse().unwrap()).into();
    let listener = stack.listen(&addrs[..]).await.unwrap();
    assert_eq!(listener.local_addr().unwrap(), addrs[1]);
    let error = stack.listen(&addrs[..]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    drop(taken);
    stack.listen(addrs[0]).await.expect("the port is free at once");
}

#[tokio::test]
async fn addresses_of_others_are_refused() {
    let stack = stack();
    let error = stack.listen("192.0.2.1:80").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.raw_os_error()),
        (ErrorKind::AddrNotAvailable, Some(libc::EADDRNOTAVAIL))
    );
    let none: &[SocketAddr] = &[];
    assert_eq!(stack.listen(none).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    stack.listen("127.0.0.1:80").await.expect("there are no privileged ports");
}

#[tokio::test]
async fn a_connection_wakes_every_task_that_accepts() {
    let stack = stack();
    let listener = std::sync::Arc::new(stack.listen("127.0.0.1:0").await.unwrap());
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let listener = listener.clone();
            tokio::spawn(async move { listener.accept().await.unwrap().1 })
        })
        .collect();
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(stack.connect(listener.local_addr().unwrap()).await.unwrap().local_addr().unwrap());
    }
    let mut peers = Vec::new();
    for task in tasks {
        peers.push(task.await.unwrap());
    }
    clients.sort();
    peers.sort();
    assert_eq!(clients, peers);
}

#[tokio::test]
async fn a_cancelled_accept_loses_no_connection() {
    let stack = stack();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    for _ in 0..20 {
        let mut accept = Box::pin(listener.accept());
        assert!(poll_once(|cx| accept.as_mut().poll(cx)).is_pending());
        let client = stack.connect(listener.local_addr().unwrap()).await.unwrap();
        drop(accept);
        let (_, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }
}

#[tokio::test]
async fn poll_accept_is_ready_once_per_connection() {
    let stack = stack();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    assert!(poll_once(|cx| listener.poll_accept(cx)).is_pending());
    let client = stack.connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
    assert!(poll_once(|cx| listener.poll_accept(cx)).is_pending());
    drop((client, server));
}

#[tokio::test]
async fn accepted_streams_start_ready_to_read_and_to_write() {
    let stack = stack();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let (_client, server) = join(&stack, &listener).await;
    assert!(poll_once(|cx| server.poll_read_ready(cx)).is_ready(), "assumed, although nothing is there");
    assert!(poll_once(|cx| server.poll_write_ready(cx)).is_ready());
    assert_eq!(server.try_read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(poll_once(|cx| server.poll_read_ready(cx)).is_pending());
}

#[tokio::test]
async fn data_is_received_before_accept() {
    let stack = stack();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let mut client = stack.connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(b"early").await.unwrap();
    drop(client);
    let (mut server, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "early");
}

#[tokio::test]
async fn connections_that_nobody_accepted_are_reset() {
    let stack = stack();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let mut client = stack.connect(listener.local_addr().unwrap()).await.unwrap();
    drop(listener);
    let error = client.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn accepted_streams_inherit_options() {
    let stack = stack();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    listener.set_nodelay(true).unwrap();
    listener.set_keepalive(true).unwrap();
    listener.set_ttl(9).unwrap();
    let (client, server) = join(&stack, &listener).await;
    assert!(server.nodelay().unwrap() && server.keepalive().unwrap());
    assert_eq!((server.ttl().unwrap(), client.ttl().unwrap()), (9, 64));
    assert_eq!(listener.set_ttl(0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(listener.set_ttl(256).unwrap_err().raw_os_error(), Some(libc::EINVAL));
}

#[tokio::test]
async fn a_dual_stack_listener_shows_mapped_peers() {
    let stack = stack();
    let listener = stack.listen("[::]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = stack.connect(("127.0.0.1", port)).await.unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.to_string(), format!("[::ffff:127.0.0.1]:{}", client.local_addr().unwrap().port()));
    let client = stack.connect(("::1", port)).await.unwrap();
    assert_eq!(listener.accept().await.unwrap().1, client.local_addr().unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_backlog_bounds_what_waits() {
    let (left, right) = linked("delay=1ms");
    let socket = left.tcp_socket_v4().unwrap();
    socket.bind("10.0.0.1:80".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let first = TcpStream::connect_on(&right, "10.0.0.1:80").await.unwrap();
    let second = TcpStream::connect_on(&right, "10.0.0.1:80").await.unwrap();
    // The last acknowledgment is still on its way.
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(listener.accept_queue_len(), 2, "backlog + 1");
    let mut third = Box::pin(TcpStream::connect_on(&right, "10.0.0.1:80"));
    assert!(
        tokio::time::timeout(Duration::from_millis(500), &mut third).await.is_err(),
        "dropped, not refused"
    );
    listener.accept().await.unwrap();
    third.await.expect("the client tries again");
    drop((first, second));
}
