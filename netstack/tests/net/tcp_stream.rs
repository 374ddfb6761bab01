//! Readiness, and reading and writing without waiting.

use crate::common::{connected, poll_once};
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};

/// Writes until there is no room.
fn fill(stream: &netstack::net::TcpStream) -> usize {
    let mut written = 0;
    loop {
        match stream.try_write(&[0; 4096]) {
            Ok(n) => written += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_state_holds_until_an_attempt_finds_nothing() {
    let (_stack, mut client, server) = connected().await;
    assert_eq!(server.try_read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(poll_once(|cx| server.poll_read_ready(cx)).is_pending());
    client.write_all(b"ab").await.unwrap();
    server.readable().await.unwrap();
    assert_eq!(server.try_read(&mut [0; 2]).unwrap(), 2);
    assert!(poll_once(|cx| server.poll_read_ready(cx)).is_ready(), "nobody looked after the last byte");
    assert_eq!(server.try_read(&mut [0; 2]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(poll_once(|cx| server.poll_read_ready(cx)).is_pending());
}

#[tokio::test]
async fn a_short_poll_read_clears_and_a_short_try_read_does_not() {
    let (_stack, mut client, mut server) = connected().await;
    let _ = server.try_read(&mut [0; 1]);
    client.write_all(b"ab").await.unwrap();
    server.readable().await.unwrap();
    assert_eq!(server.try_read(&mut [0; 9]).unwrap(), 2);
    assert!(poll_once(|cx| server.poll_read_ready(cx)).is_ready());
    let _ = server.try_read(&mut [0; 9]);
    client.write_all(b"ab").await.unwrap();
    assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 2);
    assert!(poll_once(|cx| server.poll_read_ready(cx)).is_pending());
}

#[tokio::test]
async fn an_empty_read_waits_and_an_empty_write_does_not() {
    let (_stack, mut client, mut server) = connected().await;
    let _ = server.try_read(&mut [0; 1]);
    let mut empty = ReadBuf::new(&mut []);
    assert!(poll_once(|cx| Pin::new(&mut server).poll_read(cx, &mut empty)).is_pending());
    assert_eq!(client.write(b"").await.unwrap(), 0);
    client.write_all(b"x").await.unwrap();
    assert_eq!(server.read(&mut []).await.unwrap(), 0);
    assert_eq!(server.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn the_ends_count_as_states() {
    let (_stack, client, server) = connected().await;
    let both = Interest::READABLE | Interest::WRITABLE;
    assert!(client.ready(both).await.unwrap().is_writable());
    let _ = server.try_read(&mut [0; 1]);
    drop(client);
    let ready = server.ready(Interest::READABLE).await.unwrap();
    assert!(ready.is_readable() && ready.is_read_closed() && !ready.is_writable());
    for _ in 0..2 {
        assert_eq!(server.try_read(&mut [0; 1]).unwrap(), 0);
        server.readable().await.unwrap();
    }
}

#[tokio::test]
async fn try_io_clears_what_did_not_hold() {
    let (_stack, _client, server) = connected().await;
    let would_block = || Err::<(), _>(ErrorKind::WouldBlock.into());
    assert_eq!(server.try_io(Interest::READABLE, || Ok(1)).unwrap(), 1, "assumed ready");
    assert_eq!(server.try_io(Interest::READABLE, would_block).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(server.try_io(Interest::READABLE, || -> std::io::Result<()> { panic!("not ready") }).is_err());
    assert_eq!(server.try_io(Interest::WRITABLE, || Ok(2)).unwrap(), 2);
}

#[tokio::test]
async fn async_io_tries_again_when_something_happens() {
    let (_stack, mut client, server) = connected().await;
    let task = tokio::spawn(async move {
        let mut buf = [0; 3];
        let mut attempts = 0;
        let n = server
            .async_io(Interest::READABLE, || {
                attempts += 1;
                server.try_read(&mut buf)
            })
            .await
            .unwrap();
        (n, attempts)
    });
    tokio::task::yield_now().await;
    client.write_all(b"abc").await.unwrap();
    let (n, attempts) = task.await.unwrap();
    assert_eq!(n, 3);
    assert!((1..=2).contains(&attempts), "{attempts}");
}

#[tokio::test]
async fn a_full_buffer_waits_for_the_reader() {
    let (_stack, client, mut server) = connected().await;
    client.writable().await.unwrap();
    let mut written = fill(&client);
    for _ in 0..100 {
        tokio::task::yield_now().await;
        written += fill(&client);
    }
    assert!(poll_once(|cx| client.poll_write_ready(cx)).is_pending());
    let mut read = 0;
    let mut buf = vec![0; 1 << 16];
    while read < written / 2 + 1 {
        read += server.read(&mut buf).await.unwrap();
    }
    client.writable().await.unwrap();
    assert!(client.try_write(&[0; 1]).unwrap() > 0);
    drop(client);
    while let n @ 1.. = server.read(&mut buf).await.unwrap() {
        read += n;
    }
    assert_eq!(read, written + 1);
}

#[tokio::test]
async fn vectored_operations_gather_and_scatter() {
    let (_stack, mut client, server) = connected().await;
    assert!(client.is_write_vectored());
    let pieces: Vec<_> = (0..400u32).map(|i| [i as u8; 10]).collect();
    let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    assert_eq!(client.try_write_vectored(&slices).unwrap(), 4000);
    let n = std::future::poll_fn(|cx| Pin::new(&mut client).poll_write_vectored(cx, &slices)).await.unwrap();
    assert_eq!(n, 4000);
    let (mut one, mut two, mut read) = ([0; 7], [0; 9000], 0);
    let mut all = Vec::new();
    while read < 8000 {
        server.readable().await.unwrap();
        match server.try_read_vectored(&mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)]) {
            Ok(n) => {
                let first = n.min(one.len());
                all.extend_from_slice(&one[..first]);
                all.extend_from_slice(&two[..n - first]);
                read += n;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert!(all.chunks(10).enumerate().all(|(i, chunk)| chunk == [(i % 400) as u8; 10]));
}

#[tokio::test]
async fn try_read_buf_fills_what_is_free() {
    let (_stack, mut client, server) = connected().await;
    client.write_all(&[7; 10_000]).await.unwrap();
    let mut all = Vec::with_capacity(20_000);
    while all.len() < 10_000 {
        server.readable().await.unwrap();
        match server.try_read_buf(&mut all) {
            Ok(n) => assert!(n > 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert_eq!(all, [7; 10_000]);
    client.write_all(b"abc").await.unwrap();
    server.readable().await.unwrap();
    let mut two = [0; 2];
    let mut into = &mut two[..];
    while let Err(error) = server.try_read_buf(&mut into) {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        server.readable().await.unwrap();
    }
    assert_eq!(&two, b"ab");
}

#[tokio::test]
async fn any_number_of_tasks_may_wait() {
    let (_stack, mut client, server) = connected().await;
    let _ = server.try_read(&mut [0; 1]);
    let server = std::sync::Arc::new(server);
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let server = server.clone();
            tokio::spawn(async move { server.readable().await })
        })
        .collect();
    tokio::task::yield_now().await;
    client.write_all(b"x").await.unwrap();
    for task in waiting {
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_socket_that_is_always_ready_yields() {
    let (_stack, _client, server) = connected().await;
    let mut polls = 0;
    let busy = std::future::poll_fn(|cx| {
        loop {
            polls += 1;
            std::task::ready!(server.poll_write_ready(cx)).unwrap();
            if polls > 10_000 {
                return std::task::Poll::Ready(());
            }
        }
    });
    let mut busy = Box::pin(tokio::task::coop::cooperative(busy));
    assert!(poll_once(|cx| busy.as_mut().poll(cx)).is_pending(), "the budget of a task is finite");
    drop(busy);
    assert!(polls < 1000, "{polls}");
}

#[tokio::test]
async fn data_survives_both_ways_at_once() {
    let (_stack, client, server) = connected().await;
    let data: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    let run = |stream: netstack::net::TcpStream, data: Vec<u8>| async move {
        let (mut read, mut write) = stream.into_split();
        let send = data.clone();
        let writer = tokio::spawn(async move { write.write_all(&send).await });
        let mut all = Vec::new();
        read.read_to_end(&mut all).await.unwrap();
        writer.await.unwrap().unwrap();
        assert!(all == data);
    };
    tokio::join!(run(client, data.clone()), run(server, data));
}

/// recv(2) of nothing at an empty queue is EAGAIN, and zero once there is something.
#[tokio::test]
async fn an_empty_buffer_waits_for_something_to_read() {
    let (_stack, client, mut server) = connected().await;
    assert_eq!(server.try_read(&mut []).unwrap_err().kind(), ErrorKind::WouldBlock);
    let empty = |server: &mut netstack::net::TcpStream| {
        poll_once(|cx| Pin::new(server).poll_read(cx, &mut ReadBuf::new(&mut [])).map(Result::unwrap))
    };
    assert!(empty(&mut server).is_pending());
    assert!(poll_once(|cx| server.poll_peek(cx, &mut ReadBuf::new(&mut []))).is_pending());
    client.try_write(b"x").unwrap();
    server.readable().await.unwrap();
    assert!(empty(&mut server).is_ready());
    assert_eq!(server.try_read(&mut []).unwrap(), 0);
    assert_eq!(server.peek(&mut []).await.unwrap(), 0);
    assert_eq!(server.read(&mut [0; 2]).await.unwrap(), 1);
}

/// Reading initialises what it fills, however much room there is.
#[tokio::test]
async fn reading_touches_no_more_memory_than_it_fills() {
    let (_stack, mut client, mut server) = connected().await;
    let mut memory = vec![std::mem::MaybeUninit::uninit(); 8 << 20];
    for chunk in [1, 4, 4096, 100_000] {
        client.write_all(&vec![7; chunk]).await.unwrap();
        let mut got = 0;
        while got < chunk {
            let mut buf = ReadBuf::uninit(&mut memory);
            std::future::poll_fn(|cx| Pin::new(&mut server).poll_read(cx, &mut buf)).await.unwrap();
            assert!(buf.filled().iter().all(|byte| *byte == 7));
            assert_eq!(buf.initialized().len(), buf.filled().len(), "{chunk}");
            got += buf.filled().len();
        }
        client.write_all(&vec![7; chunk]).await.unwrap();
        server.readable().await.unwrap();
        let mut buf = ReadBuf::uninit(&mut memory);
        let peeked = std::future::poll_fn(|cx| server.poll_peek(cx, &mut buf)).await.unwrap();
        assert_eq!(buf.initialized().len(), peeked, "{chunk}");
        server.read_exact(&mut vec![0; chunk]).await.unwrap();
    }
}

#[tokio::test]
async fn a_write_costs_one_unit_of_the_budget_whatever_its_size() {
    let (_stack, mut client, mut server) = connected().await;
    client.set_send_buffer_size(1 << 20).unwrap();
    let written = client.write(&[0; 300_000]).await.unwrap();
    assert!(written > 100_000, "{written}");
    let mut ready = 0;
    let nothing = std::future::poll_fn(|cx| {
        while let std::task::Poll::Ready(unit) = tokio::task::coop::poll_proceed(cx) {
            unit.made_progress();
            ready += 1;
        }
        std::task::Poll::Ready(())
    });
    nothing.await;
    assert!(ready >= 120, "of 128 units: {ready}");
    server.read_exact(&mut vec![0; written]).await.unwrap();
}

#[tokio::test]
async fn a_writer_that_never_waits_gives_others_their_turn() {
    let (_stack, mut client, mut server) = connected().await;
    let turns = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = std::sync::Arc::clone(&turns);
    tokio::spawn(std::future::poll_fn(move |cx| {
        seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        cx.waker().wake_by_ref();
        std::task::Poll::<()>::Pending
    }));
    let reader = tokio::spawn(async move {
        let mut all = vec![0; 8 << 20];
        server.read_exact(&mut all).await.map(drop)
    });
    client.write_all(&vec![0; 8 << 20]).await.unwrap();
    reader.await.unwrap().unwrap();
    let turns = turns.load(std::sync::atomic::Ordering::Relaxed);
    assert!(turns >= 16, "one for half a megabyte at least: {turns}");
}

/// A write takes one unit of the task's budget, so that the budget lasts for megabytes. Others have their turn
/// before.
#[tokio::test]
async fn a_writer_with_room_for_megabytes_yields_after_a_quarter_of_one() {
    let (_stack, mut client, _server) = connected().await;
    client.set_send_buffer_size(4 << 20).unwrap();
    let turns = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = std::sync::Arc::clone(&turns);
    tokio::spawn(std::future::poll_fn(move |cx| {
        seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        cx.waker().wake_by_ref();
        std::task::Poll::<()>::Pending
    }));
    let (mut written, mut writes) = (0, 0);
    while written < 1 << 20 {
        written += client.write(&[0; 64 << 10]).await.unwrap();
        writes += 1;
    }
    assert!(writes < 32, "far from the end of the budget: {writes}");
    let turns = turns.load(std::sync::atomic::Ordering::Relaxed);
    assert!(turns >= 3, "one for each quarter of a megabyte: {turns}");
}
