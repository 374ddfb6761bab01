//! Pending accept through the facade, in virtual time.

use netstack::net::{PendingListener, TcpStream};
use netstack::{Stack, icmp::Unreachable};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::time::{Instant, sleep, timeout};

async fn stack_and_listener() -> (Stack, PendingListener) {
    let stack = Stack::builder().build().unwrap();
    let listener = PendingListener::bind_on(&stack, "127.0.0.1:80").await.unwrap();
    (stack, listener)
}

#[tokio::test(start_paused = true)]
async fn a_proxy_connects_its_upstream_first() {
    let (stack, listener) = stack_and_listener().await;
    let upstream = stack.listen("127.0.0.1:81").await.unwrap();
    let proxy = tokio::spawn({
        let stack = stack.clone();
        async move {
            let pending = listener.accept().await?;
            assert_eq!(pending.local_addr(), "127.0.0.1:80".parse().unwrap());
            assert!(pending.options().sack_permitted);
            sleep(Duration::from_secs(4)).await;
            assert_eq!(pending.age(), Duration::from_secs(4));
            let mut upstream = TcpStream::connect_on(&stack, "127.0.0.1:81").await?;
            let mut client = pending.accept().await?;
            copy_bidirectional(&mut client, &mut upstream).await
        }
    });
    let start = Instant::now();
    let mut client = stack.connect("127.0.0.1:80").await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(4), "it knows nothing before");
    let (mut served, _) = upstream.accept().await.unwrap();
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    let mut request = Vec::new();
    served.read_to_end(&mut request).await.unwrap();
    served.write_all(b"answer").await.unwrap();
    drop(served);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!((&request[..], &answer[..]), (&b"request"[..], &b"answer"[..]));
    assert_eq!(proxy.await.unwrap().unwrap(), (7, 6));
}

#[tokio::test(start_paused = true)]
async fn the_client_sees_what_the_proxy_saw() {
    let (stack, listener) = stack_and_listener().await;
    let cases = [
        (io::ErrorKind::ConnectionRefused, io::ErrorKind::ConnectionRefused),
        (io::ErrorKind::HostUnreachable, io::ErrorKind::HostUnreachable),
        (io::ErrorKind::NetworkUnreachable, io::ErrorKind::NetworkUnreachable),
        (io::ErrorKind::PermissionDenied, io::ErrorKind::HostUnreachable),
        (io::ErrorKind::ConnectionReset, io::ErrorKind::ConnectionRefused),
        (io::ErrorKind::TimedOut, io::ErrorKind::TimedOut),
    ];
    for (upstream, expected) in cases {
        let (client, ()) = tokio::join!(stack.connect("127.0.0.1:80"), async {
            let pending = listener.accept().await.unwrap();
            pending.refuse_as(&upstream.into());
            if upstream == io::ErrorKind::TimedOut {
                // When its time is over, the client's next SYN is a new one.
                listener.accept().await.unwrap().ignore();
            }
        });
        assert_eq!(client.unwrap_err().kind(), expected, "{upstream:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_it_anywhere_refuses_the_client() {
    let (stack, listener) = stack_and_listener().await;
    let connect = || {
        tokio::spawn({
            let stack = stack.clone();
            async move { stack.connect("127.0.0.1:80").await }
        })
    };
    let client = connect();
    drop(listener.accept().await.unwrap());
    assert_eq!(client.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    // A decision that is dropped before it took effect: the client may have been connected already.
    let client = connect();
    let pending = listener.accept().await.unwrap();
    let cancelled = timeout(Duration::ZERO, pending.accept()).await;
    match client.await.unwrap() {
        Ok(mut client) if cancelled.is_err() => {
            assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
    }
    assert_eq!(listener.queues().syn_queue, 0);
    drop(cancelled);
    let client = connect();
    let pending = listener.accept().await.unwrap();
    pending.unreachable(Unreachable::Host);
    assert_eq!(client.await.unwrap().unwrap_err().kind(), io::ErrorKind::HostUnreachable);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_that_the_client_is_gone() {
    let (stack, listener) = stack_and_listener().await;
    let start = Instant::now();
    let client = tokio::spawn({
        let stack = stack.clone();
        async move { timeout(Duration::from_secs(1), stack.connect("127.0.0.1:80")).await }
    });
    let pending = listener.accept().await.unwrap();
    assert!(client.await.unwrap().is_err());
    // A client that gives up says nothing: only time tells.
    pending.gone().await;
    assert_eq!(start.elapsed(), Duration::from_secs(63));
    assert_eq!(pending.accept().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    // Ends with its listener, and with the stack.
    let _client = tokio::spawn({
        let stack = stack.clone();
        async move { stack.connect("127.0.0.1:80").await }
    });
    let pending = listener.accept().await.unwrap();
    drop(listener);
    pending.gone().await;
    assert_eq!(pending.accept().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    let listener = PendingListener::bind_on(&stack, "127.0.0.1:80").await.unwrap();
    let accept = tokio::spawn(async move { listener.accept().await.map(drop) });
    tokio::task::yield_now().await;
    stack.shutdown(Duration::ZERO).await;
    let error = accept.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("shut down"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_a_fast_open_brings_is_read_before_the_decision() {
    let (stack, listener) = stack_and_listener().await;
    assert_eq!(listener.tcp_fastopen().unwrap(), 0);
    listener.set_tcp_fastopen(4).unwrap();
    assert_eq!(listener.tcp_fastopen().unwrap(), 4);
    let ask = || {
        let stack = stack.clone();
        tokio::spawn(async move { TcpStream::connect_with_data_on(&stack, "127.0.0.1:80", b"hello").await })
    };
    // The first time there is no cookie.
    let client = ask();
    let pending = listener.accept().await.unwrap();
    assert!(pending.fast_open_data().is_empty());
    let mut served = pending.accept().await.unwrap();
    let mut client = client.await.unwrap().unwrap();
    let mut bytes = [0; 5];
    served.read_exact(&mut bytes).await.unwrap();
    assert_eq!((&bytes, served.tcp_info().unwrap().syn_data_acked), (b"hello", false));
    served.write_all(b"world").await.unwrap();
    client.read_exact(&mut bytes).await.unwrap();
    drop((client, served));
    // Now there is: the words are here before the decision, and stay for the stream.
    let client = ask();
    let pending = listener.accept().await.unwrap();
    sleep(Duration::from_secs(4)).await;
    assert_eq!(pending.fast_open_data(), b"hello");
    let mut served = pending.accept().await.unwrap();
    served.write_all(b"world").await.unwrap();
    served.read_exact(&mut bytes).await.unwrap();
    assert_eq!((&bytes, served.tcp_info().unwrap().syn_data_acked), (b"hello", true));
    let mut client = client.await.unwrap().unwrap();
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!((&bytes, client.tcp_info().unwrap().syn_data_acked), (b"world", true));
    assert_eq!(stack.counters().fast_open_passive, 1);
    drop((client, served));
    // Who is refused knows it from the first read.
    let client = ask();
    let pending = listener.accept().await.unwrap();
    assert_eq!(pending.fast_open_data(), b"hello");
    pending.refuse();
    let error = match client.await.unwrap() {
        Ok(mut client) => client.read(&mut bytes).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    // A stream that is dropped as soon as it is there resets its client.
    let client = ask();
    drop(listener.accept().await.unwrap().accept().await.unwrap());
    let mut client = client.await.unwrap().unwrap();
    assert_eq!(client.read(&mut bytes).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}
