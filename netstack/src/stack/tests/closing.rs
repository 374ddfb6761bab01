//! The closing matrix: the tables in the documentation of [`crate::net::tcp`], cell by cell.
//!
//! A test reads its table from the documentation, brings a connection into the state of each row,
//! does what the column says, and compares what happens with what the cell says. The peer is played
//! by hand, so that it does exactly what a cell needs, and nothing else.

use super::SECOND;
use crate::stack::testing::{LinkSpec, Net, Passing, Socket, Verdict, address};
use crate::stack::{Cell, Family};
use crate::tcp::{SocketOptions, State};
use crate::time::Duration;
use crate::wire::{ChecksumMode, Flags, HeaderBuf, IpMeta, Options, Segment, SeqNum, TcpDatagram, emit_tcp};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

const DOCUMENTATION: &str = include_str!("../../net/tcp/closing.md");

/// The peer's initial sequence number.
const IRS: u32 = u32::MAX - 100;
const PEER_PORT: u16 = 80;
/// What the peer sends where a cell wants unread data.
const DATA: usize = 10;
/// What the application wrote where a cell wants unsent data.
const UNSENT: usize = 5_000;

/// What the connection holds when the column's action comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holding {
    Nothing,
    /// Bytes that the application has not read.
    Unread,
    /// Bytes that the peer's window does not let out.
    Unsent,
}

/// A connection of host 0 and the peer, which the test plays.
struct Bench {
    net: Net,
    socket: Option<Socket>,
    cell: Arc<Cell>,
    port: u16,
    /// The peer's next sequence number, and what it acknowledges.
    seq: SeqNum,
    ack: SeqNum,
    /// What the peer advertises.
    window: u16,
}

impl Bench {
    /// A connection that was just opened: its SYN is out.
    fn syn_sent() -> Self {
        let mut net = Net::pair(90, LinkSpec::default());
        net.cable.set_filter(|_| Verdict::Drop);
        let socket = net.connect(0, SocketAddr::new(address(1, Family::V4), PEER_PORT)).unwrap();
        net.settle();
        let trace = net.cable.take_trace();
        let syn = trace[0].segment();
        let cell = Arc::clone(&socket.cell);
        let (port, ack) = (cell.local_addr().port(), syn.seq + 1);
        Self { net, socket: Some(socket), cell, port, seq: SeqNum::new(IRS), ack, window: 30_000 }
    }

    /// A connection in `state`, if one can be there and hold that.
    fn in_state(state: State, holding: Holding) -> Option<Self> {
        let possible = match holding {
            Holding::Nothing => true,
            Holding::Unread => state.is_synchronized() && state != State::Closed,
            // Acknowledging our FIN acknowledges all that came before it.
            Holding::Unsent => {
                state.is_synchronized() && !matches!(state, State::FinWait2 | State::TimeWait | State::Closed)
            }
        };
        if !possible {
            return None;
        }
        let mut b = Self::syn_sent();
        if holding == Holding::Unsent {
            b.window = 0;
        }
        match state {
            State::SynSent => {}
            State::SynReceived => b.peer(Flags::SYN, 0),
            _ => b.establish(holding),
        }
        match state {
            State::Listen => return None,
            State::SynSent | State::SynReceived | State::Established => {}
            State::FinWait1 => b.shutdown(Shutdown::Write).unwrap(),
            State::FinWait2 => b.close_and_acknowledge(),
            State::CloseWait => b.peer(Flags::FIN.with(Flags::ACK), 0),
            State::Closing => {
                b.shutdown(Shutdown::Write).unwrap();
                b.peer(Flags::FIN.with(Flags::ACK), 0);
            }
            State::LastAck => {
                b.peer(Flags::FIN.with(Flags::ACK), 0);
                b.shutdown(Shutdown::Write).unwrap();
            }
            State::TimeWait => {
                b.close_and_acknowledge();
                b.peer(Flags::FIN.with(Flags::ACK), 0);
            }
            State::Closed => b.peer(Flags::RST.with(Flags::ACK), 0),
        }
        b.net.settle();
        assert_eq!(b.cell.state(), state);
        let _ = b.net.cable.take_trace();
        Some(b)
    }

    fn establish(&mut self, holding: Holding) {
        self.peer(Flags::SYN.with(Flags::ACK), 0);
        if holding == Holding::Unread {
            self.peer(Flags::ACK.with(Flags::PSH), DATA);
        }
        if holding == Holding::Unsent {
            // The window of a SYN-ACK is taken as it is: nothing leaves.
            let written = self.net.write(self.socket.as_ref().unwrap(), &[7; UNSENT]);
            assert_eq!(written.unwrap(), UNSENT);
        }
    }

