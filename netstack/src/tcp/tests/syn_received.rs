//! SYN-RECEIVED as a listener has it: segment in, step out; and what time does.

use super::pair::config;
use super::table::{IRS, ISS, segment};
use crate::buffer::Pool;
use crate::config::Config;
use crate::reasons::DropReason;
use crate::tcp::{
    Connection, Path, Setup, SocketOptions, SynCookies, SynEntry, SynParts, SynRetries, SynStep, SynTimeout,
};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Options, Segment, SeqNum, Timestamps};

const ACK: Flags = Flags::ACK;
const FLOW: u32 = 7;

fn at(ms: u64) -> Instant {
    Instant::from_millis(100_000 + ms)
}

fn parts<'a>(options: &'a SocketOptions, config: &'a Config) -> SynParts<'a> {
    SynParts { ts_offset: 1000, path: Path::new(1500, false), options, config }
}

fn theirs() -> Options {
    Options {
        mss: Some(1200),
        window_scale: Some(5),
        sack_permitted: true,
        timestamps: Some(Timestamps { tsval: 500, tsecr: 0 }),
        ..Options::default()
    }
}

struct Entry {
    config: std::sync::Arc<Config>,
    entry: SynEntry,
    retries: SynRetries,
}

impl Entry {
    fn new() -> Self {
        let config = config();
        let syn = Segment { options: theirs(), ..segment(Flags::SYN, 0, 0, 0) };
        let options = SocketOptions::new(&config);
        let entry = SynEntry::new(at(0), &syn, SeqNum::new(ISS), parts(&options, &config));
        let retries = SynRetries::new(&config);
        Self { config, entry, retries }
    }

    /// A segment with a timestamp.
    fn input(&mut self, ms: u64, mut segment: Segment, tsval: u32) -> SynStep {
        segment.options.timestamps = Some(Timestamps { tsval, tsecr: 0 });
        self.entry.on_segment(at(ms), &segment, self.retries, &self.config)
    }

    fn timeout(&mut self) -> (Duration, SynTimeout) {
        let due = self.entry.deadline();
        (due - at(0), self.entry.on_timeout(due, self.retries, &self.config))
    }
}

/// The numbers of an answer: flags, sequence, acknowledgment, relative to the initial ones.
fn numbers(segment: &Segment) -> (Flags, i64, i64) {
    let relative = |number: SeqNum, to: u32| i64::from((number - SeqNum::new(to)) as i32);
    (segment.flags, relative(segment.seq, ISS), relative(segment.ack, IRS))
}

#[test]
fn each_segment_has_its_step() {
    let data = |seq, len| segment(ACK.with(Flags::PSH), seq, 1, len);
    for (what, seg, tsval, expected) in [
        ("the acknowledgment", segment(ACK, 1, 1, 0), 501, "Establish"),
        ("with data", data(1, 100), 501, "Establish"),
        ("with a FIN", segment(ACK.with(Flags::FIN), 1, 1, 0), 501, "Establish"),
        ("data, its predecessor lost", data(500, 100), 501, "Establish"),
        ("a SYN-ACK in its place", segment(ACK.with(Flags::SYN), 0, 1, 0), 501, "Acknowledge"),
        ("the SYN again", segment(Flags::SYN, 0, 0, 0), 501, "Repeat"),
        ("an older SYN", segment(Flags::SYN, -500, 0, 0), 501, "Acknowledge"),
        ("a later SYN", segment(Flags::SYN, 500, 0, 0), 501, "Acknowledge"),
        ("an acknowledgment of nothing", segment(ACK, 1, 0, 0), 501, "Reset"),
        ("an acknowledgment of too much", segment(ACK, 1, 2, 0), 501, "Reset"),
        ("behind the window", segment(ACK, 100_000, 1, 0), 501, "Acknowledge"),
        ("before the window", segment(ACK, -9, 1, 0), 501, "Acknowledge"),
        ("an old timestamp", segment(ACK, 1, 1, 0), 499, "Acknowledge"),
        ("RST at RCV.NXT", segment(Flags::RST, 1, 0, 0), 501, "Remove"),
        ("RST elsewhere in the window", segment(Flags::RST, 2, 0, 0), 501, "Acknowledge"),
        ("RST outside", segment(Flags::RST, 100_000, 0, 0), 501, "Ignore"),
        ("no flags at all", segment(Flags::default(), 1, 0, 5), 501, "Ignore"),
    ] {
        let mut entry = Entry::new();
        let step = entry.input(10, seg, tsval);
        let name = match &step {
            SynStep::Repeat(answer) => {
                assert_eq!(numbers(answer), (Flags::SYN.with(ACK), 0, 1), "{what}");
                "Repeat"
            }
            SynStep::Acknowledge(answer, _) => {
                assert_eq!(numbers(answer), (ACK, 1, 1), "{what}");
                assert!(answer.options.timestamps.is_some_and(|ts| ts.tsecr == 500), "{what}");
                assert!(answer.window < 1024, "scaled, unlike that of a SYN-ACK");
                "Acknowledge"
            }
            SynStep::Establish => "Establish",
            SynStep::Reset => "Reset",
            SynStep::Abort => "Abort",
            SynStep::Remove => "Remove",
            SynStep::Ignore(_) => "Ignore",
            SynStep::Skip => "Skip",
            SynStep::Defer => "Defer",
        };
        assert_eq!(name, expected, "{what}");
    }
}

