//! Every public function of tokio's TCP and UDP sockets is here, with the same signature.
//!
//! The sources of both crates are read, tokio's from where cargo has it, and each function of tokio's is looked up
//! in ours: its receiver, arguments, result, `async` and `deprecated`. The same is done for implementations of traits.
//! What is left out is in [`LEFT_OUT`], with the reason.

mod source;

use source::{Function, Source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Functions and traits of tokio's that are not here, and why.
const LEFT_OUT: [(&str, &str); 13] = [
    ("TcpListener::from_std", NO_FD),
    ("TcpListener::into_std", NO_FD),
    ("TcpStream::from_std", NO_FD),
    ("TcpStream::into_std", NO_FD),
    ("TcpSocket::from_std_stream", NO_FD),
    ("UdpSocket::from_std", NO_FD),
    ("UdpSocket::into_std", NO_FD),
    ("AsFd", NO_FD),
    ("AsRawFd", NO_FD),
    ("FromRawFd", NO_FD),
    ("IntoRawFd", NO_FD),
    ("TryFrom", NO_FD),
    ("Drop", "an implementation detail: closing is done by what the handles share"),
];

const NO_FD: &str = "a stack in user space has no file descriptors";

/// The types that are compared.
const TYPES: [&str; 9] = [
    "TcpListener",
    "TcpStream",
    "TcpSocket",
    "ReadHalf",
    "WriteHalf",
    "OwnedReadHalf",
    "OwnedWriteHalf",
    "ReuniteError",
    "UdpSocket",
];

/// Where cargo has the source of tokio. `cargo metadata` knows it too, but not before everything that any platform and
/// feature needs was downloaded.
fn tokio() -> PathBuf {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = std::fs::read_to_string(&lock).expect("a workspace has a lock file");
    let locked = lock.split("\n[[package]]\n").find(|package| package.starts_with("name = \"tokio\"\n"));
    let version = locked.and_then(|package| package.split("version = \"").nth(1)?.split('"').next());
    let folder = format!("tokio-{}", version.expect("tokio is a dependency"));
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).expect("cargo has a home");
    let sources =
        std::fs::read_dir(home.join("registry/src")).expect("the sources that cargo has downloaded");
    let mut folders = sources.flatten().map(|registry| registry.path().join(&folder));
    folders.find(|path| path.is_dir()).expect("tokio was downloaded, since this was built with it")
}

fn read(mut files: Vec<PathBuf>) -> Source {
    files.sort();
    let texts: Vec<_> = files.iter().map(|file| std::fs::read_to_string(file).expect("a file")).collect();
    Source::read(&texts)
}

fn find_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Tokio's and ours.
fn sources() -> (Source, Source) {
    let net = tokio().join("src/net");
    let mut theirs = vec![net.join("udp.rs"), net.join("lookup_host.rs")];
    find_files(&net.join("tcp"), &mut theirs);
    let mut ours = vec![];
    find_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net"), &mut ours);
    (read(theirs), read(ours))
}

fn is_left_out(name: &str) -> bool {
    LEFT_OUT.iter().any(|(left_out, _)| *left_out == name)
}

#[test]
fn every_function_of_tokio_is_here_with_the_same_signature() {
    let (theirs, ours) = sources();
    let by_name: BTreeMap<String, &Function> =
        ours.functions.iter().map(|function| (function.path(), function)).collect();
    let (mut compared, mut wrong) = (0, vec![]);
    for function in &theirs.functions {
        let path = function.path();
        let known = TYPES.contains(&function.of.as_str()) || path == "lookup_host";
        if !known || is_left_out(&path) {
            continue;
        }
        compared += 1;
        match by_name.get(&path) {
            None => wrong.push(format!("{path} is missing")),
            Some(own) if own.signature != function.signature => {
                wrong.push(format!("{path}\n  tokio {}\n  ours  {}", function.signature, own.signature));
            }
            Some(own) if own.is_deprecated != function.is_deprecated => {
                wrong.push(format!("{path} is deprecated in one of the two"));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Those of tokio 1.54; later versions may have more.
    assert!(compared >= 158, "only {compared} were found");
}

#[test]
fn every_trait_of_tokio_is_implemented() {
    let (theirs, ours) = sources();
    let mut compared = 0;
    for (name, of) in theirs.impls.iter().filter(|(_, of)| TYPES.contains(&of.as_str())) {
        if is_left_out(name) {
            continue;
        }
        compared += 1;
        assert!(ours.impls.contains(&(name.clone(), of.clone())), "{name} for {of} is missing");
    }
    assert!(compared >= 17, "only {compared} were found");
}

#[test]
fn what_is_left_out_is_in_tokio() {
    let (theirs, _) = sources();
    for (name, _) in LEFT_OUT {
        let is_function = theirs.functions.iter().any(|function| function.path() == name);
        let is_trait = theirs.impls.iter().any(|(implemented, _)| implemented == name);
        assert!(is_function || is_trait, "{name}: tokio has no such thing");
    }
}

#[test]
fn the_documentation_says_what_there_is_in_place_of_file_descriptors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/net");
    for (file, of) in [
        ("tcp/listener.rs", "TcpListener"),
        ("tcp/stream.rs", "TcpStream"),
        ("tcp/socket.rs", "TcpSocket"),
        ("udp/socket.rs", "UdpSocket"),
    ] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let (docs, _) = text.split_once(&format!("pub struct {of}")).unwrap();
        assert!(docs.contains("/// # File descriptors\n"), "{of}");
    }
}
