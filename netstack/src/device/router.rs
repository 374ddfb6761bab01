//! Many hosts in memory.

use super::queue::PacketQueue;
use super::{Capabilities, Device, Link, LinkConfig, PacketLost, Readiness, RxMeta, Signal, TxPacket};
use crate::buffer::PacketBuf;
use crate::sync::{Mutex, Rank};
use crate::time::Instant;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The settings of a [`Router`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    /// MTU in bytes. Default 1,500.
    pub mtu: usize,
    /// Maximum number of packets that wait for a host. Those above it are lost, as in a switch. Default
    /// 1,024.
    pub queue: usize,
    /// Whether super-segments and incomplete checksums are passed on unchanged. Default true.
    pub offloads: bool,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self { mtu: 1500, queue: 1024, offloads: true }
    }
}

/// Joins any number of hosts in memory, each of which has a port: a device for its stack.
///
/// A packet goes to the port that has its destination address; to a group or to all hosts, to all other
/// ports; and to an address that no port has, to the default port, if there is one. It is not changed, and
/// takes no time. A [`Link`] on a port delays and loses packets ([`Router::linked_port`]), and
/// [`Router::partition`] separates hosts, until [`Router::heal`].
///
/// It has no randomness and no clock of its own: the same packets in the same order give the same result.
///
/// # Examples
/// ```
/// use netstack::device::{LinkConfig, Router, RouterConfig};
/// use netstack::{Interface, Stack};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let router = Router::new(RouterConfig::default());
/// let delay: LinkConfig = "delay=10ms".parse()?;
/// let host = |name: &str, address: &str| -> std::io::Result<Stack> {
///     let port = router.linked_port(name, &[address.parse().unwrap()], delay.clone(), delay.clone())?;
///     Stack::builder().interface(Interface::new(port).address(&format!("{address}/24"))).build()
/// };
/// let (a, b, c) = (host("a", "10.0.0.1")?, host("b", "10.0.0.2")?, host("c", "10.0.0.3")?);
/// let listener = b.listen("10.0.0.2:80").await?;
/// a.connect("10.0.0.2:80").await?;
/// c.connect("10.0.0.2:80").await?;
/// router.partition(&["a"], &["b", "c"]);
/// assert!(a.connect("10.0.0.2:80").await.is_err());
/// router.heal();
/// a.connect("10.0.0.2:80").await?;
/// # drop(listener);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

struct Shared {
    config: RouterConfig,
    state: Mutex<State>,
    /// Packets for nobody, or for somebody who cannot be reached.
    undeliverable: AtomicU64,
    /// Packets that found the queue of a host full.
    overflows: AtomicU64,
}

#[derive(Default)]
struct State {
    ports: Vec<Arc<Port>>,
    by_address: HashMap<IpAddr, usize>,
    default: Option<usize>,
    /// Pairs of ports that do not reach each other, the lower number first.
    separated: HashSet<(usize, usize)>,
}

struct Port {
    name: String,
    inbox: PacketQueue,
    signal: Signal,
}

/// The port of a host at a [`Router`].
pub struct RouterPort {
    router: Arc<Shared>,
    number: usize,
    port: Arc<Port>,
    /// The ports that it has sent to since the last flush.
    touched: Mutex<BTreeSet<usize>>,
}

