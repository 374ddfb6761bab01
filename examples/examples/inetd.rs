//! The simple services of the early Internet on netstack behind a TUN device: echo (7), discard
//! (9), daytime (13) and character generator (19), over TCP.
//!
//! As root, or on a device that was created for this user before:
//! ```text
//! cargo run --release -p netstack-examples --example inetd -- \
//!     --tun tun0 --address 10.9.0.2/24 --address fd09::2/64 --peer 10.9.0.1/24 --peer fd09::1/64
//! nc 10.9.0.2 7
//! ```
//!
//! It serves until Ctrl-C, and then closes all connections gracefully. A second Ctrl-C ends it at
//! once.

use clap::Parser;
use netstack::config::Config;
use netstack::device::{Device, Link, LinkConfig, PcapTap, SnapLen};
use netstack::net::{TcpListener, TcpStream};
use netstack::{Interface, Stack};
use netstack_examples::checksum::Adler32;
use netstack_examples::cli::{self, Switch};
use netstack_examples::services::{self, Traffic};
use netstack_tun::{Cidr, Tun, TunConfig, interface};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

/// How long connections may take to close after Ctrl-C.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// The exit status that shells report for a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Serves echo (7), discard (9), daytime (13) and chargen (19) over TCP, until Ctrl-C.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// TUN device in the current network namespace; created if there is none.
    #[arg(long, value_name = "NAME")]
    tun: String,
    /// Address of the stack with the length of its prefix, IPv4 or IPv6; repeatable.
    #[arg(long, value_name = "CIDR", required = true)]
    address: Vec<Cidr>,
    /// Address for the kernel's side of the device, repeatable. Without it, that side is not
    /// changed.
    #[arg(long, value_name = "CIDR")]
    peer: Vec<Cidr>,
    /// Added to the port of each service.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=HIGHEST_BASE))]
    port_base: u16,
    /// Whether checksums and segmentation are left to the device (virtio-net header, TSO).
    #[arg(long, value_name = "on|off", default_value = "on", hide_possible_values = true)]
    offload: Switch,
    /// Queues of the device, each served by its own task.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    queues: u16,
    /// A bad network in front of the device, in both directions: delay=20ms,jitter=2ms,loss=1%,
    /// reorder=5%,duplicate=1%,corrupt=0.1%,rate=100mbit,queue=256kb.
    #[arg(long, value_name = "LINK")]
    impair: Option<LinkConfig>,
    /// Write the packets that the stack sends and receives to this file (pcapng).
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// A setting of the stack, such as time_wait=10s; repeatable.
    #[arg(long, value_name = "KEY=VALUE", value_parser = cli::setting)]
    config: Vec<(String, String)>,
    /// Report the traffic of every connection that ends, with the Adler-32 of discarded data.
    #[arg(long)]
    report: bool,
}

/// With this base, the highest port of a service is still valid.
const HIGHEST_BASE: i64 = (u16::MAX - Service::Chargen.port()) as i64;

#[derive(Clone, Copy, Debug)]
enum Service {
    Echo,
    Discard,
    Daytime,
    Chargen,
}

impl Service {
    const ALL: [Self; 4] = [Self::Echo, Self::Discard, Self::Daytime, Self::Chargen];

    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Daytime => "daytime",
            Self::Chargen => "chargen",
        }
    }

    /// As assigned by IANA.
    const fn port(self) -> u16 {
        match self {
            Self::Echo => 7,
            Self::Discard => 9,
            Self::Daytime => 13,
            Self::Chargen => 19,
        }
    }
}

