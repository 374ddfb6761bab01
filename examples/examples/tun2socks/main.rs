//! A proxy behind a TUN device: whatever is routed to the device is connected directly, or through a SOCKS5
//! server.
//!
//! Without arguments it runs by itself, in network namespaces of its own: clients and servers of the kernel at
//! both ends, nothing outside. It prints what it verified:
//! ```text
//! cargo run --release -p netstack-examples --example tun2socks
//! ```
//!
//! On a device that is created (as root), of this namespace or of another, or attached to by its name:
//! ```text
//! tun2socks --tun tun0 --peer 10.255.0.1/30 --upstream socks5://user:password@192.0.2.1:1080
//! tun2socks --tun tun0 --netns /run/netns/sandbox --peer 10.255.0.1/30 --stats
//! ip route add default dev tun0
//! ```
//! On one that a parent process has opened, as descriptor 3, without any privilege:
//! ```text
//! tun2socks --fd 3 --json
//! ```
//!
//! - TCP and UDP, IPv4 and IPv6. A client gets no SYN-ACK before the upstream is connected: what refuses the proxy
//!   refuses the client, and a half-close and a reset are passed on as such.
//! - Pings are sent on to the host that they are for (`--ping`), where the upstream is not a SOCKS5 server.
//! - DNS goes where the client sends it, or with `--dns` and `--host` to listeners of the proxy's own.
//! - UDP has a socket for each flow, so that refusals come back; with `--full-cone` and through SOCKS5 (UDP
//!   ASSOCIATE), one for each client, whom everybody may answer.
//!
//! It ends on Ctrl-C: nobody new is served, and open connections have five seconds to end. A second Ctrl-C ends it
//! at once.

mod selftest;

use clap::Parser;
use netstack::config::Config;
use netstack::{Interface, Stack};
use netstack_examples::cli::{self, Switch};
use netstack_examples::proxy::{
    self, Dns, Limits, Log, Outbound, PingPolicy, Proxy, ProxyConfig, Timeouts, Upstream,
};
use netstack_examples::socks5::Socks5;
use netstack_tun::{Cidr, Tun, TunConfig};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// The exit status that shells report for a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Connects what is routed to a TUN device, directly or through a SOCKS5 server. Without arguments it tests itself
/// in namespaces of its own.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// TUN device; created if there is none of this name.
    #[arg(long, value_name = "NAME", conflicts_with = "fd")]
    tun: Option<String>,
    /// Network namespace of the device, such as /run/netns/NAME; connections are made in the current one.
    #[arg(long, value_name = "PATH", requires = "tun")]
    netns: Option<PathBuf>,
    /// Descriptor of a TUN device that the parent process has left open.
    #[arg(long, value_name = "NUMBER")]
    fd: Option<i32>,
    /// MTU of the device; with --fd what the parent has set, 1500 if not given.
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// Whether checksums and segmentation are left to the device; with --fd, whether packets have a virtio-net header.
    #[arg(long, value_name = "on|off", default_value = "on", hide_possible_values = true)]
    offload: Switch,
    /// Address for the kernel's side of the device, repeatable. Without it, that side is not changed.
    #[arg(long, value_name = "CIDR", requires = "tun")]
    peer: Vec<Cidr>,
    /// Where connections go: `direct`, or `socks5://[user:password@]address:port`.
    #[arg(long, value_name = "UPSTREAM", default_value = "direct", value_parser = upstream)]
    upstream: Upstream,
    /// Interface that connections leave through, which is not the device.
    #[arg(long, value_name = "NAME")]
    outbound_interface: Option<String>,
    /// Congestion control of the connections that leave [default: the kernel's].
    #[arg(long, value_name = "NAME")]
    outbound_congestion: Option<String>,
    /// What becomes of pings: forward, reply or ignore. A SOCKS5 server forwards none: then the proxy replies.
    #[arg(long, value_name = "POLICY", default_value = "forward", value_parser = ping)]
    ping: PingPolicy,
    /// Server that gets all DNS queries, whomever they are for.
    #[arg(long, value_name = "ADDRESS:PORT")]
    dns: Option<SocketAddr>,
    /// Name that the proxy answers queries for itself, repeatable.
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = host)]
    host: Vec<(String, IpAddr)>,
    /// One socket for all datagrams of a client, whom everybody may answer.
    #[arg(long)]
    full_cone: bool,
    /// TCP connections at a time.
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections)]
    max_connections: usize,
    /// Flows of UDP at a time, or clients with --full-cone.
    #[arg(long, value_name = "N", default_value_t = Limits::default().flows)]
    max_flows: usize,
    /// Seconds for connecting.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    connect_timeout: u64,
    /// Seconds after which a connection on which nothing moves is reset.
    #[arg(long, value_name = "SECONDS", default_value_t = 7440)]
    idle: u64,
    /// The same for one that is closed in one direction.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    half_closed_idle: u64,
    /// Seconds after which a flow of UDP ends on which nothing moves.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    udp_idle: u64,
    /// Show the sockets of the stack every second, in place on a terminal.
    #[arg(long, conflicts_with = "json")]
    stats: bool,
    /// Report what ends, one JSON object a line.
    #[arg(long)]
    json: bool,
    /// A setting of the stack, such as recv_buffer_max=1mb; repeatable.
    #[arg(long, value_name = "KEY=VALUE", value_parser = cli::setting)]
    config: Vec<(String, String)>,
}