    fn close_and_acknowledge(&mut self) {
        self.shutdown(Shutdown::Write).unwrap();
        self.ack = self.ack + 1;
        self.peer(Flags::ACK, 0);
    }

    fn shutdown(&mut self, how: Shutdown) -> io::Result<()> {
        let result =
            self.net.engine(0).with_tcp(self.net.now, |tcp, turn| tcp.shutdown(turn, &self.cell, how));
        self.net.settle();
        result
    }

    /// The application drops its handle.
    fn close(&mut self) {
        let socket = self.socket.take().expect("closed once");
        self.net.close(socket);
        self.net.settle();
    }

    /// A segment from the peer.
    fn peer(&mut self, flags: Flags, len: usize) {
        let options = if flags.contains(Flags::SYN) {
            Options { mss: Some(1460), ..Options::default() }
        } else {
            Options::default()
        };
        let segment = Segment {
            window: self.window,
            options,
            payload_len: len,
            ..Segment::new(
                flags,
                self.seq,
                if flags.contains(Flags::ACK) { self.ack } else { SeqNum::new(0) },
            )
        };
        let payload = vec![1; len];
        let (src, dst) = (address(1, Family::V4), address(0, Family::V4));
        let meta = IpMeta {
            src,
            dst,
            hop_limit: 64,
            traffic_class: 0,
            dont_fragment: true,
            ident: 0,
            flow_label: 0,
        };
        let mut packet = HeaderBuf::new();
        let pieces: &[&[u8]] = if len == 0 { &[] } else { &[&payload] };
        emit_tcp(
            &mut packet,
            &TcpDatagram {
                ip: &meta,
                src_port: PEER_PORT,
                dst_port: self.port,
                segment: &segment,
                payload: pieces,
            },
            ChecksumMode::Full,
        );
        let mut packet = packet.to_vec();
        packet.extend(payload);
        self.net.cable.inject(self.net.now, 0, &packet);
        self.net.settle();
        let counts = flags.contains(Flags::SYN) || flags.contains(Flags::FIN);
        self.seq = self.seq + (len as u32 + u32::from(counts));
    }

    /// The peer's FIN, or a copy of it where it came before.
    fn fin(&mut self, state: State) {
        if matches!(state, State::CloseWait | State::Closing | State::LastAck | State::TimeWait) {
            self.seq = self.seq - 1;
        }
        self.peer(Flags::FIN.with(Flags::ACK), 0);
    }

    /// What was sent since the last look, as flags and how often.
    fn sent(&mut self) -> Vec<(String, usize)> {
        let mut sent: Vec<(String, usize)> = Vec::new();
        for packet in self.net.cable.take_trace() {
            let name = name(&packet);
            match sent.last_mut() {
                Some((last, count)) if *last == name => *count += 1,
                _ => sent.push((name, 1)),
            }
        }
        sent
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        self.net.read(self.socket.as_ref().expect("somebody reads"))
    }

    fn write(&self) -> io::Result<usize> {
        self.net.write(self.socket.as_ref().expect("somebody writes"), b"more")
    }

    /// Where the connection is now: its state, or what is left of it.
    fn place(&self) -> String {
        let engine = self.net.engine(0);
        if engine.tcp().connections() > 0 {
            return self.cell.state().to_string();
        }
        let record = engine.tcp().time_wait_state(&self.cell);
        record.map_or(State::Closed.to_string(), |state| format!("{state} (record)"))
    }

    /// Whether nothing is left of the connection.
    fn is_over(&self) -> bool {
        self.place() == State::Closed.to_string()
    }
}

/// The flags of a segment, and whether it carries data.
fn name(packet: &Passing) -> String {
    let segment = packet.segment();
    let mut parts = Vec::new();
    if segment.payload_len > 0 {
        parts.push("data");
    }
    for (flag, name) in [(Flags::SYN, "SYN"), (Flags::FIN, "FIN"), (Flags::RST, "RST")] {
        if segment.flags.contains(flag) {
            parts.push(name);
        }
    }
    if parts.is_empty() {
        parts.push("ACK");
    }
    parts.join("+")
}

/// How a call ended: the error's name, or what it gave.
fn outcome<T: std::fmt::Debug>(result: io::Result<T>, ok: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => ok(value),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => "waits".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(libc::ECONNRESET) => "ECONNRESET".to_owned(),
            Some(libc::ECONNREFUSED) => "ECONNREFUSED".to_owned(),
            Some(libc::EPIPE) => "EPIPE".to_owned(),
            Some(libc::ENOTCONN) => "ENOTCONN".to_owned(),
            Some(libc::ETIMEDOUT) => "ETIMEDOUT".to_owned(),
            Some(libc::ECONNABORTED) => "ECONNABORTED".to_owned(),
            _ => panic!("an error that applications do not know: {error}"),
        },
    }
}

