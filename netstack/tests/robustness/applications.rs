//! What applications do to a stack.

use netstack::device::{Link, LinkConfig};
use netstack::net::TcpStream;
use netstack::{Interface, Stack};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn linked() -> (Stack, Stack) {
    let config: LinkConfig = "delay=1ms".parse().expect("a link");
    let (left, right) = Link::pair(config.clone(), config);
    let build = |name: &str, link, address| {
        let interface = Interface::new(Arc::new(link)).address(address);
        Stack::builder().name(name).interface(interface).build().expect("a stack in a runtime")
    };
    (build("left", left, "10.0.0.1/24"), build("right", right, "10.0.0.2/24"))
}

/// What one client does with its stream.
async fn client(stack: &Stack, number: u32) {
    let connect = stack.connect("10.0.0.2:80");
    match number % 8 {
        // The future is dropped before it was polled, and after it was.
        0 => drop(connect),
        1 => drop(tokio::time::timeout(Duration::from_micros(500), connect).await),
        // The stream is dropped in the middle of a write, and of a read.
        2 => {
            let mut stream = connect.await.expect("a connection");
            let block = vec![7; 4 << 20];
            drop(tokio::time::timeout(Duration::from_millis(3), stream.write_all(&block)).await);
        }
        3 => {
            let mut stream = connect.await.expect("a connection");
            stream.write_all(b"?").await.expect("it is taken");
            drop(tokio::time::timeout(Duration::from_micros(100), stream.read(&mut [0; 9])).await);
        }
        // The halves are forked over tasks, one of which panics.
        4 => {
            let (mut read, mut write) = connect.await.expect("a connection").into_split();
            let reader = tokio::spawn(async move { read.read(&mut [0; 9]).await });
            let writer = tokio::spawn(async move {
                write.write_all(b"?").await.expect("it is taken");
                panic!("as the test wants it");
            });
            assert!(writer.await.is_err());
            drop(reader.await);
        }
        5 => {
            let stream = connect.await.expect("a connection");
            stream.set_zero_linger().expect("an option");
        }
        // Everything as it should be: the byte comes back.
        _ => echo(connect.await.expect("a connection")).await,
    }
}

async fn echo(mut stream: TcpStream) {
    stream.write_all(b"?").await.expect("it is taken");
    let mut byte = [0];
    tokio::time::timeout(Duration::from_secs(1), stream.read_exact(&mut byte))
        .await
        .expect("within a second")
        .expect("the echo");
    assert_eq!(byte, *b"?");
}

#[tokio::test(start_paused = true)]
async fn r21_whatever_applications_drop_nothing_is_left_and_others_go_on() {
    let (left, right) = linked();
    let listener = right.listen("10.0.0.2:80").await.expect("a listener");
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut part = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut part).await {
                    if stream.write_all(&part[..n.min(9)]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    let clients = (0..400).map(|number| {
        let left = left.clone();
        Box::pin(async move { client(&left, number).await }) as Pin<Box<dyn Future<Output = ()> + Send>>
    });
    let tasks: Vec<_> = clients.map(tokio::spawn).collect();
    for task in tasks {
        // Guard removed: a waker that is not called, or a lock that is not released, and this never ends.
        tokio::time::timeout(Duration::from_secs(100), task).await.expect("no deadlock").expect("no panic");
    }
    echo(left.connect("10.0.0.2:80").await.expect("a connection")).await;
    server.abort();
    drop(server.await);
    tokio::time::sleep(Duration::from_secs(1_200)).await;
    for stack in [&left, &right] {
        // Guard removed: a stream whose drop does not close its connection is left here.
        assert!(stack.sockets().is_empty(), "{:?}", stack.sockets());
    }
}

#[test]
fn r21_what_was_accepted_is_delivered_although_its_runtime_is_gone() {
    let (_left, right, listener, bytes) = {
        let clients = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let servers = tokio::runtime::Runtime::new().expect("a runtime");
        let (left, right) = {
            let config = LinkConfig::default();
            let (a, b) = Link::pair(config.clone(), config);
            let build = |link, address| {
                let interface = Interface::new(Arc::new(link)).address(address);
                Stack::builder().interface(interface).build().expect("a stack in a runtime")
            };
            let left = clients.block_on(async { build(a, "10.0.0.1/24") });
            let right = servers.block_on(async { build(b, "10.0.0.2/24") });
            (left, right)
        };
        let listener = servers.block_on(right.listen("10.0.0.2:80")).expect("a listener");
        let client = left.clone();
        let bytes = clients.block_on(async move {
            let mut stream = client.connect("10.0.0.2:80").await.expect("a connection");
            stream.write_all(&[7; 30_000]).await.expect("it is taken");
            30_000
        });
        // The client's runtime ends here, and with it the task that drives its stack.
        drop(clients);
        (left, (right, servers), listener, bytes)
    };
    let (_stack, servers) = right;
    let got = servers.block_on(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut all = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut all)).await;
        // Guard removed: without the drain at the end of the runtime (`start_drain`) there is less, or no end.
        read.expect("an end").expect("an orderly one");
        all.len()
    });
    assert_eq!(got, bytes);
}