fn upstream(text: &str) -> Result<Upstream, String> {
    match text.strip_prefix("socks5://") {
        Some(server) => Socks5::parse(server).map(Upstream::Socks5),
        None if text == "direct" => Ok(Upstream::Direct),
        None => Err("neither direct nor socks5://…".to_owned()),
    }
}

fn ping(text: &str) -> Result<PingPolicy, String> {
    match text {
        "forward" => Ok(PingPolicy::Forward),
        "reply" => Ok(PingPolicy::Reply),
        "ignore" => Ok(PingPolicy::Ignore),
        _ => Err("neither forward, reply nor ignore".to_owned()),
    }
}

fn host(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text.split_once('=').ok_or("lacks '=' and an address")?;
    let address = address.parse().map_err(|_| format!("'{address}' is no address"))?;
    Ok((name.trim_end_matches('.').to_owned(), address))
}

fn main() -> ExitCode {
    let args: Args = cli::parse();
    if args.tun.is_none() && args.fd.is_none() {
        return selftest::run();
    }
    let result = tokio::runtime::Runtime::new().and_then(|runtime| runtime.block_on(run(&args)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

async fn run(args: &Args) -> io::Result<()> {
    let config = proxy_config(args);
    // Before anything is printed: a process that waits for the line may interrupt this one at once.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let tun = open(args)?;
    let name = match tun.name() {
        "" => format!("descriptor {}", args.fd.unwrap_or_default()),
        name => format!("TUN device {name}"),
    };
    let stack = stack(tun, Proxy::stack_config(cli::config(&args.config)?, &config))?;
    let log = if args.json {
        Log::Json
    } else if args.stats {
        Log::Off
    } else {
        Log::Text
    };
    let mut proxy = Proxy::start(stack, config, log).await?;
    if args.json {
        log.note("serving", &name);
    } else {
        println!("serving {name}; Ctrl-C ends it");
    }
    let result = loop {
        tokio::select! {
            result = proxy.failed() => break result,
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)), if args.stats => proxy::show(&proxy)?,
        }
    };
    tokio::select! {
        counts = proxy.shutdown() => {
            if args.json {
                log.note("ended", counts);
            } else {
                println!("{counts}");
            }
        }
        _ = interrupt.recv() => std::process::exit(INTERRUPTED),
    }
    result
}

fn proxy_config(args: &Args) -> ProxyConfig {
    ProxyConfig {
        outbound: Outbound {
            upstream: args.upstream.clone(),
            interface: args.outbound_interface.clone(),
            congestion: args.outbound_congestion.clone(),
        },
        ping: args.ping,
        dns: Dns { server: args.dns, hosts: args.host.clone() },
        full_cone: args.full_cone,
        limits: Limits { connections: args.max_connections, flows: args.max_flows, ..Limits::default() },
        timeouts: Timeouts {
            connect: Duration::from_secs(args.connect_timeout),
            idle: Duration::from_secs(args.idle),
            half_closed: Duration::from_secs(args.half_closed_idle),
            udp: Duration::from_secs(args.udp_idle),
            ..Timeouts::default()
        },
    }
}

fn open(args: &Args) -> io::Result<Tun> {
    if let Some(fd) = args.fd {
        return Tun::inherit(fd, args.mtu.unwrap_or(1500) as usize, args.offload.is_on());
    }
    let mut config = TunConfig::new(args.tun.clone().unwrap_or_default()).offload(args.offload.is_on());
    config.addresses.clone_from(&args.peer);
    (config.mtu, config.namespace) = (args.mtu, args.netns.clone());
    Tun::open(&config)
}

/// A stack that is every host behind the device. It needs no address of its own: it answers in the name of those
/// that it is asked for.
fn stack(tun: Tun, config: Config) -> io::Result<Stack> {
    let interface = Interface::new(Arc::new(tun)).name("tun").any_ip("0.0.0.0/0").any_ip("::/0");
    let interface = interface.gateway("0.0.0.0").gateway("::");
    Stack::builder().interface(interface).config(config).build()
}
