//! Network devices, which send and receive packets for a stack.
//!
//! A [`Device`] carries IP packets. It has one or more queues, each of which is driven by a
//! reactor. All operations are non-blocking, and the time is an argument, so that a simulated
//! network is an ordinary device and runs in virtual time.

mod channel;
mod link;
mod loopback;
mod loss;
mod pair;
mod pcap;
mod queue;
mod router;
mod signal;

pub use channel::{Channel, ChannelConfig, ChannelEnd, SuperSegment};
pub use link::{Link, LinkConfig, LinkStats, ParseLinkError};
pub use loopback::Loopback;
pub use loss::PacketLost;
pub(crate) use loss::is_loss;
pub use pair::{Pair, PairConfig};
pub use pcap::{PcapTap, SnapLen};
#[cfg(feature = "sim")]
pub(crate) use router::destination;
pub use router::{Router, RouterConfig, RouterPort};
pub use signal::Signal;

use crate::buffer::PacketBuf;
use crate::time::Instant;
use crate::wire::{ChecksumOffload, Gso};
use std::io;
#[cfg(unix)]
use std::os::fd::BorrowedFd;

/// The capabilities of a device. They do not change during its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The largest IP packet on the wire, in bytes. Super-segments are segmented to this size.
    pub mtu: usize,
    /// Number of queues, at least 1.
    pub queues: usize,
    /// Whether the device, or the system behind it, completes TCP and UDP checksums.
    /// [`TxPacket::checksum`] may then be set.
    pub checksum_offload: bool,
    /// Whether the device segments TCP super-segments of up to 64 KiB. [`TxPacket::gso`] may then
    /// be set. Implies `checksum_offload`.
    pub segmentation_offload: bool,
    /// Whether the device divides several UDP datagrams that are one packet of up to 64 KiB.
    /// [`TxPacket::gso`] may then be set for UDP. Implies `checksum_offload`.
    pub udp_segmentation_offload: bool,
    /// Whether the other end of the link takes every packet, whatever its next hop is, as that of a
    /// TUN device does. False if the device has to resolve the link-layer addresses of its neighbours
    /// (ARP, neighbour discovery): then a [gateway](crate::Interface::gateway) has to be one of them.
    pub point_to_point: bool,
}

/// A packet to send: the concatenation of `header` and all of `payload`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxPacket<'a> {
    /// The IP and transport headers.
    pub header: &'a [u8],
    /// The payload in pieces, at most [`MAX_PIECES`](crate::buffer::MAX_PIECES), none of them empty.
    pub payload: &'a [&'a [u8]],
    /// Set if the transport checksum is not complete yet.
    pub checksum: Option<ChecksumOffload>,
    /// Set if the device is to divide the packet into segments. Then `checksum` is set too, the
    /// IPv4 header checksum is valid for the whole packet, and the IP length field covers it.
    pub gso: Option<Gso>,
    /// `SO_MARK` of the socket that sends it. 0 if it is not set, and of what no socket sends: answers to pings,
    /// ICMP errors, resets of unknown connections, what TIME-WAIT answers.
    pub mark: u32,
    /// `SO_PRIORITY` of the socket that sends it. 0 if it is not set, and of what no socket sends.
    pub priority: u32,
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

    /// Length of the longest packet on the wire that it becomes, in bytes.
    pub(crate) fn len_on_wire(&self) -> usize {
        let whole = self.len();
        self.gso.map_or(whole, |gso| whole.min(usize::from(gso.header_len) + usize::from(gso.size)))
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

/// Metadata of a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RxMeta {
    /// Length of the packet, from the start of the buffer.
    pub len: usize,
    /// Whether the transport checksum need not be verified, because the device has verified it, or
    /// because the packet comes from a sender on this machine that left the checksum to the device.
    pub checksum_verified: bool,
    /// Set if the packet is a super-segment: the payload bytes of each of its segments.
    pub gso_size: Option<u16>,
}

/// How a reactor waits for a device queue.
#[derive(Debug)]
pub enum Readiness<'a> {
    /// By a file descriptor, for reading and for writing.
    #[cfg(unix)]
    Fd(BorrowedFd<'a>),
    /// By wakers that the device calls itself. Those of [`Signal::inline`] may receive from the device and transmit to
    /// it before they return.
    Signal(&'a Signal),
}

/// A network device that carries IP packets.
///
/// No method blocks, delivers packets to a stack directly or calls a waker, because `transmit` is
/// called while the lock of a connection is held. The only exception is [`Device::flush`], which
/// may call wakers. A device locks only with [`Rank::Device`](crate::sync::Rank) or a higher rank.
pub trait Device: Send + Sync {
    /// The capabilities of the device.
    fn capabilities(&self) -> Capabilities;

    /// Receives one packet from `queue` into `buf`, from its first byte on.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none. [`io::ErrorKind::NotConnected`] if the other
    /// end has been closed permanently. Any other error means that the device is unusable.
    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta>;

    /// Sends one packet on `queue`.
    ///
    /// No packet is longer than [`Capabilities::mtu`], or is divided by [`TxPacket::gso`] into any that
    /// is. A packet that the device accepted may still be lost.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the queue is full: nothing was sent, and the device becomes
    /// writable later. [`PacketLost`] if this one packet is lost; the error numbers `EMSGSIZE`, `ENOBUFS`,
    /// `ENOMEM`, `EPERM`, `EINVAL`, `EIO` and `ENETDOWN`, which an operating system has for that, mean the
    /// same. Any other error means that the device is unusable.
    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()>;

    /// Wakes the receiver of what was transmitted on `queue`. It is called after one or more
    /// transmissions, while no lock is held.
    fn flush(&self, queue: usize) {
        let _ = queue;
    }

    /// How to wait until `queue` is readable or writable.
    fn readiness(&self, queue: usize) -> Readiness<'_>;

    /// The time at which [`Device::on_deadline`] must be called, if any: when a delayed packet can
    /// be received or forwarded.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether packets that were transmitted are still in the device and get out of it by calls of
    /// [`Device::on_deadline`] only. A stack that ends waits for them. Default: no.
    fn is_transmitting(&self) -> bool {
        false
    }

    /// Processes what is due at `now`. It may be called early or late, and is called while no lock
    /// is held.
    fn on_deadline(&self, now: Instant) {
        let _ = now;
    }
}
