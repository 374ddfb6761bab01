//! [`TcpStream`].

use super::listener::ttl_from;
use super::options::HasOptions;
use super::split::{ReadHalf, WriteHalf, split};
use super::split_owned::{OwnedReadHalf, OwnedWriteHalf, split_owned};
use crate::config::Config;
use crate::error::os;
use crate::net::lookup::{ToSocketAddrs, none_worked, resolve};
use crate::net::readiness::{Direction, Registration, Seen};
use crate::net::stack::{Endpoint, Stack};
use crate::readiness::Events;
use crate::stack::{Cell, Family, Observer, Unconnected};
use crate::tcp::{SendFlags, SocketOptions, TcpInfo};
use bytes::BufMut;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

/// Bytes that are read in one go by way of a buffer on the stack.
const COPY_PIECE: usize = 4096;

/// A TCP connection.
///
/// Reads and writes go through [`AsyncRead`] and [`AsyncWrite`], or through the `try_` methods after
/// [`TcpStream::readable`] or [`TcpStream::writable`]. To read and write at the same time in two
/// tasks, use [`TcpStream::split`] or [`TcpStream::into_split`].
///
/// Dropping it closes the connection in the background: what was written is delivered, then the
/// peer sees the end of the stream; if there is data that was not read, the peer sees a reset.
///
/// # Examples
/// ```
/// use netstack::net::TcpStream;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// # stack.scope(async {
/// # let listener = netstack::net::TcpListener::bind("127.0.0.1:8080").await?;
/// let mut stream = TcpStream::connect("127.0.0.1:8080").await?;
/// stream.write_all(b"hello world!").await?;
/// # std::io::Result::Ok(())
/// # }).await
/// # }
/// ```
pub struct TcpStream {
    inner: Arc<Inner>,
}

struct Inner {
    stack: Stack,
    cell: Arc<Cell>,
    registration: Arc<Registration>,
    closed: AtomicBool,
    /// The SYN may wait for the first write (`TCP_FASTOPEN_CONNECT`).
    deferred: AtomicBool,
    id: u64,
}

impl Endpoint for Inner {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.stack.engine().close(self.stack.now(), &self.cell);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stack.core().forget(self.id);
        self.close();
    }
}

// See `Stack`.
impl std::panic::UnwindSafe for TcpStream {}
impl std::panic::RefUnwindSafe for TcpStream {}

/// Constructors.
impl TcpStream {
    /// Connects to `addr` on the stack of this place. Of several addresses the first that answers
    /// counts; they are tried one after the other.
    ///
    /// # Errors
    /// - [`io::ErrorKind::Unsupported`] if there is no stack here.
    /// - `ECONNREFUSED`, `ETIMEDOUT`, `ENETUNREACH`, `EHOSTUNREACH`, `EADDRNOTAVAIL`: the last
    ///   address failed so.
    /// - [`io::ErrorKind::InvalidInput`] if `addr` cannot be resolved to any address.
    ///
    /// # Cancel safety
    /// Dropping the future gives up: nothing is left of the attempt.
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::connect_on(&Stack::current()?, addr).await
    }

    /// Connects to `addr` on `stack`; otherwise as [`TcpStream::connect`].
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    ///
    /// # Cancel safety
    /// As [`TcpStream::connect`].
    pub async fn connect_on<A: ToSocketAddrs>(stack: &Stack, addr: A) -> io::Result<Self> {
        let mut last = None;
        for addr in resolve(&addr).await? {
            let family = if addr.is_ipv4() { Family::V4 } else { Family::V6 };
            match Self::connect_socket(stack, Unconnected::new(stack.engine(), family), addr).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(none_worked(last))
    }

    pub(super) async fn connect_socket(
        stack: &Stack,
        socket: Unconnected,
        addr: SocketAddr,
    ) -> io::Result<Self> {
        let core = stack.core();
        core.ensure_open()?;
        let registration = Arc::new(Registration::new());
        let cell = core.engine.connect(core.now(), socket, addr, Arc::clone(&registration) as _)?;
        // From here on a drop closes the cell, which ends an attempt that goes on.
        let stream = Self::new(stack, cell, registration);
        if stream.inner.cell.is_deferred() {
            stream.inner.deferred.store(true, Ordering::Relaxed);
            stream.registration().on_ready(Events::WRITABLE);
        }
        let connected =
            || stream.inner.cell.connect_result().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()));
        stream.inner.registration.async_io(Interest::WRITABLE, connected).await?;
        Ok(stream)
    }

    /// A connection that the engine accepted.
    pub(super) fn accepted(stack: &Stack, cell: Arc<Cell>) -> Self {
        let assumed = Events::READABLE | Events::WRITABLE;
        let registration = Arc::new(Registration::assuming(assumed));
        cell.set_observer(Arc::clone(&registration) as _);
        // What happened before the observer was there.
        let closed = Events::READ_CLOSED | Events::WRITE_CLOSED | Events::ERROR;
        registration.on_ready(Events::from_bits(cell.readiness().bits() & closed.bits()));
        Self::new(stack, cell, registration)
    }

    fn new(stack: &Stack, cell: Arc<Cell>, registration: Arc<Registration>) -> Self {
        let core = stack.core();
        let id = core.next_id();
        let inner = Arc::new(Inner {
            stack: stack.clone(),
            cell,
            registration,
            closed: AtomicBool::new(false),
            deferred: AtomicBool::new(false),
            id,
        });
        core.remember(id, &inner);
        Self { inner }
    }
}

