//! The stack's time is its runtime's, and what cannot follow it is refused.

use crate::common::{connect, linked};
use netstack::{Driver, Stack};
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

#[tokio::test(start_paused = true)]
async fn an_hour_of_virtual_time_is_short() {
    let (left, right) = linked("delay=100ms,rate=1mbit,queue=64kb");
    let listener = left.listen("10.0.0.1:80").await.unwrap();
    let (mut client, server) = {
        let (client, server) = tokio::join!(right.connect("10.0.0.1:80"), listener.accept());
        (client.unwrap(), server.unwrap().0)
    };
    let real = begin();
    let virtual_begin = tokio::time::Instant::now();
    let reader = tokio::spawn(async move {
        let mut server = server;
        tokio::io::copy(&mut server, &mut tokio::io::sink()).await.unwrap()
    });
    client.write_all(&vec![0; 1_000_000]).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(reader.await.unwrap(), 1_000_000);
    let took = virtual_begin.elapsed();
    // With headers 1.04 MB at 1 Mbit/s, and a round trip.
    assert!((8_300..=8_600).contains(&took.as_millis()), "{took:?}");
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((left.time_waits(), right.time_waits()), (0, 0), "TIME-WAIT is over");
    assert!(real.elapsed() < Duration::from_secs(60));
}

#[expect(clippy::disallowed_methods, reason = "compares the real time that a test takes")]
fn begin() -> Instant {
    Instant::now()
}

#[tokio::test(start_paused = true)]
async fn a_thread_keeps_real_time_when_the_runtime_that_builds_it_is_paused() {
    let stack = Stack::builder().driver(Driver::Thread).build().unwrap();
    let real = begin();
    let (mut client, mut server) = connect(&stack).await;
    client.write_all(b"x").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'x');
    drop((client, server));
    stack.shutdown(Duration::from_secs(20)).await;
    assert!(real.elapsed() < Duration::from_secs(20));
    assert_eq!(stack.connections(), 0, "shutdown waits in the time of the stack");
}

#[test]
fn tasks_need_a_runtime_with_time() {
    let runtime = Builder::new_current_thread().enable_io().build().unwrap();
    let error = runtime.block_on(async { Stack::builder().build().unwrap_err() });
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("enable_time"), "{error}");
    let stack = runtime.block_on(async { Stack::builder().driver(Driver::Thread).build().unwrap() });
    drop(stack);
}

#[test]
fn tasks_need_a_runtime() {
    let error = Stack::builder().build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("Driver::Thread"), "{error}");
}
