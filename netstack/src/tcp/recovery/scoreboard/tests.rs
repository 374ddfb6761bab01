use super::*;
use crate::time::Duration;
use crate::wire::SeqNum;
use proptest::prelude::*;

fn seq(n: usize) -> Seq {
    Seq::initial(SeqNum::new(u32::MAX - 5000)) + n
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// Ten segments of 1,000 bytes, a millisecond apart.
fn ten() -> Scoreboard {
    let mut board = Scoreboard::default();
    for i in 0..10 {
        board.on_sent(at(i as u64), seq(i * 1000), seq(i * 1000 + 1000), 1000);
    }
    board
}

fn sack(board: &mut Scoreboard, from: usize, to: usize) -> Progress {
    let mut progress = Progress::default();
    board.on_sack(seq(from), seq(to), &mut progress);
    progress
}

#[test]
fn a_burst_is_one_record_and_sack_splits_it_at_segments() {
    let mut board = Scoreboard::default();
    board.on_sent(at(0), seq(0), seq(30_000), 1000);
    board.on_sent(at(0), seq(30_000), seq(60_000), 1000);
    assert_eq!(board.records.len(), 1);
    let progress = sack(&mut board, 10_500, 20_500);
    assert_eq!(progress.sacked, 9_000, "only whole segments count");
    assert_eq!(board.records.len(), 3);
    assert_eq!(board.pipe(), 51_000);
}

#[test]
fn sacked_runs_grow_together() {
    let mut board = ten();
    for i in [2, 4, 3, 5] {
        assert_eq!(sack(&mut board, i * 1000, i * 1000 + 1000).sacked, 1000);
    }
    assert_eq!(board.records.len(), 7);
    assert_eq!(sack(&mut board, 2000, 6000).sacked, 0);
    assert_eq!(board.highest_sacked(), Some(seq(6000)));
}

#[test]
fn acknowledging_counts_sacked_bytes_once() {
    let mut board = ten();
    sack(&mut board, 1000, 3000);
    let mut progress = Progress::default();
    board.on_ack(seq(4000), &mut progress);
    assert_eq!((progress.acked, progress.delivered), (4000, 2000));
    assert_eq!(progress.newest.unwrap().end, seq(4000));
    assert_eq!(progress.clean_acked, Some((at(0), at(3))));
    assert_eq!((progress.clean_sacked, progress.lowest_original), (None, Some((seq(0), at(0)))));
    assert_eq!((board.outstanding(), board.sacked()), (6000, 0));
}

#[test]
fn rack_marks_what_was_sent_before_and_is_late() {
    let mut board = ten();
    let rack = sack(&mut board, 5000, 6000).newest.unwrap();
    let found = board.mark_lost_before(at(22), rack, Duration::from_millis(20));
    assert_eq!((found.lost, found.again), (3000, false), "sent at 0, 1 and 2 ms, and 20 ms ago");
    assert_eq!(found.next, Some(at(24)), "when the last of those that wait is due");
    assert_eq!(board.next_lost(), Some((seq(0), seq(1000))));
    board.on_repaired(at(22), seq(0), seq(500), 1000);
    assert_eq!(board.next_lost(), Some((seq(500), seq(1000))));
    assert_eq!((board.lost(), board.retransmitted()), (2500, 500));
    board.forgive_lost();
    assert_eq!((board.lost(), board.retransmitted(), board.next_lost()), (0, 500, None));
}

#[test]
fn an_acknowledgment_inside_a_segment_moves_no_border() {
    let mut board = Scoreboard::default();
    board.on_sent(at(0), seq(0), seq(10_000), 1000);
    board.on_ack(seq(1300), &mut Progress::default());
    assert_eq!(sack(&mut board, 3000, 5000).sacked, 2000);
    assert_eq!(sack(&mut board, 1300, 2000).sacked, 700, "what is left of a segment is one");
    assert_eq!(sack(&mut board, 6300, 7300).sacked, 0);
}

#[test]
fn the_last_segment_takes_the_fin_with_it() {
    let mut board = Scoreboard::default();
    board.on_sent(at(0), seq(0), seq(2501), 1000);
    assert_eq!(board.last_segment(seq(2500)), Some((seq(2000), seq(2501))));
    board.on_ack(seq(2000), &mut Progress::default());
    assert!(board.is_one_segment());
    let mut board = Scoreboard::default();
    board.on_sent(at(0), seq(0), seq(2001), 1000);
    assert_eq!(board.last_segment(seq(2000)), Some((seq(1000), seq(2001))));
    board.on_ack(seq(2000), &mut Progress::default());
    assert_eq!(board.last_segment(seq(2000)), Some((seq(2000), seq(2001))), "the FIN alone");
}

#[test]
fn a_timeout_loses_all_but_what_was_sent_just_now() {
    let mut board = ten();
    sack(&mut board, 2000, 3000);
    board.on_timeout(at(7));
    assert_eq!(board.lost(), 7000);
    assert_eq!(board.pipe(), 2000);
}

#[test]
fn a_reneging_peers_sacks_are_forgotten() {
    let mut board = ten();
    sack(&mut board, 0, 3000);
    board.on_timeout(at(100));
    assert_eq!((board.sacked(), board.lost()), (0, 10_000));
}

proptest! {
    #[test]
    fn the_sums_agree_with_the_records(
        steps in prop::collection::vec((0u8..5, 0usize..40, 1usize..12), 1..120)
    ) {
        let mut board = Scoreboard::default();
        let (mut una, mut nxt, mut clock) = (0usize, 0usize, 0u64);
        for (what, a, b) in steps {
            clock += 1;
            match what {
                0 => {
                    board.on_sent(at(clock / 2), seq(nxt), seq(nxt + b * 70), 100);
                    nxt += b * 70;
                }
                1 => {
                    una = (una + a * 50).min(nxt);
                    board.on_ack(seq(una), &mut Progress::default());
                }
                2 => {
                    let from = (una + a * 60).min(nxt);
                    let to = (from + b * 90).min(nxt);
                    board.on_sack(seq(from), seq(to), &mut Progress::default());
                }
                3 => {
                    if let Some((from, to)) = board.next_lost() {
                        board.on_repaired(at(clock), from, to.min(from + 130), 100);
                    }
                }
                _ => board.on_timeout(at(clock.saturating_sub(a as u64))),
            }
            let mut end = seq(una);
            let (mut sacked, mut lost, mut flying) = (0, 0, 0);
            for (start, record) in &board.records {
                prop_assert_eq!(*start, end, "records cover the window without gaps");
                prop_assert!(record.end > *start);
                end = record.end;
                match record.fate {
                    Fate::InFlight => flying += record.end.since(*start),
                    Fate::Sacked => sacked += record.end.since(*start),
                    Fate::Lost => lost += record.end.since(*start),
                }
            }
            prop_assert_eq!(end, seq(nxt));
            prop_assert_eq!((board.outstanding(), board.sacked(), board.lost()), (nxt - una, sacked, lost));
            prop_assert_eq!(board.pipe(), flying);
            let highest = board.records.values().rev().find(|r| r.fate == Fate::Sacked).map(|r| r.end);
            prop_assert_eq!(board.highest_sacked(), highest);
            prop_assert_eq!(board.lost.len(), board.records.values().filter(|r| r.fate == Fate::Lost).count());
            prop_assert_eq!(board.by_time.len(), board.records.values().filter(|r| r.fate == Fate::InFlight).count());
        }
    }
}

#[test]
fn what_a_retransmission_overtook_is_lost_but_for_one_tick() {
    let mut board = ten();
    sack(&mut board, 1000, 3000);
    assert_eq!(board.mark_refused(at(6)), (3000, false), "what left at 0, 3 and 4 ms");
    assert_eq!((board.lost(), board.next_lost()), (3000, Some((seq(0), seq(1000)))));
    board.on_repaired(at(20), seq(0), seq(1000), 1000);
    assert_eq!(board.mark_refused(at(22)), (6000, true), "a retransmission among them");
}
