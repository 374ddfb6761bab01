//! `recovery`: the same transfers over the same impaired paths by netstack and by the kernel.

use clap::Args;
use netstack::config::CongestionName;
use netstack::device::LinkConfig;
use netstack_benches::lane::{self, Host, Lane};
use netstack_benches::stats::median;
use netstack_examples::relay::Timing;
use serde_json::{Value, json};
use std::io;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Bit/s of every path: low enough that several transfers at a time leave the processor idle.
const RATE: u64 = 100_000_000;

/// The paths: a name, the round-trip time, further impairments of data, and the queue in tenths of
/// the bandwidth-delay product. Acknowledgments are lost, too.
const CELLS: [Path; 6] = [
    Path { name: "10ms", rtt_ms: 10, loss: 0.0, reorder: 0.0, queue_tenths: 10 },
    Path { name: "50ms loss 0.1%", rtt_ms: 50, loss: 0.001, reorder: 0.0, queue_tenths: 10 },
    Path { name: "50ms loss 1%", rtt_ms: 50, loss: 0.01, reorder: 0.0, queue_tenths: 10 },
    Path { name: "100ms reorder 5%", rtt_ms: 100, loss: 0.0, reorder: 0.05, queue_tenths: 10 },
    Path { name: "20ms queue 0.5 BDP", rtt_ms: 20, loss: 0.0, reorder: 0.0, queue_tenths: 5 },
    Path { name: "20ms queue 2 BDP", rtt_ms: 20, loss: 0.0, reorder: 0.0, queue_tenths: 20 },
];

/// The path for the test of fairness.
const SHARED: Path = Path { name: "20ms queue 1 BDP", rtt_ms: 20, loss: 0.0, reorder: 0.0, queue_tenths: 10 };

/// The pairs of hosts that share it.
const SHARERS: [[Host; 2]; 3] =
    [[Host::Netstack, Host::Netstack], [Host::Netstack, Host::Kernel], [Host::Kernel, Host::Kernel]];

/// The measured time on a shared path, and the warm-up before it.
const SHARED_TIME: u64 = 50;
const SHARED_WARM_UP: u64 = 10;

/// Jitter of acknowledgments on the shared path: somewhat more than a packet's time on the link. Without it,
/// packets leave a full queue and arrive at it in step, and who comes in front of whom is always the same (S.
/// Floyd and V. Jacobson, On Traffic Phase Effects in Packet-Switched Gateways, 1992). With much more,
/// acknowledgments come in groups.
const SHARED_JITTER: Duration = Duration::from_micros(150);

#[derive(Clone, Copy, Debug)]
struct Path {
    name: &'static str,
    rtt_ms: u64,
    loss: f64,
    reorder: f64,
    queue_tenths: u64,
}

impl Path {
    /// The impairments of data, and those of acknowledgments.
    fn links(&self, seed: u64) -> (LinkConfig, LinkConfig) {
        let delay = Duration::from_micros(self.rtt_ms * 500);
        let acks = LinkConfig { delay, loss: self.loss, seed, ..LinkConfig::default() };
        let queue = RATE / 8 * self.rtt_ms / 1_000 * self.queue_tenths / 10;
        let data = LinkConfig { reorder: self.reorder, rate: Some(RATE), queue: queue as usize, ..acks };
        (data, acks)
    }
}

/// The options of `recovery`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Recovery {
    /// Seconds of each transfer.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Transfers of each kind, with losses of the seeds 1, 2 and so on; medians and the worst are taken
    /// over them.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Transfers at a time, each in network namespaces of its own.
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// Congestion control of both senders: reno, cubic, bbr; repeatable [default: all that netstack
    /// and the kernel have].
    #[arg(long)]
    congestion: Vec<String>,
    /// Only paths whose name contains this.
    #[arg(long)]
    cell: Option<String>,
    /// Let two flows share a path for a minute instead, once for each seed (take ten), and print the mean share
    /// of the first and Jain's index.
    #[arg(long)]
    fairness: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// One transfer, or several that share a path.
#[derive(Clone, Debug, Args)]
pub(crate) struct LaneArgs {
    /// Index of the path in the list; one more is the shared one.
    #[arg(long)]
    path: usize,
    #[arg(long, value_delimiter = ',')]
    hosts: Vec<Host>,
    #[arg(long)]
    outwards: bool,
    #[arg(long)]
    congestion: String,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    warm_up: u64,
    #[arg(long)]
    seconds: u64,
}

