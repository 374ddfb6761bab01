//! A stack under a peer that means it ill, in virtual time and without I/O: what the benches of the cost of a packet
//! measure.

use crate::devices::LIKE_TUN;
use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use netstack::readiness::Events;
use netstack::stack::{
    Batch, Cell, Engine, Family, Listener, Observer, QueueId, UdpCell, UnboundUdp, Unconnected,
};
use netstack::sync::{Mutex, Rank};
use netstack::time::Instant;
use netstack::wire::{
    ChecksumMode, Flags, HeaderBuf, IpMeta, Options, SackBlock, Segment, SeqNum, TcpDatagram, Timestamps,
    UdpDatagram, emit_tcp, emit_udp, parse_ip, parse_tcp,
};
use netstack::{Config, Interface};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const QUEUE: QueueId = QueueId { interface: 0, queue: 0 };
/// The stack's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PORT: u16 = 80;
/// The smallest MSS that a peer can have, and what of it is left beside timestamps.
const MSS: u16 = 48;
const PAYLOAD: u32 = 36;

/// A device that takes everything and remembers the last segment.
struct Outbox {
    last: Mutex<Option<Segment>>,
    signal: Signal,
}

impl Device for Outbox {
    fn capabilities(&self) -> Capabilities {
        LIKE_TUN
    }

    fn receive(&self, _: Instant, _: usize, _: &mut PacketBuf) -> io::Result<RxMeta> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn transmit(&self, _: Instant, _: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        // The IP header is read by hand: its length counts the payload, which is elsewhere.
        let transport = usize::from(packet.header[0] & 15) * 4;
        if let Some(Ok((segment, _))) = packet.header.get(transport..).map(parse_tcp) {
            *self.last.lock() = Some(segment);
        }
        Ok(())
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }
}

struct Nobody;

impl Observer for Nobody {
    fn on_ready(&self, _: Events) {}
}

/// A stack and the driver of its only queue.
pub struct Victim {
    /// The stack.
    pub engine: Arc<Engine>,
    outbox: Arc<Outbox>,
    batch: Batch,
    now: Instant,
}

/// A connection of the victim, as its peer sees it.
pub struct Peer {
    cell: Arc<Cell>,
    source: (Ipv4Addr, u16),
    /// What the peer sends next, and what it acknowledges.
    seq: SeqNum,
    ack: SeqNum,
    tsecr: u32,
}

impl Victim {
    /// A stack with settings of its own.
    ///
    /// # Errors
    /// If a setting is not valid.
    pub fn new(change: impl FnOnce(&mut Config)) -> io::Result<Self> {
        let config = Config::default().with(|config| config.seed = Some(1)).with(change);
        let outbox = Arc::new(Outbox { last: Mutex::new(Rank::Device, None), signal: Signal::new() });
        let interface = Interface::new(Arc::clone(&outbox) as Arc<dyn Device>).address("10.0.0.1/8");
        let engine = Engine::new(config, vec![interface])?;
        Ok(Self { engine, outbox, batch: Batch::new(), now: Instant::from_millis(1_000_000) })
    }

