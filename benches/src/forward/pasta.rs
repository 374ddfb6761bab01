//! pasta: a program that opens a TAP device in the namespace of its clients, and connects from its own.

use super::lab::{CLIENT, GATEWAY, SERVER, TO_PROXY, TO_SERVER};
use super::serve::Options;
use crate::clock;
use crate::serve::{answer_until_eof, ready_at};
use netstack_tun::netns::Namespace;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Its name.
const PROGRAM: &str = "pasta";
/// How long it may take to configure its device.
const START: Duration = Duration::from_secs(5);

pub(super) fn is_installed() -> bool {
    let mut version = Command::new(PROGRAM);
    version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    version.status().is_ok()
}

/// Runs it as a child until standard input ends.
///
/// # Errors
/// If it does not run, or has no device in time.
pub(super) fn run(mtu: u32, options: &Options) -> io::Result<()> {
    let mut child = Running(command(mtu, options)?.spawn()?);
    let clients = Namespace::open(&options.clients)?;
    let end = clock::now() + START;
    // It is ready when there is a way to the server.
    let has_route = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.connect((SERVER, 9));
    while clients.run(has_route)?.is_err() {
        if let Some(status) = child.0.try_wait()? {
            return Err(io::Error::other(format!("{PROGRAM} has ended: {status}")));
        }
        if clock::now() > end {
            return Err(io::ErrorKind::TimedOut.into());
        }
        clock::sleep(Duration::from_millis(10));
    }
    ready_at(child.0.id())?;
    // It has a heap of its own.
    answer_until_eof(|| 0);
    Ok(())
}

fn command(mtu: u32, options: &Options) -> io::Result<Command> {
    let mut command = Command::new(PROGRAM);
    command.args(["--foreground", "--quiet", "--ipv4-only", "--config-net", "--no-map-gw"]);
    // As root it would become nobody, who may not enter the namespace.
    command.args(["--runas", "0:0"]);
    // No port of either namespace is for the other.
    command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
    command.args(["--interface", TO_SERVER, "--ns-ifname", TO_PROXY, "--mtu", &mtu.to_string()]);
    command.args(["--address", &CLIENT.to_string(), "--netmask", "24", "--gateway", &GATEWAY.to_string()]);
    // It gives up the right to look at the descriptors of other processes before it opens the path.
    command.args(["--netns", "/proc/self/fd/0"]).stdin(File::open(&options.clients)?);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// A child that ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // If it cannot be killed, it has just ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
