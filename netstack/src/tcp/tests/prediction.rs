//! What is expected is taken the short way, with the same result as the long one.

use super::pair::{Pair, Wire, config, pattern};
use crate::buffer::Chunk;
use crate::config::Config;
use crate::tcp::{QuietAck, SocketOptions};
use crate::time::Duration;
use crate::wire::Timestamps;
use proptest::prelude::*;
use std::sync::Arc;

/// What an application at one end does, or the wire.
#[derive(Clone, Copy, Debug)]
enum Act {
    Write(usize, usize),
    Read(usize, usize),
    Keepalive(usize, bool),
    /// Bytes of the send buffer, so that a writer has to wait.
    SendBuffer(usize, usize),
    Step,
    Run(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0usize..2, 1usize..40_000).prop_map(|(end, len)| Act::Write(end, len)),
        2 => (0usize..2, 1usize..60_000).prop_map(|(end, len)| Act::Read(end, len)),
        1 => (0usize..2, any::<bool>()).prop_map(|(end, on)| Act::Keepalive(end, on)),
        1 => (0usize..2, 4_000usize..20_000).prop_map(|(end, len)| Act::SendBuffer(end, len)),
        6 => Just(Act::Step),
        3 => (1u64..4_000).prop_map(Act::Run),
    ]
}

fn settings(timestamps: bool, sack: bool) -> Arc<Config> {
    let change = |config: &mut Config| {
        config.timestamps = timestamps;
        config.sack = sack;
    };
    Arc::new((*config()).clone().with(change))
}

fn change(pair: &mut Pair, end: usize, change: impl FnOnce(&mut SocketOptions)) {
    let (now, conn) = (pair.now, pair.conn(end));
    let mut options = conn.options().clone();
    change(&mut options);
    conn.set_options(now, options);
}

/// Does it at one pair.
fn perform(pair: &mut Pair, act: Act) {
    match act {
        Act::Write(end, len) => {
            pair.write(end, &pattern(len));
        }
        Act::Read(end, len) => drop(pair.read(end, len)),
        Act::Keepalive(end, on) => {
            change(pair, end, |options| {
                options.keepalive = on;
                options.keepalive_time = Duration::from_millis(700);
            });
        }
        Act::SendBuffer(end, len) => {
            change(pair, end, |options| options.send_buffer_size = Some(len));
        }
        Act::Step => {
            pair.step();
        }
        Act::Run(ms) => pair.run_for(Duration::from_millis(ms)),
    }
}

/// Two pairs to which the same happens; to the ends of one of them, the long way alone.
fn both_ways(wire: Wire, seed: u64, settings: &Arc<Config>, acts: &[Act]) -> usize {
    let mut pairs = [(); 2].map(|()| Pair::connect_with(wire, seed, settings, settings));
    pairs[1].predicted = Some(0);
    for (n, act) in acts.iter().enumerate() {
        let [long, short] = &mut pairs;
        perform(long, *act);
        perform(short, *act);
        for end in 0..2 {
            assert_eq!(long.conn(end).take_events(), short.conn(end).take_events(), "act {n}, end {end}");
            assert_eq!(long.ends[end].log, short.ends[end].log, "act {n}, end {end}");
            let [long, short] = [&long.ends[end].conn, &short.ends[end].conn];
            assert_eq!(format!("{long:?}"), format!("{short:?}"), "act {n}, {act:?}, end {end}");
        }
    }
    pairs[1].predicted.unwrap_or(0)
}

#[test]
fn an_acknowledgment_that_says_nothing_new_is_taken_the_short_way() {
    // The answers to keep-alive probes are of that kind.
    let acts = [
        Act::Keepalive(0, true),
        Act::Write(0, 10_000),
        Act::Run(500),
        Act::Read(1, 10_000),
        Act::Run(500),
        Act::Run(5_000),
    ];
    assert!(both_ways(Wire::default(), 1, &config(), &acts) > 0);
}

/// What is kept back comes to the same as if it had come one by one.
#[test]
fn acknowledgments_that_are_kept_back_count_as_each_on_its_own() {
    let mut pairs = [(); 2].map(|()| Pair::connect(Wire::default(), 1));
    for pair in &mut pairs {
        change(pair, 0, |options| options.keepalive = true);
        pair.transfer(0, &pattern(5_000), Duration::from_secs(9));
        pair.run_for(Duration::from_secs(1));
        let _ = pair.conn(0).take_events();
    }
    let (start, ack) = (pairs[0].now, pairs[0].ends[1].log.last().expect("an acknowledgment").1.clone());
    let nth = |n: u32| {
        let mut ack = ack.clone();
        ack.options.timestamps =
            ack.options.timestamps.map(|ts| Timestamps { tsval: ts.tsval + 100 * n, ..ts });
        (start + Duration::from_millis(100) * n, ack)
    };
    let mut last = QuietAck::of(&nth(0).1);
    for (at, ack) in [1, 2, 3].map(nth) {
        assert!(pairs[0].conn(0).is_quiet_ack(at, &ack) && last.is_again(&ack), "{ack:?}");
        last = QuietAck::of(&ack);
        pairs[0].conn(0).on_segment(at, &ack, Chunk::empty());
        assert_eq!(pairs[0].conn(0).poll_transmit(at, 0), None);
        let _ = pairs[0].conn(0).take_events();
    }
    pairs[1].conn(0).on_quiet_acks(nth(3).0, &last, 3);
    let [one_by_one, kept] = pairs.each_ref().map(|pair| format!("{:?}", pair.ends[0].conn));
    assert_eq!(one_by_one, kept);
    assert!(!last.is_again(&nth(2).1), "older than the last");
}

proptest! {
    #[test]
    fn the_short_way_comes_to_the_same_as_the_long_one(
        acts in prop::collection::vec(act(), 1..40),
        seed: u64,
        (loss, reorder, offload) in (0usize..2, 0usize..2, 0usize..2),
        (timestamps, sack) in (any::<bool>(), any::<bool>()),
    ) {
        let wire = Wire {
            duplicate: 0.3,
            loss: [0.0, 0.05][loss],
            reorder: [0.0, 0.2][reorder],
            offload: [0, 64_000][offload],
            ..Wire::default()
        };
        both_ways(wire, seed, &settings(timestamps, sack), &acts);
    }
}
