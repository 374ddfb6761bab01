//! Two engines, joined in memory. Packets move when they are told to, and time passes when it is told to.

use crate::devices::Cable;
use netstack::buffer::PacketBuf;
use netstack::device::{Device, Pair, PairConfig, RxMeta};
use netstack::readiness::Events;
use netstack::stack::{Batch, Cell, Engine, Family, Listener, Observer, QueueId, Unconnected};
use netstack::time::{Duration, Instant};
use netstack::{Config, Interface};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

const QUEUE: QueueId = QueueId { interface: 0, queue: 0 };
pub(super) const A: &str = "10.0.0.1";
pub(super) const B: &str = "10.0.0.2";
/// The own address of a host that uses another one.
const OTHER: &str = "10.0.0.9";
/// The first of further addresses.
const MORE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
const PORT: u16 = 80;
/// What the applications write, and the room into which they read.
const BUFFER: usize = 64 * 1024;

/// A packet that has left its device.
pub(super) struct Packet(PacketBuf, RxMeta);

impl Packet {
    pub(super) fn copy(&self) -> Self {
        Self(PacketBuf::copy_from(&self.0.bytes()[..self.1.len]), self.1)
    }
}

/// What a host has of addresses.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The one that it uses.
    pub(super) address: &'static str,
    /// Whether that is one of any-IP, and another one its own.
    pub(super) any_ip: bool,
    /// Its further addresses.
    pub(super) more_addresses: u32,
}

impl Place {
    /// One address of its own.
    pub(super) const A: Self = Self { address: A, any_ip: false, more_addresses: 0 };
    const B: Self = Self { address: B, ..Self::A };
}

struct Nobody;

impl Observer for Nobody {
    fn on_ready(&self, _: Events) {}
}

/// An engine with one connection.
pub(super) struct Host {
    engine: Arc<Engine>,
    /// What it binds a socket to before it connects, if it is not its own.
    address: Option<String>,
    batch: Batch,
    /// The buffers of packets that nobody holds on to. A driver receives the next packet into such a buffer.
    spare: Vec<PacketBuf>,
    now: Instant,
    /// The end of the cable at which what this host sends comes out.
    far: Arc<Cable>,
    cell: Option<Arc<Cell>>,
    listener: Option<Arc<Listener>>,
    out: Vec<u8>,
    into: Vec<u8>,
}

impl Host {
    fn new(near: &Arc<Cable>, far: &Arc<Cable>, place: Place, config: Config) -> io::Result<Self> {
        let mut interface = Interface::new(Arc::clone(near) as Arc<dyn Device>);
        interface = interface.address(&format!("{}/24", if place.any_ip { OTHER } else { place.address }));
        for number in 0..place.more_addresses {
            interface =
                interface.address(&format!("{}/32", Ipv4Addr::from_bits(MORE.to_bits() + 2 * number)));
        }
        if place.any_ip {
            interface = interface.any_ip("0.0.0.0/0");
        }
        Ok(Self {
            address: place.any_ip.then(|| place.address.to_owned()),
            engine: Engine::new(config, vec![interface])?,
            batch: Batch::new(),
            spare: Vec::with_capacity(1024),
            now: Instant::from_millis(1_000_000),
            far: Arc::clone(far),
            cell: None,
            listener: None,
            out: vec![0x5a; BUFFER],
            into: vec![0; BUFFER],
        })
    }

