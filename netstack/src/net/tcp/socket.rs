//! [`TcpSocket`].

use super::listener::{SynPolicy, TcpListener};
use super::pending::PendingListener;
use super::stream::TcpStream;
use crate::config::{Config, FastOpenMode};
use crate::error::os;
use crate::net::options::fast_open::fast_open_server_options;
use crate::net::options::ip::{HasIpOptions, IpOptions, ip_options, wire_family};
use crate::net::options::tcp::{HasTcpOptions, tcp_options};
use crate::net::stack::Stack;
use crate::stack::{Core, Family, IpSocket, Unconnected};
use crate::sync::{Mutex, Rank};
use crate::tcp::SocketOptions;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// A TCP socket that neither connects nor listens yet and can be configured.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// # let listener = stack.listen("127.0.0.1:0").await?;
/// # let addr = listener.local_addr()?;
/// let socket = stack.tcp_socket_v4()?;
/// socket.set_nodelay(true)?;
/// socket.bind("127.0.0.1:0".parse().unwrap())?;
/// let stream = socket.connect(addr).await?;
/// assert!(stream.nodelay()?);
/// # Ok(())
/// # }
/// ```
pub struct TcpSocket {
    stack: Stack,
    setup: Mutex<Setup>,
}

/// What is set up so far.
struct Setup {
    socket: Unconnected,
    ip: IpOptions,
}

// See `Stack`.
impl std::panic::UnwindSafe for TcpSocket {}
impl std::panic::RefUnwindSafe for TcpSocket {}

impl TcpSocket {
    /// A new IPv4 socket of the current stack ([`Stack::current`]).
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if there is no current stack.
    pub fn new_v4() -> io::Result<Self> {
        Self::new_v4_on(&Stack::current()?)
    }

    /// A new IPv6 socket of the current stack ([`Stack::current`]). It also accepts IPv4-mapped
    /// addresses, unless [`TcpSocket::set_only_v6`] is set.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if there is no current stack.
    pub fn new_v6() -> io::Result<Self> {
        Self::new_v6_on(&Stack::current()?)
    }

    /// A new IPv4 socket of `stack`.
    ///
    /// # Errors
    /// If the stack has ended.
    pub fn new_v4_on(stack: &Stack) -> io::Result<Self> {
        Self::new(stack, Family::V4)
    }

    /// A new IPv6 socket of `stack`.
    ///
    /// # Errors
    /// If the stack has ended.
    pub fn new_v6_on(stack: &Stack) -> io::Result<Self> {
        Self::new(stack, Family::V6)
    }

    fn new(stack: &Stack, family: Family) -> io::Result<Self> {
        stack.core().ensure_open()?;
        let setup = Setup {
            socket: Unconnected::new(stack.engine().core(), stack.engine().tcp(), family),
            ip: IpOptions::default(),
        };
        Ok(Self { stack: stack.clone(), setup: Mutex::new(Rank::Socket, setup) })
    }

