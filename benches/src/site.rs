//! A measured process and its clients, in network namespaces of their own.

use crate::contender::{Contender, Medium, Nic};
use crate::pinning::Pinning;
use crate::process::Process;
use crate::serve::{self, KERNEL, SERVER};
use netstack_tun::netns::{self, Namespace};
use netstack_tun::{Cidr, interface};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

/// The ends of a veth pair: of the clients, and of the server.
const VETH_CLIENTS: &str = "bench-clients";
const VETH_SERVER: &str = "bench-server";

/// TIME-WAIT sockets of the clients. With the kernel's default, short connections soon use all ports, and what is
/// then measured is the search for a free one.
const TIME_WAITS: &str = "1024";

/// A process and the namespace of its clients, until this is dropped.
#[derive(Debug)]
pub struct Site {
    process: Process,
    clients: Namespace,
    /// The other host, of a process with a namespace of its own.
    _server: Option<Namespace>,
}

impl Site {
    /// Runs `command`, which must call [`serve::run`] for `contender` with `until_eof` and the settings `nic`, in new
    /// namespaces.
    ///
    /// # Errors
    /// Those of the namespaces and interfaces, and of [`Process::spawn`].
    pub fn start(contender: Contender, nic: Nic, pinning: Pinning, mut command: Command) -> io::Result<Self> {
        let clients = clients()?;
        let server = match contender.medium() {
            Medium::Tun | Medium::Loopback => None,
            Medium::Veth => {
                let server = Namespace::new()?;
                clients.run(|| veth((VETH_CLIENTS, KERNEL), (VETH_SERVER, SERVER), &server, nic.mtu))??;
                Some(server)
            }
        };
        let spawn = || {
            // A child has the processors of the thread that has made it.
            pinning.pin_server()?;
            Process::spawn(contender.name(), &mut command)
        };
        let process = server.as_ref().unwrap_or(&clients).run(spawn)??;
        Ok(Self { process, clients, _server: server })
    }

    /// Of a process that runs already.
    pub(crate) fn of(process: Process, clients: Namespace) -> Self {
        Self { process, clients, _server: None }
    }

    /// The measured process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Runs `body` in the namespace of the clients, on a thread of its own. Sockets that it makes stay there.
    ///
    /// # Errors
    /// Those of `body`, and of entering the namespace.
    pub fn as_client<T: Send>(
        &mut self,
        body: impl FnOnce(&mut Process) -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let Self { clients, process, .. } = self;
        clients.run(|| body(process))?
    }
}

/// A namespace for clients, with many ports.
pub(crate) fn clients() -> io::Result<Namespace> {
    let clients = Namespace::new()?;
    clients.run(|| {
        // Not available everywhere. There, long measurements of short connections become slow.
        let _ = netns::sysctl("net.ipv4.ip_local_port_range", "1024 65535");
        let _ = netns::sysctl("net.ipv4.tcp_max_tw_buckets", TIME_WAITS);
    })?;
    Ok(clients)
}

/// A veth pair from here to another namespace, each end with its name and address.
pub(crate) fn veth(
    here: (&str, Ipv4Addr),
    there: (&str, Ipv4Addr),
    namespace: &Namespace,
    mtu: u32,
) -> io::Result<()> {
    let side = |(name, address): (&str, Ipv4Addr)| {
        interface::set_mtu(name, mtu)?;
        interface::up(name)?;
        interface::add_address(name, Cidr::new(IpAddr::V4(address), 24)?)
    };
    interface::veth_pair(here.0, there.0)?;
    interface::move_to(there.0, namespace)?;
    namespace.run(|| side(there))??;
    side(here)
}

/// The address of the service of `contender` at `port`.
pub fn address(contender: Contender, port: u16) -> std::net::SocketAddr {
    (serve::address(contender), port).into()
}
