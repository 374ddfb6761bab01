//! The output of measurements, as text or as JSON lines.

use netstack_benches::stats::median;
use serde_json::{Map, Value, json};

/// The contender that the others are compared with.
const OURS: &str = "netstack";
/// Characters of the longest name of a contender, and a space.
const WIDTH: usize = 16;

/// Prints to standard output, line by line.
pub(crate) struct Report {
    json: bool,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// A heading.
    pub(crate) fn begin(&self, test: &Map<String, Value>) {
        if !self.json {
            println!("{}", words(test));
        }
    }

    /// One measurement.
    pub(crate) fn measured(
        &self,
        test: &Map<String, Value>,
        contender: &str,
        round: usize,
        found: &Map<String, Value>,
    ) {
        if self.json {
            let mut line = test.clone();
            line.insert("contender".to_owned(), contender.into());
            line.insert("round".to_owned(), round.into());
            line.extend(found.clone());
            println!("{}", Value::Object(line));
        } else {
            println!("  {:>2}  {contender:<WIDTH$}{}", round + 1, words(found));
        }
    }

    /// Medians, and ratios of netstack to the others where it took part.
    pub(crate) fn summary(
        &self,
        test: &Map<String, Value>,
        key: &str,
        contenders: &[&str],
        values: &[Vec<f64>],
    ) {
        for (contender, values) in contenders.iter().zip(values) {
            let median = median(values);
            if self.json {
                let mut line = test.clone();
                let more =
                    json!({ "summary": "median", "contender": contender, "key": key, "median": median });
                line.extend(more.as_object().cloned().unwrap_or_default());
                println!("{}", Value::Object(line));
            } else {
                println!("  median of {key}: {contender:<WIDTH$}{median:.2}");
            }
        }
        self.ratios(test, key, OURS, contenders, values);
    }

    /// Ratios of the contender `base` to the others, where it took part.
    pub(crate) fn ratios(
        &self,
        test: &Map<String, Value>,
        key: &str,
        base: &str,
        contenders: &[&str],
        values: &[Vec<f64>],
    ) {
        let Some(ours) = contenders.iter().position(|&contender| contender == base) else { return };
        for (at, other) in contenders.iter().enumerate().filter(|&(at, _)| at != ours) {
            let of_medians = median(&values[ours]) / median(&values[at]);
            let each: Vec<f64> = values[ours].iter().zip(&values[at]).map(|(a, b)| a / b).collect();
            let of_pairs = median(&each);
            if self.json {
                let mut line = test.clone();
                let more = json!({
                    "summary": "ratio", "of": base, "to": other, "key": key,
                    "ratio_of_medians": of_medians, "median_of_ratios": of_pairs,
                });
                line.extend(more.as_object().cloned().unwrap_or_default());
                println!("{}", Value::Object(line));
            } else {
                println!(
                    "  {base} / {other:<WIDTH$}{of_medians:.3} (ratio of medians), {of_pairs:.3} (median of ratios)"
                );
            }
        }
    }

    /// A table of Markdown: a heading for each column, a name and its cells for each row.
    pub(crate) fn table(&self, headings: &[&str], rows: Vec<(&str, Vec<String>)>) {
        if self.json {
            return;
        }
        println!("\n| | {} |\n|---{}|", headings.join(" | "), "|---:".repeat(headings.len()));
        for (name, cells) in rows {
            println!("| {name} | {} |", cells.join(" | "));
        }
    }
}

/// The fields as text: strings and numbers, without quotes.
fn words(fields: &Map<String, Value>) -> String {
    let words = fields.iter().map(|(key, value)| match value {
        Value::String(text) if key == "test" => text.clone(),
        Value::String(text) => format!("{key} {text}"),
        value => format!("{key} {value}"),
    });
    words.collect::<Vec<_>>().join("  ")
}
