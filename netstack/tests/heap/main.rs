//! What a stack counts of its memory, against what an allocator counts. A program of its own, whose allocator
//! counts, and one test in it, so that nothing else allocates meanwhile.

mod peer;

use netstack::config::{Config, MemoryBudget};
use netstack::time::Duration;
use peer::{Host, MSS, Peer};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::io::{IoSlice, IoSliceMut};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What an allocator takes for a block beside what was asked for, on average: its own word, and half a step.
const PER_BLOCK: isize = 16;

/// Bytes on the heap.
fn heap() -> isize {
    let stats = ALLOCATOR.stats();
    let blocks = stats.allocations as isize - stats.deallocations as isize;
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize + PER_BLOCK * blocks
}

/// What is counted and what is on the heap, in bytes.
#[derive(Clone, Copy, Debug)]
struct Both {
    counted: isize,
    heap: isize,
}

fn both(host: &mut Host) -> Both {
    host.let_go();
    let memory = host.engine.core().memory_use();
    Both { counted: (memory.used + memory.cached) as isize, heap: heap() }
}

/// Sees that what came since `before` is counted to within ten percent, and gives how much that is.
fn assert_counted(what: &str, before: Both, host: &mut Host) -> isize {
    let now = both(host);
    let (counted, heap) = (now.counted - before.counted, now.heap - before.heap);
    println!("{what}: {counted} bytes counted, {heap} on the heap, {:+.1} %", percent(counted, heap));
    assert!(percent(counted, heap).abs() <= 10.0, "{what}: {counted} bytes counted, {heap} on the heap");
    heap
}

fn percent(counted: isize, heap: isize) -> f64 {
    100.0 * (counted - heap) as f64 / heap as f64
}

fn host() -> Host {
    Host::new(Config::default().with(|config| {
        config.memory = Some(MemoryBudget::UNLIMITED);
        config.max_syn_backlog = 20_000;
        config.somaxconn = 20_000;
    }))
}

/// What the facade takes for a stream: who waits for it. The stack counts it in advance.
const STREAM: isize = 160;

/// Connections on which something was said, and then nothing any more.
fn at_rest() {
    const COUNT: u32 = 10_000;
    let mut host = host();
    let listener = host.listen(16);
    let first = host.connect(&listener, COUNT);
    host.end(first);
    host.run_for(Duration::from_secs(300));
    let mut peers = Vec::with_capacity(COUNT as usize);
    let before = both(&mut host);
    for number in 0..COUNT {
        let peer = host.connect(&listener, number);
        host.data(&peer, 0, b"hello");
        assert_eq!(read(&host, &peer), 5);
        peers.push(peer);
    }
    host.run_for(Duration::from_secs(10));
    let now = both(&mut host);
    let counted = (now.counted - before.counted) / COUNT as isize;
    let each = (now.heap - before.heap) / COUNT as isize + STREAM;
    println!("10,000 at rest: {counted} bytes counted for each, {each} on the heap with its stream");
    assert!(percent(counted, each).abs() <= 10.0, "{counted} bytes counted, {each} on the heap");
    assert!(each <= 1024, "{each} bytes for a connection at rest");
    for peer in peers {
        host.end(peer);
    }
    host.run_for(Duration::from_secs(300));
    assert_eq!(both(&mut host).counted, before.counted, "the count is as before");
}

/// `count` connections, made while `hold` is what they do.
fn connections(what: &str, count: u32, mut act: impl FnMut(&mut Host, &Peer)) {
    let mut host = host();
    let listener = host.listen(16);
    let mut peers = Vec::with_capacity(count as usize);
    // What the first one needs stays.
    let first = host.connect(&listener, count);
    act(&mut host, &first);
    host.end(first);
    let before = both(&mut host);
    for number in 0..count {
        let peer = host.connect(&listener, number);
        act(&mut host, &peer);
        peers.push(peer);
    }
    let room = peers.capacity();
    assert_counted(what, before, &mut host);
    for peer in peers.drain(..) {
        host.end(peer);
    }
    assert_eq!(peers.capacity(), room);
    host.run_for(Duration::from_secs(300));
    assert_eq!(both(&mut host).counted, before.counted, "{what}: the count is as before");
}

fn write(host: &Host, peer: &Peer, bytes: &[u8]) -> bool {
    let written =
        host.engine.with_tcp(host.now, |tcp, turn| tcp.write(turn, &peer.cell, &[IoSlice::new(bytes)]));
    written.is_ok()
}

fn read(host: &Host, peer: &Peer) -> usize {
    let mut buf = [0; 64];
    let read = host
        .engine
        .with_tcp(host.now, |tcp, turn| tcp.read(turn, &peer.cell, &mut [IoSliceMut::new(&mut buf)]));
    read.expect("something was said")
}

fn half_open() {
    for count in [1000, 2500, 4000] {
        let mut host = host();
        let listener = host.listen(4096);
        host.syn(count);
        host.run_for(Duration::from_secs(100));
        let before = both(&mut host);
        (0..count).for_each(|number| host.syn(number));
        assert_eq!(listener.syn_queue_len(), count as usize);
        let each = assert_counted(&format!("{count} half-open"), before, &mut host) / count as isize;
        assert!(each <= 512, "{each} bytes of heap for a half-open connection");
        host.run_for(Duration::from_secs(100));
        assert_eq!((listener.syn_queue_len(), both(&mut host).counted), (0, before.counted));
    }
}

fn fragments() {
    for len in [8usize, 64, 1400] {
        let mut host = host();
        let before = both(&mut host);
        for id in 0..30_000u32 {
            let mut header = [0u8; 20];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&(20 + len as u16).to_be_bytes());
            header[4..6].copy_from_slice(&(id as u16).to_be_bytes());
            header[6] = 0x20;
            (header[8], header[9]) = (64, 17);
            header[12..16].copy_from_slice(&[11, 0, (id >> 16) as u8, 1]);
            header[16..20].copy_from_slice(&[10, 0, 0, 1]);
            let sum = netstack::wire::checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            host.give(&[&header, &vec![1; len]]);
        }
        let all = assert_counted(&format!("fragments of {len} bytes"), before, &mut host);
        assert!(all <= (4 << 20) / 10 * 11, "{all} bytes for fragments");
        host.run_for(Duration::from_secs(100));
        assert_eq!(both(&mut host).counted, before.counted);
    }
}

#[test]
fn the_count_is_that_of_the_allocator() {
    connections("10,000 idle", 10_000, |_, _| ());
    connections("peers that never read", 1000, |host, peer| while write(host, peer, &[1; 4000]) {});
    connections(
        "peers that never read small writes",
        1000,
        |host, peer| while write(host, peer, &[1; 50]) {},
    );
    connections("applications that never read", 1000, |host, peer| {
        (0..60).for_each(|n| host.data(peer, n * MSS as u32, &[1; MSS]));
    });
    connections("applications that never read a byte", 1000, |host, peer| {
        (0..60).for_each(|n| host.data(peer, n, &[1]));
    });
    connections("bytes out of order", 200, |host, peer| {
        (1..1000).for_each(|n| host.data(peer, 2 * n, &[1]));
    });
    connections("segments out of order", 200, |host, peer| {
        (1..40).for_each(|n| host.data(peer, n * MSS as u32, &[1; MSS]));
    });
    at_rest();
    half_open();
    fragments();
}
