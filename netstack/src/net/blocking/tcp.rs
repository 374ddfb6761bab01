//! TCP.

use super::mode::Mode;
use crate::net::lookup::{ToSocketAddrs, resolve_blocking};
use crate::net::park::block_on;
use crate::net::stack::Stack;
use crate::net::tcp as asynchronous;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A TCP connection: `std::net::TcpStream`. It can be read and written through a shared reference, too.
///
/// Dropping the last clone closes it as [`net::TcpStream`](crate::net::TcpStream) does.
pub struct TcpStream {
    shared: Arc<Stream>,
}

struct Stream {
    stream: asynchronous::TcpStream,
    mode: Mode,
}

impl TcpStream {
    /// Connects to `addr` on the current stack. If it resolves to several addresses, they are tried in turn.
    ///
    /// # Errors
    /// As [`net::TcpStream::connect`](crate::net::TcpStream::connect).
    pub fn connect<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::connect_on(&Stack::current()?, addr)
    }

    /// Like [`TcpStream::connect`], on `stack`.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub fn connect_on<A: ToSocketAddrs>(stack: &Stack, addr: A) -> io::Result<Self> {
        let addresses = resolve_blocking(stack.core().resolver(), addr.to_target())?;
        let connecting = asynchronous::TcpStream::connect_on(stack, &addresses[..]);
        block_on(connecting, None).expect("it waits without a limit").map(Self::from)
    }

    /// Connects to `addr` on the current stack, for at most `timeout`.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if the time has passed; [`io::ErrorKind::InvalidInput`] if it is zero; as
    /// [`TcpStream::connect`].
    pub fn connect_timeout(addr: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        Self::connect_timeout_on(&Stack::current()?, addr, timeout)
    }

    /// Like [`TcpStream::connect_timeout`], on `stack`.
    ///
    /// # Errors
    /// As [`TcpStream::connect_timeout`].
    pub fn connect_timeout_on(stack: &Stack, addr: &SocketAddr, timeout: Duration) -> io::Result<Self> {
        if timeout.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "cannot set a 0 duration timeout"));
        }
        let connecting = asynchronous::TcpStream::connect_on(stack, *addr);
        let timed_out = || Err(io::Error::new(io::ErrorKind::TimedOut, "connection timed out"));
        block_on(connecting, Some(timeout)).unwrap_or_else(timed_out).map(Self::from)
    }

    /// The stream itself, with all its options.
    pub fn get_ref(&self) -> &asynchronous::TcpStream {
        &self.shared.stream
    }

    /// The stream itself, if this is the last clone.
    ///
    /// # Errors
    /// This clone, if there are others.
    pub fn try_into_inner(self) -> Result<asynchronous::TcpStream, Self> {
        match Arc::try_unwrap(self.shared) {
            Ok(Stream { stream, mode: _ }) => Ok(stream),
            Err(shared) => Err(Self { shared }),
        }
    }

    /// Another handle to the same connection.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { shared: Arc::clone(&self.shared) })
    }

    /// The address of the peer.
    ///
    /// # Errors
    /// `ENOTCONN` after the connection has ended.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.shared.stream.peer_addr()
    }

    /// The local address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.stream.local_addr()
    }

    /// Shuts down reading, writing or both. Readers that are blocked see the end of the stream.
    ///
    /// # Errors
    /// `ENOTCONN` if the connection is over.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.shared.stream.shutdown_directions(how)
    }

    /// Sets for how long reading blocks at most, for all clones. Then it fails with
    /// [`io::ErrorKind::WouldBlock`]. Default none.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if it is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.mode.read.set(timeout)
    }

    /// As [`TcpStream::set_read_timeout`], for writing. A write that has written something by then succeeds with
    /// that.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if it is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.shared.mode.write.set(timeout)
    }

    /// For how long reading blocks.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.shared.mode.read.get())
    }

    /// For how long writing blocks.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.shared.mode.write.get())
    }

    /// Waits for data and copies it into `buf`, without removing it from the stream.
    ///
    /// # Errors
    /// As reading.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let Stream { stream, mode } = &*self.shared;
        mode.block(&mode.read, || stream.readable(), || stream.try_peek(buf))
    }

    /// `TCP_NODELAY`. Default false.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.shared.stream.nodelay()
    }

    /// Sets `TCP_NODELAY`.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.shared.stream.set_nodelay(nodelay)
    }

    /// `IP_TTL`. Default 64.
    pub fn ttl(&self) -> io::Result<u32> {
        self.shared.stream.ttl()
    }

    /// Sets `IP_TTL`.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.shared.stream.set_ttl(ttl)
    }

    /// `SO_ERROR`: the error that has not been reported yet, if there is one. Taking it clears it.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.shared.stream.take_error()
    }

    /// Sets whether reading and writing fail with [`io::ErrorKind::WouldBlock`] instead of blocking, for all
    /// clones. Default false.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.shared.mode.set_nonblocking(nonblocking);
        Ok(())
    }
}

