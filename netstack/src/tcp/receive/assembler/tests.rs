use super::*;
use crate::wire::SeqNum;
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

fn seq(n: usize) -> Seq {
    Seq::initial(SeqNum::new(u32::MAX - 20)) + n
}

fn bytes(from: usize, to: usize) -> Chunk {
    Chunk::copy_from(&(from..to).map(|i| i as u8).collect::<Vec<_>>())
}

fn blocks(a: &Assembler, max: usize) -> Vec<(usize, usize)> {
    let position = |at: Seq| at.since(seq(0));
    a.latest_runs(max).iter().map(|(start, end)| (position(*start), position(*end))).collect()
}

#[test]
fn the_latest_run_is_reported_first_and_runs_grow_together() {
    let mut a = Assembler::default();
    for (from, to) in [(10, 20), (30, 40), (50, 60), (70, 80), (90, 100)] {
        a.insert(seq(from), bytes(from, to), LIMIT);
    }
    assert_eq!(blocks(&a, 3), [(90, 100), (70, 80), (50, 60)]);
    a.insert(seq(20), bytes(20, 30), LIMIT);
    assert_eq!(blocks(&a, 3), [(10, 40), (90, 100), (70, 80)]);
}

#[test]
fn duplicates_are_reported_and_dropped() {
    let mut a = Assembler::default();
    a.insert(seq(10), bytes(10, 20), LIMIT);
    let twice = a.insert(seq(15), bytes(15, 25), LIMIT);
    assert_eq!(twice, Inserted { new_bytes: 5, duplicate: Some((seq(15), seq(20))) });
    let thrice = a.insert(seq(12), bytes(12, 18), LIMIT);
    assert_eq!(thrice, Inserted { new_bytes: 0, duplicate: Some((seq(12), seq(18))) });
}

#[test]
fn one_byte_segments_stay_within_the_memory_limit() {
    let mut a = Assembler::default();
    for i in 0..10_000 {
        a.insert(seq(2 * i), bytes(0, 1), 64 * 1024);
    }
    assert!(a.truesize() <= 64 * 1024);
    assert!(a.len() >= 400, "the limit leaves room for some: {}", a.len());
}

#[test]
fn a_segment_over_many_holes_fills_a_bounded_number_of_them() {
    // It took 7 ms for 30,000 holes, again and again where memory was short.
    let mut a = Assembler::default();
    for i in 0..10_000 {
        a.insert(seq(2 * i + 1), bytes(0, 1), 64 << 20);
    }
    let large = || Chunk::copy_from(&[9; 20_000]);
    for round in 1..4 {
        let inserted = a.insert(seq(0), large(), 64 << 20);
        assert_eq!(inserted.new_bytes, MOST_HOLES, "of each hole one byte");
        assert_eq!(a.runs.len(), 10_001 - round * MOST_HOLES);
    }
    // Where there is no memory, it ends with the first hole that cannot be filled.
    let held = a.truesize();
    assert_eq!(a.insert(seq(0), large(), held).new_bytes, 0);
    // What is asked of every segment with an old timestamp looks at one run.
    assert!(a.lacks(seq(0), seq(20_000)) && !a.lacks(seq(1), seq(2)) && !a.lacks(seq(5), seq(5)));
}

#[test]
fn drop_before_cuts_a_chunk() {
    let mut a = Assembler::default();
    a.insert(seq(10), bytes(10, 20), LIMIT);
    a.insert(seq(30), bytes(30, 40), LIMIT);
    a.drop_before(seq(15));
    assert_eq!(a.len(), 15);
    assert_eq!(a.pop_at(seq(15)).unwrap().as_slice(), bytes(15, 20).as_slice());
    a.drop_before(seq(100));
    assert!(a.is_empty() && a.is_empty() && a.truesize() == 0);
}

