//! Measures netstack over TUN against the bare limit and the kernel itself, interleaved.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod forward;
mod measure;
mod recovery;
mod report;

use clap::{Args, Parser, Subcommand, ValueEnum};
use measure::Bench;
use netstack_benches::client::{self, Direction};
use netstack_benches::contender::Contender;
use netstack_benches::datagrams::Mode;
use netstack_benches::serve::{self, RuntimeKind};
use report::Report;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// Counts live bytes, for `memory`: two atomic additions for each allocation. The measured paths do
/// not allocate for each packet.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes of the headers of a UDP datagram over IPv4.
const UDP_HEADERS: u32 = 28;

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Measures netstack over TUN against the bare limit and the kernel itself, in a private network.
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
    /// Gbit/s of streams, written 64 KiB at a time.
    Throughput {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        streams: Streams,
    },
    /// The throughput of the bare limit alone.
    Limit {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        streams: Streams,
    },
    /// Gbit/s of UDP datagrams that fill the MTU, and how many of them are lost: one in each call, and as many
    /// as one packet holds (`UDP_SEGMENT`, `UDP_GRO`).
    Udp {
        #[command(flatten)]
        common: Common,
        /// Seconds of each measurement, after 0.3 s of warm-up.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// `in`: the kernel sends, the contender receives [default: both, one after the other].
        #[arg(long)]
        direction: Option<DirectionArg>,
        /// Segmentation offload: `off` for one datagram in each call [default: both].
        #[arg(long)]
        segmentation: Option<Segmentation>,
    },
    /// Round trips of one byte.
    Rr {
        #[command(flatten)]
        common: Common,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// Let processors idle between packets, which costs a wake-up each time.
        #[arg(long)]
        idle: bool,
    },
    /// Connections per second: connect, one byte there and back, close.
    Crr {
        #[command(flatten)]
        common: Common,
        /// Connections of each measurement. The client has 64,512 ports for all connections of a
        /// minute.
        #[arg(long, default_value_t = 4000)]
        connections: usize,
        /// How many at a time; repeatable [default: 1 and 16].
        #[arg(long)]
        at_a_time: Vec<usize>,
    },
    /// Heap bytes of an idle connection.
    Memory {
        #[command(flatten)]
        common: Common,
        /// Connections to open.
        #[arg(long, default_value_t = 1000)]
        connections: usize,
    },
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
    /// Serves as a contender in this network namespace: 5001 receives bytes, 5002 sends them, 5003
    /// returns them.
    Serve(Serve),
}

#[derive(Clone, Debug, Args)]
struct Common {
    /// Rounds; medians are taken over them.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    /// MTU of all links, in bytes.
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Runtime of the contenders on tokio.
    #[arg(long, default_value = "current")]
    runtime: Runtime,
    /// Queues of netstack's TUN device.
    #[arg(long, default_value_t = 1)]
    queues: usize,
    /// Contenders, in order: limit, netstack, veth, loopback [default: the first three, if they
    /// apply].
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<Contender>,
}

#[derive(Clone, Debug, Args)]
struct Streams {
    /// Seconds of each measurement, after half a second of warm-up.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// `in`: the kernel sends, the contender receives [default: both, one after the other].
    #[arg(long)]
    direction: Option<DirectionArg>,
    /// Connections at once.
    #[arg(long, default_value_t = 1)]
    flows: usize,
}

#[derive(Debug, Args)]
struct Serve {
    contender: Contender,
    /// Create or attach to this TUN device, whose addresses are set up already.
    #[arg(long)]
    tun: Option<String>,
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    #[arg(long, default_value = "current")]
    runtime: Runtime,
    #[arg(long, default_value_t = 1)]
    queues: usize,
    /// End when standard input does.
    #[arg(long, hide = true)]
    until_eof: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Runtime {
    /// One thread.
    Current,
    /// Two workers.
    Multi,
}

impl Runtime {
    const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Multi => "multi",
        }
    }
}

