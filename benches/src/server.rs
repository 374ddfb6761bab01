//! The processes of the contenders, for their parent.

use crate::contender::Contender;
use crate::process::Process;
use netstack_tun::netns::Namespace;
use netstack_tun::{Cidr, interface};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::process::Command;

/// The ends of the veth pair.
const VETH_HERE: &str = "veth-here";
const VETH_THERE: &str = "veth-there";

/// A contender that serves in a process of its own until this is dropped.
#[derive(Debug)]
pub struct Server {
    contender: Contender,
    process: Process,
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
        let namespace = match contender {
            Contender::Veth => Some(veth(mtu)?),
            _ => None,
        };
        let process = match &namespace {
            Some(namespace) => namespace.run(|| Process::spawn(contender.name(), &mut command))??,
            None => Process::spawn(contender.name(), &mut command)?,
        };
        Ok(Self { contender, process, _namespace: namespace })
    }

    /// The contender.
    pub fn contender(&self) -> Contender {
        self.contender
    }

    /// The address of its service at `port`.
    pub fn address(&self, port: u16) -> SocketAddr {
        (self.contender.address(), port).into()
    }
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.contender == Contender::Veth {
            // The other namespace, and with it the pair, is removed some time after its last
            // process has ended; until then, the name is taken for the next server. An error means
            // that the pair is gone already.
            let _ = interface::delete(VETH_HERE);
        }
    }
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
