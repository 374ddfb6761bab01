//! [`UdpForwarder`]: datagrams to any address and port, as flows or one by one.

use super::socket::UdpSocket;
use crate::error::os;
use crate::icmp::Unreachable;
use crate::net::core::Endpoint;
use crate::net::readiness::{Direction, Registration};
use crate::net::stack::Stack;
use crate::readiness::Events;
use crate::stack::{Observer, UdpForwarderCell, UdpForwarderStats, UdpForwarding};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{Interest, ReadBuf};

/// The settings of a [`UdpForwarder`].
///
/// ```
/// use netstack::net::UdpForwarderConfig;
/// use std::time::Duration;
///
/// let config = UdpForwarderConfig::default().max_flows(1000).idle_timeout(Duration::from_secs(30));
/// assert_eq!(config.max_flows, 1000);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpForwarderConfig {
    /// Flows at most, accepted or not; at least 1. A flow takes about a kilobyte besides its datagrams, and up
    /// to one and a half until it was answered. Where there are as many, the oldest flow makes room whose client
    /// has not gone on after an answer; if there is none, the new one is dropped. Default 16,384.
    pub max_flows: usize,
    /// Flows at most that wait to be accepted; at least 1. The first datagrams of further ones are dropped.
    /// Default 1024.
    pub max_pending: usize,
    /// The receive buffer of each flow, in bytes of memory. Default 212,992, as
    /// [`Config::datagram_recv_buffer`](crate::Config::datagram_recv_buffer).
    pub flow_buffer: usize,
    /// The limit of what all flows keep unread, in bytes of memory. Default 16 MiB.
    pub total_buffer: usize,
    /// For how long a flow lives on which nothing is sent or received; not zero. Default two minutes (RFC 4787
    /// §4.3, REQ-5). [`UdpFlow::set_idle_timeout`] changes that of one flow.
    pub idle_timeout: Duration,
    /// The interface whose datagrams are forwarded. Default none, which means all but loopback: what the
    /// stack sends to itself is not forwarded, unless `lo` is named here.
    pub interface: Option<String>,
}

impl UdpForwarderConfig {
    /// Sets [`max_flows`](Self#structfield.max_flows).
    #[must_use]
    pub fn max_flows(mut self, flows: usize) -> Self {
        self.max_flows = flows;
        self
    }

    /// Sets [`max_pending`](Self#structfield.max_pending).
    #[must_use]
    pub fn max_pending(mut self, flows: usize) -> Self {
        self.max_pending = flows;
        self
    }

    /// Sets [`flow_buffer`](Self#structfield.flow_buffer).
    #[must_use]
    pub fn flow_buffer(mut self, bytes: usize) -> Self {
        self.flow_buffer = bytes;
        self
    }

    /// Sets [`total_buffer`](Self#structfield.total_buffer).
    #[must_use]
    pub fn total_buffer(mut self, bytes: usize) -> Self {
        self.total_buffer = bytes;
        self
    }

    /// Sets [`idle_timeout`](Self#structfield.idle_timeout).
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// Sets [`interface`](Self#structfield.interface).
    #[must_use]
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.interface = Some(name.into());
        self
    }
}

impl Default for UdpForwarderConfig {
    fn default() -> Self {
        Self {
            max_flows: 16_384,
            max_pending: 1024,
            flow_buffer: 212_992,
            total_buffer: 16 << 20,
            idle_timeout: Duration::from_secs(120),
            interface: None,
        }
    }
}

