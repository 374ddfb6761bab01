//! Runs the matrix of transfers in virtual time and holds it against the model and the snapshots.

#![forbid(unsafe_code)]

use clap::Parser;
use netstack::config::CongestionName;
use netstack_sim::cell::{Cell, Outcome};
use netstack_sim::ideal::{Law, bounds_kbit};
use netstack_sim::matrix::{self, Entry, Snapshots};
use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Transfers over paths of many rates, delays, losses, reorderings and queues, in virtual time. Each is
/// held against a model and against its snapshot.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Run the short list, which the ordinary tests run as well.
    #[arg(long)]
    quick: bool,
    /// Write the snapshots instead of comparing with them. Faults against the model remain faults.
    #[arg(long)]
    bless: bool,
    /// Compare with the snapshots; this is the default.
    #[arg(long, conflicts_with = "bless")]
    check: bool,
    /// Only this congestion control; repeatable [default: all].
    #[arg(long, value_parser = congestion)]
    congestion: Vec<CongestionName>,
    /// Run this one cell and tell all of it: kbit/s, RTT in microseconds, buffer in percent of the BDP,
    /// reordering in percent, loss in hundredths of a percent, packets lost in a row.
    #[arg(long, value_name = "RATE,RTT,BUFFER,REORDER,LOSS,BURST")]
    cell: Option<Cell>,
    /// Only every so manieth cell of the matrix, for a look at all kinds of path.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "quick")]
    sample: usize,
    /// Tell all of each cell as it ends.
    #[arg(long)]
    verbose: bool,
    /// Threads [default: as many as there are processors].
    #[arg(long)]
    threads: Option<usize>,
}

fn congestion(name: &str) -> Result<CongestionName, String> {
    let known = CongestionName::BUILT_IN.into_iter().find(|known| *known == name);
    known.ok_or_else(|| format!("there is no congestion control `{name}`"))
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<bool> {
    let chosen = if args.congestion.is_empty() { &CongestionName::BUILT_IN[..] } else { &args.congestion };
    if let Some(cell) = args.cell {
        return one(chosen, cell);
    }
    let mut good = true;
    if args.quick {
        let entries: Vec<Entry> = chosen.iter().copied().flat_map(matrix::quick).collect();
        good &= compare(args, "quick", &entries)?;
    } else {
        for congestion in chosen {
            let entries = matrix::full(*congestion);
            let sample: Vec<Entry> = entries.into_iter().step_by(args.sample.max(1)).collect();
            good &= compare(args, congestion.as_str(), &sample)?;
        }
    }
    Ok(good)
}

/// Runs a single cell.
fn one(chosen: &[CongestionName], cell: Cell) -> io::Result<bool> {
    let mut good = true;
    for &congestion in chosen {
        let outcome = cell.run(congestion)?;
        let bounds = bounds_kbit(&cell, Law::of(congestion));
        println!("{congestion}: {} kbit/s of {bounds:?}, {outcome:?}", outcome.goodput_kbit());
        for fault in matrix::faults(&Entry { congestion, cell }, &outcome) {
            println!("FAULT {fault}");
            good = false;
        }
    }
    Ok(good)
}

/// Runs `entries` and compares them with the file of snapshots called `name`.
fn compare(args: &Args, name: &str, entries: &[Entry]) -> io::Result<bool> {
    let threads = args.threads.map_or_else(|| thread::available_parallelism().map(usize::from), Ok)?;
    let ended = AtomicUsize::new(0);
    let tell = |entry: &Entry, outcome: &Outcome| {
        let at = ended.fetch_add(1, Ordering::Relaxed) + 1;
        if at.is_multiple_of(100) {
            eprintln!("{name}: {at} of {}", entries.len());
        }
        if args.verbose {
            println!("{entry}: {} kbit/s, {outcome:?}", outcome.goodput_kbit());
        }
        for fault in matrix::faults(entry, outcome) {
            println!("FAULT {entry}: {fault}");
        }
    };
    let outcomes = matrix::run(entries, threads, tell)?;
    let faulty =
        outcomes.iter().filter(|(entry, outcome)| !matrix::faults(entry, outcome).is_empty()).count();
    let path = Snapshots::path(name);
    let before = Snapshots::read(&path)?;
    let differences = before.differences(&outcomes);
    for difference in &differences {
        println!("{} {difference}", if args.bless { "BLESSED" } else { "DIFFERS" });
    }
    if args.bless {
        let mut after = before;
        after.merge(Snapshots::of(&outcomes));
        let all = if args.quick { matrix::all(matrix::quick) } else { entries.to_vec() };
        after.write(&path, &all)?;
    }
    println!("{name}: {} cells, {faulty} faulty, {} differ", entries.len(), differences.len());
    Ok(faulty == 0 && (args.bless || differences.is_empty()))
}