fn main() -> ExitCode {
    let args: Args = cli::parse();
    let result = tokio::runtime::Runtime::new().and_then(|runtime| runtime.block_on(run(&args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

async fn run(args: &Args) -> io::Result<()> {
    let config = cli::config(&args.config)?;
    check_addresses(args)?;
    let mut capture = args.pcap.as_deref().map(Capture::open).transpose()?;
    // Before anything is printed: a process that waits for the line may interrupt this one at once.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let tun = open(args)?;
    let name = tun.name().to_owned();
    let mut device: Arc<dyn Device> = Arc::new(tun);
    if let Some(impair) = &args.impair {
        device = Arc::new(Link::new(device, impair.clone(), impair.clone()));
    }
    let mut tap = None;
    if let Some(capture) = &mut capture {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let tapped =
            Arc::new(PcapTap::new(device, capture.begin()?, SnapLen::default())?.with_origin(since_1970));
        tap = Some(Arc::clone(&tapped));
        device = tapped;
    }
    let stack = build(args, device, config)?;
    let mut serving = listen(args, &stack).await?;
    println!("{} on TUN device {name}; Ctrl-C ends it", description(args));

    let result = tokio::select! {
        Some(ended) = serving.join_next() => ended.unwrap_or_else(|panic| Err(io::Error::other(panic))),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    if result.is_ok() {
        println!("closing");
    }
    close(&stack, &mut interrupt).await;
    if let Some(error) = tap.and_then(|tap| tap.error()) {
        return Err(io::Error::new(error.kind(), format!("the capture is not complete: {error}")));
    }
    result
}

/// Checks for addresses that are already in use.
fn check_addresses(args: &Args) -> io::Result<()> {
    let in_use = |text| Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    for (at, cidr) in args.address.iter().enumerate() {
        let address = cidr.address();
        if address.is_unspecified() || address.is_multicast() {
            let text = format!("{address} cannot be the address of a host");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if args.address[..at].iter().any(|other| other.address() == address) {
            return in_use(format!("the address {address} is given to the stack twice"));
        }
        if args.peer.iter().any(|peer| peer.address() == address) {
            return in_use(format!("the address {address} cannot be on both sides of the device"));
        }
        if is_of_the_kernel(address) {
            return in_use(format!(
                "the address {address} is already in use by this machine's kernel: give the stack another one of \
                 the same network"
            ));
        }
    }
    // An existing device may have the address already.
    let attach = interface::exists(&args.tun)?;
    match args.peer.iter().find(|peer| is_of_the_kernel(peer.address())) {
        Some(peer) if !attach => in_use(format!(
            "the address {} of --peer is already in use on another interface of this machine",
            peer.address()
        )),
        _ => Ok(()),
    }
}

/// Whether the kernel has `address` in this network namespace: only then can a socket be bound to it.
fn is_of_the_kernel(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The file of a capture, which is removed if the capture never begins.
struct Capture {
    file: File,
    path: PathBuf,
    /// Whether it did not exist before, and has not begun.
    remove: bool,
}

impl Capture {
    /// Opens a file without changing its contents.
    fn open(path: &Path) -> io::Result<Self> {
        let explain = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot write the capture {}: {error}", path.display()))
        };
        let mut options = File::options();
        let path = path.to_owned();
        match options.write(true).create_new(true).open(&path) {
            Ok(file) => Ok(Self { file, path, remove: true }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = options.create_new(false).open(&path).map_err(explain)?;
                Ok(Self { file, path, remove: false })
            }
            Err(error) => Err(explain(error)),
        }
    }

    /// The file, emptied.
    fn begin(&mut self) -> io::Result<File> {
        // A pipe, for example, cannot be truncated and need not be.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.remove = false;
        self.file.try_clone()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.remove {
            // The error to report is why the capture never began.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn open(args: &Args) -> io::Result<Tun> {
    let mut config = TunConfig::new(&args.tun).offload(args.offload.is_on()).queues(args.queues.into());
    config.addresses.clone_from(&args.peer);
    Tun::open(&config)
}

fn build(args: &Args, device: Arc<dyn Device>, config: Config) -> io::Result<Stack> {
    let interface = args
        .address
        .iter()
        .fold(Interface::new(device), |interface, cidr| interface.address(&cidr.to_string()));
    Stack::builder().name("inetd").interface(interface).config(config).build()
}

/// Listens on every address for every service, and serves.
async fn listen(args: &Args, stack: &Stack) -> io::Result<JoinSet<io::Result<()>>> {
    let mut serving = JoinSet::new();
    for service in Service::ALL {
        for cidr in &args.address {
            let address = SocketAddr::new(cidr.address(), args.port_base + service.port());
            let listener = TcpListener::bind_on(stack, address).await.map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            })?;
            serving.spawn(serve(service, listener, args.report));
        }
    }
    Ok(serving)
}

/// Accepts until the stack or its device is gone, which is an error.
async fn serve(service: Service, listener: TcpListener, report: bool) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => drop(tokio::spawn(attend(service, stream, client, report))),
            // The client aborted the connection before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

async fn attend(service: Service, stream: TcpStream, client: SocketAddr, report: bool) {
    let mut sum = Adler32::default();
    let result = match service {
        Service::Echo => services::echo(stream).await,
        Service::Discard => services::discard(stream, report.then_some(&mut sum)).await,
        Service::Daytime => services::daytime(stream).await,
        Service::Chargen => services::chargen(stream).await,
    };
    if !report {
        return;
    }
    let name = service.name();
    match result {
        Ok(Traffic { received, sent }) => {
            let sum = match service {
                Service::Discard => format!(", adler32 {:08x}", sum.value()),
                _ => String::new(),
            };
            println!("{name} {client}: received {received}, sent {sent}{sum}");
        }
        Err(error) => println!("{name} {client}: {error}"),
    }
}

fn description(args: &Args) -> String {
    let list = |items: Vec<String>| items.join(", ");
    let services = list(
        Service::ALL
            .map(|service| format!("{} {}", service.name(), args.port_base + service.port()))
            .to_vec(),
    );
    let addresses = list(args.address.iter().map(|cidr| cidr.address().to_string()).collect());
    format!("serving {services} at {addresses}")
}

/// Closes all connections, unless there is another Ctrl-C.
async fn close(stack: &Stack, interrupt: &mut Signal) {
    tokio::select! {
        () = stack.shutdown(SHUTDOWN) => {}
        _ = interrupt.recv() => std::process::exit(INTERRUPTED),
    }
}