/// Takes every datagram for which the stack has no socket, to whatever address and port it goes: what a
/// proxy, a VPN client or a sandbox is built on.
///
/// Which addresses reach the stack is decided by [`Interface::any_ip`](crate::Interface::any_ip); what is sent to
/// an own address that no socket takes is forwarded too. A socket that is bound to a port, or to an address and a
/// port, comes first. What is sent to a group or to all hosts is not forwarded, and neither is what comes from
/// or to port 0.
///
/// There are two ways to use it:
/// - [`UdpForwarder::accept`] gives **flows**, one for each client address and destination (a "symmetric" view). A
///   [`UdpFlow`] is a connected socket at the address that the client sent to.
/// - [`UdpForwarder::recv_from_to`] and [`UdpForwarder::send_from_to`] receive and send **datagrams** with any
///   addresses, for mappings of one's own ("full cone"). Nothing is kept for them.
///
/// Both can be used together: answers from hosts that the client has not sent to can be sent with
/// `send_from_to` beside a flow.
///
/// What waits is bounded, in flows and in bytes of memory, and what is dropped is counted
/// ([`UdpForwarder::stats`]).
///
/// Dropping the forwarder drops what waits. Flows that were accepted are not affected. They claim no port: a
/// socket can be bound to one that they use, and gets what is not of the flow.
///
/// # Examples
/// A relay for everything, through the kernel:
/// ```
/// use netstack::net::UdpForwarderConfig;
/// use netstack::{Interface, Stack};
///
/// # use netstack::device::{Pair, PairConfig};
/// # use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let (device, client_device) = Pair::new(PairConfig::default());
/// let interface = Interface::new(Arc::new(device)).address("10.0.0.1/24").any_ip("0.0.0.0/0");
/// let stack = Stack::builder().interface(interface).build()?;
/// let forwarder = stack.udp_forwarder(UdpForwarderConfig::default())?;
/// # let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
/// # let address = server.local_addr()?;
/// # let client = Interface::new(Arc::new(client_device)).address("10.0.0.2/24").gateway("10.0.0.1");
/// # let client = Stack::builder().interface(client).build()?;
/// # tokio::spawn(async move {
/// loop {
///     let flow = forwarder.accept().await?;
///     tokio::spawn(async move {
///         let upstream = tokio::net::UdpSocket::bind("0.0.0.0:0").await?;
/// #       assert_eq!(flow.local_addr(), "192.0.2.7:53".parse().unwrap());
/// #       upstream.connect(address).await?;
/// #       #[cfg(any())]
///         upstream.connect(flow.local_addr()).await?;
///         let (mut request, mut answer) = (vec![0; 65_535], vec![0; 65_535]);
///         loop {
///             let relayed = tokio::select! {
///                 // Fails with `TimedOut` once the flow is idle for too long.
///                 len = flow.recv(&mut request) => upstream.send(&request[..len?]).await,
///                 len = upstream.recv(&mut answer) => match len {
///                     Ok(len) => flow.send(&answer[..len]).await,
///                     Err(error) => Err(error),
///                 },
///             };
///             if relayed.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
///                 flow.refuse();
///                 break;
///             }
///         }
///         std::io::Result::Ok(())
///     });
/// }
/// # #[expect(unreachable_code, reason = "says of what type the error is")]
/// # std::io::Result::Ok(())
/// # });
/// # let socket = client.udp_socket("0.0.0.0:0").await?;
/// # socket.connect("192.0.2.7:53").await?;
/// # socket.send(b"question").await?;
/// # let mut buf = [0; 100];
/// # let (len, relay) = server.recv_from(&mut buf).await?;
/// # server.send_to(b"answer", relay).await?;
/// # let len = socket.recv(&mut buf).await?;
/// # assert_eq!(&buf[..len], b"answer");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "NewForwarder")]
pub struct UdpForwarder {
    endpoint: Arc<ForwarderEndpoint>,
}

/// What the handle shares with its stack.
struct ForwarderEndpoint {
    id: u64,
    stack: Stack,
    cell: Arc<UdpForwarderCell>,
    registration: Arc<Registration>,
}

impl Endpoint for ForwarderEndpoint {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn close(&self) {
        let now = self.stack.now();
        self.stack.engine().with_udp(now, |udp, turn| udp.close_forwarder(turn, &self.cell));
    }
}

impl Drop for ForwarderEndpoint {
    fn drop(&mut self) {
        self.stack.core().forget(self.id);
        self.close();
    }
}

// See `Stack`.
impl std::panic::UnwindSafe for UdpForwarder {}
impl std::panic::RefUnwindSafe for UdpForwarder {}

/// What a receiver waits for: a flow, or the end of the interfaces.
const ARRIVAL: Interest = Interest::READABLE.add(Interest::ERROR);

impl UdpForwarder {
    /// Starts to forward on `stack`.
    ///
    /// # Errors
    /// `EADDRINUSE` if there is another forwarder with the same [`UdpForwarderConfig::interface`]; `ENODEV` if
    /// there is no interface of this name; `EINVAL` if [`UdpForwarderConfig::max_flows`],
    /// [`UdpForwarderConfig::max_pending`] or [`UdpForwarderConfig::idle_timeout`] is 0; an error if the stack
    /// has ended.
    pub fn start_on(stack: &Stack, config: UdpForwarderConfig) -> io::Result<Self> {
        let core = stack.core();
        core.ensure_open()?;
        let UdpForwarderConfig { max_flows, max_pending, flow_buffer, total_buffer, idle_timeout, interface } =
            config;
        if max_flows == 0 || max_pending == 0 || idle_timeout.is_zero() {
            return Err(os(libc::EINVAL));
        }
        let index = |name: String| {
            let index = core.engine.core().interface_index(&name);
            index.ok_or_else(|| os(libc::ENODEV))
        };
        let interface = interface.map(index).transpose()?;
        let settings =
            UdpForwarding { interface, max_flows, max_pending, flow_buffer, total_buffer, idle_timeout };
        let registration = Arc::new(Registration::for_datagrams());
        let cell = core.engine.udp().forward(core.engine.core(), settings, Arc::clone(&registration) as _)?;
        let id = core.next_id();
        let endpoint = Arc::new(ForwarderEndpoint { id, stack: stack.clone(), cell, registration });
        core.remember(id, &endpoint);
        Ok(Self { endpoint })
    }

