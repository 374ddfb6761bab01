//! The services of the contenders with sockets, written once for all types that have tokio's
//! traits.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

pub use crate::limit::{ECHO_PORT, SINK_PORT, SOURCE_PORT};

/// The port where a byte is returned and the stream is then kept open, without a task.
pub const HOLD_PORT: u16 = 5004;

/// Bytes that the sinks of this process have read. They measure an inward stream, because data that
/// the client has written may not have arrived.
pub static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// Maximum number of connections that are kept at [`HOLD_PORT`].
const MAX_HELD: usize = 1 << 20;

/// Bytes of one read.
const READ: usize = 128 * 1024;
/// Bytes of one write.
const WRITE: usize = 64 * 1024;
/// Bytes that an echo moves at once.
const ECHO: usize = 16 * 1024;

/// A listener of tokio or of netstack.
pub trait Listener: Send + Sync + 'static {
    /// The type of accepted streams.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection, without Nagle's algorithm.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for tokio::net::TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Listener for netstack::net::TcpListener {
    type Stream = netstack::net::TcpStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// The listeners of one contender.
#[derive(Debug)]
pub struct Listeners<L> {
    /// At [`SINK_PORT`].
    pub sink: L,
    /// At [`SOURCE_PORT`].
    pub source: L,
    /// At [`ECHO_PORT`].
    pub echo: L,
    /// At [`HOLD_PORT`].
    pub hold: L,
}

/// Serves all connections, each as a task of its own, until the runtime ends.
pub async fn serve<L: Listener>(listeners: Listeners<L>) {
    let Listeners { sink: sinks, source: sources, echo: echoes, hold: holds } = listeners;
    tokio::join!(each(sinks, sink), each(sources, source), each(echoes, echo), hold(holds));
}

/// Spawns `service` for each connection. Its client judges how it ends.
async fn each<L: Listener, F>(listener: L, service: impl Fn(L::Stream) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok(stream) => drop(tokio::spawn(service(stream))),
            // A connection that was reset before it was accepted.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Reads and drops everything, and counts it in [`RECEIVED`].
///
/// # Errors
/// Those of the stream.
pub async fn sink(mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
    let mut buf = vec![0; READ];
    loop {
        match stream.read(&mut buf).await? {
            0 => return Ok(()),
            len => RECEIVED.fetch_add(len as u64, Ordering::Relaxed),
        };
    }
}

/// Writes until the peer closes the connection.
///
/// # Errors
/// Those of the stream; it ends with one.
pub async fn source(mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    let buf = vec![0x5a; WRITE];
    loop {
        stream.write_all(&buf).await?;
    }
}

/// Returns everything.
///
/// # Errors
/// Those of the stream.
pub async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut buf = vec![0; ECHO];
    loop {
        let len = stream.read(&mut buf).await?;
        if len == 0 {
            return Ok(());
        }
        stream.write_all(&buf[..len]).await?;
    }
}

/// Echoes one byte on each connection and keeps the connection. No task and no buffer remains, so
/// that the memory of an idle connection is that of the stack alone.
async fn hold<L: Listener>(listener: L) {
    let (keep, mut kept) = mpsc::unbounded_channel();
    let first_byte = async |mut stream: L::Stream| {
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        Ok::<_, io::Error>(stream)
    };
    let accept = async {
        loop {
            let Ok(stream) = listener.accept().await else { continue };
            // One after the other, as the client opens them. One that fails is not kept.
            if let Ok(stream) = first_byte(stream).await {
                let _ = keep.send(stream);
            }
        }
    };
    let hold = async {
        let mut held = Vec::with_capacity(1024);
        while let Some(stream) = kept.recv().await {
            if held.len() < MAX_HELD {
                held.push(stream);
            }
        }
    };
    tokio::join!(accept, hold);
}
