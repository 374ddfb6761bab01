//! Nothing larger than the MTU of an interface reaches its device, and a packet that the device loses is
//! not the end of it.

use super::{SECOND, to_host_1};
use crate::buffer::PacketBuf;
use crate::device::{Capabilities, Device, PacketLost, Readiness, RxMeta, TxPacket};
use crate::ip::{Reassembly, ReassemblyConfig};
use crate::stack::testing::{Cable, LinkSpec, Net, address};
use crate::stack::{Family, Interface};
use crate::sync::{Mutex, Rank};
use crate::time::{Duration, Instant};
use crate::wire::{
    ChecksumMode, FastOpenOption, Flags, HeaderBuf, IcmpMessage, IpMeta, Options, Segment, SeqNum,
    TcpDatagram, Timestamps, emit_icmp, emit_tcp, parse_icmp, parse_ip,
};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// The end of a cable that keeps every packet that it is given, and fails when it is told to.
struct Strict {
    inner: Arc<dyn Device>,
    seen: Mutex<Vec<Vec<u8>>>,
    /// The error number that transmissions fail with; 0 for none, and [`LOST`] for [`PacketLost`].
    fails: AtomicI32,
}

const LOST: i32 = -1;

impl Strict {
    fn new(cable: &Arc<Cable>, host: usize) -> Arc<Self> {
        let seen = Mutex::new(Rank::Device, Vec::new());
        Arc::new(Self { inner: cable.end(host), seen, fails: AtomicI32::new(0) })
    }

    fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.seen.lock())
    }
}

impl Device for Strict {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        self.inner.receive(now, queue, buf)
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        let mut bytes = vec![0; packet.len()];
        packet.copy_to(&mut bytes);
        self.seen.lock().push(bytes);
        match self.fails.load(Ordering::Relaxed) {
            0 if packet.len() > self.capabilities().mtu => Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
            0 => self.inner.transmit(now, queue, packet),
            LOST => Err(PacketLost.into()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        self.inner.readiness(queue)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.inner.next_deadline()
    }
}

/// Hosts 0 and 1 on a cable with this MTU, and the device of host 1.
fn pair(seed: u64, mtu: usize) -> (Net, Arc<Cable>, Arc<Strict>) {
    let cable = Cable::new(LinkSpec { mtu, ..LinkSpec::default() });
    let strict = Strict::new(&cable, 1);
    let devices: [Arc<dyn Device>; 2] = [cable.end(0), Arc::clone(&strict) as _];
    (Net::with_devices(seed, devices, |_, _| ()), cable, strict)
}

/// An echo request with `len` bytes of data from host 0 to host 1.
fn ping(family: Family, len: usize) -> Vec<u8> {
    let meta = IpMeta::new(address(0, family), address(1, family), 64);
    let kind = if family == Family::V4 { 8 } else { 128 };
    let body: Vec<u8> = (0..len).map(|n| n as u8).collect();
    let mut packet = Vec::new();
    emit_icmp(&mut packet, &meta, &IcmpMessage { kind, code: 0, word: [1, 2, 3, 4], body: &body });
    packet
}

#[test]
fn the_reply_to_a_long_echo_request_is_fragmented() {
    for (family, len) in [(Family::V4, 2000), (Family::V6, 3000), (Family::V4, 65_507), (Family::V4, 1473)] {
        let (mut net, cable, device) = pair(210, 1500);
        cable.inject(net.now, 1, &ping(family, len));
        net.settle();
        let sent = device.take();
        assert!(sent.len() > 1 && sent.iter().all(|packet| packet.len() <= 1500), "{family:?} {len}");
        let mut reassembly = Reassembly::new(ReassemblyConfig::default(), &crate::buffer::Pool::new());
        let mut whole = None;
        for packet in &sent {
            let header = parse_ip(packet).expect("a sound fragment");
            assert!(header.fragment.is_some(), "{family:?} {len}");
            whole = whole.or(reassembly.insert(net.now, &header, packet).outcome.expect("it fits"));
        }
        let whole = whole.expect("all of it");
        let header = parse_ip(whole.bytes()).unwrap();
        let message = parse_icmp(&header, &whole.bytes()[..header.payload.end]).expect("a right checksum");
        assert_eq!(message.body.len(), len, "{family:?}");
        assert!(message.body.iter().enumerate().all(|(n, &byte)| byte == n as u8));
    }
}

#[test]
fn an_icmp_error_fits_the_mtu() {
    for (mtu, longest) in [(68, 68), (296, 296), (1500, 576)] {
        let (mut net, cable, device) = v4_only(mtu);
        let mut packet = ping(Family::V4, 1000);
        packet[9] = 99;
        packet[10..12].fill(0);
        let sum = crate::wire::checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        cable.inject(net.now, 1, &packet);
        net.settle();
        let sent = device.take();
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [longest], "MTU {mtu}");
        assert!(parse_icmp(&parse_ip(&sent[0]).unwrap(), &sent[0]).is_some());
    }
}

