//! RFC 9768 where paths lose, clear or repeat what it needs.

use super::ecn::{accepted, config, data};
use super::table::{ISS, Table, segment};
use crate::buffer::{Chunk, Pool};
use crate::config::{Config, EcnOption};
use crate::reasons::{EndReason, ResetReason};
use crate::tcp::{
    CongestionState, Connection, EcnMode, Opening, OpeningStep, Path, Setup, SocketOptions, SynEntry,
    SynParts, SynRetries, SynStep, SynTimeout, Transmit,
};
use crate::time::{Duration, Instant};
use crate::wire::{AccEcn, Ecn, Flags, Options, Segment, SeqNum, Timestamps};
use std::io::IoSlice;

const SECOND: Duration = Duration::from_secs(1);
const START: Instant = Instant::from_millis(5_000);

fn syn(ace: u8, ecn: Ecn) -> Segment {
    let options = Options { mss: Some(1000), ..Options::default() };
    Segment { options, ecn, ..segment(Flags::SYN.with(Flags::from_ace(ace)), 0, 0, 0) }
}

fn entry(config: &Config, syn: &Segment) -> SynEntry {
    let options = SocketOptions::new(config);
    let parts = SynParts { ts_offset: 0, path: Path::new(1500, false), options: &options, config };
    SynEntry::new(START, syn, SeqNum::new(ISS), parts)
}

/// ACE and option of the SYN-ACK that the next time-out sends.
fn timeout(entry: &mut SynEntry, config: &Config) -> (u8, bool) {
    match entry.on_timeout(entry.deadline(), SynRetries::new(config), config) {
        SynTimeout::Retransmit(syn_ack) => (syn_ack.flags.ace(), syn_ack.options.acc_ecn.is_some()),
        other => panic!("{other:?}"),
    }
}

/// The connection of `entry` once `ace` came in the pure acknowledgment of the SYN-ACK.
fn complete(config: &std::sync::Arc<Config>, entry: &SynEntry, ace: u8) -> Table {
    let now = START + 4 * SECOND;
    let options = SocketOptions::new(config);
    let third = segment(Flags::ACK.with(Flags::from_ace(ace)), 1, 1, 0);
    let setup = Setup { options: &options, config, pool: &Pool::new() };
    let mut conn = Connection::accept(now, entry, &third, setup);
    conn.on_segment(now, &third, Chunk::empty());
    Table { conn, now, tsval: None }
}

/// Sends so much, and returns the first segment of it.
fn sent(t: &mut Table, len: usize) -> Segment {
    t.conn.write(t.now, &[IoSlice::new(&vec![7; len])], false).unwrap();
    let first = next(t);
    t.output();
    first
}

fn next(t: &mut Table) -> Segment {
    let transmit: Transmit = t.conn.poll_transmit(t.now, 0).unwrap();
    t.conn.on_transmitted(t.now, &transmit);
    transmit.segment
}

fn opening(config: &std::sync::Arc<Config>) -> Opening {
    let options = SocketOptions::new(config);
    let setup = Setup { options: &options, config, pool: &Pool::new() };
    Opening::new(START, SeqNum::new(ISS), 0, Path::new(1500, false), setup)
}

/// The client's connection after a SYN-ACK with these bits and this field.
fn connected(config: &std::sync::Arc<Config>, ace: u8, ecn: Ecn) -> Table {
    let mut opening = opening(config);
    opening.on_transmitted();
    match opening.on_segment(START, &syn_ack(ace, ecn), Chunk::empty()) {
        OpeningStep::Established(conn, _) => Table { conn, now: START, tsval: None },
        other => panic!("{other:?}"),
    }
}

fn syn_ack(ace: u8, ecn: Ecn) -> Segment {
    let flags = Flags::SYN.with(Flags::ACK).with(Flags::from_ace(ace));
    let options = Options {
        mss: Some(1000),
        acc_ecn: Some(AccEcn { ect1_first: false, fields: [1, 0, 1].into() }),
        ..Options::default()
    };
    Segment { options, ecn, ..segment(flags, 0, 1, 0) }
}

fn ack(ace: u8, acked: i64, ce: Option<u32>) -> Segment {
    let mut ack = segment(Flags::ACK.with(Flags::from_ace(ace)), 1, acked, 0);
    ack.window = 60_000;
    ack.options.acc_ecn = ce.map(|ce| AccEcn { ect1_first: false, fields: [1, ce].into_iter().collect() });
    ack
}

