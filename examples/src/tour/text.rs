//! The texts of the ladder: results of calls, times.

use super::host::Outcome;
use std::io;
use std::time::Duration;

/// The result of a call, written as in a man page.
pub(super) fn outcome<T: Outcome>(result: &io::Result<T>) -> String {
    match result {
        Ok(value) => value.text(),
        Err(error) => errno(error),
    }
}

/// The name of the OS error in `error`, or its text if it is none.
pub fn errno(error: &io::Error) -> String {
    let names = [
        (libc_errno::EPIPE, "EPIPE"),
        (libc_errno::EADDRINUSE, "EADDRINUSE"),
        (libc_errno::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (libc_errno::ENETUNREACH, "ENETUNREACH"),
        (libc_errno::ECONNABORTED, "ECONNABORTED"),
        (libc_errno::ECONNRESET, "ECONNRESET"),
        (libc_errno::ENOTCONN, "ENOTCONN"),
        (libc_errno::ETIMEDOUT, "ETIMEDOUT"),
        (libc_errno::ECONNREFUSED, "ECONNREFUSED"),
        (libc_errno::EHOSTUNREACH, "EHOSTUNREACH"),
    ];
    let known = error.raw_os_error().and_then(|os| names.iter().find(|(number, _)| *number == os));
    known.map_or_else(|| error.to_string(), |(_, name)| (*name).to_owned())
}

/// The error numbers of Linux that occur in the tour (asm-generic/errno.h).
mod libc_errno {
    pub(super) const EPIPE: i32 = 32;
    pub(super) const EADDRINUSE: i32 = 98;
    pub(super) const EADDRNOTAVAIL: i32 = 99;
    pub(super) const ENETUNREACH: i32 = 101;
    pub(super) const ECONNABORTED: i32 = 103;
    pub(super) const ECONNRESET: i32 = 104;
    pub(super) const ENOTCONN: i32 = 107;
    pub(super) const ETIMEDOUT: i32 = 110;
    pub(super) const ECONNREFUSED: i32 = 111;
    pub(super) const EHOSTUNREACH: i32 = 113;
}

/// How the times of a ladder are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds with milliseconds.
    Milliseconds,
    /// Seconds with microseconds.
    Microseconds,
    /// Microseconds, for a scene that is over soon.
    OnlyMicroseconds,
}

/// The longest scene whose times are written in microseconds alone.
const SOON: Duration = Duration::from_millis(100);

impl Unit {
    /// The coarsest that tells all of these ascending times apart, of which some may be equal.
    pub(super) fn of(times: impl Iterator<Item = Duration>) -> Self {
        let times: Vec<Duration> = times.collect();
        let last = times.last().copied().unwrap_or_default();
        // Between two rows that a scene in virtual time has at one moment, real time passes, too.
        let blurred = |pair: &[Duration]| {
            pair[0].as_micros() != pair[1].as_micros()
                && Self::Milliseconds.text(pair[0]) == Self::Milliseconds.text(pair[1])
        };
        match times.windows(2).any(blurred) {
            false => Self::Milliseconds,
            true if last < SOON => Self::OnlyMicroseconds,
            true => Self::Microseconds,
        }
    }

    /// The head of the column.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Milliseconds | Self::Microseconds => "seconds",
            Self::OnlyMicroseconds => "µs",
        }
    }

    /// A time.
    pub(super) fn text(self, time: Duration) -> String {
        let micros = (time.as_nanos() + 500) / 1000;
        let millis = (time.as_micros() + 500) / 1000;
        match self {
            Self::Milliseconds => format!("{}.{:03}", millis / 1000, millis % 1000),
            Self::Microseconds => format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000),
            Self::OnlyMicroseconds => micros.to_string(),
        }
    }
}

/// A span of time in a unit that suits it.
pub(super) fn span(time: Duration) -> String {
    let secs = time.as_secs_f64();
    match time.as_secs() {
        0 => format!("{:.0} ms", secs * 1e3),
        1..=9_999 => trimmed(secs, "s"),
        10_000..=359_999 => trimmed(secs / 3600.0, "h"),
        _ => trimmed(secs / 86_400.0, "days"),
    }
}

/// At most three decimals, none that are zero at the end.
fn trimmed(value: f64, unit: &str) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_suits_the_scene() {
        let of = |micros: &[u64]| Unit::of(micros.iter().map(|micros| Duration::from_micros(*micros)));
        assert_eq!(of(&[0, 0, 5_000, 5_000, 10_000]), Unit::Milliseconds);
        assert_eq!(of(&[0, 90, 131, 500]), Unit::OnlyMicroseconds);
        assert_eq!(of(&[0, 90, 131, 1_500_000]), Unit::Microseconds);
        assert_eq!(of(&[]), Unit::Milliseconds);
        assert_eq!(Unit::Microseconds.text(Duration::from_nanos(1_500_090_500)), "1.500091");
        assert_eq!(Unit::OnlyMicroseconds.text(Duration::from_micros(131)), "131");
    }

    #[test]
    fn times_and_errors_are_short() {
        assert_eq!(Unit::Milliseconds.text(Duration::from_micros(924_600_499)), "924.600");
        assert_eq!(span(Duration::from_millis(40)), "40 ms");
        assert_eq!(span(Duration::from_millis(7_875_000)), "7875 s");
        assert_eq!(span(Duration::from_secs(86_400 * 30)), "30 days");
        assert_eq!(errno(&io::Error::from_raw_os_error(104)), "ECONNRESET");
        assert_eq!(errno(&io::Error::other("odd")), "odd");
        assert_eq!(outcome(&Ok(5_usize)), "5");
    }
}
