//! What is said of a seed that fails: the command that repeats it, the smallest plan that still fails, and
//! files with the packets and the histories of the connections.

use crate::plan::{Part, Plan, parts};
use crate::watchdog;
use crate::world::{Summary, World};
use netstack::Config;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// Runs while a plan is made smaller, at most.
const MOST_RUNS: usize = 150;

/// Runs a plan.
pub(crate) fn run(plan: &Plan) -> Result<Summary, String> {
    watchdog::begin(plan.seed);
    let outcome = World::new(plan.clone(), None).run();
    watchdog::end();
    outcome
}

/// What kind of failure a message is of: its words without numbers, names and details.
fn class(message: &str) -> String {
    let after_time = message.split_once(" s: ").map_or(message, |(_, rest)| rest);
    let words = after_time.split_whitespace().filter(|word| word.chars().all(|c| c.is_ascii_lowercase()));
    words.take(3).collect::<Vec<_>>().join(" ")
}

/// Leaves out what a failure does not need.
fn shrink(plan: &Plan, message: &str) -> (Plan, String) {
    let (mut smallest, mut says) = (plan.clone(), message.to_owned());
    let wanted = class(message);
    let mut runs = 0;
    loop {
        let before = smallest.without.len();
        for part in parts(&smallest) {
            let Some(smaller) = smallest.without(part) else { continue };
            runs += 1;
            if runs > MOST_RUNS {
                return (smallest, says);
            }
            if let Err(message) = run(&smaller)
                && class(&message) == wanted
            {
                (smallest, says) = (smaller, message);
            }
        }
        if smallest.without.len() == before {
            return (smallest, says);
        }
    }
}

/// The command that runs a plan.
pub(crate) fn command(plan: &Plan) -> String {
    let seed = plan.seed;
    let mut command = format!("NETSTACK_SEEDS={seed}..{} ", seed + 1);
    if !plan.without.is_empty() {
        let parts: Vec<_> = plan.without.iter().map(Part::to_string).collect();
        let _ = write!(command, "NETSTACK_WITHOUT={} ", parts.join(","));
    }
    command + "cargo test --release -p netstack --test simulation seeds"
}

/// Reports a seed that failed.
pub(crate) fn report(plan: &Plan, message: &str) -> String {
    let mut text = format!("seed {}: {message}\n  again:    {}\n", plan.seed, command(plan));
    let (smallest, says) = shrink(plan, message);
    let _ = writeln!(text, "  smallest: {}\n  {says}", command(&smallest));
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("simulation/{}", plan.seed));
    let _ = fs::remove_dir_all(&directory);
    if let Err(error) = fs::create_dir_all(&directory) {
        let _ = writeln!(text, "  {}: {error}", directory.display());
        return text;
    }
    watchdog::begin(plan.seed);
    let mut world = World::new(smallest.clone(), Some(directory.clone()));
    let outcome = world.run();
    let histories = world.histories();
    drop(world);
    watchdog::end();
    let _ = fs::write(directory.join("histories.txt"), histories.join("\n"));
    let _ = fs::write(directory.join("plan.txt"), format!("{}\n\n{outcome:?}\n", describe(&smallest)));
    let _ = writeln!(text, "  captures, histories and the plan: {}", directory.display());
    text + &describe(&smallest)
}

/// A plan in words.
pub(crate) fn describe(plan: &Plan) -> String {
    let mut text = String::new();
    for (host, it) in plan.hosts.iter().enumerate() {
        let crate::plan::HostPlan {
            config,
            offloads,
            mtu,
            ring,
            receive_ring,
            rate,
            ambush,
            singly,
            idle_flows,
        } = it;
        let plain = Config::default();
        let unusual: Vec<_> = Config::keys()
            .iter()
            .filter(|key| config.get(key) != plain.get(key))
            .map(|key| format!("{key}={}", config.get(key).unwrap_or_default()))
            .collect();
        let _ = writeln!(
            text,
            "  host {host}: offloads {offloads}, MTU {mtu}, rings {ring} and {receive_ring}, rate {rate:?}, \
             ambush {ambush}, singly {singly}, flows end after {idle_flows} ms; {}",
            unusual.join(" ")
        );
    }
    for (from, row) in plan.paths.iter().enumerate() {
        for (to, path) in row.iter().enumerate().filter(|(to, _)| *to != from) {
            let _ = writeln!(text, "  {from} -> {to}: {path:?}");
        }
    }
    for talk in &plan.talks {
        let _ = writeln!(text, "  {talk:?}");
    }
    for chat in &plan.chats {
        let _ = writeln!(text, "  {chat:?}");
    }
    for fault in &plan.faults {
        let _ = writeln!(text, "  {fault:?}");
    }
    text
}
