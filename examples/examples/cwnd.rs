//! A plot of a transfer: the congestion control, and the segments on the wire.
//!
//! ```text
//! cargo run --release -p netstack-examples --example cwnd -- --congestion cubic --cell 10000,50000,100,0,100,1
//! ```
//! The transfer runs in virtual time, so that each run of the same cell gives the same result. The
//! SVG shows the congestion window with the slow start threshold and what is in flight, the pacing rate, the
//! round-trip time, and sequence numbers over time: data that was sent, lost, retransmitted and acknowledged.

use clap::Parser;
use netstack::config::CongestionName;
use netstack_examples::cli;
use netstack_matrix::cell::Cell;
use netstack_matrix::trace::{self, Mark, Sample, Trace};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Size of the plot, and the width of its graphs without their legends.
const SIZE: (u32, u32) = (1320, 1500);
const GRAPHS: u32 = 1150;

/// Maximum number of points in the time–sequence graph. More cannot be distinguished, and make
/// files of many megabytes.
const MARKS: usize = 6_000;

/// Draws a transfer over a bad path, as its sender sees it.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// The path: kbit/s, RTT in microseconds, buffer in percent of the BDP, reordering in percent, loss in
    /// hundredths of a percent, packets lost in a row.
    #[arg(long, value_name = "RATE,RTT,BUFFER,REORDER,LOSS,BURST", default_value = "10000,50000,100,0,10,1")]
    cell: Cell,
    /// Congestion control of the sender: cubic, reno and so on.
    #[arg(long, default_value = "cubic", value_parser = congestion)]
    congestion: CongestionName,
    /// Seconds of virtual time.
    #[arg(long, default_value_t = 20.0, value_parser = seconds)]
    seconds: f64,
    /// File for the plot.
    #[arg(long, value_name = "FILE", default_value = "cwnd.svg")]
    output: PathBuf,
}

fn congestion(name: &str) -> Result<CongestionName, String> {
    CongestionName::built_in(name).ok_or_else(|| format!("there is no congestion control `{name}`"))
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds)).ok_or("0.1 to 3600".to_owned())
}

fn main() -> ExitCode {
    let args: Args = cli::parse();
    let time = Duration::from_secs_f64(args.seconds);
    let trace = match trace::run(&args.cell, args.congestion, time, GRAPHS) {
        Ok(trace) => trace,
        Err(error) => return cli::fail(error),
    };
    let Some(last) = trace.samples.last() else { return cli::fail("the connection was not established") };
    println!("{} over {}: {}", args.congestion, args.cell, last.info);
    if let Err(error) = draw(&trace, &args) {
        return cli::fail(format!("{}: {error}", args.output.display()));
    }
    println!("wrote {}", args.output.display());
    ExitCode::SUCCESS
}

