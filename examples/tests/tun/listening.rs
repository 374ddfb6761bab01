//! Listeners under pressure: a flood of SYNs through the kernel, and a hundred thousand connections
//! that come and go.

use crate::common::{self, Family, OFFLOAD, at, runtime, size};
use crate::connections::allocated;
use netstack::device::{Pair, PairConfig};
use netstack::{Config, Interface, Stack};
use netstack_examples::flood::{Flood, Sent};
use netstack_tun::interface;
use netstack_tun::netns::isolated_within;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

/// A part of the work for debug builds, which are about ten times slower.
const fn scaled(whole: u64, part: u64) -> u64 {
    if cfg!(debug_assertions) { part } else { whole }
}

/// SYNs of the flood in a second.
const RATE: u64 = scaled(125_000, 3_000);
/// The rate that the flood has to reach in a release build.
const LEAST_RATE: u64 = 100_000;
/// Maximum number of packets that wait for the stack while its thread does not run.
const QUEUE: u32 = 10_000;
/// What the stack may need for it, in bytes.
const ALLOWANCE: usize = 4 << 20;

/// Connects, has a few bytes echoed, and closes; how long that took.
fn echo(address: SocketAddr) -> io::Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"are you there?")?;
    let mut back = [0; 14];
    stream.read_exact(&mut back)?;
    assert_eq!(&back, b"are you there?");
    Ok(start.elapsed())
}

/// A real client, which connects until the flood is over. Returns its times, sorted.
fn echoes(address: SocketAddr, over: &AtomicBool) -> io::Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(100_000);
    while !over.load(Ordering::Relaxed) {
        times.push(echo(address)?);
        // The interval of the kernel's client, in real time.
        thread::sleep(Duration::from_millis(2));
    }
    times.sort_unstable();
    Ok(times)
}

