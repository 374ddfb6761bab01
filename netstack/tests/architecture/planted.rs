//! Cases of the test itself: small crates with one thing wrong, or right, and what the rules say of them.

use crate::facts::{Facts, ImportKind};
use crate::rules::{self, Exception, Floor, House, Views};
use crate::tree::Sources;

/// A house with the floors of the real one.
const HOUSE: House<'_> = House { views: &[], exceptions: &[], ..crate::HOUSE };

/// The facts of a crate with these files; those whose modules nobody declares are declared in `lib.rs`,
/// and directories without a `mod.rs` get one.
fn facts(files: &[(&str, &str)]) -> Facts {
    let mut sources: Sources =
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let mut declared = vec![("lib.rs".to_owned(), vec![])];
    for (path, _) in files {
        let mut front = "lib.rs".to_owned();
        let mut parts: Vec<_> = path.split('/').collect();
        let file = parts.pop().expect("a path").trim_end_matches(".rs");
        let mut inside = String::new();
        for part in parts.into_iter().chain((file != "mod" && file != "lib").then_some(file)) {
            match declared.iter_mut().find(|(name, _)| *name == front) {
                Some((_, modules)) => modules.push(part.to_owned()),
                None => declared.push((front, vec![part.to_owned()])),
            }
            inside = format!("{inside}{part}/");
            let flat = format!("{}.rs", inside.trim_end_matches('/'));
            front =
                if files.iter().any(|(path, _)| *path == flat) { flat } else { format!("{inside}mod.rs") };
        }
    }
    for (front, mut modules) in declared {
        modules.sort();
        modules.dedup();
        let text = sources.entry(front).or_default();
        for module in modules {
            if !text.contains(&format!("mod {module}")) {
                text.push_str(&format!("pub mod {module};\n"));
            }
        }
    }
    let facts = Facts::read(&sources);
    assert!(facts.unknown.is_empty(), "{:?}", facts.unknown);
    facts
}

/// What imports what: "a.rs:1 b.rs".
fn imports(facts: &Facts) -> Vec<String> {
    facts
        .imports
        .iter()
        .filter(|import| import.kind != ImportKind::Module)
        .map(|import| format!("{}:{} {}", facts.path(import.from), import.line, facts.path(import.to)))
        .collect()
}

/// Asserts that there is one violation and that it says `text`.
#[track_caller]
fn assert_one(violations: &[String], text: &str) {
    assert!(violations.len() == 1 && violations[0].contains(text), "expected `{text}`: {violations:#?}");
}

#[track_caller]
fn assert_clean(house: &House<'_>, facts: &Facts) {
    let none: Vec<String> = vec![];
    assert_eq!(rules::upward_imports(house, facts), none);
    assert_eq!(rules::protocols_named(house, facts), none);
    assert_eq!(rules::circles_of_files(house, facts), none);
    assert_eq!(rules::scattered_impls(house, facts), none);
    assert_eq!(rules::large_structs(house, facts), none);
    assert_eq!(rules::long_parameter_lists(facts), none);
}

#[test]
fn an_upward_import_is_found() {
    let facts = facts(&[
        ("wire/ip.rs", "use std::fmt;\nuse crate::tcp::SeqNum;\n"),
        ("tcp/mod.rs", "mod seq;\npub use seq::SeqNum;"),
        ("tcp/seq.rs", "pub struct SeqNum;"),
    ]);
    let found = rules::upward_imports(&HOUSE, &facts);
    assert_one(&found, "wire/ip.rs -> tcp/seq.rs: crate::tcp::SeqNum (2): tcp is above wire");
}

#[test]
fn rooms_of_one_floor_meet_as_far_as_it_says() {
    let facts = facts(&[
        ("tcp/a.rs", "use crate::udp::b::B;"),
        ("udp/b.rs", "pub struct B;"),
        ("buffer.rs", "use crate::sync::Mutex;"),
        ("sync.rs", "pub struct Mutex;"),
    ]);
    assert_one(&rules::upward_imports(&HOUSE, &facts), "tcp may not use udp, which is on the same floor");
}

