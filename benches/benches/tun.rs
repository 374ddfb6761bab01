//! Over TUN, with the kernel at the other end: netstack, the bare limit, and the kernel's veth.

use criterion::{Criterion, Throughput, criterion_group};
use netstack_benches::client::{self, Direction};
use netstack_benches::contender::Contender;
use netstack_benches::serve::{self, RuntimeKind};
use netstack_benches::server::Server;
use netstack_benches::services::ECHO_PORT;
use std::io;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// The first argument of a child that is to serve; the second is its contender.
const SERVE: &str = "--serve-as";
const MTU: u32 = 1500;
const CONTENDERS: [Contender; 3] = [Contender::Limit, Contender::Netstack, Contender::Veth];
/// Bytes that one iteration of a stream moves.
const BYTES: u64 = 64 << 20;

fn spawn(contender: Contender) -> Server {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args([SERVE, contender.name()]);
    Server::spawn(contender, command, MTU).expect("a contender serves")
}

fn streams(c: &mut Criterion) {
    let servers = CONTENDERS.map(spawn);
    for direction in [Direction::In, Direction::Out] {
        let mut group = c.benchmark_group(format!("tun/throughput/{}", direction.name()));
        group.throughput(Throughput::Bytes(BYTES));
        for server in &servers {
            let mut stream = client::Stream::open(server.address(direction.port()), direction)
                .expect("a contender accepts");
            group.bench_function(server.contender().name(), |b| {
                b.iter(|| stream.run(BYTES).expect("the stream lives"));
            });
        }
    }
}

fn round_trips(c: &mut Criterion) {
    let servers = CONTENDERS.map(spawn);
    let mut group = c.benchmark_group("tun/round-trip");
    for server in &servers {
        let mut stream = client::connect(server.address(ECHO_PORT)).expect("a contender accepts");
        group.bench_function(server.contender().name(), |b| {
            b.iter(|| client::round_trip(&mut stream).expect("the byte comes back"));
        });
    }
}

fn connections(c: &mut Criterion) {
    let servers = CONTENDERS.map(spawn);
    let mut group = c.benchmark_group("tun/connect-request-close");
    group.throughput(Throughput::Elements(1));
    for server in &servers {
        let to = server.address(ECHO_PORT);
        group.bench_function(server.contender().name(), |b| {
            b.iter(|| {
                let mut stream = client::connect(to).expect("a contender accepts");
                client::round_trip(&mut stream).expect("the byte comes back")
            });
        });
    }
}

/// Short measurements, because each connection leaves a TIME-WAIT and there are several contenders.
fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = config(); targets = streams, round_trips, connections }

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let result = match &arguments[..] {
        [_, serve, contender] if serve == SERVE => run_server(contender),
        _ => run_benches(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("tun: {err}");
            ExitCode::FAILURE
        }
    }
}

fn run_server(contender: &str) -> io::Result<()> {
    let contender: Contender = contender.parse().map_err(io::Error::other)?;
    let runtime = RuntimeKind::Current;
    let options = serve::Options { mtu: MTU, queues: 1, tun: None, runtime, until_eof: true };
    serve::run(contender, &options, || 0)
}

fn run_benches() -> io::Result<()> {
    if let Err(err) = netstack_tun::netns::available() {
        eprintln!("SKIPPED tun: {err}");
        return Ok(());
    }
    netstack_tun::netns::enter_private()?;
    let _ = netstack_tun::netns::sysctl("net.ipv4.ip_local_port_range", "1024 65535");
    benches();
    Criterion::default().configure_from_args().final_summary();
    Ok(())
}
