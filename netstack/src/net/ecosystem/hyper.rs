//! Clients of the crate `hyper-util`, of version 0.1, on the sockets of a stack. Servers need nothing of this:
//! they take a [`TcpStream`] in a `hyper_util::rt::TokioIo`.

use crate::net::stack::Stack;
use crate::net::tcp::TcpStream;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_service::Service;

/// A connection of a client's pool: neither to a proxy nor known to speak HTTP/2.
impl Connection for TcpStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Connects the clients of others to servers, over a stack.
///
/// It is a tower `Service` of two kinds of target:
/// - of a [`Uri`], which is what `hyper_util::client::legacy::Client`, `hyper_rustls::HttpsConnector` and
///   `tonic::transport::Endpoint` ask for. The host is looked up by the resolver of the stack; without a port, it
///   is 443 for the schemes `https` and `wss`, and 80 for all others. TLS is what wraps the connector.
/// - of a [`SocketAddr`], for code that is built on tower's `MakeConnection`.
///
/// # Examples
/// ```
/// use hyper_util::client::legacy::Client;
/// use hyper_util::rt::TokioExecutor;
/// use netstack::net::hyper::Connector;
///
/// # fn example(stack: &netstack::Stack) {
/// let connector = Connector::new(stack).nodelay(true);
/// let client: Client<_, String> = Client::builder(TokioExecutor::new()).build(connector);
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Connector {
    /// None: the one that is current when a connection is asked for.
    stack: Option<Stack>,
    nodelay: bool,
    timeout: Option<Duration>,
}

impl Connector {
    /// Connects over `stack`. [`Connector::default`] connects over the [current](Stack::current) stack.
    pub fn new(stack: &Stack) -> Self {
        Self { stack: Some(stack.clone()), ..Self::default() }
    }

    /// Sets `TCP_NODELAY` of the connections. Default false, as hyper-util's `HttpConnector`.
    #[must_use]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// For how long an attempt may last, all addresses of a name and the lookup together; then it fails with
    /// [`io::ErrorKind::TimedOut`]. Default none: as long as TCP tries.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Option<Duration>) -> Self {
        self.timeout = limit;
        self
    }

    async fn connect(self, target: Target) -> io::Result<TcpStream> {
        let stack = match self.stack {
            Some(stack) => stack,
            None => Stack::current()?,
        };
        let connecting = async {
            match target {
                Target::Address(addr) => TcpStream::connect_on(&stack, addr).await,
                Target::Name(host, port) => TcpStream::connect_on(&stack, (host, port)).await,
            }
        };
        let stream = match self.timeout {
            Some(limit) => tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the connection was not made in time"))
            }),
            None => connecting.await,
        }?;
        if self.nodelay {
            stream.set_nodelay(true)?;
        }
        Ok(stream)
    }
}

enum Target {
    Address(SocketAddr),
    Name(String, u16),
}

impl Target {
    fn of(uri: &Uri) -> io::Result<Self> {
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("there is no host in the URI `{uri}`"))
        })?;
        let default = if matches!(uri.scheme_str(), Some("https" | "wss")) { 443 } else { 80 };
        // An IPv6 address is in brackets there.
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Ok(Self::Name(host.to_owned(), uri.port_u16().unwrap_or(default)))
    }
}

/// A connection that is being made.
pub type Connecting<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Connecting<TokioIo<TcpStream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connector, target) = (self.clone(), Target::of(&uri));
        Box::pin(async move { connector.connect(target?).await.map(TokioIo::new) })
    }
}

impl Service<SocketAddr> for Connector {
    type Response = TcpStream;
    type Error = io::Error;
    type Future = Connecting<TcpStream>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, addr: SocketAddr) -> Self::Future {
        Box::pin(self.clone().connect(Target::Address(addr)))
    }
}
