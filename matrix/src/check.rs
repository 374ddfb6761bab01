//! Checks the result of a cell: it must be as good as the model requires, unless it is a known
//! failure, and the same as its snapshot.

use crate::cell::{Cell, Outcome};
use crate::matrix::{self, Entry, Shot, Snapshots};
use netstack::config::CongestionName;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The expectations to compare outcomes with.
#[derive(Clone, Debug, Default)]
pub struct Check {
    snapshots: Snapshots,
    known: KnownFailures,
}

/// Something to report about a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is worse than the model allows.
    Fault(String),
    /// It is worse than the model allows, and listed as a known failure.
    Known {
        /// The fault against the model.
        fault: String,
        /// The reason in the list.
        reason: String,
    },
    /// It is as good as the model requires, and still listed as a known failure.
    Recovered,
    /// It differs from its snapshot, or has none.
    Differs {
        /// The snapshot.
        before: Option<Shot>,
        /// The outcome.
        now: Shot,
    },
}

impl Check {
    /// Compares with these.
    pub fn new(snapshots: Snapshots, known: KnownFailures) -> Self {
        Self { snapshots, known }
    }

    /// Compares with the snapshots called `name` and the list of known failures, both in `directory`.
    ///
    /// # Errors
    /// If one of the files cannot be read or is malformed, or if there is no list.
    pub fn read(directory: &Path, name: &str) -> io::Result<Self> {
        let known = KnownFailures::read(&KnownFailures::path(directory))?;
        Ok(Self::new(Snapshots::read(&Snapshots::path(directory, name))?, known))
    }

    /// All findings about a cell. There are none if it passes and is not a known failure.
    pub fn findings(&self, entry: &Entry, outcome: &Outcome) -> Vec<Finding> {
        let mut findings = self.against_model(entry, outcome);
        let (before, now) = (self.snapshots.get(entry), Shot::from(outcome));
        if before != Some(now) {
            findings.push(Finding::Differs { before, now });
        }
        findings
    }

    /// The findings about a cell, without comparing it with its snapshot.
    pub fn against_model(&self, entry: &Entry, outcome: &Outcome) -> Vec<Finding> {
        let faults = matrix::faults(entry, outcome);
        match self.known.reason(entry) {
            None => faults.into_iter().map(Finding::Fault).collect(),
            Some(_) if faults.is_empty() => vec![Finding::Recovered],
            Some(reason) => {
                let known = |fault| Finding::Known { fault, reason: reason.to_owned() };
                faults.into_iter().map(known).collect()
            }
        }
    }

    /// The reasons why the check of `outcomes` fails, one line each; none if it passes.
    pub fn failures(&self, outcomes: &[(Entry, Outcome)]) -> Vec<String> {
        let of_cell = |(entry, outcome): &(Entry, Outcome)| {
            let failures = self.findings(entry, outcome).into_iter().filter(Finding::is_failure);
            failures.map(|finding| format!("{entry}: {finding}")).collect::<Vec<_>>()
        };
        outcomes.iter().flat_map(of_cell).collect()
    }
}

impl Finding {
    /// Whether it makes the check fail. All findings do, except known failures. A recovered cell on
    /// the list is a failure too, because the list would hide its next failure.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Known { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "FAULT {fault}"),
            Self::Known { fault, reason } => write!(f, "KNOWN {fault} ({reason})"),
            Self::Recovered => f.write_str("RECOVERED it no longer fails: remove it from the known failures"),
            Self::Differs { before: Some(before), now } => write!(f, "DIFFERS {before:?} became {now:?}"),
            Self::Differs { before: None, now } => write!(f, "DIFFERS it has no snapshot; it is {now:?}"),
        }
    }
}

/// The cells that are known to be worse than the model allows, each with the reason.
///
/// A line of the file is a cell as in the first columns of a snapshot, a blank and the reason. Lines
/// that begin with `#` are comments.
#[derive(Clone, Debug, Default)]
pub struct KnownFailures {
    reasons: HashMap<Entry, String>,
}

impl KnownFailures {
    /// The file in a directory of snapshots.
    pub fn path(directory: &Path) -> PathBuf {
        directory.join("known-failures.txt")
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or as [`parse`](Self::parse).
    pub fn read(path: &Path) -> io::Result<Self> {
        let named = |error: String| io::Error::other(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
        Self::parse(&text).map_err(named)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// If a line names no cell of the matrix, so that it would never apply, or has no reason, or if
    /// a cell is listed twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reasons = HashMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let Some((entry, reason)) = line.split_once(char::is_whitespace) else {
                return Err(format!("`{line}` gives no reason"));
            };
            let known = in_matrix(entry).ok_or_else(|| format!("`{entry}` is no cell of the matrix"))?;
            if reasons.insert(known, reason.trim_start().to_owned()).is_some() {
                return Err(format!("`{entry}` is there twice"));
            }
        }
        Ok(Self { reasons })
    }

    /// Why a cell is known to fail, if it is.
    pub fn reason(&self, entry: &Entry) -> Option<&str> {
        self.reasons.get(entry).map(String::as_str)
    }
}