/// Addresses, errors, halves.
impl TcpStream {
    /// The stack that this socket belongs to.
    pub fn stack(&self) -> &Stack {
        &self.inner.stack
    }

    /// The local address.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.inner.cell.local_addr())
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// `ENOTCONN` once the connection is over, by a reset for example.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.inner.cell.peer_addr()
    }

    /// `SO_ERROR`: the error that is pending, if any, which is then no longer pending.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.engine().take_error(&self.inner.cell))
    }

    /// Halves to read and to write at the same time, in one task.
    pub fn split<'a>(&'a mut self) -> (ReadHalf<'a>, WriteHalf<'a>) {
        split(self)
    }

    /// Halves that can go to different tasks. The connection closes when both are gone; dropping the
    /// writing half alone shuts down writing.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split_owned(self)
    }

    pub(super) fn shutdown_directions(&self, how: Shutdown) -> io::Result<()> {
        self.engine().shutdown(self.now(), &self.inner.cell, how)
    }

    /// Somebody waits for what the peer sends: a SYN that waits for the first write must not wait any
    /// longer.
    pub(super) fn stop_deferring(&self) {
        if self.inner.deferred.load(Ordering::Relaxed) && self.inner.deferred.swap(false, Ordering::Relaxed) {
            self.engine().open_now(self.now(), &self.inner.cell);
        }
    }

    fn engine(&self) -> &crate::stack::Engine {
        self.inner.stack.engine()
    }

    fn now(&self) -> crate::time::Instant {
        self.inner.stack.now()
    }

    fn registration(&self) -> &Registration {
        &self.inner.registration
    }
}

/// Readiness.
impl TcpStream {
    /// Waits until one of the states of `interest` holds. It may hold no longer when an operation is
    /// tried; the operation then fails with [`io::ErrorKind::WouldBlock`], and waiting works again.
    ///
    /// A state holds until an attempt finds nothing. The ends of the stream count as readable and
    /// writable, and so do errors.
    ///
    /// # Errors
    /// If the stack is over.
    ///
    /// # Cancel safety
    /// Cancel safe.
    ///
    /// # Examples
    /// ```
    /// use tokio::io::Interest;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// # let listener = stack.listen("127.0.0.1:8080").await?;
    /// # let stream = stack.connect("127.0.0.1:8080").await?;
    /// let ready = stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
    /// if ready.is_writable() {
    ///     match stream.try_write(b"hello") {
    ///         Ok(n) => println!("wrote {n} bytes"),
    ///         Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        if interest.is_readable() && !interest.is_writable() {
            self.stop_deferring();
        }
        self.registration().ready(interest).await.map(Seen::ready)
    }

    /// Waits until there is something to read: [`TcpStream::ready`] with [`Interest::READABLE`].
    ///
    /// # Errors
    /// If the stack is over.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn readable(&self) -> io::Result<()> {
        self.ready(Interest::READABLE).await.map(drop)
    }

    /// The poll form of [`TcpStream::readable`]. Only the task of the latest call of this,
    /// `poll_read` or `poll_peek` is woken.
    ///
    /// # Errors
    /// If the stack is over.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stop_deferring();
        self.registration().poll_ready(cx, Direction::Read).map_ok(drop)
    }

    /// Waits until there is room to write: [`TcpStream::ready`] with [`Interest::WRITABLE`].
    ///
    /// # Errors
    /// If the stack is over.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn writable(&self) -> io::Result<()> {
        self.ready(Interest::WRITABLE).await.map(drop)
    }

    /// The poll form of [`TcpStream::writable`]. Only the task of the latest call of this or
    /// `poll_write` is woken.
    ///
    /// # Errors
    /// If the stack is over.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registration().poll_ready(cx, Direction::Write).map_ok(drop)
    }

    /// Calls `attempt`, which uses this stream's own methods, if the states of `interest` hold; if it
    /// returns [`io::ErrorKind::WouldBlock`], they hold no longer.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if none of the states holds; what `attempt` returns.
    pub fn try_io<R>(&self, interest: Interest, attempt: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.registration().try_io(interest, attempt)
    }

    /// Waits for the states of `interest` and calls `attempt`, until it returns something else than
    /// [`io::ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// What `attempt` returns; if the stack is over.
    ///
    /// # Cancel safety
    /// As much as `attempt` is: it is never interrupted.
    pub async fn async_io<R>(
        &self,
        interest: Interest,
        attempt: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        if interest.is_readable() && !interest.is_writable() {
            self.stop_deferring();
        }
        self.registration().async_io(interest, attempt).await
    }
}

