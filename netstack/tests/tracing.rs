//! The events of a stack as a subscriber of the crate `tracing` gets them.

use netstack::Stack;
use netstack::trace::Tracing;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Level and fields of each event, up to a level.
struct Collector {
    level: Level,
    lines: Arc<Mutex<Vec<String>>>,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "netstack" && *metadata.level() <= self.level
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What a refused attempt to connect leaves in a subscriber of this level.
fn lines(level: Level) -> Vec<String> {
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let collector = Collector { level, lines: Arc::clone(&lines) };
    tracing::subscriber::with_default(collector, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stack = Stack::builder().trace(Arc::new(Tracing)).build().unwrap();
            let error = stack.connect("127.0.0.1:9").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    });
    std::mem::take(&mut *lines.lock().unwrap())
}

#[test]
fn segments_are_traced_and_reasons_are_for_debugging() {
    // The levels that are on are found out when an event first comes, once for all: the most first.
    let all = lines(Level::TRACE);
    let has = |what: &[&str]| all.iter().any(|line| what.iter().all(|part| line.contains(part)));
    assert!(has(&["TRACE", r#"event="call""#, "connection=", "remote=127.0.0.1:9"]), "{all:#?}");
    assert!(has(&["TRACE", r#"event="out""#, "message=out [S"]), "{all:#?}");
    assert!(has(&["DEBUG", r#"event="reset""#, r#"reason="NoSocket""#, "local=127.0.0.1:9"]), "{all:#?}");
    assert!(has(&["DEBUG", r#"event="end""#, r#"reason="Refused""#]), "{all:#?}");
    let reasons = lines(Level::DEBUG);
    assert!(reasons.len() >= 3, "{reasons:#?}");
    assert!(reasons.iter().all(|line| line.starts_with("DEBUG")), "{reasons:#?}");
}
