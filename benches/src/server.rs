//! The processes of the contenders, for their parent.

use crate::clock;
use crate::contender::Contender;
use crate::serve::{ASK_MEMORY, ASK_RECEIVED, ASK_SENT, READY};
use netstack_tun::netns::Namespace;
use netstack_tun::{Cidr, interface};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How long a child may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a child may take to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The ends of the veth pair.
const VETH_HERE: &str = "veth-here";
const VETH_THERE: &str = "veth-there";
/// Kernel ticks of the times in `/proc/PID/stat`: `USER_HZ`, which is 100 on all of Rust's Linux
/// targets.
const TICKS_PER_SECOND: f64 = 100.0;

/// A contender that serves in a process of its own until this is dropped.
#[derive(Debug)]
pub struct Server {
    contender: Contender,
    child: Child,
    /// Closing it ends the child.
    stdin: Option<ChildStdin>,
    lines: Receiver<io::Result<String>>,
    /// The other host of a veth pair.
    _namespace: Option<Namespace>,
}

impl Server {
    /// Runs `command`, which must call [`serve::run`](crate::serve::run) with `until_eof`, in this
    /// network namespace, or for [`Contender::Veth`] in one at the other end of a new veth pair.
    ///
    /// # Errors
    /// If it does not run, or does not report in time that it is ready. It is then ended.
    pub fn spawn(contender: Contender, mut command: Command, mtu: u32) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let namespace = match contender {
            Contender::Veth => Some(veth(mtu)?),
            _ => None,
        };
        let mut child = match &namespace {
            Some(namespace) => namespace.run(|| command.spawn())??,
            None => command.spawn()?,
        };
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("it is piped");
        // From here on, dropping it ends the child.
        let server = Self { contender, child, stdin, lines: read_lines(stdout)?, _namespace: namespace };
        match server.line()?.as_str() {
            READY => Ok(server),
            line => Err(io::Error::other(format!("{contender} said `{line}`, not that it is ready"))),
        }
    }

    /// The contender.
    pub fn contender(&self) -> Contender {
        self.contender
    }

    /// The address of its service at `port`.
    pub fn address(&self, port: u16) -> SocketAddr {
        (self.contender.address(), port).into()
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
        line.parse().map_err(|_| io::Error::other(format!("{} said `{line}`, not a number", self.contender)))
    }

    /// Processor time that it has used, in user space and in the kernel.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // proc(5): utime and stime are fields 14 and 15, and the name before field 3 may have spaces.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: f64 = fields.filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
    }

    fn line(&self) -> io::Result<String> {
        self.lines.recv_timeout(TIMEOUT).unwrap_or_else(|err| {
            let (kind, text) = match err {
                RecvTimeoutError::Timeout => (io::ErrorKind::TimedOut, "does not answer"),
                RecvTimeoutError::Disconnected => (io::ErrorKind::UnexpectedEof, "has ended"),
            };
            Err(io::Error::new(kind, format!("the process of {} {text}", self.contender)))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stdin = None;
        if self.contender == Contender::Veth {
            // The other namespace, and with it the pair, is removed some time after its last
            // process has ended; until then, the name is taken for the next server. An error means
            // that the pair is gone already.
            let _ = interface::delete(VETH_HERE);
        }
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

/// A namespace at the other end of a new veth pair, with addresses at both ends.
fn veth(mtu: u32) -> io::Result<Namespace> {
    let (here, there) = (VETH_HERE, VETH_THERE);
    let namespace = Namespace::new()?;
    interface::veth_pair(here, there)?;
    interface::move_to(there, &namespace)?;
    let side = |name: &str, address: IpAddr| {
        interface::set_mtu(name, mtu)?;
        interface::up(name)?;
        interface::add_address(name, Cidr::new(address, 24)?)
    };
    namespace.run(|| side(there, Contender::Veth.address().into()))??;
    side(here, Contender::Veth.kernel_address().into())?;
    Ok(namespace)
}
