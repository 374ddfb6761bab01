//! Engines in virtual time, for tests: two hosts joined by a cable, or whatever devices a test
//! brings. Nothing runs by itself; [`Net`] delivers packets and jumps to the next deadline.

use super::{Batch, Cell, Engine, Family, Interface, Listener, Observer, QueueId, Unconnected};
use crate::config::Config;
use crate::device::{Capabilities, Device, Link, LinkConfig, Readiness, RxMeta, Signal, TxPacket};
use crate::readiness::Events;
use crate::sync::{Mutex, Rank};
use crate::tcp::State;
use crate::time::{Duration, Instant};
use crate::wire::{
    ChecksumMode, HeaderBuf, IcmpMessage, IpHeader, IpMeta, Segment, TcpDatagram, emit_icmp, emit_tcp,
    parse_ip, parse_tcp, protocol,
};
use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};

/// Packets taken from one queue before the batch ends, as in a driver.
const BATCH: usize = 64;

/// What a cable is like, the same in both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkSpec {
    pub(crate) delay: Duration,
    pub(crate) mtu: usize,
    /// Super-segments and incomplete checksums pass as they are.
    pub(crate) offloads: bool,
    /// Packets on the way before the sender is told to wait.
    pub(crate) queue: usize,
}

impl Default for LinkSpec {
    fn default() -> Self {
        Self { delay: Duration::from_millis(10), mtu: 1500, offloads: false, queue: 10_000 }
    }
}

/// A packet that a host sent.
#[derive(Clone, Debug)]
pub(crate) struct Passing {
    pub(crate) at: Instant,
    /// The host that sent it.
    pub(crate) from: usize,
    /// Its number among all that were sent on the cable.
    pub(crate) number: usize,
    pub(crate) ip: IpHeader,
    /// Ports, header and payload if it is TCP.
    pub(crate) tcp: Option<(u16, u16, Segment, Vec<u8>)>,
    /// The whole packet.
    pub(crate) bytes: Vec<u8>,
    /// What the device got beside it: `SO_MARK` and `SO_PRIORITY`.
    pub(crate) mark: (u32, u32),
}

impl Passing {
    /// The TCP header.
    ///
    /// # Panics
    /// If it is not TCP.
    pub(crate) fn segment(&self) -> &Segment {
        &self.tcp.as_ref().expect("a TCP segment").2
    }

    /// The packet once more, with another TCP header or other payload.
    ///
    /// # Panics
    /// If it is not TCP.
    pub(crate) fn forged(&self, change: impl FnOnce(&mut Segment, &mut Vec<u8>)) -> Vec<u8> {
        let (from, to, mut segment, mut payload) = self.tcp.clone().expect("a TCP segment");
        change(&mut segment, &mut payload);
        segment.payload_len = payload.len();
        let meta = IpMeta {
            src: self.ip.src,
            dst: self.ip.dst,
            hop_limit: 64,
            traffic_class: 0,
            dont_fragment: true,
            ident: 0,
            flow_label: 0,
        };
        let mut packet = HeaderBuf::new();
        let pieces: &[&[u8]] = if payload.is_empty() { &[] } else { &[&payload] };
        emit_tcp(
            &mut packet,
            &TcpDatagram { ip: &meta, src_port: from, dst_port: to, segment: &segment, payload: pieces },
            ChecksumMode::Full,
        );
        [&packet[..], &payload].concat()
    }
}

/// What a cable does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Drop,
    /// Arrive this much later than usual.
    Delay(Duration),
    /// Arrive twice.
    Twice,
}

/// Packets by time of arrival, and then in the order in which they were sent.
type Inbox = BTreeMap<(Instant, usize), (Vec<u8>, RxMeta)>;

/// A router in the middle of a cable with a smaller MTU on the other side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop {
    pub(crate) mtu: usize,
    /// What it says of packets that are too long, if it says anything.
    pub(crate) claims: Option<u32>,
}

