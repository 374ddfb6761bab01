//! netstack against the kernel's TCP over a TUN device, as server and as client: every byte arrives
//! as it was sent.

use crate::common::{self, Family, OFFLOAD, PLAIN, Path, at, runtime, size, time_limit, transfer_len};
use netstack::{Config, Stack};
use netstack_examples::pattern::Pattern;
use netstack_examples::transfer::{self, Halves, Payload};
use netstack_examples::{kernel, services};
use netstack_tun::netns::isolated_within;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

#[derive(Clone, Copy, Debug)]
enum Direction {
    /// From the kernel to the stack.
    In,
    /// From the stack to the kernel.
    Out,
    Both,
}

impl Direction {
    const ALL: [Self; 3] = [Self::In, Self::Out, Self::Both];

    /// What the kernel sends, and what the stack sends.
    fn payloads(self, len: u64) -> (Payload, Payload) {
        let (inward, outward) = match self {
            Self::In => (len, 0),
            Self::Out => (0, len),
            Self::Both => (len, len),
        };
        let [kernel, stack] = [100, 200].map(Pattern::new);
        (Payload { pattern: kernel, len: inward }, Payload { pattern: stack, len: outward })
    }
}

async fn stack_side<R, W>(halves: Halves<R, W>, direction: Direction, len: u64) -> io::Result<Duration>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (inward, outward) = direction.payloads(len);
    transfer::exchange(halves, outward, inward).await
}

async fn kernel_side<R, W>(halves: Halves<R, W>, direction: Direction, len: u64) -> io::Result<Duration>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (inward, outward) = direction.payloads(len);
    transfer::exchange(halves, inward, outward).await
}

/// Runs the kernel's side on a thread of its own, beside the stack's side on this one.
async fn beside<T: Send + 'static>(
    kernel: impl AsyncFnOnce() -> io::Result<T> + Send + 'static,
    stack: impl Future<Output = io::Result<T>>,
) -> io::Result<(T, T)> {
    let thread = thread::spawn(move || runtime().block_on(kernel()));
    let ours = stack.await;
    let theirs = tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    // If both failed, the kernel's error would hide that of the stack.
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => Ok((ours, theirs)),
        (Err(ours), Err(theirs)) => {
            Err(io::Error::new(ours.kind(), format!("stack: {ours}; kernel: {theirs}")))
        }
        (Err(error), Ok(_)) => Err(io::Error::new(error.kind(), format!("stack: {error}"))),
        (Ok(_), Err(error)) => Err(io::Error::new(error.kind(), format!("kernel: {error}"))),
    }
}

async fn as_server(stack: &Stack, family: Family, direction: Direction, len: u64) -> io::Result<Duration> {
    let listener = stack.listen(at(family.stack(), 0)).await?;
    let address = listener.local_addr()?;
    let kernel = async move || {
        let (stream, _) = kernel::connect(address).await?;
        kernel_side(stream.into_split().into(), direction, len).await
    };
    let ours = async {
        let (stream, _) = transfer::progress("accepting", listener.accept()).await?;
        stack_side(stream.into_split().into(), direction, len).await
    };
    beside(kernel, ours).await.map(|(ours, theirs)| ours.max(theirs))
}

async fn as_client(stack: &Stack, family: Family, direction: Direction, len: u64) -> io::Result<Duration> {
    let (ready, is_ready) = mpsc::channel::<SocketAddr>();
    let kernel = async move || {
        let listener = kernel::listen(at(family.kernel(), 0))?;
        ready.send(listener.local_addr()?).map_err(io::Error::other)?;
        let (stream, _) = transfer::progress("accepting", listener.accept()).await?;
        kernel_side(stream.into_split().into(), direction, len).await
    };
    let ours = async {
        let address = tokio::task::spawn_blocking(move || is_ready.recv()).await?;
        let address = address.map_err(io::Error::other)?;
        let stream = transfer::progress("connecting", stack.connect(address)).await?;
        stack_side(stream.into_split().into(), direction, len).await
    };
    beside(kernel, ours).await.map(|(ours, theirs)| ours.max(theirs))
}

