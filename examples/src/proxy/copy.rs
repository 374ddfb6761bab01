//! Copies one direction of a connection, and knows what has moved.

use super::buffers::Buffers;
use netstack::net::tcp as ours;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::tcp as theirs;

/// The reading half of a connection.
pub trait Source {
    /// Waits until there is something to read.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Reads what there is.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is nothing; those of the connection.
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;
}

impl Source for ours::OwnedReadHalf {
    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, buf)
    }
}

impl Source for theirs::OwnedReadHalf {
    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, buf)
    }
}

/// Copies one direction to its end, which is passed on. A buffer is in use only while there is something to
/// copy: an idle connection has none, and one whose receiver does not read has one.
///
/// # Errors
/// Those of the two connections.
pub async fn copy(
    from: &impl Source,
    to: &mut (impl AsyncWrite + Unpin),
    buffers: &Buffers,
    activity: &Activity,
    bytes: &AtomicU64,
) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = buffers.take();
        loop {
            let len = match from.try_read(&mut buffer) {
                Ok(0) => {
                    activity.closed.fetch_add(1, Ordering::Relaxed);
                    activity.touch();
                    return match to.shutdown().await {
                        // It was reset: who reads from it learns why.
                        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                        result => result,
                    };
                }
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            activity.touch();
            to.write_all(&buffer[..len]).await?;
            activity.touch();
            bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
}

/// What happened on a connection.
#[derive(Debug)]
pub struct Activity {
    begin: Instant,
    /// Milliseconds from the beginning to the last time that something moved.
    last: AtomicU64,
    closed: AtomicU8,
    up: AtomicU64,
    down: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

impl Activity {
    /// Nothing yet.
    pub fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { begin: Instant::now(), last: zero(), closed: AtomicU8::new(0), up: zero(), down: zero() }
    }

    fn touch(&self) {
        self.last.store(self.begin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// The counter of bytes from the client.
    pub fn up(&self) -> &AtomicU64 {
        &self.up
    }

    /// The counter of bytes to the client.
    pub fn down(&self) -> &AtomicU64 {
        &self.down
    }

    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }

    /// Waits until nothing has moved for too long.
    pub(super) async fn idle(&self, idle: Duration, half_closed: Duration) -> io::Error {
        loop {
            let limit = if self.closed.load(Ordering::Relaxed) > 0 { half_closed } else { idle };
            let quiet =
                self.begin.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)));
            match limit.checked_sub(quiet).filter(|left| !left.is_zero()) {
                None => return io::ErrorKind::TimedOut.into(),
                // A direction that closes meanwhile makes the limit shorter.
                Some(left) => tokio::time::sleep(left.min(half_closed)).await,
            }
        }
    }
}
