//! [`EchoForwarder`]: pings of any address, answered by the application.

use super::core::Endpoint;
use super::readiness::{Direction, Registration};
use super::stack::Stack;
use crate::icmp::Unreachable;
use crate::stack::{EchoQueue, HeldEcho};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::Interest;

/// Takes the echo requests ("pings") to addresses that an interface accepts for others
/// ([`Interface::any_ip`](crate::Interface::any_ip)), for the application to answer. A VPN can ask the host
/// behind it, and reply if that did.
///
/// It needs [`Config::any_ip_echo`](crate::Config::any_ip_echo) to be
/// [`EchoPolicy::Forward`](crate::config::EchoPolicy::Forward). At most 256 requests wait; what comes above
/// that is dropped, and counted as [`EchoQueueFull`](crate::reasons::DropReason::EchoQueueFull). Those to the
/// stack's own addresses are answered by the stack.
///
/// # Examples
/// ```
/// use netstack::config::{Config, EchoPolicy};
/// use netstack::Stack;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let config = Config::default().with(|config| config.any_ip_echo = EchoPolicy::Forward);
/// let stack = Stack::builder().config(config).build()?;
/// let forwarder = stack.echo_forwarder()?;
/// tokio::spawn(async move {
///     loop {
///         let ping = forwarder.recv().await?;
///         if ping.dst().is_ipv4() {
///             ping.reply();
///         }
///     }
///     # #[expect(unreachable_code, reason = "says of what type the error is")]
///     # std::io::Result::Ok(())
/// });
/// # Ok(())
/// # }
/// ```
pub struct EchoForwarder {
    endpoint: Arc<EchoEndpoint>,
}

/// What the handle shares with its stack.
struct EchoEndpoint {
    id: u64,
    stack: Stack,
    queue: Arc<EchoQueue>,
    registration: Arc<Registration>,
}

impl Endpoint for EchoEndpoint {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn close(&self) {
        self.stack.engine().close_echo(&self.queue);
    }
}

impl Drop for EchoEndpoint {
    fn drop(&mut self) {
        self.stack.core().forget(self.id);
        self.close();
    }
}

// See `Stack`.
impl std::panic::UnwindSafe for EchoForwarder {}
impl std::panic::RefUnwindSafe for EchoForwarder {}

impl EchoForwarder {
    /// Takes the echo requests of `stack`.
    ///
    /// # Errors
    /// `EADDRINUSE` if there is another forwarder of echo requests; [`io::ErrorKind::InvalidInput`] if
    /// [`Config::any_ip_echo`](crate::Config::any_ip_echo) is not `forward`; an error if the stack has
    /// ended.
    pub fn start_on(stack: &Stack) -> io::Result<Self> {
        let core = stack.core();
        core.ensure_open()?;
        let registration = Arc::new(Registration::new());
        let queue = core.engine.forward_echo(Arc::clone(&registration) as _)?;
        let id = core.next_id();
        let endpoint = Arc::new(EchoEndpoint { id, stack: stack.clone(), queue, registration });
        core.remember(id, &endpoint);
        Ok(Self { endpoint })
    }

    /// Waits for an echo request.
    ///
    /// # Errors
    /// If the stack has ended.
    ///
    /// # Cancel safety
    /// Cancel safe: no request is lost if the future is dropped.
    pub async fn recv(&self) -> io::Result<PendingEcho> {
        self.endpoint.registration.async_io(Interest::READABLE, || self.recv_now()).await
    }

    /// The poll form of [`EchoForwarder::recv`]. Only the task of the latest call is woken.
    ///
    /// # Errors
    /// As [`EchoForwarder::recv`].
    pub fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<io::Result<PendingEcho>> {
        self.endpoint.registration.poll_io(cx, Direction::Read, |_| self.recv_now())
    }

    fn recv_now(&self) -> io::Result<PendingEcho> {
        Ok(PendingEcho { request: self.endpoint.queue.pop()?, stack: self.endpoint.stack.clone() })
    }

    /// The stack that the forwarder belongs to.
    pub fn stack(&self) -> &Stack {
        &self.endpoint.stack
    }
}

impl fmt::Debug for EchoForwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EchoForwarder").field("queue", &self.endpoint.queue).finish_non_exhaustive()
    }
}

/// An echo request that has not been answered yet. Dropping it leaves it without an answer.
pub struct PendingEcho {
    stack: Stack,
    request: HeldEcho,
}

// See `Stack`.
impl std::panic::UnwindSafe for PendingEcho {}
impl std::panic::RefUnwindSafe for PendingEcho {}

impl PendingEcho {
    /// The host that sent the request.
    pub fn src(&self) -> IpAddr {
        self.request.src()
    }

    /// The host that the request is for.
    pub fn dst(&self) -> IpAddr {
        self.request.dst()
    }

    /// The identifier, which a sender has for itself.
    pub fn identifier(&self) -> u16 {
        let [high, low, ..] = self.request.request().id;
        u16::from_be_bytes([high, low])
    }

    /// The sequence number.
    pub fn sequence(&self) -> u16 {
        let [.., high, low] = self.request.request().id;
        u16::from_be_bytes([high, low])
    }

    /// The data, which a reply returns.
    pub fn data(&self) -> &[u8] {
        self.request.request().data
    }

    /// The time to live, or hop limit, with which it arrived.
    pub fn hop_limit(&self) -> u8 {
        self.request.hop_limit()
    }

    /// Replies, in the name of the host that the request is for.
    pub fn reply(self) {
        self.stack.engine().answer_echo(self.stack.now(), &self.request, None);
    }

    /// Reports by an ICMP error that the host cannot be reached. Above the limit of
    /// [`Config::icmp_rate`](crate::Config::icmp_rate) nothing is sent.
    pub fn unreachable(self, reason: Unreachable) {
        self.stack.engine().answer_echo(self.stack.now(), &self.request, Some(reason));
    }
}

impl fmt::Debug for PendingEcho {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingEcho")
            .field("src", &self.src())
            .field("dst", &self.dst())
            .field("sequence", &self.sequence())
            .finish_non_exhaustive()
    }
}
