//! [`PendingListener`]: the application decides about each SYN before it is answered.

use super::listener::{Listens, SynPolicy, TcpListener};
use super::stream::TcpStream;
use crate::icmp::Unreachable;
use crate::net::core::Endpoint;
use crate::net::lookup::ToSocketAddrs;
use crate::net::options::fast_open::fast_open_options;
use crate::net::options::ip::ip_options;
use crate::net::options::tcp::{HasTcpOptions, buffer_options, linger_option, tcp_options};
use crate::net::readiness::{Direction, Registration};
use crate::net::stack::Stack;
use crate::readiness::Events;
use crate::stack::{ListenerQueues, Observer, PendingSyn, Rejection};
use crate::wire::Options;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;

/// A listening TCP socket that returns each SYN to the application before it is answered (pending
/// accept).
///
/// An ordinary listener lets the stack complete the handshake and notifies the application afterwards.
/// That is too late for a proxy: its client believes that it is connected before the proxy knows
/// whether the upstream server can be reached. This listener returns a [`PendingStream`] for each SYN
/// instead, and the application connects to the upstream server first. The client sees an ordinary
/// handshake that takes a little longer, or the same refusal that the proxy met.
///
/// SYNs that the client retransmits in the meantime are ignored. The backlog limits the number of
/// clients that wait for a decision or for the end of their handshake. Above the limit SYNs are
/// dropped, because there are no SYN cookies here, and clients retransmit them.
/// [`Config::pending_accept_timeout`](crate::Config::pending_accept_timeout) limits the time for a decision.
///
/// With [`PendingListener::set_tcp_fastopen`], the data in the SYN of a client with a valid cookie
/// can be read before the decision ([`PendingStream::fast_open_data`]). A proxy can select the
/// upstream server by the server name in a TLS ClientHello there. Accepting such a client opens its
/// connection at once.
///
/// # Examples
/// A proxy:
/// ```
/// use netstack::net::{PendingListener, TcpStream};
/// use tokio::io::copy_bidirectional;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// # let upstream = stack.listen("127.0.0.1:0").await?;
/// # let upstream_address = upstream.local_addr()?;
/// let listener = PendingListener::bind_on(&stack, "127.0.0.1:8080").await?;
/// # let proxy = stack.clone();
/// # tokio::spawn(async move {
/// # let stack = proxy;
/// loop {
///     let pending = listener.accept().await?;
///     let stack = stack.clone();
///     tokio::spawn(async move {
///         match TcpStream::connect_on(&stack, upstream_address).await {
///             Ok(mut upstream) => {
///                 let mut client = pending.accept().await?;
///                 copy_bidirectional(&mut client, &mut upstream).await?;
///             }
///             // The client sees what the proxy saw.
///             Err(error) => pending.refuse_as(&error),
///         }
///         std::io::Result::Ok(())
///     });
/// }
/// # #[expect(unreachable_code, reason = "says of what type the error is")]
/// # std::io::Result::Ok(())
/// # });
/// # let client = stack.connect("127.0.0.1:8080").await?;
/// # upstream.accept().await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub struct PendingListener {
    listener: TcpListener,
}

impl PendingListener {
    /// Listens on `addr` on the current stack, as [`TcpListener::bind`] does.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub async fn bind<A: ToSocketAddrs>(addr: A) -> io::Result<Self> {
        Self::bind_on(&Stack::current()?, addr).await
    }

    /// Like [`PendingListener::bind`], on `stack`.
    ///
    /// # Errors
    /// As [`TcpListener::bind`].
    pub async fn bind_on<A: ToSocketAddrs>(stack: &Stack, addr: A) -> io::Result<Self> {
        TcpListener::bind_first(stack, addr, SynPolicy::Hold).await.map(Self::new)
    }

    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener }
    }

    /// Waits for a SYN, which has not been answered yet.
    ///
    /// # Errors
    /// If the stack has ended, or if the device of the interface has failed.
    ///
    /// # Cancel safety
    /// Cancel safe: no SYN is lost if the future is dropped.
    pub async fn accept(&self) -> io::Result<PendingStream> {
        self.listener.registration().async_io(Interest::READABLE, || self.accept_now()).await
    }

    /// The poll form of [`PendingListener::accept`]. Only the task of the latest call is woken.
    ///
    /// # Errors
    /// As [`PendingListener::accept`].
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<PendingStream>> {
        self.listener.registration().poll_io(cx, Direction::Read, |_| self.accept_now())
    }

    fn accept_now(&self) -> io::Result<PendingStream> {
        PendingStream::take_from(&self.listener)
    }

    /// The address and port that the listener is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The queues and counters of the listener. SYNs that wait for a decision, and handshakes that have
    /// not ended after one, are in the SYN queue; the accept queue is always empty.
    pub fn queues(&self) -> ListenerQueues {
        self.listener.queues()
    }

    /// The stack that this socket belongs to.
    pub fn stack(&self) -> &Stack {
        self.listener.stack()
    }
}

