//! The guided tour in virtual time: the claims of every experiment hold, claims can fail, the
//! diagrams in the repository are those that the experiments draw, and every capture can be read.
//!
//! To draw the diagrams of the repository anew:
//! ```text
//! cargo build -p netstack-examples --examples
//! NETSTACK_BLESS=1 cargo test -p netstack-examples --test tour diagrams
//! ```

use netstack_examples::tour::capture;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Rows of the tour that must be there; the names begin with their numbers.
const ROWS: [&str; 16] = [
    "s01", "s02", "s03", "s04", "s05", "s06", "s07", "s09", "s10", "s11", "s12", "s13", "s14", "s15", "s16",
    "s17",
];

/// Changes of the network or a setting, and an experiment that must fail with them.
const SABOTAGE: &[(&str, &[&str])] = &[
    ("s01", &["--config", "keepalive_interval=60s"]),
    ("s01", &["--config", "keepalive_retries=8"]),
    ("s02", &["--lose", "FIN"]),
    ("s02", &["--lose", "RST"]),
    ("s03", &["--config", "retries2=14"]),
    ("s03", &["--config", "rto_max=60s"]),
    ("s04", &["--lose", "RST"]),
    ("s05", &["--config", "retries2=8"]),
    ("s05", &["--lose", "RST"]),
    ("s06", &["--config", "time_wait=59s"]),
    ("s06", &["--config", "timestamps=off"]),
    ("s06", &["--lose", "RST"]),
    ("s07", &["--config", "rto_initial=2s"]),
    ("s07", &["--config", "fastopen=0x1"]),
    ("s09", &["--lose", "RST"]),
    ("s09", &["--config", "congestion=reno"]),
    ("s10", &["--lose", "RST"]),
    ("s11", &["--lose", "SYN,ACK"]),
    ("s12", &["--lose", "PSH"]),
    ("s13", &["--lose", "RST"]),
    ("s13", &["--config", "synack_retries=3"]),
    ("s14", &["--lose", "RST"]),
    ("s14", &["--lose", "FIN"]),
    ("s15", &["--config", "delayed_ack_min=0ms"]),
    ("s15", &["--lose", "FIN"]),
    ("s16", &["--config", "delayed_ack_min=50ms"]),
    ("s17", &["--lose", "PSH"]),
    ("s17", &["--config", "delayed_ack_max=499ms", "--config", "delayed_ack_min=499ms"]),
];

/// The experiments, by the number of their row.
fn experiments() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let names = files.filter_map(|file| file.strip_suffix(".rs").map(str::to_owned));
    let is_row = |name: &String| {
        let number = name.strip_prefix('s').and_then(|rest| rest.split('_').next());
        number.is_some_and(|number| number.len() == 2 && number.bytes().all(|digit| digit.is_ascii_digit()))
    };
    names.filter(is_row).map(|name| (name[..3].to_owned(), name)).collect()
}

/// Runs the experiment of a row in virtual time, with its files in `out`.
fn run(row: &str, out: &Path, arguments: &[&str]) -> Output {
    run_example(&experiments()[row], out, arguments)
}

