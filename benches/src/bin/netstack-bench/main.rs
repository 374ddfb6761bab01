//! Measures netstack over TUN against the bare limit, the kernel itself and other stacks, interleaved.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod forward;
mod million;
mod options;
mod recovery;
mod run;

use clap::{Args, Parser, Subcommand};
use netstack_benches::client;
use netstack_benches::contender::{Contender, Nic};
use netstack_benches::serve;
use options::Runtime;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// Counts live bytes, for `hold`: two atomic additions for each allocation. The measured paths do
/// not allocate for each packet.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Measures netstack over TUN against the bare limit, the kernel itself and other stacks, in private networks.
///
/// All contenders of a round run one after the other, round after round, because the speed of a
/// machine varies over time. Compare the ratios.
#[derive(Debug, Parser)]
#[command(name = "netstack-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Contenders in scenarios: throughput, latency, rates and memory.
    Run(run::Run),
    /// All contenders in all scenarios of the README, as its tables. Takes half an hour for seven rounds; see
    /// `--budget`.
    Compare(run::Compare),
    /// A proxy between kernel clients and kernel servers: on netstack, on spliced kernel sockets, and with the
    /// feature `peers` on other stacks. Gbit/s of streams and of datagrams, and bytes of an idle connection.
    Forward(forward::Forward),
    /// One contender of `forward`, for internal use.
    #[command(hide = true)]
    ForwardServe(forward::ForwardServe),
    /// Goodput over impaired paths, compared with the kernel's over the same paths: Mbit/s of
    /// netstack, of the kernel, and their ratio.
    Recovery(recovery::Recovery),
    /// One transfer of `recovery`, for internal use.
    #[command(hide = true)]
    Lane(recovery::LaneArgs),
    /// Very many connections between two stacks in memory, with two tasks for each: resident memory, and the time of
    /// an echo compared with that over 1,000.
    Million(million::Million),
    /// Serves as a contender in this network namespace: 5001 receives bytes, 5002 sends them, 5003
    /// returns them.
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Serve {
    contender: Contender,
    /// Create or attach to this TUN device, whose addresses are set up already.
    #[arg(long)]
    tun: Option<String>,
    /// The interface: an MTU, with `+offload` for checksums and segmentation by the device.
    #[arg(long, value_name = "MTU[+offload]", default_value_t = Nic::default())]
    link: Nic,
    #[arg(long, default_value = "current")]
    runtime: Runtime,
    #[arg(long, default_value_t = 1)]
    queues: usize,
    /// For how long netstack polls its device before it waits, in microseconds. The bare limit does the
    /// same, and with any the kernel's echo polls and never waits.
    #[arg(long, default_value_t = 0)]
    busy_poll: u64,
    /// End when standard input does.
    #[arg(long, hide = true)]
    until_eof: bool,
}

impl Serve {
    fn run(self) -> io::Result<()> {
        let Self { contender, tun, link, runtime, queues, busy_poll, until_eof } = self;
        let nic = Nic { queues, ..link };
        let (runtime, busy_poll) = (runtime.into(), Duration::from_micros(busy_poll));
        serve::run(contender, &serve::Options { nic, tun, runtime, busy_poll, until_eof }, live_bytes)
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(serve) => serve.run(),
        Command::Recovery(recovery) => recovery.run(),
        Command::Lane(lane) => lane.run(),
        Command::ForwardServe(serve) => serve.run(),
        Command::Million(million) => million.run(),
        Command::Run(run) => enter_private().and_then(|()| run.run()),
        Command::Compare(compare) => enter_private().and_then(|()| compare.run()),
        Command::Forward(forward) => enter_private().and_then(|()| forward.run()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("netstack-bench: {err}");
            ExitCode::FAILURE
        }
    }
}

/// Before anything starts a thread.
fn enter_private() -> io::Result<()> {
    netstack_tun::netns::enter_private()?;
    let control = client::congestion_control()?;
    if control.as_bytes() != client::CONGESTION_CONTROL {
        eprintln!("remark: this system does not let the kernel's sockets have CUBIC, they have {control}");
    }
    Ok(())
}
