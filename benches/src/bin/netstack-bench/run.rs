//! The commands `run` and `compare`: contenders in scenarios.

use crate::options::{Common, Runtime, allow_files};
use clap::Args;
use netstack_benches::clock;
use netstack_benches::contender::{Contender, Nic};
use netstack_benches::datagrams::Mode;
use netstack_benches::pinning::Pinning;
use netstack_benches::report::{self, Provenance};
use netstack_benches::rounds::{Base, Figures, Rounds, Rule};
use netstack_benches::scenario::{FIRST, How, PAUSE, Point, Scenario};
use netstack_benches::serve::RuntimeKind;
use netstack_benches::site::Site;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::process::Command;

/// Idle connections of `compare`.
const IDLE: usize = 1000;

/// The options of `run`. Each combination of the lists is a row.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// What to measure: stream-in, stream-out, stream-both, udp-in, udp-in-gso, udp-out, udp-out-gso, rr, crr,
    /// accept-rate, hold.
    #[arg(long, value_delimiter = ',', default_values_t = [Scenario::StreamIn, Scenario::StreamOut])]
    scenario: Vec<Scenario>,
    /// Whom to measure: limit, limit-copy, limit-tokio, netstack, netstack-bytes, kernel-veth, kernel-loopback,
    /// smoltcp, and with the feature `peers` ipstack, netstack-smoltcp, tcp_ip.
    #[arg(long, value_delimiter = ',', default_values_t = [Contender::Limit, Contender::Netstack, Contender::KernelVeth])]
    contender: Vec<Contender>,
    /// Connections at once [default: 1; of crr 1 and 16, of accept-rate 16].
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    flows: Vec<u16>,
    /// Bytes of a request and of its response (rr).
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    size: Vec<usize>,
    /// Interfaces: an MTU, with `+offload` for checksums and segmentation by the device.
    #[arg(long, value_name = "MTU[+offload]", value_delimiter = ',', default_values_t = [Nic::default()])]
    link: Vec<Nic>,
    /// Queues of a TUN device.
    #[arg(long, value_delimiter = ',', default_values_t = [1], value_parser = clap::value_parser!(u8).range(1..))]
    queues: Vec<u8>,
    /// Processors of both ends: any, same (both on one), two (each has one).
    #[arg(long, value_delimiter = ',', default_values_t = [Pinning::Any])]
    cores: Vec<Pinning>,
    /// Idle connections to open (hold).
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Debug, Args)]
struct Settings {
    /// Runtime of the contenders on tokio [default: two workers for the peers and for two queues, or else one thread].
    #[arg(long)]
    runtime: Option<Runtime>,
    /// A round is dropped if the limit's figure is off its median by more than this factor.
    #[arg(long, default_value_t = 1.5)]
    drop_factor: f64,
    /// For how long netstack polls its device before it waits, in microseconds (rr on two cores). The bare
    /// limit does the same; with any, the clients and the kernel's echo poll too, and never wait.
    #[arg(long, default_value_t = 0)]
    busy_poll: u64,
    /// Let processors idle between packets, which costs a wake-up each time (rr).
    #[arg(long)]
    idle: bool,
}

/// The options of `compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    common: Common,
}

impl Run {
    /// In the private namespace of this process.
    pub(crate) fn run(&self) -> io::Result<()> {
        let (rounds, provenance) = measure(self.points(), &self.contender, &self.settings, &self.common)?;
        print!("{}", report::text(&rounds));
        self.common.write(&rounds, &provenance)
    }

    fn points(&self) -> Vec<Point> {
        let mut points = Vec::new();
        for &scenario in &self.scenario {
            let flows = self.flows(scenario);
            let sizes = if scenario == Scenario::Rr { &self.size[..] } else { &[1] };
            for &nic in &self.link {
                for &queues in &self.queues {
                    let nic = Nic { queues: queues.into(), ..nic };
                    for &pinning in &self.cores {
                        for &size in sizes {
                            let all =
                                flows.iter().map(|&flows| Point { scenario, flows, size, nic, pinning });
                            points.extend(all);
                        }
                    }
                }
            }
        }
        points
    }

    fn flows(&self, scenario: Scenario) -> Vec<usize> {
        match scenario {
            Scenario::Hold => vec![self.connections as usize],
            Scenario::UdpIn(_) | Scenario::UdpOut(_) => scenario.flows().to_vec(),
            _ if self.flows.is_empty() => scenario.flows().to_vec(),
            _ => self.flows.iter().copied().map(usize::from).collect(),
        }
    }
}

impl Compare {
    /// In the private namespace of this process.
    pub(crate) fn run(&self) -> io::Result<()> {
        let contenders: Vec<_> =
            Contender::ALL.into_iter().filter(|contender| contender.is_built()).collect();
        let (rounds, provenance) = measure(comparison(), &contenders, &self.settings, &self.common)?;
        println!(
            "{provenance}: medians of {}, interleaved; × `limit` in parentheses.\n",
            report::count(rounds.len(), "round")
        );
        println!("{}", report::markdown(&rounds, |metrics| metrics.first().copied(), true));
        println!("Processor time of the measured end:\n");
        let cpu = |metrics: &[&'static str]| {
            metrics.iter().copied().find(|metric| ["cpu_s_per_gb", "cpu_us"].contains(metric))
        };
        println!("{}", report::markdown(&rounds, cpu, true));
        self.common.write(&rounds, &provenance)
    }
}

