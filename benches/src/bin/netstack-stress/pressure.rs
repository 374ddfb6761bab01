//! Everything at once that takes memory, under a budget; and an honest client.

use crate::latencies::Latencies;
use crate::peers::{Here, Server, segment, send, syn, syn_ack};
use crate::server::{ALWAYS_WRITES, ECHO, NEVER_READS, Report};
use crate::wire::SERVER;
use netstack::Stack;
use netstack::net::TcpStream;
use netstack::wire::{Flags, Segment, SeqNum};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Connections whose peers never read, and as many whose applications never read.
    pub(crate) connections: usize,
    /// SYNs from everywhere.
    pub(crate) syns: u32,
    /// Connections that get bytes out of order.
    pub(crate) out_of_order: u32,
    /// The budget, in bytes.
    pub(crate) high: usize,
    /// What may be resident, in bytes.
    pub(crate) most: u64,
}

/// Packets a second of each flood. One that is as fast as its process can would be measured by how long the other packets
/// wait in front of the wire, which they share here and would not share elsewhere.
const RATE: u32 = 50_000;

/// Connections that are opened at a time.
const AT_ONCE: usize = 200;

/// What may be resident after it beside what was before, in bytes.
const LEFT: u64 = 16 << 20;

pub(crate) async fn run(plan: Plan) -> io::Result<bool> {
    let (server, Here { stack, raw, answers }) = Server::start(&[plan.high.to_string(), "0".into()], 0)?;
    // What a first connection leaves behind is there before.
    while echo(&stack).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = idle(&server, u64::MAX).await;
    println!("before: {before:?}");
    let raw = Arc::new(raw);
    let over = Arc::new(AtomicBool::new(false));
    let flooded = Arc::new(AtomicU64::new(0));
    let floods = {
        let (raw, over, flooded) = (Arc::clone(&raw), Arc::clone(&over), Arc::clone(&flooded));
        std::thread::spawn(move || {
            out_of_order(&raw, &answers, plan.out_of_order);
            let mut pace = Pace::default();
            for number in 0..plan.syns {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let from = Ipv4Addr::from_bits(0x0b80_0000 | number >> 8);
                pace.wait();
                send(&raw, &syn((from, (number & 0xff) as u16 + 1024), ECHO));
                flooded.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let client = {
        let (stack, over) = (stack.clone(), Arc::clone(&over));
        tokio::spawn(async move { honest(&stack, &over).await })
    };
    let readers = hold(&stack, ALWAYS_WRITES, plan.connections).await;
    let writers = hold(&stack, NEVER_READS, plan.connections).await;
    println!("{} peers do not read, and {} applications", readers.len(), writers.len());
    while !floods.is_finished() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    over.store(true, Ordering::Relaxed);
    let (mut latencies, failed) = client.await.expect("it does not panic");
    let all = server.take();
    let peak = all.iter().map(|report| report.resident).max().unwrap_or(0);
    let counted = all.iter().map(|report| report.used + report.cached).max().unwrap_or(0);
    let now = server.last();
    let p99 = latencies.percentile(99.0);
    println!("during: resident {} MiB at most, counted {} MiB at most", peak >> 20, counted >> 20);
    println!(
        "        {} connections at the end: {now:?}",
        all.iter().map(|r| r.connections).max().unwrap_or(0)
    );
    println!(
        "        {} SYNs; honest client: {} echoes, {failed} failed, p99 {p99:?}",
        flooded.load(Ordering::Relaxed),
        latencies.len()
    );
    println!(
        "        processor time of the server so far, of the user and of the system: {}",
        server.times()
    );
    for (name, value) in server.counters() {
        println!("        {name} {value}");
    }
    // What they wrote would wait for those who never read it.
    writers.iter().try_for_each(TcpStream::set_zero_linger)?;
    drop((readers, writers));
    // The resets leave, whatever waits in front of them.
    tokio::time::sleep(Duration::from_secs(5)).await;
    stack.shutdown(Duration::from_secs(10)).await;
    let after = idle(&server, before.used).await;
    println!("after:  {after:?}");
    let enough = readers_and_writers(&all) >= plan.connections as u64;
    let good = [
        ("connections", enough),
        ("resident during", peak <= plan.most),
        ("honest client", failed == 0 && p99 < Duration::from_secs(1)),
        ("count after", after.used == before.used),
        ("resident after", after.resident <= before.resident + LEFT),
    ];
    good.iter().filter(|(_, good)| !good).for_each(|(what, _)| println!("FAILED: {what}"));
    Ok(good.iter().all(|(_, good)| *good))
}

fn readers_and_writers(all: &[Report]) -> u64 {
    all.iter().map(|report| report.connections).max().unwrap_or(0)
}

/// What the server holds once it has nothing to do, and counts no more than `used` bytes. What waits in the SYN queue
/// goes after a minute.
async fn idle(server: &Server, used: u64) -> Report {
    let until = Instant::now() + Duration::from_secs(180);
    loop {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let report = server.last();
        let idle = report.connections == 0 && report.time_waits == 0 && report.used <= used;
        if idle || Instant::now() > until {
            tokio::time::sleep(Duration::from_secs(2)).await;
            return server.last();
        }
    }
}

/// Opens connections that read nothing, and write as much as they can to those who do not read.
async fn hold(stack: &Stack, port: u16, count: usize) -> Vec<TcpStream> {
    static BYTES: [u8; 65_536] = [2; 65_536];
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let opening: Vec<_> = (0..AT_ONCE.min(count - all.len()))
            .map(|_| {
                let stack = stack.clone();
                tokio::spawn(async move {
                    let stream = stack.connect((SERVER, port)).await?;
                    if port == NEVER_READS {
                        while stream.try_write(&BYTES).is_ok() {}
                    }
                    io::Result::Ok(stream)
                })
            })
            .collect();
        for one in opening {
            if let Ok(Ok(stream)) = one.await {
                all.push(stream);
            } else {
                println!("a connection failed");
                return all;
            }
        }
    }
    all
}

async fn echo(stack: &Stack) -> io::Result<()> {
    let mut stream = stack.connect((SERVER, ECHO)).await?;
    stream.write_all(b"x").await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await.map(|_| ())
}

/// A client that connects, sends a byte, and waits for it, again and again. Its latencies, and how often it failed.
async fn honest(stack: &Stack, over: &AtomicBool) -> (Latencies, u32) {
    let (mut latencies, mut failed) = (Latencies::default(), 0);
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        match tokio::time::timeout(Duration::from_secs(10), echo(stack)).await {
            Ok(Ok(())) => latencies.add(began.elapsed()),
            Ok(Err(_)) | Err(_) => failed += 1,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (latencies, failed)
}

/// Keeps a flood at its rate, in bursts of a millisecond.
struct Pace {
    sent: u32,
    next: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self { sent: 0, next: Instant::now() }
    }
}

impl Pace {
    /// Waits until one more packet may be sent.
    fn wait(&mut self) {
        self.sent += 1;
        if self.sent.is_multiple_of(RATE / 1_000) {
            // What was late is not made up for.
            self.next = (self.next + Duration::from_millis(1)).max(Instant::now() - Duration::from_millis(1));
            std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
        }
    }
}

/// Opens connections by hand and sends each a byte at every other place of its window.
fn out_of_order(raw: &UnixDatagram, answers: &std::sync::mpsc::Receiver<Vec<u8>>, count: u32) {
    for number in 0..count {
        send(raw, &syn((Ipv4Addr::from_bits(0x0b00_0001 + number), 5000), ECHO));
    }
    let mut open = Vec::new();
    while open.len() < count as usize {
        let Ok(packet) = answers.recv_timeout(Duration::from_secs(2)) else { break };
        if let Some((to, port, seq)) = syn_ack(&packet) {
            let next = SeqNum::new(1001);
            let ack = Segment { window: 512, ..Segment::new(Flags::ACK, next, seq + 1) };
            send(raw, &segment((to, port), ECHO, &ack, &[]));
            open.push((to, port, seq + 1));
        }
    }
    let mut pace = Pace::default();
    for place in (2..20_000).step_by(2) {
        for (to, port, ack) in &open {
            pace.wait();
            let data = Segment { window: 512, ..Segment::new(Flags::ACK, SeqNum::new(1001) + place, *ack) };
            send(raw, &segment((*to, *port), ECHO, &data, b"x"));
        }
        while answers.try_recv().is_ok() {}
    }
    for (to, port, ack) in &open {
        let rst = Segment::new(Flags::RST.with(Flags::ACK), SeqNum::new(1001), *ack);
        send(raw, &segment((*to, *port), ECHO, &rst, &[]));
    }
}
