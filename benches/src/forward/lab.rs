//! The namespaces: the server in one, the clients of each proxy in one of their own, and the proxies in that of this
//! process.

use super::{Forwarder, Kind};
use crate::process::Process;
use crate::site::{self, Site, veth};
use netstack_tun::netns::Namespace;
use netstack_tun::{Cidr, interface};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The addresses of clients and of their proxy, in a network of 24 bits.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 2);
/// The link between proxies and the server.
pub(super) const TO_SERVER: &str = "to-server";
const TO_PROXIES: &str = "to-proxies";
const PROXIES: Ipv4Addr = Ipv4Addr::new(10, 61, 0, 1);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 61, 0, 2);
/// The link between clients and a proxy without a TUN device.
const TO_CLIENTS: &str = "to-clients";
/// What errors call it.
const SERVER_NAME: &str = "the server";
/// The device of the clients.
pub(super) const TO_PROXY: &str = "to-proxy";

/// The server, and its link with the namespace of this process, where the proxies are.
#[derive(Debug)]
pub struct Lab {
    servers: Namespace,
    command: Command,
    /// None while it is replaced.
    server: Option<Process>,
    mtu: u32,
}

impl Lab {
    /// Makes the namespace of the server, and runs `command` there, which must serve as
    /// [`Contender::KernelVeth`](crate::contender::Contender::KernelVeth) with `until_eof`.
    ///
    /// # Errors
    /// Those of the namespace and interfaces, and of [`Process::spawn`].
    pub fn new(mut command: Command, mtu: u32) -> io::Result<Self> {
        let servers = Namespace::new()?;
        veth((TO_SERVER, PROXIES), (TO_PROXIES, SERVER), &servers, mtu)?;
        let server = servers.run(|| Process::spawn(SERVER_NAME, &mut command))??;
        Ok(Self { servers, command, server: Some(server), mtu })
    }

    /// Starts the command, which must call [`run`](super::run) for `forwarder`. It is given a path by which the
    /// process finds the namespace of its clients.
    ///
    /// # Errors
    /// Those of [`Process::spawn`], and of the namespace and interfaces.
    pub fn start(&self, forwarder: Forwarder, command: impl FnOnce(&Path) -> Command) -> io::Result<Site> {
        let clients = site::clients()?;
        let path = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), clients.as_fd().as_raw_fd()));
        if forwarder.kind == Kind::Splice {
            // That of an earlier one is removed some time after its namespace. There may be none.
            let _ = interface::delete(TO_CLIENTS);
            veth((TO_CLIENTS, GATEWAY), (TO_PROXY, CLIENT), &clients, self.mtu)?;
        }
        let proxy = Process::spawn(forwarder.name, &mut command(&path))?;
        // pasta has set routes itself.
        if forwarder.kind != Kind::Pasta {
            clients.run(|| {
                let everywhere = Cidr::new(Ipv4Addr::UNSPECIFIED.into(), 0)?;
                interface::add_route(everywhere, None, TO_PROXY)
            })??;
        }
        Ok(Site::of(proxy, clients))
    }

    /// The server's process.
    ///
    /// # Errors
    /// If it has ended because another one could not be started.
    pub fn server(&mut self) -> io::Result<&mut Process> {
        self.server.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Puts another server in its place, with no connections.
    ///
    /// # Errors
    /// Those of [`Process::spawn`].
    pub fn restart_server(&mut self) -> io::Result<()> {
        // Its ports are those of the new one.
        self.server = None;
        let Self { servers, command, server, .. } = self;
        *server = Some(servers.run(|| Process::spawn(SERVER_NAME, command))??);
        Ok(())
    }
}