    fn cell(&self) -> io::Result<&Arc<Cell>> {
        self.cell.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Receives a batch of packets, as a driver does.
    pub(super) fn receive(&mut self, packets: impl Iterator<Item = Packet>) {
        for Packet(packet, meta) in packets {
            self.engine.on_packet(self.now, QUEUE, packet, meta, &mut self.batch);
            self.spare.extend(self.batch.take_spare());
        }
        self.engine.end_batch(self.now, &mut self.batch);
        self.batch.deliver(&self.engine);
        if self.engine.has_waiting(QUEUE) {
            self.engine.on_writable(self.now, QUEUE, &mut self.batch);
            self.batch.deliver(&self.engine);
        }
    }

    /// What this host has sent since the last call.
    pub(super) fn sent(&mut self) -> io::Result<Vec<Packet>> {
        self.spare.clear();
        let mut packets = Vec::new();
        loop {
            let mut buf = self.engine.core().pool().take();
            match self.far.receive(self.now, 0, &mut buf) {
                Ok(meta) => packets.push(Packet(buf, meta)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(packets),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn on_timer(&mut self) {
        self.engine.on_timer(self.now, &mut self.batch);
        self.batch.deliver(&self.engine);
    }

    pub(super) fn write(&mut self, len: usize) -> io::Result<()> {
        let cell = self.cell()?;
        let written = self.engine.with_tcp(self.now, |tcp, turn| {
            tcp.write(turn, cell, &[IoSlice::new(&self.out[..len.min(BUFFER)])])
        })?;
        if written == len { Ok(()) } else { Err(io::Error::other("the send buffer has no room")) }
    }

    pub(super) fn read(&mut self, len: usize) -> io::Result<()> {
        let read = self.read_some()?;
        if read == len {
            Ok(())
        } else {
            Err(io::Error::other(format!("{read} bytes came instead of {len}")))
        }
    }

    fn read_some(&mut self) -> io::Result<usize> {
        let Self { engine, now, cell, into, .. } = self;
        let cell = cell.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        engine.with_tcp(*now, |tcp, turn| tcp.read(turn, cell, &mut [IoSliceMut::new(into)]))
    }

    pub(super) fn read_all(&mut self) -> io::Result<()> {
        loop {
            match self.read_some() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn unacked(&self) -> usize {
        self.cell.as_ref().map_or(0, |cell| self.engine.tcp().unacked(cell))
    }

    /// What the stack holds, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.engine.core().memory_use().used
    }

    pub(super) fn connections(&self) -> usize {
        self.engine.tcp().connections()
    }

    pub(super) fn close(&mut self) {
        if let Some(cell) = self.cell.take() {
            self.engine.with_tcp(self.now, |tcp, turn| tcp.close(turn, &cell));
        }
    }

    pub(super) fn connect(&mut self, to: &str) -> io::Result<()> {
        let engine = &self.engine;
        let mut socket = Unconnected::new(engine.core(), engine.tcp(), Family::V4);
        if let Some(address) = &self.address {
            let from = SocketAddr::new(address.parse().map_err(io::Error::other)?, 0);
            engine.tcp().bind(engine.core(), &mut socket, from)?;
        }
        let to = SocketAddr::new(to.parse().map_err(io::Error::other)?, PORT);
        let cell = engine.with_tcp(self.now, |tcp, turn| tcp.connect(turn, socket, to, Arc::new(Nobody)))?;
        engine
            .with_tcp(self.now, |tcp, turn| tcp.with_options(turn, &cell, |options| options.nodelay = true));
        self.cell = Some(cell);
        Ok(())
    }

    pub(super) fn listen(&mut self, address: &str) -> io::Result<()> {
        let engine = &self.engine;
        let mut socket = Unconnected::new(engine.core(), engine.tcp(), Family::V4);
        let at = SocketAddr::new(address.parse().map_err(io::Error::other)?, PORT);
        engine.tcp().bind(engine.core(), &mut socket, at)?;
        let listener =
            engine.with_tcp(self.now, |tcp, turn| tcp.listen(turn, socket, 128, Arc::new(Nobody)))?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Takes a connection, if one waits.
    pub(super) fn accept(&mut self) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let accepted = self.engine.with_tcp(self.now, |tcp, turn| tcp.accept(turn, listener));
        let cell = match accepted {
            Ok((cell, _)) => cell,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        cell.set_observer(Arc::new(Nobody));
        self.engine
            .with_tcp(self.now, |tcp, turn| tcp.with_options(turn, &cell, |options| options.nodelay = true));
        self.cell = Some(cell);
        Ok(())
    }
}

/// The measured host, `a`, and the other one.
pub(super) struct Joined {
    pub(super) a: Host,
    pub(super) b: Host,
}

impl Joined {
    /// Two hosts; the second one listens.
    pub(super) fn new(segmentation: bool, change: impl Fn(&mut Config)) -> io::Result<Self> {
        Self::placed(segmentation, Place::A, change)
    }

    fn placed(segmentation: bool, place: Place, change: impl Fn(&mut Config)) -> io::Result<Self> {
        let config = PairConfig { mtu: 1500, queue: 4096, offloads: true };
        let (here, there) = Pair::new(config);
        let [here, there] = [here, there].map(|end| Arc::new(Cable { end, segmentation }));
        let config = |seed| Config::default().with(|config| config.seed = Some(seed)).with(&change);
        let a = Host::new(&here, &there, place, config(1))?;
        let mut b = Host::new(&there, &here, Place::B, config(2))?;
        b.listen(B)?;
        Ok(Self { a, b })
    }

    /// Two hosts with a connection, whose congestion windows are open.
    pub(super) fn connected(segmentation: bool) -> io::Result<Self> {
        Self::connected_from(segmentation, Place::A)
    }

    /// The same, where the first host has other addresses.
    pub(super) fn connected_from(segmentation: bool, place: Place) -> io::Result<Self> {
        let mut net = Self::placed(segmentation, place, |_| {})?;
        net.a.connect(B)?;
        net.settle()?;
        net.b.accept()?;
        for _ in 0..20 {
            for from_a in [true, false] {
                let host = if from_a { &mut net.a } else { &mut net.b };
                host.write(BUFFER)?;
                net.settle()?;
                net.a.read_all()?;
                net.b.read_all()?;
                net.settle()?;
            }
        }
        Ok(net)
    }

    /// What `b` has sent, on its way to `a`.
    pub(super) fn sent_to_a(&mut self) -> io::Result<Vec<Packet>> {
        self.b.sent()
    }

    /// As long as an acknowledgment is delayed at most.
    pub(super) fn later(&mut self) {
        for host in [&mut self.a, &mut self.b] {
            host.now += Duration::from_millis(50);
        }
    }

    /// Nothing happens for so long that connections are put to rest.
    pub(super) fn rest(&mut self) {
        for _ in 0..10 {
            for host in [&mut self.a, &mut self.b] {
                host.now += Duration::from_secs(2);
                host.on_timer();
                // Long writes have had their turn and wait for the next one.
                host.engine.on_writable(host.now, QUEUE, &mut host.batch);
                host.batch.deliver(&host.engine);
            }
        }
    }

    /// Lets packets pass until there are none, and delayed acknowledgments after them.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        loop {
            let (from_a, from_b) = (self.a.sent()?, self.b.sent()?);
            if from_a.is_empty() && from_b.is_empty() {
                if self.a.unacked() == 0 && self.b.unacked() == 0 {
                    return Ok(());
                }
                self.later();
                self.a.on_timer();
                self.b.on_timer();
                continue;
            }
            self.b.receive(from_a.into_iter());
            self.a.receive(from_b.into_iter());
        }
    }
}
