//! The kernel, behind a TUN device whose other side the test holds.
//!
//! What is written to the device is processed by the kernel before the write returns, and so are calls: its
//! answers can be read at once, and nothing has to be waited for.

use crate::system::{Call, Flow, Observation, STATES, Settings, SocketView, System, written};
use netstack::buffer::Pool;
use netstack::device::{Device, TxPacket};
use netstack_tun::{Tun, TunConfig, netns};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first port of a host. Each script has its own, so that none meets the remains of another.
const FIRST_PORT: u16 = 2_000;
/// So many scripts have ports of their own.
const PORTS: u16 = 60_000;

/// The kernel of this machine, in this process's network namespace.
pub(crate) struct Kernel {
    tun: Tun,
    pool: Arc<Pool>,
    scripts: u32,
    begun: Instant,
    /// What is set: a file of `/proc/sys` is written only when it changes.
    set: Option<Settings>,
    flow: Flow,
    receive_buffer: Option<usize>,
    listener: Option<Socket>,
    socket: Option<Socket>,
    written: usize,
}

impl Kernel {
    /// Makes the device and sets what all scripts have in common.
    pub(crate) fn new() -> Self {
        let config = TunConfig::new("tun0").offload(false);
        let config = config.address("10.9.0.1/24").unwrap().address("fd09::1/64").unwrap();
        let tun = Tun::open(&config).unwrap();
        for (name, value) in [
            // The one that every kernel permits in every namespace.
            ("net.ipv4.tcp_congestion_control", "reno"),
            ("net.ipv4.tcp_rmem", "4096 131072 6291456"),
            ("net.ipv4.tcp_wmem", "4096 16384 4194304"),
            ("net.ipv4.tcp_no_metrics_save", "1"),
            ("net.ipv4.tcp_fastopen", "1"),
            ("net.ipv4.tcp_challenge_ack_limit", "2147483647"),
            ("net.ipv4.tcp_rfc1337", "0"),
            ("net.ipv4.tcp_abort_on_overflow", "0"),
            ("net.ipv4.tcp_fin_timeout", "60"),
            ("net.ipv4.tcp_recovery", "1"),
            ("net.ipv4.tcp_adv_win_scale", "1"),
            // Timers of a few milliseconds, which a busy machine would let expire.
            ("net.ipv4.tcp_early_retrans", "0"),
            ("net.ipv4.tcp_comp_sack_nr", "0"),
            ("net.ipv4.tcp_autocorking", "0"),
        ] {
            netns::sysctl(name, value).unwrap();
        }
        let any: SocketAddr = "10.9.0.1:0".parse().unwrap();
        Self {
            tun,
            pool: Pool::new(),
            scripts: 0,
            begun: now(),
            set: None,
            flow: Flow { host: any, peer: any },
            receive_buffer: None,
            listener: None,
            socket: None,
            written: 0,
        }
    }

    fn apply(&mut self, settings: &Settings) {
        if self.set.as_ref() == Some(settings) {
            return;
        }
        let onoff = |on: bool| if on { "1" } else { "0" };
        for (name, value) in [
            ("net.ipv4.tcp_timestamps", onoff(settings.timestamps)),
            ("net.ipv4.tcp_sack", onoff(settings.sack)),
            ("net.ipv4.tcp_window_scaling", onoff(settings.window_scaling)),
            ("net.ipv4.tcp_ecn", ["0", "1", "2"][usize::from(settings.ecn)]),
            ("net.ipv4.tcp_syncookies", if settings.cookies { "2" } else { "1" }),
            ("net.ipv4.tcp_invalid_ratelimit", if settings.limited { "500" } else { "0" }),
        ] {
            netns::sysctl(name, value).unwrap();
        }
        self.set = Some(*settings);
    }

