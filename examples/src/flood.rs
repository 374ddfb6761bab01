//! A SYN flood from nonexistent hosts, through the kernel: a second TUN device represents the
//! network that they are in, and the kernel forwards its packets.
//!
//! Only for a private network namespace.

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

/// The network of the nonexistent hosts, which is reserved for benchmarks (RFC 2544 appendix
/// C.2.2).
const NETWORK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const PREFIX: u32 = 15;

/// How often packets are sent.
const TICK: Duration = Duration::from_millis(1);
/// Maximum number of packets per tick, even if the flood is late.
const BURST: u64 = 1024;

/// The source of the flood.
#[derive(Debug)]
pub struct Flood {
    tun: Tun,
}

/// What the flood has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// SYNs.
    pub syns: u64,
    /// The time that it took.
    pub took: Duration,
}

impl Sent {
    /// SYNs per second.
    pub fn rate(&self) -> u64 {
        (self.syns as u128 * 1_000_000_000 / self.took.as_nanos().max(1)) as u64
    }
}

impl Flood {
    /// Opens a TUN device called `name`, and lets the kernel forward its packets.
    ///
    /// # Errors
    /// Those of the device and of the kernel's settings.
    pub fn open(name: &str) -> io::Result<Self> {
        // Answers to nonexistent hosts need no queue.
        let config = TunConfig::new(name).offload(false).tx_queue_len(1);
        let tun = Tun::open(&config.address(format!("{}/{PREFIX}", host(1)))?)?;
        netns::sysctl("net.ipv4.ip_forward", "1")?;
        // The route to these sources is correct, but checking it costs the kernel a lookup.
        netns::sysctl("net.ipv4.conf.all.rp_filter", "0")?;
        netns::sysctl(&format!("net/ipv4/conf/{name}/rp_filter"), "0")?;
        Ok(Self { tun })
    }

    /// Sends `count` SYNs to `target`, at most `rate` per second, each from its own address and
    /// port while there are unused ones.
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
        // Successive SYNs have addresses that are not adjacent.
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
        let packet = TxPacket { header: &header, ..TxPacket::default() };
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
