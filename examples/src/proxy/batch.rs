//! Several datagrams in one call: most of a datagram's cost is that of its system call and of its way through the
//! kernel, which it shares with others of its length.

use super::buffers::{Buffer, Buffers};
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
/// Datagrams before it is the other direction's turn.
const TURN: usize = 64;
/// Datagrams that are received in one call (`recvmmsg`). Each has a buffer for the longest there is.
const RECEIVED: usize = 8;
/// `EMSGSIZE` of Linux.
const EMSGSIZE: i32 = 90;

/// What the kernel does with several datagrams in one call. It is asked with a socket of its own, because to ask also
/// forbids the socket to fragment.
static KERNEL: LazyLock<Option<UdpSocketState>> = LazyLock::new(|| {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").ok()?;
    UdpSocketState::new(UdpSockRef::from(&socket)).ok()
});

/// Whether and how the kernel divides datagrams (`UDP_SEGMENT`).
fn segmentation() -> Option<&'static UdpSocketState> {
    KERNEL.as_ref().filter(|state| state.max_gso_segments() > 1)
}

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
        for _ in 0..TURN {
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
    pub(super) async fn down(&self, buffers: &Buffers) -> io::Result<u64> {
        let mut received: [Buffer; RECEIVED] = std::array::from_fn(|_| buffers.take());
        let mut joined = Joined { bytes: buffers.take(), len: 0, stride: 0, count: 0 };
        let mut bytes = 0;
        for _ in 0..TURN / RECEIVED {
            let mut lens = [0; RECEIVED];
            let count = match self.receive(&mut received, &mut lens) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            for (buffer, len) in received.iter().zip(lens).take(count) {
                bytes += len as u64;
                if !joined.takes(len) {
                    self.send_down(joined.datagrams(), joined.stride).await?;
                    joined.clear();
                }
                joined.push(&buffer[..len]);
            }
            if count < RECEIVED {
                break;
            }
        }
        if joined.count > 0 {
            self.send_down(joined.datagrams(), joined.stride).await?;
        }
        Ok(bytes)
    }

    /// Receives what the server has sent, one datagram in each buffer, and gives their number. If they are fewer than
    /// there are buffers, there were no more.
    fn receive(&self, buffers: &mut [Buffer; RECEIVED], lens: &mut [usize; RECEIVED]) -> io::Result<usize> {
        let Some(state) = &*KERNEL else {
            lens[0] = self.upstream.try_recv(&mut buffers[0])?;
            return Ok(1);
        };
        let mut meta = [quinn_udp::RecvMeta::default(); RECEIVED];
        let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut count = 0;
        let received = self.upstream.try_io(Interest::READABLE, || {
            count = state.recv(UdpSockRef::from(self.upstream), &mut slices, &mut meta)?;
            // The next call would find nothing: this spares it, and the socket waits for the next datagram.
            if count < RECEIVED { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        *lens = meta.map(|meta| meta.len);
        match received {
            Err(error) if count == 0 => Err(error),
            _ => Ok(count),
        }
    }

    /// Sends datagrams of `stride` bytes to the server, the last of which may be shorter.
    async fn send_up(&self, bytes: &[u8], stride: usize) -> io::Result<()> {
        let segmentation = segmentation().filter(|_| bytes.len() > stride && stride > 0);
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

/// Datagrams of one length, the last of which may be shorter, for one call.
struct Joined {
    bytes: Buffer,
    len: usize,
    /// Bytes of the first.
    stride: usize,
    count: usize,
}

impl Joined {
    /// Whether a datagram can be the next. One without bytes would be lost at the end of others.
    fn takes(&self, len: usize) -> bool {
        let is_next = self.count < MAX_SEGMENTS
            && (1..=self.stride).contains(&len)
            && self.len == self.stride * self.count;
        self.count == 0 || is_next && self.len + len <= MAX_BYTES
    }

    fn push(&mut self, datagram: &[u8]) {
        if self.count == 0 {
            self.stride = datagram.len();
        }
        self.bytes[self.len..self.len + datagram.len()].copy_from_slice(datagram);
        (self.len, self.count) = (self.len + datagram.len(), self.count + 1);
    }

    fn datagrams(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn clear(&mut self) {
        (self.len, self.count) = (0, 0);
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
    fn datagrams_of_one_length_are_joined_up_to_a_shorter_one() {
        let joined = |lens: &[usize]| {
            let mut joined = Joined { bytes: Buffers::default().take(), len: 0, stride: 0, count: 0 };
            for len in lens {
                if !joined.takes(*len) {
                    break;
                }
                joined.push(&vec![7; *len]);
            }
            (joined.count, joined.datagrams().len())
        };
        assert_eq!([joined(&[3, 3, 3]), joined(&[3, 3, 2, 2])], [(3, 9), (3, 8)]);
        assert_eq!([joined(&[3, 4]), joined(&[3, 0]), joined(&[0, 3])], [(1, 3), (1, 3), (1, 0)]);
        assert_eq!([joined(&[1; 65]), joined(&[40_000; 2])], [(64, 64), (1, 40_000)]);
    }

    #[test]
    fn a_batch_is_divided_as_it_was_joined() {
        let divided = |bytes, stride| datagrams(bytes, stride).collect::<Vec<_>>();
        assert_eq!(divided(b"onetwola", 3), [&b"one"[..], b"two", b"la"]);
        assert_eq!(divided(b"one", 3), [b"one"]);
        assert_eq!(divided(b"", 0), [b""]);
    }
}
