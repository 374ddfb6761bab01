//! Congestion control and pacing against what theory says of them, over a wire with a rate and a queue.

use super::pair::{Pair, Wire, pattern};
use crate::config::{Config, CongestionName};
use crate::tcp::{Path, SocketOptions};
use crate::time::Duration;
use std::sync::Arc;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn a_maximum_rate_is_kept_and_reached() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let now = pair.now;
    let options = SocketOptions { max_pacing_rate: Some(1_000_000), ..pair.conn(0).options().clone() };
    pair.conn(0).set_options(now, options);
    let first = pair.ends[0].log.len();
    pair.transfer(0, &pattern(1_000_000), Duration::from_secs(5));
    let took = pair.now - now;
    assert!(took >= ms(985) && took < ms(1060), "{took:?}");
    let times: Vec<_> =
        pair.ends[0].log[first..].iter().filter(|(_, s)| s.payload_len > 0).map(|(at, _)| *at).collect();
    // 1448 bytes are 1448 us apart; the first ten segments leave at once.
    for (i, gap) in times.windows(2).map(|pair| pair[1] - pair[0]).enumerate().skip(11) {
        assert!(gap >= Duration::from_micros(1400), "segment {i}: {gap:?}");
    }
    let info = pair.ends[0].conn.info(pair.now);
    assert_eq!(info.pacing_rate, 1_000_000);
    assert!((950_000..=1_010_000).contains(&info.delivery_rate), "{}", info.delivery_rate);
}

#[test]
fn super_segments_are_cut_to_a_millisecond_of_the_rate() {
    let wire = Wire { offload: 65_000, ..Wire::default() };
    let mut pair = Pair::connect(wire, 1);
    let now = pair.now;
    let options = SocketOptions { max_pacing_rate: Some(10_000_000), ..pair.conn(0).options().clone() };
    pair.conn(0).set_options(now, options);
    pair.transfer(0, &pattern(4_000_000), Duration::from_secs(5));
    let took = pair.now - now;
    assert!(took >= ms(400) && took < ms(620), "{took:?}");
    let longest = pair.ends[0].log.iter().skip(20).map(|(_, s)| s.payload_len).max();
    assert_eq!(longest, Some(10_000_000 / 1024 / 1448 * 1448));
}

#[test]
fn super_segments_are_small_on_a_far_path_and_large_on_a_near_one() {
    for (delay, segments) in [(ms(10), 2), (Duration::from_micros(50), 5)] {
        let mut pair = Pair::connect(Wire { offload: 65_000, delay, ..Wire::default() }, 1);
        let first = pair.ends[0].log.len();
        pair.write(0, &pattern(16_000));
        // Ten segments in 20 ms, at twice that rate, are one in a millisecond.
        let len = pair.ends[0].log[first].1.payload_len;
        assert_eq!(len.min(5 * 1448), segments * 1448, "{delay:?}");
    }
}

#[test]
fn pacing_for_everybody_spreads_the_window_over_the_round_trip() {
    let paced = Arc::new(Config { pacing: true, ..Config::default() });
    let mut pair = Pair::connect_with(Wire::default(), 1, &paced, &paced);
    let start = pair.now;
    let first = pair.ends[0].log.len();
    pair.transfer(0, &pattern(2_000_000), Duration::from_secs(20));
    // Slow start doubles in spite of it.
    assert!(pair.now - start < ms(300), "{:?}", pair.now - start);
    let log = &pair.ends[0].log[first..];
    let mut most = 0;
    for burst in log.chunk_by(|a, b| a.0 == b.0) {
        most = most.max(burst.len());
    }
    assert!(most <= 10, "a burst of {most}");
}

