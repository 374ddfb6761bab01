//! A device whose wire ends in the program: packets come out of a stream and go into a sink.

use super::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use crate::buffer::{BUFFER_SIZE, PacketBuf};
use crate::sync::{Mutex, Rank};
use crate::time::Instant;
use crate::wire::{ChecksumOffload, Gso};
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The settings of a [`Channel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    /// MTU in bytes. Default 1,500.
    pub mtu: usize,
    /// Maximum number of packets that wait in each direction. When it is reached, the stack or the program
    /// has to wait; no packet is dropped. Default 256.
    pub queue: usize,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self { mtu: 1500, queue: 256 }
    }
}

/// A device that exchanges IP packets with the program around the stack: a WireGuard tunnel, a virtual
/// machine, a protocol of one's own. The program has the other end, a [`ChannelEnd`].
///
/// [`Channel::new`] exchanges packets as they are on a wire: complete, and at most the MTU long.
/// [`Channel::with_super_segments`] leaves checksums and segmentation to the program, in both
/// directions, which is faster if what is behind it can do the same.
///
/// # Examples
/// ```
/// use netstack::device::{Channel, ChannelConfig};
/// use netstack::{Interface, Stack};
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (device, mut tunnel) = Channel::new(ChannelConfig { mtu: 1420, ..ChannelConfig::default() });
/// let interface = Interface::new(Arc::new(device)).address("10.0.0.2/24").gateway("10.0.0.1");
/// let stack = Stack::builder().interface(interface).build()?;
/// tokio::spawn(async move { stack.connect("192.0.2.1:443").await });
/// let syn = tunnel.recv().await.expect("the stack lives");
/// assert_eq!((syn[0] >> 4, syn[9]), (4, 6), "an IPv4 packet with TCP in it");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Channel {
    shared: Arc<Shared>,
}

/// The end of a [`Channel`] that the program has: with the feature `net`, a `Stream` of the packets that
/// the stack sends, and a `Sink` for those that it is to receive. `P` is [`Bytes`], or [`SuperSegment`] for a
/// channel with super-segments.
///
/// When it is dropped, the device fails with [`io::ErrorKind::NotConnected`] once the packets in transit
/// were received.
#[derive(Debug)]
pub struct ChannelEnd<P> {
    shared: Arc<Shared>,
    packets: PhantomData<fn(P) -> P>,
}

/// A packet that may be longer than the MTU, and whose checksum may be left to the receiver: what a device
/// with offloads exchanges, such as a virtio network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuperSegment {
    /// The packet. With `gso`, its IP length field covers all of it.
    pub bytes: Bytes,
    /// Set if the transport checksum is not complete: the field holds the sum of the pseudo-header.
    pub checksum: Option<ChecksumOffload>,
    /// Set if the packet is to be divided into segments. Then `checksum` is set too.
    pub gso: Option<Gso>,
    /// `SO_MARK` and `SO_PRIORITY` of the socket that sent it ([`TxPacket::mark`](super::TxPacket::mark)); of no meaning
    /// for a packet that the stack is to receive.
    pub mark: u32,
    /// See [`SuperSegment::mark`].
    pub priority: u32,
}

impl From<Bytes> for SuperSegment {
    /// A packet that is complete.
    fn from(bytes: Bytes) -> Self {
        Self { bytes, checksum: None, gso: None, mark: 0, priority: 0 }
    }
}

impl From<SuperSegment> for Bytes {
    fn from(packet: SuperSegment) -> Self {
        packet.bytes
    }
}

#[derive(Debug)]
struct Shared {
    config: ChannelConfig,
    offloads: bool,
    /// What the stack has sent.
    outbound: Queue,
    /// What it is to receive.
    inbound: Queue,
    /// For the stack: readable and writable.
    stack: Signal,
    /// For the program.
    program: Signal,
}

#[derive(Debug)]
struct Queue {
    limit: usize,
    state: Mutex<QueueState>,
}

