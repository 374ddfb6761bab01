//! The matrix of all cells, its snapshots, and what each cell is held against.

use crate::cell::{self, BUFFER, Cell, Outcome, PACKET};
use crate::ideal::{self, Law, bounds_kbit};
use netstack::config::CongestionName;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// In kbit/s.
const RATES: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// In microseconds.
const ROUND_TRIPS: [u64; 3] = [100, 20_000, 300_000];
/// In hundredths of the product of bandwidth and delay.
const BUFFERS: [u64; 3] = [10, 100, 400];
/// In percent.
const REORDERINGS: [u64; 3] = [0, 5, 30];
/// In hundredths of a percent.
const LOSSES: [u64; 5] = [0, 1, 10, 100, 500];
/// Packets lost in a row, on average.
const BURSTS: [u64; 2] = [1, 4];

/// Retransmissions of what was not lost, in hundredths of a percent: so many are in order. Where
/// nothing is reordered they are those that a time-out or a probe sends in doubt.
const SPURIOUS_BP: u64 = 100;
/// The same where packets are reordered.
const SPURIOUS_REORDERED_BP: u64 = 200;
/// Retransmissions of what was not lost, in segments, that are in order however short a cell is.
const SPURIOUS_SEGMENTS: u64 = 40;

/// A cell under a congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The congestion control of the sender.
    pub congestion: CongestionName,
    /// The path.
    pub cell: Cell,
}

/// What a snapshot remembers of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// Payload in kbit/s.
    pub goodput_kbit: u64,
    /// Retransmissions in hundredths of a percent of what arrived.
    pub retransmitted_bp: u64,
    /// The same of those that were not needed.
    pub spurious_bp: u64,
}

impl From<&Outcome> for Shot {
    fn from(outcome: &Outcome) -> Self {
        Self {
            goodput_kbit: outcome.goodput_kbit(),
            retransmitted_bp: outcome.retransmitted_bp(),
            spurious_bp: outcome.spurious_bp(),
        }
    }
}

/// All cells under `congestion`.
pub fn full(congestion: CongestionName) -> Vec<Entry> {
    let mut cells = Vec::new();
    for rate_kbit in RATES {
        for rtt_us in ROUND_TRIPS {
            for buffer_percent in BUFFERS {
                for reorder_percent in REORDERINGS {
                    for loss_bp in LOSSES {
                        // What does not happen does not happen in bursts.
                        for burst in BURSTS.into_iter().filter(|burst| loss_bp > 0 || *burst == 1) {
                            let cell =
                                Cell { rate_kbit, rtt_us, buffer_percent, reorder_percent, loss_bp, burst };
                            cells.push(Entry { congestion, cell });
                        }
                    }
                }
            }
        }
    }
    cells
}

/// The cells that the ordinary tests run: a few of each kind, none of which takes long.
pub fn quick(congestion: CongestionName) -> Vec<Entry> {
    let cell = |rate_kbit, rtt_us, buffer_percent, reorder_percent, loss_bp, burst| Cell {
        rate_kbit,
        rtt_us,
        buffer_percent,
        reorder_percent,
        loss_bp,
        burst,
    };
    [
        // A slow link with nothing but its own queue, short and long.
        cell(1_000, 10_000, 100, 0, 0, 1),
        cell(1_000, 50_000, 400, 0, 0, 1),
        cell(10_000, 50_000, 50, 0, 0, 1),
        cell(10_000, 50_000, 100, 0, 0, 1),
        cell(10_000, 300_000, 100, 0, 0, 1),
        // Random loss over three orders of magnitude of rate.
        cell(1_000, 50_000, 100, 0, 100, 1),
        cell(10_000, 50_000, 100, 0, 10, 1),
        cell(100_000, 50_000, 100, 0, 100, 1),
        cell(100_000, 10_000, 100, 0, 100, 1),
        cell(1_000_000, 10_000, 100, 0, 100, 1),
        cell(10_000_000, 50_000, 100, 0, 100, 1),
        // A far path, and a near one.
        cell(100_000, 300_000, 100, 0, 100, 1),
        cell(1_000_000, 100, 100, 0, 100, 1),
        // As bad as it gets.
        cell(10_000, 50_000, 100, 0, 500, 1),
        cell(100_000, 300_000, 100, 0, 500, 1),
        cell(1_000_000, 10_000, 10, 0, 500, 1),
        // Losses in a row.
        cell(10_000, 50_000, 100, 0, 100, 4),
        cell(100_000, 10_000, 100, 0, 100, 4),
        cell(100_000, 50_000, 100, 0, 500, 4),
        // Reordering, alone and with loss.
        cell(1_000, 50_000, 100, 5, 0, 1),
        cell(10_000, 10_000, 100, 30, 0, 1),
        cell(10_000, 50_000, 100, 5, 100, 1),
        cell(100_000, 50_000, 100, 5, 100, 1),
        cell(1_000, 50_000, 100, 30, 100, 1),
        cell(10_000, 50_000, 100, 30, 100, 4),
    ]
    .map(|cell| Entry { congestion, cell })
    .to_vec()
}

/// The same list under every congestion control that there is.
pub fn all(list: fn(CongestionName) -> Vec<Entry>) -> Vec<Entry> {
    CongestionName::BUILT_IN.into_iter().flat_map(list).collect()
}

