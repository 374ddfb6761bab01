//! The other end of every measurement: the kernel's TCP, in blocking threads.

use crate::clock;
use crate::polled::Polled;
use crate::services::{READ, Service, WRITE};
use crate::stats::Latencies;
use netstack_tun::{Cidr, interface};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The congestion control that all kernel sockets request. A namespace may inherit another one,
/// such as BBR, which halves the throughput of a local path.
pub const CONGESTION_CONTROL: &[u8] = b"cubic";

/// How long a connection may make no progress before the measurement fails.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time before a measurement in which windows and buffers grow.
const MAX_WARM_UP: Duration = Duration::from_millis(500);

/// Idle connections from one address: far fewer than there are ports, so that many addresses are nothing special.
const PER_ADDRESS: usize = 5_000;

/// The time of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// What is not measured: windows and buffers grow.
    pub warm_up: Duration,
    /// What is measured.
    pub time: Duration,
}

impl Timing {
    /// Measures for `time` after a warm-up of as long, or of half a second if that is less.
    pub fn new(time: Duration) -> Self {
        Self { warm_up: time.min(MAX_WARM_UP), time }
    }
}

/// The direction of a stream, as seen from the measured end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The kernel sends, the contender receives.
    In,
    /// The contender sends, the kernel receives.
    Out,
    /// Both at once on one connection.
    Both,
}

impl Direction {
    /// `in`, `out` or `both`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Both => "both",
        }
    }

    /// The contender's service for this direction.
    pub const fn service(self) -> Service {
        match self {
            Self::In => Service::Sink,
            Self::Out => Service::Source,
            Self::Both => Service::Both,
        }
    }
}

/// The congestion control that connections of this process get.
///
/// # Errors
/// Those of making a socket.
pub fn congestion_control() -> io::Result<String> {
    let (socket, _) = socket(Domain::IPV4)?;
    let name = socket.tcp_congestion()?;
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// A socket, and whether it has [`CONGESTION_CONTROL`].
fn socket(domain: Domain) -> io::Result<(Socket, bool)> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    // If it is not the default, it is refused without CAP_NET_ADMIN in the initial namespace.
    let chosen = socket.set_tcp_congestion(CONGESTION_CONTROL).is_ok();
    socket.set_tcp_nodelay(true)?;
    Ok((socket, chosen))
}

/// Connects to `to`, with [`CONGESTION_CONTROL`] if that is permitted, and without Nagle's
/// algorithm.
///
/// # Errors
/// Those of connecting; [`io::ErrorKind::TimedOut`] after 10 s.
pub fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    connect_from(None, to)
}

fn connect_from(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let (socket, _) = socket(Domain::for_address(to))?;
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    socket.connect_timeout(&to.into(), TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(socket.into())
}

/// A socket whose time is over has an error that says something else.
fn stuck(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            let text = format!("no progress for {} s", TIMEOUT.as_secs());
            io::Error::new(io::ErrorKind::TimedOut, text)
        }
        _ => error,
    }
}

/// What streams have moved, as counted by the kernel's sockets.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// Bytes written to them.
    pub written: u64,
    /// Bytes read from them.
    pub read: u64,
    /// The time that it took.
    pub time: Duration,
}

/// Streams to or from the service at `to` over `flows` connections. `mark` is called at the beginning and the end
/// of the measured time.
///
/// # Errors
/// Those of the connections, including no progress for 10 s.
pub fn throughput(
    to: SocketAddr,
    direction: Direction,
    flows: usize,
    timing: Timing,
    mut mark: impl FnMut() -> io::Result<()>,
) -> io::Result<Moved> {
    let halves: Vec<_> = (0..flows).map(|_| Stream::halves(to, direction)).collect::<io::Result<_>>()?;
    let (written, read, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let count = || (written.load(Ordering::Relaxed), read.load(Ordering::Relaxed));
    thread::scope(|scope| {
        let (written, read, stop) = (&written, &read, &stop);
        let spawn = |stream: Stream| {
            let bytes = if stream.direction == Direction::In { written } else { read };
            scope.spawn(move || move_bytes(stream, bytes, stop))
        };
        let threads: Vec<_> = halves.into_iter().flatten().map(spawn).collect();
        clock::sleep(timing.warm_up);
        // The threads have to be stopped, whatever happens.
        let measured = mark().and_then(|()| {
            let (before, begin) = (count(), clock::now());
            clock::sleep(timing.time);
            let (after, end) = (count(), clock::now());
            mark()?;
            Ok(Moved { written: after.0 - before.0, read: after.1 - before.1, time: end - begin })
        });
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).map_err(stuck)?;
        }
        measured
    })
}

