//! Single rules of the RFCs that no scenario shows by itself: one segment in, one look at what comes
//! out. CONFORMANCE.md names each of them.

use super::pair::config;
use super::table::{IRS, ISS, Table, segment};
use crate::buffer::{Chunk, Pool};
use crate::config::Config;
use crate::reasons::DropReason;
use crate::tcp::{Opening, OpeningStep, Path, Setup, SocketOptions, State, SynEntry, SynParts};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Options, Segment, SeqNum, Timestamps};
use std::io::IoSliceMut;
use std::sync::Arc;

const ACK: Flags = Flags::ACK;

/// Everything that both ends can agree on.
fn all_options() -> Options {
    Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { tsval: 1_000, tsecr: 0 }),
        ..Options::default()
    }
}

/// The segments themselves that the connection sends now.
fn sent(t: &mut Table) -> Vec<Segment> {
    let mut segments = Vec::new();
    while let Some(transmit) = t.conn.poll_transmit(t.now, 0) {
        segments.push(transmit.segment.clone());
        t.conn.on_transmitted(t.now, &transmit);
    }
    segments
}

fn give(t: &mut Table, seg: &Segment) -> Vec<Segment> {
    t.conn.on_segment(t.now, seg, Chunk::copy_from(&vec![1; seg.payload_len]));
    sent(t)
}

fn with_tsval(mut seg: Segment, tsval: u32) -> Segment {
    seg.options.timestamps = Some(Timestamps { tsval, tsecr: 0 });
    seg
}

fn read(t: &mut Table) -> Vec<u8> {
    let mut bytes = vec![0; 100_000];
    let n = t.conn.read(t.now, &mut [IoSliceMut::new(&mut bytes)]).unwrap_or(0);
    bytes.truncate(n);
    bytes
}

/// The SYN of an active open.
fn syn(path: Path, config: &Arc<Config>) -> Segment {
    syn_with(&SocketOptions::new(config), path, config)
}

fn syn_with(options: &SocketOptions, path: Path, config: &Arc<Config>) -> Segment {
    let now = Instant::from_millis(5_000);
    let opening = Opening::new(now, SeqNum::new(ISS), 0, path, Setup { options, config, pool: &Pool::new() });
    opening.poll_transmit(now).unwrap()
}

/// The SYN-ACK that answers a SYN with these options.
fn syn_ack(theirs: Options, path: Path, config: &Config) -> Segment {
    syn_ack_with(&SocketOptions::new(config), theirs, path, config)
}

fn syn_ack_with(options: &SocketOptions, theirs: Options, path: Path, config: &Config) -> Segment {
    let now = Instant::from_millis(5_000);
    let mut seg = segment(Flags::SYN, 0, 0, 0);
    seg.options = theirs;
    let parts = SynParts { ts_offset: 0, path, options, config };
    SynEntry::new(now, &seg, SeqNum::new(ISS), parts).syn_ack(now)
}

#[test]
fn the_advertised_mss_is_what_the_interface_takes_without_headers() {
    // RFC 9293 §3.7.1, RFC 6691: 20 bytes of TCP and 20 or 40 of IP; options are not counted.
    for (path, mss) in [(Path::new(1500, false), 1460), (Path::new(1500, true), 1440)] {
        assert_eq!(syn(path, &config()).options.mss, Some(mss));
        assert_eq!(syn_ack(all_options(), path, &config()).options.mss, Some(mss));
        // What is known of the way there says nothing of the way back.
        let path = Path { pmtu: 1200, ..path };
        assert_eq!(syn(path, &config()).options.mss, Some(mss));
        assert_eq!(syn_ack(all_options(), path, &config()).options.mss, Some(mss));
    }
}

#[test]
fn a_syn_ack_offers_only_what_the_syn_did() {
    let path = Path::new(1500, false);
    let all = syn_ack(all_options(), path, &config()).options;
    assert!(all.window_scale.is_some() && all.sack_permitted);
    assert_eq!(all.timestamps.map(|ts| ts.tsecr), Some(1_000), "the echo of the SYN's");
    let bare = syn_ack(Options { mss: Some(1460), ..Options::default() }, path, &config()).options;
    assert_eq!(bare, Options { mss: Some(1460), ..Options::default() });
}

