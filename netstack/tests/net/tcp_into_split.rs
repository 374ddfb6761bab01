//! Halves.

use crate::common::{connect, connected, stack};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::time::sleep;

/// Until then all that is going to happen has happened. In paused time it takes no longer than that.
const LATER: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_halves_work_in_different_tasks() {
    let (_stack, client, mut server) = connected().await;
    let (mut read, mut write) = client.into_split();
    assert_eq!(read.local_addr().unwrap(), write.local_addr().unwrap());
    assert_eq!(read.peer_addr().unwrap(), server.local_addr().unwrap());
    let echo = tokio::spawn(async move {
        let (mut read, mut write) = server.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap()
    });
    let writer = tokio::spawn(async move {
        for _ in 0..100 {
            write.write_all(&[7; 10_000]).await.unwrap();
        }
        // Dropping the half is the end of the stream.
    });
    let mut all = Vec::new();
    read.read_to_end(&mut all).await.unwrap();
    writer.await.unwrap();
    assert_eq!(echo.await.unwrap(), 1_000_000);
    assert!(all.len() == 1_000_000 && all.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn halves_of_one_stream_reunite() {
    let (_stack, client, mut server) = connected().await;
    let addr = client.local_addr().unwrap();
    let (read, write) = client.into_split();
    let client = read.reunite(write).expect("from one stream");
    assert_eq!(client.local_addr().unwrap(), addr);
    let (read, write) = client.into_split();
    let mut client = write.reunite(read).expect("from one stream");
    client.write_all(b"x").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'x', "reuniting did not shut down");
}

#[tokio::test]
async fn halves_of_different_streams_do_not() {
    let stack = stack();
    let (a, b) = connect(&stack).await;
    let (a_read, a_write) = a.into_split();
    let (b_read, b_write) = b.into_split();
    let error = a_read.reunite(b_write).unwrap_err();
    assert_eq!(error.to_string(), "tried to reunite halves that are not from the same socket");
    let error = a_write.reunite(b_read).unwrap_err();
    assert!(std::error::Error::source(&error).is_none());
}

#[tokio::test]
async fn dropping_the_writing_half_ends_the_stream() {
    let (_stack, client, mut server) = connected().await;
    let (mut read, write) = client.into_split();
    drop(write);
    assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
    server.write_all(b"still").await.unwrap();
    drop(server);
    let mut text = String::new();
    read.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "still");
}

#[tokio::test(start_paused = true)]
async fn forgetting_the_writing_half_does_not() {
    let (_stack, client, server) = connected().await;
    let (read, write) = client.into_split();
    // What an accepted stream assumes of itself is not what happened to it.
    assert_eq!(server.try_read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    write.forget();
    sleep(LATER).await;
    assert_eq!(server.try_read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(read);
    server.readable().await.unwrap();
    assert_eq!(server.try_read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_reading_half_changes_nothing() {
    let (_stack, client, mut server) = connected().await;
    let (read, mut write) = client.into_split();
    drop(read);
    // Nobody will read it, but that is known only when the last handle is gone.
    server.write_all(b"unread").await.unwrap();
    sleep(LATER).await;
    write.write_all(b"still").await.unwrap();
    let mut buf = [0; 5];
    server.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"still");
    // The end of the stream, and then the reset for what nobody read: too late for the reader.
    drop(write);
    assert_eq!(server.read(&mut buf).await.unwrap(), 0);
    sleep(LATER).await;
    assert_eq!(server.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn the_last_of_several_handles_closes() {
    let (_stack, client, mut server) = connected().await;
    let first = std::sync::Arc::new(client);
    let second = std::sync::Arc::clone(&first);
    drop(first);
    sleep(LATER).await;
    assert_eq!(second.try_write(b"still").unwrap(), 5);
    let mut buf = [0; 5];
    server.read_exact(&mut buf).await.unwrap();
    drop(second);
    assert_eq!(server.read(&mut buf).await.unwrap(), 0);
}

#[tokio::test]
async fn borrowed_halves_change_nothing_when_dropped() {
    let (_stack, mut client, mut server) = connected().await;
    {
        let (mut read, mut write) = client.split();
        write.write_all(b"ping").await.unwrap();
        server.write_all(b"pong").await.unwrap();
        let mut buf = [0; 4];
        assert_eq!(read.peek(&mut buf).await.unwrap(), 4);
        read.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"pong");
        assert!(write.is_write_vectored());
        assert!(write.ready(Interest::WRITABLE).await.unwrap().is_writable());
        assert!(AsRef::<netstack::net::TcpStream>::as_ref(&read).nodelay().is_ok());
    }
    let mut buf = [0; 4];
    server.read_exact(&mut buf).await.unwrap();
    client.write_all(b"more").await.unwrap();
    server.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"more");
}
