//! An echo over netstack, and the same over the kernel's loopback: a demonstration without any
//! setup.
//!
//! ```text
//! cargo run --release -p netstack-examples --example echo
//! ```
//!
//! In a private network namespace (without root, where the system permits that) a TUN device
//! connects netstack to the kernel. An echo server runs on netstack. A client that uses the
//! kernel's TCP sends it 256 MiB, compares the echo byte for byte, and then measures 10,000 round
//! trips of one byte, over IPv4 and over IPv6. Then the same client does the same with the same
//! server on the kernel's loopback.
//!
//! Where namespaces or TUN devices are not permitted, the program says so, and the client is a
//! second netstack in the same process, over an in-memory link.

use clap::Parser;
use netstack::device::{Device, Pair, PairConfig};
use netstack::{Interface, Stack};
use netstack_examples::kernel::{self, Congestion};
use netstack_examples::pattern::Pattern;
use netstack_examples::transfer::{self, Halves, Payload, RoundTrips};
use netstack_examples::{cli, services};
use netstack_tun::{Tun, TunConfig, interface, netns};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// The kernel's side of the device, or the client's of the cable.
const CLIENT: [&str; 2] = ["10.9.0.1/24", "fd09::1/64"];
/// netstack's side.
const SERVER: [&str; 2] = ["10.9.0.2/24", "fd09::2/64"];
/// The port of the echo service (RFC 862).
const ECHO: u16 = 7;

/// How long everything may take together.
const LIMIT: Duration = Duration::from_secs(55);
/// How long to wait for the connections to end.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Sends data to an echo server on netstack, compares the echo, and measures.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Bytes that each connection carries each way, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    size: u64,
    /// Round trips of one byte that are measured.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    round_trips: usize,
    /// Stay in memory, even where a TUN device is available.
    #[arg(long)]
    memory: bool,
}

fn main() -> ExitCode {
    let args: Args = cli::parse();
    // Before anything starts a thread.
    let network = Network::open(args.memory);
    match demonstrate(&args, network) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

/// What connects client and server.
enum Network {
    /// To the kernel.
    Tun { tun: Tun, families: &'static [Family] },
    /// To another netstack.
    Memory,
}

impl Network {
    /// A TUN device in a private namespace; or why there is none, said on standard output.
    fn open(memory: bool) -> Self {
        if memory {
            println!("in memory, as asked: client and server are both netstack, on a cable of MTU 1500");
            return Self::Memory;
        }
        match Self::open_tun() {
            Ok(network) => network,
            Err(error) => {
                println!("no TUN device here: {error}");
                println!("so in memory instead: client and server are both netstack, on a cable of MTU 1500");
                Self::Memory
            }
        }
    }

    fn open_tun() -> io::Result<Self> {
        netns::available()?;
        netns::enter_private()?;
        let tun = Tun::open(&TunConfig::new("tun0").address(CLIENT[0])?)?;
        let families = match interface::add_address(tun.name(), CLIENT[1].parse()?) {
            Ok(()) => &[Family::V4, Family::V6][..],
            Err(error) => {
                println!("no IPv6 here: {error}");
                &[Family::V4]
            }
        };
        println!("a private network namespace; TUN device {} with offloads, MTU {}", tun.name(), tun.mtu());
        Ok(Self::Tun { tun, families })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn loopback(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::LOCALHOST.into(),
            Self::V6 => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// Where the server on netstack listens.
    fn server(self) -> SocketAddr {
        let cidr = SERVER[self as usize];
        let address = cidr.split('/').next().and_then(|address| address.parse().ok());
        SocketAddr::new(address.expect("the address of the server is valid"), ECHO)
    }
}

fn demonstrate(args: &Args, network: Network) -> io::Result<()> {
    let runtime = runtime()?;
    runtime.block_on(async {
        timeout(LIMIT, measure_all(args, network)).await.unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("not done in {} s", LIMIT.as_secs())))
        })
    })
}

/// One thread each for the client and for the server.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn measure_all(args: &Args, network: Network) -> io::Result<()> {
    let mut table = Table { args, header: false };
    match network {
        Network::Tun { tun, families } => {
            let server = Server::on_netstack(Arc::new(tun), families).await?;
            for &family in families {
                let (bulk, congestion) = kernel::connect(family.server()).await?;
                let (small, _) = kernel::connect(family.server()).await?;
                table.announce(&congestion);
                let result = measure(args, bulk.into_split().into(), small.into_split().into()).await?;
                table.row("netstack", family, "kernel, over TUN", &result);
            }
            server.stop()?;
        }
        Network::Memory => {
            let (near, far) = Pair::new(PairConfig::default());
            let families = &[Family::V4, Family::V6];
            let server = Server::on_netstack(Arc::new(far), families).await?;
            let stack = Stack::builder().interface(with(Arc::new(near), CLIENT)).build()?;
            for &family in families {
                let bulk = stack.connect(family.server()).await?;
                let small = stack.connect(family.server()).await?;
                let result = measure(args, bulk.into_split().into(), small.into_split().into()).await?;
                table.row("netstack", family, "netstack, in memory", &result);
            }
            stack.shutdown(SHUTDOWN).await;
            server.stop()?;
        }
    }
    for family in [Family::V4, Family::V6] {
        let (server, address) = match Server::on_kernel(family.loopback()).await {
            Ok(started) => started,
            Err(error) => {
                println!("the kernel's loopback has no {}: {error}", family.name());
                continue;
            }
        };
        let (bulk, congestion) = kernel::connect(address).await?;
        let (small, _) = kernel::connect(address).await?;
        table.announce(&congestion);
        let result = measure(args, bulk.into_split().into(), small.into_split().into()).await?;
        table.row("kernel", family, "kernel, over loopback", &result);
        server.stop()?;
    }
    println!("every byte came back as it was sent");
    Ok(())
}

