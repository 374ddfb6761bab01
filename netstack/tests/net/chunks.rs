//! Reading and writing without a copy.

use bytes::{Bytes, BytesMut};
use netstack::Stack;
use netstack::net::TcpStream;
use std::io::ErrorKind;
use tokio::io::AsyncWriteExt;

async fn pair() -> (TcpStream, TcpStream) {
    let stack = Stack::builder().build().unwrap();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let client = stack.connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

fn pattern(len: usize) -> Bytes {
    (0..len).map(|n| (n / 7 % 251) as u8).collect::<Vec<_>>().into()
}

#[tokio::test(start_paused = true)]
async fn bytes_arrive_whatever_their_pieces() {
    let (client, server) = pair().await;
    let all = pattern(3 << 20);
    let sent = all.clone();
    let writing = tokio::spawn(async move {
        let mut left = sent;
        // Empty ones, small ones that are copied, and large ones that are not, in turn.
        for sizes in [[0, 1, 5_000], [2_047, 2_048, 2_049], [100_000, 3, 70_000]].iter().cycle() {
            let mut chunks = sizes.map(|size| left.split_to(size.min(left.len())));
            client.write_all_chunks(&mut chunks).await.unwrap();
            assert!(chunks.iter().all(Bytes::is_empty));
            if left.is_empty() {
                return;
            }
        }
    });
    let mut received = BytesMut::new();
    loop {
        let mut chunks = [const { Bytes::new() }; 4];
        let used = server.read_chunks(&mut chunks).await.unwrap();
        assert!(chunks[used..].iter().all(Bytes::is_empty));
        if used == 0 {
            break;
        }
        chunks[..used].iter().for_each(|chunk| received.extend_from_slice(chunk));
    }
    writing.await.unwrap();
    assert!(received == all);
    assert_eq!(server.read_chunk().await.unwrap(), None, "the end stays");
    assert_eq!(server.read_chunks(&mut []).await.unwrap(), 0);
}

/// It is kept until it is acknowledged, and no longer. The memory is the application's.
#[tokio::test(start_paused = true)]
async fn what_is_written_is_shared_until_it_is_acknowledged() {
    let (client, server) = pair().await;
    let large = pattern(50_000);
    client.write_all_chunks(&mut [large.clone()]).await.unwrap();
    let large = large.try_into_mut().expect_err("the send queue shares it");
    let mut received = 0;
    while received < large.len() {
        received += server.read_chunk().await.unwrap().unwrap().len();
    }
    assert!(client.stack().drain(std::time::Duration::from_secs(1)).await);
    let large = large.try_into_mut().expect("nobody shares it any more");
    // A small one is copied.
    let small = large.freeze().slice(..2_000);
    client.write_all_chunks(&mut [small.clone()]).await.unwrap();
    assert!(small.try_into_mut().is_ok());
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_write_takes_what_fits_and_leaves_the_rest() {
    let (client, server) = pair().await;
    let all = pattern(32 << 20);
    let mut left = [all.clone(), Bytes::from_static(b"end")];
    let mut written = 0;
    // Nobody reads.
    loop {
        match client.try_write_chunks(&mut left) {
            Ok(n) => written += n,
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(left[0].len(), all.len() - written);
    assert_eq!(left[1], b"end"[..]);
    let reading = tokio::spawn(async move {
        let mut read = 0;
        while let Some(chunk) = server.read_chunk().await.unwrap() {
            assert!(
                chunk == (all.slice(read.min(all.len())..all.len().min(read + chunk.len())))
                    || read + chunk.len() > all.len()
            );
            read += chunk.len();
        }
        read
    });
    // A future that was dropped has written nothing.
    while !left[0].is_empty() {
        let before = left[0].len();
        drop(client.write_chunk(&mut left[0]));
        assert_eq!(left[0].len(), before);
        client.write_chunk(&mut left[0]).await.unwrap();
    }
    client.write_all_chunks(&mut left).await.unwrap();
    drop(client);
    assert_eq!(reading.await.unwrap(), (32 << 20) + 3);
}

#[tokio::test(start_paused = true)]
async fn errors_and_ends_are_those_of_reading_and_writing() {
    let (mut client, server) = pair().await;
    assert_eq!(server.try_read_chunk().unwrap_err().kind(), ErrorKind::WouldBlock);
    client.write_all(b"last").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(client.write_chunk(&mut pattern(9)).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(server.read_chunk().await.unwrap().unwrap(), b"last"[..]);
    assert_eq!(server.try_read_chunk().unwrap(), None);
    let (client, server) = pair().await;
    client.write_all_chunks(&mut [Bytes::from_static(b"x")]).await.unwrap();
    client.set_zero_linger().unwrap();
    drop(client);
    // What came before the reset is read before the error.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert_eq!(server.read_chunk().await.unwrap().unwrap(), b"x"[..]);
    assert_eq!(server.read_chunk().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.read_chunk().await.unwrap(), None);
}

/// With the SYN that a first write sends there is nothing to share yet.
#[tokio::test(start_paused = true)]
async fn a_first_write_may_be_of_chunks() {
    let stack = Stack::builder().build().unwrap();
    let listener = stack.listen("127.0.0.1:80").await.unwrap();
    let socket = stack.tcp_socket_v4().unwrap();
    socket.set_tcp_fastopen_connect(true).unwrap();
    let client = socket.connect("127.0.0.1:80".parse().unwrap()).await.unwrap();
    client.write_all_chunks(&mut [pattern(3_000)]).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let mut received = BytesMut::new();
    while received.len() < 3_000 {
        received.extend_from_slice(&server.read_chunk().await.unwrap().unwrap());
    }
    assert!(received == pattern(3_000));
}