type Filter = Box<dyn FnMut(&Passing) -> Verdict + Send>;

/// A cable with two ends, a memory of what passed, and a hook for whatever a test wants to lose.
pub(crate) struct Cable {
    spec: LinkSpec,
    state: Mutex<CableState>,
    /// Both ends report that the device is gone.
    gone: AtomicBool,
}

#[derive(Default)]
struct CableState {
    /// By receiver: what is on the way, by time of arrival.
    inbox: [Inbox; 2],
    sent: usize,
    order: usize,
    trace: Vec<Passing>,
    filter: Option<Filter>,
    hop: Option<Hop>,
}

impl Cable {
    pub(crate) fn new(spec: LinkSpec) -> Arc<Self> {
        let state = Mutex::new(Rank::InnerDevice, CableState::default());
        Arc::new(Self { spec, state, gone: AtomicBool::new(false) })
    }

    /// One end of the cable.
    pub(crate) fn end(self: &Arc<Self>, host: usize) -> Arc<dyn Device> {
        Arc::new(CableEnd { cable: Arc::clone(self), host, signal: Signal::new() })
    }

    /// Decides about every packet from now on.
    pub(crate) fn set_filter(&self, filter: impl FnMut(&Passing) -> Verdict + Send + 'static) {
        self.state.lock().filter = Some(Box::new(filter));
    }

    /// All packets pass again.
    pub(crate) fn clear_filter(&self) {
        self.state.lock().filter = None;
    }

    /// Puts a router into the cable, or takes it out.
    pub(crate) fn set_hop(&self, hop: Option<Hop>) {
        self.state.lock().hop = hop;
    }

    /// What passed since the last call, lost packets included.
    pub(crate) fn take_trace(&self) -> Vec<Passing> {
        std::mem::take(&mut self.state.lock().trace)
    }

