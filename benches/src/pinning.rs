//! Which processors the two ends of a measurement have.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt;
use std::io;
use std::str::FromStr;

/// Which processors the contender and its clients have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pinning {
    /// The scheduler decides.
    #[default]
    Any,
    /// Both have the same one.
    Same,
    /// Each has one of its own.
    Two,
}

impl Pinning {
    const ALL: [Self; 3] = [Self::Any, Self::Same, Self::Two];

    /// `any`, `same` or `two`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Same => "same",
            Self::Two => "two",
        }
    }

    /// Moves this thread to the processor of the contender. Children and threads that it makes stay there.
    ///
    /// # Errors
    /// If this process may use fewer processors than that takes.
    pub fn pin_server(self) -> io::Result<()> {
        self.pin(0)
    }

    /// Moves this thread to the processor of the clients.
    ///
    /// # Errors
    /// If this process may use fewer processors than that takes.
    pub fn pin_client(self) -> io::Result<()> {
        self.pin(usize::from(self == Self::Two))
    }

    /// To the processor with this number among those of this process.
    fn pin(self, number: usize) -> io::Result<()> {
        if self == Self::Any {
            return Ok(());
        }
        let allowed = sched_getaffinity(None)?;
        let cpu = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).nth(number);
        let cpu =
            cpu.ok_or_else(|| io::Error::other("this process has one processor, and two are wanted"))?;
        let mut set = CpuSet::new();
        set.set(cpu);
        Ok(sched_setaffinity(None, &set)?)
    }
}

impl fmt::Display for Pinning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Pinning {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|pinning| pinning.name() == text);
        known.ok_or_else(|| format!("no pinning `{text}`: any, same or two"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_processor() {
        let count = |pinning: Pinning| {
            let pinned = std::thread::spawn(move || {
                pinning.pin_client()?;
                Ok::<_, io::Error>(sched_getaffinity(None)?.count())
            });
            pinned.join().unwrap()
        };
        let all = count(Pinning::Any).unwrap();
        assert_eq!(count(Pinning::Same).unwrap(), 1);
        match count(Pinning::Two) {
            Ok(one) => assert_eq!(one, 1),
            Err(_) => assert_eq!(all, 1),
        }
    }
}
