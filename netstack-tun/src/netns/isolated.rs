//! Tests in private namespaces.

use super::{Entry, before_exec, is_refusal, refused};
use crate::{attach, sys};
use std::env;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// In the child: the name of the test to run.
const TEST_VARIABLE: &str = "NETSTACK_ISOLATED";
/// If it is 1, [`isolated()`] fails where it would otherwise skip.
const REQUIRE_VARIABLE: &str = "NETSTACK_REQUIRE_NETNS";
/// How long a test may take.
const TIME_LIMIT: Duration = Duration::from_secs(120);
/// Maximum output of a test in bytes. The rest is dropped.
const MAX_OUTPUT: usize = 4 << 20;
/// How long to wait for the output of a killed child.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The result of an isolated test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolated {
    /// It ran, and passed.
    Passed,
    /// It could not run here. A line on standard error says why.
    Skipped,
}

/// Runs `body`, the whole of the test `test`, in a network namespace of its own where `lo` is up and
/// it may create TUN devices, with or without root.
///
/// The namespace has to be entered before there are threads, and the test runner has some. So this
/// runs the test program again in a child, for this test only, in new namespaces, and calls `body`
/// there.
///
/// `test` is the path of the test as `cargo test` prints it: the function's name in a file of
/// `tests/`, `module::tests::name` in a library. It may begin with the name of the crate:
/// `concat!(module_path!(), "::name")`.
///
/// ```no_run
/// #[test]
/// fn a_device_opens() {
///     netstack_tun::netns::isolated("a_device_opens", || {
///         netstack_tun::Tun::open(&netstack_tun::TunConfig::new("tun0")).unwrap();
///     });
/// }
/// ```
///
/// Where the system does not permit namespaces or `/dev/net/tun`, it prints `SKIPPED`, the test and
/// the reason to standard error (which the test runner does not capture) and returns
/// [`Isolated::Skipped`]. With `NETSTACK_REQUIRE_NETNS=1` in the environment it panics instead, so
/// that CI does not skip tests silently.
///
/// # Panics
/// If `body` panics, the child takes more than two minutes or `test` names no test. The output of
/// the child is passed on.
pub fn isolated(test: &str, body: impl FnOnce()) -> Isolated {
    isolated_within(TIME_LIMIT, test, body)
}

/// Like [`isolated()`], with another limit on the time.
///
/// # Panics
/// Like [`isolated()`].
pub fn isolated_within(limit: Duration, test: &str, body: impl FnOnce()) -> Isolated {
    if env::var_os(TEST_VARIABLE).is_some_and(|name| name == test) {
        println!("{}", marker(test));
        body();
        return Isolated::Passed;
    }
    if let Err(err) = attach::open_file() {
        return skip(test, &err);
    }
    let (child, output) = match spawn(test) {
        Ok(running) => running,
        Err(err) if is_refusal(&err) => return skip(test, &refused(&err)),
        Err(err) => panic!("{test} cannot be run in a namespace: {err}"),
    };
    let (status, output) = wait(child, output, limit);
    let output = String::from_utf8_lossy(&output);
    match status {
        Some(status) if status.success() && output.contains(&marker(test)) => {
            print!("{output}");
            Isolated::Passed
        }
        Some(status) if status.success() => {
            eprint!("{output}");
            panic!("there is no test {test}: isolated wants its path as `cargo test` prints it")
        }
        Some(status) => {
            eprint!("{output}");
            panic!("{test} failed in its namespace: {status}")
        }
        None => {
            eprint!("{output}");
            panic!("{test} was killed after {limit:?} in its namespace")
        }
    }
}

/// What the child prints first, when it has found the test. The exit status is the result.
fn marker(test: &str) -> String {
    format!("{test} runs in a namespace of its own")
}

fn skip(test: &str, why: &io::Error) -> Isolated {
    let required = env::var_os(REQUIRE_VARIABLE).is_some_and(|value| value == "1");
    assert!(!required, "{test} would be skipped, and {REQUIRE_VARIABLE}=1 forbids it: {why}");
    // The runner captures what eprintln! prints.
    let line = format!("SKIPPED {test}: {why}\n");
    // Without standard error it cannot be reported.
    let _ = io::stderr().lock().write_all(line.as_bytes());
    Isolated::Skipped
}

/// Runs this program for one test, in new namespaces. Returns its output too.
fn spawn(test: &str) -> io::Result<(Child, io::PipeReader)> {
    let (output, stdout) = io::pipe()?;
    let mut command = Command::new(env::current_exe()?);
    command
        .args(["--exact", "--nocapture", "--include-ignored", "--test-threads=1", test])
        .env(TEST_VARIABLE, test)
        .stdin(Stdio::null())
        .stderr(stdout.try_clone()?)
        .stdout(stdout);
    // `module_path!()` begins with the crate, which paths of tests do not have.
    command.args(test.split_once("::").map(|(_, inside)| inside));
    let entry = Entry::prepare();
    before_exec(&mut command, move || {
        entry.enter()?;
        // Entering a user namespace resets this, so it comes after.
        sys::die_with_parent()
    });
    // The command, which holds the writing end of the pipe, is dropped here.
    Ok((command.spawn()?, output))
}

/// Waits for the child to end, and kills it when its time has passed; then there is no status.
fn wait(mut child: Child, output: io::PipeReader, limit: Duration) -> (Option<ExitStatus>, Vec<u8>) {
    let (chunks, kept) = mpsc::channel();
    let (ended, end) = mpsc::channel();
    // Not joined: processes that the test leaves behind can keep the pipe open for ever.
    thread::spawn(move || {
        // The receivers are gone if the time has passed.
        let _ = ended.send(forward(output, &chunks));
    });
    let in_time = end.recv_timeout(limit).is_ok();
    if !in_time {
        // It may have ended by itself just now.
        let _ = child.kill();
    }
    let status = child.wait().expect("the child is ours to wait for");
    if !in_time {
        let _ = end.recv_timeout(LAST_WORDS);
    }
    (in_time.then_some(status), kept.try_iter().flatten().collect())
}

/// Passes on what is read from `output`, up to a bound, until all writers have closed it.
fn forward(mut output: io::PipeReader, chunks: &mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = MAX_OUTPUT;
    loop {
        let len = output.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        let keep = len.min(left);
        left -= keep;
        if keep > 0 && chunks.send(buffer[..keep].to_vec()).is_err() {
            return Ok(());
        }
    }
}
