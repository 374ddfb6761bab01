//! An impaired network between two TUN devices: a network emulator in user space.
//!
//! Packets that the kernel routes to one device arrive from the other, with the delay, loss,
//! reordering and so on of a [`Link`]. The devices have no offloads, so that each packet is
//! impaired separately. Any two hosts can be connected by such a network, even if the kernel has no
//! netem.
//!
//! Two network namespaces as hosts, and 40 ms with a little loss between them (as root):
//! ```text
//! ip netns add a; ip netns add b
//! cargo run --release -p netstack-examples --example wire -- \
//!     --left wire0 --left-netns /run/netns/a --right wire1 --right-netns /run/netns/b \
//!     --impair "delay=20ms,jitter=2ms,loss=1%" &
//! ip -n a address add 10.8.0.1/24 dev wire0; ip -n a link set wire0 up
//! ip -n b address add 10.8.0.2/24 dev wire1; ip -n b link set wire1 up
//! ip netns exec a ping 10.8.0.2
//! ```
//!
//! Times have a resolution of one millisecond.

use clap::Parser;
use netstack::device::{Link, LinkConfig, LinkStats};
use netstack_examples::relay::Timing;
use netstack_examples::{cli, relay};
use netstack_tun::{Tun, TunConfig, interface};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Connects two TUN devices through an impaired network, until Ctrl-C.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// TUN device of the one side; created if there is none.
    #[arg(long, value_name = "NAME")]
    left: String,
    /// TUN device of the other side; created if there is none.
    #[arg(long, value_name = "NAME")]
    right: String,
    /// Network namespace to move the left device to, as a file: /run/netns/NAME or
    /// /proc/PID/ns/net. There, it is down and has no addresses.
    #[arg(long, value_name = "FILE")]
    left_netns: Option<PathBuf>,
    /// Network namespace to move the right device to.
    #[arg(long, value_name = "FILE")]
    right_netns: Option<PathBuf>,
    /// Impairments of each direction: delay=20ms,jitter=2ms,loss=1%,reorder=5%,
    /// duplicate=1%,corrupt=0.1%,rate=100mbit,queue=256kb.
    #[arg(long, value_name = "LINK", default_value = "")]
    impair: LinkConfig,
    /// The same for packets from right to left, if it differs.
    #[arg(long, value_name = "LINK")]
    impair_back: Option<LinkConfig>,
    /// MTU of both devices.
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(68..=65_535))]
    mtu: u32,
}

fn main() -> ExitCode {
    let args: Args = cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(error),
    };
    match runtime.block_on(run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

async fn run(args: &Args) -> io::Result<()> {
    let left = open(&args.left, args.left_netns.as_deref(), args.mtu)?;
    let right = open(&args.right, args.right_netns.as_deref(), args.mtu)?;
    let back = args.impair_back.clone().unwrap_or_else(|| args.impair.clone());
    let link = Link::new(Arc::new(left), args.impair.clone(), back);
    // Before anything is printed: a process that waits for the line may end this one at once.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    println!("joined {} and {}; Ctrl-C ends it", args.left, args.right);
    let result = tokio::select! {
        result = relay::forward(&link, &right, Timing::Tick) => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    report(&args.left, &args.right, link.ingress_stats());
    report(&args.right, &args.left, link.egress_stats());
    result
}

/// Opens a device without offloads, and moves its interface to `namespace`.
fn open(name: &str, namespace: Option<&Path>, mtu: u32) -> io::Result<Tun> {
    // Opened first, so that a wrong name leaves nothing behind.
    let namespace = namespace.map(open_namespace).transpose()?;
    let tun = Tun::open(&TunConfig::new(name).offload(false).mtu(mtu))?;
    if let Some(namespace) = namespace {
        interface::move_to(tun.name(), namespace)?;
    }
    Ok(tun)
}

fn open_namespace(path: &Path) -> io::Result<File> {
    File::open(path).map_err(|error| {
        io::Error::new(error.kind(), format!("network namespace {}: {error}", path.display()))
    })
}

fn report(from: &str, to: &str, stats: LinkStats) {
    println!("{from} to {to}: {stats:?}");
}