/// The rows of the README.
fn comparison() -> Vec<Point> {
    let offload = Nic::default();
    let plain = Nic { offload: false, ..offload };
    let large = Nic { mtu: 65_535, ..plain };
    let two = Nic { queues: 2, ..offload };
    let mut points = Vec::new();
    let mut add = |scenario, flows, size, nic, pinning| {
        points.push(Point { scenario, flows, size, nic, pinning });
    };
    for (nic, flows) in [(offload, 1), (two, 8), (two, 64), (plain, 1), (plain, 8), (large, 1)] {
        for scenario in [Scenario::StreamIn, Scenario::StreamOut] {
            add(scenario, flows, 1, nic, Pinning::Any);
        }
    }
    add(Scenario::StreamBoth, 1, 1, offload, Pinning::Any);
    for mode in [Mode::Single, Mode::Segmented] {
        add(Scenario::UdpIn(mode), 1, 1, offload, Pinning::Any);
        add(Scenario::UdpOut(mode), 1, 1, offload, Pinning::Any);
    }
    for pinning in [Pinning::Same, Pinning::Two] {
        add(Scenario::Rr, 1, 1, offload, pinning);
    }
    add(Scenario::Rr, 1, 16_384, offload, Pinning::Any);
    add(Scenario::Rr, 64, 1, offload, Pinning::Any);
    add(Scenario::Crr, 1, 1, offload, Pinning::Any);
    add(Scenario::Crr, 16, 1, offload, Pinning::Any);
    add(Scenario::AcceptRate, 16, 1, offload, Pinning::Any);
    add(Scenario::Hold, IDLE, 1, offload, Pinning::Any);
    points
}

fn measure(
    points: Vec<Point>,
    contenders: &[Contender],
    settings: &Settings,
    common: &Common,
) -> io::Result<(Rounds, Provenance)> {
    let most = points.iter().map(|point| point.flows).max().unwrap_or_default();
    allow_files(most + FIRST)?;
    let bases = vec![
        Base { field: "ratio_limit", contender: Contender::Limit.name() },
        Base { field: "ratio_kernel_veth", contender: Contender::KernelVeth.name() },
    ];
    let names: Vec<_> = contenders.iter().map(|contender| contender.name()).collect();
    let has_limit = contenders.contains(&Contender::Limit);
    let rule = has_limit.then(|| Rule { of: Contender::Limit.name(), factor: settings.drop_factor });
    match &rule {
        Some(rule) => eprintln!("Rule: {rule}."),
        None => eprintln!("Rule: without `limit`, no round is dropped."),
    }
    let mut sites = Sites {
        program: std::env::current_exe()?,
        runtime: settings.runtime.map(RuntimeKind::from),
        busy_poll: settings.busy_poll,
        open: HashMap::new(),
    };
    let how = How { timing: common.timing(), idle: settings.idle, polls: settings.busy_poll > 0 };
    let pause = PAUSE.min(how.timing.time);
    let rows = points.iter().map(Point::row).collect();
    let mut rounds = Rounds::new(rows, names, bases, rule);
    rounds.run(
        common.schedule(),
        |progress| eprintln!("{}", report::progress(progress)),
        |row, contender| {
            let (point, contender) = (points[row], contenders[contender]);
            if !point.scenario.applies(contender, point.nic) {
                return None;
            }
            let found = sites.measure(contender, &point, &how);
            clock::sleep(pause);
            Some(found)
        },
    );
    Ok((rounds, Provenance::new()))
}

/// What makes a process of a contender different from another.
type Key = (Contender, Nic, Pinning);

/// The contenders that serve. They idle while others are measured.
struct Sites {
    program: PathBuf,
    runtime: Option<RuntimeKind>,
    busy_poll: u64,
    /// One that could not be started is not started again.
    open: HashMap<Key, Result<Site, String>>,
}

impl Sites {
    fn measure(&mut self, contender: Contender, point: &Point, how: &How) -> io::Result<Figures> {
        let key = (contender, settings_of(contender, point.nic), point.pinning);
        if point.scenario.leaves_connections() && matches!(self.open.get(&key), Some(Ok(_))) {
            self.open.remove(&key);
        }
        if !self.open.contains_key(&key) {
            let started = self.start(key).map_err(|error| error.to_string());
            self.open.insert(key, started);
        }
        let site = match self.open.get_mut(&key) {
            Some(Ok(site)) => site,
            Some(Err(why)) => return Err(io::Error::other(why.clone())),
            None => unreachable!("it has just been inserted"),
        };
        let found = point.measure(contender, site, how);
        // A new process is better off than one that is stuck, or that has connections which nobody needs.
        if found.is_err() || point.scenario.leaves_connections() {
            self.open.remove(&key);
        }
        found
    }

    fn start(&self, (contender, nic, pinning): Key) -> io::Result<Site> {
        let runtime = self.runtime.unwrap_or_else(|| contender.runtime(nic.queues));
        let mut command = Command::new(&self.program);
        command.args(["serve", contender.name(), "--until-eof", "--runtime", Runtime::name(runtime)]);
        command.args(["--busy-poll", &self.busy_poll.to_string()]);
        command.args(["--link", &nic.to_string(), "--queues", &nic.queues.to_string()]);
        Site::start(contender, nic, pinning, command)
    }
}

/// What of an interface makes a difference to a contender.
fn settings_of(contender: Contender, nic: Nic) -> Nic {
    match contender {
        Contender::KernelVeth => Nic { mtu: nic.mtu, ..Nic::default() },
        Contender::KernelLoopback => Nic::default(),
        _ => nic,
    }
}
