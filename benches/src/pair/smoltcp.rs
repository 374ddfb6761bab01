//! smoltcp to smoltcp.

use super::{CHUNK, Link, QUEUE, Watch};
use ::smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use ::smoltcp::phy::{self, Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use ::smoltcp::socket::tcp;
use ::smoltcp::time::{Duration, Instant};
use ::smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Bytes of the buffer of each socket, for each direction.
const BUFFER: usize = 1 << 20;
const PORT: u16 = 80;
/// Virtual time of a round.
const ROUND: Duration = Duration::from_micros(10);

/// Packets in transit in one direction, and buffers for reuse.
#[derive(Default)]
struct Wire {
    packets: VecDeque<Vec<u8>>,
    free: Vec<Vec<u8>>,
}

/// One end of a cable.
struct End {
    inbox: Rc<RefCell<Wire>>,
    outbox: Rc<RefCell<Wire>>,
    link: Link,
}

struct Rx {
    packet: Vec<u8>,
    wire: Rc<RefCell<Wire>>,
}

struct Tx {
    wire: Rc<RefCell<Wire>>,
}

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let result = f(&self.packet);
        self.wire.borrow_mut().free.push(self.packet);
        result
    }
}

impl phy::TxToken for Tx {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = self.wire.borrow_mut().free.pop().unwrap_or_default();
        packet.resize(len, 0);
        let result = f(&mut packet);
        self.wire.borrow_mut().packets.push_back(packet);
        result
    }
}

impl Device for End {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx;

    fn receive(&mut self, _now: Instant) -> Option<(Rx, Tx)> {
        let packet = self.inbox.borrow_mut().packets.pop_front()?;
        Some((Rx { packet, wire: Rc::clone(&self.inbox) }, Tx { wire: Rc::clone(&self.outbox) }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Tx> {
        let room = self.outbox.borrow().packets.len() < QUEUE;
        room.then(|| Tx { wire: Rc::clone(&self.outbox) })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.link.mtu;
        if !self.link.checksums {
            capabilities.checksum = ChecksumCapabilities::ignored();
            // netstack always has this option, too.
            capabilities.checksum.ipv4 = Checksum::Both;
        }
        capabilities
    }
}

struct Host {
    end: End,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

impl Host {
    fn new(mut end: End, address: IpAddress) -> Self {
        let mut interface =
            Interface::new(Config::new(HardwareAddress::Ip), &mut end, Instant::from_micros(0));
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(address, 24)).expect("room for one address");
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self { end, interface, sockets, socket }
    }

    fn poll(&mut self, now: Instant) {
        self.interface.poll(now, &mut self.end, &mut self.sockets);
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }
}

/// Two hosts with one connection.
pub struct Transfer {
    sender: Host,
    receiver: Host,
    now: Instant,
    out: Vec<u8>,
    into: Vec<u8>,
}

impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transfer").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Transfer {
    /// Connects two hosts.
    ///
    /// # Panics
    /// If they do not connect.
    pub fn new(link: Link) -> Self {
        let wires: [Rc<RefCell<Wire>>; 2] = Default::default();
        let end = |i: usize| End { inbox: Rc::clone(&wires[i]), outbox: Rc::clone(&wires[1 - i]), link };
        let (here, there) = (IpAddress::v4(10, 0, 0, 1), IpAddress::v4(10, 0, 0, 2));
        let mut sender = Host::new(end(0), here);
        let mut receiver = Host::new(end(1), there);
        receiver.socket().listen(PORT).expect("a closed socket listens");
        let Host { interface, sockets, socket, .. } = &mut sender;
        let client = sockets.get_mut::<tcp::Socket<'_>>(*socket);
        client.connect(interface.context(), (there, PORT), 40_000).expect("a closed socket connects");
        let mut transfer = Self {
            sender,
            receiver,
            now: Instant::from_micros(0),
            out: vec![0x5a; CHUNK],
            into: vec![0; CHUNK],
        };
        let mut watch = Watch::default();
        while !(transfer.sender.socket().may_send() && transfer.receiver.socket().may_recv()) {
            transfer.poll();
            watch.round(0);
        }
        transfer
    }

    fn poll(&mut self) {
        self.now += ROUND;
        self.sender.poll(self.now);
        self.receiver.poll(self.now);
    }

    /// Moves `bytes` from one application's buffer to the other's.
    ///
    /// # Panics
    /// If the transfer is stuck.
    pub fn run(&mut self, bytes: usize) {
        let (mut written, mut read) = (0, 0);
        let mut watch = Watch::default();
        while read < bytes {
            while written < bytes {
                let len = CHUNK.min(bytes - written);
                match self.sender.socket().send_slice(&self.out[..len]).expect("it is connected") {
                    0 => break,
                    n => written += n,
                }
            }
            self.poll();
            let before = read;
            while self.receiver.socket().can_recv() {
                let Self { receiver, into, .. } = self;
                read += receiver.socket().recv_slice(into).expect("it is connected");
            }
            watch.round(read - before);
        }
    }
}