impl Listens for PendingListener {
    fn listener(&self) -> &TcpListener {
        &self.listener
    }
}

ip_options!(PendingListener, "Connections that are accepted later inherit it.");
tcp_options!(PendingListener);
buffer_options!(PendingListener);
linger_option!(PendingListener);
fast_open_options!(PendingListener);

impl fmt::Debug for PendingListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingListener").field(&self.listener).finish()
    }
}

/// A client whose SYN has not been answered yet.
///
/// Answer it with [`accept`](Self::accept), [`refuse`](Self::refuse),
/// [`refuse_as`](Self::refuse_as), [`unreachable`](Self::unreachable) or [`ignore`](Self::ignore).
/// Dropping it refuses the client with a reset, so that no client is left waiting if a proxy gives
/// up or panics. Until then the client retransmits its SYN.
pub struct PendingStream {
    endpoint: Arc<PendingEndpoint>,
}

/// What the handle shares with its stack.
struct PendingEndpoint {
    id: u64,
    stack: Stack,
    syn: Arc<PendingSyn>,
    registration: Arc<Registration>,
    decided: AtomicBool,
}

impl PendingEndpoint {
    fn reject(&self, how: Rejection) {
        if !self.decided.swap(true, Ordering::AcqRel) {
            self.stack
                .engine()
                .with_tcp(self.stack.now(), |tcp, turn| tcp.reject_pending(turn, &self.syn, how));
        }
    }
}

impl Endpoint for PendingEndpoint {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn close(&self) {
        self.reject(Rejection::Reset);
    }
}

impl Drop for PendingEndpoint {
    fn drop(&mut self) {
        self.stack.core().forget(self.id);
        self.close();
    }
}

// See `Stack`.
impl std::panic::UnwindSafe for PendingStream {}
impl std::panic::RefUnwindSafe for PendingStream {}

impl PendingStream {
    /// Takes a SYN that a listener or forwarder holds.
    pub(super) fn take_from(listener: &TcpListener) -> io::Result<Self> {
        let stack = listener.stack();
        let syn = stack.engine().tcp().accept_pending(listener.engine_listener())?;
        Ok(Self::new(stack, syn))
    }

    fn new(stack: &Stack, syn: Arc<PendingSyn>) -> Self {
        let core = stack.core();
        let registration = Arc::new(Registration::new());
        syn.set_observer(Arc::clone(&registration) as _);
        if syn.is_over() {
            // That happened before the observer was set.
            registration.on_ready(Events::READABLE);
        }
        let id = core.next_id();
        let decided = AtomicBool::new(false);
        let endpoint = Arc::new(PendingEndpoint { id, stack: stack.clone(), syn, registration, decided });
        core.remember(id, &endpoint);
        Self { endpoint }
    }

    /// The address of the client.
    pub fn peer_addr(&self) -> SocketAddr {
        self.endpoint.syn.remote_addr()
    }

