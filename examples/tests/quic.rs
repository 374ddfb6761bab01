//! QUIC over netstack: quinn's interface to a socket, on the public API of `UdpSocket`.

use netstack::buffer::PacketBuf;
use netstack::config::MtuDiscover;
use netstack::device::{Capabilities, Device, Link, LinkConfig, Readiness, RxMeta, TxPacket};
use netstack::net::UdpSocket;
use netstack::net::udp::{EcnCodepoint, RecvMeta, Transmit};
use netstack::time::Instant;
use netstack::wire::{parse_ip, protocol};
use netstack::{Interface, Stack};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, UdpPoller};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

/// A socket of netstack as quinn wants it.
#[derive(Debug)]
struct QuicSocket(UdpSocket);

impl QuicSocket {
    async fn bind(stack: &Stack, addr: SocketAddr) -> io::Result<Arc<Self>> {
        let socket = stack.udp_socket(addr).await?;
        // QUIC finds the MTU of its path by itself.
        socket.set_mtu_discover(MtuDiscover::Probe)?;
        Ok(Arc::new(Self(socket)))
    }
}

impl AsyncUdpSocket for QuicSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, writable: None })
    }

    fn try_send(&self, transmit: &quinn::udp::Transmit<'_>) -> io::Result<()> {
        let ours = Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
            contents: transmit.contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        self.0.try_send_msg(&ours).map(drop)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [quinn::udp::RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut ours = vec![RecvMeta::default(); meta.len()];
        let used = ready!(self.0.poll_recv_msg(cx, bufs, &mut ours))?;
        for (theirs, ours) in meta.iter_mut().zip(&ours[..used]) {
            theirs.addr = ours.addr;
            theirs.len = ours.len;
            theirs.stride = ours.stride;
            theirs.ecn = ours.ecn.and_then(|ecn| quinn::udp::EcnCodepoint::from_bits(ecn as u8));
            theirs.dst_ip = ours.dst_ip;
        }
        Poll::Ready(Ok(used))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        UdpSocket::MAX_SEGMENTS
    }

    fn max_receive_segments(&self) -> usize {
        UdpSocket::MAX_SEGMENTS
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until the socket can send, for one of quinn's tasks.
struct Poller {
    socket: Arc<QuicSocket>,
    writable: Option<Writable>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Arc::clone(&self.socket);
        let writable =
            self.writable.get_or_insert_with(|| Box::pin(async move { socket.0.writable().await }));
        let outcome = ready!(writable.as_mut().poll(cx));
        self.writable = None;
        Poll::Ready(outcome)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("socket", &self.socket).finish_non_exhaustive()
    }
}

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

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The settings of a server with a certificate of its own, and of a client that trusts it.
fn settings() -> (quinn::ServerConfig, quinn::ClientConfig) {
    let issued = rcgen::generate_simple_self_signed(["server.test".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der());
    let certificate = issued.cert.der().clone();
    let versions = &[&rustls::version::TLS13];
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = QuicServerConfig::try_from(server).unwrap();
    let client = QuicClientConfig::try_from(client).unwrap();
    (quinn::ServerConfig::with_crypto(Arc::new(server)), quinn::ClientConfig::new(Arc::new(client)))
}

fn endpoint(socket: Arc<QuicSocket>, server: Option<quinn::ServerConfig>) -> Endpoint {
    let runtime = Arc::new(quinn::TokioRuntime);
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), server, socket, runtime).unwrap()
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
    let server_socket = QuicSocket::bind(&server_stack, server_addr).await.unwrap();
    let server = endpoint(Arc::clone(&server_socket), Some(server_settings));
    let client_socket = QuicSocket::bind(&client_stack, "10.0.0.1:0".parse().unwrap()).await.unwrap();
    let client = endpoint(client_socket, None);

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
    assert_eq!(server_socket.0.dropped(), 0, "the reader keeps up");
}