    /// Pulls the device out: both ends fail from now on.
    pub(crate) fn pull(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Puts a packet on the way to a host, as if the other had sent it.
    pub(crate) fn inject(&self, now: Instant, to: usize, packet: &[u8]) {
        let mut state = self.state.lock();
        let order = state.order;
        state.order += 1;
        let meta = RxMeta { len: packet.len(), ..RxMeta::default() };
        state.inbox[to].insert((now, order), (packet.to_vec(), meta));
    }

    fn send(&self, now: Instant, from: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.inbox[1 - from].len() >= self.spec.queue {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        assert!(packet.payload.iter().all(|piece| !piece.is_empty()), "an empty piece: {packet:?}");
        let mut bytes = vec![0; packet.len()];
        packet.copy_to(&mut bytes);
        let passing = Passing {
            at: now,
            from,
            number: state.sent,
            mark: (packet.mark, packet.priority),
            ..dissect(&bytes)
        };
        state.sent += 1;
        let on_wire =
            packet.gso.map_or(bytes.len(), |gso| bytes.len().min(usize::from(gso.header_len + gso.size)));
        let may_fragment = passing.ip.src.is_ipv4() && bytes[6] & 0x40 == 0;
        if let Some(hop) = state.hop.filter(|hop| on_wire > hop.mtu && !may_fragment) {
            state.trace.push(passing);
            if let Some(claimed) = hop.claims {
                let message = too_big(&bytes, claimed);
                let meta = RxMeta { len: message.len(), ..RxMeta::default() };
                state.inbox[from].insert((now + self.spec.delay, state.order), (message, meta));
                state.order += 1;
            }
            return Ok(());
        }
        let verdict = state.filter.as_mut().map_or(Verdict::Pass, |filter| filter(&passing));
        state.trace.push(passing);
        let meta = RxMeta {
            len: bytes.len(),
            checksum_verified: packet.checksum.is_some(),
            gso_size: packet.gso.map(|gso| gso.size),
        };
        let (copies, extra) = match verdict {
            Verdict::Pass => (1, Duration::ZERO),
            Verdict::Drop => (0, Duration::ZERO),
            Verdict::Delay(extra) => (1, extra),
            Verdict::Twice => (2, Duration::ZERO),
        };
        for _ in 0..copies {
            let due = now + self.spec.delay + extra;
            state.inbox[1 - from].insert((due, state.order), (bytes.clone(), meta));
            state.order += 1;
        }
        Ok(())
    }
}

/// The only queue of a host.
pub(crate) const QUEUE: QueueId = QueueId { interface: 0, queue: 0 };

/// Gives a host one packet, which is a batch.
pub(crate) fn receive(engine: &Engine, now: Instant, bytes: &[u8]) {
    let mut batch = Batch::new();
    let mut packet = engine.core().pool().take();
    packet.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
    let meta = RxMeta { len: bytes.len(), ..RxMeta::default() };
    engine.on_packet(now, QUEUE, packet, meta, &mut batch);
    engine.end_batch(now, &mut batch);
    batch.deliver(engine);
}

/// The connections that wait for the device of a host have their turn.
pub(crate) fn have_turn(engine: &Engine, now: Instant) {
    let mut batch = Batch::new();
    engine.on_writable(now, QUEUE, &mut batch);
    batch.deliver(engine);
}

/// What a router says of `packet`: it forwards `mtu` bytes only.
pub(crate) fn too_big(packet: &[u8], mtu: u32) -> Vec<u8> {
    let (kind, code) = if packet[0] >> 4 == 4 { (3, 4) } else { (2, 0) };
    icmp_about(packet, (kind, code), mtu)
}

/// What a router says of `packet`, by type and code, with a `word` in the header.
pub(crate) fn icmp_about(packet: &[u8], (kind, code): (u8, u8), word: u32) -> Vec<u8> {
    let ip = parse_ip(packet).expect("engines send sound packets");
    let router = match ip.src {
        IpAddr::V4(_) => IpAddr::from([10, 0, 0, 254]),
        IpAddr::V6(_) => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0xfe]),
    };
    let meta = IpMeta {
        src: router,
        dst: ip.src,
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: false,
        ident: 0,
        flow_label: 0,
    };
    let body = &packet[..packet.len().min(68)];
    let mut message = Vec::new();
    emit_icmp(&mut message, &meta, &IcmpMessage { kind, code, word: word.to_be_bytes(), body });
    message
}

fn dissect(bytes: &[u8]) -> Passing {
    let ip = parse_ip(bytes).expect("engines send sound packets");
    let tcp = (ip.protocol == protocol::TCP).then(|| {
        let segment = &bytes[ip.payload.clone()];
        let (header, at) = parse_tcp(segment).expect("engines send sound segments");
        let port = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
        (port(0), port(2), header, segment[at..].to_vec())
    });
    Passing { at: Instant::ZERO, from: 0, number: 0, ip, tcp, bytes: bytes.to_vec(), mark: (0, 0) }
}

struct CableEnd {
    cable: Arc<Cable>,
    host: usize,
    signal: Signal,
}

impl Device for CableEnd {
    fn capabilities(&self) -> Capabilities {
        let LinkSpec { mtu, offloads, .. } = self.cable.spec;
        Capabilities {
            mtu,
            queues: 1,
            checksum_offload: offloads,
            segmentation_offload: offloads,
            udp_segmentation_offload: offloads,
            point_to_point: true,
        }
    }

