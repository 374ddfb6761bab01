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
    assert_eq!(board.records(), 1);
    let progress = sack(&mut board, 10_500, 20_500);
    assert_eq!(progress.sacked, 9_000, "only whole segments count");
    assert_eq!(board.records(), 3);
    assert_eq!(board.pipe(), 51_000);
}

#[test]
fn sacked_runs_grow_together() {
    let mut board = ten();
    for i in [2, 4, 3, 5] {
        assert_eq!(sack(&mut board, i * 1000, i * 1000 + 1000).sacked, 1000);
    }
    assert_eq!(board.records(), 7);
    assert_eq!(sack(&mut board, 2000, 6000).sacked, 0);
    assert_eq!(board.highest_sacked(), Some(seq(6000)));
}

/// A window of `bytes` in segments of 36 bytes, every second of which is SACKed and the others of which are sent
/// again, each at a time of its own: what a peer can do whose MSS is 48. Gives the records at most, and the records
/// that one acknowledgment inserted on average and at most.
fn shredded(bytes: usize) -> (usize, usize, usize) {
    const SEGMENT: usize = 36;
    let segments = bytes / SEGMENT;
    let mut board = Scoreboard::default();
    board.on_sent(at(0), seq(0), seq(segments * SEGMENT), SEGMENT);
    let (mut records, mut most) = (0, 0);
    for n in 0..segments / 2 {
        let before = board.inserted;
        let now = at(100 + n as u64);
        let newest = sack(&mut board, (2 * n + 1) * SEGMENT, (2 * n + 2) * SEGMENT).newest;
        if let Some(rack) = newest {
            board.mark_lost_before(now, rack, Duration::ZERO);
        }
        if let Some((start, end)) = board.next_lost() {
            board.on_repaired(now, start, end.min(start + SEGMENT), SEGMENT);
        }
        if n % 64 == 0 {
            board.check(seq(0), seq(segments * SEGMENT)).unwrap();
        }
        records = records.max(board.records());
        most = most.max(board.inserted - before);
    }
    (records, board.inserted / (segments / 2), most)
}

#[test]
fn a_tiny_mss_makes_no_more_records_than_a_window_may_have() {
    // CVE-2019-11478. Before there was a limit, 100,000 bytes took 2,778 records.
    for bytes in [10_000, 100_000, 400_000] {
        let (records, average, most) = shredded(bytes);
        let limit = RECORDS_AT_LEAST.max(bytes / BYTES_PER_RECORD);
        assert!(records <= 2 * limit, "{records} records of {bytes} bytes");
        assert!(
            average <= 10 && most <= 40,
            "{average} and at most {most} records inserted by one of {bytes} bytes"
        );
    }
}

