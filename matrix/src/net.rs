//! Two stacks, a link between them, and a clock that jumps.

use netstack::Config;
use netstack::buffer::Chunk;
use netstack::config::CongestionName;
use netstack::device::{Device, Link, LinkConfig, LinkStats, PairConfig};
use netstack::readiness::Events;
use netstack::stack::{Batch, Cell, Engine, Family, Interface, Listener, Observer, QueueId, Unconnected};
use netstack::tcp::TcpInfo;
use netstack::time::{Duration, Instant};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the receiver listens.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: u16 = 5001;

/// Bytes that the sending application writes at a time.
const BLOCK: usize = 64 * 1024;

/// Maximum number of packets that have arrived and were not received. The receiver takes all at
/// once, so that this is never reached.
const ARRIVALS: usize = 1 << 20;

/// Maximum number of times that hosts exchange packets at one instant.
const SETTLES: usize = 100_000;

/// The path between the two hosts.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// From the sender to the receiver: the path of the data.
    pub forward: LinkConfig,
    /// The path of the acknowledgments.
    pub back: LinkConfig,
}

/// Records that something has happened to a socket.
#[derive(Debug)]
struct Flag(AtomicBool);

impl Flag {
    /// Raised, because the initial state is not reported.
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Observer for Flag {
    fn on_ready(&self, _: Events) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Host {
    engine: Arc<Engine>,
    device: Arc<dyn Device>,
    queue: QueueId,
    out: Batch,
}

impl Host {
    fn new(address: &str, device: Arc<dyn Device>, config: &Config, seed: u64) -> io::Result<Self> {
        let config = config.clone().with(|config| {
            config.seed = Some(seed);
            config.loopback = false;
        });
        let interface = Interface::new(Arc::clone(&device)).address(address);
        let engine = Engine::new(config, vec![interface])?;
        let queue = engine.core().queues().next().unwrap();
        Ok(Self { engine, device, queue, out: Batch::new() })
    }

    /// Does all work that is due now. Returns whether there was any.
    fn drive(&mut self, now: Instant) -> bool {
        let Self { engine, device, queue, out } = self;
        let mut progress = false;
        if engine.next_deadline().is_some_and(|at| at <= now) {
            engine.on_timer(now, out);
            progress = true;
        }
        if device.next_deadline().is_some_and(|at| at <= now) {
            device.on_deadline(now);
        }
        let mut received = false;
        loop {
            let mut packet = engine.core().pool().take();
            match device.receive(now, 0, &mut packet) {
                Ok(meta) => engine.on_packet(now, *queue, packet, meta, out),
                Err(_) => break,
            }
            received = true;
        }
        if received {
            engine.end_batch(now, out);
            progress = true;
        }
        if engine.has_waiting(*queue) {
            engine.on_writable(now, *queue, out);
            progress = true;
        }
        out.deliver(engine);
        progress
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.engine.next_deadline(), self.device.next_deadline()].into_iter().flatten().min()
    }
}

/// A transfer of as many bytes as the path permits, from an application that always writes to one
/// that always reads.
#[derive(Debug)]
pub struct Flow {
    sender: Arc<Cell>,
    writable: Arc<Flag>,
    receiver: Option<(Arc<Cell>, Arc<Flag>)>,
    /// Bytes that the application may still write.
    left: u64,
    received: u64,
}

/// Index of a flow of a [`Net`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId(usize);

/// Two hosts under one virtual clock, with flows from one to the other.
pub struct Net {
    now: Instant,
    sender: Host,
    receiver: Host,
    links: [Arc<Link>; 2],
    listener: Arc<Listener>,
    flows: Vec<Flow>,
    block: Vec<u8>,
}

impl Net {
    /// Two hosts with the same settings, connected by `path`.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub fn new(path: &Path, config: &Config, seed: u64) -> io::Result<Self> {
        Self::tapped(path, config, seed, |link| link as _)
    }

