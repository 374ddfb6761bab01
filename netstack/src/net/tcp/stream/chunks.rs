//! Reading and writing without a copy.

use super::TcpStream;
use crate::net::readiness::Direction;
use bytes::{Buf, Bytes};
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use tokio::io::Interest;

/// Reading and writing without a copy.
///
/// # How long buffers are held
/// What a method here reads is the buffer that the device received it in, or one in which small payloads were
/// gathered: 64 KiB at most. It is held until the last clone and the last slice of it is dropped, and no longer
/// counts against the receive buffer of the connection; an application that keeps little of much copies what it
/// keeps.
///
/// What is written is held until the peer has acknowledged all of the piece, since it may have to be sent again;
/// after the stream is dropped, too. A piece of less than 2 KiB is copied and not held. The send buffer counts
/// both alike.
impl TcpStream {
    /// Waits for data and takes what was received first, without a copy, in the size in which it is there. `None`
    /// is the end of the stream.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`], without [`io::ErrorKind::WouldBlock`].
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has taken nothing.
    ///
    /// # Examples
    /// ```
    /// use bytes::Bytes;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// # let listener = stack.listen("127.0.0.1:0").await?;
    /// # let client = stack.connect(listener.local_addr()?).await?;
    /// # let (server, _) = listener.accept().await?;
    /// client.write_all_chunks(&mut [Bytes::from_static(b"hello ")]).await?;
    /// client.write_all_chunks(&mut [Bytes::from(vec![b'x'; 10_000])]).await?;
    /// drop(client);
    /// let mut received = 0;
    /// while let Some(chunk) = server.read_chunk().await? {
    ///     received += chunk.len();
    /// }
    /// assert_eq!(received, 10_006);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_chunk(&self) -> io::Result<Option<Bytes>> {
        self.stop_deferring();
        self.registration().async_io(Interest::READABLE, || self.read_chunk_now()).await
    }

    /// The poll form of [`TcpStream::read_chunk`]. Only the task of the latest call of this, `poll_read`, `poll_peek` or
    /// `poll_read_ready` is woken.
    ///
    /// # Errors
    /// As [`TcpStream::read_chunk`].
    pub fn poll_read_chunk(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        self.stop_deferring();
        self.registration().poll_io(cx, Direction::Read, |_| self.read_chunk_now())
    }

    /// Like [`TcpStream::read_chunk`], without waiting.
    ///
    /// # Errors
    /// As [`TcpStream::try_read`].
    pub fn try_read_chunk(&self) -> io::Result<Option<Bytes>> {
        self.try_reading(|| self.read_chunk_now())
    }

    /// Waits for data and fills `chunks` with what is there, in order, as [`TcpStream::read_chunk`] does one by one.
    /// Returns how many are in use; 0 is the end of the stream, or that there is no place.
    ///
    /// # Errors
    /// As [`TcpStream::read_chunk`].
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has taken nothing.
    pub async fn read_chunks(&self, chunks: &mut [Bytes]) -> io::Result<usize> {
        let Some((first, others)) = chunks.split_first_mut() else { return Ok(0) };
        let Some(chunk) = self.read_chunk().await? else { return Ok(0) };
        *first = chunk;
        let mut used = 1;
        for place in others {
            // Only what is there: an attempt that finds none could meet an error, which is reported once.
            if self.unread() == 0 {
                break;
            }
            let Some(chunk) = self.read_chunk_now()? else { break };
            *place = chunk;
            used += 1;
        }
        Ok(used)
    }

    /// Waits until there is room, and writes as much of `chunk` as fits, without a copy. What is left of it are the
    /// bytes that are still to be written. Returns how many were written.
    ///
    /// # Errors
    /// As [`TcpStream::try_write`], without [`io::ErrorKind::WouldBlock`].
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has written nothing.
    pub async fn write_chunk(&self, chunk: &mut Bytes) -> io::Result<usize> {
        self.write_chunks(std::slice::from_mut(chunk)).await
    }

    /// As [`TcpStream::write_chunk`], of several chunks one after the other. Those that were written whole are empty
    /// then.
    ///
    /// # Errors
    /// As [`TcpStream::write_chunk`].
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has written nothing.
    pub async fn write_chunks(&self, chunks: &mut [Bytes]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_write_chunks(cx, chunks)).await
    }

    /// Writes all of the chunks, which are empty then.
    ///
    /// # Errors
    /// As [`TcpStream::write_chunk`]. What is left of the chunks was not written.
    ///
    /// # Cancel safety
    /// If the future is dropped, what is left of the chunks was not written.
    pub async fn write_all_chunks(&self, chunks: &mut [Bytes]) -> io::Result<()> {
        while chunks.iter().any(|chunk| !chunk.is_empty()) {
            self.write_chunks(chunks).await?;
        }
        Ok(())
    }

    /// The poll form of [`TcpStream::write_chunks`]. Only the task of the latest call of this, `poll_write` or
    /// `poll_write_ready` is woken.
    ///
    /// # Errors
    /// As [`TcpStream::write_chunk`].
    pub fn poll_write_chunks(&self, cx: &mut Context<'_>, chunks: &mut [Bytes]) -> Poll<io::Result<usize>> {
        let len = || chunks.iter().map(Bytes::len).sum();
        let written = std::task::ready!(self.poll_writing(cx, len, || self.write_chunks_now(chunks)))?;
        advance(chunks, written);
        Poll::Ready(Ok(written))
    }

    /// Like [`TcpStream::write_chunks`], without waiting.
    ///
    /// # Errors
    /// As [`TcpStream::try_write`].
    pub fn try_write_chunks(&self, chunks: &mut [Bytes]) -> io::Result<usize> {
        let written = self.registration().try_io(Interest::WRITABLE, || self.write_chunks_now(chunks))?;
        advance(chunks, written);
        Ok(written)
    }

    fn read_chunk_now(&self) -> io::Result<Option<Bytes>> {
        let chunk =
            self.engine().with_tcp(self.now(), |tcp, turn| tcp.read_chunk(turn, &self.endpoint.cell))?;
        Ok(chunk.map(Bytes::from_owner))
    }

    fn write_chunks_now(&self, chunks: &[Bytes]) -> io::Result<usize> {
        self.engine().with_tcp(self.now(), |tcp, turn| tcp.write_shared(turn, &self.endpoint.cell, chunks))
    }
}

/// Takes the first `written` bytes away.
fn advance(chunks: &mut [Bytes], mut written: usize) {
    for chunk in chunks {
        let n = written.min(chunk.len());
        chunk.advance(n);
        written -= n;
    }
}