fn move_bytes(mut stream: Stream, bytes: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        match stream.step() {
            Ok(len) => bytes.fetch_add(len, Ordering::Relaxed),
            // The other half of the connection has ended it.
            Err(error) if stop.load(Ordering::Relaxed) && is_end(&error) => break,
            Err(error) => return Err(error),
        };
    }
    // It may be ended already.
    let _ = stream.stream.shutdown(Shutdown::Both);
    Ok(())
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | BrokenPipe | ConnectionReset)
}

/// A stream that moves a given number of bytes at a time.
#[derive(Debug)]
pub struct Stream {
    stream: TcpStream,
    direction: Direction,
    buf: Vec<u8>,
}

impl Stream {
    /// Connects to the sink or source at `to`.
    ///
    /// # Errors
    /// Those of [`connect`].
    pub fn open(to: SocketAddr, direction: Direction) -> io::Result<Self> {
        Ok(Self::new(connect(to)?, direction))
    }

    fn new(stream: TcpStream, direction: Direction) -> Self {
        Self { stream, direction, buf: vec![0x5a; READ.max(WRITE)] }
    }

    /// A connection as one stream for each direction that has one.
    fn halves(to: SocketAddr, direction: Direction) -> io::Result<Vec<Self>> {
        let stream = connect(to)?;
        Ok(match direction {
            Direction::In | Direction::Out => vec![Self::new(stream, direction)],
            Direction::Both => {
                vec![Self::new(stream.try_clone()?, Direction::In), Self::new(stream, Direction::Out)]
            }
        })
    }

    /// Moves `bytes`, or somewhat more.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn run(&mut self, bytes: u64) -> io::Result<()> {
        let mut moved = 0;
        while moved < bytes {
            moved += self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> io::Result<u64> {
        let len = match self.direction {
            Direction::In => self.stream.write(&self.buf[..WRITE])?,
            Direction::Out | Direction::Both => self.stream.read(&mut self.buf[..READ])?,
        };
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(len as u64)
    }
}

/// Operations of several threads, each after the other.
#[derive(Clone, Debug)]
pub struct Operations {
    /// How long each took.
    pub latencies: Latencies,
    /// In which time they ended.
    pub time: Duration,
}

impl Operations {
    /// Per second, of all threads together.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }
}

/// Room for the times of a measurement's operations, of all threads together.
const TIMES: usize = 1 << 20;

/// Repeats on each of `threads` threads what `prepare` makes, and measures it. `mark` is called at the beginning and
/// the end of the measured time.
fn repeat<O: FnMut() -> io::Result<()>>(
    threads: usize,
    timing: Timing,
    mut mark: impl FnMut() -> io::Result<()>,
    prepare: impl Fn() -> io::Result<O> + Sync,
) -> io::Result<Operations> {
    let (measured, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let work = || -> io::Result<Vec<Duration>> {
        let mut operation = prepare()?;
        let mut times = Vec::with_capacity(TIMES / threads.max(1));
        while !stop.load(Ordering::Relaxed) {
            let begin = clock::now();
            operation()?;
            if measured.load(Ordering::Relaxed) {
                times.push(clock::now() - begin);
            }
        }
        Ok(times)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        clock::sleep(timing.warm_up);
        let time = mark().and_then(|()| {
            let begin = clock::now();
            measured.store(true, Ordering::Relaxed);
            clock::sleep(timing.time);
            measured.store(false, Ordering::Relaxed);
            let time = clock::now() - begin;
            mark()?;
            Ok(time)
        });
        stop.store(true, Ordering::Relaxed);
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let times = threads.into_iter().map(join).collect::<io::Result<Vec<_>>>().map_err(stuck)?;
        Ok(Operations { latencies: Latencies::new(times.concat()), time: time? })
    })
}

/// What goes there and back.
#[derive(Clone, Copy, Debug)]
pub struct Trip {
    /// Bytes of a request and of its response.
    pub size: usize,
    /// Connections, each with a request at a time.
    pub connections: usize,
    /// Whether the clients poll for the response instead of waiting.
    pub polls: bool,
}

/// Sends a trip's bytes there and back on each of its connections to an echo, over and over.
///
/// # Errors
/// Those of the connections.
pub fn round_trips(
    to: SocketAddr,
    trip: Trip,
    timing: Timing,
    mark: impl FnMut() -> io::Result<()>,
) -> io::Result<Operations> {
    let Trip { size, connections, polls } = trip;
    if polls {
        repeat(connections, timing, mark, || Ok(there_and_back(Polled::new(connect(to)?)?, size)))
    } else {
        repeat(connections, timing, mark, || Ok(there_and_back(connect(to)?, size)))
    }
}

fn there_and_back(mut stream: impl Read + Write, size: usize) -> impl FnMut() -> io::Result<()> {
    let mut message = vec![7; size];
    move || {
        stream.write_all(&message)?;
        stream.read_exact(&mut message)
    }
}

/// Opens connections to an echo, `at_a_time` of them at once: connect, one byte there and back, close. The time of
/// each ends when its byte is back and it is closed.
///
/// # Errors
/// Those of the connections.
pub fn connect_request_close(
    to: SocketAddr,
    at_a_time: usize,
    timing: Timing,
    mark: impl FnMut() -> io::Result<()>,
) -> io::Result<Operations> {
    repeat(at_a_time, timing, mark, || Ok(move || round_trip(&mut connect(to)?).map(drop)))
}

/// Opens connections to a greeter, `at_a_time` of them at once: connect, read the byte that says that the connection
/// was accepted, reset it. So nobody is left in TIME-WAIT.
///
/// # Errors
/// Those of the connections.
pub fn accepted(
    to: SocketAddr,
    at_a_time: usize,
    timing: Timing,
    mark: impl FnMut() -> io::Result<()>,
) -> io::Result<Operations> {
    repeat(at_a_time, timing, mark, || {
        Ok(move || {
            let mut stream = connect(to)?;
            stream.read_exact(&mut [0])?;
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))
        })
    })
}

