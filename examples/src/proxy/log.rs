//! Events, one a line: as text, or as JSON.

use std::fmt::{Display, Write as _};
use std::io::Write as _;

/// Where events go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// Nowhere.
    #[default]
    Off,
    /// To standard output, as text.
    Text,
    /// To standard output, as JSON lines.
    Json,
}

/// A value in a log.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Number(u64),
}

/// A value that is shown as text.
pub(super) fn text(value: impl Display) -> Value {
    Value::Text(value.to_string())
}

impl Log {
    /// Notes what happened.
    pub(super) fn event(self, name: &str, fields: &[(&str, Value)]) {
        let line = match self {
            Self::Off => return,
            Self::Text => as_text(name, fields),
            Self::Json => as_json(name, fields),
        };
        // A log that nobody reads is not a reason to end.
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }

    /// Notes something that has a text and no fields.
    pub fn note(self, name: &str, what: impl Display) {
        self.event(name, &[("text", text(what))]);
    }
}

fn as_text(name: &str, fields: &[(&str, Value)]) -> String {
    let mut line = name.to_owned();
    for (key, value) in fields {
        // Writing to a string cannot fail.
        let _ = match value {
            Value::Text(value) => write!(line, " {key}={value}"),
            Value::Number(value) => write!(line, " {key}={value}"),
        };
    }
    line + "\n"
}

/// RFC 8259.
fn as_json(name: &str, fields: &[(&str, Value)]) -> String {
    let mut line = format!("{{\"event\":{}", quoted(name));
    for (key, value) in fields {
        let _ = match value {
            Value::Text(value) => write!(line, ",{}:{}", quoted(key), quoted(value)),
            Value::Number(value) => write!(line, ",{}:{value}", quoted(key)),
        };
    }
    line + "}\n"
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if u32::from(character) < 0x20 => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_text_or_json() {
        let fields =
            [("to", text("[2001:db8::1]:443")), ("up", Value::Number(7)), ("error", text("a \"b\"\n"))];
        assert_eq!(as_text("tcp", &fields[..2]), "tcp to=[2001:db8::1]:443 up=7\n");
        assert_eq!(
            as_json("tcp", &fields),
            "{\"event\":\"tcp\",\"to\":\"[2001:db8::1]:443\",\"up\":7,\"error\":\"a \\\"b\\\"\\u000a\"}\n"
        );
    }
}
