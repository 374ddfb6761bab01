//! Every scenario of `netstack-bench run` with the contenders that need nothing but Linux, for a moment each: they
//! run, and what they report can be read.

use netstack_benches::scenario::Scenario;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

const CONTENDERS: [&str; 4] = ["limit", "limit-tokio", "netstack", "kernel-veth"];

/// Seconds of each measurement. On a busy machine, a moment may not suffice to move anything; then it is measured
/// for longer.
const SECONDS: [&str; 3] = ["0.05", "0.3", "1.5"];

/// Runs `netstack-bench run` with further arguments until `missing` finds nothing, and returns its lines of JSON and
/// the drawing.
fn run(name: &str, arguments: &[&str], missing: impl Fn(&[Value]) -> Option<String>) -> (Vec<Value>, String) {
    let mut last = None;
    for seconds in SECONDS {
        let (lines, svg) = run_once(name, seconds, &CONTENDERS, arguments);
        last = missing(&lines);
        if last.is_none() {
            return (lines, svg);
        }
    }
    panic!("in {SECONDS:?} s: {}", last.unwrap_or_default())
}

fn run_once(name: &str, seconds: &str, contenders: &[&str], arguments: &[&str]) -> (Vec<Value>, String) {
    let [json, svg] = ["json", "svg"]
        .map(|ending| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{ending}")));
    let output = Command::new(env!("CARGO_BIN_EXE_netstack-bench"))
        .args(["run", "--seconds", seconds, "--contender", &contenders.join(",")])
        .args(arguments)
        .arg("--json")
        .arg(&json)
        .arg("--svg")
        .arg(&svg)
        .output()
        .expect("the program runs");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(!log.contains("fails"), "{log}");
    let lines = std::fs::read_to_string(&json).expect("it has written them");
    let lines = lines.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect();
    (lines, std::fs::read_to_string(&svg).expect("it has drawn them"))
}

/// The summary of a contender.
fn summary<'a>(lines: &'a [Value], scenario: &str, contender: &str, metric: &str) -> &'a Value {
    lines
        .iter()
        .find(|line| {
            line["scenario"] == scenario && line["contender"] == contender && line["metric"] == metric
        })
        .unwrap_or_else(|| panic!("{scenario} has no {metric} of {contender}"))
}

/// Whether all these fields are numbers above zero.
fn are_positive(line: &Value, fields: &[&str]) -> bool {
    fields.iter().all(|field| line[*field].as_f64() > Some(0.0))
}

#[test]
fn every_scenario_runs_for_a_moment() {
    netstack_tun::netns::isolated("every_scenario_runs_for_a_moment", || {
        let timed: Vec<_> =
            Scenario::ALL.into_iter().filter(|scenario| *scenario != Scenario::Hold).collect();
        let names: Vec<_> = timed.iter().map(|scenario| scenario.name()).collect();
        let arguments = ["--rounds", "1", "--scenario", &names.join(","), "--flows", "2"];
        let (lines, svg) = run("scenarios", &arguments, |lines| {
            let mut all =
                timed.iter().flat_map(|scenario| CONTENDERS.map(|contender| (*scenario, contender)));
            all.find_map(|(scenario, contender)| {
                let metric = match scenario {
                    Scenario::Rr => "p50_us",
                    Scenario::Crr | Scenario::AcceptRate => "per_s",
                    _ => "gbps",
                };
                let found = summary(lines, scenario.name(), contender, metric);
                let fields = ["median", "min", "max", "ratio_limit", "ratio_kernel_veth"];
                (!are_positive(found, &fields)).then(|| found.to_string())
            })
        });
        assert!(lines[0]["rule"].as_str().is_some_and(|rule| rule.contains("dropped")));
        assert_eq!(svg.matches("class=\"h\"").count(), timed.len() + 1);
    });
}

/// Each contender by itself, since they wait for their connections to rest.
fn hold(contender: &str) -> (Vec<Value>, String) {
    let arguments = ["--rounds", "1", "--scenario", "hold", "--connections", "20"];
    run_once(&format!("hold-{contender}"), SECONDS[0], &[contender], &arguments)
}

#[test]
fn what_connections_hold_is_counted() {
    netstack_tun::netns::isolated("what_connections_hold_is_counted", || {
        let runs = CONTENDERS.map(|contender| (contender, thread::spawn(move || hold(contender))));
        for (contender, run) in runs {
            let (lines, svg) = run.join().expect("it has run");
            assert_eq!(svg.matches("class=\"h\"").count(), 2);
            let resident = &summary(&lines, "hold", contender, "resident_bytes")["median"];
            assert!(resident.as_f64().is_some_and(f64::is_finite), "{contender}: {resident}");
            if contender == "netstack" {
                // Memory that others have left may suffice for a few connections more, but not for netstack's.
                let bytes =
                    |metric| summary(&lines, "hold", contender, metric)["median"].as_f64().expect("a number");
                assert!(bytes("heap_bytes") > 500.0 && bytes("rest_bytes") < bytes("heap_bytes"));
            }
        }
    });
}

#[test]
fn every_interface_and_every_round_is_reported() {
    netstack_tun::netns::isolated("every_interface_and_every_round_is_reported", || {
        let arguments =
            ["--rounds", "2", "--scenario", "stream-out", "--link", "1500,65535", "--queues", "1,2"];
        let (lines, _) = run("interfaces", &arguments, |lines| {
            let mut rounds = lines.iter().filter(|line| line.get("round").is_some());
            rounds.find(|line| !are_positive(line, &["gbps"])).map(ToString::to_string)
        });
        let rounds: Vec<_> = lines.iter().filter(|line| line["dropped"].is_boolean()).collect();
        assert_eq!(rounds.len(), 2 * 2 * 2 * CONTENDERS.len());
        for (mtu, queues) in [(1500, 1), (1500, 2), (65_535, 1), (65_535, 2)] {
            let is_one = |line: &&&Value| line["mtu"] == mtu && line["queues"] == queues;
            assert_eq!(rounds.iter().filter(is_one).count(), 2 * CONTENDERS.len());
        }
    });
}
