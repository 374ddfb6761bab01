//! QUIC on the sockets of a stack, for the crate `quinn`, of version 0.11.
//!
//! A [`UdpSocket`] is a socket for quinn: it sends several datagrams in one call and receives them so (GSO and GRO),
//! and gives and takes the ECN field.

use crate::config::MtuDiscover;
use crate::net::udp::{self, UdpSocket};
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, UdpPoller};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Makes an endpoint of `socket`, as `quinn::Endpoint::new` does of a socket of the kernel. Connections are accepted
/// if there is a `server`. quinn's own tasks run on the tokio runtime here.
///
/// It sets [`MtuDiscover::Probe`]: QUIC finds the MTU of its path by itself.
///
/// # Errors
/// None of its own; those of quinn.
///
/// # Examples
/// ```no_run
/// # async fn example(stack: &netstack::Stack, config: quinn::EndpointConfig) -> std::io::Result<()> {
/// let socket = stack.udp_socket("10.0.0.1:0").await?;
/// let client = netstack::net::quinn::endpoint(config, None, socket)?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub fn endpoint(
    config: EndpointConfig,
    server: Option<ServerConfig>,
    socket: UdpSocket,
) -> io::Result<Endpoint> {
    socket.set_mtu_discover(MtuDiscover::Probe)?;
    Endpoint::new_with_abstract_socket(config, server, Arc::new(socket), Arc::new(TokioRuntime))
}

/// For `Endpoint::new_with_abstract_socket` and `Endpoint::rebind_abstract`. [`endpoint`] does what has to be done
/// before.
impl AsyncUdpSocket for UdpSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller { socket: self, writable: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let message = udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| udp::EcnCodepoint::from_bits(ecn as u8)),
            contents: transmit.contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        self.try_send_msg(&message).map(drop)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        // quinn asks for a batch of them at a time.
        let mut received = [udp::RecvMeta::default(); quinn::udp::BATCH_SIZE];
        let most = meta.len().min(received.len());
        let used = ready!(self.poll_recv_msg(cx, bufs, &mut received[..most]))?;
        for (theirs, ours) in meta.iter_mut().zip(&received[..used]) {
            theirs.addr = ours.addr;
            theirs.len = ours.len;
            theirs.stride = ours.stride;
            theirs.ecn = ours.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
            theirs.dst_ip = ours.dst_ip;
        }
        Poll::Ready(Ok(used))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }

    fn max_transmit_segments(&self) -> usize {
        Self::MAX_SEGMENTS
    }

    fn max_receive_segments(&self) -> usize {
        Self::MAX_SEGMENTS
    }

    fn may_fragment(&self) -> bool {
        !matches!(self.mtu_discover(), Ok(MtuDiscover::Do | MtuDiscover::Probe))
    }
}

type Writable = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until the socket can send, for one of quinn's tasks: each of them has its own.
struct Poller {
    socket: Arc<UdpSocket>,
    writable: Option<Writable>,
}

impl UdpPoller for Poller {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Arc::clone(&self.socket);
        let waiting = self.writable.get_or_insert_with(|| Box::pin(async move { socket.writable().await }));
        let outcome = ready!(waiting.as_mut().poll(cx));
        self.writable = None;
        Poll::Ready(outcome)
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("socket", &self.socket).finish_non_exhaustive()
    }
}
