//! The command `forward`: a proxy on different stacks.

use crate::live_bytes;
use crate::options::{Common, Runtime, allow_files};
use clap::{Args, ValueEnum};
use netstack_benches::client::{self, Direction, Timing};
use netstack_benches::clock;
use netstack_benches::contender::Contender;
use netstack_benches::datagrams::Mode;
use netstack_benches::forward::{self, Forwarder, Lab};
use netstack_benches::process::Process;
use netstack_benches::report::{self, Provenance};
use netstack_benches::rounds::{Base, Figures, Rounds, Row};
use netstack_benches::scenario::{FIRST, PAUSE};
use netstack_benches::serve::RuntimeKind;
use netstack_benches::services::Service;
use netstack_benches::site::Site;
use netstack_benches::transfer::{self, Reading};
use serde_json::json;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

#[derive(Debug, Args)]
pub(crate) struct Forward {
    /// What to measure [default: all].
    #[arg(long, value_delimiter = ',')]
    test: Vec<Test>,
    /// MTU of all links, in bytes, except the devices of contenders with one of their own.
    #[arg(long, default_value_t = 1500)]
    mtu: u32,
    /// Runtime of the proxies. The servers have one thread.
    #[arg(long, default_value = "current")]
    runtime: Runtime,
    /// `up`: the client sends [default: both, one after the other].
    #[arg(long)]
    direction: Option<Way>,
    /// TCP connections at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    flows: Vec<usize>,
    /// Idle connections, for memory.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Contenders, in order [default: all that this program was built with, and pasta where it is installed].
    #[arg(long, value_delimiter = ',')]
    contender: Vec<Forwarder>,
    #[command(flatten)]
    common: Common,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// The client sends.
    Up,
    /// The server sends.
    Down,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    const fn direction(self) -> Direction {
        match self {
            Self::Up => Direction::In,
            Self::Down => Direction::Out,
        }
    }
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

/// One measurement of a proxy.
#[derive(Clone, Copy, Debug)]
enum Point {
    Streams(Way, usize),
    Datagrams(Way),
    Memory(usize),
}

impl Point {
    fn row(self) -> Row {
        let (key, title, metrics): (_, _, &'static [&'static str]) = match self {
            Self::Streams(way, flows) => (
                json!({ "scenario": "forward-tcp", "direction": way.name(), "flows": flows }),
                format!("TCP {}, {}", way.name(), report::count(flows, "flow")),
                &["gbps", "cpu_s_per_gb"],
            ),
            Self::Datagrams(way) => (
                json!({ "scenario": "forward-udp", "direction": way.name() }),
                format!("UDP {}", way.name()),
                &["gbps", "offered_gbps", "loss", "cpu_s_per_gb"],
            ),
            Self::Memory(connections) => (
                json!({ "scenario": "forward-memory", "flows": connections }),
                "idle connections".to_owned(),
                &["heap_bytes", "copy_buffers", "resident_bytes"],
            ),
        };
        Row { key: key.as_object().cloned().unwrap_or_default(), title, metrics, droppable: false }
    }
}

impl Forward {
    /// In the private namespace of this process.
    pub(crate) fn run(&self) -> io::Result<()> {
        let all = || Forwarder::ALL.into_iter().filter(|forwarder| forwarder.is_there()).collect();
        let contenders: Vec<_> = if self.contender.is_empty() { all() } else { self.contender.clone() };
        // Each connection is two sockets of the proxy.
        allow_files(2 * (self.connections + FIRST))?;
        let program = std::env::current_exe()?;
        let mut server = Command::new(&program);
        server.args(["serve", Contender::KernelVeth.name(), "--until-eof"]);
        let lab = Lab::new(server, self.mtu)?;
        let points = self.points();
        let names: Vec<_> = contenders.iter().map(|forwarder| forwarder.name).collect();
        let bases = vec![Base { field: "ratio_splice", contender: "splice" }];
        let mut rounds = Rounds::new(points.iter().map(|point| point.row()).collect(), names, bases, None);
        let sites = contenders.iter().map(|_| None).collect();
        let mut bench = Bench { options: self, lab, program, contenders, sites };
        rounds.run(
            self.common.schedule(),
            |progress| eprintln!("{}", report::progress(progress)),
            |row, contender| {
                let found = bench.measure(points[row], contender);
                clock::sleep(PAUSE);
                Some(found)
            },
        );
        let provenance = Provenance::new();
        print!("{}", report::text(&rounds));
        println!("\n{provenance}: medians of {}, interleaved.\n", report::count(rounds.len(), "round"));
        println!("{}", report::markdown(&rounds, |metrics| metrics.first().copied(), false));
        self.common.write(&rounds, &provenance)
    }

