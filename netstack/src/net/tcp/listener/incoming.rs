//! Streams of the connections of a listener.

use super::TcpListener;
use crate::net::tcp::stream::TcpStream;
use futures_core::Stream;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The connections of a listener, made by [`TcpListener::incoming`]. It never ends.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl<'a> Incoming<'a> {
    pub(super) fn of(listener: &'a TcpListener) -> Self {
        Self { listener }
    }
}

impl Stream for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        next(self.listener, cx)
    }
}

/// A listener as a stream of its connections, which never ends: what `tokio_stream::wrappers::TcpListenerStream`
/// is for tokio's.
///
/// # Examples
/// ```
/// use futures_util::StreamExt;
/// use netstack::net::TcpListenerStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// let listener = stack.listen("127.0.0.1:0").await?;
/// let client = stack.connect(listener.local_addr()?).await?;
/// let mut connections = TcpListenerStream::new(listener);
/// let stream = connections.next().await.unwrap()?;
/// assert_eq!(stream.peer_addr()?, client.local_addr()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct TcpListenerStream {
    listener: TcpListener,
}

impl TcpListenerStream {
    /// The connections of `listener`.
    pub fn new(listener: TcpListener) -> Self {
        Self { listener }
    }

    /// Gives the listener back.
    pub fn into_inner(self) -> TcpListener {
        self.listener
    }
}

impl Stream for TcpListenerStream {
    type Item = io::Result<TcpStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        next(&self.listener, cx)
    }
}

impl AsRef<TcpListener> for TcpListenerStream {
    fn as_ref(&self) -> &TcpListener {
        &self.listener
    }
}

impl AsMut<TcpListener> for TcpListenerStream {
    fn as_mut(&mut self) -> &mut TcpListener {
        &mut self.listener
    }
}

fn next(listener: &TcpListener, cx: &mut Context<'_>) -> Poll<Option<io::Result<TcpStream>>> {
    listener.poll_accept(cx).map_ok(|(stream, _)| stream).map(Some)
}
