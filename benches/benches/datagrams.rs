//! What it costs to send a datagram, without the device: one that takes each packet and forgets it.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use netstack::net::UdpSocket;
use netstack::net::udp::Transmit;
use netstack::{Interface, Stack};
use netstack_benches::devices::Sink;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;

/// Datagrams of one iteration.
const DATAGRAMS: usize = 1024;
/// As many as one packet holds: of one call.
const PER_PACKET: usize = 44;

fn sending(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Their lengths fill the MTU.
    for (family, address, peer, len) in
        [("v4", "10.0.0.2/24", "10.0.0.1:9", 1472), ("v6", "fd00::2/64", "[fd00::1]:9", 1452)]
    {
        let peer: SocketAddr = peer.parse().expect("an address");
        let (socket, connected) = runtime.block_on(async {
            let interface = Interface::new(Arc::new(Sink::default())).address(address);
            let stack = Stack::builder().interface(interface).build().expect("a stack");
            let any = if peer.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind_on(&stack, any).await.expect("a port");
            let connected = UdpSocket::bind_on(&stack, any).await.expect("a port");
            connected.connect(peer).await.expect("a route");
            (socket, connected)
        });
        let bytes = vec![0x5a; len * PER_PACKET];
        let mut group = c.benchmark_group(format!("datagrams/{family}"));
        group.throughput(Throughput::Elements(DATAGRAMS as u64));
        group.bench_function("send_to", |b| {
            b.iter(|| {
                runtime.block_on(async {
                    for _ in 0..DATAGRAMS {
                        socket.send_to(&bytes[..len], peer).await.expect("the device takes it");
                    }
                });
            });
        });
        group.bench_function("send", |b| {
            b.iter(|| {
                runtime.block_on(async {
                    for _ in 0..DATAGRAMS {
                        connected.send(&bytes[..len]).await.expect("the device takes it");
                    }
                });
            });
        });
        // Of the datagrams that one call sends, each counts.
        group.throughput(Throughput::Elements((DATAGRAMS * PER_PACKET) as u64));
        let transmit = Transmit {
            destination: peer,
            ecn: None,
            contents: &bytes,
            segment_size: Some(len),
            src_ip: None,
        };
        group.bench_function("send_msg", |b| {
            b.iter(|| {
                runtime.block_on(async {
                    for _ in 0..DATAGRAMS {
                        socket.send_msg(&transmit).await.expect("the device takes it");
                    }
                });
            });
        });
    }
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = config(); targets = sending }
criterion_main!(benches);