impl Router {
    /// A router without ports.
    pub fn new(config: RouterConfig) -> Self {
        let shared = Shared {
            config,
            state: Mutex::new(Rank::InnerDevice, State::default()),
            undeliverable: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A port for the host `name`, which has these addresses.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if another port has the name or one of the addresses.
    pub fn port(&self, name: &str, addresses: &[IpAddr]) -> io::Result<RouterPort> {
        let mut state = self.shared.state.lock();
        if state.ports.iter().any(|port| port.name == name) {
            return Err(taken(&format!("a port is called `{name}`")));
        }
        if let Some(address) = addresses.iter().find(|address| state.by_address.contains_key(address)) {
            return Err(taken(&format!("a port has the address {address}")));
        }
        let number = state.ports.len();
        let inbox = PacketQueue::new(self.shared.config.queue);
        let port = Arc::new(Port { name: name.to_owned(), inbox, signal: Signal::new() });
        state.ports.push(Arc::clone(&port));
        state.by_address.extend(addresses.iter().map(|address| (*address, number)));
        let touched = Mutex::new(Rank::InnerDevice, BTreeSet::new());
        Ok(RouterPort { router: Arc::clone(&self.shared), number, port, touched })
    }

    /// As [`Router::port`], with a [`Link`] that impairs what the host sends and what it receives.
    ///
    /// # Errors
    /// As [`Router::port`].
    pub fn linked_port(
        &self,
        name: &str,
        addresses: &[IpAddr],
        sent: LinkConfig,
        received: LinkConfig,
    ) -> io::Result<Arc<Link>> {
        Ok(Arc::new(Link::new(Arc::new(self.port(name, addresses)?), received, sent)))
    }

    /// Sends what is for an address of no port to the host `name`: a gateway, or a proxy that takes all
    /// addresses.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] if there is no such port.
    pub fn set_default_port(&self, name: &str) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        let number = state.number(name);
        state.default = Some(number.ok_or(io::ErrorKind::NotFound)?);
        Ok(())
    }

    /// Separates each host of one side from each of the other, in addition to what is separated already:
    /// packets between them are lost. Names of no port mean nothing.
    pub fn partition(&self, one_side: &[&str], other_side: &[&str]) {
        let mut state = self.shared.state.lock();
        for one in one_side {
            for other in other_side {
                if let (Some(one), Some(other)) = (state.number(one), state.number(other)) {
                    state.separated.insert(pair(one, other));
                }
            }
        }
    }

    /// Joins all hosts again.
    pub fn heal(&self) {
        self.shared.state.lock().separated.clear();
    }

    /// Packets that were lost because no port has their destination, or because it was separated from their
    /// sender.
    pub fn undeliverable(&self) -> u64 {
        self.shared.undeliverable.load(Ordering::Relaxed)
    }

    /// Packets that were lost because the queue of their host was full.
    pub fn overflows(&self) -> u64 {
        self.shared.overflows.load(Ordering::Relaxed)
    }
}

impl State {
    fn number(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.name == name)
    }

    /// The ports that a packet from `sender` to `destination` goes to.
    fn receivers(&self, sender: usize, destination: IpAddr) -> Vec<(usize, Arc<Port>)> {
        let reached = |number: &usize| *number != sender && !self.separated.contains(&pair(sender, *number));
        let port = |number: usize| (number, Arc::clone(&self.ports[number]));
        if destination.is_multicast() || destination == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return (0..self.ports.len()).filter(reached).map(port).collect();
        }
        let one = self.by_address.get(&destination).copied().or(self.default);
        one.filter(reached).map(port).into_iter().collect()
    }
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

fn taken(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}

/// The destination of an IP packet.
pub(crate) fn destination(header: &[u8]) -> Option<IpAddr> {
    match header.first()? >> 4 {
        4 => Some(Ipv4Addr::from(*header.get(16..)?.first_chunk::<4>()?).into()),
        6 => Some(Ipv6Addr::from(*header.get(24..)?.first_chunk::<16>()?).into()),
        _ => None,
    }
}

impl Device for RouterPort {
    fn capabilities(&self) -> Capabilities {
        let RouterConfig { mtu, queue: _, offloads } = self.router.config;
        Capabilities {
            mtu,
            queues: 1,
            checksum_offload: offloads,
            segmentation_offload: offloads,
            udp_segmentation_offload: offloads,
            point_to_point: true,
        }
    }

    fn receive(&self, _now: Instant, _queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        self.port.inbox.pop(buf).map(|popped| popped.meta)
    }

    fn transmit(&self, _now: Instant, _queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        let to = destination(packet.header);
        let receivers = match to {
            Some(to) => self.router.state.lock().receivers(self.number, to),
            None => Vec::new(),
        };
        if receivers.is_empty() {
            self.router.undeliverable.fetch_add(1, Ordering::Relaxed);
            return Err(PacketLost.into());
        }
        let mut lost = 0;
        for (number, port) in &receivers {
            match port.inbox.push(packet) {
                Ok(()) => {
                    self.touched.lock().insert(*number);
                }
                Err(_) => lost += 1,
            }
        }
        self.router.overflows.fetch_add(lost as u64, Ordering::Relaxed);
        if lost == receivers.len() { Err(PacketLost.into()) } else { Ok(()) }
    }

    fn flush(&self, _queue: usize) {
        let touched = std::mem::take(&mut *self.touched.lock());
        let ports: Vec<_> = {
            let state = self.router.state.lock();
            touched.into_iter().map(|number| Arc::clone(&state.ports[number])).collect()
        };
        ports.iter().for_each(|port| port.signal.raise_readable());
    }

