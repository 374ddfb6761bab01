//! Losses, and how long things take until they are repaired or given up.

use super::pair::{Pair, Wire, pattern};
use super::table::{ISS, Table, segment};
use crate::config::{Config, CongestionName};
use crate::tcp::{CongestionState, SocketOptions, State, TcpError};
use crate::time::Duration;
use crate::wire::{Flags, Options, SackBlock, SeqNum, Timestamps};
use std::sync::Arc;

#[test]
fn one_lost_segment_of_a_window_is_repaired_in_a_round_trip() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let first = pair.ends[0].log.len();
    pair.drop_nth[0] = vec![first + 2];
    let bytes = pattern(14_000);
    let start = pair.now;
    assert!(pair.transfer(0, &bytes, Duration::from_secs(5)) == bytes);
    let took = pair.now - start;
    assert!(took < Duration::from_millis(60), "{took:?}: no time-out was needed");
    let info = pair.ends[0].conn.info(pair.now);
    assert_eq!((info.total_retrans, info.retransmits), (1, 0), "{info}");
}

#[test]
fn only_what_is_missing_of_a_super_segment_is_sent_again() {
    // Super-segments travel as one packet here, so the loss is of a whole one; the ranges beside it
    // are not repeated.
    let mut pair = Pair::connect(Wire { offload: 8_000, ..Wire::default() }, 1);
    pair.transfer(0, &pattern(200_000), Duration::from_secs(5));
    let sent = pair.ends[0].conn.info(pair.now).bytes_sent;
    let nth = pair.ends[0].log.len() + 3;
    pair.drop_nth[0] = vec![nth];
    pair.transfer(0, &pattern(200_000), Duration::from_secs(5));
    let lost = pair.ends[0].log[nth].1.payload_len as u64;
    let info = pair.ends[0].conn.info(pair.now);
    assert_eq!(info.bytes_sent - sent, 200_000 + lost, "{info}");
}

#[test]
fn a_lost_tail_is_repaired_by_the_timer() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let first = pair.ends[0].log.len();
    pair.drop_nth[0] = vec![first];
    let start = pair.now;
    assert!(pair.transfer(0, b"tail", Duration::from_secs(5)) == b"tail");
    let took = pair.now - start;
    assert!(took > Duration::from_millis(200) && took < Duration::from_millis(300), "{took:?}");
}

#[test]
fn reno_halves_the_window_once_for_one_loss() {
    let reno = Arc::new(Config { congestion: CongestionName::RENO, ..Config::default() });
    let mut pair = Pair::connect_with(Wire::default(), 1, &reno, &reno);
    pair.transfer(0, &pattern(400_000), Duration::from_secs(5));
    pair.run_for(Duration::from_millis(100));
    let before = pair.ends[0].conn.info(pair.now).snd_cwnd;
    let next = pair.ends[0].log.len();
    pair.drop_nth[0] = vec![next + 5, next + 6, next + 9];
    pair.transfer(0, &pattern(before), Duration::from_secs(5));
    pair.run_for(Duration::from_secs(1));
    let info = pair.ends[0].conn.info(pair.now);
    assert_eq!(info.ca_state, CongestionState::Open);
    assert!(
        info.snd_ssthresh <= before / 2 + 6 * 1448 && info.snd_ssthresh > before / 4,
        "{before} then {info}"
    );
    assert_eq!(info.total_retrans, 3);
}

#[test]
fn a_silent_peer_is_given_up_by_time_and_not_by_count() {
    let mut pair = Pair::connect(Wire { delay: Duration::from_micros(500), ..Wire::default() }, 1);
    // Several exchanges bring the RTO to its floor of RTT + 200 ms.
    for _ in 0..30 {
        pair.transfer(0, b"x", Duration::from_secs(1));
        pair.run_for(Duration::from_millis(300));
    }
    let rto = pair.ends[0].conn.info(pair.now).rto;
    assert_eq!(rto.as_millis(), 201);
    pair.cut = [true; 2];
    let from = pair.ends[0].log.len();
    let start = pair.now;
    pair.write(0, b"lost");
    while pair.ends[0].conn.state() == State::Established {
        assert!(pair.step());
    }
    let took = pair.now - start;
    assert_eq!(pair.ends[0].log.len() - from, 1 + 1 + 15, "the segment, a probe and 15 retransmissions");
    assert!((took.as_secs_f64() - 925.8).abs() < 1.0, "{took:?}");
    assert_eq!(pair.conn(0).take_error(), Some(TcpError::TimedOut));
    let last = &pair.ends[0].log.last().unwrap().1;
    assert!(!last.is_rst(), "no reset goes to a peer that does not answer");
}

