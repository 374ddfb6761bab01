//! The same calls on sockets of netstack and of tokio, whose kernel has the last word: both over a loopback interface,
//! with the outcomes compared one by one.

use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{Interest, ReadBuf, Ready};
use tokio::time::timeout;

/// By when something has come that is to come.
const SOON: Duration = Duration::from_secs(5);
/// For how long nothing comes that is not to come.
const SHORT: Duration = Duration::from_millis(20);

/// What the two are known to differ in, and why.
const KNOWN: [(&str, &str); 2] = [
    // tokio does not count an error alone as readable, so `try_recv` does not see it before a datagram comes.
    ("try_recv with an error", "tokio waits for a readable socket"),
    // It stays pending there, and so comes with the next call.
    ("send after that", "the error of the row above"),
];

/// What the script calls: the functions of both have the same names.
trait Socket: Sized {
    async fn bind(addr: &str) -> io::Result<Self>;
    async fn connect(&self, addr: SocketAddr) -> io::Result<()>;
    async fn send(&self, bytes: &[u8]) -> io::Result<usize>;
    async fn send_to(&self, bytes: &[u8], addr: SocketAddr) -> io::Result<usize>;
    async fn recv(&self, buf: &mut [u8]) -> io::Result<usize>;
    async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
    async fn recv_buf(&self, buf: &mut Vec<u8>) -> io::Result<usize>;
    async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
    async fn peek_sender(&self) -> io::Result<SocketAddr>;
    async fn readable(&self) -> io::Result<()>;
    async fn ready(&self, interest: Interest) -> io::Result<Ready>;
    fn try_send(&self, bytes: &[u8]) -> io::Result<usize>;
    fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize>;
    fn try_peek(&self, buf: &mut [u8]) -> io::Result<usize>;
    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;
    fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;
    fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn peer_addr(&self) -> io::Result<SocketAddr>;
    fn take_error(&self) -> io::Result<Option<io::Error>>;
    fn set_broadcast(&self, on: bool) -> io::Result<()>;
    fn ttl(&self) -> io::Result<u32>;
    fn set_ttl(&self, ttl: u32) -> io::Result<()>;
    fn tos_v4(&self) -> io::Result<u32>;
    fn set_tos_v4(&self, tos: u32) -> io::Result<()>;
    fn tclass_v6(&self) -> io::Result<u32>;
    fn set_tclass_v6(&self, tclass: u32) -> io::Result<()>;
    fn multicast_ttl_v4(&self) -> io::Result<u32>;
    fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()>;
    fn multicast_loop_v4(&self) -> io::Result<bool>;
    fn multicast_loop_v6(&self) -> io::Result<bool>;
    fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()>;
    fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()>;
    fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()>;
    fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()>;
    fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()>;
    fn bind_device(&self, name: Option<&[u8]>) -> io::Result<()>;
    fn device(&self) -> io::Result<Option<Vec<u8>>>;
}

/// A function that does not wait.
macro_rules! call {
    ($name:ident($($arg:ident: $given:ty),*) -> $out:ty) => {
        fn $name(&self, $($arg: $given),*) -> io::Result<$out> {
            Self::$name(self, $($arg),*)
        }
    };
}