    /// Listens on the port of the bench; several sockets can by `SO_REUSEPORT`.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn listen(&self) -> io::Result<Arc<Listener>> {
        let mut socket = Unconnected::new(self.engine.core(), self.engine.tcp(), Family::V4);
        socket.ip.set_reuse_port(true);
        self.engine.tcp().bind(self.engine.core(), &mut socket, SocketAddr::new(SERVER.into(), PORT))?;
        self.engine.with_tcp(self.now, |tcp, turn| tcp.listen(turn, socket, 4096, Arc::new(Nobody)))
    }

    /// A UDP socket on the port of the bench.
    ///
    /// # Errors
    /// If the port is taken.
    pub fn bind(&self) -> io::Result<Arc<UdpCell>> {
        let mut socket = UnboundUdp::new(self.engine.core(), Family::V4);
        socket.ip.set_reuse_port(true);
        let to = SocketAddr::new(SERVER.into(), PORT);
        self.engine.udp().bind(self.engine.core(), socket, to, Arc::new(Nobody))
    }

    /// Time passes, and what is due is done.
    pub fn pass(&mut self, by: Duration) {
        self.now += by;
        while self.engine.next_deadline().is_some_and(|at| at <= self.now) {
            self.engine.on_timer(self.now, &mut self.batch);
            self.batch.deliver(&self.engine);
        }
    }

    /// A packet arrives.
    pub fn receive(&mut self, packet: &[u8]) {
        let mut buf = self.batch.next_buffer(self.engine.core().pool());
        buf.bytes_mut()[..packet.len()].copy_from_slice(packet);
        let meta = RxMeta { len: packet.len(), checksum_verified: true, gso_size: None };
        self.engine.on_packet(self.now, QUEUE, buf, meta, &mut self.batch);
        self.engine.end_batch(self.now, &mut self.batch);
        self.batch.deliver(&self.engine);
    }

    fn last(&self) -> io::Result<Segment> {
        self.outbox.last.lock().take().ok_or_else(|| io::Error::other("the stack sent nothing"))
    }

    /// A connection from the client `number`, which has the smallest MSS.
    ///
    /// # Errors
    /// If the handshake does not come about.
    pub fn connect(&mut self, listener: &Arc<Listener>, number: u32) -> io::Result<Peer> {
        let source = (Ipv4Addr::from_bits(0x0a01_0000 + number / 50_000), 1024 + (number % 50_000) as u16);
        let isn = SeqNum::new(7);
        let options = Options {
            mss: Some(MSS),
            window_scale: Some(14),
            sack_permitted: true,
            timestamps: Some(Timestamps { tsval: 1, tsecr: 0 }),
            ..Options::default()
        };
        let syn = Segment { window: u16::MAX, options, ..Segment::new(Flags::SYN, isn, SeqNum::new(0)) };
        self.receive(&packet(source, &syn, &[]));
        let syn_ack = self.last()?;
        let tsecr = syn_ack.options.timestamps.map_or(0, |timestamps| timestamps.tsval);
        let (seq, ack) = (isn + 1, syn_ack.seq + 1);
        let third = segment(seq, ack, tsecr);
        self.receive(&packet(source, &third, &[]));
        let (cell, _) = self.engine.with_tcp(self.now, |tcp, turn| tcp.accept(turn, listener))?;
        cell.set_observer(Arc::new(Nobody));
        Ok(Peer { cell, source, seq, ack, tsecr })
    }

    /// Writes until `bytes` are in flight, in rounds in which the peer acknowledges everything.
    ///
    /// # Errors
    /// If the connection ends.
    pub fn fill(&mut self, peer: &mut Peer, bytes: u32) -> io::Result<()> {
        let block = vec![7; 1 << 20];
        for _ in 0..100 {
            loop {
                let written = self
                    .engine
                    .with_tcp(self.now, |tcp, turn| tcp.write(turn, &peer.cell, &[IoSlice::new(&block)]));
                match written {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    other => drop(other?),
                }
            }
            // What one hold of the lock leaves is for the device to ask for.
            while self.engine.has_waiting(QUEUE) {
                self.engine.on_writable(self.now, QUEUE, &mut self.batch);
                self.batch.deliver(&self.engine);
            }
            let last = self.last()?;
            let in_flight = last.seq - peer.ack;
            if in_flight >= bytes {
                return Ok(());
            }
            peer.ack = last.seq + last.payload_len as u32;
            peer.tsecr = last.options.timestamps.map_or(0, |timestamps| timestamps.tsval);
            self.pass(Duration::from_millis(20));
            self.receive(&packet(peer.source, &segment(peer.seq, peer.ack, peer.tsecr), &[]));
        }
        Err(io::Error::other("the window does not grow"))
    }
}

impl Peer {
    /// The acknowledgment that reports every second segment up to the one with this number as received, by
    /// blocks for the last three.
    pub fn sack(&self, number: u32) -> Vec<u8> {
        let mut ack = segment(self.seq, self.ack, self.tsecr);
        for n in (number.saturating_sub(2)..=number).rev() {
            let start = self.ack + (2 * n + 1) * PAYLOAD;
            ack.options.sack.push(SackBlock { start, end: start + PAYLOAD });
        }
        packet(self.source, &ack, &[])
    }

    /// Segments for [`Peer::sack`], if `bytes` are in flight.
    pub fn sacks_of(bytes: u32) -> u32 {
        bytes / (2 * PAYLOAD) - 1
    }

    /// A segment of `len` bytes that begins `offset` behind what is expected.
    pub fn data(&self, offset: u32, len: usize) -> Vec<u8> {
        packet(self.source, &segment(self.seq + offset, self.ack, self.tsecr), &vec![7; len])
    }
}

fn segment(seq: SeqNum, ack: SeqNum, tsecr: u32) -> Segment {
    let timestamps = Some(Timestamps { tsval: 2, tsecr });
    let options = Options { timestamps, ..Options::default() };
    Segment { window: u16::MAX, options, ..Segment::new(Flags::ACK, seq, ack) }
}

/// A datagram of one byte to the port of the bench.
pub fn datagram(source: (Ipv4Addr, u16)) -> Vec<u8> {
    let ip = IpMeta::new(source.0.into(), SERVER.into(), 64);
    let datagram = UdpDatagram { ip: &ip, src_port: source.1, dst_port: PORT, payload: b"x" };
    let mut headers = HeaderBuf::new();
    emit_udp(&mut headers, &datagram, ChecksumMode::Full);
    [headers.as_slice(), b"x"].concat()
}

/// A segment to the port of the bench.
pub fn packet(source: (Ipv4Addr, u16), segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let ip = IpMeta::new(source.0.into(), SERVER.into(), 64);
    let segment = Segment { payload_len: payload.len(), ..segment.clone() };
    let pieces: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
    let datagram =
        TcpDatagram { ip: &ip, src_port: source.1, dst_port: PORT, segment: &segment, payload: pieces };
    let mut headers = HeaderBuf::new();
    emit_tcp(&mut headers, &datagram, ChecksumMode::Full);
    let bytes = [headers.as_slice(), payload].concat();
    debug_assert!(parse_ip(&bytes).is_ok());
    bytes
}
