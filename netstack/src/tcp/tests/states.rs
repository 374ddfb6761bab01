//! Segment in, state and segment out, for every state of a connection.

use super::table::{Table, segment};
use crate::readiness::Events;
use crate::reasons::DropReason;
use crate::tcp::{State, TcpError};
use crate::time::Duration;
use crate::wire::{Flags, Options, SackBlock, SeqNum, Timestamps};

const ACK: Flags = Flags::ACK;
const SYNCHRONIZED: [State; 6] =
    [State::Established, State::FinWait1, State::FinWait2, State::CloseWait, State::Closing, State::LastAck];

fn rst() -> Flags {
    Flags::RST
}

fn fin() -> Flags {
    Flags::FIN.with(ACK)
}

/// What answers a segment that is out of place, in a state with our next number `ours` and the
/// peer's `peer`.
fn challenge(peer: i64, ours: i64) -> Vec<String> {
    vec![format!("ACK {ours}/{peer} 0")]
}

#[test]
fn a_reset_at_rcv_nxt_ends_every_state() {
    for state in SYNCHRONIZED {
        let (mut t, peer, _) = Table::in_state(state);
        assert!(t.input(segment(rst(), peer, 0, 0)).is_empty());
        assert_eq!(t.conn.state(), State::Closed, "{state}");
        assert!(t.conn.take_events().contains(Events::HANGUP | Events::ERROR));
        let error = if state == State::CloseWait { TcpError::BrokenPipe } else { TcpError::Reset };
        assert_eq!(t.conn.take_error(), Some(error), "{state}");
        assert_eq!(t.conn.poll_timeout(), None, "no timer is left");
    }
}

#[test]
fn a_reset_elsewhere_in_the_window_is_challenged_and_outside_ignored() {
    for state in SYNCHRONIZED {
        let (mut t, peer, ours) = Table::in_state(state);
        assert_eq!(t.input(segment(rst(), peer + 100, 0, 0)), challenge(peer, ours), "{state}");
        t.now += Duration::from_secs(1);
        assert!(t.input(segment(rst(), peer + 200_000, 0, 0)).is_empty());
        assert!(t.input(segment(rst(), peer - 100, 0, 0)).is_empty());
        assert_eq!(t.conn.state(), state);
    }
}

#[test]
fn linux_accepts_a_reset_just_before_the_fin_that_was_taken() {
    for state in [State::CloseWait, State::Closing, State::LastAck] {
        let (mut t, peer, _) = Table::in_state(state);
        t.input(segment(rst(), peer - 1, 0, 0));
        assert_eq!(t.conn.state(), State::Closed, "{state}");
    }
}

#[test]
fn a_syn_is_challenged_wherever_it_is() {
    for state in SYNCHRONIZED {
        for at in [0, 1, 100, -5_000, 500_000] {
            for flags in [Flags::SYN, Flags::SYN.with(ACK)] {
                let (mut t, peer, ours) = Table::in_state(state);
                assert_eq!(t.input(segment(flags, peer + at, 1, 0)), challenge(peer, ours), "{state} {at}");
                assert_eq!(t.conn.state(), state);
            }
        }
    }
}

#[test]
fn challenges_are_limited_in_rate() {
    let (mut t, peer, ours) = Table::in_state(State::Established);
    assert_eq!(t.input(segment(Flags::SYN, peer, 0, 0)), challenge(peer, ours));
    assert!(t.input(segment(Flags::SYN, peer, 0, 0)).is_empty());
    t.now += Duration::from_millis(499);
    assert!(t.input(segment(rst(), peer + 9, 0, 0)).is_empty());
    t.now += Duration::from_millis(1);
    assert_eq!(t.input(segment(rst(), peer + 9, 0, 0)), challenge(peer, ours));
}

#[test]
fn acks_of_what_was_never_sent_or_long_ago_are_challenged() {
    for state in SYNCHRONIZED {
        for ack in [50_000, 1, -2, -1_000, -100_000] {
            for len in [0, 10] {
                let (mut t, peer, ours) = Table::in_state(state);
                let una = t.conn.info(t.now).bytes_acked;
                assert_eq!(
                    t.input(segment(ACK, peer, ours + ack, len)),
                    challenge(peer, ours),
                    "{state} {ack} {len}"
                );
                assert_eq!((t.conn.state(), t.conn.unread()), (state, 0));
                assert_eq!(t.conn.info(t.now).bytes_acked, una);
                // RFC 5961 §7.
                assert!(t.input(segment(ACK, peer, ours + ack, len)).is_empty());
            }
        }
    }
}

