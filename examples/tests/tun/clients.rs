//! Third-party clients against the inetd example: nc, socat, curl, Python.
//!
//! A client that is not installed is reported as skipped.

use crate::common::{self, Family, time_limit, transfer_len};
use crate::programs::Inetd;
use netstack_examples::checksum::Adler32;
use netstack_examples::pattern::Pattern;
use netstack_examples::services::chargen_period;
use netstack_tun::netns::isolated_within;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const DAYTIME: u16 = 13;
const CHARGEN: u16 = 19;

/// Bytes of one read or write.
const BLOCK: usize = 64 << 10;

/// A program that copies its standard input to a TCP connection and the connection to its standard
/// output.
#[derive(Clone, Copy)]
struct Client {
    program: &'static str,
    arguments: fn(family: Family, port: u16) -> Vec<String>,
    /// Whether it passes on the end of its input, then waits for the other end, and ends.
    passes_end: bool,
    /// Whether it speaks telnet, in which some bytes are commands (RFC 854).
    telnet: bool,
}

const NC: Client = Client {
    program: "nc",
    arguments: |family, port| vec!["-N".to_owned(), family.stack().to_string(), port.to_string()],
    passes_end: true,
    telnet: false,
};

const SOCAT: Client = Client {
    program: "socat",
    // Without -t it gives up half a second after the end of its input.
    arguments: |family, port| {
        vec!["-t60".into(), "-".into(), format!("TCP:{}", common::at(family.stack(), port))]
    },
    passes_end: true,
    telnet: false,
};

const CURL: Client = Client {
    program: "curl",
    arguments: |family, port| {
        ["--silent", "--no-buffer"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("telnet://{}", common::at(family.stack(), port))])
            .collect()
    },
    passes_end: false,
    telnet: true,
};

const PYTHON: Client = Client {
    program: "python3",
    arguments: |family, port| {
        vec!["-c".into(), PYTHON_SOURCE.into(), family.stack().to_string(), port.to_string()]
    },
    passes_end: true,
    telnet: false,
};

const PYTHON_SOURCE: &str = "
import socket, sys, threading
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def send():
    while block := sys.stdin.buffer.raw.read(65536):
        connection.sendall(block)
    connection.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while block := connection.recv(65536):
    sys.stdout.buffer.write(block)
";

/// What is sent: the pattern, or a part of each byte that is a letter.
#[derive(Clone, Copy)]
struct Payload {
    pattern: Pattern,
    letters: bool,
}

impl Payload {
    fn of(client: Client) -> Self {
        Self { pattern: Pattern::new(4), letters: client.telnet }
    }

    fn fill(self, offset: u64, block: &mut [u8]) {
        self.pattern.fill(offset, block);
        if self.letters {
            block.iter_mut().for_each(|byte| *byte = b'@' | (*byte & 0x1f));
        }
    }
}

/// Ends a process when it is dropped, also when a test fails, so that threads that wait for its
/// pipes end too.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The path of a client, which is searched for once and outside the namespace.
fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|path| path.join(program))
        .find(|path| path.is_file())
}

/// What a client is to do.
struct Task<'a> {
    port: u16,
    /// What to give it as input.
    send: u64,
    /// How much of its output to wait for before it may be ended, if it does not end by itself.
    receive: u64,
    /// Called with each block of output and its offset.
    on_output: &'a (dyn Fn(u64, &[u8]) + Sync),
}

impl Client {
    /// Runs it.
    fn run(self, family: Family, task: &Task<'_>) {
        let mut child = Command::new(self.program)
            .args((self.arguments)(family, task.port))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let payload = Payload::of(self);
        let running = Running(child);
        let received = thread::scope(|scope| {
            // For clients that do not end by themselves, or to which characters are sent for ever.
            let _running = running;
            scope.spawn(move || {
                let mut block = vec![0; BLOCK];
                let mut sent = 0;
                while sent < task.send {
                    let n = (task.send - sent).min(BLOCK as u64) as usize;
                    payload.fill(sent, &mut block[..n]);
                    input.write_all(&block[..n]).unwrap();
                    sent += n as u64;
                }
            });
            let mut block = vec![0; BLOCK];
            let mut received = 0;
            while received < task.receive {
                let room = (task.receive - received).min(BLOCK as u64) as usize;
                match output.read(&mut block[..room]).unwrap() {
                    0 => break,
                    n => {
                        (task.on_output)(received, &block[..n]);
                        received += n as u64;
                    }
                }
            }
            received
        });
        assert_eq!(received, task.receive, "{}: bytes lost on the way to it", self.program);
    }

    fn echoes(self, family: Family, len: u64) {
        let payload = Payload::of(self);
        let compare = |offset: u64, block: &[u8]| {
            let mut expected = vec![0; block.len()];
            payload.fill(offset, &mut expected);
            assert!(block == expected, "bytes changed after {offset}");
        };
        self.run(family, &Task { port: ECHO, send: len, receive: len, on_output: &compare });
    }

