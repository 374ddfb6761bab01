//! The two hosts of a scene, and sockets that record the calls.
//!
//! A host is a netstack or the kernel of this machine. Its sockets have the same methods, so that
//! an experiment is written once and runs against either.

use super::Side;
use super::connections::Ends;
use super::recording::Recording;
use super::tap::Plug;
use super::text::outcome;
use netstack::Stack;
use netstack::buffer::Pool;
use netstack::device::Device;
use netstack::net as own;
use netstack::net::tcp::TcpKeepalive;
use netstack::sync::{Mutex, Rank};
use netstack::tcp::State;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net as kernel;

/// How long stopping a stack may take.
const STOP: Duration = Duration::ZERO;

/// Builds the stack of a host, and builds it again when the host boots.
pub(super) type Boot = Box<dyn Fn() -> io::Result<Machine> + Send + Sync>;

/// A stack that runs, and how to take it off the network.
pub(super) struct Machine {
    pub(super) stack: Stack,
    pub(super) plug: Arc<Plug>,
}

/// One of the two machines.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
    /// The lifeline beside which its calls are written.
    line: usize,
}

struct Inner {
    side: Side,
    address: IpAddr,
    recording: Arc<Recording>,
    boot: Option<Boot>,
    /// The device on which packets to a host without power are received, if they are not recorded
    /// elsewhere.
    floor: Option<Arc<dyn Device>>,
    /// None for the kernel, and for a host without power.
    machine: Mutex<Option<Machine>>,
}

impl Host {
    /// A host with a netstack.
    pub(super) fn netstack(
        side: Side,
        address: IpAddr,
        recording: &Arc<Recording>,
        boot: Boot,
    ) -> io::Result<Self> {
        let machine = Mutex::new(Rank::Leaf, Some(boot()?));
        let recording = Arc::clone(recording);
        let inner = Inner { side, address, recording, boot: Some(boot), floor: None, machine };
        Ok(Self { inner: Arc::new(inner), line: side.index() })
    }

    /// Sets the device on which packets are received while the host has no power.
    pub(super) fn lost_packets_seen_by(self, device: Arc<dyn Device>) -> Self {
        let inner = Arc::into_inner(self.inner).expect("the host is new");
        Self { inner: Arc::new(Inner { floor: Some(device), ..inner }), line: self.line }
    }

    /// The kernel of this machine.
    pub(super) fn kernel(side: Side, address: IpAddr, recording: &Arc<Recording>) -> Self {
        let machine = Mutex::new(Rank::Leaf, None);
        let recording = Arc::clone(recording);
        let inner = Inner { side, address, recording, boot: None, floor: None, machine };
        Self { inner: Arc::new(inner), line: side.index() }
    }