/// The device of host 1 has lost a segment.
pub(super) fn lost_by_the_device() -> Net {
    let (mut net, _cable, device) = pair(215, 1500);
    let (_client, server) = net.connected();
    device.fails.store(libc::ENOBUFS, Ordering::Relaxed);
    net.write(&server, b"lost").unwrap();
    net
}

/// The headers of a SYN-ACK with a cookie, 72 bytes, are longer than the MTU.
pub(super) fn headers_too_long() -> Net {
    let (mut net, cable, device) = v4_only(68);
    let listener = net.listen(0, 80, 8);
    listener.with_options(|options| options.fastopen_queue = 8);
    let mut syn = Segment { window: 1000, ..Segment::new(Flags::SYN, SeqNum::new(1), SeqNum::new(0)) };
    syn.options = Options {
        mss: Some(500),
        window_scale: Some(2),
        sack_permitted: true,
        timestamps: Some(Timestamps { tsval: 1, tsecr: 0 }),
        fast_open: Some(FastOpenOption { cookie: None, experimental: false }),
        ..Options::default()
    };
    let ip = IpMeta::new(address(0, Family::V4), address(1, Family::V4), 64);
    let mut packet = HeaderBuf::new();
    let datagram = TcpDatagram { ip: &ip, src_port: 5000, dst_port: 80, segment: &syn, payload: &[] };
    emit_tcp(&mut packet, &datagram, ChecksumMode::Full);
    cable.inject(net.now, 1, &packet);
    net.settle();
    assert!(device.take().is_empty(), "nothing reaches the device");
    net
}

/// Host 0 alone, 10.0.0.2, on an interface of IPv4 only with this MTU.
fn v4_only(mtu: usize) -> (Net, Arc<Cable>, Arc<Strict>) {
    let cable = Cable::new(LinkSpec { mtu, ..LinkSpec::default() });
    let device = Strict::new(&cable, 1);
    let interface = Interface::new(Arc::clone(&device) as _).address("10.0.0.2/24");
    (Net::alone(212, vec![interface]), cable, device)
}

#[test]
fn a_packet_that_the_device_loses_is_not_the_end_of_the_interface() {
    let errors = [libc::EMSGSIZE, libc::ENOBUFS, libc::ENOMEM, libc::EIO, libc::EPERM, libc::ENETDOWN, LOST];
    for errno in errors {
        let (mut net, _cable, device) = pair(213, 1500);
        let (client, server) = net.connected();
        device.fails.store(errno, Ordering::Relaxed);
        net.write(&server, b"late").unwrap();
        net.run_for(SECOND);
        device.fails.store(0, Ordering::Relaxed);
        net.run_for(Duration::from_secs(5));
        assert_eq!(net.read(&client).unwrap(), b"late", "error {errno}: sent again");
        assert!(net.connect(1, to_host_1(80)).is_ok(), "error {errno}");
    }
    let (mut net, _cable, device) = pair(214, 1500);
    let (_client, server) = net.connected();
    device.fails.store(libc::ENODEV, Ordering::Relaxed);
    let _ = net.write(&server, b"x");
    net.settle();
    assert_eq!(net.read(&server).unwrap_err().raw_os_error(), Some(libc::ENODEV), "that one is the end");
}