    /// The same, with something around the sender's device.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub fn tapped(
        path: &Path,
        config: &Config,
        seed: u64,
        tap: impl FnOnce(Arc<Link>) -> Arc<dyn Device>,
    ) -> io::Result<Self> {
        let cable = PairConfig { queue: ARRIVALS, ..PairConfig::default() };
        let (here, there) = Link::pair_over(cable, path.forward.clone(), path.back.clone());
        let links = [Arc::new(here), Arc::new(there)];
        let sender = Host::new("10.0.0.1/24", tap(Arc::clone(&links[0])), config, seed)?;
        let receiver = Host::new("10.0.0.2/24", Arc::clone(&links[1]) as _, config, seed ^ 1)?;
        let mut socket = Unconnected::new(receiver.engine.core(), receiver.engine.tcp(), Family::V4);
        receiver.engine.tcp().bind(receiver.engine.core(), &mut socket, (SERVER, PORT).into())?;
        // Not at zero, which could be mistaken for never.
        let now = Instant::from_millis(1_000);
        let listener =
            receiver.engine.with_tcp(now, |tcp, turn| tcp.listen(turn, socket, 128, Flag::new()))?;
        let block = (0..BLOCK).map(|at| at as u8).collect();
        Ok(Self { now, sender, receiver, links, listener, flows: Vec::new(), block })
    }

    /// The virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Starts a flow of at most `bytes` under `congestion`.
    ///
    /// # Errors
    /// Those of connecting.
    pub fn start(&mut self, congestion: CongestionName, bytes: u64) -> io::Result<FlowId> {
        let mut socket = Unconnected::new(self.sender.engine.core(), self.sender.engine.tcp(), Family::V4);
        let chosen = socket.options.set_congestion(congestion.as_str().as_bytes());
        chosen.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let writable = Flag::new();
        let to = SocketAddr::from((SERVER, PORT));
        let sender = self
            .sender
            .engine
            .with_tcp(self.now, |tcp, turn| tcp.connect(turn, socket, to, Arc::clone(&writable) as _))?;
        self.flows.push(Flow { sender, writable, receiver: None, left: bytes, received: 0 });
        Ok(FlowId(self.flows.len() - 1))
    }

    /// Bytes that the receiving application of a flow has read.
    pub fn received(&self, flow: FlowId) -> u64 {
        self.flows[flow.0].received
    }

    /// The `TcpInfo` of the sender of a flow; none before it is connected.
    pub fn info(&self, flow: FlowId) -> Option<TcpInfo> {
        self.sender.engine.with_tcp(self.now, |tcp, turn| tcp.info(turn, &self.flows[flow.0].sender))
    }

    /// The `TcpInfo` of the receiver of a flow; none before it has accepted the connection.
    pub fn receiver_info(&self, flow: FlowId) -> Option<TcpInfo> {
        let (cell, _) = self.flows[flow.0].receiver.as_ref()?;
        self.receiver.engine.with_tcp(self.now, |tcp, turn| tcp.info(turn, cell))
    }

    /// The statistics of the packets from the sender to the receiver.
    pub fn forward_stats(&self) -> LinkStats {
        self.links[0].egress_stats()
    }

    /// Starts or ends an outage of the path.
    pub fn set_down(&self, down: bool) {
        self.links.iter().for_each(|link| link.set_down(down));
    }

    /// Advances to the next event, but not beyond `until`, and processes it. Returns false if there
    /// was none until then.
    ///
    /// # Errors
    /// If a connection failed.
    pub fn step(&mut self, until: Instant) -> io::Result<bool> {
        self.settle()?;
        let next = [self.sender.next_deadline(), self.receiver.next_deadline()].into_iter().flatten().min();
        match next {
            Some(at) if at <= until => {
                self.now = self.now.max(at);
                self.settle()?;
                Ok(true)
            }
            _ => {
                self.now = until;
                Ok(false)
            }
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// If a connection failed.
    pub fn run_for(&mut self, time: Duration) -> io::Result<()> {
        let until = self.now + time;
        while self.step(until)? {}
        Ok(())
    }

    /// Does all work that takes no time.
    fn settle(&mut self) -> io::Result<()> {
        for _ in 0..SETTLES {
            let mut progress = self.applications()?;
            progress |= self.sender.drive(self.now);
            progress |= self.receiver.drive(self.now);
            if !progress {
                return Ok(());
            }
        }
        Err(io::Error::other("hosts exchange packets without end"))
    }

    fn applications(&mut self) -> io::Result<bool> {
        let mut progress = self.accept();
        for flow in &mut self.flows {
            if flow.writable.take() {
                progress |= flow.write(self.now, &self.sender.engine, &self.block)?;
            }
            if flow.receiver.as_ref().is_some_and(|(_, readable)| readable.take()) {
                progress |= flow.read(self.now, &self.receiver.engine)?;
            }
        }
        Ok(progress)
    }

    fn accept(&mut self) -> bool {
        if self.flows.iter().all(|flow| flow.receiver.is_some()) {
            return false;
        }
        let Ok((cell, peer)) =
            self.receiver.engine.with_tcp(self.now, |tcp, turn| tcp.accept(turn, &self.listener))
        else {
            return false;
        };
        let readable = Flag::new();
        cell.set_observer(Arc::clone(&readable) as _);
        let flow = self.flows.iter_mut().find(|flow| flow.sender.local_addr() == peer);
        flow.expect("nobody else connects").receiver = Some((cell, readable));
        true
    }
}

impl Flow {
    fn write(&mut self, now: Instant, engine: &Engine, block: &[u8]) -> io::Result<bool> {
        let before = self.left;
        while self.left > 0 {
            let len = block.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            match engine
                .with_tcp(now, |tcp, turn| tcp.write(turn, &self.sender, &[IoSlice::new(&block[..len])]))
            {
                Ok(written) => self.left -= written as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.left != before)
    }

    fn read(&mut self, now: Instant, engine: &Engine) -> io::Result<bool> {
        let Some((cell, _)) = &self.receiver else { return Ok(false) };
        let before = self.received;
        loop {
            match engine.with_tcp(now, |tcp, turn| tcp.read_chunk(turn, cell)) {
                Ok(chunk) => match chunk.as_ref().map_or(0, Chunk::len) {
                    0 => break,
                    len => self.received += len as u64,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.received != before)
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("now", &self.now).field("flows", &self.flows).finish_non_exhaustive()
    }
}
