//! ECN and AccECN: what handshakes agree on, what is reported of marks, and what follows.

use super::pair::{Pair, Wire, pattern};
use super::table::{ISS, Table, segment};
use crate::buffer::{Chunk, Pool};
use crate::config::{Config, EcnNegotiation, EcnOption};
use crate::tcp::{
    CongestionState, Connection, EcnMode, Opening, Path, Setup, SocketOptions, SynEntry, SynParts, TcpInfo,
};
use crate::time::{Duration, Instant};
use crate::wire::{AccEcn, Ecn, Flags, Options, Segment, SeqNum, Timestamps};
use std::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);

pub(super) fn config(ecn: usize) -> Arc<Config> {
    Arc::new(Config { ecn: EcnNegotiation::ALL[ecn], ..Config::default() })
}

fn info(pair: &Pair, end: usize) -> TcpInfo {
    pair.ends[end].conn.info(pair.now)
}

/// The connection that a listener with `config` makes of a SYN with these bits, and the SYN-ACK; `ack`
/// completes the handshake.
pub(super) fn accepted(config: &Arc<Config>, ace: u8, ecn: Ecn, ack: u8) -> (Table, Segment) {
    let theirs = Options { mss: Some(1000), ..Options::default() };
    accept(config, ace, ecn, ack, theirs)
}

/// The same with SACK, and with timestamps if they are asked for.
pub(super) fn accepted_with(config: &Arc<Config>, timestamps: bool) -> (Table, Segment) {
    let timestamps = timestamps.then_some(Timestamps { tsval: 7, tsecr: 0 });
    let theirs = Options { mss: Some(1000), sack_permitted: true, timestamps, ..Options::default() };
    accept(config, 0b111, Ecn::NotEct, 0b010, theirs)
}

fn accept(config: &Arc<Config>, ace: u8, ecn: Ecn, ack: u8, theirs: Options) -> (Table, Segment) {
    let now = Instant::from_millis(5_000);
    let timestamps = theirs.timestamps;
    let mut syn = segment(Flags::SYN.with(Flags::from_ace(ace)), 0, 0, 0);
    syn.options = theirs;
    syn.ecn = ecn;
    let options = SocketOptions::new(config);
    let parts = SynParts { ts_offset: 0, path: Path::new(1500, false), options: &options, config };
    let entry = SynEntry::new(now, &syn, SeqNum::new(ISS), parts);
    let mut third = segment(Flags::ACK.with(Flags::from_ace(ack)), 1, 1, 0);
    third.options.timestamps = timestamps;
    third.options.acc_ecn = (config.ecn_option != EcnOption::Never).then(AccEcn::default);
    let mut conn =
        Connection::accept(now, &entry, &third, Setup { options: &options, config, pool: &Pool::new() });
    conn.on_segment(now, &third, Chunk::empty());
    (Table { conn, now, tsval: timestamps.map(|ts| ts.tsval) }, entry.syn_ack(now))
}

fn mode(conn: &Connection, now: Instant) -> EcnMode {
    conn.info(now).ecn
}

/// Data from the peer with this ECN field, and what is answered.
pub(super) fn data(t: &mut Table, seq: i64, ecn: Ecn, flags: Flags) -> Vec<String> {
    let mut seg = segment(Flags::ACK.with(flags), seq, 1, 1000);
    seg.ecn = ecn;
    t.input(seg)
}

