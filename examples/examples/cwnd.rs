//! A plot of a transfer: the congestion control, and the segments on the wire.
//!
//! ```text
//! cargo run --release -p netstack-examples --example cwnd -- --congestion cubic --cell 10000,50000,100,0,100,1
//! ```
//! The transfer runs in virtual time, so that each run of the same cell gives the same result. The
//! SVG shows the congestion window with the slow start threshold, the pacing rate, the round-trip
//! time, and sequence numbers over time: data that was sent, retransmitted and acknowledged.

use clap::Parser;
use netstack::config::CongestionName;
use netstack_examples::cli;
use netstack_sim::cell::Cell;
use netstack_sim::trace::{self, Mark, Sample, Trace};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Size of the plot.
const SIZE: (u32, u32) = (1200, 1500);

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
    let trace = match trace::run(&args.cell, args.congestion, time, SIZE.0) {
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

/// One line of a graph: its name, its colour and how to read it off a sample.
type Curve = (&'static str, RGBColor, fn(&Sample) -> Option<f64>);

/// One kind of marks: its name, its colour and what belongs to it.
type Kind = (&'static str, RGBColor, fn(&Mark) -> bool);

const KIB: f64 = 1024.0;

/// The slow start threshold is infinite at first, and not drawn then.
const WINDOWS: [Curve; 3] = [
    ("cwnd", BLUE, |sample| Some(sample.info.snd_cwnd as f64 / KIB)),
    ("ssthresh", RED, |sample| finite(sample.info.snd_ssthresh as u64).map(|bytes| bytes / KIB)),
    ("in flight", GREEN, |sample| Some(sample.info.unacked as f64 / KIB)),
];
const RATES: [Curve; 2] = [
    ("pacing rate", BLUE, |sample| finite(sample.info.pacing_rate).map(|rate| rate * 8e-6)),
    ("delivery rate", RED, |sample| finite(sample.info.delivery_rate).map(|rate| rate * 8e-6)),
];
const TIMES: [Curve; 2] = [
    ("smoothed RTT", BLUE, |sample| Some(sample.info.rtt.as_secs_f64() * 1e3)),
    ("smallest RTT", GREEN, |sample| Some(sample.info.min_rtt.as_secs_f64() * 1e3)),
];

fn finite(value: u64) -> Option<f64> {
    // No path reaches half of the range.
    (value < 1 << 62).then_some(value as f64)
}

fn draw(trace: &Trace, args: &Args) -> Result<(), Box<dyn Error>> {
    let path: &Path = &args.output;
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!("{} over {} ({})", args.congestion, args.cell, netstack_sim::cell::COLUMNS);
    let parts = root.titled(&title, ("sans-serif", 20))?.split_evenly((4, 1));
    let [windows, rates, times, sequence] = &parts[..] else { unreachable!("it was split in four") };
    curves(windows, "KiB", &trace.samples, &WINDOWS, args.seconds)?;
    curves(rates, "Mbit/s", &trace.samples, &RATES, args.seconds)?;
    curves(times, "ms", &trace.samples, &TIMES, args.seconds)?;
    sequences(sequence, trace, args.seconds)?;
    root.present()?;
    Ok(())
}

/// A graph of curves over time.
fn curves(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    unit: &str,
    samples: &[Sample],
    curves: &[Curve],
    seconds: f64,
) -> Result<(), Box<dyn Error>> {
    let values = curves.iter().flat_map(|(.., value)| samples.iter().filter_map(value));
    // Slow start can request a rate that no path has. The graph is scaled for the time after it.
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let most = sorted.get(sorted.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(1.0);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(25)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..seconds, 0.0..most.max(1e-3) * 1.1)?;
    chart.configure_mesh().y_desc(unit).light_line_style(WHITE).draw()?;
    for &(name, color, value) in curves {
        let points = samples
            .iter()
            .filter_map(|sample| value(sample).map(|value| (sample.at.as_secs_f64(), value.min(most * 1.1))));
        chart
            .draw_series(LineSeries::new(points, color))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}

/// The time–sequence graph.
fn sequences(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    trace: &Trace,
    seconds: f64,
) -> Result<(), Box<dyn Error>> {
    let position = |mark: &Mark| match *mark {
        Mark::Sent(at) | Mark::SentAgain(at) | Mark::Acked(at) => at as f64 / KIB,
    };
    let most = trace.marks.iter().map(|(_, mark)| position(mark)).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .x_label_area_size(25)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..seconds, 0.0..most)?;
    chart.configure_mesh().x_desc("s").y_desc("sequence, KiB").light_line_style(WHITE).draw()?;
    let kinds: [Kind; 3] = [
        ("acknowledged", GREEN, |mark| matches!(mark, Mark::Acked(_))),
        ("sent", BLUE, |mark| matches!(mark, Mark::Sent(_))),
        ("sent again", RED, |mark| matches!(mark, Mark::SentAgain(_))),
    ];
    for (name, color, wanted) in kinds {
        let marks: Vec<_> = trace.marks.iter().filter(|(_, mark)| wanted(mark)).collect();
        let step = marks.len().div_ceil(MARKS).max(1);
        let points = marks.iter().step_by(step).map(|(at, mark)| {
            Circle::new((at.as_secs_f64(), position(mark)), 1, ShapeStyle::from(color).filled())
        });
        chart
            .draw_series(points)?
            .label(name)
            .legend(move |(x, y)| Circle::new((x + 10, y), 3, ShapeStyle::from(color).filled()));
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}