impl From<asynchronous::TcpStream> for TcpStream {
    fn from(stream: asynchronous::TcpStream) -> Self {
        Self { shared: Arc::new(Stream { stream, mode: Mode::default() }) }
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Stream { stream, mode } = &*self.shared;
        if buf.is_empty() {
            return Ok(0);
        }
        mode.block(&mode.read, || stream.readable(), || stream.try_read(buf))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let Stream { stream, mode } = &*self.shared;
        mode.block(&mode.read, || stream.readable(), || stream.try_read_vectored(bufs))
    }
}

/// A write that blocks goes on until all is written, as one of the kernel does.
impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let Stream { stream, mode } = &*self.shared;
        let mut written = 0;
        let attempt = || {
            loop {
                let result = stream.try_write(&buf[written..]);
                match result {
                    Ok(n) => written += n,
                    // What was written counts; an error of the connection comes back.
                    Err(error) if written == 0 || error.kind() == io::ErrorKind::WouldBlock => {
                        return Err(error);
                    }
                    Err(_) => return Ok(()),
                }
                if written == buf.len() {
                    return Ok(());
                }
            }
        };
        match mode.block(&mode.write, || stream.writable(), attempt) {
            Err(error) if written == 0 => Err(error),
            Ok(()) | Err(_) => Ok(written),
        }
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let Stream { stream, mode } = &*self.shared;
        mode.block(&mode.write, || stream.writable(), || stream.try_write_vectored(bufs))
    }

    /// Does nothing: written data is sent without it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.stream.fmt(f)
    }
}

/// A TCP socket that listens for connections: `std::net::TcpListener`.
pub struct TcpListener {
    shared: Arc<Listener>,
}

struct Listener {
    listener: asynchronous::TcpListener,
    mode: Mode,
}

impl TcpListener {
    /// Listens on `addr` on the current stack. If it resolves to several addresses, they are tried in turn.
    ///
    /// # Errors
    /// As [`net::TcpListener::bind`](crate::net::TcpListener::bind).
    pub fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::bind_on(&Stack::current()?, addr)
    }

    /// Like [`TcpListener::bind`], on `stack`.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub fn bind_on<A: ToSocketAddrs>(stack: &Stack, addr: A) -> io::Result<Self> {
        let addresses = resolve_blocking(stack.core().resolver(), addr.to_target())?;
        let binding = asynchronous::TcpListener::bind_on(stack, &addresses[..]);
        block_on(binding, None).expect("it waits without a limit").map(Self::from)
    }

    /// The listener itself, with all its options.
    pub fn get_ref(&self) -> &asynchronous::TcpListener {
        &self.shared.listener
    }

    /// The address and port that the listener is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.shared.listener.local_addr()
    }

    /// Another handle to the same listener.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { shared: Arc::clone(&self.shared) })
    }

    /// Waits for a connection and returns it with the address of the peer.
    ///
    /// # Errors
    /// As [`net::TcpListener::accept`](crate::net::TcpListener::accept); [`io::ErrorKind::WouldBlock`] if there is none
    /// and the listener does not block.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Listener { listener, mode } = &*self.shared;
        let (stream, peer) = mode.block(&mode.read, || listener.readable(), || listener.try_accept())?;
        Ok((stream.into(), peer))
    }

    /// The connections of this listener, which never end.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// `IP_TTL`. Default 64.
    pub fn ttl(&self) -> io::Result<u32> {
        self.shared.listener.ttl()
    }

    /// Sets `IP_TTL`. Connections that are accepted later inherit it.
    ///
    /// # Errors
    /// `EINVAL` if it is not 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.shared.listener.set_ttl(ttl)
    }

    /// Sets whether accepting fails with [`io::ErrorKind::WouldBlock`] instead of blocking, for all clones. Default
    /// false. The connections block.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.shared.mode.set_nonblocking(nonblocking);
        Ok(())
    }
}

impl From<asynchronous::TcpListener> for TcpListener {
    fn from(listener: asynchronous::TcpListener) -> Self {
        Self { shared: Arc::new(Listener { listener, mode: Mode::default() }) }
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.listener.fmt(f)
    }
}

/// The connections of a listener: an iterator that never ends.
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        Some(self.listener.accept().map(|(stream, _)| stream))
    }
}

impl std::iter::FusedIterator for Incoming<'_> {}
