//! The rules of the house, over the facts of a crate. Each gives what violates it, ready to be read.

use crate::facts::{Facts, Import, ImportKind};
use crate::graph::{Graph, circles, shortest_round};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What the house is: see `main.rs` for that of the crate.
#[derive(Clone, Copy)]
pub(crate) struct House<'a> {
    /// From the ground up.
    pub(crate) floors: &'a [Floor],
    pub(crate) views: &'a [Views],
    pub(crate) exceptions: &'a [Exception],
    /// Structs that are plain data for users.
    pub(crate) plain_data: &'a [&'a str],
}

/// Rooms that use those below them, and one another as far as it says.
#[derive(Clone, Copy)]
pub(crate) struct Floor {
    /// Files and directories of `src`.
    pub(crate) rooms: &'static [&'static str],
    /// Who may use whom on this floor: the user, then the used.
    pub(crate) meet: &'static [(&'static str, &'static str)],
}

/// A type and its views, which count as one file.
#[derive(Clone, Copy)]
pub(crate) struct Views {
    pub(crate) files: &'static [&'static str],
    pub(crate) reason: &'static str,
}

/// An import, or an impl block away from its type, that is allowed.
#[derive(Clone, Copy)]
pub(crate) struct Exception {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) reason: &'static str,
}

/// Most exceptions that there may be.
const MAX_EXCEPTIONS: usize = 3;

/// Most fields of a struct without a reason beside it.
const MAX_FIELDS: usize = 16;

/// Most parameters of a function besides `self`.
const MAX_PARAMETERS: usize = 5;

/// The protocols in `stack/`, each with the room of its values.
const GUESTS: [(&str, Option<&str>); 3] = [("tcp", Some("tcp")), ("udp", Some("udp")), ("raw", None)];

/// The files of `stack/` that may name protocols, and that nothing else in `stack/` names.
const TOP_OF_STACK: [&str; 2] = ["engine", "mod"];

/// The room of a file: the directory or file of `src` that it is.
fn room(path: &str) -> &str {
    first_part(path)
}

/// The first directory of a path, or the name of the file.
fn first_part(path: &str) -> &str {
    match path.split_once('/') {
        Some((room, _)) => room,
        None => path.strip_suffix(".rs").unwrap_or(path),
    }
}

/// The part of `stack/` in which a file is.
fn part_of_stack(path: &str) -> Option<&str> {
    path.strip_prefix("stack/").map(first_part)
}

fn is_excepted(house: &House<'_>, facts: &Facts, from: usize, to: usize) -> bool {
    house.exceptions.iter().any(|it| it.from == facts.path(from) && it.to == facts.path(to))
}

/// Imports by the files between which they are.
type Imports<'a> = BTreeMap<(usize, usize), Vec<&'a Import>>;

fn imports<'a>(house: &House<'_>, facts: &'a Facts, kinds: &[ImportKind]) -> Imports<'a> {
    let mut all = Imports::new();
    for import in &facts.imports {
        let counts = kinds.contains(&import.kind) && !is_excepted(house, facts, import.from, import.to);
        if counts {
            all.entry((import.from, import.to)).or_default().push(import);
        }
    }
    all
}

/// "a.rs imports b.rs: line 3 `crate::b::B`, line 7 …".
fn describe(facts: &Facts, (from, to): (usize, usize), imports: &[&Import]) -> String {
    const SHOWN: usize = 6;
    let mut names: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for import in imports {
        names.entry(&import.text).or_default().push(import.line);
    }
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by_key(|(_, lines)| lines[0]);
    let mut text = format!("{} -> {}:", facts.path(from), facts.path(to));
    for (index, (name, lines)) in names.iter().take(SHOWN).enumerate() {
        let lines: Vec<_> = lines.iter().take(4).map(ToString::to_string).collect();
        let _ = write!(text, "{} {name} ({})", if index > 0 { "," } else { "" }, lines.join(" "));
    }
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}

