//! Examples as processes, and the inetd example in particular.

use crate::common::{KERNEL, PREFIX, STACK};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// How long a process may take to say or do what it is expected to.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The program of an example, which `cargo test` builds beside the tests.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build -p netstack-examples --examples` with the profile of the test",
        path.display()
    );
    path
}

/// Runs a program until its own input ends, and then interrupts it like Ctrl-C, so that it ends
/// with the test, however that ends. (`kill` is a builtin of the shell, for systems without such a
/// program.)
const UNTIL_THE_END_OF_INPUT: &str = r#""$@" < /dev/null & cat > /dev/null; kill -INT $!; wait $!"#;

/// A running inetd on the device `tun0`.
pub(crate) struct Inetd {
    shell: Child,
    lines: Receiver<String>,
}

impl Inetd {
    /// Starts it with the addresses of the tests and `arguments`, and waits until it serves.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", UNTIL_THE_END_OF_INPUT, "sh"]).arg(example("inetd"));
        command.args(["--tun", "tun0"]).args(arguments);
        for ((address, peer), prefix) in STACK.iter().zip(KERNEL).zip(PREFIX) {
            command.args([
                "--address",
                &format!("{address}/{prefix}"),
                "--peer",
                &format!("{peer}/{prefix}"),
            ]);
        }
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(shell.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let inetd = Self { shell, lines };
        inetd.wait_for("serving ");
        inetd
    }

    /// The next line that begins with `prefix`.
    pub(crate) fn wait_for(&self, prefix: &str) -> String {
        let start = Instant::now();
        loop {
            let left = TIMEOUT.saturating_sub(start.elapsed());
            let line =
                self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("inetd did not say `{prefix}…`"));
            if line.starts_with(prefix) {
                return line;
            }
        }
    }

    /// Interrupts it, and checks that it closes gracefully.
    pub(crate) fn stop(mut self) {
        drop(self.shell.stdin.take());
        let start = Instant::now();
        let status = loop {
            match self.shell.try_wait().unwrap() {
                Some(status) => break status,
                // The standard library cannot wait for a process with a limit.
                None => thread::sleep(Duration::from_millis(5)),
            }
            assert!(start.elapsed() < TIMEOUT, "inetd did not end in {TIMEOUT:?}");
        };
        assert!(status.success(), "inetd: {status}");
    }
}

/// The same, after a line with the number of the process.
const AND_SAY_WHO: &str = r#""$@" < /dev/null & echo $!; cat > /dev/null; kill -INT $!; wait $!"#;

/// The same, with what is the shell's standard error as the program's standard input.
const ON_A_DESCRIPTOR: &str = r#""$@" <&2 2>&1 & echo $!; exec 2>&-; cat > /dev/null; kill -INT $!; wait $!"#;

/// An example that runs until it is interrupted.
pub(crate) struct Running {
    shell: Child,
    lines: Receiver<String>,
    process: u32,
}

impl Running {
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", AND_SAY_WHO, "sh"]).arg(example(name)).args(arguments);
        Self::of(command)
    }

    /// As a process without any right in this network namespace, whose standard input is `fd`. None if there can
    /// be no such process.
    pub(crate) fn start_on(name: &str, fd: OwnedFd, arguments: &[&str]) -> Option<Self> {
        let unshare = |command: &mut Command| command.args(["--user", "true"]).status();
        if !unshare(&mut Command::new("unshare")).is_ok_and(|status| status.success()) {
            return None;
        }
        let mut command = Command::new("sh");
        command.args(["-c", ON_A_DESCRIPTOR, "sh", "unshare", "--user"]).arg(example(name)).args(arguments);
        command.stderr(Stdio::from(fd));
        Some(Self::of(command))
    }

    fn of(mut command: Command) -> Self {
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(shell.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let process = lines.recv_timeout(TIMEOUT).unwrap().parse().unwrap();
        Self { shell, lines, process }
    }

    /// The next line that begins with `prefix`.
    pub(crate) fn wait_for(&self, prefix: &str) -> String {
        let start = Instant::now();
        let mut before = String::new();
        loop {
            let left = TIMEOUT.saturating_sub(start.elapsed());
            let line = self
                .lines
                .recv_timeout(left)
                .unwrap_or_else(|_| panic!("the program did not say `{prefix}…`, but:\n{before}"));
            if line.starts_with(prefix) {
                return line;
            }
            before += &(line + "\n");
        }
    }

    /// A value of its memory in KiB, by its name in `/proc/PID/status`.
    pub(crate) fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process)).unwrap().count()
    }

    /// Interrupts it, and checks that it ends in order. Gives the last line that it says.
    pub(crate) fn stop(mut self) -> String {
        drop(self.shell.stdin.take());
        let start = Instant::now();
        let mut last = String::new();
        // It ends with its output.
        while let Ok(line) = self.lines.recv_timeout(TIMEOUT.saturating_sub(start.elapsed())) {
            last = line;
        }
        let status = loop {
            match self.shell.try_wait().unwrap() {
                Some(status) => break status,
                // The standard library cannot wait for a process with a limit.
                None => thread::sleep(Duration::from_millis(5)),
            }
            assert!(start.elapsed() < TIMEOUT, "the program did not end in {TIMEOUT:?}");
        };
        assert!(status.success(), "{status}: {last}");
        last
    }
}
