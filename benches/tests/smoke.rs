//! Every scenario of `netstack-bench run` with the contenders that need nothing but Linux, for a moment each: they
//! run, and what they report can be read.

use netstack_benches::scenario::Scenario;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

const CONTENDERS: [&str; 3] = ["limit", "netstack", "kernel-veth"];

/// Runs `netstack-bench run` with further arguments, and returns its lines of JSON and the drawing.
fn run(name: &str, arguments: &[&str]) -> (Vec<Value>, String) {
    let [json, svg] = ["json", "svg"]
        .map(|ending| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{ending}")));
    let output = Command::new(env!("CARGO_BIN_EXE_netstack-bench"))
        .args(["run", "--seconds", "0.05", "--contender", &CONTENDERS.join(",")])
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

/// The median of a contender, and its ratios to the limit and to the kernel.
fn summary<'a>(lines: &'a [Value], scenario: &str, contender: &str, metric: &str) -> &'a Value {
    lines
        .iter()
        .find(|line| {
            line["scenario"] == scenario && line["contender"] == contender && line["metric"] == metric
        })
        .unwrap_or_else(|| panic!("{scenario} has no {metric} of {contender}"))
}

#[test]
fn every_scenario_runs_for_a_moment() {
    netstack_tun::netns::isolated("every_scenario_runs_for_a_moment", || {
        let names = Scenario::ALL.map(Scenario::name);
        let arguments =
            ["--rounds", "1", "--scenario", &names.join(","), "--flows", "2", "--connections", "20"];
        let (lines, svg) = run("scenarios", &arguments);
        assert!(lines[0]["rule"].as_str().is_some_and(|rule| rule.contains("dropped")));
        for scenario in Scenario::ALL {
            let metric = match scenario {
                Scenario::Rr => "p50_us",
                Scenario::Crr | Scenario::AcceptRate => "per_s",
                Scenario::Hold => "heap_bytes",
                _ => "gbps",
            };
            for contender in CONTENDERS {
                let found = summary(&lines, scenario.name(), contender, metric);
                // Memory that other connections have left may suffice for a few more.
                let is_figure = found["median"].as_f64().is_some_and(f64::is_finite);
                assert!(is_figure, "{found}");
                if scenario != Scenario::Hold {
                    assert!(found["median"].as_f64() > Some(0.0), "{found}");
                    assert!(found["ratio_limit"].as_f64() > Some(0.0), "{found}");
                    assert!(found["ratio_kernel_veth"].as_f64() > Some(0.0), "{found}");
                }
            }
        }
        assert!(summary(&lines, "hold", "netstack", "heap_bytes")["median"].as_f64() > Some(500.0));
        assert_eq!(svg.matches("class=\"h\"").count(), Scenario::ALL.len() + 1);
    });
}

#[test]
fn every_interface_and_every_round_is_reported() {
    netstack_tun::netns::isolated("every_interface_and_every_round_is_reported", || {
        let arguments =
            ["--rounds", "2", "--scenario", "stream-out", "--link", "1500,65535", "--queues", "1,2"];
        let (lines, _) = run("interfaces", &arguments);
        let rounds: Vec<_> = lines.iter().filter(|line| line.get("round").is_some()).collect();
        assert_eq!(rounds.len(), 2 * 2 * 2 * CONTENDERS.len());
        assert!(rounds.iter().all(|line| line["gbps"].as_f64() > Some(0.0) && line["dropped"].is_boolean()));
        for (mtu, queues) in [(1500, 1), (1500, 2), (65_535, 1), (65_535, 2)] {
            let is_one = |line: &&&Value| line["mtu"] == mtu && line["queues"] == queues;
            assert_eq!(rounds.iter().filter(is_one).count(), 2 * CONTENDERS.len());
        }
    });
}
