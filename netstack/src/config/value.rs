//! How the values of settings are written as text.

use super::congestion::CongestionName;
use super::fast_open::FastOpenKeys;
use super::modes::{
    EchoPolicy, EcnNegotiation, EcnOption, FastOpenMode, Hystart, MtuDiscover, MtuProbing, ReversePath,
    SynCookieMode, TimeWaitReuse,
};
use super::numbers::{digits, hex_digits};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A type of setting: how its values are written.
pub(super) trait Value: Sized {
    /// The accepted form, for error messages.
    const FORM: &'static str;
    fn parse(text: &str) -> Option<Self>;
    fn show(&self) -> String;
}

impl Value for bool {
    const FORM: &'static str = "on or off";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "on" | "true" | "1" => Some(true),
            "off" | "false" | "0" => Some(false),
            _ => None,
        }
    }
    fn show(&self) -> String {
        (if *self { "on" } else { "off" }).to_owned()
    }
}

impl Value for u8 {
    const FORM: &'static str = "a number up to 255";
    fn parse(text: &str) -> Option<Self> {
        digits(text)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    const FORM: &'static str = "a number";
    fn parse(text: &str) -> Option<Self> {
        digits(text)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u64 {
    const FORM: &'static str = "a number";
    fn parse(text: &str) -> Option<Self> {
        digits(text)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// The number at the start of a text, and the unit after it.
fn split_unit(text: &str) -> Option<(f64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

impl Value for usize {
    const FORM: &'static str = "a size such as 65536, 64kib or 4mib";
    fn parse(text: &str) -> Option<Self> {
        // Whole bytes do not pass through a float, so every value survives show and parse.
        if let Some(bytes) = digits(text) {
            return Some(bytes);
        }
        let text = text.to_ascii_lowercase();
        let (number, unit) = split_unit(&text)?;
        let shift = match unit {
            "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            _ => return None,
        };
        let bytes = number * f64::from(1u32 << shift);
        (bytes < 2f64.powi(53)).then_some(bytes as Self)
    }
    fn show(&self) -> String {
        match *self {
            n if n > 0 && n % (1 << 20) == 0 => format!("{}mib", n >> 20),
            n if n > 0 && n % (1 << 10) == 0 => format!("{}kib", n >> 10),
            n => n.to_string(),
        }
    }
}

impl Value for Duration {
    const FORM: &'static str = "a duration such as 200ms, 1.5s or 2h";
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let nanos_per_unit: u64 = match unit {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole = text[..text.len() - unit.len()].trim_end().parse::<u64>();
        let nanos = match whole {
            Ok(whole) => whole.checked_mul(nanos_per_unit)?,
            Err(_) => {
                let nanos = number * nanos_per_unit as f64;
                (nanos < u64::MAX as f64).then_some(nanos.round() as u64)?
            }
        };
        Some(Self::from_nanos(nanos))
    }
    fn show(&self) -> String {
        match self.as_nanos() {
            n if n % 1_000_000_000 == 0 => format!("{}s", n / 1_000_000_000),
            n if n % 1_000_000 == 0 => format!("{}ms", n / 1_000_000),
            n if n % 1_000 == 0 => format!("{}us", n / 1_000),
            n => format!("{n}ns"),
        }
    }
}

impl Value for FastOpenMode {
    const FORM: &'static str = "the bits of tcp_fastopen, such as 3 or 0x403";
    fn parse(text: &str) -> Option<Self> {
        let bits = match text.strip_prefix("0x") {
            Some(text) => hex_digits(text)?,
            None => digits(text)?,
        };
        Some(Self::from_bits(bits))
    }
    fn show(&self) -> String {
        format!("{:#x}", self.bits())
    }
}

impl Value for Option<FastOpenKeys> {
    const FORM: &'static str = "none, or keys such as 01234567-89abcdef-01234567-89abcdef";
    fn parse(text: &str) -> Option<Self> {
        if text == "none" { Some(None) } else { text.parse().ok().map(Some) }
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string)
    }
}

impl Value for Option<Duration> {
    const FORM: &'static str = "none, or a duration such as 30s";
    fn parse(text: &str) -> Option<Self> {
        if text == "none" { Some(None) } else { Duration::parse(text).map(Some) }
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Value::show)
    }
}

impl Value for Option<u64> {
    const FORM: &'static str = "none, or a number";
    fn parse(text: &str) -> Option<Self> {
        if text == "none" { Some(None) } else { u64::parse(text).map(Some) }
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Value::show)
    }
}

impl Value for RangeInclusive<u16> {
    const FORM: &'static str = "two ports such as 32768-60999";
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-')?;
        Some(digits(first.trim())?..=digits(last.trim())?)
    }
    fn show(&self) -> String {
        format!("{}-{}", self.start(), self.end())
    }
}

impl Value for TimeWaitReuse {
    const FORM: &'static str = "off, all or loopback (0, 1 or 2)";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "off" | "0" => Some(Self::Off),
            "all" | "1" => Some(Self::All),
            "loopback" | "2" => Some(Self::Loopback),
            _ => None,
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Off => "off",
            Self::All => "all",
            Self::Loopback => "loopback",
        }
        .to_owned()
    }
}

