//! The exit status of the command: which results make the check fail, and which do not.

#![forbid(unsafe_code)]

use netstack_matrix::matrix::Snapshots;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A cell that no sender is good enough for. It is not of the matrix, so it cannot be on the list.
const FAULTY: [&str; 4] = ["--congestion", "reno", "--cell", "10000,10000,100,0,5000,1"];

/// The first cell of the matrix and no other.
const FIRST: [&str; 4] = ["--congestion", "reno", "--every", "100000"];

/// A copy of the committed directory for the test called `name`, to be changed.
fn copy(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&directory).unwrap();
    for file in fs::read_dir(Snapshots::directory()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), directory.join(file.file_name())).unwrap();
    }
    directory
}

/// Whether the command succeeds with these snapshots, and what it prints.
fn run(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_netstack-matrix"))
        .arg("--snapshots")
        .arg(directory)
        .args(arguments)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_changed_snapshot_fails_until_it_is_blessed() {
    let directory = copy("changed");
    let (passes, text) = run(&directory, &FIRST);
    assert!(passes, "{text}");
    assert_eq!(text, "reno: 1 cells, 0 faulty, 0 known to fail, 0 recovered, 0 differ\n");

    let file = Snapshots::path(&directory, "reno");
    let committed = fs::read_to_string(&file).unwrap();
    let first = committed.lines().nth(1).unwrap();
    fs::write(&file, committed.replace(first, &format!("{first}1"))).unwrap();
    let (passes, text) = run(&directory, &FIRST);
    assert!(!passes && text.contains("reno,1000,100,10,0,0,1: DIFFERS"), "{text}");

    let (passes, text) = run(&directory, &[&FIRST[..], &["--bless"]].concat());
    assert!(passes, "{text}");
    assert!(fs::read_to_string(&file).unwrap() == committed, "the other cells' snapshots stay");

    fs::write(&file, committed.replace(&format!("{first}\n"), "")).unwrap();
    let (passes, text) = run(&directory, &FIRST);
    assert!(!passes && text.contains("DIFFERS it has no snapshot"), "{text}");
}

#[test]
fn a_faulty_cell_fails_and_so_does_a_lost_list() {
    let directory = copy("faulty");
    fs::write(directory.join("known-failures.txt"), "").unwrap();
    let (passes, text) = run(&directory, &FAULTY);
    assert!(!passes && text.contains("FAULT "), "{text}");

    fs::remove_file(directory.join("known-failures.txt")).unwrap();
    let (passes, text) = run(&directory, &FIRST);
    assert!(!passes && text.contains("error: ") && text.contains("known-failures.txt"), "{text}");
}

#[test]
fn a_cell_on_the_list_that_has_recovered_fails() {
    let directory = copy("recovered");
    fs::write(directory.join("known-failures.txt"), "reno,1000,100,10,0,0,1 because").unwrap();
    let (passes, text) = run(&directory, &FIRST);
    assert!(!passes && text.contains("reno,1000,100,10,0,0,1: RECOVERED"), "{text}");
}

#[test]
fn a_cell_that_is_not_of_the_matrix_needs_no_snapshot() {
    let cell = ["--congestion", "reno", "--cell", "1000,10000,100,0,0,1"];
    let (passes, text) = run(&Snapshots::directory(), &cell);
    assert!(passes && text.starts_with("reno: ") && text.lines().count() == 1, "{text}");
}
