//! Over TUN, with the kernel at the other end: netstack, the bare limit, and the kernel's veth.

use criterion::{Criterion, Throughput, criterion_group};
use netstack_benches::client::{self, Direction};
use netstack_benches::clock;
use netstack_benches::contender::{Contender, Nic};
use netstack_benches::pinning::Pinning;
use netstack_benches::serve::{self, RuntimeKind};
use netstack_benches::services::Service;
use netstack_benches::site::{self, Site};
use std::io;
use std::process::{Command, ExitCode};
use std::time::Duration;

/// The first argument of a child that is to serve; the second is its contender.
const SERVE: &str = "--serve-as";
const CONTENDERS: [Contender; 3] = [Contender::Limit, Contender::Netstack, Contender::KernelVeth];
/// Bytes that one iteration of a stream moves.
const BYTES: u64 = 64 << 20;

fn start(contender: Contender) -> Site {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args([SERVE, contender.name()]);
    Site::start(contender, Nic::default(), Pinning::Any, command).expect("a contender serves")
}

/// Opens the connections of the clients in their namespace.
fn open<T: Send>(site: &mut Site, connect: impl FnOnce() -> io::Result<T> + Send) -> T {
    site.as_client(|_| connect()).expect("a contender accepts")
}

fn streams(c: &mut Criterion) {
    let mut sites = CONTENDERS.map(start);
    for direction in [Direction::In, Direction::Out] {
        let mut group = c.benchmark_group(format!("tun/throughput/{}", direction.name()));
        group.throughput(Throughput::Bytes(BYTES));
        for (site, contender) in sites.iter_mut().zip(CONTENDERS) {
            let to = site::address(contender, direction.service().port());
            let mut stream = open(site, || client::Stream::open(to, direction));
            group.bench_function(contender.name(), |b| {
                b.iter(|| stream.run(BYTES).expect("the stream lives"));
            });
        }
    }
}

fn round_trips(c: &mut Criterion) {
    let mut sites = CONTENDERS.map(start);
    let mut group = c.benchmark_group("tun/round-trip");
    for (site, contender) in sites.iter_mut().zip(CONTENDERS) {
        let to = site::address(contender, Service::Echo.port());
        let mut stream = open(site, || client::connect(to));
        group.bench_function(contender.name(), |b| {
            b.iter(|| client::round_trip(&mut stream).expect("the byte comes back"));
        });
    }
}

fn connections(c: &mut Criterion) {
    let mut sites = CONTENDERS.map(start);
    let mut group = c.benchmark_group("tun/connect-request-close");
    group.throughput(Throughput::Elements(1));
    for (site, contender) in sites.iter_mut().zip(CONTENDERS) {
        let to = site::address(contender, Service::Echo.port());
        group.bench_function(contender.name(), |b| {
            b.iter_custom(|count| {
                let repeat = move || {
                    let begin = clock::now();
                    for _ in 0..count {
                        client::round_trip(&mut client::connect(to)?)?;
                    }
                    Ok(clock::now() - begin)
                };
                open(site, repeat)
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
    let (nic, busy_poll) = (Nic::default(), Duration::ZERO);
    let options = serve::Options { nic, tun: None, runtime, busy_poll, until_eof: true };
    serve::run(contender, &options, || 0)
}

fn run_benches() -> io::Result<()> {
    if let Err(err) = netstack_tun::netns::available() {
        eprintln!("SKIPPED tun: {err}");
        return Ok(());
    }
    netstack_tun::netns::enter_private()?;
    benches();
    Criterion::default().configure_from_args().final_summary();
    Ok(())
}
