//! Where packets arrive: the ends of paths.

use crate::buffer::PacketBuf;
use crate::device::{Capabilities, Device, PacketLost, Readiness, RxMeta, Signal, TxPacket};
use crate::sync::{Mutex, Rank};
use crate::time::Instant;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// That of an Ethernet.
const MTU: usize = 1500;

/// Packets that wait for a host at most, as in the queue of a switch.
const WAITING: usize = 4096;

/// Packets as they are on the wire: the hosts do not leave their division to the device.
pub(super) const CAPABILITIES: Capabilities = Capabilities {
    mtu: MTU,
    queues: 1,
    checksum_offload: false,
    segmentation_offload: false,
    udp_segmentation_offload: false,
    point_to_point: true,
};

/// What has arrived at a host.
#[derive(Debug)]
pub(super) struct Inbox {
    packets: Mutex<VecDeque<Vec<u8>>>,
    pub(super) signal: Signal,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { packets: Mutex::new(Rank::InnerDevice, VecDeque::new()), signal: Signal::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.lock().is_empty()
    }

    pub(super) fn clear(&self) {
        self.packets.lock().clear();
    }

    pub(super) fn pop(&self, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        let packet = self.packets.lock().pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        buf.bytes_mut()[..packet.len()].copy_from_slice(&packet);
        Ok(RxMeta { len: packet.len(), ..RxMeta::default() })
    }
}

/// The end of a path: where what has crossed it goes to.
#[derive(Debug)]
pub(super) struct Sink {
    /// Of the host at this end, while it is on.
    pub(super) inbox: Mutex<Option<Arc<Inbox>>>,
    signal: Signal,
    takes_all: bool,
}

impl Sink {
    pub(super) fn new(inbox: Option<Arc<Inbox>>) -> Self {
        Self { inbox: Mutex::new(Rank::InnerDevice, inbox), signal: Signal::new(), takes_all: false }
    }

    /// For a capture alone: it takes everything and keeps nothing.
    pub(super) fn capturing() -> Self {
        Self { takes_all: true, ..Self::new(None) }
    }
}

impl Device for Sink {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn receive(&self, _now: Instant, _queue: usize, _buf: &mut PacketBuf) -> io::Result<RxMeta> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn transmit(&self, _now: Instant, _queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        if self.takes_all {
            return Ok(());
        }
        let inbox = self.inbox.lock().clone();
        // What is for a host that is off is lost.
        let inbox = inbox.ok_or(PacketLost)?;
        let mut packets = inbox.packets.lock();
        if packets.len() >= WAITING {
            return Err(PacketLost.into());
        }
        let mut bytes = vec![0; packet.len()];
        packet.copy_to(&mut bytes);
        packets.push_back(bytes);
        Ok(())
    }

    fn flush(&self, _queue: usize) {}

    fn readiness(&self, _queue: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }
}
