//! 1,000 connections at once, all closed: nothing of them stays.

use crate::common::{self, Family, OFFLOAD, at, runtime};
use netstack::{Config, Stack};
use netstack_examples::{kernel, transfer};
use netstack_tun::netns::isolated;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

/// Counts the bytes that are allocated.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are allocated now.
pub(crate) fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Connections that are open at the same time.
const CONNECTIONS: usize = 1_000;
/// What each of them sends and gets back. Not a whole number of segments.
const MESSAGE: usize = 5_000;
/// What all of them may leave behind, in bytes: one buffer of the pool, and tables that have grown.
const ALLOWANCE: usize = 96 << 10;
/// Instead of 60 s.
const TIME_WAIT: Duration = Duration::from_secs(1);
/// How long to wait for connections to end by themselves.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The kernel's clients, in a thread whose memory is freed when it ends.
///
/// All connect, then all are used, then all are closed: at one point all 1,000 exist.
fn clients(address: SocketAddr) -> io::Result<()> {
    runtime().block_on(async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            streams.push(kernel::connect(address).await?.0);
        }
        let mut echoes = JoinSet::new();
        for (at, mut stream) in streams.into_iter().enumerate() {
            echoes.spawn(async move {
                let message = vec![at as u8; MESSAGE];
                let mut back = vec![0; MESSAGE];
                transfer::progress("sending", stream.write_all(&message)).await?;
                transfer::progress("receiving", stream.read_exact(&mut back)).await?;
                assert!(back == message, "connection {at} got what is not its own");
                io::Result::Ok(stream)
            });
        }
        let mut streams = Vec::new();
        while let Some(echoed) = echoes.join_next().await {
            streams.push(echoed??);
        }
        // Half are closed by the client first, and half by the server, which then has TIME-WAIT.
        for (at, mut stream) in streams.into_iter().enumerate() {
            if at % 2 == 0 {
                drop(stream);
            } else {
                stream.write_all(&[END]).await?;
                transfer::expect_end(&mut stream).await?;
            }
        }
        Ok(())
    })
}

/// Asks the server to close first.
const END: u8 = 0xff;

/// Echoes until the client closes, or asks to be closed.
async fn serve(mut stream: netstack::net::TcpStream) -> io::Result<()> {
    let mut block = [0; 2_000];
    let mut received = 0;
    loop {
        let n = stream.read(&mut block).await?;
        received += n;
        if n == 0 || received > MESSAGE {
            return Ok(());
        }
        stream.write_all(&block[..n]).await?;
    }
}

/// Has all connections come and go, and waits until the stack has none and no TIME-WAIT.
async fn round(stack: &Stack, address: SocketAddr) -> usize {
    let clients = tokio::task::spawn_blocking(move || thread::spawn(move || clients(address)).join());
    clients.await.unwrap().unwrap().unwrap();
    let start = Instant::now();
    let mut time_waits = 0;
    loop {
        time_waits = time_waits.max(stack.time_waits());
        if stack.connections() == 0 && stack.time_waits() == 0 {
            break;
        }
        assert!(
            start.elapsed() < TIME_WAIT + TIMEOUT,
            "{} connections and {} in TIME-WAIT are left",
            stack.connections(),
            stack.time_waits()
        );
        // TIME-WAIT lasts in real time, as there is a TUN device.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    time_waits
}

#[test]
fn a_thousand_connections_leave_nothing_behind() {
    isolated("connections::a_thousand_connections_leave_nothing_behind", || {
        runtime().block_on(async {
            let config = Config::default().with(|config| config.time_wait = TIME_WAIT);
            let stack = common::stack(OFFLOAD, config).unwrap();
            let listener = stack.listen(at(Family::V4.stack(), 7)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(async move {
                let mut connections = JoinSet::new();
                loop {
                    tokio::select! {
                        accepted = listener.accept() => drop(connections.spawn(serve(accepted.unwrap().0))),
                        Some(served) = connections.join_next() => served.unwrap().unwrap(),
                    }
                }
            });
            // Before the first connection: what the first connections allocate has to be freed too.
            let before = allocated();
            for name in ["first", "second"] {
                let time_waits = round(&stack, address).await;
                let after = allocated();
                println!("{name} round: {before} bytes before, {after} after; {time_waits} in TIME-WAIT");
                assert!(time_waits > 0, "the server closed first and had no TIME-WAIT");
                let left = after.saturating_sub(before);
                assert!(left <= ALLOWANCE, "{left} bytes are left");
            }
            server.abort();
            stack.shutdown(TIMEOUT).await;
        });
    });
}

/// Connections of which the server has not more packets to send than a handshake, an answer and an end.
const YOUNG: u64 = 50;

/// One request and one answer on each of many connections: the answer carries the acknowledgment of the request, and the
/// end that of the client's end.
#[test]
fn an_answer_carries_the_acknowledgment_of_a_request() {
    isolated("connections::an_answer_carries_the_acknowledgment_of_a_request", || {
        runtime().block_on(async {
            let stack = common::stack(OFFLOAD, Config::default()).unwrap();
            let listener = stack.listen(at(Family::V4.stack(), 7)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    tokio::spawn(async move { serve(stream).await.unwrap() });
                }
            });
            let before = stack.counters().out_packets;
            let clients = thread::spawn(move || {
                for _ in 0..YOUNG {
                    let mut stream = std::net::TcpStream::connect(address)?;
                    stream.write_all(&[1])?;
                    stream.read_exact(&mut [0])?;
                    stream.shutdown(Shutdown::Write)?;
                    assert_eq!(stream.read(&mut [0])?, 0);
                }
                io::Result::Ok(())
            });
            tokio::task::spawn_blocking(|| clients.join()).await.unwrap().unwrap().unwrap();
            let sent = stack.counters().out_packets - before;
            // On a busy machine an acknowledgment may be due before its answer.
            assert!((3 * YOUNG..3 * YOUNG + YOUNG / 2).contains(&sent), "{sent} packets");
            server.abort();
        });
    });
}