/// Imports that go up, or between rooms of one floor that may not meet, and rooms without a floor.
pub(crate) fn upward_imports(house: &House<'_>, facts: &Facts) -> Vec<String> {
    let rooms: BTreeSet<_> = facts.files.iter().map(|file| room(&file.path)).collect();
    let mut found: Vec<_> = rooms
        .iter()
        .filter(|room| floor_of(house, room).is_none())
        .map(|room| format!("{room} is on no floor: enter it into FLOORS"))
        .collect();
    for ((from, to), imports) in imports(house, facts, &[ImportKind::Item, ImportKind::Module]) {
        if let Some(why) = goes_up(house, facts.path(from), facts.path(to)) {
            found.push(format!("{}: {why}", describe(facts, (from, to), &imports)));
        }
    }
    found
}

fn floor_of(house: &House<'_>, room: &str) -> Option<usize> {
    house.floors.iter().position(|floor| floor.rooms.contains(&room))
}

/// Why a file may not import another by the floors of their rooms.
fn goes_up(house: &House<'_>, from: &str, to: &str) -> Option<String> {
    let (user, used) = (room(from), room(to));
    let (at, below) = (floor_of(house, user)?, floor_of(house, used)?);
    if user == used || at > below {
        None
    } else if at < below {
        Some(format!("{used} is above {user}"))
    } else {
        let may_meet = house.floors[at].meet.contains(&(user, used));
        (!may_meet).then(|| format!("{user} may not use {used}, which is on the same floor"))
    }
}

/// The floors inside `stack/`: what knows no protocol, then the protocols, then `engine.rs`.
pub(crate) fn protocols_named(house: &House<'_>, facts: &Facts) -> Vec<String> {
    imports(house, facts, &[ImportKind::Item, ImportKind::Module])
        .into_iter()
        .filter_map(|((from, to), imports)| {
            let why = names_protocol(facts.path(from), facts.path(to))?;
            Some(format!("{}: {why}", describe(facts, (from, to), &imports)))
        })
        .collect()
}

/// Why a file of `stack/` may not import another file by the floors inside.
fn names_protocol(from: &str, to: &str) -> Option<String> {
    let part = part_of_stack(from).filter(|part| !TOP_OF_STACK.contains(part))?;
    let guest = |part: &str| GUESTS.iter().find(|(guest, _)| *guest == part).map(|(guest, _)| *guest);
    let of_stack = part_of_stack(to);
    let with_values = || GUESTS.iter().find(|(_, values)| *values == Some(room(to))).map(|(guest, _)| *guest);
    match (guest(part), of_stack.and_then(guest).or_else(with_values)) {
        (Some(own), Some(named)) if own != named => Some(format!("stack/{own} may not know {named}")),
        (None, Some(named)) => Some(format!("{part} may know no protocol, and names {named}")),
        _ if of_stack.is_some_and(|part| TOP_OF_STACK.contains(&part)) => {
            Some("it is the top of stack/, which nothing in stack/ may name".to_owned())
        }
        _ => None,
    }
}

/// The files of which `file` is a part: those that declare it and have code of their own, from the
/// outermost, and itself. A `mod.rs` is the front of a room and not one thing with the files in it.
fn whole(facts: &Facts, file: usize) -> Vec<usize> {
    let is_front = |file: &usize| {
        let path = facts.path(*file);
        path == "lib.rs" || path.ends_with("mod.rs")
    };
    let mut all: Vec<_> = std::iter::successors(facts.files[file].parent, |file| facts.files[*file].parent)
        .filter(|file| !is_front(file))
        .collect();
    all.reverse();
    all.push(file);
    all
}

