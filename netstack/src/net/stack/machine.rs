//! How much memory the machine has for a stack that was not told.

use crate::config::MemoryBudget;
use std::path::Path;

/// The part of the machine's memory that a stack may hold. Linux's own TCP gets about an eleventh (`tcp_mem`).
const PART: usize = 8;

/// The least that is worth a stack, in bytes.
const LEAST: usize = 16 << 20;

/// The budget of a stack: a part of the memory of the machine, or of the control group that the process is in if
/// that has less.
pub(super) fn budget() -> MemoryBudget {
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = groups.iter().filter_map(|path| limit_of_group(Path::new(path)));
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    budget_of(limits.chain(machine).chain(own_group()).min())
}

fn budget_of(memory: Option<usize>) -> MemoryBudget {
    memory.map_or(MemoryBudget::DEFAULT, |bytes| MemoryBudget::new((bytes / PART).max(LEAST)))
}

/// The limit of the control group that the process is in, below the root of the groups that it sees.
fn own_group() -> Option<usize> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    limit_of_group(&Path::new("/sys/fs/cgroup").join(path).join("memory.max"))
}

/// A limit in bytes. A group without one says `max`.
fn limit_of_group(path: &Path) -> Option<usize> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_gets_an_eighth_of_what_there_is() {
        let meminfo = "MemFree:  1 kB\nMemTotal:       16384000 kB\nMemAvailable:   12 kB\n";
        assert_eq!(total(meminfo), Some(16_384_000 * 1024));
        assert_eq!(total("MemTotal: a lot"), None);
        assert_eq!(budget_of(total(meminfo)).high, 2_048_000 * 1024);
        assert_eq!(budget_of(Some(1 << 20)).high, LEAST);
        assert_eq!(budget_of(None), MemoryBudget::DEFAULT);
        assert!(budget().high >= LEAST);
    }
}
