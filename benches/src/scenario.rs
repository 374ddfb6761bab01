//! What is measured, and in which variants.

use crate::client::{self, Direction, Operations, Spinners, Timing, Trip};
use crate::clock;
use crate::contender::{Contender, Nic};
use crate::datagrams::Mode;
use crate::pinning::Pinning;
use crate::process::Process;
use crate::report;
use crate::rounds::{Figures, Row};
use crate::services::Service;
use crate::site::{self, Site};
use crate::transfer::{self, Reading, Span};
use serde_json::{Map, Value};
use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

/// Connections that are opened before memory is measured, because pools and tables grow with the first ones.
pub const FIRST: usize = 16;

/// After this time nothing of a measurement is on its way any more.
pub const PAUSE: Duration = Duration::from_millis(100);
/// Longer than it takes until netstack puts a connection to rest.
const LONG_PAUSE: Duration = Duration::from_secs(8);

/// A kind of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scenario {
    /// Streams to the contender.
    StreamIn,
    /// Streams from it.
    StreamOut,
    /// Both at once on the same connections.
    StreamBoth,
    /// Datagrams to the contender, one in each call or as many as a packet holds.
    UdpIn(Mode),
    /// Datagrams from it.
    UdpOut(Mode),
    /// Request and response.
    Rr,
    /// Connect, request, response, close.
    Crr,
    /// Connect, be accepted, reset.
    AcceptRate,
    /// Idle connections.
    Hold,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::StreamIn,
        Self::StreamOut,
        Self::StreamBoth,
        Self::UdpIn(Mode::Single),
        Self::UdpIn(Mode::Segmented),
        Self::UdpOut(Mode::Single),
        Self::UdpOut(Mode::Segmented),
        Self::Rr,
        Self::Crr,
        Self::AcceptRate,
        Self::Hold,
    ];

    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StreamIn => "stream-in",
            Self::StreamOut => "stream-out",
            Self::StreamBoth => "stream-both",
            Self::UdpIn(Mode::Single) => "udp-in",
            Self::UdpIn(Mode::Segmented) => "udp-in-gso",
            Self::UdpOut(Mode::Single) => "udp-out",
            Self::UdpOut(Mode::Segmented) => "udp-out-gso",
            Self::Rr => "rr",
            Self::Crr => "crr",
            Self::AcceptRate => "accept-rate",
            Self::Hold => "hold",
        }
    }

    /// Numbers of connections at once, if none are asked for.
    pub const fn flows(self) -> &'static [usize] {
        match self {
            Self::Crr => &[1, 16],
            Self::AcceptRate => &[16],
            _ => &[1],
        }
    }

    /// The figures that tables show; the first is the one that is compared.
    const fn metrics(self) -> &'static [&'static str] {
        match self {
            Self::StreamIn | Self::StreamOut | Self::StreamBoth => {
                &["gbps", "cpu_s_per_gb", "total_cpu_s_per_gb"]
            }
            Self::UdpIn(_) | Self::UdpOut(_) => &["gbps", "offered_gbps", "loss", "cpu_s_per_gb"],
            Self::Rr => &["p50_us", "p99_us", "per_s", "cpu_us"],
            Self::Crr | Self::AcceptRate => &["per_s", "p50_us", "p99_us", "cpu_us"],
            Self::Hold => &["heap_bytes", "rest_bytes", "resident_bytes"],
        }
    }

    /// Whether it makes sense for `contender`.
    pub fn applies(self, contender: Contender, nic: Nic) -> bool {
        let datagrams = matches!(self, Self::UdpIn(_) | Self::UdpOut(_));
        let bulk = matches!(self, Self::StreamIn | Self::StreamOut | Self::StreamBoth | Self::UdpIn(_));
        (contender.has_datagrams() || !datagrams)
            && (contender.has_queues() || nic.queues == 1)
            && (bulk || !contender.is_for_bulk())
    }

    /// Whether it leaves connections behind, so that the next measurement takes a new process.
    pub const fn leaves_connections(self) -> bool {
        matches!(self, Self::Hold)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no scenario `{text}`: choose from {names}")
        })
    }
}

/// A scenario with all that it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Point {
    /// What is measured.
    pub scenario: Scenario,
    /// Connections at once; of [`Scenario::Hold`], those that are opened.
    pub flows: usize,
    /// Bytes of a request and of its response.
    pub size: usize,
    /// The interface.
    pub nic: Nic,
    /// The processors.
    pub pinning: Pinning,
}

/// How points are measured.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Of each measurement.
    pub timing: Timing,
    /// Let processors idle between packets, which costs a wake-up each time.
    pub idle: bool,
    /// Whether the clients of round trips poll for their bytes instead of waiting.
    pub polls: bool,
}

impl Point {
    /// Its row in reports.
    pub fn row(&self) -> Row {
        let Self { scenario, flows, size, nic, pinning } = *self;
        let mut key = Map::new();
        let mut set = |name: &str, value: Value| key.insert(name.to_owned(), value);
        set("scenario", scenario.name().into());
        set("flows", flows.into());
        set("mtu", nic.mtu.into());
        set("offload", nic.offload.into());
        set("queues", nic.queues.into());
        set("cores", pinning.name().into());
        let what = if scenario == Scenario::Hold { "connection" } else { "flow" };
        let mut title = format!("{scenario}, {}", report::count(flows, what));
        if scenario == Scenario::Rr {
            set("size", size.into());
            title += &format!(", {}", report::count(size, "byte"));
        }
        if (Nic { queues: 1, ..nic }) != Nic::default() {
            title += &format!(", MTU {nic}");
        }
        if nic.queues > 1 {
            title += &format!(", {} queues", nic.queues);
        }
        match pinning {
            Pinning::Any => {}
            Pinning::Same => title += ", same core",
            Pinning::Two => title += ", two cores",
        }
        Row { key, title, metrics: scenario.metrics(), droppable: scenario != Scenario::Hold }
    }

