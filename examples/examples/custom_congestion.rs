//! A custom congestion control, registered by name.
//!
//! ```text
//! cargo run --release -p netstack-examples --example custom_congestion
//! ```
//!
//! The algorithm `delay` interprets a growing queue as congestion, and not a loss. On a path that
//! loses packets at random it keeps the link busy, while CUBIC, which interprets each loss as a
//! full queue, does not. (It is an example of the interface and not fair to other flows: if the
//! queue is short, it has no signal to slow down.) Two stacks in virtual time, connected by such a
//! path, register it. One selects it in its configuration for all of its connections, the other for
//! one of its sockets.

use clap::Parser;
use netstack::device::{Link, LinkConfig};
use netstack::net::{TcpListener, TcpStream};
use netstack::tcp::{AckSample, CongestionControl, CongestionStart};
use netstack::time::{Duration, Instant};
use netstack::{Config, Interface, Stack};
use netstack_examples::cli;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// 20 Mbit/s with a round-trip time of 20 ms, which loses one packet in a hundred.
const PATH: &str = "delay=10ms,rate=20mbit,queue=100kb,loss=1%";
/// The queueing delay that `delay` permits.
const ALLOWED: Duration = Duration::from_millis(4);
const NAME: &str = "delay";

/// Compares a custom congestion control with CUBIC over a path with random loss, in virtual time.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// MiB to transfer each time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    mib: u32,
}

/// Additive increase, multiplicative decrease, driven by delay.
#[derive(Debug)]
struct Delay {
    cwnd: usize,
    ssthresh: usize,
    mss: usize,
    /// Whether the last round trip spent too long in a queue.
    queued: bool,
    /// The window changes once in a round trip: the next time after this.
    next_change: Instant,
    calls: Arc<Calls>,
}

/// What the application records about the controllers of its stack.
#[derive(Debug, Default)]
struct Calls {
    controllers: AtomicU64,
    acks: AtomicU64,
}

impl Delay {
    fn new(start: &CongestionStart, calls: &Arc<Calls>) -> Self {
        let &CongestionStart { cwnd, ssthresh, mss, now, .. } = start;
        calls.controllers.fetch_add(1, Ordering::Relaxed);
        Self { cwnd, ssthresh, mss, queued: false, next_change: now, calls: Arc::clone(calls) }
    }
}

impl CongestionControl for Delay {
    fn cwnd(&self) -> usize {
        self.cwnd
    }

    fn ssthresh(&self) -> usize {
        self.ssthresh
    }

    fn set_cwnd(&mut self, bytes: usize) {
        self.cwnd = bytes.max(self.mss);
    }

    fn on_ack(&mut self, ack: &AckSample) {
        self.calls.acks.fetch_add(1, Ordering::Relaxed);
        if let Some(rtt) = ack.rtt {
            self.queued = rtt > ack.min_rtt + ALLOWED;
        }
        if self.cwnd < self.ssthresh && !self.queued {
            // Slow start, until there is a queue.
            self.cwnd += if ack.cwnd_limited { ack.delivered } else { 0 };
            return;
        }
        self.ssthresh = self.ssthresh.min(self.cwnd);
        if ack.now >= self.next_change {
            self.next_change = ack.now + ack.srtt;
            if self.queued {
                self.set_cwnd(self.cwnd / 8 * 7);
            } else if ack.cwnd_limited {
                self.cwnd += self.mss;
            }
        }
    }

    /// A loss is congestion only if there is a queue. Recovery reduces the window to the threshold.
    fn on_congestion(&mut self, _now: Instant) {
        self.ssthresh = if self.queued { self.cwnd / 4 * 3 } else { self.cwnd }.max(2 * self.mss);
    }

    fn on_timeout(&mut self, _now: Instant, first: bool) {
        if first {
            self.ssthresh = (self.cwnd / 2).max(2 * self.mss);
        }
    }

    fn on_mss_change(&mut self, mss: usize) {
        self.cwnd = self.cwnd / self.mss * mss;
        self.mss = mss;
    }
}

