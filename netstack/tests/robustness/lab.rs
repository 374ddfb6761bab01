//! A stack in virtual time, an application on it, and peers whose every segment a test makes.

// Two test programs share it, and neither uses all.
#![expect(dead_code, reason = "each of the programs that share it uses a part")]

use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use netstack::readiness::Events;
use netstack::stack::{
    Batch, Cell, Counters, Engine, Family, Listener, Observer, QueueId, UdpCell, UnboundUdp, Unconnected,
};
use netstack::sync::{Mutex, Rank};
use netstack::tcp::State;
use netstack::time::{Duration, Instant};
use netstack::wire::{
    ChecksumMode, Flags, HeaderBuf, IcmpMessage, IpHeader, IpMeta, Options, Segment, SeqNum, TcpDatagram,
    Timestamps, UdpDatagram, emit_icmp, emit_ip, emit_tcp, emit_udp, parse_ip, parse_ports, parse_tcp,
    protocol,
};
use netstack::{Config, Interface};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const QUEUE: QueueId = QueueId { interface: 0, queue: 0 };

/// A device that keeps what the stack sends.
struct Outbox {
    sent: Mutex<VecDeque<Vec<u8>>>,
    full: AtomicBool,
    mtu: usize,
    signal: Signal,
}

impl Device for Outbox {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: self.mtu,
            queues: 1,
            checksum_offload: false,
            segmentation_offload: false,
            udp_segmentation_offload: false,
            point_to_point: true,
        }
    }

    fn receive(&self, _: Instant, _: usize, _: &mut PacketBuf) -> io::Result<RxMeta> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn transmit(&self, _: Instant, _: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut bytes = vec![0; packet.len()];
        packet.copy_to(&mut bytes);
        assert!(bytes.len() <= self.mtu, "{} bytes on a device of {}", bytes.len(), self.mtu);
        self.sent.lock().push_back(bytes);
        Ok(())
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }
}

struct Deaf;

impl Observer for Deaf {
    fn on_ready(&self, _: Events) {}
}

/// A packet that the stack sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) ip: IpHeader,
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    /// Its ports and segment, if it is one of TCP.
    pub(crate) fn tcp(&self) -> Option<((u16, u16), Segment)> {
        if self.ip.protocol != protocol::TCP || self.ip.fragment.is_some() {
            return None;
        }
        let transport = &self.bytes[self.ip.payload.clone()];
        Some((parse_ports(transport)?, parse_tcp(transport).ok()?.0))
    }

    pub(crate) fn payload(&self) -> &[u8] {
        let transport = &self.bytes[self.ip.payload.clone()];
        let offset = usize::from(transport[12] >> 4) * 4;
        &transport[offset..]
    }

    pub(crate) fn is_icmp(&self) -> bool {
        matches!(self.ip.protocol, protocol::ICMP | protocol::ICMPV6)
    }
}

/// A stack with the address 10.0.0.1, and a virtual clock.
pub(crate) struct Lab {
    pub(crate) engine: Arc<Engine>,
    outbox: Arc<Outbox>,
    /// That of the second interface.
    second: Option<Arc<Outbox>>,
    batch: Batch,
    pub(crate) now: Instant,
    legit: u16,
}

impl Outbox {
    fn new(mtu: usize) -> Arc<Self> {
        let sent = Mutex::new(Rank::Device, VecDeque::new());
        Arc::new(Self { sent, full: AtomicBool::new(false), mtu, signal: Signal::new() })
    }

    fn take(&self) -> Vec<Sent> {
        let sent = std::mem::take(&mut *self.sent.lock());
        sent.into_iter().map(|bytes| Sent { ip: parse_ip(&bytes).expect("a sound packet"), bytes }).collect()
    }
}

