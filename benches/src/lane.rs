//! A private network with an impaired path, and transfers over that path.
//!
//! ```text
//! netstack --- TUN --\
//!                     forwarding --- wire0 === emulator === wire1 --- far host: the kernel
//! kernel ---- veth --/
//! ```
//! The packets of every host on the left are forwarded by the kernel of one namespace and pass the
//! emulator of `examples/wire.rs` one by one. The far host is the kernel, and the same for all.

use crate::clock;
use netstack::device::{Link, LinkConfig};
use netstack::{Config, Interface, Stack, net};
use netstack_examples::relay::{self, Timing};
use netstack_tun::netns::{self, Namespace};
use netstack_tun::{Cidr, Tun, TunConfig, interface};
use socket2::{Domain, Socket, Type};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

/// The forwarder's end of the wire, and the far host.
const WIRE: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
const PORT: u16 = 5001;

/// The kernel's buffers: the defaults of Linux, and netstack's. A new namespace may inherit other
/// values from a tuned host.
const BUFFERS: [(&str, &str); 2] =
    [("net.ipv4.tcp_rmem", "4096 131072 33554432"), ("net.ipv4.tcp_wmem", "4096 16384 4194304")];

/// Bytes of one read or write.
const BLOCK: usize = 64 * 1024;

/// How long connecting may take: some SYNs may be lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The host on the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// netstack over TUN.
    Netstack,
    /// The kernel over a veth pair.
    Kernel,
}

impl Host {
    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Netstack => "netstack",
            Self::Kernel => "kernel",
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Netstack, Self::Kernel]
            .into_iter()
            .find(|host| host.name() == text)
            .ok_or_else(|| format!("no host `{text}`: netstack or kernel"))
    }
}

/// The transfers of a lane.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The hosts on the left. Each has its own flow, all at the same time.
    pub hosts: Vec<Host>,
    /// Whether they send, and not the far host.
    pub outwards: bool,
    /// Congestion control of the senders.
    pub congestion: String,
    /// The impairments of data.
    pub data: LinkConfig,
    /// The impairments of acknowledgments.
    pub acks: LinkConfig,
    /// How exact the emulator's times are.
    pub timing: Timing,
    /// Warm-up time after the start of the connections, which is not measured.
    pub warm_up: Duration,
    /// The measured time.
    pub time: Duration,
}

/// Runs a lane in a new network namespace and returns the bytes that the receiver of each flow has
/// read. It must be called first in a process, and the process must end after it, because the
/// threads keep running.
///
/// # Errors
/// If namespaces or devices are not permitted, a host does not have the congestion control, or a
/// connection fails.
pub fn run(lane: &Lane) -> io::Result<Vec<u64>> {
    netns::enter_private()?;
    netns::sysctl("net.ipv4.ip_forward", "1")?;
    let far = far_host(lane)?;
    let counters: Vec<_> = lane.hosts.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
    listen(lane, &far, &counters)?;
    let (failed, failures) = mpsc::channel();
    // All connect at the same time, after everything is set up.
    let start = Arc::new(Barrier::new(lane.hosts.len() + 1));
    let mut namespaces = Vec::new();
    for (number, (&host, counter)) in lane.hosts.iter().zip(&counters).enumerate() {
        let flow = Flow {
            number: number as u8,
            outwards: lane.outwards,
            congestion: lane.congestion.clone(),
            received: Arc::clone(counter),
            start: Arc::clone(&start),
        };
        match host {
            Host::Netstack => flow.on_netstack(failed.clone())?,
            Host::Kernel => namespaces.push(flow.on_kernel(failed.clone())?),
        }
    }
    start.wait();
    let begin = clock::now();
    let count = || counters.iter().map(|counter| counter.load(Ordering::Relaxed)).collect::<Vec<_>>();
    clock::sleep((begin + lane.warm_up).saturating_duration_since(clock::now()));
    let before = count();
    clock::sleep((begin + lane.warm_up + lane.time).saturating_duration_since(clock::now()));
    let after = count();
    if let Ok(error) = failures.try_recv() {
        return Err(error);
    }
    Ok(before.iter().zip(&after).map(|(before, after)| after - before).collect())
}

/// The far host, and the wire to it.
fn far_host(lane: &Lane) -> io::Result<Namespace> {
    let open = |config: TunConfig| Tun::open(&config.offload(false));
    let here = open(TunConfig::new("wire0").address(format!("{WIRE}/24"))?)?;
    let there = open(TunConfig::new("wire1"))?;
    let far = Namespace::new()?;
    interface::move_to("wire1", &far)?;
    far.run(|| {
        interface::up("wire1")?;
        interface::add_address("wire1", cidr(FAR)?)?;
        interface::add_route(everywhere()?, Some(WIRE.into()), "wire1")?;
        BUFFERS.iter().try_for_each(|(name, value)| netns::sysctl(name, value))
    })??;
    // Packets that the link receives come from the left.
    let (right, left) = if lane.outwards { (&lane.data, &lane.acks) } else { (&lane.acks, &lane.data) };
    let link = Link::new(Arc::new(here), right.clone(), left.clone());
    let (runtime, timing) = (runtime()?, lane.timing);
    thread::Builder::new().name("wire".to_owned()).spawn(move || {
        runtime.block_on(async {
            if let Err(error) = relay::forward(&link, &there, timing).await {
                eprintln!("the wire has failed: {error}");
            }
        });
    })?;
    Ok(far)
}

