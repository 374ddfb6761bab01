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
    ("RFC1122", 13),
    ("RFC3168", 9),
    ("RFC9768", 8),
    ("RFC1191", 4),
    ("RFC8201", 2),
    ("RFC4821", 4),
    ("RFC8899", 2),
    ("RFC792", 1),
    ("RFC768", 2),
    ("RFC1112", 3),
    ("RFC4443", 5),
    ("RFC5461", 1),
    ("RFC5927", 4),
    ("RFC791", 4),
    ("RFC6864", 1),
    ("RFC8200", 9),
    ("RFC4861", 10),
    ("RFC4862", 4),
    ("RFC8504", 3),
    ("LINUX", 19),
];

/// What CONFORMANCE.md says about one rule.
#[derive(Default)]
struct Rule {
    text: String,
    status: String,
    place: String,
    tests: Vec<String>,
    note: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace around the crate").to_path_buf()
}

fn rules() -> BTreeMap<String, Rule> {
    parse(&fs::read_to_string(root().join("CONFORMANCE.md")).expect("CONFORMANCE.md beside the crates"))
}

/// Reads the lists below the headings. A rule is an item, and what is done about it are the items in it:
///
/// ```text
/// - **RFC7323-2** (§2.2): The window of a SYN is not scaled.
///   - yes: `tcp/window.rs`
///   - test: `tcp/tests/rules.rs::the_window_of_a_syn_is_not_scaled`
///   - note: May go on in the next line,
///     as the text of the rule may.
/// ```
fn parse(text: &str) -> BTreeMap<String, Rule> {
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    let mut last: Option<String> = None;
    let lists = text.split_once("\n## ").expect("a heading").1;
    for item in items(lists) {
        if let Some(rule) = item.strip_prefix("- **") {
            let (id, rest) = rule.split_once("**").unwrap_or_else(|| panic!("no number: {item}"));
            let (_section, text) = rest.split_once(':').unwrap_or_else(|| panic!("no text: {item}"));
            let rule = Rule { text: text.trim().to_owned(), ..Rule::default() };
            assert!(rules.insert(id.to_owned(), rule).is_none(), "{id} is there twice");
            last = Some(id.to_owned());
            continue;
        }
        let id = last.as_ref().unwrap_or_else(|| panic!("not in a rule: {item}"));
        let rule = rules.get_mut(id).expect("the rule that was just inserted");
        let item = item.trim_start().trim_start_matches("- ");
        let (label, value) = item.split_once(':').map_or((item, ""), |(label, value)| (label, value.trim()));
        match label {
            "test" => rule.tests.push(value.replace('`', "")),
            "note" => value.clone_into(&mut rule.note),
            status => {
                assert!(rule.status.is_empty(), "{id} says twice what is done: {item}");
                status.clone_into(&mut rule.status);
                rule.place = value.replace('`', "");
            }
        }
    }
    rules
}

/// The items of all lists, each with the lines that continue it.
fn items(lists: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in lists.lines().filter(|line| line.starts_with("- ") || line.starts_with("  ")) {
        if line.trim_start().starts_with("- ") {
            items.push(line.to_owned());
        } else {
            let item = items.last_mut().unwrap_or_else(|| panic!("continues nothing: {line}"));
            item.push(' ');
            item.push_str(line.trim());
        }
    }
    items
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
fn every_rule_has_a_text() {
    let without: Vec<_> =
        rules().into_iter().filter(|(_, rule)| rule.text.is_empty()).map(|(id, _)| id).collect();
    assert!(without.is_empty(), "no text: {without:?}");
}

#[test]
fn what_is_named_exists() {
    for (id, rule) in rules() {
        if !rule.place.is_empty() {
            assert!(find(&rule.place).is_some(), "{id}: there is no {}", rule.place);
        }
        for test in &rule.tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{id}: {test}"));
            let path = find(file).unwrap_or_else(|| panic!("{id}: there is no {file}"));
            assert!(has_test(&fs::read_to_string(path).unwrap(), name), "{id}: {file} has no test {name}");
        }
        match rule.status.as_str() {
            "yes" => assert!(!rule.place.is_empty() && !rule.tests.is_empty(), "{id} names no place or test"),
            "deviates" | "not applicable" => assert!(!rule.note.is_empty(), "{id} does not say why"),
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

#[test]
fn a_rule_is_read_with_its_continued_lines() {
    let rules = parse(
        "# Title\n- not a rule\n\n## RFC 1\n\n\
         - **RFC1-1** (§2): One: and\n  more.\n  - deviates: `a.rs`\n  - test: `a.rs::b`\n  - test: `a.rs::c`\n  \
         - note: why:\n    that.\n\
         - **RFC1-2**:\n  - not applicable\n",
    );
    assert_eq!(rules.len(), 2);
    let first = &rules["RFC1-1"];
    assert_eq!((&*first.text, &*first.status, &*first.place), ("One: and more.", "deviates", "a.rs"));
    assert_eq!((first.tests.join(" "), &*first.note), ("a.rs::b a.rs::c".to_owned(), "why: that."));
    let second = &rules["RFC1-2"];
    assert_eq!((&*second.text, &*second.status, &*second.place), ("", "not applicable", ""));
}
