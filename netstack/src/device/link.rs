//! A network emulator in front of a device.
//!
//! A [`Link`] processes packets as they are on the wire: a super-segment is divided into packets
//! with complete checksums first, so that each packet is lost, delayed and counted separately. Each
//! direction has a seeded random generator, and the time is an argument, so that the same packets
//! at the same times give the same result.
//!
//! How exactly a delay is kept depends on the driver, and is documented at [`Link`].
//!
//! A direction without impairments passes all packets unchanged, including super-segments.
//!
//! Like a network, and unlike its inner device, a link never makes the sender wait. Packets that do
//! not fit are dropped.

mod config;
mod direction;

pub use config::{LinkConfig, ParseLinkError};
pub use direction::LinkStats;

use super::queue::{hand_over, store};
use super::{Capabilities, Device, Pair, PairConfig, Readiness, RxMeta, TxPacket};
use crate::buffer::{PacketBuf, Pool};
use crate::sync::{Mutex, Rank};
use crate::time::{Duration, Instant};
use crate::wire::{checksum, complete_checksum, split_super_segment};
use direction::{Direction, Packet};
use std::fmt;
use std::io;
use std::sync::Arc;

/// Packets that one call of `receive` takes from the inner device while none has arrived: bounds
/// the work, at 10 Gbit/s to about a millisecond's packets.
const RECEIVE_BATCH: usize = 1024;

/// When to try again after the inner device asked to wait. It notifies its reactor, and not the
/// link, when there is room.
const RETRY: Duration = Duration::from_millis(1);

/// A device that adds impairments to another device.
///
/// # Precision
/// A link computes the arrival of a packet to the nanosecond; the packet arrives when the driver calls it
/// then.
/// - The driver of a stack calls it within 100 µs of that time on an idle machine, and usually after some
///   tens of microseconds, which the operating system takes to wake up a thread. A packet never arrives early.
/// - If the time of the runtime is paused (`tokio::time::pause`), tokio rounds each wait up to whole
///   milliseconds of virtual time: then a delay of 100 µs takes a millisecond, and delays of whole
///   milliseconds are exact. The same holds if time was paused when the stack was built.
/// - A simulation that calls the link itself at each deadline, as the crate's own tests do, has exact times.
///
/// Whatever the driver, a capture ([`PcapTap`](super::PcapTap)) and `TcpInfo` show the times at which packets
/// were really sent and received on the clock of the stack.
///
/// # Drivers
/// The driver must call [`Device::on_deadline`] at [`Device::next_deadline`], and then
/// [`Device::receive`]; otherwise packets in transit do not arrive. Transmissions set deadlines, so
/// the driver checks `next_deadline` again after [`Device::flush`]. If the driver waits for a
/// [`Signal`](super::Signal), the link raises it when the deadline becomes earlier.
pub struct Link {
    inner: Arc<dyn Device>,
    pool: Arc<Pool>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ingress: Direction,
    egress: Direction,
    /// The latest time that a caller has passed.
    now: Instant,
    /// A thread is moving packets to the inner device. A second one would reorder them.
    forwarding: bool,
    /// When to come back although nothing is due by then: the inner device asked to wait, or has
    /// more packets than one call takes.
    retry: Option<Instant>,
    /// What `next_deadline` said last.
    reported: Option<Instant>,
    /// The inner device's other end is gone.
    disconnected: bool,
}

impl Link {
    /// A link in front of `inner`: `ingress` applies to packets received from it, and `egress` to
    /// packets sent to it.
    pub fn new(inner: Arc<dyn Device>, ingress: LinkConfig, egress: LinkConfig) -> Self {
        Self::with_streams(inner, ingress, egress, [0, 1])
    }

    fn with_streams(
        inner: Arc<dyn Device>,
        ingress: LinkConfig,
        egress: LinkConfig,
        streams: [u64; 2],
    ) -> Self {
        let queues = inner.capabilities().queues;
        let state = State {
            ingress: Direction::new(ingress, streams[0], queues),
            egress: Direction::new(egress, streams[1], queues),
            now: Instant::ZERO,
            forwarding: false,
            retry: None,
            reported: None,
            disconnected: false,
        };
        Self { inner, pool: Pool::new(), state: Mutex::new(Rank::Device, state) }
    }

    /// Two devices connected by an impaired cable with an MTU of 1,500 bytes.
    pub fn pair(a_to_b: LinkConfig, b_to_a: LinkConfig) -> (Self, Self) {
        Self::pair_over(PairConfig::default(), a_to_b, b_to_a)
    }

