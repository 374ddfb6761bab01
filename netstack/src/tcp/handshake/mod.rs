//! Everything before ESTABLISHED and after the last FIN.
//!
//! The active side is an [`Opening`]; the passive one a [`SynEntry`] in a listener's SYN queue, or with
//! [cookies](SynCookies) nothing at all. Fast Open (RFC 7413) lets both carry data in the SYN. What is
//! left of a connection after its end is a [`TimeWait`] record.

mod established;
mod fast_open;
mod isn;
mod offer;
mod opening;
mod passive;
mod syn_cookie;
mod syn_data;
mod syn_queue;
mod time_wait;

pub use fast_open::{CookieCheck, CookieInput, FastOpenFail, FastOpenReport, SynDataFate};
pub use isn::IsnGenerator;
pub use opening::{Opening, OpeningStep};
pub use passive::PassiveEnd;
pub use syn_cookie::{COOKIE_LIFETIME, SynCookies};
pub use syn_data::FastOpenAttempt;
pub use syn_queue::{SynEntry, SynParts, SynRetries, SynStep, SynTimeout};
pub use time_wait::{TimeWait, TimeWaitStep};

pub(super) use established::Established;
pub(super) use fast_open::FastOpenNotes;
pub(super) use passive::{PassiveOpen, PassiveTimeout};
pub(super) use time_wait::TimeWaitSetup;