#[test]
fn a_syn_ack_that_is_sent_again_drops_the_option_first_and_the_bits_next() {
    let config = config(3);
    let mut entry = entry(&config, &syn(0b111, Ecn::NotEct));
    let first = entry.syn_ack(START);
    assert_eq!((first.flags.ace(), first.options.acc_ecn.is_some()), (0b010, true));
    let again: Vec<_> = (0..3).map(|_| timeout(&mut entry, &config)).collect();
    assert_eq!(again, [(0b010, false), (0b000, false), (0b000, false)], "RFC 9768 section 3.2.3.2.2");
    let mut t = complete(&config, &entry, 0b010);
    assert_eq!(t.conn.info(t.now).ecn, EcnMode::Accurate, "the mode stays");
    assert_eq!(sent(&mut t, 100).ecn, Ecn::NotEct, "section 3.1.5: no ECT after SYN-ACKs without bits");
}

#[test]
fn a_second_syn_is_answered_for_its_own_field_and_without_the_option() {
    let config = config(3);
    let mut entry = entry(&config, &syn(0b111, Ecn::Ect0));
    let retries = SynRetries::new(&config);
    let second = entry.on_segment(START, &syn(0b111, Ecn::Ce), retries, &config);
    let SynStep::Repeat(answer) = second else { panic!("{second:?}") };
    assert_eq!((answer.flags.ace(), answer.options.acc_ecn), (0b110, None));
    let mut t = complete(&config, &entry, 0b010);
    assert_eq!(sent(&mut t, 100).ecn, Ecn::Ect0);
}

#[test]
fn a_second_syn_that_asks_for_nothing_switches_ect_off_and_not_the_mode() {
    let config = config(3);
    let mut entry = entry(&config, &syn(0b111, Ecn::Ect0));
    let second = entry.on_segment(START, &syn(0, Ecn::NotEct), SynRetries::new(&config), &config);
    let SynStep::Repeat(answer) = second else { panic!("{second:?}") };
    assert_eq!(answer.flags.ace(), 0b010, "RFC 9768 section 3.1.5: still in the mode, for the latest SYN");
    let mut t = complete(&config, &entry, 0b010);
    assert_eq!(t.conn.info(t.now).ecn, EcnMode::Accurate);
    let data = sent(&mut t, 100);
    assert_eq!((data.ecn, data.flags.ace()), (Ecn::NotEct, 0b101));
}

#[test]
fn a_second_syn_that_contradicts_the_first_is_reset_by_this_side() {
    let config = config(3);
    let options = SocketOptions::new(&config);
    let setup = Setup { options: &options, config: &config, pool: &Pool::new() };
    // As Fast Open makes one.
    let mut conn = Connection::in_syn_received(START, entry(&config, &syn(0b111, Ecn::Ect0)), 10_000, setup);
    conn.on_syn_ack_sent();
    conn.on_segment(START + SECOND, &syn(0b011, Ecn::NotEct), Chunk::empty());
    assert!(conn.poll_transmit(START + SECOND, 0).is_some_and(|answer| answer.segment.is_rst()));
    assert_eq!(conn.end(), Some(EndReason::Reset(ResetReason::TcpInvalidSyn)));
}

#[test]
fn a_changed_setting_ends_the_option_of_a_connection_that_stands() {
    let config = config(3);
    let mut t = connected(&config, 0b010, Ecn::NotEct);
    t.output();
    assert!(sent(&mut t, 100).options.acc_ecn.is_some());
    let changed = Config { ecn_option: EcnOption::Never, ..(*config).clone() };
    t.conn.set_config(&std::sync::Arc::new(changed));
    // Full segments, which do not wait for the acknowledgment of the first.
    assert!(sent(&mut t, 5_000).options.acc_ecn.is_none());
}

#[test]
fn a_syn_that_asks_after_one_that_did_not_gets_nothing() {
    let config = config(3);
    let mut entry = entry(&config, &syn(0, Ecn::NotEct));
    let second = entry.on_segment(START, &syn(0b111, Ecn::Ect0), SynRetries::new(&config), &config);
    let SynStep::Repeat(answer) = second else { panic!("{second:?}") };
    assert_eq!(answer.flags.ace(), 0);
}

#[test]
fn classic_and_accurate_syns_do_not_mix() {
    for (first, second) in [(0b111, 0b011), (0b011, 0b111)] {
        let config = config(3);
        let mut entry = entry(&config, &syn(first, Ecn::NotEct));
        let step = entry.on_segment(START, &syn(second, Ecn::NotEct), SynRetries::new(&config), &config);
        assert_eq!(step, SynStep::Abort, "RFC 9768 section 3.1.5: {first:03b}, then {second:03b}");
    }
    // Who does not know the one sees no difference.
    let config = config(2);
    let mut entry = entry(&config, &syn(0b111, Ecn::NotEct));
    let step = entry.on_segment(START, &syn(0b011, Ecn::NotEct), SynRetries::new(&config), &config);
    assert!(matches!(step, SynStep::Repeat(_)), "{step:?}");
}

