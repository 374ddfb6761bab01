//! The services of the contenders, written once for all types that have tokio's traits.

use bytes::Bytes;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that the sinks of this process have read. They measure an inward stream, because data that
/// the client has written may not have arrived.
pub static RECEIVED: AtomicU64 = AtomicU64::new(0);

/// Bytes of one read.
pub(crate) const READ: usize = 128 * 1024;
/// Bytes of one write.
pub(crate) const WRITE: usize = 64 * 1024;
/// Bytes that an echo moves at once.
pub(crate) const ECHO: usize = 16 * 1024;

/// What a contender does with the connections to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Receives bytes and drops them.
    Sink,
    /// Sends bytes as fast as the peer accepts them.
    Source,
    /// Returns bytes.
    Echo,
    /// Returns one byte and then keeps the connection, without a task.
    Hold,
    /// A sink and a source in one.
    Both,
    /// Sends one byte, and waits for the end.
    Greet,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Sink, Self::Source, Self::Echo, Self::Hold, Self::Both, Self::Greet];

    /// Its port.
    pub const fn port(self) -> u16 {
        match self {
            Self::Sink => 5001,
            Self::Source => 5002,
            Self::Echo => 5003,
            Self::Hold => 5004,
            Self::Both => 5005,
            Self::Greet => 5006,
        }
    }

    /// The service at `port`.
    pub fn at(port: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.port() == port)
    }

    /// Serves a connection until it ends.
    ///
    /// # Errors
    /// Those of the stream. A source ends with one.
    pub async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> io::Result<()> {
        match self {
            Self::Sink => sink(stream).await,
            Self::Source => source(stream).await,
            Self::Echo => echo(stream).await,
            Self::Hold => hold(stream).await,
            Self::Both => {
                let (read, write) = tokio::io::split(stream);
                tokio::try_join!(sink(read), source(write)).map(drop)
            }
            Self::Greet => greet(stream).await,
        }
    }
}

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

/// Serves all connections, each as a task of its own, until the runtime ends. Their clients judge how they end.
pub async fn serve<L: Listener>(listener: L, service: Service) {
    loop {
        match listener.accept().await {
            Ok(stream) => drop(tokio::spawn(service.run(stream))),
            // A connection that was reset before it was accepted.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// As [`serve`], with reads and writes of owned buffers where the service is a stream.
pub async fn serve_owned(listener: netstack::net::TcpListener, service: Service) {
    loop {
        let Ok(stream) = Listener::accept(&listener).await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(async move {
            match service {
                Service::Sink => owned_sink(&stream).await,
                Service::Source => owned_source(&stream).await,
                Service::Both => tokio::try_join!(owned_sink(&stream), owned_source(&stream)).map(drop),
                Service::Echo | Service::Hold | Service::Greet => service.run(stream).await,
            }
        });
    }
}

/// What happens to a connection of a stack that accepts those of all addresses and ports.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Serves a connection to `port`, until it ends.
    fn connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        to: std::net::SocketAddr,
    ) -> impl Future<Output = ()> + Send;
}

/// The services themselves, at any address.
#[derive(Clone, Copy, Debug)]
pub struct Local;

impl Handler for Local {
    async fn connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        to: std::net::SocketAddr,
    ) {
        if let Some(service) = Service::at(to.port()) {
            // Its client judges how it ends.
            let _ = service.run(stream).await;
        }
    }
}

/// Reads and drops everything, and counts it in [`RECEIVED`].
async fn sink(mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
    let mut buf = vec![0; READ];
    loop {
        match stream.read(&mut buf).await? {
            0 => return Ok(()),
            len => RECEIVED.fetch_add(len as u64, Ordering::Relaxed),
        };
    }
}

/// Writes until the peer closes the connection.
async fn source(mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    let buf = vec![0x5a; WRITE];
    loop {
        stream.write_all(&buf).await?;
    }
}

/// As [`sink`], of the buffers that the stack received.
async fn owned_sink(stream: &netstack::net::TcpStream) -> io::Result<()> {
    while let Some(chunk) = stream.read_chunk().await? {
        RECEIVED.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// As [`source`], of one buffer over and over.
async fn owned_source(stream: &netstack::net::TcpStream) -> io::Result<()> {
    let buf = Bytes::from(vec![0x5a; WRITE]);
    loop {
        stream.write_all_chunks(&mut [buf.clone()]).await?;
    }
}

/// Returns everything.
async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut buf = vec![0; ECHO];
    loop {
        let len = stream.read(&mut buf).await?;
        if len == 0 {
            return Ok(());
        }
        stream.write_all(&buf[..len]).await?;
        stream.flush().await?;
    }
}

/// Echoes one byte and keeps the connection for as long as the process lives. No task and no buffer remains, so
/// that the memory of an idle connection is that of the stack and of its socket.
async fn hold(mut stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> io::Result<()> {
    let byte = stream.read_u8().await?;
    stream.write_u8(byte).await?;
    stream.flush().await?;
    Box::leak(Box::new(stream));
    Ok(())
}

/// Says that the connection is accepted, and waits until the client has gone.
async fn greet(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_u8(7).await?;
    stream.flush().await?;
    stream.read_u8().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_a_port_of_its_own() {
        for service in Service::ALL {
            assert_eq!(Service::at(service.port()), Some(service));
        }
        assert_eq!(Service::at(80), None);
    }

    #[tokio::test]
    async fn a_greeting_is_sent_and_an_echo_returned() {
        let (mut client, server) = tokio::io::duplex(64);
        tokio::spawn(Service::Greet.run(server));
        assert_eq!(client.read_u8().await.unwrap(), 7);
        let (mut client, server) = tokio::io::duplex(64);
        tokio::spawn(Service::Echo.run(server));
        client.write_all(b"there and back").await.unwrap();
        let mut back = [0; 14];
        client.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"there and back");
    }
}