impl LaneArgs {
    /// Runs it in this process, and prints the bytes of each flow.
    pub(crate) fn run(self) -> io::Result<()> {
        let shared = self.path >= CELLS.len();
        let path = CELLS.get(self.path).copied().unwrap_or(SHARED);
        let (data, mut acks) = path.links(self.seed);
        if shared {
            acks.jitter = SHARED_JITTER;
        }
        let bytes = lane::run(&Lane {
            hosts: self.hosts,
            outwards: self.outwards,
            congestion: self.congestion,
            data,
            acks,
            timing: if shared { Timing::Exact } else { Timing::Tick },
            warm_up: Duration::from_secs(self.warm_up),
            time: Duration::from_secs(self.seconds),
        })?;
        println!("{}", json!(bytes));
        // The threads of the lane keep running.
        std::process::exit(0);
    }

    /// Runs it in a separate process, and returns the Mbit/s of each flow.
    fn spawn(&self) -> io::Result<Vec<f64>> {
        let hosts: Vec<_> = self.hosts.iter().map(|host| host.name()).collect();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["lane", "--congestion", &self.congestion, "--hosts", &hosts.join(",")]);
        command.args(self.outwards.then_some("--outwards"));
        for (name, value) in [
            ("--path", self.path as u64),
            ("--seed", self.seed),
            ("--warm-up", self.warm_up),
            ("--seconds", self.seconds),
        ] {
            command.args([name, &value.to_string()]);
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        let bytes: Vec<u64> = serde_json::from_slice(&output.stdout)
            .map_err(|_| io::Error::other(format!("a transfer of {} has failed", hosts.join(","))))?;
        Ok(bytes.iter().map(|&bytes| bytes as f64 * 8e-6 / self.seconds as f64).collect())
    }
}

