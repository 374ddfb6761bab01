//! The history that a connection keeps of itself.

use super::event::{About, EventKind, SegmentInfo, Windows};
use crate::reasons::EndReason;
use crate::time::Instant;
use std::collections::VecDeque;
use std::fmt::{self, Write as _};

/// An event of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// When, by the stack's clock.
    pub at: Instant,
    /// What.
    pub kind: EventKind,
}

/// The latest events of one connection, and why it ended.
///
/// `Display` gives a line of text for each event, with the seconds since the stack's clock began.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct History {
    /// Whose history it is.
    pub about: About,
    /// The events, the oldest first. None are kept unless [`Config::history`] or `set_history` asks for it.
    ///
    /// [`Config::history`]: crate::Config::history
    pub events: Vec<Entry>,
    /// Earlier events, which were dropped to make room for later ones.
    pub dropped: u64,
    /// Why the connection ended, if it has. This is kept in any case.
    pub end: Option<EndReason>,
}

impl History {
    /// A line of JSON for each event: an object with `at` in nanoseconds, `event`, and what belongs to that.
    pub fn json_lines(&self) -> String {
        let mut text = String::new();
        for Entry { at, kind } in &self.events {
            let _ = write!(text, r#"{{"at":{},"event":"{}""#, at.as_nanos(), kind.name());
            let _ = write_json(&mut text, kind);
            text.push_str("}\n");
        }
        text
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            writeln!(f, "({} earlier events were not kept)", self.dropped)?;
        }
        for Entry { at, kind } in &self.events {
            writeln!(f, "{:>5}.{:06} {kind}", at.as_micros() / 1_000_000, at.as_micros() % 1_000_000)?;
        }
        Ok(())
    }
}

/// What belongs to an event. Names and texts contain nothing that JSON would have to escape but what
/// [`Escaped`] takes care of.
fn write_json(text: &mut String, kind: &EventKind) -> fmt::Result {
    match kind {
        EventKind::SegmentIn(segment)
        | EventKind::SegmentOut(segment)
        | EventKind::Retransmitted(segment) => {
            let SegmentInfo { window, seq, ack, len, .. } = segment;
            let flags = segment.letters();
            write!(text, r#","flags":"{flags}","seq":{seq},"ack":{ack},"win":{window},"len":{len}"#)
        }
        EventKind::Timer(timer) => write!(text, r#","timer":"{}""#, timer.name()),
        EventKind::Window(Windows { send, congestion, receive }) => {
            write!(text, r#","send":{send},"congestion":{congestion},"receive":{receive}"#)
        }
        EventKind::Call(call) => {
            write!(text, r#","call":"{}""#, call.name())?;
            call.bytes().map_or(Ok(()), |bytes| write!(text, r#","bytes":{bytes}"#))
        }
        EventKind::Dropped(reason) => {
            write!(text, r#","reason":"{}","text":"{}""#, reason.name(), Escaped(&reason.to_string()))
        }
        EventKind::Reset(reason) => {
            write!(text, r#","reason":"{}","text":"{}""#, reason.name(), Escaped(&reason.to_string()))
        }
        EventKind::Ended(reason) => {
            write!(text, r#","reason":"{}","text":"{}""#, reason.name(), Escaped(&reason.to_string()))
        }
    }
}

/// A text in a JSON string.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '"' | '\\' => write!(f, "\\{char}"),
            '\0'..='\x1f' => write!(f, "\\u{:04x}", u32::from(char)),
            _ => f.write_char(char),
        })
    }
}

/// The events of a connection, as many as there may be. Nothing is allocated before the first.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    events: VecDeque<Entry>,
    dropped: u64,
}

impl Ring {
    /// Keeps an event, and drops the oldest if there are more than `limit` then.
    pub(crate) fn push(&mut self, at: Instant, kind: EventKind, limit: u32) {
        self.events.push_back(Entry { at, kind });
        self.limit_to(limit);
    }

    /// Drops what is more than `limit`.
    pub(crate) fn limit_to(&mut self, limit: u32) {
        while self.events.len() > limit as usize {
            self.events.pop_front();
            self.dropped += 1;
        }
    }

    /// Memory of the events, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.events.capacity() * size_of::<Entry>()
    }

    /// Events that there is room for.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.events.capacity()
    }

    /// The events as they are now.
    pub(crate) fn history(&self, about: About, end: Option<EndReason>) -> History {
        History { about, events: self.events.iter().copied().collect(), dropped: self.dropped, end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reasons::{DropReason, ResetReason};
    use crate::trace::{Call, TimerKind};

    #[test]
    fn a_ring_keeps_the_latest_and_allocates_nothing_before_the_first() {
        let mut ring = Ring::default();
        assert_eq!(ring.capacity(), 0);
        for n in 0..10 {
            ring.push(Instant::from_millis(n), EventKind::Timer(TimerKind::Persist), 3);
        }
        let history = ring.history(About::NOTHING, None);
        assert_eq!((history.events.len(), history.dropped), (3, 7));
        assert_eq!(history.events[0].at, Instant::from_millis(7));
        assert!(ring.capacity() <= 8, "{}", ring.capacity());
        ring.limit_to(1);
        assert_eq!(ring.history(About::NOTHING, None).events.len(), 1);
    }

    #[test]
    fn an_event_is_as_small_as_the_documentation_says() {
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn a_history_is_text_and_json() {
        let mut ring = Ring::default();
        let segment = SegmentInfo::new(2, 7, 0).with(65_535, 0);
        for (ms, kind) in [
            (1_000, EventKind::Call(Call::Connect)),
            (1_000, EventKind::SegmentOut(segment)),
            (1_001, EventKind::Window(Windows::new(1, 2, 3))),
            (1_002, EventKind::Call(Call::Write(5))),
            (1_500, EventKind::Timer(TimerKind::Retransmit)),
            (1_600, EventKind::Dropped(DropReason::TcpOldData)),
            (1_700, EventKind::Reset(ResetReason::TcpState)),
            (61_700, EventKind::Ended(EndReason::Reset(ResetReason::TcpState))),
        ] {
            ring.push(Instant::from_millis(ms), kind, 100);
        }
        let history = ring.history(About::NOTHING, None);
        let lines: Vec<_> = history.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines[1], "    1.000000 out [S] seq 7 ack 0 win 65535 len 0");
        assert_eq!(lines[7], "   61.700000 end reset by this side: aborted by the application");
        let json: Vec<_> = history.json_lines().lines().map(str::to_owned).collect();
        assert_eq!(
            json[1],
            r#"{"at":1000000000,"event":"out","flags":"S","seq":7,"ack":0,"win":65535,"len":0}"#
        );
        assert_eq!(json[3], r#"{"at":1002000000,"event":"call","call":"write","bytes":5}"#);
        assert_eq!(
            json[7],
            r#"{"at":61700000000,"event":"end","reason":"RstTcpState","text":"reset by this side: aborted by the application"}"#
        );
        assert_eq!(json.len(), 8);
    }

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(Escaped("a\"b\\c\n").to_string(), "a\\\"b\\\\c\\u000a");
    }
}
