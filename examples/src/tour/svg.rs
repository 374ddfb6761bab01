//! The ladder diagram as SVG.

use super::Side;
use super::ladder::{Ladder, Row};
use super::segment::Seg;
use super::text::{seconds, span};
use std::fmt::Write as _;

/// Where things are, in pixels.
const LEFT: f64 = 330.0;
const RIGHT: f64 = 930.0;
const WIDTH: f64 = 1260.0;
const TIME_X: f64 = 70.0;
const TOP: f64 = 74.0;
/// Height of a row, and of one that only ends an arrow.
const ROW: f64 = 24.0;
const ARRIVAL: f64 = 14.0;
/// The vertical distance of a segment that arrives before anything else happens.
const SLOPE: f64 = 7.0;

const LEFT_COLOUR: &str = "#1d4f91";
const RIGHT_COLOUR: &str = "#1a7a3c";
const LOST: &str = "#b3261e";
const FORGED: &str = "#b35c00";
const GREY: &str = "#666";

const STYLE: &str = "text{font:12px ui-monospace,Menlo,Consolas,monospace}\
.s{font-size:11px;paint-order:stroke;stroke:#fff;stroke-width:4px}\
.t{fill:#666;text-anchor:end}.e{text-anchor:end}.m{text-anchor:middle}\
.h{font-weight:bold}.n{font-style:italic;fill:#8a4b00}";

/// Draws the ladder.
pub(super) fn draw(ladder: &Ladder) -> String {
    let ys = heights(ladder);
    let bottom = ys.last().copied().unwrap_or(TOP) + ROW;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">",
        height = bottom + 12.0
    );
    let _ = writeln!(out, "<title>{}</title>", escaped(&ladder.title));
    let _ = writeln!(out, "<style>{STYLE}</style>");
    out.push_str("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n");
    text(&mut out, [WIDTH / 2.0, 22.0], Style { class: "h m", colour: "#000" }, &ladder.title);
    text(&mut out, [TIME_X, TOP - 22.0], Style { class: "t", colour: GREY }, "seconds");
    for (x, name, colour) in [(LEFT, &ladder.names[0], LEFT_COLOUR), (RIGHT, &ladder.names[1], RIGHT_COLOUR)]
    {
        text(&mut out, [x, TOP - 22.0], Style { class: "h m", colour }, name);
        line(&mut out, [x, TOP - 14.0, x, bottom], "#999", "");
    }
    // Labels go on top of all lines.
    let mut labels = String::new();
    for (index, (at, row)) in ladder.rows.iter().enumerate() {
        let y = ys[index];
        match row {
            Row::Departs { seg, arrives_here } => {
                time(&mut out, y, *at);
                let end = if *arrives_here { y + SLOPE } else { arrival(ladder, &ys, index, *seg) };
                let seg = &ladder.segs[*seg];
                segment(&mut out, seg, y, end);
                label(&mut labels, seg, y);
            }
            Row::Arrives { .. } => {}
            Row::Call { side, text: call } => {
                time(&mut out, y, *at);
                let (class, x) = if *side == Side::Left { ("e", LEFT - 12.0) } else { ("", RIGHT + 12.0) };
                text(&mut out, [x, y + 4.0], Style { class, colour: "#000" }, call);
                let _ =
                    writeln!(out, "<circle cx=\"{}\" cy=\"{y}\" r=\"3\" fill=\"#000\"/>", lifeline(*side));
            }
            Row::Note { text: note } => {
                time(&mut out, y, *at);
                text(&mut out, [(LEFT + RIGHT) / 2.0, y + 4.0], Style { class: "n m", colour: FORGED }, note);
            }
            Row::Silence { lasted } => {
                for x in [LEFT, RIGHT] {
                    line(&mut out, [x, y - ROW / 2.0, x, y + ROW / 2.0], "#fff", "");
                    line(&mut out, [x, y - ROW / 2.0, x, y + ROW / 2.0], "#999", "2,4");
                }
                text(
                    &mut out,
                    [(LEFT + RIGHT) / 2.0, y + 4.0],
                    Style { class: "m", colour: GREY },
                    &format!("… {} …", span(*lasted)),
                );
            }
        }
    }
    out.push_str(&labels);
    out.push_str("</svg>\n");
    out
}

