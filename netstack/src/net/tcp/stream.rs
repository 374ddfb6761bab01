//! [`TcpStream`].

mod chunks;
mod fast_open;
mod options;
pub(crate) mod split;
pub(crate) mod split_owned;

use crate::net::core::Endpoint;
use crate::net::lookup::{ToSocketAddrs, none_worked, resolve};
use crate::net::options::ip::socket_family;
use crate::net::readiness::{Direction, Registration, Seen};
use crate::net::stack::Stack;
use crate::readiness::Events;
use crate::reasons::ResetReason;
use crate::stack::{Cell, Engine, Observer, Unconnected};
use crate::tcp::SendFlags;
use crate::time::Instant;
use bytes::BufMut;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

/// Size of the buffer through which bytes are copied into memory that is not initialised.
const COPY_PIECE: usize = 4096;

/// A TCP connection.
///
/// Read and write with [`AsyncRead`] and [`AsyncWrite`], or with the `try_` methods after
/// [`TcpStream::readable`] or [`TcpStream::writable`]. To read and write concurrently, use
/// [`TcpStream::split`] (in one task) or [`TcpStream::into_split`] (in two tasks).
///
/// Dropping the stream closes the connection in the background: data that was written is delivered,
/// and then the peer reads the end of the stream. If there is unread data, the peer gets a reset
/// instead.
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
///
/// # File descriptors
/// There are none, so `from_std`, `into_std`, `AsFd` and `AsRawFd` are left out. Options are set by methods, or with
/// [`SockRef`](crate::net::SockRef) where code uses `socket2`. What has to be a stream of the kernel is connected to
/// this one by `tokio::io::copy_bidirectional`.
pub struct TcpStream {
    endpoint: Arc<StreamEndpoint>,
}

/// What the handle shares with its stack.
struct StreamEndpoint {
    stack: Stack,
    cell: Arc<Cell>,
    registration: Arc<Registration>,
    closed: AtomicBool,
    /// The SYN may be waiting for the first write (`TCP_FASTOPEN_CONNECT`).
    deferred: AtomicBool,
    /// Bytes written since the writing task last yielded here: see [`WRITTEN_PER_TURN`].
    written_since_turn: AtomicUsize,
    /// Such turns, modulo 256.
    turns: AtomicU8,
    id: u64,
}

impl Endpoint for StreamEndpoint {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.stack.engine().with_tcp(self.stack.now(), |tcp, turn| tcp.close(turn, &self.cell));
        }
    }

    /// A stream with something to read is not closed yet, which would throw that away.
    fn runtime_ended(&self) {
        if self.stack.engine().tcp().unread(&self.cell) == 0 {
            self.close();
        }
    }

    /// The peer of a stream that was not read to the end learns of it by a reset, as at close(2). What there
    /// is can still be read.
    fn runtime_is_over(&self) -> bool {
        let engine = self.stack.engine();
        if engine.tcp().unread(&self.cell) == 0 {
            self.close();
            return false;
        }
        engine.with_tcp(self.stack.now(), |tcp, turn| {
            tcp.reset(turn, &self.cell, Some(ResetReason::TcpAbortOnClose));
        });
        true
    }
}