/// Circles of files.
///
/// A file with children (`foo.rs` and `foo/…`) is one node in the graph of its room, so that nothing
/// outside closes a circle through a child. Among themselves the children of `foo.rs` are a graph again,
/// without `foo.rs`: that a child uses the type of which it is a part is what children are for.
/// A `mod.rs` is a file like others, never one node with what it declares.
///
/// `self.method()` is an import of the file in whose impl block the method is.
///
/// Imports that go up are left out: they are reported as such, and each circle over floors has one.
pub(crate) fn circles_of_files(house: &House<'_>, facts: &Facts) -> Vec<String> {
    let wholes: Vec<_> = (0..facts.files.len()).map(|file| whole(facts, file)).collect();
    let with_view = |file: usize| {
        let views = house.views.iter().find(|views| views.files.contains(&facts.path(file)));
        let first = views.and_then(|views| facts.files.iter().position(|file| file.path == views.files[0]));
        first.unwrap_or(file)
    };
    // For each file with children, and for the crate, the graph of the next wholes inside.
    let mut graphs: BTreeMap<Option<usize>, (Graph, Imports<'_>)> = BTreeMap::new();
    for ((from, to), imports) in imports(house, facts, &[ImportKind::Item, ImportKind::OwnMethod]) {
        let (user, used) = (facts.path(from), facts.path(to));
        if goes_up(house, user, used).or_else(|| names_protocol(user, used)).is_some() {
            continue;
        }
        let (a, b) = (&wholes[from], &wholes[to]);
        let common = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let (Some(user), Some(used)) = (a.get(common), b.get(common)) else { continue };
        let (user, used) = (with_view(*user), with_view(*used));
        if user == used {
            continue;
        }
        let around = common.checked_sub(1).map(|last| a[last]);
        let (graph, texts) = graphs.entry(around).or_default();
        graph.entry(user).or_default().insert(used);
        texts.entry((user, used)).or_default().extend(imports);
    }
    let mut found = vec![];
    for (around, (graph, texts)) in &graphs {
        for circle in circles(graph) {
            found.push(describe_circle(facts, *around, (graph, texts), &circle));
        }
    }
    found
}

fn describe_circle(
    facts: &Facts,
    around: Option<usize>,
    (graph, texts): (&Graph, &Imports<'_>),
    circle: &BTreeSet<usize>,
) -> String {
    let names: Vec<_> = circle.iter().map(|file| facts.path(*file)).collect();
    let mut text = format!("{} files in a circle", circle.len());
    if let Some(around) = around {
        let _ = write!(text, " inside {}", facts.path(around));
    }
    let _ = write!(text, ": {}", names.join(" "));
    let line = |from: usize, to: usize| {
        let imports = &texts[&(from, to)];
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for import in imports {
            all.entry((import.from, import.to)).or_default().push(*import);
        }
        let lines: Vec<_> = all.iter().map(|(ends, imports)| describe(facts, *ends, imports)).collect();
        lines.join("; ")
    };
    let round = shortest_round(graph, circle);
    text.push_str("\n      a shortest way around:");
    for pair in round.windows(2) {
        let _ = write!(text, "\n        {}", line(pair[0], pair[1]));
    }
    if circle.len() > 2 {
        text.push_str("\n      all imports in it:");
        for ((from, to), _) in
            texts.iter().filter(|((from, to), _)| circle.contains(from) && circle.contains(to))
        {
            let _ = write!(text, "\n        {}", line(*from, *to));
        }
    }
    text
}

/// Inherent impl blocks that are neither in the file of their type nor in a child of it.
pub(crate) fn scattered_impls(house: &House<'_>, facts: &Facts) -> Vec<String> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for block in &facts.impls {
        let (from, to) = (facts.path(block.file), facts.path(block.defined));
        let is_view =
            house.views.iter().any(|views| views.files.contains(&from) && views.files.contains(&to));
        let at_home = to != "lib.rs" && facts.is_below(block.file, block.defined);
        if block.file == block.defined
            || at_home
            || is_view
            || is_excepted(house, facts, block.file, block.defined)
        {
            continue;
        }
        found.entry((from, &block.name, to)).or_default().push(block.line.to_string());
    }
    found
        .into_iter()
        .map(|((from, name, to), lines)| {
            format!("{from}:{}: `impl {name}` is neither in {to} nor in a child of it", lines.join(" "))
        })
        .collect()
}

/// Structs with many fields and no reason beside them, and reasons beside none.
pub(crate) fn large_structs(house: &House<'_>, facts: &Facts) -> Vec<String> {
    let mut found = vec![];
    for it in &facts.structs {
        if it.fields > MAX_FIELDS && it.reason.is_none() && !house.plain_data.contains(&it.name.as_str()) {
            let place = facts.path(it.file);
            found.push(format!("{place}:{}: `{}` has {} fields", it.line, it.name, it.fields));
        }
    }
    for (file, line) in &facts.reasons {
        let needed = facts
            .structs
            .iter()
            .any(|it| it.file == *file && it.reason == Some(*line) && it.fields > MAX_FIELDS);
        if !needed {
            let place = facts.path(*file);
            found
                .push(format!("{place}:{line}: the reason for many fields is above no struct that has them"));
        }
    }
    found
}

/// Functions with many parameters, or with tuples that hide some.
pub(crate) fn long_parameter_lists(facts: &Facts) -> Vec<String> {
    let mut found = vec![];
    for it in &facts.functions {
        let place = format!("{}:{}: `{}`", facts.path(it.file), it.line, it.name);
        if it.parameters > MAX_PARAMETERS {
            found.push(format!("{place} has {} parameters", it.parameters));
        }
        if !it.tuples.is_empty() {
            found.push(format!("{place} takes tuples: {}", it.tuples.join(", ")));
        }
    }
    found
}

/// Exceptions, groups of views and meetings on a floor that nothing needs, those without a reason, and
/// too many exceptions.
pub(crate) fn unneeded_exceptions(house: &House<'_>, facts: &Facts) -> Vec<String> {
    let violations = |house: &House<'_>| {
        [upward_imports, protocols_named, circles_of_files, scattered_impls].map(|rule| rule(house, facts))
    };
    let all = violations(house);
    let mut found = vec![];
    if house.exceptions.len() > MAX_EXCEPTIONS {
        found.push(format!(
            "there are {} exceptions; at most {MAX_EXCEPTIONS} may be",
            house.exceptions.len()
        ));
    }
    for (index, it) in house.exceptions.iter().enumerate() {
        let exceptions = &without(house.exceptions, index);
        if violations(&House { exceptions, ..*house }) == all {
            found.push(format!("the exception {} -> {} is not needed: remove it", it.from, it.to));
        }
        if it.reason.is_empty() {
            found.push(format!("the exception {} -> {} has no reason", it.from, it.to));
        }
    }
    for (index, it) in house.views.iter().enumerate() {
        let views = &without(house.views, index);
        if violations(&House { views, ..*house }) == all {
            found.push(format!("the views {:?} need not count as one: remove them", it.files));
        }
        let directory = |file: &str| file.rsplit_once('/').map(|(directory, _)| directory.to_owned());
        if it.files.iter().any(|file| directory(file) != directory(it.files[0])) {
            found.push(format!("the views {:?} are not in one directory", it.files));
        }
        if it.reason.is_empty() {
            found.push(format!("the views {:?} have no reason", it.files));
        }
    }
    found.extend(unused_meetings(house, facts));
    found
}

