//! The bare limit: the throughput that a TCP without any cost would reach over a TUN device.
//!
//! It does only what the kernel's TCP at the other end needs: handshakes, acknowledgments, windows,
//! and going back if there is no progress. It has no buffers and no application: a sink drops what
//! arrives, a source sends the same bytes for ever, an echo returns each segment unchanged. Only
//! `read` and `write` copy, and with [`Copying::Once`] one copy between the packets and the buffer of an
//! application, as a stack with sockets has it. It is not a stack: after a loss it can only go back to the
//! last acknowledgment.

mod datagrams;

use crate::clock;
use crate::services::{READ, RECEIVED, Service, WRITE};
use crate::wait::Wait;
use netstack::buffer::{PacketBuf, Pool};
use netstack::device::{Device, TxPacket};
use netstack::wire::{
    ChecksumMode, Flags, Gso, HeaderBuf, IpMeta, Options, Segment, SeqNum, TCP_HEADER_LEN, TcpDatagram,
    emit_tcp, ip_header_len, parse_ip, parse_ports, parse_tcp, protocol,
};
use netstack_examples::relay::watch;
use netstack_tun::Tun;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// The advertised window, and the maximum that a source keeps in flight, in bytes.
const WINDOW: u32 = 4 << 20;
const WINDOW_SHIFT: u8 = 10;
/// Super-segments that one acknowledgment covers, unless the queue of the device becomes empty before. 1 and 4
/// give the same result.
const SUPER_SEGMENTS_PER_ACK: u32 = 4;
/// The same for single packets: 1 gives a third of the rate.
const PACKETS_PER_ACK: u32 = 16;
/// Blocks of a send queue into which a source copies, one after the other: 1 MiB, so that the copies are of the
/// cost of a window's, and not within the fastest cache.
const BLOCKS: usize = 16;
/// The largest IP packet.
const MAX_PACKET: usize = 65_535;
/// After this time without progress, the sources restart from the last acknowledged byte. A TUN
/// device loses only packets that overflow its queue.
const STALL: Duration = Duration::from_millis(200);
/// Packets between two looks at the clock, while the device always has some.
const PACKETS_PER_LOOK: u32 = 1024;
/// RFC 9293 §3.7.1: the MSS of a peer that does not advertise one.
const DEFAULT_MSS: u16 = 536;
/// More than the clients of any bench open; further ones get no answer.
const MAX_CONNECTIONS: usize = 100_000;
/// RFC 5681 §3.2.
const DUPLICATES_TO_RETRANSMIT: u8 = 3;

/// The initial sequence number, which need not be unpredictable here.
const ISS: SeqNum = SeqNum::new(1000);

/// The payload of a source. Its values do not matter, but it stays in the cache, as in a stack,
/// which would just have written it.
static PAYLOAD: [u8; MAX_PACKET] = [0x5a; MAX_PACKET];

/// Whether the limit has the buffers of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// It has none.
    None,
    /// What a source sends is copied from one, and what a sink receives into one; each connection has its own.
    Once,
}

/// What waits for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The thread itself, in epoll_wait(2).
    Thread,
    /// A task of a current-thread runtime of tokio.
    Tokio,
    /// The thread, which first reads over and over for this time.
    Polling(Duration),
}

/// Answers on all queues of `tun`, each on a thread of its own, until one fails.
///
/// # Errors
/// Those of the device.
pub fn run(tun: &Tun, copying: Copying, waiting: Waiting) -> io::Result<()> {
    let serve = |queue| match waiting {
        Waiting::Thread => serve(tun, queue, copying),
        Waiting::Tokio => serve_on_tokio(tun, queue, copying),
        Waiting::Polling(time) => serve_polling(tun, queue, copying, time),
    };
    thread::scope(|scope| {
        for queue in 1..tun.queues() {
            scope.spawn(move || {
                if let Err(error) = serve(queue) {
                    // The clients of this queue find no server any more.
                    eprintln!("queue {queue} of the limit: {error}");
                }
            });
        }
        serve(0)
    })
}

