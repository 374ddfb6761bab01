//! The tail of a flight, and what recovery takes back: probes, spurious time-outs and retransmissions,
//! reordering.

use super::pair::{Pair, Wire, pattern};
use super::table::{ISS, Table, segment};
use crate::config::{Config, CongestionName};
use crate::tcp::CongestionState;
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Options, SackBlock, Segment, SeqNum, Timestamps};
use std::sync::Arc;

const MSS: i64 = 1000;

/// A connection with SACK and without timestamps; ten segments of 1,000 bytes fill the window.
fn with_sack() -> Table {
    Table::established_with(Options { mss: Some(1000), sack_permitted: true, ..Options::default() })
}

/// An acknowledgment of everything before segment `n`, with SACK blocks in numbers of segments.
fn ack(n: i64, blocks: &[(i64, i64)]) -> Segment {
    let mut ack = segment(Flags::ACK, 1, 1 + n * MSS, 0);
    for &(from, to) in blocks {
        let at = |n: i64| SeqNum::new((i64::from(ISS) + 1 + n * MSS) as u32);
        ack.options.sack.push(SackBlock { start: at(from), end: at(to) });
    }
    ack
}

/// The lines of the segments from `from` to `to`, without PSH.
fn segments(from: i64, to: i64) -> Vec<String> {
    (from..to).map(|n| format!("ACK {}/1 1000", 1 + n * MSS)).collect()
}

fn sent(lines: Vec<String>) -> Vec<String> {
    lines.into_iter().map(|line| line.replace("PSH,", "")).collect()
}

/// Lets the next timer expire.
fn expire(t: &mut Table) -> Vec<String> {
    t.now = t.conn.poll_timeout().expect("a timer runs");
    t.conn.on_timeout(t.now);
    sent(t.output())
}

/// One round trip of `rtt` for a first segment, so that the estimators know the path.
fn measured(t: &mut Table, rtt: Duration) {
    t.write(1000);
    t.now += rtt;
    t.input(ack(1, &[]));
}

fn state(t: &Table) -> (CongestionState, usize, usize) {
    let info = t.conn.info(t.now);
    (info.ca_state, info.snd_cwnd / 1000, info.snd_ssthresh.min(99_000) / 1000)
}

#[test]
fn a_silent_tail_is_probed_after_two_round_trips_and_once() {
    let mut t = with_sack();
    measured(&mut t, Duration::from_millis(40));
    let start = t.now;
    assert_eq!(sent(t.write(4000)), segments(1, 5));
    assert_eq!(expire(&mut t), segments(4, 5), "the last segment again");
    let srtt = t.conn.info(t.now).rtt;
    assert_eq!(t.now - start, srtt * 2 + Duration::from_millis(2));
    let probed = t.now;
    assert_eq!(expire(&mut t), segments(1, 2), "then the time-out");
    assert_eq!(t.now - probed, t.conn.info(t.now).rto / 2);
}

#[test]
fn the_probe_is_new_data_where_there_is_some() {
    let mut t = with_sack();
    measured(&mut t, Duration::from_millis(40));
    assert_eq!(sent(t.write(20_000)).len(), 10, "the window is full");
    assert_eq!(expire(&mut t), segments(11, 12), "one beyond it");
    t.input(ack(12, &[]));
    assert_eq!(t.conn.info(t.now).total_retrans, 0);
}

#[test]
fn a_lone_segments_probe_waits_for_a_delayed_acknowledgment() {
    let mut t = with_sack();
    // A path on which the time-out is later than two round trips and the longest delay.
    measured(&mut t, Duration::from_millis(400));
    let start = t.now;
    t.write(1000);
    assert_eq!(expire(&mut t), segments(1, 2));
    let info = t.conn.info(t.now);
    let pto = info.rtt * 2 + Duration::from_millis(200);
    assert_eq!(t.now - start, pto.min(info.rto), "or for the time-out, if that is sooner");
}

#[test]
fn no_probe_where_it_is_switched_off_or_without_sack() {
    let mut t = Table::established();
    measured(&mut t, Duration::from_millis(40));
    t.write(4000);
    let start = t.now;
    assert_eq!(expire(&mut t), segments(1, 2));
    assert!(t.now - start > Duration::from_millis(200));
}

#[test]
fn a_probe_that_repaired_a_loss_costs_what_a_loss_costs() {
    let mut t = with_sack();
    measured(&mut t, Duration::from_millis(40));
    t.write(4000);
    expire(&mut t);
    // The original was lost: everything is acknowledged, and then more, without a DSACK.
    t.input(ack(5, &[]));
    let before = state(&t).1;
    t.write(1000);
    t.input(ack(6, &[]));
    let (phase, cwnd, ssthresh) = state(&t);
    assert_eq!((phase, cwnd), (CongestionState::Open, ssthresh));
    assert!(cwnd < before);
}

