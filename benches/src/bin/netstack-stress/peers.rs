//! The other process: a stack with enough memory and those who use it, and segments made by hand.

use crate::server::Report;
use crate::wire::{PEERS, SERVER, Wire};
use netstack::config::MemoryBudget;
use netstack::wire::{
    ChecksumMode, Flags, HeaderBuf, IpMeta, Options, Segment, SeqNum, TcpDatagram, emit_tcp, parse_ip,
    parse_tcp,
};
use netstack::{Config, Interface, Stack};
use socket2::{Domain, Socket, Type};
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The server's process, and what it said last.
pub(crate) struct Server {
    child: Child,
    reports: Arc<Mutex<Vec<Report>>>,
    counters: Arc<Mutex<std::collections::BTreeMap<String, u64>>>,
}

/// The end of the wire that is here.
pub(crate) struct Here {
    pub(crate) stack: Stack,
    pub(crate) raw: UnixDatagram,
    /// Packets to addresses of 11.0.0.0/8.
    pub(crate) answers: Receiver<Vec<u8>>,
}

impl Server {
    /// Starts a server with these arguments, and a stack at the other end.
    pub(crate) fn start(arguments: &[String], loss: u32) -> io::Result<(Self, Here)> {
        // A queue of datagrams between two sockets has ten places (`net.unix.max_dgram_qlen`), so that what does
        // not wait for a device, as a SYN-ACK, would be lost most of the time. One of packets has its bytes.
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        for socket in [&ours, &theirs] {
            socket.set_send_buffer_size(4 << 20)?;
        }
        let (ours, theirs) = (UnixDatagram::from(OwnedFd::from(ours)), OwnedFd::from(theirs));
        let mut child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .args(arguments)
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (reports, counters) = (Arc::default(), Arc::default());
        let server = Self { child, reports: Arc::clone(&reports), counters: Arc::clone(&counters) };
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(report) = Report::parse(&line) {
                    reports.lock().expect("no panic under this lock").push(report);
                } else if let Some((name, value)) =
                    line.strip_prefix("counter ").and_then(|line| line.split_once(' '))
                {
                    let value = value.parse().unwrap_or(0);
                    counters.lock().expect("no panic under this lock").insert(name.to_owned(), value);
                }
            }
        });
        let (tap, answers) = channel();
        let raw = ours.try_clone()?;
        let interface = Interface::new(Arc::new(Wire::new(ours, loss, Some(tap))?))
            .address(&format!("{PEERS}/8"))
            .gateway("10.0.0.1");
        let config = Config::default().with(|config| {
            config.memory = Some(MemoryBudget::UNLIMITED);
            config.time_wait = Duration::from_secs(1);
            // It is many hosts: each would have a limit of its own. Of 10,000 connections that are reset at once,
            // whose last data the server had no room for, each gets a challenge, and only a reset at the
            // right place ends the other end.
            (config.reset_rate, config.reset_burst) = (1_000_000, 1_000_000);
        });
        let stack = Stack::builder().interface(interface).config(config).build()?;
        Ok((server, Here { stack, raw, answers }))
    }

    /// What the server said last.
    pub(crate) fn last(&self) -> Report {
        self.reports.lock().expect("no panic under this lock").last().copied().unwrap_or_default()
    }

    /// All that it said since the last call.
    pub(crate) fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.reports.lock().expect("no panic under this lock"))
    }

    /// The processor time that the process has used, in ticks of 10 ms: of the user, and of the system.
    pub(crate) fn times(&self) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<_> = stat.split_whitespace().skip(13).take(2).collect();
        fields.join(" and ")
    }

    /// The counters that are not zero.
    pub(crate) fn counters(&self) -> Vec<(String, u64)> {
        let counters = self.counters.lock().expect("no panic under this lock");
        counters.iter().map(|(name, value)| (name.clone(), *value)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A segment of a peer that only its packets are known of.
pub(crate) fn segment(from: (Ipv4Addr, u16), port: u16, segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let segment = Segment { payload_len: payload.len(), ..segment.clone() };
    let ip = IpMeta::new(from.0.into(), IpAddr::V4(SERVER), 64);
    let pieces: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
    let datagram =
        TcpDatagram { ip: &ip, src_port: from.1, dst_port: port, segment: &segment, payload: pieces };
    let mut packet = HeaderBuf::new();
    emit_tcp(&mut packet, &datagram, ChecksumMode::Full);
    [&packet[..], payload].concat()
}

/// A SYN of such a peer.
pub(crate) fn syn(from: (Ipv4Addr, u16), port: u16) -> Vec<u8> {
    let options =
        Options { mss: Some(1460), window_scale: Some(7), sack_permitted: true, ..Options::default() };
    let syn =
        Segment { options, window: 65_535, ..Segment::new(Flags::SYN, SeqNum::new(1000), SeqNum::default()) };
    segment(from, port, &syn, &[])
}

/// Sends a packet, and waits as long as there is no room for it, a second at most.
pub(crate) fn send(raw: &UnixDatagram, packet: &[u8]) -> bool {
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        match raw.send(packet) {
            Ok(_) => return true,
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
    false
}

/// The numbers of a SYN-ACK: its own, and to whom it is.
pub(crate) fn syn_ack(packet: &[u8]) -> Option<(Ipv4Addr, u16, SeqNum)> {
    let ip = parse_ip(packet).ok()?;
    let bytes = packet.get(ip.payload.clone())?;
    let (segment, _) = parse_tcp(bytes).ok()?;
    let IpAddr::V4(to) = ip.dst else { return None };
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    (segment.is_syn() && segment.is_ack()).then_some((to, port, segment.seq))
}