    fn receive(&self, now: Instant, _: usize, buf: &mut crate::buffer::PacketBuf) -> io::Result<RxMeta> {
        if self.cable.gone.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut state = self.cable.state.lock();
        let inbox = &mut state.inbox[self.host];
        match inbox.first_entry() {
            Some(first) if first.key().0 <= now => {
                let (bytes, meta) = first.remove();
                buf.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
                Ok(meta)
            }
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn transmit(&self, now: Instant, _: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        self.cable.send(now, self.host, packet)
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.cable.state.lock().inbox[self.host].first_key_value().map(|((at, _), _)| *at)
    }
}

/// Remembers what an observer was told.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    seen: AtomicU16,
    calls: AtomicUsize,
}

impl Recorder {
    /// All events since the last call.
    pub(crate) fn take(&self) -> Events {
        Events::from_bits(self.seen.swap(0, Ordering::Relaxed))
    }

    /// How often it was told anything.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Observer for Recorder {
    fn on_ready(&self, ready: Events) {
        self.seen.fetch_or(ready.bits(), Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection and the host that it is on.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) host: usize,
    pub(crate) cell: Arc<Cell>,
    pub(crate) events: Arc<Recorder>,
}

/// A stack with what drives it.
pub(crate) struct Host {
    pub(crate) engine: Arc<Engine>,
    out: Batch,
}

/// Hosts under one virtual clock.
pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    /// What joins hosts 0 and 1, unless the test brought devices.
    pub(crate) cable: Arc<Cable>,
}

/// The address of a host of [`Net::pair`], by family.
pub(crate) fn address(host: usize, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 0, 0, host as u8 + 1]),
        Family::V6 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, host as u16 + 1]),
    }
}

impl Net {
    /// Hosts 0 and 1 (10.0.0.1 and 10.0.0.2, fd00::1 and fd00::2) joined by a cable.
    pub(crate) fn pair(seed: u64, link: LinkSpec) -> Self {
        Self::pair_with(seed, link, |_, _| ())
    }

    /// The same, with settings of each host changed.
    pub(crate) fn pair_with(seed: u64, link: LinkSpec, change: impl Fn(usize, &mut Config)) -> Self {
        let cable = Cable::new(link);
        let devices = [cable.end(0), cable.end(1)];
        Self { cable, ..Self::with_devices(seed, devices, change) }
    }

    /// The same over impaired links, one for each direction. [`Net::cable`] is not in use.
    pub(crate) fn over_link(seed: u64, a_to_b: LinkConfig, b_to_a: LinkConfig) -> Self {
        let (a, b) = Link::pair(a_to_b, b_to_a);
        Self::with_devices(seed, [Arc::new(a), Arc::new(b)], |_, _| ())
    }

    /// Two hosts with devices that a test brings, such as the ends of a link.
    pub(crate) fn with_devices(
        seed: u64,
        devices: [Arc<dyn Device>; 2],
        change: impl Fn(usize, &mut Config),
    ) -> Self {
        let host = |(index, device)| {
            let mut config = Config { seed: Some(seed * 2 + index as u64), ..Config::default() };
            change(index, &mut config);
            let interface = Interface::new(device)
                .address(&format!("{}/24", address(index, Family::V4)))
                .address(&format!("{}/64", address(index, Family::V6)));
            Host { engine: Engine::new(config, vec![interface]).unwrap(), out: Batch::new() }
        };
        let hosts = devices.into_iter().enumerate().map(host).collect();
        // Not at zero, which might be taken for never.
        let now = Instant::from_millis(1_000_000);
        Self { now, hosts, cable: Cable::new(LinkSpec::default()) }
    }

    /// Puts another stack in the place of a host's.
    pub(crate) fn replace_host(&mut self, host: usize, engine: Arc<Engine>, out: Batch) {
        self.hosts[host] = Host { engine, out };
    }

    /// Host 0 alone, with interfaces that a test brings. [`Net::cable`] is not in use.
    pub(crate) fn alone(seed: u64, interfaces: Vec<Interface>) -> Self {
        let config = Config { seed: Some(seed), ..Config::default() };
        let host = Host { engine: Engine::new(config, interfaces).unwrap(), out: Batch::new() };
        let now = Instant::from_millis(1_000_000);
        Self { now, hosts: vec![host], cable: Cable::new(LinkSpec::default()) }
    }

