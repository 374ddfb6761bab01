//! Counts the instructions of single operations, with valgrind's callgrind, and compares them with a snapshot.
//!
//! ```text
//! netstack-counts                 the table
//! netstack-counts --check         also fails if an operation costs over 3 % more than its snapshot
//! netstack-counts --bless         writes the snapshot
//! netstack-counts --cache         the cache lines that a pure acknowledgment misses instead
//! ```
//!
//! A count is the mean of one operation over many, without the share of libc (copying and allocation), which
//! differs between machines. Snapshots are kept by the version of the compiler. Where there is no valgrind, or no
//! snapshot for the compiler, a line says SKIPPED.

#![forbid(unsafe_code)]

use clap::Parser;
use netstack_benches::counts::{CONNECTIONS, OPERATIONS, SCATTERED, TIMES};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

/// By how much a count may exceed its snapshot, in percent.
const TOLERANCE: f64 = 3.0;

/// Counts the instructions of single operations of the stack, without a runtime and without libc's share.
#[derive(Debug, Parser)]
struct Cli {
    /// Fail if an operation costs over 3 % more than its snapshot.
    #[arg(long)]
    check: bool,
    /// Write the snapshot.
    #[arg(long, conflicts_with = "check")]
    bless: bool,
    /// Count the cache lines that are missed by a pure acknowledgment to a random one of many connections, in a last
    /// level of 1 MiB.
    #[arg(long, conflicts_with_all = ["check", "bless"])]
    cache: bool,
    /// Only these operations.
    operations: Vec<String>,
    /// Run one operation, for internal use.
    #[arg(long, hide = true)]
    run: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.run {
        Some(name) => operation(name).map(|()| true),
        None if cli.cache => cache().map(|()| true),
        None => table(&cli),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("netstack-counts: {error}");
            ExitCode::FAILURE
        }
    }
}

fn operation(name: &str) -> io::Result<()> {
    let mut known = OPERATIONS.iter().chain([&SCATTERED]);
    let (_, run) = known.find(|(known, _)| *known == name).ok_or_else(|| unknown(name))?;
    run()
}

fn unknown(name: &str) -> io::Error {
    let known: Vec<_> = OPERATIONS.iter().map(|(name, _)| *name).collect();
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("no operation {name}: there are {}", known.join(", ")),
    )
}

/// Prints the counts. False if one is over its snapshot and that counts.
fn table(cli: &Cli) -> io::Result<bool> {
    if let Some(name) = cli.operations.iter().find(|name| !OPERATIONS.iter().any(|(known, _)| known == name))
    {
        return Err(unknown(name));
    }
    if !has_valgrind() {
        println!("SKIPPED: instructions are not counted, for there is no valgrind here");
        return Ok(true);
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions.json");
    let mut snapshots: Map<String, Value> = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(error),
    };
    let compiler = compiler()?;
    if cli.check && !snapshots.contains_key(&compiler) {
        println!("SKIPPED: instructions are not compared, for there is no snapshot of {compiler}");
        return Ok(true);
    }
    let mut within = true;
    println!("{:<28} {:>9} {:>9}", "instructions", "now", "snapshot");
    for (name, _) in OPERATIONS {
        if !cli.operations.is_empty() && !cli.operations.iter().any(|wanted| wanted == name) {
            continue;
        }
        let count = count(name)?;
        let known = snapshots.get(&compiler).and_then(|of| of.get(name)).and_then(Value::as_u64);
        let change = known.map_or(0.0, |known| (count as f64 / known as f64 - 1.0) * 100.0);
        let over = change > TOLERANCE;
        within &= !over;
        let known = known.map_or_else(|| "none".to_owned(), |known| known.to_string());
        println!("{name:<28} {count:>9} {known:>9} {change:>+7.1} %{}", if over { "  TOO MANY" } else { "" });
        if cli.bless {
            snapshots.entry(compiler.clone()).or_insert_with(|| json!({}))[name] = json!(count);
        }
    }
    if cli.bless {
        std::fs::write(&path, serde_json::to_string_pretty(&snapshots)? + "\n")?;
    }
    Ok(within || !cli.check)
}

