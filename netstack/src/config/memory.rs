//! How much memory a stack may hold.

use super::value::Value;

/// How much memory a stack may hold, in bytes (`tcp_mem`, which counts pages).
///
/// What is counted is memory as it was allocated, and not only payload: connections with their tables, what
/// was received and not read, what was written and not acknowledged, half-open connections, fragments, and
/// the queues of UDP and raw sockets. [`Stack::memory`](crate::Stack::memory) says how much it is.
///
/// Between `pressure` and `high` there should be room for all connections that are expected, with
/// [`Config::memory_share`](crate::Config::memory_share) for each direction of each: under pressure they get
/// no more than what is left, divided among them, and that share at least.
///
/// ```
/// use netstack::config::{Config, MemoryBudget};
///
/// let budget = MemoryBudget::new(256 << 20);
/// assert_eq!(budget.pressure, 96 << 20);
/// let mut config = Config::default().with(|config| config.memory = Some(budget));
/// config.set("memory", "64mib 96mib 256mib")?;
/// assert_eq!(config.memory, Some(budget));
/// # Ok::<_, netstack::config::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBudget {
    /// Pressure ends once less than this is held.
    pub low: usize,
    /// Pressure begins once more than this is held.
    pub pressure: usize,
    /// The stack takes no more than this, but for the share of each connection.
    pub high: usize,
}

impl MemoryBudget {
    /// A budget of which `high` is the most: pressure begins at three eighths of it and ends at a quarter.
    pub const fn new(high: usize) -> Self {
        Self { low: high / 4, pressure: high / 8 * 3, high }
    }

    /// Where nothing is known of the machine.
    pub const DEFAULT: Self = Self::new(512 << 20);

    /// No limit.
    pub const UNLIMITED: Self = Self { low: usize::MAX, pressure: usize::MAX, high: usize::MAX };
}

impl Value for Option<MemoryBudget> {
    const FORM: &'static str = "none, or three sizes such as 64mib 96mib 256mib";

    fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(None);
        }
        let mut sizes = text.split_whitespace().map(usize::parse);
        let budget = MemoryBudget { low: sizes.next()??, pressure: sizes.next()??, high: sizes.next()?? };
        sizes.next().is_none().then_some(Some(budget))
    }

    fn show(&self) -> String {
        self.map_or_else(
            || "none".to_owned(),
            |MemoryBudget { low, pressure, high }| {
                format!("{} {} {}", low.show(), pressure.show(), high.show())
            },
        )
    }
}
