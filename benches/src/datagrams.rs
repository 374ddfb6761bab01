//! Datagrams: the services of the contenders with sockets, and their client, which uses the kernel's UDP in
//! blocking threads.

use crate::client::Timing;
use crate::clock;
use crate::services::RECEIVED;
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use tokio::io::Interest;

/// Bytes that the sources of this process have sent. The client receives what was not lost.
pub static SENT: AtomicU64 = AtomicU64::new(0);

/// The most that a UDP datagram over IPv4 holds: what one call sends, however many datagrams it is.
const MAX_CALL: usize = 65_507;
/// The most datagrams of one call (`UDP_MAX_SEGMENTS` before Linux 6.9).
const MAX_SEGMENTS: usize = 64;
/// Calls between two looks at the clock.
const CALLS_PER_LOOK: usize = 16;
/// How long a receiver waits before it looks whether it should end.
const PATIENCE: Duration = Duration::from_millis(50);
/// After this time nothing of a transfer is on its way any more.
const DRAIN: Duration = Duration::from_millis(100);

/// How many datagrams one call carries, at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One.
    Single,
    /// As many as one packet holds (`UDP_SEGMENT`, `UDP_GRO`).
    Segmented,
}

impl Mode {
    /// The port that is served in this mode, of the services at `port`.
    pub const fn port(self, port: u16) -> u16 {
        match self {
            Self::Single => port,
            Self::Segmented => port + 10,
        }
    }

    /// Datagrams of `len` bytes in one call.
    pub fn per_call(self, len: usize) -> usize {
        match self {
            Self::Single => 1,
            Self::Segmented => (MAX_CALL / len).min(MAX_SEGMENTS),
        }
    }
}

/// What a client asks a source for: datagrams of a length, for a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Bytes of each datagram.
    pub len: u16,
    /// For how long, in milliseconds.
    pub millis: u32,
}

impl Request {
    fn encode(self) -> [u8; 6] {
        let ([a, b], [c, d, e, f]) = (self.len.to_be_bytes(), self.millis.to_be_bytes());
        [a, b, c, d, e, f]
    }

    /// From the payload of a datagram.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let &[a, b, c, d, e, f] = payload else { return None };
        let (len, millis) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
        (len > 0 && usize::from(len) <= MAX_CALL).then_some(Self { len, millis })
    }

    /// For how long.
    pub fn time(self) -> Duration {
        Duration::from_millis(self.millis.into())
    }
}

/// A socket of tokio or of netstack.
pub trait DatagramSocket: Send + Sync + 'static {
    /// Receives one datagram, or in the segmented mode several of one sender. Gives the bytes and the sender.
    fn receive(&self, buf: &mut [u8]) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send;

    /// Sends one datagram, or in the segmented mode several of `len` bytes.
    fn send(&self, bytes: &[u8], len: usize, to: SocketAddr) -> impl Future<Output = io::Result<()>> + Send;
}

/// A socket of netstack.
#[derive(Debug)]
pub struct Ours {
    /// The socket.
    pub socket: netstack::net::UdpSocket,
    /// Its mode.
    pub mode: Mode,
    /// Whether it receives without a copy.
    pub owned: bool,
}

impl DatagramSocket for Ours {
    async fn receive(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        // A request is read.
        if self.owned && buf.len() > MAX_CALL {
            let (bytes, meta) = self.socket.recv_chunk().await?;
            std::hint::black_box(bytes);
            return Ok((meta.len, meta.addr));
        }
        if self.mode == Mode::Single {
            return self.socket.recv_from(buf).await;
        }
        let mut meta = [netstack::net::udp::RecvMeta::default()];
        self.socket.recv_msg(&mut [IoSliceMut::new(buf)], &mut meta).await?;
        Ok((meta[0].len, meta[0].addr))
    }

    async fn send(&self, bytes: &[u8], len: usize, to: SocketAddr) -> io::Result<()> {
        if self.mode == Mode::Single {
            return self.socket.send_to(bytes, to).await.map(drop);
        }
        let transmit = netstack::net::udp::Transmit {
            destination: to,
            ecn: None,
            contents: bytes,
            segment_size: Some(len),
            src_ip: None,
        };
        self.socket.send_msg(&transmit).await.map(drop)
    }
}

/// A socket of the kernel. In the segmented mode with `UDP_GRO`.
#[derive(Debug)]
pub struct Kernel {
    socket: tokio::net::UdpSocket,
    segmented: Option<UdpSocketState>,
}

impl Kernel {
    /// A socket that is bound to `port` in this network namespace.
    ///
    /// # Errors
    /// Those of the kernel.
    pub async fn bind(port: u16, mode: Mode) -> io::Result<Self> {
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        let state = || UdpSocketState::new(UdpSockRef::from(&socket));
        let segmented = (mode == Mode::Segmented).then(state).transpose()?;
        Ok(Self { socket, segmented })
    }
}

impl DatagramSocket for Kernel {
    async fn receive(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let Some(state) = &self.segmented else { return self.socket.recv_from(buf).await };
        let mut meta = [RecvMeta::default()];
        let mut receive = || {
            state.recv(UdpSockRef::from(&self.socket), &mut [IoSliceMut::new(buf)], &mut meta)?;
            Ok((meta[0].len, meta[0].addr))
        };
        self.socket.async_io(Interest::READABLE, &mut receive).await
    }

    async fn send(&self, bytes: &[u8], len: usize, to: SocketAddr) -> io::Result<()> {
        let Some(state) = &self.segmented else { return self.socket.send_to(bytes, to).await.map(drop) };
        let transmit = segmented(bytes, len, to);
        self.socket
            .async_io(Interest::WRITABLE, || state.try_send(UdpSockRef::from(&self.socket), &transmit))
            .await
    }
}