#[test]
fn a_repeated_syn_ack_is_acknowledged_in_the_encoding_of_the_handshake() {
    let mut t = connected(&config(3), 0b010, Ecn::NotEct);
    assert_eq!(next(&mut t).flags.ace(), 0b010);
    for (field, ace) in [(Ecn::Ect0, 0b100), (Ecn::Ce, 0b110), (Ecn::Ce, 0b110), (Ecn::NotEct, 0b010)] {
        t.now += SECOND;
        t.conn.on_segment(t.now, &syn_ack(0b010, field), Chunk::empty());
        assert_eq!(next(&mut t).flags.ace(), ace, "RFC 9768 section 3.2.2.1, {field:?}");
    }
    assert_eq!(t.conn.info(t.now).received_ce, 1, "section 3.2.2.2: no more than once");
    assert_eq!(sent(&mut t, 100).flags.ace(), 0b110, "then the count again");
}

#[test]
fn what_a_syn_ack_says_of_the_future_means_accecn() {
    let mut t = connected(&config(3), 0b101, Ecn::NotEct);
    assert_eq!(t.conn.info(t.now).ecn, EcnMode::Accurate, "RFC 9768 section 3.1.3");
    assert_eq!(next(&mut t).flags.ace(), 0b010);
    assert_eq!(sent(&mut t, 100).ecn, Ecn::Ect0, "as if the field of the SYN had arrived unchanged");
}

#[test]
fn a_syn_asks_for_accecn_twice() {
    let config = config(3);
    let mut opening = opening(&config);
    let mut asked = Vec::new();
    for _ in 0..4 {
        let now = opening.poll_timeout().unwrap();
        asked.push(opening.poll_transmit(now).unwrap().flags.ace());
        opening.on_transmitted();
        assert!(opening.on_timeout(now).is_none());
    }
    assert_eq!(asked, [0b111, 0b111, 0, 0], "RFC 9768 section 3.1.4.1");
}

#[test]
fn two_sack_blocks_go_before_the_option() {
    for timestamps in [false, true] {
        let (mut t, _) = super::ecn::accepted_with(&config(3), timestamps);
        let mut fields = Vec::new();
        // Holes, and all three fields: eleven bytes of option and three blocks.
        for (n, ecn) in [(1, Ecn::Ect1), (3, Ecn::Ce), (5, Ecn::Ect0)] {
            let mut seg = segment(Flags::ACK.with(Flags::PSH), 1 + n * 1000, 1, 1000);
            seg.ecn = ecn;
            if let Some(tsval) = t.tsval {
                seg.options.timestamps = Some(Timestamps { tsval, tsecr: 0 });
            }
            t.conn.on_segment(t.now, &seg, Chunk::copy_from(&[1; 1000]));
            let answer = next(&mut t);
            fields.push((answer.options.sack.len(), answer.options.acc_ecn.map_or(0, |o| o.fields.len())));
        }
        // RFC 9768 section 3.2.3.3: the option leaves room for two blocks, and drops what did not change for it.
        let expected = if timestamps { [(1, 2), (2, 2), (2, 2)] } else { [(1, 2), (2, 2), (3, 3)] };
        assert_eq!(fields, expected, "timestamps: {timestamps}");
    }
}

#[test]
fn marks_are_not_believed_once_the_handshake_came_without_bits() {
    let (mut t, _) = accepted(&config(3), 0b111, Ecn::NotEct, 0b000);
    sent(&mut t, 1000);
    t.input(ack(0b111, 1001, Some(1000)));
    let info = t.conn.info(t.now);
    assert_eq!((info.delivered_ce, info.ca_state), (0, CongestionState::Open), "RFC 9768, table 4, note 1");
    assert_eq!(sent(&mut t, 1000).ecn, Ecn::NotEct);
    assert!(data(&mut t, 1, Ecn::Ce, Flags::PSH)[0].contains("CWR,AE"), "it still reports what came");
}