    /// Waits for a flow. Its first datagrams wait in it.
    ///
    /// # Errors
    /// If the stack has ended, or if the devices of all its interfaces have failed.
    ///
    /// # Cancel safety
    /// Cancel safe: no flow is lost if the future is dropped.
    pub async fn accept(&self) -> io::Result<UdpFlow> {
        self.endpoint.registration.async_io(ARRIVAL, || self.accept_now()).await
    }

    /// The poll form of [`UdpForwarder::accept`]. Only the task of the latest call of this or
    /// [`UdpForwarder::poll_recv_from_to`] is woken.
    ///
    /// # Errors
    /// As [`UdpForwarder::accept`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UdpFlow>> {
        self.endpoint.registration.poll_io(cx, Direction::Read, |_| self.accept_now())
    }

    fn accept_now(&self) -> io::Result<UdpFlow> {
        let ForwarderEndpoint { stack, cell, .. } = &*self.endpoint;
        let engine = stack.engine();
        let registration = Arc::new(Registration::for_datagrams());
        let observer = Arc::clone(&registration) as _;
        let flow = engine.udp().accept_flow(engine.core(), cell, observer)?;
        // What came before there was somebody to tell.
        registration.on_ready(Events::READABLE);
        let (local, peer) = (flow.local_addr(), flow.peer_addr()?);
        let socket = UdpSocket::from_cell(stack, flow, registration);
        Ok(UdpFlow { socket, local, peer })
    }

    /// Waits for a datagram of a flow that was not accepted, and copies it to `buf`; what does not fit is lost.
    /// Returns its length, its sender and its receiver. Flows take turns, so that none keeps others waiting.
    ///
    /// # Errors
    /// As [`UdpForwarder::accept`].
    ///
    /// # Cancel safety
    /// Cancel safe: no datagram is lost if the future is dropped.
    pub async fn recv_from_to(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr, SocketAddr)> {
        self.endpoint.registration.async_io(ARRIVAL, || self.recv_now(buf)).await
    }

    /// The poll form of [`UdpForwarder::recv_from_to`], which appends to `buf` and returns the sender and the
    /// receiver. Only the task of the latest call of this or [`UdpForwarder::poll_accept`] is woken.
    ///
    /// # Errors
    /// As [`UdpForwarder::accept`].
    pub fn poll_recv_from_to(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<(SocketAddr, SocketAddr)>> {
        self.endpoint.registration.poll_io(cx, Direction::Read, |_| {
            let (len, from, to) = self.recv_now(buf.initialize_unfilled())?;
            buf.advance(len);
            Ok((from, to))
        })
    }

    /// Like [`UdpForwarder::recv_from_to`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none; as [`UdpForwarder::accept`].
    pub fn try_recv_from_to(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr, SocketAddr)> {
        self.endpoint.registration.try_io(ARRIVAL, || self.recv_now(buf))
    }

    fn recv_now(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr, SocketAddr)> {
        let ForwarderEndpoint { stack, cell, .. } = &*self.endpoint;
        let received = stack.engine().with_udp(stack.now(), |udp, turn| udp.recv_from_to(turn, cell, buf));
        received.map(|(from, to, len)| (len, from, to))
    }

    /// Sends a datagram from `from`, which need not be an address of the stack, to `to`.
    ///
    /// # Errors
    /// `EINVAL` if `from` or `to` is not the address of a host with a port, if one is IPv4 and the other IPv6, or if
    /// `from` alone is a loopback address; `EACCES` for a group or a broadcast address; `EMSGSIZE` if the datagram
    /// is too long; `ENETUNREACH`; the error of the device; an error if the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has sent nothing.
    pub async fn send_from_to(&self, buf: &[u8], from: SocketAddr, to: SocketAddr) -> io::Result<usize> {
        self.endpoint.registration.async_io(Interest::WRITABLE, || self.send_now(buf, from, to)).await
    }

    /// The poll form of [`UdpForwarder::send_from_to`]. Only the task of the latest call is woken.
    ///
    /// # Errors
    /// As [`UdpForwarder::send_from_to`].
    pub fn poll_send_from_to(
        &self,
        cx: &mut Context<'_>,
        buf: &[u8],
        from: SocketAddr,
        to: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.endpoint.registration.poll_io(cx, Direction::Write, |_| self.send_now(buf, from, to))
    }

    /// Like [`UdpForwarder::send_from_to`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no room in the send buffer; as [`UdpForwarder::send_from_to`].
    pub fn try_send_from_to(&self, buf: &[u8], from: SocketAddr, to: SocketAddr) -> io::Result<usize> {
        self.endpoint.registration.try_io(Interest::WRITABLE, || self.send_now(buf, from, to))
    }

    fn send_now(&self, buf: &[u8], from: SocketAddr, to: SocketAddr) -> io::Result<usize> {
        let ForwarderEndpoint { stack, cell, .. } = &*self.endpoint;
        stack.engine().with_udp(stack.now(), |udp, turn| udp.send_from_to(turn, cell, buf, from, to))
    }

    /// The flows and the counters.
    pub fn stats(&self) -> UdpForwarderStats {
        self.endpoint.cell.stats()
    }

    /// The stack that the forwarder belongs to.
    pub fn stack(&self) -> &Stack {
        &self.endpoint.stack
    }
}

