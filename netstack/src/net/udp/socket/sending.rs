//! Sending datagrams.

use super::UdpSocket;
use crate::net::lookup::{Target, ToSocketAddrs, resolve_first};
use crate::net::readiness::Direction;
use crate::stack::Transmission;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use tokio::io::Interest;

/// Sending.
impl UdpSocket {
    /// The poll form of [`UdpSocket::writable`]. Only the task of the latest call of this, `poll_send`,
    /// `poll_send_to` or `poll_send_msg` is woken.
    ///
    /// # Errors
    /// If the stack has ended.
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registration().poll_ready(cx, Direction::Write).map_ok(drop)
    }

    /// Sends a datagram to the peer that the socket is connected to, and returns its length.
    ///
    /// # Errors
    /// `EDESTADDRREQ` if the socket is not connected; `EMSGSIZE` if the datagram is too long; an ICMP error of
    /// an earlier datagram, such as `ECONNREFUSED`, and then this one is not sent; the error of the device.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has sent nothing.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        let message = Transmission::new(buf);
        self.registration().async_io(Interest::WRITABLE, || self.send_now(&message)).await
    }

    /// The poll form of [`UdpSocket::send`]. Only the task of the latest call of this, `poll_send_ready`,
    /// `poll_send_to` or `poll_send_msg` is woken.
    ///
    /// # Errors
    /// As [`UdpSocket::send`].
    pub fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let message = Transmission::new(buf);
        self.registration().poll_io(cx, Direction::Write, |_| self.send_now(&message))
    }

    /// Like [`UdpSocket::send`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no room in the send buffer; as [`UdpSocket::send`].
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        let message = Transmission::new(buf);
        self.registration().try_io(Interest::WRITABLE, || self.send_now(&message))
    }

    /// Sends a datagram to `addr`, and returns its length. If `addr` resolves to several addresses, it is sent
    /// to the first one.
    ///
    /// # Errors
    /// - As [`UdpSocket::send`], without `EDESTADDRREQ`.
    /// - `EINVAL` for port 0; `EAFNOSUPPORT` for an IPv6 address and an IPv4 socket; `ENETUNREACH`; `EACCES` for
    ///   a broadcast address without [`UdpSocket::set_broadcast`].
    /// - [`io::ErrorKind::InvalidInput`] if `addr` resolves to no address.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has sent nothing.
    pub async fn send_to<A: ToSocketAddrs>(&self, buf: &[u8], addr: A) -> io::Result<usize> {
        let destination = match addr.to_target() {
            Ok(Target::Address(address)) => address,
            target => self.first_of(target).await?,
        };
        let send =
            || self.send_now(&Transmission { destination: Some(destination), ..Transmission::new(buf) });
        self.registration().async_io(Interest::WRITABLE, send).await
    }

    /// The poll form of [`UdpSocket::send_to`]. Only the task of the latest call of this, `poll_send_ready`,
    /// `poll_send` or `poll_send_msg` is woken.
    ///
    /// # Errors
    /// As [`UdpSocket::send_to`].
    pub fn poll_send_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let message = Transmission { destination: Some(target), ..Transmission::new(buf) };
        self.registration().poll_io(cx, Direction::Write, |_| self.send_now(&message))
    }

    /// Like [`UdpSocket::send_to`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no room in the send buffer; as [`UdpSocket::send_to`].
    pub fn try_send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        let message = Transmission { destination: Some(target), ..Transmission::new(buf) };
        self.registration().try_io(Interest::WRITABLE, || self.send_now(&message))
    }

    /// The first address of what the caller named.
    async fn first_of(&self, target: io::Result<Target>) -> io::Result<SocketAddr> {
        let first = resolve_first(self.endpoint.stack.core().resolver(), target).await?;
        first.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no addresses to send data to"))
    }

    #[inline]
    pub(in crate::net) fn send_now(&self, message: &Transmission<'_>) -> io::Result<usize> {
        let stack = &self.endpoint.stack;
        stack.engine().with_udp(stack.now(), |udp, turn| udp.send(turn, &self.endpoint.cell, message))
    }
}
