//! [`TcpForwarder`]: connections to any address and port, decided about before they are answered.

use super::listener::{Listens, TcpListener};
use super::pending::PendingStream;
use crate::error::os;
use crate::net::options::fast_open::fast_open_options;
use crate::net::options::ip::ip_options;
use crate::net::options::tcp::{HasTcpOptions, buffer_options, linger_option, tcp_options};
use crate::net::readiness::Direction;
use crate::net::stack::Stack;
use crate::stack::{Family, ListenerQueues, Unconnected};
use std::fmt;
use std::io;
use std::task::{Context, Poll};
use tokio::io::Interest;

/// The settings of a [`TcpForwarder`].
///
/// ```
/// use netstack::net::TcpForwarderConfig;
///
/// let config = TcpForwarderConfig::default().max_in_flight(10_000).interface("net0");
/// assert_eq!(config.max_in_flight, 10_000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpForwarderConfig {
    /// The maximum number of clients that wait for a decision, or for the end of their handshake after
    /// it; at least 1. SYNs above it are dropped, and clients send them again. A client takes less than a
    /// kilobyte. Default 4096.
    pub max_in_flight: usize,
    /// The interface whose SYNs are forwarded. Default none, which means all but loopback: what the
    /// stack sends to itself is not forwarded, unless `lo` is named here.
    pub interface: Option<String>,
}

impl TcpForwarderConfig {
    /// Sets [`max_in_flight`](Self#structfield.max_in_flight).
    #[must_use]
    pub fn max_in_flight(mut self, clients: usize) -> Self {
        self.max_in_flight = clients;
        self
    }

    /// Sets [`interface`](Self#structfield.interface).
    #[must_use]
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.interface = Some(name.into());
        self
    }
}

impl Default for TcpForwarderConfig {
    fn default() -> Self {
        Self { max_in_flight: 4096, interface: None }
    }
}

/// Takes every SYN for which the stack has no listener, to whatever address and port it goes, and gives
/// it to the application before it is answered: what a proxy, a VPN client or a sandbox is built on.
///
/// Which addresses reach the stack is decided by [`Interface::any_ip`](crate::Interface::any_ip); a SYN to
/// an own address that no listener takes is forwarded too. A listener on a port, or on an address and a port,
/// comes first. [`PendingStream::local_addr`] is the destination of the client.
///
/// As with a [`PendingListener`](super::PendingListener), the client sees an ordinary handshake that takes
/// a little longer, or the refusal that the proxy met. There are no SYN cookies, because there would be
/// nothing left to decide about: [`TcpForwarderConfig::max_in_flight`] bounds the memory, and
/// [`Config::pending_accept_timeout`](crate::Config::pending_accept_timeout) the time.
///
/// Dropping the forwarder ends what waits for a decision or for a handshake. Connections that were accepted
/// are not affected. They claim no port: a listener can be bound to one that they use.
///
/// # Examples
/// A proxy that connects to where the client wanted to go, through the kernel:
/// ```
/// use netstack::net::TcpForwarderConfig;
/// use netstack::{Interface, Stack};
/// use tokio::io::copy_bidirectional;
///
/// # use netstack::device::{Pair, PairConfig};
/// # use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let (device, client_device) = Pair::new(PairConfig::default());
/// let interface = Interface::new(Arc::new(device)).address("10.0.0.1/24").any_ip("0.0.0.0/0");
/// let stack = Stack::builder().interface(interface).build()?;
/// let forwarder = stack.tcp_forwarder(TcpForwarderConfig::default())?;
/// # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let upstream = server.local_addr()?;
/// # let client = Interface::new(Arc::new(client_device)).address("10.0.0.2/24").gateway("10.0.0.1");
/// # let client = Stack::builder().interface(client).build()?;
/// # tokio::spawn(async move {
/// loop {
///     let pending = forwarder.accept().await?;
///     tokio::spawn(async move {
/// #       assert_eq!(pending.local_addr(), "192.0.2.7:443".parse().unwrap());
/// #       let connected = tokio::net::TcpStream::connect(upstream).await;
/// #       #[cfg(any())]
///         let connected = tokio::net::TcpStream::connect(pending.local_addr()).await;
///         match connected {
///             Ok(mut upstream) => {
///                 let mut client = pending.accept().await?;
///                 copy_bidirectional(&mut client, &mut upstream).await?;
///             }
///             Err(error) => pending.refuse_as(&error),
///         }
///         std::io::Result::Ok(())
///     });
/// }
/// # #[expect(unreachable_code, reason = "says of what type the error is")]
/// # std::io::Result::Ok(())
/// # });
/// # let stream = client.connect("192.0.2.7:443").await?;
/// # assert_eq!(stream.peer_addr()?, "192.0.2.7:443".parse().unwrap());
/// # server.accept().await?;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "NewForwarder")]
pub struct TcpForwarder {
    listener: TcpListener,
}

impl TcpForwarder {
    /// Starts to forward on `stack`.
    ///
    /// # Errors
    /// `EADDRINUSE` if there is another forwarder with the same [`TcpForwarderConfig::interface`];
    /// `ENODEV` if there is no interface of this name; `EINVAL` if
    /// [`TcpForwarderConfig::max_in_flight`] is 0; an error if the stack has ended.
    pub fn start_on(stack: &Stack, config: TcpForwarderConfig) -> io::Result<Self> {
        stack.core().ensure_open()?;
        let TcpForwarderConfig { max_in_flight, interface } = config;
        if max_in_flight == 0 {
            return Err(os(libc::EINVAL));
        }
        let engine = stack.engine();
        let mut socket = Unconnected::new(engine.core(), engine.tcp(), Family::V6);
        socket.ip.bind_device(engine.core(), interface.as_deref())?;
        let listener = TcpListener::forward(stack, socket, max_in_flight)?;
        Ok(Self { listener })
    }

    /// Waits for a SYN, which has not been answered yet.
    ///
    /// # Errors
    /// If the stack has ended, or if the devices of all interfaces have failed.
    ///
    /// # Cancel safety
    /// Cancel safe: no SYN is lost if the future is dropped.
    pub async fn accept(&self) -> io::Result<PendingStream> {
        let registration = self.listener.registration();
        registration.async_io(Interest::READABLE, || PendingStream::take_from(&self.listener)).await
    }

    /// The poll form of [`TcpForwarder::accept`]. Only the task of the latest call is woken.
    ///
    /// # Errors
    /// As [`TcpForwarder::accept`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<PendingStream>> {
        let registration = self.listener.registration();
        registration.poll_io(cx, Direction::Read, |_| PendingStream::take_from(&self.listener))
    }

    /// The number of clients in flight ([`ListenerQueues::syn_queue`]), and the counters. The accept queue
    /// is always empty.
    pub fn queues(&self) -> ListenerQueues {
        self.listener.queues()
    }

    /// The stack that the forwarder belongs to.
    pub fn stack(&self) -> &Stack {
        self.listener.stack()
    }
}

impl Listens for TcpForwarder {
    fn listener(&self) -> &TcpListener {
        &self.listener
    }
}

ip_options!(TcpForwarder, "Connections that are accepted later inherit it.");
tcp_options!(TcpForwarder);
buffer_options!(TcpForwarder);
linger_option!(TcpForwarder);
fast_open_options!(TcpForwarder);

impl fmt::Debug for TcpForwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpForwarder").field("queues", &self.queues()).finish_non_exhaustive()
    }
}