impl fmt::Debug for UdpForwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpForwarder").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// What one client sends to one address and port: [`UdpForwarder::accept`].
///
/// It is a [`UdpSocket`] at the address that the client sent to, connected to the client, and is used through
/// the methods below, or as a socket by [`AsRef`] and [`UdpFlow::into_socket`]. Once nothing was sent or
/// received for [`UdpForwarderConfig::idle_timeout`], all calls fail with [`io::ErrorKind::TimedOut`]; once it
/// had to make room for another flow, with [`io::ErrorKind::ConnectionAborted`].
///
/// Dropping it ends the flow without a word: what the client sends after that is a new flow.
pub struct UdpFlow {
    socket: UdpSocket,
    local: SocketAddr,
    peer: SocketAddr,
}

impl UdpFlow {
    /// Where the client sends to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The client.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Receives a datagram of the client: [`UdpSocket::recv`].
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] and [`io::ErrorKind::ConnectionAborted`] as [`UdpFlow`] says; as
    /// [`UdpSocket::recv`].
    ///
    /// # Cancel safety
    /// Cancel safe: no datagram is lost if the future is dropped.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buf).await
    }

    /// Sends a datagram to the client: [`UdpSocket::send`].
    ///
    /// # Errors
    /// As [`UdpFlow::recv`] and [`UdpSocket::send`].
    ///
    /// # Cancel safety
    /// Cancel safe: a dropped future has sent nothing.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket.send(buf).await
    }

    /// Like [`UdpFlow::recv`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none; as [`UdpFlow::recv`].
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.try_recv(buf)
    }

    /// Like [`UdpFlow::send`], without waiting.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is no room in the send buffer; as [`UdpFlow::send`].
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.socket.try_send(buf)
    }

    /// Sets for how long the flow lives while nothing is sent or received, counted from the last datagram.
    ///
    /// # Errors
    /// `EINVAL` if it is zero.
    pub fn set_idle_timeout(&self, timeout: Duration) -> io::Result<()> {
        if timeout.is_zero() {
            return Err(os(libc::EINVAL));
        }
        let (stack, cell) = (self.socket.stack(), self.socket.cell());
        stack.engine().with_udp(stack.now(), |udp, turn| udp.set_idle_timeout(turn, cell, timeout));
        Ok(())
    }

    /// Ends the flow and tells the client that nobody has the port, by the ICMP error that a host would send: a
    /// connected socket of the client gets `ECONNREFUSED`. The error is about the first datagram, of which no
    /// more than the headers is kept once the flow was answered. Above the limit of
    /// [`Config::icmp_rate`](crate::Config::icmp_rate) nothing is sent.
    pub fn refuse(self) {
        self.unreachable(Unreachable::Port);
    }

    /// As [`UdpFlow::refuse`], for another reason.
    pub fn unreachable(self, reason: Unreachable) {
        let (stack, cell) = (self.socket.stack(), self.socket.cell());
        stack.engine().with_udp(stack.now(), |udp, turn| udp.refuse_flow(turn, cell, reason));
    }

    /// The socket that the flow is.
    pub fn into_socket(self) -> UdpSocket {
        self.socket
    }
}

impl AsRef<UdpSocket> for UdpFlow {
    fn as_ref(&self) -> &UdpSocket {
        &self.socket
    }
}

impl fmt::Debug for UdpFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpFlow")
            .field("local", &self.local)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}