/// Sends the flood, and serves the client, until both are done; what the flood came to, the client's
/// times, and the most memory that there was.
async fn under_flood(address: SocketAddr, count: u64) -> io::Result<(Sent, Vec<Duration>, usize)> {
    let SocketAddr::V4(target) = address else { unreachable!("the flood is of IPv4") };
    let flood = Flood::open("flood0")?;
    let over = Arc::new(AtomicBool::new(false));
    let client = thread::spawn({
        let over = Arc::clone(&over);
        move || echoes(address, &over)
    });
    let flood = thread::spawn(move || send(&flood, target, count));
    let mut most = 0;
    while !flood.is_finished() {
        most = most.max(allocated());
        // Between two checks of the memory: the flood continues in real time, through the kernel.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    over.store(true, Ordering::Relaxed);
    let times = tokio::task::spawn_blocking(|| client.join().unwrap()).await??;
    Ok((flood.join().unwrap()?, times, most))
}

fn send(flood: &Flood, target: SocketAddrV4, count: u64) -> io::Result<Sent> {
    flood.send(target, count, RATE)
}

#[test]
fn a_flood_of_syns_costs_little_and_stops_nobody() {
    let count = size("NETSTACK_TEST_SYNS", scaled(1_000_000, 10_000));
    let limit = Duration::from_secs(60 + 4 * count / RATE);
    isolated_within(limit, "listening::a_flood_of_syns_costs_little_and_stops_nobody", || {
        runtime().block_on(async {
            let config = Config::default().with(|config| config.time_wait = Duration::from_millis(100));
            let stack = common::stack(OFFLOAD, config).unwrap();
            interface::set_tx_queue_len("tun0", QUEUE).unwrap();
            let socket = stack.tcp_socket_v4().unwrap();
            socket.bind(at(Family::V4.stack(), 7)).unwrap();
            let listener = Arc::new(socket.listen(128).unwrap());
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn({
                let listener = Arc::clone(&listener);
                async move {
                    loop {
                        let (mut stream, _) = listener.accept().await.unwrap();
                        tokio::spawn(async move {
                            let (mut read, mut write) = stream.split();
                            tokio::io::copy(&mut read, &mut write).await
                        });
                    }
                }
            });
            // What the first connection allocates is not caused by the flood.
            tokio::task::spawn_blocking(move || echo(address)).await.unwrap().unwrap();
            let before = allocated();
            let (sent, times, most) = under_flood(address, count).await.unwrap();
            let queues = listener.queues();
            let (grown, counted) = (most.saturating_sub(before), queues.counters);
            let p99 = times[times.len() * 99 / 100];
            println!(
                "{} SYNs in {:.2} s, {} a second; the stack took {} packets and sent {} cookies; memory grew by {} KiB",
                sent.syns,
                sent.took.as_secs_f64(),
                sent.rate(),
                stack.counters().in_receives,
                counted.syncookies_sent,
                grown >> 10,
            );
            println!(
                "{} connections meanwhile: median {:?}, p99 {p99:?}, longest {:?}; {} by a cookie",
                times.len(),
                times[times.len() / 2],
                times[times.len() - 1],
                counted.syncookies_received,
            );
            assert!(counted.syncookies_sent > count / 2, "{queues:?}");
            assert!(counted.syncookies_received > 0, "{queues:?}");
            assert!(queues.syn_queue <= 129, "{queues:?}");
            assert!(grown < ALLOWANCE, "{grown} bytes");
            assert!(p99 < Duration::from_secs(1), "{p99:?}");
            if !cfg!(debug_assertions) {
                assert!(sent.rate() >= LEAST_RATE, "{} SYNs a second", sent.rate());
            }
            server.abort();
            stack.shutdown(Duration::from_secs(1)).await;
        });
    });
}

/// Connections that are under way at the same time: more than a backlog of 128 and one more hold.
const AT_ONCE: usize = 200;

/// Opens connection `number`, and has its number answered.
async fn client(stack: &Stack, to: SocketAddr, number: u32) -> io::Result<()> {
    let mut stream = stack.connect(to).await?;
    stream.write_all(&number.to_be_bytes()).await?;
    let mut back = [0; 4];
    stream.read_exact(&mut back).await?;
    assert_eq!(u32::from_be_bytes(back), !number, "an answer that is another's");
    // Half are closed from here, half from there.
    if number.is_multiple_of(2) {
        drop(stream);
    } else {
        assert_eq!(stream.read(&mut back).await?, 0);
    }
    Ok(())
}

#[test]
fn a_hundred_thousand_connections_come_and_go() {
    let count = size("NETSTACK_TEST_CONNECTIONS", scaled(100_000, 3_000)) as u32;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let config = Config::default().with(|config| {
            config.time_wait = Duration::from_secs(1);
            config.port_range = 1024..=65_535;
            // A client that finds the queue full tries again after that.
            config.rto_initial = Duration::from_millis(200);
        });
        let (near, far) = Pair::new(PairConfig::default());
        let build = |device: Pair, address: &str| {
            let interface = Interface::new(Arc::new(device)).address(address);
            Stack::builder().interface(interface).config(config.clone()).build().unwrap()
        };
        let (clients, servers) = (build(near, "10.0.0.1/24"), build(far, "10.0.0.2/24"));
        let socket = servers.tcp_socket_v4().unwrap();
        socket.bind("10.0.0.2:7".parse().unwrap()).unwrap();
        let listener = socket.listen(128).unwrap();
        let address = listener.local_addr().unwrap();
        let before = allocated();
        let connecting = tokio::spawn({
            let clients = clients.clone();
            async move {
                let mut under_way = JoinSet::<io::Result<()>>::new();
                for number in 0..count {
                    if under_way.len() == AT_ONCE {
                        under_way.join_next().await.unwrap().unwrap().unwrap();
                    }
                    let clients = clients.clone();
                    under_way.spawn(async move { client(&clients, address, number).await });
                }
                while let Some(done) = under_way.join_next().await {
                    done.unwrap().unwrap();
                }
            }
        });
        let (mut numbers, mut most) = (HashSet::with_capacity(count as usize), 0);
        for accepted in 0..count {
            if accepted.is_multiple_of(64) {
                // A slow acceptor: the queue fills.
                tokio::time::sleep(Duration::from_millis(50)).await;
                most = most.max(listener.queues().accept_queue);
            }
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut number = [0; 4];
            stream.read_exact(&mut number).await.unwrap();
            let number = u32::from_be_bytes(number);
            assert!(numbers.insert(number), "{number} was accepted twice");
            stream.write_all(&(!number).to_be_bytes()).await.unwrap();
        }
        connecting.await.unwrap();
        drop(numbers);
        let queues = listener.queues();
        println!("{count} connections; the accept queue held up to {most}; {queues:?}");
        assert_eq!(queues.counters.passive_opens, u64::from(count));
        assert_eq!(servers.counters().passive_opens, u64::from(count));
        assert_eq!(clients.counters().active_opens, u64::from(count));
        assert_eq!((queues.accept_queue, queues.syn_queue, queues.syn_queue_young), (0, 0, 0));
        assert_eq!(most, 129, "the queue was full");
        assert!(queues.counters.listen_overflows > 0);
        tokio::time::sleep(Duration::from_secs(10)).await;
        for stack in [&clients, &servers] {
            let left = (stack.connections(), stack.time_waits());
            assert_eq!(left, (0, 0), "{:#?}", stack.counters());
        }
        let left = allocated().saturating_sub(before);
        println!("{} KiB are left", left >> 10);
        // Of the client 256 KiB are what it remembers of its ports, from the first connection on. The pair keeps
        // room of 128 KiB for packets in each direction.
        assert!(left < 768 << 10, "{left} bytes are left");
    });
}
