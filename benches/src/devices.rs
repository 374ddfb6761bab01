//! Devices that cost next to nothing, for what is measured without a system.

use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Pair, Readiness, RxMeta, Signal, TxPacket};
use netstack::time::Instant;
use std::hint::black_box;
use std::io;

/// As a TUN device with all offloads.
pub(crate) const LIKE_TUN: Capabilities = Capabilities {
    mtu: 1500,
    queues: 1,
    checksum_offload: true,
    segmentation_offload: true,
    udp_segmentation_offload: true,
    point_to_point: true,
};

/// A device that takes each packet and forgets it.
#[derive(Debug, Default)]
pub struct Sink {
    signal: Signal,
}

impl Device for Sink {
    fn capabilities(&self) -> Capabilities {
        LIKE_TUN
    }

    fn receive(&self, _: Instant, _: usize, _: &mut PacketBuf) -> io::Result<RxMeta> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn transmit(&self, _: Instant, _: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        black_box(packet);
        Ok(())
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }
}

/// One end of a [`Pair`] that can pass incomplete checksums without super-segments. The pair itself has both or
/// neither.
pub(crate) struct Cable {
    pub(crate) end: Pair,
    pub(crate) segmentation: bool,
}

impl Device for Cable {
    fn capabilities(&self) -> Capabilities {
        let capabilities = self.end.capabilities();
        let segmentation_offload = capabilities.segmentation_offload && self.segmentation;
        Capabilities { segmentation_offload, ..capabilities }
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        self.end.receive(now, queue, buf)
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        self.end.transmit(now, queue, packet)
    }

    fn flush(&self, queue: usize) {
        self.end.flush(queue);
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        self.end.readiness(queue)
    }
}