/// Answers on one queue. A flow stays on the queue on which it was answered.
fn serve(tun: &Tun, queue: usize, copying: Copying) -> io::Result<()> {
    let wait = Wait::new(tun, queue)?;
    let mut endpoint = Endpoint::new(tun, queue, copying);
    let mut buf = Pool::new().take();
    loop {
        endpoint.drain(&mut buf)?;
        if !wait.readable(STALL)? {
            endpoint.on_stall()?;
        }
    }
}

/// The same, and before each wait the thread reads over and over for `time`.
fn serve_polling(tun: &Tun, queue: usize, copying: Copying, time: Duration) -> io::Result<()> {
    let wait = Wait::new(tun, queue)?;
    let mut endpoint = Endpoint::new(tun, queue, copying);
    let mut buf = Pool::new().take();
    loop {
        let mut last = clock::now();
        while last.elapsed() < time {
            if endpoint.drain(&mut buf)? {
                last = clock::now();
            }
        }
        if !wait.readable(STALL)? {
            endpoint.on_stall()?;
        }
    }
}

/// The same in a task.
fn serve_on_tokio(tun: &Tun, queue: usize, copying: Copying) -> io::Result<()> {
    let mut endpoint = Endpoint::new(tun, queue, copying);
    let mut buf = Pool::new().take();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let device = watch(tun, queue)?;
        let mut stall = tokio::time::interval(STALL);
        let mut has_moved = false;
        loop {
            tokio::select! {
                readable = device.readable() => {
                    let mut readable = readable?;
                    endpoint.drain(&mut buf)?;
                    readable.clear_ready();
                    has_moved = true;
                }
                _ = stall.tick() => {
                    if !std::mem::take(&mut has_moved) {
                        endpoint.on_stall()?;
                    }
                }
            }
        }
    })
}

/// The peer and the service of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    peer: IpAddr,
    peer_port: u16,
    port: u16,
}

/// The minimum state of a connection. Names as in RFC 9293.
struct Connection {
    service: Service,
    key: Key,
    ip: IpMeta,
    /// Bytes of payload in a segment on the wire.
    mss: u16,
    /// The shift of the windows that the peer advertises.
    snd_wind_shift: u8,
    snd_una: SeqNum,
    snd_nxt: SeqNum,
    /// In bytes.
    snd_wnd: u32,
    rcv_nxt: SeqNum,
    /// Consecutive acknowledgments that acknowledge nothing new.
    duplicates: u8,
    /// `snd_una` at the last sweep.
    swept: SeqNum,
    /// Segments received and not acknowledged.
    unacknowledged: u32,
    /// Whether the FIN was sent.
    finished: bool,
    /// Of those that copy: what their application reads into or writes from.
    application: Vec<u8>,
    /// Bytes of it that were read.
    read: usize,
    /// The send queue of a source that copies, and the block that is next.
    queue: Vec<u8>,
    block: usize,
}

impl Connection {
    /// Creates a connection from a SYN.
    fn accept(service: Service, key: Key, ip: IpMeta, syn: &Segment, mtu: usize) -> Self {
        let ours = own_mss(&key.peer, mtu);
        Self {
            service,
            key,
            ip,
            mss: syn.options.mss.unwrap_or(DEFAULT_MSS).min(ours),
            snd_wind_shift: syn.options.window_scale.unwrap_or(0),
            snd_una: ISS,
            snd_nxt: ISS + 1,
            snd_wnd: 0,
            rcv_nxt: syn.seq + 1,
            duplicates: 0,
            swept: ISS,
            unacknowledged: 0,
            finished: false,
            application: Vec::new(),
            read: 0,
            queue: Vec::new(),
            block: 0,
        }
    }

    /// Copies what was received into the buffer of its application, from the start once it is full.
    fn copy_to_application(&mut self, payload: &[u8]) {
        self.application.resize(READ, 0);
        if self.read + payload.len() > READ {
            self.read = 0;
        }
        // A black box, or the copy is found to be for nothing.
        std::hint::black_box(&mut self.application[self.read..][..payload.len()]).copy_from_slice(payload);
        self.read += payload.len();
    }

