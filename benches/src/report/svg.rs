//! A chart of medians and spreads.

use super::{Provenance, number, unit};
use crate::rounds::Rounds;
use std::fmt::Write as _;

/// Where things are, in pixels.
const WIDTH: f64 = 960.0;
const NAMES: f64 = 200.0;
const VALUES: f64 = 300.0;
const MARGIN: f64 = 16.0;
const LINE: f64 = 20.0;
const HEADING: f64 = 34.0;
/// Heights of a bar and of the ends of a spread.
const BAR: f64 = 12.0;
const TICK: f64 = 8.0;

/// Characters of a line that fit.
const CHARS: usize = 150;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#222}.h{font-weight:bold;font-size:13px}\
.s{fill:#666;font-size:11px}.e{text-anchor:end}line{stroke:#222}";
const COLOURS: [&str; 9] =
    ["#9aa5b1", "#c3cad2", "#1d6fb8", "#d98b1f", "#e9c07a", "#5a9e6f", "#8b6bb1", "#b5544d", "#6f8f2f"];

/// One chart for each row: a bar for the median of each contender's first figure, and a line from the least to the
/// most. What was not measured has no bar.
pub fn svg(rounds: &Rounds, provenance: &Provenance) -> String {
    let mut body = String::new();
    let mut y = MARGIN + HEADING;
    let Provenance { machine, date, command } = provenance;
    let rule = rounds.rule.as_ref().map(ToString::to_string);
    let head = [("h", format!("{date}, {machine}")), ("s", command.clone()), ("s", rule.unwrap_or_default())];
    for (class, text) in head {
        for words in lines(&text) {
            let _ =
                writeln!(body, "<text class=\"{class}\" x=\"{MARGIN}\" y=\"{y}\">{}</text>", escaped(&words));
            y += LINE;
        }
    }
    for at in 0..rounds.rows.len() {
        y += chart(&mut body, rounds, at, y + LINE);
    }
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\">\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         {body}</svg>\n"
    )
}

/// Draws one row from `top` on, and returns its height.
fn chart(body: &mut String, rounds: &Rounds, at: usize, top: f64) -> f64 {
    let row = &rounds.rows[at];
    let metric = row.primary();
    let bars: Vec<_> = (0..rounds.contenders.len())
        .filter_map(|contender| Some((contender, rounds.summary(at, contender, metric)?)))
        .collect();
    let most = bars.iter().map(|(_, summary)| summary.spread.max).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - NAMES - VALUES - MARGIN) / most;
    let title = format!("{}: {}", row.title, unit(metric));
    let _ = writeln!(body, "<text class=\"h\" x=\"{MARGIN}\" y=\"{top}\">{}</text>", escaped(&title));
    let mut y = top + LINE;
    for (contender, summary) in bars {
        let spread = summary.spread;
        let [low, middle, high] =
            [spread.min, spread.median, spread.max].map(|value| NAMES + value.max(0.0) * scale);
        let name = escaped(rounds.contenders[contender]);
        let colour = COLOURS[contender % COLOURS.len()];
        let (upper, text) = (y - BAR / 2.0, y + 4.0);
        let _ = writeln!(body, "<text class=\"e\" x=\"{}\" y=\"{text}\">{name}</text>", NAMES - 8.0);
        let _ = writeln!(
            body,
            "<rect x=\"{NAMES}\" y=\"{upper}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>",
            middle - NAMES
        );
        let _ = writeln!(body, "<line x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y}\" y2=\"{y}\"/>");
        for x in [low, high] {
            let (above, below) = (y - TICK / 2.0, y + TICK / 2.0);
            let _ = writeln!(body, "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{above}\" y2=\"{below}\"/>");
        }
        let mut words = number(spread.median);
        for (base, ratio) in rounds.bases.iter().zip(&summary.ratios) {
            if let Some(ratio) = ratio
                && base.contender != rounds.contenders[contender]
            {
                let _ = write!(words, " · {ratio:.2} × {}", base.contender);
            }
        }
        let _ = writeln!(body, "<text x=\"{:.1}\" y=\"{text}\">{}</text>", high + 8.0, escaped(&words));
        y += LINE;
    }
    y + LINE / 2.0 - top
}

/// A text in lines that fit, broken where there is a space or a comma.
fn lines(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive([' ', ',']) {
        let last = lines.last_mut().expect("there is always one");
        if !last.is_empty() && last.chars().count() + word.chars().count() > CHARS {
            lines.push(word.to_owned());
        } else {
            last.push_str(word);
        }
    }
    lines
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::tests::{rounds, row};

    #[test]
    fn long_texts_are_broken() {
        let text = "scenario,".repeat(40);
        let lines = lines(&text);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() <= CHARS));
        assert_eq!(lines.concat(), text);
    }

    #[test]
    fn a_chart_has_a_bar_for_each_contender_with_figures() {
        let mut row = row(true);
        row.title = "in & out".to_owned();
        let measured = rounds(
            row,
            &[
                ("limit", &[Some(30.0), Some(40.0), Some(38.0)]),
                ("netstack", &[Some(19.0), Some(20.0), Some(19.5)]),
                ("ipstack", &[None, None, None]),
            ],
        );
        let provenance = Provenance {
            machine: "a machine".to_owned(),
            date: "1970-01-01".to_owned(),
            command: "netstack-bench run".to_owned(),
        };
        let chart = svg(&measured, &provenance);
        assert_eq!(chart.matches("height=\"12\"").count(), 2, "{chart}");
        assert!(chart.contains("in &amp; out: Gbit/s"), "{chart}");
        assert!(chart.contains("netstack-bench run"));
        // From the least of the limit to its most, which is the right end of the scale.
        let right = WIDTH - VALUES - MARGIN;
        let left = NAMES + (right - NAMES) * 0.75;
        assert!(chart.contains(&format!("x1=\"{left:.1}\" x2=\"{right:.1}\"")), "{chart}");
        assert!(!chart.contains("ipstack"));
    }
}