#[test]
fn a_room_without_a_floor_is_found() {
    let facts = facts(&[("attic.rs", "")]);
    assert_one(&rules::upward_imports(&HOUSE, &facts), "attic is on no floor");
}

#[test]
fn a_module_that_is_imported_as_such_goes_up_too() {
    let facts = facts(&[("wire/ip.rs", "use crate::tcp;"), ("tcp/seq.rs", "")]);
    assert_one(&rules::upward_imports(&HOUSE, &facts), "wire/ip.rs -> tcp/mod.rs: crate::tcp (1)");
}

#[test]
fn a_circle_is_found() {
    let facts = facts(&[
        ("tcp/a.rs", "use super::B;\npub struct A(B);"),
        ("tcp/b.rs", "pub struct B;\nfn f(c: super::c::C) {}"),
        ("tcp/c.rs", "pub struct C;\nfn f() { let _ = crate::tcp::a::A::new(); }"),
        ("tcp/d.rs", "use super::a::A;"),
        ("tcp/mod.rs", "mod a; mod b; mod c; mod d;\npub use b::B;"),
    ]);
    let found = rules::circles_of_files(&HOUSE, &facts);
    assert_one(&found, "3 files in a circle: tcp/a.rs tcp/b.rs tcp/c.rs\n");
    for line in ["tcp/a.rs -> tcp/b.rs: super::B (1)", "tcp/b.rs -> tcp/c.rs", "tcp/c.rs -> tcp/a.rs"] {
        assert!(found[0].contains(line), "{line}: {}", found[0]);
    }
}

#[test]
fn a_child_may_use_its_parent_but_not_close_a_circle() {
    let good = [
        ("tcp/a.rs", "mod part;\npub struct A(part::Part);"),
        ("tcp/a/part.rs", "use super::A;\npub struct Part;\nimpl A { fn f(&self) {} }"),
    ];
    assert_clean(&HOUSE, &facts(&good));

    let outside = ("tcp/x.rs", "use super::a::A;\npub struct X;");
    let through_child = ("tcp/a/part.rs", "use crate::tcp::x::X;\npub struct Part;");
    let found = rules::circles_of_files(&HOUSE, &facts(&[good[0], through_child, outside]));
    assert_one(&found, "2 files in a circle: tcp/a.rs tcp/x.rs");
    assert!(found[0].contains("tcp/a/part.rs -> tcp/x.rs"), "{}", found[0]);

    let siblings = facts(&[
        ("tcp/a.rs", "mod one; mod two;\npub struct A;"),
        ("tcp/a/one.rs", "use super::two::Two;\npub struct One;"),
        ("tcp/a/two.rs", "use super::one::One;\npub struct Two;"),
    ]);
    assert_one(
        &rules::circles_of_files(&HOUSE, &siblings),
        "2 files in a circle inside tcp/a.rs: tcp/a/one.rs",
    );
}

#[test]
fn the_front_of_a_room_is_not_one_with_what_is_in_it() {
    let facts = facts(&[
        ("tcp/mod.rs", "mod a;\nuse a::A;\npub struct Tcp(A);"),
        ("tcp/a.rs", "use super::Tcp;\npub struct A;"),
    ]);
    assert_one(&rules::circles_of_files(&HOUSE, &facts), "2 files in a circle");
}

#[test]
fn methods_of_one_type_in_several_files_can_be_a_circle() {
    let facts = facts(&[
        ("tcp/a.rs", "mod one; mod two;\npub struct A;"),
        ("tcp/a/one.rs", "use super::A;\nimpl A { fn one(&self) { self.two(); } }"),
        ("tcp/a/two.rs", "use super::A;\nimpl A { fn two(&self) { assert!(self.one()); } }"),
    ]);
    let found = rules::circles_of_files(&HOUSE, &facts);
    assert_one(&found, "2 files in a circle inside tcp/a.rs");
    assert!(found[0].contains("tcp/a/one.rs -> tcp/a/two.rs: A::two (2)"), "{}", found[0]);
}

