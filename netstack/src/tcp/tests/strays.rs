//! Segments out of place, as the kernel answers them: what the differential fuzz in `netstack-tun` has found.

use super::table::{IRS, ISS, Table, segment};
use crate::buffer::{Chunk, Pool};
use crate::reasons::DropReason;
use crate::tcp::{
    Opening, OpeningStep, Path, Setup, SocketOptions, State, SynEntry, SynParts, SynRetries, SynStep,
};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Options, Segment, SeqNum, Timestamps};

const ACK: Flags = Flags::ACK;
const NONE: Flags = Flags::from_bits(0);

fn fin() -> Flags {
    Flags::FIN.with(ACK)
}

/// A connection with SACK and timestamps, the latest of which is 5000.
fn with_options() -> Table {
    Table::established_with(Options {
        mss: Some(1000),
        sack_permitted: true,
        timestamps: Some(Timestamps { tsval: 5_000, tsecr: 0 }),
        ..Options::default()
    })
}

fn stamped(tsval: u32, mut seg: Segment) -> Segment {
    seg.options.timestamps = Some(Timestamps { tsval, tsecr: 0 });
    seg
}

/// Gives the connection a segment. What it sends: its SACK blocks, relative, and the time that it echoes.
fn answer(t: &mut Table, seg: Segment) -> Vec<(Vec<i32>, u32)> {
    let payload = Chunk::copy_from(&vec![1; seg.payload_len]);
    t.conn.on_segment(t.now, &seg, payload);
    let mut answers = Vec::new();
    while let Some(transmit) = t.conn.poll_transmit(t.now, 0) {
        let options = &transmit.segment.options;
        let edges = options.sack.iter().flat_map(|block| [block.start, block.end]);
        let edges = edges.map(|edge| (edge - SeqNum::new(IRS)) as i32).collect();
        answers.push((edges, options.timestamps.map_or(0, |ts| ts.tsecr)));
        t.conn.on_transmitted(t.now, &transmit);
    }
    answers
}

#[test]
fn what_has_neither_ack_nor_syn_nor_rst_is_not_answered() {
    for state in [
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
    ] {
        for flags in [NONE, Flags::FIN, Flags::PSH, Flags::URG.with(Flags::FIN)] {
            for at in [-100, 0, 200_000] {
                let (mut t, peer, _) = Table::in_state(state);
                assert!(t.input(segment(flags, peer + at, 1, 10)).is_empty(), "{state} {flags:?} {at}");
                assert_eq!((t.conn.state(), t.conn.unread()), (state, 0));
            }
        }
    }
    let mut t = with_options();
    assert!(answer(&mut t, stamped(1, segment(Flags::FIN, 1, 1, 0))).is_empty(), "an old timestamp");
}

#[test]
fn acknowledgments_that_were_overtaken_are_no_old_duplicates() {
    // What has an old timestamp is answered, but for acknowledgments alone.
    for (what, tsval, seg, answers) in [
        ("text", 4_990, segment(ACK, 1, 1, 10), 1),
        ("before RCV.NXT", 4_990, segment(ACK, 0, 1, 0), 0),
        ("behind RCV.NXT", 4_990, segment(ACK, 2, 1, 0), 1),
        ("long ago", 1, segment(ACK, 1, 1, 0), 1),
        ("before RCV.NXT and long ago", 1, segment(ACK, -100, 1, 0), 0),
    ] {
        let mut t = with_options();
        assert_eq!(answer(&mut t, stamped(tsval, seg)).len(), answers, "{what}");
        assert_eq!(t.conn.unread(), 0);
    }
    // In its place and only a little late: a duplicate acknowledgment like any other.
    let mut t = with_options();
    let seg = stamped(4_990, segment(ACK, 1, 1, 0));
    assert_eq!(t.conn.on_segment(t.now, &seg, Chunk::empty()), None);
    // It has news of the window: that may be old.
    let news = stamped(4_990, Segment { window: 31_000, ..segment(ACK, 1, 1, 0) });
    let dropped = t.conn.on_segment(t.now, &news, Chunk::empty());
    assert_eq!(dropped, Some(DropReason::TcpRfc7323Paws));
}

#[test]
fn a_timestamp_may_be_one_tick_late() {
    let mut t = with_options();
    answer(&mut t, stamped(4_999, segment(ACK, 1, 1, 10)));
    assert_eq!(t.conn.unread(), 10);
    answer(&mut t, stamped(4_998, segment(ACK, 11, 1, 10)));
    assert_eq!(t.conn.unread(), 10);
}