#[test]
fn at_the_limit_whole_records_count_and_what_is_sent_again_grows_together() {
    let mut board = Scoreboard::default();
    let segments = 4 * RECORDS_AT_LEAST;
    board.on_sent(at(0), seq(0), seq(100 * segments), 100);
    for n in 0..RECORDS_AT_LEAST / 2 {
        sack(&mut board, 200 * n + 100, 200 * n + 200);
    }
    assert!(board.is_shredded());
    let records = board.records();
    let rest = 100 * RECORDS_AT_LEAST;
    assert_eq!(sack(&mut board, rest + 500, rest + 600).sacked, 0, "it would take two records more");
    assert_eq!(sack(&mut board, rest, 100 * segments).sacked, 100 * segments - rest, "the whole rest is one");
    assert!(board.records() <= records);
    board.check(seq(0), seq(100 * segments)).unwrap();
    // A loss is repaired all the same, at two times.
    let mut board = Scoreboard::default();
    board.on_sent(at(0), seq(0), seq(100 * segments), 100);
    for n in 0..RECORDS_AT_LEAST / 2 {
        sack(&mut board, 200 * n + 10_100, 200 * n + 10_200);
    }
    board.on_timeout(at(50));
    for n in 0..100 {
        let (start, _) = board.next_lost().unwrap();
        board.on_repaired(at(100 + n), start, start + 100, 100);
    }
    assert!(board.records() <= records + 4, "{}", board.records());
    board.check(seq(0), seq(100 * segments)).unwrap();
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
            for (start, record) in board.all() {
                prop_assert_eq!(start, end, "records cover the window without gaps");
                prop_assert!(record.end > start);
                end = record.end;
                match record.fate {
                    Fate::InFlight => flying += record.end.since(start),
                    Fate::Sacked => sacked += record.end.since(start),
                    Fate::Lost => lost += record.end.since(start),
                }
            }
            prop_assert_eq!(end, seq(nxt));
            prop_assert_eq!((board.outstanding(), board.sacked(), board.lost()), (nxt - una, sacked, lost));
            prop_assert_eq!(board.pipe(), flying);
            let highest = board.all().filter(|(_, r)| r.fate == Fate::Sacked).last().map(|(_, r)| r.end);
            prop_assert_eq!(board.highest_sacked(), highest);
            let counted = |fate| board.all().filter(|(_, r)| r.fate == fate).count();
            prop_assert_eq!(board.filed().lost.len(), counted(Fate::Lost));
            prop_assert_eq!(board.filed().by_time.len() + board.fresh.len(), counted(Fate::InFlight));
            prop_assert_eq!(board.check(seq(una), seq(nxt)), Ok(()));
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

#[test]
fn what_is_too_long_is_lost_by_whole_segments_also_behind_a_partial_acknowledgment() {
    let mut board = Scoreboard::default();
    board.on_sent(at(0), seq(0), seq(9_300), 1000);
    board.on_ack(seq(1_500), &mut Progress::default());
    assert_eq!(board.mark_longer_than(800), 7_500, "all but the last, which was short enough");
    assert_eq!(board.next_lost(), Some((seq(1_500), seq(9_000))));
    assert_eq!(board.mark_longer_than(800), 0);
    assert_eq!(board.pipe(), 300);
}

/// One byte in flight, in a model that knows no records.
#[derive(Clone, Copy, Debug)]
struct Byte {
    /// The segment that it was last sent in, or the part of one that has a fate of its own.
    segment: usize,
    sent_at: Instant,
    retransmissions: u16,
    repair: bool,
    fate: Fate,
}

/// What was sent, byte by byte.
#[derive(Default)]
struct Model {
    una: usize,
    bytes: Vec<Byte>,
    segments: usize,
    highest_sacked: Option<usize>,
}

const MSS: usize = 10;

impl Model {
    fn nxt(&self) -> usize {
        self.una + self.bytes.len()
    }

    fn slice(&mut self, from: usize, to: usize) -> &mut [Byte] {
        let una = self.una;
        &mut self.bytes[from - una..to - una]
    }

    /// Numbers for segments that begin at `from`, by position.
    fn number(&mut self, from: usize, to: usize) -> impl Fn(usize) -> usize + use<> {
        let first = self.segments;
        self.segments += (to - from).div_ceil(MSS);
        move |position| first + (position - from) / MSS
    }

    fn send(&mut self, now: Instant, len: usize) {
        let (from, to) = (self.nxt(), self.nxt() + len);
        let number = self.number(from, to);
        self.bytes.extend((from..to).map(|position| Byte {
            segment: number(position),
            sent_at: now,
            retransmissions: 0,
            repair: false,
            fate: Fate::InFlight,
        }));
    }

    fn send_again(&mut self, now: Instant, from: usize, to: usize, repair: bool) {
        let number = self.number(from, to);
        for (n, byte) in self.slice(from, to).iter_mut().enumerate() {
            if byte.fate != Fate::Sacked {
                let retransmissions = byte.retransmissions + 1;
                let segment = number(from + n);
                *byte = Byte { segment, sent_at: now, retransmissions, repair, fate: Fate::InFlight };
            }
        }
    }

    /// What of `from..to` is whole segments and was not SACKed before.
    fn sack(&mut self, from: usize, to: usize) -> Vec<Byte> {
        let una = self.una;
        let mut fresh = Vec::new();
        let mut position = una;
        for segment in self.bytes.chunk_by_mut(|a, b| a.segment == b.segment) {
            let (start, end) = (position, position + segment.len());
            position = end;
            if from <= start && end <= to {
                for byte in segment.iter_mut().filter(|byte| byte.fate != Fate::Sacked) {
                    fresh.push(*byte);
                    byte.fate = Fate::Sacked;
                    self.highest_sacked = self.highest_sacked.max(Some(end));
                }
            }
        }
        fresh
    }

    fn ack(&mut self, una: usize) -> Vec<Byte> {
        let acked = self.bytes.drain(..una - self.una).collect();
        self.una = una;
        acked
    }

    fn lose(&mut self, from: usize, to: usize) {
        for byte in self.slice(from, to).iter_mut().filter(|byte| byte.fate == Fate::InFlight) {
            (byte.fate, byte.repair) = (Fate::Lost, false);
        }
    }

    /// `at` becomes a border.
    fn split(&mut self, at: usize) {
        let index = at - self.una;
        if index == 0
            || index >= self.bytes.len()
            || self.bytes[index - 1].segment != self.bytes[index].segment
        {
            return;
        }
        let (old, new) = (self.bytes[index].segment, self.segments);
        self.segments += 1;
        self.bytes[index..]
            .iter_mut()
            .take_while(|byte| byte.segment == old)
            .for_each(|byte| byte.segment = new);
    }

    /// After a peer has taken back what it SACKed, what was one run of it is as its first part was sent.
    fn take_runs(&mut self, board: &Scoreboard) {
        for (start, record) in board.all() {
            let (from, to) = (start.since(seq(0)), record.end.since(seq(0)));
            let base = record.base;
            let first = self.segments;
            self.segments += to - from + 1;
            for position in from..to {
                let segment = seq(position).since(base) / record.mss();
                let byte = &mut self.slice(position, position + 1)[0];
                byte.segment = first + segment - start.since(base) / record.mss();
                (byte.sent_at, byte.repair) = (record.sent_at, record.repair);
                byte.retransmissions = record.retransmissions;
            }
        }
    }

    fn count(&self, fate: Fate) -> usize {
        self.bytes.iter().filter(|byte| byte.fate == fate).count()
    }
}

fn latest(bytes: &[Byte]) -> Option<Instant> {
    bytes.iter().filter(|byte| byte.fate != Fate::Sacked).map(|byte| byte.sent_at).max()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150.min(ProptestConfig::default().cases), ..ProptestConfig::default() })]

    #[test]
    fn every_byte_has_the_fate_that_a_model_of_bytes_gives_it(
        steps in prop::collection::vec((0u8..14, 0usize..30, 1usize..12), 1..100)
    ) {
        let (mut board, mut model) = (Scoreboard::default(), Model::default());
        let (mut clock, mut rack) = (0u64, None::<Delivered>);
        for (what, a, b) in steps {
            clock += (a % 3) as u64;
            let now = at(clock);
            let mut progress = Progress::default();
            match what {
                0..=2 => {
                    let from = model.nxt();
                    model.send(now, 7 * b);
                    board.on_sent(now, seq(from), seq(from + 7 * b), MSS);
                }
                3 => {
                    let una = (model.una + 5 * a).min(model.nxt());
                    let any_sacked = model.bytes[..una - model.una].iter().any(|byte| byte.fate == Fate::Sacked);
                    let acked = model.ack(una);
                    board.on_ack(seq(una), &mut progress);
                    let delivered = acked.iter().filter(|byte| byte.fate != Fate::Sacked).count();
                    prop_assert_eq!((progress.acked, progress.delivered), (acked.len(), delivered));
                    prop_assert_eq!(progress.newest.map(|newest| newest.sent_at), latest(&acked));
                    let repaired = acked.iter().any(|byte| byte.retransmissions > 0);
                    prop_assert!(progress.repaired == repaired || any_sacked);
                }
                4..=6 => {
                    let from = (model.una + 6 * a).min(model.nxt());
                    let to = (from + 9 * b).min(model.nxt());
                    let fresh = model.sack(from, to);
                    board.on_sack(seq(from), seq(to), &mut progress);
                    prop_assert_eq!((progress.sacked, progress.delivered), (fresh.len(), fresh.len()));
                    prop_assert_eq!(progress.newest.map(|newest| newest.sent_at), latest(&fresh));
                }
                7 | 8 => {
                    if let Some((from, to)) = board.next_lost() {
                        let (from, to) = (from.since(seq(0)), to.since(seq(0)).min(from.since(seq(0)) + 13));
                        model.send_again(now, from, to, true);
                        board.on_repaired(now, seq(from), seq(to), MSS);
                    }
                }
                9 => {
                    if let Some((from, to)) = board.last_segment(seq(model.nxt())) {
                        model.send_again(now, from.since(seq(0)), to.since(seq(0)), false);
                        board.on_probed(now, from, to, MSS);
                    }
                }
                10 => if let Some(rack) = rack {
                    let window = Duration::from_millis(b as u64);
                    let (mut lost, mut next) = (0, None);
                    for (start, record) in board.all() {
                        let sent_before = (record.sent_at, record.end) < (rack.sent_at, rack.end);
                        if record.fate == Fate::InFlight && sent_before {
                            if record.sent_at + window <= now {
                                model.lose(start.since(seq(0)), record.end.since(seq(0)));
                                lost += record.end.since(start);
                            } else {
                                next = next.max(Some(record.sent_at + window));
                            }
                        }
                    }
                    let found = board.mark_lost_before(now, rack, window);
                    prop_assert_eq!((found.lost, found.next), (lost, next));
                },
                11 => {
                    let until = at(clock.saturating_sub(a as u64));
                    let head = board.front().map(|(start, record)| (start, *record));
                    let reneged = head.is_some_and(|(_, record)| record.fate == Fate::Sacked);
                    if reneged {
                        model.bytes.iter_mut().filter(|byte| byte.fate == Fate::Sacked).for_each(|byte| byte.fate = Fate::Lost);
                        model.highest_sacked = None;
                        model.take_runs(&board);
                    }
                    for byte in model.bytes.iter_mut().filter(|byte| byte.fate == Fate::InFlight && byte.sent_at <= until) {
                        (byte.fate, byte.repair) = (Fate::Lost, false);
                    }
                    if let Some((start, record)) = head {
                        model.lose(start.since(seq(0)), record.end.since(seq(0)));
                    }
                    board.on_timeout(until);
                }
                12 => {
                    model.bytes.iter_mut().filter(|byte| byte.fate == Fate::Lost).for_each(|byte| byte.fate = Fate::InFlight);
                    board.forgive_lost();
                }
                _ => {
                    let head = board.front().map(|(start, record)| (start, *record));
                    if let Some((start, record)) = head.filter(|(_, record)| record.fate == Fate::InFlight) {
                        let (from, to) = (start.since(seq(0)), record.end.since(seq(0)).min(start.since(seq(0)) + b));
                        // The border is there also where another record has it.
                        model.split((from + b).min(model.nxt()));
                        model.lose(from, to);
                        prop_assert_eq!(board.mark_head_lost(b), to - from);
                    } else {
                        prop_assert_eq!(board.mark_head_lost(b), 0);
                    }
                }
            }
            rack = progress.newest.or(rack);
            let mut position = model.una;
            for (start, record) in board.all() {
                prop_assert_eq!(start.since(seq(0)), position, "no gap");
                position = record.end.since(seq(0));
                for byte in &model.bytes[start.since(seq(0)) - model.una..position - model.una] {
                    prop_assert_eq!(byte.fate, record.fate);
                    let same = (byte.sent_at, byte.retransmissions) == (record.sent_at, record.retransmissions);
                    prop_assert!(same || record.fate == Fate::Sacked, "{:?} {:?}", byte, record);
                }
            }
            prop_assert_eq!(position, model.nxt());
            let counts = (model.count(Fate::InFlight), model.count(Fate::Sacked), model.count(Fate::Lost));
            prop_assert_eq!((board.pipe(), board.sacked(), board.lost()), counts);
            let repairing = model.bytes.iter().filter(|byte| byte.fate == Fate::InFlight && byte.repair).count();
            prop_assert_eq!(board.retransmitted(), repairing);
            let lost = model.bytes.iter().position(|byte| byte.fate == Fate::Lost).map(|at| seq(model.una + at));
            prop_assert_eq!(board.next_lost().map(|(from, _)| from), lost);
            prop_assert_eq!(board.highest_sacked(), model.highest_sacked.map(seq).filter(|_| counts.1 > 0));
            prop_assert_eq!(board.head().map(|head| head.sacked), model.bytes.first().map(|byte| byte.fate == Fate::Sacked));
        }
    }
}