    /// The same host, whose calls are written beside the third lifeline: see
    /// [`SceneBuilder::third`](super::SceneBuilder::third).
    #[must_use]
    pub fn on_third_lifeline(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), line: 2 }
    }

    /// Which lifeline of the ladder it is.
    pub fn side(&self) -> Side {
        self.inner.side
    }

    /// Its address with a port.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.inner.address, port)
    }

    /// Whether its TCP is the kernel's.
    pub fn is_kernel(&self) -> bool {
        self.inner.boot.is_none()
    }

    /// Its stack, if it is a netstack with power.
    pub fn stack(&self) -> Option<Stack> {
        self.inner.machine.lock().as_ref().map(|machine| machine.stack.clone())
    }

    /// Writes a text next to its lifeline.
    pub fn says(&self, text: impl Into<String>) {
        self.calls(None, text);
    }

    /// Records a call about the connection with these ends, without a result.
    fn calls(&self, ends: Option<Ends>, text: impl Into<String>) -> usize {
        self.inner.recording.call(self.inner.side, self.line, ends, text.into())
    }

    /// A socket that is not connected yet.
    ///
    /// # Errors
    /// Those of the stack.
    pub fn socket(&self) -> io::Result<Socket> {
        let any = if self.is_kernel() {
            let v4 = self.inner.address.is_ipv4();
            let socket = if v4 { kernel::TcpSocket::new_v4() } else { kernel::TcpSocket::new_v6() }?;
            AnySocket::Kernel(socket)
        } else {
            let stack = self.stack().ok_or_else(|| io::Error::other("the host has no power"))?;
            let v4 = self.inner.address.is_ipv4();
            AnySocket::Netstack(Box::new(if v4 { stack.tcp_socket_v4() } else { stack.tcp_socket_v6() }?))
        };
        Ok(Socket { host: self.clone(), any })
    }

    /// `socket`, `bind` and `listen`, with a backlog of 128.
    ///
    /// # Errors
    /// Those of the calls.
    pub fn listen(&self, port: u16) -> io::Result<Listener> {
        self.socket()?.bound(port)?.listening(128, &format!("listen(:{port})"))
    }

    /// `connect`, from a port that is chosen automatically.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<Stream> {
        self.socket()?.connect(to).await
    }

    /// Cuts the power: the state of the host is lost, and it sends nothing any more. Later calls of
    /// its applications fail.
    ///
    /// # Panics
    /// On the kernel, which is needed.
    pub async fn power_off(&self) {
        assert!(!self.is_kernel(), "the kernel of this machine stays on");
        self.says("power off");
        self.inner.recording.set_off(self.inner.side, true);
        let machine = self.inner.machine.lock().take();
        if let Some(Machine { stack, plug }) = machine {
            plug.pull();
            stack.shutdown(STOP).await;
        }
        if self.inner.floor.is_some() {
            tokio::spawn(sweep(Arc::downgrade(&self.inner)));
        }
    }

    /// Boots the host: a new stack with the same address and without the state of the old one.
    ///
    /// # Errors
    /// If the stack cannot be built.
    ///
    /// # Panics
    /// On the kernel.
    pub fn power_on(&self) -> io::Result<()> {
        let boot = self.inner.boot.as_ref().expect("the kernel of this machine is always on");
        self.says("boots");
        let machine = boot()?;
        *self.inner.machine.lock() = Some(machine);
        self.inner.recording.set_off(self.inner.side, false);
        Ok(())
    }

    /// Disconnects the host from the network at the end of the scene, without sending anything.
    pub(super) async fn retire(&self) {
        let machine = self.inner.machine.lock().take();
        if let Some(Machine { stack, plug }) = machine {
            plug.pull();
            stack.shutdown(STOP).await;
        }
    }

    /// Records a call about the connection with these ends, and its result when it returns.
    async fn call<T: Outcome>(
        &self,
        ends: Option<Ends>,
        text: impl Into<String>,
        future: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let number = self.calls(ends, text);
        let result = future.await;
        let made = result.as_ref().ok().and_then(Outcome::made);
        self.inner.recording.returned(number, &outcome(&result), made);
        result
    }

    /// The same for a call that does not wait. It is recorded before it is made, because the
    /// segments that it sends come after it.
    fn call_now<T: Outcome>(
        &self,
        ends: Option<Ends>,
        text: impl Into<String>,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let number = self.calls(ends, text);
        let result = call();
        self.inner.recording.returned(number, &outcome(&result), None);
        result
    }
}

