//! The ladder diagram as SVG.

use super::Side;
use super::ladder::{Ladder, Lifelines, Row};
use super::segment::Seg;
use super::text::span;
use std::fmt::Write as _;

/// Where things are, in pixels. The margins and the distance of two lifelines are at least these.
const MARGIN: f64 = 330.0;
const WIRE: f64 = 600.0;
const TIME_X: f64 = 86.0;
const TOP: f64 = 74.0;
/// Width of a character. Fonts differ, and most of them are no wider.
const CHAR: f64 = 7.3;
/// Height of a row, of one that only ends an arrow, and of one of the legend.
const ROW: f64 = 24.0;
const ARRIVAL: f64 = 14.0;
const LEGEND: f64 = 16.0;
/// The vertical distance of a segment that arrives before anything else happens.
const SLOPE: f64 = 7.0;

const LEFT_COLOUR: &str = "#1d4f91";
const RIGHT_COLOUR: &str = "#1a7a3c";
/// The colours of connections, where there are several: none is that of what is lost or forged.
const CONNECTIONS: [&str; 8] =
    [LEFT_COLOUR, RIGHT_COLOUR, "#7b3fa0", "#00808a", "#6b4a2b", "#b0307c", "#5b6770", "#6f7300"];
const LOST: &str = "#b3261e";
const FORGED: &str = "#b35c00";
const GREY: &str = "#666";

const STYLE: &str = "text{font:12px ui-monospace,Menlo,Consolas,monospace}\
.s{font-size:11px}.s,.n,.b{paint-order:stroke;stroke:#fff;stroke-width:4px}\
.t{fill:#666;text-anchor:end}.e{text-anchor:end}.m{text-anchor:middle}\
.h{font-weight:bold}.n{font-style:italic;fill:#8a4b00}";

/// Where the parts of a ladder are.
struct Layout {
    /// The lifelines.
    lines: Vec<f64>,
    width: f64,
    /// The names of the lifelines, and below them the first row.
    names: f64,
    /// Each row.
    rows: Vec<f64>,
    bottom: f64,
}

impl Layout {
    fn new(ladder: &Ladder) -> Self {
        let [left, right] = ladder.margins().map(|chars| chars as f64 * CHAR);
        let mut lines = vec![MARGIN.max(TIME_X + left + 32.0)];
        for wire in ladder.wires() {
            let last = lines.last().copied().unwrap_or_default();
            lines.push(last + WIRE.max(wire as f64 * CHAR + 24.0));
        }
        let last = lines.last().copied().unwrap_or_default();
        let title = ladder.title.chars().count() as f64 * CHAR;
        let width = (last + MARGIN.max(right + 32.0)).max(title + 20.0);
        let legend = ladder.legend().len() as f64 * LEGEND;
        let top = TOP + if legend > 0.0 { legend + 10.0 } else { 0.0 };
        let rows = heights(ladder, top);
        let bottom = rows.last().copied().unwrap_or(top) + ROW;
        Self { lines, width, names: top - 22.0, rows, bottom }
    }

    /// The middle between the first two lifelines.
    fn middle(&self) -> f64 {
        (self.lines[0] + self.lines[1]) / 2.0
    }
}

/// Draws the ladder.
pub(super) fn draw(ladder: &Ladder) -> String {
    let layout = Layout::new(ladder);
    let Layout { lines, width, names, rows: ys, bottom } = &layout;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">",
        height = bottom + 12.0
    );
    let _ = writeln!(out, "<title>{}</title>", escaped(&ladder.title));
    let _ = writeln!(out, "<style>{STYLE}</style>");
    out.push_str("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n");
    text(&mut out, [width / 2.0, 22.0], Style { class: "h m", colour: "#000" }, &ladder.title);
    legend(&mut out, ladder, &layout);
    text(&mut out, [TIME_X, *names], Style { class: "t", colour: GREY }, ladder.unit.name());
    for (index, (x, name)) in lines.iter().zip(&ladder.lifelines.names).enumerate() {
        let colour = match index {
            _ if ladder.connections.len() > 1 => "#000",
            0 => LEFT_COLOUR,
            _ => RIGHT_COLOUR,
        };
        text(&mut out, [*x, *names], Style { class: "h m", colour }, name);
        line(&mut out, [*x, names + 8.0, *x, *bottom], "#999", "");
    }
    // Labels go on top of all lines.
    let mut labels = String::new();
    for (index, (at, row)) in ladder.rows.iter().enumerate() {
        let y = ys[index];
        if !matches!(row, Row::Arrives { .. } | Row::Silence { .. }) {
            text(&mut out, [TIME_X, y + 4.0], Style { class: "t", colour: GREY }, &ladder.unit.text(*at));
        }
        match row {
            Row::Departs { seg, arrives_here } => {
                let end = if *arrives_here { y + SLOPE } else { arrival(ladder, ys, index, *seg) };
                let seg = &ladder.segs[*seg];
                segment(&mut out, ladder, lines, seg, [y, end]);
                label(&mut labels, ladder, lines, seg, y);
            }
            Row::Arrives { .. } => {}
            Row::Call { line, text: call, connection } => {
                let x = lines[*line];
                let (class, at) =
                    if Lifelines::is_leftmost(*line) { ("b e", x - 12.0) } else { ("b", x + 12.0) };
                let colour = match connection {
                    Some(number) if ladder.connections.len() > 1 => connection_colour(*number),
                    _ => "#000",
                };
                text(&mut labels, [at, y + 4.0], Style { class, colour }, &ladder.call(call, *connection));
                let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>");
            }
            Row::Note { text: note } => {
                text(&mut labels, [layout.middle(), y + 4.0], Style { class: "n m", colour: FORGED }, note);
            }
            Row::Silence { lasted } => {
                for x in lines {
                    line(&mut out, [*x, y - ROW / 2.0, *x, y + ROW / 2.0], "#fff", "");
                    line(&mut out, [*x, y - ROW / 2.0, *x, y + ROW / 2.0], "#999", "2,4");
                }
                let style = Style { class: "m", colour: GREY };
                text(&mut out, [layout.middle(), y + 4.0], style, &format!("… {} …", span(*lasted)));
            }
        }
    }
    out.push_str(&labels);
    out.push_str("</svg>\n");
    out
}