#[test]
fn an_old_ack_is_believed_as_far_as_something_was_acknowledged() {
    for (acked, ack, counts) in
        [(500, 1, true), (500, 0, false), (60_000, 30_001, true), (60_000, 30_000, false)]
    {
        let mut t = Table::established();
        while t.conn.info(t.now).bytes_acked < acked {
            t.write(500);
            let at = t.conn.info(t.now).bytes_acked as i64 + 501;
            t.input(segment(ACK, 1, at, 0));
        }
        t.input(segment(ACK, 1, ack, 10));
        // The window that was offered is 30,000 bytes.
        assert_eq!(t.conn.unread(), if counts { 10 } else { 0 }, "{acked} {ack}");
    }
}

#[test]
fn a_segment_without_ack_is_dropped() {
    for state in SYNCHRONIZED {
        let (mut t, peer, _) = Table::in_state(state);
        assert!(t.input(segment(Flags::default(), peer, 0, 10)).is_empty(), "{state}");
        assert_eq!((t.conn.unread(), t.conn.state()), (0, state));
    }
}

#[test]
fn data_is_taken_where_the_peer_may_send() {
    for state in SYNCHRONIZED {
        let (mut t, peer, ours) = Table::in_state(state);
        let taken = matches!(state, State::Established | State::FinWait1 | State::FinWait2);
        // In FIN-WAIT-1 our FIN stays unacknowledged.
        let ack =
            if matches!(state, State::FinWait1 | State::Closing | State::LastAck) { ours - 1 } else { ours };
        t.input(segment(ACK, peer, ack, 10));
        assert_eq!(t.conn.unread(), if taken { 10 } else { 0 }, "{state}");
        assert_eq!(t.conn.state(), state);
    }
}

#[test]
fn the_peers_fin_moves_on() {
    for (state, next) in [
        (State::Established, State::CloseWait),
        (State::FinWait1, State::Closing),
        (State::FinWait2, State::TimeWait),
    ] {
        let (mut t, peer, ours) = Table::in_state(state);
        let ack = if state == State::FinWait1 { ours - 1 } else { ours };
        t.input(segment(fin(), peer, ack, 0));
        assert_eq!(t.conn.state(), next);
        assert!(t.conn.readiness().contains(Events::READ_CLOSED));
    }
    let (mut t, peer, ours) = Table::in_state(State::FinWait1);
    assert_eq!(t.input(segment(fin(), peer, ours, 0)), [format!("ACK {ours}/{} 0", peer + 1)]);
    assert_eq!(t.conn.state(), State::TimeWait, "one segment brings both");
}

#[test]
fn the_ack_of_our_fin_moves_on() {
    for (state, next) in [
        (State::FinWait1, State::FinWait2),
        (State::Closing, State::TimeWait),
        (State::LastAck, State::Closed),
    ] {
        let (mut t, peer, ours) = Table::in_state(state);
        assert!(t.input(segment(ACK, peer, ours, 0)).is_empty() || next == State::TimeWait);
        assert_eq!(t.conn.state(), next);
    }
}

#[test]
fn a_repeated_fin_is_acknowledged_again() {
    for state in [State::CloseWait, State::Closing, State::LastAck] {
        let (mut t, peer, ours) = Table::in_state(state);
        let ack = if state == State::CloseWait { ours } else { ours - 1 };
        assert_eq!(t.input(segment(fin(), peer - 1, ack, 0)), challenge(peer, ours), "{state}");
        assert_eq!(t.conn.state(), state);
    }
}

#[test]
fn a_closed_connection_answers_with_a_reset() {
    let (mut t, peer, _) = Table::in_state(State::Established);
    t.input(segment(rst(), peer, 0, 0));
    assert_eq!(t.input(segment(ACK, peer, 77, 3)), ["RST 77/- 0"]);
    assert!(t.input(segment(rst(), peer, 0, 0)).is_empty(), "never a reset for a reset");
}

#[test]
fn data_outside_the_window_is_acknowledged_and_dropped() {
    let (mut t, peer, ours) = Table::in_state(State::Established);
    assert_eq!(t.input(segment(ACK, peer + 200_000, ours, 10)), challenge(peer, ours));
    assert_eq!(t.input(segment(ACK, peer - 10, ours, 10)), challenge(peer, ours), "an old duplicate");
    assert_eq!(t.conn.unread(), 0);
}

