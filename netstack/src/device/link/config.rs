//! The impairments of one direction of a link, and their text form.

use crate::config::digits;
use crate::time::Duration;
use std::fmt;
use std::str::FromStr;

/// The keys, for error messages.
const KEYS: &str =
    "delay, jitter, loss, burst, reorder, duplicate, corrupt, rate, queue, limit, mark, ecn, seed";

/// The impairments of one direction of a [`Link`](super::Link). By default there are none.
///
/// The text form consists of pairs of key and value, in any order:
/// `delay=20ms,jitter=2ms,loss=1%,reorder=5%,duplicate=1%,corrupt=0.1%,rate=100mbit,queue=256kb`.
/// For ECN there are `mark=1%` and, for a link with a rate, `ecn=64kb`: the queue length above
/// which packets are marked. Times have the unit `ns`, `us`, `ms` or `s`; rates `bit`, `kbit`,
/// `mbit` or `gbit` (per second, powers of 1,000); sizes `b`, `kb`, `mb` or none (powers of 1,024,
/// as in netem); shares `%`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// The delay of each packet. [`Link`](super::Link#precision) says how exactly it is kept.
    pub delay: Duration,
    /// The delay varies uniformly by up to this much in either direction. Jitter never reorders
    /// packets: a packet that would overtake its predecessor waits until the predecessor has
    /// arrived.
    pub jitter: Duration,
    /// Share of packets that are lost, from 0 to 1.
    pub loss: f64,
    /// Mean number of packets that are lost in a row (a Gilbert model: the share that is lost stays
    /// `loss`). A pause of 100 ms ends a burst. None: each is lost independently.
    pub burst: Option<f64>,
    /// Share of packets that are not delayed and so overtake the packets before them, from 0 to 1.
    pub reorder: f64,
    /// Share of packets that are sent twice, from 0 to 1.
    pub duplicate: f64,
    /// Share of packets of which one random bit is inverted, from 0 to 1.
    pub corrupt: f64,
    /// Rate of the link in bits per second. A packet is serialized at this rate, IP header
    /// included, before its delay begins. None, or zero: no limit.
    pub rate: Option<u64>,
    /// Size in bytes of the queue in front of a link with a rate. A packet that does not fit is
    /// dropped. Default 1,500,000, netem's default of 1,000 packets.
    pub queue: usize,
    /// Maximum number of packets in the queue and in transit together. Further packets are dropped.
    /// Default 65,536.
    pub limit: usize,
    /// Share of ECN-capable packets that are marked CE, from 0 to 1, regardless of the queue (like
    /// netem's `loss … ecn`, but without losing the other packets).
    pub mark: f64,
    /// Queue length in bytes above which ECN-capable packets are marked CE. None: never.
    pub ecn: Option<usize>,
    /// Seed of the random generator of this direction.
    pub seed: u64,
    /// Whether all packets are lost (an outage).
    pub down: bool,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: None,
            reorder: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            rate: None,
            queue: 1_500_000,
            limit: 65_536,
            mark: 0.0,
            ecn: None,
            seed: 0,
            down: false,
        }
    }
}

impl LinkConfig {
    /// Whether packets pass unchanged and without delay.
    pub fn is_perfect(&self) -> bool {
        let Self { queue, limit, seed, .. } = *self;
        *self == Self { queue, limit, seed, ..Self::default() }
    }
}

/// The error of parsing a [`LinkConfig`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseLinkError {
    key: String,
    problem: String,
}

impl ParseLinkError {
    fn new(key: &str, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), problem: problem.into() }
    }

    /// The key with the error.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for ParseLinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link impairment '{}': {}", self.key, self.problem)
    }
}

impl std::error::Error for ParseLinkError {}

impl FromStr for LinkConfig {
    type Err = ParseLinkError;

    fn from_str(text: &str) -> Result<Self, ParseLinkError> {
        let mut config = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| ParseLinkError::new(pair, "lacks '=' and a value"))?;
            let (key, value) = (key.trim(), value.trim());
            if seen.contains(&key) {
                return Err(ParseLinkError::new(key, "is there twice"));
            }
            seen.push(key);
            config.set(key, value).map_err(|problem| ParseLinkError::new(key, problem))?;
        }
        // A setting that would have no effect is an error.
        for (key, needs) in
            [("jitter", "delay"), ("reorder", "delay"), ("burst", "loss"), ("queue", "rate"), ("ecn", "rate")]
        {
            if seen.contains(&key) && !seen.contains(&needs) {
                return Err(ParseLinkError::new(key, format!("has no effect without '{needs}'")));
            }
        }
        if config.burst.is_some() && config.loss >= 1.0 {
            return Err(ParseLinkError::new("burst", "has no effect if everything is lost"));
        }
        Ok(config)
    }
}

impl LinkConfig {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "delay" => self.delay = duration(value)?,
            "jitter" => self.jitter = duration(value)?,
            "loss" => self.loss = share(value)?,
            "burst" => {
                let packets = number(value, "").filter(|packets| *packets >= 1.0);
                self.burst = Some(packets.ok_or_else(|| format!("'{value}' is no number from 1 on"))?);
            }
            "reorder" => self.reorder = share(value)?,
            "duplicate" => self.duplicate = share(value)?,
            "corrupt" => self.corrupt = share(value)?,
            "rate" => self.rate = Some(rate(value)?),
            "queue" => self.queue = size(value)?,
            "limit" => self.limit = whole(value)?.max(1) as usize,
            "mark" => self.mark = share(value)?,
            "ecn" => self.ecn = Some(size(value)?),
            "seed" => self.seed = whole(value)?,
            _ => return Err(format!("is not known; the keys are {KEYS}")),
        }
        Ok(())
    }
}

