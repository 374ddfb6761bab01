//! A runtime whose only thread blocks: what needs no wait goes on, over loopback and devices in memory, as it
//! does in the kernel.

use crate::common::{connect, connected, linked, stack};
use netstack::device::{Pair, PairConfig};
use netstack::net::UdpSocket;
use netstack::{Driver, Interface, Stack, blocking};
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// Runs `test` in a runtime of one thread, and fails if that hangs.
fn in_one_thread<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let thread = thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
        done.send(()).unwrap();
    });
    if is_done.recv_timeout(LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("it hangs");
    }
    thread.join().unwrap();
}

/// A client on `stack`, which another thread has connected to 10.0.0.2 and made send a request. This one is blocked
/// meanwhile.
fn a_client_has_asked(stack: Stack) -> blocking::TcpStream {
    let client = thread::spawn(move || {
        let mut client = blocking::TcpStream::connect_on(&stack, ("10.0.0.2", 80)).unwrap();
        client.write_all(b"request").unwrap();
        client
    });
    client.join().unwrap()
}

#[test]
fn what_was_written_arrives_while_the_writer_joins_its_reader() {
    in_one_thread(|| async {
        let (stack, mut ours, theirs) = connected().await;
        let (_other, mut clone) = connect(&stack).await;
        clone.write_all(b"somebody else's").await.unwrap();
        let theirs = blocking::TcpStream::from(theirs);
        let reader = thread::spawn(move || {
            let mut theirs = theirs;
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            theirs.write_all(&all[..1000]).unwrap();
            all
        });
        let data: Vec<u8> = (0..1_000_000u32).map(|i| (i / 7) as u8).collect();
        ours.write_all(&data).await.unwrap();
        ours.shutdown().await.unwrap();
        assert!(reader.join().unwrap() == data);
        // And what came back.
        assert_eq!(ours.read(&mut [0; 2000]).await.unwrap(), 1000);
    });
}

#[test]
fn a_peer_connects_and_writes_while_the_thread_of_the_listener_is_blocked() {
    in_one_thread(|| async {
        let stack = stack();
        let listener = stack.listen("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let client = thread::spawn(move || {
            let mut client = blocking::TcpStream::connect_on(&stack, addr).unwrap();
            client.write_all(&[5; 50_000]).unwrap();
            client.local_addr().unwrap()
        });
        let from = client.join().unwrap();
        let (mut stream, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, from);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert!(all == [5; 50_000]);
    });
}

/// The other stack is driven by another thread; this one answers from there.
#[test]
fn the_far_end_of_a_pair_answers_while_its_thread_is_blocked() {
    in_one_thread(|| async {
        let (left, right) = Pair::new(PairConfig::default());
        let left = Interface::new(Arc::new(left)).address("10.0.0.1/24");
        let right = Interface::new(Arc::new(right)).address("10.0.0.2/24");
        let left = Stack::builder().driver(Driver::Thread).interface(left).build().unwrap();
        let right = Stack::builder().interface(right).build().unwrap();
        let listener = right.listen("10.0.0.2:80").await.unwrap();
        let client = a_client_has_asked(left);
        let (stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 100];
        stream.readable().await.unwrap();
        assert_eq!(stream.try_read(&mut request).unwrap(), 7);
        drop(client);
    });
}

#[tokio::test]
async fn a_write_over_loopback_can_be_read_at_once() {
    let (_stack, ours, theirs) = connected().await;
    assert_eq!(ours.try_write(b"now").unwrap(), 3);
    assert_eq!(theirs.try_read(&mut [0; 10]).unwrap(), 3);
    drop(ours);
    assert_eq!(theirs.try_read(&mut [0; 10]).unwrap(), 0, "the end of the stream as well");
}

#[tokio::test]
async fn a_datagram_over_loopback_can_be_read_at_once() {
    let stack = stack();
    let [from, to] = [(); 2].map(|()| UdpSocket::bind_on(&stack, "127.0.0.1:0"));
    let (from, to) = (from.await.unwrap(), to.await.unwrap());
    let addr = to.local_addr().unwrap();
    assert_eq!(from.try_send_to(b"now", addr).unwrap(), 3);
    assert_eq!(to.try_recv_from(&mut [0; 10]).unwrap(), (3, from.local_addr().unwrap()));
}

/// The order of a test in paused time is that of its runtime.
#[tokio::test(start_paused = true)]
async fn in_paused_time_the_reactor_delivers() {
    let (_stack, ours, theirs) = connected().await;
    assert_eq!(ours.try_write(b"later").unwrap(), 5);
    // The assumption of an accepted stream that it is readable goes with the first look.
    assert_eq!(theirs.try_read(&mut [0; 10]).unwrap_err().kind(), ErrorKind::WouldBlock);
    theirs.readable().await.unwrap();
    assert_eq!(theirs.try_read(&mut [0; 10]).unwrap(), 5);
}

/// More than one call may deliver.
#[test]
fn many_threads_write_to_a_runtime_that_is_blocked() {
    in_one_thread(|| async {
        let stack = stack();
        let mut streams = Vec::new();
        let mut threads = Vec::new();
        for n in 0..8u8 {
            let (ours, theirs) = connect(&stack).await;
            streams.push(ours);
            let mut theirs = blocking::TcpStream::from(theirs);
            threads.push(thread::spawn(move || {
                for _ in 0..200 {
                    theirs.write_all(&[n; 100]).unwrap();
                }
            }));
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        for (n, mut stream) in streams.into_iter().enumerate() {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert!(all == vec![n as u8; 20_000], "{n}: {}", all.len());
        }
    });
}

/// Nagle's algorithm waits for an acknowledgment, which is delayed.
#[test]
fn delayed_acknowledgments_are_sent_while_the_thread_is_blocked() {
    in_one_thread(|| async {
        let stack = stack();
        let (ours, theirs) = connect(&stack).await;
        for stream in [&ours, &theirs] {
            netstack::SockRef::from(stream).set_tcp_quickack(false).unwrap();
        }
        let [mut ours, mut theirs] = [ours, theirs].map(blocking::TcpStream::from);
        let writer = thread::spawn(move || {
            for _ in 0..20 {
                ours.write_all(b"x").unwrap();
            }
            ours
        });
        let reader = thread::spawn(move || theirs.read_exact(&mut [0; 20]));
        reader.join().unwrap().unwrap();
        drop(writer.join());
    });
}

#[test]
fn a_link_carries_while_the_thread_is_blocked() {
    in_one_thread(|| async {
        let (left, right) = linked("delay=1ms");
        let listener = right.listen("10.0.0.2:80").await.unwrap();
        let client = a_client_has_asked(left);
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read(&mut [0; 100]).await.unwrap(), 7);
        drop(client);
    });
}