#[test]
fn the_third_segment_must_echo_a_timestamp_that_was_sent() {
    // Two SYN-ACKs: at 0 s and, after a time-out, at 1 s. Our clock is 1,000 ahead.
    let (first, last) = (101_000, 102_000);
    for (tsecr, counts) in
        [(0, true), (first, true), (first + 500, true), (last, true), (first - 1, false), (last + 1, false)]
    {
        for flags in [ACK, ACK.with(Flags::PSH), ACK.with(Flags::FIN)] {
            let mut entry = Entry::new();
            assert!(matches!(entry.timeout().1, SynTimeout::Retransmit(_)));
            let mut third = segment(flags, 1, 1, 0);
            third.options.timestamps = Some(Timestamps { tsval: 501, tsecr });
            let step = entry.entry.on_segment(at(1_500), &third, entry.retries, &entry.config);
            match step {
                SynStep::Establish => assert!(counts, "{tsecr}"),
                SynStep::Acknowledge(_, DropReason::TcpRfc7323Tsecr) => assert!(!counts, "{tsecr}"),
                other => panic!("{tsecr}: {other:?}"),
            }
        }
        let mut entry = Entry::new();
        entry.timeout();
        let mut reset = segment(Flags::RST, 1, 0, 0);
        reset.options.timestamps = Some(Timestamps { tsval: 501, tsecr });
        let step = entry.entry.on_segment(at(1_500), &reset, entry.retries, &entry.config);
        let expected = if counts { SynStep::Remove } else { SynStep::Ignore(DropReason::TcpReset) };
        assert_eq!(step, expected, "a reset with {tsecr}");
    }
    // A SYN that came again was answered again.
    let mut entry = Entry::new();
    entry.input(700, segment(Flags::SYN, 0, 0, 0), 501);
    let mut third = segment(ACK, 1, 1, 0);
    third.options.timestamps = Some(Timestamps { tsval: 502, tsecr: first + 700 });
    assert_eq!(entry.entry.on_segment(at(800), &third, entry.retries, &entry.config), SynStep::Establish);
}

#[test]
fn strays_are_answered_twice_a_second_at_most() {
    let mut entry = Entry::new();
    assert!(matches!(entry.input(0, segment(Flags::SYN, 0, 0, 0), 501), SynStep::Repeat(_)));
    assert_eq!(entry.input(499, segment(Flags::SYN, 0, 0, 0), 502), SynStep::Skip);
    assert_eq!(entry.input(499, segment(ACK, -9, 1, 0), 502), SynStep::Skip);
    assert!(matches!(entry.input(500, segment(ACK, -9, 1, 0), 502), SynStep::Acknowledge(..)));
    assert_eq!(entry.input(501, segment(ACK, 1, 1, 0), 503), SynStep::Establish, "not a stray one");
}

#[test]
fn a_repeated_syn_starts_the_time_out_again_and_costs_no_retry() {
    let mut entry = Entry::new();
    assert!(matches!(entry.input(900, segment(Flags::SYN, 0, 0, 0), 1400), SynStep::Repeat(_)));
    let (due, step) = entry.timeout();
    assert_eq!(due, Duration::from_millis(1900));
    assert!(matches!(step, SynTimeout::Retransmit(_)));
    assert_eq!(entry.entry.deadline() - at(1900), Duration::from_secs(2), "the first retry");
}

#[test]
fn syn_acks_are_repeated_five_times_and_forgotten_after_63_seconds() {
    let mut entry = Entry::new();
    let mut times = Vec::new();
    loop {
        let (due, step) = entry.timeout();
        times.push(due.as_secs());
        if step == SynTimeout::GiveUp {
            break;
        }
        assert!(matches!(step, SynTimeout::Retransmit(_)));
        assert!(!entry.entry.is_young());
    }
    assert_eq!(times, [1, 3, 7, 15, 31, 63]);
}