impl From<Runtime> for RuntimeKind {
    fn from(runtime: Runtime) -> Self {
        match runtime {
            Runtime::Current => Self::Current,
            Runtime::Multi => Self::Multi,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Segmentation {
    On,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DirectionArg {
    In,
    Out,
}

impl Common {
    /// The arguments of a child that serves as `contender`.
    fn arguments(&self, contender: Contender) -> Vec<String> {
        let runtime = self.runtime.name();
        // The limit answers on one queue.
        let queues = if contender == Contender::Netstack { self.queues } else { 1 };
        let (mtu, queues) = (self.mtu.to_string(), queues.to_string());
        let arguments = [
            "serve",
            contender.name(),
            "--until-eof",
            "--mtu",
            &mtu,
            "--runtime",
            runtime,
            "--queues",
            &queues,
        ];
        arguments.map(str::to_owned).to_vec()
    }

    fn contenders(&self, default: &[Contender]) -> Vec<Contender> {
        if self.contenders.is_empty() { default.to_vec() } else { self.contenders.clone() }
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(serve) => run_server(serve),
        Command::Recovery(recovery) => recovery.run(),
        Command::Lane(lane) => lane.run(),
        Command::ForwardServe(serve) => serve.run(),
        command => run_benches(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("netstack-bench: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run_server(serve: Serve) -> io::Result<()> {
    let Serve { contender, tun, mtu, runtime, queues, until_eof } = serve;
    let runtime = runtime.into();
    serve::run(contender, &serve::Options { mtu, queues, tun, runtime, until_eof }, live_bytes)
}

fn run_benches(command: Command) -> io::Result<()> {
    // Before anything starts a thread.
    netstack_tun::netns::enter_private()?;
    // More connections before all ports are in TIME-WAIT. Not available everywhere.
    let _ = netstack_tun::netns::sysctl("net.ipv4.ip_local_port_range", "1024 65535");
    let control = client::congestion_control()?;
    if control.as_bytes() != client::CONGESTION_CONTROL {
        eprintln!("remark: this system does not let the kernel's sockets have CUBIC, they have {control}");
    }
    let most = [Contender::Limit, Contender::Netstack, Contender::Veth];
    match command {
        Command::Throughput { common, streams } => throughput(&common, &streams, &most),
        Command::Limit { common, streams } => throughput(&common, &streams, &[Contender::Limit]),
        Command::Udp { common, seconds, direction, segmentation } => {
            let mut bench = Bench::start(&common, &most)?;
            let modes = match segmentation {
                None => vec![Mode::Single, Mode::Segmented],
                Some(Segmentation::Off) => vec![Mode::Single],
                Some(Segmentation::On) => vec![Mode::Segmented],
            };
            let len = u16::try_from(common.mtu.saturating_sub(UDP_HEADERS)).unwrap_or(u16::MAX).max(1);
            let time = Duration::from_secs_f64(seconds);
            directions(direction).into_iter().try_for_each(|direction| {
                modes.iter().try_for_each(|mode| bench.datagrams(direction, *mode, len, time))
            })
        }
        Command::Rr { common, seconds, idle } => {
            let mut bench = Bench::start(&common, &most)?;
            let _spinners = if idle { None } else { Some(client::Spinners::start()?) };
            bench.round_trips(Duration::from_secs_f64(seconds))
        }
        Command::Crr { common, connections, at_a_time } => {
            let mut bench = Bench::start(&common, &most)?;
            let at_a_time = if at_a_time.is_empty() { vec![1, 16] } else { at_a_time };
            at_a_time.into_iter().try_for_each(|n| bench.connections(n, connections))
        }
        Command::Memory { common, connections } => {
            measure::allow_files(connections)?;
            Bench::start(&common, &[Contender::Netstack])?.memory(connections)
        }
        Command::Forward(forward) => forward.run(),
        Command::Serve(_) | Command::ForwardServe(_) | Command::Recovery(_) | Command::Lane(_) => {
            unreachable!("main has seen to it")
        }
    }
}

fn throughput(common: &Common, streams: &Streams, default: &[Contender]) -> io::Result<()> {
    let mut bench = Bench::start(common, default)?;
    let time = Duration::from_secs_f64(streams.seconds);
    directions(streams.direction)
        .into_iter()
        .try_for_each(|direction| bench.throughput(direction, streams.flows, time))
}

fn directions(one: Option<DirectionArg>) -> Vec<Direction> {
    match one {
        None => vec![Direction::In, Direction::Out],
        Some(DirectionArg::In) => vec![Direction::In],
        Some(DirectionArg::Out) => vec![Direction::Out],
    }
}