    /// A socket that is bound to the host's address.
    fn bound(&self) -> io::Result<Socket> {
        let host = self.flow.host;
        let socket = Socket::new(Domain::for_address(host), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(&SockAddr::from(host))?;
        Ok(socket)
    }

    fn socket(&self) -> io::Result<&Socket> {
        self.socket.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    fn try_call(&mut self, call: Call) -> io::Result<usize> {
        match call {
            Call::Listen => {
                let listener = self.bound()?;
                listener.listen(16)?;
                self.listener = Some(listener);
            }
            Call::Connect => {
                let socket = self.bound()?;
                match socket.connect(&SockAddr::from(self.flow.peer)) {
                    Err(err) if err.raw_os_error() == Some(libc::EINPROGRESS) => {}
                    other => other?,
                }
                self.socket = Some(socket);
            }
            Call::Accept => {
                let listener = self.listener.as_ref().expect("a script listens before it accepts");
                let (socket, _) = listener.accept()?;
                socket.set_nonblocking(true)?;
                self.socket = Some(socket);
            }
            Call::Write(len) => {
                let bytes: Vec<u8> = (self.written..self.written + len).map(written).collect();
                let taken = self.socket()?.write(&bytes)?;
                self.written += taken;
                return Ok(taken);
            }
            Call::ShutdownWrite => self.socket()?.shutdown(Shutdown::Write)?,
            Call::Close => drop(self.socket.take()),
        }
        Ok(0)
    }
}

impl System for Kernel {
    fn begin(&mut self, settings: &Settings) -> Flow {
        for socket in [self.socket.take(), self.listener.take()].into_iter().flatten() {
            // What is left of the last script goes at once.
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
        self.take_sent();
        self.apply(settings);
        let number = self.scripts;
        self.scripts += 1;
        let (host, peer): (IpAddr, IpAddr) = if settings.ipv6 {
            ("fd09::1".parse().unwrap(), "fd09::2".parse().unwrap())
        } else {
            ("10.9.0.1".parse().unwrap(), "10.9.0.2".parse().unwrap())
        };
        let turn = (number / u32::from(PORTS)) as u16;
        let port = FIRST_PORT + (number % u32::from(PORTS)) as u16;
        self.flow = Flow { host: (host, port).into(), peer: (peer, 1_000 + turn).into() };
        self.receive_buffer = settings.receive_buffer;
        self.written = 0;
        self.begun = now();
        self.flow
    }

    fn call(&mut self, call: Call) -> Result<usize, i32> {
        self.try_call(call).map_err(|err| errno(&err))
    }

    fn inject(&mut self, packet: &[u8]) {
        let packet = TxPacket { header: packet, ..TxPacket::default() };
        self.tun.transmit(netstack::time::Instant::ZERO, 0, &packet).unwrap();
    }

    fn take_sent(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        let mut buf = self.pool.take();
        loop {
            match self.tun.receive(netstack::time::Instant::ZERO, 0, &mut buf) {
                Ok(meta) => sent.push(buf.bytes()[..meta.len].to_vec()),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) => panic!("{err}"),
            }
        }
        sent.retain(|packet| is_of(packet, &self.flow));
        sent
    }

    fn observe(&mut self) -> Observation {
        Observation { socket: self.socket.as_ref().map(view) }
    }

    fn elapsed(&self) -> Duration {
        now() - self.begun
    }
}

/// Whether a packet is of this flow: earlier scripts may have left connections behind that repeat what nobody
/// acknowledged, and the kernel looks for routers.
fn is_of(packet: &[u8], flow: &Flow) -> bool {
    let (header, protocol) = match packet[0] >> 4 {
        4 => (usize::from(packet[0] & 15) * 4, packet[9]),
        _ => (40, packet[6]),
    };
    let ports = [flow.host.port().to_be_bytes(), flow.peer.port().to_be_bytes()].concat();
    match i32::from(protocol) {
        libc::IPPROTO_TCP => packet.get(header..header + 4) == Some(&ports),
        libc::IPPROTO_ICMP => true,
        // Errors; what is from 128 on is of groups and neighbours.
        libc::IPPROTO_ICMPV6 => packet.get(header).is_some_and(|kind| *kind < 128),
        _ => false,
    }
}

fn view(socket: &Socket) -> SocketView {
    let state = STATES[usize::from(state(socket))];
    let poll = poll(socket);
    let unread = count(socket, libc::FIONREAD);
    let unacked = (state != "CLOSE").then(|| count(socket, libc::TIOCOUTQ));
    let (mut data, mut socket_) = (Vec::new(), socket);
    let mut buf = vec![0; 1 << 16];
    let read_end = loop {
        match socket_.read(&mut buf) {
            Ok(0) => break Ok(()),
            Ok(len) => data.extend_from_slice(&buf[..len]),
            Err(err) => break Err(errno(&err)),
        }
    };
    let error = socket.take_error().unwrap().map(|err| errno(&err));
    SocketView { state, poll, unread, unacked, data, read_end, error }
}

/// `TCP_INFO`, whose first byte is the state.
fn state(socket: &Socket) -> u8 {
    let mut state = [0u8; 4];
    let mut len = state.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `state`, which is that long.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            state.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    state[0]
}

fn count(socket: &Socket, what: libc::Ioctl) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: both requests write one int to `count`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut count) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    usize::try_from(count).expect("a number of bytes")
}

fn poll(socket: &Socket) -> String {
    let bits = [
        (libc::POLLIN, "IN "),
        (libc::POLLOUT, "OUT "),
        (libc::POLLRDHUP, "RDHUP "),
        (libc::POLLHUP, "HUP "),
        (libc::POLLERR, "ERR "),
    ];
    let events = bits.iter().fold(0, |all, (bit, _)| all | bit);
    let mut wait = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
    // SAFETY: `wait` is one pollfd, as the count says, and outlives the call.
    let result = unsafe { libc::poll(&raw mut wait, 1, 0) };
    assert!(result >= 0, "{}", io::Error::last_os_error());
    bits.iter().filter(|(bit, _)| wait.revents & bit != 0).map(|(_, name)| *name).collect()
}

fn errno(err: &io::Error) -> i32 {
    err.raw_os_error().unwrap_or_else(|| panic!("{err} has no number"))
}

/// The kernel runs in real time.
#[expect(clippy::disallowed_methods, reason = "the kernel's timers run in real time")]
fn now() -> Instant {
    Instant::now()
}