/// What an action does: what is sent at once, and where that leads.
fn effect(b: &mut Bench, action: impl FnOnce(&mut Bench)) -> String {
    let _ = b.sent();
    let before = b.place();
    action(b);
    let mut parts: Vec<_> = b
        .sent()
        .into_iter()
        .map(|(name, count)| if count == 1 { name } else { format!("{count} × {name}") })
        .collect();
    let after = b.place();
    if after != before {
        parts.push(format!("→ {after}"));
    }
    if parts.is_empty() { "–".to_owned() } else { parts.join(" ") }
}

/// The effect of a call; nothing must happen if it fails.
fn shutdown(state: State, how: Shutdown) -> Option<String> {
    let mut b = Bench::in_state(state, Holding::Nothing)?;
    let mut result = Ok(());
    let effect = effect(&mut b, |b| result = b.shutdown(how));
    if result.is_err() {
        assert_eq!(effect, "–", "a call that failed did something in {state}");
        return Some(outcome(result, |()| String::new()));
    }
    Some(effect)
}

/// What the application finds: reading until nothing new comes, and writing twice.
fn calls(b: &Bench) -> String {
    let read = || outcome(b.read(), |bytes| if bytes.is_empty() { "0".into() } else { "data".into() });
    let mut reads = vec![read()];
    while reads.last().is_some_and(|last| last != "waits" && last != "0") {
        reads.push(read());
    }
    let write = || outcome(b.write(), |_| "ok".to_owned());
    let mut writes = vec![write()];
    if writes[0] != "ok" && writes[0] != "waits" && writes[0] != "EPIPE" {
        writes.push(write());
    }
    format!("read {}; write {}", reads.join(", "), writes.join(", "))
}

/// Lets the peer be silent until nothing is left or three hours are over.
fn silence(b: &mut Bench) -> String {
    if b.is_over() {
        return "–".to_owned();
    }
    let _ = b.sent();
    let (start, before) = (b.net.now, b.place());
    let limit = start + 3 * 3600 * SECOND;
    while !b.is_over() && b.net.advance(limit) {}
    if !b.is_over() {
        assert_eq!(b.place(), before);
        return "for ever".to_owned();
    }
    let millis = (b.net.now - start).as_millis();
    let sent: String = b.sent().iter().map(|(name, count)| format!("{count} × {name}, ")).collect();
    format!("{sent}{}.{} s", millis / 1000, millis % 1000 / 100)
}

