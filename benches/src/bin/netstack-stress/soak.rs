//! A long time of ordinary work: what a process holds must not grow by it.

use crate::latencies::Latencies;
use crate::peers::{Here, Server};
use crate::server::{ECHO, Report};
use crate::wire::SERVER;
use netstack::Stack;
use netstack::net::UdpSocket;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Of a million packets so many are lost, at either end.
const LOSS: u32 = 1_000;

/// What happens at a time: opens and closes a second are a hundred times as many.
const PER_TICK: u32 = 10;
const TICK: Duration = Duration::from_millis(10);

/// How much more may be resident at the end than after the first interval, in bytes.
const GROWTH: u64 = 8 << 20;

/// What one interval has shown.
#[derive(Debug, Default)]
struct Seen {
    latencies: Latencies,
    done: u64,
    failed: u64,
    cancelled: u64,
}

pub(crate) async fn run(length: Duration, intervals: u32) -> io::Result<bool> {
    let (server, Here { stack, .. }) = Server::start(&["268435456".into(), LOSS.to_string()], LOSS)?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut rows = Vec::new();
    for interval in 0..=intervals {
        let until = Instant::now() + length / (intervals + 1);
        let mut next = Instant::now();
        let mut number = 0u32;
        while Instant::now() < until {
            for _ in 0..PER_TICK {
                number += 1;
                let (stack, seen) = (stack.clone(), Arc::clone(&seen));
                tokio::spawn(async move { one(&stack, number, &seen).await });
            }
            next += TICK;
            tokio::time::sleep_until(next.into()).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut seen = std::mem::take(&mut *seen.lock().expect("no panic under this lock"));
        let report = server.last();
        let (median, p99) = (seen.latencies.percentile(50.0), seen.latencies.percentile(99.0));
        println!(
            "{interval:>4}: {:>6} done {:>4} failed {:>6} cancelled  median {median:>9.1?} p99 {p99:>9.1?}  resident {:>4} MiB  counted {:>6} KiB  {} descriptors  {} connections",
            seen.done,
            seen.failed,
            seen.cancelled,
            report.resident >> 20,
            report.used >> 10,
            report.descriptors,
            report.connections,
        );
        rows.push((report, median, seen.failed));
    }
    drop(stack);
    for (name, value) in server.counters() {
        println!("      {name} {value}");
    }
    Ok(is_flat(&rows))
}

/// Whether nothing has grown since the first interval, which filled what is kept.
fn is_flat(rows: &[(Report, Duration, u64)]) -> bool {
    let [_, (first, median, _), .., (last, later, _)] = rows else { return true };
    let good = [
        ("resident", last.resident <= first.resident + GROWTH),
        ("counted", last.used <= first.used * 2 + (8 << 20)),
        ("descriptors", last.descriptors <= first.descriptors + 2),
        ("latency", *later <= *median * 3 + Duration::from_millis(5)),
        ("failures", rows.iter().all(|(_, _, failed)| *failed == 0)),
    ];
    good.iter().filter(|(_, good)| !good).for_each(|(what, _)| println!("FAILED: {what}"));
    good.iter().all(|(_, good)| *good)
}

/// One piece of work, of which there are several kinds.
async fn one(stack: &Stack, number: u32, seen: &Mutex<Seen>) {
    let began = Instant::now();
    let result = match number % 20 {
        // Given up at some point.
        0..=2 => {
            let work = echo(stack, 20_000);
            let _ = tokio::time::timeout(Duration::from_micros(u64::from(number % 7) * 700), work).await;
            seen.lock().expect("no panic under this lock").cancelled += 1;
            return;
        }
        3 => echo(stack, 200_000).await,
        4 | 5 => datagram(stack).await,
        _ => echo(stack, 100).await,
    };
    let mut seen = seen.lock().expect("no panic under this lock");
    match result {
        Ok(()) => {
            seen.done += 1;
            if number % 20 > 5 {
                seen.latencies.add(began.elapsed());
            }
        }
        Err(_) => seen.failed += 1,
    }
}

/// Sends so many bytes and reads them back.
async fn echo(stack: &Stack, len: usize) -> io::Result<()> {
    let stream = stack.connect((SERVER, ECHO)).await?;
    let (mut read, mut write) = stream.into_split();
    let writing = tokio::spawn(async move { write.write_all(&vec![7; len]).await });
    let mut back = vec![0; len];
    read.read_exact(&mut back).await?;
    writing.await?
}

/// A datagram there and back; it may be lost.
async fn datagram(stack: &Stack) -> io::Result<()> {
    let socket = UdpSocket::bind_on(stack, "10.0.0.2:0").await?;
    socket.send_to(&[1; 1000], (SERVER, ECHO)).await?;
    let mut back = [0; 1000];
    let _ = tokio::time::timeout(Duration::from_millis(500), socket.recv_from(&mut back)).await;
    Ok(())
}
