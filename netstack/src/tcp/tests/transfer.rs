//! Bytes cross good and bad wires whole and in order.

use super::pair::{Pair, Wire, pattern};
use crate::tcp::SocketOptions;
use crate::time::Duration;

#[test]
fn a_clean_wire_carries_a_megabyte_without_a_retransmission() {
    for offload in [0, 65_000] {
        let mut pair = Pair::connect(Wire { offload, ..Wire::default() }, 1);
        let bytes = pattern(1 << 20);
        assert!(pair.transfer(0, &bytes, Duration::from_secs(20)) == bytes);
        let info = pair.ends[0].conn.info(pair.now);
        assert_eq!(info.total_retrans, 0, "offload {offload}: {info}");
        assert!(info.rtt >= Duration::from_millis(20) && info.rtt < Duration::from_millis(70), "{info}");
    }
}

#[test]
fn slow_start_fills_a_long_pipe() {
    // 1 MiB from a window of 14 kB at 20 ms: six or seven round trips and the delays of ACKs.
    let mut pair = Pair::connect(Wire::default(), 1);
    let start = pair.now;
    pair.transfer(0, &pattern(1 << 20), Duration::from_secs(20));
    let took = pair.now - start;
    assert!(took < Duration::from_millis(250), "{took:?}");
}

#[test]
fn bad_wires_lose_nothing() {
    for seed in 0..60 {
        for wire in [
            Wire { loss: 0.01, ..Wire::default() },
            Wire { loss: 0.05, reorder: 0.05, duplicate: 0.01, ..Wire::default() },
            Wire { loss: 0.25, ..Wire::default() },
            Wire { reorder: 0.5, duplicate: 0.2, ..Wire::default() },
            Wire { loss: 0.02, reorder: 0.3, offload: 40_000, ..Wire::default() },
        ] {
            let mut pair = Pair::connect(wire, seed);
            let bytes = pattern(120_000);
            let got = pair.transfer(0, &bytes, Duration::from_secs(3_000));
            assert!(got == bytes, "seed {seed}, {wire:?}: {} of {} bytes", got.len(), bytes.len());
        }
    }
}

#[test]
fn peers_without_options_are_served() {
    let plain = std::sync::Arc::new(crate::config::Config {
        sack: false,
        timestamps: false,
        window_scaling: false,
        ..crate::config::Config::default()
    });
    for seed in 0..20 {
        let wire = Wire { loss: 0.03, reorder: 0.02, ..Wire::default() };
        let mut pair = Pair::connect_with(wire, seed, &super::pair::config(), &plain);
        let bytes = pattern(100_000);
        assert!(pair.transfer(0, &bytes, Duration::from_secs(300)) == bytes, "seed {seed} out");
        assert!(pair.transfer(1, &bytes, Duration::from_secs(300)) == bytes, "seed {seed} in");
    }
}

#[test]
fn both_directions_at_once_with_slow_readers_never_stall() {
    for seed in 0..10 {
        let wire = Wire { delay: Duration::from_micros(50), loss: 0.002, ..Wire::default() };
        let mut pair = Pair::connect(wire, seed);
        let bytes = pattern(600_000);
        let mut sent = [0; 2];
        let mut got = [Vec::new(), Vec::new()];
        let deadline = pair.now + Duration::from_secs(300);
        while got.iter().any(|g| g.len() < bytes.len()) {
            for end in 0..2 {
                if sent[end] < bytes.len() {
                    sent[end] += pair.write(end, &bytes[sent[end]..]);
                }
                // A reader that takes little at a time lets the windows close.
                let piece = pair.read(end, 700);
                got[end].extend(piece);
            }
            let unread = pair.ends.iter().any(|end| end.conn.unread() > 0);
            assert!(
                pair.step() || unread || got.iter().all(|g| g.len() == bytes.len()),
                "seed {seed} stalled"
            );
            assert!(pair.now < deadline, "seed {seed}: {} and {} bytes", got[0].len(), got[1].len());
        }
        assert!(got[0] == bytes && got[1] == bytes);
    }
}

#[test]
fn a_closed_window_is_probed_and_opens() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let bytes = pattern(400_000);
    let mut sent = 0;
    for _ in 0..60 {
        sent += pair.write(0, &bytes[sent..]);
        pair.step();
    }
    pair.run_for(Duration::from_secs(30));
    let full_at = pair.now;
    let info = pair.ends[0].conn.info(pair.now);
    assert_eq!(info.unacked, 0, "what fits is acknowledged");
    assert!(sent < bytes.len() && info.notsent_bytes > 0, "the reader's buffer is full");
    let probes = pair.ends[0].log.len();
    // The window update is lost; only a probe can find out.
    pair.cut[0] = true;
    let mut got = pair.read(1, 1 << 20);
    pair.run_for(Duration::from_millis(100));
    pair.cut[0] = false;
    while got.len() < bytes.len() {
        sent += pair.write(0, &bytes[sent..]);
        assert!(pair.step());
        got.extend(pair.read(1, 1 << 20));
        assert!(pair.now - full_at < Duration::from_secs(100), "stalled at {}", got.len());
    }
    assert!(got == bytes);
    assert!(pair.ends[0].log.len() > probes);
}