/// Both families and all directions in the role of `role`.
fn transfers(
    test: &str,
    path: Path,
    len: u64,
    role: impl AsyncFn(&Stack, Family, Direction, u64) -> io::Result<Duration>,
) {
    isolated_within(limit(path, len), test, || {
        runtime().block_on(async {
            let stack = common::stack(path, Config::default()).unwrap();
            for family in Family::ALL {
                for direction in Direction::ALL {
                    let took = match role(&stack, family, direction, len).await {
                        Ok(took) => took,
                        Err(error) => panic!("{family:?} {direction:?}: {error}\n{:#?}", stack.counters()),
                    };
                    let rate = transfer::gbit_per_s(len, took) * 1000.0;
                    println!("{test} {family:?} {direction:?}: {} MiB, {rate:.1} Mbit/s", len >> 20);
                }
            }
            stack.shutdown(Duration::from_secs(5)).await;
        });
    });
}

/// What all transfers of one test may take.
fn limit(path: Path, len: u64) -> Duration {
    // On the impaired network at least 2 Mbit/s, which a sender that interprets every loss as
    // congestion reaches.
    if path.impair.is_empty() { time_limit(len * 8) } else { time_limit(len * 8 * 10) }
}

#[test]
fn server_with_offloads() {
    transfers("kernel::server_with_offloads", OFFLOAD, transfer_len(), as_server);
}

#[test]
fn server_without_offloads() {
    transfers("kernel::server_without_offloads", PLAIN, transfer_len(), as_server);
}

#[test]
fn client_with_offloads() {
    transfers("kernel::client_with_offloads", OFFLOAD, transfer_len(), as_client);
}

#[test]
fn client_without_offloads() {
    transfers("kernel::client_without_offloads", PLAIN, transfer_len(), as_client);
}

const BAD: Path = Path { offload: true, impair: "delay=5ms,loss=1%,reorder=5%" };

/// `NETSTACK_TEST_IMPAIRED_MIB`, or so much that losses and reordering are certain.
fn impaired_len() -> u64 {
    size("NETSTACK_TEST_IMPAIRED_MIB", 1) << 20
}

#[test]
fn server_on_a_bad_network() {
    transfers("kernel::server_on_a_bad_network", BAD, impaired_len(), as_server);
}

#[test]
fn client_on_a_bad_network() {
    transfers("kernel::client_on_a_bad_network", BAD, impaired_len(), as_client);
}

/// Echoes of 32 MiB, without offloads: packet by packet, with queues that overflow.
#[test]
fn echoes_one_after_another() {
    let repeats = size("NETSTACK_TEST_REPEATS", 2);
    let len = 32 << 20;
    isolated_within(time_limit(repeats * len * 2), "kernel::echoes_one_after_another", || {
        runtime().block_on(async {
            let stack = common::stack(PLAIN, Config::default()).unwrap();
            for repeat in 0..repeats {
                let family = Family::ALL[(repeat % 2) as usize];
                let listener = stack.listen(at(family.stack(), 0)).await.unwrap();
                let address = listener.local_addr().unwrap();
                let start = Instant::now();
                let kernel = async move || {
                    let (stream, _) = kernel::connect(address).await?;
                    transfer::echo(
                        stream.into_split().into(),
                        Payload { pattern: Pattern::new(repeat), len },
                    )
                    .await?;
                    Ok(len)
                };
                let ours = async {
                    let (stream, _) = transfer::progress("accepting", listener.accept()).await?;
                    Ok(services::echo(stream).await?.sent)
                };
                match beside(kernel, ours).await {
                    Ok((ours, theirs)) => assert_eq!(ours, theirs),
                    Err(error) => panic!("echo {repeat}, {family:?}: {error}\n{:#?}", stack.counters()),
                }
                println!("echo {repeat} {family:?}: {:.2} s", start.elapsed().as_secs_f64());
            }
            stack.shutdown(Duration::from_secs(5)).await;
        });
    });
}