/// Sends one byte there and back. Returns the time of its return.
///
/// # Errors
/// Those of the connection.
pub fn round_trip(stream: &mut TcpStream) -> io::Result<Instant> {
    let mut byte = [7];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)?;
    Ok(clock::now())
}

/// Opens `connections` that stay idle after one byte there and back. After each `PER_ADDRESS` the namespace gets a
/// further address, which the next ones come from.
///
/// # Errors
/// Those of the connections, and of the addresses.
pub fn idle_connections(to: SocketAddr, connections: usize) -> io::Result<Vec<TcpStream>> {
    let mut from = None;
    (0..connections)
        .map(|number| {
            if number > 0 && number % PER_ADDRESS == 0 {
                from = Some(another_address(to.ip(), number / PER_ADDRESS)?);
            }
            let mut stream = connect_from(from, to)?;
            round_trip(&mut stream).map_err(stuck)?;
            Ok(stream)
        })
        .collect()
}

/// A further address of the namespace, in the network of `server`. The kernel answers for it on all interfaces.
fn another_address(server: IpAddr, number: usize) -> io::Result<IpAddr> {
    let host = u8::try_from(100 + number).ok().filter(|host| *host < u8::MAX);
    let (IpAddr::V4(server), Some(host)) = (server, host) else {
        let text = "so many connections need more addresses than the network has";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    let [a, b, c, _] = server.octets();
    let address = Ipv4Addr::new(a, b, c, host).into();
    interface::up("lo")?;
    match interface::add_address("lo", Cidr::new(address, 32)?) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(address),
    }
}

/// Keeps every processor from idling until this is dropped, with a thread of the lowest priority on
/// each.
///
/// Waking an idle virtual processor takes several times as long as a round trip, and would hide it.
#[derive(Debug)]
pub struct Spinners {
    stop: std::sync::Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Spinners {
    /// Starts them.
    ///
    /// # Errors
    /// Those of starting threads.
    pub fn start() -> io::Result<Self> {
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let mut spinners = Self { stop, threads: Vec::new() };
        for _ in 0..thread::available_parallelism()?.get() {
            let stop = std::sync::Arc::clone(&spinners.stop);
            let spin = move || {
                // On Linux the nice value is the thread's. Lowering the priority is never refused.
                let _ = rustix::process::nice(19);
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            spinners.threads.push(thread::Builder::new().name("spin".to_owned()).spawn(spin)?);
        }
        Ok(spinners)
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It cannot have panicked.
            let _ = thread.join();
        }
    }
}