    /// The stack of a host.
    pub(crate) fn engine(&self, host: usize) -> &Arc<Engine> {
        &self.hosts[host].engine
    }

    /// A socket that is not connected yet.
    pub(crate) fn socket(&self, host: usize, family: Family) -> Unconnected {
        Unconnected::new(self.engine(host).core(), self.engine(host).tcp(), family)
    }

    /// Listens at all addresses of a host, of both families.
    pub(crate) fn listen(&self, host: usize, port: u16, backlog: u32) -> Arc<Listener> {
        let mut socket = self.socket(host, Family::V6);
        socket.ip.set_reuse_address(true);
        self.engine(host)
            .tcp()
            .bind(self.engine(host).core(), &mut socket, SocketAddr::new(Family::V6.unspecified(), port))
            .unwrap();
        self.engine(host)
            .with_tcp(self.now, |tcp, turn| tcp.listen(turn, socket, backlog, Arc::new(Recorder::default())))
            .unwrap()
    }

    /// Starts to connect to an IPv4 or IPv6 address.
    pub(crate) fn connect(&self, host: usize, to: SocketAddr) -> io::Result<Socket> {
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        self.connect_from(host, self.socket(host, family), to)
    }

    /// Starts to connect a socket that the test prepared.
    pub(crate) fn connect_from(
        &self,
        host: usize,
        socket: Unconnected,
        to: SocketAddr,
    ) -> io::Result<Socket> {
        let events = Arc::new(Recorder::default());
        let observer: Arc<dyn Observer> = Arc::clone(&events) as _;
        let cell =
            self.engine(host).with_tcp(self.now, |tcp, turn| tcp.connect(turn, socket, to, observer))?;
        Ok(Socket { host, cell, events })
    }

    /// Takes a connection that waits.
    pub(crate) fn accept(&self, host: usize, listener: &Arc<Listener>) -> io::Result<Socket> {
        let (cell, _) = self.engine(host).with_tcp(self.now, |tcp, turn| tcp.accept(turn, listener))?;
        let events = Arc::new(Recorder::default());
        cell.set_observer(Arc::clone(&events) as _);
        Ok(Socket { host, cell, events })
    }

    /// A connection from host 0 to port 80 of host 1, both ends established. The listener is gone.
    pub(crate) fn connected(&mut self) -> (Socket, Socket) {
        let listener = self.listen(1, 80, 8);
        let pair = self.connected_to(&listener);
        self.engine(1).with_tcp(self.now, |tcp, turn| tcp.close_listener(turn, &listener));
        pair
    }

    /// A connection from host 0 to a listener of host 1.
    pub(crate) fn connected_to(&mut self, listener: &Arc<Listener>) -> (Socket, Socket) {
        let to = SocketAddr::new(address(1, Family::V4), listener.local_addr().port());
        let client = self.connect(0, to).unwrap();
        self.run_until(Duration::from_secs(10), |net| {
            net.state(&client) == State::Established && listener.accept_queue_len() > 0
        });
        let server = self.accept(1, listener).unwrap();
        (client, server)
    }

    pub(crate) fn state(&self, socket: &Socket) -> State {
        socket.cell.state()
    }

    /// Writes what fits.
    pub(crate) fn write(&self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        self.engine(socket.host)
            .with_tcp(self.now, |tcp, turn| tcp.write(turn, &socket.cell, &[IoSlice::new(bytes)]))
    }

