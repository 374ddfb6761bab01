//! How often the reactor looks at a device that has a file descriptor, where each look is a system call.

use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, TxPacket};
use netstack::net::UdpSocket;
use netstack::time::Instant;
use netstack::{Config, Interface, Stack};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

/// What happened, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Received,
    Empty,
    Sent,
}

/// A descriptor whose other end sends packets, and answers none.
struct Observed {
    socket: UnixDatagram,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Device for Observed {
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
        let received = self.socket.recv(buf.bytes_mut());
        self.events.lock().unwrap().push(if received.is_ok() { Event::Received } else { Event::Empty });
        received.map(|len| RxMeta { len, ..RxMeta::default() })
    }

    fn transmit(&self, _: Instant, _: usize, _: &TxPacket<'_>) -> io::Result<()> {
        self.events.lock().unwrap().push(Event::Sent);
        Ok(())
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Fd(self.socket.as_fd())
    }
}

/// A datagram of one byte from port 9 of 10.0.0.2 to port 7 of 10.0.0.1, without a checksum of UDP.
fn datagram() -> Vec<u8> {
    let mut packet =
        vec![0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 0, 9, 0, 7, 0, 9, 0, 0, 42];
    let sum: u32 = packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A stack whose only socket returns each datagram, the other end of its device, and what happens there.
async fn echo(config: Config) -> (Stack, UnixDatagram, Arc<Mutex<Vec<Event>>>) {
    let (socket, peer) = UnixDatagram::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let device = Observed { socket, events: Arc::clone(&events) };
    let interface = Interface::new(Arc::new(device)).address("10.0.0.1/24");
    let stack = Stack::builder().config(config).interface(interface).build().unwrap();
    let socket = UdpSocket::bind_on(&stack, "10.0.0.1:7").await.unwrap();
    tokio::spawn(async move {
        let mut byte = [0];
        loop {
            let (_, from) = socket.recv_from(&mut byte).await.unwrap();
            socket.send_to(&byte, from).await.unwrap();
        }
    });
    // The reactor waits now.
    sleep(Duration::from_millis(20)).await;
    events.lock().unwrap().clear();
    (stack, peer, events)
}

#[tokio::test]
async fn after_a_wait_the_answer_comes_before_the_next_look() {
    let (_stack, peer, events) = echo(Config::default()).await;
    peer.send(&datagram()).unwrap();
    sleep(Duration::from_millis(50)).await;
    let events = events.lock().unwrap();
    assert_eq!(events[..3], [Event::Received, Event::Sent, Event::Empty]);
}

/// Looks that found nothing, after each of two datagrams, `gap` apart.
async fn empty_looks(busy_poll: Duration, gap: Duration) -> usize {
    let (_stack, peer, events) = echo(Config::default().with(|config| config.busy_poll = busy_poll)).await;
    for _ in 0..2 {
        peer.send(&datagram()).unwrap();
        sleep(gap).await;
    }
    sleep(Duration::from_millis(50)).await;
    let events = events.lock().unwrap();
    assert_eq!(events.iter().filter(|event| **event == Event::Sent).count(), 2, "{events:?}");
    events.iter().filter(|event| **event == Event::Empty).count()
}

#[tokio::test]
async fn busy_polling_looks_again_and_again_after_packets_that_come_close() {
    let waiting = empty_looks(Duration::ZERO, Duration::from_millis(1)).await;
    assert!(waiting < 10, "{waiting} without it");
    let seldom = empty_looks(Duration::from_millis(20), Duration::from_millis(60)).await;
    assert!(seldom < 10, "{seldom} after packets that come seldom");
    let busy = empty_looks(Duration::from_millis(20), Duration::from_millis(1)).await;
    assert!(busy > 100, "{busy} after packets that come close");
}
