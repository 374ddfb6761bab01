//! The matrix of all cells, its snapshots, and the limits of each cell.

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
/// In percent of the bandwidth-delay product.
const BUFFERS: [u64; 3] = [10, 100, 400];
/// In percent.
const REORDERINGS: [u64; 3] = [0, 5, 30];
/// In hundredths of a percent.
const LOSSES: [u64; 5] = [0, 1, 10, 100, 500];
/// Packets lost in a row, on average.
const BURSTS: [u64; 2] = [1, 4];

/// Spurious retransmissions that are acceptable, in hundredths of a percent. Without reordering,
/// these are the ones that a timeout or a probe sends when an acknowledgment is missing.
const SPURIOUS_BP: u64 = 100;
/// The same with reordering.
const SPURIOUS_REORDERED_BP: u64 = 200;
/// Spurious retransmissions that are acceptable in a cell of any length, in segments.
const SPURIOUS_SEGMENTS: u64 = 40;

/// Cells of the sample, for each congestion control and rate.
const SAMPLE_CELLS: usize = 4;
/// The seed of the sample. With this one, the sample contains each value of each axis for each
/// congestion control, which a test requires.
const SAMPLE_SEED: u64 = 3;

/// A cell under a congestion control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The congestion control of the sender.
    pub congestion: CongestionName,
    /// The path.
    pub cell: Cell,
}

/// The result of a cell that a snapshot contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// Payload in kbit/s.
    pub goodput_kbit: u64,
    /// Retransmissions in hundredths of a percent of what arrived.
    pub retransmitted_bp: u64,
    /// Spurious retransmissions, in the same unit.
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
                        // Without losses there are no bursts.
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
        // A slow link without impairments, with a short and a long queue.
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
        // A long path, and a short one.
        cell(100_000, 300_000, 100, 0, 100, 1),
        cell(1_000_000, 100, 100, 0, 100, 1),
        // The worst path.
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

/// The sample, which `.ci/run` runs: randomly selected cells of the matrix beyond the short list,
/// the same number for each rate.
pub fn sample(congestion: CongestionName) -> Vec<Entry> {
    let quick = quick(congestion);
    let mut entries = full(congestion);
    entries.retain(|entry| !quick.contains(entry));
    entries.sort_by_cached_key(|entry| entry.lot(SAMPLE_SEED));
    let of_rate = |rate_kbit| {
        let entries = entries.iter().filter(move |entry| entry.cell.rate_kbit == rate_kbit);
        entries.take(SAMPLE_CELLS).copied()
    };
    RATES.into_iter().flat_map(of_rate).collect()
}

/// The same list under every congestion control.
pub fn all(list: fn(CongestionName) -> Vec<Entry>) -> Vec<Entry> {
    CongestionName::BUILT_IN.into_iter().flat_map(list).collect()
}

/// Runs `entries` on `threads` threads, the longest first, and returns the outcomes in the same
/// order. `done` is called with each as it ends.
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

/// The faults of an outcome against the model.
pub fn faults(entry: &Entry, outcome: &Outcome) -> Vec<String> {
    let Entry { congestion, cell } = entry;
    let mut faults = Vec::new();
    let bounds = bounds_kbit(cell, Law::of(*congestion));
    // A lost SYN says nothing about the transfer.
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
            "{} segments were retransmitted, {} lost and {} refused: {spurious} spuriously, {allowed} allowed",
            outcome.retransmitted, outcome.lost, outcome.refused
        ));
    }
    faults
}

