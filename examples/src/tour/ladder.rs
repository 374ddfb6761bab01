//! The ladder diagram: rows of what happened, drawn for a terminal.

use super::Side;
use super::recording::{Event, Recorded};
use super::segment::{Seg, Segs};
use super::text::{seconds, span};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

/// A silence of this length is shown.
const SILENCE: Duration = Duration::from_millis(700);

/// Columns of the terminal's ladder.
const TIME: usize = 9;
const CALLS: usize = 24;
const WIRE: usize = 74;

/// One line of a ladder.
#[derive(Clone, Debug)]
pub(super) enum Row {
    /// The segment of this index leaves. If it arrives before anything else happens, the row is also
    /// that of its arrival.
    Departs { seg: usize, arrives_here: bool },
    /// It arrives.
    Arrives { seg: usize },
    /// A socket call.
    Call { side: Side, text: String },
    /// A remark on the wire.
    Note { text: String },
    /// Nothing happens for this long.
    Silence { lasted: Duration },
}

/// The ladder of a scene.
pub(super) struct Ladder {
    pub(super) title: String,
    /// Names of the left and the right lifeline.
    pub(super) names: [String; 2],
    pub(super) rows: Vec<(Duration, Row)>,
    pub(super) segs: Segs,
}

impl Ladder {
    /// Puts what was recorded in rows.
    pub(super) fn new(
        title: &str,
        names: [String; 2],
        recorded: &Recorded,
        segs: &Segs,
        by_packet: &HashMap<usize, usize>,
    ) -> Self {
        let mut rows: Vec<(Duration, Row)> = Vec::new();
        let mut last = Duration::ZERO;
        // Segments that left and will arrive.
        let mut under_way = 0_usize;
        let mut events = recorded.events.iter().peekable();
        while let Some((at, event)) = events.next() {
            let row = match event {
                Event::Departs(packet) => {
                    let Some(&seg) = by_packet.get(packet) else { continue };
                    let next = events.peek().map(|(_, next)| next);
                    // While others are in flight, the order of arrivals is shown.
                    let is_next = matches!(next, Some(Event::Arrives(next)) if next == packet);
                    let arrives_here = is_next && under_way == 0;
                    if arrives_here {
                        events.next();
                    } else {
                        under_way += usize::from(segs[seg].arrived.is_some());
                    }
                    Row::Departs { seg, arrives_here }
                }
                Event::Arrives(packet) => {
                    let Some(&seg) = by_packet.get(packet) else { continue };
                    under_way = under_way.saturating_sub(1);
                    Row::Arrives { seg }
                }
                Event::Call { side, text } => Row::Call { side: *side, text: text.clone() },
                Event::Note(text) => Row::Note { text: text.clone() },
            };
            if *at > last + SILENCE && !rows.is_empty() {
                rows.push((last, Row::Silence { lasted: *at - last }));
            }
            last = match &row {
                Row::Departs { seg, arrives_here: true } => segs[*seg].arrived.unwrap_or(*at),
                _ => *at,
            };
            rows.push((*at, row));
        }
        Self { title: title.to_owned(), names, rows, segs: segs.clone() }
    }

    /// For a terminal.
    pub(super) fn to_text(&self) -> String {
        let mut out = String::new();
        let [left, right] = &self.names;
        let _ = writeln!(out, "{:>TIME$}  {left:>CALLS$} {:WIRE$} {right}", "seconds", "");
        for (at, row) in &self.rows {
            let time = seconds(*at);
            let (left, wire, right) = match row {
                Row::Departs { seg, arrives_here } => ("", arrow(&self.segs[*seg], *arrives_here), ""),
                Row::Arrives { seg } => ("", arrival(&self.segs[*seg]), ""),
                Row::Call { side: Side::Left, text } => (text.as_str(), " ".repeat(WIRE - 2), ""),
                Row::Call { side: Side::Right, text } => ("", " ".repeat(WIRE - 2), text.as_str()),
                Row::Note { text } => ("", centred(&format!("[ {text} ]"), ' '), ""),
                Row::Silence { lasted } => {
                    let text = format!(" {} ", span(*lasted));
                    let line = format!("{:>TIME$}  {:>CALLS$} ┊{}┊", "", "", centred(&text, '·'));
                    let _ = writeln!(out, "{line}");
                    continue;
                }
            };
            let line = format!("{time:>TIME$}  {left:>CALLS$} │{wire}│ {right}");
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }
}

/// Text in the middle of the wire.
fn centred(text: &str, fill: char) -> String {
    let room = (WIRE - 2).saturating_sub(text.chars().count());
    let (before, after) = (room / 2, room - room / 2);
    let run = |n: usize| fill.to_string().repeat(n);
    format!("{}{text}{}", run(before), run(after))
}

/// An arrow with the segment's description on it.
fn arrow(seg: &Seg, arrives: bool) -> String {
    let stroke = if seg.forged { "╌" } else { "─" };
    let mut label = seg.to_string();
    if seg.forged {
        label.push_str(" (forged)");
    }
    let room = WIRE - 2;
    let most = room.saturating_sub(8);
    if label.chars().count() > most {
        label = label.chars().take(most - 1).chain(['…']).collect();
    }
    // A dash, a blank, the label, a blank, dashes, and the end of the arrow.
    let rest = room - label.chars().count() - 3;
    let line = |n: usize| stroke.repeat(n);
    match (seg.from, seg.lost) {
        (Side::Left, false) => format!("{} {label} {}{}", line(1), line(rest - 1), head(arrives, '▶', '╲')),
        (Side::Right, false) => format!("{}{} {label} {}", head(arrives, '◀', '╱'), line(rest - 1), line(1)),
        (Side::Left, true) => format!("{} {label} {}✗{}", line(1), line(2), " ".repeat(rest - 3)),
        (Side::Right, true) => format!("{}✗{} {label} {}", " ".repeat(rest - 3), line(2), line(1)),
    }
}

/// The end of an arrow: a head, or a bend where the segment arrives further down.
fn head(arrives: bool, head: char, bend: char) -> char {
    if arrives { head } else { bend }
}

/// The arrival of a segment that left further up.
fn arrival(seg: &Seg) -> String {
    let text = format!("{} arrives", seg.numbers());
    let room = WIRE - 2 - text.chars().count() - 4;
    match seg.from {
        Side::Left => format!("{}{text} ╲─▶", " ".repeat(room)),
        Side::Right => format!("◀─╱ {text}{}", " ".repeat(room)),
    }
}