fn has_valgrind() -> bool {
    let version =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// The version of the compiler that cargo uses here.
fn compiler() -> io::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output()?;
    let version = String::from_utf8_lossy(&output.stdout);
    let words: Vec<_> = version.split_whitespace().take(2).collect();
    Ok(format!("{} {}", words.join(" "), std::env::consts::ARCH))
}

/// Prints how many cache lines the scattered operation misses.
fn cache() -> io::Result<()> {
    if !has_valgrind() {
        println!("SKIPPED: cache lines are not counted, for there is no valgrind here");
        return Ok(());
    }
    // A first level and a last one, with lines of 64 bytes.
    let profile = profile(SCATTERED.0, &["--cache-sim=yes", "--D1=32768,8,64", "--LL=1048576,16,64"])?;
    let misses = data_misses(&profile) as f64 / TIMES as f64;
    println!("cache lines missed by a pure acknowledgment to one of {CONNECTIONS} connections: {misses:.1}");
    Ok(())
}

/// Instructions of one operation.
fn count(name: &str) -> io::Result<u64> {
    let instructions = instructions(&profile(name, &[])?);
    if instructions == 0 {
        return Err(io::Error::other(format!("{name}: nothing was counted")));
    }
    Ok(instructions / TIMES)
}

/// What callgrind says of one operation, with further arguments of its own.
fn profile(name: &str, arguments: &[&str]) -> io::Result<String> {
    let out = std::env::temp_dir().join(format!("netstack-counts-{}-{name}", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*counts::measured*"])
        .args(arguments)
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["--run", name])
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{name} under valgrind: {said}")));
    }
    let profile = std::fs::read_to_string(&out)?;
    std::fs::remove_file(&out)?;
    Ok(profile)
}

/// The reads and writes of data in a profile that the last level of the cache missed.
fn data_misses(profile: &str) -> u64 {
    let events = profile.lines().find_map(|line| line.strip_prefix("events: ")).unwrap_or_default();
    let wanted: Vec<bool> = events.split(' ').map(|event| matches!(event, "DLmr" | "DLmw")).collect();
    let (mut calls, mut sum) = (false, 0);
    for line in profile.lines() {
        if line.starts_with("calls=") {
            calls = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            && !std::mem::take(&mut calls)
        {
            let costs = line.split(' ').skip(1).map(|cost| cost.parse::<u64>().unwrap_or(0));
            sum += costs.zip(&wanted).filter(|(_, wanted)| **wanted).map(|(cost, _)| cost).sum::<u64>();
        }
    }
    sum
}

/// The instructions in a profile but for those of the C library and the loader.
fn instructions(profile: &str) -> u64 {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut ours, mut calls, mut sum) = (true, false, 0);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=").or_else(|| line.strip_prefix("cob=")) {
            // "(number) name" where it is named first, and "(number)" from then on.
            let (number, name) = object.split_once(' ').unwrap_or((object, ""));
            let name = if name.is_empty() { names.get(number).copied().unwrap_or("") } else { name };
            names.insert(number, name);
            if line.starts_with("ob=") {
                let file = name.rsplit('/').next().unwrap_or(name);
                ours = !["libc.so", "libc-", "ld-linux", "libm."].iter().any(|start| file.starts_with(start));
            }
        } else if line.starts_with("calls=") {
            // The next line has what the called function costs, which stands with that function.
            calls = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok()).unwrap_or(0);
            if ours && !std::mem::take(&mut calls) {
                sum += cost;
            }
            calls = false;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_of_data_are_counted_once() {
        let profile = "events: Ir Dr DLmr DLmw\n\nfn=(1) f\n10 100 9 1 2\n+2 20\ncfn=(2)\ncalls=3 0\n12 5 5 5 5\n\
                       \nfn=(2)\n0 50 3 0 4\n";
        assert_eq!(data_misses(profile), 7);
    }

    #[test]
    fn calls_and_libc_are_not_counted() {
        let profile = "events: Ir\n\nob=(1) /a/program\nfl=(1) x.rs\nfn=(1) f\n10 100\n+2 20\ncob=(2) \
                       /lib/libc.so.6\ncfn=(2) memcpy\ncalls=3 0\n12 5000\n* 7\n\nob=(2)\nfn=(2)\n0 5000\n\
                       ob=(1)\nfn=(3) g\n5 1\n";
        assert_eq!(instructions(profile), 128);
    }
}
