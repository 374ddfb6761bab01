//! Peers that cost nothing: segments made by hand for a stack without I/O, whose device keeps what the test asks for.

use netstack::buffer::PacketBuf;
use netstack::config::Config;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use netstack::readiness::Events;
use netstack::stack::{Batch, Cell, Engine, Family, Interface, Listener, Observer, QueueId, Unconnected};
use netstack::time::{Duration, Instant};
use netstack::wire::{ChecksumMode, Flags, HeaderBuf, IpMeta, Options, Segment, SeqNum, TcpDatagram};
use netstack::wire::{emit_tcp, parse_ip, parse_tcp};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

/// The payload of a full segment.
pub(crate) const MSS: usize = 1460;

/// A device that keeps the last segment that was sent.
#[derive(Default)]
struct Sink {
    last: Mutex<Option<(SeqNum, SeqNum)>>,
    signal: Signal,
}

impl Device for Sink {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: 1500,
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
        let mut bytes = [0; 1500];
        let len = packet.copy_to(&mut bytes);
        let segment = parse_ip(&bytes[..len]).ok().and_then(|ip| parse_tcp(&bytes[ip.payload]).ok());
        *self.last.lock().unwrap() = segment.map(|(segment, _)| (segment.seq, segment.ack));
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

/// A stack, and who plays its peers.
pub(crate) struct Host {
    pub(crate) engine: Arc<Engine>,
    pub(crate) now: Instant,
    sink: Arc<Sink>,
    batch: Batch,
}

/// A connection: the stack's end, and the numbers of the other.
pub(crate) struct Peer {
    pub(crate) cell: Arc<Cell>,
    number: u32,
    pub(crate) seq: SeqNum,
    ack: SeqNum,
}

/// The address and port of a peer.
fn end(number: u32) -> (IpAddr, u16) {
    (Ipv4Addr::from_bits(0x0b00_0000 + number / 50_000).into(), (number % 50_000) as u16 + 1)
}

impl Host {
    pub(crate) fn new(config: Config) -> Self {
        let sink = Arc::new(Sink::default());
        let interface = Interface::new(Arc::clone(&sink) as _).address("10.0.0.1/8").gateway("10.9.9.9");
        let config = config.with(|config| config.seed = Some(1));
        let engine = Engine::new(config, vec![interface]).unwrap();
        Self { engine, now: Instant::from_millis(1_000_000), sink, batch: Batch::new() }
    }

    pub(crate) fn listen(&self, backlog: u32) -> Arc<Listener> {
        let (core, tcp) = (self.engine.core(), self.engine.tcp());
        let mut socket = Unconnected::new(core, tcp, Family::V4);
        tcp.bind(core, &mut socket, SocketAddr::from(([0, 0, 0, 0], 80))).unwrap();
        self.engine
            .with_tcp(self.now, |tcp, turn| tcp.listen(turn, socket, backlog, Arc::new(Nobody)))
            .unwrap()
    }

    /// Gives a packet to the stack.
    pub(crate) fn give(&mut self, pieces: &[&[u8]]) {
        let mut buf = self.batch.next_buffer(self.engine.core().pool());
        let mut len = 0;
        for piece in pieces {
            buf.bytes_mut()[len..len + piece.len()].copy_from_slice(piece);
            len += piece.len();
        }
        let meta = RxMeta { len, checksum_verified: true, gso_size: None };
        let from = QueueId { interface: 0, queue: 0 };
        self.engine.on_packet(self.now, from, buf, meta, &mut self.batch);
        self.engine.end_batch(self.now, &mut self.batch);
        self.batch.deliver(&self.engine);
    }

    /// Gives a segment from peer `number` to the stack.
    pub(crate) fn segment(&mut self, number: u32, segment: &Segment, payload: &[u8]) {
        let (address, port) = end(number);
        let segment = Segment { payload_len: payload.len(), ..segment.clone() };
        let ip = IpMeta::new(address, LOCAL, 64);
        let pieces: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
        let datagram =
            TcpDatagram { ip: &ip, src_port: port, dst_port: 80, segment: &segment, payload: pieces };
        let mut header = HeaderBuf::new();
        emit_tcp(&mut header, &datagram, ChecksumMode::Full);
        self.give(&[&header, payload]);
    }

    /// A SYN of peer `number`.
    pub(crate) fn syn(&mut self, number: u32) {
        let options = Options {
            mss: Some(MSS as u16),
            window_scale: Some(7),
            sack_permitted: true,
            ..Options::default()
        };
        let syn = Segment {
            options,
            window: 65_535,
            ..Segment::new(Flags::SYN, SeqNum::new(1000), SeqNum::new(0))
        };
        self.segment(number, &syn, &[]);
    }

    /// A connection of peer `number`, accepted.
    pub(crate) fn connect(&mut self, listener: &Arc<Listener>, number: u32) -> Peer {
        self.syn(number);
        let (iss, irs) = self.sink.last.lock().unwrap().take().expect("a SYN-ACK");
        let ack = Segment { window: 512, ..Segment::new(Flags::ACK, irs, iss + 1) };
        self.segment(number, &ack, &[]);
        let accepted = self.engine.with_tcp(self.now, |tcp, turn| tcp.accept(turn, listener));
        let (cell, _) = accepted.expect("a connection");
        cell.set_observer(Arc::new(Nobody));
        Peer { cell, number, seq: irs, ack: iss + 1 }
    }

    /// Data of a peer, so far behind what it sent in order.
    pub(crate) fn data(&mut self, peer: &Peer, ahead: u32, payload: &[u8]) {
        let segment =
            Segment { window: 512, ..Segment::new(Flags::ACK.with(Flags::PSH), peer.seq + ahead, peer.ack) };
        self.segment(peer.number, &segment, payload);
    }

    /// The peer resets the connection, and the application lets go of it.
    pub(crate) fn end(&mut self, peer: Peer) {
        let rst = Segment::new(Flags::RST, peer.seq, SeqNum::new(0));
        self.segment(peer.number, &rst, &[]);
        self.engine.with_tcp(self.now, |tcp, turn| tcp.close(turn, &peer.cell));
    }

    /// Lets time pass.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.engine.on_timer(self.now, &mut self.batch);
            self.batch.deliver(&self.engine);
        }
        self.now = end;
    }

    /// Lets go of what is kept for the next packet.
    pub(crate) fn let_go(&mut self) {
        self.batch = Batch::new();
        self.engine.core().pool().trim();
    }
}
