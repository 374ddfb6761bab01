//! The ladder diagram: rows of what happened, drawn for a terminal.

use super::Side;
use super::connections::{Connections, Ends};
use super::recording::{Caller, Event, Recorded};
use super::segment::{Seg, Segs, Traffic};
use super::text::{Unit, span};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

/// A silence of this length is shown.
const SILENCE: Duration = Duration::from_millis(700);

/// Columns of the terminal's ladder: the times, and the least that calls and a wire have.
const TIME: usize = 9;
const CALLS: usize = 24;
const WIRE: usize = 72;
/// Columns of an arrow beside its label.
const ARROW: usize = 8;

/// One line of a ladder.
#[derive(Clone, Debug)]
pub(super) enum Row {
    /// The segment of this index leaves. If it arrives before anything else happens, the row is also
    /// that of its arrival.
    Departs { seg: usize, arrives_here: bool },
    /// It arrives.
    Arrives { seg: usize },
    /// A socket call beside a lifeline, and the connection that it is about.
    Call { line: usize, text: String, connection: Option<usize> },
    /// A remark on the wire.
    Note { text: String },
    /// Nothing happens for this long.
    Silence { lasted: Duration },
}

/// The lifelines of a scene.
#[derive(Clone, Debug)]
pub(super) struct Lifelines {
    /// From left to right: two or three.
    pub(super) names: Vec<String>,
    /// The port of the left host whose traffic is that of the third lifeline.
    pub(super) third: Option<u16>,
}

impl Lifelines {
    /// The lifelines between which a segment travels.
    pub(super) fn of(&self, seg: &Seg) -> [usize; 2] {
        let left_port = if seg.from == Side::Left { seg.src.port() } else { seg.dst.port() };
        let left = if self.third == Some(left_port) { 2 } else { 0 };
        if seg.from == Side::Left { [left, 1] } else { [1, left] }
    }

    /// Whether something at the lifeline is written to the left of it.
    pub(super) fn is_leftmost(line: usize) -> bool {
        line == 0
    }
}

/// The ladder of a scene.
pub(super) struct Ladder {
    pub(super) title: String,
    pub(super) lifelines: Lifelines,
    pub(super) rows: Vec<(Duration, Row)>,
    pub(super) segs: Segs,
    /// The ends of each connection.
    pub(super) connections: Vec<Ends>,
    pub(super) unit: Unit,
}

impl Ladder {
    /// Puts what was recorded in rows.
    pub(super) fn new(title: &str, lifelines: Lifelines, recorded: &Recorded, traffic: &Traffic) -> Self {
        let rows = rows(recorded, &traffic.segs, &traffic.by_packet, &traffic.connections);
        let unit = Unit::of(rows.iter().map(|(at, _)| *at));
        Self {
            title: title.to_owned(),
            lifelines,
            rows,
            segs: traffic.segs.clone(),
            connections: traffic.connections.ends().collect(),
            unit,
        }
    }

    /// What distinguishes a connection, if there are several: it begins what is written about it.
    pub(super) fn tag(&self, connection: Option<usize>) -> String {
        match connection {
            Some(number) if self.connections.len() > 1 => format!("#{} ", number + 1),
            _ => String::new(),
        }
    }

    /// What is written on the arrow of a segment.
    pub(super) fn label(&self, seg: &Seg) -> String {
        let forged = if seg.forged { " (forged)" } else { "" };
        format!("{}{seg}{forged}", self.tag(Some(seg.connection)))
    }

    /// What is written beside a lifeline about a call.
    pub(super) fn call(&self, text: &str, connection: Option<usize>) -> String {
        format!("{}{text}", self.tag(connection))
    }

    /// The connections with their addresses, if there are several.
    pub(super) fn legend(&self) -> Vec<String> {
        let several = self.connections.len() > 1;
        let ends = self.connections.iter().enumerate().filter(|_| several);
        ends.map(|(number, [from, to])| format!("{}{from} → {to}", self.tag(Some(number)))).collect()
    }

    /// The widths that the wires need for their labels and remarks, and for the calls of a lifeline
    /// between two wires, each in characters.
    pub(super) fn wires(&self) -> Vec<usize> {
        let mut wires = vec![0; self.lifelines.names.len() - 1];
        for (_, row) in &self.rows {
            let (wire, text) = match row {
                Row::Departs { seg, .. } => {
                    let seg = &self.segs[*seg];
                    let [from, to] = self.lifelines.of(seg);
                    (from.min(to), self.label(seg))
                }
                Row::Call { line, text, connection } if (1..wires.len()).contains(line) => {
                    (*line, self.call(text, *connection))
                }
                Row::Note { text } => (0, text.clone()),
                _ => continue,
            };
            wires[wire] = wires[wire].max(text.chars().count());
        }
        wires
    }

    /// The widths that the calls of the leftmost and the rightmost lifeline need, in characters.
    pub(super) fn margins(&self) -> [usize; 2] {
        let mut margins = [0; 2];
        for (_, row) in &self.rows {
            if let Row::Call { line, text, connection } = row
                && (Lifelines::is_leftmost(*line) || line + 1 == self.lifelines.names.len())
            {
                let margin = &mut margins[usize::from(!Lifelines::is_leftmost(*line))];
                *margin = (*margin).max(self.call(text, *connection).chars().count());
            }
        }
        margins
    }

