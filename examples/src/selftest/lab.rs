//! The two namespaces.

use netstack_tun::netns::{self, Namespace};
use netstack_tun::{Cidr, interface};
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Arc;

/// The addresses of the clients, which are those of the kernel's side of the TUN device.
pub const CLIENT_V4: &str = "10.255.0.1/30";
/// The same for IPv6.
pub const CLIENT_V6: &str = "fd55::1/64";

/// All addresses of the servers over IPv4: `lo` takes a whole network.
pub(super) const SERVERS_V4: &str = "198.18.0.1/15";
/// The servers over IPv6 are at `2001:db8:5::1` and the following; `lo` takes single addresses.
pub(super) const SERVERS_V6: u128 = 0x2001_0db8_0005_0000_0000_0000_0000_0001;
pub(super) const COUNT_V6: u128 = 8;

/// The namespace of the clients.
#[derive(Clone, Debug)]
pub struct Lab {
    clients: Arc<Namespace>,
}

/// Prepares the namespace of this process for servers, and makes one for clients.
///
/// # Errors
/// Those of the namespace and its interfaces.
pub fn lab() -> io::Result<Lab> {
    interface::add_address("lo", SERVERS_V4.parse()?)?;
    for n in 0..COUNT_V6 {
        let address = std::net::Ipv6Addr::from_bits(SERVERS_V6 + n);
        interface::add_address("lo", format!("{address}/128").parse()?)?;
    }
    // For everybody in the namespaces, as distributions have it.
    let pings = || netns::sysctl("net.ipv4.ping_group_range", "0 0");
    pings()?;
    // Clients here are more than the ports of one address last for otherwise.
    netns::sysctl("net.ipv4.ip_local_port_range", "10000 65000")?;
    let clients = Namespace::new()?;
    clients.run(|| {
        pings()?;
        netns::sysctl("net.ipv4.ip_local_port_range", "10000 65000")
    })??;
    Ok(Lab { clients: Arc::new(clients) })
}

impl Lab {
    /// A path by which processes find the namespace of the clients as long as this one lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.clients.as_fd().as_raw_fd()).into()
    }

    /// Routes everything that clients send to an interface of theirs.
    ///
    /// # Errors
    /// Those of the interface.
    pub fn route_everything_to(&self, name: &str) -> io::Result<()> {
        self.clients.run(|| {
            for all in ["0.0.0.0/0", "::/0"] {
                interface::add_route(all.parse::<Cidr>()?, None, name)?;
            }
            Ok(())
        })?
    }

    /// Runs `body` in the namespace of the clients, on a thread with a runtime of its own.
    ///
    /// # Errors
    /// Those of `body`, and of entering the namespace.
    pub async fn as_client<T, F>(&self, body: impl FnOnce() -> F + Send + 'static) -> io::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = io::Result<T>>,
    {
        let clients = Arc::clone(&self.clients);
        let run = move || {
            clients.run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(body())
            })
        };
        tokio::task::spawn_blocking(run).await.map_err(io::Error::other)??
    }

    /// Runs `body` in the namespace of the clients.
    ///
    /// # Errors
    /// Those of entering the namespace.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> io::Result<T> {
        self.clients.run(body)
    }
}
