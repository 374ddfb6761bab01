//! What README.md prints can be copied.

use std::collections::BTreeSet;

/// The code blocks of README.md whose language begins with `language`.
fn blocks(language: &str) -> Vec<String> {
    let readme = include_str!("../../README.md");
    let (mut blocks, mut inside) = (Vec::new(), None);
    for line in readme.lines() {
        match (&mut inside, line.strip_prefix("```")) {
            (None, Some(name)) => inside = Some((name.starts_with(language), String::new())),
            (Some((wanted, _)), Some(_)) => {
                let wanted = *wanted;
                let (_, block) = inside.take().expect("inside");
                blocks.extend(wanted.then_some(block));
            }
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(inside.is_none(), "a block has no end");
    blocks
}

/// They are doctests of this crate, so that they compile; as printed if rustdoc hides and adds nothing.
#[test]
fn the_programs_are_whole_as_printed() {
    let programs = blocks("rust");
    assert!(programs.len() >= 2);
    for program in programs {
        let hidden = program.lines().find(|line| *line == "#" || line.starts_with("# "));
        assert_eq!(hidden, None, "rustdoc hides this line, and nobody else does");
        assert!(program.contains("fn main()"), "{program}");
    }
}

#[test]
fn the_dependencies_of_the_programs_are_printed() {
    let manifests = blocks("toml");
    let manifest =
        manifests.iter().find(|block| block.starts_with("[dependencies]\n")).expect("a block of them");
    let listed: BTreeSet<_> = manifest
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.replace('-', "_"))
        .collect();
    for program in blocks("rust") {
        let used = program.lines().filter_map(|line| line.strip_prefix("use ")?.split("::").next());
        for name in used.filter(|name| *name != "std") {
            assert!(listed.contains(name), "{name} is not in [dependencies]");
        }
    }
    for feature in ["io-util", "macros", "rt-multi-thread"] {
        assert!(manifest.contains(feature), "{feature}");
    }
}
