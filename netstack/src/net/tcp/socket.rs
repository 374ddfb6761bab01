//! [`TcpSocket`].

use super::listener::{SynPolicy, TcpListener};
use super::pending::PendingListener;
use super::stream::TcpStream;
use crate::config::Config;
use crate::ip::PacketOptions;
use crate::net::options::fast_open::fast_open_options;
use crate::net::options::ip::{HasIpOptions, IpChange, IpValues, former_names_of_tos, ip_options};
use crate::net::options::tcp::{
    HasTcpOptions, Progress, buffer_options, change_value, ip_values, linger_option, tcp_options,
};
use crate::net::stack::Stack;
use crate::stack::{Family, Unconnected};
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
///
/// # File descriptors
/// There are none, so `from_std_stream`, `FromRawFd`, `IntoRawFd`, `AsFd` and `AsRawFd` are left out. Options are set by
/// methods, or with [`SockRef`](crate::net::SockRef) where code uses `socket2`.
pub struct TcpSocket {
    stack: Stack,
    socket: Mutex<Unconnected>,
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
        let socket = Unconnected::new(stack.engine().core(), stack.engine().tcp(), family);
        Ok(Self { stack: stack.clone(), socket: Mutex::new(Rank::Socket, socket) })
    }

    /// The address that the socket is bound to; the unspecified address with port 0 if it is not
    /// bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.socket.lock().ip.local_addr())
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
        engine.tcp().bind(engine.core(), &mut self.socket.lock(), addr)
    }

    /// Connects to `addr`. The stream keeps the options of the socket.
    ///
    /// # Errors
    /// As [`TcpStream::connect`]; and `EAFNOSUPPORT` for an address of the other family.
    ///
    /// # Cancel safety
    /// Dropping the future aborts the attempt and closes the socket.
    ///
    /// # Examples
    /// Fast Open: the second connection sends its data with the SYN.
    ///
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
    pub async fn connect(self, addr: SocketAddr) -> io::Result<TcpStream> {
        let Self { stack, socket } = self;
        TcpStream::connect_socket(&stack, socket.into_inner(), addr).await
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
        let Self { stack, socket } = self;
        TcpListener::start(&stack, socket.into_inner(), backlog, policy)
    }

    /// The stack that this socket belongs to.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }
}

/// The names of tokio.
impl TcpSocket {
    /// `SO_REUSEADDR`. Default false.
    pub fn reuseaddr(&self) -> io::Result<bool> {
        self.reuse_address()
    }

    /// Sets `SO_REUSEADDR`: lets [`bind`](Self::bind) use a port with connections in TIME-WAIT, but not one that
    /// has a listener.
    pub fn set_reuseaddr(&self, reuseaddr: bool) -> io::Result<()> {
        self.set_reuse_address(reuseaddr)
    }

    /// `SO_REUSEPORT`. Default false.
    pub fn reuseport(&self) -> io::Result<bool> {
        self.reuse_port()
    }

    /// Sets `SO_REUSEPORT`. Sockets that all have it set can listen on the same port, and connections are
    /// distributed among them.
    pub fn set_reuseport(&self, reuseport: bool) -> io::Result<()> {
        self.set_reuse_port(reuseport)
    }
}

impl HasIpOptions for TcpSocket {
    fn family(&self) -> Family {
        self.socket.lock().ip.family()
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn values(&self) -> IpValues {
        let socket = self.socket.lock();
        ip_values(socket.ip.options(), &socket.options)
    }

    fn change_packets(&self, change: impl FnOnce(&mut PacketOptions)) {
        let packets = &mut self.socket.lock().ip.packets;
        change(packets);
        *packets = packets.without_ecn();
    }

    fn change_ip(&self, change: IpChange<'_>) -> io::Result<()> {
        let Some(change) = change_value(self, change)? else { return Ok(()) };
        let ip = &mut self.socket.lock().ip;
        match change {
            IpChange::ReuseAddress(on) => ip.set_reuse_address(on),
            IpChange::ReusePort(on) => ip.set_reuse_port(on),
            IpChange::OnlyV6(on) => ip.set_only_v6(on)?,
            IpChange::Device(name) => ip.bind_device(self.stack.engine().core(), name)?,
            IpChange::MtuDiscover(_) | IpChange::Foreign(..) | IpChange::Owner(_) => {}
        }
        Ok(())
    }

    fn interface_name(&self, interface: u16) -> Vec<u8> {
        self.stack.engine().core().interface_name(interface).as_bytes().to_vec()
    }

    fn default_ttl(&self) -> u8 {
        self.stack.engine().core().config().default_ttl
    }

    fn path_mtu(&self) -> Option<usize> {
        None
    }
}

impl HasTcpOptions for TcpSocket {
    fn config(&self) -> &Config {
        self.stack.engine().core().config()
    }

    fn options(&self) -> io::Result<SocketOptions> {
        Ok(self.socket.lock().options.clone())
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> io::Result<R> {
        Ok(change(&mut self.socket.lock().options))
    }

    fn progress(&self) -> Progress {
        Progress::Unconnected
    }
}

ip_options!(TcpSocket, "Connections inherit it.");
former_names_of_tos!(TcpSocket);
tcp_options!(TcpSocket);
buffer_options!(TcpSocket);
linger_option!(TcpSocket, #[deprecated = "as in tokio, where it can block the thread on drop"]);
fast_open_options!(TcpSocket);

impl fmt::Debug for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpSocket")
            .field("addr", &self.socket.lock().ip.local_addr())
            .field("stack", &self.stack.name())
            .finish()
    }
}