impl Drop for StreamEndpoint {
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
    /// Connects to `addr` on the current stack ([`Stack::current`]). If `addr` resolves to several
    /// addresses, they are tried in turn until one succeeds.
    ///
    /// # Errors
    /// - [`io::ErrorKind::Unsupported`] if there is no current stack.
    /// - `ECONNREFUSED`, `ETIMEDOUT`, `ENETUNREACH`, `EHOSTUNREACH` or `EADDRNOTAVAIL`: the error
    ///   of the last address.
    /// - [`io::ErrorKind::InvalidInput`] if `addr` cannot be resolved to any address.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the attempt and leaves nothing behind.
    pub async fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::connect_on(&Stack::current()?, addr).await
    }

    /// Like [`TcpStream::connect`], on `stack`.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    ///
    /// # Cancel safety
    /// As [`TcpStream::connect`].
    pub async fn connect_on<A: ToSocketAddrs>(stack: &Stack, addr: A) -> io::Result<Self> {
        let (target, mut last) = (addr.to_target(), None);
        for addr in resolve(stack.core().resolver(), target).await? {
            let family = socket_family(addr);
            match Self::connect_socket(
                stack,
                Unconnected::new(stack.engine().core(), stack.engine().tcp(), family),
                addr,
            )
            .await
            {
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
        let cell = core.engine.with_tcp(core.now(), |tcp, turn| {
            tcp.connect(turn, socket, addr, Arc::clone(&registration) as _)
        })?;
        // From here on a drop closes the cell, which ends an attempt that goes on.
        let stream = Self::new(stack, cell, registration);
        if stream.endpoint.cell.is_deferred() {
            stream.endpoint.deferred.store(true, Ordering::Relaxed);
            stream.registration().on_ready(Events::WRITABLE);
        }
        let connected =
            || stream.endpoint.cell.connect_result().unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()));
        stream.endpoint.registration.async_io(Interest::WRITABLE, connected).await?;
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
        let endpoint = Arc::new(StreamEndpoint {
            stack: stack.clone(),
            cell,
            registration,
            closed: AtomicBool::new(false),
            deferred: AtomicBool::new(false),
            written_since_turn: AtomicUsize::new(0),
            turns: AtomicU8::new(0),
            id,
        });
        core.remember(id, &endpoint);
        Self { endpoint }
    }
}

/// Addresses, errors, halves.
impl TcpStream {
    /// The stack that this socket belongs to.
    pub fn stack(&self) -> &Stack {
        &self.endpoint.stack
    }

    /// The local address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.endpoint.cell.local_addr())
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// `ENOTCONN` after the connection has ended, for example by a reset.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.cell.peer_addr()
    }

    /// `SO_ERROR`: the error that has not been reported yet, if there is one. Taking it clears it.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.engine().with_tcp(self.now(), |tcp, turn| tcp.take_error(turn, &self.endpoint.cell)))
    }

    pub(in crate::net) fn shutdown_directions(&self, how: Shutdown) -> io::Result<()> {
        self.engine().with_tcp(self.now(), |tcp, turn| tcp.shutdown(turn, &self.endpoint.cell, how))
    }

    /// Sends a SYN that waits for the first write: the application waits for the peer's data first.
    pub(super) fn stop_deferring(&self) {
        if self.endpoint.deferred.load(Ordering::Relaxed)
            && self.endpoint.deferred.swap(false, Ordering::Relaxed)
        {
            self.engine().with_tcp(self.now(), |tcp, turn| tcp.open_now(turn, &self.endpoint.cell));
        }
    }

    fn engine(&self) -> &Engine {
        self.endpoint.stack.engine()
    }

    fn now(&self) -> Instant {
        self.endpoint.stack.now()
    }

    fn registration(&self) -> &Registration {
        &self.endpoint.registration
    }
}

/// Readiness.
impl TcpStream {
    /// Waits until the stream is in one of the states of `interest`. If it has left the state when
    /// an operation is tried, the operation fails with [`io::ErrorKind::WouldBlock`], and the next
    /// call waits again.
    ///
    /// Readiness is kept until an operation fails with [`io::ErrorKind::WouldBlock`]. The end of
    /// the stream and errors count as readable and writable.
    ///
    /// # Errors
    /// If the stack has ended.
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

