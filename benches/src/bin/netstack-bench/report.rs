//! The output of measurements, as text or as JSON lines.

use netstack_benches::contender::Contender;
use netstack_benches::stats::median;
use serde_json::{Map, Value, json};

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
        contender: Contender,
        round: usize,
        found: &Map<String, Value>,
    ) {
        if self.json {
            let mut line = test.clone();
            line.insert("contender".to_owned(), contender.name().into());
            line.insert("round".to_owned(), round.into());
            line.extend(found.clone());
            println!("{}", Value::Object(line));
        } else {
            println!("  {:>2}  {contender:<10}{}", round + 1, words(found));
        }
    }

    /// Medians, and ratios of the others to netstack where it took part, or to the first.
    pub(crate) fn summary(
        &self,
        test: &Map<String, Value>,
        key: &str,
        contenders: &[Contender],
        values: &[Vec<f64>],
    ) {
        for (contender, values) in contenders.iter().zip(values) {
            let median = median(values);
            if self.json {
                let mut line = test.clone();
                let more = json!({ "summary": "median", "contender": contender.name(), "key": key, "median": median });
                line.extend(more.as_object().cloned().unwrap_or_default());
                println!("{}", Value::Object(line));
            } else {
                println!("  median of {key}: {contender:<10}{median:.2}");
            }
        }
        let position = |wanted| contenders.iter().position(|&contender| contender == wanted);
        let Some(ours) = position(Contender::Netstack) else { return };
        for (at, other) in contenders.iter().enumerate().filter(|&(at, _)| at != ours) {
            let of_medians = median(&values[ours]) / median(&values[at]);
            let each: Vec<f64> = values[ours].iter().zip(&values[at]).map(|(a, b)| a / b).collect();
            let of_pairs = median(&each);
            if self.json {
                let mut line = test.clone();
                let more = json!({
                    "summary": "ratio", "of": Contender::Netstack.name(), "to": other.name(), "key": key,
                    "ratio_of_medians": of_medians, "median_of_ratios": of_pairs,
                });
                line.extend(more.as_object().cloned().unwrap_or_default());
                println!("{}", Value::Object(line));
            } else {
                println!(
                    "  netstack / {other:<10}{of_medians:.3} (ratio of medians), {of_pairs:.3} (median of ratios)"
                );
            }
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
