//! The command `forward`: a proxy on different stacks.

use crate::measure::{allow_files, object, round};
use crate::report::Report;
use crate::{DirectionArg, Runtime, UDP_HEADERS, directions, live_bytes};
use clap::{Args, ValueEnum};
use netstack_benches::client::{self, Direction, Throughput};
use netstack_benches::clock;
use netstack_benches::contender::Contender;
use netstack_benches::datagrams::{self, Mode};
use netstack_benches::forward::{self, Forwarder, Lab, Site};
use netstack_benches::process::Process;
use netstack_benches::services::HOLD_PORT;
use netstack_benches::stats::median;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The pause between measurements, after which no packets of the last one are in flight.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that are opened before memory is measured, because pools and tables grow with the first ones.
const FIRST: usize = 16;

/// The key of the measurement of memory.
const MEMORY: &str = "bytes_per_connection";

#[derive(Debug, Args)]
pub(crate) struct Forward {
    /// What to measure [default: all].
    #[arg(long, value_delimiter = ',')]
    test: Vec<Test>,
    /// Rounds; medians are taken over them.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    /// MTU of all links, in bytes, except the devices of contenders with one of their own.
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Runtime of the proxies. The servers have one thread.
    #[arg(long, default_value = "current")]
    runtime: Runtime,
    /// Seconds of each measurement, after up to half a second of warm-up.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// `in`: the client sends (up) [default: both, one after the other].
    #[arg(long)]
    direction: Option<DirectionArg>,
    /// TCP connections at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    flows: Vec<usize>,
    /// Idle connections, for memory.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Contenders, in order [default: all that this program was built with].
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<Forwarder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Test {
    /// Streams.
    Tcp,
    /// Datagrams that fill the MTU, one in each call.
    Udp,
    /// Idle connections.
    Memory,
}

#[derive(Debug, Args)]
pub(crate) struct ForwardServe {
    contender: Forwarder,
    #[arg(long)]
    clients: PathBuf,
    #[arg(long)]
    mtu: u32,
    #[arg(long)]
    runtime: Runtime,
}

impl ForwardServe {
    pub(crate) fn run(self) -> io::Result<()> {
        let Self { contender, clients, mtu, runtime } = self;
        forward::run(contender, &forward::Options { clients, mtu, runtime: runtime.into() }, live_bytes)
    }
}

/// `up` for what the clients send.
const fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "up",
        Direction::Out => "down",
    }
}

impl Forward {
    /// In the private namespace of this process.
    pub(crate) fn run(&self) -> io::Result<()> {
        let all = || Forwarder::ALL.into_iter().filter(|forwarder| forwarder.is_built()).collect();
        let contenders: Vec<_> = if self.contenders.is_empty() { all() } else { self.contenders.clone() };
        // Each connection is two sockets of the proxy.
        allow_files(2 * (self.connections + FIRST))?;
        let program = std::env::current_exe()?;
        let mut server = Command::new(&program);
        server.args(["serve", Contender::Veth.name(), "--until-eof"]);
        let lab = Lab::new(server, self.mtu)?;
        let mut bench = Bench {
            options: self,
            lab,
            program,
            report: Report::new(self.json),
            columns: Vec::new(),
            contenders,
        };
        let is_wanted = |test| self.test.is_empty() || self.test.contains(&test);
        let time = Duration::from_secs_f64(self.seconds);
        if is_wanted(Test::Tcp) {
            for &flows in &self.flows {
                for direction in directions(self.direction) {
                    bench.streams(direction, flows, time)?;
                }
            }
        }
        if is_wanted(Test::Udp) {
            for direction in directions(self.direction) {
                bench.datagrams(direction, time)?;
            }
        }
        if is_wanted(Test::Memory) {
            bench.memory(self.connections)?;
        }
        bench.table();
        Ok(())
    }
}

/// The medians of one test.
struct Column {
    heading: String,
    medians: Vec<f64>,
}