    /// The address that the client connects to. For a [`TcpForwarder`](super::TcpForwarder) it can be any
    /// address.
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.syn.local_addr()
    }

    /// The options of the client's SYN: its MSS, window scale, SACK and timestamps.
    pub fn options(&self) -> &Options {
        self.endpoint.syn.options()
    }

    /// The window of the client's SYN, in bytes.
    pub fn window(&self) -> usize {
        self.endpoint.syn.window()
    }

    /// The data in the client's SYN, if Fast Open is on ([`PendingListener::set_tcp_fastopen`]) and the
    /// client's cookie is valid, or none is required. Empty otherwise: any other data in a SYN may be
    /// forged. Reading the data here does not consume it: the stream of [`accept`](Self::accept) begins
    /// with the same bytes.
    ///
    /// The data can be delivered twice, if an attacker replays the SYN (RFC 7413 §2.1).
    pub fn fast_open_data(&self) -> &[u8] {
        self.endpoint.syn.fast_open_data()
    }

    /// How long ago the SYN arrived.
    pub fn age(&self) -> Duration {
        self.endpoint.stack.now() - self.endpoint.syn.arrived()
    }

    /// Waits until the client is gone: it has sent a reset, the time for a decision has passed, or
    /// the listener was closed. A proxy can then close its upstream connection.
    ///
    /// # Cancel safety
    /// Waiting has no effect of its own.
    pub async fn gone(&self) {
        let over =
            || if self.endpoint.syn.is_over() { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) };
        // An error says that the stack is over, and so is the client's attempt.
        let _ = self.endpoint.registration.async_io(Interest::READABLE, over).await;
    }

    /// Answers the client and waits until the handshake is complete. For a client with a valid Fast
    /// Open cookie it does not wait: it returns the stream at once, with the data of the SYN in it, and
    /// data may be written before the third segment of the handshake.
    ///
    /// # Errors
    /// `ETIMEDOUT` if the client does not answer, or if the time for a decision has passed;
    /// `ECONNRESET` if the client has sent a reset; `ECONNABORTED` if the listener was closed; an
    /// error if the stack has ended.
    ///
    /// # Cancel safety
    /// Dropping the future resets the client.
    pub async fn accept(self) -> io::Result<TcpStream> {
        let PendingEndpoint { stack, syn, registration, decided, .. } = &*self.endpoint;
        let engine = stack.engine();
        engine.with_tcp(stack.now(), |tcp, turn| tcp.answer_pending(turn, syn));
        let result =
            || engine.tcp().pending_result(syn).unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()));
        let cell = registration.async_io(Interest::READABLE, result).await?;
        decided.store(true, Ordering::Release);
        Ok(TcpStream::accepted(stack, cell))
    }

    /// Resets the client, as a closed port does: its `connect` fails with `ECONNREFUSED`.
    pub fn refuse(self) {
        self.endpoint.reject(Rejection::Reset);
    }

    /// Sends the client an ICMP error: its destination cannot be reached. Most systems report
    /// `EHOSTUNREACH` or `ENETUNREACH`. Above the limit of [`Config::icmp_rate`](crate::Config::icmp_rate) nothing is sent,
    /// and the client's next SYN is treated as a new one.
    pub fn unreachable(self, reason: Unreachable) {
        self.endpoint.reject(Rejection::Unreachable(reason));
    }

    /// Never answers. SYNs that the client retransmits are ignored for
    /// [`Config::pending_accept_timeout`](crate::Config::pending_accept_timeout), while it keeps its place in the SYN queue.
    pub fn ignore(self) {
        self.endpoint.reject(Rejection::Silence);
    }

    /// Refuses the client as the upstream server refused the proxy: an unreachable host or network,
    /// and a prohibited route, become the corresponding ICMP error; after a timeout nothing is
    /// sent; any other error becomes a reset.
    pub fn refuse_as(self, error: &io::Error) {
        let how = match error.kind() {
            io::ErrorKind::HostUnreachable => Rejection::Unreachable(Unreachable::Host),
            io::ErrorKind::NetworkUnreachable => Rejection::Unreachable(Unreachable::Network),
            io::ErrorKind::PermissionDenied => Rejection::Unreachable(Unreachable::Prohibited),
            io::ErrorKind::TimedOut => Rejection::Silence,
            _ => Rejection::Reset,
        };
        self.endpoint.reject(how);
    }
}

impl fmt::Debug for PendingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingStream")
            .field("local", &self.local_addr())
            .field("peer", &self.peer_addr())
            .finish_non_exhaustive()
    }
}