/// Receives packets to a host while it has no power, so that the ladder shows them as lost.
async fn sweep(host: Weak<Inner>) {
    let mut buf = Pool::new().take();
    while let Some(host) = host.upgrade() {
        if host.machine.lock().is_some() {
            break;
        }
        if let Some(floor) = &host.floor {
            while floor.receive(netstack::time::Instant::ZERO, 0, &mut buf).is_ok() {}
        }
        drop(host);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The result of a successful call, as the ladder shows it.
pub(super) trait Outcome {
    fn text(&self) -> String;

    /// The ends of the connection that the call made, if it made one.
    fn made(&self) -> Option<Ends> {
        None
    }
}

/// An option that was set: its success is not shown.
impl Outcome for () {
    fn text(&self) -> String {
        String::new()
    }
}

impl Outcome for usize {
    fn text(&self) -> String {
        self.to_string()
    }
}

impl Outcome for Vec<u8> {
    fn text(&self) -> String {
        self.len().to_string()
    }
}

impl Outcome for AnyStream {
    fn text(&self) -> String {
        "0".to_owned()
    }

    fn made(&self) -> Option<Ends> {
        let (local, peer) = match self {
            Self::Netstack(stream) => (stream.local_addr(), stream.peer_addr()),
            Self::Kernel(stream) => (stream.local_addr(), stream.peer_addr()),
        };
        Some([local.ok()?, peer.ok()?])
    }
}

impl Outcome for AnyListener {
    fn text(&self) -> String {
        String::new()
    }
}

enum AnySocket {
    Netstack(Box<own::TcpSocket>),
    Kernel(kernel::TcpSocket),
}

enum AnyListener {
    Netstack(own::TcpListener),
    Kernel(kernel::TcpListener),
}

enum AnyStream {
    Netstack(own::TcpStream),
    Kernel(kernel::TcpStream),
}

/// A socket that is neither connected nor listening.
pub struct Socket {
    host: Host,
    any: AnySocket,
}

impl Socket {
    /// `bind` to the host's address.
    ///
    /// # Errors
    /// Those of the call.
    pub fn bind(&self, port: u16) -> io::Result<()> {
        let to = self.host.at(port);
        self.host.call_now(None, format!("bind(:{port})"), || self.bind_to(to))
    }

    /// Binds the socket without recording the call.
    fn bound(self, port: u16) -> io::Result<Self> {
        self.bind_to(self.host.at(port))?;
        Ok(self)
    }

    fn bind_to(&self, to: SocketAddr) -> io::Result<()> {
        match &self.any {
            AnySocket::Netstack(socket) => socket.bind(to),
            AnySocket::Kernel(socket) => socket.bind(to),
        }
    }

    /// `SO_REUSEADDR`.
    ///
    /// # Errors
    /// Those of the call.
    pub fn set_reuseaddr(&self) -> io::Result<()> {
        self.host.call_now(None, "SO_REUSEADDR", || match &self.any {
            AnySocket::Netstack(socket) => socket.set_reuseaddr(true),
            AnySocket::Kernel(socket) => socket.set_reuseaddr(true),
        })
    }

    /// `listen`.
    ///
    /// # Errors
    /// Those of the call.
    pub fn listen(self, backlog: u32) -> io::Result<Listener> {
        self.listening(backlog, &format!("listen({backlog})"))
    }

    fn listening(self, backlog: u32, text: &str) -> io::Result<Listener> {
        let Self { host, any } = self;
        let any = host.call_now(None, text, || {
            Ok(match any {
                AnySocket::Netstack(socket) => AnyListener::Netstack(socket.listen(backlog)?),
                AnySocket::Kernel(socket) => AnyListener::Kernel(socket.listen(backlog)?),
            })
        })?;
        Ok(Listener { host, any })
    }

    /// `connect`.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn connect(self, to: SocketAddr) -> io::Result<Stream> {
        let Self { host, any } = self;
        let connect = async {
            Ok(match any {
                AnySocket::Netstack(socket) => AnyStream::Netstack(socket.connect(to).await?),
                AnySocket::Kernel(socket) => AnyStream::Kernel(socket.connect(to).await?),
            })
        };
        let any = host.call(None, format!("connect(:{})", to.port()), connect).await?;
        Ok(Stream::new(host, any))
    }
}

/// A socket that listens.
pub struct Listener {
    host: Host,
    any: AnyListener,
}

impl Listener {
    /// `accept`.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn accept(&self) -> io::Result<Stream> {
        let accept = async {
            Ok(match &self.any {
                AnyListener::Netstack(listener) => AnyStream::Netstack(listener.accept().await?.0),
                AnyListener::Kernel(listener) => AnyStream::Kernel(listener.accept().await?.0),
            })
        };
        let any = self.host.call(None, "accept()", accept).await?;
        Ok(Stream::new(self.host.clone(), any))
    }

    /// The listener of netstack, if it is one.
    pub fn netstack(&self) -> Option<&own::TcpListener> {
        match &self.any {
            AnyListener::Netstack(listener) => Some(listener),
            AnyListener::Kernel(_) => None,
        }
    }

    /// `close`.
    pub fn close(self) {
        self.host.says("close() of the listener");
    }
}

/// A connected socket.
pub struct Stream {
    host: Host,
    any: AnyStream,
    /// Its addresses, which the kernel forgets when the connection ends.
    ends: Option<Ends>,
}

impl Stream {
    fn new(host: Host, any: AnyStream) -> Self {
        let ends = any.made();
        Self { host, any, ends }
    }

