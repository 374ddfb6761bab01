//! The devices of the tour: one that records packets, and one that can be unplugged.

use super::Side;
use super::recording::{Recording, Verdict};
use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, TxPacket};
use netstack::sync::{Mutex, Rank};
use netstack::time::Instant;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where on the path a [`Tap`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At the host: what is transmitted leaves it, what is received reaches it.
    Near(Side),
    /// At the far end, in front of the kernel: what is transmitted reaches it, what is received
    /// leaves it.
    Far(Side),
    /// In front of a loopback: what is transmitted leaves the left, and what is received reaches the
    /// right, which is the same host.
    Loop,
}

/// Records the packets that pass, drops those that the recording declares lost, and lets the
/// experiment add packets.
///
/// It has no offloads, so that it sees packets as they are on a wire: single segments with complete
/// checksums.
pub(super) struct Tap {
    inner: Arc<dyn Device>,
    place: Place,
    recording: Arc<Recording>,
    /// Whether packets are captured here.
    captured: bool,
    added: Mutex<VecDeque<Vec<u8>>>,
}

impl Tap {
    pub(super) fn new(
        inner: Arc<dyn Device>,
        place: Place,
        recording: &Arc<Recording>,
        captured: bool,
    ) -> Self {
        let added = Mutex::new(Rank::Device, VecDeque::new());
        Self { inner, place, recording: Arc::clone(recording), captured, added }
    }

    /// Makes a packet arrive at the stack above, as if the other side had sent it.
    pub(super) fn add(&self, packet: Vec<u8>) {
        self.added.lock().push_back(packet);
        match self.inner.readiness(0) {
            Readiness::Signal(signal) => signal.raise_readable(),
            // A reactor that waits for a file descriptor cannot be woken. The tour adds packets
            // only to in-memory devices.
            Readiness::Fd(_) => {}
        }
    }

    /// Passes a packet to the device below, as if the stack above had sent it.
    pub(super) fn emit(&self, packet: &[u8]) -> io::Result<()> {
        let whole = TxPacket { header: packet, ..TxPacket::default() };
        self.transmit(Instant::ZERO, 0, &whole)?;
        self.inner.flush(0);
        Ok(())
    }

    fn departs(&self, packet: &[u8]) -> Option<Verdict> {
        match self.place {
            Place::Near(side) => Some(self.recording.departs(side, packet, self.captured)),
            Place::Loop => Some(self.recording.departs(Side::Left, packet, self.captured)),
            Place::Far(_) => None,
        }
    }
}

impl Device for Tap {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            checksum_offload: false,
            segmentation_offload: false,
            udp_segmentation_offload: false,
            queues: 1,
            ..self.inner.capabilities()
        }
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        loop {
            let added = self.added.lock().pop_front();
            let meta = match added {
                Some(packet) => {
                    buf.bytes_mut()[..packet.len()].copy_from_slice(&packet);
                    RxMeta { len: packet.len(), ..RxMeta::default() }
                }
                None => self.inner.receive(now, queue, buf)?,
            };
            let packet = &buf.bytes()[..meta.len];
            match self.place {
                Place::Near(side) => self.recording.arrives(side, packet, self.captured),
                Place::Loop => self.recording.arrives(Side::Right, packet, self.captured),
                Place::Far(side) => {
                    if self.recording.departs(side, packet, self.captured) == Verdict::Lost {
                        continue;
                    }
                }
            }
            return Ok(meta);
        }
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        let mut bytes = vec![0; packet.len()];
        packet.copy_to(&mut bytes);
        let verdict = self.departs(&bytes);
        if verdict == Some(Verdict::Lost) {
            return Ok(());
        }
        let result = self.inner.transmit(now, queue, packet);
        match (self.place, verdict) {
            (Place::Far(side), _) if result.is_ok() => self.recording.arrives(side, &bytes, self.captured),
            (_, Some(Verdict::Passes(number))) if result.is_err() => self.recording.undo(number),
            _ => {}
        }
        result
    }

    fn flush(&self, queue: usize) {
        self.inner.flush(queue);
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        self.inner.readiness(queue)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.inner.next_deadline()
    }

    fn is_transmitting(&self) -> bool {
        self.inner.is_transmitting()
    }

    fn on_deadline(&self, now: Instant) {
        self.inner.on_deadline(now);
    }
}

/// The end of the cable in one host. A host without power is unplugged for ever; after booting, it
/// has a new plug.
///
/// When the scene is cut, every plug is pulled.
pub(super) struct Plug {
    inner: Arc<dyn Device>,
    recording: Arc<Recording>,
    plugged: AtomicBool,
}

impl Plug {
    pub(super) fn new(inner: Arc<dyn Device>, recording: &Arc<Recording>) -> Self {
        Self { inner, recording: Arc::clone(recording), plugged: AtomicBool::new(true) }
    }

    /// From now on no packet is received or sent.
    pub(super) fn pull(&self) {
        self.plugged.store(false, Ordering::Relaxed);
    }

    fn is_plugged(&self) -> bool {
        self.plugged.load(Ordering::Relaxed) && !self.recording.is_cut()
    }
}

impl Device for Plug {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        if self.is_plugged() {
            self.inner.receive(now, queue, buf)
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        if self.is_plugged() { self.inner.transmit(now, queue, packet) } else { Ok(()) }
    }

    fn flush(&self, queue: usize) {
        if self.is_plugged() {
            self.inner.flush(queue);
        }
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        self.inner.readiness(queue)
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.is_plugged() { self.inner.next_deadline() } else { None }
    }

    fn is_transmitting(&self) -> bool {
        self.is_plugged() && self.inner.is_transmitting()
    }

    fn on_deadline(&self, now: Instant) {
        if self.is_plugged() {
            self.inner.on_deadline(now);
        }
    }
}
