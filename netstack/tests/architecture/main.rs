//! The architecture of the crate: which file may import which, and what else ARCHITECTURE.md promises
//! of the sources.
//!
//! The test reads `src` without what is compiled for tests only and without documentation, and follows
//! each path through imports and re-exports to the file that defines what it names. Each rule is a test
//! that lists everything that violates it. What the house is stands below as data.
//!
//! `cargo test -p netstack --test architecture -- --ignored --nocapture` prints the graph.

mod facts;
mod graph;
mod macros;
mod planted;
mod resolve;
mod rules;
mod tree;

use facts::Facts;
use rules::{Exception, Floor, House, Views};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tree::Sources;

/// From the ground up. A room uses those on the floors below, and on its own only those that it may meet.
const FLOORS: &[Floor] = &[
    // Values that everything may use, and how they are kept.
    Floor {
        rooms: &["buffer", "memory", "sync", "time", "error", "config"],
        meet: &[("buffer", "sync"), ("buffer", "memory"), ("memory", "config")],
    },
    // What a socket is ready for, why things end, and who is told.
    Floor { rooms: &["readiness", "reasons", "trace"], meet: &[("trace", "reasons")] },
    Floor { rooms: &["wire"], meet: &[] },
    Floor { rooms: &["device"], meet: &[] },
    Floor { rooms: &["ip"], meet: &[] },
    Floor { rooms: &["datagram"], meet: &[] },
    // Two protocols that know nothing of each other.
    Floor { rooms: &["tcp", "udp"], meet: &[] },
    Floor { rooms: &["icmp"], meet: &[] },
    Floor { rooms: &["stack"], meet: &[] },
    Floor { rooms: &["net"], meet: &[] },
    Floor { rooms: &["sim"], meet: &[] },
    Floor { rooms: &["lib"], meet: &[] },
];

/// Types whose views are in files of their own.
const VIEWS: &[Views] = &[];

/// What the rules on imports and impl blocks would forbid, with the reason. At most three.
const EXCEPTIONS: &[Exception] = &[
    Exception {
        from: "net/sockets.rs",
        to: "net/stack.rs",
        reason: "`Stack::connect` and its kin return sockets, and every socket holds its `Stack`",
    },
    Exception {
        from: "net/ecosystem/hickory.rs",
        to: "net/stack/builder.rs",
        reason: "`StackBuilder::dns` gives the stack a resolver that opens sockets of the stack",
    },
];

/// Structs that are plain data for users, and have as many fields as there is to say.
const PLAIN_DATA: &[&str] = &["Config", "TcpInfo", "Counters"];

const HOUSE: House = House { floors: FLOORS, views: VIEWS, exceptions: EXCEPTIONS, plain_data: PLAIN_DATA };

/// The sources are read when the test runs, so that one binary of it can be asked again and again while
/// they change, even when they do not compile. `ARCHITECTURE_SRC` names another `src` to read.
static FACTS: LazyLock<Facts> = LazyLock::new(|| Facts::read(&sources()));

fn sources() -> Sources {
    let root = std::env::var_os("ARCHITECTURE_SRC")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), PathBuf::from);
    let mut sources = Sources::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("it is below the root").to_str().expect("UTF-8");
                sources.insert(name.replace('\\', "/"), fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    sources
}

/// What a rule found. A test fails with it, and shows it without a backtrace.
struct Violations(String);

impl fmt::Debug for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Verdict = Result<(), Violations>;

fn none(violations: &[String], what_to_do: &str) -> Verdict {
    if violations.is_empty() {
        return Ok(());
    }
    let list: String = violations.iter().map(|violation| format!("\n  - {violation}")).collect();
    Err(Violations(format!("{} violations. {what_to_do}{list}\n", violations.len())))
}

#[test]
fn every_source_is_understood() -> Verdict {
    none(&FACTS.unknown, "The other rules do not see these.")
}

#[test]
fn no_import_goes_up() -> Verdict {
    none(
        &rules::upward_imports(&HOUSE, &FACTS),
        "Move what is named down to a floor that both reach, or give it to the lower room as a value.",
    )
}

#[test]
fn the_core_of_the_stack_names_no_protocol() -> Verdict {
    none(
        &rules::protocols_named(&HOUSE, &FACTS),
        "Let the protocol do it (stack/tcp, stack/udp, stack/raw), or make it generic.",
    )
}

#[test]
fn no_files_are_in_a_circle() -> Verdict {
    none(
        &rules::circles_of_files(&HOUSE, &FACTS),
        "Move what both need into a file below them, or return a value instead of calling back.",
    )
}

#[test]
fn every_impl_is_with_its_type() -> Verdict {
    none(
        &rules::scattered_impls(&HOUSE, &FACTS),
        "Move the block to the file of the type or to a child module, or let a part of the type own it.",
    )
}

#[test]
fn large_structs_say_why() -> Verdict {
    none(
        &rules::large_structs(&HOUSE, &FACTS),
        "Group the fields into parts, or say why not in a line directly above: `// More than 16 fields: …`.",
    )
}

#[test]
fn no_function_takes_more_than_five_parameters() -> Verdict {
    none(
        &rules::long_parameter_lists(&FACTS),
        "Make a struct of what travels together; a tuple only hides it.",
    )
}

/// A changed connection must be settled, which `Tcp::hold` and its twin for segments do.
#[test]
fn nothing_but_hold_locks_a_connection() -> Verdict {
    let may = ["stack/tcp/cell.rs", "stack/tcp/cell/sending.rs", "stack/tcp/hold.rs"];
    let locks = |source: &str| source.contains("lock_to_hold(") || source.contains("lock_or_leave(");
    let all = sources();
    assert!(may.iter().all(|file| locks(&all[*file])), "the methods have other names now");
    let others = all.iter().filter(|(file, source)| !may.contains(&file.as_str()) && locks(source));
    let others: Vec<String> = others.map(|(file, _)| file.clone()).collect();
    none(&others, "Use `Tcp::hold`.")
}

#[test]
fn every_exception_is_needed() -> Verdict {
    none(&rules::unneeded_exceptions(&HOUSE, &FACTS), "An exception is for what the rules forbid.")
}

#[test]
#[ignore = "prints the graph of imports, for those who move files"]
fn graph() {
    println!("{}", rules::print_graph(&HOUSE, &FACTS));
}