#[test]
fn the_window_of_a_syn_is_not_scaled() {
    // RFC 7323 §2.2. It is the initial window in whole segments, whatever the scale.
    let config =
        Arc::new(Config { recv_buffer_initial: 40_000, recv_buffer_max: 64 << 20, ..Config::default() });
    let syn = syn(Path::new(1500, false), &config);
    assert!(syn.options.window_scale.unwrap() > 0);
    assert_eq!(usize::from(syn.window) % 1460, 0);
    assert!(syn.window >= 10 * 1460, "{}", syn.window);
}

#[test]
fn the_window_is_half_of_the_buffer_in_whole_segments() {
    // tcp_select_initial_window of Linux; checked against 6.18. `SO_RCVBUF` is doubled to get the memory.
    // Buffer, what is set, whether there are timestamps, window of a SYN, of a SYN-ACK, and scale.
    let cases = [
        (128 << 10, None, true, 64_240, 65_160, 10),
        (128 << 10, None, false, 64_240, 64_240, 10),
        (540_000, None, true, 65_535, 65_535, 10),
        (40_000, None, true, 18_980, 18_824, 10),
        (128 << 10, Some(20_000), true, 18_980, 18_824, 0),
        (128 << 10, Some(20_000), false, 18_980, 18_980, 0),
        (128 << 10, Some(1_152), true, 1_152, 1_152, 0),
        (128 << 10, Some(100_000), true, 65_535, 65_535, 1),
        (128 << 10, Some(32 << 20), true, 65_535, 65_535, 10),
    ];
    for (memory, set, timestamps, of_syn, of_syn_ack, scale) in cases {
        let config = Arc::new(Config { recv_buffer_initial: memory, timestamps, ..Config::default() });
        let options = SocketOptions { recv_buffer_size: set, ..SocketOptions::new(&config) };
        let path = Path::new(1500, false);
        let syn = syn_with(&options, path, &config);
        let syn_ack = syn_ack_with(&options, all_options(), path, &config);
        for (segment, window) in [(syn, of_syn), (syn_ack, of_syn_ack)] {
            let seen = (segment.window, segment.options.window_scale);
            assert_eq!(seen, (window, Some(scale)), "{memory} {set:?} {timestamps} {segment:?}");
        }
    }
}

