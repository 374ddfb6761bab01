//! UDP sockets of the stack and of the kernel at the two ends of a TUN device: what one says, the other says.

use crate::common::{self, Family, OFFLOAD, PLAIN, at, runtime};
use crate::connections::allocated;
use netstack::net::udp::Transmit;
use netstack::reasons::DropReason;
use netstack::{Config, Interface, Stack};
use netstack_tun::netns::isolated_within;
use netstack_tun::{Tun, TunConfig};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// How long to wait for what should come, and for what should not.
const SOON: Duration = Duration::from_secs(5);
const NEVER: Duration = Duration::from_millis(50);

/// A socket of either side.
enum Either {
    Kernel(tokio::net::UdpSocket),
    Ours(netstack::net::UdpSocket),
}

macro_rules! both {
    ($socket:expr, $it:ident => $call:expr) => {
        match $socket {
            Either::Kernel($it) => $call,
            Either::Ours($it) => $call,
        }
    };
}

/// One end of the device.
#[derive(Clone, Copy)]
enum Side<'a> {
    Kernel,
    Ours(&'a Stack),
}

impl Side<'_> {
    async fn bind(self, addr: SocketAddr) -> io::Result<Either> {
        match self {
            Self::Kernel => tokio::net::UdpSocket::bind(addr).await.map(Either::Kernel),
            Self::Ours(stack) => stack.udp_socket(addr).await.map(Either::Ours),
        }
    }

    fn address(self, family: Family) -> IpAddr {
        match self {
            Self::Kernel => family.kernel(),
            Self::Ours(_) => family.stack(),
        }
    }

    /// The index of the interface in front of the device.
    fn interface(self) -> u32 {
        match self {
            Self::Kernel => std::fs::read_to_string("/sys/class/net/tun0/ifindex")
                .map_or_else(|_| 2, |text| text.trim().parse().unwrap()),
            Self::Ours(_) => 1,
        }
    }
}