#[test]
fn each_pair_of_settings_agrees_on_what_both_know() {
    use EcnMode::{Accurate, Classic, Off};
    for (client, expected) in [
        (0, [Off; 6]),
        (1, [Off, Classic, Classic, Classic, Classic, Classic]),
        (2, [Off; 6]),
        (3, [Off, Classic, Classic, Accurate, Accurate, Accurate]),
        (4, [Off, Classic, Classic, Classic, Classic, Classic]),
        (5, [Off; 6]),
    ] {
        for (server, expected) in expected.into_iter().enumerate() {
            let wire = Wire { mark: 0.1, ..Wire::default() };
            let mut pair = Pair::connect_with(wire, 1, &config(client), &config(server));
            let agreed = [info(&pair, 0).ecn, info(&pair, 1).ecn];
            assert_eq!(agreed, [expected; 2], "tcp_ecn {client} and {server}");
            let bytes = pattern(60_000);
            assert!(pair.transfer(0, &bytes, 60 * SECOND) == bytes);
            assert!(pair.transfer(1, &bytes, 60 * SECOND) == bytes);
            assert_eq!(pair.marked > 0, expected != Off);
            let slowed = info(&pair, 0).snd_ssthresh < usize::MAX && info(&pair, 1).snd_ssthresh < usize::MAX;
            assert_eq!(slowed, expected != Off, "marks are congestion, and nothing else was lost");
            assert_eq!(info(&pair, 0).total_retrans + info(&pair, 1).total_retrans, 0);
        }
    }
}

#[test]
fn a_listener_answers_what_it_was_asked() {
    use EcnMode::{Accurate, Classic, Off};
    // (tcp_ecn, AE CWR ECE of the SYN, its ECN field) to (those of the SYN-ACK, what was agreed on).
    for (ecn, syn, field, syn_ack, agreed) in [
        (2, 0b000, Ecn::NotEct, 0b000, Off),
        (2, 0b011, Ecn::NotEct, 0b001, Classic),
        (2, 0b011, Ecn::Ect0, 0b000, Off), // RFC 3168 section 6.1.1: no ECT on a SYN
        (2, 0b010, Ecn::NotEct, 0b000, Off),
        (2, 0b111, Ecn::NotEct, 0b001, Classic),
        (2, 0b111, Ecn::Ect0, 0b001, Classic),
        (0, 0b111, Ecn::NotEct, 0b000, Off),
        (3, 0b111, Ecn::NotEct, 0b010, Accurate), // RFC 9768, table 2
        (3, 0b111, Ecn::Ect1, 0b011, Accurate),
        (3, 0b111, Ecn::Ect0, 0b100, Accurate),
        (3, 0b111, Ecn::Ce, 0b110, Accurate),
        (5, 0b101, Ecn::NotEct, 0b010, Accurate), // section 3.1.3: not assigned yet
        (5, 0b011, Ecn::NotEct, 0b001, Classic),
        (5, 0b000, Ecn::NotEct, 0b000, Off),
    ] {
        let (t, answer) = accepted(&config(ecn), syn, field, 0b010);
        let what = format!("tcp_ecn {ecn}, SYN {syn:03b} {field:?}");
        assert_eq!((answer.flags.ace(), answer.ecn), (syn_ack, Ecn::NotEct), "{what}");
        assert_eq!(mode(&t.conn, t.now), agreed, "{what}");
        assert_eq!(answer.options.acc_ecn.is_some(), agreed == Accurate, "{what}");
    }
}

#[test]
fn a_client_understands_every_answer() {
    use EcnMode::{Accurate, Classic, Off};
    for (ecn, asked, answers) in [
        (0, 0b000, [Off; 8]),
        (1, 0b011, [Off, Classic, Off, Off, Off, Classic, Off, Off]),
        (3, 0b111, [Off, Classic, Accurate, Accurate, Accurate, Accurate, Accurate, Off]),
    ] {
        for (ace, expected) in answers.into_iter().enumerate() {
            let config = config(ecn);
            let now = Instant::from_millis(1_000);
            let (options, path) = (SocketOptions::new(&config), Path::new(1500, false));
            let mut opening = Opening::new(
                now,
                SeqNum::new(ISS),
                0,
                path,
                Setup { options: &options, config: &config, pool: &Pool::new() },
            );
            let syn = opening.poll_transmit(now).unwrap();
            assert_eq!((syn.flags.ace(), syn.ecn), (asked, Ecn::NotEct));
            assert_eq!(syn.options.acc_ecn, None, "RFC 9768 section 3.2.3: never on a SYN");
            opening.on_transmitted();
            let flags = Flags::SYN.with(Flags::ACK).with(Flags::from_ace(ace as u8));
            let syn_ack = segment(flags, 0, 1, 0);
            let step = opening.on_segment(now, &syn_ack, Chunk::empty());
            let crate::tcp::OpeningStep::Established(mut conn, _) = step else { panic!("{step:?}") };
            assert_eq!(mode(&conn, now), expected, "tcp_ecn {ecn}, SYN-ACK {ace:03b}");
            let ack = conn.poll_transmit(now, 0).unwrap().segment;
            let reflected = if expected == Accurate { 0b010 } else { 0 };
            assert_eq!(ack.flags.ace(), reflected, "RFC 9768, table 3");
        }
    }
}