/// Runs `entries` on `threads` threads, the longest first, and gives what came of them, in their order.
/// Each is told to `done` as it ends.
///
/// # Errors
/// The first failure of a connection.
pub fn run(
    entries: &[Entry],
    threads: usize,
    done: impl Fn(&Entry, &Outcome) + Sync,
) -> io::Result<Vec<(Entry, Outcome)>> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    let packets = |at: &usize| ideal::packets(&entries[*at].cell, Law::of(entries[*at].congestion));
    order.sort_by_cached_key(|at| std::cmp::Reverse(packets(at)));
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<Vec<(usize, Outcome)>> {
        let mut outcomes = Vec::new();
        loop {
            let Some(&at) = order.get(next.fetch_add(1, Ordering::Relaxed)) else { return Ok(outcomes) };
            let entry = &entries[at];
            let outcome = entry.cell.run(entry.congestion)?;
            done(entry, &outcome);
            outcomes.push((at, outcome));
        }
    };
    let mut outcomes = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let joined = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect::<io::Result<Vec<_>>>().map(|parts| parts.concat())
    })?;
    outcomes.sort_by_key(|(at, _)| *at);
    Ok(outcomes.into_iter().map(|(at, outcome)| (entries[at], outcome)).collect())
}

/// What is wrong with an outcome by itself, whatever a snapshot says.
pub fn faults(entry: &Entry, outcome: &Outcome) -> Vec<String> {
    let Entry { congestion, cell } = entry;
    let mut faults = Vec::new();
    let bounds = bounds_kbit(cell, Law::of(*congestion));
    // A SYN that is lost says nothing of the transfer.
    let goodput = outcome.connected_kbit(cell.rtt());
    if !bounds.contains(&goodput) {
        faults.push(format!(
            "goodput of {goodput} kbit/s is not within {} to {}",
            bounds.start(),
            bounds.end()
        ));
    }
    let spurious_bp = if cell.reorder_percent > 0 { SPURIOUS_REORDERED_BP } else { SPURIOUS_BP };
    let allowed = outcome.sent * spurious_bp / 10_000 + SPURIOUS_SEGMENTS + learning(cell);
    let spurious = outcome.spurious();
    if spurious > allowed {
        faults.push(format!(
            "{} segments were retransmitted, {} lost and {} refused: {spurious} in vain, {allowed} allowed",
            outcome.retransmitted, outcome.lost, outcome.refused
        ));
    }
    faults
}

/// Segments that are sent again in vain before a path is known to reorder: what overtakes is ahead of
/// half a round trip's worth, and all of that is taken for lost, once.
fn learning(cell: &Cell) -> u64 {
    let overtaken = cell.bdp().min(BUFFER as u64 / 2) / PACKET / 2;
    if cell.reorder_percent > 0 { overtaken } else { 0 }
}

/// A file of snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Snapshots {
    lines: BTreeMap<String, Shot>,
}

impl Snapshots {
    /// The file of a name, `quick` or that of a congestion control.
    pub fn path(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots").join(format!("{name}.csv"))
    }

    /// What `outcomes` are.
    pub fn of(outcomes: &[(Entry, Outcome)]) -> Self {
        let line = |(entry, outcome): &(Entry, Outcome)| (entry.to_string(), outcome.into());
        Self { lines: outcomes.iter().map(line).collect() }
    }

    /// Takes over what is newer.
    pub fn merge(&mut self, newer: Self) {
        self.lines.extend(newer.lines);
    }

    /// Reads a file; one that is not there holds nothing.
    ///
    /// # Errors
    /// If it cannot be read, or is no file of snapshots.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut lines = BTreeMap::new();
        for line in text.lines().skip(1) {
            let wrong = || io::Error::other(format!("{}: `{line}` is no snapshot", path.display()));
            let mut from_end = line.rsplitn(4, ',');
            let mut number = || from_end.next().and_then(|number| number.parse().ok());
            let (Some(spurious_bp), Some(retransmitted_bp), Some(goodput_kbit)) =
                (number(), number(), number())
            else {
                return Err(wrong());
            };
            let entry = from_end.next().ok_or_else(wrong)?;
            lines.insert(entry.to_owned(), Shot { goodput_kbit, retransmitted_bp, spurious_bp });
        }
        Ok(Self { lines })
    }

    /// Writes a file, in the order of `entries`.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&self, path: &Path, entries: &[Entry]) -> io::Result<()> {
        let mut text = format!("congestion,{},goodput_kbit,retransmitted_bp,spurious_bp\n", cell::COLUMNS);
        for entry in entries {
            if let Some(shot) = self.lines.get(&entry.to_string()) {
                let Shot { goodput_kbit, retransmitted_bp, spurious_bp } = shot;
                let _ = writeln!(text, "{entry},{goodput_kbit},{retransmitted_bp},{spurious_bp}");
            }
        }
        std::fs::write(path, text)
    }

    /// What is different from the snapshots for `outcomes`, one line each.
    pub fn differences(&self, outcomes: &[(Entry, Outcome)]) -> Vec<String> {
        let difference = |(entry, outcome): &(Entry, Outcome)| {
            let (now, before) = (Shot::from(outcome), self.lines.get(&entry.to_string()));
            match before {
                Some(before) if *before == now => None,
                Some(before) => Some(format!("{entry}: {before:?} became {now:?}")),
                None => Some(format!("{entry}: has no snapshot; it is {now:?}")),
            }
        };
        outcomes.iter().filter_map(difference).collect()
    }
}

impl std::fmt::Display for Entry {
    /// As the first columns of a snapshot.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.congestion, self.cell)
    }
}
