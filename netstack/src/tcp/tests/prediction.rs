//! What is expected is taken the short way, with the same result as the long one.

use super::pair::{Pair, Wire, config, pattern};
use crate::buffer::Chunk;
use crate::config::Config;
use crate::tcp::{QuietAck, SocketOptions};
use crate::time::Duration;
use crate::wire::{Flags, PlainSegment, Segment, Timestamps};
use proptest::prelude::*;
use std::net::Shutdown;
use std::sync::Arc;

/// What an application at one end does, or the wire.
#[derive(Clone, Copy, Debug)]
enum Act {
    Write(usize, usize),
    Read(usize, usize),
    Keepalive(usize, bool),
    /// Bytes of the send buffer, so that a writer has to wait.
    SendBuffer(usize, usize),
    /// The window of the receive buffer, so that it closes.
    RecvBuffer(usize, usize),
    /// Under memory pressure, each direction may hold so many bytes; [`usize::MAX`] when it is over.
    Allow(usize, usize),
    ShutDown(usize, Shutdown),
    /// What arrives next is a little different: a near miss.
    Change(Near),
    Step,
    Run(u64),
}

/// How a segment differs from what is expected.
#[derive(Clone, Copy, Debug)]
enum Near {
    Flags(u16),
    Seq(i32),
    Ack(i32),
    Window(u16),
    Tsval(i32),
    Tsecr(u32),
    NoTimestamps,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0usize..2, 1usize..40_000).prop_map(|(end, len)| Act::Write(end, len)),
        2 => (0usize..2, 1usize..60_000).prop_map(|(end, len)| Act::Read(end, len)),
        1 => (0usize..2, any::<bool>()).prop_map(|(end, on)| Act::Keepalive(end, on)),
        1 => (0usize..2, 4_000usize..20_000).prop_map(|(end, len)| Act::SendBuffer(end, len)),
        1 => (0usize..2, 3_000usize..30_000).prop_map(|(end, len)| Act::RecvBuffer(end, len)),
        1 => (0usize..2, prop_oneof![Just(usize::MAX), 0usize..20_000]).prop_map(|(end, len)| Act::Allow(end, len)),
        1 => (0usize..2, prop_oneof![Just(Shutdown::Read), Just(Shutdown::Write)])
            .prop_map(|(end, how)| Act::ShutDown(end, how)),
        3 => near().prop_map(Act::Change),
        6 => Just(Act::Step),
        3 => (1u64..4_000).prop_map(Act::Run),
    ]
}

fn near() -> impl Strategy<Value = Near> {
    let flags =
        [Flags::FIN, Flags::PSH, Flags::URG, Flags::ECE, Flags::CWR, Flags::AE, Flags::SYN, Flags::RST];
    prop_oneof![
        prop::sample::select(flags.to_vec()).prop_map(|flag| Near::Flags(flag.bits())),
        Just(Near::Flags(Flags::ACK.bits())),
        prop_oneof![-3i32..4, -3_000i32..3_000].prop_map(Near::Seq),
        prop_oneof![-3i32..4, -3_000i32..3_000, -100_000i32..100_000].prop_map(Near::Ack),
        prop_oneof![Just(0u16), any::<u16>()].prop_map(Near::Window),
        prop_oneof![-3i32..4, -5_000i32..5_000].prop_map(Near::Tsval),
        prop_oneof![Just(0u32), any::<u32>()].prop_map(Near::Tsecr),
        Just(Near::NoTimestamps),
    ]
}

impl Near {
    fn apply(self, segment: &mut Segment) {
        let ts = &mut segment.options.timestamps;
        match self {
            Self::Flags(bits) => segment.flags = Flags::from_bits(segment.flags.bits() ^ bits),
            Self::Seq(by) => segment.seq = segment.seq + by as u32,
            Self::Ack(by) => segment.ack = segment.ack + by as u32,
            Self::Window(window) => segment.window = window,
            Self::Tsval(by) => {
                *ts = ts.map(|ts| Timestamps { tsval: ts.tsval.wrapping_add_signed(by), ..ts });
            }
            Self::Tsecr(tsecr) => *ts = ts.map(|ts| Timestamps { tsecr, ..ts }),
            Self::NoTimestamps => *ts = None,
        }
    }
}

