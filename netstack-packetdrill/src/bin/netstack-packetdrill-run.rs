//! Runs packetdrill scripts against netstack, each in a network namespace of its own.
//!
//! ```text
//! netstack-packetdrill-run [OPTION]… PACKETDRILL (FOLDER | SCRIPT.pkt | LIST)… [-- PACKETDRILL'S OPTION…]
//! ```

use netstack_tun::{Tun, TunConfig, netns};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

const USAGE: &str = "\
usage: netstack-packetdrill-run [OPTION]... PACKETDRILL (FOLDER | SCRIPT.pkt | LIST)... [-- OPTION-OF-PACKETDRILL...]

  --ip VERSION    ipv4 (the default), ipv6 or ipv4-mapped-ipv6
  --root FOLDER   what the paths in a LIST are relative to (default: the folder of the list)
  --lib FILE      the library (default: libnetstack_packetdrill.so beside this program)
  --set KEY=VALUE a setting of the stack; may be repeated
  --timeout SECS  real time for a script (default: 30)
  --jobs N        scripts at a time (default: one a processor)
  --verbose       show what failing scripts print in full

The exit status is 0 if all scripts pass.";

/// First argument of the process that a script runs in.
const INNER: &str = "--in-private-namespace";

/// The environment variable that the library knows as `sysctl::FILE_VARIABLE`. This program does not
/// link the library, which would replace its own getsockopt.
const SYSCTL_FILE: &str = "NETSTACK_PACKETDRILL_SYSCTL";

/// The same for `nstat::FILE_VARIABLE`.
const COUNTERS_FILE: &str = "NETSTACK_PACKETDRILL_COUNTERS";

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let stand_in = Path::new(&name).file_name().and_then(|name| name.to_str());
    let result = if stand_in == Some("sysctl") {
        sysctl(&arguments)
    } else if stand_in == Some("ip") {
        ip(&arguments)
    } else if stand_in == Some("nstat") {
        nstat()
    } else if arguments.first().is_some_and(|first| first == INNER) {
        run_inside(&arguments[1..])
    } else {
        run_all(&arguments)
    };
    result.unwrap_or_else(|error| {
        eprintln!("{name}: {error}");
        ExitCode::from(2)
    })
}

/// What to run, and how.
struct Plan {
    packetdrill: PathBuf,
    library: PathBuf,
    scripts: Vec<PathBuf>,
    version: Version,
    settings: Vec<String>,
    timeout: Duration,
    jobs: usize,
    verbose: bool,
    extra: Vec<String>,
}

/// The version of IP: its name for packetdrill, and the address and MTU of the stack. Both MTUs give
/// an MSS of 1460.
#[derive(Clone, Copy)]
struct Version {
    name: &'static str,
    local: &'static str,
    mtu: u32,
    /// packetdrill's own options, as its test runner gives them.
    options: &'static [&'static str],
}

const VERSIONS: [Version; 3] = [
    Version {
        name: "ipv4",
        local: "192.168.0.1",
        mtu: 1500,
        options: &[
            "--gateway_ip=192.168.0.1",
            "--netmask_ip=255.255.0.0",
            "--remote_ip=192.0.2.1",
            "-D",
            "TFO_COOKIE=3021b9d889017eeb",
            "-D",
            "CODE=host_unreachable",
            "-D",
            "CMSG_LEVEL_IP=SOL_IP",
            "-D",
            "CMSG_TYPE_RECVERR=IP_RECVERR",
        ],
    },
    Version {
        name: "ipv6",
        local: "fd3d:a0b:17d6::1",
        mtu: 1520,
        options: &[
            "--mtu=1520",
            "--gateway_ip=fd3d:a0b:17d6:8888::1",
            "--remote_ip=fd3d:fa7b:d17d::1",
            "-D",
            "TFO_COOKIE=c1d1e9742a47a9bc",
            "-D",
            "CMSG_LEVEL_IP=SOL_IPV6",
            "-D",
            "CMSG_TYPE_RECVERR=IPV6_RECVERR",
        ],
    },
    Version {
        name: "ipv4-mapped-ipv6",
        local: "192.168.0.1",
        mtu: 1500,
        options: &[
            "--gateway_ip=192.168.0.1",
            "--netmask_ip=255.255.0.0",
            "--remote_ip=192.0.2.1",
            "-D",
            "TFO_COOKIE=3021b9d889017eeb",
            "-D",
            "CODE=host_unreachable",
            "-D",
            "CMSG_LEVEL_IP=SOL_IPV6",
            "-D",
            "CMSG_TYPE_RECVERR=IPV6_RECVERR",
        ],
    },
];

fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.into())
}

impl Plan {
    fn parse(arguments: &[String]) -> io::Result<Self> {
        let beside = std::env::current_exe()?.with_file_name("libnetstack_packetdrill.so");
        let mut plan = Self {
            packetdrill: PathBuf::new(),
            library: beside,
            scripts: Vec::new(),
            version: VERSIONS[0],
            settings: Vec::new(),
            timeout: Duration::from_secs(30),
            jobs: thread::available_parallelism().map_or(1, usize::from),
            verbose: false,
            extra: Vec::new(),
        };
        let mut root = None;
        let mut plain = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| wrong(USAGE));
            let number = |text: &String| text.parse().map_err(|_| wrong(format!("{text} is no number")));
            match argument.as_str() {
                "--ip" => {
                    let name = value()?;
                    let version = VERSIONS.into_iter().find(|version| version.name == name);
                    plan.version = version.ok_or_else(|| wrong(USAGE))?;
                }
                "--root" => root = Some(PathBuf::from(value()?)),
                "--lib" => plan.library = value()?.into(),
                "--set" => plan.settings.push(value()?.clone()),
                "--timeout" => plan.timeout = Duration::from_secs(number(value()?)?),
                "--jobs" => plan.jobs = number(value()?)?.max(1) as usize,
                "--verbose" => plan.verbose = true,
                "--" => plan.extra.extend(arguments.by_ref().cloned()),
                option if option.starts_with('-') => return Err(wrong(USAGE)),
                _ => plain.push(PathBuf::from(argument)),
            }
        }
        let mut plain = plain.into_iter();
        plan.packetdrill = fs::canonicalize(plain.next().ok_or_else(|| wrong(USAGE))?)?;
        plan.library = fs::canonicalize(&plan.library)
            .map_err(|error| wrong(format!("{}: {error}", plan.library.display())))?;
        for path in plain {
            collect(&path, root.as_deref(), &mut plan.scripts)?;
        }
        if plan.scripts.is_empty() { Err(wrong(USAGE)) } else { Ok(plan) }
    }
}

/// The scripts that a path names: itself, those below it, or those in a list.
fn collect(path: &Path, root: Option<&Path>, scripts: &mut Vec<PathBuf>) -> io::Result<()> {
    let context = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if path.is_dir() {
        let entries: io::Result<Vec<_>> =
            fs::read_dir(path).map_err(context)?.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut entries = entries?;
        entries.sort();
        for entry in entries {
            if entry.is_dir() || entry.extension().is_some_and(|extension| extension == "pkt") {
                collect(&entry, root, scripts)?;
            }
        }
    } else if path.extension().is_some_and(|extension| extension == "pkt") {
        scripts.push(fs::canonicalize(path).map_err(context)?);
    } else {
        let folder = root.or(path.parent()).unwrap_or(Path::new("."));
        let list = fs::read_to_string(path).map_err(context)?;
        for line in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let script = folder.join(line);
            scripts.push(
                fs::canonicalize(&script)
                    .map_err(|error| io::Error::new(error.kind(), format!("{line}: {error}")))?,
            );
        }
    }
    Ok(())
}

/// The end of a script that did not pass.
struct Failure {
    script: PathBuf,
    output: String,
}

