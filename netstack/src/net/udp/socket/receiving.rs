//! Receiving datagrams.

use super::UdpSocket;
use crate::net::readiness::Direction;
use bytes::BufMut;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use tokio::io::{Interest, ReadBuf};

/// What a receiver waits for: a datagram, or an error.
const RECEIVE: Interest = Interest::READABLE.add(Interest::ERROR);

/// Receiving.
///
/// Each of these takes one datagram. What of it does not fit into the buffer is lost. A length of 0 is that of
/// an empty datagram.
impl UdpSocket {
    /// The poll form of [`UdpSocket::readable`]. Only the task of the latest call of this or another `poll_`
    /// method that receives or peeks is woken.
    ///
    /// # Errors
    /// If the stack has ended.
    pub fn poll_recv_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registration().poll_ready(cx, Direction::Read).map_ok(drop)
    }

    /// Receives a datagram and returns its length.
    ///
    /// # Errors
    /// Of a connected socket, an ICMP error such as `ECONNREFUSED`, once; the error of the device; an error if
    /// the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: no datagram is lost if the future is dropped.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.recv_from(buf).await.map(|(len, _)| len)
    }

    /// The poll form of [`UdpSocket::recv`], which appends to `buf`. Only the task of the latest call of this or
    /// another `poll_` method that receives or peeks is woken.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_recv_from(cx, buf).map_ok(drop)
    }

    /// Like [`UdpSocket::recv`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none; as [`UdpSocket::recv`].
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_recv_from(buf).map(|(len, _)| len)
    }

    /// Like [`UdpSocket::try_recv`], into the next chunk of `buf`.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv`].
    pub fn try_recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.try_recv_buf_from(buf).map(|(len, _)| len)
    }

    /// Like [`UdpSocket::recv`], into the next chunk of `buf`. A `Vec` without spare room makes some for 64
    /// bytes.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    ///
    /// # Cancel safety
    /// Cancel safe: no datagram is lost if the future is dropped.
    pub async fn recv_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.recv_buf_from(buf).await.map(|(len, _)| len)
    }

    /// Like [`UdpSocket::try_recv_from`], into the next chunk of `buf`.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv`].
    pub fn try_recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        self.registration().try_io(Interest::READABLE, || self.recv_into(buf))
    }

    /// Like [`UdpSocket::recv_from`], into the next chunk of `buf`.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    ///
    /// # Cancel safety
    /// Cancel safe: no datagram is lost if the future is dropped.
    pub async fn recv_buf_from<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        self.registration().async_io(RECEIVE, || self.recv_into(buf)).await
    }

    /// Receives a datagram, and returns its length and the sender. A socket for both families shows an IPv4
    /// sender in the mapped form.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    ///
    /// # Cancel safety
    /// Cancel safe: no datagram is lost if the future is dropped.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.registration().async_io(RECEIVE, || self.recv_now(buf)).await
    }

    /// The poll form of [`UdpSocket::recv_from`], which appends to `buf`. Only the task of the latest call of
    /// this or another `poll_` method that receives or peeks is woken.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    pub fn poll_recv_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        let taken = ready!(self.registration().poll_io(cx, Direction::Read, |_| self.take_now()));
        Poll::Ready(taken.map(|(sender, payload)| {
            let payload = payload.as_slice();
            buf.put_slice(&payload[..payload.len().min(buf.remaining())]);
            sender
        }))
    }

    /// Like [`UdpSocket::recv_from`], without waiting.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv`].
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.registration().try_io(Interest::READABLE, || self.recv_now(buf))
    }

    pub(in crate::net) fn recv_now(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (sender, len) = self.udp().recv(self.core(), &self.endpoint.cell, buf)?;
        Ok((len, sender))
    }

    /// Takes a datagram out of the socket, to be copied while nothing is locked.
    fn take_now(&self) -> io::Result<(SocketAddr, crate::buffer::Chunk)> {
        let (sender, datagram) = self.udp().take(self.core(), &self.endpoint.cell)?;
        Ok((sender, datagram.payload))
    }

    fn recv_into<B: BufMut>(&self, buf: &mut B) -> io::Result<(usize, SocketAddr)> {
        let (sender, payload) = self.take_now()?;
        let room = buf.chunk_mut().len();
        let len = payload.len().min(room);
        buf.put_slice(&payload.as_slice()[..len]);
        Ok((len, sender))
    }
}

/// Looking at the next datagram, which stays where it is.
impl UdpSocket {
    /// Waits for a datagram and copies as much of it as fits. Returns how much that is.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.peek_from(buf).await.map(|(len, _)| len)
    }

    /// The poll form of [`UdpSocket::peek`], which appends to `buf`. Only the task of the latest call of this or
    /// another `poll_` method that receives or peeks is woken.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_peek_from(cx, buf).map_ok(drop)
    }

    /// Like [`UdpSocket::peek`], without waiting.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv`].
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_peek_from(buf).map(|(len, _)| len)
    }

    /// Like [`UdpSocket::peek`], with the sender.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.registration().async_io(RECEIVE, || self.peek_now(buf)).await
    }

    /// The poll form of [`UdpSocket::peek_from`], which appends to `buf`. Only the task of the latest call of this
    /// or another `poll_` method that receives or peeks is woken.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    pub fn poll_peek_from(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<SocketAddr>> {
        let room = buf.remaining();
        let mut piece = Vec::new();
        let peeked = ready!(self.registration().poll_io(cx, Direction::Read, |_| {
            // As much as there is, and not as much as there is room for: memory is filled before it is used.
            piece.resize(room.min(self.endpoint.cell.next_len().unwrap_or(0)), 0);
            self.peek_now(&mut piece)
        }));
        Poll::Ready(peeked.map(|(len, sender)| {
            buf.put_slice(&piece[..len]);
            sender
        }))
    }

    /// Like [`UdpSocket::peek_from`], without waiting.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv`].
    pub fn try_peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.registration().try_io(Interest::READABLE, || self.peek_now(buf))
    }

    /// Waits for a datagram and returns its sender.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn peek_sender(&self) -> io::Result<SocketAddr> {
        self.peek_from(&mut []).await.map(|(_, sender)| sender)
    }

    /// The poll form of [`UdpSocket::peek_sender`]. Only the task of the latest call of this or another `poll_`
    /// method that receives or peeks is woken.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`].
    pub fn poll_peek_sender(&self, cx: &mut Context<'_>) -> Poll<io::Result<SocketAddr>> {
        let peeked = self.registration().poll_io(cx, Direction::Read, |_| self.peek_now(&mut []));
        peeked.map_ok(|(_, sender)| sender)
    }

    /// Like [`UdpSocket::peek_sender`], without waiting.
    ///
    /// # Errors
    /// As [`UdpSocket::try_recv`].
    pub fn try_peek_sender(&self) -> io::Result<SocketAddr> {
        self.try_peek_from(&mut []).map(|(_, sender)| sender)
    }

    pub(in crate::net) fn peek_now(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (sender, len) = self.udp().peek(self.core(), &self.endpoint.cell, buf)?;
        Ok((len, sender))
    }
}