/// Reading and writing without waiting, and peeking.
impl TcpStream {
    /// Reads what is there, without waiting. `Ok(0)` is the end of the stream, or an empty buffer.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is nothing; `ECONNRESET` once if the peer reset the
    /// connection, after what was received before.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// # let listener = stack.listen("127.0.0.1:8080").await?;
    /// # let stream = stack.connect("127.0.0.1:8080").await?;
    /// # listener.accept().await?.0.try_write(b"hi")?;
    /// let mut buf = [0; 4096];
    /// let n = loop {
    ///     stream.readable().await?;
    ///     match stream.try_read(&mut buf) {
    ///         Ok(n) => break n,
    ///         // The state held no longer.
    ///         Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
    ///         Err(error) => return Err(error),
    ///     }
    /// };
    /// assert_eq!(&buf[..n], b"hi");
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.registration().try_io(Interest::READABLE, || self.read_now(&mut [IoSliceMut::new(buf)]))
    }

    /// As [`TcpStream::try_read`], into several buffers one after the other.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`].
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.registration().try_io(Interest::READABLE, || self.read_now(bufs))
    }

    /// As [`TcpStream::try_read`], into the free part of `buf` that is in one piece.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`].
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.registration().try_io(Interest::READABLE, || {
            // Memory that is not initialised can only be filled by copying to it.
            let mut piece = [0; COPY_PIECE];
            let (room, mut filled) = (buf.chunk_mut().len(), 0);
            loop {
                let piece = &mut piece[..COPY_PIECE.min(room - filled)];
                let n = self.read_now(&mut [IoSliceMut::new(piece)])?;
                buf.put_slice(&piece[..n]);
                filled += n;
                // Another attempt could meet an error, which is reported once, and lose it.
                if filled == room || n == 0 || self.engine().unread(&self.inner.cell) == 0 {
                    return Ok(filled);
                }
            }
        })
    }

    /// Writes what there is room for, without waiting; it may be a part of `buf`.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no room; `EPIPE` after the own shutdown or if the
    /// peer is gone; `ECONNRESET` once if it reset the connection.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(buf)])
    }

    /// As [`TcpStream::try_write`], from several buffers one after the other.
    ///
    /// # Errors
    /// As [`TcpStream::try_write`].
    pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.registration().try_io(Interest::WRITABLE, || self.write_now(bufs))
    }

    /// As [`TcpStream::try_write`], with the flags of send(2).
    ///
    /// # Errors
    /// As [`TcpStream::try_write`].
    pub fn try_send_with_flags(&self, buf: &[u8], flags: SendFlags) -> io::Result<usize> {
        self.registration().try_io(Interest::WRITABLE, || self.send_now(&[IoSlice::new(buf)], flags))
    }

    /// Writes what there is room for, waiting for the first byte, with the flags of send(2).
    ///
    /// # Errors
    /// As [`TcpStream::try_write`], without [`io::ErrorKind::WouldBlock`].
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has written nothing.
    ///
    /// # Examples
    /// ```
    /// use netstack::net::tcp::SendFlags;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// # let listener = stack.listen("127.0.0.1:8080").await?;
    /// # let stream = stack.connect("127.0.0.1:8080").await?;
    /// // The header waits for the body, so that they share a segment.
    /// stream.send_with_flags(b"4 bytes\n", SendFlags::MORE).await?;
    /// stream.send_with_flags(b"body", SendFlags::NONE).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn send_with_flags(&self, buf: &[u8], flags: SendFlags) -> io::Result<usize> {
        self.registration().async_io(Interest::WRITABLE, || self.send_now(&[IoSlice::new(buf)], flags)).await
    }

    /// Copies what is there, waiting for the first byte, and leaves it to be read. `Ok(0)` is the
    /// end of the stream, or an empty buffer.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`], without [`io::ErrorKind::WouldBlock`].
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has not touched `buf`.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.registration().async_io(Interest::READABLE, || self.peek_now(buf)).await
    }

    /// The poll form of [`TcpStream::peek`]: fills the rest of `buf`. Only the task of the latest
    /// call of this, `poll_read` or `poll_read_ready` is woken.
    ///
    /// # Errors
    /// As [`TcpStream::peek`].
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.stop_deferring();
        let peeked =
            self.registration().poll_io(cx, Direction::Read, |_| self.peek_now(buf.initialize_unfilled()));
        let n = ready!(peeked)?;
        buf.advance(n);
        Poll::Ready(Ok(n))
    }

    fn read_now(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Ok(0);
        }
        self.engine().read(self.now(), &self.inner.cell, bufs)
    }

    fn peek_now(&self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.engine().peek(self.now(), &self.inner.cell, &mut [IoSliceMut::new(buf)])
    }

    fn write_now(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_now(bufs, SendFlags::NONE)
    }

    fn send_now(&self, bufs: &[IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
        self.engine().send(self.now(), &self.inner.cell, bufs, flags)
    }
}

