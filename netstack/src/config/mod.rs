//! Every knob of a stack, with the defaults of Linux unless a field says otherwise.
//!
//! [`Config`] is one flat struct. A field can also be set by its name and a text, for command lines
//! and configuration files: [`Config::set`].

mod congestion;
mod fast_open;
mod modes;
mod settings;
mod value;

pub use congestion::{CongestionName, CongestionNameError};
pub use fast_open::{COOKIE_LEN, FastOpenFormatError, FastOpenKey, FastOpenKeys};
pub use modes::{
    EcnNegotiation, EcnOption, FastOpenMode, Hystart, MtuDiscover, MtuProbing, SynCookieMode, TimeWaitReuse,
};
pub use settings::{Config, ConfigError};