#[test]
fn a_duplicate_is_reported_whatever_is_wrong_with_it_besides() {
    let mut t = with_options();
    answer(&mut t, stamped(5_001, segment(ACK, 1, 1, 100)));
    // With an old timestamp; reaching beyond RCV.NXT; a FIN alone, and with text.
    for (tsval, seg, block) in [
        (4_000, segment(ACK, 51, 1, 50), [51, 101]),
        (4_000, segment(ACK, 51, 1, 500), [51, 101]),
        (5_002, segment(fin(), -300, 1, 0), [-300, -299]),
        (5_002, segment(fin(), -300, 1, 20), [-300, -279]),
        (5_001, segment(fin(), 100, 1, 0), [100, 101]),
    ] {
        assert_eq!(answer(&mut t, stamped(tsval, seg)), [(block.to_vec(), 5_001)], "{block:?}");
    }
    assert_eq!((t.conn.state(), t.conn.unread()), (State::Established, 100));
}

#[test]
fn an_old_acknowledgment_does_not_move_the_timestamp() {
    let mut t = with_options();
    t.conn.write(t.now, &[std::io::IoSlice::new(&[7; 500])], false).unwrap();
    answer(&mut t, stamped(5_001, segment(ACK, 1, 1, 0)));
    answer(&mut t, stamped(5_002, segment(ACK, 1, 501, 0)));
    let old = answer(&mut t, stamped(6_000, segment(ACK, 0, 101, 1)));
    assert_eq!(old, [(vec![0, 1], 5_002)]);
    let new = answer(&mut t, stamped(6_000, segment(ACK, 0, 501, 1)));
    assert_eq!(new, [(vec![0, 1], 6_000)]);
}

#[test]
fn an_orphan_does_not_wait_for_text_that_nobody_reads() {
    // Its FIN is acknowledged by a segment that says that there is more to come, or was.
    for (seq, flags, len) in [(100, fin(), 0), (1, ACK, 10), (100, ACK, 10)] {
        let mut t = Table::established();
        t.conn.close(t.now);
        t.output();
        assert_eq!(t.input(segment(flags, seq, 2, len)), ["RST 2/- 0"], "{seq} {flags:?} {len}");
        assert_eq!(t.conn.state(), State::Closed);
    }
    let mut t = Table::established();
    t.conn.close(t.now);
    t.output();
    assert_eq!(t.input(segment(fin(), 1, 2, 0)), ["ACK 2/2 0"]);
    assert_eq!(t.conn.state(), State::TimeWait);
}

#[test]
fn a_half_open_connection_always_answers_text() {
    // As the limit is there for answers to answers, and those have no text.
    let config = super::pair::config();
    let options = SocketOptions::new(&config);
    let parts = SynParts { ts_offset: 0, path: Path::new(1500, false), options: &options, config: &config };
    let now = Instant::from_millis(5_000);
    let mut entry = SynEntry::new(now, &segment(Flags::SYN, 0, 0, 0), SeqNum::new(ISS), parts);
    let mut answered = |flags, len| {
        let seg = segment(flags, -500, 1, len);
        let step = entry.on_segment(now, &seg, SynRetries::new(&config), &config);
        matches!(step, SynStep::Acknowledge(..))
    };
    assert!(answered(ACK, 0));
    assert!(!answered(ACK, 0));
    assert!(answered(ACK, 10) && answered(fin(), 0));
    assert!(!answered(Flags::SYN, 10), "a SYN may be an answer");
}

