//! What the crate `tokio-util`, of version 0.7, has for tokio's concrete types: its trait `net::Listener`, and
//! [`UdpFramed`]. Its `codec::Framed`, its `io` and its `compat` take a [`TcpStream`] as it is.

use crate::net::tcp::{TcpListener, TcpStream};
use crate::net::udp::UdpSocket;
use bytes::BytesMut;
use futures_core::Stream;
use futures_sink::Sink;
use std::borrow::Borrow;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio_util::codec::{Decoder, Encoder};
use tokio_util::net::Listener;

impl Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        Self::poll_accept(self, cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

/// The largest datagram.
const LARGEST: usize = 65_535;

/// A stream and a sink of frames over a [`UdpSocket`], with the codecs of `tokio-util`: what its `UdpFramed` is for
/// tokio's sockets.
///
/// A datagram may hold several frames: [`Decoder::decode_eof`] is asked until it says that there are no more, or
/// fails and leaves nothing. A frame is sent as one datagram.
///
/// # Examples
/// ```
/// use futures_util::{SinkExt, StreamExt};
/// use netstack::net::tokio_util::UdpFramed;
/// use tokio_util::codec::LinesCodec;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stack = netstack::Stack::builder().build()?;
/// let server = stack.udp_socket("127.0.0.1:0").await?;
/// let addr = server.local_addr()?;
/// let mut server = UdpFramed::new(server, LinesCodec::new());
/// let mut client = UdpFramed::new(stack.udp_socket("127.0.0.1:0").await?, LinesCodec::new());
/// client.send(("one\ntwo", addr)).await?;
/// assert_eq!(server.next().await.unwrap()?.0, "one");
/// assert_eq!(server.next().await.unwrap()?.0, "two");
/// # Ok(())
/// # }
/// ```
#[must_use = "sinks do nothing unless polled"]
pub struct UdpFramed<C, T = UdpSocket> {
    socket: T,
    codec: C,
    /// Where a datagram is received.
    datagram: Box<[u8]>,
    /// What is left of the datagram to decode, and its sender. The sender is there until the codec has said
    /// that there are no more frames.
    rd: BytesMut,
    sender: Option<SocketAddr>,
    /// The datagram to send, and to whom.
    wr: BytesMut,
    receiver: Option<SocketAddr>,
}

impl<C, T: Borrow<UdpSocket>> UdpFramed<C, T> {
    /// Frames over `socket`.
    pub fn new(socket: T, codec: C) -> Self {
        let datagram = vec![0; LARGEST].into_boxed_slice();
        let (rd, wr) = (BytesMut::new(), BytesMut::new());
        Self { socket, codec, datagram, rd, sender: None, wr, receiver: None }
    }

    /// The socket.
    pub fn get_ref(&self) -> &T {
        &self.socket
    }

    /// The socket. What is received from it here is missing in the stream.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.socket
    }

    /// The codec.
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// The codec.
    pub fn codec_mut(&mut self) -> &mut C {
        &mut self.codec
    }

    /// What is left of the datagram that is being decoded.
    pub fn read_buffer(&self) -> &BytesMut {
        &self.rd
    }

    /// What is left of the datagram that is being decoded.
    pub fn read_buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.rd
    }

    /// Gives the socket back.
    pub fn into_inner(self) -> T {
        self.socket
    }
}

impl<C, T> Unpin for UdpFramed<C, T> {}

impl<C: Decoder, T: Borrow<UdpSocket>> Stream for UdpFramed<C, T> {
    type Item = Result<(C::Item, SocketAddr), C::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { socket, codec, datagram, rd, sender, .. } = self.get_mut();
        loop {
            if let Some(from) = *sender {
                if let Some(frame) = codec.decode_eof(rd)? {
                    return Poll::Ready(Some(Ok((frame, from))));
                }
                *sender = None;
                rd.clear();
            }
            let mut buf = ReadBuf::new(datagram);
            let from = ready!((*socket).borrow().poll_recv_from(cx, &mut buf))?;
            rd.extend_from_slice(buf.filled());
            *sender = Some(from);
        }
    }
}

impl<I, C: Encoder<I>, T: Borrow<UdpSocket>> Sink<(I, SocketAddr)> for UdpFramed<C, T> {
    type Error = C::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.poll_flush(cx)
    }

    fn start_send(self: Pin<&mut Self>, (frame, receiver): (I, SocketAddr)) -> Result<(), C::Error> {
        let this = self.get_mut();
        this.codec.encode(frame, &mut this.wr)?;
        this.receiver = Some(receiver);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        let this = self.get_mut();
        let Some(receiver) = this.receiver else { return Poll::Ready(Ok(())) };
        let sent = ready!(this.socket.borrow().poll_send_to(cx, &this.wr, receiver));
        this.receiver = None;
        this.wr.clear();
        // A datagram is sent whole or not at all.
        sent?;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.poll_flush(cx)
    }
}

impl<C: fmt::Debug, T: fmt::Debug> fmt::Debug for UdpFramed<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpFramed")
            .field("socket", &self.socket)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}
