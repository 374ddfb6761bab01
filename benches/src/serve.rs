//! One contender as a process: the measured end.

use crate::contender::{Contender, Medium, Nic};
use crate::datagrams::{self, Kernel, Mode, Ours, Sockets};
use crate::limit::{self, Copying, Waiting};
use crate::peers;
use crate::polled;
#[cfg(feature = "peers")]
use crate::services::Local;
use crate::services::{self, Service};
use netstack::config::CongestionName;
use netstack::{Config, Interface, Stack, net};
use netstack_tun::{Tun, TunConfig};
use socket2::{Domain, Socket, Type};
use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// What the process prints when its services are ready.
pub const READY: &str = "ready ";
/// A request on standard input. The answer is the number of live bytes of the heap.
pub const ASK_MEMORY: &str = "memory";

/// A request on standard input. The answer is the number of bytes that the sinks have read.
pub const ASK_RECEIVED: &str = "received";

/// A request on standard input. The answer is the number of bytes that the sources of datagrams have sent.
pub const ASK_SENT: &str = "sent";

/// The kernel's end of a TUN device or veth pair, in a network of 24 bits.
pub(crate) const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// The measured end.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// The name of a TUN device that is made here.
const TUN: &str = "bench0";

/// The kernel's default. Less would refuse bursts; see `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The kind of tokio runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RuntimeKind {
    /// One thread.
    #[default]
    Current,
    /// Two workers.
    Multi,
}

/// The address of the services of `contender`.
pub const fn address(contender: Contender) -> Ipv4Addr {
    match contender.medium() {
        Medium::Tun | Medium::Veth => SERVER,
        Medium::Loopback => Ipv4Addr::LOCALHOST,
    }
}

/// The options of a contender.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its TUN device.
    pub nic: Nic,
    /// The name of an existing TUN device to use instead of a new one.
    pub tun: Option<String>,
    /// The runtime, where it has one.
    pub runtime: RuntimeKind,
    /// For how long netstack polls its device before it waits ([`Config::busy_poll`]). The bare
    /// limit does the same, and with any the kernel's echo polls and never waits.
    pub busy_poll: Duration,
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
    let open = || open_tun(contender, options);
    match contender {
        Contender::Limit | Contender::LimitCopy | Contender::LimitTokio => {
            let tun = open()?;
            ready()?;
            let copying = if contender == Contender::LimitCopy { Copying::Once } else { Copying::None };
            let waiting = match contender {
                Contender::LimitTokio => Waiting::Tokio,
                _ if options.busy_poll.is_zero() => Waiting::Thread,
                _ => Waiting::Polling(options.busy_poll),
            };
            limit::run(&tun, copying, waiting)
        }
        Contender::Netstack | Contender::NetstackBytes => {
            let owned = contender == Contender::NetstackBytes;
            runtime(options.runtime)?.block_on(netstack(open()?, options.busy_poll, owned))
        }
        Contender::KernelVeth | Contender::KernelLoopback => {
            runtime(options.runtime)?.block_on(kernel(!options.busy_poll.is_zero()))
        }
        Contender::Smoltcp => peers::smoltcp::serve(&open()?, SERVER, ready),
        #[cfg(feature = "peers")]
        Contender::Ipstack => {
            runtime(options.runtime)?.block_on(async { peers::ipstack::serve(open()?, Local, ready).await })
        }
        #[cfg(feature = "peers")]
        Contender::NetstackSmoltcp => runtime(options.runtime)?.block_on(async {
            if options.nic.offload && options.tun.is_none() {
                let device = peers::netstack_smoltcp::offload_device(TUN, KERNEL, options.nic.mtu)?;
                peers::netstack_smoltcp::serve_offload(device, Local, ready).await
            } else {
                peers::netstack_smoltcp::serve(open()?, Local, ready).await
            }
        }),
        #[cfg(feature = "peers")]
        Contender::TcpIp => {
            runtime(options.runtime)?.block_on(async { peers::tcp_ip::serve(open()?, Local, ready).await })
        }
        #[cfg(not(feature = "peers"))]
        Contender::Ipstack | Contender::NetstackSmoltcp | Contender::TcpIp => {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}

/// Answers requests until standard input ends, and then ends the process. So a child ends too if
/// its parent is killed.
pub(crate) fn answer(live_bytes: fn() -> usize) {
    answer_until_eof(live_bytes);
    std::process::exit(0);
}

/// Answers requests until standard input ends.
pub(crate) fn answer_until_eof(live_bytes: fn() -> usize) {
    for line in io::stdin().lock().lines() {
        match line.as_deref() {
            Ok(ASK_MEMORY) => println!("{}", live_bytes()),
            Ok(ASK_SENT) => println!("{}", datagrams::SENT.load(Ordering::Relaxed)),
            Ok(ASK_RECEIVED) => println!("{}", services::RECEIVED.load(Ordering::Relaxed)),
            _ => break,
        }
    }
}

/// Reports that the services are ready.
pub(crate) fn ready() -> io::Result<()> {
    ready_at(std::process::id())
}

/// The same where another process does the work.
pub(crate) fn ready_at(process: u32) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{READY}{process}")?;
    out.flush()
}

