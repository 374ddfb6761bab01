//! Code that the tests share: waiting for a device, and hand-made packets.
#![expect(dead_code, reason = "each test program uses some of it")]

use netstack::buffer::{PacketBuf, Pool};
use netstack::device::{Device, RxMeta, TxPacket};
use netstack::time::Instant;
use netstack::wire::{ChecksumOffload, Gso};
use netstack_tun::Tun;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

pub(crate) const UDP: u8 = 17;
pub(crate) const TCP: u8 = 6;
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// How long to wait for a packet.
const TIMEOUT_MS: i32 = 5_000;

/// Waits until `queue` is readable or in error, or `timeout_ms` have passed. Returns whether it is.
pub(crate) fn readable(tun: &Tun, queue: usize, timeout_ms: i32) -> bool {
    let fd = tun.queue_fd(queue).as_raw_fd();
    let mut wait = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: `wait` is one pollfd, as the count says, and outlives the call.
    unsafe { libc::poll(&raw mut wait, 1, timeout_ms) > 0 }
}

/// Makes the interface of `tun` persistent, as `ip tuntap add` does.
pub(crate) fn persist(tun: &Tun) {
    let on: libc::c_ulong = 1;
    // SAFETY: TUNSETPERSIST takes its argument by value and touches no memory of ours.
    let result = unsafe { libc::ioctl(tun.queue_fd(0).as_raw_fd(), libc::TUNSETPERSIST, on) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// A received packet.
pub(crate) struct Received {
    pub(crate) meta: RxMeta,
    buf: PacketBuf,
}

impl Received {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf.bytes()[..self.meta.len]
    }

    /// Protocol, source and destination.
    pub(crate) fn ip(&self) -> (u8, IpAddr, IpAddr) {
        let b = self.bytes();
        let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&b[at..at + 16]).unwrap());
        let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&b[at..at + 4]).unwrap());
        match b[0] >> 4 {
            4 => (b[9], v4(12), v4(16)),
            6 => (b[6], v6(8), v6(24)),
            version => panic!("IP version {version}"),
        }
    }

    /// What follows the IP header.
    pub(crate) fn transport(&self) -> &[u8] {
        let b = self.bytes();
        let header = if b[0] >> 4 == 4 { usize::from(b[0] & 15) * 4 } else { 40 };
        &b[header..]
    }

    /// The TCP segment.
    pub(crate) fn tcp(&self) -> Segment {
        let b = self.transport();
        let word = |at: usize| u32::from_be_bytes(b[at..at + 4].try_into().unwrap());
        let header = usize::from(b[12] >> 4) * 4;
        Segment {
            source: u16::from_be_bytes([b[0], b[1]]),
            destination: u16::from_be_bytes([b[2], b[3]]),
            seq: word(4),
            ack: word(8),
            flags: b[13],
            payload: b[header..].to_vec(),
        }
    }
}

/// The fields of a TCP segment that the tests look at.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

/// Receives a packet on `queue`, without waiting.
pub(crate) fn try_receive(tun: &Tun, queue: usize) -> io::Result<Received> {
    let mut buf = Pool::new().take();
    let meta = tun.receive(Instant::ZERO, queue, &mut buf)?;
    Ok(Received { meta, buf })
}

/// The next packet of `queue` that `wanted` accepts. Others, such as the router solicitations of a
/// new interface, are dropped.
pub(crate) fn receive(tun: &Tun, queue: usize, wanted: impl Fn(&Received) -> bool) -> Received {
    loop {
        match try_receive(tun, queue) {
            Ok(packet) if wanted(&packet) => return packet,
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                assert!(readable(tun, queue, TIMEOUT_MS), "no packet in {TIMEOUT_MS} ms");
            }
            Err(err) => panic!("{err}"),
        }
    }
}

pub(crate) fn is(protocol: u8) -> impl Fn(&Received) -> bool {
    move |packet| packet.ip().0 == protocol
}

/// The Internet checksum (RFC 1071), not complemented.
fn sum(pieces: &[&[u8]]) -> u16 {
    let mut total: u64 = 0;
    for piece in pieces {
        for pair in piece.chunks(2) {
            total += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn pseudo_header(protocol: u8, from: IpAddr, to: IpAddr, len: usize) -> Vec<u8> {
    [&octets(from)[..], &octets(to), &(len as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat()
}

/// An IP header for `len` bytes of transport header and payload.
fn ip_header(protocol: u8, from: IpAddr, to: IpAddr, len: usize) -> Vec<u8> {
    if from.is_ipv4() {
        let total = (len + 20) as u16;
        let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header.extend(octets(from));
        header.extend(octets(to));
        let checksum = !sum(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    } else {
        let mut header = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
        header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        header.extend(octets(from));
        header.extend(octets(to));
        header
    }
}

/// The work that is left to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// The checksum is complete.
    Done,
    /// The checksum is left to the device.
    Checksum,
    /// The checksum and the segmentation, to segments with this payload, are left to the device.
    Gso(u16),
}

/// A packet to send.
pub(crate) struct Packet<'a> {
    pub(crate) protocol: u8,
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    /// The transport header, with a zero checksum.
    pub(crate) transport: &'a [u8],
    /// Where in the transport header the checksum is.
    pub(crate) checksum_at: usize,
    pub(crate) payload: &'a [u8],
}

/// Sends a packet, its payload in two pieces.
pub(crate) fn send(tun: &Tun, queue: usize, packet: &Packet<'_>, work: Work) -> io::Result<()> {
    let &Packet { protocol, from, to, transport, checksum_at, payload } = packet;
    let len = transport.len() + payload.len();
    let pseudo = pseudo_header(protocol, from, to, len);
    let checksum = match work {
        Work::Done => !sum(&[&pseudo, transport, payload]),
        _ => sum(&[&pseudo]),
    };
    let mut header = ip_header(protocol, from, to, len);
    let start = header.len();
    header.extend_from_slice(transport);
    header[start + checksum_at..start + checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    let halves = payload.split_at(payload.len() / 2);
    let pieces: Vec<&[u8]> = [halves.0, halves.1].into_iter().filter(|piece| !piece.is_empty()).collect();
    let offload = ChecksumOffload { start: start as u16, offset: checksum_at as u16 };
    let packet = TxPacket {
        header: &header,
        payload: &pieces,
        checksum: (work != Work::Done).then_some(offload),
        gso: match work {
            Work::Gso(size) => Some(Gso { size, header_len: header.len() as u16 }),
            _ => None,
        },
        ..TxPacket::default()
    };
    tun.transmit(Instant::ZERO, queue, &packet)
}

/// A UDP datagram to send.
pub(crate) struct Datagram<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) payload: &'a [u8],
}

/// Sends a UDP datagram.
pub(crate) fn send_udp(tun: &Tun, queue: usize, datagram: &Datagram<'_>, work: Work) -> io::Result<()> {
    let &Datagram { from, to, payload } = datagram;
    let mut header = Vec::new();
    for field in [from.port(), to.port(), (8 + payload.len()) as u16, 0] {
        header.extend(field.to_be_bytes());
    }
    let packet =
        Packet { protocol: UDP, from: from.ip(), to: to.ip(), transport: &header, checksum_at: 6, payload };
    send(tun, queue, &packet, work)
}