proptest! {
    /// Any order of any overlapping pieces gives the stream back, first copy winning.
    #[test]
    fn pieces_assemble(pieces in prop::collection::vec((0usize..300, 1usize..60), 1..60)) {
        let mut a = Assembler::default();
        let mut model: Vec<Option<u8>> = vec![None; 400];
        for (i, (from, len)) in pieces.iter().enumerate() {
            let piece: Vec<u8> = vec![i as u8; *len];
            let before = model.iter().flatten().count();
            for slot in &mut model[*from..from + len] {
                slot.get_or_insert(i as u8);
            }
            let inserted = a.insert(seq(*from), Chunk::copy_from(&piece), LIMIT);
            prop_assert_eq!(inserted.new_bytes, model.iter().flatten().count() - before);
            prop_assert_eq!(a.len(), model.iter().flatten().count());
        }
        let runs: usize = a.runs.iter().map(|(s, e)| e.since(*s)).sum();
        prop_assert_eq!(runs, a.len());
        for from in 0..400 {
            if model[from].is_some() && (from == 0 || model[from - 1].is_none()) {
                a.drop_before(seq(from));
                let mut got = Vec::new();
                while let Some(chunk) = a.pop_at(seq(from) + got.len()) {
                    got.extend_from_slice(chunk.as_slice());
                }
                let want: Vec<u8> = model[from..].iter().map_while(|b| *b).collect();
                prop_assert_eq!(got, want);
            }
        }
        prop_assert_eq!((a.len(), a.truesize()), (0, 0));
    }

    /// Pieces come and the reader's position moves, as in a connection: every question that can be asked
    /// has the answer that an array of bytes gives.
    #[test]
    fn questions_are_answered_as_by_an_array(
        steps in prop::collection::vec((0u8..5, 0usize..200, 1usize..60, any::<bool>()), 1..60)
    ) {
        const END: usize = 300;
        let mut a = Assembler::default();
        let mut model: Vec<Option<u8>> = vec![None; END + 1];
        let mut next = 0;
        for (i, (what, from, len, pooled)) in steps.into_iter().enumerate() {
            let (from, to) = (from.max(next + 1), (from.max(next + 1) + len).min(END));
            let mut touched = None;
            if what > 0 && from < to {
                let bytes = vec![i as u8; to - from];
                let chunk = if pooled {
                    let mut packet = crate::buffer::Pool::new().take();
                    packet.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
                    packet.into_chunk(0, bytes.len())
                } else {
                    Chunk::copy_from(&bytes)
                };
                let known = (from..to).find(|at| model[*at].is_some());
                let known_end = known.map(|start| (start..to).take_while(|at| model[*at].is_some()).count() + start);
                let new = model[from..to].iter().filter(|byte| byte.is_none()).count();
                let inserted = a.insert(seq(from), chunk, LIMIT);
                prop_assert_eq!(inserted.new_bytes, new);
                prop_assert_eq!(inserted.duplicate, known.zip(known_end).map(|(s, e)| (seq(s), seq(e))));
                let first_new = (from..to).find(|at| model[*at].is_none());
                for byte in &mut model[from..to] {
                    byte.get_or_insert(i as u8);
                }
                touched = Some(first_new.unwrap_or(from));
            } else if what == 0 {
                // Everything up to a position was received in order, and so what is queued there.
                next = from.min(END);
                a.drop_before(seq(next));
                while let Some(chunk) = a.pop_at(seq(next)) {
                    let end = next + chunk.len();
                    prop_assert!(chunk.as_slice().iter().eq(model[next..end].iter().flatten()));
                    next = end;
                }
                prop_assert!(model[next].is_none() || next == END, "a chunk that begins at {} is there", next);
                model[..next].fill(None);
            }
            let runs: Vec<(usize, usize)> = runs_of(&model);
            let run_at = |at: usize| runs.iter().copied().find(|(s, e)| (*s..*e).contains(&at));
            prop_assert_eq!(a.len(), model.iter().flatten().count());
            prop_assert_eq!(a.is_empty(), runs.is_empty());
            prop_assert_eq!(a.highest(), runs.last().map(|(_, end)| seq(*end)));
            for at in (next..END).step_by(7) {
                let wire = |(s, e): (usize, usize)| (seq(s), seq(e));
                prop_assert_eq!(a.containing(seq(at)), run_at(at).map(wire));
                let ending = runs.iter().copied().rfind(|(s, e)| *s <= at && at <= *e);
                prop_assert_eq!(a.ending_after(seq(at)), ending.map(wire));
                let before = runs.first().filter(|(s, _)| *s < at).map(|(s, e)| (*s, at.min(*e)));
                prop_assert_eq!(a.first_before(seq(at)), before.map(wire));
                let lacks = model[at..(at + 20).min(END)].iter().any(Option::is_none);
                prop_assert_eq!(a.lacks(seq(at), seq((at + 20).min(END))), lacks);
            }
            for max in 0..=4 {
                let blocks = blocks(&a, max);
                prop_assert_eq!(blocks.len(), max.min(runs.len()));
                prop_assert!(blocks.iter().all(|block| runs.contains(block)), "whole runs");
                prop_assert!((1..blocks.len()).all(|n| !blocks[..n].contains(&blocks[n])), "each once");
                if let (Some(at), Some(first)) = (touched, blocks.first()) {
                    prop_assert_eq!(Some(*first), run_at(at), "the latest first");
                }
            }
        }
    }

    /// Where memory is short, what is kept is right and within the limit.
    #[test]
    fn the_limit_holds_and_what_is_kept_is_right(
        pieces in prop::collection::vec((0usize..300, 1usize..60), 1..60), limit in 0usize..4_000
    ) {
        let mut a = Assembler::default();
        for (from, len) in pieces {
            let before = a.len();
            let inserted = a.insert(seq(from), bytes(from, from + len), limit);
            prop_assert!(a.truesize() <= limit);
            prop_assert_eq!(a.len(), before + inserted.new_bytes);
        }
        let mut at = 0;
        while let Some((start, end)) = a.runs.first_key_value().map(|(start, end)| (*start, *end)) {
            prop_assert!(start.since(seq(0)) >= at);
            at = start.since(seq(0));
            while let Some(chunk) = a.pop_at(seq(at)) {
                let wanted = bytes(at, at + chunk.len());
                prop_assert_eq!(chunk.as_slice(), wanted.as_slice());
                at += chunk.len();
            }
            prop_assert_eq!(seq(at), end);
        }
        prop_assert_eq!((a.len(), a.truesize()), (0, 0));
    }
}

/// The runs of known bytes.
fn runs_of(model: &[Option<u8>]) -> Vec<(usize, usize)> {
    let mut runs = Vec::new();
    for (at, byte) in model.iter().enumerate() {
        if byte.is_some() {
            match runs.last_mut() {
                Some((_, end)) if *end == at => *end = at + 1,
                _ => runs.push((at, at + 1)),
            }
        }
    }
    runs
}
