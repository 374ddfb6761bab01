//! All settings of a stack. The defaults are those of Linux unless the documentation of a field
//! says otherwise.
//!
//! [`Config`] is one flat struct. [`Config::set`] sets a field by its name, from text, for command
//! lines and configuration files.

mod congestion;
mod fast_open;
mod memory;
mod modes;
mod numbers;
mod settings;
mod value;

pub use congestion::{CongestionName, CongestionNameError};
pub use fast_open::{COOKIE_LEN, FastOpenFormatError, FastOpenKey, FastOpenKeys};
pub use memory::MemoryBudget;
pub use modes::{
    EchoPolicy, EcnNegotiation, EcnOption, FastOpenMode, Hystart, MtuDiscover, MtuProbing, ReversePath,
    SynCookieMode, TimeWaitReuse,
};
pub(crate) use numbers::digits;
pub use settings::{Config, ConfigError};
