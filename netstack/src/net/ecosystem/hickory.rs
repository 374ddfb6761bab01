//! Names by DNS, over the sockets of a stack: the resolver of the crate `hickory-resolver`, of version 0.26.
//!
//! [`StackBuilder::dns`] gives a stack name servers. [`StackProvider`] is for applications that use hickory
//! themselves, with its cache, its options and its other types of records.

use crate::net::resolver::{Resolve, Resolver};
use crate::net::stack::builder::StackBuilder;
use crate::net::stack::{Stack, WeakStack};
use crate::net::tcp::{TcpSocket, TcpStream};
use crate::net::udp::UdpSocket;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioHandle, TokioTime};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::timeout;

/// How long connecting to a name server may take, unless hickory says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type Pending<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// The sockets of a stack, for hickory.
///
/// # Examples
/// ```no_run
/// use hickory_resolver::{Resolver, config::ResolverConfig};
/// use netstack::net::hickory::StackProvider;
///
/// # async fn example(stack: &netstack::Stack) -> Result<(), Box<dyn std::error::Error>> {
/// # let config = ResolverConfig::default();
/// let resolver = Resolver::builder_with_config(config, StackProvider::new(stack)).build()?;
/// let mail = resolver.mx_lookup("example.org.").await?;
/// # drop(mail);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StackProvider {
    stack: Stack,
    handle: TokioHandle,
}

impl StackProvider {
    /// The sockets of `stack`. hickory's own tasks run on the tokio runtime that asks for the first name.
    pub fn new(stack: &Stack) -> Self {
        Self { stack: stack.clone(), handle: TokioHandle::default() }
    }
}

impl fmt::Debug for StackProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackProvider").field("stack", &self.stack.name()).finish_non_exhaustive()
    }
}

impl RuntimeProvider for StackProvider {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.handle.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        wait: Option<Duration>,
    ) -> Pending<Self::Tcp> {
        let stack = self.stack.clone();
        Box::pin(async move {
            let socket = match server {
                SocketAddr::V4(_) => TcpSocket::new_v4_on(&stack),
                SocketAddr::V6(_) => TcpSocket::new_v6_on(&stack),
            }?;
            if let Some(local) = local {
                socket.bind(local)?;
            }
            socket.set_nodelay(true)?;
            let connected = timeout(wait.unwrap_or(CONNECT_TIMEOUT), socket.connect(server)).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(AsyncIoTokioAsStd)
        })
    }

    fn bind_udp(&self, local: SocketAddr, _server: SocketAddr) -> Pending<UdpSocket> {
        let stack = self.stack.clone();
        Box::pin(async move { UdpSocket::bind_on(&stack, local).await })
    }
}

impl DnsUdpSocket for UdpSocket {
    type Time = TokioTime;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buf = ReadBuf::new(buf);
        let sender = ready!(Self::poll_recv_from(self, cx, &mut buf))?;
        Poll::Ready(Ok((buf.filled().len(), sender)))
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        Self::poll_send_to(self, cx, buf, target)
    }
}

/// The name servers of one stack.
struct Dns {
    servers: Vec<SocketAddr>,
    /// Set once the stack is built. It owns this, and is not owned by it.
    stack: OnceLock<WeakStack>,
}

impl Dns {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let stack = self.stack.get().and_then(WeakStack::upgrade);
        let stack = stack.ok_or_else(|| io::Error::other("the network stack has ended"))?;
        let servers = self.servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut options = ResolverOpts::default();
        // A name of the host is not one of the stack.
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // For this name alone: a resolver that lives as long as the stack would keep connections to its
        // servers, which would keep the stack.
        let resolver = hickory_resolver::Resolver::builder_with_config(config, StackProvider::new(&stack))
            .with_options(options)
            .build()
            .map_err(io::Error::other)?;
        match resolver.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) => Err(to_io(name, error)),
        }
    }
}

/// An error of hickory, with the kind that it has in the other resolvers.
fn to_io(name: &str, error: NetError) -> io::Error {
    match error {
        error if error.is_nx_domain() || error.is_no_records_found() => {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no address for `{name}`"))
        }
        NetError::Timeout => {
            let text = format!("no name server has answered for `{name}`");
            io::Error::new(io::ErrorKind::TimedOut, text)
        }
        error => io::Error::other(error),
    }
}

impl Resolve for Dns {
    fn resolve<'a>(
        &'a self,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>> {
        Box::pin(self.lookup(name))
    }
}

/// Names by DNS.
impl StackBuilder {
    /// Resolves names by asking these name servers, over UDP and TCP sockets of the stack itself. IPv4 addresses
    /// are tried first. Nothing is cached, and the host's files are not read.
    ///
    /// It replaces [`StackBuilder::resolver`], with a [`Resolver::Custom`].
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let stack = netstack::Stack::builder().dns(["9.9.9.9:53".parse().unwrap()]).build()?;
    /// // There is no way to that server yet.
    /// assert!(stack.connect("example.org:80").await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn dns(self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        let dns = Arc::new(Dns { servers: servers.into_iter().collect(), stack: OnceLock::new() });
        let attached = Arc::clone(&dns);
        self.resolver(Resolver::Custom(dns)).when_built(move |stack| {
            // A builder builds one stack.
            let _ = attached.stack.set(stack.downgrade());
        })
    }
}