/// Which connection has which colour, if there are several.
fn legend(out: &mut String, ladder: &Ladder, layout: &Layout) {
    for (number, entry) in ladder.legend().iter().enumerate() {
        let (x, y) = (layout.lines[0], 44.0 + number as f64 * LEGEND);
        let colour = connection_colour(number);
        line(out, [x, y - 4.0, x + 24.0, y - 4.0], colour, "");
        text(out, [x + 32.0, y], Style { class: "s", colour }, entry);
    }
}

fn connection_colour(number: usize) -> &'static str {
    CONNECTIONS[number % CONNECTIONS.len()]
}

/// The vertical position of each row.
fn heights(ladder: &Ladder, top: f64) -> Vec<f64> {
    let mut y = top;
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

fn colour(ladder: &Ladder, seg: &Seg) -> &'static str {
    match (seg.lost, seg.forged, seg.from) {
        (true, _, _) => LOST,
        (_, true, _) => FORGED,
        _ if ladder.connections.len() > 1 => connection_colour(seg.connection),
        (_, _, Side::Left) => LEFT_COLOUR,
        (_, _, Side::Right) => RIGHT_COLOUR,
    }
}

/// The arrow of a segment, with the heights of its two ends.
fn segment(out: &mut String, ladder: &Ladder, lines: &[f64], seg: &Seg, [y, end]: [f64; 2]) {
    let colour = colour(ladder, seg);
    let [from, to] = ladder.lifelines.of(seg).map(|line| lines[line]);
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
fn label(out: &mut String, ladder: &Ladder, lines: &[f64], seg: &Seg, y: f64) {
    let [from, to] = ladder.lifelines.of(seg).map(|line| lines[line]);
    let (class, x) = if from < to { ("s", from + 10.0) } else { ("s e", from - 10.0) };
    text(out, [x, y - 3.0], Style { class, colour: colour(ladder, seg) }, &ladder.label(seg));
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

#[cfg(test)]
mod tests {
    use super::super::segment::Segs;
    use super::super::text::Unit;
    use super::*;
    use std::time::Duration;

    /// The left and the right end of each text, if a character is as wide as in the usual fonts, and the width.
    fn extents(svg: &str) -> (Vec<(f64, f64)>, f64) {
        let attribute = |element: &str, name: &str| {
            let rest = element.split_once(&format!(" {name}=\""))?.1;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let number = |element: &str, name: &str| attribute(element, name).unwrap().parse::<f64>().unwrap();
        let texts = svg.split("<text").skip(1).map(|element| {
            let (head, rest) = element.split_once('>').unwrap();
            let long = rest.split_once("</text>").unwrap().0.chars().count() as f64 * 7.2;
            let (x, class) = (number(head, "x"), attribute(head, "class").unwrap_or_default());
            let left = match class {
                class if class.contains('m') => x - long / 2.0,
                class if class.contains(['e', 't']) => x - long,
                _ => x,
            };
            (left, left + long)
        });
        (texts.collect(), number(svg, "width"))
    }

    #[test]
    fn nothing_is_cut_at_an_edge_however_long_it_is() {
        let long = "a".repeat(90);
        let call = |line| Row::Call { line, text: long.clone(), connection: None };
        let note = Row::Note { text: "n".repeat(200) };
        for (title, row) in
            [("title", call(0)), ("title", call(1)), ("title", note), (&*"t".repeat(300), call(1))]
        {
            let names = ["left", "right"].map(str::to_owned).to_vec();
            let ladder = Ladder {
                title: title.to_owned(),
                lifelines: Lifelines { names, third: None },
                rows: vec![(Duration::ZERO, row)],
                segs: Segs::default(),
                connections: Vec::new(),
                unit: Unit::Milliseconds,
            };
            let svg = draw(&ladder);
            let (texts, width) = extents(&svg);
            assert!(texts.len() > 3);
            assert!(texts.iter().all(|(left, right)| *left >= 0.0 && *right <= width), "{width}: {svg}");
        }
    }
}