/// One line of a graph: its name, its colour, its width and how to read it off a sample.
type Curve = (&'static str, RGBColor, u32, fn(&Sample) -> Option<f64>);

/// One kind of marks: its name, its colour, its shape and what belongs to it.
type Kind = (&'static str, RGBColor, Shape, fn(&Mark) -> bool);

/// The shape of a mark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Dot,
    Cross,
    Triangle,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Graph<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

const KIB: f64 = 1024.0;

const DARK_GREEN: RGBColor = RGBColor(0, 130, 60);
const PALE_GREEN: RGBColor = RGBColor(120, 200, 140);
const ORANGE: RGBColor = RGBColor(225, 120, 0);
const GREY: RGBColor = RGBColor(120, 120, 120);

/// What is in flight is a broad line behind the window that it follows. The slow start threshold is infinite at
/// first, and not drawn then.
const WINDOWS: [Curve; 3] = [
    ("in flight", PALE_GREEN, 4, |sample| Some(sample.info.in_flight() as f64 / KIB)),
    ("slow start threshold", GREY, 1, |sample| {
        finite(sample.info.snd_ssthresh as u64).map(|bytes| bytes / KIB)
    }),
    ("congestion window", BLUE, 1, |sample| Some(sample.info.snd_cwnd as f64 / KIB)),
];
const RATES: [Curve; 2] = [
    ("pacing rate", BLUE, 1, |sample| finite(sample.info.pacing_rate).map(|rate| rate * 8e-6)),
    ("delivery rate", DARK_GREEN, 1, |sample| finite(sample.info.delivery_rate).map(|rate| rate * 8e-6)),
];
const TIMES: [Curve; 2] = [
    ("smoothed RTT", BLUE, 1, |sample| Some(sample.info.rtt.as_secs_f64() * 1e3)),
    ("smallest RTT", DARK_GREEN, 1, |sample| Some(sample.info.min_rtt.as_secs_f64() * 1e3)),
];
const SEQUENCES: [Kind; 4] = [
    ("acknowledged", DARK_GREEN, Shape::Dot, |mark| matches!(mark, Mark::Acked(_))),
    ("sent", BLUE, Shape::Dot, |mark| matches!(mark, Mark::Sent(_))),
    ("retransmitted", ORANGE, Shape::Triangle, |mark| matches!(mark, Mark::SentAgain(_))),
    ("lost", RED, Shape::Cross, |mark| matches!(mark, Mark::Lost(_))),
];

fn finite(value: u64) -> Option<f64> {
    // No path reaches half of the range.
    (value < 1 << 62).then_some(value as f64)
}

/// The path in words.
fn title(args: &Args) -> String {
    let Cell { rate_kbit, rtt_us, buffer_percent, reorder_percent, loss_bp, burst } = args.cell;
    let mut words = vec![
        format!("{} Mbit/s", rate_kbit as f64 / 1e3),
        format!("a round trip of {} ms", rtt_us as f64 / 1e3),
        format!("a queue of {buffer_percent} % of the bandwidth-delay product"),
    ];
    if reorder_percent > 0 {
        words.push(format!("{reorder_percent} % of the packets reordered"));
    }
    let in_a_row = if burst > 1 { format!(", {burst} in a row") } else { String::new() };
    words.push(match loss_bp {
        0 => "no random loss".to_owned(),
        share => format!("{} % lost at random{in_a_row}", share as f64 / 100.0),
    });
    format!("{} over {}", args.congestion.as_str().to_uppercase(), words.join(", "))
}

fn draw(trace: &Trace, args: &Args) -> Result<(), Box<dyn Error>> {
    let path: &Path = &args.output;
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let parts = root.titled(&title(args), ("sans-serif", 20))?.split_evenly((4, 1));
    let [windows, rates, times, sequence] = &parts[..] else { unreachable!("it was split in four") };
    let split = [windows, rates, times, sequence].map(|area| area.split_horizontally(GRAPHS));
    let [windows, rates, times, sequence] = split;
    curves(windows, "KiB", &trace.samples, &WINDOWS, args.seconds)?.events(trace)?;
    curves(rates, "Mbit/s", &trace.samples, &RATES, args.seconds)?;
    curves(times, "ms", &trace.samples, &TIMES, args.seconds)?;
    sequences(sequence, trace, args.seconds)?;
    root.present()?;
    Ok(())
}

/// A graph and its legend.
struct Plot<'a> {
    graph: Graph<'a>,
    legend: Legend<'a>,
    /// The largest value that is shown.
    most: f64,
}

/// A graph of curves over time.
fn curves<'a>(
    (area, beside): (Area<'a>, Area<'a>),
    unit: &str,
    samples: &[Sample],
    curves: &[Curve],
    seconds: f64,
) -> Result<Plot<'a>, Box<dyn Error>> {
    let values = curves.iter().flat_map(|(.., value)| samples.iter().filter_map(value));
    // Slow start can request a rate that no path has. The graph is scaled for the time after it.
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let most = sorted.get(sorted.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(1.0).max(1e-3) * 1.1;
    let mut graph = ChartBuilder::on(&area)
        .margin(10)
        .x_label_area_size(25)
        .y_label_area_size(75)
        .build_cartesian_2d(0.0..seconds, 0.0..most)?;
    graph.configure_mesh().y_desc(unit).light_line_style(WHITE).draw()?;
    let mut legend = Legend { area: beside, row: 0 };
    for &(name, color, width, value) in curves {
        let points = samples
            .iter()
            .filter_map(|sample| value(sample).map(|value| (sample.at.as_secs_f64(), value.min(most))));
        graph.draw_series(LineSeries::new(points, color.stroke_width(width)))?;
        legend.line(name, color, width)?;
    }
    Ok(Plot { graph, legend, most })
}