#[test]
fn a_probe_that_was_for_nothing_costs_nothing() {
    let mut t = with_sack();
    measured(&mut t, Duration::from_millis(40));
    t.write(4000);
    expire(&mut t);
    t.input(ack(5, &[]));
    t.input(ack(5, &[(4, 5)]));
    t.write(1000);
    t.input(ack(6, &[]));
    assert_eq!(state(&t).2, 99, "no threshold");
    assert_eq!(t.conn.info(t.now).dsack_dups, 1);
}

#[test]
fn a_timeout_that_was_a_mistake_is_taken_back_by_two_new_segments() {
    let mut t = with_sack();
    measured(&mut t, Duration::from_millis(40));
    t.write(20_000);
    expire(&mut t);
    let (_, cwnd, _) = state(&t);
    assert_eq!(expire(&mut t), segments(1, 2), "the time-out");
    assert_eq!(state(&t).0, CongestionState::Loss);
    // The acknowledgment of the original or of the copy: they cannot be distinguished.
    assert_eq!(sent(t.input(ack(2, &[]))), segments(12, 14), "new data will show");
    // Something that was sent once arrived.
    t.input(ack(3, &[]));
    let (phase, now, ssthresh) = state(&t);
    assert_eq!((phase, ssthresh), (CongestionState::Open, 99));
    assert!(now >= cwnd, "{now} after {cwnd}");
    assert_eq!(t.conn.info(t.now).total_retrans, 1);
}

#[test]
fn a_timeout_that_was_right_goes_on_with_what_is_missing() {
    let mut t = with_sack();
    measured(&mut t, Duration::from_millis(40));
    t.write(20_000);
    expire(&mut t);
    expire(&mut t);
    assert_eq!(sent(t.input(ack(2, &[]))), segments(12, 14));
    // Only what is new arrives.
    assert_eq!(sent(t.input(ack(2, &[(12, 13)]))), segments(2, 3));
    assert_eq!(state(&t).0, CongestionState::Loss);
}

#[test]
fn an_echo_from_before_the_retransmission_takes_the_timeout_back() {
    let theirs = Options {
        mss: Some(1012),
        sack_permitted: true,
        timestamps: Some(Timestamps { tsval: 1, tsecr: 0 }),
        ..Options::default()
    };
    let mut t = Table::established_with(theirs);
    t.write(10_000);
    let sent_at = t.now.as_millis() as u32;
    expire(&mut t);
    assert_eq!(expire(&mut t), segments(0, 1));
    t.now += Duration::from_millis(3);
    let mut late = ack(1, &[]);
    late.options.timestamps = Some(Timestamps { tsval: 1, tsecr: sent_at });
    assert!(t.input(late).is_empty(), "nothing more is sent again");
    let (phase, cwnd, ssthresh) = state(&t);
    assert_eq!((phase, ssthresh), (CongestionState::Open, 99));
    assert!(cwnd >= 10);
}

#[test]
fn duplicates_of_all_that_was_sent_again_take_recovery_back() {
    let mut t = with_sack();
    measured(&mut t, Duration::from_millis(40));
    t.write(10_000);
    t.now += Duration::from_millis(40);
    t.input(ack(1, &[(2, 3)]));
    t.input(ack(1, &[(2, 4)]));
    assert_eq!(sent(t.input(ack(1, &[(2, 5)]))), segments(1, 2));
    assert_eq!(state(&t).0, CongestionState::Recovery);
    // The late original, then the copy.
    t.input(ack(5, &[]));
    t.input(ack(5, &[(1, 2)]));
    let (phase, cwnd, ssthresh) = state(&t);
    assert_eq!((phase, ssthresh), (CongestionState::Open, 99));
    assert!(cwnd >= 10, "{cwnd}");
}

#[test]
fn duplicates_that_were_never_sent_again_prove_nothing() {
    let mut t = with_sack();
    measured(&mut t, Duration::from_millis(40));
    t.write(10_000);
    t.now += Duration::from_millis(40);
    t.input(ack(1, &[(2, 5)]));
    t.input(ack(1, &[(0, 1), (2, 6)]));
    t.input(ack(1, &[(0, 1), (2, 6)]));
    assert_eq!(state(&t).0, CongestionState::Recovery);
}

#[test]
fn what_was_sacked_and_is_dropped_is_sent_again_soon() {
    let mut t = with_sack();
    measured(&mut t, Duration::from_millis(40));
    t.write(10_000);
    t.now += Duration::from_millis(40);
    t.input(ack(1, &[(2, 5)]));
    // The hole is filled, and the acknowledgment stops at what was SACKed.
    t.input(ack(2, &[]));
    let start = t.now;
    assert_eq!(expire(&mut t), segments(2, 3));
    assert!(t.now - start < Duration::from_millis(30), "{:?}", t.now - start);
    assert_eq!(t.conn.info(t.now).sacked, 0);
}

