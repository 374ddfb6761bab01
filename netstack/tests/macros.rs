//! `#[netstack::test]` and `#[netstack::main]`.

use netstack::Stack;
use netstack::device::{Link, LinkConfig};
use netstack::net::{TcpListener, TcpStream, UdpSocket};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::{Instant, sleep};

/// Another name of the crate, for the argument `crate`.
mod renamed {
    pub(crate) use netstack::__attributes;
}

#[netstack::test]
async fn a_test_has_a_stack_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:80").await.unwrap();
    // In a task, too, since the runtime is bound.
    let accepting = tokio::spawn(async move { listener.accept().await.unwrap().1 });
    let stream = TcpStream::connect("127.0.0.1:80").await.unwrap();
    assert_eq!(accepting.await.unwrap(), stream.local_addr().unwrap());
}

#[netstack::test]
async fn the_argument_is_the_current_stack(stack: Stack) -> io::Result<()> {
    assert_eq!(stack.connections(), 0);
    let listener = TcpListener::bind("127.0.0.1:80").await?;
    let _client = stack.connect("localhost:80").await?;
    assert_eq!(stack.connections(), 2);
    assert_eq!(listener.stack().sockets().len(), 3);
    Ok(())
}

#[netstack::test]
#[should_panic(expected = "as it should")]
async fn attributes_stay_with_the_test() {
    panic!("as it should");
}

#[netstack::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_worker_has_the_stack() {
    assert_eq!(Handle::current().runtime_flavor(), RuntimeFlavor::MultiThread);
    assert_eq!(Handle::current().metrics().num_workers(), 3);
    let tasks =
        (0..30).map(|_| tokio::spawn(async { UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr() }));
    for task in tasks {
        assert!(task.await.unwrap().unwrap().port() > 0);
    }
}

#[netstack::test(crate = "renamed", start_paused = true)]
async fn the_crate_may_be_called_otherwise() {
    let begin = Instant::now();
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(begin.elapsed(), Duration::from_secs(3600));
}

/// tokio's timers alone would make a millisecond of each.
#[netstack::test(start_paused = true, link = "delay=100us")]
async fn deadlines_are_exact_below_a_millisecond() {
    let listener = TcpListener::bind("127.0.0.1:80").await.unwrap();
    let begin = Instant::now();
    let mut client = TcpStream::connect("127.0.0.1:80").await.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_micros(200));
    // The acknowledgment that completes the handshake takes its time, too.
    let (mut server, _) = listener.accept().await.unwrap();
    for round in 1..=50 {
        client.write_all(&[1]).await.unwrap();
        server.read_u8().await.unwrap();
        server.write_all(&[2]).await.unwrap();
        client.read_u8().await.unwrap();
        assert_eq!(begin.elapsed(), Duration::from_micros(300 + 200 * round));
    }
    // Timers of tokio are where they were, and the clock goes on from there.
    sleep(Duration::from_millis(10)).await;
    assert!(begin.elapsed() < Duration::from_micros(21_400), "{:?}", begin.elapsed());
}

/// The deadlines of the engine, and not only those of devices.
#[netstack::test(start_paused = true, link = "delay=10300us")]
async fn a_retransmission_is_not_rounded(stack: Stack) {
    let begin = Instant::now();
    // Nobody listens on the port behind the link, and the link is down from the second round on.
    let error = TcpStream::connect("127.0.0.1:9").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(begin.elapsed(), Duration::from_micros(20_600));
    assert_eq!(stack.connections(), 0);
}

/// What stacks the test builds itself has the same clock.
#[netstack::test(start_paused = true)]
async fn other_stacks_of_the_test_are_exact_too() {
    let delay: LinkConfig = "delay=1234567ns".parse().unwrap();
    let (left, right) = Link::pair(delay.clone(), delay);
    let build = |link, address| {
        Stack::builder().interface(netstack::Interface::new(Arc::new(link)).address(address)).build().unwrap()
    };
    let (left, right): (Stack, Stack) = (build(left, "10.0.0.1/24"), build(right, "10.0.0.2/24"));
    let listener = right.listen("10.0.0.2:80").await.unwrap();
    let begin = Instant::now();
    left.connect("10.0.0.2:80").await.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_nanos(2 * 1_234_567));
    listener.accept().await.unwrap();
}

#[netstack::test(start_paused = true, link = "delay=20ms,loss=20%,seed=3")]
async fn a_link_loses_packets(stack: Stack) {
    let listener = TcpListener::bind("127.0.0.1:80").await.unwrap();
    let sending = tokio::spawn(async {
        let mut client = TcpStream::connect("127.0.0.1:80").await.unwrap();
        client.write_all(&vec![7; 200_000]).await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        client.tcp_info().unwrap().total_retrans
    });
    let (mut server, _) = listener.accept().await.unwrap();
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    drop(server);
    assert_eq!(received, vec![7; 200_000]);
    let retransmitted = sending.await.unwrap();
    assert!(retransmitted > 10, "{retransmitted}");
    assert_eq!(stack.time_waits(), 1);
}

#[netstack::test(link = "delay=20")]
#[should_panic(expected = "`link = \"delay=20\"`: link impairment 'delay': '20' is no time")]
async fn a_link_that_is_none_is_an_error() {}

#[test]
fn main_returns_what_it_returns_and_delivers_what_was_written() {
    #[netstack::main(flavor = "current_thread", start_paused = true, link = "delay=200ms")]
    async fn main(stack: Stack) -> Result<Arc<AtomicUsize>, io::Error> {
        let listener = TcpListener::bind("127.0.0.1:80").await?;
        let mut client = TcpStream::connect("127.0.0.1:80").await?;
        let (mut server, _) = listener.accept().await?;
        let received = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok(n @ 1..) = server.read(&mut [0; 100]).await {
                counted.fetch_add(n, Ordering::Relaxed);
            }
        });
        client.write_all(&[0; 10_000]).await?;
        assert!(!stack.drain(Duration::ZERO).await, "it takes a round trip");
        Ok(received)
    }
    assert_eq!(main().unwrap().load(Ordering::Relaxed), 10_000);

    #[netstack::main]
    async fn with_threads() -> RuntimeFlavor {
        Handle::current().runtime_flavor()
    }
    assert_eq!(with_threads(), RuntimeFlavor::MultiThread);
}
