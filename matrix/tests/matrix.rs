//! The short list of the matrix: no cell may be worse than the model allows, and a change of any
//! cell has to be reviewed.

#![forbid(unsafe_code)]

use netstack::config::CongestionName;
use netstack_matrix::cell::Cell;
use netstack_matrix::check::Check;
use netstack_matrix::matrix::{self, Snapshots};
use std::thread;

#[test]
fn the_short_list_is_as_good_as_the_model_asks_and_as_it_was() {
    let entries = matrix::all(matrix::quick);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let outcomes = matrix::run(&entries, threads, |_, _| {}).unwrap();
    let failures = Check::read(&Snapshots::directory(), "quick").unwrap().failures(&outcomes);
    assert!(
        failures.is_empty(),
        "if what differs is better:\n\
         cargo run --release -p netstack-matrix --bin netstack-matrix -- --quick --bless\n{}",
        failures.join("\n")
    );
}

#[test]
fn a_transfer_is_the_same_each_time() {
    let entry = matrix::all(matrix::quick)[5];
    let run = || entry.cell.run(entry.congestion).unwrap();
    assert_eq!(run(), run());
}

#[test]
fn a_recovery_that_nothing_was_lost_before_is_no_epoch_of_loss() {
    let cell: Cell = "10000,50000,400,30,0,1".parse().unwrap();
    let outcome = cell.run(CongestionName::BBR).unwrap();
    assert!(outcome.retransmitted > 0 && outcome.lost + outcome.refused == 0, "{outcome:?}");
    assert_eq!(outcome.epochs, 0, "{outcome:?}");
}