    /// The address that the socket is bound to; the unspecified address with port 0 if it is not
    /// bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.setup.lock().socket.ip.local_addr())
    }

    /// `SO_ERROR`. An unconnected socket has none.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(None)
    }

    /// Binds the socket to an address of its stack. Port 0 selects a free port.
    ///
    /// # Errors
    /// `EADDRINUSE`; `EADDRNOTAVAIL` if the stack does not have the address, no interface accepts it
    /// ([`Interface::any_ip`](crate::Interface::any_ip)), and neither
    /// [`set_freebind_v4`](Self::set_freebind_v4) nor [`set_ip_transparent_v4`](Self::set_ip_transparent_v4)
    /// allows it; `EINVAL` if the socket is bound already; `EAFNOSUPPORT` for an address of the other family.
    pub fn bind(&self, addr: SocketAddr) -> io::Result<()> {
        let engine = self.stack.engine();
        engine.tcp().bind(engine.core(), &mut self.setup.lock().socket, addr)
    }

    /// Connects to `addr`. The stream keeps the options of the socket.
    ///
    /// # Errors
    /// As [`TcpStream::connect`]; and `EAFNOSUPPORT` for an address of the other family.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the attempt and closes the socket.
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        let Self { stack, setup } = self;
        let Setup { mut socket, ip } = setup.into_inner();
        socket.ip.traffic_class = ip.traffic_class(wire_family(addr));
        TcpStream::connect_socket(&stack, socket, addr).await
    }

    /// Starts listening. An unbound socket gets a free port. At most `backlog + 1` established
    /// connections wait for `accept`.
    ///
    /// # Errors
    /// `EADDRINUSE` if another socket listens on the port; an error if the stack has ended.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// let socket = stack.tcp_socket_v6()?;
    /// socket.bind("[::1]:7000".parse().unwrap())?;
    /// let listener = socket.listen(128)?;
    /// assert_eq!(listener.local_addr()?.port(), 7000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn listen(self, backlog: u32) -> io::Result<TcpListener> {
        self.start_listening(backlog, SynPolicy::Answer)
    }

    /// Starts listening, and lets the application decide about each SYN before it is answered. At
    /// most `backlog + 1` clients wait for a decision, or for the end of their handshake after it.
    ///
    /// # Errors
    /// As [`TcpSocket::listen`].
    pub fn listen_pending(self, backlog: u32) -> io::Result<PendingListener> {
        self.start_listening(backlog, SynPolicy::Hold).map(PendingListener::new)
    }

    fn start_listening(self, backlog: u32, policy: SynPolicy) -> io::Result<TcpListener> {
        let Self { stack, setup } = self;
        let Setup { socket, ip } = setup.into_inner();
        TcpListener::start(&stack, socket, &ip, backlog, policy)
    }

    /// The stack that this socket belongs to.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }
}

/// Fast Open, as a client.
impl TcpSocket {
    /// `TCP_FASTOPEN_CONNECT`. Default false.
    pub fn tcp_fastopen_connect(&self) -> io::Result<bool> {
        Ok(self.options().fastopen_connect)
    }

    /// Sets `TCP_FASTOPEN_CONNECT`. With a cookie of the server, [`TcpSocket::connect`] returns at
    /// once, and the first write is sent in the SYN; if a task waits for data to read before that,
    /// the SYN is sent without data. Without a cookie, connecting takes a round trip as usual and
    /// obtains one.
    ///
    /// With a cookie, errors of connecting are returned by the first operation. The data of the
    /// first write can be delivered twice (RFC 7413 §2.1).
    ///
    /// # Errors
    /// `EOPNOTSUPP` if [`Config::fastopen`](crate::config::Config::fastopen) forbids it.
    ///
    /// # Examples
    /// ```
    /// use tokio::io::AsyncWriteExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// let listener = stack.listen("127.0.0.1:8080").await?;
    /// listener.set_tcp_fastopen(16)?;
    /// for _ in 0..2 {
    ///     let socket = stack.tcp_socket_v4()?;
    ///     socket.set_tcp_fastopen_connect(true)?;
    ///     let mut stream = socket.connect("127.0.0.1:8080".parse().unwrap()).await?;
    ///     stream.write_all(b"hello").await?;
    ///     listener.accept().await?;
    /// }
    /// assert_eq!(stack.counters().fast_open_passive, 1, "the second time");
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_tcp_fastopen_connect(&self, on: bool) -> io::Result<()> {
        if on && !self.config().fastopen.contains(FastOpenMode::CLIENT) {
            return Err(os(libc::EOPNOTSUPP));
        }
        self.change(|options| options.fastopen_connect = on);
        Ok(())
    }
}

impl HasIpOptions for TcpSocket {
    fn with_ip<R>(&self, access: impl FnOnce(&Core, &mut IpSocket, &mut IpOptions) -> R) -> R {
        let Setup { socket, ip } = &mut *self.setup.lock();
        access(self.stack.engine().core(), &mut socket.ip, ip)
    }
}

ip_options!(TcpSocket);

impl HasTcpOptions for TcpSocket {
    fn config(&self) -> &Config {
        self.stack.engine().core().config()
    }

    fn family(&self) -> Family {
        self.setup.lock().socket.ip.family()
    }

    fn options(&self) -> SocketOptions {
        self.setup.lock().socket.options.clone()
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> R {
        change(&mut self.setup.lock().socket.options)
    }
}

tcp_options!(TcpSocket);
fast_open_server_options!(TcpSocket);

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpSocket")
            .field("addr", &self.setup.lock().socket.ip.local_addr())
            .field("stack", &self.stack.name())
            .finish()
    }
}
