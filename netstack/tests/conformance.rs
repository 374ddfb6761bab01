//! CONFORMANCE.md is complete, and what it points to exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rules there are: the name of each group, and how many it has.
const RULES: &[(&str, u32)] = &[
    ("MUST", 69),
    ("SHLD", 31),
    ("MAY", 18),
    ("REC", 1),
    ("RFC7323", 20),
    ("RFC2018", 7),
    ("RFC2883", 4),
    ("RFC6675", 9),
    ("RFC6298", 9),
    ("RFC5681", 13),
    ("RFC6582", 4),
    ("RFC6928", 3),
    ("RFC6937", 4),
    ("RFC5682", 5),
    ("RFC9438", 11),
    ("RFC9406", 5),
    ("RFC8985", 14),
    ("RFC7413", 17),
    ("RFC5961", 5),
    ("RFC6528", 2),
    ("RFC6056", 3),
    ("RFC4987", 4),
    ("RFC6191", 4),
    ("RFC1337", 2),
    ("RFC5482", 5),
    ("RFC1122", 7),
    ("RFC3168", 9),
    ("RFC9768", 3),
    ("RFC1191", 4),
    ("RFC8201", 2),
    ("RFC4821", 4),
    ("RFC8899", 2),
    ("RFC792", 1),
    ("RFC4443", 5),
    ("RFC5461", 1),
    ("RFC5927", 4),
    ("RFC791", 4),
    ("RFC6864", 1),
    ("RFC8200", 9),
    ("RFC4861", 10),
    ("RFC4862", 4),
    ("RFC8504", 3),
];

/// One line of the table.
struct Rule {
    status: String,
    place: String,
    tests: String,
    why: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace around the crate").to_path_buf()
}

fn rules() -> BTreeMap<String, Rule> {
    let text = fs::read_to_string(root().join("CONFORMANCE.md")).expect("CONFORMANCE.md beside the crates");
    let mut rules = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule ")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let [id, status, place, tests, why] = &cells[..] else { panic!("not five cells: {line}") };
        let rule = Rule {
            status: status.clone(),
            place: place.replace('`', ""),
            tests: tests.replace('`', ""),
            why: why.clone(),
        };
        assert!(rules.insert(id.clone(), rule).is_none(), "{id} is there twice");
    }
    rules
}

/// A file or folder, below the crate's sources or below the workspace.
fn find(path: &str) -> Option<PathBuf> {
    [root().join("netstack/src").join(path), root().join(path)].into_iter().find(|path| path.exists())
}

#[test]
fn every_rule_is_there_and_no_other() {
    let expected: BTreeSet<_> =
        RULES.iter().flat_map(|(group, count)| (1..=*count).map(move |n| format!("{group}-{n}"))).collect();
    let documented: BTreeSet<_> = rules().into_keys().collect();
    let missing: Vec<_> = expected.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&expected).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}; unknown: {unknown:?}");
}

#[test]
fn what_is_named_exists() {
    for (id, rule) in rules() {
        if !rule.place.is_empty() {
            assert!(find(&rule.place).is_some(), "{id}: there is no {}", rule.place);
        }
        for test in rule.tests.split(", ").filter(|test| !test.is_empty()) {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{id}: {test}"));
            let path = find(file).unwrap_or_else(|| panic!("{id}: there is no {file}"));
            assert!(has_test(&fs::read_to_string(path).unwrap(), name), "{id}: {file} has no test {name}");
        }
        match rule.status.as_str() {
            "yes" => assert!(!rule.place.is_empty() && !rule.tests.is_empty(), "{id} names no place or test"),
            "deviates" | "not applicable" => assert!(!rule.why.is_empty(), "{id} does not say why"),
            status => panic!("{id}: what is {status:?}?"),
        }
    }
}

/// Whether a source has a test function called `name`: its attribute is the last thing before it, but
/// for other attributes.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let is_it = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ").is_some_and(|rest| rest.starts_with(&format!("{name}(")))
    };
    lines.iter().enumerate().filter(|(_, line)| is_it(line)).any(|(at, _)| {
        lines[..at]
            .iter()
            .rev()
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    })
}

#[test]
fn a_function_that_is_no_test_does_not_count() {
    assert!(has_test("#[test]\nfn it() {", "it"));
    assert!(has_test("    #[tokio::test]\n    async fn it() {", "it"));
    assert!(!has_test("fn it() {", "it"));
    assert!(!has_test("#[test]\nfn other() {}\nfn it() {", "it"));
    assert!(!has_test("#[test]\nfn it_too() {", "it"));
}