fn segmented(contents: &[u8], len: usize, destination: SocketAddr) -> quinn_udp::Transmit<'_> {
    quinn_udp::Transmit { destination, ecn: None, contents, segment_size: Some(len), src_ip: None }
}

/// The sockets of one contender: of [`Mode::Single`] and of [`Mode::Segmented`].
#[derive(Debug)]
pub struct Sockets<S> {
    /// Of the port [`Service::Sink`](crate::services::Service::Sink).
    pub sinks: [S; 2],
    /// Of the port [`Service::Source`](crate::services::Service::Source).
    pub sources: [S; 2],
}

/// Serves until the runtime ends, each socket as a task of its own.
pub fn serve<S: DatagramSocket>(sockets: Sockets<S>) {
    let Sockets { sinks: [a, b], sources: [c, d] } = sockets;
    drop((tokio::spawn(sink(a)), tokio::spawn(sink(b))));
    drop((tokio::spawn(source(c, Mode::Single)), tokio::spawn(source(d, Mode::Segmented))));
}

/// Receives everything, and counts it in [`RECEIVED`].
async fn sink(socket: impl DatagramSocket) {
    let mut buf = vec![0; 1 << 16];
    loop {
        // An ICMP error says that a client has ended.
        if let Ok((len, _)) = socket.receive(&mut buf).await {
            RECEIVED.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
}

/// Sends what is asked for, as fast as it is taken, and counts it in [`SENT`].
async fn source(socket: impl DatagramSocket, mode: Mode) {
    let mut buf = [0; 64];
    loop {
        let Ok((len, client)) = socket.receive(&mut buf).await else { continue };
        let Some(request) = Request::decode(&buf[..len]) else { continue };
        let len = usize::from(request.len);
        let bytes = vec![0x5a; len * mode.per_call(len)];
        let end = clock::now() + request.time();
        while clock::now() < end {
            for _ in 0..CALLS_PER_LOOK {
                if socket.send(&bytes, len, client).await.is_ok() {
                    SENT.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
            }
        }
    }
}

/// The result of one transfer, in bytes of payload at the kernel's end.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// While it was measured.
    pub measured: u64,
    /// The time of that.
    pub time: Duration,
    /// From the first datagram to the last.
    pub total: u64,
}

/// Sends datagrams of `len` bytes to the sink at `to`, and measures after a warm-up. `mark` is called
/// at the beginning and the end of that time.
///
/// # Errors
/// Those of the socket, but for a full device.
pub fn send(
    to: SocketAddr,
    mode: Mode,
    len: usize,
    timing: Timing,
    mark: impl FnMut() -> io::Result<()>,
) -> io::Result<Moved> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(to)?;
    let state = blocking_state(&socket, mode)?;
    let bytes = vec![0x5a; len * mode.per_call(len)];
    let transmit = segmented(&bytes, len, to);
    let step = || {
        let sent = match &state {
            None => socket.send(&bytes).map(drop),
            Some(state) => state.try_send(UdpSockRef::from(&socket), &transmit),
        };
        match sent {
            Ok(()) => Ok(bytes.len() as u64),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => Ok(0),
            Err(error) => Err(error),
        }
    };
    measure(step, timing, mark)
}

/// Receives datagrams of `len` bytes from the source at `from`, as [`send`].
///
/// # Errors
/// Those of the socket.
pub fn receive(
    from: SocketAddr,
    mode: Mode,
    len: u16,
    timing: Timing,
    mark: impl FnMut() -> io::Result<()>,
) -> io::Result<Moved> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(from)?;
    let state = blocking_state(&socket, mode)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let millis = (timing.warm_up + timing.time + DRAIN).as_millis() as u32;
    socket.send(&Request { len, millis }.encode())?;
    let mut buf = vec![0; 1 << 16];
    let step = || {
        let received = match &state {
            None => socket.recv(&mut buf),
            Some(state) => {
                let mut meta = [RecvMeta::default()];
                let mut bufs = [IoSliceMut::new(&mut buf)];
                state.recv(UdpSockRef::from(&socket), &mut bufs, &mut meta).map(|_| meta[0].len)
            }
        };
        match received {
            Ok(len) => Ok(len as u64),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    };
    measure(step, timing, mark)
}

/// What the segmented mode needs; the socket stays blocking.
fn blocking_state(socket: &UdpSocket, mode: Mode) -> io::Result<Option<UdpSocketState>> {
    if mode == Mode::Single {
        return Ok(None);
    }
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    socket.set_nonblocking(false)?;
    Ok(Some(state))
}

/// Runs `step` on a thread, which gives the bytes that it moved.
fn measure(
    mut step: impl FnMut() -> io::Result<u64> + Send,
    timing: Timing,
    mut mark: impl FnMut() -> io::Result<()>,
) -> io::Result<Moved> {
    let (bytes, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let count = || bytes.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let (bytes, stop) = (&bytes, &stop);
        let thread = scope.spawn(move || -> io::Result<()> {
            let mut idle = clock::now();
            // What is on its way when it should stop is received, too.
            while !stop.load(Ordering::Relaxed) || clock::now() < idle + DRAIN {
                let moved = step()?;
                bytes.fetch_add(moved, Ordering::Relaxed);
                if !stop.load(Ordering::Relaxed) {
                    idle = clock::now();
                }
            }
            Ok(())
        });
        clock::sleep(timing.warm_up);
        mark()?;
        let (before, begin) = (count(), clock::now());
        clock::sleep(timing.time);
        let (after, end) = (count(), clock::now());
        let marked = mark();
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        marked?;
        clock::sleep(DRAIN);
        Ok(Moved { measured: after - before, time: end - begin, total: count() })
    })
}