#[test]
fn defer_accept_waits_for_data_and_asks_once_before_it_gives_up_waiting() {
    let deferring = |defer_accept| {
        let mut entry = Entry::new();
        entry.retries.defer_accept = defer_accept;
        entry
    };
    let mut entry = deferring(3);
    assert_eq!(entry.input(10, segment(ACK, 1, 1, 0), 501), SynStep::Defer);
    assert_eq!(entry.input(20, segment(ACK, 1, 1, 1), 502), SynStep::Establish, "one byte is enough");
    let mut entry = deferring(3);
    assert_eq!(entry.input(10, segment(ACK.with(Flags::FIN), 1, 1, 0), 501), SynStep::Establish, "or a FIN");
    // Nothing is sent while the peer is waited for, until the last time-out of the period.
    let mut entry = deferring(3);
    assert_eq!(entry.input(10, segment(ACK, 1, 1, 0), 501), SynStep::Defer);
    assert_eq!(entry.timeout(), (Duration::from_secs(1), SynTimeout::Wait));
    assert_eq!(entry.timeout(), (Duration::from_secs(3), SynTimeout::Wait));
    assert!(matches!(entry.timeout(), (_, SynTimeout::Retransmit(_))));
    assert_eq!(entry.input(7_010, segment(ACK, 1, 1, 0), 502), SynStep::Establish, "without data");
    // Longer than the retries: who has acknowledged is waited for, who has not is forgotten.
    for acknowledged in [false, true] {
        let mut entry = deferring(7);
        if acknowledged {
            assert_eq!(entry.input(10, segment(ACK, 1, 1, 0), 501), SynStep::Defer);
        }
        let timeouts = (0..).take_while(|_| entry.timeout().1 != SynTimeout::GiveUp).count();
        assert_eq!(timeouts, if acknowledged { 7 } else { 5 });
    }
}

#[test]
fn a_held_syn_absorbs_its_repetitions() {
    let mut entry = Entry::new();
    entry.entry.hold(at(9_000));
    for ms in [1_000, 3_000, 7_000] {
        let tsval = 500 + ms as u32;
        assert_eq!(
            entry.input(ms, segment(Flags::SYN, 0, 0, 0), tsval),
            SynStep::Ignore(DropReason::SynHeld)
        );
    }
    assert_eq!(entry.input(7_000, segment(ACK, 1, 1, 0), 7_600), SynStep::Ignore(DropReason::SynHeld));
    assert_eq!(numbers(&entry.entry.reset()).0, Flags::RST.with(ACK));
    assert_eq!(entry.entry.reset().seq, SeqNum::default(), "as where nobody listens");
    let syn_ack = entry.entry.release(at(8_000), &entry.config.clone());
    assert_eq!(numbers(&syn_ack), (Flags::SYN.with(ACK), 0, 1));
    assert_eq!(syn_ack.options.timestamps.map(|ts| ts.tsecr), Some(7_500), "of the latest SYN");
    assert_eq!(entry.entry.deadline(), at(9_000));
    assert_eq!(numbers(&entry.entry.reset()), (Flags::RST.with(ACK), 1, 1));
    assert_eq!(entry.input(8_020, segment(ACK, 1, 1, 0), 8_500), SynStep::Establish);
    let mut entry = Entry::new();
    entry.entry.hold(at(9_000));
    assert_eq!(entry.input(10, segment(Flags::RST, 2, 0, 0), 501), SynStep::Ignore(DropReason::TcpReset));
    assert_eq!(entry.input(10, segment(Flags::RST, 1, 0, 0), 501), SynStep::Remove);
    assert_eq!(entry.timeout(), (Duration::from_secs(9), SynTimeout::GiveUp));
}

#[test]
fn a_cookie_brings_back_what_it_can() {
    let config = config();
    let options = SocketOptions::new(&config);
    let mut cookies = SynCookies::new();
    cookies.set_secret(at(0), [3; 16]);
    for timestamps in [true, false] {
        let mut theirs = theirs();
        theirs.timestamps = theirs.timestamps.filter(|_| timestamps);
        let syn = Segment { options: theirs, ..segment(Flags::SYN, 0, 0, 0) };
        let syn_ack =
            SynEntry::cookie_syn_ack(at(0), &FLOW, &syn, &cookies, parts(&options, &config)).unwrap();
        assert_eq!(syn_ack.options.window_scale.is_some(), timestamps);
        assert_eq!(syn_ack.options.sack_permitted, timestamps);
        let mut ack = segment(ACK, 1, 1, 0);
        ack.ack = syn_ack.seq + 1;
        ack.options.timestamps =
            syn_ack.options.timestamps.map(|ts| Timestamps { tsval: 510, tsecr: ts.tsval });
        let mss = cookies.check(at(20), &FLOW, &ack, false).expect("it is a good one");
        assert_eq!(mss, 536, "the class below 1200");
        let entry = SynEntry::from_cookie(at(20), &ack, mss, parts(&options, &config));
        let conn = Connection::accept(
            at(20),
            &entry,
            &ack,
            Setup { options: &options, config: &config, pool: &Pool::new() },
        );
        let info = conn.info(at(20));
        assert_eq!(info.snd_wscale, if timestamps { 5 } else { 0 });
        assert_eq!(info.snd_mss, if timestamps { 524 } else { 536 });
        assert_eq!(info.rtt, Duration::ZERO, "nobody knows when the SYN-ACK left");
        ack.ack = ack.ack + 1;
        assert_eq!(cookies.check(at(20), &FLOW, &ack, false), None);
    }
    assert_eq!(
        SynEntry::cookie_syn_ack(
            at(120_000),
            &FLOW,
            &segment(Flags::SYN, 0, 0, 0),
            &cookies,
            parts(&options, &config)
        ),
        None,
        "its secret is of another period"
    );
}