#[test]
fn a_type_and_its_views_count_as_one() {
    let facts = facts(&[
        ("net/stream.rs", "use super::split::Half;\npub struct Stream;"),
        ("net/split.rs", "use super::stream::Stream;\npub struct Half;\nimpl Stream {}"),
    ]);
    assert_eq!(rules::circles_of_files(&HOUSE, &facts).len(), 1);
    let views = [Views { files: &["net/stream.rs", "net/split.rs"], reason: "halves" }];
    let house = House { views: &views, ..HOUSE };
    assert_clean(&house, &facts);
    assert_eq!(rules::unneeded_exceptions(&house, &facts).len(), 0);
}

#[test]
fn the_core_of_the_stack_may_not_name_a_protocol() {
    let files = [
        ("stack/core.rs", "use super::Tcp;"),
        ("stack/mod.rs", "mod core; mod tcp; mod engine;\npub use tcp::Tcp;"),
        ("stack/tcp/mod.rs", "mod tables;\npub use tables::Tcp;"),
        ("stack/tcp/tables.rs", "use crate::tcp::Connection;\npub struct Tcp(Connection);"),
        ("stack/engine.rs", "use super::tcp::Tcp;\nuse crate::tcp::Connection;"),
        ("tcp/connection.rs", "pub struct Connection;"),
        ("tcp/mod.rs", "mod connection;\npub use connection::Connection;"),
    ];
    let found = rules::protocols_named(&HOUSE, &facts(&files));
    assert_one(&found, "stack/core.rs -> stack/tcp/tables.rs: super::Tcp (1): core may know no protocol");

    let values = ("stack/core.rs", "struct Core(crate::tcp::Connection);");
    let found = rules::protocols_named(&HOUSE, &facts(&[&[values], &files[1..]].concat()));
    assert_one(&found, "stack/core.rs -> tcp/connection.rs");

    let child = ("stack/ports/table.rs", "use crate::stack::tcp;");
    let clean = ("stack/core.rs", "");
    let found = rules::protocols_named(&HOUSE, &facts(&[&[clean, child], &files[2..]].concat()));
    assert_one(&found, "stack/ports/table.rs -> stack/tcp/mod.rs");
}

#[test]
fn protocols_know_neither_each_other_nor_the_engine() {
    let facts = facts(&[
        ("stack/tcp/a.rs", "use crate::stack::udp::b::B;"),
        ("stack/udp/b.rs", "use crate::stack::engine::Engine;\npub struct B;"),
        ("stack/raw/c.rs", "use crate::udp::d::D;"),
        ("stack/engine.rs", "pub struct Engine;"),
        ("udp/d.rs", "pub struct D;"),
    ]);
    let found = rules::protocols_named(&HOUSE, &facts);
    assert_eq!(found.len(), 3, "{found:#?}");
    for text in ["stack/tcp may not know udp", "stack/raw may not know udp", "it is the top of stack/"] {
        assert!(found.iter().any(|violation| violation.contains(text)), "{text}: {found:#?}");
    }
}

#[test]
fn a_scattered_impl_is_found() {
    let facts = facts(&[
        ("tcp/mod.rs", "mod a; mod b;\npub use a::A;"),
        ("tcp/a.rs", "mod child;\npub struct A;\nimpl A {}"),
        ("tcp/a/child.rs", "impl super::A {}"),
        ("tcp/b.rs", "use super::A;\nimpl Clone for A {}\nimpl<T> crate::tcp::A {}"),
    ]);
    let found = rules::scattered_impls(&HOUSE, &facts);
    assert_one(&found, "tcp/b.rs:3: `impl A` is neither in tcp/a.rs nor in a child of it");
}