#[derive(Debug)]
struct QueueState {
    packets: VecDeque<SuperSegment>,
    /// The sender found it full, and waits.
    refused: bool,
    closed: bool,
}

impl Queue {
    fn new(limit: usize) -> Self {
        let state = QueueState { packets: VecDeque::new(), refused: false, closed: false };
        Self { limit: limit.max(1), state: Mutex::new(Rank::InnerDevice, state) }
    }

    /// Whether a packet fits. If none does, the sender is told later.
    fn check(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        state.refused = state.packets.len() >= self.limit;
        if state.refused { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    fn push(&self, packet: SuperSegment) {
        self.state.lock().packets.push_back(packet);
    }

    /// The first packet, and whether the sender has to be woken.
    fn pop(&self) -> io::Result<(SuperSegment, bool)> {
        let mut state = self.state.lock();
        let Some(packet) = state.packets.pop_front() else {
            let kind = if state.closed { io::ErrorKind::NotConnected } else { io::ErrorKind::WouldBlock };
            return Err(kind.into());
        };
        // Woken when the queue is half empty, and not for each packet.
        let raise = state.refused && state.packets.len() <= self.limit / 2;
        state.refused &= !raise;
        Ok((packet, raise))
    }

    fn close(&self) {
        self.state.lock().closed = true;
    }
}

impl Channel {
    /// A device and the program's end of it, for packets as they are on a wire.
    pub fn new(config: ChannelConfig) -> (Self, ChannelEnd<Bytes>) {
        Self::create(config, false)
    }

    /// A device and the program's end of it, which also exchange packets that are longer than the MTU or have
    /// no checksum yet.
    pub fn with_super_segments(config: ChannelConfig) -> (Self, ChannelEnd<SuperSegment>) {
        Self::create(config, true)
    }

    fn create<P>(config: ChannelConfig, offloads: bool) -> (Self, ChannelEnd<P>) {
        let shared = Arc::new(Shared {
            config,
            offloads,
            outbound: Queue::new(config.queue),
            inbound: Queue::new(config.queue),
            stack: Signal::new(),
            program: Signal::new(),
        });
        let end = ChannelEnd { shared: Arc::clone(&shared), packets: PhantomData };
        (Self { shared }, end)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let Shared { outbound, inbound, program, .. } = &*self.shared;
        [outbound, inbound].into_iter().for_each(Queue::close);
        program.raise_readable();
        program.raise_writable();
    }
}

impl<P> Drop for ChannelEnd<P> {
    fn drop(&mut self) {
        let Shared { outbound, inbound, stack, .. } = &*self.shared;
        [outbound, inbound].into_iter().for_each(Queue::close);
        stack.raise_readable();
        stack.raise_writable();
    }
}

impl Device for Channel {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: self.shared.config.mtu,
            queues: 1,
            checksum_offload: self.shared.offloads,
            segmentation_offload: self.shared.offloads,
            // What the program knows to divide is TCP.
            udp_segmentation_offload: false,
            point_to_point: true,
        }
    }

    fn receive(&self, _now: Instant, _queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        let (packet, raise) = self.shared.inbound.pop()?;
        if raise {
            self.shared.program.raise_writable();
        }
        let SuperSegment { bytes, checksum, gso, mark: _, priority: _ } = packet;
        buf.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
        Ok(RxMeta {
            len: bytes.len(),
            checksum_verified: checksum.is_some(),
            gso_size: gso.map(|gso| gso.size),
        })
    }

    fn transmit(&self, _now: Instant, _queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        self.shared.outbound.check()?;
        let mut bytes = Vec::with_capacity(packet.len());
        packet.pieces().for_each(|piece| bytes.extend_from_slice(piece));
        let TxPacket { checksum, gso, mark, priority, .. } = *packet;
        self.shared.outbound.push(SuperSegment { bytes: bytes.into(), checksum, gso, mark, priority });
        Ok(())
    }

    fn flush(&self, _queue: usize) {
        self.shared.program.raise_readable();
    }