macro_rules! socket {
    ($type:ty) => {
        impl Socket for $type {
            async fn bind(addr: &str) -> io::Result<Self> {
                Self::bind(addr).await
            }
            async fn connect(&self, addr: SocketAddr) -> io::Result<()> {
                Self::connect(self, addr).await
            }
            async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
                Self::send(self, bytes).await
            }
            async fn send_to(&self, bytes: &[u8], addr: SocketAddr) -> io::Result<usize> {
                Self::send_to(self, bytes, addr).await
            }
            async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
                Self::recv(self, buf).await
            }
            async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
                Self::recv_from(self, buf).await
            }
            async fn recv_buf(&self, buf: &mut Vec<u8>) -> io::Result<usize> {
                Self::recv_buf(self, buf).await
            }
            async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
                Self::peek_from(self, buf).await
            }
            async fn peek_sender(&self) -> io::Result<SocketAddr> {
                Self::peek_sender(self).await
            }
            async fn readable(&self) -> io::Result<()> {
                Self::readable(self).await
            }
            async fn ready(&self, interest: Interest) -> io::Result<Ready> {
                Self::ready(self, interest).await
            }
            call!(try_send(bytes: &[u8]) -> usize);
            call!(try_recv(buf: &mut [u8]) -> usize);
            call!(try_peek(buf: &mut [u8]) -> usize);
            fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Self::poll_recv(self, cx, buf)
            }
            fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Self::poll_peek(self, cx, buf)
            }
            fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                Self::poll_send(self, cx, buf)
            }
            call!(local_addr() -> SocketAddr);
            call!(peer_addr() -> SocketAddr);
            call!(take_error() -> Option<io::Error>);
            call!(set_broadcast(on: bool) -> ());
            call!(ttl() -> u32);
            call!(set_ttl(ttl: u32) -> ());
            call!(tos_v4() -> u32);
            call!(set_tos_v4(tos: u32) -> ());
            call!(tclass_v6() -> u32);
            call!(set_tclass_v6(tclass: u32) -> ());
            call!(multicast_ttl_v4() -> u32);
            call!(set_multicast_ttl_v4(ttl: u32) -> ());
            call!(multicast_loop_v4() -> bool);
            call!(multicast_loop_v6() -> bool);
            call!(set_multicast_loop_v6(on: bool) -> ());
            call!(join_multicast_v4(group: Ipv4Addr, interface: Ipv4Addr) -> ());
            call!(leave_multicast_v4(group: Ipv4Addr, interface: Ipv4Addr) -> ());
            call!(join_multicast_v6(group: &Ipv6Addr, interface: u32) -> ());
            call!(leave_multicast_v6(group: &Ipv6Addr, interface: u32) -> ());
            call!(bind_device(name: Option<&[u8]>) -> ());
            call!(device() -> Option<Vec<u8>>);
        }
    };
}

socket!(tokio::net::UdpSocket);
socket!(netstack::net::UdpSocket);

/// What happened, call by call.
#[derive(Default)]
struct Log(Vec<(String, String)>);