#[test]
fn an_impl_that_a_macro_makes_stands_where_it_is_invoked() {
    let options = "macro_rules! options { ($socket:ty) => { /* */ impl $socket { fn f(&self) {} } }; }
        pub(crate) use options;\nuse super::a::A;\noptions!(A);";
    let facts = facts(&[
        ("net/a.rs", "pub struct A;"),
        ("net/b.rs", "use super::options::options;\npub struct B;\noptions!(B);"),
        ("net/options.rs", options),
    ]);
    assert_one(&rules::scattered_impls(&HOUSE, &facts), "net/options.rs:4: `impl A`");
    assert!(imports(&facts).contains(&"net/b.rs:3 net/options.rs".to_owned()), "{:?}", imports(&facts));
}

#[test]
fn an_exception_allows_one_import_and_fails_once_it_is_not_needed() {
    let upward = [("wire/ip.rs", "use crate::tcp::seq::SeqNum;"), ("tcp/seq.rs", "pub struct SeqNum;")];
    let exceptions = [Exception { from: "wire/ip.rs", to: "tcp/seq.rs", reason: "for a while" }];
    let house = House { exceptions: &exceptions, ..HOUSE };
    assert_clean(&house, &facts(&upward));
    assert_eq!(rules::unneeded_exceptions(&house, &facts(&upward)).len(), 0);

    let clean = facts(&[("wire/ip.rs", ""), upward[1]]);
    assert_one(&rules::unneeded_exceptions(&house, &clean), "wire/ip.rs -> tcp/seq.rs is not needed");

    let many = [exceptions[0]; 4];
    let found = rules::unneeded_exceptions(&House { exceptions: &many, ..HOUSE }, &facts(&upward));
    assert!(found[0].contains("there are 4 exceptions"), "{found:#?}");

    let silent = [Exception { reason: "", ..exceptions[0] }];
    let found = rules::unneeded_exceptions(&House { exceptions: &silent, ..HOUSE }, &facts(&upward));
    assert_one(&found, "has no reason");
}

#[test]
fn an_exception_can_break_a_circle() {
    let files =
        [("tcp/a.rs", "use super::b::B;\npub struct A;"), ("tcp/b.rs", "use super::a::A;\npub struct B;")];
    let exceptions = [Exception { from: "tcp/b.rs", to: "tcp/a.rs", reason: "for a while" }];
    let house = House { exceptions: &exceptions, ..HOUSE };
    assert_clean(&house, &facts(&files));
    assert_eq!(rules::unneeded_exceptions(&house, &facts(&files)).len(), 0);
}

#[test]
fn views_and_meetings_that_are_not_needed_are_found() {
    let facts = facts(&[
        ("net/a.rs", "pub struct A;"),
        ("net/b.rs", "use super::a::A;"),
        ("ip.rs", ""),
        ("tcp.rs", ""),
    ]);
    let views = [Views { files: &["net/a.rs", "net/b.rs"], reason: "they look alike" }];
    let found = rules::unneeded_exceptions(&House { views: &views, ..HOUSE }, &facts);
    assert_one(&found, "need not count as one");

    let floors = [Floor { rooms: &["ip", "tcp", "net", "lib"], meet: &[("tcp", "ip"), ("tcp", "udp")] }];
    let found = rules::unneeded_exceptions(&House { floors: &floors, ..HOUSE }, &facts);
    assert_one(&found, "tcp does not use ip");
}

