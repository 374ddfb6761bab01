//! QUIC on the sockets of netstack.

use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Link, LinkConfig, Readiness, RxMeta, TxPacket};
use netstack::net::quinn::endpoint;
use netstack::time::Instant;
use netstack::wire::{parse_ip, protocol};
use netstack::{Interface, Stack};
use netstack_ecosystem::tls;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what a stack sends.
struct Counting {
    inner: Link,
    /// Packets that are several datagrams.
    several: AtomicU64,
    /// Packets with an ECN field.
    capable: AtomicU64,
}

impl Device for Counting {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        self.inner.receive(now, queue, buf)
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        let mut bytes = vec![0; packet.len()];
        packet.copy_to(&mut bytes);
        let ip = parse_ip(&bytes).expect("the stack sends sound packets");
        assert_eq!(ip.protocol, protocol::UDP);
        self.several.fetch_add(u64::from(packet.gso.is_some()), Ordering::Relaxed);
        self.capable.fetch_add(u64::from(ip.ecn() != 0), Ordering::Relaxed);
        self.inner.transmit(now, queue, packet)
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

/// The settings of a server with a certificate of its own, and of a client that trusts it.
fn settings() -> (quinn::ServerConfig, quinn::ClientConfig) {
    let (server, client) = tls::settings().unwrap();
    let server = QuicServerConfig::try_from(server).unwrap();
    let client = QuicClientConfig::try_from(client).unwrap();
    (quinn::ServerConfig::with_crypto(Arc::new(server)), quinn::ClientConfig::new(Arc::new(client)))
}

/// The byte at a position of the transfer.
fn byte(at: usize) -> u8 {
    (at / 7 % 251) as u8
}

#[tokio::test(start_paused = true)]
async fn a_transfer_over_a_lossy_link_with_ecn_and_several_datagrams_in_one_packet() {
    const LEN: usize = 64 << 20;
    let config: LinkConfig = "rate=400mbit,delay=5ms,loss=0.1%,ecn=20kb,queue=1mb".parse().unwrap();
    let (left, right) = Link::pair(config.clone(), config);
    let (several, capable) = (AtomicU64::new(0), AtomicU64::new(0));
    let sending = Arc::new(Counting { inner: left, several, capable });
    let build = |device: Arc<dyn Device>, address: &str| {
        Stack::builder().interface(Interface::new(device).address(address)).build().unwrap()
    };
    let client_stack = build(Arc::clone(&sending) as _, "10.0.0.1/24");
    let right = Arc::new(right);
    let server_stack = build(right, "10.0.0.2/24");

    let (server_settings, client_settings) = settings();
    let server_addr: SocketAddr = "10.0.0.2:443".parse().unwrap();
    let server_socket = Arc::new(server_stack.udp_socket(server_addr).await.unwrap());
    // What `endpoint` does, with a handle that stays here.
    server_socket.set_mtu_discover(netstack::config::MtuDiscover::Probe).unwrap();
    let server = Endpoint::new_with_abstract_socket(
        EndpointConfig::default(),
        Some(server_settings),
        Arc::clone(&server_socket) as _,
        Arc::new(TokioRuntime),
    )
    .unwrap();
    let client_socket = client_stack.udp_socket("10.0.0.1:0").await.unwrap();
    let client = endpoint(EndpointConfig::default(), None, client_socket).unwrap();

    let receive = async {
        let connection = server.accept().await.unwrap().await.unwrap();
        let mut stream = connection.accept_uni().await.unwrap();
        let mut received = 0;
        while let Some(chunk) = stream.read_chunk(1 << 20, true).await.unwrap() {
            let right = chunk.bytes.iter().enumerate().all(|(n, got)| *got == byte(received + n));
            assert!(right, "wrong bytes after {received}");
            received += chunk.bytes.len();
        }
        connection.close(0u32.into(), b"done");
        received
    };
    let send = async {
        let connecting = client.connect_with(client_settings, server_addr, "server.test").unwrap();
        let connection = connecting.await.unwrap();
        let mut stream = connection.open_uni().await.unwrap();
        let mut sent = 0;
        while sent < LEN {
            let piece: Vec<u8> = (sent..LEN.min(sent + (1 << 20))).map(byte).collect();
            stream.write_all(&piece).await.unwrap();
            sent += piece.len();
        }
        stream.finish().unwrap();
        connection.closed().await;
        connection.stats()
    };
    let (received, stats) = tokio::join!(receive, send);
    assert_eq!(received, LEN);
    assert!(stats.path.lost_packets > 0, "the link loses packets: {:?}", stats.path);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} packets that are several, {} with ECN, {} lost, MTU {}",
        count(&sending.several),
        count(&sending.capable),
        stats.path.lost_packets,
        stats.path.current_mtu
    );
    assert!(count(&sending.several) > 1000, "{}", count(&sending.several));
    assert!(count(&sending.capable) > 1000, "{}", count(&sending.capable));
    assert!(sending.inner.egress_stats().marked > 0, "the link marks: {:?}", sending.inner.egress_stats());
    assert!(stats.path.congestion_events > 0);
    assert_eq!(server_socket.dropped(), 0, "the reader keeps up");
}