    fn readiness(&self, _queue: usize) -> Readiness<'_> {
        Readiness::Signal(&self.port.signal)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.shared.state.lock().ports.len();
        f.debug_struct("Router").field("ports", &ports).finish_non_exhaustive()
    }
}

impl fmt::Debug for RouterPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterPort").field("name", &self.port.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;
    use crate::wire::{IpMeta, emit_ip, protocol};

    const NOW: Instant = Instant::ZERO;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn header(to: &str) -> Vec<u8> {
        let from = if ip(to).is_ipv4() { "10.0.0.1" } else { "fd00::1" };
        let mut packet = vec![0; if ip(to).is_ipv4() { 20 } else { 40 }];
        emit_ip(&mut packet, &IpMeta::new(ip(from), ip(to), 64), protocol::UDP, 0);
        packet
    }

    fn send(port: &RouterPort, to: &str) -> io::Result<()> {
        port.transmit(NOW, 0, &TxPacket { header: &header(to), ..TxPacket::default() })
    }

    fn received(port: &RouterPort) -> usize {
        let mut buf = Pool::new().take();
        (0..).take_while(|_| port.receive(NOW, 0, &mut buf).is_ok()).count()
    }

    fn three() -> (Router, [RouterPort; 3]) {
        let router = Router::new(RouterConfig { queue: 4, ..RouterConfig::default() });
        let port = |name, n: u8| {
            router.port(name, &[ip(&format!("10.0.0.{n}")), ip(&format!("fd00::{n}"))]).unwrap()
        };
        let ports = [port("a", 1), port("b", 2), port("c", 3)];
        (router, ports)
    }

    #[test]
    fn packets_go_to_whose_address_they_have() {
        let (router, [a, b, c]) = three();
        for (to, expected) in [
            ("10.0.0.2", [0, 1, 0]),
            ("fd00::3", [0, 0, 1]),
            ("255.255.255.255", [0, 1, 1]),
            ("ff02::1", [0, 1, 1]),
        ] {
            send(&a, to).unwrap();
            assert_eq!([&a, &b, &c].map(received), expected, "{to}");
        }
        for to in ["8.8.8.8", "10.0.0.1"] {
            assert!(super::super::is_loss(&send(&a, to).unwrap_err()), "{to}");
        }
        assert_eq!(router.undeliverable(), 2);
        router.set_default_port("c").unwrap();
        send(&a, "8.8.8.8").unwrap();
        assert_eq!(received(&c), 1);
        assert_eq!(router.set_default_port("d").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_partition_separates_sides_until_it_is_healed() {
        let (router, [a, b, c]) = three();
        router.partition(&["a"], &["b", "nobody"]);
        assert!(send(&a, "10.0.0.2").is_err() && send(&b, "10.0.0.1").is_err());
        send(&a, "10.0.0.3").unwrap();
        send(&a, "255.255.255.255").unwrap();
        assert_eq!([&a, &b, &c].map(received), [0, 0, 2]);
        router.heal();
        send(&a, "10.0.0.2").unwrap();
        assert_eq!(received(&b), 1);
    }

    #[test]
    fn a_full_host_loses_its_own_packets_only() {
        let (router, [a, b, c]) = three();
        (0..4).for_each(|_| send(&a, "10.0.0.2").unwrap());
        assert!(send(&a, "10.0.0.2").is_err());
        send(&a, "10.0.0.3").unwrap();
        send(&a, "255.255.255.255").unwrap();
        assert_eq!((router.overflows(), received(&b), received(&c)), (2, 4, 2));
    }

    #[test]
    fn names_and_addresses_are_taken_once() {
        let (router, _ports) = three();
        for (name, address) in [("a", "10.0.0.9"), ("d", "10.0.0.1")] {
            assert_eq!(router.port(name, &[ip(address)]).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
    }

    #[test]
    fn a_flush_wakes_who_was_sent_to() {
        use std::task::{Context, Waker};
        let (_router, [a, b, c]) = three();
        send(&a, "10.0.0.2").unwrap();
        let woken = |port: &RouterPort| {
            port.port.signal.poll_readable(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        assert!(!woken(&b), "not by the transmission");
        a.flush(0);
        assert_eq!([&a, &b, &c].map(woken), [false, true, false]);
    }
}
