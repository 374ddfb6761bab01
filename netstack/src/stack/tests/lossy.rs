//! Whole connections over bad links, many seeds each.

use super::{SECOND, assert_empty};
use crate::device::LinkConfig;
use crate::stack::testing::Net;

/// Both directions at once over a link, then a close from both sides; nothing is left behind.
fn echo_over(link: &str, seed: u64, len: usize) {
    let config = |seed| LinkConfig { seed, ..link.parse().unwrap() };
    let mut net = Net::over_link(seed, config(2 * seed), config(2 * seed + 1));
    let (client, server) = net.connected();
    let bytes: Vec<u8> = (0..len as u32).map(|n| (n ^ n >> 8 ^ n >> 16) as u8).collect();
    let (mut sent, mut echoed, mut back) = (0, Vec::new(), Vec::new());
    let mut at_server = Vec::new();
    net.run_until(600 * SECOND, |net| {
        sent += net.write(&client, &bytes[sent..]).unwrap_or(0);
        at_server.extend(net.read_available(&server).0);
        let written = net.write(&server, &at_server[echoed.len()..]).unwrap_or(0);
        echoed.extend_from_slice(&at_server[echoed.len()..][..written]);
        back.extend(net.read_available(&client).0);
        back.len() >= bytes.len()
    });
    assert!(back == bytes, "{link}, seed {seed}");
    if link.contains("loss=10%") {
        let retransmitted =
            net.engine(0).with_tcp(net.now, |tcp, turn| tcp.info(turn, &client.cell)).unwrap().total_retrans;
        assert!(retransmitted > 0, "the link loses something");
    }
    net.close(client);
    net.close(server);
    net.run_for(300 * SECOND);
    assert_empty(net.engine(0));
    assert_empty(net.engine(1));
}

#[test]
fn every_byte_arrives_over_bad_links() {
    for link in [
        "delay=20ms,jitter=5ms",
        "delay=20ms,loss=1%",
        "delay=5ms,loss=10%",
        "delay=5ms,reorder=30%,duplicate=5%",
        "delay=5ms,corrupt=2%",
        "delay=10ms,rate=10mbit,queue=32kb",
        "delay=5ms,loss=1%,reorder=5%",
    ] {
        for seed in 0..6 {
            echo_over(link, seed, 150_000);
        }
    }
}