fn main() -> ExitCode {
    let args: Args = cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    match runtime.and_then(|runtime| runtime.block_on(compare(args.mib as usize))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

async fn compare(mib: usize) -> io::Result<()> {
    let (near, far) = {
        let path = |seed| PATH.parse().map(|path| LinkConfig { seed, ..path }).expect("a path");
        Link::pair(path(1), path(2))
    };
    let calls = Arc::new(Calls::default());
    // Both stacks register the algorithm. The left one uses it unless a socket selects another.
    let left = build("left", near, NAME, &calls)?;
    let right = build("right", far, "cubic", &calls)?;
    let listener = right.listen("10.0.0.2:7").await?;

    println!("{PATH}: {mib} MiB each time");
    let mut goodput = Vec::new();
    for (from_left, choice, expected) in [
        (true, None, NAME),
        (true, Some("cubic"), "cubic"),
        (false, None, "cubic"),
        (false, Some(NAME), NAME),
    ] {
        let (client, server) = connect(&left, &listener).await?;
        let (mut sender, mut receiver) = if from_left { (client, server) } else { (server, client) };
        if let Some(name) = choice {
            sender.set_tcp_congestion(name.as_bytes())?;
        }
        let name = String::from_utf8_lossy(&sender.tcp_congestion()?).into_owned();
        ensure(name == expected, || format!("{name} was chosen, and not {expected}"))?;
        let before = calls.acks.load(Ordering::Relaxed);
        let took = transfer(&mut sender, &mut receiver, mib << 20).await?;
        let acks = calls.acks.load(Ordering::Relaxed) - before;
        let mbit = (mib << 20) as f64 * 8e-6 / took.as_secs_f64();
        let who = if from_left { "left to right" } else { "right to left" };
        let how = if choice.is_some() { "by its socket" } else { "by its stack" };
        println!(
            "{who}, {name:<5} chosen {how:<13}: {mbit:5.2} Mbit/s, {acks:5} acknowledgments seen by `{NAME}`"
        );
        ensure((acks > 0) == (name == NAME), || format!("{acks} acknowledgments under {name}"))?;
        goodput.push(mbit);
    }

    // All four connections of the left stack began with it, and one of the right stack changed to it.
    let controllers = calls.controllers.load(Ordering::Relaxed);
    ensure(controllers == 5, || format!("{controllers} controllers"))?;
    ensure(goodput[0] > 1.5 * goodput[1] && goodput[3] > 1.5 * goodput[2], || {
        "a loss slowed it down as much as CUBIC".to_owned()
    })?;
    let refused = left.tcp_socket_v4()?.set_tcp_congestion(b"unheard-of").map_err(|error| error.kind());
    ensure(refused == Err(io::ErrorKind::NotFound), || "a name that nobody registered was taken".to_owned())
}

/// A stack that registers the algorithm and uses `congestion` unless a socket selects another.
fn build(name: &str, link: Link, congestion: &str, calls: &Arc<Calls>) -> io::Result<Stack> {
    let address = if name == "left" { "10.0.0.1/24" } else { "10.0.0.2/24" };
    let congestion = congestion.parse().map_err(io::Error::other)?;
    let calls = Arc::clone(calls);
    Stack::builder()
        .name(name)
        .interface(Interface::new(Arc::new(link)).address(address))
        .congestion_control(NAME, move |start| Box::new(Delay::new(start, &calls)))
        .config(Config::default().with(|config| {
            config.congestion = congestion;
            config.seed = Some(1);
        }))
        .build()
}

/// A new connection: the end of `stack` and that of the listener.
async fn connect(stack: &Stack, listener: &TcpListener) -> io::Result<(TcpStream, TcpStream)> {
    let (client, server) = tokio::try_join!(stack.connect(listener.local_addr()?), listener.accept())?;
    Ok((client, server.0))
}

/// Sends `len` bytes and the end of the stream; how long it took until all were received.
async fn transfer(from: &mut TcpStream, to: &mut TcpStream, len: usize) -> io::Result<Duration> {
    let start = tokio::time::Instant::now();
    let send = async {
        from.write_all(&vec![7; len]).await?;
        from.shutdown().await
    };
    let mut received = Vec::with_capacity(len);
    tokio::try_join!(send, to.read_to_end(&mut received))?;
    ensure(received == vec![7; len], || format!("{} of {len} bytes arrived", received.len()))?;
    Ok(start.elapsed())
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(otherwise())) }
}