#[test]
fn nagle_holds_the_second_small_write_and_nodelay_does_not() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let before = pair.ends[0].log.len();
    pair.write(0, b"a");
    pair.write(0, b"b");
    pair.write(0, b"c");
    assert_eq!(pair.sent(0, before).len(), 1);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.sent(0, before)[1], "PSH,ACK 2/1 len 2");
    let now = pair.now;
    let options = SocketOptions { nodelay: true, ..pair.conn(0).options().clone() };
    pair.conn(0).set_options(now, options);
    let before = pair.ends[0].log.len();
    pair.write(0, b"d");
    pair.write(0, b"e");
    assert_eq!(pair.sent(0, before).len(), 2);
}

#[test]
fn cork_waits_for_a_full_segment_and_200_ms_at_most() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let now = pair.now;
    let options = SocketOptions { cork: true, ..pair.conn(0).options().clone() };
    pair.conn(0).set_options(now, options.clone());
    let before = pair.ends[0].log.len();
    pair.write(0, b"part");
    pair.run_for(Duration::from_millis(150));
    assert_eq!(pair.ends[0].log.len(), before, "held back");
    pair.run_for(Duration::from_millis(150));
    assert_eq!(pair.sent(0, before), ["PSH,ACK 1/1 len 4"]);
    pair.run_for(Duration::from_secs(1));
    let before = pair.ends[0].log.len();
    pair.write(0, b"part");
    let now = pair.now;
    pair.conn(0).set_options(now, SocketOptions { cork: false, ..options });
    pair.pump();
    assert_eq!(pair.ends[0].log.len(), before + 1, "pulling the cork sends at once");
}

#[test]
fn setting_nodelay_pushes_what_is_corked_once() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let now = pair.now;
    let corked = SocketOptions { cork: true, ..pair.conn(0).options().clone() };
    pair.conn(0).set_options(now, corked.clone());
    let before = pair.ends[0].log.len();
    pair.write(0, b"part");
    assert_eq!(pair.ends[0].log.len(), before);
    pair.conn(0).set_options(now, SocketOptions { nodelay: true, ..corked });
    pair.write(0, b"");
    assert_eq!(pair.sent(0, before), ["PSH,ACK 1/1 len 4"]);
    pair.write(0, b"more");
    assert_eq!(pair.ends[0].log.len(), before + 1, "the cork holds what comes after");
}

#[test]
fn a_closed_window_does_not_age_the_congestion_window() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let mut sent = 0;
    let bytes = pattern(400_000);
    for _ in 0..60 {
        sent += pair.write(0, &bytes[sent..]);
        pair.step();
    }
    let before = pair.ends[0].conn.info(pair.now);
    pair.run_for(Duration::from_secs(60));
    let after = pair.ends[0].conn.info(pair.now);
    assert_eq!(after.snd_cwnd, before.snd_cwnd);
    assert!(after.last_data_sent >= Duration::from_secs(59), "{:?}", after.last_data_sent);
}

#[test]
fn sequence_numbers_wrap() {
    // The first end starts 10,000 bytes before the wrap.
    let mut pair = Pair::connect(Wire { loss: 0.02, ..Wire::default() }, 3);
    let bytes = pattern(300_000);
    assert!(pair.transfer(0, &bytes, Duration::from_secs(100)) == bytes);
}

#[test]
fn a_second_small_segment_is_acknowledged_when_it_is_read() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let options = SocketOptions { nodelay: true, ..pair.conn(0).options().clone() };
    let now = pair.now;
    pair.conn(0).set_options(now, options);
    pair.write(0, b"a question");
    pair.run_for(Duration::from_millis(15));
    pair.read(1, 10);
    pair.write(1, b"an answer");
    pair.run_for(Duration::from_millis(15));
    pair.read(0, 10);
    let before = pair.ends[1].log.len();
    pair.write(0, b"a remark");
    pair.run_for(Duration::from_millis(15));
    pair.read(1, 10);
    assert_eq!(pair.ends[1].log.len(), before, "the ACK waits for an answer");
    pair.write(0, b"another");
    pair.run_for(Duration::from_millis(15));
    assert_eq!(pair.ends[1].log.len(), before, "nobody has read it");
    pair.read(1, 10);
    assert_eq!(pair.sent(1, before), ["ACK 10/26 len 0"]);
}

#[test]
fn delayed_acks_wait_and_ride_on_answers() {
    let mut pair = Pair::connect(Wire::default(), 1);
    // Use up the quick ACKs.
    for _ in 0..20 {
        pair.write(0, b"x");
        pair.run_for(Duration::from_millis(100));
        pair.read(1, 10);
    }
    // A user who answers is expected to answer again.
    pair.write(1, b"hello");
    pair.run_for(Duration::from_millis(100));
    pair.read(0, 10);
    let before = pair.ends[1].log.len();
    pair.write(0, b"ping");
    pair.run_for(Duration::from_millis(12));
    pair.read(1, 10);
    assert_eq!(pair.ends[1].log.len(), before, "the ACK waits");
    pair.write(1, b"pong");
    let lines = pair.sent(1, before);
    assert_eq!(lines, ["PSH,ACK 6/25 len 4"], "and rides on the answer");
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.sent(1, before).len(), 1);
}