#[test]
fn a_keepalive_probe_is_answered() {
    let (mut t, peer, ours) = Table::in_state(State::Established);
    assert_eq!(t.input(segment(ACK, peer - 1, ours, 0)), challenge(peer, ours));
    assert_eq!(t.input(segment(ACK, peer - 1, ours, 1)), challenge(peer, ours), "with a garbage byte, too");
}

#[test]
fn out_of_order_data_is_acknowledged_each_time_and_delivered_once_whole() {
    let (mut t, peer, ours) = Table::in_state(State::Established);
    for at in [10, 20, 30] {
        assert_eq!(t.input(segment(ACK, peer + at, ours, 10)), challenge(peer, ours));
    }
    assert_eq!(t.conn.unread(), 0);
    assert_eq!(t.input(segment(ACK, peer, ours, 10)), [format!("ACK {ours}/{} 0", peer + 40)]);
    assert_eq!(t.conn.unread(), 40);
}

#[test]
fn a_fin_beyond_a_hole_waits() {
    let (mut t, peer, ours) = Table::in_state(State::Established);
    assert_eq!(t.input(segment(fin(), peer + 10, ours, 5)), challenge(peer, ours));
    assert_eq!(t.conn.state(), State::Established);
    assert_eq!(t.input(segment(ACK, peer, ours, 10)), [format!("ACK {ours}/{} 0", peer + 16)]);
    assert_eq!(t.conn.state(), State::CloseWait);
    assert_eq!(t.conn.unread(), 15);
}

#[test]
fn paws_drops_old_segments_but_not_resets() {
    let options = Options {
        mss: Some(1000),
        timestamps: Some(Timestamps { tsval: 5_000, tsecr: 0 }),
        ..Options::default()
    };
    let mut t = Table::established_with(options);
    let old = Some(Timestamps { tsval: 4_998, tsecr: 0 });
    let mut data = segment(ACK, 1, 1, 10);
    data.options.timestamps = old;
    assert_eq!(t.input(data), ["ACK 1/1 0"]);
    assert_eq!((t.conn.unread(), t.conn.info(t.now).paws_drops), (0, 1));
    // An unacceptable acknowledgment does not move TS.Recent.
    let mut bad = segment(ACK, 1, 70_000, 0);
    bad.options.timestamps = Some(Timestamps { tsval: 9_000, tsecr: 0 });
    t.input(bad);
    assert!(!t.input(segment(ACK, 1, 1, 10)).is_empty(), "5000 is still new enough");
    assert_eq!(t.conn.unread(), 10);
    // A copy of what was received is dropped as well, and nobody needs it.
    let mut copy = segment(ACK, 1, 1, 10);
    copy.options.timestamps = old;
    t.input(copy);
    assert_eq!(t.conn.info(t.now).paws_drops, 1);
    let mut reset = segment(rst(), 11, 0, 0);
    reset.options.timestamps = old;
    t.input(reset);
    assert_eq!(t.conn.state(), State::Closed);
}

#[test]
fn a_reset_at_the_edge_of_sacked_data_counts_as_in_linux() {
    let options = Options { mss: Some(1000), sack_permitted: true, ..Options::default() };
    let mut t = Table::established_with(options);
    t.input(segment(ACK, 101, 1, 50));
    t.input(segment(rst(), 151, 0, 0));
    assert_eq!(t.conn.state(), State::Closed);
}

#[test]
fn nonsense_sack_blocks_harm_nobody() {
    let options = Options { mss: Some(1000), sack_permitted: true, ..Options::default() };
    let mut t = Table::established_with(options);
    t.write(5_000);
    let block = |from: u32, to: u32| SackBlock {
        start: SeqNum::new(1_000u32.wrapping_add(from)),
        end: SeqNum::new(1_000u32.wrapping_add(to)),
    };
    for (from, to) in [(9_000, 9_500), (4_000, 2_000), (1, 90_000), (0, 0), (1 << 31, 1), (5, 6)] {
        let mut ack = segment(ACK, 1, 1, 0);
        ack.options.sack.push(block(from, to));
        t.input(ack);
        let info = t.conn.info(t.now);
        assert_eq!((info.sacked, info.lost), (0, 0), "{from}..{to}");
    }
}

