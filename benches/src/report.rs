//! The output of a run: text while and after it runs, tables of Markdown, JSON lines, SVG.

mod machine;
mod svg;

pub use machine::Provenance;
pub use svg::svg;

use crate::rounds::{Outcome, Progress, Rounds};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Characters of the longest name of a contender, and a space.
const NAME: usize = 26;

/// One line about a measurement that has ended.
pub fn progress(progress: &Progress<'_>) -> String {
    let Progress { round, rounds, row, contender, outcome } = progress;
    let found = match outcome {
        Outcome::Found(figures) => {
            let shown = figures.iter().filter(|(name, _)| row.metrics.contains(name));
            shown.map(|(name, value)| format!("{name} {}", number(*value))).collect::<Vec<_>>().join("  ")
        }
        Outcome::Failed(why) => format!("fails: {why}"),
        Outcome::NotApplicable => String::new(),
    };
    format!("{:>2}/{rounds}  {}: {contender:<NAME$}{found}", round + 1, row.title)
}

/// All rows as text: medians, spreads and ratios of the figures that tables show.
pub fn text(rounds: &Rounds) -> String {
    let mut out = String::new();
    for (at, row) in rounds.rows.iter().enumerate() {
        let dropped = rounds.dropped(at).iter().filter(|dropped| **dropped).count();
        let kept = rounds.len() - dropped;
        let _ = write!(
            out,
            "
{}: {kept} {}",
            row.title,
            if kept == 1 { "round" } else { "rounds" }
        );
        let _ = writeln!(out, "{}", if dropped > 0 { format!(", {dropped} dropped") } else { String::new() });
        for (contender, name) in rounds.contenders.iter().enumerate() {
            let mut lead = format!("  {name:<NAME$}");
            for metric in row.metrics {
                let Some(summary) = rounds.summary(at, contender, metric) else { continue };
                let spread = summary.spread;
                let _ = write!(
                    out,
                    "{lead}{metric:<20}{:>10} ({} to {})",
                    number(spread.median),
                    number(spread.min),
                    number(spread.max)
                );
                for (base, ratio) in rounds.bases.iter().zip(summary.ratios) {
                    if let Some(ratio) = ratio
                        && base.contender != *name
                    {
                        let _ = write!(out, "  {ratio:.3} × {}", base.contender);
                    }
                }
                out.push('\n');
                lead = " ".repeat(NAME + 2);
            }
            if let Some(why) = failure(rounds, at, contender) {
                let _ = writeln!(out, "{lead}fails: {why}");
            }
        }
    }
    out
}

/// Why a contender failed in a row, if it did once.
fn failure(rounds: &Rounds, row: usize, contender: usize) -> Option<&str> {
    rounds.outcomes(row, contender).iter().find_map(|outcome| match outcome {
        Outcome::Failed(why) => Some(why.as_str()),
        _ => None,
    })
}

/// A table of Markdown: a line for each row, a column for each contender. `metric` chooses a figure of a row, and rows
/// without are left out. With `ratios`, the ratio to the first base follows in parentheses.
pub fn markdown<'a>(
    rounds: &'a Rounds,
    metric: impl Fn(&'a [&'static str]) -> Option<&'static str>,
    ratios: bool,
) -> String {
    let mut out = format!(
        "| | {} |\n|---{}|\n",
        rounds.contenders.join(" | "),
        "|---:".repeat(rounds.contenders.len())
    );
    for (at, row) in rounds.rows.iter().enumerate() {
        let Some(metric) = metric(row.metrics) else { continue };
        let cells: Vec<_> = (0..rounds.contenders.len())
            .map(|contender| cell(rounds, at, contender, metric, ratios))
            .collect();
        let _ = writeln!(out, "| {}: {} | {} |", row.title, unit(metric), cells.join(" | "));
    }
    out
}

fn cell(rounds: &Rounds, row: usize, contender: usize, metric: &str, ratios: bool) -> String {
    let Some(summary) = rounds.summary(row, contender, metric) else {
        let failed = failure(rounds, row, contender).is_some();
        return if failed { "fails" } else { "" }.to_owned();
    };
    let median = number(summary.spread.median);
    let is_base = rounds.bases.first().is_some_and(|base| base.contender == rounds.contenders[contender]);
    match summary.ratios.first() {
        Some(Some(ratio)) if ratios && !is_base => format!("{median} ({ratio:.2})"),
        _ => median,
    }
}

/// A number of things, in words.
pub fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// The name of a figure for people.
fn unit(metric: &str) -> &str {
    match metric {
        "gbps" => "Gbit/s",
        "per_s" => "per second",
        "p50_us" => "median µs",
        "cpu_s_per_gb" => "CPU seconds per GB",
        "total_cpu_s_per_gb" => "CPU seconds per GB, both ends",
        "cpu_us" => "CPU µs each",
        "heap_bytes" => "heap bytes each",
        "rest_bytes" => "heap bytes each, at rest",
        "resident_bytes" => "resident bytes each",
        other => other,
    }
}

