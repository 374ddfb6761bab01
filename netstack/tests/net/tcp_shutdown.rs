//! Closing, and being closed on.

use crate::common::{connected, linked};
use netstack::SockRef;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};

#[tokio::test]
async fn shutting_down_writing_leaves_reading() {
    let (_stack, mut client, mut server) = connected().await;
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    client.shutdown().await.expect("again");
    let error = client.write_all(b"more").await.unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::BrokenPipe, Some(libc::EPIPE)));
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "request");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    text.clear();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "answer");
}

#[tokio::test]
async fn unread_data_makes_a_drop_a_reset() {
    let (_stack, mut client, server) = connected().await;
    client.write_all(b"x").await.unwrap();
    server.readable().await.unwrap();
    server.peek(&mut [0; 1]).await.unwrap();
    drop(server);
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "reported once");
    assert_eq!(client.write(b"x").await.unwrap_err().raw_os_error(), Some(libc::EPIPE));
    assert_eq!(client.peer_addr().unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    client.local_addr().expect("still known");
}

/// As epoll says it: EPOLLHUP once both directions are closed, and nothing of the kind before.
#[tokio::test]
async fn writing_is_closed_for_readiness_once_both_directions_are() {
    for peer_first in [true, false] {
        let (_stack, mut client, mut server) = connected().await;
        let (first, second) =
            if peer_first { (&mut server, &mut client) } else { (&mut client, &mut server) };
        first.shutdown().await.unwrap();
        let ready = first.ready(Interest::WRITABLE).await.unwrap();
        assert!(ready.is_writable() && !ready.is_write_closed(), "only our own direction: {ready:?}");
        assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0);
        second.shutdown().await.unwrap();
        assert!(second.ready(Interest::WRITABLE).await.unwrap().is_write_closed(), "both directions");
        assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(first.ready(Interest::WRITABLE).await.unwrap().is_write_closed(), "both directions");
    }
    let (_stack, client, _server) = connected().await;
    SockRef::from(&client).shutdown(Shutdown::Both).unwrap();
    assert!(client.ready(Interest::WRITABLE).await.unwrap().is_write_closed());
}

#[tokio::test]
async fn zero_linger_makes_a_drop_a_reset() {
    let (_stack, client, mut server) = connected().await;
    client.set_zero_linger().unwrap();
    assert_eq!(client.linger().unwrap(), Some(Duration::ZERO));
    drop(client);
    let error = server.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn after_a_reset_every_state_holds_and_the_error_can_be_taken() {
    let (stack, client, server) = connected().await;
    client.set_zero_linger().unwrap();
    drop(client);
    let all = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
    loop {
        let ready = server.ready(all).await.unwrap();
        if ready.is_error() {
            assert!(ready.is_readable() && ready.is_writable());
            assert!(ready.is_read_closed() && ready.is_write_closed());
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(server.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionReset);
    assert!(server.take_error().unwrap().is_none());
    assert_eq!(server.try_read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(server.try_write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    drop(server);
    assert_eq!((stack.connections(), stack.time_waits()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_first_write_after_the_peer_closed_is_taken() {
    let (_stack, mut client, mut server) = connected().await;
    drop(client.shutdown().await);
    drop(client);
    assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(server.write(b"x").await.unwrap(), 1, "and provokes a reset");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.write(b"x").await.unwrap_err().raw_os_error(), Some(libc::EPIPE));
}

#[tokio::test]
async fn shutting_down_reading_is_local() {
    let (_stack, mut client, mut server) = connected().await;
    SockRef::from(&server).shutdown(Shutdown::Read).unwrap();
    assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
    server.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_delivers_in_the_background() {
    let (left, right) = linked("delay=20ms,loss=2%,seed=7");
    let listener = left.listen("10.0.0.1:80").await.unwrap();
    let (client, server) = tokio::join!(right.connect("10.0.0.1:80"), listener.accept());
    let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
    let reader = tokio::spawn(async move {
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.map(|_| all)
    });
    let data: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
    client.write_all(&data).await.unwrap();
    drop(client);
    assert!(reader.await.unwrap().unwrap() == data);
}
