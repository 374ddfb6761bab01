//! Examples as processes, and the inetd example in particular.

use crate::common::{KERNEL, PREFIX, STACK};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// How long a process may take to say or do what it is expected to.
const PATIENCE: Duration = Duration::from_secs(20);

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

/// A running inetd on the device `tun0`.
pub(crate) struct Inetd {
    child: Child,
    lines: Receiver<String>,
}

impl Inetd {
    /// Starts it with the addresses of the tests and `arguments`, and waits until it serves.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(example("inetd"));
        command.args(["--tun", "tun0"]).args(arguments);
        for ((address, peer), prefix) in STACK.iter().zip(KERNEL).zip(PREFIX) {
            command.args([
                "--address",
                &format!("{address}/{prefix}"),
                "--peer",
                &format!("{peer}/{prefix}"),
            ]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let inetd = Self { child, lines };
        inetd.wait_for("serving ");
        inetd
    }

    /// The next line that begins with `prefix`.
    pub(crate) fn wait_for(&self, prefix: &str) -> String {
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let line =
                self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("inetd did not say `{prefix}…`"));
            if line.starts_with(prefix) {
                return line;
            }
        }
    }

    /// Its process number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Interrupts it as Ctrl-C does, and checks that it closes in order.
    pub(crate) fn stop(mut self) {
        interrupt(self.id());
        let status = wait(&mut self.child);
        assert!(status.success(), "inetd: {status}");
    }
}

impl Drop for Inetd {
    fn drop(&mut self) {
        // Only if the test failed on the way is it still running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends SIGINT to the process `id`, a child of this one.
pub(crate) fn interrupt(id: u32) {
    // The shell has kill built in, where no such program is installed.
    let status = Command::new("sh").args(["-c", &format!("kill -INT {id}")]).status().unwrap();
    assert!(status.success());
}

/// Waits for a process to end by itself.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "a process did not end in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