#[test]
fn bytes_acked_counts_the_syn_of_an_active_open() {
    // tcp_snd_una_update of Linux; a passive open begins behind its SYN.
    let t = Table::established_with(all_options());
    assert_eq!(t.conn.info(t.now).bytes_acked, 0);
    let (config, now) = (config(), Instant::from_millis(5_000));
    let options = SocketOptions::new(&config);
    let setup = Setup { options: &options, config: &config, pool: &Pool::new() };
    let mut opening = Opening::new(now, SeqNum::new(ISS), 0, Path::new(1500, false), setup);
    opening.on_transmitted();
    let syn_ack = segment(Flags::SYN.with(ACK), 0, 1, 0);
    match opening.on_segment(now, &syn_ack, Chunk::empty()) {
        OpeningStep::Established(conn, _) => assert_eq!(conn.info(now).bytes_acked, 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_syn_that_was_not_acknowledged_has_no_echo() {
    // RFC 7323 §3.2: TSecr counts with the ACK bit only, and is zero without.
    let echo = syn(Path::new(1500, false), &config()).options.timestamps.unwrap().tsecr;
    assert_eq!(echo, 0);
}

#[test]
fn the_options_of_a_syn_appear_on_syns_only() {
    let mut t = Table::established_with(all_options());
    t.conn.write(t.now, &[std::io::IoSlice::new(&[7; 5_000])], false).unwrap();
    let data = sent(&mut t);
    assert!(data.len() >= 2);
    for seg in data {
        assert_eq!((seg.options.mss, seg.options.window_scale), (None, None));
        assert!(!seg.options.sack_permitted);
    }
}

#[test]
fn the_bytes_of_the_timestamps_come_off_each_segment() {
    // RFC 9293 MUST-16, RFC 7323 §3.2: MSS 1460, of which 12 are the option's.
    for (theirs, payload) in [(all_options(), 1448), (Options { timestamps: None, ..all_options() }, 1460)] {
        let mut t = Table::established_with(theirs);
        t.conn.write(t.now, &[std::io::IoSlice::new(&[7; 20_000])], false).unwrap();
        assert_eq!(sent(&mut t)[0].payload_len, payload);
    }
}

#[test]
fn an_ipv6_peer_that_does_not_say_takes_1220() {
    assert_eq!(Path::new(1500, true).default_mss(), 1220);
    assert_eq!(Path::new(1500, false).default_mss(), 536);
}

#[test]
fn timestamps_are_on_every_segment_once_agreed_on_and_on_resets() {
    // RFC 7323 §3.2.
    let mut t = Table::established_with(all_options());
    let ack = give(&mut t, &with_tsval(segment(ACK, 1, 1, 2_000), 1_001));
    assert_eq!(ack[0].options.timestamps.map(|ts| ts.tsecr), Some(1_001));
    t.conn.write(t.now, &[std::io::IoSlice::new(b"x")], false).unwrap();
    assert!(sent(&mut t)[0].options.timestamps.is_some());
    t.conn.abort(t.now);
    let reset = sent(&mut t);
    assert!(reset[0].is_rst() && reset[0].options.timestamps.is_some());
}

#[test]
fn a_segment_without_the_timestamps_agreed_on_is_taken_as_in_linux() {
    let mut t = Table::established_with(all_options());
    give(&mut t, &segment(ACK, 1, 1, 10));
    assert_eq!(read(&mut t).len(), 10, "RFC 7323 section 3.2 would have it dropped");
}

#[test]
fn timestamps_not_agreed_on_are_ignored() {
    let mut t = Table::established();
    let acks = give(&mut t, &with_tsval(segment(ACK, 1, 1, 2_000), 5));
    assert!(acks.iter().all(|ack| ack.options.timestamps.is_none()));
    let older = with_tsval(segment(ACK, 2_001, 1, 10), 4);
    give(&mut t, &older);
    assert_eq!(read(&mut t).len(), 2_010, "no PAWS");
}

#[test]
fn the_echo_is_of_the_segment_that_the_acknowledgment_moved_past() {
    // RFC 7323 §4.3: of two segments under one acknowledgment the first is echoed; an early one is
    // not; the one that fills the hole is.
    let mut t = Table::established_with(all_options());
    for at in 0..40 {
        // Leave the quick acknowledgments of the beginning behind.
        give(&mut t, &with_tsval(segment(ACK, 1 + at * 1_000, 1, 1_000), 1_001));
        read(&mut t);
    }
    t.conn.write(t.now, &[std::io::IoSlice::new(b"x")], false).unwrap();
    sent(&mut t);
    let next = 40_001;
    let first = give(&mut t, &with_tsval(segment(ACK, next, 2, 100), 2_000));
    assert!(first.is_empty(), "delayed: {first:?}");
    give(&mut t, &with_tsval(segment(ACK, next + 100, 2, 100), 2_005));
    t.now += Duration::from_millis(300);
    t.conn.on_timeout(t.now);
    assert_eq!(sent(&mut t)[0].options.timestamps.unwrap().tsecr, 2_000, "the earlier of the two");
    let early = give(&mut t, &with_tsval(segment(ACK, next + 300, 2, 100), 2_400));
    assert_eq!(early[0].options.timestamps.unwrap().tsecr, 2_000, "not that of the early one");
    let filler = give(&mut t, &with_tsval(segment(ACK, next + 200, 2, 100), 2_390));
    assert_eq!(filler[0].options.timestamps.unwrap().tsecr, 2_390);
}

#[test]
fn an_acknowledgment_that_moves_nothing_measures_nothing() {
    // RFC 7323 §4.1.
    let mut t = Table::established_with(all_options());
    t.conn.write(t.now, &[std::io::IoSlice::new(b"x")], false).unwrap();
    let tsval = sent(&mut t)[0].options.timestamps.unwrap().tsval;
    let before = t.conn.info(t.now).rtt;
    t.now += Duration::from_secs(3);
    let mut old = segment(ACK, 1, 1, 0);
    old.options.timestamps = Some(Timestamps { tsval: 1_002, tsecr: tsval });
    give(&mut t, &old);
    assert_eq!(t.conn.info(t.now).rtt, before);
}

#[test]
fn sack_is_sent_to_those_who_offered_it_only() {
    for (theirs, blocks) in [(all_options(), 1), (Options { sack_permitted: false, ..all_options() }, 0)] {
        let mut t = Table::established_with(theirs);
        let acks = give(&mut t, &with_tsval(segment(ACK, 1_001, 1, 1_000), 1_001));
        assert_eq!(acks[0].options.sack.len(), blocks);
    }
}

#[test]
fn the_urgent_byte_stays_in_the_stream() {
    // RFC 6093 §6 recommends it; there is no urgent mode to be notified of.
    let mut t = Table::established();
    let urgent = Segment { urgent: 5, ..segment(ACK.with(Flags::URG), 1, 1, 10) };
    give(&mut t, &urgent);
    assert_eq!(read(&mut t).len(), 10);
}

#[test]
fn a_closed_window_still_hears_acknowledgments_and_resets() {
    // RFC 9293 MUST-66.
    let closed = || {
        let mut t = Table::established();
        t.write(100);
        let mut at = 1;
        for _ in 0..1_000 {
            // What did not fit is sent again, as a peer would.
            let answer = give(&mut t, &segment(ACK, at, 1, 1_000));
            let Some(ack) = answer.last() else {
                at += 1_000;
                continue;
            };
            at = i64::from(ack.ack - SeqNum::new(IRS));
            if ack.window == 0 {
                return (t, at);
            }
        }
        panic!("the window never closes");
    };
    let (mut t, at) = closed();
    assert_eq!(t.conn.unacked(), 100);
    give(&mut t, &segment(ACK, at, 101, 0));
    assert_eq!(t.conn.unacked(), 0);
    let (mut t, at) = closed();
    give(&mut t, &segment(Flags::RST, at, 0, 0));
    assert_eq!(t.conn.state(), State::Closed);
    // A FIN without text takes no room, and Linux accepts it at once (tcp_data_queue).
    let (mut t, at) = closed();
    give(&mut t, &segment(Flags::FIN.with(ACK), at, 101, 0));
    assert_eq!(t.conn.state(), State::CloseWait);
}

#[test]
fn a_reset_may_carry_data() {
    // RFC 9293 SHLD-2: an explanation for humans, which is not for the stream.
    let mut t = Table::established();
    give(&mut t, &segment(Flags::RST.with(ACK), 1, 1, 20));
    assert_eq!((t.conn.state(), t.conn.unread()), (State::Closed, 0));
}

#[test]
fn a_window_smaller_than_a_segment_is_not_filled_at_once() {
    // RFC 9293 §3.8.6.2.1: the peer's largest window was 30,000 bytes; 900 are a silly one.
    let mut t = Table::established();
    t.write(1_000);
    let mut small = segment(ACK, 1, 1_001, 0);
    small.window = 900;
    give(&mut t, &small);
    assert!(t.write(5_000).is_empty());
    let late = t.wait(Duration::from_secs(1));
    assert_eq!(late.len(), 1, "after the override timer what fits goes: {late:?}");
}

#[test]
fn a_scale_above_14_counts_as_14() {
    // RFC 7323 §2.3.
    let t = Table::established_with(Options { window_scale: Some(200), ..all_options() });
    assert_eq!(t.conn.info(t.now).snd_wnd, 30_000 << 14);
}

#[test]
fn a_reset_before_the_connection_must_acknowledge_the_syn() {
    // RFC 5961 §3.2.
    let config = config();
    let now = Instant::from_millis(5_000);
    let options = SocketOptions::new(&config);
    let path = Path::new(1500, false);
    let mut opening = Opening::new(
        now,
        SeqNum::new(ISS),
        0,
        path,
        Setup { options: &options, config: &config, pool: &Pool::new() },
    );
    for (flags, ack) in [(Flags::RST, 0), (Flags::RST.with(ACK), 7)] {
        let step = opening.on_segment(now, &segment(flags, 0, ack, 0), Chunk::empty());
        assert!(matches!(step, OpeningStep::Ignore(DropReason::TcpReset)), "{step:?}");
    }
    let step = opening.on_segment(now, &segment(Flags::RST.with(ACK), 0, 1, 0), Chunk::empty());
    assert!(matches!(step, OpeningStep::Refused), "{step:?}");
}

#[test]
fn the_last_segment_of_what_was_written_is_pushed() {
    // RFC 9293 MUST-61.
    let mut t = Table::established();
    t.conn.write(t.now, &[std::io::IoSlice::new(&[7; 2_500])], false).unwrap();
    let pushed: Vec<_> = sent(&mut t).iter().map(|seg| seg.flags.contains(Flags::PSH)).collect();
    // Of a burst whose last segment is a partial one, no other carries it.
    assert_eq!(pushed, [false, false, true]);
}

#[test]
fn numbers_of_the_peer_near_the_wrap_are_taken() {
    // The peer's initial number is two before the wrap.
    const { assert!(IRS > u32::MAX - 10) };
    let mut t = Table::established();
    give(&mut t, &segment(ACK, 1, 1, 1_000));
    give(&mut t, &segment(ACK, 1_001, 1, 1_000));
    assert_eq!(read(&mut t).len(), 2_000);
}

#[test]
fn the_handshake_does_not_grow_the_window() {
    // RFC 5681 §3.1: neither the SYN and its answer nor the last segment of the handshake count.
    let t = Table::established();
    let info = t.conn.info(t.now);
    assert_eq!(info.snd_cwnd / info.snd_mss, 10);
    assert!(info.snd_ssthresh > 1 << 30, "arbitrarily high");
}

#[test]
fn what_was_sent_twice_measures_nothing_without_timestamps() {
    // Karn's algorithm, RFC 6298 §3: which of the two was acknowledged?
    let mut t = Table::established();
    t.write(1_000);
    t.now += Duration::from_millis(40);
    give(&mut t, &segment(ACK, 1, 1_001, 0));
    let before = t.conn.info(t.now).rtt;
    t.write(1_000);
    let mut again = Vec::new();
    while again.is_empty() {
        t.now = t.conn.poll_timeout().expect("a timer runs");
        t.conn.on_timeout(t.now);
        again = sent(&mut t);
    }
    t.now += Duration::from_secs(2);
    give(&mut t, &segment(ACK, 1, 2_001, 0));
    assert_eq!(t.conn.unacked(), 0);
    assert_eq!(t.conn.info(t.now).rtt, before);
}

#[test]
fn after_a_lost_syn_the_first_time_out_is_three_seconds_without_a_sample() {
    // RFC 6298 §5.7. Without timestamps the SYN that was sent twice gives no sample.
    let config = Arc::new(Config { timestamps: false, ..Config::default() });
    let mut now = Instant::from_millis(5_000);
    let options = SocketOptions::new(&config);
    let path = Path::new(1500, false);
    let mut opening = Opening::new(
        now,
        SeqNum::new(ISS),
        0,
        path,
        Setup { options: &options, config: &config, pool: &Pool::new() },
    );
    opening.on_transmitted();
    now = opening.poll_timeout().unwrap();
    assert!(opening.on_timeout(now).is_none());
    opening.on_transmitted();
    let mut syn_ack = segment(Flags::SYN.with(ACK), 0, 1, 0);
    syn_ack.options.mss = Some(1460);
    let OpeningStep::Established(conn, _) = opening.on_segment(now, &syn_ack, Chunk::empty()) else {
        panic!("not established");
    };
    assert_eq!(conn.info(now).rto, Duration::from_secs(3));
}
