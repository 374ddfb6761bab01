//! Several datagrams in one call, and what travels with them.

use super::UdpSocket;
use crate::net::readiness::Direction;
use crate::net::udp::msg::{EcnCodepoint, RecvMeta, Transmit};
use crate::stack::{Transmission, UdpReceived};
use bytes::Bytes;
use std::io::{self, IoSliceMut};
use std::task::{Context, Poll};
use tokio::io::Interest;

/// Datagrams with what travels with them.
impl UdpSocket {
    /// The most datagrams that [`UdpSocket::send_msg`] sends in one call.
    pub const MAX_SEGMENTS: usize = Transmission::MAX_SEGMENTS;

    /// Receives datagrams, with their sender, the address that they were sent to, their interface and their ECN
    /// field, and returns how many of the buffers are in use. The entries of `meta` describe them.
    ///
    /// A buffer holds as many datagrams of one sender and one length as there are and as fit, the last of which
    /// may be shorter: see [`RecvMeta::stride`]. A datagram that does not fit into a buffer is cut off.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    ///
    /// # Cancel safety
    /// Cancel safe: no datagram is lost if the future is dropped.
    ///
    /// # Examples
    /// ```
    /// use netstack::net::udp::{EcnCodepoint, RecvMeta, Transmit};
    /// use std::io::IoSliceMut;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// let (a, b) = (stack.udp_socket("127.0.0.1:0").await?, stack.udp_socket("127.0.0.1:0").await?);
    /// a.send_msg(&Transmit {
    ///     destination: b.local_addr()?,
    ///     ecn: Some(EcnCodepoint::Ect0),
    ///     contents: b"onetwolast one",
    ///     segment_size: Some(3),
    ///     src_ip: None,
    /// })
    /// .await?;
    /// let (mut buf, mut meta) = ([0; 1500], [RecvMeta::default()]);
    /// let used = b.recv_msg(&mut [IoSliceMut::new(&mut buf)], &mut meta).await?;
    /// assert_eq!((used, meta[0].len, meta[0].stride), (1, 14, 3));
    /// assert_eq!((meta[0].addr, meta[0].ecn), (a.local_addr()?, Some(EcnCodepoint::Ect0)));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv_msg(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        let interest = Interest::READABLE.add(Interest::ERROR);
        self.registration().async_io(interest, || self.recv_msg_now(bufs, meta)).await
    }

    /// The poll form of [`UdpSocket::recv_msg`]. Only the task of the latest call of this or another `poll_`
    /// method that receives or peeks is woken.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    pub fn poll_recv_msg(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.registration().poll_io(cx, Direction::Read, |_| self.recv_msg_now(bufs, meta))
    }

    /// Like [`UdpSocket::recv_msg`], without waiting.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv`].
    pub fn try_recv_msg(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        self.registration().try_io(Interest::READABLE, || self.recv_msg_now(bufs, meta))
    }

    /// Receives what came as one packet without a copy: a datagram, or several of one sender and one length
    /// ([`RecvMeta::stride`]).
    ///
    /// A large payload is the buffer that the device received it in, 64 KiB at most, which is held until the last clone
    /// and the last slice of it is dropped, and no longer counts against the receive buffer of the socket. One that fills
    /// less than a quarter of that was copied out of it when it came.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    ///
    /// # Cancel safety
    /// Cancel safe: no datagram is lost if the future is dropped.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// let (a, b) = (stack.udp_socket("127.0.0.1:0").await?, stack.udp_socket("127.0.0.1:0").await?);
    /// a.send_to(&[7; 40_000], b.local_addr()?).await?;
    /// let (bytes, meta) = b.recv_chunk().await?;
    /// assert_eq!((bytes.len(), meta.stride, meta.addr), (40_000, 40_000, a.local_addr()?));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn recv_chunk(&self) -> io::Result<(Bytes, RecvMeta)> {
        let interest = Interest::READABLE.add(Interest::ERROR);
        self.registration().async_io(interest, || self.recv_chunk_now()).await
    }

    /// The poll form of [`UdpSocket::recv_chunk`]. Only the task of the latest call of this or another `poll_`
    /// method that receives or peeks is woken.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    pub fn poll_recv_chunk(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Bytes, RecvMeta)>> {
        self.registration().poll_io(cx, Direction::Read, |_| self.recv_chunk_now())
    }

    /// Like [`UdpSocket::recv_chunk`], without waiting.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv`].
    pub fn try_recv_chunk(&self) -> io::Result<(Bytes, RecvMeta)> {
        self.registration().try_io(Interest::READABLE, || self.recv_chunk_now())
    }

    /// Sends a datagram, or up to [`UdpSocket::MAX_SEGMENTS`] of one length, with an ECN field and from an
    /// address of the stack. Devices that can do so divide the datagrams themselves. Returns the number of bytes.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`]; `EINVAL` if `src_ip` is not an address of the stack, or if there are too many
    /// datagrams; `EMSGSIZE` if one of several is longer than the MTU of its path.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has sent nothing.
    pub async fn send_msg(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let message = message(transmit);
        self.registration().async_io(Interest::WRITABLE, || self.send_now(&message)).await
    }

    /// The poll form of [`UdpSocket::send_msg`]. Only the task of the latest call of this, `poll_send_ready`,
    /// `poll_send` or `poll_send_to` is woken.
    ///
    /// # Errors
    /// As [`UdpSocket::send_msg`].
    pub fn poll_send_msg(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let message = message(transmit);
        self.registration().poll_io(cx, Direction::Write, |_| self.send_now(&message))
    }

    /// Like [`UdpSocket::send_msg`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no room in the send buffer; as [`UdpSocket::send_msg`].
    pub fn try_send_msg(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let message = message(transmit);
        self.registration().try_io(Interest::WRITABLE, || self.send_now(&message))
    }

    fn recv_msg_now(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> io::Result<usize> {
        let bufs_of_meta = bufs.len().min(meta.len());
        let bufs = &mut bufs[..bufs_of_meta];
        self.udp().gather(self.core(), &self.endpoint.cell, bufs, |index, received| {
            meta[index] = meta_of(received);
        })
    }

    fn recv_chunk_now(&self) -> io::Result<(Bytes, RecvMeta)> {
        let (received, chunk) = self.udp().take_whole(self.core(), &self.endpoint.cell)?;
        Ok((Bytes::from_owner(chunk), meta_of(received)))
    }
}

fn meta_of(received: UdpReceived) -> RecvMeta {
    let UdpReceived { origin, gathered, traffic_class } = received;
    RecvMeta {
        addr: origin.source,
        len: gathered.len,
        stride: gathered.stride,
        ecn: EcnCodepoint::from_bits(origin.traffic_class),
        dst_ip: Some(origin.destination),
        interface_index: Some(u32::from(origin.interface) + 1),
        traffic_class,
    }
}

fn message<'a>(transmit: &Transmit<'a>) -> Transmission<'a> {
    Transmission {
        contents: transmit.contents,
        destination: Some(transmit.destination),
        source: transmit.src_ip,
        ecn: Some(EcnCodepoint::field(transmit.ecn)),
        segment_size: transmit.segment_size,
    }
}