/// What the halves share with the stream: the traits take `Pin<&mut Self>`, the work needs `&self`.
impl TcpStream {
    pub(super) fn poll_read_priv(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stop_deferring();
        let read = self.registration().poll_io(cx, Direction::Read, |seen| {
            let room = buf.initialize_unfilled();
            let wanted = room.len();
            let n = self.read_now(&mut [IoSliceMut::new(room)])?;
            if 0 < n && n < wanted {
                // The queue is empty: the next read waits without trying.
                self.registration().clear(seen);
            }
            Ok(n)
        });
        let n = ready!(read)?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_write_priv(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.registration().poll_io(cx, Direction::Write, |seen| {
            let n = self.write_now(bufs)?;
            if 0 < n && n < bufs.iter().map(|buf| buf.len()).sum() {
                self.registration().clear(seen);
            }
            Ok(n)
        });
        if let Poll::Ready(Ok(n)) = written {
            charge(cx, n);
        }
        written
    }

    pub(super) fn poll_shutdown_priv(&self) -> Poll<io::Result<()>> {
        Poll::Ready(match self.shutdown_directions(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            outcome => outcome,
        })
    }
}

/// Bytes written that cost as much of a task's budget as any one operation does.
///
/// A writer shares its runtime with the reactor, which is the one to find acknowledgments. A task that
/// is in the middle of a long write should let it, after a quarter of a megabyte and not after 128 writes of
/// any size: what is acknowledged soon is still in the cache when its memory is written again.
const BYTES_PER_UNIT: usize = 2048;

/// Takes from the task's budget what writing `n` bytes costs beyond the one unit that is paid.
fn charge(cx: &mut Context<'_>, n: usize) {
    for _ in 0..(n / BYTES_PER_UNIT).saturating_sub(1) {
        if !tokio::task::coop::has_budget_remaining() {
            break;
        }
        if let Poll::Ready(unit) = tokio::task::coop::poll_proceed(cx) {
            unit.made_progress();
        }
    }
}

/// Options that only a connection has; the others are below.
impl TcpStream {
    /// `IP_TTL`. Default 64.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.inner.cell.ttl().into())
    }