/// The measurements of one pair of connections.
struct Measured {
    took: Duration,
    round_trips: RoundTrips,
}

async fn measure<R, W>(args: &Args, bulk: Halves<R, W>, small: Halves<R, W>) -> io::Result<Measured>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let payload = Payload { pattern: Pattern::new(1), len: args.size << 20 };
    let took = transfer::echo(bulk, payload).await?;
    let round_trips = transfer::round_trips(small.from, small.to, args.round_trips).await?;
    Ok(Measured { took, round_trips })
}

/// The printed table. Each row is printed as soon as it is known.
struct Table<'a> {
    args: &'a Args,
    header: bool,
}

impl Table<'_> {
    /// Names the kernel's congestion control, once, and begins the table.
    fn announce(&mut self, congestion: &Congestion) {
        if self.header {
            return;
        }
        let Congestion { name, refused } = congestion;
        match refused {
            None => println!("congestion control of the kernel's sockets: {name}"),
            Some(error) => {
                println!("congestion control of the kernel's sockets: {name} (cubic was refused: {error})");
            }
        }
        self.header();
    }

    fn header(&mut self) {
        if !self.header {
            self.header = true;
            let Args { size, round_trips, .. } = self.args;
            println!("{size} MiB each way at once, then {round_trips} round trips of one byte:");
            println!(
                "{:<9} {:<6} {:<22} {:>16} {:>9} {:>9}",
                "server", "", "client", "Gbit/s each way", "p50 µs", "p99 µs"
            );
        }
    }

    fn row(&mut self, server: &str, family: Family, client: &str, result: &Measured) {
        self.header();
        let rate = transfer::gbit_per_s(self.args.size << 20, result.took);
        let micros = |percent| match result.round_trips.percentile(percent) {
            Some(time) => format!("{:.1}", time.as_secs_f64() * 1e6),
            None => "-".to_owned(),
        };
        let (p50, p99) = (micros(50.0), micros(99.0));
        println!("{server:<9} {:<6} {client:<22} {rate:>16.2} {p50:>9} {p99:>9}", family.name());
    }
}

/// An echo server on a thread and a runtime of its own.
struct Server {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Server {
    /// On a netstack behind `device`, listening on its addresses of `families`.
    async fn on_netstack(device: Arc<dyn Device>, families: &'static [Family]) -> io::Result<Self> {
        let (server, ()) = Self::start(async move |ready, stop| {
            let stack = Stack::builder().interface(with(device, SERVER)).build()?;
            for family in families {
                let listener = stack.listen(family.server()).await?;
                tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        stream.set_nodelay(true)?;
                        tokio::spawn(services::echo(stream));
                    }
                    io::Result::Ok(())
                });
            }
            let _ = ready.send(Ok(()));
            let _ = stop.await;
            stack.shutdown(SHUTDOWN).await;
            Ok(())
        })
        .await?;
        Ok(server)
    }

    /// On a free port of the kernel.
    async fn on_kernel(address: IpAddr) -> io::Result<(Self, SocketAddr)> {
        Self::start(async move |ready, stop| {
            let listener = kernel::listen((address, 0).into())?;
            let _ = ready.send(listener.local_addr());
            let accept = async {
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true)?;
                    tokio::spawn(services::echo(stream));
                }
                io::Result::Ok(())
            };
            tokio::select! {
                result = accept => result,
                _ = stop => Ok(()),
            }
        })
        .await
    }

    /// Runs `serve` on a thread of its own and waits until it says that it is ready.
    async fn start<T, F>(serve: F) -> io::Result<(Self, T)>
    where
        T: Send + 'static,
        F: AsyncFnOnce(oneshot::Sender<io::Result<T>>, oneshot::Receiver<()>) -> io::Result<()>,
        F: Send + 'static,
    {
        let (ready, is_ready) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("server".to_owned())
            .spawn(move || runtime()?.block_on(serve(ready, stopped)))?;
        match is_ready.await {
            Ok(value) => Ok((Self { stop, thread }, value?)),
            // It failed before it was ready, and its result says why.
            Err(_) => {
                join(thread)?;
                Err(io::Error::other("the server ended before it was ready"))
            }
        }
    }

    /// Ends the server gracefully.
    fn stop(self) -> io::Result<()> {
        // It may have ended by itself; its result says whether it failed.
        let _ = self.stop.send(());
        join(self.thread)
    }
}

fn join(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn with(device: Arc<dyn Device>, addresses: [&str; 2]) -> Interface {
    Interface::new(device).address(addresses[0]).address(addresses[1])
}