/// Spurious retransmissions before a path is known to reorder: a packet that overtakes is ahead of half
/// a round trip's worth of segments, and all of them are considered lost, once.
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
    /// The directory of the committed files.
    pub fn directory() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots")
    }

    /// The file of a name in a directory: `quick`, or that of a congestion control.
    pub fn path(directory: &Path, name: &str) -> PathBuf {
        directory.join(format!("{name}.csv"))
    }

    /// The snapshots of `outcomes`.
    pub fn of(outcomes: &[(Entry, Outcome)]) -> Self {
        let line = |(entry, outcome): &(Entry, Outcome)| (entry.to_string(), outcome.into());
        Self { lines: outcomes.iter().map(line).collect() }
    }

    /// The snapshot of a cell.
    pub fn get(&self, entry: &Entry) -> Option<Shot> {
        self.lines.get(&entry.to_string()).copied()
    }

    /// Replaces and adds snapshots.
    pub fn merge(&mut self, newer: Self) {
        self.lines.extend(newer.lines);
    }

    /// Reads a file. A missing file is like an empty one.
    ///
    /// # Errors
    /// If it cannot be read, or is not a file of snapshots.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        Self::parse(&text).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// If a line is not a snapshot, or is for the same cell as another one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = BTreeMap::new();
        for line in text.lines().skip(1) {
            let wrong = || format!("`{line}` is no snapshot");
            let mut from_end = line.rsplitn(4, ',');
            let mut number = || from_end.next().and_then(|number| number.parse().ok());
            let (Some(spurious_bp), Some(retransmitted_bp), Some(goodput_kbit)) =
                (number(), number(), number())
            else {
                return Err(wrong());
            };
            let entry = from_end.next().ok_or_else(wrong)?;
            let shot = Shot { goodput_kbit, retransmitted_bp, spurious_bp };
            if lines.insert(entry.to_owned(), shot).is_some() {
                return Err(format!("`{line}` is another snapshot of its cell"));
            }
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
}

impl Entry {
    /// A pseudo-random number, which is the same for the same cell, congestion control and `seed`.
    fn lot(&self, seed: u64) -> u64 {
        let name = self.congestion.as_str().bytes();
        let parts = name.fold(seed, |hash, byte| mix(hash ^ u64::from(byte)));
        mix(parts ^ self.cell.seed())
    }
}

/// Spreads what distinguishes two numbers over all of their bits (the output function of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

impl std::fmt::Display for Entry {
    /// As the first columns of a snapshot.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.congestion, self.cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn axes(entries: &[Entry]) -> BTreeSet<(&'static str, u64)> {
        let axes = |entry: &Entry| {
            let Cell { rate_kbit, rtt_us, buffer_percent, reorder_percent, loss_bp, burst } = entry.cell;
            [
                ("rate", rate_kbit),
                ("round trip", rtt_us),
                ("buffer", buffer_percent),
                ("reordering", reorder_percent),
                ("loss", loss_bp),
                ("burst", burst),
            ]
        };
        entries.iter().flat_map(axes).collect()
    }

    #[test]
    fn the_sample_has_sixty_cells_and_each_value_of_each_axis() {
        for congestion in CongestionName::BUILT_IN {
            let (full, quick, sample) = (full(congestion), quick(congestion), sample(congestion));
            let different: BTreeSet<String> = sample.iter().map(Entry::to_string).collect();
            assert_eq!(different.len(), 20);
            assert!(sample.iter().all(|entry| full.contains(entry) && !quick.contains(entry)));
            assert_eq!(axes(&sample), axes(&full), "{}", congestion.as_str());
        }
        assert_eq!(all(sample).len(), 60);
    }

    #[test]
    fn congestion_controls_draw_different_cells() {
        let cells = |congestion| sample(congestion).into_iter().map(|entry| entry.cell).collect::<Vec<_>>();
        assert_ne!(cells(CongestionName::RENO), cells(CongestionName::CUBIC));
    }

    #[test]
    fn each_cell_has_a_committed_snapshot_and_each_snapshot_a_cell() {
        let lists = CongestionName::BUILT_IN.map(|congestion| (congestion.to_string(), full(congestion)));
        for (name, entries) in lists.into_iter().chain([("quick".to_owned(), all(quick))]) {
            let snapshots = Snapshots::read(&Snapshots::path(&Snapshots::directory(), &name)).unwrap();
            let cells: BTreeSet<String> = entries.iter().map(Entry::to_string).collect();
            assert!(snapshots.lines.keys().eq(&cells), "{name}");
        }
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        for (text, complaint) in [
            ("columns\nreno,965,116", "is no snapshot"),
            ("columns\n965,116,0", "is no snapshot"),
            ("columns\nreno,1,2,3,4,5,6,965,116,x", "is no snapshot"),
            ("columns\nreno,1,2,3,4,5,6,1,2,3\nreno,1,2,3,4,5,6,1,2,3", "another snapshot of its cell"),
        ] {
            let error = Snapshots::parse(text).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
