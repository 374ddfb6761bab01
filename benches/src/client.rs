//! The other end of every measurement: the kernel's TCP, in blocking threads.

use crate::clock;
use crate::services::{ECHO_PORT, HOLD_PORT, SINK_PORT, SOURCE_PORT};
use crate::stats::Latencies;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The congestion control that all kernel sockets request. A namespace may inherit another one,
/// such as BBR, which halves the throughput of a local path.
pub const CONGESTION_CONTROL: &[u8] = b"cubic";

/// Bytes of one write.
const WRITE: usize = 64 * 1024;
/// Bytes of one read.
const READ: usize = 128 * 1024;
/// How long a connection may make no progress before the measurement fails.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a stream runs before it is measured, so that windows and buffers grow.
const WARM_UP: Duration = Duration::from_millis(500);

/// The direction of a stream, as seen from the measured end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The kernel sends, the contender receives.
    In,
    /// The contender sends, the kernel receives.
    Out,
}

impl Direction {
    /// `in` or `out`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }

    /// The port of the contender's service for this direction.
    pub const fn port(self) -> u16 {
        match self {
            Self::In => SINK_PORT,
            Self::Out => SOURCE_PORT,
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
    let (socket, _) = socket(Domain::for_address(to))?;
    socket.connect_timeout(&to.into(), TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(socket.into())
}

/// The result of a measurement of throughput.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    /// Bytes that were written to or read from the kernel's sockets.
    pub bytes: u64,
    /// The time that it took.
    pub time: Duration,
}

impl Throughput {
    /// In Gbit/s.
    pub fn gbps(&self) -> f64 {
        self.bytes as f64 * 8e-9 / self.time.as_secs_f64()
    }
}

/// Streams to the sink or from the source at `to`, over `flows` connections, and measures for `time`
/// after a warm-up. `mark` is called at the beginning and the end
/// of that time.
///
/// # Errors
/// Those of the connections, including no progress for 10 s.
pub fn throughput(
    to: SocketAddr,
    direction: Direction,
    flows: usize,
    time: Duration,
    mut mark: impl FnMut() -> io::Result<()>,
) -> io::Result<Throughput> {
    let streams: Vec<_> = (0..flows).map(|_| Stream::open(to, direction)).collect::<io::Result<Vec<_>>>()?;
    let bytes = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let count = || bytes.load(Ordering::Relaxed);
    thread::scope(|scope| {
        let (bytes, stop) = (&bytes, &stop);
        let threads: Vec<_> =
            streams.into_iter().map(|stream| scope.spawn(move || move_bytes(stream, bytes, stop))).collect();
        clock::sleep(WARM_UP);
        mark()?;
        let (before, begin) = (count(), clock::now());
        clock::sleep(time);
        let (after, end) = (count(), clock::now());
        let marked = mark();
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        marked?;
        Ok(Throughput { bytes: after - before, time: end - begin })
    })
}

fn move_bytes(mut stream: Stream, bytes: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        bytes.fetch_add(stream.step()?, Ordering::Relaxed);
    }
    Ok(())
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
        Ok(Self { stream: connect(to)?, direction, buf: vec![0x5a; READ.max(WRITE)] })
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
            Direction::Out => self.stream.read(&mut self.buf[..READ])?,
        };
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(len as u64)
    }
}

/// Sends one byte there and back on one connection, repeatedly for `time`.
///
/// # Errors
/// Those of the connection.
pub fn round_trips(at: impl Fn(u16) -> SocketAddr, time: Duration) -> io::Result<Latencies> {
    let mut stream = connect(at(ECHO_PORT))?;
    let warm = clock::now() + WARM_UP;
    let mut last = clock::now();
    while last < warm {
        last = round_trip(&mut stream)?;
    }
    let end = last + time;
    let mut times = Vec::with_capacity(1 << 20);
    while last < end {
        let begin = last;
        last = round_trip(&mut stream)?;
        times.push(last - begin);
    }
    Ok(Latencies::new(times))
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

/// The result of a measurement of short connections.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Per second, of all threads together.
    pub rate: f64,
    /// From the call of `connect` until the byte was back.
    pub latencies: Latencies,
}

/// Opens `connections` connections, `at_a_time` of them at once: connect, one byte there and back,
/// close.
///
/// Each leaves the client in TIME-WAIT for a minute, and so takes one of its 64,512 ports to this
/// contender.
///
/// # Errors
/// Those of the connections.
pub fn connect_request_close(
    at: impl Fn(u16) -> SocketAddr,
    at_a_time: usize,
    connections: usize,
) -> io::Result<Connections> {
    let to = at(ECHO_PORT);
    let taken = AtomicUsize::new(0);
    let one_after_the_other = || -> io::Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(connections);
        while taken.fetch_add(1, Ordering::Relaxed) < connections {
            let begin = clock::now();
            let end = round_trip(&mut connect(to)?)?;
            times.push(end - begin);
        }
        Ok(times)
    };
    let begin = clock::now();
    let times = thread::scope(|scope| {
        let threads: Vec<_> = (0..at_a_time).map(|_| scope.spawn(one_after_the_other)).collect();
        let results =
            threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.collect::<io::Result<Vec<_>>>()
    })?;
    let seconds = (clock::now() - begin).as_secs_f64();
    Ok(Connections { rate: connections as f64 / seconds, latencies: Latencies::new(times.concat()) })
}

/// Opens `connections` that stay idle after one byte there and back.
///
/// # Errors
/// Those of the connections.
pub fn idle_connections(at: impl Fn(u16) -> SocketAddr, connections: usize) -> io::Result<Vec<TcpStream>> {
    (0..connections)
        .map(|_| {
            let mut stream = connect(at(HOLD_PORT))?;
            round_trip(&mut stream)?;
            Ok(stream)
        })
        .collect()
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