fn open_tun(contender: Contender, options: &Options) -> io::Result<Tun> {
    let config = match &options.tun {
        // One that exists has its addresses.
        Some(name) => TunConfig::new(name),
        None => TunConfig::new(TUN).address(format!("{KERNEL}/24"))?,
    };
    let Nic { mtu, offload, queues } = options.nic;
    let offload = offload && contender.has_offloads() && contender != Contender::NetstackSmoltcp;
    Tun::open(&config.mtu(mtu).offload(offload).queues(queues))
}

pub(crate) fn runtime(kind: RuntimeKind) -> io::Result<Runtime> {
    match kind {
        RuntimeKind::Current => Builder::new_current_thread().enable_all().build(),
        RuntimeKind::Multi => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    }
}

/// netstack, driven by the runtime that also runs the services; those of streams, and what receives datagrams, with
/// `owned` buffers or with those of a caller.
async fn netstack(tun: Tun, busy_poll: Duration, owned: bool) -> io::Result<()> {
    let interface = Interface::new(Arc::new(tun)).address(&format!("{SERVER}/24"));
    let config = Config::default().with(|config| {
        config.congestion = CongestionName::CUBIC;
        config.busy_poll = busy_poll;
    });
    let stack = Stack::builder().config(config).interface(interface).build()?;
    for service in Service::ALL {
        let listener = net::TcpListener::bind_on(&stack, (SERVER, service.port())).await?;
        if owned {
            tokio::spawn(services::serve_owned(listener, service));
        } else {
            tokio::spawn(services::serve(listener, service));
        }
    }
    let bind = async |service: Service, mode: Mode| {
        let socket = net::UdpSocket::bind_on(&stack, (SERVER, mode.port(service.port()))).await?;
        Ok::<_, io::Error>(Ours { socket, mode, owned })
    };
    datagrams::serve(Sockets {
        sinks: [bind(Service::Sink, Mode::Single).await?, bind(Service::Sink, Mode::Segmented).await?],
        sources: [bind(Service::Source, Mode::Single).await?, bind(Service::Source, Mode::Segmented).await?],
    });
    ready()?;
    std::future::pending().await
}

/// The kernel's TCP and UDP, in whichever namespace this process is. If `polls`, the echo has threads that never wait.
async fn kernel(polls: bool) -> io::Result<()> {
    for service in Service::ALL {
        let listener = kernel_listener(service.port())?;
        if polls && service == Service::Echo {
            let listener = listener.into_std()?;
            listener.set_nonblocking(false)?;
            thread::Builder::new().name("listener".to_owned()).spawn(move || {
                if let Err(error) = polled::echo(&listener) {
                    eprintln!("the polled echo ends: {error}");
                }
            })?;
        } else {
            tokio::spawn(services::serve(listener, service));
        }
    }
    let bind = async |service: Service, mode: Mode| Kernel::bind(mode.port(service.port()), mode).await;
    datagrams::serve(Sockets {
        sinks: [bind(Service::Sink, Mode::Single).await?, bind(Service::Sink, Mode::Segmented).await?],
        sources: [bind(Service::Source, Mode::Single).await?, bind(Service::Source, Mode::Segmented).await?],
    });
    ready()?;
    std::future::pending().await
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