    fn points(&self) -> Vec<Point> {
        let is_wanted = |test| self.test.is_empty() || self.test.contains(&test);
        let ways = self.direction.map_or(vec![Way::Up, Way::Down], |way| vec![way]);
        let mut points = Vec::new();
        if is_wanted(Test::Tcp) {
            for &flows in &self.flows {
                points.extend(ways.iter().map(|&way| Point::Streams(way, flows)));
            }
        }
        if is_wanted(Test::Udp) {
            points.extend(ways.iter().map(|&way| Point::Datagrams(way)));
        }
        if is_wanted(Test::Memory) {
            points.push(Point::Memory(self.connections));
        }
        points
    }
}

struct Bench<'a> {
    options: &'a Forward,
    lab: Lab,
    program: PathBuf,
    contenders: Vec<Forwarder>,
    /// The proxies that run.
    sites: Vec<Option<Site>>,
}

impl Bench<'_> {
    fn measure(&mut self, point: Point, contender: usize) -> io::Result<Figures> {
        let forwarder = self.contenders[contender];
        let is_memory = matches!(point, Point::Memory(_));
        if is_memory {
            // What is left of earlier connections would be counted when it is freed. The old one ends first: its
            // interface has the name of the new one's. And the server keeps its connections for ever.
            self.sites[contender] = None;
            self.lab.restart_server()?;
        }
        let mut site = match self.sites[contender].take() {
            Some(site) => site,
            None => self.start(forwarder)?,
        };
        let server = self.lab.server()?;
        let timing = self.options.common.timing();
        let found = match point {
            Point::Streams(way, flows) => streams(forwarder, server, &mut site, (way, flows), timing),
            Point::Datagrams(way) => {
                let len = transfer::datagram_len(self.options.mtu);
                datagrams(forwarder, server, &mut site, (way, len), timing)
            }
            Point::Memory(connections) => memory(forwarder, &mut site, connections),
        };
        // One that has failed, or has connections that nobody needs, makes room for a new one.
        if found.is_ok() && !is_memory {
            self.sites[contender] = Some(site);
        }
        found
    }

    fn start(&self, forwarder: Forwarder) -> io::Result<Site> {
        let Forward { mtu, runtime, .. } = self.options;
        self.lab.start(forwarder, |clients| {
            let mut command = Command::new(&self.program);
            let runtime = Runtime::name(RuntimeKind::from(*runtime));
            command.args(["forward-serve", forwarder.name, "--runtime", runtime]);
            command.args(["--mtu", &mtu.to_string(), "--clients"]).arg(clients);
            command
        })
    }
}

/// Streams written 64 KiB at a time. What counts is what the receiver has read.
fn streams(
    forwarder: Forwarder,
    server: &mut Process,
    site: &mut Site,
    (way, flows): (Way, usize),
    timing: Timing,
) -> io::Result<Figures> {
    let direction = way.direction();
    let at = SocketAddr::from((forwarder.address(), direction.service().port()));
    site.as_client(|proxy| {
        transfer::streams(at, direction, flows, timing, || Reading::take(server, proxy.cpu_time()?))
    })
}

/// Datagrams that fill the MTU.
fn datagrams(
    forwarder: Forwarder,
    server: &mut Process,
    site: &mut Site,
    (way, len): (Way, u16),
    timing: Timing,
) -> io::Result<Figures> {
    let (direction, mode) = (way.direction(), Mode::Single);
    let at = SocketAddr::from((forwarder.address(), mode.port(direction.service().port())));
    site.as_client(|proxy| {
        let read = || Reading::take(server, proxy.cpu_time()?);
        transfer::datagrams(at, direction, (mode, len), timing, read)
    })
}

/// What an idle connection takes of the proxy after one byte there and back: of its heap, without the buffers
/// of its copies, and of RAM.
fn memory(forwarder: Forwarder, site: &mut Site, connections: usize) -> io::Result<Figures> {
    let at = SocketAddr::from((forwarder.address(), Service::Hold.port()));
    let open = |site: &mut Site, count| site.as_client(|_| client::idle_connections(at, count));
    let _first = open(site, FIRST)?;
    clock::sleep(PAUSE);
    let (heap, resident) = (site.process().live_bytes()?, site.process().resident()?);
    let _idle = open(site, connections)?;
    clock::sleep(PAUSE);
    let each = |after: u64, before: u64| (after as f64 - before as f64) / connections as f64;
    let heap = each(site.process().live_bytes()?, heap);
    let buffers = forwarder.copy_buffers() as f64;
    let resident = ("resident_bytes", each(site.process().resident()?, resident));
    if !forwarder.knows_its_heap() {
        return Ok(vec![resident]);
    }
    Ok(vec![("heap_bytes", heap - buffers), ("copy_buffers", buffers), resident])
}