#[test]
fn a_window_that_shrinks_below_what_is_in_flight_is_survived() {
    let mut t = Table::established();
    assert_eq!(t.write(5_000).len(), 5);
    let mut shrunk = segment(ACK, 1, 1001, 0);
    shrunk.window = 100;
    t.input(shrunk);
    assert!(t.write(1_000).is_empty(), "nothing new while the usable window is negative");
    let lines = t.wait(Duration::from_secs(1));
    assert_eq!(lines, ["ACK 1001/1 1000"], "the head is sent again all the same");
    assert_eq!(t.conn.state(), State::Established);
}

#[test]
fn a_tiny_mss_is_raised_to_the_floor() {
    let mut t = Table::established_with(Options { mss: Some(1), ..Options::default() });
    assert_eq!(t.conn.info(t.now).snd_mss, 48);
    assert_eq!(t.write(96).len(), 2);
}

#[test]
fn the_mss_of_a_peer_that_does_not_say_is_536() {
    let t = Table::established_with(Options::default());
    assert_eq!(t.conn.info(t.now).snd_mss, 536);
}

#[test]
fn time_wait_answers_a_repeated_fin_and_ends_by_an_exact_reset() {
    use crate::tcp::TimeWaitStep;
    let (t, peer, ours) = Table::in_state(State::TimeWait);
    let mut record = t.conn.time_wait(t.now);
    let TimeWaitStep::Answer(ack, DropReason::TcpTimewait) =
        record.on_segment(t.now, &segment(fin(), peer - 1, ours, 0))
    else {
        panic!("no answer");
    };
    assert_eq!(ack.ack, segment(ACK, peer, 0, 0).seq);
    assert_eq!(record.deadline() - t.now, Duration::from_secs(60), "two MSL begin anew");
    assert_eq!(
        record.on_segment(t.now, &segment(rst(), peer + 5, 0, 0)),
        TimeWaitStep::Ignore(DropReason::TcpReset)
    );
    assert_eq!(record.on_segment(t.now, &segment(rst(), peer, 0, 0)), TimeWaitStep::Remove);
}

#[test]
fn time_wait_reopens_for_a_newer_syn_only() {
    use crate::tcp::TimeWaitStep;
    let (t, peer, _) = Table::in_state(State::TimeWait);
    let mut record = t.conn.time_wait(t.now);
    let reopened = record.on_segment(t.now, &segment(Flags::SYN, peer + 1, 0, 0));
    assert!(matches!(reopened, TimeWaitStep::Reopen { .. }), "{reopened:?}");
    assert_eq!(record.reuse(t.now + Duration::from_secs(5)), None, "not without timestamps");
}

#[test]
fn time_wait_acknowledges_all_that_is_out_of_place_but_resets() {
    use crate::tcp::TimeWaitStep;
    let none = Flags::default();
    for (flags, at, len, extends) in [
        (Flags::SYN, -1, 0, false),
        (Flags::SYN, 0, 0, false),
        (Flags::SYN, -100_000, 0, false),
        (Flags::SYN, -1, 100, false),
        (Flags::SYN.with(ACK), -1, 0, true),
        (Flags::SYN.with(Flags::FIN), -100, 0, false),
        (Flags::FIN, -1, 0, false),
        (none, -1, 0, false),
        (none, 0, 10, false),
        (Flags::PSH, 90_000, 10, false),
        (ACK, -1, 0, true),
        (ACK, 5, 10, true),
        (fin(), -1, 0, true),
    ] {
        let (mut t, peer, ours) = Table::in_state(State::TimeWait);
        let mut record = t.conn.time_wait(t.now);
        let before = record.deadline();
        t.now += Duration::from_secs(1);
        let step = record.on_segment(t.now, &segment(flags, peer + at, 1, len));
        let TimeWaitStep::Answer(ack, _) = step else { panic!("{flags:?} {at} {len}: {step:?}") };
        let expected = segment(ACK, peer, ours, 0);
        assert_eq!((ack.flags, ack.ack), (ACK, expected.seq));
        assert_eq!(ack.seq, expected.ack);
        // A SYN without ACK may be a new connection's: it does not lengthen what is in its way.
        assert_eq!(record.deadline() > before, extends, "{flags:?} {at} {len}");
        for at in [-1, 5, 100_000] {
            let step = record.on_segment(t.now, &segment(rst(), peer + at, 0, 0));
            assert_eq!(step, TimeWaitStep::Ignore(DropReason::TcpReset));
        }
    }
}

