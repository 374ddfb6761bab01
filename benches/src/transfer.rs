//! What both ends of a transfer have counted, and the figures that follow from it.

use crate::client::{self, Direction, Moved, Timing};
use crate::clock;
use crate::datagrams::{self, Mode};
use crate::process::{self, Process};
use crate::rounds::Figures;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Bytes of the headers of a UDP datagram over IPv4.
const UDP_HEADERS: u32 = 28;

/// What was counted at one time.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// When.
    pub at: Instant,
    /// Bytes that the server's sinks have read.
    pub received: u64,
    /// Bytes that the server's sources of datagrams have sent.
    pub sent: u64,
    /// Processor time of the measured process.
    pub cpu: Duration,
    /// Processor time of the clients.
    pub client_cpu: Duration,
}

impl Reading {
    /// Of a server, where `cpu` is the time of the measured process.
    ///
    /// # Errors
    /// If one of them does not answer.
    pub fn take(server: &mut Process, cpu: Duration) -> io::Result<Self> {
        Ok(Self {
            at: clock::now(),
            received: server.received()?,
            sent: server.sent()?,
            cpu,
            client_cpu: process::own_cpu_time()?,
        })
    }
}

/// The readings at the beginning and the end of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// At the beginning.
    pub before: Reading,
    /// At the end.
    pub after: Reading,
}

impl Span {
    /// Runs `measure`, which marks the beginning and the end by calls of its argument.
    ///
    /// # Errors
    /// Those of `measure` and of `read`.
    pub fn of<T>(
        mut read: impl FnMut() -> io::Result<Reading>,
        measure: impl FnOnce(&mut dyn FnMut() -> io::Result<()>) -> io::Result<T>,
    ) -> io::Result<(T, Self)> {
        let mut readings = Vec::with_capacity(2);
        let found = measure(&mut || {
            readings.push(read()?);
            Ok(())
        })?;
        match readings[..] {
            [before, after] => Ok((found, Self { before, after })),
            _ => unreachable!("a measurement has a beginning and an end"),
        }
    }

    /// Bytes that the sinks have read.
    fn received(&self) -> u64 {
        self.after.received - self.before.received
    }

    fn time(&self) -> Duration {
        self.after.at - self.before.at
    }

    /// Seconds of the measured process.
    pub fn cpu(&self) -> f64 {
        self.after.cpu.saturating_sub(self.before.cpu).as_secs_f64()
    }

    /// Seconds of the measured process and of the clients together.
    pub fn total_cpu(&self) -> f64 {
        self.cpu() + self.after.client_cpu.saturating_sub(self.before.client_cpu).as_secs_f64()
    }

