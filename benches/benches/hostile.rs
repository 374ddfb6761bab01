//! What a packet of a hostile peer costs, as what it is looked up among or compared with grows.
//!
//! None of it may grow with n but by a logarithm. Each line is the time of one packet or call.

use criterion::{BenchmarkId, Criterion, criterion_group};
use netstack::wire::{Flags, Segment, SeqNum};
use netstack_benches::clock;
use netstack_benches::hostile::{Peer, Victim, datagram, packet};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A connection with `bytes` in flight, and the acknowledgments that report every second segment of that.
fn in_flight(bytes: u32) -> (Victim, Vec<Vec<u8>>) {
    let mut victim = Victim::new(|config| {
        config.initial_window = 1024;
        (config.send_buffer_initial, config.send_buffer_max) = (64 << 20, 64 << 20);
    })
    .expect("a stack");
    let listener = victim.listen().expect("a port");
    let mut peer = victim.connect(&listener, 0).expect("a connection");
    victim.fill(&mut peer, bytes).expect("a window");
    victim.pass(Duration::from_millis(20));
    let acks = (0..Peer::sacks_of(bytes)).map(|number| peer.sack(number)).collect();
    (victim, acks)
}

/// CVE-2019-11478: a peer with the smallest MSS reports every second segment of what is in flight.
fn sack_at_mss_48(c: &mut Criterion) {
    let mut group = c.benchmark_group("sack-at-mss-48");
    for bytes in [96_000, 384_000, 1_500_000] {
        let (mut victim, acks) = in_flight(bytes);
        let heap = Region::new(HEAP);
        acks.iter().for_each(|ack| victim.receive(ack));
        let change = heap.change();
        let grown = change.bytes_allocated as i64 - change.bytes_deallocated as i64;
        println!("{bytes} bytes in flight: {} ACKs make the heap grow by {grown} bytes", acks.len());
        group.bench_function(BenchmarkId::from_parameter(bytes), |b| {
            b.iter_custom(|n| {
                let (mut took, mut left) = (Duration::ZERO, n);
                while left > 0 {
                    let (mut victim, acks) = in_flight(bytes);
                    let count = acks.len().min(left as usize);
                    let start = clock::now();
                    acks[..count].iter().for_each(|ack| victim.receive(ack));
                    took += start.elapsed();
                    left -= count as u64;
                }
                took
            });
        });
    }
}

/// One segment of 60,000 bytes over as many holes as there are. There is no memory to fill them all, so that it
/// can be sent again and again.
fn segment_over_holes(c: &mut Criterion) {
    let mut group = c.benchmark_group("segment-over-holes");
    for holes in [1_000, 8_000, 30_000] {
        let mut victim = Victim::new(|config| config.recv_buffer_initial = 1 << 20).expect("a stack");
        let listener = victim.listen().expect("a port");
        let peer = victim.connect(&listener, 0).expect("a connection");
        for n in 0..holes {
            victim.receive(&peer.data(2 + 2 * n, 1));
        }
        let large = peer.data(1, 60_000);
        let start = clock::now();
        victim.receive(&large);
        println!("the first segment over {holes} holes: {:?}", start.elapsed());
        group.bench_function(BenchmarkId::from_parameter(holes), |b| {
            b.iter(|| victim.receive(&large));
        });
    }
}

/// Whether everything is delivered, among connections that have nothing to deliver.
fn is_drained(c: &mut Criterion) {
    let mut group = c.benchmark_group("is-drained");
    for connections in [200, 2_000, 20_000] {
        let mut victim = Victim::new(|_| ()).expect("a stack");
        let listener = victim.listen().expect("a port");
        let _peers: Vec<_> =
            (0..connections).map(|n| victim.connect(&listener, n).expect("a connection")).collect();
        group.bench_function(BenchmarkId::from_parameter(connections), |b| {
            b.iter(|| black_box(victim.engine.is_drained()));
        });
    }
}

/// A segment for one of several listeners of a port, and a datagram for one of several sockets.
fn reuse_port(c: &mut Criterion) {
    let mut group = c.benchmark_group("reuse-port-listener");
    for members in [1, 64, 4_096] {
        let mut victim =
            Victim::new(|config| (config.reset_burst, config.reset_rate) = (0, 0)).expect("a stack");
        let _group: Vec<_> = (0..members).map(|_| victim.listen().expect("a port")).collect();
        // An acknowledgment for nobody: the listener is looked for, to see whether it is a cookie.
        let ack = Segment::new(Flags::SYN.with(Flags::FIN), SeqNum::new(1), SeqNum::new(2));
        let strays: Vec<_> =
            (0..64).map(|n| packet((Ipv4Addr::new(10, 9, 9, 9), 2000 + n), &ack, &[])).collect();
        group.bench_function(BenchmarkId::from_parameter(members), |b| {
            let mut next = strays.iter().cycle();
            b.iter(|| victim.receive(next.next().expect("it goes round")));
        });
    }
    group.finish();
    let mut group = c.benchmark_group("reuse-port-datagram");
    for members in [1, 64, 4_096] {
        let mut victim = Victim::new(|_| ()).expect("a stack");
        let _group: Vec<_> = (0..members).map(|_| victim.bind().expect("a port")).collect();
        let datagrams: Vec<_> = (0..64).map(|n| datagram((Ipv4Addr::new(10, 9, 9, 9), 2000 + n))).collect();
        group.bench_function(BenchmarkId::from_parameter(members), |b| {
            let mut next = datagrams.iter().cycle();
            b.iter(|| victim.receive(next.next().expect("it goes round")));
        });
    }
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = config();
    targets = sack_at_mss_48, segment_over_holes, is_drained, reuse_port
}

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
}