#[test]
fn bytes_that_were_marked_without_packets_end_ect() {
    for (ace, ce, field) in [(0b101, 1000, Ecn::NotEct), (0b110, 1000, Ecn::Ect0), (0b101, 0, Ecn::Ect0)] {
        let (mut t, _) = accepted(&config(3), 0b111, Ecn::NotEct, 0b010);
        sent(&mut t, 1000);
        t.input(ack(ace, 1001, Some(ce)));
        t.now += SECOND;
        assert_eq!(sent(&mut t, 1000).ecn, field, "RFC 9768 section 3.2.3.2.5: {ace:03b}, {ce}");
    }
    // Packets that an acknowledgment without the option has reported explain bytes that come later.
    let (mut t, _) = accepted(&config(3), 0b111, Ecn::NotEct, 0b010);
    sent(&mut t, 1000);
    t.input(ack(0b110, 1001, None));
    t.now += SECOND;
    sent(&mut t, 1000);
    t.input(ack(0b110, 2001, Some(1000)));
    t.now += SECOND;
    assert_eq!(sent(&mut t, 1000).ecn, Ecn::Ect0);
}

#[test]
fn the_first_large_acknowledgment_without_the_option_is_no_report_of_marks() {
    let (mut t, _) = accepted(&config(3), 0b111, Ecn::NotEct, 0b010);
    t.input(ack(0b101, 1, None));
    t.write(10_000);
    t.input(ack(0b110, 10_001, None));
    let delivered = t.conn.info(t.now).delivered_ce;
    assert_eq!(delivered, 1, "a peer that joins acknowledgments, and not nine marks");
}

#[test]
fn a_newer_timestamp_tells_an_acknowledgment_that_acknowledges_nothing_new_from_an_old_one() {
    let (mut t, _) = super::ecn::accepted_with(&config(3), true);
    sent(&mut t, 500);
    let report = |tsval| {
        let mut report = ack(0b110, 1, None);
        report.options.timestamps = Some(Timestamps { tsval, tsecr: 0 });
        report
    };
    t.input(report(7));
    assert_eq!(t.conn.info(t.now).delivered_ce, 0, "RFC 9768 appendix A.1: superseded, for all we know");
    t.input(report(8));
    assert_eq!(t.conn.info(t.now).delivered_ce, 1);
}

#[test]
fn without_fallback_the_handshake_is_not_tested_for_mangling() {
    for (fallback, field) in [(true, Ecn::NotEct), (false, Ecn::Ect0)] {
        let config = std::sync::Arc::new(Config { ecn_fallback: fallback, ..(*config(3)).clone() });
        let (mut t, _) = accepted(&config, 0b111, Ecn::NotEct, 0b110);
        assert_eq!((sent(&mut t, 100).ecn, t.conn.info(t.now).delivered_ce), (field, 1));
    }
}

#[test]
fn the_counters_of_bytes_are_shown() {
    let (mut t, _) = accepted(&config(3), 0b111, Ecn::NotEct, 0b010);
    sent(&mut t, 900);
    let mut report = ack(0b110, 901, None);
    report.options.acc_ecn = Some(AccEcn { ect1_first: true, fields: [201, 300, 401].into() });
    t.input(report);
    for (n, field) in [(0, Ecn::Ect1), (1, Ecn::Ect0), (2, Ecn::Ect0), (3, Ecn::Ce)] {
        data(&mut t, 1 + n * 1000, field, Flags::PSH);
    }
    let info = t.conn.info(t.now);
    let delivered = [info.delivered_e1_bytes, info.delivered_e0_bytes, info.delivered_ce_bytes];
    let received = [info.received_e1_bytes, info.received_e0_bytes, info.received_ce_bytes];
    assert_eq!((delivered, received), ([200, 400, 300], [1000, 2000, 1000]));
}

#[test]
fn like_linux_every_segment_is_capable_and_the_option_has_what_fits() {
    let config = std::sync::Arc::new(Config { ecn_like_linux: true, ..(*config(3)).clone() });
    let (mut t, _) = super::ecn::accepted_with(&config, true);
    let mut seen = Vec::new();
    for (n, ecn) in [(1, Ecn::Ect1), (3, Ecn::Ect1), (5, Ecn::Ce), (7, Ecn::Ect0)] {
        let mut seg = segment(Flags::ACK.with(Flags::PSH), 1 + n * 1000, 1, 1000);
        seg.ecn = ecn;
        seg.options.timestamps = Some(Timestamps { tsval: 7, tsecr: 0 });
        t.conn.on_segment(t.now, &seg, Chunk::copy_from(&[1; 1000]));
        let answer = next(&mut t);
        assert_eq!(answer.ecn, Ecn::Ect0, "a pure acknowledgment");
        let option = answer.options.acc_ecn;
        seen.push((answer.options.sack.len(), option.map_or(0, |option| option.fields.len())));
    }
    assert_eq!(seen, [(1, 3), (2, 2), (2, 2), (3, 0)]);
}