    /// The share of a processor that the measured process had, and seconds for a gigabyte: its own, and those of
    /// both ends.
    fn cpu_figures(&self, gigabytes: f64) -> [(&'static str, f64); 3] {
        [
            ("cpu", self.cpu() / self.time().as_secs_f64()),
            ("cpu_s_per_gb", self.cpu() / gigabytes),
            ("total_cpu_s_per_gb", self.total_cpu() / gigabytes),
        ]
    }
}

fn gbps(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8e-9 / time.as_secs_f64()
}

/// Streams, written 64 KiB at a time, to or from the service of `direction` at `at`. What counts is what the
/// receiving applications have read.
///
/// # Errors
/// Those of the connections, and of `read`.
pub fn streams(
    at: SocketAddr,
    direction: Direction,
    flows: usize,
    timing: Timing,
    read: impl FnMut() -> io::Result<Reading>,
) -> io::Result<Figures> {
    let (moved, span) = Span::of(read, |mark| client::throughput(at, direction, flows, timing, mark))?;
    Ok(stream_figures(direction, &moved, &span))
}

fn stream_figures(direction: Direction, moved: &Moved, span: &Span) -> Figures {
    let [inwards, outwards] = [gbps(span.received(), span.time()), gbps(moved.read, moved.time)];
    let [bytes_in, bytes_out] = [span.received(), moved.read];
    let mut figures = match direction {
        // What the clients have written should agree.
        Direction::In => vec![("gbps", inwards), ("client_gbps", gbps(moved.written, moved.time))],
        Direction::Out => vec![("gbps", outwards)],
        Direction::Both => {
            vec![("gbps", inwards + outwards), ("gbps_in", inwards), ("gbps_out", outwards)]
        }
    };
    let bytes = match direction {
        Direction::In => bytes_in,
        Direction::Out => bytes_out,
        Direction::Both => bytes_in + bytes_out,
    };
    figures.extend(span.cpu_figures(bytes as f64 / 1e9));
    figures
}

/// Bytes of a datagram that fills an MTU.
pub fn datagram_len(mtu: u32) -> u16 {
    u16::try_from(mtu.saturating_sub(UDP_HEADERS)).unwrap_or(u16::MAX).max(1)
}

/// Datagrams of `len` bytes, to or from the service of `direction` at the host and port `at`. What counts is what
/// the receiving application got while it was measured; the loss is that of the whole transfer, counted at both ends.
///
/// # Errors
/// Those of the sockets, and of `read`.
///
/// # Panics
/// If `direction` is both: no service of datagrams has it.
pub fn datagrams(
    at: SocketAddr,
    direction: Direction,
    (mode, len): (Mode, u16),
    timing: Timing,
    mut read: impl FnMut() -> io::Result<Reading>,
) -> io::Result<Figures> {
    let first = read()?;
    let (moved, span) = Span::of(&mut read, |mark| match direction {
        Direction::In => datagrams::send(at, mode, len.into(), timing, mark),
        Direction::Out => datagrams::receive(at, mode, len, timing, mark),
        Direction::Both => unreachable!("no service of datagrams does both"),
    })?;
    let last = read()?;
    Ok(datagram_figures(direction, len, &moved, &span, &Span { before: first, after: last }))
}

fn datagram_figures(
    direction: Direction,
    len: u16,
    moved: &datagrams::Moved,
    span: &Span,
    whole: &Span,
) -> Figures {
    let sent = |span: &Span| span.after.sent - span.before.sent;
    let (offered, got, total_sent, total_got) = match direction {
        Direction::In => (moved.measured, span.received(), moved.total, whole.received()),
        Direction::Out | Direction::Both => (sent(span), moved.measured, sent(whole), moved.total),
    };
    let seconds = moved.time.as_secs_f64();
    let mut figures = vec![
        ("gbps", gbps(got, moved.time)),
        ("offered_gbps", gbps(offered, moved.time)),
        ("datagrams_per_s", got as f64 / f64::from(len) / seconds),
        ("sent", (total_sent / u64::from(len)) as f64),
        ("received", (total_got / u64::from(len)) as f64),
        ("loss", 1.0 - total_got as f64 / total_sent.max(1) as f64),
    ];
    figures.extend(span.cpu_figures(got as f64 / 1e9));
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A second in which the sinks read `received` and the sources sent `sent` bytes, the contender had half of a
    /// processor and the clients a whole one.
    fn span(received: u64, sent: u64) -> Span {
        let before = Reading {
            at: clock::now(),
            received: 7,
            sent: 9,
            cpu: Duration::from_millis(100),
            client_cpu: Duration::ZERO,
        };
        let after = Reading {
            at: before.at + SECOND,
            received: 7 + received,
            sent: 9 + sent,
            cpu: Duration::from_millis(600),
            client_cpu: SECOND,
        };
        Span { before, after }
    }

    fn figure(figures: &[(&str, f64)], name: &str) -> f64 {
        figures.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, value)| *value)
    }

    #[test]
    fn the_receiver_of_a_stream_counts() {
        let moved = Moved { written: 2_000_000_000, read: 500_000_000, time: SECOND };
        let span = span(1_000_000_000, 0);
        let inwards = stream_figures(Direction::In, &moved, &span);
        assert_eq!(figure(&inwards, "gbps"), 8.0);
        assert_eq!(figure(&inwards, "client_gbps"), 16.0);
        assert_eq!(figure(&inwards, "cpu"), 0.5);
        assert_eq!(figure(&inwards, "cpu_s_per_gb"), 0.5);
        assert_eq!(figure(&inwards, "total_cpu_s_per_gb"), 1.5);
        let outwards = stream_figures(Direction::Out, &moved, &span);
        assert_eq!(figure(&outwards, "gbps"), 4.0);
        assert_eq!(figure(&outwards, "cpu_s_per_gb"), 1.0);
        let both = stream_figures(Direction::Both, &moved, &span);
        assert_eq!(figure(&both, "gbps"), 12.0);
        assert_eq!(figure(&both, "gbps_out"), 4.0);
    }

    #[test]
    fn the_loss_is_that_of_the_whole_transfer() {
        let moved = datagrams::Moved { measured: 1000, time: SECOND, total: 4000 };
        let (measured, whole) = (span(500, 2000), span(3000, 8000));
        let inwards = datagram_figures(Direction::In, 100, &moved, &measured, &whole);
        assert_eq!(figure(&inwards, "loss"), 0.25);
        assert_eq!(figure(&inwards, "datagrams_per_s"), 5.0);
        assert_eq!(figure(&inwards, "sent"), 40.0);
        let outwards = datagram_figures(Direction::Out, 100, &moved, &measured, &whole);
        assert_eq!(figure(&outwards, "loss"), 0.5);
        assert_eq!(figure(&outwards, "datagrams_per_s"), 10.0);
        assert_eq!(figure(&outwards, "received"), 40.0);
    }

    #[test]
    fn datagrams_fill_the_mtu() {
        assert_eq!(datagram_len(1500), 1472);
        assert_eq!(datagram_len(65_535), 65_507);
    }
}