struct Bench<'a> {
    options: &'a Forward,
    contenders: Vec<Forwarder>,
    lab: Lab,
    program: PathBuf,
    report: Report,
    columns: Vec<Column>,
}

impl Bench<'_> {
    /// Streams written 64 KiB at a time. What counts is what the receiver has read.
    fn streams(&mut self, direction: Direction, flows: usize, time: Duration) -> io::Result<()> {
        let test = json!({ "test": "forward-tcp", "direction": arrow(direction), "flows": flows });
        let heading = format!("TCP {}, {flows}", arrow(direction));
        self.rounds(test, "gbps", heading, |forwarder, server, site| {
            let at = SocketAddr::from((forwarder.address(), direction.port()));
            let mut marks = Vec::with_capacity(2);
            let measured = site.as_client(|proxy| {
                client::throughput(at, direction, flows, time, || {
                    marks.push((clock::now(), server.received()?, proxy.cpu_time()?));
                    Ok(())
                })
            })?;
            let (begin, before, cpu_before) = marks[0];
            let (end, after, cpu_after) = marks[1];
            let received = Throughput { bytes: after - before, time: end - begin };
            let moved = match direction {
                Direction::In => received,
                Direction::Out => measured,
            };
            let used = cpu_after.saturating_sub(cpu_before).as_secs_f64();
            Ok(json!({
                "gbps": round(moved.gbps()),
                "cpu": round(used / measured.time.as_secs_f64()),
                "cpu_s_per_gb": round(used / (moved.bytes as f64 / 1e9)),
            }))
        })
    }

    /// Datagrams that fill the MTU. The loss is that of the whole transfer, counted at both ends.
    fn datagrams(&mut self, direction: Direction, time: Duration) -> io::Result<()> {
        let len = u16::try_from(self.options.mtu.saturating_sub(UDP_HEADERS)).unwrap_or(u16::MAX).max(1);
        let test = json!({ "test": "forward-udp", "direction": arrow(direction), "len": len });
        let heading = format!("UDP {}", arrow(direction));
        self.rounds(test, "gbps", heading, |forwarder, server, site| {
            let at = SocketAddr::from((forwarder.address(), Mode::Single.port(direction.port())));
            let (sent_before, received_before) = (server.sent()?, server.received()?);
            let mut marks = Vec::with_capacity(2);
            let moved = site.as_client(|proxy| {
                let mark = || {
                    marks.push((server.sent()?, server.received()?, proxy.cpu_time()?));
                    Ok(())
                };
                match direction {
                    Direction::In => datagrams::send(at, Mode::Single, len.into(), time, mark),
                    Direction::Out => datagrams::receive(at, Mode::Single, len, time, mark),
                }
            })?;
            let (sent, received, cpu) =
                (marks[1].0 - marks[0].0, marks[1].1 - marks[0].1, marks[1].2.saturating_sub(marks[0].2));
            let (offered, got, total_sent, total_got) = match direction {
                Direction::In => {
                    (moved.measured, received, moved.total, server.received()? - received_before)
                }
                Direction::Out => (sent, moved.measured, server.sent()? - sent_before, moved.total),
            };
            let seconds = moved.time.as_secs_f64();
            let gbps = |bytes: u64| round(bytes as f64 * 8e-9 / seconds);
            Ok(json!({
                "gbps": gbps(got),
                "offered_gbps": gbps(offered),
                "sent": total_sent / u64::from(len),
                "received": total_got / u64::from(len),
                "loss": round(1.0 - total_got as f64 / total_sent.max(1) as f64),
                "cpu": round(cpu.as_secs_f64() / seconds),
                "cpu_s_per_gb": round(cpu.as_secs_f64() / (got as f64 / 1e9)),
            }))
        })
    }

    /// What an idle connection takes of the proxy after one byte there and back: of its heap, without the buffers
    /// of its copies, and of RAM.
    fn memory(&mut self, connections: usize) -> io::Result<()> {
        let test = json!({ "test": "forward-memory", "connections": connections });
        self.rounds(test, MEMORY, "bytes per connection".to_owned(), |forwarder, _, site| {
            let at = SocketAddr::from((forwarder.address(), HOLD_PORT));
            let open = |site: &mut Site, count| site.as_client(|_| client::idle_connections(|_| at, count));
            let _first = open(site, FIRST)?;
            clock::sleep(PAUSE);
            let (heap, resident) = (site.proxy().live_bytes()?, site.proxy().resident()?);
            let _idle = open(site, connections)?;
            clock::sleep(PAUSE);
            let each = |after: u64, before: u64| (after as f64 - before as f64) / connections as f64;
            let heap = each(site.proxy().live_bytes()?, heap);
            let buffers = forwarder.copy_buffers();
            Ok(json!({
                MEMORY: round(heap - buffers as f64),
                "copy_buffers": buffers,
                "resident_per_connection": round(each(site.proxy().resident()?, resident)),
            }))
        })
    }

    /// Starts all contenders and measures each, round after round, every other round in reverse order. One that
    /// fails is reported, and counts as nothing.
    fn rounds(
        &mut self,
        test: Value,
        key: &str,
        heading: String,
        mut measure: impl FnMut(Forwarder, &mut Process, &mut Site) -> io::Result<Value>,
    ) -> io::Result<()> {
        let test = object(test);
        // What is left of earlier connections would be counted when it is freed.
        let is_fresh = key == MEMORY;
        let mut sites =
            self.contenders.iter().map(|&forwarder| self.start(forwarder)).collect::<io::Result<Vec<_>>>()?;
        let mut values = vec![Vec::new(); sites.len()];
        self.report.begin(&test);
        for number in 0..self.options.pairs.max(1) {
            let mut order: Vec<usize> = (0..sites.len()).collect();
            if number % 2 == 1 {
                order.reverse();
            }
            for at in order {
                let forwarder = self.contenders[at];
                if is_fresh {
                    // The old one ends first: its interface has the name of the new one's.
                    drop(sites.remove(at));
                    // It keeps its connections for ever.
                    self.lab.restart_server()?;
                    sites.insert(at, self.start(forwarder)?);
                }
                let found = match measure(forwarder, self.lab.server()?, &mut sites[at]) {
                    Ok(found) => found,
                    Err(error) => json!({ "error": error.to_string() }),
                };
                values[at].push(found[key].as_f64().unwrap_or(f64::NAN));
                self.report.measured(&test, forwarder.name, number, &object(found));
                clock::sleep(PAUSE);
            }
        }
        let names: Vec<_> = self.contenders.iter().map(|forwarder| forwarder.name).collect();
        self.report.summary(&test, key, &names, &values);
        self.report.ratios(&test, key, "netstack-plain", &names, &values);
        self.columns.push(Column { heading, medians: values.iter().map(|values| median(values)).collect() });
        Ok(())
    }

    fn start(&self, forwarder: Forwarder) -> io::Result<Site> {
        let Forward { mtu, runtime, .. } = self.options;
        self.lab.start(forwarder, |clients| {
            let mut command = Command::new(&self.program);
            command.args(["forward-serve", forwarder.name, "--runtime", runtime.name()]);
            command.args(["--mtu", &mtu.to_string(), "--clients"]).arg(clients);
            command
        })
    }

    /// The medians of all tests, as in the README.
    fn table(&self) {
        let headings: Vec<_> = self.columns.iter().map(|column| column.heading.as_str()).collect();
        let rows = self.contenders.iter().enumerate().map(|(at, forwarder)| {
            let cells = self.columns.iter().map(|column| number(column.medians[at])).collect();
            (forwarder.name, cells)
        });
        self.report.table(&headings, rows.collect());
    }
}

fn number(median: f64) -> String {
    match median {
        median if median.is_nan() => "-".to_owned(),
        median if median < 100.0 => format!("{median:.2}"),
        median => format!("{median:.0}"),
    }
}