#[test]
fn a_record_limits_its_answers_to_what_carries_no_data() {
    use crate::tcp::TimeWaitStep;
    for (state, seg) in [(State::TimeWait, -1), (State::FinWait2, -100)] {
        let (mut t, peer, ours) = Table::in_state(state);
        if state == State::FinWait2 {
            t.conn.close(t.now);
        }
        let mut record = t.conn.time_wait(t.now);
        assert_eq!(record.state(), state);
        let answered = |record: &mut crate::tcp::TimeWait, segment| {
            matches!(record.on_segment(t.now, &segment), TimeWaitStep::Answer(..))
        };
        assert!(answered(&mut record, segment(ACK, peer + seg, ours, 0)), "{state}");
        assert!(!answered(&mut record, segment(ACK, peer + seg, ours, 0)), "{state}");
        assert!(!answered(&mut record, segment(Flags::SYN, peer + seg, ours, 0)), "{state}");
        assert!(answered(&mut record, segment(ACK, peer + seg, ours, 1)), "{state}: data");
        assert!(answered(&mut record, segment(fin(), peer + seg, ours, 0)), "{state}: a FIN");
    }
}

#[test]
fn a_fin_counts_where_the_stream_comes_to_it() {
    // Each segment: where, how many bytes, whether with FIN. Then how much can be read, and whether the
    // stream has ended.
    type Segments<'a> = &'a [(i64, usize, bool)];
    let cases: [(&str, Segments<'_>, usize, bool); 11] = [
        ("inside queued text", &[(5, 20, false), (10, 0, true), (0, 5, false), (25, 0, true)], 25, true),
        ("with text that is queued", &[(5, 20, false), (7, 3, true), (0, 5, false), (25, 0, true)], 25, true),
        ("text in order passes it", &[(10, 0, true), (0, 25, false)], 25, false),
        ("and the true one follows", &[(10, 0, true), (0, 25, false), (25, 0, true)], 25, true),
        ("text out of order covers it", &[(10, 0, true), (5, 20, false), (0, 5, false)], 25, false),
        ("text covers its segment", &[(5, 5, true), (5, 20, false), (0, 5, false)], 25, false),
        ("text begins within its segment", &[(5, 5, true), (7, 18, false), (0, 5, false)], 10, true),
        ("it reaches into queued text", &[(5, 20, false), (3, 7, true), (0, 5, false)], 10, true),
        ("in order before queued text", &[(5, 20, false), (0, 10, true)], 10, true),
        ("the earlier of two", &[(20, 0, true), (10, 0, true), (0, 10, false)], 10, true),
        ("text behind it", &[(10, 0, true), (15, 5, false), (0, 10, false)], 10, true),
    ];
    for (what, segments, bytes, ended) in cases {
        let (mut t, peer, ours) = Table::in_state(State::Established);
        for (at, len, with_fin) in segments {
            let flags = if *with_fin { fin() } else { ACK };
            t.input(segment(flags, peer + at, ours, *len));
        }
        let state = if ended { State::CloseWait } else { State::Established };
        assert_eq!((t.conn.unread(), t.conn.state()), (bytes, state), "{what}");
        let next = peer + bytes as i64 + i64::from(ended);
        assert_eq!(t.input(segment(ACK, peer - 1, ours, 0)), challenge(next, ours), "{what}");
    }
}

#[test]
fn old_text_is_acknowledged_after_the_peers_fin_too() {
    for state in [State::CloseWait, State::Closing, State::LastAck] {
        // A keep-alive with its byte of garbage, where the FIN was; a retransmission; one that reaches
        // beyond the FIN.
        for (at, len) in [(-1, 1), (-2, 1), (-2, 2), (-1, 100)] {
            let (mut t, peer, ours) = Table::in_state(state);
            let ack = if state == State::CloseWait { ours } else { ours - 1 };
            assert_eq!(
                t.input(segment(ACK, peer + at, ack, len)),
                challenge(peer, ours),
                "{state} {at} {len}"
            );
            assert_eq!((t.conn.state(), t.conn.unread()), (state, 0));
        }
        let (mut t, peer, ours) = Table::in_state(state);
        let ack = if state == State::CloseWait { ours } else { ours - 1 };
        assert!(t.input(segment(ACK, peer, ack, 10)).is_empty(), "{state}: text is ignored (RFC 9293)");
    }
}