#[test]
fn a_syn_that_is_not_answered_is_sent_again_without_asking() {
    for (fallback, again) in [(true, 0), (false, 0b011)] {
        let config =
            Arc::new(Config { ecn: EcnNegotiation::Classic, ecn_fallback: fallback, ..Config::default() });
        let now = Instant::from_millis(1_000);
        let (options, path) = (SocketOptions::new(&config), Path::new(1500, false));
        let mut opening = Opening::new(
            now,
            SeqNum::new(ISS),
            0,
            path,
            Setup { options: &options, config: &config, pool: &Pool::new() },
        );
        opening.on_transmitted();
        assert!(opening.on_timeout(now + SECOND).is_none());
        assert_eq!(opening.poll_transmit(now + SECOND).unwrap().flags.ace(), again);
    }
}

#[test]
fn a_mark_is_echoed_until_the_sender_says_that_it_slowed_down() {
    let (mut t, _) = accepted(&config(1), 0b011, Ecn::NotEct, 0);
    assert_eq!(data(&mut t, 1, Ecn::Ect0, Flags::PSH), ["ACK 1/1001 0"]);
    assert_eq!(data(&mut t, 1001, Ecn::Ce, Flags::PSH), ["ACK,ECE 1/2001 0"], "at once");
    assert_eq!(data(&mut t, 2001, Ecn::Ect0, Flags::PSH), ["ACK,ECE 1/3001 0"], "until CWR");
    // Our own data says so too (RFC 3168 section 6.1.3).
    assert_eq!(t.write(100), ["PSH,ACK,ECE 1/3001 100"]);
    assert_eq!(data(&mut t, 3001, Ecn::Ect0, Flags::CWR), ["ACK 101/4001 0"]);
    // A mark on the very segment with CWR is a new one.
    let answer = data(&mut t, 4001, Ecn::Ce, Flags::PSH);
    assert_eq!(answer, ["ACK,ECE 101/5001 0"]);
    assert_eq!(data(&mut t, 5001, Ecn::Ce, Flags::CWR), ["ACK,ECE 101/6001 0"]);
}

#[test]
fn an_echo_reduces_once_a_window_and_new_data_says_so_once() {
    let (mut t, _) = accepted(&config(1), 0b011, Ecn::NotEct, 0);
    let sent = t.write(14_000);
    assert_eq!(sent.len(), 10);
    let before = t.conn.info(t.now);
    t.now += SECOND / 10;
    let ece = Flags::ACK.with(Flags::ECE);
    let after_first = t.input(segment(ece, 1, 2001, 0));
    let first = t.conn.info(t.now);
    assert_eq!(first.ca_state, CongestionState::Cwr);
    assert!(first.snd_ssthresh < before.snd_cwnd, "{first}");
    // The window shrinks by what arrives, so the CWR may wait for the next acknowledgment.
    let mut cwr = after_first;
    for acked in [3001, 4001, 5001, 6001, 7001, 8001, 9001, 10_001] {
        cwr.extend(t.input(segment(ece, 1, acked, 0)));
    }
    let again = t.conn.info(t.now);
    assert_eq!(again.snd_ssthresh, first.snd_ssthresh, "RFC 3168 section 6.1.2: once a window");
    assert_eq!(cwr.iter().filter(|line| line.contains("CWR")).count(), 1, "{cwr:?}");
    assert!(cwr[0].contains("CWR"), "the first new data: {cwr:?}");
    let last = t.input(segment(Flags::ACK, 1, 14_001, 0));
    assert!(last.is_empty(), "{last:?}");
    t.write(1000);
    t.input(segment(Flags::ACK, 1, 15_001, 0));
    let done = t.conn.info(t.now);
    assert_eq!((done.ca_state, done.total_retrans), (CongestionState::Open, 0));
    assert!(done.snd_cwnd <= first.snd_ssthresh + 1000, "{done}");
}

