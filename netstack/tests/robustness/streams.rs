//! Whole streams: over devices that take nothing for a while, and over bad links.

use crate::lab::{Lab, Numbers, Peer};
use netstack::device::{Link, LinkConfig};
use netstack::time::Duration;
use netstack::wire::Flags;
use netstack::{Interface, Stack};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn r20_a_device_that_is_full_again_and_again_loses_nothing() {
    let mut lab = Lab::new(|_| ());
    let listener = lab.listen(80, 8);
    let (mut peer, cell) = Peer::hostile(80).established(&mut lab, &listener);
    let mut numbers = Numbers(20);
    let (mut written, mut heard) = (Vec::new(), Vec::new());
    for round in 0..2_000u32 {
        if numbers.below(3) == 0 {
            lab.set_full(true);
        }
        let piece = vec![round as u8; 500];
        if written.len() < 300_000
            && let Ok(n) = lab.write(&cell, &piece)
        {
            written.extend_from_slice(&piece[..n]);
        }
        lab.pass(Duration::from_millis(numbers.below(4)));
        lab.set_full(false);
        heard.extend(peer.hear_all(&lab));
        lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    }
    for _ in 0..200 {
        lab.pass(Duration::from_millis(500));
        heard.extend(peer.hear_all(&lab));
        lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    }
    assert!(written.len() > 100_000);
    assert!(heard == written, "{} of {} bytes", heard.len(), written.len());
    // What waits for the device leaves as soon as that takes packets, and not after a time-out.
    lab.set_full(true);
    assert_eq!(lab.write(&cell, b"waits").expect("room"), 5);
    lab.set_full(false);
    // Guard removed: if `Tcp::serve_waiting` forgets who waits, nothing is heard.
    assert_eq!(peer.hear_all(&lab), b"waits");
    lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    lab.sent();
    lab.legit_echo(&listener);
}

/// A link of one direction.
fn link(seed: u64, text: &str) -> LinkConfig {
    let mut config: LinkConfig = text.parse().expect("a link");
    config.seed = seed;
    config
}

async fn transfer(forth: LinkConfig, back: LinkConfig, bytes: usize) -> Duration {
    let outage = forth.down;
    assert!(!outage);
    let (left, right) = Link::pair(forth, back);
    let build = |name: &str, link, address| {
        let interface = Interface::new(Arc::new(link)).address(address);
        Stack::builder().name(name).interface(interface).build().expect("a stack in a runtime")
    };
    let (left, right) = (build("left", left, "10.0.0.1/24"), build("right", right, "10.0.0.2/24"));
    let listener = right.listen("10.0.0.2:80").await.expect("a listener");
    let began = tokio::time::Instant::now();
    let data: Vec<u8> = (0..bytes).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let sent = data.clone();
    let client = async {
        let mut stream = left.connect("10.0.0.2:80").await.expect("a connection");
        stream.write_all(&sent).await.expect("it is taken");
        stream.shutdown().await.expect("it is taken");
        let mut back = Vec::new();
        stream.read_to_end(&mut back).await.expect("the answer");
        back
    };
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("all of it");
        stream.write_all(&all).await.expect("it is taken");
        stream.shutdown().await.expect("it is taken");
        all
    };
    let (back, all) = tokio::join!(client, server);
    assert!(all == data && back == data, "every byte once and in order");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn r22_every_byte_arrives_over_links_of_every_kind() {
    for (kind, forth, back) in [
        ("loss", "delay=10ms,loss=1%", "delay=10ms,loss=1%"),
        ("much loss", "delay=5ms,loss=30%", "delay=5ms,loss=30%"),
        ("reordering", "delay=10ms,reorder=50%", "delay=10ms,reorder=50%"),
        ("copies", "delay=10ms,duplicate=30%", "delay=10ms,duplicate=30%"),
        ("damage", "delay=10ms,corrupt=5%", "delay=10ms,corrupt=5%"),
        ("lost acknowledgments", "delay=10ms", "delay=10ms,loss=30%"),
        ("a slow link", "delay=10ms,rate=2mbit", "delay=10ms,rate=1mbit"),
    ] {
        for seed in 0..6 {
            // Guard removed: without retransmission, or without the checksum, no byte less than all would do.
            let took = transfer(link(2 * seed, forth), link(2 * seed + 1, back), 60_000).await;
            assert!(took < Duration::from_secs(600), "{kind}, seed {seed}: {took:?}");
        }
    }
}