    /// Waits until the stream is readable. Equivalent to [`TcpStream::ready`] with
    /// [`Interest::READABLE`].
    ///
    /// # Errors
    /// If the stack has ended.
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
    /// If the stack has ended.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stop_deferring();
        self.registration().poll_ready(cx, Direction::Read).map_ok(drop)
    }

    /// Waits until the stream is writable. Equivalent to [`TcpStream::ready`] with
    /// [`Interest::WRITABLE`].
    ///
    /// # Errors
    /// If the stack has ended.
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
    /// If the stack has ended.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registration().poll_ready(cx, Direction::Write).map_ok(drop)
    }

    /// Calls `attempt`, which should use the methods of this stream, if the stream is ready for
    /// `interest`. If `attempt` returns [`io::ErrorKind::WouldBlock`], the readiness is cleared.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the stream is not ready; otherwise the error of `attempt`.
    pub fn try_io<R>(&self, interest: Interest, attempt: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        self.registration().try_io(interest, attempt)
    }

    /// Waits until the stream is ready for `interest` and calls `attempt`, and repeats this while
    /// `attempt` returns [`io::ErrorKind::WouldBlock`].
    ///
    /// # Errors
    /// The error of `attempt`, or an error if the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe as far as `attempt` is; it is never interrupted.
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
    /// Reads what has been received, without waiting. `Ok(0)` means the end of the stream, or that
    /// `buf` is empty. What was received before the runtime of the stack ended can still be read.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is nothing to read, even if `buf` is empty; `ECONNRESET` once if the peer has
    /// reset the connection, after all data that was received before.
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
    ///         // Another task was faster: wait again.
    ///         Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
    ///         Err(error) => return Err(error),
    ///     }
    /// };
    /// assert_eq!(&buf[..n], b"hi");
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_reading(|| self.read_now(&mut [IoSliceMut::new(buf)]))
    }

    /// As [`TcpStream::try_read`], into several buffers one after the other.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`].
    pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if bufs.iter().all(|buf| buf.is_empty()) {
            // readv(2) does not look at the socket then.
            return Ok(0);
        }
        self.try_reading(|| self.read_now(bufs))
    }

    /// As [`TcpStream::try_read`], into the first contiguous part of the free space of `buf`.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`].
    pub fn try_read_buf<B: BufMut>(&self, buf: &mut B) -> io::Result<usize> {
        self.try_reading(|| {
            // Memory that is not initialised can only be filled by copying to it.
            let mut piece = [0; COPY_PIECE];
            let (room, mut filled) = (buf.chunk_mut().len(), 0);
            loop {
                let piece = &mut piece[..COPY_PIECE.min(room - filled)];
                let n = self.read_now(&mut [IoSliceMut::new(piece)])?;
                buf.put_slice(&piece[..n]);
                filled += n;
                // Another attempt could meet an error, which is reported once, and lose it.
                if filled == room || n == 0 || self.unread() == 0 {
                    return Ok(filled);
                }
            }
        })
    }

    /// Writes as much of `buf` as there is room for, without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no room; `EPIPE` after `shutdown`, or if the
    /// connection has ended; `ECONNRESET` once if the peer has reset the connection.
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

    /// Waits until there is room, and writes as much of `buf` as fits, with the flags of send(2).
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

    /// Waits for data and copies it into `buf`, without removing it from the stream. `Ok(0)` means
    /// the end of the stream, or that `buf` is empty.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`], without [`io::ErrorKind::WouldBlock`].
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has not touched `buf`.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.registration().async_io(Interest::READABLE, || self.peek_now(buf)).await
    }

    /// Like [`TcpStream::peek`], without waiting.
    pub(in crate::net) fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.try_reading(|| self.peek_now(buf))
    }

    /// The poll form of [`TcpStream::peek`]: fills the rest of `buf`. Only the task of the latest
    /// call of this, `poll_read` or `poll_read_ready` is woken.
    ///
    /// # Errors
    /// As [`TcpStream::peek`].
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        self.stop_deferring();
        let peeked = self.registration().poll_io(cx, Direction::Read, |_| self.peek_now(self.room(buf)));
        let n = ready!(peeked)?;
        buf.advance(n);
        Poll::Ready(Ok(n))
    }

    /// The part of `buf` that a read may fill now. Memory has to be initialised before it is filled, so
    /// there is no more of it than can be read, and the cost of a read does not depend on how much room
    /// there is. A byte more than there is to read finds out that there is nothing, or what came since.
    fn room<'a>(&self, buf: &'a mut ReadBuf<'_>) -> &'a mut [u8] {
        let room = buf.remaining();
        if buf.initialized().len() == buf.capacity() {
            return buf.initialize_unfilled_to(room);
        }
        buf.initialize_unfilled_to(room.min(self.unread().max(1)))
    }

    /// Bytes that can be read now.
    pub(in crate::net) fn unread(&self) -> usize {
        self.engine().tcp().unread(&self.endpoint.cell)
    }

    /// Attempts to read, if the stream is readable. What had been received when the stack's runtime ended
    /// can still be read in this way, as from a socket of the kernel.
    fn try_reading<R>(&self, attempt: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        if self.registration().is_over() && self.unread() > 0 {
            return attempt();
        }
        self.registration().try_io(Interest::READABLE, attempt)
    }

    /// Reads into `bufs`. For no bytes at all this is recv(2) of none: it fails with
    /// [`io::ErrorKind::WouldBlock`] if there is nothing to read.
    pub(in crate::net) fn read_now(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.engine().with_tcp(self.now(), |tcp, turn| tcp.read(turn, &self.endpoint.cell, bufs))
    }

    pub(in crate::net) fn peek_now(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.engine().with_tcp(self.now(), |tcp, turn| {
            tcp.peek(turn, &self.endpoint.cell, &mut [IoSliceMut::new(buf)])
        })
    }

    pub(in crate::net) fn write_now(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send_now(bufs, SendFlags::NONE)
    }

    fn send_now(&self, bufs: &[IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
        self.engine().with_tcp(self.now(), |tcp, turn| tcp.send(turn, &self.endpoint.cell, bufs, flags))
    }
}