impl Lab {
    pub(crate) fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::try_new(1500, change).expect("a stack")
    }

    pub(crate) fn try_new(mtu: usize, change: impl FnOnce(&mut Config)) -> io::Result<Self> {
        Self::with_interface(mtu, change, |interface| interface)
    }

    pub(crate) fn with_interface(
        mtu: usize,
        change: impl FnOnce(&mut Config),
        more: impl FnOnce(Interface) -> Interface,
    ) -> io::Result<Self> {
        let outbox = Outbox::new(mtu);
        let interface = Interface::new(Arc::clone(&outbox) as Arc<dyn Device>).address("10.0.0.1/8");
        Self::build(change, vec![more(interface)], outbox, None)
    }

    /// A stack with another interface, of this address.
    pub(crate) fn with_second_interface(change: impl FnOnce(&mut Config), address: &str) -> Self {
        let [first, second] = [Outbox::new(1500), Outbox::new(1500)];
        let interfaces = vec![
            Interface::new(Arc::clone(&first) as Arc<dyn Device>).address("10.0.0.1/8"),
            Interface::new(Arc::clone(&second) as Arc<dyn Device>).address(address),
        ];
        Self::build(change, interfaces, first, Some(second)).expect("a stack")
    }

    fn build(
        change: impl FnOnce(&mut Config),
        interfaces: Vec<Interface>,
        outbox: Arc<Outbox>,
        second: Option<Arc<Outbox>>,
    ) -> io::Result<Self> {
        let config = Config::default().with(|config| config.seed = Some(7)).with(change);
        let engine = Engine::new(config, interfaces)?;
        let now = Instant::from_millis(1_000_000);
        Ok(Self { engine, outbox, second, batch: Batch::new(), now, legit: 0 })
    }

    pub(crate) fn counters(&self) -> Counters {
        self.engine.counters()
    }

    /// A packet arrives, and what is sent because of it stays in the outbox.
    pub(crate) fn give(&mut self, packet: &[u8]) {
        self.give_in_batch(packet);
        self.end_batch();
    }

    /// As [`Lab::give`], with more to come.
    pub(crate) fn give_in_batch(&mut self, packet: &[u8]) {
        self.give_to(QUEUE, packet);
    }

    /// A packet arrives on the interface of this number.
    pub(crate) fn give_on(&mut self, interface: u16, packet: &[u8]) {
        self.give_to(QueueId { interface, queue: 0 }, packet);
        self.end_batch();
    }

    fn give_to(&mut self, queue: QueueId, packet: &[u8]) {
        let mut buf = self.batch.next_buffer(self.engine.core().pool());
        let len = packet.len().min(buf.capacity());
        buf.bytes_mut()[..len].copy_from_slice(&packet[..len]);
        let meta = RxMeta { len: packet.len(), ..RxMeta::default() };
        self.engine.on_packet(self.now, queue, buf, meta, &mut self.batch);
    }

    pub(crate) fn end_batch(&mut self) {
        self.engine.end_batch(self.now, &mut self.batch);
        self.batch.deliver(&self.engine);
    }

    /// What the stack sends because of a packet; what it sent before is forgotten.
    pub(crate) fn answers(&mut self, packet: &[u8]) -> Vec<Sent> {
        self.sent();
        self.give(packet);
        self.sent()
    }

    /// What was sent since the last call.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.outbox.take()
    }

    /// The same of all interfaces.
    pub(crate) fn sent_by_all(&self) -> Vec<Sent> {
        let mut sent = self.outbox.take();
        sent.extend(self.second.iter().flat_map(|second| second.take()));
        sent
    }

    /// The segments among what was sent.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        self.sent().iter().filter_map(|sent| Some(sent.tcp()?.1)).collect()
    }

    /// Time passes.
    ///
    /// # Panics
    /// If something stays due: a busy loop.
    pub(crate) fn pass(&mut self, by: Duration) {
        let end = self.now + by;
        let mut turns = 0;
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) {
            turns = if at > self.now { 0 } else { turns + 1 };
            assert!(turns < 1000, "something stays due at {at:?}");
            self.now = self.now.max(at);
            self.engine.on_timer(self.now, &mut self.batch);
            self.batch.deliver(&self.engine);
        }
        self.now = end;
    }

    /// Time passes, and what is due at the end of it is done once.
    pub(crate) fn pass_one(&mut self, by: Duration) {
        self.now += by;
        self.engine.on_timer(self.now, &mut self.batch);
        self.batch.deliver(&self.engine);
    }

    /// The device takes nothing from now on, or takes packets again.
    pub(crate) fn set_full(&mut self, full: bool) {
        self.outbox.full.store(full, Ordering::Relaxed);
        let mut turns = 0;
        while !full && self.engine.has_waiting(QUEUE) {
            self.engine.on_writable(self.now, QUEUE, &mut self.batch);
            self.batch.deliver(&self.engine);
            turns += 1;
            assert!(turns < 10_000, "somebody waits for a device that takes everything");
        }
    }

    pub(crate) fn listen(&self, port: u16, backlog: u32) -> Arc<Listener> {
        self.listen_with(port, backlog, |_| ())
    }

    pub(crate) fn listen_with(
        &self,
        port: u16,
        backlog: u32,
        change: impl FnOnce(&mut Unconnected),
    ) -> Arc<Listener> {
        let (core, tcp) = (self.engine.core(), self.engine.tcp());
        let mut socket = Unconnected::new(core, tcp, Family::V4);
        change(&mut socket);
        tcp.bind(core, &mut socket, SocketAddr::new(SERVER.into(), port)).expect("a free port");
        let listen = |tcp: &netstack::stack::Tcp, turn: &mut netstack::stack::Turn<'_>| {
            tcp.listen(turn, socket, backlog, Arc::new(Deaf))
        };
        self.engine.with_tcp(self.now, listen).expect("a listener")
    }

    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<Arc<Cell>> {
        self.connect_with(to, |_| ())
    }

    pub(crate) fn connect_with(
        &self,
        to: SocketAddr,
        change: impl FnOnce(&mut Unconnected),
    ) -> io::Result<Arc<Cell>> {
        let mut socket = Unconnected::new(self.engine.core(), self.engine.tcp(), Family::V4);
        change(&mut socket);
        self.engine.with_tcp(self.now, |tcp, turn| tcp.connect(turn, socket, to, Arc::new(Deaf)))
    }

    pub(crate) fn bind_udp(&self, port: u16) -> Arc<UdpCell> {
        let socket = UnboundUdp::new(self.engine.core(), Family::V4);
        let to = SocketAddr::new(SERVER.into(), port);
        self.engine.udp().bind(self.engine.core(), socket, to, Arc::new(Deaf)).expect("a free port")
    }

    pub(crate) fn accept(&self, listener: &Arc<Listener>) -> Option<Arc<Cell>> {
        let (cell, _) = self.engine.with_tcp(self.now, |tcp, turn| tcp.accept(turn, listener)).ok()?;
        cell.set_observer(Arc::new(Deaf));
        Some(cell)
    }

    pub(crate) fn write(&self, cell: &Arc<Cell>, bytes: &[u8]) -> io::Result<usize> {
        self.engine.with_tcp(self.now, |tcp, turn| tcp.write(turn, cell, &[IoSlice::new(bytes)]))
    }

    /// Everything that can be read.
    pub(crate) fn read(&self, cell: &Arc<Cell>) -> Vec<u8> {
        let (mut all, mut part) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let read = self
                .engine
                .with_tcp(self.now, |tcp, turn| tcp.read(turn, cell, &mut [IoSliceMut::new(&mut part)]));
            match read {
                Ok(0) | Err(_) => return all,
                Ok(n) => all.extend_from_slice(&part[..n]),
            }
        }
    }

    pub(crate) fn close(&self, cell: &Arc<Cell>) {
        self.engine.with_tcp(self.now, |tcp, turn| tcp.close(turn, cell));
    }

    pub(crate) fn info(&self, cell: &Arc<Cell>) -> netstack::tcp::TcpInfo {
        self.engine.with_tcp(self.now, |tcp, turn| tcp.info(turn, cell)).expect("it is established")
    }

    /// Connections, TIME-WAIT entries, orphans and ports.
    pub(crate) fn held(&self) -> [usize; 4] {
        let tcp = self.engine.tcp();
        [tcp.connections(), tcp.time_waits(), tcp.orphans(), tcp.ports_in_use()]
    }

    /// Another, well-behaved client completes an echo of one byte within a second.
    ///
    /// # Panics
    /// If it does not.
    pub(crate) fn legit_echo(&mut self, listener: &Arc<Listener>) {
        self.legit += 1;
        let port = listener.local_addr().port();
        let source = (Ipv4Addr::new(10, 200, 0, 1), 10_000 + self.legit);
        let began = self.now;
        let mut peer = Peer::new(source, port, SeqNum::new(u32::from(self.legit) << 16));
        peer.handshake(self);
        let cell = loop {
            let cell = self.accept(listener).expect("the client is accepted");
            if cell.peer_addr().is_ok_and(|addr| addr == SocketAddr::new(source.0.into(), source.1)) {
                break cell;
            }
            self.close(&cell);
        };
        peer.say(self, b"?");
        assert_eq!(self.read(&cell), b"?");
        self.sent();
        self.write(&cell, b"!").expect("a write");
        let back = self.sent();
        let heard = back.iter().any(|sent| sent.ip.dst == IpAddr::from(source.0) && sent.payload() == b"!");
        assert!(heard, "the echo comes at once");
        assert!(self.now - began < SECOND);
        peer.rcv_nxt = peer.rcv_nxt + 1;
        self.close(&cell);
        peer.reset(self);
        self.sent();
    }
}