#[test]
fn the_cable_is_put_back_in_time() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let bytes = pattern(300_000);
    let n = pair.write(0, &bytes);
    pair.cut = [true; 2];
    pair.run_for(Duration::from_secs(100));
    pair.cut = [false; 2];
    let mut got = Vec::new();
    let mut sent = n;
    while got.len() < bytes.len() {
        assert!(pair.step());
        got.extend(pair.read(1, 1 << 20));
        sent += pair.write(0, &bytes[sent..]);
    }
    assert!(got == bytes);
}

#[test]
fn the_user_timeout_is_kept_to_the_millisecond() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let now = pair.now;
    let options =
        SocketOptions { user_timeout: Some(Duration::from_secs(5)), ..pair.conn(0).options().clone() };
    pair.conn(0).set_options(now, options);
    pair.cut = [true; 2];
    pair.write(0, b"lost");
    let first_rto = pair.ends[0].conn.info(pair.now).rto;
    let start = pair.now;
    while pair.ends[0].conn.state() == State::Established {
        assert!(pair.step());
    }
    // The first time-out is that of the probe, and the second begins the time.
    let took = pair.now - start - 2 * first_rto;
    assert!(took >= Duration::from_secs(5) && took < Duration::from_millis(5_010), "{took:?}");
}

#[test]
fn keepalive_finds_a_dead_peer_and_an_answer_starts_anew() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let now = pair.now;
    let options = SocketOptions { keepalive: true, ..pair.conn(0).options().clone() };
    pair.conn(0).set_options(now, options);
    let from = pair.ends[0].log.len();
    pair.run_for(Duration::from_secs(7_300));
    assert_eq!(pair.sent(0, from), ["ACK 0/1 len 0"], "one probe, before our window, and it was answered");
    pair.cut = [true; 2];
    let start = pair.now;
    while pair.ends[0].conn.state() == State::Established {
        assert!(pair.step());
    }
    let took = (pair.now - start).as_secs();
    assert!((7_875 - 101..=7_875).contains(&took), "{took} s: 7200 + 9 x 75 since the last answer");
    let lines = pair.sent(0, from);
    assert_eq!(lines.len(), 1 + 9 + 1);
    assert_eq!(lines[10], "RST,ACK 1/1 len 0");
    assert_eq!(pair.conn(0).take_error(), Some(TcpError::TimedOut));
}

#[test]
fn keepalive_sleeps_while_something_is_in_flight() {
    let mut t = Table::established();
    let keepalive_time = Duration::from_secs(10);
    let options = SocketOptions { keepalive: true, keepalive_time, ..t.conn.options().clone() };
    t.conn.set_options(t.now, options);
    t.write(100);
    let until = t.now + Duration::from_secs(60);
    let mut timers = 0;
    while let Some(at) = t.conn.poll_timeout().filter(|at| *at < until) {
        t.now = at;
        t.conn.on_timeout(at);
        t.output();
        timers += 1;
        assert!(timers < 30, "rings all the time at {at:?}");
    }
}

#[test]
fn progress_begins_the_time_of_giving_up_anew() {
    let theirs = Options {
        mss: Some(1000),
        timestamps: Some(Timestamps { tsval: 1, tsecr: 0 }),
        ..Options::default()
    };
    let mut t = Table::established_with(theirs);
    let options = SocketOptions { user_timeout: Some(Duration::from_secs(3)), ..t.conn.options().clone() };
    t.conn.set_options(t.now, options);
    let start = t.now;
    t.write(9 * 988);
    for i in 1..9 {
        for _ in 0..2 {
            t.now = t.conn.poll_timeout().expect("something is in flight");
            t.conn.on_timeout(t.now);
            t.output();
        }
        // The echo ends the back-off, which an acknowledgment alone does not (Karn's rule).
        let mut ack = segment(Flags::ACK, 1, 1 + i * 988, 0);
        ack.options.timestamps = Some(Timestamps { tsval: 1, tsecr: t.now.as_millis() as u32 });
        t.input(ack);
        assert_eq!(t.conn.state(), State::Established, "after {:?}", t.now - start);
    }
    assert!(t.now - start > Duration::from_secs(4));
}

