//! What the fuzz targets were given before, once more: the corpora of `fuzz/corpus`, and what made one of
//! them fail, in `fuzz/regressions`.

use netstack_fuzz_targets::{TARGETS, Target};
use std::fs;
use std::path::{Path, PathBuf};

fn files(folder: &str, target: &Target) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(folder).join(target.name);
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Runs a target with each of the files, and says which it was that failed.
fn replay(files: &[PathBuf], target: &Target) {
    for file in files {
        let data = fs::read(file).expect("a file of a corpus");
        let run = target.run;
        if std::panic::catch_unwind(move || run(&data)).is_err() {
            panic!("{} fails with {}: see above", target.name, file.display());
        }
    }
}

#[test]
fn no_input_of_the_corpora_makes_a_target_fail() {
    for target in TARGETS {
        let files = files("corpus", target);
        assert!(files.len() >= 10, "{}: a corpus of {} files", target.name, files.len());
        replay(&files, target);
    }
}

#[test]
fn what_made_a_target_fail_does_so_no_more() {
    for target in TARGETS {
        replay(&files("regressions", target), target);
    }
}

#[test]
fn every_target_is_built() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("the manifest of the fuzz targets");
    let mut built: Vec<&str> =
        manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")).collect();
    built.sort_unstable();
    let names: Vec<String> = TARGETS.iter().map(|target| format!("{}.rs\"", target.name)).collect();
    assert_eq!(built, names);
}