/// The vertical position of each row.
fn heights(ladder: &Ladder) -> Vec<f64> {
    let mut y = TOP;
    let mut ys = Vec::with_capacity(ladder.rows.len());
    for (_, row) in &ladder.rows {
        ys.push(y);
        y += if matches!(row, Row::Arrives { .. }) { ARRIVAL } else { ROW };
    }
    ys
}

/// Where the segment that left in row `index` arrives; at the bottom if the scene ends before.
fn arrival(ladder: &Ladder, ys: &[f64], index: usize, seg: usize) -> f64 {
    let later =
        ladder.rows[index..].iter().position(|(_, row)| matches!(row, Row::Arrives { seg: s } if *s == seg));
    later.map_or(ys[index] + SLOPE, |rows| ys[index + rows])
}

fn lifeline(side: Side) -> f64 {
    if side == Side::Left { LEFT } else { RIGHT }
}

fn colour(seg: &Seg) -> &'static str {
    match (seg.lost, seg.forged, seg.from) {
        (true, _, _) => LOST,
        (_, true, _) => FORGED,
        (_, _, Side::Left) => LEFT_COLOUR,
        (_, _, Side::Right) => RIGHT_COLOUR,
    }
}

/// The arrow of a segment.
fn segment(out: &mut String, seg: &Seg, y: f64, end: f64) {
    let colour = colour(seg);
    let (from, to) = (lifeline(seg.from), lifeline(seg.from.other()));
    let towards = (to - from).signum();
    let dashes = if seg.lost || seg.forged { "5,4" } else { "" };
    if seg.lost {
        let x = from + (to - from) * 0.86;
        line(out, [from, y, x, y + SLOPE], colour, dashes);
        text(out, [x + towards * 8.0, y + SLOPE + 4.0], Style { class: "m", colour }, "✗");
    } else {
        line(out, [from, y, to, end], colour, dashes);
        head(out, [from, y, to, end], colour);
    }
}

/// The label at the start of the arrow.
fn label(out: &mut String, seg: &Seg, y: f64) {
    let mut label = seg.to_string();
    if seg.forged {
        label.push_str(" (forged)");
    }
    let from = lifeline(seg.from);
    let (class, x) = if seg.from == Side::Left { ("s", from + 10.0) } else { ("s e", from - 10.0) };
    text(out, [x, y - 3.0], Style { class, colour: colour(seg) }, &label);
}

/// The head of an arrow along a line.
fn head(out: &mut String, [x1, y1, x2, y2]: [f64; 4], colour: &str) {
    let length = (x2 - x1).hypot(y2 - y1);
    let (dx, dy) = ((x2 - x1) / length, (y2 - y1) / length);
    let (back_x, back_y) = (x2 - 9.0 * dx, y2 - 9.0 * dy);
    let _ = writeln!(
        out,
        "<polygon points=\"{x2:.1},{y2:.1} {:.1},{:.1} {:.1},{:.1}\" fill=\"{colour}\"/>",
        back_x - 4.0 * dy,
        back_y + 4.0 * dx,
        back_x + 4.0 * dy,
        back_y - 4.0 * dx
    );
}

fn line(out: &mut String, [x1, y1, x2, y2]: [f64; 4], colour: &str, dashes: &str) {
    let dashes = if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dashes}\"") };
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"{dashes}/>"
    );
}

fn time(out: &mut String, y: f64, at: std::time::Duration) {
    text(out, [TIME_X, y + 4.0], Style { class: "t", colour: GREY }, &seconds(at));
}

/// How a text looks: its classes in the style sheet, and its colour.
#[derive(Clone, Copy)]
struct Style<'a> {
    class: &'a str,
    colour: &'a str,
}

fn text(out: &mut String, [x, y]: [f64; 2], Style { class, colour }: Style<'_>, text: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ =
        writeln!(out, "<text{class} x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{}</text>", escaped(text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
