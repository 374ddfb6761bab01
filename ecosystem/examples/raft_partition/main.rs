//! Three nodes of Raft in virtual time: the leader is cut off, and another one crashes.
//!
//! ```text
//! cargo run -p netstack-ecosystem --example raft_partition                 from seed 1
//! cargo run -p netstack-ecosystem --example raft_partition -- --seeds 100
//! ```
//!
//! The nodes (`node.rs`) are programs on `netstack::net`, with a TCP connection for each call. What they keep over a
//! crash is their disk. A client has values agreed on, one after the other, whatever happens meanwhile. At the end, and
//! after each fault, the logs have to agree; and no term may have had two leaders.

mod node;

use clap::Parser;
use netstack::device::LinkConfig;
use netstack::sim::Net;
use netstack_ecosystem::place::Failure;
use node::{Disk, Role, Status};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

const NODES: [(&str, &str); 3] = [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")];

/// Values that the client has agreed on.
const VALUES: u64 = 60;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Parser, Debug)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
}

/// A node as it is seen from outside.
struct Seen {
    name: &'static str,
    disk: Rc<RefCell<Disk>>,
    status: Rc<RefCell<Status>>,
}

fn main() -> Result<(), Failure> {
    for seed in 1..=Args::parse().seeds {
        run(seed).map_err(|error| format!("seed {seed}: {error}"))?;
    }
    Ok(())
}

fn run(seed: u64) -> Result<(), Failure> {
    let link: LinkConfig = "delay=5ms,jitter=4ms,loss=2%".parse()?;
    let mut net = Net::builder().seed(seed).link(link).simulation_duration(300 * SECOND).build()?;
    let mut nodes = Vec::new();
    for (name, ip) in NODES {
        let seen = Seen { name, disk: Rc::default(), status: Rc::default() };
        let (disk, status, chance) = (Rc::clone(&seen.disk), Rc::clone(&seen.status), net.seed_of(name));
        let peers: Vec<_> = NODES.iter().map(|(peer, _)| *peer).filter(|peer| *peer != name).collect();
        net.host(name, ip, move || {
            node::run(name, peers.clone(), Rc::clone(&disk), Rc::clone(&status), chance)
        })?;
        nodes.push(seen);
    }
    let names = NODES.map(|(name, _)| name);
    net.client("client", "10.0.0.9", async move {
        for value in 1..=VALUES {
            node::agree_on(&names, value).await;
        }
        Ok(())
    })?;
    let mut leaders = BTreeMap::new();

    pass(&mut net, 2 * SECOND, &nodes, &mut leaders)?;
    let first = leader(&nodes).ok_or("nobody leads after two seconds")?;
    let others: Vec<_> = names.into_iter().filter(|name| *name != first).collect();
    println!("{:>9.3?}  {first} leads; it is cut off", net.elapsed());
    others.iter().for_each(|other| net.links().partition(first, other));

    pass(&mut net, 3 * SECOND, &nodes, &mut leaders)?;
    let second = others.iter().copied().find(|name| Some(*name) == leader(&nodes));
    let second = second.ok_or("the others have not elected a leader")?;
    println!("{:>9.3?}  {second} leads; the cut is repaired", net.elapsed());
    others.iter().for_each(|other| net.links().repair(first, other));

    pass(&mut net, 2 * SECOND, &nodes, &mut leaders)?;
    let third = leader(&nodes).ok_or("nobody leads after the repair")?;
    println!("{:>9.3?}  {third} leads; it crashes", net.elapsed());
    net.crash(third);
    pass(&mut net, 2 * SECOND, &nodes, &mut leaders)?;
    println!(
        "{:>9.3?}  {} leads; {third} is switched on again",
        net.elapsed(),
        leader(&nodes).unwrap_or("nobody")
    );
    net.bounce(third)?;

    net.run().map_err(|error| error.to_string())?;
    pass(&mut net, 2 * SECOND, &nodes, &mut leaders)?;
    let log = nodes[0].disk.borrow().committed_values();
    for value in 1..=VALUES {
        if !log.contains(&value) {
            return Err(format!("{value} was agreed on, and is in no log").into());
        }
    }
    println!("{:>9.3?}  {} entries in all three logs, {} terms", net.elapsed(), log.len(), leaders.len());
    Ok(())
}

/// Lets time pass, and looks at the nodes all the while.
fn pass(
    net: &mut Net,
    time: Duration,
    nodes: &[Seen],
    leaders: &mut BTreeMap<u64, &'static str>,
) -> Result<(), Failure> {
    let end = net.elapsed() + time;
    while net.elapsed() < end {
        net.step().map_err(|error| error.to_string())?;
        for node in nodes.iter().filter(|node| node.status.borrow().role == Role::Leader) {
            let term = node.disk.borrow().term;
            let other = *leaders.entry(term).or_insert(node.name);
            if other != node.name {
                return Err(format!("{other} and {} both lead in term {term}", node.name).into());
            }
        }
        for pair in nodes.windows(2) {
            let (one, other) =
                (pair[0].disk.borrow().committed_values(), pair[1].disk.borrow().committed_values());
            let common = one.len().min(other.len());
            if one[..common] != other[..common] {
                return Err(
                    format!("{} and {} have agreed on different logs", pair[0].name, pair[1].name).into()
                );
            }
        }
    }
    Ok(())
}

/// The leader of the latest term.
fn leader(nodes: &[Seen]) -> Option<&'static str> {
    let leaders = nodes.iter().filter(|node| node.status.borrow().role == Role::Leader);
    leaders.max_by_key(|node| node.disk.borrow().term).map(|node| node.name)
}