    /// Processes the acknowledgment and the window of a segment. RFC 9293 §3.10.7.4, fifth.
    fn on_ack(&mut self, segment: &Segment) {
        let window = u32::from(segment.window) << self.snd_wind_shift;
        if segment.ack.after(self.snd_una) {
            self.snd_una = segment.ack;
            self.duplicates = 0;
            // Data that was sent before going back has arrived after all.
            if self.snd_nxt.before(segment.ack) {
                self.snd_nxt = segment.ack;
            }
        } else if segment.ack == self.snd_una
            && segment.payload_len == 0
            && window == self.snd_wnd
            && self.snd_nxt != self.snd_una
        {
            self.duplicates += 1;
            if self.duplicates == DUPLICATES_TO_RETRANSMIT {
                self.snd_nxt = self.snd_una;
            }
        }
        self.snd_wnd = window;
    }
}

fn own_mss(peer: &IpAddr, mtu: usize) -> u16 {
    (mtu - ip_header_len(peer) - TCP_HEADER_LEN).try_into().expect("an MTU under 64 KiB")
}

/// All connections of one device.
struct Endpoint<'a> {
    out: Output<'a>,
    connections: HashMap<Key, Connection>,
    /// Connections with segments that are not acknowledged yet.
    owing: Vec<Key>,
    segments_per_ack: u32,
    /// The buffer into which an application reads datagrams, if it copies.
    application: Vec<u8>,
    /// Since the last look at the clock, and the last sweep.
    packets: u32,
    swept: Instant,
}

impl<'a> Endpoint<'a> {
    fn new(tun: &'a Tun, queue: usize, copying: Copying) -> Self {
        let (mtu, offload) = (tun.mtu(), tun.offload());
        let out = Output { tun, queue, mtu, offload, header: HeaderBuf::new(), copying };
        let segments_per_ack = if offload { SUPER_SEGMENTS_PER_ACK } else { PACKETS_PER_ACK };
        let application = if copying == Copying::Once { vec![0; READ] } else { Vec::new() };
        Self {
            out,
            connections: HashMap::new(),
            owing: Vec::new(),
            segments_per_ack,
            application,
            packets: 0,
            swept: clock::now(),
        }
    }

