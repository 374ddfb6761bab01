//! Several datagrams in one call: most of a datagram's cost is that of its system call and of its way through the
//! kernel, which it shares with others of its length.

use super::buffers::Buffer;
use netstack::net::udp::{RecvMeta, Transmit};
use netstack::net::{UdpFlow, UdpSocket as OurSocket};
use quinn_udp::{UdpSockRef, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::LazyLock;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The most datagrams of one call (`UDP_MAX_SEGMENTS` before Linux 6.9).
const MAX_SEGMENTS: usize = 64;
/// The most bytes of one call: what a UDP datagram over IPv4 holds.
const MAX_BYTES: usize = 65_507;
/// Calls before it is the other direction's turn.
const CALLS: usize = 64;
/// `EMSGSIZE` of Linux.
const EMSGSIZE: i32 = 90;

/// Whether and how the kernel divides datagrams (`UDP_SEGMENT`). It is asked with a socket of its own, because to
/// ask also forbids the socket to fragment.
static SEGMENTATION: LazyLock<Option<UdpSocketState>> = LazyLock::new(|| {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").ok()?;
    UdpSocketState::new(UdpSockRef::from(&socket)).ok().filter(|state| state.max_gso_segments() > 1)
});

/// A client of netstack, and the kernel socket that is connected to where its datagrams go.
pub(super) struct Pair<'a> {
    client: &'a OurSocket,
    client_address: SocketAddr,
    upstream: &'a UdpSocket,
    destination: SocketAddr,
}

impl<'a> Pair<'a> {
    pub(super) fn new(flow: &'a UdpFlow, upstream: &'a UdpSocket) -> Self {
        let (client_address, destination) = (flow.peer_addr(), flow.local_addr());
        Self { client: flow.as_ref(), client_address, upstream, destination }
    }

    /// Passes on what the client has sent, and gives the number of bytes.
    pub(super) async fn up(&self, buffer: &mut Buffer) -> io::Result<u64> {
        let mut bytes = 0;
        for _ in 0..CALLS {
            let mut meta = [RecvMeta::default()];
            match self.client.try_recv_msg(&mut [IoSliceMut::new(buffer)], &mut meta) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            let [RecvMeta { len, stride, .. }] = meta;
            bytes += len as u64;
            self.send_up(&buffer[..len], stride).await?;
        }
        Ok(bytes)
    }

    /// Passes on what the server has sent, and gives the number of bytes.
    pub(super) async fn down(&self, batch: &mut Buffer, next: &mut Buffer) -> io::Result<u64> {
        let (mut bytes, mut len, mut stride, mut count) = (0, 0, 0, 0);
        for _ in 0..CALLS {
            let received = match self.upstream.try_recv(next) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            bytes += received as u64;
            // One without bytes would be lost at the end of others.
            let is_next = count < MAX_SEGMENTS && (1..=stride).contains(&received) && len == stride * count;
            if count > 0 && !(is_next && len + received <= MAX_BYTES) {
                self.send_down(&batch[..len], stride).await?;
                (len, count) = (0, 0);
            }
            if count == 0 {
                std::mem::swap(batch, next);
                stride = received;
            } else {
                batch[len..len + received].copy_from_slice(&next[..received]);
            }
            (len, count) = (len + received, count + 1);
        }
        if count > 0 {
            self.send_down(&batch[..len], stride).await?;
        }
        Ok(bytes)
    }

    /// Sends datagrams of `stride` bytes to the server, the last of which may be shorter.
    async fn send_up(&self, bytes: &[u8], stride: usize) -> io::Result<()> {
        let segmentation = SEGMENTATION.as_ref().filter(|_| bytes.len() > stride && stride > 0);
        let Some(state) = segmentation else { return self.send_up_singly(bytes, stride).await };
        let most = (MAX_BYTES / stride).clamp(1, MAX_SEGMENTS);
        for part in bytes.chunks(stride * most) {
            let transmit = quinn_udp::Transmit {
                destination: self.destination,
                ecn: None,
                contents: part,
                segment_size: (part.len() > stride).then_some(stride),
                src_ip: None,
            };
            let send = || state.try_send(UdpSockRef::from(self.upstream), &transmit);
            match self.upstream.async_io(Interest::WRITABLE, send).await {
                Ok(()) => {}
                // Of an earlier datagram.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(error),
                // Only whole datagrams are fragmented, and not every device divides them.
                Err(_) => self.send_up_singly(part, stride).await?,
            }
        }
        Ok(())
    }

    async fn send_up_singly(&self, bytes: &[u8], stride: usize) -> io::Result<()> {
        for datagram in datagrams(bytes, stride) {
            unless_too_long(self.upstream.send(datagram).await)?;
        }
        Ok(())
    }

    /// Sends datagrams of `stride` bytes to the client, the last of which may be shorter.
    async fn send_down(&self, bytes: &[u8], stride: usize) -> io::Result<()> {
        if bytes.len() > stride {
            let destination = self.client_address;
            let segment_size = Some(stride);
            let transmit = Transmit { destination, ecn: None, contents: bytes, segment_size, src_ip: None };
            match self.client.send_msg(&transmit).await {
                Ok(_) => return Ok(()),
                // Only whole datagrams are fragmented.
                Err(error) if error.raw_os_error() == Some(EMSGSIZE) => {}
                Err(error) => return Err(error),
            }
        }
        for datagram in datagrams(bytes, stride) {
            unless_too_long(self.client.send(datagram).await)?;
        }
        Ok(())
    }
}

/// The datagrams of a batch. One without bytes is a batch of one.
fn datagrams(bytes: &[u8], stride: usize) -> impl Iterator<Item = &[u8]> {
    let empty = bytes.is_empty().then_some(bytes);
    empty.into_iter().chain(bytes.chunks(stride.max(1)))
}

/// One that is too long for the way is lost, as on the way.
fn unless_too_long(sent: io::Result<usize>) -> io::Result<()> {
    match sent {
        Err(error) if error.raw_os_error() != Some(EMSGSIZE) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_divided_as_it_was_joined() {
        let divided = |bytes, stride| datagrams(bytes, stride).collect::<Vec<_>>();
        assert_eq!(divided(b"onetwola", 3), [&b"one"[..], b"two", b"la"]);
        assert_eq!(divided(b"one", 3), [b"one"]);
        assert_eq!(divided(b"", 0), [b""]);
    }
}