type Column = (&'static str, fn(State) -> Option<String>);

const CALLS: &[Column] = &[
    ("`shutdown(Write)`", |state| shutdown(state, Shutdown::Write)),
    ("`shutdown(Read)`", |state| shutdown(state, Shutdown::Read)),
    ("`shutdown(Both)`", |state| shutdown(state, Shutdown::Both)),
];

/// What closing does with these options, and the connection after it.
fn close(state: State, holding: Holding, change: impl FnOnce(&mut SocketOptions)) -> Option<(Bench, String)> {
    let mut b = Bench::in_state(state, holding)?;
    let now = b.net.now;
    b.net.engine(0).with_tcp(now, |tcp, turn| tcp.with_options(turn, &b.cell, change));
    let effect = effect(&mut b, Bench::close);
    Some((b, effect))
}

/// The same without special options, and what `later` says then.
fn orphan(state: State, later: impl FnOnce(&mut Bench) -> String) -> Option<String> {
    let (mut b, _) = close(state, Holding::Nothing, |_| ())?;
    Some(if b.is_over() && state != State::Closed { "is over".to_owned() } else { later(&mut b) })
}

const CLOSE: &[Column] = &[
    ("all read and sent", |state| Some(close(state, Holding::Nothing, |_| ())?.1)),
    ("unread data", |state| Some(close(state, Holding::Unread, |_| ())?.1)),
    ("unsent data", |state| Some(close(state, Holding::Unsent, |_| ())?.1)),
    ("`SO_LINGER` 0", |state| {
        Some(close(state, Holding::Nothing, |options| options.linger = Some(Duration::ZERO))?.1)
    }),
    ("`SO_LINGER` 3 s, then silence", |state| {
        let linger = |options: &mut SocketOptions| options.linger = Some(3 * SECOND);
        let (mut b, closed) = close(state, Holding::Nothing, linger)?;
        Some(match b.is_over() {
            true => closed,
            false => format!("{closed}; {}", silence(&mut b)),
        })
    }),
    ("`TCP_LINGER2` 0, then all is acknowledged", |state| linger2(state, Duration::ZERO)),
    ("`TCP_LINGER2` 5 s, then all is acknowledged, then silence", |state| linger2(state, 5 * SECOND)),
];

/// Closes with `TCP_LINGER2`, and acknowledges the FIN.
fn linger2(state: State, linger: Duration) -> Option<String> {
    let (mut b, closed) = close(state, Holding::Nothing, |options| options.linger2 = Some(linger))?;
    if b.is_over() {
        return Some(closed);
    }
    if b.cell.state() != State::FinWait2 {
        b.ack = b.ack + 1;
    }
    let acknowledged = effect(&mut b, |b| b.peer(Flags::ACK, 0));
    Some(match b.is_over() {
        true => format!("{closed}; {acknowledged}"),
        false => format!("{closed}; {acknowledged}; {}", silence(&mut b)),
    })
}

/// What a segment does while the application holds the connection, and what it finds then.
fn held(state: State, action: impl FnOnce(&mut Bench)) -> Option<String> {
    let mut b = Bench::in_state(state, Holding::Nothing)?;
    let effect = effect(&mut b, action);
    Some(format!("{effect}; {}", calls(&b)))
}

const HELD: &[Column] = &[
    ("data", |state| held(state, |b| b.peer(Flags::ACK.with(Flags::PSH), DATA))),
    ("data after `shutdown(Read)`", |state| {
        let mut b = Bench::in_state(state, Holding::Nothing)?;
        b.shutdown(Shutdown::Read).ok()?;
        let effect = effect(&mut b, |b| b.peer(Flags::ACK.with(Flags::PSH), DATA));
        Some(format!("{effect}; {}", calls(&b)))
    }),
    ("its FIN", |state| held(state, |b| b.fin(state))),
    ("RST", |state| held(state, |b| b.peer(Flags::RST.with(Flags::ACK), 0))),
    ("nothing", |state| {
        let mut b = Bench::in_state(state, Holding::Nothing)?;
        let lasted = silence(&mut b);
        Some(if b.is_over() { format!("{lasted}; {}", calls(&b)) } else { lasted })
    }),
];

const ORPHAN: &[Column] = &[
    ("data", |state| orphan(state, |b| effect(b, |b| b.peer(Flags::ACK.with(Flags::PSH), DATA)))),
    ("its FIN", |state| orphan(state, |b| effect(b, |b| b.fin(state)))),
    ("RST", |state| orphan(state, |b| effect(b, |b| b.peer(Flags::RST.with(Flags::ACK), 0)))),
    ("nothing", |state| orphan(state, silence)),
];

/// The table as text.
fn table(columns: &[Column]) -> String {
    let mut text = String::from("| state |");
    columns.iter().for_each(|(name, _)| text.push_str(&format!(" {name} |")));
    text.push_str("\n|---|");
    columns.iter().for_each(|_| text.push_str("---|"));
    for state in State::ALL.into_iter().filter(|state| *state != State::Listen) {
        text.push_str(&format!("\n| {state} |"));
        for (_, column) in columns {
            text.push_str(&format!(" {} |", column(state).unwrap_or_else(|| "cannot be".to_owned())));
        }
    }
    text
}

/// Compares the documentation's table under `heading` with what happens.
#[track_caller]
fn check(heading: &str, columns: &[Column]) {
    let text = table(columns);
    let section = DOCUMENTATION.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("the documentation has no section {heading:?}"));
    let documented: Vec<_> = section.lines().filter(|line| line.starts_with('|')).collect();
    for (line, is) in text.lines().enumerate() {
        let says = documented.get(line).copied().unwrap_or("nothing");
        let cells = |row: &str| row.split(" | ").map(str::to_owned).collect::<Vec<_>>();
        for (says, is) in cells(says).iter().zip(cells(is)) {
            assert_eq!(*says, is, "line {line} of {heading:?}; all of it:\n{text}\n");
        }
        assert_eq!(says, is, "line {line} of {heading:?}; all of it:\n{text}\n");
    }
    assert_eq!(documented.len(), text.lines().count(), "{heading}");
}

#[test]
fn shutdown_in_every_state() {
    check("Shutting down", CALLS);
}

#[test]
fn close_in_every_state() {
    check("Closing", CLOSE);
}

#[test]
fn what_arrives_while_the_connection_is_held() {
    check("What the peer does while", HELD);
}

#[test]
fn what_arrives_after_the_close() {
    check("What the peer does after", ORPHAN);
}