impl Log {
    fn note<T: Debug>(&mut self, what: impl Into<String>, outcome: io::Result<T>) {
        let outcome = match outcome {
            Ok(value) => format!("{value:?}"),
            // Of what the kernel says, the number; of what tokio says, the kind.
            Err(error) => {
                error.raw_os_error().map_or(format!("{:?}", error.kind()), |number| format!("error {number}"))
            }
        };
        self.0.push((what.into(), outcome));
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn at(ip: impl Into<IpAddr>, socket: &impl Socket) -> SocketAddr {
    SocketAddr::new(ip.into(), socket.local_addr().unwrap().port())
}

/// An address without its port, which is another on each side.
fn host(addr: io::Result<SocketAddr>) -> io::Result<(IpAddr, bool)> {
    addr.map(|addr| (addr.ip(), addr.port() > 0))
}

async fn soon<T>(what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(SOON, what).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

/// Waits until there is something to read that was not there before.
async fn arrived(socket: &impl Socket) {
    soon(socket.readable()).await.unwrap();
}

/// Reads what there is, so that the socket is not ready.
fn drain(socket: &impl Socket) {
    while socket.try_recv(&mut [0; 9]).is_ok() {}
}

async fn binding<S: Socket>(log: &mut Log) {
    let first = S::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    for ip in ["127.0.0.1", "0.0.0.0", "127.0.0.2"] {
        log.note(format!("bind {ip} at the same port"), S::bind(&format!("{ip}:{port}")).await.map(drop));
    }
    for to in [
        "192.0.2.77:0",
        "224.0.0.77:0",
        "255.255.255.255:0",
        "127.255.255.255:0",
        "[::ffff:127.0.0.1]:0",
        "[::]:0",
        "[fe80::1]:0",
        "[ff02::77]:0",
        "[ff01::77]:0",
        "[ff05::77]:0",
        "[2001:db8::1]:0",
        "nothing",
    ] {
        let bound = S::bind(to).await;
        log.note(format!("bind {to}"), bound.and_then(|socket| host(socket.local_addr())));
    }
}

async fn sending<S: Socket>(log: &mut Log) {
    let socket = S::bind("127.0.0.1:0").await.unwrap();
    let own = socket.local_addr().unwrap();
    log.note("send without a peer", socket.send(b"x").await);
    log.note("peer without a peer", socket.peer_addr());
    for to in [
        "127.0.0.1:0",
        "[::1]:9",
        "[::ffff:127.0.0.1]:9",
        "255.255.255.255:9",
        "127.255.255.255:9",
        "192.0.2.9:9",
        "0.0.0.0:9",
        "224.0.0.77:9",
    ] {
        log.note(format!("send_to {to}"), socket.send_to(b"x", addr(to)).await);
    }
    for len in [65_507, 65_508, 70_000] {
        log.note(format!("send {len} bytes"), socket.send_to(&vec![7; len], own).await);
    }
    log.note("receive the longest", soon(socket.recv(&mut vec![0; 70_000])).await);
    for on in [true, false] {
        log.note("set_broadcast", socket.set_broadcast(on));
        log.note("send_to all", socket.send_to(b"x", addr("127.255.255.255:9")).await);
    }
}

async fn reading<S: Socket>(log: &mut Log) {
    let (here, there) = (S::bind("127.0.0.1:0").await.unwrap(), S::bind("127.0.0.1:0").await.unwrap());
    let to = there.local_addr().unwrap();
    let mut buf = [0; 16];
    log.note("try_recv of nothing", there.try_recv(&mut buf));
    log.note("try_peek of nothing", there.try_peek(&mut buf));
    log.note(
        "a wait for nothing",
        timeout(SHORT, there.ready(Interest::READABLE)).await.map_err(io::Error::from),
    );
    for bytes in [&b""[..], b"hello world"] {
        let what = format!("{} bytes", bytes.len());
        for room in [0, 5, 16] {
            here.send_to(bytes, to).await.unwrap();
            arrived(&there).await;
            let both = Interest::READABLE | Interest::WRITABLE;
            log.note(format!("ready with {what}"), there.ready(both).await);
            log.note(
                format!("peek {what} into {room}"),
                there.peek_from(&mut buf[..room]).await.map(|(len, _)| len),
            );
            let is_own = |from: SocketAddr| from == here.local_addr().unwrap();
            log.note(format!("sender of {what}"), there.peek_sender().await.map(is_own));
            log.note(format!("receive {what} into {room}"), soon(there.recv(&mut buf[..room])).await);
            log.note(format!("after {what} into {room}"), there.try_recv(&mut buf));
        }
        for room in [0, 4] {
            here.send_to(bytes, to).await.unwrap();
            let mut vec = Vec::with_capacity(room);
            log.note(format!("recv_buf {what} into {room}"), soon(there.recv_buf(&mut vec)).await);
            log.note("the bytes", Ok(vec));
            drain(&there);
        }
    }
    let waker = &mut Context::from_waker(Waker::noop());
    here.send_to(b"hello", to).await.unwrap();
    arrived(&there).await;
    let mut space = [0; 20];
    let mut read = ReadBuf::new(&mut space);
    read.put_slice(b"abc");
    for name in ["poll_peek", "poll_recv", "poll_recv of nothing"] {
        let poll = if name == "poll_peek" {
            there.poll_peek(waker, &mut read)
        } else {
            there.poll_recv(waker, &mut read)
        };
        log.note(name, Ok(poll.map_err(|error| error.kind())));
        log.note("the bytes", Ok(read.filled().to_vec()));
    }
    log.note("poll_send without a peer", Ok(there.poll_send(waker, b"x").map_err(|error| error.kind())));
}

async fn errors<S: Socket>(log: &mut Log) {
    let socket = S::bind("127.0.0.1:0").await.unwrap();
    let closed = S::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut buf = [0; 16];
    socket.send_to(b"x", closed).await.unwrap();
    let heard = timeout(SHORT, socket.recv(&mut buf)).await.map_err(io::Error::from);
    log.note("a refusal without a peer", heard.flatten());
    log.note("connect to a closed port", socket.connect(closed).await);
    log.note("send", socket.send(b"x").await);
    log.note("recv with an error", soon(socket.recv(&mut buf)).await);
    log.note("send", socket.send(b"x").await);
    // It may be ready with the one that was read.
    tokio::time::sleep(SHORT).await;
    let error = soon(socket.ready(Interest::ERROR)).await;
    log.note("ready with an error", error.map(|ready| (ready.is_error(), ready.is_read_closed())));
    log.note("take_error", socket.take_error().map(|error| error.map(|error| error.kind())));
    log.note("take_error again", socket.take_error().map(|error| error.map(|error| error.kind())));
    log.note("send", socket.send(b"x").await);
    tokio::time::sleep(SHORT).await;
    log.note("send with an error", socket.send(b"x").await);
    log.note("send after it", socket.send(b"x").await);
    tokio::time::sleep(SHORT).await;
    log.note("try_recv with an error", socket.try_recv(&mut buf));
    log.note("send after that", socket.send(b"x").await);
}

async fn connecting<S: Socket>(log: &mut Log) {
    let any = S::bind("0.0.0.0:0").await.unwrap();
    let (peer, other) = (S::bind("127.0.0.1:0").await.unwrap(), S::bind("127.0.0.1:0").await.unwrap());
    let (own, mut buf) = (at(Ipv4Addr::LOCALHOST, &any), [0; 16]);
    other.send_to(b"early", own).await.unwrap();
    arrived(&any).await;
    log.note("connect", any.connect(peer.local_addr().unwrap()).await);
    log.note("the address", host(any.local_addr()));
    log.note("what came before", soon(any.recv(&mut buf)).await);
    drain(&any);
    other.send_to(b"late", own).await.unwrap();
    let heard = timeout(SHORT, any.recv(&mut buf)).await.map_err(io::Error::from).flatten();
    log.note("what somebody else sends", heard);
    log.note("send_to somebody else", any.send_to(b"hi", other.local_addr().unwrap()).await);
    log.note("it comes", soon(other.recv(&mut buf)).await);
    for to in ["127.0.0.1:0", "[::1]:9", "255.255.255.255:9", "224.0.0.9:9", "192.0.2.9:9", "0.0.0.0:9"] {
        log.note(format!("connect to {to}"), any.connect(addr(to)).await);
        log.note(format!("peer of {to}"), host(any.peer_addr()));
    }
    any.connect(own).await.unwrap();
    log.note("to itself", any.send(b"self").await);
    log.note("from itself", soon(any.recv(&mut buf)).await);
}

async fn both_families<S: Socket>(log: &mut Log) {
    let (v4, v6) = (S::bind("127.0.0.1:0").await.unwrap(), S::bind("[::]:0").await.unwrap());
    let mut buf = [0; 16];
    v4.send_to(b"four", at(Ipv4Addr::LOCALHOST, &v6)).await.unwrap();
    let (_, from) = soon(v6.recv_from(&mut buf)).await.unwrap();
    log.note("the sender", host(Ok(from)));
    for to in [from, v4.local_addr().unwrap()] {
        log.note("answer", v6.send_to(b"answer", to).await);
        log.note("it comes", soon(v4.recv_from(&mut buf)).await.map(|(len, from)| (len, from.ip())));
    }
    log.note("connect over IPv4", v6.connect(from).await);
    log.note("the address", host(v6.local_addr()));
    log.note("the peer", host(v6.peer_addr()));
    log.note("connect over IPv6", v6.connect(addr("[::1]:9")).await);
    log.note("the address", host(v6.local_addr()));
    log.note("send over IPv6", v6.send_to(b"x", addr("[::1]:9")).await);
    log.note(
        "connect to a group of no link",
        S::bind("[::]:0").await.unwrap().connect(addr("[ff02::77]:9")).await,
    );
}

async fn options<S: Socket>(log: &mut Log) {
    for to in ["127.0.0.1:0", "[::]:0"] {
        let socket = S::bind(to).await.unwrap();
        log.note("try_send", socket.try_send(b"x").map_err(|_| ErrorKind::Other.into()));
        for value in [0, 1, 64, 255, 256, 0x1b9, u32::MAX, u32::MAX - 1] {
            log.note(format!("set_ttl {value}"), socket.set_ttl(value));
            log.note(format!("ttl after {value}"), socket.ttl());
            log.note(format!("set_multicast_ttl {value}"), socket.set_multicast_ttl_v4(value));
            log.note(format!("multicast_ttl after {value}"), socket.multicast_ttl_v4());
            log.note(format!("set_tos {value}"), socket.set_tos_v4(value));
            log.note(format!("tos after {value}"), socket.tos_v4());
            log.note(format!("set_tclass {value}"), socket.set_tclass_v6(value));
            log.note(format!("tclass after {value}"), socket.tclass_v6());
        }
        log.note("multicast_loop_v4", socket.multicast_loop_v4());
        log.note("multicast_loop_v6", socket.multicast_loop_v6());
        log.note("set_multicast_loop_v6", socket.set_multicast_loop_v6(false));
        log.note("device", socket.device());
        for name in [Some(&b"nosuch"[..]), Some(b"a-name-that-is-too-long"), Some(b""), None] {
            log.note(format!("bind_device {name:?}"), socket.bind_device(name));
        }
        let (group, local) = (Ipv4Addr::new(224, 0, 0, 77), Ipv4Addr::LOCALHOST);
        for (group, interface) in [
            (group, local),
            (group, local),
            (Ipv4Addr::new(10, 0, 0, 7), local),
            (Ipv4Addr::new(224, 0, 0, 78), Ipv4Addr::new(192, 0, 2, 1)),
        ] {
            log.note(format!("join {group} on {interface}"), socket.join_multicast_v4(group, interface));
        }
        log.note("leave", socket.leave_multicast_v4(group, local));
        log.note("leave again", socket.leave_multicast_v4(group, local));
        let group: Ipv6Addr = "ff02::77".parse().unwrap();
        log.note("join ff02::77 on 99", socket.join_multicast_v6(&group, 99));
        log.note("join ::1", socket.join_multicast_v6(&Ipv6Addr::LOCALHOST, 0));
        log.note("leave ff02::77", socket.leave_multicast_v6(&group, 0));
    }
}

async fn everything<S: Socket>() -> Vec<(String, String)> {
    let mut log = Log::default();
    binding::<S>(&mut log).await;
    sending::<S>(&mut log).await;
    reading::<S>(&mut log).await;
    errors::<S>(&mut log).await;
    connecting::<S>(&mut log).await;
    both_families::<S>(&mut log).await;
    options::<S>(&mut log).await;
    log.0
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "the kernel that has the last word is Linux")]
async fn sockets_say_what_those_of_the_kernel_say() {
    if tokio::net::UdpSocket::bind("[::1]:0").await.is_err() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    let theirs = everything::<tokio::net::UdpSocket>().await;
    let stack = super::common::stack();
    let ours = stack.scope(everything::<netstack::net::UdpSocket>()).await;
    assert_eq!(theirs.len(), ours.len());
    let mut differences = Vec::new();
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs.0, ours.0);
        let is_known = KNOWN.iter().any(|(what, _)| *what == ours.0);
        if (theirs.1 == ours.1) == is_known {
            differences.push(format!("{}: {} of the kernel, {} here", ours.0, theirs.1, ours.1));
        }
    }
    assert!(differences.is_empty(), "of {}:\n{}", ours.len(), differences.join("\n"));
}