#[test]
fn a_large_struct_says_why() {
    let fields = |count: usize| (0..count).map(|field| format!("f{field}: u8,")).collect::<String>();
    let large = format!("#[derive(Debug)]\nstruct Large {{ {} }}", fields(17));
    let found = |text: &str| rules::large_structs(&HOUSE, &facts(&[("time.rs", text)]));

    assert_one(&found(&large), "time.rs:2: `Large` has 17 fields");
    assert_one(&found(&format!("struct Tuple({});", "u8,".repeat(17))), "`Tuple` has 17 fields");
    assert!(found(&format!("struct Small {{ {} }}", fields(16))).is_empty());
    assert!(found(&format!("pub struct Config {{ {} }}", fields(17))).is_empty());
    assert!(found(&format!("// More than 16 fields: one for each option.\n{large}")).is_empty());
    assert!(
        found(&format!("/// Docs.\n///\n/// More than 16 fields: one for each option.\n{large}")).is_empty()
    );
    // A reason must be one, must be above the struct, and must be needed.
    assert_one(&found(&format!("// More than 16 fields: so.\n{large}")), "`Large` has 17 fields");
    assert_eq!(found(&format!("// More than 16 fields: one for each option.\n\n{large}")).len(), 2);
    assert_one(
        &found("// More than 16 fields: one for each option.\nstruct Small;"),
        "time.rs:1: the reason",
    );
}

#[test]
fn a_long_list_of_parameters_is_found() {
    let found = |text: &str| rules::long_parameter_lists(&facts(&[("time.rs", text)]));
    let six = "a: u8, b: u8, c: u8, d: u8, e: u8, f: u8";
    let five = "a: u8, b: u8, c: u8, d: u8, e: u8";

    assert_one(&found(&format!("fn f({six}) {{}}")), "time.rs:1: `f` has 6 parameters");
    assert_one(
        &found(&format!("struct S;\nimpl S {{ fn f(&self, {six}) {{}} }}")),
        "time.rs:2: `S::f` has 6",
    );
    assert_one(&found(&format!("trait T {{ fn f(&self, {six}); }}")), "has 6 parameters");
    assert_one(&found("fn f((a, b): (u8, u8)) {}"), "`f` takes tuples: (a, b)");
    assert_one(&found("fn f(pair: &mut (u8, u8)) {}"), "`f` takes tuples: pair");
    assert!(found(&format!("struct S;\nimpl S {{ fn f(&self, {five}) {{}} }}")).is_empty());
    // The trait of another crate says what its methods take; closures are short.
    assert!(found(&format!("struct S;\nimpl Foreign for S {{ fn f({six}, g: (u8, u8)) {{}} }}")).is_empty());
    assert!(found("fn f() { let _ = |(a, b): (u8, u8)| a; }").is_empty());
    assert_eq!(found(&format!("struct S;\ntrait T {{}}\nimpl T for S {{ fn f({six}) {{}} }}")).len(), 1);
}

/// The imports of `tcp/user.rs`, with these lines, of files that define `A` and more.
#[track_caller]
fn assert_imports(user: &str, expected: &[&str]) {
    let facts = facts(&[
        (
            "tcp/mod.rs",
            "mod a; mod deep; mod user;\npub use a::{A, self as renamed};\npub(crate) use deep::*;",
        ),
        (
            "tcp/a.rs",
            "pub struct A;\npub enum E { One }\npub fn f() {}\npub(crate) use super::deep::bottom::Bottom as FromA;",
        ),
        ("tcp/deep/mod.rs", "pub mod bottom;\npub use bottom::Bottom;"),
        ("tcp/deep/bottom.rs", "pub struct Bottom;\npub mod inner { pub const X: u8 = 0; }"),
        ("tcp/user.rs", user),
        ("lib.rs", "mod tcp;\npub use tcp::A as Top;"),
    ]);
    let mut expected: Vec<_> = expected.iter().map(|line| format!("tcp/user.rs:{line}")).collect();
    expected.sort();
    let mut found: Vec<_> =
        imports(&facts).into_iter().filter(|line| line.starts_with("tcp/user.rs")).collect();
    found.sort();
    found.dedup();
    assert_eq!(found, expected, "{user}");
}