/// The number in front of `unit`, not negative.
fn number(text: &str, unit: &str) -> Option<f64> {
    let digits = text.strip_suffix(unit)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    digits.parse().ok().filter(|_| plain)
}

/// The value of `text` in the first of the units that it ends with.
fn with_unit(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    units.iter().find_map(|(unit, factor)| number(text, unit).map(|value| value * factor))
}

fn duration(text: &str) -> Result<Duration, String> {
    let nanos = with_unit(text, &[("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)])
        // A link slower than an hour is a typing error.
        .filter(|nanos| *nanos <= 3.6e12)
        .ok_or_else(|| format!("'{text}' is no time up to an hour, as in 20ms, 1.5s or 100us"))?;
    Ok(Duration::from_nanos(nanos.round() as u64))
}

fn rate(text: &str) -> Result<u64, String> {
    with_unit(text, &[("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9), ("bit", 1.0)])
        .filter(|rate| (1.0..=1e13).contains(rate))
        .map(|rate| rate.round() as u64)
        .ok_or_else(|| format!("'{text}' is no rate, as in 100mbit, 1.5gbit or 64kbit"))
}

fn size(text: &str) -> Result<usize, String> {
    with_unit(text, &[("kb", 1024.0), ("mb", 1_048_576.0), ("b", 1.0), ("", 1.0)])
        .filter(|bytes| *bytes <= 1e12)
        .map(|bytes| bytes.round() as usize)
        .ok_or_else(|| format!("'{text}' is no size, as in 256kb, 1mb or 3000"))
}

fn share(text: &str) -> Result<f64, String> {
    let percent = |text: &str| number(text, "%").filter(|percent| *percent <= 100.0);
    percent(text).map(|percent| percent / 100.0).ok_or_else(|| {
        let with_unit = format!("{text}%");
        match percent(&with_unit) {
            Some(_) => format!("'{text}' is no share: write {with_unit}"),
            None => format!("'{text}' is no share from 0% to 100%"),
        }
    })
}

fn whole(text: &str) -> Result<u64, String> {
    digits(text).ok_or_else(|| format!("'{text}' is no whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_parsed() {
        let text = "delay=20ms,jitter=2ms,loss=1%,burst=3,reorder=5%,duplicate=1.5%,corrupt=0.1%,\
                    rate=100mbit,queue=256kb,limit=10,mark=2%,ecn=64kb,seed=7";
        let config: LinkConfig = text.parse().unwrap();
        let expected = LinkConfig {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(2),
            loss: 0.01,
            burst: Some(3.0),
            reorder: 0.05,
            duplicate: 0.015,
            corrupt: 0.001,
            rate: Some(100_000_000),
            queue: 262_144,
            limit: 10,
            mark: 0.02,
            ecn: Some(65_536),
            seed: 7,
            down: false,
        };
        assert_eq!(config, expected);
        assert!(!config.is_perfect());
        assert!("seed=9".parse::<LinkConfig>().unwrap().is_perfect());
        assert_eq!("".parse(), Ok(LinkConfig::default()));
        assert_eq!(" delay = 1.5s ,".parse::<LinkConfig>().unwrap().delay, Duration::from_millis(1500));
    }

    #[test]
    fn errors_name_the_key() {
        let cases = [
            ("delay", "link impairment 'delay': lacks '=' and a value"),
            ("delay=20", "link impairment 'delay': '20' is no time up to an hour, as in 20ms, 1.5s or 100us"),
            ("loss=101%", "link impairment 'loss': '101%' is no share from 0% to 100%"),
            ("loss=1", "link impairment 'loss': '1' is no share: write 1%"),
            ("loss=5", "link impairment 'loss': '5' is no share: write 5%"),
            ("mark=0.5", "link impairment 'mark': '0.5' is no share: write 0.5%"),
            ("loss=500", "link impairment 'loss': '500' is no share from 0% to 100%"),
            ("corrupt=-1%", "link impairment 'corrupt': '-1%' is no share from 0% to 100%"),
            ("loss=nan%", "link impairment 'loss': 'nan%' is no share from 0% to 100%"),
            ("rate=0bit", "link impairment 'rate': '0bit' is no rate, as in 100mbit, 1.5gbit or 64kbit"),
            ("rate=1mbit,queue=x", "link impairment 'queue': 'x' is no size, as in 256kb, 1mb or 3000"),
            ("seed=-1", "link impairment 'seed': '-1' is no whole number"),
            ("seed=+1", "link impairment 'seed': '+1' is no whole number"),
            ("loss=1%,burst=0.5", "link impairment 'burst': '0.5' is no number from 1 on"),
            ("loss=100%,burst=2", "link impairment 'burst': has no effect if everything is lost"),
            ("loss=1%,loss=2%", "link impairment 'loss': is there twice"),
            ("reorder=5%", "link impairment 'reorder': has no effect without 'delay'"),
            ("queue=5", "link impairment 'queue': has no effect without 'rate'"),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<LinkConfig>().unwrap_err().to_string(), message);
        }
        let unknown = "latency=5ms".parse::<LinkConfig>().unwrap_err();
        assert_eq!(unknown.key(), "latency");
        assert!(unknown.to_string().contains("the keys are delay, jitter"));
    }
}
