//! In memory, on one thread: netstack to netstack and smoltcp to smoltcp.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use netstack_benches::pair::{Link, netstack, smoltcp};
use std::time::Duration;

/// Bytes that one iteration moves.
const BYTES: usize = 16 << 20;

fn transfers(c: &mut Criterion) {
    for (mtu, checksums) in [(1500, true), (1500, false), (65_535, true), (65_535, false)] {
        let link = Link { mtu, checksums };
        let with = if checksums { "checksums" } else { "no-checksums" };
        let mut group = c.benchmark_group(format!("pair/mtu-{mtu}/{with}"));
        group.throughput(Throughput::Bytes(BYTES as u64));
        let mut transfer = smoltcp::Transfer::new(link);
        group.bench_function("smoltcp", |b| b.iter(|| transfer.run(BYTES)));
        let mut transfer = netstack::Transfer::new(link, false).expect("they connect");
        group.bench_function("netstack", |b| b.iter(|| transfer.run(BYTES).expect("it stays connected")));
        if mtu == 1500 && !checksums {
            // What TUN offers, and smoltcp cannot use.
            let mut transfer = netstack::Transfer::new(link, true).expect("they connect");
            group.bench_function("netstack-gso", |b| {
                b.iter(|| transfer.run(BYTES).expect("it stays connected"));
            });
            group.bench_function("netstack-gso-bytes", |b| {
                b.iter(|| transfer.run_owned(BYTES).expect("it stays connected"));
            });
        }
    }
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = config(); targets = transfers }
criterion_main!(benches);