#[test]
fn a_bottleneck_shows_in_the_delivery_rate() {
    // 10 Mbit/s with 20 ms and a queue of two such products.
    let wire = Wire { rate: 1_250_000, queue: 50_000, ..Wire::default() };
    let mut pair = Pair::connect(wire, 1);
    pair.transfer(0, &pattern(3_000_000), Duration::from_secs(20));
    let info = pair.ends[0].conn.info(pair.now);
    // What is delivered is payload: 1448 of 1500 bytes.
    assert!((1_150_000..=1_210_000).contains(&info.delivery_rate), "{}", info.delivery_rate);
    assert!(!info.delivery_rate_app_limited);
    // A trickle of the application changes nothing, once the last ones are acknowledged.
    pair.run_for(ms(300));
    let info = pair.ends[0].conn.info(pair.now);
    for _ in 0..20 {
        pair.transfer(0, b"a little", Duration::from_secs(1));
        pair.run_for(ms(100));
    }
    let after = pair.ends[0].conn.info(pair.now);
    assert_eq!(after.delivery_rate, info.delivery_rate);
}

fn with(congestion: CongestionName) -> Arc<Config> {
    Arc::new(Config { congestion, ..Config::default() })
}

/// Sends for `time` as much as goes, and returns the bytes that arrived.
fn flood(pair: &mut Pair, time: Duration) -> usize {
    let end = pair.now + time;
    let block = vec![7; 1 << 20];
    let mut got = 0;
    while pair.now < end {
        while pair.write(0, &block) > 0 {}
        got += pair.discard(1);
        assert!(pair.step());
    }
    got
}

#[test]
fn bbr_fills_the_link_and_leaves_its_queue_short() {
    // 20 Mbit/s with 20 ms and a queue of four such products.
    let wire = Wire { rate: 2_500_000, queue: 200_000, ..Wire::default() };
    let bbr = with(CongestionName::BBR);
    let mut pair = Pair::connect_with(wire, 1, &bbr, &bbr);
    flood(&mut pair, ms(1_500));
    let overflows = pair.overflows;
    let got = flood(&mut pair, ms(3_000));
    let share = got as f64 / 3.0 / (2_500_000.0 * 1448.0 / 1500.0);
    assert!(share > 0.95, "{share}");
    assert_eq!(pair.overflows, overflows);
    let info = pair.ends[0].conn.info(pair.now);
    assert!(info.rtt < ms(40), "{info}");
}

#[test]
fn bbr_bears_one_loss_in_a_hundred() {
    // 40 Mbit/s with 50 ms.
    let wire = Wire { delay: ms(25), rate: 5_000_000, queue: 250_000, loss: 0.01, ..Wire::default() };
    let bbr = with(CongestionName::BBR);
    let mut pair = Pair::connect_with(wire, 1, &bbr, &bbr);
    flood(&mut pair, ms(1_000));
    let got = flood(&mut pair, ms(4_000));
    let share = got as f64 / 4.0 / (5_000_000.0 * 1448.0 / 1500.0);
    assert!(share > 0.9, "{share}");
}

#[test]
fn congestion_control_changes_on_a_live_connection() {
    let wire = Wire { rate: 1_250_000, queue: 50_000, ..Wire::default() };
    let mut pair = Pair::connect(wire, 1);
    for name in CongestionName::BUILT_IN.into_iter().cycle().take(7) {
        let now = pair.now;
        let mut options = pair.conn(0).options().clone();
        options.set_congestion(name.as_str().as_bytes()).unwrap();
        let cwnd = pair.conn(0).info(now).snd_cwnd;
        pair.conn(0).set_options(now, options);
        assert_eq!(pair.conn(0).info(now).snd_cwnd, cwnd);
        let got = flood(&mut pair, ms(1_000));
        assert!(got > 900_000, "{name}: {got}");
    }
}

#[test]
fn slow_start_ends_where_earlier_connections_had_to_slow_down() {
    let mut path = Path::new(1500, false);
    path.metrics.ssthresh = Some(30);
    let config = Arc::new(Config::default());
    let mut pair = Pair::connect_over(path, Wire::default(), 1, &config, &config);
    assert_eq!(pair.ends[0].conn.info(pair.now).snd_ssthresh, 30 * 1448);
    flood(&mut pair, ms(200));
    let info = pair.ends[0].conn.info(pair.now);
    assert!(info.snd_cwnd >= 30 * 1448 && info.snd_cwnd < 60 * 1448, "{info}");
}
