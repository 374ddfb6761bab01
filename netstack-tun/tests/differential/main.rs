//! Differential fuzzing: one to three odd segments into a connection in some state, on netstack and on the
//! kernel of this machine, which must answer alike and leave their sockets alike.
//!
//! `NETSTACK_DIFF_SEEDS=FROM..TO cargo test -p netstack-tun --test differential` runs other seeds than the
//! first hundred; a difference prints its seed and both hosts' answers. What may differ is in `classes.rs`.

mod classes;
mod compare;
mod generator;
mod kernel;
mod ours;
mod peer;
mod script;
mod segment;
mod system;

use classes::{CLASSES, Case, class_of};
use compare::{Difference, Trace, difference, ladder, run};
use kernel::Kernel;
use netstack_tun::netns::isolated_within;
use ours::Ours;
use script::Script;
use std::collections::BTreeMap;
use std::env;
use std::ops::Range;
use std::time::Duration;

/// The seeds that run without being asked for.
const SEEDS: Range<u64> = 0..100;
/// The limit for all seeds.
const TIME_LIMIT: Duration = Duration::from_secs(1_800);
/// A run of the kernel that takes longer may have seen a timer of two ticks expire, and is repeated.
const UNDISTURBED: Duration = Duration::from_millis(6);
/// So many attempts are made to run undisturbed.
const ATTEMPTS: usize = 50;
/// A difference is one that comes in so many undisturbed runs.
const CONFIRMATIONS: usize = 3;

/// The result of a script.
enum Verdict {
    Same,
    /// The machine was too busy.
    Disturbed,
    Different(Difference, Box<(Trace, Trace)>),
}

/// Runs a script on the kernel, with its timers out of the way.
fn undisturbed(script: &Script, kernel: &mut Kernel) -> Option<Trace> {
    (0..ATTEMPTS).map(|_| run(script, kernel)).find(|trace| trace.took < UNDISTURBED)
}

fn judge(script: &Script, kernel: &mut Kernel, ours: &mut Ours) -> Verdict {
    let our_trace = run(script, ours);
    let mut last = None;
    for _ in 0..CONFIRMATIONS {
        let Some(trace) = undisturbed(script, kernel) else { return Verdict::Disturbed };
        match difference(&trace, &our_trace) {
            None => return Verdict::Same,
            Some(found) => last = Some((found, trace)),
        }
    }
    let (found, trace) = last.expect("there are confirmations");
    Verdict::Different(found, Box::new((trace, our_trace)))
}

fn seeds() -> Range<u64> {
    let Ok(text) = env::var("NETSTACK_DIFF_SEEDS") else { return SEEDS };
    let bounds = text.split_once("..").map(|(from, to)| (from.parse(), to.parse()));
    match bounds {
        Some((Ok(from), Ok(to))) => from..to,
        _ => panic!("NETSTACK_DIFF_SEEDS is FROM..TO, not {text}"),
    }
}

#[test]
fn odd_segments_are_answered_as_the_kernel_answers_them() {
    isolated_within(TIME_LIMIT, "odd_segments_are_answered_as_the_kernel_answers_them", || {
        let (mut kernel, mut ours) = (Kernel::new(), Ours::new());
        let (mut same, mut disturbed, mut unknown) = (0, 0, 0);
        let mut known = BTreeMap::<&str, u32>::new();
        for seed in seeds() {
            let script = generator::script(seed);
            match judge(&script, &mut kernel, &mut ours) {
                Verdict::Same => same += 1,
                Verdict::Disturbed => disturbed += 1,
                Verdict::Different(difference, traces) => {
                    let (kernel, ours) = &*traces;
                    let case = Case { script: &script, difference: &difference, kernel, ours };
                    match class_of(&case) {
                        Some(class) => *known.entry(class.name).or_default() += 1,
                        None => {
                            unknown += 1;
                            println!("seed {seed}, {difference:?}: {}", ladder(&script, kernel, ours));
                        }
                    }
                }
            }
        }
        println!("{same} scripts alike, {disturbed} not decided on this busy machine, {unknown} differ");
        known.iter().for_each(|(name, count)| println!("{count:5} {name}"));
        assert_eq!(unknown, 0, "scripts are answered differently; their seeds are above");
        assert!(disturbed * 10 <= same, "{disturbed} scripts could not be run in {UNDISTURBED:?}");
    });
}

#[test]
fn each_known_difference_is_as_described() {
    isolated_within(TIME_LIMIT, "each_known_difference_is_as_described", || {
        let (mut kernel, mut ours) = (Kernel::new(), Ours::new());
        for class in CLASSES {
            let script = (class.example)();
            match judge(&script, &mut kernel, &mut ours) {
                Verdict::Different(difference, traces) => {
                    let (kernel, ours) = &*traces;
                    let case = Case { script: &script, difference: &difference, kernel, ours };
                    let found = class_of(&case).map(|class| class.name);
                    assert_eq!(
                        found,
                        Some(class.name),
                        "{}: {difference:?}\n{}",
                        class.rule,
                        ladder(&script, kernel, ours)
                    );
                }
                Verdict::Same => panic!("{}: there is no such difference any more: {script}", class.name),
                Verdict::Disturbed => println!("{}: not decided on this busy machine", class.name),
            }
        }
    });
}
