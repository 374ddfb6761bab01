//! Where measurements come from.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// The machine, the date and the command of a run.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// Processors and kernel.
    pub machine: String,
    /// In UTC, as `2026-11-28`.
    pub date: String,
    /// With all arguments.
    pub command: String,
}

impl Provenance {
    /// Those of this process.
    pub fn new() -> Self {
        let mut arguments = std::env::args();
        let program = arguments.next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default().to_owned();
        let command = [program].into_iter().chain(arguments).collect::<Vec<_>>().join(" ");
        let seconds = now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { machine: machine(), date: date(seconds), command }
    }
}

impl Default for Provenance {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, date, command } = self;
        write!(f, "`{command}`, {date}, {machine}")
    }
}

#[expect(clippy::disallowed_methods, reason = "the date of a measurement of real time")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let system = rustix::system::uname();
    format!(
        "{processors} × {model}, {} {}",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy()
    )
}

/// The day of a time in seconds since 1970, in the Gregorian calendar.
fn date(seconds: u64) -> String {
    let is_leap =
        |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let (mut day, mut year) = (seconds / 86_400, 1970);
    while day >= 365 + u64::from(is_leap(year)) {
        day -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_gregorian_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_767_225_599, "2025-12-31"),
            (1_795_824_000, "2026-11-28"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
