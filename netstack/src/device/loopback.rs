//! The loopback device.

use super::queue::PacketQueue;
use super::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use crate::buffer::PacketBuf;
use crate::time::Instant;
use std::io;

/// Packets that the device holds before the sender has to wait.
const QUEUE: usize = 256;

/// A device that returns every packet to the stack that sent it, unchanged and with its metadata:
/// super-segments are not divided, and no checksum is computed.
#[derive(Debug)]
pub struct Loopback {
    mtu: usize,
    queue: PacketQueue,
    signal: Signal,
}

impl Loopback {
    /// A loopback with this MTU in bytes. Linux uses 65,536.
    pub fn new(mtu: usize) -> Self {
        Self { mtu, queue: PacketQueue::new(QUEUE), signal: Signal::inline() }
    }
}

impl Device for Loopback {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: self.mtu,
            queues: 1,
            checksum_offload: true,
            segmentation_offload: true,
            udp_segmentation_offload: true,
            point_to_point: true,
        }
    }

    fn receive(&self, _now: Instant, _queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        let popped = self.queue.pop(buf)?;
        if popped.raise_writable {
            self.signal.raise_writable();
        }
        Ok(popped.meta)
    }

    fn transmit(&self, _now: Instant, _queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        self.queue.push(packet)
    }

    fn flush(&self, _queue: usize) {
        self.signal.raise_readable();
    }

    fn readiness(&self, _queue: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }
}