    /// Two devices connected by an impaired cable, which is a [`Pair`]. Each end impairs the
    /// packets that it sends.
    pub fn pair_over(cable: PairConfig, a_to_b: LinkConfig, b_to_a: LinkConfig) -> (Self, Self) {
        let (a, b) = Pair::new(cable);
        // With the same seed the two directions still differ.
        let a = Self::with_streams(Arc::new(a), LinkConfig::default(), a_to_b, [2, 0]);
        let b = Self::with_streams(Arc::new(b), LinkConfig::default(), b_to_a, [3, 1]);
        (a, b)
    }

    /// Changes the impairments of packets that are received from now on.
    pub fn set_ingress(&self, config: LinkConfig) {
        self.state.lock().ingress.set_config(config);
    }

    /// Changes the impairments of packets that are sent from now on.
    pub fn set_egress(&self, config: LinkConfig) {
        self.state.lock().egress.set_config(config);
    }

    /// Starts or ends an outage in both directions. Packets in transit still arrive.
    pub fn set_down(&self, down: bool) {
        let mut state = self.state.lock();
        state.ingress.config.down = down;
        state.egress.config.down = down;
    }

    /// Statistics of received packets.
    pub fn ingress_stats(&self) -> LinkStats {
        self.state.lock().ingress.stats
    }

    /// Statistics of sent packets. A direction without impairments does not count `packets`.
    pub fn egress_stats(&self) -> LinkStats {
        self.state.lock().egress.stats
    }

    /// The packets of the wire that `packet` becomes, with complete checksums.
    fn packetise(&self, packet: &TxPacket<'_>, out: &mut Vec<Packet>) {
        let len = packet.len();
        let mut bytes = store(&self.pool, len, packet.pieces());
        if let Some(gso) = packet.gso
            && split_into(&bytes.bytes()[..len], gso.size, out)
        {
            return;
        }
        if let Some(offload) = packet.checksum {
            let transport = &mut bytes.bytes_mut()[usize::from(offload.start)..len];
            let sum = checksum(transport);
            let at = usize::from(offload.offset);
            transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        out.push(Packet { bytes, meta: RxMeta { len, ..RxMeta::default() } });
    }

    /// Takes what the inner device has until a packet has arrived at this side, and gives it.
    fn receive_impaired(&self, now: Instant, queue: usize) -> io::Result<Packet> {
        let mut arrived = Vec::new();
        for _ in 0..RECEIVE_BATCH {
            if let Some(packet) = self.take_ingress(now, queue) {
                return Ok(packet);
            }
            let mut buf = self.pool.take();
            match self.inner.receive(now, queue, &mut buf) {
                Ok(meta) => self.packetise_received(buf, meta, &mut arrived),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    let mut state = self.state.lock();
                    state.disconnected = true;
                    // Packets in transit still arrive.
                    let pending = state.ingress.next_due().is_some();
                    return Err(if pending { io::ErrorKind::WouldBlock.into() } else { error });
                }
                Err(error) => return Err(error),
            }
            let mut state = self.state.lock();
            for packet in arrived.drain(..) {
                state.ingress.enter(now, queue, packet);
            }
        }
        // The inner device's readiness was consumed: without this the driver would not come back.
        self.state.lock().retry = Some(now);
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn take_ingress(&self, now: Instant, queue: usize) -> Option<Packet> {
        let mut state = self.state.lock();
        state.ingress.advance(now);
        state.ingress.take(queue)
    }

    fn packetise_received(&self, mut buf: PacketBuf, meta: RxMeta, out: &mut Vec<Packet>) {
        let bytes = &mut buf.bytes_mut()[..meta.len];
        if let Some(size) = meta.gso_size
            && split_into(bytes, size, out)
        {
            return;
        }
        if meta.checksum_verified {
            // The field may hold no more than the sum of the pseudo-header.
            complete_checksum(bytes);
        }
        // A packet of the wire must not hold on to a buffer for 64 KiB.
        let kept = store(&self.pool, meta.len, std::iter::once(&bytes[..meta.len]));
        out.push(Packet { bytes: kept, meta: RxMeta { gso_size: None, ..meta } });
    }

    /// Moves packets that have crossed the link on to the inner device.
    fn forward(&self, now: Instant) {
        {
            let mut state = self.state.lock();
            state.egress.advance(now);
            if state.forwarding || !state.egress.has_ready() {
                return;
            }
            state.forwarding = true;
        }
        let mut blocked = false;
        for queue in 0..self.inner.capabilities().queues {
            blocked |= self.forward_queue(now, queue);
        }
        let mut state = self.state.lock();
        state.forwarding = false;
        if blocked {
            state.retry = Some(now + RETRY);
        }
    }

    /// Returns whether the inner device asked to wait.
    fn forward_queue(&self, now: Instant, queue: usize) -> bool {
        let (mut moved, mut blocked) = (false, false);
        loop {
            let Some(packet) = self.state.lock().egress.take(queue) else { break };
            let header = &packet.bytes.bytes()[..packet.meta.len];
            let sent = TxPacket { header, ..TxPacket::default() };
            match self.inner.transmit(now, queue, &sent) {
                Ok(()) => moved = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.state.lock().egress.untake(queue, packet);
                    blocked = true;
                    break;
                }
                // `receive` reports that the device is unusable.
                Err(_) => {}
            }
        }
        if moved {
            self.inner.flush(queue);
        }
        blocked
    }