#[test]
fn only_new_data_is_marked_as_capable() {
    for ecn in [1, 3] {
        let mut pair =
            Pair::connect_with(Wire { loss: 0.03, ..Wire::default() }, 3, &config(ecn), &config(ecn));
        let bytes = pattern(400_000);
        assert!(pair.transfer(0, &bytes, 60 * SECOND) == bytes);
        assert!(info(&pair, 0).total_retrans > 0);
        let mut highest = 0;
        for (_, seg) in &pair.ends[0].log[1..] {
            let end = (seg.seq - SeqNum::new(super::pair::ISS[0])) as usize + seg.payload_len;
            let new = seg.payload_len > 0 && end > highest;
            assert_eq!(seg.ecn, if new { Ecn::Ect0 } else { Ecn::NotEct }, "{seg:?}");
            highest = highest.max(end);
        }
        assert!(pair.ends[1].log.iter().all(|(_, seg)| seg.ecn == Ecn::NotEct), "pure acknowledgments");
    }
}

#[test]
fn with_accecn_both_ends_count_the_same() {
    for option in EcnOption::ALL {
        for offload in [0, 20_000] {
            let config =
                Arc::new(Config { ecn: EcnNegotiation::Accurate, ecn_option: option, ..Config::default() });
            let mark = if offload == 0 { 0.05 } else { 0.3 };
            let wire = Wire { mark, offload, ..Wire::default() };
            let mut pair = Pair::connect_with(wire, 4, &config, &config);
            let bytes = pattern(500_000);
            assert!(pair.transfer(0, &bytes, 60 * SECOND) == bytes);
            assert!(pair.transfer(1, &bytes[..200_000], 60 * SECOND) == bytes[..200_000]);
            pair.run_for(SECOND);
            let [a, b] = [info(&pair, 0), info(&pair, 1)];
            let what = format!("option {option:?}, offload {offload}");
            assert!(b.received_ce > 0 && a.received_ce > 0, "{what}");
            // Where the counter may have wrapped the worst is assumed, unless the option knows better.
            if offload == 0 && option != EcnOption::Never {
                assert_eq!((a.delivered_ce, b.delivered_ce), (b.received_ce, a.received_ce), "{what}");
            } else {
                assert!(a.delivered_ce >= b.received_ce, "{what}: {a:?} {b:?}");
            }
            assert_eq!(a.total_retrans, 0, "{what}");
            let with_option =
                pair.ends[1].log.iter().filter(|(_, seg)| seg.options.acc_ecn.is_some()).count();
            assert_eq!(with_option > 0, option != EcnOption::Never, "{what}");
        }
    }
}

#[test]
fn a_change_of_the_field_is_acknowledged_at_once_and_marks_are_counted() {
    let (mut t, _) = accepted(&config(3), 0b111, Ecn::NotEct, 0b010);
    // 5 is 101: AE and ECE.
    assert_eq!(data(&mut t, 1, Ecn::Ect0, Flags::PSH), ["ACK,ECE,AE 1/1001 0"]);
    // Beyond the quick acknowledgments of the beginning.
    for n in 1..40 {
        data(&mut t, 1 + n * 1000, Ecn::Ect0, Flags::PSH);
    }
    t.wait(SECOND);
    assert!(data(&mut t, 40_001, Ecn::Ce, Flags::PSH) == ["ACK,CWR,AE 1/41001 0"], "6 is 110");
    assert_eq!(
        data(&mut t, 41_001, Ecn::Ect0, Flags::PSH),
        ["ACK,CWR,AE 1/42001 0"],
        "the next says where it ended"
    );
    assert_eq!(t.conn.info(t.now).received_ce, 1);
    for n in 0..6 {
        data(&mut t, 42_001 + n * 1000, Ecn::Ce, Flags::PSH);
    }
    assert_eq!(data(&mut t, 48_001, Ecn::Ect0, Flags::PSH), ["ACK,AE 1/49001 0"], "12 modulo 8 is 100");
}