    /// Reads up to 64 KiB; empty at the end of the stream.
    pub(crate) fn read(&self, socket: &Socket) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 65_536];
        let read = self.engine(socket.host).with_tcp(self.now, |tcp, turn| {
            tcp.read(turn, &socket.cell, &mut [IoSliceMut::new(&mut bytes)])
        })?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Reads all that there is, and whether the stream ended.
    pub(crate) fn read_available(&self, socket: &Socket) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        loop {
            match self.read(socket) {
                Ok(bytes) if bytes.is_empty() => return (all, true),
                Ok(bytes) => all.extend(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (all, false),
                Err(error) => panic!("reading failed: {error}"),
            }
        }
    }

    /// Drops the application's handle.
    pub(crate) fn close(&self, socket: Socket) {
        self.engine(socket.host).with_tcp(self.now, |tcp, turn| tcp.close(turn, &socket.cell));
    }

    /// Sends all of `bytes` from one socket to another and gives what arrived within `limit`.
    pub(crate) fn transfer(&mut self, from: &Socket, to: &Socket, bytes: &[u8], limit: Duration) -> Vec<u8> {
        let (mut sent, mut received) = (0, Vec::new());
        self.run_until(limit, |net| {
            while sent < bytes.len() {
                match net.write(from, &bytes[sent..]) {
                    Ok(n) => sent += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("writing failed: {error}"),
                }
            }
            received.extend(net.read_available(to).0);
            received.len() >= bytes.len()
        });
        received
    }

    /// Does all that can be done without time passing.
    ///
    /// # Panics
    /// If that does not end: packets would be sent for ever at one instant.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            let progress = (0..self.hosts.len()).map(|host| self.drive(host)).fold(false, |a, b| a | b);
            if !progress {
                return;
            }
        }
        panic!("hosts exchange packets without end at {:?}", self.now);
    }

    /// Lets one host do what it can do now; says whether it did anything.
    fn drive(&mut self, host: usize) -> bool {
        let now = self.now;
        let Host { engine, out } = &mut self.hosts[host];
        let mut progress = false;
        if engine.next_deadline().is_some_and(|at| at <= now) {
            engine.on_timer(now, out);
            out.deliver(engine);
            progress = true;
        }
        for queue in engine.core().queues() {
            let Some(device) = engine.core().device(queue.interface) else { continue };
            if device.next_deadline().is_some_and(|at| at <= now) {
                device.on_deadline(now);
            }
            let mut batch = 0;
            while batch < BATCH {
                let mut packet = engine.core().pool().take();
                match device.receive(now, queue.queue.into(), &mut packet) {
                    Ok(meta) => engine.on_packet(now, queue, packet, meta, out),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        engine.on_device_error(now, queue, &error, out);
                        break;
                    }
                }
                batch += 1;
            }
            if batch > 0 {
                engine.end_batch(now, out);
                progress = true;
            }
            if engine.has_waiting(queue) {
                let before = engine.counters().out_packets;
                engine.on_writable(now, queue, out);
                out.deliver(engine);
                progress |= engine.counters().out_packets != before;
            }
            out.deliver(engine);
        }
        progress
    }

    /// When something happens next by itself.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let of_host = |host: &Host| {
            let engine = &host.engine;
            let device = |queue: QueueId| engine.core().device(queue.interface);
            let devices = engine.core().queues().map(|queue| device(queue)?.next_deadline());
            devices.chain([engine.next_deadline()]).flatten().min()
        };
        self.hosts.iter().filter_map(of_host).min()
    }

    /// Jumps to the next deadline, `until` at the latest, and does what is due. False if nothing
    /// will happen before.
    pub(crate) fn advance(&mut self, until: Instant) -> bool {
        self.settle();
        match self.next_deadline() {
            Some(at) if at <= until => {
                self.now = self.now.max(at);
                self.settle();
                true
            }
            _ => {
                self.now = until;
                false
            }
        }
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.advance(until) {}
    }

    /// Lets time pass until `done`.
    ///
    /// # Panics
    /// If that takes longer than `limit`.
    #[track_caller]
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) {
        let until = self.now + limit;
        loop {
            self.settle();
            if done(self) {
                return;
            }
            // What `done` did may have sent something.
            self.settle();
            assert!(self.advance(until) || done(self), "not done after {limit:?}");
        }
    }
}