/// The same for an example by name.
fn run_example(name: &str, out: &Path, arguments: &[&str]) -> Output {
    Command::new(program(name))
        .args(["--memory", "--quiet", "--out"])
        .arg(out)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The program of an example.
fn program(name: &str) -> PathBuf {
    // …/target/debug/deps/tour-…
    let folder = std::env::current_exe().unwrap();
    folder.parent().and_then(Path::parent).unwrap().join("examples").join(name)
}

/// A folder for the files of one test, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("netstack-tour-{test}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let paths = fs::read_dir(&self.0).unwrap().map(|file| file.unwrap().path());
        let mut paths: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
        paths.sort();
        paths
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Files of a failed test may be useful, and nothing depends on them.
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Runs all experiments of the tour that are required.
fn run_all(test: &str) -> Folder {
    let folder = Folder::new(test);
    for row in ROWS {
        let output = run(row, &folder.0, &[]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{row}: {text}{}", String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains('✗') && text.contains('✓'), "{row}: {text}");
    }
    folder
}

#[test]
fn every_row_has_an_experiment_that_says_what_it_shows_and_a_place_in_the_tour() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tour = fs::read_to_string(folder.join("README.md")).unwrap();
    let experiments = experiments();
    for row in ROWS {
        let name = experiments.get(row).unwrap_or_else(|| panic!("{row} has no experiment"));
        let text = fs::read_to_string(folder.join("examples").join(format!("{name}.rs"))).unwrap();
        assert!(text.starts_with(&format!("//! {}: ", row.to_uppercase().replace("S0", "S"))), "{name}");
        assert!(text.contains(&format!("--example {name}\n")), "{name} does not say how to run it");
        assert!(tour.contains(&format!("--example {name}\n")), "{name} is not in README.md");
    }
}

#[test]
fn the_claims_hold_and_the_diagrams_and_captures_are_as_they_should_be() {
    let folder = run_all("claims");
    for path in folder.files("pcapng") {
        let checked = capture::check(&path).unwrap();
        assert_eq!(checked.bad_checksums, 0, "{}", path.display());
    }
    for path in folder.files("svg") {
        let svg = fs::read_to_string(&path).unwrap();
        assert_eq!(cut(&svg), [""; 0], "beyond the edges of {}", path.display());
    }
    // Those of the tour are in the repository, and virtual time draws them the same every time.
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("diagrams");
    let bless = std::env::var_os("NETSTACK_BLESS").is_some_and(|value| value == "1");
    let tour = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let mut outdated = Vec::new();
    for diagram in shown(&tour) {
        let drawn = folder.0.join(&diagram);
        let drawn =
            fs::read(&drawn).unwrap_or_else(|_| panic!("README.md shows {diagram}, and nobody draws it"));
        if bless {
            fs::create_dir_all(&committed).unwrap();
            fs::write(committed.join(&diagram), &drawn).unwrap();
        }
        if fs::read(committed.join(&diagram)).unwrap_or_default() != drawn {
            outdated.push(diagram);
        }
    }
    assert!(
        outdated.is_empty(),
        "out of date in examples/diagrams (see the head of examples/tests/tour.rs, look at what has changed in \
         {}, and draw them anew if it is right): {outdated:?}",
        folder.0.display()
    );
    tshark_reads(&folder);
}

/// The value of an attribute of an element.
fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = element.split_once(&format!(" {name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// The texts of a diagram that reach beyond its edges, if a character is as wide as in the usual fonts.
fn cut(svg: &str) -> Vec<&str> {
    let width: f64 = attribute(svg, "width").unwrap().parse().unwrap();
    let mut texts = Vec::new();
    for element in svg.split("<text").skip(1) {
        let (head, rest) = element.split_once('>').unwrap();
        let text = rest.split_once("</text>").unwrap().0;
        let x: f64 = attribute(head, "x").unwrap().parse().unwrap();
        let chars = text.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&").chars().count();
        let long = chars as f64 * 7.2;
        let classes = attribute(head, "class").unwrap_or_default();
        let left = match classes {
            classes if classes.contains('m') => x - long / 2.0,
            classes if classes.contains(['e', 't']) => x - long,
            _ => x,
        };
        if left < 0.0 || left + long > width {
            texts.push(text);
        }
    }
    assert!(!svg.contains("Some("), "{svg}");
    assert!(!svg.is_empty() && svg.contains("<text"));
    texts
}

#[test]
fn connections_are_told_apart_and_a_proxy_has_a_lifeline_of_its_own() {
    let folder = Folder::new("connections");
    assert!(run("s13", &folder.0, &[]).status.success());
    let queues = fs::read_to_string(folder.0.join("s13_queues_accept_queue.svg")).unwrap();
    // Four clients: in the legend, on their SYNs, beside their calls, and each in its colour.
    for number in 1..=4 {
        for text in [format!(">#{number} 10.0.0.1:"), format!(">#{number} SYN seq 0 ")] {
            let (head, _) = queues.split_once(&text).unwrap_or_else(|| panic!("no {text}"));
            let colour = attribute(&head[head.rfind("<text").unwrap()..], "fill").unwrap();
            assert_eq!(colour, ["#1d4f91", "#1a7a3c", "#7b3fa0", "#00808a"][number - 1]);
        }
    }
    for call in ["#1 connect(:8013) …", "#2 connect(:8013) = 0", "#2 accept() = 0", "#4 connect(:8013) …"]
    {
        assert!(queues.contains(&format!(">{call}<")), "no {call}");
    }

    let output = run_example("proxy_accept", &folder.0, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    for path in folder.files("svg") {
        let svg = fs::read_to_string(&path).unwrap();
        assert_eq!(cut(&svg), [""; 0], "beyond the edges of {}", path.display());
    }
    let slow = fs::read_to_string(folder.0.join("proxy_accept_slow.svg")).unwrap();
    let place = |text: &str| {
        let (head, _) = slow.split_once(text).unwrap_or_else(|| panic!("no {text} in {slow}"));
        let x = attribute(&head[head.rfind("<text").unwrap()..], "x").unwrap();
        x.parse::<f64>().unwrap()
    };
    let [client, proxy, server] = [">client<", ">proxy<", ">server<"].map(place);
    assert!(client < proxy && proxy < server);
    assert!(place(">#2 SYN seq 0 ") > proxy && place(">#1 SYN seq 0 ") < proxy);
    assert!(place(">#2 accept() = 0<") > server && place("a SYN; MSS 1460, window scale 10<") > proxy);
}

/// The points of the curve of a plot that has this colour and width, in pixels from the upper left corner.
fn curve(svg: &str, colour: &str, width: &str) -> Vec<(i32, i32)> {
    let of_it = |element: &&str| {
        attribute(element, "stroke") == Some(colour) && attribute(element, "stroke-width") == Some(width)
    };
    let curve = svg.split("<polyline").skip(1).find(of_it).unwrap_or_else(|| panic!("no curve in {colour}"));
    let points = attribute(curve, "points").unwrap().split_whitespace();
    points
        .map(|point| point.split_once(',').unwrap())
        .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
        .collect()
}

#[test]
fn a_plot_of_a_transfer_says_what_is_in_flight() {
    let folder = Folder::new("plot");
    let plot = folder.0.join("cwnd.svg");
    let output = Command::new(program("cwnd"))
        .args(["--cell", "10000,50000,100,0,100,1", "--seconds", "10", "--output"])
        .arg(&plot)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let svg = fs::read_to_string(&plot).unwrap();
    let texts: Vec<&str> =
        svg.split("<text").skip(1).filter_map(|text| text.split(['>', '<']).nth(1)).map(str::trim).collect();
    let title = "CUBIC over 10 Mbit/s, a round trip of 50 ms, a queue of 100 % of the bandwidth-delay product, 1 % lost at random";
    for text in [
        title,
        "in flight",
        "congestion window",
        "slow start threshold",
        "retransmitted",
        "lost",
        "acknowledged",
    ] {
        assert!(texts.contains(&text), "no {text} in {texts:?}");
    }
    // What is in flight does not exceed the window, in a recovery neither.
    let (window, in_flight) = (curve(&svg, "#0000FF", "1"), curve(&svg, "#78C88C", "4"));
    assert!(window.len() > 100 && window.len() == in_flight.len());
    let above =
        window.iter().zip(&in_flight).filter(|((_, window), (_, in_flight))| in_flight + 5 < *window).count();
    assert!(above * 50 < window.len(), "{above} of {}", window.len());
}

/// The diagrams that the tour shows of the experiments that are required.
fn shown(tour: &str) -> Vec<String> {
    let parts = tour.split("(diagrams/").skip(1);
    let names = parts.map(|part| part[..part.find(')').unwrap()].to_owned());
    names.filter(|name| ROWS.contains(&&name[..3])).collect()
}

/// Checks the captures with Wireshark, if it is available.
fn tshark_reads(folder: &Folder) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("check-captures");
    let output = Command::new(script).arg(&folder.0).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if text.starts_with("SKIPPED") {
        // The runner captures what println! prints.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn claims_can_fail() {
    let folder = Folder::new("sabotage");
    for (row, arguments) in SABOTAGE {
        let output = run(row, &folder.0, arguments);
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{row} {arguments:?} met its claims: {text}");
    }
}

#[test]
fn bad_arguments_are_one_line() {
    let folder = Folder::new("arguments");
    for (arguments, expected) in [
        (&["--lose", "NOTHING"][..], "`NOTHING` is none of FIN, SYN, RST, PSH and ACK"),
        (&["--config", "a=b"], "no setting `a`"),
        (&["--frob"], "unexpected argument '--frob'"),
    ] {
        let output = run("s10", &folder.0, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(error.contains(expected) && error.lines().count() == 1, "{arguments:?}: {error}");
    }
}
