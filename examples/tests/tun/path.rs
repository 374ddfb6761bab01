//! What the kernel does to packets on the path: a smaller MTU behind a router, with and without
//! ICMP errors, and ECN marks instead of losses, with the kernel's TCP as the other end of ECN and
//! AccECN.

use crate::common::{self, Family, Path, at, runtime};
use netstack::buffer::PacketBuf;
use netstack::config::{EcnNegotiation, MtuProbing};
use netstack::device::{Capabilities, Device, Readiness, RxMeta, TxPacket};
use netstack::net::TcpStream;
use netstack::tcp::EcnMode;
use netstack::time::Instant;
use netstack::wire::{parse_ip, protocol};
use netstack::{Config, Interface, Stack};
use netstack_examples::pattern::Pattern;
use netstack_examples::{kernel, transfer};
use netstack_tun::netns::{isolated_within, sysctl};
use netstack_tun::{Tun, TunConfig, interface};
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The device does not deliver ICMP, as with many firewalls.
struct Deaf(Tun);

impl Device for Deaf {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        loop {
            let meta = self.0.receive(now, queue, buf)?;
            let header = parse_ip(&buf.bytes()[..meta.len]);
            if !header.is_ok_and(|ip| matches!(ip.protocol, protocol::ICMP | protocol::ICMPV6)) {
                return Ok(meta);
            }
        }
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        self.0.transmit(now, queue, packet)
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        self.0.readiness(queue)
    }
}

/// MTU of the second device in the kernel; the stack behind it uses 1,500.
const SMALL: u32 = 1320;

/// Two stacks behind TUN devices between which the kernel forwards: packets to the second one pass a
/// smaller MTU.
fn two_stacks(offload: bool, deaf: bool, config: &Config) -> [Stack; 2] {
    sysctl("net.ipv4.ip_forward", "1").unwrap();
    sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();
    let stack = |n: usize| {
        let tun = TunConfig::new(format!("tun{n}"))
            .offload(offload)
            .address(format!("10.9.{n}.1/24"))
            .and_then(|tun| tun.address(format!("fd09:{n}::1/64")))
            .unwrap();
        let tun = Tun::open(&tun).unwrap();
        let device: Arc<dyn Device> = if deaf { Arc::new(Deaf(tun)) } else { Arc::new(tun) };
        let interface = Interface::new(device)
            .address(&format!("10.9.{n}.2/24"))
            .address(&format!("fd09:{n}::2/64"))
            .gateway(&format!("10.9.{n}.1"))
            .gateway(&format!("fd09:{n}::1"));
        Stack::builder().interface(interface).config(config.clone()).build().unwrap()
    };
    let stacks = [stack(0), stack(1)];
    interface::set_mtu("tun1", SMALL).unwrap();
    stacks
}

const LEN: u64 = 3 << 20;

/// Bytes from the first stack to the second, which connects if `passive`, and as many back. Returns
/// the sender's connection.
async fn there_and_back(stacks: &[Stack; 2], family: Family, passive: bool) -> TcpStream {
    let address = |n: usize| match family {
        Family::V4 => format!("10.9.{n}.2:0"),
        Family::V6 => format!("[fd09:{n}::2]:0"),
    };
    let (listening, connecting) = if passive { (0, 1) } else { (1, 0) };
    let listener = stacks[listening].listen(address(listening).as_str()).await.unwrap();
    let to = listener.local_addr().unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), stacks[connecting].connect(to));
    let (accepted, connected) = (accepted.unwrap().0, connected.unwrap());
    let (mut near, mut far) = if passive { (accepted, connected) } else { (connected, accepted) };
    let pattern = Pattern::new(7);
    tokio::try_join!(transfer::send(&mut near, pattern, LEN), transfer::receive(&mut far, pattern, LEN))
        .unwrap();
    tokio::try_join!(transfer::send(&mut far, pattern, LEN), transfer::receive(&mut near, pattern, LEN))
        .unwrap();
    near
}

#[test]
fn a_smaller_mtu_behind_a_router_is_found() {
    isolated_within(Duration::from_secs(120), "path::a_smaller_mtu_behind_a_router_is_found", || {
        runtime().block_on(async {
            let stacks = two_stacks(true, false, &Config::default());
            for family in Family::ALL {
                for passive in [false, true] {
                    let near = there_and_back(&stacks, family, passive).await;
                    let info = near.tcp_info().unwrap();
                    assert_eq!(info.pmtu, SMALL as usize, "{family:?} {passive}: {info}");
                    assert_eq!(info.retransmits, 0, "{info}");
                    println!("{family:?}, passive {passive}: {info}");
                }
            }
            assert_eq!(stacks[0].destinations().iter().filter(|known| known.mtu.is_some()).count(), 2);
            for stack in stacks {
                stack.shutdown(Duration::from_secs(5)).await;
            }
        });
    });
}

#[test]
fn without_offloads_too() {
    isolated_within(Duration::from_secs(120), "path::without_offloads_too", || {
        runtime().block_on(async {
            let stacks = two_stacks(false, false, &Config::default());
            let near = there_and_back(&stacks, Family::V4, false).await;
            assert_eq!(near.tcp_info().unwrap().pmtu, SMALL as usize);
        });
    });
}

