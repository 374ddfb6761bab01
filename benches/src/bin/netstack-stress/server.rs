//! The process that is looked at: a stack with little memory, and applications of all kinds. Once in a while it
//! prints a line with what it holds.

use crate::wire::{SERVER, Wire};
use netstack::config::MemoryBudget;
use netstack::net::{TcpListener, TcpStream, UdpSocket};
use netstack::{Config, Interface, Stack};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The ports of the services.
pub(crate) const NEVER_READS: u16 = 1;
pub(crate) const ALWAYS_WRITES: u16 = 2;
pub(crate) const ECHO: u16 = 3;

/// What is printed every now and then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// In bytes.
    pub(crate) resident: u64,
    pub(crate) used: u64,
    pub(crate) cached: u64,
    pub(crate) pressed: bool,
    pub(crate) connections: u64,
    pub(crate) descriptors: u64,
    pub(crate) time_waits: u64,
}

/// Between two reports.
const INTERVAL: Duration = Duration::from_millis(200);

/// Serves on the socket that is the standard input, until that is closed.
pub(crate) fn run(high: Option<usize>, loss: u32) -> io::Result<()> {
    // It is of another type, with the same calls: see `Server::start`.
    let socket = UnixDatagram::from(io::stdin().as_fd().try_clone_to_owned()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let interface = Interface::new(Arc::new(Wire::new(socket, loss, None)?))
            .address(&format!("{SERVER}/8"))
            .gateway("10.0.0.2");
        let config = Config::default().with(|config| {
            config.memory = high.map(MemoryBudget::new);
            config.time_wait = Duration::from_secs(1);
            config.fin_timeout = Duration::from_secs(1);
        });
        let stack = Stack::builder().interface(interface).config(config).build()?;
        tokio::spawn(serve(stack.clone(), NEVER_READS, |stream| async move {
            // Until the peer is gone: that is an error, which nothing but reading would hide.
            while stream.take_error().is_ok_and(|error| error.is_none()) && stream.peer_addr().is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }));
        tokio::spawn(serve(stack.clone(), ALWAYS_WRITES, |mut stream| async move {
            static BYTES: [u8; 65_536] = [1; 65_536];
            while stream.write_all(&BYTES).await.is_ok() {}
        }));
        tokio::spawn(serve(stack.clone(), ECHO, |mut stream| async move {
            let mut bytes = [0; 2048];
            while let Ok(len @ 1..) = stream.read(&mut bytes).await {
                if stream.write_all(&bytes[..len]).await.is_err() {
                    return;
                }
            }
        }));
        tokio::spawn(echo_datagrams(stack.clone()));
        report(&stack).await
    })
}

/// Accepts on a port for ever.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    stack: Stack,
    port: u16,
    work: impl Fn(TcpStream) -> F,
) -> io::Result<()> {
    let listener = TcpListener::bind_on(&stack, (SERVER, port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(work(stream));
    }
}

async fn echo_datagrams(stack: Stack) -> io::Result<()> {
    let socket = UdpSocket::bind_on(&stack, (SERVER, ECHO)).await?;
    let mut bytes = [0; 2048];
    loop {
        let (len, from) = socket.recv_from(&mut bytes).await?;
        let _ = socket.send_to(&bytes[..len], from).await;
    }
}

/// Prints what the process holds, until nobody listens.
async fn report(stack: &Stack) -> io::Result<()> {
    let mut before = stack.counters();
    loop {
        let memory = stack.memory();
        if stack.connections() == 0 && !memory.pressed {
            // The allocator of glibc keeps what is free between blocks in use.
            netstack_tun::trim_heap();
        }
        let report = Report {
            resident: resident(),
            used: memory.used as u64,
            cached: memory.cached as u64,
            pressed: memory.pressed,
            connections: stack.connections() as u64,
            descriptors: std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count() as u64),
            time_waits: stack.time_waits() as u64,
        };
        println!("{}", report.line());
        let now = stack.counters();
        for ((name, value), (_, old)) in now.iter().zip(before.iter()) {
            if value != old && is_shown(name) {
                println!("counter {name} {value}");
            }
        }
        before = now;
        io::stdout().flush()?;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The counters of what memory pressure does.
fn is_shown(name: &str) -> bool {
    const SHOWN: [&str; 14] = [
        "TCPMemoryPressures",
        "PruneCalled",
        "OfoPruned",
        "RcvPruned",
        "TCPRcvCollapsed",
        "SndCollapsed",
        "TCPAbortOnMemory",
        "OrphanBytesLost",
        "SynMemoryDrops",
        "SyncookiesSent",
        "SyncookiesRecv",
        "ListenOverflows",
        "ListenDrops",
        "MemErrors",
    ];
    SHOWN.contains(&name)
}

impl Report {
    fn line(&self) -> String {
        let Self { resident, used, cached, pressed, connections, descriptors, time_waits } = *self;
        format!(
            "report {resident} {used} {cached} {} {connections} {descriptors} {time_waits}",
            u8::from(pressed)
        )
    }

    /// What a line says, if it is a report.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.strip_prefix("report ")?.split(' ').map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        Some(Self {
            resident: next()?,
            used: next()?,
            cached: next()?,
            pressed: next()? == 1,
            connections: next()?,
            descriptors: next()?,
            time_waits: next()?,
        })
    }
}

/// Bytes of the process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