#[test]
fn a_half_open_connection_takes_a_reset_by_its_sequence_number() {
    let config = super::pair::config();
    let options = SocketOptions::new(&config);
    let parts = SynParts { ts_offset: 0, path: Path::new(1500, false), options: &options, config: &config };
    let now = Instant::from_millis(5_000);
    for (seq, removes) in [(1, true), (2, false)] {
        let mut entry = SynEntry::new(now, &segment(Flags::SYN, 0, 0, 0), SeqNum::new(ISS), parts);
        // What it acknowledges was never sent.
        let reset = segment(Flags::RST.with(ACK), seq, 900, 0);
        match entry.on_segment(now, &reset, SynRetries::new(&config), &config) {
            SynStep::Remove => assert!(removes),
            SynStep::Acknowledge(..) => assert!(!removes),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_acknowledgment_stays_in_a_window_that_shrank() {
    let mut t = Table::established();
    assert_eq!(t.write(500), ["PSH,ACK 1/1 500"]);
    let shrunk = Segment { window: 100, ..segment(ACK, 1, 1, 10) };
    t.input(Segment { window: 0, ..segment(ACK, 1, 1, 0) });
    assert_eq!(t.input(shrunk), ["ACK 101/11 0"]);
}

#[test]
fn syns_that_crossed_wait_for_what_is_acceptable() {
    let config = super::pair::config();
    let options = SocketOptions::new(&config);
    let pool = Pool::new();
    let setup = || Setup { options: &options, config: &config, pool: &pool };
    let now = Instant::from_millis(5_000);
    let crossed = || {
        let mut opening = Opening::new(now, SeqNum::new(ISS), 0, Path::new(1500, false), setup());
        opening.on_transmitted();
        let step = opening.on_segment(now, &segment(Flags::SYN, 0, 0, 0), Chunk::empty());
        assert!(matches!(step, OpeningStep::Stay));
        opening.on_transmitted();
        opening
    };
    // RFC 9293 §3.10.7.4: what is not acceptable, or might be forged, is answered by an acknowledgment.
    for (flags, seq) in
        [(ACK, -100), (ACK, 100_000), (Flags::SYN, 5), (Flags::SYN.with(ACK), 1), (Flags::RST, 5)]
    {
        let mut opening = crossed();
        let seg = segment(flags, seq, 1, 0);
        let step = opening.on_segment(now, &seg, Chunk::empty());
        assert!(matches!(step, OpeningStep::Ignore(_)), "{step:?}");
        let ack = opening.poll_transmit(now).expect("an answer");
        opening.on_transmitted();
        assert_eq!((ack.flags, ack.seq, ack.ack), (ACK, SeqNum::new(ISS + 1), SeqNum::new(IRS) + 1));
        opening.on_segment(now, &seg, Chunk::empty());
        assert_eq!(opening.poll_transmit(now), None, "RFC 5961 §7");
        let later = now + Duration::from_secs(1);
        let step = opening.on_segment(later, &segment(ACK, 1, 1, 0), Chunk::empty());
        assert!(matches!(step, OpeningStep::Established(..)));
    }
    let mut opening = crossed();
    let step = opening.on_segment(now, &segment(Flags::RST, 100_000, 0, 0), Chunk::empty());
    assert!(matches!(step, OpeningStep::Ignore(DropReason::TcpReset)), "{step:?}");
    // The peer had begun to connect: it is not one who refuses.
    let step = opening.on_segment(now, &segment(Flags::RST, 1, 0, 0), Chunk::empty());
    assert!(matches!(step, OpeningStep::ResetByPeer), "{step:?}");
}

#[test]
fn syns_that_crossed_know_old_duplicates_by_their_timestamps() {
    let config = super::pair::config();
    let options = SocketOptions::new(&config);
    let pool = Pool::new();
    let now = Instant::from_millis(5_000);
    let setup = Setup { options: &options, config: &config, pool: &pool };
    let mut opening = Opening::new(now, SeqNum::new(ISS), 0, Path::new(1500, false), setup);
    opening.on_transmitted();
    opening.on_segment(now, &stamped(5_000, segment(Flags::SYN, 0, 0, 0)), Chunk::empty());
    opening.on_transmitted();
    // RFC 7323 §5.3 R1: what is old is acknowledged, and not looked at any further.
    let step = opening.on_segment(now, &stamped(3_000, segment(ACK, 1, 1, 10)), Chunk::empty());
    assert!(matches!(step, OpeningStep::Ignore(DropReason::TcpRfc7323Paws)), "{step:?}");
    let ack = opening.poll_transmit(now).expect("an answer");
    assert_eq!((ack.flags, ack.ack), (ACK, SeqNum::new(IRS) + 1));
    opening.on_transmitted();
    // An acknowledgment that others have overtaken wants no answer.
    let later = now + Duration::from_secs(1);
    let step = opening.on_segment(later, &stamped(3_000, segment(ACK, 0, 1, 0)), Chunk::empty());
    assert!(matches!(step, OpeningStep::Ignore(DropReason::TcpRfc7323Paws)), "{step:?}");
    assert_eq!(opening.poll_transmit(later), None);
    // As in Linux one tick is forgiven.
    let step = opening.on_segment(later, &stamped(4_999, segment(ACK, 1, 1, 0)), Chunk::empty());
    assert!(matches!(step, OpeningStep::Established(..)), "{step:?}");
}