#[test]
fn without_sack_duplicates_let_new_data_out_and_the_third_the_head() {
    let mut t = Table::established();
    measured(&mut t, Duration::from_millis(40));
    t.write(20_000);
    t.now += Duration::from_millis(40);
    assert_eq!(sent(t.input(ack(1, &[]))), segments(11, 12), "limited transmit");
    assert_eq!(sent(t.input(ack(1, &[]))), segments(12, 13));
    assert_eq!(sent(t.input(ack(1, &[]))), segments(1, 2));
    assert_eq!(state(&t).0, CongestionState::Recovery);
    // A partial acknowledgment points at the next hole, which goes when the window lets it.
    assert!(t.input(ack(4, &[])).is_empty());
    assert_eq!(sent(t.input(ack(4, &[]))), segments(4, 5));
    // All is acknowledged, but nothing beyond: duplicates may still come of what was sent again.
    t.input(ack(13, &[]));
    assert_eq!(state(&t).0, CongestionState::Recovery);
    t.input(ack(14, &[]));
    assert_eq!(state(&t).0, CongestionState::Open);
}

#[test]
fn nothing_new_is_sent_ahead_of_what_waits_for_the_window() {
    let mut t = with_sack();
    measured(&mut t, Duration::from_millis(40));
    t.write(11_000);
    t.write(10);
    t.now += Duration::from_millis(40);
    t.input(ack(1, &[(2, 3)]));
    t.input(ack(1, &[(2, 4)]));
    let lines = sent(t.input(ack(1, &[(2, 3), (4, 5), (6, 7), (8, 9)])));
    assert!(lines.iter().all(|line| !line.ends_with(" 10")), "{lines:?}");
}

#[test]
fn a_transfer_goes_on_with_the_retransmission_that_was_due_when_the_cable_came_back() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let bytes = pattern(2_000_000);
    let (mut written, mut read) = (0, 0);
    let until = |pair: &mut Pair, written: &mut usize, read: &mut usize, end: Instant| {
        while pair.now < end && *read < bytes.len() {
            *written += pair.write(0, &bytes[*written..]);
            *read += pair.read(1, 1 << 20).len();
            if pair.next_event().is_none_or(|next| next > end) {
                break;
            }
            pair.step();
        }
        pair.now = pair.now.max(end);
    };
    let at = pair.now;
    until(&mut pair, &mut written, &mut read, at + Duration::from_millis(100));
    pair.cut = [true; 2];
    let at = pair.now;
    until(&mut pair, &mut written, &mut read, at + Duration::from_secs(3));
    pair.cut = [false; 2];
    let due = pair.ends[0].conn.poll_timeout().expect("a retransmission is due");
    let before = read;
    until(&mut pair, &mut written, &mut read, due + Duration::from_millis(25));
    assert!(read > before, "one round trip after the retransmission");
    let at = pair.now;
    until(&mut pair, &mut written, &mut read, at + Duration::from_secs(2));
    assert_eq!(read, bytes.len());
}

/// Sends for `time` over `wire`, in which nothing is lost, and returns how many of a thousand segments
/// were sent again from `after` on.
fn needless(wire: Wire, congestion: CongestionName, after: Duration, time: Duration) -> (u64, u64) {
    let config = Arc::new(Config { congestion, send_buffer_max: 300_000, ..Config::default() });
    let mut pair = Pair::connect_with(wire, 7, &config, &config);
    let bytes = pattern(1 << 18);
    let start = pair.now;
    let mut from = None;
    while pair.now - start < time {
        pair.write(0, &bytes);
        pair.read(1, 1 << 20);
        assert!(pair.step());
        if pair.now - start >= after && from.is_none() {
            from = Some(pair.ends[0].conn.info(pair.now));
        }
    }
    let from = from.expect("the time came");
    let to = pair.ends[0].conn.info(pair.now);
    let segments = to.data_segs_out - from.data_segs_out;
    ((to.total_retrans - from.total_retrans) * 1000 / segments, segments)
}

#[test]
fn a_path_that_reorders_a_third_loses_hardly_anything_once_that_is_known() {
    for congestion in CongestionName::BUILT_IN {
        let wire = Wire { delay: Duration::from_millis(10), reorder: 0.3, ..Wire::default() };
        let (after, time) = (Duration::from_secs(3), Duration::from_secs(8));
        let (share, segments) = needless(wire, congestion, after, time);
        assert!(segments > 10_000, "{congestion:?}: {segments} segments");
        assert!(share < 20, "{congestion:?}: {share} of a thousand sent again for nothing");
    }
}
