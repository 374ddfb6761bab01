//! The bare limit: the throughput that a TCP without any cost would reach over a TUN device.
//!
//! It does only what the kernel's TCP at the other end needs: handshakes, acknowledgments, windows,
//! and going back if there is no progress. It has no buffers and no application: a sink drops what
//! arrives, a source sends the same bytes for ever, an echo returns each segment unchanged. Only
//! `read` and `write` copy. It is not a stack: after a loss it can only go back to the last
//! acknowledgment.

mod datagrams;

use crate::clock;
use crate::services::RECEIVED;
use netstack::buffer::{PacketBuf, Pool};
use netstack::device::{Device, RxMeta, TxPacket};
use netstack::wire::{
    ChecksumMode, Flags, Gso, HeaderBuf, IpMeta, Options, Segment, SeqNum, TCP_HEADER_LEN, TcpDatagram,
    emit_tcp, ip_header_len, parse_ip, parse_ports, parse_tcp, protocol,
};
use netstack_tun::Tun;
use rustix::event::epoll;
use rustix::io::Errno;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The port where bytes are received and dropped.
pub const SINK_PORT: u16 = 5001;
/// The port where bytes are sent as fast as the peer accepts them.
pub const SOURCE_PORT: u16 = 5002;
/// The port where bytes are returned.
pub const ECHO_PORT: u16 = 5003;

/// The advertised window, and the maximum that a source keeps in flight, in bytes.
const WINDOW: u32 = 4 << 20;
const WINDOW_SHIFT: u8 = 10;
/// Segments that one acknowledgment covers, unless the queue of the device becomes empty before.
/// With super-segments 1 and 4 give the same result; with single packets more is better.
const SEGMENTS_PER_ACK: u32 = 4;
/// The largest IP packet.
const MAX_PACKET: usize = 65_535;
/// After this time without progress, the sources restart from the last acknowledged byte. A TUN
/// device loses only packets that overflow its queue.
const STALL: Duration = Duration::from_millis(200);
/// RFC 9293 §3.7.1: the MSS of a peer that does not advertise one.
const DEFAULT_MSS: u16 = 536;
/// More than the clients of any bench open; further ones get no answer.
const MAX_CONNECTIONS: usize = 100_000;
/// RFC 5681 §3.2.
const DUPLICATES_TO_RETRANSMIT: u8 = 3;

/// The payload of a source. Its values do not matter, but it stays in the cache, as in a stack,
/// which would just have written it.
static PAYLOAD: [u8; MAX_PACKET] = [0x5a; MAX_PACKET];

/// A limit that runs on a thread of its own until this is dropped.
#[derive(Debug)]
pub struct Limit {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Limit {
    /// Starts answering on `tun` for every address that the kernel routes there.
    ///
    /// # Errors
    /// Those of creating the thread.
    pub fn spawn(tun: Arc<Tun>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new().name("limit".to_owned()).spawn(move || run(&tun, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Stops, and says whether it ran to the end.
    ///
    /// # Errors
    /// What ended it before its time.
    ///
    /// # Panics
    /// If its thread did.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("taken here and in drop only");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It checks `stop` at least every `STALL`. `Limit::stop` returns its error.
            let _ = thread.join();
        }
    }
}

/// Answers on the first queue of `tun` on this thread until `stop` is set, which takes effect
/// within 200 ms.
///
/// # Errors
/// Those of the device.
pub fn run(tun: &Tun, stop: &AtomicBool) -> io::Result<()> {
    let wait = Wait::new(tun)?;
    let mut endpoint = Endpoint::new(tun);
    let mut buf = Pool::new().take();
    while !stop.load(Ordering::Relaxed) {
        match tun.receive(clock::EPOCH, 0, &mut buf) {
            Ok(meta) => endpoint.on_packet(&buf, meta)?,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                endpoint.acknowledge()?;
                if !wait.readable()? {
                    endpoint.on_stall()?;
                }
            }
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

/// Waits for the device. epoll rather than poll, which would register with the device anew each time.
struct Wait {
    epoll: OwnedFd,
}

impl Wait {
    fn new(tun: &Tun) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, tun.queue_fd(0), epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(Self { epoll })
    }

    /// Whether a packet arrived within [`STALL`].
    fn readable(&self) -> io::Result<bool> {
        let stall = rustix::event::Timespec::try_from(STALL).expect("200 ms are representable");
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
        match epoll::wait(&self.epoll, &mut events[..], Some(&stall)) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(true),
            Err(err) => Err(err.into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Sink,
    Source,
    Echo,
}

impl Service {
    fn at(port: u16) -> Option<Self> {
        match port {
            SINK_PORT => Some(Self::Sink),
            SOURCE_PORT => Some(Self::Source),
            ECHO_PORT => Some(Self::Echo),
            _ => None,
        }
    }
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
    /// Segments received and not acknowledged.
    unacknowledged: u32,
    /// Whether the FIN was sent.
    finished: bool,
}

impl Connection {
    /// Creates a connection from a SYN. The initial sequence number need not be unpredictable here.
    fn accept(service: Service, key: Key, ip: IpMeta, syn: &Segment, mtu: usize) -> Self {
        const ISS: SeqNum = SeqNum::new(1000);
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
            unacknowledged: 0,
            finished: false,
        }
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
}

impl<'a> Endpoint<'a> {
    fn new(tun: &'a Tun) -> Self {
        let out = Output { tun, mtu: tun.mtu(), offload: tun.offload(), header: HeaderBuf::new() };
        Self { out, connections: HashMap::new(), owing: Vec::new() }
    }

    fn on_packet(&mut self, buf: &PacketBuf, meta: RxMeta) -> io::Result<()> {
        let packet = &buf.bytes()[..meta.len];
        let Ok(ip) = parse_ip(packet) else { return Ok(()) };
        if ip.protocol == protocol::UDP && ip.fragment.is_none() {
            return datagrams::on_datagram(self.out.tun, &ip, packet);
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
            if connection.service == Service::Echo {
                self.out.data(connection, payload)?;
            } else {
                connection.unacknowledged += 1;
                match connection.unacknowledged {
                    SEGMENTS_PER_ACK.. => self.out.ack(connection)?,
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
    mtu: usize,
    /// Whether the device computes checksums and segments.
    offload: bool,
    header: HeaderBuf,
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
        if connection.service != Service::Source {
            return Ok(());
        }
        let mss = usize::from(connection.mss);
        let room = MAX_PACKET - ip_header_len(&connection.key.peer) - TCP_HEADER_LEN;
        let len = if self.offload { room / mss * mss } else { mss };
        let window = connection.snd_wnd.min(WINDOW);
        while (connection.snd_nxt - connection.snd_una) + len as u32 <= window {
            self.data(connection, &PAYLOAD[..len])?;
        }
        Ok(())
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
        match self.tun.transmit(clock::EPOCH, 0, &packet) {
            // A lost packet: the peer or `on_stall` recovers it.
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }
}