#[test]
fn use_declarations_lead_to_the_file_that_defines() {
    assert_imports("use super::A;", &["1 tcp/a.rs"]);
    assert_imports("use crate::Top;", &["1 tcp/a.rs"]);
    assert_imports(
        "use crate::tcp::{\n    A as B,\n    deep::{self, bottom::{Bottom}},\n};",
        &["2 tcp/a.rs", "3 tcp/deep/bottom.rs"],
    );
    assert_imports("use super::a::E::One;", &["1 tcp/a.rs"]);
    assert_imports("use super::a::FromA;", &["1 tcp/deep/bottom.rs"]);
    assert_imports("use super::Bottom;", &["1 tcp/deep/bottom.rs"]);
    assert_imports("use super::deep::bottom::inner::X;", &["1 tcp/deep/bottom.rs"]);
    assert_imports("use super::deep::*;", &["1 tcp/deep/bottom.rs"]);
    assert_imports("pub use super::A;", &["1 tcp/a.rs"]);
    assert_imports("use super::A as _;", &["1 tcp/a.rs"]);
    assert_imports("fn f() {\n    use super::A;\n}", &["2 tcp/a.rs"]);
    assert_imports("use std::fmt;\nuse ::bytes::Bytes;\nuse smoltcp::wire;", &[]);
}

#[test]
fn inline_paths_lead_to_the_file_that_defines() {
    assert_imports("fn f(_: super::A) -> crate::tcp::Bottom {}", &["1 tcp/a.rs", "1 tcp/deep/bottom.rs"]);
    assert_imports("fn f() { let _ = super::a::f(); }", &["1 tcp/a.rs"]);
    assert_imports("use super::renamed;\nfn f() { renamed::f(); }", &["2 tcp/a.rs"]);
    assert_imports("fn f(e: E) { match e { super::a::E::One => {} } }", &["1 tcp/a.rs"]);
    assert_imports(
        "struct S<T: Into<super::A>>(Vec<crate::tcp::Bottom>, T);",
        &["1 tcp/a.rs", "1 tcp/deep/bottom.rs"],
    );
    assert_imports("mod inner {\n    fn f(_: super::super::A) {}\n}", &["2 tcp/a.rs"]);
    assert_imports("#[derive(super::A)]\nstruct S;", &["1 tcp/a.rs"]);
    assert_imports("fn f() { <super::A as Default>::default(); }", &["1 tcp/a.rs"]);
    assert_imports(
        "fn f<T: Default>() -> fmt::Result { T::default(); self::g::<u8>(); i32::MAX }\nfn g<T>() {}",
        &[],
    );
}

#[test]
fn macros_are_read_too() {
    assert_imports(
        "fn f() { assert!(g(super::a::f(), 1) == { crate::tcp::Bottom }); }",
        &["1 tcp/a.rs", "1 tcp/deep/bottom.rs"],
    );
    assert_imports("macro_rules! m { ($x:ident) => { $crate::tcp::A::$x() }; }", &["1 tcp/a.rs"]);
    assert_imports(
        "m! { use crate::tcp::{A, deep::bottom::{self, Bottom}}; }",
        &["1 tcp/a.rs", "1 tcp/deep/bottom.rs"],
    );
    assert_imports("m! { x: ::std::fmt::Debug, pub(in crate::tcp) y: self.a }", &[]);
    assert_imports("m! { struct S(pub (super::A, u8)); }", &["1 tcp/a.rs"]);
    assert_imports("thread_local! { static S: super::A = super::A; }", &["1 tcp/a.rs"]);
    // What a macro like pin_project! wraps is defined by the file.
    let facts = facts(&[
        ("net/a.rs", "pin_project! { pub struct A { #[pin] b: u8 } }"),
        ("net/b.rs", "use super::a::A;"),
    ]);
    assert_eq!(imports(&facts), ["net/b.rs:1 net/a.rs"]);
}

