//! Who is told of everything.

use super::*;
use crate::reasons::{EndReason, ResetReason};
use crate::stack::{Batch, Engine, EngineSetup, Interface};
use crate::sync::{Mutex, Rank};
use crate::trace::{EventKind, Trace, TraceEvent};

/// Remembers what it is told.
pub(in crate::stack) struct Recording(Mutex<Vec<TraceEvent>>);

impl Recording {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Rank::Leaf, Vec::new())))
    }

    fn take(&self) -> Vec<TraceEvent> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Trace for Recording {
    fn event(&self, event: &TraceEvent) {
        self.0.lock().push(*event);
    }
}

/// Two hosts, and what host 1 is told.
fn traced() -> (Net, Arc<Recording>) {
    let mut net = net();
    let recording = Recording::new();
    let interface = Interface::new(net.cable.end(1)).address("10.0.0.2/24").address("fd00::2/64");
    let setup = EngineSetup { trace: Some(Arc::clone(&recording) as _), ..EngineSetup::default() };
    let config = Config { seed: Some(5), ..Config::default() };
    let engine = Engine::with_setup(config, vec![interface], setup).unwrap();
    net.replace_host(1, engine, Batch::new());
    (net, recording)
}

fn kinds(events: &[TraceEvent]) -> Vec<&'static str> {
    events.iter().map(|event| event.kind.name()).collect()
}

#[test]
fn the_hook_is_told_of_each_event_with_its_connection_and_its_time() {
    let (mut net, recording) = traced();
    let listener = net.listen(1, 80, 8);
    let start = net.now;
    let (client, server) = net.connected_to(&listener);
    let handshake = recording.take();
    // The SYN, its answer, the third segment; then the connection.
    assert_eq!(&kinds(&handshake)[..3], ["in", "out", "in"], "{handshake:?}");
    assert_eq!(handshake[0].about.connection, None, "no more than a SYN");
    assert_eq!(handshake[0].about.remote, Some(client.cell.local_addr()));
    assert_eq!(handshake[0].at, start + 10 * MS);
    assert!(kinds(&handshake).contains(&"call"), "accept");
    net.write(&client, b"hello").unwrap();
    net.run_for(SECOND);
    assert_eq!(net.read(&server).unwrap(), b"hello");
    silence(&net);
    net.write(&server, b"lost").unwrap();
    net.run_for(SECOND);
    let id = Some(server.cell.id());
    let events = recording.take();
    assert!(events.iter().all(|event| event.about.connection == id), "{events:?}");
    for kind in ["in", "out", "again", "timer", "window", "call"] {
        assert!(kinds(&events).contains(&kind), "{kind}: {events:?}");
    }
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &server.cell));
    let events = recording.take();
    let last = |kind| events.iter().find(|event| event.kind == kind).map(|event| event.about.connection);
    assert_eq!(last(EventKind::Reset(ResetReason::TcpState)), Some(id));
    let end = EndReason::Reset(ResetReason::TcpState);
    assert_eq!(last(EventKind::Ended(end)), Some(id));
}

#[test]
fn the_hook_is_told_of_each_drop_and_reset_without_a_connection() {
    let (mut net, recording) = traced();
    let drops = |recording: &Recording| {
        let events = recording.take();
        events.iter().filter(|event| matches!(event.kind, EventKind::Dropped(_))).copied().collect::<Vec<_>>()
    };
    give(&mut net, [vec![0x10; 40]]);
    assert_eq!(drops(&recording)[0].kind, EventKind::Dropped(DropReason::IpInhdr));
    give(&mut net, [packet(&stranger(), &segment(Flags::RST, 1, 0), &[])]);
    let dropped = drops(&recording);
    assert_eq!(dropped[0].kind, EventKind::Dropped(DropReason::NoSocket));
    assert_eq!(dropped[0].about.remote, Some("10.0.0.9:5000".parse().unwrap()));
    give(&mut net, [packet(&stranger(), &segment(Flags::SYN, 1, 0), &[])]);
    let events = recording.take();
    assert_eq!(kinds(&events), ["in", "drop", "reset", "out"]);
    assert_eq!(events[2].kind, EventKind::Reset(ResetReason::NoSocket));
}
