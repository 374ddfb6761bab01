//! A device over a socket pair between two processes, which needs no rights.

use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, TxPacket};
use netstack::time::Instant;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;

/// The MTU in bytes.
const MTU: usize = 1500;

/// One end.
pub(crate) struct Wire {
    socket: UnixDatagram,
    /// Of a million packets so many are lost.
    loss: u32,
    chance: AtomicU32,
    /// Who takes packets to an address of the net 11.0.0.0/8.
    tap: Option<Mutex<Sender<Vec<u8>>>>,
}

impl Wire {
    pub(crate) fn new(socket: UnixDatagram, loss: u32, tap: Option<Sender<Vec<u8>>>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, loss, chance: AtomicU32::new(1), tap: tap.map(Mutex::new) })
    }

    /// Whether a packet is lost: a generator of Marsaglia's.
    fn loses(&self) -> bool {
        if self.loss == 0 {
            return false;
        }
        let mut x = self.chance.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.chance.store(x, Ordering::Relaxed);
        x % 1_000_000 < self.loss
    }
}

impl Device for Wire {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: MTU,
            queues: 1,
            // Nobody else is between the two processes.
            checksum_offload: true,
            segmentation_offload: false,
            udp_segmentation_offload: false,
            point_to_point: true,
        }
    }

    fn receive(&self, _: Instant, _: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        loop {
            let len = match self.socket.recv(buf.bytes_mut()) {
                Ok(0) => return Err(io::ErrorKind::NotConnected.into()),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => return Err(io::ErrorKind::NotConnected.into()),
            };
            let bytes = &buf.bytes()[..len];
            if let Some(tap) = &self.tap
                && len >= 20
                && bytes[16] == 11
            {
                let _ = tap.lock().expect("no panic under this lock").send(bytes.to_vec());
                continue;
            }
            if !self.loses() {
                return Ok(RxMeta { len, checksum_verified: true, gso_size: None });
            }
        }
    }

    fn transmit(&self, _: Instant, _: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        let mut bytes = [0; MTU];
        let len = packet.copy_to(&mut bytes);
        match self.socket.send(&bytes[..len]) {
            Ok(_) => Ok(()),
            // The other end's queue, or that of the kernel, is full.
            Err(error) if error.raw_os_error() == Some(105) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error),
        }
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Fd(self.socket.as_fd())
    }
}

/// The addresses of the two ends.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const PEERS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