    /// Measures it once at a contender that serves.
    ///
    /// # Errors
    /// Those of the connections, and of the contender.
    pub fn measure(&self, contender: Contender, site: &mut Site, how: &How) -> io::Result<Figures> {
        let Self { scenario, flows, size, nic, pinning } = *self;
        let timing = how.timing;
        let at = |service: Service| site::address(contender, service.port());
        site.as_client(move |server| {
            // They are for all processors, and the clients perhaps for one.
            let spins = scenario == Scenario::Rr && !how.idle && !how.polls;
            let _spinners = spins.then(Spinners::start).transpose()?;
            pinning.pin_client()?;
            let mut read = || {
                let cpu = server.cpu_time()?;
                Reading::take(server, cpu)
            };
            let mut streams = |direction: Direction| {
                transfer::streams(at(direction.service()), direction, flows, timing, &mut read)
            };
            match scenario {
                Scenario::StreamIn => streams(Direction::In),
                Scenario::StreamOut => streams(Direction::Out),
                Scenario::StreamBoth => streams(Direction::Both),
                Scenario::UdpIn(mode) | Scenario::UdpOut(mode) => {
                    let inwards = matches!(scenario, Scenario::UdpIn(_));
                    let direction = if inwards { Direction::In } else { Direction::Out };
                    let to = site::address(contender, mode.port(direction.service().port()));
                    let what = (mode, transfer::datagram_len(nic.mtu));
                    transfer::datagrams(to, direction, what, timing, read)
                }
                Scenario::Rr => {
                    let to = at(Service::Echo);
                    let trip = Trip { size, connections: flows, polls: how.polls };
                    let (found, span) = Span::of(read, |mark| client::round_trips(to, trip, timing, mark))?;
                    Ok(operations(&found, &span))
                }
                Scenario::Crr => {
                    let to = at(Service::Echo);
                    let (found, span) =
                        Span::of(read, |mark| client::connect_request_close(to, flows, timing, mark))?;
                    Ok(operations(&found, &span))
                }
                Scenario::AcceptRate => {
                    let to = at(Service::Greet);
                    let (found, span) = Span::of(read, |mark| client::accepted(to, flows, timing, mark))?;
                    Ok(operations(&found, &span))
                }
                Scenario::Hold => hold(server, at(Service::Hold), flows),
            }
        })
    }
}

fn operations(found: &Operations, span: &Span) -> Figures {
    vec![
        ("per_s", found.rate()),
        ("p50_us", found.latencies.percentile(0.5)),
        ("p99_us", found.latencies.percentile(0.99)),
        ("p999_us", found.latencies.percentile(0.999)),
        // Of the contender, for each operation.
        ("cpu_us", span.cpu() * 1e6 / found.latencies.len().max(1) as f64),
    ]
}

/// What an idle connection takes of the contender: of its heap, at first and once nothing has happened for a while, and
/// of RAM after that. The accepted socket is included, a task or
/// a buffer of the application is not.
fn hold(server: &mut Process, to: std::net::SocketAddr, connections: usize) -> io::Result<Figures> {
    let _first = client::idle_connections(to, FIRST)?;
    clock::sleep(LONG_PAUSE);
    let (heap, resident) = (server.live_bytes()?, server.resident()?);
    let _idle = client::idle_connections(to, connections)?;
    clock::sleep(PAUSE);
    let each = |after: u64, before: u64| (after as f64 - before as f64) / connections as f64;
    let at_first = server.live_bytes()?;
    clock::sleep(LONG_PAUSE);
    Ok(vec![
        ("heap_bytes", each(at_first, heap)),
        ("rest_bytes", each(server.live_bytes()?, heap)),
        ("resident_bytes", each(server.resident()?, resident)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse(), Ok(scenario));
        }
        assert!("throughput".parse::<Scenario>().is_err());
    }

    #[test]
    fn a_row_says_what_differs() {
        let point = Point {
            scenario: Scenario::Rr,
            flows: 64,
            size: 1,
            nic: Nic { queues: 2, ..Nic::default() },
            pinning: Pinning::Same,
        };
        let row = point.row();
        assert_eq!(row.title, "rr, 64 flows, 1 byte, 2 queues, same core");
        assert_eq!(row.key["size"], 1);
        assert_eq!(row.key["offload"], true);
        assert_eq!(row.key["cores"], "same");
    }

    #[test]
    fn peers_have_neither_datagrams_nor_queues() {
        let two = Nic { queues: 2, ..Nic::default() };
        let udp = Scenario::UdpIn(Mode::Single);
        assert!(Scenario::StreamIn.applies(Contender::Smoltcp, Nic::default()));
        assert!(!Scenario::StreamIn.applies(Contender::Smoltcp, two));
        assert!(Scenario::StreamIn.applies(Contender::Netstack, two));
        assert!(!udp.applies(Contender::TcpIp, Nic::default()));
        assert!(udp.applies(Contender::KernelVeth, Nic::default()));
        assert!(Scenario::StreamOut.applies(Contender::NetstackBytes, two));
        assert!(udp.applies(Contender::NetstackBytes, Nic::default()));
        assert!(!Scenario::UdpOut(Mode::Single).applies(Contender::NetstackBytes, Nic::default()));
        assert!(!Scenario::Rr.applies(Contender::NetstackBytes, Nic::default()));
    }
}