/// A peer of the stack, of which a test makes every segment.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) source: (Ipv4Addr, u16),
    pub(crate) port: u16,
    pub(crate) isn: SeqNum,
    /// SND.NXT and RCV.NXT of the peer.
    pub(crate) snd_nxt: SeqNum,
    pub(crate) rcv_nxt: SeqNum,
    pub(crate) window: u16,
    /// The options of its SYN.
    pub(crate) offer: Options,
    /// The latest timestamp of the stack, and the peer's clock, if they use timestamps.
    pub(crate) ts: Option<Timestamps>,
}

impl Peer {
    /// A peer at `source` that will talk to `port` of the stack.
    pub(crate) fn new(source: (Ipv4Addr, u16), port: u16, isn: SeqNum) -> Self {
        let offer = Options { mss: Some(1460), ..Options::default() };
        Self { source, port, isn, snd_nxt: isn, rcv_nxt: SeqNum::new(0), window: u16::MAX, offer, ts: None }
    }

    /// The one that attacks.
    pub(crate) fn hostile(port: u16) -> Self {
        Self::new((Ipv4Addr::new(10, 66, 6, 6), 6666), port, SeqNum::new(u32::MAX - 1000))
    }

    #[must_use]
    pub(crate) fn offering(mut self, offer: Options) -> Self {
        self.ts = offer.timestamps;
        self.offer = offer;
        self
    }

