//! One contender as a process: the measured end.

use crate::contender::Contender;
use crate::datagrams::{self, Kernel, Mode, Ours, Sockets};
use crate::limit;
use crate::services::{self, ECHO_PORT, HOLD_PORT, Listeners, SINK_PORT, SOURCE_PORT};
use netstack::{Interface, Stack, net};
use netstack_tun::{Tun, TunConfig};
use socket2::{Domain, Socket, Type};
use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// What the process prints when its services are ready.
pub const READY: &str = "ready";
/// A request on standard input. The answer is the number of live bytes of the heap.
pub const ASK_MEMORY: &str = "memory";

/// A request on standard input. The answer is the number of bytes that the sinks have read.
pub const ASK_RECEIVED: &str = "received";

/// A request on standard input. The answer is the number of bytes that the sources of datagrams have sent.
pub const ASK_SENT: &str = "sent";

/// The kernel's default. Less would refuse bursts; see `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The kind of tokio runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeKind {
    /// One thread.
    #[default]
    Current,
    /// Two workers.
    Multi,
}

/// The options of a contender.
#[derive(Clone, Debug)]
pub struct Options {
    /// The MTU of its TUN device, in bytes.
    pub mtu: u32,
    /// Number of queues of its TUN device.
    pub queues: usize,
    /// The name of an existing TUN device to use instead of a new one.
    pub tun: Option<String>,
    /// The runtime, where it has one.
    pub runtime: RuntimeKind,
    /// Whether to answer requests on standard input, and to end when it ends.
    pub until_eof: bool,
}

/// Serves as `contender` until the process is ended. `live_bytes` returns the number of heap bytes
/// in use.
///
/// # Errors
/// Those of setting up the devices and sockets, and of the device.
pub fn run(contender: Contender, options: &Options, live_bytes: fn() -> usize) -> io::Result<()> {
    if options.until_eof {
        thread::Builder::new().name("stdin".to_owned()).spawn(move || answer(live_bytes))?;
    }
    match contender {
        Contender::Limit => {
            let tun = open_tun(contender, options)?;
            ready()?;
            limit::run(&tun, &AtomicBool::new(false))
        }
        Contender::Netstack => netstack(contender, options),
        Contender::Veth | Contender::Loopback => kernel(options),
    }
}

/// Answers requests until standard input ends, and then ends the process. So a child ends too if
/// its parent is killed.
pub(crate) fn answer(live_bytes: fn() -> usize) {
    for line in io::stdin().lock().lines() {
        match line.as_deref() {
            Ok(ASK_MEMORY) => println!("{}", live_bytes()),
            Ok(ASK_SENT) => println!("{}", datagrams::SENT.load(Ordering::Relaxed)),
            Ok(ASK_RECEIVED) => println!("{}", services::RECEIVED.load(Ordering::Relaxed)),
            _ => break,
        }
    }
    std::process::exit(0);
}

/// Reports that the services are ready.
pub(crate) fn ready() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{READY}")?;
    out.flush()
}

fn open_tun(contender: Contender, options: &Options) -> io::Result<Tun> {
    let config = match (&options.tun, contender.tun()) {
        // One that exists has its addresses.
        (Some(name), _) => TunConfig::new(name),
        (None, Some(name)) => TunConfig::new(name).address(format!("{}/24", contender.kernel_address()))?,
        (None, None) => unreachable!("only who has a TUN device opens one"),
    };
    Tun::open(&config.mtu(options.mtu).queues(options.queues))
}

pub(crate) fn runtime(kind: RuntimeKind) -> io::Result<Runtime> {
    match kind {
        RuntimeKind::Current => Builder::new_current_thread().enable_all().build(),
        RuntimeKind::Multi => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    }
}

/// netstack, driven by the runtime that also runs the services.
fn netstack(contender: Contender, options: &Options) -> io::Result<()> {
    let tun = Arc::new(open_tun(contender, options)?);
    runtime(options.runtime)?.block_on(async {
        let interface = Interface::new(tun).address(&format!("{}/24", contender.address()));
        let stack = Stack::builder().interface(interface).build()?;
        let listen = async |port| net::TcpListener::bind_on(&stack, (contender.address(), port)).await;
        let listeners = Listeners {
            sink: listen(SINK_PORT).await?,
            source: listen(SOURCE_PORT).await?,
            echo: listen(ECHO_PORT).await?,
            hold: listen(HOLD_PORT).await?,
        };
        let bind = async |port, mode: Mode| {
            let socket = net::UdpSocket::bind_on(&stack, (contender.address(), mode.port(port))).await?;
            Ok::<_, io::Error>(Ours { socket, mode })
        };
        let sockets = Sockets {
            sinks: [bind(SINK_PORT, Mode::Single).await?, bind(SINK_PORT, Mode::Segmented).await?],
            sources: [bind(SOURCE_PORT, Mode::Single).await?, bind(SOURCE_PORT, Mode::Segmented).await?],
        };
        datagrams::serve(sockets);
        ready()?;
        services::serve(listeners).await;
        Ok(())
    })
}

/// The kernel's TCP, in whichever namespace this process is.
fn kernel(options: &Options) -> io::Result<()> {
    runtime(options.runtime)?.block_on(async {
        let listeners = Listeners {
            sink: kernel_listener(SINK_PORT)?,
            source: kernel_listener(SOURCE_PORT)?,
            echo: kernel_listener(ECHO_PORT)?,
            hold: kernel_listener(HOLD_PORT)?,
        };
        let bind = async |port, mode: Mode| Kernel::bind(mode.port(port), mode).await;
        let sockets = Sockets {
            sinks: [bind(SINK_PORT, Mode::Single).await?, bind(SINK_PORT, Mode::Segmented).await?],
            sources: [bind(SOURCE_PORT, Mode::Single).await?, bind(SOURCE_PORT, Mode::Segmented).await?],
        };
        datagrams::serve(sockets);
        ready()?;
        services::serve(listeners).await;
        Ok(())
    })
}

/// A listener at `port`, in whichever namespace this process is.
pub(crate) fn kernel_listener(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Accepted sockets inherit it. Without the right to select it, the kernel's default is used,
    // and the client reports that.
    let _ = socket.set_tcp_congestion(crate::client::CONGESTION_CONTROL);
    // Connections of an earlier one may be left.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}