/// What the halves share with the stream: the traits take `Pin<&mut Self>`, the work needs `&self`.
impl TcpStream {
    pub(super) fn poll_read_priv(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stop_deferring();
        let read = self.registration().poll_io(cx, Direction::Read, |seen| {
            let wanted = buf.remaining();
            let room = self.room(buf);
            let offered = room.len();
            let n = self.read_now(&mut [IoSliceMut::new(room)])?;
            if 0 < n && n < wanted && (n < offered || self.unread() == 0) {
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
        self.poll_writing(cx, || bufs.iter().map(|buf| buf.len()).sum(), || self.write_now(bufs))
    }

    /// Writes by `write` what has `len` bytes.
    fn poll_writing(
        &self,
        cx: &mut Context<'_>,
        len: impl Fn() -> usize,
        write: impl Fn() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let since_turn = &self.endpoint.written_since_turn;
        if since_turn.load(Ordering::Relaxed) >= WRITTEN_PER_TURN {
            since_turn.store(0, Ordering::Relaxed);
            self.endpoint.let_others(cx);
            return Poll::Pending;
        }
        let written = self.registration().poll_io(cx, Direction::Write, |seen| {
            let n = write()?;
            if 0 < n && n < len() {
                self.registration().clear(seen);
            }
            Ok(n)
        });
        match written {
            Poll::Ready(Ok(n)) => {
                since_turn.fetch_add(n, Ordering::Relaxed);
                if n >= MUCH {
                    self.endpoint.stack.core().wakeups.wrote(self.endpoint.cell.queue(), n);
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => since_turn.store(0, Ordering::Relaxed),
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

/// Bytes that a task writes to a stream before others have their turn.
///
/// A writer shares its runtime with other tasks and with the reactor. A task in the middle of a long write should
/// yield to them after half a megabyte, some 80 µs, and not after 128 writes of any size. The task's budget does not
/// count this: a write costs one unit of it, whatever its size.
const WRITTEN_PER_TURN: usize = 512 << 10;

/// Of so many turns of a writer, the runtime looks at all of its events after one, if the acknowledgments are looked for
/// without that.
const TURNS_PER_LOOK: u8 = 2;

impl StreamEndpoint {
    /// Wakes the task that writes once others have had their turn.
    fn let_others(&self, cx: &mut Context<'_>) {
        self.cell.writes_on();
        let looks = self.turns.fetch_add(1, Ordering::Relaxed) % TURNS_PER_LOOK == TURNS_PER_LOOK - 1;
        if !looks && self.stack.core().wakeups.has_looks(self.cell.queue()) {
            cx.waker().wake_by_ref();
        } else {
            // It wakes the task once the runtime has looked at its events, as an exhausted budget does. Forgetting the
            // future does not forget the waker.
            let _ = pin!(tokio::task::yield_now()).poll(cx);
        }
    }
}

/// Writes that may be enough for a look at what was received.
const MUCH: usize = 4096;

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

    /// Does nothing: written data is sent without it.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Shuts down writing: the peer reads the end of the stream after the written data. Does not
    /// wait for that.
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
        debug.field("addr", &self.endpoint.cell.local_addr());
        if let Ok(peer) = self.peer_addr() {
            debug.field("peer", &peer);
        }
        debug.field("id", &self.endpoint.id).field("stack", &self.endpoint.stack.name()).finish()
    }
}
