//! A device with a file descriptor: the reactor waits for it through tokio, in both directions.

use crate::common::spawn_waiting;
use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, TxPacket};
use netstack::time::Instant;
use netstack::{Config, Driver, Interface, Stack};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;

/// One end of a pair of datagram sockets, each datagram a packet. Its queue in the kernel is short,
/// so that it is often full.
struct Datagrams(UnixDatagram);

impl Datagrams {
    fn pair() -> (Self, Self) {
        let (a, b) = UnixDatagram::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        (Self(a), Self(b))
    }
}

impl Device for Datagrams {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: 1500,
            queues: 1,
            checksum_offload: false,
            segmentation_offload: false,
            udp_segmentation_offload: false,
            point_to_point: true,
        }
    }

    fn receive(&self, _: Instant, _: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        match self.0.recv(buf.bytes_mut())? {
            0 => Err(ErrorKind::NotConnected.into()),
            len => Ok(RxMeta { len, ..RxMeta::default() }),
        }
    }

    fn transmit(&self, _: Instant, _: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        let mut bytes = [0; 1500];
        let len = packet.copy_to(&mut bytes);
        self.0.send(&bytes[..len]).map(drop)
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Fd(self.0.as_fd())
    }
}

fn stacks(driver: Driver) -> (Stack, Stack) {
    let (left, right) = Datagrams::pair();
    let build = |device, address| {
        let interface = Interface::new(Arc::new(device)).address(address);
        let config = Config::default().with(|config| config.exit_drain = Duration::from_millis(500));
        Stack::builder().driver(driver).config(config).interface(interface).build().unwrap()
    };
    (build(left, "10.0.0.1/24"), build(right, "10.0.0.2/24"))
}

async fn transfer(driver: Driver) {
    let (left, right) = stacks(driver);
    let listener = left.listen("10.0.0.1:80").await.unwrap();
    let (client, server) = tokio::join!(right.connect("10.0.0.1:80"), listener.accept());
    let data: Arc<[u8]> = (0..2_000_000u32).map(|i| (i / 5) as u8).collect();
    let both = [client.unwrap(), server.unwrap().0].map(|stream| {
        let data = Arc::clone(&data);
        tokio::spawn(async move {
            let (mut read, mut write) = stream.into_split();
            let send = Arc::clone(&data);
            let writer = tokio::spawn(async move { write.write_all(&send).await });
            let mut all = Vec::new();
            read.read_to_end(&mut all).await.unwrap();
            writer.await.unwrap().unwrap();
            assert!(all == *data);
        })
    });
    let [one, two] = both;
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, async { (one.await.unwrap(), two.await.unwrap()) }).await.expect("no stall");
}

#[tokio::test]
async fn a_short_queue_carries_everything() {
    transfer(Driver::Tokio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn on_several_workers() {
    transfer(Driver::Tokio).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn on_a_thread() {
    transfer(Driver::Thread).await;
}

/// A device that fails once when it is told to, and is silent after that.
struct FailsOnce {
    inner: Datagrams,
    fails: AtomicBool,
    failed: AtomicBool,
}

impl Device for FailsOnce {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.fails.load(Ordering::Relaxed) {
            self.failed.store(true, Ordering::Relaxed);
            return Err(io::Error::other("the cable is cut"));
        }
        self.inner.receive(now, queue, buf)
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        self.inner.transmit(now, queue, packet)
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        self.inner.readiness(queue)
    }
}

#[tokio::test]
async fn a_failure_that_a_writer_meets_is_not_lost() {
    let (left, right) = Datagrams::pair();
    let (fails, failed) = (AtomicBool::new(false), AtomicBool::new(false));
    let device = Arc::new(FailsOnce { inner: left, fails, failed });
    let interface = Interface::new(Arc::clone(&device) as Arc<dyn Device>).address("10.0.0.1/24");
    let ours = Stack::builder().interface(interface).build().unwrap();
    let theirs =
        Stack::builder().interface(Interface::new(Arc::new(right)).address("10.0.0.2/24")).build().unwrap();
    let listener = theirs.listen("10.0.0.2:80").await.unwrap();
    let (client, server) = tokio::join!(ours.connect("10.0.0.2:80"), listener.accept());
    let (mut client, _server) = (client.unwrap(), server.unwrap());
    client.set_send_buffer_size(1 << 20).unwrap();
    device.fails.store(true, Ordering::Relaxed);
    // Nobody else has a turn meanwhile: the one who receives is the one who writes.
    let mut writes = 0;
    while !device.failed.load(Ordering::Relaxed) {
        let mut write = pin!(client.write_all(&[0; 65_536]));
        let done = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx).is_ready())).await;
        assert!(done && writes < 16, "{writes}");
        writes += 1;
    }
    let error = tokio::time::timeout(Duration::from_secs(10), client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the cable is cut");
}

#[tokio::test(start_paused = true)]
async fn a_descriptor_cannot_follow_paused_time() {
    let (device, _other) = Datagrams::pair();
    let error = Stack::builder().interface(Interface::new(Arc::new(device))).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("paused"), "{error}");
}

#[tokio::test]
async fn a_device_that_fails_fails_its_sockets() {
    let (left, right) = Datagrams::pair();
    let interface = Interface::new(Arc::new(left)).address("10.0.0.1/24");
    // That the other end is gone is noticed when the SYN is sent again.
    let config = Config::default().with(|config| config.rto_initial = Duration::from_millis(200));
    let stack = Stack::builder().config(config).interface(interface).build().unwrap();
    let (connecting, is_connecting) = spawn_waiting(&Handle::current(), {
        let stack = stack.clone();
        async move { stack.connect("10.0.0.2:80").await }
    });
    is_connecting.await.unwrap();
    // The end of a pair of datagram sockets is told to writers only: shut it down.
    right.0.shutdown(std::net::Shutdown::Both).unwrap();
    drop(right);
    let error =
        tokio::time::timeout(Duration::from_secs(10), connecting).await.unwrap().unwrap().unwrap_err();
    assert_ne!(error.kind(), ErrorKind::TimedOut, "{error}");
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    stack.connect(listener.local_addr().unwrap()).await.expect("the loopback is not concerned");
}