#[test]
fn a_path_that_clears_or_writes_the_bits_gets_no_ect() {
    for (ack, capable) in [(0b010, true), (0b000, false), (0b100, false), (0b111, true)] {
        let (mut t, _) = accepted(&config(3), 0b111, Ecn::NotEct, ack);
        t.conn.write(t.now, &[std::io::IoSlice::new(&[7; 1000])], false).unwrap();
        let sent = t.conn.poll_transmit(t.now, 0).unwrap().segment;
        assert_eq!(sent.ecn, if capable { Ecn::Ect0 } else { Ecn::NotEct }, "{ack:03b}");
    }
    // The bits go later: the first feedback after the handshake says nothing.
    let (mut t, _) = accepted(&config(3), 0b111, Ecn::NotEct, 0b010);
    t.write(1000);
    t.input(segment(Flags::ACK, 1, 1001, 0));
    assert_eq!(t.conn.info(t.now).ca_state, CongestionState::Open, "zero is no report of marks");
    t.conn.write(t.now, &[std::io::IoSlice::new(&[7; 1000])], false).unwrap();
    assert_eq!(t.conn.poll_transmit(t.now, 0).unwrap().segment.ecn, Ecn::NotEct);
}

#[test]
fn an_acknowledgment_of_many_is_read_with_the_option_or_for_the_worst() {
    let options = |ce: Option<u32>| {
        let fields = [Some(1), ce].into_iter().flatten().collect();
        ce.map(|_| AccEcn { ect1_first: false, fields })
    };
    // 12 segments of 1,000 bytes are acknowledged at once; the bits say that one was marked, or nine.
    for (ce_bytes, expected) in [(None, 9), (Some(1_000), 1), (Some(9_000), 9), (Some(0), 1)] {
        let (mut t, _) = accepted(&config(3), 0b111, Ecn::NotEct, 0b010);
        let mut big = segment(Flags::ACK.with(Flags::from_ace(5)), 1, 1, 0);
        big.window = 60_000;
        t.input(big);
        t.write(10_000);
        t.input(segment(Flags::ACK.with(Flags::from_ace(5)), 1, 2001, 0));
        t.input(segment(Flags::ACK.with(Flags::from_ace(5)), 1, 4001, 0));
        t.write(10_000);
        let mut ack = segment(Flags::ACK.with(Flags::from_ace(6)), 1, 16_001, 0);
        ack.options.acc_ecn = options(ce_bytes);
        t.input(ack);
        assert_eq!(t.conn.info(t.now).delivered_ce, expected, "{ce_bytes:?}");
    }
}

#[test]
fn cwr_and_super_segments_do_not_mix() {
    let mut pair =
        Pair::connect_with(Wire { mark: 0.2, offload: 30_000, ..Wire::default() }, 5, &config(1), &config(1));
    let bytes = pattern(3_000_000);
    assert!(pair.transfer(0, &bytes, 60 * SECOND) == bytes);
    let with_cwr: Vec<usize> = pair.ends[0].log[1..]
        .iter()
        .filter(|(_, seg)| seg.flags.contains(Flags::CWR))
        .map(|(_, seg)| seg.payload_len)
        .collect();
    assert!(with_cwr.len() > 1 && with_cwr.iter().all(|len| *len <= 1448), "{with_cwr:?}");
    assert!(pair.ends[0].log.iter().any(|(_, seg)| seg.payload_len > 1448), "the rest travels together");
}