    fn receives(self, family: Family, len: u64) {
        let period = chargen_period();
        let doubled = period.repeat(BLOCK.div_ceil(period.len()) + 1);
        let compare = |offset: u64, block: &[u8]| {
            let start = (offset % period.len() as u64) as usize;
            assert!(block == &doubled[start..start + block.len()], "bytes changed after {offset}");
        };
        self.run(family, &Task { port: CHARGEN, send: 0, receive: len, on_output: &compare });
    }

    /// Sends to the service that discards, which reports what it got. Only with a client that passes
    /// on the end of its input; curl also waits 100 ms before each block if nothing comes in.
    fn sends(self, family: Family, len: u64, inetd: &Inetd) {
        let unexpected = |_, _: &[u8]| panic!("the discard service answered");
        let task = Task { port: DISCARD, send: len, receive: 0, on_output: &unexpected };
        let payload = Payload::of(self);
        let mut sum = Adler32::default();
        let mut block = vec![0; BLOCK];
        for offset in (0..len).step_by(BLOCK) {
            let n = (len - offset).min(BLOCK as u64) as usize;
            payload.fill(offset, &mut block[..n]);
            sum.update(&block[..n]);
        }
        self.run_to_end(family, &task);
        let expected = format!("received {len}, sent 0, adler32 {:08x}", sum.value());
        let line = inetd.wait_for("discard ");
        assert!(line.ends_with(&expected), "{line}; expected {expected}");
    }

    /// Runs it until it ends by itself, for services that send nothing.
    fn run_to_end(self, family: Family, task: &Task<'_>) {
        let mut child = Command::new(self.program)
            .args((self.arguments)(family, task.port))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let payload = Payload::of(self);
        let mut block = vec![0; BLOCK];
        for offset in (0..task.send).step_by(BLOCK) {
            let n = (task.send - offset).min(BLOCK as u64) as usize;
            payload.fill(offset, &mut block[..n]);
            input.write_all(&block[..n]).unwrap();
        }
        drop(input);
        assert!(child.wait().unwrap().success(), "{}", self.program);
    }
}

/// Everything that `client` can do, with and without offloads, over IPv4 and IPv6.
fn serves(test: &str, client: Client) {
    if find(client.program).is_none() {
        eprintln!("SKIPPED {test}: {} is not installed", client.program);
        return;
    }
    let len = transfer_len();
    isolated_within(time_limit(len * 12), test, || {
        for offload in ["on", "off"] {
            let inetd = Inetd::start(&["--offload", offload, "--report"]);
            for family in Family::ALL {
                type Step<'a> = (&'a str, Box<dyn Fn() + 'a>);
                let steps: [Step<'_>; 3] = [
                    ("to the stack", Box::new(|| client.sends(family, len, &inetd))),
                    ("from the stack", Box::new(|| client.receives(family, len))),
                    ("both at once", Box::new(|| client.echoes(family, len))),
                ];
                // A client that does not pass on the end of its input cannot say that it is done.
                for (name, step) in steps.into_iter().skip(usize::from(!client.passes_end)) {
                    let start = Instant::now();
                    step();
                    let seconds = start.elapsed().as_secs_f64();
                    println!("{test} offload {offload} {family:?} {name}: {} MiB, {seconds:.2} s", len >> 20);
                }
                daytime(client, family);
            }
            inetd.stop();
        }
    });
}

fn daytime(client: Client, family: Family) {
    let line = std::sync::Mutex::new(Vec::new());
    let keep = |_, block: &[u8]| line.lock().unwrap().extend_from_slice(block);
    // "Sunday, May 3, 2026 00:00:00-UTC" and the end of the line: the shortest there is.
    client.run(family, &Task { port: DAYTIME, send: 0, receive: 34, on_output: &keep });
    let line = String::from_utf8(line.into_inner().unwrap()).unwrap();
    assert!(line.contains("day, "), "{line}");
}

#[test]
fn nc() {
    serves("clients::nc", NC);
}

#[test]
fn socat() {
    serves("clients::socat", SOCAT);
}

#[test]
fn curl() {
    serves("clients::curl", CURL);
}

#[test]
fn python() {
    serves("clients::python", PYTHON);
}

/// Through a bad network, in a smaller amount.
#[test]
fn python_through_a_bad_network() {
    if find("python3").is_none() {
        eprintln!("SKIPPED python_through_a_bad_network: python3 is not installed");
        return;
    }
    let len = common::size("NETSTACK_TEST_IMPAIRED_MIB", 1) << 20;
    isolated_within(Duration::from_secs(300), "clients::python_through_a_bad_network", || {
        let inetd = Inetd::start(&["--impair", "delay=5ms,loss=1%,reorder=5%"]);
        for family in Family::ALL {
            PYTHON.echoes(family, len);
        }
        inetd.stop();
    });
}