/// Runs all, `parallel` at a time, and returns the Mbit/s of each flow of each, in their order.
fn run_all(lanes: &[LaneArgs], parallel: usize) -> io::Result<Vec<Vec<f64>>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![Vec::new(); lanes.len()]);
    let work = || -> io::Result<()> {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(lane) = lanes.get(at)
        {
            let found = lane.spawn()?;
            results.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[at] = found;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..parallel.max(1)).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

impl Recovery {
    pub(crate) fn run(self) -> io::Result<()> {
        let controls = if self.congestion.is_empty() { common_controls()? } else { self.congestion.clone() };
        if self.fairness { self.fairness(&controls) } else { self.table(&controls) }
    }

    /// The table: a line for each path, direction and congestion control.
    fn table(&self, controls: &[String]) -> io::Result<()> {
        if !self.json {
            println!(
                "{:<20} {:<4} {:<6} {:>9} {:>9} {:>6}  worst: {:>8} {:>9} {:>6}",
                "cell", "", "", "netstack", "kernel", "ratio", "netstack", "kernel", "ratio"
            );
        }
        let mut lowest = None;
        for control in controls {
            for (path, cell) in CELLS.iter().enumerate() {
                if self.cell.as_ref().is_some_and(|wanted| !cell.name.contains(wanted)) {
                    continue;
                }
                for row in self.rows(control, path)? {
                    row.print(self.json);
                    let worst = row.worst_ratio();
                    if lowest.as_ref().is_none_or(|(least, _)| worst < *least) {
                        lowest = Some((worst, row));
                    }
                }
            }
        }
        if let Some((ratio, row)) = lowest {
            row.print_lowest(ratio, self.json);
        }
        Ok(())
    }

    /// The transfers over a path under one congestion control, outwards and inwards.
    fn rows(&self, control: &str, path: usize) -> io::Result<[Row; 2]> {
        let mut lanes = Vec::new();
        for outwards in [true, false] {
            for seed in 1..=self.seeds {
                // The two that are compared run at about the same time.
                for host in [Host::Netstack, Host::Kernel] {
                    lanes.push(LaneArgs {
                        path,
                        hosts: vec![host],
                        outwards,
                        congestion: control.to_owned(),
                        seed,
                        warm_up: 0,
                        seconds: self.seconds,
                    });
                }
            }
        }
        let found = run_all(&lanes, self.parallel)?;
        Ok([true, false].map(|outwards| {
            let of = |host: Host| {
                let of_both = lanes.iter().zip(&found);
                let wanted = of_both.filter(|(lane, _)| lane.outwards == outwards && lane.hosts == [host]);
                wanted.map(|(_, mbit)| mbit[0]).collect::<Vec<_>>()
            };
            Row {
                cell: CELLS[path].name,
                direction: if outwards { "out" } else { "in" },
                congestion: control.to_owned(),
                netstack: of(Host::Netstack),
                kernel: of(Host::Kernel),
            }
        }))
    }

    /// Two flows on a path. They change places from seed to seed, because the places are not quite the same:
    /// the kernel beside itself gets a little less on the first.
    fn fairness(&self, controls: &[String]) -> io::Result<()> {
        for control in controls {
            for hosts in SHARERS {
                let swapped = |seed: u64| seed.is_multiple_of(2);
                let lanes: Vec<_> = (1..=self.seeds)
                    .map(|seed| LaneArgs {
                        path: CELLS.len(),
                        hosts: if swapped(seed) { vec![hosts[1], hosts[0]] } else { hosts.to_vec() },
                        outwards: true,
                        congestion: control.clone(),
                        seed,
                        warm_up: SHARED_WARM_UP,
                        seconds: SHARED_TIME,
                    })
                    .collect();
                let mut runs = run_all(&lanes, self.parallel)?;
                runs.iter_mut()
                    .zip(1..)
                    .filter(|(_, seed)| swapped(*seed))
                    .for_each(|(run, _)| run.reverse());
                print_shares(control, hosts, &runs, self.json);
            }
        }
        Ok(())
    }
}

/// The transfers of a cell in one direction: Mbit/s, in the order of the seeds.
#[derive(Debug)]
struct Row {
    cell: &'static str,
    direction: &'static str,
    congestion: String,
    netstack: Vec<f64>,
    kernel: Vec<f64>,
}

impl Row {
    /// The slowest transfer of netstack over the slowest of the kernel.
    fn worst_ratio(&self) -> f64 {
        worst(&self.netstack) / worst(&self.kernel)
    }

    fn print(&self, json: bool) {
        let Self { cell, direction, congestion, .. } = self;
        let (netstack, kernel) = (median(&self.netstack), median(&self.kernel));
        let [netstack_worst, kernel_worst] = [&self.netstack, &self.kernel].map(|all| worst(all));
        let (ratio, worst_ratio) = (netstack / kernel, self.worst_ratio());
        if json {
            let line = json!({
                "test": "recovery", "cell": cell, "direction": direction, "congestion": congestion,
                "netstack": round(netstack), "kernel": round(kernel), "ratio": round(ratio),
                "netstack_worst": round(netstack_worst), "kernel_worst": round(kernel_worst),
                "worst_ratio": round(worst_ratio),
                "netstack_all": rounded(&self.netstack), "kernel_all": rounded(&self.kernel),
            });
            println!("{line}");
        } else {
            println!(
                "{cell:<20} {direction:<4} {congestion:<6} {netstack:>9.2} {kernel:>9.2} {ratio:>6.3}  \
                 {netstack_worst:>15.2} {kernel_worst:>9.2} {worst_ratio:>6.3}"
            );
        }
    }

    /// The summary: this is the row with the lowest ratio of the worst transfers.
    fn print_lowest(&self, ratio: f64, json: bool) {
        let Self { cell, direction, congestion, .. } = self;
        if json {
            let line = json!({
                "test": "recovery", "summary": "lowest worst_ratio", "cell": cell, "direction": direction,
                "congestion": congestion, "worst_ratio": round(ratio),
            });
            println!("{line}");
        } else {
            println!("lowest ratio of the worst transfers: {ratio:.3} ({cell} {direction} {congestion})");
        }
    }
}

/// The runs of two flows that shared a path: Mbit/s of each flow in each run.
fn print_shares(congestion: &str, hosts: [Host; 2], runs: &[Vec<f64>], json: bool) {
    let names = hosts.map(Host::name);
    let shares: Vec<_> = runs.iter().map(|mbit| mbit[0] / mbit.iter().sum::<f64>()).collect();
    let indices: Vec<_> = runs.iter().map(|mbit| jain(mbit)).collect();
    let (share, index) = (mean(&shares), mean(&indices));
    let [least, most] = [worst(&shares), shares.iter().copied().fold(0.0, f64::max)];
    if json {
        let line = json!({
            "test": "fairness", "cell": SHARED.name, "hosts": names, "congestion": congestion,
            "mbit_all": runs.iter().map(|mbit| rounded(mbit)).collect::<Value>(),
            "share": round(share), "share_all": rounded(&shares),
            "jain": round(index), "jain_all": rounded(&indices),
        });
        println!("{line}");
    } else {
        println!(
            "{congestion:<6} {:<20} {:>5.1} % ({:.1} to {:.1}) to the first, index {index:.3}",
            names.join(" + "),
            100.0 * share,
            100.0 * least,
            100.0 * most
        );
    }
}

/// When one flow loses a packet and the other does not is chance, and there are about ten losses a minute: of
/// single runs the shares differ by some ten percent, so that only their mean says something.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The least of them.
fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Jain's index of fairness: 1 if all are equal.
fn jain(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    sum * sum / (values.len() as f64 * squares)
}

/// The congestion controls of netstack that the kernel has, too.
fn common_controls() -> io::Result<Vec<String>> {
    let kernels = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control")?;
    let ours = |name: &&str| CongestionName::built_in(name).is_some();
    Ok(kernels.split_whitespace().filter(ours).map(str::to_owned).collect())
}

fn rounded(values: &[f64]) -> Value {
    values.iter().map(|&value| round(value)).collect()
}

/// No measurement here has more than three digits after the point.
fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