/// All measurements as JSON, one object a line: where they come from, each round, and the summaries.
pub fn json_lines(rounds: &Rounds, provenance: &Provenance) -> String {
    let mut lines = vec![json!({
        "machine": provenance.machine, "date": provenance.date, "command": provenance.command,
        "rule": rounds.rule.as_ref().map(ToString::to_string),
    })];
    for (at, row) in rounds.rows.iter().enumerate() {
        let dropped = rounds.dropped(at);
        let line = |contender: usize| {
            let mut line = row.key.clone();
            line.insert("contender".to_owned(), rounds.contenders[contender].into());
            line
        };
        for contender in 0..rounds.contenders.len() {
            for (number, outcome) in rounds.outcomes(at, contender).iter().enumerate() {
                let mut line = line(contender);
                line.insert("round".to_owned(), number.into());
                line.insert("dropped".to_owned(), dropped[number].into());
                match outcome {
                    Outcome::Found(figures) => {
                        line.extend(
                            figures.iter().map(|(name, value)| ((*name).to_owned(), rounded(*value))),
                        );
                    }
                    Outcome::Failed(why) => drop(line.insert("error".to_owned(), why.as_str().into())),
                    Outcome::NotApplicable => continue,
                }
                lines.push(Value::Object(line));
            }
        }
        for contender in 0..rounds.contenders.len() {
            for metric in rounds.metrics(at) {
                lines.extend(summary(rounds, at, contender, metric, line(contender)));
            }
        }
    }
    lines.iter().map(|line| line.to_string() + "\n").collect()
}

fn summary(
    rounds: &Rounds,
    row: usize,
    contender: usize,
    metric: &str,
    mut line: Map<String, Value>,
) -> Option<Value> {
    let summary = rounds.summary(row, contender, metric)?;
    let spread = summary.spread;
    let mut set = |name: &str, value: Value| drop(line.insert(name.to_owned(), value));
    set("metric", metric.into());
    set("median", rounded(spread.median));
    set("min", rounded(spread.min));
    set("max", rounded(spread.max));
    set("rounds", summary.rounds.into());
    for (base, ratio) in rounds.bases.iter().zip(summary.ratios) {
        set(base.field, ratio.map_or(Value::Null, rounded));
    }
    Some(Value::Object(line))
}

/// To six significant digits: more is noise.
fn rounded(value: f64) -> Value {
    let rounded: Option<f64> = format!("{value:.5e}").parse().ok();
    rounded.filter(|value| value.is_finite()).map_or(Value::Null, Value::from)
}

/// With three significant digits or more, and commas between thousands.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !size.is_finite() {
        "-".to_owned()
    } else if size < 0.0005 {
        "0".to_owned()
    } else if size < 1.0 {
        format!("{value:.3}")
    } else if size < 10.0 {
        format!("{value:.2}")
    } else if size < 1000.0 {
        format!("{value:.1}")
    } else {
        let digits = format!("{size:.0}");
        let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at) % 3 == 0 {
                text.push(',');
            }
            text.push(digit);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::tests::{rounds, row};

    fn measured() -> Rounds {
        rounds(
            row(true),
            &[
                ("limit", &[Some(40.0), Some(20.0), Some(40.0)]),
                ("netstack", &[Some(38.0), Some(20.0), Some(38.0)]),
                ("kernel-veth", &[Some(19.0), Some(20.0), None]),
            ],
        )
    }

    fn provenance() -> Provenance {
        Provenance {
            machine: "a machine".to_owned(),
            date: "1970-01-01".to_owned(),
            command: "run".to_owned(),
        }
    }

    #[test]
    fn json_has_every_round_and_the_summaries() {
        let text = json_lines(&measured(), &provenance());
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines[0]["rule"].as_str().unwrap().contains("`limit`"));
        let of = |contender: &str| {
            let mine = lines.iter().filter(|line| line["contender"] == contender);
            mine.cloned().partition::<Vec<_>, _>(|line| line.get("round").is_some())
        };
        let (each, summaries) = of("netstack");
        assert_eq!(each.len(), 3);
        assert_eq!((&each[1]["dropped"], &each[1]["gbps"]), (&json!(true), &json!(20.0)));
        assert_eq!(summaries.len(), 1);
        let summary = &summaries[0];
        assert_eq!((&summary["scenario"], &summary["metric"]), (&json!("stream-in"), &json!("gbps")));
        assert_eq!(
            (&summary["median"], &summary["min"], &summary["max"]),
            (&json!(38.0), &json!(38.0), &json!(38.0))
        );
        assert_eq!(summary["ratio_limit"], json!(0.95));
        assert_eq!(summary["ratio_kernel_veth"], json!(2.0));
        assert_eq!(of("kernel-veth").0[2]["error"], "it is stuck");
    }

    #[test]
    fn tables_have_medians_and_ratios_to_the_first_base() {
        let table = markdown(&measured(), |metrics| metrics.first().copied(), true);
        let last = table.lines().last().unwrap();
        assert_eq!(last, "| stream-in, 1 flow: Gbit/s | 40.0 | 38.0 (0.95) | 19.0 (0.47) |");
        assert_eq!(markdown(&measured(), |_| None, true).lines().count(), 2);
    }

    #[test]
    fn text_says_what_was_dropped_and_what_failed() {
        let text = text(&measured());
        assert!(text.contains("2 rounds, 1 dropped"), "{text}");
        assert!(text.contains("38.0 (38.0 to 38.0)  0.950 × limit  2.000 × kernel-veth"), "{text}");
        assert!(text.contains("fails: it is stuck"), "{text}");
    }

    #[test]
    fn numbers_have_about_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.1234, "0.123"),
            (3.456, "3.46"),
            (42.66, "42.7"),
            (1234.5, "1,234"),
            (-1_234_567.0, "-1,234,567"),
            (f64::NAN, "-"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
        assert_eq!(rounded(1_234.567_89), json!(1234.57));
        assert_eq!(rounded(f64::INFINITY), Value::Null);
    }
}