#[test]
fn a_peer_that_took_its_window_back_is_kept_while_it_answers() {
    let mut t = Table::established();
    t.write(1_000);
    let mut shrunk = segment(Flags::ACK, 1, 1, 0);
    shrunk.window = 0;
    let start = t.now;
    while t.now - start < Duration::from_secs(5_000) {
        t.now = t.conn.poll_timeout().expect("something is in flight");
        t.conn.on_timeout(t.now);
        assert!(!t.output().is_empty(), "after {:?}", t.now - start);
        t.input(shrunk.clone());
    }
    while let Some(at) = t.conn.poll_timeout() {
        t.now = at;
        t.conn.on_timeout(t.now);
        t.output();
        assert!(t.now - start < Duration::from_secs(6_000), "unanswered ones end it");
    }
    assert_eq!(t.conn.take_error(), Some(TcpError::TimedOut));
}

/// An end whose peer answers every probe and never reads.
fn stopped() -> Pair {
    let mut pair = Pair::connect(Wire::default(), 1);
    let bytes = pattern(400_000);
    let mut sent = 0;
    for _ in 0..300 {
        sent += pair.write(0, &bytes[sent..]);
        pair.step();
    }
    pair
}

#[test]
fn the_user_timeout_bounds_a_closed_window_that_is_answered() {
    let mut pair = stopped();
    let now = pair.now;
    let options =
        SocketOptions { user_timeout: Some(Duration::from_secs(30)), ..pair.conn(0).options().clone() };
    pair.conn(0).set_options(now, options);
    // The interval of the probe that was due next is not shortened.
    pair.run_for(Duration::from_secs(31 + 120));
    assert_eq!(pair.conn(0).take_error(), Some(TcpError::TimedOut));
}

#[test]
fn an_orphan_does_not_wait_for_a_closed_window_for_ever() {
    let mut pair = stopped();
    let now = pair.now;
    pair.conn(0).close(now);
    pair.run_for(Duration::from_secs(600));
    assert_eq!(pair.ends[0].conn.state(), State::Closed);
}

#[test]
fn zero_windows_are_probed_with_back_off_for_as_long_as_they_are_answered() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let bytes = pattern(400_000);
    let mut sent = 0;
    for _ in 0..300 {
        sent += pair.write(0, &bytes[sent..]);
        pair.step();
    }
    let from = pair.ends[0].log.len();
    pair.run_for(Duration::from_secs(5_000));
    let probes = pair.ends[0].log.len() - from;
    assert!((40..60).contains(&probes), "{probes}: a probe every 120 s in the end");
    assert_eq!(pair.ends[0].conn.state(), State::Established);
    pair.cut = [true; 2];
    pair.run_for(Duration::from_secs(3_000));
    assert_eq!(pair.ends[0].conn.state(), State::Closed, "unanswered ones end it");
}

#[test]
fn what_is_out_of_place_is_no_sign_of_life() {
    let mut t = Table::established();
    let options = SocketOptions { keepalive: true, ..t.conn.options().clone() };
    t.conn.set_options(t.now, options);
    let due = t.conn.poll_timeout().expect("a probe will be due");
    t.now += Duration::from_secs(7_000);
    // An old duplicate, and an acknowledgment of what was never sent.
    t.input(segment(Flags::ACK, -5_000, 1, 10));
    t.input(segment(Flags::ACK, 1, 5_000, 0));
    assert_eq!(t.conn.poll_timeout(), Some(due));
    t.input(segment(Flags::ACK, 1, 1, 0));
    assert_eq!(t.conn.poll_timeout(), Some(t.now + Duration::from_secs(7_200)));
}

#[test]
fn what_is_in_flight_is_neither_what_the_peer_has_nor_what_is_lost() {
    let options = Options { mss: Some(1000), sack_permitted: true, ..Options::default() };
    let mut t = Table::established_with(options);
    t.write(10_000);
    t.now += Duration::from_millis(20);
    let at = |n: u32| SeqNum::new(ISS + 1 + n * 1000);
    let mut ack = segment(Flags::ACK, 1, 1, 0);
    ack.options.sack.push(SackBlock { start: at(2), end: at(6) });
    // The first two are lost, and there is room in the window to send them again.
    let sent = t.input(ack);
    assert_eq!(sent[..2], ["ACK 1/1 1000", "ACK 1001/1 1000"], "{sent:?}");
    let info = t.conn.info(t.now);
    // As in `tcp_info` of Linux, what was sent again is still among what is lost.
    assert_eq!((info.unacked, info.sacked, info.lost, info.retrans), (10_000, 4_000, 2_000, 2_000));
    assert_eq!(info.in_flight(), 6_000);
    assert!(info.in_flight() <= info.snd_cwnd && info.unacked > info.snd_cwnd, "{info}");
}