#[test]
fn a_black_hole_is_survived() {
    isolated_within(Duration::from_secs(120), "path::a_black_hole_is_survived", || {
        // A device is free again when its runtime is gone.
        for (mtu_probing, passive) in [(MtuProbing::BlackHole, false), (MtuProbing::Always, true)] {
            runtime().block_on(async {
                let config = Config::default().with(|config| config.mtu_probing = mtu_probing);
                let stacks = two_stacks(true, true, &config);
                for family in Family::ALL {
                    let near = there_and_back(&stacks, family, passive).await;
                    let info = near.tcp_info().unwrap();
                    let headers = if family == Family::V4 { 52 } else { 72 };
                    assert!(info.snd_mss + headers <= SMALL as usize, "{family:?}: {info}");
                    assert_eq!(info.pmtu, 1500, "nobody told");
                    println!("{family:?}, mtu_probing {mtu_probing:?}: {info}");
                }
            });
        }
    });
}

/// A counter of the kernel's TCP, of this namespace.
fn kernel_counter(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/net/netstat").unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("TcpExt:")).collect();
    let mut pairs = lines[0].split(' ').zip(lines[1].split(' '));
    pairs.find(|(key, _)| *key == name).map_or(0, |(_, value)| value.parse().unwrap())
}

const MARKED: Path = Path { offload: true, impair: "delay=1ms,mark=1%" };

/// Bytes both ways between the stack and the kernel; what the stack's end says afterwards.
async fn with_kernel(stack: &Stack, passive: bool) -> netstack::tcp::TcpInfo {
    let pattern = Pattern::new(9);
    let kernels_side = move |mut stream: tokio::net::TcpStream| async move {
        transfer::receive(&mut stream, pattern, LEN).await?;
        transfer::send(&mut stream, pattern, LEN).await?;
        transfer::expect_end(&mut stream).await
    };
    let (ready, is_ready) = std::sync::mpsc::channel();
    let listener = if passive { Some(stack.listen(at(Family::V4.stack(), 0)).await.unwrap()) } else { None };
    let address = listener.as_ref().map(|listener| listener.local_addr().unwrap());
    let thread = thread::spawn(move || {
        runtime().block_on(async {
            let stream = match address {
                Some(address) => kernel::connect(address).await?.0,
                None => {
                    let listener = kernel::listen(at(Family::V4.kernel(), 0))?;
                    ready.send(listener.local_addr()?).map_err(io::Error::other)?;
                    listener.accept().await?.0
                }
            };
            kernels_side(stream).await
        })
    });
    let mut stream = match &listener {
        Some(listener) => listener.accept().await.unwrap().0,
        None => {
            let address = tokio::task::spawn_blocking(move || is_ready.recv()).await.unwrap().unwrap();
            stack.connect(address).await.unwrap()
        }
    };
    transfer::send(&mut stream, pattern, LEN).await.unwrap();
    transfer::receive(&mut stream, pattern, LEN).await.unwrap();
    let info = stream.tcp_info().unwrap();
    drop(stream);
    tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap().unwrap();
    info
}

/// Whether the kernel supports AccECN: Linux 6.18 has the code and does not accept the setting yet.
fn kernel_has_acc_ecn() -> bool {
    sysctl("net.ipv4.tcp_ecn", "3").is_ok()
}

#[test]
fn ecn_with_the_kernel() {
    use EcnMode::{Accurate, Classic, Off};
    isolated_within(Duration::from_secs(240), "path::ecn_with_the_kernel", || {
        // (the kernel's tcp_ecn, ours, whether we listen, what is agreed on).
        for (theirs, ours, passive, agreed) in [
            (2, 1, false, Classic),
            (1, 2, true, Classic),
            (2, 2, true, Off),
            (0, 1, false, Off),
            (3, 3, false, Accurate),
            (3, 3, true, Accurate),
            (5, 3, false, Accurate),
            (3, 5, true, Accurate),
            (2, 3, false, Classic),
            (3, 2, true, Classic),
        ] {
            if theirs > 2 && !kernel_has_acc_ecn() {
                println!("SKIPPED: this kernel has no AccECN");
                continue;
            }
            sysctl("net.ipv4.tcp_ecn", &theirs.to_string()).unwrap();
            let before = kernel_counter("TCPDeliveredCE");
            let info = runtime().block_on(async {
                let stack = common::stack(
                    MARKED,
                    Config::default().with(|config| config.ecn = EcnNegotiation::ALL[ours]),
                )
                .unwrap();
                let info = with_kernel(&stack, passive).await;
                stack.shutdown(Duration::from_secs(5)).await;
                info
            });
            let heard = kernel_counter("TCPDeliveredCE") - before;
            let what = format!("tcp_ecn {theirs}, ours {ours}, passive {passive}: {info:?}");
            assert_eq!(info.ecn, agreed, "{what}");
            // A machine under load may be late; even so, marks are not losses.
            assert!(info.total_retrans <= 20, "{what}");
            assert_eq!(info.ecn_seen, agreed != Off, "{what}");
            assert!(agreed == Off || info.snd_ssthresh < usize::MAX, "we slow down for marks: {what}");
            assert_eq!(heard > 0, agreed != Off, "the kernel hears of its marks: {what}");
            if agreed == Accurate {
                assert!(info.delivered_ce > 0 && info.received_ce > 0, "{what}");
            }
            println!(
                "{theirs} {ours} {passive}: {agreed:?}, {} and {} marks, {heard} told",
                info.delivered_ce, info.received_ce
            );
        }
    });
}
