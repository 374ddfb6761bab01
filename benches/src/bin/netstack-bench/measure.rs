//! Rounds of measurements over all contenders.

use crate::{Common, Report};
use netstack_benches::client::{self, Direction, Throughput};
use netstack_benches::clock;
use netstack_benches::contender::Contender;
use netstack_benches::datagrams::{self, Mode};
use netstack_benches::server::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Map, Value, json};
use std::io;
use std::process::Command;
use std::time::Duration;

/// The pause between measurements, after which no packets of the last one are in flight.
const PAUSE: Duration = Duration::from_millis(100);
/// Files of this process beside its connections.
const OTHER_FILES: u64 = 64;

/// The contenders, each serving, and how to measure them.
pub(crate) struct Bench {
    servers: Vec<Server>,
    rounds: usize,
    report: Report,
}

impl Bench {
    /// Starts the contenders of `common`, or else those of `default`.
    pub(crate) fn start(common: &Common, default: &[Contender]) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let servers = common.contenders(default).into_iter().map(|contender| {
            let mut command = Command::new(&program);
            command.args(common.arguments(contender));
            Server::spawn(contender, command, common.mtu)
        });
        let servers = servers.collect::<io::Result<Vec<_>>>()?;
        Ok(Self { servers, rounds: common.pairs.max(1), report: Report::new(common.json) })
    }

    pub(crate) fn throughput(
        &mut self,
        direction: Direction,
        flows: usize,
        time: Duration,
    ) -> io::Result<()> {
        let test = json!({ "test": "throughput", "direction": direction.name(), "flows": flows });
        self.rounds(test, "gbps", |server| {
            let mut marks = Vec::with_capacity(2);
            let at = server.address(direction.port());
            let measured = client::throughput(at, direction, flows, time, || {
                marks.push((clock::now(), server.received()?, server.cpu_time()?));
                Ok(())
            })?;
            let (begin, before, cpu_before) = marks[0];
            let (end, after, cpu_after) = marks[1];
            let received = Throughput { bytes: after - before, time: end - begin };
            // The measure is what the receiving application has read.
            let moved = match direction {
                Direction::In => received,
                Direction::Out => measured,
            };
            let used = cpu_after.saturating_sub(cpu_before).as_secs_f64();
            let gigabytes = moved.bytes as f64 / 1e9;
            Ok(json!({
                "gbps": round(moved.gbps()),
                "client_gbps": round(measured.gbps()),
                "cpu": round(used / measured.time.as_secs_f64()),
                "cpu_s_per_gb": round(used / gigabytes),
            }))
        })
    }

    /// Datagrams of `len` bytes. What counts is what the receiving application got while it was measured; the
    /// loss is that of the whole transfer, counted at both ends.
    pub(crate) fn datagrams(
        &mut self,
        direction: Direction,
        mode: Mode,
        len: u16,
        time: Duration,
    ) -> io::Result<()> {
        let test = json!({
            "test": "udp", "direction": direction.name(), "len": len, "segmentation": mode.name(),
        });
        self.rounds(test, "gbps", |server| {
            let mut marks = Vec::with_capacity(2);
            let at = server.address(mode.port(direction.port()));
            let (sent_before, received_before) = (server.sent()?, server.received()?);
            let mut mark = |server: &mut Server| {
                marks.push((server.sent()?, server.received()?, server.cpu_time()?));
                Ok(())
            };
            let moved = match direction {
                Direction::In => datagrams::send(at, mode, len.into(), time, || mark(server))?,
                Direction::Out => datagrams::receive(at, mode, len, time, || mark(server))?,
            };
            let (sent, received, cpu) =
                (marks[1].0 - marks[0].0, marks[1].1 - marks[0].1, marks[1].2.saturating_sub(marks[0].2));
            let (offered, got, total_sent, total_got) = match direction {
                Direction::In => {
                    (moved.measured, received, moved.total, server.received()? - received_before)
                }
                Direction::Out => (sent, moved.measured, server.sent()? - sent_before, moved.total),
            };
            let seconds = moved.time.as_secs_f64();
            let gbps = |bytes: u64| round(bytes as f64 * 8e-9 / seconds);
            Ok(json!({
                "gbps": gbps(got),
                "offered_gbps": gbps(offered),
                "datagrams_per_s": (got as f64 / f64::from(len) / seconds).round(),
                "sent": total_sent / u64::from(len),
                "received": total_got / u64::from(len),
                "loss": round(1.0 - total_got as f64 / total_sent.max(1) as f64),
                "cpu": round(cpu.as_secs_f64() / seconds),
                "cpu_s_per_gb": round(cpu.as_secs_f64() / (got as f64 / 1e9)),
            }))
        })
    }

    pub(crate) fn round_trips(&mut self, time: Duration) -> io::Result<()> {
        self.rounds(json!({ "test": "rr" }), "p50_us", |server| {
            let times = client::round_trips(|port| server.address(port), time)?;
            Ok(json!({
                "p50_us": round(times.percentile(0.5)),
                "p99_us": round(times.percentile(0.99)),
                "p999_us": round(times.percentile(0.999)),
                "round_trips": times.len(),
            }))
        })
    }

    pub(crate) fn connections(&mut self, at_a_time: usize, connections: usize) -> io::Result<()> {
        self.rounds(json!({ "test": "crr", "at_a_time": at_a_time }), "per_s", |server| {
            let at = |port| server.address(port);
            let measured = client::connect_request_close(at, at_a_time, connections)?;
            Ok(json!({
                "per_s": round(measured.rate),
                "p50_us": round(measured.latencies.percentile(0.5)),
                "p99_us": round(measured.latencies.percentile(0.99)),
            }))
        })
    }

    /// Per idle connection, including the accepted socket of the application, without a task or
    /// buffer of the application.
    pub(crate) fn memory(&mut self, connections: usize) -> io::Result<()> {
        let test = json!({ "test": "memory", "connections": connections });
        self.rounds(test, "bytes_per_connection", |server| {
            let address = server.address(netstack_benches::services::HOLD_PORT);
            // Pools and tables grow with the first ones.
            let _first = client::idle_connections(|_| address, 16)?;
            clock::sleep(PAUSE);
            let before = server.live_bytes()?;
            let _idle = client::idle_connections(|_| address, connections)?;
            clock::sleep(PAUSE);
            let more = server.live_bytes()? as f64 - before as f64;
            Ok(json!({ "bytes_per_connection": round(more / connections as f64) }))
        })
    }

    /// Measures each contender, round after round, every other round in reverse order, and
    /// summarises the values `key`.
    fn rounds(
        &mut self,
        test: Value,
        key: &str,
        mut measure: impl FnMut(&mut Server) -> io::Result<Value>,
    ) -> io::Result<()> {
        let test = object(test);
        let mut values = vec![Vec::new(); self.servers.len()];
        self.report.begin(&test);
        for round in 0..self.rounds {
            let mut order: Vec<usize> = (0..self.servers.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for at in order {
                let server = &mut self.servers[at];
                let contender = server.contender();
                let found = measure(server)
                    .map_err(|err| io::Error::new(err.kind(), format!("{contender}: {err}")))?;
                values[at].push(found[key].as_f64().unwrap_or(f64::NAN));
                self.report.measured(&test, contender.name(), round, &object(found));
                clock::sleep(PAUSE);
            }
        }
        let contenders: Vec<_> = self.servers.iter().map(|server| server.contender().name()).collect();
        self.report.summary(&test, key, &contenders, &values);
        Ok(())
    }
}

/// Lets this process open `connections` sockets.
pub(crate) fn allow_files(connections: usize) -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + OTHER_FILES;
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).map_err(|err| {
            let text = format!("{connections} connections take as many open files (ulimit -n): {err}");
            io::Error::new(io::Error::from(err).kind(), text)
        })?;
    }
    Ok(())
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => unreachable!("all reports are objects"),
    }
}

/// No measurement here has more than three significant digits after the point.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
