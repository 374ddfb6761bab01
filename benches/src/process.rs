//! A child process that measures or is measured, and answers questions on its standard input.

use crate::clock;
use crate::serve::{ASK_MEMORY, ASK_RECEIVED, ASK_SENT, READY};
use rustix::io::Errno;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a child may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a child may take to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Kernel ticks of the times in `/proc/PID/stat`: `USER_HZ`, which is 100 on all of Rust's Linux
/// targets.
const TICKS_PER_SECOND: f64 = 100.0;

/// A child that serves until this is dropped.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    /// The process that is measured: the child, or one of its own.
    measured: u32,
    /// Closing it ends the child.
    stdin: Option<ChildStdin>,
    /// Behind a lock, so that a measurement may ask from the thread of its clients.
    lines: Mutex<Receiver<io::Result<String>>>,
}

impl Process {
    /// Runs `command`, which must answer (`serve::answer`) until its standard input ends, in the network
    /// namespace of this thread. `name` is for errors.
    ///
    /// # Errors
    /// If it does not run, or does not report in time that it is ready. It is then ended.
    pub fn spawn(name: &'static str, command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("it is piped");
        // From here on, dropping it ends the child.
        let measured = child.id();
        let mut process = Self { name, child, measured, stdin, lines: Mutex::new(read_lines(stdout)?) };
        let line = process.line()?;
        let ready = line.strip_prefix(READY).and_then(|process| process.parse().ok());
        let not_ready = || io::Error::other(format!("{name} said `{line}`, not that it is ready"));
        process.measured = ready.ok_or_else(not_ready)?;
        Ok(process)
    }

    /// Live bytes of its heap.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn live_bytes(&mut self) -> io::Result<u64> {
        self.ask(ASK_MEMORY)
    }

    /// Bytes that its sinks have read since it started.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn received(&mut self) -> io::Result<u64> {
        self.ask(ASK_RECEIVED)
    }

    /// Bytes that its sources of datagrams have sent since it started.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn sent(&mut self) -> io::Result<u64> {
        self.ask(ASK_SENT)
    }

    fn ask(&mut self, question: &str) -> io::Result<u64> {
        let stdin = self.stdin.as_mut().expect("it is closed in drop only");
        writeln!(stdin, "{question}")?;
        let line = self.line()?;
        line.parse().map_err(|_| io::Error::other(format!("{} said `{line}`, not a number", self.name)))
    }

    /// Processor time that it has used, in user space and in the kernel.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        cpu_time(&self.measured.to_string())
    }

    /// Bytes of its memory that are in RAM (`VmRSS`).
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn resident(&self) -> io::Result<u64> {
        resident(&self.measured.to_string())
    }

    fn line(&self) -> io::Result<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.recv_timeout(TIMEOUT).unwrap_or_else(|err| {
            let (kind, text) = match err {
                RecvTimeoutError::Timeout => (io::ErrorKind::TimedOut, "does not answer"),
                RecvTimeoutError::Disconnected => (io::ErrorKind::UnexpectedEof, "has ended"),
            };
            Err(io::Error::new(kind, format!("the process of {} {text}", self.name)))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None;
        let end = clock::now() + LAST_WORDS;
        while let Ok(None) = self.child.try_wait() {
            if clock::now() > end {
                // If it cannot be killed, it has just ended.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            clock::sleep(Duration::from_millis(5));
        }
    }
}

/// Processor time that this process has used, the measured end not included.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn own_cpu_time() -> io::Result<Duration> {
    cpu_time("self")
}

/// Bytes of this process that are in RAM.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn own_resident() -> io::Result<u64> {
    resident("self")
}

/// That of the threads that it has now, where the kernel says so (`CONFIG_SCHED_INFO`), because the time of the whole
/// process is counted in ticks of 10 ms. In no measurement does a thread end that has worked for it.
fn cpu_time(process: &str) -> io::Result<Duration> {
    of_threads(process).or_else(|_| of_process(process))
}

fn of_threads(process: &str) -> io::Result<Duration> {
    let mut nanoseconds: u64 = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // The first field is the time on a processor; see Documentation/scheduler/sched-stats.rst of Linux.
        match std::fs::read_to_string(thread?.path().join("schedstat")) {
            Ok(fields) => {
                let first = fields.split_whitespace().next().and_then(|first| first.parse::<u64>().ok());
                nanoseconds += first.ok_or(io::ErrorKind::InvalidData)?;
            }
            // One that has just ended.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn of_process(process: &str) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // proc(5): utime and stime are fields 14 and 15, and the name before field 3 may have spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: f64 = fields.filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

fn resident(process: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    // proc_pid_status(5): in kB, which are 1,024 bytes.
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kib.map(|kib: u64| kib << 10).ok_or_else(|| io::Error::other("/proc/PID/status has no VmRSS"))
}

/// Reads lines on a thread, so that waiting for one can time out.
fn read_lines(stdout: ChildStdout) -> io::Result<Receiver<io::Result<String>>> {
    let (sender, lines) = mpsc::channel();
    thread::Builder::new().name("lines".to_owned()).spawn(move || {
        for line in BufReader::new(stdout).lines() {
            if sender.send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_passes_while_a_thread_works() {
        let before = own_cpu_time().unwrap();
        let begin = clock::now();
        let worked = || own_cpu_time().unwrap().saturating_sub(before);
        while worked() < Duration::from_millis(30) {
            assert!(begin.elapsed() < TIMEOUT, "30 ms of work are counted as {:?}", worked());
        }
        assert!(of_process("self").unwrap() > Duration::ZERO);
        assert!(own_resident().unwrap() > 100_000);
    }
}