impl Value for SynCookieMode {
    const FORM: &'static str = "off, overflow or always (0, 1 or 2)";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "off" | "0" => Some(Self::Off),
            "overflow" | "1" => Some(Self::Overflow),
            "always" | "2" => Some(Self::Always),
            _ => None,
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Off => "off",
            Self::Overflow => "overflow",
            Self::Always => "always",
        }
        .to_owned()
    }
}

impl Value for EchoPolicy {
    const FORM: &'static str = "reply, ignore or forward";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "reply" => Some(Self::Reply),
            "ignore" => Some(Self::Ignore),
            "forward" => Some(Self::Forward),
            _ => None,
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Reply => "reply",
            Self::Ignore => "ignore",
            Self::Forward => "forward",
        }
        .to_owned()
    }
}

impl Value for ReversePath {
    const FORM: &'static str = "off, strict or loose (0 to 2)";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "off" | "0" => Some(Self::Off),
            "strict" | "1" => Some(Self::Strict),
            "loose" | "2" => Some(Self::Loose),
            _ => None,
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Off => "off",
            Self::Strict => "strict",
            Self::Loose => "loose",
        }
        .to_owned()
    }
}

impl Value for CongestionName {
    const FORM: &'static str = "the name of a congestion control, such as reno";
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for MtuDiscover {
    const FORM: &'static str = "dont, want, do, probe, interface or omit (0 to 5)";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "dont" | "0" => Some(Self::Dont),
            "want" | "1" => Some(Self::Want),
            "do" | "2" => Some(Self::Do),
            "probe" | "3" => Some(Self::Probe),
            "interface" | "4" => Some(Self::Interface),
            "omit" | "5" => Some(Self::Omit),
            _ => None,
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Dont => "dont",
            Self::Want => "want",
            Self::Do => "do",
            Self::Probe => "probe",
            Self::Interface => "interface",
            Self::Omit => "omit",
        }
        .to_owned()
    }
}

impl Value for Hystart {
    const FORM: &'static str = "linux, rfc9406 or off";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "linux" => Some(Self::Linux),
            "rfc9406" => Some(Self::Rfc9406),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Linux => "linux",
            Self::Rfc9406 => "rfc9406",
            Self::Off => "off",
        }
        .to_owned()
    }
}

impl Value for EcnNegotiation {
    const FORM: &'static str =
        "off, classic, accept, accurate, classic-accept-accurate or accept-accurate (0 to 5)";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "off" | "0" => Some(Self::Off),
            "classic" | "1" => Some(Self::Classic),
            "accept" | "2" => Some(Self::Accept),
            "accurate" | "3" => Some(Self::Accurate),
            "classic-accept-accurate" | "4" => Some(Self::ClassicAcceptAccurate),
            "accept-accurate" | "5" => Some(Self::AcceptAccurate),
            _ => None,
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Off => "off",
            Self::Classic => "classic",
            Self::Accept => "accept",
            Self::Accurate => "accurate",
            Self::ClassicAcceptAccurate => "classic-accept-accurate",
            Self::AcceptAccurate => "accept-accurate",
        }
        .to_owned()
    }
}

impl Value for EcnOption {
    const FORM: &'static str = "never, minimal or always (0, 1 or 2)";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "never" | "0" => Some(Self::Never),
            "minimal" | "1" => Some(Self::Minimal),
            "always" | "2" => Some(Self::Always),
            _ => None,
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Never => "never",
            Self::Minimal => "minimal",
            Self::Always => "always",
        }
        .to_owned()
    }
}

impl Value for MtuProbing {
    const FORM: &'static str = "off, black-hole or always (0, 1 or 2)";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "off" | "0" => Some(Self::Off),
            "black-hole" | "1" => Some(Self::BlackHole),
            "always" | "2" => Some(Self::Always),
            _ => None,
        }
    }
    fn show(&self) -> String {
        match self {
            Self::Off => "off",
            Self::BlackHole => "black-hole",
            Self::Always => "always",
        }
        .to_owned()
    }
}
