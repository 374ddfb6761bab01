//! Stacks in virtual time, whose packets a target moves.

use crate::packets::check_sent;
use netstack::Config;
use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use netstack::readiness::Events;
use netstack::stack::{Batch, Cell, Engine, Family, Interface, Listener, Observer, QueueId, Unconnected};
use netstack::sync::{Mutex, Rank};
use netstack::tcp::State;
use netstack::time::{Duration, Instant};
use netstack::wire::{IpHeader, Segment, parse_ip, parse_ports, parse_tcp, protocol};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The queue on which all packets arrive.
const QUEUE: QueueId = QueueId { interface: 0, queue: 0 };

/// Packets that a stack may send before somebody takes them: it sends no more than that for one event.
const MOST_SENT: usize = 20_000;

/// A packet that a stack sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) bytes: Vec<u8>,
    pub(crate) meta: RxMeta,
    /// A bit was inverted on the way. Two of them could make a checksum right again.
    pub(crate) corrupt: bool,
}

/// A TCP segment that a stack sent.
pub(crate) struct SentSegment {
    pub(crate) ip: IpHeader,
    pub(crate) ports: (u16, u16),
    pub(crate) segment: Segment,
}

impl Sent {
    /// The segment, if it is one.
    pub(crate) fn segment(&self) -> Option<SentSegment> {
        let ip = parse_ip(&self.bytes).ok().filter(|ip| ip.protocol == protocol::TCP)?;
        let transport = self.bytes.get(ip.payload.clone())?;
        let (segment, _) = parse_tcp(transport).ok()?;
        Some(SentSegment { ports: parse_ports(transport)?, segment, ip })
    }
}

/// A device that keeps what it is given.
struct Outbox {
    sent: Mutex<VecDeque<Sent>>,
    full: AtomicBool,
    capabilities: Capabilities,
    signal: Signal,
}

impl Device for Outbox {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(&self, _: Instant, _: usize, _: &mut PacketBuf) -> io::Result<RxMeta> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn transmit(&self, _: Instant, _: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        check_sent(packet, self.capabilities.mtu);
        let mut bytes = vec![0; packet.len()];
        packet.copy_to(&mut bytes);
        let meta = RxMeta {
            len: bytes.len(),
            checksum_verified: packet.checksum.is_some(),
            gso_size: packet.gso.map(|gso| gso.size),
        };
        let mut sent = self.sent.lock();
        assert!(sent.len() < MOST_SENT, "sends without end");
        sent.push_back(Sent { bytes, meta, corrupt: false });
        Ok(())
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }
}

/// Nobody is told.
#[derive(Debug)]
pub(crate) struct Deaf;

impl Observer for Deaf {
    fn on_ready(&self, _: Events) {}
}

/// What a host's device is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Card {
    pub(crate) mtu: usize,
    pub(crate) offloads: bool,
}

/// A stack with one interface.
pub(crate) struct Host {
    engine: Arc<Engine>,
    outbox: Arc<Outbox>,
    batch: Batch,
}

/// The address of host 0 or 1 (or of nobody, from 2 on), by family.
pub(crate) fn address(host: u8, v6: bool) -> IpAddr {
    if v6 {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(host) + 1])
    } else {
        IpAddr::from([10, 0, 0, host + 1])
    }
}

/// When it all begins: not at zero, which might be taken for never.
pub(crate) const START: Instant = Instant::from_millis(1_000_000);