    /// A segment at SND.NXT that acknowledges all.
    pub(crate) fn segment(&self, flags: Flags) -> Segment {
        let mut segment = Segment::new(flags, self.snd_nxt, self.rcv_nxt);
        segment.window = self.window;
        segment.options.timestamps = self.ts;
        segment
    }

    pub(crate) fn packet(&self, segment: &Segment, payload: &[u8]) -> Vec<u8> {
        tcp((self.source.0.into(), self.source.1), (SERVER.into(), self.port), segment, payload)
    }

    pub(crate) fn syn(&self) -> Vec<u8> {
        let mut syn = Segment::new(Flags::SYN, self.isn, SeqNum::new(0));
        syn.window = self.window;
        syn.options = self.offer.clone();
        self.packet(&syn, &[])
    }

    /// The three segments of the handshake.
    ///
    /// # Panics
    /// If there is no SYN-ACK.
    pub(crate) fn handshake(&mut self, lab: &mut Lab) {
        let syn_ack = lab.answers(&self.syn());
        let (_, syn_ack) = syn_ack.first().and_then(Sent::tcp).expect("a SYN-ACK");
        assert!(syn_ack.is_syn() && syn_ack.is_ack() && syn_ack.ack == self.isn + 1, "{syn_ack:?}");
        self.snd_nxt = self.isn + 1;
        self.hear(&syn_ack);
        lab.give(&self.packet(&self.segment(Flags::ACK), &[]));
    }

    /// An established connection, and the stack's end of it.
    ///
    /// # Panics
    /// If it is not accepted.
    pub(crate) fn established(mut self, lab: &mut Lab, listener: &Arc<Listener>) -> (Self, Arc<Cell>) {
        self.handshake(lab);
        let cell = lab.accept(listener).expect("it is established");
        lab.sent();
        (self, cell)
    }

    /// Takes a segment of the stack for received.
    pub(crate) fn hear(&mut self, segment: &Segment) {
        let end = segment.seq + segment.len() as u32;
        if segment.is_syn() || end.after(self.rcv_nxt) {
            self.rcv_nxt = end;
        }
        if let (Some(own), Some(theirs)) = (&mut self.ts, segment.options.timestamps) {
            *own = Timestamps { tsval: own.tsval, tsecr: theirs.tsval };
        } else {
            self.ts = None;
        }
    }