fn run_all(arguments: &[String]) -> io::Result<ExitCode> {
    let plan = Plan::parse(arguments)?;
    netns::available()?;
    let queue = Mutex::new(plan.scripts.iter().collect::<VecDeque<_>>());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..plan.jobs {
            scope.spawn(|| {
                loop {
                    let script = queue.lock().expect("no thread panics with it").pop_front();
                    let Some(script) = script else { return };
                    if let Err(output) = run_one(&plan, script) {
                        let failure = Failure { script: script.clone(), output };
                        failures.lock().expect("no thread panics with it").push(failure);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no thread panicked with it");
    failures.sort_by(|a, b| a.script.cmp(&b.script));
    let mut out = io::stdout().lock();
    for failure in &failures {
        let name = failure.script.display();
        if plan.verbose {
            writeln!(out, "FAILED {name}\n{}", failure.output.trim_end())?;
        } else {
            writeln!(out, "FAILED {name}: {}", summary(&failure.output))?;
        }
    }
    writeln!(out, "{} passed, {} failed", plan.scripts.len() - failures.len(), failures.len())?;
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first line that says what is wrong.
fn summary(output: &str) -> &str {
    let said = |word: &str| output.lines().find(|line| line.contains(word));
    ["error", "rror", "no line of the script", "expect", "ssert"]
        .iter()
        .find_map(|word| said(word))
        .or(output.lines().next())
        .unwrap_or("no message")
}

/// The addresses that a script sets itself.
#[derive(Default)]
struct OwnAddresses {
    local: Option<String>,
    remote: bool,
}

impl OwnAddresses {
    fn of(script: &Path) -> Self {
        let text = fs::read_to_string(script).unwrap_or_default();
        let option = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name));
        Self { local: option("--local_ip=").map(str::to_owned), remote: option("--remote_ip=").is_some() }
    }
}

/// Runs one script; what it printed if it did not pass.
fn run_one(plan: &Plan, script: &Path) -> Result<(), String> {
    let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    // A script for certain addresses says so, and means IPv4.
    let own = if plan.version.name == "ipv6" { OwnAddresses::default() } else { OwnAddresses::of(script) };
    let local = own.local.as_deref().unwrap_or(plan.version.local);
    let mut flags = format!("local_ip={local},mtu={}", plan.version.mtu);
    let addresses = [format!("--local_ip={local}")];
    let is_remote = |option: &&str| option.starts_with("--remote_ip=");
    let options = plan.version.options.iter().copied().filter(|option| !(own.remote && is_remote(option)));
    for setting in &plan.settings {
        flags.push(',');
        flags.push_str(setting);
    }
    command
        .arg(INNER)
        .arg(plan.timeout.as_secs().to_string())
        .arg(&plan.library)
        .arg(&plan.packetdrill)
        .arg(format!("--so_filename={}", plan.library.display()))
        .arg(format!("--so_flags={flags}"))
        .arg(format!("--ip_version={}", plan.version.name))
        .args(&addresses)
        .args(options)
        .args(&plan.extra)
        .arg(script)
        .current_dir(script.parent().unwrap_or(Path::new(".")))
        .stdin(Stdio::null());
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stderr, output.stdout].concat();
    Err(format!("{}\n{}", String::from_utf8_lossy(&text), output.status))
}

/// Runs the rest of the arguments with the library preloaded, in a namespace with a `tun0`.
fn run_inside(arguments: &[String]) -> io::Result<ExitCode> {
    let [timeout, library, program, options @ ..] = arguments else { return Err(wrong(USAGE)) };
    let timeout = Duration::from_secs(timeout.parse().map_err(|_| wrong(USAGE))?);
    netns::enter_private()?;
    // Scripts set its queueing discipline. Nobody sends through it.
    let tun = Tun::open(&TunConfig::new("tun0"))?;
    let folder = Folder::new()?;
    for stand_in in ["sysctl", "ip", "nstat"] {
        std::os::unix::fs::symlink(std::env::current_exe()?, folder.0.join(stand_in))?;
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut child = Command::new(program)
        .args(options)
        .env("PATH", format!("{}:{path}", folder.0.display()))
        .env("LD_PRELOAD", library)
        .env(SYSCTL_FILE, folder.0.join("variables"))
        .env(COUNTERS_FILE, folder.0.join("counters"))
        // With the commands that it starts.
        .process_group(0)
        .spawn()?;
    let group = child.id();
    let (ended, wait) = mpsc::channel();
    thread::spawn(move || ended.send(child.wait()));
    let status = wait.recv_timeout(timeout);
    drop(tun);
    match status {
        Ok(status) if status.as_ref().is_ok_and(|status| status.success()) => Ok(ExitCode::SUCCESS),
        Ok(status) => {
            eprintln!("{}", status?);
            Ok(ExitCode::FAILURE)
        }
        Err(_) => {
            eprintln!("error: not over after {timeout:?}");
            let group = format!("-{group}");
            Command::new("kill").args(["-KILL", "--", &group]).status()?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A folder for the stand-in of sysctl, gone with its owner.
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("netstack-packetdrill-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is one of the system's folder for such things; nobody can do more about a failure.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// sysctl(8), as much as scripts use: sets variables of the network in the namespace, and writes down
/// what could not be set, for the library to read.
fn sysctl(arguments: &[String]) -> io::Result<ExitCode> {
    let mut record = String::new();
    let mut status = ExitCode::SUCCESS;
    for argument in arguments.iter().filter(|argument| !argument.starts_with('-')) {
        if let Some((name, value)) = argument.split_once('=') {
            // The kernel may not have it; the stack may. What the kernel has is not written down: other
            // commands of the script may set it past us.
            if netns::sysctl(name.trim(), value.trim()).is_err() {
                record.push_str(&format!("{argument}\n"));
            }
        } else {
            let name = argument.replace('.', "/");
            match fs::read_to_string(format!("/proc/sys/{name}")) {
                Ok(value) => println!("{argument} = {}", value.trim_end()),
                Err(error) => {
                    eprintln!("sysctl: {argument}: {error}");
                    status = ExitCode::FAILURE;
                }
            }
        }
    }
    write_down(&record)?;
    Ok(status)
}

fn write_down(record: &str) -> io::Result<()> {
    if let Some(path) = std::env::var_os(SYSCTL_FILE) {
        fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(record.as_bytes())?;
    }
    Ok(())
}

/// ip(8): that a script empties the table of what is known of destinations is written down, as a
/// variable with another value each time. All else is left to the real one, which is next in the path.
fn ip(arguments: &[String]) -> io::Result<ExitCode> {
    if arguments.first().is_some_and(|object| object == "tcp_metrics") {
        write_down(&format!("net.ipv4.tcp_metrics_flush={}\n", std::process::id()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let behind = path.split_once(':').map_or("", |(_, behind)| behind);
    let error = Command::new("/usr/bin/env").arg(format!("PATH={behind}")).arg("ip").args(arguments).exec();
    Err(error)
}

/// nstat(8) without options: what the stack counted since the last call.
fn nstat() -> io::Result<ExitCode> {
    let path = std::env::var_os(COUNTERS_FILE).map(PathBuf::from).ok_or_else(|| wrong("no counters"))?;
    let history = path.with_extension("history");
    let counters = |path: &Path| -> BTreeMap<String, u64> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    };
    let (now, before) = (counters(&path), counters(&history));
    println!("#kernel");
    for (name, value) in &now {
        let new = value.saturating_sub(before.get(name).copied().unwrap_or_default());
        if new > 0 {
            println!("{name:<31} {new:<18} 0.0");
        }
    }
    if path.exists() {
        fs::copy(&path, &history)?;
    }
    Ok(ExitCode::SUCCESS)
}