    /// `read` of up to `max` bytes; none at the end of the stream.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn read(&mut self, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; max];
        let any = &mut self.any;
        let read = async {
            let len = match any {
                AnyStream::Netstack(stream) => stream.read(&mut bytes).await?,
                AnyStream::Kernel(stream) => stream.read(&mut bytes).await?,
            };
            bytes.truncate(len);
            Ok(bytes)
        };
        self.host.call(self.ends, "read()", read).await
    }

    /// `read` until the end of the stream.
    ///
    /// # Errors
    /// Those of the calls.
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let any = &mut self.any;
        let read = async {
            let mut bytes = Vec::new();
            match any {
                AnyStream::Netstack(stream) => stream.read_to_end(&mut bytes).await?,
                AnyStream::Kernel(stream) => stream.read_to_end(&mut bytes).await?,
            };
            Ok(bytes)
        };
        self.host.call(self.ends, "read() to the end", read).await
    }

    /// `write` of all `bytes`.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let any = &mut self.any;
        let write = async {
            match any {
                AnyStream::Netstack(stream) => stream.write_all(bytes).await?,
                AnyStream::Kernel(stream) => stream.write_all(bytes).await?,
            }
            Ok(bytes.len())
        };
        self.host.call(self.ends, format!("write({})", bytes.len()), write).await
    }

    /// `shutdown` of one direction or both.
    ///
    /// # Errors
    /// Those of the call.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let text = match how {
            Shutdown::Write => "shutdown(WR)",
            Shutdown::Read => "shutdown(RD)",
            Shutdown::Both => "shutdown(RDWR)",
        };
        self.host.call_now(self.ends, text, || match &self.any {
            AnyStream::Netstack(stream) => netstack::SockRef::from(stream).shutdown(how),
            AnyStream::Kernel(stream) => socket2::SockRef::from(stream).shutdown(how),
        })
    }

    /// `close`: drops the last handle.
    pub fn close(self) {
        self.host.calls(self.ends, "close()");
    }

    /// `TCP_QUICKACK`.
    ///
    /// # Errors
    /// Those of the call.
    pub fn set_quickack(&self, on: bool) -> io::Result<()> {
        self.host.call_now(self.ends, format!("TCP_QUICKACK {}", u8::from(on)), || match &self.any {
            AnyStream::Netstack(stream) => stream.set_quickack(on),
            AnyStream::Kernel(stream) => socket2::SockRef::from(stream).set_tcp_quickack(on),
        })
    }

    /// `TCP_NODELAY`.
    ///
    /// # Errors
    /// Those of the call.
    pub fn set_nodelay(&self) -> io::Result<()> {
        self.host.call_now(self.ends, "TCP_NODELAY 1", || match &self.any {
            AnyStream::Netstack(stream) => stream.set_nodelay(true),
            AnyStream::Kernel(stream) => stream.set_nodelay(true),
        })
    }

    /// `SO_LINGER` with a time of zero.
    ///
    /// # Errors
    /// Those of the call.
    pub fn set_zero_linger(&self) -> io::Result<()> {
        self.host.call_now(self.ends, "SO_LINGER 0", || match &self.any {
            AnyStream::Netstack(stream) => stream.set_zero_linger(),
            AnyStream::Kernel(stream) => socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)),
        })
    }

    /// `SO_KEEPALIVE`, with `TCP_KEEPIDLE`, `TCP_KEEPINTVL` and `TCP_KEEPCNT` if they are given.
    ///
    /// # Errors
    /// Those of the calls.
    pub fn set_keepalive(&self, times: Option<(Duration, Duration, u32)>) -> io::Result<()> {
        let text = match times {
            None => "SO_KEEPALIVE 1".to_owned(),
            Some((idle, interval, count)) => {
                format!("SO_KEEPALIVE {} s/{} s/{count}", idle.as_secs(), interval.as_secs())
            }
        };
        self.host.call_now(self.ends, text, || match &self.any {
            AnyStream::Netstack(stream) => match times {
                None => stream.set_keepalive(true),
                Some((idle, interval, count)) => stream.set_tcp_keepalive(
                    &TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(count),
                ),
            },
            AnyStream::Kernel(stream) => {
                let socket = socket2::SockRef::from(stream);
                match times {
                    None => socket.set_keepalive(true),
                    Some((idle, interval, count)) => socket.set_tcp_keepalive(
                        &socket2::TcpKeepalive::new()
                            .with_time(idle)
                            .with_interval(interval)
                            .with_retries(count),
                    ),
                }
            }
        })
    }

    /// The local address.
    ///
    /// # Errors
    /// Those of the call.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.any {
            AnyStream::Netstack(stream) => stream.local_addr(),
            AnyStream::Kernel(stream) => stream.local_addr(),
        }
    }

    /// The peer's address.
    ///
    /// # Errors
    /// Those of the call.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.any {
            AnyStream::Netstack(stream) => stream.peer_addr(),
            AnyStream::Kernel(stream) => stream.peer_addr(),
        }
    }

    /// The stream of netstack, if it is one.
    pub fn netstack(&self) -> Option<&own::TcpStream> {
        match &self.any {
            AnyStream::Netstack(stream) => Some(stream),
            AnyStream::Kernel(_) => None,
        }
    }

    /// The stream of netstack itself, for methods that only it has. Its calls are not recorded.
    ///
    /// # Errors
    /// If it is the kernel's.
    pub fn into_netstack(self) -> io::Result<own::TcpStream> {
        match self.any {
            AnyStream::Netstack(stream) => Ok(stream),
            AnyStream::Kernel(_) => Err(io::Error::other("the kernel's socket is not netstack's")),
        }
    }

    /// The state of the connection, if the stack reports it (netstack does).
    pub fn state(&self) -> Option<State> {
        self.netstack().and_then(|stream| stream.tcp_info().ok()).map(|info| info.state)
    }
}