    /// Takes everything for received that the stack sent it, and gives the payload.
    pub(crate) fn hear_all(&mut self, lab: &Lab) -> Vec<u8> {
        let mut payload = Vec::new();
        for sent in lab.sent() {
            if let Some(((_, to), segment)) = sent.tcp()
                && to == self.source.1
            {
                if segment.seq == self.rcv_nxt {
                    payload.extend_from_slice(sent.payload());
                }
                self.hear(&segment);
            }
        }
        payload
    }

    /// Sends the next bytes.
    pub(crate) fn say(&mut self, lab: &mut Lab, bytes: &[u8]) {
        let packet = self.packet(&self.segment(Flags::ACK.with(Flags::PSH)), bytes);
        self.snd_nxt = self.snd_nxt + bytes.len() as u32;
        lab.give(&packet);
    }

    /// Bytes at another place than SND.NXT.
    pub(crate) fn say_at(&self, lab: &mut Lab, seq: SeqNum, bytes: &[u8]) -> Vec<Segment> {
        let segment = Segment { seq, ..self.segment(Flags::ACK) };
        let answers = lab.answers(&self.packet(&segment, bytes));
        answers.iter().filter_map(|sent| Some(sent.tcp()?.1)).collect()
    }

    /// A segment without text, changed by the test, and what the stack answers.
    pub(crate) fn probe(
        &self,
        lab: &mut Lab,
        flags: Flags,
        change: impl FnOnce(&mut Segment),
    ) -> Vec<Segment> {
        let mut segment = self.segment(flags);
        change(&mut segment);
        let answers = lab.answers(&self.packet(&segment, &[]));
        answers.iter().filter_map(|sent| Some(sent.tcp()?.1)).collect()
    }

    pub(crate) fn reset(&self, lab: &mut Lab) {
        lab.give(&self.packet(&self.segment(Flags::RST), &[]));
    }

    /// The connection is alive: a byte comes through, in both directions.
    ///
    /// # Panics
    /// If it is not.
    pub(crate) fn assert_alive(&mut self, lab: &mut Lab, cell: &Arc<Cell>) {
        assert_eq!(cell.state(), State::Established);
        lab.read(cell);
        self.say(lab, b"a");
        assert_eq!(lab.read(cell), b"a");
        lab.sent();
        lab.write(cell, b"b").expect("a write");
        let heard = self.hear_all(lab);
        assert_eq!(heard, b"b");
        lab.give(&self.packet(&self.segment(Flags::ACK), &[]));
        lab.sent();
    }
}

/// A TCP packet with correct checksums.
pub(crate) fn tcp(src: (IpAddr, u16), dst: (IpAddr, u16), segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let ip = IpMeta { traffic_class: segment.ecn.bits(), ..IpMeta::new(src.0, dst.0, 64) };
    let pieces: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
    let segment = Segment { payload_len: payload.len(), ..segment.clone() };
    let datagram =
        TcpDatagram { ip: &ip, src_port: src.1, dst_port: dst.1, segment: &segment, payload: pieces };
    let mut headers = HeaderBuf::new();
    emit_tcp(&mut headers, &datagram, ChecksumMode::Full);
    [headers.as_slice(), payload].concat()
}

/// A UDP packet with correct checksums.
pub(crate) fn udp(src: (IpAddr, u16), dst: (IpAddr, u16), payload: &[u8]) -> Vec<u8> {
    let ip = IpMeta::new(src.0, dst.0, 64);
    let mut headers = HeaderBuf::new();
    let datagram = UdpDatagram { ip: &ip, src_port: src.1, dst_port: dst.1, payload };
    emit_udp(&mut headers, &datagram, ChecksumMode::Full);
    [headers.as_slice(), payload].concat()
}

/// An ICMP packet with correct checksums.
pub(crate) fn icmp(src: IpAddr, kind: u8, code: u8, word: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    let message = IcmpMessage { kind, code, word, body };
    emit_icmp(&mut packet, &IpMeta::new(src, SERVER.into(), 64), &message);
    packet
}

/// An IPv4 packet with this payload.
pub(crate) fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    emit_ip(&mut packet, &IpMeta::new(src.into(), dst.into(), 64), protocol, payload.len());
    packet.extend_from_slice(payload);
    packet
}

/// A generator of numbers that are the same each time.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