impl Either {
    fn port(&self) -> u16 {
        both!(self, socket => socket.local_addr()).unwrap().port()
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<()> {
        both!(self, socket => socket.connect(addr).await)
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        both!(self, socket => socket.send(bytes).await)
    }

    async fn send_to(&self, bytes: &[u8], addr: SocketAddr) -> io::Result<usize> {
        both!(self, socket => socket.send_to(bytes, addr).await)
    }

    /// Receives within a time, or says that nothing came.
    async fn recv(&self, buf: &mut [u8], wait: Duration) -> io::Result<(usize, SocketAddr)> {
        let received = both!(self, socket => timeout(wait, socket.recv_from(buf)).await);
        received.unwrap_or_else(|_| Err(io::Error::other("nothing came")))
    }

    async fn peek(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let peeked = both!(self, socket => timeout(SOON, socket.peek_from(buf)).await);
        peeked.unwrap_or_else(|_| Err(io::Error::other("nothing came")))
    }

    fn allow_broadcast(&self) -> io::Result<()> {
        both!(self, socket => socket.set_broadcast(true))
    }

    fn take_error(&self) -> io::Result<Option<io::Error>> {
        both!(self, socket => socket.take_error())
    }

    fn local_ip_is(&self, ip: IpAddr) -> bool {
        both!(self, socket => socket.local_addr()).unwrap().ip() == ip
    }

    fn join(&self, side: Side<'_>, group: IpAddr) -> io::Result<()> {
        match group {
            IpAddr::V4(group) => {
                let IpAddr::V4(on) = side.address(Family::V4) else { unreachable!("an address of IPv4") };
                both!(self, socket => socket.join_multicast_v4(group, on))
            }
            IpAddr::V6(group) => both!(self, socket => socket.join_multicast_v6(&group, side.interface())),
        }
    }

    fn set_multicast_if(&self, side: Side<'_>) -> io::Result<()> {
        let v4 = match side.address(Family::V4) {
            IpAddr::V4(v4) => v4,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        match self {
            Self::Kernel(socket) => {
                let socket_ref = SockRef::from(socket);
                if socket.local_addr()?.is_ipv4() {
                    socket_ref.set_multicast_if_v4(&v4)
                } else {
                    socket_ref.set_multicast_if_v6(side.interface())
                }
            }
            Self::Ours(socket) if socket.local_addr()?.is_ipv4() => socket.set_multicast_if_v4(&v4),
            Self::Ours(socket) => socket.set_multicast_if_v6(side.interface()),
        }
    }
}

/// What happened, in words that do not depend on the side.
#[derive(Default)]
struct Log(Vec<String>);

impl Log {
    fn note<T: std::fmt::Debug>(&mut self, what: &str, outcome: io::Result<T>) {
        self.0.push(match outcome {
            Ok(value) => format!("{what}: {value:?}"),
            Err(error) => match error.raw_os_error() {
                Some(errno) => format!("{what}: error {errno}"),
                None => format!("{what}: {error}"),
            },
        });
    }
}

fn wildcard(family: Family) -> SocketAddr {
    match family {
        Family::V4 => at(Ipv4Addr::UNSPECIFIED.into(), 0),
        Family::V6 => at(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 253) as u8).collect()
}

/// Sends datagrams of many lengths from `here` to `there`, fragments included.
async fn lengths(here: Side<'_>, there: Side<'_>, family: Family, log: &mut Log) {
    let sender = here.bind(wildcard(family)).await.unwrap();
    let receiver = there.bind(at(there.address(family), 0)).await.unwrap();
    let to = at(there.address(family), receiver.port());
    let mut buf = vec![0; 70_000];
    for len in [0, 1, 1400, 1452, 1453, 1472, 1473, 9000, 65_507, 65_508, 65_527, 65_528, 65_535, 65_536] {
        let payload = pattern(len);
        let sent = sender.send_to(&payload, to).await;
        let arrives = sent.is_ok();
        log.note(&format!("send {len}"), sent);
        if arrives {
            let received = receiver.recv(&mut buf, SOON).await;
            let received =
                received.map(|(len, from)| (len, buf[..len] == payload, from.port() == sender.port()));
            log.note(&format!("received {len}"), received);
        }
    }
}

/// What a connected socket gets, and what it does not.
async fn connecting(here: Side<'_>, there: Side<'_>, family: Family, log: &mut Log) {
    let socket = here.bind(wildcard(family)).await.unwrap();
    let peer = there.bind(at(there.address(family), 0)).await.unwrap();
    let other = there.bind(at(there.address(family), 0)).await.unwrap();
    let mine = at(here.address(family), socket.port());
    let mut buf = [0; 10];
    log.note("send without a peer", socket.send(b"x").await);
    log.note("connect to port 0", socket.connect(at(there.address(family), 0)).await);
    log.note("connect", socket.connect(at(there.address(family), peer.port())).await);
    log.note("the address is concrete", Ok(socket.local_ip_is(here.address(family))));
    other.send_to(b"stranger", mine).await.unwrap();
    peer.send_to(&[7; 100], mine).await.unwrap();
    log.note(
        "cut off",
        socket.recv(&mut buf, SOON).await.map(|(len, from)| (len, from.port() == peer.port())),
    );
    log.note("and filtered", socket.recv(&mut buf, NEVER).await);
    log.note("send elsewhere", socket.send_to(b"y", at(there.address(family), other.port())).await);
    let received = other.recv(&mut buf, SOON).await;
    log.note("received elsewhere", received.map(|(len, from)| (len, from == mine)));
    // The stranger was told that nobody has the port for it, which only a connected one would be.
    log.note("unconnected", other.take_error().map(|error| error.map(|error| error.to_string())));
}

/// What buffers hold of datagrams, and what of the queue stays when the peer changes.
async fn buffers(here: Side<'_>, there: Side<'_>, family: Family, log: &mut Log) {
    let socket = here.bind(wildcard(family)).await.unwrap();
    let peer = there.bind(at(there.address(family), 0)).await.unwrap();
    let other = there.bind(at(there.address(family), 0)).await.unwrap();
    let mine = at(here.address(family), socket.port());
    for payload in [&b"first"[..], b"second", b"", b"fourth"] {
        peer.send_to(payload, mine).await.unwrap();
    }
    let mut buf = [0; 3];
    let from_peer = |outcome: io::Result<(usize, SocketAddr)>| {
        outcome.map(|(len, from)| (len, from.ip() == there.address(family), from.port() == peer.port()))
    };
    log.note("peek cuts off", from_peer(socket.peek(&mut buf).await));
    log.note("and leaves it", from_peer(socket.peek(&mut [0; 10]).await));
    log.note("peek with nothing", from_peer(socket.peek(&mut []).await));
    log.note("receive into nothing", from_peer(socket.recv(&mut [], SOON).await));
    log.note("cut off", from_peer(socket.recv(&mut buf, SOON).await));
    log.note("what was received", Ok(String::from_utf8_lossy(&buf).into_owned()));
    log.note("an empty one", from_peer(socket.recv(&mut buf, SOON).await));
    log.note("connect to another", socket.connect(at(there.address(family), other.port())).await);
    log.note("what was there stays", from_peer(socket.recv(&mut [0; 10], SOON).await));
    peer.send_to(b"late", mine).await.unwrap();
    log.note("and no more comes", socket.recv(&mut buf, NEVER).await);
    log.note("connect again", socket.connect(at(there.address(family), peer.port())).await);
    peer.send_to(b"now", mine).await.unwrap();
    log.note("from the new peer", from_peer(socket.recv(&mut buf, SOON).await));
}

/// One socket for both families, and datagrams to all hosts of the link.
async fn dual_stack(here: Side<'_>, there: Side<'_>, log: &mut Log) {
    let both = there.bind(wildcard(Family::V6)).await.unwrap();
    let v4 = here.bind(wildcard(Family::V4)).await.unwrap();
    let mut buf = [0; 10];
    log.note("send", v4.send_to(b"v4", at(there.address(Family::V4), both.port())).await);
    let received = both.recv(&mut buf, SOON).await;
    let IpAddr::V4(sender) = here.address(Family::V4) else { unreachable!("an address of IPv4") };
    let mapped = at(sender.to_ipv6_mapped().into(), v4.port());
    log.note("a mapped sender", received.map(|(len, from)| (len, from == mapped)));
    log.note("back", both.send_to(b"back", mapped).await);
    let back = v4.recv(&mut buf, SOON).await;
    log.note("from IPv4", back.map(|(len, from)| (len, from.ip() == there.address(Family::V4))));
    log.note("an IPv4 address", both.send_to(b"x", at(sender.into(), v4.port())).await);
    log.note("IPv4 socket to IPv6", v4.send_to(b"x", at(there.address(Family::V6), 9)).await);
    log.note("connect to a mapped one", both.connect(mapped).await);
    log.note("send to a mapped one", both.send(b"xyz").await);
    log.note("received", v4.recv(&mut [0; 10], SOON).await.map(|(len, _)| len));
    log.note("permission", v4.allow_broadcast());
    log.note("broadcast", v4.send_to(b"all", "10.9.0.255:9".parse().unwrap()).await);
    log.note("connect to broadcast", v4.connect("10.9.0.255:9".parse().unwrap()).await);
}

/// ICMP errors, and calls that cannot work.
async fn errors(here: Side<'_>, there: Side<'_>, family: Family, log: &mut Log) {
    let closed = {
        let gone = there.bind(at(there.address(family), 0)).await.unwrap();
        at(there.address(family), gone.port())
    };
    let mut buf = [0; 10];
    let connected = here.bind(wildcard(family)).await.unwrap();
    connected.connect(closed).await.unwrap();
    log.note("send to a closed port", connected.send(b"x").await);
    log.note("refused", connected.recv(&mut buf, SOON).await);
    log.note("once", connected.recv(&mut buf, NEVER).await);
    log.note("send again", connected.send(b"x").await);
    tokio::time::sleep(NEVER).await;
    log.note("send after an error", connected.send(b"x").await);
    log.note("and again", connected.send(b"x").await);
    tokio::time::sleep(NEVER).await;
    log.note("taken", connected.take_error().map(|error| error.and_then(|error| error.raw_os_error())));
    log.note("taken once", connected.take_error().map(|error| error.is_some()));

    let loose = here.bind(wildcard(family)).await.unwrap();
    log.note("not connected", loose.send_to(b"x", closed).await);
    log.note("says nothing", loose.recv(&mut buf, NEVER).await);
    log.note("port 0", loose.send_to(b"x", at(there.address(family), 0)).await);
    log.note("no route", loose.send_to(b"x", "198.51.100.1:9".parse().unwrap()).await);
    log.note("no route over IPv6", loose.send_to(b"x", "[2001:db8::1]:9".parse().unwrap()).await);
    log.note("broadcast", loose.send_to(b"x", "10.9.0.255:9".parse().unwrap()).await);
    log.note("connect to broadcast", loose.connect("10.9.0.255:9".parse().unwrap()).await);
    log.note("bind elsewhere", here.bind("10.9.0.77:0".parse().unwrap()).await.map(|_| ()));
    let taken = at(here.address(family), loose.port());
    log.note("bind twice", here.bind(taken).await.map(|_| ()));
}

/// A group on the link.
async fn groups(here: Side<'_>, there: Side<'_>, family: Family, log: &mut Log) {
    let group: IpAddr = match family {
        Family::V4 => "239.9.9.9".parse().unwrap(),
        Family::V6 => "ff05::99".parse().unwrap(),
    };
    let receiver = there.bind(wildcard(family)).await.unwrap();
    let sender = here.bind(wildcard(family)).await.unwrap();
    let to = at(group, receiver.port());
    let mut buf = [0; 10];
    log.note("interface", sender.set_multicast_if(here));
    log.note("send before", sender.send_to(b"x", to).await);
    log.note("nobody", receiver.recv(&mut buf, NEVER).await);
    log.note("join", receiver.join(there, group));
    log.note("join twice", receiver.join(there, group));
    log.note("send", sender.send_to(b"xy", to).await);
    let received = receiver.recv(&mut buf, SOON).await;
    log.note("received", received.map(|(len, from)| (len, from.ip() == here.address(family))));
    log.note("an answer to a group is none", sender.recv(&mut buf, NEVER).await);
    let not_a_group = receiver.join(there, there.address(family));
    log.note("no group", not_a_group);
}

async fn everything(here: Side<'_>, there: Side<'_>) -> Vec<String> {
    let mut log = Log::default();
    for family in Family::ALL {
        log.0.push(format!("{family:?}"));
        lengths(here, there, family, &mut log).await;
        connecting(here, there, family, &mut log).await;
        buffers(here, there, family, &mut log).await;
        errors(here, there, family, &mut log).await;
        groups(here, there, family, &mut log).await;
    }
    dual_stack(here, there, &mut log).await;
    log.0
}

fn compare(path: common::Path) {
    runtime().block_on(async {
        let stack = common::stack(path, Config::default()).unwrap();
        let kernel = everything(Side::Kernel, Side::Ours(&stack)).await;
        let ours = everything(Side::Ours(&stack), Side::Kernel).await;
        let differ: Vec<_> = kernel.iter().zip(&ours).filter(|(kernel, ours)| kernel != ours).collect();
        println!("{} outcomes, {} differ", kernel.len(), differ.len());
        assert!(differ.is_empty() && kernel.len() == ours.len(), "kernel and stack: {differ:#?}");
    });
}

#[test]
fn the_stack_says_what_the_kernel_says() {
    isolated_within(Duration::from_secs(120), "udp::the_stack_says_what_the_kernel_says", || {
        compare(OFFLOAD)
    });
}

#[test]
fn the_stack_says_what_the_kernel_says_without_offloads() {
    isolated_within(
        Duration::from_secs(120),
        "udp::the_stack_says_what_the_kernel_says_without_offloads",
        || compare(PLAIN),
    );
}

/// Several datagrams in one packet, which the kernel divides where it can.
#[test]
fn many_datagrams_leave_as_one_packet() {
    isolated_within(Duration::from_secs(120), "udp::many_datagrams_leave_as_one_packet", || {
        runtime().block_on(async {
            let tun = TunConfig::new("tun0").address("10.9.0.1/24").unwrap().address("fd09::1/64").unwrap();
            let tun = Tun::open(&tun).unwrap();
            let expected = if tun.udp_offload() { 1 } else { 40 };
            let interface = Interface::new(Arc::new(tun)).address("10.9.0.2/24").address("fd09::2/64");
            let stack = Stack::builder().interface(interface).build().unwrap();
            for family in Family::ALL {
                let kernel = tokio::net::UdpSocket::bind(at(family.kernel(), 0)).await.unwrap();
                let ours = stack.udp_socket(at(family.stack(), 0)).await.unwrap();
                let payload = pattern(39 * 1400 + 100);
                let before = stack.counters().out_packets;
                let transmit = Transmit {
                    destination: kernel.local_addr().unwrap(),
                    ecn: None,
                    contents: &payload,
                    segment_size: Some(1400),
                    src_ip: None,
                };
                ours.send_msg(&transmit).await.unwrap();
                assert_eq!(stack.counters().out_packets - before, expected, "{family:?}");
                let mut received: Vec<u8> = Vec::new();
                let mut buf = [0; 2000];
                while received.len() < payload.len() {
                    let (len, _) = timeout(SOON, kernel.recv_from(&mut buf)).await.unwrap().unwrap();
                    assert_eq!(len, 1400.min(payload.len() - received.len()));
                    received.extend(&buf[..len]);
                }
                assert!(received == payload, "{family:?}: every byte, in order");
            }
            println!("{expected} packets for 40 datagrams");
        });
    });
}

/// Sends a datagram to the socket itself, receives it, and waits for another.
async fn use_once(socket: &mut netstack::net::UdpSocket, buf: &mut [u8]) {
    socket.send_to(b"x", socket.local_addr().unwrap()).await.unwrap();
    socket.recv_from(buf).await.unwrap();
    let mut next = std::pin::pin!(socket.recv_from(buf));
    let waits = std::future::poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await;
    assert!(waits);
}

#[test]
fn an_idle_socket_takes_few_bytes() {
    isolated_within(Duration::from_secs(120), "udp::an_idle_socket_takes_few_bytes", || {
        runtime().block_on(async {
            const SOCKETS: usize = 10_000;
            let stack = Stack::builder().build().unwrap();
            let mut buf = [0; 8];
            let mut first = stack.udp_socket("127.0.0.1:0").await.unwrap();
            // What the reactor needs for itself.
            use_once(&mut first, &mut buf).await;
            let mut sockets = Vec::with_capacity(SOCKETS);
            let before = allocated();
            for _ in 0..SOCKETS {
                sockets.push(stack.udp_socket("127.0.0.1:0").await.unwrap());
            }
            let each = (allocated() - before) / SOCKETS;
            for socket in &mut sockets {
                use_once(socket, &mut buf).await;
            }
            let used = (allocated() - before) / SOCKETS;
            println!("{used} bytes for a socket that was used and waits for a datagram");
            // It keeps its place in the reactor.
            assert!(used <= 544, "{used}");
            println!("{each} bytes for an idle socket, in addition to its handle");
            // With the share that the tables have at this number.
            assert!(each <= 512, "{each}");
        });
    });
}

/// What a flood under test consists of.
#[derive(Clone, Copy, Debug)]
enum Flood {
    ClosedPorts,
    Unread,
    Fragments,
}

/// Packets in the queue of the device at most, which has 10,000 places. It drops from a queue that is full, SYNs as well,
/// and how fast the flood is then is a matter of how fast the kernel is.
const QUEUED: u64 = 2_000;

impl Flood {
    /// Sends until it should stop, as fast as the stack receives, which is said by `received`. Gives how many.
    fn send(self, unread: SocketAddr, stop: &AtomicBool, received: impl Fn() -> u64) -> io::Result<u64> {
        let IpAddr::V4(to) = Family::V4.stack() else { unreachable!("an address of IPv4") };
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // With the protocol 255, what is sent begins with the IP header.
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
        let raw_to = SocketAddr::from((to, 0)).into();
        let payload = [7; 1400];
        let mut sent = 0u64;
        let begin = received();
        while !stop.load(Ordering::Relaxed) {
            if sent.is_multiple_of(QUEUED / 8) && sent > received() - begin + QUEUED / 2 {
                std::thread::yield_now();
                continue;
            }
            match self {
                Self::ClosedPorts => udp.send_to(&payload, (to, 20_000 + (sent % 30_000) as u16))?,
                Self::Unread => udp.send_to(&payload, unread)?,
                Self::Fragments => raw.send_to(&lone_fragment(to, sent as u16, &payload), &raw_to)?,
            };
            sent += 1;
        }
        Ok(sent)
    }
}

/// The first fragment of a datagram, which no other follows. The kernel fills in the source and the checksum.
fn lone_fragment(to: Ipv4Addr, ident: u16, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x20, 0, 64, 17, 0, 0, 0, 0, 0, 0];
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[4..6].copy_from_slice(&ident.max(1).to_be_bytes());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

#[test]
fn a_tcp_client_is_served_beside_floods_of_datagrams() {
    // Queues that overflow, the store of fragments, and what answers need.
    const ALLOWANCE: usize = 12 << 20;
    let limit = Duration::from_secs(120);
    isolated_within(limit, "udp::a_tcp_client_is_served_beside_floods_of_datagrams", || {
        runtime().block_on(async {
            let stack = common::stack(OFFLOAD, Config::default()).unwrap();
            let listener = stack.listen(at(Family::V4.stack(), 7)).await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let (mut read, mut write) = stream.split();
                        tokio::io::copy(&mut read, &mut write).await
                    });
                }
            });
            let unread = stack.udp_socket(at(Family::V4.stack(), 0)).await.unwrap();
            let unread_addr = unread.local_addr().unwrap();
            for flood in [Flood::ClosedPorts, Flood::Unread, Flood::Fragments] {
                let (before, counted) = (allocated(), dropped(&stack));
                let stop = Arc::new(AtomicBool::new(false));
                let flooding = {
                    let stop = Arc::clone(&stop);
                    let stack = stack.clone();
                    let received = move || stack.counters().in_receives;
                    std::thread::spawn(move || flood.send(unread_addr, &stop, received))
                };
                let (mut slowest, mut most) = (Duration::ZERO, 0);
                for _ in 0..20 {
                    let begin = tokio::time::Instant::now();
                    let echo = async {
                        let mut client = tokio::net::TcpStream::connect(address).await?;
                        client.write_all(b"x").await?;
                        client.read_u8().await
                    };
                    timeout(SOON, echo).await.expect("served at all").unwrap();
                    slowest = slowest.max(begin.elapsed());
                    most = most.max(allocated());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                stop.store(true, Ordering::Relaxed);
                let sent = tokio::task::spawn_blocking(|| flooding.join().unwrap()).await.unwrap().unwrap();
                let (counted, grown) = (dropped(&stack) - counted, most.saturating_sub(before));
                println!("{flood:?}: {sent} sent, {counted} counted, {} KiB, {slowest:?}", grown >> 10);
                assert!(slowest < Duration::from_secs(1), "{flood:?}: {slowest:?}");
                assert!(grown <= ALLOWANCE, "{flood:?}: {grown}");
                // The queue of the device holds some, and the store of fragments has 4 MiB for others, each of
                // which counts as more than 256 bytes there.
                let kept = if matches!(flood, Flood::Fragments) { 4_000 + (4 << 20) / 256 } else { 4_000 };
                assert!(counted + kept >= sent && sent > 1000, "{flood:?}: {counted} of {sent}");
            }
        });
    });
}

/// Datagrams and fragments that the stack has dropped.
fn dropped(stack: &Stack) -> u64 {
    let counters = stack.counters();
    counters.udp_no_ports + counters.udp_rcvbuf_errors + counters.drops(DropReason::FragMemory)
}