    /// Sets `IP_TTL`.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.inner.cell.set_ttl(ttl_from(ttl)?);
        Ok(())
    }

    /// `IP_TOS`: the DSCP in the upper six bits.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a connection over IPv6.
    pub fn tos_v4(&self) -> io::Result<u32> {
        self.traffic_class(Family::V4)
    }

    /// Sets `IP_TOS` of what is sent from now on. The two bits of ECN belong to TCP and are ignored.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a connection over IPv6, `EINVAL` if it does not fit a byte.
    pub fn set_tos_v4(&self, tos: u32) -> io::Result<()> {
        self.set_traffic_class(Family::V4, tos)
    }

    /// `IPV6_TCLASS`: the DSCP in the upper six bits.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a connection over IPv4.
    pub fn tclass_v6(&self) -> io::Result<u32> {
        self.traffic_class(Family::V6)
    }

    /// Sets `IPV6_TCLASS` of what is sent from now on. The two bits of ECN belong to TCP and are
    /// ignored.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for a connection over IPv4, `EINVAL` if it does not fit a byte.
    pub fn set_tclass_v6(&self, tclass: u32) -> io::Result<()> {
        self.set_traffic_class(Family::V6, tclass)
    }

    fn traffic_class(&self, family: Family) -> io::Result<u32> {
        self.ensure_over(family)?;
        Ok(self.inner.cell.traffic_class().into())
    }

    fn set_traffic_class(&self, family: Family, class: u32) -> io::Result<()> {
        self.ensure_over(family)?;
        let class = u8::try_from(class).map_err(|_| os(libc::EINVAL))?;
        self.inner.cell.set_traffic_class(class & !3);
        Ok(())
    }

    /// Fails unless the packets are of this family.
    fn ensure_over(&self, family: Family) -> io::Result<()> {
        let over = if self.inner.cell.key().is_ipv6() { Family::V6 } else { Family::V4 };
        if over == family { Ok(()) } else { Err(os(libc::EOPNOTSUPP)) }
    }

    /// `TCP_QUICKACK`: whether acknowledgments are sent at once.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn quickack(&self) -> io::Result<bool> {
        Ok(self.engine().quickack(&self.inner.cell))
    }

    /// Sets `TCP_QUICKACK`. The stack may change it back.
    ///
    /// # Errors
    /// None; a result for the sake of `tokio::net`.
    pub fn set_quickack(&self, quickack: bool) -> io::Result<()> {
        self.engine().set_quickack(self.now(), &self.inner.cell, quickack);
        Ok(())
    }

    /// `TCP_QUICKACK` under the name of socket2.
    ///
    /// # Errors
    /// None.
    pub fn tcp_quickack(&self) -> io::Result<bool> {
        self.quickack()
    }

    /// Sets `TCP_QUICKACK` under the name of socket2.
    ///
    /// # Errors
    /// None.
    pub fn set_tcp_quickack(&self, quickack: bool) -> io::Result<()> {
        self.set_quickack(quickack)
    }

    /// `TCP_MAXSEG`: payload bytes of a full segment.
    ///
    /// # Errors
    /// As [`TcpStream::tcp_info`].
    pub fn tcp_mss(&self) -> io::Result<u32> {
        Ok(u32::try_from(self.tcp_info()?.snd_mss).unwrap_or(u32::MAX))
    }

    /// `TCP_INFO`: what the connection knows of itself.
    ///
    /// # Errors
    /// `ENOTCONN` if the stack or the device failed and nothing is left of the connection.
    pub fn tcp_info(&self) -> io::Result<TcpInfo> {
        self.engine().info(self.now(), &self.inner.cell).ok_or_else(|| os(libc::ENOTCONN))
    }
}

impl HasOptions for TcpStream {
    fn config(&self) -> &Config {
        self.engine().config()
    }

    fn options(&self) -> SocketOptions {
        self.engine().options(&self.inner.cell)
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> R {
        self.engine().with_options(self.now(), &self.inner.cell, change)
    }

    fn push(&self) {
        self.engine().push(self.now(), &self.inner.cell);
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_read_priv(cx, buf)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_priv(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_priv(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written is on its way already.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Shuts down writing: the peer sees the end of the stream after what was written. Does not wait
    /// for it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown_priv()
    }
}

impl AsRef<Self> for TcpStream {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("TcpStream");
        debug.field("addr", &self.inner.cell.local_addr());
        if let Ok(peer) = self.peer_addr() {
            debug.field("peer", &peer);
        }
        debug.field("id", &self.inner.id).field("stack", &self.inner.stack.name()).finish()
    }
}
