//! The options that several commands have.

use clap::{Args, ValueEnum};
use netstack_benches::client::Timing;
use netstack_benches::report::{self, Provenance};
use netstack_benches::rounds::{Rounds, Schedule};
use netstack_benches::serve::RuntimeKind;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Files of this process beside its connections.
const OTHER_FILES: u64 = 512;

/// When, how long and where to.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// Rounds at most. Each round measures all contenders in all rows.
    #[arg(long, default_value_t = 7)]
    pub(crate) rounds: usize,
    /// Minutes after which no round ends, but for the first.
    #[arg(long, value_name = "MINUTES", value_parser = positive)]
    pub(crate) budget: Option<f64>,
    /// Seconds of each measurement, after a warm-up of as long, or of half a second if that is less.
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub(crate) seconds: f64,
    /// Write all measurements and summaries to this file, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw medians and spreads.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|value| (0.001..=100_000.0).contains(value))
        .ok_or("a positive number".to_owned())
}

impl Common {
    pub(crate) fn schedule(&self) -> Schedule {
        let budget = self.budget.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
        Schedule { rounds: self.rounds, budget }
    }

    pub(crate) fn timing(&self) -> Timing {
        Timing::new(Duration::from_secs_f64(self.seconds))
    }

    /// Writes the files that were asked for.
    pub(crate) fn write(&self, rounds: &Rounds, provenance: &Provenance) -> io::Result<()> {
        let files = [
            (&self.json, report::json_lines as fn(&_, &_) -> _),
            (&self.svg, report::svg as fn(&_, &_) -> _),
        ];
        for (path, text) in files {
            let Some(path) = path else { continue };
            std::fs::write(path, text(rounds, provenance))
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
            eprintln!("wrote {}", path.display());
        }
        Ok(())
    }
}

/// The kind of tokio runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runtime {
    /// One thread.
    Current,
    /// Two workers.
    Multi,
}

impl Runtime {
    pub(crate) const fn name(kind: RuntimeKind) -> &'static str {
        match kind {
            RuntimeKind::Current => "current",
            RuntimeKind::Multi => "multi",
        }
    }
}

impl From<Runtime> for RuntimeKind {
    fn from(runtime: Runtime) -> Self {
        match runtime {
            Runtime::Current => Self::Current,
            Runtime::Multi => Self::Multi,
        }
    }
}

/// Lets this process and its children open `connections` sockets.
pub(crate) fn allow_files(connections: usize) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + OTHER_FILES;
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).map_err(|err| {
            let text = format!("{connections} connections take as many open files (ulimit -n): {err}");
            io::Error::new(io::Error::from(err).kind(), text)
        })?;
    }
    Ok(())
}