    fn readiness(&self, _queue: usize) -> Readiness<'_> {
        Readiness::Signal(&self.shared.stack)
    }
}

impl<P: From<SuperSegment> + Into<SuperSegment>> ChannelEnd<P> {
    /// Waits for the next packet that the stack sends. None once the device was dropped, after the packets
    /// in transit.
    ///
    /// # Cancel safety
    /// Cancel safe: no packet is lost if the future is dropped.
    pub async fn recv(&mut self) -> Option<P> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The poll form of [`ChannelEnd::recv`]. Only the task of the latest call is woken.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<P>> {
        loop {
            match self.try_recv() {
                Ok(packet) => return Poll::Ready(Some(packet)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.shared.program.poll_readable(cx));
                }
                Err(_) => return Poll::Ready(None),
            }
        }
    }

    /// Takes the next packet that the stack has sent.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none, [`io::ErrorKind::NotConnected`] if the device was
    /// dropped.
    pub fn try_recv(&mut self) -> io::Result<P> {
        let (packet, raise) = self.shared.outbound.pop()?;
        if raise {
            self.shared.stack.raise_writable();
        }
        Ok(packet.into())
    }

    /// Gives the stack a packet, and waits for room if there is none.
    ///
    /// # Errors
    /// As [`ChannelEnd::try_send`], but for `WouldBlock`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the packet was not given to the stack.
    pub async fn send(&mut self, packet: P) -> io::Result<()> {
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.put(packet.into())?;
        self.wake_stack();
        Ok(())
    }

    /// Gives the stack a packet, if there is room.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none, [`io::ErrorKind::NotConnected`] if the device was
    /// dropped, [`io::ErrorKind::InvalidInput`] for an empty packet or one of more than 65,535 bytes.
    pub fn try_send(&mut self, packet: P) -> io::Result<()> {
        self.shared.inbound.check()?;
        self.put(packet.into())?;
        self.wake_stack();
        Ok(())
    }

    /// Waits until the stack takes a packet.
    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.shared.inbound.check() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.shared.program.poll_writable(cx));
                }
                result => return Poll::Ready(result),
            }
        }
    }

    fn put(&self, packet: SuperSegment) -> io::Result<()> {
        if packet.bytes.is_empty() || packet.bytes.len() > BUFFER_SIZE.min(usize::from(u16::MAX)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a packet has 1 to 65535 bytes"));
        }
        self.shared.inbound.push(packet);
        Ok(())
    }

    fn wake_stack(&self) {
        self.shared.stack.raise_readable();
    }
}

#[cfg(feature = "net")]
mod futures {
    use super::{ChannelEnd, SuperSegment};
    use futures_core::Stream;
    use futures_sink::Sink;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    impl<P: From<SuperSegment> + Into<SuperSegment>> Stream for ChannelEnd<P> {
        type Item = P;

        fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<P>> {
            self.get_mut().poll_recv(cx)
        }
    }

    /// What was sent reaches the stack with the next flush.
    impl<P: From<SuperSegment> + Into<SuperSegment>> Sink<P> for ChannelEnd<P> {
        type Error = io::Error;

        fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_room(cx)
        }