/// RFC 7323 §5.3: what left before a retransmission and arrives after it has an older timestamp, and the peer
/// refuses it.
#[test]
fn what_a_retransmission_overtook_is_sent_again_at_once() {
    let timestamps = Some(Timestamps { tsval: 7, tsecr: 0 });
    let options = Options { mss: Some(1012), sack_permitted: true, timestamps, ..Options::default() };
    let mut t = Table::established_with(options);
    let start = t.now;
    let ms = |ms: u64| start + Duration::from_millis(ms);
    // An acknowledgment that echoes what left at `echo`, with a block of SACK in segments.
    let ack = |acked: u32, sacked: Option<(u32, u32)>, echo: u64| {
        let mut ack = segment(Flags::ACK, 1, i64::from(1 + acked * 1000), 0);
        ack.options.timestamps = Some(Timestamps { tsval: 8, tsecr: ms(echo).as_millis() as u32 });
        let at = |n: u32| SeqNum::new(ISS + 1 + n * 1000);
        ack.options.sack.extend(sacked.map(|(from, to)| SackBlock { start: at(from), end: at(to) }));
        ack
    };
    // The path has a round trip of 100 ms, and reorders: what is 30 ms late is not lost.
    t.write(3_000);
    t.now = ms(100);
    t.input(ack(0, Some((2, 3)), 0));
    t.now = ms(130);
    t.input(ack(3, None, 0));
    assert_eq!(t.conn.info(t.now).reord_seen, 1);
    // The first of four is late, and is found lost after six others have left.
    t.now = ms(1_000);
    t.write(4_000);
    t.now = ms(1_100);
    assert!(t.input(ack(3, Some((4, 7)), 1_000)).is_empty(), "it may be late");
    let again = (t.conn.poll_timeout().unwrap() - start).as_millis() as u64 + 1;
    t.now = ms(again - 3);
    assert_eq!(t.write(6_000).len(), 6);
    assert_eq!(t.wait(Duration::from_millis(3)), ["ACK 3001/1 1000"]);
    t.now = ms(again + 100);
    let sent = t.input(ack(7, None, again));
    assert_eq!(sent.first().map(String::as_str), Some("ACK 7001/1 1000"), "{sent:?} {}", t.conn.info(t.now));
}

/// `TCP_THIN_LINEAR_TIMEOUTS`, as tcp_retransmit_timer in Linux.
#[test]
fn the_time_outs_of_a_thin_stream_are_equally_long_if_asked_for() {
    let times = |thin: bool, packets: usize| {
        let mut pair = Pair::connect(Wire::default(), 1);
        pair.transfer(0, b"for a sample", Duration::from_secs(5));
        pair.run_for(Duration::from_millis(500));
        let mut options = pair.ends[0].conn.options().clone();
        (options.thin_linear_timeouts, options.nodelay) = (thin, true);
        pair.ends[0].conn.set_options(pair.now, options);
        pair.cut[1] = true;
        let first = pair.ends[0].log.len();
        for _ in 0..packets {
            pair.ends[0].conn.write(pair.now, &[std::io::IoSlice::new(b"lost")], false).unwrap();
            pair.run_for(Duration::ZERO);
        }
        pair.run_for(Duration::from_secs(60));
        let sent: Vec<_> = pair.ends[0].log[first + packets..].iter().map(|(at, _)| *at).collect();
        // Without the tail loss probe, which is no time-out.
        let gaps = sent.windows(2).skip(1).map(|pair| (pair[1] - pair[0]).as_millis());
        gaps.collect::<Vec<_>>()
    };
    let doubled = times(false, 3);
    assert!(doubled.windows(2).take(6).all(|gaps| gaps[1] >= 2 * gaps[0] - 2), "{doubled:?}");
    let linear = times(true, 3);
    assert!(linear[..6].iter().all(|gap| gap.abs_diff(linear[0]) <= 1), "{linear:?}");
    assert!(linear[6..].windows(2).all(|gaps| gaps[1] >= 2 * gaps[0] - 2), "after six: {linear:?}");
    let thick = times(true, 4);
    assert!(thick.windows(2).take(5).all(|gaps| gaps[1] >= 2 * gaps[0] - 2), "four packets: {thick:?}");
}
