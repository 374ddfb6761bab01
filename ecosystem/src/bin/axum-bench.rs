//! Requests per second of the example `axum_hello`, on netstack over a TUN device and on the sockets of the kernel over a
//! veth pair, asked by `wrk` from the kernel's side. `curl` asks for a number of requests first, none of which may fail.
//!
//! ```text
//! cargo run --release -p netstack-ecosystem --bin axum-bench
//! ```
//!
//! All of it happens in private network namespaces. Rounds are interleaved, every other one in reverse order; the result is the
//! median of the ratios within a round.

use clap::{Parser, Subcommand};
use netstack_ecosystem::place::{Failure, Place};
use netstack_tun::netns::{self, Namespace};
use netstack_tun::{Cidr, interface};
use std::env;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use tokio::runtime::Runtime;

#[expect(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod on_netstack {
    include!(concat!(env!("OUT_DIR"), "/axum_hello_netstack.rs"));
}

#[expect(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod on_tokio {
    include!(concat!(env!("OUT_DIR"), "/axum_hello_tokio.rs"));
}

/// The server on netstack, as in the example.
const NETSTACK: &str = "10.9.0.2";

/// The server on the kernel's sockets, in a namespace of its own, and the other end of the cable.
const KERNEL: &str = "10.9.1.2";
const CLIENT: &str = "10.9.1.1";

#[derive(Parser, Debug)]
#[command(about = "Requests per second of axum over TUN and over veth")]
struct Args {
    #[command(subcommand)]
    serve: Option<Serve>,
    /// Rounds, each of which measures both.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Connections of `wrk`.
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// Threads of `wrk`.
    #[arg(long, default_value_t = 1)]
    threads: u32,
    /// What is asked for: `/` is 14 bytes, `/image/1` 56 KiB, `/image/0` 2.25 MiB.
    #[arg(long, default_value = "/")]
    path: String,
    /// Requests of `curl` to netstack, 50 at a time; 0 for none.
    #[arg(long, default_value_t = 100_000)]
    requests: u32,
    /// Fail if the ratio is less.
    #[arg(long)]
    at_least: Option<f64>,
}

#[derive(Subcommand, Debug)]
enum Serve {
    /// Serves on netstack over a TUN device in this namespace.
    #[command(hide = true)]
    ServeNetstack,
    /// Serves on the kernel's sockets in another namespace, over a veth pair.
    #[command(hide = true)]
    ServeKernel,
}

fn main() -> Result<ExitCode, Failure> {
    let args = Args::parse();
    match args.serve {
        Some(Serve::ServeNetstack) => serve_netstack().map(|()| ExitCode::SUCCESS),
        Some(Serve::ServeKernel) => serve_kernel().map(|()| ExitCode::SUCCESS),
        None => measure(&args),
    }
}

fn serve_netstack() -> Result<(), Failure> {
    Runtime::new()?.block_on(async {
        let place = Place::tun("web0")?;
        let listener = place.server.listen((NETSTACK, 80)).await?;
        println!("listening");
        Ok(on_netstack::serve(listener).await?)
    })
}

fn serve_kernel() -> Result<(), Failure> {
    let cidr = |address: &str| format!("{address}/24").parse::<Cidr>();
    let other = Namespace::new()?;
    interface::veth_pair("web1", "web2")?;
    interface::move_to("web2", &other)?;
    interface::up("web1")?;
    interface::add_address("web1", cidr(CLIENT)?)?;
    other.run(|| {
        interface::up("web2")?;
        interface::add_address("web2", cidr(KERNEL)?)?;
        // Its threads are in the namespace, too.
        Runtime::new()?.block_on(async {
            let listener = tokio::net::TcpListener::bind((KERNEL, 80)).await?;
            println!("listening");
            Ok(on_tokio::serve(listener).await?)
        })
    })?
}

/// A server, which is killed when it is dropped.
struct Server {
    process: Child,
    address: &'static str,
}

impl Server {
    fn start(role: &str, address: &'static str) -> io::Result<Self> {
        let mut process = Command::new(env::current_exe()?).arg(role).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line)?;
        let server = Self { process, address };
        if line == "listening\n" { Ok(server) } else { Err(io::Error::other(format!("{role} has failed"))) }
    }

    /// Requests per second.
    fn wrk(&self, args: &Args) -> Result<f64, Failure> {
        let output = Command::new("wrk")
            .args([format!("-t{}", args.threads), format!("-c{}", args.connections)])
            .args([format!("-d{}s", args.seconds), format!("http://{}{}", self.address, args.path)])
            .output()
            .map_err(|err| format!("cannot run wrk: {err}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        // It says how many only if there are some.
        if !output.status.success() || text.contains("Socket errors") || text.contains("Non-2xx") {
            return Err(format!("requests to {} have failed:\n{text}", self.address).into());
        }
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        Ok(rate.ok_or("wrk has said no rate")?.trim().parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn curl(requests: u32) -> Result<(), Failure> {
    // Of several transfers it prints the progress even if it is told not to.
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--parallel", "--parallel-max", "50", "-o", "/dev/null"])
        .arg(format!("http://{NETSTACK}/hello/[1-{requests}]"))
        .output()
        .map_err(|err| format!("cannot run curl: {err}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("not all {requests} requests of curl have been answered\n{text}").into());
    }
    println!("curl: {requests} requests, all answered");
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(args: &Args) -> Result<ExitCode, Failure> {
    netns::enter_private()?;
    let servers = [Server::start("serve-netstack", NETSTACK)?, Server::start("serve-kernel", KERNEL)?];
    if args.requests > 0 {
        curl(args.requests)?;
    }
    // What is only slow the first time.
    for server in &servers {
        server.wrk(args)?;
    }
    let (mut rates, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
    for round in 0..args.rounds.max(1) {
        for index in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            rates[index].push(servers[index].wrk(args)?);
        }
        let (netstack, kernel) = (rates[0][round], rates[1][round]);
        ratios.push(netstack / kernel);
        println!(
            "round {}: netstack {netstack:.0}/s, kernel {kernel:.0}/s, {:.3}",
            round + 1,
            netstack / kernel
        );
    }
    let [netstack, kernel] = &mut rates;
    let (netstack, kernel, ratio) = (median(netstack), median(kernel), median(&mut ratios));
    println!(
        "GET {} over {} connections, medians: netstack over TUN {netstack:.0}/s, the kernel over veth {kernel:.0}/s, \
         ratio {ratio:.3} ({:.3} to {:.3})",
        args.path,
        args.connections,
        ratios[0],
        ratios[ratios.len() - 1]
    );
    let enough = args.at_least.is_none_or(|least| ratio >= least);
    Ok(if enough { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