fn settings(timestamps: bool, sack: bool, congestion: &str) -> Arc<Config> {
    let change = |config: &mut Config| {
        config.congestion = congestion.parse().unwrap();
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
        Act::RecvBuffer(end, len) => {
            change(pair, end, |options| options.recv_buffer_size = Some(len));
        }
        Act::Allow(end, allowance) => pair.conn(end).set_allowance(allowance),
        Act::ShutDown(end, how) => drop(pair.conn(end).shutdown(how)),
        Act::Change(near) => pair.change_next(|segment| near.apply(segment)),
        Act::Step => {
            pair.step();
        }
        Act::Run(ms) => pair.run_for(Duration::from_millis(ms)),
    }
}

/// Two pairs to which the same happens; to the ends of one of them, the long way alone.
fn both_ways(wire: Wire, seed: u64, settings: &Arc<Config>, acts: &[Act]) -> usize {
    let mut pairs = [(); 2].map(|()| Pair::connect_with(wire, seed, settings, settings));
    pairs[0].step_by_step = true;
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

#[test]
fn nearly_all_that_comes_in_a_transfer_is_expected() {
    let mut pair = Pair::connect(Wire::default(), 1);
    pair.transfer(0, &pattern(500_000), Duration::from_secs(60));
    let came: usize = pair.ends.iter().map(|end| end.log.len()).sum();
    assert!(pair.expected * 10 >= came * 9, "{} of {came}", pair.expected);
    // One acknowledgment for each window.
    assert!(pair.plain_acks > 3, "{}", pair.plain_acks);
    assert!(pair.tails > 0, "the end of what was written is less than a segment");
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
    let quiet = |ack: &Segment| QuietAck::of(&PlainSegment::of(ack).unwrap()).unwrap();
    let mut last = quiet(&nth(0).1);
    for (at, ack) in [1, 2, 3].map(nth) {
        let plain = PlainSegment::of(&ack).unwrap();
        assert!(pairs[0].conn(0).is_quiet_ack(at, &plain) && last.is_followed_by(&quiet(&ack)), "{ack:?}");
        last = quiet(&ack);
        pairs[0].conn(0).on_segment(at, &ack, Chunk::empty());
        assert_eq!(pairs[0].conn(0).poll_transmit(at, 0), None);
        let _ = pairs[0].conn(0).take_events();
    }
    pairs[1].conn(0).on_quiet_acks(nth(3).0, &last, 3);
    let [one_by_one, kept] = pairs.each_ref().map(|pair| format!("{:?}", pair.ends[0].conn));
    assert_eq!(one_by_one, kept);
    assert!(!last.is_followed_by(&quiet(&nth(2).1)), "older than the last");
}

proptest! {
    #[test]
    fn the_short_way_comes_to_the_same_as_the_long_one(
        acts in prop::collection::vec(act(), 1..40),
        seed: u64,
        (duplicate, loss, reorder, offload) in (0usize..2, 0usize..2, 0usize..2, 0usize..2),
        (timestamps, sack) in (any::<bool>(), any::<bool>()),
        congestion in prop::sample::select(vec!["cubic", "reno", "bbr"]),
    ) {
        let wire = Wire {
            duplicate: [0.0, 0.3][duplicate],
            loss: [0.0, 0.05][loss],
            reorder: [0.0, 0.2][reorder],
            offload: [0, 64_000][offload],
            ..Wire::default()
        };
        both_ways(wire, seed, &settings(timestamps, sack, congestion), &acts);
    }
}
