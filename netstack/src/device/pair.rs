//! Two devices connected by a perfect in-memory cable.

use super::queue::PacketQueue;
use super::{Capabilities, Device, Readiness, RxMeta, Signal, TxPacket};
use crate::buffer::PacketBuf;
use crate::time::Instant;
use std::io;
use std::sync::Arc;

/// The settings of a [`Pair`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairConfig {
    /// MTU in bytes. Default 1,500.
    pub mtu: usize,
    /// Maximum number of packets in transit in each direction. When it is reached, the sender has
    /// to wait; no packet is dropped. Default 256.
    pub queue: usize,
    /// Whether super-segments and incomplete checksums are passed on unchanged. Default true.
    pub offloads: bool,
}

impl Default for PairConfig {
    fn default() -> Self {
        Self { mtu: 1500, queue: 256, offloads: true }
    }
}

/// One of two devices that receive each other's packets. When one is dropped, the other receives
/// the packets in transit and then the error [`io::ErrorKind::NotConnected`].
#[derive(Debug)]
pub struct Pair {
    shared: Arc<Shared>,
    side: usize,
}

#[derive(Debug)]
struct Shared {
    config: PairConfig,
    /// By the side that receives from it.
    inbox: [PacketQueue; 2],
    /// By the side that waits for it.
    signal: [Signal; 2],
}

impl Pair {
    /// Creates both ends.
    pub fn new(config: PairConfig) -> (Self, Self) {
        let inbox = [PacketQueue::new(config.queue), PacketQueue::new(config.queue)];
        let shared = Arc::new(Shared { config, inbox, signal: [Signal::inline(), Signal::inline()] });
        (Self { shared: Arc::clone(&shared), side: 0 }, Self { shared, side: 1 })
    }

    fn peer(&self) -> usize {
        1 - self.side
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.shared.inbox.iter().for_each(PacketQueue::close);
        let peer = &self.shared.signal[self.peer()];
        peer.raise_readable();
        peer.raise_writable();
    }
}

impl Device for Pair {
    fn capabilities(&self) -> Capabilities {
        let PairConfig { mtu, queue: _, offloads } = self.shared.config;
        Capabilities {
            mtu,
            queues: 1,
            checksum_offload: offloads,
            segmentation_offload: offloads,
            udp_segmentation_offload: offloads,
            point_to_point: true,
        }
    }

    /// Wakes the other end's sender if there is room again. No lock is held here, neither ours nor
    /// the caller's.
    fn receive(&self, _now: Instant, _queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        let popped = self.shared.inbox[self.side].pop(buf)?;
        if popped.raise_writable {
            self.shared.signal[self.peer()].raise_writable();
        }
        Ok(popped.meta)
    }

    fn transmit(&self, _now: Instant, _queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        self.shared.inbox[self.peer()].push(packet)
    }

    fn flush(&self, _queue: usize) {
        self.shared.signal[self.peer()].raise_readable();
    }

    fn readiness(&self, _queue: usize) -> Readiness<'_> {
        Readiness::Signal(&self.shared.signal[self.side])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{BUFFER_SIZE, Pool};
    use crate::device::Loopback;
    use crate::wire::{ChecksumOffload, Gso};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn packet<'a>(header: &'a [u8], payload: &'a [&'a [u8]]) -> TxPacket<'a> {
        TxPacket { header, payload, ..TxPacket::default() }
    }

    fn signal(device: &dyn Device) -> &Signal {
        match device.readiness(0) {
            Readiness::Signal(signal) => signal,
            #[cfg(unix)]
            Readiness::Fd(_) => unreachable!(),
        }
    }

    const NOW: Instant = Instant::ZERO;

    #[test]
    fn packets_cross_with_their_metadata() {
        let (a, b) = Pair::new(PairConfig::default());
        a.transmit(NOW, 0, &packet(b"head", &[b"er", b"s"])).unwrap();
        let big = vec![7; 60_000];
        let sized = TxPacket {
            checksum: Some(ChecksumOffload { start: 20, offset: 16 }),
            gso: Some(Gso { size: 1448, header_len: 52 }),
            ..packet(&big, &[])
        };
        a.transmit(NOW, 0, &sized).unwrap();
        let pool = Pool::new();
        let mut buf = pool.take();
        let meta = b.receive(NOW, 0, &mut buf).unwrap();
        assert_eq!(meta, RxMeta { len: 7, checksum_verified: false, gso_size: None });
        assert_eq!(&buf.bytes()[..7], b"headers");
        assert_eq!(buf.capacity(), BUFFER_SIZE, "a small packet leaves the receiver its buffer");
        let meta = b.receive(NOW, 0, &mut buf).unwrap();
        assert_eq!(meta, RxMeta { len: 60_000, checksum_verified: true, gso_size: Some(1448) });
        assert_eq!(buf.bytes()[..60_000], big);
        assert_eq!(b.receive(NOW, 0, &mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(a.receive(NOW, 0, &mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_flush_wakes_the_other_end_and_a_transmission_does_not() {
        let (a, b) = Pair::new(PairConfig::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        assert!(signal(&b).poll_readable(&mut Context::from_waker(&waker)).is_pending());
        a.transmit(NOW, 0, &packet(b"x", &[])).unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        a.flush(0);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_queue_refuses_and_a_drained_one_says_so() {
        let (a, b) = Pair::new(PairConfig { queue: 4, ..PairConfig::default() });
        for _ in 0..4 {
            a.transmit(NOW, 0, &packet(b"x", &[])).unwrap();
        }
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        assert!(signal(&a).poll_writable(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(a.transmit(NOW, 0, &packet(b"x", &[])).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut buf = PacketBuf::copy_from(&[0; 10]);
        b.receive(NOW, 0, &mut buf).unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "not for every packet");
        b.receive(NOW, 0, &mut buf).unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "half empty");
        a.transmit(NOW, 0, &packet(b"x", &[])).unwrap();
    }

    #[test]
    fn when_one_end_is_gone_the_other_drains_and_is_told() {
        let (a, b) = Pair::new(PairConfig::default());
        a.transmit(NOW, 0, &packet(b"last", &[])).unwrap();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        assert!(signal(&b).poll_readable(&mut Context::from_waker(&waker)).is_pending());
        drop(a);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        let mut buf = Pool::new().take();
        assert_eq!(b.receive(NOW, 0, &mut buf).unwrap().len, 4);
        assert_eq!(b.receive(NOW, 0, &mut buf).unwrap_err().kind(), io::ErrorKind::NotConnected);
        let refused = b.transmit(NOW, 0, &packet(b"x", &[])).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotConnected);
    }

    #[test]
    fn loopback_gives_back_and_pushes_back() {
        let device = Loopback::new(65_536);
        let sent = (0..10_000).take_while(|_| device.transmit(NOW, 0, &packet(b"x", &[])).is_ok()).count();
        device.flush(0);
        let waker = Waker::from(Arc::new(Count::default()));
        let mut cx = Context::from_waker(&waker);
        assert!(signal(&device).poll_readable(&mut cx).is_ready());
        assert!(signal(&device).poll_writable(&mut cx).is_pending());
        let mut buf = Pool::new().take();
        let received = (0..).take_while(|_| device.receive(NOW, 0, &mut buf).is_ok()).count();
        assert_eq!((sent, received), (256, 256));
        assert!(signal(&device).poll_writable(&mut cx).is_ready());
    }
}