    /// Answers until the device has nothing more. Whether it had anything.
    fn drain(&mut self, buf: &mut PacketBuf) -> io::Result<bool> {
        let mut any = false;
        loop {
            match self.out.tun.receive(clock::EPOCH, self.out.queue, buf) {
                Ok(meta) => self.on_packet(&buf.bytes()[..meta.len])?,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    return self.acknowledge().map(|()| any);
                }
                Err(err) => return Err(err),
            }
            any = true;
            self.packets += 1;
            if self.packets == PACKETS_PER_LOOK {
                self.packets = 0;
                if self.swept.elapsed() >= STALL {
                    self.sweep()?;
                    self.swept = clock::now();
                }
            }
        }
    }

    fn on_packet(&mut self, packet: &[u8]) -> io::Result<()> {
        let Ok(ip) = parse_ip(packet) else { return Ok(()) };
        if ip.protocol == protocol::UDP && ip.fragment.is_none() {
            return datagrams::on_datagram(self.out.tun, &ip, packet, &mut self.application);
        }
        if ip.protocol != protocol::TCP || ip.fragment.is_some() {
            return Ok(());
        }
        let bytes = &packet[ip.payload];
        let (Some((peer_port, port)), Ok((segment, data))) = (parse_ports(bytes), parse_tcp(bytes)) else {
            return Ok(());
        };
        let Some(service) = Service::at(port) else { return Ok(()) };
        let key = Key { peer: ip.src, peer_port, port };
        if segment.is_rst() {
            self.connections.remove(&key);
            return Ok(());
        }
        if segment.is_syn() {
            let back = IpMeta {
                src: ip.dst,
                dst: ip.src,
                hop_limit: 64,
                traffic_class: 0,
                dont_fragment: true,
                ident: 0,
                flow_label: 0,
            };
            return self.on_syn(service, key, back, &segment);
        }
        self.on_segment(&key, &segment, &bytes[data..])
    }

    fn on_syn(&mut self, service: Service, key: Key, back: IpMeta, syn: &Segment) -> io::Result<()> {
        if self.connections.len() >= MAX_CONNECTIONS {
            return Ok(());
        }
        let connection = Connection::accept(service, key, back, syn, self.out.mtu);
        self.out.syn_ack(&connection)?;
        self.connections.insert(key, connection);
        Ok(())
    }

    fn on_segment(&mut self, key: &Key, segment: &Segment, payload: &[u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        connection.on_ack(segment);
        if !payload.is_empty() {
            if segment.seq != connection.rcv_nxt {
                return self.out.ack(connection);
            }
            connection.rcv_nxt = connection.rcv_nxt + payload.len() as u32;
            RECEIVED.fetch_add(payload.len() as u64, Ordering::Relaxed);
            if matches!(connection.service, Service::Echo | Service::Hold) {
                self.out.data(connection, payload)?;
            } else {
                if self.out.copying == Copying::Once {
                    connection.copy_to_application(payload);
                }
                connection.unacknowledged += 1;
                match connection.unacknowledged {
                    count if count >= self.segments_per_ack => self.out.ack(connection)?,
                    1 => self.owing.push(*key),
                    _ => {}
                }
            }
        }
        if segment.is_fin() && segment.seq + payload.len() as u32 == connection.rcv_nxt {
            connection.rcv_nxt = connection.rcv_nxt + 1;
            connection.finished = true;
            return self.out.fin(connection);
        }
        if connection.finished {
            if segment.ack == connection.snd_nxt {
                self.connections.remove(key);
            }
            return Ok(());
        }
        if connection.service == Service::Greet && connection.snd_nxt == ISS + 1 {
            return self.out.data(connection, &PAYLOAD[..1]);
        }
        self.out.pump(connection)
    }

    /// Sends outstanding acknowledgments, when the queue of the device is empty.
    fn acknowledge(&mut self) -> io::Result<()> {
        for key in self.owing.drain(..) {
            if let Some(connection) = self.connections.get_mut(&key)
                && connection.unacknowledged > 0
            {
                self.out.ack(connection)?;
            }
        }
        Ok(())
    }

    /// Restarts the sources that have made no progress since the last call, while others have.
    fn sweep(&mut self) -> io::Result<()> {
        for connection in self.connections.values_mut().filter(|connection| !connection.finished) {
            if connection.swept == connection.snd_una && connection.snd_nxt != connection.snd_una {
                connection.snd_nxt = connection.snd_una;
                self.out.pump(connection)?;
            }
            connection.swept = connection.snd_una;
        }
        Ok(())
    }

    /// Restarts the sources.
    fn on_stall(&mut self) -> io::Result<()> {
        for connection in self.connections.values_mut().filter(|connection| !connection.finished) {
            connection.snd_nxt = connection.snd_una;
            self.out.pump(connection)?;
        }
        Ok(())
    }
}

/// The device, and what is needed to write to it.
struct Output<'a> {
    tun: &'a Tun,
    queue: usize,
    mtu: usize,
    /// Whether the device computes checksums and segments.
    offload: bool,
    header: HeaderBuf,
    copying: Copying,
}