        fn start_send(self: Pin<&mut Self>, packet: P) -> io::Result<()> {
            self.put(packet.into())
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.wake_stack();
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll_flush(cx)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;
    use std::task::Waker;

    const NOW: Instant = Instant::ZERO;

    fn packet<'a>(header: &'a [u8], payload: &'a [&'a [u8]]) -> TxPacket<'a> {
        TxPacket { header, payload, ..TxPacket::default() }
    }

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn packets_go_out_and_in_whole() {
        let (device, mut end) = Channel::new(ChannelConfig::default());
        assert!(end.poll_recv(&mut cx()).is_pending());
        device.transmit(NOW, 0, &packet(b"head", &[b"er", b"s"])).unwrap();
        device.flush(0);
        assert_eq!(end.poll_recv(&mut cx()), Poll::Ready(Some(Bytes::from_static(b"headers"))));
        assert_eq!(end.try_recv().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        end.try_send(Bytes::from_static(b"answer")).unwrap();
        let mut buf = Pool::new().take();
        let meta = device.receive(NOW, 0, &mut buf).unwrap();
        assert_eq!((meta, &buf.bytes()[..6]), (RxMeta { len: 6, ..RxMeta::default() }, &b"answer"[..]));
        assert_eq!(device.receive(NOW, 0, &mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for size in [0, 65_536] {
            let refused = end.try_send(Bytes::from(vec![0; size])).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn both_directions_are_bounded_and_say_when_there_is_room() {
        let (device, mut end) = Channel::new(ChannelConfig { queue: 4, ..ChannelConfig::default() });
        let Readiness::Signal(stack) = device.readiness(0) else { unreachable!("it has no descriptor") };
        let full = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::WouldBlock;
        for _ in 0..4 {
            device.transmit(NOW, 0, &packet(b"x", &[])).unwrap();
            end.try_send(Bytes::from_static(b"x")).unwrap();
        }
        assert!(
            full(device.transmit(NOW, 0, &packet(b"x", &[]))) && full(end.try_send(Bytes::from_static(b"x")))
        );
        assert!(stack.poll_writable(&mut cx()).is_pending() && end.poll_room(&mut cx()).is_pending());
        let mut buf = PacketBuf::copy_from(&[0; 10]);
        for half in [false, true] {
            end.try_recv().unwrap();
            device.receive(NOW, 0, &mut buf).unwrap();
            assert_eq!(stack.poll_writable(&mut cx()).is_ready(), half);
        }
        assert!(end.poll_room(&mut cx()).is_ready());
        device.transmit(NOW, 0, &packet(b"x", &[])).unwrap();
    }

    #[test]
    fn super_segments_keep_what_is_left_to_do() {
        let (device, mut end) = Channel::with_super_segments(ChannelConfig::default());
        assert!(device.capabilities().segmentation_offload);
        let (checksum, gso) =
            (Some(ChecksumOffload { start: 20, offset: 16 }), Some(Gso { size: 1448, header_len: 52 }));
        let bytes = vec![7; 60_000];
        let sent = TxPacket { checksum, gso, mark: 7, priority: 6, ..packet(&bytes, &[]) };
        device.transmit(NOW, 0, &sent).unwrap();
        let sent = end.try_recv().unwrap();
        assert_eq!(sent, SuperSegment { bytes: bytes.into(), checksum, gso, mark: 7, priority: 6 });
        end.try_send(sent).unwrap();
        let meta = device.receive(NOW, 0, &mut Pool::new().take()).unwrap();
        assert_eq!(meta, RxMeta { len: 60_000, checksum_verified: true, gso_size: Some(1448) });
    }

    #[test]
    fn when_one_end_is_gone_the_other_drains_and_is_told() {
        let (device, mut end) = Channel::new(ChannelConfig::default());
        device.transmit(NOW, 0, &packet(b"last", &[])).unwrap();
        assert!(end.poll_room(&mut cx()).is_ready());
        drop(device);
        assert_eq!(end.poll_recv(&mut cx()), Poll::Ready(Some(Bytes::from_static(b"last"))));
        assert_eq!(end.poll_recv(&mut cx()), Poll::Ready(None));
        assert_eq!(end.try_send(Bytes::from_static(b"x")).unwrap_err().kind(), io::ErrorKind::NotConnected);
        let (device, mut end) = Channel::new(ChannelConfig::default());
        end.try_send(Bytes::from_static(b"last")).unwrap();
        drop(end);
        let mut buf = Pool::new().take();
        assert_eq!(device.receive(NOW, 0, &mut buf).unwrap().len, 4);
        assert_eq!(device.receive(NOW, 0, &mut buf).unwrap_err().kind(), io::ErrorKind::NotConnected);
    }
}