/// The far end of each flow, which is identified by the address of its near end.
fn listen(lane: &Lane, far: &Namespace, counters: &[Arc<AtomicU64>]) -> io::Result<()> {
    let listener: TcpListener = far.run(|| {
        let socket = kernel_socket(&lane.congestion)?;
        socket.bind(&SocketAddr::from((FAR, PORT)).into())?;
        socket.listen(16)?;
        Ok::<_, io::Error>(socket.into())
    })??;
    let (outwards, counters) = (lane.outwards, counters.to_vec());
    thread::Builder::new().name("listener".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(SocketAddr::V4(peer)) = stream.peer_addr() else { continue };
            let counter = counters.get(usize::from(peer.ip().octets()[2]) - 1).cloned();
            let Some(counter) = counter else { continue };
            // The other end reports why a connection has ended.
            thread::spawn(move || if outwards { receive(stream, &counter) } else { send(stream) });
        }
    })?;
    Ok(())
}

/// One flow, for its near end.
struct Flow {
    number: u8,
    outwards: bool,
    congestion: String,
    /// Bytes that the receiver has read.
    received: Arc<AtomicU64>,
    start: Arc<Barrier>,
}

impl Flow {
    /// The forwarder's address, and that of the host.
    fn addresses(&self) -> [Ipv4Addr; 2] {
        [1, 2].map(|host| Ipv4Addr::new(10, 7, self.number + 1, host))
    }

    fn on_netstack(self, failed: mpsc::Sender<io::Error>) -> io::Result<()> {
        let [gateway, address] = self.addresses();
        let name = format!("netstack{}", self.number);
        let tun = Tun::open(&TunConfig::new(name).address(format!("{gateway}/24"))?)?;
        let interface =
            Interface::new(Arc::new(tun)).address(&format!("{address}/24")).gateway(&gateway.to_string());
        let config = Config::default().with(|config| config.loopback = false);
        let runtime = runtime()?;
        thread::Builder::new().name("netstack".to_owned()).spawn(move || {
            let result = runtime.block_on(async {
                let stack = Stack::builder().config(config).interface(interface).build()?;
                let socket = net::TcpSocket::new_v4_on(&stack)?;
                net::SockRef::from(&socket).set_tcp_congestion(self.congestion.as_bytes())?;
                self.start.wait();
                self.move_bytes(socket.connect((FAR, PORT).into()).await?).await
            });
            // No thread waits any more after the time has passed.
            let _ = result.map_err(|error| failed.send(error));
        })?;
        Ok(())
    }

    async fn move_bytes(&self, mut stream: net::TcpStream) -> io::Result<()> {
        let mut block = vec![0x5a; BLOCK];
        loop {
            if self.outwards {
                stream.write_all(&block).await?;
            } else {
                match stream.read(&mut block).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    len => self.received.fetch_add(len as u64, Ordering::Relaxed),
                };
            }
        }
    }

    fn on_kernel(self, failed: mpsc::Sender<io::Error>) -> io::Result<Namespace> {
        let [gateway, address] = self.addresses();
        let (here, there) = (format!("kernel{}", self.number), format!("host{}", self.number));
        let namespace = Namespace::new()?;
        interface::veth_pair(&here, &there)?;
        interface::move_to(&there, &namespace)?;
        interface::up(&here)?;
        interface::add_address(&here, cidr(gateway)?)?;
        let socket = namespace.run(|| {
            interface::up(&there)?;
            interface::add_address(&there, cidr(address)?)?;
            interface::add_route(everywhere()?, Some(gateway.into()), &there)?;
            BUFFERS.iter().try_for_each(|(name, value)| netns::sysctl(name, value))?;
            kernel_socket(&self.congestion)
        })??;
        thread::Builder::new().name("kernel".to_owned()).spawn(move || {
            self.start.wait();
            if let Err(error) = socket.connect_timeout(&SocketAddr::from((FAR, PORT)).into(), CONNECT_TIMEOUT)
            {
                let _ = failed.send(error);
                return;
            }
            if self.outwards {
                send(socket.into());
            } else {
                receive(socket.into(), &self.received);
            }
            // It can only have failed, and after the measurement no thread receives the error.
            let _ = failed.send(io::Error::other("the kernel's connection has ended"));
        })?;
        Ok(namespace)
    }
}

/// A socket with the given congestion control: the default that a new namespace inherits is not
/// known.
fn kernel_socket(congestion: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_tcp_congestion(congestion.as_bytes()).map_err(|error| {
        io::Error::new(error.kind(), format!("the kernel's sockets may not have `{congestion}`: {error}"))
    })?;
    Ok(socket)
}

/// Reads until the end, and counts the bytes.
fn receive(mut stream: TcpStream, received: &AtomicU64) {
    let mut block = vec![0; BLOCK];
    while let Ok(len) = stream.read(&mut block)
        && len > 0
    {
        received.fetch_add(len as u64, Ordering::Relaxed);
    }
}

/// Writes until that fails.
fn send(mut stream: TcpStream) {
    let block = vec![0x5a; BLOCK];
    while stream.write_all(&block).is_ok() {}
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn cidr(address: Ipv4Addr) -> io::Result<Cidr> {
    Cidr::new(IpAddr::V4(address), 24)
}

fn everywhere() -> io::Result<Cidr> {
    Cidr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)
}