impl Output<'_> {
    fn syn_ack(&mut self, connection: &Connection) -> io::Result<()> {
        let options = Options {
            mss: Some(own_mss(&connection.ip.dst, self.mtu)),
            window_scale: Some(WINDOW_SHIFT),
            ..Options::default()
        };
        // RFC 7323 §2.2: the window of a SYN is not scaled.
        let window = u16::MAX;
        let flags = Flags::SYN.with(Flags::ACK);
        let segment =
            Segment { window, options, ..Segment::new(flags, connection.snd_una, connection.rcv_nxt) };
        self.send(connection, &segment, &[])
    }

    fn ack(&mut self, connection: &mut Connection) -> io::Result<()> {
        connection.unacknowledged = 0;
        self.emit(connection, Flags::ACK, &[])
    }

    fn fin(&mut self, connection: &mut Connection) -> io::Result<()> {
        self.emit(connection, Flags::FIN.with(Flags::ACK), &[])?;
        connection.snd_nxt = connection.snd_nxt + 1;
        Ok(())
    }

    fn data(&mut self, connection: &mut Connection, payload: &[u8]) -> io::Result<()> {
        connection.unacknowledged = 0;
        self.emit(connection, Flags::PSH.with(Flags::ACK), payload)?;
        connection.snd_nxt = connection.snd_nxt + payload.len() as u32;
        Ok(())
    }

    /// Fills the window of a source with segments of the maximum size.
    fn pump(&mut self, connection: &mut Connection) -> io::Result<()> {
        if !matches!(connection.service, Service::Source | Service::Both) {
            return Ok(());
        }
        let mss = usize::from(connection.mss);
        let room = MAX_PACKET - ip_header_len(&connection.key.peer) - TCP_HEADER_LEN;
        let len = if self.offload { room / mss * mss } else { mss };
        let window = connection.snd_wnd.min(WINDOW) as usize;
        loop {
            let in_flight = (connection.snd_nxt - connection.snd_una) as usize;
            let fits = window.saturating_sub(in_flight) / mss * mss;
            // Less than a whole one is sent only if the window has no room for a whole one ever.
            let len = if in_flight == 0 { len.min(fits) } else { len };
            if len == 0 || len > fits {
                return Ok(());
            }
            match self.copying {
                Copying::None => self.data(connection, &PAYLOAD[..len])?,
                Copying::Once => self.copied(connection, len)?,
            }
        }
    }

    /// Sends what an application has written: from its buffer into the send queue, and from there to the device.
    fn copied(&mut self, connection: &mut Connection, len: usize) -> io::Result<()> {
        let mut queue = std::mem::take(&mut connection.queue);
        queue.resize(BLOCKS * WRITE, 0);
        connection.application.resize(WRITE, 0x5a);
        let block = &mut queue[connection.block * WRITE..][..len];
        // Black boxes, or the bytes are found to be all the same, and filled in instead of copied.
        std::hint::black_box(&mut *block)
            .copy_from_slice(std::hint::black_box(&connection.application[..len]));
        connection.block = (connection.block + 1) % BLOCKS;
        let sent = self.data(connection, block);
        connection.queue = queue;
        sent
    }

    fn emit(&mut self, connection: &Connection, flags: Flags, payload: &[u8]) -> io::Result<()> {
        let segment = Segment {
            window: (WINDOW >> WINDOW_SHIFT) as u16,
            payload_len: payload.len(),
            ..Segment::new(flags, connection.snd_nxt, connection.rcv_nxt)
        };
        self.send(connection, &segment, payload)
    }

    fn send(&mut self, connection: &Connection, segment: &Segment, payload: &[u8]) -> io::Result<()> {
        let pieces: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
        let mode = if self.offload { ChecksumMode::Offload } else { ChecksumMode::Full };
        let Key { peer: _, peer_port, port } = connection.key;
        let checksum = emit_tcp(
            &mut self.header,
            &TcpDatagram {
                ip: &connection.ip,
                src_port: port,
                dst_port: peer_port,
                segment,
                payload: pieces,
            },
            mode,
        );
        let header_len = self.header.len() as u16;
        let cut = self.offload && payload.len() > usize::from(connection.mss);
        let gso = cut.then_some(Gso { size: connection.mss, header_len });
        let packet = TxPacket { header: &self.header, payload: pieces, checksum, gso, ..TxPacket::default() };
        match self.tun.transmit(clock::EPOCH, self.queue, &packet) {
            // A lost packet: the peer or `on_stall` recovers it.
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}
