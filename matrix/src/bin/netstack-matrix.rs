//! Runs the matrix of transfers in virtual time and compares it with the model and the snapshots.

#![forbid(unsafe_code)]

use clap::Parser;
use netstack::config::CongestionName;
use netstack_matrix::cell::{Cell, Outcome};
use netstack_matrix::check::{Check, Finding};
use netstack_matrix::ideal::{Law, bounds_kbit};
use netstack_matrix::matrix::{self, Entry, Snapshots};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Runs transfers over paths of many rates, delays, losses, reorderings and queues, in virtual
/// time. Compares each with a model and with its snapshot.
///
/// Ends with status 0 if no cell fails but those on the list of known failures, if none of these has
/// recovered, and if none differs from its snapshot.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Run the short list, which the ordinary tests run as well.
    #[arg(long)]
    quick: bool,
    /// Run the sample: 60 cells of the matrix that were selected at random, always the same ones.
    #[arg(long, conflicts_with = "quick")]
    sample: bool,
    /// Write the snapshots instead of comparing with them. Faults against the model remain faults.
    #[arg(long)]
    bless: bool,
    /// Compare with the snapshots; this is the default.
    #[arg(long, conflicts_with = "bless")]
    check: bool,
    /// Only this congestion control; repeatable [default: all].
    #[arg(long, value_parser = congestion)]
    congestion: Vec<CongestionName>,
    /// Run this cell only, and print all of its results: kbit/s, RTT in microseconds, buffer in
    /// percent of the BDP, reordering in percent, loss in hundredths of a percent, packets lost in
    /// a row. It need not be in the matrix. If it is, it is compared with its snapshot and the list
    /// of known failures.
    #[arg(
        long,
        value_name = "RATE,RTT,BUFFER,REORDER,LOSS,BURST",
        conflicts_with_all = ["quick", "sample", "bless", "every"]
    )]
    cell: Option<Cell>,
    /// Run only every Nth cell of the matrix, to cover all kinds of path.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with_all = ["quick", "sample"])]
    every: usize,
    /// The directory of the snapshots and the list of known failures [default: the committed one].
    #[arg(long, value_name = "DIRECTORY")]
    snapshots: Option<PathBuf>,
    /// Print all results of each cell as it ends.
    #[arg(long)]
    verbose: bool,
    /// Threads [default: as many as there are processors].
    #[arg(long)]
    threads: Option<usize>,
}

fn congestion(name: &str) -> Result<CongestionName, String> {
    CongestionName::built_in(name).ok_or_else(|| format!("there is no congestion control `{name}`"))
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
    let directory = args.snapshots.clone().unwrap_or_else(Snapshots::directory);
    if let Some(cell) = args.cell {
        return one(&directory, chosen, cell);
    }
    let mut good = true;
    if args.quick {
        let entries: Vec<Entry> = chosen.iter().copied().flat_map(matrix::quick).collect();
        good &= compare(args, &directory, "quick", &entries, &matrix::all(matrix::quick))?;
    } else {
        for congestion in chosen {
            let all = matrix::full(*congestion);
            let entries = match args.sample {
                true => matrix::sample(*congestion),
                false => all.iter().step_by(args.every.max(1)).copied().collect(),
            };
            good &= compare(args, &directory, congestion.as_str(), &entries, &all)?;
        }
    }
    Ok(good)
}

/// Runs a single cell.
fn one(directory: &Path, chosen: &[CongestionName], cell: Cell) -> io::Result<bool> {
    let mut good = true;
    for &congestion in chosen {
        let entry = Entry { congestion, cell };
        let outcome = cell.run(congestion)?;
        let bounds = bounds_kbit(&cell, Law::of(congestion));
        println!("{congestion}: {} kbit/s of {bounds:?}, {outcome:?}", outcome.goodput_kbit());
        let check = Check::read(directory, congestion.as_str())?;
        let findings = match matrix::full(congestion).contains(&entry) {
            true => check.findings(&entry, &outcome),
            false => check.against_model(&entry, &outcome),
        };
        for finding in findings {
            println!("{finding}");
            good &= !finding.is_failure();
        }
    }
    Ok(good)
}

/// Runs `entries` and compares them with the snapshot file `name`, which contains `all`.
fn compare(args: &Args, directory: &Path, name: &str, entries: &[Entry], all: &[Entry]) -> io::Result<bool> {
    let threads = args.threads.map_or_else(|| thread::available_parallelism().map(usize::from), Ok)?;
    let path = Snapshots::path(directory, name);
    let check = Check::read(directory, name)?;
    let ended = AtomicUsize::new(0);
    let tell = |entry: &Entry, outcome: &Outcome| {
        let at = ended.fetch_add(1, Ordering::Relaxed) + 1;
        if at.is_multiple_of(100) {
            eprintln!("{name}: {at} of {}", entries.len());
        }
        if args.verbose {
            println!("{entry}: {} kbit/s, {outcome:?}", outcome.goodput_kbit());
        }
        for finding in check.findings(entry, outcome) {
            println!("{entry}: {finding}");
        }
    };
    let outcomes = matrix::run(entries, threads, tell)?;
    if args.bless {
        let mut after = Snapshots::read(&path)?;
        after.merge(Snapshots::of(&outcomes));
        after.write(&path, all)?;
    }
    let cells = |kind: fn(&Finding) -> bool| {
        let is_one = |(entry, outcome): &&(Entry, Outcome)| check.findings(entry, outcome).iter().any(kind);
        outcomes.iter().filter(is_one).count()
    };
    let faulty = cells(|finding| matches!(finding, Finding::Fault(_)));
    let known = cells(|finding| matches!(finding, Finding::Known { .. }));
    let recovered = cells(|finding| matches!(finding, Finding::Recovered));
    let differing = cells(|finding| matches!(finding, Finding::Differs { .. }));
    println!(
        "{name}: {} cells, {faulty} faulty, {known} known to fail, {recovered} recovered, {differing} {}",
        entries.len(),
        if args.bless { "blessed" } else { "differ" }
    );
    Ok(faulty == 0 && recovered == 0 && (args.bless || differing == 0))
}