#[test]
fn tests_and_docs_import_nothing() {
    assert_imports("#[cfg(test)]\nmod tests {\n    use super::super::A;\n}", &[]);
    assert_imports("#[cfg(test)]\nmod tests;", &[]);
    assert_imports("#[cfg(all(test, unix))]\nuse super::A;", &[]);
    assert_imports("struct S;\nimpl S {\n    #[cfg(test)]\n    fn f(_: super::A) {}\n}", &[]);
    assert_imports("struct S {\n    #[cfg(test)]\n    a: super::A,\n}", &[]);
    assert_imports("fn f() {\n    #[cfg(test)]\n    super::a::f();\n}", &[]);
    assert_imports(
        "/// See [`super::A`] and [A](crate::tcp::A).\n/// ```\n/// use crate::tcp::A;\n/// ```\nstruct S;",
        &[],
    );
    assert_imports("#[cfg(any(test, unix))]\nuse super::A;", &["2 tcp/a.rs"]);
    assert_imports("#[cfg(not(test))]\nuse super::A;", &["2 tcp/a.rs"]);
}

#[test]
fn a_front_imports_what_it_reexports_from_outside_only() {
    let facts = facts(&[
        ("icmp/mod.rs", "mod echo;\npub use echo::Echo;\npub use crate::wire::Quoted;"),
        ("icmp/echo.rs", "pub struct Echo;"),
        ("wire/mod.rs", "mod icmp;\npub use icmp::Quoted;"),
        ("wire/icmp.rs", "pub struct Quoted;"),
        ("stack/a.rs", "use crate::icmp::{Echo, Quoted};"),
    ]);
    let expected = ["wire/icmp.rs", "icmp/echo.rs"];
    assert_eq!(imports(&facts).len(), 3, "{:?}", imports(&facts));
    assert!(imports(&facts).contains(&"icmp/mod.rs:3 wire/icmp.rs".to_owned()));
    for file in expected {
        assert!(imports(&facts).contains(&format!("stack/a.rs:1 {file}")), "{:?}", imports(&facts));
    }
}

#[test]
fn a_name_of_another_crate_belongs_to_the_file_that_brings_it_in() {
    let facts = facts(&[
        ("time.rs", "pub use std::time::Duration;\nuse std::fmt;\nfn f(_: fmt::Error) {}"),
        ("tcp/a.rs", "use crate::time::Duration;\nuse super::b::Duration as D;"),
        ("tcp/b.rs", "pub(super) use crate::time::Duration;"),
    ]);
    assert_eq!(imports(&facts), ["tcp/a.rs:1 time.rs", "tcp/a.rs:2 time.rs", "tcp/b.rs:1 time.rs"]);
}

#[test]
fn a_path_to_nothing_is_found() {
    let mut sources = Sources::new();
    sources.insert("lib.rs".to_owned(), "mod a;\nuse a::Nothing;\nuse crate::a::fmt::Debug;".to_owned());
    sources.insert("a.rs".to_owned(), "use std::fmt;".to_owned());
    assert_eq!(Facts::read(&sources).unknown, ["lib.rs:2: `a::Nothing`"]);
}

#[test]
fn a_source_that_is_not_read_is_found() {
    let mut sources = Sources::new();
    sources.insert("lib.rs".to_owned(), "mod a;\nmod b;\n#[cfg(test)]\nmod tests;".to_owned());
    for (path, text) in [("a.rs", "fn f( {"), ("c.rs", ""), ("tests/d.rs", "")] {
        sources.insert(path.to_owned(), text.to_owned());
    }
    let unknown = Facts::read(&sources).unknown;
    let begins = ["a.rs:1: ", "b/mod.rs: a module is declared", "c.rs: no module declares it"];
    assert_eq!(unknown.len(), begins.len(), "{unknown:#?}");
    for (violation, begin) in unknown.iter().zip(begins) {
        assert!(violation.starts_with(begin), "{unknown:#?}");
    }
}
