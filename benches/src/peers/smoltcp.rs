//! smoltcp in a loop of its own on one thread: packets, applications, and then sleep until the next packet.
//!
//! With offloads it receives super-segments of up to 64 KiB, whose checksums nobody has to verify. It has none to
//! send. It also has no backlog; so some sockets listen at each port, and each that is taken is replaced.

use crate::clock;
use crate::services::{ECHO, READ, RECEIVED, Service, WRITE};
use crate::wait::Wait;
use ::smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use ::smoltcp::phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium};
use ::smoltcp::socket::tcp;
use ::smoltcp::time::Instant;
use ::smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use netstack::buffer::{PacketBuf, Pool};
use netstack::device::{Device as _, TxPacket};
use netstack_tun::Tun;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Bytes of a socket's buffer for a stream, and of one for single bytes.
const STREAM: usize = 1 << 20;
const SMALL: usize = 4 << 10;
/// Sockets that listen at each port: more than clients connect at once.
const LISTENING: usize = 64;
/// The longest sleep.
const IDLE: Duration = Duration::from_millis(200);

/// Serves at `address` on the first queue of `tun`. Calls `ready` when it does.
///
/// # Errors
/// Those of the device.
pub(crate) fn serve(tun: &Tun, address: Ipv4Addr, ready: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let wait = Wait::new(tun, 0)?;
    let begin = clock::now();
    let now = || Instant::from_micros(begin.elapsed().as_micros() as i64);
    let mut phy = Phy { tun, buf: Pool::new().take(), out: Vec::new() };
    let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut phy, now());
    interface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(IpAddress::Ipv4(address), 24)).expect("room for one address");
    });
    let mut host = Host::new();
    ready()?;
    loop {
        let polled = interface.poll(now(), &mut phy, &mut host.sockets);
        if host.run() || polled == PollResult::SocketStateChanged {
            continue;
        }
        let due = interface.poll_delay(now(), &host.sockets).map_or(IDLE, Duration::from);
        wait.readable(due.min(IDLE))?;
    }
}

/// The device.
struct Phy<'a> {
    tun: &'a Tun,
    buf: PacketBuf,
    out: Vec<u8>,
}

struct Rx<'a>(&'a [u8]);

struct Tx<'a> {
    tun: &'a Tun,
    out: &'a mut Vec<u8>,
}

impl phy::RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.out.resize(len, 0);
        let result = f(self.out);
        let packet = TxPacket { header: self.out, payload: &[], ..TxPacket::default() };
        // One that the kernel refuses is lost.
        let _ = self.tun.transmit(clock::EPOCH, 0, &packet);
        result
    }
}

impl phy::Device for Phy<'_> {
    type RxToken<'a>
        = Rx<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Tx<'a>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let Self { tun, buf, out } = self;
        let meta = tun.receive(clock::EPOCH, 0, buf).ok()?;
        Some((Rx(&buf.bytes()[..meta.len]), Tx { tun, out }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx { tun: self.tun, out: &mut self.out })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.tun.mtu();
        if self.tun.offload() {
            // The kernel has left them to the device.
            let mut checksum = ChecksumCapabilities::default();
            checksum.tcp = Checksum::Tx;
            capabilities.checksum = checksum;
        }
        capabilities
    }
}

/// A socket and its application.
struct Slot {
    handle: SocketHandle,
    service: Service,
    /// Whether it has left the listening ones.
    taken: bool,
    /// Whether it has sent its greeting.
    greeted: bool,
}

/// The sockets and their applications.
struct Host {
    sockets: SocketSet<'static>,
    slots: Vec<Slot>,
    block: Vec<u8>,
    buf: Vec<u8>,
}

impl Host {
    fn new() -> Self {
        let mut host = Self {
            sockets: SocketSet::new(Vec::new()),
            slots: Vec::new(),
            block: vec![0x5a; WRITE],
            buf: vec![0; READ],
        };
        for service in Service::ALL {
            for _ in 0..LISTENING {
                host.listen(service);
            }
        }
        host
    }

    fn listen(&mut self, service: Service) {
        let (receive, send) = match service {
            Service::Sink => (STREAM, SMALL),
            Service::Source => (SMALL, STREAM),
            Service::Both => (STREAM, STREAM),
            Service::Echo => (4 * ECHO, 4 * ECHO),
            Service::Hold | Service::Greet => (SMALL, SMALL),
        };
        let buffer = |len| tcp::SocketBuffer::new(vec![0; len]);
        let mut socket = tcp::Socket::new(buffer(receive), buffer(send));
        socket.set_nagle_enabled(false);
        socket.listen(service.port()).expect("a new socket listens");
        let handle = self.sockets.add(socket);
        self.slots.push(Slot { handle, service, taken: false, greeted: false });
    }

    /// Runs all applications. Whether one has moved something.
    fn run(&mut self) -> bool {
        let mut moved = false;
        let mut at = 0;
        while let Some(slot) = self.slots.get_mut(at) {
            let service = slot.service;
            let socket = self.sockets.get_mut::<tcp::Socket<'_>>(slot.handle);
            if !slot.taken && socket.state() != tcp::State::Listen && socket.may_send() {
                slot.taken = true;
                self.listen(service);
                continue;
            }
            if slot.taken {
                moved |= serve_one(slot, socket, &self.block, &mut self.buf);
            }
            if slot.taken && !socket.is_open() {
                self.sockets.remove(slot.handle);
                self.slots.swap_remove(at);
            } else {
                at += 1;
            }
        }
        moved
    }
}

/// What the application of one socket can do now. Whether it has moved something.
fn serve_one(slot: &mut Slot, socket: &mut tcp::Socket<'_>, block: &[u8], buf: &mut [u8]) -> bool {
    let mut moved = false;
    let service = slot.service;
    if matches!(service, Service::Source | Service::Both) {
        while socket.can_send() && socket.send_slice(block).is_ok_and(|len| len > 0) {
            moved = true;
        }
    }
    if service == Service::Greet && !slot.greeted && socket.send_slice(&block[..1]) == Ok(1) {
        (slot.greeted, moved) = (true, true);
    }
    while socket.can_recv() {
        let room = match service {
            Service::Echo | Service::Hold => socket.send_capacity() - socket.send_queue(),
            _ => buf.len(),
        };
        let room = room.min(buf.len());
        let Ok(len @ 1..) = socket.recv_slice(&mut buf[..room]) else { break };
        moved = true;
        match service {
            Service::Echo | Service::Hold => drop(socket.send_slice(&buf[..len])),
            _ => drop(RECEIVED.fetch_add(len as u64, Ordering::Relaxed)),
        }
    }
    if socket.state() == tcp::State::CloseWait && service != Service::Both && !socket.can_recv() {
        socket.close();
        moved = true;
    }
    // Nobody reads any more what it would send.
    if socket.state() == tcp::State::CloseWait {
        socket.abort();
        moved = true;
    }
    moved
}