    /// Wakes a reactor that waits for a signal, so that it checks the link again.
    fn nudge(&self) {
        for queue in 0..self.inner.capabilities().queues {
            match self.inner.readiness(queue) {
                Readiness::Signal(signal) => signal.raise_readable(),
                #[cfg(unix)]
                Readiness::Fd(_) => {}
            }
        }
    }
}

impl State {
    fn deadline(&self) -> Option<Instant> {
        [self.ingress.next_due(), self.egress.next_due(), self.retry].into_iter().flatten().min()
    }
}

/// Cuts a super-segment, or returns false if it is none.
fn split_into(bytes: &[u8], size: u16, out: &mut Vec<Packet>) -> bool {
    split_super_segment(bytes, size.into(), &mut |piece| {
        let meta = RxMeta { len: piece.len(), ..RxMeta::default() };
        out.push(Packet { bytes: PacketBuf::copy_from(piece), meta });
    })
}

impl Device for Link {
    /// Those of the inner device, and always offloads: the link needs single packets, and segments
    /// at less cost than the sender.
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            checksum_offload: true,
            segmentation_offload: true,
            udp_segmentation_offload: true,
            ..self.inner.capabilities()
        }
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        {
            let mut state = self.state.lock();
            state.now = state.now.max(now);
            if state.ingress.is_clear() && !state.disconnected {
                drop(state);
                return self.inner.receive(now, queue, buf);
            }
        }
        let packet = self.receive_impaired(now, queue)?;
        hand_over(packet.bytes, packet.meta.len, buf);
        Ok(packet.meta)
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        let inner = self.inner.capabilities();
        let divides = match packet.checksum {
            Some(checksum) if checksum.is_udp() => inner.udp_segmentation_offload,
            _ => inner.segmentation_offload,
        };
        let fits = (packet.gso.is_none() || divides) && (packet.checksum.is_none() || inner.checksum_offload);
        let clear = {
            let mut state = self.state.lock();
            state.now = state.now.max(now);
            if state.disconnected {
                return Err(io::ErrorKind::NotConnected.into());
            }
            state.egress.is_clear() && !state.forwarding
        };
        if clear && fits {
            return self.inner.transmit(now, queue, packet);
        }
        let mut packets = Vec::new();
        self.packetise(packet, &mut packets);
        let mut state = self.state.lock();
        for packet in packets {
            state.egress.enter(now, queue, packet);
        }
        Ok(())
    }

    fn flush(&self, queue: usize) {
        let now = self.state.lock().now;
        self.forward(now);
        self.inner.flush(queue);
        let earlier = {
            let state = self.state.lock();
            match (state.deadline(), state.reported) {
                (Some(deadline), Some(reported)) => deadline < reported,
                (deadline, None) => deadline.is_some(),
                (None, Some(_)) => false,
            }
        };
        if earlier {
            self.nudge();
        }
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        self.inner.readiness(queue)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let inner = self.inner.next_deadline();
        let mut state = self.state.lock();
        let deadline = state.deadline().into_iter().chain(inner).min();
        state.reported = deadline;
        deadline
    }

    fn is_transmitting(&self) -> bool {
        self.state.lock().egress.next_due().is_some() || self.inner.is_transmitting()
    }

    fn on_deadline(&self, now: Instant) {
        self.inner.on_deadline(now);
        let readable = {
            let mut state = self.state.lock();
            state.now = state.now.max(now);
            let retried = state.retry.take_if(|retry| *retry <= now).is_some();
            state.ingress.advance(now);
            state.ingress.has_ready() || retried
        };
        self.forward(now);
        if readable {
            self.nudge();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Link")
            .field("ingress", &state.ingress.config)
            .field("egress", &state.egress.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