fn without<T: Copy>(all: &[T], index: usize) -> Vec<T> {
    let mut others = all.to_vec();
    others.remove(index);
    others
}

/// Meetings of rooms that exist and do not meet.
fn unused_meetings(house: &House<'_>, facts: &Facts) -> Vec<String> {
    let exists = |name: &str| facts.files.iter().any(|file| room(&file.path) == name);
    let used = |(user, used): (&str, &str)| {
        facts.imports.iter().any(|it| room(facts.path(it.from)) == user && room(facts.path(it.to)) == used)
    };
    let meetings = house.floors.iter().flat_map(|floor| floor.meet).copied();
    meetings
        .filter(|(a, b)| exists(a) && exists(b) && !used((a, b)))
        .map(|(a, b)| format!("{a} does not use {b}: take the pair out of FLOORS"))
        .collect()
}

/// The whole graph, to be looked at while files are moved: each file and what it imports.
pub(crate) fn print_graph(house: &House<'_>, facts: &Facts) -> String {
    let mut text = String::new();
    let imports = imports(house, facts, &[ImportKind::Item, ImportKind::OwnMethod]);
    for file in 0..facts.files.len() {
        let _ = writeln!(text, "{}", facts.path(file));
        for ((_, to), imports) in imports.iter().filter(|((from, _), _)| *from == file) {
            let line = describe(facts, (file, *to), imports);
            let _ = writeln!(text, "    {}", line.split_once(" -> ").expect("two files").1);
        }
    }
    text
}