    /// For a terminal.
    pub(super) fn to_text(&self) -> String {
        let widths: Vec<usize> = self.wires().into_iter().map(|wire| WIRE.max(wire + ARROW)).collect();
        let calls = CALLS.max(self.margins()[0]);
        let mut out = String::new();
        for line in self.legend() {
            let _ = writeln!(out, "{:>TIME$}  {line}", "");
        }
        let names = &self.lifelines.names;
        let _ = write!(out, "{:>TIME$}  {:>calls$} ", self.unit.name(), names[0]);
        for (name, width) in names[1..].iter().zip(&widths) {
            // A lifeline is one column, and a name begins beside it.
            let width = width + if name == names.last().unwrap_or(name) { 2 } else { 0 };
            let _ = write!(out, "{:width$} {name}", "");
        }
        out.push('\n');
        for (at, row) in &self.rows {
            let mut wires: Vec<String> = widths.iter().map(|width| " ".repeat(*width)).collect();
            let (mut left, mut right) = (String::new(), String::new());
            let mut time = self.unit.text(*at);
            match row {
                Row::Departs { seg, arrives_here } => {
                    let [from, to] = self.lifelines.of(&self.segs[*seg]);
                    let wire = from.min(to);
                    wires[wire] = self.arrow(&self.segs[*seg], *arrives_here, widths[wire]);
                }
                Row::Arrives { seg } => {
                    let seg = &self.segs[*seg];
                    let [from, to] = self.lifelines.of(seg);
                    let text = format!("{}{} arrives", self.tag(Some(seg.connection)), seg.numbers());
                    wires[from.min(to)] = arrival(&text, from < to, widths[from.min(to)]);
                }
                Row::Call { line, text, connection } => {
                    let text = self.call(text, *connection);
                    match *line {
                        0 => left = text,
                        line if line < wires.len() => wires[line] = padded(&format!(" {text}"), widths[line]),
                        _ => right = text,
                    }
                }
                Row::Note { text } => wires[0] = centred(&format!("[ {text} ]"), ' ', widths[0]),
                Row::Silence { lasted } => {
                    time.clear();
                    let text = format!(" {} ", span(*lasted));
                    let fill = |width: &usize| centred("", '·', *width);
                    wires = widths.iter().map(fill).collect();
                    wires[0] = centred(&text, '·', widths[0]);
                }
            }
            let lifeline = if matches!(row, Row::Silence { .. }) { "┊" } else { "│" };
            let wires = wires.join(lifeline);
            let line = format!("{time:>TIME$}  {left:>calls$} {lifeline}{wires}{lifeline} {right}");
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }

    /// An arrow with the segment's description on it.
    fn arrow(&self, seg: &Seg, arrives: bool, room: usize) -> String {
        let stroke = if seg.forged { "╌" } else { "─" };
        let label = self.label(seg);
        // A dash, a blank, the label, a blank, dashes, and the end of the arrow.
        let rest = room - label.chars().count() - 3;
        let line = |n: usize| stroke.repeat(n);
        let [from, to] = self.lifelines.of(seg);
        match (from < to, seg.lost) {
            (true, false) => format!("{} {label} {}{}", line(1), line(rest - 1), head(arrives, '▶', '╲')),
            (false, false) => format!("{}{} {label} {}", head(arrives, '◀', '╱'), line(rest - 1), line(1)),
            (true, true) => format!("{} {label} {}✗{}", line(1), line(2), " ".repeat(rest - 3)),
            (false, true) => format!("{}✗{} {label} {}", " ".repeat(rest - 3), line(2), line(1)),
        }
    }
}

/// The rows of a ladder.
fn rows(
    recorded: &Recorded,
    segs: &Segs,
    by_packet: &HashMap<usize, usize>,
    connections: &Connections,
) -> Vec<(Duration, Row)> {
    let mut rows: Vec<(Duration, Row)> = Vec::new();
    let mut last = Duration::ZERO;
    // The connections that had begun before each event, and after the last.
    let mut begun = vec![0];
    for (_, event) in &recorded.events {
        let departs = if let Event::Departs(packet) = event { by_packet.get(packet) } else { None };
        let before = begun.last().copied().unwrap_or_default();
        begun.push(departs.map_or(before, |seg| before.max(segs[*seg].connection + 1)));
    }
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
            Event::Call { by, text } => {
                let connection = connection(by, connections, &begun);
                Row::Call { line: by.line, text: text.clone(), connection }
            }
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
    rows
}

/// The connection that a call is about.
fn connection(by: &Caller, connections: &Connections, begun: &[usize]) -> Option<usize> {
    let [a, b] = by.ends?;
    let begun = *begun.get(by.as_of).or(begun.last())?;
    let same = connections.ends().enumerate().filter(|(_, ends)| *ends == [a, b] || *ends == [b, a]);
    let same: Vec<usize> = same.map(|(number, _)| number).collect();
    // With Fast Open, connecting returns before anything is sent.
    same.iter().rfind(|number| **number < begun).or(same.first()).copied()
}

/// Text in the middle of `room` columns.
fn centred(text: &str, fill: char, room: usize) -> String {
    let room = room.saturating_sub(text.chars().count());
    let (before, after) = (room / 2, room - room / 2);
    let run = |n: usize| fill.to_string().repeat(n);
    format!("{}{text}{}", run(before), run(after))
}

/// Text at the beginning of `room` columns.
fn padded(text: &str, room: usize) -> String {
    format!("{text:room$}")
}

/// The end of an arrow: a head, or a bend where the segment arrives further down.
fn head(arrives: bool, head: char, bend: char) -> char {
    if arrives { head } else { bend }
}

/// The arrival of a segment that left further up.
fn arrival(text: &str, to_the_right: bool, room: usize) -> String {
    let rest = " ".repeat(room.saturating_sub(text.chars().count() + 4));
    if to_the_right { format!("{rest}{text} ╲─▶") } else { format!("◀─╱ {text}{rest}") }
}
