//! Network devices: what a stack sends packets to and receives them from.
//!
//! A [`Device`] carries IP packets. It has one or more queues; a reactor drives each. Everything it
//! does is non-blocking, and the time is an argument, so that a simulated network is a device like
//! any other and a test can run it in virtual time.

mod link;
mod loopback;
mod pair;
mod pcap;
mod queue;
mod signal;

pub use link::{Link, LinkConfig, LinkStats, ParseLinkError};
pub use loopback::Loopback;
pub use pair::{Pair, PairConfig};
pub use pcap::{PcapTap, SnapLen};
pub use signal::Signal;

use crate::buffer::PacketBuf;
use crate::time::Instant;
use crate::wire::{ChecksumOffload, Gso};
use std::io;
#[cfg(unix)]
use std::os::fd::BorrowedFd;

/// What a device can do. Fixed while the device lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The largest IP packet that goes on the wire, in bytes; super-segments are cut to it.
    pub mtu: usize,
    /// Number of queues, at least 1.
    pub queues: usize,
    /// Whether the device (or whoever is behind it) completes TCP and UDP checksums:
    /// [`TxPacket::checksum`] may be set.
    pub checksum_offload: bool,
    /// Whether the device cuts TCP segments of up to 64 KiB: [`TxPacket::gso`] may be set.
    /// Implies `checksum_offload`.
    pub segmentation_offload: bool,
    /// Whether the other end of the link takes every packet, whatever its next hop is, as that of a
    /// TUN device does. False if the device has to resolve the link-layer addresses of its neighbours
    /// (ARP, neighbour discovery): then a [gateway](crate::Interface::gateway) has to be one of them.
    pub point_to_point: bool,
}

/// A packet to send: the concatenation of `header` and all of `payload`.
#[derive(Clone, Copy, Debug)]
pub struct TxPacket<'a> {
    /// The IP and transport headers.
    pub header: &'a [u8],
    /// The payload in pieces, at most [`MAX_PIECES`](crate::buffer::MAX_PIECES), none of them empty.
    pub payload: &'a [&'a [u8]],
    /// Set if the transport checksum is not complete yet.
    pub checksum: Option<ChecksumOffload>,
    /// Set if the packet is to be cut into segments. Then `checksum` is set too, the IPv4
    /// header checksum is valid for the whole packet, and the IP length field covers it.
    pub gso: Option<Gso>,
}

impl TxPacket<'_> {
    /// Length of the whole packet in bytes.
    pub fn len(&self) -> usize {
        self.header.len() + self.payload.iter().map(|piece| piece.len()).sum::<usize>()
    }

    /// Whether the packet has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its parts in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.header).chain(self.payload.iter().copied())
    }

    /// Copies the packet to the front of `to` and returns its length.
    ///
    /// # Panics
    /// If `to` is too short.
    pub fn copy_to(&self, to: &mut [u8]) -> usize {
        let mut at = 0;
        for piece in self.pieces() {
            to[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        at
    }
}

/// What a device says of a packet that it delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RxMeta {
    /// Length of the packet, from the start of the buffer.
    pub len: usize,
    /// Whether the device vouches for the transport checksum: it verified it, or the packet comes
    /// from a sender on this machine that left it to the device.
    pub checksum_verified: bool,
    /// Set if the packet is a super-segment of segments of this many payload bytes.
    pub gso_size: Option<u16>,
}

/// How a reactor waits for a device.
#[derive(Debug)]
pub enum Readiness<'a> {
    /// By a file descriptor, for reading and for writing.
    #[cfg(unix)]
    Fd(BorrowedFd<'a>),
    /// By wakers that the device calls itself.
    Signal(&'a Signal),
}

/// A network device that carries IP packets.
///
/// None of the methods blocks, delivers to a stack inline or calls a waker, with the one exception
/// of [`Device::flush`]: `transmit` is called with the lock of a connection held. A device locks
/// only with [`Rank::Device`](crate::sync::Rank) or a higher rank.
pub trait Device: Send + Sync {
    /// What the device can do.
    fn capabilities(&self) -> Capabilities;

    /// Receives one packet of `queue` into the front of `buf`.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none. [`io::ErrorKind::NotConnected`] if the other
    /// end is gone for good. Any other error means that the device is unusable.
    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta>;

    /// Sends one packet on `queue`.
    ///
    /// A packet that the device accepted may still be lost.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the queue is full: nothing was sent, and the device becomes
    /// writable later. Any other error means that the device is unusable.
    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()>;

    /// Wakes whoever waits for what was transmitted on `queue`. Called without any lock held, after
    /// one or more transmissions.
    fn flush(&self, queue: usize) {
        let _ = queue;
    }

    /// How to wait until `queue` is readable or writable.
    fn readiness(&self, queue: usize) -> Readiness<'_>;

    /// When [`Device::on_deadline`] must be called, if ever: the moment at which a delayed packet
    /// becomes receivable or moves on.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Does what is due at `now`. May be called early or late. Called without any lock held.
    fn on_deadline(&self, now: Instant) {
        let _ = now;
    }
}
