//! A flood of SYNs from hosts that do not exist, through the kernel: a second TUN device stands for
//! the network that they come from, and the kernel forwards what comes out of it.
//!
//! Only for a network namespace of one's own.

use netstack::device::{Device, TxPacket};
use netstack::time::Instant as StackInstant;
use netstack::wire::{
    ChecksumMode, Flags, HeaderBuf, IpMeta, Options, Segment, SeqNum, TcpDatagram, emit_tcp,
};
use netstack_tun::{Tun, TunConfig, netns};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

/// The network of those who do not exist, which is set aside for benchmarks (RFC 2544 appendix C.2.2).
const NETWORK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const PREFIX: u32 = 15;

/// How often packets are sent.
const TICK: Duration = Duration::from_millis(1);
/// Packets of one tick at most, however far behind.
const BURST: u64 = 1024;

/// Where the flood comes from.
#[derive(Debug)]
pub struct Flood {
    tun: Tun,
}

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// SYNs.
    pub syns: u64,
    /// In this time.
    pub took: Duration,
}

impl Sent {
    /// SYNs in a second.
    pub fn rate(&self) -> u64 {
        (self.syns as u128 * 1_000_000_000 / self.took.as_nanos().max(1)) as u64
    }
}

impl Flood {
    /// Opens a TUN device called `name`, and has the kernel forward what comes from it.
    ///
    /// # Errors
    /// Those of the device and of the kernel's settings.
    pub fn open(name: &str) -> io::Result<Self> {
        // Answers to nobody need no room.
        let config = TunConfig::new(name).offload(false).tx_queue_len(1);
        let tun = Tun::open(&config.address(format!("{}/{PREFIX}", host(1)))?)?;
        netns::sysctl("net.ipv4.ip_forward", "1")?;
        // What comes from there leads there, but checking that costs the kernel a lookup.
        netns::sysctl("net.ipv4.conf.all.rp_filter", "0")?;
        netns::sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "0")?;
        Ok(Self { tun })
    }

    /// Sends `count` SYNs to `target`, `rate` in a second or as many as will go, each from an address
    /// and port of its own as long as there are some.
    ///
    /// # Errors
    /// Those of the device.
    pub fn send(&self, target: SocketAddrV4, count: u64, rate: u64) -> io::Result<Sent> {
        let start = Instant::now();
        let mut sent = 0;
        while sent < count {
            let due = (start.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
            for _ in 0..due.min(count).saturating_sub(sent).min(BURST) {
                self.send_one(target, sent as u32)?;
                sent += 1;
            }
            if sent >= due {
                thread::sleep(TICK);
            }
        }
        Ok(Sent { syns: sent, took: start.elapsed() })
    }

    fn send_one(&self, target: SocketAddrV4, number: u32) -> io::Result<()> {
        let hosts = (1 << (32 - PREFIX)) - 4;
        // Neighbours in time are not neighbours in the network.
        let mixed = number.wrapping_mul(2_654_435_761);
        let src = host(2 + number % hosts);
        let src_port = 1024 + (number / hosts * 7919 + mixed % 7919) as u16 % 60_000;
        let segment = Segment {
            window: 64_240,
            options: Options { mss: Some(1460), sack_permitted: true, ..Options::default() },
            ..Segment::new(Flags::SYN, SeqNum::new(mixed), SeqNum::new(0))
        };
        let ip = IpMeta {
            src: src.into(),
            dst: (*target.ip()).into(),
            hop_limit: 64,
            traffic_class: 0,
            dont_fragment: true,
            ident: 0,
            flow_label: 0,
        };
        let mut header = HeaderBuf::new();
        emit_tcp(
            &mut header,
            &TcpDatagram { ip: &ip, src_port, dst_port: target.port(), segment: &segment, payload: &[] },
            ChecksumMode::Full,
        );
        let packet = TxPacket { header: &header, payload: &[], checksum: None, gso: None };
        loop {
            match self.tun.transmit(StackInstant::ZERO, 0, &packet) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(TICK),
                outcome => return outcome,
            }
        }
    }
}

fn host(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(NETWORK.to_bits() + number)
}
