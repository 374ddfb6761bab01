//! Where an example runs: over a link in memory, with a client of its own, or over a TUN device, for clients from
//! outside.

use clap::Parser;
use netstack::device::{Device, Link, LinkConfig};
use netstack::net::Resolver;
use netstack::{Interface, Stack};
use netstack_tun::{Tun, TunConfig, interface};
use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// The address of the server, which is called [`crate::tls::NAME`].
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

/// The address of the client in memory, and of the kernel over TUN.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// What can go wrong in an example.
pub type Failure = Box<dyn Error + Send + Sync>;

/// The command line of the examples.
#[derive(Parser, Debug)]
struct Args {
    /// Serve clients from outside over this TUN device. The kernel is 10.9.0.1 then, and the server 10.9.0.2. It
    /// takes the right to make a device: root, or a namespace of one's own (`unshare -rn`).
    #[arg(long, value_name = "DEVICE", num_args = 0..=1, default_missing_value = "netstack0")]
    tun: Option<String>,
}

/// Where an example runs.
#[derive(Debug)]
pub struct Place {
    /// The stack of the server.
    pub server: Stack,
    /// The stack of the client in memory; none over TUN, where clients are from outside.
    pub client: Option<Stack>,
}

impl Place {
    /// Where the command line says. Call it in a runtime.
    ///
    /// # Errors
    /// Those of the device and of the stacks.
    pub fn from_args() -> io::Result<Self> {
        match Args::parse().tun {
            Some(name) => Self::tun(&name),
            None => Self::memory(),
        }
    }

    /// The address of a server on the kernel's sockets that the server's stack, over TUN, or a bridge, in memory, reaches.
    pub fn kernel(&self) -> Ipv4Addr {
        if self.client.is_some() { Ipv4Addr::LOCALHOST } else { CLIENT }
    }

    /// Two hosts in memory, 5 ms apart.
    ///
    /// # Errors
    /// Those of the stacks.
    pub fn memory() -> io::Result<Self> {
        let delay: LinkConfig = "delay=5ms".parse().expect("a link");
        let (left, right) = Link::pair(delay.clone(), delay);
        Ok(Self { server: build(right, SERVER)?, client: Some(build(left, CLIENT)?) })
    }

    /// A server whose clients are from outside, over the TUN device `name`.
    ///
    /// # Errors
    /// Those of the device and of the stack.
    pub fn tun(name: &str) -> io::Result<Self> {
        // In a new namespace it is down, and what runs there besides may need it.
        interface::up("lo")?;
        let tun = Tun::open(&TunConfig::new(name).address(format!("{CLIENT}/24"))?)?;
        Ok(Self { server: build(tun, SERVER)?, client: None })
    }
}

/// Runs `body` until it ends or the process is asked to end (SIGINT, SIGTERM), and drops it then: what has a destructor,
/// such as a server, is not left behind.
///
/// # Errors
/// Those of `body`; if signals cannot be waited for.
pub async fn until_signal(body: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        result = body => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

fn build(device: impl Device + 'static, address: Ipv4Addr) -> io::Result<Stack> {
    let interface = Interface::new(Arc::new(device)).address(&format!("{address}/24"));
    let names = Resolver::fixed([(crate::tls::NAME, SERVER.into())]);
    Stack::builder().interface(interface).resolver(names).build()
}