/// The cell of the matrix whose first columns in a snapshot are `text`.
fn in_matrix(text: &str) -> Option<Entry> {
    let (congestion, cell) = text.split_once(',')?;
    let congestion = CongestionName::built_in(congestion)?;
    let entry = Entry { congestion, cell: cell.parse::<Cell>().ok()? };
    matrix::full(congestion).contains(&entry).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netstack::time::Duration;

    /// A second at 965 kbit/s, of which a link of 1 Mbit/s carries no more.
    const GOOD: Outcome = Outcome {
        bytes: 120_000,
        time: Duration::from_secs(1),
        handshake: Duration::from_micros(100),
        epochs: 1,
        timeouts: 0,
        sent: 84,
        retransmitted: 1,
        lost: 1,
        refused: 0,
    };
    const SLOW: Outcome = Outcome { bytes: 30_000, ..GOOD };

    fn entry() -> Entry {
        in_matrix("reno,1000,100,100,0,0,1").expect("a cell of the matrix")
    }

    fn snapshots(outcome: Outcome) -> Snapshots {
        Snapshots::of(&[(entry(), outcome)])
    }

    fn check(snapshot: Outcome, known: &str) -> Check {
        Check::new(snapshots(snapshot), KnownFailures::parse(known).unwrap())
    }

    #[test]
    fn a_good_cell_that_is_as_it_was_passes() {
        let check = check(GOOD, "");
        assert_eq!(check.findings(&entry(), &GOOD), []);
        assert_eq!(check.failures(&[(entry(), GOOD)]), Vec::<String>::new());
    }

    #[test]
    fn each_number_of_a_snapshot_counts() {
        let now = Shot::from(&GOOD);
        let changed = [
            Shot { goodput_kbit: now.goodput_kbit + 1, ..now },
            Shot { retransmitted_bp: now.retransmitted_bp + 1, ..now },
            Shot { spurious_bp: now.spurious_bp + 1, ..now },
        ];
        for before in changed {
            let Shot { goodput_kbit, retransmitted_bp, spurious_bp } = before;
            let text = format!("columns\n{},{goodput_kbit},{retransmitted_bp},{spurious_bp}\n", entry());
            let check = Check::new(Snapshots::parse(&text).unwrap(), KnownFailures::default());
            let differs = Finding::Differs { before: Some(before), now };
            assert_eq!(check.findings(&entry(), &GOOD), [differs]);
            assert_eq!(check.failures(&[(entry(), GOOD)]).len(), 1);
        }
    }

    #[test]
    fn a_cell_without_a_snapshot_fails() {
        let check = Check::default();
        let differs = Finding::Differs { before: None, now: Shot::from(&GOOD) };
        assert_eq!(check.findings(&entry(), &GOOD), [differs]);
        assert_eq!(check.failures(&[(entry(), GOOD)]).len(), 1);
        assert_eq!(check.against_model(&entry(), &GOOD), []);
    }

    #[test]
    fn a_faulty_cell_fails_even_if_its_snapshot_says_so() {
        let failures = check(SLOW, "").failures(&[(entry(), SLOW)]);
        assert_eq!(failures.len(), 1);
        assert!(
            failures[0].starts_with("reno,1000,100,100,0,0,1: FAULT goodput of 240 kbit/s"),
            "{failures:?}"
        );
        // Another cell's reason is no excuse.
        let failures = check(SLOW, "cubic,1000,100,100,0,0,1 it is slow").failures(&[(entry(), SLOW)]);
        assert_eq!(failures.len(), 1);
    }

    #[test]
    fn a_faulty_cell_on_the_list_passes_as_long_as_it_is_as_it_was() {
        let list = "# Comment.\n\nreno,1000,100,100,0,0,1  because\n";
        let findings = check(SLOW, list).findings(&entry(), &SLOW);
        assert!(
            matches!(&findings[..], [Finding::Known { fault, reason }]
                if fault.starts_with("goodput") && reason == "because"),
            "{findings:?}"
        );
        assert_eq!(check(SLOW, list).failures(&[(entry(), SLOW)]), Vec::<String>::new());
        let slower = Outcome { bytes: 29_000, ..SLOW };
        assert_eq!(check(SLOW, list).failures(&[(entry(), slower)]).len(), 1, "worse than it was");
    }

    #[test]
    fn a_cell_on_the_list_that_is_good_fails() {
        let check = check(GOOD, "reno,1000,100,100,0,0,1 because");
        assert_eq!(check.findings(&entry(), &GOOD), [Finding::Recovered]);
        assert_eq!(check.failures(&[(entry(), GOOD)]).len(), 1);
    }

    #[test]
    fn a_list_that_does_not_say_which_cell_or_why_is_refused() {
        for (text, complaint) in [
            ("reno,1000,100,100,0,0,1", "gives no reason"),
            ("reno,1000,100,100,0,0,1   ", "gives no reason"),
            ("reno,1000,101,100,0,0,1 because", "is no cell of the matrix"),
            ("vegas,1000,100,100,0,0,1 because", "is no cell of the matrix"),
            ("1000,100,100,0,0,1 because", "is no cell of the matrix"),
            ("reno,1000,100,100,0,0,1 a\nreno,1000,100,100,0,0,1 b", "is there twice"),
        ] {
            let error = KnownFailures::parse(text).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn the_committed_list_can_be_read() {
        for congestion in ["bbr", "cubic", "reno"] {
            let check = Check::read(&Snapshots::directory(), congestion);
            assert!(check.is_ok(), "{congestion}: {:?}", check.err());
        }
    }
}