impl Plot<'_> {
    /// Marks losses and retransmissions on the congestion window.
    fn events(&mut self, trace: &Trace) -> Result<(), Box<dyn Error>> {
        let events = SEQUENCES.into_iter().filter(|(_, _, shape, _)| *shape != Shape::Dot);
        for (name, color, shape, wanted) in events {
            let marks = trace.marks.iter().filter(|(_, mark)| wanted(mark));
            let points = marks.filter_map(|(at, _)| {
                let next = trace.samples.partition_point(|sample| sample.at <= *at);
                let sample = trace.samples.get(next.saturating_sub(1))?;
                Some((at.as_secs_f64(), (sample.info.snd_cwnd as f64 / KIB).min(self.most)))
            });
            marked(&mut self.graph, points.collect(), color, shape)?;
            self.legend.mark(name, color, shape)?;
        }
        Ok(())
    }
}

/// The time–sequence graph.
fn sequences(
    (area, beside): (Area<'_>, Area<'_>),
    trace: &Trace,
    seconds: f64,
) -> Result<(), Box<dyn Error>> {
    let position = |mark: &Mark| match *mark {
        Mark::Sent(at) | Mark::SentAgain(at) | Mark::Lost(at) | Mark::Acked(at) => at as f64 / KIB,
    };
    let most = trace.marks.iter().map(|(_, mark)| position(mark)).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(75)
        .build_cartesian_2d(0.0..seconds, 0.0..most)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("sequence, KiB")
        .y_label_formatter(&|kib| format!("{kib:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    let mut legend = Legend { area: beside, row: 0 };
    for (name, color, shape, wanted) in SEQUENCES {
        let marks = trace.marks.iter().filter(|(_, mark)| wanted(mark));
        let points = marks.map(|(at, mark)| (at.as_secs_f64(), position(mark)));
        marked(&mut chart, points.collect(), color, shape)?;
        legend.mark(name, color, shape)?;
    }
    Ok(())
}

/// Draws marks at `points`.
fn marked(
    chart: &mut Graph<'_>,
    points: Vec<(f64, f64)>,
    color: RGBColor,
    shape: Shape,
) -> Result<(), Box<dyn Error>> {
    let points = points.iter().copied().step_by(points.len().div_ceil(MARKS).max(1));
    let style = ShapeStyle::from(color).filled();
    match shape {
        Shape::Dot => chart.draw_series(points.map(|at| Circle::new(at, 1, style)))?,
        Shape::Cross => chart.draw_series(points.map(|at| Cross::new(at, 4, color.stroke_width(2))))?,
        Shape::Triangle => chart.draw_series(points.map(|at| TriangleMarker::new(at, 4, style)))?,
    };
    Ok(())
}

/// The legend beside a graph.
struct Legend<'a> {
    area: Area<'a>,
    row: i32,
}

impl Legend<'_> {
    /// Names the next entry, and returns where its sample begins.
    fn name(&mut self, name: &str) -> Result<(i32, i32), Box<dyn Error>> {
        let y = 30 + self.row * 22;
        self.row += 1;
        self.area.draw(&Text::new(name.to_owned(), (30, y - 7), ("sans-serif", 14)))?;
        Ok((4, y))
    }

    fn line(&mut self, name: &str, color: RGBColor, width: u32) -> Result<(), Box<dyn Error>> {
        let (x, y) = self.name(name)?;
        self.area.draw(&PathElement::new([(x, y), (x + 20, y)], color.stroke_width(width.max(2))))?;
        Ok(())
    }

    fn mark(&mut self, name: &str, color: RGBColor, shape: Shape) -> Result<(), Box<dyn Error>> {
        let (x, y) = self.name(name)?;
        let at = (x + 10, y);
        let style = ShapeStyle::from(color).filled();
        match shape {
            Shape::Dot => self.area.draw(&Circle::new(at, 3, style))?,
            Shape::Cross => self.area.draw(&Cross::new(at, 4, color.stroke_width(2)))?,
            Shape::Triangle => self.area.draw(&TriangleMarker::new(at, 5, style))?,
        }
        Ok(())
    }
}