impl Host {
    /// Host `number`, with settings of its own.
    pub(crate) fn new(number: u8, card: Card, config: Config) -> Self {
        let outbox = Arc::new(Outbox {
            sent: Mutex::new(Rank::Device, VecDeque::new()),
            full: AtomicBool::new(false),
            capabilities: Capabilities {
                mtu: card.mtu,
                queues: 1,
                checksum_offload: card.offloads,
                segmentation_offload: card.offloads,
                udp_segmentation_offload: card.offloads,
                point_to_point: true,
            },
            signal: Signal::new(),
        });
        let interface = Interface::new(Arc::clone(&outbox) as Arc<dyn Device>)
            .address(&format!("{}/24", address(number, false)))
            .address(&format!("{}/64", address(number, true)));
        let config = config.with(|config| {
            config.seed = Some(u64::from(number) + 1);
            config.loopback = false;
        });
        let engine = Engine::new(config, vec![interface]).expect("settings of a target are valid");
        Self { engine, outbox, batch: Batch::new() }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// A packet arrives; the batch goes on.
    pub(crate) fn receive(&mut self, now: Instant, bytes: &[u8], meta: RxMeta) {
        let mut packet = self.engine.core().pool().take();
        let len = bytes.len().min(packet.capacity());
        packet.bytes_mut()[..len].copy_from_slice(&bytes[..len]);
        self.engine.on_packet(now, QUEUE, packet, meta, &mut self.batch);
    }

    /// The batch ends.
    pub(crate) fn end_batch(&mut self, now: Instant) {
        self.engine.end_batch(now, &mut self.batch);
        self.batch.deliver(&self.engine);
    }

    /// A batch of one packet.
    pub(crate) fn receive_alone(&mut self, now: Instant, bytes: &[u8]) {
        self.receive(now, bytes, RxMeta { len: bytes.len(), ..RxMeta::default() });
        self.end_batch(now);
    }

    /// Does what is due.
    ///
    /// # Panics
    /// If something stays due for ever.
    pub(crate) fn fire(&mut self, now: Instant) {
        for _ in 0..1_000 {
            if self.engine.next_deadline().is_none_or(|at| at > now) {
                return;
            }
            self.engine.on_timer(now, &mut self.batch);
            self.batch.deliver(&self.engine);
        }
        panic!("a deadline stays due at {now:?}");
    }

    /// From now on the device takes no packets, or takes them again.
    pub(crate) fn set_full(&mut self, now: Instant, full: bool) {
        self.outbox.full.store(full, Ordering::Relaxed);
        // Each call serves who waits once, and a long transfer joins again.
        let mut turns = 0;
        while !full && self.engine.has_waiting(QUEUE) {
            self.engine.on_writable(now, QUEUE, &mut self.batch);
            self.batch.deliver(&self.engine);
            turns += 1;
            assert!(turns < 10_000, "waits for a device that takes everything");
        }
    }

    /// What was sent since the last call.
    pub(crate) fn take_sent(&self) -> VecDeque<Sent> {
        std::mem::take(&mut *self.outbox.sent.lock())
    }

    /// Listens at all addresses.
    pub(crate) fn listen(&self, now: Instant, port: u16, backlog: u32) -> Arc<Listener> {
        let (core, tcp) = (self.engine.core(), self.engine.tcp());
        let mut socket = Unconnected::new(core, tcp, Family::V6);
        socket.ip.set_reuse_address(true);
        tcp.bind(core, &mut socket, SocketAddr::new(Family::V6.unspecified(), port)).expect("a free port");
        self.engine
            .with_tcp(now, |tcp, turn| tcp.listen(turn, socket, backlog, Arc::new(Deaf)))
            .expect("nobody else listens")
    }

    /// Takes a connection that waits.
    pub(crate) fn accept(&self, now: Instant, listener: &Arc<Listener>) -> Option<Arc<Cell>> {
        let (cell, _) = self.engine.with_tcp(now, |tcp, turn| tcp.accept(turn, listener)).ok()?;
        cell.set_observer(Arc::new(Deaf));
        Some(cell)
    }

    /// Begins to connect.
    pub(crate) fn connect(&self, now: Instant, to: SocketAddr) -> io::Result<Arc<Cell>> {
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        let socket = Unconnected::new(self.engine.core(), self.engine.tcp(), family);
        self.engine.with_tcp(now, |tcp, turn| tcp.connect(turn, socket, to, Arc::new(Deaf)))
    }

    pub(crate) fn write(&self, now: Instant, cell: &Arc<Cell>, bytes: &[u8]) -> io::Result<usize> {
        self.engine.with_tcp(now, |tcp, turn| tcp.write(turn, cell, &[IoSlice::new(bytes)]))
    }

    /// Reads up to `max` bytes, in two buffers.
    pub(crate) fn read(&self, now: Instant, cell: &Arc<Cell>, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; max];
        let (front, back) = bytes.split_at_mut(max / 3);
        let read = self.engine.with_tcp(now, |tcp, turn| {
            tcp.read(turn, cell, &mut [IoSliceMut::new(front), IoSliceMut::new(back)])
        })?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Nothing is open any more, what was is `closed`, and nothing comes in: once every timer had its time,
    /// nothing is left.
    ///
    /// # Panics
    /// If something is.
    pub(crate) fn wind_down(&mut self, mut now: Instant, closed: &[Arc<Cell>]) {
        self.set_full(now, false);
        for _ in 0..5_000 {
            self.fire(now);
            self.take_sent();
            match self.engine.next_deadline() {
                Some(at) => now = at,
                None => break,
            }
        }
        let tcp = self.engine.tcp();
        let left = (tcp.connections(), tcp.time_waits(), tcp.orphans(), tcp.ports_in_use());
        if left != (0, 0, 0, 0) {
            for cell in closed.iter().filter(|cell| cell.state() != State::Closed) {
                let info = self.engine.with_tcp(now, |tcp, turn| tcp.info(turn, cell));
                eprintln!("{cell:?} is in {:?}: {info:?}", cell.state());
            }
            let next = self.engine.next_deadline();
            panic!("connections, TIME-WAIT entries, orphans, ports left: {left:?} at {now:?}, next {next:?}");
        }
    }
}

/// Time that passes, from one byte: from a microsecond to about two minutes.
pub(crate) fn span(byte: u8) -> Duration {
    Duration::from_micros(1 << (byte % 28))
}

/// A stack with these settings, which are valid, shakes hands and carries a byte.
pub(crate) fn use_settings(config: Config) {
    let mut now = START;
    let port_range = config.port_range.clone();
    let card = Card { mtu: 1500, offloads: false };
    let mut hosts = [Host::new(0, card, Config::default()), Host::new(1, card, config)];
    let listener = hosts[0].listen(now, 80, 4);
    let cell = hosts[1].connect(now, (address(0, false), 80).into()).expect("a port is free");
    assert!(port_range.contains(&cell.local_addr().port()));
    for _ in 0..4 {
        exchange(&mut hosts, now);
        now += Duration::from_millis(1);
    }
    let _ = hosts[1].write(now, &cell, b"x");
    exchange(&mut hosts, now);
    for _ in 0..8 {
        let next = hosts.iter().filter_map(|host| host.engine().next_deadline()).min();
        let Some(at) = next else { break };
        now = now.max(at);
        hosts.iter_mut().for_each(|host| host.fire(now));
        exchange(&mut hosts, now);
    }
    if let Some(accepted) = hosts[0].accept(now, &listener) {
        hosts[0].engine().with_tcp(now, |tcp, turn| tcp.close(turn, &accepted));
    }
    hosts[1].engine().with_tcp(now, |tcp, turn| tcp.close(turn, &cell));
    exchange(&mut hosts, now);
}

/// Delivers what the two hosts send one another, until they are silent.
///
/// # Panics
/// If they never are.
pub(crate) fn exchange(hosts: &mut [Host; 2], now: Instant) {
    for _ in 0..10_000 {
        let sent = [hosts[0].take_sent(), hosts[1].take_sent()];
        if sent.iter().all(VecDeque::is_empty) {
            return;
        }
        for (from, packets) in sent.into_iter().enumerate() {
            let to = &mut hosts[1 - from];
            for Sent { bytes, meta, .. } in packets {
                to.receive(now, &bytes, meta);
            }
            to.end_batch(now);
        }
    }
    panic!("hosts exchange packets without end");
}
